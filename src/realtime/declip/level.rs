// [audio] Finds the level at which a signal was clipped, sample by sample, blind and causally.
//!
//! Clipping leaves three marks together, and only together do they convict: the signal stays on one value
//! for several samples, it arrives there and leaves with a corner (a smooth top of the same flatness would
//! leave far more slowly), and it does so again and again at the same level while nothing exceeds it.
//! A peak limiter's tops touch their ceiling without staying; a smooth wave stays without corners; a
//! rectangular wave has corners but jumps from rail to rail instead of arriving.

/// One step of 16-bit audio, the coarsest source expected.
const LSB: f32 = 1.0 / 32768.0;
/// Samples that belong to one flat top lie this close together: dither moves them by up to two steps.
const FLAT: f32 = 2.5 * LSB;
/// Flat tops below this level (−40 dBFS) are 16-bit quantization, not clipping.
const MIN_LEVEL: f32 = 0.01;
/// A flat top must be this close to the largest sample of the last [`PEAK_BLOCKS`], and a sample beyond
/// a level by this much ends it. Leaves room for levels that drift by some dB a second.
const HEADROOM: f32 = 1.03;
/// Flat tops within this factor of one another share a level.
const AGREEMENT: f32 = 1.01;
/// Flat tops needed at one level.
const WITNESSES: usize = 3;
/// They count for this long.
const MEMORY_SECONDS: f64 = 5.0;
/// Flat tops remembered.
const EVENTS: usize = 6;
/// Recent peak: this many blocks of 10 ms.
const PEAK_BLOCKS: usize = 32;
/// With more than this share of all samples on the rails a signal is a rectangular wave by design.
const MAX_RAIL_SHARE: f32 = 0.9;
/// Samples this close below the level are clipped too, relative to the level.
const MARGIN: f32 = 1e-3;

/// The levels in force, both as magnitudes; `None` where that side is not clipped.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Levels {
    pub positive: Option<f32>,
    pub negative: Option<f32>,
}

impl Levels {
    /// Whether any side is clipped.
    pub fn any(&self) -> bool {
        self.positive.is_some() || self.negative.is_some()
    }

    /// The larger level; 0 if there is none.
    pub fn largest(&self) -> f32 {
        self.positive
            .unwrap_or(0.0)
            .max(self.negative.unwrap_or(0.0))
    }

    /// The side a sample is clipped on: 1, −1, or 0 if it is reliable. `neighbours` are the samples
    /// before and after: a sample on a flat top slightly below the level counts (levels drift).
    #[inline]
    pub fn side(&self, x: f32, neighbours: [f32; 2]) -> i8 {
        let clipped = |level: Option<f32>, s: f32, near: [f32; 2]| {
            level.is_some_and(|level| {
                s >= level * (1.0 - MARGIN) - FLAT
                    || (s * HEADROOM >= level && near.iter().any(|n| (n - s).abs() <= FLAT))
            })
        };
        if x > 0.0 {
            i8::from(clipped(self.positive, x, neighbours))
        } else {
            -i8::from(clipped(self.negative, -x, [-neighbours[0], -neighbours[1]]))
        }
    }
}

/// One polarity: sees the signal with the sign that makes its own side positive.
#[derive(Clone, Debug)]
struct Rail {
    previous: f32,
    /// The sample before the current run, the run's extremes and length.
    before: f32,
    low: f32,
    high: f32,
    run: u32,
    /// Level and age in samples of the last flat tops; level 0 = empty.
    events: [(f32, u32); EVENTS],
    next_event: usize,
    block_peaks: [f32; PEAK_BLOCKS],
    level: Option<f32>,
    /// Share of samples on the last flat top's level, smoothed over about 0.2 s.
    share: f32,
}

impl Rail {
    fn new() -> Self {
        Self {
            previous: 0.0,
            before: 0.0,
            low: 0.0,
            high: 0.0,
            run: 0,
            events: [(0.0, 0); EVENTS],
            next_event: 0,
            block_peaks: [0.0; PEAK_BLOCKS],
            level: None,
            share: 0.0,
        }
    }

    #[inline]
    fn push(&mut self, s: f32, block: usize, smooth: f32) {
        if let Some(peak) = self.block_peaks.get_mut(block) {
            *peak = peak.max(s);
        }
        let (low, high) = (self.low.min(s), self.high.max(s));
        if high - low <= FLAT {
            self.low = low;
            self.high = high;
            self.run = self.run.saturating_add(1);
        } else {
            self.close(s);
            self.before = self.previous;
            self.low = s;
            self.high = s;
            self.run = 1;
        }
        self.previous = s;
        let newest = self.newest();
        if newest > 0.0 {
            let on_rail = s * 1.01 >= newest;
            self.share += smooth * (f32::from(u8::from(on_rail)) - self.share);
            if s > newest * HEADROOM + FLAT {
                self.forget();
            }
        }
    }

