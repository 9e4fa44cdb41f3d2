// [worker] The flow transformer with candle's operators, for graphics processors. Same results as
// `cpu`, to rounding; what that one gains by its own kernels is left to the device's.

use candle_core::{D, DType, Device, Tensor};
use candle_nn::ops::{layer_norm, silu, softmax_last_dim};

use super::{Rows, Session, Trace, embed};
use crate::{
    models::tensors::Tensors,
    regeneration::jasco::{JascoError, config::FlowConfig, weights},
};

/// Weights on a device.
pub struct DeviceFlow {
    config: FlowConfig,
    device: Device,
    /// Of the transformer's matrices; norms, softmax and the state stay in f32.
    dtype: DType,
    emb_latents: Tensor,
    emb_local: Tensor,
    layers: Vec<Layer>,
    skips: Vec<(Tensor, Tensor)>,
    out_norm: Norm,
    linear: Tensor,
    linear_bias: Option<Tensor>,
    time: [(Tensor, Tensor); 3],
}

struct Norm {
    weight: Tensor,
    bias: Tensor,
}

struct Layer {
    norm1: Norm,
    norm_cross: Norm,
    norm2: Norm,
    self_in: Tensor,
    self_out: Tensor,
    cross_q: Tensor,
    cross_k: Tensor,
    cross_v: Tensor,
    cross_out: Tensor,
    linear1: Tensor,
    linear2: Tensor,
}

impl DeviceFlow {
    /// Reads the weights, whose presence and shapes were checked.
    ///
    /// # Errors
    /// If a tensor can't be read, or the device has no room for it.
    pub fn load(
        source: &dyn Tensors,
        config: &FlowConfig,
        device: &Device,
        dtype: DType,
    ) -> Result<Self, JascoError> {
        let d = config.dim;
        let read = |name: &str, shape: &[usize], dtype: DType| -> Result<Tensor, JascoError> {
            let values = weights::read(source, name, shape)?;
            Ok(Tensor::from_vec(values, shape, device)?.to_dtype(dtype)?)
        };
        let norm = |name: String| -> Result<Norm, JascoError> {
            Ok(Norm {
                weight: read(&format!("{name}.weight"), &[d], DType::F32)?,
                bias: read(&format!("{name}.bias"), &[d], DType::F32)?,
            })
        };
        let emb = read("emb.weight", &[d, config.input_dim()], DType::F32)?;
        let mut layers = Vec::with_capacity(config.layers);
        for i in 0..config.layers {
            let p = format!("transformer.layers.{i}.");
            let matrix = |name: &str, out: usize, input: usize| {
                read(&format!("{p}{name}"), &[out, input], dtype)
            };
            let cross = matrix("cross_attention.in_proj_weight", 3 * d, d)?;
            layers.push(Layer {
                norm1: norm(format!("{p}norm1"))?,
                norm_cross: norm(format!("{p}norm_cross"))?,
                norm2: norm(format!("{p}norm2"))?,
                self_in: matrix("self_attn.in_proj_weight", 3 * d, d)?,
                self_out: matrix("self_attn.out_proj.weight", d, d)?,
                cross_q: cross.narrow(0, 0, d)?.contiguous()?,
                cross_k: cross.narrow(0, d, d)?.contiguous()?,
                cross_v: cross.narrow(0, 2 * d, d)?.contiguous()?,
                cross_out: matrix("cross_attention.out_proj.weight", d, d)?,
                linear1: matrix("linear1.weight", config.hidden, d)?,
                linear2: matrix("linear2.weight", d, config.hidden)?,
            });
        }
        let skips = (0..if config.skips { config.layers / 2 } else { 0 })
            .map(|j| {
                let p = format!("transformer.skip_projections.{j}.");
                let weight = read(&format!("{p}weight"), &[d, 2 * d], dtype)?;
                Ok((weight, read(&format!("{p}bias"), &[d], DType::F32)?))
            })
            .collect::<Result<_, JascoError>>()?;
        let affine = |name: &str, out: usize, input: usize| -> Result<_, JascoError> {
            let weight = read(&format!("{name}.weight"), &[out, input], DType::F32)?;
            Ok((weight, read(&format!("{name}.bias"), &[out], DType::F32)?))
        };
        let hidden = config.time_hidden;
        Ok(Self {
            config: config.clone(),
            device: device.clone(),
            dtype,
            emb_latents: emb.narrow(1, 0, config.flow_dim)?.contiguous()?,
            emb_local: emb
                .narrow(1, config.flow_dim, config.local_dim())?
                .contiguous()?,
            layers,
            skips,
            out_norm: norm("out_norm".into())?,
            linear: read("linear.weight", &[config.flow_dim, d], DType::F32)?,
            linear_bias: if config.output_bias {
                Some(read("linear.bias", &[config.flow_dim], DType::F32)?)
            } else {
                None
            },
            time: [
                affine("temb.dense.0", hidden, config.time_dim)?,
                affine("temb.dense.1", hidden, hidden)?,
                affine("temb_proj", d, hidden)?,
            ],
        })
    }

