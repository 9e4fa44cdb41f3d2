// [worker] Beats by a bar-pointer hidden Markov model, then bars and metre from what marks a downbeat.
//
// The state space is that of Krebs, Böck & Widmer, "An efficient state-space model for joint tempo and
// meter tracking", ISMIR 2015: a position that advances a frame a frame, and a tempo that changes at
// beats only, with probability falling exponentially in the relative change.

use super::{
    onsets::Onsets,
    spectra::{FPS, moving_mean},
    tempo::Level,
};

/// Tempo may wander this far from the song's, as a ratio.
const WANDER: f64 = 0.22;
/// Log price of a relative tempo change of 1 (Krebs et al. use λ = 100 with neural activations).
const CHANGE_PRICE: f64 = 90.0;
/// Log reward of a full-strength onset on a beat.
const BEAT_REWARD: f64 = 5.0;
/// Weight of what the ears feel among the evidence for bars.
const FELT_SHARE: f64 = 0.8;
/// Share of the beat's reward for an onset on a part of it.
const PART_SHARE: f64 = 0.25;
/// Flux peaks this long after the attack begins in a 47 ms window, seconds (measured on clicks).
pub(super) const ONSET_DELAY: f64 = 0.0;

/// How likely a beat is at each frame.
pub(super) fn activation(onsets: &Onsets) -> Vec<f32> {
    let mut a: Vec<f32> = (0..onsets.frames())
        .map(|t| {
            let low = onsets.groups[0][t].min(1.2);
            let snare = (onsets.groups[2][t] + onsets.groups[3][t]).min(2.0) * 0.5;
            0.55 * onsets.total[t] + 0.30 * low + 0.20 * snare + 0.15 * onsets.change[t].min(1.2)
        })
        .collect();
    a = moving_mean(&a, 1);
    a
}

/// Beat times in frames, ascending, at about `level`'s tempo.
pub(super) fn track(activation: &[f32], level: Level) -> Vec<f64> {
    let shortest = (level.period * (1.0 - WANDER)).round().max(8.0) as usize;
    let longest = ((level.period * (1.0 + WANDER)).round() as usize).max(shortest + 1);
    let tempi: Vec<usize> = (shortest..=longest).collect();
    let frames = activation.len();
    if frames < 2 {
        return Vec::new();
    }
    // Rewards are taken against the mean, so that a faster tempo doesn't win by counting more beats.
    let mean = activation.iter().sum::<f32>() / frames as f32;
    let part_reward = |beat: usize, period: usize| -> f64 {
        let d = usize::from(level.division);
        (1..d)
            .map(|k| {
                let at = beat + k * period / d;
                f64::from(activation.get(at).copied().unwrap_or(mean) - mean)
            })
            .sum::<f64>()
            * PART_SHARE
            / (d - 1) as f64
    };
    // best[t]: best score of a beat at frame t that follows a beat interval of tempi[m]; only beats need
    // keeping, as positions between beats are forced.
    let m = tempi.len();
    // Rings of the last `ring` frames.
    let ring = longest + 1;
    let mut best = vec![f64::NEG_INFINITY; ring * m];
    let mut back = vec![0u8; frames * m];
    let changes: Vec<f64> = (0..m * m)
        .map(|k| {
            let (a, b) = (tempi[k / m] as f64, tempi[k % m] as f64);
            -CHANGE_PRICE * (b / a).ln().abs()
        })
        .collect();
    // best score over tempo at a beat, after paying for the change to each new tempo
    let mut leave = vec![f64::NEG_INFINITY; ring * m];
    for t in 0..frames {
        let reward = BEAT_REWARD * f64::from(activation[t] - mean);
        for (j, &period) in tempi.iter().enumerate() {
            let k = (t % ring) * m + j;
            if t < period {
                // The first beat: any tempo.
                best[k] = reward;
                continue;
            }
            let from = t - period;
            let gap = BEAT_REWARD * part_reward(from, period);
            best[k] = leave[(from % ring) * m + j] + gap + reward;
        }
        for j in 0..m {
            let (mut top, mut who) = (f64::NEG_INFINITY, 0);
            for i in 0..m {
                let s = best[(t % ring) * m + i] + changes[i * m + j];
                if s > top {
                    top = s;
                    who = i as u8;
                }
            }
            leave[(t % ring) * m + j] = top;
            back[t * m + j] = who;
        }
    }
    // The last beat lies within one period of the end.
    let tail = frames.saturating_sub(longest)..frames;
    let mut at = tail
        .flat_map(|t| (0..m).map(move |j| (t, j)))
        .max_by(|a, b| best[(a.0 % ring) * m + a.1].total_cmp(&best[(b.0 % ring) * m + b.1]));
    let mut beats = Vec::new();
    while let Some((t, j)) = at {
        beats.push(t as f64);
        let period = tempi[j];
        at = (t >= period).then(|| {
            let from = t - period;
            (from, usize::from(back[from * m + j]).min(m - 1))
        });
    }
    beats.reverse();
    trim(&mut beats, activation);
    beats
}

