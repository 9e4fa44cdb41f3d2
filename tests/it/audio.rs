//! Reading, writing and resampling against known samples.

use std::path::{Path, PathBuf};

use uncook::audio::{AudioBuffer, BitDepth, MAX_CHANNELS};

use super::support::{Noise, sdr_db};

fn noise(channels: usize, frames: usize, rate: u32, amplitude: f32) -> AudioBuffer {
    let mut noise = Noise(7);
    let channels = (0..channels)
        .map(|_| (0..frames).map(|_| amplitude * noise.next()).collect())
        .collect();
    AudioBuffer::new(channels, rate)
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    found.sort();
    found
}

#[test]
fn float_wav_round_trips_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.wav");
    for (channels, frames, rate) in [(1, 1, 8000), (2, 4567, 44100), (8, 300, 192_000)] {
        let mut audio = noise(channels, frames, rate, 2.5);
        audio.channels[0][0] = -0.0;
        audio.write_wav_f32(&path).unwrap();
        let (back, report) = AudioBuffer::read_with_report(&path).unwrap();
        assert_eq!(back.sample_rate, rate);
        let bits = |a: &AudioBuffer| -> Vec<Vec<u32>> {
            a.channels
                .iter()
                .map(|c| c.iter().map(|x| x.to_bits()).collect())
                .collect()
        };
        assert_eq!(bits(&back), bits(&audio));
        assert_eq!(report, Default::default());
    }
    assert_eq!(files_in(dir.path()), [path], "something was left aside");
}

#[test]
fn integers_round_to_the_nearest_step_and_clip() {
    let dir = tempfile::tempdir().unwrap();
    let audio = noise(2, 5000, 48000, 1.1);
    for name in ["a.wav", "a.flac"] {
        let path = dir.path().join(name);
        for (depth, step, steps) in [
            (BitDepth::Int16, 1.0 / 32768.0, 1.5),
            (BitDepth::Int24, 1.0 / 8_388_608.0, 0.5),
        ] {
            audio.write(&path, depth).unwrap();
            let back = AudioBuffer::read(&path).unwrap();
            assert_eq!((back.channels.len(), back.frames()), (2, 5000), "{name}");
            assert_eq!(back.sample_rate, 48000);
            for (a, b) in audio
                .channels
                .iter()
                .flatten()
                .zip(back.channels.iter().flatten())
            {
                let wanted = f64::from(*a).clamp(-1.0, 1.0 - step);
                let error = (wanted - f64::from(*b)).abs();
                assert!(
                    error <= steps * step + 1e-9,
                    "{name} {depth:?}: {a} became {b}"
                );
            }
        }
        // What is on the 16 bit grid already comes back unchanged: no dither on dither.
        audio.write(&path, BitDepth::Int16).unwrap();
        let once = AudioBuffer::read(&path).unwrap();
        once.write(&path, BitDepth::Int16).unwrap();
        assert_eq!(AudioBuffer::read(&path).unwrap(), once, "{name}");
    }
}

#[test]
fn dither_is_triangular_and_the_same_every_time() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.wav"), dir.path().join("b.wav"));
    let step = 1.0 / 32768.0;
    // A constant of 0.3 steps: only dither can carry it. Mean 0.3, total error variance 1/4 step²
    // (Lipshitz et al.: TPDF dither leaves a constant total error of 1/12 + 1/6).
    let audio = AudioBuffer::new(vec![vec![0.3 * step as f32; 100_000]], 48000);
    audio.write(&a, BitDepth::Int16).unwrap();
    audio.write(&b, BitDepth::Int16).unwrap();
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
    let back = AudioBuffer::read(&a).unwrap();
    let steps: Vec<f64> = back.channels[0]
        .iter()
        .map(|&x| f64::from(x) / step)
        .collect();
    let mean = steps.iter().sum::<f64>() / steps.len() as f64;
    let variance = steps.iter().map(|s| (s - 0.3).powi(2)).sum::<f64>() / steps.len() as f64;
    assert!((mean - 0.3).abs() < 0.01, "mean {mean}");
    assert!((variance - 0.25).abs() < 0.01, "variance {variance}");
}

#[test]
fn every_wav_sample_format_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.wav");
    for bits in [8u16, 16, 24, 32] {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 44100,
            bits_per_sample: bits,
            sample_format: hound::SampleFormat::Int,
        };
        let full = 2f64.powi(i32::from(bits) - 1);
        let values = [0.0, 0.5, -0.5, -1.0, 1.0 - 1.0 / full];
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        for v in values {
            writer.write_sample((v * full) as i32).unwrap();
        }
        writer.finalize().unwrap();
        let back = AudioBuffer::read(&path).unwrap();
        for (v, b) in values.iter().zip(&back.channels[0]) {
            assert!(
                (v - f64::from(*b)).abs() < 1e-7,
                "{bits} bit: {v} read as {b}"
            );
        }
        assert_eq!(back.frames(), values.len());
    }
}

