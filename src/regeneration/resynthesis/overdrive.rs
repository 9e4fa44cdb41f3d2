// [worker] The overload as a model: its ceiling measured in the damage, applied to a rebuilt stem.

use super::{Scene, Span};

/// A memoryless overload, symmetric: what a rebuilt stem must go through to be compared with the
/// damaged one. Level and trust follow from the comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Overdrive {
    /// Nothing is cut at a level.
    None,
    /// `clamp(x, ±ceiling)`.
    Hard(f32),
    /// `ceiling · tanh(x / ceiling)`.
    Soft(f32),
    /// Compressed like [`Self::Soft`], but without a level at which the samples say so.
    Vague(f32),
}

/// Share of samples above 97 % of the ceiling among those above 50 %. Flat tops pile up there;
/// a pure tone at full level has 23 % (`acos 0.97 / acos 0.5`), music that isn't cut less.
const HARD_SHARE: f32 = 0.3;
const SOFT_SHARE: f32 = 0.1;

impl Overdrive {
    /// Measures the overload of the damaged frames in `span`.
    pub fn measure(scene: &Scene, span: Span) -> Self {
        let mut peaks: Vec<f32> = Vec::new();
        let frame = (scene.rate / 100.0).max(1.0) as usize;
        let mut inside: Vec<f32> = Vec::new();
        for r in &scene.regions {
            let (start, end) = (r.start.max(span.start), r.end.min(span.end));
            if start < end {
                for chunk in scene.x[start..end].chunks(frame) {
                    peaks.push(chunk.iter().fold(0.0, |m, v| m.max(v.abs())));
                }
                inside.extend(scene.x[start..end].iter().map(|v| v.abs()));
            }
        }
        if inside.is_empty() {
            return Self::None;
        }
        // A few samples over the ceiling (ringing of a filter, a fade at the border) must not set it.
        let top = quantile(&mut inside, 0.9995);
        if top <= 1e-6 {
            return Self::None;
        }
        let over = |share: f32| inside.iter().filter(|&&v| v >= share * top).count() as f32;
        let pile = over(0.97) / over(0.5).max(1.0);
        if pile >= HARD_SHARE {
            Self::Hard(top)
        } else if pile >= SOFT_SHARE {
            Self::Soft(1.02 * top)
        } else {
            // The overload left no level of its own (separated from a mix that was overdriven as a
            // whole): what is loud here was compressed here, softly.
            Self::Vague(1.1 * quantile(&mut peaks, 0.95).max(1e-6))
        }
    }

    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::None => x,
            Self::Hard(c) => x.clamp(-c, c),
            Self::Soft(c) | Self::Vague(c) => c * (x / c).tanh(),
        }
    }

    /// The overload's slope at a level: 1 where it does nothing, 0 where it cuts.
    pub fn slope(self, x: f32) -> f32 {
        match self {
            Self::None => 1.0,
            Self::Hard(c) => f32::from(x.abs() < c),
            Self::Soft(c) | Self::Vague(c) => 1.0 - (x / c).tanh().powi(2),
        }
    }

    /// Undoes the overload where samples still tell their level; where they don't, follows `rebuilt`,
    /// tied to the sound samples at both ends of each run and never below the ceiling.
    ///
    /// `settle` is the length in samples after which a run follows `rebuilt` alone.
    pub fn undo(self, damaged: &[f32], rebuilt: &[f32], settle: f32) -> Vec<f32> {
        let (knee, expand): (f32, Box<dyn Fn(f32) -> f32>) = match self {
            Self::None | Self::Vague(_) => return damaged.to_vec(),
            Self::Hard(c) => (0.985 * c, Box::new(|v| v)),
            // tanh has lost most of its slope at 0.85.
            Self::Soft(c) => (0.85 * c, Box::new(move |v| c * (v / c).atanh())),
        };
        let mut out = damaged.to_vec();
        let mut n = 0;
        while n < damaged.len() {
            if damaged[n].abs() < knee {
                out[n] = expand(damaged[n]);
                n += 1;
                continue;
            }
            let sign = damaged[n].signum();
            let first = n;
            while n < damaged.len() && damaged[n] * sign >= knee {
                n += 1;
            }
            let left = first.checked_sub(1).map(|i| (i, out[i] - rebuilt[i]));
            let right = (n < damaged.len() && damaged[n].abs() < knee)
                .then(|| (n, expand(damaged[n]) - rebuilt[n]));
            let least = expand(knee);
            for i in first..n {
                let (tie, near) = match (left, right) {
                    (Some((a, l)), Some((b, r))) => (
                        l + (r - l) * ((i - a) as f32 / (b - a) as f32),
                        (i - a).min(b - i),
                    ),
                    (Some((a, v)), None) => (v, i - a),
                    (None, Some((b, v))) => (v, b - i),
                    (None, None) => (0.0, 0),
                };
                let tie = tie * (-(near as f32) / settle).exp();
                let guess = (rebuilt[i] + tie) * sign;
                // Four times the ceiling is 12 dB of overload: beyond it the guess is a fault.
                out[i] = sign * guess.clamp(least, 4.0 * least);
            }
        }
        out
    }
}

/// The value at share `q` of the sorted values; 0 of none. Reorders `v`.
pub(crate) fn quantile(v: &mut [f32], q: f64) -> f32 {
    if v.is_empty() {
        return 0.0;
    }
    let k = ((v.len() - 1) as f64 * q.clamp(0.0, 1.0)).round() as usize;
    *v.select_nth_unstable_by(k, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(x: Vec<f32>) -> Scene {
        let all = Span {
            start: 0,
            end: x.len(),
        };
        Scene {
            severity: vec![1.0; x.len() / 80],
            x,
            rate: 8000.0,
            regions: vec![all],
            spans: vec![all],
        }
    }

    #[test]
    fn a_hard_ceiling_is_measured() {
        let tone = |n: usize| (n as f32 * 0.05).sin() * (n as f32 * 0.001).sin();
        let clipped: Vec<f32> = (0..16_000).map(|n| tone(n).clamp(-0.3, 0.3)).collect();
        let s = scene(clipped);
        match Overdrive::measure(&s, s.spans[0]) {
            Overdrive::Hard(c) => assert!((c - 0.3).abs() < 1e-3),
            other => panic!("{other:?}"),
        }
        let free = scene((0..16_000).map(tone).collect());
        assert!(!matches!(
            Overdrive::measure(&free, free.spans[0]),
            Overdrive::Hard(_)
        ));
    }
}
