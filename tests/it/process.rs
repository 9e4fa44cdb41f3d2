//! The worker process: the same bits as in the host, and every way in which it can fail.

mod faults;
mod messages;
mod system;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, OnceLock},
    time::Duration,
};

use uncook::{
    audio::AudioBuffer,
    cache::Cache,
    damage::Stem,
    exchange::{SamplePos, samples::stereo},
    worker::{
        pipeline::{self, Outcome, PipelineError},
        process::{Place, Remote, Settings},
        progress::Progress,
        road::{InProcess, Rebuilt, Recording, Road},
    },
};

use super::support::{LIMIT, options, overdriven_band, wait_for};
use system::make_open;
#[cfg(unix)]
use system::make_private;

/// A host with a worker of its own in a folder of its own.
struct Host {
    folder: tempfile::TempDir,
    remote: Remote,
}

impl Host {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(folder.path());
        change(&mut settings);
        Self::started_with(folder, settings, env!("CARGO_BIN_EXE_uncook").into())
    }

    fn started_with(folder: tempfile::TempDir, settings: Settings, binary: PathBuf) -> Self {
        let remote = Remote::new(settings, binary);
        Self { folder, remote }
    }

    fn place(&self) -> Place {
        place(self.folder.path())
    }

    fn run(&self) -> Result<Outcome, PipelineError> {
        self.run_with(&Progress::new())
    }

    fn run_with(&self, progress: &Progress) -> Result<Outcome, PipelineError> {
        self.remote
            .run(&reference().take, &options(), None, progress)
    }
}

fn place(folder: &Path) -> Place {
    Place::new(folder.join("run"), "w")
}

fn settings(folder: &Path) -> Settings {
    Settings {
        idle: Duration::from_secs(20),
        ..Settings::new(place(folder))
    }
}

/// The process that serves there now.
fn pid(place: &Place) -> Option<u32> {
    std::fs::read_to_string(place.number())
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// A program that is no worker, and fails.
fn stranger() -> PathBuf {
    if cfg!(windows) {
        // This one, which knows no such arguments.
        std::env::current_exe().unwrap()
    } else {
        "false".into()
    }
}

/// A take, and what this process makes of it.
struct Reference {
    take: AudioBuffer,
    outcome: Outcome,
}

fn reference() -> &'static Reference {
    static REFERENCE: OnceLock<Reference> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        let take = overdriven_band(3.0, 22_050);
        let outcome = pipeline::run(&take, &options(), None, &Progress::new()).unwrap();
        assert!(outcome.layers[0].is_some(), "nothing was rebuilt");
        Reference { take, outcome }
    })
}

fn same_bits(a: &AudioBuffer, b: &AudioBuffer) -> bool {
    let bits = |audio: &AudioBuffer| -> Vec<Vec<u32>> {
        let channel = |c: &Vec<f32>| c.iter().map(|x| x.to_bits()).collect();
        audio.channels.iter().map(channel).collect()
    };
    a.sample_rate == b.sample_rate && bits(a) == bits(b)
}

/// All audio and findings; lines may say more.
fn assert_same(outcome: &Outcome, expected: &Outcome) {
    assert!(same_bits(&outcome.base, &expected.base));
    for (a, b) in outcome.stems.iter().zip(&expected.stems) {
        assert!(same_bits(a, b));
    }
    for (a, b) in outcome.layers.iter().zip(&expected.layers) {
        match (a, b) {
            (Some(a), Some(b)) => assert!(same_bits(a, b)),
            (a, b) => assert!(a.is_none() && b.is_none()),
        }
    }
    assert_eq!(outcome.parts.len(), expected.parts.len());
    for (a, b) in outcome.parts.iter().zip(&expected.parts) {
        assert!(a.0 == b.0 && same_bits(&a.1, &b.1));
    }
    let bare = |outcome: &Outcome| uncook::worker::view::Findings {
        lines: Vec::new(),
        ..outcome.findings.clone()
    };
    // The words of `Debug` tell every float, and NaN from NaN apart from nothing else.
    assert_eq!(
        format!("{:?}", bare(outcome)),
        format!("{:?}", bare(expected))
    );
}

