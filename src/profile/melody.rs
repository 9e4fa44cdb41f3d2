// [worker] The melody: harmonic salience (Salamon & Gómez 2012) and the smoothest path through it.

use super::{
    PitchTrack,
    bass::midi_of,
    spectra::{
        FPS, RATE, Source, Spectrum, for_frames, frame_count, hop, moving_mean, quantile, sections,
    },
};
use crate::{audio::AudioBuffer, worker::progress::Progress};

/// Window of 93 ms, zero-padded to twice its length.
const SIZE: usize = 2048;
const FFT_SIZE: usize = 4096;
/// Salience grid: MIDI 45 (110 Hz) to 88 (1319 Hz) in steps of 10 cents.
const LOWEST_MIDI: f64 = 45.0;
const BINS: usize = 431;
/// Harmonics of a candidate and the ratio of their weights (Salamon & Gómez: 20, 0.8).
const HARMONICS: usize = 16;
const DECAY: f32 = 0.8;
/// Magnitudes are compressed by this power, so that loud partials rule less.
const COMPRESSION: f32 = 0.7;
/// Partials above this don't help, Hz.
const TOP_HZ: f64 = 5500.0;
/// Peaks this far below the frame's loudest are noise (40 dB).
const PEAK_FLOOR: f32 = 0.01;
/// Prices on salience relative to the song's level: any jump, and a step of 10 cents.
const JUMP: f32 = 1.2;
const STEP: f32 = 0.02;
/// Widest glide in one frame, 10-cent steps.
const GLIDE: usize = 5;
/// Share of the path's mean salience below which the melody rests.
const VOICED: f32 = 0.45;

fn bin_hz(b: f64) -> f64 {
    440.0 * ((LOWEST_MIDI + b / 10.0 - 69.0) / 12.0).exp2()
}

/// Pitch of the melody every 10 ms. Frames it takes for a rest have confidence 0 and hz 0. None when cancelled.
///
/// `parts`: what to hear, with gains.
pub(super) fn track(parts: &[(&AudioBuffer, f32)], progress: &Progress) -> Option<PitchTrack> {
    let source = Source::new(parts, RATE);
    let frames = frame_count(&source, hop());
    let mut spectrum = Spectrum::new(SIZE, FFT_SIZE);
    let weights = loudness_weights();
    let bump = Bump::new();
    let mut salience = vec![0.0f32; BINS];
    let mut out = PitchTrack {
        hop_seconds: 1.0 / FPS,
        ..PitchTrack::default()
    };
    for (hear, keep) in sections(frames) {
        // Salience is kept as bytes relative to the frame's best, with the best beside it.
        let mut tops: Vec<f32> = Vec::with_capacity(hear.len());
        let mut shape: Vec<u8> = Vec::with_capacity(hear.len() * BINS);
        let range = hear.clone();
        let done = for_frames(&source, SIZE, hop(), range, progress, |_, frame| {
            spectrum.analyse(frame);
            salience_of(&spectrum.magnitudes, &weights, &bump, &mut salience);
            let top = salience.iter().copied().fold(0.0, f32::max);
            tops.push(top);
            let scale = if top > 1e-9 { 255.0 / top } else { 0.0 };
            shape.extend(salience.iter().map(|s| (s * scale) as u8));
        });
        if !done {
            return None;
        }
        let section = follow(&tops, &shape);
        let kept = keep.start - hear.start..keep.end - hear.start;
        out.hz.extend_from_slice(&section.hz[kept.clone()]);
        out.confidence.extend_from_slice(&section.confidence[kept]);
    }
    Some(out)
}

/// The bump that a partial adds to the salience, half a semitone (cos²) to each side, tabulated by where
/// it falls between two bins.
struct Bump([[f32; 11]; Self::PLACES + 1]);

impl Bump {
    const PLACES: usize = 16;

    fn new() -> Self {
        Self(std::array::from_fn(|p| {
            // −0.5..=0.5 of a bin off the centre
            let off = p as f64 / Self::PLACES as f64 - 0.5;
            std::array::from_fn(|d| {
                let x = (d as f64 - 5.0 - off) * std::f64::consts::PI / 10.0;
                x.cos().max(0.0).powi(2) as f32
            })
        }))
    }

    /// Adds it to `salience` around bin `place` (fractional).
    fn add(&self, salience: &mut [f32], place: f64, weight: f32) {
        let centre = place.round();
        let row = ((place - centre + 0.5) * Self::PLACES as f64).round() as usize;
        let first = centre as i64 - 5;
        for (d, b) in self.0[row.min(Self::PLACES)].iter().enumerate() {
            let at = usize::try_from(first + d as i64).ok();
            if let Some(s) = at.and_then(|b| salience.get_mut(b)) {
                *s += weight * b;
            }
        }
    }
}

/// Weight of each bin: roughly the ear's sensitivity (A-weighting), as Melodia's equal-loudness filter.
fn loudness_weights() -> Vec<f32> {
    (0..=FFT_SIZE / 2)
        .map(|k| {
            let f2 = (k as f64 * f64::from(RATE) / FFT_SIZE as f64).powi(2);
            let a = 12194f64.powi(2) * f2 * f2
                / ((f2 + 20.6f64.powi(2))
                    * ((f2 + 107.7f64.powi(2)) * (f2 + 737.9f64.powi(2))).sqrt()
                    * (f2 + 12194f64.powi(2)));
            a as f32
        })
        .collect()
}

