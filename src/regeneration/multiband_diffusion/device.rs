// [worker] One band's network with candle's operators, for graphics processors.

use candle_core::{Device, Result, Tensor};

use super::{
    config::UnetConfig,
    raw::{RawBlock, RawNorm, RawUnet},
    unet::{EPSILON, nearest},
};
use crate::{
    dense::device::{Transposed, standardised},
    regeneration::encodec::RawConv,
};

struct Norm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
}

impl Norm {
    fn new(raw: &RawNorm, groups: usize, device: &Device) -> Result<Self> {
        let n = raw.weight.len();
        Ok(Self {
            weight: Tensor::from_slice(&raw.weight, (1, n, 1), device)?,
            bias: Tensor::from_slice(&raw.bias, (1, n, 1), device)?,
            groups,
        })
    }

    /// `relu(norm(x))` of `[1, channels, time]`.
    fn relu(&self, x: &Tensor) -> Result<Tensor> {
        standardised(x, self.groups, EPSILON)?
            .broadcast_mul(&self.weight)?
            .broadcast_add(&self.bias)?
            .relu()
    }
}

struct Conv {
    weight: Tensor,
    bias: Tensor,
    distance: usize,
}

impl Conv {
    fn new(raw: &RawConv, distance: usize, device: &Device) -> Result<Self> {
        let shape = (raw.outputs, raw.inputs, raw.kernel);
        Ok(Self {
            weight: Tensor::from_slice(&raw.weight, shape, device)?,
            bias: Tensor::from_slice(&raw.bias, (1, raw.outputs, 1), device)?,
            distance,
        })
    }

    fn run(&self, x: &Tensor) -> Result<Tensor> {
        let padding = self.distance * (self.weight.dim(2)? / 2);
        x.conv1d(&self.weight, padding, 1, self.distance, 1)?
            .broadcast_add(&self.bias)
    }
}

struct Block {
    norm1: Norm,
    conv1: Conv,
    norm2: Norm,
    conv2: Conv,
}

impl Block {
    fn run(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.conv1.run(&self.norm1.relu(x)?)?;
        x + self.conv2.run(&self.norm2.relu(&y)?)?
    }
}

struct Down {
    weight: Tensor,
    norm: Norm,
    blocks: Vec<Block>,
    /// `[steps, channels]`.
    embedding: Option<Tensor>,
}

struct Up {
    blocks: Vec<Block>,
    norm: Norm,
    resample: Transposed,
}

/// A band's network on a device.
pub(super) struct DeviceUnet {
    encoders: Vec<Down>,
    decoders: Vec<Up>,
    condition: Conv,
    stride: usize,
    device: Device,
}

impl DeviceUnet {
    pub fn new(raw: &RawUnet, config: &UnetConfig, device: &Device) -> Result<Self> {
        let groups = config.norm_groups;
        let blocks = |raw: &[RawBlock]| -> Result<Vec<Block>> {
            raw.iter()
                .enumerate()
                .map(|(j, b)| {
                    Ok(Block {
                        norm1: Norm::new(&b.norm1, groups, device)?,
                        conv1: Conv::new(&b.conv1, 1 << j, device)?,
                        norm2: Norm::new(&b.norm2, groups, device)?,
                        conv2: Conv::new(&b.conv2, 1 << j, device)?,
                    })
                })
                .collect()
        };
        let encoders = raw
            .encoders
            .iter()
            .map(|level| {
                let conv = &level.resample;
                let shape = (conv.outputs, conv.inputs, conv.kernel);
                let table = |t: &Vec<f32>| {
                    Tensor::from_slice(t, (t.len() / conv.outputs, conv.outputs), device)
                };
                Ok(Down {
                    weight: Tensor::from_slice(&conv.weight, shape, device)?,
                    norm: Norm::new(&level.norm, groups, device)?,
                    blocks: blocks(&level.blocks)?,
                    embedding: level.embedding.as_ref().map(table).transpose()?,
                })
            })
            .collect::<Result<_>>()?;
        let decoders = raw
            .decoders
            .iter()
            .map(|level| {
                let conv = &level.resample;
                let no_bias = vec![0.0; conv.outputs];
                Ok(Up {
                    blocks: blocks(&level.blocks)?,
                    norm: Norm::new(&level.norm, groups, device)?,
                    resample: Transposed::new(&conv.weight, &no_bias, conv.stride, device)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            encoders,
            decoders,
            condition: Conv::new(&raw.condition, 1, device)?,
            stride: config.stride,
            device: device.clone(),
        })
    }

    /// As the processor's network: `x` is `[samples]`, the condition `[frames][dimension]`.
    pub fn run(
        &self,
        x: &[f32],
        step: usize,
        condition: &[f32],
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<f32>>> {
        let len = x.len();
        let mut z = Tensor::from_slice(x, (1, 1, len), &self.device)?;
        let mut skips = Vec::new();
        let s = self.stride;
        for level in &self.encoders {
            let len = z.dim(2)?;
            let padded = z
                .pad_with_zeros(2, 0, len.next_multiple_of(s) - len)?
                .contiguous()?;
            z = level
                .norm
                .relu(&padded.conv1d(&level.weight, s / 2, s, 1, 1)?)?;
            for block in &level.blocks {
                if stop() {
                    return Ok(None);
                }
                z = block.run(&z)?;
            }
            if let Some(table) = &level.embedding {
                z = z.broadcast_add(&table.get(step)?.unsqueeze(0)?.unsqueeze(2)?)?;
            }
            skips.push(z.clone());
        }
        let dimension = self.condition.weight.dim(1)?;
        let frames = condition.len() / dimension;
        let codes = Tensor::from_slice(condition, (1, frames, dimension), &self.device)?
            .transpose(1, 2)?
            .contiguous()?;
        let codes = self.condition.run(&codes)?;
        let rows = z.dim(2)?;
        let index: Vec<u32> = (0..rows).map(|t| nearest(t, frames, rows) as u32).collect();
        let index = Tensor::from_vec(index, rows, &self.device)?;
        if let Some(deepest) = skips.last_mut() {
            *deepest = (&*deepest + codes.index_select(&index, 2)?)?;
        }
        let mut z: Option<Tensor> = None;
        for level in &self.decoders {
            let Some(skip) = skips.pop() else { break };
            let mut sum = match z {
                Some(z) => (z.narrow(2, 0, skip.dim(2)?)? + skip)?,
                None => skip,
            };
            for block in &level.blocks {
                if stop() {
                    return Ok(None);
                }
                sum = block.run(&sum)?;
            }
            let y = level.norm.relu(&sum)?;
            z = Some(level.resample.run(&y)?.contiguous()?);
        }
        let Some(z) = z else {
            return Ok(Some(vec![0.0; len]));
        };
        Ok(Some(z.narrow(2, 0, len)?.flatten_all()?.to_vec1()?))
    }
}
