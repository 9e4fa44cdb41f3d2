// [worker] Where the hits are: the profile's, moved onto the stem's own onsets, or found anew.

use super::{
    super::{
        Scene,
        filter::{Energy, zero_phase},
        overdrive::quantile,
    },
    Hit, band_of,
};
use crate::profile::{DrumClass, DrumHit};

/// How far a profile's hit may be off, seconds.
const REACH: f64 = 0.020;

/// The stem in three bands, and their energies: kick, drum heads, metal.
pub(super) struct Bands {
    pub energy: [Energy<'static>; 3],
    rate: f64,
}

impl Bands {
    pub fn new(scene: &Scene) -> Self {
        Self {
            energy: [0, 1, 2].map(|band| Energy::new(split(&scene.x, scene.rate, band))),
            rate: scene.rate,
        }
    }

    /// Logarithm of the energy just after `at` over the energy just before it.
    fn rise(&self, band: usize, at: i64) -> f64 {
        // A period of a kick is longer than a stick's attack.
        let window = (self.rate * if band == 0 { 0.010 } else { 0.005 }).max(2.0) as i64;
        let e = &self.energy[band];
        // −80 dB of full scale, so that silence is no onset of rounding noise.
        let floor = 1e-8 * window as f64;
        ((e.over(at, at + window) + floor) / (e.over(at - window, at) + floor)).ln()
    }

