// [worker] MultiBand Diffusion: makes a waveform anew from EnCodec's codes (San Roman et al. 2023, arXiv:2308.02560).
//
// Each band has a network of its own that turns noise into audio in 20 steps, given the codes; the bands' sum is the
// result. A full-size model needs about 70 TFLOP for 10 s: minutes on a processor. Networks are read one after
// another, so that one of them at a time is in memory.

mod bands;
mod config;
mod device;
mod noise;
mod raw;
mod regenerator;
mod schedule;
mod unet;

use std::{
    cell::Cell,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{Device, Tensor};

pub use bands::{Processor, SplitBands, re_eq};
pub use config::{BandConfig, UnetConfig};
use device::DeviceUnet;
pub use noise::{Noise, Seeded};
use raw::RawUnet;
pub use regenerator::DiffusionRegenerator;
pub use schedule::{Schedule, ScheduleConfig};
use unet::Unet;

use crate::{
    audio::AudioBuffer,
    dense::device::notice,
    models::{checkpoint::Checkpoint, tensors::Tensors},
    regeneration::encodec::{self, Encodec, EncodecError, Loader},
    worker::progress::Progress,
};

/// The longest signal that goes through the networks at once, seconds. Memory grows by about 10 MB a second.
const WINDOW_SECONDS: usize = 30;
/// What neighbouring windows of a longer signal share, faded from one to the other.
const OVERLAP_SECONDS: usize = 2;

/// Why audio could not be regenerated, or a model not loaded.
#[derive(Debug, thiserror::Error)]
pub enum MbdError {
    #[error("the MultiBand Diffusion model can't be used: {0}")]
    Config(String),
    #[error(
        "the audio has shape {actual:?}, but [batch, channels, samples] with 1 or 2 channels and none 0 is expected"
    )]
    Shape { actual: Vec<usize> },
    #[error("the audio is empty")]
    Empty,
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    Encodec(#[from] EncodecError),
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

struct Band {
    config: BandConfig,
    schedule: Schedule,
    processor: Option<Processor>,
    /// Of the network's tensors.
    prefix: String,
}

/// A model whose networks stay in their file until they are needed.
pub struct MultiBandDiffusion {
    weights: Arc<dyn Tensors>,
    bands: Vec<Band>,
    codec: Arc<Encodec>,
    /// Where to compute with candle; `None` for the processor's own kernels, also after the device failed.
    device: Mutex<Option<Device>>,
    notices: Mutex<Vec<String>>,
}

/// A band's network, wherever it runs.
enum Engine {
    Host(Box<Unet>),
    Device(Box<DeviceUnet>, Device),
}

/// Counts evaluations and carries the cancel switch.
struct Steps<'a> {
    progress: &'a Progress,
    done: Cell<usize>,
    all: usize,
}

impl Steps<'_> {
    fn one_more(&self) {
        self.done.set(self.done.get() + 1);
        self.progress
            .report(self.done.get() as f64 / self.all.max(1) as f64);
    }
}

