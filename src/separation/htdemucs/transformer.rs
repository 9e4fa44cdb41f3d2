// [worker] The cross-domain transformer between the way down and the way up.
//
// Tokens of the spectral branch are `[bins · frames][width]` in the order of the planes; attention and the
// norms over all tokens don't depend on it.

use std::sync::{Mutex, PoisonError};

use super::{
    ModelError,
    dconv::EPSILON,
    hyper::Hyper,
    weights::{Part, Scope},
    work::{Context, Scratch},
};
use crate::dense::{
    act,
    aligned::{Aligned, Buffer},
    gemm::{BLOCK_ROWS, Into, Packed, Rows, SKEW},
    norm::{Moments, group_affine, layer_norm},
    pool::Parts,
    strassen::{Linear, ROWS},
};

/// `[tokens][width]`.
pub struct Tokens {
    pub data: Aligned,
    pub count: usize,
    pub width: usize,
}

impl Tokens {
    pub fn new(count: usize, width: usize) -> Self {
        Self {
            data: Aligned::zeroed(count * width),
            count,
            width,
        }
    }
}

pub struct Transformer {
    norm_in: Option<[Affine; 2]>,
    /// Per layer: the spectral branch's and the time branch's.
    layers: Vec<[Layer; 2]>,
    cross_first: bool,
    heads: usize,
    width: usize,
    max_period: f64,
    position_weight: f32,
}

/// Weight and bias of a norm.
struct Affine {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

struct Layer {
    queries: Linear,
    keys: Linear,
    values: Linear,
    out: Linear,
    norm_queries: Affine,
    /// Of the other branch's tokens; none where a branch attends to itself.
    norm_keys: Option<Affine>,
    norm_feed: Affine,
    /// Slices of the hidden values, and what each adds to the result, so that they stay in the second cache.
    feed: Vec<(Linear, Linear)>,
    gamma_attention: Vec<f32>,
    gamma_feed: Vec<f32>,
    norm_out: Affine,
}

/// Keys and values of one head, packed as right sides of products.
struct Head {
    /// `[head width][tokens]`, scaled.
    keys: Packed,
    /// `[tokens][head width]`.
    values: Packed,
}

/// Keys and values of all heads for a number of tokens, and where they are computed.
struct Memory {
    heads: Vec<Mutex<Head>>,
    keys: Aligned,
    values: Aligned,
}

impl Memory {
    fn new(tokens: usize, width: usize, heads: usize) -> Self {
        let head = width / heads;
        Self {
            heads: (0..heads)
                .map(|_| {
                    Mutex::new(Head {
                        keys: Packed::zeroed(head, tokens),
                        values: Packed::zeroed(tokens, head),
                    })
                })
                .collect(),
            keys: Aligned::zeroed(tokens * width),
            values: Aligned::zeroed(tokens * width),
        }
    }
}

/// What the transformer keeps between passes: one memory a branch.
pub struct Room {
    memories: [Memory; 2],
}

impl Affine {
    fn load(scope: &Scope<'_>, width: usize) -> Result<Self, ModelError> {
        Ok(Self {
            weight: scope.get("weight", &[width])?,
            bias: scope.get("bias", &[width])?,
        })
    }

