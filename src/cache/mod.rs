// [worker] Content-addressed results of the road's stages on disk, and committed patches beside a project.
//!
//! A result is stored under a [`Key`]: the SHA-256 of the stage's name, its version and everything that
//! went into it. Several threads and processes may share one directory: entries are written aside and
//! renamed, every payload carries its hash, and whatever does not check is dropped and rebuilt.

pub mod codec;
pub mod commits;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::system::{hash::hex, is_abandoned, write_aside};

pub use codec::{CodecError, append_audio, decode_audio, decode_value, encode_audio, encode_value};

/// Default limit on the store's size in bytes: 4 GB.
pub const DEFAULT_LIMIT_BYTES: u64 = 4_000_000_000;

/// First bytes of an entry; the digit is the layout's version.
const MAGIC: [u8; 8] = *b"UNCKCA\x00\x01";
/// Magic, payload length (u64), SHA-256 of the payload.
const HEADER_BYTES: usize = 8 + 8 + 32;
/// Entries end on this.
const ENTRY_EXTENSION: &str = "entry";
/// An eviction goes down to 9/10 of the limit, so that the next one is not due at the next write.
const EVICT_TO_TENTHS: u64 = 9;
/// The directory is counted anew after this share of the limit was written here: what other processes
/// wrote meanwhile is then seen, so that `n` processes overshoot by at most `n/16` of the limit.
const RECOUNT_SHARE: u64 = 16;

/// Why the store could not be opened or written. A cache that fails costs time, never a result: callers
/// go on without it.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("cache {path}: {source}; free some space or choose another cache folder", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "a result of {bytes} bytes does not fit into the cache's {limit} bytes; raise the limit"
    )]
    TooLarge { bytes: u64, limit: u64 },
    #[error("this system names no cache folder; choose one")]
    NoDefault,
}

/// The address of a result: lower-case hex SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// 64 lower-case hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Collects what a result depends on. Every item is written with its kind and length, so that no two
/// different sequences of items give the same bytes.
#[derive(Clone)]
pub struct KeyBuilder(Sha256);

impl KeyBuilder {
    /// A key of `stage` in its `version`; raise the version whenever the stage's output changes.
    pub fn new(stage: &str, version: u32) -> Self {
        Self(Sha256::new()).str(stage).u64(u64::from(version))
    }

    fn item(mut self, kind: u8, len: usize) -> Self {
        self.0.update([kind]);
        self.0.update((len as u64).to_le_bytes());
        self
    }

    /// Adds raw bytes.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let mut this = self.item(b'b', bytes.len());
        this.0.update(bytes);
        this
    }

    /// Adds a number. Use [`f64::to_bits`] for settings.
    #[must_use]
    pub fn u64(self, value: u64) -> Self {
        let mut this = self.item(b'u', 8);
        this.0.update(value.to_le_bytes());
        this
    }

    /// Adds text.
    #[must_use]
    pub fn str(self, text: &str) -> Self {
        let mut this = self.item(b's', text.len());
        this.0.update(text.as_bytes());
        this
    }

    /// Adds one channel of samples, bit for bit.
    #[must_use]
    pub fn samples(self, samples: &[f32]) -> Self {
        let mut this = self.item(b'f', samples.len());
        let mut buffer = [0u8; 4096];
        for chunk in samples.chunks(buffer.len() / 4) {
            for (to, from) in buffer.chunks_exact_mut(4).zip(chunk) {
                to.copy_from_slice(&from.to_le_bytes());
            }
            this.0.update(&buffer[..chunk.len() * 4]);
        }
        this
    }

    /// The key.
    pub fn finish(self) -> Key {
        Key(hex(&self.0.finalize()))
    }
}

/// What happened since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    pub hits: u64,
    pub misses: u64,
    /// Entries dropped because they were truncated or did not match their hash.
    pub corrupted: u64,
    /// Entries dropped to stay within the limit.
    pub evicted: u64,
}

/// A size-bounded store of stage results. Shareable between threads by reference, and between processes
/// by directory.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    limit: u64,
    size: Mutex<SizeEstimate>,
    hits: AtomicU64,
    misses: AtomicU64,
    corrupted: AtomicU64,
    evicted: AtomicU64,
}

#[derive(Debug, Default)]
struct SizeEstimate {
    /// Bytes at the last count, plus what was written here since.
    bytes: u64,
    since_count: u64,
}

struct Listed {
    used: SystemTime,
    path: PathBuf,
    bytes: u64,
}

impl Cache {
    /// The user's cache folder for Uncook.
    ///
    /// # Errors
    /// [`CacheError::NoDefault`] where the system names none (no home folder).
    pub fn default_dir() -> Result<PathBuf, CacheError> {
        directories::ProjectDirs::from("", "", "uncook")
            .map(|dirs| dirs.cache_dir().to_owned())
            .ok_or(CacheError::NoDefault)
    }

    /// Opens the store in `dir` (created if missing), bounded to `limit_bytes`.
    ///
    /// # Errors
    /// If the folder can't be created or read.
    pub fn open(dir: &Path, limit_bytes: u64) -> Result<Self, CacheError> {
        fs::create_dir_all(dir).map_err(|source| CacheError::Io {
            path: dir.to_owned(),
            source,
        })?;
        let cache = Self {
            dir: dir.to_owned(),
            limit: limit_bytes,
            size: Mutex::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            corrupted: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        };
        cache.enforce_limit(&mut cache.size.lock())?;
        Ok(cache)
    }

