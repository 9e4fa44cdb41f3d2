// [worker] The bass's tone: harmonics and noise of clean notes, learned, and played at any pitch.

use super::{
    super::{
        Random, Scene,
        filter::Energy,
        overdrive::{Overdrive, quantile},
        spectra::Spectra,
    },
    pitch::{Played, hz},
};
use realfft::{RealFftPlanner, num_complex::Complex32};
use std::f64::consts::TAU;

/// Seconds between tone frames.
const STEP: f64 = 0.008;
/// Samples a period in the pitch-synchronous analysis, and periods a frame (Hann: the neighbouring
/// harmonics fall on its zeros).
const PER_PERIOD: usize = 256;
const PERIODS: usize = 3;
/// Most harmonics that are played.
const MOST_HARMONICS: usize = 48;
/// Bands of the noise, half octaves from 60 Hz.
const NOISE_BANDS: usize = 18;
/// Longest stretch of a note that is learned, seconds.
const LONGEST: f64 = 2.5;
/// Error of the harmonics as a share of their power: with one donor, and with the built-in tone.
const LONE_ERROR: f32 = 0.15;
const FINGER_ERROR: f32 = 0.6;
/// How exact a measured level is, and how far a bassist's notes spread, dB.
const LEVEL_DB: f32 = 1.0;
const USUAL_DB: f32 = 4.0;

/// Highest harmonic, Hz. Above it a bass is mostly string and finger noise.
pub(super) fn top_hz(rate: f64) -> f64 {
    3500.0f64.min(0.2 * rate)
}

/// Harmonics of a note, every [`STEP`] seconds.
struct Harmonics {
    /// `frames[i][k − 1]`: amplitude of harmonic `k`, its phase relative to `k` times [`Harmonics::cycles`].
    frames: Vec<Vec<Complex32>>,
    /// Phase of the fundamental in cycles at each sample from `first`.
    cycles: Vec<f64>,
    first: i64,
}

impl Harmonics {
    /// Pitch-synchronous analysis: the note is resampled to a constant period, so that a short
    /// transform has each harmonic in a bin of its own, through slides and vibrato.
    fn analyse(low: &[f32], note: &Played, rate: f64) -> Option<Self> {
        let period = rate / hz(note.midi);
        let reach = (PERIODS as f64 + 1.0) * 0.5 * period * 1.3;
        let first = (note.start - reach).floor() as i64;
        let last = (note.end + reach).ceil() as i64;
        let mut cycles = Vec::with_capacity((last - first) as usize);
        let mut phase = 0.0f64;
        for n in first..last {
            cycles.push(phase);
            phase += note.hz_at(n as f64, rate) / rate;
        }
        let count = ((hz(note.midi).recip() * top_hz(rate)) as usize).clamp(1, MOST_HARMONICS);
        let warped = warp(low, first, &cycles);
        let len = PERIODS * PER_PERIOD;
        let mut planner = RealFftPlanner::<f32>::new();
        let forward = planner.plan_fft_forward(len);
        let window: Vec<f32> = (0..len)
            .map(|i| (0.5 - 0.5 * (TAU * i as f64 / len as f64).cos()) as f32)
            .collect();
        // Amplitude of a harmonic of amplitude 1 through the window: half of half the length.
        let scale = 4.0 / len as f32;
        let total = ((note.end - note.start) / (STEP * rate)).ceil() as usize + 1;
        let mut time = forward.make_input_vec();
        let mut bins = forward.make_output_vec();
        let mut frames = Vec::with_capacity(total);
        // A frame looks into its own note only, as far as the note is long enough.
        let (early, late) = (note.start + 1.2 * period, note.end - period);
        for i in 0..total {
            let at = note.start + i as f64 * STEP * rate;
            let at = at.min(late).max(early.min((note.start + note.end) / 2.0));
            let index = (at - first as f64)
                .round()
                .clamp(0.0, cycles.len() as f64 - 1.0) as usize;
            let middle = (cycles[index] * PER_PERIOD as f64).round() as i64;
            let begin = middle - len as i64 / 2;
            for (j, (t, w)) in time.iter_mut().zip(&window).enumerate() {
                *t = usize::try_from(begin + j as i64)
                    .ok()
                    .and_then(|n| warped.get(n))
                    .map_or(0.0, |v| v * w);
            }
            forward.process(&mut time, &mut bins).ok()?;
            let turn = begin.rem_euclid(PER_PERIOD as i64) as f64 / PER_PERIOD as f64;
            frames.push(
                (1..=count)
                    .map(|k| {
                        let back = -TAU * (k as f64 * turn).fract();
                        bins[PERIODS * k]
                            * scale
                            * Complex32::new(back.cos() as f32, back.sin() as f32)
                    })
                    .collect(),
            );
        }
        Some(Self {
            frames,
            cycles,
            first,
        })
    }

