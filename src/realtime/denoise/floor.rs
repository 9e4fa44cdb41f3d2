// [audio] Finds steady noise between the notes, band by band, and says how sure it is.

/// Lowest band edge in Hz: below, room rumble and bass notes look alike.
const LOWEST_HZ: f64 = 90.0;
/// Least bins a band, for its level to be steady when the noise is, and least width in Hz, for a band not
/// to fit between two partials of a voice.
const LEAST_BINS: usize = 8;
const LEAST_WIDTH_HZ: f64 = 370.0;
/// Level histogram: 0.5 dB a cell from −160 dBFS up.
const CELLS: usize = 320;
const CELL_DB: f32 = 0.5;
const LOWEST_DB: f32 = -160.0;
/// Seconds of music over which a floor is sought.
const WINDOW_SECONDS: f64 = 3.0;
/// Seconds of sound before the first verdict.
const FIRST_SECONDS: f64 = 0.35;
/// Share of frames taken for a band's floor.
const FLOOR_QUANTILE: f32 = 0.08;
/// A frame within this many dB above the floor's quantile is a floor frame.
const FLOOR_REACH_DB: f32 = 3.0;
/// Level smoothing, per [`HOP_SECONDS`].
const LEVEL_MEMORY: f32 = 0.75;
/// Frames between two that share no samples (75 % overlap).
const APART: usize = 4;
/// Seconds in which the gate opens and closes.
const OPEN_SECONDS: f64 = 0.15;
const CLOSE_SECONDS: f64 = 1.0;
/// What steady noise looks like in a band. Gaussian noise has a flatness of −2.5 dB (one channel) or
/// above (several), no persistence, no drift, and dwells at its floor whenever the music leaves it
/// uncovered. Decays drift by −0.2 dB a frame and more, notes persist (0.3..0.9), combs are not flat.
const LEAST_FLOOR_FRAMES: f32 = 30.0;
/// Floor frames that the means reach over.
const MOST_FLOOR_FRAMES: f32 = 150.0;
const LEAST_DWELL: f32 = 0.18;
const MOST_PERSISTENCE: f32 = 0.15;
const LEAST_FLATNESS_DB: f32 = -3.2;
const MOST_DRIFT_DB: f32 = 0.16;
/// Hop that the drift's and the frames' limits are for, in seconds; shorter hops drift less each and are more.
const HOP_SECONDS: f64 = 256.0 / 48_000.0;
/// Bands that must agree, next to each other (up to `MOST_GAP` odd bands between them are allowed).
const LEAST_BANDS: usize = 3;
const MOST_GAP: usize = 1;
/// Noise matters from here up: dB relative to the loudest of the last seconds, and to full scale.
const LEAST_NOISE_DB: f32 = -50.0;
const LEAST_LEVEL_DB: f32 = -85.0;
/// How far below its own floor the noise of a band without evidence is put.
const UNSURE_DB: f32 = 2.0;

/// What is known of one band.
#[derive(Clone, Debug)]
pub struct Band {
    /// First bin, and the bin behind the last.
    pub bins: (usize, usize),
    power: f32,
    histogram: Vec<u16>,
    /// Ring of cells, `u16::MAX` where none was written yet.
    history: Vec<u16>,
    /// Mean over floor frames of (mean log power − log mean power), dB: −2.5 for Gaussian noise.
    pub flatness_db: f32,
    /// Mean over floor frames of the correlation of the fine structure with the one a frame earlier.
    pub persistence: f32,
    /// Share of the window's frames at the floor.
    pub dwell: f32,
    /// Level of the floor, dB of mean bin power, full scale 0.
    pub floor_db: f32,
    /// Mean drift of the level at the floor, dB a frame apart.
    pub drift_db: f32,
    floor_frames: f32,
    /// How surely this is noise, 0..=1.
    pub confidence: f32,
    level_db: f32,
    alike: bool,
}

impl Band {
    /// `hop`: this hop per [`HOP_SECONDS`], 1 at most.
    fn looks_like_noise(&self, hop: f32) -> bool {
        self.floor_frames * hop >= LEAST_FLOOR_FRAMES
            && self.dwell >= LEAST_DWELL
            && self.persistence < MOST_PERSISTENCE
            && self.flatness_db > LEAST_FLATNESS_DB
            && self.drift_db.abs() < MOST_DRIFT_DB * hop
    }
}

