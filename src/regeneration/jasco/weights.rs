// [worker] Where JASCO's tensors come from, and the check that all of them are there with the right shapes.

use std::sync::Arc;

use super::JascoError;
use crate::{dense::aligned::Lent, models::tensors::Tensors};

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
