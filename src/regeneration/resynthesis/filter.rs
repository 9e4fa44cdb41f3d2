// [worker] Zero-phase filters, fractional delays and matched lags on whole signals.

use std::{
    borrow::Cow,
    f64::consts::{FRAC_1_SQRT_2, PI},
};

/// Second-order Butterworth low- or high-pass (Bristow-Johnson's cookbook), forward and backward:
/// no delay, twice the slope. `hz` is kept below the Nyquist frequency.
pub(crate) fn zero_phase(x: &[f32], rate: f64, hz: f64, high_pass: bool) -> Vec<f32> {
    let w = 2.0 * PI * hz.clamp(1.0, 0.45 * rate) / rate;
    let alpha = w.sin() * FRAC_1_SQRT_2;
    let a0 = 1.0 + alpha;
    let sign = if high_pass { 1.0 } else { -1.0 };
    let b0 = (1.0 + sign * w.cos()) / 2.0 / a0;
    let b1 = -sign * (1.0 + sign * w.cos()) / a0;
    let (a1, a2) = (-2.0 * w.cos() / a0, (1.0 - alpha) / a0);
    let mut y: Vec<f32> = x.to_vec();
    for _ in 0..2 {
        let (mut s1, mut s2) = (0.0f64, 0.0f64);
        for v in &mut y {
            let input = f64::from(*v);
            let out = b0 * input + s1;
            s1 = b1 * input - a1 * out + s2;
            s2 = b0 * input - a2 * out;
            *v = out as f32;
        }
        y.reverse();
    }
    y
}

/// Samples between two sums that [`Energy`] keeps.
const SUM_EVERY: usize = 64;

/// Energy of any stretch in constant time. Beside the signal itself, which it may borrow, it takes an eighth of a
/// byte a sample.
pub(crate) struct Energy<'a> {
    x: Cow<'a, [f32]>,
    /// Sums of the squares before every [`SUM_EVERY`]th sample.
    sums: Vec<f64>,
}

impl<'a> Energy<'a> {
    pub fn new(x: impl Into<Cow<'a, [f32]>>) -> Self {
        let x = x.into();
        let mut sum = 0.0;
        let mut sums = Vec::with_capacity(x.len() / SUM_EVERY + 1);
        for part in x.chunks(SUM_EVERY) {
            sums.push(sum);
            sum = added(sum, part);
        }
        sums.push(sum);
        Self { x, sums }
    }

    /// Sum of squares over `start..end`, clipped to the signal.
    pub fn over(&self, start: i64, end: i64) -> f64 {
        let last = self.x.len() as i64;
        let (a, b) = (start.clamp(0, last), end.clamp(0, last));
        if a >= b {
            return 0.0;
        }
        (self.before(b as usize) - self.before(a as usize)).max(0.0)
    }

    /// Sum of the squares before sample `n`, added one after the other from the first on.
    fn before(&self, n: usize) -> f64 {
        let kept = n / SUM_EVERY;
        added(self.sums[kept], &self.x[kept * SUM_EVERY..n])
    }
}

fn added(sum: f64, x: &[f32]) -> f64 {
    x.iter()
        .fold(sum, |sum, &v| sum + f64::from(v) * f64::from(v))
}

/// Half the taps of [`add_delayed`]'s interpolator.
const HALF_TAPS: i64 = 8;

/// Adds `gain · source`, its first sample at position `at` (fractional), to `out`. Windowed-sinc
/// interpolation (16 taps, Hann) keeps the highs that linear interpolation would dull.
pub(crate) fn add_delayed(source: &[f32], at: f64, gain: f32, out: &mut [f32]) {
    let whole = at.floor();
    let fraction = at - whole;
    let whole = whole as i64;
    if fraction < 1e-4 {
        for (i, s) in source.iter().enumerate() {
            if let Some(o) = usize::try_from(whole + i as i64)
                .ok()
                .and_then(|n| out.get_mut(n))
            {
                *o += gain * s;
            }
        }
        return;
    }
    let taps: Vec<f32> = (-HALF_TAPS..HALF_TAPS)
        .map(|k| {
            let t = k as f64 + 1.0 - fraction;
            let sinc = if t.abs() < 1e-9 {
                1.0
            } else {
                (PI * t).sin() / (PI * t)
            };
            let window = 0.5 + 0.5 * (PI * t / (HALF_TAPS as f64 + 0.5)).cos();
            (sinc * window) as f32 * gain
        })
        .collect();
    // out[whole + i] = Σ source[i - 1 - k] · taps[k]: the tap at distance t = k + 1 - fraction.
    let len = source.len() as i64;
    let first = (whole - HALF_TAPS).max(0);
    let last = (whole + len + HALF_TAPS).min(out.len() as i64);
    for n in first..last {
        let i = n - whole;
        let mut sum = 0.0f32;
        for (j, tap) in taps.iter().enumerate() {
            let k = j as i64 - HALF_TAPS;
            let s = i - 1 - k;
            if (0..len).contains(&s) {
                sum += source[s as usize] * tap;
            }
        }
        out[n as usize] += sum;
    }
}

