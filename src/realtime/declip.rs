// [audio] Declipping: restores what was cut off at the clip level, with bounded and evenly spread work.
//!
//! [`level`] finds the clip levels, [`spade`] restores a frame. Here is the schedule: frames of
//! [`live_length`] samples overlap by three quarters; a frame is taken at its last sample, its iterations
//! are spread over the following hop, a few every [`TICK`] samples, and what stands at the hop's end is
//! added in. So no block carries a whole frame's work, and everything is clocked by samples.
//!
//! Only samples found clipped change: reliable ones leave as they came, to the bit.

pub mod level;
pub mod spade;

use level::{LevelTracker, Levels};
use spade::{Frame, Schedule, Spade};

use super::{
    stage::{MAX_CHANNELS, RAMP_SECONDS, Ramp, Stage},
    stft::fast_length,
};

/// Samples between two portions of work.
const TICK: usize = 16;
/// Hops a frame.
pub const OVERLAP: usize = 4;
/// A restored sample may exceed the clip level by this factor, and no more: 24 dB, more than the loudest
/// drum in a song clipped to 3 dB SDR needs.
pub const MAX_OVERSHOOT: f32 = 16.0;
/// Live setting: as good as slower ones within a tenth of a dB on hard clips of 15 dB, 0.5 dB behind at
/// 3 dB, at two thirds of the iterations.
const LIVE: Schedule = Schedule {
    first: 2,
    growth: 1.1,
    tolerance: 0.05,
    max_iterations: 48,
};

/// Length of a live frame at `sample_rate` Hz: 32 ms at most from 34 kHz up (1536 samples at 48 kHz), less
/// below, where the chain's other stages need more milliseconds.
pub fn live_length(sample_rate: f64) -> usize {
    let seconds = if sample_rate < 12_000.0 {
        0.024
    } else if sample_rate < 34_000.0 {
        0.028
    } else {
        0.032
    };
    fast_length(seconds, sample_rate, 2 * TICK, 7)
}

/// The unit of frame lengths that are not bound by delay: 1536 samples (32 ms) at 44.1 and 48 kHz, scaled by
/// powers of two.
pub fn frame_length(sample_rate: f64) -> usize {
    if sample_rate < 17_000.0 {
        384
    } else if sample_rate < 34_000.0 {
        768
    } else if sample_rate < 68_000.0 {
        1536
    } else if sample_rate < 136_000.0 {
        3072
    } else {
        6144
    }
}

/// The live declipper's delay in samples at `sample_rate` Hz: one frame and one hop.
pub fn latency_samples(sample_rate: f64) -> usize {
    live_length(sample_rate) * (OVERLAP + 1) / OVERLAP
}

/// Fills a frame's windowed signal and constraints from the samples `at(i)`, `i` counting from the frame's
/// start, with the levels in force at each. `at` is also asked for the samples just outside (−1 and the
/// frame's length). Returns whether any sample is clipped.
#[inline]
pub fn constrain(
    frame: &mut Frame,
    window: &[f32],
    levels: impl Fn(isize) -> Levels,
    at: impl Fn(isize) -> f32,
) -> bool {
    let mut any = false;
    let (mut before, mut x) = (at(-1), at(0));
    for (((i, &w), s), (lower, upper)) in (0isize..)
        .zip(window)
        .zip(&mut frame.solution)
        .zip(frame.lower.iter_mut().zip(&mut frame.upper))
    {
        let after = at(i + 1);
        let v = x * w;
        *s = v;
        *lower = v;
        *upper = v;
        let levels = levels(i);
        let side = levels.side(x, [before, after]);
        any |= side != 0;
        let ceiling = MAX_OVERSHOOT * w * levels.largest();
        if side > 0 {
            *upper = v.max(ceiling);
        } else if side < 0 {
            *lower = v.min(-ceiling);
        }
        before = x;
        x = after;
    }
    any
}

