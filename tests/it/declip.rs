//! Declipping: known signals clipped at known levels, and clean signals that must not be touched.

use super::support::{Noise, sdr_db};
use uncook::{
    realtime::{
        Stage,
        declip::{
            Declipper, latency_samples,
            level::LevelTracker,
            spade::{Frame, Schedule, Spade},
        },
    },
    worker::{progress::Progress, restore},
};

const RATE: f64 = 48_000.0;

/// Notes of a few decaying partials, one every 0.2 s, with a little noise: a stand-in for music.
fn music(seconds: f64, rate: f64, seed: u64) -> Vec<f32> {
    let mut noise = Noise(seed);
    let mut out = vec![0.0f32; (seconds * rate) as usize];
    let step = (0.2 * rate) as usize;
    for start in (0..out.len()).step_by(step) {
        let base = 110.0 * f64::from(1.0 + (noise.next() + 1.0) * 1.5);
        let phase = f64::from(noise.next()) * 3.0;
        for (i, x) in out[start..].iter_mut().take(3 * step).enumerate() {
            let t = i as f64 / rate;
            let decay = (-4.0 * t).exp() * (1.0 - (-t * 400.0).exp());
            for partial in 1..=5 {
                let h = f64::from(partial);
                *x += (0.3 / h * decay * (std::f64::consts::TAU * base * h * t + phase * h).sin())
                    as f32;
            }
        }
    }
    out.iter().map(|x| x + 1e-4 * noise.next()).collect()
}

fn clip(x: &[f32], low: f32, high: f32) -> Vec<f32> {
    x.iter().map(|v| v.clamp(low, high)).collect()
}

/// Runs `stage` over equal-length channels in blocks of `block` samples and takes the latency off.
fn run(stage: &mut dyn Stage, channels: &[Vec<f32>], block: usize) -> Vec<Vec<f32>> {
    let latency = stage.latency();
    let mut buffers: Vec<Vec<f32>> = channels.to_vec();
    for buffer in &mut buffers {
        buffer.extend(std::iter::repeat_n(0.0, latency));
    }
    let length = buffers[0].len();
    for start in (0..length).step_by(block) {
        let end = (start + block).min(length);
        let mut views: Vec<&mut [f32]> = buffers.iter_mut().map(|b| &mut b[start..end]).collect();
        stage.process(&mut views);
    }
    buffers.iter().map(|b| b[latency..].to_vec()).collect()
}

