// [worker] What the editor draws of audio: peaks and a spectrogram, at every resolution, as it arrives.

use std::{ops::Range, sync::Arc};

use realfft::{RealFftPlanner, RealToComplex};

use crate::{
    exchange::{
        patch::Patch,
        samples::{self, StereoSamples},
    },
    worker::pyramid::{Cells, Peak, Pyramid},
};

/// Samples of the finest peak: 1.3 ms at 48 kHz.
pub const PEAK_SAMPLES: usize = 64;
/// Bands of the spectrogram, evenly spaced on a logarithmic axis over [`SPECTRUM_HZ`].
pub const BANDS: usize = 64;
/// Lowest and highest edge of the bands in Hz.
pub const SPECTRUM_HZ: (f64, f64) = (40.0, 20_000.0);
/// dB below full scale at which a band is black; 0 dBFS is 255.
pub const SPECTRUM_FLOOR_DB: f32 = -96.0;
/// Samples between two columns of the spectrogram at 48 kHz; a column hears twice as much.
const HOP_48K: usize = 2048;

/// Loudness of each band.
pub type Bands = Cells<BANDS>;

/// A drawable stretch of audio. Copies are cheap.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// One item per [`PEAK_SAMPLES`] of the mono mean.
    pub wave: Pyramid<Peak>,
    /// One item per [`spectrum_hop`] samples.
    pub spectrum: Pyramid<Bands>,
}

/// Samples between two columns of the spectrogram.
pub fn spectrum_hop(sample_rate: u32) -> usize {
    (HOP_48K as f64 * f64::from(sample_rate.max(1)) / 48_000.0)
        .ceil()
        .max(16.0) as usize
}

/// What is painted: two channels, of which a little is looked at at a time.
pub trait Canvas {
    /// Samples a channel.
    fn frames(&self) -> usize;

    /// The samples of a channel from `start` on, which are all there.
    fn read(&self, channel: usize, start: usize, out: &mut [f32]);
}

impl Canvas for StereoSamples {
    fn frames(&self) -> usize {
        self[0].len().min(self[1].len())
    }

    fn read(&self, channel: usize, start: usize, out: &mut [f32]) {
        self[channel].read(start, out);
    }
}

/// The tests' canvas.
#[cfg(test)]
impl Canvas for [&[f32]; 2] {
    fn frames(&self) -> usize {
        self[0].len().min(self[1].len())
    }

    fn read(&self, channel: usize, start: usize, out: &mut [f32]) {
        out.copy_from_slice(&self[channel][start..start + out.len()]);
    }
}

/// What of a patch plays with every blend up.
pub struct Repaired<'a>(pub &'a Patch);

impl Canvas for Repaired<'_> {
    fn frames(&self) -> usize {
        self.0.len()
    }

    fn read(&self, channel: usize, start: usize, out: &mut [f32]) {
        let layers = self.0.layers.iter().flatten();
        let layers = layers.map(|layer| &layer[channel]);
        samples::read_sum(&self.0.base[channel], layers, start, out);
    }
}

/// Makes a [`Picture`] of samples that arrive bit by bit.
pub struct Painter {
    picture: Picture,
    hop: usize,
    fft: Arc<dyn RealToComplex<f32>>,
    window: Vec<f32>,
    /// FFT bins of each band.
    bands: [Range<usize>; BANDS],
}

impl Painter {
    /// A painter of audio at `sample_rate` Hz.
    pub fn new(sample_rate: u32) -> Self {
        let hop = spectrum_hop(sample_rate);
        let length = 2 * hop;
        let window = (0..length)
            .map(|i| {
                (std::f64::consts::PI * (i as f64 + 0.5) / length as f64)
                    .sin()
                    .powi(2) as f32
            })
            .collect();
        let (low, high) = SPECTRUM_HZ;
        let bin = |band: usize| {
            let hz = low * (high / low).powf(band as f64 / BANDS as f64);
            (hz * length as f64 / f64::from(sample_rate.max(1))).round() as usize
        };
        let bands = std::array::from_fn(|band| {
            let from = bin(band).min(hop);
            from..bin(band + 1).max(from + 1).min(hop + 1)
        });
        Self {
            picture: Picture::default(),
            hop,
            fft: RealFftPlanner::new().plan_fft_forward(length),
            window,
            bands,
        }
    }

    /// The whole picture of `samples`.
    pub fn paint(samples: &impl Canvas, sample_rate: u32) -> Picture {
        let mut painter = Self::new(sample_rate);
        painter.extend(samples);
        painter.picture
    }

    /// The picture so far.
    pub fn picture(&self) -> &Picture {
        &self.picture
    }

    /// Goes on where the last call ended; `samples` is everything there is by now.
    pub fn extend(&mut self, samples: &impl Canvas) {
        let len = samples.frames();
        for i in self.picture.wave.len()..len / PEAK_SAMPLES {
            self.picture.wave.push(peak(samples, i));
        }
        for i in self.picture.spectrum.len()..(len / self.hop).saturating_sub(1) {
            let column = self.column(samples, i);
            self.picture.spectrum.push(column);
        }
    }

