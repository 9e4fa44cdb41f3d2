// [worker] The lead's pitch and whether it sounds, weighed by where its partials lie and by the whole song.
//
// What a network hears of a pitch shouldn't depend on which pitch it is, but one that learns every note by itself knows
// those best that it heard often, and takes a low voice for one an octave higher. Here one small network looks at each
// candidate's partials (and at those that only a lower octave would have) the same way (as in "deep salience" by
// Bittner et al., ISMIR 2017, with the harmonics as channels); a second one weighs whether a lead sounds at all, from up to a second around.
// `models/training/profile/weigh.py lead` makes the same features.

use super::{LEAD, LEAD_LOWEST, LEAD_NOTES, Net, sigmoid};
use crate::dense::act::softmax;

/// Semitones from MIDI 21 whose levels are kept.
pub(super) const SEMITONES: usize = 84;
const LOWEST: usize = 21;
/// Bins of the short window a semitone.
const THIRDS: usize = 3;
/// Semitones from a candidate to partials of it and of its rivals.
const PARTIALS: [i64; 19] = [
    -24, -19, -12, -7, -5, -1, 0, 1, 5, 7, 12, 16, 19, 22, 24, 28, 31, 34, 36,
];
/// Candidates that a candidate is compared with, semitones.
const RIVALS: [i64; 5] = [-19, -12, 0, 12, 19];
/// What a candidate is described by.
pub(super) const PITCH_INPUTS: usize = 2 * (PARTIALS.len() + 1) + 2 * (RIVALS.len() + 1) + 3 + 1;
/// What a frame is described by: by itself, and its mean over these many frames to each side.
const AROUND: [usize; 3] = [4, 15, 50];
const OWN: usize = 8;
pub(super) const VOICE_INPUTS: usize = OWN * (1 + AROUND.len());
/// Share of the lead's own stem where the song's register is taken from, and reach of the register, semitones.
const STEM: f32 = 0.6;
const REGISTER: usize = 3;
const REGISTER_SCALE: f32 = 3.0;
/// Smallest probability of a logarithm, and what scales it.
const LEAST: f32 = 1e-4;
const ODDS_SCALE: f32 = 0.2;
/// Share of the network for voicing in the log odds that a lead sounds, beside the mean of what the ears say, and what is
/// added to them. Chosen on generated songs with other sounds than the trained ones, for pitch and overall together.
const VOICE_SHARE: f32 = 0.7;
const LEANING: f32 = 1.0;
/// Frames that are described at once.
const CHUNK: usize = 250;

/// What one ear keeps of the spectrum, a 50th of a second each.
#[derive(Default)]
pub(in super::super) struct Partials {
    /// `[frame][SEMITONES]`, the loudest third of a semitone, in 128ths.
    levels: Vec<u8>,
    /// Mean of the frame.
    mean: Vec<f32>,
}

impl Partials {
    const SCALE: f32 = 128.0;

    /// Appends a frame; `bins` from 27.5 Hz, [`THIRDS`] a semitone, as [`super::features::pitched`] has them first.
    pub fn push(&mut self, bins: &[f32]) {
        let bins = &bins[..SEMITONES * THIRDS];
        self.levels.extend((0..SEMITONES).map(|s| {
            let at = s * THIRDS;
            let near = &bins[at.saturating_sub(1)..at + 2];
            (near.iter().copied().fold(0.0, f32::max) * Self::SCALE) as u8
        }));
        self.mean.push(bins.iter().sum::<f32>() / bins.len() as f32);
    }

    fn row(&self, t: usize) -> [f32; SEMITONES] {
        let row = &self.levels[t * SEMITONES..][..SEMITONES];
        std::array::from_fn(|s| f32::from(row[s]) / Self::SCALE)
    }
}

/// One ear's opinion of the lead: `classes` as `[frame][LEAD]`, summing to 1.
#[derive(Clone, Copy)]
pub(super) struct Ear<'a> {
    pub classes: &'a [f32],
    pub partials: &'a Partials,
}

