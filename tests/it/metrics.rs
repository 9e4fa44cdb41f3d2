//! Measurements against signals whose values are known, and EBU's minimum requirements.

use std::f64::consts::TAU;

use uncook::{
    audio::AudioBuffer,
    mastering::{MasteringError, loudness_normalised},
    metrics::{
        ArtefactKind, Comparison, Quality, artefacts::artefacts, distance, level, loudness,
        quality, spectrum,
    },
};

use super::support::Noise;

fn tone(seconds: f64, rate: u32, hz: f64, dbfs: f64) -> Vec<f32> {
    let amplitude = 10f64.powf(dbfs / 20.0);
    (0..(seconds * f64::from(rate)) as usize)
        .map(|n| (amplitude * (TAU * hz * n as f64 / f64::from(rate)).sin()) as f32)
        .collect()
}

fn stereo(channel: Vec<f32>, rate: u32) -> AudioBuffer {
    AudioBuffer::new(vec![channel.clone(), channel], rate)
}

/// 1 kHz in both channels, one level (dBFS peak) after another.
fn steps(rate: u32, steps: &[(f64, f64)]) -> AudioBuffer {
    let mut all = Vec::new();
    for &(seconds, dbfs) in steps {
        all.extend(tone(seconds, rate, 1000.0, dbfs));
    }
    stereo(all, rate)
}

/// EBU Tech 3341, table 1, cases 1–5: integrated loudness ±0.1 LU. (A stereo sine of −23 dBFS peak reads
/// −23 LUFS.) At 16 kHz: the K weighting is defined by its analogue response, so the rate must not matter.
#[test]
fn integrated_loudness_meets_ebu_tech_3341() {
    let cases: [(&[(f64, f64)], f64); 5] = [
        (&[(20.0, -23.0)], -23.0),
        (&[(20.0, -33.0)], -33.0),
        (&[(10.0, -36.0), (60.0, -23.0), (10.0, -36.0)], -23.0),
        (
            &[
                (10.0, -72.0),
                (10.0, -36.0),
                (60.0, -23.0),
                (10.0, -36.0),
                (10.0, -72.0),
            ],
            -23.0,
        ),
        (&[(20.0, -26.0), (20.1, -20.0), (20.0, -26.0)], -23.0),
    ];
    for rate in [16000, 48000] {
        for (i, (levels, wanted)) in cases.iter().enumerate() {
            if rate == 48000 && i > 0 {
                continue; // the gates do not depend on the rate
            }
            let measured = loudness::integrated_lufs(&steps(rate, levels)).unwrap();
            let error = (measured - wanted).abs();
            assert!(error <= 0.1, "case {} at {rate} Hz: {measured:.2}", i + 1);
        }
    }
}

/// EBU Tech 3341, case 9: 1.34 s at −20 and 1.66 s at −30 dBFS, five times: −23 LUFS short-term always.
#[test]
fn short_term_loudness_meets_ebu_tech_3341() {
    let levels: Vec<_> = (0..5)
        .flat_map(|_| [(1.34, -20.0), (1.66, -30.0)])
        .collect();
    let series = loudness::short_term_lufs(&steps(16000, &levels));
    assert_eq!(series.len(), 121);
    for value in series {
        assert!((value.unwrap() + 23.0).abs() <= 0.1, "{value:?}");
    }
}

/// EBU Tech 3342, table 1, cases 1–4: loudness range ±1 LU.
#[test]
fn loudness_range_meets_ebu_tech_3342() {
    let cases: [(&[(f64, f64)], f64); 4] = [
        (&[(20.0, -20.0), (20.0, -30.0)], 10.0),
        (&[(20.0, -20.0), (20.0, -15.0)], 5.0),
        (&[(20.0, -40.0), (20.0, -20.0)], 20.0),
        (
            &[
                (20.0, -50.0),
                (20.0, -35.0),
                (20.0, -20.0),
                (20.0, -35.0),
                (20.0, -50.0),
            ],
            15.0,
        ),
    ];
    for (i, (levels, wanted)) in cases.iter().enumerate() {
        let measured = loudness::loudness_range_lu(&steps(8000, levels)).unwrap();
        assert!(
            (measured - wanted).abs() <= 1.0,
            "case {}: {measured:.2}",
            i + 1
        );
    }
}

