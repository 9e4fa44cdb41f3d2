// [main] The editor: shows what the worker and the meters say, and sends commands.
//!
//! [`ui`] draws a [`Model`] with what the editor remembers ([`State`]) and returns [`Command`]s; it knows
//! neither window nor host, so it can be drawn in tests. This file owns the window: it gathers the model, and carries the commands out.

#[cfg(any(target_os = "linux", target_os = "macos", windows))]
mod access;
pub mod controls;
pub mod files;
pub mod harte;
pub mod headline;
pub mod history;
pub mod lanes;
pub mod live;
pub mod model;
pub mod models;
pub mod music;
pub mod peaks;
pub mod plan;
pub mod presets;
pub mod quality;
pub mod scale;
pub mod spectrogram;
pub mod stale;
pub mod state;
pub mod status;
pub mod stems;
pub mod theme;
pub mod timeline;
pub mod top;
pub mod ui;
pub mod verdict;
pub mod watch;
pub mod waveform;
pub mod window;

use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nice_plug::{
    context::gui::GuiContext,
    editor::{
        Editor, HostMethods, ParentWindowHandle, ResizeHint, SizeConstraints, SpawnedEditor,
        dpi::{LogicalSize, NativeSize, Size},
    },
    params::persist::PersistentField,
    prelude::TrackInfo,
};
use nice_plug_egui::{
    EguiEditor, EguiEditorState, EguiNiceSettings, Frame, NiceEguiApp, RepaintNotifier, baseview,
    create_egui_editor,
};
use parking_lot::Mutex;

use crate::{
    editor::{
        files::{Answer, Dialog, Errand, Prompt, Want},
        model::{Command, Gesture, Model},
        presets::Preset,
        state::State,
        watch::Watch,
        window::{Handle, Running, Window},
    },
    exchange::meters::Meters,
    params::{DEFAULT_EDITOR_SIZE, UncookParams},
    worker::{
        session::{Edits, Listening, Regenerate, Session},
        shelf::{Order, ShelfView},
        view::{Problem, View},
    },
};

/// Smallest size at which everything can be used, in logical pixels.
pub const MIN_SIZE: [f32; 2] = [760.0, 580.0];
/// Largest size a project file may ask for.
const MAX_SIZE: [f32; 2] = [4096.0, 3072.0];
/// How often the window looks whether a picture was asked for: as often as a screen shows one.
const POLL: Duration = Duration::from_micros(16_600);
/// Time between two pictures where no thread can be had that says when something changed.
const UNWATCHED: Duration = Duration::from_millis(100);

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
    /// The user accepts the terms of the models that the chosen regenerators need.
    fn accept_terms(&self);
    /// Where the user's presets are; `None` where there is no such place.
    fn presets_folder(&self) -> Option<PathBuf>;
    /// Where MIDI files go; `None` where there is no such place.
    fn midi_folder(&self) -> Option<PathBuf>;
    /// The models; `None` in a build without them.
    fn shelf(&self) -> Option<Arc<ShelfView>>;
    /// Asks something of the models' library.
    fn order(&self, order: Order);
    /// Copies the project's repair files into a folder; returns how many are there. Takes its time.
    ///
    /// # Errors
    /// With those that can't be copied, one a line.
    fn collect(&self, folder: &Path) -> Result<usize, String>;
    /// Looks for missing repair files in a folder and those in it; returns how many play again. Takes its time.
    ///
    /// # Errors
    /// With those that were found nowhere, one a line.
    fn relink(&self, folder: &Path) -> Result<usize, String>;
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

    fn make(&self) -> Option<(EguiEditor<App>, Arc<EguiEditorState>, Running)> {
        let state = EguiEditorState::from_size(self.remembered_size(), 1.0);
        let settings = EguiNiceSettings::new()
            .with_tile("Uncook")
            .with_resize_hint(self.resize_hint())
            .with_repaint_poll_interval(POLL);
        let running = Running::default();
        let app = App {
            params: self.params.clone(),
            backend: self.backend.clone(),
            context: None,
            repaint: self.repaint.clone(),
            running: running.clone(),
            watch: None,
            state: self.state.clone(),
            presets: Vec::new(),
            problems: Vec::new(),
            dialog: Dialog::default(),
            errand: Errand::default(),
            cleared: Vec::new(),
        };
        let editor = create_egui_editor(state.clone(), self.repaint.clone(), settings, app)?;
        Some((editor, state, running))
    }
}

impl Editor for UncookEditor {
    type Handle = Handle;

