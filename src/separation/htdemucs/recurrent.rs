// [worker] A residual branch with memory: convolution, two bidirectional LSTM layers, local attention.

use std::sync::Mutex;

use super::{
    ModelError,
    dconv::EPSILON,
    hyper::Hyper,
    merged::{Group, product},
    weights::Scope,
    work::{Context, Line, PAD},
};
use crate::dense::{
    act,
    gemm::{BLOCK_ROWS, Packed, Rows},
    norm::{Moments, group_affine},
    pool::Parts,
};

/// Steps of a frame of the recurrent layers: longer sequences are cut into frames that overlap by half.
const FRAME: usize = 200;
/// Heads of the attention, and decays a head.
const HEADS: usize = 4;
const DECAYS: usize = 4;

/// A residual branch of the inner levels.
pub struct Branch {
    dilation: usize,
    inner: Packed,
    inner_norm: Group,
    memory: Memory,
    attention: Attention,
    outer: Packed,
    outer_weight: Vec<f32>,
    outer_bias: Vec<f32>,
    scale: Vec<f32>,
}

impl Branch {
    pub fn load(
        scope: &Scope<'_>,
        channels: usize,
        dilation: usize,
        hyper: &Hyper,
    ) -> Result<Self, ModelError> {
        let hidden = hyper.dconv_channels(channels);
        Ok(Self {
            dilation,
            inner: scope.at("0").convolution(channels, hidden, &[3])?,
            inner_norm: Group::load(&scope.at("1"), hidden, 1)?,
            memory: Memory::load(&scope.at("3"), hidden)?,
            attention: Attention::load(&scope.at("4"), hidden)?,
            outer: scope.at("5").linear(hidden, 2 * channels, 1)?,
            outer_weight: scope.at("6").get("weight", &[2 * channels])?,
            outer_bias: scope.at("6").get("bias", &[2 * channels])?,
            scale: scope.at("8").get("scale", &[channels])?,
        })
    }

    pub fn bytes(&self) -> usize {
        self.inner.bytes() + self.outer.bytes() + self.memory.bytes() + self.attention.bytes()
    }

    /// Adds the branch to a sequence.
    pub fn add(&self, x: &mut Line, context: &Context<'_>) -> Result<(), ModelError> {
        let (channels, hidden) = (x.channels, self.inner.columns());
        let step = self.dilation * channels;
        let taps = [0, step, 2 * step];
        let windows = Rows {
            data: x.data(),
            start: (PAD - self.dilation) * channels,
            stride: channels,
            segments: &taps,
            segment_len: channels,
        };
        let mut h = vec![0.0; x.len * hidden];
        product(&self.inner, windows, &mut h, context)?;
        let (gain, shift) = self.inner_norm.affine(&h);
        act::affine_gelu(&mut h, &gain, &shift);
        self.memory.add(&mut h, context)?;
        self.attention.add(&mut h, context)?;
        let mut y = vec![0.0; x.len * 2 * channels];
        product(
            &self.outer,
            Rows::plain(&h, hidden, hidden),
            &mut y,
            context,
        )?;
        let (mut gain, mut shift) = (vec![0.0; 2 * channels], vec![0.0; 2 * channels]);
        let (weight, bias) = (&self.outer_weight, &self.outer_bias);
        group_affine(
            &Moments::of(&y),
            EPSILON,
            weight,
            bias,
            &mut gain,
            &mut shift,
        );
        act::affine_glu_onto(&y, &gain, &shift, &self.scale, x.inner_mut());
        Ok(())
    }
}

/// Two bidirectional LSTM layers and a linear one, added to their input.
struct Memory {
    layers: [[Direction; 2]; 2],
    linear: Packed,
}

/// One direction of a layer. Gates are input, forget, cell, output.
struct Direction {
    /// From the layer's input, with both biases.
    input: Packed,
    recurrent: Packed,
}

