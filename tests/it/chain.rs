//! The live chain as a whole: latency, transparency, block sizes, bad input, and what it may not do.

use std::sync::Arc;

use uncook::{
    audio::AudioBuffer,
    exchange::{
        SamplePos,
        capture::{CaptureReader, capture_ring},
        meters::Meters,
        patch::{Patch, PatchPublisher, PatchSet, patch_snapshot},
        samples::stereo,
    },
    metrics::loudness::integrated_lufs,
    realtime::{AudioLink, Chain, Settings, Transport},
};

use super::support::Noise;

pub struct Rig {
    pub chain: Chain,
    pub publisher: PatchPublisher,
    pub capture: CaptureReader,
}

pub fn rig(rate: f64, channels: usize) -> Rig {
    let (tap, capture) = capture_ring(1 << 20);
    let (publisher, patches) = patch_snapshot();
    let link = AudioLink {
        patches,
        capture: tap,
        meters: Arc::new(Meters::default()),
    };
    Rig {
        chain: Chain::new(rate, channels, link),
        publisher,
        capture,
    }
}

/// A plucked bass, a beat and a pad: broad, dynamic, undamaged, different on both sides.
pub fn music(frames: usize, rate: f64, seed: u64) -> Vec<Vec<f32>> {
    let mut noise = Noise(seed);
    let mut sides = vec![Vec::with_capacity(frames), Vec::with_capacity(frames)];
    let tau = std::f64::consts::TAU;
    for n in 0..frames {
        let t = n as f64 / rate;
        let beat = t % 0.5;
        let hit = (-beat * 30.0).exp() * f64::from(noise.next());
        let kick = (-beat * 12.0).exp() * (tau * (50.0 * t + 4.0 * (-beat * 40.0).exp())).sin();
        let bass: f64 = (1..12)
            .map(|h| {
                (-(t % 0.25) * (2.0 + f64::from(h))).exp() * (tau * 55.0 * f64::from(h) * t).sin()
                    / f64::from(h)
            })
            .sum();
        let pad = |f: f64| (tau * f * t).sin() + 0.5 * (tau * 2.0 * f * t).sin();
        let (left, right) = (pad(220.0) + pad(277.2), pad(220.0) + pad(329.6));
        let mid = 0.25 * hit + 0.3 * kick + 0.2 * bass;
        sides[0].push((0.5 * (mid + 0.1 * left)) as f32);
        sides[1].push((0.5 * (mid + 0.1 * right)) as f32);
    }
    sides
}

fn clipped(mut audio: Vec<Vec<f32>>, level: f32) -> Vec<Vec<f32>> {
    for channel in &mut audio {
        for x in channel {
            *x = x.clamp(-level, level);
        }
    }
    audio
}

/// Plays `input` from position 0 in blocks of `block` samples, cut where `automation` has an event.
fn play(
    rig: &mut Rig,
    input: &[Vec<f32>],
    block: usize,
    automation: &[(usize, Settings)],
) -> Vec<Vec<f32>> {
    let mut out = input.to_vec();
    let frames = input[0].len();
    let mut settings = automation[0].1;
    let mut start = 0;
    while start < frames {
        if let Some((_, s)) = automation.iter().find(|(at, _)| *at == start) {
            settings = *s;
        }
        let next = automation.iter().map(|(at, _)| *at).find(|&at| at > start);
        let end = (start + block).min(next.unwrap_or(frames)).min(frames);
        let mut channels: Vec<&mut [f32]> = out.iter_mut().map(|c| &mut c[start..end]).collect();
        let at = Transport {
            pos: Some(SamplePos(start as i64)),
            playing: true,
            capture: true,
        };
        rig.chain.process(&mut channels, at, &settings);
        start = end;
    }
    out
}

fn everything() -> Settings {
    Settings {
        denoise: 1.0,
        bass: 1.0,
        treble: 1.0,
        dereverb_early: 1.0,
        dereverb_late: 1.0,
        eq_match: 1.0,
        output_gain_db: 3.0,
        ..Settings::default()
    }
}

fn assert_delayed(input: &[Vec<f32>], output: &[Vec<f32>], latency: usize) {
    for (x, y) in input.iter().zip(output) {
        assert!(y[..latency].iter().all(|&v| v == 0.0));
        for (n, (a, b)) in x.iter().zip(&y[latency..]).enumerate() {
            assert_eq!(a.to_bits(), b.to_bits(), "sample {n}: {a} became {b}");
        }
    }
}

