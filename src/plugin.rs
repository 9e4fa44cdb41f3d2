// [any] The plugin: lifecycle, latency, state. Wires the parts together; no signal processing here.
//!
//! What the framework (nice-plug 0.4.2) does and this file relies on:
//! * Loading state while audio runs sets parameters and persisted fields, but does not re-activate:
//!   [`SessionField`](crate::params::SessionField) passes a loaded session on by itself.
//! * Blocks are split at automation points, and the transport is moved along, except in CLAP hosts
//!   that give no tempo: [`Clock`] repairs that.
//! * The CLAP wrapper knows at `activate` whether the host renders offline. The VST3 wrapper is one
//!   activation late, so there only the observed pace counts: [`Patience`].

mod clock;
mod patience;
#[cfg(feature = "standalone")]
pub mod standalone;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use nice_plug::prelude::*;
use parking_lot::Mutex;

#[cfg(feature = "ml")]
use crate::worker::shelf::Shelf;
use crate::{
    editor::{Backend, UncookEditor},
    exchange::{capture::capture_ring, meters::Meters, patch::patch_snapshot},
    params::{self, SessionStore, UncookParams},
    realtime::{self, AudioLink, Chain},
    worker::{
        engine::{Engine, Instance},
        options::{CaptureMode, Options},
        session::{Edits, Listening, Regenerate, Session},
        shelf::{Order, ShelfView},
        view::View,
    },
};
use clock::Clock;
use patience::Patience;

/// Frames the capture ring holds: ten seconds at 48 kHz, enough for hosts that process ahead in
/// bursts. About 4 MB an active instance.
const CAPTURE_FRAMES: usize = 480_000;

/// The plugin.
#[derive(Default)]
pub struct Uncook {
    params: Arc<UncookParams>,
    link: Arc<Link>,
    /// Built in `activate`.
    chain: Option<Chain>,
    /// Rate and channels the chain was built for.
    built: Option<(f32, usize)>,
    clock: Clock,
    patience: Patience,
    /// The newest [`UncookParams::options_version`] that was sent to the worker.
    sent_options: u64,
}

/// Tasks for another thread than the audio thread.
pub enum Task {
    /// Tell the worker about changed options.
    SendOptions,
}

/// The plugin's line to the worker, shared with the editor. Connected at the first activation, so
/// that scanning hosts start nothing.
#[derive(Default)]
struct Link {
    // Fields drop in order: the instance leaves before the engine may stop.
    connection: OnceLock<Connection>,
    meters: Arc<Meters>,
}

struct Connection {
    instance: Instance,
    sent: Mutex<Option<Options>>,
    /// Rate of the last activation, in Hz.
    sample_rate: AtomicU64,
    _engine: Arc<Engine>,
}

impl Link {
    /// Hands `options` to the worker if they differ from what it has.
    fn send_options(&self, options: Options) {
        let Some(connection) = self.connection.get() else {
            return;
        };
        let mut sent = connection.sent.lock();
        if sent.as_ref() != Some(&options) {
            connection.instance.set_options(&options);
            *sent = Some(options);
        }
    }

    /// Whether the worker was ever told any options.
    fn has_options(&self) -> bool {
        self.connection
            .get()
            .is_some_and(|connection| connection.sent.lock().is_some())
    }

    fn instance(&self) -> Option<&Instance> {
        self.connection.get().map(|c| &c.instance)
    }
}

impl SessionStore for Link {
    fn session(&self) -> Session {
        self.instance().map(Instance::session).unwrap_or_default()
    }

    fn load(&self, session: &Session) {
        if let Some(instance) = self.instance() {
            instance.load_session(session);
        }
    }
}

/// What the editor can do.
struct EditorBackend {
    params: Arc<UncookParams>,
    link: Arc<Link>,
    /// The models' library, from the first window on: hosts that only scan start nothing.
    #[cfg(feature = "ml")]
    shelf: OnceLock<Option<Arc<Shelf>>>,
}

#[cfg(feature = "ml")]
impl EditorBackend {
    /// `None` where the system has no folder for models.
    fn models(&self) -> Option<&Shelf> {
        self.shelf.get_or_init(|| Shelf::shared().ok()).as_deref()
    }
}

impl Backend for EditorBackend {
    fn view(&self) -> Option<Arc<View>> {
        self.link.instance().map(Instance::view)
    }

    fn meters(&self) -> &Meters {
        &self.link.meters
    }

    fn sample_rate(&self) -> Option<f64> {
        let connection = self.link.connection.get()?;
        let rate = connection.sample_rate.load(Ordering::Relaxed);
        (rate > 0).then_some(rate as f64)
    }

    fn options_changed(&self) {
        self.link.send_options(self.params.options());
    }

    fn analyse(&self) {
        self.options_changed();
        if let Some(instance) = self.link.instance() {
            instance.analyse();
        }
    }

    fn cancel(&self) {
        if let Some(instance) = self.link.instance() {
            instance.cancel();
        }
    }

    fn clear(&self) {
        if let Some(instance) = self.link.instance() {
            instance.clear();
        }
    }

