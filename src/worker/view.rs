// [any] What the editor shows of an instance: an immutable snapshot, swapped as a whole.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    damage::{DamageKind, DamageMap, Severity, Stem},
    exchange::SamplePos,
    profile::MusicalProfile,
};

/// Peaks of the captured audio per second: one pair every 10 ms, like damage frames.
pub const PEAKS_PER_SECOND: usize = crate::damage::FRAMES_PER_SECOND;

/// A contiguous captured span of the timeline.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TakeView {
    pub start: SamplePos,
    /// Length in samples.
    pub frames: u64,
    pub sample_rate: u32,
    /// (min, max) of the mono mean per 10 ms.
    pub peaks: Arc<Vec<(f32, f32)>>,
    /// The same for the restored mix with its layers; empty until analysed.
    pub repaired_peaks: Arc<Vec<(f32, f32)>>,
    /// Damage of the mix so far: grows while capturing.
    pub damage: Arc<DamageMap>,
    pub state: TakeState,
    /// What the analysis found; `None` until analysed.
    pub findings: Option<Arc<Findings>>,
}

/// Where a take is on its road.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TakeState {
    #[default]
    Capturing,
    Captured,
    Queued,
    Running,
    Committed,
    Failed,
}

/// What the analysis found. Travels with the committed patch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    pub stems: [StemFindings; Stem::COUNT],
    pub profile: MusicalProfile,
    /// Damage of the whole mix, measured on the raw take.
    pub damage: DamageMap,
    /// One line of plain words each: what was damaged, what was done, by whom.
    pub lines: Vec<String>,
}

/// A stem's damage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StemFindings {
    /// Share of the time, 0..=1, in which the stem is damaged.
    pub share: f32,
    /// Worst severity per kind.
    pub worst: Severity,
    /// The kind that dominates, if any.
    pub kind: Option<DamageKind>,
    /// "14 % of the time overdriven, worst at 0:41".
    pub reason: String,
    /// Whether the stem has a rebuilt layer.
    pub rebuilt: bool,
    /// Damage over time.
    pub damage: DamageMap,
}

/// A running or waiting job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobView {
    /// Plain words: "Separating the instruments".
    pub step: &'static str,
    /// Share of the job that is done, 0..=1.
    pub done: f64,
    /// Estimated seconds left; `None` until there is an estimate.
    pub seconds_left: Option<f64>,
    /// Jobs of other instances before this one.
    pub ahead: usize,
}

/// Everything about one instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// Sorted by start, never overlapping.
    pub takes: Vec<TakeView>,
    pub job: Option<JobView>,
    /// Frames that capture lost because the worker did not keep up.
    pub overruns: u64,
    /// What went wrong, with the cure; newest last.
    pub problems: Vec<String>,
}
