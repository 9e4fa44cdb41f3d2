// [audio] Saturation: what overdrive does to a waveform, weighed by a small trained model.
//!
//! The model is a perceptron with 16 hidden units (see [`Model::frame`] for its inputs). It was fitted on
//! generated signals alone: 560 pieces of 7 s, 44.1 and 48 kHz, seeds 1000 to 1559. A piece is random drums,
//! bass, chords (a third of them through a distortion that belongs to the music) and a formant voice, half
//! of them in a room; a third is clean, a third is cut as a whole (hard, one-sided, tanh; 3–18 dB SDR), a
//! quarter has drums and bass driven for 1–3 s (2.5–7 dB); then nothing, a codec (AAC 64/128, MP3 96,
//! Opus 24), a microphone (high-pass order 2–4 at 90–320 Hz, low-pass, resonance), both, or a whole gig
//! (room, crowd-like noise, overload, microphone, automatic gain, codec). A frame's truth is whether a
//! sample of it was cut, or whether its region was driven. Four fifths train (weight decay 1, chosen on the
//! rest, where the ROC AUC is 0.89), and the offset is set on the clean ones. The weights
//! never saw a recording, but which features to use was decided by looking at four songs with known damage:
//! the measured table for those is not an independent test.

use super::{
    cells::{BANDS, CELLS, Cells, FRAMES, Frame, HIGHS, LOWS},
    weights,
};
use crate::damage::FRAMES_PER_SECOND;

/// Number of features of the saturation model.
pub const FEATURES: usize = 28;

/// The judged frame among the remembered ones.
const MIDDLE: usize = FRAMES / 2;

/// Slow followers of what the frames say.
pub(super) struct Model {
    /// Share of the new value a frame: 0.3 s and 2.5 s.
    medium: f32,
    slow: f32,
    /// Largest recent peak, falling by 1.5 dB a second.
    long_peak: f32,
    fall: f32,
    /// Means over 0.1 s of the bands' squares and fourth powers.
    square: [f32; BANDS],
    fourth: [f32; BANDS],
    /// Medium and slow means of the first [`FOLLOWED`] features.
    medium_mean: [f32; FOLLOWED],
    slow_mean: [f32; FOLLOWED],
    /// Medium and slow means of level differences between bands, and of the level itself.
    medium_tilt: [f32; BANDS],
    slow_tilt: [f32; BANDS],
    started: bool,
}

/// Fast features that are followed: the first ones.
const FOLLOWED: usize = 8;

impl Model {
    pub(super) fn new() -> Self {
        let per_frame = |seconds: f32| 1.0 - (-1.0 / (seconds * FRAMES_PER_SECOND as f32)).exp();
        Self {
            medium: per_frame(0.3),
            slow: per_frame(2.5),
            long_peak: 0.0,
            fall: 10f32.powf(-1.5 / 20.0 / FRAMES_PER_SECOND as f32),
            square: [0.0; BANDS],
            fourth: [0.0; BANDS],
            medium_mean: [0.0; FOLLOWED],
            slow_mean: [0.0; FOLLOWED],
            medium_tilt: [0.0; BANDS],
            slow_tilt: [0.0; BANDS],
            started: false,
        }
    }

    pub(super) fn reset(&mut self) {
        self.long_peak = 0.0;
        self.square = [0.0; BANDS];
        self.fourth = [0.0; BANDS];
        self.medium_mean = [0.0; FOLLOWED];
        self.slow_mean = [0.0; FOLLOWED];
        self.medium_tilt = [0.0; BANDS];
        self.slow_tilt = [0.0; BANDS];
        self.started = false;
    }

