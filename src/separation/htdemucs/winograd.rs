// [worker] The gated rewrite of a decoder: a convolution of three taps along time in half the products.
//
// Winograd's minimal filtering F(4, 3): six products give four outputs of three taps, where twelve are
// needed otherwise (Lavin & Gray, "Fast algorithms for convolutional neural networks", CVPR 2016). Only time
// is transformed; bins are taps of the products. The transform's own additions are a hundredth of the work.

use super::{ModelError, weights::Scope, work::Scratch};
use crate::dense::{
    act::{self, dispatched},
    aligned::Buffer,
    gemm::{Packed, Rows},
};

/// Taps along time (and along bins, where there are bins).
pub const TAPS: usize = 3;
/// Outputs of a tile, and its inputs and products.
const OUTPUTS: usize = 4;
const PRODUCTS: usize = OUTPUTS + TAPS - 1;
/// Tiles that are worked on at a time: their inputs and products stay in the second cache.
const TILES: usize = 24;

/// What the products are made of, `[product][tap]`: with [`split`] and [`join`] the F(4, 3) of the paper.
const KERNEL: [[f64; TAPS]; PRODUCTS] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// `GLU(W * x + b)` with 3 taps along time, and 3 along bins or 1.
pub struct Rewrite {
    products: Vec<Packed>,
    bias: Vec<f32>,
    channels: usize,
    bins: usize,
}

dispatched! {
    /// Six neighbouring positions of `c` channels to six products' inputs, `stride` apart.
    fn split(x: &[f32], c: usize, to: &mut [f32], stride: usize) {
        let (d0, d1, d2) = (&x[..c], &x[c..2 * c], &x[2 * c..3 * c]);
        let (d3, d4, d5) = (&x[3 * c..4 * c], &x[4 * c..5 * c], &x[5 * c..6 * c]);
        let (e0, to) = to.split_at_mut(stride);
        let (e1, to) = to.split_at_mut(stride);
        let (e2, to) = to.split_at_mut(stride);
        let (e3, to) = to.split_at_mut(stride);
        let (e4, e5) = to.split_at_mut(stride);
        let (e0, e1, e2) = (&mut e0[..c], &mut e1[..c], &mut e2[..c]);
        let (e3, e4, e5) = (&mut e3[..c], &mut e4[..c], &mut e5[..c]);
        for i in 0..c {
            let (even, odd) = (d4[i] - 4.0 * d2[i], d3[i] - 4.0 * d1[i]);
            let (near, far) = (d4[i] - d2[i], 2.0 * (d3[i] - d1[i]));
            e0[i] = 4.0 * d0[i] - 5.0 * d2[i] + d4[i];
            e1[i] = even + odd;
            e2[i] = even - odd;
            e3[i] = near + far;
            e4[i] = near - far;
            e5[i] = 4.0 * d1[i] - 5.0 * d3[i] + d5[i];
        }
    }
}

dispatched! {
    /// Six products of `n` channels, `stride` apart, to four neighbouring positions.
    fn join(m: &[f32], stride: usize, bias: &[f32], to: &mut [f32]) {
        let n = bias.len();
        let (m0, m1, m2) = (&m[..n], &m[stride..][..n], &m[2 * stride..][..n]);
        let (m3, m4, m5) = (&m[3 * stride..][..n], &m[4 * stride..][..n], &m[5 * stride..][..n]);
        let (y0, to) = to.split_at_mut(n);
        let (y1, to) = to.split_at_mut(n);
        let (y2, y3) = to.split_at_mut(n);
        let y3 = &mut y3[..n];
        for i in 0..n {
            let (near, near_odd) = (m1[i] + m2[i], m1[i] - m2[i]);
            let (far, far_odd) = (m3[i] + m4[i], m3[i] - m4[i]);
            y0[i] = m0[i] + near + far + bias[i];
            y1[i] = near_odd + 2.0 * far_odd + bias[i];
            y2[i] = near + 4.0 * far + bias[i];
            y3[i] = near_odd + 8.0 * far_odd + m5[i] + bias[i];
        }
    }
}

/// Taps along bins.
const fn bins(axes: usize) -> usize {
    if axes == 2 { TAPS } else { 1 }
}

/// The right side of the `i`-th product, of a weight `[2 · channels][channels][bins][taps]`.
fn product(weight: &[f32], i: usize, channels: usize, bins: usize) -> Packed {
    Packed::new(bins * channels, 2 * channels, &[], |k, j| {
        let (bin, input) = (k / channels, k % channels);
        let at = ((j * channels + input) * bins + bin) * TAPS;
        let taps = weight[at..at + TAPS].iter().zip(&KERNEL[i]);
        taps.map(|(w, g)| f64::from(*w) * g).sum::<f64>() as f32
    })
}