    fn rows(&self, x: &[f32], to: &mut [f32], to_stride: usize) {
        let width = self.weight.len();
        for (x, to) in x.chunks_exact(width).zip(to.chunks_mut(to_stride)) {
            layer_norm(x, EPSILON, &self.weight, &self.bias, &mut to[..width]);
        }
    }
}

impl Layer {
    fn load(scope: &Scope<'_>, cross: bool, hyper: &Hyper) -> Result<Self, ModelError> {
        let (width, hidden) = (hyper.transformer_channels(), hyper.hidden_channels());
        let attention = scope.at(if cross { "cross_attn" } else { "self_attn" });
        let (shape, bias_shape) = ([3 * width, width], [3 * width]);
        let weight = attention.once("in_proj_weight", &shape);
        let bias = attention.once("in_proj_bias", &bias_shape);
        let projection = |i: usize, name: &str| {
            attention.blocks(name, width, width, || {
                Ok(Part {
                    weight: weight.get()?,
                    inputs: width,
                    first: (i * width, 0),
                    bias: &bias.get()?[i * width..(i + 1) * width],
                })
            })
        };
        let out = attention.at("out_proj");
        let (shape, bias_shape) = ([width, width], [width]);
        let (out_weight, out_bias) = (out.once("weight", &shape), out.once("bias", &bias_shape));
        let slice = if hidden.is_multiple_of(width) {
            width
        } else {
            hidden
        };
        let (linear1, linear2) = (scope.at("linear1"), scope.at("linear2"));
        let (shape1, shape2, hidden_shape) = ([hidden, width], [width, hidden], [hidden]);
        let (weight1, weight2) = (
            linear1.once("weight", &shape1),
            linear2.once("weight", &shape2),
        );
        let (bias1, bias2) = (
            linear1.once("bias", &hidden_shape),
            linear2.once("bias", &bias_shape),
        );
        let feed = (0..hidden)
            .step_by(slice)
            .map(|first| {
                let name = format!("from{first}");
                let widen = linear1.blocks(&name, width, slice, || {
                    Ok(Part {
                        weight: weight1.get()?,
                        inputs: width,
                        first: (first, 0),
                        bias: &bias1.get()?[first..first + slice],
                    })
                })?;
                let narrow = linear2.blocks(&name, slice, width, || {
                    Ok(Part {
                        weight: weight2.get()?,
                        inputs: hidden,
                        first: (0, first),
                        bias: if first == 0 { bias2.get()? } else { &[] },
                    })
                })?;
                Ok((widen, narrow))
            })
            .collect::<Result<_, ModelError>>()?;
        Ok(Self {
            queries: projection(0, "queries")?,
            keys: projection(1, "keys")?,
            values: projection(2, "values")?,
            out: out.blocks("blocks", width, width, || {
                Ok(Part {
                    weight: out_weight.get()?,
                    inputs: width,
                    first: (0, 0),
                    bias: out_bias.get()?,
                })
            })?,
            norm_queries: Affine::load(&scope.at("norm1"), width)?,
            norm_keys: cross
                .then(|| Affine::load(&scope.at("norm2"), width))
                .transpose()?,
            norm_feed: Affine::load(&scope.at(if cross { "norm3" } else { "norm2" }), width)?,
            feed,
            gamma_attention: scope.at("gamma_1").get("scale", &[width])?,
            gamma_feed: scope.at("gamma_2").get("scale", &[width])?,
            norm_out: Affine::load(&scope.at("norm_out"), width)?,
        })
    }

    fn bytes(&self) -> usize {
        [&self.queries, &self.keys, &self.values, &self.out]
            .into_iter()
            .chain(self.feed.iter().flat_map(|(widen, narrow)| [widen, narrow]))
            .map(Linear::bytes)
            .sum()
    }

    /// Keys and values of `tokens`, into `memory`.
    fn remember(
        &self,
        tokens: &Tokens,
        memory: &mut Memory,
        context: &Context<'_>,
    ) -> Result<(), ModelError> {
        let width = tokens.width;
        let norm = self.norm_keys.as_ref().unwrap_or(&self.norm_queries);
        {
            let keys = Parts::new(&mut memory.keys, ROWS * width);
            let values = Parts::new(&mut memory.values, ROWS * width);
            context.run(tokens.count.div_ceil(ROWS), |i, scratch| {
                let (keys, values) = (keys.take(i), values.take(i));
                let count = keys.len() / width;
                let stride = width + SKEW;
                let x = &tokens.data[i * ROWS * width..][..count * width];
                let normal = scratch.a.get(ROWS * stride);
                norm.rows(x, normal, stride);
                for (layer, to) in [(&self.keys, keys), (&self.values, values)] {
                    let blocks = &mut scratch.blocks;
                    let rows = Rows::plain(normal, width, stride);
                    layer.multiply_into(rows, count, to, width, Into::Replace, blocks);
                }
            })?;
        }
        let (keys, values) = (&memory.keys, &memory.values);
        context.run(memory.heads.len(), |i, _| {
            let mut head = memory.heads[i]
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let size = head.keys.depth();
            let scale = 1.0 / (size as f32).sqrt();
            head.keys.fill_columns(&keys[i * size..], width, scale);
            head.values.fill_rows(&values[i * size..], width);
        })
    }