    fn spawn(
        &self,
        parent: Option<ParentWindowHandle>,
        wait_for_parent: bool,
        fallback_scale_factor: Option<f64>,
        context: GuiContext,
        host: Option<HostMethods>,
    ) -> Result<SpawnedEditor<Self::Handle>, Box<dyn Error>> {
        let (editor, state, running) = self.make().ok_or("no editor could be made")?;
        let spawned = editor.spawn(
            parent,
            wait_for_parent,
            fallback_scale_factor,
            context,
            host,
        )?;
        *self.open.lock() = Some(state);
        Ok(SpawnedEditor {
            handle: Handle(spawned.handle),
            window: Window::new(spawned.window, running),
        })
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
    repaint: RepaintNotifier,
    /// Whether the thread of this window runs. Elsewhere windows live on the host's thread.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code))]
    running: Running,
    /// Looks at what is shown, from the first picture on.
    watch: Option<Watch>,
    state: Arc<Mutex<State>>,
    /// The user's presets as last read.
    presets: Vec<Preset>,
    /// What went wrong with files, to be shown until the next attempt.
    problems: Vec<String>,
    dialog: Dialog,
    /// The work on files that goes on.
    errand: Errand,
    /// What was forgotten with [`Command::Clear`], newest last.
    cleared: Vec<Session>,
}

impl App {
    fn read_presets(&mut self) {
        if let Some(folder) = self.backend.presets_folder() {
            let (presets, errors) = presets::list(&folder);
            self.presets = presets;
            self.problems.extend(errors.iter().map(ToString::to_string));
        }
    }

    fn change_presets(&mut self, change: impl FnOnce(&Path) -> Result<(), presets::PresetError>) {
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

    /// Where dialogs begin.
    fn folder(&self, want: &Want) -> Option<PathBuf> {
        match want {
            Want::SaveMidi { .. } => self.backend.midi_folder(),
            Want::ModelFolder
            | Want::ImportPreset
            | Want::ExportPreset(_)
            | Want::CollectFolder
            | Want::RelinkFolder => None,
        }
    }

    fn choose(&mut self, want: Want) {
        self.problems.clear();
        let folder = self.folder(&want);
        let repaint = self.repaint.clone();
        if !self
            .dialog
            .open(want, folder, move || repaint.request_repaint())
        {
            let words = "A file dialog is open already: it may lie behind this window";
            self.problems.push(words.to_owned());
        }
    }

    /// What the file dialog says, if it was answered.
    fn answered(&mut self) {
        match self.dialog.answer() {
            Some((want, Answer::Path(path))) => self.use_path(want, path, true),
            Some((want, Answer::Missing)) => {
                let prompt = Prompt::new(want.clone(), self.folder(&want).as_deref());
                self.state.lock().prompt = Some(prompt);
            }
            Some((_, Answer::Cancelled)) | None => {}
        }
    }

    /// Copies the project's repair files to `folder`, or those that are missing from there, on a thread of its own.
    fn carry(&mut self, folder: PathBuf, collect: bool) -> Result<(), String> {
        let backend = self.backend.clone();
        let repaint = self.repaint.clone();
        let work = move || {
            let files = |count: usize| match count {
                1 => "1 repair file".to_owned(),
                count => format!("{count} repair files"),
            };
            let place = folder.display();
            if collect {
                let count = backend.collect(&folder).map_err(|faults| {
                    format!("Not every repair file is in {place} now: {faults}")
                })?;
                Ok(format!("{} in {place}", files(count)))
            } else {
                let count = backend.relink(&folder).map_err(|_| {
                    format!(
                        "Not every missing repair file is in {place} or a folder in it: choose the folder that has \
                         them, or play the song once and analyse again"
                    )
                })?;
                Ok(format!("{} found again in {place}", files(count)))
            }
        };
        let started = self.errand.start(work, move || repaint.request_repaint());
        if started {
            self.state.lock().told = Some("Copying…".to_owned());
            Ok(())
        } else {
            Err("Files are being copied already: wait until that is done".to_owned())
        }
    }

    /// What came of the work on files.
    fn carried(&mut self) {
        match self.errand.outcome() {
            Some(Ok(words)) => self.state.lock().told = Some(words),
            Some(Err(words)) => {
                self.state.lock().told = None;
                self.problems.push(words);
            }
            None => {}
        }
    }

    /// Does with a path what it was wanted for. `replace`: see [`files::write`].
    fn use_path(&mut self, want: Want, path: PathBuf, replace: bool) {
        self.problems.clear();
        let done = match want {
            Want::ModelFolder => {
                self.backend.order(Order::Add(path));
                Ok(())
            }
            Want::SaveMidi { bytes, .. } => {
                let path = files::with_extension(path, "mid");
                let written = files::write(&path, &bytes, replace);
                written.map(|()| self.state.lock().music.saved = Some(path))
            }
            Want::ImportPreset => match presets::read(&path) {
                Ok(preset) => {
                    self.change_presets(|folder| presets::save(folder, &preset));
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            },
            Want::ExportPreset(preset) => {
                let path = files::with_extension(path, presets::EXTENSION);
                presets::text(&preset)
                    .map_err(|error| error.to_string())
                    .and_then(|text| files::write(&path, text.as_bytes(), replace))
            }
            Want::CollectFolder => self.carry(path, true),
            Want::RelinkFolder => self.carry(path, false),
        };
        self.problems.extend(done.err());
    }

    /// Writes a MIDI file under a name that is free, and says where.
    fn save_midi(&mut self, name: &str, bytes: &[u8]) {
        self.problems.clear();
        let saved = match self.backend.midi_folder() {
            Some(folder) => write_free(&folder, name, "mid", bytes),
            None => Err(
                "There is no folder for MIDI files on this computer: set UNCOOK_DATA_DIR to one"
                    .to_owned(),
            ),
        };
        match saved {
            Ok(path) => self.state.lock().music.saved = Some(path),
            Err(problem) => self.problems.push(problem),
        }
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
            Command::Clear => {
                self.cleared.push(self.params.session.get());
                self.backend.clear();
            }
            Command::Unclear => {
                if let Some(session) = self.cleared.pop() {
                    PersistentField::set(&self.params.session, session);
                }
            }
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
            Command::SaveMidi { name, bytes } => self.save_midi(&name, &bytes),
            Command::Choose(want) => self.choose(want),
            Command::UsePath(want, path) => self.use_path(want, path, false),
            Command::Models(order) => self.backend.order(order),
            // Only the window has a clipboard.
            Command::Copy(_) => {}
        }
    }
}

/// Writes `bytes` to a new file in `folder`: `name`, or `name 2`, `name 3`, … where that is taken.
fn write_free(folder: &Path, name: &str, ending: &str, bytes: &[u8]) -> Result<PathBuf, String> {
    const MOST: usize = 10_000;
    std::fs::create_dir_all(folder).map_err(|error| {
        let folder = folder.display();
        format!("{folder} can't be written: {error}. Free some space, or allow writing there")
    })?;
    let free = (1..MOST)
        .map(|n| match n {
            1 => folder.join(format!("{name}.{ending}")),
            n => folder.join(format!("{name} {n}.{ending}")),
        })
        .find(|path| !path.exists())
        .ok_or_else(|| format!("{} is full of files called {name}", folder.display()))?;
    files::write(&free, bytes, false)?;
    Ok(free)
}

impl NiceEguiApp for App {
    fn build(
        &mut self,
        egui_ctx: egui::Context,
        context: GuiContext,
        frame: &mut Frame,
    ) -> Result<(), baseview::HandlerError> {
        // Elsewhere windows live on the host's own thread.
        #[cfg(target_os = "linux")]
        self.running.mark_this_thread();
        #[cfg(any(target_os = "linux", target_os = "macos", windows))]
        access::Reader::add_to(&egui_ctx, frame.baseview_window(), self.repaint.clone());
        theme::begin(&egui_ctx, self.params.light.load());
        self.context = Some(context);
        self.state.lock().new_window();
        self.read_presets();
        let repaint = self.repaint.clone();
        let redraw = move || repaint.request_repaint();
        self.watch = Some(Watch::start(
            self.backend.clone(),
            self.params.clone(),
            redraw,
        ));
        Ok(())
    }

