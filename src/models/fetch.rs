// [worker] Downloads files, resumably and checked: the only user of the network.

use std::{
    fmt, fs,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use ureq::{
    Agent, Body,
    http::{Response, Uri},
};

use super::hash;
use crate::system::replace;

/// Bytes read at once.
const CHUNK: usize = 1 << 16;
/// More than any file of a model.
const MAX_BYTES: u64 = 64 << 30;
/// Redirects that are followed.
const MAX_REDIRECTS: usize = 8;
/// Environment variables that may hold a token, in this order. The second is the hub's own.
pub const TOKEN_VARIABLES: [&str; 2] = ["UNCOOK_HUB_TOKEN", "HF_TOKEN"];

/// Why a download failed, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(
        "{url} can't be reached: {what}; check the connection and try again, what has arrived is kept"
    )]
    Network { url: String, what: String },
    #[error("{url} took too long to answer; try again, what has arrived is kept")]
    Timeout { url: String },
    #[error(
        "{url} wants an account (401): accept the model's terms on its page, create a token with read access there, and pass it with --token or in UNCOOK_HUB_TOKEN"
    )]
    Unauthorized { url: String },
    #[error(
        "{url} refuses access (403): the token's account has not accepted the model's terms, or they were not granted yet; open the model's page with that account"
    )]
    Forbidden { url: String },
    #[error(
        "{url} is not there (404, 410): the authors may have moved it; download it from the model's page yourself and use `uncook models add`"
    )]
    NotFound { url: String },
    #[error("{url} answers with an error ({status}); try again later")]
    Server { url: String, status: u16 },
    #[error(
        "{url} leads to {to}, which is not followed; download the file from the model's page yourself and use `uncook models add`"
    )]
    Redirect { url: String, to: String },
    #[error(
        "{url} announces {actual} bytes, {expected} expected: it is another file; nothing was fetched"
    )]
    WrongSize {
        url: String,
        expected: u64,
        actual: u64,
    },
    #[error(
        "{url} has the SHA-256 {actual}, expected {expected}: what arrived was deleted; try again, and if it happens again don't use the file"
    )]
    WrongHash {
        url: String,
        expected: String,
        actual: String,
    },
    #[error("the disk of {path} is full; free some space or choose another disk with --to, what has arrived is kept", path = path.display())]
    DiskFull { path: PathBuf },
    #[error("{path} can't be written: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the download was stopped; what has arrived is kept")]
    Cancelled,
    #[error("the token holds characters that no token has; copy it again")]
    BadToken,
}

/// A secret for a gated host. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// A token as it was copied, blanks around it removed.
    ///
    /// # Errors
    /// If it is empty or can't stand in a header.
    pub fn new(text: &str) -> Result<Self, FetchError> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(FetchError::BadToken);
        }
        Ok(Self(text.to_owned()))
    }

    /// The token that was passed, else that of the environment ([`TOKEN_VARIABLES`]), else that in
    /// `file`; `None` if there is none.
    ///
    /// # Errors
    /// If the first one found is not a token.
    pub fn find(passed: Option<&str>, file: Option<&Path>) -> Result<Option<Self>, FetchError> {
        let from_environment = || {
            TOKEN_VARIABLES
                .iter()
                .find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()))
        };
        let from_file = || file.and_then(|path| fs::read_to_string(path).ok());
        passed
            .map(str::to_owned)
            .or_else(from_environment)
            .or_else(from_file)
            .map(|text| Self::new(&text))
            .transpose()
    }
}

/// One file to fetch.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub url: &'a str,
    /// The beginning of its SHA-256 in hex, as much as is known.
    pub hash: &'a str,
    pub bytes: Option<u64>,
    pub token: Option<&'a Token>,
}

/// What a download came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub sha256: String,
    pub bytes: u64,
    /// What the hash was compared with.
    pub checked: Checked,
}

/// What a file's hash was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checked {
    /// The list's full SHA-256.
    Full,
    /// The beginning of the SHA-256, which is all that the list has.
    Prefix,
    /// The SHA-256 that the host announced with the download.
    Host,
    /// Nothing: this was the first time.
    FirstSeen,
}

/// How far a download is: bytes that are there, and bytes of the whole if known. Returns false to stop.
pub type Watch<'a> = dyn Fn(u64, Option<u64>) -> bool + 'a;

