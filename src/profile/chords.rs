// [worker] Chords: note activations between beats, matched with chord templates by a hidden Markov model.

use super::{
    Chord, DEGREES, PITCH_CLASSES,
    chroma::{CHROMA_FPS, Notes, bass_weight, fold, treble_weight},
    ears::{Heard, PITCH_FPS},
    spectra::quantile,
};

/// A chord quality: Harte shorthand, intervals, and its price in the match (rarer shapes must fit better).
struct Quality {
    name: &'static str,
    intervals: &'static [u8],
    price: f64,
}

/// The vocabulary. Prices reflect how common each shape is in popular music (maj and min about three
/// quarters of the time, sevenths most of the rest) and how easily overtones imitate it.
const QUALITIES: [Quality; 13] = [
    Quality {
        name: "maj",
        intervals: &[0, 4, 7],
        price: 0.0,
    },
    Quality {
        name: "min",
        intervals: &[0, 3, 7],
        price: 0.0,
    },
    Quality {
        name: "7",
        intervals: &[0, 4, 7, 10],
        price: 0.035,
    },
    Quality {
        name: "maj7",
        intervals: &[0, 4, 7, 11],
        price: 0.045,
    },
    Quality {
        name: "min7",
        intervals: &[0, 3, 7, 10],
        price: 0.035,
    },
    Quality {
        name: "5",
        intervals: &[0, 7],
        price: 0.06,
    },
    Quality {
        name: "sus4",
        intervals: &[0, 5, 7],
        price: 0.05,
    },
    Quality {
        name: "sus2",
        intervals: &[0, 2, 7],
        price: 0.08,
    },
    Quality {
        name: "dim",
        intervals: &[0, 3, 6],
        price: 0.08,
    },
    Quality {
        name: "aug",
        intervals: &[0, 4, 8],
        price: 0.10,
    },
    Quality {
        name: "maj6",
        intervals: &[0, 4, 7, 9],
        price: 0.105,
    },
    Quality {
        name: "min6",
        intervals: &[0, 3, 7, 9],
        price: 0.105,
    },
    Quality {
        name: "hdim7",
        intervals: &[0, 3, 6, 10],
        price: 0.095,
    },
];
const STATES: usize = QUALITIES.len() * 12 + 1;
/// The state of no chord.
const NONE: usize = STATES - 1;

/// Pitch classes of a chord in Harte syntax, bit 0 = C; `None` for `N` and for what is no chord of ours.
pub(super) fn tones(label: &str) -> Option<u16> {
    let (chord, bass) = match label.split_once('/') {
        Some((chord, bass)) => (chord, Some(bass)),
        None => (label, None),
    };
    let (root, quality) = chord.split_once(':').unwrap_or((chord, "maj"));
    let root = PITCH_CLASSES.iter().position(|name| *name == root)?;
    let intervals: &[u8] = match quality {
        // What people write and `QUALITIES` never hears.
        "dim7" => &[0, 3, 6, 9],
        "9" => &[0, 2, 4, 7, 10],
        quality => QUALITIES.iter().find(|q| q.name == quality)?.intervals,
    };
    let bass = bass.and_then(|bass| DEGREES.iter().position(|degree| *degree == bass));
    let all = intervals.iter().map(|i| usize::from(*i)).chain(bass);
    Some(all.fold(0, |bits, i| bits | 1 << ((root + i) % 12)))
}

/// Match (cosine) that `N` scores: a chord must beat it.
const NONE_MATCH: f64 = 0.45;
/// How much of a match the bass note decides.
const BASS_SHARE: f64 = 0.20;
/// Log-odds a unit of match and a second of music.
const SHARPNESS: f64 = 22.0;
/// Log price of a change on a downbeat, on another beat, between beats.
const CHANGE: [f64; 3] = [1.5, 3.0, 5.5];
/// Match a nat of what the ears say, a share of it for the chord tones, and the least probability they have.
const HEARD_SHARE: f64 = 0.08;
const TONE_SHARE: f64 = 0.5;
const HEARD_FLOOR: f32 = 0.01;
/// Match gained by chords of the key, at full certainty.
const KEY_BONUS: f64 = 0.03;

