// [audio] Finds damage while the music plays: how bad it is, of each kind, every 10 ms, and why.
//!
//! Samples are cut into frames of 10 ms and each frame into 40 cells of 0.25 ms. All work happens at
//! frame borders, on the frame's own samples, so that it is bounded, and clocked by samples alone. A frame
//! is judged [`DELAY_FRAMES`] later, when its surroundings are known: whether silence was a dropout or the
//! song's end shows only when the music comes back.
//!
//! | kind | what gives it away |
//! |---|---|
//! | clipping | runs of equal samples at a channel's extreme (`tops`) |
//! | saturation | highs that go quiet whenever the lows swing out, and the features in `model` |
//! | click | one sample towering over its linear prediction, calm on both sides (`click`) |
//! | dropout | a loud channel that falls silent within a millisecond and comes back (`gap`) |
//! | band limit, noise, reverb, codec | the spectrum of the last seconds (`spectral`) |

mod cells;
mod click;
mod gap;
mod model;
mod spectral;
mod tops;
mod weights;

use crate::{
    damage::{DamageKind, FRAMES_PER_SECOND, Severity},
    realtime::MAX_CHANNELS,
};

pub use model::FEATURES;

/// Frames between a frame and its judgement: the longest dropout and what confirms it.
pub const DELAY_FRAMES: usize = 27;

/// Frames before the judged one that are remembered.
const EARLIER: usize = 2;
/// Frames remembered.
const SEEN: usize = EARLIER + 1 + DELAY_FRAMES;
/// Frames between a frame and the model's features of it.
const FEATURES_AFTER: usize = cells::FRAMES / 2;

/// What is known about one frame before the last judgement.
#[derive(Clone, Copy)]
struct Seen {
    clipping: f32,
    /// Flat tops were seen within the last half second.
    proven: bool,
    click: click::Residual,
    dropout: f32,
    /// Of the frame [`FEATURES_AFTER`] frames before.
    features: [f32; FEATURES],
}

impl Seen {
    const EMPTY: Self = Self {
        clipping: 0.0,
        proven: false,
        click: click::Residual::SILENCE,
        dropout: 0.0,
        features: [0.0; FEATURES],
    };
}

/// The live damage detector.
pub struct Detector {
    channels: usize,
    sample_rate: f64,
    /// Samples of the frame so far, one vector a channel; the last is their mean.
    frame: Vec<Vec<f32>>,
    filled: usize,
    /// Cells completed of it.
    cell: usize,
    /// Length of the frame being filled.
    length: usize,
    /// Frames completed since `reset`.
    completed: u64,
    tops: Vec<tops::Tops>,
    gaps: Vec<gap::Gap>,
    cells: cells::Cells,
    clicks: click::Clicks,
    spectral: spectral::Spectral,
    model: model::Model,
    /// The last frames, oldest first; the one at [`EARLIER`] is judged.
    seen: [Seen; SEEN],
}

impl Detector {
    /// For `channels` (1..=2; more are cut to 2, none is taken as 1) at `sample_rate` Hz.
    pub fn new(sample_rate: f64, channels: usize) -> Self {
        let sample_rate = if sample_rate.is_finite() {
            sample_rate.clamp(1000.0, 768_000.0)
        } else {
            48_000.0
        };
        let channels = channels.clamp(1, MAX_CHANNELS);
        let longest = (sample_rate / FRAMES_PER_SECOND as f64).ceil() as usize + 1;
        let mut detector = Self {
            channels,
            sample_rate,
            frame: vec![vec![0.0; longest]; channels + 1],
            filled: 0,
            cell: 0,
            length: 0,
            completed: 0,
            tops: vec![tops::Tops::default(); channels],
            gaps: vec![gap::Gap::new(sample_rate); channels],
            cells: cells::Cells::new(sample_rate),
            clicks: click::Clicks::new(longest),
            spectral: spectral::Spectral::new(sample_rate),
            model: model::Model::new(),
            seen: [Seen::EMPTY; SEEN],
        };
        detector.length = detector.frame_end(0);
        detector
    }

    /// Forgets everything, as new.
    pub fn reset(&mut self) {
        self.filled = 0;
        self.cell = 0;
        self.completed = 0;
        self.length = self.frame_end(0);
        for tops in &mut self.tops {
            *tops = tops::Tops::default();
        }
        for gap in &mut self.gaps {
            gap.reset();
        }
        self.cells.reset();
        self.clicks.reset();
        self.spectral.reset();
        self.model.reset();
        self.seen = [Seen::EMPTY; SEEN];
    }

    /// First sample after frame `index`.
    fn frame_end(&self, index: u64) -> usize {
        let end = |i: u64| (i as f64 * self.sample_rate / FRAMES_PER_SECOND as f64).round() as u64;
        ((end(index + 1) - end(index)) as usize).max(1)
    }

    /// Takes the next samples of each channel (equal lengths; a missing channel counts as silent) and
    /// calls `emit` with the index since [`Detector::reset`] and the severity of every frame that becomes
    /// judged: frame `i` at the end of frame `i + 2`. Non-finite samples count as 0.
    pub fn process(&mut self, channels: &[&[f32]], emit: &mut dyn FnMut(u64, &Severity)) {
        self.run(channels, &mut |index, severity, _| emit(index, severity));
    }

