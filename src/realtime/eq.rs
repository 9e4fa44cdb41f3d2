// [audio] Blind tone matching: nudges the long-term spectrum towards what music looks like on average.
//!
//! The long-term spectrum in half octaves is compared with [`spectrum::music_density_db`]. No song is
//! average, so a deviation that songs show anyway is left alone and only what exceeds it is
//! corrected: within ±12 dB, with limited slope from band to band, slowly. A graphic equalizer of bells whose
//! interaction is undone by the inverse of its interaction matrix (Välimäki & Liski 2017) does the
//! filtering, so the stage has no latency.

pub mod biquad;
pub mod spectrum;

use super::stage::{MAX_CHANNELS, RAMP_SECONDS, Ramp, Stage};
use super::stft::{add_difference, clean};
use biquad::{Coefficients, State};
use spectrum::{LongTermSpectrum, music_density_db};

/// Centers of the half-octave bands in Hz.
pub const CENTERS_HZ: [f64; BANDS] = [
    44.2, 62.5, 88.4, 125.0, 176.8, 250.0, 353.6, 500.0, 707.1, 1000.0, 1414.2, 2000.0, 2828.4,
    4000.0, 5656.9, 8000.0, 11_313.7, 16_000.0,
];
/// Number of bands.
pub const BANDS: usize = 18;
/// Bandwidth of the bells: half an octave and a little overlap.
const BELL_Q: f64 = 2.4;
/// Largest correction, dB.
const MOST_DB: f64 = 12.0;
/// Deviation from the average that songs show anyway, dB (about one standard deviation of half-octave
/// levels among commercial recordings).
const NATURAL_DB: f64 = 3.0;
/// Steepest correction, dB from band to band.
const MOST_STEP_DB: f64 = 6.0;
/// A band this far below the average's shape holds nothing worth raising, dB.
const EMPTY_DB: f64 = 36.0;
/// Memory of the long-term spectrum in seconds.
const MEMORY_SECONDS: f64 = 20.0;
/// Sound needed before the first move, in seconds.
const FIRST_SECONDS: f64 = 1.5;
/// Fastest change of a band, dB a second.
const RATE_DB_PER_SECOND: f64 = 4.0;
/// Updates of the coefficients per second: one band each.
const UPDATES_PER_SECOND: f64 = 18.0 * 12.0;

/// Correction in dB for a long-term spectrum in dB per band; levels are relative, so the correction
/// leaves the loudness of the middle alone.
pub fn correction_db(measured_db: &[f64; BANDS]) -> [f64; BANDS] {
    let mut deviation: [f64; BANDS] =
        std::array::from_fn(|i| music_density_db(CENTERS_HZ[i]) - measured_db[i]);
    // The level of reference: bands from 250 Hz to 4 kHz, where every recording has its music; without the
    // two highest and lowest, so that a resonance does not move it.
    let mut middle: [f64; 9] = std::array::from_fn(|i| deviation[5 + i]);
    middle.sort_unstable_by(f64::total_cmp);
    let middle = middle[2..7].iter().sum::<f64>() / 5.0;
    for d in &mut deviation {
        *d -= middle;
    }
    let smooth: [f64; BANDS] = std::array::from_fn(|i| {
        let below = deviation[i.saturating_sub(1)];
        let above = deviation[(i + 1).min(BANDS - 1)];
        0.2 * below + 0.6 * deviation[i] + 0.2 * above
    });
    let mut correction = smooth.map(|d| {
        if d > EMPTY_DB {
            return 0.0;
        }
        let beyond = (d.abs() - NATURAL_DB).max(0.0);
        (beyond * d.signum()).clamp(-MOST_DB, MOST_DB)
    });
    for i in 10..BANDS {
        let low = correction[i - 1] - MOST_STEP_DB;
        correction[i] = correction[i].clamp(low, low + 2.0 * MOST_STEP_DB);
    }
    for i in (0..9).rev() {
        let low = correction[i + 1] - MOST_STEP_DB;
        correction[i] = correction[i].clamp(low, low + 2.0 * MOST_STEP_DB);
    }
    correction
}