    /// Energy a sample over `seconds` after `at`.
    pub fn after(&self, band: usize, at: f64, seconds: f64) -> f64 {
        let len = (seconds * self.rate).max(1.0);
        self.energy[band].over(at as i64, (at + len) as i64) / len
    }
}

/// Band 0, low (below 160 Hz), 1, middle (200 Hz..4 kHz), or 2, high (above 6 kHz, or the top quarter) of `x`.
pub(super) fn split(x: &[f32], rate: f64, band: usize) -> Vec<f32> {
    match band {
        0 => zero_phase(x, rate, 160.0, false),
        1 => {
            let above = zero_phase(x, rate, 200.0, true);
            zero_phase(&above, rate, 4000.0f64.min(0.3 * rate), false)
        }
        _ => zero_phase(x, rate, 6000.0f64.min(0.36 * rate), true),
    }
}

/// The hits of the whole stem, ascending: the profile's, refined, or if there are none our own.
pub(super) fn find(scene: &Scene, bands: &Bands, profile: &[DrumHit]) -> Vec<Hit> {
    let mut hits: Vec<Hit> = profile
        .iter()
        .filter(|h| h.t.is_finite() && h.t >= 0.0 && h.t * scene.rate < scene.x.len() as f64)
        .map(|h| Hit {
            at: refine(bands, band_of(h.class), h.t * scene.rate),
            class: h.class,
            velocity: if h.velocity.is_finite() {
                h.velocity.clamp(0.0, 1.0)
            } else {
                0.5
            },
        })
        .collect();
    if profile.is_empty() {
        hits = detect(scene, bands);
    }
    even_out(scene, &mut hits);
    hits.sort_by(|a, b| {
        a.at.total_cmp(&b.at)
            .then((a.class as u8).cmp(&(b.class as u8)))
    });
    // Two hits of one class within 15 ms are one hit that was written twice.
    let mut last = [f64::NEG_INFINITY; DrumClass::COUNT];
    hits.retain(|h| {
        let keep = h.at - last[h.class as usize] > 0.015 * scene.rate;
        if keep {
            last[h.class as usize] = h.at;
        }
        keep
    });
    hits
}

/// Velocities that were measured in damaged audio are low: an overload takes the peaks. A class's damaged
/// hits get the median of its clean ones; what sets them apart from each other stays.
fn even_out(scene: &Scene, hits: &mut [Hit]) {
    let damaged = |h: &Hit| scene.severity_over(h.at, h.at + 0.05 * scene.rate) >= 0.5;
    for class in DrumClass::ALL {
        let of = |wanted: bool| -> Vec<f32> {
            hits.iter()
                .filter(|h| h.class == class && damaged(h) == wanted)
                .map(|h| h.velocity)
                .collect()
        };
        let (mut clean, mut hurt) = (of(false), of(true));
        if clean.len() < 2 || hurt.is_empty() {
            continue;
        }
        let raise = quantile(&mut clean, 0.5) / quantile(&mut hurt, 0.5).max(0.01);
        if raise <= 1.0 {
            continue;
        }
        for h in hits.iter_mut() {
            if h.class == class && damaged(h) {
                h.velocity = (h.velocity * raise).min(1.0);
            }
        }
    }
}

/// Moves `at` to the strongest onset of `band` within reach; leaves it where there is none.
fn refine(bands: &Bands, band: usize, at: f64) -> f64 {
    let step = (bands.rate * 0.0005).max(1.0);
    let reach = (REACH * bands.rate / step) as i64;
    let mut best = (at, std::f64::consts::LN_2);
    for i in -reach..=reach {
        let candidate = at + i as f64 * step;
        let off = i as f64 / reach.max(1) as f64;
        let score = bands.rise(band, candidate.round() as i64) * (-0.5 * off * off).exp();
        if score > best.1 {
            best = (candidate, score);
        }
    }
    best.0
}

/// Onsets per band by energy rise, told apart by their bands. Cruder than a profile, but it plays.
fn detect(scene: &Scene, bands: &Bands) -> Vec<Hit> {
    let step = (scene.rate * 0.002).max(1.0);
    let steps = (scene.x.len() as f64 / step) as usize;
    // A band's onset must rise by 6 dB and come within 25 dB of the band's loud hits.
    let mut onsets: Vec<(usize, usize, f64)> = Vec::new();
    let mut loud = [0.0f64; 3];
    for (band, loud) in loud.iter_mut().enumerate() {
        let rises: Vec<f64> = (0..steps)
            .map(|i| bands.rise(band, (i as f64 * step) as i64))
            .collect();
        let levels: Vec<f32> = (0..steps)
            .map(|i| bands.after(band, i as f64 * step, 0.02) as f32)
            .collect();
        *loud = f64::from(quantile(&mut levels.clone(), 0.98)).max(1e-9);
        let width = (0.03 / 0.002) as usize;
        for i in 0..steps {
            let near = &rises[i.saturating_sub(width)..(i + width + 1).min(steps)];
            let top = near.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(v));
            if rises[i] >= top && rises[i] > 1.4 && f64::from(levels[i]) > *loud * 3e-3 {
                onsets.push((i, band, f64::from(levels[i])));
            }
        }
    }
    onsets.sort_by_key(|o| (o.0, o.1));
    let mut hits = Vec::new();
    let mut i = 0;
    while i < onsets.len() {
        let first = onsets[i].0;
        let group: Vec<_> = onsets[i..]
            .iter()
            .take_while(|o| o.0 - first <= (0.025 / 0.002) as usize)
            .copied()
            .collect();
        i += group.len();
        let level = |band: usize| {
            group
                .iter()
                .filter(|o| o.1 == band)
                .map(|o| o.2)
                .fold(0.0, f64::max)
        };
        let shares = [0, 1, 2].map(|b| level(b) / loud[b]);
        let at = first as f64 * step;
        let mut push = |class: DrumClass, share: f64| {
            hits.push(Hit {
                at: refine(bands, band_of(class), at),
                class,
                velocity: (share.sqrt() as f32 * 0.7).clamp(0.05, 1.0),
            });
        };
        // An overload takes most from the kick.
        let hurt = scene.severity_over(at, at + 0.05 * scene.rate) >= 0.5;
        let kick = shares[0] > if hurt { 0.03 } else { 0.1 };
        // A kick's click is in the middle band too: a snare beside it must be louder than that.
        let snare = shares[1] > 0.1 && level(1) > if kick { 0.5 } else { 0.05 } * level(0);
        if kick {
            push(DrumClass::Kick, shares[0]);
        }
        if snare {
            push(DrumClass::Snare, shares[1]);
        } else if shares[2] > 0.0 && !kick {
            push(DrumClass::HihatClosed, shares[2]);
        }
    }
    hits
}
