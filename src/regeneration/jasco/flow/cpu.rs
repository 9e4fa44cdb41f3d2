// [worker] The flow transformer on the processor, with the dense kernels.
//
// Three things are done otherwise than written down in the paper's network, with the same result:
// - The time vector is added to every position of the text. In a layer's cross-attention it shifts all scores
//   of a query alike, which the softmax doesn't hear, and all values alike. So the text's part is computed
//   once a generation, and time contributes the vector Wo·Wv·τ to every frame: all that a row without text
//   hears.
// - The text is short. Its keys are multiplied with the query's projection and its values with the output
//   projection once a generation: heads × positions columns instead of two projections of the full width.
// - Frames pass in groups through everything between two attentions, and through the feed-forward in slices
//   of its hidden values, which so never leave the caches.

use std::sync::OnceLock;

use super::{Rows, Session, Trace, embed};
use crate::{
    dense::{
        act,
        aligned::Lent,
        gemm::{Into, Packed, Rows as Left, SKEW},
        norm,
        pool::{Parts, PerWorker, Pool},
    },
    models::tensors::Tensors,
    regeneration::jasco::{
        JascoError,
        config::FlowConfig,
        linear::{self, Linear},
        weights,
    },
    worker::progress::Progress,
};

/// Queries that are worked on together: their scores stay in the second cache.
const QUERIES: usize = 48;
/// Hidden values of a frame that exist at a time: a slice of the feed-forward.
const SLICE: usize = 4 * linear::CHUNK;
/// Of the norms, as in training.
const EPSILON: f64 = 1e-5;

/// Weights in the processor's memory, packed.
pub struct CpuFlow {
    config: FlowConfig,
    emb_latents: Linear,
    emb_local: Linear,
    layers: Vec<Layer>,
    skips: Vec<Linear>,
    out_norm: Norm,
    linear: Linear,
    time: [Linear; 3],
}

struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

struct Layer {
    norm1: Norm,
    norm_cross: Norm,
    norm2: Norm,
    self_in: Linear,
    self_out: Linear,
    /// Rows q, k, v, each `[dim][dim]`: used once a generation.
    cross_in: Lent,
    /// `[dim][dim]`.
    cross_out: Lent,
    linear1: Linear,
    linear2: Linear,
}

