// [worker] The network with candle's operators, for graphics processors. Same results as `net`, to rounding.
//
// Spectral planes are `[bins, channels, frames]` here, since residual branches run along time in every bin by
// itself; convolutions along bins turn them. The Fourier transform stays on the processor.

use candle_core::{Device, Result, Tensor};
use candle_nn::ops::{layer_norm, sigmoid, softmax_last_dim};

use super::{
    ModelError,
    dconv::EPSILON,
    hyper::{Hyper, KERNEL, Kind, STRIDE},
    net::{self, Probe},
    spectrum::Spectrum,
    transformer::{is_cross, line_row, plane_table},
    weights::Scope,
    work::{Context, PAD},
};
use crate::{
    dense::device::{Transposed, standardised},
    models::tensors::Tensors,
};

/// A network on a device.
pub struct DeviceNet {
    hyper: Hyper,
    device: Device,
    spectrum: Spectrum,
    /// Per level: the spectral branch's and the time branch's.
    encoders: Vec<[Encoder; 2]>,
    decoders: Vec<[Decoder; 2]>,
    /// What is added to every bin after the first encoder, `[bins, channels, 1]`.
    bins: Tensor,
    widen: Option<[Conv; 2]>,
    narrow: Option<[Conv; 2]>,
    norm_in: Option<[Norm; 2]>,
    layers: Vec<[Layer; 2]>,
}

/// A convolution along the last axis of `[batch, channels, positions]`.
struct Conv {
    weight: Tensor,
    /// `[1, outputs, 1]`.
    bias: Tensor,
    padding: usize,
    stride: usize,
    dilation: usize,
}

/// Weight and bias of a norm.
struct Norm {
    weight: Tensor,
    bias: Tensor,
}

struct Branch {
    inner: Conv,
    inner_norm: Norm,
    outer: Conv,
    outer_norm: Norm,
    /// `[1, channels, 1]`.
    scale: Tensor,
}

struct Encoder {
    conv: Conv,
    branches: Vec<Branch>,
    rewrite: Conv,
}

struct Decoder {
    /// `[2·channels, channels, 3, 3]`, or without the third axis in the time branch.
    rewrite: Tensor,
    /// `[1, 2·channels, 1]`.
    rewrite_bias: Tensor,
    branches: Vec<Branch>,
    transposed: Transposed,
}

struct Layer {
    /// Queries, keys and values: `[width, width]` turned, and `[width]`.
    projections: [(Tensor, Tensor); 3],
    out: (Tensor, Tensor),
    norm_queries: Norm,
    /// Of the other branch's tokens; none where a branch attends to itself.
    norm_keys: Option<Norm>,
    norm_feed: Norm,
    widen: (Tensor, Tensor),
    narrow: (Tensor, Tensor),
    gamma_attention: Tensor,
    gamma_feed: Tensor,
    norm_out: Norm,
}

/// Reads tensors onto a device.
struct Loader<'a> {
    scope: Scope<'a>,
    device: &'a Device,
}

