// [worker] Loudness after ITU-R BS.1770-4 and EBU R 128, and true peak.

use std::ops::Range;

use ebur128::{EbuR128, Mode};

use super::source::{Source, around, pieces, planes};
use crate::audio::AudioBuffer;

/// Integrated loudness in LUFS with both gates (EBU Tech 3341 §2.5). `None` for silence, and for less
/// than one gating block (400 ms).
pub fn integrated_lufs(audio: &dyn Source) -> Option<f64> {
    let meter = metered(audio, Mode::I)?;
    finite(meter.loudness_global().ok()?)
}

/// Short-term loudness in LUFS (3 s windows, EBU Tech 3341 §2.3), every 100 ms from 3 s on;
/// `None` where a window is silent. Empty for less than 3 s.
pub fn short_term_lufs(audio: &dyn Source) -> Vec<Option<f64>> {
    let Some(mut meter) = meter(audio, Mode::S) else {
        return Vec::new();
    };
    let hop = (audio.sample_rate() as usize / 10).max(1);
    let window = audio.sample_rate() as usize * 3;
    let mut out = Vec::new();
    let mut at = 0;
    while at + hop <= audio.frames() {
        if add(&mut meter, audio, &(at..at + hop)).is_none() {
            return out;
        }
        at += hop;
        if at >= window {
            out.push(meter.loudness_shortterm().ok().and_then(finite));
        }
    }
    out
}

/// Loudness range in LU (EBU Tech 3342). `None` for silence or less than 3 s.
pub fn loudness_range_lu(audio: &dyn Source) -> Option<f64> {
    if audio.frames() < 3 * audio.sample_rate() as usize {
        return None;
    }
    let meter = metered(audio, Mode::LRA)?;
    meter.loudness_shortterm().ok()?;
    finite(meter.loudness_range().ok()?).filter(|_| integrated_lufs(audio).is_some())
}

/// Highest true peak over all channels in dBTP, read at 16 times 44.1/48 kHz (BS.1770-4 annex 2 asks for
/// at least 4 times; 16 under-reads by at most 0.04 dB). `None` for silence.
pub fn true_peak_dbtp(audio: &dyn Source) -> Option<f64> {
    let peak = true_peak(audio);
    (peak > 0.0).then(|| 20.0 * f64::from(peak).log10())
}

/// [`true_peak_dbtp`] as a linear value; 0 for silence.
pub fn true_peak(audio: &dyn Source) -> f32 {
    let coarse = Interpolator::new(4);
    let fine = Interpolator::new(factor(audio.sample_rate()));
    // A piece with what its filters reach on both sides.
    let around = |channel: usize, piece: &Range<usize>| {
        let mut samples = vec![0.0; piece.len() + 4 * HALF];
        around(audio, channel, piece.start as i64 - REACH, &mut samples);
        samples
    };
    let within = |piece: &Range<usize>| 2 * HALF..2 * HALF + piece.len();
    let mut best = 0.0f32;
    for channel in 0..audio.channels() {
        let mut tops = Vec::new();
        for piece in pieces(audio) {
            let envelope = coarse.envelope(&around(channel, &piece));
            let envelope = &envelope[within(&piece)];
            tops.push(envelope.iter().fold(0.0f32, |m, &e| m.max(e)));
        }
        let top = tops.iter().fold(best, |m, &e| m.max(e));
        best = top;
        if fine.phases.len() <= coarse.phases.len() {
            continue;
        }
        // Four times oversampled, a peak is read at least cos(π/8) = 0.92 of its height: only there can
        // a finer look find more.
        for (piece, _) in pieces(audio)
            .zip(tops)
            .filter(|(_, highest)| *highest > 0.92 * top)
        {
            let samples = around(channel, &piece);
            let envelope = coarse.envelope(&samples);
            for n in within(&piece) {
                if envelope[n] > 0.92 * top {
                    best = best.max(fine.peak_at(&samples, n));
                }
            }
        }
    }
    best
}

/// Per sample, the largest magnitude of the four times oversampled signal within a sample of it, over
/// all channels: what a limiter must look at.
pub fn true_peak_envelope(audio: &AudioBuffer) -> Vec<f32> {
    let interpolator = Interpolator::new(4);
    let mut out = vec![0.0f32; audio.frames()];
    for channel in &audio.channels {
        for (o, e) in out.iter_mut().zip(interpolator.envelope(channel)) {
            *o = o.max(e);
        }
    }
    out
}

