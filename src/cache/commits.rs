// [worker] Committed patches on disk: sidecars named by the hash of their content.
//!
//! A sidecar is one file, `<sha256>.uncookpatch`, that never changes. A project's state holds only a
//! [`CommitRef`] with the bare file name, so that a project can be moved or collected with its sidecars.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::codec::{self, CodecError, Reader, check_samples, pack_samples, unpack_samples};
use crate::{
    damage::Stem,
    exchange::{
        SamplePos,
        patch::Patch,
        samples::{self, Samples, StereoSamples},
    },
    system::{
        Aside,
        hash::{hex, sha256_file},
        is_abandoned, write_aside,
    },
};

/// Ending of a sidecar's name.
pub const EXTENSION: &str = "uncookpatch";
const MAGIC: [u8; 8] = *b"UNCKPTCH";
/// The layout's version. Older versions stay readable.
const VERSION: u32 = 1;
/// Notes beside the audio (a profile, damage, settings) stay far below this.
const MAX_META_BYTES: u64 = 64 << 20;
/// Ten buffers of the longest take that Uncook keeps would not reach this.
const MAX_FILE_BYTES: u64 = 16 << 30;
const MAX_RATE: u32 = 768_000;

/// Samples that are packed or unpacked at a time: whole blocks of the codec's.
const PIECE: usize = 16 * codec::BLOCK;

/// How a channel is stored.
const OWN: u8 = 0;
const SAME_AS_LEFT: u8 = 1;

/// What a project remembers of a committed patch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRef {
    /// SHA-256 of the sidecar's bytes, lower-case hex.
    pub hash: String,
    /// `<hash>.uncookpatch`: a bare file name, never a path.
    pub file: String,
    /// Where the patch starts on the timeline, in samples.
    pub start: i64,
    /// Its length in samples.
    pub frames: u64,
    /// Hz.
    pub sample_rate: u32,
}

/// Why a sidecar could not be written or read. The text tells the user what to do.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error(
        "{file} was not found in {searched}: relink it, or play the song once and analyse again"
    )]
    Missing { file: String, searched: String },
    #[error("{file:?} is not the name of a repair file: play the song once and analyse again")]
    BadName { file: String },
    #[error(
        "{path} is damaged ({reason}): copy it again from a backup, or play the song once and analyse again",
        path = path.display()
    )]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "{path} belongs to another place: {what} is {actual}, the project expects {expected}; play the song once and analyse again",
        path = path.display()
    )]
    Mismatch {
        path: PathBuf,
        what: &'static str,
        expected: String,
        actual: String,
    },
    #[error(
        "{path} was written by a newer Uncook (format {actual}, this one reads up to {expected}): update Uncook",
        path = path.display()
    )]
    TooNew {
        path: PathBuf,
        expected: u32,
        actual: u32,
    },
    #[error("{path}: {source}; check the folder's space and permissions, then try again", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("this repair can't be saved: {what} is {actual}, expected {expected}")]
    Unsuitable {
        what: &'static str,
        actual: String,
        expected: String,
    },
}

