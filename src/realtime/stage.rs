// [audio] What every stage of the chain has in common.

/// Largest number of channels the chain handles.
pub const MAX_CHANNELS: usize = 2;

/// Length of the ramp with which intensities follow their targets, in seconds.
pub const RAMP_SECONDS: f64 = 0.010;

/// A value that follows its target linearly, sample by sample, over a fixed time. It reaches the
/// target exactly.
#[derive(Clone, Copy, Debug)]
pub struct Ramp {
    current: f32,
    target: f32,
    step: f32,
    remaining: u32,
    length: u32,
}

impl Ramp {
    /// Starts at rest on `value`; moves take `seconds` at `sample_rate` Hz (at least one sample).
    pub fn new(value: f32, seconds: f64, sample_rate: f64) -> Self {
        Self {
            current: value,
            target: value,
            step: 0.0,
            remaining: 0,
            length: ((seconds * sample_rate).round() as u32).max(1),
        }
    }

    /// Moves towards `target` from here; the same target again changes nothing. Non-finite is ignored.
    pub fn set_target(&mut self, target: f32) {
        if target == self.target || !target.is_finite() {
            return;
        }
        self.target = target;
        self.remaining = self.length;
        self.step = (target - self.current) / self.length as f32;
    }

    /// Jumps to the target.
    pub fn settle(&mut self) {
        self.current = self.target;
        self.remaining = 0;
    }

    /// The next sample's value. (Endless and infallible: an `Iterator` would only be in the way.)
    #[inline]
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> f32 {
        if self.remaining > 0 {
            self.remaining -= 1;
            self.current = if self.remaining == 0 {
                self.target
            } else {
                self.current + self.step
            };
        }
        self.current
    }

    /// The value of the last sample.
    pub fn current(&self) -> f32 {
        self.current
    }

    /// Where the value is heading.
    pub fn target(&self) -> f32 {
        self.target
    }
}

/// A stage of the live chain, processing in place and planar.
///
/// Laws, tested over all stages:
/// * `process` neither allocates nor locks, and its work per sample is bounded by construction.
/// * Any split of the same input gives the same output, bit for bit: everything inside is clocked by
///   samples, never by blocks. A stage sees an intensity at the sample where it changes.
/// * With an intensity of 0 the output is the input, delayed by `latency()`, bit for bit (stages add a
///   difference to the delayed input rather than resynthesizing it).
/// * Finite output for any input, NaN and infinities included.
/// * After `reset` a stage behaves as new (ramps settle on their targets).
pub trait Stage: Send {
    /// Delay in samples; depends on the sample rate alone.
    fn latency(&self) -> usize;

    /// Clears all memory without allocating.
    fn reset(&mut self);

    /// The intensity from the next sample on, 0..=1; ramped inside.
    fn set_intensity(&mut self, intensity: f32);

    /// Processes 1..=[`MAX_CHANNELS`] channels of equal length (any length), in place.
    /// The number of channels is the one given to the constructor.
    fn process(&mut self, channels: &mut [&mut [f32]]);
}
