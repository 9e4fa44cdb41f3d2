// [worker] EnCodec at 32 kHz: audio to latents and codes and back (Défossez et al. 2022, arXiv:2210.13438).
//
// On the processor it runs on the dense kernels, in tiles that stay in the cache; on a graphics processor on candle's
// operators. If a device runs out of memory or lacks an operator, the processor takes over, and a notice says so.

mod config;
pub(crate) mod convolution;
mod device;
mod host;
mod lstm;
mod quantizer;
mod raw;
mod weights;

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use candle_core::{DType, Device, Tensor};

pub use config::{EncodecConfig, PadMode};
use device::DeviceNet;
use host::{Decoder, Encoder};
use quantizer::Quantizer;
use raw::Raw;
pub(crate) use raw::RawConv;
pub(crate) use weights::Loader;

use crate::{
    dense::device::notice,
    models::{
        checkpoint::CheckpointError,
        tensors::{self, Tensors},
    },
};

/// Where the tensors are in AudioCraft's own file.
const STATE_PREFIX: &str = "best_state.";
/// What is made of that file, to be raised with what [`Raw`] asks it for, or with how layers are packed.
const FORM: &str = "encodec-1";

/// Why an EnCodec could not be loaded or used. The text says what was expected.
#[derive(Debug, thiserror::Error)]
pub enum EncodecError {
    #[error("the EnCodec configuration can't be used: {0}")]
    Config(String),
    #[error("no EnCodec was found under \"{prefix}\": is this the right file?")]
    NoEncodec { prefix: String },
    #[error(
        "{} are missing and {} can't be used; missing: {}; not usable: {}",
        count(missing),
        count(faulty),
        list(missing),
        list(faulty)
    )]
    Tensors {
        /// Names of tensors that are not there.
        missing: Vec<String>,
        /// Names of tensors of another shape or type, with both.
        faulty: Vec<String>,
    },
    #[error("{what} has shape {actual:?}, but {expected} is expected")]
    Shape {
        what: &'static str,
        actual: Vec<usize>,
        expected: String,
    },
    #[error("code {code} is outside the codebook of {size} entries")]
    Code { code: u32, size: usize },
    #[error(transparent)]
    File(#[from] CheckpointError),
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

fn count(names: &[String]) -> String {
    match names.len() {
        1 => "1 tensor".into(),
        n => format!("{n} tensors"),
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}

/// A loaded EnCodec. Tensors go in and come back on whatever device they are given on.
pub struct Encodec {
    config: EncodecConfig,
    encoder: Encoder,
    decoder: Decoder,
    quantizer: Quantizer,
    /// The networks on a graphics processor, until they fail there.
    device: Mutex<Option<DeviceNet>>,
    notices: Mutex<Vec<String>>,
}

impl Encodec {
    /// Opens AudioCraft's own file (`compression_state_dict.bin`). For the processor, the first opening keeps in
    /// `copies`, if there is such a folder, what is mapped from then on; where that can't be written, a notice says so.
    ///
    /// # Errors
    /// If the file can't be read, its configuration can't be used, or tensors are missing or misshapen.
    pub fn open_native(
        path: &Path,
        copies: Option<&Path>,
        device: &Device,
    ) -> Result<Self, EncodecError> {
        let keeping = copies
            .filter(|_| device.is_cpu())
            .map(|folder| (folder, FORM));
        let (codec, unkept) = tensors::open(path, "", keeping, |file| {
            let config = EncodecConfig::from_native(file)?;
            Self::load(file, STATE_PREFIX, config, device)
        })?;
        codec.notices().extend(
            unkept.map(|error| {
                format!("the codec's copy, which opens faster, can't be kept: {error}")
            }),
        );
        Ok(codec)
    }

    /// Loads the tensors under `prefix` (with its dot, or empty) in Hugging Face's or AudioCraft's names, weight
    /// norm in either spelling. If the device refuses the networks, the processor takes over with a notice.
    ///
    /// # Errors
    /// [`EncodecError::NoEncodec`], or [`EncodecError::Tensors`] with everything that is missing or misshapen.
    pub fn load(
        weights: &dyn Tensors,
        prefix: &str,
        config: EncodecConfig,
        device: &Device,
    ) -> Result<Self, EncodecError> {
        Self::load_on(
            weights,
            prefix,
            config,
            (!device.is_cpu()).then_some(device),
        )
    }

    /// As [`Encodec::load`], but on candle's operators even on the processor: slower, for comparing the engines.
    ///
    /// # Errors
    /// As [`Encodec::load`].
    pub fn load_with_candle(
        weights: &dyn Tensors,
        prefix: &str,
        config: EncodecConfig,
        device: &Device,
    ) -> Result<Self, EncodecError> {
        Self::load_on(weights, prefix, config, Some(device))
    }

    fn load_on(
        weights: &dyn Tensors,
        prefix: &str,
        config: EncodecConfig,
        device: Option<&Device>,
    ) -> Result<Self, EncodecError> {
        let raw = Raw::load(weights, prefix, &config)?;
        let mut notices = Vec::new();
        let device = device.and_then(|device| {
            DeviceNet::new(&raw, &config, device)
                .map_err(|e| notices.push(notice(device, &e)))
                .ok()
        });
        let quantizer = Quantizer::new(raw.codebooks, config.dimension);
        Ok(Self {
            encoder: Encoder::new(raw.encoder, &config, weights),
            decoder: Decoder::new(raw.decoder, &config, weights),
            quantizer,
            config,
            device: Mutex::new(device),
            notices: Mutex::new(notices),
        })
    }

    pub fn config(&self) -> &EncodecConfig {
        &self.config
    }

    /// Latent frames a second.
    pub fn frame_rate(&self) -> f64 {
        self.config.frame_rate()
    }

    /// Hz.
    pub fn sample_rate(&self) -> u32 {
        self.config.sample_rate
    }

    pub fn channels(&self) -> usize {
        self.config.channels
    }

    /// Audio samples of one latent frame.
    pub fn hop(&self) -> usize {
        self.config.hop()
    }

    /// What the user should know: where a device failed and the processor took over. Empties the list.
    pub fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut *self.notices())
    }

    fn notices(&self) -> MutexGuard<'_, Vec<String>> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Audio `[batch, channels, samples]` (±1) to latents `[batch, dimension, frames]` before quantisation, frames =
    /// samples / hop, rounded up.
    ///
    /// # Errors
    /// [`EncodecError::Shape`] for another shape or no samples.
    pub fn encode_latents(&self, audio: &Tensor) -> Result<Tensor, EncodecError> {
        self.expect_audio(audio)?;
        if let Some(latents) = self.on_device(|net| net.encode(&audio.to_device(&net.device)?)) {
            return Ok(latents.to_device(audio.device())?);
        }
        let signals = rows(audio)?;
        let signals = slices(&signals);
        let latents = self.encoder.run(&signals, &mut |_, _| ());
        tensor(&latents, self.config.dimension, audio.device())
    }

    /// Latents `[batch, dimension, frames]` to codes `[batch, codebooks, frames]` (u32).
    ///
    /// # Errors
    /// [`EncodecError::Shape`] for another shape or no frames.
    pub fn quantize(&self, latents: &Tensor) -> Result<Tensor, EncodecError> {
        self.expect_latents(latents)?;
        let (batch, _, frames) = latents.dims3()?;
        let books = self.quantizer.books();
        let codes: Vec<u32> = rows(latents)?
            .iter()
            .flat_map(|x| self.quantizer.encode(x))
            .collect();
        let codes = Tensor::from_vec(codes, (batch, frames, books), &Device::Cpu)?;
        turned(&codes, latents.device())
    }

    /// The latents `[batch, dimension, frames]` that codes `[batch, codebooks, frames]` (any integer type) stand
    /// for. Fewer codebooks than the model has give a coarser sum.
    ///
    /// # Errors
    /// [`EncodecError::Shape`] for another shape, [`EncodecError::Code`] for a code outside its codebook.
    pub fn dequantize(&self, codes: &Tensor) -> Result<Tensor, EncodecError> {
        let books = self.quantizer.books();
        let shape = || EncodecError::Shape {
            what: "the codes",
            actual: codes.dims().to_vec(),
            expected: format!("[batch, 1 to {books} codebooks, frames]"),
        };
        let (batch, given, frames) = codes.dims3().map_err(|_| shape())?;
        if batch == 0 || given == 0 || given > books || frames == 0 {
            return Err(shape());
        }
        let size = self.quantizer.size();
        let values: Vec<i64> = codes
            .to_dtype(DType::I64)?
            .transpose(1, 2)?
            .contiguous()?
            .flatten_all()?
            .to_vec1()?;
        let dimension = self.config.dimension;
        let mut out = vec![0.0f32; batch * frames * dimension];
        for (row, codes) in out
            .chunks_exact_mut(dimension)
            .zip(values.chunks_exact(given))
        {
            for (q, &code) in codes.iter().enumerate() {
                if code < 0 || code >= size as i64 {
                    let code = u32::try_from(code.max(0)).unwrap_or(u32::MAX);
                    return Err(EncodecError::Code { code, size });
                }
                let entry = self.quantizer.entry(q, code as usize);
                row.iter_mut().zip(entry).for_each(|(o, e)| *o += e);
            }
        }
        let latents = Tensor::from_vec(out, (batch, frames, dimension), &Device::Cpu)?;
        turned(&latents, codes.device())
    }

    /// Codes `[batch, codebooks, frames]` to audio `[batch, channels, frames · hop]`.
    ///
    /// # Errors
    /// As [`Encodec::dequantize`].
    pub fn decode_codes(&self, codes: &Tensor) -> Result<Tensor, EncodecError> {
        self.decode_latents(&self.dequantize(codes)?)
    }

    /// Latents `[batch, dimension, frames]` to audio `[batch, channels, frames · hop]`, not clipped.
    ///
    /// # Errors
    /// [`EncodecError::Shape`] for another shape or no frames.
    pub fn decode_latents(&self, latents: &Tensor) -> Result<Tensor, EncodecError> {
        self.expect_latents(latents)?;
        if let Some(audio) = self.on_device(|net| net.decode(&latents.to_device(&net.device)?)) {
            return Ok(audio.to_device(latents.device())?);
        }
        let signals = rows(latents)?;
        let signals = slices(&signals);
        let audio = self.decoder.run(&signals, &mut |_, _| ());
        tensor(&audio, self.config.channels, latents.device())
    }

    /// What the encoder's layers give on the processor, `[batch, channels, time]` by the reference's index of the
    /// layer, for comparing. Layers that exist in tiles only are left out.
    ///
    /// # Errors
    /// As [`Encodec::encode_latents`].
    pub fn encoder_activations(
        &self,
        audio: &Tensor,
    ) -> Result<Vec<(usize, Tensor)>, EncodecError> {
        self.expect_audio(audio)?;
        let signals = rows(audio)?;
        let signals = slices(&signals);
        let n = self.config.ratios.len();
        let widest = self.config.filters << n;
        let channels = |layer| match layer {
            l if l > 3 * n + 2 => self.config.dimension,
            l if l > 3 * n => widest,
            l => self.config.filters << (l / 3),
        };
        let mut seen = Seen::new(&channels, audio.device());
        self.encoder
            .run(&signals, &mut |layer, x| seen.layer(layer, x));
        seen.finish()
    }

    /// As [`Encodec::encoder_activations`], of the decoder.
    ///
    /// # Errors
    /// As [`Encodec::decode_latents`].
    pub fn decoder_activations(
        &self,
        latents: &Tensor,
    ) -> Result<Vec<(usize, Tensor)>, EncodecError> {
        self.expect_latents(latents)?;
        let signals = rows(latents)?;
        let signals = slices(&signals);
        let n = self.config.ratios.len();
        let widest = self.config.filters << n;
        let channels = |layer| match layer {
            0 | 1 => widest,
            l if l > 3 * n => self.config.channels,
            l => widest >> ((l - 1) / 3),
        };
        let mut seen = Seen::new(&channels, latents.device());
        self.decoder
            .run(&signals, &mut |layer, x| seen.layer(layer, x));
        seen.finish()
    }

    /// Runs on the device if there is one; where that fails, drops it for good with a notice.
    fn on_device(
        &self,
        run: impl FnOnce(&DeviceNet) -> candle_core::Result<Tensor>,
    ) -> Option<Tensor> {
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        let net = device.as_ref()?;
        match run(net) {
            Ok(tensor) => Some(tensor),
            Err(e) => {
                let text = notice(&net.device, &e);
                self.notices
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(text);
                *device = None;
                None
            }
        }
    }

    fn expect_audio(&self, x: &Tensor) -> Result<(), EncodecError> {
        self.expect("the audio", x, self.config.channels, "channels, samples")
    }

    fn expect_latents(&self, x: &Tensor) -> Result<(), EncodecError> {
        self.expect("the latents", x, self.config.dimension, "dimension, frames")
    }

    fn expect(
        &self,
        what: &'static str,
        x: &Tensor,
        channels: usize,
        names: &str,
    ) -> Result<(), EncodecError> {
        match x.dims() {
            [batch, c, len] if *batch > 0 && *c == channels && *len > 0 => Ok(()),
            dims => Err(EncodecError::Shape {
                what,
                actual: dims.to_vec(),
                expected: format!("[batch, {names}] with {channels} in the middle and none 0"),
            }),
        }
    }
}

