// [worker] Why a model can't be loaded or run.

use crate::models::checkpoint::CheckpointError;

/// Why a model can't be loaded or run. The text says what was found and what was needed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ModelError {
    #[error("cancelled")]
    Cancelled,
    #[error("the model has no tensor {name}: the file is incomplete or of another model")]
    Missing { name: String },
    #[error("tensor {name} has the shape {actual:?} where {expected:?} is needed")]
    Shape {
        name: String,
        actual: Vec<usize>,
        expected: Vec<usize>,
    },
    #[error("tensor {name} holds values that are not finite: the file is damaged")]
    NotFinite { name: String },
    #[error("the model's setting {name} = {value} is not supported")]
    Unsupported { name: &'static str, value: String },
    #[error("the file holds a {actual}, but only {expected} can be used here")]
    Class {
        actual: String,
        expected: &'static str,
    },
    #[error(
        "{actual} channels of {samples} samples were given where the model takes {expected} of at most {most}"
    )]
    Input {
        actual: usize,
        expected: usize,
        samples: usize,
        most: usize,
    },
    #[error("{bytes} bytes of memory are needed and can't be had")]
    Memory { bytes: usize },
    #[error("{0}")]
    File(String),
    #[error("{0}")]
    Device(String),
}

impl From<CheckpointError> for ModelError {
    fn from(error: CheckpointError) -> Self {
        Self::File(error.to_string())
    }
}

impl From<candle_core::Error> for ModelError {
    fn from(error: candle_core::Error) -> Self {
        Self::Device(crate::dense::device::reason(&error))
    }
}
