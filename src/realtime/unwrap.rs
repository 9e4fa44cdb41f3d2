// [audio] Undoes converter overflow: samples that left the scale at the top and came back at the bottom.
//!
//! A converter without saturation keeps a sample's value modulo its range `P`. Where the music crosses the
//! rail, neighbours differ by nearly `P`; taking each difference modulo `P` brings the original back as long
//! as the music itself moves by less than half of it (K. Itoh, "Analysis of the phase unwrapping
//! algorithm", Applied Optics 1982, applied to samples).
//!
//! Nobody says what `P` is, nor that there was an overflow. The first excursion convicts: the jump goes from
//! rail to rail (the loudest sample heard, both ways), comes back within the look-ahead by another one,
//! never rests on the rail as clipping does, and what results is smooth before, meanwhile and after. Noise,
//! saw and square waves, clipping and clicks fail one of these. From then on a jump alone is enough. An
//! excursion that doesn't come back is given up, and the stage holds off.

use super::stage::{MAX_CHANNELS, RAMP_SECONDS, Ramp, Stage};

/// Samples heard after a jump before it is judged, from 17 kHz up: the latency. Most excursions of music
/// that overflows by some dB are shorter.
const AHEAD: usize = 20;
/// Samples before a jump that have to be smooth.
const BEFORE: usize = 8;
/// Samples kept, a power of two.
const RING: usize = 32;
/// Rails below this (−26 dBFS) are none: no converter ends there.
const MIN_RAIL: f32 = 0.05;
/// A jump is larger than this share of the range, and the result's steps around the first one are smaller
/// than the other: in noise, half of all steps modulo the range are not.
const JUMP: f32 = 0.65;
const SMOOTH: f32 = 0.17;
/// Neighbours closer than this on the rail are a flat top (16-bit steps).
const FLAT: f32 = 2.5 / 32768.0;
/// Samples this close below the rail are on it.
const ON_RAIL: f32 = 0.99;
/// Ranges a sample may be away from its own.
const MOST: i32 = 2;
/// Music is back from beyond the rail within this: half a period of 50 Hz.
const LONGEST_SECONDS: f64 = 0.010;
/// How long the loudest sample is remembered, and how long the stage holds off after a mistake.
const MEMORY_SECONDS: f64 = 5.0;

/// Samples of look-ahead at `sample_rate` Hz.
pub fn latency_samples(sample_rate: f64) -> usize {
    if sample_rate < 17_000.0 {
        AHEAD / 4
    } else {
        AHEAD
    }
}

/// One channel: its rail, and how far beyond it the signal is.
#[derive(Clone, Debug)]
pub struct Unwrap {
    ring: [f32; RING],
    /// Samples heard.
    heard: usize,
    ahead: usize,
    /// Loudest sample of this stretch of memory and of the last one.
    rail: f32,
    last_rail: f32,
    rail_age: u32,
    /// The range, once an excursion has convicted; 0 before.
    range: f32,
    /// Ranges to add to the sample now leaving, and for how long already.
    turns: i32,
    away: u32,
    longest: u32,
    /// Samples until a conviction is allowed again.
    held: u32,
    memory: u32,
}

impl Unwrap {
    /// For audio at `sample_rate` Hz.
    pub fn new(sample_rate: f64) -> Self {
        Self {
            ring: [0.0; RING],
            heard: 0,
            ahead: latency_samples(sample_rate),
            rail: 0.0,
            last_rail: 0.0,
            rail_age: 0,
            range: 0.0,
            turns: 0,
            away: 0,
            longest: (LONGEST_SECONDS * sample_rate) as u32,
            held: 0,
            memory: (MEMORY_SECONDS * sample_rate) as u32,
        }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.ring = [0.0; RING];
        self.heard = 0;
        self.rail = 0.0;
        self.last_rail = 0.0;
        self.rail_age = 0;
        self.range = 0.0;
        self.turns = 0;
        self.away = 0;
        self.held = 0;
    }

    /// The converter's range, linear from rail to rail; `None` while nothing has overflowed.
    pub fn range(&self) -> Option<f32> {
        (self.range > 0.0).then_some(self.range)
    }

    /// Starts with a range that another pass has found.
    pub fn assume(&mut self, range: f32) {
        self.range = range;
    }

    /// The sample `ago` samples before the newest.
    #[inline]
    fn at(&self, ago: usize) -> f32 {
        self.ring[self.heard.wrapping_sub(1 + ago) & (RING - 1)]
    }