/// Chords over the whole recording, merged and contiguous.
///
/// `heard`: what the ears say, see [`Heard`]; None leaves it to the notes. `harmony` and `bass`: notes of the accompaniment and of the bass (the same for a mix). `beats`,
/// `downbeats`: seconds, ascending, may be empty. `keys`: a score for each of the 24 keys.
pub(super) fn estimate(
    harmony: &Notes,
    bass: &Notes,
    beats: &[f64],
    downbeats: &[f64],
    keys: &[f64; 24],
    heard: Option<&Heard>,
) -> Vec<Chord> {
    let seconds = harmony.frames() as f64 / CHROMA_FPS;
    let cuts = grid(seconds, beats, downbeats);
    if cuts.len() < 2 {
        return Vec::new();
    }
    let loud = quantile(&harmony.level, 0.9);
    let bonus = key_bonus(keys);
    let matches: Vec<Vec<f64>> = cuts
        .windows(2)
        .map(|w| {
            let mut row = match_states(harmony, bass, w[0].0, w[1].0, loud, &bonus);
            if let Some(heard) = heard {
                add_heard(heard, w[0].0, w[1].0, &mut row);
            }
            row
        })
        .collect();
    let path = viterbi(&cuts, &matches);
    // Margins are wider where the ears speak too.
    let slope = if heard.is_some() { 4.0 } else { 20.0 };
    merge(&cuts, &matches, &path, slope)
}

/// How much a bass is expected to play each pitch class at `time`: roots most, then the other chord notes.
pub(super) fn expected_bass(chords: &[Chord], time: f64) -> [f32; 12] {
    let mut out = [0.0; 12];
    let at = chords.partition_point(|c| c.start <= time);
    let Some(chord) = at.checked_sub(1).and_then(|i| chords.get(i)) else {
        return out;
    };
    let Some((root, name)) = chord.label.split_once(':') else {
        return out;
    };
    let root = PITCH_CLASSES.iter().position(|&n| n == root);
    let quality = QUALITIES.iter().find(|q| q.name == name);
    if let (Some(root), Some(quality)) = (root, quality) {
        for (i, &note) in quality.intervals.iter().enumerate() {
            let share = if i == 0 { 1.0 } else { 0.5 };
            out[(root + usize::from(note)) % 12] = share * chord.confidence;
        }
    }
    out
}

/// How much each beat looks like the start of a chord, 0..=1, from a first reading of the chords.
pub(super) fn change_at(chords: &[Chord], beats: &[f64]) -> Vec<f64> {
    beats
        .iter()
        .map(|&t| {
            chords
                .windows(2)
                .filter(|w| (w[1].start - t).abs() < 0.06)
                .map(|w| f64::from(w[0].confidence.min(w[1].confidence)))
                .fold(0.0, f64::max)
        })
        .collect()
}

/// Ends of the segments with the price class of a change there: half beats, or quarter seconds without beats.
fn grid(seconds: f64, beats: &[f64], downbeats: &[f64]) -> Vec<(f64, usize)> {
    let mut cuts: Vec<(f64, usize)> = vec![(0.0, 0)];
    if beats.len() < 2 {
        let count = (seconds / 0.25) as usize;
        cuts.extend((1..count).map(|i| (i as f64 * 0.25, 1)));
    } else {
        for (i, &t) in beats.iter().enumerate() {
            let down = downbeats.iter().any(|d| (d - t).abs() < 0.02);
            cuts.push((t, if down { 0 } else { 1 }));
            if let Some(&next) = beats.get(i + 1) {
                cuts.push((0.5 * (t + next), 2));
            }
        }
    }
    cuts.push((seconds, 0));
    let mut kept: Vec<(f64, usize)> = Vec::with_capacity(cuts.len());
    for cut in cuts {
        let room = kept.last().is_none_or(|k| cut.0 >= k.0 + 0.08);
        if room && cut.0 <= seconds {
            kept.push(cut);
        }
    }
    kept
}

