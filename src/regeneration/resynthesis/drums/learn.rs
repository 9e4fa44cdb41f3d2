// [worker] Learns each class's sound: one-shots cut from the cleanest hits, freed from their neighbours.

use super::{
    super::{
        Scene, check,
        filter::{add_delayed, match_lag},
        overdrive::quantile,
        spectra::Spectra,
    },
    Hit, Voice, band_of,
    hits::Bands,
    length_seconds,
};
use crate::{profile::DrumClass, regeneration::RegenerationError, worker::progress::Progress};
use realfft::num_complex::Complex32;

/// Frames before the onset in a pattern: the ones whose window reaches past the onset.
const PRE_FRAMES: usize = 2;
/// Hits a class is learned from, and kept as voices.
const MOST_DONORS: usize = 16;
const MOST_VOICES: usize = 8;
/// A hit damaged more than this is no donor.
const DONOR_SEVERITY: f32 = 0.5;
/// Rounds of telling the classes apart; the masks barely move after the third.
const ROUNDS: usize = 4;
/// Bands of the learned error, octaves from 62 Hz.
const ERROR_BANDS: usize = 9;
/// Error of a voice, as a share of its power, where only one hit is known and nothing can be compared.
const LONE_ERROR: f32 = 0.6;

/// A hit that a class is learned from.
struct Donor {
    /// Index into all hits.
    index: usize,
    /// Frames from the pattern's start that are undamaged and inside the stem.
    valid: usize,
    gain: f32,
    /// Spectra, `frames × bins`.
    spectra: Vec<Complex32>,
}

/// A class's mean power over time since onset, `frames × bins`, for gain 1.
struct Pattern {
    power: Vec<f32>,
    frames: usize,
    donors: Vec<Donor>,
}

/// One-shots a class, best first; empty where no hit of the class is clean enough.
pub(super) fn learn(
    scene: &Scene,
    bands: &Bands,
    spectra: &mut Spectra,
    all: &[Hit],
    progress: &Progress,
) -> Result<[Vec<Voice>; DrumClass::COUNT], RegenerationError> {
    let gains = gains(scene, bands, all);
    let mut patterns: Vec<Pattern> = Vec::with_capacity(DrumClass::COUNT);
    for class in DrumClass::ALL {
        check(progress)?;
        patterns.push(gather(scene, spectra, all, &gains, class));
    }
    let bins = spectra.bins();
    let hop = spectra.hop as f64;
    for _ in 0..ROUNDS {
        let mut next = Vec::with_capacity(patterns.len());
        for pattern in &patterns {
            check(progress)?;
            next.push(unmix(pattern, &patterns, all, &gains, bins, hop));
        }
        for (pattern, power) in patterns.iter_mut().zip(next) {
            pattern.power = power;
        }
    }
    let mut voices: [Vec<Voice>; DrumClass::COUNT] = Default::default();
    for class in DrumClass::ALL {
        check(progress)?;
        let pattern = &patterns[class as usize];
        let own = &mut voices[class as usize];
        for donor in pattern.donors.iter().take(MOST_VOICES) {
            own.push(cut(
                scene, spectra, donor, pattern, &patterns, all, &gains, hop,
            ));
        }
        doubt(spectra, scene.rate, own);
    }
    Ok(voices)
}

/// Loudness of every hit in its class's band relative to the class's median. A neighbour's sound in
/// the band raises it, so the loudest fifth is held down.
fn gains(scene: &Scene, bands: &Bands, all: &[Hit]) -> Vec<f32> {
    let mut gains: Vec<f32> = all
        .iter()
        .map(|h| bands.after(band_of(h.class), h.at, 0.05).sqrt() as f32)
        .collect();
    for class in DrumClass::ALL {
        let pick = |clean: bool| -> Vec<f32> {
            all.iter()
                .zip(&gains)
                .filter(|(h, _)| h.class == class)
                .filter(|(h, _)| {
                    !clean || scene.severity_over(h.at, h.at + 0.05 * scene.rate) < DONOR_SEVERITY
                })
                .map(|(_, &g)| g)
                .collect()
        };
        let mut levels = pick(true);
        if levels.is_empty() {
            levels = pick(false);
        }
        let median = quantile(&mut levels, 0.5).max(1e-6);
        let top = quantile(&mut levels, 0.8).max(median);
        for (h, g) in all.iter().zip(gains.iter_mut()) {
            if h.class == class {
                *g = (g.min(top) / median).max(0.05);
            }
        }
    }
    gains
}