/// What is remembered beside a part.
#[derive(Debug, Default, Serialize, Deserialize)]
struct PartNote {
    url: String,
    /// The host's strong validator of the file.
    etag: Option<String>,
    /// The SHA-256 that the host announced.
    announced: Option<String>,
}

/// Fetches files.
#[derive(Clone, Debug)]
pub struct Downloader {
    agent: Agent,
    /// Tries after an interruption or an error of the server.
    pub retries: u32,
    /// Pause before the first of them; it doubles each time.
    pub pause: Duration,
}

impl Default for Downloader {
    fn default() -> Self {
        Self::new(Duration::from_secs(30), true)
    }
}

/// What one try came to.
enum Try {
    Done(Option<String>),
    /// The part does not fit the file: start anew.
    Restart,
    /// Worth another try.
    Again(FetchError),
}

impl Downloader {
    /// A downloader that gives up on a connection after `patience` without an answer or a byte, and uses
    /// the system's proxy if told to.
    pub fn new(patience: Duration, system_proxy: bool) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(patience))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience))
            .user_agent(concat!("uncook/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity");
        let config = if system_proxy {
            config
        } else {
            config.proxy(None)
        };
        Self {
            agent: config.build().new_agent(),
            retries: 5,
            pause: Duration::from_secs(1),
        }
    }

    /// Fetches a file to `path`. What arrives grows `path` + `.part`, which a later call goes on with; the
    /// file appears under its own name when its hash is right.
    ///
    /// # Errors
    /// See [`FetchError`]; each says what to do.
    pub fn fetch(
        &self,
        request: &Request<'_>,
        path: &Path,
        watch: &Watch<'_>,
    ) -> Result<Fetched, FetchError> {
        let part = beside(path, "part");
        let note = beside(path, "part.json");
        let (mut restarts, mut tries, mut reached) = (0, 0, 0);
        let announced = loop {
            let outcome = self.attempt(request, &part, &note, watch)?;
            match outcome {
                Try::Done(announced) => break announced,
                Try::Restart if restarts < 2 => {
                    restarts += 1;
                    remove(&part)?;
                }
                Try::Restart => {
                    return Err(FetchError::Network {
                        url: request.url.to_owned(),
                        what: "the server's parts of the file don't fit together".into(),
                    });
                }
                Try::Again(error) => {
                    // Progress since the last try earns new patience.
                    let there = length(&part);
                    tries = if there > reached { 0 } else { tries + 1 };
                    reached = there;
                    if tries >= self.retries {
                        return Err(error);
                    }
                    self.wait(tries, there, request.bytes, watch)?;
                }
            }
        };
        self.finish(request, path, &part, &note, announced, watch)
    }

    fn wait(
        &self,
        tries: u32,
        there: u64,
        bytes: Option<u64>,
        watch: &Watch<'_>,
    ) -> Result<(), FetchError> {
        const LOOK: Duration = Duration::from_millis(100);
        let mut left = self.pause * (1 << tries.min(5));
        while !left.is_zero() {
            if !watch(there, bytes) {
                return Err(FetchError::Cancelled);
            }
            let now = left.min(LOOK);
            thread::sleep(now);
            left -= now;
        }
        Ok(())
    }

    /// Compares the hash and gives the file its name.
    fn finish(
        &self,
        request: &Request<'_>,
        path: &Path,
        part: &Path,
        note: &Path,
        announced: Option<String>,
        watch: &Watch<'_>,
    ) -> Result<Fetched, FetchError> {
        let bytes = length(part);
        let sum =
            hash::sha256_file(part, &|_| watch(bytes, Some(bytes))).map_err(io_error(part))?;
        let Some(sha256) = sum else {
            return Err(FetchError::Cancelled);
        };
        let (expected, checked) = match (request.hash.len(), announced) {
            (64, _) => (request.hash.to_owned(), Checked::Full),
            (1.., _) => (request.hash.to_owned(), Checked::Prefix),
            (0, Some(announced)) => (announced, Checked::Host),
            (0, None) => (String::new(), Checked::FirstSeen),
        };
        if !sha256.starts_with(&expected) {
            remove(part)?;
            remove(note)?;
            return Err(FetchError::WrongHash {
                url: request.url.to_owned(),
                expected,
                actual: sha256,
            });
        }
        // Windows writes out only what can be written to.
        (File::options().write(true).open(part))
            .and_then(|file| file.sync_all())
            .and_then(|()| replace(part, path))
            .map_err(io_error(path))?;
        remove(note)?;
        Ok(Fetched {
            sha256,
            bytes,
            checked,
        })
    }

    /// One connection: from where the part ends to the end of the file, or as far as it goes.
    fn attempt(
        &self,
        request: &Request<'_>,
        part: &Path,
        note_path: &Path,
        watch: &Watch<'_>,
    ) -> Result<Try, FetchError> {
        let mut note: PartNote = fs::read(note_path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let can_check = !request.hash.is_empty() || note.announced.is_some();
        let goes_on = note.url == request.url && (note.etag.is_some() || can_check);
        let mut start = if goes_on { length(part) } else { 0 };
        if start > request.bytes.unwrap_or(MAX_BYTES) {
            start = 0;
        }
        if start > 0 && request.bytes == Some(start) {
            return Ok(Try::Done(note.announced));
        }
        let (mut response, announced) = match self.ask(request, start, note.etag.as_deref()) {
            Ok(answer) => answer,
            Err(error @ (FetchError::Network { .. } | FetchError::Timeout { .. })) => {
                return Ok(Try::Again(error));
            }
            Err(error) => return Err(error),
        };
        let url = || request.url.to_owned();
        match response.status().as_u16() {
            200 => start = 0,
            206 if start > 0 && range_start(&response) == Some(start) => {}
            206 => return Ok(Try::Restart),
            401 => return Err(FetchError::Unauthorized { url: url() }),
            403 => return Err(FetchError::Forbidden { url: url() }),
            404 | 410 => return Err(FetchError::NotFound { url: url() }),
            // Nothing behind the part: either it is the whole file, or another one.
            416 if start > 0 && range_total(&response) == Some(start) => {
                return Ok(Try::Done(note.announced));
            }
            416 if start > 0 => return Ok(Try::Restart),
            status @ (408 | 429 | 500..) => {
                return Ok(Try::Again(FetchError::Server { url: url(), status }));
            }
            status => return Err(FetchError::Server { url: url(), status }),
        }
        let total = match (start, content_length(&response)) {
            (0, length) => length,
            (_, length) => range_total(&response).or(length.and_then(|l| l.checked_add(start))),
        };
        let bound = request.bytes.unwrap_or(MAX_BYTES);
        if let Some(actual) = total
            && (actual > bound || request.bytes.is_some_and(|expected| expected != actual))
        {
            return Err(FetchError::WrongSize {
                url: url(),
                expected: bound,
                actual,
            });
        }
        if start == 0 {
            note = PartNote {
                url: url(),
                etag: strong_etag(&response),
                announced,
            };
            let text = serde_json::to_vec(&note).unwrap_or_default();
            fs::write(note_path, text).map_err(io_error(note_path))?;
        }
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .append(start > 0)
            .truncate(start == 0)
            .open(part)
            .map_err(io_error(part))?;
        let ended = copy(response.body_mut(), file, part, start, total, bound, watch)?;
        match ended {
            Ended::Whole => Ok(Try::Done(note.announced)),
            Ended::TooLong(actual) => {
                remove(part)?;
                Err(FetchError::WrongSize {
                    url: url(),
                    expected: bound,
                    actual,
                })
            }
            Ended::Short(what) => Ok(Try::Again(FetchError::Network { url: url(), what })),
        }
    }

    /// Sends the request and follows redirects. The token goes to the first host only, and never without
    /// encryption once there was some.
    fn ask(
        &self,
        request: &Request<'_>,
        start: u64,
        etag: Option<&str>,
    ) -> Result<(Response<Body>, Option<String>), FetchError> {
        let failed = |what: String| FetchError::Network {
            url: request.url.to_owned(),
            what,
        };
        let first: Uri = request
            .url
            .parse()
            .map_err(|_| failed("it is no address".into()))?;
        let mut uri = first.clone();
        let mut announced = None;
        for _ in 0..=MAX_REDIRECTS {
            let mut ask = self.agent.get(uri.clone());
            if start > 0 {
                ask = ask.header("Range", format!("bytes={start}-"));
                if let Some(etag) = etag {
                    ask = ask.header("If-Range", etag);
                }
            }
            if let Some(token) = request.token.filter(|_| same_place(&first, &uri)) {
                ask = ask.header("Authorization", format!("Bearer {}", token.0));
            }
            let response = ask.call().map_err(|error| match error {
                ureq::Error::Timeout(_) => FetchError::Timeout {
                    url: request.url.to_owned(),
                },
                other => failed(other.to_string()),
            })?;
            announced = announced.or_else(|| announced_hash(&response));
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok((response, announced));
            }
            let to = header(&response, "location").unwrap_or_default().to_owned();
            uri = follow(&uri, &to).ok_or_else(|| FetchError::Redirect {
                url: request.url.to_owned(),
                // A signed address is a secret of its own: only the host is named.
                to: host_of(&to),
            })?;
        }
        Err(FetchError::Redirect {
            url: request.url.to_owned(),
            to: "itself again and again".into(),
        })
    }
}