/// Layers' results as tensors.
struct Seen<'a> {
    /// Channels of a layer.
    channels: &'a dyn Fn(usize) -> usize,
    device: &'a Device,
    layers: Vec<(usize, Result<Tensor, EncodecError>)>,
}

impl<'a> Seen<'a> {
    fn new(channels: &'a dyn Fn(usize) -> usize, device: &'a Device) -> Self {
        Self {
            channels,
            device,
            layers: Vec::new(),
        }
    }

    fn layer(&mut self, layer: usize, x: &[Vec<f32>]) {
        let values = tensor(x, (self.channels)(layer), self.device);
        self.layers.push((layer, values));
    }

    fn finish(self) -> Result<Vec<(usize, Tensor)>, EncodecError> {
        self.layers.into_iter().map(|(l, x)| Ok((l, x?))).collect()
    }
}

/// `[batch, time, channels]` as `[batch, channels, time]` on a device.
fn turned(x: &Tensor, device: &Device) -> Result<Tensor, EncodecError> {
    Ok(x.transpose(1, 2)?.contiguous()?.to_device(device)?)
}

fn slices(signals: &[Vec<f32>]) -> Vec<&[f32]> {
    signals.iter().map(Vec::as_slice).collect()
}

/// `[batch, channels, time]` as a buffer `[time][channels]` each.
pub(crate) fn rows(x: &Tensor) -> Result<Vec<Vec<f32>>, EncodecError> {
    let x = x
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F32)?
        .transpose(1, 2)?
        .contiguous()?;
    (0..x.dim(0)?)
        .map(|b| Ok(x.get(b)?.flatten_all()?.to_vec1()?))
        .collect()
}

/// Buffers `[time][channels]` as `[batch, channels, time]`.
pub(crate) fn tensor(
    signals: &[Vec<f32>],
    channels: usize,
    device: &Device,
) -> Result<Tensor, EncodecError> {
    let signals: Vec<Tensor> = signals
        .iter()
        .map(|x| {
            Tensor::from_slice(x, (x.len() / channels.max(1), channels), &Device::Cpu)?
                .t()?
                .contiguous()
        })
        .collect::<candle_core::Result<_>>()?;
    Ok(Tensor::stack(&signals, 0)?.to_device(device)?)
}
