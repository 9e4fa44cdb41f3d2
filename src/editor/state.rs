// [main] What the editor remembers between two pictures, beside the parameters and the worker's view.

use crate::{
    damage::Stem,
    editor::{
        files::Prompt, history::History, models, music, plan::PlanCache, quality::SpectrumCache,
        spectrogram::Textures, stale::Stale, timeline::Viewport, waveform::Strips,
    },
    exchange::SamplePos,
};

/// How the captured audio is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaveMode {
    /// After over before.
    #[default]
    Overlaid,
    /// Before above, after below.
    Split,
    /// Frequencies, before above, after below.
    Spectrogram,
}

/// What is shown on the right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tab {
    #[default]
    Stems,
    Live,
    Analysis,
    Music,
    Models,
    Quality,
}

impl Tab {
    /// Every tab, from left to right.
    pub const ALL: [Self; 6] = [
        Self::Stems,
        Self::Live,
        Self::Analysis,
        Self::Music,
        Self::Models,
        Self::Quality,
    ];
}

/// The editor's memory. Lives as long as the plugin's editor, across windows.
pub struct State {
    pub wave: WaveMode,
    /// The stretch of the timeline that is shown; `None` shows everything.
    pub viewport: Option<Viewport>,
    /// First position and first one after the selection.
    pub selection: Option<(SamplePos, SamplePos)>,
    /// Where a selection that is being drawn began.
    pub(super) anchor: Option<SamplePos>,
    /// Chords, bass and drums under the waveform.
    pub lanes: bool,
    pub tab: Tab,
    /// The average spectrum instead of the numbers.
    pub spectrum: bool,
    /// The stem that "Regenerate" rebuilds.
    pub stem: Stem,
    pub history: History,
    /// The name that is being typed for a new preset.
    pub preset_draft: Option<String>,
    /// The path that is being typed, where there is no file dialog.
    pub prompt: Option<Prompt>,
    /// What came of the last work on files.
    pub told: Option<String>,
    /// What of a stem was heard before the present rebuild, by the hash of its commit.
    pub heard_before: [Option<String>; Stem::COUNT],
    pub stale: Stale,
    pub light: bool,
    /// Name of the preset that the settings came from.
    pub preset: String,
    pub music: music::Memory,
    pub(super) models: models::Memory,
    pub(super) plan: PlanCache,
    pub(super) textures: Textures,
    pub(super) spectra: SpectrumCache,
    pub(super) strips: Strips,
}

impl State {
    /// Forgets what belongs to one window's graphics: a new window has none of it.
    pub fn new_window(&mut self) {
        self.textures = Textures::default();
        // Who would have said more went with the old window.
        self.told = None;
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            wave: WaveMode::default(),
            viewport: None,
            selection: None,
            anchor: None,
            lanes: true,
            tab: Tab::default(),
            spectrum: false,
            stem: Stem::Bass,
            history: History::default(),
            preset_draft: None,
            prompt: None,
            told: None,
            heard_before: Default::default(),
            stale: Stale::default(),
            light: false,
            preset: String::new(),
            music: music::Memory::default(),
            models: models::Memory::default(),
            plan: PlanCache::default(),
            textures: Textures::default(),
            spectra: SpectrumCache::default(),
            strips: Strips::default(),
        }
    }
}