    /// Puts one generation's conditions on the device and computes what doesn't change over its steps.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn session(&self, rows: &Rows) -> Result<DeviceSession<'_>, JascoError> {
        let c = &self.config;
        let (n, frames) = (rows.rows.len(), rows.frames);
        let local: Vec<f32> = rows.rows.iter().flat_map(|r| r.local.clone()).collect();
        let local = Tensor::from_vec(local, (n, frames, c.local_dim()), &self.device)?;
        let place = Tensor::from_vec(embed::place(frames, c.dim), (frames, c.dim), &self.device)?;
        let positions = rows.text.len() / c.dim;
        let heard = if positions == 0 { 0 } else { rows.heard() };
        let mut text = Vec::new();
        if heard > 0 {
            let e = Tensor::from_slice(&rows.text, (positions, c.dim), &self.device)?;
            let e = e.to_dtype(self.dtype)?;
            // The time vector is added to every position: it shifts all scores of a query alike, which
            // the softmax doesn't hear, and all values alike, which `constant` adds. So neither keys nor
            // values change over the steps.
            for layer in &self.layers {
                let heads = |w: &Tensor| -> candle_core::Result<Tensor> {
                    linear(&e, w)?
                        .reshape((1, positions, c.heads, c.head_dim()))?
                        .transpose(1, 2)?
                        .repeat((heard, 1, 1, 1))?
                        .contiguous()
                };
                text.push((heads(&layer.cross_k)?, heads(&layer.cross_v)?));
            }
        }
        Ok(DeviceSession {
            local: linear(&local, &self.emb_local)?,
            place,
            text,
            heard,
            flow: self,
        })
    }
}

/// One generation's conditions on the device.
pub struct DeviceSession<'a> {
    flow: &'a DeviceFlow,
    /// `[rows, frames, dim]`.
    local: Tensor,
    /// `[frames, dim]`.
    place: Tensor,
    /// A layer's keys and values of the text, `[heard, heads, positions, head_dim]`.
    text: Vec<(Tensor, Tensor)>,
    heard: usize,
}

impl Session for DeviceSession<'_> {
    fn terms(
        &mut self,
        t: f32,
        z: &[f32],
        out: &mut [Vec<f32>],
        mut trace: Option<Trace<'_>>,
    ) -> Result<(), JascoError> {
        let (flow, c) = (self.flow, &self.flow.config);
        let (frames, flow_dim) = (self.place.dim(0)?, c.flow_dim);
        let mut see = |name: &str, x: &Tensor| -> Result<(), JascoError> {
            if let Some(trace) = &mut trace {
                trace(
                    name,
                    &x.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?,
                );
            }
            Ok(())
        };
        let z = Tensor::from_slice(z, (frames, flow_dim), &flow.device)?;
        let u = Tensor::from_vec(embed::time(t, c.time_dim), (1, c.time_dim), &flow.device)?;
        let [dense0, dense1, project] = &flow.time;
        let tau = affine(&silu(&affine(&u, dense0)?)?, dense1)?;
        see("temb", &tau)?;
        let tau = affine(&tau, project)?;
        see("temb_proj", &tau)?;
        let tau = tau.to_dtype(flow.dtype)?;

        let mut h = linear(&z, &flow.emb_latents)?.broadcast_add(&self.local)?;
        see("emb_out", &h)?;
        h = h.broadcast_add(&self.place)?;
        see("layer0_in", &h)?;
        let half = c.layers / 2;
        let mut pushed = Vec::new();
        for (i, layer) in flow.layers.iter().enumerate() {
            if c.skips && i >= half {
                let skip: Tensor = pushed
                    .pop()
                    .ok_or(JascoError::Internal("skip without push"))?;
                let (weight, bias) = &flow.skips[i - half];
                let joined = Tensor::cat(&[&h, &skip], D::Minus1)?.to_dtype(flow.dtype)?;
                h = linear(&joined, weight)?
                    .to_dtype(DType::F32)?
                    .broadcast_add(bias)?;
            }
            let x = self.self_attention(layer, &layer.norm1.of(&h)?)?;
            if i == 0 {
                see("layer0_self_attn", &x)?;
            }
            h = (h + x)?;
            let x = self.cross_attention(i, &h, &tau)?;
            if i == 0 {
                see("layer0_cross_attn", &x)?;
            }
            h = (h + x)?;
            let x = layer.norm2.of(&h)?.to_dtype(flow.dtype)?;
            let x = linear(&x, &layer.linear1)?.gelu_erf()?;
            h = (h + linear(&x, &layer.linear2)?.to_dtype(DType::F32)?)?;
            see(&format!("layer{i}_out"), &h)?;
            if c.skips && i < half {
                pushed.push(h.clone());
            }
        }
        let x = flow.out_norm.of(&h)?;
        see("out_norm", &x)?;
        let mut v = linear(&x, &flow.linear)?;
        if let Some(bias) = &flow.linear_bias {
            v = v.broadcast_add(bias)?;
        }
        see("v_terms", &v)?;
        for (row, out) in out.iter_mut().enumerate() {
            *out = v.get(row)?.flatten_all()?.to_vec1::<f32>()?;
        }
        Ok(())
    }
}