impl CpuFlow {
    /// Reads the weights, whose presence and shapes were checked, a layer a thread: beside the packed weights only one
    /// tensor a thread is in memory. Where `source` kept them packed, nothing is read.
    ///
    /// # Errors
    /// If a tensor can't be read.
    pub fn load(
        source: &dyn Tensors,
        config: &FlowConfig,
        pool: &Pool,
    ) -> Result<Self, JascoError> {
        let d = config.dim;
        let read = |name: &str, shape: &[usize]| weights::read(source, name, shape);
        let lent = |name: &str, shape: &[usize]| weights::lent(source, name, shape);
        let matrix = |name: &str, out: usize, input: usize| -> Result<Linear, JascoError> {
            Linear::load(source, name, None, input, out)
        };
        let affine = |name: &str, out: usize, input: usize| -> Result<Linear, JascoError> {
            let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
            Linear::load(source, &weight, Some(&bias), input, out)
        };
        let norm = |name: &str| -> Result<Norm, JascoError> {
            Ok(Norm {
                weight: read(&format!("{name}.weight"), &[d])?,
                bias: read(&format!("{name}.bias"), &[d])?,
            })
        };
        let layer = |i: usize| -> Result<Layer, JascoError> {
            let p = format!("transformer.layers.{i}.");
            Ok(Layer {
                norm1: norm(&format!("{p}norm1"))?,
                norm_cross: norm(&format!("{p}norm_cross"))?,
                norm2: norm(&format!("{p}norm2"))?,
                self_in: matrix(&format!("{p}self_attn.in_proj_weight"), 3 * d, d)?,
                self_out: matrix(&format!("{p}self_attn.out_proj.weight"), d, d)?,
                cross_in: lent(&format!("{p}cross_attention.in_proj_weight"), &[3 * d, d])?,
                cross_out: lent(&format!("{p}cross_attention.out_proj.weight"), &[d, d])?,
                linear1: matrix(&format!("{p}linear1.weight"), config.hidden, d)?,
                linear2: matrix(&format!("{p}linear2.weight"), d, config.hidden)?,
            })
        };
        let layers: Vec<OnceLock<Result<Layer, JascoError>>> =
            (0..config.layers).map(|_| OnceLock::new()).collect();
        pool.run(config.layers, |i, _| {
            layers[i].get_or_init(|| layer(i));
        });
        let columns = |first: usize, n: usize| -> Result<Linear, JascoError> {
            Linear::kept_or(source, &format!("emb.{first}"), n, d, |raw| {
                let emb = weights::read(raw, "emb.weight", &[d, config.input_dim()])?;
                let part: Vec<f32> = emb
                    .chunks_exact(config.input_dim())
                    .flat_map(|row| row[first..first + n].iter().copied())
                    .collect();
                Ok(Linear::new(n, d, &part, &[]))
            })
        };
        let skips = if config.skips { config.layers / 2 } else { 0 };
        let hidden = config.time_hidden;
        Ok(Self {
            config: config.clone(),
            emb_latents: columns(0, config.flow_dim)?,
            emb_local: columns(config.flow_dim, config.local_dim())?,
            layers: layers
                .into_iter()
                .filter_map(OnceLock::into_inner)
                .collect::<Result<_, _>>()?,
            skips: (0..skips)
                .map(|j| affine(&format!("transformer.skip_projections.{j}"), d, 2 * d))
                .collect::<Result<_, _>>()?,
            out_norm: norm("out_norm")?,
            linear: if config.output_bias {
                affine("linear", config.flow_dim, d)?
            } else {
                matrix("linear.weight", config.flow_dim, d)?
            },
            time: [
                affine("temb.dense.0", hidden, config.time_dim)?,
                affine("temb.dense.1", hidden, hidden)?,
                affine("temb_proj", d, hidden)?,
            ],
        })
    }

    /// One generation's conditions, and what doesn't change over its steps.
    pub fn session<'a>(&'a self, rows: &Rows, pool: &'a Pool) -> CpuSession<'a> {
        let c = &self.config;
        let d = c.dim;
        let n = rows.rows.len();
        // Every row is padded to whole groups; what is computed for the padding is never looked at.
        let group = (n * rows.frames)
            .div_ceil(2 * pool.threads())
            .clamp(QUERIES.min(rows.frames), rows.frames);
        let group = rows.frames.div_ceil(rows.frames.div_ceil(group));
        let padded = rows.frames.div_ceil(group) * group;
        let place = embed::place(rows.frames, d);
        let mut base = vec![0.0; n * padded * d];
        for (row, base) in rows.rows.iter().zip(base.chunks_exact_mut(padded * d)) {
            self.emb_local.apply_plain(&row.local, rows.frames, base);
            act::onto(&place, &mut base[..place.len()]);
        }
        let positions = rows.text.len() / d;
        let heard = if positions == 0 { 0 } else { rows.heard() };
        let mut text: Vec<Option<Heard>> = self.layers.iter().map(|_| None).collect();
        if heard > 0 {
            let parts = Parts::new(&mut text, 1);
            pool.run(self.layers.len(), |i, _| {
                parts.take(i)[0] = Some(Heard::new(c, &self.layers[i], &rows.text));
            });
        }
        CpuSession {
            flow: self,
            pool,
            frames: rows.frames,
            rows: n,
            heard,
            group,
            padded,
            base,
            text,
            positions,
            constants: vec![0.0; c.layers * d],
            h: vec![0.0; n * padded * d],
            qkv: vec![0.0; n * padded * (3 * d + SKEW)],
            attended: vec![0.0; n * padded * d],
            pushed: Vec::new(),
            progress: None,
            scratch: PerWorker::new(pool.threads(), || {
                Scratch::new(c, group, rows.frames, positions)
            }),
        }
    }
}

