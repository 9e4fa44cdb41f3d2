// [worker] Synthesized drums for classes of which the recording has no usable hit, tuned to what it has.

use super::{
    super::{Random, Scene, spectra::Spectra},
    Hit, Voice, band_of, learn, length_seconds,
};
use crate::profile::DrumClass;
use realfft::num_complex::Complex32;
use std::f64::consts::TAU;

/// Variants a class, for repeats that differ.
const VARIANTS: usize = 3;
/// Error of a made voice as a share of its power: right in shape, unknown in phase and detail.
const MADE_ERROR: f32 = 1.5;

/// Voices for `class`, tuned and shaped by the stem's hits of the class, however damaged.
pub(super) fn make(
    scene: &Scene,
    spectra: &mut Spectra,
    all: &[Hit],
    class: DrumClass,
    random: &mut Random,
) -> Vec<Voice> {
    let profile = mean_spectrum(scene, spectra, all, class);
    let pitch = pitch(&profile, scene.rate / spectra.n as f64, class);
    let level = typical_level(scene, all, class);
    (0..VARIANTS)
        .map(|variant| {
            let pre = (0.002 * scene.rate) as usize;
            let len = pre + (length_seconds(class) * scene.rate) as usize;
            let mut audio = vec![0.0f32; len];
            sound(
                class,
                scene.rate,
                pitch * (1.0 + 0.01 * (variant as f64 - 1.0)),
                random,
                &mut audio[pre..],
            );
            // Heads and metal take the recording's colour; a kick is all in its sweep.
            if class != DrumClass::Kick {
                colour(spectra, &profile, &mut audio);
            }
            learn::shape(&mut audio, pre);
            let head = (pre + (0.06 * scene.rate) as usize).min(len);
            let own: f32 = audio[..head].iter().map(|v| v * v).sum::<f32>();
            let gain = level * (head as f32 / own.max(1e-12)).sqrt();
            for v in &mut audio {
                *v *= gain;
            }
            let doubt = audio.iter().map(|v| v * MADE_ERROR.sqrt()).collect();
            Voice {
                audio,
                doubt,
                pre,
                velocity: 0.7,
            }
        })
        .collect()
}

/// Mean power spectrum of the first 50 ms of the class's hits (at most 32).
fn mean_spectrum(scene: &Scene, spectra: &mut Spectra, all: &[Hit], class: DrumClass) -> Vec<f32> {
    let mut mean = vec![0.0f32; spectra.bins()];
    let mut row = vec![Complex32::default(); spectra.bins()];
    for h in all.iter().filter(|h| h.class == class).take(32) {
        for i in 0..4 {
            let start = h.at as i64 + i * spectra.hop as i64 - spectra.n as i64 / 4;
            spectra.analyse(&scene.x, start, &mut row);
            for (m, r) in mean.iter_mut().zip(&row) {
                *m += r.norm_sqr();
            }
        }
    }
    mean
}

/// Root mean square of the class's hits over their first 60 ms.
fn typical_level(scene: &Scene, all: &[Hit], class: DrumClass) -> f32 {
    let (mut sum, mut count) = (0.0f64, 0usize);
    for h in all.iter().filter(|h| h.class == class).take(64) {
        let start = h.at as i64;
        for v in scene.cut(start, start + (0.06 * scene.rate) as i64) {
            sum += f64::from(v) * f64::from(v);
            count += 1;
        }
    }
    // Metal is a small part of what sounds when it is struck together with a drum.
    let share = if band_of(class) == 2 { 0.1 } else { 1.0 };
    (share * (sum / count.max(1) as f64).sqrt()) as f32
}

/// Pitch of the drum's lowest mode by the spectrum's peak in the range that such drums have, Hz.
fn pitch(profile: &[f32], bin_hz: f64, class: DrumClass) -> f64 {
    let (low, high, usual) = match class {
        DrumClass::Kick => (38.0, 100.0, 55.0),
        DrumClass::Snare => (140.0, 300.0, 190.0),
        DrumClass::Tom => (70.0, 240.0, 120.0),
        _ => return 320.0,
    };
    let mut best = (usual, 0.0f32);
    for (i, &p) in profile.iter().enumerate() {
        let hz = i as f64 * bin_hz;
        if hz >= low && hz <= high && p > best.1 {
            best = (hz, p);
        }
    }
    best.0
}

