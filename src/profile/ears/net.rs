// [worker] A small temporal convolutional network, run frame by frame in plain arithmetic.
//
// input → dense, ReLU → residual blocks `x + ReLU(conv3(x))` with growing dilation → dense. After Bai,
// Kolter & Koltun, "An empirical evaluation of generic convolutional and recurrent networks for sequence
// modeling", 2018 (not causal here). Weights come from `models/training/profile/train.py`.

use crate::dense::weights::{Reader, WeightsError};

/// First bytes of a file of weights.
const MAGIC: &[u8; 8] = b"UNEARS01";
/// Limits of what a file may ask for.
const MAX_WIDTH: usize = 4096;
const MAX_BLOCKS: usize = 16;

/// A dense layer, `[input][output]`, so that the inner loop runs along the outputs.
struct Dense {
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Dense {
    fn add(&self, x: &[f32], y: &mut [f32]) {
        axpy(&self.weights, x, y);
    }
}

/// `y += Wᵀ x`, `w` as `[input][output]`.
fn axpy(w: &[f32], x: &[f32], y: &mut [f32]) {
    for (row, &x) in w.chunks_exact(y.len()).zip(x) {
        if x != 0.0 {
            for (y, &w) in y.iter_mut().zip(row) {
                *y += x * w;
            }
        }
    }
}

struct Block {
    dilation: usize,
    /// `[tap][input][output]`, taps at −dilation, 0, +dilation.
    taps: [Vec<f32>; 3],
    bias: Vec<f32>,
}

/// See the file's head.
pub(in super::super) struct Net {
    pub inputs: usize,
    pub outputs: usize,
    width: usize,
    first: Dense,
    blocks: Vec<Block>,
    last: Dense,
}

/// Reads nets one after the other from a file of weights.
pub(in super::super) struct Nets<'a>(Reader<'a>);

impl<'a> Nets<'a> {
    pub fn new(bytes: &'a [u8]) -> Result<Self, WeightsError> {
        Ok(Self(Reader::new(bytes, MAGIC)?))
    }

    pub fn net(&mut self) -> Result<Net, WeightsError> {
        let file = &mut self.0;
        let inputs = file.number(MAX_WIDTH)?;
        let width = file.number(MAX_WIDTH)?;
        let outputs = file.number(MAX_WIDTH)?;
        let count = file.number(MAX_BLOCKS)?;
        let first = Dense {
            weights: file.values(inputs * width)?,
            bias: file.values(width)?,
        };
        let mut blocks = Vec::with_capacity(count);
        for _ in 0..count {
            blocks.push(Block {
                dilation: file.number(1 << 16)?,
                taps: [
                    file.values(width * width)?,
                    file.values(width * width)?,
                    file.values(width * width)?,
                ],
                bias: file.values(width)?,
            });
        }
        let last = Dense {
            weights: file.values(width * outputs)?,
            bias: file.values(outputs)?,
        };
        Ok(Net {
            inputs,
            outputs,
            width,
            first,
            blocks,
            last,
        })
    }
}

impl Net {
    /// `input`: `[frame][inputs]`. Returns `[frame][outputs]`, before any squashing. Outside the input the
    /// hidden layers are zero, as in training.
    pub fn run(&self, input: &[f32]) -> Vec<f32> {
        let frames = input.len() / self.inputs.max(1);
        let w = self.width;
        let mut x = Vec::with_capacity(frames * w);
        for frame in input.chunks_exact(self.inputs.max(1)) {
            let from = x.len();
            x.extend_from_slice(&self.first.bias);
            self.first.add(frame, &mut x[from..]);
            x[from..].iter_mut().for_each(|y| *y = y.max(0.0));
        }
        let mut sum = vec![0.0f32; w];
        let mut next = vec![0.0f32; x.len()];
        for block in &self.blocks {
            for t in 0..frames {
                sum.copy_from_slice(&block.bias);
                let places = [
                    t.checked_sub(block.dilation),
                    Some(t),
                    Some(t + block.dilation),
                ];
                for (taps, place) in block.taps.iter().zip(places) {
                    if let Some(frame) = place.and_then(|p| x.get(p * w..(p + 1) * w)) {
                        axpy(taps, frame, &mut sum);
                    }
                }
                let now = &x[t * w..][..w];
                for ((y, &s), &x) in next[t * w..][..w].iter_mut().zip(&sum).zip(now) {
                    *y = x + s.max(0.0);
                }
            }
            std::mem::swap(&mut x, &mut next);
        }
        let mut out = Vec::with_capacity(frames * self.outputs);
        for frame in x.chunks_exact(w.max(1)) {
            let from = out.len();
            out.extend_from_slice(&self.last.bias);
            self.last.add(frame, &mut out[from..]);
        }
        out
    }
}

/// 1 / (1 + e⁻ˣ).
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::weights::tests::to_half;

    fn file(numbers: &[f32]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for n in [2u32, 2, 1, 1] {
            bytes.extend(n.to_le_bytes());
        }
        let mut numbers = numbers.iter();
        let mut put = |bytes: &mut Vec<u8>, count: usize| {
            for _ in 0..count {
                bytes.extend(to_half(*numbers.next().unwrap()));
            }
        };
        put(&mut bytes, 2 * 2 + 2);
        bytes.extend(3u32.to_le_bytes());
        put(&mut bytes, 3 * 4 + 2);
        put(&mut bytes, 2 + 1);
        bytes
    }

    #[test]
    fn a_net_worked_out_by_hand() {
        // Identity in; the block adds half of channel 0 three frames ago to channel 1; out = c0 − 2 c1 + ½.
        let mut numbers = vec![1.0, 0.0, 0.0, 1.0, 0.0, 0.0];
        let mut taps = [0.0; 12];
        taps[1] = 0.5;
        numbers.extend(taps);
        numbers.extend([0.0, 0.0]);
        numbers.extend([1.0, -2.0, 0.5]);
        let bytes = file(&numbers);
        let net = Nets::new(&bytes).unwrap().net().unwrap();
        let mut input = vec![0.0; 2 * 6];
        input[0] = 4.0; // frame 0, channel 0
        input[3] = -1.0; // frame 1, channel 1: cut by the ReLU
        let out = net.run(&input);
        assert_eq!(out, [4.5, 0.5, 0.5, 0.5 - 4.0, 0.5, 0.5]);
    }

    #[test]
    fn a_broken_file_is_an_error() {
        assert!(Nets::new(b"nothing").is_err());
        let bytes = file(&[0.0; 64]);
        let mut nets = Nets::new(&bytes[..bytes.len() - 1]).unwrap();
        assert!(matches!(nets.net(), Err(WeightsError::Short { .. })));
    }
}
