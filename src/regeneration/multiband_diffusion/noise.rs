// [worker] Where the diffusion's noise comes from: a number for every sample, by its place alone.

/// Noise by band, draw and sample.
pub trait Noise: Sync {
    /// Fills `out` with normal values for samples `first..` of the whole signal. `draw` 0 is what sampling
    /// starts from, `i + 1` what evaluation `i` adds.
    fn fill(&self, band: usize, draw: usize, first: usize, out: &mut [f32]);
}

/// Noise that depends on a seed and on nothing else: the same on every run, in whatever order it is asked for.
///
/// A sample's value is made from its pair's number `sample / 2`: the two halves of
/// `mix(mix(mix(seed) + band·2³² + draw) + pair)`, where `mix` is one step of SplitMix64 (Steele, Lea & Flood 2014),
/// as uniform values `u = (half + ½) / 2³²`, turned to `√(−2 ln u₀)·cos 2πu₁` for the pair's first sample and
/// `· sin 2πu₁` for its second (Box & Muller 1958). All in f64, rounded to f32 at the end.
#[derive(Clone, Copy, Debug)]
pub struct Seeded(pub u64);

/// One step of SplitMix64 from state `x`.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Noise for Seeded {
    fn fill(&self, band: usize, draw: usize, first: usize, out: &mut [f32]) {
        let stream = mix(mix(self.0).wrapping_add(((band as u64) << 32) + draw as u64));
        let uniform = |bits: u64| (bits as f64 + 0.5) / 4_294_967_296.0;
        for (n, x) in (first..).zip(out) {
            let bits = mix(stream.wrapping_add(n as u64 / 2));
            let radius = (-2.0 * uniform(bits >> 32).ln()).sqrt();
            let angle = std::f64::consts::TAU * uniform(bits & 0xffff_ffff);
            let turned = if n % 2 == 0 { angle.cos() } else { angle.sin() };
            *x = (radius * turned) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_normal_and_depends_on_the_place_alone() {
        let mut x = vec![0.0f32; 200_000];
        Seeded(7).fill(1, 3, 0, &mut x);
        let moment = |p: i32| x.iter().map(|&x| f64::from(x).powi(p)).sum::<f64>() / x.len() as f64;
        // Standard errors of the moments of a normal distribution: 1, 2, 15, 96 over n, square root.
        for (p, expected, variance) in
            [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)]
        {
            let error = (moment(p) - expected).abs() / (variance / x.len() as f64).sqrt();
            assert!(error < 4.0, "moment {p} is {error} standard errors off");
        }
        let lag = x.windows(2).map(|w| f64::from(w[0] * w[1])).sum::<f64>() / x.len() as f64;
        assert!(lag.abs() < 4.0 / (x.len() as f64).sqrt());
        let mut part = vec![0.0f32; 100];
        Seeded(7).fill(1, 3, 1001, &mut part);
        assert_eq!(part, x[1001..1101]);
        for (band, draw, seed) in [(0, 3, 7), (1, 2, 7), (1, 3, 8)] {
            Seeded(seed).fill(band, draw, 1001, &mut part);
            assert_ne!(part, x[1001..1101]);
        }
    }
}
