//! The damage detector against damage that was put there.

use std::f64::consts::TAU;

use uncook::{
    audio::AudioBuffer,
    damage::{DamageKind, DamageMap, Severity},
    metrics::damage::damage_map,
    realtime::detect::{DELAY_FRAMES, Detector},
};

use super::support::Noise;

/// A band: bass line, chords that ring, kick, snare and hats, all with known onsets.
fn band(seconds: f64, rate: u32) -> Vec<f32> {
    let length = (seconds * f64::from(rate)) as usize;
    let mut out = vec![0.0f64; length];
    let mut noise = Noise(77);
    let eighth = rate as usize / 4;
    let bass = [55.0, 55.0, 73.4, 82.4, 49.0, 49.0, 65.4, 61.7];
    for (i, start) in (0..length).step_by(eighth).enumerate() {
        let f0 = bass[i % 8];
        let n = eighth.min(length - start);
        for k in 0..n {
            let t = k as f64 / f64::from(rate);
            let attack = (t / 0.004).min(1.0) * ((n - k) as f64 / 200.0).min(1.0);
            let mut x = 0.0;
            for h in 1..=6 {
                x += (TAU * f0 * f64::from(h) * t).sin() / f64::from(h * h) * 0.25;
            }
            for voice in [4.0, 5.0, 6.0] {
                for h in 1..=10 {
                    let hz = f0 * voice * f64::from(h);
                    if hz < 0.45 * f64::from(rate) {
                        x += 0.02 / f64::from(h) * (TAU * hz * t).sin() * (-3.0 * t).exp();
                    }
                }
            }
            out[start + k] += attack * x;
            // Hats on every eighth, kick and snare in turns.
            let hat = 0.08 * (-60.0 * t).exp() * f64::from(noise.next());
            // Real heads do not start with a kink.
            let strike = (t / 0.001).min(1.0);
            let drum = match i % 4 {
                0 => {
                    0.5 * (TAU * (50.0 * t + 4.0 * (1.0 - (-40.0 * t).exp()))).sin()
                        * (-12.0 * t).exp()
                }
                2 => 0.35 * (-25.0 * t).exp() * f64::from(noise.next()),
                _ => 0.0,
            };
            let end = ((n - k) as f64 / 200.0).min(1.0);
            out[start + k] += end * (hat + strike * drum);
        }
    }
    out.iter().map(|&x| x as f32).collect()
}

fn map(samples: &[f32], rate: u32) -> DamageMap {
    damage_map(&AudioBuffer::new(vec![samples.to_vec()], rate))
}

fn clipping_or_saturation(frame: &Severity) -> f32 {
    frame[DamageKind::Clipping as usize].max(frame[DamageKind::Saturation as usize])
}

/// ROC AUC by counting pairs.
fn auc(positive: &[f32], negative: &[f32]) -> f64 {
    let mut wins = 0.0;
    for p in positive {
        for n in negative {
            wins += if p > n {
                1.0
            } else if p == n {
                0.5
            } else {
                0.0
            };
        }
    }
    wins / (positive.len() * negative.len()) as f64
}

fn run(detector: &mut Detector, channels: &[&[f32]], block: usize) -> Vec<(u64, Severity)> {
    let mut out = Vec::new();
    let length = channels[0].len();
    let mut at = 0;
    while at < length {
        let to = (at + block).min(length);
        let part: Vec<&[f32]> = channels.iter().map(|c| &c[at..to]).collect();
        detector.process(&part, &mut |index, severity| out.push((index, *severity)));
        at = to;
    }
    out
}

#[test]
fn any_split_of_the_input_gives_the_same_map() {
    for rate in [8000u32, 11_025, 44100, 48000] {
        let left = band(1.3, rate);
        let right: Vec<f32> = left.iter().map(|x| x.clamp(-0.2, 0.2)).collect();
        let channels = [left.as_slice(), right.as_slice()];
        let mut detector = Detector::new(f64::from(rate), 2);
        let whole = run(&mut detector, &channels, left.len());
        let frames = left.len() as u64 * 100 / u64::from(rate);
        assert_eq!(whole.len() as u64, frames - DELAY_FRAMES as u64);
        assert!(whole.iter().enumerate().all(|(i, w)| w.0 == i as u64));
        for block in [1, 64, 97, 512] {
            detector.reset();
            assert_eq!(
                run(&mut detector, &channels, block),
                whole,
                "{rate} Hz, {block}"
            );
        }
    }
}

