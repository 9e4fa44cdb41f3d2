// [main] The editor: shows what the worker and the meters say, and sends commands.
//!
//! [`ui`] draws a [`Model`] and returns [`Command`]s; it knows neither window nor host, so it can be
//! drawn in tests. This file owns the window: it gathers the model, and carries the commands out.

pub mod controls;
pub mod model;
pub mod panels;
pub mod status;
pub mod theme;
pub mod ui;
pub mod waveform;

use std::{
    error::Error,
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
    editor::model::{Command, Gesture, Levels, Model},
    exchange::meters::Meters,
    params::{DEFAULT_EDITOR_SIZE, UncookParams},
    worker::view::View,
};

/// Smallest size at which everything can be used, in logical pixels.
const MIN_SIZE: [f32; 2] = [720.0, 480.0];
/// Largest size a project file may ask for.
const MAX_SIZE: [f32; 2] = [4096.0, 3072.0];
/// Time between two pictures: meters look steady at 30 a second.
const FRAME: Duration = Duration::from_millis(33);

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
}

/// The editor as the host sees it. Opens windows on request only.
pub struct UncookEditor {
    params: Arc<UncookParams>,
    backend: Arc<dyn Backend>,
    repaint: RepaintNotifier,
    /// The framework fixes the size when its editor is made; ours is made anew for every window, with
    /// the size that the project remembers.
    open: Mutex<Option<Arc<EguiEditorState>>>,
}

impl UncookEditor {
    /// An editor without a window.
    pub fn new(params: Arc<UncookParams>, backend: Arc<dyn Backend>) -> Self {
        Self {
            params,
            backend,
            repaint: RepaintNotifier::new(),
            open: Mutex::new(None),
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
}

impl App {
    fn carry_out(&self, command: Command) {
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
        theme::apply(&egui_ctx);
        self.context = Some(context);
        Ok(())
    }

    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut Frame) {
        let now = Instant::now();
        let elapsed = self
            .last_frame
            .map_or(0.0, |last| now.duration_since(last).as_secs_f32());
        self.last_frame = Some(now);
        self.levels.read(self.backend.meters(), elapsed);

        let view = self.backend.view().unwrap_or_default();
        let model = Model {
            params: &self.params,
            view: &view,
            levels: &self.levels,
            sample_rate: self.backend.sample_rate(),
        };
        for command in ui::draw(ui, &model) {
            self.carry_out(command);
        }
        ui.ctx().request_repaint_after(FRAME);
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
