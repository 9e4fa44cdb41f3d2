// [worker] Drum hits: what begins in each 10 ms explained by kick, snare, hat and whatever else sounds.
//
// Partially fixed non-negative matrix factorisation (Wu & Lerch, "Drum transcription using partially
// fixed non-negative matrix factorization with template adaptation", ISMIR 2015) on the rise of the
// spectrum: drum templates start from the physics of the instruments and adapt, free ones take the rest.

use super::{
    DrumClass, DrumHit,
    spectra::{BandSpectra, FPS, SILENCE, moving_mean, quantile},
};
use crate::worker::progress::Progress;

/// Templates: kick, snare, closed hat, then as many free ones for pitched attacks.
const DRUMS: usize = 3;
const FREE: usize = 5;
const PARTS: usize = DRUMS + FREE;
/// Rounds of multiplicative updates while learning and while reading.
const LEARNING_ROUNDS: usize = 40;
const READING_ROUNDS: usize = 25;
/// Frames learnt from at most: 90 s, spread over the recording.
const LEARNING_FRAMES: usize = 9000;
/// How far a template may move from its start.
const ADAPT: f32 = 0.5;
/// Frames between the compared spectra.
const LAG: usize = 2;
/// Power the magnitudes are compressed by before their rise is taken.
const COMPRESSION: f32 = 0.85;
/// Least time between hits of one drum, seconds.
const APART: f64 = 0.06;
/// A hit must reach this share of the drum's loud hits.
const THRESHOLD: [f32; DRUMS] = [0.50, 0.60, 0.15];

/// Hits in order of time. Silence gives none; None when cancelled.
pub(super) fn estimate(
    spectra: &BandSpectra,
    beats: &[f64],
    beats_per_bar: usize,
    progress: &Progress,
) -> Option<Vec<DrumHit>> {
    let frames = spectra.frames();
    if frames < 8 || spectra.peak() < SILENCE {
        return Some(Vec::new());
    }
    let rises = rises(spectra);
    let templates = learn(&rises, spectra, progress)?;
    let activations = read(&rises, &templates, spectra.bands, progress)?;
    let attack: Vec<f32> = rises
        .chunks_exact(spectra.bands)
        .map(|r| r.iter().sum())
        .collect();
    let grid = Grid {
        beats,
        beats_per_bar,
    };
    let mut hits = Vec::new();
    let classes = [DrumClass::Kick, DrumClass::Snare, DrumClass::HihatClosed];
    for (d, class) in classes.into_iter().enumerate() {
        let strength: Vec<f32> = activations.iter().map(|a| a[d]).collect();
        pick(&strength, THRESHOLD[d], class, &grid, &attack, &mut hits);
    }
    drop_echoes(&mut hits);
    open_hats(spectra, &mut hits);
    hits.sort_by(|a, b| a.t.total_cmp(&b.t).then(a.class.cmp(&b.class)));
    Some(hits)
}

/// Rise of the compressed magnitude in each band over two frames, `[frame][band]`.
fn rises(spectra: &BandSpectra) -> Vec<f32> {
    let (bands, frames) = (spectra.bands, spectra.frames());
    // Equalise the recording's own colour, so that a phone's response doesn't hide the kick or the hat.
    let colour: Vec<f32> = (0..bands)
        .map(|b| {
            let band: Vec<f32> = (0..frames).map(|t| spectra.frame(t)[b]).collect();
            quantile(&band, 0.98)
        })
        .collect();
    let floor = colour.iter().copied().fold(0.0, f32::max) * 3e-3 + 1e-9;
    let mut out = vec![0.0f32; frames * bands];
    for t in LAG..frames {
        let (now, before) = (spectra.frame(t), spectra.frame(t - LAG));
        for b in 0..bands {
            let scale = 1.0 / (colour[b] + floor);
            let rise = (now[b] * scale).powf(COMPRESSION) - (before[b] * scale).powf(COMPRESSION);
            out[t * bands + b] = rise.max(0.0);
        }
    }
    out
}

/// Kick and snare leak into each other: where both are found within 40 ms, the weaker must be clear by itself.
fn drop_echoes(hits: &mut Vec<DrumHit>) {
    // A kick under a snare is common, a snare under a kick mostly the beater's click.
    let clear = |class| if class == DrumClass::Kick { 0.78 } else { 0.85 };
    let rivals: Vec<DrumHit> = hits
        .iter()
        .copied()
        .filter(|h| matches!(h.class, DrumClass::Kick | DrumClass::Snare))
        .collect();
    hits.retain(|h| {
        let matters = matches!(h.class, DrumClass::Kick | DrumClass::Snare);
        let beaten = rivals.iter().any(|r| {
            r.class != h.class && (r.t - h.t).abs() <= 0.04 && r.confidence > h.confidence
        });
        !(matters && beaten && h.confidence < clear(h.class))
    });
}