#[test]
fn hard_clipping_is_found_frame_by_frame() {
    for rate in [44100, 48000, 96000] {
        let clean = band(4.0, rate);
        let top = 0.3;
        let clipped: Vec<f32> = clean.iter().map(|x| x.clamp(-top, top)).collect();
        // As a 16 bit file would hold it.
        let stored: Vec<f32> = clipped
            .iter()
            .map(|x| (x * 1.7 * 32768.0).round() / 32768.0)
            .collect();
        let frame = rate as usize / 100;
        let truth: Vec<bool> = clean
            .chunks(frame)
            .map(|c| c.iter().any(|x| x.abs() > top))
            .collect();
        let damaged = map(&stored, rate);
        let scores: Vec<f32> = damaged.frames.iter().map(clipping_or_saturation).collect();
        let of = |wanted: bool| -> Vec<f32> {
            let pairs = scores.iter().zip(&truth);
            pairs
                .filter(|(_, t)| **t == wanted)
                .map(|(s, _)| *s)
                .collect()
        };
        let (positive, negative) = (of(true), of(false));
        assert!(positive.len() > 30 && negative.len() > 30);
        let area = auc(&positive, &negative);
        assert!(area > 0.98, "{rate} Hz: AUC {area:.3}");
        let clean_map = map(&clean, rate);
        let share = clean_map.share(DamageKind::Clipping, 0.5);
        assert!(share == 0.0, "{rate} Hz: {share} of clean frames clipped");
        let share = clean_map.share(DamageKind::Saturation, 0.5);
        assert!(
            share <= 0.03,
            "{rate} Hz: {share} of clean frames overdriven"
        );
    }
}

#[test]
fn soft_overdrive_is_told_from_clean() {
    let rate = 44100;
    let clean = band(5.0, rate);
    let driven: Vec<f32> = clean.iter().map(|x| 0.12 * (x / 0.12).tanh()).collect();
    let score = |x: &[f32]| -> Vec<f32> {
        map(x, rate)
            .frames
            .iter()
            .map(clipping_or_saturation)
            .collect()
    };
    let area = auc(&score(&driven), &score(&clean));
    assert!(area > 0.95, "AUC {area:.3}");
}

#[test]
fn clicks_are_found_where_they_are_and_drums_are_not() {
    for rate in [24_000, 48_000] {
        let mut samples = band(3.0, rate);
        let clean = map(&samples, rate).regions(DamageKind::Click, 0.5, 0);
        assert_eq!(clean, [], "{rate} Hz: clean");
        let mut noise = Noise(4);
        let spots: Vec<usize> = (1..24)
            .map(|i| i * rate as usize / 8 + rate as usize / 20)
            .collect();
        for &at in &spots {
            samples[at] += 0.5 * noise.next().signum();
            samples[at + 1] -= 0.3;
        }
        let found = map(&samples, rate);
        let frame = rate as usize / 100;
        let hit = |at: usize| found.frames[at / frame][DamageKind::Click as usize] >= 0.5;
        // Every eighth one falls into a snare, which hides it.
        let hits = spots.iter().filter(|&&at| hit(at)).count();
        assert!(hits >= 18, "{rate} Hz: {hits} of {}", spots.len());
        let flagged = found
            .frames
            .iter()
            .filter(|f| f[DamageKind::Click as usize] >= 0.5)
            .count();
        assert!(flagged <= spots.len(), "{rate} Hz: {flagged} frames");
    }
}

#[test]
fn dropouts_are_gaps_between_loud_sides_only() {
    let rate = 44100usize;
    let mut samples = band(3.0, rate as u32);
    assert_eq!(
        map(&samples, rate as u32).share(DamageKind::Dropout, 0.5),
        0.0
    );
    samples[rate..rate + 2205].fill(0.0); // 50 ms, at a beat
    let n = samples.len();
    for (i, x) in samples[n - rate / 2..].iter_mut().enumerate() {
        *x *= (-(i as f32) / 1000.0).exp(); // fades to silence: no dropout
    }
    let found = map(&samples, rate as u32).regions(DamageKind::Dropout, 0.5, 0);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!((found[0].start - 1.0).abs() < 0.011 && (found[0].end - 1.05).abs() < 0.011);
}

