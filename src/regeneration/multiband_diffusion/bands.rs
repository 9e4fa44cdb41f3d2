// [worker] Splitting a signal into mel-spaced bands that sum to it, and matching the bands' levels.

use realfft::{RealFftPlanner, num_complex::Complex};

/// Band filters of a signal: differences of windowed-sinc low-passes, as `julius.SplitBands`.
pub struct SplitBands {
    /// Cut-off frequencies between the bands as shares of the sample rate.
    cutoffs: Vec<f64>,
    /// Every filter has `2·half + 1` taps.
    half: usize,
}

/// Zero crossings of the narrowest low-pass on each side of its centre, doubled.
const ZEROS: f64 = 8.0;

impl SplitBands {
    /// `bands` bands of equal width in mel (2595·log₁₀(1 + f/700)) from 0 to half of `sample_rate` (Hz).
    pub fn new(bands: usize, sample_rate: u32) -> Self {
        let nyquist = f64::from(sample_rate) / 2.0;
        let top = 2595.0 * (1.0 + nyquist / 700.0).log10();
        let cutoffs: Vec<f64> = (1..bands)
            .map(|i| {
                let mel = top * i as f64 / bands as f64;
                700.0 * (10f64.powf(mel / 2595.0) - 1.0) / f64::from(sample_rate)
            })
            .collect();
        let half = cutoffs.first().map_or(0, |c| (ZEROS / c / 2.0) as usize);
        Self { cutoffs, half }
    }

    fn bands(&self) -> usize {
        self.cutoffs.len() + 1
    }

    /// A low-pass of cut-off `c`: Hann window times sinc, its sum 1.
    fn taps(&self, c: f64) -> Vec<f64> {
        let half = self.half as f64;
        let mut taps: Vec<f64> = (0..=2 * self.half)
            .map(|i| {
                let t = i as f64 - half;
                let window = 0.5 - 0.5 * (std::f64::consts::PI * i as f64 / half).cos();
                let x = 2.0 * c * std::f64::consts::PI * t;
                window * if x == 0.0 { 1.0 } else { x.sin() / x }
            })
            .collect();
        let sum: f64 = taps.iter().sum();
        taps.iter_mut().for_each(|t| *t /= sum);
        taps
    }

    /// Calls `each` with every band's number and samples, lowest first. The signal goes on beyond its ends with its
    /// first and last sample. The bands sum to the signal.
    pub fn for_each(&self, x: &[f32], mut each: impl FnMut(usize, &[f32])) {
        let Some((&first, &last)) = x.first().zip(x.last()) else {
            (0..self.bands()).for_each(|b| each(b, &[]));
            return;
        };
        if self.cutoffs.is_empty() {
            return each(0, x);
        }
        let padded = x.len() + 2 * self.half;
        let size = fast_size(padded + 2 * self.half);
        let mut planner = RealFftPlanner::<f64>::new();
        let (forward, inverse) = (
            planner.plan_fft_forward(size),
            planner.plan_fft_inverse(size),
        );
        let transform = |samples: &mut Vec<f64>| {
            samples.resize(size, 0.0);
            let mut spectrum = forward.make_output_vec();
            // Sizes match by construction.
            let _ = forward.process(samples, &mut spectrum);
            spectrum
        };
        let mut samples = vec![f64::from(first); self.half];
        samples.extend(x.iter().map(|&v| f64::from(v)));
        samples.resize(padded, f64::from(last));
        let signal: Vec<Complex<f64>> = transform(&mut samples);
        let mut below = vec![0.0f64; x.len()];
        let mut band = vec![0.0f32; x.len()];
        for (b, &cutoff) in self.cutoffs.iter().enumerate() {
            let mut product = transform(&mut self.taps(cutoff));
            product.iter_mut().zip(&signal).for_each(|(p, s)| *p *= s);
            // What is real in theory must be so exactly.
            for edge in [0, size / 2] {
                if let Some(bin) = product
                    .get_mut(edge)
                    .filter(|_| edge == 0 || size.is_multiple_of(2))
                {
                    bin.im = 0.0;
                }
            }
            let _ = inverse.process(&mut product, &mut samples);
            // The filter is symmetric: its delay of `half` and the padding's make 2·half.
            let low = samples[2 * self.half..].iter().map(|v| v / size as f64);
            for ((out, below), low) in band.iter_mut().zip(&mut below).zip(low) {
                *out = (low - *below) as f32;
                *below = low;
            }
            each(b, &band);
        }
        for ((out, x), below) in band.iter_mut().zip(x).zip(&below) {
            *out = (f64::from(*x) - below) as f32;
        }
        each(self.cutoffs.len(), &band);
    }
}