    /// The layer on `tokens`, attending to `memory`.
    fn apply(
        &self,
        tokens: &mut Tokens,
        memory: &mut Memory,
        context: &Context<'_>,
    ) -> Result<(), ModelError> {
        let (count, width) = (tokens.count, tokens.width);
        let heads: Vec<&Head> = memory
            .heads
            .iter_mut()
            .map(|head| &*head.get_mut().unwrap_or_else(PoisonError::into_inner))
            .collect();
        let blocks = count.div_ceil(ROWS);
        let moments = Mutex::new(vec![Moments::default(); blocks]);
        {
            let parts = Parts::new(&mut tokens.data, ROWS * width);
            context.run(blocks, |i, scratch| {
                let x = parts.take(i);
                self.attend(x, &heads, scratch);
                self.feed(x, scratch);
                let found = Moments::of(x);
                moments.lock().unwrap_or_else(PoisonError::into_inner)[i] = found;
            })?;
        }
        let moments = moments
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .into_iter()
            .fold(Moments::default(), Moments::and);
        let (mut gain, mut shift) = (vec![0.0; width], vec![0.0; width]);
        group_affine(
            &moments,
            EPSILON,
            &self.norm_out.weight,
            &self.norm_out.bias,
            &mut gain,
            &mut shift,
        );
        let parts = Parts::new(&mut tokens.data, ROWS * width);
        context.run(blocks, |i, _| act::affine(parts.take(i), &gain, &shift))
    }

    /// Attention of a block of tokens, with its residual.
    fn attend(&self, x: &mut [f32], heads: &[&Head], scratch: &mut Scratch) {
        let width = self.queries.depth();
        let count = x.len() / width;
        let stride = width + SKEW;
        let blocks = &mut scratch.blocks;
        let normal = scratch.a.get(2 * ROWS * stride);
        let (normal, queries) = normal.split_at_mut(ROWS * stride);
        self.norm_queries.rows(x, normal, stride);
        let (rows, into) = (Rows::plain(normal, width, stride), Into::Replace);
        self.queries
            .multiply_into(rows, count, queries, stride, into, blocks);
        // The normalised tokens are needed no more: what the heads say takes their place.
        let said = normal;
        for first in (0..count).step_by(BLOCK_ROWS) {
            let count = BLOCK_ROWS.min(count - first);
            let (queries, said) = (&queries[first * stride..], &mut said[first * stride..]);
            ask(heads, queries, count, stride, said, &mut scratch.b);
        }
        let y = scratch.c.get(ROWS * width);
        let rows = Rows::plain(said, width, stride);
        self.out.multiply_into(rows, count, y, width, into, blocks);
        for (x, y) in x.chunks_exact_mut(width).zip(y.chunks_exact(width)) {
            act::scaled_onto(y, &self.gamma_attention, x);
        }
    }

