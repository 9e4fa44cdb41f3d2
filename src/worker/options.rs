// [any] What the user chose for the worker's jobs. None of it is automatable.

use serde::{Deserialize, Serialize};

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
    /// Model-free masks in the spectrum.
    #[default]
    Spectral,
}

/// Who rebuilds damaged stems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegeneratorChoice {
    /// Nobody: restore only.
    Off,
    /// Model-free: the recording's own hits and notes.
    #[default]
    Resynthesis,
}

/// Options of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    pub capture: CaptureMode,
    pub quality: Quality,
    pub separator: SeparatorChoice,
    pub regenerator: RegeneratorChoice,
    pub seed: u64,
    /// The user's words about the sound; empty if none.
    pub style: String,
}
