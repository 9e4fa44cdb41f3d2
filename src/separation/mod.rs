// [worker] From a mix to four stems that sum to it.

pub mod spectral;

use crate::{audio::AudioBuffer, damage::Stem, worker::progress::Progress};

/// Stems in [`Stem`] order. Each has the mix's rate, channels and length, and they sum to the mix
/// (to rounding): the residual stays in `other`.
pub type Stems = [AudioBuffer; Stem::COUNT];

#[derive(Debug, thiserror::Error)]
pub enum SeparationError {
    #[error("cancelled")]
    Cancelled,
}

/// Splits a mix into stems.
pub trait Separator: Send + Sync {
    /// Stable name with version, part of cache keys: `spectral-1`.
    fn id(&self) -> &'static str;

    /// `mix`: 1 or 2 channels, any rate and length.
    fn separate(&self, mix: &AudioBuffer, progress: &Progress) -> Result<Stems, SeparationError>;
}
