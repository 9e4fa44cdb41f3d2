// [worker] Offline restoration: the chain's kernels with their best settings, over a whole take.
//!
//! One file a stage. Each takes planar samples in place, an amount 0..=1 (0 returns the input bit for
//! bit) and a [`Progress`] whose cancel switch it checks at least once
//! a second of work; it returns `false` if it was cancelled (the samples are then unspecified).

pub mod bandwidth;
pub mod declick;
pub mod declip;
pub mod denoise;
pub mod dereverb;
pub mod dropout;
pub mod eq;
pub mod undo;

use crate::{
    realtime::{
        Stage, declick::Declicker, declip::Declipper, denoise::Denoiser, desaturate::Desaturator,
        unwrap::Unwrapper,
    },
    worker::progress::Progress,
};

/// Declick, declip and denoise with the live kernels (`amounts` in that order, 0..=1): fast, and what the
/// live chain plays. `false` if cancelled.
pub fn draft(
    channels: &mut [Vec<f32>],
    sample_rate: f64,
    amounts: [f32; 3],
    progress: &Progress,
) -> bool {
    let count = channels.len();
    let [declick, declip, denoise] = amounts;
    let mut stages: [Box<dyn Stage>; 5] = [
        Box::new(Unwrapper::live(sample_rate, count)),
        Box::new(Desaturator::live(sample_rate, count)),
        Box::new(Declicker::live(sample_rate, count)),
        Box::new(Declipper::live(sample_rate, count)),
        Box::new(Denoiser::live(sample_rate, count)),
    ];
    stages
        .iter_mut()
        .zip([declip, declip, declick, declip, denoise])
        .all(|(stage, amount)| run_stage(stage.as_mut(), channels, sample_rate, amount, progress))
}

/// Streams planar audio through a stage and cuts the latency off. `false` if cancelled.
fn run_stage(
    stage: &mut dyn Stage,
    channels: &mut [Vec<f32>],
    sample_rate: f64,
    amount: f32,
    progress: &Progress,
) -> bool {
    if amount == 0.0 {
        return true;
    }
    stage.set_intensity(amount);
    stage.reset();
    let latency = stage.latency();
    denoise::stream(channels, latency, sample_rate, progress, |block| {
        stage.process(block);
    })
}
