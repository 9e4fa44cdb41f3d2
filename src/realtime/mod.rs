// [audio] The live chain, in order. NO allocation, lock, io, log or panic outside constructors.
#![deny(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types
)]

use std::sync::Arc;

use crate::exchange::{SamplePos, capture::CaptureTap, meters::Meters, patch::PatchReader};

pub mod bandwidth;
pub mod declick;
pub mod declip;
pub mod delay;
pub mod denoise;
pub mod dereverb;
pub mod detect;
pub mod eq;
pub mod limiter;
pub mod player;
pub mod settings;
pub mod stage;
pub mod stft;

pub use settings::Settings;
pub use stage::{MAX_CHANNELS, Ramp, Stage};

/// The audio thread's ends of everything it shares.
pub struct AudioLink {
    pub patches: PatchReader,
    pub capture: CaptureTap,
    pub meters: Arc<Meters>,
}

/// Where a block lies on the timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// Position of the block's first sample; `None` if the host gives none.
    pub pos: Option<SamplePos>,
    /// Whether the timeline moves.
    pub playing: bool,
    /// Whether input is captured (mode and state decide that).
    pub capture: bool,
}

/// The live chain with capture tap and player.
pub struct Chain {
    link: AudioLink,
}

impl Chain {
    /// Allocates everything for `channels` (1 or 2) at `sample_rate` Hz.
    pub fn new(sample_rate: f64, channels: usize, link: AudioLink) -> Self {
        let _ = (sample_rate, channels);
        Self { link }
    }

    /// Gives the shared ends back, to build a chain for another rate or layout.
    pub fn into_link(self) -> AudioLink {
        self.link
    }

    /// Delay in samples; depends on the sample rate alone.
    pub fn latency(&self) -> usize {
        0
    }

    /// Clears all memory without allocating.
    pub fn reset(&mut self) {}

    /// Processes a block in place. `channels`: as many as given to [`Chain::new`], of equal length.
    pub fn process(&mut self, channels: &mut [&mut [f32]], at: Transport, settings: &Settings) {
        let _ = (channels, at, settings);
    }
}
