// [any] The one clock for capture and playback: positions on the host's timeline.
use serde::{Deserialize, Serialize};

/// A position on the host's timeline, in samples at the host's rate. May be negative (pre-roll).
/// The one clock for capture and playback.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct SamplePos(pub i64);

impl SamplePos {
    /// The position `samples` later (earlier if negative). Saturates: hosts may send anything.
    #[must_use]
    pub const fn offset(self, samples: i64) -> Self {
        Self(self.0.saturating_add(samples))
    }

    /// Samples from `earlier` to `self`; negative if `earlier` is later. Saturates.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}
