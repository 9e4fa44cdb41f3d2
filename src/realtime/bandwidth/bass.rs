// [audio] Lows: finds the microphone's high-pass in the long-term spectrum and undoes it.
//!
//! What a phone's high-pass leaves of the lows is weak but true: raised by the inverse of the filter they
//! are the bass guitar's own fundamentals in their own phase, which no synthesis can match. The
//! inverse is a Linkwitz transform (S. Linkwitz 1978): zeros where the high-pass has its poles, poles moved
//! down to the lowest frequency worth having.
//! Lows that are gone altogether stay gone here.

use super::super::{
    eq::{
        biquad::{Coefficients, State},
        spectrum::{LongTermSpectrum, music_density_db},
    },
    stage::{MAX_CHANNELS, RAMP_SECONDS, Ramp, Stage},
    stft::{add_difference, clean, frame_length},
};

/// Bands of the fit in Hz: lows, then the reference that no microphone loses.
const LOWS_HZ: [f64; LOWS] = [50.0, 63.0, 80.0, 100.0, 126.0, 159.0, 200.0, 252.0];
const LOWS: usize = 8;
const REFERENCE_HZ: [f64; 6] = [318.0, 400.0, 504.0, 635.0, 800.0, 1008.0];
/// Loss at 50–100 Hz below which the lows count as present, dB: songs differ by that much.
const PRESENT_DB: f64 = 10.0;
/// A filter that is engaged stays until the loss falls below this, dB.
const RELEASED_DB: f64 = 7.0;
/// The fit may miss the measured loss by this much (root mean square, dB).
const MOST_MISFIT_DB: f64 = 5.0;
/// Lowest frequency restored, Hz, and largest boost, dB.
const LOWEST_HZ: f64 = 38.0;
const MOST_DB: f64 = 24.0;
/// Share of the fitted loss that is given back: the fit is an estimate, too much booms.
const SHARE: f64 = 0.85;
const MEMORY_SECONDS: f64 = 20.0;
const FIRST_SECONDS: f64 = 1.5;
/// Time constants of the boost's fade, seconds, and steps of its filter, samples.
const FADE_SECONDS: f64 = 0.3;

/// The high-pass found in a spectrum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HighPass {
    /// Corner, Hz.
    pub hz: f64,
    /// Butterworth order, 2 or 3.
    pub order: u8,
}

impl HighPass {
    /// Loss in dB at `at` Hz, a positive number.
    pub fn loss_db(&self, at: f64) -> f64 {
        10.0 * (1.0 + (self.hz / at).powi(2 * i32::from(self.order))).log10()
    }
}

/// Density of the lows and of the reference in dB, bands as documented at their constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LowSpectrum {
    pub lows: [f64; LOWS],
    pub reference: f64,
}

/// Centers for a [`LongTermSpectrum`] that [`LowSpectrum::read`] understands.
pub fn centers_hz() -> [f64; LOWS + 6] {
    std::array::from_fn(|i| {
        if i < LOWS {
            LOWS_HZ[i]
        } else {
            REFERENCE_HZ[i - LOWS]
        }
    })
}

impl LowSpectrum {
    /// Reads a spectrum over [`centers_hz`].
    pub fn read(spectrum: &LongTermSpectrum) -> Self {
        let reference = REFERENCE_HZ
            .iter()
            .enumerate()
            .map(|(i, &hz)| spectrum.db(LOWS + i) - music_density_db(hz))
            .sum::<f64>()
            / REFERENCE_HZ.len() as f64;
        Self {
            lows: std::array::from_fn(|i| spectrum.db(i)),
            reference,
        }
    }

    /// How much lower than in average music each low band is, dB.
    pub fn missing_db(&self) -> [f64; LOWS] {
        std::array::from_fn(|i| music_density_db(LOWS_HZ[i]) + self.reference - self.lows[i])
    }

    /// Mean of what is missing at 50–100 Hz, dB.
    pub fn loss_db(&self) -> f64 {
        self.missing_db()[..4].iter().sum::<f64>() / 4.0
    }

