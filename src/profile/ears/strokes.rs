// [worker] From what the ears hear of the drums to hits: summits that stand out, as the whole song weighs them.

use super::super::{
    DrumClass, DrumHit,
    spectra::{BandSpectra, FPS, quantile},
};
use super::{STROKES, groove::Moments};

/// Probability that makes a hit, by class (chosen on generated songs with other sounds than the trained ones).
const THRESHOLD: [f32; DrumClass::COUNT] = [0.38, 0.42, 0.25, 0.40, 0.18, 0.20, 0.22];
/// A hit's score must also reach this share of the class's sure hits, which are less sure in a damaged recording.
const SHARE: [f32; DrumClass::COUNT] = [0.65, 0.65, 0.45, 0.45, 0.30, 0.30, 0.30];
/// Where among the scores of its hits a class's sure ones lie.
const SURE_QUANTILE: f64 = 0.75;
/// Least time between hits of a class, frames.
const APART: usize = 5;
/// Bands that tell how hard a class is hit, Hz.
const RANGE_HZ: [(f64, f64); DrumClass::COUNT] = [
    (30.0, 150.0),
    (150.0, 5000.0),
    (5000.0, 11_000.0),
    (5000.0, 11_000.0),
    (60.0, 500.0),
    (3000.0, 11_000.0),
    (3000.0, 11_000.0),
];

/// What a summit of the mean opinion must reach of its class's threshold to be weighed.
const WEIGHED: f32 = 0.25;

/// Heights that make a summit a moment to be weighed, by class.
pub(super) fn least() -> [f32; STROKES] {
    THRESHOLD.map(|t| WEIGHED * t)
}

/// Hits in order of time. `mean`: the mean opinion, `[frame at 100 fps][STROKES]`, that the moments come from; `spectra` of
/// what the drums are heard in.
pub(in super::super) fn read(
    moments: &Moments,
    mean: &[f32],
    spectra: &BandSpectra,
) -> Vec<DrumHit> {
    let frames = (mean.len() / STROKES).min(spectra.frames());
    let mut out = Vec::new();
    for class in DrumClass::ALL {
        let k = class as usize;
        let p: Vec<f32> = (0..frames).map(|t| mean[t * STROKES + k]).collect();
        let rises = rises(spectra, RANGE_HZ[k]);
        let mut found: Vec<(usize, f32)> = Vec::new();
        for &(t, score) in moments[k].iter().filter(|m| m.1 >= THRESHOLD[k]) {
            match found.last_mut() {
                Some(last) if t - last.0 < APART => {
                    if score > last.1 {
                        *last = (t, score);
                    }
                }
                _ => found.push((t, score)),
            }
        }
        let scores: Vec<f32> = found.iter().map(|f| f.1).collect();
        let least = SHARE[k] * quantile(&scores, SURE_QUANTILE);
        found.retain(|f| f.1 >= least);
        let strength = |t: usize| {
            let near = &rises[t.saturating_sub(1).min(frames)..(t + 5).min(frames)];
            near.iter().copied().fold(0.0, f32::max)
        };
        let all: Vec<f32> = found.iter().map(|f| strength(f.0)).collect();
        let loud = quantile(&all, 0.9).max(1e-9);
        out.extend(found.iter().zip(&all).map(|(&(t, score), s)| DrumHit {
            t: summit(&p, t) / FPS,
            class,
            velocity: (s / loud).sqrt().clamp(0.05, 1.0),
            // Of hits of held-back sounds that were given 0.9 to 0.95, 0.87 to 0.96 were right; of those above, 0.95 and more.
            confidence: score,
        }));
    }
    out.sort_by(|a, b| a.t.total_cmp(&b.t).then(a.class.cmp(&b.class)));
    one_cymbal_at_a_time(&mut out);
    out
}

/// Adds the snares that the rules find and the ears at least suspect: shapes that training lacked. For a mix without
/// stems: beside a drum stem it finds more that isn't there than it helps.
pub(in super::super) fn add_ruled(out: &mut Vec<DrumHit>, ruled: &[DrumHit], strokes: &[f32]) {
    const SURE: f32 = 0.75;
    const SUSPECT: f32 = 0.10;
    const NEAR: f64 = 0.06;
    const LEAST: usize = 8;
    let snare = DrumClass::Snare;
    // Where the ears hear hardly any drums, none play.
    if out.len() < LEAST {
        return;
    }
    let missed: Vec<DrumHit> = ruled
        .iter()
        .filter(|h| h.class == snare && h.confidence >= SURE)
        .filter(|h| {
            let at = (h.t * FPS).round() as usize;
            let suspected = (at.saturating_sub(3)..at + 4)
                .filter_map(|t| strokes.get(t * STROKES + snare as usize))
                .any(|&p| p >= SUSPECT);
            let known = |o: &DrumHit| o.class == snare && (o.t - h.t).abs() <= NEAR;
            suspected && !out.iter().any(known)
        })
        .map(|h| DrumHit {
            confidence: 0.7 * h.confidence,
            ..*h
        })
        .collect();
    out.extend(missed);
    out.sort_by(|a, b| a.t.total_cmp(&b.t).then(a.class.cmp(&b.class)));
}

/// The place of a summit between frames, by a parabola through it and its neighbours.
fn summit(p: &[f32], t: usize) -> f64 {
    let at = |i: usize| p.get(i).copied().unwrap_or(0.0);
    let (a, b, c) = (t.checked_sub(1).map_or(0.0, at), at(t), at(t + 1));
    let bend = a - 2.0 * b + c;
    let off = if bend < -1e-6 {
        0.5 * (a - c) / bend
    } else {
        0.0
    };
    (t as f64 + f64::from(off.clamp(-0.5, 0.5))).max(0.0)
}

/// Closed hat, open hat and ride are one hand's: of those that fall together the surest is what was played.
fn one_cymbal_at_a_time(hits: &mut Vec<DrumHit>) {
    const TOGETHER: f64 = 0.035;
    let cymbal = |h: &DrumHit| {
        use DrumClass::{HihatClosed, HihatOpen, Ride};
        matches!(h.class, HihatClosed | HihatOpen | Ride)
    };
    let all: Vec<DrumHit> = hits.iter().copied().filter(cymbal).collect();
    hits.retain(|h| {
        let beaten = |r: &DrumHit| {
            (r.t - h.t).abs() <= TOGETHER
                && r.class != h.class
                && (r.confidence, h.class) > (h.confidence, r.class)
        };
        !(cymbal(h) && all.iter().any(beaten))
    });
}

/// How much the energy of a range rises within 30 ms, every 10 ms.
fn rises(spectra: &BandSpectra, (low, high): (f64, f64)) -> Vec<f32> {
    let level: Vec<f32> = (0..spectra.frames())
        .map(|t| {
            let frame = spectra.frame(t).iter().zip(&spectra.centre_hz);
            frame
                .filter(|(_, hz)| (low..high).contains(*hz))
                .map(|(m, _)| m * m)
                .sum()
        })
        .collect();
    (0..level.len())
        .map(|t| (level[t] - level[t.saturating_sub(3)]).max(0.0))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summit_lies_between_frames() {
        // A parabola with its top at 10.3.
        let p: Vec<f32> = (0..20)
            .map(|t| 1.0 - 0.01 * (t as f32 - 10.3).powi(2))
            .collect();
        assert!((summit(&p, 10) - 10.3).abs() < 1e-3);
        // At the edges and where nothing bends it stays within half a frame.
        assert!((summit(&[1.0, 0.5], 0) - 0.0).abs() <= 0.5);
        assert_eq!(summit(&[0.5; 5], 2), 2.0);
    }
}
