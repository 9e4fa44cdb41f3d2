// [worker] The bass's pitch, every 5 ms, down to 28 Hz: YIN steered by the profile's notes.

use super::super::{
    Scene,
    filter::{Energy, zero_phase},
    overdrive::quantile,
};
use crate::profile::Note;

/// Lowest and highest fundamental, Hz: below a five-string's low B, above the highest fret in use.
const LOW_HZ: f64 = 28.0;
const HIGH_HZ: f64 = 420.0;
/// Seconds between pitch frames.
pub(super) const STEP: f64 = 0.005;
/// Semitones a slide may leave its note.
const SLIDE: f64 = 2.5;
/// A YIN dip deeper than this is a pitch (de Cheveigné and Kawahara 2002 use 0.1; distortion and
/// bleed fill the dips).
const DIP: f32 = 0.35;

/// A note that will be played. Positions are samples of the whole stem.
#[derive(Clone, Debug)]
pub(super) struct Played {
    pub start: f64,
    /// Where the sound ends, release included.
    pub end: f64,
    /// Where the note is let go.
    pub release: f64,
    pub midi: f32,
    pub velocity: f32,
    /// Fundamental in Hz every [`STEP`] seconds from `start`.
    pub hz: Vec<f64>,
}

impl Played {
    /// Fundamental at an absolute sample, Hz.
    pub fn hz_at(&self, at: f64, rate: f64) -> f64 {
        let position = ((at - self.start) / (STEP * rate)).max(0.0);
        let i = (position as usize).min(self.hz.len() - 1);
        let j = (i + 1).min(self.hz.len() - 1);
        let part = (position - i as f64).clamp(0.0, 1.0);
        self.hz[i] + part * (self.hz[j] - self.hz[i])
    }
}

/// The stem, slowed down for pitch tracking.
pub(super) struct Pitches {
    y: Vec<f32>,
    /// Samples of the stem per sample of `y`.
    factor: usize,
    rate: f64,
    /// Prefix energies of the stem's lows, for onsets.
    energy: Energy<'static>,
    full_rate: f64,
}

impl Pitches {
    pub fn new(scene: &Scene) -> Self {
        let factor = ((scene.rate / 4000.0).floor() as usize).max(1);
        let low = zero_phase(&scene.x, scene.rate, 900.0, false);
        let y: Vec<f32> = low.iter().step_by(factor).copied().collect();
        Self {
            rate: scene.rate / factor as f64,
            energy: Energy::new(low),
            y,
            factor,
            full_rate: scene.rate,
        }
    }

    /// The profile's notes on the stem's own onsets with their pitch tracked, ascending and not
    /// overlapping; if there are none, our own.
    pub fn notes(&self, scene: &Scene, profile: &[Note]) -> Vec<Played> {
        let mut spans: Vec<(f64, f64, f32, f32, f32)> = profile
            .iter()
            .filter(|n| {
                n.t.is_finite()
                    && n.t >= 0.0
                    && n.dur.is_finite()
                    && n.dur > 0.0
                    && n.midi.is_finite()
                    && (0.0..=127.0).contains(&n.midi)
            })
            .map(|n| {
                let start = self.onset(n.t * scene.rate);
                let velocity = if n.velocity.is_finite() {
                    n.velocity.clamp(0.0, 1.0)
                } else {
                    0.5
                };
                (
                    start,
                    (n.t + n.dur) * scene.rate,
                    n.midi,
                    velocity,
                    n.confidence,
                )
            })
            .collect();
        if profile.is_empty() {
            spans = self.detect(scene.x.len());
        }
        spans.sort_by(|a, b| a.0.total_cmp(&b.0));
        let len = scene.x.len() as f64;
        let mut notes: Vec<Played> = Vec::with_capacity(spans.len());
        for i in 0..spans.len() {
            let (start, end, midi, velocity, confidence) = spans[i];
            let next = spans.get(i + 1).map_or(len, |n| n.0);
            // A string rings on a little after its written end; one bassist plays one note.
            let release = end.min(next).min(len);
            let end = (end + 0.06 * scene.rate)
                .min(next + 0.01 * scene.rate)
                .min(len);
            if end - start < 0.02 * scene.rate {
                continue;
            }
            let (midi, hz) = self.track(start, end, midi, confidence);
            notes.push(Played {
                start,
                end,
                release,
                midi,
                velocity,
                hz,
            });
        }
        notes
    }

