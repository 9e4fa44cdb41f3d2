// [worker] Removing clicks and filling dropouts over a whole take.
//!
//! Dropouts are [`super::dropout`]'s. Clicks: the live kernel ([`crate::realtime::declick`]) twice over a
//! finer grid, so that the second round sees each click without its neighbours. Where likely clicks come again
//! and again, twice more, and doubtful ones are repaired the more readily, the more likely ones there are.

use super::dropout;
use crate::{
    realtime::{
        declick::{
            find::{ClickFinder, Finder},
            flat_top, live_setup,
            score::{CRACKLE_SECONDS, SURE, limit},
        },
        declip::level::LevelTracker,
    },
    worker::progress::Progress,
};

/// Rounds over the take.
const ROUNDS: usize = 4;
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
        let near = (0.5 * CRACKLE_SECONDS * sample_rate) as usize;
        // Likely clicks that were repaired so far, and those that the last round left.
        let (mut made, mut heard): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            if round > 1 && limit(heard.len()) >= SURE {
                break;
            }
            heard.sort_unstable();
            let odds = |at: usize| {
                let first = heard.partition_point(|&c| c + near < at);
                let last = heard.partition_point(|&c| c <= at + near);
                limit(last - first)
            };
            let mut left = Vec::new();
            let found = [&mut made, &mut left];
            if !remove_clicks(samples, sample_rate, amount, odds, found, progress) {
                return false;
            }
            heard = made.iter().chain(&left).copied().collect();
        }
        if !dropout::fill(samples, sample_rate, amount, progress) {
            return false;
        }
    }
    true
}

/// One round of click repair with the log odds that `odds_at` gives for a place; adds where likely clicks
/// were repaired and where they were left. `false` if cancelled.
fn remove_clicks(
    samples: &mut [f32],
    sample_rate: f64,
    amount: f32,
    odds_at: impl Fn(usize) -> f32,
    [made, left]: [&mut Vec<usize>; 2],
    progress: &Progress,
) -> bool {
    let setup = Finder {
        trials: TRIALS,
        most: MOST,
        rounds: WEIGHINGS,
        ..live_setup(sample_rate)
    };
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
        finder.set_odds(odds_at(start));
        let found = finder.repair(&mut stretch, zone, |from, to, x| {
            flat_top(levels, from, to, x)
        });
        made.extend(std::iter::repeat_n(start, found.likely));
        left.extend(std::iter::repeat_n(start, found.left));
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
