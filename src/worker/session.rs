// [any] What the host's project stores of the worker's results: hashes and relative names, never audio.

use serde::{Deserialize, Serialize};

pub use crate::cache::commits::CommitRef;

/// The commits of an instance, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    pub commits: Vec<CommitRef>,
}
