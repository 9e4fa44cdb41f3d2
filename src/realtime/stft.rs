// [audio] A sample-clocked frame engine for stages that change the sound in time and frequency.
//!
//! Delta overlap-add: a kernel turns each frame's spectrum X into the *difference* it wants to add,
//! D = Y − X, and only D is synthesized and added to the delayed input. Where a kernel changes nothing
//! the input comes out bit for bit, so transparency is a property of the structure, not of rounding.
//! Analysis and synthesis use the square root of a periodic Hann window, whose squares add up to a
//! constant at 50 and 75 % overlap (Griffin & Lim 1984, weighted overlap-add).

use std::sync::Arc;

use realfft::{ComplexToReal, RealFftPlanner, RealToComplex, num_complex::Complex};

use super::stage::{MAX_CHANNELS, RAMP_SECONDS, Ramp};

/// Largest magnitude that enters an analysis; far beyond any audio, small enough for f32 energies.
const ANALYSIS_LIMIT: f32 = 1e6;

/// Frame length in samples for a rate in Hz: about 20 ms, a power of two.
pub fn frame_length(sample_rate: f64) -> usize {
    match sample_rate {
        r if r < 16_500.0 => 256,
        r if r < 33_000.0 => 512,
        r if r < 66_000.0 => 1024,
        r if r < 132_000.0 => 2048,
        _ => 4096,
    }
}

/// The longest length of at most `seconds` at `sample_rate` Hz (at least 32) that is a multiple of `step`
/// (a power of two) and has no prime factor above `prime` (7 at most): what transforms are fast at. Live
/// frames have such lengths, as a power of two costs up to half of the little delay there is.
pub fn fast_length(seconds: f64, sample_rate: f64, step: usize, prime: usize) -> usize {
    let longest = ((seconds * sample_rate) as usize).max(32);
    let smooth = |mut n: usize| {
        for factor in [2, 3, 5, 7] {
            while factor <= prime && n.is_multiple_of(factor) {
                n /= factor;
            }
        }
        n == 1
    };
    let mut length = longest - longest % step.max(1);
    while length > step && !smooth(length) {
        length -= step;
    }
    length.max(step)
}

/// A sample as analyses may use it: NaN and infinities are 0, absurd magnitudes are limited.
#[inline]
pub fn clean(x: f32) -> f32 {
    if x.is_finite() {
        x.clamp(-ANALYSIS_LIMIT, ANALYSIS_LIMIT)
    } else {
        0.0
    }
}

/// `x + difference`, or `x` itself (its sign of zero included) where there is nothing to add; never
/// anything but a finite number.
#[inline]
pub fn add_difference(x: f32, difference: f32) -> f32 {
    let y = if difference == 0.0 { x } else { x + difference };
    if y.is_finite() {
        y
    } else if x.is_finite() {
        x
    } else {
        0.0
    }
}

/// What a stage does to one frame.
pub trait FrameKernel: Send {
    /// Replaces each channel's spectrum X (`frame / 2 + 1` bins, unscaled FFT of the windowed frame)
    /// by the difference Y − X, and returns `true`; or returns `false` to add nothing (the spectra's
    /// content is then ignored). `amount` is the intensity now, 0..=1, for kernels that can spare
    /// work at 0: the engine scales the difference itself.
    fn frame(&mut self, spectra: &mut [Vec<Complex<f32>>], amount: f32) -> bool;

    /// Clears all memory without allocating.
    fn reset(&mut self);
}

#[derive(Clone, Debug)]
struct Lane {
    /// The last `frame` input samples; the slot to be written next holds the oldest.
    input: Vec<f32>,
    /// The difference to add to the sample in the same slot of `input`.
    difference: Vec<f32>,
}

/// Runs a [`FrameKernel`] over 1..=[`MAX_CHANNELS`] channels. Latency: one frame.
pub struct FrameEngine {
    frame: usize,
    hop: usize,
    phase: usize,
    /// Next slot of the lanes' rings.
    at: usize,
    /// Samples until the next frame.
    until_frame: usize,
    window: Vec<f32>,
    synthesis: Vec<f32>,
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
    scratch: Vec<Complex<f32>>,
    time: Vec<f32>,
    spectra: Vec<Vec<Complex<f32>>>,
    lanes: Vec<Lane>,
    intensity: Ramp,
    gains: Vec<f32>,
}

#[inline]
fn next_slot(at: usize, length: usize) -> usize {
    if at + 1 == length { 0 } else { at + 1 }
}

