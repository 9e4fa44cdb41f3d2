//! Cost of the live chain per block: `cargo bench --bench chain`.
//!
//! Prints the block time as a share of the block's duration (one core at 48 kHz) in 64-sample stereo
//! blocks: median, 99.9th percentile and maximum over a minute of music clipped throughout.

use std::{sync::Arc, time::Instant};

use uncook::{
    exchange::{SamplePos, capture::capture_ring, meters::Meters, patch::patch_snapshot},
    realtime::{AudioLink, Chain, Settings, Transport},
};

const RATE: f64 = 48_000.0;
const BLOCK: usize = 64;
const SECONDS: usize = 60;

fn main() {
    let everything = Settings {
        denoise: 1.0,
        bass: 1.0,
        treble: 1.0,
        dereverb_early: 1.0,
        dereverb_late: 1.0,
        eq_match: 1.0,
        ..Settings::default()
    };
    let only = |edit: fn(&mut Settings)| {
        let mut s = Settings {
            declip: 0.0,
            declick: 0.0,
            denoise: 0.0,
            limiter: false,
            ..Settings::default()
        };
        edit(&mut s);
        s
    };
    println!("share of one core, {BLOCK}-sample stereo blocks at 48 kHz, input clipped throughout");
    println!(
        "{:<22} {:>8} {:>8} {:>8}",
        "settings", "median", "99.9 %", "max"
    );
    for (name, settings) in [
        ("everything on", everything),
        ("default", Settings::default()),
        ("all off", only(|_| ())),
        ("declick only", only(|s| s.declick = 1.0)),
        ("declip only", only(|s| s.declip = 1.0)),
        ("denoise only", only(|s| s.denoise = 1.0)),
        ("bass only", only(|s| s.bass = 1.0)),
        ("treble only", only(|s| s.treble = 1.0)),
        ("EQ match only", only(|s| s.eq_match = 1.0)),
        (
            "dereverb only",
            only(|s| (s.dereverb_early, s.dereverb_late) = (1.0, 1.0)),
        ),
        ("limiter only", only(|s| s.limiter = true)),
    ] {
        let mut shares = run(&settings);
        shares.sort_by(f64::total_cmp);
        let at = |q: f64| 100.0 * shares[((shares.len() - 1) as f64 * q) as usize];
        println!(
            "{name:<22} {:>7.1}% {:>7.1}% {:>7.1}%",
            at(0.5),
            at(0.999),
            at(1.0)
        );
    }
}

fn run(settings: &Settings) -> Vec<f64> {
    let (capture, mut reader) = capture_ring(1 << 16);
    let (_publisher, patches) = patch_snapshot();
    let link = AudioLink {
        patches,
        capture,
        meters: Arc::new(Meters::default()),
    };
    let mut chain = Chain::new(RATE, 2, link);
    let duration = BLOCK as f64 / RATE;
    let mut shares = Vec::with_capacity(SECONDS * RATE as usize / BLOCK);
    let mut seed = 1u64;
    let mut noise = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    };
    let tau = std::f64::consts::TAU;
    for block in 0..SECONDS * RATE as usize / BLOCK {
        let (mut left, mut right) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
        for i in 0..BLOCK {
            let t = (block * BLOCK + i) as f64 / RATE;
            let hit = (-(t % 0.5) * 20.0).exp() * noise();
            let bass: f64 = (1..8)
                .map(|h| (tau * 55.0 * f64::from(h) * t).sin() / f64::from(h))
                .sum();
            let mid = 0.5 * hit + 0.4 * bass;
            left[i] = (mid + 0.3 * (tau * 277.2 * t).sin()).clamp(-0.3, 0.3) as f32;
            right[i] = (mid + 0.3 * (tau * 329.6 * t).sin()).clamp(-0.3, 0.3) as f32;
        }
        let at = Transport {
            pos: Some(SamplePos((block * BLOCK) as i64)),
            playing: true,
            capture: true,
        };
        let start = Instant::now();
        chain.process(&mut [&mut left, &mut right], at, settings);
        shares.push(start.elapsed().as_secs_f64() / duration);
        while reader.pop().is_some() {}
    }
    shares
}