    /// Where it lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What happened so far.
    pub fn counts(&self) -> CacheCounts {
        CacheCounts {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            corrupted: self.corrupted.load(Ordering::Relaxed),
            evicted: self.evicted.load(Ordering::Relaxed),
        }
    }

    fn path(&self, key: &Key) -> PathBuf {
        // Two digits of fan-out keep folders small for file systems that search them linearly.
        self.dir
            .join(&key.0[..2])
            .join(format!("{}.{ENTRY_EXTENSION}", key.0))
    }

    /// The payload under `key`, its hash verified. `None` means: build it. A truncated or corrupted
    /// entry is removed and counted; one that can't be read for another reason counts as a miss.
    pub fn get(&self, key: &Key) -> Option<Vec<u8>> {
        let path = self.path(key);
        let Ok(mut bytes) = fs::read(&path) else {
            self.misses.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        if !is_intact(&bytes) {
            // Should another process have replaced it meanwhile, a good entry is lost and rebuilt.
            let _ = fs::remove_file(&path);
            self.corrupted.fetch_add(1, Ordering::Relaxed);
            self.misses.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        // The modification time is the time of last use: access times are off on many systems. On a
        // read-only folder this fails, and then nothing is evicted either.
        if let Ok(file) = fs::File::options().write(true).open(&path) {
            let _ = file.set_modified(SystemTime::now());
        }
        self.hits.fetch_add(1, Ordering::Relaxed);
        bytes.drain(..HEADER_BYTES);
        Some(bytes)
    }

    /// Whether there is an entry under `key`: it has not been read, and may turn out damaged.
    pub fn contains(&self, key: &Key) -> bool {
        self.path(key).is_file()
    }

    /// Stores `payload` under `key`, replacing what was there; evicts what was used longest ago if the
    /// store is then over its limit.
    ///
    /// # Errors
    /// If the disk refuses or `payload` alone is larger than the limit.
    pub fn put(&self, key: &Key, payload: &[u8]) -> Result<(), CacheError> {
        let bytes = (payload.len() + HEADER_BYTES) as u64;
        if bytes > self.limit {
            return Err(CacheError::TooLarge {
                bytes,
                limit: self.limit,
            });
        }
        let path = self.path(key);
        let mut header = [0u8; HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..16].copy_from_slice(&(payload.len() as u64).to_le_bytes());
        header[16..].copy_from_slice(&Sha256::digest(payload));
        // No fsync: an entry lost or torn in a power cut fails its hash and is rebuilt.
        path.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| write_aside(&path, &[&header, payload], false))
            .map_err(|source| CacheError::Io { path, source })?;
        let mut size = self.size.lock();
        size.bytes = size.bytes.saturating_add(bytes);
        size.since_count = size.since_count.saturating_add(bytes);
        if size.bytes > self.limit || size.since_count > self.limit / RECOUNT_SHARE {
            self.enforce_limit(&mut size)?;
        }
        Ok(())
    }

    /// Counts the store, and deletes the entries used longest ago while it is over its limit.
    fn enforce_limit(&self, size: &mut SizeEstimate) -> Result<(), CacheError> {
        let mut entries = self.list().map_err(|source| CacheError::Io {
            path: self.dir.clone(),
            source,
        })?;
        let mut total: u64 = entries.iter().map(|e| e.bytes).sum();
        if total > self.limit {
            entries.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
            let target = self.limit / 10 * EVICT_TO_TENTHS;
            for entry in &entries {
                if total <= target {
                    break;
                }
                // Another process may have been first; its bytes are gone all the same.
                if fs::remove_file(&entry.path).is_ok() {
                    self.evicted.fetch_add(1, Ordering::Relaxed);
                }
                total -= entry.bytes;
            }
        }
        *size = SizeEstimate {
            bytes: total,
            since_count: 0,
        };
        Ok(())
    }

    /// Every entry; files left aside by a process that died are swept on the way.
    fn list(&self) -> io::Result<Vec<Listed>> {
        let mut out = Vec::new();
        for shelf in fs::read_dir(&self.dir)? {
            let shelf = shelf?.path();
            // Files and folders that are not ours are left alone.
            let ours = shelf
                .file_name()
                .and_then(|n| n.to_str())
                .is_some_and(|n| n.len() == 2 && n.bytes().all(|b| b.is_ascii_hexdigit()));
            let Ok(files) = (if ours { fs::read_dir(&shelf) } else { continue }) else {
                continue;
            };
            for file in files.flatten() {
                let (path, Ok(meta)) = (file.path(), file.metadata()) else {
                    continue;
                };
                let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                if path.extension().is_some_and(|e| e == ENTRY_EXTENSION) {
                    out.push(Listed {
                        used,
                        path,
                        bytes: meta.len(),
                    });
                } else if is_abandoned(&path, used) {
                    let _ = fs::remove_file(&path);
                }
            }
        }
        Ok(out)
    }
}

/// Whether an entry's bytes are whole: magic, length and hash.
fn is_intact(bytes: &[u8]) -> bool {
    let Some((header, payload)) = bytes.split_at_checked(HEADER_BYTES) else {
        return false;
    };
    header[..8] == MAGIC
        && header[8..16] == (payload.len() as u64).to_le_bytes()
        && header[16..] == Sha256::digest(payload)[..]
}
