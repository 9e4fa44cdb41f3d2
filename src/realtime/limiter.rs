// [audio] The true-peak limiter at the end of the chain: it catches what the repair added, nothing else.
//!
//! True peaks are read from an interpolated waveform as in ITU-R BS.1770-4, Annex 2, but eight times
//! oversampled (the annex asks for four, which under-reads by up to 0.7 dB near Nyquist; eight: 0.17 dB).
//! The gain is a sliding maximum of the needed reduction, released exponentially and smoothed by two
//! moving averages that together last the look-ahead, so that it has arrived when the peak does. All
//! of that is integer arithmetic: sums neither drift nor keep a remainder, an idle limiter multiplies
//! by nothing.

use std::f64::consts::PI;

use super::{delay::Delay, stage::MAX_CHANNELS, stft::clean};

/// Interpolated points per sample.
const OVERSAMPLING: usize = 8;
/// Taps per phase of the interpolator.
const TAPS: usize = 48;
/// Time between a reduction's first step and the peak, in seconds.
const LOOK_AHEAD_SECONDS: f64 = 0.0015;
/// Time constant of the return to unity gain, in seconds: slow enough for bass to stay undistorted.
const RELEASE_SECONDS: f64 = 0.060;
/// Samples around a peak over which the full reduction holds, so that interpolation across it holds too.
const GUARD: usize = 6;
/// Kept below the ceiling for what lies between interpolated points and for moving gain, in dB.
const MARGIN_DB: f32 = 0.05;
/// Fixed-point one for reductions.
const ONE: u32 = 1 << 24;

/// Maximum of the last `window` values of a stream (Lemire 2006: a queue of falling candidates).
#[derive(Clone, Debug)]
struct SlidingMax<T> {
    /// (index, value), values falling from `head`; a ring.
    queue: Vec<(u64, T)>,
    head: usize,
    len: usize,
    now: u64,
    window: u64,
}

impl<T: Copy + Default + PartialOrd> SlidingMax<T> {
    fn new(window: usize) -> Self {
        let window = window.max(1);
        Self {
            queue: vec![(0, T::default()); window + 1],
            head: 0,
            len: 0,
            now: 0,
            window: window as u64,
        }
    }

    fn reset(&mut self) {
        (self.head, self.len, self.now) = (0, 0, 0);
    }

    fn slot(&self, i: usize) -> usize {
        (self.head + i) % self.queue.len()
    }

    fn next(&mut self, value: T) -> T {
        while self.len > 0 && self.queue[self.slot(self.len - 1)].1 <= value {
            self.len -= 1;
        }
        let slot = self.slot(self.len);
        self.queue[slot] = (self.now, value);
        self.len += 1;
        if self.queue[self.head].0 + self.window <= self.now {
            self.head = self.slot(1);
            self.len -= 1;
        }
        self.now += 1;
        self.queue[self.head].1
    }
}

/// A running sum of the last `n` values, exact.
#[derive(Clone, Debug)]
struct BoxSum {
    delay: Delay<u64>,
    sum: u64,
}

impl BoxSum {
    fn new(n: usize) -> Self {
        Self {
            delay: Delay::new(n),
            sum: 0,
        }
    }

    fn next(&mut self, value: u64) -> u64 {
        self.sum += value;
        self.sum -= self.delay.push(value);
        self.sum
    }

    fn reset(&mut self) {
        self.delay.reset();
        self.sum = 0;
    }
}

/// The interpolated peak of one channel, sample by sample.
#[derive(Clone, Debug)]
struct PeakMeter {
    /// The last `TAPS` samples, twice in a row, so that any start is contiguous.
    history: [f32; 2 * TAPS],
    at: usize,
    /// Samples for which something loud enough to matter is still in the history.
    loud: usize,
}

impl PeakMeter {
    fn new() -> Self {
        Self {
            history: [0.0; 2 * TAPS],
            at: 0,
            loud: 0,
        }
    }

