// [worker] EnCodec on the processor: stages computed in tiles that stay in the cache, on all cores.

use super::{
    config::{EncodecConfig, PadMode},
    convolution::{Conv, Transposed, tile_rows},
    lstm::Lstm,
    raw::{RawConv, RawHalf, RawStage},
};
use crate::{
    dense::{act::elu, gemm::Into, pool::for_pieces},
    models::tensors::Tensors,
};

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    first: Vec<f32>,
    activated: Vec<f32>,
    edge: Vec<f32>,
    inner: Vec<f32>,
    outer: Vec<f32>,
    edge2: Vec<f32>,
}

/// `x + widen(elu(narrow(elu(x))))`.
struct Block {
    narrow: Conv,
    widen: Conv,
}

impl Block {
    /// The input rows that output rows `a..b` need.
    fn needed(&self, a: usize, b: usize, len: usize) -> (usize, usize) {
        let (lo, hi) = self.narrow.span(a, b);
        let (from, to) = self.narrow.edge(len).needed(lo, hi);
        (from.min(a), to.max(b))
    }

    /// Output rows `a..b` from `x`, which begins with row `first` and has what [`Block::needed`] says.
    #[allow(clippy::too_many_arguments)]
    fn run(
        &self,
        x: &[f32],
        first: usize,
        (a, b): (usize, usize),
        len: usize,
        activated: &mut Vec<f32>,
        edge: &mut Vec<f32>,
        inner: &mut Vec<f32>,
        out: &mut Vec<f32>,
    ) {
        let channels = self.narrow.inputs;
        activated.clear();
        activated.extend_from_slice(x);
        elu(activated);
        let (lo, hi) = self.narrow.span(a, b);
        let padded = self
            .narrow
            .edge(len)
            .rows(lo, hi, activated, first, channels, edge);
        inner.resize((b - a) * self.narrow.outputs, 0.0);
        self.narrow.run(padded, b - a, inner, Into::Replace);
        elu(inner);
        out.clear();
        out.extend_from_slice(&x[(a - first) * channels..(b - first) * channels]);
        self.widen.run(inner, b - a, out, Into::Add);
    }
}

struct Down {
    block: Block,
    down: Conv,
}

/// Audio to latents.
pub(super) struct Encoder {
    first: Conv,
    stages: Vec<Down>,
    lstm: Lstm,
    last: Conv,
}

impl Encoder {
    /// Layers that weren't kept at an earlier opening are kept in `to`.
    pub fn new(raw: RawHalf, config: &EncodecConfig, to: &dyn Tensors) -> Self {
        let mode = config.pad_mode;
        Self {
            first: Conv::new(raw.first, mode, to),
            stages: stages(raw.stages, mode, to, |block, resample| Down {
                block,
                down: Conv::new(resample, mode, to),
            }),
            lstm: Lstm::new(raw.lstm, to),
            last: Conv::new(raw.last, mode, to),
        }
    }

    /// `x` of each signal is `[samples][channels]`, all of one length; returns `[frames][dimension]` each. `watch`
    /// is shown what each layer that is kept whole gives, by its index in the reference's list of layers.
    pub fn run(
        &self,
        signals: &[&[f32]],
        watch: &mut dyn FnMut(usize, &[Vec<f32>]),
    ) -> Vec<Vec<f32>> {
        let mut rows: Vec<Vec<f32>> = Vec::new();
        for (i, stage) in self.stages.iter().enumerate() {
            rows = if i == 0 {
                signals
                    .iter()
                    .map(|x| stage.run(Some(&self.first), x))
                    .collect()
            } else {
                rows.iter().map(|x| stage.run(None, x)).collect()
            };
            watch(3 + 3 * i, &rows);
        }
        let lstm = 1 + 3 * self.stages.len();
        self.lstm.run(&mut rows);
        watch(lstm, &rows);
        rows.iter_mut().for_each(|x| elu(x));
        watch(lstm + 1, &rows);
        let latents: Vec<Vec<f32>> = rows.iter().map(|x| self.last.whole(x)).collect();
        watch(lstm + 2, &latents);
        latents
    }
}

/// Stages made of their residual block and their resampling convolution.
fn stages<S>(
    raw: Vec<RawStage>,
    mode: PadMode,
    to: &dyn Tensors,
    make: impl Fn(Block, RawConv) -> S,
) -> Vec<S> {
    let stage = |raw: RawStage| {
        let block = Block {
            narrow: Conv::new(raw.narrow, mode, to),
            widen: Conv::new(raw.widen, mode, to),
        };
        make(block, raw.resample)
    };
    raw.into_iter().map(stage).collect()
}

