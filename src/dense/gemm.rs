// [worker] Matrix products with a packed right side: every linear layer and every convolution.
//!
//! The left side is read where it lies. Its rows may consist of several pieces of equal length at fixed
//! distances, so that a convolution over a channels-last, zero-padded buffer needs no copy: the pieces are
//! the taps. The right side is packed once into panels of two vectors of columns.

use super::{
    aligned::{Floats, Lent},
    kernels::{Kernel, Tile, kernels},
    level::Level,
};

/// Rows are worked on in groups of this many: a multiple of every kernel's rows, and few enough that the
/// results of wide layers stay in the second cache.
pub const BLOCK_ROWS: usize = 48;

/// Floats between rows of a scratch matrix beyond its width: rows a power of two apart would share the same few
/// sets of the first cache.
pub const SKEW: usize = 16;

/// Rows and depth of a block of a product over deep rows: with the panels, they stay in the second cache.
const DEEP_ROWS: usize = 120;
const DEEP: usize = 512;

/// Most rows and columns of a tile.
const MAX_WIDTH: usize = 32;
const MAX_TILE: usize = 12 * MAX_WIDTH;

/// What a product does with what its output holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    Replace,
    Add,
}

/// How a product is cut: rows and depth of a block, and the line of the depth where it begins.
#[derive(Clone, Copy)]
struct Cut {
    rows: usize,
    depth: usize,
    from: usize,
}

/// The right side of a product, `[depth][columns]`, with a bias.
#[derive(Clone)]
pub struct Packed {
    level: Level,
    depth: usize,
    columns: usize,
    /// Panels of `2 * lanes` columns (the last may have `lanes`), each `[depth][width]`, padded with zeros.
    panels: Floats,
    /// `[columns]`, padded with zeros to whole panels.
    bias: Floats,
}

/// The left side of a product: row `i` begins at `start + i * stride`, and consists of pieces of
/// `segment_len` floats that lie `segments[..]` after its beginning.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub data: &'a [f32],
    pub start: usize,
    pub stride: usize,
    pub segments: &'a [usize],
    pub segment_len: usize,
}

impl<'a> Rows<'a> {
    /// Plain rows of `width` floats, `stride` apart.
    pub fn plain(data: &'a [f32], width: usize, stride: usize) -> Self {
        Self {
            data,
            start: 0,
            stride,
            segments: &[0],
            segment_len: width,
        }
    }

    /// The rows from `row` on.
    #[must_use]
    pub fn skip(mut self, row: usize) -> Self {
        self.start += row * self.stride;
        self
    }

    /// Length of a row, all pieces together.
    const fn depth(&self) -> usize {
        self.segments.len() * self.segment_len
    }
}

impl Packed {
    /// Packs `weight(k, j)` for `k < depth` and `j < columns`; `bias` has `columns` values or none.
    pub fn new(
        depth: usize,
        columns: usize,
        bias: &[f32],
        weight: impl FnMut(usize, usize) -> f32,
    ) -> Self {
        Self::with_level(Level::best(), depth, columns, bias, weight)
    }

    /// As [`Self::new`] for a level that this processor has.
    ///
    /// # Panics
    /// If the processor lacks it: the caller's defect.
    pub fn with_level(
        level: Level,
        depth: usize,
        columns: usize,
        bias: &[f32],
        mut weight: impl FnMut(usize, usize) -> f32,
    ) -> Self {
        let mut packed = Self::empty(level, depth, columns);
        packed.bias.own()[..bias.len()].copy_from_slice(bias);
        let lanes = level.lanes();
        let numbers = packed.panels.own();
        for (first, width, at) in panels(depth, columns, lanes) {
            // Column by column: the panel is in the first cache, and a file's weights lie so.
            let panel = &mut numbers[at..at + depth * width];
            for j in 0..width.min(columns - first) {
                for (k, line) in panel.chunks_exact_mut(width).enumerate() {
                    line[j] = weight(k, first + j);
                }
            }
        }
        packed
    }

    /// Zeros, to be filled by [`Self::fill_rows`] or [`Self::fill_columns`].
    pub fn zeroed(depth: usize, columns: usize) -> Self {
        Self::empty(Level::best(), depth, columns)
    }

