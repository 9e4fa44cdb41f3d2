// [worker] The directory of a zip whose files are stored as they are: where each lies in a mapped file.

use std::{collections::BTreeMap, ops::Range};

use super::limits::Limits;

/// Signatures of the records (PKWARE APPNOTE 6.3.10, section 4.3).
const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const END64_LOCATOR: u32 = 0x0706_4b50;
/// Fixed lengths of those records in bytes.
const LOCAL_BYTES: usize = 30;
const CENTRAL_BYTES: usize = 46;
const END_BYTES: usize = 22;
const END64_BYTES: usize = 56;
const END64_LOCATOR_BYTES: usize = 20;
/// The longest comment behind the end record.
const MAX_COMMENT: usize = 0xffff;
/// Longest path inside the zip that any writer of checkpoints makes, with room to spare.
const MAX_PATH: usize = 512;

/// Why a zip can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    #[error("its end is missing (no zip directory in the last {searched} bytes)")]
    NoEnd { searched: usize },
    #[error("its zip directory points outside the file ({what})")]
    Outside { what: &'static str },
    #[error("its zip directory is inconsistent ({what})")]
    Inconsistent { what: &'static str },
    #[error("it holds {actual} files, at most {limit} are accepted")]
    TooMany { actual: u64, limit: usize },
    #[error("{entry} is compressed or encrypted, which PyTorch never does")]
    Packed { entry: String },
}

/// One file inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where its bytes lie in the zip.
    pub bytes: Range<usize>,
    /// CRC-32 as the directory states it.
    pub crc32: u32,
}

/// Path inside the zip → where it lies.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    pub entries: BTreeMap<String, Entry>,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let b = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(b.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let b = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(b.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let b = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(b.try_into().ok()?))
}

/// Where the central directory lies.
struct Directory {
    entries: u64,
    at: usize,
    len: usize,
}

impl Archive {
    /// Reads the directory of `bytes`, the whole zip.
    ///
    /// # Errors
    /// If the directory is missing, too large, or names bytes that are not in the file.
    pub fn open(bytes: &[u8], limits: &Limits) -> Result<Self, ArchiveError> {
        let directory = find_directory(bytes)?;
        if directory.entries > limits.entries as u64 {
            return Err(ArchiveError::TooMany {
                actual: directory.entries,
                limit: limits.entries,
            });
        }
        let outside = ArchiveError::Outside { what: "directory" };
        let end = directory
            .at
            .checked_add(directory.len)
            .filter(|&end| end <= bytes.len())
            .ok_or(outside)?;
        let records = &bytes[directory.at..end];
        let mut entries = BTreeMap::new();
        let mut at = 0;
        for _ in 0..directory.entries {
            let (name, entry, next) = read_record(bytes, records, at, directory.at)?;
            if entries.insert(name, entry).is_some() {
                return Err(ArchiveError::Inconsistent {
                    what: "one path twice",
                });
            }
            at = next;
        }
        Ok(Self { entries })
    }
}

fn find_directory(bytes: &[u8]) -> Result<Directory, ArchiveError> {
    let first = bytes.len().saturating_sub(END_BYTES + MAX_COMMENT);
    let missing = ArchiveError::NoEnd {
        searched: bytes.len() - first,
    };
    let last = bytes
        .len()
        .checked_sub(END_BYTES)
        .ok_or_else(|| missing.clone())?;
    let at = (first..=last)
        .rev()
        .find(|&at| {
            u32_at(bytes, at) == Some(END)
                && u16_at(bytes, at + 20)
                    .is_some_and(|comment| at + END_BYTES + usize::from(comment) == bytes.len())
        })
        .ok_or(missing)?;
    let outside = || ArchiveError::Outside { what: "end record" };
    let entries = u64::from(u16_at(bytes, at + 10).ok_or_else(outside)?);
    let len = u64::from(u32_at(bytes, at + 12).ok_or_else(outside)?);
    let start = u64::from(u32_at(bytes, at + 16).ok_or_else(outside)?);
    let saturated = entries == 0xffff || len == 0xffff_ffff || start == 0xffff_ffff;
    let (entries, len, start) = if saturated {
        find_end64(bytes, at)?
    } else {
        (entries, len, start)
    };
    Ok(Directory {
        entries,
        at: usize::try_from(start).map_err(|_| outside())?,
        len: usize::try_from(len).map_err(|_| outside())?,
    })
}