    /// Hears a finite sample. Returns the sample [`latency_samples`] before it and what is to be added to
    /// that one: 0 in a signal that never overflowed.
    #[inline]
    pub fn push(&mut self, x: f32) -> (f32, f32) {
        self.ring[self.heard & (RING - 1)] = x;
        self.heard = self.heard.wrapping_add(1);
        self.rail = self.rail.max(x.abs());
        self.rail_age += 1;
        if self.rail_age >= self.memory {
            self.rail_age = 0;
            self.last_rail = self.rail;
            self.rail = x.abs();
        }
        self.held = self.held.saturating_sub(1);
        let (before, now) = (self.at(self.ahead + 1), self.at(self.ahead));
        self.follow(before, now);
        (now, self.turns as f32 * self.range)
    }

    #[inline]
    fn follow(&mut self, before: f32, now: f32) {
        let rail = self.rail.max(self.last_rail);
        let range = self.range.max(2.0 * rail);
        let jump = now - before;
        if self.turns != 0 {
            self.away += 1;
            let turned = (jump / range).round();
            self.turns = (self.turns - turned as i32).clamp(-MOST, MOST);
            if self.away > self.longest {
                // It doesn't come back, so it never left: the signal jumps by itself.
                self.turns = 0;
                self.range = 0.0;
                self.held = self.memory;
            }
        } else if jump.abs() > JUMP * range
            && rail > MIN_RAIL
            && self.held == 0
            && (self.range > 0.0 || self.convicts(range, rail))
        {
            // Nothing lies outside the range; the loudest sample tells it better and better.
            self.range = range;
            self.turns = if jump < 0.0 { 1 } else { -1 };
            self.away = 0;
        }
    }

    /// Whether the jump into the sample now leaving is an overflow: see the module's documentation.
    fn convicts(&self, range: f32, rail: f32) -> bool {
        if self.heard <= self.ahead + BEFORE + 1 {
            return false;
        }
        let (mut turns, mut returned) = (0.0f32, false);
        for ago in (0..self.ahead + BEFORE).rev() {
            let (before, now) = (self.at(ago + 1), self.at(ago));
            let step = now - before;
            if step.abs() <= FLAT && now.abs() >= ON_RAIL * rail {
                return false;
            }
            let turned = (step / range).round();
            if (step - turned * range).abs() > SMOOTH * range {
                return false;
            }
            turns -= turned;
            if turned != 0.0 && turns == 0.0 {
                returned = true;
            }
            // Before the jump nothing has left; beyond two ranges nothing sounds.
            if (ago > self.ahead && turned != 0.0) || turns.abs() > 1.0 {
                return false;
            }
        }
        returned
    }
}

/// The live stage: each channel by itself.
pub struct Unwrapper {
    channels: Vec<Unwrap>,
    latency: usize,
    intensity: Ramp,
}

impl Unwrapper {
    /// For `channels` (1..=[`MAX_CHANNELS`]) at `sample_rate` Hz, intensity 1.
    pub fn live(sample_rate: f64, channels: usize) -> Self {
        Self {
            channels: vec![Unwrap::new(sample_rate); channels.clamp(1, MAX_CHANNELS)],
            latency: latency_samples(sample_rate),
            intensity: Ramp::new(1.0, RAMP_SECONDS, sample_rate),
        }
    }
}

impl Stage for Unwrapper {
    fn latency(&self) -> usize {
        self.latency
    }

    fn reset(&mut self) {
        self.channels.iter_mut().for_each(Unwrap::reset);
        self.intensity.settle();
    }

    fn set_intensity(&mut self, intensity: f32) {
        self.intensity.set_target(intensity.clamp(0.0, 1.0));
    }

    fn process(&mut self, channels: &mut [&mut [f32]]) {
        let frames = channels.iter().map(|c| c.len()).min().unwrap_or(0);
        for i in 0..frames {
            let intensity = self.intensity.next();
            for (channel, block) in self.channels.iter_mut().zip(channels.iter_mut()) {
                let Some(sample) = block.get_mut(i) else {
                    continue;
                };
                let x = if sample.is_finite() { *sample } else { 0.0 };
                let (dry, add) = channel.push(x);
                let change = add * intensity;
                *sample = if change == 0.0 { dry } else { dry + change };
            }
        }
    }
}