#[test]
fn aiff_is_read() {
    // FORM/AIFF with COMM (1 channel, 4 frames, 16 bit, 44100 Hz as an 80 bit float) and SSND.
    let mut comm = vec![0, 1, 0, 0, 0, 4, 0, 16];
    comm.extend([0x40, 0x0E, 0xAC, 0x44, 0, 0, 0, 0, 0, 0]);
    let mut ssnd = vec![0; 8];
    for v in [0i16, 16384, -16384, -32768] {
        ssnd.extend(v.to_be_bytes());
    }
    let mut body = b"AIFF".to_vec();
    for (kind, data) in [(b"COMM", &comm), (b"SSND", &ssnd)] {
        body.extend(kind);
        body.extend((data.len() as u32).to_be_bytes());
        body.extend(data);
    }
    let mut file = b"FORM".to_vec();
    file.extend((body.len() as u32).to_be_bytes());
    file.extend(body);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.aiff");
    std::fs::write(&path, file).unwrap();
    let audio = AudioBuffer::read(&path).unwrap();
    assert_eq!(
        audio,
        AudioBuffer::new(vec![vec![0.0, 0.5, -0.5, -1.0]], 44100)
    );
}

#[test]
fn non_finite_samples_become_zero_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.wav");
    let samples = vec![0.5, f32::NAN, f32::INFINITY, -0.25, f32::NEG_INFINITY];
    AudioBuffer::new(vec![samples], 48000)
        .write_wav_f32(&path)
        .unwrap();
    let (audio, report) = AudioBuffer::read_with_report(&path).unwrap();
    assert_eq!(audio.channels, [[0.5, 0.0, 0.0, -0.25, 0.0]]);
    assert_eq!(report.non_finite_samples, 3);
}

#[test]
fn bad_files_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let good = noise(2, 4000, 44100, 0.5);
    good.write_wav_f32(&at("good.wav")).unwrap();
    good.write(&at("good.flac"), BitDepth::Int16).unwrap();
    let wav = std::fs::read(at("good.wav")).unwrap();
    let flac = std::fs::read(at("good.flac")).unwrap();
    std::fs::write(at("empty.wav"), []).unwrap();
    std::fs::write(at("text.mp3"), b"this is no audio").unwrap();
    std::fs::write(at("short.wav"), &wav[..wav.len() / 2]).unwrap();
    std::fs::write(at("short.flac"), &flac[..flac.len() / 2]).unwrap();
    let mut broken = flac.clone();
    let middle = broken.len() / 2;
    for b in &mut broken[middle..middle + 64] {
        *b ^= 0x5A;
    }
    std::fs::write(at("broken.flac"), broken).unwrap();
    AudioBuffer::new(vec![vec![]], 44100)
        .write_wav_f32(&at("nothing.wav"))
        .unwrap();
    noise(1, 10, 4000, 0.5)
        .write_wav_f32(&at("slow.wav"))
        .unwrap();
    let spec = hound::WavSpec {
        channels: MAX_CHANNELS as u16 + 1,
        sample_rate: 44100,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(at("wide.wav"), spec).unwrap();
    for _ in 0..9 * 4 {
        writer.write_sample(1i16).unwrap();
    }
    writer.finalize().unwrap();
    for (name, says) in [
        ("missing.wav", "cannot open"),
        ("empty.wav", "empty"),
        ("text.mp3", ""),
        ("short.wav", "too early"),
        ("short.flac", ""),
        ("broken.flac", ""),
        ("nothing.wav", "no audio"),
        ("slow.wav", "sample rate"),
        ("wide.wav", "channels"),
    ] {
        let error = AudioBuffer::read(&at(name)).expect_err(name).to_string();
        assert!(
            error.contains(name) && error.contains(says),
            "{name}: {error}"
        );
    }
}

/// A frame that is smooth and then noisy is where encoders of 24 bit audio have gone wrong: what the
/// smooth part predicts of the noise is far off, and a file was written that grew to gigabits.
#[test]
fn flac_of_music_that_breaks_into_noise_comes_back_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.flac");
    let mut noise = Noise(11);
    for (burst, drive) in [(1_000, 1.0), (4_000, 3.0), (9_000, 30.0)] {
        let samples: Vec<f32> = (0..20_000)
            .map(|n| {
                let t = n as f32 / 22_050.0;
                let tone = 0.4 * (std::f32::consts::TAU * 82.4 * t).sin()
                    + 0.3 * (std::f32::consts::TAU * 329.6 * t).sin();
                let hit = if n % burst < 40 { noise.next() } else { 0.0 };
                let x = (drive * (tone + hit)).clamp(-1.0, 1.0);
                (x * 8_388_607.0).round() / 8_388_608.0
            })
            .collect();
        let audio = AudioBuffer::new(vec![samples], 22_050);
        audio.write(&path, BitDepth::Int24).unwrap();
        assert_eq!(AudioBuffer::read(&path).unwrap(), audio);
        let bytes = std::fs::metadata(&path).unwrap().len();
        assert!(bytes < 3 * 20_000 + 1_000, "{bytes} bytes");
    }
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.flac");
    let audio = noise(1, 100, 48000, 0.5);
    audio.write(&path, BitDepth::Int24).unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(audio.write(&path, BitDepth::Float32).is_err());
    let none = AudioBuffer::new(vec![], 48000);
    assert!(none.write(&path, BitDepth::Int16).is_err());
    assert!(
        audio
            .write(&dir.path().join("a.mp3"), BitDepth::Int16)
            .is_err()
    );
    assert!(
        audio
            .write(&dir.path().join("no/such/a.wav"), BitDepth::Int16)
            .is_err()
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(files_in(dir.path()), [path]);
}

