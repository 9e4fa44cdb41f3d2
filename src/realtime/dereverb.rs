// [audio] Takes room out of the music: early reflections by linear prediction, late ones by their decay.
//!
//! Late reverberation is modelled as noise that decays exponentially (Lebart, Boucher & Denbigh 2001):
//! its power now is the power of a few frames ago, less the room's decay since then. What exceeds
//! that passes; the rest is attenuated by spectral subtraction with a floor. See [`decay`] for the
//! blind RT60 and [`prediction`] for the early part.

pub mod decay;
pub mod prediction;

use realfft::num_complex::Complex;

use super::{
    denoise::mean_power,
    stage::{RAMP_SECONDS, Ramp, Stage},
    stft::{FrameEngine, FrameKernel, fast_length},
};
use decay::DecayWatch;
use prediction::Prediction;

/// Length of a live frame, at most; what the chain's delay leaves.
pub const FRAME_SECONDS: f64 = 0.0134;
/// Sound later than this after its cause is late reverberation, in seconds.
const LATE_SECONDS: f64 = 0.030;
/// The early predictor works up to here, in Hz.
const EARLY_HZ: f64 = 8000.0;

/// How a kernel is set up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DereverbSetting {
    /// Frames that the early predictor looks at.
    pub taps: usize,
    /// Frames between a frame and the newest one it is predicted from.
    pub delay: usize,
    /// Highest frequency it works at, Hz.
    pub early_hz: f64,
    /// Smoothing of the power, per frame.
    pub power_memory: f32,
    /// Smoothing of the gain, per frame.
    pub gain_memory: f32,
    /// The gain is 1 − (room / all)^exponent: 0.5 subtracts amplitudes, 1 powers (Wiener).
    pub exponent: f32,
    /// Smallest gain.
    pub least_gain: f32,
}

/// The live setting: predicts from 20–47 ms back at 48 kHz, in hops of half a frame.
pub const LIVE: DereverbSetting = DereverbSetting {
    taps: 5,
    delay: 3,
    early_hz: EARLY_HZ,
    power_memory: 0.8,
    gain_memory: 0.2,
    exponent: 0.5,
    least_gain: 0.3,
};

/// The kernel both paths share: a stream of spectra in, differences out.
pub struct DereverbKernel {
    setting: DereverbSetting,
    hop: usize,
    early: Ramp,
    late: Ramp,
    watch: DecayWatch,
    seconds_back: f32,
    predictions: Vec<Prediction>,
    predicted: Vec<Vec<Complex<f32>>>,
    power: Vec<f32>,
    smooth: Vec<f32>,
    /// Ring of smoothed powers.
    past: Vec<Vec<f32>>,
    now: usize,
    gains: Vec<f32>,
    fixed_rt60: Option<f32>,
}

impl DereverbKernel {
    /// For frames of `frame` samples every `hop` at `sample_rate` Hz.
    pub fn new(
        setting: DereverbSetting,
        sample_rate: f64,
        frame: usize,
        hop: usize,
        channels: usize,
    ) -> Self {
        let bins = frame / 2 + 1;
        let back = ((LATE_SECONDS * sample_rate / hop as f64).round() as usize).max(1);
        let early_bins =
            ((setting.early_hz * frame as f64 / sample_rate).ceil() as usize).clamp(1, bins);
        Self {
            setting,
            hop,
            early: Ramp::new(1.0, RAMP_SECONDS, sample_rate),
            late: Ramp::new(1.0, RAMP_SECONDS, sample_rate),
            watch: DecayWatch::new(sample_rate, frame, hop),
            seconds_back: (back as f64 * hop as f64 / sample_rate) as f32,
            predictions: vec![Prediction::new(early_bins, setting.taps, setting.delay); channels],
            predicted: vec![vec![Complex::default(); early_bins]; channels],
            power: vec![0.0; bins],
            smooth: vec![0.0; bins],
            past: vec![vec![0.0; bins]; back],
            now: 0,
            gains: vec![1.0; bins],
            fixed_rt60: None,
        }
    }

    /// Intensities of both parts, 0..=1.
    pub fn set_intensities(&mut self, early: f32, late: f32) {
        self.early.set_target(early.clamp(0.0, 1.0));
        self.late.set_target(late.clamp(0.0, 1.0));
    }

    /// RT60 in seconds: as measured so far, or as fixed.
    pub fn rt60(&self) -> f32 {
        self.fixed_rt60.unwrap_or(self.watch.rt60())
    }