    /// Adds the note's harmonics with amplitudes and phases `frames` to `out`, whose first sample is
    /// the absolute sample `origin`.
    fn render(
        &self,
        frames: &[Vec<Complex32>],
        note: &Played,
        rate: f64,
        origin: i64,
        out: &mut [f32],
    ) {
        let step = STEP * rate;
        let from = (note.start.round() as i64).max(origin).max(self.first);
        let to = (note.end.round() as i64)
            .min(origin + out.len() as i64)
            .min(self.first + self.cycles.len() as i64);
        // 4 ms in, 10 ms out: a pluck is fast, a string is damped slower.
        let (rise, fall) = (0.004 * rate, 0.010 * rate);
        let (mut re, mut im, mut turn_re, mut turn_im): (Vec<f32>, Vec<f32>, Vec<f32>, Vec<f32>) =
            Default::default();
        let mut sum: Vec<f32> = Vec::new();
        let mut n = from;
        while n < to && !frames.is_empty() {
            let position = (n as f64 - note.start).max(0.0) / step;
            let i = (position as usize).min(frames.len() - 1);
            let j = (i + 1).min(frames.len() - 1);
            let next = if i + 1 >= frames.len() {
                to
            } else {
                (((i + 1) as f64 * step + note.start).ceil() as i64).clamp(n + 1, to)
            };
            let len = (next - n) as usize;
            re.clear();
            im.clear();
            for m in n..next {
                let turn = TAU * self.cycles[(m - self.first) as usize].fract();
                re.push(turn.cos() as f32);
                im.push(turn.sin() as f32);
            }
            turn_re.clone_from(&re);
            turn_im.clone_from(&im);
            sum.clear();
            sum.resize(len, 0.0);
            let t0 = ((n as f64 - note.start) / step - i as f64).clamp(0.0, 1.0) as f32;
            let dt = (1.0 / step) as f32;
            for (&a, &b) in frames[i].iter().zip(&frames[j]) {
                let d = b - a;
                for m in 0..len {
                    let t = (t0 + m as f32 * dt).min(1.0);
                    let (cr, ci) = (a.re + t * d.re, a.im + t * d.im);
                    sum[m] += cr * re[m] - ci * im[m];
                }
                for m in 0..len {
                    let (r, i) = (re[m], im[m]);
                    re[m] = r * turn_re[m] - i * turn_im[m];
                    im[m] = r * turn_im[m] + i * turn_re[m];
                }
            }
            for (m, s) in sum.iter().enumerate() {
                let at = n + m as i64;
                let fade = (((at as f64 - note.start) / rise).clamp(0.0, 1.0)
                    * ((note.end - at as f64) / fall).clamp(0.0, 1.0))
                    as f32;
                out[(at - origin) as usize] += s * fade;
            }
            n = next;
        }
    }
}

