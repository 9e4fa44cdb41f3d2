// [audio] Lows: finds the microphone's high-pass in the long-term spectrum and undoes it.
//!
//! What a phone's high-pass leaves of the lows is weak but true: raised by the inverse of the filter they
//! are the bass guitar's own fundamentals in their own phase, which no synthesis can match. The
//! inverse is a Linkwitz transform (S. Linkwitz 1978): zeros where the high-pass has its poles, poles moved
//! down to the lowest frequency worth having.
//! Lows that are gone altogether stay gone here. Lows alone tell a filter from an introduction without bass only
//! after a while; where the highs went through a low-pass, too, it was a microphone, and that is soon clear.

use super::{
    super::{
        eq::{
            biquad::{Coefficients, State},
            spectrum::{LongTermSpectrum, music_density_db},
        },
        stage::{MAX_CHANNELS, RAMP_SECONDS, Ramp, Stage},
        stft::{add_difference, clean, frame_length},
    },
    filter::{Butterworth, FilterSearch, Spread, filters},
    treble,
};

/// Bands in Hz: lows; the reference that no microphone loses; two that only bound their neighbours; highs.
const LOWS_HZ: [f64; LOWS] = [50.0, 63.0, 80.0, 100.0, 126.0, 159.0, 200.0, 252.0];
const LOWS: usize = 8;
const REFERENCE_HZ: [f64; REFERENCES] = [318.0, 400.0, 504.0, 635.0, 800.0, 1008.0];
const REFERENCES: usize = 6;
const BETWEEN_HZ: [f64; BETWEEN] = [1270.0, 4490.0];
const BETWEEN: usize = 2;
const BANDS: usize = LOWS + REFERENCES + BETWEEN + treble::HIGHS;
/// How the lows of songs stray from the average.
const SPREAD: Spread = Spread {
    level: 5.0,
    tilt: 4.0,
    bend: 2.0,
    octaves: 0.5,
    error: 1.5,
    most: 50.0,
};
/// Logarithm of the odds for a high-pass from which it is undone: where the lows alone speak for it, and where
/// the highs' odds for a low-pass are above `MICROPHONE`. One that is undone stays until its odds are `RELEASED`
/// lower than that and the highs' are half.
const ALONE: f64 = 9.0;
const TOGETHER: f64 = 0.0;
const MICROPHONE: f64 = 12.0;
const RELEASED: f64 = 6.0;
/// Lowest frequency restored, Hz, and largest boost, dB.
const LOWEST_HZ: f64 = 32.0;
const MOST_DB: f64 = 32.0;
const MEMORY_SECONDS: f64 = 20.0;
/// Time after which both ends of the spectrum, and the lows alone, are judged.
const FIRST_SECONDS: f64 = 0.35;
const ALONE_SECONDS: f64 = 1.5;
/// Time of the boost's fade.
const FADE_SECONDS: f64 = 0.15;

/// Loss of a high-pass in dB, a positive number, at `at` Hz.
pub fn loss_db(high_pass: Butterworth, at: f64) -> f64 {
    10.0 * (1.0 + (high_pass.hz / at).powi(2 * i32::from(high_pass.order))).log10()
}

/// What the bands of a spectrum lack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LowSpectrum {
    /// How much lower than in average music of the same middle each low band is, dB.
    pub missing_db: [f64; LOWS],
    /// The same of the highs; `None` where the sample rate has no room for them.
    pub highs: Option<[f64; treble::HIGHS]>,
    /// Frames that were averaged.
    pub frames: u32,
}

/// Centers for a [`LongTermSpectrum`] that [`LowSpectrum::read`] understands.
pub fn centers_hz() -> [f64; BANDS] {
    let mut centers = [0.0; BANDS];
    let all = LOWS_HZ
        .into_iter()
        .chain(REFERENCE_HZ)
        .chain(BETWEEN_HZ)
        .chain(treble::highs_hz());
    for (slot, hz) in centers.iter_mut().zip(all) {
        *slot = hz;
    }
    centers
}

