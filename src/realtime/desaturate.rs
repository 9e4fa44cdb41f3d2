// [audio] Undoes soft clipping: hears whether a preamplifier's saturating curve was at work, and inverts it.
//!
//! The curve is `y = θ tanh(x / θ)`, the usual model of a smoothly overloaded stage (D. Yeh, J. Abel,
//! J. Smith, "Simplified, physically-informed models of distortion and overdrive guitar effects pedals",
//! DAFx 2007). Driven hard, its output comes arbitrarily near θ, so the loudest sample tells θ, and the
//! inverse is exact but for quantization. Other soft curves are near enough to gain by the same inverse.
//!
//! Whether there was one is told by two things together. The samples crowd below the ceiling, and not
//! upon it as clipping's do. And what rides on the tops is squeezed by the curve's slope there: within a few
//! milliseconds the second differences of loud samples are far smaller than those of soft ones. In sines,
//! limited or merely loud music they are as large or larger.

use super::stage::{MAX_CHANNELS, RAMP_SECONDS, Ramp, Stage};

/// Shares of the ceiling between which samples crowd, and above which they stick.
const CROWD: f32 = 0.97;
const STICK: f32 = 0.99;
/// Share of all samples in the crowd that convicts, that acquits again, and that no music reaches: a
/// synthesizer's rounded square wave. (Measured on mixes: clean below 0.001, saturated to 5 dB SDR above 0.1,
/// to 7 dB above 0.04.)
const CONVICTS: f32 = 0.03;
const ACQUITS: f32 = 0.012;
const TOO_MANY: f32 = 0.5;
/// Of the crowd at most this share may stick to the ceiling.
const STUCK: f32 = 0.85;
/// Loud samples lie above the first, soft ones below the second share of the ceiling. The mean over short
/// stretches of the log ratio of the loud ones' mean square second difference to the soft ones' is below `SQUEEZED`
/// (a ratio of 0.15): the curve's squared slope there is below 0.04, and 1 without a curve.
const LOUD: f32 = 0.9;
const SOFT: f32 = 0.5;
const SQUEEZED: f32 = -1.9;
/// Samples of either kind that a stretch needs to count.
const ENOUGH: f32 = 4.0;
/// One step of 16 bits, squared: second differences below it are quantization.
const STEP_SQUARED: f32 = 1.0 / (32768.0 * 32768.0);
/// Ceilings below this (−26 dBFS) are none.
const MIN_CEILING: f32 = 0.05;
/// Beyond this many θ the inverse multiplies quantization more than it restores: one step of 16 bits
/// becomes `cosh²` of it, a fifth of θ.
const FURTHEST: f32 = 5.0;
/// A sample beyond the ceiling by this factor begins a new count.
const BEYOND: f32 = 1.01;
/// Time constant of the counts, the least audio they need, and how long the loudest sample counts.
const COUNT_SECONDS: f64 = 2.0;
const LEAST_SECONDS: f64 = 0.1;
const MEMORY_SECONDS: f64 = 6.0;
/// Time between two judgements, and length of a stretch.
const GRID_SECONDS: f64 = 0.010;

/// Follows one channel's saturation, sample by sample.
#[derive(Clone, Debug)]
pub struct Saturation {
    /// Loudest sample of this stretch of memory and of the last one.
    ceiling: f32,
    last_ceiling: f32,
    age: u32,
    memory: u32,
    before: [f32; 2],
    /// Decaying counts of all samples, those in the crowd and those that stick.
    all: f32,
    crowd: f32,
    stuck: f32,
    /// Sums of squared second differences and counts of this stretch's loud and soft samples.
    loud: [f32; 2],
    soft: [f32; 2],
    /// Decaying sum of the stretches' log ratios, and their number.
    squeezed: [f32; 2],
    keep: f32,
    keep_stretch: f32,
    least: f32,
    found: bool,
}

impl Saturation {
    /// For audio at `sample_rate` Hz.
    pub fn new(sample_rate: f64) -> Self {
        Self {
            ceiling: 0.0,
            last_ceiling: 0.0,
            age: 0,
            memory: (MEMORY_SECONDS * sample_rate) as u32,
            before: [0.0; 2],
            all: 0.0,
            crowd: 0.0,
            stuck: 0.0,
            loud: [0.0; 2],
            soft: [0.0; 2],
            squeezed: [0.0; 2],
            keep: (-1.0 / (COUNT_SECONDS * sample_rate)).exp() as f32,
            keep_stretch: (-GRID_SECONDS / COUNT_SECONDS).exp() as f32,
            least: (LEAST_SECONDS * sample_rate) as f32,
            found: false,
        }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.ceiling = 0.0;
        self.last_ceiling = 0.0;
        self.age = 0;
        self.before = [0.0; 2];
        self.restart();
    }

    fn restart(&mut self) {
        self.all = 0.0;
        self.crowd = 0.0;
        self.stuck = 0.0;
        self.loud = [0.0; 2];
        self.soft = [0.0; 2];
        self.squeezed = [0.0; 2];
        self.found = false;
    }

