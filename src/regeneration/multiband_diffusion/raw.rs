// [worker] The tensors of one band's network as they are on disk.

use super::config::UnetConfig;
use crate::regeneration::encodec::{Loader, RawConv};

pub(super) struct RawNorm {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

/// `x + conv2(relu(norm2(conv1(relu(norm1 x)))))`.
pub(super) struct RawBlock {
    pub norm1: RawNorm,
    pub conv1: RawConv,
    pub norm2: RawNorm,
    pub conv2: RawConv,
}

pub(super) struct RawLevel {
    /// Down in the encoder, up in the decoder; no bias.
    pub resample: RawConv,
    pub norm: RawNorm,
    pub blocks: Vec<RawBlock>,
    /// `[steps][channels]`; in the encoder, where the level knows the step.
    pub embedding: Option<Vec<f32>>,
}

pub(super) struct RawUnet {
    pub encoders: Vec<RawLevel>,
    /// Deepest first.
    pub decoders: Vec<RawLevel>,
    /// `[channels of the deepest level][codec dimension]`.
    pub condition: RawConv,
}

impl RawUnet {
    /// Reads the tensors under `prefix`; what is missing or faulty stays with the loader.
    pub fn read(loader: &mut Loader<'_>, prefix: &str, config: &UnetConfig, steps: usize) -> Self {
        let mut encoders = Vec::new();
        let mut decoders = Vec::new();
        for level in 0..config.depth {
            let (outer, inner) = (
                if level == 0 {
                    1
                } else {
                    config.channels(level - 1)
                },
                config.channels(level),
            );
            let name = format!("{prefix}encoders.{level}");
            let shape = [inner, outer, config.kernel];
            let table = match level {
                0 => Some(format!("{prefix}embedding.weight")),
                _ if config.emb_all_layers => {
                    Some(format!("{prefix}embeddings.{}.weight", level - 1))
                }
                _ => None,
            };
            encoders.push(RawLevel {
                resample: RawConv {
                    name: format!("{name}.conv"),
                    kept: None,
                    weight: loader.tensor(&format!("{name}.conv.weight"), &shape),
                    bias: Vec::new(),
                    inputs: outer,
                    outputs: inner,
                    kernel: config.kernel,
                    stride: config.stride,
                },
                norm: norm(loader, &format!("{name}.norm"), inner),
                blocks: blocks(loader, &name, inner, config.res_blocks),
                embedding: table.map(|table| loader.tensor(&table, &[steps, inner])),
            });
            let name = format!("{prefix}decoders.{}", config.depth - 1 - level);
            decoders.push(RawLevel {
                resample: RawConv {
                    name: format!("{name}.convtr"),
                    kept: None,
                    weight: loader.tensor(&format!("{name}.convtr.weight"), &shape),
                    bias: Vec::new(),
                    inputs: inner,
                    outputs: outer,
                    kernel: config.kernel,
                    stride: config.stride,
                },
                norm: norm(loader, &format!("{name}.norm"), inner),
                blocks: blocks(loader, &name, inner, config.res_blocks),
                embedding: None,
            });
        }
        decoders.reverse();
        let deepest = config.channels(config.depth - 1);
        let name = format!("{prefix}conv_codec");
        let condition = RawConv {
            name: name.clone(),
            kept: None,
            weight: loader.tensor(&format!("{name}.weight"), &[deepest, config.codec_dim, 1]),
            bias: loader.tensor(&format!("{name}.bias"), &[deepest]),
            inputs: config.codec_dim,
            outputs: deepest,
            kernel: 1,
            stride: 1,
        };
        Self {
            encoders,
            decoders,
            condition,
        }
    }
}

fn norm(loader: &mut Loader<'_>, name: &str, channels: usize) -> RawNorm {
    RawNorm {
        weight: loader.tensor(&format!("{name}.weight"), &[channels]),
        bias: loader.tensor(&format!("{name}.bias"), &[channels]),
    }
}

fn blocks(loader: &mut Loader<'_>, level: &str, channels: usize, count: usize) -> Vec<RawBlock> {
    (0..count)
        .map(|j| {
            let name = |part: &str| format!("{level}.res_blocks.{j}.{part}");
            let mut conv = |part: &str| RawConv {
                name: name(part),
                kept: None,
                weight: loader.tensor(&format!("{}.weight", name(part)), &[channels, channels, 3]),
                bias: loader.tensor(&format!("{}.bias", name(part)), &[channels]),
                inputs: channels,
                outputs: channels,
                kernel: 3,
                stride: 1,
            };
            let (conv1, conv2) = (conv("conv1"), conv("conv2"));
            RawBlock {
                norm1: norm(loader, &name("norm1"), channels),
                conv1,
                norm2: norm(loader, &name("norm2"), channels),
                conv2,
            }
        })
        .collect()
}
