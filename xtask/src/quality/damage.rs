// [cli] Damage that `quality` makes where a folder has none, from seeds, and the detector's score.

use std::ops::Range;

use crate::render::split_mix;
use serde_json::Value;
use uncook::{
    audio::AudioBuffer,
    damage::{DEFAULT_THRESHOLD, DamageKind, Severity},
    metrics::damage::damage_map,
    realtime::eq::biquad::{Coefficients, State},
};

/// Seed of everything made here.
const SEED: u64 = 20_260_103;
/// Fade at a dropout's borders, as devices do.
const FADE_SECONDS: f64 = 0.001;

/// SplitMix64, uniform in 0..1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        (split_mix(&mut self.0) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Normally distributed (Box and Muller), standard deviation 1.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.next().max(1e-300).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.next()).cos()
    }
}

fn rms(x: &[f32]) -> f64 {
    (x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / x.len().max(1) as f64).sqrt()
}

fn mono(samples: Vec<f32>, rate: u32) -> AudioBuffer {
    AudioBuffer::new(vec![samples], rate)
}

/// Clicks of up to half a millisecond: decaying bursts of noise, 1 to 6 times as high as the music is loud.
pub fn crackle(clean: &[f32], rate: u32, per_second: f64) -> AudioBuffer {
    let mut random = Random(SEED);
    let mut out = clean.to_vec();
    let level = rms(clean);
    let mut at = 0.0;
    loop {
        at += -random.next().max(1e-9).ln() / per_second * f64::from(rate);
        if at >= clean.len() as f64 {
            return mono(out, rate);
        }
        let length = 1 + (random.next().powi(2) * 0.0005 * f64::from(rate)) as usize;
        let height = level * (1.0 + 5.0 * random.next());
        for (i, x) in out[at as usize..].iter_mut().take(length).enumerate() {
            let decay = (-3.0 * i as f64 / length as f64).exp();
            *x += (height * decay * random.normal().signum() * (0.5 + 0.5 * random.next())) as f32;
        }
    }
}

/// White noise, or hiss (white noise with twice the highs), `snr_db` below the music.
pub fn noise(clean: &[f32], rate: u32, hiss: bool, snr_db: f64) -> AudioBuffer {
    let mut random = Random(SEED + 1);
    let mut last = 0.0;
    let noise: Vec<f32> = clean
        .iter()
        .map(|_| {
            let white = random.normal();
            let sharp = white - 0.7 * last;
            last = white;
            (if hiss { sharp } else { white }) as f32
        })
        .collect();
    let gain = rms(clean) / rms(&noise).max(1e-12) * 10f64.powf(-snr_db / 20.0);
    let samples = clean.iter().zip(&noise);
    mono(samples.map(|(x, n)| x + gain as f32 * n).collect(), rate)
}

/// What a phone's microphone makes of a part of a song.
pub struct Heard {
    /// Where the part begins, samples.
    pub start: usize,
    pub damaged: AudioBuffer,
}

/// Three phones, four seconds each: a high-pass of second to fourth order at 120 to 300 Hz, a low-pass of second to
/// fourth order at 8 to 15 kHz, a resonance of 3 to 8 dB at 1.5 to 4.5 kHz, and 16 bits.
pub fn microphones(clean: &[f32], rate: u32) -> Vec<Heard> {
    let mut random = Random(SEED + 3);
    let rate_hz = f64::from(rate);
    let mut phones = Vec::new();
    for orders in [[2, 2], [3, 2], [4, 4]] {
        let mut between = |from: f64, to: f64| from + (to - from) * random.next();
        let mut sections = Vec::new();
        let (high_pass, low_pass) = (between(120.0, 300.0), between(8_000.0, 15_000.0));
        for (kind, hz, order) in [(true, high_pass, orders[0]), (false, low_pass, orders[1])] {
            // A Butterworth filter's pole pairs, and its real pole where the order is odd (here: no low-pass's).
            for pair in 0..order / 2 {
                let angle = std::f64::consts::PI * f64::from(2 * pair + 1 + order % 2)
                    / f64::from(2 * order);
                let q = 0.5 / angle.cos();
                sections.push(if kind {
                    Coefficients::high_pass(hz, q, rate_hz)
                } else {
                    Coefficients::low_pass(hz, q, rate_hz)
                });
            }
            if order % 2 == 1 {
                sections.push(first_order_high_pass(hz, rate_hz));
            }
        }
        let (hz, q, gain) = (
            between(1500.0, 4500.0),
            between(1.0, 3.0),
            between(3.0, 8.0),
        );
        sections.push(Coefficients::bell(hz, q, gain, rate_hz));
        let length = (4.0 * rate_hz) as usize;
        let room = clean.len().saturating_sub(length);
        let start = (room as f64 * between(0.0, 1.0)) as usize;
        let mut states = vec![State::default(); sections.len()];
        let part = &clean[start..clean.len().min(start + length)];
        let filtered: Vec<f32> = part
            .iter()
            .map(|&x| {
                let through = states.iter_mut().zip(&sections);
                let y = through.fold(f64::from(x), |y, (state, c)| state.run(c, y));
                (y * 32_767.0).round() as f32 / 32_767.0
            })
            .collect();
        phones.push(Heard {
            start,
            damaged: mono(filtered, rate),
        });
    }
    phones
}

