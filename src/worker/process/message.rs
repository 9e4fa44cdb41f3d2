// [worker] What a host and the worker process say to each other: a fixed greeting, then length-bounded messages.
//!
//! Either side greets first with [`greeting`], whose layout never changes, so that two versions always
//! understand that they differ. After it come messages: four bytes of length (little-endian), then a value
//! in postcard's encoding. A length is checked before anything is allocated for it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{damage::Stem, worker::options::Options};

/// Raise it whenever a message's meaning or layout changes, [`Options`] and findings included.
pub const PROTOCOL: u32 = 4;
/// Both sides must be the same Uncook: only then is the result the same, bit for bit.
const BUILD: &str = env!("CARGO_PKG_VERSION");
const MAGIC: [u8; 8] = *b"UNCKWRKR";
/// Bytes of a greeting: magic, protocol, length of the build's name, its name, zeros.
pub const GREETING_BYTES: usize = 8 + 4 + 1 + MAX_BUILD_BYTES;
const MAX_BUILD_BYTES: usize = 51;
/// Bound on a message. Audio and findings travel in files; the largest message is a user's edits.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Why bytes from the other side are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("it is no Uncook worker")]
    Stranger,
    #[error("it is Uncook {build} (protocol {protocol}), this is {BUILD} (protocol {PROTOCOL})")]
    OtherVersion { protocol: u32, build: String },
    #[error("a message of {actual} bytes, at most {MAX_MESSAGE_BYTES} are allowed")]
    TooLong { actual: usize },
    #[error("a message that means nothing: {0}")]
    Nonsense(String),
}

/// The first bytes that either side sends.
pub fn greeting() -> [u8; GREETING_BYTES] {
    greeting_of(PROTOCOL, BUILD)
}

/// The greeting of another version.
pub fn greeting_of(protocol: u32, build: &str) -> [u8; GREETING_BYTES] {
    let mut out = [0; GREETING_BYTES];
    out[..8].copy_from_slice(&MAGIC);
    out[8..12].copy_from_slice(&protocol.to_le_bytes());
    let name = &build.as_bytes()[..build.len().min(MAX_BUILD_BYTES)];
    out[12] = name.len() as u8;
    out[13..13 + name.len()].copy_from_slice(name);
    out
}

/// Checks the other side's greeting.
///
/// # Errors
/// [`MessageError::Stranger`] or [`MessageError::OtherVersion`].
pub fn check_greeting(bytes: &[u8; GREETING_BYTES]) -> Result<(), MessageError> {
    if bytes == &greeting() {
        return Ok(());
    }
    let name = bytes[13..].get(..usize::from(bytes[12]));
    match name.and_then(|name| std::str::from_utf8(name).ok()) {
        Some(build) if bytes[..8] == MAGIC => Err(MessageError::OtherVersion {
            protocol: u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]),
            // It is shown to the user.
            build: build.chars().filter(|c| !c.is_control()).collect(),
        }),
        _ => Err(MessageError::Stranger),
    }
}

/// What is to be done on a take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The folder through which audio goes to and fro; it belongs to the host.
    pub folder: PathBuf,
    /// Where intermediate results are kept, if anywhere.
    pub cache: Option<PathBuf>,
    /// Hz.
    pub sample_rate: u32,
    /// 1 or 2.
    pub channels: u8,
    pub frames: u64,
    pub options: Options,
    pub work: Work,
}

/// What of the results is handed over; base, layers and findings always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    pub stems: bool,
    pub parts: bool,
}

/// How much of the road.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// All of it: the take lies in the folder.
    Whole(Wanted),
    /// The first half of one segment, `done` segments being done; the worker asks for what it needs to hear.
    Ahead { done: u64 },
}

/// From the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// One a connection.
    Begin(Box<Order>),
    /// The answer to [`Reply::Fetch`]: whether the audio is in the folder now.
    Fetched(bool),
    Cancel,
}

/// From the worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// So many are served first.
    Queued(u32),
    /// The step's number, the share done (0..=1), and a count that grows while work goes on.
    Progress {
        step: u8,
        done: f64,
        beats: u64,
    },
    /// Frames of a growing take that the worker needs to hear.
    Fetch {
        start: u64,
        end: u64,
    },
    /// The whole road's results are in the folder.
    Done(Box<Results>),
    /// What was asked for ahead is in the cache.
    DoneAhead,
    Failed(Failure),
}

/// Which files the whole road left. Findings are a file of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Stems that have a layer.
    pub layers: [bool; Stem::COUNT],
    /// Names of the separated parts.
    pub parts: Vec<String>,
    /// Bytes of the findings.
    pub findings: u64,
}

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Failure {
    Cancelled,
    Channels(u8),
    Regeneration(String),
    /// A panic: the worker goes on.
    Defect,
    /// The order was wrong, or the folder can't be read or written.
    Refused(String),
}

/// A message as it is sent.
///
/// # Errors
/// If it is longer than [`MAX_MESSAGE_BYTES`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, MessageError> {
    let bytes = postcard::to_extend(message, vec![0; 4])
        .map_err(|e| MessageError::Nonsense(e.to_string()))?;
    let length = bytes.len() - 4;
    if length > MAX_MESSAGE_BYTES {
        return Err(MessageError::TooLong { actual: length });
    }
    let mut bytes = bytes;
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(bytes)
}

/// Bytes that have arrived and are not yet a message.
#[derive(Debug, Default)]
pub struct Inbox(Vec<u8>);

impl Inbox {
    /// Appends what has arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next whole message.
    ///
    /// # Errors
    /// If the bytes are no message; there is no way to go on after that.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, MessageError> {
        let Some((head, rest)) = self.0.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*head) as usize;
        if length > MAX_MESSAGE_BYTES {
            return Err(MessageError::TooLong { actual: length });
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let message = decode(body)?;
        self.0.drain(..4 + length);
        Ok(Some(message))
    }
}

/// A value from anywhere, and nothing after it.
///
/// # Errors
/// [`MessageError::Nonsense`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, MessageError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(MessageError::Nonsense(format!(
            "{} bytes are left over",
            rest.len()
        ))),
        Err(error) => Err(MessageError::Nonsense(error.to_string())),
    }
}