    fn empty(level: Level, depth: usize, columns: usize) -> Self {
        assert!(
            level == Level::Scalar || Level::available().contains(&level),
            "{level:?} on a processor without it"
        );
        let lanes = level.lanes();
        let padded = columns.div_ceil(lanes) * lanes;
        Self {
            level,
            depth,
            columns,
            panels: Floats::zeroed(depth * padded),
            bias: Floats::zeroed(padded),
        }
    }

    /// Sets the first `rows` lines of the depth from `source`, row `k` at `k * stride`, and the rest of the
    /// depth to zero.
    pub fn fill_rows(&mut self, source: &[f32], stride: usize) {
        let numbers = self.panels.own();
        for (first, width, at) in panels(self.depth, self.columns, self.level.lanes()) {
            let used = width.min(self.columns - first);
            let panel = &mut numbers[at..at + self.depth * width];
            for (k, line) in panel.chunks_exact_mut(width).enumerate() {
                line[..used].copy_from_slice(&source[k * stride + first..][..used]);
            }
        }
    }

    /// Sets column `j` from `source[j * stride..][..depth]`, times `scale`: the transpose of
    /// [`Self::fill_rows`].
    pub fn fill_columns(&mut self, source: &[f32], stride: usize, scale: f32) {
        let numbers = self.panels.own();
        for (first, width, at) in panels(self.depth, self.columns, self.level.lanes()) {
            let used = width.min(self.columns - first);
            let panel = &mut numbers[at..at + self.depth * width];
            for j in 0..used {
                let column = &source[(first + j) * stride..][..self.depth];
                for (line, x) in panel.chunks_exact_mut(width).zip(column) {
                    line[j] = scale * x;
                }
            }
        }
    }

    /// The packed numbers and the bias, as this processor's kernels read them, to be kept: see [`Self::lent`].
    pub fn lend(&self) -> [Lent; 2] {
        [self.panels.lend(), self.bias.lend()]
    }

    /// What [`Self::lend`] gave for a product of this size on a processor with vectors of the same width; `None` if
    /// the lengths are others.
    pub fn lent(depth: usize, columns: usize, [panels, bias]: [Lent; 2]) -> Option<Self> {
        let level = Level::best();
        let padded = columns.next_multiple_of(level.lanes());
        let fits = (*panels).as_ref().len() == depth.checked_mul(padded)?
            && (*bias).as_ref().len() == padded;
        fits.then_some(Self {
            level,
            depth,
            columns,
            panels: Floats::Lent(panels),
            bias: Floats::Lent(bias),
        })
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
        4 * (self.panels.len() + self.bias.len())
    }

    /// `out[i][j] = bias[j] + Σ_k rows[i][k] · weight[k][j]` for `count` rows; row `i` of `out` begins at
    /// `i * out_stride`.
    ///
    /// # Panics
    /// If the rows' length is not the depth, or a row lies outside `rows.data` or `out`.
    pub fn multiply(&self, rows: Rows<'_>, count: usize, out: &mut [f32], out_stride: usize) {
        self.multiply_into(rows, count, out, out_stride, Into::Replace);
    }

    /// As [`Self::multiply`], or added to what `out` holds.
    ///
    /// # Panics
    /// As [`Self::multiply`].
    pub fn multiply_into(
        &self,
        rows: Rows<'_>,
        count: usize,
        out: &mut [f32],
        out_stride: usize,
        into: Into,
    ) {
        assert_eq!(rows.depth(), self.depth, "depth");
        self.blocks(rows, count, out, out_stride, into, self.undivided(0));
    }

    /// Adds a part of the product to `out`: `rows` meet the weight's lines from `from` on. The bias belongs to the
    /// part that begins at 0. So a wide input need never exist as a whole.
    ///
    /// # Panics
    /// If the rows are longer than the rest of the depth, or a row lies outside `rows.data` or `out`.
    pub fn add_part(
        &self,
        from: usize,
        rows: Rows<'_>,
        count: usize,
        out: &mut [f32],
        out_stride: usize,
    ) {
        let cut = self.undivided(from);
        self.blocks(rows, count, out, out_stride, Into::Add, cut);
    }