/// First-order high-pass with its corner at `hz`, by the bilinear transform.
fn first_order_high_pass(hz: f64, rate: f64) -> Coefficients {
    let w = (std::f64::consts::PI * hz / rate).tan();
    Coefficients {
        b: [1.0 / (1.0 + w), -1.0 / (1.0 + w), 0.0],
        a: [(w - 1.0) / (1.0 + w), 0.0],
    }
}

/// A room as loud as the direct sound: eight single reflections within 60 ms, then noise that sets in over 30 ms
/// and decays by 60 dB in `rt60_seconds`, a little slower below 500 Hz and faster above 4 kHz.
pub fn room(clean: &[f32], rate: u32, rt60_seconds: f64) -> AudioBuffer {
    let mut random = Random(SEED + 2);
    let rate_hz = f64::from(rate);
    let length = (1.1 * rt60_seconds * rate_hz) as usize;
    let mut response = vec![0.0; length];
    // Two one-pole filters split the noise into three bands.
    let share = |hz: f64| 1.0 - (-std::f64::consts::TAU * hz / rate_hz).exp();
    let (low_share, high_share) = (share(500.0), share(4000.0));
    let (mut low, mut high) = (0.0, 0.0);
    for (n, x) in response.iter_mut().enumerate() {
        let t = n as f64 / rate_hz;
        let white = random.normal();
        low += low_share * (white - low);
        high += high_share * (white - high);
        let decay = |factor: f64| (-6.91 * t / (factor * rt60_seconds)).exp();
        let tail = low * decay(1.15) + (high - low) * decay(1.0) + (white - high) * decay(0.6);
        *x = tail * ((t - 0.02) / 0.03).clamp(0.0, 1.0);
    }
    let energy = |x: &[f64]| x.iter().map(|v| v * v).sum::<f64>();
    let scale = energy(&response).sqrt();
    response.iter_mut().for_each(|x| *x /= scale);
    for _ in 0..8 {
        let at = ((0.008 + 0.052 * random.next()) * rate_hz) as usize;
        response[at] += random.normal().signum() * (0.08 + 0.17 * random.next());
    }
    let scale = energy(&response).sqrt();
    response.iter_mut().for_each(|x| *x /= scale);
    let wet = convolve(clean, &response);
    mono(clean.iter().zip(wet).map(|(x, w)| x + w).collect(), rate)
}

/// The hardest room: exponentially decaying white noise as loud as the direct sound, 2 ms after it (J. Polack's
/// model taken literally: most of it comes too early to be told from the music).
pub fn dense_room(clean: &[f32], rate: u32, rt60_seconds: f64) -> AudioBuffer {
    let mut random = Random(SEED + 2);
    let rate_hz = f64::from(rate);
    let start = (0.002 * rate_hz) as usize;
    let mut response: Vec<f64> = (0..(rt60_seconds * rate_hz) as usize)
        .map(|n| {
            if n < start {
                return 0.0;
            }
            random.normal() * (-6.91 * n as f64 / (rt60_seconds * rate_hz)).exp()
        })
        .collect();
    let energy: f64 = response.iter().map(|x| x * x).sum();
    response.iter_mut().for_each(|x| *x /= energy.sqrt());
    let wet = convolve(clean, &response);
    mono(clean.iter().zip(wet).map(|(x, w)| x + w).collect(), rate)
}