impl FrameEngine {
    /// An engine for `frame` samples (a multiple of 16) every `frame / overlap` samples, `overlap` 2 or 4.
    /// `phase`, in samples, shifts the frames against those of other stages so that their work does not
    /// fall into one block. `channels` is limited to 1..=[`MAX_CHANNELS`].
    pub fn new(
        frame: usize,
        overlap: usize,
        phase: usize,
        sample_rate: f64,
        channels: usize,
    ) -> Self {
        let frame = frame.next_multiple_of(16).max(16);
        let overlap = if overlap >= 4 { 4 } else { 2 };
        let hop = frame / overlap;
        let phase = phase % hop;
        let mut planner = RealFftPlanner::<f32>::new();
        let forward = planner.plan_fft_forward(frame);
        let inverse = planner.plan_fft_inverse(frame);
        let scratch_len = forward.get_scratch_len().max(inverse.get_scratch_len());
        let window: Vec<f32> = (0..frame)
            .map(|i| (std::f64::consts::PI * i as f64 / frame as f64).sin() as f32)
            .collect();
        // Squared windows add up to overlap / 2; the FFT pair scales by the frame length.
        let scale = 2.0 / (overlap as f32 * frame as f32);
        let synthesis = window.iter().map(|w| w * scale).collect();
        let channels = channels.clamp(1, MAX_CHANNELS);
        Self {
            frame,
            hop,
            phase,
            at: 0,
            until_frame: hop - phase,
            window,
            synthesis,
            scratch: vec![Complex::default(); scratch_len],
            time: vec![0.0; frame],
            spectra: vec![vec![Complex::default(); frame / 2 + 1]; channels],
            lanes: vec![
                Lane {
                    input: vec![0.0; frame],
                    difference: vec![0.0; frame],
                };
                channels
            ],
            forward,
            inverse,
            intensity: Ramp::new(1.0, RAMP_SECONDS, sample_rate),
            gains: vec![0.0; hop],
        }
    }

    /// Delay in samples.
    pub fn latency(&self) -> usize {
        self.frame
    }

    /// Bins of a spectrum.
    pub fn bins(&self) -> usize {
        self.frame / 2 + 1
    }

    /// Samples from frame to frame.
    pub fn hop(&self) -> usize {
        self.hop
    }

    /// Scale of the difference from the next sample on, 0..=1; ramped.
    pub fn set_intensity(&mut self, intensity: f32) {
        self.intensity.set_target(if intensity.is_finite() {
            intensity.clamp(0.0, 1.0)
        } else {
            return;
        });
    }

    /// Clears the signal memory; the first frame comes where it came in a new engine.
    pub fn reset(&mut self) {
        for lane in &mut self.lanes {
            lane.input.fill(0.0);
            lane.difference.fill(0.0);
        }
        self.at = 0;
        self.until_frame = self.hop - self.phase;
        self.intensity.settle();
    }

    /// Processes a block in place. Channels beyond those of the constructor are left alone.
    pub fn process(&mut self, channels: &mut [&mut [f32]], kernel: &mut impl FrameKernel) {
        let length = channels.iter().map(|c| c.len()).min().unwrap_or(0);
        let mut start = 0;
        while start < length {
            let count = (length - start).min(self.until_frame);
            for gain in self.gains.iter_mut().take(count) {
                *gain = self.intensity.next();
            }
            for (lane, channel) in self.lanes.iter_mut().zip(channels.iter_mut()) {
                let Some(block) = channel.get_mut(start..start + count) else {
                    continue;
                };
                let mut at = self.at;
                for (x, gain) in block.iter_mut().zip(&self.gains) {
                    let (Some(slot), Some(add)) =
                        (lane.input.get_mut(at), lane.difference.get_mut(at))
                    else {
                        continue;
                    };
                    let delayed = std::mem::replace(slot, *x);
                    *x = add_difference(delayed, std::mem::take(add) * gain);
                    at = next_slot(at, self.frame);
                }
            }
            // A piece is never longer than a hop.
            self.at += count;
            if self.at >= self.frame {
                self.at -= self.frame;
            }
            self.until_frame -= count;
            if self.until_frame == 0 {
                self.until_frame = self.hop;
                self.run_frame(kernel);
            }
            start += count;
        }
    }

