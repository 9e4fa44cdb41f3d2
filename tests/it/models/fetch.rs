// Downloads against a server that misbehaves: interrupted, redirected, refused, lied to, out of disk.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use uncook::models::{
    fetch::{Checked, Downloader, FetchError, Fetched, Request, Token},
    hash::sha256,
};

use super::server::{Answer, Server};

/// 300 kB that repeat nowhere.
fn content() -> Vec<u8> {
    (0..75_000u32)
        .flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

fn downloader() -> Downloader {
    let mut downloader = Downloader::new(Duration::from_millis(400), false);
    downloader.pause = Duration::from_millis(1);
    downloader.retries = 3;
    downloader
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("model.th")
    }

    fn part(&self) -> PathBuf {
        self.folder.path().join("model.th.part")
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn fetch(url: &str, hash: &str, path: &Path) -> Result<Fetched, FetchError> {
    let request = Request {
        url,
        hash,
        bytes: None,
        token: None,
    };
    downloader().fetch(&request, path, &|_, _| true)
}

#[test]
fn a_file_arrives_whole() {
    let server = Server::start(content(), |_, _| Answer::File);
    let (place, sum) = (Place::new(), sha256(&content()));
    for (hash, checked) in [
        (sum.as_str(), Checked::Full),
        (&sum[..8], Checked::Prefix),
        ("", Checked::FirstSeen),
    ] {
        let done = fetch(&server.url("/m"), hash, &place.path()).unwrap();
        assert_eq!(done.sha256, sum);
        assert_eq!((done.bytes, done.checked), (300_000, checked));
        assert_eq!(fs::read(place.path()).unwrap(), content());
        assert_eq!(place.files(), ["model.th"]);
    }
}

#[test]
fn an_interrupted_download_goes_on_where_it_ended() {
    let server = Server::start(content(), |number, _| match number {
        0 => Answer::Cut(100_000),
        1 => Answer::Cut(150_000),
        _ => Answer::File,
    });
    let place = Place::new();
    fetch(&server.url("/m"), &sha256(&content()), &place.path()).unwrap();
    assert_eq!(fs::read(place.path()).unwrap(), content());
    let ranges: Vec<Option<String>> = server.seen().into_iter().map(|s| s.range).collect();
    assert_eq!(
        ranges,
        [
            None,
            Some("bytes=100000-".to_owned()),
            Some("bytes=250000-".to_owned())
        ]
    );
    assert_eq!(server.seen()[1].if_range.as_deref(), Some("\"one\""));
}

#[test]
fn a_later_call_goes_on_too() {
    let server = Server::start(content(), |number, _| match number {
        0 => Answer::Cut(120_000),
        1..4 => Answer::Status(503, String::new()),
        _ => Answer::File,
    });
    let (place, sum) = (Place::new(), sha256(&content()));
    let error = fetch(&server.url("/m"), &sum, &place.path()).unwrap_err();
    assert!(
        matches!(error, FetchError::Server { status: 503, .. }),
        "{error}"
    );
    assert_eq!(place.files(), ["model.th.part", "model.th.part.json"]);
    fetch(&server.url("/m"), &sum, &place.path()).unwrap();
    let last = server.seen().pop().unwrap();
    assert_eq!(last.range.as_deref(), Some("bytes=120000-"));
    assert_eq!(place.files(), ["model.th"]);
}

#[test]
fn stopping_keeps_what_arrived() {
    let server = Server::start(content(), |_, _| Answer::File);
    let (place, sum) = (Place::new(), sha256(&content()));
    let url = server.url("/m");
    let request = Request {
        url: &url,
        hash: &sum,
        bytes: Some(300_000),
        token: None,
    };
    let most = Cell::new(0);
    let stopped = downloader().fetch(&request, &place.path(), &|done, all| {
        assert_eq!(all, Some(300_000));
        most.set(done);
        done < 100_000
    });
    assert!(matches!(stopped, Err(FetchError::Cancelled)), "{stopped:?}");
    assert_eq!(fs::metadata(place.part()).unwrap().len(), most.get());
    downloader()
        .fetch(&request, &place.path(), &|_, _| true)
        .unwrap();
    assert_eq!(fs::read(place.path()).unwrap(), content());
    assert!(server.seen()[1].range.is_some());
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let server = Server::start(content(), |number, _| match number {
        0 => Answer::Cut(100_000),
        _ => Answer::NoRange,
    });
    let place = Place::new();
    fetch(&server.url("/m"), &sha256(&content()), &place.path()).unwrap();
    assert_eq!(fs::read(place.path()).unwrap(), content());
}

#[test]
fn a_part_of_another_file_is_not_gone_on_with() {
    let server = Server::start(content(), |_, _| Answer::File);
    let (place, sum) = (Place::new(), sha256(&content()));
    // Of another address: fetched anew, without asking for a range.
    fs::write(place.part(), vec![7; 1000]).unwrap();
    fs::write(
        place.folder.path().join("model.th.part.json"),
        r#"{"url":"http://elsewhere/m","etag":"\"one\"","announced":null}"#,
    )
    .unwrap();
    fetch(&server.url("/m"), &sum, &place.path()).unwrap();
    assert_eq!(server.seen()[0].range, None);
    // Of this address, but longer than the file: the server says so, and all is fetched anew.
    let note = format!(
        r#"{{"url":"{}","etag":"\"one\"","announced":null}}"#,
        server.url("/m")
    );
    fs::write(place.part(), vec![7; 400_000]).unwrap();
    fs::write(place.folder.path().join("model.th.part.json"), note).unwrap();
    fetch(&server.url("/m"), &sum, &place.path()).unwrap();
    assert_eq!(fs::read(place.path()).unwrap(), content());
}

#[test]
fn a_wrong_hash_leaves_nothing_behind() {
    let server = Server::start(content(), |_, _| Answer::File);
    let place = Place::new();
    for hash in ["0".repeat(64), "01234567".to_owned()] {
        let error = fetch(&server.url("/m"), &hash, &place.path()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, FetchError::WrongHash { .. }), "{text}");
        assert!(
            text.contains(&hash) && text.contains(&sha256(&content())),
            "{text}"
        );
        assert!(place.files().is_empty(), "{:?}", place.files());
    }
}

#[test]
fn the_hash_that_the_host_announces_is_checked() {
    let announce = |hash: String| {
        Server::start(content(), move |_, seen| match seen.path.as_str() {
            "/m" => Answer::Status(
                302,
                format!("X-Linked-ETag: \"{hash}\"\r\nLocation: /elsewhere\r\n"),
            ),
            _ => Answer::File,
        })
    };
    let place = Place::new();
    let right = announce(sha256(&content()));
    let done = fetch(&right.url("/m"), "", &place.path()).unwrap();
    assert_eq!(done.checked, Checked::Host);
    let wrong = announce("0".repeat(64));
    let error = fetch(&wrong.url("/m"), "", &place.path()).unwrap_err();
    assert!(matches!(error, FetchError::WrongHash { .. }), "{error}");
}

#[test]
fn refusals_tell_the_cure() {
    for (status, cure) in [
        (401, "--token"),
        (403, "accepted"),
        (404, "uncook models add"),
        (410, "uncook models add"),
        (418, "later"),
        (500, "later"),
        (429, "later"),
    ] {
        let server = Server::start(content(), move |_, _| Answer::Status(status, String::new()));
        let place = Place::new();
        let error = fetch(&server.url("/m"), "", &place.path()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(cure) && text.contains(&status.to_string()),
            "{text}"
        );
        assert!(place.files().is_empty());
        let expected = if status == 429 || status >= 500 { 3 } else { 1 };
        assert_eq!(server.seen().len(), expected, "{status}");
    }
}

#[test]
fn the_token_goes_to_the_first_host_only_and_is_never_printed() {
    let other = Server::start(content(), |_, _| Answer::File);
    let there = other.url("/signed?secret=1");
    let server = Server::start(content(), move |_, seen| match seen.path.as_str() {
        "/m" => Answer::Status(302, "Location: /near\r\n".into()),
        _ => Answer::Status(307, format!("Location: {there}\r\n")),
    });
    let place = Place::new();
    let token = Token::new(" hf_secret\n").unwrap();
    assert!(!format!("{token:?}").contains("secret"));
    let url = server.url("/m");
    let request = Request {
        url: &url,
        hash: "",
        bytes: None,
        token: Some(&token),
    };
    downloader()
        .fetch(&request, &place.path(), &|_, _| true)
        .unwrap();
    for seen in server.seen() {
        assert_eq!(seen.authorization.as_deref(), Some("Bearer hf_secret"));
    }
    assert_eq!(server.seen().len(), 2);
    assert_eq!(other.seen()[0].authorization, None);
    for bad in ["", "two words", "line\nline", "ümlaut"] {
        assert!(matches!(Token::new(bad), Err(FetchError::BadToken)));
    }
}

#[test]
fn redirects_in_a_circle_or_to_nowhere_end() {
    for location in ["/m", "ftp://example.org/m", "", "http://"] {
        let server = Server::start(content(), move |_, _| {
            Answer::Status(302, format!("Location: {location}\r\n"))
        });
        let place = Place::new();
        let error = fetch(&server.url("/m"), "", &place.path()).unwrap_err();
        assert!(matches!(error, FetchError::Redirect { .. }), "{error}");
    }
}

#[test]
fn lies_about_the_length_are_noticed() {
    let sum = sha256(&content());
    let expected = |server: &Server, bytes| {
        let place = Place::new();
        let url = server.url("/m");
        let request = Request {
            url: &url,
            hash: &sum,
            bytes,
            token: None,
        };
        let result = downloader().fetch(&request, &place.path(), &|_, _| true);
        let left: u64 = fs::metadata(place.part()).map_or(0, |m| m.len());
        (result, left)
    };
    // Another length than the list says, or one that no model has: nothing is fetched.
    let server = Server::start(content(), |_, _| Answer::File);
    let (result, left) = expected(&server, Some(299_999));
    assert!(
        matches!(
            result,
            Err(FetchError::WrongSize {
                actual: 300_000,
                ..
            })
        ),
        "{result:?}"
    );
    assert_eq!(left, 0);
    let server = Server::start(content(), |_, _| Answer::Length(u64::MAX / 2));
    let (result, left) = expected(&server, None);
    assert!(
        matches!(result, Err(FetchError::WrongSize { .. })),
        "{result:?}"
    );
    assert_eq!(left, 0);
    // More is announced than comes: the rest is asked for, then given up, and what came is kept.
    let server = Server::start(content(), |_, _| Answer::Length(300_001));
    let (result, _) = expected(&server, None);
    assert!(
        matches!(result, Err(FetchError::Network { .. })),
        "{result:?}"
    );
    // Less is announced than comes: the rest is not read, and the hash tells.
    let server = Server::start(content(), |_, _| Answer::Length(1000));
    let (result, _) = expected(&server, None);
    assert!(
        matches!(result, Err(FetchError::WrongHash { .. })),
        "{result:?}"
    );
}

#[test]
fn silence_and_closed_doors_end_in_time() {
    let server = Server::start(content(), |_, _| Answer::Silence);
    let place = Place::new();
    let error = fetch(&server.url("/m"), "", &place.path()).unwrap_err();
    assert!(matches!(error, FetchError::Timeout { .. }), "{error}");
    let gone = server.url("/m");
    drop(server);
    let error = fetch(&gone, "", &place.path()).unwrap_err();
    assert!(matches!(error, FetchError::Network { .. }), "{error}");
    assert!(error.to_string().contains("connection"), "{error}");
}

/// A part on a device that is always full is as good as a full disk.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_tells_the_cure() {
    let server = Server::start(content(), |_, _| Answer::File);
    let place = Place::new();
    std::os::unix::fs::symlink("/dev/full", place.part()).unwrap();
    let error = fetch(&server.url("/m"), "", &place.path()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, FetchError::DiskFull { .. }), "{text}");
    assert!(text.contains("--to"), "{text}");
    assert!(!place.path().exists());
}