/// Steinberg's validator asks for 1234.5678 Hz. A frame too short for its stages once divided by zero.
#[test]
fn rates_that_no_recording_has_leave_the_output_finite() {
    for rate in [
        1.0,
        50.0,
        1_000.0,
        1_234.567_8,
        2_999.0,
        5_000.0,
        384_000.0,
        768_000.0,
    ] {
        let mut rig = rig(rate, 2);
        let frames = rig.chain.latency() + 8_000;
        let input = clipped(music(frames, 48_000.0, 3), 0.1);
        let out = play(&mut rig, &input, 512, &[(0, everything())]);
        assert!(out.iter().flatten().all(|y| y.is_finite()), "at {rate} Hz");
        assert!(out.iter().flatten().any(|&y| y != 0.0), "at {rate} Hz");
    }
}

#[test]
fn an_impulse_comes_out_after_the_reported_latency_at_every_rate() {
    for rate in [8_000.0, 22_050.0, 44_100.0, 48_000.0, 96_000.0, 192_000.0] {
        for settings in [
            Settings::default(),
            Settings {
                bypass: true,
                ..everything()
            },
        ] {
            let mut rig = rig(rate, 1);
            let latency = rig.chain.latency();
            assert!(
                latency as f64 <= 0.080 * rate,
                "{latency} samples at {rate} Hz"
            );
            let mut input = vec![vec![0.0; latency + 300]];
            input[0][100] = 0.5;
            let out = play(&mut rig, &input, 64, &[(0, settings)]);
            let peak = out[0].iter().position(|&y| y == 0.5);
            assert_eq!(peak, Some(100 + latency), "at {rate} Hz");
        }
    }
}

#[test]
fn undamaged_music_passes_bit_for_bit() {
    for (rate, seed) in [(44_100.0, 1), (48_000.0, 2), (96_000.0, 3)] {
        let input = music((3.0 * rate) as usize, rate, seed);
        let mut rig = rig(rate, 2);
        let out = play(&mut rig, &input, 512, &[(0, Settings::default())]);
        assert_delayed(&input, &out, rig.chain.latency());
    }
}

#[test]
fn turned_down_or_bypassed_it_is_a_delay_even_on_damaged_audio_with_a_patch() {
    let rate = 48_000.0;
    let input = clipped(music(96_000, rate, 4), 0.1);
    let nothing = [
        Settings {
            repair: 0.0,
            ..everything()
        },
        Settings {
            mix: 0.0,
            ..everything()
        },
        Settings {
            bypass: true,
            ..everything()
        },
    ];
    for settings in nothing {
        let settings = Settings {
            output_gain_db: if settings.repair == 0.0 { 0.0 } else { 3.0 },
            ..settings
        };
        let mut rig = rig(rate, 2);
        rig.publisher.publish(PatchSet::new(vec![patch(&input, 0)]));
        let out = play(&mut rig, &input, 512, &[(0, settings)]);
        assert_delayed(&input, &out, rig.chain.latency());
    }
}

/// A patch over all of `take` whose base and drum layer are noise.
pub fn patch(take: &[Vec<f32>], start: i64) -> Arc<Patch> {
    let mut noise = Noise(99);
    let start = SamplePos(start);
    let mut both = || {
        let mut one = || {
            (0..take[0].len())
                .map(|_| 0.2 * noise.next())
                .collect::<Vec<_>>()
        };
        stereo(start, [&one(), &one()], &[])
    };
    Arc::new(Patch {
        id: "test".to_owned(),
        start,
        sample_rate: 48_000,
        take: stereo(start, [&take[0], &take[take.len() - 1]], &[]),
        base: both(),
        layers: [Some(both()), None, None, None],
    })
}

#[test]
fn a_patch_plays_in_mono_and_in_stereo_exactly_where_it_lies() {
    let rate = 48_000.0;
    let input = music(48_000, rate, 13);
    for channels in [1, 2] {
        let input = &input[..channels];
        let part: Vec<Vec<f32>> = input.iter().map(|c| c[10_000..40_000].to_vec()).collect();
        let patch = patch(&part, 10_000);
        let mut rig = rig(rate, channels);
        rig.publisher.publish(PatchSet::new(vec![patch.clone()]));
        let blends = Settings {
            blend: [0.5, 1.0, 1.0, 1.0],
            limiter: false,
            ..Settings::default()
        };
        let out = play(&mut rig, input, 512, &[(0, blends)]);
        let latency = rig.chain.latency();
        let drums = patch.layers[0].as_ref().unwrap();
        for c in 0..channels {
            for n in 12_000..38_000 - latency {
                let expected = patch.base[c].at(n - 10_000) + 0.5 * drums[c].at(n - 10_000);
                assert_eq!(
                    out[c][n + latency],
                    expected,
                    "channel {c} of {channels}, sample {n}"
                );
            }
        }
    }
}