    fn set_edits(&self, edits: &Edits) {
        if let Some(instance) = self.link.instance() {
            instance.set_edits(edits);
        }
    }

    fn regenerate(&self, focus: Regenerate) {
        if let Some(instance) = self.link.instance() {
            instance.regenerate(focus);
        }
    }

    fn listen(&self, listening: Listening) {
        if let Some(instance) = self.link.instance() {
            instance.listen(listening);
        }
    }

    fn accept_terms(&self) {
        if let Some(instance) = self.link.instance() {
            instance.accept_terms();
        }
    }

    fn presets_folder(&self) -> Option<PathBuf> {
        Engine::data_folder().map(|folder| folder.join("presets"))
    }

    fn midi_folder(&self) -> Option<PathBuf> {
        Engine::midi_folder()
    }

    #[cfg(feature = "ml")]
    fn shelf(&self) -> Option<Arc<ShelfView>> {
        self.models().map(Shelf::view)
    }

    #[cfg(not(feature = "ml"))]
    fn shelf(&self) -> Option<Arc<ShelfView>> {
        None
    }

    #[cfg(feature = "ml")]
    fn order(&self, order: Order) {
        if let Some(shelf) = self.models() {
            shelf.order(order);
        }
    }

    #[cfg(not(feature = "ml"))]
    fn order(&self, _: Order) {}

    fn collect(&self, folder: &Path) -> Result<usize, String> {
        let instance = self.link.instance();
        instance.map_or(Ok(0), |instance| instance.collect(folder))
    }

    fn relink(&self, folder: &Path) -> Result<usize, String> {
        let instance = self.link.instance();
        instance.map_or(Ok(0), |instance| instance.relink(folder))
    }
}

impl Uncook {
    /// The chain's ends of everything shared: those of the old chain, or new ones at the first call.
    fn audio_link(&mut self) -> Option<AudioLink> {
        if let Some(chain) = self.chain.take() {
            return Some(chain.into_link());
        }
        if self.link.connection.get().is_some() {
            // The ends went with a chain that no longer exists; there is only one pair.
            return None;
        }
        let (capture, reader) = capture_ring(CAPTURE_FRAMES);
        let (publisher, patches) = patch_snapshot();
        let engine = Engine::shared();
        let instance = engine.connect(reader, publisher);
        let _ = self.link.connection.set(Connection {
            instance,
            sent: Mutex::new(None),
            sample_rate: AtomicU64::new(0),
            _engine: engine,
        });
        Some(AudioLink {
            patches,
            capture,
            meters: self.link.meters.clone(),
        })
    }

    fn open_editor(&self) -> UncookEditor {
        let backend = EditorBackend {
            params: self.params.clone(),
            link: self.link.clone(),
            #[cfg(feature = "ml")]
            shelf: OnceLock::new(),
        };
        UncookEditor::new(self.params.clone(), Arc::new(backend))
    }

    /// Waits for this instance's jobs. Only while a host renders offline.
    fn wait(&mut self) {
        let Some(instance) = self.link.instance() else {
            return;
        };
        util::permit_alloc(|| self.patience.spend(|limit| instance.wait_idle(limit)));
    }
}

impl Plugin for Uncook {
    const NAME: &'static str = "Uncook";
    const VENDOR: &'static str = "Uncook";
    const URL: &'static str = "";
    const EMAIL: &'static str = "";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");

