// The library: terms, installing from the network and from a folder, checking, converting, removing.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use uncook::models::{
    checkpoint::{Checkpoint, Limits},
    convert::{Copy, Draft, Form},
    fetch::{Checked, Downloader, Token},
    library::{Library, LibraryError},
    manifest::{Manifest, ManifestError},
};

use super::{
    checked_file,
    server::{Answer, Server},
    tiny,
};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/formats")
        .join(name)
}

fn edge() -> Vec<u8> {
    fs::read(golden("edge.bin")).unwrap()
}

/// A list of one gated model of two files, one with a known hash.
fn manifest(url: &str) -> Manifest {
    let checked = checked_file("edge.bin", &format!("{url}/edge.bin"), &edge());
    let text = tiny(true)
        + &checked
        + &format!(
            r#"
        [[model.file]]
        file = "free.bin"
        url = "{url}/free.bin"
        [[model]]
        name = "twin"
        purpose = "text"
        what = "Nothing"
        licence = "Free"
        page = "http://example.org/twin"
        ask = false
        gated = false
        needs = ["tiny"]
        [[model.file]]
        file = "free.bin"
        url = "{url}/free.bin"
        "#
        );
    Manifest::parse(&text).unwrap()
}

fn quiet(_: &str, _: u64, _: Option<u64>) -> bool {
    true
}

fn downloader() -> Downloader {
    let mut downloader = Downloader::new(Duration::from_secs(5), false);
    downloader.pause = Duration::from_millis(1);
    downloader
}

fn server() -> Server {
    Server::start(edge(), |_, seen| match seen.authorization.as_deref() {
        Some("Bearer key") => Answer::File,
        _ => Answer::Status(401, String::new()),
    })
}

#[test]
fn the_embedded_list_is_sound() {
    let manifest = Manifest::embedded().unwrap();
    for name in [
        "htdemucs",
        "htdemucs_ft",
        "htdemucs_6s",
        "hdemucs_mmi",
        "jasco-chords-drums-400M",
        "jasco-chords-drums-1B",
        "jasco-chords-drums-melody-400M",
        "jasco-chords-drums-melody-1B",
        "t5-base",
        "encodec-32khz",
        "multiband-diffusion",
    ] {
        let model = manifest
            .get(name)
            .unwrap_or_else(|| panic!("{name} is missing"));
        assert!(!model.licence.is_empty() && model.page.starts_with("https://"));
        for file in &model.files {
            assert!(
                file.url.starts_with("https://") && file.url.ends_with(&file.file),
                "{file:?}"
            );
        }
    }
    assert_eq!(manifest.get("htdemucs_ft").unwrap().files.len(), 4);
    // Demucs' file names carry the first eight digits of their hash.
    for model in &manifest.models {
        for file in model
            .files
            .iter()
            .filter(|file| file.file.len() == 20 && file.file.ends_with(".th"))
        {
            let prefix = &file.file[9..17];
            assert!(file.known_hash().starts_with(prefix), "{file:?}");
        }
    }
}