    /// The feed-forward half of a block of tokens, with its residual.
    fn feed(&self, x: &mut [f32], scratch: &mut Scratch) {
        let width = self.queries.depth();
        let count = x.len() / width;
        let stride = width + SKEW;
        let blocks = &mut scratch.blocks;
        let normal = scratch.a.get(ROWS * stride);
        self.norm_feed.rows(x, normal, stride);
        let y = scratch.c.get(ROWS * width);
        let mut into = Into::Replace;
        for (widen, narrow) in &self.feed {
            let slice = widen.columns();
            let h_stride = slice.next_multiple_of(16) + SKEW;
            let h = scratch.b.get(ROWS * h_stride);
            let rows = Rows::plain(normal, width, stride);
            widen.multiply_into(rows, count, h, h_stride, Into::Replace, blocks);
            for row in h.chunks_mut(h_stride).take(count) {
                act::gelu(&mut row[..slice]);
            }
            let rows = Rows::plain(h, slice, h_stride);
            narrow.multiply_into(rows, count, y, width, into, blocks);
            into = Into::Add;
        }
        for (x, y) in x.chunks_exact_mut(width).zip(y.chunks_exact(width)) {
            act::scaled_onto(y, &self.gamma_feed, x);
        }
    }
}

/// What all heads say to `count` queries, at most [`BLOCK_ROWS`]: the scores of so many stay in the second cache.
/// Rows of `queries` and `said` are `stride` apart.
fn ask(
    heads: &[&Head],
    queries: &[f32],
    count: usize,
    stride: usize,
    said: &mut [f32],
    scores: &mut Buffer,
) {
    let tokens = heads[0].keys.columns();
    let score_stride = tokens.next_multiple_of(16) + SKEW;
    let scores = scores.get(BLOCK_ROWS * score_stride);
    for (h, head) in heads.iter().enumerate() {
        let size = head.keys.depth();
        let rows = Rows {
            start: h * size,
            ..Rows::plain(queries, size, stride)
        };
        head.keys.multiply(rows, count, scores, score_stride);
        let mut inverse = [0.0f32; BLOCK_ROWS];
        for (row, inverse) in scores
            .chunks_mut(score_stride)
            .zip(&mut inverse)
            .take(count)
        {
            *inverse = act::softmax_unscaled(&mut row[..tokens]);
        }
        let rows = Rows::plain(scores, tokens, score_stride);
        head.values
            .multiply(rows, count, &mut said[h * size..], stride);
        for (row, inverse) in said.chunks_mut(stride).zip(&inverse).take(count) {
            for x in &mut row[h * size..(h + 1) * size] {
                *x *= inverse;
            }
        }
    }
}

impl Transformer {
    pub fn load(scope: &Scope<'_>, hyper: &Hyper) -> Result<Self, ModelError> {
        let width = hyper.transformer_channels();
        let norm_in = if hyper.t_norm_in {
            Some([
                Affine::load(&scope.at("norm_in"), width)?,
                Affine::load(&scope.at("norm_in_t"), width)?,
            ])
        } else {
            None
        };
        let layers = (0..hyper.t_layers)
            .map(|i| {
                let cross = is_cross(i, hyper.t_cross_first);
                Ok([
                    Layer::load(&scope.at(&format!("layers.{i}")), cross, hyper)?,
                    Layer::load(&scope.at(&format!("layers_t.{i}")), cross, hyper)?,
                ])
            })
            .collect::<Result<_, ModelError>>()?;
        Ok(Self {
            norm_in,
            layers,
            cross_first: hyper.t_cross_first,
            heads: hyper.t_heads,
            width,
            max_period: hyper.t_max_period,
            position_weight: hyper.t_weight_pos_embed,
        })
    }

    pub fn bytes(&self) -> usize {
        self.layers.iter().flatten().map(Layer::bytes).sum()
    }

    pub fn room(&self, tokens: [usize; 2]) -> Room {
        Room {
            memories: tokens.map(|count| Memory::new(count, self.width, self.heads)),
        }
    }