impl LowSpectrum {
    /// Reads a spectrum over [`centers_hz`] at `sample_rate` Hz.
    pub fn read(spectrum: &LongTermSpectrum, sample_rate: f64) -> Self {
        let reference = REFERENCE_HZ
            .iter()
            .enumerate()
            .map(|(i, &hz)| spectrum.db(LOWS + i) - music_density_db(hz))
            .sum::<f64>()
            / REFERENCES as f64;
        let missing_db =
            std::array::from_fn(|i| music_density_db(LOWS_HZ[i]) + reference - spectrum.db(i));
        let first = LOWS + REFERENCES + BETWEEN;
        Self {
            missing_db,
            highs: (sample_rate >= treble::LEAST_RATE)
                .then(|| treble::missing_db(|i| spectrum.db(first + i))),
            frames: spectrum.frames(),
        }
    }
}

/// Linkwitz sections that raise what `high_pass` lowered, down to `LOWEST_HZ` and by at most
/// `MOST_DB`.
pub fn inverse(high_pass: Butterworth, sample_rate: f64) -> [Coefficients; 2] {
    let order = f64::from(high_pass.order);
    let from = high_pass.hz.max(LOWEST_HZ);
    // The boost at DC is 20·order·log10(from / to).
    let wanted = (20.0 * order * (from / LOWEST_HZ).log10()).min(MOST_DB);
    let to = from / 10f64.powf(wanted / (20.0 * order));
    // Butterworth: order 3 has a pair with Q = 1 and a first-order section.
    match high_pass.order {
        2 => [
            move_poles(from, to, 0.5f64.sqrt(), sample_rate),
            Coefficients::IDENTITY,
        ],
        3 => [
            move_poles(from, to, 1.0, sample_rate),
            move_pole(from, to, sample_rate),
        ],
        _ => [0.541_196, 1.306_563].map(|q| move_poles(from, to, q, sample_rate)),
    }
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
    search: FilterSearch,
    highs: FilterSearch,
    /// Frames after which both ends, and the lows alone, are judged.
    first_frames: u32,
    alone_frames: u32,
    found: Option<Butterworth>,
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
        let frames = |seconds| (seconds * sample_rate / spectrum.frame_samples() as f64) as u32;
        let list = filters(70.0, 2.25, 24, &[2, 3, 4]);
        Self {
            sample_rate,
            search: FilterSearch::new(&LOWS_HZ, &SPREAD, list, loss_db),
            highs: treble::search(sample_rate),
            first_frames: frames(FIRST_SECONDS).max(2),
            alone_frames: frames(ALONE_SECONDS).max(2),
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
        stage.alone_frames = 0;
        stage.follow(lows);
        stage.fade.settle();
        stage
    }

    /// The high-pass being undone.
    pub fn found(&self) -> Option<Butterworth> {
        self.found
    }

    fn judge(&mut self) {
        if self.spectrum.frames() >= self.first_frames {
            self.follow(LowSpectrum::read(&self.spectrum, self.sample_rate));
        }
    }

    fn follow(&mut self, lows: LowSpectrum) {
        let odds = self.search.weigh(&lows.missing_db, lows.frames);
        let highs = match &lows.highs {
            Some(missing) => self.highs.weigh(missing, lows.frames),
            None => f64::MIN,
        };
        let engaged = self.found.filter(|_| self.fade.target() > 0.0);
        let seen = match engaged {
            Some(_) if highs > 0.5 * MICROPHONE => odds > TOGETHER - RELEASED,
            Some(_) => odds > ALONE - RELEASED,
            None if highs > MICROPHONE => odds > TOGETHER,
            None => odds > ALONE && lows.frames >= self.alone_frames,
        };
        let best = self.search.best(engaged.map(|old| old.order));
        match best.filter(|_| seen) {
            None => self.fade.set_target(0.0),
            Some(new) => {
                let next = engaged.map_or(new, |old| old.towards(new));
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
