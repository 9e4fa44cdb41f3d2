// [worker] The network that estimates masks: convolutions over bands and frames around a temporal one.
//!
//! An encoder halves the bands from level to level (Ronneberger, Fischer & Brox, "U-Net", 2015, without halving
//! time), a temporal convolutional network with growing dilation (Bai, Kolter & Koltun, 2018; not causal) joins what
//! all bands say over ±1.5 s, and a decoder spreads its answer back over the bands. Every 3 × 3 convolution has an
//! offset for each channel *and band*, since a kick's band is no cymbal's. Weights come from
//! `models/training/separation/train.py`, batch norms folded in.

use std::ops::Range;

use crate::{
    dense::{
        act::softmax,
        gemm::{Packed, Rows},
        weights::{Reader, WeightsError},
    },
    separation::stft::Plane,
};

/// First bytes of the file of weights.
const MAGIC: &[u8; 8] = b"UNSEPA01";
/// Bands of the spectrum.
pub const BANDS: usize = 256;
/// Stems.
const STEMS: usize = 4;
/// Pairs of bands are the first level's bands: even and odd ones are channels.
const PAIRS: usize = BANDS / 2;
/// Limits of what a file may ask for.
const MAX_WIDTH: usize = 1024;
const MAX_LEVELS: usize = 5;
const MAX_BLOCKS: usize = 16;
const MAX_DILATION: usize = 256;
const MAX_BIN: usize = 2048;

/// Values by frame, band and channel, with a border of zeros: one band and one frame on each side.
struct Grid {
    data: Vec<f32>,
    frames: usize,
    bands: usize,
    channels: usize,
}

impl Grid {
    fn new(frames: usize, bands: usize, channels: usize) -> Self {
        Self {
            data: vec![0.0; (frames + 2) * (bands + 2) * channels],
            frames,
            bands,
            channels,
        }
    }

    /// Values of a frame with its border.
    const fn line(&self) -> usize {
        (self.bands + 2) * self.channels
    }

    /// `[band][channel]` of one frame.
    fn row(&self, frame: usize) -> &[f32] {
        let from = (frame + 1) * self.line() + self.channels;
        &self.data[from..from + self.bands * self.channels]
    }

    /// `[band][channel]` of one frame.
    fn row_mut(&mut self, frame: usize) -> &mut [f32] {
        let from = (frame + 1) * self.line() + self.channels;
        &mut self.data[from..from + self.bands * self.channels]
    }
}

/// A 3 × 3 convolution.
struct Conv {
    /// `[frame tap][band tap][input]` by output.
    kernel: Packed,
    /// `[band][output]`, or `[output]` for all bands.
    offset: Vec<f32>,
}

impl Conv {
    fn read(
        reader: &mut Reader<'_>,
        inputs: usize,
        outputs: usize,
        bands: usize,
    ) -> Result<Self, WeightsError> {
        Ok(Self {
            kernel: dense(reader, 9 * inputs, outputs)?,
            offset: reader.values(bands * outputs)?,
        })
    }

    /// One frame's `[band][output]`, without the offset; every `step`-th band is heard.
    fn frame(&self, input: &Grid, step: usize, frame: usize, out: &mut [f32]) {
        let line = input.line();
        let rows = Rows {
            data: &input.data,
            start: frame * line,
            stride: step * input.channels,
            segments: &[0, line, 2 * line],
            segment_len: 3 * input.channels,
        };
        let outputs = self.kernel.columns();
        self.kernel.multiply(rows, input.bands / step, out, outputs);
    }

    /// ReLU of the convolution, on half as many bands.
    fn halve(&self, input: &Grid) -> Grid {
        let mut out = Grid::new(input.frames, input.bands / 2, self.kernel.columns());
        for t in 0..input.frames {
            let row = out.row_mut(t);
            self.frame(input, 2, t, row);
            for (y, offset) in row.iter_mut().zip(&self.offset) {
                *y = (*y + offset).max(0.0);
            }
        }
        out
    }

    /// The input plus, or instead of it, the ReLU of its convolution.
    fn same(&self, input: &Grid, residual: bool) -> Grid {
        let mut out = Grid::new(input.frames, input.bands, self.kernel.columns());
        for t in 0..input.frames {
            let row = out.row_mut(t);
            self.frame(input, 1, t, row);
            for (y, offset) in row.iter_mut().zip(&self.offset) {
                *y = (*y + offset).max(0.0);
            }
            if residual {
                for (y, x) in row.iter_mut().zip(input.row(t)) {
                    *y += x;
                }
            }
        }
        out
    }
}

