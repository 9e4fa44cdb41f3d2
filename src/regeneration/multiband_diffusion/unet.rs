// [worker] One band's network on the processor: estimates the noise in a signal, given the step and the codes.

use super::{
    config::UnetConfig,
    raw::{RawBlock, RawNorm, RawUnet},
};
use crate::{
    dense::{
        act::affine_relu,
        gemm::{Into, Packed},
        pool::for_pieces,
    },
    models::tensors::Tensors,
    regeneration::encodec::{
        PadMode, RawConv,
        convolution::{Conv, Transposed},
    },
};

/// Added to the variance, as the reference's normalisation.
pub(super) const EPSILON: f64 = 1e-5;

/// Output rows of a piece of work.
const ROWS: usize = 120;

struct Norm {
    raw: RawNorm,
    groups: usize,
}

impl Norm {
    fn new(raw: RawNorm, groups: usize) -> Self {
        Self { raw, groups }
    }

    /// `relu(norm(x))` of `[time][channels]`, with `margin` rows of zeros before and after. Statistics over time and
    /// each group's channels, in f64.
    fn relu(&self, x: &[f32], margin: usize) -> Vec<f32> {
        let channels = self.raw.weight.len();
        let mut sums = vec![0.0f64; channels];
        let mut squares = vec![0.0f64; channels];
        for row in x.chunks_exact(channels) {
            for ((sum, square), &v) in sums.iter_mut().zip(&mut squares).zip(row) {
                let v = f64::from(v);
                *sum += v;
                *square += v * v;
            }
        }
        let group = channels / self.groups;
        let count = (x.len() / self.groups).max(1) as f64;
        let mut scale = vec![0.0f32; channels];
        let mut shift = vec![0.0f32; channels];
        for g in 0..self.groups {
            let of = g * group..(g + 1) * group;
            let mean = sums[of.clone()].iter().sum::<f64>() / count;
            let variance = squares[of.clone()].iter().sum::<f64>() / count - mean * mean;
            let inverse = 1.0 / (variance.max(0.0) + EPSILON).sqrt();
            for c in of {
                let weight = f64::from(self.raw.weight[c]) * inverse;
                scale[c] = weight as f32;
                shift[c] = (f64::from(self.raw.bias[c]) - mean * weight) as f32;
            }
        }
        let margin = margin * channels;
        let mut out = vec![0.0; x.len() + 2 * margin];
        let piece = 256 * channels;
        for_pieces(
            &mut out[margin..margin + x.len()],
            piece,
            |i, to, (): &mut ()| {
                to.copy_from_slice(&x[i * piece..][..to.len()]);
                affine_relu(to, &scale, &shift);
            },
        );
        out
    }
}

/// A convolution of three taps at a distance, as long as its input; one product a tap, or one for neighbours.
struct Dilated {
    taps: Vec<Packed>,
    distance: usize,
    channels: usize,
}

impl Dilated {
    fn new(raw: RawConv, distance: usize) -> Self {
        let (n, w) = (raw.inputs, &raw.weight);
        let taps = if distance == 1 {
            vec![Packed::new(3 * n, n, &raw.bias, |k, o| {
                w[(o * n + k % n) * 3 + k / n]
            })]
        } else {
            (0..3)
                .map(|tap| {
                    let bias: &[f32] = if tap == 0 { &raw.bias } else { &[] };
                    Packed::new(n, n, bias, |k, o| w[(o * n + k) * 3 + tap])
                })
                .collect()
        };
        Self {
            taps,
            distance,
            channels: n,
        }
    }

    /// From `padded` (`distance` rows of zeros on each side) to or onto `out`.
    fn run(&self, padded: &[f32], out: &mut [f32], into: Into) {
        let n = self.channels;
        for_pieces(out, ROWS * n, |i, piece, (): &mut ()| {
            let rows = piece.len() / n;
            for (t, tap) in self.taps.iter().enumerate() {
                let from = &padded[(i * ROWS + t * self.distance) * n..];
                let into = if t == 0 { into } else { Into::Add };
                tap.product(from, n, rows, piece, n, into);
            }
        });
    }
}

struct Block {
    norm1: Norm,
    conv1: Dilated,
    norm2: Norm,
    conv2: Dilated,
}

impl Block {
    fn new(raw: RawBlock, groups: usize, distance: usize) -> Self {
        Self {
            norm1: Norm::new(raw.norm1, groups),
            conv1: Dilated::new(raw.conv1, distance),
            norm2: Norm::new(raw.norm2, groups),
            conv2: Dilated::new(raw.conv2, distance),
        }
    }