/// Writes a patch beside a project (`dir` is created if missing) and waits until it is on disk. Equal
/// content gives the same name and is not written twice; a damaged file of that name is replaced.
///
/// `take`, `base` and every layer have equal lengths; `meta_json` travels with them untouched.
///
/// # Errors
/// If the lengths differ, the notes are too large, or the disk refuses.
pub fn save(
    dir: &Path,
    start: SamplePos,
    sample_rate: u32,
    take: &StereoSamples,
    base: &StereoSamples,
    layers: &[Option<StereoSamples>; Stem::COUNT],
    meta_json: &str,
) -> Result<CommitRef, CommitError> {
    let frames = base[0].len();
    let buffers = [take, base].into_iter().chain(layers.iter().flatten());
    for channel in buffers.clone().flatten() {
        if channel.len() != frames {
            return Err(CommitError::Unsuitable {
                what: "a buffer's length",
                actual: channel.len().to_string(),
                expected: frames.to_string(),
            });
        }
    }
    if meta_json.len() as u64 > MAX_META_BYTES {
        return Err(CommitError::Unsuitable {
            what: "the size of the notes",
            actual: meta_json.len().to_string(),
            expected: format!("at most {MAX_META_BYTES} bytes"),
        });
    }
    if !(1..=MAX_RATE).contains(&sample_rate) {
        return Err(CommitError::Unsuitable {
            what: "the sample rate",
            actual: sample_rate.to_string(),
            expected: format!("1 to {MAX_RATE} Hz"),
        });
    }
    // What could not be read back must not be written.
    let total = (frames as u64).saturating_mul(2 * buffers.clone().count() as u64);
    check_samples(total).map_err(|e| CommitError::Unsuitable {
        what: "the length",
        actual: e.to_string(),
        expected: "a shorter take".to_owned(),
    })?;

    let unread = samples::faults();
    let mut out = Hashed::in_folder(dir);
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&start.0.to_le_bytes());
    bytes.extend_from_slice(&sample_rate.to_le_bytes());
    bytes.extend_from_slice(&(frames as u64).to_le_bytes());
    let present = (0u32..)
        .zip(layers)
        .fold(0u32, |mask, (i, l)| mask | (u32::from(l.is_some()) << i));
    bytes.extend_from_slice(&present.to_le_bytes());
    bytes.extend_from_slice(&(meta_json.len() as u64).to_le_bytes());
    bytes.extend_from_slice(meta_json.as_bytes());
    out.append(&bytes);
    for [left, right] in buffers {
        out.append(&[OWN]);
        pack(left, &mut out);
        if left == right {
            out.append(&[SAME_AS_LEFT]);
        } else {
            out.append(&[OWN]);
            pack(right, &mut out);
        }
    }

    if samples::faults() != unread {
        return Err(CommitError::Io {
            path: dir.to_owned(),
            source: io::Error::other("audio that was put aside on the disk can't be read back"),
        });
    }
    let (hash, bytes, written) = out.finish();
    let file = format!("{hash}.{EXTENSION}");
    let path = dir.join(&file);
    // Opening anything but a file may wait for ever.
    let there = fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() == bytes)
        && sha256_file(&path, &|_| true).is_ok_and(|old| old.is_some_and(|old| old == hash));
    if !there {
        written
            .and_then(|aside| aside.put(&path, true))
            .map_err(|source| CommitError::Io { path, source })?;
    }
    Ok(CommitRef {
        hash,
        file,
        start: start.0,
        frames: frames as u64,
        sample_rate,
    })
}

/// A sidecar on its way to the disk: its name is known only once it is there.
struct Hashed {
    hash: Sha256,
    bytes: u64,
    /// What can't be written is hashed all the same: the same file may be there already.
    aside: io::Result<Aside>,
}

