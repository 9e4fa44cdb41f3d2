// [any] The host's parameters: ids, ranges, units, texts, and what else a project stores.
//!
//! Ids are permanent: a project saved today must open in every later version. A new meaning gets a
//! new id, and [`migrate`] says which old one it takes over; changed ranges are its business, too. No
//! parameter is smoothed here: the chain ramps every value itself, sample by sample.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crossbeam::atomic::AtomicCell;
use nice_plug::{params::persist::PersistentField, prelude::*};
use parking_lot::{Mutex, RwLock};

use crate::{
    damage::Stem,
    realtime::Settings,
    worker::{
        options::{
            CaptureMode, Options, Quality, RegeneratorChoice, Regenerators, SeparatorChoice,
        },
        session::Session,
    },
};

/// Range of the output gain in dB.
pub const GAIN_RANGE_DB: (f32, f32) = (-24.0, 24.0);
/// Range of the limiter's ceiling in dBTP.
pub const CEILING_RANGE_DB: (f32, f32) = (-12.0, 0.0);
/// Largest seed: four digits that are easy to note down, and exact in the host's f32.
pub const MAX_SEED: i32 = 9999;
/// Size of the editor before anyone has resized it, in logical pixels.
pub const DEFAULT_EDITOR_SIZE: [f32; 2] = [1120.0, 800.0];

/// Everything a project stores of one instance.
#[derive(Params)]
pub struct UncookParams {
    /// Hear the input, delayed by the reported latency. Linked to the host's bypass button.
    #[id = "bypass"]
    pub bypass: BoolParam,
    /// Overall amount in percent: scales every stage and the rebuilt audio. At 0 the input comes out.
    #[id = "repair"]
    pub repair: FloatParam,
    #[nested(group = "Live repair")]
    pub live: LiveParams,
    #[nested(group = "Rebuilt stems")]
    pub stems: StemParams,
    #[nested(group = "Output")]
    pub output: OutputParams,
    #[nested(group = "Listen")]
    pub listen: ListenParams,
    #[nested(group = "Analysis")]
    pub analysis: AnalysisParams,

    /// The user's words about the sound, for regenerators that read them. Empty if none.
    #[persist = "style"]
    pub style: StyleField,
    /// The committed patches, by hash.
    #[persist = "session"]
    pub session: SessionField,
    /// Width and height of the editor in logical pixels.
    #[persist = "editor-size"]
    pub editor_size: Arc<AtomicCell<[f32; 2]>>,
    /// Whether the editor has the light palette.
    #[persist = "editor-light"]
    pub light: Arc<AtomicCell<bool>>,
    /// Name of the preset that the settings came from; empty if none. Read and written by the editor and
    /// the host's main thread only.
    #[persist = "preset"]
    pub preset: Arc<RwLock<String>>,

    /// See [`UncookParams::options_version`]: the audio thread compares it with the last number it saw
    /// and has the options handed over from another thread.
    options_version: Arc<AtomicU64>,
}

/// How strongly each stage of the live chain works, in percent; at 0 a stage is exactly transparent.
#[derive(Params)]
pub struct LiveParams {
    /// Rebuilds flat tops of overloaded peaks. More = closer to the peaks that were cut.
    #[id = "declip"]
    pub declip: FloatParam,
    /// Removes clicks and crackle.
    #[id = "declick"]
    pub declick: FloatParam,
    /// Lowers steady background noise. High values thin out quiet tails.
    #[id = "denoise"]
    pub denoise: FloatParam,
    /// Brings back 40–100 Hz that the microphone lost.
    #[id = "bass"]
    pub bass: FloatParam,
    /// Brings back 8–20 kHz that the microphone or codec lost.
    #[id = "treble"]
    pub treble: FloatParam,
    /// Lowers early reflections: the boxy sound of a near wall.
    #[id = "dereverb_early"]
    pub dereverb_early: FloatParam,
    /// Lowers the late reverberation: the tail of the room.
    #[id = "dereverb_late"]
    pub dereverb_late: FloatParam,
    /// Pulls the overall tone towards that of a finished mix.
    #[id = "eq_match"]
    pub eq_match: FloatParam,
}