    fn run(&self, x: &mut [f32]) {
        let mut y = vec![0.0; x.len()];
        let padded = self.norm1.relu(x, self.conv1.distance);
        self.conv1.run(&padded, &mut y, Into::Replace);
        let padded = self.norm2.relu(&y, self.conv2.distance);
        self.conv2.run(&padded, x, Into::Add);
    }
}

struct Down {
    conv: Conv,
    norm: Norm,
    blocks: Vec<Block>,
    embedding: Option<Vec<f32>>,
    channels: usize,
}

struct Up {
    blocks: Vec<Block>,
    norm: Norm,
    conv: Transposed,
    channels: usize,
}

/// A band's network, packed for the processor.
pub(super) struct Unet {
    encoders: Vec<Down>,
    decoders: Vec<Up>,
    condition: Conv,
}

/// What a run is shown of its layers: kind ("enc", "dec"), index, values `[time][channels]`, channels.
pub(super) type Watch<'a> = &'a mut dyn FnMut(&'static str, usize, &[f32], usize);

impl Unet {
    /// `to`: see [`Conv::new`]; it may keep nothing.
    pub fn new(raw: RawUnet, config: &UnetConfig, to: &dyn Tensors) -> Self {
        let groups = config.norm_groups;
        let blocks = |raw: Vec<RawBlock>| -> Vec<Block> {
            raw.into_iter()
                .enumerate()
                .map(|(j, b)| Block::new(b, groups, 1 << j))
                .collect()
        };
        Self {
            encoders: raw
                .encoders
                .into_iter()
                .map(|level| Down {
                    channels: level.resample.outputs,
                    conv: Conv::new(level.resample, PadMode::Zeros, to),
                    norm: Norm::new(level.norm, groups),
                    blocks: blocks(level.blocks),
                    embedding: level.embedding,
                })
                .collect(),
            decoders: raw
                .decoders
                .into_iter()
                .map(|level| Up {
                    channels: level.resample.inputs,
                    blocks: blocks(level.blocks),
                    norm: Norm::new(level.norm, groups),
                    conv: Transposed::new(level.resample, to),
                })
                .collect(),
            condition: Conv::new(raw.condition, PadMode::Zeros, to),
        }
    }

    /// The noise in `x` (`[samples]`) at `step`, given the condition `[frames][dimension]`. `None` if `stop` said so
    /// between two layers.
    pub fn run(
        &self,
        x: &[f32],
        step: usize,
        condition: &[f32],
        stop: &dyn Fn() -> bool,
        watch: Watch<'_>,
    ) -> Option<Vec<f32>> {
        let mut skips: Vec<Vec<f32>> = Vec::with_capacity(self.encoders.len());
        for (d, level) in self.encoders.iter().enumerate() {
            let mut z = level.conv.whole(skips.last().map_or(x, Vec::as_slice));
            z = level.norm.relu(&z, 0);
            for block in &level.blocks {
                if stop() {
                    return None;
                }
                block.run(&mut z);
            }
            watch("enc", d, &z, level.channels);
            if let Some(table) = &level.embedding {
                let row = &table[step * level.channels..][..level.channels];
                for z in z.chunks_exact_mut(level.channels) {
                    z.iter_mut().zip(row).for_each(|(z, e)| *z += e);
                }
            }
            skips.push(z);
        }
        let codes = self.condition.whole(condition);
        let channels = self.condition.outputs;
        // The sum goes into the deepest skip; what went on from there is replaced by zeros in the reference, so the
        // deepest decoder sees the skip alone.
        if let Some(deepest) = skips.last_mut() {
            let (frames, rows) = (codes.len() / channels, deepest.len() / channels);
            for (t, z) in deepest.chunks_exact_mut(channels).enumerate() {
                let from = nearest(t, frames, rows) * channels;
                z.iter_mut().zip(&codes[from..]).for_each(|(z, c)| *z += c);
            }
        }
        let mut z: Option<Vec<f32>> = None;
        for (d, level) in self.decoders.iter().enumerate() {
            let mut sum = skips.pop()?;
            if let Some(z) = z {
                sum.iter_mut().zip(&z).for_each(|(s, z)| *s += z);
            }
            for block in &level.blocks {
                if stop() {
                    return None;
                }
                block.run(&mut sum);
            }
            let up = level.conv.whole(&level.norm.relu(&sum, 0));
            watch("dec", d, &up, level.conv.outputs);
            debug_assert_eq!(level.channels, level.conv.inputs);
            z = Some(up);
        }
        let mut out = z?;
        out.truncate(x.len());
        Some(out)
    }
}

/// The frame that nearest-neighbour interpolation of `frames` to `rows` takes for row `t`, rounded as the reference.
pub(super) fn nearest(t: usize, frames: usize, rows: usize) -> usize {
    let scale = frames as f32 / rows as f32;
    ((t as f32 * scale) as usize).min(frames - 1)
}
