// [worker] The key: pitch-class profiles fused with what the chords say.

use super::{
    Chord, Estimate, Key, Mode, PITCH_CLASSES,
    chroma::{CHROMA_FPS, Notes, bass_weight, fold, treble_weight},
};

/// Key profiles, major then minor, tonic first: Albrecht & Shanahan 2013 (common-practice works), and
/// Faraldo et al. 2016/2017 (edma, bgate: electronic dance music) as published with Essentia.
const PROFILES: [[[f64; 12]; 2]; 3] = [
    [
        [
            0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081,
        ],
        [
            0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052,
        ],
    ],
    [
        [
            0.1652, 0.0475, 0.0829, 0.0669, 0.0999, 0.0927, 0.0529, 0.1316, 0.0522, 0.0744, 0.0694,
            0.0643,
        ],
        [
            0.1724, 0.0534, 0.0761, 0.1004, 0.0562, 0.0853, 0.0498, 0.1345, 0.0746, 0.0500, 0.0919,
            0.0555,
        ],
    ],
    [
        [
            1.00, 0.00, 0.42, 0.00, 0.53, 0.37, 0.00, 0.77, 0.00, 0.38, 0.21, 0.30,
        ],
        [
            1.00, 0.00, 0.36, 0.39, 0.00, 0.38, 0.00, 0.74, 0.27, 0.00, 0.42, 0.23,
        ],
    ],
];

/// Contrast of the pitch classes below which nothing is in a key, and from which on it surely may be.
const ATONAL: f64 = 0.12;
const TONAL: f64 = 0.3;
/// Weight of the chords' evidence for a tonic against the profiles' correlation.
const CHORD_WEIGHT: f64 = 0.5;

/// Mean share of each pitch class, treble and half the bass.
fn mean_chroma(notes: &Notes) -> [f64; 12] {
    let mut chroma = [0.0; 12];
    for i in 0..notes.frames() {
        let norm = |c: [f32; 12]| {
            let sum: f32 = c.iter().sum::<f32>().max(1e-9);
            c.map(|x| f64::from(x / sum))
        };
        let treble = norm(fold(notes.frame(i), treble_weight));
        let bass = norm(fold(notes.frame(i), bass_weight));
        for ((c, t), b) in chroma.iter_mut().zip(treble).zip(bass) {
            *c += t + 0.5 * b;
        }
    }
    chroma
}

/// Music of this length can be sure of its key.
const SURE_SECONDS: f64 = 15.0;

/// Deviation of the pitch classes over their mean: about 0.5 for music in a key, below 0.1 for noise.
fn contrast(chroma: &[f64; 12]) -> f64 {
    let mean = chroma.iter().sum::<f64>() / 12.0;
    let variance = chroma.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / 12.0;
    if mean > 0.0 {
        variance.sqrt() / mean
    } else {
        0.0
    }
}

/// Scores of the 24 keys from the notes alone: mean correlation with the profiles.
pub(super) fn profile_scores(notes: &Notes) -> [f64; 24] {
    let chroma = mean_chroma(notes);
    let mut scores = [0.0; 24];
    for (k, score) in scores.iter_mut().enumerate() {
        let (tonic, mode) = (k % 12, k / 12);
        *score = PROFILES
            .iter()
            .map(|pair| {
                let turned: [f64; 12] =
                    std::array::from_fn(|pc| pair[mode][(pc + 12 - tonic) % 12]);
                correlation(&chroma, &turned)
            })
            .sum::<f64>()
            / PROFILES.len() as f64;
    }
    scores
}