/// How much of each rebuilt stem replaces the separated one, in percent.
#[derive(Params)]
pub struct StemParams {
    /// Rebuilt drums; 0 keeps the recorded ones.
    #[id = "blend_drums"]
    pub drums: FloatParam,
    /// Rebuilt bass; 0 keeps the recorded one.
    #[id = "blend_bass"]
    pub bass: FloatParam,
    /// Rebuilt other instruments; 0 keeps the recorded ones.
    #[id = "blend_other"]
    pub other: FloatParam,
    /// Rebuilt vocals; 0 keeps the recorded ones.
    #[id = "blend_vocals"]
    pub vocals: FloatParam,
    /// Scales all four blends. At 0 the repaired recording plays without anything rebuilt.
    #[id = "blend"]
    pub master: FloatParam,
}

/// What happens after the repair.
#[derive(Params)]
pub struct OutputParams {
    /// Gain of the repaired signal in dB, before the mix.
    #[id = "output_gain"]
    pub gain: FloatParam,
    /// 0 % = input, delayed; 100 % = repaired.
    #[id = "mix"]
    pub mix: FloatParam,
    /// Keeps true peaks that the repair adds below the ceiling; peaks that the input already had pass.
    #[id = "limiter"]
    pub limiter: BoolParam,
    /// The limiter's ceiling in dBTP.
    #[id = "ceiling"]
    pub ceiling: FloatParam,
}

/// Ways to hear what is done.
#[derive(Params)]
pub struct ListenParams {
    /// Hear only what is changed: output minus input.
    #[id = "delta"]
    pub delta: BoolParam,
    /// Hear the input at the output's loudness, so that louder does not win.
    #[id = "compare"]
    pub compare: BoolParam,
}

/// Parameters of earlier versions, and those that took their place with the same values.
pub const RENAMED: [(&str, &[&str]); 1] =
    [("regenerator", &["drums_regenerator", "bass_regenerator"])];

/// Makes a state of an earlier version one of this.
pub fn migrate(state: &mut PluginState) {
    for (old, new) in RENAMED {
        let Some(value) = state.params.remove(old) else {
            continue;
        };
        for id in new {
            let value = value.clone();
            state.params.entry((*id).to_owned()).or_insert(value);
        }
    }
}

/// What the background analysis does. Not automatable: it belongs to jobs, not to the timeline.
#[derive(Params)]
pub struct AnalysisParams {
    /// When input is captured and analysed.
    #[id = "capture"]
    pub capture: EnumParam<CaptureMode>,
    /// How much work goes into the offline repair.
    #[id = "quality"]
    pub quality: EnumParam<Quality>,
    /// Another number gives another, equally valid rebuild; the same number always the same.
    #[id = "seed"]
    pub seed: IntParam,
    /// Who separates the stems.
    #[id = "separator"]
    pub separator: EnumParam<SeparatorParam>,
    /// Who rebuilds damaged drums.
    #[id = "drums_regenerator"]
    pub drums_regenerator: EnumParam<RegeneratorChoice>,
    /// Who rebuilds damaged bass.
    #[id = "bass_regenerator"]
    pub bass_regenerator: EnumParam<RegeneratorChoice>,
}