/// A graphic equalizer in half octaves.
pub struct GraphicEq {
    sample_rate: f64,
    /// Command gains in dB for 1 dB in each band: the inverse interaction matrix.
    inverse: [[f64; BANDS]; BANDS],
    /// Bands below Nyquist.
    used: usize,
    gains_db: [f64; BANDS],
    coefficients: [Coefficients; BANDS],
    states: Vec<[State; BANDS]>,
}

impl GraphicEq {
    /// Flat, for `sample_rate` Hz.
    pub fn new(sample_rate: f64, channels: usize) -> Self {
        let used = CENTERS_HZ
            .iter()
            .take_while(|&&hz| hz < 0.45 * sample_rate)
            .count();
        let mut interaction = [[0.0; BANDS]; BANDS];
        const PROTOTYPE_DB: f64 = 6.0;
        for (j, &hz) in CENTERS_HZ.iter().enumerate() {
            let bell = Coefficients::bell(hz, BELL_Q, PROTOTYPE_DB, sample_rate);
            for (i, &at) in CENTERS_HZ.iter().enumerate() {
                interaction[i][j] = if i < used && j < used {
                    bell.gain_db(at, sample_rate) / PROTOTYPE_DB
                } else {
                    f64::from(u8::from(i == j))
                };
            }
        }
        Self {
            sample_rate,
            inverse: invert(interaction),
            used,
            gains_db: [0.0; BANDS],
            coefficients: [Coefficients::IDENTITY; BANDS],
            states: vec![[State::default(); BANDS]; channels.clamp(1, MAX_CHANNELS)],
        }
    }

    /// Whether every band is at 0 dB.
    pub fn is_flat(&self) -> bool {
        self.gains_db.iter().all(|&g| g == 0.0)
    }

    /// Gains wanted at the centers, dB; the bands' coefficients follow with [`update`](Self::update).
    pub fn gains_db_mut(&mut self) -> &mut [f64; BANDS] {
        &mut self.gains_db
    }

    /// Recomputes the coefficients of band `i`.
    pub fn update(&mut self, i: usize) {
        if i >= self.used {
            return;
        }
        let command: f64 = self.inverse[i]
            .iter()
            .zip(&self.gains_db)
            .take(self.used)
            .map(|(m, g)| m * g)
            .sum();
        self.coefficients[i] = if command == 0.0 {
            Coefficients::IDENTITY
        } else {
            let command = command.clamp(-24.0, 24.0);
            Coefficients::bell(CENTERS_HZ[i], BELL_Q, command, self.sample_rate)
        };
    }

    /// Gain in dB at `hz` with the present coefficients.
    pub fn gain_db(&self, hz: f64) -> f64 {
        self.coefficients
            .iter()
            .take(self.used)
            .map(|c| c.gain_db(hz, self.sample_rate))
            .sum()
    }

    /// Filters a sample of channel `channel`.
    #[inline]
    pub fn run(&mut self, channel: usize, x: f32) -> f32 {
        let Some(states) = self.states.get_mut(channel) else {
            return x;
        };
        let mut y = f64::from(x);
        for (state, c) in states.iter_mut().zip(&self.coefficients).take(self.used) {
            y = state.run(c, y);
        }
        y as f32
    }

    /// Flat and silent.
    pub fn reset(&mut self) {
        self.gains_db = [0.0; BANDS];
        self.coefficients = [Coefficients::IDENTITY; BANDS];
        self.states.fill([State::default(); BANDS]);
    }
}

/// Gauss–Jordan with partial pivoting; the matrix is diagonally dominant.
fn invert(mut m: [[f64; BANDS]; BANDS]) -> [[f64; BANDS]; BANDS] {
    let mut inverse: [[f64; BANDS]; BANDS] =
        std::array::from_fn(|i| std::array::from_fn(|j| f64::from(u8::from(i == j))));
    for column in 0..BANDS {
        let pivot = (column..BANDS)
            .max_by(|&a, &b| m[a][column].abs().total_cmp(&m[b][column].abs()))
            .unwrap_or(column);
        m.swap(column, pivot);
        inverse.swap(column, pivot);
        let scale = 1.0 / m[column][column];
        m[column] = m[column].map(|x| x * scale);
        inverse[column] = inverse[column].map(|x| x * scale);
        for row in 0..BANDS {
            if row == column {
                continue;
            }
            let factor = m[row][column];
            for k in 0..BANDS {
                m[row][k] -= factor * m[column][k];
                inverse[row][k] -= factor * inverse[column][k];
            }
        }
    }
    inverse
}