    const AUDIO_IO_LAYOUTS: &'static [AudioIOLayout] = &[
        AudioIOLayout {
            main_input_channels: NonZeroU32::new(2),
            main_output_channels: NonZeroU32::new(2),
            ..AudioIOLayout::const_default()
        },
        AudioIOLayout {
            main_input_channels: NonZeroU32::new(1),
            main_output_channels: NonZeroU32::new(1),
            ..AudioIOLayout::const_default()
        },
    ];

    const SAMPLE_ACCURATE_AUTOMATION: bool = true;

    type Editor = UncookEditor;
    type SysExMessage = ();
    type BackgroundTask = Task;

    fn task_executor(&mut self) -> TaskExecutor<Self> {
        let params = self.params.clone();
        let link = self.link.clone();
        Box::new(move |task| match task {
            // A host that renders on its main thread runs this inside `process`.
            Task::SendOptions => util::permit_alloc(|| link.send_options(params.options())),
        })
    }

    fn filter_state(state: &mut PluginState) {
        params::migrate(state);
    }

    fn params(&self) -> Arc<dyn Params> {
        self.params.clone()
    }

    fn editor(&mut self, _executor: AsyncExecutor<Self>) -> Option<UncookEditor> {
        Some(self.open_editor())
    }

    fn activate(
        &mut self,
        layout: &AudioIOLayout,
        config: &BufferConfig,
        context: &mut impl ActivateContext<Self>,
    ) -> bool {
        let rate = config.sample_rate;
        let channels = layout.main_output_channels.map_or(0, NonZeroU32::get) as usize;
        let usable = rate.is_finite() && rate >= 1.0;
        if !usable || !(1..=realtime::MAX_CHANNELS).contains(&channels) {
            return false;
        }
        if self.built != Some((rate, channels)) {
            let Some(mut link) = self.audio_link() else {
                return false;
            };
            link.capture.set_sample_rate(rate.round() as u32);
            self.chain = Some(Chain::new(f64::from(rate), channels, link));
            self.built = Some((rate, channels));
        }
        if let Some(connection) = self.link.connection.get() {
            let rate = rate.round() as u32;
            connection.instance.set_sample_rate(rate);
            connection
                .sample_rate
                .store(u64::from(rate), Ordering::Relaxed);
        }
        self.patience
            .activate(context.plugin_api(), config.process_mode, rate);
        self.sent_options = self.params.options_version();
        // A render must not ask for other work than the user did: its automation may stand anywhere.
        if !(self.patience.is_rendering() && self.link.has_options()) {
            self.link.send_options(self.params.options());
        }
        self.params.session.connect(self.link.clone());

        let latency = self.chain.as_ref().map_or(0, Chain::latency);
        context.set_latency_samples(latency as u32);
        true
    }

    fn reset(&mut self) {
        if let Some(chain) = &mut self.chain {
            chain.reset();
        }
        self.clock = Clock::default();
        self.patience.reset();
    }

    fn process(
        &mut self,
        buffer: &mut Buffer,
        _aux: &mut AuxiliaryBuffers,
        context: &mut impl ProcessContext<Self>,
    ) -> ProcessStatus {
        let frames = buffer.samples();
        let version = self.params.options_version();
        if version != self.sent_options {
            self.sent_options = version;
            context.execute_gui(Task::SendOptions);
        }

        let transport = context.transport();
        let playing = transport.playing;
        let pos = self.clock.at(transport.pos_samples(), playing, frames);

        // Before this block: what is finished shall play from its first sample.
        if self.patience.wants_to_wait_before(playing, frames) {
            self.wait();
        }
        // A render plays what was committed and starts no work of its own.
        let mode = self.params.analysis.capture.value();
        let capture =
            playing && pos.is_some() && mode != CaptureMode::Off && !self.patience.is_rendering();
        let at = realtime::Transport {
            pos,
            playing,
            capture,
        };
        let settings = self.params.settings();
        let Some(chain) = &mut self.chain else {
            return ProcessStatus::Error("not activated");
        };
        // What memory had no room for is there before the render needs it.
        if self.patience.is_rendering()
            && let (Some(pos), Some(instance)) = (pos, self.link.instance())
            && !chain.is_here(pos, frames)
        {
            util::permit_alloc(|| instance.bring(pos));
        }
        chain.process(buffer.as_slice(), at, &settings);
        let latency = chain.latency();

        // After a block of standstill: a render host may wait for the worker by feeding silence.
        if self.patience.wants_to_wait_after(playing) {
            self.wait();
        }
        self.patience.leave();
        ProcessStatus::Tail(latency as u32)
    }
}

impl ClapPlugin for Uncook {
    const CLAP_ID: &'static str = "org.uncook.uncook";
    const CLAP_DESCRIPTION: Option<&'static str> =
        Some("Finds what is damaged in a band recording, repairs it and rebuilds drums and bass");
    const CLAP_MANUAL_URL: Option<&'static str> = None;
    const CLAP_SUPPORT_URL: Option<&'static str> = None;
    const CLAP_FEATURES: &'static [ClapFeature] = &[
        ClapFeature::AudioEffect,
        ClapFeature::Restoration,
        ClapFeature::Stereo,
    ];

    fn remote_controls(&self, context: &mut impl RemoteControlsContext) {
        let p = &self.params;
        context.add_section("Uncook", |section| {
            section.add_page("Main", |page| {
                page.add_param(&p.repair);
                page.add_param(&p.stems.master);
                page.add_param(&p.output.mix);
                page.add_param(&p.output.gain);
                page.add_param(&p.listen.compare);
                page.add_param(&p.listen.delta);
                page.add_param(&p.output.limiter);
                page.add_param(&p.output.ceiling);
            });
            section.add_page("Live repair", |page| {
                page.add_param(&p.live.declip);
                page.add_param(&p.live.declick);
                page.add_param(&p.live.denoise);
                page.add_param(&p.live.eq_match);
                page.add_param(&p.live.bass);
                page.add_param(&p.live.treble);
                page.add_param(&p.live.dereverb_early);
                page.add_param(&p.live.dereverb_late);
            });
            section.add_page("Rebuilt stems", |page| {
                page.add_param(&p.stems.drums);
                page.add_param(&p.stems.bass);
                page.add_param(&p.stems.other);
                page.add_param(&p.stems.vocals);
                page.add_param(&p.stems.master);
                page.add_spacer();
                page.add_spacer();
                page.add_param(&p.bypass);
            });
        });
    }
}

impl Vst3Plugin for Uncook {
    const VST3_CLASS_ID: [u8; 16] = *b"org.uncook.fx.01";
    const VST3_SUBCATEGORIES: &'static [Vst3SubCategory] =
        &[Vst3SubCategory::Fx, Vst3SubCategory::Restoration];
}
