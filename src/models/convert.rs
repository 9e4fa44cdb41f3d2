// [worker] Converts a checkpoint once to a safetensors file that maps at once, under the source's hash.
//!
//! A PyTorch zip opens slowly when it is large and unchecked: its sums have to be compared and its storages
//! found. The converted file holds the same tensors in their own precision, row-major, and the pickle, so
//! that [`Checkpoint`] gives the same names and values from either.

use std::{
    borrow::Cow,
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use safetensors::{Dtype, View};

use super::{
    checkpoint::{Checkpoint, CheckpointError, DType, Limits},
    hash,
};
use crate::system::{aside, write_aside};

/// Why a checkpoint could not be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("{path} can't be written: {source}; free some space or choose another disk", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} can't be written as safetensors: {what}", path = path.display())]
    Form { path: PathBuf, what: String },
}

/// One tensor on its way out: gathered only when it is written.
struct Out<'a> {
    file: &'a Checkpoint,
    name: &'a str,
    dtype: DType,
    shape: &'a [usize],
}

impl View for Out<'_> {
    fn dtype(&self) -> Dtype {
        match self.dtype {
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            DType::F32 => Dtype::F32,
            DType::F64 => Dtype::F64,
            DType::U8 => Dtype::U8,
            DType::I8 => Dtype::I8,
            DType::I16 => Dtype::I16,
            DType::I32 => Dtype::I32,
            DType::I64 => Dtype::I64,
            DType::Bool => Dtype::BOOL,
        }
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.file
            .tensor(self.name)
            .map(|view| view.bytes)
            .unwrap_or_default()
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bytes()
    }
}

/// Opens `source` through its converted copy in `folder`, which is made on the first call. A safetensors
/// file is opened as it is.
///
/// The copy is named by the source's SHA-256. A note under the source's path, length and time of change
/// remembers that hash, so that the second call reads neither the source nor its hash. The copy is written
/// aside and renamed: a reader never sees a part of it, and several processes may convert at once.
///
/// # Errors
/// If the source can't be used, is damaged (its checksums are compared), or the copy can't be written.
pub fn convert_once(
    source: &Path,
    folder: &Path,
    limits: &Limits,
) -> Result<Checkpoint, ConvertError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ConvertError::Io { path, source }
    };
    let unreadable = |error| {
        ConvertError::Checkpoint(CheckpointError::Io {
            path: source.to_owned(),
            source: error,
        })
    };
    let metadata = fs::metadata(source).map_err(unreadable)?;
    let note = folder.join(format!("{}.source", stamp(source, &metadata)));
    if let Ok(sum) = fs::read_to_string(&note)
        && sum.len() == 64
        && sum.bytes().all(|b| b.is_ascii_hexdigit())
        && let Ok(file) = Checkpoint::open(converted_path(folder, &sum), limits)
    {
        return Ok(file);
    }
    let original = Checkpoint::open(source, limits)?;
    if original.pickle().is_none() {
        return Ok(original);
    }
    original.verify_sums()?;
    let sum = hash::sha256_file(source, &|_| true)
        .map_err(unreadable)?
        .unwrap_or_default();
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let path = converted_path(folder, &sum);
    let file = match Checkpoint::open(&path, limits) {
        Ok(file) => file,
        Err(_) => {
            write(&original, &path)?;
            Checkpoint::open(&path, limits)?
        }
    };
    write_aside(&note, &[sum.as_bytes()], false).map_err(failed(&note))?;
    Ok(file)
}

/// Where the converted copy of a source with this SHA-256 lies.
pub fn converted_path(folder: &Path, sha256: &str) -> PathBuf {
    folder.join(format!("{sha256}.safetensors"))
}

/// What tells one state of a file from another without reading it.
fn stamp(source: &Path, metadata: &fs::Metadata) -> String {
    let changed = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |time| time.as_nanos());
    let path = fs::canonicalize(source).unwrap_or_else(|_| source.to_owned());
    let text = format!("{}\n{}\n{changed}", path.display(), metadata.len());
    hash::sha256(text.as_bytes())[..32].to_owned()
}

fn write(original: &Checkpoint, path: &Path) -> Result<(), ConvertError> {
    let tensors = original.distinct().map(|(name, dtype, shape)| {
        (
            name,
            Out {
                file: original,
                name,
                dtype,
                shape,
            },
        )
    });
    let pickle = original.pickle().unwrap_or_default();
    let metadata = HashMap::from([(super::checkpoint::PICKLE_KEY.to_owned(), text(pickle))]);
    let aside = aside(path);
    let done = safetensors::serialize_to_file(tensors, Some(metadata), &aside)
        .map_err(|error| match error {
            safetensors::SafeTensorError::IoError(source) => ConvertError::Io {
                path: path.to_owned(),
                source,
            },
            other => ConvertError::Form {
                path: path.to_owned(),
                what: other.to_string(),
            },
        })
        .and_then(|()| {
            let finish = || {
                fs::File::open(&aside)?.sync_all()?;
                fs::rename(&aside, path)
            };
            finish().map_err(|source| ConvertError::Io {
                path: path.to_owned(),
                source,
            })
        });
    if done.is_err() {
        // What is left aside is of no use; if even this fails there is nothing more to do about it.
        let _ = fs::remove_file(&aside);
    }
    done
}

/// Bytes as text: each byte is the character of that number.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char::from(b)).collect()
}