/// A hat that still rings after a tenth of a second is open.
fn open_hats(spectra: &BandSpectra, hits: &mut [DrumHit]) {
    let level = |from: usize, to: usize| -> f32 {
        let frames = from.min(spectra.frames())..to.min(spectra.frames());
        let count = frames.len().max(1) as f32;
        let sum: f32 = frames
            .flat_map(|t| spectra.frame(t).iter().zip(&spectra.centre_hz))
            .filter(|(_, hz)| **hz > 6000.0)
            .map(|(m, _)| *m)
            .sum();
        sum / count
    };
    let hats: Vec<usize> = (0..hits.len())
        .filter(|&i| hits[i].class == DrumClass::HihatClosed)
        .collect();
    for (n, &i) in hats.iter().enumerate() {
        let at = (hits[i].t * FPS).round() as usize;
        let next = hats.get(n + 1).map_or(f64::INFINITY, |&j| hits[j].t);
        let rings = level(at + 9, at + 12) > 0.5 * level(at, at + 4);
        // A following hit within the window would look like ringing.
        if rings && next - hits[i].t > 0.13 {
            hits[i].class = DrumClass::HihatOpen;
        }
    }
}

/// Where each drum's energy lies, from its physics: a kick's membrane below 120 Hz with a little click,
/// a snare's shell at 180 to 260 Hz with wires from 1 to 8 kHz, a hat's metal above 5 kHz.
fn start_template(drum: usize, centre_hz: &[f64]) -> Vec<f32> {
    let bump = |hz: f64, centre: f64, octaves: f64| {
        (-0.5 * ((hz / centre).log2() / octaves).powi(2)).exp()
    };
    let raw: Vec<f64> = centre_hz
        .iter()
        .map(|&hz| match drum {
            0 => bump(hz, 65.0, 0.6) + 0.12 * bump(hz, 2500.0, 1.0) + 0.01,
            1 => 0.7 * bump(hz, 210.0, 0.45) + bump(hz, 2800.0, 1.2) + 0.04,
            _ => bump(hz, 9500.0, 0.5) + 0.002,
        })
        .collect();
    let sum: f64 = raw.iter().sum();
    raw.iter().map(|x| (x / sum) as f32).collect()
}

/// `[part][band]`, each summing to 1.
fn learn(rises: &[f32], spectra: &BandSpectra, progress: &Progress) -> Option<Vec<Vec<f32>>> {
    let (bands, frames) = (spectra.bands, spectra.frames());
    let start: Vec<Vec<f32>> = (0..DRUMS)
        .map(|d| start_template(d, &spectra.centre_hz))
        .collect();
    let mut templates = start.clone();
    for f in 0..FREE {
        // Free parts begin as octave-wide bumps from 100 Hz to 2.5 kHz, where pitched attacks lie.
        let centre = 110.0 * 2.2f64.powi(f as i32);
        let raw: Vec<f64> = spectra
            .centre_hz
            .iter()
            .map(|&hz| {
                (-0.5 * ((hz / centre).log2() / if f == 0 { 0.8 } else { 0.5 }).powi(2)).exp()
                    + 0.003
            })
            .collect();
        let sum: f64 = raw.iter().sum();
        templates.push(raw.iter().map(|x| (x / sum) as f32).collect());
    }
    let strength: Vec<f32> = rises.chunks_exact(bands).map(|r| r.iter().sum()).collect();
    let floor = quantile(&strength, 0.5);
    let eventful: Vec<usize> = (0..frames).filter(|&t| strength[t] > floor).collect();
    let stride = eventful.len().div_ceil(LEARNING_FRAMES).max(1);
    let chosen: Vec<usize> = eventful.into_iter().step_by(stride).collect();
    let mut activations = vec![[0.1f32; PARTS]; chosen.len()];
    for round in 0..LEARNING_ROUNDS {
        if progress.is_cancelled() {
            return None;
        }
        let mut gained = vec![vec![0.0f32; bands]; PARTS];
        for (a, &t) in activations.iter_mut().zip(&chosen) {
            let row = &rises[t * bands..][..bands];
            let ratio = update(a, row, &templates);
            for (part, g) in gained.iter_mut().enumerate() {
                for (x, r) in g.iter_mut().zip(&ratio) {
                    *x += a[part] * r;
                }
            }
        }
        if round < 5 {
            continue;
        }
        for part in 0..PARTS {
            let mut new: Vec<f32> = templates[part]
                .iter()
                .zip(&gained[part])
                .map(|(w, g)| w * g)
                .collect();
            let sum: f32 = new.iter().sum();
            if sum <= 1e-12 {
                continue;
            }
            new.iter_mut().for_each(|x| *x /= sum);
            if part < DRUMS {
                for (x, s) in new.iter_mut().zip(&start[part]) {
                    *x = ADAPT * *x + (1.0 - ADAPT) * s;
                }
            }
            templates[part] = new;
        }
    }
    Some(templates)
}

