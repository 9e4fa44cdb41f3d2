// [worker] The network's short-time Fourier transform, there and back.

use std::sync::Arc;

use realfft::{ComplexToReal, RealFftPlanner, RealToComplex, num_complex::Complex};

use super::{
    ModelError,
    hyper::STRIDE,
    work::{Context, PAD},
};
use crate::dense::{norm::Moments, pool::Parts};

/// Added to a standard deviation before dividing by it.
const FLOOR: f64 = 1e-5;

/// Sum of squared periodic Hann windows a quarter of their length apart: the same everywhere.
const ENVELOPE: f32 = 1.5;

pub struct Spectrum {
    size: usize,
    window: Vec<f32>,
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
}

impl Spectrum {
    /// Frames of `size` samples, a quarter apart.
    pub fn new(size: usize) -> Self {
        let mut planner = RealFftPlanner::new();
        Self {
            size,
            window: (0..size)
                .map(|i| {
                    let phase = std::f64::consts::TAU * i as f64 / size as f64;
                    (0.5 - 0.5 * phase.cos()) as f32
                })
                .collect(),
            forward: planner.plan_fft_forward(size),
            inverse: planner.plan_fft_inverse(size),
        }
    }

    /// The spectrum of `channels` (equally long) in `frames` frames, without the Nyquist bin, real and
    /// imaginary parts as channels: `[frames][PAD + bins + PAD][2 · channels]`.
    pub fn analyse(
        &self,
        channels: &[Vec<f32>],
        frames: usize,
        out: &mut [f32],
        context: &Context<'_>,
    ) -> Result<(), ModelError> {
        let hop = self.size / 4;
        let bins = self.size / 2;
        let width = 2 * channels.len();
        let scale = 1.0 / (self.size as f32).sqrt();
        let padded: Vec<Vec<f32>> = channels
            .iter()
            .map(|x| {
                let before = hop / 2 * 3;
                reflected(x, before, before + frames * hop - x.len())
            })
            .collect();
        let parts = Parts::new(out, (bins + 2 * PAD) * width);
        context.run(frames, |frame, _| {
            let part = &mut parts.take(frame)[PAD * width..];
            let mut spectrum = self.forward.make_output_vec();
            for (c, x) in padded.iter().enumerate() {
                let mut windowed: Vec<f32> = x[frame * hop..][..self.size]
                    .iter()
                    .zip(&self.window)
                    .map(|(x, w)| x * w)
                    .collect();
                self.forward
                    .process(&mut windowed, &mut spectrum)
                    .expect("lengths of the plan");
                for (to, z) in part.chunks_exact_mut(width).zip(&spectrum[..bins]) {
                    to[2 * c] = z.re * scale;
                    to[2 * c + 1] = z.im * scale;
                }
            }
        })
    }

    /// Takes mean and deviation off what [`Self::analyse`] wrote, `width` values a bin; returns the moments
    /// before. The padding is zero and is not counted.
    pub fn normalise(&self, width: usize, spectra: &mut [f32]) -> Moments {
        let bins = self.size / 2;
        let line = (bins + 2 * PAD) * width;
        let inner = PAD * width..(PAD + bins) * width;
        let moments = spectra
            .chunks_exact(line)
            .map(|row| Moments::of(&row[inner.clone()]))
            .fold(Moments::default(), Moments::and);
        let (mean, scale) = standard(&moments);
        for row in spectra.chunks_exact_mut(line) {
            for x in &mut row[inner.clone()] {
                *x = (*x - mean) * scale;
            }
        }
        moments
    }

    /// Adds the signals of `outs.len()` spectra to `outs`. Spectrum `i`'s parts are channels `2i` and
    /// `2i + 1` of `groups`, `[bins / STRIDE + 1][frames][STRIDE][2 · outs]`, where group `q` holds the
    /// bins `4q - 2 .. 4q + 2`; a part's value is `part · gain + offset`.
    pub fn synthesise(
        &self,
        groups: &[f32],
        frames: usize,
        gain: f32,
        offset: f32,
        outs: &mut [Vec<f32>],
        context: &Context<'_>,
    ) -> Result<(), ModelError> {
        let hop = self.size / 4;
        let bins = self.size / 2;
        let width = 2 * outs.len();
        let group = frames * STRIDE * width;
        let scale = 1.0 / ((self.size as f32).sqrt() * ENVELOPE);
        let count = outs.len();
        let parts = Parts::new(outs, 1);
        context.run(count, |i, _| {
            let out = &mut parts.take(i)[0];
            let mut bins_of = vec![Complex::new(0.0f32, 0.0); bins + 1];
            let mut frame_of = self.inverse.make_output_vec();
            for frame in 0..frames {
                for (bin, z) in bins_of[..bins].iter_mut().enumerate() {
                    let (q, phase) = ((bin + PAD) / STRIDE, (bin + PAD) % STRIDE);
                    let at = q * group + (frame * STRIDE + phase) * width + 2 * i;
                    z.re = groups[at] * gain + offset;
                    z.im = groups[at + 1] * gain + offset;
                }
                bins_of[0].im = 0.0;
                bins_of[bins] = Complex::new(0.0, 0.0);
                self.inverse
                    .process(&mut bins_of, &mut frame_of)
                    .expect("lengths of the plan, real first and last bins");
                let start = frame * hop;
                let skip = hop / 2 * 3;
                for (n, (x, w)) in frame_of.iter().zip(&self.window).enumerate() {
                    if let Some(at) = (start + n).checked_sub(skip)
                        && let Some(to) = out.get_mut(at)
                    {
                        *to += x * w * scale;
                    }
                }
            }
        })
    }
}

/// What is taken off, and what the rest is multiplied by, for mean 0 and deviation 1.
pub fn standard(moments: &Moments) -> (f32, f32) {
    (
        moments.mean() as f32,
        (1.0 / (FLOOR + moments.deviation())) as f32,
    )
}

/// `x` with `before` and `after` samples mirrored at its ends; what is too short to be mirrored is first
/// extended by zeros, behind before in front, as the reference does.
fn reflected(x: &[f32], before: usize, after: usize) -> Vec<f32> {
    let longest = before.max(after);
    let extra = (longest + 1).saturating_sub(x.len());
    let extra_after = extra.min(after);
    let extra_before = extra - extra_after;
    let mut inner = vec![0.0; extra_before];
    inner.extend_from_slice(x);
    inner.resize(inner.len() + extra_after, 0.0);
    let (before, after) = (before - extra_before, after - extra_after);
    let last = inner.len() - 1;
    let mut out = Vec::with_capacity(before + inner.len() + after);
    out.extend((1..=before).rev().map(|i| inner[i]));
    out.extend_from_slice(&inner);
    out.extend((1..=after).map(|i| inner[last - i]));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_padding_mirrors_and_extends() {
        assert_eq!(reflected(&[1., 2., 3.], 2, 1), [3., 2., 1., 2., 3., 2.]);
        // Two samples can't be mirrored by three: zeros come behind first.
        assert_eq!(reflected(&[1., 2.], 1, 3), [2., 1., 2., 0., 0., 0.]);
    }
}