    /// Hears a finite sample.
    #[inline]
    pub fn push(&mut self, x: f32) {
        let known = self.ceiling.max(self.last_ceiling);
        if x.abs() > known * BEYOND {
            self.restart();
        }
        self.ceiling = self.ceiling.max(x.abs());
        self.age += 1;
        if self.age >= self.memory {
            self.age = 0;
            self.last_ceiling = self.ceiling;
            self.ceiling = x.abs();
        }
        let ceiling = self.ceiling.max(self.last_ceiling);
        // Of the sample before this one everything is known.
        let [second, first] = self.before;
        self.before = [first, x];
        let bend = x - 2.0 * first + second;
        let height = first.abs();
        let keep = self.keep;
        let count = |sum: &mut f32, add: f32| *sum = *sum * keep + add;
        let one = |yes: bool| f32::from(u8::from(yes));
        count(&mut self.all, 1.0);
        count(&mut self.crowd, one(height > CROWD * ceiling));
        count(&mut self.stuck, one(height > STICK * ceiling));
        let loud = one(height > LOUD * ceiling);
        let soft = one(height < SOFT * ceiling);
        self.loud[0] += loud * bend * bend;
        self.loud[1] += loud;
        self.soft[0] += soft * bend * bend;
        self.soft[1] += soft;
    }

    /// The ceiling θ if the last seconds were saturated. Ask every [`grid_samples`]: each call ends a stretch.
    pub fn judge(&mut self) -> Option<f32> {
        let mean = |[sum, n]: [f32; 2]| sum / n + STEP_SQUARED;
        if self.loud[1] >= ENOUGH && self.soft[1] >= ENOUGH {
            let ratio = (mean(self.loud) / mean(self.soft)).ln();
            let [sum, n] = &mut self.squeezed;
            *sum = *sum * self.keep_stretch + ratio;
            *n = *n * self.keep_stretch + 1.0;
        }
        self.loud = [0.0; 2];
        self.soft = [0.0; 2];
        let ceiling = self.ceiling.max(self.last_ceiling);
        let needed = if self.found { ACQUITS } else { CONVICTS } * self.all;
        let crowded = self.crowd >= needed && self.crowd <= TOO_MANY * self.all;
        let spread = self.stuck <= STUCK * self.crowd;
        let [sum, stretches] = self.squeezed;
        let squeezed = stretches >= ENOUGH && sum <= SQUEEZED * stretches;
        self.found =
            ceiling >= MIN_CEILING && self.all >= self.least && crowded && spread && squeezed;
        self.found.then_some(ceiling)
    }
}

/// What went into the curve with ceiling `theta` (> 0) where `y` came out.
#[inline]
pub fn expand(y: f32, theta: f32) -> f32 {
    // atanh(v) = ½ ln((1 + v) / (1 − v)); −40 dB below the ceiling the curve is straight to 3e-5.
    let v = (y / theta).clamp(-1.0, 1.0);
    let x = if v.abs() < 0.01 {
        v
    } else {
        (0.5 * ((1.0 + v) / (1.0 - v)).ln()).clamp(-FURTHEST, FURTHEST)
    };
    theta * x
}

/// Samples between two judgements at `sample_rate` Hz.
pub fn grid_samples(sample_rate: f64) -> u32 {
    ((GRID_SECONDS * sample_rate) as u32).max(1)
}

#[derive(Clone)]
struct Channel {
    saturation: Saturation,
    /// How much of the inverse is in force, 0..=1, and the ceiling it counts with.
    weight: Ramp,
    theta: Ramp,
}

/// The live stage: each channel by itself, no delay.
pub struct Desaturator {
    channels: Vec<Channel>,
    grid: u32,
    until: u32,
    intensity: Ramp,
}

impl Desaturator {
    /// For `channels` (1..=[`MAX_CHANNELS`]) at `sample_rate` Hz, intensity 1.
    pub fn live(sample_rate: f64, channels: usize) -> Self {
        let channel = Channel {
            saturation: Saturation::new(sample_rate),
            weight: Ramp::new(0.0, RAMP_SECONDS, sample_rate),
            theta: Ramp::new(0.0, RAMP_SECONDS, sample_rate),
        };
        Self {
            channels: vec![channel; channels.clamp(1, MAX_CHANNELS)],
            grid: grid_samples(sample_rate),
            until: 0,
            intensity: Ramp::new(1.0, RAMP_SECONDS, sample_rate),
        }
    }
}

impl Stage for Desaturator {
    fn latency(&self) -> usize {
        0
    }

    fn reset(&mut self) {
        for channel in &mut self.channels {
            channel.saturation.reset();
            channel.weight.set_target(0.0);
            channel.weight.settle();
        }
        self.until = 0;
        self.intensity.settle();
    }

    fn set_intensity(&mut self, intensity: f32) {
        self.intensity.set_target(intensity.clamp(0.0, 1.0));
    }

    fn process(&mut self, channels: &mut [&mut [f32]]) {
        let frames = channels.iter().map(|c| c.len()).min().unwrap_or(0);
        for i in 0..frames {
            let intensity = self.intensity.next();
            let judge = self.until == 0;
            self.until = if judge { self.grid } else { self.until } - 1;
            for (channel, block) in self.channels.iter_mut().zip(channels.iter_mut()) {
                let Some(sample) = block.get_mut(i) else {
                    continue;
                };
                let x = if sample.is_finite() { *sample } else { 0.0 };
                channel.saturation.push(x);
                if judge {
                    let theta = channel.saturation.judge();
                    channel
                        .weight
                        .set_target(f32::from(u8::from(theta.is_some())));
                    if let Some(theta) = theta {
                        channel.theta.set_target(theta);
                        if channel.weight.current() == 0.0 {
                            channel.theta.settle();
                        }
                    }
                }
                let weight = channel.weight.next() * intensity;
                let theta = channel.theta.next();
                *sample = if weight == 0.0 || theta <= 0.0 {
                    x
                } else {
                    x + weight * (expand(x, theta) - x)
                };
            }
        }
    }
}
