// [worker] Declipping a whole take: levels from both directions of time, the mean of three frame lengths.
//!
//! The same kernel as the live stage ([`crate::realtime::declip`]). Each frame length trades time against
//! frequency its own way and errs its own way, so the mean of their solutions errs less than the best of
//! them; it stays consistent with the clipped recording because the set of consistent signals is convex.

use crate::{
    realtime::declip::{
        MEAN_TEMPERING, OVERLAP, Tempering, constrain, frame_length,
        level::{LevelTracker, Levels},
        sine_window,
        spade::{Frame, Schedule, Spade},
    },
    worker::progress::Progress,
};

/// Frame lengths as multiples of 1024 samples at 44.1 and 48 kHz, scaled with the rate.
const LENGTHS: [usize; 3] = [1, 4, 8];
/// Slow growth of `k`: some 0.7 dB better than the live schedule for each frame length.
const OFFLINE: Schedule = Schedule {
    first: 1,
    growth: 1.05,
    tolerance: 0.05,
    max_iterations: 160,
};
/// Samples restored before they are written back; bounds the memory.
const SEGMENT: usize = 1 << 20;
/// Levels are looked up in blocks of this many samples.
const BLOCK: usize = 512;

/// Declips planar `channels` at `sample_rate` Hz in place; `amount` 0..=1 scales what is added (0 changes
/// nothing). A channel without clipping keeps every bit. Returns `false` if cancelled.
pub fn restore(
    channels: &mut [Vec<f32>],
    sample_rate: f64,
    amount: f32,
    progress: &Progress,
) -> bool {
    if amount.is_nan() || amount <= 0.0 {
        return true;
    }
    let amount = amount.min(1.0);
    // Mono carried on two channels is restored once.
    if let [first, second] = channels
        && first == second
    {
        let done = restore_channel(first, sample_rate, amount, SEGMENT, progress);
        second.copy_from_slice(first);
        return done;
    }
    channels
        .iter_mut()
        .all(|channel| restore_channel(channel, sample_rate, amount, SEGMENT, progress))
}

/// The clip levels of each block of [`BLOCK`] samples, heard forwards and backwards; `None` if cancelled.
///
/// Forwards a level is known from its third flat top on, backwards until its third-last: together
/// always. Where both know one the lower counts: after a fall of the level the forward ear still holds the
/// higher one, and what is really higher than the lower one ends it.
fn levels_both_ways(samples: &[f32], sample_rate: f64, progress: &Progress) -> Option<Vec<Levels>> {
    let mut levels = vec![Levels::default(); samples.len().div_ceil(BLOCK)];
    let hear =
        |tracker: &mut LevelTracker, x: f32| tracker.push(if x.is_finite() { x } else { 0.0 });
    let mut tracker = LevelTracker::new(sample_rate);
    for (i, (block, level)) in samples.chunks(BLOCK).zip(&mut levels).enumerate() {
        if i % 256 == 0 && progress.is_cancelled() {
            return None;
        }
        block.iter().for_each(|&x| hear(&mut tracker, x));
        *level = tracker.levels();
    }
    let lower = |a: Option<f32>, b: Option<f32>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    };
    tracker.reset();
    for (i, (block, level)) in samples.chunks(BLOCK).zip(&mut levels).enumerate().rev() {
        if i % 256 == 0 && progress.is_cancelled() {
            return None;
        }
        block.iter().rev().for_each(|&x| hear(&mut tracker, x));
        let back = tracker.levels();
        level.positive = lower(level.positive, back.positive);
        level.negative = lower(level.negative, back.negative);
    }
    Some(levels)
}

/// Everything needed for one frame length.
struct Scale {
    spade: Spade,
    frame: Frame,
    window: Vec<f32>,
    hop: usize,
}

impl Scale {
    fn new(length: usize) -> Self {
        Self {
            spade: Spade::new(length),
            frame: Frame::new(length),
            window: sine_window(length),
            hop: length / OVERLAP,
        }
    }

