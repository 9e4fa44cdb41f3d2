// [audio] Declicking: finds impulses of up to a millisecond and replaces them by what their surroundings predict.
//!
//! [`find`] is the kernel, [`ar`] the linear algebra, and [`weigh`] keeps what in a repair was no click. Every hop the stage looks at the stretch just heard,
//! searches the part of it that has enough future, and repairs there; a few milliseconds later it leaves.
//! The second channel's search comes half a hop after the first one's, so that no block carries both.

pub mod ar;
pub mod find;
pub mod score;
pub mod weigh;
mod weights;

use find::{ClickFinder, Finder};
use score::{CRACKLE_SECONDS, SURE, limit};

use super::{
    declip::level::{LevelTracker, Levels},
    stage::{MAX_CHANNELS, RAMP_SECONDS, Ramp, Stage},
};

/// Samples at 44.1 and 48 kHz are multiplied by this at `sample_rate`.
pub fn rate_factor(sample_rate: f64) -> f64 {
    if sample_rate < 17_000.0 {
        0.25
    } else if sample_rate < 34_000.0 {
        0.5
    } else if sample_rate < 68_000.0 {
        1.0
    } else if sample_rate < 136_000.0 {
        2.0
    } else {
        4.0
    }
}

/// Samples between two searches at 44.1 and 48 kHz.
const HOP: usize = 128;

fn scaled(samples: usize, sample_rate: f64) -> usize {
    (samples as f64 * rate_factor(sample_rate)) as usize
}

/// The live search: clicks of up to 1 ms.
pub fn live_setup(sample_rate: f64) -> Finder {
    Finder {
        order: if rate_factor(sample_rate) < 1.0 {
            16
        } else {
            32
        },
        window: scaled(1024, sample_rate),
        longest: scaled(52, sample_rate),
        side: scaled(96, sample_rate),
        threshold: 6.0,
        lasting: 3.0,
        odds: SURE,
        most: 4,
        trials: 24,
        rounds: 2,
    }
}

/// Whether `x[from..to]` touches a flat top, which is the declipper's business: samples at a clip level
/// in force, or several equal ones as loud as anything in `x`.
pub fn flat_top(levels: Levels, from: usize, to: usize, x: &[f32]) -> bool {
    /// One step of 16-bit audio and rounding.
    const EQUAL: f32 = 1.5 / 32768.0;
    let around = x
        .get(from.saturating_sub(2)..(to + 2).min(x.len()))
        .unwrap_or_default();
    if levels.any() && around.iter().any(|&v| levels.side(v, [0.0, 0.0]) != 0) {
        return true;
    }
    let peak = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    around.windows(3).any(|w| match w {
        [a, b, c] => (a - b).abs() <= EQUAL && (b - c).abs() <= EQUAL && b.abs() >= 0.97 * peak,
        _ => false,
    })
}

struct Channel {
    input: Vec<f32>,
    /// The input with clicks replaced.
    clean: Vec<f32>,
    tracker: LevelTracker,
    /// The clip levels at the last hop.
    levels: Levels,
    repairs: u64,
    /// Likely clicks of the last searches, [`CRACKLE_SECONDS`] long, the next one's place, and their sum.
    likely: Vec<u8>,
    next: usize,
    crackle: usize,
}

/// The live declicker. See the module's documentation.
pub struct Declicker {
    channels: Vec<Channel>,
    finder: ClickFinder,
    stretch: Vec<f32>,
    hop: usize,
    lookahead: usize,
    mask: usize,
    position: usize,
    phase: usize,
    intensity: Ramp,
}

impl Declicker {
    /// A declicker for `channels` (1..=[`MAX_CHANNELS`]) at `sample_rate` Hz, intensity 1.
    pub fn live(sample_rate: f64, channels: usize) -> Self {
        let setup = live_setup(sample_rate);
        let hop = scaled(HOP, sample_rate);
        let ring = (setup.window + 2 * hop).next_power_of_two();
        Self {
            channels: (0..channels.clamp(1, MAX_CHANNELS))
                .map(|_| Channel {
                    input: vec![0.0; ring],
                    clean: vec![0.0; ring],
                    tracker: LevelTracker::new(sample_rate),
                    levels: Levels::default(),
                    repairs: 0,
                    likely: vec![0; ((CRACKLE_SECONDS * sample_rate) as usize / hop).max(1)],
                    next: 0,
                    crackle: 0,
                })
                .collect(),
            finder: ClickFinder::new(setup),
            stretch: vec![0.0; setup.window],
            hop,
            lookahead: ClickFinder::lookahead(&setup),
            mask: ring - 1,
            position: 0,
            phase: 0,
            intensity: Ramp::new(1.0, RAMP_SECONDS, sample_rate),
        }
    }

