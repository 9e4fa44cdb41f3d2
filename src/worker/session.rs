// [any] What the host's project stores of the worker's results: hashes and relative names, never audio.

use serde::{Deserialize, Serialize};

/// A committed patch, by reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRef {
    /// SHA-256 of the content, lower-case hex.
    pub hash: String,
    /// Name of the sidecar file, without a folder.
    pub file: String,
    /// Position of the first sample.
    pub start: i64,
    /// Length in samples.
    pub frames: u64,
    /// Hz.
    pub sample_rate: u32,
}

/// The commits of an instance, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    pub commits: Vec<CommitRef>,
}
