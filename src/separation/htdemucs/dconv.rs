// [worker] The residual branches of an encoder or decoder: dilated convolutions through a narrow middle.
//
// A branch is: convolution of 3 taps to a few hidden channels, normalisation over everything, GELU, one
// linear layer to twice the channels, normalisation, gate, scale, residual. The second normalisation's
// statistics follow from the hidden channels' sums and products, so that its wide input is computed once,
// gated at once and never stored.

use std::sync::Mutex;

use super::{
    ModelError,
    hyper::Hyper,
    weights::Scope,
    work::{Context, Line, PAD, Scratch},
};
use crate::dense::{
    act,
    aligned::Buffer,
    gemm::{BLOCK_ROWS, Packed, Rows},
    norm::{Moments, group_affine},
    pool::Parts,
};

/// Epsilon of every normalisation.
pub const EPSILON: f64 = 1e-5;
/// Positions of a task on long sequences. Part of the results: statistics are added by these pieces.
pub const PIECE: usize = 1024;
/// The affine of the hidden channels is repeated so that its rows fill vectors.
const REPEAT: usize = 16;

pub struct DConv {
    branches: Vec<Branch>,
    channels: usize,
    hidden: usize,
}

struct Branch {
    dilation: usize,
    inner: Packed,
    inner_weight: Vec<f32>,
    inner_bias: Vec<f32>,
    outer: Packed,
    outer_weight: Vec<f32>,
    outer_bias: Vec<f32>,
    scale: Vec<f32>,
    products: Products,
}

/// What the second normalisation's statistics need of the outer layer `y = W h + b`.
struct Products {
    /// Wᵀ W, `[hidden][hidden]`.
    square: Vec<f64>,
    /// The sum of W's rows, and of its rows times their bias.
    sum: Vec<f64>,
    biased: Vec<f64>,
    bias_sum: f64,
    bias_squares: f64,
}

/// Sums over positions of the hidden channels and of their products with each other.
#[derive(Clone)]
struct Gram {
    sums: Vec<f64>,
    /// `[hidden][hidden]`, the upper triangle.
    products: Vec<f64>,
}

impl Gram {
    fn of(h: &[f32], hidden: usize) -> Self {
        let mut gram = Self {
            sums: vec![0.0; hidden],
            products: vec![0.0; hidden * hidden],
        };
        let mut row = vec![0.0f64; hidden];
        for h in h.chunks_exact(hidden) {
            for (row, h) in row.iter_mut().zip(h) {
                *row = f64::from(*h);
            }
            for i in 0..hidden {
                let x = row[i];
                gram.sums[i] += x;
                let line = &mut gram.products[i * hidden + i..(i + 1) * hidden];
                for (sum, y) in line.iter_mut().zip(&row[i..]) {
                    *sum += x * y;
                }
            }
        }
        gram
    }

    fn add(&mut self, other: &Self) {
        for (a, b) in self.sums.iter_mut().zip(&other.sums) {
            *a += b;
        }
        for (a, b) in self.products.iter_mut().zip(&other.products) {
            *a += b;
        }
    }
}

impl Products {
    fn new(weight: &[f32], bias: &[f32], hidden: usize) -> Self {
        let mut products = Self {
            square: vec![0.0; hidden * hidden],
            sum: vec![0.0; hidden],
            biased: vec![0.0; hidden],
            bias_sum: 0.0,
            bias_squares: 0.0,
        };
        for (row, bias) in weight.chunks_exact(hidden).zip(bias) {
            let bias = f64::from(*bias);
            products.bias_sum += bias;
            products.bias_squares += bias * bias;
            for i in 0..hidden {
                let w = f64::from(row[i]);
                products.sum[i] += w;
                products.biased[i] += w * bias;
                for j in 0..hidden {
                    products.square[i * hidden + j] += w * f64::from(row[j]);
                }
            }
        }
        products
    }

