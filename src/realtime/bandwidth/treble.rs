// [audio] Highs: finds the low-pass in the long-term spectrum, undoes what is left of it, fills the rest.
//!
//! Up to `MOST_DB` the weakened highs themselves are raised by the inverse of the low-pass (poles moved
//! up, the mirror image of a Linkwitz transform): they carry the true fine structure. Bands that are
//! still empty, as after a codec, get a copy of the octave 4–8 kHz, moved up by ring modulation and
//! set to the level that music of this brightness has on average: spectral band replication
//! (Dietz et al. 2002) without side information.

use super::super::{
    eq::{
        biquad::{Coefficients, State},
        spectrum::{LongTermSpectrum, music_density_db},
    },
    stage::{MAX_CHANNELS, RAMP_SECONDS, Ramp, Stage},
    stft::{add_difference, clean, frame_length},
};

/// Reference bands in Hz, then highs.
const REFERENCE_HZ: [f64; REFERENCES] = [2520.0, 3175.0, 4000.0, 5040.0, 6350.0];
const REFERENCES: usize = 5;
const HIGHS_HZ: [f64; HIGHS] = [8000.0, 10_000.0, 12_000.0, 14_000.0, 16_000.0, 18_000.0];
const HIGHS: usize = 6;
/// Loss at 14–18 kHz below which the highs count as present, dB: dull songs reach 10.
const PRESENT_DB: f64 = 13.0;
const RELEASED_DB: f64 = 10.0;
/// The fit may miss the measured loss by this much (root mean square, dB).
const MOST_MISFIT_DB: f64 = 6.0;
/// Largest boost of what is there, dB, and the share of the fitted loss that is given back.
const MOST_DB: f64 = 24.0;
const SHARE: f64 = 0.9;
/// A band this far below average after the boost counts as empty, dB.
const EMPTY_DB: f64 = 10.0;
/// Fill stays this far below the average level, dB: too much highs is worse than too little.
const FILL_BELOW_DB: f64 = 4.0;
const MEMORY_SECONDS: f64 = 20.0;
const FIRST_SECONDS: f64 = 1.5;
const FADE_SECONDS: f64 = 0.3;
/// The replicated octave's lower edge, Hz; copies lie one, two and three times this higher.
const SOURCE_HZ: f64 = 4000.0;
/// Number of copies: 8–12, 12–16, 16–20 kHz.
const COPIES: usize = 3;
/// Below this rate there is no room for highs, Hz.
const LEAST_RATE: f64 = 40_000.0;
const SECTIONS: usize = 3;

/// The low-pass found in a spectrum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LowPass {
    /// Corner, Hz.
    pub hz: f64,
    /// Butterworth order: 2, 4 or 6.
    pub order: u8,
}

impl LowPass {
    /// Loss in dB at `at` Hz, a positive number, of the filter as a bilinear transform makes it for
    /// `sample_rate`: phones filter digitally, and [`inverse`] has to be its mirror image up to Nyquist.
    pub fn loss_db(&self, at: f64, sample_rate: f64) -> f64 {
        let ratio = warp(at, sample_rate) / warp(self.hz, sample_rate);
        butterworth_loss_db(ratio, self.order)
    }
}

/// Loss of a Butterworth low-pass at `ratio` times its corner, dB.
fn butterworth_loss_db(ratio: f64, order: u8) -> f64 {
    10.0 * (1.0 + ratio.powi(2 * i32::from(order))).log10()
}

/// Analog frequency of `hz` under the bilinear transform; the same beyond 0.48 of the rate.
fn warp(hz: f64, sample_rate: f64) -> f64 {
    (std::f64::consts::PI * (hz / sample_rate).min(0.48)).tan()
}

