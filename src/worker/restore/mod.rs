// [worker] Offline restoration: the chain's kernels with their best settings, over a whole take.
//!
//! One file a stage. Each takes planar samples in place, an amount 0..=1 (0 returns the input bit for
//! bit) and a [`Progress`](crate::worker::progress::Progress) whose cancel switch it checks at least once
//! a second of work; it returns `false` if it was cancelled (the samples are then unspecified).

pub mod bandwidth;
pub mod declick;
pub mod declip;
pub mod denoise;
pub mod dereverb;
pub mod eq;
