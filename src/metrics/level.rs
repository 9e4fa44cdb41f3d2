// [worker] Flat tops: how much of a recording sits at its clipping level.

use crate::audio::AudioBuffer;

/// Width of the level that counts as "the same", as a part of the peak: 1.5 steps of 16 bits at half of
/// full scale, so that quantization and dither after clipping do not hide a flat top.
const SHELL: f32 = 1e-4;
/// Fewest equal neighbours of a flat top.
const SHORTEST_RUN: usize = 3;
/// How many times more samples the top shell must hold than the one below. A sine holds
/// 1 / (√2 − 1) = 2.4 times as many.
const PILE_UP: f64 = 8.0;

/// Share of samples, 0..=1, that lie in flat tops: runs of at least 3 equal samples at the highest or
/// lowest level of their channel, where that level holds far more samples than any smooth peak could.
/// `None` for silence and empty audio. Blind to clipping before a filter or a codec, whose tops are no
/// longer flat: see [`crate::metrics::damage::damage_map`] for that.
pub fn clipping_share(audio: &AudioBuffer) -> Option<f64> {
    let total = audio.frames() * audio.channels.len();
    let silent = audio.channels.iter().flatten().all(|&x| x == 0.0);
    if total == 0 || silent {
        return None;
    }
    let flat: usize = audio
        .channels
        .iter()
        .map(|c| flat_samples(c, 1.0) + flat_samples(c, -1.0))
        .sum();
    Some(flat as f64 / total as f64)
}

fn flat_samples(channel: &[f32], sign: f32) -> usize {
    let peak = channel.iter().fold(0.0f32, |m, &x| m.max(sign * x));
    if peak <= 0.0 {
        return 0;
    }
    let (top, below) = (peak * (1.0 - SHELL), peak * (1.0 - 2.0 * SHELL));
    let (mut in_runs, mut in_next, mut run) = (0usize, 0usize, 0usize);
    for x in channel.iter().map(|&x| sign * x).chain([0.0]) {
        if x >= top {
            run += 1;
            continue;
        }
        if run >= SHORTEST_RUN {
            in_runs += run;
        }
        run = 0;
        in_next += usize::from(x >= below);
    }
    if in_runs as f64 >= PILE_UP * (in_next as f64 + 1.0) {
        in_runs
    } else {
        0
    }
}