/// EBU Tech 3341, cases 15–19: sines at fs/4, fs/6 and fs/8 whose samples miss the peak; −0.4 … +0.2 dB.
#[test]
fn true_peak_meets_ebu_tech_3341() {
    let rate = 48000;
    for (divisor, phase_degrees, dbfs, wanted) in [
        (4.0, 0.0, -6.02, -6.0),
        (4.0, 45.0, -6.02, -6.0),
        (6.0, 60.0, -6.02, -6.0),
        (8.0, 67.5, -6.02, -6.0),
        (4.0, 45.0, 3.0, 3.0),
    ] {
        let amplitude = 10f64.powf(dbfs / 20.0);
        let samples: Vec<f32> = (0..rate)
            .map(|n| {
                let fade = (n.min(rate - 1 - n) as f64 / 1000.0).min(1.0);
                let angle = TAU * f64::from(n) / divisor + f64::to_radians(phase_degrees);
                (fade * amplitude * angle.sin()) as f32
            })
            .collect();
        let measured = loudness::true_peak_dbtp(&stereo(samples, rate as u32)).unwrap();
        assert!(
            (-0.4..=0.2).contains(&(measured - wanted)),
            "fs/{divisor} at {phase_degrees}°: {measured:.2} dBTP"
        );
    }
}

/// Against a slow oracle: a sum of sines evaluated at 64 times the rate.
#[test]
fn true_peak_finds_what_lies_between_samples() {
    for rate in [8000u32, 44100, 96000, 192_000] {
        let value = |t: f64| -> f64 {
            let fade = (t / 0.01).min(1.0) * ((0.1 - t) / 0.01).clamp(0.0, 1.0);
            let nyquist = f64::from(rate) / 2.0;
            let sum: f64 = [0.13, 0.37, 0.61, 0.82]
                .iter()
                .enumerate()
                .map(|(i, f)| (TAU * f * nyquist * t + 1.3 * i as f64).sin())
                .sum();
            0.2 * fade * sum
        };
        let at = |n: u32, over: u32| value(f64::from(n) / f64::from(rate * over));
        let samples: Vec<f32> = (0..rate / 10).map(|n| at(n, 1) as f32).collect();
        let wanted = (0..rate / 10 * 64)
            .map(|n| at(n, 64).abs())
            .fold(0.0, f64::max);
        let measured = loudness::true_peak(&AudioBuffer::new(vec![samples], rate));
        let error_db = 20.0 * (f64::from(measured) / wanted).log10();
        assert!(error_db.abs() < 0.06, "{rate} Hz: off by {error_db:.3} dB");
    }
}

#[test]
fn distances_have_their_analytic_values() {
    let mut noise = Noise(3);
    let a: Vec<f32> = (0..48000).map(|_| 0.3 * noise.next()).collect();
    let half: Vec<f32> = a.iter().map(|x| 0.5 * x).collect();
    assert_eq!(distance::sdr_db(&a, &a), Some(distance::MAX_DB));
    let sdr = distance::sdr_db(&a, &half).unwrap();
    assert!((sdr - 20.0 * 2f64.log10()).abs() < 1e-6, "{sdr}");
    // Scale does not matter, an orthogonal error does: a sine and a cosine over whole periods.
    let sine = tone(1.0, 48000, 1000.0, -10.0);
    let mixed: Vec<f32> = (0..48000)
        .map(|n| {
            let angle = TAU * 1000.0 * f64::from(n) / 48000.0;
            (angle.sin() + 0.1 * angle.cos()) as f32
        })
        .collect();
    let si = distance::si_sdr_db(&sine, &mixed).unwrap();
    assert!((si - 20.0).abs() < 1e-3, "{si}");
    // A gain of 6.02 dB is a log-spectral distance of 6.02 dB in any band.
    let lsd = distance::log_spectral_distance_db(&a, &half, 48000, 100.0, 8000.0).unwrap();
    assert!((lsd - 6.0206).abs() < 1e-3, "{lsd}");
    // Half the magnitude: convergence 0.5, log distance ln 2.
    let mr = distance::multi_resolution_stft_distance(&a, &half).unwrap();
    assert!((mr - (0.5 + 2f64.ln())).abs() < 1e-3, "{mr}");
    assert_eq!(distance::multi_resolution_stft_distance(&a, &a), Some(0.0));
    let silence = vec![0.0; 48000];
    assert_eq!(distance::sdr_db(&silence, &a), None);
    assert_eq!(distance::si_sdr_db(&a, &silence), None);
    assert_eq!(distance::sdr_db(&a, &a[1..]), None);
    assert_eq!(distance::multi_resolution_stft_distance(&silence, &a), None);
}

