// [main] The editor: shows what the worker and the meters say, and sends commands.
//!
//! [`ui`] draws a [`Model`] with what the editor remembers ([`State`]) and returns [`Command`]s; it knows
//! neither window nor host, so it can be drawn in tests. This file owns the window: it gathers the model, and carries the commands out.

pub mod controls;
pub mod history;
pub mod lanes;
pub mod live;
pub mod model;
pub mod plan;
pub mod presets;
pub mod quality;
pub mod spectrogram;
pub mod state;
pub mod status;
pub mod stems;
pub mod theme;
pub mod timeline;
pub mod top;
pub mod ui;
pub mod waveform;

use std::{
    error::Error,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use nice_plug::{
    context::gui::GuiContext,
    editor::{
        Editor, HostMethods, ParentWindowHandle, ResizeHint, SizeConstraints, SpawnedEditor,
        dpi::{LogicalSize, NativeSize, Size},
    },
    prelude::TrackInfo,
};
use nice_plug_egui::{
    EguiEditor, EguiEditorHandle, EguiEditorState, EguiNiceSettings, Frame, NiceEguiApp,
    RepaintNotifier, baseview, create_egui_editor,
};
use parking_lot::Mutex;

use crate::{
    editor::{
        model::{Command, Gesture, Levels, Model},
        presets::Preset,
        state::State,
    },
    exchange::meters::Meters,
    params::{DEFAULT_EDITOR_SIZE, UncookParams},
    worker::{
        session::{Edits, Listening, Regenerate},
        view::View,
    },
};

/// Smallest size at which everything can be used, in logical pixels.
const MIN_SIZE: [f32; 2] = [720.0, 480.0];
/// Largest size a project file may ask for.
const MAX_SIZE: [f32; 2] = [4096.0, 3072.0];
/// Time between two pictures while something moves (hands and windows get theirs at once), and while
/// nothing has moved for [`REST_AFTER`]: a resting editor costs next to nothing.
const FRAME: Duration = Duration::from_millis(33);
const REST_FRAME: Duration = Duration::from_millis(500);
const REST_AFTER: Duration = Duration::from_millis(400);

/// What the editor needs from the plugin.
pub trait Backend: Send + Sync {
    /// The worker's newest view of this instance; `None` before the plugin was ever activated.
    fn view(&self) -> Option<Arc<View>>;
    /// The audio thread's meters.
    fn meters(&self) -> &Meters;
    /// The host's rate in Hz, if known.
    fn sample_rate(&self) -> Option<f64>;
    /// Hands the worker changed options.
    fn options_changed(&self);
    /// Starts the analysis of what was captured.
    fn analyse(&self);
    /// Stops this instance's jobs.
    fn cancel(&self);
    /// Forgets what was captured.
    fn clear(&self);
    /// Hands the worker what the user decided about the rebuilt audio.
    fn set_edits(&self, edits: &Edits);
    /// Starts another rebuild of a span.
    fn regenerate(&self, focus: Regenerate);
    /// What of the repair is heard alone.
    fn listen(&self, listening: Listening);
    /// The user accepts the terms of the models that the chosen regenerator needs.
    fn accept_terms(&self);
    /// Where the user's presets are; `None` where there is no such place.
    fn presets_folder(&self) -> Option<PathBuf>;
}

/// The editor as the host sees it. Opens windows on request only.
pub struct UncookEditor {
    params: Arc<UncookParams>,
    backend: Arc<dyn Backend>,
    repaint: RepaintNotifier,
    /// The framework fixes the size when its editor is made; ours is made anew for every window, with
    /// the size that the project remembers.
    open: Mutex<Option<Arc<EguiEditorState>>>,
    /// What the editor remembers from window to window.
    state: Arc<Mutex<State>>,
}

impl UncookEditor {
    /// An editor without a window.
    pub fn new(params: Arc<UncookParams>, backend: Arc<dyn Backend>) -> Self {
        Self {
            params,
            backend,
            repaint: RepaintNotifier::new(),
            open: Mutex::new(None),
            state: Arc::default(),
        }
    }

    /// The remembered size, made sane.
    fn remembered_size(&self) -> LogicalSize<f32> {
        let size = self.params.editor_size.load();
        let side = |i: usize| {
            if size[i].is_finite() && size[i] > 0.0 {
                size[i].clamp(MIN_SIZE[i], MAX_SIZE[i])
            } else {
                DEFAULT_EDITOR_SIZE[i]
            }
        };
        LogicalSize::new(side(0), side(1))
    }

    fn make(&self) -> Option<(EguiEditor<App>, Arc<EguiEditorState>)> {
        let state = EguiEditorState::from_size(self.remembered_size(), 1.0);
        let settings = EguiNiceSettings::new()
            .with_tile("Uncook")
            .with_resize_hint(self.resize_hint());
        let app = App {
            params: self.params.clone(),
            backend: self.backend.clone(),
            context: None,
            levels: Levels::default(),
            last_frame: None,
            state: self.state.clone(),
            presets: Vec::new(),
            problems: Vec::new(),
            moved: Instant::now(),
            seen: Seen::default(),
        };
        let editor = create_egui_editor(state.clone(), self.repaint.clone(), settings, app)?;
        Some((editor, state))
    }
}

impl Editor for UncookEditor {
    type Handle = EguiEditorHandle;

    fn spawn(
        &self,
        parent: Option<ParentWindowHandle>,
        wait_for_parent: bool,
        fallback_scale_factor: Option<f64>,
        context: GuiContext,
        host: Option<HostMethods>,
    ) -> Result<SpawnedEditor<Self::Handle>, Box<dyn Error>> {
        let (editor, state) = self.make().ok_or("no editor could be made")?;
        let spawned = editor.spawn(
            parent,
            wait_for_parent,
            fallback_scale_factor,
            context,
            host,
        )?;
        *self.open.lock() = Some(state);
        Ok(spawned)
    }

    fn size(&self) -> NativeSize<u32> {
        match &*self.open.lock() {
            Some(state) if state.is_open() => {
                let physical = state.physical_size();
                let logical = state.logical_size();
                NativeSize::from_logical_or_physical(
                    LogicalSize::new(f64::from(logical.width), f64::from(logical.height)),
                    physical,
                )
            }
            _ => NativeSize::from_size(Size::from(self.remembered_size()), 1.0),
        }
    }

    fn resize_hint(&self) -> ResizeHint {
        ResizeHint {
            size_constraints: SizeConstraints::Logical {
                min_size: Some(LogicalSize::new(MIN_SIZE[0], MIN_SIZE[1])),
                max_size: None,
            },
            ..ResizeHint::RESIZABLE
        }
    }

    fn track_info_updated(&self, _info: TrackInfo) {}
}

/// The inside of the window.
struct App {
    params: Arc<UncookParams>,
    backend: Arc<dyn Backend>,
    context: Option<GuiContext>,
    levels: Levels,
    last_frame: Option<Instant>,
    state: Arc<Mutex<State>>,
    /// The user's presets as last read.
    presets: Vec<Preset>,
    /// What went wrong with presets, to be shown until the next attempt.
    problems: Vec<String>,
    /// When anything shown last changed, and what was shown then.
    moved: Instant,
    seen: Seen,
}

/// What a picture showed, as coarsely as the eye sees it: where it is the same, nothing has to be drawn.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    /// Which view; its address, as views are never changed.
    view: usize,
    /// Levels and damage in whole steps of the screen.
    levels: [i32; 3],
    severity: [i32; crate::damage::DamageKind::COUNT],
    position: Option<i64>,
    player: u32,
    running: bool,
    parameters: Vec<u32>,
}

