// The shelf: what the editor orders is done on a thread of its own, and its view says what became of it.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use uncook::{
    models::{fetch::Downloader, library::Library, manifest::Manifest},
    worker::shelf::{ModelState, Order, Secret, Shelf, ShelfView},
};

use super::{
    checked_file,
    server::{Answer, Server},
    tiny,
};

const LIMIT: Duration = Duration::from_secs(60);

/// A list of one model of one file, whose terms have to be accepted.
fn manifest(url: &str, file: &[u8], gated: bool) -> Manifest {
    let text = tiny(gated) + &checked_file("tiny.th", url, file);
    Manifest::parse(&text).unwrap()
}

fn file() -> Vec<u8> {
    (0..3_000_000u32).map(|i| (i * 7 + i / 255) as u8).collect()
}

fn shelf(folder: &std::path::Path, server: &Server, gated: bool) -> Shelf {
    let mut downloader = Downloader::new(Duration::from_secs(2), false);
    downloader.pause = Duration::from_millis(1);
    downloader.retries = 1_000;
    let manifest = manifest(&server.url("/tiny.th"), &file(), gated);
    Shelf::of(Library::at(folder.join("models"), manifest), downloader)
}

fn wait(shelf: &Shelf, ready: impl Fn(&ShelfView) -> bool) -> Arc<ShelfView> {
    let began = Instant::now();
    loop {
        let view = shelf.view();
        if ready(&view) {
            return view;
        }
        assert!(began.elapsed() < LIMIT, "nothing happened: {view:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn told(shelf: &Shelf, words: &str, good: bool) -> Arc<ShelfView> {
    let view = wait(shelf, |view| {
        view.work.is_none() && (view.told.as_ref()).is_some_and(|t| t.text.contains(words))
    });
    assert_eq!(view.told.as_ref().unwrap().good, good, "{view:?}");
    view
}

fn name() -> String {
    "tiny".to_owned()
}

fn fetch() -> Order {
    Order::Fetch {
        name: name(),
        token: None,
    }
}

#[test]
fn a_model_is_accepted_fetched_verified_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(file(), |_, _| Answer::File);
    let shelf = shelf(folder.path(), &server, false);
    let view = wait(&shelf, |view| !view.rows.is_empty());
    let row = &view.rows[0];
    assert_eq!((row.state, row.accepted), (ModelState::Absent, false));
    assert_eq!((row.bytes, row.place.as_ref()), (Some(3_000_000), None));

    // Not before the terms are accepted.
    shelf.order(fetch());
    told(&shelf, "terms that you have to accept", false);
    assert!(server.seen().is_empty());
    shelf.order(Order::Accept(name()));
    shelf.order(fetch());
    let view = told(&shelf, "tiny is installed, 3 MB", true);
    let row = &view.rows[0];
    assert_eq!((row.state, row.accepted), (ModelState::Installed, true));
    let place = row.place.clone().unwrap();
    assert_eq!(fs::read(place.join("tiny.th")).unwrap(), file());

    shelf.order(Order::Verify(name()));
    told(&shelf, "every file is as it should be", true);
    // One bit is turned over.
    let mut wrong = file();
    wrong[1_000] ^= 1;
    fs::write(place.join("tiny.th"), wrong).unwrap();
    shelf.order(Order::Verify(name()));
    told(&shelf, "is not tiny's file", false);
    fs::write(place.join("tiny.th"), "cut").unwrap();
    shelf.order(Order::Refresh);
    wait(&shelf, |v| v.rows[0].state == ModelState::Incomplete);

    shelf.order(Order::Remove(name()));
    let view = told(&shelf, "tiny is removed", true);
    assert_eq!(view.rows[0].state, ModelState::Absent);
    assert!(!place.join("tiny.th").exists());

    // From a folder, without the network.
    let seen = server.seen().len();
    let from = folder.path().join("from");
    fs::create_dir_all(&from).unwrap();
    shelf.order(Order::Add(from.clone()));
    told(&shelf, "holds no known model", false);
    fs::write(from.join("tiny.th"), file()).unwrap();
    shelf.order(Order::Add(from));
    let view = told(&shelf, "tiny is installed, 3 MB", true);
    assert_eq!(view.rows[0].state, ModelState::Installed);
    assert_eq!(server.seen().len(), seen);
}

#[test]
fn a_download_shows_its_progress_is_stopped_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    // The first connection ends half-way and the next ones never answer: the download hangs until stopped.
    let open = Arc::new(AtomicBool::new(false));
    let is_open = open.clone();
    let server = Server::start(file(), move |number, _| match number {
        0 => Answer::Cut(1_500_000),
        _ if is_open.load(Ordering::SeqCst) => Answer::File,
        _ => Answer::Silence,
    });
    let shelf = shelf(folder.path(), &server, false);
    shelf.order(Order::Accept(name()));
    shelf.order(fetch());
    let view = wait(&shelf, |view| {
        view.work.as_ref().is_some_and(|work| work.done > 0)
    });
    let work = view.work.clone().unwrap();
    assert_eq!((work.name.as_str(), work.verb), ("tiny", "Fetching"));
    assert_eq!(work.all, Some(3_000_000));
    // What waits is forgotten too.
    shelf.order(Order::Verify(name()));
    shelf.order(Order::Cancel);
    let view = told(&shelf, "Stopped", true);
    assert_eq!(view.waiting, 0);
    assert_ne!(view.rows[0].state, ModelState::Installed);
    open.store(true, Ordering::SeqCst);
    shelf.order(fetch());
    told(&shelf, "tiny is installed, 3 MB", true);
    let ranges: Vec<bool> = server.seen().iter().map(|s| s.range.is_some()).collect();
    assert_eq!(
        (ranges[0], ranges.last()),
        (false, Some(&true)),
        "it went on where it ended"
    );
    let place = shelf.view().rows[0].place.clone().unwrap();
    assert_eq!(fs::read(place.join("tiny.th")).unwrap(), file());
}

#[test]
fn a_token_goes_along_and_a_refusal_says_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(file(), |_, seen| match &seen.authorization {
        Some(token) if token == "Bearer right" => Answer::File,
        _ => Answer::Status(401, String::new()),
    });
    let shelf = shelf(folder.path(), &server, true);
    shelf.order(Order::Accept(name()));
    let with = |token: &str| Order::Fetch {
        name: name(),
        token: Some(Secret(token.to_owned())),
    };
    shelf.order(with("wrong"));
    told(&shelf, "create a token", false);
    shelf.order(with("right"));
    told(&shelf, "tiny is installed", true);
}

#[test]
fn a_shelf_that_is_closed_stops_its_download() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(file(), |_, _| Answer::Cut(10_000));
    let shelf = shelf(folder.path(), &server, false);
    shelf.order(Order::Accept(name()));
    shelf.order(fetch());
    wait(&shelf, |view| view.work.is_some());
    drop(shelf);
    assert!(!folder.path().join("models/tiny/tiny.th").exists());
}