/// A layer's view of the text.
struct Heard {
    /// `[dim] → [heads · positions]`: the query projection times the keys, scaled.
    scores: Linear,
    /// `[heads · positions] → [dim]`: the values times the output projection.
    values: Linear,
}

impl Heard {
    /// `text`: `[positions][dim]`.
    fn new(c: &FlowConfig, layer: &Layer, text: &[f32]) -> Self {
        let (d, dh) = (c.dim, c.head_dim());
        let positions = text.len() / d;
        let (wq, wkv) = (*layer.cross_in).as_ref().split_at(d * d);
        // `[2 · dim][positions]`: the short text is what is packed, not the weights.
        let mut kv = vec![0.0; 2 * d * positions];
        Linear::new(d, positions, text, &[]).apply_plain(wkv, 2 * d, &mut kv);
        let (keys, spoken) = kv.split_at(d * positions);
        let scale = 1.0 / (dh as f32).sqrt();
        let columns = c.heads * positions;
        // `[columns][dim]` and `[columns][dim]`.
        let mut scores = vec![0.0f32; columns * d];
        let mut values = vec![0.0f32; columns * d];
        let mut wo_head = vec![0.0f32; dh * d];
        let wo = (*layer.cross_out).as_ref();
        for head in 0..c.heads {
            let own = head * dh..(head + 1) * dh;
            for (i, line) in wo_head.chunks_exact_mut(d).enumerate() {
                for (o, row) in line.iter_mut().zip(wo.chunks_exact(d)) {
                    *o = row[own.start + i];
                }
            }
            for position in 0..positions {
                let at = (head * positions + position) * d;
                for (i, channel) in own.clone().enumerate() {
                    let (k, v) = (channel * positions + position, channel * d);
                    add_scaled(&wq[v..][..d], keys[k] * scale, &mut scores[at..at + d]);
                    add_scaled(&wo_head[i * d..][..d], spoken[k], &mut values[at..at + d]);
                }
            }
        }
        Self {
            scores: Linear::new(d, columns, &scores, &[]),
            values: Linear::from_rows(columns, d, &values),
        }
    }
}

/// One worker's buffers; rows lie [`SKEW`] floats more apart than they are long.
struct Scratch {
    /// `[group][dim]`.
    x: Vec<f32>,
    /// `[group][2 · dim]`.
    joined: Vec<f32>,
    /// `[group][SLICE]`.
    hidden: Vec<f32>,
    /// `[group][heads · positions]`.
    text: Vec<f32>,
    /// `[QUERIES][frames]`.
    scores: Vec<f32>,
    keys: Packed,
    values: Packed,
}

impl Scratch {
    fn new(c: &FlowConfig, group: usize, frames: usize, positions: usize) -> Self {
        let rows = |count: usize, len: usize| vec![0.0; count * (len + SKEW)];
        Self {
            x: rows(group, c.dim),
            joined: rows(if c.skips { group } else { 0 }, 2 * c.dim),
            hidden: rows(group, SLICE.min(c.hidden)),
            text: rows(group, c.heads * positions),
            scores: rows(QUERIES, frames),
            keys: Packed::zeroed(c.head_dim(), frames),
            values: Packed::zeroed(frames, c.head_dim()),
        }
    }
}

