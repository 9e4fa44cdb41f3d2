// [any] Progress of a job and its cancel switch, shared by the job and whoever watches it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering},
};

/// A stage of the worker's road, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Step {
    Queued,
    Restoring,
    Separating,
    Assessing,
    Profiling,
    Regenerating,
    Blending,
    Committing,
    Done,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Restoring,
        Self::Separating,
        Self::Assessing,
        Self::Profiling,
        Self::Regenerating,
        Self::Blending,
        Self::Committing,
        Self::Done,
    ];

    /// Plain words for the user.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Queued => "Waiting for its turn",
            Self::Restoring => "Repairing the recording",
            Self::Separating => "Separating the instruments",
            Self::Assessing => "Measuring the damage",
            Self::Profiling => "Listening to the music",
            Self::Regenerating => "Rebuilding drums and bass",
            Self::Blending => "Fitting them in",
            Self::Committing => "Saving",
            Self::Done => "Done",
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    step: AtomicU8,
    /// Share of the whole job in parts per million.
    done_ppm: AtomicU32,
    cancelled: AtomicBool,
}

/// A handle on a job's progress; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Shared>);

impl Progress {
    /// A job that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says where the job is: the step, and the share of the whole job that is done, 0..=1.
    pub fn set(&self, step: Step, done: f64) {
        self.0.step.store(step as u8, Ordering::Relaxed);
        let ppm = (done.clamp(0.0, 1.0) * 1e6) as u32;
        self.0.done_ppm.store(ppm, Ordering::Relaxed);
    }

    /// The step the job is in.
    pub fn step(&self) -> Step {
        let i = self.0.step.load(Ordering::Relaxed) as usize;
        Step::ALL[i.min(Step::ALL.len() - 1)]
    }

    /// Share of the whole job that is done, 0..=1.
    pub fn done(&self) -> f64 {
        f64::from(self.0.done_ppm.load(Ordering::Relaxed)) / 1e6
    }

    /// Asks the job to stop at its next check.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether the job was asked to stop. Jobs check at least once a second of work.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }
}
