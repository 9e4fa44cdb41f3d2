//! The separators that are built in, on songs whose stems are known because they are made here.

use uncook::{
    audio::AudioBuffer,
    damage::Stem,
    separation::{SeparationError, Separator, Stems, learned::Learned, spectral::Spectral},
    worker::progress::Progress,
};

use super::support::Noise;

fn separate(mix: &AudioBuffer) -> Stems {
    Spectral.separate(mix, &Progress::new()).unwrap()
}

/// Both that need no file.
fn built_in() -> [Box<dyn Separator>; 2] {
    let learned = Learned::built_in().expect("the weights are whole");
    [Box::new(Spectral), Box::new(learned)]
}

/// A little song of `seconds`: kick and hats, a bass line, a pad, a lead with vibrato. Its stems.
fn song(rate: u32, seconds: f64) -> [Vec<f32>; 4] {
    let len = (f64::from(rate) * seconds) as usize;
    let mut stems: [Vec<f32>; 4] = std::array::from_fn(|_| vec![0.0; len]);
    let mut noise = Noise(11);
    let tau = std::f64::consts::TAU;
    let dt = 1.0 / f64::from(rate);
    let mut add = |stem: Stem, start: f64, dur: f64, f: &mut dyn FnMut(f64) -> f64| {
        let first = (start / dt) as usize;
        for n in 0..(dur / dt) as usize {
            if let Some(x) = stems[stem as usize].get_mut(first + n) {
                *x += f(n as f64 * dt) as f32;
            }
        }
    };
    let beat = 0.5;
    let roots = [55.0, 43.65, 65.41, 49.0];
    let mut at = 0.05;
    let mut i = 0usize;
    while at < seconds {
        // Kick: a tone that falls from 150 to 50 Hz and dies in a tenth of a second.
        if i.is_multiple_of(2) {
            let mut phase = 0.0;
            add(Stem::Drums, at, 0.3, &mut |t| {
                phase += tau * (50.0 + 100.0 * (-t / 0.03).exp()) * dt;
                0.5 * phase.sin() * (-t / 0.08).exp()
            });
        } else {
            add(Stem::Drums, at, 0.2, &mut |t| {
                0.25 * f64::from(noise.next()) * (-t / 0.05).exp()
            });
        }
        for half in [0.0, 0.25] {
            let mut last = 0.0;
            add(Stem::Drums, at + half, 0.08, &mut |t| {
                let x = f64::from(noise.next());
                let high = x - last;
                last = x;
                0.06 * high * (-t / 0.02).exp()
            });
        }
        let root = roots[(i / 4) % 4] * if i % 4 == 3 { 1.5 } else { 1.0 };
        add(Stem::Bass, at, beat * 0.95, &mut |t| {
            let env = (t / 0.01).min(1.0) * (-t / 0.8).exp();
            (1..6)
                .map(|h| (tau * root * f64::from(h) * t).sin() / f64::from(h * h))
                .sum::<f64>()
                * 0.25
                * env
        });
        if i.is_multiple_of(4) {
            for ratio in [4.0, 5.0, 6.0] {
                let hz = roots[(i / 4) % 4] * ratio;
                add(Stem::Other, at, beat * 4.0, &mut |t| {
                    (1..4)
                        .map(|h| (tau * hz * f64::from(h) * t).sin() / f64::from(h))
                        .sum::<f64>()
                        * 0.06
                        * (t / 0.02).min(1.0)
                });
            }
        }
        let lead = 330.0 * [1.0, 1.125, 1.25, 1.5, 1.333, 1.2, 1.682, 0.9][(i * 5 + i / 3) % 8];
        let mut phase = 0.0;
        add(Stem::Vocals, at + 0.1, beat * 0.8, &mut |t| {
            phase += tau * lead * (1.0 + 0.015 * (tau * 5.5 * t).sin()) * dt;
            let env = (t / 0.03).min(1.0) * ((beat * 0.8 - t) / 0.05).clamp(0.0, 1.0);
            (1..12)
                .map(|h| (phase * f64::from(h)).sin() / f64::from(h))
                .sum::<f64>()
                * 0.15
                * env
        });
        i += 1;
        at += beat;
    }
    stems
}