/// What beats divide into, 2 or 3, from where onsets fall between them: compound time plays both thirds.
pub(super) fn division(strength: &[f32], beats: &[f64]) -> u8 {
    let mean_at = |place: f64| -> f32 {
        let sum: f32 = beats
            .windows(2)
            .map(|b| {
                let at = (b[0] + place * (b[1] - b[0])).round() as usize;
                let near = strength.get(at.saturating_sub(2)..(at + 3).min(strength.len()));
                near.map_or(0.0, |n| n.iter().copied().fold(0.0, f32::max))
            })
            .sum();
        sum / beats.len().max(2) as f32
    };
    let thirds = mean_at(1.0 / 3.0).min(mean_at(2.0 / 3.0));
    let half = mean_at(0.5);
    // A swung half falls near the second third; only a first third too makes it compound.
    if thirds > 1.25 * half + 0.02 { 3 } else { 2 }
}

/// Drops leading and trailing beats in silence.
fn trim(beats: &mut Vec<f64>, activation: &[f32]) {
    let strength = |t: f64| {
        let at = t as usize;
        let near = &activation[at.saturating_sub(5)..(at + 6).min(activation.len())];
        near.iter().copied().fold(0.0, f32::max)
    };
    let all: Vec<f32> = beats.iter().map(|&b| strength(b)).collect();
    let floor = 0.15 * super::spectra::quantile(&all, 0.5);
    let first = all.iter().position(|&s| s > floor).unwrap_or(all.len());
    let last = all
        .iter()
        .rposition(|&s| s > floor)
        .map_or(first, |i| i + 1);
    beats.truncate(last);
    beats.drain(..first.min(beats.len()));
}

/// Bars: beats a bar, the index of each downbeat among the beats, and how clear that is, 0..=1.
pub(super) struct Bars {
    pub beats_per_bar: u8,
    pub downbeats: Vec<usize>,
    pub confidence: f32,
}

