// [worker] Residual vector quantisation: each codebook codes what the ones before it left over.

use crate::dense::{
    gemm::{Into, Packed},
    pool::for_pieces,
};

struct Codebook {
    /// `[size][dimension]`.
    entries: Vec<f32>,
    /// The entries as the right side of a product, and their squared lengths.
    packed: Packed,
    squares: Vec<f32>,
}

pub(super) struct Quantizer {
    books: Vec<Codebook>,
    dimension: usize,
    size: usize,
}

/// Frames searched at once.
const FRAMES: usize = 32;

impl Quantizer {
    /// `codebooks` are `[size][dimension]` each.
    pub fn new(codebooks: Vec<Vec<f32>>, dimension: usize) -> Self {
        let size = codebooks.first().map_or(0, |b| b.len() / dimension);
        let books = codebooks
            .into_iter()
            .map(|entries| Codebook {
                packed: Packed::new(dimension, size, &[], |k, n| entries[n * dimension + k]),
                squares: entries
                    .chunks_exact(dimension)
                    .map(|e| e.iter().map(|x| x * x).sum())
                    .collect(),
                entries,
            })
            .collect();
        Self {
            books,
            dimension,
            size,
        }
    }

    pub fn books(&self) -> usize {
        self.books.len()
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// The entry of a codebook.
    pub fn entry(&self, book: usize, code: usize) -> &[f32] {
        &self.books[book].entries[code * self.dimension..(code + 1) * self.dimension]
    }

    /// Codes `[frame][book]` of latents `[frame][dimension]`: with each book the entry of the least
    /// `‖r‖² − 2 r·e + ‖e‖²`, the first of equals, where `r` is what the books before left over.
    pub fn encode(&self, latents: &[f32]) -> Vec<u32> {
        let frames = latents.len() / self.dimension;
        // Codes go through f32 while they are computed in pieces: below 2²⁴ they are exact.
        let mut codes = vec![0.0f32; frames * self.books.len()];
        for_pieces(
            &mut codes,
            FRAMES * self.books.len(),
            |i, piece, scores: &mut Vec<f32>| {
                let count = piece.len() / self.books.len();
                let mut rest =
                    latents[i * FRAMES * self.dimension..][..count * self.dimension].to_vec();
                scores.resize(count * self.size, 0.0);
                for (q, book) in self.books.iter().enumerate() {
                    book.packed.product(
                        &rest,
                        self.dimension,
                        count,
                        scores,
                        self.size,
                        Into::Replace,
                    );
                    for (f, rest) in rest.chunks_exact_mut(self.dimension).enumerate() {
                        let square: f32 = rest.iter().map(|x| x * x).sum();
                        let mut best = (f32::INFINITY, 0);
                        for (n, (dot, e)) in scores[f * self.size..(f + 1) * self.size]
                            .iter()
                            .zip(&book.squares)
                            .enumerate()
                        {
                            let distance = (square - 2.0 * dot) + e;
                            if distance < best.0 {
                                best = (distance, n);
                            }
                        }
                        piece[f * self.books.len() + q] = best.1 as f32;
                        rest.iter_mut()
                            .zip(self.entry(q, best.1))
                            .for_each(|(r, e)| *r -= e);
                    }
                }
            },
        );
        codes.into_iter().map(|c| c as u32).collect()
    }
}