    /// Restores every frame that touches `start..end` and adds what it changes there to `change`
    /// (`change[0]` belongs to `start`). `at` reads the clipped signal anywhere, 0 outside. Frames lie on
    /// a grid from the take's start, so the cuts between segments leave no trace. `false` if cancelled.
    fn restore(
        &mut self,
        at: &impl Fn(isize) -> f32,
        levels: &[Levels],
        (start, end): (usize, usize),
        change: &mut [f32],
        progress: &Progress,
    ) -> bool {
        let length = self.window.len();
        let level_at = |n: isize| {
            usize::try_from(n)
                .ok()
                .and_then(|n| levels.get(n / BLOCK))
                .copied()
                .unwrap_or_default()
        };
        // The squared windows sum to half the overlap.
        let share = 2.0 / OVERLAP as f32;
        // Frame m covers m·hop − length .. m·hop.
        let first = start / self.hop + 1;
        let last = (end - 1 + length) / self.hop;
        for m in first..=last {
            let origin = (m * self.hop) as isize - length as isize;
            let quiet = (0..=length / BLOCK + 1)
                .all(|b| !level_at(origin.max(0) + (b * BLOCK) as isize).any());
            if quiet {
                continue;
            }
            if progress.is_cancelled() {
                return false;
            }
            if !constrain(
                &mut self.frame,
                &self.window,
                |i| level_at(origin + i),
                |i| at(origin + i),
            ) {
                continue;
            }
            self.spade.begin(&mut self.frame, &OFFLINE);
            while !self.frame.is_done() {
                self.spade.iterate(&mut self.frame, &OFFLINE);
            }
            let from = (start as isize - origin).max(0) as usize;
            let to = (end as isize - origin).clamp(0, length as isize) as usize;
            for i in from..to {
                if self.frame.lower[i] < self.frame.upper[i] {
                    let w = self.window[i];
                    let n = (origin + i as isize) as usize - start;
                    change[n] += share * w * (self.frame.solution[i] - w * at(origin + i as isize));
                }
            }
        }
        true
    }
}

fn restore_channel(
    samples: &mut [f32],
    sample_rate: f64,
    amount: f32,
    segment: usize,
    progress: &Progress,
) -> bool {
    for x in samples.iter_mut().filter(|x| !x.is_finite()) {
        *x = 0.0;
    }
    let Some(levels) = levels_both_ways(samples, sample_rate, progress) else {
        return false;
    };
    if !levels.iter().any(Levels::any) {
        return true;
    }
    // 1024 at 44.1 and 48 kHz: the live frame without its half.
    let unit = frame_length(sample_rate) * 2 / 3;
    let mut scales = LENGTHS.map(|multiple| Scale::new(unit * multiple));
    let context = unit * LENGTHS[LENGTHS.len() - 1] + 1;
    let mut tempering = Tempering::new(MEAN_TEMPERING, sample_rate);
    let mut change = vec![0.0f32; segment.min(samples.len())];
    // The clipped samples just before the segment, which are restored already in place.
    let mut before = vec![0.0f32; context];
    let mut start = 0;
    while start < samples.len() {
        let end = (start + segment).min(samples.len());
        let change = &mut change[..end - start];
        change.fill(0.0);
        let source = &*samples;
        let at = |n: isize| {
            let behind = start as isize - n;
            if behind > 0 {
                // `before` ends where the segment starts.
                (context as isize - behind)
                    .try_into()
                    .ok()
                    .and_then(|i: usize| before.get(i))
            } else {
                source.get(n as usize)
            }
            .copied()
            .unwrap_or(0.0)
        };
        for scale in &mut scales {
            if !scale.restore(&at, &levels, (start, end), change, progress) {
                return false;
            }
        }
        let tail: Vec<f32> = (0..context)
            .map(|i| at((end + i) as isize - context as isize))
            .collect();
        before = tail;
        let weight = 1.0 / LENGTHS.len() as f32;
        for (x, &c) in samples[start..end].iter_mut().zip(change.iter()) {
            if c != 0.0 {
                *x += amount * tempering.temper(weight * c);
            }
        }
        start = end;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_between_segments_leave_no_trace() {
        let clipped: Vec<f32> = (0..30_000)
            .map(|n| {
                let t = n as f32 / 48_000.0;
                let x = 0.6 * (t * 1382.0).sin() + 0.5 * (t * 4021.0).sin();
                x.clamp(-0.5, 0.5)
            })
            .collect();
        let run = |segment| {
            let mut samples = clipped.clone();
            assert!(restore_channel(
                &mut samples,
                48_000.0,
                1.0,
                segment,
                &Progress::new()
            ));
            samples
        };
        let whole = run(SEGMENT);
        assert!(whole.iter().any(|x| x.abs() > 0.6), "nothing was restored");
        for segment in [3_000, 9_999, 20_000] {
            assert_eq!(whole, run(segment), "segments of {segment}");
        }
    }
}
