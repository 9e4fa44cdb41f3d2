// [worker] Dereverberation over a whole take: the live kernel, with the room learned on a first pass.

use super::denoise::run_kernel;
use crate::{
    realtime::{
        dereverb::{DereverbKernel, DereverbSetting},
        stft::frame_length,
    },
    worker::progress::Progress,
};

/// Frames of 85 ms resolve bass notes, which live latency forbids: a note that is alone in its bin is not mistaken
/// for the room of its neighbour. The predictor reaches back 43–150 ms.
const OFFLINE: DereverbSetting = DereverbSetting {
    taps: 6,
    delay: 2,
    early_hz: 12_000.0,
    power_memory: 0.7,
    gain_memory: 0.0,
    exponent: 1.0,
    least_gain: 0.2,
};

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
    let frame = 4 * frame_length(sample_rate);
    let mut kernel = DereverbKernel::new(OFFLINE, sample_rate, frame, frame / 4, channels.len());
    kernel.set_intensities(early, late);
    let mut heard = channels.to_vec();
    if !run_kernel(&mut kernel, frame, 1.0, &mut heard, sample_rate, progress) {
        return false;
    }
    kernel.second_pass();
    run_kernel(&mut kernel, frame, 1.0, channels, sample_rate, progress)
}