fn factor(sample_rate: u32) -> usize {
    match sample_rate {
        0..=64_000 => 16,
        64_001..=128_000 => 8,
        _ => 4,
    }
}

/// Taps on either side of the interpolated point.
const HALF: usize = 16;
/// Samples before a piece that its filters reach, and more.
const REACH: i64 = 2 * HALF as i64;

/// Band-limited interpolation between samples: Kaiser-windowed sinc (β = 7, side lobes below −70 dB;
/// flat to about 0.9 of the Nyquist frequency with 32 taps).
struct Interpolator {
    /// One filter a fraction k / factor, k in 0..factor; the first is the identity.
    phases: Vec<[f32; 2 * HALF]>,
}

impl Interpolator {
    fn new(factor: usize) -> Self {
        let phases = (0..factor)
            .map(|k| {
                let fraction = k as f64 / factor as f64;
                let mut taps = [0.0f64; 2 * HALF];
                for (i, tap) in taps.iter_mut().enumerate() {
                    // Tap i weighs sample n + i − (HALF − 1) for the point n + fraction.
                    let x = i as f64 - (HALF as f64 - 1.0) - fraction;
                    let sinc = if x.abs() < 1e-12 {
                        1.0
                    } else {
                        (std::f64::consts::PI * x).sin() / (std::f64::consts::PI * x)
                    };
                    let w = 1.0 - (x / HALF as f64).powi(2);
                    *tap = sinc * bessel_i0(7.0 * w.max(0.0).sqrt()) / bessel_i0(7.0);
                }
                let sum: f64 = taps.iter().sum();
                taps.map(|t| (t / sum) as f32)
            })
            .collect();
        Self { phases }
    }

    /// Largest magnitude at the points from sample `n` to just before `n + 1`.
    fn after(&self, window: &[f32; 2 * HALF]) -> f32 {
        let mut best = window[HALF - 1].abs();
        for taps in &self.phases[1..] {
            let sum: f32 = taps.iter().zip(window).map(|(t, x)| t * x).sum();
            best = best.max(sum.abs());
        }
        best
    }

    fn peak_at(&self, channel: &[f32], n: usize) -> f32 {
        let after = |n: isize| {
            let window: [f32; 2 * HALF] = std::array::from_fn(|i| {
                let at = n + i as isize - (HALF as isize - 1);
                usize::try_from(at)
                    .ok()
                    .and_then(|at| channel.get(at))
                    .copied()
                    .unwrap_or(0.0)
            });
            self.after(&window)
        };
        after(n as isize - 1).max(after(n as isize))
    }

    fn envelope(&self, channel: &[f32]) -> Vec<f32> {
        let mut padded = vec![0.0f32; HALF];
        padded.extend_from_slice(channel);
        padded.resize(channel.len() + 2 * HALF, 0.0);
        // between[i]: from sample i − 1 to sample i.
        let between: Vec<f32> = padded
            .windows(2 * HALF)
            .map(|w| {
                let window: &[f32; 2 * HALF] = w.try_into().expect("windows of this length");
                self.after(window)
            })
            .collect();
        (0..channel.len())
            .map(|n| channel[n].abs().max(between[n]).max(between[n + 1]))
            .collect()
    }
}

/// Modified Bessel function of order 0 by its power series.
fn bessel_i0(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..40 {
        term *= (x / (2.0 * f64::from(k))).powi(2);
        sum += term;
    }
    sum
}

fn meter(audio: &dyn Source, mode: Mode) -> Option<EbuR128> {
    if audio.frames() == 0 {
        return None;
    }
    EbuR128::new(audio.channels() as u32, audio.sample_rate(), mode).ok()
}

fn add(meter: &mut EbuR128, audio: &dyn Source, piece: &Range<usize>) -> Option<()> {
    let planes = planes(audio, piece);
    let planes: Vec<&[f32]> = planes.iter().map(Vec::as_slice).collect();
    meter.add_frames_planar_f32(&planes).ok()
}

fn metered(audio: &dyn Source, mode: Mode) -> Option<EbuR128> {
    let mut meter = meter(audio, mode)?;
    for piece in pieces(audio) {
        add(&mut meter, audio, &piece)?;
    }
    Some(meter)
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
