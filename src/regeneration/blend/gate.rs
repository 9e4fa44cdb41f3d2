// [worker] Takes a layer back where it would make things worse, judged without knowing the original.

use super::{
    super::{
        Request,
        resynthesis::{Span, Spectra, region_spans},
    },
    FADE_REACH_SECONDS, Layer, correlation, join, mono,
};
use crate::{
    audio::AudioBuffer,
    damage::{DamageKind, FRAMES_PER_SECOND, Stem},
    metrics::damage::damage_map,
};
use realfft::num_complex::Complex32;

/// Third octaves from 50 Hz to 12.8 kHz.
const BANDS: usize = 24;
const LOWEST_HZ: f64 = 50.0;
/// Seconds of sound neighbourhood on each side of a region.
const NEAR_SECONDS: f64 = 4.0;
/// Least frames of it to compare with: half a second.
const LEAST_FRAMES: usize = 40;

/// A kit that was overdriven lies this far from its own sound neighbourhood, and its rebuild this much nearer.
/// Chosen with `cargo xtask rebuild` on four songs, whose drums were overdriven in two spans, hard or softly, and
/// rebuilt from the true stem or a separated one: in all 32 the rebuild brought the mix nearer to the known
/// original (multi-resolution STFT distance); they lay 2.6 to 11.3 dB away and came 0.3 to 2.9 dB nearer. Of 16
/// rebuilds of sound spans (a false alarm, which only harms) 3 pass.
const DRUMS_OUTLIER_DB: f32 = 2.0;
const DRUMS_OUTLIER_FALL_DB: f32 = 0.25;
/// A bass plays other notes in the neighbourhood: its distance only must not rise, but for the measure's own
/// error. On the same songs all 32 rebuilds helped, and 30 pass; of 16 false alarms 6.
const BASS_OUTLIER_RISE_DB: f32 = 0.05;
/// The remaining limits are nets for rebuilds gone wrong, beyond what the songs showed (onsets 0.70 to 1.00,
/// overdrive at most 0.06 more, at most 2.5 dB louder).
const LEAST_ONSETS: f32 = 0.6;
const OVERDRIVE_RISE: f32 = 0.15;
const MOST_LOUDER_DB: f32 = 3.0;

/// What a layer does to one region.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// How far the stem's spectrum lies from its own sound neighbourhood, mean of third octaves in dB:
    /// before and after. `None` without half a second of neighbourhood.
    pub outlier_db: Option<[f32; 2]>,
    /// Correlation of the mix's onset strength before and after, -1..=1.
    pub onsets: f32,
    /// The mix's mean overdrive (0..=1) before and after.
    pub overdrive: [f32; 2],
    /// Level of the mix after over before.
    pub louder_db: f32,
}

/// Removes `layer` from every region in which it fails [`Change::is_worse`], and sets its wetness to 0.
/// Regions whose fades meet stand and fall together. Returns how many of the request's regions fell.
pub fn gate(request: &Request<'_>, layer: &mut Layer) -> usize {
    let frames = request.separated.frames();
    let rate = f64::from(request.separated.sample_rate.max(1));
    let reach = (FADE_REACH_SECONDS * rate) as usize;
    let spans = join(&region_spans(request, frames), 2 * reach);
    let mut fallen = 0;
    for (span, change) in changes(request, &layer.audio, &spans) {
        if !change.is_worse(request.stem) {
            continue;
        }
        let from = span.start.saturating_sub(reach);
        let to = (span.end + reach).min(frames);
        for channel in &mut layer.audio.channels {
            channel[from..to].fill(0.0);
        }
        for (region, wetness) in &mut layer.wetness {
            let at = region.start.max(0.0) * rate;
            if *wetness > 0.0 && at >= span.start as f64 - 1.0 && at < span.end as f64 {
                *wetness = 0.0;
                fallen += 1;
            }
        }
    }
    fallen
}

/// What `layer` changes in each of `spans` that it touches.
fn changes(request: &Request<'_>, layer: &AudioBuffer, spans: &[Span]) -> Vec<(Span, Change)> {
    let rate = f64::from(request.separated.sample_rate.max(1));
    let frames = request.separated.frames();
    let layer_mono = mono(layer, 0, frames);
    let touched: Vec<Span> = spans
        .iter()
        .copied()
        .filter(|s| layer_mono[s.start..s.end].iter().any(|&x| x != 0.0))
        .collect();
    if touched.is_empty() {
        return Vec::new();
    }
    let mix = mono(request.mix, 0, frames);
    let with = added(&mix, &layer_mono);
    let stem = mono(request.separated, 0, frames);
    let rebuilt = added(&stem, &layer_mono);
    let overdrive: [Vec<f32>; 2] = [&mix, &with].map(|x| {
        let map = damage_map(&AudioBuffer::new(
            vec![x.clone()],
            request.separated.sample_rate,
        ));
        let frames = map.frames.iter();
        frames
            .map(|f| f[DamageKind::Clipping as usize].max(f[DamageKind::Saturation as usize]))
            .collect()
    });
    let mut spectra = Spectra::new(rate);
    touched
        .into_iter()
        .map(|span| {
            let frame = |n: usize| (n as f64 * FRAMES_PER_SECOND as f64 / rate) as usize;
            let mean = |v: &[f32]| {
                let to = frame(span.end).min(v.len());
                let v = &v[frame(span.start).min(to)..to];
                v.iter().sum::<f32>() / v.len().max(1) as f32
            };
            let near = neighbourhood(request, &stem, span, &mut spectra, rate);
            let apart = |x: &[f32], spectra: &mut Spectra| {
                let own = profile(&frames_of(spectra, &x[span.start..span.end], rate));
                let near = profile(&near);
                let floor = near.iter().fold(0.0f32, |a, &b| a.max(b)) * 1e-7 + 1e-12;
                let sum: f32 = own
                    .iter()
                    .zip(&near)
                    .map(|(a, b)| (10.0 * ((a + floor) / (b + floor)).log10()).abs())
                    .sum();
                sum / BANDS as f32
            };
            let outlier_db = (near.len() >= LEAST_FRAMES)
                .then(|| [apart(&stem, &mut spectra), apart(&rebuilt, &mut spectra)]);
            let power = |x: &[f32]| x[span.start..span.end].iter().map(|x| x * x).sum::<f32>();
            let change = Change {
                outlier_db,
                onsets: correlation(
                    &onsets(&frames_of(&mut spectra, &mix[span.start..span.end], rate)),
                    &onsets(&frames_of(&mut spectra, &with[span.start..span.end], rate)),
                ) as f32,
                overdrive: [mean(&overdrive[0]), mean(&overdrive[1])],
                louder_db: 10.0 * ((power(&with) + 1e-9) / (power(&mix) + 1e-9)).log10(),
            };
            (span, change)
        })
        .collect()
}