impl Hashed {
    fn in_folder(dir: &Path) -> Self {
        let aside = fs::create_dir_all(dir).and_then(|()| {
            sweep(dir);
            Aside::beside(&dir.join("sidecar"))
        });
        Self {
            hash: Sha256::new(),
            bytes: 0,
            aside,
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        if let Ok(aside) = &mut self.aside
            && let Err(error) = aside.write_all(bytes)
        {
            self.aside = Err(error);
        }
    }

    /// Hash, length and what was written.
    fn finish(self) -> (String, u64, io::Result<Aside>) {
        (hex(&self.hash.finalize()), self.bytes, self.aside)
    }
}

/// Removes what processes that died have left of sidecars.
fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|meta| meta.modified());
        if modified.is_ok_and(|modified| is_abandoned(&entry.path(), modified)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Reads a committed patch and its notes from the first of `dirs` that holds an intact copy.
///
/// # Errors
/// If the reference is malformed, no folder holds the file, or no copy matches the reference (then the
/// first copy's fault is told).
pub fn load(dirs: &[&Path], commit: &CommitRef) -> Result<(Patch, String), CommitError> {
    check_name(commit)?;
    first(dirs, commit, |path| {
        let bytes = intact(path, commit)?;
        bytes.map(|bytes| parse(path, &bytes, commit)).transpose()
    })
}

/// Sees to it that `to` (created if missing) holds an intact copy of a sidecar: what is there, or one from the first of
/// `from` that has one. Waits until it is on disk.
///
/// # Errors
/// As [`load`]; if the disk refuses.
pub fn copy(from: &[&Path], commit: &CommitRef, to: &Path) -> Result<(), CommitError> {
    check_name(commit)?;
    let path = to.join(&commit.file);
    if let Ok(Some(_)) = intact(&path, commit) {
        return Ok(());
    }
    let bytes = first(from, commit, |path| intact(path, commit))?;
    fs::create_dir_all(to)
        .and_then(|()| write_aside(&path, &[&bytes], true))
        .map_err(|source| CommitError::Io { path, source })
}

/// What `read` makes of the first copy of a sidecar that it accepts.
fn first<T>(
    dirs: &[&Path],
    commit: &CommitRef,
    read: impl Fn(&Path) -> Result<Option<T>, CommitError>,
) -> Result<T, CommitError> {
    let mut first_fault = None;
    for dir in dirs {
        match read(&dir.join(&commit.file)) {
            Ok(Some(read)) => return Ok(read),
            Ok(None) => {}
            Err(fault) => {
                first_fault.get_or_insert(fault);
            }
        }
    }
    Err(first_fault.unwrap_or_else(|| CommitError::Missing {
        file: commit.file.clone(),
        searched: if dirs.is_empty() {
            "any folder".to_owned()
        } else {
            let names: Vec<String> = dirs.iter().map(|d| d.display().to_string()).collect();
            names.join(", ")
        },
    }))
}

/// Only `<64 hex digits>.uncookpatch` with the reference's own hash is ever opened: no separators, no
/// parents, no devices.
fn check_name(commit: &CommitRef) -> Result<(), CommitError> {
    let digits = commit.hash.len() == 64
        && commit
            .hash
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if digits && commit.file == format!("{}.{EXTENSION}", commit.hash) {
        Ok(())
    } else {
        Err(CommitError::BadName {
            file: commit.file.chars().take(200).collect(),
        })
    }
}

/// The bytes of a sidecar, which hash to its name; `None` if there is no such file.
fn intact(path: &Path, commit: &CommitRef) -> Result<Option<Vec<u8>>, CommitError> {
    let io_fault = |source| CommitError::Io {
        path: path.to_owned(),
        source,
    };
    let damaged = |reason: String| CommitError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_fault(e)),
    };
    if !meta.is_file() || meta.len() > MAX_FILE_BYTES {
        return Err(damaged(format!("{} bytes, not a repair file", meta.len())));
    }
    let bytes = fs::read(path).map_err(io_fault)?;
    let hash = hex(&Sha256::digest(&bytes));
    if hash != commit.hash {
        return Err(damaged(format!("its {} bytes hash to {hash}", bytes.len())));
    }
    Ok(Some(bytes))
}

