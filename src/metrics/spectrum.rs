// [worker] Spectra over time, and what is read off them: centroid and background noise.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex, num_complex::Complex};

use super::source::{self, Source};

/// Power spectra of Hann-windowed frames.
pub struct Stft {
    fft: Arc<dyn RealToComplex<f32>>,
    window: Vec<f32>,
    hop: usize,
    input: Vec<f32>,
    output: Vec<Complex<f32>>,
    scratch: Vec<Complex<f32>>,
}

impl Stft {
    /// Frames of `size` samples every `hop`.
    pub fn new(size: usize, hop: usize) -> Self {
        let fft = RealFftPlanner::new().plan_fft_forward(size);
        let window = (0..size)
            .map(|n| {
                let phase = std::f64::consts::TAU * n as f64 / size as f64;
                (0.5 - 0.5 * phase.cos()) as f32
            })
            .collect();
        Self {
            window,
            hop: hop.max(1),
            input: fft.make_input_vec(),
            output: fft.make_output_vec(),
            scratch: fft.make_scratch_vec(),
            fft,
        }
    }

    /// `|X|²` a frame, `size / 2 + 1` bins each; the samples are zero-padded to at least one frame, and
    /// an incomplete last hop is dropped.
    pub fn power(&mut self, samples: &[f32]) -> Vec<Vec<f32>> {
        (0..self.frames(samples.len()))
            .map(|i| {
                let from = i * self.hop;
                let frame = &samples[from..(from + self.window.len()).min(samples.len())];
                self.frame(frame);
                self.output.iter().map(|x| x.norm_sqr()).collect()
            })
            .collect()
    }

    /// Frames of so many samples.
    fn frames(&self, samples: usize) -> usize {
        samples.saturating_sub(self.window.len()) / self.hop + 1
    }

    /// Gives [`Stft::power`] of the channels' mean to `each`, frame by frame.
    pub(super) fn each(&mut self, source: &dyn Source, mut each: impl FnMut(&[f32])) {
        /// Frames whose samples are read at once.
        const TOGETHER: usize = 64;
        let (size, frames) = (self.window.len(), self.frames(source.frames()));
        let mut samples = vec![0.0; (TOGETHER - 1) * self.hop + size];
        let mut power = vec![0.0; self.output.len()];
        for first in (0..frames).step_by(TOGETHER) {
            source::mono(source, first * self.hop, &mut samples);
            for i in 0..TOGETHER.min(frames - first) {
                self.frame(&samples[i * self.hop..][..size]);
                for (p, x) in power.iter_mut().zip(&self.output) {
                    *p = x.norm_sqr();
                }
                each(&power);
            }
        }
    }

    /// The spectrum of a frame, which may be short, into `output`.
    fn frame(&mut self, frame: &[f32]) {
        self.input.fill(0.0);
        for ((o, x), w) in self.input.iter_mut().zip(frame).zip(&self.window) {
            *o = x * w;
        }
        self.fft
            .process_with_scratch(&mut self.input, &mut self.output, &mut self.scratch)
            .expect("buffers made by the plan");
    }
}

/// A window of about 43 ms (2048 at 48 kHz).
pub(super) fn window_size(sample_rate: u32) -> usize {
    let wanted = f64::from(sample_rate) * 0.0427;
    1usize << (wanted.log2().round().clamp(6.0, 16.0) as u32)
}

/// Spectral centroid in Hz of the channels' mean: per frame the magnitude-weighted mean frequency,
/// averaged over frames by their energy. `None` for silence.
pub fn centroid_hz(audio: &dyn Source) -> Option<f64> {
    let size = window_size(audio.sample_rate());
    let bin_hz = f64::from(audio.sample_rate()) / size as f64;
    let (mut sum, mut weight) = (0.0, 0.0);
    Stft::new(size, size / 2).each(audio, |frame| {
        let (mut moment, mut magnitude, mut energy) = (0.0, 0.0, 0.0);
        for (k, &p) in frame.iter().enumerate() {
            let m = f64::from(p).sqrt();
            moment += m * k as f64 * bin_hz;
            magnitude += m;
            energy += f64::from(p);
        }
        if magnitude > 0.0 {
            sum += energy * moment / magnitude;
            weight += energy;
        }
    });
    (weight > 0.0).then(|| sum / weight)
}

/// Largest signal-to-noise ratio reported, dB.
pub const MAX_SNR_DB: f64 = 96.0;

/// Most frames of which the noise is read off: three minutes in steps of a quarter window. Longer recordings are looked at
/// in longer steps.
const MAX_SNR_FRAMES: usize = 4_096;

/// Share of frames taken as quiet.
const QUIET: f64 = 0.1;

/// Signal-to-noise ratio in dB of the channels' mean, estimated blind: the noise of a third octave is the
/// lower quartile over its bins of each bin's quietest tenth in time. Partials are sparse in frequency (in
/// windows of 190 ms) and drums in time, so neither raises it; what sounds everywhere always does. The
/// tenth percentile of a power over frames of noise becomes its mean by the exponential law of |X|²
/// (−ln 0.9). At most [`MAX_SNR_DB`]; dense music alone reads about 40. `None` for silence and less than
/// a second.
pub fn snr_db(audio: &dyn Source) -> Option<f64> {
    let size = 4 * window_size(audio.sample_rate());
    if audio.frames() < audio.sample_rate() as usize {
        return None;
    }
    let hop = (size / 4).max(audio.frames() / MAX_SNR_FRAMES);
    let mut frames: Vec<Vec<f32>> = Vec::new();
    Stft::new(size, hop).each(audio, |frame| frames.push(frame.to_vec()));
    let total: f64 = frames.iter().flatten().map(|&p| f64::from(p)).sum();
    if total <= 0.0 {
        return None;
    }
    let bins = size / 2 + 1;
    let quiet_mean = -(1.0 - QUIET).ln();
    let mut column = vec![0.0f32; frames.len()];
    let floors: Vec<f32> = (0..bins)
        .map(|k| {
            for (c, f) in column.iter_mut().zip(&frames) {
                *c = f[k];
            }
            let at = (QUIET * column.len() as f64) as usize;
            *column.select_nth_unstable_by(at, f32::total_cmp).1
        })
        .collect();
    let mut noise = 0.0;
    let mut from = 1usize;
    while from < bins {
        let to = ((from as f64 * 2f64.powf(1.0 / 3.0)).ceil() as usize)
            .max(from + 4)
            .min(bins);
        let mut band: Vec<f32> = floors[from..to].to_vec();
        let quarter = band.len() / 4;
        let low = *band.select_nth_unstable_by(quarter, f32::total_cmp).1;
        noise += f64::from(low) / quiet_mean * (to - from) as f64;
        from = to;
    }
    noise *= frames.len() as f64;
    let signal = (total - noise).max(total * 1e-3);
    Some((10.0 * (signal / noise.max(1e-30)).log10()).min(MAX_SNR_DB))
}
