// [worker] What the ears feel of beats and bars, for the rules that choose the tempo, the beats and the bars.

use super::{PITCH_FPS, PULSE};

/// Weight that training gives to downbeats: their probability is that much too high (odds).
const DOWN_WEIGHT: f32 = 6.0;
/// Limits of the log odds: silence neither forces nor forbids.
const ODDS: [f32; 2] = [-3.5, 4.0];
/// A beat and a summit belong together within this, seconds.
const NEAR: f64 = 0.06;
/// Summits below this are none.
const SUMMIT: f32 = 0.1;

/// True log odds of a probability heard with `weight`.
fn odds(p: f32, weight: f32) -> f32 {
    let p = p.clamp(1e-5, 1.0 - 1e-5);
    (p / (1.0 - p) / weight).ln()
}

/// Probability of a beat every 10 ms.
pub(in super::super) fn activation(pulse: &[f32], frames: usize) -> Vec<f32> {
    let at = |i: usize| pulse.get(i * PULSE).copied().unwrap_or(0.0);
    (0..frames)
        .map(|t| 0.5 * (at(t / 2) + at(t.div_ceil(2))))
        .collect()
}

/// How well `beats` (seconds) explain what is felt, 0..=1: F of how much is felt on them and how much of
/// what is felt lies on them. Half the tempo misses every second summit, twice the tempo beats on nothing.
pub(in super::super) fn agreement(pulse: &[f32], beats: &[f64]) -> f64 {
    let frames = pulse.len() / PULSE;
    let p = |t: usize| f64::from(pulse[t * PULSE]);
    let (mut on, mut all) = (0.0, 0.0);
    for t in 1..frames.saturating_sub(1) {
        if p(t) >= f64::from(SUMMIT) && p(t) >= p(t - 1) && p(t) > p(t + 1) {
            let time = t as f64 / PITCH_FPS;
            let next = beats.partition_point(|&b| b < time);
            let near = [next.checked_sub(1), Some(next)]
                .into_iter()
                .flatten()
                .filter_map(|i| beats.get(i))
                .any(|b| (b - time).abs() <= NEAR);
            all += p(t);
            on += if near { p(t) } else { 0.0 };
        }
    }
    let felt: f64 = beats.iter().map(|&b| f64::from(near(pulse, b, 0))).sum();
    let (precision, recall) = (felt / beats.len().max(1) as f64, on / f64::max(all, 1e-9));
    2.0 * precision * recall / f64::max(precision + recall, 1e-9)
}

/// Largest probability of kind `which` within 60 ms of a time.
fn near(pulse: &[f32], seconds: f64, which: usize) -> f32 {
    let frames = pulse.len() / PULSE;
    let at = (seconds * PITCH_FPS).round() as usize;
    (at.saturating_sub(3)..(at + 4).min(frames))
        .map(|t| pulse[t * PULSE + which])
        .fold(0.0, f32::max)
}

/// Mean probability of a beat at `beats`.
pub(in super::super) fn sureness(pulse: &[f32], beats: &[f64]) -> f32 {
    beats.iter().map(|&b| near(pulse, b, 0)).sum::<f32>() / beats.len().max(1) as f32
}

/// Log odds that each beat is a downbeat.
pub(in super::super) fn downbeat_odds(pulse: &[f32], beats: &[f64]) -> Vec<f64> {
    beats
        .iter()
        .map(|&b| f64::from(odds(near(pulse, b, 1), DOWN_WEIGHT).clamp(ODDS[0], ODDS[1])))
        .collect()
}
