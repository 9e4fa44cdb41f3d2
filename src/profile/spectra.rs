// [worker] The signals and spectra that every subject of the profile listens to, at one common rate.

use std::{ops::Range, sync::Arc};

use realfft::{RealFftPlanner, RealToComplex, num_complex::Complex};

use crate::{audio::AudioBuffer, worker::progress::Progress};

/// Rate at which the profile listens, Hz. A multiple of 100, so that a hop is exactly 10 ms.
pub(super) const RATE: u32 = 22_000;
/// Frames a second of every feature that is clocked at 10 ms.
pub(super) const FPS: f64 = 100.0;
/// Zero crossings of the resampling kernel on each side.
const CROSSINGS: f64 = 16.0;
/// Share of the band below Nyquist that passes untouched by the resampler's roll-off.
const PASS: f64 = 0.92;
/// Most phases the resampler tabulates; rates with a larger ratio round to the nearest of them
/// (an error below 1/2048 of a sample).
const MAX_PHASES: u64 = 1024;

/// A weighted sum of recordings, read as mono at any rate, a stretch at a time: nothing is stored, so an
/// hour costs no more memory than a second.
pub(super) struct Source<'a> {
    parts: Vec<(&'a AudioBuffer, f32)>,
    in_rate: u64,
    out_rate: u64,
    phases: u64,
    half: i64,
    /// `[phase][2 * half]`, unit gain at DC.
    taps: Vec<f32>,
    len: usize,
}