impl Loader<'_> {
    fn at(&self, name: &str) -> Self {
        Self {
            scope: self.scope.at(name),
            device: self.device,
        }
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> std::result::Result<Tensor, ModelError> {
        let values = self.scope.get(name, shape)?;
        Ok(Tensor::from_vec(values, shape, self.device)?)
    }

    /// The vector `name` as `[1, n, 1]`.
    fn channels(&self, name: &str, n: usize) -> std::result::Result<Tensor, ModelError> {
        Ok(self.tensor(name, &[n])?.reshape((1, n, 1))?)
    }

    /// A norm whose channels are the middle axis.
    fn norm(&self, n: usize) -> std::result::Result<Norm, ModelError> {
        Ok(Norm {
            weight: self.channels("weight", n)?,
            bias: self.channels("bias", n)?,
        })
    }

    /// A norm whose channels are the last axis.
    fn norm_last(&self, n: usize) -> std::result::Result<Norm, ModelError> {
        Ok(Norm {
            weight: self.tensor("weight", &[n])?,
            bias: self.tensor("bias", &[n])?,
        })
    }

    /// A convolution of `taps` taps whose file shape has `ones` more axes of length 1.
    fn conv(
        &self,
        inputs: usize,
        outputs: usize,
        taps: usize,
        ones: usize,
    ) -> std::result::Result<Conv, ModelError> {
        let mut shape = vec![outputs, inputs, taps];
        shape.resize(3 + ones, 1);
        let weight = self.tensor("weight", &shape)?;
        Ok(Conv {
            weight: weight.reshape((outputs, inputs, taps))?,
            bias: self.channels("bias", outputs)?,
            padding: 0,
            stride: 1,
            dilation: 1,
        })
    }

    fn linear(
        &self,
        inputs: usize,
        outputs: usize,
    ) -> std::result::Result<(Tensor, Tensor), ModelError> {
        let weight = self.tensor("weight", &[outputs, inputs])?;
        Ok((weight.t()?.contiguous()?, self.tensor("bias", &[outputs])?))
    }

    fn branches(
        &self,
        channels: usize,
        hyper: &Hyper,
    ) -> std::result::Result<Vec<Branch>, ModelError> {
        let hidden = hyper.dconv_channels(channels);
        (0..hyper.dconv_depth)
            .map(|i| {
                let at = self.at(&format!("dconv.layers.{i}"));
                Ok(Branch {
                    inner: Conv {
                        padding: 1 << i,
                        dilation: 1 << i,
                        ..at.at("0").conv(channels, hidden, 3, 0)?
                    },
                    inner_norm: at.at("1").norm(hidden)?,
                    outer: at.at("3").conv(hidden, 2 * channels, 1, 0)?,
                    outer_norm: at.at("4").norm(2 * channels)?,
                    scale: at.at("6").channels("scale", channels)?,
                })
            })
            .collect()
    }

    /// `axes`: trailing axes of length 1 in the file's kernels.
    fn encoder(
        &self,
        inputs: usize,
        channels: usize,
        axes: usize,
        hyper: &Hyper,
    ) -> std::result::Result<Encoder, ModelError> {
        Ok(Encoder {
            conv: Conv {
                padding: PAD,
                stride: STRIDE,
                ..self.at("conv").conv(inputs, channels, KERNEL, axes)?
            },
            branches: self.branches(channels, hyper)?,
            rewrite: self.at("rewrite").conv(channels, 2 * channels, 1, axes)?,
        })
    }

    /// `axes`: 2 for the spectral branch, 1 for the time branch.
    fn decoder(
        &self,
        channels: usize,
        outputs: usize,
        axes: usize,
        hyper: &Hyper,
    ) -> std::result::Result<Decoder, ModelError> {
        let mut shape = vec![2 * channels, channels];
        shape.resize(2 + axes, 3);
        let mut kernel = vec![channels, outputs, KERNEL];
        kernel.resize(2 + axes, 1);
        let transposed = self.at("conv_tr");
        let weight = transposed.scope.get("weight", &kernel)?;
        let bias = transposed.scope.get("bias", &[outputs])?;
        Ok(Decoder {
            rewrite: self.at("rewrite").tensor("weight", &shape)?,
            rewrite_bias: self.at("rewrite").channels("bias", 2 * channels)?,
            branches: self.branches(channels, hyper)?,
            transposed: Transposed::new(&weight, &bias, STRIDE, self.device)?,
        })
    }

    fn layer(&self, cross: bool, hyper: &Hyper) -> std::result::Result<Layer, ModelError> {
        let (width, hidden) = (hyper.transformer_channels(), hyper.hidden_channels());
        let attention = self.at(if cross { "cross_attn" } else { "self_attn" });
        let weight = attention.tensor("in_proj_weight", &[3 * width, width])?;
        let bias = attention.tensor("in_proj_bias", &[3 * width])?;
        let part = |i: usize| -> Result<(Tensor, Tensor)> {
            Ok((
                weight.narrow(0, i * width, width)?.t()?.contiguous()?,
                bias.narrow(0, i * width, width)?.contiguous()?,
            ))
        };
        let norms = if cross {
            ["norm2", "norm3"]
        } else {
            ["norm1", "norm2"]
        };
        Ok(Layer {
            projections: [part(0)?, part(1)?, part(2)?],
            out: attention.at("out_proj").linear(width, width)?,
            norm_queries: self.at("norm1").norm_last(width)?,
            norm_keys: if cross {
                Some(self.at(norms[0]).norm_last(width)?)
            } else {
                None
            },
            norm_feed: self.at(norms[1]).norm_last(width)?,
            widen: self.at("linear1").linear(width, hidden)?,
            narrow: self.at("linear2").linear(hidden, width)?,
            gamma_attention: self.tensor("gamma_1.scale", &[width])?,
            gamma_feed: self.tensor("gamma_2.scale", &[width])?,
            norm_out: self.at("norm_out").norm_last(width)?,
        })
    }
}

