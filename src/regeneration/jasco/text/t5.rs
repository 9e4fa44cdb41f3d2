// [worker] The encoder of T5 (Raffel et al. 2020), with the dense kernels.

use serde::Deserialize;

use crate::{
    dense::{
        act,
        pool::{Parts, Pool},
    },
    models::tensors::Tensors,
    regeneration::jasco::{
        JascoError,
        linear::Linear,
        weights::{self, Needed},
    },
};

/// What an encoder is made of, from the model's `config.json`; the default is T5-base.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct T5Config {
    pub vocab_size: usize,
    pub d_model: usize,
    pub d_kv: usize,
    pub d_ff: usize,
    pub num_layers: usize,
    pub num_heads: usize,
    pub relative_attention_num_buckets: usize,
    pub relative_attention_max_distance: usize,
    pub layer_norm_epsilon: f64,
    pub feed_forward_proj: String,
}

impl Default for T5Config {
    fn default() -> Self {
        Self {
            vocab_size: 32_128,
            d_model: 768,
            d_kv: 64,
            d_ff: 3072,
            num_layers: 12,
            num_heads: 12,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            layer_norm_epsilon: 1e-6,
            feed_forward_proj: "relu".into(),
        }
    }
}

impl T5Config {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`JascoError::Config`] if it isn't one, or describes another network than the one implemented.
    pub fn parse(json: &str) -> Result<Self, JascoError> {
        let fail = |reason: String| JascoError::Config {
            key: "T5's config.json",
            reason,
        };
        let config: Self = serde_json::from_str(json).map_err(|e| fail(e.to_string()))?;
        if config.feed_forward_proj != "relu" {
            let actual = &config.feed_forward_proj;
            return Err(fail(format!(
                "feed_forward_proj \"{actual}\" is not supported, only \"relu\""
            )));
        }
        let sizes = [
            config.vocab_size,
            config.d_model,
            config.d_kv,
            config.d_ff,
            config.num_layers,
            config.num_heads,
        ];
        let buckets = config.relative_attention_num_buckets;
        let sane = sizes.iter().all(|n| (1..=1 << 20).contains(n))
            && buckets >= 4
            && buckets.is_multiple_of(4)
            && config.relative_attention_max_distance > buckets / 4;
        if !sane {
            return Err(fail(format!("sizes {sizes:?}, {buckets} buckets")));
        }
        Ok(config)
    }

    /// Every tensor, with its shape.
    pub fn needed(&self) -> Vec<Needed> {
        let (d, inner) = (self.d_model, self.num_heads * self.d_kv);
        let mut all = vec![
            Needed::new("shared.weight", &[self.vocab_size, d]),
            Needed::new("encoder.final_layer_norm.weight", &[d]),
            Needed::new(BIAS, &[self.relative_attention_num_buckets, self.num_heads]),
        ];
        for i in 0..self.num_layers {
            let p = format!("encoder.block.{i}.layer.");
            for name in ["q", "k", "v"] {
                let name = format!("{p}0.SelfAttention.{name}.weight");
                all.push(Needed::new(name, &[inner, d]));
            }
            all.push(Needed::new(
                format!("{p}0.SelfAttention.o.weight"),
                &[d, inner],
            ));
            all.push(Needed::new(format!("{p}0.layer_norm.weight"), &[d]));
            all.push(Needed::new(format!("{p}1.layer_norm.weight"), &[d]));
            let dense = format!("{p}1.DenseReluDense.");
            all.push(Needed::new(format!("{dense}wi.weight"), &[self.d_ff, d]));
            all.push(Needed::new(format!("{dense}wo.weight"), &[d, self.d_ff]));
        }
        all
    }
}

/// The one table of biases, which all layers use.
const BIAS: &str = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";

/// The encoder's weights.
pub struct T5 {
    config: T5Config,
    /// `[vocab_size][d_model]`.
    embedding: Vec<f32>,
    /// `[buckets][heads]`.
    bias: Vec<f32>,
    blocks: Vec<Block>,
    norm: Vec<f32>,
}

