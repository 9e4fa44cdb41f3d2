// [audio] Gain that makes the input as loud as the output, for a fair A/B.

use crate::realtime::MAX_CHANNELS;

/// Time constant of the loudness estimate, that of ITU-R BS.1770 short-term loudness.
const INTEGRATION_SECONDS: f64 = 3.0;
/// While the stages learn, the output's loudness moves, and a slow estimate comes late: it starts with a short time
/// constant, which grows by this share of the time that was heard. With everything turned up the output falls by 4 LU
/// within the first seconds. A constant of 3 s throughout makes A 1.3 LU too loud over the seconds 1 to 8.
const FIRST_SECONDS: f64 = 0.1;
const GROWTH: f64 = 1.0 / 24.0;
/// What that estimate missed is made up for over the time constant of the loudness itself, by at most this factor of
/// power (1 dB): over the first 8 s A and B then differ by 0.05 LU, without it by 0.23.
const MAX_CORRECTION: f64 = 1.26;
/// The gain is renewed on this grid of samples.
const GRID: u32 = 64;
/// Mean square below which a signal counts as silent: −70 LUFS, the absolute gate of BS.1770.
const GATE: f64 = 1e-7;
/// Limits of the gain: ±24 dB.
const MAX_GAIN: f64 = 15.85;

/// Follows the K-weighted loudness (ITU-R BS.1770-4) of two streams.
pub struct LoudnessMatch {
    weighting: [[KWeighting; MAX_CHANNELS]; 2],
    mean_square: [f64; 2],
    /// Slow means of what was played of both streams, the first with the gain.
    played: [f64; 2],
    sample_rate: f64,
    /// Samples of sound so far, until the estimate is as slow as it gets.
    heard: u64,
    smoothing: f64,
    /// The same for the slow means.
    slow: f64,
    until_update: u32,
    gain: f32,
}

impl LoudnessMatch {
    /// For streams at `sample_rate` Hz.
    pub fn new(sample_rate: f64) -> Self {
        Self {
            weighting: [[KWeighting::new(sample_rate); MAX_CHANNELS]; 2],
            mean_square: [0.0; 2],
            played: [0.0; 2],
            sample_rate,
            heard: 0,
            smoothing: Self::smoothing(0, sample_rate),
            slow: 1.0 - (-1.0 / (INTEGRATION_SECONDS * sample_rate)).exp(),
            until_update: 0,
            gain: 1.0,
        }
    }

    /// Share of the difference that a sample takes off, once `heard` samples of sound were heard.
    fn smoothing(heard: u64, sample_rate: f64) -> f64 {
        let seconds = GROWTH * heard as f64 / sample_rate;
        let seconds = seconds.clamp(FIRST_SECONDS, INTEGRATION_SECONDS);
        1.0 - (-1.0 / (seconds * sample_rate)).exp()
    }

    /// Clears all memory.
    pub fn reset(&mut self) {
        for stream in &mut self.weighting {
            stream.iter_mut().for_each(KWeighting::reset);
        }
        self.mean_square = [0.0; 2];
        self.played = [0.0; 2];
        self.heard = 0;
        self.smoothing = Self::smoothing(0, self.sample_rate);
        self.until_update = 0;
        self.gain = 1.0;
    }

    /// Takes a frame of each stream (1 or 2 channels, same for both) and returns the linear gain that
    /// gives `from` the loudness of `to`.
    #[inline]
    pub fn process(&mut self, from: &[f32], to: &[f32]) -> f32 {
        for (stream, frame) in [from, to].into_iter().enumerate() {
            let mut power = 0.0;
            for (filter, &x) in self.weighting[stream].iter_mut().zip(frame) {
                let y = filter.process(f64::from(x));
                power += y * y;
            }
            self.mean_square[stream] += self.smoothing * (power - self.mean_square[stream]);
            let gain = if stream == 0 {
                f64::from(self.gain)
            } else {
                1.0
            };
            self.played[stream] += self.slow * (gain * gain * power - self.played[stream]);
        }
        if self.until_update == 0 {
            self.until_update = GRID;
            let [from, to] = self.mean_square;
            self.gain = if from > GATE && to > GATE {
                if GROWTH * self.heard as f64 <= INTEGRATION_SECONDS * self.sample_rate {
                    self.heard += u64::from(GRID);
                    self.smoothing = Self::smoothing(self.heard, self.sample_rate);
                }
                let [played, wanted] = self.played;
                let missed = if played > 0.0 { wanted / played } else { 1.0 };
                let missed = missed.clamp(1.0 / MAX_CORRECTION, MAX_CORRECTION);
                (to / from * missed).sqrt().clamp(1.0 / MAX_GAIN, MAX_GAIN) as f32
            } else {
                1.0
            };
        }
        self.until_update -= 1;
        self.gain
    }
}

/// The two-stage K-weighting filter of ITU-R BS.1770-4 for any rate: the analogue prototypes that give
/// the standard's 48 kHz coefficients, by bilinear transform (De Man, "Evaluation of implementations of
/// the EBU R128 loudness measurement", 2018).
#[derive(Clone, Copy)]
struct KWeighting {
    shelf: Biquad,
    high_pass: Biquad,
}

impl KWeighting {
    fn new(sample_rate: f64) -> Self {
        let tan = |hz: f64| (std::f64::consts::PI * hz.min(0.49 * sample_rate) / sample_rate).tan();
        let (k, q) = (tan(1_681.974_450_955_533), 0.707_175_236_955_419_6);
        let vh = 10f64.powf(3.999_843_853_973_347 / 20.0);
        let vb = vh.powf(0.499_666_774_154_541_6);
        let a0 = 1.0 + k / q + k * k;
        let shelf = Biquad::new(
            [
                (vh + vb * k / q + k * k) / a0,
                2.0 * (k * k - vh) / a0,
                (vh - vb * k / q + k * k) / a0,
            ],
            [2.0 * (k * k - 1.0) / a0, (1.0 - k / q + k * k) / a0],
        );
        let (k, q) = (tan(38.135_470_876_024_44), 0.500_327_037_323_877_3);
        let a0 = 1.0 + k / q + k * k;
        let high_pass = Biquad::new(
            [1.0, -2.0, 1.0],
            [2.0 * (k * k - 1.0) / a0, (1.0 - k / q + k * k) / a0],
        );
        Self { shelf, high_pass }
    }

    fn reset(&mut self) {
        self.shelf.state = [0.0; 2];
        self.high_pass.state = [0.0; 2];
    }

    #[inline]
    fn process(&mut self, x: f64) -> f64 {
        self.high_pass.process(self.shelf.process(x))
    }
}

/// Transposed direct form II.
#[derive(Clone, Copy)]
struct Biquad {
    b: [f64; 3],
    a: [f64; 2],
    state: [f64; 2],
}

impl Biquad {
    fn new(b: [f64; 3], a: [f64; 2]) -> Self {
        Self {
            b,
            a,
            state: [0.0; 2],
        }
    }

    #[inline]
    fn process(&mut self, x: f64) -> f64 {
        let y = self.b[0] * x + self.state[0];
        self.state[0] = self.b[1] * x - self.a[0] * y + self.state[1];
        self.state[1] = self.b[2] * x - self.a[1] * y;
        y
    }
}