/// `[input][output]` weights as a product's right side.
fn dense(reader: &mut Reader<'_>, inputs: usize, outputs: usize) -> Result<Packed, WeightsError> {
    let w = reader.values(inputs * outputs)?;
    Ok(Packed::new(inputs, outputs, &[], |k, j| w[k * outputs + j]))
}

/// As [`dense`] with a bias behind the weights.
fn dense_with_bias(
    reader: &mut Reader<'_>,
    inputs: usize,
    outputs: usize,
) -> Result<Packed, WeightsError> {
    let w = reader.values(inputs * outputs)?;
    let bias = reader.values(outputs)?;
    Ok(Packed::new(inputs, outputs, &bias, |k, j| {
        w[k * outputs + j]
    }))
}

/// `x + ReLU(conv(x))` over time.
struct Block {
    dilation: usize,
    /// `[tap][input]` by output; taps at −dilation, 0, +dilation.
    kernel: Packed,
}

/// A level of encoder and decoder.
struct Level {
    before: Conv,
    down: Conv,
    /// From the level below, band by band.
    up: Packed,
    after: Conv,
}

/// See the file's head.
pub struct Net {
    /// First bin of each band, rising.
    starts: Vec<usize>,
    first: Conv,
    levels: Vec<Level>,
    squeeze: Packed,
    blocks: Vec<Block>,
    spread: Packed,
    last: Conv,
}

impl Net {
    /// Reads the file that `train.py export` wrote.
    ///
    /// # Errors
    /// If it isn't one, or is damaged.
    pub fn read(bytes: &[u8]) -> Result<Self, WeightsError> {
        let mut reader = Reader::new(bytes, MAGIC)?;
        let count = reader.number(MAX_LEVELS)?;
        let channels = (0..=count)
            .map(|_| reader.number(MAX_WIDTH))
            .collect::<Result<Vec<_>, _>>()?;
        let width = reader.number(MAX_WIDTH)?;
        let dilations = (0..reader.number(MAX_BLOCKS)?)
            .map(|_| reader.number(MAX_DILATION))
            .collect::<Result<Vec<_>, _>>()?;
        let starts = (0..BANDS)
            .map(|_| reader.number(MAX_BIN))
            .collect::<Result<Vec<_>, _>>()?;
        if !starts.is_sorted() {
            return Err(WeightsError::NotWeights);
        }
        let first = Conv::read(&mut reader, 2, channels[0], PAIRS)?;
        let mut levels = Vec::with_capacity(count);
        for (k, pair) in channels.windows(2).enumerate() {
            let (here, below) = (pair[0], pair[1]);
            levels.push(Level {
                before: Conv::read(&mut reader, here, here, PAIRS >> k)?,
                down: Conv::read(&mut reader, here, below, PAIRS >> (k + 1))?,
                up: dense_with_bias(&mut reader, below, here)?,
                after: Conv::read(&mut reader, here, here, PAIRS >> k)?,
            });
        }
        let flat = channels[count] * (PAIRS >> count);
        let squeeze = dense_with_bias(&mut reader, flat, width)?;
        let blocks = dilations
            .into_iter()
            .map(|dilation| {
                Ok(Block {
                    dilation,
                    kernel: dense_with_bias(&mut reader, 3 * width, width)?,
                })
            })
            .collect::<Result<Vec<_>, WeightsError>>()?;
        Ok(Self {
            starts,
            first,
            levels,
            squeeze,
            blocks,
            spread: dense_with_bias(&mut reader, width, flat)?,
            last: Conv::read(&mut reader, channels[0], 2 * STEMS, 1)?,
        })
    }

    /// The bins of a band in a spectrum of `count` bins; the last band has all that lie above.
    pub fn bins(&self, band: usize, count: usize) -> Range<usize> {
        let start = self.starts[band].min(count);
        start
            ..self
                .starts
                .get(band + 1)
                .map_or(count, |&end| end.min(count))
    }

