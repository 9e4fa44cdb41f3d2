// [audio] Dropouts: a channel that falls silent within a millisecond.

/// Loudest "silence": −80 dBFS; lost packets leave zeros, or dither after a conversion.
const SILENT: f32 = 1e-4;
/// Level before a gap, at least: −40 dBFS RMS over the last 5 ms.
const LOUD: f32 = 0.01;
/// Shortest gap and longest, seconds: shorter silence lies between samples of any music, longer is a rest
/// or the end.
const SHORTEST_SECONDS: f64 = 0.002;
const LONGEST_SECONDS: f64 = 0.4;

/// Finds gaps in one channel.
#[derive(Clone, Copy)]
pub(super) struct Gap {
    /// Silent samples up to now.
    run: u64,
    /// Whether it was loud until the run began.
    abrupt: bool,
    /// Mean square of about the last 5 ms, held while silent.
    power: f32,
    smoothing: f32,
    shortest: u64,
    longest: u64,
}

impl Gap {
    pub(super) fn new(sample_rate: f64) -> Self {
        Self {
            run: 0,
            abrupt: false,
            power: 0.0,
            smoothing: (1.0 - (-1.0 / (0.005 * sample_rate)).exp()) as f32,
            shortest: (SHORTEST_SECONDS * sample_rate).ceil() as u64,
            longest: (LONGEST_SECONDS * sample_rate) as u64,
        }
    }

    pub(super) fn reset(&mut self) {
        self.run = 0;
        self.abrupt = false;
        self.power = 0.0;
    }

    /// Severity of one frame: 1 if it holds at least 2 ms of an abrupt gap.
    pub(super) fn frame(&mut self, samples: &[f32]) -> f32 {
        let mut severity = 0.0;
        for &x in samples {
            if x.abs() <= SILENT {
                if self.run == 0 {
                    self.abrupt = self.power > LOUD * LOUD;
                }
                self.run += 1;
                if self.abrupt && (self.shortest..=self.longest).contains(&self.run) {
                    severity = 1.0;
                }
            } else {
                if self.run >= self.shortest {
                    self.power = 0.0; // what comes after a rest must grow loud itself
                }
                self.run = 0;
            }
            if self.run < self.shortest {
                self.power += self.smoothing * (x * x - self.power);
            }
        }
        severity
    }
}
