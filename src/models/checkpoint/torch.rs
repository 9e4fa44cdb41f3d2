// [worker] PyTorch's zips: the pickle inside, and where each of its tensors lies in the file.

use std::path::Path;

use super::{
    CheckpointError, Contents, DType, TensorInfo,
    archive::{Archive, ArchiveError},
    limits::Limits,
    pickle::{self, PickleError, RawTensor},
    value::{Key, Value},
};

/// Reads the directory, the pickle and every tensor's place in `bytes`, the whole file.
pub(super) fn read(
    path: &Path,
    bytes: &[u8],
    limits: &Limits,
) -> Result<Contents, CheckpointError> {
    let damaged = |what: String| CheckpointError::Damaged {
        path: path.to_owned(),
        what,
    };
    let archive = Archive::open(bytes, limits).map_err(|error| match error {
        ArchiveError::TooMany { .. } => CheckpointError::Refused {
            path: path.to_owned(),
            what: error.to_string(),
        },
        ArchiveError::Packed { .. } => CheckpointError::Unsupported {
            path: path.to_owned(),
            what: error.to_string(),
        },
        _ => damaged(error.to_string()),
    })?;
    let prefix = root(path, &archive)?;
    if let Some(order) = archive.entries.get(&format!("{prefix}byteorder"))
        && bytes.get(order.bytes.clone()) != Some(b"little")
    {
        return Err(CheckpointError::Unsupported {
            path: path.to_owned(),
            what: "its numbers are written most significant byte first".into(),
        });
    }
    let entry = &archive.entries[&format!("{prefix}data.pkl")];
    let pickle = &bytes[entry.bytes.clone()];
    if pickle.len() <= limits.pickle_bytes && crc32fast::hash(pickle) != entry.crc32 {
        return Err(damaged("its pickle does not match its checksum".into()));
    }
    let parsed = pickle::parse(pickle, limits).map_err(|error| of_pickle(path, error))?;

    let mut tensors = Vec::with_capacity(parsed.tensors.len());
    let mut logical = 0usize;
    for raw in &parsed.tensors {
        let info = place(path, raw, &archive, &prefix, limits)?;
        logical = logical.saturating_add(info.elements() * info.dtype.bytes());
        tensors.push(info);
    }
    let bound = bytes
        .len()
        .saturating_mul(limits.expansion)
        .saturating_add(1 << 20);
    if logical > bound {
        return Err(CheckpointError::Refused {
            path: path.to_owned(),
            what: format!("its tensors claim {logical} bytes, at most {bound} are accepted"),
        });
    }
    let names = names(path, &parsed.root, limits)?;
    let sums = archive
        .entries
        .into_values()
        .map(|entry| (entry.bytes, entry.crc32))
        .collect();
    Ok(Contents {
        root: parsed.root,
        tensors,
        names,
        sums,
    })
}

fn of_pickle(path: &Path, error: PickleError) -> CheckpointError {
    let path = path.to_owned();
    let what = error.to_string();
    match error {
        PickleError::Code { class } => CheckpointError::Code { path, class },
        PickleError::Limit { .. } | PickleError::Cyclic => CheckpointError::Refused { path, what },
        PickleError::Unsupported { .. } => CheckpointError::Unsupported { path, what },
        PickleError::Truncated { .. }
        | PickleError::Opcode { .. }
        | PickleError::Malformed { .. } => CheckpointError::Damaged { path, what },
    }
}

/// The folder inside the zip that holds `data.pkl`, with its slash.
fn root(path: &Path, archive: &Archive) -> Result<String, CheckpointError> {
    let mut roots = archive.entries.keys().filter_map(|name| {
        let root = name.strip_suffix("data.pkl")?;
        (root.is_empty() || root.ends_with('/')).then_some(root)
    });
    let (first, second) = (roots.next(), roots.next());
    match (first, second) {
        (Some(root), None)
            if archive
                .entries
                .contains_key(&format!("{root}constants.pkl")) =>
        {
            Err(CheckpointError::Unsupported {
                path: path.to_owned(),
                what: "it is a TorchScript program, not a checkpoint".into(),
            })
        }
        (Some(root), None) => Ok(root.to_owned()),
        (None, _) => Err(CheckpointError::NotACheckpoint {
            path: path.to_owned(),
            found: "a zip without a PyTorch checkpoint in it",
        }),
        (Some(_), Some(_)) => Err(CheckpointError::NotACheckpoint {
            path: path.to_owned(),
            found: "a zip with several checkpoints in it",
        }),
    }
}

fn dtype(name: &str) -> Option<DType> {
    Some(match name {
        "torch.FloatStorage" | "torch.float32" | "torch.float" => DType::F32,
        "torch.DoubleStorage" | "torch.float64" | "torch.double" => DType::F64,
        "torch.HalfStorage" | "torch.float16" | "torch.half" => DType::F16,
        "torch.BFloat16Storage" | "torch.bfloat16" => DType::BF16,
        "torch.LongStorage" | "torch.int64" | "torch.long" => DType::I64,
        "torch.IntStorage" | "torch.int32" | "torch.int" => DType::I32,
        "torch.ShortStorage" | "torch.int16" | "torch.short" => DType::I16,
        "torch.CharStorage" | "torch.int8" => DType::I8,
        "torch.ByteStorage" | "torch.uint8" => DType::U8,
        "torch.BoolStorage" | "torch.bool" => DType::Bool,
        _ => return None,
    })
}

