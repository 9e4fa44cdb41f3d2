// [audio] What the spectrum of the last seconds says: lost bands, noise, reverberation, coding.
//!
//! One spectrum of 21 ms every 20 ms. Everything here is slow (seconds) and the same for all frames in
//! between. Until two seconds were heard, nothing is claimed.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex, num_complex::Complex};

use super::logistic;

/// Spectra a second.
const HOPS_PER_SECOND: f32 = 50.0;
/// Spectra before anything is claimed (2 s).
const WARM_UP: u64 = 100;
/// Spectra a stretch of minimum search (1 s); the minimum of the last three stretches counts.
const STRETCH: u64 = 50;
/// Bands in which noise is looked for, Hz.
const NOISE_BANDS: usize = 5;
const NOISE_HZ: [f32; NOISE_BANDS + 1] = [300.0, 1000.0, 2500.0, 5000.0, 9000.0, 15_000.0];
/// Band for the decay of energy, Hz: high enough that strings don't ring long.
const DECAY_HZ: (f32, f32) = (4000.0, 8000.0);

/// Severities of the slow kinds, 0..=1.
#[derive(Clone, Copy, Default)]
pub(super) struct Severities {
    pub band_limit: f32,
    pub noise: f32,
    pub reverb: f32,
    pub codec: f32,
}

/// Follows the spectrum of the channels' mean.
pub(super) struct Spectral {
    fft: Arc<dyn RealToComplex<f32>>,
    window: Vec<f32>,
    /// The last samples, oldest at `next`.
    ring: Vec<f32>,
    next: usize,
    input: Vec<f32>,
    output: Vec<Complex<f32>>,
    scratch: Vec<Complex<f32>>,
    bin_hz: f32,
    nyquist: f32,
    /// Power of the newest spectrum, and its mean over 3 s.
    power: Vec<f32>,
    mean: Vec<f32>,
    /// Power smoothed over 5 spectra, for the minimum search.
    smooth: Vec<f32>,
    /// Minima of the running stretch and the last three.
    minima: [Vec<f32>; 4],
    scratch_band: Vec<f32>,
    frames: u64,
    spectra: u64,
    /// Share of holes among the coded bins, smoothed over 2 s.
    holes: f32,
    decays: Decays,
    severities: Severities,
}

impl Spectral {
    pub(super) fn new(sample_rate: f64) -> Self {
        let size = 1usize << ((sample_rate * 0.0213).log2().round().clamp(5.0, 15.0) as u32);
        let fft = RealFftPlanner::new().plan_fft_forward(size);
        let bins = size / 2 + 1;
        // Hann, scaled so that a full-scale sine has a power of 1 in its bin.
        let window = (0..size)
            .map(|n| {
                let phase = std::f64::consts::TAU * n as f64 / size as f64;
                ((0.5 - 0.5 * phase.cos()) * 4.0 / size as f64) as f32
            })
            .collect();
        Self {
            window,
            ring: vec![0.0; size],
            next: 0,
            input: fft.make_input_vec(),
            output: fft.make_output_vec(),
            scratch: fft.make_scratch_vec(),
            fft,
            bin_hz: (sample_rate / size as f64) as f32,
            nyquist: (sample_rate / 2.0) as f32,
            power: vec![0.0; bins],
            mean: vec![0.0; bins],
            smooth: vec![0.0; bins],
            minima: std::array::from_fn(|_| vec![f32::MAX; bins]),
            scratch_band: vec![0.0; bins],
            frames: 0,
            spectra: 0,
            holes: 0.0,
            decays: Decays::EMPTY,
            severities: Severities::default(),
        }
    }

    pub(super) fn reset(&mut self) {
        self.ring.fill(0.0);
        self.next = 0;
        self.mean.fill(0.0);
        self.smooth.fill(0.0);
        for minimum in &mut self.minima {
            minimum.fill(f32::MAX);
        }
        self.frames = 0;
        self.spectra = 0;
        self.holes = 0.0;
        self.decays = Decays::EMPTY;
        self.severities = Severities::default();
    }

