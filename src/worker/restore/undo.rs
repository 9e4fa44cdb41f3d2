// [worker] Undoing converter overflow and soft clipping over a whole take: what the live stages learn, known from the start.

use crate::{
    realtime::{
        desaturate::{self, Saturation, expand},
        unwrap::{Unwrap, latency_samples},
    },
    worker::progress::Progress,
};

/// Samples between two looks at the cancel switch.
const LOOK: usize = 1 << 16;
/// Time over which the inverse comes and goes where saturation begins and ends.
const FADE_SECONDS: f64 = 0.010;

/// Brings back what overflowed a converter's range. `channels` are planar at `sample_rate` Hz, changed in
/// place; `amount` 0..=1. A take without overflow keeps every bit. `false` if cancelled.
pub fn restore_overflow(
    channels: &mut [Vec<f32>],
    sample_rate: f64,
    amount: f32,
    progress: &Progress,
) -> bool {
    if amount.is_nan() || amount <= 0.0 {
        return !progress.is_cancelled();
    }
    let latency = latency_samples(sample_rate);
    for samples in channels {
        silence_nonfinite(samples);
        // The first pass learns the range, the second uses it from the first sample on.
        let mut first = Unwrap::new(sample_rate);
        let mut range = None;
        for block in samples.chunks(LOOK) {
            if progress.is_cancelled() {
                return false;
            }
            for &x in block {
                first.push(x);
                range = first.range().or(range);
            }
        }
        let Some(range) = range else { continue };
        let mut second = Unwrap::new(sample_rate);
        second.assume(range);
        for n in 0..samples.len() + latency {
            let (_, add) = second.push(samples.get(n).copied().unwrap_or(0.0));
            if add != 0.0
                && let Some(x) = n.checked_sub(latency).and_then(|n| samples.get_mut(n))
            {
                *x += amount.min(1.0) * add;
            }
        }
    }
    true
}

/// Inverts soft clipping where there was any; as [`restore_overflow`].
pub fn restore_saturation(
    channels: &mut [Vec<f32>],
    sample_rate: f64,
    amount: f32,
    progress: &Progress,
) -> bool {
    if amount.is_nan() || amount <= 0.0 {
        return !progress.is_cancelled();
    }
    for samples in channels {
        silence_nonfinite(samples);
        let Some(ceilings) = ceilings_both_ways(samples, sample_rate, progress) else {
            return false;
        };
        if ceilings.iter().all(|&c| c == 0.0) {
            continue;
        }
        let grid = desaturate::grid_samples(sample_rate) as usize;
        let step = (1.0 / (FADE_SECONDS * sample_rate)) as f32;
        let (mut weight, mut theta) = (0.0f32, 0.0f32);
        for (block, &ceiling) in samples.chunks_mut(grid).zip(&ceilings) {
            if ceiling > 0.0 {
                theta = ceiling;
            }
            let target = f32::from(u8::from(ceiling > 0.0));
            for x in block {
                weight += (target - weight).clamp(-step, step);
                if weight > 0.0 {
                    *x += amount.min(1.0) * weight * (expand(*x, theta) - *x);
                }
            }
        }
    }
    true
}

/// The ceiling of each grid cell, heard forwards and backwards; 0 where there is none. `None` if cancelled.
fn ceilings_both_ways(samples: &[f32], sample_rate: f64, progress: &Progress) -> Option<Vec<f32>> {
    let grid = desaturate::grid_samples(sample_rate) as usize;
    let mut ceilings = vec![0.0f32; samples.len().div_ceil(grid)];
    let mut ear = Saturation::new(sample_rate);
    for (i, (block, ceiling)) in samples.chunks(grid).zip(&mut ceilings).enumerate() {
        if i % 256 == 0 && progress.is_cancelled() {
            return None;
        }
        block.iter().for_each(|&x| ear.push(x));
        *ceiling = ear.judge().unwrap_or(0.0);
    }
    ear.reset();
    for (i, (block, ceiling)) in samples.chunks(grid).zip(&mut ceilings).enumerate().rev() {
        if i % 256 == 0 && progress.is_cancelled() {
            return None;
        }
        block.iter().rev().for_each(|&x| ear.push(x));
        // The louder one has heard more of it.
        *ceiling = ceiling.max(ear.judge().unwrap_or(0.0));
    }
    Some(ceilings)
}

fn silence_nonfinite(samples: &mut [f32]) {
    for x in samples.iter_mut().filter(|x| !x.is_finite()) {
        *x = 0.0;
    }
}