    /// The features of the middle frame; all zero if it is silent (−80 dBFS).
    ///
    /// 0–2: correlation over 50 ms of the swing of the lows with the quiet of the highs (log energy of
    /// 3–10 kHz with 1 kHz, 6–14 kHz with 300 Hz, 2–6 kHz with 300 Hz): a clipper lets nothing small pass
    /// while the large is at its limit (intermodulation), and no later filter or codec undoes it.
    /// 3–5: how deep the highs dip within 30 ms: log of the arithmetic over the geometric mean of the cells'
    /// energy, in the three high bands. 6: share of samples over 0.8 of the peak. 7: log of peak over RMS.
    /// 8–15 and 16–23: the same eight as means over 0.3 s and 2.5 s.
    /// 24: peak over the recent largest, in nepers. 25, 26: negative log kurtosis over 0.1 s of 40–250 Hz
    /// and 4–14 kHz. 27: 250–1000 Hz over 40–250 Hz, last 0.3 s against 2.5 s, nepers.
    pub(super) fn frame(&mut self, cells: &Cells) -> [f32; FEATURES] {
        let frames = cells.frames();
        let middle = &frames[MIDDLE];
        let mut features = [0.0f32; FEATURES];
        if middle.power < 1e-8 {
            return features;
        }
        features[0] = against(frames, 1, 1);
        features[1] = against(frames, 0, 2);
        features[2] = against(frames, 0, 0);
        let near = &frames[MIDDLE - 1..=MIDDLE + 1];
        for h in 0..HIGHS {
            features[3 + h] = dip(near, h);
        }
        let peak = near.iter().fold(0.0f32, |m, f| m.max(f.peak));
        let power = near.iter().map(|f| f.power).sum::<f32>() / near.len() as f32;
        features[6] = near.iter().map(|f| f.wide).sum::<f32>() / near.len() as f32;
        features[7] = (peak.max(1e-9) / power.max(1e-18).sqrt()).ln();

        let level = |b: usize| (middle.square[b].max(1e-12)).ln();
        let tilt: [f32; BANDS] = std::array::from_fn(|b| match b {
            0 => middle.power.max(1e-12).ln(),
            b => level(b) - level(b - 1),
        });
        self.long_peak = peak.max(self.long_peak * self.fall);
        let short = 0.1;
        for b in 0..BANDS {
            self.square[b] += short * (middle.square[b] - self.square[b]);
            self.fourth[b] += short * (middle.fourth[b] - self.fourth[b]);
        }
        let (medium, slow) = if self.started {
            (self.medium, self.slow)
        } else {
            (1.0, 1.0)
        };
        self.started = true;
        for (i, &x) in features.iter().take(FOLLOWED).enumerate() {
            self.medium_mean[i] += medium * (x - self.medium_mean[i]);
            self.slow_mean[i] += slow * (x - self.slow_mean[i]);
        }
        for (i, &x) in tilt.iter().enumerate() {
            self.medium_tilt[i] += medium * (x - self.medium_tilt[i]);
            self.slow_tilt[i] += slow * (x - self.slow_tilt[i]);
        }
        features[8..8 + FOLLOWED].copy_from_slice(&self.medium_mean);
        features[16..16 + FOLLOWED].copy_from_slice(&self.slow_mean);
        features[24] = (peak.max(1e-9) / self.long_peak.max(1e-9)).ln();
        let kurtosis = |b: usize| {
            let square = self.square[b].max(1e-12);
            -(self.fourth[b] / (square * square)).max(0.5).ln()
        };
        features[25] = kurtosis(0);
        features[26] = kurtosis(3);
        features[27] = 0.5 * (self.medium_tilt[1] - self.slow_tilt[1]);
        features
    }
}

/// Minus the correlation coefficient of the magnitude of low band `low` with the log energy of high band
/// `high`, cell by cell over all remembered frames.
fn against(frames: &[Frame; FRAMES], low: usize, high: usize) -> f32 {
    const _: () = assert!(LOWS > 1 && HIGHS > 2);
    let count = (FRAMES * CELLS) as f32;
    let (mut x, mut y) = (0.0f32, 0.0f32);
    for f in frames {
        x += f.low[low].iter().sum::<f32>();
        y += f.high[high].iter().sum::<f32>();
    }
    let (x, y) = (x / count, y / count);
    let (mut xx, mut yy, mut xy) = (0.0f32, 0.0f32, 0.0f32);
    for f in frames {
        for (a, b) in f.low[low].iter().zip(&f.high[high]) {
            let (a, b) = (a - x, b - y);
            xx += a * a;
            yy += b * b;
            xy += a * b;
        }
    }
    let scale = xx.sqrt() * yy.sqrt();
    if scale > 1e-9 { -xy / scale } else { 0.0 }
}

/// Log of the arithmetic over the geometric mean of the energy of band `high`, cell by cell, smoothed over
/// two cells.
fn dip(frames: &[Frame], high: usize) -> f32 {
    let count = (frames.len() * CELLS) as f32;
    let sum: f32 = frames.iter().map(|f| f.smooth[high]).sum();
    let logs: f32 = frames.iter().map(|f| f.smooth_log[high]).sum();
    (sum / count).max(1e-12).ln() - logs / count
}

/// The model's judgement of a frame's features: one hidden layer of rectified units, a logistic output.
pub(super) fn severity(features: &[f32; FEATURES]) -> f32 {
    if features.iter().all(|&f| f == 0.0) {
        return 0.0; // silence
    }
    let units = weights::INPUT.iter().zip(&weights::INPUT_OFFSET);
    let logit = units
        .zip(&weights::OUTPUT)
        .map(|((input, offset), output)| {
            let sum: f32 = input.iter().zip(features).map(|(w, f)| w * f).sum();
            output * (sum + offset).max(0.0)
        })
        .sum::<f32>()
        + weights::OUTPUT_OFFSET;
    1.0 / (1.0 + (-logit).exp())
}