/// Chooses a class's donors and takes their spectra; the first pattern is a low quantile over the
/// donors, which drops what only some of them have (their neighbours).
fn gather(
    scene: &Scene,
    spectra: &mut Spectra,
    all: &[Hit],
    gains: &[f32],
    class: DrumClass,
) -> Pattern {
    let (hop, n, bins) = (spectra.hop, spectra.n, spectra.bins());
    let frames = PRE_FRAMES + (length_seconds(class) * scene.rate / hop as f64).ceil() as usize;
    let ms = scene.rate / 1000.0;
    let mut ranked: Vec<(f64, usize)> = Vec::new();
    for (i, h) in all.iter().enumerate() {
        if h.class != class {
            continue;
        }
        let severity = scene.severity_over(h.at - 5.0 * ms, h.at + 100.0 * ms);
        if severity >= DONOR_SEVERITY {
            continue;
        }
        // Neighbours on top of it or soon after it make a hit harder to cut out.
        let crowd: f64 = near(all, i, -60.0 * ms, length_seconds(class) * scene.rate)
            .map(|j| {
                let after = (all[j].at - h.at) / ms;
                if after < 40.0 {
                    0.3
                } else {
                    0.1 * (1.0 - after / 2000.0).max(0.0)
                }
            })
            .sum();
        let quiet = f64::from((0.3 - gains[i]).max(0.0));
        ranked.push((f64::from(severity) + 0.3 * crowd + quiet, i));
    }
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    ranked.truncate(MOST_DONORS);
    let mut donors = Vec::with_capacity(ranked.len());
    for (_, index) in ranked {
        let onset = all[index].at.round() as i64;
        let mut own = vec![Complex32::default(); frames * bins];
        let mut valid = 0;
        for (f, row) in own.chunks_exact_mut(bins).enumerate() {
            let start = onset + (f as i64 - PRE_FRAMES as i64) * hop as i64 - n as i64 / 2;
            let end = start + n as i64;
            if f > PRE_FRAMES
                && (end > scene.x.len() as i64
                    || scene.severity_near(start + 3 * n as i64 / 4) >= DONOR_SEVERITY)
            {
                break;
            }
            spectra.analyse(&scene.x, start, row);
            valid = f + 1;
        }
        donors.push(Donor {
            index,
            valid,
            gain: gains[index],
            spectra: own,
        });
    }
    let mut power = vec![0.0f32; frames * bins];
    let mut column = Vec::with_capacity(donors.len());
    for (i, p) in power.iter_mut().enumerate() {
        column.clear();
        column.extend(
            donors
                .iter()
                .filter(|d| i / bins < d.valid)
                .map(|d| d.spectra[i].norm_sqr() / (d.gain * d.gain)),
        );
        *p = quantile(&mut column, 0.3);
    }
    Pattern {
        power,
        frames,
        donors,
    }
}

/// Indices of the other hits from `before` (negative) to `after` samples around hit `i`.
fn near(all: &[Hit], i: usize, before: f64, after: f64) -> impl Iterator<Item = usize> + '_ {
    let at = all[i].at;
    let first = all.partition_point(|h| h.at < at + before);
    (first..all.len())
        .take_while(move |&j| all[j].at <= at + after)
        .filter(move |&j| j != i)
}