/// Centers for a [`LongTermSpectrum`] that [`HighSpectrum::read`] understands.
pub fn centers_hz() -> [f64; REFERENCES + HIGHS] {
    std::array::from_fn(|i| {
        if i < REFERENCES {
            REFERENCE_HZ[i]
        } else {
            HIGHS_HZ[i - REFERENCES]
        }
    })
}

/// How much lower than in average music of the same presence each high band is, dB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HighSpectrum {
    pub missing_db: [f64; HIGHS],
    /// Level of the reference against the average's shape, dB.
    pub reference: f64,
    /// Hz.
    pub sample_rate: f64,
}

impl HighSpectrum {
    /// Reads a spectrum over [`centers_hz`].
    pub fn read(spectrum: &LongTermSpectrum, sample_rate: f64) -> Self {
        let reference = REFERENCE_HZ
            .iter()
            .enumerate()
            .map(|(i, &hz)| spectrum.db(i) - music_density_db(hz))
            .sum::<f64>()
            / REFERENCES as f64;
        Self {
            missing_db: std::array::from_fn(|i| {
                music_density_db(HIGHS_HZ[i]) + reference - spectrum.db(REFERENCES + i)
            }),
            reference,
            sample_rate,
        }
    }

    /// Mean of what is missing at 14–18 kHz, dB.
    pub fn loss_db(&self) -> f64 {
        self.missing_db[3..].iter().sum::<f64>() / 3.0
    }

    /// The low-pass that explains what is missing best, if one does.
    pub fn low_pass(&self, least_db: f64) -> Option<LowPass> {
        if self.loss_db() < least_db {
            return None;
        }
        // What is gone is gone: beyond 40 dB the amount says nothing about the filter.
        let missing = self.missing_db.map(|m| m.min(40.0));
        let warped = HIGHS_HZ.map(|at| warp(at, self.sample_rate));
        let mut best: Option<(f64, LowPass)> = None;
        for step in 0..40 {
            let hz = 5000.0 * 2f64.powf(f64::from(step) * 1.75 / 39.0);
            let corner = warp(hz, self.sample_rate);
            for order in [2, 4, 6] {
                let residual: [f64; HIGHS] = std::array::from_fn(|i| {
                    missing[i] - butterworth_loss_db(warped[i] / corner, order).min(40.0)
                });
                let mean = residual.iter().sum::<f64>() / HIGHS as f64;
                let offset = mean.clamp(-4.0, 4.0);
                let squares: f64 = residual.iter().map(|r| (r - offset).powi(2)).sum();
                let misfit = (squares / HIGHS as f64).sqrt();
                if best.is_none_or(|(least, _)| misfit < least) {
                    best = Some((misfit, LowPass { hz, order }));
                }
            }
        }
        best.filter(|(misfit, _)| *misfit < MOST_MISFIT_DB)
            .map(|(_, found)| found)
    }
}

/// Sections that raise what `low_pass` lowered, by at most `MOST_DB` at 18 kHz.
pub fn inverse(low_pass: LowPass, sample_rate: f64) -> [Coefficients; SECTIONS] {
    let order = f64::from(low_pass.order);
    let boost = (low_pass.loss_db(18_000.0, sample_rate) * SHARE).min(MOST_DB);
    let w0 = warp(low_pass.hz, sample_rate);
    let w1 = w0 * 10f64.powf(boost / (20.0 * order));
    let mut sections = [Coefficients::IDENTITY; SECTIONS];
    let pairs = usize::from(low_pass.order) / 2;
    for (i, section) in sections.iter_mut().enumerate().take(pairs) {
        // Butterworth pole pairs.
        let angle = std::f64::consts::PI * (2 * i + 1) as f64 / (2.0 * order);
        let q = 0.5 / angle.cos().max(1e-3);
        let polynomial = |w: f64| {
            [
                1.0 + w / q + w * w,
                2.0 * (w * w - 1.0),
                1.0 - w / q + w * w,
            ]
        };
        let (b, a) = (polynomial(w0), polynomial(w1));
        let unity = (w1 / w0).powi(2);
        *section = Coefficients {
            b: b.map(|x| x * unity / a[0]),
            a: [a[1] / a[0], a[2] / a[0]],
        };
    }
    sections
}