fn mix_of(stems: &[Vec<f32>; 4]) -> Vec<f32> {
    (0..stems[0].len())
        .map(|n| stems.iter().map(|s| s[n]).sum())
        .collect()
}

/// Scale-invariant SDR in dB (Le Roux et al., ICASSP 2019).
fn si_sdr(reference: &[f32], estimate: &[f32]) -> f64 {
    let (mut re, mut rr, mut ee) = (0.0, 0.0, 0.0);
    for (&r, &e) in reference.iter().zip(estimate) {
        let (r, e) = (f64::from(r), f64::from(e));
        re += r * e;
        rr += r * r;
        ee += e * e;
    }
    let signal = re * re / rr;
    10.0 * (signal / (ee - signal).max(1e-30)).log10()
}

/// Largest deviation of the stems' sum from the mix, as a share of the mix's peak.
fn sum_error(mix: &AudioBuffer, stems: &Stems) -> f64 {
    let (mut peak, mut worst) = (1e-30f64, 0.0f64);
    for (c, channel) in mix.channels.iter().enumerate() {
        for (n, &x) in channel.iter().enumerate() {
            let sum: f64 = stems.iter().map(|s| f64::from(s.channels[c][n])).sum();
            peak = peak.max(f64::from(x.abs()));
            worst = worst.max((sum - f64::from(x)).abs());
        }
    }
    worst / peak
}

#[test]
fn every_stem_is_nearer_to_its_truth_than_the_mix_is() {
    let truth = song(44_100, 12.0);
    let mix = AudioBuffer::new(vec![mix_of(&truth)], 44_100);
    let stems = separate(&mix);
    // Floors are 2 to 3 dB under what is reached, so that a step backwards shows.
    for (stem, floor) in Stem::ALL.into_iter().zip([3.5, 4.5, -1.5, 4.5]) {
        let before = si_sdr(&truth[stem as usize], &mix.channels[0]);
        let after = si_sdr(&truth[stem as usize], &stems[stem as usize].channels[0]);
        assert!(after > floor, "{}: {after:.1} dB", stem.name());
        assert!(
            after > before + 3.0,
            "{}: {before:.1} -> {after:.1} dB",
            stem.name()
        );
    }
}

#[test]
fn a_kick_leaves_a_bass_in_its_own_octave() {
    // Drums and bass only, both below 150 Hz: nothing but recurrence tells them apart.
    let [drums, bass, ..] = song(44_100, 12.0);
    let mix: Vec<f32> = drums.iter().zip(&bass).map(|(d, b)| d + b).collect();
    let stems = separate(&AudioBuffer::new(vec![mix], 44_100));
    let (d, b) = (
        si_sdr(&drums, &stems[0].channels[0]),
        si_sdr(&bass, &stems[1].channels[0]),
    );
    assert!(d > 3.5 && b > 8.5, "{d:.1} {b:.1}");
}

#[test]
fn a_bass_alone_does_not_become_drums() {
    let [_, bass, ..] = song(44_100, 8.0);
    let energy = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let stems = separate(&AudioBuffer::new(vec![bass.clone()], 44_100));
    let share = energy(&stems[0].channels[0]) / energy(&bass);
    assert!(share < 0.05, "{share}");
}

#[test]
fn stems_sum_to_the_mix_at_any_rate_length_and_channel_count() {
    for separator in built_in() {
        sums(separator.as_ref());
    }
}

fn sums(separator: &dyn Separator) {
    let separate = |mix: &AudioBuffer| separator.separate(mix, &Progress::new()).unwrap();
    for (rate, seconds) in [(8000u32, 3.0), (48_000, 2.0), (96_000, 1.0), (192_000, 0.6)] {
        let left = mix_of(&song(rate, seconds));
        let right: Vec<f32> = left.iter().rev().map(|x| 0.7 * x).collect();
        for channels in [vec![left.clone()], vec![left, right]] {
            let mix = AudioBuffer::new(channels, rate);
            let stems = separate(&mix);
            for stem in &stems {
                assert_eq!((stem.sample_rate, stem.frames()), (rate, mix.frames()));
                assert_eq!(stem.channels.len(), mix.channels.len());
                assert!(stem.channels.iter().flatten().all(|x| x.is_finite()));
            }
            let error = sum_error(&mix, &stems);
            assert!(error <= 1e-6, "{rate} Hz: {error:e}");
        }
    }
    for len in [0usize, 1, 2, 63, 64, 1000] {
        let mix = AudioBuffer::new(vec![vec![0.5; len]; 2], 44_100);
        let stems = separate(&mix);
        assert!(stems.iter().all(|s| s.frames() == len));
        assert!(sum_error(&mix, &stems) <= 1e-6, "{len}");
    }
    let none = separate(&AudioBuffer::new(vec![], 44_100));
    assert!(none.iter().all(|s| s.channels.is_empty()));
}

