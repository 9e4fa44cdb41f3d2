// [main] The system's file dialog, on a thread of its own; and a path that is typed where there is none.
//
// The dialog blocks whoever asks for it until the user has answered, which may be never: neither the window's thread
// nor the host waits for it. It can't be taken back either, so a dialog that is open when the window goes stays, and
// its answer is thrown away. Its code must still be there then, see `stay_loaded`.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, TryRecvError, channel},
    thread,
    time::{Duration, Instant},
};

use egui::{RichText, TextEdit, Ui, vec2};

use crate::{
    editor::{
        model::Command,
        presets::{self, Preset},
        state::State,
        theme,
    },
    system::{stay_loaded, write_aside},
};

/// Nobody cancels a dialog that fast: there was none. (The crate tells neither from the other.)
const SOONEST: Duration = Duration::from_millis(300);

/// What a file or folder is wanted for.
#[derive(Clone, Debug, PartialEq)]
pub enum Want {
    /// A folder with a model's files.
    ModelFolder,
    /// A place for a MIDI file; `name` has no extension.
    SaveMidi { name: String, bytes: Vec<u8> },
    /// A preset's file, to be kept among the user's.
    ImportPreset,
    /// A place for a preset's file.
    ExportPreset(Preset),
    /// A folder that gets copies of the project's repair files.
    CollectFolder,
    /// A folder with repair files that are missing.
    RelinkFolder,
}

/// What came of a dialog.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Path(PathBuf),
    Cancelled,
    /// The system has no dialog.
    Missing,
}

impl Want {
    /// What is asked for, as a title.
    pub fn title(&self) -> &'static str {
        match self {
            Self::ModelFolder => "Folder with a model's files",
            Self::SaveMidi { .. } => "Save the MIDI file as",
            Self::ImportPreset => "Preset to import",
            Self::ExportPreset(_) => "Save the preset's file as",
            Self::CollectFolder => "Folder for copies of the repair files",
            Self::RelinkFolder => "Folder with the missing repair files",
        }
    }

    /// Name of the file that is written; `None` where something is read.
    fn file_name(&self) -> Option<String> {
        match self {
            Self::SaveMidi { name, .. } => Some(format!("{name}.mid")),
            Self::ExportPreset(preset) => Some(format!("{}.{}", preset.name, presets::EXTENSION)),
            Self::ModelFolder | Self::ImportPreset | Self::CollectFolder | Self::RelinkFolder => {
                None
            }
        }
    }

    /// Asks the system. Blocks until the user has answered.
    fn ask(&self, folder: Option<&Path>) -> Option<PathBuf> {
        let mut dialog = rfd::FileDialog::new().set_title(self.title());
        if let Some(folder) = folder.filter(|folder| folder.is_dir()) {
            dialog = dialog.set_directory(folder);
        }
        if let Some(name) = self.file_name() {
            dialog = dialog.set_file_name(name);
        }
        let presets =
            |dialog: rfd::FileDialog| dialog.add_filter("Uncook presets", &[presets::EXTENSION]);
        match self {
            Self::ModelFolder | Self::CollectFolder | Self::RelinkFolder => dialog.pick_folder(),
            Self::SaveMidi { .. } => dialog.add_filter("MIDI", &["mid"]).save_file(),
            Self::ImportPreset => presets(dialog).pick_file(),
            Self::ExportPreset(_) => presets(dialog).save_file(),
        }
    }
}

/// At most one open dialog.
#[derive(Default)]
pub struct Dialog(Option<(Want, Receiver<Answer>)>);

impl Dialog {
    /// Opens one in `folder`, unless one is open; `redraw` is called when it is answered. Returns whether it was
    /// opened.
    pub fn open(
        &mut self,
        want: Want,
        folder: Option<PathBuf>,
        redraw: impl Fn() + Send + 'static,
    ) -> bool {
        stay_loaded();
        let of_thread = want.clone();
        self.open_with(want, move || of_thread.ask(folder.as_deref()), redraw)
    }

