// [worker] Where JASCO's tensors come from, and the check that all of them are there with the right shapes.

use std::sync::Arc;

use super::JascoError;
use crate::{
    dense::aligned::Lent,
    models::{
        checkpoint::Checkpoint,
        convert::{Copy, Draft},
    },
};

/// Named tensors: the codec's own view of a checkpoint.
pub use crate::regeneration::encodec::Weights as Tensors;

/// A tensor that a model needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    pub name: String,
    pub shape: Vec<usize>,
}

impl Needed {
    pub fn new(name: impl Into<String>, shape: &[usize]) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
        }
    }
}

/// Checks names and shapes before anything is read.
///
/// # Errors
/// [`JascoError::Tensors`] with every missing or misshapen tensor, not only the first.
pub fn check(source: &dyn Tensors, needed: &[Needed]) -> Result<(), JascoError> {
    let problems: Vec<String> = needed
        .iter()
        .filter_map(|n| match source.shape(&n.name) {
            None => Some(format!("{} is missing (expected {:?})", n.name, n.shape)),
            Some(actual) if actual != n.shape => Some(format!(
                "{} has shape {actual:?}, expected {:?}",
                n.name, n.shape
            )),
            Some(_) => None,
        })
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(JascoError::Tensors { problems })
    }
}

/// Reads one tensor.
///
/// # Errors
/// [`JascoError::Tensors`] if it can't be read or holds infinities or NaNs.
pub fn read(source: &dyn Tensors, name: &str, shape: &[usize]) -> Result<Vec<f32>, JascoError> {
    let values = source
        .tensor_f32(name, shape)
        .map_err(|problem| JascoError::Tensors {
            problems: vec![problem],
        })?;
    let expected: usize = shape.iter().product();
    if values.len() != expected || !values.iter().all(|v| v.is_finite()) {
        return Err(JascoError::Tensors {
            problems: vec![format!(
                "{name} holds {} values (expected {expected}), {} of them not finite",
                values.len(),
                values.iter().filter(|v| !v.is_finite()).count()
            )],
        });
    }
    Ok(values)
}

/// Reads one tensor that is used as it is and is large: from a copy it is not even read.
///
/// # Errors
/// As [`read`].
pub fn lent(source: &dyn Tensors, name: &str, shape: &[usize]) -> Result<Lent, JascoError> {
    let expected: usize = shape.iter().product();
    if let Some(array) = source
        .kept(name)
        .filter(|a| (**a).as_ref().len() == expected)
    {
        return Ok(array);
    }
    let array: Lent = Arc::new(read(source.raw().unwrap_or(source), name, shape)?);
    source.keep(name, array.clone());
    Ok(array)
}

/// Tensors of a checkpoint under a prefix: `name` stands for `prefix + name`.
pub struct Stored<'a> {
    pub checkpoint: &'a Checkpoint,
    pub prefix: &'static str,
}

impl Tensors for Stored<'_> {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let name = format!("{}{name}", self.prefix);
        self.checkpoint.shape(&name).map(<[usize]>::to_vec)
    }

    fn tensor_f32(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, String> {
        self.checkpoint
            .tensor_f32(&format!("{}{name}", self.prefix), expected)
            .map_err(|e| e.to_string())
    }
}

/// The same, everything that is asked for noted in a draft of a copy.
pub struct Drafted<'a> {
    pub stored: Stored<'a>,
    pub draft: &'a Draft<'a>,
}

impl Tensors for Drafted<'_> {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let shape = self.stored.shape(name)?;
        self.draft.shape(name, &shape);
        Some(shape)
    }

    fn tensor_f32(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, String> {
        let values = self.stored.tensor_f32(name, expected)?;
        let from = format!("{}{name}", self.stored.prefix);
        self.draft.tensor(name, &from);
        Ok(values)
    }

    fn keep(&self, name: &str, array: Lent) {
        self.draft.array(name, array);
    }

    fn raw(&self) -> Option<&dyn Tensors> {
        Some(&self.stored)
    }
}

/// A copy instead of the checkpoint that it was made of.
impl Tensors for Copy {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Copy::shape(self, name).map(<[usize]>::to_vec)
    }

    fn tensor_f32(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, String> {
        Copy::tensor_f32(self, name, expected).map_err(|e| e.to_string())
    }

    fn kept(&self, name: &str) -> Option<Lent> {
        self.array(name)
    }
}