    pub(super) fn severities(&self) -> Severities {
        self.severities
    }

    /// Takes a frame; every second one a spectrum is computed.
    pub(super) fn frame(&mut self, samples: &[f32]) {
        let size = self.ring.len();
        for &x in samples {
            if let Some(slot) = self.ring.get_mut(self.next) {
                *slot = x;
            }
            self.next += 1;
            if self.next >= size {
                self.next = 0;
            }
        }
        self.frames += 1;
        if !self.frames.is_multiple_of(2) {
            return;
        }
        let (new, old) = self.ring.split_at(self.next.min(size));
        let ordered = old.iter().chain(new);
        for ((o, x), w) in self.input.iter_mut().zip(ordered).zip(&self.window) {
            *o = x * w;
        }
        let done =
            self.fft
                .process_with_scratch(&mut self.input, &mut self.output, &mut self.scratch);
        if done.is_err() {
            return; // cannot be: the buffers are the plan's own
        }
        for (p, x) in self.power.iter_mut().zip(&self.output) {
            *p = x.norm_sqr();
        }
        if self.power.iter().sum::<f32>() < 1e-8 {
            return; // pauses say nothing
        }
        self.spectra += 1;
        let slow = (1.0 / self.spectra as f32).max(1.0 / (3.0 * HOPS_PER_SECOND));
        for ((m, s), &p) in self.mean.iter_mut().zip(&mut self.smooth).zip(&self.power) {
            *m += slow * (p - *m);
            *s += 0.2 * (p - *s);
        }
        self.track_minima();
        self.track_holes();
        self.track_decays();
        if self.spectra >= WARM_UP {
            self.severities = Severities {
                band_limit: self.band_limit(),
                noise: self.noise(),
                reverb: self.reverb(),
                codec: logistic(self.holes, HOLES_AUDIBLE, 0.005),
            };
        }
    }

    fn bin(&self, hz: f32) -> usize {
        ((hz / self.bin_hz).round() as usize).min(self.power.len() - 1)
    }

    /// Mean of the long-term power between two frequencies, dB.
    fn level_db(&self, from_hz: f32, to_hz: f32) -> f32 {
        let (from, to) = (self.bin(from_hz), self.bin(to_hz));
        let band = self.mean.get(from..(to + 1).max(from + 1)).unwrap_or(&[]);
        let mean = band.iter().sum::<f32>() / band.len().max(1) as f32;
        10.0 * mean.max(1e-14).log10()
    }

    /// Lows: 45–95 Hz 12 dB and more below 150–600 Hz: a band with bass or kick has its most there, a
    /// phone's high-pass takes 20 dB. Highs: an edge of more than 30 dB within a third of an octave below
    /// 15.5 kHz, or 8–15 kHz more than 45 dB below 2–5 kHz.
    fn band_limit(&self) -> f32 {
        let lows = self.level_db(150.0, 600.0) - self.level_db(45.0, 95.0);
        let mut worst = logistic(lows, 12.0, 2.0);
        if self.nyquist > 15_500.0 {
            let highs = self.level_db(2000.0, 5000.0) - self.level_db(8000.0, 15_000.0);
            worst = worst.max(logistic(highs, 45.0, 3.0));
            let mut hz = 5000.0;
            while hz < 15_500.0 {
                let edge = self.level_db(0.85 * hz, 0.95 * hz) - self.level_db(1.1 * hz, 1.2 * hz);
                worst = worst.max(logistic(edge, 30.0, 3.0));
                hz *= 1.05;
            }
        }
        worst
    }

    fn track_minima(&mut self) {
        if self.spectra < 8 {
            return; // the smoothing has not settled
        }
        if self.spectra.is_multiple_of(STRETCH) {
            self.minima.rotate_right(1);
            if let Some(first) = self.minima.first_mut() {
                first.fill(f32::MAX);
            }
        }
        if let Some(current) = self.minima.first_mut() {
            for (m, &s) in current.iter_mut().zip(&self.smooth) {
                *m = m.min(s);
            }
        }
    }

