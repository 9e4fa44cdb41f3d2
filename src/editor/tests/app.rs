// [main] What the window does with commands: files, and what was forgotten.

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use nice_plug::params::persist::PersistentField;
use nice_plug_egui::RepaintNotifier;

use super::still::Still;
use crate::{
    editor::{
        App,
        files::{Dialog, Errand, Want},
        model::Command,
        presets::Preset,
        window::Running,
    },
    params::UncookParams,
    worker::{
        session::{CommitRef, Session},
        shelf::Order,
    },
};

fn app(still: &Arc<Still>) -> App {
    App {
        params: Arc::new(UncookParams::default()),
        backend: still.clone(),
        context: None,
        repaint: RepaintNotifier::new(),
        running: Running::default(),
        watch: None,
        state: Arc::default(),
        presets: Vec::new(),
        problems: Vec::new(),
        dialog: Dialog::default(),
        errand: Errand::default(),
        cleared: Vec::new(),
    }
}

#[test]
fn typed_and_chosen_paths_lead_to_files() {
    let folder = tempfile::tempdir().unwrap();
    let still = Arc::new(Still {
        folder: Some(folder.path().to_owned()),
        ..Still::default()
    });
    let mut app = app(&still);
    let midi = Want::SaveMidi {
        name: "song".to_owned(),
        bytes: b"MThd".to_vec(),
    };
    let path = folder.path().join("typed");
    app.carry_out(Command::UsePath(midi.clone(), path.clone()));
    let file = path.with_extension("mid");
    assert_eq!(fs::read(&file).unwrap(), b"MThd");
    assert_eq!(app.state.lock().music.saved.as_ref(), Some(&file));
    // Typed over what is there: refused. The system's dialog has asked before.
    app.carry_out(Command::UsePath(midi.clone(), file.clone()));
    assert!(
        app.problems[0].contains("is there already"),
        "{:?}",
        app.problems
    );
    app.use_path(midi, file, true);
    assert!(app.problems.is_empty(), "{:?}", app.problems);

    let preset = Preset {
        name: "Cellar".to_owned(),
        style: "dry".to_owned(),
        ..Preset::default()
    };
    let path = folder.path().join("elsewhere.uncookpreset");
    app.carry_out(Command::UsePath(
        Want::ExportPreset(preset.clone()),
        path.clone(),
    ));
    assert!(app.presets.is_empty());
    app.carry_out(Command::UsePath(Want::ImportPreset, path.clone()));
    assert_eq!(app.presets, [preset]);
    fs::write(&path, "{").unwrap();
    app.carry_out(Command::UsePath(Want::ImportPreset, path));
    assert!(
        app.problems[0].contains("is no preset"),
        "{:?}",
        app.problems
    );

    app.carry_out(Command::UsePath(
        Want::ModelFolder,
        folder.path().to_owned(),
    ));
    assert_eq!(*still.orders.lock(), [Order::Add(folder.path().to_owned())]);
}

/// What came of the work on files: the note, and the problems.
fn carried(app: &mut App) -> (Option<String>, Vec<String>) {
    let began = Instant::now();
    while app.errand.is_running() {
        app.carried();
        assert!(began.elapsed() < Duration::from_secs(60), "no outcome");
        std::thread::sleep(Duration::from_millis(2));
    }
    (app.state.lock().told.clone(), app.problems.clone())
}

#[test]
fn repair_files_are_collected_and_relinked_by_another_thread() {
    let still = Arc::new(Still::default());
    let mut app = app(&still);
    let folder = PathBuf::from("some/where");
    app.carry_out(Command::UsePath(Want::CollectFolder, folder.clone()));
    assert_eq!(app.state.lock().told.as_deref(), Some("Copying…"));
    // One at a time.
    app.carry_out(Command::UsePath(Want::RelinkFolder, folder.clone()));
    assert!(app.problems[0].contains("already"), "{:?}", app.problems);
    app.problems.clear();
    let (told, problems) = carried(&mut app);
    assert!(told.is_some_and(|t| t.starts_with("2 repair files in ")));
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(*still.collected.lock(), std::slice::from_ref(&folder));

    // What is not found is said with what to do.
    app.carry_out(Command::UsePath(Want::RelinkFolder, folder.clone()));
    let (told, problems) = carried(&mut app);
    assert_eq!(told, None);
    assert!(
        problems[0].contains("choose the folder that has them"),
        "{problems:?}"
    );
    assert_eq!(*still.relinked.lock(), [folder]);
}

#[test]
fn what_was_cleared_comes_back() {
    let still = Arc::new(Still::default());
    let mut app = app(&still);
    let commit = |hash: &str| CommitRef {
        hash: hash.to_owned(),
        file: format!("{hash}.uncookpatch"),
        start: 0,
        frames: 48_000,
        sample_rate: 48_000,
    };
    let session = |hash: &str| Session {
        commits: vec![commit(hash)],
        ..Session::default()
    };
    for hash in ["aa", "bb"] {
        PersistentField::set(&app.params.session, session(hash));
        app.carry_out(Command::Clear);
        // As the worker does it.
        PersistentField::set(&app.params.session, Session::default());
    }
    assert_eq!(*still.cleared.lock(), 2);
    for hash in ["bb", "aa"] {
        app.carry_out(Command::Unclear);
        assert_eq!(app.params.session.get(), session(hash));
    }
    // Nothing more was forgotten.
    app.carry_out(Command::Unclear);
    assert_eq!(app.params.session.get(), session("aa"));
}
