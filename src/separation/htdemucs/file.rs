// [worker] A model's file: which network it is, and its tensors.

use std::path::Path;

use serde_json::{Map, Value as Json};

use super::{
    ModelError,
    hyper::{CLASS, Hyper, MERGED_CLASS},
    net::Net,
};
use crate::models::{
    checkpoint::{Checkpoint, Limits, Value},
    convert::ConvertError,
    tensors::{self, Stored, Tensors},
};

/// An open model file: a PyTorch zip as the authors publish it, or safetensors.
pub struct ModelFile {
    checkpoint: Checkpoint,
    /// What stands before the tensors' names.
    prefix: &'static str,
    pub hyper: Hyper,
}

impl ModelFile {
    /// Opens a file and reads what it holds, but no tensors.
    ///
    /// # Errors
    /// If it is damaged, hostile, of another class, or has settings that are not supported.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let checkpoint = Checkpoint::open(path, &Limits::default())?;
        let class = checkpoint.value("klass").map(described).unwrap_or_default();
        let read = match class.rsplit('.').next() {
            Some(CLASS) => Hyper::read,
            Some(MERGED_CLASS) => Hyper::read_merged,
            _ => {
                return Err(ModelError::Class {
                    actual: if class.is_empty() {
                        "file without a class".into()
                    } else {
                        class
                    },
                    expected: CLASS,
                });
            }
        };
        let kwargs = match checkpoint.value("kwargs") {
            // The safetensors form keeps JSON in its metadata.
            Some(Value::Str(text)) => serde_json::from_str(text)
                .map_err(|e| ModelError::File(format!("its kwargs are no JSON: {e}")))?,
            Some(value) => json(value, 0),
            None => Json::Null,
        };
        let args = match checkpoint.value("args") {
            Some(Value::Str(text)) => text.trim() == "[]",
            Some(value) => value.as_slice().is_some_and(<[Value]>::is_empty),
            None => true,
        };
        if !args {
            return Err(ModelError::Unsupported {
                name: "args",
                value: "positional arguments".into(),
            });
        }
        let quantised = checkpoint.value("state.__quantized").is_some();
        if quantised || checkpoint.value("structure").is_some() {
            return Err(ModelError::Unsupported {
                name: "state",
                value: "quantised weights".into(),
            });
        }
        let prefix = if checkpoint.names().any(|n| n.starts_with("state.")) {
            "state."
        } else {
            ""
        };
        Ok(Self {
            checkpoint,
            prefix,
            hyper: read(&kwargs)?,
        })
    }

    fn stored(&self) -> Stored<'_> {
        Stored {
            checkpoint: &self.checkpoint,
            prefix: self.prefix,
        }
    }
}

/// What is made of a file, to be raised with what [`Net`] asks it for, or with how layers are packed.
const FORM: &str = "htdemucs-2";

impl ModelFile {
    /// The network for the processor. With a folder for copies, the first opening keeps what it makes there, and later
    /// ones map it; beside the network, why it could not be kept.
    ///
    /// # Errors
    /// If a tensor is missing, misshapen or not finite.
    pub fn net(&self, copies: Option<&Path>) -> Result<(Net, Option<ConvertError>), ModelError> {
        let keeping = copies.map(|folder| (folder, FORM));
        tensors::open(self.checkpoint.path(), self.prefix, keeping, |source| {
            Net::load(source, self.hyper.clone())
        })
    }
}

impl Tensors for ModelFile {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.stored().shape(name)
    }

    fn tensor_f32(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, String> {
        self.stored().tensor_f32(name, expected)
    }
}

fn described(value: &Value) -> String {
    match value {
        Value::Class(name) | Value::Str(name) => name.to_string(),
        Value::Object(object) => object.class.to_string(),
        _ => String::new(),
    }
}

/// A value of a pickle as the JSON that the safetensors form would have.
fn json(value: &Value, depth: usize) -> Json {
    if depth > 4 {
        return Json::Null;
    }
    match value {
        Value::Bool(b) => Json::Bool(*b),
        Value::Int(i) => Json::from(*i),
        Value::Float(x) => Json::from(*x),
        Value::Str(s) => Json::from(&**s),
        Value::List(items) | Value::Tuple(items) => {
            Json::Array(items.iter().map(|v| json(v, depth + 1)).collect())
        }
        Value::Dict(dict) => {
            let mut map = Map::new();
            for (key, value) in &dict.0 {
                if let crate::models::checkpoint::Key::Str(key) = key {
                    map.insert(key.to_string(), json(value, depth + 1));
                }
            }
            Json::Object(map)
        }
        other => match other.as_fraction() {
            Some((numerator, denominator)) => serde_json::json!({
                "_type": "fraction", "numerator": numerator, "denominator": denominator
            }),
            None => Json::Null,
        },
    }
}