/// The least size of at least `n` without prime factors above 5, even.
fn fast_size(n: usize) -> usize {
    (n.max(2)..)
        .find(|&m| {
            let mut rest = m;
            for p in [2, 3, 5] {
                while rest % p == 0 {
                    rest /= p;
                }
            }
            rest == 1 && m % 2 == 0
        })
        .unwrap_or(n)
}

/// What a band's diffusion was trained to see: each of its sub-bands brought to a common level.
#[derive(Clone, Debug)]
pub struct Processor {
    /// A sub-band's factor and offset on the way back.
    pub scale: Vec<f32>,
    pub mean: Vec<f32>,
}

impl Processor {
    /// From the sums that were kept while training: mean = Σx/n, deviation = √max(Σx²/n − mean², 0), and the target
    /// Σtarget²/n, which the reference uses without a root.
    pub fn new(count: f32, sum: &[f32], squares: &[f32], target: &[f32], power: f32) -> Self {
        let mean: Vec<f32> = sum.iter().map(|s| s / count).collect();
        let scale = squares
            .iter()
            .zip(&mean)
            .zip(target)
            .map(|((s, m), t)| {
                let deviation = (s / count - m * m).max(0.0).sqrt();
                (deviation / (t / count)).powf(power)
            })
            .collect();
        Self { scale, mean }
    }

    /// Takes what was sampled back to audio.
    pub fn restore(&self, x: &[f32], sample_rate: u32) -> Vec<f32> {
        let mut out = vec![0.0f32; x.len()];
        SplitBands::new(self.scale.len(), sample_rate).for_each(x, |b, band| {
            let (scale, mean) = (self.scale[b], self.mean[b]);
            out.iter_mut()
                .zip(band)
                .for_each(|(o, x)| *o += x * scale + mean);
        });
        out
    }
}

/// Bands of [`re_eq`].
const EQ_BANDS: usize = 32;

/// Gives `x` the level of `reference` in each of 32 bands. Both at `sample_rate` Hz; the result is as long as the
/// shorter.
pub fn re_eq(x: &[f32], reference: &[f32], sample_rate: u32) -> Vec<f32> {
    let len = x.len().min(reference.len());
    let (x, reference) = (&x[..len], &reference[..len]);
    let split = SplitBands::new(EQ_BANDS, sample_rate);
    let mut levels = vec![0.0f64; EQ_BANDS];
    split.for_each(reference, |b, band| levels[b] = deviation(band));
    let mut out = vec![0.0f32; len];
    split.for_each(x, |b, band| {
        let own = deviation(band);
        // A silent band has nothing to be raised.
        let gain = if own > 0.0 {
            (levels[b] / own) as f32
        } else {
            0.0
        };
        out.iter_mut().zip(band).for_each(|(o, x)| *o += x * gain);
    });
    out
}

fn deviation(x: &[f32]) -> f64 {
    let n = x.len() as f64;
    if x.len() < 2 {
        return 0.0;
    }
    let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    (x.iter()
        .map(|&v| (f64::from(v) - mean).powi(2))
        .sum::<f64>()
        / (n - 1.0))
        .sqrt()
}