/// A rotating phasor, renormalized every turn of the sample clock.
#[derive(Clone, Copy, Debug)]
struct Phasor {
    value: (f64, f64),
    step: (f64, f64),
}

impl Phasor {
    fn new(hz: f64, sample_rate: f64) -> Self {
        let w = 2.0 * std::f64::consts::PI * hz / sample_rate;
        Self {
            value: (1.0, 0.0),
            step: (w.cos(), w.sin()),
        }
    }

    #[inline]
    fn next(&mut self) -> f64 {
        let (a, b) = self.value;
        let (c, s) = self.step;
        let (re, im) = (a * c - b * s, a * s + b * c);
        // One Newton step towards unit length.
        let k = 1.5 - 0.5 * (re * re + im * im);
        self.value = (re * k, im * k);
        re
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    raise: [State; SECTIONS],
    source: [State; 4],
    copies: [[State; 4]; COPIES],
}

/// Raises or refills highs. Latency 0.
pub struct TrebleRestorer {
    sample_rate: f64,
    spectrum: LongTermSpectrum,
    first_frames: u32,
    found: Option<LowPass>,
    raise: [Coefficients; SECTIONS],
    source: [Coefficients; 4],
    copies: [[Coefficients; 4]; COPIES],
    carriers: [Phasor; COPIES],
    gains: [Ramp; COPIES],
    lanes: Vec<Lane>,
    intensity: Ramp,
    fade: Ramp,
}

impl TrebleRestorer {
    /// For `sample_rate` Hz and 1..=2 channels. Below 40 kHz it does nothing.
    pub fn live(sample_rate: f64, channels: usize) -> Self {
        let phase = 3 * frame_length(sample_rate);
        let spectrum = LongTermSpectrum::new(sample_rate, &centers_hz(), MEMORY_SECONDS, phase);
        // Fourth-order Butterworth edges.
        let (q0, q1) = (0.541_196, 1.306_563);
        let high = |hz: f64, q: f64| Coefficients::high_pass(hz, q, sample_rate);
        let low = |hz: f64, q: f64| Coefficients::low_pass(hz, q, sample_rate);
        Self {
            sample_rate,
            first_frames: ((FIRST_SECONDS * sample_rate / spectrum.frame_samples() as f64) as u32)
                .max(2),
            spectrum,
            found: None,
            raise: [Coefficients::IDENTITY; SECTIONS],
            source: [
                high(SOURCE_HZ, q0),
                high(SOURCE_HZ, q1),
                low(2.0 * SOURCE_HZ, q0),
                low(2.0 * SOURCE_HZ, q1),
            ],
            copies: std::array::from_fn(|i| {
                let from = SOURCE_HZ * (i + 2) as f64;
                let to = (from + SOURCE_HZ).min(0.46 * sample_rate);
                [high(from, q0), high(from, q1), low(to, q0), low(to, q1)]
            }),
            carriers: std::array::from_fn(|i| Phasor::new(SOURCE_HZ * (i + 1) as f64, sample_rate)),
            gains: [Ramp::new(0.0, FADE_SECONDS, sample_rate); COPIES],
            lanes: vec![Lane::default(); channels.clamp(1, MAX_CHANNELS)],
            intensity: Ramp::new(1.0, RAMP_SECONDS, sample_rate),
            fade: Ramp::new(0.0, FADE_SECONDS, sample_rate),
        }
    }

    /// For offline work: acts on a whole take's spectrum from the first sample on and learns no more.
    pub fn learned(highs: HighSpectrum, channels: usize) -> Self {
        let mut stage = Self::live(highs.sample_rate, channels);
        stage.first_frames = u32::MAX;
        if highs.sample_rate >= LEAST_RATE {
            stage.follow(highs, PRESENT_DB);
        }
        stage.fade.settle();
        for gain in &mut stage.gains {
            gain.settle();
        }
        stage
    }

