//! Dereverberation: the room is measured right, and there is less of it afterwards.

use uncook::{
    realtime::{Stage, dereverb::Dereverb},
    worker::{progress::Progress, restore},
};

use super::{
    denoise::{RATE, obeys_the_laws},
    support::Noise,
};

/// Short bursts of coloured noise with silence between: dry by construction, decays are the room's.
fn bursts(seconds: f64, seed: u64) -> Vec<f32> {
    let mut noise = Noise(seed);
    let n = (seconds * RATE) as usize;
    let period = (0.45 * RATE) as usize;
    let mut low = 0.0f32;
    (0..n)
        .map(|i| {
            let t = (i % period) as f32 / RATE as f32;
            low += 0.4 * (noise.next() - low);
            if t < 0.06 {
                low * (1.0 - t / 0.06)
            } else {
                0.0
            }
        })
        .collect()
}

/// A statistical room (Moorer 1979): direct sound, then noise that falls by 60 dB in `rt60` seconds.
fn room(dry: &[f32], rt60: f64, seed: u64) -> Vec<f32> {
    let mut noise = Noise(seed);
    let length = (0.9 * rt60 * RATE) as usize;
    let mut response: Vec<f32> = (0..length)
        .map(|i| noise.next() * 10f64.powf(-3.0 * i as f64 / (rt60 * RATE)) as f32)
        .collect();
    response[..150].fill(0.0);
    let energy: f32 = response.iter().map(|x| x * x).sum();
    for x in &mut response {
        *x /= energy.sqrt();
    }
    response[0] = 1.0;
    // Direct convolution through a transform, long enough not to wrap.
    let size = (dry.len() + length).next_power_of_two();
    let mut planner = realfft::RealFftPlanner::<f32>::new();
    let (forward, inverse) = (
        planner.plan_fft_forward(size),
        planner.plan_fft_inverse(size),
    );
    let spectrum = |x: &[f32]| {
        let mut padded = x.to_vec();
        padded.resize(size, 0.0);
        let mut out = forward.make_output_vec();
        forward.process(&mut padded, &mut out).unwrap();
        out
    };
    let (mut a, b) = (spectrum(dry), spectrum(&response));
    for (x, y) in a.iter_mut().zip(b) {
        *x = *x * y / size as f32;
    }
    let mut out = inverse.make_output_vec();
    inverse.process(&mut a, &mut out).unwrap();
    out.truncate(dry.len());
    out
}

fn si_sdr_db(reference: &[f32], estimate: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(x, y)| f64::from(*x) * f64::from(*y))
            .sum()
    };
    let scale = dot(reference, estimate) / dot(reference, reference);
    let target = scale * scale * dot(reference, reference);
    10.0 * (target / (dot(estimate, estimate) - target).max(1e-30)).log10()
}

fn through(stage: &mut Dereverb, signal: &[f32]) -> Vec<f32> {
    let mut out = signal.to_vec();
    out.resize(signal.len() + stage.latency(), 0.0);
    stage.process(&mut [&mut out]);
    out.split_off(stage.latency())
}

#[test]
fn keeps_the_laws_of_a_stage() {
    let wet = room(&bursts(1.2, 1), 0.5, 2);
    obeys_the_laws(
        &|rate, channels| Box::new(Dereverb::live(rate, channels)),
        &wet,
    );
}

#[test]
fn the_room_is_measured_blind() {
    for (rt60, seed) in [(0.4f64, 3), (0.8, 4), (1.5, 5)] {
        let mut stage = Dereverb::live(RATE, 1);
        let wet = room(&bursts(8.0, seed), rt60, seed + 10);
        through(&mut stage, &wet);
        let measured = f64::from(stage.rt60());
        assert!((measured / rt60).log2().abs() < 0.4, "{rt60}: {measured}");
    }
}