impl Default for UncookParams {
    /// Every value as in [`Settings::default`] and [`Options::default`].
    fn default() -> Self {
        let d = Settings::default();
        let o = Options::default();
        let options_version = Arc::new(AtomicU64::new(1));
        Self {
            bypass: BoolParam::new("Bypass", d.bypass).make_bypass(),
            repair: percent("Repair", d.repair),
            live: LiveParams {
                declip: percent("Declip", d.declip),
                declick: percent("Declick", d.declick),
                denoise: percent("Denoise", d.denoise),
                bass: percent("Bass extension", d.bass),
                treble: percent("Treble extension", d.treble),
                dereverb_early: percent("Early reflections", d.dereverb_early),
                dereverb_late: percent("Late reverb", d.dereverb_late),
                eq_match: percent("EQ match", d.eq_match),
            },
            stems: StemParams {
                drums: percent("Drums blend", d.blend[Stem::Drums as usize]),
                bass: percent("Bass blend", d.blend[Stem::Bass as usize]),
                other: percent("Other blend", d.blend[Stem::Other as usize]),
                vocals: percent("Vocals blend", d.blend[Stem::Vocals as usize]),
                master: percent("Blend", d.master_blend),
            },
            output: OutputParams {
                gain: decibel("Output gain", d.output_gain_db, GAIN_RANGE_DB, " dB"),
                mix: percent("Mix", d.mix),
                limiter: BoolParam::new("Limiter", d.limiter),
                ceiling: decibel("Ceiling", d.ceiling_db, CEILING_RANGE_DB, " dBTP"),
            },
            listen: ListenParams {
                delta: BoolParam::new("Delta", d.delta),
                compare: BoolParam::new("A/B", d.compare)
                    .with_value_to_string(Arc::new(|on| {
                        if on { "A (input)" } else { "B (output)" }.to_owned()
                    }))
                    .with_string_to_value(Arc::new(|text| {
                        match text.trim().to_ascii_lowercase().as_str() {
                            "a" | "a (input)" | "on" | "input" => Some(true),
                            "b" | "b (output)" | "off" | "output" => Some(false),
                            _ => None,
                        }
                    })),
            },
            analysis: AnalysisParams {
                capture: EnumParam::new("Capture", o.capture)
                    .with_callback(counting(&options_version))
                    .non_automatable(),
                quality: EnumParam::new("Quality", o.quality)
                    .with_callback(counting(&options_version))
                    .non_automatable(),
                seed: IntParam::new(
                    "Seed",
                    o.seed as i32,
                    IntRange::Linear {
                        min: 0,
                        max: MAX_SEED,
                    },
                )
                .with_callback(counting(&options_version))
                .non_automatable(),
                separator: EnumParam::new("Separator", SeparatorParam::Automatic)
                    .with_callback(counting(&options_version))
                    .non_automatable(),
                drums_regenerator: EnumParam::new("Drums regenerator", o.regenerators.drums)
                    .with_callback(counting(&options_version))
                    .non_automatable(),
                bass_regenerator: EnumParam::new("Bass regenerator", o.regenerators.bass)
                    .with_callback(counting(&options_version))
                    .non_automatable(),
            },
            style: StyleField {
                text: Mutex::new(o.style),
                version: options_version.clone(),
            },
            session: SessionField::default(),
            editor_size: Arc::new(AtomicCell::new(DEFAULT_EDITOR_SIZE)),
            light: Arc::new(AtomicCell::new(false)),
            preset: Arc::default(),
            options_version,
        }
    }
}

impl UncookParams {
    /// What the chain is told, from the parameters' values at this sample. Reads atomics only. Values
    /// are brought into range: a project file may hold anything.
    pub fn settings(&self) -> Settings {
        Settings {
            repair: unit(&self.repair),
            declip: unit(&self.live.declip),
            declick: unit(&self.live.declick),
            denoise: unit(&self.live.denoise),
            bass: unit(&self.live.bass),
            treble: unit(&self.live.treble),
            dereverb_early: unit(&self.live.dereverb_early),
            dereverb_late: unit(&self.live.dereverb_late),
            eq_match: unit(&self.live.eq_match),
            output_gain_db: within(&self.output.gain, GAIN_RANGE_DB),
            mix: unit(&self.output.mix),
            blend: [
                unit(&self.stems.drums),
                unit(&self.stems.bass),
                unit(&self.stems.other),
                unit(&self.stems.vocals),
            ],
            master_blend: unit(&self.stems.master),
            limiter: self.output.limiter.value(),
            ceiling_db: within(&self.output.ceiling, CEILING_RANGE_DB),
            delta: self.listen.delta.value(),
            compare: self.listen.compare.value(),
            bypass: self.bypass.value(),
        }
    }

    /// Who rebuilds `stem`; `None` for stems that nobody rebuilds.
    pub fn regenerator(&self, stem: Stem) -> Option<&EnumParam<RegeneratorChoice>> {
        match stem {
            Stem::Drums => Some(&self.analysis.drums_regenerator),
            Stem::Bass => Some(&self.analysis.bass_regenerator),
            Stem::Other | Stem::Vocals => None,
        }
    }