/// Tracks the floor of every band and the evidence that it is noise.
#[derive(Clone, Debug)]
pub struct NoiseFloor {
    bands: Vec<Band>,
    at: usize,
    filled: usize,
    first: usize,
    /// 10·log10 of each bin's power relative to its band, of the last `APART` frames.
    fine: Vec<Vec<f32>>,
    fine_at: usize,
    log: Vec<f32>,
    noise: Vec<f32>,
    gate: f32,
    open_step: f32,
    close_step: f32,
    full_scale: f32,
    /// Loudest the signal has lately been: power, all bins.
    loudest: f32,
    loudest_memory: f32,
    short: f32,
    /// Of [`HOP_SECONDS`], 1 at most.
    hop: f32,
    level_memory: f32,
}

impl NoiseFloor {
    /// For frames of `frame` samples every `hop` at `sample_rate` Hz.
    pub fn live(sample_rate: f64, frame: usize, hop: usize) -> Self {
        let bins = frame / 2 + 1;
        let frames = |seconds: f64| ((seconds * sample_rate / hop as f64).round() as usize).max(2);
        let window = frames(WINDOW_SECONDS);
        let hop_share = (hop as f64 / sample_rate / HOP_SECONDS).min(1.0);
        let bands = band_edges(sample_rate, frame)
            .map(|bins| Band {
                bins,
                power: 0.0,
                histogram: vec![0; CELLS],
                history: vec![u16::MAX; window],
                flatness_db: 0.0,
                persistence: 0.0,
                dwell: 0.0,
                floor_db: LOWEST_DB,
                drift_db: 0.0,
                floor_frames: 0.0,
                confidence: 0.0,
                level_db: LOWEST_DB,
                alike: false,
            })
            .collect();
        Self {
            bands,
            at: 0,
            filled: 0,
            first: frames(FIRST_SECONDS),
            fine: vec![vec![0.0; bins]; APART],
            fine_at: 0,
            log: vec![0.0; bins],
            noise: vec![0.0; bins],
            gate: 0.0,
            open_step: 1.0 / frames(OPEN_SECONDS) as f32,
            close_step: 1.0 / frames(CLOSE_SECONDS) as f32,
            // A full-scale sine's power under a sqrt-Hann window, spread over the mean of all bins.
            full_scale: (frame * frame) as f32 / 4.0,
            loudest: 0.0,
            loudest_memory: (-1.0 / (10.0 * sample_rate / hop as f64)).exp() as f32,
            short: 0.0,
            hop: hop_share as f32,
            level_memory: LEVEL_MEMORY.powf(hop_share as f32),
        }
    }

    /// What is known of every band, from low to high.
    pub fn bands(&self) -> &[Band] {
        &self.bands
    }

    /// The evidence, 0..=1.
    pub fn gate(&self) -> f32 {
        self.gate
    }

    /// Noise power per bin; meaningful while the gate is open.
    pub fn noise(&self) -> &[f32] {
        &self.noise
    }

