// [worker] What a model's room makes of a checkpoint, kept in a file that maps at once.
//!
//! Opening a large model takes seconds: its numbers are widened and laid out as the processor's kernels read them.
//! The first opening keeps the result, a [`Copy`](struct@Copy), as safetensors: the laid-out arrays begin on cache lines and are
//! used where they lie in the mapped file; small tensors are kept as the source has them.
//!
//! ```text
//! <folder>/<source's sha256>.<form>.safetensors    a copy
//! <folder>/<hash of path, length, time>.source     the hash that a source had when it was last seen
//! ```
//!
//! A copy is named by the source's SHA-256, by what was made of it and by the width of the processor's vectors.
//! A note under the source's path, length and time of change remembers that hash, so that a later opening reads
//! neither the source nor its hash. Copies are written aside and renamed: a reader never sees a part of one, and
//! several processes may make the same one at once.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::UNIX_EPOCH,
};

use memmap2::Mmap;
use serde_json::json;

use super::{
    checkpoint::{Checkpoint, CheckpointError, DType, Limits},
    hash,
};
use crate::{
    dense::aligned::Lent,
    system::{aside, is_abandoned, replace, write_aside},
};

/// Arrays begin on these many bytes.
const LINE: usize = 64;
/// Of this many places all over a copy, so many bytes each are compared when it is opened.
const LOOKS: usize = 64;
const LOOK_BYTES: usize = 4096;
/// The last tensor of a copy: the SHA-256 of what is looked at before it.
const CHECK: &str = "~check";
const CHECK_BYTES: usize = 32;
/// Bytes between an array's end and the next line.
const FILLER: &str = "~filler.";
/// The note in a copy that holds the shapes of the source's tensors.
const SHAPES: &str = "shapes";
const EXTENSION: &str = "safetensors";
const NOTE_EXTENSION: &str = "source";

/// Why a copy could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("{path} can't be written: {source}; free some space or choose another disk", path = path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// What is made of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Name and version, raised when other numbers are kept: `jasco-1`.
    pub name: &'static str,
    /// Floats in the processor's vectors, whose width decides how arrays are laid out.
    pub lanes: usize,
}

impl Form {
    fn path(&self, folder: &Path, sha256: &str) -> PathBuf {
        let Self { name, lanes } = self;
        folder.join(format!("{sha256}.{name}-{lanes}.{EXTENSION}"))
    }
}

/// An open copy.
pub struct Copy {
    checkpoint: Checkpoint,
    /// Of the source's tensors, kept or not.
    shapes: BTreeMap<String, Vec<usize>>,
}

impl Copy {
    /// The copy of `source` in `folder`, if there is one and it is whole as far as a bounded look tells. Reads
    /// nothing of the source whose note is there.
    pub fn find(source: &Path, folder: &Path, form: &Form) -> Option<Self> {
        let sum = noted(&note_path(source, folder)?)?;
        Self::open(&form.path(folder, &sum))
    }

    fn open(path: &Path) -> Option<Self> {
        if cfg!(target_endian = "big") {
            return None;
        }
        let checkpoint = Checkpoint::open(path, &Limits::default()).ok()?;
        let map = checkpoint.map();
        let (data, check) = map.split_at_checked(map.len().checked_sub(CHECK_BYTES)?)?;
        if check != looks(data) {
            return None;
        }
        let shapes = checkpoint.root().as_dict()?.get(SHAPES)?.as_str()?;
        let shapes = serde_json::from_str(shapes).ok()?;
        Some(Self { checkpoint, shapes })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.checkpoint.path()
    }

    /// Deletes it, for who can't use what is in it: it is made anew at the next opening, not found again.
    pub fn discard(self) {
        let path = self.path().to_owned();
        drop(self);
        // Where that fails (somebody else maps it), it is found unfit again, which costs time only.
        let _ = fs::remove_file(path);
    }

    /// A text that was kept.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.checkpoint.root().as_dict()?.get(key)?.as_str()
    }

    /// The shape that a tensor of the source has.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.shapes.get(name).map(Vec::as_slice)
    }

    /// An array that was kept, where it lies in the file.
    pub fn array(&self, name: &str) -> Option<Lent> {
        let place = self.checkpoint.place(name)?;
        let bytes = self.checkpoint.map().get(place.clone())?;
        let fits = self.checkpoint.dtype(name) == Some(DType::F32)
            && bytes.as_ptr().cast::<f32>().is_aligned()
            && bytes.len() % size_of::<f32>() == 0;
        fits.then(|| {
            Arc::new(Mapped {
                map: self.checkpoint.map().clone(),
                start: place.start,
                floats: place.len() / size_of::<f32>(),
            }) as Lent
        })
    }

    /// A tensor that was kept as the source has it; see [`Checkpoint::tensor_f32`].
    ///
    /// # Errors
    /// If it wasn't kept, has another shape, or holds integers.
    pub fn tensor_f32(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, CheckpointError> {
        self.checkpoint.tensor_f32(name, expected)
    }
}