/// Resamples `x` so that a cycle has [`PER_PERIOD`] samples (cubic interpolation; `x` is low-passed).
fn warp(x: &[f32], first: i64, cycles: &[f64]) -> Vec<f32> {
    let at = |n: i64| -> f32 {
        usize::try_from(n)
            .ok()
            .and_then(|n| x.get(n))
            .map_or(0.0, |&v| v)
    };
    let total = (cycles.last().map_or(0.0, |c| *c) * PER_PERIOD as f64) as usize;
    let mut out = Vec::with_capacity(total);
    let mut i = 0;
    for m in 0..total {
        let wanted = m as f64 / PER_PERIOD as f64;
        while i + 2 < cycles.len() && cycles[i + 1] <= wanted {
            i += 1;
        }
        let t = ((wanted - cycles[i]) / (cycles[i + 1] - cycles[i]).max(1e-12)) as f32;
        let n = first + i as i64;
        let (a, b, c, d) = (at(n - 1), at(n), at(n + 1), at(n + 2));
        let slope = 0.5 * (c - a);
        let v = c - b;
        let w = slope + v;
        let e = w + v * -2.0 + 0.5 * (d - b);
        out.push(b + t * (slope + t * (-(w + e - v) + t * e)));
    }
    out
}

/// How a note sounds over time.
pub(super) struct Model {
    hz: f64,
    velocity: f32,
    /// Amplitude of each harmonic, every [`STEP`] seconds from the onset.
    amplitudes: Vec<Vec<f32>>,
    /// Power of the noise a bin, by half octave, in the frames of [`Spectra`] that start at the onset and
    /// every hop after it.
    noise: Vec<[f32; NOISE_BANDS]>,
    /// The built-in tone: its level means nothing.
    pub built_in: bool,
}

impl Model {
    /// Learns a clean note.
    pub fn learn(scene: &Scene, low: &[f32], note: &Played) -> Option<Self> {
        let mut note = note.clone();
        note.end = note.end.min(note.start + LONGEST * scene.rate);
        let harmonics = Harmonics::analyse(low, &note, scene.rate)?;
        // What follows the release is not the tone.
        let held = ((note.release - note.start) / (STEP * scene.rate)) as usize;
        let amplitudes: Vec<Vec<f32>> = harmonics
            .frames
            .iter()
            .take(held.max(3))
            .map(|f| f.iter().map(|c| c.norm()).collect())
            .collect();
        let origin = note.start as i64;
        let mut rest = scene.cut(origin, note.release.min(note.end) as i64);
        let mut own = vec![0.0; rest.len()];
        harmonics.render(&harmonics.frames, &note, scene.rate, origin, &mut own);
        for (r, o) in rest.iter_mut().zip(&own) {
            *r -= o;
        }
        let mut spectra = Spectra::new(scene.rate);
        let mut row = vec![Complex32::default(); spectra.bins()];
        let mut noise = Vec::new();
        let (n, hop) = (spectra.n as i64, spectra.hop as i64);
        // Whole frames inside the note only: the cut at its ends would splatter over all frequencies.
        let mut start = 0;
        while start + n <= rest.len() as i64 {
            spectra.analyse(&rest, start, &mut row);
            let mut sums = [0.0f32; NOISE_BANDS];
            let mut counts = [0.0f32; NOISE_BANDS];
            for (i, r) in row.iter().enumerate() {
                let band = noise_band(i as f64 * scene.rate / n as f64);
                sums[band] += r.norm_sqr();
                counts[band] += 1.0;
            }
            for (s, c) in sums.iter_mut().zip(counts) {
                *s /= c.max(1.0);
            }
            noise.push(sums);
            start += hop;
        }
        Some(Self {
            hz: hz(note.midi),
            velocity: note.velocity,
            amplitudes,
            noise,
            built_in: false,
        })
    }