fn parse(path: &Path, bytes: &[u8], commit: &CommitRef) -> Result<(Patch, String), CommitError> {
    let damaged = |e: CodecError| CommitError::Damaged {
        path: path.to_owned(),
        reason: e.to_string(),
    };
    let mismatch = |what, expected: String, actual: String| CommitError::Mismatch {
        path: path.to_owned(),
        what,
        expected,
        actual,
    };
    let mut reader = Reader::new(bytes);
    if reader.take(MAGIC.len()).map_err(damaged)? != MAGIC {
        return Err(CommitError::Damaged {
            path: path.to_owned(),
            reason: "not a repair file".to_owned(),
        });
    }
    let version = reader.u32().map_err(damaged)?;
    if version > VERSION {
        return Err(CommitError::TooNew {
            path: path.to_owned(),
            expected: VERSION,
            actual: version,
        });
    }
    let start = reader.i64().map_err(damaged)?;
    let sample_rate = reader.u32().map_err(damaged)?;
    let frames = reader.u64().map_err(damaged)?;
    if start != commit.start {
        return Err(mismatch(
            "start",
            commit.start.to_string(),
            start.to_string(),
        ));
    }
    if sample_rate != commit.sample_rate {
        return Err(mismatch(
            "sample rate",
            commit.sample_rate.to_string(),
            sample_rate.to_string(),
        ));
    }
    if frames != commit.frames {
        return Err(mismatch(
            "length",
            commit.frames.to_string(),
            frames.to_string(),
        ));
    }
    let present = reader.u32().map_err(damaged)?;
    if present >> Stem::COUNT != 0 {
        return Err(damaged(CodecError::OutOfRange {
            what: "set of layers",
            actual: u64::from(present),
            expected: "at most 15",
        }));
    }
    let buffers = 2 + u64::from(present.count_ones());
    check_samples(frames.saturating_mul(2 * buffers)).map_err(damaged)?;
    let meta_len = reader.u64().map_err(damaged)?;
    if meta_len > MAX_META_BYTES {
        return Err(damaged(CodecError::OutOfRange {
            what: "size of the notes",
            actual: meta_len,
            expected: "at most 64 MiB",
        }));
    }
    let meta = reader.take(meta_len as usize).map_err(damaged)?;
    let meta = String::from_utf8(meta.to_vec()).map_err(|e| CommitError::Damaged {
        path: path.to_owned(),
        reason: e.to_string(),
    })?;
    let (start, frames) = (SamplePos(start), frames as usize);
    let mut stereo = |like: &[&Samples]| unpack(&mut reader, start, frames, like).map_err(damaged);
    let take = stereo(&[])?;
    let base = stereo(&take.each_ref())?;
    let mut layers: [Option<StereoSamples>; Stem::COUNT] = Default::default();
    for (i, layer) in layers.iter_mut().enumerate() {
        if present >> i & 1 == 1 {
            *layer = Some(stereo(&[])?);
        }
    }
    reader.finish().map_err(damaged)?;
    let patch = Patch {
        id: commit.hash.clone(),
        start,
        sample_rate,
        take,
        base,
        layers,
    };
    Ok((patch, meta))
}

/// Appends a channel, packed as if it were one slice.
fn pack(samples: &Samples, out: &mut Hashed) {
    let (mut piece, mut bytes) = ([0.0; PIECE], Vec::new());
    for start in (0..samples.len()).step_by(PIECE) {
        let piece = &mut piece[..PIECE.min(samples.len() - start)];
        samples.read(start, piece);
        bytes.clear();
        pack_samples(piece, &mut bytes);
        out.append(&bytes);
    }
}

/// Both channels, sharing with each other and with `like`.
fn unpack(
    reader: &mut Reader<'_>,
    start: SamplePos,
    frames: usize,
    like: &[&Samples],
) -> Result<StereoSamples, CodecError> {
    let unknown = |actual: u8| CodecError::OutOfRange {
        what: "kind of channel",
        actual: u64::from(actual),
        expected: "0 or 1",
    };
    let channel = |reader: &mut Reader<'_>, like: &[&Samples]| {
        let mut out = Samples::new(start);
        while out.len() < frames {
            let piece = unpack_samples(reader, PIECE.min(frames - out.len()))?;
            out.extend(&piece, like);
        }
        out.finish(like);
        Ok(out)
    };
    let left = match reader.u8()? {
        OWN => channel(reader, like)?,
        other => return Err(unknown(other)),
    };
    let right = match reader.u8()? {
        OWN => channel(reader, &[&[&left], like].concat())?,
        SAME_AS_LEFT => left.clone(),
        other => return Err(unknown(other)),
    };
    Ok([left, right])
}