impl MultiBandDiffusion {
    /// Opens a released file (`mbd_musicgen_32khz.th`), which says itself how many bands it has and how they are
    /// built. Every tensor's presence and shape is checked now; the values are read when they are needed.
    ///
    /// # Errors
    /// [`MbdError::Config`] for another kind of file or a codec that does not fit, or all missing tensors by name.
    pub fn open(
        file: Arc<Checkpoint>,
        codec: Arc<Encodec>,
        device: &Device,
    ) -> Result<Self, MbdError> {
        let number = |key: &str, most: usize| {
            let value = file.value(key).and_then(|v| v.as_usize());
            value.filter(|v| (1..=most).contains(v)).ok_or_else(|| {
                MbdError::Config(format!(
                    "its {key} is missing or not 1 to {most}: is this the right file?"
                ))
            })
        };
        let sample_rate = number("sample_rate", 768_000)? as u32;
        let bands = (0..number("n_bands", 64)?)
            .map(|b| {
                let cfg = file
                    .value(&format!("{b}.cfg"))
                    .ok_or_else(|| MbdError::Config(format!("its band {b} is missing")))?;
                BandConfig::from_value(cfg)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Self::load(file, sample_rate, bands, codec, device)
    }

    /// From tensors `{band}.model_state.…` and `{band}.processor_state.…` (or `{band}.model.…`,
    /// `{band}.processor.…`).
    ///
    /// # Errors
    /// As [`MultiBandDiffusion::open`].
    pub fn load(
        weights: Arc<dyn Tensors>,
        sample_rate: u32,
        bands: Vec<BandConfig>,
        codec: Arc<Encodec>,
        device: &Device,
    ) -> Result<Self, MbdError> {
        if codec.sample_rate() != sample_rate || codec.channels() != 1 {
            return Err(MbdError::Config(format!(
                "it works at {sample_rate} Hz in mono, its EnCodec at {} Hz with {} channels",
                codec.sample_rate(),
                codec.channels()
            )));
        }
        let dimension = codec.config().dimension;
        let mut loader = Loader::new(&*weights);
        let mut ready = Vec::with_capacity(bands.len());
        for (b, config) in bands.into_iter().enumerate() {
            if config.unet.codec_dim != dimension {
                return Err(MbdError::Config(format!(
                    "its band {b} expects codes of dimension {}, its EnCodec gives {dimension}",
                    config.unet.codec_dim
                )));
            }
            let spelled = |part: &str, probe: &str| {
                let released = format!("{b}.{part}_state.");
                match weights.shape(&format!("{b}.{part}.{probe}")) {
                    Some(_) => format!("{b}.{part}."),
                    None => released,
                }
            };
            let prefix = spelled("model", "conv_codec.weight");
            loader.only_check(true);
            RawUnet::read(&mut loader, &prefix, &config.unet, config.schedule.steps);
            loader.only_check(false);
            let processor = config.processor.map(|(count, power)| {
                let prefix = spelled("processor", "counts");
                let mut sums =
                    |name: &str, n: usize| loader.tensor(&format!("{prefix}{name}"), &[n]);
                let counts = sums("counts", 1);
                let (sum, squares) = (sums("sum_x", count), sums("sum_x2", count));
                let target = sums("sum_target_x2", count);
                Processor::new(
                    counts.first().copied().unwrap_or(1.0),
                    &sum,
                    &squares,
                    &target,
                    power,
                )
            });
            ready.push(Band {
                schedule: Schedule::new(config.schedule.clone()),
                config,
                processor,
                prefix,
            });
        }
        loader.finish()?;
        for (b, band) in ready.iter().enumerate() {
            let finite = |p: &Processor| p.scale.iter().chain(&p.mean).all(|x| x.is_finite());
            if band.processor.as_ref().is_some_and(|p| !finite(p)) {
                return Err(MbdError::Config(format!(
                    "the levels of its band {b} are not numbers"
                )));
            }
        }
        Ok(Self {
            weights,
            bands: ready,
            codec,
            device: Mutex::new((!device.is_cpu()).then(|| device.clone())),
            notices: Mutex::default(),
        })
    }

    /// Computes with candle's operators even on the processor: slower, for comparing the engines.
    #[must_use]
    pub fn with_candle(self, device: &Device) -> Self {
        *lock(&self.device) = Some(device.clone());
        self
    }

    /// Hz.
    pub fn sample_rate(&self) -> u32 {
        self.codec.sample_rate()
    }

    /// The codec whose codes it decodes.
    pub fn codec(&self) -> &Encodec {
        &self.codec
    }

    /// Number of bands.
    pub fn bands(&self) -> usize {
        self.bands.len()
    }

    /// The schedule of a band.
    pub fn schedule(&self, band: usize) -> &Schedule {
        &self.bands[band].schedule
    }

    /// What the user should know: where a device failed and the processor took over. Empties the list.
    pub fn take_notices(&self) -> Vec<String> {
        let mut notices = std::mem::take(&mut *lock(&self.notices));
        notices.extend(self.codec.take_notices());
        notices
    }

    /// Codes the audio and makes it anew from the codes: mono or stereo, any length and rate. The result has the
    /// same rate, channels and length. Channels that are equal are made once; all channels share the noise of
    /// `seed`, so that what is in the middle stays there. `progress` counts the networks' evaluations.
    ///
    /// # Errors
    /// [`MbdError::Empty`], [`MbdError::Shape`] for more than two channels, [`MbdError::Cancelled`] between two
    /// layers of an evaluation.
    pub fn regenerate(
        &self,
        audio: &AudioBuffer,
        seed: u64,
        progress: &Progress,
    ) -> Result<AudioBuffer, MbdError> {
        let frames = audio.frames();
        if !(1..=2).contains(&audio.channels.len()) {
            return Err(MbdError::Shape {
                actual: vec![1, audio.channels.len(), frames],
            });
        }
        if frames == 0 || audio.sample_rate == 0 {
            return Err(MbdError::Empty);
        }
        let mut distinct = audio.clone();
        distinct.channels.dedup();
        let own = distinct.resampled(self.sample_rate());
        let made = self.regenerate_own(&own.channels, &Seeded(seed), progress)?;
        let mut back = AudioBuffer::new(made, self.sample_rate()).resampled(audio.sample_rate);
        for channel in &mut back.channels {
            channel.resize(frames, 0.0);
        }
        while back.channels.len() < audio.channels.len() {
            back.channels.push(back.channels[0].clone());
        }
        Ok(back)
    }

    /// As [`MultiBandDiffusion::regenerate`] of `[batch, channels, samples]`, for callers that have tensors.
    ///
    /// # Errors
    /// As there; [`MbdError::Shape`] for any other number of dimensions.
    pub fn regenerate_tensor(
        &self,
        audio: &Tensor,
        sample_rate: u32,
        seed: u64,
        progress: &Progress,
    ) -> Result<Tensor, MbdError> {
        let shape = || MbdError::Shape {
            actual: audio.dims().to_vec(),
        };
        let (batch, channels, samples) = audio.dims3().map_err(|_| shape())?;
        if batch == 0 || !(1..=2).contains(&channels) || samples == 0 {
            return Err(shape());
        }
        let mut out = Vec::with_capacity(batch);
        for b in 0..batch {
            let one = audio.get(b)?.to_device(&Device::Cpu)?;
            let one = AudioBuffer::new(
                one.to_dtype(candle_core::DType::F32)?.to_vec2()?,
                sample_rate,
            );
            let part = progress.part(b as f64 / batch as f64, (b + 1) as f64 / batch as f64);
            let made = self.regenerate(&one, seed, &part)?;
            out.push(Tensor::from_vec(
                made.channels.concat(),
                (channels, samples),
                audio.device(),
            )?);
        }
        Ok(Tensor::stack(&out, 0)?)
    }

    /// As [`MultiBandDiffusion::regenerate`] for signals of one length at the model's own rate, with any noise.
    ///
    /// # Errors
    /// As there.
    pub fn regenerate_own(
        &self,
        signals: &[Vec<f32>],
        noise: &dyn Noise,
        progress: &Progress,
    ) -> Result<Vec<Vec<f32>>, MbdError> {
        let samples = signals.first().map_or(0, Vec::len);
        if samples == 0 {
            return Err(MbdError::Empty);
        }
        let mut conditions = Vec::with_capacity(signals.len());
        for signal in signals {
            let x = Tensor::from_slice(signal, (1, 1, samples), &Device::Cpu)?;
            let codes = self.codec.quantize(&self.codec.encode_latents(&x)?)?;
            conditions.extend(encodec::rows(&self.codec.dequantize(&codes)?)?);
            if progress.is_cancelled() {
                return Err(MbdError::Cancelled);
            }
        }
        self.generate(&conditions, samples, noise, progress)
    }

    /// Audio of codes `[1, codebooks, frames]`: `frames · hop` samples. With `equalised`, each of 32 bands gets the
    /// level it has in EnCodec's own decoding.
    ///
    /// # Errors
    /// As [`Encodec::dequantize`], or [`MbdError::Cancelled`].
    pub fn decode_codes(
        &self,
        codes: &Tensor,
        equalised: bool,
        noise: &dyn Noise,
        progress: &Progress,
    ) -> Result<Vec<f32>, MbdError> {
        let latents = self.codec.dequantize(codes)?;
        let conditions = encodec::rows(&latents)?;
        let samples = latents.dim(2)? * self.codec.hop();
        let made = self
            .generate(&conditions[..1], samples, noise, progress)?
            .swap_remove(0);
        if !equalised {
            return Ok(made);
        }
        let plain = encodec::rows(&self.codec.decode_latents(&latents)?)?.swap_remove(0);
        Ok(re_eq(&made, &plain, self.sample_rate()))
    }

    /// Audio of `samples` for each condition `[frames][dimension]`: the sum of all bands.
    ///
    /// # Errors
    /// [`MbdError::Cancelled`], or tensors that can't be read any more.
    pub fn generate(
        &self,
        conditions: &[Vec<f32>],
        samples: usize,
        noise: &dyn Noise,
        progress: &Progress,
    ) -> Result<Vec<Vec<f32>>, MbdError> {
        let windows = windows(samples, self.sample_rate() as usize, self.codec.hop());
        let evaluations: usize = self.bands.iter().map(|b| b.schedule.evaluations()).sum();
        let steps = Steps {
            progress,
            done: Cell::new(0),
            all: evaluations * conditions.len() * windows.len(),
        };
        let mut out = vec![vec![0.0f32; samples]; conditions.len()];
        for b in 0..self.bands.len() {
            let mut engine = self.engine(b)?;
            for (condition, out) in conditions.iter().zip(&mut out) {
                for (w, window) in windows.iter().enumerate() {
                    let made = self.sample(b, &mut engine, condition, window, noise, &steps)?;
                    let before = w
                        .checked_sub(1)
                        .map_or(0, |w| windows[w].end - window.start);
                    let after = windows.get(w + 1).map_or(0, |next| window.end - next.start);
                    let len = window.len();
                    for (i, (o, x)) in out[window.clone()].iter_mut().zip(&made).enumerate() {
                        let mut weight = 1.0;
                        if i < before {
                            weight *= (i as f32 + 0.5) / before as f32;
                        }
                        if len - i <= after {
                            weight *= ((len - i) as f32 - 0.5) / after as f32;
                        }
                        *o += weight * x;
                    }
                }
            }
        }
        Ok(out)
    }

    /// What a band's network gives for signal `x` at a training step, for comparing: the estimate, and what each
    /// layer on the processor gives as `(kind, index, [time][channels], channels)`.
    ///
    /// # Errors
    /// Tensors that can't be read any more.
    #[allow(clippy::type_complexity)]
    pub fn activations(
        &self,
        band: usize,
        x: &[f32],
        step: usize,
        condition: &[f32],
    ) -> Result<(Vec<f32>, Vec<(&'static str, usize, Vec<f32>, usize)>), MbdError> {
        let mut seen = Vec::new();
        let unet = Unet::new(
            self.read(band)?,
            &self.bands[band].config.unet,
            &*self.weights,
        );
        let out = unet.run(
            x,
            step,
            condition,
            &|| false,
            &mut |kind, i, values, channels| {
                seen.push((kind, i, values.to_vec(), channels));
            },
        );
        Ok((out.ok_or(MbdError::Cancelled)?, seen))
    }

    fn read(&self, band: usize) -> Result<RawUnet, MbdError> {
        let band = &self.bands[band];
        let mut loader = Loader::new(&*self.weights);
        let config = &band.config;
        let raw = RawUnet::read(
            &mut loader,
            &band.prefix,
            &config.unet,
            config.schedule.steps,
        );
        loader.finish()?;
        Ok(raw)
    }

    fn engine(&self, band: usize) -> Result<Engine, MbdError> {
        let raw = self.read(band)?;
        let config = &self.bands[band].config.unet;
        let device = lock(&self.device).clone();
        if let Some(device) = device {
            match DeviceUnet::new(&raw, config, &device) {
                Ok(unet) => return Ok(Engine::Device(Box::new(unet), device)),
                Err(e) => self.give_up(&device, &e),
            }
        }
        Ok(Engine::Host(Box::new(Unet::new(
            raw,
            config,
            &*self.weights,
        ))))
    }

    /// From now on the processor computes.
    fn give_up(&self, device: &Device, error: &candle_core::Error) {
        *lock(&self.device) = None;
        lock(&self.notices).push(notice(device, error));
    }

    /// A window of a band: from noise to audio.
    fn sample(
        &self,
        b: usize,
        engine: &mut Engine,
        condition: &[f32],
        window: &Range<usize>,
        noise: &dyn Noise,
        steps: &Steps<'_>,
    ) -> Result<Vec<f32>, MbdError> {
        let band = &self.bands[b];
        let (hop, dimension) = (self.codec.hop(), band.config.unet.codec_dim);
        let last = window.end.div_ceil(hop) * dimension;
        let first = window.start / hop * dimension;
        let condition = &condition[first..last.min(condition.len())];
        let mut x = vec![0.0f32; window.len()];
        let mut fresh = x.clone();
        noise.fill(b, 0, window.start, &mut x);
        let stop = || steps.progress.is_cancelled();
        for i in 0..band.schedule.evaluations() {
            let step = band.schedule.sampled()[i];
            let estimate = loop {
                if stop() {
                    return Err(MbdError::Cancelled);
                }
                match engine {
                    Engine::Host(unet) => {
                        break unet
                            .run(&x, step, condition, &stop, &mut |_, _, _, _| ())
                            .ok_or(MbdError::Cancelled)?;
                    }
                    Engine::Device(unet, device) => {
                        match unet.run(&x, step, condition, &stop) {
                            Ok(Some(estimate)) => break estimate,
                            Ok(None) => return Err(MbdError::Cancelled),
                            Err(e) => self.give_up(device, &e),
                        }
                        *engine = self.engine(b)?;
                    }
                }
            };
            if band.schedule.is_noisy(i) {
                noise.fill(b, i + 1, window.start, &mut fresh);
            }
            band.schedule.step(i, &mut x, &estimate, &fresh);
            steps.one_more();
        }
        Ok(match &band.processor {
            Some(processor) => processor.restore(&x, self.sample_rate()),
            None => x,
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Windows of a signal that begin at whole frames, each overlapping the next.
fn windows(samples: usize, sample_rate: usize, hop: usize) -> Vec<Range<usize>> {
    let whole = |seconds: usize| (seconds * sample_rate).div_ceil(hop) * hop;
    let (len, overlap) = (whole(WINDOW_SECONDS), whole(OVERLAP_SECONDS));
    let mut out = Vec::new();
    let mut start = 0;
    loop {
        if samples - start <= len {
            out.push(start..samples);
            return out;
        }
        out.push(start..start + len);
        start += len - overlap;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_everything_and_fade_to_one() {
        for samples in [1, 640, 30 * 32_000, 30 * 32_000 + 1, 100 * 32_000 + 77] {
            let windows = windows(samples, 32_000, 640);
            assert_eq!(
                (windows[0].start, windows.last().unwrap().end),
                (0, samples)
            );
            for pair in windows.windows(2) {
                assert_eq!(pair[1].start % 640, 0);
                assert_eq!(pair[0].end - pair[1].start, 2 * 32_000);
            }
            // No three windows meet: the fades of two always add up to one.
            for triple in windows.windows(3) {
                assert!(triple[0].end <= triple[2].start);
            }
        }
    }
}
