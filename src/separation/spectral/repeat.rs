// [worker] What repeats: a frame's background is the median of the frames most like it (REPET-SIM).
//!
//! Rafii & Pardo, "Music/voice separation using the similarity matrix", ISMIR 2012.

use super::median::median_of;
use crate::separation::stft::Plane;

/// Frames that a background is made of.
const SIMILAR: usize = 24;
/// Bands of the compressed spectrum that frames are compared by.
const BANDS: usize = 160;

/// The repeating background of `magnitude`, nowhere above it. Frames less than `apart` frames from an
/// already chosen one don't count: a held note must not be its own background. `go_on` is asked often;
/// `None` once it says no.
pub fn background(
    magnitude: &Plane<f32>,
    apart: usize,
    go_on: &dyn Fn() -> bool,
) -> Option<Plane<f32>> {
    let features = features(magnitude);
    let mut out = Plane::new(magnitude.frames, magnitude.bins);
    let mut likeness: Vec<(f32, usize)> = Vec::with_capacity(magnitude.frames);
    let mut values = Vec::with_capacity(SIMILAR + 1);
    for t in 0..magnitude.frames {
        if t % 32 == 0 && !go_on() {
            return None;
        }
        likeness.clear();
        let own = features.row(t);
        likeness.extend((0..magnitude.frames).map(|u| {
            let dot: f32 = own.iter().zip(features.row(u)).map(|(a, b)| a * b).sum();
            (dot, u)
        }));
        // Best first; equal likeness by time, so that the result does not depend on the sort.
        likeness.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut chosen = vec![t];
        for &(_, u) in &likeness {
            if chosen.len() > SIMILAR {
                break;
            }
            if chosen.iter().all(|&c| c.abs_diff(u) >= apart) {
                chosen.push(u);
            }
        }
        for k in 0..magnitude.bins {
            values.clear();
            values.extend(
                chosen
                    .iter()
                    .map(|&u| magnitude.data[u * magnitude.bins + k]),
            );
            let own = magnitude.data[t * magnitude.bins + k];
            out.data[t * magnitude.bins + k] = median_of(&mut values).min(own);
        }
    }
    Some(out)
}

/// Compressed spectra of unit length in bands of equal width up to the middle, then wider.
fn features(magnitude: &Plane<f32>) -> Plane<f32> {
    let mut out = Plane::new(magnitude.frames, BANDS);
    // Bin of a band's start: linear at first, quadratic later.
    let edge = |b: usize| {
        let x = b as f32 / BANDS as f32;
        ((0.15 * x + 0.85 * x * x) * magnitude.bins as f32) as usize
    };
    for t in 0..magnitude.frames {
        let (row, feature) = (magnitude.row(t), out.row_mut(t));
        for (b, f) in feature.iter_mut().enumerate() {
            let (from, to) = (edge(b), edge(b + 1).max(edge(b) + 1));
            *f = row[from.min(row.len() - 1)..to.min(row.len())]
                .iter()
                .sum::<f32>()
                .sqrt();
        }
        let norm = feature.iter().map(|f| f * f).sum::<f32>().sqrt();
        if norm > 0.0 {
            feature.iter_mut().for_each(|f| *f /= norm);
        }
    }
    out
}