#[test]
fn centroid_of_known_spectra() {
    for rate in [8000, 44100, 192_000] {
        let hz = 0.21 * f64::from(rate);
        let audio = AudioBuffer::new(vec![tone(1.0, rate, hz, -6.0)], rate);
        let measured = spectrum::centroid_hz(&audio).unwrap();
        assert!(
            (measured / hz - 1.0).abs() < 0.02,
            "{rate}: {measured} for {hz}"
        );
        let mut noise = Noise(5);
        let white = (0..rate).map(|_| noise.next()).collect();
        let measured = spectrum::centroid_hz(&AudioBuffer::new(vec![white], rate)).unwrap();
        let wanted = f64::from(rate) / 4.0;
        assert!(
            (measured / wanted - 1.0).abs() < 0.02,
            "{rate}: {measured} for {wanted}"
        );
    }
}

/// Plucked harmonic notes that die away, a new chord every half second.
fn band(seconds: f64, rate: u32) -> Vec<f32> {
    let mut out = vec![0.0f64; (seconds * f64::from(rate)) as usize];
    let roots = [110.0, 146.8, 98.0, 164.8];
    for (i, start) in (0..out.len()).step_by(rate as usize / 2).enumerate() {
        for voice in [1.0, 1.25, 1.5, 4.0] {
            let f0 = roots[i % 4] * voice;
            for n in start..(start + rate as usize / 2).min(out.len()) {
                let t = (n - start) as f64 / f64::from(rate);
                for h in 1..=12 {
                    let hz = f0 * f64::from(h);
                    if hz < 0.45 * f64::from(rate) {
                        let envelope = (t / 0.005).min(1.0) * (-t * (4.0 + f64::from(h))).exp();
                        out[n] += 0.1 / f64::from(h) * envelope * (TAU * hz * t).sin();
                    }
                }
            }
        }
    }
    out.iter().map(|&x| x as f32).collect()
}

fn with_noise(signal: &[f32], snr_db: f64) -> Vec<f32> {
    let power = signal.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / signal.len() as f64;
    // Uniform noise in ±1 has a power of one third.
    let gain = (3.0 * power * 10f64.powf(-snr_db / 10.0)).sqrt() as f32;
    let mut noise = Noise(11);
    signal.iter().map(|x| x + gain * noise.next()).collect()
}

#[test]
fn snr_follows_the_noise_that_was_added() {
    let rate = 22050;
    let clean = band(6.0, rate);
    for wanted in [5.0, 10.0, 20.0, 30.0] {
        let noisy = AudioBuffer::new(vec![with_noise(&clean, wanted)], rate);
        let measured = spectrum::snr_db(&noisy).unwrap();
        assert!(
            (measured - wanted).abs() < 2.0,
            "{wanted} dB measured as {measured:.1}"
        );
    }
    let measured = spectrum::snr_db(&AudioBuffer::new(vec![clean], rate)).unwrap();
    assert!(measured > 35.0, "clean music measured as {measured:.1} dB");
}

#[test]
fn clipping_share_counts_flat_tops_and_nothing_else() {
    let rate = 44100;
    let sine = tone(1.0, rate, 50.0, -6.0);
    let smooth = AudioBuffer::new(vec![sine.clone(), band(1.0, rate)], rate);
    assert_eq!(level::clipping_share(&smooth), Some(0.0));
    // A sine cut at sin φ spends 1 − 2φ/π of its time flat.
    for cut in [0.5f32, 0.8, 0.95] {
        let top = cut * 10f32.powf(-6.0 / 20.0);
        let clipped: Vec<f32> = sine.iter().map(|x| x.clamp(-top, top)).collect();
        let wanted = 1.0 - 2.0 * f64::from(cut).asin() / std::f64::consts::PI;
        let measured = level::clipping_share(&AudioBuffer::new(vec![clipped], rate)).unwrap();
        assert!(
            (measured / wanted - 1.0).abs() < 0.03,
            "{cut}: {measured} of {wanted}"
        );
    }
    assert_eq!(
        level::clipping_share(&AudioBuffer::silence(2, 100, rate)),
        None
    );
}