/// The key from notes and chords; None where nothing tonal sounds.
pub(super) fn estimate(notes: &Notes, chords: &[Chord]) -> Option<Estimate<Key>> {
    let mut scores = profile_scores(notes);
    let tonics = chord_evidence(chords);
    for (score, tonic) in scores.iter_mut().zip(tonics) {
        *score += CHORD_WEIGHT * tonic;
    }
    let best = (0..24).max_by(|&a, &b| scores[a].total_cmp(&scores[b]))?;
    let runner_up = (0..24)
        .filter(|&k| k != best)
        .map(|k| scores[k])
        .fold(f64::MIN, f64::max);
    let contrast = contrast(&mean_chroma(notes));
    if scores[best] < 0.2 || contrast < ATONAL {
        return None;
    }
    let margin = scores[best] - runner_up;
    // A few seconds hardly have a key: a tonic needs its other chords.
    let long = (notes.frames() as f64 / CHROMA_FPS / SURE_SECONDS).min(1.0);
    let tonal = ((contrast - ATONAL) / (TONAL - ATONAL)).clamp(0.0, 1.0);
    Some(Estimate {
        value: Key {
            tonic: (best % 12) as u8,
            mode: if best < 12 { Mode::Major } else { Mode::Minor },
        },
        confidence: (long * tonal * (0.5 + 4.0 * margin) * scores[best].clamp(0.0, 1.0))
            .clamp(0.0, 1.0) as f32,
    })
}

/// What the chords say for each key, roughly −0.5..=1: how much of the time they are of the key, and how
/// much of it is its tonic chord; songs begin and, still more, end at home.
fn chord_evidence(chords: &[Chord]) -> [f64; 24] {
    let mut fits = [0.0f64; 24];
    let sounding: Vec<(&Chord, u8, bool)> = chords
        .iter()
        .filter_map(|c| parse(&c.label).map(|(root, minor)| (c, root, minor)))
        .collect();
    let total: f64 = sounding.iter().map(|(c, ..)| c.end - c.start).sum();
    if total <= 0.0 {
        return fits;
    }
    // A few chords are hardly a whole song.
    let whole = (sounding.len() as f64 / 8.0).min(1.0);
    let ended = ((sounding.len() as f64 - 6.0) / 6.0).clamp(0.0, 1.0);
    for (k, fit) in fits.iter_mut().enumerate() {
        let (tonic, minor_key) = ((k % 12) as u8, k >= 12);
        for (i, &(chord, root, minor)) in sounding.iter().enumerate() {
            let share = whole * (chord.end - chord.start) / total;
            let degree = (root + 12 - tonic) % 12;
            let diatonic = match (minor_key, minor) {
                (false, false) => matches!(degree, 0 | 5 | 7),
                (false, true) => matches!(degree, 2 | 4 | 9),
                (true, false) => matches!(degree, 3 | 7 | 8 | 10),
                (true, true) => matches!(degree, 0 | 5 | 7),
            };
            let home = degree == 0 && minor == minor_key;
            *fit += share * if diatonic { 0.5 } else { -0.5 };
            if home {
                *fit += 0.4 * share;
                *fit += if i == 0 { 0.1 * ended } else { 0.0 };
                *fit += if i + 1 == sounding.len() {
                    0.2 * ended
                } else {
                    0.0
                };
            }
        }
    }
    fits
}

/// Root and whether the third is minor, of a label this module's chords write.
fn parse(label: &str) -> Option<(u8, bool)> {
    let (root, quality) = label.split_once(':')?;
    let root = PITCH_CLASSES.iter().position(|&n| n == root)?;
    let minor =
        quality.starts_with("min") || quality.starts_with("dim") || quality.starts_with("hdim");
    Some((root as u8, minor))
}

fn correlation(a: &[f64; 12], b: &[f64; 12]) -> f64 {
    let mean = |v: &[f64; 12]| v.iter().sum::<f64>() / 12.0;
    let (ma, mb) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        ab += (x - ma) * (y - mb);
        aa += (x - ma).powi(2);
        bb += (y - mb).powi(2);
    }
    if aa * bb <= 1e-18 {
        0.0
    } else {
        ab / (aa * bb).sqrt()
    }
}