    /// Runs all layers on the tokens of the spectral branch, `bins` rows of frames, and of the time branch.
    /// `seen(layer, x)` is called after each.
    pub fn forward(
        &self,
        x: &mut Tokens,
        xt: &mut Tokens,
        bins: usize,
        room: &mut Room,
        context: &Context<'_>,
        seen: &mut dyn FnMut(usize, &Tokens),
    ) -> Result<(), ModelError> {
        self.enter(x, xt, bins, context)?;
        let [memory, memory_t] = &mut room.memories;
        for (i, [layer, layer_t]) in self.layers.iter().enumerate() {
            // Both memories are made before either branch changes.
            if is_cross(i, self.cross_first) {
                layer.remember(xt, memory_t, context)?;
                layer_t.remember(x, memory, context)?;
                layer.apply(x, memory_t, context)?;
                layer_t.apply(xt, memory, context)?;
            } else {
                layer.remember(x, memory, context)?;
                layer_t.remember(xt, memory_t, context)?;
                layer.apply(x, memory, context)?;
                layer_t.apply(xt, memory_t, context)?;
            }
            seen(i, x);
        }
        Ok(())
    }

    /// The norms at the entrance, and the positions.
    fn enter(
        &self,
        x: &mut Tokens,
        xt: &mut Tokens,
        bins: usize,
        context: &Context<'_>,
    ) -> Result<(), ModelError> {
        let width = self.width;
        let frames = x.count / bins.max(1);
        let table = |count: usize| plane_table(count, width, self.max_period);
        let (by_frame, by_bin) = (table(frames), table(bins));
        let enter = |branch: usize, row: &mut [f32], scratch: &mut Scratch| {
            if let Some(norms) = &self.norm_in {
                let norm = &norms[branch];
                let copy = scratch.a.get(width);
                copy.copy_from_slice(row);
                layer_norm(copy, EPSILON, &norm.weight, &norm.bias, row);
            }
        };
        let parts = Parts::new(&mut x.data, frames * width);
        context.run(bins, |bin, scratch| {
            for (frame, row) in parts.take(bin).chunks_exact_mut(width).enumerate() {
                enter(0, row, scratch);
                let (first, second) = row.split_at_mut(width / 2);
                let tables = [(first, &by_frame, frame), (second, &by_bin, bin)];
                for (half, table, at) in tables {
                    let table = &table[at * half.len()..][..half.len()];
                    for (x, position) in half.iter_mut().zip(table) {
                        *x += self.position_weight * position;
                    }
                }
            }
        })?;
        let parts = Parts::new(&mut xt.data, BLOCK_ROWS * width);
        context.run(xt.count.div_ceil(BLOCK_ROWS), |i, scratch| {
            for (n, row) in parts.take(i).chunks_exact_mut(width).enumerate() {
                enter(1, row, scratch);
                let (first, second) = row.split_at_mut(width / 2);
                let pairs = line_row(i * BLOCK_ROWS + n, width, self.max_period);
                for ((x, y), (cos, sin)) in first.iter_mut().zip(second).zip(pairs) {
                    *x += self.position_weight * cos;
                    *y += self.position_weight * sin;
                }
            }
        })
    }
}

/// Sines and cosines by turns of positions `0..count` in a plane, `[count][width / 2]`.
pub fn plane_table(count: usize, width: usize, max_period: f64) -> Vec<f32> {
    let half = width / 2;
    let log_period = max_period.ln();
    let mut table = vec![0.0; count * half];
    for (at, row) in table.chunks_exact_mut(half).enumerate() {
        for (k, pair) in row.chunks_exact_mut(2).enumerate() {
            let rate = (-(2.0 * k as f64) * log_period / half as f64).exp();
            let phase = at as f64 * rate;
            pair[0] = phase.sin() as f32;
            pair[1] = phase.cos() as f32;
        }
    }
    table
}

/// Cosines and sines of a position on a line, `width / 2` pairs: the cosines belong to the first half of the width.
pub fn line_row(at: usize, width: usize, max_period: f64) -> impl Iterator<Item = (f32, f32)> {
    let half = width / 2;
    (0..half).map(move |k| {
        let exponent = k as f64 / (half as f64 - 1.0).max(1.0);
        let phase = at as f64 / max_period.powf(exponent);
        (phase.cos() as f32, phase.sin() as f32)
    })
}

/// Whether layer `index` attends to the other branch: every other one does.
pub fn is_cross(index: usize, cross_first: bool) -> bool {
    (index % 2 == 1) != cross_first
}