/// Where a tensor lies, checked against its storage, and its storage against the file.
fn place(
    path: &Path,
    raw: &RawTensor,
    archive: &Archive,
    prefix: &str,
    limits: &Limits,
) -> Result<TensorInfo, CheckpointError> {
    let refused = |what: String| CheckpointError::Refused {
        path: path.to_owned(),
        what,
    };
    let storage = &raw.storage;
    let name = raw.dtype.as_deref().unwrap_or(&storage.class);
    let dtype = dtype(name).ok_or_else(|| CheckpointError::Unsupported {
        path: path.to_owned(),
        what: format!("it holds tensors of type {name}"),
    })?;
    let entry = archive
        .entries
        .get(&format!("{prefix}data/{}", storage.key))
        .ok_or_else(|| CheckpointError::Damaged {
            path: path.to_owned(),
            what: format!("storage {} is missing", storage.key),
        })?;
    let unit = match &*storage.class {
        "torch.storage.UntypedStorage" | "torch.UntypedStorage" => 1,
        _ => dtype.bytes(),
    };
    let claimed = storage.elements.checked_mul(unit);
    if claimed.is_none_or(|claimed| claimed > entry.bytes.len()) {
        return Err(refused(format!(
            "storage {} claims {} × {unit} bytes and has {}",
            storage.key,
            storage.elements,
            entry.bytes.len()
        )));
    }
    let elements = raw
        .shape
        .iter()
        .try_fold(1usize, |n, &axis| n.checked_mul(axis))
        .filter(|&n| n <= limits.elements)
        .ok_or_else(|| {
            refused(format!(
                "a tensor claims the shape {:?}, at most {} elements are accepted",
                raw.shape, limits.elements
            ))
        })?;
    let available = claimed.unwrap_or(0) / dtype.bytes();
    // One past the last element that is touched.
    let end = if elements == 0 {
        Some(0)
    } else {
        raw.shape
            .iter()
            .zip(&raw.strides)
            .try_fold(raw.offset, |end, (&axis, &stride)| {
                end.checked_add((axis - 1).checked_mul(stride)?)
            })
            .and_then(|last| last.checked_add(1))
    };
    if end.is_none_or(|end| end > available) {
        return Err(refused(format!(
            "a tensor of shape {:?}, strides {:?} and offset {} leaves storage {} of {available} elements",
            raw.shape, raw.strides, raw.offset, storage.key
        )));
    }
    let start = if elements == 0 { 0 } else { raw.offset };
    let start = entry.bytes.start + start * dtype.bytes();
    Ok(TensorInfo {
        dtype,
        shape: raw.shape.clone(),
        strides: raw.strides.clone(),
        bytes: start..entry.bytes.end,
    })
}

/// The dotted paths of all tensors below `root`, in the order of the tree.
fn names(
    path: &Path,
    root: &Value,
    limits: &Limits,
) -> Result<Vec<(String, usize)>, CheckpointError> {
    let mut names = Names {
        path,
        limits,
        prefix: String::new(),
        found: Vec::new(),
    };
    names.walk(root)?;
    Ok(names.found)
}

/// Collects the dotted paths of all tensors, in the order of the tree.
struct Names<'a> {
    path: &'a Path,
    limits: &'a Limits,
    prefix: String,
    found: Vec<(String, usize)>,
}

impl Names<'_> {
    fn walk(&mut self, value: &Value) -> Result<(), CheckpointError> {
        let refused = |what| CheckpointError::Refused {
            path: self.path.to_owned(),
            what,
        };
        match value {
            Value::Tensor(index) => {
                if self.prefix.len() > self.limits.name_bytes {
                    return Err(refused(format!(
                        "a tensor's name has {} bytes, at most {} are accepted",
                        self.prefix.len(),
                        self.limits.name_bytes
                    )));
                }
                if self.found.len() >= self.limits.tensors {
                    return Err(refused(format!(
                        "it names more than {} tensors",
                        self.limits.tensors
                    )));
                }
                self.found.push((self.prefix.clone(), *index));
                Ok(())
            }
            Value::Dict(dict) => dict.0.iter().try_for_each(|(key, value)| match key {
                Key::Str(key) => self.below(key, value),
                Key::Int(key) => self.below(&key.to_string(), value),
                Key::Other(_) => Ok(()),
            }),
            Value::List(items) | Value::Tuple(items) => items
                .iter()
                .enumerate()
                .try_for_each(|(index, value)| self.below(&index.to_string(), value)),
            Value::Object(object) => {
                if let Some(state) = &object.state {
                    self.walk(state)?;
                }
                object
                    .items
                    .0
                    .iter()
                    .try_for_each(|(key, value)| match key {
                        Key::Str(key) => self.below(key, value),
                        Key::Int(key) => self.below(&key.to_string(), value),
                        Key::Other(_) => Ok(()),
                    })
            }
            _ => Ok(()),
        }
    }

    fn below(&mut self, key: &str, value: &Value) -> Result<(), CheckpointError> {
        let len = self.prefix.len();
        if len > 0 {
            self.prefix.push('.');
        }
        self.prefix.push_str(key);
        let done = self.walk(value);
        self.prefix.truncate(len);
        done
    }
}
