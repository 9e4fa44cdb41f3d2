// [worker] Convolutions, plain and transposed, whose kernel is two strides long, in two thirds of the products.
//
// Cut into strides, such a convolution is a filter of two taps over vectors: y[n] = x[n] W0 + x[n + 1] W1. Winograd's
// minimal filtering F(3, 2): four products give three outputs, where six are needed otherwise (Winograd, "Arithmetic
// complexity of computations", 1980; Lavin & Gray, CVPR 2016):
//
//     m0 = (x0 - x2) W0    m1 = (x1 + x2) (W0 + W1) / 2    m2 = (x2 - x1) (W0 - W1) / 2    m3 = (x3 - x1) W1
//     y0 = m0 + m1 + m2    y1 = m1 - m2                    y2 = m1 + m2 + m3

use super::{ModelError, weights::Scope};
use crate::dense::{
    act::dispatched,
    aligned::Buffer,
    gemm::{Packed, Rows},
};

/// Outputs of a tile, and its inputs and products.
pub const OUTPUTS: usize = 3;
const PRODUCTS: usize = 4;
/// Tiles that are worked on at a time: their inputs and products stay in the second cache.
pub const TILES: usize = 24;

/// A filter of two taps over vectors of `depth` values, to vectors of `columns`.
pub struct Strided {
    products: [Packed; PRODUCTS],
    bias: Vec<f32>,
}

/// Where the vectors of a filter lie: vector `n` of row `r` begins at `start + n · step + r · row_step`, and consists
/// of pieces of `segment_len` floats that lie `segments[..]` after its beginning.
#[derive(Clone, Copy)]
pub struct Vectors<'a> {
    pub data: &'a [f32],
    pub start: usize,
    pub step: usize,
    pub row_step: usize,
    pub segments: &'a [usize],
    pub segment_len: usize,
}

dispatched! {
    /// Four neighbours to what four products are made of, `stride` apart.
    fn split(x0: &[f32], x1: &[f32], x2: &[f32], x3: &[f32], to: &mut [f32], stride: usize) {
        let n = x0.len();
        let (x1, x2, x3) = (&x1[..n], &x2[..n], &x3[..n]);
        let (e0, to) = to.split_at_mut(stride);
        let (e1, to) = to.split_at_mut(stride);
        let (e2, e3) = to.split_at_mut(stride);
        let (e0, e1, e2, e3) = (&mut e0[..n], &mut e1[..n], &mut e2[..n], &mut e3[..n]);
        for i in 0..n {
            e0[i] = x0[i] - x2[i];
            e1[i] = x1[i] + x2[i];
            e2[i] = x2[i] - x1[i];
            e3[i] = x3[i] - x1[i];
        }
    }
}

dispatched! {
    /// The first or the last output of a tile: `edge` is its own product.
    fn outer(edge: &[f32], m1: &[f32], m2: &[f32], bias: &[f32], to: &mut [f32]) {
        let n = to.len();
        let (edge, m1, m2, bias) = (&edge[..n], &m1[..n], &m2[..n], &bias[..n]);
        for i in 0..n {
            to[i] = edge[i] + m1[i] + m2[i] + bias[i];
        }
    }
}

dispatched! {
    /// The output between them.
    fn inner(m1: &[f32], m2: &[f32], bias: &[f32], to: &mut [f32]) {
        let n = to.len();
        let (m1, m2, bias) = (&m1[..n], &m2[..n], &bias[..n]);
        for i in 0..n {
            to[i] = m1[i] - m2[i] + bias[i];
        }
    }
}

/// The right side of product `i`, of the taps `weight(k, j)`: those of the first vector for `k < depth`, then those of
/// the second.
fn product(i: usize, depth: usize, columns: usize, weight: impl Fn(usize, usize) -> f32) -> Packed {
    Packed::new(depth, columns, &[], |k, j| {
        let (first, second) = (weight(k, j), weight(depth + k, j));
        match i {
            0 => first,
            1 => 0.5 * (first + second),
            2 => 0.5 * (first - second),
            _ => second,
        }
    })
}

/// A convolution, plain or transposed.
pub enum Conv {
    /// The outermost level's: its vectors are short.
    Whole(Packed),
    Strided(Strided),
}

impl Conv {
    pub fn bytes(&self) -> usize {
        match self {
            Self::Whole(packed) => packed.bytes(),
            Self::Strided(strided) => strided.bytes(),
        }
    }
}