#[test]
fn what_the_engine_takes_is_the_outcome_block_by_block() {
    let host = Host::new();
    let jobs = host.place().folder().join("jobs");
    let folders = || std::fs::read_dir(&jobs).map_or(0, Iterator::count);
    let start = SamplePos(777);
    let here = InProcess::new(pipeline::song);
    let elsewhere = tempfile::tempdir().unwrap();
    let away = Remote::new(settings(elsewhere.path()), stranger());
    for mono in [false, true] {
        let channels = &reference().take.channels;
        let right = if mono { &channels[0] } else { &channels[1] };
        let samples = stereo(start, [&channels[0], right], &[]);
        let recording = Recording {
            start,
            sample_rate: reference().take.sample_rate,
            samples: &samples,
        };
        assert_eq!(recording.channels().len(), if mono { 1 } else { 2 });
        let scratch = tempfile::tempdir().unwrap();
        let rebuild = |road: &dyn Road, stems: Option<&Path>| {
            let progress = Progress::new();
            road.rebuild(&recording, &options(), None, stems, &progress)
                .unwrap()
        };
        let expected = rebuild(&here, Some(scratch.path()));
        let same = |rebuilt: &Rebuilt| {
            assert!(rebuilt.base == expected.base && rebuilt.layers == expected.layers);
            let maps = [&rebuilt.findings, &expected.findings].map(|f| format!("{:?}", f.damage));
            assert_eq!(maps[0], maps[1]);
        };
        let stem = |rebuilt: &Rebuilt, stem: Stem, channel: usize| {
            let mut out = vec![0.0; recording.frames()];
            let stems = rebuilt.stems.as_ref().unwrap().as_ref().unwrap();
            stems.open(stem, channel).unwrap().read(&mut out).unwrap();
            out
        };
        let rebuilt = rebuild(&host.remote, Some(scratch.path()));
        same(&rebuilt);
        for (of, channel) in Stem::ALL.into_iter().flat_map(|of| [(of, 0), (of, 1)]) {
            let own = stem(&rebuilt, of, channel);
            assert!(of != Stem::Drums || own.iter().any(|x| *x != 0.0));
            assert!(own == stem(&expected, of, channel));
        }
        // The stems stay in the job's folder, and nothing else that is long.
        assert_eq!(folders(), 1);
        drop(rebuilt);
        assert_eq!(folders(), 0);
        let rebuilt = rebuild(&host.remote, None);
        same(&rebuilt);
        assert!(rebuilt.stems.is_none());
        assert_eq!(folders(), 0);
        // Where no process can be used it is done here, and said.
        let rebuilt = rebuild(&away, Some(scratch.path()));
        same(&rebuilt);
        assert!(stem(&rebuilt, Stem::Bass, 1) == stem(&expected, Stem::Bass, 1));
        let said = rebuilt.rebuilders.last().unwrap();
        assert!(said.contains("ran inside the host"), "{said}");
    }
}

#[test]
fn the_worker_process_gives_the_same_bits() {
    let host = Host::new();
    let reference = reference();
    let progress = Progress::new();
    let outcome = host.run_with(&progress).unwrap();
    assert_same(&outcome, &reference.outcome);
    assert_eq!(outcome.findings.lines, reference.outcome.findings.lines);
    assert_eq!(outcome.rebuilders, reference.outcome.rebuilders);
    assert_eq!(host.remote.incidents(), [""; 0]);
    let first = pid(&host.place()).unwrap();
    assert_ne!(first, std::process::id());

    // Mono, with a cache; the same process. What it left there is what this process would have left.
    let mono = AudioBuffer::new(vec![reference.take.channels[0].clone()], 22_050);
    let cache = |name: &str| Cache::open(&host.folder.path().join(name), 1 << 30).unwrap();
    let (ours, theirs) = (cache("ours"), cache("theirs"));
    let expected = pipeline::run(&mono, &options(), Some(&ours), &progress).unwrap();
    let run = |cache| host.remote.run(&mono, &options(), Some(cache), &progress);
    assert_same(&run(&theirs).unwrap(), &expected);
    let misses = ours.counts().misses;
    pipeline::run(&mono, &options(), Some(&theirs), &progress).unwrap();
    assert_eq!((theirs.counts().misses, theirs.counts().hits), (0, misses));
    assert_eq!(pid(&host.place()), Some(first));
    // Nothing is left of the jobs.
    let jobs = std::fs::read_dir(host.folder.path().join("theirs/jobs")).unwrap();
    assert_eq!(jobs.count(), 0);
    assert!(host.remote.status().contains("a process of their own"));
}

