// [worker] The list of known models: where they are, how they are checked, and under which terms they come.

use serde::Deserialize;

/// The list that is compiled in.
const EMBEDDED: &str = include_str!("../../models/manifest.toml");

/// Why a list can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("the list of models can't be read: {0}")]
    Form(String),
    #[error("the list of models is wrong: {model}: {what}")]
    Content { model: String, what: String },
}

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    Separation,
    Regeneration,
    Codec,
    Text,
    Vocoder,
}

impl Purpose {
    /// One word.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Separation => "separation",
            Self::Regeneration => "regeneration",
            Self::Codec => "codec",
            Self::Text => "text",
            Self::Vocoder => "vocoder",
        }
    }
}

/// One file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// Its name in the library.
    pub file: String,
    pub url: String,
    /// 64 lower-case hex digits.
    pub sha256: Option<String>,
    /// The beginning of it, where no more is published.
    pub sha256_prefix: Option<String>,
    /// Its length, if known.
    pub bytes: Option<u64>,
}

impl ModelFile {
    /// The beginning of the SHA-256 that the file must have, as much of it as is known; empty if nothing is.
    pub fn known_hash(&self) -> &str {
        self.sha256
            .as_deref()
            .or(self.sha256_prefix.as_deref())
            .unwrap_or_default()
    }
}

/// A model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub name: String,
    pub purpose: Purpose,
    /// What it does, for the user.
    pub what: String,
    /// What its authors state about the weights.
    pub licence: String,
    /// Where they state it.
    pub page: String,
    /// Whether the user has to accept the terms once.
    pub ask: bool,
    /// Whether the host wants a token.
    pub gated: bool,
    /// Models without which this one does nothing.
    pub needs: Vec<String>,
    #[serde(rename = "file")]
    pub files: Vec<ModelFile>,
}

impl Model {
    /// Bytes of all files, if all are known.
    pub fn bytes(&self) -> Option<u64> {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// The list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    #[serde(rename = "model")]
    pub models: Vec<Model>,
}

impl Manifest {
    /// The list that Uncook was built with.
    ///
    /// # Errors
    /// Never in a released build: a test reads it.
    pub fn embedded() -> Result<Self, ManifestError> {
        Self::parse(EMBEDDED)
    }

    /// Reads and checks a list.
    ///
    /// # Errors
    /// If it is not TOML of this form, or a name, a path or a hash in it makes no sense.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self =
            toml::from_str(text).map_err(|error| ManifestError::Form(error.to_string()))?;
        for (index, model) in manifest.models.iter().enumerate() {
            let wrong = |what: String| ManifestError::Content {
                model: model.name.clone(),
                what,
            };
            if !is_file_name(&model.name) {
                return Err(wrong("its name can't name a folder".into()));
            }
            if manifest.models[..index]
                .iter()
                .any(|m| m.name == model.name)
            {
                return Err(wrong("it is listed twice".into()));
            }
            if model.files.is_empty() {
                return Err(wrong("it has no files".into()));
            }
            for needed in &model.needs {
                if manifest.get(needed).is_none() {
                    return Err(wrong(format!("it needs {needed}, which is not listed")));
                }
            }
            for (index, file) in model.files.iter().enumerate() {
                if !is_file_name(&file.file)
                    || model.files[..index].iter().any(|f| f.file == file.file)
                {
                    return Err(wrong(format!("a file can't be called {:?}", file.file)));
                }
                let hex = file
                    .known_hash()
                    .bytes()
                    .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                if !hex
                    || file.sha256.as_ref().is_some_and(|sum| sum.len() != 64)
                    || file
                        .sha256_prefix
                        .as_ref()
                        .is_some_and(|sum| !(8..64).contains(&sum.len()))
                {
                    return Err(wrong(format!("{:?} has no hash in hex", file.file)));
                }
            }
        }
        Ok(manifest)
    }

    /// The model of that name.
    pub fn get(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.name == name)
    }
}

/// Whether a name is safe as one part of a path on every system.
fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 100
        && !name.starts_with('.')
        && !name.ends_with('.')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}