#[test]
fn output_does_not_depend_on_the_block_size() {
    let rate = 48_000.0;
    let mut input = clipped(music(60_000, rate, 5), 0.15);
    let mut noise = Noise(6);
    for channel in &mut input {
        for (n, x) in channel.iter_mut().enumerate() {
            *x += 0.003 * noise.next();
            if n % 7_001 == 0 {
                *x = 0.9;
            }
        }
    }
    let automation = [
        (0, everything()),
        (
            9_999,
            Settings {
                declip: 0.3,
                blend: [0.0, 1.0, 1.0, 1.0],
                ..everything()
            },
        ),
        (
            10_000,
            Settings {
                mix: 0.5,
                delta: true,
                ..everything()
            },
        ),
        (
            30_001,
            Settings {
                compare: true,
                ..everything()
            },
        ),
        (40_000, everything()),
    ];
    for channels in [1, 2] {
        let input = &input[..channels];
        let run = |block: usize| {
            let mut rig = rig(rate, channels);
            let mut part: Vec<Vec<f32>> =
                input.iter().map(|c| c[20_000..50_000].to_vec()).collect();
            part.truncate(channels);
            rig.publisher
                .publish(PatchSet::new(vec![patch(&part, 20_000)]));
            play(&mut rig, input, block, &automation)
        };
        let reference = run(512);
        for block in [1, 64, 97, 8192] {
            let out = run(block);
            for (c, (a, b)) in reference.iter().zip(&out).enumerate() {
                let differs = a
                    .iter()
                    .zip(b)
                    .position(|(x, y)| x.to_bits() != y.to_bits());
                assert_eq!(
                    differs, None,
                    "block {block}, {channels} channels, channel {c}"
                );
            }
        }
    }
}

#[test]
fn a_start_after_silence_is_a_clean_start() {
    let rate = 48_000.0;
    let input = clipped(music(48_000, rate, 7), 0.15);
    let mut rig = rig(rate, 2);
    let latency = rig.chain.latency();
    let first = play(&mut rig, &input, 512, &[(0, everything())]);
    // The transport stops; silence of an odd length passes.
    let stopped = latency + 48_000 + 37;
    let mut silence = vec![vec![0.0f32; stopped]; 2];
    for start in (0..stopped).step_by(100) {
        let end = (start + 100).min(stopped);
        let mut block: Vec<&mut [f32]> = silence.iter_mut().map(|c| &mut c[start..end]).collect();
        rig.chain
            .process(&mut block, Transport::default(), &everything());
    }
    let second = play(&mut rig, &input, 300, &[(0, everything())]);
    for (a, b) in first.iter().zip(&second) {
        assert!(a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits()));
    }
}

#[test]
fn any_input_gives_finite_output_at_any_rate() {
    let bad = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        1e-42,
        -1e-42,
        f32::MAX,
        -f32::MAX,
        1.0,
        -0.0,
        0.0,
    ];
    for rate in [8_000.0, 11_025.0, 44_100.0, 88_200.0, 192_000.0] {
        for channels in [1, 2] {
            let mut rig = rig(rate, channels);
            let mut noise = Noise(8);
            let frames = (0.7 * rate) as usize;
            let phase = frames / 7;
            let input: Vec<Vec<f32>> = (0..channels)
                .map(|_| {
                    (0..frames)
                        .map(|n| match n / phase {
                            0 => bad[n % bad.len()],
                            1 => 1.0,
                            2 => noise.next().signum(),
                            3 => 0.0,
                            4 => 30.0 * noise.next(),
                            5 => 1e-40 * noise.next(),
                            _ => {
                                if n % 1000 == 0 {
                                    1.0
                                } else {
                                    0.0
                                }
                            }
                        })
                        .collect()
                })
                .collect();
            for settings in [
                everything(),
                Settings {
                    compare: true,
                    ..everything()
                },
            ] {
                let out = play(&mut rig, &input, 333, &[(0, settings)]);
                for y in out.iter().flatten() {
                    assert!(y.is_finite() && y.abs() < 1e6, "{y} at {rate} Hz");
                }
            }
        }
    }
}