/// Writes the class's raw sound.
fn sound(class: DrumClass, rate: f64, pitch: f64, random: &mut Random, out: &mut [f32]) {
    // Ratios of an ideal membrane's first modes (Rayleigh), and of metal plates as in analogue hats
    // (six inharmonic squares).
    const HEAD: [f64; 5] = [1.0, 1.594, 2.136, 2.296, 2.653];
    const METAL: [f64; 6] = [1.0, 1.304, 1.466, 1.787, 1.932, 2.536];
    let decay = |t: f64, tau: f64| (-t / tau).exp();
    let mut phases = [0.0f64; 6];
    let mut old = 0.0f64;
    for (n, o) in out.iter_mut().enumerate() {
        let t = n as f64 / rate;
        let noise = f64::from(random.next());
        let bright = noise - old;
        old = noise;
        let mut modes = |ratios: &[f64], base: f64, tau: f64| -> f64 {
            ratios
                .iter()
                .zip(phases.iter_mut())
                .enumerate()
                .map(|(i, (ratio, phase))| {
                    let hz = base * ratio;
                    *phase += hz / rate;
                    if hz < 0.45 * rate {
                        (*phase * TAU).sin() * decay(t, tau / ratio) / (i + 1) as f64
                    } else {
                        0.0
                    }
                })
                .sum()
        };
        *o = match class {
            DrumClass::Kick => {
                let sweep = pitch * (1.0 + 3.0 * decay(t, 0.012));
                modes(&[1.0], sweep, 0.16) + 0.15 * bright * decay(t, 0.003)
            }
            DrumClass::Snare => 0.5 * modes(&HEAD, pitch, 0.09) + 0.4 * bright * decay(t, 0.1),
            DrumClass::Tom => {
                let sweep = pitch * (1.0 + 0.3 * decay(t, 0.03));
                modes(&HEAD, sweep, 0.25) + 0.1 * bright * decay(t, 0.005)
            }
            DrumClass::HihatClosed => metal(&mut modes, &METAL, bright, decay(t, 0.035)),
            DrumClass::HihatOpen => metal(&mut modes, &METAL, bright, decay(t, 0.25)),
            DrumClass::Ride => metal(
                &mut modes,
                &METAL,
                bright,
                0.6 * decay(t, 0.4) + 0.4 * decay(t, 0.03),
            ),
            DrumClass::Crash => metal(&mut modes, &METAL, bright, decay(t, 0.6)),
        } as f32;
    }
}

/// Inharmonic partials over noise, with an envelope.
fn metal(
    modes: &mut impl FnMut(&[f64], f64, f64) -> f64,
    ratios: &[f64],
    bright: f64,
    envelope: f64,
) -> f64 {
    (0.3 * modes(ratios, 2900.0, 10.0) + bright) * envelope
}

/// Gives `audio` the power spectrum of `profile`, smoothed over a third of an octave.
fn colour(spectra: &mut Spectra, profile: &[f32], audio: &mut [f32]) {
    let bins = spectra.bins();
    let mut row = vec![Complex32::default(); bins];
    let mut own = vec![0.0f32; bins];
    for start in spectra.starts(audio.len()) {
        spectra.analyse(audio, start, &mut row);
        for (o, r) in own.iter_mut().zip(&row) {
            *o += r.norm_sqr();
        }
    }
    let wide = |v: &[f32], i: usize| -> f32 {
        let (a, b) = (
            (i as f64 * 0.89) as usize,
            (i as f64 * 1.12).ceil() as usize + 1,
        );
        let part = &v[a.min(bins - 1)..b.min(bins)];
        part.iter().sum::<f32>() / part.len().max(1) as f32
    };
    let total = |v: &[f32]| v.iter().sum::<f32>().max(1e-12);
    let scale = total(&own) / total(profile);
    let gains: Vec<f32> = (0..bins)
        .map(|i| {
            (wide(profile, i) * scale / wide(&own, i).max(1e-12))
                .sqrt()
                .clamp(0.03, 8.0)
        })
        .collect();
    let mut coloured = vec![0.0; audio.len()];
    for start in spectra.starts(audio.len()) {
        spectra.analyse(audio, start, &mut row);
        for (r, g) in row.iter_mut().zip(&gains) {
            *r *= g;
        }
        spectra.add(&row, start, &mut coloured);
    }
    audio.copy_from_slice(&coloured);
}
