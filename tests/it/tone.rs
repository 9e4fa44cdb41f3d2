//! Tone and level: equalizer, bandwidth restoration, limiter, against analytic truth.

use std::f64::consts::PI;

use rustfft::{FftPlanner, num_complex::Complex};
use uncook::{
    realtime::{
        Stage,
        bandwidth::{BassRestorer, TrebleRestorer},
        eq::{
            BANDS, CENTERS_HZ, EqMatcher, GraphicEq,
            biquad::{Coefficients, State},
            correction_db,
            spectrum::music_density_db,
        },
        limiter::Limiter,
    },
    worker::{progress::Progress, restore},
};

use super::{
    denoise::{RATE, band, obeys_the_laws},
    support::Noise,
};

/// Gaussian-like noise whose density follows music's average plus `extra_db(hz)`.
fn average_music(seconds: f64, rate: f64, seed: u64, extra_db: impl Fn(f64) -> f64) -> Vec<f32> {
    let n = ((seconds * rate) as usize).next_power_of_two();
    let mut noise = Noise(seed);
    let mut spectrum = vec![Complex::new(0.0f64, 0.0); n];
    for k in 1..n / 2 {
        let hz = k as f64 * rate / n as f64;
        let level = 10f64.powf((music_density_db(hz) + extra_db(hz)) / 20.0);
        let phase = PI * f64::from(noise.next());
        spectrum[k] = Complex::from_polar(level, phase);
        spectrum[n - k] = spectrum[k].conj();
    }
    FftPlanner::new().plan_fft_inverse(n).process(&mut spectrum);
    let power: f64 = spectrum.iter().map(|x| x.re * x.re).sum::<f64>() / n as f64;
    spectrum
        .iter()
        .map(|x| (0.1 * x.re / power.sqrt()) as f32)
        .collect()
}

/// Mean density in dB within a third of an octave around `hz`, by one long transform.
fn density_db(x: &[f32], rate: f64, hz: f64) -> f64 {
    let n = x.len();
    let mut spectrum: Vec<Complex<f64>> =
        x.iter().map(|&v| Complex::new(f64::from(v), 0.0)).collect();
    FftPlanner::new().plan_fft_forward(n).process(&mut spectrum);
    let bin = |f: f64| (f * n as f64 / rate) as usize;
    let (a, b) = (
        bin(hz / 2f64.powf(1.0 / 6.0)),
        bin(hz * 2f64.powf(1.0 / 6.0)),
    );
    let mean = spectrum[a..b].iter().map(|c| c.norm_sqr()).sum::<f64>() / (b - a) as f64;
    10.0 * mean.log10()
}

fn filtered(x: &[f32], sections: &[Coefficients]) -> Vec<f32> {
    let mut states = vec![State::default(); sections.len()];
    x.iter()
        .map(|&v| {
            let mut y = f64::from(v);
            for (s, c) in states.iter_mut().zip(sections) {
                y = s.run(c, y);
            }
            y as f32
        })
        .collect()
}

fn through(stage: &mut dyn Stage, signal: &[f32]) -> Vec<f32> {
    assert_eq!(stage.latency(), 0);
    let mut out = signal.to_vec();
    stage.process(&mut [&mut out]);
    out
}

/// Third-order Butterworth high-pass: a pair with Q = 1 and a real pole.
fn microphone_high_pass(hz: f64, rate: f64) -> [Coefficients; 2] {
    let w = (PI * hz / rate).tan();
    let first = Coefficients {
        b: [1.0 / (1.0 + w), -1.0 / (1.0 + w), 0.0],
        a: [(w - 1.0) / (1.0 + w), 0.0],
    };
    [Coefficients::high_pass(hz, 1.0, rate), first]
}