#[test]
fn bad_takes_are_refused_in_the_same_words() {
    let host = Host::new();
    let wide = AudioBuffer::silence(3, 100, 22_050);
    let error = |result: Result<Outcome, PipelineError>| result.err().unwrap().to_string();
    let remote = host.remote.run(&wide, &options(), None, &Progress::new());
    let here = pipeline::run(&wide, &options(), None, &Progress::new());
    assert_eq!(error(remote), error(here));
    let empty = AudioBuffer::silence(2, 0, 22_050);
    let remote = host.remote.run(&empty, &options(), None, &Progress::new());
    let here = pipeline::run(&empty, &options(), None, &Progress::new());
    assert_same(&remote.unwrap(), &here.unwrap());
    assert_eq!(host.remote.incidents(), [""; 0]);
}

#[test]
fn a_cancelled_job_ends_and_the_next_one_runs() {
    let host = Host::with(|_| {});
    let long = overdriven_band(120.0, 22_050);
    let progress = Progress::new();
    std::thread::scope(|scope| {
        let job = scope.spawn(|| host.remote.run(&long, &options(), None, &progress));
        wait_for(|| (progress.done() > 0.0).then_some(()));
        progress.cancel();
        let result = job.join().unwrap();
        assert!(matches!(result, Err(PipelineError::Cancelled)));
    });
    assert_same(&host.run().unwrap(), &reference().outcome);
    assert_eq!(host.remote.incidents(), [""; 0]);
}

#[test]
fn an_idle_worker_ends_and_a_new_one_is_started() {
    let host = Host::with(|settings| settings.idle = Duration::from_millis(300));
    host.run().unwrap();
    let place = host.place();
    let first = pid(&place).unwrap();
    wait_for(|| (!place.socket().exists()).then_some(()));
    assert_same(&host.run().unwrap(), &reference().outcome);
    assert_ne!(pid(&place), Some(first));
    assert_eq!(host.remote.incidents(), [""; 0]);
}

/// In a process of its own: one job, and the number of the worker that did it.
fn as_host_in_a_child(folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "process::two_hosts_share_a_worker"])
        .args(["--nocapture", "--test-threads=1"])
        .env("UNCOOK_TEST_HOST", folder);
    command
}

#[test]
fn two_hosts_share_a_worker() {
    if let Some(folder) = std::env::var_os("UNCOOK_TEST_HOST") {
        let folder = PathBuf::from(folder);
        let remote = Remote::new(settings(&folder), env!("CARGO_BIN_EXE_uncook").into());
        let reference = reference();
        for _ in 0..3 {
            let outcome = remote
                .run(&reference.take, &options(), None, &Progress::new())
                .unwrap();
            assert_same(&outcome, &reference.outcome);
        }
        assert_eq!(remote.incidents(), [""; 0]);
        println!("number={}", pid(&place(&folder)).unwrap());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let mut command = as_host_in_a_child(folder.path());
        command
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let hosts = [start(), start()];
    let workers = hosts.map(|host| {
        let output = host.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}");
        let number = said
            .split("number=")
            .nth(1)
            .unwrap()
            .split_whitespace()
            .next();
        number.unwrap().to_owned()
    });
    assert_eq!(workers[0], workers[1]);
    assert_eq!(pid(&place(folder.path())).unwrap().to_string(), workers[0]);
}

