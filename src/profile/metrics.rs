// [any] How close an estimated profile comes to a known one: the MIREX / mir_eval measures.

use super::{Chord, Key, Mode, Note, PITCH_CLASSES};

/// Accuracy 1 and accuracy 2 of a tempo: within 4 % of `reference_bpm`, and within 4 % of it or of its
/// double, triple, half or third (Gouyon et al. 2006).
pub fn tempo_accuracy(reference_bpm: f64, estimate_bpm: f64) -> (bool, bool) {
    let near = |factor: f64| {
        (estimate_bpm - reference_bpm * factor).abs() <= 0.04 * reference_bpm * factor
    };
    let octaves = [1.0, 2.0, 3.0, 0.5, 1.0 / 3.0];
    (near(1.0), octaves.into_iter().any(near))
}

/// F-measure of event times in seconds, both ascending, a pair counting when it is at most `tolerance`
/// seconds apart and each event pairing once (largest matching). Beats use 0.07, onsets and drums 0.05.
/// Two empty lists agree perfectly (1.0).
pub fn event_f(reference: &[f64], estimate: &[f64], tolerance: f64) -> f64 {
    // On a line with one tolerance, pairing the earliest free events is a largest matching.
    let (mut i, mut j, mut hits) = (0, 0, 0usize);
    while i < reference.len() && j < estimate.len() {
        let d = estimate[j] - reference[i];
        if d.abs() <= tolerance + 1e-9 {
            hits += 1;
            i += 1;
            j += 1;
        } else if d < 0.0 {
            j += 1;
        } else {
            i += 1;
        }
    }
    f_measure(hits, reference.len(), estimate.len())
}

/// MIREX key score: 1 exact, 0.5 a fifth above in the same mode, 0.3 the relative key, 0.2 the parallel key.
pub fn key_score(reference: Key, estimate: Key) -> f64 {
    let up = (12 + estimate.tonic % 12 - reference.tonic % 12) % 12;
    match (reference.mode, estimate.mode) {
        (a, b) if a == b => match up {
            0 => 1.0,
            7 => 0.5,
            _ => 0.0,
        },
        (Mode::Major, Mode::Minor) if up == 9 => 0.3,
        (Mode::Minor, Mode::Major) if up == 3 => 0.3,
        _ if up == 0 => 0.2,
        _ => 0.0,
    }
}

/// Share of the (comparable) reference time whose chord is right, 0..=1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ChordScores {
    /// Same root.
    pub root: f64,
    /// Same root and third, over major and minor references and `N`.
    pub majmin: f64,
    /// Same root, third and seventh, over maj, min, 7, maj7, min7 references and `N`.
    pub sevenths: f64,
}

/// Weighted chord symbol recall over the span of the reference (mir_eval's `root`, `majmin`, `sevenths`).
/// Time that the estimate leaves uncovered counts as `N`.
pub fn chord_scores(reference: &[Chord], estimate: &[Chord]) -> ChordScores {
    let mut right = [0.0f64; 3];
    let mut total = [0.0f64; 3];
    for r in reference {
        let Some(truth) = ChordShape::parse(&r.label) else {
            continue;
        };
        let mut cuts = vec![r.start, r.end];
        for e in estimate {
            cuts.extend(
                [e.start, e.end]
                    .iter()
                    .filter(|&&t| t > r.start && t < r.end),
            );
        }
        cuts.sort_by(f64::total_cmp);
        for span in cuts.windows(2) {
            let (length, mid) = (span[1] - span[0], 0.5 * (span[0] + span[1]));
            let guess = estimate
                .iter()
                .find(|e| e.start <= mid && mid < e.end)
                .map_or(Some(ChordShape::NONE), |e| ChordShape::parse(&e.label));
            let verdicts = match guess {
                Some(guess) => truth.compare(guess),
                None => truth.compare(ChordShape::NONE).map(|v| v.map(|_| false)),
            };
            for (k, verdict) in verdicts.into_iter().enumerate() {
                if let Some(ok) = verdict {
                    total[k] += length;
                    right[k] += if ok { length } else { 0.0 };
                }
            }
        }
    }
    let share = |k: usize| {
        if total[k] > 0.0 {
            right[k] / total[k]
        } else {
            0.0
        }
    };
    ChordScores {
        root: share(0),
        majmin: share(1),
        sevenths: share(2),
    }
}

/// A chord label's root and the intervals above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ChordShape {
    /// None for `N`.
    root: Option<u8>,
    /// Bit i: the note i semitones above the root sounds.
    mask: u16,
}

impl ChordShape {
    const NONE: Self = Self {
        root: None,
        mask: 0,
    };

    /// Harte syntax without the bass note; degrees in brackets beyond the octave don't matter here.
    /// None where the label is `X` or unknown.
    fn parse(label: &str) -> Option<Self> {
        let body = label.split('/').next().unwrap_or("");
        if body == "N" {
            return Some(Self::NONE);
        }
        let (root_name, quality) = body.split_once(':').unwrap_or((body, "maj"));
        let mut chars = root_name.chars();
        let natural = chars.next()?.to_string();
        let mut root = PITCH_CLASSES.iter().position(|&n| n == natural)? as i32;
        for accidental in chars {
            root += match accidental {
                '#' => 1,
                'b' => -1,
                _ => return None,
            };
        }
        let (name, degrees) = match quality.split_once('(') {
            Some((name, rest)) => (name, rest.trim_end_matches(')')),
            None => (quality, ""),
        };
        let mut mask = quality_mask(if name.is_empty() { "maj" } else { name })?;
        for degree in degrees.split(',') {
            match degree {
                "b7" => mask |= 1 << 10,
                "7" => mask |= 1 << 11,
                "6" => mask |= 1 << 9,
                "*3" => mask &= !(1 << 4 | 1 << 3),
                "*5" => mask &= !(1 << 7),
                _ => {}
            }
        }
        Some(Self {
            root: Some(root.rem_euclid(12) as u8),
            mask,
        })
    }

