// [worker] One level of the way up: gated rewrite over neighbours, residual branches, transposed convolution.

use super::{
    ModelError,
    dconv::{DConv, PIECE},
    hyper::{Hyper, KERNEL, STRIDE},
    weights::Scope,
    winograd::Rewrite,
    work::{Context, Line, PAD, Plane},
};
use crate::dense::{
    act,
    gemm::{BLOCK_ROWS, Packed, Rows},
    pool::Parts,
};

/// A decoder of either branch.
pub struct Decoder {
    rewrite: Rewrite,
    dconv: DConv,
    transposed: Packed,
    channels: usize,
    pub outputs: usize,
}

impl Decoder {
    /// `axes`: 2 for the spectral branch, 1 for the time branch.
    pub fn load(
        scope: &Scope<'_>,
        channels: usize,
        outputs: usize,
        axes: usize,
        hyper: &Hyper,
    ) -> Result<Self, ModelError> {
        let branches = if hyper.dconv_in_decoders {
            hyper.dconv_depth
        } else {
            0
        };
        Ok(Self {
            rewrite: Rewrite::load(&scope.at("rewrite"), channels, axes)?,
            dconv: DConv::with_depth(&scope.at("dconv"), channels, hyper, branches)?,
            transposed: scope
                .at("conv_tr")
                .transposed(channels, outputs, KERNEL / 2, axes - 1)?,
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
        let (rows, frames, outputs) = (z.rows, z.frames, self.outputs);
        let line = next.line();
        let segments = [0, z.line()];
        let parts = Parts::new(next.data_mut(), STRIDE * line);
        context.run(rows + 1, |group, scratch| {
            let part = parts.take(group);
            let width = STRIDE * outputs;
            let y = scratch.a.get(BLOCK_ROWS * width);
            for first in (0..frames).step_by(BLOCK_ROWS) {
                let count = BLOCK_ROWS.min(frames - first);
                let y = &mut y[..count * width];
                let windows = self.pairs(z, &segments, group).skip(first);
                self.transposed.multiply(windows, count, y, width);
                act::gelu(y);
                for phase in 0..STRIDE {
                    // Two rows are cut off on either side.
                    if group == 0 && phase < PAD || group == rows && phase >= PAD {
                        continue;
                    }
                    let to = &mut part[phase * line + (PAD + first) * outputs..];
                    for (i, to) in to.chunks_exact_mut(outputs).take(count).enumerate() {
                        let from = &y[i * width + phase * outputs..][..outputs];
                        for (to, from) in to.iter_mut().zip(from) {
                            *to += from;
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
        let width = STRIDE * self.outputs;
        let segments = [0, z.line()];
        let parts = Parts::new(out, z.frames * width);
        context.run(z.rows + 1, |group, _| {
            self.transposed.multiply(
                self.pairs(z, &segments, group),
                z.frames,
                parts.take(group),
                width,
            );
        })
    }

    /// Rows `group - 1` and `group` of `z`, frame by frame.
    fn pairs<'a>(&self, z: &'a Plane, segments: &'a [usize; 2], group: usize) -> Rows<'a> {
        Rows {
            data: z.data(),
            start: (group + PAD - 1) * z.line() + PAD * self.channels,
            stride: self.channels,
            segments,
            segment_len: self.channels,
        }
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

    /// The second half in the time branch: onto the next level's skip connection through a GELU, or (`last`)
    /// as it is.
    pub fn line_up(
        &self,
        z: &Line,
        next: &mut Line,
        last: bool,
        context: &Context<'_>,
    ) -> Result<(), ModelError> {
        const GROUPS: usize = PIECE / STRIDE;
        let width = STRIDE * self.outputs;
        let groups = z.len + 1;
        {
            let parts = Parts::new(next.data_mut(), GROUPS * width);
            context.run(groups.div_ceil(GROUPS), |i, scratch| {
                let part = parts.take(i);
                let windows = Rows {
                    data: z.data(),
                    start: (PAD - 1 + i * GROUPS) * self.channels,
                    stride: self.channels,
                    segments: &[0],
                    segment_len: 2 * self.channels,
                };
                let count = part.len() / width;
                if last {
                    self.transposed.multiply(windows, count, part, width);
                } else {
                    let y = scratch.a.get(part.len());
                    self.transposed.multiply(windows, count, y, width);
                    act::gelu(y);
                    act::onto(y, part);
                }
            })?;
        }
        next.clear_padding();
        Ok(())
    }
}
