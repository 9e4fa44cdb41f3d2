//! The reader of model files as the targets see it: Uncook's own files, without the rest of it.

use std::{fs, path::PathBuf};

// What only the library uses is unused here.
#[allow(dead_code, rustdoc::all)]
#[path = "../../src/models/checkpoint/mod.rs"]
pub mod checkpoint;

use checkpoint::{Checkpoint, CheckpointError, Limits};

/// Opens `bytes` as a file of their own.
///
/// # Panics
/// If the file can't be written.
pub fn open(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path: PathBuf = folder.path().join("model.th");
    fs::write(&path, bytes).expect("written");
    // A mapped file stays readable when its folder goes.
    Checkpoint::open(&path, &Limits::default())
}

/// Reads everything that an open file names.
///
/// # Panics
/// If a tensor has other bytes than its shape says.
pub fn read_all(file: &Checkpoint) {
    for name in file.names() {
        let Some(view) = file.tensor(name) else {
            panic!("{name} is named and not there");
        };
        let elements: usize = view.shape.iter().product();
        assert_eq!(view.bytes.len(), elements * view.dtype.bytes(), "{name}");
        let _ = view.to_f32();
    }
    let _ = file.root().plain();
    let _ = file.verify_sums();
}
