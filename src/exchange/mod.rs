// [any] The boundary between the audio thread and everything else: lock-free, wait-free for audio.
//!
//! Two crossings only, joined by [`SamplePos`]: the capture ring out, the patch snapshot back.
//! Meters and status go one way, towards the editor.

pub mod capture;
pub mod clock;
pub mod meters;
pub mod patch;
pub mod samples;
mod slot;

pub use clock::SamplePos;