#[test]
fn pieces_join_without_a_seam() {
    for separator in built_in() {
        joins(separator.as_ref());
    }
}

fn joins(separator: &dyn Separator) {
    // 8 kHz keeps 53 s short to compute; the seams lie at 22 and 44 s.
    let mix = AudioBuffer::new(vec![mix_of(&song(8000, 53.0))], 8000);
    let stems = separator.separate(&mix, &Progress::new()).unwrap();
    assert!(sum_error(&mix, &stems) <= 1e-6);
    let step = |x: &[f32], from: usize, to: usize| {
        x[from..to]
            .windows(2)
            .map(|w| (w[1] - w[0]).abs())
            .fold(0.0, f32::max)
    };
    for stem in &stems {
        let x = &stem.channels[0];
        let most = step(x, 0, x.len());
        for seam in [22usize, 24, 44, 46] {
            let here = step(x, seam * 8000 - 40, seam * 8000 + 40);
            assert!(here <= most, "{here} {most}");
        }
        // Each seam's neighbourhood still holds the stem: no hole, no doubling.
        let energy = |from: usize, to: usize| {
            x[from * 8000..to * 8000]
                .iter()
                .map(|x| f64::from(*x).powi(2))
                .sum::<f64>()
        };
        let ratio = energy(22, 24) / energy(30, 32).max(1e-12);
        assert!((0.2..5.0).contains(&ratio), "{ratio}");
    }
}

#[test]
fn silence_and_rubbish_stay_finite() {
    for separator in built_in() {
        stays_finite(separator.as_ref());
    }
}

fn stays_finite(separator: &dyn Separator) {
    let separate = |mix: &AudioBuffer| separator.separate(mix, &Progress::new()).unwrap();
    let silent = AudioBuffer::silence(2, 60_000, 44_100);
    for stem in &separate(&silent) {
        assert!(stem.channels.iter().flatten().all(|&x| x == 0.0));
    }
    let mut bad = mix_of(&song(44_100, 1.5));
    bad[5000] = f32::NAN;
    bad[9000] = f32::INFINITY;
    for stem in &separate(&AudioBuffer::new(vec![bad], 44_100)) {
        assert!(stem.channels.iter().flatten().all(|x| x.is_finite()));
    }
}

#[test]
fn two_runs_are_equal_and_a_cancelled_one_stops() {
    let mix = AudioBuffer::new(vec![mix_of(&song(22_050, 4.0))], 22_050);
    for separator in built_in() {
        let separate = |progress: &Progress| separator.separate(&mix, progress);
        let [one, two] = [0, 1].map(|_| separate(&Progress::new()).unwrap());
        assert_eq!(one, two);
        let progress = Progress::new();
        progress.cancel();
        let stopped = separate(&progress);
        assert!(matches!(stopped, Err(SeparationError::Cancelled)));
    }
}

#[test]
fn the_network_hears_the_same_at_other_rates() {
    let truth = song(44_100, 6.0);
    let mix = AudioBuffer::new(vec![mix_of(&truth)], 44_100);
    let learned = Learned::built_in().unwrap();
    let separate = |mix: &AudioBuffer| learned.separate(mix, &Progress::new()).unwrap();
    let here = separate(&mix);
    for rate in [48_000, 96_000] {
        let there = separate(&mix.resampled(rate));
        for stem in [Stem::Drums, Stem::Bass] {
            let back = there[stem as usize].resampled(44_100);
            let near = si_sdr(&here[stem as usize].channels[0], &back.channels[0]);
            assert!(near > 10.0, "{} at {rate} Hz: {near:.1} dB", stem.name());
        }
    }
}
