// [worker] EnCodec with candle's operators, for graphics processors.

use candle_core::{D, Device, Result, Tensor};

use super::{
    config::{EncodecConfig, PadMode},
    convolution::Edge,
    raw::{Raw, RawConv, RawHalf, RawLstm, RawStage},
};
use crate::dense::device::Transposed;

struct Conv {
    weight: Tensor,
    /// `[1, outputs, 1]`.
    bias: Tensor,
    kernel: usize,
    stride: usize,
    mode: PadMode,
}

impl Conv {
    fn new(raw: &RawConv, mode: PadMode, device: &Device) -> Result<Self> {
        let shape = (raw.outputs, raw.inputs, raw.kernel);
        Ok(Self {
            weight: Tensor::from_slice(&raw.weight, shape, device)?,
            bias: Tensor::from_slice(&raw.bias, (1, raw.outputs, 1), device)?,
            kernel: raw.kernel,
            stride: raw.stride,
            mode,
        })
    }

    /// `x` is `[batch, inputs, time]`.
    fn run(&self, x: &Tensor) -> Result<Tensor> {
        let len = x.dim(2)?;
        let all = self.kernel - self.stride;
        let (left, right) = (all - all / 2, all / 2);
        let right = right + len.div_ceil(self.stride) * self.stride - len;
        let edge = Edge::new(len, left.max(right), self.mode);
        let side = |from: isize, count: usize| -> Result<Option<Tensor>> {
            if count == 0 {
                return Ok(None);
            }
            let columns: Vec<Tensor> = (from..from + count as isize)
                .map(|i| match edge.source(i) {
                    Some(at) => x.narrow(2, at, 1),
                    None => x.narrow(2, 0, 1)?.zeros_like(),
                })
                .collect::<Result<_>>()?;
            Ok(Some(Tensor::cat(&columns, 2)?))
        };
        let before = side(-(left as isize), left)?;
        let after = side(len as isize, right)?;
        let parts: Vec<&Tensor> = before
            .iter()
            .chain(std::iter::once(x))
            .chain(after.iter())
            .collect();
        let padded = Tensor::cat(&parts, 2)?.contiguous()?;
        padded
            .conv1d(&self.weight, 0, self.stride, 1, 1)?
            .broadcast_add(&self.bias)
    }
}

fn transposed(raw: &RawConv, device: &Device) -> Result<Transposed> {
    Transposed::new(&raw.weight, &raw.bias, raw.stride, device)
}

struct Block {
    narrow: Conv,
    widen: Conv,
}

impl Block {
    fn run(&self, x: &Tensor) -> Result<Tensor> {
        x + self.widen.run(&self.narrow.run(&x.elu(1.0)?)?.elu(1.0)?)?
    }
}

struct LstmLayer {
    /// `[size, 4·size]`.
    input: Tensor,
    hidden: Tensor,
    bias: Tensor,
}

struct Lstm {
    layers: Vec<LstmLayer>,
}

impl Lstm {
    fn new(raw: &[RawLstm], device: &Device) -> Result<Self> {
        let turned = |w: &[f32], size: usize| -> Result<Tensor> {
            Tensor::from_slice(w, (4 * size, size), &Device::Cpu)?
                .t()?
                .contiguous()?
                .to_device(device)
        };
        let layers = raw
            .iter()
            .map(|l| {
                Ok(LstmLayer {
                    input: turned(&l.input, l.size)?,
                    hidden: turned(&l.hidden, l.size)?,
                    bias: Tensor::from_slice(&l.bias, (1, 4 * l.size), device)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { layers })
    }

    fn run(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, size, steps) = x.dims3()?;
        // `[steps, batch, size]`.
        let mut y = x.permute((2, 0, 1))?.contiguous()?;
        for layer in &self.layers {
            let gates = y
                .reshape((steps * batch, size))?
                .matmul(&layer.input)?
                .broadcast_add(&layer.bias)?
                .reshape((steps, batch, 4 * size))?;
            let mut cell = Tensor::zeros((batch, size), x.dtype(), x.device())?;
            let mut rows: Vec<Tensor> = Vec::with_capacity(steps);
            for t in 0..steps {
                let mut g = gates.get(t)?;
                if let Some(last) = rows.last() {
                    g = (g + last.matmul(&layer.hidden)?)?;
                }
                let gate = |i: usize| g.narrow(D::Minus1, i * size, size);
                let keep = candle_nn::ops::sigmoid(&gate(1)?)?;
                let take = candle_nn::ops::sigmoid(&gate(0)?)?;
                cell = ((keep * &cell)? + (take * gate(2)?.tanh()?)?)?;
                rows.push((candle_nn::ops::sigmoid(&gate(3)?)? * cell.tanh()?)?);
            }
            y = Tensor::stack(&rows, 0)?;
        }
        x + y.permute((1, 2, 0))?.contiguous()?
    }
}

struct Half {
    first: Conv,
    lstm: Lstm,
    blocks: Vec<Block>,
    last: Conv,
}

impl Half {
    fn new(raw: &RawHalf, mode: PadMode, device: &Device) -> Result<Self> {
        let block = |s: &RawStage| -> Result<Block> {
            Ok(Block {
                narrow: Conv::new(&s.narrow, mode, device)?,
                widen: Conv::new(&s.widen, mode, device)?,
            })
        };
        Ok(Self {
            first: Conv::new(&raw.first, mode, device)?,
            lstm: Lstm::new(&raw.lstm, device)?,
            blocks: raw.stages.iter().map(block).collect::<Result<_>>()?,
            last: Conv::new(&raw.last, mode, device)?,
        })
    }
}

/// The two networks on a device.
pub(super) struct DeviceNet {
    encoder: Half,
    downs: Vec<Conv>,
    decoder: Half,
    ups: Vec<Transposed>,
    pub device: Device,
}

impl DeviceNet {
    pub fn new(raw: &Raw, config: &EncodecConfig, device: &Device) -> Result<Self> {
        let mode = config.pad_mode;
        let downs = raw
            .encoder
            .stages
            .iter()
            .map(|s| Conv::new(&s.resample, mode, device));
        let ups = raw
            .decoder
            .stages
            .iter()
            .map(|s| transposed(&s.resample, device));
        Ok(Self {
            encoder: Half::new(&raw.encoder, mode, device)?,
            downs: downs.collect::<Result<_>>()?,
            decoder: Half::new(&raw.decoder, mode, device)?,
            ups: ups.collect::<Result<_>>()?,
            device: device.clone(),
        })
    }

    /// `[batch, channels, samples]` to `[batch, dimension, frames]`.
    pub fn encode(&self, x: &Tensor) -> Result<Tensor> {
        let mut y = self.encoder.first.run(x)?;
        for (block, down) in self.encoder.blocks.iter().zip(&self.downs) {
            y = down.run(&block.run(&y)?.elu(1.0)?)?;
        }
        self.encoder.last.run(&self.encoder.lstm.run(&y)?.elu(1.0)?)
    }

    /// `[batch, dimension, frames]` to `[batch, channels, samples]`.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let mut y = self.decoder.lstm.run(&self.decoder.first.run(latents)?)?;
        for (up, block) in self.ups.iter().zip(&self.decoder.blocks) {
            y = block.run(&up.run(&y.elu(1.0)?)?)?;
        }
        self.decoder.last.run(&y.elu(1.0)?)
    }
}
