// [audio] How long the room rings: a blind estimate of RT60 from the decays in the music.
//!
//! Nothing in a room falls silent faster than the room lets it, so among all straight decays of the
//! band levels the steep end belongs to the room and the rest to instruments that ring on by
//! themselves (Löllmann et al. 2010; Ratnam et al. 2003 for the model of exponential decay). Each band
//! fits lines to the last tenth of a second of its level; lines that are straight and falling enter a
//! histogram of decay times, and a low quantile of it is the answer.

/// Bands: octaves from this frequency up.
const LOWEST_HZ: f64 = 250.0;
const BANDS: usize = 5;
/// Length of a fitted line in seconds.
const LINE_SECONDS: f64 = 0.18;
/// A decay is believed when the line explains this share of the level's variance...
const LEAST_FIT: f32 = 0.88;
/// ...and falls by this much over the line, in dB.
const LEAST_FALL_DB: f32 = 3.0;
/// Decay times of the histogram in seconds, logarithmic.
const SHORTEST_SECONDS: f32 = 0.1;
const LONGEST_SECONDS: f32 = 4.0;
const CELLS: usize = 48;
/// Share of the decays that are at least as steep as the room's.
const ROOM_QUANTILE: f32 = 0.25;
/// Forgetting per decay: the last few hundred decays count.
const MEMORY: f32 = 0.998;
/// What is assumed before anything was heard, in seconds, and with how many decays' weight.
const PRIOR_SECONDS: f32 = 0.6;
const PRIOR_WEIGHT: f32 = 6.0;

#[derive(Clone, Debug)]
struct Band {
    bins: (usize, usize),
    /// Ring of the last levels in dB.
    levels: Vec<f32>,
}

/// Watches power spectra and estimates RT60.
#[derive(Clone, Debug)]
pub struct DecayWatch {
    bands: Vec<Band>,
    at: usize,
    seen: usize,
    seconds_per_frame: f32,
    histogram: [f32; CELLS],
    rt60: f32,
}

impl DecayWatch {
    /// For frames of `frame` samples every `hop` at `sample_rate` Hz.
    pub fn new(sample_rate: f64, frame: usize, hop: usize) -> Self {
        let line = ((LINE_SECONDS * sample_rate / hop as f64).round() as usize).max(6);
        let bin = |hz: f64| ((hz * frame as f64 / sample_rate).round() as usize).min(frame / 2);
        let bands = (0..BANDS)
            .map(|i| {
                let low = LOWEST_HZ * 2f64.powi(i as i32);
                (bin(low), bin(2.0 * low))
            })
            .filter(|(a, b)| b > a)
            .map(|bins| Band {
                bins,
                levels: vec![0.0; line],
            })
            .collect();
        let mut watch = Self {
            bands,
            at: 0,
            seen: 0,
            seconds_per_frame: (hop as f64 / sample_rate) as f32,
            histogram: [0.0; CELLS],
            rt60: PRIOR_SECONDS,
        };
        watch.reset();
        watch
    }

    /// Back to the prior.
    pub fn reset(&mut self) {
        self.seen = 0;
        self.at = 0;
        self.histogram = [0.0; CELLS];
        if let Some(cell) = self.histogram.get_mut(cell_of(PRIOR_SECONDS)) {
            *cell = PRIOR_WEIGHT;
        }
        self.rt60 = PRIOR_SECONDS;
    }

    /// The present estimate in seconds, 0.1..=4.
    pub fn rt60(&self) -> f32 {
        self.rt60
    }

    /// Takes a frame's power spectrum.
    pub fn update(&mut self, power: &[f32]) {
        let line = self.bands.first().map_or(1, |b| b.levels.len());
        let n = line as f32;
        let mean_t = (n - 1.0) / 2.0;
        let var_t = (n * n - 1.0) / 12.0;
        self.seen = (self.seen + 1).min(line);
        for band in &mut self.bands {
            let (a, b) = band.bins;
            let mean = power[a..b].iter().sum::<f32>() / (b - a) as f32;
            band.levels[self.at] = 10.0 * mean.max(1e-12).log10();
            if self.seen < line {
                continue;
            }
            let (mut sum, mut cross, mut square) = (0.0f32, 0.0f32, 0.0f32);
            let oldest = self.at + 1;
            let ordered = band.levels[oldest..].iter().chain(&band.levels[..oldest]);
            for (t, &level) in ordered.enumerate() {
                sum += level;
                cross += (t as f32 - mean_t) * level;
                square += level * level;
            }
            let var = square / n - (sum / n).powi(2);
            let slope = cross / (n * var_t);
            let fit = slope * slope * var_t / var.max(1e-6);
            if slope * n < -LEAST_FALL_DB && fit > LEAST_FIT {
                let seconds = -60.0 * self.seconds_per_frame / slope;
                for cell in &mut self.histogram {
                    *cell *= MEMORY;
                }
                if let Some(cell) = self.histogram.get_mut(cell_of(seconds)) {
                    *cell += 1.0;
                }
            }
        }
        self.at = (self.at + 1) % line;
        let total: f32 = self.histogram.iter().sum();
        let mut below = 0.0;
        for (i, cell) in self.histogram.iter().enumerate() {
            if below + cell >= ROOM_QUANTILE * total {
                let within = (ROOM_QUANTILE * total - below) / cell.max(1e-9);
                let t = (i as f32 + within) / CELLS as f32;
                self.rt60 = SHORTEST_SECONDS * (LONGEST_SECONDS / SHORTEST_SECONDS).powf(t);
                break;
            }
            below += cell;
        }
    }
}

fn cell_of(seconds: f32) -> usize {
    let t = (seconds / SHORTEST_SECONDS).max(1.0).ln() / (LONGEST_SECONDS / SHORTEST_SECONDS).ln();
    ((t * CELLS as f32) as usize).min(CELLS - 1)
}