    /// A finger-plucked string: a comb by the plucking place (18 % of the string), a soft fingertip's
    /// low-pass near 900 Hz, highs that die first (Fletcher and Rossing, chapter 9, in spirit).
    pub fn finger() -> Self {
        let base = 55.0;
        let amplitudes = (0..(LONGEST / STEP) as usize)
            .map(|i| {
                let t = i as f64 * STEP;
                (1..=MOST_HARMONICS)
                    .map(|k| {
                        let k = k as f64;
                        let pluck = (std::f64::consts::PI * k * 0.18).sin().abs().max(0.05) / k;
                        let tip = 1.0 / (1.0 + (k * base / 900.0).powi(2));
                        (pluck * tip * (-t * (0.6 + 0.35 * k)).exp()) as f32
                    })
                    .collect()
            })
            .collect();
        Self {
            hz: base,
            velocity: 0.7,
            amplitudes,
            noise: Vec::new(),
            built_in: true,
        }
    }
}

fn noise_band(hz: f64) -> usize {
    ((2.0 * (hz / 60.0).max(1.0).log2()) as usize).min(NOISE_BANDS - 1)
}

/// What a note is expected to sound like: weighted over the models by register and velocity.
struct Expected {
    amplitudes: Vec<Vec<f32>>,
    noise: Vec<[f32; NOISE_BANDS]>,
    error: f32,
}

fn expect(models: &[Model], note: &Played, count: usize, frames: usize, hops: usize) -> Expected {
    let own = hz(note.midi);
    let mut weights: Vec<(f32, &Model)> = models
        .iter()
        .map(|m| {
            let apart = (12.0 * (m.hz / own).log2() / 4.0) as f32;
            let louder = (m.velocity - note.velocity) / 0.2;
            (
                (-apart * apart).exp() * (0.05 + (-louder * louder).exp()) + 1e-6,
                m,
            )
        })
        .collect();
    weights.sort_by(|a, b| b.0.total_cmp(&a.0));
    weights.truncate(6);
    let at = |m: &Model, i: usize, k: usize| -> Option<f32> {
        let last = m.amplitudes.len().checked_sub(1)?;
        let a = *m.amplitudes[i.min(last)].get(k)?;
        // Past what was heard, the string decays on (20 dB a second).
        Some(a * 0.981f32.powi(i.saturating_sub(last) as i32))
    };
    let amplitudes = (0..frames)
        .map(|i| {
            (0..count)
                .map(|k| {
                    let (mut sum, mut total) = (0.0f32, 0.0f32);
                    for (w, m) in &weights {
                        if let Some(a) = at(m, i, k) {
                            sum += w * a.max(1e-7).ln();
                            total += w;
                        }
                    }
                    if total > 0.0 {
                        (sum / total).exp()
                    } else {
                        0.0
                    }
                })
                .collect()
        })
        .collect();
    let noise = (0..hops)
        .map(|i| {
            let mut sums = [0.0f32; NOISE_BANDS];
            let mut total = 0.0;
            for (w, m) in &weights {
                let Some(last) = m.noise.len().checked_sub(1) else {
                    continue;
                };
                total += w;
                // Hops count the frames' middles, which lie half a frame (two hops) in.
                for (s, p) in sums.iter_mut().zip(&m.noise[i.saturating_sub(2).min(last)]) {
                    *s += w * p;
                }
            }
            sums.map(|s| if total > 0.0 { s / total } else { 0.0 })
        })
        .collect();
    // How far the best model is from the others tells how far it may be from this note.
    let error = match weights.as_slice() {
        [(_, one), ..] if one.built_in => FINGER_ERROR,
        [(_, one), rest @ ..] if !rest.is_empty() => {
            let mut errors: Vec<f32> = rest
                .iter()
                .take(3)
                .map(|(_, other)| {
                    let (mut wrong, mut power) = (0.0f32, 1e-12f32);
                    for i in 0..frames.min(60) {
                        for k in 0..count {
                            if let (Some(a), Some(b)) = (at(one, i, k), at(other, i, k)) {
                                wrong += (a - b) * (a - b);
                                power += a * a;
                            }
                        }
                    }
                    (wrong / power).clamp(0.02, 1.0)
                })
                .collect();
            quantile(&mut errors, 0.5)
        }
        _ => LONE_ERROR,
    };
    Expected {
        amplitudes,
        noise,
        error,
    }
}

