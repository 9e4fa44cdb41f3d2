// [audio] Dropouts: a channel that falls silent within a millisecond, and comes back as suddenly.

use std::ops::Range;

/// Loudest "silence": −80 dBFS; lost packets leave zeros, or dither after a conversion.
const SILENT: f32 = 1e-4;
/// Level on both sides of a gap, at least: −40 dBFS RMS over 5 ms.
const LOUD: f32 = 0.01;
/// Shortest gap and longest, seconds: shorter silence lies between samples of any music, longer is a rest
/// or the end.
const SHORTEST_SECONDS: f64 = 0.002;
const LONGEST_SECONDS: f64 = 0.25;
/// Music after a gap that must be loud.
const SIDE_SECONDS: f64 = 0.005;

/// Finds gaps in one channel.
#[derive(Clone, Copy)]
pub(super) struct Gap {
    /// Silent samples up to now.
    run: u64,
    /// Whether it was loud until the run began.
    abrupt: bool,
    /// Mean square of about the last 5 ms, held while silent.
    power: f32,
    /// The last abrupt gap's length while its far side is being heard; 0 = none.
    gap: u64,
    /// Samples and energy of that side so far.
    heard: u64,
    energy: f32,
    smoothing: f32,
    shortest: u64,
    longest: u64,
    side: u64,
}

impl Gap {
    pub(super) fn new(sample_rate: f64) -> Self {
        Self {
            run: 0,
            abrupt: false,
            power: 0.0,
            gap: 0,
            heard: 0,
            energy: 0.0,
            smoothing: (1.0 - (-1.0 / (SIDE_SECONDS * sample_rate)).exp()) as f32,
            shortest: (SHORTEST_SECONDS * sample_rate).ceil() as u64,
            longest: (LONGEST_SECONDS * sample_rate) as u64,
            side: (SIDE_SECONDS * sample_rate).ceil() as u64,
        }
    }

    pub(super) fn reset(&mut self) {
        self.run = 0;
        self.abrupt = false;
        self.power = 0.0;
        self.gap = 0;
        self.heard = 0;
        self.energy = 0.0;
    }

    /// Takes a frame. Where it confirms a gap, the frames that held it: 0 is this one, 1 the one before…
    pub(super) fn frame(&mut self, samples: &[f32]) -> Option<Range<usize>> {
        let mut found = None;
        let length = samples.len() as u64;
        for (i, &x) in samples.iter().enumerate() {
            if x.abs() <= SILENT {
                if self.run == 0 {
                    self.abrupt = self.power > LOUD * LOUD;
                }
                self.run += 1;
            } else {
                if self.run >= self.shortest {
                    self.power = 0.0; // what comes after a rest must grow loud itself
                    if self.abrupt && self.run <= self.longest {
                        self.gap = self.run;
                        self.heard = 0;
                        self.energy = 0.0;
                    }
                }
                self.run = 0;
            }
            if self.run < self.shortest {
                self.power += self.smoothing * (x * x - self.power);
            } else {
                self.gap = 0; // silent again before it was loud
            }
            if self.gap > 0 {
                self.heard += 1;
                self.energy += x * x;
                if self.heard == self.side {
                    if self.energy > LOUD * LOUD * self.side as f32 {
                        // Samples from the gap's borders to this frame's end; its first two milliseconds
                        // may lie in a frame that is mostly music.
                        let ahead = length.saturating_sub(1 + i as u64);
                        let end = ahead + self.heard;
                        let start = end + self.gap.saturating_sub(self.shortest);
                        let frames = |ago: u64| (ago / length.max(1)) as usize;
                        found = Some(frames(end)..frames(start) + 1);
                    }
                    self.gap = 0;
                }
            }
        }
        found
    }
}