    /// `features`: [`BANDS`] a frame. Masks `[frame][band][stem]`, the four of a band summing to one; `None` if
    /// `go_on` says so.
    pub fn masks(&self, features: &Plane<f32>, go_on: &dyn Fn() -> bool) -> Option<Vec<f32>> {
        let frames = features.frames;
        let mut x = Grid::new(frames, PAIRS, 2);
        for t in 0..frames {
            x.row_mut(t).copy_from_slice(features.row(t));
        }
        let mut x = self.first.same(&x, false);
        let mut kept = Vec::with_capacity(self.levels.len());
        for level in &self.levels {
            if !go_on() {
                return None;
            }
            let y = level.before.same(&x, true);
            x = level.down.halve(&y);
            kept.push(y);
        }
        self.join(&mut x, go_on)?;
        for (level, mut y) in self.levels.iter().zip(kept).rev() {
            if !go_on() {
                return None;
            }
            widen(&level.up, &x, &mut y);
            x = level.after.same(&y, true);
        }
        let mut out = vec![0.0; frames * BANDS * STEMS];
        for (t, row) in out.chunks_exact_mut(BANDS * STEMS).enumerate() {
            self.last.frame(&x, 1, t, row);
            for scores in row.chunks_exact_mut(2 * STEMS) {
                for (y, offset) in scores.iter_mut().zip(&self.last.offset) {
                    *y += offset;
                }
                scores.chunks_exact_mut(STEMS).for_each(softmax);
            }
        }
        Some(out)
    }

    /// What all bands say over time, added to the lowest level.
    fn join(&self, x: &mut Grid, go_on: &dyn Fn() -> bool) -> Option<()> {
        let (frames, width) = (x.frames, self.squeeze.columns());
        let border = self.blocks.iter().map(|b| b.dilation).max().unwrap_or(0);
        // Zeros before and behind the frames.
        let mut now = vec![0.0f32; (frames + 2 * border) * width];
        let inner = border * width..(border + frames) * width;
        let (line, flat) = (x.line(), x.bands * x.channels);
        let rows = Rows {
            data: &x.data,
            start: line + x.channels,
            stride: line,
            segments: &[0],
            segment_len: flat,
        };
        self.squeeze
            .multiply(rows, frames, &mut now[inner.clone()], width);
        now[inner.clone()].iter_mut().for_each(|y| *y = y.max(0.0));
        let mut sum = vec![0.0f32; frames * width];
        for block in &self.blocks {
            if !go_on() {
                return None;
            }
            let rows = Rows {
                data: &now,
                start: (border - block.dilation) * width,
                stride: width,
                segments: &[0, block.dilation * width, 2 * block.dilation * width],
                segment_len: width,
            };
            block.kernel.multiply(rows, frames, &mut sum, width);
            for (y, s) in now[inner.clone()].iter_mut().zip(&sum) {
                *y += s.max(0.0);
            }
        }
        let mut spread = vec![0.0f32; flat];
        for (t, y) in now[inner].chunks_exact(width).enumerate() {
            self.spread
                .multiply(Rows::plain(y, width, width), 1, &mut spread, flat);
            for (x, s) in x.row_mut(t).iter_mut().zip(&spread) {
                *x = (*x + s).max(0.0);
            }
        }
        Some(())
    }
}

/// Adds `up` of each band of `x` to its two bands of `y`.
fn widen(up: &Packed, x: &Grid, y: &mut Grid) {
    let channels = y.channels;
    let mut wide = vec![0.0f32; x.bands * channels];
    for t in 0..x.frames {
        let rows = Rows::plain(x.row(t), x.channels, x.channels);
        up.multiply(rows, x.bands, &mut wide, channels);
        let pairs = y.row_mut(t).chunks_exact_mut(2 * channels);
        for (pair, add) in pairs.zip(wide.chunks_exact(channels)) {
            for half in pair.chunks_exact_mut(channels) {
                for (y, a) in half.iter_mut().zip(add) {
                    *y += a;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_is_an_error() {
        let whole = include_bytes!("weights.bin");
        assert!(Net::read(whole).is_ok());
        assert!(matches!(
            Net::read(&whole[..whole.len() - 1]),
            Err(WeightsError::Short { .. })
        ));
        assert!(matches!(
            Net::read(b"something else"),
            Err(WeightsError::NotWeights)
        ));
        let mut large = whole.to_vec();
        large[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(
            Net::read(&large),
            Err(WeightsError::TooLarge { .. })
        ));
    }
}
