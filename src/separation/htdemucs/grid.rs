// [worker] How a whole signal is cut into the network's segments, and how their results are joined.
//
// The grid lies on the signal's beginning and never moves: chunk `k` begins at `k · stride`. Results are
// kept in pieces of a few chunks each, as sums that still have to be divided by the sum of the weights. A
// sample lies in two chunks at most (the overlap is at most half), so that adding pieces gives the same
// numbers as one pass over everything.

/// How chunks overlap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overlap {
    /// Share of a segment that lies in the next one too: 0 ≤ `share` ≤ 0.5.
    pub share: f64,
    /// The weights' triangle is raised to this: 1 is a linear crossfade.
    pub power: f64,
}

impl Default for Overlap {
    /// The reference's.
    fn default() -> Self {
        Self {
            share: 0.25,
            power: 1.0,
        }
    }
}

/// Chunks of a piece: 29.3 s of the released models', the length of the worker's other cache entries.
pub const CHUNKS_A_PIECE: usize = 5;
/// Longer segments are a piece each, in samples: 10 s.
const LONG_SEGMENT: usize = 441_000;

/// The grid over a signal, or over a shifted view of it.
pub struct Grid {
    segment: usize,
    stride: usize,
    chunks_a_piece: usize,
    /// Whether a chunk that is shorter than a segment is widened to one.
    widens: bool,
    weights: Vec<f32>,
    /// Samples of the view, and the signal's sample at its beginning.
    len: usize,
    origin: isize,
}

/// One chunk of a grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chunk {
    /// Where its result goes, in the view.
    pub offset: usize,
    pub len: usize,
    /// The signal's sample that the network hears first. A chunk that is shorter than a segment is widened
    /// on both sides with what is there.
    pub heard: isize,
    /// The chunk's beginning in what the network hears.
    pub skip: usize,
    /// How many samples the network hears.
    pub hears: usize,
}

impl Grid {
    /// Over `len` samples beginning at the signal's sample `origin`.
    pub fn new(segment: usize, overlap: Overlap, origin: isize, len: usize) -> Self {
        let share = overlap.share.clamp(0.0, 0.5);
        let stride = (((1.0 - share) * segment as f64) as usize).max(1);
        let half = segment / 2;
        let rise = (1..=half).chain((1..=segment - half).rev());
        let most = (segment - half) as f32;
        Self {
            segment,
            stride,
            chunks_a_piece: if segment > LONG_SEGMENT {
                1
            } else {
                CHUNKS_A_PIECE
            },
            widens: true,
            weights: rise
                .map(|w| (w as f32 / most).powf(overlap.power as f32))
                .collect(),
            len,
            origin,
        }
    }

    /// The same grid for a network that hears short chunks as they are.
    #[must_use]
    pub fn without_widening(mut self) -> Self {
        self.widens = false;
        self
    }

    /// Over a signal that is still growing: [`Self::certain_end`] says from when on a piece is what it will
    /// be in the grid over the whole.
    pub fn endless(segment: usize, overlap: Overlap, origin: isize) -> Self {
        Self::new(segment, overlap, origin, usize::MAX >> 2)
    }

    /// Samples of the signal from which on a piece doesn't depend on where the signal ends: all its chunks
    /// are whole segments.
    pub fn certain_end(&self, piece: usize) -> usize {
        let last = (piece + 1) * self.chunks_a_piece - 1;
        (last * self.stride + self.segment).saturating_add_signed(self.origin)
    }

    /// How many pieces there are.
    pub fn pieces(&self) -> usize {
        self.chunks().div_ceil(self.chunks_a_piece)
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> usize {
        self.len.div_ceil(self.stride)
    }

    /// The chunks of a piece.
    pub fn piece(&self, piece: usize) -> impl Iterator<Item = Chunk> + '_ {
        let first = piece * self.chunks_a_piece;
        (first..self.chunks().min(first + self.chunks_a_piece)).map(|k| {
            let offset = k * self.stride;
            let len = self.segment.min(self.len - offset);
            let hears = if self.widens { self.segment } else { len };
            let skip = (hears - len) / 2;
            Chunk {
                offset,
                len,
                heard: offset as isize - skip as isize + self.origin,
                skip,
                hears,
            }
        })
    }

