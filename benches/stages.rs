//! Cost of the stages around the repair kernels: one 64-sample stereo block at 48 kHz, everything engaged.
//! A block lasts 1333 µs. Criterion shows means; `block_times` prints the tail that glitches come from.

use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use uncook::realtime::{
    Stage,
    bandwidth::{BassRestorer, TrebleRestorer},
    denoise::Denoiser,
    dereverb::Dereverb,
    eq::EqMatcher,
    limiter::Limiter,
};

const RATE: f64 = 48_000.0;
const BLOCK: usize = 64;
const SECONDS: usize = 20;

/// Damaged on purpose: decaying notes behind a high-pass and a low-pass, in noise, with peaks above full scale.
fn signal() -> Vec<f32> {
    let mut state = 1u32;
    let (mut low, mut lower) = (0.0f32, 0.0f32);
    (0..SECONDS * RATE as usize)
        .map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let white = state as f32 / u32::MAX as f32 - 0.5;
            let t = (i % 20_000) as f32 / RATE as f32;
            let notes: f32 = (4..30)
                .map(|h| (55.0 * h as f32 * t * std::f32::consts::TAU).sin() / h as f32)
                .sum();
            low += 0.5 * (notes * (-6.0 * t).exp() * 3.0 + 0.1 * white - low);
            lower += 0.03 * (low - lower);
            low - lower
        })
        .collect()
}

type Process = Box<dyn FnMut(&mut [f32], &mut [f32])>;

fn stages() -> Vec<(&'static str, Process)> {
    fn boxed(mut stage: impl Stage + 'static) -> Process {
        stage.set_intensity(1.0);
        Box::new(move |l, r| stage.process(&mut [l, r]))
    }
    let mut limiter = Limiter::live(RATE, 2);
    vec![
        ("denoise", boxed(Denoiser::live(RATE, 2))),
        ("bass", boxed(BassRestorer::live(RATE, 2))),
        ("treble", boxed(TrebleRestorer::live(RATE, 2))),
        ("dereverb", boxed(Dereverb::live(RATE, 2))),
        ("eq", boxed(EqMatcher::live(RATE, 2))),
        (
            "limiter",
            Box::new(move |l, r| {
                let (mut a, mut b) = ([0.5f32; BLOCK], [0.5f32; BLOCK]);
                limiter.process(&mut [l, r], &mut [&mut a, &mut b]);
            }),
        ),
    ]
}

fn block_times() {
    let signal = signal();
    let share = |seconds: f64| 100.0 * seconds * RATE / BLOCK as f64;
    let mut sums = vec![0.0f64; signal.len() / BLOCK];
    println!("share of one core, 64-sample stereo blocks at 48 kHz: mean / median / 99.9 % / max");
    let report = |name: &str, times: &[f64]| {
        let mut sorted = times.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |q: f64| share(sorted[((sorted.len() - 1) as f64 * q) as usize]);
        let mean = share(times.iter().sum::<f64>() / times.len() as f64);
        println!(
            "{name:10} {mean:6.2} % {:6.2} % {:6.2} % {:6.2} %",
            at(0.5),
            at(0.999),
            at(1.0)
        );
    };
    for (name, mut process) in stages() {
        let mut times = vec![0.0; sums.len()];
        for ((block, time), sum) in signal.chunks_exact(BLOCK).zip(&mut times).zip(&mut sums) {
            let (mut l, mut r) = ([0.0; BLOCK], [0.0; BLOCK]);
            l.copy_from_slice(block);
            r.copy_from_slice(block);
            let start = Instant::now();
            process(&mut l, &mut r);
            *time = start.elapsed().as_secs_f64();
            *sum += *time;
        }
        report(name, &times);
    }
    report("together", &sums);
}

fn bench(criterion: &mut Criterion) {
    block_times();
    let signal = signal();
    for (name, mut process) in stages() {
        let mut at = 0;
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                let (mut l, mut r) = ([0.0; BLOCK], [0.0; BLOCK]);
                l.copy_from_slice(&signal[at..at + BLOCK]);
                r.copy_from_slice(&signal[at..at + BLOCK]);
                process(&mut l, &mut r);
                at = (at + BLOCK) % (signal.len() - BLOCK);
            });
        });
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