/// The tone matcher. Latency 0.
pub struct EqMatcher {
    spectrum: LongTermSpectrum,
    eq: GraphicEq,
    intensity: Ramp,
    target_db: [f64; BANDS],
    first_frames: u32,
    /// Samples between updates, and until the next.
    interval: usize,
    until_update: usize,
    band: usize,
    step_db: f64,
}

impl EqMatcher {
    /// For `sample_rate` Hz and 1..=2 channels.
    pub fn live(sample_rate: f64, channels: usize) -> Self {
        let frame = super::stft::frame_length(sample_rate);
        let spectrum = LongTermSpectrum::new(sample_rate, &CENTERS_HZ, MEMORY_SECONDS, frame);
        let interval = ((sample_rate / UPDATES_PER_SECOND) as usize).max(1);
        Self {
            first_frames: ((FIRST_SECONDS * sample_rate / spectrum.frame_samples() as f64) as u32)
                .max(2),
            spectrum,
            eq: GraphicEq::new(sample_rate, channels),
            intensity: Ramp::new(1.0, RAMP_SECONDS, sample_rate),
            target_db: [0.0; BANDS],
            interval,
            until_update: interval,
            band: 0,
            step_db: RATE_DB_PER_SECOND * BANDS as f64 / UPDATES_PER_SECOND,
        }
    }

    /// For offline work: applies the correction for a whole take's spectrum (dB per band) from the first
    /// sample on and learns no more.
    pub fn learned(measured_db: &[f64; BANDS], sample_rate: f64, channels: usize) -> Self {
        let mut stage = Self::live(sample_rate, channels);
        stage.first_frames = u32::MAX;
        stage.target_db = correction_db(measured_db);
        *stage.eq.gains_db_mut() = stage.target_db;
        for band in 0..BANDS {
            stage.eq.update(band);
        }
        stage
    }

    /// The correction under way, dB at [`CENTERS_HZ`].
    pub fn target_db(&self) -> [f64; BANDS] {
        self.target_db
    }

    fn update(&mut self) {
        let i = self.band;
        self.band = (self.band + 1) % BANDS;
        let gain = &mut self.eq.gains_db_mut()[i];
        let way = self.target_db[i] - *gain;
        *gain += way.clamp(-self.step_db, self.step_db);
        self.eq.update(i);
    }
}

impl Stage for EqMatcher {
    fn latency(&self) -> usize {
        0
    }

    fn reset(&mut self) {
        self.spectrum.reset();
        self.eq.reset();
        self.intensity.settle();
        self.target_db = [0.0; BANDS];
        self.until_update = self.interval;
        self.band = 0;
    }

    fn set_intensity(&mut self, intensity: f32) {
        self.intensity.set_target(intensity.clamp(0.0, 1.0));
    }

    fn process(&mut self, channels: &mut [&mut [f32]]) {
        let length = channels.iter().map(|c| c.len()).min().unwrap_or(0);
        for n in 0..length {
            let left = channels.first().map_or(0.0, |c| c[n]);
            let right = channels.get(1).map_or(0.0, |c| c[n]);
            if self.spectrum.push(left, right) && self.spectrum.frames() >= self.first_frames {
                self.target_db = correction_db(&std::array::from_fn(|i| self.spectrum.db(i)));
            }
            self.until_update -= 1;
            if self.until_update == 0 {
                self.until_update = self.interval;
                self.update();
            }
            let amount = self.intensity.next();
            for (c, channel) in channels.iter_mut().enumerate() {
                let x = channel[n];
                let input = clean(x);
                let y = self.eq.run(c, input);
                channel[n] = add_difference(x, (y - input) * amount);
            }
        }
    }
}