    /// What the worker is told, with the live amounts as they stand. Allocates: not for the audio thread.
    pub fn options(&self) -> Options {
        Options {
            capture: self.analysis.capture.value(),
            quality: self.analysis.quality.value(),
            separator: self.analysis.separator.value().into(),
            regenerators: Regenerators {
                drums: self.analysis.drums_regenerator.value(),
                bass: self.analysis.bass_regenerator.value(),
            },
            seed: self.analysis.seed.value().clamp(0, MAX_SEED) as u64,
            style: self.style.get(),
            asked: None,
            declick_percent: whole_percent(&self.live.declick),
            declip_percent: whole_percent(&self.live.declip),
            denoise_percent: whole_percent(&self.live.denoise),
            // The worker has the user's edits, one list a take.
            music: Vec::new(),
        }
    }

    /// Grows whenever a choice for the worker or the style changes. The live amounts are not counted:
    /// they may be automated, and jobs take them as they stand when the user or the project starts one.
    pub fn options_version(&self) -> u64 {
        self.options_version.load(Ordering::Acquire)
    }

    /// The blend parameter of a stem.
    pub fn blend(&self, stem: Stem) -> &FloatParam {
        match stem {
            Stem::Drums => &self.stems.drums,
            Stem::Bass => &self.stems.bass,
            Stem::Other => &self.stems.other,
            Stem::Vocals => &self.stems.vocals,
        }
    }
}

/// A callback that counts a change of the options.
fn counting<T>(version: &Arc<AtomicU64>) -> Arc<dyn Fn(T) + Send + Sync> {
    let version = version.clone();
    Arc::new(move |_| {
        version.fetch_add(1, Ordering::Release);
    })
}

/// A 0..=1 parameter shown in percent.
pub(crate) fn percent(name: &str, default: f32) -> FloatParam {
    FloatParam::new(name, default, FloatRange::Linear { min: 0.0, max: 1.0 })
        .with_unit(" %")
        .with_value_to_string(Arc::new(|value| plain_number(value * 100.0)))
        .with_string_to_value(Arc::new(|text| {
            number(text, &["%"]).map(|percent| (percent / 100.0).clamp(0.0, 1.0))
        }))
}

/// A parameter in decibels.
fn decibel(name: &str, default: f32, (min, max): (f32, f32), unit: &'static str) -> FloatParam {
    FloatParam::new(name, default, FloatRange::Linear { min, max })
        .with_unit(unit)
        .with_value_to_string(Arc::new(plain_number))
        .with_string_to_value(Arc::new(move |text| {
            number(text, &["dbtp", "dbfs", "db"]).map(|db| db.clamp(min, max))
        }))
}

/// One decimal, never "-0.0".
fn plain_number(value: f32) -> String {
    // Adding positive zero turns -0 into 0.
    format!("{:.1}", (value * 10.0).round() / 10.0 + 0.0)
}

/// A finite number in front of an optional unit, in any case, with a decimal point or comma.
fn number(text: &str, units: &[&str]) -> Option<f32> {
    let text = text.trim().to_ascii_lowercase().replace(',', ".");
    let bare = units
        .iter()
        .find_map(|unit| text.strip_suffix(unit))
        .unwrap_or(&text);
    bare.trim().parse().ok().filter(|x: &f32| x.is_finite())
}

fn unit(param: &FloatParam) -> f32 {
    within(param, (0.0, 1.0))
}

fn whole_percent(param: &FloatParam) -> u8 {
    (100.0 * unit(param)).round() as u8
}

fn within(param: &FloatParam, (min, max): (f32, f32)) -> f32 {
    let value = param.value();
    if value.is_finite() {
        value.clamp(min, max)
    } else {
        param.default_plain_value()
    }
}

/// The style text, stored with the project.
pub struct StyleField {
    text: Mutex<String>,
    version: Arc<AtomicU64>,
}

impl StyleField {
    /// The text.
    pub fn get(&self) -> String {
        self.text.lock().clone()
    }

    /// Replaces the text.
    pub fn replace(&self, text: String) {
        *self.text.lock() = text;
        self.version.fetch_add(1, Ordering::Release);
    }
}