#[test]
fn the_engine_runs_on_a_worker_and_says_so() {
    use uncook::{
        exchange::{SamplePos, capture::capture_ring, patch::patch_snapshot},
        worker::engine::Engine,
    };
    let host = Host::new();
    let data = host.folder.path().join("data");
    let place = host.place();
    let engine = Engine::with_road(data.clone(), Arc::new(host.remote));
    let (mut tap, capture) = capture_ring(1 << 22);
    tap.set_sample_rate(22_050);
    let (publisher, mut patches) = patch_snapshot();
    let instance = engine.connect(capture, publisher);
    instance.set_sample_rate(22_050);
    instance.set_options(&options());
    // Long enough that a segment is worked on while it is captured.
    let band = overdriven_band(40.0, 22_050);
    for n in 0..band.frames() {
        tap.push(
            SamplePos(n as i64),
            band.channels[0][n],
            band.channels[1][n],
        );
    }
    wait_for(|| {
        for n in band.frames() - 4096..band.frames() {
            tap.push(
                SamplePos(n as i64),
                band.channels[0][n],
                band.channels[1][n],
            );
        }
        instance.view().ahead.filter(|ahead| ahead.seconds > 0.0)
    });
    tap.stop();
    assert!(instance.wait_idle(LIMIT));
    assert!(patches.has_next() && patches.advance());
    let set = patches.current();
    let patch = &set.patches()[0];
    // In this process, without a cache: the same.
    let expected = pipeline::run(&band, &options(), None, &Progress::new()).unwrap();
    assert!(patch.base[..] == expected.base.channels[..]);
    assert!(
        patch.layers[0].as_ref().unwrap()[..] == expected.layers[0].as_ref().unwrap().channels[..]
    );
    wait_for(|| instance.view().place.contains("of their own").then_some(()));
    assert_eq!(instance.view().problems, []);
    assert!(pid(&place).is_some());
    assert!(
        engine.cache_counts().unwrap().misses == 0,
        "nothing was worked on in this process"
    );
}

#[test]
fn folders_that_others_can_enter_are_not_used() {
    let cure = if cfg!(windows) {
        "remove it"
    } else {
        "chmod 700"
    };
    let host = Host::new();
    let folder = host.place().folder().to_owned();
    make_open(&folder);
    let outcome = host.run().unwrap();
    assert_same(&outcome, &reference().outcome);
    let line = outcome.findings.lines.last().unwrap();
    assert!(
        line.contains("ran inside the host") && line.contains("open to other users"),
        "{line}"
    );
    assert!(host.remote.status().contains(cure));
    assert_eq!(pid(&host.place()), None);
    // Neither does a worker serve there.
    let run = Command::new(env!("CARGO_BIN_EXE_uncook"))
        .args(["worker", "--name", "w", "--idle-ms", "1", "--folder"])
        .arg(&folder)
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&run.stderr).contains(cure));
}

/// Links and other users' folders can be made by everybody there, or by the superuser.
#[cfg(unix)]
#[test]
fn folders_that_are_somebody_elses_are_not_used() {
    // A link to a good folder may lead elsewhere tomorrow.
    let linked = Host::new();
    let target = linked.folder.path().join("target");
    make_private(&target);
    std::os::unix::fs::symlink(&target, linked.place().folder()).unwrap();
    let line = linked.run().unwrap().findings.lines.pop().unwrap();
    assert!(line.contains("somebody else"), "{line}");

    // Another user's, which only the superuser can make.
    let theirs = Host::new();
    let folder = theirs.place().folder().to_owned();
    make_private(&folder);
    if std::os::unix::fs::chown(&folder, Some(12_345), None).is_ok() {
        let line = theirs.run().unwrap().findings.lines.pop().unwrap();
        assert!(line.contains("somebody else"), "{line}");
    }
}

#[cfg(unix)]
#[test]
fn socket_and_folder_are_the_users_alone() {
    use std::os::unix::fs::PermissionsExt;
    let host = Host::new();
    host.run().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(host.place().folder()), 0o700);
    assert_eq!(mode(&host.place().socket()), 0o600);
}

#[cfg(windows)]
#[test]
fn pipe_and_folder_are_the_users_alone() {
    let host = Host::new();
    host.run().unwrap();
    let place = host.place();
    let pipe = PathBuf::from(std::fs::read_to_string(place.socket()).unwrap());
    let owners = [place.folder(), &pipe].map(|path| {
        let mut may = system::may_open(path);
        // The system itself may everything.
        may.retain(|user| user != "SY");
        may
    });
    // One user, the same in both places.
    assert_eq!(owners[0], owners[1]);
    assert_eq!(owners[0].len(), 1, "{owners:?}");
    let user = &owners[0][0];
    assert!(user.starts_with("S-1-5-21-") || user == "LA", "{user}");
}