fn key_bonus(keys: &[f64; 24]) -> Vec<f64> {
    // A softmax over the keys; each key backs its diatonic triads and sevenths.
    let top = keys.iter().copied().fold(f64::MIN, f64::max);
    let weights = keys.map(|k| ((k - top) / 0.05).exp());
    let sum: f64 = weights.iter().sum();
    const MAJOR_SCALE: [u8; 7] = [0, 2, 4, 5, 7, 9, 11];
    let mut bonus = vec![0.0; STATES];
    for (k, weight) in weights.iter().enumerate() {
        // A minor key has the notes of the major key three semitones up, and a raised leading note.
        let (tonic, minor) = (k % 12, k >= 12);
        let mut scale: Vec<usize> = MAJOR_SCALE
            .iter()
            .map(|&s| (usize::from(s) + tonic + if minor { 3 } else { 0 }) % 12)
            .collect();
        if minor {
            scale.push((tonic + 11) % 12);
        }
        for (state, b) in bonus.iter_mut().enumerate().take(NONE) {
            let (quality, root) = (&QUALITIES[state / 12], state % 12);
            let inside = quality
                .intervals
                .iter()
                .all(|&i| scale.contains(&((root + usize::from(i)) % 12)));
            if inside {
                *b += KEY_BONUS * weight / sum;
            }
        }
    }
    bonus
}

/// How well each state explains the notes in `[start, end)`, about 0..=1.
fn match_states(
    harmony: &Notes,
    bass: &Notes,
    start: f64,
    end: f64,
    loud: f32,
    bonus: &[f64],
) -> Vec<f64> {
    // Chords reach a little into their neighbours' windows: stay clear of the borders where there is room.
    let inset = (0.1 * (end - start)).min(0.05);
    let treble = fold(&harmony.mean(start + inset, end - inset), treble_weight)
        .map(|x| f64::from(x.max(0.0)).sqrt());
    let low = fold(&bass.mean(start + inset, end - inset), bass_weight).map(f64::from);
    let norm = treble.iter().map(|x| x * x).sum::<f64>().sqrt();
    let low_norm = low.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mut out = vec![0.0; STATES];
    let quiet = {
        let from = ((start * CHROMA_FPS) as usize).min(harmony.frames() - 1);
        let to = ((end * CHROMA_FPS) as usize).clamp(from + 1, harmony.frames());
        quantile(&harmony.level[from..to], 0.5) < 0.02 * loud
    };
    if norm < 1e-9 || quiet {
        out[NONE] = 1.0;
        return out;
    }
    for (state, score) in out.iter_mut().enumerate().take(NONE) {
        let (quality, root) = (&QUALITIES[state / 12], state % 12);
        let notes = quality
            .intervals
            .iter()
            .map(|&i| (root + usize::from(i)) % 12);
        let upper = notes.clone().map(|pc| treble[pc]).sum::<f64>()
            / ((quality.intervals.len() as f64).sqrt() * norm);
        let under = if low_norm < 1e-9 {
            0.5
        } else {
            let best = notes.clone().skip(1).map(|pc| low[pc]).fold(0.0, f64::max);
            (low[root] + 0.4 * best) / low_norm
        };
        *score = (1.0 - BASS_SHARE) * upper + BASS_SHARE * under - quality.price + bonus[state];
    }
    out[NONE] = NONE_MATCH;
    out
}