/// Floats of a mapped file.
struct Mapped {
    map: Arc<Mmap>,
    start: usize,
    floats: usize,
}

impl AsRef<[f32]> for Mapped {
    fn as_ref(&self) -> &[f32] {
        let bytes = &self.map[self.start..][..self.floats * size_of::<f32>()];
        // SAFETY: `Copy::array` found the beginning aligned, and the map, which is held here, doesn't move. Any bits
        // are a float, and nobody writes to a copy that has its name.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), self.floats) }
    }
}

/// A copy that is being made: everything that an opening asks the source for is noted here.
pub struct Draft<'a> {
    source: &'a Checkpoint,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    texts: BTreeMap<String, String>,
    shapes: BTreeMap<String, Vec<usize>>,
    /// Name in the copy → name in the source.
    tensors: BTreeMap<String, String>,
    arrays: BTreeMap<String, Lent>,
}

/// One tensor of the file that is written.
enum Part<'a> {
    Array(&'a Lent),
    Tensor(&'a str),
    Zeros(usize),
}

impl<'a> Draft<'a> {
    /// Nothing yet of `source`.
    ///
    /// # Errors
    /// If the source is damaged: its checksums are compared, where it has them, so that no damage gets into a copy.
    pub fn new(source: &'a Checkpoint) -> Result<Self, CheckpointError> {
        source.verify_sums()?;
        Ok(Self {
            source,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a text, for [`Copy::text`].
    pub fn text(&self, key: &str, text: &str) {
        self.state().texts.insert(key.to_owned(), text.to_owned());
    }

    /// Keeps the shape of a tensor, for [`Copy::shape`].
    pub fn shape(&self, name: &str, shape: &[usize]) {
        self.state()
            .shapes
            .insert(name.to_owned(), shape.to_owned());
    }

    /// Keeps the tensor that the source calls `from`, for [`Copy::tensor_f32`].
    pub fn tensor(&self, name: &str, from: &str) {
        self.state()
            .tensors
            .insert(name.to_owned(), from.to_owned());
    }

    /// Keeps an array, for [`Copy::array`].
    pub fn array(&self, name: &str, array: Lent) {
        self.state().arrays.insert(name.to_owned(), array);
    }

    /// Writes the copy into `folder`, and the note that finds it. Copies of the same source that another version made
    /// are removed.
    ///
    /// # Errors
    /// If the source can't be read again for its hash, or the copy can't be written.
    pub fn write(self, folder: &Path, form: &Form) -> Result<(), ConvertError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ConvertError::Io { path, source }
        };
        let source = self.source.path();
        let unreadable = |error| {
            ConvertError::Checkpoint(CheckpointError::Io {
                path: source.to_owned(),
                source: error,
            })
        };
        // Before the hash: a source that changes meanwhile leaves a note that nobody finds.
        let note = note_path(source, folder);
        let sum = hash::sha256_file(source, &|_| true)
            .map_err(unreadable)?
            .unwrap_or_default();
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let path = form.path(folder, &sum);
        // The same file under another name or time: only the note is new.
        if Copy::open(&path).is_none() {
            self.write_file(&path).map_err(failed(&path))?;
        }
        if let Some(note) = note {
            write_aside(&note, &[sum.as_bytes()], false).map_err(failed(&note))?;
        }
        tidy(folder, &sum, form);
        Ok(())
    }

    fn write_file(&self, path: &Path) -> io::Result<()> {
        let state = self.state();
        let (header, parts) = self.layout(&state)?;
        let aside = aside(path);
        let done = (|| {
            let file = fs::File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&aside)?;
            let mut to = io::BufWriter::with_capacity(1 << 20, &file);
            to.write_all(&(header.len() as u64).to_le_bytes())?;
            to.write_all(&header)?;
            for part in &parts {
                to.write_all(&self.bytes(part))?;
            }
            to.flush()?;
            drop(to);
            // SAFETY: nobody else knows the file, and the map is gone before more is written.
            let check = looks(&unsafe { Mmap::map(&file) }?);
            (&file).write_all(&check)?;
            file.sync_all()?;
            replace(&aside, path)
        })();
        if done.is_err() {
            // What is left aside is of no use; if even this fails there is nothing more to do about it.
            let _ = fs::remove_file(&aside);
        }
        done
    }

    /// The header, padded so that data begin on a line, and what follows it up to the check.
    fn layout<'s>(&self, state: &'s State) -> io::Result<(Vec<u8>, Vec<Part<'s>>)> {
        let mut entries = serde_json::Map::new();
        let mut texts = state.texts.clone();
        texts.insert(SHAPES.to_owned(), serde_json::to_string(&state.shapes)?);
        entries.insert("__metadata__".to_owned(), json!(texts));
        let mut parts = Vec::new();
        let mut at = 0;
        let mut add = |name: String, dtype: &str, shape: &[usize], bytes: usize| {
            let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [at, at + bytes]});
            entries.insert(name, entry);
            at += bytes;
            at.next_multiple_of(LINE) - at
        };
        for (name, array) in &state.arrays {
            let values = (**array).as_ref();
            let rest = add(name.clone(), "F32", &[values.len()], size_of_val(values));
            parts.push(Part::Array(array));
            if rest > 0 {
                add(format!("{FILLER}{}", parts.len()), "U8", &[rest], rest);
                parts.push(Part::Zeros(rest));
            }
        }
        for (name, from) in &state.tensors {
            let view = self.source.tensor(from);
            let view = view.ok_or_else(|| io::Error::other(format!("{from} is missing")))?;
            add(
                name.clone(),
                label(view.dtype),
                view.shape,
                view.bytes.len(),
            );
            parts.push(Part::Tensor(from));
        }
        add(CHECK.to_owned(), "U8", &[CHECK_BYTES], CHECK_BYTES);
        let mut header = serde_json::to_vec(&entries)?;
        let before = size_of::<u64>();
        header.resize(
            (before + header.len()).next_multiple_of(LINE) - before,
            b' ',
        );
        Ok((header, parts))
    }

    fn bytes<'s>(&'s self, part: &Part<'s>) -> Cow<'s, [u8]> {
        match part {
            Part::Array(array) => {
                let floats = (***array).as_ref();
                // SAFETY: every byte of a float may be looked at.
                Cow::Borrowed(unsafe {
                    std::slice::from_raw_parts(floats.as_ptr().cast(), size_of_val(floats))
                })
            }
            Part::Tensor(from) => (self.source.tensor(from))
                .map(|view| view.bytes)
                .unwrap_or_default(),
            Part::Zeros(count) => Cow::Owned(vec![0; *count]),
        }
    }
}