fn added(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

type Bands = [f32; BANDS];

/// Third-octave powers of `x`, frame by frame.
fn frames_of(spectra: &mut Spectra, x: &[f32], rate: f64) -> Vec<Bands> {
    let mut row = vec![Complex32::default(); spectra.bins()];
    let bin_hz = rate / spectra.n as f64;
    (0..x.len())
        .step_by(spectra.n / 2)
        .map(|start| {
            spectra.analyse(x, start as i64, &mut row);
            let mut bands = [0.0; BANDS];
            for (k, r) in row.iter().enumerate().skip(1) {
                let band = 3.0 * (k as f64 * bin_hz / LOWEST_HZ).log2();
                if band < BANDS as f64 {
                    bands[band.max(0.0) as usize] += r.norm_sqr();
                }
            }
            bands
        })
        .collect()
}

/// Sound frames of `stem` within four seconds of `span`.
fn neighbourhood(
    request: &Request<'_>,
    stem: &[f32],
    span: Span,
    spectra: &mut Spectra,
    rate: f64,
) -> Vec<Bands> {
    let near = (NEAR_SECONDS * rate) as usize;
    let from = span.start.saturating_sub(near);
    let to = (span.end + near).min(stem.len());
    let hop = spectra.n / 2;
    let sound = |n: usize| {
        let seconds = n as f64 / rate;
        let mut regions = request.regions.iter();
        !regions.any(|r| seconds >= r.start - 0.05 && seconds < r.end + 0.05)
    };
    frames_of(spectra, &stem[from..to], rate)
        .into_iter()
        .enumerate()
        .filter(|(i, _)| sound(from + i * hop))
        .map(|(_, bands)| bands)
        .collect()
}

/// Mean power of each band.
fn profile(frames: &[Bands]) -> Bands {
    let mut out = [0.0; BANDS];
    for frame in frames {
        for (o, x) in out.iter_mut().zip(frame) {
            *o += x / frames.len() as f32;
        }
    }
    out
}

/// Rise of the bands' magnitudes from frame to frame.
fn onsets(frames: &[Bands]) -> Vec<f32> {
    frames
        .windows(2)
        .map(|w| {
            let rises = w[1].iter().zip(&w[0]).map(|(a, b)| a.sqrt() - b.sqrt());
            rises.map(|r| r.max(0.0)).sum()
        })
        .collect()
}

impl Change {
    /// Whether the region is better left as it was. True too if nothing tells: what can't be shown to be
    /// better isn't chosen.
    pub fn is_worse(&self, stem: Stem) -> bool {
        let fallen = self.overdrive[0] - self.overdrive[1];
        let helped = self.outlier_db.is_some_and(|[before, after]| match stem {
            Stem::Bass => after - before <= BASS_OUTLIER_RISE_DB,
            _ => before >= DRUMS_OUTLIER_DB && before - after >= DRUMS_OUTLIER_FALL_DB,
        });
        let calm = fallen >= -OVERDRIVE_RISE;
        !(helped && calm && self.onsets >= LEAST_ONSETS && self.louder_db <= MOST_LOUDER_DB)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Change = Change {
        outlier_db: Some([5.0, 2.5]),
        onsets: 0.95,
        overdrive: [0.5, 0.4],
        louder_db: 0.5,
    };

    #[test]
    fn every_measure_can_make_a_region_fall() {
        for stem in [Stem::Drums, Stem::Bass] {
            assert!(!GOOD.is_worse(stem));
            for worse in [
                Change {
                    outlier_db: Some([5.0, 6.0]),
                    overdrive: [0.5, 0.5],
                    ..GOOD
                },
                Change {
                    outlier_db: None,
                    ..GOOD
                },
                Change {
                    outlier_db: Some([5.0, f32::NAN]),
                    ..GOOD
                },
                Change {
                    onsets: 0.2,
                    ..GOOD
                },
                Change {
                    overdrive: [0.2, 0.6],
                    ..GOOD
                },
                Change {
                    louder_db: 6.0,
                    ..GOOD
                },
            ] {
                assert!(worse.is_worse(stem), "{worse:?}");
            }
        }
        // A kit that sounds like its neighbourhood is sound.
        let sound = Change {
            outlier_db: Some([1.5, 0.5]),
            ..GOOD
        };
        assert!(sound.is_worse(Stem::Drums) && !sound.is_worse(Stem::Bass));
        // A drum kit has to come nearer; a bass plays other notes elsewhere.
        let same = Change {
            outlier_db: Some([5.0, 5.0]),
            overdrive: [0.5, 0.5],
            ..GOOD
        };
        assert!(same.is_worse(Stem::Drums) && !same.is_worse(Stem::Bass));
    }
}