    /// The high-pass that explains what is missing best, if one does: the loss has to grow towards the
    /// lows as a filter's does, which a song without bass (flat loss, then nothing) does not show.
    pub fn high_pass(&self, least_db: f64) -> Option<HighPass> {
        let missing = self.missing_db();
        if self.loss_db() < least_db {
            return None;
        }
        let mut best: Option<(f64, HighPass)> = None;
        for order in [2, 3] {
            for step in 0..40 {
                let hz = 70.0 * 2f64.powf(f64::from(step) * 2.2 / 39.0);
                let candidate = HighPass { hz, order };
                // Leave the song an offset of its own: bass-shy or bass-heavy by up to 4 dB.
                let mean = (0..LOWS)
                    .map(|i| missing[i] - candidate.loss_db(LOWS_HZ[i]))
                    .sum::<f64>()
                    / LOWS as f64;
                let offset = mean.clamp(-4.0, 4.0);
                let misfit = ((0..LOWS)
                    .map(|i| (missing[i] - candidate.loss_db(LOWS_HZ[i]) - offset).powi(2))
                    .sum::<f64>()
                    / LOWS as f64)
                    .sqrt();
                if best.is_none_or(|(least, _)| misfit < least) {
                    best = Some((misfit, candidate));
                }
            }
        }
        best.filter(|(misfit, _)| *misfit < MOST_MISFIT_DB)
            .map(|(_, found)| found)
    }
}

/// Linkwitz sections that raise what `high_pass` lowered, down to `LOWEST_HZ` and by at most
/// `MOST_DB`.
pub fn inverse(high_pass: HighPass, sample_rate: f64) -> [Coefficients; 2] {
    let order = f64::from(high_pass.order);
    let from = high_pass.hz.max(LOWEST_HZ);
    // The boost at DC is 20·order·log10(from / to); SHARE shrinks it in dB.
    let wanted = (20.0 * order * (from / LOWEST_HZ).log10() * SHARE).min(MOST_DB);
    let to = from / 10f64.powf(wanted / (20.0 * order));
    // Butterworth: order 2 has Q = 1/√2; order 3 has Q = 1 and a first-order section.
    let q = if high_pass.order == 2 {
        0.5f64.sqrt()
    } else {
        1.0
    };
    let second = move_poles(from, to, q, sample_rate);
    let first = if high_pass.order == 3 {
        move_pole(from, to, sample_rate)
    } else {
        Coefficients::IDENTITY
    };
    [second, first]
}

/// (s² + ω₀/Q s + ω₀²) / (s² + ω₁/Q s + ω₁²) by the bilinear transform with both ends prewarped.
fn move_poles(from: f64, to: f64, q: f64, sample_rate: f64) -> Coefficients {
    let warp = |hz: f64| (std::f64::consts::PI * hz / sample_rate).tan();
    let polynomial = |w: f64| {
        [
            1.0 + w / q + w * w,
            2.0 * (w * w - 1.0),
            1.0 - w / q + w * w,
        ]
    };
    let (b, a) = (polynomial(warp(from)), polynomial(warp(to)));
    Coefficients {
        b: b.map(|x| x / a[0]),
        a: [a[1] / a[0], a[2] / a[0]],
    }
}

/// (s + ω₀) / (s + ω₁), likewise.
fn move_pole(from: f64, to: f64, sample_rate: f64) -> Coefficients {
    let warp = |hz: f64| (std::f64::consts::PI * hz / sample_rate).tan();
    let (b, a) = (warp(from), warp(to));
    Coefficients {
        b: [(1.0 + b) / (1.0 + a), (b - 1.0) / (1.0 + a), 0.0],
        a: [(a - 1.0) / (1.0 + a), 0.0],
    }
}

/// One channel's inverse filter.
#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    states: [State; 2],
}

/// Raises lows that a microphone lowered. Latency 0.
pub struct BassRestorer {
    sample_rate: f64,
    spectrum: LongTermSpectrum,
    first_frames: u32,
    found: Option<HighPass>,
    coefficients: [Coefficients; 2],
    lanes: Vec<Lane>,
    intensity: Ramp,
    fade: Ramp,
}

