// [any] How long blocks took, as a share of their duration.

use std::{fmt, time::Duration};

/// Times of the blocks of one pass.
#[derive(Clone, Debug)]
pub struct Timing {
    sample_rate: u32,
    /// A block's time over the duration of its audio, in the order of the blocks.
    shares: Vec<f64>,
    busy: Duration,
    frames: usize,
}

impl Timing {
    /// Of no blocks yet.
    pub fn new(sample_rate: u32) -> Self {
        Self {
            sample_rate,
            shares: Vec::new(),
            busy: Duration::ZERO,
            frames: 0,
        }
    }

    pub(super) fn add(&mut self, frames: usize, took: Duration) {
        let duration = frames as f64 / f64::from(self.sample_rate);
        self.shares.push(took.as_secs_f64() / duration);
        self.busy += took;
        self.frames += frames;
    }

    /// Adds the blocks of another pass at the same rate.
    pub fn append(&mut self, other: Self) {
        self.shares.extend(other.shares);
        self.busy += other.busy;
        self.frames += other.frames;
    }

    /// The share of its duration that a block at `quantile` (0..=1) of all blocks took; 0 without
    /// blocks. Nearest rank, so that 1 is the slowest block.
    pub fn quantile(&self, quantile: f64) -> f64 {
        let mut sorted = self.shares.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (quantile * sorted.len() as f64).ceil() as usize;
        sorted
            .get(rank.clamp(1, sorted.len().max(1)) - 1)
            .copied()
            .unwrap_or(0.0)
    }

    /// Time over all blocks as a share of the audio's duration.
    pub fn mean(&self) -> f64 {
        let audio = self.frames as f64 / f64::from(self.sample_rate);
        if audio > 0.0 {
            self.busy.as_secs_f64() / audio
        } else {
            0.0
        }
    }

    /// Blocks that took longer than their audio lasts: a host playing them would have dropped out.
    pub fn late(&self) -> usize {
        self.shares.iter().filter(|&&share| share > 1.0).count()
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.shares.len()
    }
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} blocks, time as a share of the block: mean {:.2} %, median {:.2} %, 99.9th percentile {:.2} %, max {:.2} %",
            self.blocks(),
            100.0 * self.mean(),
            100.0 * self.quantile(0.5),
            100.0 * self.quantile(0.999),
            100.0 * self.quantile(1.0)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_ranks_of_shares() {
        let mut timing = Timing::new(1_000);
        for ms in (1..=1_000).rev() {
            // One second of audio: a share of ms / 1000.
            timing.add(1_000, Duration::from_millis(ms));
        }
        assert!((timing.quantile(0.5) - 0.500).abs() < 1e-9);
        assert!((timing.quantile(0.999) - 0.999).abs() < 1e-9);
        assert!((timing.quantile(1.0) - 1.0).abs() < 1e-9);
        assert!((timing.quantile(0.0) - 0.001).abs() < 1e-9);
        assert_eq!(Timing::new(48_000).quantile(0.5), 0.0);
        assert_eq!(timing.late(), 0);
        timing.add(1_000, Duration::from_millis(1_001));
        assert_eq!(timing.late(), 1);
    }
}
