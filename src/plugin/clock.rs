// [audio] The song position of each block, steadied.

use crate::exchange::SamplePos;

/// Follows the host's position. Hosts that count in seconds or beats round to a sample, now up, now
/// down; and the CLAP wrapper gives every part of a split block the position of the whole block when
/// the host gives no tempo. While the timeline moves as expected, the expectation is therefore the
/// position: neighbouring blocks join without gap or overlap.
#[derive(Debug, Default)]
pub struct Clock {
    /// Where the next block begins if the timeline goes on.
    expected: Option<i64>,
    /// What the host said last.
    reported: Option<i64>,
}

impl Clock {
    /// The position of a block of `frames` for which the host reports `reported`.
    pub fn at(&mut self, reported: Option<i64>, playing: bool, frames: usize) -> Option<SamplePos> {
        let pos = match (reported, self.expected) {
            (Some(now), Some(expected)) if playing => {
                let rounding = now.abs_diff(expected) <= 1;
                let split = self.reported == Some(now);
                Some(if rounding || split { expected } else { now })
            }
            _ => reported,
        };
        self.reported = reported;
        self.expected = pos
            .filter(|_| playing)
            .map(|pos| pos.saturating_add(frames as i64));
        pos.map(SamplePos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_smoothed_and_jumps_are_followed() {
        let mut clock = Clock::default();
        // 100 frames a block at positions that a host rounded.
        for (i, jitter) in [0, 1, -1, 0, 1, 1, -1].into_iter().enumerate() {
            let truth = 5000 + 100 * i as i64;
            let pos = clock.at(Some(truth + jitter), true, 100);
            assert_eq!(pos, Some(SamplePos(truth)), "block {i}");
        }
        // A loop, backwards and forwards.
        assert_eq!(clock.at(Some(40), true, 100), Some(SamplePos(40)));
        assert_eq!(clock.at(Some(142), true, 100), Some(SamplePos(142)));
    }

    #[test]
    fn parts_of_a_split_block_follow_each_other() {
        let mut clock = Clock::default();
        let parts = [10, 1, 53].map(|frames| clock.at(Some(640), true, frames));
        assert_eq!(parts, [640, 650, 651].map(|pos| Some(SamplePos(pos))));
        assert_eq!(clock.at(Some(704), true, 64), Some(SamplePos(704)));
    }

    #[test]
    fn standstill_and_silence_of_the_host_are_passed_on() {
        let mut clock = Clock::default();
        for _ in 0..3 {
            assert_eq!(clock.at(Some(640), false, 64), Some(SamplePos(640)));
        }
        assert_eq!(clock.at(Some(640), true, 64), Some(SamplePos(640)));
        assert_eq!(clock.at(None, true, 64), None);
        assert_eq!(clock.at(Some(9), true, 64), Some(SamplePos(9)));
        assert_eq!(
            clock.at(Some(i64::MAX), true, 64),
            Some(SamplePos(i64::MAX))
        );
    }
}