    /// A product in blocks of rows, the depth in one piece from the weight's line `from` on.
    const fn undivided(&self, from: usize) -> Cut {
        Cut {
            rows: BLOCK_ROWS,
            depth: self.depth,
            from,
        }
    }

    /// `out[i][j] (+)= bias[j] + Σ_k a[i · stride + k] · weight[k][j]` for `count` rows that may overlap: a
    /// convolution over time is such a product. Deep rows are worked on in pieces. Row `i` of `out` begins at
    /// `i * out_stride`.
    ///
    /// # Panics
    /// If a row lies outside `a` or `out`.
    pub fn product(
        &self,
        a: &[f32],
        stride: usize,
        count: usize,
        out: &mut [f32],
        out_stride: usize,
        into: Into,
    ) {
        let cut = Cut {
            rows: DEEP_ROWS,
            depth: DEEP,
            from: 0,
        };
        let rows = Rows::plain(a, self.depth, stride);
        self.blocks(rows, count, out, out_stride, into, cut);
    }

    /// A product cut into blocks; rows of several pieces are not cut along the depth.
    fn blocks(
        &self,
        rows: Rows<'_>,
        count: usize,
        out: &mut [f32],
        out_stride: usize,
        into: Into,
        cut: Cut,
    ) {
        if count == 0 || self.columns == 0 || rows.depth() == 0 {
            return;
        }
        let span = rows.depth();
        assert!(cut.from + span <= self.depth, "depth");
        let farthest = rows.segments.iter().max().copied().unwrap_or(0) + rows.segment_len;
        assert!(rows.start + (count - 1) * rows.stride + farthest <= rows.data.len());
        assert!(out_stride >= self.columns);
        assert!((count - 1) * out_stride + self.columns <= out.len());
        let kernels = kernels(self.level);
        let lanes = self.level.lanes();
        let mut spare = [0.0f32; MAX_TILE];
        let deep = if rows.segments.len() > 1 {
            span
        } else {
            cut.depth
        };
        let no_bias = [0.0f32; MAX_WIDTH];
        let (numbers, biases) = (&*self.panels, &*self.bias);
        let padded = self.columns.next_multiple_of(lanes);
        assert!(numbers.len() >= self.depth * padded && biases.len() >= padded);
        let blocks = (0..count).step_by(cut.rows);
        for (block, k) in blocks.flat_map(|b| (0..span).step_by(deep).map(move |k| (b, k))) {
            let block_end = (block + cut.rows).min(count);
            let whole_depth = rows.segments.len() > 1;
            let piece = [rows.segments[0] + k];
            let (segments, segment_len) = if whole_depth {
                (rows.segments, rows.segment_len)
            } else {
                (&piece[..], deep.min(span - k))
            };
            let add = into == Into::Add || k > 0;
            let line = cut.from + k;
            for (first, width, at) in panels(self.depth, self.columns, lanes) {
                let mut row = block;
                // The panel after this one is asked for meanwhile, or the first one again: the processor's own
                // guesses end at every page, and what lies in the third cache is late then.
                let after = at + self.depth * width;
                let after = if after < numbers.len() { after } else { 0 };
                let mut next = numbers.as_ptr().wrapping_add(after + line * width);
                while row < block_end {
                    let (height, kernel) = pick(kernels, block_end - row, width > lanes);
                    let whole = first + width <= self.columns;
                    let target = row * out_stride + first;
                    let used = self.columns - first;
                    if !whole && add {
                        for i in 0..height {
                            spare[i * width..][..used]
                                .copy_from_slice(&out[target + i * out_stride..][..used]);
                        }
                    }
                    let (c, c_stride) = if whole {
                        (out[target..].as_mut_ptr(), out_stride)
                    } else {
                        (spare.as_mut_ptr(), width)
                    };
                    let bias = if line == 0 {
                        &biases[first..]
                    } else {
                        &no_bias
                    };
                    let tile = Tile {
                        a: rows.data[rows.start + row * rows.stride..].as_ptr(),
                        a_stride: rows.stride,
                        segments,
                        segment_len,
                        b: numbers[at + line * width..].as_ptr(),
                        bias: bias.as_ptr(),
                        c,
                        c_stride,
                        add,
                        next,
                    };
                    next = next.wrapping_add(segments.len() * (segment_len / 4) * width);
                    // SAFETY: `empty` checked the processor, `lent` took what it has. The asserts above hold every
                    // row inside `data` and `out`; a panel holds `depth * width` floats, the bias is padded to whole
                    // panels (`no_bias` is as wide as any), and a tile that is cut off goes to `spare`, which
                    // holds the largest tile.
                    unsafe { kernel(&tile) };
                    if !whole {
                        for i in 0..height {
                            out[target + i * out_stride..][..used]
                                .copy_from_slice(&spare[i * width..][..used]);
                        }
                    }
                    row += height;
                }
            }
        }
    }
}

