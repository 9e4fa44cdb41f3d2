// [audio] Reduction of steady background noise: hiss, hum of a crowd, room tone.
//!
//! The stage acts only on evidence. [`floor::NoiseFloor`] has to see noise between the notes: a level that
//! is steady, spectrally flat and without memory from frame to frame; music that merely decays, fades
//! or sustains shows none of that and comes back bit for bit. Once noise is found, each bin is
//! weighted by a Wiener gain whose a-priori SNR is "decision-directed" (Ephraim & Malah 1984), limited
//! from below so that a little natural noise stays, as music sounds worse with holes than with hiss.

pub mod floor;

use realfft::num_complex::Complex;

use super::{
    stage::Stage,
    stft::{FrameEngine, FrameKernel, fast_length},
};
use floor::NoiseFloor;

/// Length of a live frame, at most; what the chain's delay leaves.
pub const FRAME_SECONDS: f64 = 0.0164;
/// Memory of the decision-directed estimate at live settings, per frame of 5 ms.
const LIVE_MEMORY: f32 = 0.85;
/// Largest reduction, as a factor.
const LIVE_FLOOR: f32 = 0.18;
/// A bin this many times above the noise is an onset: it passes without the estimate's memory.
const ONSET_RATIO: f32 = 6.0;

/// The gain rule: power spectra and noise in, gains out.
#[derive(Clone, Debug)]
pub struct WienerGain {
    memory: f32,
    least: f32,
    /// G²·P/N of the last frame, per bin.
    previous: Vec<f32>,
}

impl WienerGain {
    /// For `bins` bins; `memory` 0..1 weighs the last frame's clean estimate, `least` is the smallest gain.
    pub fn new(bins: usize, memory: f32, least: f32) -> Self {
        Self {
            memory,
            least,
            previous: vec![0.0; bins],
        }
    }

    /// Forgets the last frame.
    pub fn reset(&mut self) {
        self.previous.fill(0.0);
    }

    /// Writes a gain in `least..=1` for every bin; bins with a `noise` of 0 get 1.
    pub fn gains(&mut self, power: &[f32], noise: &[f32], gains: &mut [f32]) {
        for (((gain, &p), &n), previous) in gains
            .iter_mut()
            .zip(power)
            .zip(noise)
            .zip(&mut self.previous)
        {
            if n <= 0.0 {
                *gain = 1.0;
                *previous = 0.0;
                continue;
            }
            let ratio = (p / n).min(1e6);
            let excess = (ratio - 1.0).max(0.0);
            let prior = if ratio > ONSET_RATIO {
                excess
            } else {
                self.memory * *previous + (1.0 - self.memory) * excess
            };
            let g = (prior / (1.0 + prior)).max(self.least);
            *previous = g * g * ratio;
            *gain = g;
        }
    }
}

struct DenoiseKernel {
    floor: NoiseFloor,
    rule: WienerGain,
    power: Vec<f32>,
    gains: Vec<f32>,
}

impl FrameKernel for DenoiseKernel {
    fn frame(&mut self, spectra: &mut [Vec<Complex<f32>>], amount: f32) -> bool {
        mean_power(spectra, &mut self.power);
        let gate = self.floor.update(&self.power);
        if gate <= 0.0 || amount <= 0.0 {
            self.rule.reset();
            return false;
        }
        self.rule
            .gains(&self.power, self.floor.noise(), &mut self.gains);
        for spectrum in spectra {
            for (bin, &g) in spectrum.iter_mut().zip(&self.gains) {
                *bin *= (g - 1.0) * gate;
            }
        }
        true
    }

    fn reset(&mut self) {
        self.floor.reset();
        self.rule.reset();
    }
}

/// Mean of the channels' power, per bin.
pub(crate) fn mean_power(spectra: &[Vec<Complex<f32>>], power: &mut [f32]) {
    power.fill(0.0);
    let scale = 1.0 / spectra.len().max(1) as f32;
    for spectrum in spectra {
        for (p, bin) in power.iter_mut().zip(spectrum) {
            *p += bin.norm_sqr() * scale;
        }
    }
}

/// Steady-noise reduction, one gain for all channels.
pub struct Denoiser {
    engine: FrameEngine,
    kernel: DenoiseKernel,
}

impl Denoiser {
    /// For `sample_rate` Hz and 1..=2 channels. Latency: one frame of [`FRAME_SECONDS`] at most.
    pub fn live(sample_rate: f64, channels: usize) -> Self {
        let frame = fast_length(FRAME_SECONDS, sample_rate, 16, 5);
        let engine = FrameEngine::new(frame, 4, 0, sample_rate, channels);
        let bins = engine.bins();
        Self {
            kernel: DenoiseKernel {
                floor: NoiseFloor::live(sample_rate, frame, engine.hop()),
                rule: WienerGain::new(bins, LIVE_MEMORY, LIVE_FLOOR),
                power: vec![0.0; bins],
                gains: vec![1.0; bins],
            },
            engine,
        }
    }

    /// The evidence of steady noise, 0 (none: the stage is transparent) to 1.
    pub fn evidence(&self) -> f32 {
        self.kernel.floor.gate()
    }

    /// The floors behind the evidence, band by band.
    pub fn floor(&self) -> &NoiseFloor {
        &self.kernel.floor
    }
}

impl Stage for Denoiser {
    fn latency(&self) -> usize {
        self.engine.latency()
    }

    fn reset(&mut self) {
        self.engine.reset();
        self.kernel.reset();
    }

    fn set_intensity(&mut self, intensity: f32) {
        self.engine.set_intensity(intensity);
    }

    fn process(&mut self, channels: &mut [&mut [f32]]) {
        self.engine.process(channels, &mut self.kernel);
    }
}
