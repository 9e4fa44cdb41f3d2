//! Cost of the stages around the repair kernels: one 64-sample stereo block at 48 kHz, everything engaged.
//! A block lasts 1333 µs. Criterion shows means; `block_times` prints the tail that glitches come from.

use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use uncook::realtime::{
    Stage,
    bandwidth::{BassRestorer, TrebleRestorer},
    denoise::Denoiser,
    dereverb::Dereverb,
    eq::{
        EqMatcher,
        biquad::{Coefficients, State},
    },
    limiter::Limiter,
};

const RATE: f64 = 48_000.0;
const BLOCK: usize = 64;
const SECONDS: usize = 20;
/// Passes over the same signal: the work of a block is the same in each, so the least time is the work and
/// the rest is the scheduler's.
const PASSES: usize = 7;

/// Damaged on purpose, so that every stage is at work: decaying notes over a bed of falling spectrum, behind
/// a high-pass and a low-pass, in white noise, with peaks above full scale.
fn signal() -> Vec<f32> {
    let filters = [
        Coefficients::high_pass(180.0, 1.0, RATE),
        Coefficients::high_pass(180.0, 0.7, RATE),
        Coefficients::low_pass(7500.0, 0.541_196, RATE),
        Coefficients::low_pass(7500.0, 1.306_563, RATE),
    ];
    let mut states = [State::default(); 4];
    let mut random = 1u32;
    let mut poles = [0.0f64; 4];
    (0..SECONDS * RATE as usize)
        .map(|i| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let white = f64::from(random) / f64::from(u32::MAX) - 0.5;
            let t = (i % 20_000) as f64 / RATE;
            let notes: f64 = (1..30)
                .map(|h| (55.0 * f64::from(h) * t * std::f64::consts::TAU).sin() / f64::from(h))
                .sum();
            let mut bed = 0.0;
            for (pole, speed) in poles.iter_mut().zip([0.5, 0.1, 0.02, 0.005]) {
                *pole += speed * (white - *pole);
                bed += *pole;
            }
            let mut y = (notes + 2.0 * bed) * (-8.0 * t).exp() * 2.0;
            for (state, c) in states.iter_mut().zip(&filters) {
                y = state.run(c, y);
            }
            (y + 0.01 * white) as f32
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
    let mut best: Vec<Vec<f64>> = vec![vec![f64::INFINITY; sums.len()]; stages().len()];
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
    for _ in 0..PASSES {
        for ((_, mut process), times) in stages().into_iter().zip(&mut best) {
            for (block, time) in signal.chunks_exact(BLOCK).zip(times) {
                let (mut l, mut r) = ([0.0; BLOCK], [0.0; BLOCK]);
                l.copy_from_slice(block);
                r.copy_from_slice(block);
                let start = Instant::now();
                process(&mut l, &mut r);
                *time = time.min(start.elapsed().as_secs_f64());
            }
        }
    }
    for ((name, _), times) in stages().iter().zip(&best) {
        report(name, times);
        for (sum, time) in sums.iter_mut().zip(times) {
            *sum += time;
        }
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
