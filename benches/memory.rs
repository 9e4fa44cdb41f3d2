//! What instances take that hold 8 minutes each of 48 kHz, with drums and bass rebuilt in a fifth: samples as the engine
//! counts them, and resident memory (Linux). One kind a process, since memory that was given back may stay resident:
//!
//!     cargo bench --bench memory -- stereo        # or 16-bits, or equal-channels

#[allow(dead_code, reason = "the tests' own")]
#[path = "../tests/it/memory/held.rs"]
mod held;
#[allow(dead_code, reason = "the tests' own")]
#[path = "../tests/it/support.rs"]
mod support;

use std::{sync::Arc, time::Duration};

use held::{Given, Sound, equal_channels, noise, quantised, track};
use uncook::{
    exchange::{SamplePos, samples::held_bytes},
    worker::engine::Engine,
};

/// Instances and the seconds of each.
const INSTANCES: u64 = 3;
const SECONDS: usize = 480;

/// A line of what the system says about this process, in MB.
fn resident_mb(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with(line));
    let kb = line.and_then(|l| l.split_whitespace().nth(1)?.parse::<f64>().ok());
    kb.unwrap_or(f64::NAN) / 1024.0
}

/// A name, and what is played for a seed.
type Kind = (&'static str, fn(u64) -> Sound);

fn main() {
    let kinds: [Kind; 3] = [
        ("stereo", noise),
        ("16-bits", |seed| quantised(seed, 16)),
        ("equal-channels", equal_channels),
    ];
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let wanted = wanted.unwrap_or_else(|| "stereo".into());
    let Some((kind, sound)) = kinds.into_iter().find(|(kind, _)| *kind == wanted) else {
        eprintln!("{wanted} is none of {:?}", kinds.map(|(kind, _)| kind));
        std::process::exit(2);
    };
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::with_road(folder.path().to_owned(), Arc::new(Given));
    let before = resident_mb("VmRSS:");
    let mut tracks = Vec::new();
    for seed in 1..=INSTANCES {
        let mut track = track(&engine);
        track.play(SamplePos(0), SECONDS, &mut sound(seed));
        tracks.push(track);
        std::thread::sleep(Duration::from_millis(500));
        println!(
            "{seed} x 8 minutes, {kind}: {:.0} MB in samples, {:.0} MB resident, at most {:.0} MB",
            held_bytes() as f64 / 1e6,
            resident_mb("VmRSS:") - before,
            resident_mb("VmHWM:") - before
        );
    }
}