struct Block {
    norm_attention: Vec<f32>,
    /// Queries, keys, values.
    qkv: Linear,
    o: Linear,
    norm_dense: Vec<f32>,
    wi: Linear,
    wo: Linear,
}

impl T5 {
    /// # Errors
    /// [`JascoError::Tensors`] naming every tensor that is missing or misshapen.
    pub fn load(source: &dyn Tensors, config: T5Config) -> Result<Self, JascoError> {
        weights::check(source, &config.needed())?;
        let (d, inner) = (config.d_model, config.num_heads * config.d_kv);
        let read = |name: &str, shape: &[usize]| weights::read(source, name, shape);
        let matrix = |name: &str, out: usize, input: usize| -> Result<Linear, JascoError> {
            Ok(Linear::new(input, out, &read(name, &[out, input])?, &[]))
        };
        let block = |i: usize| -> Result<Block, JascoError> {
            let p = format!("encoder.block.{i}.layer.");
            let mut qkv = Vec::with_capacity(3 * inner * d);
            for name in ["q", "k", "v"] {
                let name = format!("{p}0.SelfAttention.{name}.weight");
                qkv.extend(read(&name, &[inner, d])?);
            }
            let dense = format!("{p}1.DenseReluDense.");
            Ok(Block {
                norm_attention: read(&format!("{p}0.layer_norm.weight"), &[d])?,
                qkv: Linear::new(d, 3 * inner, &qkv, &[]),
                o: matrix(&format!("{p}0.SelfAttention.o.weight"), d, inner)?,
                norm_dense: read(&format!("{p}1.layer_norm.weight"), &[d])?,
                wi: matrix(&format!("{dense}wi.weight"), config.d_ff, d)?,
                wo: matrix(&format!("{dense}wo.weight"), d, config.d_ff)?,
            })
        };
        Ok(Self {
            embedding: read("shared.weight", &[config.vocab_size, d])?,
            bias: read(
                BIAS,
                &[config.relative_attention_num_buckets, config.num_heads],
            )?,
            blocks: (0..config.num_layers)
                .map(block)
                .collect::<Result<_, _>>()?,
            norm: read("encoder.final_layer_norm.weight", &[d])?,
            config,
        })
    }

    /// Width of the output.
    pub const fn width(&self) -> usize {
        self.config.d_model
    }

    /// The last hidden state `[ids][d_model]`. `keep`: positions that may be attended to, as many as ids,
    /// or None for all.
    ///
    /// # Errors
    /// [`JascoError::Prompt`] for an id outside the vocabulary or a mask of another length.
    pub fn encode(
        &self,
        ids: &[u32],
        keep: Option<&[bool]>,
        pool: &Pool,
    ) -> Result<Vec<f32>, JascoError> {
        let c = &self.config;
        let (n, d, inner) = (ids.len(), c.d_model, c.num_heads * c.d_kv);
        if keep.is_some_and(|keep| keep.len() != n) {
            return Err(JascoError::Prompt {
                reason: format!("{n} tokens with a mask of another length"),
            });
        }
        let mut h = Vec::with_capacity(n * d);
        for &id in ids {
            let mut rows = self.embedding.chunks_exact(d);
            let row = rows.nth(id as usize).ok_or(JascoError::Prompt {
                reason: format!("token {id} in a vocabulary of {}", c.vocab_size),
            })?;
            h.extend_from_slice(row);
        }
        let biases: Vec<Vec<f32>> = (0..c.num_heads).map(|head| self.biases(head, n)).collect();
        let mut x = vec![0.0; n * d];
        let mut qkv = vec![0.0; n * 3 * inner];
        let mut attended = vec![0.0; n * inner];
        let mut hidden = vec![0.0; n * c.d_ff];
        for block in &self.blocks {
            self.rms(&h, &block.norm_attention, &mut x);
            block.qkv.apply_plain(&x, n, &mut qkv);
            let parts = Parts::new(&mut attended, n * c.d_kv);
            pool.run(c.num_heads, |head, _| {
                head_attention(c, &qkv, head, &biases[head], keep, parts.take(head));
            });
            // `[heads][n][d_kv]` to `[n][inner]`.
            let mut joined = vec![0.0; n * inner];
            for (head, part) in attended.chunks_exact(n * c.d_kv).enumerate() {
                for (i, row) in part.chunks_exact(c.d_kv).enumerate() {
                    joined[i * inner + head * c.d_kv..][..c.d_kv].copy_from_slice(row);
                }
            }
            block.o.apply_plain(&joined, n, &mut x);
            act::onto(&x, &mut h);
            self.rms(&h, &block.norm_dense, &mut x);
            block.wi.apply_plain(&x, n, &mut hidden);
            for v in &mut hidden {
                *v = v.max(0.0);
            }
            block.wo.apply_plain(&hidden, n, &mut x);
            act::onto(&x, &mut h);
        }
        self.rms(&h, &self.norm, &mut x);
        Ok(x)
    }

