//! What instances take that hold 8 minutes each of 48 kHz, with drums and bass rebuilt in a fifth: samples as the engine
//! counts them, and resident memory (Linux). One kind a process, since memory that was given back may stay resident:
//!
//!     cargo bench --bench memory -- stereo        # or 16-bits, or equal-channels
//!
//! What an analysis of so many minutes takes while it runs, by its steps, in this process or in one of its own:
//!
//!     cargo bench --bench memory -- job 8         # or job-apart 8

#[allow(dead_code, reason = "the tests' own")]
#[path = "../tests/it/memory/held.rs"]
mod held;
#[allow(dead_code, reason = "the tests' own")]
#[path = "../tests/it/support.rs"]
mod support;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use held::{Given, Sound, equal_channels, noise, quantised, track};
use uncook::{
    audio::AudioBuffer,
    cache::Cache,
    exchange::{SamplePos, samples::held_bytes},
    worker::{
        ahead,
        engine::Engine,
        options::Options,
        pipeline::{self, Outcome, PipelineError},
        process::{Place, Remote, Settings},
        progress::Progress,
        road::{InProcess, Rebuilt, Recording, Road},
    },
};

/// Instances and the seconds of each.
const INSTANCES: u64 = 3;
const SECONDS: usize = 480;

/// A line of what the system says about this process, in MB.
fn resident_mb(line: &str) -> f64 {
    resident_mb_of("self", line)
}

/// As above, of any process.
fn resident_mb_of(process: &str, line: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
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
    if let "job" | "job-apart" = &*wanted {
        let minutes = std::env::args().skip_while(|arg| *arg != wanted).nth(1);
        let minutes = minutes.and_then(|m| m.parse().ok()).unwrap_or(8.0);
        return job(minutes, wanted == "job-apart");
    }
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

/// Plays a band, overdriven in the middle third, has everything rebuilt, and says the peaks of every step.
fn job(minutes: f64, apart: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let place = Place::new(folder.path().join("run"), "worker");
    let road: Arc<dyn Road> = if apart {
        let settings = Settings::new(place.clone());
        let program = PathBuf::from(env!("CARGO_BIN_EXE_uncook"));
        Arc::new(Remote::new(settings, program))
    } else {
        Arc::new(InProcess::new(pipeline::song))
    };
    let done = Arc::new(AtomicBool::new(false));
    let watched = Watched {
        road,
        worker: place.number(),
        done: done.clone(),
    };
    let engine = Engine::with_road(folder.path().to_owned(), Arc::new(watched));
    let mut track = track(&engine);
    // One minute over and over: what a job takes doesn't depend on what is played.
    let band = support::overdriven_band(60.0, held::RATE);
    let mut n = 0;
    let mut sound: Sound = Box::new(move || {
        n = (n + 1) % band.frames();
        [band.channels[0][n], band.channels[1][n]]
    });
    println!("MB at most: in this process, of these in samples; in the worker's");
    track.play(SamplePos(0), (60.0 * minutes) as usize, &mut sound);
    done.store(true, Ordering::Relaxed);
    println!(
        "{:.0} MB resident afterwards, {:.0} MB in samples",
        resident_mb_of("self", "VmRSS:"),
        held_bytes() as f64 / 1e6
    );
}

/// Says how much memory every step of a job took.
struct Watched {
    road: Arc<dyn Road>,
    /// Names the worker process.
    worker: PathBuf,
    done: Arc<AtomicBool>,
}

impl Road for Watched {
    fn run(
        &self,
        take: &AudioBuffer,
        options: &Options,
        cache: Option<&Cache>,
        progress: &Progress,
    ) -> Result<Outcome, PipelineError> {
        self.road.run(take, options, cache, progress)
    }

    fn rebuild(
        &self,
        take: &Recording<'_>,
        options: &Options,
        cache: Option<&Cache>,
        stems: Option<&Path>,
        progress: &Progress,
    ) -> Result<Rebuilt, PipelineError> {
        let (progress_now, worker, done) =
            (progress.clone(), self.worker.clone(), self.done.clone());
        // Until the host has done its part, too.
        std::thread::spawn(move || watch(&progress_now, &worker, &done));
        self.road.rebuild(take, options, cache, stems, progress)
    }

    fn ahead(
        &self,
        _take: &ahead::Take<'_>,
        _options: &Options,
        _cache: &Cache,
        _progress: &Progress,
    ) -> Result<(), PipelineError> {
        Ok(())
    }
}

fn watch(progress: &Progress, worker: &Path, done: &AtomicBool) {
    // From now on the highest value counts anew (Linux).
    let forget = |process: &str| drop(std::fs::write(format!("/proc/{process}/clear_refs"), "5"));
    let mut step = progress.step();
    let mut samples = 0;
    forget("self");
    loop {
        let over = done.load(Ordering::Relaxed);
        samples = samples.max(held_bytes());
        let now = progress.step();
        if now != step || over {
            let pid = std::fs::read_to_string(worker).unwrap_or_default();
            println!(
                "{:40} {:6.0} {:6.0} {:6.0}",
                step.label(),
                resident_mb("VmHWM:"),
                samples as f64 / 1e6,
                resident_mb_of(pid.trim(), "VmHWM:"),
            );
            forget("self");
            forget(pid.trim());
            (step, samples) = (now, 0);
        }
        if over {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
