// [worker] Which notes sound: a log-frequency spectrum explained by harmonic notes (NNLS chroma).
//
// After Mauch & Dixon, "Approximate note transcription for the improved identification of difficult
// chords", ISMIR 2010: thirds of semitones, tuning from their phase, spectral whitening, then
// non-negative least squares against notes with geometrically falling partials.

use super::spectra::{RATE, Source, Spectrum, for_each_frame};
use crate::worker::progress::Progress;

/// Notes of the dictionary: MIDI 21 (27.5 Hz) up.
pub(super) const LOWEST_MIDI: usize = 21;
pub(super) const NOTES: usize = 84;
/// Frames a second.
pub(super) const CHROMA_FPS: f64 = 20.0;

const BINS: usize = NOTES * 3;
/// Window in samples at [`RATE`]: 372 ms, so that neighbouring bass notes come apart.
const SIZE: usize = 8192;
const FFT_SIZE: usize = 16384;
/// Amplitude ratio of a partial to the one below (Mauch & Dixon use 0.6 to 0.9).
const DECAY: f64 = 0.7;
const PARTIALS: usize = 20;
/// Sweeps of coordinate descent; the solution moves by less than 1 % after these.
const SWEEPS: usize = 12;
/// Sparsity: price of a unit of activation, as a share of the loudest correlation in the frame.
const SPARSITY: f32 = 0.02;

/// Note activations over time.
pub(super) struct Notes {
    /// `[frame][NOTES]`, 0 and up, relative within a frame after whitening.
    pub activation: Vec<f32>,
    /// Energy of each frame before whitening (root of the summed squares of the log spectrum).
    pub level: Vec<f32>,
}

impl Notes {
    /// `tuning` in semitones, see [`tuning`]. None when cancelled.
    pub fn new(source: &Source, tuning: f64, progress: &Progress) -> Option<Self> {
        let map = LogMap::new(tuning, FFT_SIZE);
        let dictionary = Dictionary::new(tuning);
        let hop = (f64::from(RATE) / CHROMA_FPS) as usize;
        let mut spectrum = Spectrum::new(SIZE, FFT_SIZE);
        let mut bins = [0.0f32; BINS];
        let mut activation = Vec::new();
        let mut level = Vec::new();
        let done = for_each_frame(source, SIZE, hop, progress, |_, frame| {
            spectrum.analyse(frame);
            map.apply(&spectrum.magnitudes, &mut bins);
            level.push(bins.iter().map(|b| b * b).sum::<f32>().sqrt());
            whiten(&mut bins);
            activation.extend_from_slice(&dictionary.solve(&bins));
        });
        done.then_some(Self { activation, level })
    }

    pub fn frames(&self) -> usize {
        self.level.len()
    }

    pub fn frame(&self, i: usize) -> &[f32] {
        &self.activation[i * NOTES..][..NOTES]
    }

    /// Mean activation of each note over `[start, end)` seconds, at least one frame.
    pub fn mean(&self, start: f64, end: f64) -> [f32; NOTES] {
        let mut sum = [0.0; NOTES];
        if self.frames() == 0 {
            return sum;
        }
        let last = self.frames() - 1;
        let from = ((start * CHROMA_FPS).round().max(0.0) as usize).min(last);
        let to = ((end * CHROMA_FPS).round().max(0.0) as usize).clamp(from + 1, last + 1);
        for i in from..to {
            for (s, a) in sum.iter_mut().zip(self.frame(i)) {
                *s += a / (to - from) as f32;
            }
        }
        sum
    }
}

/// Folds notes into pitch classes with a weight a MIDI note, 0 = C.
pub(super) fn fold(notes: &[f32], weight: impl Fn(f64) -> f64) -> [f32; 12] {
    let mut chroma = [0.0; 12];
    for (n, a) in notes.iter().enumerate() {
        let midi = n + LOWEST_MIDI;
        chroma[midi % 12] += a * weight(midi as f64) as f32;
    }
    chroma
}

/// Weight of a note in the treble chroma: from the tenor up, falling off at the top.
pub(super) fn treble_weight(midi: f64) -> f64 {
    ((midi - 43.0) / 10.0).clamp(0.0, 1.0) * ((84.0 - midi) / 16.0).clamp(0.0, 1.0)
}

/// Weight of a note in the bass chroma.
pub(super) fn bass_weight(midi: f64) -> f64 {
    ((midi - 22.0) / 4.0).clamp(0.0, 1.0) * ((57.0 - midi) / 10.0).clamp(0.0, 1.0)
}

/// Frequency of log bin `b`; bin `3 n + 1` is note `n` in tune.
fn bin_hz(b: f64, tuning: f64) -> f64 {
    let midi = LOWEST_MIDI as f64 + (b - 1.0) / 3.0 + tuning;
    440.0 * ((midi - 69.0) / 12.0).exp2()
}

/// Linear to log frequency: triangles a log bin wide, at least as wide as two linear bins.
pub(super) struct LogMap {
    /// First linear bin and weights, a log bin each.
    rows: Vec<(usize, Vec<f32>)>,
}