/// The sine window, symmetric; its square overlaps to a constant (half the number of hops a frame).
pub fn sine_window(length: usize) -> Vec<f32> {
    (0..length)
        .map(|i| (std::f64::consts::PI * (i as f64 + 0.5) / length as f64).sin() as f32)
        .collect()
}

/// Takes back what sparse solutions overshoot.
///
/// Of many consistent signals SPADE finds one, and the further a sample went beyond the clip level for it,
/// the more of that is luck: regressing the truth on what was found gives a slope near 1 for overshoots that are
/// usual for the recording and less for larger ones, at any input SDR. The share kept is `1 / (1 + k v)`, with `v`
/// the overshoot over the usual (root mean square) one. The result lies beyond the clip level still.
#[derive(Clone, Debug)]
pub struct Tempering {
    strength: f32,
    mean_square: f32,
    count: f32,
    /// Restored samples that count: about half a second of music clipped to 7 dB.
    memory: f32,
}

impl Tempering {
    /// `strength` is `k`; the usual overshoot is followed over 0.2 s of restored samples.
    pub fn new(strength: f32, sample_rate: f64) -> Self {
        Self {
            strength,
            mean_square: 0.0,
            count: 0.0,
            memory: (0.2 * sample_rate) as f32,
        }
    }

    /// Forgets what is usual.
    pub fn reset(&mut self) {
        self.mean_square = 0.0;
        self.count = 0.0;
    }

    /// The change to make where `change` (not 0, finite) was found; in the order of time.
    #[inline]
    pub fn temper(&mut self, change: f32) -> f32 {
        self.count = (self.count + 1.0).min(self.memory);
        self.mean_square += (change * change - self.mean_square) / self.count;
        let usual = self.mean_square.sqrt();
        if usual > 0.0 {
            change / (1.0 + self.strength * change.abs() / usual)
        } else {
            change
        }
    }
}

/// Strength for the live stage's single frame length: fits the slopes measured on four songs at 3, 7 and
/// 15 dB to within a tenth.
const LIVE_TEMPERING: f32 = 0.12;
/// The mean of several frame lengths overshoots half as much.
pub const MEAN_TEMPERING: f32 = 0.07;

struct Channel {
    /// The last samples, and what to add to each; both rings of a power of two.
    input: Vec<f32>,
    repair: Vec<f32>,
    tracker: LevelTracker,
    frame: Frame,
    /// The frame holds clipped samples and will be added in.
    working: bool,
    tempering: Tempering,
    /// Its content equals the first channel's: that one's result is taken.
    mirrors: bool,
}

/// The live declipper. See the module's documentation.
pub struct Declipper {
    channels: Vec<Channel>,
    spade: Spade,
    window: Vec<f32>,
    hop: usize,
    per_tick: usize,
    mask: usize,
    /// Ring position of the next sample, and samples since the last hop.
    position: usize,
    phase: usize,
    intensity: Ramp,
    sample_rate: f64,
}

impl Declipper {
    /// A declipper for `channels` (1..=[`MAX_CHANNELS`]) at `sample_rate` Hz, intensity 1.
    pub fn live(sample_rate: f64, channels: usize) -> Self {
        let length = live_length(sample_rate);
        let hop = length / OVERLAP;
        let ring = (length + 2 * hop).next_power_of_two();
        let channel = || Channel {
            input: vec![0.0; ring],
            repair: vec![0.0; ring],
            tracker: LevelTracker::new(sample_rate),
            frame: Frame::new(length),
            working: false,
            tempering: Tempering::new(LIVE_TEMPERING, sample_rate),
            mirrors: false,
        };
        Self {
            channels: (0..channels.clamp(1, MAX_CHANNELS))
                .map(|_| channel())
                .collect(),
            spade: Spade::new(length),
            window: sine_window(length),
            hop,
            per_tick: LIVE.max_iterations.div_ceil(hop / TICK),
            mask: ring - 1,
            position: 0,
            phase: 0,
            intensity: Ramp::new(1.0, RAMP_SECONDS, sample_rate),
            sample_rate,
        }
    }