    /// Moments of all outputs of the layer over `positions` positions with these hidden sums.
    fn moments(&self, gram: &Gram, positions: usize, outputs: usize) -> Moments {
        let hidden = self.sum.len();
        let count = positions as f64;
        let (mut sum, mut squares) = (count * self.bias_sum, count * self.bias_squares);
        for i in 0..hidden {
            sum += self.sum[i] * gram.sums[i];
            squares += 2.0 * self.biased[i] * gram.sums[i];
            squares += self.square[i * hidden + i] * gram.products[i * hidden + i];
            for j in i + 1..hidden {
                squares += 2.0 * self.square[i * hidden + j] * gram.products[i * hidden + j];
            }
        }
        Moments {
            count: count * outputs as f64,
            sum,
            squares,
        }
    }
}

impl DConv {
    pub fn load(scope: &Scope<'_>, channels: usize, hyper: &Hyper) -> Result<Self, ModelError> {
        Self::with_depth(scope, channels, hyper, hyper.dconv_depth)
    }

    /// With a number of branches, which may be none.
    pub fn with_depth(
        scope: &Scope<'_>,
        channels: usize,
        hyper: &Hyper,
        depth: usize,
    ) -> Result<Self, ModelError> {
        let hidden = hyper.dconv_channels(channels);
        let branches = (0..depth)
            .map(|i| {
                let at = scope.at(&format!("layers.{i}"));
                let outer_weights = at.at("3").get("weight", &[2 * channels, hidden, 1])?;
                let outer_biases = at.at("3").get("bias", &[2 * channels])?;
                Ok(Branch {
                    dilation: 1 << i,
                    inner: at.at("0").convolution(channels, hidden, &[3])?,
                    inner_weight: at.at("1").get("weight", &[hidden])?,
                    inner_bias: at.at("1").get("bias", &[hidden])?,
                    products: Products::new(&outer_weights, &outer_biases, hidden),
                    outer: at.at("3").linear(hidden, 2 * channels, 1)?,
                    outer_weight: at.at("4").get("weight", &[2 * channels])?,
                    outer_bias: at.at("4").get("bias", &[2 * channels])?,
                    scale: at.at("6").get("scale", &[channels])?,
                })
            })
            .collect::<Result<_, ModelError>>()?;
        Ok(Self {
            branches,
            channels,
            hidden,
        })
    }

    pub fn bytes(&self) -> usize {
        self.branches
            .iter()
            .map(|b| b.inner.bytes() + b.outer.bytes())
            .sum()
    }

    /// Adds the branches to a whole padded row, `[PAD + frames + PAD][channels]`.
    pub fn row(&self, row: &mut [f32], frames: usize, scratch: &mut Scratch) {
        let h = scratch.c.get(frames * self.hidden);
        for branch in &self.branches {
            branch.hidden(row, 0, frames, h);
            let (gain, shift) = branch.inner_affine(&Moments::of(h));
            act::affine_gelu(h, &gain, &shift);
            let gram = Gram::of(h, self.hidden);
            let (gain, shift) = branch.outer_affine(&gram, frames);
            let inner = &mut row[PAD * self.channels..(PAD + frames) * self.channels];
            let y = &mut scratch.d;
            branch.gate(h, &gain, &shift, inner, y);
        }
    }

