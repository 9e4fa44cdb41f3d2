//! Cost of the live chain per block: `cargo bench --bench chain`.
//!
//! Prints the block time as a share of the block's duration (one core at 48 kHz) in 64-sample stereo
//! blocks: median, 99.9th percentile and maximum over a minute of music clipped throughout, or crackling: 25
//! clicks a second, each channel's its own.

use std::{sync::Arc, time::Instant};

use uncook::{
    exchange::{SamplePos, capture::capture_ring, meters::Meters, patch::patch_snapshot},
    realtime::{AudioLink, Chain, Settings, Transport},
};

const RATE: f64 = 48_000.0;
const BLOCK: usize = 64;
const SECONDS: usize = 60;

#[derive(Clone, Copy, PartialEq)]
enum Input {
    Clipped,
    Crackling,
}

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
    println!("share of one core, {BLOCK}-sample stereo blocks at 48 kHz");
    println!(
        "{:<22} {:>8} {:>8} {:>8}",
        "settings", "median", "99.9 %", "max"
    );
    let (clipped, crackling) = (Input::Clipped, Input::Crackling);
    for (name, input, settings) in [
        ("everything on", clipped, everything),
        ("everything on, crackle", crackling, everything),
        ("default", clipped, Settings::default()),
        ("all off", clipped, only(|_| ())),
        ("declick only", clipped, only(|s| s.declick = 1.0)),
        ("declick, crackle", crackling, only(|s| s.declick = 1.0)),
        ("declip only", clipped, only(|s| s.declip = 1.0)),
        ("denoise only", clipped, only(|s| s.denoise = 1.0)),
        ("bass only", clipped, only(|s| s.bass = 1.0)),
        ("treble only", clipped, only(|s| s.treble = 1.0)),
        ("EQ match only", clipped, only(|s| s.eq_match = 1.0)),
        (
            "dereverb only",
            clipped,
            only(|s| (s.dereverb_early, s.dereverb_late) = (1.0, 1.0)),
        ),
        ("limiter only", clipped, only(|s| s.limiter = true)),
    ] {
        let mut shares = run(&settings, input);
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

fn run(settings: &Settings, input: Input) -> Vec<f64> {
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
    // Of each channel: samples to the next click, samples left of this one.
    let mut clicks = [[0usize; 2]; 2];
    for block in 0..SECONDS * RATE as usize / BLOCK {
        let (mut left, mut right) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
        for i in 0..BLOCK {
            let t = (block * BLOCK + i) as f64 / RATE;
            let hit = (-(t % 0.5) * 20.0).exp() * noise();
            let bass: f64 = (1..8)
                .map(|h| (tau * 55.0 * f64::from(h) * t).sin() / f64::from(h))
                .sum();
            let mid = 0.5 * hit + 0.4 * bass;
            let mut stereo = [277.2, 329.6].map(|f| mid + 0.3 * (tau * f * t).sin());
            for (x, [wait, rest]) in stereo.iter_mut().zip(&mut clicks) {
                match input {
                    Input::Clipped => *x = x.clamp(-0.3, 0.3),
                    // A click of three samples every 20 to 60 ms.
                    Input::Crackling => {
                        *x *= 0.3;
                        if *wait == 0 {
                            (*wait, *rest) = ((RATE * (0.04 + 0.02 * noise())) as usize, 3);
                        }
                        *wait -= 1;
                        if *rest > 0 {
                            *rest -= 1;
                            *x += 0.7 * noise();
                        }
                    }
                }
            }
            (left[i], right[i]) = (stereo[0] as f32, stereo[1] as f32);
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
