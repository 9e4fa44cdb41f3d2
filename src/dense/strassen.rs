// [worker] Wide linear layers in seven eighths of the multiplications.
//
// One level of Strassen's algorithm in Winograd's variant: a product of two-by-two blocks from seven products
// of blocks instead of eight (Strassen 1969; Winograd 1971; Douglas et al., "GEMMW: a portable level 3 BLAS
// Winograd variant of Strassen's matrix-matrix multiply algorithm", J. Comput. Phys. 110, 1994). The right
// side's sums are made once, when a layer is loaded; the left side's and the result's are a fiftieth of the
// work at the widths that [`fits`] allows. A second level would save an eighth again and cost as many sums.

use super::{
    act::{self, dispatched},
    aligned::Buffer,
    gemm::{Into, Packed, Rows, SKEW},
    level::Level,
};

/// Products of blocks.
pub const PRODUCTS: usize = 7;
/// Rows that are worked on at a time: halves of whole groups of a product's rows.
pub const ROWS: usize = 96;

/// Whether a layer of this size is faster so than by one product.
pub const fn fits(depth: usize, columns: usize) -> bool {
    depth >= 256 && columns >= 256 && depth.is_multiple_of(64) && columns.is_multiple_of(64)
}

/// The right side of a product, `[depth][columns]`, both even, with a bias.
pub struct Strassen {
    products: [Packed; PRODUCTS],
    depth: usize,
    columns: usize,
}

/// Depth and columns of what [`part`] makes.
pub const fn part_size(depth: usize, columns: usize) -> (usize, usize) {
    (depth / 2, columns / 2)
}

/// Product `i` of the layer whose weight is `weight(k, j)` for `k < depth` and `j < columns`; `bias` has `columns`
/// values or none.
///
/// # Panics
/// If there is no such product.
pub fn part(
    i: usize,
    depth: usize,
    columns: usize,
    bias: &[f32],
    weight: impl Fn(usize, usize) -> f32,
) -> Packed {
    part_with_level(Level::best(), i, depth, columns, bias, weight)
}

fn part_with_level(
    level: Level,
    i: usize,
    depth: usize,
    columns: usize,
    bias: &[f32],
    weight: impl Fn(usize, usize) -> f32,
) -> Packed {
    let (half_depth, half) = part_size(depth, columns);
    // Weights of the blocks 11, 12, 21, 22.
    let blocks: [f64; 4] = match i {
        0 => [1.0, 0.0, 0.0, 0.0],
        1 => [0.0, 0.0, 1.0, 0.0],
        2 => [0.0, 0.0, 0.0, 1.0],
        // Its sign is turned, so that every product is added.
        3 => [-1.0, 1.0, 1.0, -1.0],
        4 => [-1.0, 1.0, 0.0, 0.0],
        // As its left side.
        5 => [-1.0, 1.0, 0.0, -1.0],
        6 => [0.0, -1.0, 0.0, 1.0],
        _ => unreachable!("seven products"),
    };
    // Each column's bias must reach each of its results once: see `Strassen::multiply_into`.
    let bias = match i {
        1 | 3 => bias.get(..half),
        4 => bias.get(half..),
        _ => None,
    };
    let corners = [(0, 0), (0, half), (half_depth, 0), (half_depth, half)];
    let terms: Vec<_> = blocks
        .into_iter()
        .zip(corners)
        .filter(|(share, _)| *share != 0.0)
        .collect();
    Packed::with_level(level, half_depth, half, bias.unwrap_or_default(), |k, j| {
        let values = terms
            .iter()
            .map(|(share, (row, column))| share * f64::from(weight(row + k, column + j)));
        values.sum::<f64>() as f32
    })
}

impl Strassen {
    /// Of what [`part`] made for each product.
    ///
    /// # Panics
    /// If they have different sizes.
    pub fn new(products: [Packed; PRODUCTS]) -> Self {
        let (depth, columns) = (2 * products[0].depth(), 2 * products[0].columns());
        assert!(
            products
                .iter()
                .all(|p| (2 * p.depth(), 2 * p.columns()) == (depth, columns))
        );
        Self {
            products,
            depth,
            columns,
        }
    }

    /// Length of the left side's rows.
    pub const fn depth(&self) -> usize {
        self.depth
    }