    fn open_with(
        &mut self,
        want: Want,
        ask: impl FnOnce() -> Option<PathBuf> + Send + 'static,
        redraw: impl Fn() + Send + 'static,
    ) -> bool {
        if self.0.is_some() {
            return false;
        }
        let (sender, receiver) = channel();
        // Where no thread can be had, the sender goes with the closure: no answer will come, which `answer` sees.
        let _ = thread::Builder::new()
            .name("uncook-dialog".to_owned())
            .spawn(move || {
                let began = Instant::now();
                let answer = match ask() {
                    Some(path) => Answer::Path(path),
                    None if began.elapsed() < SOONEST => Answer::Missing,
                    None => Answer::Cancelled,
                };
                // The window may be gone.
                let _ = sender.send(answer);
                redraw();
            });
        self.0 = Some((want, receiver));
        true
    }

    /// What was answered since the last call.
    pub fn answer(&mut self) -> Option<(Want, Answer)> {
        let (_, receiver) = self.0.as_ref()?;
        let answer = match receiver.try_recv() {
            Ok(answer) => answer,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Answer::Missing,
        };
        self.0.take().map(|(want, _)| (want, answer))
    }
}

/// Work on files that takes its time, on a thread of its own: nobody waits for it, like for a dialog. One at a time.
#[derive(Default)]
pub struct Errand(Option<Receiver<Result<String, String>>>);

impl Errand {
    /// Begins `work`, unless other work goes on; `redraw` is called when it is done. Returns whether it was begun.
    pub fn start(
        &mut self,
        work: impl FnOnce() -> Result<String, String> + Send + 'static,
        redraw: impl Fn() + Send + 'static,
    ) -> bool {
        if self.0.is_some() {
            return false;
        }
        stay_loaded();
        let (sender, receiver) = channel();
        // Without a thread the sender goes with the closure, which `outcome` sees.
        let _ = thread::Builder::new()
            .name("uncook-files".to_owned())
            .spawn(move || {
                // The window may be gone.
                let _ = sender.send(work());
                redraw();
            });
        self.0 = Some(receiver);
        true
    }

    /// Whether work goes on.
    pub fn is_running(&self) -> bool {
        self.0.is_some()
    }

    /// What came of the work, in words, once.
    pub fn outcome(&mut self) -> Option<Result<String, String>> {
        let outcome = match self.0.as_ref()?.try_recv() {
            Ok(outcome) => outcome,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => {
                Err("That could not be done: the system gave no thread. Try again".to_owned())
            }
        };
        self.0 = None;
        Some(outcome)
    }
}

/// A path that is typed.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    want: Want,
    text: String,
}

impl Prompt {
    /// Asks for what is wanted; something is proposed in `folder` where it is written.
    pub fn new(want: Want, folder: Option<&Path>) -> Self {
        let proposed = want.file_name().map(|name| match folder {
            Some(folder) => folder.join(name),
            None => PathBuf::from(name),
        });
        let text = proposed.map_or_else(String::new, |path| path.display().to_string());
        Self { want, text }
    }
}

/// The row in which a path is typed, while one is asked for.
pub fn draw(ui: &mut Ui, state: &mut State, out: &mut Vec<Command>) {
    let Some(mut prompt) = state.prompt.take() else {
        return;
    };
    let p = theme::of(ui);
    ui.horizontal(|ui| {
        ui.label(RichText::new(prompt.want.title()).color(p.warning))
            .on_hover_text("This system offers no file dialog (no desktop portal, no zenity)");
        let width = (ui.available_width() - 150.0).max(80.0);
        let field = ui
            .add(
                TextEdit::singleline(&mut prompt.text)
                    .hint_text("type or paste the whole path")
                    .desired_width(width),
            )
            .accessible_name("Path")
            .on_hover_text("The whole path, from the root of the disk on");
        let typed = prompt.text.trim();
        let ok = ui
            .add_enabled(
                !typed.is_empty(),
                egui::Button::new("Use path").min_size(vec2(70.0, 22.0)),
            )
            .on_hover_text("Takes this path")
            .on_disabled_hover_text("Type a path first");
        let enter = field.lost_focus() && ui.input(|i| i.key_pressed(egui::Key::Enter));
        let no = ui.button("No path").on_hover_text("Leaves it");
        if ok.clicked() || (enter && !typed.is_empty()) {
            let path = PathBuf::from(typed);
            out.push(Command::UsePath(prompt.want, path));
        } else if !no.clicked() {
            state.prompt = Some(prompt);
        }
    });
}

