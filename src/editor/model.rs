// [main] What is drawn, and what the user may want.

use std::path::PathBuf;

use nice_plug::prelude::ParamPtr;

use crate::{
    damage::Severity,
    editor::{files::Want, presets::Preset},
    exchange::{
        SamplePos,
        meters::{Meters, PlayerState},
    },
    params::UncookParams,
    worker::{
        session::{Edits, Listening, Regenerate},
        shelf::{Order, ShelfView},
        view::{TakeView, View},
    },
};

/// Everything one picture shows.
#[derive(Clone, Copy)]
pub struct Model<'a> {
    pub params: &'a UncookParams,
    pub view: &'a View,
    pub levels: &'a Levels,
    /// The host's rate in Hz; `None` while the plugin is not activated.
    pub sample_rate: Option<f64>,
    /// The user's presets, sorted by name.
    pub presets: &'a [Preset],
    /// The models; `None` in a build without.
    pub shelf: Option<&'a ShelfView>,
}

/// What the user wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Gesture(Gesture),
    Analyse,
    Cancel,
    Clear,
    /// What the last [`Command::Clear`] forgot is rebuilt audio again.
    Unclear,
    SetStyle(String),
    /// What the user decided about the rebuilt audio, as a whole.
    SetEdits(Edits),
    /// Another rebuild of a span.
    Regenerate(Regenerate),
    Listen(Listening),
    /// The terms of the chosen regenerators' models are accepted.
    AcceptTerms,
    /// Keeps the present settings as a file; one of the same name is replaced.
    SavePreset(Preset),
    DeletePreset(String),
    /// The name of the preset that the settings came from, for the project.
    NamePreset(String),
    /// Text for the clipboard.
    Copy(String),
    /// A MIDI file for the user's folder of them; `name` has no extension.
    SaveMidi {
        name: String,
        bytes: Vec<u8>,
    },
    /// A file or folder is to be chosen in the system's dialog.
    Choose(Want),
    /// This path was typed for it.
    UsePath(Want, PathBuf),
    /// What is wanted of the models' library.
    Models(Order),
    /// The light palette instead of the dark one.
    SetLight(bool),
}

/// A change of a parameter, as hosts record it: begun, any number of values, ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gesture {
    Begin(ParamPtr),
    /// The normalized value.
    Set(ParamPtr, f32),
    End(ParamPtr),
}

/// Meters as the eye likes them: up at once, down slowly.
#[derive(Clone, Debug)]
pub struct Levels {
    /// dBFS.
    pub input_db: f32,
    pub output_db: f32,
    /// Gain reduction in dB, positive.
    pub limiter_db: f32,
    /// Severity per kind, 0..=1.
    pub severity: Severity,
    /// `None` while the host gives none.
    pub position: Option<SamplePos>,
    pub player: PlayerState,
    /// Whether the host runs audio through the plugin.
    pub running: bool,
    processed: u64,
    /// Seconds since `processed` last grew.
    idle_seconds: f32,
}

/// Level shown for silence.
pub const SILENCE_DB: f32 = -72.0;
/// Fall of the level meters, dB a second.
const FALL_DB: f32 = 24.0;
/// Fall of the damage meters, share of full scale a second.
const FALL_SEVERITY: f32 = 1.2;
/// Seconds without a block after which audio counts as stopped.
const IDLE_SECONDS: f32 = 0.5;

impl Default for Levels {
    fn default() -> Self {
        Self {
            input_db: SILENCE_DB,
            output_db: SILENCE_DB,
            limiter_db: 0.0,
            severity: Severity::default(),
            position: None,
            player: PlayerState::Live,
            running: false,
            processed: 0,
            idle_seconds: IDLE_SECONDS,
        }
    }
}

impl Levels {
    /// Reads the meters `elapsed` seconds after the last reading.
    pub fn read(&mut self, meters: &Meters, elapsed: f32) {
        use std::sync::atomic::Ordering::Relaxed;

        let level = |old: f32, peak: f32| {
            let new = if peak > 0.0 {
                20.0 * peak.log10()
            } else {
                SILENCE_DB
            };
            new.max(old - FALL_DB * elapsed).max(SILENCE_DB)
        };
        self.input_db = level(self.input_db, Meters::take(&meters.input_peak));
        self.output_db = level(self.output_db, Meters::take(&meters.output_peak));
        let limiter = Meters::take(&meters.limiter_db);
        self.limiter_db = limiter.max(self.limiter_db - FALL_DB * elapsed).max(0.0);
        for (shown, new) in self.severity.iter_mut().zip(meters.severity()) {
            *shown = new.max(*shown - FALL_SEVERITY * elapsed).clamp(0.0, 1.0);
        }
        let position = meters.position.load(Relaxed);
        self.position = (position != Meters::NO_POSITION).then_some(SamplePos(position));
        self.player = meters.player();

        let processed = meters.processed.load(Relaxed);
        if processed == self.processed {
            self.idle_seconds += elapsed;
        } else {
            self.idle_seconds = 0.0;
        }
        self.processed = processed;
        self.running = self.idle_seconds < IDLE_SECONDS;
    }
}

impl<'a> Model<'a> {
    /// The take at the play position, or else the one that ends last before it, or the first.
    pub fn current_take(&self) -> Option<&'a TakeView> {
        let takes = &self.view.takes;
        let pos = self.levels.position.unwrap_or_default();
        takes
            .iter()
            .rev()
            .find(|take| take.start <= pos)
            .or(takes.first())
    }
}
