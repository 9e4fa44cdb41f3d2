// [audio] The long-term spectrum of what passed: power density in narrow bands, averaged over seconds.

use std::sync::Arc;

use rustfft::{Fft, FftPlanner, num_complex::Complex};

use super::super::stft::{clean, frame_length};

/// Frames below this level do not count (dBFS, mean square): silence is not music.
const SILENCE_DB: f32 = -65.0;

/// Averages the power spectrum of 1..=2 channels over frames without overlap.
pub struct LongTermSpectrum {
    fft: Arc<dyn Fft<f32>>,
    scratch: Vec<Complex<f32>>,
    window: Vec<f32>,
    /// The channels as real and imaginary part: one transform serves both.
    frame: Vec<Complex<f32>>,
    work: Vec<Complex<f32>>,
    at: usize,
    phase: usize,
    /// The frame that is being filled began before the first sample.
    partial: bool,
    /// Bin ranges of the bands.
    bands: Vec<(usize, usize)>,
    mean: Vec<f64>,
    frames: u32,
    most_frames: u32,
}

impl LongTermSpectrum {
    /// Bands `centers_hz` (rising), each from the geometric middle to its neighbours; a memory of
    /// `seconds`. `phase` (samples) shifts the frames against those of other stages. The frame is four
    /// of the chain's: 85 ms at 48 kHz, 12 Hz a bin.
    pub fn new(sample_rate: f64, centers_hz: &[f64], seconds: f64, phase: usize) -> Self {
        let length = 4 * frame_length(sample_rate);
        let fft = FftPlanner::new().plan_fft_forward(length);
        let to_bin =
            |hz: f64| ((hz * length as f64 / sample_rate).round() as usize).clamp(1, length / 2);
        let last = centers_hz.len().saturating_sub(1);
        let bands = (0..centers_hz.len())
            .map(|i| {
                let ratio = if i < last {
                    centers_hz[i + 1] / centers_hz[i]
                } else {
                    centers_hz[last] / centers_hz[last.saturating_sub(1)]
                };
                let below = if i > 0 {
                    centers_hz[i] / centers_hz[i - 1]
                } else {
                    ratio
                };
                let a = to_bin(centers_hz[i] / below.sqrt());
                let b = to_bin(centers_hz[i] * ratio.sqrt());
                (a, b.max(a + 1).min(length / 2 + 1))
            })
            .collect();
        let window: Vec<f32> = (0..length)
            .map(|i| {
                let x = 2.0 * std::f64::consts::PI * i as f64 / length as f64;
                // A Hann window with unit mean square, so that a bin is a mean square.
                ((0.5 - 0.5 * x.cos()) / 0.375f64.sqrt()) as f32
            })
            .collect();
        Self {
            scratch: vec![Complex::default(); fft.get_inplace_scratch_len()],
            window,
            frame: vec![Complex::default(); length],
            work: vec![Complex::default(); length],
            at: phase % length,
            phase: phase % length,
            partial: !phase.is_multiple_of(length),
            mean: vec![0.0; centers_hz.len()],
            bands,
            frames: 0,
            most_frames: ((seconds * sample_rate / length as f64) as u32).max(1),
            fft,
        }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.frame.fill(Complex::default());
        self.at = self.phase;
        self.partial = self.phase > 0;
        self.mean.fill(0.0);
        self.frames = 0;
    }

    /// Samples of a frame.
    pub fn frame_samples(&self) -> usize {
        self.frame.len()
    }

    /// Frames with sound so far (at most the memory's).
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Takes one sample of one or two channels; `true` when a frame was added to the average.
    #[inline]
    pub fn push(&mut self, left: f32, right: f32) -> bool {
        if let Some(slot) = self.frame.get_mut(self.at) {
            *slot = Complex::new(clean(left), clean(right));
        }
        self.at += 1;
        if self.at < self.frame.len() {
            return false;
        }
        self.at = 0;
        // The edge of a frame that is filled in part only would be heard as highs.
        if std::mem::take(&mut self.partial) {
            return false;
        }
        self.analyse()
    }

    fn analyse(&mut self) -> bool {
        let length = self.frame.len();
        let energy: f32 = self.frame.iter().map(|x| x.norm_sqr()).sum();
        if 10.0 * (energy / length as f32).max(1e-20).log10() < SILENCE_DB {
            return false;
        }
        for ((w, x), h) in self.work.iter_mut().zip(&self.frame).zip(&self.window) {
            *w = x * h;
        }
        self.fft
            .process_with_scratch(&mut self.work, &mut self.scratch);
        self.frames = (self.frames + 1).min(self.most_frames);
        let weight = 1.0 / f64::from(self.frames);
        // |Z(k)|² + |Z(−k)|² = 2 (|L(k)|² + |R(k)|²).
        let scale = 0.5 / (length as f64 * length as f64);
        for (mean, &(a, b)) in self.mean.iter_mut().zip(&self.bands) {
            let sum: f32 = (a..b)
                .map(|k| self.work[k].norm_sqr() + self.work[(length - k) % length].norm_sqr())
                .sum();
            let density = f64::from(sum) * scale / (b - a) as f64;
            *mean += weight * (density - *mean);
        }
        true
    }

    /// The average's density in band `i` in dB (mean square per bin).
    pub fn db(&self, i: usize) -> f64 {
        10.0 * self.mean.get(i).copied().unwrap_or(0.0).max(1e-16).log10()
    }
}

/// What music looks like on average, all genres: power density in dB, 0 at 100 Hz.
///
/// A straight fall of about 5 dB an octave from 100 Hz to 4 kHz and a steeper one above, with a rounded
/// top between 50 and 100 Hz and little below, is the shape that Pestana et al. ("Spectral
/// characteristics of popular commercial recordings 1950–2010", AES 135, 2013) found in number-one
/// singles of sixty years; Elowsson & Friberg (2017) find the same in a larger set.
pub fn music_density_db(hz: f64) -> f64 {
    const SHAPE: [(f64, f64); 7] = [
        (25.0, -14.0),
        (40.0, -4.0),
        (63.0, 0.0),
        (100.0, 0.0),
        (4000.0, -27.0),
        (10_000.0, -37.0),
        (20_000.0, -49.0),
    ];
    let x = hz.max(1.0).log2();
    let mut previous = SHAPE[0];
    for point in SHAPE {
        if hz < point.0 {
            let (a, b) = (previous.0.log2(), point.0.log2());
            if b <= a {
                return point.1;
            }
            return previous.1 + (point.1 - previous.1) * (x - a) / (b - a);
        }
        previous = point;
    }
    previous.1
}