/// `path` with this extension, if it has none.
pub fn with_extension(path: PathBuf, extension: &str) -> PathBuf {
    if path.extension().is_some() {
        path
    } else {
        path.with_extension(extension)
    }
}

/// Writes `bytes` to `path`, whole or not at all. `replace`: whether a file that is there may go, as the system's
/// dialog has asked.
///
/// # Errors
/// In words, with the cure, if there is such a file already or it can't be written.
pub fn write(path: &Path, bytes: &[u8], replace: bool) -> Result<(), String> {
    if !replace && path.exists() {
        return Err(format!(
            "{} is there already: choose another name",
            path.display()
        ));
    }
    write_aside(path, &[bytes], false).map_err(|error| {
        format!(
            "{} can't be written: {error}. Choose a folder that exists and is yours, or free some space",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn wait(dialog: &mut Dialog) -> (Want, Answer) {
        let began = Instant::now();
        loop {
            if let Some(answer) = dialog.answer() {
                return answer;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "no answer");
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_dialog_is_answered_by_its_own_thread_and_nobody_waits() {
        let mut dialog = Dialog::default();
        let (answer, asked) = mpsc::channel::<Option<PathBuf>>();
        let (redraw, redrawn) = mpsc::channel();
        let ask = move || asked.recv().unwrap_or_default();
        let opened = dialog.open_with(Want::ModelFolder, ask, move || {
            redraw.send(()).unwrap_or_default()
        });
        assert!(opened && dialog.answer().is_none(), "open, not answered");
        assert!(
            !dialog.open_with(Want::ImportPreset, || None, || ()),
            "one at a time"
        );
        answer.send(Some(PathBuf::from("here"))).unwrap();
        redrawn.recv_timeout(Duration::from_secs(60)).unwrap();
        let path = Answer::Path(PathBuf::from("here"));
        assert_eq!(wait(&mut dialog), (Want::ModelFolder, path));
        assert_eq!(dialog.answer(), None);
    }

    #[test]
    fn no_dialog_is_told_from_one_that_was_cancelled() {
        let mut dialog = Dialog::default();
        dialog.open_with(Want::ImportPreset, || None, || ());
        assert_eq!(wait(&mut dialog).1, Answer::Missing);
        let slow = || {
            thread::sleep(SOONEST);
            None
        };
        dialog.open_with(Want::ImportPreset, slow, || ());
        assert_eq!(wait(&mut dialog).1, Answer::Cancelled);
        dialog.open_with(
            Want::ImportPreset,
            || panic!("the dialog's own defect"),
            || (),
        );
        assert_eq!(wait(&mut dialog).1, Answer::Missing);
        // A window may go while its dialog is open.
        let (hold, held) = mpsc::channel::<()>();
        let (ended, end) = mpsc::channel();
        dialog.open_with(
            Want::ImportPreset,
            move || held.recv().ok().map(|()| PathBuf::new()),
            move || ended.send(()).unwrap_or_default(),
        );
        drop(dialog);
        hold.send(()).unwrap();
        end.recv_timeout(Duration::from_secs(60)).unwrap();
    }

    #[test]
    fn files_are_written_whole_and_replaced_only_where_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = with_extension(folder.path().join("song"), "mid");
        assert_eq!(path, folder.path().join("song.mid"));
        write(&path, b"one", false).unwrap();
        let refused = write(&path, b"two", false).unwrap_err();
        assert!(refused.contains("song.mid is there already"), "{refused}");
        write(&path, b"two", true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        let failed = write(&folder.path().join("none/x.mid"), b"", false).unwrap_err();
        assert!(failed.contains("can't be written"), "{failed}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