    /// The biases of one head over `n` positions, `[query][key]`.
    pub fn biases(&self, head: usize, n: usize) -> Vec<f32> {
        let c = &self.config;
        (0..n * n)
            .map(|i| {
                let bucket = bucket(c, (i % n) as i64 - (i / n) as i64);
                self.bias[bucket * c.num_heads + head]
            })
            .collect()
    }

    /// `to = x / √(mean(x²) + ε) · weight`, row by row.
    fn rms(&self, x: &[f32], weight: &[f32], to: &mut [f32]) {
        let d = weight.len();
        for (x, to) in x.chunks_exact(d).zip(to.chunks_exact_mut(d)) {
            let squares: f64 = x.iter().map(|v| f64::from(*v).powi(2)).sum();
            let scale = (squares / d as f64 + self.config.layer_norm_epsilon).sqrt();
            let scale = (1.0 / scale) as f32;
            for ((to, x), w) in to.iter_mut().zip(x).zip(weight) {
                *to = x * scale * w;
            }
        }
    }
}

/// Attention of one head, without scaling, into `[n][d_kv]`.
fn head_attention(
    c: &T5Config,
    qkv: &[f32],
    head: usize,
    bias: &[f32],
    keep: Option<&[bool]>,
    out: &mut [f32],
) {
    let (inner, width) = (c.num_heads * c.d_kv, c.d_kv);
    let n = out.len() / width;
    let part = |i: usize, which: usize| &qkv[(i * 3 + which) * inner + head * width..][..width];
    let mut scores = vec![0.0f32; n];
    for (i, out) in out.chunks_exact_mut(width).enumerate() {
        let q = part(i, 0);
        for (j, score) in scores.iter_mut().enumerate() {
            let dot: f32 = q.iter().zip(part(j, 1)).map(|(q, k)| q * k).sum();
            let heard = keep.is_none_or(|keep| keep[j]);
            // Where nothing may be heard everything is heard alike, as in the reference.
            *score = if heard {
                dot + bias[i * n + j]
            } else {
                f32::MIN
            };
        }
        let sum = act::softmax_unscaled(&mut scores);
        out.fill(0.0);
        for (j, score) in scores.iter().enumerate() {
            for (o, v) in out.iter_mut().zip(part(j, 2)) {
                *o += score * sum * v;
            }
        }
    }
}

/// The bucket of a key that lies `distance` positions after its query: half of the buckets for each
/// direction, half of those for small distances, the rest growing with the logarithm.
fn bucket(c: &T5Config, distance: i64) -> usize {
    let half = c.relative_attention_num_buckets / 2;
    let exact = half / 2;
    let away = distance.unsigned_abs() as usize;
    let within = if away < exact {
        away
    } else {
        let share = (away as f32 / exact as f32).ln()
            / (c.relative_attention_max_distance as f32 / exact as f32).ln();
        (exact + (share * (half - exact) as f32) as usize).min(half - 1)
    };
    if distance > 0 { half + within } else { within }
}