fn kinds(audio: &AudioBuffer) -> Vec<ArtefactKind> {
    let mut kinds: Vec<_> = artefacts(audio).iter().map(|a| a.kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

#[test]
fn artefacts_are_found_where_they_are() {
    let rate = 44100;
    let music = band(4.0, rate);
    let found = artefacts(&AudioBuffer::new(vec![music.clone(); 2], rate));
    assert_eq!(found, [], "clean music");
    let found = artefacts(&AudioBuffer::new(vec![with_noise(&music, 15.0); 2], rate));
    assert_eq!(found, [], "noise is no artefact");

    // Right channel inverted from 2 s on.
    let inverted: Vec<f32> = music
        .iter()
        .enumerate()
        .map(|(n, x)| if n < 2 * rate as usize { *x } else { -x })
        .collect();
    let found = artefacts(&AudioBuffer::new(vec![music.clone(), inverted], rate));
    let phase: Vec<_> = found
        .iter()
        .filter(|a| a.kind == ArtefactKind::Phase)
        .collect();
    assert_eq!(phase.len(), 1, "{found:?}");
    assert!((phase[0].start - 2.0).abs() <= 0.4 && phase[0].severity > 0.9);

    // Feedback at 2.93 kHz for half a second.
    let howl = tone(0.5, rate, 2930.0, -26.0);
    let mut ringing = music.clone();
    let at = 44100 + 4410;
    for (x, h) in ringing[at..].iter_mut().zip(&howl) {
        *x += h;
    }
    let found = artefacts(&AudioBuffer::new(vec![ringing], rate));
    let a = found.iter().find(|a| a.kind == ArtefactKind::Ringing);
    let a = a.unwrap_or_else(|| panic!("{found:?}"));
    assert!(
        (a.start - 1.1).abs() < 0.1 && (a.end - 1.6).abs() < 0.15,
        "{a:?}"
    );
}

#[test]
fn spectral_subtraction_sounds_metallic() {
    // Noise after hard thresholding of its own spectrum: short tones at random places, the textbook
    // musical noise. Each 1024-sample frame keeps only bins 12 dB over the mean.
    let rate = 44100;
    let mut noise = Noise(23);
    let mut specks = band(3.0, rate);
    for _ in 0..600 {
        let at = ((noise.next() + 1.0) * 0.5 * (specks.len() - 2048) as f32) as usize;
        let hz = 1500.0 + 4000.0 * f64::from(noise.next() + 1.0);
        for n in 0..2048 {
            let window = 0.5 - 0.5 * (TAU * n as f64 / 2048.0).cos();
            specks[at + n] += (0.01 * window * (TAU * hz * n as f64 / 44100.0).sin()) as f32;
        }
    }
    let audio = AudioBuffer::new(vec![specks], rate);
    assert!(
        kinds(&audio).contains(&ArtefactKind::Metallic),
        "{:?}",
        kinds(&audio)
    );
}

#[test]
fn quality_stands_any_audio_and_any_rate() {
    let mut noise = Noise(1);
    for rate in [8000, 22050, 48000, 192_000] {
        for frames in [0, 1, 100, rate as usize / 2] {
            for channels in [1, 2] {
                let silent = AudioBuffer::silence(channels, frames, rate);
                let q = quality(&silent);
                assert_eq!(q, Quality::default(), "silence, {frames} at {rate}");
                let mut loud = silent;
                for x in loud.channels.iter_mut().flatten() {
                    *x = noise.next();
                }
                let q = quality(&loud);
                assert_eq!(q.true_peak_dbtp.is_some(), frames > 0);
                assert_eq!(q.lufs.is_some(), frames > 100);
                let comparison = Comparison {
                    before: q.clone(),
                    after: q,
                };
                assert_eq!(comparison.changes().lufs.unwrap_or(0.0), 0.0);
            }
        }
    }
}

#[test]
fn quality_is_json_with_the_documented_names() {
    let json = serde_json::to_value(Quality::default()).unwrap();
    let wanted = serde_json::json!({
        "snr_db": null, "lufs": null, "true_peak_dbtp": null,
        "centroid_hz": null, "clipping_share": null, "artefacts": []
    });
    assert_eq!(json, wanted);
    let kinds = [
        (ArtefactKind::Metallic, "metallic"),
        (ArtefactKind::Ringing, "ringing"),
        (ArtefactKind::Clicks, "clicks"),
        (ArtefactKind::Phase, "phase"),
    ];
    for (kind, name) in kinds {
        assert_eq!(serde_json::to_value(kind).unwrap(), name);
    }
}

#[test]
fn loudness_reaches_its_target_under_the_ceiling() {
    for (rate, target, ceiling) in [
        (44100, -23.0, -1.0),
        (48000, -14.0, -1.0),
        (48000, -9.0, -1.0),
        (96000, -16.0, -3.0),
    ] {
        // Music with drum-like bursts, so that the louder targets need limiting.
        let mut samples = band(4.0, rate);
        let mut noise = Noise(9);
        for start in (0..samples.len()).step_by(rate as usize / 3) {
            for (n, x) in samples[start..]
                .iter_mut()
                .take(rate as usize / 10)
                .enumerate()
            {
                let t = n as f32 / rate as f32;
                *x += 0.6 * (-40.0 * t).exp() * noise.next();
            }
        }
        let mut audio = stereo(samples, rate);
        let before = audio.clone();
        let report = loudness_normalised(&mut audio, target, ceiling).unwrap();
        let lufs = loudness::integrated_lufs(&audio).unwrap();
        let peak = loudness::true_peak_dbtp(&audio).unwrap();
        assert!(
            (lufs - f64::from(target)).abs() <= 0.1,
            "{target}: {lufs:.2} LUFS"
        );
        assert!(peak <= f64::from(ceiling), "{target}: {peak:.3} dBTP");
        assert_eq!(report.after_lufs, lufs);
        let needs_limiting = f64::from(target) - report.before_lufs
            + loudness::true_peak_dbtp(&before).unwrap()
            > f64::from(ceiling);
        assert_eq!(
            report.limited_db > 0.0,
            needs_limiting,
            "{target}: {report:?}"
        );
        if !needs_limiting {
            // Nothing but a gain.
            let gain = audio.channels[0][1000] / before.channels[0][1000];
            for (a, b) in audio.channels[0].iter().zip(&before.channels[0]) {
                assert!((a - gain * b).abs() < 1e-6);
            }
        }
    }
}

#[test]
fn loudness_that_cannot_be_reached_changes_nothing() {
    let mut silent = AudioBuffer::silence(2, 48000, 48000);
    let error = loudness_normalised(&mut silent, -14.0, -1.0).unwrap_err();
    assert_eq!(error, MasteringError::NoLoudness);
    let mut audio = stereo(tone(1.0, 8000, 1000.0, -20.0), 8000);
    let before = audio.clone();
    // A sine at −10 dBTP is as loud as −10 LUFS and no limiter makes it louder.
    let error = loudness_normalised(&mut audio, -5.0, -10.0).unwrap_err();
    let MasteringError::Unreachable { reached_lufs, .. } = error else {
        panic!("{error}");
    };
    assert!((reached_lufs + 10.0).abs() < 0.5, "{reached_lufs}");
    assert_eq!(audio, before);
    assert!(loudness_normalised(&mut audio, f32::NAN, -1.0).is_err());
}

/// Recordings are read in pieces of 65,536 frames. What lies where two of them meet is measured as anywhere else.
#[test]
fn what_lies_across_two_pieces_is_measured_as_anywhere() {
    let rate = 48_000;
    // A band, clipped there, with a peak between samples and a click.
    let mut sound: Vec<f32> = band(3.0, rate).into_iter().map(|x| 0.3 * x).collect();
    for (i, x) in sound[65_530..65_542].iter_mut().enumerate() {
        *x = if i < 8 { 0.99 } else { -0.99 };
    }
    for x in &mut sound[20_000..20_200] {
        *x = 0.99;
    }
    // A multiple of every frame and window in which anything is measured.
    let later = 38_400;
    let delayed: Vec<f32> = std::iter::repeat_n(0.0, later)
        .chain(sound.iter().copied())
        .collect();
    let [here, there] = [sound, delayed].map(|x| {
        let frames = x.len() as f64;
        let q = quality(&AudioBuffer::new(vec![x.clone(), x], rate));
        (q.clone(), q.clipping_share.unwrap() * frames)
    });
    assert_eq!(here.0.true_peak_dbtp, there.0.true_peak_dbtp);
    assert!(here.1 > 200.0 && (here.1 - there.1).abs() < 1e-6);
    let clicks = |q: &Quality, shift: f64| -> Vec<i64> {
        let clicks = q.artefacts.iter();
        clicks
            .filter(|a| a.kind == ArtefactKind::Clicks && a.start > 1.2 + shift)
            .map(|a| ((a.start - shift) * 100.0).round() as i64)
            .collect()
    };
    let seconds = later as f64 / f64::from(rate);
    assert_eq!(clicks(&here.0, 0.0), clicks(&there.0, seconds));
}