impl Seen {
    fn of(view: &Arc<View>, levels: &Levels, params: &UncookParams) -> Self {
        use nice_plug::prelude::Params;
        let parameters = (params.param_map().into_iter())
            // SAFETY: the pointers come from `params`, which is borrowed meanwhile.
            .map(|(_, param, _)| unsafe { param.modulated_normalized_value() }.to_bits())
            .collect();
        Self {
            view: Arc::as_ptr(view) as usize,
            levels: [levels.input_db, levels.output_db, levels.limiter_db * 5.0]
                .map(|x| (4.0 * x) as i32),
            severity: levels.severity.map(|s| (100.0 * s) as i32),
            position: levels.position.map(|pos| pos.0),
            player: levels.player as u32,
            running: levels.running,
            parameters,
        }
    }
}

impl App {
    fn read_presets(&mut self) {
        if let Some(folder) = self.backend.presets_folder() {
            let (presets, errors) = presets::list(&folder);
            self.presets = presets;
            self.problems.extend(errors.iter().map(ToString::to_string));
        }
    }

    fn change_presets(
        &mut self,
        change: impl FnOnce(&std::path::Path) -> Result<(), presets::PresetError>,
    ) {
        self.problems.clear();
        match self.backend.presets_folder() {
            Some(folder) => {
                if let Err(error) = change(&folder) {
                    self.problems.push(error.to_string());
                }
            }
            None => self.problems.push(
                "There is no folder for presets on this computer: set UNCOOK_DATA_DIR to one"
                    .to_owned(),
            ),
        }
        self.read_presets();
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Gesture(gesture) => {
                let Some(context) = &self.context else {
                    return;
                };
                // SAFETY: the pointers come from `self.params`, which the plugin's wrapper keeps alive.
                unsafe {
                    match gesture {
                        Gesture::Begin(param) => context.raw_begin_set_parameter(param),
                        Gesture::Set(param, normalized) => {
                            context.raw_set_parameter_normalized(param, normalized);
                        }
                        Gesture::End(param) => {
                            context.raw_end_set_parameter(param);
                            self.backend.options_changed();
                        }
                    }
                }
            }
            Command::Analyse => self.backend.analyse(),
            Command::Cancel => self.backend.cancel(),
            Command::Clear => self.backend.clear(),
            Command::SetStyle(text) => {
                self.params.style.replace(text);
                self.backend.options_changed();
            }
            Command::SetEdits(edits) => self.backend.set_edits(&edits),
            Command::Regenerate(focus) => {
                self.backend.options_changed();
                self.backend.regenerate(focus);
            }
            Command::Listen(listening) => self.backend.listen(listening),
            Command::AcceptTerms => self.backend.accept_terms(),
            Command::SavePreset(preset) => {
                self.change_presets(|folder| presets::save(folder, &preset));
            }
            Command::DeletePreset(name) => {
                self.change_presets(|folder| presets::delete(folder, &name));
            }
            Command::NamePreset(name) => *self.params.preset.write() = name,
            Command::SetLight(light) => self.params.light.store(light),
            // Only the window has a clipboard.
            Command::Copy(_) => {}
        }
    }
}