/// First column, width and place of every panel.
fn panels(
    depth: usize,
    columns: usize,
    lanes: usize,
) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..columns).step_by(2 * lanes).map(move |first| {
        let width = if columns - first > lanes {
            2 * lanes
        } else {
            lanes
        };
        (first, width, first * depth)
    })
}

fn pick(kernels: &[(usize, Kernel, Kernel)], left: usize, wide: bool) -> (usize, Kernel) {
    for (height, wide_kernel, narrow_kernel) in kernels {
        if *height <= left {
            return (*height, if wide { *wide_kernel } else { *narrow_kernel });
        }
    }
    unreachable!("every level has a kernel of one row")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `n` numbers from -1 to 1, others for each seed.
    pub fn values(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            })
            .collect()
    }

    /// Against sums in double precision, for every kernel, odd sizes and rows in pieces.
    #[test]
    fn a_product_equals_its_sums() {
        let segments = [0usize, 40, 90];
        for level in Level::available() {
            for (count, len, columns) in [
                (1, 1, 1),
                (2, 3, 5),
                (7, 4, 16),
                (13, 9, 17),
                (50, 8, 33),
                (61, 13, 100),
                (31, 6, 64),
            ] {
                let stride = 11;
                let data = values(5 + count * stride + 120, 3);
                let depth = len * segments.len();
                let weight = values(depth * columns, 5);
                let bias = values(columns, 9);
                let packed = Packed::with_level(level, depth, columns, &bias, |k, j| {
                    weight[k * columns + j]
                });
                let rows = Rows {
                    data: &data,
                    start: 5,
                    stride,
                    segments: &segments,
                    segment_len: len,
                };
                let out_stride = columns + 3;
                let mut out = vec![7.0f32; count * out_stride];
                packed.multiply(rows, count, &mut out, out_stride);
                for i in 0..count {
                    for j in 0..columns {
                        let mut sum = f64::from(bias[j]);
                        for (s, at) in segments.iter().enumerate() {
                            for k in 0..len {
                                sum += f64::from(data[5 + i * stride + at + k])
                                    * f64::from(weight[(s * len + k) * columns + j]);
                            }
                        }
                        let got = f64::from(out[i * out_stride + j]);
                        assert!(
                            (got - sum).abs() < 1e-5,
                            "{level:?} {count} {len} {columns}"
                        );
                    }
                    // What lies between the rows is left alone.
                    assert!(
                        out[i * out_stride + columns..(i + 1) * out_stride]
                            .iter()
                            .all(|x| *x == 7.0)
                    );
                }
            }
        }
    }

    /// Parts of the depth, one after the other, onto what was there; rows of several pieces too.
    #[test]
    fn parts_of_a_product_add_up() {
        let (count, depth, columns, stride, out_stride) = (53, 90, 77, 93, 80);
        let x = values(count * stride, 1);
        let weight = values(depth * columns, 2);
        let bias = values(columns, 3);
        for level in Level::available() {
            let packed =
                Packed::with_level(level, depth, columns, &bias, |k, j| weight[k * columns + j]);
            let mut whole = values(count * out_stride, 4);
            let mut parts = whole.clone();
            let rows = Rows::plain(&x, depth, stride);
            packed.multiply_into(rows, count, &mut whole, out_stride, Into::Add);
            for (from, len, segments) in
                [(0, 40, &[0][..]), (40, 10, &[40, 50, 60]), (70, 20, &[70])]
            {
                let rows = Rows {
                    segments,
                    segment_len: len,
                    ..rows
                };
                packed.add_part(from, rows, count, &mut parts, out_stride);
            }
            for (a, b) in whole.iter().zip(&parts) {
                assert!((a - b).abs() < 1e-5, "{level:?}: {a} {b}");
            }
        }
    }

    /// Overlapping rows, cut along the depth, with and without what was there, on dirty output.
    #[test]
    fn a_deep_product_equals_its_sums() {
        for level in Level::available() {
            for (rows, depth, columns, stride, into) in [
                (1, 1, 1, 1, Into::Replace),
                (13, 7, 64, 3, Into::Replace),
                (25, 600, 33, 610, Into::Add),
                (121, 1100, 96, 40, Into::Add),
                (121, 513, 40, 513, Into::Replace),
                (11, 20, 31, 20, Into::Replace),
            ] {
                let a = values((rows - 1) * stride + depth, 1);
                let b = values(depth * columns, 2);
                let bias = values(columns, 3);
                let packed =
                    Packed::with_level(level, depth, columns, &bias, |k, n| b[k * columns + n]);
                let out_stride = columns + 5;
                let before = values(rows * out_stride, 4);
                let mut out = before.clone();
                packed.product(&a, stride, rows, &mut out, out_stride, into);
                for (at, (got, was)) in out.iter().zip(&before).enumerate() {
                    let (m, n) = (at / out_stride, at % out_stride);
                    if n >= columns {
                        assert_eq!(got, was, "written outside");
                        continue;
                    }
                    let start = if into == Into::Add { *was } else { 0.0 };
                    let sum: f64 = (0..depth)
                        .map(|k| f64::from(a[m * stride + k]) * f64::from(b[k * columns + n]))
                        .sum();
                    let truth = sum + f64::from(bias[n]) + f64::from(start);
                    let error = (f64::from(*got) - truth).abs();
                    assert!(
                        error < 1e-7 * depth as f64 + 1e-6,
                        "{level:?} {m} {n}: {error:e}"
                    );
                }
            }
        }
    }

    #[test]
    fn filling_by_rows_and_by_columns_packs_the_same() {
        let (depth, columns) = (10, 45);
        let source = values(depth * columns, 1);
        let transposed: Vec<f32> = (0..columns * depth)
            .map(|i| source[(i % depth) * columns + i / depth])
            .collect();
        let mut a = Packed::zeroed(depth, columns);
        a.fill_rows(&source, columns);
        let mut b = Packed::zeroed(depth, columns);
        b.fill_columns(&transposed, depth, 1.0);
        let c = Packed::new(depth, columns, &[], |k, j| source[k * columns + j]);
        assert_eq!(&*a.panels, &*c.panels);
        assert_eq!(&*b.panels, &*c.panels);
    }

    #[test]
    fn a_lent_product_is_the_same_and_wrong_lengths_are_refused() {
        let (depth, columns, count) = (10, 45, 7);
        let weight = values(depth * columns, 1);
        let bias = values(columns, 2);
        let own = Packed::new(depth, columns, &bias, |k, j| weight[k * columns + j]);
        let mut lent = Packed::lent(depth, columns, own.lend()).unwrap();
        let x = values(count * depth, 3);
        let product = |packed: &Packed| {
            let mut out = vec![0.0; count * columns];
            packed.multiply(Rows::plain(&x, depth, depth), count, &mut out, columns);
            out
        };
        assert_eq!(product(&own), product(&lent));
        // Written to, it is a copy: what was lent stays.
        let before = product(&own);
        lent.fill_rows(&values(depth * columns, 4), columns);
        assert_ne!(product(&lent), before);
        assert_eq!(product(&own), before);
        for (depth, columns) in [
            (depth + 1, columns),
            (depth, columns + 64),
            (usize::MAX, 45),
        ] {
            assert!(Packed::lent(depth, columns, own.lend()).is_none());
        }
    }
}
