// [worker] Flat tops: how much of a recording sits at its clipping level.

use super::source::{Source, peak, pieces};

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
pub fn clipping_share(audio: &dyn Source) -> Option<f64> {
    let total = audio.frames() * audio.channels();
    if total == 0 || peak(audio) == 0.0 {
        return None;
    }
    let flat: usize = (0..audio.channels())
        .map(|c| flat_samples(audio, c, 1.0) + flat_samples(audio, c, -1.0))
        .sum();
    Some(flat as f64 / total as f64)
}

fn flat_samples(audio: &dyn Source, channel: usize, sign: f32) -> usize {
    let each = |f: &mut dyn FnMut(f32)| {
        for piece in pieces(audio) {
            let mut samples = vec![0.0; piece.len()];
            audio.read(channel, piece.start, &mut samples);
            samples.into_iter().for_each(|x| f(sign * x));
        }
    };
    let mut peak = 0.0f32;
    each(&mut |x| peak = peak.max(x));
    if peak <= 0.0 {
        return 0;
    }
    let (top, below) = (peak * (1.0 - SHELL), peak * (1.0 - 2.0 * SHELL));
    let (mut in_runs, mut in_next, mut run) = (0usize, 0usize, 0usize);
    let mut look = |x: f32| {
        if x >= top {
            run += 1;
            return;
        }
        if run >= SHORTEST_RUN {
            in_runs += run;
        }
        run = 0;
        in_next += usize::from(x >= below);
    };
    each(&mut look);
    look(0.0);
    if in_runs as f64 >= PILE_UP * (in_next as f64 + 1.0) {
        in_runs
    } else {
        0
    }
}