impl Down {
    /// The stage over a whole signal; with `first`, `x` is audio.
    fn run(&self, first: Option<&Conv>, x: &[f32]) -> Vec<f32> {
        let channels = self.down.inputs;
        let len = x.len() / first.map_or(channels, |f| f.inputs);
        let rows = self.down.rows_out(len);
        let mut out = vec![0.0; rows * self.down.outputs];
        let stride = len.div_ceil(rows.max(1));
        let tile = tile_rows(rows, channels * stride);
        let edge_down = self.down.edge(len);
        for_pieces(
            &mut out,
            tile * self.down.outputs,
            |i, piece, s: &mut Scratch| {
                let rows = piece.len() / self.down.outputs;
                let (lo, hi) = self.down.span(i * tile, i * tile + rows);
                let (a, b) = edge_down.needed(lo, hi);
                let (from, to) = self.block.needed(a, b, len);
                let input = match first {
                    Some(conv) => {
                        let (lo, hi) = conv.span(from, to);
                        let padded = conv.edge(len).rows(lo, hi, x, 0, conv.inputs, &mut s.edge);
                        s.first.resize((to - from) * channels, 0.0);
                        conv.run(padded, to - from, &mut s.first, Into::Replace);
                        &s.first
                    }
                    None => &x[from * channels..to * channels],
                };
                self.block.run(
                    input,
                    from,
                    (a, b),
                    len,
                    &mut s.activated,
                    &mut s.edge,
                    &mut s.inner,
                    &mut s.outer,
                );
                elu(&mut s.outer);
                let padded = edge_down.rows(lo, hi, &s.outer, a, channels, &mut s.edge2);
                self.down.run(padded, rows, piece, Into::Replace);
            },
        );
        out
    }
}

struct Up {
    up: Transposed,
    block: Block,
}

/// Latents to audio.
pub(super) struct Decoder {
    first: Conv,
    lstm: Lstm,
    stages: Vec<Up>,
    last: Conv,
}

impl Decoder {
    /// Layers that weren't kept at an earlier opening are kept in `to`.
    pub fn new(raw: RawHalf, config: &EncodecConfig, to: &dyn Tensors) -> Self {
        let mode = config.pad_mode;
        Self {
            first: Conv::new(raw.first, mode, to),
            lstm: Lstm::new(raw.lstm, to),
            stages: stages(raw.stages, mode, to, |block, resample| Up {
                up: Transposed::new(resample, to),
                block,
            }),
            last: Conv::new(raw.last, mode, to),
        }
    }

    /// Latents `[frames][dimension]` of each signal, all of one length; returns `[samples][channels]` each. `watch`
    /// as in [`Encoder::run`].
    pub fn run(
        &self,
        latents: &[&[f32]],
        watch: &mut dyn FnMut(usize, &[Vec<f32>]),
    ) -> Vec<Vec<f32>> {
        let mut rows: Vec<Vec<f32>> = latents.iter().map(|x| self.first.whole(x)).collect();
        watch(0, &rows);
        self.lstm.run(&mut rows);
        watch(1, &rows);
        for (i, stage) in self.stages.iter().enumerate() {
            let last = (i + 1 == self.stages.len()).then_some(&self.last);
            rows = rows.iter().map(|x| stage.run(last, x)).collect();
            watch(if last.is_some() { 6 + 3 * i } else { 4 + 3 * i }, &rows);
        }
        rows
    }
}

impl Up {
    /// The stage over a whole signal; with `last`, it ends in audio.
    fn run(&self, last: Option<&Conv>, x: &[f32]) -> Vec<f32> {
        let (inputs, channels) = (self.up.inputs, self.up.outputs);
        let len_in = x.len() / inputs;
        let len = len_in * self.up.stride;
        let outputs = last.map_or(channels, |l| l.outputs);
        let mut out = vec![0.0; len * outputs];
        let tile = tile_rows(len, channels);
        for_pieces(&mut out, tile * outputs, |i, piece, s: &mut Scratch| {
            let rows = piece.len() / outputs;
            let asked = (i * tile, i * tile + rows);
            let (a, b) = match last {
                Some(conv) => {
                    let (lo, hi) = conv.span(asked.0, asked.1);
                    conv.edge(len).needed(lo, hi)
                }
                None => asked,
            };
            let (from, to) = self.block.needed(a, b, len);
            let (g0, g1) = self.up.groups(from, to);
            // Input rows g0 − 1..g1, zeros outside the signal.
            s.activated.clear();
            if g0 == 0 {
                s.activated.resize(inputs, 0.0);
            }
            s.activated
                .extend_from_slice(&x[g0.saturating_sub(1) * inputs..g1.min(len_in) * inputs]);
            if g1 > len_in {
                s.activated.resize((g1 - g0 + 1) * inputs, 0.0);
            }
            elu(&mut s.activated);
            s.first.resize((g1 - g0) * self.up.stride * channels, 0.0);
            self.up.run(&s.activated, g1 - g0, &mut s.first);
            let at = (from + self.up.trim() - g0 * self.up.stride) * channels;
            let upsampled = &s.first[at..at + (to - from) * channels];
            self.block.run(
                upsampled,
                from,
                (a, b),
                len,
                &mut s.activated,
                &mut s.edge,
                &mut s.inner,
                &mut s.outer,
            );
            match last {
                Some(conv) => {
                    elu(&mut s.outer);
                    let (lo, hi) = conv.span(asked.0, asked.1);
                    let padded = conv
                        .edge(len)
                        .rows(lo, hi, &s.outer, a, channels, &mut s.edge2);
                    conv.run(padded, rows, piece, Into::Replace);
                }
                None => piece.copy_from_slice(&s.outer),
            }
        });
        out
    }
}