    /// For a second pass over the same take: the signal is forgotten, the room remembered and fixed.
    pub fn second_pass(&mut self) {
        self.fixed_rt60 = Some(self.watch.rt60());
        self.clear_signal();
        for p in &mut self.predictions {
            p.forget_frames();
        }
    }

    fn clear_signal(&mut self) {
        self.smooth.fill(0.0);
        for p in &mut self.past {
            p.fill(0.0);
        }
        self.now = 0;
        self.gains.fill(1.0);
        self.early.settle();
        self.late.settle();
    }

    fn advance(ramp: &mut Ramp, samples: usize) -> f32 {
        for _ in 0..samples {
            ramp.next();
        }
        ramp.current()
    }
}

impl FrameKernel for DereverbKernel {
    fn frame(&mut self, spectra: &mut [Vec<Complex<f32>>], _: f32) -> bool {
        let early = Self::advance(&mut self.early, self.hop);
        let late = Self::advance(&mut self.late, self.hop);
        mean_power(spectra, &mut self.power);
        self.watch.update(&self.power);
        let decay = 10f32.powf(-6.0 * self.seconds_back / self.rt60());
        let DereverbSetting {
            power_memory,
            gain_memory,
            exponent,
            least_gain,
            ..
        } = self.setting;
        let past = &mut self.past[self.now];
        for (((s, &p), old), gain) in self
            .smooth
            .iter_mut()
            .zip(&self.power)
            .zip(past.iter_mut())
            .zip(&mut self.gains)
        {
            *s = power_memory * *s + (1.0 - power_memory) * p;
            let room = *old * decay;
            *old = *s;
            let wanted = if *s > 0.0 {
                (1.0 - (room / *s).powf(exponent)).max(least_gain)
            } else {
                1.0
            };
            *gain = gain_memory * *gain + (1.0 - gain_memory) * wanted;
        }
        self.now = (self.now + 1) % self.past.len();
        if early == 0.0 && late == 0.0 {
            return false;
        }
        for ((spectrum, prediction), predicted) in spectra
            .iter_mut()
            .zip(&mut self.predictions)
            .zip(&mut self.predicted)
        {
            if early > 0.0 {
                prediction.predict(spectrum, predicted);
            } else {
                predicted.fill(Complex::default());
            }
            let tail = spectrum.split_at_mut(predicted.len());
            for ((bin, guess), &g) in tail.0.iter_mut().zip(predicted.iter()).zip(&self.gains) {
                let g = 1.0 + late * (g - 1.0);
                *bin = *bin * (g - 1.0) - guess * (early * g);
            }
            for (bin, &g) in tail.1.iter_mut().zip(&self.gains[predicted.len()..]) {
                *bin *= late * (g - 1.0);
            }
        }
        true
    }

    fn reset(&mut self) {
        self.fixed_rt60 = None;
        self.watch.reset();
        for p in &mut self.predictions {
            p.reset();
        }
        self.clear_signal();
    }
}

/// Dereverberation of 1..=2 channels.
pub struct Dereverb {
    engine: FrameEngine,
    kernel: DereverbKernel,
}

impl Dereverb {
    /// For `sample_rate` Hz. Latency: one frame of [`FRAME_SECONDS`] at most.
    pub fn live(sample_rate: f64, channels: usize) -> Self {
        let frame = fast_length(FRAME_SECONDS, sample_rate, 16, 5);
        // Half overlap: with frames this short a hop still is fine in time, and the predictor reaches as far
        // back with fewer taps.
        let engine = FrameEngine::new(frame, 2, frame / 8, sample_rate, channels);
        let kernel =
            DereverbKernel::new(LIVE, sample_rate, frame, engine.hop(), channels.clamp(1, 2));
        Self { engine, kernel }
    }

    /// Intensities of early and late suppression from the next frame on, 0..=1, ramped.
    pub fn set_intensities(&mut self, early: f32, late: f32) {
        self.kernel.set_intensities(early, late);
    }

    /// The room's RT60 as heard so far, in seconds.
    pub fn rt60(&self) -> f32 {
        self.kernel.rt60()
    }
}

impl Stage for Dereverb {
    fn latency(&self) -> usize {
        self.engine.latency()
    }

    fn reset(&mut self) {
        self.engine.reset();
        self.kernel.reset();
    }

    fn set_intensity(&mut self, intensity: f32) {
        self.set_intensities(intensity, intensity);
    }

    fn process(&mut self, channels: &mut [&mut [f32]]) {
        self.engine.process(channels, &mut self.kernel);
    }
}
