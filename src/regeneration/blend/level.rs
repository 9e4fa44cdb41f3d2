// [worker] Matches a rebuilt stem's level, octave by octave, to the good audio around it.

use super::super::{
    Request,
    resynthesis::{Span, Spectra, heard, quantile},
};
use crate::damage::FRAMES_PER_SECOND;
use realfft::num_complex::Complex32;

/// Octaves from 62 Hz.
const BANDS: usize = 9;
/// Seconds of good neighbourhood on each side.
const NEAR_SECONDS: f64 = 4.0;
/// Differences of the same notes that are worth a correction, and of other notes, dB.
const SAME_DB: f32 = 1.0;
const OTHER_DB: f32 = 5.0;
/// Largest correction, dB.
const MOST_DB: f32 = 12.0;

fn band(bin: usize, bin_hz: f64) -> usize {
    ((bin as f64 * bin_hz / 62.5).max(1.0).log2() as usize).min(BANDS - 1)
}

type Powers = [f32; BANDS];

fn powers(
    spectra: &mut Spectra,
    x: &[f32],
    start: i64,
    row: &mut [Complex32],
    rate: f64,
) -> Powers {
    let bin_hz = rate / spectra.n as f64;
    spectra.analyse(x, start, row);
    let mut out = [0.0; BANDS];
    for (k, r) in row.iter().enumerate() {
        out[band(k, bin_hz)] += r.norm_sqr();
    }
    out
}

/// Powers of the sound frames within four seconds of a context, frame by frame.
pub(super) fn neighbourhood(
    request: &Request<'_>,
    first: usize,
    len: usize,
    rate: f64,
) -> Vec<Powers> {
    let near = (NEAR_SECONDS * rate) as usize;
    let from = first.saturating_sub(near);
    let to = (first + len + near).min(request.separated.frames());
    let x = super::mono(request.separated, from, to);
    let mut spectra = Spectra::new(rate);
    let mut row = vec![Complex32::default(); spectra.bins()];
    let frame = |n: usize| (n as f64 * FRAMES_PER_SECOND as f64 / rate) as usize;
    let sound = |n: usize| {
        let seconds = n as f64 / rate;
        !request
            .regions
            .iter()
            .any(|r| seconds >= r.start && seconds < r.end)
            && request
                .damage
                .frames
                .get(frame(n))
                .is_none_or(|f| heard(f) < 0.5)
    };
    let (n, hop) = (spectra.n, spectra.n / 2);
    (0..x.len().saturating_sub(n))
        .step_by(hop)
        .filter(|&s| sound(from + s) && sound(from + s + n))
        .map(|s| powers(&mut spectra, &x, s as i64, &mut row, rate))
        .collect()
}

/// `rebuilt` with its octaves at the level of the good audio: of the same notes in the margins if they
/// were rebuilt too, else of the neighbourhood's loud frames, else of the damaged stem with what an
/// overload adds above 2 kHz discounted.
pub(super) fn matched(
    spectra: &mut Spectra,
    rate: f64,
    separated: &[f32],
    rebuilt: &[f32],
    good: &[bool],
    inside: Span,
    neighbourhood: &[Powers],
) -> Vec<f32> {
    let mut row = vec![Complex32::default(); spectra.bins()];
    let n = spectra.n;
    let mut margin = [[0.0f32; BANDS]; 2];
    let mut frames = 0;
    let mut region: [Vec<Powers>; 2] = Default::default();
    for start in (0..separated.len().saturating_sub(n)).step_by(n / 2) {
        let end = start + n;
        let sound = good[start..end].iter().all(|&g| g);
        let within = start + n / 2 >= inside.start && start + n / 2 < inside.end;
        if !sound && !within {
            continue;
        }
        let x = powers(spectra, separated, start as i64, &mut row, rate);
        let y = powers(spectra, rebuilt, start as i64, &mut row, rate);
        if sound {
            for b in 0..BANDS {
                margin[0][b] += x[b];
                margin[1][b] += y[b];
            }
            frames += 1;
        } else {
            region[0].push(x);
            region[1].push(y);
        }
    }
    // −70 dB of a full-scale sine's bin power.
    let floor = 1e-7 * (n * n) as f32 / 16.0;
    let loud = |frames: &[Powers], b: usize| -> f32 {
        let mut v: Vec<f32> = frames.iter().map(|p| p[b]).collect();
        quantile(&mut v, 0.9)
    };
    let db = |to: f32, from: f32| 10.0 * (to / from).log10();
    let mut gains = [0.0f32; BANDS];
    for (b, gain) in gains.iter_mut().enumerate() {
        let (x, y) = (margin[0][b], margin[1][b]);
        if frames >= 8 && x > floor * frames as f32 && y > floor * frames as f32 {
            *gain = beyond(db(x, y), SAME_DB);
            continue;
        }
        let y = loud(&region[1], b);
        if y <= floor {
            continue;
        }
        if neighbourhood.len() >= 40 {
            let x = loud(neighbourhood, b);
            if x > floor {
                *gain = beyond(db(x, y), OTHER_DB);
            }
        } else {
            let x = loud(&region[0], b);
            if x > floor {
                let apart = db(x, y);
                // An overload takes from the lows and adds to the highs.
                *gain = if b >= 5 {
                    apart.min(0.0)
                } else {
                    apart.max(0.0) + (apart + 9.0).min(0.0)
                };
            }
        }
    }
    for g in &mut gains {
        *g = g.clamp(-MOST_DB, MOST_DB);
    }
    if gains.iter().all(|&g| g == 0.0) {
        return rebuilt.to_vec();
    }
    let bin_hz = rate / n as f64;
    let factors: Vec<f32> = (0..spectra.bins())
        .map(|k| {
            // Linear in dB between the octaves' middles.
            let position = ((k as f64 * bin_hz / 62.5).max(1.0).log2() - 0.5).max(0.0) as f32;
            let i = (position as usize).min(BANDS - 1);
            let j = (i + 1).min(BANDS - 1);
            let part = (position - i as f32).clamp(0.0, 1.0);
            10f32.powf((gains[i] + part * (gains[j] - gains[i])) / 20.0)
        })
        .collect();
    let mut out = vec![0.0; rebuilt.len()];
    for start in spectra.starts(rebuilt.len()) {
        spectra.analyse(rebuilt, start, &mut row);
        for (r, f) in row.iter_mut().zip(&factors) {
            *r *= f;
        }
        spectra.add(&row, start, &mut out);
    }
    out
}

/// What of `db` lies beyond a tolerance on either side of 0.
fn beyond(db: f32, tolerance: f32) -> f32 {
    if !db.is_finite() {
        return 0.0;
    }
    db.signum() * (db.abs() - tolerance).max(0.0)
}
