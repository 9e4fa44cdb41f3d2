// [worker] What the networks hear: log-frequency spectra every 20 ms, band levels and their rises every 10 ms.

use std::ops::Range;

use super::super::{
    chroma::LogMap,
    onsets,
    spectra::{BandSpectra, RATE, Source, Spectrum, for_frames, quantile},
};
use crate::worker::progress::Progress;

/// Frames a second of the pitched features.
pub(in super::super) const PITCH_FPS: f64 = 50.0;
/// Samples between them at [`RATE`].
pub(super) const PITCH_HOP: usize = 440;
/// Windows: 372 ms tells bass notes apart, 186 ms tells their onsets.
const LONG: usize = 8192;
const SHORT: usize = 4096;
const FFT_SIZE: usize = 8192;
/// Thirds of semitones from 27.5 Hz, 84 semitones; the long window is heard up to 220 Hz.
const BINS: usize = 252;
const LOW_BINS: usize = 108;
/// Features a frame.
pub(super) const PITCH_INPUTS: usize = BINS + LOW_BINS;
/// Magnitudes this share of the loud level count as linear.
const KNEE: f32 = 0.005;

/// `[frame][PITCH_INPUTS]` of a range of frames, levels relative to the loudest of them. None when cancelled.
pub(super) fn pitched(
    source: &Source,
    tuning: f64,
    range: Range<usize>,
    progress: &Progress,
) -> Option<Vec<f32>> {
    let map = LogMap::new(tuning, FFT_SIZE);
    let mut long = Spectrum::new(LONG, FFT_SIZE);
    let mut short = Spectrum::new(SHORT, FFT_SIZE);
    let mut out = Vec::with_capacity(range.len() * PITCH_INPUTS);
    let mut bins = [0.0f32; BINS];
    let mut tops = Vec::with_capacity(range.len());
    let done = for_frames(source, LONG, PITCH_HOP, range, progress, |_, frame| {
        long.analyse(frame);
        short.analyse(&frame[(LONG - SHORT) / 2..][..SHORT]);
        map.apply(&short.magnitudes, &mut bins);
        tops.push(bins.iter().copied().fold(0.0, f32::max));
        out.extend_from_slice(&bins);
        map.apply(&long.magnitudes, &mut bins[..LOW_BINS]);
        out.extend_from_slice(&bins[..LOW_BINS]);
    });
    if !done {
        return None;
    }
    let scale = 1.0 / (KNEE * quantile(&tops, 0.9) + 1e-7);
    // A fifth brings the logarithm's range near 1.
    out.iter_mut()
        .for_each(|m| *m = (1.0 + *m * scale).ln() * 0.2);
    Some(out)
}

/// `[frame][2 bands]`: level of each band relative to its own loud level, then its rise.
pub(super) fn rhythmic(spectra: &BandSpectra) -> Vec<f32> {
    let (log, flux) = onsets::log_and_flux(spectra);
    let mut out = Vec::with_capacity(2 * log.len());
    for (level, rise) in log
        .chunks_exact(spectra.bands)
        .zip(flux.chunks_exact(spectra.bands))
    {
        out.extend(level.iter().map(|l| 0.25 * l));
        out.extend_from_slice(rise);
    }
    out
}

/// Frames of pitched features in a recording.
pub(super) fn pitch_frames(source: &Source) -> usize {
    if source.len() == 0 {
        0
    } else {
        source.len() / PITCH_HOP + 1
    }
}

const _: () = assert!(RATE as usize == PITCH_HOP * 50);