    /// The strongest rise of energy within 25 ms of `at`; `at` where there is none.
    fn onset(&self, at: f64) -> f64 {
        let ms = self.full_rate / 1000.0;
        let window = (12.0 * ms) as i64;
        let mut best = (at, 0.5);
        for i in -50..=50 {
            let candidate = at + f64::from(i) * 0.5 * ms;
            let n = candidate.round() as i64;
            let floor = 1e-8 * window as f64;
            let rise = ((self.energy.over(n, n + window) + floor)
                / (self.energy.over(n - window, n) + floor))
                .ln();
            let off = f64::from(i) / 50.0;
            let score = rise * (-0.5 * off * off).exp();
            if score > best.1 {
                best = (candidate, score);
            }
        }
        best.0.max(0.0)
    }

    /// Cumulative mean normalised difference (de Cheveigné and Kawahara 2002, eq. 8) around sample
    /// `centre` of `y`, for lags `0..=longest`.
    fn difference(&self, centre: f64, longest: usize, window: usize, out: &mut Vec<f32>) {
        let start = centre as i64 - (window + longest) as i64 / 2;
        let at = |n: i64| -> f32 {
            usize::try_from(n)
                .ok()
                .and_then(|n| self.y.get(n))
                .map_or(0.0, |&v| v)
        };
        let x: Vec<f32> = (0..(window + longest) as i64)
            .map(|i| at(start + i))
            .collect();
        out.clear();
        out.push(1.0);
        let mut sum = 0.0f32;
        for lag in 1..=longest {
            let (a, b) = (&x[..window], &x[lag..lag + window]);
            let d: f32 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
            sum += d;
            out.push(if sum > 0.0 { d * lag as f32 / sum } else { 1.0 });
        }
    }

    /// Minimum of the difference between two lags: the lag to a fraction, and its depth.
    fn dip(d: &[f32], low: usize, high: usize) -> (f64, f32) {
        let (low, high) = (low.max(1), high.min(d.len() - 2));
        let mut best = (low, f32::INFINITY);
        for (lag, &v) in d.iter().enumerate().take(high + 1).skip(low) {
            if v < best.1 {
                best = (lag, v);
            }
        }
        let i = best.0;
        let (a, b, c) = (d[i - 1], d[i], d[(i + 1).min(d.len() - 1)]);
        let curve = a - 2.0 * b + c;
        let part = if curve > 0.0 {
            (0.5 * (a - c) / curve).clamp(-0.5, 0.5)
        } else {
            0.0
        };
        (i as f64 + f64::from(part), b)
    }

    /// Pitch of a note, frame by frame, near the written one; the written one itself gives way to a
    /// clearly better one where the profile is not sure.
    fn track(&self, start: f64, end: f64, midi: f32, confidence: f32) -> (f32, Vec<f64>) {
        let frames = ((end - start) / (STEP * self.full_rate)).ceil().max(1.0) as usize;
        let mut written = hz(midi).clamp(LOW_HZ, HIGH_HZ.max(hz(midi)).min(0.2 * self.rate));
        let mut d = Vec::new();
        if confidence.is_nan() || confidence <= 0.9 {
            written = self.better(start, end, written, &mut d);
        }
        let bound = 2f64.powf(SLIDE / 12.0);
        let longest = (self.rate / written * bound).ceil() as usize + 2;
        let shortest = (self.rate / written / bound).floor().max(2.0) as usize;
        // Two periods at least, so that the lowest notes have something to compare.
        let window = (2.0 * self.rate / written).max(0.03 * self.rate) as usize;
        let mut raw: Vec<(f64, f32)> = Vec::with_capacity(frames);
        for f in 0..frames {
            // A frame near the note's start must not look into the note before.
            let reach = (window + longest) as f64 / 2.0;
            let from = start / self.factor as f64;
            let to = end / self.factor as f64;
            let at = from + f as f64 * STEP * self.rate;
            let at = at.min(to - 0.6 * reach).max(from + 0.6 * reach);
            self.difference(at, longest, window, &mut d);
            raw.push(Self::dip(&d, shortest, longest));
        }
        // Median of the confident frames, then each frame within the slide's reach of its neighbours.
        let mut sure: Vec<f32> = raw
            .iter()
            .filter(|r| r.1 < DIP)
            .map(|r| (self.rate / r.0) as f32)
            .collect();
        let centre = if sure.is_empty() {
            written
        } else {
            f64::from(quantile(&mut sure, 0.5))
        };
        let rough: Vec<f64> = raw
            .iter()
            .map(|&(lag, depth)| if depth < DIP { self.rate / lag } else { centre })
            .collect();
        let smooth: Vec<f64> = (0..frames)
            .map(|i| {
                let (a, b) = (i.saturating_sub(3), (i + 4).min(frames));
                let mut part: Vec<f32> = rough[a..b].iter().map(|&v| v as f32).collect();
                f64::from(quantile(&mut part, 0.5))
            })
            .collect();
        let hz = (0..frames)
            .map(|i| {
                let (a, b) = (i.saturating_sub(2), (i + 3).min(frames));
                smooth[a..b].iter().sum::<f64>() / (b - a) as f64
            })
            .collect();
        let midi = 69.0 + 12.0 * (centre / 440.0).log2();
        (midi as f32, hz)
    }