#[test]
fn filter_formulas_say_what_the_filters_do() {
    let c = [
        Coefficients::bell(1000.0, 2.0, 6.0, RATE),
        Coefficients::low_shelf(200.0, 0.7, -9.0, RATE),
        Coefficients::high_shelf(5000.0, 0.7, 9.0, RATE),
        Coefficients::band_pass(700.0, 1.0, RATE),
    ];
    let mut impulse = vec![0.0f32; 1 << 15];
    impulse[0] = 1.0;
    for section in c {
        let response = filtered(&impulse, &[section]);
        for hz in [60.0, 300.0, 1000.0, 4000.0, 12_000.0] {
            // A slow transform at one frequency.
            let sum: Complex<f64> = response
                .iter()
                .enumerate()
                .map(|(n, &x)| Complex::from_polar(f64::from(x), -2.0 * PI * hz * n as f64 / RATE))
                .sum();
            let measured = 20.0 * sum.norm().log10();
            assert!((measured - section.gain_db(hz, RATE)).abs() < 0.01, "{hz}");
        }
    }
    assert!((c[0].gain_db(1000.0, RATE) - 6.0).abs() < 1e-9);
    assert!((c[1].gain_db(5.0, RATE) + 9.0).abs() < 0.05);
    assert!((c[2].gain_db(22_000.0, RATE) - 9.0).abs() < 0.1);
}

#[test]
fn the_graphic_equalizer_meets_its_bands() {
    let mut eq = GraphicEq::new(RATE, 1);
    let wanted: [f64; BANDS] = std::array::from_fn(|i| 5.0 * (i as f64 * 0.9).sin());
    *eq.gains_db_mut() = wanted;
    for i in 0..BANDS {
        eq.update(i);
    }
    for (hz, gain) in CENTERS_HZ.iter().zip(wanted) {
        assert!(
            (eq.gain_db(*hz) - gain).abs() < 1.0,
            "{hz}: {} for {gain}",
            eq.gain_db(*hz)
        );
    }
}

#[test]
fn corrections_leave_average_music_alone_and_stay_within_limits() {
    let average: [f64; BANDS] = std::array::from_fn(|i| music_density_db(CENTERS_HZ[i]) - 40.0);
    assert_eq!(correction_db(&average), [0.0; BANDS]);
    let mut noise = Noise(1);
    for _ in 0..200 {
        let wild: [f64; BANDS] =
            std::array::from_fn(|i| average[i] + 30.0 * f64::from(noise.next()));
        let correction = correction_db(&wild);
        assert!(correction.iter().all(|c| c.abs() <= 12.0));
        let steepest = correction
            .windows(2)
            .map(|w| (w[1] - w[0]).abs())
            .fold(0.0, f64::max);
        assert!(steepest <= 6.0 + 1e-9, "{steepest}");
    }
}

#[test]
fn a_resonant_recording_comes_closer_to_average() {
    let bump = |hz: f64| 12.0 * (-((hz / 2800.0).log2() / 0.8).powi(2)).exp();
    let damaged = average_music(10.0, RATE, 5, bump);
    let last = damaged.len() / 2..;
    let excess = |x: &[f32]| {
        density_db(x, RATE, 2800.0)
            - density_db(x, RATE, 500.0)
            - (music_density_db(2800.0) - music_density_db(500.0))
    };
    let before = excess(&damaged[last.clone()]);
    assert!((before - 12.0).abs() < 1.5, "{before}");
    let live = through(&mut EqMatcher::live(RATE, 1), &damaged);
    let after = excess(&live[last]);
    assert!(after < 8.0 && after > 1.0, "{after}");
    let mut offline = vec![damaged.clone()];
    assert!(restore::eq::restore(
        &mut offline,
        RATE,
        1.0,
        &Progress::new()
    ));
    let after = excess(&offline[0]);
    assert!(after < 7.5 && after > 1.0, "{after}");
}

