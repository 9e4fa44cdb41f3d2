// [worker] A linear layer in columns' chunks that stay in the processor's caches.

use std::ops::Range;

use super::{JascoError, weights};
use crate::{
    dense::gemm::{Into, Packed, Rows},
    models::tensors::{self, Tensors},
};

/// Columns that are worked on together: with a depth of 1024 they take 1 MiB, which stays in a core's
/// second or third cache while all rows pass, so that the weights come from memory once.
pub const CHUNK: usize = 256;

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

    /// Tensors `weight`, `[columns][depth]`, and `bias`, `[columns]` or none, as a layer: packed at an earlier opening,
    /// else now, for the next one.
    ///
    /// # Errors
    /// As [`weights::read`].
    pub fn load(
        source: &dyn Tensors,
        weight: &str,
        bias: Option<&str>,
        depth: usize,
        columns: usize,
    ) -> Result<Self, JascoError> {
        Self::kept_or(source, weight, depth, columns, |raw| {
            let numbers = weights::read(raw, weight, &[columns, depth])?;
            let bias = match bias {
                Some(name) => weights::read(raw, name, &[columns])?,
                None => Vec::new(),
            };
            Ok(Self::new(depth, columns, &numbers, &bias))
        })
    }

    /// The layer kept under `name` at an earlier opening, else what `make` makes of the source's tensors, kept for the
    /// next one.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn kept_or(
        source: &dyn Tensors,
        name: &str,
        depth: usize,
        columns: usize,
        make: impl FnOnce(&dyn Tensors) -> Result<Self, JascoError>,
    ) -> Result<Self, JascoError> {
        let key = |chunk: usize| format!("{name}.{chunk}");
        let kept = (0..columns)
            .step_by(CHUNK)
            .enumerate()
            .map(|(i, first)| tensors::kept(source, &key(i), depth, CHUNK.min(columns - first)));
        if let Some(chunks) = kept.collect() {
            return Ok(Self {
                chunks,
                depth,
                columns,
            });
        }
        let made = make(source.raw().unwrap_or(source))?;
        for (i, chunk) in made.chunks.iter().enumerate() {
            tensors::keep(source, &key(i), chunk);
        }
        Ok(made)
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

    /// `count` rows of `x`, to rows of `out` that lie `stride` apart.
    pub fn apply(&self, x: Rows<'_>, count: usize, out: &mut [f32], stride: usize, into: Into) {
        for (first, chunk) in self.chunks() {
            chunk.multiply_into(x, count, &mut out[first..], stride, into);
        }
    }

    /// The same for plain rows `[count][depth]`, to rows that are as long as this layer is wide.
    pub fn apply_plain(&self, x: &[f32], count: usize, out: &mut [f32]) {
        let x = Rows::plain(x, self.depth, self.depth);
        self.apply(x, count, out, self.columns, Into::Replace);
    }

    /// Only the columns `part`, which begins at a multiple of [`CHUNK`] and ends at one or with the layer.
    pub fn apply_columns(
        &self,
        part: Range<usize>,
        x: Rows<'_>,
        count: usize,
        out: &mut [f32],
        stride: usize,
    ) {
        debug_assert!(part.start.is_multiple_of(CHUNK));
        for (first, chunk) in self.chunks().filter(|(first, _)| part.contains(first)) {
            chunk.multiply(x, count, &mut out[first - part.start..], stride);
        }
    }

    /// Adds what the inputs from `from` on contribute, of which a row of `x` holds some.
    pub fn add_part(&self, from: usize, x: Rows<'_>, count: usize, out: &mut [f32], stride: usize) {
        for (first, chunk) in self.chunks() {
            chunk.add_part(from, x, count, &mut out[first..], stride);
        }
    }

    /// Each chunk with its first column.
    fn chunks(&self) -> impl Iterator<Item = (usize, &Packed)> {
        (0..self.columns).step_by(CHUNK).zip(&self.chunks)
    }
}