/// Entries, length and start of the directory from the 64-bit end record.
fn find_end64(bytes: &[u8], end: usize) -> Result<(u64, u64, u64), ArchiveError> {
    let outside = || ArchiveError::Outside {
        what: "64-bit end record",
    };
    let locator = end.checked_sub(END64_LOCATOR_BYTES).ok_or_else(outside)?;
    if u32_at(bytes, locator) != Some(END64_LOCATOR) {
        return Err(ArchiveError::Inconsistent {
            what: "no 64-bit end record",
        });
    }
    let at = u64_at(bytes, locator + 8)
        .and_then(|at| usize::try_from(at).ok())
        .filter(|&at| {
            at.checked_add(END64_BYTES)
                .is_some_and(|end| end <= locator)
        })
        .ok_or_else(outside)?;
    if u32_at(bytes, at) != Some(END64) {
        return Err(ArchiveError::Inconsistent {
            what: "64-bit end record",
        });
    }
    let field = |offset| u64_at(bytes, at + offset).ok_or_else(outside);
    Ok((field(32)?, field(40)?, field(48)?))
}

/// The record at `at` of `records`: path, entry, and where the next record starts.
fn read_record(
    bytes: &[u8],
    records: &[u8],
    at: usize,
    directory_at: usize,
) -> Result<(String, Entry, usize), ArchiveError> {
    let outside = || ArchiveError::Outside {
        what: "directory record",
    };
    if u32_at(records, at) != Some(CENTRAL) {
        return Err(ArchiveError::Inconsistent {
            what: "directory record",
        });
    }
    let half = |offset| u16_at(records, at + offset).ok_or_else(outside);
    let word = |offset| u32_at(records, at + offset).ok_or_else(outside);
    let (flags, method, crc32) = (half(8)?, half(10)?, word(16)?);
    let name_len = usize::from(half(28)?);
    let (extra_len, comment_len) = (usize::from(half(30)?), usize::from(half(32)?));
    let name_at = at + CENTRAL_BYTES;
    let name = records
        .get(name_at..name_at + name_len)
        .ok_or_else(outside)?;
    let extra = records
        .get(name_at + name_len..name_at + name_len + extra_len)
        .ok_or_else(outside)?;
    let next = name_at + name_len + extra_len + comment_len;
    let path = std::str::from_utf8(name)
        .ok()
        .filter(|path| path.len() <= MAX_PATH)
        .ok_or(ArchiveError::Inconsistent { what: "a path" })?
        .to_owned();

    let mut sizes = [
        u64::from(word(24)?),
        u64::from(word(20)?),
        u64::from(word(42)?),
    ];
    widen(&mut sizes, extra)?;
    let [size, packed_size, local_at] = sizes;
    // Bit 0 of the flags: encrypted. Method 0: stored.
    if method != 0 || flags & 1 != 0 || size != packed_size {
        return Err(ArchiveError::Packed { entry: path });
    }
    let local_at = usize::try_from(local_at).map_err(|_| outside())?;
    if u32_at(bytes, local_at) != Some(LOCAL) {
        return Err(ArchiveError::Inconsistent {
            what: "no file where the directory says",
        });
    }
    let skip = |offset| u16_at(bytes, local_at + offset).ok_or_else(outside);
    let (local_name, local_extra) = (usize::from(skip(26)?), usize::from(skip(28)?));
    if bytes.get(local_at + LOCAL_BYTES..local_at + LOCAL_BYTES + local_name) != Some(name) {
        return Err(ArchiveError::Inconsistent {
            what: "a file under two paths",
        });
    }
    let start = local_at + LOCAL_BYTES + local_name + local_extra;
    let end = usize::try_from(size)
        .ok()
        .and_then(|size| start.checked_add(size))
        .filter(|&end| end <= directory_at)
        .ok_or(ArchiveError::Outside {
            what: "a file's bytes",
        })?;
    let entry = Entry {
        bytes: start..end,
        crc32,
    };
    Ok((path, entry, next))
}

/// Replaces saturated fields by those of the 64-bit extra field (id 1), which come in this order.
fn widen(sizes: &mut [u64; 3], extra: &[u8]) -> Result<(), ArchiveError> {
    const SATURATED: u64 = 0xffff_ffff;
    if !sizes.contains(&SATURATED) {
        return Ok(());
    }
    let missing = ArchiveError::Inconsistent {
        what: "64-bit sizes are missing",
    };
    let mut at = 0;
    while let (Some(id), Some(len)) = (u16_at(extra, at), u16_at(extra, at + 2)) {
        let (start, len) = (at + 4, usize::from(len));
        if id == 1 {
            let field = extra
                .get(start..start + len)
                .ok_or_else(|| missing.clone())?;
            let mut from = 0;
            for size in sizes.iter_mut().filter(|size| **size == SATURATED) {
                *size = u64_at(field, from).ok_or_else(|| missing.clone())?;
                from += 8;
            }
            return Ok(());
        }
        at = start + len;
    }
    Err(missing)
}