impl Rewrite {
    /// `axes`: 2 for a kernel over bins and time, 1 for time alone.
    pub fn load(scope: &Scope<'_>, channels: usize, axes: usize) -> Result<Self, ModelError> {
        let mut shape = vec![2 * channels, channels];
        shape.resize(2 + axes, TAPS);
        let bins = bins(axes);
        let weight = scope.once("weight", &shape);
        let products = (0..PRODUCTS)
            .map(|i| {
                let name = format!("product{i}");
                scope.packed(&name, bins * channels, 2 * channels, |_| {
                    Ok(product(weight.get()?, i, channels, bins))
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            products,
            bias: scope.get("bias", &[2 * channels])?,
            channels,
            bins,
        })
    }

    pub fn bytes(&self) -> usize {
        self.products.iter().map(Packed::bytes).sum()
    }

    /// Positions of one row, or of a piece of one, into `out`, `[positions][channels]`. `start` is where the
    /// position before the first lies in `data`, one bin lower if there are bins, which lie `line` apart.
    /// Behind the last position `data` goes on with zeros up to a multiple of four positions and one more.
    pub fn gated(
        &self,
        data: &[f32],
        start: usize,
        line: usize,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (c, n) = (self.channels, 2 * self.channels);
        let plane = TILES * c;
        let stride = self.bins * plane;
        let inputs = scratch.a.get(PRODUCTS * stride);
        let products = scratch.b.get(PRODUCTS * TILES * n);
        let y: &mut Buffer = &mut scratch.d;
        let y = y.get(OUTPUTS * TILES * n);
        let segments = [0, plane, 2 * plane];
        for (block, out) in out.chunks_mut(OUTPUTS * TILES * c).enumerate() {
            let tiles = (out.len() / c).div_ceil(OUTPUTS);
            let first = start + block * OUTPUTS * TILES * c;
            for bin in 0..self.bins {
                for tile in 0..tiles {
                    let from = first + bin * line + tile * OUTPUTS * c;
                    let to = &mut inputs[bin * plane + tile * c..];
                    split(&data[from..from + PRODUCTS * c], c, to, stride);
                }
            }
            for (e, packed) in self.products.iter().enumerate() {
                let rows = Rows {
                    data: inputs,
                    start: e * stride,
                    stride: c,
                    segments: &segments[..self.bins],
                    segment_len: c,
                };
                packed.multiply(rows, tiles, &mut products[e * TILES * n..], n);
            }
            for tile in 0..tiles {
                let to = &mut y[tile * OUTPUTS * n..][..OUTPUTS * n];
                join(&products[tile * n..], TILES * n, &self.bias, to);
            }
            act::glu(&y[..out.len() / c * n], c, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the sums of a plain convolution in double precision.
    #[test]
    fn a_rewrite_equals_its_convolution() {
        let value = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0;
        for (axes, c, len) in [
            (1usize, 3usize, 1usize),
            (1, 8, 230),
            (2, 5, 98),
            (2, 16, 7),
        ] {
            let bins = if axes == 2 { 3 } else { 1 };
            let weight: Vec<f32> = (0..2 * c * c * bins * 3)
                .map(|i| value(i) / c as f32)
                .collect();
            let bias: Vec<f32> = (0..2 * c).map(|i| value(i + 5)).collect();
            // Position p of a bin lies at p + 1; zeros behind.
            let line = (len + 8) * c;
            let mut data = vec![0.0; bins * line];
            for bin in 0..bins {
                for i in 0..(len + 1) * c {
                    data[bin * line + i] = value(i + bin * 31);
                }
            }
            let rewrite = Rewrite {
                products: (0..PRODUCTS)
                    .map(|i| product(&weight, i, c, bins))
                    .collect(),
                bias: bias.clone(),
                channels: c,
                bins,
            };
            let mut out = vec![0.0; len * c];
            rewrite.gated(&data, 0, line, &mut out, &mut Scratch::default());
            for t in 0..len {
                let y = |j: usize| {
                    let mut sum = f64::from(bias[j]);
                    for k in 0..c {
                        for bin in 0..bins {
                            for s in 0..3 {
                                let w = weight[((j * c + k) * bins + bin) * 3 + s];
                                let x = data[bin * line + (t + s) * c + k];
                                sum += f64::from(w) * f64::from(x);
                            }
                        }
                    }
                    sum
                };
                for k in 0..c {
                    let truth = y(k) / (1.0 + (-y(c + k)).exp());
                    let error = (f64::from(out[t * c + k]) - truth).abs();
                    assert!(error < 4e-6, "{axes} {c} {len}: {error:e}");
                }
            }
        }
    }
}