    /// The low-pass being undone.
    pub fn found(&self) -> Option<LowPass> {
        self.found
    }

    fn judge(&mut self) {
        if self.spectrum.frames() < self.first_frames || self.sample_rate < LEAST_RATE {
            return;
        }
        let least = if self.found.is_some() {
            RELEASED_DB
        } else {
            PRESENT_DB
        };
        let highs = HighSpectrum::read(&self.spectrum, self.sample_rate);
        self.follow(highs, least);
    }

    fn follow(&mut self, highs: HighSpectrum, least: f64) {
        let Some(new) = highs.low_pass(least) else {
            self.fade.set_target(0.0);
            return;
        };
        let next = match self.found {
            Some(old) if self.fade.target() > 0.0 => LowPass {
                hz: old.hz * (new.hz / old.hz).clamp(0.97, 1.03),
                order: old.order,
            },
            _ => new,
        };
        self.found = Some(next);
        self.raise = inverse(next, self.sample_rate);
        self.fade.set_target(1.0);
        // Level of the octave that is copied, against the average's shape.
        let source = highs.reference + music_density_db(1.4 * SOURCE_HZ);
        for (i, gain) in self.gains.iter_mut().enumerate() {
            let center = SOURCE_HZ * (i as f64 + 2.5);
            // HIGHS_HZ[1], [3] and [5] are the copies' centers.
            let left: f64 = self
                .raise
                .iter()
                .map(|c| c.gain_db(center, self.sample_rate))
                .sum();
            let missing = highs.missing_db[2 * i + 1] - left;
            let target = if missing > EMPTY_DB {
                let level = highs.reference + music_density_db(center) - FILL_BELOW_DB;
                10f64.powf((level - source) / 20.0) as f32
            } else {
                0.0
            };
            gain.set_target(target);
        }
    }

    fn clear_lanes(&mut self) {
        self.lanes.fill(Lane::default());
        for gain in &mut self.gains {
            gain.set_target(0.0);
            gain.settle();
        }
    }
}

impl Stage for TrebleRestorer {
    fn latency(&self) -> usize {
        0
    }

    fn reset(&mut self) {
        self.spectrum.reset();
        self.found = None;
        self.raise = [Coefficients::IDENTITY; SECTIONS];
        for carrier in &mut self.carriers {
            carrier.value = (1.0, 0.0);
        }
        self.clear_lanes();
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
                    self.clear_lanes();
                }
                for channel in channels.iter_mut() {
                    channel[n] = add_difference(channel[n], 0.0);
                }
                continue;
            }
            let mut carriers = [0.0; COPIES];
            for ((value, carrier), gain) in carriers
                .iter_mut()
                .zip(&mut self.carriers)
                .zip(&mut self.gains)
            {
                *value = 2.0 * carrier.next() * f64::from(gain.next());
            }
            for (lane, channel) in self.lanes.iter_mut().zip(channels.iter_mut()) {
                let x = channel[n];
                let input = f64::from(clean(x));
                let mut y = input;
                for (state, c) in lane.raise.iter_mut().zip(&self.raise) {
                    y = state.run(c, y);
                }
                let mut octave = input;
                for (state, c) in lane.source.iter_mut().zip(&self.source) {
                    octave = state.run(c, octave);
                }
                for ((states, coefficients), carrier) in
                    lane.copies.iter_mut().zip(&self.copies).zip(&carriers)
                {
                    let mut copy = octave * carrier;
                    for (state, c) in states.iter_mut().zip(coefficients) {
                        copy = state.run(c, copy);
                    }
                    y += copy;
                }
                channel[n] = add_difference(x, (y - input) as f32 * amount);
            }
        }
    }
}
