// [worker] From words to what the transformer hears: tokenizer and T5 encoder.

pub mod t5;

use std::path::Path;

use super::JascoError;

/// A SentencePiece tokenizer from the model's own `tokenizer.json`.
pub struct Tokenizer(tokenizers::Tokenizer);

/// Largest tokenizer file that is read: T5's has 1.4 MB.
const MAX_TOKENIZER_BYTES: u64 = 64 << 20;

impl Tokenizer {
    /// # Errors
    /// [`JascoError::Tokenizer`] if the file is missing, too large or not a tokenizer.
    pub fn open(path: &Path) -> Result<Self, JascoError> {
        let fail = |reason: String| JascoError::Tokenizer {
            path: path.to_owned(),
            reason,
        };
        let bytes = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?;
        if bytes.len() > MAX_TOKENIZER_BYTES {
            return Err(fail(format!(
                "{} bytes are too many for a tokenizer",
                bytes.len()
            )));
        }
        let text = std::fs::read(path).map_err(|e| fail(e.to_string()))?;
        tokenizers::Tokenizer::from_bytes(text)
            .map(Self)
            .map_err(|e| fail(e.to_string()))
    }

    /// Token ids with the end mark that the tokenizer's file asks for. Text is neither cut nor normalised
    /// beyond that.
    ///
    /// # Errors
    /// [`JascoError::Prompt`] if the words can't be encoded.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, JascoError> {
        let encoding = self.0.encode(text, true);
        let encoding = encoding.map_err(|e| JascoError::Prompt {
            reason: e.to_string(),
        })?;
        Ok(encoding.get_ids().to_vec())
    }
}
