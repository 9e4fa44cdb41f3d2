// [worker] Reads the files that models are released in, without running anything that is in them.
//!
//! PyTorch's zips (`.th`, `.pt`, `.bin`) and `.safetensors`, mapped into memory. A file is data from a
//! stranger: every size is checked against [`Limits`] and against the file before anything is allocated, and
//! the pickle is walked, not executed.
//!
//! ```no_run
//! use uncook::models::checkpoint::{Checkpoint, Limits};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let file = Checkpoint::open("state_dict.bin", &Limits::default())?;
//! let weight = file.tensor_f32("best_state.emb.weight", &[1024, 146])?;
//! let config = file.value("xp.cfg").and_then(|v| v.as_str());
//! # Ok(()) }
//! ```

mod archive;
mod calls;
mod census;
mod limits;
pub mod pickle;
mod safe;
mod torch;
mod tree;
mod value;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::File,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use half::slice::HalfFloatSliceExt;
use memmap2::Mmap;

pub use limits::Limits;
pub use value::{Dict, Key, Object, Value};

/// Why a checkpoint can't be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{path} can't be read: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is {found}, not a model; fetch it again or choose the model's own file", path = path.display())]
    NotACheckpoint { path: PathBuf, found: &'static str },
    #[error("{path} is damaged: {what}; fetch it again", path = path.display())]
    Damaged { path: PathBuf, what: String },
    #[error("{path} is refused, no real model looks like this: {what}; fetch it from its authors", path = path.display())]
    Refused { path: PathBuf, what: String },
    #[error("{path} is refused: it wants to run {class} when Python opens it. Nothing was run; delete it and fetch the model from its authors", path = path.display())]
    Code { path: PathBuf, class: String },
    #[error("{path} is of a form that is not supported: {what}; save it again with a current PyTorch, or as safetensors", path = path.display())]
    Unsupported { path: PathBuf, what: String },
    #[error("{path} has no tensor {name} (shape {expected:?} expected){hint}; it is another model's file or incomplete", path = path.display())]
    Missing {
        path: PathBuf,
        name: String,
        expected: Vec<usize>,
        /// Empty, or a name that is there and looks alike.
        hint: String,
    },
    #[error("{path}: {name} has the shape {actual:?}, expected {expected:?}; it is another model's file", path = path.display())]
    Shape {
        path: PathBuf,
        name: String,
        expected: Vec<usize>,
        actual: Vec<usize>,
    },
    #[error("{path}: {name} holds {actual:?} numbers, floating-point numbers expected; it is another model's file", path = path.display())]
    Type {
        path: PathBuf,
        name: String,
        actual: DType,
    },
}

/// What a tensor's elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    F16,
    BF16,
    F32,
    F64,
    U8,
    I8,
    I16,
    I32,
    I64,
    Bool,
}

impl DType {
    /// Bytes an element.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }
}

/// A tensor in a mapped file.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorView<'a> {
    pub dtype: DType,
    pub shape: &'a [usize],
    /// Row-major, little-endian. Borrowed from the file unless the tensor is strided.
    pub bytes: Cow<'a, [u8]>,
}

/// Where a tensor lies.
#[derive(Clone, Debug)]
struct TensorInfo {
    dtype: DType,
    shape: Vec<usize>,
    /// In elements. Checked: no element lies outside `bytes`.
    strides: Vec<usize>,
    /// From its first element to the end of its storage, in the file.
    bytes: Range<usize>,
}

impl TensorInfo {
    /// The product was checked against the limits, so it fits.
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        for (&axis, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if axis != 1 && stride != expected {
                return self.elements() == 0;
            }
            expected *= axis;
        }
        true
    }
}

/// What a reader of a form finds.
struct Contents {
    root: Value,
    tensors: Vec<TensorInfo>,
    /// Dotted path and index into `tensors`.
    names: Vec<(String, usize)>,
    /// Parts of the file with their CRC-32, where the form has them.
    sums: Vec<(Range<usize>, u32)>,
}

/// An open checkpoint. Tensors stay in the mapped file until they are asked for.
///
/// The file must not be cut short by others while it is open (the system would end the process): models
/// that Uncook fetched are complete and never written again.
pub struct Checkpoint {
    path: PathBuf,
    map: Arc<Mmap>,
    contents: Contents,
    /// Index into `contents.names`.
    places: BTreeMap<String, usize>,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint")
            .field("path", &self.path)
            .field("tensors", &self.contents.names.len())
            .finish_non_exhaustive()
    }
}