impl<'a> Source<'a> {
    /// `parts`: recordings of one rate with their gains; those at another rate than the first are left out.
    pub fn new(parts: &[(&'a AudioBuffer, f32)], out_rate: u32) -> Self {
        let in_rate = u64::from(parts.first().map_or(1, |p| p.0.sample_rate).max(1));
        let parts: Vec<_> = parts
            .iter()
            .copied()
            .filter(|p| u64::from(p.0.sample_rate) == in_rate)
            .collect();
        let out_rate = u64::from(out_rate);
        let frames = parts.iter().map(|p| p.0.frames()).max().unwrap_or(0) as u64;
        let phases = (out_rate / gcd(in_rate, out_rate)).min(MAX_PHASES);
        let cutoff = PASS * (out_rate as f64 / in_rate as f64).min(1.0);
        let half = (CROSSINGS / cutoff).ceil() as i64;
        let mut taps = Vec::with_capacity((phases as usize) * 2 * half as usize);
        for phase in 0..phases {
            let frac = phase as f64 / phases as f64;
            let row: Vec<f64> = (1 - half..=half)
                .map(|k| kernel(k as f64 - frac, cutoff, half as f64))
                .collect();
            let sum: f64 = row.iter().sum();
            taps.extend(row.iter().map(|&x| (x / sum) as f32));
        }
        Self {
            parts,
            in_rate,
            out_rate,
            phases,
            half,
            taps,
            len: (frames * out_rate / in_rate) as usize,
        }
    }

    /// Samples at the outgoing rate.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Fills `out` with the samples from `start` on; zero outside the recording, and for samples that
    /// are not numbers.
    pub fn read(&self, start: i64, out: &mut [f32]) {
        if out.is_empty() {
            return;
        }
        let place = |n: i64| {
            let at = i128::from(n) * i128::from(self.in_rate);
            let rate = i128::from(self.out_rate);
            let (whole, rest) = (at.div_euclid(rate) as i64, at.rem_euclid(rate) as u64);
            let phase = (rest * self.phases + self.out_rate / 2) / self.out_rate;
            (whole + (phase / self.phases) as i64, phase % self.phases)
        };
        let first = place(start).0 + 1 - self.half;
        let last = place(start + out.len() as i64 - 1).0 + self.half;
        let mono = self.mono(first, (last - first + 1) as usize);
        let width = 2 * self.half as usize;
        for (i, y) in out.iter_mut().enumerate() {
            let (whole, phase) = place(start + i as i64);
            let at = (whole + 1 - self.half - first) as usize;
            let row = &self.taps[phase as usize * width..][..width];
            *y = row.iter().zip(&mono[at..]).map(|(a, b)| a * b).sum();
        }
    }

    fn mono(&self, first: i64, count: usize) -> Vec<f32> {
        let mut mono = vec![0.0f32; count];
        for (audio, gain) in &self.parts {
            let gain = gain / audio.channels.len().max(1) as f32;
            for channel in &audio.channels {
                let from = first.clamp(0, channel.len() as i64);
                let to = (first + count as i64).clamp(from, channel.len() as i64);
                let at = (from - first) as usize;
                for (m, &x) in mono[at.min(count)..]
                    .iter_mut()
                    .zip(&channel[from as usize..to as usize])
                {
                    *m += if x.is_finite() {
                        gain * x.clamp(-1e3, 1e3)
                    } else {
                        0.0
                    };
                }
            }
        }
        mono
    }
}

/// Low-pass sinc with a Hann window; `cutoff` relative to Nyquist.
fn kernel(x: f64, cutoff: f64, half: f64) -> f64 {
    if x.abs() >= half {
        return 0.0;
    }
    let window = 0.5 + 0.5 * (std::f64::consts::PI * x / half).cos();
    let arg = std::f64::consts::PI * x * cutoff;
    let sinc = if arg.abs() < 1e-9 {
        1.0
    } else {
        arg.sin() / arg
    };
    window * sinc
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Frames of a recording: frame `i` is centred on sample `i * hop`.
/// Calls `each(i, frame)`; false when cancelled.
pub(super) fn for_each_frame(
    source: &Source,
    size: usize,
    hop: usize,
    progress: &Progress,
    each: impl FnMut(usize, &[f32]),
) -> bool {
    let frames = frame_count(source, hop);
    for_frames(source, size, hop, 0..frames, progress, each)
}

/// Frames in a recording.
pub(super) fn frame_count(source: &Source, hop: usize) -> usize {
    if source.len() == 0 {
        0
    } else {
        source.len() / hop + 1
    }
}

/// As [`for_each_frame`], over a range of frames.
pub(super) fn for_frames(
    source: &Source,
    size: usize,
    hop: usize,
    range: Range<usize>,
    progress: &Progress,
    mut each: impl FnMut(usize, &[f32]),
) -> bool {
    const BLOCK: usize = 256;
    let mut samples = vec![0.0; (BLOCK - 1) * hop + size];
    for first in range.clone().step_by(BLOCK) {
        if progress.is_cancelled() {
            return false;
        }
        let count = BLOCK.min(range.end - first);
        let needed = (count - 1) * hop + size;
        source.read(
            (first * hop) as i64 - (size / 2) as i64,
            &mut samples[..needed],
        );
        for i in 0..count {
            each(first + i, &samples[i * hop..][..size]);
        }
    }
    !progress.is_cancelled()
}

/// Frames of a section that pitch is tracked through at once (two minutes), and of its overlap with its
/// neighbours, so that an hour needs no more memory than a section.
const SECTION: usize = 12_000;
const OVERLAP: usize = 200;

/// Sections of `frames`: what to listen to, and which part of it to keep.
pub(super) fn sections(frames: usize) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    sections_of(frames, SECTION, OVERLAP)
}

/// As [`sections`], with another length and overlap.
pub(super) fn sections_of(
    frames: usize,
    section: usize,
    overlap: usize,
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    (0..frames).step_by(section).map(move |first| {
        let keep = first..(first + section).min(frames);
        let hear = first.saturating_sub(overlap)..(keep.end + overlap).min(frames);
        (hear, keep)
    })
}

/// Magnitude spectra under a Hann window, zero-padded.
pub(super) struct Spectrum {
    fft: Arc<dyn RealToComplex<f32>>,
    window: Vec<f32>,
    input: Vec<f32>,
    output: Vec<Complex<f32>>,
    scratch: Vec<Complex<f32>>,
    /// `fft_size / 2 + 1` magnitudes; a full-scale sine gives 1.
    pub magnitudes: Vec<f32>,
}

impl Spectrum {
    pub fn new(size: usize, fft_size: usize) -> Self {
        let fft = RealFftPlanner::new().plan_fft_forward(fft_size);
        let window: Vec<f64> = (0..size)
            .map(|n| {
                let phase = (n as f64 + 0.5) / size as f64;
                0.5 - 0.5 * (std::f64::consts::TAU * phase).cos()
            })
            .collect();
        let gain = 2.0 / window.iter().sum::<f64>();
        Self {
            window: window.iter().map(|&w| (w * gain) as f32).collect(),
            input: fft.make_input_vec(),
            output: fft.make_output_vec(),
            scratch: fft.make_scratch_vec(),
            magnitudes: vec![0.0; fft_size / 2 + 1],
            fft,
        }
    }

    /// `frame`: `size` samples.
    pub fn analyse(&mut self, frame: &[f32]) {
        self.input.fill(0.0);
        for ((y, &x), &w) in self.input.iter_mut().zip(frame).zip(&self.window) {
            *y = x * w;
        }
        let done =
            self.fft
                .process_with_scratch(&mut self.input, &mut self.output, &mut self.scratch);
        debug_assert!(done.is_ok());
        for (m, c) in self.magnitudes.iter_mut().zip(&self.output) {
            *m = c.norm();
        }
    }
}

/// Edges of the onset bands as bins of a 1024-point spectrum at [`RATE`] (21.5 Hz a bin): single bins at
/// the bottom, a fifth of an octave above.
pub(super) fn band_edges() -> Vec<usize> {
    let top = ONSET_SIZE / 2;
    let mut edges = vec![1usize];
    while let Some(&last) = edges.last() {
        let next = ((last as f64 * 2f64.powf(0.2)).round() as usize).max(last + 1);
        if next >= top {
            edges.push(top);
            break;
        }
        edges.push(next);
    }
    edges
}

/// Window of the onset spectra in samples at [`RATE`]: 47 ms.
const ONSET_SIZE: usize = 1024;

/// Magnitudes in log-spaced bands every 10 ms, what rhythm and drums are heard from.
pub(super) struct BandSpectra {
    pub bands: usize,
    /// Centre of each band, Hz.
    pub centre_hz: Vec<f64>,
    /// `[frame][band]`, mean magnitude in the band.
    pub magnitudes: Vec<f32>,
}

impl BandSpectra {
    /// None when cancelled.
    pub fn new(source: &Source, progress: &Progress) -> Option<Self> {
        let edges = band_edges();
        let bands = edges.len() - 1;
        let bin_hz = f64::from(RATE) / ONSET_SIZE as f64;
        let centre_hz = edges
            .windows(2)
            .map(|e| 0.5 * (e[0] + e[1] - 1) as f64 * bin_hz)
            .collect();
        let mut spectrum = Spectrum::new(ONSET_SIZE, ONSET_SIZE);
        let mut magnitudes = Vec::with_capacity((source.len() / hop() + 1) * bands);
        for_each_frame(source, ONSET_SIZE, hop(), progress, |_, frame| {
            spectrum.analyse(frame);
            for e in edges.windows(2) {
                let sum: f32 = spectrum.magnitudes[e[0]..e[1]].iter().map(|m| m * m).sum();
                magnitudes.push((sum / (e[1] - e[0]) as f32).sqrt());
            }
        })
        .then_some(Self {
            bands,
            centre_hz,
            magnitudes,
        })
    }

    /// Bands of every recording.
    pub fn band_count() -> usize {
        band_edges().len() - 1
    }

    pub fn frames(&self) -> usize {
        self.magnitudes.len() / self.bands
    }

    pub fn frame(&self, i: usize) -> &[f32] {
        &self.magnitudes[i * self.bands..][..self.bands]
    }

    /// Loudest magnitude anywhere.
    pub fn peak(&self) -> f32 {
        self.magnitudes.iter().copied().fold(0.0, f32::max)
    }
}

/// Samples between frames at [`RATE`]: 10 ms.
pub(super) fn hop() -> usize {
    RATE as usize / FPS as usize
}

/// Below this peak magnitude a recording counts as silent (−100 dBFS).
pub(super) const SILENCE: f32 = 1e-5;

/// Value below which `share` of `values` lies; 0 for none.
pub(super) fn quantile(values: &[f32], share: f64) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let mut sorted = values.to_vec();
    let at = ((sorted.len() - 1) as f64 * share).round() as usize;
    *sorted.select_nth_unstable_by(at, f32::total_cmp).1
}

/// Mean of `values` over `±half` around each place, shrinking at the ends.
pub(super) fn moving_mean(values: &[f32], half: usize) -> Vec<f32> {
    let mut sums = Vec::with_capacity(values.len() + 1);
    let mut total = 0.0f64;
    sums.push(0.0);
    for &v in values {
        total += f64::from(v);
        sums.push(total);
    }
    (0..values.len())
        .map(|i| {
            let (a, b) = (i.saturating_sub(half), (i + half + 1).min(values.len()));
            ((sums[b] - sums[a]) / (b - a) as f64) as f32
        })
        .collect()
}
