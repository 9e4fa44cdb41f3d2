// [worker] Safetensors files: the header, and where each tensor lies in the file.

use std::path::Path;

use safetensors::{Dtype as Safe, SafeTensors};

use super::{
    CheckpointError, Contents, DType, TensorInfo,
    census::{CensusError, census},
    limits::Limits,
    value::{Dict, Key, Value},
};

/// Bytes before the header: its length.
const PREFIX: usize = 8;

/// Reads and checks the header of `bytes`, the whole file. The metadata is the root's dictionary.
pub(super) fn read(
    path: &Path,
    bytes: &[u8],
    limits: &Limits,
) -> Result<Contents, CheckpointError> {
    let refused = |what: String| CheckpointError::Refused {
        path: path.to_owned(),
        what,
    };
    let damaged = |what: String| CheckpointError::Damaged {
        path: path.to_owned(),
        what,
    };
    let header = header_length(bytes).ok_or_else(|| damaged("its header is missing".into()))?;
    if header > limits.header_bytes as u64 {
        return Err(refused(format!(
            "its header claims {header} bytes, at most {} are accepted",
            limits.header_bytes
        )));
    }
    let text = usize::try_from(header)
        .ok()
        .and_then(|len| bytes.get(PREFIX..PREFIX.checked_add(len)?))
        .ok_or_else(|| damaged("it ends inside its header".into()))?;
    // Before anything is kept: what is read next keeps every entry.
    census(text, limits).map_err(|error| match error {
        CensusError::Form(what) => damaged(what),
        CensusError::Limit(what) => refused(what),
    })?;
    // Checks that the tensors lie side by side, fill the file, and have the bytes that their shapes need.
    let (header, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|error| damaged(error.to_string()))?;
    let start = PREFIX + header;

    let mut tensors = Vec::new();
    let mut names = Vec::new();
    let mut found: Vec<_> = metadata.tensors().into_iter().collect();
    found.sort_by_key(|(name, info)| (info.data_offsets, name.clone()));
    for (name, info) in found {
        let dtype = dtype(info.dtype).ok_or_else(|| CheckpointError::Unsupported {
            path: path.to_owned(),
            what: format!("{name} is of type {:?}", info.dtype),
        })?;
        let (from, to) = info.data_offsets;
        let in_file = start
            .checked_add(from)
            .zip(start.checked_add(to))
            .filter(|(from, to)| from <= to && *to <= bytes.len());
        let Some((from, to)) = in_file else {
            return Err(damaged(format!("{name} lies outside the file")));
        };
        names.push((name, tensors.len()));
        tensors.push(TensorInfo {
            dtype,
            strides: contiguous(&info.shape),
            shape: info.shape.clone(),
            bytes: from..to,
        });
    }
    let mut pairs: Vec<(Key, Value)> = metadata
        .metadata()
        .iter()
        .flatten()
        .map(|(key, value)| {
            (
                Key::Str(key.as_str().into()),
                Value::Str(value.as_str().into()),
            )
        })
        .collect();
    pairs.sort_by(|(a, _), (b, _)| match (a, b) {
        (Key::Str(a), Key::Str(b)) => a.cmp(b),
        _ => std::cmp::Ordering::Equal,
    });
    Ok(Contents {
        root: Value::Dict(Dict(pairs)),
        tensors,
        names,
        sums: Vec::new(),
    })
}

/// The header's length in bytes, as the first eight bytes state it.
pub(super) fn header_length(bytes: &[u8]) -> Option<u64> {
    let prefix = bytes.get(..PREFIX)?.try_into().ok()?;
    Some(u64::from_le_bytes(prefix))
}

fn dtype(dtype: Safe) -> Option<DType> {
    Some(match dtype {
        Safe::F16 => DType::F16,
        Safe::BF16 => DType::BF16,
        Safe::F32 => DType::F32,
        Safe::F64 => DType::F64,
        Safe::U8 => DType::U8,
        Safe::I8 => DType::I8,
        Safe::I16 => DType::I16,
        Safe::I32 => DType::I32,
        Safe::I64 => DType::I64,
        Safe::BOOL => DType::Bool,
        _ => return None,
    })
}

/// Strides of a row-major tensor, in elements. The header's reader has checked that the shape's product
/// fits.
fn contiguous(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}