/// Adds what the ears say of `[start, end)`: roots and chord tones, as mean log likelihoods.
fn add_heard(heard: &Heard, start: f64, end: f64, row: &mut [f64]) {
    let frames = heard.frames();
    if frames == 0 || row[NONE] >= 1.0 {
        return;
    }
    let from = ((start * PITCH_FPS).round() as usize).min(frames - 1);
    let to = ((end * PITCH_FPS).round() as usize).clamp(from + 1, frames);
    let count = (to - from) as f64;
    let mut roots = [0.0f64; 13];
    let (mut yes, mut no) = ([0.0f64; 12], [0.0f64; 12]);
    for t in from..to {
        for (sum, p) in roots.iter_mut().zip(&heard.roots[t * 13..]) {
            *sum += f64::from(p.max(HEARD_FLOOR).ln()) / count;
        }
        for (pc, p) in heard.tones[t * 12..][..12].iter().enumerate() {
            yes[pc] += f64::from(p.max(HEARD_FLOOR).ln()) / count;
            no[pc] += f64::from((1.0 - p).max(HEARD_FLOOR).ln()) / count;
        }
    }
    let silent: f64 = no.iter().sum();
    for (state, score) in row.iter_mut().enumerate() {
        let mut sum = silent;
        let root = if state == NONE {
            roots[12]
        } else {
            let quality = &QUALITIES[state / 12];
            for &i in quality.intervals {
                let pc = (state + usize::from(i)) % 12;
                sum += yes[pc] - no[pc];
            }
            roots[state % 12]
        };
        *score += HEARD_SHARE * (root + TONE_SHARE * sum);
    }
}

fn viterbi(cuts: &[(f64, usize)], matches: &[Vec<f64>]) -> Vec<usize> {
    let mut score = vec![0.0f64; STATES];
    let mut back: Vec<Vec<u8>> = Vec::with_capacity(matches.len());
    for (i, row) in matches.iter().enumerate() {
        let length = (cuts[i + 1].0 - cuts[i].0).clamp(0.05, 2.0);
        let price = if i == 0 { 0.0 } else { CHANGE[cuts[i].1] };
        let best = (0..STATES)
            .max_by(|&a, &b| score[a].total_cmp(&score[b]))
            .unwrap_or(NONE);
        let jump = score[best] - price;
        let mut from = vec![0u8; STATES];
        for (s, value) in score.iter_mut().enumerate() {
            from[s] = s as u8;
            if jump > *value {
                *value = jump;
                from[s] = best as u8;
            }
            *value += SHARPNESS * length * row[s];
        }
        back.push(from);
    }
    let mut state = (0..STATES)
        .max_by(|&a, &b| score[a].total_cmp(&score[b]))
        .unwrap_or(NONE);
    let mut path = vec![NONE; matches.len()];
    for i in (0..matches.len()).rev() {
        path[i] = state;
        state = usize::from(back[i][state]);
    }
    path
}

fn merge(cuts: &[(f64, usize)], matches: &[Vec<f64>], path: &[usize], slope: f64) -> Vec<Chord> {
    let mut out = Vec::new();
    let mut first = 0;
    while first < path.len() {
        let state = path[first];
        let last = (first..path.len())
            .take_while(|&i| path[i] == state)
            .last()
            .unwrap_or(first);
        // Confidence: how far the state beats the best state of another root.
        let (mut margin, mut length) = (0.0, 0.0);
        for i in first..=last {
            let seconds = cuts[i + 1].0 - cuts[i].0;
            let rival = (0..STATES)
                .filter(|&s| s == NONE || state == NONE || s % 12 != state % 12)
                .filter(|&s| s != state)
                .map(|s| matches[i][s])
                .fold(f64::MIN, f64::max);
            margin += seconds * (matches[i][state] - rival);
            length += seconds;
        }
        let margin = margin / length.max(1e-9);
        out.push(Chord {
            start: cuts[first].0,
            end: cuts[last + 1].0,
            label: label(state),
            confidence: (1.0 / (1.0 + (-margin * slope - 0.2).exp())) as f32,
        });
        first = last + 1;
    }
    out
}

fn label(state: usize) -> String {
    if state == NONE {
        return "N".to_owned();
    }
    format!(
        "{}:{}",
        PITCH_CLASSES[state % 12],
        QUALITIES[state / 12].name
    )
}
