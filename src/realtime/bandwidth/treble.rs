// [audio] Highs: finds the low-pass in the long-term spectrum, undoes what is left of it, fills the rest.
//!
//! Up to `MOST_DB` the weakened highs themselves are raised by the inverse of the low-pass (poles moved
//! up, the mirror image of a Linkwitz transform): they carry the true fine structure. Bands that are
//! still empty, as after a codec, get a copy of the octave 4–8 kHz, moved up by ring modulation and
//! set to the level that music of this brightness has on average: spectral band replication
//! (Dietz et al. 2002) without side information.

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
};

/// Bands in Hz below the highs.
const BELOW_HZ: [f64; BELOW] = [2520.0, 3175.0, 4000.0, 4490.0];
const BELOW: usize = 4;
/// Bands that the highs are measured against where they are filled: 2.5 to 6.3 kHz.
const REFERENCES: [usize; 5] = [0, 1, 2, BELOW, BELOW + 2];
/// Bands of the highs: sixths of an octave from 5040 Hz to 20.2 kHz.
pub const HIGHS: usize = 13;
/// Those of them that are nearest to the copies' centers: 10, 14 and 18 kHz.
const COPY_BANDS: [usize; COPIES] = [6, 9, 11];
/// How the highs of songs stray from the average.
const SPREAD: Spread = Spread {
    level: 6.0,
    tilt: 5.0,
    bend: 2.5,
    octaves: 0.5,
    error: 1.0,
    most: 40.0,
};
/// Logarithm of the odds for a low-pass from which it is undone, and down to which it stays so.
const FOUND: f64 = 8.0;
const RELEASED: f64 = 4.0;
/// Largest boost of what is there, dB.
const MOST_DB: f64 = 24.0;
/// A band this far below average after the boost counts as empty, dB.
const EMPTY_DB: f64 = 10.0;
/// Fill stays this far below the average level, dB: too much highs is worse than too little.
const FILL_BELOW_DB: f64 = 4.0;
const MEMORY_SECONDS: f64 = 20.0;
const FIRST_SECONDS: f64 = 0.35;
const FADE_SECONDS: f64 = 0.15;
/// The replicated octave's lower edge, Hz; copies lie one, two and three times this higher.
const SOURCE_HZ: f64 = 4000.0;
/// Number of copies: 8–12, 12–16, 16–20 kHz.
const COPIES: usize = 3;
/// Below this rate there is no room for highs, Hz.
pub const LEAST_RATE: f64 = 44_000.0;
const SECTIONS: usize = 3;

/// Loss of a low-pass in dB, a positive number, at `at` Hz, as a bilinear transform makes it for
/// `sample_rate`: phones filter digitally, and [`inverse`] has to be its mirror image up to Nyquist.
/// Order 0 stands for a codec's cut: all is lost above the corner.
pub fn loss_db(low_pass: Butterworth, at: f64, sample_rate: f64) -> f64 {
    if low_pass.order == 0 {
        return if at > low_pass.hz { SPREAD.most } else { 0.0 };
    }
    let ratio = warp(at, sample_rate) / warp(low_pass.hz, sample_rate);
    butterworth_loss_db(ratio, low_pass.order)
}

/// Loss of a Butterworth low-pass at `ratio` times its corner, dB.
fn butterworth_loss_db(ratio: f64, order: u8) -> f64 {
    10.0 * (1.0 + ratio.powi(2 * i32::from(order))).log10()
}

/// Analog frequency of `hz` under the bilinear transform; the same beyond 0.48 of the rate.
fn warp(hz: f64, sample_rate: f64) -> f64 {
    (std::f64::consts::PI * (hz / sample_rate).min(0.48)).tan()
}

/// Centers of the highs' bands, Hz.
pub fn highs_hz() -> [f64; HIGHS] {
    std::array::from_fn(|i| 5040.0 * 2f64.powf(i as f64 / 6.0))
}

/// Centers for a [`LongTermSpectrum`] that [`HighSpectrum::read`] understands.
pub fn centers_hz() -> [f64; BELOW + HIGHS] {
    let mut centers = [0.0; BELOW + HIGHS];
    for (slot, hz) in centers
        .iter_mut()
        .zip(BELOW_HZ.into_iter().chain(highs_hz()))
    {
        *slot = hz;
    }
    centers
}

/// How much lower than in average music each band of the highs is against the lowest three, dB. `db` gives the
/// bands' densities.
pub fn missing_db(db: impl Fn(usize) -> f64) -> [f64; HIGHS] {
    let hz = highs_hz();
    let lack: [f64; HIGHS] = std::array::from_fn(|i| music_density_db(hz[i]) - db(i));
    let level = lack.iter().take(3).sum::<f64>() / 3.0;
    lack.map(|x| x - level)
}

/// A search for low-passes over what [`missing_db`] gives.
pub fn search(sample_rate: f64) -> FilterSearch {
    let mut list = filters(7000.0, 1.2, 24, &[2, 3, 4, 6]);
    list.extend(filters(7000.0, 1.5, 24, &[0]));
    FilterSearch::new(&highs_hz(), &SPREAD, list, |filter, hz| {
        loss_db(filter, hz, sample_rate)
    })
}

