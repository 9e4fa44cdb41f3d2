// [worker] The inner levels of Hybrid Demucs (v3), where both branches are one sequence.
//!
//! Défossez, "Hybrid Spectrogram and Waveform Source Separation" (2021): below the levels that
//! [`super::encoder`] and [`super::decoder`] do, the last rows of the spectrum become one, the time branch is
//! added, and one more level halves the time. These levels are normalised in groups, and their residual
//! branches hold a recurrent layer and local attention. The released `hdemucs_mmi` is such a network.

use super::{
    ModelError,
    dconv::EPSILON,
    hyper::{Hyper, KERNEL, STRIDE},
    recurrent::Branch,
    weights::Scope,
    work::{Context, Line, PAD, Plane},
};
use crate::dense::{
    act,
    gemm::{Packed, Rows},
    norm::{Moments, group_affine},
    pool::Parts,
};

/// Positions of a task.
const PIECE: usize = 48;
/// Stride of the innermost level.
const INNER_STRIDE: usize = 2;

/// The inner levels.
pub struct Merged {
    /// All rows of a frame of the spectral branch to one, and four positions of the time branch to one.
    merge: Packed,
    merge_t: Packed,
    outer: Level,
    inner_conv: Packed,
    inner: Level,
    inner_up: Rise,
    inner_transposed: Packed,
    outer_up: Rise,
    /// One row back to all of them, and one position to four.
    split: Packed,
    split_norm: Group,
    split_t: Packed,
    split_t_norm: Group,
    /// Channels below these levels, of the outer and of the inner one.
    channels: [usize; 3],
}

/// What follows a level's convolution.
struct Level {
    norm: Group,
    branches: Vec<Branch>,
    rewrite: Packed,
    norm_rewrite: Group,
}

/// What precedes a level's transposed convolution, and the norm that follows it.
struct Rise {
    rewrite: Packed,
    norm_rewrite: Group,
    norm: Option<Group>,
}

/// A group normalisation over everything that belongs to a group of channels.
pub struct Group {
    weight: Vec<f32>,
    bias: Vec<f32>,
    groups: usize,
}

impl Group {
    pub fn load(scope: &Scope<'_>, channels: usize, groups: usize) -> Result<Self, ModelError> {
        Ok(Self {
            weight: scope.get("weight", &[channels])?,
            bias: scope.get("bias", &[channels])?,
            groups,
        })
    }

    /// Gain and shift of every channel of `x`, `[positions][channels]`.
    pub fn affine(&self, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let channels = self.weight.len();
        let width = channels / self.groups;
        let mut moments = vec![Moments::default(); self.groups];
        for row in x.chunks_exact(channels) {
            for (moments, part) in moments.iter_mut().zip(row.chunks_exact(width)) {
                *moments = moments.and(Moments::of(part));
            }
        }
        let (mut gain, mut shift) = (vec![0.0; channels], vec![0.0; channels]);
        for (g, moments) in moments.iter().enumerate() {
            let part = g * width..(g + 1) * width;
            let (weight, bias) = (&self.weight[part.clone()], &self.bias[part.clone()]);
            let (gain, shift) = (&mut gain[part.clone()], &mut shift[part]);
            group_affine(moments, EPSILON, weight, bias, gain, shift);
        }
        (gain, shift)
    }

    fn apply(&self, x: &mut [f32]) {
        let (gain, shift) = self.affine(x);
        act::affine(x, &gain, &shift);
    }

    fn apply_gelu(&self, x: &mut [f32]) {
        let (gain, shift) = self.affine(x);
        act::affine_gelu(x, &gain, &shift);
    }
}

/// `out` is `[positions][columns]`: the product of these rows, on all threads.
pub fn product(
    packed: &Packed,
    rows: Rows<'_>,
    out: &mut [f32],
    context: &Context<'_>,
) -> Result<(), ModelError> {
    let columns = packed.columns();
    let pieces = out.len().div_ceil(PIECE * columns);
    let parts = Parts::new(out, PIECE * columns);
    context.run(pieces, |i, _| {
        let part = parts.take(i);
        let count = part.len() / columns;
        packed.multiply(rows.skip(i * PIECE), count, part, columns);
    })
}

impl Level {
    fn load(
        scope: &Scope<'_>,
        channels: usize,
        axes: usize,
        hyper: &Hyper,
    ) -> Result<Self, ModelError> {
        let groups = hyper.norm_groups;
        Ok(Self {
            norm: Group::load(&scope.at("norm1"), channels, groups)?,
            branches: (0..hyper.dconv_depth)
                .map(|i| {
                    let at = scope.at(&format!("dconv.layers.{i}"));
                    Branch::load(&at, channels, 1 << i, hyper)
                })
                .collect::<Result<_, _>>()?,
            rewrite: scope.at("rewrite").linear(channels, 2 * channels, axes)?,
            norm_rewrite: Group::load(&scope.at("norm2"), 2 * channels, groups)?,
        })
    }

