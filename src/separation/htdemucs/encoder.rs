// [worker] One level of the way down: strided convolution, GELU, residual branches, gated rewrite.

use super::{
    ModelError,
    dconv::{DConv, PIECE},
    hyper::{Hyper, KERNEL, STRIDE},
    weights::Scope,
    work::{Context, Line, PAD, Plane},
};
use crate::dense::{
    act,
    gemm::{BLOCK_ROWS, Packed, Rows},
    pool::Parts,
};

/// An encoder of either branch: the weights have the same meaning.
pub struct Encoder {
    conv: Packed,
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
    pub fn load(
        scope: &Scope<'_>,
        inputs: usize,
        channels: usize,
        axes: usize,
        hyper: &Hyper,
    ) -> Result<Self, ModelError> {
        let mut taps = vec![KERNEL];
        taps.resize(1 + axes, 1);
        Ok(Self {
            conv: scope.at("conv").convolution(inputs, channels, &taps)?,
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

    /// The first level of the spectral branch.
    pub fn spectrum(
        &self,
        input: &Spectrogram<'_>,
        out: &mut Plane,
        context: &Context<'_>,
    ) -> Result<(), ModelError> {
        let stride = (input.bins + 2 * PAD) * input.channels;
        self.rows(out, context, &|row| Rows {
            data: input.data,
            start: STRIDE * row * input.channels,
            stride,
            segments: &[0],
            segment_len: KERNEL * input.channels,
        })
    }

    /// A further level of the spectral branch.
    pub fn plane(
        &self,
        input: &Plane,
        out: &mut Plane,
        context: &Context<'_>,
    ) -> Result<(), ModelError> {
        let line = input.line();
        let segments: [usize; KERNEL] = std::array::from_fn(|tap| tap * line);
        self.rows(out, context, &|row| Rows {
            data: input.data(),
            start: STRIDE * row * line + PAD * input.channels,
            stride: input.channels,
            segments: &segments,
            segment_len: self.inputs,
        })
    }

    fn rows<'a>(
        &self,
        out: &mut Plane,
        context: &Context<'_>,
        windows: &(dyn Fn(usize) -> Rows<'a> + Sync),
    ) -> Result<(), ModelError> {
        let (rows, frames, channels, line) = (out.rows, out.frames, out.channels, out.line());
        let parts = Parts::new(out.data_mut(), line);
        context.run(rows, |row, scratch| {
            let padded = parts.take(row + PAD);
            let inner = &mut padded[PAD * channels..(PAD + frames) * channels];
            self.conv.multiply(windows(row), frames, inner, channels);
            act::gelu(inner);
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
            context.run(pieces, |i, _| {
                let part = parts.take(i);
                let windows = Rows {
                    data: input.data(),
                    start: STRIDE * i * PIECE * self.inputs,
                    stride: STRIDE * self.inputs,
                    segments: &[0],
                    segment_len: KERNEL * self.inputs,
                };
                self.conv
                    .multiply(windows, part.len() / channels, part, channels);
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
fn rewrite_in_place(
    rewrite: &Packed,
    x: &mut [f32],
    channels: usize,
    buffer: &mut super::work::Buffer,
) {
    let y = buffer.get(BLOCK_ROWS * 2 * channels);
    for x in x.chunks_mut(BLOCK_ROWS * channels) {
        let count = x.len() / channels;
        let y = &mut y[..count * 2 * channels];
        rewrite.multiply(Rows::plain(x, channels, channels), count, y, 2 * channels);
        act::glu(y, channels, x);
    }
}