impl Checkpoint {
    /// Maps and reads a checkpoint: a zip of PyTorch 1.6 or later, or safetensors, told apart by content.
    ///
    /// # Errors
    /// If it is neither, damaged, over a limit, or was made to attack programs that open it.
    pub fn open(path: impl AsRef<Path>, limits: &Limits) -> Result<Self, CheckpointError> {
        let path = path.as_ref().to_owned();
        let failed = |source| CheckpointError::Io {
            path: path.clone(),
            source,
        };
        let file = File::open(&path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(CheckpointError::NotACheckpoint {
                path,
                found: "a folder",
            });
        }
        if metadata.len() == 0 {
            return Err(CheckpointError::NotACheckpoint {
                path,
                found: "an empty file",
            });
        }
        // SAFETY: the map is only read. That nobody cuts the file short meanwhile is the caller's part, see
        // the type; the bytes themselves are checked and may be anything.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        let contents = match kind(&map) {
            Kind::Zip => torch::read(&path, &map, limits)?,
            Kind::Safetensors => safe::read(&path, &map, limits)?,
            Kind::OldTorch => {
                return Err(CheckpointError::Unsupported {
                    path,
                    what: "it is of a PyTorch before 1.6".into(),
                });
            }
            Kind::Other(found) => return Err(CheckpointError::NotACheckpoint { path, found }),
        };
        let mut places = BTreeMap::new();
        for (place, (name, _)) in contents.names.iter().enumerate() {
            if places.insert(name.clone(), place).is_some() {
                return Err(CheckpointError::Refused {
                    path,
                    what: format!("two tensors are called {name}"),
                });
            }
        }
        Ok(Self {
            path,
            map: Arc::new(map),
            contents,
            places,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Dotted paths of all tensors, in the file's order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.contents.names.iter().map(|(name, _)| name.as_str())
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        let (_, index) = self.contents.names.get(*self.places.get(name)?)?;
        self.contents.tensors.get(*index)
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.info(name).map(|info| info.shape.as_slice())
    }

    /// The element type of a tensor.
    pub fn dtype(&self, name: &str) -> Option<DType> {
        self.info(name).map(|info| info.dtype)
    }

    /// A tensor's bytes, gathered if it is strided.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        self.info(name).map(|info| self.view(info))
    }

    fn view<'a>(&'a self, info: &'a TensorInfo) -> TensorView<'a> {
        let source = self.map.get(info.bytes.clone()).unwrap_or_default();
        let (unit, elements) = (info.dtype.bytes(), info.elements());
        let bytes = match source.get(..elements * unit) {
            Some(bytes) if info.is_contiguous() => Cow::Borrowed(bytes),
            _ => Cow::Owned(gather(source, info, unit, elements)),
        };
        TensorView {
            dtype: info.dtype,
            shape: &info.shape,
            bytes,
        }
    }

    /// A floating-point tensor as f32, row-major; half precision is widened, double narrowed.
    ///
    /// # Errors
    /// If the tensor is missing, has another shape, or holds integers.
    pub fn tensor_f32(
        &self,
        name: &str,
        expected_shape: &[usize],
    ) -> Result<Vec<f32>, CheckpointError> {
        let Some(info) = self.info(name) else {
            return Err(CheckpointError::Missing {
                path: self.path.clone(),
                name: name.to_owned(),
                expected: expected_shape.to_vec(),
                hint: self.hint(name),
            });
        };
        if info.shape != expected_shape {
            return Err(CheckpointError::Shape {
                path: self.path.clone(),
                name: name.to_owned(),
                expected: expected_shape.to_vec(),
                actual: info.shape.clone(),
            });
        }
        self.view(info)
            .to_f32()
            .ok_or_else(|| CheckpointError::Type {
                path: self.path.clone(),
                name: name.to_owned(),
                actual: info.dtype,
            })
    }

    /// A name that ends alike, for an error.
    fn hint(&self, name: &str) -> String {
        let tail = |name: &str| {
            let mut parts = name.rsplitn(3, '.');
            (
                parts.next().map(str::to_owned),
                parts.next().map(str::to_owned),
            )
        };
        let wanted = tail(name);
        self.names()
            .find(|other| tail(other) == wanted)
            .map_or_else(String::new, |other| format!(" but {other}"))
    }

