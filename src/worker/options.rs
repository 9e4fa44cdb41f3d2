// [any] What the user chose for the worker's jobs. None of it is automatable.

use serde::{Deserialize, Serialize};

use crate::{damage::Stem, profile::edit::MusicEdit};

/// When input is captured and analysed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureMode {
    /// Nothing is captured.
    Off,
    /// Captured while the transport plays; analysed when the user asks.
    Manual,
    /// Captured while the transport plays; analysed when it stops.
    #[default]
    Automatic,
}

/// How much work goes into offline restoration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// The live settings.
    Draft,
    /// The best settings.
    #[default]
    Best,
}

/// Who separates the stems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeparatorChoice {
    /// The best model that is installed, else [`Self::Spectral`].
    #[default]
    Automatic,
    /// The model that can tell guitar and piano from the rest, else as [`Self::Automatic`].
    SixStems,
    /// Model-free masks in the spectrum.
    Spectral,
    /// The small network that is built in, else [`Self::Spectral`].
    Learned,
}

/// Who rebuilds damaged stems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegeneratorChoice {
    /// Nobody: restore only.
    Off,
    /// Model-free, from the recording's own hits and notes: where a stem is damaged and the result measures
    /// better.
    #[default]
    Resynthesis,
    /// The same over the whole take, damaged or not, for the user to judge by ear.
    Everywhere,
    /// The installed generating model where a stem is damaged, else as [`Self::Resynthesis`].
    Jasco,
    /// The same, its audio decoded by MultiBand Diffusion instead of the codec's own decoder: slower, cleaner.
    JascoDiffusion,
    /// MultiBand Diffusion alone: what is damaged is coded and made anew from its codes. Plays nothing new.
    Diffusion,
}

impl RegeneratorChoice {
    /// Whether a model is asked for.
    pub fn is_model(self) -> bool {
        matches!(self, Self::Jasco | Self::JascoDiffusion | Self::Diffusion)
    }
}

/// A span of one stem that is rebuilt because the user says so, damaged or not, better by measure or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub stem: Stem,
    /// First sample of the take, and first one after the span.
    pub start: u64,
    pub end: u64,
}

/// Options of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Amounts of the offline restoration in percent, as the live chain's parameters stood.
    pub declick_percent: u8,
    pub declip_percent: u8,
    pub denoise_percent: u8,
    pub capture: CaptureMode,
    pub quality: Quality,
    pub separator: SeparatorChoice,
    pub regenerator: RegeneratorChoice,
    pub seed: u64,
    /// The user's words about the sound; empty if none.
    pub style: String,
    /// What the user changed of the music that is heard in the take: rebuilding follows it.
    pub music: Vec<MusicEdit>,
    /// Only this is rebuilt.
    pub asked: Option<Asked>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            declick_percent: 100,
            declip_percent: 100,
            denoise_percent: 50,
            capture: CaptureMode::default(),
            quality: Quality::default(),
            separator: SeparatorChoice::default(),
            regenerator: RegeneratorChoice::default(),
            seed: 0,
            style: String::new(),
            music: Vec::new(),
            asked: None,
        }
    }
}

impl Options {
    /// Whether a job with `other` would give the same result.
    pub fn same_result(&self, other: &Self) -> bool {
        let capture = self.capture;
        *self
            == Self {
                capture,
                ..other.clone()
            }
    }
}
