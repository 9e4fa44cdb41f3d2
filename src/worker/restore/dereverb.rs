// [worker] Dereverberation over a whole take: the live kernel, with the room learned on a first pass.

use super::denoise::run_kernel;
use crate::{
    realtime::{
        dereverb::{DereverbKernel, DereverbSetting},
        stft::frame_length,
    },
    worker::progress::Progress,
};

/// The predictor reaches back 21–75 ms in frames of 43 ms, 43–150 ms in frames of 85 ms.
const OFFLINE: DereverbSetting = DereverbSetting {
    taps: 6,
    delay: 2,
    early_hz: 12_000.0,
    power_memory: 0.7,
    gain_memory: 0.0,
    exponent: 0.7,
    least_gain: 0.28,
};

/// Frames of two and of four live ones, 43 and 85 ms. The long ones resolve bass notes, so that a note that is alone in
/// its bin is not mistaken for the room of its neighbour; the short ones follow strokes. What both leave is averaged:
/// their errors have little in common.
const FRAMES: [usize; 2] = [2, 4];

/// Suppresses early reflections by `early` and late reverberation by `late`, each 0..=1 (both 0 returns the
/// input bit for bit). `channels` are 1..=2 planar channels at `sample_rate` Hz, changed in place.
/// `false` if cancelled.
pub fn restore(
    channels: &mut [Vec<f32>],
    sample_rate: f64,
    early: f32,
    late: f32,
    progress: &Progress,
) -> bool {
    let (early, late) = (early.clamp(0.0, 1.0), late.clamp(0.0, 1.0));
    if early == 0.0 && late == 0.0 {
        return !progress.is_cancelled();
    }
    let wet = channels.to_vec();
    for (i, length) in FRAMES.into_iter().enumerate() {
        let mut dry = wet.clone();
        let frame = length * frame_length(sample_rate);
        let mut kernel = DereverbKernel::new(OFFLINE, sample_rate, frame, frame / 4, dry.len());
        kernel.set_intensities(early, late);
        let mut heard = wet.clone();
        if !run_kernel(&mut kernel, frame, 1.0, &mut heard, sample_rate, progress) {
            return false;
        }
        kernel.second_pass();
        if !run_kernel(&mut kernel, frame, 1.0, &mut dry, sample_rate, progress) {
            return false;
        }
        let share = 1.0 / (i + 1) as f32;
        for (mean, dry) in channels.iter_mut().zip(dry) {
            for (mean, x) in mean.iter_mut().zip(dry) {
                *mean += share * (x - *mean);
            }
        }
    }
    true
}