/// Collects the notes of a span.
pub(super) struct Synth {
    pub audio: Vec<f32>,
    /// The expected error: see [`super::super::fuse::Evidence::doubt`].
    pub doubt: Vec<f32>,
    rate: f64,
    origin: i64,
    spectra: Spectra,
}

impl Synth {
    /// Silence of `len` samples from the absolute sample `origin`.
    pub fn new(rate: f64, origin: i64, len: usize) -> Self {
        Self {
            audio: vec![0.0; len],
            doubt: vec![0.0; len],
            rate,
            origin,
            spectra: Spectra::new(rate),
        }
    }

    /// Plays a note: amplitudes as expected, phases as the damaged stem has them, so that what is
    /// played joins the sound parts of the stem without a seam. False if it can't be played.
    pub fn play(
        &mut self,
        scene: &Scene,
        low: &[f32],
        note: &Played,
        models: &[Model],
        random: &mut Random,
    ) -> bool {
        let Some(heard) = Harmonics::analyse(low, note, self.rate) else {
            return false;
        };
        let frames = heard.frames.len();
        let count = heard.frames.first().map_or(0, Vec::len);
        let hops = ((note.end - note.start) / self.spectra.hop as f64).ceil() as usize + 1;
        let expected = expect(models, note, count, frames, hops);
        let mut scale = 1.0;
        if models.iter().any(|m| m.built_in) {
            let mut heard: Vec<f32> = heard.frames.iter().map(|f| f[0].norm()).collect();
            let mut own: Vec<f32> = expected.amplitudes.iter().map(|f| f[0]).collect();
            scale = quantile(&mut heard, 0.7) / quantile(&mut own, 0.7).max(1e-9);
        }
        let wanted: Vec<Vec<Complex32>> = (0..frames)
            .map(|i| {
                let (a, b) = (i.saturating_sub(1), (i + 2).min(frames));
                (0..count)
                    .map(|k| {
                        let mean: Complex32 = heard.frames[a..b].iter().map(|f| f[k]).sum();
                        let size = mean.norm();
                        let phase = if size > 1e-9 {
                            mean / size
                        } else {
                            Complex32::new(1.0, 0.0)
                        };
                        phase * (scale * expected.amplitudes[i][k])
                    })
                    .collect()
            })
            .collect();
        let before = (note.start as i64 - self.origin).max(0) as usize;
        let after = ((note.end as i64 - self.origin).max(0) as usize).min(self.audio.len());
        let mut alone = vec![0.0; self.audio.len()];
        heard.render(&wanted, note, self.rate, self.origin, &mut alone);
        let share = expected.error.sqrt();
        let reach = before.min(after)..after;
        for ((a, d), v) in self.audio[reach.clone()]
            .iter_mut()
            .zip(&mut self.doubt[reach.clone()])
            .zip(&alone[reach])
        {
            *a += v;
            *d += share * v;
        }
        self.breathe(scene, note, &expected.noise, random);
        true
    }

    /// Adds the note's noise: finger, fret, string, and the recording's own floor.
    fn breathe(
        &mut self,
        scene: &Scene,
        note: &Played,
        noise: &[[f32; NOISE_BANDS]],
        random: &mut Random,
    ) {
        let bins = self.spectra.bins();
        let (n, hop) = (self.spectra.n as i64, self.spectra.hop as i64);
        let bands: Vec<usize> = (0..bins)
            .map(|i| noise_band(i as f64 * scene.rate / n as f64))
            .collect();
        let mut row = vec![Complex32::default(); bins];
        for (i, powers) in noise.iter().enumerate() {
            let start = note.start as i64 + i as i64 * hop - n / 2;
            if start + n < self.origin || start > self.origin + self.audio.len() as i64 {
                // The generator must not depend on what is in view.
                for _ in 0..bins {
                    random.next_u64();
                }
                continue;
            }
            for (r, &b) in row.iter_mut().zip(&bands) {
                let turn = std::f32::consts::PI * random.next();
                // Independent frames of amplitude A, overlapped four times through [`Spectra::add`], have the
                // variance A²/1.5n; a Hann frame of it the power 3/8·n times that, A²/4.
                *r = Complex32::new(turn.cos(), turn.sin()) * (powers[b] * 4.0).sqrt();
            }
            self.spectra.add(&row, start - self.origin, &mut self.audio);
            for r in &mut row {
                *r *= std::f32::consts::SQRT_2;
            }
            self.spectra.add(&row, start - self.origin, &mut self.doubt);
        }
    }