fn label(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::F32 => "F32",
        DType::F64 => "F64",
        DType::U8 => "U8",
        DType::I8 => "I8",
        DType::I16 => "I16",
        DType::I32 => "I32",
        DType::I64 => "I64",
        DType::Bool => "BOOL",
    }
}

/// The SHA-256 of a file's length and of pieces from all over it, its beginning and its end among them.
fn looks(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let last = bytes.len().saturating_sub(LOOK_BYTES);
    let mut seen = bytes.len().to_le_bytes().to_vec();
    for look in 0..LOOKS {
        let at = (last as u128 * look as u128 / (LOOKS - 1) as u128) as usize;
        seen.extend_from_slice(&bytes[at..(at + LOOK_BYTES).min(bytes.len())]);
    }
    hash::digest(&seen)
}

/// Where the note on a source's present state lies; `None` where there is no such file.
fn note_path(source: &Path, folder: &Path) -> Option<PathBuf> {
    let metadata = fs::metadata(source).ok()?;
    let changed = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |time| time.as_nanos());
    let path = fs::canonicalize(source).unwrap_or_else(|_| source.to_owned());
    let text = format!("{}\n{}\n{changed}", path.display(), metadata.len());
    let name = &hash::sha256(text.as_bytes())[..32];
    Some(folder.join(format!("{name}.{NOTE_EXTENSION}")))
}

/// The hash in a note.
fn noted(note: &Path) -> Option<String> {
    let sum = fs::read_to_string(note).ok()?;
    (sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit())).then_some(sum)
}

/// Removes what nobody will look for again: copies of the same source in another version of the form, and what was left
/// aside by a process that died.
fn tidy(folder: &Path, sha256: &str, form: &Form) {
    let kept = form.path(folder, sha256);
    let same = form.name.trim_end_matches(|c: char| c.is_ascii_digit());
    let (begin, end) = (
        format!("{sha256}.{same}"),
        format!("-{}.{EXTENSION}", form.lanes),
    );
    for path in files(folder) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let older = name.starts_with(&begin) && name.ends_with(&end) && path != kept;
        let modified = fs::metadata(&path).and_then(|m| m.modified());
        if older || modified.is_ok_and(|at| is_abandoned(&path, at)) {
            // It costs space, nothing else.
            let _ = fs::remove_file(&path);
        }
    }
}

fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// Removes every copy of the sources with these SHA-256, and the notes that find them. Returns the bytes that this
/// frees.
///
/// # Errors
/// If a file can't be removed.
pub fn forget(folder: &Path, sha256s: &BTreeSet<&str>) -> io::Result<u64> {
    let mut freed = 0;
    for path in files(folder) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_copy = name.ends_with(EXTENSION)
            && name
                .split_once('.')
                .is_some_and(|(sum, _)| sha256s.contains(sum));
        let is_note = name.ends_with(NOTE_EXTENSION)
            && noted(&path).is_some_and(|sum| sha256s.contains(sum.as_str()));
        if is_copy || is_note {
            freed += fs::metadata(&path).map_or(0, |metadata| metadata.len());
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(freed)
}