impl Conv {
    fn run(&self, x: &Tensor) -> Result<Tensor> {
        x.contiguous()?
            .conv1d(&self.weight, self.padding, self.stride, self.dilation, 1)?
            .broadcast_add(&self.bias)
    }

    /// Along the bins of a plane `[bins, channels, frames]`.
    fn along_bins(&self, x: &Tensor) -> Result<Tensor> {
        turned(&self.run(&turned(x)?)?)
    }
}

impl Norm {
    /// Over everything of each element of `[batch, a, b]`.
    fn over_all(&self, x: &Tensor) -> Result<Tensor> {
        standardised(x, 1, EPSILON)?
            .broadcast_mul(&self.weight)?
            .broadcast_add(&self.bias)
    }

    fn over_last(&self, x: &Tensor) -> Result<Tensor> {
        layer_norm(&x.contiguous()?, &self.weight, &self.bias, EPSILON as f32)
    }
}

impl Encoder {
    fn plane(&self, x: &Tensor) -> Result<Tensor> {
        self.inner(&self.conv.along_bins(x)?)
    }

    fn line(&self, x: &Tensor) -> Result<Tensor> {
        let missing = x.dim(2)?.next_multiple_of(STRIDE) - x.dim(2)?;
        self.inner(&self.conv.run(&x.pad_with_zeros(2, 0, missing)?)?)
    }

    fn inner(&self, x: &Tensor) -> Result<Tensor> {
        let x = branched(&self.branches, x.gelu_erf()?)?;
        gated(&self.rewrite.run(&x)?)
    }
}

impl Decoder {
    /// `[bins, channels, frames]` to `[bins · STRIDE, outputs, frames]`.
    fn plane(&self, x: &Tensor) -> Result<Tensor> {
        let (_, channels, _) = x.dims3()?;
        let y = x
            .transpose(0, 1)?
            .contiguous()?
            .unsqueeze(0)?
            .conv2d(&self.rewrite, 1, 1, 1, 1)?
            .squeeze(0)?
            .transpose(0, 1)?
            .contiguous()?
            .broadcast_add(&self.rewrite_bias)?;
        debug_assert_eq!(y.dim(1)?, 2 * channels);
        let z = branched(&self.branches, gated(&y)?)?;
        turned(&self.transposed.run(&turned(&z)?)?)
    }

    /// `[1, channels, n]` to `[1, outputs, n · STRIDE]`.
    fn line(&self, x: &Tensor) -> Result<Tensor> {
        let y = x
            .contiguous()?
            .conv1d(&self.rewrite, 1, 1, 1, 1)?
            .broadcast_add(&self.rewrite_bias)?;
        self.transposed.run(&branched(&self.branches, gated(&y)?)?)
    }
}

impl Layer {
    /// The layer on `x`, `[tokens, width]`, attending to `memory`.
    fn run(&self, x: &Tensor, memory: &Tensor, heads: usize) -> Result<Tensor> {
        let normal = self.norm_queries.over_last(x)?;
        let heard = match &self.norm_keys {
            Some(norm) => norm.over_last(memory)?,
            None => normal.clone(),
        };
        let width = x.dim(1)?;
        let split = |x: &Tensor, i: usize| -> Result<Tensor> {
            linear(x, &self.projections[i])?
                .reshape((x.dim(0)?, heads, width / heads))?
                .transpose(0, 1)?
                .contiguous()
        };
        let scale = 1.0 / ((width / heads) as f64).sqrt();
        let queries = (split(&normal, 0)? * scale)?;
        let keys = split(&heard, 1)?.transpose(1, 2)?.contiguous()?;
        let said = softmax_last_dim(&queries.matmul(&keys)?)?
            .matmul(&split(&heard, 2)?)?
            .transpose(0, 1)?
            .contiguous()?
            .reshape(x.shape())?;
        let y = linear(&said, &self.out)?.broadcast_mul(&self.gamma_attention)?;
        let x = (x + y)?;
        let h = linear(&self.norm_feed.over_last(&x)?, &self.widen)?.gelu_erf()?;
        let y = linear(&h, &self.narrow)?.broadcast_mul(&self.gamma_feed)?;
        let x = (x + y)?;
        self.norm_out.over_all(&x.unsqueeze(0)?)?.squeeze(0)
    }
}