enum Ended {
    Whole,
    Short(String),
    TooLong(u64),
}

/// Appends the body to the part.
fn copy(
    body: &mut Body,
    mut file: File,
    part: &Path,
    start: u64,
    total: Option<u64>,
    bound: u64,
    watch: &Watch<'_>,
) -> Result<Ended, FetchError> {
    let mut reader = body.as_reader();
    let mut buffer = vec![0u8; CHUNK];
    let mut there = start;
    loop {
        if !watch(there, total) {
            return Err(FetchError::Cancelled);
        }
        let len = match reader.read(&mut buffer) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Ok(Ended::Short(error.to_string())),
        };
        if len == 0 {
            return Ok(match total {
                Some(total) if there < total => {
                    Ended::Short(format!("it ended after {there} of {total} bytes"))
                }
                _ => Ended::Whole,
            });
        }
        if there + len as u64 > bound {
            return Ok(Ended::TooLong(there + len as u64));
        }
        file.write_all(&buffer[..len]).map_err(io_error(part))?;
        there += len as u64;
    }
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> FetchError + '_ {
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FetchError::DiskFull {
            path: path.to_owned(),
        },
        _ => FetchError::Io {
            path: path.to_owned(),
            source,
        },
    }
}

/// `path` with one more extension.
fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(extension);
    path.with_file_name(name)
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn remove(path: &Path) -> Result<(), FetchError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path)(error)),
        _ => Ok(()),
    }
}