    /// Takes a sample; returns the largest magnitude between the samples `TAPS / 2` and `TAPS / 2 - 1`
    /// ago, both included, or 0 where every sample in reach is below `audible` or it is not `wanted`.
    #[inline]
    fn next(
        &mut self,
        x: f32,
        audible: f32,
        wanted: bool,
        phases: &[[f32; TAPS]; OVERSAMPLING - 1],
    ) -> f32 {
        let x = clean(x);
        self.history[self.at] = x;
        self.history[self.at + TAPS] = x;
        self.at = (self.at + 1) % TAPS;
        if x.abs() > audible {
            self.loud = TAPS + 1;
        }
        if self.loud == 0 {
            return 0.0;
        }
        self.loud -= 1;
        if !wanted {
            return 0.0;
        }
        let window = &self.history[self.at..self.at + TAPS];
        let mut peak = window[TAPS / 2 - 1].abs().max(window[TAPS / 2].abs());
        for taps in phases {
            // Eight partial sums, so that the compiler may use vectors.
            let mut sums = [0.0f32; 8];
            for (t, w) in taps.chunks_exact(8).zip(window.chunks_exact(8)) {
                for ((s, t), w) in sums.iter_mut().zip(t).zip(w) {
                    *s += t * w;
                }
            }
            let point: f32 = sums.iter().sum();
            peak = peak.max(point.abs());
        }
        peak
    }
}

/// Limits what the chain has changed to the ceiling; what it left alone passes whatever its level.
pub struct Limiter {
    phases: [[f32; TAPS]; OVERSAMPLING - 1],
    /// Largest gain of the interpolator for a bounded signal.
    peak_gain: f32,
    latency: usize,
    ceiling: f32,
    enabled: bool,
    wet_meters: Vec<PeakMeter>,
    wet_delays: Vec<Delay<f32>>,
    dry_delays: Vec<Delay<f32>>,
    /// Samples for which a changed one is still in the meters' reach.
    changed: usize,
    needed: SlidingMax<u32>,
    held: u32,
    release: u64,
    boxes: [BoxSum; 2],
    /// A reduction of one after both boxes.
    full: f64,
}

impl Limiter {
    /// A limiter for `sample_rate` Hz and 1..=[`MAX_CHANNELS`] channels; its ceiling is −1 dBTP.
    pub fn live(sample_rate: f64, channels: usize) -> Self {
        let channels = channels.clamp(1, MAX_CHANNELS);
        let samples = |seconds: f64| ((seconds * sample_rate).round() as usize).max(2);
        // Two boxes of n samples spread a step over 2 n − 1 samples.
        let length = samples(LOOK_AHEAD_SECONDS) / 2 + 1;
        let phases = interpolator();
        let peak_gain = phases
            .iter()
            .map(|taps| taps.iter().map(|t| t.abs()).sum::<f32>())
            .fold(1.0, f32::max);
        let look_ahead = 2 * length - 2 + GUARD;
        let latency = TAPS / 2 + look_ahead;
        Self {
            phases,
            peak_gain,
            latency,
            ceiling: from_db(-1.0 - MARGIN_DB),
            enabled: true,
            wet_meters: vec![PeakMeter::new(); channels],
            wet_delays: vec![Delay::new(latency); channels],
            dry_delays: vec![Delay::new(latency); channels],
            changed: 0,
            needed: SlidingMax::new(2 * length - 1 + 2 * GUARD),
            held: 0,
            release: ((-1.0 / (RELEASE_SECONDS * sample_rate)).exp() * 4_294_967_296.0) as u64,
            boxes: [BoxSum::new(length), BoxSum::new(length)],
            full: (length * length) as f64 * f64::from(ONE),
        }
    }

    /// Delay in samples; depends on the sample rate alone and holds when disabled, too.
    pub fn latency(&self) -> usize {
        self.latency
    }

    /// Clears all memory.
    pub fn reset(&mut self) {
        self.wet_meters.fill(PeakMeter::new());
        for delay in self.wet_delays.iter_mut().chain(&mut self.dry_delays) {
            delay.reset();
        }
        self.changed = 0;
        self.needed.reset();
        self.held = 0;
        for b in &mut self.boxes {
            b.reset();
        }
    }

    /// The ceiling in dBTP from the next sample on, limited to −60..=0.
    pub fn set_ceiling_db(&mut self, ceiling_db: f32) {
        if ceiling_db.is_finite() {
            self.ceiling = from_db(ceiling_db.clamp(-60.0, 0.0) - MARGIN_DB);
        }
    }

