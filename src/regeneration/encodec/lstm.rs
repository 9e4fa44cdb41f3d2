// [worker] A stack of LSTM layers with a skip around it, on the processor.

use super::raw::RawLstm;
use crate::{
    dense::{
        act::lstm_cell,
        gemm::{Into, Packed},
        pool::for_pieces,
    },
    models::tensors::{self, Tensors},
};

struct Layer {
    /// With both biases.
    input: Packed,
    hidden: Packed,
    size: usize,
}

/// `x + lstm(x)` over time, from a zero state.
pub(super) struct Lstm {
    layers: Vec<Layer>,
}

impl Lstm {
    /// Layers that weren't kept at an earlier opening are kept in `to`.
    pub fn new(raw: Vec<RawLstm>, to: &dyn Tensors) -> Self {
        let layer = |raw: RawLstm| {
            let size = raw.size;
            let [input, hidden] = raw.kept.unwrap_or_else(|| {
                let input = Packed::new(size, 4 * size, &raw.bias, |k, n| raw.input[n * size + k]);
                let hidden = Packed::new(size, 4 * size, &[], |k, n| raw.hidden[n * size + k]);
                tensors::keep(to, &raw.names[0], &input);
                tensors::keep(to, &raw.names[1], &hidden);
                [input, hidden]
            });
            Layer {
                input,
                hidden,
                size,
            }
        };
        Self {
            layers: raw.into_iter().map(layer).collect(),
        }
    }

    /// In place on signals `[time][size]` of one length. Signals go through each step together, so that the
    /// weights are read once for all.
    pub fn run(&self, signals: &mut [Vec<f32>]) {
        let (Some(size), batch) = (self.layers.first().map(|l| l.size), signals.len()) else {
            return;
        };
        let steps = signals.first().map_or(0, |s| s.len() / size);
        // `[time][signal][size]`.
        let mut x = vec![0.0; steps * batch * size];
        for (b, signal) in signals.iter().enumerate() {
            for (t, row) in signal.chunks_exact(size).enumerate() {
                x[(t * batch + b) * size..][..size].copy_from_slice(row);
            }
        }
        for layer in &self.layers {
            layer.run(&mut x, batch);
        }
        for (b, signal) in signals.iter_mut().enumerate() {
            for (t, row) in signal.chunks_exact_mut(size).enumerate() {
                let y = &x[(t * batch + b) * size..][..size];
                row.iter_mut().zip(y).for_each(|(s, y)| *s += y);
            }
        }
    }
}

impl Layer {
    fn run(&self, x: &mut [f32], batch: usize) {
        let size = self.size;
        let rows = x.len() / size;
        let mut gates = vec![0.0; rows * 4 * size];
        let tile = rows.div_ceil(8).max(16);
        for_pieces(&mut gates, tile * 4 * size, |i, piece, (): &mut ()| {
            let rows = piece.len() / (4 * size);
            self.input.product(
                &x[i * tile * size..],
                size,
                rows,
                piece,
                4 * size,
                Into::Replace,
            );
        });
        let mut cell = vec![0.0; batch * size];
        let mut last: Option<usize> = None;
        for (t, gates) in gates.chunks_exact_mut(batch * 4 * size).enumerate() {
            if let Some(last) = last {
                self.hidden
                    .product(&x[last..], size, batch, gates, 4 * size, Into::Add);
            }
            let at = t * batch * size;
            for b in 0..batch {
                lstm_cell(
                    &gates[b * 4 * size..(b + 1) * 4 * size],
                    &mut cell[b * size..(b + 1) * size],
                    &mut x[at + b * size..][..size],
                );
            }
            last = Some(at);
        }
    }
}