    /// Takes a frame's power spectrum; returns the gate, 0..=1.
    pub fn update(&mut self, power: &[f32]) -> f32 {
        let total: f32 = power.iter().sum();
        if total < self.full_scale * 1e-11 {
            return self.gate;
        }
        self.short += 0.1 * (total - self.short);
        self.loudest = (self.loudest * self.loudest_memory).max(self.short);
        for (l, &p) in self.log.iter_mut().zip(power) {
            *l = fast_db(p.max(self.full_scale * 1e-16));
        }
        let window = self.bands.first().map_or(1, |b| b.history.len());
        self.filled = (self.filled + 1).min(window);
        let full_scale_db = fast_db(self.full_scale);
        for band in &mut self.bands {
            let (a, b) = band.bins;
            let n = (b - a) as f32;
            let mean = power[a..b].iter().sum::<f32>() / n;
            let mean_log = self.log[a..b].iter().sum::<f32>() / n;
            let before = fast_db(band.power.max(1e-20));
            band.power = self.level_memory * band.power + (1.0 - self.level_memory) * mean;
            let level = fast_db(band.power.max(1e-20)) - full_scale_db;
            let cell = (((level - LOWEST_DB) / CELL_DB) as usize).min(CELLS - 1);
            let old = std::mem::replace(&mut band.history[self.at], cell as u16);
            if let Some(count) = band.histogram.get_mut(usize::from(old)) {
                *count -= 1;
            }
            band.histogram[cell] += 1;
            // Correlation of the fine structure with that of an earlier frame.
            let (mut xy, mut xx, mut yy) = (0.0f32, 1e-9f32, 1e-9f32);
            for (l, f) in self.log[a..b]
                .iter()
                .zip(&mut self.fine[self.fine_at][a..b])
            {
                let x = (l - mean_log).max(-12.0);
                xy += x * *f;
                xx += x * x;
                yy += *f * *f;
                *f = x;
            }
            if level < band.floor_db + FLOOR_REACH_DB {
                band.floor_frames = (band.floor_frames + 1.0).min(MOST_FLOOR_FRAMES / self.hop);
                let w = 1.0 / band.floor_frames;
                band.flatness_db += w * (mean_log - fast_db(mean.max(1e-20)) - band.flatness_db);
                band.persistence += w * (xy / (xx * yy).sqrt() - band.persistence);
                let drift = (level + full_scale_db - before).clamp(-6.0, 6.0);
                band.drift_db += w * (drift - band.drift_db);
            }
        }
        self.fine_at = (self.fine_at + 1) % APART;
        // One band a frame is enough for quantiles over seconds.
        let index = self.at % self.bands.len().max(1);
        if let Some(band) = self.bands.get_mut(index) {
            find_floor(band, self.filled);
        }
        self.at = (self.at + 1) % window;
        self.judge();
        self.gate
    }

    /// Weighs the bands' evidence, moves the gate and spreads the floors over the bins.
    fn judge(&mut self) {
        let ready = self.filled >= self.first;
        let full_scale_db = fast_db(self.full_scale);
        for band in &mut self.bands {
            band.alike = ready && band.looks_like_noise(self.hop);
        }
        keep_neighbours(&mut self.bands);
        let mut alike = false;
        let mut noise_power = 0.0f32;
        for band in &mut self.bands {
            if band.alike {
                alike = true;
                let (a, b) = band.bins;
                noise_power += (b - a) as f32 * from_db(band.floor_db + full_scale_db);
            }
            let step = if band.alike {
                self.open_step
            } else {
                -self.close_step
            };
            band.confidence = (band.confidence + step).clamp(0.0, 1.0);
        }
        let audible = noise_power > self.loudest * from_db(LEAST_NOISE_DB)
            && noise_power > self.full_scale * from_db(LEAST_LEVEL_DB);
        let step = if alike && audible {
            self.open_step
        } else {
            -self.close_step
        };
        self.gate = (self.gate + step).clamp(0.0, 1.0);
        if self.gate > 0.0 {
            self.spread(full_scale_db);
        }
    }

    /// Noise per bin: a confirmed band's floor; elsewhere at most the floor and at most what the nearest
    /// confirmed bands on both sides suggest, since a band full of music has a floor of music.
    fn spread(&mut self, full_scale_db: f32) {
        let mut below = f32::NAN;
        for band in &mut self.bands {
            if band.confidence > 0.0 {
                below = band.floor_db;
            }
            band.level_db = below;
        }
        let mut above = f32::NAN;
        for band in self.bands.iter_mut().rev() {
            if band.confidence > 0.0 {
                above = band.floor_db;
                band.level_db = band.floor_db;
            } else {
                // `max` and `min` skip NaN: a side without evidence says nothing.
                band.level_db = band.level_db.max(above).min(band.floor_db - UNSURE_DB);
            }
        }
        let mut from = (0.0f32, f32::NAN);
        let mut bin = 0;
        for band in &self.bands {
            let center = (band.bins.0 + band.bins.1) as f32 / 2.0;
            let to = (center, band.level_db + full_scale_db);
            while (bin as f32) < center {
                if let Some(n) = self.noise.get_mut(bin) {
                    let t = (bin as f32 - from.0) / (to.0 - from.0);
                    let db = if from.1.is_nan() {
                        to.1
                    } else {
                        from.1 + t * (to.1 - from.1)
                    };
                    *n = from_db(db);
                }
                bin += 1;
            }
            from = to;
        }
        for n in self.noise.iter_mut().skip(bin) {
            *n = from_db(from.1);
        }
        // Below the lowest band nothing is known.
        let lowest = self.bands.first().map_or(0, |b| b.bins.0);
        for n in self.noise.iter_mut().take(lowest) {
            *n = 0.0;
        }
    }

