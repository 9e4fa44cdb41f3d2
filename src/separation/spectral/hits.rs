// [worker] Drum hits in the lows: waveforms that recur at attacks, averaged over their recurrences.
//!
//! A kick and a bass share their octaves, so that no mask can part them. But a kick repeats nearly sample
//! for sample while what sounds with it changes: aligned and averaged, the hits stay and the rest fades
//! with their number. Each hit is then subtracted with its own gain (matching pursuit: Mallat & Zhang,
//! IEEE TSP 41(12), 1993).

use super::median::median_of;
use crate::separation::stft::{Plane, Stft};

/// Rate that the lows are worked at, Hz, at least: fine enough to align 250 Hz to a 30th of a period.
const LOW_RATE: f64 = 5500.0;
/// The lows: everything below is a drum's body, and phase-steady from hit to hit. Hz.
const CUTOFF_HZ: f64 = 500.0;
/// A hit's length, from [`BEFORE_S`] before its attack.
const LENGTH_S: f64 = 0.32;
const BEFORE_S: f64 = 0.01;
/// What hits are compared by: the attack and the first swings.
const COMPARED_S: f64 = 0.09;
/// How far an attack may be from where the detector saw it.
const SLACK_S: f64 = 0.012;
/// Recurrences from which a waveform is believed.
const FEWEST: usize = 6;
/// Attacks compared with each other, the strongest first.
const MOST_ATTACKS: usize = 160;
/// Different waveforms that are looked for (kick, snare, a tom).
const KINDS: usize = 3;

/// The lows of recurring hits in `mono`, at its rate and length. `None` if cancelled.
pub fn recurring(mono: &[f32], rate: u32, go_on: &dyn Fn() -> bool) -> Option<Vec<f32>> {
    let factor = ((f64::from(rate) / LOW_RATE) as usize).max(1);
    let low_rate = f64::from(rate) / factor as f64;
    let filter = Decimator::new(f64::from(rate), factor);
    let mut low = filter.down(mono);
    let attacks = attacks(mono, rate, &low, factor);
    if !go_on() {
        return None;
    }
    let mut found = vec![0.0f32; low.len()];
    let samples = |seconds: f64| (seconds * low_rate).round() as usize;
    let shape = Shape {
        before: samples(BEFORE_S),
        length: samples(LENGTH_S),
        compared: samples(COMPARED_S),
        slack: samples(SLACK_S),
    };
    for _ in 0..KINDS {
        let Some(kind) = learn(&low, &attacks, shape, low_rate, go_on)? else {
            break;
        };
        subtract(&mut low, &mut found, &kind, shape);
    }
    Some(filter.up(&found, mono.len()))
}

/// Lengths in samples of the low rate.
#[derive(Clone, Copy)]
struct Shape {
    before: usize,
    length: usize,
    compared: usize,
    slack: usize,
}

/// A recurring waveform and where it recurs (start of the waveform, by attack).
struct Kind {
    waveform: Vec<f32>,
    starts: Vec<usize>,
}

/// Cosine of the angle between two stretches.
fn likeness(a: &[f32], b: &[f32]) -> f32 {
    let (mut ab, mut aa, mut bb) = (0.0f32, 0.0f32, 0.0f32);
    for (x, y) in a.iter().zip(b) {
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    ab / (aa * bb).sqrt().max(1e-12)
}

/// The start near `at` whose stretch is most like `pattern`.
fn align(low: &[f32], at: usize, pattern: &[f32], slack: usize) -> Option<(f32, usize)> {
    let from = at.saturating_sub(slack);
    (from..=at + slack)
        .filter_map(|s| Some((likeness(low.get(s..s + pattern.len())?, pattern), s)))
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)))
}