impl BassRestorer {
    /// For `sample_rate` Hz and 1..=2 channels.
    pub fn live(sample_rate: f64, channels: usize) -> Self {
        let phase = 2 * frame_length(sample_rate);
        let spectrum = LongTermSpectrum::new(sample_rate, &centers_hz(), MEMORY_SECONDS, phase);
        Self {
            sample_rate,
            first_frames: ((FIRST_SECONDS * sample_rate / spectrum.frame_samples() as f64) as u32)
                .max(2),
            spectrum,
            found: None,
            coefficients: [Coefficients::IDENTITY; 2],
            lanes: vec![Lane::default(); channels.clamp(1, MAX_CHANNELS)],
            intensity: Ramp::new(1.0, RAMP_SECONDS, sample_rate),
            fade: Ramp::new(0.0, FADE_SECONDS, sample_rate),
        }
    }

    /// For offline work: acts on a whole take's spectrum from the first sample on and learns no more.
    pub fn learned(lows: LowSpectrum, sample_rate: f64, channels: usize) -> Self {
        let mut stage = Self::live(sample_rate, channels);
        stage.first_frames = u32::MAX;
        stage.follow(lows);
        stage.fade.settle();
        stage
    }

    /// The high-pass being undone.
    pub fn found(&self) -> Option<HighPass> {
        self.found
    }

    fn judge(&mut self) {
        if self.spectrum.frames() >= self.first_frames {
            self.follow(LowSpectrum::read(&self.spectrum));
        }
    }

    fn follow(&mut self, lows: LowSpectrum) {
        let least = if self.found.is_some() {
            RELEASED_DB
        } else {
            PRESENT_DB
        };
        let seen = lows.high_pass(least);
        match seen {
            None => self.fade.set_target(0.0),
            Some(new) => {
                // Follow slowly and only real changes: every move of the filter is heard.
                let hz = match self.found {
                    Some(old) if self.fade.target() > 0.0 => {
                        old.hz * (new.hz / old.hz).clamp(0.97, 1.03)
                    }
                    _ => new.hz,
                };
                let order = match self.found {
                    Some(old) if self.fade.target() > 0.0 => old.order,
                    _ => new.order,
                };
                let next = HighPass { hz, order };
                self.found = Some(next);
                self.coefficients = inverse(next, self.sample_rate);
                self.fade.set_target(1.0);
            }
        }
    }
}

impl Stage for BassRestorer {
    fn latency(&self) -> usize {
        0
    }

    fn reset(&mut self) {
        self.spectrum.reset();
        self.found = None;
        self.coefficients = [Coefficients::IDENTITY; 2];
        self.lanes.fill(Lane::default());
        self.intensity.settle();
        self.fade.set_target(0.0);
        self.fade.settle();
    }

    fn set_intensity(&mut self, intensity: f32) {
        self.intensity.set_target(intensity.clamp(0.0, 1.0));
    }

    fn process(&mut self, channels: &mut [&mut [f32]]) {
        let length = channels.iter().map(|c| c.len()).min().unwrap_or(0);
        for n in 0..length {
            let left = channels.first().map_or(0.0, |c| c[n]);
            let right = channels.get(1).map_or(0.0, |c| c[n]);
            if self.spectrum.push(left, right) {
                self.judge();
            }
            let fade = self.fade.next();
            let amount = self.intensity.next() * fade;
            if fade == 0.0 && self.fade.target() == 0.0 {
                if self.found.take().is_some() {
                    self.lanes.fill(Lane::default());
                }
                for channel in channels.iter_mut() {
                    channel[n] = add_difference(channel[n], 0.0);
                }
                continue;
            }
            for (lane, channel) in self.lanes.iter_mut().zip(channels.iter_mut()) {
                let x = channel[n];
                let input = f64::from(clean(x));
                let mut y = input;
                for (state, c) in lane.states.iter_mut().zip(&self.coefficients) {
                    y = state.run(c, y);
                }
                channel[n] = add_difference(x, (y - input) as f32 * amount);
            }
        }
    }
}