impl PersistentField<'_, String> for StyleField {
    fn set(&self, text: String) {
        self.replace(text);
    }

    fn map<F: Fn(&String) -> R, R>(&self, f: F) -> R {
        f(&self.text.lock())
    }
}

/// Who holds the session while the plugin is connected to the worker.
pub trait SessionStore: Send + Sync {
    /// What the project stores.
    fn session(&self) -> Session;
    /// Makes the patches of `session` play.
    fn load(&self, session: &Session);
}

/// The session, stored with the project. Until the plugin is connected the field keeps what the
/// project gave; then it passes a loaded session on at once (hosts load state while audio runs, and
/// the framework does not re-activate the plugin for that) and asks for the current one when saving.
#[derive(Default)]
pub struct SessionField(Mutex<SessionState>);

#[derive(Default)]
struct SessionState {
    stored: Session,
    store: Option<Arc<dyn SessionStore>>,
}

impl SessionField {
    /// From now on `store` holds the session; what was loaded before goes to it. Once connected, always
    /// connected: later calls change nothing.
    pub fn connect(&self, store: Arc<dyn SessionStore>) {
        let mut state = self.0.lock();
        if state.store.is_some() {
            return;
        }
        let stored = std::mem::take(&mut state.stored);
        if stored != store.session() {
            store.load(&stored);
        }
        state.store = Some(store);
    }

    /// The session to save.
    pub fn get(&self) -> Session {
        let state = self.0.lock();
        match &state.store {
            Some(store) => store.session(),
            None => state.stored.clone(),
        }
    }
}

impl PersistentField<'_, Session> for SessionField {
    fn set(&self, session: Session) {
        let mut state = self.0.lock();
        match &state.store {
            // Hosts load the whole state for every undo step: don't read sidecars for nothing.
            Some(store) if store.session() == session => {}
            Some(store) => store.load(&session),
            None => state.stored = session,
        }
    }

    fn map<F: Fn(&Session) -> R, R>(&self, f: F) -> R {
        f(&self.get())
    }
}

/// Which separator the user wants. A parameter needs two values at least, so there is always a choice
/// between naming one and leaving it to Uncook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SeparatorParam {
    /// The best one there is.
    #[default]
    Automatic,
    /// Model-free masks in the spectrum.
    Spectral,
    /// The small network that is built in.
    Learned,
}

impl From<SeparatorParam> for SeparatorChoice {
    fn from(choice: SeparatorParam) -> Self {
        match choice {
            SeparatorParam::Automatic => Self::default(),
            SeparatorParam::Spectral => Self::Spectral,
            SeparatorParam::Learned => Self::Learned,
        }
    }
}

/// A choice of the worker as a host's parameter: stable ids for projects, names for people.
macro_rules! choice {
    ($type:ty { $($variant:ident = $id:literal, $name:literal;)+ }) => {
        impl Enum for $type {
            fn variants() -> &'static [&'static str] {
                &[$($name),+]
            }

            fn ids() -> Option<&'static [&'static str]> {
                Some(&[$($id),+])
            }

            fn to_index(self) -> usize {
                const ALL: &[$type] = &[$(<$type>::$variant),+];
                ALL.iter().position(|x| *x == self).unwrap_or(0)
            }

            fn from_index(index: usize) -> Self {
                const ALL: &[$type] = &[$(<$type>::$variant),+];
                ALL.get(index).or(ALL.first()).copied().unwrap_or_default()
            }
        }
    };
}

choice!(CaptureMode {
    Off = "off", "Off";
    Manual = "manual", "Manual";
    Automatic = "automatic", "Automatic";
});
choice!(Quality {
    Draft = "draft", "Draft";
    Best = "best", "Best";
});
choice!(SeparatorParam {
    Automatic = "automatic", "Automatic";
    Spectral = "spectral", "Spectral";
    Learned = "learned", "Learned";
});
choice!(RegeneratorChoice {
    Off = "off", "Off";
    Resynthesis = "resynthesis", "Resynthesis";
    Everywhere = "everywhere", "Everywhere";
    Jasco = "jasco", "JASCO";
    JascoDiffusion = "jasco_mbd", "JASCO + MBD";
    Diffusion = "mbd", "MultiBand Diffusion";
});

#[cfg(test)]
mod tests;