/// `[frame][LEAD]`, summing to 1, from what is heard of the mix and of the lead's stem.
pub(super) fn weigh(pitch: &Net, voice: &Net, mix: Ear, own: Ear) -> Vec<f32> {
    let frames = [mix, own].map(|ear| (ear.classes.len() / LEAD).min(ear.partials.mean.len()));
    let frames = frames[0].min(frames[1]);
    let register = register(mix, own, frames);
    let voiced = voice.run(&describe_frames(mix, own, frames));
    let mut out = Vec::with_capacity(frames * LEAD);
    let mut rows = Vec::with_capacity(CHUNK * LEAD_NOTES * PITCH_INPUTS);
    for from in (0..frames).step_by(CHUNK) {
        let to = (from + CHUNK).min(frames);
        rows.clear();
        for t in from..to {
            describe_pitches(mix, own, t, &register, &mut rows);
        }
        let mut told = pitch.run(&rows);
        for (row, t) in told.chunks_exact_mut(LEAD_NOTES).zip(from..) {
            softmax(row);
            let none = |ear: Ear| ear.classes[t * LEAD + LEAD_NOTES];
            let heard = 1.0 - (1.0 - STEM) * none(mix) - STEM * none(own);
            let heard = heard.clamp(1e-3, 1.0 - 1e-3);
            let told = voiced[t].clamp(-6.9, 6.9);
            let heard = (heard / (1.0 - heard)).ln();
            let sounds = sigmoid(VOICE_SHARE * told + (1.0 - VOICE_SHARE) * heard + LEANING);
            out.extend(row.iter().map(|p| p * sounds));
            out.push(1.0 - sounds);
        }
    }
    out
}

fn log(p: f32) -> f32 {
    p.clamp(LEAST, 1.0 - LEAST).ln() * ODDS_SCALE
}

/// How much of the lead lies near each class, over the whole song.
fn register(mix: Ear, own: Ear, frames: usize) -> [f32; LEAD_NOTES] {
    let mut sums = [0.0f64; LEAD_NOTES];
    for t in 0..frames {
        for (k, sum) in sums.iter_mut().enumerate() {
            let p = |ear: Ear| ear.classes[t * LEAD + k];
            *sum += f64::from((1.0 - STEM) * p(mix) + STEM * p(own));
        }
    }
    let total = sums.iter().sum::<f64>().max(1e-6);
    std::array::from_fn(|k| {
        let near = k.saturating_sub(REGISTER)..(k + REGISTER + 1).min(LEAD_NOTES);
        (sums[near].iter().sum::<f64>() / total) as f32 / REGISTER_SCALE
    })
}

/// Appends `[class][PITCH_INPUTS]` of a frame.
fn describe_pitches(
    mix: Ear,
    own: Ear,
    t: usize,
    register: &[f32; LEAD_NOTES],
    out: &mut Vec<f32>,
) {
    let ears = [mix, own];
    let levels = ears.map(|ear| ear.partials.row(t));
    let classes = ears.map(|ear| &ear.classes[t * LEAD..][..LEAD]);
    let tops = levels.map(|l| l.iter().copied().fold(0.0, f32::max));
    let at = |values: &[f32], k: i64| usize::try_from(k).ok().and_then(|k| values.get(k).copied());
    for k in 0..LEAD_NOTES as i64 {
        let semitone = k + (LEAD_LOWEST - LOWEST) as i64;
        for (levels, top) in levels.iter().zip(tops) {
            out.extend(PARTIALS.map(|o| at(levels, semitone + o).unwrap_or(0.0)));
            out.push(top);
        }
        for classes in classes {
            let notes = &classes[..LEAD_NOTES];
            out.extend(RIVALS.map(|o| log(at(notes, k + o).unwrap_or(0.0))));
            out.push(log(classes[LEAD_NOTES]));
        }
        out.extend([-12, 0, 12].map(|o| at(register, k + o).unwrap_or(0.0)));
        out.push((k - 24) as f32 / 24.0);
    }
}

/// `[frame][VOICE_INPUTS]`.
fn describe_frames(mix: Ear, own: Ear, frames: usize) -> Vec<f32> {
    let rows: Vec<[f32; OWN]> = (0..frames)
        .map(|t| {
            let (a, b) = (
                &mix.classes[t * LEAD..][..LEAD],
                &own.classes[t * LEAD..][..LEAD],
            );
            let top = |row: &[f32]| row[..LEAD_NOTES].iter().copied().fold(0.0, f32::max);
            let common: f32 = a[..LEAD_NOTES].iter().zip(b).map(|(a, b)| a * b).sum();
            [
                log(a[LEAD_NOTES]),
                log(1.0 - a[LEAD_NOTES]),
                log(b[LEAD_NOTES]),
                log(1.0 - b[LEAD_NOTES]),
                top(a),
                top(b),
                common.sqrt(),
                own.partials.mean[t],
            ]
        })
        .collect();
    let mut sums = vec![[0.0f64; OWN]];
    for row in &rows {
        let last = sums[sums.len() - 1];
        sums.push(std::array::from_fn(|k| last[k] + f64::from(row[k])));
    }
    let mut out = Vec::with_capacity(frames * VOICE_INPUTS);
    for (t, row) in rows.iter().enumerate() {
        out.extend_from_slice(row);
        for reach in AROUND {
            let (from, to) = (t.saturating_sub(reach), (t + reach + 1).min(frames));
            let mean = |k: usize| (sums[to][k] - sums[from][k]) / (to - from) as f64;
            out.extend((0..OWN).map(|k| mean(k) as f32));
        }
    }
    out
}