impl NiceEguiApp for App {
    fn build(
        &mut self,
        egui_ctx: egui::Context,
        context: GuiContext,
        _frame: &mut Frame,
    ) -> Result<(), baseview::HandlerError> {
        theme::apply(&egui_ctx, self.params.light.load());
        self.context = Some(context);
        self.read_presets();
        Ok(())
    }

    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut Frame) {
        let now = Instant::now();
        let elapsed = self
            .last_frame
            .map_or(0.0, |last| now.duration_since(last).as_secs_f32());
        self.last_frame = Some(now);
        self.levels.read(self.backend.meters(), elapsed);

        let mut view = self.backend.view().unwrap_or_default();
        let seen = Seen::of(&view, &self.levels, &self.params);
        if seen != self.seen || ui.input(|input| !input.events.is_empty()) {
            self.seen = seen;
            self.moved = now;
        }
        if !self.problems.is_empty() {
            Arc::make_mut(&mut view)
                .problems
                .extend(self.problems.iter().cloned());
        }
        let state = self.state.clone();
        let mut state = state.lock();
        let light = self.params.light.load();
        if state.light != light {
            state.light = light;
            theme::apply(ui.ctx(), light);
        }
        let preset = self.params.preset.read().clone();
        if state.preset != preset {
            state.preset = preset;
        }
        let model = Model {
            params: &self.params,
            view: &view,
            levels: &self.levels,
            sample_rate: self.backend.sample_rate(),
            presets: &self.presets,
        };
        let commands = ui::draw(ui, &model, &mut state);
        drop(state);
        if !commands.is_empty() {
            self.moved = now;
        }
        for command in commands {
            match command {
                Command::Copy(text) => ui.ctx().copy_text(text),
                command => self.carry_out(command),
            }
        }
        let rests = now.duration_since(self.moved) > REST_AFTER;
        ui.ctx()
            .request_repaint_after(if rests { REST_FRAME } else { FRAME });
    }

    fn resized(&mut self, size: baseview::WindowSize) {
        self.params
            .editor_size
            .store([size.logical.width as f32, size.logical.height as f32]);
    }

    fn editor_closed(&mut self) {
        self.context = None;
    }
}

#[cfg(test)]
mod tests;