/// The waveform that explains most energy at the attacks; `Some(None)` if there is none, `None` if cancelled.
fn learn(
    low: &[f32],
    attacks: &[usize],
    shape: Shape,
    low_rate: f64,
    go_on: &dyn Fn() -> bool,
) -> Option<Option<Kind>> {
    let starts: Vec<usize> = attacks
        .iter()
        .map(|a| a.saturating_sub(shape.before))
        .filter(|s| s + shape.length + shape.slack < low.len())
        .collect();
    let energy = |s: usize| -> f32 { low[s..s + shape.compared].iter().map(|x| x * x).sum() };
    // How much energy each attack's waveform explains at all attacks.
    let mut explained = vec![0.0f32; starts.len()];
    for (i, &a) in starts.iter().enumerate() {
        if !go_on() {
            return None;
        }
        let pattern = &low[a..a + shape.compared];
        for (j, &b) in starts.iter().enumerate() {
            if i != j
                && let Some((c, s)) = align(low, b, pattern, shape.slack)
            {
                explained[i] += (c - 0.5).max(0.0) * energy(s);
            }
        }
    }
    let mut order: Vec<usize> = (0..starts.len()).collect();
    order.sort_by(|&a, &b| explained[b].total_cmp(&explained[a]).then(a.cmp(&b)));
    let mut tried: Vec<usize> = Vec::new();
    for &i in order.iter().take(40) {
        if tried.contains(&i) || explained[i] <= 0.0 {
            continue;
        }
        let (kind, members) = average(low, &starts, i, shape);
        tried.extend(&members);
        if members.len() >= FEWEST && is_hit(&kind.waveform, shape, low_rate) {
            return Some(Some(kind));
        }
        if tried.len() > starts.len() {
            break;
        }
    }
    Some(None)
}

/// The average of all attacks like attack `seed`, refined twice, and the attacks that went into it.
fn average(low: &[f32], starts: &[usize], seed: usize, shape: Shape) -> (Kind, Vec<usize>) {
    let first = starts[seed];
    let mut waveform = low[first..first + shape.length].to_vec();
    let mut members: Vec<(usize, usize, f32)> = Vec::new();
    for round in 0..3 {
        let threshold = if round == 0 { 0.6 } else { 0.5 };
        members.clear();
        for (j, &s) in starts.iter().enumerate() {
            let found = align(low, s, &waveform[..shape.compared], shape.slack);
            if let Some((c, at)) = found
                && c > threshold
                && at + shape.length <= low.len()
            {
                let stretch = &low[at..at + shape.compared];
                let norm = waveform[..shape.compared]
                    .iter()
                    .map(|x| x * x)
                    .sum::<f32>();
                let dot: f32 = stretch.iter().zip(&waveform).map(|(a, b)| a * b).sum();
                members.push((j, at, dot / norm.max(1e-12)));
            }
        }
        if members.len() < FEWEST {
            break;
        }
        let mut values = Vec::with_capacity(members.len());
        for (n, w) in waveform.iter_mut().enumerate() {
            values.clear();
            values.extend(members.iter().map(|&(_, at, gain)| low[at + n] / gain));
            *w = median_of(&mut values);
        }
    }
    weigh(low, &mut waveform, &members, shape);
    let starts = members.iter().map(|m| m.1).collect();
    (
        Kind { waveform, starts },
        members.iter().map(|m| m.0).collect(),
    )
}

/// Fades the waveform where it is not above what the average of so few leaves of everything else
/// (Wiener, over 20 ms), and at its end.
fn weigh(low: &[f32], waveform: &mut [f32], members: &[(usize, usize, f32)], shape: Shape) {
    let count = members.len().max(1) as f32;
    let block = (shape.length / 16).max(1);
    let mut gains = Vec::new();
    for (b, part) in waveform.chunks(block).enumerate() {
        let (mut own, mut rest) = (1e-20f32, 0.0f32);
        for (n, w) in part.iter().enumerate() {
            own += w * w;
            for &(_, at, gain) in members {
                rest += (low[at + b * block + n] / gain - w).powi(2);
            }
        }
        // The variance of a median is about pi/2 that of a mean.
        let noise = 1.57 * rest / (count * count);
        gains.push((1.0 - noise / own).clamp(0.0, 1.0));
    }
    let mut ceiling = 1.0f32;
    let len = waveform.len();
    for (n, w) in waveform.iter_mut().enumerate() {
        let x = n as f32 / block as f32 - 0.5;
        let (i, frac) = (x.floor().max(0.0) as usize, x - x.floor());
        let a = gains[i.min(gains.len() - 1)];
        let b = gains[(i + 1).min(gains.len() - 1)];
        let gain = if x < 0.0 { a } else { a + (b - a) * frac };
        // A hit that has faded does not come back.
        if n > shape.compared {
            ceiling = ceiling.min(gain);
        }
        let end = ((len - n) as f32 / (len as f32 * 0.25)).min(1.0);
        *w *= gain.min(ceiling) * end;
    }
}