/// Every setting at its ends and middle, one after the other, then random mixtures.
fn tour() -> Vec<Settings> {
    let mut all = vec![Settings::default(), everything()];
    let edits: [fn(&mut Settings, f32); 16] = [
        |s, x| s.repair = x,
        |s, x| s.declip = x,
        |s, x| s.declick = x,
        |s, x| s.denoise = x,
        |s, x| s.bass = x,
        |s, x| s.treble = x,
        |s, x| s.dereverb_early = x,
        |s, x| s.dereverb_late = x,
        |s, x| s.eq_match = x,
        |s, x| s.output_gain_db = 48.0 * x - 24.0,
        |s, x| s.mix = x,
        |s, x| s.blend = [x, 1.0 - x, x, x],
        |s, x| s.master_blend = x,
        |s, x| s.ceiling_db = -12.0 * x,
        |s, x| (s.limiter, s.bypass) = (x > 0.4, x > 0.9),
        |s, x| (s.delta, s.compare) = (x < 0.1, x > 0.4),
    ];
    for edit in edits {
        for x in [0.0, 0.5, 1.0] {
            let mut settings = everything();
            edit(&mut settings, x);
            all.push(settings);
        }
    }
    let mut noise = Noise(9);
    for _ in 0..20 {
        let mut settings = everything();
        for edit in edits {
            edit(&mut settings, 0.5 * (noise.next() + 1.0));
        }
        all.push(settings);
    }
    all
}

/// Runs the tour over damaged audio with odd block sizes, a locate, stops and patch swaps.
/// `swap` is called between blocks, `process` around each block.
fn run_tour(
    rig: &mut Rig,
    mut swap: impl FnMut(&mut Rig, usize),
    mut process: impl FnMut(&mut Chain, &mut [&mut [f32]], Transport, &Settings),
) {
    let rate = 48_000.0;
    let input = clipped(music(48_000, rate, 10), 0.2);
    let sizes = [1usize, 64, 97, 512, 1024, 333, 8192];
    let mut scratch = vec![vec![0.0f32; 8192]; 2];
    let mut pos = 0usize;
    for (i, settings) in tour().iter().enumerate() {
        for (j, &size) in sizes.iter().enumerate() {
            swap(rig, i * sizes.len() + j);
            for (s, x) in scratch.iter_mut().zip(&input) {
                for (n, s) in s[..size].iter_mut().enumerate() {
                    *s = x[(pos + n) % x.len()];
                }
            }
            let at = Transport {
                pos: Some(SamplePos((pos % input[0].len()) as i64)),
                playing: i % 9 != 0,
                capture: i % 2 == 0,
            };
            let (left, right) = scratch.split_at_mut(1);
            let mut block = [&mut left[0][..size], &mut right[0][..size]];
            process(&mut rig.chain, &mut block, at, settings);
            pos += size;
        }
    }
}

#[test]
fn process_allocates_and_frees_nothing() {
    let mut rig = rig(48_000.0, 2);
    let take = clipped(music(48_000, 48_000.0, 10), 0.2);
    let before = assert_no_alloc::violation_count();
    run_tour(
        &mut rig,
        |rig, round| {
            if round % 5 == 0 {
                rig.publisher.publish(PatchSet::new(vec![patch(&take, 0)]));
            }
            while rig.capture.pop().is_some() {}
        },
        |chain, block, at, settings| {
            assert_no_alloc::assert_no_alloc(|| {
                if at.pos == Some(SamplePos(0)) {
                    chain.reset();
                }
                chain.process(block, at, settings);
            });
        },
    );
    assert_eq!(assert_no_alloc::violation_count(), before);
}

