// [worker] Short-time spectra at any position, and overlap-add back to samples.

use realfft::{ComplexToReal, RealFftPlanner, RealToComplex, num_complex::Complex32};
use std::sync::Arc;

/// Frames of `n` samples, Hann windows for analysis and synthesis, a quarter frame apart.
pub(crate) struct Spectra {
    pub n: usize,
    pub hop: usize,
    window: Vec<f32>,
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
    time: Vec<f32>,
    bins: Vec<Complex32>,
}

impl Spectra {
    /// The house's frame for a rate: 1024 at 44.1 and 48 kHz, scaled by powers of two.
    pub fn new(rate: f64) -> Self {
        Self::with_frame(match rate {
            r if r > 100_000.0 => 4096,
            r if r > 50_000.0 => 2048,
            r if r > 33_000.0 => 1024,
            r if r > 20_000.0 => 512,
            _ => 256,
        })
    }

    /// Frames of `n` samples, a multiple of four.
    pub fn with_frame(n: usize) -> Self {
        let mut planner = RealFftPlanner::new();
        let window = (0..n)
            .map(|i| (0.5 - 0.5 * (std::f64::consts::TAU * i as f64 / n as f64).cos()) as f32)
            .collect();
        Self {
            n,
            hop: n / 4,
            window,
            forward: planner.plan_fft_forward(n),
            inverse: planner.plan_fft_inverse(n),
            time: vec![0.0; n],
            bins: vec![Complex32::default(); n / 2 + 1],
        }
    }

    pub fn bins(&self) -> usize {
        self.n / 2 + 1
    }

    /// Spectrum of `x[start..start + n]`, zero outside of `x`. `out` has [`Self::bins`] entries.
    pub fn analyse(&mut self, x: &[f32], start: i64, out: &mut [Complex32]) {
        for (i, (t, w)) in self.time.iter_mut().zip(&self.window).enumerate() {
            *t = usize::try_from(start + i as i64)
                .ok()
                .and_then(|n| x.get(n))
                .map_or(0.0, |v| v * w);
        }
        self.forward
            .process(&mut self.time, out)
            .expect("lengths are the plan's");
    }

    /// Adds a spectrum's windowed samples to `out[start..start + n]`, scaled so that unchanged
    /// spectra at every hop add up to their signal (the squared windows sum to 3/2).
    pub fn add(&mut self, spectrum: &[Complex32], start: i64, out: &mut [f32]) {
        self.bins.copy_from_slice(spectrum);
        let last = self.bins.len() - 1;
        // A real signal has real ends; anything else there is rounding.
        self.bins[0].im = 0.0;
        self.bins[last].im = 0.0;
        self.inverse
            .process(&mut self.bins, &mut self.time)
            .expect("lengths are the plan's");
        let scale = 1.0 / (1.5 * self.n as f32);
        for (i, (t, w)) in self.time.iter().zip(&self.window).enumerate() {
            if let Some(o) = usize::try_from(start + i as i64)
                .ok()
                .and_then(|n| out.get_mut(n))
            {
                *o += t * w * scale;
            }
        }
    }

    /// Starts of the frames that together cover `0..len` fully.
    pub fn starts(&self, len: usize) -> impl Iterator<Item = i64> + use<> {
        let (n, hop) = (self.n as i64, self.hop as i64);
        (0..)
            .map(move |i| i * hop - n + hop)
            .take_while(move |&s| s < len as i64)
    }
}

/// Smooths `v` over `2 * radius + 1` neighbours (shorter at the ends) into `out`.
pub(crate) fn smooth(v: &[f32], radius: usize, out: &mut [f32]) {
    let mut sum = 0.0f64;
    let (mut lo, mut hi) = (0usize, 0usize);
    for (i, o) in out.iter_mut().enumerate() {
        let end = (i + radius + 1).min(v.len());
        while hi < end {
            sum += f64::from(v[hi]);
            hi += 1;
        }
        let begin = i.saturating_sub(radius);
        while lo < begin {
            sum -= f64::from(v[lo]);
            lo += 1;
        }
        *o = (sum.max(0.0) / (hi - lo).max(1) as f64) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unchanged_spectra_give_the_signal_back() {
        let mut s = Spectra::new(44_100.0);
        let x: Vec<f32> = (0..5000)
            .map(|n| ((n * n % 977) as f32 / 977.0) - 0.5)
            .collect();
        let mut y = vec![0.0; x.len()];
        let mut bins = vec![Complex32::default(); s.bins()];
        for start in s.starts(x.len()) {
            s.analyse(&x, start, &mut bins);
            s.add(&bins, start, &mut y);
        }
        for (a, b) in x.iter().zip(&y) {
            assert!((a - b).abs() < 1e-5);
        }
    }
}