/// Where a stretch's energy lies, 30 to 500 Hz.
struct Tone {
    centroid_hz: f64,
    /// Share of the energy below 1.6 times the peak: near 1 without partials.
    purity: f64,
}

impl Tone {
    fn of(stretch: &[f32], rate: f64) -> Self {
        const STEP_HZ: f64 = 5.0;
        let power: Vec<(f64, f64)> = (6..100)
            .map(|i| {
                let hz = f64::from(i) * STEP_HZ;
                let turn = std::f64::consts::TAU * hz / rate;
                let (mut re, mut im) = (0.0f64, 0.0f64);
                for (n, x) in stretch.iter().enumerate() {
                    let hann =
                        0.5 - 0.5 * (std::f64::consts::TAU * n as f64 / stretch.len() as f64).cos();
                    let (sin, cos) = (turn * n as f64).sin_cos();
                    re += f64::from(*x) * hann * cos;
                    im += f64::from(*x) * hann * sin;
                }
                (hz, re * re + im * im)
            })
            .collect();
        let total: f64 = power.iter().map(|p| p.1).sum::<f64>().max(1e-30);
        let peak_hz = power
            .iter()
            .fold((0.0, -1.0), |a, &b| if b.1 > a.1 { b } else { a })
            .0;
        let low: f64 = power
            .iter()
            .filter(|p| p.0 < 1.6 * peak_hz)
            .map(|p| p.1)
            .sum();
        Self {
            centroid_hz: power.iter().map(|p| p.0 * p.1).sum::<f64>() / total,
            purity: low / total,
        }
    }
}

/// Whether a waveform is a drum's: it dies away at once, or its pitch falls like a long kick's (a bare
/// tone an octave or so below its attack). A held note does neither.
fn is_hit(waveform: &[f32], shape: Shape, low_rate: f64) -> bool {
    let part = |from: f64, to: f64| -> &[f32] {
        let at = |seconds: f64| (shape.before + (seconds * low_rate) as usize).min(waveform.len());
        &waveform[at(from)..at(to)]
    };
    let level = |part: &[f32]| part.iter().map(|x| x * x).sum::<f32>() / part.len().max(1) as f32;
    let early = level(part(0.0, 0.08));
    let middle = level(part(0.08, 0.14));
    let late = level(part(0.14, 0.24));
    let dies = middle < 0.2 * early && late < 0.1 * early;
    if early <= 0.0 || dies {
        return early > 0.0;
    }
    let (attack, body) = (
        Tone::of(part(0.0, 0.06), low_rate),
        Tone::of(part(0.1, 0.24), low_rate),
    );
    late < 0.5 * early && body.purity > 0.9 && attack.centroid_hz > 1.4 * body.centroid_hz
}

/// Takes the kind out of `low` wherever it occurs and adds it to `found`.
fn subtract(low: &mut [f32], found: &mut [f32], kind: &Kind, shape: Shape) {
    let span = (2 * shape.compared).min(shape.length);
    let norm: f32 = kind.waveform[..span].iter().map(|x| x * x).sum();
    if norm <= 0.0 {
        return;
    }
    let gain_at = |low: &[f32], s: usize| -> f32 {
        let dot: f32 = low[s..s + span]
            .iter()
            .zip(&kind.waveform)
            .map(|(a, b)| a * b)
            .sum();
        dot / norm
    };
    let mut gains: Vec<f32> = kind.starts.iter().map(|&s| gain_at(low, s)).collect();
    let typical = median_of(&mut gains);
    let mut done: Vec<usize> = Vec::new();
    for &s in &kind.starts {
        if done.iter().any(|d| d.abs_diff(s) < shape.compared / 2) {
            continue;
        }
        done.push(s);
        let gain = gain_at(low, s).clamp(0.0, 1.6 * typical);
        for (n, w) in kind.waveform.iter().enumerate() {
            low[s + n] -= gain * w;
            found[s + n] += gain * w;
        }
    }
}

