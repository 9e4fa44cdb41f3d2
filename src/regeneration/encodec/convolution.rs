// [worker] Convolutions on channels-last buffers: edges, and any stretch of the output on its own.

use super::{config::PadMode, raw::RawConv};
use crate::{
    dense::{
        gemm::{Into, Packed},
        pool::for_pieces,
    },
    models::tensors::Tensors,
};

/// Values of a tile's widest buffer: with its neighbours it fits a core's L2 cache.
const TILE_VALUES: usize = 64 * 1024;
/// Least output rows of a tile, so that weights are read for more than a few rows.
const TILE_ROWS: usize = 48;

/// Rows of a tile of `rows` in all, whose widest buffer has so many values a row.
pub(super) fn tile_rows(rows: usize, values_a_row: usize) -> usize {
    (TILE_VALUES / values_a_row.max(1))
        .max(TILE_ROWS)
        .min(rows.div_ceil(4).max(TILE_ROWS))
}

/// What lies around a signal for one convolution.
#[derive(Clone, Copy)]
pub(crate) struct Edge {
    /// Rows of the signal.
    len: usize,
    mode: PadMode,
    /// Length of the signal that is mirrored: longer than `len` where zeros were put after a signal too short
    /// to be mirrored.
    mirrored: usize,
}

impl Edge {
    /// Padding of at most `most` rows on a side of a signal of `len` rows.
    pub fn new(len: usize, most: usize, mode: PadMode) -> Self {
        Self {
            len,
            mode,
            mirrored: if len <= most { most + 1 } else { len },
        }
    }

    /// The row that stands at `i` (0 is the signal's first); `None` for zeros.
    pub fn source(&self, i: isize) -> Option<usize> {
        let row = match self.mode {
            PadMode::Zeros => i,
            PadMode::Reflect if i < 0 => -i,
            PadMode::Reflect if i >= self.mirrored as isize => 2 * (self.mirrored as isize - 1) - i,
            PadMode::Reflect => i,
        };
        (row >= 0 && row < self.len as isize).then_some(row as usize)
    }

    /// The rows `from..to` of the signal that `lo..hi` needs, mirrors included.
    pub fn needed(&self, lo: isize, hi: isize) -> (usize, usize) {
        let mut from = lo.clamp(0, self.len as isize) as usize;
        let mut to = hi.clamp(0, self.len as isize) as usize;
        let outside = (lo..hi.min(0)).chain(lo.max(self.len as isize)..hi);
        for row in outside.filter_map(|i| self.source(i)) {
            if from >= to {
                (from, to) = (row, row + 1);
            }
            (from, to) = (from.min(row), to.max(row + 1));
        }
        (from, to)
    }

    /// Rows `lo..hi` with what lies around, from `rows`, which begins with row `first` of the signal. Only
    /// copies (to `scratch`) where an edge is touched.
    pub fn rows<'a>(
        &self,
        lo: isize,
        hi: isize,
        rows: &'a [f32],
        first: usize,
        channels: usize,
        scratch: &'a mut Vec<f32>,
    ) -> &'a [f32] {
        if lo >= first as isize && hi <= self.len as isize {
            let (a, b) = (lo as usize - first, hi as usize - first);
            return &rows[a * channels..b * channels];
        }
        scratch.clear();
        for i in lo..hi {
            match self.source(i) {
                Some(row) => {
                    let at = (row - first) * channels;
                    scratch.extend_from_slice(&rows[at..at + channels]);
                }
                None => scratch.resize(scratch.len() + channels, 0.0),
            }
        }
        scratch
    }
}

/// A convolution that pads so that a signal of `len` rows gives `len / stride`, rounded up.
pub(crate) struct Conv {
    kernel: usize,
    stride: usize,
    pub inputs: usize,
    pub outputs: usize,
    packed: Packed,
    mode: PadMode,
}

impl Conv {
    /// What wasn't kept at an earlier opening is kept in `to`.
    pub fn new(raw: RawConv, mode: PadMode, to: &dyn Tensors) -> Self {
        let (inputs, outputs) = (raw.inputs, raw.outputs);
        let (kernel, stride) = (raw.kernel, raw.stride);
        let packed = raw.packed(to, |raw| {
            Packed::new(kernel * inputs, outputs, &raw.bias, |k, n| {
                let (tap, c) = (k / inputs, k % inputs);
                raw.weight[(n * inputs + c) * kernel + tap]
            })
        });
        Self {
            kernel,
            stride,
            inputs,
            outputs,
            packed,
            mode,
        }
    }

    pub fn rows_out(&self, len: usize) -> usize {
        len.div_ceil(self.stride)
    }

    /// Rows of padding before the signal.
    fn left(&self) -> usize {
        let all = self.kernel - self.stride;
        all - all / 2
    }

    pub fn edge(&self, len: usize) -> Edge {
        let right = (self.kernel - self.stride) / 2;
        let extra = self.rows_out(len) * self.stride - len;
        Edge::new(len, self.left().max(right + extra), self.mode)
    }

    /// The padded input rows that output rows `a..b` need: `lo..hi` for [`Edge::rows`].
    pub fn span(&self, a: usize, b: usize) -> (isize, isize) {
        let lo = (a * self.stride) as isize - self.left() as isize;
        (lo, lo + ((b - a - 1) * self.stride + self.kernel) as isize)
    }

