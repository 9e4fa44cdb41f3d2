// [worker] Removing clicks and filling dropouts over a whole take.
//!
//! Dropouts are [`super::dropout`]'s. Clicks: the live kernel ([`crate::realtime::declick`]) twice over a
//! finer grid, so that the second round sees each click without its neighbours. Where sure clicks come again
//! and again, twice more with thresholds that let doubtful ones count.

use super::dropout;
use crate::{
    realtime::{
        declick::{
            CRACKLE, CRACKLE_SECONDS,
            find::{ClickFinder, Finder},
            flat_top, live_setup, sensitive_setup,
        },
        declip::level::LevelTracker,
    },
    worker::progress::Progress,
};

/// Rounds over the take.
const ROUNDS: usize = 2;
/// Fillings tried in one zone while looking for clicks' extents (more found no better ones), clicks repaired in one, and
/// rounds in which a repair is weighed.
const TRIALS: usize = 40;
const MOST: usize = 8;
const WEIGHINGS: usize = 3;

/// Declicks planar `channels` at `sample_rate` Hz in place and fills dropouts of up to 120 ms; `amount`
/// 0..=1 scales the change (0 changes nothing). Where there is no damage every bit is kept. Returns
/// `false` if cancelled.
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
    for samples in channels {
        for x in samples.iter_mut().filter(|x| !x.is_finite()) {
            *x = 0.0;
        }
        let mut clicks = Vec::new();
        let offline = |live| Finder {
            trials: TRIALS,
            rounds: WEIGHINGS,
            ..live
        };
        let sure = offline(live_setup(sample_rate));
        for _ in 0..ROUNDS {
            let setup = |_| sure;
            if !remove_clicks(samples, sample_rate, amount, setup, &mut clicks, progress) {
                return false;
            }
        }
        clicks.sort_unstable();
        let near = (0.5 * CRACKLE_SECONDS * sample_rate) as usize;
        let crackles = |at: usize| {
            let first = clicks.partition_point(|&c| c + near < at);
            let last = clicks.partition_point(|&c| c <= at + near);
            last - first >= CRACKLE
        };
        if clicks.len() >= CRACKLE {
            let doubtful = Finder {
                most: MOST,
                ..offline(sensitive_setup(sample_rate))
            };
            for _ in 0..ROUNDS {
                let setup = |at| if crackles(at) { doubtful } else { sure };
                let found = &mut Vec::new();
                if !remove_clicks(samples, sample_rate, amount, setup, found, progress) {
                    return false;
                }
            }
        }
        if !dropout::fill(samples, sample_rate, amount, progress) {
            return false;
        }
    }
    true
}

/// One round of click repair with the thresholds that `setup_at` gives for a place; adds where clicks were found
/// to `clicks`. `false` if cancelled.
fn remove_clicks(
    samples: &mut [f32],
    sample_rate: f64,
    amount: f32,
    setup_at: impl Fn(usize) -> Finder,
    clicks: &mut Vec<usize>,
    progress: &Progress,
) -> bool {
    let setup = live_setup(sample_rate);
    let mut finder = ClickFinder::new(setup);
    let mut tracker = LevelTracker::new(sample_rate);
    let ahead = ClickFinder::lookahead(&setup);
    let hop = setup.window / 16;
    let mut stretch = vec![0.0f32; setup.window];
    // Zone k covers k·hop .. (k + 1)·hop of the take; its stretch ends `ahead` later. Silence around the
    // take stands for what was not recorded.
    let zone = (setup.window - ahead - hop, setup.window - ahead);
    let mut heard = 0;
    for (k, start) in (0..samples.len()).step_by(hop).enumerate() {
        if k % 512 == 0 && progress.is_cancelled() {
            return false;
        }
        let end = (start + hop + ahead).min(samples.len());
        for &x in samples.get(heard..end).unwrap_or_default() {
            tracker.push(x);
        }
        heard = heard.max(end);
        let origin = start as isize - zone.0 as isize;
        for (i, x) in (origin..).zip(stretch.iter_mut()) {
            *x = usize::try_from(i)
                .ok()
                .and_then(|i| samples.get(i))
                .copied()
                .unwrap_or(0.0);
        }
        let levels = tracker.levels();
        finder.set_setup(setup_at(start));
        let found = finder.repair(&mut stretch, zone, |from, to, x| {
            flat_top(levels, from, to, x)
        });
        clicks.extend(std::iter::repeat_n(start, found.made));
        if found.made > 0 {
            for (i, &x) in (origin..).zip(stretch.iter()).skip(zone.0 - 1) {
                if let Some(slot) = usize::try_from(i).ok().and_then(|i| samples.get_mut(i))
                    && *slot != x
                {
                    *slot += amount * (x - *slot);
                }
            }
        }
    }
    true
}