fn convolve(x: &[f32], response: &[f64]) -> Vec<f32> {
    let size = (x.len() + response.len()).next_power_of_two();
    let mut planner = realfft::RealFftPlanner::<f64>::new();
    let (forward, inverse) = (
        planner.plan_fft_forward(size),
        planner.plan_fft_inverse(size),
    );
    let transform = |mut x: Vec<f64>| {
        x.resize(size, 0.0);
        let mut spectrum = forward.make_output_vec();
        let planned = forward.process(&mut x, &mut spectrum);
        debug_assert!(planned.is_ok());
        spectrum
    };
    let mut product = transform(x.iter().map(|&v| f64::from(v)).collect());
    for (a, b) in product.iter_mut().zip(transform(response.to_vec())) {
        *a *= b;
    }
    let mut out = inverse.make_output_vec();
    let planned = inverse.process(&mut product, &mut out);
    debug_assert!(planned.is_ok());
    out.iter()
        .take(x.len())
        .map(|&v| (v / size as f64) as f32)
        .collect()
}

/// A dropout of 5 to 120 ms every half second, and where they are.
pub fn dropouts(clean: &[f32], rate: u32) -> (AudioBuffer, Vec<Range<usize>>) {
    let mut random = Random(SEED + 3);
    let rate_hz = f64::from(rate);
    let fade = (FADE_SECONDS * rate_hz) as usize;
    let mut out = clean.to_vec();
    let mut gaps = Vec::new();
    let mut at = 1.0;
    while (at + 0.7) * rate_hz < clean.len() as f64 {
        let (low, high) = [(0.005, 0.025), (0.025, 0.060), (0.060, 0.120)][gaps.len() % 3];
        let start = (at * rate_hz) as usize;
        let length = ((low + (high - low) * random.next()) * rate_hz) as usize;
        for (i, x) in out[start..start + length].iter_mut().enumerate() {
            let inside = i.min(length - 1 - i);
            *x *= 1.0 - (inside.min(fade) as f32 / fade as f32);
        }
        gaps.push(start..start + length);
        at += 0.4 + 0.2 * random.next();
    }
    (mono(out, rate), gaps)
}

/// `y` scaled to the RMS of `reference`.
pub fn at_level_of(reference: &[f32], y: &[f32]) -> Vec<f32> {
    let gain = rms(reference) / rms(y).max(1e-12);
    y.iter().map(|&x| x * gain as f32).collect()
}

/// Scores of frames by class, over all files of one kind of damage.
#[derive(Default)]
pub struct Scores {
    pub damaged: Vec<f32>,
    pub whole: Vec<f32>,
}

impl Scores {
    /// Adds the frames of a damaged file: one is damaged if any of `runs` (`[[start, length], …]` in ms)
    /// touches it.
    pub fn add(&mut self, damaged: &AudioBuffer, runs: &Value) {
        let frames = frame_scores(damaged);
        let mut truth = vec![false; frames.len()];
        for run in runs.as_array().into_iter().flatten() {
            let (Some(start), Some(length)) = (run[0].as_u64(), run[1].as_u64()) else {
                continue;
            };
            let end = ((start + length) as usize).div_ceil(20).min(frames.len());
            if let Some(touched) = truth.get_mut(start as usize / 20..end) {
                touched.fill(true);
            }
        }
        for (score, clipped) in frames.into_iter().zip(truth) {
            match (score, clipped) {
                (Some(score), true) => self.damaged.push(score),
                (Some(score), false) => self.whole.push(score),
                (None, _) => {}
            }
        }
    }

    /// Adds the frames of a file in which nothing was overdriven.
    pub fn add_whole(&mut self, whole: &AudioBuffer) {
        self.whole.extend(frame_scores(whole).into_iter().flatten());
    }

    /// Area under the ROC curve; `None` where there is only one class.
    pub fn auc(&self) -> Option<f64> {
        crate::rebuild::scores::auc(&self.damaged, &self.whole)
    }
}

/// The detector's clipping or saturation severity over 20 ms frames; `None` where the frame is silent.
fn frame_scores(audio: &AudioBuffer) -> Vec<Option<f32>> {
    let map = damage_map(audio);
    let samples = audio.mono();
    let frame = audio.sample_rate as usize / 50;
    let pairs = map.frames.chunks_exact(2).enumerate();
    pairs
        .map(|(i, pair)| {
            let chunk = samples.get(i * frame..(i + 1) * frame).unwrap_or_default();
            let of = |kind: DamageKind| pair[0][kind as usize].max(pair[1][kind as usize]);
            (rms(chunk) > 1e-3).then(|| of(DamageKind::Clipping).max(of(DamageKind::Saturation)))
        })
        .collect()
}

/// Share of frames in which any kind of damage reaches the default threshold, 0..=1.
pub fn flagged(audio: &AudioBuffer) -> f64 {
    let map = damage_map(audio);
    let any = |f: &&Severity| f.iter().any(|&s| s >= DEFAULT_THRESHOLD);
    map.frames.iter().filter(any).count() as f64 / map.frames.len().max(1) as f64
}