    /// [`Detector::process`] with the model's features too: what its training reads.
    pub fn process_with_features(
        &mut self,
        channels: &[&[f32]],
        emit: &mut dyn FnMut(u64, &Severity, &[f32; FEATURES]),
    ) {
        self.run(channels, emit);
    }

    fn run(&mut self, channels: &[&[f32]], emit: &mut dyn FnMut(u64, &Severity, &[f32; FEATURES])) {
        let total = channels.iter().map(|c| c.len()).max().unwrap_or(0);
        let mut at = 0;
        while at < total {
            let cell_end = (self.cell + 1) * self.length / cells::CELLS;
            let take = cell_end.saturating_sub(self.filled).min(total - at);
            let to = self.filled..self.filled + take;
            let (inputs, mean) = self.frame.split_at_mut(self.channels);
            let Some(mean) = mean.first_mut().and_then(|m| m.get_mut(to.clone())) else {
                return;
            };
            mean.fill(0.0);
            let scale = 1.0 / inputs.len() as f32;
            for (c, input) in inputs.iter_mut().enumerate() {
                let source = channels.get(c).copied().unwrap_or(&[]);
                let Some(target) = input.get_mut(to.clone()) else {
                    return;
                };
                for (i, (o, m)) in target.iter_mut().zip(mean.iter_mut()).enumerate() {
                    let x = source.get(at + i).copied().unwrap_or(0.0);
                    *o = if x.is_finite() {
                        x.clamp(-64.0, 64.0)
                    } else {
                        0.0
                    };
                    *m += scale * *o;
                }
            }
            self.filled += take;
            at += take;
            // More than one cell may end here: at low rates some are empty.
            while self.cell < cells::CELLS {
                let start = self.cell * self.length / cells::CELLS;
                let end = (self.cell + 1) * self.length / cells::CELLS;
                if end > self.filled {
                    break;
                }
                let samples = self.frame.last().and_then(|m| m.get(start..end));
                self.cells.cell(self.cell, samples.unwrap_or(&[]));
                self.cell += 1;
            }
            if self.cell == cells::CELLS {
                self.finish_frame(emit);
            }
        }
    }

    fn finish_frame(&mut self, emit: &mut dyn FnMut(u64, &Severity, &[f32; FEATURES])) {
        let (inputs, mean) = self.frame.split_at_mut(self.channels);
        let Some(mean) = mean.first().and_then(|m| m.get(..self.length)) else {
            return;
        };
        let mut seen = Seen::EMPTY;
        let mut missing = 0..0;
        let parts = self.tops.iter_mut().zip(self.gaps.iter_mut());
        for (channel, (tops, gap)) in inputs.iter().zip(parts) {
            let Some(channel) = channel.get(..self.length) else {
                return;
            };
            seen.clipping = seen.clipping.max(tops.frame(channel));
            seen.proven |= tops.is_proven();
            if let Some(back) = gap.frame(channel) {
                // Both channels mostly drop out together; the longer one counts.
                missing = if missing.is_empty() {
                    back
                } else {
                    missing.start.min(back.start)..missing.end.max(back.end)
                };
            }
        }
        seen.click = self.clicks.frame(mean);
        self.cells.finish(mean);
        self.spectral.frame(mean);
        seen.features = self.model.frame(&self.cells);

        self.seen.rotate_left(1);
        if let Some(last) = self.seen.last_mut() {
            *last = seen;
        }
        for past in self
            .seen
            .iter_mut()
            .rev()
            .take(missing.end)
            .skip(missing.start)
        {
            past.dropout = 1.0;
        }
        self.completed += 1;
        self.filled = 0;
        self.cell = 0;
        self.length = self.frame_end(self.completed);

        let Some(index) = self.completed.checked_sub(1 + DELAY_FRAMES as u64) else {
            return;
        };
        let [earlier, before, judged, next, later, ..] = &self.seen;
        let features = self.seen[EARLIER + FEATURES_AFTER].features;
        let mut severity: Severity = [0.0; DamageKind::COUNT];
        severity[DamageKind::Clipping as usize] = judged.clipping;
        // Flat tops tell exactly which frames were cut: where they show, the others are let off (halving
        // was picked among six rules by its ROC AUC on four songs).
        let relief = if judged.proven { 0.5 } else { 1.0 };
        severity[DamageKind::Saturation as usize] = relief * model::severity(&features);
        severity[DamageKind::Click as usize] = click::severity(
            [&earlier.click, &before.click],
            &judged.click,
            [&next.click, &later.click],
        );
        severity[DamageKind::Dropout as usize] = judged.dropout;
        let slow = self.spectral.severities();
        severity[DamageKind::BandLimit as usize] = slow.band_limit;
        severity[DamageKind::Noise as usize] = slow.noise;
        severity[DamageKind::Reverb as usize] = slow.reverb;
        severity[DamageKind::Codec as usize] = slow.codec;
        for s in &mut severity {
            *s = if s.is_finite() {
                s.clamp(0.0, 1.0)
            } else {
                0.0
            };
        }
        emit(index, &severity, &features);
    }
}

/// The logistic curve through 0.5 at `threshold`, steep by 1 / `width`.
fn logistic(value: f32, threshold: f32, width: f32) -> f32 {
    1.0 / (1.0 + ((threshold - value) / width).exp())
}
