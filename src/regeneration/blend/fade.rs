// [worker] Crossfades beside a region: off transients, their shape by measured correlation.

use super::super::resynthesis::{Span, filter::Energy};

/// Lengths that are tried, longest first, and how far from the region a fade may lie, seconds.
const LENGTHS: [f64; 4] = [0.060, 0.040, 0.020, 0.010];
const AWAY: f64 = 0.040;
/// A rise of energy (natural log over 5 ms) that counts as a transient: 6 dB.
const TRANSIENT: f64 = 1.4;

/// Weights `(separated, rebuilt)` a sample, from `start` on; before and after it is `(1, 0)`.
pub(super) struct Curve {
    pub start: usize,
    pub weights: Vec<(f32, f32)>,
}

/// The curve of one region `inside` a context; `whole` says at which ends there is nothing to fade to.
pub(super) fn curve(
    separated: &[f32],
    rebuilt: &[f32],
    inside: Span,
    rate: f64,
    whole: [bool; 2],
) -> Curve {
    let transients = Transients::new(separated, rebuilt, rate);
    let rise = (!whole[0]).then(|| {
        let fade = transients.place(inside.start, rate, false);
        (fade, correlation(separated, rebuilt, fade))
    });
    let fall = (!whole[1]).then(|| {
        let fade = transients.place(inside.end, rate, true);
        (fade, correlation(separated, rebuilt, fade))
    });
    let start = rise.map_or(inside.start, |(f, _)| f.start);
    let end = fall.map_or(inside.end, |(f, _)| f.end);
    let weights = (start..end)
        .map(|n| {
            let mut weight = (0.0, 1.0);
            if let Some((f, rho)) = rise
                && n < f.end
            {
                weight = mix(share(n - f.start, f.end - f.start), rho);
            }
            if let Some((f, rho)) = fall
                && n >= f.start
            {
                weight = mix(1.0 - share(n - f.start, f.end - f.start), rho);
            }
            weight
        })
        .collect();
    Curve { start, weights }
}

/// A raised cosine, 0 before sample 0 and 1 at `len`: no corner at either end.
fn share(n: usize, len: usize) -> f32 {
    let t = (n as f64 + 0.5) / len.max(1) as f64;
    (0.5 - 0.5 * (std::f64::consts::PI * t).cos()) as f32
}

/// Weights whose sum keeps its power for signals of correlation `rho`: equal gain at 1, equal power at 0.
fn mix(w: f32, rho: f32) -> (f32, f32) {
    let power = w * w + (1.0 - w) * (1.0 - w) + 2.0 * rho * w * (1.0 - w);
    let scale = power.max(1e-6).sqrt().recip();
    ((1.0 - w) * scale, w * scale)
}

/// Correlation of both signals over a fade, 0..=1. Silence counts as equal.
fn correlation(a: &[f32], b: &[f32], fade: Span) -> f32 {
    let (mut dot, mut na, mut nb) = (0.0f64, 0.0f64, 0.0f64);
    for (&x, &y) in a[fade.start..fade.end].iter().zip(&b[fade.start..fade.end]) {
        dot += f64::from(x * y);
        na += f64::from(x * x);
        nb += f64::from(y * y);
    }
    if na * nb <= 1e-20 {
        return 1.0;
    }
    (dot / (na * nb).sqrt()).clamp(0.0, 1.0) as f32
}

/// How suddenly either signal rises at each millisecond.
struct Transients {
    rises: Vec<f64>,
    step: usize,
    len: usize,
}

impl Transients {
    fn new(a: &[f32], b: &[f32], rate: f64) -> Self {
        let step = (0.001 * rate).max(1.0) as usize;
        let energies = [Energy::new(a), Energy::new(b)];
        let window = 5 * step as i64;
        let floor = 1e-8 * window as f64;
        let rises = (0..a.len().div_ceil(step))
            .map(|i| {
                let at = (i * step) as i64;
                energies
                    .iter()
                    .map(|e| {
                        ((e.over(at, at + window) + floor) / (e.over(at - window, at) + floor)).ln()
                    })
                    .fold(0.0, f64::max)
            })
            .collect();
        Self {
            rises,
            step,
            len: a.len(),
        }
    }

    fn worst(&self, span: Span) -> f64 {
        let last = (span.end / self.step + 1).min(self.rises.len());
        let first = (span.start / self.step).min(last);
        self.rises[first..last].iter().fold(0.0, |m, &v| m.max(v))
    }

    /// The longest fade beside `border` that has no transient in it, the nearest of those; if all
    /// have one, the calmest.
    fn place(&self, border: usize, rate: f64, after: bool) -> Span {
        let mut calmest: Option<(f64, Span)> = None;
        for length in LENGTHS {
            let len = (length * rate).max(2.0) as usize;
            for i in 0..=20 {
                let away = (AWAY * rate * f64::from(i) / 20.0) as usize;
                let span = if after {
                    let start = (border + away).min(self.len);
                    Span {
                        start,
                        end: (start + len).min(self.len),
                    }
                } else {
                    let end = border.saturating_sub(away);
                    Span {
                        start: end.saturating_sub(len),
                        end,
                    }
                };
                // The stem ends here: shorter than asked.
                if span.end - span.start < len {
                    continue;
                }
                let worst = self.worst(span);
                if worst < TRANSIENT {
                    return span;
                }
                if calmest.is_none_or(|c| worst < c.0) {
                    calmest = Some((worst, span));
                }
            }
        }
        calmest.map_or_else(
            || {
                // Less than 10 ms of stem on this side: all of it.
                if after {
                    Span {
                        start: border,
                        end: self.len,
                    }
                } else {
                    Span {
                        start: 0,
                        end: border,
                    }
                }
            },
            |c| c.1,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_is_kept_at_both_extremes() {
        for i in 0..=100 {
            let w = i as f32 / 100.0;
            let (a, b) = mix(w, 1.0);
            assert!((a + b - 1.0).abs() < 1e-5, "equal gain");
            let (a, b) = mix(w, 0.0);
            assert!((a * a + b * b - 1.0).abs() < 1e-5, "equal power");
        }
    }
}