    /// Rows from padded input rows as [`Conv::span`] names them.
    pub fn run(&self, padded: &[f32], rows: usize, out: &mut [f32], into: Into) {
        self.packed.product(
            padded,
            self.stride * self.inputs,
            rows,
            out,
            self.outputs,
            into,
        );
    }

    /// Over a whole signal `[time][inputs]`: `[time / stride][outputs]`.
    pub fn whole(&self, x: &[f32]) -> Vec<f32> {
        let len = x.len() / self.inputs;
        let rows = self.rows_out(len);
        let mut out = vec![0.0; rows * self.outputs];
        let tile = tile_rows(rows, self.inputs.max(self.outputs));
        for_pieces(
            &mut out,
            tile * self.outputs,
            |i, piece, edge: &mut Vec<f32>| {
                let rows = piece.len() / self.outputs;
                let (lo, hi) = self.span(i * tile, i * tile + rows);
                let padded = self.edge(len).rows(lo, hi, x, 0, self.inputs, edge);
                self.run(padded, rows, piece, Into::Replace);
            },
        );
        out
    }
}

/// A transposed convolution of kernel `2·stride`, trimmed so that a row gives `stride` rows.
///
/// Row `g·stride + j` of its untrimmed output is `x[g]·W[j] + x[g − 1]·W[j + stride]`: one product of two rows
/// side by side with a weight of `stride·outputs` columns writes `stride` rows at once.
pub(crate) struct Transposed {
    pub stride: usize,
    pub inputs: usize,
    pub outputs: usize,
    packed: Packed,
}

impl Transposed {
    /// What wasn't kept at an earlier opening is kept in `to`.
    pub fn new(raw: RawConv, to: &dyn Tensors) -> Self {
        let (inputs, outputs) = (raw.inputs, raw.outputs);
        let (kernel, stride) = (raw.kernel, raw.stride);
        let packed = raw.packed(to, |raw| {
            let bias: Vec<f32> = raw.bias.repeat(stride);
            Packed::new(2 * inputs, stride * outputs, &bias, |k, n| {
                let (j, o) = (n / outputs, n % outputs);
                let (c, tap) = if k < inputs {
                    (k, j + stride)
                } else {
                    (k - inputs, j)
                };
                raw.weight[(c * outputs + o) * kernel + tap]
            })
        });
        Self {
            stride,
            inputs,
            outputs,
            packed,
        }
    }

    /// Rows trimmed off the front.
    pub fn trim(&self) -> usize {
        self.stride - self.stride / 2
    }

    /// The groups `g0..g1` of untrimmed rows that trimmed rows `a..b` lie in; they need input rows `g0 − 1..g1`.
    pub fn groups(&self, a: usize, b: usize) -> (usize, usize) {
        (
            (a + self.trim()) / self.stride,
            (b - 1 + self.trim()) / self.stride + 1,
        )
    }

    /// The groups' rows from input rows `g0 − 1..g1` (zeros outside the signal).
    pub fn run(&self, input: &[f32], groups: usize, out: &mut [f32]) {
        let width = self.stride * self.outputs;
        self.packed
            .product(input, self.inputs, groups, out, width, Into::Replace);
    }

    /// Over a whole signal `[time][inputs]`: `[time · stride][outputs]`.
    pub fn whole(&self, x: &[f32]) -> Vec<f32> {
        let len = x.len() / self.inputs;
        let mut padded = vec![0.0; (len + 2) * self.inputs];
        padded[self.inputs..(len + 1) * self.inputs].copy_from_slice(x);
        let width = self.stride * self.outputs;
        let mut full = vec![0.0; (len + 1) * width];
        let tile = tile_rows(len + 1, self.inputs.max(width));
        for_pieces(&mut full, tile * width, |i, piece, (): &mut ()| {
            self.run(
                &padded[i * tile * self.inputs..],
                piece.len() / width,
                piece,
            );
        });
        full.drain(..self.trim() * self.outputs);
        full.truncate(len * width);
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The padding as it is described: zeros after a signal too short to be mirrored, mirror, drop as many.
    fn reference(signal: &[f32], left: usize, right: usize) -> Vec<f32> {
        let most = left.max(right);
        let mut long = signal.to_vec();
        let extra = if signal.len() <= most {
            most - signal.len() + 1
        } else {
            0
        };
        long.resize(signal.len() + extra, 0.0);
        let mut out: Vec<f32> = (1..=left).rev().map(|i| long[i]).collect();
        out.extend(&long);
        out.extend((1..=right).map(|i| long[long.len() - 1 - i]));
        out.truncate(out.len() - extra);
        out
    }

    #[test]
    fn mirrors_like_the_description() {
        for len in 1..12usize {
            for (left, right) in [(0, 0), (3, 3), (3, 2), (1, 5), (6, 0), (2, 9)] {
                let signal: Vec<f32> = (1..=len).map(|i| i as f32).collect();
                let edge = Edge::new(len, left.max(right), PadMode::Reflect);
                let (lo, hi) = (-(left as isize), (len + right) as isize);
                let (from, to) = edge.needed(lo, hi);
                let mut scratch = Vec::new();
                let rows = edge.rows(lo, hi, &signal[from..to], from, 1, &mut scratch);
                assert_eq!(
                    rows,
                    reference(&signal, left, right),
                    "{len} {left} {right}"
                );
            }
        }
    }
}