impl DeviceNet {
    /// # Errors
    /// If a tensor is missing, misshapen or not finite, the device has no room, or the network has no transformer:
    /// its predecessor runs on the processor only.
    pub fn load(
        weights: &dyn Tensors,
        hyper: Hyper,
        device: &Device,
    ) -> std::result::Result<Self, ModelError> {
        if hyper.kind != Kind::Transformer {
            return Err(ModelError::Device(
                "networks without a transformer run on the processor".to_owned(),
            ));
        }
        let root = Loader {
            scope: Scope::root(weights),
            device,
        };
        let (audio, stems) = (hyper.audio_channels, hyper.sources.len());
        let (mut encoders, mut decoders) = (Vec::new(), Vec::new());
        for level in 0..hyper.depth {
            let channels = hyper.encoder_channels(level);
            let below = |first: usize| hyper.outer_channels(level, first);
            let at = |name: &str, i: usize| root.at(&format!("{name}.{i}"));
            encoders.push([
                at("encoder", level).encoder(below(2 * audio), channels, 1, &hyper)?,
                at("tencoder", level).encoder(below(audio), channels, 0, &hyper)?,
            ]);
            let i = hyper.depth - 1 - level;
            decoders.push([
                at("decoder", i).decoder(channels, below(2 * audio * stems), 2, &hyper)?,
                at("tdecoder", i).decoder(channels, below(audio * stems), 1, &hyper)?,
            ]);
        }
        decoders.reverse();
        let rows = hyper.nfft / 2 / STRIDE;
        let mut bins = Tensor::zeros((rows, hyper.channels, 1), candle_core::DType::F32, device)?;
        if hyper.freq_emb != 0.0 {
            let scale = f64::from(hyper.freq_emb * hyper.emb_scale);
            let table = root.tensor("freq_emb.embedding.weight", &[rows, hyper.channels])?;
            bins = (table.unsqueeze(2)? * scale)?;
        }
        let inner = hyper.encoder_channels(hyper.depth - 1);
        let width = hyper.transformer_channels();
        let pair = |name: &str, inputs: usize, outputs: usize| {
            if hyper.bottom_channels == 0 || hyper.t_layers == 0 {
                return Ok(None);
            }
            Ok::<_, ModelError>(Some([
                root.at(name).conv(inputs, outputs, 1, 0)?,
                root.at(&format!("{name}_t")).conv(inputs, outputs, 1, 0)?,
            ]))
        };
        let transformer = root.at("crosstransformer");
        let layers = (0..hyper.t_layers)
            .map(|i| {
                let cross = is_cross(i, hyper.t_cross_first);
                Ok([
                    transformer
                        .at(&format!("layers.{i}"))
                        .layer(cross, &hyper)?,
                    transformer
                        .at(&format!("layers_t.{i}"))
                        .layer(cross, &hyper)?,
                ])
            })
            .collect::<std::result::Result<_, ModelError>>()?;
        Ok(Self {
            spectrum: Spectrum::new(hyper.nfft),
            encoders,
            decoders,
            bins,
            widen: pair("channel_upsampler", inner, width)?,
            narrow: pair("channel_downsampler", width, inner)?,
            norm_in: if hyper.t_norm_in {
                Some([
                    transformer.at("norm_in").norm_last(width)?,
                    transformer.at("norm_in_t").norm_last(width)?,
                ])
            } else {
                None
            },
            layers,
            device: device.clone(),
            hyper,
        })
    }

    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// As [`net::Net::forward`].
    ///
    /// # Errors
    /// If cancelled, `mix` has another number of channels or is too long, or the device fails.
    pub fn forward(
        &self,
        mix: &[Vec<f32>],
        context: &Context<'_>,
        mut probe: Option<Probe<'_>>,
    ) -> std::result::Result<Vec<Vec<Vec<f32>>>, ModelError> {
        let hyper = &self.hyper;
        let (channels, samples) = net::whole_segment(hyper, mix)?;
        let (bins, frames, audio) = (hyper.nfft / 2, hyper.frames(), hyper.audio_channels);
        let width = 2 * audio;
        let mut input = vec![0.0; frames * (bins + 2 * PAD) * width];
        self.spectrum
            .analyse(&channels, frames, &mut input, context)?;
        let spectral = self.spectrum.normalise(width, &mut input);
        let mut line = channels;
        let temporal = net::normalise(&mut line);
        let x = Tensor::from_vec(input, (frames, bins + 2 * PAD, width), &self.device)?
            .narrow(1, PAD, bins)?
            .permute((1, 2, 0))?
            .contiguous()?;
        let xt = Tensor::from_vec(
            line.concat(),
            (1, audio, hyper.segment_samples),
            &self.device,
        )?;
        let (x, xt) = self.run(x, xt, context, &mut probe)?;

        let stems = hyper.sources.len();
        let outs = stems * audio;
        let groups = bins / STRIDE + 1;
        let plane = x
            .pad_with_zeros(0, PAD, STRIDE - PAD)?
            .reshape((groups, STRIDE, 2 * outs, frames))?
            .permute((0, 3, 1, 2))?
            .contiguous()?
            .flatten_all()?
            .to_vec1::<f32>()?;
        let mut out: Vec<Vec<f32>> = xt.squeeze(0)?.to_vec2()?;
        for x in out.iter_mut().flatten() {
            *x = *x * temporal.deviation() as f32 + temporal.mean() as f32;
        }
        self.spectrum.synthesise(
            &plane,
            frames,
            spectral.deviation() as f32,
            spectral.mean() as f32,
            &mut out,
            context,
        )?;
        out.iter_mut().for_each(|c| c.truncate(samples));
        Ok(out.chunks(audio).map(<[_]>::to_vec).collect())
    }

