// [worker] What of an instance's patches is in memory while there is no room for all: where it plays, where it is likely to
// play next.

use std::{collections::VecDeque, ops::Range};

use crate::exchange::SamplePos;

/// Seconds kept in memory before and after where the song plays.
const BEHIND_SECONDS: f64 = 1.0;
const AHEAD_SECONDS: f64 = 12.0;
/// More is read when less than this is left ahead, in seconds.
const LEFT_SECONDS: f64 = 6.0;
/// Seconds kept after the begin of a patch and after a place that the song jumped to: playback may start there at once.
const LANDING_SECONDS: f64 = 3.0;
/// Seconds kept around where the song was before a jump: the end of it is still on its way through the chain.
const AWAY_SECONDS: f64 = 1.0;
/// Places that the song jumped to which are remembered, and begins of patches: a loop has one, few songs more.
const PLACES: usize = 3;

/// Follows where an instance plays.
#[derive(Default)]
pub(super) struct Around {
    /// Where it was last.
    seen: Option<i64>,
    /// Around it.
    main: Range<i64>,
    /// Where it jumped to, newest first, and where it was before.
    landings: VecDeque<i64>,
    before: Option<i64>,
}

impl Around {
    /// The song is at `pos`; `rate` in Hz. Returns whether other spans are needed now.
    pub fn follow(&mut self, pos: SamplePos, rate: u32) -> bool {
        let samples = |seconds: f64| (seconds * f64::from(rate)) as i64;
        let (pos, seen) = (pos.0, self.seen.replace(pos.0));
        if seen == Some(pos) {
            return false;
        }
        let inside = self.main.contains(&pos);
        if seen.is_some_and(|seen| pos < seen) || !inside {
            let near = samples(LANDING_SECONDS / 2.0);
            (self.landings).retain(|landing| landing.abs_diff(pos) > near.unsigned_abs());
            self.landings.push_front(pos);
            self.landings.truncate(PLACES);
            self.before = seen;
        }
        if inside && pos.saturating_add(samples(LEFT_SECONDS)) <= self.main.end {
            return false;
        }
        self.main = span(pos, samples(BEHIND_SECONDS), samples(AHEAD_SECONDS));
        true
    }

    /// The spans of the timeline that have to be in memory, where patches begin at `starts`.
    pub fn spans(&self, starts: impl Iterator<Item = SamplePos>, rate: u32) -> Vec<Range<i64>> {
        let samples = |seconds: f64| (seconds * f64::from(rate)) as i64;
        let starts = starts.map(|start| start.0).take(PLACES);
        let places = self.landings.iter().copied().chain(starts);
        let places = places.map(|pos| span(pos, 0, samples(LANDING_SECONDS)));
        let before = self.before.iter();
        let before = before.map(|pos| span(*pos, samples(AWAY_SECONDS), samples(AWAY_SECONDS)));
        let main = std::iter::once(self.main.clone());
        main.chain(places)
            .chain(before)
            .filter(|s| !s.is_empty())
            .collect()
    }
}

fn span(pos: i64, behind: i64, ahead: i64) -> Range<i64> {
    pos.saturating_sub(behind)..pos.saturating_add(ahead)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 1_000;

    fn is_near(around: &Around, pos: i64) -> bool {
        let spans = around.spans([SamplePos(7_000_000)].into_iter(), RATE);
        spans.iter().any(|span| span.contains(&pos))
    }

    #[test]
    fn what_plays_next_is_always_near() {
        let mut around = Around::default();
        assert!(is_near(&around, 7_000_000) && !is_near(&around, 0));
        let mut renewed = 0;
        for pos in (-5_000..100_000).step_by(50) {
            renewed += usize::from(around.follow(SamplePos(pos), RATE));
            assert!(
                is_near(&around, pos) && is_near(&around, pos + 5_000),
                "{pos}"
            );
        }
        // Not at every look.
        assert!((10..30).contains(&renewed), "{renewed}");
        assert!(!is_near(&around, 50_000));
    }

    #[test]
    fn the_begin_of_a_loop_is_near_whenever_it_comes() {
        let mut around = Around::default();
        for turn in 0..4 {
            for pos in (30_000..90_000).step_by(50) {
                // From the second time on also at the first look after the jump, before anything was read.
                if turn >= 2 {
                    assert!(is_near(&around, pos), "{turn}: {pos}");
                }
                around.follow(SamplePos(pos), RATE);
                // What was played just before is still on its way.
                assert!(pos > 30_200 || turn == 0 || is_near(&around, 89_950));
            }
        }
    }

    #[test]
    fn a_song_that_jumps_wildly_keeps_few_spans() {
        let mut around = Around::default();
        for pos in [
            i64::MIN + 1,
            i64::MAX,
            0,
            500_000,
            -500_000,
            9,
            100_000,
            40_000,
            70_000,
        ] {
            assert!(around.follow(SamplePos(pos), RATE));
            assert!(is_near(&around, pos.min(i64::MAX - 1)));
            assert!(!around.follow(SamplePos(pos), RATE), "it stands");
        }
        assert!(around.spans([].into_iter(), RATE).len() <= 2 + PLACES);
    }
}