/// Attacks of `mono` in samples of the low rate, ascending: peaks of spectral flux, the strongest
/// [`MOST_ATTACKS`] by the rise of the lows.
fn attacks(mono: &[f32], rate: u32, low: &[f32], factor: usize) -> Vec<usize> {
    // 23 ms at 44.1 kHz, a quarter of it a hop.
    let size = ((f64::from(rate) * 0.0232) as usize)
        .next_power_of_two()
        .clamp(32, 8192);
    let stft = Stft::new(size);
    let spectrum = stft.analyse(mono);
    let mut flux = vec![0.0f32; spectrum.frames];
    let mut last = vec![0.0f32; spectrum.bins];
    // Levels below this are as good as silence: -70 dB under the loudest.
    let peak = spectrum
        .data
        .iter()
        .map(|x| x.norm_sqr())
        .fold(0.0, f32::max);
    let floor = peak * 1e-7 + 1e-20;
    for (t, f) in flux.iter_mut().enumerate() {
        for (x, l) in spectrum.row(t).iter().zip(&mut last) {
            let level = (x.norm_sqr() / floor + 1.0).ln();
            *f += (level - *l).max(0.0);
            *l = level;
        }
    }
    drop::<Plane<_>>(spectrum);
    let half = 8;
    let mut out: Vec<(f32, usize)> = Vec::new();
    for t in 1..flux.len().saturating_sub(1) {
        let around = &flux[t.saturating_sub(half)..(t + half + 1).min(flux.len())];
        let mean = around.iter().sum::<f32>() / around.len() as f32;
        let near = &flux[t.saturating_sub(4)..(t + 5).min(flux.len())];
        if flux[t] > 1.3 * mean && near.iter().all(|&f| f <= flux[t]) {
            let at = t * stft.hop / factor;
            let span = (0.04 * f64::from(rate) / factor as f64) as usize;
            let energy = |from: usize, to: usize| -> f32 {
                low.get(from.min(low.len())..to.min(low.len()))
                    .unwrap_or_default()
                    .iter()
                    .map(|x| x * x)
                    .sum()
            };
            let rise = energy(at, at + span) - energy(at.saturating_sub(span), at);
            if rise > 0.0 {
                out.push((rise, at));
            }
        }
    }
    out.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    out.truncate(MOST_ATTACKS);
    let mut out: Vec<usize> = out.into_iter().map(|o| o.1).collect();
    out.sort_unstable();
    out
}

/// Linear-phase low-pass with a change of rate by a whole factor, without delay.
struct Decimator {
    taps: Vec<f32>,
    factor: usize,
}

impl Decimator {
    fn new(rate: f64, factor: usize) -> Self {
        // Hann-windowed sinc; the window sets a transition of about 2 / its length.
        let half = (rate / 220.0).round() as isize;
        let cutoff = (CUTOFF_HZ / rate).min(0.45);
        let mut taps: Vec<f32> = (-half..=half)
            .map(|n| {
                let x = n as f64;
                let sinc = if n == 0 {
                    2.0 * cutoff
                } else {
                    (std::f64::consts::TAU * cutoff * x).sin() / (std::f64::consts::PI * x)
                };
                let hann = 0.5 + 0.5 * (std::f64::consts::PI * x / (half + 1) as f64).cos();
                (sinc * hann) as f32
            })
            .collect();
        let sum: f32 = taps.iter().sum();
        taps.iter_mut().for_each(|t| *t /= sum);
        Self { taps, factor }
    }

    fn down(&self, signal: &[f32]) -> Vec<f32> {
        let half = self.taps.len() / 2;
        (0..signal.len().div_ceil(self.factor))
            .map(|i| {
                let centre = i * self.factor;
                let from = centre.saturating_sub(half);
                let to = (centre + half + 1).min(signal.len());
                let skip = from + half - centre;
                signal[from..to]
                    .iter()
                    .zip(&self.taps[skip..])
                    .map(|(x, t)| x * t)
                    .sum()
            })
            .collect()
    }

    /// `len` samples at the full rate.
    fn up(&self, low: &[f32], len: usize) -> Vec<f32> {
        let half = self.taps.len() / 2;
        let mut out = vec![0.0f32; len];
        for (i, x) in low.iter().enumerate() {
            if *x == 0.0 {
                continue;
            }
            let centre = i * self.factor;
            let from = centre.saturating_sub(half);
            let to = (centre + half + 1).min(len);
            let skip = from + half - centre;
            let scaled = x * self.factor as f32;
            if from < to {
                for (o, t) in out[from..to].iter_mut().zip(&self.taps[skip..]) {
                    *o += scaled * t;
                }
            }
        }
        out
    }
}
