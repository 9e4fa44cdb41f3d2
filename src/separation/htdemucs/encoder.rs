// [worker] One level of the way down: strided convolution, GELU, residual branches, gated rewrite.

use super::{
    ModelError,
    dconv::{DConv, PIECE},
    hyper::{Hyper, KERNEL, STRIDE},
    strided::{Conv, OUTPUTS, Strided, TILES, Vectors},
    weights::Scope,
    work::{Context, Line, PAD, Plane},
};
use crate::dense::{
    act,
    aligned::Buffer,
    gemm::{BLOCK_ROWS, Packed, Rows},
    pool::Parts,
};

/// An encoder of either branch: the weights have the same meaning.
pub struct Encoder {
    conv: Conv,
    dconv: DConv,
    rewrite: Packed,
    inputs: usize,
    pub channels: usize,
}

/// The spectrum as the first encoder reads it: `[frames][PAD + bins + PAD][channels]`.
pub struct Spectrogram<'a> {
    pub data: &'a [f32],
    pub bins: usize,
    pub channels: usize,
}

impl Encoder {
    /// `axes`: trailing axes of length 1 in the file's kernels: 1 for the spectral branch, 0 for the other.
    /// `outermost`: whether it hears the mix.
    pub fn load(
        scope: &Scope<'_>,
        inputs: usize,
        channels: usize,
        axes: usize,
        outermost: bool,
        hyper: &Hyper,
    ) -> Result<Self, ModelError> {
        let mut shape = vec![channels, inputs, KERNEL];
        shape.resize(3 + axes, 1);
        let conv = scope.at("conv");
        Ok(Self {
            conv: if outermost {
                Conv::Whole(conv.convolution(inputs, channels, &shape[2..])?)
            } else {
                let place = |k, j| (j * inputs + k % inputs) * KERNEL + k / inputs;
                let depth = STRIDE * inputs;
                Conv::Strided(Strided::load(
                    &conv, depth, channels, &shape, channels, place,
                )?)
            },
            dconv: DConv::load(&scope.at("dconv"), channels, hyper)?,
            rewrite: scope
                .at("rewrite")
                .linear(channels, 2 * channels, 1 + axes)?,
            inputs,
            channels,
        })
    }

    pub fn bytes(&self) -> usize {
        self.conv.bytes() + self.dconv.bytes() + self.rewrite.bytes()
    }

    /// A level of the spectral branch: the first.
    pub fn spectrum(
        &self,
        input: &Spectrogram<'_>,
        out: &mut Plane,
        context: &Context<'_>,
    ) -> Result<(), ModelError> {
        let Conv::Whole(conv) = &self.conv else {
            unreachable!("loaded as the outermost level");
        };
        let (rows, frames, channels) = (out.rows, out.frames, out.channels);
        {
            let line = out.line();
            let parts = Parts::new(out.data_mut(), line);
            context.run(rows, |row, _| {
                let inner = &mut parts.take(row + PAD)[PAD * channels..][..frames * channels];
                let windows = Rows {
                    data: input.data,
                    start: STRIDE * row * input.channels,
                    stride: (input.bins + 2 * PAD) * input.channels,
                    segments: &[0],
                    segment_len: KERNEL * input.channels,
                };
                conv.multiply(windows, frames, inner, channels);
                act::gelu(inner);
            })?;
        }
        self.refine(out, context)
    }

    /// A further level of the spectral branch.
    pub fn plane(
        &self,
        input: &Plane,
        out: &mut Plane,
        context: &Context<'_>,
    ) -> Result<(), ModelError> {
        let Conv::Strided(conv) = &self.conv else {
            unreachable!("loaded as an inner level");
        };
        let (rows, frames, channels) = (out.rows, out.frames, out.channels);
        let segments: [usize; STRIDE] = std::array::from_fn(|tap| tap * input.line());
        {
            let line = out.line();
            let parts = Parts::new(out.data_mut(), line);
            context.run(rows.div_ceil(OUTPUTS), |tile, scratch| {
                let first = OUTPUTS * tile;
                let vectors = Vectors {
                    data: input.data(),
                    start: STRIDE * first * input.line() + PAD * input.channels,
                    step: STRIDE * input.line(),
                    row_step: input.channels,
                    segments: &segments,
                    segment_len: self.inputs,
                };
                let mut to: Vec<_> = (first..rows.min(first + OUTPUTS))
                    .map(|row| &mut parts.take(row + PAD)[PAD * channels..][..frames * channels])
                    .collect();
                for frame in (0..frames).step_by(TILES) {
                    let part = frame * channels..(frame + TILES).min(frames) * channels;
                    let mut to: Vec<_> = to.iter_mut().map(|to| &mut to[part.clone()]).collect();
                    conv.tile(vectors, frame, &mut to, &mut scratch.a, &mut scratch.b);
                    to.into_iter().for_each(act::gelu);
                }
            })?;
        }
        self.refine(out, context)
    }

    /// What follows the convolution: residual branches and the gated rewrite.
    fn refine(&self, out: &mut Plane, context: &Context<'_>) -> Result<(), ModelError> {
        let (rows, frames, channels, line) = (out.rows, out.frames, out.channels, out.line());
        let parts = Parts::new(out.data_mut(), line);
        context.run(rows, |row, scratch| {
            let padded = parts.take(row + PAD);
            self.dconv.row(padded, frames, scratch);
            let inner = &mut padded[PAD * channels..(PAD + frames) * channels];
            rewrite_in_place(&self.rewrite, inner, channels, &mut scratch.d);
        })
    }

    /// A level of the time branch. `input` has a length of which `out`'s is the quarter, rounded up.
    pub fn line(
        &self,
        input: &Line,
        out: &mut Line,
        h: &mut [f32],
        context: &Context<'_>,
    ) -> Result<(), ModelError> {
        let channels = self.channels;
        let pieces = out.len.div_ceil(PIECE);
        {
            let parts = Parts::new(out.inner_mut(), PIECE * channels);
            context.run(pieces, |i, scratch| {
                let part = parts.take(i);
                let (data, stride) = (input.data(), STRIDE * self.inputs);
                let start = i * PIECE * stride;
                match &self.conv {
                    Conv::Whole(conv) => {
                        let windows = Rows::plain(&data[start..], KERNEL * self.inputs, stride);
                        conv.multiply(windows, part.len() / channels, part, channels);
                    }
                    Conv::Strided(conv) => {
                        conv.line(data, start, part, &mut scratch.a, &mut scratch.b);
                    }
                }
                act::gelu(part);
            })?;
        }
        self.dconv.line(out, h, context)?;
        let parts = Parts::new(out.inner_mut(), PIECE * channels);
        context.run(pieces, |i, scratch| {
            rewrite_in_place(&self.rewrite, parts.take(i), channels, &mut scratch.d);
        })
    }
}

/// `x = GLU(W x + b)` for every position of `[positions][channels]`.
fn rewrite_in_place(rewrite: &Packed, x: &mut [f32], channels: usize, buffer: &mut Buffer) {
    let y = buffer.get(BLOCK_ROWS * 2 * channels);
    for x in x.chunks_mut(BLOCK_ROWS * channels) {
        let count = x.len() / channels;
        let y = &mut y[..count * 2 * channels];
        rewrite.multiply(Rows::plain(x, channels, channels), count, y, 2 * channels);
        act::glu(y, channels, x);
    }
}