fn header<'r>(response: &'r Response<Body>, name: &str) -> Option<&'r str> {
    response.headers().get(name)?.to_str().ok()
}

fn content_length(response: &Response<Body>) -> Option<u64> {
    header(response, "content-length")?.trim().parse().ok()
}

/// `bytes 100-199/200` → 100.
fn range_start(response: &Response<Body>) -> Option<u64> {
    let range = header(response, "content-range")?.strip_prefix("bytes ")?;
    range.split_once('-')?.0.trim().parse().ok()
}

/// `bytes 100-199/200` or `bytes */200` → 200.
fn range_total(response: &Response<Body>) -> Option<u64> {
    let range = header(response, "content-range")?;
    range.rsplit_once('/')?.1.trim().parse().ok()
}

fn strong_etag(response: &Response<Body>) -> Option<String> {
    header(response, "etag")
        .filter(|etag| etag.starts_with('"'))
        .map(str::to_owned)
}

/// The SHA-256 that the model hub sends along for large files.
fn announced_hash(response: &Response<Body>) -> Option<String> {
    let etag = header(response, "x-linked-etag")?.trim_matches('"');
    let is_hash = etag.len() == 64 && etag.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash.then(|| etag.to_ascii_lowercase())
}

fn same_place(a: &Uri, b: &Uri) -> bool {
    a.scheme() == b.scheme() && a.authority() == b.authority()
}

fn host_of(address: &str) -> String {
    address
        .parse::<Uri>()
        .ok()
        .and_then(|uri| uri.host().map(str::to_owned))
        .unwrap_or_else(|| "nowhere".into())
}

/// Where a redirect leads; `None` if nowhere, or from an encrypted to an open connection.
fn follow(from: &Uri, to: &str) -> Option<Uri> {
    if to.is_empty() {
        return None;
    }
    let target = if to.starts_with('/') && !to.starts_with("//") {
        format!("{}://{}{to}", from.scheme_str()?, from.authority()?)
    } else if to.starts_with("//") {
        format!("{}:{to}", from.scheme_str()?)
    } else {
        to.to_owned()
    };
    let target: Uri = target.parse().ok()?;
    let downgrade = from.scheme_str() == Some("https") && target.scheme_str() != Some("https");
    let known = matches!(target.scheme_str(), Some("http" | "https"));
    (known && !downgrade && target.host().is_some()).then_some(target)
}