    /// Root, majmin, sevenths verdicts; None where the reference is outside the measure's vocabulary.
    fn compare(self, guess: Self) -> [Option<bool>; 3] {
        let Some(_) = self.root else {
            let none = guess.root.is_none();
            return [Some(none), Some(none), Some(none)];
        };
        let root = self.root == guess.root;
        let low = self.mask & 0xFF;
        let triads = [quality_mask("maj"), quality_mask("min")].map(|m| m.unwrap_or(0) & 0xFF);
        let majmin = triads
            .contains(&low)
            .then_some(root && guess.mask & 0xFF == low);
        let sevenths = ["maj", "min", "7", "maj7", "min7"]
            .into_iter()
            .any(|q| quality_mask(q) == Some(self.mask))
            .then_some(root && guess.mask == self.mask);
        [Some(root), majmin, sevenths]
    }
}

/// Intervals of a Harte shorthand as bits above the root.
fn quality_mask(name: &str) -> Option<u16> {
    let notes: &[u8] = match name {
        "maj" => &[0, 4, 7],
        "min" => &[0, 3, 7],
        "5" => &[0, 7],
        "1" => &[0],
        "dim" => &[0, 3, 6],
        "aug" => &[0, 4, 8],
        "sus2" => &[0, 2, 7],
        "sus4" => &[0, 5, 7],
        "7" | "9" | "11" | "13" => &[0, 4, 7, 10],
        "maj7" | "maj9" => &[0, 4, 7, 11],
        "min7" | "min9" | "min11" => &[0, 3, 7, 10],
        "minmaj7" => &[0, 3, 7, 11],
        "maj6" => &[0, 4, 7, 9],
        "min6" => &[0, 3, 7, 9],
        "dim7" => &[0, 3, 6, 9],
        "hdim7" => &[0, 3, 6, 10],
        _ => return None,
    };
    Some(notes.iter().fold(0, |mask, &n| mask | 1 << n))
}

/// Share of the reference's voiced frames (Hz above 0) in which `estimate` is within `cents`, whether it
/// calls the frame voiced or not (raw pitch accuracy). Missing estimate frames count as wrong.
pub fn raw_pitch_accuracy(reference_hz: &[f32], estimate_hz: &[f32], cents: f64) -> f64 {
    let voiced = reference_hz.iter().filter(|&&r| r > 0.0).count();
    let right = reference_hz
        .iter()
        .zip(estimate_hz)
        .filter(|&(&r, &e)| same_pitch(r, e, cents))
        .count();
    if voiced == 0 {
        0.0
    } else {
        right as f64 / voiced as f64
    }
}

/// Share of all frames with the right pitch where voiced and no pitch where unvoiced (overall accuracy).
pub fn overall_pitch_accuracy(reference_hz: &[f32], estimate_hz: &[f32], cents: f64) -> f64 {
    if reference_hz.is_empty() {
        return 0.0;
    }
    let right = reference_hz
        .iter()
        .enumerate()
        .filter(|&(i, &r)| {
            let e = estimate_hz.get(i).copied().unwrap_or(0.0);
            same_pitch(r, e, cents) || (r <= 0.0 && e <= 0.0)
        })
        .count();
    right as f64 / reference_hz.len() as f64
}

fn same_pitch(reference: f32, estimate: f32, cents: f64) -> bool {
    reference > 0.0
        && estimate > 0.0
        && (1200.0 * (f64::from(estimate) / f64::from(reference)).log2()).abs() <= cents
}

/// F-measure of notes, a pair counting when onsets are within `onset_seconds` and pitches within `cents`
/// (mir_eval's transcription measure without offsets; largest bipartite matching). The usual limits are
/// 0.05 s and 50 cents.
pub fn note_f(reference: &[Note], estimate: &[Note], onset_seconds: f64, cents: f64) -> f64 {
    let candidates: Vec<Vec<usize>> = reference
        .iter()
        .map(|r| {
            (0..estimate.len())
                .filter(|&j| {
                    let e = &estimate[j];
                    (e.t - r.t).abs() <= onset_seconds + 1e-9
                        && f64::from((e.midi - r.midi).abs()) * 100.0 <= cents + 1e-4
                })
                .collect()
        })
        .collect();
    let mut owner: Vec<Option<usize>> = vec![None; estimate.len()];
    let hits = (0..reference.len())
        .filter(|&i| augment(i, &candidates, &mut owner, &mut vec![false; estimate.len()]))
        .count();
    f_measure(hits, reference.len(), estimate.len())
}

/// Kuhn's augmenting path: finds `i` a partner, moving earlier pairs if need be.
fn augment(
    i: usize,
    candidates: &[Vec<usize>],
    owner: &mut [Option<usize>],
    seen: &mut [bool],
) -> bool {
    for &j in &candidates[i] {
        if seen[j] {
            continue;
        }
        seen[j] = true;
        if owner[j].is_none_or(|other| augment(other, candidates, owner, seen)) {
            owner[j] = Some(i);
            return true;
        }
    }
    false
}

fn f_measure(hits: usize, reference: usize, estimate: usize) -> f64 {
    if reference + estimate == 0 {
        return 1.0;
    }
    2.0 * hits as f64 / (reference + estimate) as f64
}
