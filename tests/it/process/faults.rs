//! What is done to the worker process, and what the host makes of it.

use std::{
    io::{Read, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use uncook::{
    audio::AudioBuffer,
    cache::Cache,
    worker::{
        options::Options,
        pipeline::{self, Outcome, PipelineError},
        process::{
            Stream, accept, listen,
            message::{GREETING_BYTES, greeting, greeting_of},
            serve,
        },
        progress::Progress,
        road::{InProcess, Road},
    },
};

use super::{
    Host, as_host_in_a_child, assert_same, options, pid, place, reference, settings, stranger,
    system::{halt, kill, make_private},
};
use crate::support::{LIMIT, Noise, overdriven_band, wait_for, with_data_of_its_own};

/// Kills in the suite; `UNCOOK_KILLS` asks for another number.
const KILLS: usize = 30;

/// The last line of the findings, which says where the analysis ran.
fn last_line(outcome: &Outcome) -> String {
    outcome.findings.lines.last().cloned().unwrap_or_default()
}

#[test]
fn killed_at_any_moment_the_worker_costs_time_and_nothing_else() {
    let kills = std::env::var("UNCOOK_KILLS").map_or(KILLS, |n| n.parse().unwrap());
    let host = Host::new();
    host.run().unwrap();
    let mut length = Duration::MAX;
    let mut noise = Noise(9);
    let (mut rounds, mut met) = (0, 0);
    while met < kills {
        let began = std::time::Instant::now();
        let moment = length
            .min(LIMIT)
            .mul_f64(0.5 * f64::from(noise.next() + 1.0));
        let outcome = std::thread::scope(|scope| {
            if length < Duration::MAX {
                scope.spawn(|| {
                    std::thread::sleep(moment);
                    pid(&host.place()).map(kill)
                });
            }
            host.run().unwrap()
        });
        assert_same(&outcome, &reference().outcome);
        assert_eq!(outcome.findings.lines, reference().outcome.findings.lines);
        let incidents = host.remote.incidents();
        for incident in &incidents {
            assert!(
                incident.contains("was killed") && incident.contains("started again"),
                "{incident}"
            );
        }
        // A kill between two jobs is no incident, and says how long a job takes.
        if incidents.is_empty() {
            length = length.min(began.elapsed());
        }
        met += incidents.len();
        rounds += 1;
        assert!(rounds < 20 * kills, "{met} of {rounds} met a job");
    }
}

#[test]
fn a_worker_that_is_always_killed_leaves_the_work_to_the_host() {
    let host = Host::new();
    let over = AtomicBool::new(false);
    let killed = AtomicUsize::new(0);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut last = None;
            while !over.load(Ordering::Relaxed) {
                let now = pid(&host.place());
                if let Some(number) = now.filter(|_| now != last) {
                    // Late enough that it has taken the job, early enough that it can't be done.
                    std::thread::sleep(Duration::from_millis(60));
                    kill(number);
                    killed.fetch_add(1, Ordering::Relaxed);
                    last = now;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let long = overdriven_band(20.0, 22_050);
        let outcome = host.remote.run(&long, &options(), None, &Progress::new());
        over.store(true, Ordering::Relaxed);
        let expected = pipeline::run(&long, &options(), None, &Progress::new()).unwrap();
        let outcome = outcome.unwrap();
        assert_same(&outcome, &expected);
        outcome
    });
    assert!(killed.into_inner() >= 2);
    let line = last_line(&outcome);
    assert!(
        line.contains("ran inside the host") && line.contains("was killed twice"),
        "{line}"
    );
    assert_eq!(outcome.rebuilders.last(), Some(&line));
    assert_eq!(host.remote.incidents().len(), 2);
    // Afterwards it is as before.
    assert_same(&host.run().unwrap(), &reference().outcome);
    assert!(host.remote.status().contains("of their own"));
}

#[test]
fn a_worker_that_stands_still_is_ended() {
    let host = Host::with(|settings| settings.silence = Duration::from_secs(5));
    host.run().unwrap();
    let first = pid(&host.place()).unwrap();
    assert!(halt(first));
    assert_same(&host.run().unwrap(), &reference().outcome);
    let incidents = host.remote.incidents();
    assert!(
        incidents.len() == 1 && incidents[0].contains("hung"),
        "{incidents:?}"
    );
    assert_ne!(pid(&host.place()), Some(first));

    // In the middle of a job.
    let outcome = std::thread::scope(|scope| {
        let progress = Progress::new();
        let watched = progress.clone();
        let place = host.place();
        scope.spawn(move || {
            wait_for(|| (watched.done() > 0.0).then_some(()));
            halt(pid(&place).unwrap())
        });
        host.run_with(&progress).unwrap()
    });
    assert_same(&outcome, &reference().outcome);
}

/// A road whose job shows no sign of work until it is let go.
struct Stuck(AtomicBool);

impl Road for Stuck {
    fn run(
        &self,
        _take: &AudioBuffer,
        _options: &Options,
        _cache: Option<&Cache>,
        _progress: &Progress,
    ) -> Result<Outcome, PipelineError> {
        wait_for(|| self.0.load(Ordering::Relaxed).then_some(()));
        Err(PipelineError::Cancelled)
    }
}

#[test]
fn a_job_that_hangs_while_the_heart_beats_is_given_up() {
    let host = Host::with(|settings| settings.hung = Duration::from_millis(700));
    let stuck = Arc::new(Stuck(AtomicBool::new(false)));
    let road: Arc<dyn Road> = stuck.clone();
    let place = host.place();
    let served = std::thread::spawn(move || serve(&place, Duration::from_millis(300), &road));
    wait_for(|| host.place().socket().exists().then_some(()));
    let progress = Progress::new();
    let began = std::time::Instant::now();
    // The worker is this process, which is not ended; a second try finds the first job running.
    std::thread::scope(|scope| {
        let job = scope.spawn(|| host.run_with(&progress));
        let said = wait_for(|| host.remote.incidents().pop());
        assert!(said.contains("hung"), "{said}");
        assert!(began.elapsed() >= Duration::from_millis(700));
        stuck.0.store(true, Ordering::Relaxed);
        let ended = job.join().unwrap();
        assert!(matches!(ended, Err(PipelineError::Cancelled)));
    });
    served.join().unwrap().unwrap();
}

#[test]
fn a_panic_in_a_job_ends_that_job_only() {
    let host = Host::new();
    let road: Arc<dyn Road> = Arc::new(InProcess::new(|take, options, cache, progress| {
        assert_ne!(options.seed, 13, "a defect, for this test");
        pipeline::run(take, options, cache, progress)
    }));
    let place = host.place();
    let served = std::thread::spawn(move || serve(&place, Duration::from_millis(500), &road));
    wait_for(|| host.place().socket().exists().then_some(()));
    let unlucky = Options {
        seed: 13,
        ..options()
    };
    let take = &reference().take;
    let error = host.remote.run(take, &unlucky, None, &Progress::new());
    let error = error.err().unwrap().to_string();
    assert!(error.contains("live repair goes on"), "{error}");
    assert_same(&host.run().unwrap(), &reference().outcome);
    served.join().unwrap().unwrap();
}

/// Something else than a worker listens where the worker should: it says `first`, reads, says `then`, goes.
fn impostor(host: &Host, first: Vec<u8>, then: Vec<u8>) -> std::thread::JoinHandle<()> {
    let place = host.place();
    make_private(place.folder());
    let listener = listen(&place.socket()).unwrap();
    std::thread::spawn(move || {
        let mut stream = accept(&listener, LIMIT).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut greeting = [0; GREETING_BYTES];
        let _ = stream.write_all(&first);
        let _ = stream.read_exact(&mut greeting);
        if !then.is_empty() {
            let mut some = [0; 64];
            let _ = stream.read(&mut some);
            let _ = stream.write_all(&then);
            // Until the other side has had enough.
            let _ = stream.read_to_end(&mut Vec::new());
        }
    })
}

#[test]
fn another_version_is_named_and_not_used() {
    for (theirs, words) in [
        (greeting_of(99, "9.9.9"), "Uncook 9.9.9 (protocol 99)"),
        (greeting_of(1, "0.0.1"), "Uncook 0.0.1"),
    ] {
        let host = Host::new();
        let impostor = impostor(&host, theirs.to_vec(), Vec::new());
        let outcome = host.run().unwrap();
        assert_same(&outcome, &reference().outcome);
        let line = last_line(&outcome);
        assert!(
            line.contains("ran inside the host") && line.contains(words) && line.contains("close"),
            "{line}"
        );
        assert!(host.remote.status().contains(words));
        impostor.join().unwrap();
    }
}

#[test]
fn garbage_on_the_socket_is_not_believed() {
    let mut noise = Noise(3);
    let mut garbage =
        |n: usize| -> Vec<u8> { (0..n).map(|_| (noise.next() * 127.0) as i8 as u8).collect() };
    let good = greeting().to_vec();
    let mut endless = vec![0xff; 4];
    endless.extend(garbage(100));
    let mut nonsense = vec![3, 0, 0, 0];
    nonsense.extend([0xff; 3]);
    for (first, then) in [
        (garbage(GREETING_BYTES), Vec::new()),
        (good.clone(), endless),
        (good.clone(), nonsense),
        // "Done" with nothing in the folder.
        (good.clone(), done_with_nothing()),
    ] {
        let host = Host::new();
        let impostor = impostor(&host, first, then);
        let outcome = host.run().unwrap();
        assert_same(&outcome, &reference().outcome);
        let line = last_line(&outcome);
        assert!(line.contains("ran inside the host"), "{line}");
        impostor.join().unwrap();
    }
}

fn done_with_nothing() -> Vec<u8> {
    use uncook::worker::process::message::{Reply, Results, encode};
    encode(&Reply::Done(Box::new(Results {
        layers: [true; 4],
        parts: vec!["guitar".to_owned()],
        findings: 1 << 40,
    })))
    .unwrap()
}

#[test]
fn a_worker_survives_what_strangers_send() {
    use uncook::worker::process::message::{Order, Request, Wanted, Work, encode};
    let host = Host::new();
    host.run().unwrap();
    let first = pid(&host.place()).unwrap();
    let order = |folder: &Path, channels: u8, frames: u64| {
        let order = Order {
            folder: folder.to_owned(),
            cache: None,
            sample_rate: 44_100,
            channels,
            frames,
            options: options(),
            work: Work::Whole(Wanted {
                stems: true,
                parts: true,
            }),
        };
        [
            greeting().to_vec(),
            encode(&Request::Begin(Box::new(order))).unwrap(),
        ]
        .concat()
    };
    let mut noise = Noise(5);
    let mut garbage =
        |n: usize| -> Vec<u8> { (0..n).map(|_| (noise.next() * 127.0) as i8 as u8).collect() };
    let cut = order(host.folder.path(), 2, 100);
    for bytes in [
        Vec::new(),
        garbage(3),
        garbage(5000),
        greeting().to_vec(),
        [greeting().to_vec(), garbage(500)].concat(),
        cut[..cut.len() - 5].to_vec(),
        order(Path::new("/nowhere"), 2, 100),
        order(Path::new("/"), 2, 100),
        order(host.folder.path(), 0, 100),
        order(host.folder.path(), 2, u64::MAX),
        order(host.folder.path(), 2, 1 << 29),
        [
            order(host.folder.path(), 2, 100),
            order(host.folder.path(), 2, 100),
        ]
        .concat(),
    ] {
        let mut stream = Stream::connect(host.place().socket()).unwrap();
        let _ = stream.write_all(&bytes);
        // A pipe has no other way to say that nothing more comes.
        #[cfg(unix)]
        {
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
    assert_same(&host.run().unwrap(), &reference().outcome);
    assert_eq!(pid(&host.place()), Some(first));
    assert_eq!(host.remote.incidents(), [""; 0]);
}

/// A program that passes its arguments to the real one, the memory excepted.
#[cfg(target_os = "linux")]
fn starved(folder: &Path) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let script = folder.join("starved");
    let text = format!(
        "#!/bin/sh\nexec {} worker --folder \"$3\" --name \"$5\" --idle-ms \"$7\" --memory-mb 40\n",
        env!("CARGO_BIN_EXE_uncook")
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    script
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_without_memory_ends_and_the_host_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let script = starved(folder.path());
    let settings = settings(folder.path());
    let host = Host::started_with(folder, settings, script);
    let long = overdriven_band(30.0, 44_100);
    let error = host.remote.run(&long, &options(), None, &Progress::new());
    let error = error.err().unwrap().to_string();
    assert!(error.contains("ran out of memory twice"), "{error}");
    assert!(error.contains("not tried inside the host"), "{error}");
    let incidents = host.remote.incidents();
    assert!(
        incidents.len() == 1 && incidents[0].contains("Live repair goes on"),
        "{incidents:?}"
    );
}

#[test]
fn a_take_that_needs_more_than_the_budget_is_not_begun() {
    let host = Host::with(|settings| settings.memory_bytes = Some(301 << 20));
    let long = AudioBuffer::silence(2, 44_100 * 60, 44_100);
    let error = host.remote.run(&long, &options(), None, &Progress::new());
    let error = error.err().unwrap().to_string();
    assert!(
        error.contains("the limit is 301 MB") && error.contains("memory_mb"),
        "{error}"
    );
    assert_eq!(pid(&host.place()), None);
}

#[test]
fn a_program_that_is_not_there_or_does_something_else_is_said() {
    for (program, words) in [
        ("/nowhere/uncook".into(), "can't be started"),
        (stranger(), "can't be started"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let host = Host::started_with(folder, settings, program);
        let outcome = host.run().unwrap();
        assert_same(&outcome, &reference().outcome);
        let line = last_line(&outcome);
        assert!(
            line.contains("ran inside the host") && line.contains(words),
            "{line}"
        );
    }
}

/// Many hosts restore the signal's default, with which a write to nobody ends the process.
#[test]
fn a_worker_that_goes_does_not_take_its_host_along() {
    let test = "process::faults::a_worker_that_goes_does_not_take_its_host_along";
    with_data_of_its_own(
        test,
        |_| {},
        |folder| {
            #[cfg(unix)]
            {
                // SAFETY: no memory is touched.
                unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
                let (mut here, there) = Stream::pair().unwrap();
                drop(there);
                assert!(here.write_all(b"to nobody").is_err());
            }
            let remote = uncook::worker::process::Remote::new(
                settings(folder),
                env!("CARGO_BIN_EXE_uncook").into(),
            );
            let place = place(folder);
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(40));
                        if let Some(pid) = pid(&place) {
                            kill(pid);
                        }
                    }
                });
                for _ in 0..3 {
                    let outcome = remote.run(&reference().take, &options(), None, &Progress::new());
                    assert_same(&outcome.unwrap(), &reference().outcome);
                }
                stop.store(true, Ordering::Relaxed);
            });
        },
    );
}

#[test]
fn a_host_that_dies_in_a_job_leaves_nothing_behind() {
    let host = Host::new();
    let mut child = as_host_in_a_child(host.folder.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let jobs = host.place().folder().join("jobs");
    let folders = || std::fs::read_dir(&jobs).map_or(0, Iterator::count);
    wait_for(|| (folders() > 0).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_same(&host.run().unwrap(), &reference().outcome);
    assert_eq!(folders(), 0);
}
