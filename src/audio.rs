// [worker] Audio in memory: planar samples with their rate. File reading, writing and resampling.

mod mp4;
mod read;
mod resample;
mod write;

use std::path::{Path, PathBuf};

pub use read::{MAX_CHANNELS, MAX_SAMPLE_RATE, MAX_SECONDS, MIN_SAMPLE_RATE, ReadReport};
pub use resample::frames_for;
pub use write::BitDepth;

/// Planar audio. Every channel has the same length.
#[derive(Clone, Debug, PartialEq)]
pub struct AudioBuffer {
    /// `channels[c][n]`, full scale ±1.
    pub channels: Vec<Vec<f32>>,
    /// Hz, 1..=768000.
    pub sample_rate: u32,
}

impl AudioBuffer {
    /// Takes ownership of planar samples.
    ///
    /// # Panics
    /// If the channels differ in length: that is a defect of the caller, not of any file.
    pub fn new(channels: Vec<Vec<f32>>, sample_rate: u32) -> Self {
        assert!(
            channels.windows(2).all(|w| w[0].len() == w[1].len()),
            "channels of unequal length"
        );
        Self {
            channels,
            sample_rate,
        }
    }

    /// Silence.
    pub fn silence(channels: usize, frames: usize, sample_rate: u32) -> Self {
        Self::new(vec![vec![0.0; frames]; channels], sample_rate)
    }

    /// Samples a channel.
    pub fn frames(&self) -> usize {
        self.channels.first().map_or(0, Vec::len)
    }

    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.frames() as f64 / f64::from(self.sample_rate)
    }

    /// Mean of the channels.
    pub fn mono(&self) -> Vec<f32> {
        match self.channels.as_slice() {
            [] => Vec::new(),
            [one] => one.clone(),
            many => {
                let scale = 1.0 / many.len() as f32;
                (0..self.frames())
                    .map(|n| many.iter().map(|c| c[n]).sum::<f32>() * scale)
                    .collect()
            }
        }
    }

    /// Frames `range` of every channel, zero outside.
    pub fn slice(&self, start: usize, frames: usize) -> Self {
        let channels = self
            .channels
            .iter()
            .map(|c| {
                let mut out = vec![0.0; frames];
                let end = (start + frames).min(c.len());
                if start < end {
                    out[..end - start].copy_from_slice(&c[start..end]);
                }
                out
            })
            .collect();
        Self::new(channels, self.sample_rate)
    }
}

/// Why a file could not be read or written. The text names the file and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AudioError {
    /// Missing, damaged, empty, of an unknown format, or not writable.
    #[error("{path}: {reason}", path = path.display())]
    File { path: PathBuf, reason: String },
    /// A property outside what is supported.
    #[error("{path}: the {what} is {actual}, but only {expected} can be used; {advice}", path = path.display())]
    OutOfRange {
        path: PathBuf,
        what: &'static str,
        actual: String,
        expected: String,
        advice: &'static str,
    },
}

impl AudioError {
    pub(crate) fn file(path: &Path, reason: impl Into<String>) -> Self {
        Self::File {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}
