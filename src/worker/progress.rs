// [any] Progress of a job and its cancel switch, shared by the job and whoever watches it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
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
    /// Grows with every call of the job.
    beats: AtomicU64,
}

/// A handle on a job's progress; clones share it.
#[derive(Clone, Debug)]
pub struct Progress {
    shared: Arc<Shared>,
    /// The share of the job that this handle reports on.
    from: f64,
    to: f64,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            shared: Arc::default(),
            from: 0.0,
            to: 1.0,
        }
    }
}

impl Progress {
    /// A job that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// A handle on the part `from..to` (0..=1 of this handle's share), for a step's own code.
    #[must_use]
    pub fn part(&self, from: f64, to: f64) -> Self {
        let at = |x: f64| self.from + x.clamp(0.0, 1.0) * (self.to - self.from);
        Self {
            shared: self.shared.clone(),
            from: at(from),
            to: at(to),
        }
    }

    /// Says where the job is: the step, and the share of this handle's part that is done, 0..=1.
    pub fn set(&self, step: Step, done: f64) {
        self.shared.step.store(step as u8, Ordering::Relaxed);
        self.report(done);
    }

    /// Says how much of this handle's part is done, 0..=1.
    pub fn report(&self, done: f64) {
        let done = self.from + done.clamp(0.0, 1.0) * (self.to - self.from);
        let ppm = (done * 1e6) as u32;
        self.shared.done_ppm.store(ppm, Ordering::Relaxed);
        self.beat();
    }

    /// The step the job is in.
    pub fn step(&self) -> Step {
        let i = self.shared.step.load(Ordering::Relaxed) as usize;
        Step::ALL[i.min(Step::ALL.len() - 1)]
    }

    /// Share of the whole job that is done, 0..=1.
    pub fn done(&self) -> f64 {
        f64::from(self.shared.done_ppm.load(Ordering::Relaxed)) / 1e6
    }

    /// Asks the job to stop at its next check.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether the job was asked to stop. Jobs check at least once a second of work.
    pub fn is_cancelled(&self) -> bool {
        self.beat();
        self.shared.cancelled.load(Ordering::Relaxed)
    }

    fn beat(&self) {
        self.shared.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Changes while the job works: one that doesn't change it for minutes hangs.
    pub fn beats(&self) -> u64 {
        self.shared.beats.load(Ordering::Relaxed)
    }
}