impl DeviceSession<'_> {
    fn self_attention(&self, layer: &Layer, x: &Tensor) -> Result<Tensor, JascoError> {
        let c = &self.flow.config;
        let (rows, frames, _) = x.dims3()?;
        let qkv = linear(&x.to_dtype(self.flow.dtype)?, &layer.self_in)?.reshape((
            rows,
            frames,
            3,
            c.heads,
            c.head_dim(),
        ))?;
        let part = |i: usize| -> candle_core::Result<Tensor> {
            qkv.narrow(2, i, 1)?
                .squeeze(2)?
                .transpose(1, 2)?
                .contiguous()
        };
        let x = attention(&part(0)?, &part(1)?, &part(2)?)?;
        Ok(linear(&x, &layer.self_out)?.to_dtype(DType::F32)?)
    }

    /// The change of every row, heard ones first.
    fn cross_attention(&self, i: usize, h: &Tensor, tau: &Tensor) -> Result<Tensor, JascoError> {
        let (flow, c) = (self.flow, &self.flow.config);
        let layer = &flow.layers[i];
        let (rows, frames, dim) = h.dims3()?;
        let constant = linear(&linear(tau, &layer.cross_v)?, &layer.cross_out)?
            .to_dtype(DType::F32)?
            .reshape((1, 1, dim))?;
        let silent = rows - self.heard;
        let mut parts = Vec::new();
        if self.heard > 0 {
            let x = layer
                .norm_cross
                .of(&h.narrow(0, 0, self.heard)?.contiguous()?)?;
            let q = linear(&x.to_dtype(flow.dtype)?, &layer.cross_q)?
                .reshape((self.heard, frames, c.heads, c.head_dim()))?
                .transpose(1, 2)?
                .contiguous()?;
            let (k, v) = &self.text[i];
            let x = linear(&attention(&q, k, v)?, &layer.cross_out)?.to_dtype(DType::F32)?;
            parts.push(x.broadcast_add(&constant)?);
        }
        if silent > 0 {
            parts.push(constant.broadcast_as((silent, frames, dim))?.contiguous()?);
        }
        Ok(Tensor::cat(&parts, 0)?)
    }
}

impl Norm {
    fn of(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        layer_norm(&x.contiguous()?, &self.weight, &self.bias, 1e-5)
    }
}

/// `x · wᵀ` over the last dimension.
fn linear(x: &Tensor, w: &Tensor) -> candle_core::Result<Tensor> {
    let (out, input) = w.dims2()?;
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = out;
    }
    let rows = x.elem_count() / input;
    x.reshape((rows, input))?.matmul(&w.t()?)?.reshape(shape)
}

fn affine(x: &Tensor, (w, b): &(Tensor, Tensor)) -> candle_core::Result<Tensor> {
    linear(x, w)?.broadcast_add(b)
}

/// `[rows, heads, n, head_dim]` each, queries and keys of their own lengths; gives `[rows, n, dim]`.
fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> candle_core::Result<Tensor> {
    let (rows, heads, n, head_dim) = q.dims4()?;
    let scale = 1.0 / (head_dim as f64).sqrt();
    let scores = (q.matmul(&k.t()?)? * scale)?.to_dtype(DType::F32)?;
    let weights = softmax_last_dim(&scores)?.to_dtype(v.dtype())?;
    weights
        .matmul(v)?
        .transpose(1, 2)?
        .reshape((rows, n, heads * head_dim))
}
