// Whatever the file, opening it ends without a panic, and every tensor that it names can be read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use uncook_fuzz::{open, read_all};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = open(bytes) {
        read_all(&file);
    }
});
