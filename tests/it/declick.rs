//! Declicking: known clicks in known signals, drums and clipping that are no clicks, and dropouts.

use super::support::{Noise, sdr_db};
use uncook::{
    realtime::{
        Stage,
        declick::{
            Declicker,
            ar::{GapFiller, autocorrelate, levinson},
            latency_samples,
        },
    },
    worker::{progress::Progress, restore},
};

const RATE: f64 = 48_000.0;

/// Steady partials over a quiet noise floor.
fn tones(n: usize, seed: u64) -> Vec<f32> {
    let mut noise = Noise(seed);
    (0..n)
        .map(|i| {
            let t = std::f32::consts::TAU * i as f32 / RATE as f32;
            0.2 * (110.0 * t).sin()
                + 0.15 * (331.0 * t).sin()
                + 0.1 * (874.0 * t).sin()
                + 0.05 * (2411.0 * t).sin()
                + 1e-3 * noise.next()
        })
        .collect()
}

/// Kicks, snares and hats with hard attacks.
fn drums(n: usize) -> Vec<f32> {
    let mut noise = Noise(77);
    let mut x = vec![0.0f32; n];
    for (k, start) in (0..n).step_by(6_000).enumerate() {
        for (i, x) in x[start..].iter_mut().take(12_000).enumerate() {
            let t = i as f32 / RATE as f32;
            *x += match k % 4 {
                0 => {
                    0.7 * (-t * 18.0).exp()
                        * (std::f32::consts::TAU * (50.0 * t + 3.0 * (1.0 - (-t * 60.0).exp())))
                            .sin()
                }
                2 => {
                    0.5 * (-t * 30.0).exp() * noise.next()
                        + 0.3 * (-t * 20.0).exp() * (1200.0 * t).sin()
                }
                _ => 0.25 * (-t * 90.0).exp() * noise.next(),
            };
        }
    }
    x
}