#[test]
fn an_abrupt_end_is_no_dropout() {
    // As a player hears it: the song stops on a beat, then silence for as long as the transport runs.
    for rate in [44_100u32, 48_000] {
        let mut samples = band(2.0, rate);
        let end = samples.len();
        samples.extend(std::iter::repeat_n(0.0, rate as usize));
        let mut detector = Detector::new(f64::from(rate), 1);
        let map = run(&mut detector, &[&samples], 512);
        assert!(
            map.iter()
                .all(|(_, s)| s[DamageKind::Dropout as usize] == 0.0)
        );
        // The same silence with music behind it is one, if it is short enough.
        for (silence, missing) in [(0.2, true), (0.5, false)] {
            let gap = (silence * f64::from(rate)) as usize;
            samples.truncate(end + gap);
            samples.extend(band(1.0, rate));
            detector.reset();
            let map = run(&mut detector, &[&samples], 512);
            let frames = map
                .iter()
                .filter(|(_, s)| s[DamageKind::Dropout as usize] >= 0.5);
            let expected = if missing { 19..=21 } else { 0..=0 };
            assert!(expected.contains(&frames.count()), "{rate} Hz, {silence} s");
            samples.truncate(end);
            samples.extend(std::iter::repeat_n(0.0, rate as usize));
        }
    }
}

#[test]
fn clean_instruments_are_not_called_damaged() {
    let rate = 44_100;
    let flagged = |samples: &[f32], kind| map(samples, rate).share(kind, 0.5);
    // A held, overdriven chord: as steady as noise, but not smooth.
    let chord: Vec<f32> = (0..8 * rate as usize)
        .map(|n| {
            let t = n as f64 / f64::from(rate);
            let sum: f64 = [110.0, 164.8, 220.0]
                .iter()
                .map(|f| (TAU * f * t).sin() * (1.0 + 0.05 * (TAU * 5.0 * t).sin()))
                .sum();
            0.3 * (4.0 * sum).tanh() as f32
        })
        .collect();
    let noisy = flagged(&chord, DamageKind::Noise);
    assert!(noisy <= 0.03, "held chord: {noisy} of the frames are noisy");
    // Dry music whose shaker rings for 0.6 s per 60 dB.
    let mut noise = Noise(12);
    let shaker: Vec<f32> = (0..10 * rate as usize)
        .map(|n| {
            let t = (n % (rate as usize / 4)) as f64 / f64::from(rate);
            0.3 * noise.next() * 10f64.powf(-3.0 * t / 0.6) as f32
        })
        .collect();
    let roomy = flagged(&shaker, DamageKind::Reverb);
    assert!(roomy <= 0.03, "shaker: {roomy} of the frames are roomy");
}

/// Second-order sections of a Butterworth filter, as often as wanted.
fn filtered(samples: &[f32], hz: f64, rate: u32, high: bool, times: usize) -> Vec<f32> {
    let k = (std::f64::consts::PI * hz / f64::from(rate)).tan();
    let norm = 1.0 / (1.0 + k * std::f64::consts::SQRT_2 + k * k);
    let (a1, a2) = (
        2.0 * (k * k - 1.0) * norm,
        (1.0 - k * std::f64::consts::SQRT_2 + k * k) * norm,
    );
    let (b0, b1) = if high {
        (norm, -2.0 * norm)
    } else {
        (k * k * norm, 2.0 * k * k * norm)
    };
    let mut out: Vec<f64> = samples.iter().map(|&x| f64::from(x)).collect();
    for _ in 0..times {
        let (mut s1, mut s2) = (0.0, 0.0);
        for x in &mut out {
            let y = b0 * *x + s1;
            s1 = b1 * *x - a1 * y + s2;
            s2 = b0 * *x - a2 * y;
            *x = y;
        }
    }
    out.iter().map(|&x| x as f32).collect()
}

fn last(samples: &[f32], rate: u32, kind: DamageKind) -> f32 {
    map(samples, rate).frames.last().unwrap()[kind as usize]
}

