//! Steady-noise reduction: it helps where there is noise and touches nothing where there is none.

use std::f32::consts::PI;

use uncook::{
    realtime::{Stage, denoise::Denoiser},
    worker::{progress::Progress, restore},
};

use super::support::{Noise, sdr_db};

pub const RATE: f64 = 48_000.0;

/// A band: bass and chord with decaying harmonics every half second, kick, snare and hats. Its noise decays.
pub fn band(seconds: f64, rate: f64, seed: u64) -> Vec<f32> {
    let n = (seconds * rate) as usize;
    let mut noise = Noise(seed);
    let mut out = vec![0.0f32; n];
    let beat = (0.5 * rate) as usize;
    let mut high = 0.0f32;
    for (i, y) in out.iter_mut().enumerate() {
        let bar = i / beat;
        let t = (i % beat) as f32 / rate as f32;
        let root = [55.0f32, 65.4, 73.4, 49.0][bar % 4];
        let mut tone = |hz: f32, level: f32, decay: f32| {
            for h in 1..=8 {
                let f = hz * h as f32;
                let phase = 2.0 * PI * (f * i as f32 / rate as f32).fract();
                let bright = (-t * (decay + h as f32)).exp() / h as f32;
                *y += level * bright * phase.sin();
            }
        };
        tone(root, 0.20, 2.0);
        tone(root * 4.0, 0.06, 3.0);
        tone(root * 5.04, 0.06, 3.0);
        tone(root * 6.0, 0.06, 3.0);
        let white = noise.next();
        high = white - high * 0.3;
        let kick = (-t * 25.0).exp() * (2.0 * PI * 60.0 * t).sin();
        let snare = if bar % 2 == 1 {
            (-t * 30.0).exp() * white
        } else {
            0.0
        };
        let eighth = t % 0.25;
        let hat = (-eighth * 60.0).exp() * high;
        *y += 0.4 * kick + 0.15 * snare + 0.05 * hat;
    }
    out
}

fn through(stage: &mut dyn Stage, signal: &[f32]) -> Vec<f32> {
    let mut out = signal.to_vec();
    out.resize(signal.len() + stage.latency(), 0.0);
    for chunk in out.chunks_mut(480) {
        stage.process(&mut [chunk]);
    }
    out.split_off(stage.latency())
}

/// The laws of `Stage` that can be checked from outside, for any stage.
pub fn obeys_the_laws(make: &dyn Fn(f64, usize) -> Box<dyn Stage>, awkward: &[f32]) {
    // Any split of the input, and a run after a reset, give the same bits.
    let split = |sizes: &[usize], stage: &mut dyn Stage| {
        let mut a = awkward.to_vec();
        let mut b: Vec<f32> = awkward.iter().rev().copied().collect();
        let mut at = 0;
        for size in sizes.iter().cycle() {
            let end = (at + size).min(a.len());
            stage.process(&mut [&mut a[at..end], &mut b[at..end]]);
            at = end;
            if at == a.len() {
                break;
            }
        }
        (a, b)
    };
    let mut stage = make(RATE, 2);
    let whole = split(&[awkward.len()], &mut *stage);
    for sizes in [&[64usize][..], &[1, 97, 512, 8192]] {
        stage.reset();
        let parts = split(sizes, &mut *stage);
        assert!(
            whole == parts,
            "depends on blocks or on what was before reset"
        );
    }
    // Intensity 0 returns every bit, -0.0 included.
    let mut stage = make(RATE, 1);
    stage.set_intensity(0.0);
    stage.reset();
    let mut input = awkward.to_vec();
    input[123] = -0.0;
    let out = through(&mut *stage, &input);
    assert!(
        input
            .iter()
            .zip(&out)
            .all(|(a, b)| a.to_bits() == b.to_bits())
    );
    // Nothing makes it produce anything but finite numbers, at any rate.
    for rate in [8000.0, 22_050.0, 44_100.0, 96_000.0, 192_000.0] {
        let mut stage = make(rate, 1);
        assert_eq!(stage.latency(), make(rate, 2).latency());
        let mut wild = awkward[..awkward.len().min(40_000)].to_vec();
        for (i, x) in [f32::NAN, f32::INFINITY, f32::MAX, -f32::MAX, 1e-42, 0.0]
            .into_iter()
            .enumerate()
        {
            wild[5000 + 3000 * i] = x;
        }
        stage.process(&mut [&mut wild]);
        assert!(wild.iter().all(|x| x.is_finite()), "{rate}");
        let mut later = vec![0.25; 30_000];
        stage.process(&mut [&mut later]);
        assert!(later.iter().all(|x| x.is_finite()));
        assert!(later[20_000..].iter().all(|x| x.abs() < 100.0), "{rate}");
    }
}

