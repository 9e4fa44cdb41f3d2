// [any] What the editor shows of an instance: an immutable snapshot, swapped as a whole.

use std::{ops::Deref, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    damage::{DamageKind, DamageMap, Severity, Stem},
    exchange::SamplePos,
    metrics::Comparison,
    profile::MusicalProfile,
    worker::{
        options::RegeneratorChoice,
        picture::Picture,
        pyramid::{Cells, Pyramid},
        session::{Edits, Listening},
    },
};

/// Severities of all kinds in steps of 1/255, one item per 10 ms frame.
pub type DamageCells = Pyramid<Cells<{ DamageKind::COUNT }>>;

/// A severity as [`DamageCells`] holds it.
pub fn damage_cell(severity: &Severity) -> Cells<{ DamageKind::COUNT }> {
    Cells(severity.map(|s| (s.clamp(0.0, 1.0) * 255.0).round() as u8))
}

/// A contiguous captured span of the timeline.
#[derive(Clone, Debug, Default)]
pub struct TakeView {
    pub start: SamplePos,
    /// Length in samples.
    pub frames: u64,
    pub sample_rate: u32,
    /// The captured audio, drawn.
    pub before: Picture,
    /// The restored mix with its layers, drawn; empty until analysed.
    pub after: Arc<Picture>,
    /// Damage of the mix so far: grows while capturing.
    pub damage: DamageCells,
    /// Share of the time, 0..=1, in which each kind damages the mix.
    pub shares: [f32; DamageKind::COUNT],
    pub state: TakeState,
    /// What the analysis found; `None` until analysed.
    pub findings: Option<Arc<Findings>>,
    /// Every rebuild of this span that can be chosen, oldest first; the last one is in force.
    pub rebuilds: Vec<Rebuild>,
    /// Whether single stems can be listened to: only from an analysis of this session.
    pub stems_at_hand: bool,
    /// Whether the music was edited since the rebuild in force.
    pub unheard: bool,
}

/// One rebuild of a span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuild {
    /// Hash of its commit; empty where it could not be saved.
    pub hash: String,
    pub seed: u64,
    pub style: String,
    /// Who was asked to rebuild each stem.
    pub regenerators: [RegeneratorChoice; Stem::COUNT],
    /// Stems that it rebuilt.
    pub stems: [bool; Stem::COUNT],
    /// How well each agrees with what the profile says was played, in percent: the higher, the more likely the
    /// better take.
    pub agreement: [Option<u8>; Stem::COUNT],
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
    /// The take beside the repair with all blends up; `None` in analyses of older versions.
    #[serde(default)]
    pub quality: Option<Comparison>,
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
    /// Who made that layer; `None` where nothing was rebuilt, and in analyses of older versions.
    #[serde(default)]
    pub made: Option<Made>,
    /// Regions that stay restored only, for rebuilding them would not have helped.
    #[serde(default)]
    pub spared: u32,
    /// How well the rebuilt stem's onsets and pitch agree with the profile, in percent; `None` where nothing was
    /// rebuilt or the profile says nothing.
    #[serde(default)]
    pub agreement: Option<u8>,
    /// Damage over time.
    pub damage: DamageMap,
}

/// Who rebuilt a stem, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    pub by: RegeneratorChoice,
    /// Over the whole take, damaged or not.
    pub throughout: bool,
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

/// The models behind a choice: what is missing of them, and their terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelView {
    /// Names of those that are not installed. Until they are, stems are rebuilt without a model.
    pub missing: Vec<String>,
    /// What their authors state, a sentence each with where they state it.
    pub terms: Vec<String>,
    /// Whether the user accepted all of it.
    pub accepted: bool,
}

impl ModelView {
    /// What the user should know before a job, in plain words.
    pub fn words(&self) -> String {
        match (self.missing.is_empty(), self.accepted) {
            (true, true) => "The model is installed and its terms are accepted.".to_owned(),
            (true, false) => {
                "Stems are rebuilt without the model until its terms are accepted.".to_owned()
            }
            (false, _) => {
                format!(
                    "Not installed: stems are rebuilt without the model until you fetch {} under Models.",
                    self.missing.join(" and ")
                )
            }
        }
    }
}

/// What has been done ahead of the analysis of the take that is captured now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AheadView {
    /// Whether it goes on at this moment.
    pub running: bool,
    /// Seconds of the take that have been worked on.
    pub seconds: f64,
}

/// Something that went wrong, with its cure. Reads as its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub words: String,
    /// The repair file that was not found, if that is what went wrong.
    pub missing: Option<String>,
}

impl From<String> for Problem {
    fn from(words: String) -> Self {
        Self {
            words,
            missing: None,
        }
    }
}

impl Deref for Problem {
    type Target = str;

    fn deref(&self) -> &str {
        &self.words
    }
}

/// Everything about one instance.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Sorted by start, never overlapping.
    pub takes: Vec<TakeView>,
    pub job: Option<JobView>,
    /// `None` while nothing has been done ahead.
    pub ahead: Option<AheadView>,
    /// Frames that capture lost because the worker did not keep up.
    pub overruns: u64,
    /// What went wrong, with the cure; newest last.
    pub problems: Vec<Problem>,
    /// Names of the project's repair files that were not found or can't be read.
    pub missing: Vec<String>,
    /// Where analyses run and why, a sentence; empty where there is nothing to say.
    pub place: Arc<str>,
    /// The models that the chosen regenerators need; `None` if they need none.
    pub model: Option<Arc<ModelView>>,
    /// What the user decided about the rebuilt audio.
    pub edits: Arc<Edits>,
    pub listening: Listening,
}