#[test]
fn lost_bands_are_seen() {
    let rate = 44100;
    let clean = band(4.0, rate);
    assert!(last(&clean, rate, DamageKind::BandLimit) < 0.5);
    let phone = filtered(&clean, 250.0, rate, true, 2);
    assert!(last(&phone, rate, DamageKind::BandLimit) >= 0.5, "no lows");
    let dull = filtered(&clean, 3000.0, rate, false, 3);
    assert!(last(&dull, rate, DamageKind::BandLimit) >= 0.5, "no highs");
}

#[test]
fn steady_noise_is_heard_under_music() {
    let rate = 44100;
    let clean = band(4.0, rate);
    assert!(last(&clean, rate, DamageKind::Noise) < 0.5);
    let mut noise = Noise(8);
    let hissy: Vec<f32> = clean.iter().map(|x| x + 0.1 * noise.next()).collect();
    assert!(last(&hissy, rate, DamageKind::Noise) >= 0.5);
}

#[test]
fn long_decays_are_room() {
    let rate = 44100;
    let bursts = |rt60: f64| -> Vec<f32> {
        let mut noise = Noise(6);
        (0..6 * rate as usize)
            .map(|n| {
                let t = (n % (rate as usize / 2)) as f64 / f64::from(rate);
                0.5 * noise.next() * 10f64.powf(-3.0 * t / rt60) as f32
            })
            .collect()
    };
    assert!(last(&bursts(0.3), rate, DamageKind::Reverb) < 0.3);
    assert!(last(&bursts(1.5), rate, DamageKind::Reverb) > 0.7);
}

#[test]
fn coding_holes_are_seen() {
    let rate = 44100;
    let mut noise = Noise(2);
    let music: Vec<f32> = band(4.0, rate)
        .iter()
        .map(|x| x + 0.02 * noise.next())
        .collect();
    assert!(last(&music, rate, DamageKind::Codec) < 0.5);
    // What a coder does that runs out of bits: every other kilohertz above 10.5 kHz is left out.
    let size = music.len();
    let mut planner = realfft::RealFftPlanner::<f32>::new();
    let (forward, inverse) = (
        planner.plan_fft_forward(size),
        planner.plan_fft_inverse(size),
    );
    let mut spectrum = forward.make_output_vec();
    forward.process(&mut music.clone(), &mut spectrum).unwrap();
    for (k, bin) in spectrum.iter_mut().enumerate() {
        let hz = k * rate as usize / size;
        if hz > 10_500 && hz % 2000 < 1000 {
            *bin = Default::default();
        }
        *bin /= size as f32;
    }
    let mut holes = vec![0.0; size];
    inverse.process(&mut spectrum, &mut holes).unwrap();
    assert!(last(&holes, rate, DamageKind::Codec) >= 0.5);
}

#[test]
fn anything_stays_finite_and_bounded() {
    let nasty: [fn(usize) -> f32; 7] = [
        |_| f32::NAN,
        |n| if n % 3 == 0 { f32::INFINITY } else { -1e30 },
        |_| 0.7,
        |_| 0.0,
        |n| if n % 2 == 0 { 1.0 } else { -1.0 },
        |n| if n == 1000 { 1.0 } else { 0.0 },
        |n| f32::MIN_POSITIVE * (n % 7) as f32,
    ];
    for rate in [8000.0, 44100.0, 192_000.0, f64::NAN] {
        for channels in 0..=3 {
            let mut detector = Detector::new(rate, channels);
            for make in nasty {
                let samples: Vec<f32> = (0..20_000).map(make).collect();
                let planes = vec![samples.as_slice(); channels];
                detector.process(&planes, &mut |_, severity| {
                    assert!(
                        severity.iter().all(|s| (0.0..=1.0).contains(s)),
                        "{severity:?}"
                    );
                });
            }
        }
    }
}

#[test]
fn a_map_has_a_frame_for_every_started_hundredth() {
    for (frames, rate, wanted) in [
        (0, 48000, 0),
        (1, 48000, 1),
        (480, 48000, 1),
        (481, 48000, 2),
        (44100, 44100, 100),
    ] {
        let audio = AudioBuffer::silence(2, frames, rate);
        assert_eq!(
            damage_map(&audio).frames.len(),
            wanted,
            "{frames} at {rate}"
        );
    }
}