    fn newest(&self) -> f32 {
        let last = (self.next_event + EVENTS - 1) % EVENTS;
        self.events.get(last).map_or(0.0, |e| e.0)
    }

    /// Something went beyond the level: it was none.
    fn forget(&mut self) {
        self.events = [(0.0, 0); EVENTS];
        self.level = None;
        self.share = 0.0;
    }

    /// Ends the current run; `after` is the first sample outside.
    #[inline]
    fn close(&mut self, after: f32) {
        if self.run < 3 || self.high < MIN_LEVEL {
            return;
        }
        // Exactly equal samples convict with a small corner, dithered ones need a larger one. A smooth top
        // with these values inside and outside would have to grow its curvature a hundredfold in a sample.
        let level = self.high;
        let exact = self.high - self.low <= 0.75 * LSB;
        let corner = if exact {
            (16.0 * LSB).max(0.004 * level)
        } else if self.run >= 4 {
            (40.0 * LSB).max(0.01 * level)
        } else {
            return;
        };
        let arrives = |outside: f32| {
            let drop = level - outside;
            drop >= corner && drop <= 0.8 * level
        };
        if !arrives(self.before) || !arrives(after) {
            return;
        }
        let recent = self.block_peaks.iter().copied().fold(0.0, f32::max);
        if recent > level * HEADROOM {
            return;
        }
        if let Some(event) = self.events.get_mut(self.next_event) {
            *event = (level, 0);
        }
        self.next_event = (self.next_event + 1) % EVENTS;
        self.judge();
    }

    /// Recomputes the level in force from the flat tops in memory.
    fn judge(&mut self) {
        let newest = self.newest();
        let witnesses = self
            .events
            .iter()
            .filter(|(level, _)| {
                newest > 0.0 && *level <= newest * AGREEMENT && *level * AGREEMENT >= newest
            })
            .count();
        self.level = (witnesses >= WITNESSES).then_some(newest);
    }

    /// Once a block of 10 ms: ages the flat tops and makes room for the next block's peak.
    fn end_block(&mut self, samples: u32, memory: u32, next: usize) {
        let mut expired = false;
        for event in &mut self.events {
            event.1 = event.1.saturating_add(samples);
            if event.0 > 0.0 && event.1 > memory {
                event.0 = 0.0;
                expired = true;
            }
        }
        if expired {
            self.judge();
        }
        if let Some(peak) = self.block_peaks.get_mut(next) {
            *peak = 0.0;
        }
    }
}

/// Follows one channel's clip levels.
#[derive(Clone, Debug)]
pub struct LevelTracker {
    positive: Rail,
    negative: Rail,
    block: usize,
    in_block: u32,
    block_length: u32,
    memory: u32,
    smooth: f32,
}

impl LevelTracker {
    /// A tracker for audio at `sample_rate` Hz.
    pub fn new(sample_rate: f64) -> Self {
        Self {
            positive: Rail::new(),
            negative: Rail::new(),
            block: 0,
            in_block: 0,
            block_length: ((sample_rate * 0.010) as u32).max(1),
            memory: (sample_rate * MEMORY_SECONDS) as u32,
            smooth: (1.0 / (0.2 * sample_rate)) as f32,
        }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.positive = Rail::new();
        self.negative = Rail::new();
        self.block = 0;
        self.in_block = 0;
    }

    /// Hears the next sample (finite).
    #[inline]
    pub fn push(&mut self, x: f32) {
        self.positive.push(x, self.block, self.smooth);
        self.negative.push(-x, self.block, self.smooth);
        self.in_block += 1;
        if self.in_block >= self.block_length {
            self.in_block = 0;
            self.block = (self.block + 1) % PEAK_BLOCKS;
            self.positive
                .end_block(self.block_length, self.memory, self.block);
            self.negative
                .end_block(self.block_length, self.memory, self.block);
        }
    }

    /// The levels in force after the last sample.
    pub fn levels(&self) -> Levels {
        let share = |rail: &Rail| rail.level.map_or(0.0, |_| rail.share);
        if share(&self.positive) + share(&self.negative) > MAX_RAIL_SHARE {
            return Levels::default();
        }
        Levels {
            positive: self.positive.level,
            negative: self.negative.level,
        }
    }
}
