// [worker] Lost lows and highs over a whole take: the live filters, set from the whole take's spectrum.

use super::denoise::run;
use crate::{
    realtime::{
        Stage,
        bandwidth::{
            bass::{self, BassRestorer, LowSpectrum},
            treble::{self, HighSpectrum, TrebleRestorer},
        },
        eq::spectrum::LongTermSpectrum,
    },
    worker::progress::Progress,
};

/// Brings back lows that a high-pass took. `channels` are 1..=2 planar channels at `sample_rate` Hz,
/// changed in place; `amount` 0..=1. A take whose lows are there comes back bit for bit. `false` if
/// cancelled.
pub fn restore_bass(
    channels: &mut [Vec<f32>],
    sample_rate: f64,
    amount: f32,
    progress: &Progress,
) -> bool {
    if amount <= 0.0 {
        return !progress.is_cancelled();
    }
    let Some(spectrum) = whole_take(channels, sample_rate, &bass::centers_hz(), progress) else {
        return false;
    };
    if spectrum.frames() == 0 {
        return true;
    }
    let lows = LowSpectrum::read(&spectrum, sample_rate);
    let mut stage = BassRestorer::learned(lows, sample_rate, channels.len());
    if stage.found().is_none() {
        return true;
    }
    stage.set_intensity(amount);
    run(stage, channels, sample_rate, progress)
}

/// Brings back highs that a low-pass or a codec took; as [`restore_bass`].
pub fn restore_treble(
    channels: &mut [Vec<f32>],
    sample_rate: f64,
    amount: f32,
    progress: &Progress,
) -> bool {
    if amount <= 0.0 {
        return !progress.is_cancelled();
    }
    let Some(spectrum) = whole_take(channels, sample_rate, &treble::centers_hz(), progress) else {
        return false;
    };
    if spectrum.frames() == 0 {
        return true;
    }
    let highs = HighSpectrum::read(&spectrum);
    let mut stage = TrebleRestorer::learned(highs, sample_rate, channels.len());
    if stage.found().is_none() {
        return true;
    }
    stage.set_intensity(amount);
    run(stage, channels, sample_rate, progress)
}

/// The average spectrum of a take; `None` if cancelled.
pub(super) fn whole_take(
    channels: &[Vec<f32>],
    sample_rate: f64,
    centers_hz: &[f64],
    progress: &Progress,
) -> Option<LongTermSpectrum> {
    // An hour of memory is a plain mean.
    let mut spectrum = LongTermSpectrum::new(sample_rate, centers_hz, 3600.0, 0);
    let left = channels.first()?;
    let right = channels.get(1);
    for (n, &l) in left.iter().enumerate() {
        if n % 65_536 == 0 && progress.is_cancelled() {
            return None;
        }
        spectrum.push(l, right.and_then(|c| c.get(n)).copied().unwrap_or(0.0));
    }
    Some(spectrum)
}
