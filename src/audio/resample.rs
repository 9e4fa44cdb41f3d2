// [worker] Sample-rate conversion of whole buffers, and of parts of them.

use std::ops::Range;

use rubato::{
    Fft, FixedSync, Resampler, WindowFunction, audioadapter_buffers::direct::SequentialSlice,
};

use super::AudioBuffer;

/// Shortest filter block in samples of the lower rate: the pass band then ends above 0.97 of its Nyquist
/// frequency (Blackman-Harris² of that length, rubato's own cut-off rule).
const MIN_BLOCK: usize = 1024;

impl AudioBuffer {
    /// The same audio at `sample_rate` Hz (at least 1): linear phase, delay compensated, anti-aliased.
    /// The length is the exact ratio, rounded to the nearest sample (never 0 for a non-empty buffer), so
    /// that going up and back gives the original length. The same rate returns a copy.
    #[must_use]
    pub fn resampled(&self, sample_rate: u32) -> Self {
        let (from, to) = (self.sample_rate, sample_rate.max(1));
        if from == to {
            return self.clone();
        }
        let frames = self.frames();
        let scaled = u128::from(to) * frames as u128;
        let wanted = ((scaled + u128::from(from) / 2) / u128::from(from.max(1))) as usize;
        let wanted = if frames == 0 { 0 } else { wanted.max(1) };
        let channels = self
            .channels
            .iter()
            .map(|channel| convert(channel, from.max(1), to, wanted))
            .collect();
        Self::new(channels, to)
    }

    /// Samples `range` of what [`Self::resampled`] makes of a longer recording, bit for bit, from the frames
    /// that [`frames_for`] names: `self` holds those from `start` on.
    ///
    /// # Panics
    /// If `self` holds fewer.
    #[must_use]
    pub fn resampled_part(&self, start: usize, sample_rate: u32, range: Range<usize>) -> Self {
        let (from, to) = (self.sample_rate.max(1), sample_rate.max(1));
        let needed = frames_for(from, to, range.clone());
        let offset = needed.start - start;
        let parts = self
            .channels
            .iter()
            .map(|channel| &channel[offset..offset + needed.len()]);
        if from == to {
            return Self::new(parts.map(<[f32]>::to_vec).collect(), to);
        }
        // The converter works block by block and knows its own block and the one before, so that it may
        // begin with any block.
        let (block_in, block_out) = blocks(from as usize, to as usize);
        let skipped = needed.start / block_in * block_out;
        let channels = parts
            .map(|part| {
                let mut out = convert(part, from, to, range.end - skipped);
                out.drain(..range.start - skipped);
                out
            })
            .collect();
        Self::new(channels, to)
    }
}

/// Frames at `from` Hz that decide the samples `range` at `to` Hz: see [`AudioBuffer::resampled_part`]. They
/// may end behind the recording's end, and then the part isn't known.
pub fn frames_for(from: u32, to: u32, range: Range<usize>) -> Range<usize> {
    if from == to || range.is_empty() {
        return range;
    }
    let (block_in, block_out) = blocks(from as usize, to as usize);
    let delay = block_out / 2;
    let first = (range.start + delay) / block_out;
    let last = (range.end - 1 + delay) / block_out;
    first.saturating_sub(1) * block_in..(last + 1) * block_in
}

/// Frames of a block of the converter, before and after.
fn blocks(from: usize, to: usize) -> (usize, usize) {
    let divisor = gcd(from, to);
    // Blocks of an even number of units, so that half a block is whole at both rates: rubato delays by
    // half a block, and rounding it would shift the audio by a fraction of a sample.
    let unit = from.min(to) / divisor;
    let blocks = 2 * MIN_BLOCK.div_ceil(2 * unit);
    (blocks * (from / divisor), blocks * (to / divisor))
}

fn convert(input: &[f32], from: u32, to: u32, wanted: usize) -> Vec<f32> {
    if input.is_empty() {
        return vec![0.0; wanted];
    }
    let (from, to) = (from as usize, to as usize);
    let (chunk, _) = blocks(from, to);
    let mut resampler = Fft::<f64>::new_custom(
        from,
        to,
        chunk,
        1,
        1,
        WindowFunction::BlackmanHarris2,
        FixedSync::Both,
    )
    .expect("both rates and the chunk are at least 1");
    // One block of silence follows, so that the last samples' filter tails are complete.
    let mut padded: Vec<f64> = input.iter().map(|&x| f64::from(x)).collect();
    padded.resize(input.len() + chunk, 0.0);
    let source =
        SequentialSlice::new(&padded, 1, padded.len()).expect("one channel of this length");
    let output = resampler
        .process_all(&source, padded.len(), None)
        .expect("one channel in, one out")
        .take_data();
    let mut output: Vec<f32> = output.iter().map(|&x| x as f32).collect();
    output.resize(wanted, 0.0);
    output
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_that_of_the_whole_bit_for_bit() {
        let wave: Vec<f32> = (0..40_000).map(|n| (n as f32 * 0.37).sin()).collect();
        for (from, to) in [
            (48_000, 44_100),
            (22_050, 44_100),
            (96_000, 44_100),
            (8000, 44_100),
            (44_100, 44_100),
        ] {
            let audio = AudioBuffer::new(vec![wave.clone()], from);
            let whole = audio.resampled(to);
            for range in [0..10, 0..5000, 3000..3001, 9000..17_000] {
                let needed = frames_for(from, to, range.clone());
                assert!(needed.end <= wave.len());
                // What comes later must not matter.
                let known = audio.slice(needed.start, needed.len());
                let part = known.resampled_part(needed.start, to, range.clone());
                assert!(
                    part.channels[0] == whole.channels[0][range.clone()],
                    "{from} to {to}, {range:?}"
                );
            }
        }
    }
}
