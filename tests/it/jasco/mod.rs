//! JASCO against goldens made by the reference implementation with tiny random weights, and inpainting against a
//! flow whose posterior is known.

mod golden;
mod inpaint;
#[cfg(feature = "cli")]
mod restore;
mod road;
mod takes;

use std::{collections::HashMap, path::PathBuf};

use uncook::{
    models::checkpoint::{Checkpoint, Limits},
    models::tensors::Tensors,
};

/// A folder of goldens.
pub fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// Arrays by name, whole numbers as floats.
pub struct Arrays(HashMap<String, Vec<f32>>);

impl Arrays {
    pub fn read(path: PathBuf) -> Self {
        let bytes = std::fs::read(&path).expect("golden");
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("golden");
        let values = |view: &safetensors::tensor::TensorView<'_>| match view.dtype() {
            safetensors::Dtype::F32 => view
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes(b.try_into().expect("four bytes")))
                .collect(),
            safetensors::Dtype::I64 => view
                .data()
                .chunks_exact(8)
                .map(|b| i64::from_le_bytes(b.try_into().expect("eight bytes")) as f32)
                .collect(),
            other => panic!("{other:?}"),
        };
        Self(
            file.tensors()
                .iter()
                .map(|(name, view)| (name.clone(), values(view)))
                .collect(),
        )
    }

    pub fn get(&self, name: &str) -> &[f32] {
        self.0.get(name).unwrap_or_else(|| panic!("no {name}"))
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

pub fn open(path: PathBuf) -> Checkpoint {
    Checkpoint::open(path, &Limits::default()).expect("golden")
}

pub fn checkpoint(name: &str) -> Checkpoint {
    open(folder("jasco").join(name).join("state_dict.bin"))
}

/// Largest difference, relative to the reference's peak.
pub fn error(actual: &[f32], reference: &[f32]) -> f64 {
    assert_eq!(actual.len(), reference.len());
    let peak = reference
        .iter()
        .fold(0.0f64, |m, x| m.max(f64::from(x.abs())));
    let worst = actual.iter().zip(reference).fold(0.0f64, |m, (a, b)| {
        let d = f64::from((a - b).abs());
        if d.is_nan() { f64::INFINITY } else { m.max(d) }
    });
    worst / peak
}

/// The same weights with one tensor gone or of another shape.
pub struct Spoiled<'a> {
    pub inner: &'a dyn Tensors,
    pub missing: &'a str,
    pub misshapen: &'a str,
}

impl Tensors for Spoiled<'_> {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let mut shape = self.inner.shape(name).filter(|_| name != self.missing)?;
        if name == self.misshapen {
            shape.push(2);
        }
        Some(shape)
    }

    fn tensor_f32(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, String> {
        self.inner.tensor_f32(name, expected)
    }
}