/// One multiplicative update (Kullback-Leibler) of a frame's activations; returns data over model.
fn update(a: &mut [f32; PARTS], row: &[f32], templates: &[Vec<f32>]) -> Vec<f32> {
    let ratio_of = |a: &[f32; PARTS]| -> Vec<f32> {
        (0..row.len())
            .map(|b| {
                let model: f32 = templates.iter().zip(a).map(|(w, a)| w[b] * a).sum();
                row[b] / (model + 1e-9)
            })
            .collect()
    };
    let ratio = ratio_of(a);
    for (part, x) in a.iter_mut().enumerate() {
        // Templates sum to 1, so the divisor of the update is 1.
        *x *= templates[part]
            .iter()
            .zip(&ratio)
            .map(|(w, r)| w * r)
            .sum::<f32>();
    }
    ratio
}

fn read(
    rises: &[f32],
    templates: &[Vec<f32>],
    bands: usize,
    progress: &Progress,
) -> Option<Vec<[f32; PARTS]>> {
    let mut out = Vec::with_capacity(rises.len() / bands);
    for (t, row) in rises.chunks_exact(bands).enumerate() {
        if t % 1024 == 0 && progress.is_cancelled() {
            return None;
        }
        let level: f32 = row.iter().sum::<f32>() / PARTS as f32;
        let mut a = [level; PARTS];
        if level > 1e-6 {
            for _ in 0..READING_ROUNDS {
                update(&mut a, row, templates);
            }
        }
        out.push(a);
    }
    Some(out)
}

/// Peaks of one drum's activation that stand out of their surroundings and, where bars are known, fit what
/// the drum plays in the bars around.
fn pick(
    strength: &[f32],
    threshold: f32,
    class: DrumClass,
    grid: &Grid,
    attack: &[f32],
    hits: &mut Vec<DrumHit>,
) {
    let smooth = moving_mean(strength, 1);
    let local = moving_mean(&smooth, (0.3 * FPS) as usize);
    let inner = 1..smooth.len().saturating_sub(1);
    let peaks: Vec<f32> = inner
        .clone()
        .filter(|&t| smooth[t] >= smooth[t - 1] && smooth[t] > smooth[t + 1])
        .map(|t| smooth[t])
        .collect();
    let loud = quantile(&peaks, 0.95).max(1e-6);
    let height: Vec<f32> = smooth
        .iter()
        .zip(&local)
        .map(|(s, l)| ((s - l) / loud).clamp(0.0, 1.2))
        .collect();
    let reach = (APART * FPS) as usize / 2 + 1;
    let mut last: Option<usize> = None;
    for t in inner {
        let around = &smooth[t.saturating_sub(reach)..(t + reach + 1).min(smooth.len())];
        let summit = around.iter().all(|&s| s <= smooth[t]);
        if !summit || smooth[t] < 1e-4 || height[t] < 0.5 * threshold {
            continue;
        }
        if last.is_some_and(|l| (t - l) as f64 / FPS < APART) {
            continue;
        }
        let habit = grid.habit(&height, t as f64 / FPS);
        let score = habit.map_or(height[t], |h| (1.0 - HABIT) * height[t] + HABIT * h);
        if score < threshold {
            continue;
        }
        last = Some(t);
        // A low drum swells after its click: the hit is where everything rises most.
        let start = (t.saturating_sub(4)..=t)
            .max_by(|&a, &b| attack[a].total_cmp(&attack[b]))
            .unwrap_or(t);
        hits.push(DrumHit {
            t: start as f64 / FPS,
            class,
            velocity: (smooth[t] / loud).clamp(0.0, 1.0),
            confidence: (0.35 + 0.65 * score).clamp(0.0, 1.0),
        });
    }
}

/// Share of a hit's score that the same place in other bars decides.
const HABIT: f32 = 0.4;
/// Bars to each side that are asked.
const BARS: i64 = 4;

/// Where a time falls in the bar.
pub(super) struct Grid<'a> {
    pub beats: &'a [f64],
    pub beats_per_bar: usize,
}

impl Grid<'_> {
    /// Mean height at the same place of the bars around; None without at least two such bars.
    pub fn habit(&self, height: &[f32], time: f64) -> Option<f32> {
        let next = self.beats.partition_point(|&b| b <= time + 1e-9);
        let beat = next.checked_sub(1)?;
        let (from, to) = (self.beats[beat], *self.beats.get(next)?);
        let place = (time - from) / (to - from);
        let others = (-BARS..=BARS).filter(|&k| k != 0).filter_map(|k| {
            let i = usize::try_from(beat as i64 + k * self.beats_per_bar as i64).ok()?;
            let (a, b) = (*self.beats.get(i)?, *self.beats.get(i + 1)?);
            let at = ((a + place * (b - a)) * FPS).round() as usize;
            let near = height.get(at.saturating_sub(3)..(at + 4).min(height.len()))?;
            Some(near.iter().copied().fold(0.0, f32::max))
        });
        let found: Vec<f32> = others.collect();
        (found.len() >= 2).then(|| found.iter().sum::<f32>() / found.len() as f32)
    }
}
