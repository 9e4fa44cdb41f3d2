//! Undoing converter overflow and soft clipping: known damage comes back, innocent signals keep every bit.

use super::support::{Noise, sdr_db};
use uncook::{
    realtime::{
        Stage,
        desaturate::{Desaturator, expand},
        unwrap::{Unwrapper, latency_samples},
    },
    worker::{progress::Progress, restore::undo},
};

const RATE: f64 = 48_000.0;

/// Decaying notes with partials up to the treble and a noisy drum on every beat.
fn music(seconds: f64, rate: f64, seed: u64) -> Vec<f32> {
    let mut noise = Noise(seed);
    let mut out = vec![0.0f32; (seconds * rate) as usize];
    let step = (0.2 * rate) as usize;
    for start in (0..out.len()).step_by(step) {
        let base = 82.0 * f64::from(1.0 + (noise.next() + 1.0) * 1.5);
        let phase = f64::from(noise.next()) * 3.0;
        for (i, x) in out[start..].iter_mut().take(3 * step).enumerate() {
            let t = i as f64 / rate;
            let decay = (-4.0 * t).exp() * (1.0 - (-t * 400.0).exp());
            for partial in 1..=6 {
                let h = f64::from(partial);
                let angle = std::f64::consts::TAU * base * h * t + phase * h;
                *x += (0.3 / h * decay * angle.sin()) as f32;
            }
        }
        let mut low = 0.0;
        for (i, x) in out[start..].iter_mut().take(step / 2).enumerate() {
            low += 0.3 * (noise.next() - low);
            *x += 0.25 * low * (-(i as f32) / (0.02 * rate as f32)).exp();
        }
    }
    let peak = out.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    out.iter().map(|x| x / peak + 1e-4 * noise.next()).collect()
}

fn to_16_bits(x: f32) -> f32 {
    (x * 32768.0).round() / 32768.0
}

/// `x` in a converter that ends at ±`rail`.
fn overflow(x: &[f32], rail: f32) -> Vec<f32> {
    x.iter()
        .map(|v| to_16_bits((v + rail).rem_euclid(2.0 * rail) - rail))
        .collect()
}

fn saturate(x: &[f32], theta: f32) -> Vec<f32> {
    x.iter()
        .map(|v| to_16_bits(theta * (v / theta).tanh()))
        .collect()
}

fn run(stage: &mut dyn Stage, x: &[f32], block: usize) -> Vec<f32> {
    let latency = stage.latency();
    let mut out = x.to_vec();
    out.resize(x.len() + latency, 0.0);
    for block in out.chunks_mut(block) {
        stage.process(&mut [block]);
    }
    out.split_off(latency)
}

fn unwrapped(x: &[f32]) -> Vec<f32> {
    run(&mut Unwrapper::live(RATE, 1), x, 333)
}

fn expanded(x: &[f32]) -> Vec<f32> {
    run(&mut Desaturator::live(RATE, 1), x, 333)
}

fn offline(x: &[f32], what: fn(&mut [Vec<f32>], f64, f32, &Progress) -> bool) -> Vec<f32> {
    let mut channels = vec![x.to_vec()];
    assert!(what(&mut channels, RATE, 1.0, &Progress::new()));
    channels.remove(0)
}

/// Everything that jumps, sticks or crowds without having overflowed or been saturated.
fn innocent() -> Vec<(&'static str, Vec<f32>)> {
    let n = 3 * RATE as usize;
    let mut noise = Noise(5);
    let phase = |hz: f32, i: usize| (hz * i as f32 / RATE as f32).fract();
    let sine = |hz: f32, i: usize| (std::f32::consts::TAU * phase(hz, i)).sin();
    let music = music(3.0, RATE, 3);
    let limited: Vec<f32> = (0..n)
        .map(|i| {
            let around = music[i.saturating_sub(240)..(i + 240).min(n)]
                .iter()
                .fold(0.25, |m: f32, x| m.max(x.abs()));
            music[i] * 0.9 / around
        })
        .collect();
    let mut clicked = music.clone();
    for i in (500..n).step_by(4_000) {
        clicked[i] = if i % 8_000 < 4_000 { 0.99 } else { -0.99 };
        clicked[i + 1] = -clicked[i];
    }
    vec![
        ("silence", vec![0.0; n]),
        ("music", music.clone()),
        ("limited music", limited),
        (
            "clipped music",
            music.iter().map(|x| x.clamp(-0.2, 0.2)).collect(),
        ),
        ("clicked music", clicked),
        ("noise", (0..n).map(|_| noise.next()).collect()),
        ("sine", (0..n).map(|i| 0.9 * sine(97.0, i)).collect()),
        (
            "fast sine",
            (0..n).map(|i| to_16_bits(sine(11_000.0, i))).collect(),
        ),
        (
            "trembling sine",
            (0..n)
                .map(|i| sine(220.0, i) * (0.9 + 0.1 * sine(5.0, i)))
                .collect(),
        ),
        ("saw", (0..n).map(|i| 1.8 * phase(110.0, i) - 0.9).collect()),
        (
            "high saw",
            (0..n).map(|i| 1.8 * phase(3_110.0, i) - 0.9).collect(),
        ),
        (
            "square",
            (0..n).map(|i| 0.7 * sine(311.0, i).signum()).collect(),
        ),
        (
            "high square",
            (0..n).map(|i| 0.7 * sine(2_311.0, i).signum()).collect(),
        ),
        (
            "rounded square",
            (0..n)
                .map(|i| to_16_bits(0.8 * (8.0 * sine(196.0, i)).tanh()))
                .collect(),
        ),
    ]
}