    fn ui(&mut self, ui: &mut egui::Ui, frame: &mut Frame) {
        frame.set_key_capture(window::kept_keys(ui.ctx().text_edit_focused()));
        self.answered();
        self.carried();
        let levels = self.watch.as_ref().map(Watch::levels).unwrap_or_default();
        let mut view = self.backend.view().unwrap_or_default();
        if !self.problems.is_empty() {
            Arc::make_mut(&mut view)
                .problems
                .extend(self.problems.iter().cloned().map(Problem::from));
        }
        let state = self.state.clone();
        let mut state = state.lock();
        let light = self.params.light.load();
        if state.light != light {
            state.light = light;
            theme::apply(ui.ctx(), light);
        }
        let shelf = self.backend.shelf();
        let preset = self.params.preset.read().clone();
        if state.preset != preset {
            state.preset = preset;
        }
        let model = Model {
            params: &self.params,
            view: &view,
            levels: &levels,
            sample_rate: self.backend.sample_rate(),
            presets: &self.presets,
            shelf: shelf.as_deref(),
        };
        let commands = ui::draw(ui, &model, &mut state);
        drop(state);
        let asked = !commands.is_empty();
        for command in commands {
            match command {
                Command::Copy(text) => ui.ctx().copy_text(text),
                command => self.carry_out(command),
            }
        }
        // What hands asked for shows in the next picture. Else nothing is drawn until the watch, the host or
        // a hand says so.
        if asked {
            ui.ctx().request_repaint();
        }
        if !self.watch.as_ref().is_some_and(Watch::is_alive) {
            ui.ctx().request_repaint_after(UNWATCHED);
        }
    }

    fn resized(&mut self, size: baseview::WindowSize) {
        self.params
            .editor_size
            .store([size.logical.width as f32, size.logical.height as f32]);
    }

    fn editor_closed(&mut self) {
        self.context = None;
        self.watch = None;
    }
}

#[cfg(test)]
mod tests;
