// The one integration-test binary: one module a room.

// Counts what allocates inside `assert_no_alloc`.
#[global_allocator]
static ALLOCATOR: assert_no_alloc::AllocDisabler = assert_no_alloc::AllocDisabler;

mod audio;
#[cfg(feature = "cli")]
mod batch;
mod cache;
mod chain;
mod cli;
mod declick;
mod declip;
mod denoise;
mod dereverb;
mod detector;
#[cfg(feature = "ml")]
mod encodec;
mod engine;
mod exchange;
#[cfg(feature = "ml")]
mod htdemucs;
#[cfg(feature = "ml")]
mod jasco;
mod memory;
mod metrics;
#[cfg(feature = "ml")]
mod models;
#[cfg(feature = "ml")]
mod multiband_diffusion;
mod pipeline;
mod player;
#[cfg(feature = "cli")]
mod process;
mod profile;
mod profile_midi;
mod regeneration;
mod separation;
mod sidecars;
mod support;
mod tone;
mod transport;
mod undo;