    /// Clears all memory.
    pub fn reset(&mut self) {
        for band in &mut self.bands {
            band.power = 0.0;
            band.histogram.fill(0);
            band.history.fill(u16::MAX);
            band.flatness_db = 0.0;
            band.persistence = 0.0;
            band.dwell = 0.0;
            band.floor_db = LOWEST_DB;
            band.drift_db = 0.0;
            band.floor_frames = 0.0;
            band.confidence = 0.0;
        }
        for f in &mut self.fine {
            f.fill(0.0);
        }
        (self.at, self.filled, self.fine_at) = (0, 0, 0);
        (self.gate, self.loudest, self.short) = (0.0, 0.0, 0.0);
        self.noise.fill(0.0);
    }
}

/// Noise is broad: bands that look like it count only in runs of [`LEAST_BANDS`] with gaps of
/// [`MOST_GAP`] at most. A note or a voice can pass for noise in one band, hardly in three.
fn keep_neighbours(bands: &mut [Band]) {
    let mut from = 0;
    while from < bands.len() {
        if !bands[from].alike {
            from += 1;
            continue;
        }
        let (mut to, mut count, mut gap) = (from, 0, 0);
        while to < bands.len() && gap <= MOST_GAP {
            if bands[to].alike {
                count += 1;
                gap = 0;
            } else {
                gap += 1;
            }
            to += 1;
        }
        if count < LEAST_BANDS {
            for band in &mut bands[from..to] {
                band.alike = false;
            }
        }
        from = to;
    }
}

fn find_floor(band: &mut Band, filled: usize) {
    let wanted = (filled as f32 * FLOOR_QUANTILE).max(2.0) as u32;
    let mut below = 0u32;
    let Some(quantile) = band.histogram.iter().position(|&c| {
        below += u32::from(c);
        below >= wanted
    }) else {
        return;
    };
    let (mut sum, mut count) = (0.0f32, 0.0f32);
    let from = quantile.saturating_sub(2);
    for (cell, &c) in band.histogram.iter().enumerate().skip(from).take(2 + 6) {
        sum += cell as f32 * f32::from(c);
        count += f32::from(c);
    }
    band.dwell = count / filled.max(1) as f32;
    band.floor_db = LOWEST_DB + CELL_DB * (sum / count.max(1.0) + 0.5);
}

/// Bands of at least [`LEAST_BINS`] bins, [`LEAST_WIDTH_HZ`] and a third of an octave, up to Nyquist.
fn band_edges(sample_rate: f64, frame: usize) -> impl Iterator<Item = (usize, usize)> {
    let last = frame / 2;
    let least = LEAST_BINS.max((LEAST_WIDTH_HZ * frame as f64 / sample_rate).round() as usize);
    let mut from = ((LOWEST_HZ * frame as f64 / sample_rate).round() as usize).max(1);
    std::iter::from_fn(move || {
        let wide = (from as f64 * 2f64.powf(1.0 / 3.0)).round() as usize;
        let mut to = wide.max(from + least);
        if to + least > last {
            to = last;
        }
        (from + least <= last).then(|| {
            let band = (from, to);
            from = to;
            band
        })
    })
}

/// 10·log10 to 0.01 dB, without a library call: the exponent's bits and a cubic for the mantissa.
#[inline]
pub(crate) fn fast_db(x: f32) -> f32 {
    let bits = x.to_bits();
    let exponent = (bits >> 23) as i32 - 127;
    let m = f32::from_bits((bits & 0x007F_FFFF) | 0x3F80_0000);
    let log2 =
        exponent as f32 + (m - 1.0) * (1.425_181 + (m - 1.0) * (-0.589_93 + (m - 1.0) * 0.164_75));
    log2 * 3.010_3
}

#[inline]
fn from_db(db: f32) -> f32 {
    10f32.powf(db * 0.1)
}
