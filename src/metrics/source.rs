// [worker] What can be measured: a recording that is read piece by piece, so that an hour takes no more memory than a minute.

use std::ops::Range;

use crate::audio::AudioBuffer;

/// Frames that are read at a time.
const PIECE: usize = 1 << 16;

/// A recording. Reading it twice gives the same.
pub trait Source {
    fn channels(&self) -> usize;
    /// Hz.
    fn sample_rate(&self) -> u32;
    /// Samples a channel.
    fn frames(&self) -> usize;
    /// Samples of a channel from `start` on, all of which are there.
    fn read(&self, channel: usize, start: usize, out: &mut [f32]);
}

impl Source for AudioBuffer {
    fn channels(&self) -> usize {
        self.channels.len()
    }

    fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    fn frames(&self) -> usize {
        AudioBuffer::frames(self)
    }

    fn read(&self, channel: usize, start: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.channels[channel][start..start + out.len()]);
    }
}

/// The recording's pieces from first to last, of [`PIECE`] frames but for the last one.
pub(super) fn pieces(source: &dyn Source) -> impl Iterator<Item = Range<usize>> {
    let frames = source.frames();
    (0..frames)
        .step_by(PIECE)
        .map(move |start| start..(start + PIECE).min(frames))
}

/// Samples of a channel from `start` on, which may lie before the first; 0 outside.
pub(super) fn around(source: &dyn Source, channel: usize, start: i64, out: &mut [f32]) {
    let end = start + out.len() as i64;
    let within = start.clamp(0, source.frames() as i64)..end.clamp(0, source.frames() as i64);
    out.fill(0.0);
    if within.start < within.end {
        let [from, to] = [within.start, within.end].map(|n| (n - start) as usize);
        source.read(channel, within.start as usize, &mut out[from..to]);
    }
}

/// Every channel of `range`.
pub(super) fn planes(source: &dyn Source, range: &Range<usize>) -> Vec<Vec<f32>> {
    let plane = |channel| {
        let mut out = vec![0.0; range.len()];
        source.read(channel, range.start, &mut out);
        out
    };
    (0..source.channels()).map(plane).collect()
}

/// The channels' mean from `start` on, as [`AudioBuffer::mono`] has it; 0 after the end.
pub(super) fn mono(source: &dyn Source, start: usize, out: &mut [f32]) {
    let within = out.len().min(source.frames().saturating_sub(start));
    let (within, after) = out.split_at_mut(within);
    after.fill(0.0);
    let part = AudioBuffer::new(
        planes(source, &(start..start + within.len())),
        source.sample_rate(),
    );
    if !part.channels.is_empty() {
        within.copy_from_slice(&part.mono());
    }
}

/// Largest magnitude of all samples.
pub(super) fn peak(source: &dyn Source) -> f32 {
    let mut peak = 0.0f32;
    for piece in pieces(source) {
        let planes = planes(source, &piece);
        peak = planes.iter().flatten().fold(peak, |m, x| m.max(x.abs()));
    }
    peak
}
