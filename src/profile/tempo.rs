// [worker] Tempo and its metrical level: how strongly the music repeats at beats, bars and subdivisions.

use super::{
    onsets::Onsets,
    spectra::{FPS, moving_mean},
};

/// Slowest and fastest beat considered, beats a minute.
const SLOWEST_BPM: f64 = 48.0;
const FASTEST_BPM: f64 = 210.0;
/// Where listeners place the beat: log-normal around 112 bpm, 0.8 octaves wide (after van Noorden &
/// Moelants 1999, flattened: drums decide more than the prior does).
const PREFERRED_BPM: f64 = 112.0;
const PREFERRED_OCTAVES: f64 = 0.80;
/// Windows of the local autocorrelation, seconds, so that drift over the song doesn't blur it.
const WINDOW: f64 = 12.0;
const LONGEST_LAG: f64 = 6.5;

/// A reading of the metre.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Level {
    /// Frames (10 ms) a beat.
    pub period: f64,
    /// Parts a beat falls into: 2 (simple) or 3 (compound).
    pub division: u8,
    pub score: f64,
}

/// Self-similarity of the onsets by lag.
pub(super) struct Tempogram {
    /// `[lag in frames]`, 1 at lag 0.
    values: Vec<f32>,
}

impl Tempogram {
    pub fn new(onsets: &Onsets) -> Self {
        let frames = onsets.frames();
        let lags = ((LONGEST_LAG * FPS) as usize).min(frames * 2 / 3).max(1);
        let mut values = vec![0.0f64; lags];
        let mut signals: Vec<(&[f32], f64)> = vec![(&onsets.total, 2.0), (&onsets.change, 0.7)];
        signals.extend(onsets.groups.iter().map(|g| (g.as_slice(), 0.5)));
        let window = ((WINDOW * FPS) as usize).min(frames);
        let mut weight = 0.0;
        for (signal, share) in signals {
            let smooth = moving_mean(&moving_mean(signal, 2), 1);
            let mut start = 0;
            while start + window <= frames {
                if let Some(acf) = autocorrelation(&smooth[start..start + window], lags) {
                    values
                        .iter_mut()
                        .zip(acf)
                        .for_each(|(v, a)| *v += share * a);
                    weight += share;
                }
                start += (window / 2).max(1);
            }
        }
        let scale = if weight > 0.0 { 1.0 / weight } else { 0.0 };
        Self {
            values: values.iter().map(|v| (v * scale) as f32).collect(),
        }
    }

    /// Similarity at `lag` frames, the best within 2 %; None beyond the longest.
    fn at(&self, lag: f64) -> Option<f64> {
        let (from, to) = ((lag * 0.98).round() as usize, (lag * 1.02).round() as usize);
        let near = self.values.get(from.max(1)..=to.max(1))?;
        Some(f64::from(near.iter().copied().fold(f32::MIN, f32::max)))
    }

    fn mean(&self, lags: &[f64]) -> f64 {
        let found: Vec<f64> = lags.iter().filter_map(|&l| self.at(l)).collect();
        if found.is_empty() {
            0.0
        } else {
            found.iter().sum::<f64>() / found.len() as f64
        }
    }

    /// Readings of the metre, best first; empty where nothing repeats.
    pub fn levels(&self) -> Vec<Level> {
        let mut all: Vec<Level> = Vec::new();
        let (shortest, longest) = (60.0 / FASTEST_BPM * FPS, 60.0 / SLOWEST_BPM * FPS);
        for division in [2u8, 3] {
            let mut period = shortest;
            let mut row: Vec<Level> = Vec::new();
            while period <= longest {
                let score = self.score(period, division);
                row.push(Level {
                    period,
                    division,
                    score,
                });
                period *= 1.005;
            }
            // Local maxima only.
            all.extend(row.iter().enumerate().filter_map(|(i, level)| {
                let around = &row[i.saturating_sub(6)..(i + 7).min(row.len())];
                around
                    .iter()
                    .all(|l| l.score <= level.score)
                    .then_some(*level)
            }));
        }
        all.retain(|l| l.score > 0.0);
        all.sort_by(|a, b| b.score.total_cmp(&a.score));
        all
    }

    /// Evidence for beats every `period` frames that divide by `division`, times the prior.
    fn score(&self, period: f64, division: u8) -> f64 {
        let p = period;
        let d = f64::from(division);
        let Some(beat) = self.at(p) else { return 0.0 };
        let two = self.at(2.0 * p).unwrap_or(0.0);
        let three = self.at(3.0 * p).unwrap_or(0.0);
        let bar = self.at(4.0 * p).unwrap_or(0.0).max(three).max(two);
        // That subdivisions sound matters; how loudly they do says little about the beat.
        let part = self.at(p / d).unwrap_or(0.0).min(0.3);
        // Lags that belong to the other division, or to neither; and the same pulse grouped otherwise.
        let (wrong, regrouped) = if division == 2 {
            let wrong = self.mean(&[p / 3.0, p * 2.0 / 3.0, p * 4.0 / 3.0]);
            (wrong, self.at(1.5 * p).unwrap_or(0.0))
        } else {
            let wrong = self.mean(&[p * 0.5, p * 1.5, p * 0.75]);
            (wrong, self.at(p * 2.0 / 3.0).unwrap_or(0.0))
        };
        let fit = 0.40 * beat + 0.20 * two.max(three) + 0.25 * bar + 0.35 * part
            - 0.35 * wrong
            - 1.5 * (regrouped - beat).max(0.0);
        let octaves = (60.0 * FPS / p / PREFERRED_BPM).log2();
        let prior = (-0.5 * (octaves / PREFERRED_OCTAVES).powi(2)).exp();
        // Compound time is the rarer reading.
        let rarity = if division == 3 { 0.9 } else { 1.0 };
        fit.max(0.0) * prior * rarity
    }
}

/// Autocorrelation of a mean-free signal, lag 0 = 1, corrected for the shrinking overlap (by its root, so
/// that long lags with little evidence don't win). None for a constant.
fn autocorrelation(signal: &[f32], lags: usize) -> Option<Vec<f64>> {
    let n = signal.len();
    let mean = signal.iter().sum::<f32>() / n.max(1) as f32;
    let x: Vec<f32> = signal.iter().map(|v| v - mean).collect();
    let energy: f32 = x.iter().map(|v| v * v).sum();
    if energy < 1e-9 {
        return None;
    }
    Some(
        (0..lags)
            .map(|lag| {
                if lag >= n {
                    return 0.0;
                }
                let dot: f32 = x[lag..].iter().zip(&x).map(|(a, b)| a * b).sum();
                f64::from(dot / energy) * (n as f64 / (n - lag) as f64).sqrt()
            })
            .collect(),
    )
}