fn same(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

#[test]
fn innocent_signals_keep_every_bit() {
    for (name, x) in innocent() {
        assert!(same(&unwrapped(&x), &x), "{name}, overflow live");
        assert!(same(&expanded(&x), &x), "{name}, saturation live");
        let both = offline(
            &offline(&x, undo::restore_overflow),
            undo::restore_saturation,
        );
        assert!(same(&both, &x), "{name}, offline");
    }
}

#[test]
fn overflow_comes_back_from_the_first_sample_on() {
    for (seed, rail) in [(11, 0.45), (12, 0.6), (13, 0.35)] {
        let clean = music(4.0, RATE, seed);
        let wrapped = overflow(&clean, rail);
        let before = sdr_db(&clean, &wrapped);
        let gains = [
            unwrapped(&wrapped),
            offline(&wrapped, undo::restore_overflow),
        ]
        .map(|x| sdr_db(&clean, &x) - before);
        assert!(
            gains.iter().all(|&g| g > 40.0),
            "rail {rail}: {before} dB before, {gains:?} dB gained"
        );
    }
}

#[test]
fn saturation_is_inverted() {
    for (seed, drive) in [(11, 5.0), (12, 7.0), (13, 10.0)] {
        let clean = music(4.0, RATE, seed);
        let saturated = saturate(&clean, 1.0 / drive);
        let before = sdr_db(&clean, &saturated);
        let gains = [
            expanded(&saturated),
            offline(&saturated, undo::restore_saturation),
        ]
        .map(|x| sdr_db(&clean, &x) - before);
        assert!(
            gains[0] > 4.0 && gains[1] > 6.0,
            "drive {drive}: {before} dB before, {gains:?} dB gained"
        );
    }
}

#[test]
fn the_inverse_is_the_inverse() {
    // Oracle: the curve itself, in double precision.
    for i in -400..=400 {
        let x = f64::from(i) / 100.0;
        let y = 0.3 * x.tanh();
        let back = f64::from(expand(y as f32, 0.3)) / 0.3;
        assert!((back - x).abs() < 2e-3 * x.abs().max(0.01), "{x}: {back}");
    }
    assert!(expand(f32::MAX, 0.3).is_finite());
}

#[test]
fn the_split_into_blocks_changes_nothing_and_bad_input_stays_finite() {
    let clean = music(1.5, RATE, 11);
    for damaged in [overflow(&clean, 0.45), saturate(&clean, 0.1)] {
        let both = |block| {
            let x = run(&mut Unwrapper::live(RATE, 1), &damaged, block);
            run(&mut Desaturator::live(RATE, 1), &x, block)
        };
        let whole = both(usize::MAX);
        assert!(!same(&whole, &damaged));
        for block in [1, 17, 64, 997] {
            assert!(same(&both(block), &whole), "blocks of {block}");
        }
    }
    let bad: Vec<f32> = (0..20_000)
        .map(|i| [f32::NAN, f32::INFINITY, 1e9, -1e9, 0.0, f32::MIN_POSITIVE][i * i % 6])
        .collect();
    for rate in [8_000.0, 48_000.0, 192_000.0] {
        let mut unwrap = Unwrapper::live(rate, 1);
        assert_eq!(unwrap.latency(), latency_samples(rate));
        let out = run(&mut unwrap, &bad, 64);
        let out = run(&mut Desaturator::live(rate, 1), &out, 64);
        assert!(out.iter().all(|x| x.is_finite()), "{rate} Hz");
    }
}

#[test]
fn an_amount_of_zero_changes_nothing() {
    let clean = music(1.5, RATE, 11);
    for damaged in [overflow(&clean, 0.45), saturate(&clean, 0.1)] {
        let mut stages: [Box<dyn Stage>; 2] = [
            Box::new(Unwrapper::live(RATE, 1)),
            Box::new(Desaturator::live(RATE, 1)),
        ];
        for stage in &mut stages {
            stage.set_intensity(0.0);
            stage.reset();
            assert!(same(&run(stage.as_mut(), &damaged, 64), &damaged));
        }
    }
}