/// Finds the bars. `beats` in frames; `felt`: log odds that each is a downbeat, empty where nobody knows; `chord_changes`: how surely a chord begins on each, 0..=1; `division` 2 or 3.
pub(super) fn bars(
    onsets: &Onsets,
    beats: &[f64],
    chord_changes: &[f64],
    felt: &[f64],
    division: u8,
) -> Option<Bars> {
    if beats.len() < 4 {
        return None;
    }
    let peak = |signal: &[f32], t: f64, reach: usize| {
        let at = t.round() as usize;
        let near = signal.get(at.saturating_sub(reach)..(at + reach + 1).min(signal.len()));
        near.map_or(0.0, |n| n.iter().copied().fold(0.0, f32::max))
    };
    let feature = |f: &dyn Fn(f64) -> f32| -> Vec<f64> {
        let raw: Vec<f64> = beats.iter().map(|&b| f64::from(f(b))).collect();
        standardise(&raw)
    };
    let kick = feature(&|b| peak(&onsets.groups[0], b, 5));
    let snare = feature(&|b| 0.5 * (peak(&onsets.groups[2], b, 4) + peak(&onsets.groups[3], b, 4)));
    let change = feature(&|b| peak(&onsets.change, b, 8));
    let chord = standardise(chord_changes);
    let crash = feature(&|b| peak(&onsets.groups[4], b, 5));
    // How much each position of a bar looks like itself: weights a feature, by position.
    let score = |i: usize, position: usize, length: usize| -> f64 {
        let (k, s, c, x) = (kick[i], snare[i], change[i], crash[i]);
        let c = 0.6 * c + 0.8 * chord.get(i).copied().unwrap_or(0.0);
        let odds = felt.get(i).copied().unwrap_or(0.0);
        let told = if position == 0 { odds } else { -odds };
        // Logistic log likelihood, about 0 at its best.
        let told = -FELT_SHARE * (1.0 + (-told).exp()).ln();
        told + match (length, position) {
            (_, 0) => 0.9 * c + 0.5 * k - 0.45 * s + 0.15 * x,
            (4, 2) => 0.1 * c + 0.2 * k - 0.25 * s,
            (4, _) => -0.45 * c - 0.35 * k + 0.4 * s,
            (2, _) => -0.7 * c - 0.4 * k + 0.4 * s,
            _ => -0.45 * c - 0.25 * k + 0.2 * s,
        }
    };
    let lengths: &[(u8, f64)] = if division == 3 {
        &[(2, 0.0)]
    } else {
        // Log prior a beat: four-four is by far the commonest.
        &[(4, 0.0), (3, -0.12)]
    };
    let mut all: Vec<(f64, Vec<usize>, u8)> = lengths
        .iter()
        .map(|&(length, prior)| {
            let (total, downbeats) = walk(beats.len(), usize::from(length), &score);
            (total / beats.len() as f64 + prior, downbeats, length)
        })
        .collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let clarity = all[0].0.max(0.0);
    let (_, downbeats, beats_per_bar) = all.swap_remove(0);
    Some(Bars {
        beats_per_bar,
        downbeats,
        confidence: (1.0 - (-2.0 * clarity).exp()) as f32,
    })
}

/// Viterbi over positions of the bar; skipping or repeating a beat has a price.
fn walk(
    count: usize,
    length: usize,
    score: &dyn Fn(usize, usize, usize) -> f64,
) -> (f64, Vec<usize>) {
    const SLIP: f64 = 6.0;
    let mut value: Vec<f64> = (0..length).map(|p| score(0, p, length)).collect();
    let mut back: Vec<Vec<usize>> = vec![(0..length).collect()];
    for i in 1..count {
        let best = (0..length)
            .max_by(|&a, &b| value[a].total_cmp(&value[b]))
            .unwrap_or(0);
        let mut next = vec![0.0; length];
        let mut from = vec![0; length];
        for p in 0..length {
            let before = (p + length - 1) % length;
            let (v, f) = if value[best] - SLIP > value[before] {
                (value[best] - SLIP, best)
            } else {
                (value[before], before)
            };
            next[p] = v + score(i, p, length);
            from[p] = f;
        }
        value = next;
        back.push(from);
    }
    let mut p = (0..length)
        .max_by(|&a, &b| value[a].total_cmp(&value[b]))
        .unwrap_or(0);
    let total = value[p];
    let mut downbeats = Vec::new();
    for i in (0..count).rev() {
        if p == 0 {
            downbeats.push(i);
        }
        p = back[i][p];
    }
    downbeats.reverse();
    (total, downbeats)
}

/// Zero mean, unit deviation, limited to ±2.5; all zero for a constant.
fn standardise(values: &[f64]) -> Vec<f64> {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    values
        .iter()
        .map(|v| {
            if deviation < 1e-6 {
                0.0
            } else {
                ((v - mean) / deviation).clamp(-2.5, 2.5)
            }
        })
        .collect()
}

/// Frames to seconds, less the flux's delay.
pub(super) fn seconds(frame: f64) -> f64 {
    (frame / FPS - ONSET_DELAY).max(0.0)
}