#[test]
fn lows_behind_a_high_pass_come_back_and_lows_that_are_there_stay() {
    for (rate, seed) in [(44_100.0, 2), (48_000.0, 3)] {
        let song = average_music(8.0, rate, seed, |_| 0.0);
        let thin = filtered(&song, &microphone_high_pass(180.0, rate));
        let last = song.len() / 2..;
        let loss = |x: &[f32], hz| {
            density_db(&song[last.clone()], rate, hz) - density_db(&x[last.clone()], rate, hz)
        };
        assert!(loss(&thin, 60.0) > 25.0);
        let mut stage = BassRestorer::live(rate, 1);
        let live = through(&mut stage, &thin);
        let found = stage.found().expect("a high-pass is there");
        assert!((found.hz / 180.0).log2().abs() < 0.35, "{found:?}");
        let mut offline = vec![thin.clone()];
        let progress = Progress::new();
        assert!(restore::bandwidth::restore_bass(
            &mut offline,
            rate,
            1.0,
            &progress
        ));
        for out in [&live, &offline[0]] {
            for (hz, most) in [(60.0, 11.0), (80.0, 7.0), (120.0, 5.0), (1000.0, 0.5)] {
                assert!(loss(out, hz).abs() < most, "{hz} Hz: {} dB", loss(out, hz));
            }
        }
        for whole in [&song, &band(6.0, rate, 4)] {
            assert!(&through(&mut BassRestorer::live(rate, 1), whole) == whole);
            let mut offline = vec![whole.clone()];
            restore::bandwidth::restore_bass(&mut offline, rate, 1.0, &progress);
            assert!(&offline[0] == whole);
        }
    }
}

#[test]
fn inverses_mirror_filters_of_every_order() {
    use uncook::realtime::bandwidth::{bass, filter::Butterworth, treble};
    let response = |sections: &[Coefficients], hz: f64| -> f64 {
        sections.iter().map(|c| c.gain_db(hz, RATE)).sum()
    };
    for order in [2, 3, 4] {
        let filter = Butterworth { hz: 180.0, order };
        for hz in [90.0, 120.0, 180.0, 300.0, 2000.0] {
            let loss = bass::loss_db(filter, hz);
            let left = loss - response(&bass::inverse(filter, RATE), hz);
            assert!(
                (-0.2..2.5).contains(&left),
                "high-pass {order}, {hz} Hz: {left}"
            );
        }
    }
    for order in [2, 3, 4, 6] {
        let filter = Butterworth { hz: 9000.0, order };
        for hz in [500.0, 4000.0, 9000.0, 11_000.0] {
            let loss = treble::loss_db(filter, hz, RATE);
            let left = loss - response(&treble::inverse(filter, RATE), hz);
            assert!(
                (-0.2..2.5).contains(&left),
                "low-pass {order}, {hz} Hz: {left}"
            );
        }
    }
}

#[test]
fn lows_and_highs_together_tell_a_microphone_sooner_than_lows_alone() {
    let song = average_music(8.0, RATE, 11, |_| 0.0);
    let thin = filtered(&song, &microphone_high_pass(180.0, RATE));
    let low_pass = [0.541_196, 1.306_563].map(|q| Coefficients::low_pass(9000.0, q, RATE));
    let heard = filtered(&thin, &low_pass);
    let found_at = |x: &[f32]| {
        let mut stage = BassRestorer::live(RATE, 1);
        let mut heard = 0;
        for block in x.chunks(480) {
            stage.process(&mut [&mut block.to_vec()]);
            heard += block.len();
            if stage.found().is_some() {
                return heard as f64 / RATE;
            }
        }
        f64::INFINITY
    };
    let (alone, both) = (found_at(&thin), found_at(&heard));
    assert!((1.4..2.5).contains(&alone), "{alone} s");
    assert!((0.3..0.9).contains(&both), "{both} s");
    // Highs that are gone say nothing of lows that are there.
    let dull = filtered(&song, &low_pass);
    assert_eq!(found_at(&dull), f64::INFINITY);
}