    fn run_frame(&mut self, kernel: &mut impl FrameKernel) {
        let older = self.frame - self.at;
        for (lane, spectrum) in self.lanes.iter().zip(&mut self.spectra) {
            let ordered = lane.input[self.at..].iter().chain(&lane.input[..self.at]);
            for ((t, &x), w) in self.time.iter_mut().zip(ordered).zip(&self.window) {
                *t = clean(x) * w;
            }
            // The lengths are those of the plan, the only thing it checks.
            let _ = self
                .forward
                .process_with_scratch(&mut self.time, spectrum, &mut self.scratch);
        }
        if !kernel.frame(&mut self.spectra, self.intensity.current()) {
            return;
        }
        for (lane, spectrum) in self.lanes.iter_mut().zip(&mut self.spectra) {
            for edge in [0, self.frame / 2] {
                if let Some(bin) = spectrum.get_mut(edge) {
                    bin.im = 0.0;
                }
            }
            let _ = self
                .inverse
                .process_with_scratch(spectrum, &mut self.time, &mut self.scratch);
            let (head, tail) = lane.difference.split_at_mut(self.at);
            let (first, second) = self.time.split_at(older);
            let (w_first, w_second) = self.synthesis.split_at(older);
            for ((d, t), w) in tail.iter_mut().zip(first).zip(w_first) {
                *d += t * w;
            }
            for ((d, t), w) in head.iter_mut().zip(second).zip(w_second) {
                *d += t * w;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Y = g·X.
    struct Flat(f32);

    impl FrameKernel for Flat {
        fn frame(&mut self, spectra: &mut [Vec<Complex<f32>>], _: f32) -> bool {
            for bin in spectra.iter_mut().flatten() {
                *bin *= self.0 - 1.0;
            }
            true
        }
        fn reset(&mut self) {}
    }

    fn ramp_signal(length: usize) -> Vec<f32> {
        (0..length)
            .map(|n| ((n * n) as f32 * 0.000_37).sin() * 0.7)
            .collect()
    }

    #[test]
    fn a_constant_gain_scales_the_delayed_input_at_both_overlaps() {
        for (frame, overlap) in [(256, 2), (256, 4), (240, 4), (144, 2)] {
            let mut engine = FrameEngine::new(frame, overlap, 17, 48_000.0, 1);
            assert_eq!(engine.latency(), frame);
            let input = ramp_signal(4000);
            let mut out = input.clone();
            engine.process(&mut [&mut out], &mut Flat(0.25));
            for n in 512..4000 {
                let expected = 0.25 * input[n - engine.latency()];
                assert!((out[n] - expected).abs() < 1e-5, "{frame}/{overlap} {n}");
            }
        }
    }

    #[test]
    fn fast_lengths_are_smooth_multiples_as_long_as_allowed() {
        for (rate, length) in [(48_000.0, 768), (44_100.0, 640), (96_000.0, 1536)] {
            assert_eq!(fast_length(0.016, rate, 16, 5), length);
        }
        for rate in 8_000..192_000 {
            let rate = f64::from(rate);
            let length = fast_length(0.0134, rate, 16, 5);
            assert!(length.is_multiple_of(16) && length as f64 <= 0.0134 * rate);
            assert!(length as f64 > 0.70 * 0.0134 * rate, "{rate}: {length}");
        }
    }

    #[test]
    fn splits_of_the_input_and_resets_change_no_bit() {
        let input = ramp_signal(3000);
        let mut engine = FrameEngine::new(256, 4, 0, 48_000.0, 2);
        let mut whole = [input.clone(), input.iter().map(|x| -x).collect()];
        let [a, b] = &mut whole;
        engine.process(&mut [a, b], &mut Flat(0.5));
        engine.reset();
        let mut parts = [
            input.clone(),
            input.iter().map(|x| -x).collect::<Vec<f32>>(),
        ];
        let mut at = 0;
        for size in [1, 64, 97, 512, 1, 7].into_iter().cycle() {
            let end = (at + size).min(input.len());
            let [a, b] = &mut parts;
            engine.process(&mut [&mut a[at..end], &mut b[at..end]], &mut Flat(0.5));
            at = end;
            if at == input.len() {
                break;
            }
        }
        assert_eq!(whole, parts);
    }

    #[test]
    fn a_scale_of_zero_returns_every_bit_and_garbage_becomes_finite() {
        let mut input = ramp_signal(2000);
        input[100] = -0.0;
        let mut engine = FrameEngine::new(256, 4, 0, 48_000.0, 1);
        engine.set_intensity(0.0);
        engine.reset();
        let mut out = input.clone();
        engine.process(&mut [&mut out], &mut Flat(0.0));
        for n in 256..2000 {
            assert_eq!(out[n].to_bits(), input[n - 256].to_bits());
        }
        input[500] = f32::NAN;
        input[700] = f32::INFINITY;
        input[900] = f32::MAX;
        engine.set_intensity(1.0);
        engine.process(&mut [&mut input], &mut Flat(3.0));
        assert!(input.iter().all(|x| x.is_finite()));
    }
}
