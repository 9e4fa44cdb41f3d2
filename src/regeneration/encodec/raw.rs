// [worker] The tensors of an EnCodec as they are on disk, weight norm folded, before any engine packs them.

use super::{
    EncodecConfig, EncodecError,
    weights::{Loader, Naming},
};
use crate::{
    dense::gemm::Packed,
    models::tensors::{self, Tensors},
};

/// A convolution's weight and bias.
pub(crate) struct RawConv {
    pub name: String,
    /// Packed at an earlier opening: then weight and bias are not read.
    pub kept: Option<Packed>,
    /// `[out][in][kernel]`; `[in][out][kernel]` if transposed.
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    pub inputs: usize,
    pub outputs: usize,
    pub kernel: usize,
    pub stride: usize,
}

impl RawConv {
    /// The layer kept at an earlier opening, else what `pack` makes of weight and bias, kept for the next one.
    pub fn packed(mut self, to: &dyn Tensors, pack: impl FnOnce(&Self) -> Packed) -> Packed {
        self.kept.take().unwrap_or_else(|| {
            let packed = pack(&self);
            tensors::keep(to, &self.name, &packed);
            packed
        })
    }
}

/// One layer of an LSTM, gates in the order input, forget, cell, output.
pub(super) struct RawLstm {
    /// The names under which both products are kept, and what was at an earlier opening: then nothing is read.
    pub names: [String; 2],
    pub kept: Option<[Packed; 2]>,
    /// `[4·size][size]`.
    pub input: Vec<f32>,
    /// `[4·size][size]`.
    pub hidden: Vec<f32>,
    /// Both biases, summed: `[4·size]`.
    pub bias: Vec<f32>,
    pub size: usize,
}

/// A residual block with the convolution that changes the rate: after it in the encoder, before it in the decoder.
pub(super) struct RawStage {
    pub narrow: RawConv,
    pub widen: RawConv,
    pub resample: RawConv,
}

/// Encoder or decoder.
pub(super) struct RawHalf {
    pub first: RawConv,
    pub lstm: Vec<RawLstm>,
    pub stages: Vec<RawStage>,
    pub last: RawConv,
}

pub(super) struct Raw {
    pub encoder: RawHalf,
    pub decoder: RawHalf,
    /// `[size][dimension]` each.
    pub codebooks: Vec<Vec<f32>>,
}

impl Raw {
    /// # Errors
    /// [`EncodecError::NoEncodec`], or every tensor that is missing or has another shape.
    pub fn load(
        weights: &dyn Tensors,
        prefix: &str,
        config: &EncodecConfig,
    ) -> Result<Self, EncodecError> {
        config.check()?;
        let naming = Naming::find(weights, prefix).ok_or_else(|| EncodecError::NoEncodec {
            prefix: prefix.to_owned(),
        })?;
        let mut read = Reader {
            loader: Loader::new(weights),
            naming,
            config,
        };
        let encoder = read.half("encoder");
        let decoder = read.half("decoder");
        let shape = [config.codebook_size, config.dimension];
        let codebooks = (0..config.codebooks)
            .map(|q| {
                let name = read.naming.codebook(q);
                read.loader.tensor(&name, &shape)
            })
            .collect();
        read.loader.finish()?;
        Ok(Self {
            encoder,
            decoder,
            codebooks,
        })
    }
}

struct Reader<'a> {
    loader: Loader<'a>,
    naming: Naming,
    config: &'a EncodecConfig,
}

