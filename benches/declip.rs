// [any] Costs of declipping and declicking: live per block of 64 samples with the worst blocks named, and offline.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use uncook::{
    realtime::{Stage, declick::Declicker, declip::Declipper},
    worker::{progress::Progress, restore},
};

const RATE: f64 = 48_000.0;
const BLOCK: usize = 64;

/// Two channels of harmonics with slow beats, clipped so that about a third of all samples are lost.
fn clipped(seconds: f64) -> Vec<Vec<f32>> {
    (0..2)
        .map(|c| {
            (0..(seconds * RATE) as usize)
                .map(|n| {
                    let t = n as f64 / RATE;
                    let x: f64 = (1..12)
                        .map(|h| {
                            let hz = 98.0 * f64::from(h) * (1.0 + 0.0013 * f64::from(h + c));
                            (std::f64::consts::TAU * hz * t).sin() / f64::from(h)
                        })
                        .sum();
                    (x as f32).clamp(-0.6, 0.6)
                })
                .collect()
        })
        .collect()
}

/// Harmonics with noise and clicks of up to a millisecond every few milliseconds, in both channels.
fn clicked(seconds: f64) -> Vec<Vec<f32>> {
    let mut seed = 7u64;
    let mut noise = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..2)
        .map(|c| {
            let mut left = 0;
            let mut size = 0.0f32;
            (0..(seconds * RATE) as usize)
                .map(|n| {
                    let t = n as f64 / RATE;
                    let x: f64 = (1..12)
                        .map(|h| {
                            let hz = 98.0 * f64::from(h) * (1.0 + 0.0013 * f64::from(h + c));
                            (std::f64::consts::TAU * hz * t).sin() / f64::from(h)
                        })
                        .sum();
                    if left == 0 && noise() > 0.98 {
                        left = 1 + (24.0 * (1.0 + noise())) as usize;
                        size = 0.3 + 0.3 * noise();
                    }
                    let click = if left > 0 {
                        left -= 1;
                        size * noise().signum()
                    } else {
                        0.0
                    };
                    0.2 * x as f32 + 1e-3 * noise() + click
                })
                .collect()
        })
        .collect()
}

/// Seconds of processor time this thread has used: other processes don't count.
fn thread_seconds() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64
}

/// Runs `make`'s stage block by block, several times, and prints the share of one core: mean, median, 99.9th
/// percentile, most, of each block's least time (the rest is the machine's).
fn blocks<S: Stage>(name: &str, make: impl Fn() -> S, input: &[Vec<f32>]) {
    const PASSES: usize = 5;
    let mut times = vec![f64::INFINITY; input[0].len() / BLOCK];
    for _ in 0..PASSES {
        let mut stage = make();
        let mut buffers = input.to_vec();
        for (start, time) in (0..).step_by(BLOCK).zip(&mut times) {
            let mut views: Vec<&mut [f32]> = buffers
                .iter_mut()
                .map(|b| &mut b[start..start + BLOCK])
                .collect();
            let begin = thread_seconds();
            stage.process(&mut views);
            *time = time.min(thread_seconds() - begin);
        }
        black_box(&buffers);
    }
    times.sort_by(f64::total_cmp);
    let share = |seconds: f64| 100.0 * seconds * RATE / BLOCK as f64;
    println!(
        "{name}: share of one core per {BLOCK}-sample block: mean {:.1} %, median {:.1} %, 99.9th percentile {:.1} %, most {:.1} %",
        share(times.iter().sum::<f64>() / times.len() as f64),
        share(times[times.len() / 2]),
        share(times[times.len() * 999 / 1000]),
        share(times[times.len() - 1]),
    );
}

fn main() {
    let input = clipped(20.0);
    blocks("declip", || Declipper::live(RATE, 2), &input);
    blocks("declick, clipped", || Declicker::live(RATE, 2), &input);
    let input = clicked(20.0);
    blocks(
        "declick, clicks everywhere",
        || Declicker::live(RATE, 2),
        &input,
    );

    let mut criterion = Criterion::default().configure_from_args().sample_size(10);
    let input = clipped(2.0);
    let mut group = criterion.benchmark_group("two seconds of clipped stereo");
    group.throughput(Throughput::Elements(input[0].len() as u64));
    group.bench_function("declip live", |b| {
        b.iter(|| {
            let mut buffers = input.clone();
            let mut stage = Declipper::live(RATE, 2);
            let mut views: Vec<&mut [f32]> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
            stage.process(&mut views);
            buffers
        });
    });
    group.bench_function("declip offline", |b| {
        b.iter(|| {
            let mut buffers = input.clone();
            restore::declip::restore(&mut buffers, RATE, 1.0, &Progress::new());
            buffers
        });
    });
    group.bench_function("declick live", |b| {
        b.iter(|| {
            let mut buffers = input.clone();
            let mut stage = Declicker::live(RATE, 2);
            let mut views: Vec<&mut [f32]> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
            stage.process(&mut views);
            buffers
        });
    });
    group.finish();
    criterion.final_summary();
}