    /// Whether peaks from the next sample on are limited. Switching never clicks: a reduction under way
    /// is released as always.
    pub fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    /// Delays `channels` and `dry` by [`latency`](Self::latency) in place and limits `channels`.
    ///
    /// `dry` is the chain's untouched input, aligned with `channels`; both have the constructor's
    /// number of channels and equal lengths. Where both are equal nothing is turned down. The channels share one gain. Returns the largest
    /// reduction of this block in dB, 0 or more.
    pub fn process(&mut self, channels: &mut [&mut [f32]], dry: &mut [&mut [f32]]) -> f32 {
        let length = channels
            .iter()
            .chain(dry.iter())
            .map(|c| c.len())
            .min()
            .unwrap_or(0);
        let mut deepest = 1.0f32;
        for n in 0..length {
            if channels.iter().zip(dry.iter()).any(|(w, d)| w[n] != d[n]) {
                self.changed = TAPS + 1;
            }
            self.changed = self.changed.saturating_sub(1);
            let wanted = self.changed > 0;
            let audible = self.ceiling / self.peak_gain;
            let mut peak = 0.0f32;
            for (meter, channel) in self.wet_meters.iter_mut().zip(channels.iter()) {
                peak = peak.max(meter.next(channel[n], audible, wanted, &self.phases));
            }
            let gain = self.gain(peak);
            deepest = deepest.min(gain);
            for (delay, channel) in self.wet_delays.iter_mut().zip(channels.iter_mut()) {
                let x = delay.push(finite(channel[n]));
                channel[n] = if gain == 1.0 { x } else { x * gain };
            }
            for (delay, channel) in self.dry_delays.iter_mut().zip(dry.iter_mut()) {
                channel[n] = delay.push(finite(channel[n]));
            }
        }
        if deepest < 1.0 {
            -20.0 * deepest.max(1e-6).log10()
        } else {
            0.0
        }
    }

    /// The gain of the sample that leaves now, given the newest peak.
    fn gain(&mut self, peak: f32) -> f32 {
        let needed = if self.enabled && peak > self.ceiling {
            (((1.0 - self.ceiling / peak) * ONE as f32).ceil() as u32).min(ONE)
        } else {
            0
        };
        let needed = self.needed.next(needed);
        self.held = needed.max(((u64::from(self.held) * self.release) >> 32) as u32);
        let [first, second] = &mut self.boxes;
        let smooth = second.next(first.next(u64::from(self.held)));
        if smooth == 0 {
            1.0
        } else {
            (1.0 - smooth as f64 / self.full) as f32
        }
    }
}

fn finite(x: f32) -> f32 {
    if x.is_finite() { x } else { 0.0 }
}

fn from_db(db: f32) -> f32 {
    10f32.powf(db / 20.0)
}

/// Phase `p` interpolates `(p + 1) / OVERSAMPLING` after the sample at tap `TAPS / 2 - 1` (taps run from
/// the oldest sample to the newest): a sinc under a Kaiser window, β = 5 (53 dB, flat to 0.44 of the rate), unit gain at DC.
fn interpolator() -> [[f32; TAPS]; OVERSAMPLING - 1] {
    let bessel = |x: f64| {
        // I0 by its power series.
        let (mut sum, mut term) = (1.0, 1.0);
        for k in 1..40 {
            term *= (x / (2.0 * f64::from(k))).powi(2);
            sum += term;
        }
        sum
    };
    let half = TAPS as f64 / 2.0;
    std::array::from_fn(|phase| {
        let offset = (phase + 1) as f64 / OVERSAMPLING as f64;
        let taps: [f64; TAPS] = std::array::from_fn(|i| {
            let t = i as f64 - (half - 1.0) - offset;
            let inside = (1.0 - (t / half).powi(2)).max(0.0);
            (PI * t).sin() / (PI * t) * bessel(5.0 * inside.sqrt()) / bessel(5.0)
        });
        let sum: f64 = taps.iter().sum();
        taps.map(|t| (t / sum) as f32)
    })
}
