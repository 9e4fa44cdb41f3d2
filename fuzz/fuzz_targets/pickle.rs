// Whatever the bytes, the walk through a pickle ends without a panic and within its limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use uncook_fuzz::checkpoint::{Limits, pickle};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(parsed) = pickle::parse(bytes, &Limits::default()) {
        // What consumers do with it.
        let _ = parsed.root.plain();
        let _ = parsed.root.at("best_state.w");
    }
});