    /// How steady the steadiest of the bands with a smooth floor is: the median over its bins of mean over minimum, in dB. The minimum
    /// over 4 s of the smoothed power of stationary white noise lies 3.8 dB under its mean (simulated;
    /// minimum statistics, Martin 2001). Held, distorted sound moves as little, but its floor has teeth where
    /// its partials are: see `roughness_db`.
    fn noise(&mut self) -> f32 {
        let mut worst = 0.0f32;
        for b in 0..NOISE_BANDS {
            let (from, to) = (self.bin(NOISE_HZ[b]), self.bin(NOISE_HZ[b + 1]));
            let to = to.max(from + 1).min(self.power.len());
            let Some(band) = self.scratch_band.get_mut(..to.saturating_sub(from)) else {
                continue;
            };
            if band.len() < 4 {
                continue;
            }
            for (i, o) in band.iter_mut().enumerate() {
                let minimum = self.minima.iter().filter_map(|m| m.get(from + i));
                let minimum = minimum.fold(f32::MAX, |a, &b| a.min(b)).max(1e-16);
                *o = self.mean.get(from + i).copied().unwrap_or(0.0) / minimum;
            }
            let middle = band.len() / 2;
            let median = *band.select_nth_unstable_by(middle, f32::total_cmp).1;
            if median > 0.5 {
                let steady = logistic(-10.0 * median.log10(), -STEADY_DB, 0.5);
                let smooth = logistic(-self.roughness_db(from, to), -ROUGH_DB, 0.15);
                worst = worst.max(steady.min(smooth));
            }
        }
        worst
    }

    /// How far the floor of bins `from..to` strays from its own moving mean over 17 bins: standard deviation
    /// in dB. Noise through any microphone or room leaves 0.8 to 1.1 (the minima's own scatter).
    fn roughness_db(&mut self, from: usize, to: usize) -> f32 {
        const REACH: usize = 8;
        let Some(band) = self.scratch_band.get_mut(..to.saturating_sub(from)) else {
            return f32::MAX;
        };
        for (i, o) in band.iter_mut().enumerate() {
            let minimum = self.minima.iter().filter_map(|m| m.get(from + i));
            let minimum = minimum.fold(f32::MAX, |a, &b| a.min(b)).max(1e-16);
            *o = 10.0 * minimum.log10();
        }
        let mut square = 0.0;
        for (i, &x) in band.iter().enumerate() {
            let near = band.get(i.saturating_sub(REACH)..(i + REACH + 1).min(band.len()));
            let near = near.unwrap_or(&[]);
            let mean = near.iter().sum::<f32>() / near.len().max(1) as f32;
            square += (x - mean) * (x - mean);
        }
        (square / band.len().max(1) as f32).sqrt()
    }

    /// Holes: bins between 10 and 18 kHz 35 dB below the mean of the 33 around them, where those are within
    /// 70 dB of the strongest. Noise-like sound leaves 0.03 % such bins (the exponential law of |X|²); a
    /// coder that runs out of bits zeroes whole bands.
    fn track_holes(&mut self) {
        const REACH: usize = 16;
        let (from, to) = (self.bin(10_000.0).max(REACH), self.bin(18_000.0));
        let to = to.min(self.power.len().saturating_sub(REACH + 1));
        let strongest = self.power.iter().fold(0.0f32, |m, &p| m.max(p));
        if from >= to {
            return;
        }
        let around = self.power.get(from - REACH..=from + REACH).unwrap_or(&[]);
        let mut sum: f32 = around.iter().sum();
        let (mut holes, mut judged) = (0u32, 0u32);
        for k in from..to {
            let mean = sum / (2 * REACH + 1) as f32;
            if mean > strongest * 1e-7 {
                judged += 1;
                holes += u32::from(self.power[k] < mean * 3.2e-4);
            }
            sum += self.power[k + REACH + 1] - self.power[k - REACH];
            sum = sum.max(0.0);
        }
        if judged >= 16 {
            let share = holes as f32 / judged as f32;
            self.holes += (share - self.holes) / (2.0 * HOPS_PER_SECOND);
        }
    }