impl Strided {
    /// Of the tensors `weight`, of this shape, and `bias` below `scope`. `place(k, j)` is where in the weight a tap
    /// lies, see [`product`]; `columns` is a multiple of the bias' length.
    pub fn load(
        scope: &Scope<'_>,
        depth: usize,
        columns: usize,
        shape: &[usize],
        outputs: usize,
        place: impl Fn(usize, usize) -> usize,
    ) -> Result<Self, ModelError> {
        let weight = scope.once("weight", shape);
        let load = |i: usize| {
            scope.packed(&format!("strided{i}"), depth, columns, |_| {
                let weight = weight.get()?;
                Ok(product(i, depth, columns, |k, j| weight[place(k, j)]))
            })
        };
        Ok(Self {
            products: [load(0)?, load(1)?, load(2)?, load(3)?],
            bias: scope.get("bias", &[outputs])?.repeat(columns / outputs),
        })
    }

    fn bytes(&self) -> usize {
        self.products.iter().map(Packed::bytes).sum()
    }

    /// The products of a tile of `count` rows, at most [`TILES`], from `row` on, `[product][TILES][columns]`. There are
    /// `given` vectors of the tile's four; no output that is asked for depends on the others.
    fn products<'b>(
        &self,
        x: Vectors<'_>,
        given: usize,
        row: usize,
        count: usize,
        inputs: &mut Buffer,
        products: &'b mut Buffer,
    ) -> &'b [f32] {
        let (depth, columns) = (self.products[0].depth(), self.products[0].columns());
        let plane = TILES * depth;
        let inputs = inputs.get(PRODUCTS * plane);
        let products = products.get(PRODUCTS * TILES * columns);
        for i in 0..count {
            for (s, segment) in x.segments.iter().enumerate() {
                let at = x.start + (row + i) * x.row_step + segment;
                // Any value serves for a vector that isn't given: the first.
                let vector = |n: usize| {
                    &x.data[at + if n < given { n * x.step } else { 0 }..][..x.segment_len]
                };
                let to = &mut inputs[i * depth + s * x.segment_len..];
                split(vector(0), vector(1), vector(2), vector(3), to, plane);
            }
        }
        for (e, packed) in self.products.iter().enumerate() {
            let rows = Rows::plain(&inputs[e * plane..], depth, depth);
            let to = &mut products[e * TILES * columns..];
            packed.multiply(rows, count, to, columns);
        }
        products
    }

    /// Output `j` of the tile whose products begin at `m`.
    fn join(&self, j: usize, m: &[f32], to: &mut [f32]) {
        let plane = TILES * self.bias.len();
        let (m1, m2) = (&m[plane..], &m[2 * plane..]);
        match j {
            0 => outer(m, m1, m2, &self.bias, to),
            1 => inner(m1, m2, &self.bias, to),
            _ => outer(&m[3 * plane..], m1, m2, &self.bias, to),
        }
    }

    /// Up to three neighbouring outputs for each of up to [`TILES`] rows from `row` on: `to[j]` is `[rows][columns]`
    /// and output `j` of the filter, whose vectors 0 to `to.len()` are read.
    pub fn tile(
        &self,
        x: Vectors<'_>,
        row: usize,
        to: &mut [&mut [f32]],
        a: &mut Buffer,
        b: &mut Buffer,
    ) {
        let columns = self.bias.len();
        let count = to[0].len() / columns;
        let m = self.products(x, to.len() + 1, row, count, a, b);
        for (j, to) in to.iter_mut().enumerate() {
            for (i, to) in to.chunks_exact_mut(columns).enumerate() {
                self.join(j, &m[i * columns..], to);
            }
        }
    }

    /// Neighbouring outputs, `[outputs][columns]`, of vectors that lie one behind the other from `start` on; one vector
    /// more than outputs is read.
    pub fn line(
        &self,
        data: &[f32],
        start: usize,
        out: &mut [f32],
        a: &mut Buffer,
        b: &mut Buffer,
    ) {
        let (depth, columns) = (self.products[0].depth(), self.bias.len());
        let x = Vectors {
            data,
            start,
            step: depth,
            row_step: OUTPUTS * depth,
            segments: &[0],
            segment_len: depth,
        };
        let outputs = out.len() / columns;
        let whole = outputs / OUTPUTS;
        let mut row = 0;
        for out in out.chunks_mut(TILES * OUTPUTS * columns) {
            let count = TILES.min(whole - row);
            let (tiles, rest) = out.split_at_mut(count * OUTPUTS * columns);
            if count > 0 {
                let m = self.products(x, PRODUCTS, row, count, a, b);
                for (n, to) in tiles.chunks_exact_mut(columns).enumerate() {
                    self.join(n % OUTPUTS, &m[n / OUTPUTS * columns..], to);
                }
            }
            row += count;
            if !rest.is_empty() {
                let given = rest.len() / columns + 1;
                let m = self.products(x, given, row, 1, a, b);
                for (j, to) in rest.chunks_exact_mut(columns).enumerate() {
                    self.join(j, m, to);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(i: usize) -> f32 {
        ((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0
    }

    fn filter(depth: usize, columns: usize) -> (Strided, Vec<f32>) {
        let weight: Vec<f32> = (0..2 * depth * columns).map(value).collect();
        let strided = Strided {
            products: std::array::from_fn(|i| {
                product(i, depth, columns, |k, j| weight[k * columns + j])
            }),
            bias: (0..columns).map(|j| value(j + 5)).collect(),
        };
        (strided, weight)
    }

    /// Output of two vectors, in double precision.
    fn truth(filter: &(Strided, Vec<f32>), j: usize, x: [&[f32]; 2]) -> f64 {
        let columns = filter.0.bias.len();
        let taps = x[0].iter().chain(x[1]).enumerate();
        let sum: f64 = taps
            .map(|(k, x)| f64::from(*x) * f64::from(filter.1[k * columns + j]))
            .sum();
        sum + f64::from(filter.0.bias[j])
    }

    /// One output, part of a tile, whole tiles, more than are worked on at a time; nothing behind the last vector is
    /// read.
    #[test]
    fn neighbouring_outputs_equal_their_sums() {
        for (depth, columns, outputs) in [(3, 5, 1), (16, 33, 2), (8, 6, 3), (20, 64, 149)] {
            let filter = filter(depth, columns);
            let data: Vec<f32> = (0..7 + (outputs + 1) * depth).map(value).collect();
            let mut out = vec![f32::NAN; outputs * columns];
            let (mut a, mut b) = Default::default();
            filter.0.line(&data, 7, &mut out, &mut a, &mut b);
            for (n, out) in out.chunks_exact(columns).enumerate() {
                let x = |n: usize| &data[7 + n * depth..][..depth];
                for (j, got) in out.iter().enumerate() {
                    let error = (f64::from(*got) - truth(&filter, j, [x(n), x(n + 1)])).abs();
                    assert!(error < 1e-5, "{depth} {columns} {n}: {error:e}");
                }
            }
        }
    }

    /// Vectors in pieces, rows beside each other, one to three outputs.
    #[test]
    fn a_tile_equals_its_sums() {
        let (piece, pieces, columns, rows) = (6, 4, 40, 11);
        let filter = filter(piece * pieces, columns);
        let segments: [usize; 4] = std::array::from_fn(|i| i * 200);
        for outputs in 1..=OUTPUTS {
            let x = Vectors {
                // The last vector of the last row ends here.
                data: &(0..3 + outputs * 800 + 12 * piece + 600 + piece)
                    .map(value)
                    .collect::<Vec<_>>(),
                start: 3,
                step: 800,
                row_step: piece,
                segments: &segments,
                segment_len: piece,
            };
            let mut out = vec![f32::NAN; outputs * rows * columns];
            let mut to: Vec<_> = out.chunks_exact_mut(rows * columns).collect();
            let (mut a, mut b) = Default::default();
            filter.0.tile(x, 2, &mut to, &mut a, &mut b);
            for (at, got) in out.iter().enumerate() {
                let (n, row, j) = (at / columns / rows, at / columns % rows + 2, at % columns);
                let vector = |n: usize| -> Vec<f32> {
                    let first = x.start + n * x.step + row * x.row_step;
                    let pieces = segments.iter().map(|s| &x.data[first + s..][..piece]);
                    pieces.flatten().copied().collect()
                };
                let truth = truth(&filter, j, [&vector(n), &vector(n + 1)]);
                let error = (f64::from(*got) - truth).abs();
                assert!(error < 1e-5, "{outputs} {n} {row} {j}: {error:e}");
            }
        }
    }
}
