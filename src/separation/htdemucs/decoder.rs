// [worker] One level of the way up: gated rewrite over neighbours, residual branches, transposed convolution.

use super::{
    ModelError,
    dconv::{DConv, PIECE},
    hyper::{Hyper, KERNEL, STRIDE},
    strided::{Conv, OUTPUTS, Strided, TILES, Vectors},
    weights::Scope,
    winograd::Rewrite,
    work::{Context, Line, PAD, Plane},
};
use crate::dense::{act, gemm::Rows, pool::Parts};

/// A decoder of either branch.
pub struct Decoder {
    rewrite: Rewrite,
    dconv: DConv,
    transposed: Conv,
    channels: usize,
    pub outputs: usize,
}

impl Decoder {
    /// `axes`: 2 for the spectral branch, 1 for the time branch. `outermost`: whether its outputs are the stems.
    pub fn load(
        scope: &Scope<'_>,
        channels: usize,
        outputs: usize,
        axes: usize,
        outermost: bool,
        hyper: &Hyper,
    ) -> Result<Self, ModelError> {
        let branches = if hyper.dconv_in_decoders {
            hyper.dconv_depth
        } else {
            0
        };
        let transposed = scope.at("conv_tr");
        Ok(Self {
            rewrite: Rewrite::load(&scope.at("rewrite"), channels, axes)?,
            dconv: DConv::with_depth(&scope.at("dconv"), channels, hyper, branches)?,
            transposed: if outermost {
                Conv::Whole(transposed.transposed(channels, outputs, STRIDE, axes - 1)?)
            } else {
                let mut shape = vec![channels, outputs, KERNEL];
                shape.resize(2 + axes, 1);
                // Two neighbouring inputs, the earlier first, give `STRIDE` neighbouring outputs.
                let place = |k: usize, j: usize| {
                    let tap = j / outputs + if k < channels { STRIDE } else { 0 };
                    (k % channels * outputs + j % outputs) * KERNEL + tap
                };
                let columns = STRIDE * outputs;
                Conv::Strided(Strided::load(
                    &transposed,
                    channels,
                    columns,
                    &shape,
                    outputs,
                    place,
                )?)
            },
            channels,
            outputs,
        })
    }

    pub fn bytes(&self) -> usize {
        self.rewrite.bytes() + self.dconv.bytes() + self.transposed.bytes()
    }

    /// The first half in the spectral branch: `z = z + DConv(z)` where `z = GLU(rewrite(input))`. `input`
    /// is the level's input and skip connection, added.
    pub fn plane(
        &self,
        input: &Plane,
        z: &mut Plane,
        context: &Context<'_>,
    ) -> Result<(), ModelError> {
        let (rows, frames, channels) = (input.rows, input.frames, self.channels);
        z.reshape(rows, frames, channels);
        let line = input.line();
        let parts = Parts::new(z.data_mut(), line);
        context.run(rows, |row, scratch| {
            let padded = parts.take(row + PAD);
            let start = (row + PAD - 1) * line + (PAD - 1) * channels;
            let inner = &mut padded[PAD * channels..(PAD + frames) * channels];
            self.rewrite
                .gated(input.data(), start, line, inner, scratch);
            self.dconv.row(padded, frames, scratch);
        })
    }