impl Reader<'_> {
    fn conv(
        &mut self,
        name: &str,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        stride: usize,
    ) -> RawConv {
        let kept = self.loader.kept(name, kernel * inputs, outputs);
        let shape = [outputs, inputs, kernel];
        self.raw(name, kept, shape, [inputs, outputs, kernel, stride])
    }

    fn transposed(&mut self, name: &str, inputs: usize, outputs: usize, stride: usize) -> RawConv {
        let kernel = 2 * stride;
        let kept = self.loader.kept(name, 2 * inputs, stride * outputs);
        let shape = [inputs, outputs, kernel];
        self.raw(name, kept, shape, [inputs, outputs, kernel, stride])
    }

    /// `shape`: the weight's in the file.
    fn raw(
        &mut self,
        name: &str,
        kept: Option<Packed>,
        shape: [usize; 3],
        [inputs, outputs, kernel, stride]: [usize; 4],
    ) -> RawConv {
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        if kept.is_none() {
            weight = self.loader.conv(name, shape);
            bias = self.loader.part(&format!("{name}.bias"), &[outputs]);
        }
        RawConv {
            name: name.to_owned(),
            kept,
            weight,
            bias,
            inputs,
            outputs,
            kernel,
            stride,
        }
    }

    fn lstm(&mut self, half: &str, layer: usize, size: usize) -> Vec<RawLstm> {
        (0..self.config.lstm_layers)
            .map(|l| {
                let names =
                    ["weight_ih", "weight_hh"].map(|what| self.naming.lstm(half, layer, what, l));
                let [first, second] = &names;
                let kept = |name| self.loader.kept(name, size, 4 * size);
                if let (Some(input), Some(hidden)) = (kept(first), kept(second)) {
                    return RawLstm {
                        names,
                        kept: Some([input, hidden]),
                        input: Vec::new(),
                        hidden: Vec::new(),
                        bias: Vec::new(),
                        size,
                    };
                }
                let mut tensor = |what: &str, shape: &[usize]| {
                    self.loader
                        .part(&self.naming.lstm(half, layer, what, l), shape)
                };
                let input = tensor("weight_ih", &[4 * size, size]);
                let hidden = tensor("weight_hh", &[4 * size, size]);
                let bias_input = tensor("bias_ih", &[4 * size]);
                let bias_hidden = tensor("bias_hh", &[4 * size]);
                let bias = bias_input
                    .iter()
                    .zip(&bias_hidden)
                    .map(|(a, b)| a + b)
                    .collect();
                RawLstm {
                    names,
                    kept: None,
                    input,
                    hidden,
                    bias,
                    size,
                }
            })
            .collect()
    }

    fn half(&mut self, half: &str) -> RawHalf {
        let c = self.config;
        let n = c.ratios.len();
        let widest = c.filters << n;
        let encodes = half == "encoder";
        let first = self.naming.conv(half, 0);
        let first = if encodes {
            self.conv(&first, c.channels, c.filters, c.kernel, 1)
        } else {
            self.conv(&first, c.dimension, widest, c.kernel, 1)
        };
        let lstm = self.lstm(half, if encodes { 1 + 3 * n } else { 1 }, widest);
        let stages = (0..n)
            .map(|i| {
                // The channels around the residual block, and the index of its layer.
                let (ratio, channels, block) = if encodes {
                    (c.ratios[n - 1 - i], c.filters << i, 1 + 3 * i)
                } else {
                    (c.ratios[i], widest >> (i + 1), 4 + 3 * i)
                };
                let inner = channels / c.compress;
                let (narrow, widen) = (
                    self.naming.block(half, block, 1),
                    self.naming.block(half, block, 3),
                );
                let resample = if encodes {
                    let name = self.naming.conv(half, 3 + 3 * i);
                    self.conv(&name, channels, 2 * channels, 2 * ratio, ratio)
                } else {
                    let name = self.naming.transposed(3 + 3 * i);
                    self.transposed(&name, 2 * channels, channels, ratio)
                };
                RawStage {
                    narrow: self.conv(&narrow, channels, inner, c.residual_kernel, 1),
                    widen: self.conv(&widen, inner, channels, 1, 1),
                    resample,
                }
            })
            .collect();
        let last = self.naming.conv(half, 3 + 3 * n);
        let last = if encodes {
            self.conv(&last, widest, c.dimension, c.last_kernel, 1)
        } else {
            self.conv(&last, c.filters, c.channels, c.last_kernel, 1)
        };
        RawHalf {
            first,
            lstm,
            stages,
            last,
        }
    }
}