    /// What the file holds besides tensors, at a dotted path (see [`Value::at`]). The metadata of a
    /// safetensors file lies at the root, all of it text.
    pub fn value(&self, path: &str) -> Option<&Value> {
        self.contents.root.at(path)
    }

    /// The whole tree.
    pub fn root(&self) -> &Value {
        &self.contents.root
    }

    /// The whole file.
    pub(super) fn map(&self) -> &Arc<Mmap> {
        &self.map
    }

    /// Where a tensor that is stored row-major lies in the file.
    pub(super) fn place(&self, name: &str) -> Option<Range<usize>> {
        let info = self.info(name).filter(|info| info.is_contiguous())?;
        let bytes = info.elements() * info.dtype.bytes();
        let end = info.bytes.start.checked_add(bytes)?;
        (end <= info.bytes.end).then_some(info.bytes.start..end)
    }

    /// Compares every part of the file with its checksum, where the form has them (PyTorch's zips do).
    /// Reads the whole file.
    ///
    /// # Errors
    /// If a part is damaged.
    pub fn verify_sums(&self) -> Result<(), CheckpointError> {
        for (bytes, expected) in &self.contents.sums {
            let part = self.map.get(bytes.clone()).unwrap_or_default();
            if crc32fast::hash(part) != *expected {
                return Err(CheckpointError::Damaged {
                    path: self.path.clone(),
                    what: format!(
                        "bytes {} to {} do not match their checksum",
                        bytes.start, bytes.end
                    ),
                });
            }
        }
        Ok(())
    }
}

impl TensorView<'_> {
    /// The elements as f32, or `None` if they are not floating-point numbers.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        let bytes = &*self.bytes;
        Some(match self.dtype {
            DType::F32 => convert(bytes, f32::from_le_bytes),
            DType::F16 => convert_f16(bytes),
            DType::BF16 => convert(bytes, |b| half::bf16::from_le_bytes(b).to_f32()),
            DType::F64 => convert(bytes, |b| f64::from_le_bytes(b) as f32),
            _ => return None,
        })
    }
}

fn convert<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|&chunk| number(chunk)).collect()
}

/// Eight numbers an instruction where the processor can: half a billion of them are read when a large model opens.
fn convert_f16(bytes: &[u8]) -> Vec<f32> {
    const BLOCK: usize = 1024;
    let (numbers, _) = bytes.as_chunks::<2>();
    let mut out = vec![0.0; numbers.len()];
    let mut aligned = [half::f16::ZERO; BLOCK];
    for (block, out) in numbers.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
        let aligned = &mut aligned[..block.len()];
        for (to, from) in aligned.iter_mut().zip(block) {
            *to = half::f16::from_le_bytes(*from);
        }
        aligned.convert_to_f32_slice(out);
    }
    out
}

/// The elements of a strided tensor in row-major order. `source` begins at its first element.
fn gather(source: &[u8], info: &TensorInfo, unit: usize, elements: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(elements * unit);
    let mut index = vec![0usize; info.shape.len()];
    let mut at = 0;
    for _ in 0..elements {
        // The strides were checked against the storage when the file was opened.
        out.extend_from_slice(&source[at * unit..(at + 1) * unit]);
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            at += info.strides[axis];
            if index[axis] < info.shape[axis] {
                break;
            }
            at -= info.strides[axis] * info.shape[axis];
            index[axis] = 0;
        }
    }
    out
}

enum Kind {
    Zip,
    Safetensors,
    OldTorch,
    Other(&'static str),
}

/// What a file is, by its first bytes.
fn kind(bytes: &[u8]) -> Kind {
    const ZIP: &[u8] = b"PK\x03\x04";
    // A pickle of protocol 2 with the number 0x1950a86a20f9469cfc6c: the magic of `torch.save` before 1.6.
    const OLD_TORCH: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
    const GIT_LFS: &[u8] = b"version https://git-lfs";
    let text = bytes.trim_ascii_start();
    let begins = |prefix: &str| {
        text.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    if bytes.starts_with(ZIP) {
        Kind::Zip
    } else if bytes.starts_with(OLD_TORCH) {
        Kind::OldTorch
    } else if bytes.starts_with(GIT_LFS) {
        Kind::Other("a pointer of Git LFS")
    } else if begins("<!doctype") || begins("<html") {
        Kind::Other("a web page")
    } else if safe::header_length(bytes).is_some_and(|len| len < 1 << 40)
        && bytes.get(8) == Some(&b'{')
    {
        Kind::Safetensors
    } else {
        Kind::Other("a file of another kind")
    }
}