    /// Looks again at `range` of the samples, which has been replaced.
    pub fn repaint(&mut self, samples: &impl Canvas, range: Range<usize>) {
        let peaks = range.start / PEAK_SAMPLES..range.end.div_ceil(PEAK_SAMPLES);
        for i in peaks.start..peaks.end.min(self.picture.wave.len()) {
            self.picture.wave.set(i, peak(samples, i));
        }
        let columns = (range.start / self.hop).saturating_sub(1)..range.end.div_ceil(self.hop);
        for i in columns.start..columns.end.min(self.picture.spectrum.len()) {
            let column = self.column(samples, i);
            self.picture.spectrum.set(i, column);
        }
    }

    /// Column `i`: the loudest bin of each band, where a full-scale sine is 0 dB.
    fn column(&self, samples: &impl Canvas, i: usize) -> Bands {
        let (mut input, mut right) = (vec![0.0; 2 * self.hop], vec![0.0; 2 * self.hop]);
        samples.read(0, i * self.hop, &mut input);
        samples.read(1, i * self.hop, &mut right);
        for ((l, r), w) in input.iter_mut().zip(&right).zip(&self.window) {
            *l = 0.5 * (*l + r) * w;
        }
        let mut output = self.fft.make_output_vec();
        if self.fft.process(&mut input, &mut output).is_err() {
            return Cells([0; BANDS]);
        }
        // A sine's bin under this window: amplitude · length / 4.
        let scale = 2.0 / self.hop as f32;
        Cells(std::array::from_fn(|band| {
            let power = output[self.bands[band].clone()]
                .iter()
                .map(|bin| bin.norm_sqr())
                .fold(0.0, f32::max);
            let db = 10.0 * (power * scale * scale).max(1e-12).log10();
            (255.0 * (1.0 - db / SPECTRUM_FLOOR_DB).clamp(0.0, 1.0)).round() as u8
        }))
    }
}

fn peak(samples: &impl Canvas, i: usize) -> Peak {
    let [mut left, mut right] = [[0.0; PEAK_SAMPLES]; 2];
    samples.read(0, i * PEAK_SAMPLES, &mut left);
    samples.read(1, i * PEAK_SAMPLES, &mut right);
    left.iter().zip(&right).fold(
        Peak {
            low: 0.0,
            high: 0.0,
        },
        |Peak { low, high }, (l, r)| {
            let mono = 0.5 * (l + r);
            Peak {
                low: low.min(mono),
                high: high.max(mono),
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hz: f64, amplitude: f64, len: usize) -> Vec<f32> {
        (0..len)
            .map(|i| (amplitude * (std::f64::consts::TAU * hz * i as f64 / 48_000.0).sin()) as f32)
            .collect()
    }

    #[test]
    fn a_sine_lies_in_its_band_at_its_level() {
        let tone = sine(1_000.0, 0.1, 48_000);
        let picture = Painter::paint(&[&tone[..], &tone[..]], 48_000);
        let Cells(bands) = picture.spectrum.over(2..10).unwrap();
        let (low, high) = SPECTRUM_HZ;
        let expected = (BANDS as f64 * (1_000.0 / low).ln() / (high / low).ln()) as usize;
        let loudest = (0..BANDS).max_by_key(|&b| bands[b]).unwrap();
        assert!(
            loudest.abs_diff(expected) <= 1,
            "{loudest} is not {expected}"
        );
        // -20 dB of 96.
        let db = SPECTRUM_FLOOR_DB * (1.0 - f32::from(bands[loudest]) / 255.0);
        assert!((db + 20.0).abs() < 1.5, "{db} dB");
        assert!(bands[BANDS - 1] < 20);
        let peak = picture.wave.over(0..picture.wave.len()).unwrap();
        assert!((peak.high - 0.1).abs() < 1e-3 && (peak.low + 0.1).abs() < 1e-3);
    }

    #[test]
    fn bit_by_bit_equals_at_once_and_repainting_equals_painting() {
        let (a, b) = (sine(300.0, 0.5, 30_000), sine(5_000.0, 0.2, 30_000));
        let whole = Painter::paint(&[&a[..], &b[..]], 48_000);
        let mut painter = Painter::new(48_000);
        for end in [0, 100, 5_000, 5_001, 20_000, 30_000] {
            painter.extend(&[&a[..end], &b[..end]]);
        }
        let same = |x: &Picture, y: &Picture| {
            assert_eq!(x.wave.len(), y.wave.len());
            for i in 0..x.wave.len() {
                assert_eq!(x.wave.over(i..i + 1), y.wave.over(i..i + 1), "{i}");
            }
            assert_eq!(x.spectrum.len(), y.spectrum.len());
            for i in 0..x.spectrum.len() {
                assert_eq!(x.spectrum.over(i..i + 1), y.spectrum.over(i..i + 1), "{i}");
            }
        };
        same(painter.picture(), &whole);
        let mut other = a.clone();
        other[7_000..9_000].fill(0.0);
        painter.repaint(&[&other[..], &b[..]], 7_000..9_000);
        same(
            painter.picture(),
            &Painter::paint(&[&other[..], &b[..]], 48_000),
        );
    }
}