    /// All layers on `[bins, channels, frames]` and `[1, channels, samples]`, both normalised.
    fn run(
        &self,
        mut x: Tensor,
        mut xt: Tensor,
        context: &Context<'_>,
        probe: &mut Option<Probe<'_>>,
    ) -> std::result::Result<(Tensor, Tensor), ModelError> {
        let go_on = || match (context.cancelled)() {
            true => Err(ModelError::Cancelled),
            false => Ok(()),
        };
        let mut skips = Vec::new();
        for (level, [encoder, encoder_t]) in self.encoders.iter().enumerate() {
            go_on()?;
            let before = xt.dim(2)?;
            xt = encoder_t.line(&xt)?;
            x = encoder.plane(&x)?;
            see(probe, &format!("tencoder.{level}"), &xt)?;
            see(probe, &format!("encoder.{level}"), &x)?;
            if level == 0 {
                x = x.broadcast_add(&self.bins)?;
            }
            skips.push((x.clone(), xt.clone(), before));
        }
        (x, xt) = self.cross(&x, &xt, &go_on, probe)?;
        for (i, [decoder, decoder_t]) in self.decoders.iter().enumerate() {
            go_on()?;
            let (skip, skip_t, before) = skips
                .pop()
                .ok_or_else(|| ModelError::Device("a level without its skip".to_owned()))?;
            x = decoder.plane(&(x + skip)?)?;
            xt = decoder_t.line(&(xt + skip_t)?)?.narrow(2, 0, before)?;
            if i + 1 < self.decoders.len() {
                (x, xt) = (x.gelu_erf()?, xt.gelu_erf()?);
            }
            see(probe, &format!("decoder.{i}"), &x)?;
            see(probe, &format!("tdecoder.{i}"), &xt)?;
        }
        Ok((x, xt))
    }