    /// First sample of a piece in the view, and its length.
    pub fn span(&self, piece: usize) -> (usize, usize) {
        let start = piece * self.chunks_a_piece * self.stride;
        let end = self
            .piece(piece)
            .map(|c| c.offset + c.len)
            .max()
            .unwrap_or(start);
        (start, end - start)
    }

    /// What the network hears of `signal` for a chunk: silence outside.
    pub fn cut(&self, signal: &[f32], chunk: &Chunk) -> Vec<f32> {
        let mut out = vec![0.0; chunk.hears];
        let from = chunk.heard.max(0) as usize;
        let to = (chunk.heard + chunk.hears as isize).clamp(0, signal.len() as isize) as usize;
        if from < to {
            let at = (from as isize - chunk.heard) as usize;
            out[at..at + to - from].copy_from_slice(&signal[from..to]);
        }
        out
    }

    /// The part of the signal that a piece hears: from its first sample, how many.
    pub fn heard(&self, piece: usize, signal_len: usize) -> (usize, usize) {
        let clamp = |x: isize| x.clamp(0, signal_len as isize) as usize;
        let from = self.piece(piece).map(|c| clamp(c.heard)).min();
        let to = self
            .piece(piece)
            .map(|c| clamp(c.heard + c.hears as isize))
            .max();
        let from = from.unwrap_or(0);
        (from, to.unwrap_or(from).max(from) - from)
    }

    /// Adds a chunk's result, as long as what the network heard, to the sums of its piece that begin at `start`.
    pub fn add(&self, chunk: &Chunk, result: &[f32], start: usize, sums: &mut [f32]) {
        let to = &mut sums[chunk.offset - start..][..chunk.len];
        let result = &result[chunk.skip..];
        for ((to, x), w) in to.iter_mut().zip(result).zip(&self.weights) {
            *to += w * x;
        }
    }

    /// Divides the sums over all pieces by the sum of the weights.
    pub fn finish(&self, sums: &mut [f32]) {
        let mut total = vec![0.0f32; self.stride];
        for (k, sums) in sums.chunks_mut(self.stride).enumerate() {
            // Chunks that reach into this stretch, the earliest first.
            total.fill(0.0);
            let first = (k * self.stride)
                .saturating_sub(self.segment - 1)
                .div_ceil(self.stride);
            for chunk in first..=k {
                let reached = &self.weights[((k - chunk) * self.stride).min(self.segment)..];
                for (to, w) in total.iter_mut().zip(reached) {
                    *to += w;
                }
            }
            for (x, total) in sums.iter_mut().zip(&total) {
                *x /= total;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A "network" that returns what it hears gives the signal back, whatever the lengths and shifts.
    #[test]
    fn an_identity_network_returns_the_signal() {
        for len in [1usize, 9, 10, 11, 74, 75, 76, 1000] {
            for overlap in [0.0, 0.1, 0.25, 0.5] {
                for origin in [0isize, -13] {
                    let signal: Vec<f32> = (0..len).map(|n| (n as f32 * 0.7).sin()).collect();
                    let overlap = Overlap {
                        share: overlap,
                        power: 2.0,
                    };
                    let view = (len as isize - origin) as usize;
                    let grid = Grid::new(100, overlap, origin, view);
                    let mut sums = vec![0.0; view];
                    for piece in 0..grid.pieces() {
                        let (start, span) = grid.span(piece);
                        let (heard, count) = grid.heard(piece, len);
                        assert!(heard + count <= len);
                        for chunk in grid.piece(piece) {
                            let cut = grid.cut(&signal, &chunk);
                            grid.add(&chunk, &cut, start, &mut sums[start..start + span]);
                        }
                    }
                    grid.finish(&mut sums);
                    for (n, x) in signal.iter().enumerate() {
                        let got = sums[(n as isize - origin) as usize];
                        assert!((got - x).abs() < 1e-5, "{len} {overlap:?} {origin} {n}");
                    }
                }
            }
        }
    }

    /// The reference's numbers for its released models.
    #[test]
    fn the_grid_is_the_references() {
        let grid = Grid::new(343_980, Overlap::default(), 0, 882_000);
        let offsets: Vec<usize> = grid.piece(0).map(|c| c.offset).collect();
        assert_eq!(offsets, [0, 257_985, 515_970, 773_955]);
        let last = grid.piece(0).last().unwrap();
        assert_eq!((last.len, last.skip), (108_045, 117_967));
        assert_eq!(last.heard, 773_955 - 117_967);
    }
}