    /// The pitch that the note's own sound claims, if it is clearly not the written one.
    fn better(&self, start: f64, end: f64, written: f64, d: &mut Vec<f32>) -> f64 {
        let longest = (self.rate / LOW_HZ).ceil() as usize + 2;
        let window = (2.0 * self.rate / LOW_HZ * 0.7) as usize;
        let (mut own, mut theirs) = (Vec::new(), Vec::new());
        for i in 1..=5 {
            let at = (start + (end - start) * f64::from(i) / 6.0) / self.factor as f64;
            self.difference(at, longest, window, d);
            // The first dip below the bar, not the deepest: multiples of a period dip as well.
            let shortest = (self.rate / HIGH_HZ) as usize;
            let (_, floor) = Self::dip(d, shortest, longest);
            let bar = (floor + 0.1).max(0.15);
            let mut lag = shortest.max(2);
            while lag < longest - 1 && (d[lag] > bar || d[lag + 1] < d[lag]) {
                lag += 1;
            }
            let (lag, depth) = Self::dip(d, lag.saturating_sub(1), lag + 1);
            let near = self.rate / written;
            let (_, at_written) =
                Self::dip(d, (near * 0.94) as usize, (near * 1.06).ceil() as usize);
            if depth < DIP {
                own.push((self.rate / lag) as f32);
            }
            theirs.push(at_written - floor);
        }
        if own.len() < 3 || quantile(&mut theirs, 0.5) < 0.2 {
            return written;
        }
        f64::from(quantile(&mut own, 0.5))
    }

    /// Notes by pitch alone: stretches of steady pitch, split at onsets.
    fn detect(&self, len: usize) -> Vec<(f64, f64, f32, f32, f32)> {
        let step = 0.010 * self.rate;
        let frames = (self.y.len() as f64 / step) as usize;
        let longest = (self.rate / LOW_HZ).ceil() as usize + 2;
        let window = (0.045 * self.rate) as usize;
        let mut d = Vec::new();
        let scale = self.factor as f64;
        let level = |f: usize| -> f64 {
            let at = f as f64 * step * scale;
            self.energy
                .over(at as i64, (at + 0.02 * self.full_rate) as i64)
        };
        let mut levels: Vec<f32> = (0..frames).map(|f| level(f) as f32).collect();
        let gate = f64::from(quantile(&mut levels, 0.95)) * 1e-3;
        let pitches: Vec<Option<f32>> = (0..frames)
            .map(|f| {
                if level(f) <= gate {
                    return None;
                }
                self.difference(f as f64 * step, longest, window, &mut d);
                let shortest = (self.rate / HIGH_HZ) as usize;
                let (_, floor) = Self::dip(&d, shortest, longest);
                let bar = (floor + 0.1).max(0.15);
                let mut lag = shortest.max(2);
                while lag < longest - 1 && (d[lag] > bar || d[lag + 1] < d[lag]) {
                    lag += 1;
                }
                let (lag, depth) = Self::dip(&d, lag.saturating_sub(1), lag + 1);
                (depth < DIP).then(|| (69.0 + 12.0 * (self.rate / lag / 440.0).log2()) as f32)
            })
            .collect();
        let mut notes = Vec::new();
        let mut f = 0;
        while f < frames {
            let Some(first) = pitches[f] else {
                f += 1;
                continue;
            };
            let begin = f;
            let mut part = vec![first];
            f += 1;
            while f < frames {
                let centre = quantile(&mut part.clone(), 0.5);
                // A jump of level upwards is a new pluck of the same string.
                let plucked = f > begin + 5 && level(f) > 3.0 * level(f - 3).max(gate);
                match pitches[f] {
                    Some(m) if (m - centre).abs() < 0.7 && !plucked => part.push(m),
                    None if f - begin > 2
                        && f + 1 < frames
                        && pitches[f + 1].is_some()
                        && !plucked => {}
                    _ => break,
                }
                f += 1;
            }
            if part.len() >= 5 {
                let start = (begin as f64 * step * scale).min(len as f64);
                let end = (f as f64 * step * scale).min(len as f64);
                notes.push((self.onset(start), end, quantile(&mut part, 0.5), 0.7, 1.0));
            }
        }
        notes
    }
}

/// Frequency of a MIDI note, Hz.
pub(super) fn hz(midi: f32) -> f64 {
    440.0 * 2f64.powf((f64::from(midi) - 69.0) / 12.0)
}