#[test]
fn highs_behind_a_low_pass_come_back_and_highs_that_are_there_stay() {
    let progress = Progress::new();
    for (rate, seed) in [(44_100.0, 2), (48_000.0, 3)] {
        let song = average_music(8.0, rate, seed, |_| 0.0);
        let dull = filtered(
            &song,
            &[
                Coefficients::low_pass(8000.0, 0.541_196, rate),
                Coefficients::low_pass(8000.0, 1.306_563, rate),
            ],
        );
        let last = song.len() / 2..;
        let loss = |x: &[f32], hz| {
            density_db(&song[last.clone()], rate, hz) - density_db(&x[last.clone()], rate, hz)
        };
        assert!(loss(&dull, 15_000.0) > 20.0);
        let mut stage = TrebleRestorer::live(rate, 1);
        let live = through(&mut stage, &dull);
        let found = stage.found().expect("a low-pass is there");
        assert!((found.hz / 8000.0).log2().abs() < 0.35, "{found:?}");
        let mut offline = vec![dull.clone()];
        assert!(restore::bandwidth::restore_treble(
            &mut offline,
            rate,
            1.0,
            &progress
        ));
        for out in [&live, &offline[0]] {
            for (hz, most) in [
                (1000.0, 0.5),
                (9000.0, 5.0),
                (12_000.0, 7.0),
                (15_000.0, 10.0),
            ] {
                assert!(loss(out, hz).abs() < most, "{hz} Hz: {} dB", loss(out, hz));
            }
        }
        assert!(through(&mut TrebleRestorer::live(rate, 1), &song) == song);
        let mut offline = vec![song.clone()];
        restore::bandwidth::restore_treble(&mut offline, rate, 1.0, &progress);
        assert!(offline[0] == song);
    }
}

#[test]
fn highs_that_a_codec_cut_off_are_filled_with_a_copy_at_music_level() {
    let cut = |hz: f64| if hz > 11_000.0 { -120.0 } else { 0.0 };
    let song = average_music(8.0, RATE, 9, cut);
    let out = through(&mut TrebleRestorer::live(RATE, 1), &song);
    let last = song.len() / 2..;
    for hz in [13_500.0, 18_000.0] {
        let level =
            density_db(&out[last.clone()], RATE, hz) - density_db(&out[last.clone()], RATE, 4000.0);
        let wanted = music_density_db(hz) - music_density_db(4000.0);
        assert!(
            level - wanted > -12.0 && level - wanted < 3.0,
            "{hz}: {}",
            level - wanted
        );
    }
}

#[test]
fn tone_stages_keep_the_laws() {
    let mut thin = filtered(&band(4.0, RATE, 8), &microphone_high_pass(200.0, RATE));
    thin = filtered(&thin, &[Coefficients::low_pass(7000.0, 0.7, RATE); 3]);
    obeys_the_laws(
        &|rate, channels| Box::new(EqMatcher::live(rate, channels)),
        &thin,
    );
    obeys_the_laws(
        &|rate, channels| Box::new(BassRestorer::live(rate, channels)),
        &thin,
    );
    obeys_the_laws(
        &|rate, channels| Box::new(TrebleRestorer::live(rate, channels)),
        &thin,
    );
}

/// True peak in dB at sixteen times the rate, by zero-padding the spectrum: exact but for the ends,
/// which are left out.
fn true_peak_db(x: &[f32]) -> f64 {
    let (n, up) = (x.len(), 16);
    let mut spectrum: Vec<Complex<f64>> =
        x.iter().map(|&v| Complex::new(f64::from(v), 0.0)).collect();
    let mut planner = FftPlanner::new();
    planner.plan_fft_forward(n).process(&mut spectrum);
    let mut wide = vec![Complex::new(0.0, 0.0); n * up];
    wide[..n / 2].copy_from_slice(&spectrum[..n / 2]);
    let end = wide.len();
    wide[end - (n / 2 - 1)..].copy_from_slice(&spectrum[n / 2 + 1..]);
    wide[n / 2] = spectrum[n / 2] * 0.5;
    wide[end - n / 2] = spectrum[n / 2] * 0.5;
    planner.plan_fft_inverse(n * up).process(&mut wide);
    let margin = 256 * up;
    let peak = wide[margin..end - margin]
        .iter()
        .map(|c| c.re.abs())
        .fold(0.0, f64::max);
    20.0 * (peak / n as f64).log10()
}