    /// Norm, GELU, residual branches and gated rewrite of `x`.
    fn finish(&self, x: &mut Line, context: &Context<'_>) -> Result<(), ModelError> {
        self.norm.apply_gelu(x.inner_mut());
        for branch in &self.branches {
            branch.add(x, context)?;
        }
        let channels = x.channels;
        let mut y = vec![0.0; x.len * 2 * channels];
        product(
            &self.rewrite,
            Rows::plain(x.inner(), channels, channels),
            &mut y,
            context,
        )?;
        self.norm_rewrite.apply(&mut y);
        act::glu(&y, channels, x.inner_mut());
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.rewrite.bytes() + self.branches.iter().map(Branch::bytes).sum::<usize>()
    }
}

impl Rise {
    /// Gated rewrite over neighbours.
    fn gated(&self, x: &mut Line, context: &Context<'_>) -> Result<(), ModelError> {
        let channels = x.channels;
        let mut y = vec![0.0; x.len * 2 * channels];
        let windows = Rows {
            data: x.data(),
            start: (PAD - 1) * channels,
            stride: channels,
            segments: &[0],
            segment_len: 3 * channels,
        };
        product(&self.rewrite, windows, &mut y, context)?;
        self.norm_rewrite.apply(&mut y);
        act::glu(&y, channels, x.inner_mut());
        Ok(())
    }
}

