// [worker] A linear layer in columns' chunks that stay in the processor's caches.

use crate::dense::gemm::{Packed, Rows};

/// Columns that are worked on together: with a depth of 1024 they take 1 MiB, which stays in a core's
/// second or third cache while all rows pass, so that the weights come from memory once.
const CHUNK: usize = 256;

/// `y = x · Wᵀ + b`.
pub struct Linear {
    chunks: Vec<Packed>,
    depth: usize,
    columns: usize,
}

impl Linear {
    /// `weight`: `[columns][depth]`; `bias`: `[columns]` or empty.
    pub fn new(depth: usize, columns: usize, weight: &[f32], bias: &[f32]) -> Self {
        let chunks = (0..columns)
            .step_by(CHUNK)
            .map(|first| {
                let n = CHUNK.min(columns - first);
                let rows = &weight[first * depth..][..n * depth];
                if bias.is_empty() {
                    let mut packed = Packed::zeroed(depth, n);
                    packed.fill_columns(rows, depth, 1.0);
                    packed
                } else {
                    let bias = &bias[first..first + n];
                    Packed::new(depth, n, bias, |k, j| rows[j * depth + k])
                }
            })
            .collect();
        Self {
            chunks,
            depth,
            columns,
        }
    }

    /// `matrix`: `[depth][columns]`, not transposed.
    pub fn from_rows(depth: usize, columns: usize, matrix: &[f32]) -> Self {
        let chunks = (0..columns)
            .step_by(CHUNK)
            .map(|first| {
                let mut packed = Packed::zeroed(depth, CHUNK.min(columns - first));
                packed.fill_rows(&matrix[first..], columns);
                packed
            })
            .collect();
        Self {
            chunks,
            depth,
            columns,
        }
    }

    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// `count` rows of `x`, to rows of `out` that are as long as this layer is wide.
    pub fn apply(&self, x: Rows<'_>, count: usize, out: &mut [f32]) {
        let mut first = 0;
        for chunk in &self.chunks {
            chunk.multiply(x, count, &mut out[first..], self.columns);
            first += chunk.columns();
        }
    }

    /// The same for plain rows `[count][depth]`.
    pub fn apply_plain(&self, x: &[f32], count: usize, out: &mut [f32]) {
        self.apply(Rows::plain(x, self.depth, self.depth), count, out);
    }
}