/// True peak in dB at sixteen times the rate as meters read it: a sinc of ten samples to each side under
/// a Kaiser window (β = 5). Signals with energy up to Nyquist have no finite truth.
fn metered_peak_db(x: &[f32]) -> f64 {
    let bessel = |x: f64| {
        let (mut sum, mut term) = (1.0, 1.0);
        for k in 1..30 {
            term *= (x / (2.0 * f64::from(k))).powi(2);
            sum += term;
        }
        sum
    };
    let mut peak = 0.0f64;
    for phase in 0..16 {
        let offset = f64::from(phase) / 16.0;
        let taps: Vec<f64> = (-9..=10)
            .map(|k| {
                let t = f64::from(k) - offset;
                let sinc = if t == 0.0 {
                    1.0
                } else {
                    (PI * t).sin() / (PI * t)
                };
                let inside = (1.0 - (t / 10.0).powi(2)).max(0.0);
                sinc * bessel(5.0 * inside.sqrt()) / bessel(5.0)
            })
            .collect();
        for window in x.windows(taps.len()) {
            let y: f64 = window
                .iter()
                .zip(&taps)
                .map(|(a, b)| f64::from(*a) * b)
                .sum();
            peak = peak.max(y.abs());
        }
    }
    20.0 * peak.log10()
}

fn limited(wet: &[f32], dry: &[f32], ceiling_db: f32, rate: f64) -> (Vec<f32>, f32) {
    let mut limiter = Limiter::live(rate, 1);
    limiter.set_ceiling_db(ceiling_db);
    let (mut out, mut dry) = (wet.to_vec(), dry.to_vec());
    let reduction = limiter.process(&mut [&mut out], &mut [&mut dry]);
    (out, reduction)
}

#[test]
fn limited_signals_keep_the_ceiling_between_the_samples() {
    let n = 1 << 14;
    let mut noise = Noise(3);
    let clipped: Vec<f32> = (0..n)
        .map(|_| (3.0 * noise.next()).clamp(-1.5, 1.5))
        .collect();
    let impulses: Vec<f32> = (0..n)
        .map(|i| match i % 1500 {
            700 => 4.0,
            701 if i > 8000 => 4.0,
            _ => 0.0,
        })
        .collect();
    let quarter: Vec<f32> = (0..n)
        .map(|i| {
            let swell = 2.0 * (PI * i as f64 / n as f64).sin();
            (swell * (PI / 2.0 * i as f64 + PI / 4.0).sin()) as f32
        })
        .collect();
    let third: Vec<f32> = (0..n)
        .map(|i| (1.8 * (2.0 * PI / 3.0 * i as f64 + 0.5).sin()) as f32)
        .collect();
    let kick: Vec<f32> = (0..n)
        .map(|i| {
            let t = (i % 4000) as f64 / RATE;
            (3.0 * (-t * 30.0).exp() * (2.0 * PI * 70.0 * t).sin()) as f32
        })
        .collect();
    for rate in [44_100.0, 48_000.0] {
        let (out, _) = limited(&clipped, &vec![0.0; n], -1.0, rate);
        let after = metered_peak_db(&out);
        assert!(after <= -0.9, "clipped noise at {rate}: {after} dBTP");
    }
    let band_limited = filtered(&clipped, &[Coefficients::low_pass(0.4, 0.7, 1.0); 2]);
    for (name, signal) in [
        ("band-limited clipped noise", band_limited),
        ("impulses", impulses),
        ("quarter of the rate", quarter),
        ("third of the rate", third),
        ("kick", kick),
    ] {
        for rate in [44_100.0, 48_000.0, 96_000.0] {
            let (out, reduction) = limited(&signal, &vec![0.0; n], -1.0, rate);
            let before = true_peak_db(&signal);
            let after = true_peak_db(&out);
            assert!(
                before > 1.0 && reduction > 1.0,
                "{name}: {before} {reduction}"
            );
            assert!(after <= -0.9, "{name} at {rate}: {after} dBTP");
            assert!(
                after > -4.0,
                "{name} at {rate}: needlessly low, {after} dBTP"
            );
        }
    }
}