    /// Clicks repaired since the start or the last reset, all channels together.
    pub fn repairs(&self) -> u64 {
        self.channels.iter().map(|c| c.repairs).sum()
    }

    /// Searches one channel's newest samples that had their future `age` samples ago.
    fn search(&mut self, channel: usize, age: usize) {
        let window = self.stretch.len();
        let start = self.position.wrapping_sub(window + age);
        let to = window.saturating_sub(self.lookahead);
        let zone = (to.saturating_sub(self.hop), to);
        let Some(channel) = self.channels.get_mut(channel) else {
            return;
        };
        for (i, x) in self.stretch.iter_mut().enumerate() {
            let n = start.wrapping_add(i) & self.mask;
            *x = channel.clean.get(n).copied().unwrap_or(0.0);
        }
        let levels = channel.levels;
        self.finder.set_odds(limit(channel.crackle));
        let found = self.finder.repair(&mut self.stretch, zone, |from, to, x| {
            flat_top(levels, from, to, x)
        });
        if let Some(oldest) = channel.likely.get_mut(channel.next) {
            let likely = found.likely + found.left;
            channel.crackle -= usize::from(*oldest);
            channel.crackle += likely;
            *oldest = likely as u8;
        }
        channel.next = (channel.next + 1) % channel.likely.len().max(1);
        if found.made == 0 {
            return;
        }
        channel.repairs += found.made as u64;
        for (i, &x) in self
            .stretch
            .iter()
            .enumerate()
            .skip(zone.0.saturating_sub(1))
        {
            let n = start.wrapping_add(i) & self.mask;
            if let Some(slot) = channel.clean.get_mut(n) {
                *slot = x;
            }
        }
    }

    /// What is due after a sample.
    fn turn(&mut self) {
        self.phase += 1;
        if self.phase == self.hop {
            self.phase = 0;
            // Both channels' searches go by the levels of one moment: equal channels stay equal.
            for channel in &mut self.channels {
                channel.levels = channel.tracker.levels();
            }
        }
        let off = self.intensity.current() == 0.0 && self.intensity.target() == 0.0;
        if self.phase == 0 && !off {
            self.search(0, 0);
        } else if self.phase == self.hop / 2 && !off {
            self.search(1, self.hop / 2);
        }
    }
}

/// The live declicker's delay in samples at `sample_rate` Hz.
pub fn latency_samples(sample_rate: f64) -> usize {
    let hop = scaled(HOP, sample_rate);
    // A repair may begin one sample before the zone.
    ClickFinder::lookahead(&live_setup(sample_rate)) + hop + hop / 2 + 1
}

impl Stage for Declicker {
    fn latency(&self) -> usize {
        self.lookahead + self.hop + self.hop / 2 + 1
    }

    fn reset(&mut self) {
        for channel in &mut self.channels {
            channel.input.fill(0.0);
            channel.clean.fill(0.0);
            channel.tracker.reset();
            channel.levels = Levels::default();
            channel.repairs = 0;
            channel.likely.fill(0);
            channel.next = 0;
            channel.crackle = 0;
        }
        self.position = 0;
        self.phase = 0;
        self.intensity.settle();
    }

    fn set_intensity(&mut self, intensity: f32) {
        self.intensity.set_target(intensity.clamp(0.0, 1.0));
    }

    fn process(&mut self, channels: &mut [&mut [f32]]) {
        let frames = channels.iter().map(|c| c.len()).min().unwrap_or(0);
        let latency = self.latency();
        for i in 0..frames {
            let intensity = self.intensity.next();
            let n = self.position & self.mask;
            let out = self.position.wrapping_sub(latency) & self.mask;
            for (channel, block) in self.channels.iter_mut().zip(channels.iter_mut()) {
                let Some(sample) = block.get_mut(i) else {
                    continue;
                };
                let x = if sample.is_finite() { *sample } else { 0.0 };
                if let (Some(input), Some(clean)) =
                    (channel.input.get_mut(n), channel.clean.get_mut(n))
                {
                    *input = x;
                    *clean = x;
                }
                channel.tracker.push(x);
                let dry = channel.input.get(out).copied().unwrap_or(0.0);
                let clean = channel.clean.get(out).copied().unwrap_or(0.0);
                let change = (clean - dry) * intensity;
                *sample = if change == 0.0 { dry } else { dry + change };
            }
            self.position = self.position.wrapping_add(1);
            self.turn();
        }
    }
}

impl std::fmt::Debug for Declicker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Declicker")
            .field("latency", &self.latency())
            .field("repairs", &self.repairs())
            .finish_non_exhaustive()
    }
}