fn run(stage: &mut dyn Stage, x: &[f32], block: usize) -> Vec<f32> {
    let latency = stage.latency();
    let mut buffer = x.to_vec();
    buffer.extend(std::iter::repeat_n(0.0, latency));
    for part in buffer.chunks_mut(block) {
        stage.process(&mut [part]);
    }
    buffer.split_off(latency)
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

/// Adds decaying clicks and says how many.
fn add_clicks(x: &mut [f32], every: usize) -> usize {
    let mut noise = Noise(9);
    let mut count = 0;
    let mut n = 3_000;
    while n + 100 < x.len() {
        let length = 1 + (count * 7) % 24;
        let height = 0.4 + 0.2 * noise.next();
        for i in 0..length {
            let sign = if noise.next() < 0.0 { -1.0 } else { 1.0 };
            x[n + i] += sign * height * (-3.0 * i as f32 / length as f32).exp();
        }
        count += 1;
        n += every + (noise.next() * 200.0) as usize;
    }
    count
}

#[test]
fn clicks_are_found_and_replaced_by_what_was_there() {
    let clean = tones(96_000, 1);
    let mut clicked = clean.clone();
    let count = add_clicks(&mut clicked, 4_000);
    let before = sdr_db(&clean, &clicked);
    let mut stage = Declicker::live(RATE, 1);
    let live = run(&mut stage, &clicked, 64);
    let gain = sdr_db(&clean, &live) - before;
    assert!(gain > 20.0, "live: {gain} dB");
    assert!(
        stage.repairs() as usize >= count,
        "{} of {count}",
        stage.repairs()
    );
    let mut offline = vec![clicked.clone()];
    assert!(restore::declick::restore(
        &mut offline,
        RATE,
        1.0,
        &Progress::new()
    ));
    let gain = sdr_db(&clean, &offline[0]) - before;
    assert!(gain > 20.0, "offline: {gain} dB");
}

#[test]
fn drums_and_clipping_are_left_to_the_bit() {
    let drums = drums(144_000);
    let with_tones: Vec<f32> = drums
        .iter()
        .zip(tones(144_000, 2))
        .map(|(a, b)| a + b)
        .collect();
    let clipped: Vec<f32> = with_tones.iter().map(|x| x.clamp(-0.3, 0.3)).collect();
    let square: Vec<f32> = (0..96_000)
        .map(|i| if (i / 57) % 2 == 0 { 0.4 } else { -0.4 })
        .collect();
    for (name, x) in [
        ("drums", &drums),
        ("drums and tones", &with_tones),
        ("clipped", &clipped),
        ("square", &square),
        ("silence", &vec![0.0; 9_000]),
    ] {
        let out = run(&mut Declicker::live(RATE, 1), x, 256);
        assert_eq!(bits(&out), bits(x), "{name}, live");
        let mut channels = vec![x.clone()];
        assert!(restore::declick::restore(
            &mut channels,
            RATE,
            1.0,
            &Progress::new()
        ));
        assert_eq!(bits(&channels[0]), bits(x), "{name}, offline");
    }
}

#[test]
fn where_it_crackles_doubtful_clicks_count_too_until_it_stops() {
    let clean: Vec<f32> = drums(144_000)
        .iter()
        .zip(tones(144_000, 2))
        .map(|(a, b)| 0.5 * (a + b))
        .collect();
    let mut crackling = clean.clone();
    let count = add_clicks(&mut crackling, 1_900);
    let before = sdr_db(&clean, &crackling);
    let mut stage = Declicker::live(RATE, 1);
    let live = run(&mut stage, &crackling, 512);
    // Without the doubtful ones it is 7.1 dB and 55 of 73.
    let (gain, repairs) = (sdr_db(&clean, &live) - before, stage.repairs());
    assert!(gain > 8.0, "{gain} dB");
    assert!(repairs as usize > count * 4 / 5, "{repairs} of {count}");
    for block in [1, 97, 8192] {
        stage.reset();
        assert_eq!(bits(&run(&mut stage, &crackling, block)), bits(&live));
    }
    // Six seconds later nothing is left of that: as if it had never crackled.
    let mut later = crackling;
    later.extend(clean.iter().chain(&clean));
    let last = later.len() - 40_000..;
    stage.reset();
    let out = run(&mut stage, &later, 512);
    assert_eq!(bits(&out[last.clone()]), bits(&later[last]));
}

#[test]
fn a_few_clicks_a_second_are_found_among_loud_drums() {
    let clean: Vec<f32> = drums(480_000)
        .iter()
        .zip(tones(480_000, 2))
        .map(|(a, b)| 0.5 * (a + b))
        .collect();
    let mut crackling = clean.clone();
    let count = add_clicks(&mut crackling, 16_000);
    let before = sdr_db(&clean, &crackling);
    let mut stage = Declicker::live(RATE, 1);
    let live = sdr_db(&clean, &run(&mut stage, &crackling, 512)) - before;
    let mut channels = vec![crackling];
    assert!(restore::declick::restore(
        &mut channels,
        RATE,
        1.0,
        &Progress::new()
    ));
    let offline = sdr_db(&clean, &channels[0]) - before;
    let repairs = stage.repairs() as usize;
    assert!(
        live > 9.0 && offline > 9.0 && repairs > count * 4 / 5,
        "{live} dB live, {offline} dB offline, {repairs} of {count}"
    );
}

#[test]
fn gap_filler_solves_the_normal_equations() {
    // Against Gaussian elimination on the full least-squares problem.
    let mut x = tones(600, 3);
    let taper: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
    let order = 8;
    let mut r = vec![0.0; order + 1];
    autocorrelate(&taper, &mut r);
    for (lag, &r) in r.iter().enumerate() {
        let naive: f64 = (0..600 - lag).map(|n| taper[n] * taper[n + lag]).sum();
        assert!((r - naive).abs() < 1e-9, "lag {lag}");
    }
    r[0] *= 1.0 + 1e-9;
    let mut a = vec![0.0; order + 1];
    assert!(levinson(&r, &mut a, &mut vec![0.0; order + 1]));
    for i in 1..=order {
        let sum: f64 = (0..=order).map(|k| a[k] * r[i.abs_diff(k)]).sum();
        assert!(sum.abs() < 1e-6 * r[0], "normal equation {i}: {sum}");
    }

    let (start, end) = (200, 217);
    let gap = end - start;
    let mut matrix = vec![vec![0.0f64; gap + 1]; gap];
    for n in start..end + order {
        // Residual n as coefficients of the unknowns and a constant.
        let mut row = vec![0.0f64; gap + 1];
        for (k, &a) in a.iter().enumerate() {
            let at = n - k;
            if (start..end).contains(&at) {
                row[at - start] += a;
            } else {
                row[gap] += a * f64::from(x[at]);
            }
        }
        for i in 0..gap {
            for j in 0..gap {
                matrix[i][j] += row[i] * row[j];
            }
            matrix[i][gap] -= row[i] * row[gap];
        }
    }
    for p in 0..gap {
        for i in p + 1..gap {
            let f = matrix[i][p] / matrix[p][p];
            let pivot = matrix[p].clone();
            for (m, v) in matrix[i].iter_mut().zip(pivot) {
                *m -= f * v;
            }
        }
    }
    let mut truth = vec![0.0f64; gap];
    for i in (0..gap).rev() {
        let known: f64 = (i + 1..gap).map(|j| matrix[i][j] * truth[j]).sum();
        truth[i] = (matrix[i][gap] - known) / matrix[i][i];
    }
    assert!(GapFiller::new(20, order).fill(&mut x, start, end, &a));
    for (i, &t) in truth.iter().enumerate() {
        assert!(
            (f64::from(x[start + i]) - t).abs() < 1e-4,
            "{i}: {} and {t}",
            x[start + i]
        );
    }
}

#[test]
fn any_block_size_gives_the_same_samples_and_reset_forgets() {
    let mut x = tones(30_000, 4);
    add_clicks(&mut x, 2_000);
    let mut stage = Declicker::live(RATE, 1);
    let reference = run(&mut stage, &x, 512);
    assert_ne!(reference, x, "nothing was repaired");
    for block in [1, 64, 97, 8192] {
        stage.reset();
        assert_eq!(
            bits(&run(&mut stage, &x, block)),
            bits(&reference),
            "blocks of {block}"
        );
    }
}

#[test]
fn latency_is_short_and_true_at_every_rate() {
    for rate in [8_000.0, 22_050.0, 44_100.0, 48_000.0, 96_000.0, 192_000.0] {
        let mut stage = Declicker::live(rate, 1);
        stage.set_intensity(0.0);
        stage.reset();
        assert_eq!(stage.latency(), latency_samples(rate));
        if rate >= 44_100.0 {
            assert!(stage.latency() as f64 / rate <= 0.010, "{rate}");
        }
        let mut block = vec![0.0f32; stage.latency() + 10];
        block[3] = -1.0;
        stage.process(&mut [&mut block]);
        let at: Vec<usize> = (0..block.len()).filter(|&n| block[n] != 0.0).collect();
        assert_eq!(at, [3 + stage.latency()], "{rate}");
    }
}

#[test]
fn transparent_at_zero_and_finite_on_anything() {
    let mut x = tones(20_000, 5);
    add_clicks(&mut x, 1_500);
    x[100] = -0.0;
    let mut stage = Declicker::live(RATE, 1);
    stage.set_intensity(0.0);
    stage.reset();
    assert_eq!(bits(&run(&mut stage, &x, 77)), bits(&x));
    for bad in [f32::NAN, f32::INFINITY, f32::MAX, 1e-40] {
        let mut y = x.clone();
        for n in (0..y.len()).step_by(997) {
            y[n] = bad;
        }
        let out = run(&mut Declicker::live(RATE, 1), &y, 64);
        assert!(out.iter().all(|v| v.is_finite()), "{bad}");
        let mut channels = vec![y];
        assert!(restore::declick::restore(
            &mut channels,
            RATE,
            1.0,
            &Progress::new()
        ));
        assert!(channels[0].iter().all(|v| v.is_finite()), "{bad} offline");
    }
}

#[test]
fn dropouts_are_filled_from_both_sides_and_rests_are_not() {
    let clean = tones(60_000, 6);
    let mut holed = clean.clone();
    for (start, length) in [(20_000, 960), (40_000, 2_400)] {
        holed[start..start + length].fill(0.0);
    }
    // A rest: the music fades into silence and comes back softly.
    let rest: Vec<f32> = clean
        .iter()
        .enumerate()
        .map(|(n, x)| x * ((n as f32 - 30_000.0).abs() / 5_000.0 - 0.2).clamp(0.0, 1.0))
        .collect();
    let mut channels = vec![holed, rest.clone()];
    assert!(restore::declick::restore(
        &mut channels,
        RATE,
        1.0,
        &Progress::new()
    ));
    for (start, length) in [(20_000, 960), (40_000, 2_400)] {
        let inside = start..start + length;
        let sdr = sdr_db(&clean[inside.clone()], &channels[0][inside]);
        assert!(sdr > 20.0, "{length} samples: {sdr} dB");
    }
    assert_eq!(channels[1], rest);
    let progress = Progress::new();
    progress.cancel();
    assert!(!restore::declick::restore(
        &mut [clean],
        RATE,
        1.0,
        &progress
    ));
}