#[test]
fn lists_that_reach_outside_are_refused() {
    let good = r#"
        [[model]]
        name = "a"
        purpose = "text"
        what = "w"
        licence = "l"
        page = "p"
        ask = false
        gated = false
        needs = []
        [[model.file]]
        file = "f"
        url = "u"
        sha256_prefix = "01234567"
    "#;
    assert!(Manifest::parse(good).is_ok());
    for (from, to) in [
        (r#"file = "f""#, r#"file = "../f""#),
        (r#"file = "f""#, r#"file = "a/f""#),
        (r#"file = "f""#, r#"file = ".f""#),
        (r#"name = "a""#, r#"name = "..""#),
        ("01234567", "0123"),
        ("01234567", "0123456X"),
        ("needs = []", r#"needs = ["b"]"#),
    ] {
        let bad = good.replace(from, to);
        let result = Manifest::parse(&bad);
        assert!(
            matches!(result, Err(ManifestError::Content { .. })),
            "{to}: {result:?}"
        );
    }
    let twice = format!("{good}{good}");
    assert!(Manifest::parse(&twice).is_err());
    assert!(matches!(
        Manifest::parse(&good.replace("ask = false", "")),
        Err(ManifestError::Form(_))
    ));
}

#[test]
fn terms_are_asked_for_once() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::at(folder.path().join("models"), manifest("http://127.0.0.1:1"));
    let fetched = library.fetch("tiny", None, None, &downloader(), &quiet);
    let Err(error @ LibraryError::NotAccepted { .. }) = fetched else {
        panic!("{fetched:?}");
    };
    let text = error.to_string();
    assert!(
        text.contains("As they please") && text.contains("example.org/tiny"),
        "{text}"
    );
    assert!(!library.folder().exists(), "nothing is created before");
    assert!(library.is_accepted("twin") && !library.is_accepted("tiny"));
    library.accept("tiny").unwrap();
    let again = Library::at(folder.path().join("models"), manifest("http://127.0.0.1:1"));
    assert!(again.is_accepted("tiny"));
    // Other words have to be accepted anew.
    let mut other = manifest("http://127.0.0.1:1");
    other.models[0].licence = "Not as you please".into();
    assert!(!Library::at(folder.path().join("models"), other).is_accepted("tiny"));
}

#[test]
fn a_gated_model_is_fetched_checked_converted_and_removed() {
    let server = server();
    let folder = tempfile::tempdir().unwrap();
    let library = Library::at(folder.path().join("models"), manifest(&server.url("")));
    library.accept("tiny").unwrap();
    let refused = library
        .fetch("tiny", None, None, &downloader(), &quiet)
        .unwrap_err();
    assert!(refused.to_string().contains("401"), "{refused}");
    assert!(library.find("tiny").is_none());

    let token = Token::new("key").unwrap();
    let receipt = library
        .fetch("tiny", None, Some(&token), &downloader(), &quiet)
        .unwrap();
    let checked: Vec<Checked> = receipt.files.iter().map(|f| f.checked).collect();
    assert_eq!(checked, [Checked::Full, Checked::FirstSeen]);
    let paths = library.find("tiny").unwrap();
    assert_eq!(fs::read(&paths[0]).unwrap(), edge());
    let installed: Vec<&str> = library
        .installed()
        .iter()
        .map(|m| m.name.as_str())
        .collect();
    assert_eq!(installed, ["tiny"]);
    library.verify("tiny", &quiet).unwrap();
    // All is there: nothing is fetched again.
    let before = server.seen().len();
    library
        .fetch("tiny", None, None, &downloader(), &quiet)
        .unwrap();
    assert_eq!(server.seen().len(), before);

    // Somebody makes something of a file and keeps it.
    let form = Form {
        name: "test-1",
        lanes: 16,
    };
    let copies = library.copies_folder("tiny").unwrap();
    assert!(copies.starts_with(library.folder().join("tiny")));
    let source = Checkpoint::open(&paths[0], &Limits::default()).unwrap();
    let draft = Draft::new(&source).unwrap();
    draft.array("numbers", std::sync::Arc::new(vec![0.5; 4000]));
    draft.write(&copies, &form).unwrap();
    let copy = Copy::find(&paths[0], &copies, &form).unwrap();
    let kept = fs::metadata(copy.path()).unwrap().len() as usize;
    drop(copy);
    // A changed file of the same length is found by reading it.
    let mut bytes = edge();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&paths[1], &bytes).unwrap();
    assert!(library.find("tiny").is_some());
    let wrong = library.verify("tiny", &quiet).unwrap_err();
    assert!(matches!(wrong, LibraryError::WrongFile { .. }), "{wrong}");
    // One that is cut short is found at once.
    fs::write(&paths[1], &bytes[..100]).unwrap();
    assert!(library.find("tiny").is_none());
    assert!(library.installed().is_empty());

    let freed = library.remove("tiny").unwrap();
    assert!(
        kept > 16_000 && freed as usize >= edge().len() + kept,
        "{freed}"
    );
    assert!(library.receipt("tiny").is_none());
    assert!(!library.folder().join("tiny").exists());
    let gone = library.remove("tiny").unwrap_err();
    assert!(matches!(gone, LibraryError::NotInstalled { .. }));
    assert!(matches!(
        library.remove("no"),
        Err(LibraryError::Unknown { .. })
    ));
}

#[test]
fn another_disk_can_be_chosen() {
    let server = server();
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    let library = Library::at(folder.path().join("models"), manifest(&server.url("")));
    library.accept("tiny").unwrap();
    let token = Token::new("key").unwrap();
    library
        .fetch("tiny", Some(&disk), Some(&token), &downloader(), &quiet)
        .unwrap();
    let paths = library.find("tiny").unwrap();
    assert!(
        paths.iter().all(|path| path.starts_with(&disk)),
        "{paths:?}"
    );
    fs::write(disk.join("tiny/mine.txt"), "not Uncook's").unwrap();
    library.remove("tiny").unwrap();
    assert!(disk.join("tiny/mine.txt").exists() && !paths[0].exists());
}

#[test]
fn a_folder_is_added_without_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::at(folder.path().join("models"), manifest("http://127.0.0.1:1"));
    library.accept("tiny").unwrap();
    let from = folder.path().join("download");
    fs::create_dir(&from).unwrap();
    let nothing = library.add(&from, None, &quiet).unwrap_err();
    assert!(
        matches!(nothing, LibraryError::NothingToAdd { .. }),
        "{nothing}"
    );

    fs::write(from.join("edge.bin"), edge()).unwrap();
    fs::write(from.join("free.bin"), b"anything").unwrap();
    let several = library.add(&from, None, &quiet).unwrap_err();
    assert!(several.to_string().contains("tiny or twin"), "{several}");
    library.add(&from, Some("tiny"), &quiet).unwrap();
    library.verify("tiny", &quiet).unwrap();
    assert!(from.join("edge.bin").exists(), "it was copied");

    // The folder's name decides where the files don't.
    let named = folder.path().join("twin");
    fs::rename(&from, &named).unwrap();
    assert_eq!(library.add(&named, None, &quiet).unwrap().name, "twin");

    let mut bytes = edge();
    bytes[2000] ^= 1;
    fs::write(named.join("edge.bin"), bytes).unwrap();
    library.remove("tiny").unwrap();
    let wrong = library.add(&named, Some("tiny"), &quiet).unwrap_err();
    assert!(matches!(wrong, LibraryError::WrongFile { .. }), "{wrong}");
    assert!(library.find("tiny").is_none());
    let left: Vec<_> = fs::read_dir(library.folder().join("tiny"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_was_made_of_another_file_goes_when_a_model_is_installed_anew() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::at(folder.path().join("models"), manifest("http://127.0.0.1:1"));
    library.accept("tiny").unwrap();
    let from = folder.path().join("tiny");
    fs::create_dir(&from).unwrap();
    fs::write(from.join("edge.bin"), edge()).unwrap();
    fs::copy(golden("fp16.bin"), from.join("free.bin")).unwrap();
    library.add(&from, Some("tiny"), &quiet).unwrap();
    let form = Form {
        name: "test-1",
        lanes: 16,
    };
    let copies = library.copies_folder("tiny").unwrap();
    let paths = library.find("tiny").unwrap();
    for path in &paths {
        let source = Checkpoint::open(path, &Limits::default()).unwrap();
        Draft::new(&source).unwrap().write(&copies, &form).unwrap();
    }
    let count = || fs::read_dir(&copies).unwrap().count();
    assert_eq!(count(), 4, "a copy and a note of each");
    fs::copy(
        golden("ordereddict_with_metadata.bin"),
        from.join("free.bin"),
    )
    .unwrap();
    library.add(&from, Some("tiny"), &quiet).unwrap();
    assert_eq!(count(), 2, "those of the file that stayed");
    library.remove("tiny").unwrap();
    assert!(!library.folder().join("tiny").exists());
}

#[test]
fn where_nothing_can_be_written_the_reason_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"not a folder").unwrap();
    let library = Library::at(file.join("models"), manifest("http://127.0.0.1:1"));
    assert!(matches!(
        library.accept("tiny"),
        Err(LibraryError::Io { .. })
    ));
    assert!(library.installed().is_empty());
    assert!(!Path::new(&file).join("models").exists());
}