/// One generation on the processor.
pub struct CpuSession<'a> {
    flow: &'a CpuFlow,
    pool: &'a Pool,
    frames: usize,
    rows: usize,
    heard: usize,
    /// Frames that pass together, and frames a row in whole groups.
    group: usize,
    padded: usize,
    /// `[rows][padded][dim]`: embedded conditions and places.
    base: Vec<f32>,
    text: Vec<Option<Heard>>,
    positions: usize,
    /// `[layers][dim]`: what the time says in each layer's cross-attention.
    constants: Vec<f32>,
    /// `[rows][padded][dim]`.
    h: Vec<f32>,
    /// `[rows][padded][3 · dim + SKEW]`.
    qkv: Vec<f32>,
    /// `[rows][heads][padded][head_dim]`.
    attended: Vec<f32>,
    /// States kept for the skips.
    pushed: Vec<Vec<f32>>,
    scratch: PerWorker<Scratch>,
    /// Whose cancel switch is looked at before every layer: an evaluation of a large model takes seconds.
    progress: Option<&'a Progress>,
}

impl Session for CpuSession<'_> {
    fn terms(
        &mut self,
        t: f32,
        z: &[f32],
        out: &mut [Vec<f32>],
        mut trace: Option<Trace<'_>>,
    ) -> Result<(), JascoError> {
        let layers = self.flow.layers.len();
        self.time(t, &mut trace);
        self.embed(z);
        self.see("layer0_in", &mut trace);
        for i in 0..layers {
            if self.progress.is_some_and(Progress::is_cancelled) {
                return Err(JascoError::Cancelled);
            }
            let skip = self.skip(i);
            self.enter(i, skip.as_deref());
            self.attend();
            self.leave(i);
            self.see(&format!("layer{i}_out"), &mut trace);
            if self.flow.config.skips && i < layers / 2 {
                self.pushed.push(self.h.clone());
            }
        }
        self.finish(out, &mut trace);
        Ok(())
    }
}

impl<'a> CpuSession<'a> {
    /// Evaluations end between two layers once `progress` is cancelled.
    #[must_use]
    pub fn watching(mut self, progress: &'a Progress) -> Self {
        self.progress = Some(progress);
        self
    }
}