/// Where `pattern` fits `x` best near `at` (position of the pattern's first sample), within ± `reach`
/// samples: the position to a fraction of a sample and the normalised correlation at the nearest whole one, −1..=1.
/// With `either` the largest magnitude wins, else the largest value.
pub(crate) fn match_lag(
    x: &[f32],
    pattern: &[f32],
    at: i64,
    reach: i64,
    either: bool,
) -> Option<(f64, f32)> {
    let norm = pattern.iter().map(|v| v * v).sum::<f32>();
    if norm <= 1e-12 {
        return None;
    }
    let correlation = |lag: i64| -> (f32, f32) {
        let start = at + lag;
        let skip = (-start).max(0) as usize;
        let begin = start.max(0) as usize;
        if skip >= pattern.len() || begin >= x.len() {
            return (0.0, 0.0);
        }
        let len = (pattern.len() - skip).min(x.len() - begin);
        let (p, s) = (&pattern[skip..skip + len], &x[begin..begin + len]);
        let mut dot = [0.0f32; 8];
        let mut own = [0.0f32; 8];
        for (p, s) in p.chunks(8).zip(s.chunks(8)) {
            for (i, (a, b)) in p.iter().zip(s).enumerate() {
                dot[i] += a * b;
                own[i] += b * b;
            }
        }
        (dot.iter().sum(), own.iter().sum())
    };
    let score = |dot: f32| if either { dot.abs() } else { dot };
    let mut best = (0i64, f32::NEG_INFINITY, 0.0f32, 0.0f32);
    for lag in -reach..=reach {
        let (dot, own) = correlation(lag);
        if score(dot) > best.1 {
            best = (lag, score(dot), dot, own);
        }
    }
    let (lag, peak, dot, own) = best;
    if own <= 1e-12 {
        return None;
    }
    let before = score(correlation(lag - 1).0);
    let after = score(correlation(lag + 1).0);
    let curve = before - 2.0 * peak + after;
    let fraction = if curve < 0.0 {
        (0.5 * (before - after) / curve).clamp(-0.5, 0.5)
    } else {
        0.0
    };
    let normalised = dot / (norm * own).sqrt();
    Some(((at + lag) as f64 + f64::from(fraction), normalised))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fractional_delay_is_found_again() {
        let source: Vec<f32> = (0..400)
            .map(|n| {
                let t = n as f32 - 200.0;
                (-(t / 30.0).powi(2)).exp() * (t * 0.4).sin()
            })
            .collect();
        for at in [100.0, 100.25, 100.5, 133.7] {
            let mut x = vec![0.0; 900];
            add_delayed(&source, at, 0.5, &mut x);
            let (found, ncc) = match_lag(&x, &source, 110, 40, false).unwrap();
            assert!((found - at).abs() < 0.03, "{found} for {at}");
            // Half a sample of a tone of 0.4 rad a sample: cos 0.2.
            assert!(ncc > 0.979);
        }
    }

    #[test]
    fn energies_are_those_of_sums_from_the_first_sample_on() {
        for len in [0, 1, 63, 64, 65, 128, 1_000] {
            let x: Vec<f32> = (0..len).map(|n| (n as f32 * 1.7).sin() * 0.3).collect();
            let mut sums = vec![0.0f64];
            for v in &x {
                sums.push(sums[sums.len() - 1] + f64::from(*v) * f64::from(*v));
            }
            let (borrowed, owned) = (Energy::new(&x[..]), Energy::new(x.clone()));
            for (from, to) in [
                (0, len),
                (-5, 3),
                (7, 7),
                (9, 4),
                (60, 70),
                (64, 128),
                (3, 5_000),
            ] {
                let at = |n: usize| n.min(len);
                let expected =
                    (sums[at(to)] - sums[at(usize::try_from(from).unwrap_or(0))]).max(0.0);
                // To the bit.
                assert_eq!(
                    borrowed.over(from, to as i64),
                    expected,
                    "{len}: {from}..{to}"
                );
                assert_eq!(owned.over(from, to as i64), expected);
            }
        }
    }

    #[test]
    fn zero_phase_filters_split_low_from_high() {
        let rate = 8000.0;
        let tone = |hz: f64| -> Vec<f32> {
            (0..8000)
                .map(|n| (2.0 * PI * hz * n as f64 / rate).sin() as f32)
                .collect()
        };
        let power = |x: &[f32]| x[2000..6000].iter().map(|v| v * v).sum::<f32>() / 4000.0;
        assert!((power(&zero_phase(&tone(50.0), rate, 500.0, false)) - 0.5).abs() < 0.01);
        assert!(power(&zero_phase(&tone(3000.0), rate, 500.0, false)) < 1e-4);
        assert!((power(&zero_phase(&tone(3000.0), rate, 500.0, true)) - 0.5).abs() < 0.01);
        assert!(power(&zero_phase(&tone(50.0), rate, 500.0, true)) < 1e-4);
    }
}