    /// Columns of the product.
    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.products.iter().map(Packed::bytes).sum()
    }

    const fn scratch(&self) -> usize {
        ROWS / 2 * (self.depth / 2 + SKEW + 2 * (self.columns / 2 + SKEW))
    }

    /// `out[i][j] (+)= bias[j] + Σ_k rows[i][k] · weight[k][j]` for `count` rows of one piece; row `i` of `out` begins
    /// at `i · out_stride`.
    ///
    /// # Panics
    /// If the rows' length is not the depth, or a row lies outside `rows.data` or `out`.
    pub fn multiply_into(
        &self,
        rows: Rows<'_>,
        count: usize,
        out: &mut [f32],
        out_stride: usize,
        into: Into,
        scratch: &mut Buffer,
    ) {
        assert!(rows.segments.len() == 1 && rows.segment_len == self.depth);
        let scratch = scratch.get(self.scratch());
        for first in (0..count).step_by(ROWS) {
            let count = ROWS.min(count - first);
            let (rows, out) = (rows.skip(first), &mut out[first * out_stride..]);
            self.block(rows, count, out, out_stride, into, scratch);
        }
    }

    fn block(
        &self,
        rows: Rows<'_>,
        count: usize,
        out: &mut [f32],
        out_stride: usize,
        into: Into,
        scratch: &mut [f32],
    ) {
        let (a, stride) = (&rows.data[rows.start + rows.segments[0]..], rows.stride);
        let (depth, half) = part_size(self.depth, self.columns);
        // Of an odd number of rows the lower half has one less; there it counts as zeros.
        let upper = count.div_ceil(2);
        let lower = count - upper;
        let (sum_stride, mid_stride) = (depth + SKEW, half + SKEW);
        let (sum, mids) = scratch.split_at_mut(ROWS / 2 * sum_stride);
        let (x, rest) = mids.split_at_mut(ROWS / 2 * mid_stride);
        let z = &mut rest[..ROWS / 2 * mid_stride];
        let [to_11, to_12] = [0, half];
        let [to_21, to_22] = [upper * out_stride, upper * out_stride + half];
        let a_12 = &a[depth..];
        // Not read where there is no lower half.
        let (a_21, a_22) = match lower {
            0 => (a, a),
            _ => (&a[upper * stride..], &a[upper * stride + depth..]),
        };
        let plain = |a| Rows::plain(a, depth, stride);
        let [p1, p2, p3, p4, p5, p6, p7] = &self.products;
        p1.multiply(plain(a), upper, x, mid_stride);
        let (out_11, size) = (&mut out[to_11..], [upper, half]);
        p2.multiply_into(plain(a_12), upper, out_11, out_stride, into);
        onto(x, mid_stride, out_11, out_stride, size);
        // a21 + a22
        combined(a_21, a_22, stride, 1.0, sum, sum_stride, [lower, depth]);
        sum[lower * sum_stride..upper * sum_stride].fill(0.0);
        p5.multiply(Rows::plain(sum, depth, sum_stride), upper, z, mid_stride);
        // a11 - a21 - a22
        taken_from(a, stride, sum, sum_stride, [upper, depth]);
        let rows = Rows::plain(sum, depth, sum_stride);
        p6.multiply_into(rows, upper, x, mid_stride, Into::Add);
        // a11 + a12 - a21 - a22
        onto(a_12, stride, sum, sum_stride, [upper, depth]);
        let (rows, out_12) = (Rows::plain(sum, depth, sum_stride), &mut out[to_12..]);
        p3.multiply_into(rows, upper, out_12, out_stride, into);
        onto(x, mid_stride, out_12, out_stride, size);
        onto(z, mid_stride, out_12, out_stride, size);
        if lower == 0 {
            return;
        }
        // a11 - a21: from here on the last of an odd number of rows isn't needed.
        combined(a, a_21, stride, -1.0, sum, sum_stride, [lower, depth]);
        let rows = Rows::plain(sum, depth, sum_stride);
        p7.multiply_into(rows, lower, x, mid_stride, Into::Add);
        let (out_21, size) = (&mut out[to_21..], [lower, half]);
        p4.multiply_into(plain(a_22), lower, out_21, out_stride, into);
        onto(x, mid_stride, out_21, out_stride, size);
        let out_22 = &mut out[to_22..];
        if into == Into::Add {
            onto(x, mid_stride, out_22, out_stride, size);
            onto(z, mid_stride, out_22, out_stride, size);
        } else {
            combined(x, z, mid_stride, 1.0, out_22, out_stride, size);
        }
    }
}

/// A linear layer: by blocks where it is wide enough, else as one product.
pub enum Linear {
    Whole(Packed),
    Blocks(Box<Strassen>),
}