    /// The transformer on the deepest planes.
    fn cross(
        &self,
        x: &Tensor,
        xt: &Tensor,
        go_on: &dyn Fn() -> std::result::Result<(), ModelError>,
        probe: &mut Option<Probe<'_>>,
    ) -> std::result::Result<(Tensor, Tensor), ModelError> {
        let wide = |branch: usize, x: &Tensor| match &self.widen {
            Some(widen) => widen[branch].run(x),
            None => Ok(x.clone()),
        };
        let (x, xt) = (wide(0, x)?, wide(1, xt)?);
        let (bins, width, frames) = x.dims3()?;
        let count = xt.dim(2)?;
        // Attention and the norms over all tokens don't depend on the tokens' order.
        let mut x = x
            .transpose(1, 2)?
            .contiguous()?
            .reshape((bins * frames, width))?;
        let mut xt = xt.squeeze(0)?.t()?.contiguous()?;
        if let Some([norm, norm_t]) = &self.norm_in {
            (x, xt) = (norm.over_last(&x)?, norm_t.over_last(&xt)?);
        }
        let weight = f64::from(self.hyper.t_weight_pos_embed);
        x = (x + (self.plane_positions(bins, frames)? * weight)?)?;
        xt = (xt + (self.line_positions(count)? * weight)?)?;
        let heads = self.hyper.t_heads;
        for (i, [layer, layer_t]) in self.layers.iter().enumerate() {
            go_on()?;
            (x, xt) = if is_cross(i, self.hyper.t_cross_first) {
                (layer.run(&x, &xt, heads)?, layer_t.run(&xt, &x, heads)?)
            } else {
                (layer.run(&x, &x, heads)?, layer_t.run(&xt, &xt, heads)?)
            };
        }
        let x = x.reshape((bins, frames, width))?.transpose(1, 2)?;
        let xt = xt.t()?.unsqueeze(0)?;
        see(probe, "tr.out.x", &x)?;
        see(probe, "tr.out.xt", &xt)?;
        Ok(match &self.narrow {
            Some([narrow, narrow_t]) => (narrow.run(&x)?, narrow_t.run(&xt)?),
            None => (x.contiguous()?, xt.contiguous()?),
        })
    }

    /// `[bins · frames, width]`.
    fn plane_positions(&self, bins: usize, frames: usize) -> Result<Tensor> {
        let width = self.hyper.transformer_channels();
        let half = width / 2;
        let table = |count: usize| plane_table(count, width, self.hyper.t_max_period);
        let (by_frame, by_bin) = (table(frames), table(bins));
        let mut rows = Vec::with_capacity(bins * frames * width);
        for bin in 0..bins {
            for frame in 0..frames {
                rows.extend_from_slice(&by_frame[frame * half..][..half]);
                rows.extend_from_slice(&by_bin[bin * half..][..half]);
            }
        }
        Tensor::from_vec(rows, (bins * frames, width), &self.device)
    }

    /// `[count, width]`.
    fn line_positions(&self, count: usize) -> Result<Tensor> {
        let width = self.hyper.transformer_channels();
        let mut rows = Vec::with_capacity(count * width);
        for at in 0..count {
            let pairs = || line_row(at, width, self.hyper.t_max_period);
            rows.extend(pairs().map(|(cos, _)| cos));
            rows.extend(pairs().map(|(_, sin)| sin));
        }
        Tensor::from_vec(rows, (count, width), &self.device)
    }
}

/// The first and last axis exchanged.
fn turned(x: &Tensor) -> Result<Tensor> {
    x.permute((2, 1, 0))?.contiguous()
}

/// The first half of the channels, gated by the second.
fn gated(x: &Tensor) -> Result<Tensor> {
    let half = x.dim(1)? / 2;
    x.narrow(1, 0, half)? * sigmoid(&x.narrow(1, half, half)?.contiguous()?)?
}

/// Adds the residual branches.
fn branched(branches: &[Branch], mut x: Tensor) -> Result<Tensor> {
    for branch in branches {
        let h = branch.inner_norm.over_all(&branch.inner.run(&x)?)?;
        let y = branch
            .outer_norm
            .over_all(&branch.outer.run(&h.gelu_erf()?)?)?;
        x = (x + gated(&y)?.broadcast_mul(&branch.scale)?)?;
    }
    Ok(x)
}

fn linear(x: &Tensor, (weight, bias): &(Tensor, Tensor)) -> Result<Tensor> {
    x.matmul(weight)?.broadcast_add(bias)
}

/// Shows a plane or a line in the reference's order, `[channels, bins, frames]` or `[channels, samples]`.
fn see(probe: &mut Option<Probe<'_>>, name: &str, x: &Tensor) -> Result<()> {
    if let Some(probe) = probe {
        let x = x.transpose(0, 1)?;
        let shape: Vec<usize> = x.dims().iter().copied().filter(|n| *n != 1).collect();
        probe(name, &shape, x.contiguous()?.flatten_all()?.to_vec1()?);
    }
    Ok(())
}