fn with_noise(clean: &[f32], snr_db: f32, seed: u64) -> Vec<f32> {
    let power: f32 = clean.iter().map(|x| x * x).sum::<f32>() / clean.len() as f32;
    // Uniform noise of half-width a has a²/3.
    let level = (3.0 * power * 10f32.powf(-snr_db / 10.0)).sqrt();
    let mut noise = Noise(seed);
    clean.iter().map(|x| x + level * noise.next()).collect()
}

#[test]
fn keeps_the_laws_of_a_stage() {
    let noisy = with_noise(&band(1.2, RATE, 3), 15.0, 4);
    obeys_the_laws(
        &|rate, channels| Box::new(Denoiser::live(rate, channels)),
        &noisy,
    );
}

#[test]
fn clean_music_comes_back_bit_for_bit() {
    for rate in [44_100.0, 48_000.0] {
        let clean = band(5.0, rate, 1);
        let length = clean.len();
        let faded: Vec<f32> = clean
            .iter()
            .enumerate()
            .map(|(i, x)| x * (1.0 - i as f32 / length as f32).powi(3))
            .collect();
        // An organ holds a chord for ever: steady, but no noise.
        let held: Vec<f32> = (0..length)
            .map(|i| {
                (1..40)
                    .map(|h| {
                        let hz = if h % 2 == 0 { 130.8 } else { 196.0 } * h as f64;
                        let phase = (hz * i as f64 / rate).fract() * std::f64::consts::TAU;
                        (phase.sin() / h as f64) as f32 * 0.2
                    })
                    .sum()
            })
            .collect();
        for (name, signal) in [("band", &clean), ("fade", &faded), ("held", &held)] {
            let out = through(&mut Denoiser::live(rate, 1), signal);
            let same = signal
                .iter()
                .zip(&out)
                .all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "live {name} {rate}: {}", sdr_db(signal, &out));
            let mut offline = vec![signal.clone()];
            assert!(restore::denoise::restore(
                &mut offline,
                rate,
                1.0,
                &Progress::new()
            ));
            assert!(&offline[0] == signal, "offline {name} {rate}");
        }
    }
}

#[test]
fn white_noise_is_reduced_live_and_more_so_offline() {
    for seed in [11, 12] {
        let clean = band(5.0, RATE, seed);
        let noisy = with_noise(&clean, 20.0, seed + 100);
        let before = sdr_db(&clean, &noisy);
        let live = sdr_db(&clean, &through(&mut Denoiser::live(RATE, 1), &noisy)) - before;
        assert!(live > 2.5, "live {live}");
        let mut offline = vec![noisy.clone()];
        assert!(restore::denoise::restore(
            &mut offline,
            RATE,
            1.0,
            &Progress::new()
        ));
        let gain = sdr_db(&clean, &offline[0]) - before;
        assert!(gain > live + 0.2, "offline {gain}, live {live}");
        // Half the amount does less, none does nothing.
        let mut half = vec![noisy.clone()];
        restore::denoise::restore(&mut half, RATE, 0.5, &Progress::new());
        let some = sdr_db(&clean, &half[0]) - before;
        assert!(some > 0.5 && some < gain, "{some}");
        let mut none = vec![noisy.clone()];
        restore::denoise::restore(&mut none, RATE, 0.0, &Progress::new());
        assert!(none[0] == noisy);
    }
}

#[test]
fn a_sustained_note_in_noise_keeps_its_level() {
    let note: Vec<f32> = (0..6 * RATE as usize)
        .map(|i| 0.1 * ((440.0 * i as f64 / RATE).fract() * std::f64::consts::TAU).sin() as f32)
        .collect();
    let noisy = with_noise(&note, 25.0, 5);
    let out = through(&mut Denoiser::live(RATE, 1), &noisy);
    let level = |x: &[f32]| {
        // Amplitude of the note alone: projection on its own phase.
        let from = 4 * RATE as usize;
        let dot: f64 = x[from..]
            .iter()
            .zip(&note[from..])
            .map(|(a, b)| f64::from(a * b))
            .sum();
        let own: f64 = note[from..].iter().map(|b| f64::from(b * b)).sum();
        20.0 * (dot / own).log10()
    };
    assert!(level(&out).abs() < 0.2, "{} dB", level(&out));
    let before = sdr_db(&note, &noisy);
    let gain = sdr_db(&note, &out) - before;
    assert!(gain > 5.0, "{gain}");
}

#[test]
fn a_cancelled_job_says_so() {
    let progress = Progress::new();
    progress.cancel();
    let mut take = vec![band(1.0, RATE, 1)];
    assert!(!restore::denoise::restore(&mut take, RATE, 1.0, &progress));
}