impl Memory {
    fn load(scope: &Scope<'_>, hidden: usize) -> Result<Self, ModelError> {
        let lstm = scope.at("lstm");
        let direction = |layer: usize, inputs: usize, suffix: &str| {
            let gates = 4 * hidden;
            let name = |what: &str| format!("{what}_l{layer}{suffix}");
            Ok::<_, ModelError>(Direction {
                input: lstm.packed(&name("ih"), inputs, gates, |raw| {
                    let input = raw.get(&name("weight_ih"), &[gates, inputs])?;
                    let mut bias = raw.get(&name("bias_ih"), &[gates])?;
                    act::onto(&raw.get(&name("bias_hh"), &[gates])?, &mut bias);
                    Ok(Packed::new(inputs, gates, &bias, |k, j| {
                        input[j * inputs + k]
                    }))
                })?,
                recurrent: lstm.packed(&name("hh"), hidden, gates, |raw| {
                    let recurrent = raw.get(&name("weight_hh"), &[gates, hidden])?;
                    Ok(Packed::new(hidden, gates, &[], |k, j| {
                        recurrent[j * hidden + k]
                    }))
                })?,
            })
        };
        let layer = |layer: usize, inputs: usize| {
            Ok::<_, ModelError>([
                direction(layer, inputs, "")?,
                direction(layer, inputs, "_reverse")?,
            ])
        };
        Ok(Self {
            layers: [layer(0, hidden)?, layer(1, 2 * hidden)?],
            linear: scope.at("linear").linear(2 * hidden, hidden, 0)?,
        })
    }

    fn bytes(&self) -> usize {
        let directions = self.layers.iter().flatten();
        let layers = directions.map(|d| d.input.bytes() + d.recurrent.bytes());
        layers.sum::<usize>() + self.linear.bytes()
    }

    /// `h` is `[positions][hidden]`.
    fn add(&self, h: &mut [f32], context: &Context<'_>) -> Result<(), ModelError> {
        let hidden = self.linear.columns();
        let len = h.len() / hidden;
        // Frames of all steps where the sequence fits one.
        let (frames, steps, stride) = if len > FRAME {
            (len.div_ceil(FRAME / 2), FRAME, FRAME / 2)
        } else {
            (1, len, len)
        };
        let mut x = vec![0.0; frames * steps * hidden];
        for (f, frame) in x.chunks_exact_mut(steps * hidden).enumerate() {
            let from = f * stride * hidden;
            let count = frame.len().min(h.len() - from);
            frame[..count].copy_from_slice(&h[from..from + count]);
        }
        for layer in &self.layers {
            let inputs = x.len() / (frames * steps);
            let mut out = vec![0.0; frames * steps * 2 * hidden];
            let halves = Mutex::new([Vec::new(), Vec::new()]);
            let mut gates = [(); 2].map(|()| vec![0.0; frames * steps * 4 * hidden]);
            for (gates, direction) in gates.iter_mut().zip(layer) {
                product(
                    &direction.input,
                    Rows::plain(&x, inputs, inputs),
                    gates,
                    context,
                )?;
            }
            context.run(2, |side, _| {
                let made = layer[side].run(&gates[side], frames, steps, side == 1, context);
                halves
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)[side] = made;
            })?;
            let halves = halves
                .into_inner()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            for (side, half) in halves.iter().enumerate() {
                let rows = out
                    .chunks_exact_mut(2 * hidden)
                    .zip(half.chunks_exact(hidden));
                for (to, from) in rows {
                    to[side * hidden..][..hidden].copy_from_slice(from);
                }
            }
            x = out;
        }
        let mut y = vec![0.0; frames * steps * hidden];
        product(
            &self.linear,
            Rows::plain(&x, 2 * hidden, 2 * hidden),
            &mut y,
            context,
        )?;
        for (p, h) in h.chunks_exact_mut(hidden).enumerate() {
            // Of two frames that hold a step, the one in whose middle half it lies.
            let frame = (p.saturating_sub(stride / 2) / stride).min(frames - 1);
            let at = frame * steps + p - frame * stride;
            act::onto(&y[at * hidden..][..hidden], h);
        }
        Ok(())
    }
}

impl Direction {
    /// The hidden states, `[frames][steps][hidden]`, from the input's share of the gates.
    fn run(
        &self,
        gates: &[f32],
        frames: usize,
        steps: usize,
        backwards: bool,
        context: &Context<'_>,
    ) -> Vec<f32> {
        let hidden = self.recurrent.depth();
        let mut out = vec![0.0; frames * steps * hidden];
        let mut state = vec![0.0f32; frames * hidden];
        let mut cell = vec![0.0f32; frames * hidden];
        let mut own = vec![0.0f32; frames * 4 * hidden];
        for i in 0..steps {
            if (context.cancelled)() {
                break;
            }
            let step = if backwards { steps - 1 - i } else { i };
            let rows = Rows::plain(&state, hidden, hidden);
            self.recurrent.multiply(rows, frames, &mut own, 4 * hidden);
            for f in 0..frames {
                let at = f * steps + step;
                let given = &gates[at * 4 * hidden..][..4 * hidden];
                let own = &mut own[f * 4 * hidden..][..4 * hidden];
                act::onto(given, own);
                let (cell, state) = (
                    &mut cell[f * hidden..][..hidden],
                    &mut state[f * hidden..][..hidden],
                );
                for n in 0..hidden {
                    let [input, forget, output] =
                        [0, 1, 3].map(|g| act::sigmoid(own[g * hidden + n]));
                    cell[n] = forget * cell[n] + input * own[2 * hidden + n].tanh();
                    state[n] = output * cell[n].tanh();
                }
                out[at * hidden..][..hidden].copy_from_slice(state);
            }
        }
        out
    }
}

