// [audio] The live chain, in order. NO allocation, lock, io, log or panic outside constructors.
#![deny(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types
)]

pub mod bandwidth;
pub mod chain;
pub mod compare;
pub mod declick;
pub mod declip;
pub mod delay;
pub mod denoise;
pub mod dereverb;
pub mod desaturate;
pub mod detect;
pub mod eq;
pub mod limiter;
pub mod player;
pub mod settings;
pub mod stage;
pub mod stft;
pub mod unwrap;

pub use chain::{AudioLink, Chain, Transport};
pub use settings::Settings;
pub use stage::{MAX_CHANNELS, Ramp, Stage};
