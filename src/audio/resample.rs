// [worker] Sample-rate conversion of whole buffers.

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
}

fn convert(input: &[f32], from: u32, to: u32, wanted: usize) -> Vec<f32> {
    if input.is_empty() {
        return vec![0.0; wanted];
    }
    let (from, to) = (from as usize, to as usize);
    let divisor = gcd(from, to);
    // Blocks of an even number of units, so that half a block is whole at both rates: rubato delays by
    // half a block, and rounding it would shift the audio by a fraction of a sample.
    let unit = from.min(to) / divisor;
    let blocks = 2 * MIN_BLOCK.div_ceil(2 * unit);
    let chunk = blocks * (from / divisor);
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