    fn track_decays(&mut self) {
        let (from, to) = (self.bin(DECAY_HZ.0), self.bin(DECAY_HZ.1));
        let band = self.power.get(from..to.max(from + 1)).unwrap_or(&[]);
        let energy: f32 = band.iter().sum();
        self.decays.push(10.0 * energy.max(1e-14).log10());
    }

    fn reverb(&self) -> f32 {
        let quick = self.decays.quick();
        logistic(quick.unwrap_or(0.0), REVERB_AUDIBLE_SECONDS, 0.05)
    }
}

/// Share of holes that counts as clearly audible coding. Set between four clean songs (0.1 %) and two of
/// them after AAC at 64 kb/s (7 %), so not validated on others.
const HOLES_AUDIBLE: f32 = 0.02;
/// Mean over minimum below which a band counts as noise, dB. Set between four clean songs (9.1 and more)
/// and the same with noise (5.5–8.6), so not validated on others.
const STEADY_DB: f32 = 8.9;
/// Roughness of the floor above which it is music, dB. Clean songs (four recorded-like, four synthesized) have 1.6
/// to 7, the same under noise 0.9 to 1.2.
const ROUGH_DB: f32 = 1.4;
/// Time for 60 dB of the quick decays that counts as clearly roomy. Cymbals and shakers decay in 0.3 to 0.7 s,
/// an RT60 of 1.5 s as loud as the direct sound makes them 0.9 to 1.3 s; smaller rooms can't be told from dry music.
const REVERB_AUDIBLE_SECONDS: f32 = 0.95;

/// Decays remembered, and how many there must be before anything is said of them.
const DECAYS: usize = 32;
const LEAST_DECAYS: usize = 8;
/// Share of the decays that count as quick.
const QUICK: f32 = 0.1;

/// How long 60 dB take in the quickest of the last decays: nothing falls silent faster than the room lets it,
/// everything slower is the music's (Ratnam et al. 2003).
#[derive(Clone, Copy)]
struct Decays {
    /// Level and length of the running decay.
    start_db: f32,
    last_db: f32,
    steps: u32,
    /// Seconds for 60 dB, the next at `count % DECAYS`.
    times: [f32; DECAYS],
    count: usize,
}

impl Decays {
    const EMPTY: Self = Self {
        start_db: 0.0,
        last_db: 0.0,
        steps: 0,
        times: [0.0; DECAYS],
        count: 0,
    };

    fn push(&mut self, db: f32) {
        // Falling, or within the 1.5 dB that a spectrum of noise wanders.
        if self.steps > 0 && db < self.last_db + 1.5 {
            self.steps += 1;
            self.last_db = db.min(self.last_db);
        } else {
            self.finish();
            self.start_db = db;
            self.last_db = db;
            self.steps = 1;
        }
    }

    fn finish(&mut self) {
        let fall = self.start_db - self.last_db;
        let seconds = (self.steps.max(1) - 1) as f32 / HOPS_PER_SECOND;
        if seconds < 0.06 || fall < 10.0 {
            return;
        }
        self.times[self.count % DECAYS] = (60.0 * seconds / fall).min(5.0);
        self.count += 1;
    }

    /// Seconds for 60 dB in the quick decays; `None` until enough were heard.
    fn quick(&self) -> Option<f32> {
        let known = self.count.min(DECAYS);
        if known < LEAST_DECAYS {
            return None;
        }
        let mut times = self.times;
        let times = times.get_mut(..known)?;
        let rank = (QUICK * known as f32) as usize;
        Some(*times.select_nth_unstable_by(rank, f32::total_cmp).1)
    }
}
