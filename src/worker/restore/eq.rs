// [worker] Tone matching over a whole take: the live equalizer, set from the whole take's spectrum.

use super::{bandwidth::whole_take, denoise::run};
use crate::{
    realtime::{
        Stage,
        eq::{BANDS, CENTERS_HZ, EqMatcher},
    },
    worker::progress::Progress,
};

/// Nudges the take's long-term spectrum towards music's average. `channels` are 1..=2 planar channels at
/// `sample_rate` Hz, changed in place; `amount` 0..=1. `false` if cancelled.
pub fn restore(
    channels: &mut [Vec<f32>],
    sample_rate: f64,
    amount: f32,
    progress: &Progress,
) -> bool {
    if amount <= 0.0 {
        return !progress.is_cancelled();
    }
    let Some(spectrum) = whole_take(channels, sample_rate, &CENTERS_HZ, progress) else {
        return false;
    };
    if spectrum.frames() == 0 {
        return true;
    }
    let measured: [f64; BANDS] = std::array::from_fn(|i| spectrum.db(i));
    let mut stage = EqMatcher::learned(&measured, sample_rate, channels.len());
    stage.set_intensity(amount);
    run(stage, channels, sample_rate, progress)
}