impl Linear {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Whole(packed) => packed.bytes(),
            Self::Blocks(blocks) => blocks.bytes(),
        }
    }

    /// Length of the left side's rows.
    pub const fn depth(&self) -> usize {
        match self {
            Self::Whole(packed) => packed.depth(),
            Self::Blocks(blocks) => blocks.depth(),
        }
    }

    /// Columns of the product.
    pub const fn columns(&self) -> usize {
        match self {
            Self::Whole(packed) => packed.columns(),
            Self::Blocks(blocks) => blocks.columns(),
        }
    }

    /// See [`Strassen::multiply_into`].
    ///
    /// # Panics
    /// As there.
    pub fn multiply_into(
        &self,
        rows: Rows<'_>,
        count: usize,
        out: &mut [f32],
        out_stride: usize,
        into: Into,
        scratch: &mut Buffer,
    ) {
        match self {
            Self::Whole(packed) => packed.multiply_into(rows, count, out, out_stride, into),
            Self::Blocks(blocks) => {
                blocks.multiply_into(rows, count, out, out_stride, into, scratch);
            }
        }
    }
}

/// `to[r][i] = a[r][i] + sign · b[r][i]` for `[rows, width]`.
fn combined(
    a: &[f32],
    b: &[f32],
    stride: usize,
    sign: f32,
    to: &mut [f32],
    to_stride: usize,
    [rows, width]: [usize; 2],
) {
    dispatched! {
        fn line(a: &[f32], b: &[f32], sign: f32, to: &mut [f32]) {
            for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
                *to = a + sign * b;
            }
        }
    }
    for row in 0..rows {
        let to = &mut to[row * to_stride..][..width];
        line(&a[row * stride..], &b[row * stride..], sign, to);
    }
}

/// `to[r][i] = a[r][i] - to[r][i]` for `[rows, width]`.
fn taken_from(
    a: &[f32],
    stride: usize,
    to: &mut [f32],
    to_stride: usize,
    [rows, width]: [usize; 2],
) {
    dispatched! {
        fn line(a: &[f32], to: &mut [f32]) {
            for (to, a) in to.iter_mut().zip(a) {
                *to = a - *to;
            }
        }
    }
    for row in 0..rows {
        line(&a[row * stride..], &mut to[row * to_stride..][..width]);
    }
}

/// `to[r][i] += a[r][i]` for `[rows, width]`.
fn onto(a: &[f32], stride: usize, to: &mut [f32], to_stride: usize, [rows, width]: [usize; 2]) {
    for row in 0..rows {
        act::onto(&a[row * stride..], &mut to[row * to_stride..][..width]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::gemm::tests::values;

    /// Against sums in double precision: odd and even numbers of rows, more than a block, onto what was there, and
    /// what lies between the rows is left alone.
    #[test]
    fn a_product_equals_its_sums() {
        for level in Level::available() {
            for (count, depth, columns) in [
                (1, 8, 6),
                (2, 6, 40),
                (7, 64, 66),
                (96, 32, 20),
                (131, 40, 34),
            ] {
                let (stride, out_stride) = (depth + 3, columns + 5);
                let a = values(count * stride, 1);
                let weight = values(depth * columns, 2);
                let bias = values(columns, 3);
                let layer = Strassen::new(std::array::from_fn(|i| {
                    part_with_level(level, i, depth, columns, &bias, |k, j| {
                        weight[k * columns + j]
                    })
                }));
                assert_eq!((layer.depth(), layer.columns()), (depth, columns));
                let before = values(count * out_stride, 4);
                let mut scratch = Buffer::default();
                scratch.get(layer.scratch()).fill(f32::NAN);
                for into in [Into::Replace, Into::Add] {
                    let mut out = before.clone();
                    let rows = Rows::plain(&a, depth, stride);
                    layer.multiply_into(rows, count, &mut out, out_stride, into, &mut scratch);
                    for (at, (got, was)) in out.iter().zip(&before).enumerate() {
                        let (m, n) = (at / out_stride, at % out_stride);
                        if n >= columns {
                            assert_eq!(got, was, "written outside");
                            continue;
                        }
                        let start = if into == Into::Add { *was } else { 0.0 };
                        let sum: f64 = (0..depth)
                            .map(|k| {
                                f64::from(a[m * stride + k]) * f64::from(weight[k * columns + n])
                            })
                            .sum();
                        let truth = sum + f64::from(bias[n]) + f64::from(start);
                        let error = (f64::from(*got) - truth).abs();
                        assert!(error < 2e-5, "{level:?} {count} {depth} {m} {n}: {error:e}");
                    }
                }
            }
        }
    }
}