/// A sum of tones inside a slow envelope, evaluated at any rate: the oracle of resampling.
fn analytic(rate: u32, frames: usize, tones: &[f64]) -> Vec<f32> {
    let length = 0.5;
    (0..frames)
        .map(|n| {
            let t = n as f64 / f64::from(rate);
            let window = (std::f64::consts::PI * t / length).sin().max(0.0).powi(2);
            let sum: f64 = tones
                .iter()
                .enumerate()
                .map(|(i, f)| (std::f64::consts::TAU * f * t + i as f64).sin())
                .sum();
            (0.2 * window * sum) as f32
        })
        .collect()
}

#[test]
fn resampling_is_exact_in_time_and_length() {
    let pairs = [
        (44100, 48000),
        (48000, 44100),
        (8000, 48000),
        (48000, 8000),
        (192_000, 44100),
        (44100, 96000),
        (22050, 44100),
        (44099, 48000),
    ];
    for (from, to) in pairs {
        let nyquist = f64::from(from.min(to)) / 2.0;
        let tones = [0.02, 0.3, 0.9].map(|f| f * nyquist);
        let frames = from as usize / 2;
        let input = AudioBuffer::new(vec![analytic(from, frames, &tones); 2], from);
        let output = input.resampled(to);
        let wanted = (frames as f64 * f64::from(to) / f64::from(from)).round() as usize;
        assert_eq!(output.frames(), wanted, "{from} to {to}");
        assert_eq!(output.sample_rate, to);
        assert_eq!(output.channels[0], output.channels[1]);
        let sdr = sdr_db(&analytic(to, wanted, &tones), &output.channels[0]);
        assert!(sdr > 100.0, "{from} to {to}: {sdr:.1} dB");
        let back = output.resampled(from);
        assert_eq!(back.frames(), frames);
        let sdr = sdr_db(&input.channels[0], &back.channels[0]);
        assert!(sdr > 100.0, "{from} to {to} and back: {sdr:.1} dB");
    }
}

#[test]
fn resampling_removes_what_the_lower_rate_cannot_hold() {
    let input = AudioBuffer::new(vec![analytic(48000, 24000, &[9000.0])], 48000);
    let output = input.resampled(16000);
    let peak = output.channels[0]
        .iter()
        .fold(0.0f32, |m, x| m.max(x.abs()));
    assert!(peak < 1e-5, "alias of {peak}");
}

#[test]
fn resampling_handles_the_smallest_buffers() {
    for frames in 0..4 {
        let output = noise(1, frames, 48000, 0.5).resampled(8000);
        assert_eq!(output.frames(), frames.min(1));
        assert!(output.channels[0].iter().all(|x| x.is_finite()));
        let same = noise(2, frames, 48000, 0.5);
        assert_eq!(same.resampled(48000), same);
    }
}

/// The lossy containers' delay is trimmed to the sample: the chirp `0.3 sin(2π(200 t + 3000 t²))`, 0.4 s at
/// 24 kHz, coded by libmp3lame, FFmpeg's AAC and libvorbis through FFmpeg 5.1
/// (`-f lavfi -i "aevalsrc=0.3*sin(2*PI*(200*t+3000*t*t)):s=24000:d=0.4"`, 48 kb/s, Vorbis quality 4).
#[test]
fn coded_audio_starts_where_the_original_did() {
    let rate = 24000;
    let chirp = |n: i64| {
        let t = n as f64 / f64::from(rate);
        (0.3 * (std::f64::consts::TAU * (200.0 * t + 3000.0 * t * t)).sin()) as f32
    };
    for name in ["chirp.mp3", "chirp.m4a", "chirp.ogg"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/audio")
            .join(name);
        let audio = AudioBuffer::read(&path).unwrap();
        assert_eq!(
            (audio.sample_rate, audio.channels.len()),
            (rate, 1),
            "{name}"
        );
        assert_eq!(audio.frames(), 9600, "{name}");
        let inner = &audio.channels[0][2000..3500];
        let sdr_at = |lag: i64| {
            let wanted: Vec<f32> = (2000..3500).map(|n| chirp(n - lag)).collect();
            sdr_db(&wanted, inner)
        };
        let best = (-1500..=1500).max_by(|&a, &b| sdr_at(a).total_cmp(&sdr_at(b)));
        assert_eq!(best, Some(0), "{name}: late by {best:?} samples");
        assert!(sdr_at(0) > 15.0, "{name}: {:.1} dB", sdr_at(0));
    }
}