/// What the neighbours of a donor are expected to add to each of its bins.
fn neighbours(
    donor: &Donor,
    frames: usize,
    patterns: &[Pattern],
    all: &[Hit],
    gains: &[f32],
    bins: usize,
    hop: f64,
) -> Vec<f32> {
    let mut sum = vec![0.0f32; frames * bins];
    let longest = patterns.iter().map(|p| p.frames).max().unwrap_or(0) as f64 * hop;
    for j in near(all, donor.index, -longest, frames as f64 * hop) {
        let other = &patterns[all[j].class as usize];
        if other.donors.is_empty() {
            continue;
        }
        let square = gains[j] * gains[j];
        let offset = (all[donor.index].at.round() - all[j].at) / hop;
        for (f, row) in sum.chunks_exact_mut(bins).take(donor.valid).enumerate() {
            let position = f as f64 + offset;
            if position < 0.0 {
                continue;
            }
            let whole = position as usize;
            if whole + 1 >= other.frames {
                break;
            }
            let part = (position - whole as f64) as f32;
            let a = &other.power[whole * bins..(whole + 1) * bins];
            let b = &other.power[(whole + 1) * bins..(whole + 2) * bins];
            for ((s, a), b) in row.iter_mut().zip(a).zip(b) {
                *s += square * (a + part * (b - a));
            }
        }
    }
    sum
}

/// A new pattern: the donors' power, each bin's share by the pattern's claim against its neighbours'.
fn unmix(
    pattern: &Pattern,
    patterns: &[Pattern],
    all: &[Hit],
    gains: &[f32],
    bins: usize,
    hop: f64,
) -> Vec<f32> {
    let mut sum = vec![0.0f32; pattern.power.len()];
    let mut weight = vec![0.0f32; pattern.frames];
    for donor in &pattern.donors {
        let others = neighbours(donor, pattern.frames, patterns, all, gains, bins, hop);
        let square = donor.gain * donor.gain;
        for w in weight.iter_mut().take(donor.valid) {
            *w += square;
        }
        for i in 0..donor.valid * bins {
            let own = square * pattern.power[i];
            let share = own / (own + others[i] + 1e-12);
            sum[i] += share * donor.spectra[i].norm_sqr();
        }
    }
    for (row, &w) in sum.chunks_exact_mut(bins).zip(&weight) {
        if w > 0.0 {
            for v in row {
                *v /= w;
            }
        }
    }
    sum
}

/// Cuts a donor out of the stem with a Wiener mask of its pattern against its neighbours.
#[expect(clippy::too_many_arguments, reason = "one call, plain data")]
fn cut(
    scene: &Scene,
    spectra: &mut Spectra,
    donor: &Donor,
    pattern: &Pattern,
    patterns: &[Pattern],
    all: &[Hit],
    gains: &[f32],
    hop: f64,
) -> Voice {
    let bins = spectra.bins();
    let others = neighbours(donor, pattern.frames, patterns, all, gains, bins, hop);
    let square = donor.gain * donor.gain;
    let pre = (0.010 * scene.rate) as usize;
    let len = pre + (donor.valid.saturating_sub(PRE_FRAMES)) * spectra.hop;
    let mut audio = vec![0.0f32; len];
    let mut row = vec![Complex32::default(); bins];
    for f in 0..donor.valid {
        for (b, r) in row.iter_mut().enumerate() {
            let i = f * bins + b;
            let own = square * pattern.power[i];
            *r = donor.spectra[i] * (own / (own + others[i] + 1e-12));
        }
        let start =
            pre as i64 + (f as i64 - PRE_FRAMES as i64) * spectra.hop as i64 - spectra.n as i64 / 2;
        spectra.add(&row, start, &mut audio);
    }
    shape(&mut audio, pre);
    Voice {
        doubt: Vec::new(),
        audio,
        pre,
        velocity: all[donor.index].velocity,
    }
}

