// Whatever the file, opening it ends without a panic, and every tensor that it names can be read. Covers the
// zip's directory and the header of safetensors.
#![no_main]

use libfuzzer_sys::fuzz_target;
use uncook::models::checkpoint::{Checkpoint, Limits};

fuzz_target!(|bytes: &[u8]| {
    let Ok(folder) = tempfile::tempdir() else {
        return;
    };
    let path = folder.path().join("model.th");
    if std::fs::write(&path, bytes).is_err() {
        return;
    }
    if let Ok(file) = Checkpoint::open(&path, &Limits::default()) {
        for name in file.names() {
            if let Some(view) = file.tensor(name) {
                let elements: usize = view.shape.iter().product();
                assert_eq!(view.bytes.len(), elements * view.dtype.bytes());
            }
        }
        let _ = file.verify_sums();
    }
});