    /// Adds the branches to a long sequence, on all threads. `h` holds at least the sequence's length times
    /// the hidden channels.
    pub fn line(
        &self,
        line: &mut Line,
        h: &mut [f32],
        context: &Context<'_>,
    ) -> Result<(), ModelError> {
        let (len, channels, hidden) = (line.len, self.channels, self.hidden);
        let pieces = len.div_ceil(PIECE);
        let h = &mut h[..len * hidden];
        for branch in &self.branches {
            let moments = Mutex::new(vec![Moments::default(); pieces]);
            {
                let parts = Parts::new(h, PIECE * hidden);
                let data = line.data();
                context.run(pieces, |i, _| {
                    let h = parts.take(i);
                    branch.hidden(data, i * PIECE, h.len() / hidden, h);
                    let found = Moments::of(h);
                    set(&moments, i, found);
                })?;
            }
            let (gain, shift) = branch.inner_affine(
                &values(moments)
                    .into_iter()
                    .fold(Moments::default(), Moments::and),
            );
            let grams = Mutex::new(vec![None; pieces]);
            {
                let parts = Parts::new(h, PIECE * hidden);
                context.run(pieces, |i, _| {
                    let h = parts.take(i);
                    act::affine_gelu(h, &gain, &shift);
                    let found = Gram::of(h, hidden);
                    set(&grams, i, Some(found));
                })?;
            }
            let mut gram = Gram {
                sums: vec![0.0; hidden],
                products: vec![0.0; hidden * hidden],
            };
            for part in values(grams).iter().flatten() {
                gram.add(part);
            }
            let (gain, shift) = branch.outer_affine(&gram, len);
            let parts = Parts::new(line.inner_mut(), PIECE * channels);
            let h = &*h;
            context.run(pieces, |i, scratch| {
                let x = parts.take(i);
                let h = &h[i * PIECE * hidden..][..x.len() / channels * hidden];
                let y = &mut scratch.d;
                branch.gate(h, &gain, &shift, x, y);
            })?;
        }
        Ok(())
    }
}

fn set<T>(values: &Mutex<Vec<T>>, index: usize, value: T) {
    values
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)[index] = value;
}

fn values<T>(values: Mutex<Vec<T>>) -> Vec<T> {
    values
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Branch {
    /// The hidden channels of positions `from..from + count` of a padded sequence.
    fn hidden(&self, padded: &[f32], from: usize, count: usize, h: &mut [f32]) {
        let channels = self.scale.len();
        let d = self.dilation * channels;
        let rows = Rows {
            data: padded,
            start: (PAD + from - self.dilation) * channels,
            stride: channels,
            segments: &[0, d, 2 * d],
            segment_len: channels,
        };
        self.inner.multiply(rows, count, h, self.inner.columns());
    }

    /// The first normalisation, repeated [`REPEAT`] times.
    fn inner_affine(&self, moments: &Moments) -> (Vec<f32>, Vec<f32>) {
        let n = self.inner_weight.len();
        let (mut gain, mut shift) = (vec![0.0; n], vec![0.0; n]);
        group_affine(
            moments,
            EPSILON,
            &self.inner_weight,
            &self.inner_bias,
            &mut gain,
            &mut shift,
        );
        (gain.repeat(REPEAT), shift.repeat(REPEAT))
    }

    fn outer_affine(&self, gram: &Gram, positions: usize) -> (Vec<f32>, Vec<f32>) {
        let n = self.outer_weight.len();
        let moments = self.products.moments(gram, positions, n);
        let (mut gain, mut shift) = (vec![0.0; n], vec![0.0; n]);
        group_affine(
            &moments,
            EPSILON,
            &self.outer_weight,
            &self.outer_bias,
            &mut gain,
            &mut shift,
        );
        (gain, shift)
    }

    /// The outer layer, its normalisation, the gate, the scale and the residual onto `x`.
    fn gate(&self, h: &[f32], gain: &[f32], shift: &[f32], x: &mut [f32], y: &mut Buffer) {
        let (hidden, channels) = (self.outer.depth(), self.scale.len());
        let y = y.get(BLOCK_ROWS * 2 * channels);
        for (h, x) in h
            .chunks(BLOCK_ROWS * hidden)
            .zip(x.chunks_mut(BLOCK_ROWS * channels))
        {
            let count = h.len() / hidden;
            let y = &mut y[..count * 2 * channels];
            self.outer
                .multiply(Rows::plain(h, hidden, hidden), count, y, 2 * channels);
            act::affine_glu_onto(y, gain, shift, &self.scale, x);
        }
    }
}
