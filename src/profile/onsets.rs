// [worker] When something begins: spectral flux per band and harmonic change, every 10 ms.

use super::{
    chroma::{CHROMA_FPS, NOTES, Notes},
    spectra::{BandSpectra, FPS, SILENCE, moving_mean, quantile},
};

/// Upper edges of the onset groups, Hz: kick and bass, low mids, mids, highs; the rest is hats and cymbals.
const GROUP_TOP_HZ: [f64; 4] = [130.0, 500.0, 2000.0, 5000.0];
pub(super) const GROUPS: usize = GROUP_TOP_HZ.len() + 1;
/// Weight of each group in the total: what carries the beat is heard low and in the middle.
const GROUP_WEIGHT: [f32; GROUPS] = [1.2, 0.8, 1.0, 0.8, 0.6];
/// Frames between the spectra that are compared: the window's attack takes about this long.
const LAG: usize = 2;
/// Log compression: magnitudes this share of the band's loud level count as linear.
const KNEE: f32 = 0.02;

/// Onset strengths, each about 0 at rest and 1 at a strong onset.
pub(super) struct Onsets {
    /// `[group][frame]`.
    pub groups: Vec<Vec<f32>>,
    /// Weighted sum of the groups.
    pub total: Vec<f32>,
    /// How much the harmony changes, on the same clock.
    pub change: Vec<f32>,
}

impl Onsets {
    /// None where the recording is silent.
    pub fn new(spectra: &BandSpectra, notes: Option<&Notes>) -> Option<Self> {
        let frames = spectra.frames();
        if frames < 8 || spectra.peak() < SILENCE {
            return None;
        }
        let flux = band_flux(spectra);
        let mut groups = vec![vec![0.0f32; frames]; GROUPS];
        for (b, hz) in spectra.centre_hz.iter().enumerate() {
            let g = GROUP_TOP_HZ
                .iter()
                .position(|&top| *hz < top)
                .unwrap_or(GROUPS - 1);
            for (sum, f) in groups[g]
                .iter_mut()
                .zip(flux.iter().skip(b).step_by(spectra.bands))
            {
                *sum += f;
            }
        }
        for group in &mut groups {
            normalise(group);
        }
        let total_weight: f32 = GROUP_WEIGHT.iter().sum();
        let mut total: Vec<f32> = (0..frames)
            .map(|t| {
                let sum: f32 = groups.iter().zip(GROUP_WEIGHT).map(|(g, w)| w * g[t]).sum();
                sum / total_weight
            })
            .collect();
        let loud = quantile(&total, 0.98).max(1e-6);
        total.iter_mut().for_each(|t| *t = (*t / loud).min(1.5));
        let change = notes.map_or_else(|| vec![0.0; frames], |n| harmonic_change(n, frames));
        Some(Self {
            groups,
            total,
            change,
        })
    }

    pub fn frames(&self) -> usize {
        self.total.len()
    }
}

/// Rise of each band's log magnitude against the loudest neighbour two frames before (SuperFlux: Böck &
/// Widmer 2013), so that vibrato and glides don't count. `[frame][band]`.
pub(super) fn band_flux(spectra: &BandSpectra) -> Vec<f32> {
    log_and_flux(spectra).1
}

/// The log magnitudes, each band against its own loud level, and their rises. Both `[frame][band]`.
pub(super) fn log_and_flux(spectra: &BandSpectra) -> (Vec<f32>, Vec<f32>) {
    let (bands, frames) = (spectra.bands, spectra.frames());
    let loud: Vec<f32> = (0..bands)
        .map(|b| {
            let band: Vec<f32> = (0..frames).map(|t| spectra.frame(t)[b]).collect();
            quantile(&band, 0.95)
        })
        .collect();
    let floor = loud.iter().copied().fold(0.0, f32::max) * 1e-3 + 1e-9;
    let log: Vec<f32> = (0..frames)
        .flat_map(|t| {
            let loud = &loud;
            spectra
                .frame(t)
                .iter()
                .zip(loud)
                .map(move |(m, l)| (1.0 + m / (KNEE * l + floor)).ln())
        })
        .collect();
    let mut flux = vec![0.0f32; frames * bands];
    for t in LAG..frames {
        let (now, before) = (
            &log[t * bands..][..bands],
            &log[(t - LAG) * bands..][..bands],
        );
        for b in 0..bands {
            let around = &before[b.saturating_sub(1)..(b + 2).min(bands)];
            let was = around.iter().copied().fold(0.0, f32::max);
            flux[t * bands + b] = (now[b] - was).max(0.0);
        }
    }
    (log, flux)
}

/// Takes the local mean (±0.4 s) away, keeps what rises above it, and scales strong onsets to 1.
pub(super) fn normalise(signal: &mut [f32]) {
    let mean = moving_mean(signal, (0.4 * FPS) as usize);
    for (s, m) in signal.iter_mut().zip(&mean) {
        *s = (*s - m).max(0.0);
    }
    let loud = quantile(signal, 0.98);
    let scale = if loud > 1e-6 { 1.0 / loud } else { 0.0 };
    signal.iter_mut().for_each(|s| *s = (*s * scale).min(2.0));
}

/// Cosine distance between the notes of the 0.4 s after and the 0.4 s before.
fn harmonic_change(notes: &Notes, frames: usize) -> Vec<f32> {
    const REACH: f64 = 0.4;
    let count = notes.frames();
    let coarse: Vec<f32> = (0..count)
        .map(|i| {
            let t = i as f64 / CHROMA_FPS;
            if t < REACH || i + 2 >= count {
                return 0.0;
            }
            // The window smears: stay half a frame clear of the border.
            let before = notes.mean(t - REACH, t - 0.05).map(f32::sqrt);
            let after = notes.mean(t + 0.05, t + REACH).map(f32::sqrt);
            let dot = |a: &[f32; NOTES], b: &[f32; NOTES]| {
                a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>()
            };
            let norm = (dot(&before, &before) * dot(&after, &after)).sqrt();
            if norm < 1e-9 {
                0.0
            } else {
                1.0 - dot(&before, &after) / norm
            }
        })
        .collect();
    let mut fine: Vec<f32> = (0..frames)
        .map(|t| {
            let x = t as f64 / FPS * CHROMA_FPS;
            let i = x as usize;
            let at = |i: usize| coarse.get(i).or(coarse.last()).copied().unwrap_or(0.0);
            let f = (x - i as f64) as f32;
            at(i) * (1.0 - f) + at(i + 1) * f
        })
        .collect();
    normalise(&mut fine);
    fine
}