    /// At a hop's end: adds the finished frames in and takes the next.
    fn turn(&mut self) {
        let length = self.window.len();
        let (mask, position) = (self.mask, self.position);
        let Some((first, rest)) = self.channels.split_first_mut() else {
            return;
        };
        if let Some(other) = rest.first_mut()
            && other.mirrors
        {
            other.frame.copy_solution(&first.frame);
        }
        // Windowed once before and once here: the squares sum to half the overlap.
        let scale = 2.0 / OVERLAP as f32;
        let start = position.wrapping_sub(length + self.hop);
        for channel in std::iter::once(&mut *first).chain(rest.iter_mut()) {
            if !channel.working {
                continue;
            }
            for (i, ((&w, &s), (&lower, &upper))) in self
                .window
                .iter()
                .zip(&channel.frame.solution)
                .zip(channel.frame.lower.iter().zip(&channel.frame.upper))
                .enumerate()
            {
                if lower < upper {
                    let n = start.wrapping_add(i) & mask;
                    if let (Some(r), Some(&x)) = (channel.repair.get_mut(n), channel.input.get(n)) {
                        *r += scale * w * (s - x * w);
                    }
                }
            }
        }
        // With the stage switched off nothing is worked on.
        let off = self.intensity.current() == 0.0 && self.intensity.target() == 0.0;
        let start = position.wrapping_sub(length);
        for channel in std::iter::once(&mut *first).chain(rest.iter_mut()) {
            let levels = channel.tracker.levels();
            channel.mirrors = false;
            channel.working = !off && levels.any() && {
                let input = &channel.input;
                let at = |i: isize| {
                    // The sample after the frame is not here yet: the last one stands in for it.
                    let i = i.min(length as isize - 1);
                    let n = start.wrapping_add_signed(i) & mask;
                    input.get(n).copied().unwrap_or(0.0)
                };
                constrain(&mut channel.frame, &self.window, |_| levels, at)
            };
            if channel.working {
                self.spade.begin(&mut channel.frame, &LIVE);
            } else {
                channel.frame.finish();
            }
        }
        // Mono carried on two channels is restored once.
        if let Some(other) = rest.first_mut()
            && first.working
            && other.working
            && first.frame.lower == other.frame.lower
            && first.frame.upper == other.frame.upper
        {
            other.mirrors = true;
            other.frame.finish();
        }
    }

    /// One portion of work.
    fn work(&mut self) {
        for channel in &mut self.channels {
            for _ in 0..self.per_tick {
                self.spade.iterate(&mut channel.frame, &LIVE);
            }
        }
    }
}

impl Stage for Declipper {
    fn latency(&self) -> usize {
        self.window.len() + self.hop
    }

    fn reset(&mut self) {
        for channel in &mut self.channels {
            channel.input.fill(0.0);
            channel.repair.fill(0.0);
            channel.tracker.reset();
            channel.frame.finish();
            channel.working = false;
            channel.tempering.reset();
            channel.mirrors = false;
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
                if let Some(slot) = channel.input.get_mut(n) {
                    *slot = x;
                }
                channel.tracker.push(x);
                let dry = channel.input.get(out).copied().unwrap_or(0.0);
                let repair = channel.repair.get_mut(out).map_or(0.0, std::mem::take);
                let repair = if repair == 0.0 {
                    0.0
                } else {
                    channel.tempering.temper(repair) * intensity
                };
                *sample = if repair == 0.0 { dry } else { dry + repair };
            }
            self.position = self.position.wrapping_add(1);
            self.phase += 1;
            if self.phase == self.hop {
                self.phase = 0;
                self.turn();
            }
            if self.phase.is_multiple_of(TICK) {
                self.work();
            }
        }
    }
}

impl std::fmt::Debug for Declipper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Declipper")
            .field("sample_rate", &self.sample_rate)
            .field("latency", &self.latency())
            .finish_non_exhaustive()
    }
}