#[test]
fn late_reverberation_falls_and_the_dry_sound_stays() {
    for rt60 in [0.8, 1.5] {
        let dry = bursts(8.0, 7);
        let wet = room(&dry, rt60, 8);
        let before = si_sdr_db(&dry, &wet);
        let mut stage = Dereverb::live(RATE, 1);
        stage.set_intensities(0.0, 1.0);
        let live = through(&mut stage, &wet);
        let gain = si_sdr_db(&dry, &live) - before;
        assert!(gain > 1.2, "live {rt60}: {gain}");
        let mut offline = vec![wet.clone()];
        let progress = Progress::new();
        assert!(restore::dereverb::restore(
            &mut offline,
            RATE,
            0.0,
            1.0,
            &progress
        ));
        let offline_gain = si_sdr_db(&dry, &offline[0]) - before;
        assert!(
            offline_gain > gain - 0.2,
            "offline {rt60}: {offline_gain}, live {gain}"
        );
    }
}

#[test]
fn early_reflections_are_reduced() {
    let dry = bursts(16.0, 9);
    // Four reflections between 24 and 46 ms.
    let mut wet = dry.clone();
    for (ms, gain) in [(24.0, 0.5), (30.0, -0.4), (37.0, 0.35), (46.0, 0.3)] {
        let delay = (ms * 1e-3 * RATE) as usize;
        for n in delay..wet.len() {
            wet[n] += gain * dry[n - delay];
        }
    }
    let mut stage = Dereverb::live(RATE, 1);
    stage.set_intensities(1.0, 0.0);
    let out = through(&mut stage, &wet);
    let tail = 8 * RATE as usize..;
    let before = si_sdr_db(&dry[tail.clone()], &wet[tail.clone()]);
    let gain = si_sdr_db(&dry[tail.clone()], &out[tail]) - before;
    assert!(gain > 0.6, "{gain}");
}

#[test]
fn held_notes_are_not_taken_for_room() {
    // Organ chords over the bursts: a predictor that trusts itself takes the notes, too.
    let chords = [[110.0, 138.6, 164.8], [98.0, 123.5, 146.8]];
    let dry: Vec<f32> = bursts(8.0, 21)
        .iter()
        .enumerate()
        .map(|(n, burst)| {
            let t = n as f64 / RATE;
            let chord = chords[t as usize % 2];
            let edge = (t.fract() * 50.0).min((1.0 - t.fract()) * 50.0).min(1.0);
            let sum: f64 = (chord.iter())
                .flat_map(|f| (1..6).map(move |h| (f * f64::from(h), 1.0 / f64::from(h))))
                .map(|(f, level)| level * (std::f64::consts::TAU * f * t).sin())
                .sum();
            burst + (0.05 * edge * sum) as f32
        })
        .collect();
    for rt60 in [0.8, 1.5] {
        let wet = room(&dry, rt60, 22);
        let before = si_sdr_db(&dry, &wet);
        let mut stage = Dereverb::live(RATE, 1);
        let live = si_sdr_db(&dry, &through(&mut stage, &wet)) - before;
        let mut offline = vec![wet.clone()];
        let progress = Progress::new();
        restore::dereverb::restore(&mut offline, RATE, 1.0, 1.0, &progress);
        let offline = si_sdr_db(&dry, &offline[0]) - before;
        assert!(live >= 0.0 && offline >= 0.0, "{rt60}: {live}, {offline}");
    }
}

#[test]
fn both_intensities_at_0_return_the_input() {
    let wet = room(&bursts(1.0, 1), 0.5, 2);
    let mut stage = Dereverb::live(RATE, 1);
    stage.set_intensities(0.0, 0.0);
    stage.reset();
    let out = through(&mut stage, &wet);
    assert!(
        wet.iter()
            .zip(&out)
            .all(|(a, b)| a.to_bits() == b.to_bits())
    );
    let mut offline = vec![wet.clone()];
    restore::dereverb::restore(&mut offline, RATE, 0.0, 0.0, &Progress::new());
    assert!(offline[0] == wet);
}