    /// Follows the performance's level: what it must have been before the overload.
    pub fn level(&mut self, damaged: &[f32], drive: Overdrive, hurt: &dyn Fn(usize) -> bool) {
        let step = (0.010 * self.rate).max(1.0) as usize;
        let half = (0.015 * self.rate) as i64;
        let count = self.audio.len() / step + 1;
        let own = Energy::new(damaged);
        let mut logs = vec![0.0f32; count];
        let raw = self.audio.clone();
        let hurt: Vec<bool> = (0..raw.len()).map(hurt).collect();
        for _ in 0..5 {
            let current: Vec<f32> = gained(&raw, &logs, step);
            // Only what was overdriven may be compared through the overload.
            let driven: Vec<f32> = current
                .iter()
                .zip(&hurt)
                .map(|(&v, &hurt)| if hurt { drive.apply(v) } else { v })
                .collect();
            let energy = Energy::new(&driven[..]);
            let moving: Vec<f32> = current
                .iter()
                .zip(&driven)
                .zip(&hurt)
                .map(|((&c, &d), &hurt)| {
                    let slope = if hurt { drive.slope(c) } else { 1.0 };
                    (c * slope * d).max(0.0).sqrt()
                })
                .collect();
            let moving = Energy::new(moving);
            let mut next = logs.clone();
            for (i, l) in next.iter_mut().enumerate() {
                let at = (i * step) as i64;
                let (from, to) = (at - half, at + half);
                let floor = 1e-9 * half as f64;
                let e = energy.over(from, to) + floor;
                let ratio = ((own.over(from, to) + floor) / e).sqrt();
                let slope = ((moving.over(from, to) + floor) / e).clamp(0.05, 1.0);
                let wanted = *l + (ratio.ln() / slope.max(0.25)).clamp(-0.7, 0.7) as f32;
                let blur = (LEVEL_DB / slope as f32).powi(2);
                // What is sound follows what is heard; what is hurt is held near the usual level.
                let pull = match hurt.get(i * step) {
                    Some(true) => blur / (blur + USUAL_DB * USUAL_DB),
                    _ => 0.0,
                };
                // Up 12 dB, down to silence.
                *l = (wanted * (1.0 - pull)).clamp(-7.0, 1.4);
            }
            // Levels move no faster than a hand does.
            for (i, l) in logs.iter_mut().enumerate() {
                let (a, b) = (i.saturating_sub(1), (i + 2).min(count));
                *l = next[a..b].iter().sum::<f32>() / (b - a) as f32;
            }
        }
        self.audio = gained(&raw, &logs, step);
        self.doubt = gained(&self.doubt, &logs, step);
    }
}

/// `x` with the gains `exp(logs)`, one every `step` samples, interpolated.
fn gained(x: &[f32], logs: &[f32], step: usize) -> Vec<f32> {
    let gains: Vec<f32> = logs.iter().map(|l| l.exp()).collect();
    x.iter()
        .enumerate()
        .map(|(n, v)| {
            let i = (n / step).min(gains.len() - 1);
            let j = (i + 1).min(gains.len() - 1);
            let t = (n % step) as f32 / step as f32;
            v * (gains[i] + t * (gains[j] - gains[i]))
        })
        .collect()
}