/// Fades a one-shot in before its onset and out over its last fifth.
pub(super) fn shape(audio: &mut [f32], pre: usize) {
    let rise = (pre / 2).max(1);
    for (i, v) in audio.iter_mut().take(rise).enumerate() {
        *v *= 0.5 - 0.5 * (std::f32::consts::PI * i as f32 / rise as f32).cos();
    }
    let tail = (audio.len().saturating_sub(pre) / 5).max(1);
    let len = audio.len();
    for (i, v) in audio.iter_mut().rev().take(tail.min(len)).enumerate() {
        *v *= 0.5 - 0.5 * (std::f32::consts::PI * i as f32 / tail as f32).cos();
    }
}

/// Measures how well a class's voices stand in for each other, by octave, and writes each voice's doubt:
/// its own sound scaled to the expected error.
fn doubt(spectra: &mut Spectra, rate: f64, voices: &mut [Voice]) {
    let bins = spectra.bins();
    let band = |bin: usize| -> usize {
        let hz = bin as f64 * rate / spectra.n as f64;
        ((hz / 62.5).max(1.0).log2() as usize).min(ERROR_BANDS - 1)
    };
    let bands: Vec<usize> = (0..bins).map(band).collect();
    let head = |v: &Voice| (v.pre + (0.06 * rate) as usize).min(v.audio.len());
    let mut errors: Vec<Vec<f32>> = vec![Vec::new(); ERROR_BANDS];
    for (i, voice) in voices.iter().enumerate() {
        let mut best: Option<(f32, Vec<f32>)> = None;
        for (j, other) in voices.iter().enumerate() {
            if i == j {
                continue;
            }
            let pattern = &other.audio[..head(other)];
            let at = voice.pre as i64 - other.pre as i64;
            let reach = (0.002 * rate) as i64;
            let Some((at, ncc)) = match_lag(&voice.audio, pattern, at, reach, false) else {
                continue;
            };
            if best.as_ref().is_some_and(|b| b.0 >= ncc) {
                continue;
            }
            let mut stand_in = vec![0.0; voice.audio.len()];
            add_delayed(&other.audio, at, 1.0, &mut stand_in);
            let to = head(voice);
            let dot: f32 = voice.audio[..to]
                .iter()
                .zip(&stand_in)
                .map(|(a, b)| a * b)
                .sum();
            let own: f32 = stand_in[..to].iter().map(|b| b * b).sum();
            let power: f32 = voice.audio[..to].iter().map(|a| a * a).sum();
            // Noise has no projection on other noise: its level is matched instead.
            let gain = if ncc > 0.5 {
                dot / own.max(1e-12)
            } else {
                (power / own.max(1e-12)).sqrt()
            };
            for s in &mut stand_in {
                *s *= gain;
            }
            best = Some((ncc, stand_in));
        }
        let Some((_, stand_in)) = best else { continue };
        let mut wrong = [0.0f32; ERROR_BANDS];
        let mut own = [1e-9f32; ERROR_BANDS];
        let (mut a, mut b) = (
            vec![Complex32::default(); bins],
            vec![Complex32::default(); bins],
        );
        for start in spectra.starts(voice.audio.len()) {
            spectra.analyse(&voice.audio, start, &mut a);
            spectra.analyse(&stand_in, start, &mut b);
            for (k, (a, b)) in a.iter().zip(&b).enumerate() {
                wrong[bands[k]] += (a - b).norm_sqr();
                own[bands[k]] += a.norm_sqr();
            }
        }
        for k in 0..ERROR_BANDS {
            errors[k].push((wrong[k] / own[k]).clamp(0.01, 2.0));
        }
    }
    let share: Vec<f32> = errors
        .iter_mut()
        .map(|e| {
            if e.is_empty() {
                LONE_ERROR
            } else {
                quantile(e, 0.5)
            }
        })
        .map(f32::sqrt)
        .collect();
    let mut row = vec![Complex32::default(); bins];
    for voice in voices {
        let mut doubt = vec![0.0; voice.audio.len()];
        for start in spectra.starts(voice.audio.len()) {
            spectra.analyse(&voice.audio, start, &mut row);
            for (r, &b) in row.iter_mut().zip(&bands) {
                *r *= share[b];
            }
            spectra.add(&row, start, &mut doubt);
        }
        voice.doubt = doubt;
    }
}