/// In a child process whose only allowed system calls are read, write and exit (strict seccomp), the
/// whole tour must reach its end: a lock that waits, a file, a log or a clock call would kill it.
#[cfg(target_os = "linux")]
#[test]
fn process_makes_no_system_call() {
    let mut rig = rig(48_000.0, 2);
    let take = clipped(music(48_000, 48_000.0, 10), 0.2);
    rig.publisher.publish(PatchSet::new(vec![patch(&take, 0)]));
    // Inputs are made before the child is locked in; `tour` and `run_tour` allocate only at their start,
    // so the lock is closed at the first block.
    let mut locked = false;
    // SAFETY: the child touches only memory of its own copy and leaves by `exit` alone.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork failed");
    if child == 0 {
        run_tour(
            &mut rig,
            |_, _| {},
            |chain, block, at, settings| {
                if !locked {
                    locked = true;
                    // SAFETY: restricts this process; no memory is involved.
                    let closed =
                        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) };
                    if closed != 0 {
                        // SAFETY: plain exit of the child; 3 tells the parent why.
                        unsafe { libc::syscall(libc::SYS_exit, 3) };
                    }
                }
                chain.process(block, at, settings);
            },
        );
        // SAFETY: strict seccomp forbids `exit_group`; this ends the only thread of the child.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
        unreachable!();
    }
    let mut status = 0;
    // SAFETY: waits for the child made above.
    let waited = unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(waited, child);
    assert!(
        libc::WIFEXITED(status),
        "killed by signal {}: a system call inside `process`",
        libc::WTERMSIG(status)
    );
    assert_eq!(
        libc::WEXITSTATUS(status),
        0,
        "the child could not be locked in"
    );
}

#[test]
fn captured_audio_is_the_raw_input() {
    let input = clipped(music(10_000, 48_000.0, 11), 0.2);
    let mut rig = rig(48_000.0, 2);
    play(&mut rig, &input, 97, &[(0, everything())]);
    let mut block = [0.0f32; 8];
    let mut other = [0.0f32; 8];
    rig.chain.process(
        &mut [&mut block, &mut other],
        Transport::default(),
        &everything(),
    );
    let mut frames = 0;
    while let Some(chunk) = rig.capture.pop() {
        for i in 0..usize::from(chunk.len) {
            assert_eq!(chunk.pos.0 as usize + i, frames);
            assert_eq!(chunk.samples[0][i].to_bits(), input[0][frames].to_bits());
            assert_eq!(chunk.samples[1][i].to_bits(), input[1][frames].to_bits());
            frames += 1;
        }
    }
    assert_eq!(frames, 10_000);
}

#[test]
fn comparing_gives_the_input_the_loudness_of_the_output() {
    let rate = 48_000.0;
    let input = music(8 * 48_000, rate, 12);
    let quiet = Settings {
        output_gain_db: -9.0,
        compare: true,
        ..Settings::default()
    };
    let mut rig = rig(rate, 2);
    let latency = rig.chain.latency();
    let out = play(&mut rig, &input, 512, &[(0, quiet)]);
    let energy = |x: &[f32]| x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
    let (from, to) = (6 * 48_000, 8 * 48_000 - latency);
    let ratio = energy(&out[0][from + latency..to + latency]) / energy(&input[0][from..to]);
    let gain_db = 10.0 * ratio.log10();
    assert!((gain_db + 9.0).abs() < 0.2, "{gain_db} dB");
}

/// A and B within 0.2 LU of each other (integrated, EBU R 128) while the repair changes the tone and the level, also
/// while its stages still learn.
#[test]
fn a_and_b_are_equally_loud() {
    let rate = 48_000u32;
    let seconds = 24;
    let input = clipped(music((seconds * rate) as usize, f64::from(rate), 13), 0.2);
    let [a, b] = [true, false].map(|compare| {
        let settings = Settings {
            compare,
            ..everything()
        };
        let mut rig = rig(f64::from(rate), 2);
        play(&mut rig, &input, 512, &[(0, settings)])
    });
    let loudness = |audio: &[Vec<f32>], from: u32, to: u32| {
        let stretch = |c: &Vec<f32>| c[(from * rate) as usize..(to * rate) as usize].to_vec();
        let audio = AudioBuffer::new(audio.iter().map(stretch).collect(), rate);
        integrated_lufs(&audio).expect("it is loud enough to be measured")
    };
    for (from, to) in [
        (0, 8),
        (0, 4),
        (1, 8),
        (4, 8),
        (4, 14),
        (8, 14),
        (14, 19),
        (19, seconds),
        (14, seconds),
    ] {
        let (a, b) = (loudness(&a, from, to), loudness(&b, from, to));
        println!("{from}–{to} s: A {a:.2}, B {b:.2} LUFS");
        assert!(
            (a - b).abs() <= 0.2,
            "{from}–{to} s: A {a:.2}, B {b:.2} LUFS"
        );
    }
    // There was something to match.
    let (raw, b) = (loudness(&input, 4, seconds), loudness(&b, 4, seconds));
    assert!(
        (raw - b).abs() > 1.0,
        "the input has {raw:.2}, the repair {b:.2} LUFS"
    );
}