fn live(x: &[f32]) -> Vec<f32> {
    run(&mut Declipper::live(RATE, 1), &[x.to_vec()], 512).remove(0)
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

/// Signals that look like clipping in one respect or another, and are not.
fn innocent() -> Vec<(&'static str, Vec<f32>)> {
    let n: usize = 96_000;
    let mut noise = Noise(5);
    let sine = |hz: f32, n: usize| (std::f32::consts::TAU * hz * n as f32 / RATE as f32).sin();
    let to_16_bits = |x: f32| (x * 32767.0).round() / 32768.0;
    let music = music(2.0, RATE, 3);
    let peak = music.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    // A peak limiter: the gain falls before each peak and brings it exactly to the ceiling.
    let limited: Vec<f32> = (0..n)
        .map(|i: usize| {
            let around = music[i.saturating_sub(240)..(i + 240).min(n)]
                .iter()
                .fold(0.25 * peak, |m, x| m.max(x.abs()));
            music[i] * 0.25 / around
        })
        .collect();
    vec![
        ("silence", vec![0.0; n]),
        ("music", music.clone()),
        (
            "music in 16 bits",
            music.iter().map(|&x| to_16_bits(x / peak)).collect(),
        ),
        ("limited music", limited),
        ("full-scale noise", (0..n).map(|_| noise.next()).collect()),
        (
            "low sine in 16 bits",
            (0..n).map(|i| to_16_bits(sine(41.0, i))).collect(),
        ),
        (
            "quiet sine in 16 bits",
            (0..n).map(|i| to_16_bits(0.004 * sine(220.0, i))).collect(),
        ),
        (
            "square",
            (0..n).map(|i| 0.5 * sine(311.0, i).signum()).collect(),
        ),
        (
            "soft square in 16 bits",
            (0..n)
                .map(|i| to_16_bits(0.8 * (8.0 * sine(196.0, i)).tanh()))
                .collect(),
        ),
    ]
}

#[test]
fn clean_signals_come_back_to_the_bit() {
    for (name, x) in innocent() {
        assert_eq!(bits(&live(&x)), bits(&x), "{name}, live");
        let mut channels = vec![x.clone()];
        assert!(restore::declip::restore(
            &mut channels,
            RATE,
            1.0,
            &Progress::new()
        ));
        assert_eq!(bits(&channels[0]), bits(&x), "{name}, offline");
    }
}

#[test]
fn restores_clipped_music_and_keeps_reliable_samples() {
    let clean = music(3.0, RATE, 11);
    let peak = clean.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    for (low, high) in [(-0.3, 0.3), (-0.5, 0.5), (-0.25, 0.6)] {
        let (low, high) = (low * peak, high * peak);
        let clipped = clip(&clean, low, high);
        let before = sdr_db(&clean, &clipped);
        let restored = live(&clipped);
        let mut offline = vec![clipped.clone()];
        assert!(restore::declip::restore(
            &mut offline,
            RATE,
            1.0,
            &Progress::new()
        ));
        let gains = [&restored, &offline[0]].map(|x| sdr_db(&clean, x) - before);
        assert!(
            gains[0] > 5.5 && gains[1] > 9.0,
            "{low}..{high}: {gains:?} dB"
        );
        for out in [&restored, &offline[0]] {
            for (&y, &x) in clipped.iter().zip(out) {
                // Nearer to the level a flat sample counts as clipped: levels drift.
                if y > low * 0.96 && y < high * 0.96 {
                    assert_eq!(x.to_bits(), y.to_bits(), "a reliable sample moved");
                } else if y >= high * 0.999 {
                    assert!(x >= y - 1e-6, "a clipped sample fell below its level");
                } else if y <= low * 0.999 {
                    assert!(x <= y + 1e-6, "a clipped sample fell below its level");
                }
            }
        }
    }
}

#[test]
fn levels_are_found_blind_on_each_side_and_followed() {
    let clean = music(3.0, RATE, 21);
    let peak = clean.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    // The whole drifts by −0.2 dB a second after it was clipped, as behind an automatic gain.
    let (low, high) = (-0.4 * peak, 0.55 * peak);
    let mut tracker = LevelTracker::new(RATE);
    let mut checked = 0;
    for (n, &x) in clip(&clean, low, high).iter().enumerate() {
        let gain = 10f32.powf(-0.2 * n as f32 / RATE as f32 / 20.0);
        tracker.push(x * gain);
        if n > 24_000 {
            let levels = tracker.levels();
            let (Some(up), Some(down)) = (levels.positive, levels.negative) else {
                panic!("no level at {n}");
            };
            // Between two flat tops a second may pass: 0.2 dB of drift.
            assert!(
                (up / (high * gain) - 1.0).abs() < 0.03,
                "{up} for {}",
                high * gain
            );
            assert!(
                (down / (-low * gain) - 1.0).abs() < 0.03,
                "{down} for {}",
                -low * gain
            );
            checked += 1;
        }
    }
    assert!(checked > 100_000);
}

#[test]
fn kernel_nears_a_sparse_signal_consistently() {
    // Two bins of a 512-point frame, clipped on both sides: the sparsest consistent signal is the truth.
    // The schedule passes its sparsity by, so it is neared, not reached.
    let n = 512;
    let truth: Vec<f32> = (0..n)
        .map(|i| {
            let w = std::f32::consts::TAU * i as f32 / n as f32;
            (5.0 * w).sin() + 0.4 * (23.0 * w + 1.0).cos()
        })
        .collect();
    let level = 0.8;
    let mut frame = Frame::new(n);
    for (i, &x) in truth.iter().enumerate() {
        let y = x.clamp(-level, level);
        frame.solution[i] = y;
        frame.lower[i] = if x <= -level { -10.0 } else { y };
        frame.upper[i] = if x >= level { 10.0 } else { y };
    }
    let schedule = Schedule {
        first: 1,
        growth: 1.05,
        tolerance: 1e-3,
        max_iterations: 200,
    };
    let mut spade = Spade::new(n);
    spade.begin(&mut frame, &schedule);
    while !frame.is_done() {
        spade.iterate(&mut frame, &schedule);
    }
    let clipped: Vec<f32> = truth.iter().map(|x| x.clamp(-level, level)).collect();
    let gain = sdr_db(&truth, &frame.solution) - sdr_db(&truth, &clipped);
    assert!(gain > 15.0, "{gain} dB");
    for ((&x, &lower), &upper) in frame.solution.iter().zip(&frame.lower).zip(&frame.upper) {
        assert!(lower <= x && x <= upper);
    }
}

#[test]
fn any_block_size_gives_the_same_samples() {
    let left = clip(&music(1.0, RATE, 31), -0.15, 0.15);
    let right = clip(&music(1.0, RATE, 32), -0.12, 0.2);
    let reference = run(
        &mut Declipper::live(RATE, 2),
        &[left.clone(), right.clone()],
        512,
    );
    assert_ne!(reference[0], left, "nothing was restored");
    for block in [1, 64, 97, 8192] {
        let again = run(
            &mut Declipper::live(RATE, 2),
            &[left.clone(), right.clone()],
            block,
        );
        for (a, b) in reference.iter().zip(&again) {
            assert_eq!(bits(a), bits(b), "blocks of {block}");
        }
    }
    // Each channel stands alone, whether it is worked on once or twice; a reset forgets everything.
    let mut stage = Declipper::live(RATE, 2);
    for _ in 0..2 {
        let twins = run(&mut stage, &[left.clone(), left.clone()], 100);
        assert_eq!(bits(&twins[0]), bits(&reference[0]));
        assert_eq!(bits(&twins[1]), bits(&reference[0]));
        stage.reset();
    }
}

#[test]
fn delay_is_the_reported_latency_at_every_rate() {
    for rate in [8_000.0, 22_050.0, 44_100.0, 48_000.0, 96_000.0, 192_000.0] {
        let mut stage = Declipper::live(rate, 1);
        assert_eq!(stage.latency(), latency_samples(rate));
        assert!(stage.latency() as f64 / rate <= 0.0601, "{rate}");
        let mut block = vec![0.0f32; stage.latency() + 10];
        block[3] = 1.0;
        stage.process(&mut [&mut block]);
        let at: Vec<usize> = (0..block.len()).filter(|&n| block[n] != 0.0).collect();
        assert_eq!(at, [3 + stage.latency()], "{rate}");
    }
}

#[test]
fn transparent_at_zero_and_finite_on_anything() {
    let mut x = clip(&music(0.5, RATE, 41), -0.1, 0.1);
    x[100] = -0.0;
    let mut stage = Declipper::live(RATE, 1);
    stage.set_intensity(0.0);
    stage.reset();
    assert_eq!(bits(&run(&mut stage, &[x.clone()], 77)[0]), bits(&x));

    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-40] {
        let mut y = x.clone();
        for n in (0..y.len()).step_by(997) {
            y[n] = bad;
        }
        assert!(live(&y).iter().all(|v| v.is_finite()), "{bad}");
        let mut channels = vec![y];
        assert!(restore::declip::restore(
            &mut channels,
            RATE,
            1.0,
            &Progress::new()
        ));
        assert!(channels[0].iter().all(|v| v.is_finite()), "{bad} offline");
    }
}

#[test]
fn offline_stops_when_cancelled_and_treats_twins_alike() {
    let x = clip(&music(1.0, RATE, 51), -0.1, 0.1);
    let progress = Progress::new();
    progress.cancel();
    assert!(!restore::declip::restore(
        &mut [x.clone()],
        RATE,
        1.0,
        &progress
    ));
    let mut twins = vec![x.clone(), x.clone()];
    let mut one = vec![x.clone()];
    assert!(restore::declip::restore(
        &mut twins,
        RATE,
        1.0,
        &Progress::new()
    ));
    assert!(restore::declip::restore(
        &mut one,
        RATE,
        1.0,
        &Progress::new()
    ));
    assert_eq!(twins, vec![one[0].clone(), one[0].clone()]);
    let mut untouched = vec![x.clone()];
    assert!(restore::declip::restore(
        &mut untouched,
        RATE,
        0.0,
        &Progress::new()
    ));
    assert_eq!(untouched[0], x);
}