fn salience_of(magnitudes: &[f32], weights: &[f32], bump: &Bump, salience: &mut [f32]) {
    salience.fill(0.0);
    let step = f64::from(RATE) / FFT_SIZE as f64;
    let top_bin = (TOP_HZ / step) as usize;
    let at = |k: usize| magnitudes[k] * weights[k];
    let loudest = (2..top_bin).map(at).fold(0.0, f32::max);
    if loudest < 1e-7 {
        return;
    }
    for k in 2..top_bin {
        let m = at(k);
        if m < PEAK_FLOOR * loudest
            || magnitudes[k] < magnitudes[k - 1]
            || magnitudes[k] <= magnitudes[k + 1]
        {
            continue;
        }
        let (a, b, c) = (
            magnitudes[k - 1].max(1e-12).ln(),
            magnitudes[k].max(1e-12).ln(),
            magnitudes[k + 1].max(1e-12).ln(),
        );
        let bend = a - 2.0 * b + c;
        let shift = if bend < -1e-6 {
            0.5 * (a - c) / bend
        } else {
            0.0
        };
        let hz = (k as f64 + f64::from(shift.clamp(-0.5, 0.5))) * step;
        let mut weight = m.powf(COMPRESSION);
        let place = (midi_of(hz) - LOWEST_MIDI) * 10.0;
        for h in 1..=HARMONICS {
            let place = place - 120.0 * (h as f64).log2();
            if place < -5.0 {
                break;
            }
            bump.add(salience, place, weight);
            weight *= DECAY;
        }
    }
}

/// Viterbi through the salience, then rests where it is weak.
fn follow(tops: &[f32], shape: &[u8]) -> PitchTrack {
    let frames = tops.len();
    let level = quantile(tops, 0.8);
    if level < 1e-9 {
        return PitchTrack {
            hop_seconds: 1.0 / FPS,
            hz: vec![0.0; frames],
            confidence: vec![0.0; frames],
        };
    }
    let range: Vec<f32> = (0..BINS)
        .map(|b| {
            // Voices and leads live around C4 to C6; basses and chords below.
            let d = (LOWEST_MIDI + b as f64 / 10.0 - 69.0) / 24.0;
            (1.0 - 0.35 * d * d) as f32
        })
        .collect();
    let mut value = vec![0.0f32; BINS];
    let mut back: Vec<u16> = Vec::with_capacity(frames * BINS);
    for (t, top) in tops.iter().enumerate() {
        let row = &shape[t * BINS..][..BINS];
        let scale = (top / level).min(2.0) / 255.0;
        let best = (0..BINS)
            .max_by(|&a, &b| value[a].total_cmp(&value[b]))
            .unwrap_or(0);
        let jump = value[best] - JUMP;
        let next: Vec<f32> = (0..BINS)
            .map(|b| {
                let (mut v, mut from) = (jump, best);
                let first = b.saturating_sub(GLIDE);
                let near = &value[first..(b + GLIDE + 1).min(BINS)];
                for (j, before) in (first..).zip(near) {
                    let stay = before - STEP * b.abs_diff(j) as f32;
                    if stay > v {
                        (v, from) = (stay, j);
                    }
                }
                back.push(from as u16);
                v + f32::from(row[b]) * scale * range[b]
            })
            .collect();
        let peak = next.iter().copied().fold(f32::MIN, f32::max);
        value = next.iter().map(|v| v - peak).collect();
    }
    let mut b = (0..BINS)
        .max_by(|&x, &y| value[x].total_cmp(&value[y]))
        .unwrap_or(0);
    let mut bins = vec![0usize; frames];
    for t in (0..frames).rev() {
        bins[t] = b;
        b = usize::from(back[t * BINS + b]);
    }
    let strength: Vec<f32> = (0..frames)
        .map(|t| tops[t] * f32::from(shape[t * BINS + bins[t]]) / 255.0)
        .collect();
    let smooth = moving_mean(&strength, 5);
    let typical = quantile(&smooth, 0.75);
    let mut hz = vec![0.0f32; frames];
    let mut confidence = vec![0.0f32; frames];
    for t in 0..frames {
        if smooth[t] > VOICED * typical {
            let row = &shape[t * BINS..][..BINS];
            hz[t] = bin_hz(refine(row, bins[t])) as f32;
            confidence[t] =
                (f32::from(row[bins[t]]) / 255.0 * (smooth[t] / typical).min(1.0)).clamp(0.0, 1.0);
        }
    }
    PitchTrack {
        hop_seconds: 1.0 / FPS,
        hz,
        confidence,
    }
}

fn refine(row: &[u8], i: usize) -> f64 {
    // The summit may be a step or two beside the path.
    let from = i.saturating_sub(2);
    let to = (i + 3).min(row.len());
    let top = (from..to)
        .max_by_key(|&k| (row[k], usize::MAX - k.abs_diff(i)))
        .unwrap_or(i);
    if top == 0 || top + 1 >= row.len() {
        return top as f64;
    }
    let (a, b, c) = (
        f64::from(row[top - 1]),
        f64::from(row[top]),
        f64::from(row[top + 1]),
    );
    let bend = a - 2.0 * b + c;
    let shift = if bend < -1e-9 {
        0.5 * (a - c) / bend
    } else {
        0.0
    };
    top as f64 + shift.clamp(-0.5, 0.5)
}