impl Merged {
    /// # Errors
    /// If a tensor is missing, misshapen or not finite.
    pub fn load(root: &Scope<'_>, hyper: &Hyper) -> Result<Self, ModelError> {
        let depth = hyper.depth;
        let below = hyper.encoder_channels(depth - 1);
        let (outer, inner) = (
            hyper.encoder_channels(depth),
            hyper.encoder_channels(depth + 1),
        );
        let groups = hyper.norm_groups;
        let scope = |name: &str, at: usize| root.at(&format!("{name}.{at}"));
        let (encoder, encoder_in) = (scope("encoder", depth), scope("encoder", depth + 1));
        let (decoder_in, decoder) = (scope("decoder", 0), scope("decoder", 1));
        let rise = |scope: &Scope<'_>, rewrite, channels: usize, norm| {
            Ok::<_, ModelError>(Rise {
                rewrite,
                norm_rewrite: Group::load(&scope.at("norm1"), 2 * channels, groups)?,
                norm,
            })
        };
        // The outer level has one row: of the rewrite's three rows only the middle one meets it.
        let rewrite = decoder.at("rewrite");
        let outer_rewrite = rewrite.packed("middle", 3 * outer, 2 * outer, |raw| {
            let weight = raw.get("weight", &[2 * outer, outer, 3, 3])?;
            let bias = raw.get("bias", &[2 * outer])?;
            Ok(Packed::new(3 * outer, 2 * outer, &bias, |k, j| {
                weight[(j * outer + k % outer) * 9 + 3 + k / outer]
            }))
        })?;
        let transposed = decoder.at("conv_tr");
        let split = transposed.packed("split", outer, KERNEL * below, |raw| {
            let weight = raw.get("weight", &[outer, below, KERNEL, 1])?;
            let tiled = raw.get("bias", &[below])?.repeat(KERNEL);
            Ok(Packed::new(outer, KERNEL * below, &tiled, |k, j| {
                weight[(k * below + j % below) * KERNEL + j / below]
            }))
        })?;
        let narrow = scope("tdecoder", 0);
        let inner_norm = Group::load(&decoder_in.at("norm2"), outer, groups)?;
        Ok(Self {
            merge: encoder.at("conv").convolution(below, outer, &[KERNEL, 1])?,
            merge_t: scope("tencoder", depth)
                .at("conv")
                .convolution(below, outer, &[KERNEL])?,
            outer: Level::load(&encoder, outer, 2, hyper)?,
            inner_conv: encoder_in
                .at("conv")
                .convolution(outer, inner, &[2 * INNER_STRIDE])?,
            inner: Level::load(&encoder_in, inner, 1, hyper)?,
            inner_up: rise(
                &decoder_in,
                decoder_in
                    .at("rewrite")
                    .convolution(inner, 2 * inner, &[3])?,
                inner,
                Some(inner_norm),
            )?,
            inner_transposed: decoder_in
                .at("conv_tr")
                .transposed(inner, outer, INNER_STRIDE, 0)?,
            outer_up: rise(&decoder, outer_rewrite, outer, None)?,
            split,
            split_norm: Group::load(&decoder.at("norm2"), below, groups)?,
            split_t: narrow.at("conv_tr").transposed(outer, below, STRIDE, 0)?,
            split_t_norm: Group::load(&narrow.at("norm2"), below, groups)?,
            channels: [below, outer, inner],
        })
    }

    pub fn bytes(&self) -> usize {
        let own = [
            &self.merge,
            &self.merge_t,
            &self.inner_conv,
            &self.inner_up.rewrite,
            &self.inner_transposed,
            &self.outer_up.rewrite,
            &self.split,
            &self.split_t,
        ];
        own.iter().map(|p| p.bytes()).sum::<usize>() + self.outer.bytes() + self.inner.bytes()
    }

    /// Down and up again. What comes up is added to the deepest skip connections, which are the input. `see`
    /// gets the reference's names with `[positions][channels]`.
    pub fn forward(
        &self,
        skip: &mut Plane,
        skip_t: &mut Line,
        context: &Context<'_>,
        see: &mut dyn FnMut(&str, &[f32], usize),
    ) -> Result<(), ModelError> {
        let [below, outer, inner] = self.channels;
        let frames = skip.frames;
        let mut x = Line::new(frames, outer);
        let line = skip.line();
        let rows: [usize; KERNEL] = std::array::from_fn(|row| row * line);
        let all_rows = Rows {
            data: skip.data(),
            start: PAD * (line + below),
            stride: below,
            segments: &rows,
            segment_len: below,
        };
        product(&self.merge, all_rows, x.inner_mut(), context)?;
        let windows = Rows {
            data: skip_t.data(),
            start: 0,
            stride: STRIDE * below,
            segments: &[0],
            segment_len: KERNEL * below,
        };
        let mut injected = vec![0.0; frames * outer];
        product(&self.merge_t, windows, &mut injected, context)?;
        act::onto(&injected, x.inner_mut());
        drop(injected);
        self.outer.finish(&mut x, context)?;
        see("encoder", x.inner(), outer);

        let mut deep = Line::new(frames.div_ceil(INNER_STRIDE), inner);
        let windows = Rows {
            data: x.data(),
            start: (PAD - 1) * outer,
            stride: INNER_STRIDE * outer,
            segments: &[0],
            segment_len: 2 * INNER_STRIDE * outer,
        };
        product(&self.inner_conv, windows, deep.inner_mut(), context)?;
        self.inner.finish(&mut deep, context)?;
        see("encoder_in", deep.inner(), inner);

        // Up: nothing but the skip connection comes from below.
        self.inner_up.gated(&mut deep, context)?;
        let mut up = self.transposed(&self.inner_transposed, &deep, outer, context)?;
        if let Some(norm) = &self.inner_up.norm {
            norm.apply_gelu(&mut up);
        }
        let kept = &up[outer..][..frames * outer];
        see("decoder_in", kept, outer);
        act::onto(kept, x.inner_mut());
        drop(up);
        self.outer_up.gated(&mut x, context)?;

        let mut up_t = self.transposed(&self.split_t, &x, below, context)?;
        self.split_t_norm.apply_gelu(&mut up_t);
        let kept = &up_t[PAD * below..][..skip_t.len * below];
        see("tdecoder", kept, below);
        act::onto(kept, skip_t.inner_mut());

        // `[frames][rows][channels]`: the norm is one over everything, so that the order doesn't matter to it.
        let mut up = vec![0.0; frames * KERNEL * below];
        product(
            &self.split,
            Rows::plain(x.inner(), outer, outer),
            &mut up,
            context,
        )?;
        self.split_norm.apply_gelu(&mut up);
        see("decoder", &up, KERNEL * below);
        let up = &up;
        let parts = Parts::new(skip.data_mut(), line);
        context.run(KERNEL, |row, _| {
            let to = &mut parts.take(row + PAD)[PAD * below..][..frames * below];
            for (to, from) in to
                .chunks_exact_mut(below)
                .zip(up.chunks_exact(KERNEL * below))
            {
                act::onto(&from[row * below..][..below], to);
            }
        })
    }

    /// All outputs of a transposed convolution, those that the reference cuts off too: its norm counts them.
    fn transposed(
        &self,
        packed: &Packed,
        x: &Line,
        outputs: usize,
        context: &Context<'_>,
    ) -> Result<Vec<f32>, ModelError> {
        let mut out = vec![0.0; (x.len + 1) * packed.columns()];
        debug_assert!(packed.columns().is_multiple_of(outputs));
        let pairs = Rows {
            data: x.data(),
            start: (PAD - 1) * x.channels,
            stride: x.channels,
            segments: &[0],
            segment_len: 2 * x.channels,
        };
        product(packed, pairs, &mut out, context)?;
        Ok(out)
    }
}
