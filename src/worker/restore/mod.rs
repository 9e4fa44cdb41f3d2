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
pub mod eq;

use crate::{
    realtime::{Stage, declick::Declicker, declip::Declipper, denoise::Denoiser},
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
    let mut stages: [Box<dyn Stage>; 3] = [
        Box::new(Declicker::live(sample_rate, count)),
        Box::new(Declipper::live(sample_rate, count)),
        Box::new(Denoiser::live(sample_rate, count)),
    ];
    stages
        .iter_mut()
        .zip(amounts)
        .all(|(stage, amount)| run_stage(stage.as_mut(), channels, amount, progress))
}

/// Samples between two looks at the cancel switch.
const PIECE: usize = 8192;

/// Streams planar audio through a stage and cuts the latency off. `false` if cancelled.
pub fn run_stage(
    stage: &mut dyn Stage,
    channels: &mut [Vec<f32>],
    amount: f32,
    progress: &Progress,
) -> bool {
    let frames = channels.first().map_or(0, Vec::len);
    if amount == 0.0 || frames == 0 {
        return true;
    }
    let latency = stage.latency();
    stage.set_intensity(amount);
    stage.reset();
    for channel in channels.iter_mut() {
        channel.resize(frames + latency, 0.0);
    }
    for start in (0..frames + latency).step_by(PIECE) {
        if progress.is_cancelled() {
            return false;
        }
        let end = (start + PIECE).min(frames + latency);
        let mut pieces: Vec<&mut [f32]> = channels.iter_mut().map(|c| &mut c[start..end]).collect();
        stage.process(&mut pieces);
    }
    for channel in channels.iter_mut() {
        channel.drain(..latency);
    }
    true
}