#[test]
fn what_came_in_loud_or_stays_below_is_only_delayed() {
    let mut noise = Noise(4);
    let loud: Vec<f32> = (0..9000).map(|_| 1.4 * noise.next()).collect();
    let mut quiet: Vec<f32> = loud.iter().map(|x| x * 0.2).collect();
    quiet[77] = -0.0;
    for (wet, dry) in [(&loud, &loud), (&quiet, &loud), (&quiet, &vec![0.0; 9000])] {
        let (out, reduction) = limited(wet, dry, -1.0, RATE);
        let latency = Limiter::live(RATE, 1).latency();
        assert_eq!(reduction, 0.0);
        assert!(out[..latency].iter().all(|x| x.to_bits() == 0));
        let same = wet
            .iter()
            .zip(&out[latency..])
            .all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same);
    }
    // Changed: the ceiling holds, however loud the input was.
    let louder: Vec<f32> = loud.iter().map(|x| x * 2.0).collect();
    let (out, reduction) = limited(&louder, &loud, -1.0, RATE);
    assert!(reduction > 6.0, "{reduction}");
    let after = metered_peak_db(&out);
    // Noise up to Nyquist, where eight points a sample under-read by up to 0.17 dB.
    assert!(after <= -0.8, "{after} dBTP");
    assert!(after > -4.0, "needlessly low: {after} dBTP");
}

#[test]
fn the_limiter_does_not_depend_on_blocks_and_delays_when_off() {
    let mut noise = Noise(6);
    let wet: Vec<f32> = (0..20_000)
        .map(|i| 2.0 * noise.next() * ((i / 3000) % 2) as f32)
        .collect();
    let dry = vec![0.0f32; wet.len()];
    let (whole, _) = limited(&wet, &dry, -1.0, RATE);
    let mut limiter = Limiter::live(RATE, 1);
    // Dirty it, then reset.
    limiter.process(&mut [&mut [3.0; 5000]], &mut [&mut [0.0; 5000]]);
    limiter.reset();
    let (mut parts, mut own) = (wet.clone(), dry.clone());
    let mut at = 0;
    for size in [1, 64, 97, 512, 8192].into_iter().cycle() {
        let end = (at + size).min(parts.len());
        limiter.process(&mut [&mut parts[at..end]], &mut [&mut own[at..end]]);
        at = end;
        if at == parts.len() {
            break;
        }
    }
    assert!(whole == parts);
    limiter.reset();
    limiter.set_enabled(false);
    let (mut off, mut own) = (wet.clone(), wet.clone());
    limiter.process(&mut [&mut off], &mut [&mut own]);
    assert!(off[limiter.latency()..] == wet[..wet.len() - limiter.latency()]);
    assert!(off == own);
    let mut wild = vec![f32::NAN, f32::INFINITY, f32::MAX, 1.0, -1.0];
    wild.resize(4000, 0.1);
    limiter.set_enabled(true);
    let mut own = wild.clone();
    limiter.process(&mut [&mut wild], &mut [&mut own]);
    assert!(wild.iter().chain(&own).all(|x| x.is_finite()));
}