/// Attention by content with a penalty that grows with the distance, added to its input.
struct Attention {
    content: Packed,
    query: Packed,
    key: Packed,
    decay: Packed,
    project: Packed,
}

impl Attention {
    fn load(scope: &Scope<'_>, hidden: usize) -> Result<Self, ModelError> {
        let linear = |name: &str, outputs| scope.at(name).linear(hidden, outputs, 1);
        Ok(Self {
            content: linear("content", hidden)?,
            query: linear("query", hidden)?,
            key: linear("key", hidden)?,
            decay: linear("query_decay", HEADS * DECAYS)?,
            project: linear("proj", hidden)?,
        })
    }

    fn bytes(&self) -> usize {
        let all = [
            &self.content,
            &self.query,
            &self.key,
            &self.decay,
            &self.project,
        ];
        all.iter().map(|p| p.bytes()).sum()
    }

    fn add(&self, h: &mut [f32], context: &Context<'_>) -> Result<(), ModelError> {
        let hidden = self.project.columns();
        let (len, width) = (h.len() / hidden, hidden / HEADS);
        let of = |packed: &Packed| {
            let mut out = vec![0.0; len * packed.columns()];
            product(packed, Rows::plain(h, hidden, hidden), &mut out, context)?;
            Ok::<_, ModelError>(out)
        };
        let (content, query, key) = (of(&self.content)?, of(&self.query)?, of(&self.key)?);
        let decay = of(&self.decay)?;
        let mut found = vec![0.0; len * hidden];
        let scale = 1.0 / (width as f32).sqrt();
        for head in 0..HEADS {
            let at = head * width;
            let keys = Packed::new(width, len, &[], |k, j| key[j * hidden + at + k] * scale);
            let values = Packed::new(len, width, &[], |k, j| content[k * hidden + at + j]);
            let parts = Parts::new(&mut found, BLOCK_ROWS * hidden);
            context.run(len.div_ceil(BLOCK_ROWS), |block, scratch| {
                let out = parts.take(block);
                let count = out.len() / hidden;
                let first = block * BLOCK_ROWS;
                let rows = Rows::plain(&query[at..], width, hidden).skip(first);
                let scores = scratch.a.get(BLOCK_ROWS * len);
                keys.multiply(rows, count, scores, len);
                let mut inverse = [0.0f32; BLOCK_ROWS];
                for (i, scores) in scores.chunks_exact_mut(len).take(count).enumerate() {
                    let place = first + i;
                    let slope: f32 = (0..DECAYS)
                        .map(|d| {
                            let x = decay[(place * HEADS + head) * DECAYS + d];
                            (d + 1) as f32 * (0.5 * act::sigmoid(x)) / (DECAYS as f32).sqrt()
                        })
                        .sum();
                    for (t, score) in scores.iter_mut().enumerate() {
                        *score -= slope * t.abs_diff(place) as f32;
                    }
                    // Nothing attends to itself.
                    scores[place] = -100.0;
                    inverse[i] = act::softmax_unscaled(scores);
                }
                let y = scratch.b.get(BLOCK_ROWS * width);
                values.multiply(Rows::plain(scores, len, len), count, y, width);
                for (i, out) in out.chunks_exact_mut(hidden).enumerate() {
                    for (to, x) in out[at..at + width].iter_mut().zip(&y[i * width..]) {
                        *to = x * inverse[i];
                    }
                }
            })?;
        }
        let mut y = vec![0.0; len * hidden];
        product(
            &self.project,
            Rows::plain(&found, hidden, hidden),
            &mut y,
            context,
        )?;
        act::onto(&y, h);
        Ok(())
    }
}
