// [worker] JASCO (Tal et al. 2024): music from text, chords, drums and melody by flow matching, used to fill
// damaged spans.

pub mod chords;
pub mod conditions;
pub mod config;
pub mod flow;
pub mod inpaint;
mod linear;
pub mod melody;
pub mod model;
mod prompt;
mod regenerate;
pub mod solver;
pub mod text;
pub mod weights;
mod windows;
mod yaml;

use std::path::PathBuf;

pub use model::JascoFiles;
pub use regenerate::{Jasco, Settings};

pub use crate::dense::device::best_device;

use super::{encodec::EncodecError, multiband_diffusion::MbdError};
use crate::models::checkpoint::CheckpointError;

/// Why JASCO can't be used.
#[derive(Debug, thiserror::Error)]
pub enum JascoError {
    #[error("cancelled")]
    Cancelled,
    #[error("the model doesn't fit: {}", problems.join("; "))]
    Tensors { problems: Vec<String> },
    #[error("the model's configuration can't be used: {key}: {reason}")]
    Config { key: &'static str, reason: String },
    #[error("the tokenizer {} can't be used: {reason}", path.display())]
    Tokenizer { path: PathBuf, reason: String },
    #[error("{} can't be read: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Codec(#[from] EncodecError),
    #[error("separating what the model made failed: {reason}")]
    Separation { reason: String },
    #[error("decoding what the model made failed: {0}")]
    Diffusion(Box<MbdError>),
    #[error("the description can't be read: {reason}")]
    Prompt { reason: String },
    #[error("\"{label}\" is not a chord of the model's table")]
    UnknownChord { label: String },
    #[error("the network's numbers ran away at time {t}")]
    Diverged { t: f32 },
    #[error("the processor for the model: {0}")]
    Device(#[from] candle_core::Error),
    #[error("a defect in Uncook: {0}; please report it")]
    Internal(&'static str),
}