impl CpuSession<'_> {
    fn see(&self, name: &str, trace: &mut Option<Trace<'_>>) {
        if let Some(trace) = trace {
            let d = self.flow.config.dim;
            let rows = self.h.chunks_exact(self.padded * d);
            let all: Vec<f32> = rows
                .flat_map(|row| row[..self.frames * d].iter().copied())
                .collect();
            trace(name, &all);
        }
    }

    /// The time vector, and what it says in every layer.
    fn time(&mut self, t: f32, trace: &mut Option<Trace<'_>>) {
        let c = &self.flow.config;
        let d = c.dim;
        let [dense0, dense1, project] = &self.flow.time;
        let mut hidden = vec![0.0; c.time_hidden];
        dense0.apply_plain(&embed::time(t, c.time_dim), 1, &mut hidden);
        for x in &mut hidden {
            *x *= act::sigmoid(*x);
        }
        let mut temb = vec![0.0; c.time_hidden];
        dense1.apply_plain(&hidden, 1, &mut temb);
        let mut tau = vec![0.0; d];
        project.apply_plain(&temb, 1, &mut tau);
        if let Some(trace) = trace {
            trace("temb", &temb);
            trace("temb_proj", &tau);
        }
        let parts = Parts::new(&mut self.constants, d);
        let layers = &self.flow.layers;
        self.pool.run(layers.len(), |i, _| {
            let value: Vec<f32> = (*layers[i].cross_in).as_ref()[2 * d * d..]
                .chunks_exact(d)
                .map(|row| dot(row, &tau))
                .collect();
            let rows = (*layers[i].cross_out).as_ref().chunks_exact(d);
            for (o, row) in parts.take(i).iter_mut().zip(rows) {
                *o = dot(row, &value);
            }
        });
    }

    fn embed(&mut self, z: &[f32]) {
        let d = self.flow.config.dim;
        let mut embedded = vec![0.0; self.frames * d];
        self.flow
            .emb_latents
            .apply_plain(z, self.frames, &mut embedded);
        self.h.copy_from_slice(&self.base);
        for row in self.h.chunks_exact_mut(self.padded * d) {
            act::onto(&embedded, &mut row[..self.frames * d]);
        }
        self.pushed.clear();
    }

    /// The kept state that joins before layer `i`.
    fn skip(&mut self, i: usize) -> Option<Vec<f32>> {
        let half = self.flow.layers.len() / 2;
        if self.flow.config.skips && i >= half {
            self.pushed.pop()
        } else {
            None
        }
    }

    /// From the state to queries, keys and values.
    fn enter(&mut self, i: usize, skip: Option<&[f32]>) {
        let (flow, group) = (self.flow, self.group);
        let d = flow.config.dim;
        let layer = &flow.layers[i];
        let h = Parts::new(&mut self.h, group * d);
        let (wide, stride) = (3 * d + SKEW, d + SKEW);
        let qkv = Parts::new(&mut self.qkv, group * wide);
        self.pool.run(h.len(), |index, worker| {
            let mut scratch = self.scratch.get(worker);
            let Scratch { x, joined, .. } = &mut *scratch;
            let h = h.take(index);
            if let Some(skip) = skip {
                let skip = &skip[index * group * d..][..group * d];
                let both = h.chunks_exact(d).zip(skip.chunks_exact(d));
                for (to, (h, skip)) in joined.chunks_exact_mut(2 * d + SKEW).zip(both) {
                    to[..d].copy_from_slice(h);
                    to[d..2 * d].copy_from_slice(skip);
                }
                let both = Left::plain(joined, 2 * d, 2 * d + SKEW);
                flow.skips[i - flow.layers.len() / 2].apply(both, group, h, d, Into::Replace);
            }
            layer.norm1.of(h, x, stride);
            let x = Left::plain(x, d, stride);
            layer
                .self_in
                .apply(x, group, qkv.take(index), wide, Into::Replace);
        });
    }

    /// Self-attention of every head.
    fn attend(&mut self) {
        let c = &self.flow.config;
        let (d, dh, frames, padded) = (c.dim, c.head_dim(), self.frames, self.padded);
        let (wide, line) = (3 * d + SKEW, frames + SKEW);
        let attended = Parts::new(&mut self.attended, padded * dh);
        let qkv = &self.qkv;
        let scale = 1.0 / (dh as f32).sqrt();
        self.pool.run(self.rows * c.heads, |index, worker| {
            let mut scratch = self.scratch.get(worker);
            let Scratch {
                scores,
                keys,
                values,
                ..
            } = &mut *scratch;
            let own = (index / c.heads) * padded * wide + (index % c.heads) * dh;
            keys.fill_columns(&qkv[own + d..], wide, scale);
            values.fill_rows(&qkv[own + 2 * d..], wide);
            let queries = Left {
                data: qkv,
                start: own,
                stride: wide,
                segments: &[0],
                segment_len: dh,
            };
            let out = attended.take(index);
            for first in (0..frames).step_by(QUERIES) {
                let n = QUERIES.min(frames - first);
                keys.multiply(queries.skip(first), n, scores, line);
                let mut sums = [0.0f32; QUERIES];
                for (sum, row) in sums.iter_mut().zip(scores.chunks_exact_mut(line)).take(n) {
                    *sum = act::softmax_unscaled(&mut row[..frames]);
                }
                let out = &mut out[first * dh..(first + n) * dh];
                values.multiply(Left::plain(scores, frames, line), n, out, dh);
                for (row, sum) in out.chunks_exact_mut(dh).zip(sums) {
                    for x in row {
                        *x *= sum;
                    }
                }
            }
        });
    }

    /// From what was attended to the layer's output: projection, text and time, feed-forward.
    fn leave(&mut self, i: usize) {
        let c = &self.flow.config;
        let (d, dh, group, padded) = (c.dim, c.head_dim(), self.group, self.padded);
        let layer = &self.flow.layers[i];
        let constant = &self.constants[i * d..][..d];
        let text = self.text[i].as_ref();
        let segments: Vec<usize> = (0..c.heads).map(|head| head * padded * dh).collect();
        let h = Parts::new(&mut self.h, group * d);
        let a_row = padded / group;
        let (attended, positions, heard) = (&self.attended, self.positions, self.heard);
        let (stride, columns) = (d + SKEW, c.heads * positions);
        let slice = SLICE.min(c.hidden);
        self.pool.run(h.len(), |index, worker| {
            let mut scratch = self.scratch.get(worker);
            let Scratch {
                x,
                hidden,
                text: scores,
                ..
            } = &mut *scratch;
            let h = h.take(index);
            let row = index / a_row;
            let heads = Left {
                data: attended,
                start: row * padded * d + (index % a_row) * group * dh,
                stride: dh,
                segments: &segments,
                segment_len: dh,
            };
            layer.self_out.apply(heads, group, h, d, Into::Add);
            if let Some(text) = text.filter(|_| row < heard) {
                layer.norm_cross.of(h, x, stride);
                let x = Left::plain(x, d, stride);
                let line = columns + SKEW;
                text.scores.apply(x, group, scores, line, Into::Replace);
                for row in scores.chunks_exact_mut(line) {
                    for part in row[..columns].chunks_exact_mut(positions) {
                        let sum = act::softmax_unscaled(part);
                        for x in part {
                            *x *= sum;
                        }
                    }
                }
                let scores = Left::plain(scores, columns, line);
                text.values.apply(scores, group, h, d, Into::Add);
            }
            for row in h.chunks_exact_mut(d) {
                act::onto(constant, row);
            }
            layer.norm2.of(h, x, stride);
            let x = Left::plain(x, d, stride);
            let line = slice + SKEW;
            for first in (0..c.hidden).step_by(slice) {
                let n = slice.min(c.hidden - first);
                layer
                    .linear1
                    .apply_columns(first..first + n, x, group, hidden, line);
                for row in hidden.chunks_exact_mut(line) {
                    act::gelu(&mut row[..n]);
                }
                let hidden = Left::plain(hidden, n, line);
                layer.linear2.add_part(first, hidden, group, h, d);
            }
        });
    }

    fn finish(&mut self, out: &mut [Vec<f32>], trace: &mut Option<Trace<'_>>) {
        let flow = self.flow;
        let (d, frames) = (flow.config.dim, self.frames);
        let mut normed = vec![0.0; frames * d];
        let (mut norms, mut all) = (Vec::new(), Vec::new());
        for (row, out) in self.h.chunks_exact(self.padded * d).zip(out) {
            flow.out_norm.of(&row[..frames * d], &mut normed, d);
            out.resize(frames * flow.linear.columns(), 0.0);
            flow.linear.apply_plain(&normed, frames, out);
            if trace.is_some() {
                norms.extend_from_slice(&normed);
                all.extend_from_slice(out);
            }
        }
        if let Some(trace) = trace {
            trace("out_norm", &norms);
            trace("v_terms", &all);
        }
    }
}

impl Norm {
    /// Rows of `x`, to rows `stride` apart.
    fn of(&self, x: &[f32], to: &mut [f32], stride: usize) {
        let d = self.weight.len();
        for (x, to) in x.chunks_exact(d).zip(to.chunks_exact_mut(stride)) {
            norm::layer_norm(x, EPSILON, &self.weight, &self.bias, &mut to[..d]);
        }
    }
}

fn add_scaled(x: &[f32], by: f32, to: &mut [f32]) {
    for (to, x) in to.iter_mut().zip(x) {
        *to += by * x;
    }
}

/// In sixteen parts, so that it is done in vectors.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let (a16, b16) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = a16
        .remainder()
        .iter()
        .zip(b16.remainder())
        .map(|(a, b)| a * b)
        .sum();
    for (a, b) in a16.zip(b16) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + rest
}
