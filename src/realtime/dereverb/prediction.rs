// [audio] Early reflections: what the last frames predict of this one is room, not music.
//!
//! Weighted prediction error, recursively (Yoshioka & Nakatani 2012; Drude et al. 2018 for the
//! recursive form): in each bin the frame is predicted linearly from the `taps` frames that lie
//! `delay` frames back, weighted by the inverse of the expected power, and the prediction is
//! subtracted. The delay spares what an instrument itself correlates within a frame; the taps reach
//! over the early reflections. Recursive least squares with forgetting; a bin whose recursion
//! loses its footing starts afresh.

use realfft::num_complex::Complex;

/// Forgetting per frame.
const MEMORY: f32 = 0.998;
/// Initial inverse covariance, in units of the inverse of the bin's expected power.
const INITIAL_TRUST: f32 = 0.01;
/// The prediction may take at most this share of a bin's magnitude.
const MOST_TAKEN: f32 = 0.25;

/// Predicts one channel.
#[derive(Clone, Debug)]
pub struct Prediction {
    bins: usize,
    taps: usize,
    delay: usize,
    /// `frames[(t mod n)][bin]`, the last `delay + taps` spectra.
    frames: Vec<Vec<Complex<f32>>>,
    now: usize,
    /// `bins × taps`.
    weights: Vec<Complex<f32>>,
    /// `bins × taps × taps`, Hermitian.
    inverse: Vec<Complex<f32>>,
    past: Vec<Complex<f32>>,
    gain: Vec<Complex<f32>>,
    power: Vec<f32>,
}

impl Prediction {
    /// For the lowest `bins` bins, `taps` frames from `delay` frames back.
    pub fn new(bins: usize, taps: usize, delay: usize) -> Self {
        let zero = Complex::default();
        let mut prediction = Self {
            bins,
            taps,
            delay,
            frames: vec![vec![zero; bins]; delay + taps],
            now: 0,
            weights: vec![zero; bins * taps],
            inverse: vec![zero; bins * taps * taps],
            past: vec![zero; taps],
            gain: vec![zero; taps],
            power: vec![0.0; bins],
        };
        prediction.reset();
        prediction
    }

    /// Clears everything.
    pub fn reset(&mut self) {
        self.forget_frames();
        self.weights.fill(Complex::default());
        for inverse in self.inverse.chunks_exact_mut(self.taps * self.taps) {
            start(inverse, self.taps);
        }
    }

    /// Clears the signal but keeps what was learned of the room: for a second pass over a take.
    pub fn forget_frames(&mut self) {
        for frame in &mut self.frames {
            frame.fill(Complex::default());
        }
        self.power.fill(0.0);
        self.now = 0;
    }

    /// Takes a frame's spectrum and writes the predicted part of its lowest bins.
    pub fn predict(&mut self, spectrum: &[Complex<f32>], predicted: &mut [Complex<f32>]) {
        let n = self.frames.len();
        let taps = self.taps;
        for (bin, (&x, out)) in spectrum
            .iter()
            .take(self.bins)
            .zip(predicted.iter_mut())
            .enumerate()
        {
            *out = Complex::default();
            // Expected power of the dry part: this frame and a little of the last ones.
            let power = 0.5 * self.power[bin] + 0.5 * x.norm_sqr();
            self.power[bin] = power;
            if power < 1e-8 {
                continue;
            }
            let scale = power.sqrt().recip();
            for (k, p) in self.past.iter_mut().enumerate() {
                // Slot `now` holds the frame `n` frames back until it is overwritten below.
                *p = self.frames[(self.now + n - self.delay - k) % n][bin] * scale;
            }
            let weights = &mut self.weights[bin * taps..(bin + 1) * taps];
            let inverse = &mut self.inverse[bin * taps * taps..(bin + 1) * taps * taps];
            let mut guess = Complex::default();
            for (w, p) in weights.iter().zip(&self.past) {
                guess += w.conj() * p;
            }
            let mut quadratic = MEMORY;
            for ((row, g), p) in inverse
                .chunks_exact(taps)
                .zip(&mut self.gain)
                .zip(&self.past)
            {
                let mut sum = Complex::default();
                for (q, p) in row.iter().zip(&self.past) {
                    sum += q * p;
                }
                quadratic += (p.conj() * sum).re;
                *g = sum;
            }
            if !quadratic.is_finite() || !(MEMORY * 0.5..1e12).contains(&quadratic) {
                start(inverse, taps);
                weights.fill(Complex::default());
                continue;
            }
            let norm = quadratic.recip();
            let error = x * scale - guess;
            for (w, g) in weights.iter_mut().zip(&self.gain) {
                *w += g * norm * error.conj();
            }
            for (i, row) in inverse.chunks_exact_mut(taps).enumerate() {
                let gi = self.gain[i] * norm;
                for (q, gj) in row.iter_mut().zip(&self.gain) {
                    *q = (*q - gi * gj.conj()) * (1.0 / MEMORY);
                }
                // Forgetting without excitation lets the inverse grow: keep it bounded.
                if row[i].re > 1e4 || !row[i].re.is_finite() {
                    row[i] = Complex::new(f32::NAN, 0.0);
                }
            }
            if (0..taps).any(|i| !inverse[i * taps + i].re.is_finite()) {
                start(inverse, taps);
            }
            if weights
                .iter()
                .any(|w| !w.norm_sqr().is_finite() || w.norm_sqr() > 1e4)
            {
                weights.fill(Complex::default());
                continue;
            }
            let most = MOST_TAKEN * x.norm();
            let guess = guess * power.sqrt();
            let size = guess.norm();
            *out = if size > most {
                guess * (most / size)
            } else {
                guess
            };
        }
        self.frames[self.now].copy_from_slice(&spectrum[..self.bins]);
        self.now = (self.now + 1) % n;
    }
}

fn start(inverse: &mut [Complex<f32>], taps: usize) {
    for (i, q) in inverse.iter_mut().enumerate() {
        let on_diagonal = i / taps == i % taps;
        *q = Complex::new(if on_diagonal { INITIAL_TRUST } else { 0.0 }, 0.0);
    }
}