    /// The second half but for the last level: GELU of the transposed convolution of `z`, added to the next
    /// level's skip connection.
    pub fn plane_up(
        &self,
        z: &Plane,
        next: &mut Plane,
        context: &Context<'_>,
    ) -> Result<(), ModelError> {
        let Conv::Strided(transposed) = &self.transposed else {
            unreachable!("loaded as an inner level");
        };
        let (rows, frames, outputs) = (z.rows, z.frames, self.outputs);
        let line = next.line();
        let width = STRIDE * outputs;
        let parts = Parts::new(next.data_mut(), STRIDE * line);
        context.run((rows + 1).div_ceil(OUTPUTS), |tile, scratch| {
            let groups = OUTPUTS * tile..(OUTPUTS * (tile + 1)).min(rows + 1);
            // Rows `group - 1` and `group` of `z`, frame by frame.
            let vectors = Vectors {
                data: z.data(),
                start: (groups.start + PAD - 1) * z.line() + PAD * self.channels,
                step: z.line(),
                row_step: self.channels,
                segments: &[0],
                segment_len: self.channels,
            };
            let mut to: Vec<_> = groups.clone().map(|group| parts.take(group)).collect();
            for first in (0..frames).step_by(TILES) {
                let count = TILES.min(frames - first);
                let y = scratch.d.get(to.len() * count * width);
                let mut outs: Vec<_> = y.chunks_exact_mut(count * width).collect();
                transposed.tile(vectors, first, &mut outs, &mut scratch.a, &mut scratch.b);
                act::gelu(y);
                let pairs = groups.clone().zip(&mut to);
                for ((group, to), y) in pairs.zip(y.chunks_exact(count * width)) {
                    for phase in 0..STRIDE {
                        // Two rows are cut off on either side.
                        if group == 0 && phase < PAD || group == rows && phase >= PAD {
                            continue;
                        }
                        let to = &mut to[phase * line + (PAD + first) * outputs..];
                        for (i, to) in to.chunks_exact_mut(outputs).take(count).enumerate() {
                            act::onto(&y[i * width + phase * outputs..][..outputs], to);
                        }
                    }
                }
            }
        })
    }

    /// The second half of the last level: `out` is `[rows + 1][frames][STRIDE · outputs]`: group `q` holds
    /// the bins `4q - 2 .. 4q + 2`.
    pub fn plane_out(
        &self,
        z: &Plane,
        out: &mut [f32],
        context: &Context<'_>,
    ) -> Result<(), ModelError> {
        let Conv::Whole(transposed) = &self.transposed else {
            unreachable!("loaded as the outermost level");
        };
        let width = STRIDE * self.outputs;
        let segments = [0, z.line()];
        let parts = Parts::new(out, z.frames * width);
        context.run(z.rows + 1, |group, _| {
            // Rows `group - 1` and `group` of `z`, frame by frame.
            let pairs = Rows {
                data: z.data(),
                start: (group + PAD - 1) * z.line() + PAD * self.channels,
                stride: self.channels,
                segments: &segments,
                segment_len: self.channels,
            };
            transposed.multiply(pairs, z.frames, parts.take(group), width);
        })
    }

    /// The first half in the time branch; see [`Self::plane`].
    pub fn line(
        &self,
        input: &Line,
        z: &mut Line,
        h: &mut [f32],
        context: &Context<'_>,
    ) -> Result<(), ModelError> {
        let channels = self.channels;
        z.reshape(input.len, channels);
        {
            let parts = Parts::new(z.inner_mut(), PIECE * channels);
            context.run(input.len.div_ceil(PIECE), |i, scratch| {
                let start = (PAD - 1 + i * PIECE) * channels;
                self.rewrite
                    .gated(input.data(), start, 0, parts.take(i), scratch);
            })?;
        }
        self.dconv.line(z, h, context)
    }

    /// The second half in the time branch: onto the next level's skip connection through a GELU, or, the outermost, as
    /// it is.
    pub fn line_up(
        &self,
        z: &Line,
        next: &mut Line,
        context: &Context<'_>,
    ) -> Result<(), ModelError> {
        const GROUPS: usize = PIECE / STRIDE;
        let width = STRIDE * self.outputs;
        let groups = z.len + 1;
        {
            let parts = Parts::new(next.data_mut(), GROUPS * width);
            context.run(groups.div_ceil(GROUPS), |i, scratch| {
                let part = parts.take(i);
                let start = (PAD - 1 + i * GROUPS) * self.channels;
                match &self.transposed {
                    Conv::Whole(transposed) => {
                        let data = &z.data()[start..];
                        let pairs = Rows::plain(data, 2 * self.channels, self.channels);
                        transposed.multiply(pairs, part.len() / width, part, width);
                    }
                    Conv::Strided(transposed) => {
                        let y = scratch.d.get(part.len());
                        transposed.line(z.data(), start, y, &mut scratch.a, &mut scratch.b);
                        act::gelu(y);
                        act::onto(y, part);
                    }
                }
            })?;
        }
        next.clear_padding();
        Ok(())
    }
}