impl LogMap {
    /// For spectra of `fft_size` points at [`RATE`]; `tuning` in semitones.
    pub fn new(tuning: f64, fft_size: usize) -> Self {
        let step = f64::from(RATE) / fft_size as f64;
        let rows = (0..BINS)
            .map(|b| {
                let centre = bin_hz(b as f64, tuning);
                let below = (centre - bin_hz(b as f64 - 1.0, tuning)).max(step);
                let above = (bin_hz(b as f64 + 1.0, tuning) - centre).max(step);
                let from = ((centre - below) / step).ceil().max(0.0) as usize;
                let to = (((centre + above) / step).floor() as usize).min(fft_size / 2);
                let weights: Vec<f64> = (from..=to)
                    .map(|k| {
                        let d = k as f64 * step - centre;
                        (1.0 - if d < 0.0 { -d / below } else { d / above }).max(0.0)
                    })
                    .collect();
                let sum: f64 = weights.iter().sum::<f64>().max(1e-9);
                (from, weights.iter().map(|w| (w / sum) as f32).collect())
            })
            .collect();
        Self { rows }
    }

    /// Fills the lowest `bins.len()` bins.
    pub fn apply(&self, magnitudes: &[f32], bins: &mut [f32]) {
        for (bin, (from, weights)) in bins.iter_mut().zip(&self.rows) {
            *bin = weights
                .iter()
                .zip(&magnitudes[*from..])
                .map(|(w, m)| w * m)
                .sum();
        }
    }
}

/// Tuning of the band in semitones, from the phase of the spectrum over thirds of semitones, heard
/// every half second. 0 for silence. None when cancelled.
pub(super) fn tuning(source: &Source, progress: &Progress) -> Option<f64> {
    let map = LogMap::new(0.0, FFT_SIZE);
    let mut spectrum = Spectrum::new(SIZE, FFT_SIZE);
    let mut bins = [0.0f32; BINS];
    let (mut re, mut im) = (0.0f64, 0.0f64);
    let done = for_each_frame(source, SIZE, RATE as usize / 2, progress, |_, frame| {
        spectrum.analyse(frame);
        map.apply(&spectrum.magnitudes, &mut bins);
        // Below C2 a window can't tell thirds of a semitone apart; above C6 partials drift.
        for (b, &m) in bins.iter().enumerate().take(63 * 3).skip(15 * 3) {
            let angle = std::f64::consts::TAU * (b as f64 - 1.0) / 3.0;
            let m = f64::from(m);
            re += m * angle.cos();
            im += m * angle.sin();
        }
    });
    let phase = if re.hypot(im) > 1e-9 {
        im.atan2(re)
    } else {
        0.0
    };
    done.then_some(phase / std::f64::consts::TAU)
}

/// Subtracts the mean of the octave around each bin and divides by its deviation.
fn whiten(bins: &mut [f32; BINS]) {
    const HALF: usize = 18;
    let source = *bins;
    let floor = source.iter().copied().fold(0.0, f32::max) * 1e-3 + 1e-12;
    for (b, y) in bins.iter_mut().enumerate() {
        let around = &source[b.saturating_sub(HALF)..(b + HALF + 1).min(BINS)];
        let n = around.len() as f32;
        let mean = around.iter().sum::<f32>() / n;
        let variance = around.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / n;
        *y = (source[b] - mean).max(0.0) / (variance.sqrt() + floor);
    }
}

/// Spectra of single notes, and their products for the least squares.
struct Dictionary {
    /// `[note][bin]`, unit length.
    atoms: Vec<[f32; BINS]>,
    /// `[note][note]`.
    gram: Vec<[f32; NOTES]>,
}

impl Dictionary {
    fn new(tuning: f64) -> Self {
        // Half width of the window's main lobe where it has fallen to 1/e, Hz: 1.4 bins of its length.
        let lobe = 1.4 * f64::from(RATE) / SIZE as f64;
        let atoms: Vec<[f32; BINS]> = (0..NOTES)
            .map(|n| {
                let mut atom = [0.0f64; BINS];
                let f0 = bin_hz(3.0 * n as f64 + 1.0, tuning);
                for h in 1..=PARTIALS {
                    let (hz, level) = (f0 * h as f64, DECAY.powi(h as i32 - 1));
                    for (b, a) in atom.iter_mut().enumerate() {
                        let centre = bin_hz(b as f64, tuning);
                        let width = lobe.max(0.02 * centre);
                        *a += level * (-((centre - hz) / width).powi(2)).exp();
                    }
                }
                let norm = atom.iter().map(|a| a * a).sum::<f64>().sqrt().max(1e-9);
                atom.map(|a| (a / norm) as f32)
            })
            .collect();
        let gram = atoms
            .iter()
            .map(|a| {
                let mut row = [0.0; NOTES];
                for (g, b) in row.iter_mut().zip(&atoms) {
                    *g = a.iter().zip(b).map(|(x, y)| x * y).sum();
                }
                row
            })
            .collect();
        Self { atoms, gram }
    }

    /// Non-negative activations that explain `bins`, by cyclic coordinate descent.
    fn solve(&self, bins: &[f32; BINS]) -> [f32; NOTES] {
        let mut x = [0.0f32; NOTES];
        // residual correlation: atoms · (bins − atoms x)
        let mut corr = [0.0f32; NOTES];
        for (c, atom) in corr.iter_mut().zip(&self.atoms) {
            *c = atom.iter().zip(bins).map(|(a, b)| a * b).sum();
        }
        let price = SPARSITY * corr.iter().copied().fold(0.0, f32::max);
        if price <= 0.0 {
            return x;
        }
        for _ in 0..SWEEPS {
            for n in 0..NOTES {
                let new = (x[n] + corr[n] - price).max(0.0);
                let change = new - x[n];
                if change != 0.0 {
                    x[n] = new;
                    for (c, g) in corr.iter_mut().zip(&self.gram[n]) {
                        *c -= change * g;
                    }
                }
            }
        }
        x
    }
}