/// What the bands of a spectrum lack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HighSpectrum {
    /// See [`missing_db`].
    pub missing_db: [f64; HIGHS],
    /// What the bands of the three copies lack against all of 2.5 to 6.3 kHz, dB.
    pub copies_missing_db: [f64; COPIES],
    /// Level of the reference against the average's shape, dB.
    pub reference: f64,
    /// Frames that were averaged.
    pub frames: u32,
}

impl HighSpectrum {
    /// Reads a spectrum over [`centers_hz`].
    pub fn read(spectrum: &LongTermSpectrum) -> Self {
        let centers = centers_hz();
        let reference = REFERENCES
            .iter()
            .map(|&i| spectrum.db(i) - music_density_db(centers[i]))
            .sum::<f64>()
            / REFERENCES.len() as f64;
        Self {
            missing_db: missing_db(|i| spectrum.db(BELOW + i)),
            copies_missing_db: COPY_BANDS.map(|i| {
                let i = BELOW + i;
                music_density_db(centers[i]) + reference - spectrum.db(i)
            }),
            reference,
            frames: spectrum.frames(),
        }
    }
}

/// Sections that raise what `low_pass` lowered, by at most `MOST_DB`; what a codec cut off can't be raised.
pub fn inverse(low_pass: Butterworth, sample_rate: f64) -> [Coefficients; SECTIONS] {
    if low_pass.order == 0 {
        return [Coefficients::IDENTITY; SECTIONS];
    }
    let order = f64::from(low_pass.order);
    let w0 = warp(low_pass.hz, sample_rate);
    let w1 = w0 * 10f64.powf(MOST_DB / (20.0 * order));
    let mut sections = [Coefficients::IDENTITY; SECTIONS];
    let pairs = usize::from(low_pass.order) / 2;
    let odd = low_pass.order % 2 == 1;
    if odd && let Some(section) = sections.get_mut(pairs) {
        // (1 + s/ω₀) / (1 + s/ω₁).
        let unity = w1 / w0 / (1.0 + w1);
        *section = Coefficients {
            b: [unity * (1.0 + w0), unity * (w0 - 1.0), 0.0],
            a: [(w1 - 1.0) / (1.0 + w1), 0.0],
        };
    }
    for (i, section) in sections.iter_mut().enumerate().take(pairs) {
        // Butterworth pole pairs.
        let half_steps = if odd { 2 * i + 2 } else { 2 * i + 1 };
        let angle = std::f64::consts::PI * half_steps as f64 / (2.0 * order);
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
    search: FilterSearch,
    first_frames: u32,
    found: Option<Butterworth>,
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
    /// For `sample_rate` Hz and 1..=2 channels. Below 44 kHz it does nothing.
    pub fn live(sample_rate: f64, channels: usize) -> Self {
        let phase = 3 * frame_length(sample_rate);
        let spectrum = LongTermSpectrum::new(sample_rate, &centers_hz(), MEMORY_SECONDS, phase);
        // Fourth-order Butterworth edges.
        let (q0, q1) = (0.541_196, 1.306_563);
        let high = |hz: f64, q: f64| Coefficients::high_pass(hz, q, sample_rate);
        let low = |hz: f64, q: f64| Coefficients::low_pass(hz, q, sample_rate);
        Self {
            sample_rate,
            search: search(sample_rate),
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
    pub fn learned(highs: HighSpectrum, sample_rate: f64, channels: usize) -> Self {
        let mut stage = Self::live(sample_rate, channels);
        stage.first_frames = u32::MAX;
        if sample_rate >= LEAST_RATE {
            stage.follow(highs);
        }
        stage.fade.settle();
        for gain in &mut stage.gains {
            gain.settle();
        }
        stage
    }

    /// The low-pass being undone.
    pub fn found(&self) -> Option<Butterworth> {
        self.found
    }

    fn judge(&mut self) {
        if self.spectrum.frames() >= self.first_frames && self.sample_rate >= LEAST_RATE {
            self.follow(HighSpectrum::read(&self.spectrum));
        }
    }

    fn follow(&mut self, highs: HighSpectrum) {
        let odds = self.search.weigh(&highs.missing_db, highs.frames);
        let engaged = self.found.filter(|_| self.fade.target() > 0.0);
        let least = if engaged.is_some() { RELEASED } else { FOUND };
        let best = self.search.best(engaged.map(|old| old.order));
        let Some(new) = best.filter(|_| odds > least) else {
            self.fade.set_target(0.0);
            return;
        };
        let next = engaged.map_or(new, |old| old.towards(new));
        self.found = Some(next);
        self.raise = inverse(next, self.sample_rate);
        self.fade.set_target(1.0);
        // Level of the octave that is copied, against the average's shape.
        let source = highs.reference + music_density_db(1.4 * SOURCE_HZ);
        let missing = highs.copies_missing_db;
        for ((i, gain), missing) in self.gains.iter_mut().enumerate().zip(missing) {
            let center = SOURCE_HZ * (i as f64 + 2.5);
            let left: f64 = self
                .raise
                .iter()
                .map(|c| c.gain_db(center, self.sample_rate))
                .sum();
            let target = if missing - left > EMPTY_DB {
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
