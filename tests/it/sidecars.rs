//! Sessions and sidecars against crashes, full disks, hostile projects and each other.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use proptest::prelude::*;
use uncook::{
    cache::{
        KeyBuilder,
        commits::{self, CommitError, CommitRef},
    },
    exchange::{
        SamplePos,
        capture::capture_ring,
        patch::{PatchReader, patch_snapshot},
        samples::{self, StereoSamples},
    },
    profile::edit::MusicEdit,
    worker::{
        engine::{Engine, Instance},
        session::{Decision, Edits, Session},
    },
};

use super::support::{LIMIT, Noise, options, overdriven_band, wait_for};

/// Processes that are killed while they save.
const KILLS: usize = 200;

fn stereo(seed: u64, frames: usize) -> StereoSamples {
    let mut noise = Noise(seed);
    let [left, right] = [(); 2].map(|()| (0..frames).map(|_| noise.next()).collect::<Vec<_>>());
    samples::stereo(SamplePos(0), [&left, &right], &[])
}

fn save(dir: &Path, seed: u64, frames: usize) -> Result<CommitRef, CommitError> {
    let take = stereo(seed, frames);
    let base = stereo(seed + 1_000_000, frames);
    let layers = [Some(stereo(seed + 2_000_000, frames)), None, None, None];
    commits::save(
        dir,
        SamplePos(seed as i64),
        44_100,
        &take,
        &base,
        &layers,
        "{}",
    )
}

/// This test again, in a process of its own with `job` in its environment.
fn child(test: &str, job: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            &format!("sidecars::{test}"),
            "--nocapture",
            "--test-threads=1",
        ])
        .env("UNCOOK_TEST_SIDECARS", job);
    command
}

fn job() -> Option<PathBuf> {
    std::env::var_os("UNCOOK_TEST_SIDECARS").map(PathBuf::from)
}

#[test]
fn killed_while_saving_nothing_committed_is_lost_and_nothing_half_is_loaded() {
    const TEST: &str = "killed_while_saving_nothing_committed_is_lost_and_nothing_half_is_loaded";
    if let Some(job) = job() {
        let first = fs::read_dir(&job).unwrap().count() as u64;
        for n in 0.. {
            // Sizes from one write to many.
            let commit = save(&job, 1 + first + n, 200 << (n % 7)).unwrap();
            println!("\n{}", serde_json::to_string(&commit).unwrap());
            std::io::stdout().flush().unwrap();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut noise = Noise(77);
    let mut committed: Vec<CommitRef> = Vec::new();
    let mut asides = 0;
    for _ in 0..KILLS {
        let mut saving = child(TEST, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(saving.stdout.take().unwrap()).lines();
        let mut next = || -> Option<CommitRef> {
            loop {
                let line = said.next()?.unwrap();
                if let Ok(commit) = serde_json::from_str(&line) {
                    return Some(commit);
                }
            }
        };
        committed.extend(next());
        std::thread::sleep(Duration::from_micros(
            (8_000.0 * (1.0 + noise.next())) as u64,
        ));
        saving.kill().unwrap();
        // What it had said before it was killed counts.
        committed.extend(std::iter::from_fn(next));
        saving.wait().unwrap();
        for entry in fs::read_dir(dir.path()).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "aside") {
                asides += 1;
                fs::remove_file(&path).unwrap();
            }
        }
    }
    assert!(
        committed.len() >= KILLS && asides > 0,
        "{} {asides}",
        committed.len()
    );
    for commit in &committed {
        let (patch, meta) = commits::load(&[dir.path()], commit).unwrap();
        assert_eq!((patch.start.0, &*meta), (commit.start, "{}"));
    }
    // What is there and was not said: whole, too.
    for entry in fs::read_dir(dir.path()).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let known = committed.iter().any(|commit| commit.file == name);
        let hash = name.strip_suffix(".uncookpatch").unwrap().to_owned();
        let claim = CommitRef {
            hash,
            file: name.clone(),
            start: i64::MIN,
            frames: 0,
            sample_rate: 1,
        };
        // Another place than claimed, but no other fault: its bytes hash to its name.
        let fault = commits::load(&[dir.path()], &claim).unwrap_err();
        assert!(
            known || matches!(fault, CommitError::Mismatch { .. }),
            "{fault}"
        );
    }
}

/// Bounds the size of files that this process writes.
#[cfg(unix)]
fn fill_the_disk(bytes: u64) {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: bytes,
    };
    // SAFETY: no memory is touched but `limit`, which is read.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
    }
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_said_and_leaves_nothing_half() {
    if let Some(dir) = job() {
        let before = save(&dir, 1, 100).unwrap();
        let cache = uncook::cache::Cache::open(&dir.join("cache"), 1 << 30).unwrap();
        fill_the_disk(8_192);
        let error = save(&dir, 2, 20_000).unwrap_err().to_string();
        assert!(
            error.contains("space") && error.contains(".uncookpatch"),
            "{error}"
        );
        let key = KeyBuilder::new("full", 1).finish();
        assert!(cache.put(&key, &[7; 20_000]).is_err());
        assert_eq!(cache.get(&key), None);
        let left = fs::read_dir(&dir).unwrap().flatten();
        let files: Vec<_> = left.filter(|e| e.path().is_file()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        commits::load(&[&dir], &before).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let run = child("a_full_disk_is_said_and_leaves_nothing_half", dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    let erred = String::from_utf8_lossy(&run.stderr);
    assert!(
        run.status.success() && said.contains("1 passed"),
        "{said}{erred}"
    );
}

struct Track {
    instance: Instance,
    patches: PatchReader,
}

fn track(engine: &Arc<Engine>) -> Track {
    let (_, capture) = capture_ring(1 << 10);
    let (publisher, patches) = patch_snapshot();
    let instance = engine.connect(capture, publisher);
    Track { instance, patches }
}

impl Track {
    fn load(&mut self, session: &Session) -> usize {
        self.instance.load_session(session);
        while self.patches.has_next() && self.patches.advance() {}
        self.patches.current().patches().len()
    }
}

fn session(commits: Vec<CommitRef>) -> Session {
    Session {
        commits,
        ..Session::default()
    }
}

#[test]
fn two_projects_share_a_sidecar_and_neither_takes_it_away() {
    let folder = tempfile::tempdir().unwrap();
    let commit = save(&folder.path().join("commits"), 5, 3_000).unwrap();
    let engine = Engine::in_folder(folder.path().to_owned());
    let (mut first, mut second) = (track(&engine), track(&engine));
    let project = session(vec![commit.clone()]);
    assert_eq!((first.load(&project), second.load(&project)), (1, 1));
    first.instance.clear();
    assert_eq!(first.load(&Session::default()), 0);
    assert_eq!(first.load(&project), 1);
    assert_eq!(second.instance.session(), project);
}

#[test]
fn sidecars_that_are_something_else_play_nothing_and_stay_in_the_project() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("commits");
    let whole: Vec<CommitRef> = (0..6)
        .map(|n| save(&dir, 10_000 * n, 3_000).unwrap())
        .collect();
    let path = |n: usize| dir.join(&whole[n].file);
    // 0 stays. Truncated; swapped with another's; empty; a folder; gone.
    let bytes = fs::read(path(1)).unwrap();
    fs::write(path(1), &bytes[..bytes.len() / 2]).unwrap();
    fs::copy(path(0), path(2)).unwrap();
    fs::write(path(3), b"").unwrap();
    fs::remove_file(path(4)).unwrap();
    fs::create_dir(path(4)).unwrap();
    fs::remove_file(path(5)).unwrap();
    let engine = Engine::in_folder(folder.path().to_owned());
    let mut track = track(&engine);
    let project = session(whole.clone());
    assert_eq!(track.load(&project), 1);
    assert_eq!(track.instance.session(), project);
    for commit in &whole[1..] {
        wait_for(|| {
            let view = track.instance.view();
            view.problems
                .iter()
                .any(|p| p.contains(&commit.file))
                .then_some(())
        });
    }
    // Put back, they play.
    fs::write(path(1), &bytes).unwrap();
    assert_eq!(track.load(&project), 2);
}

#[cfg(unix)]
#[test]
fn links_and_pipes_are_judged_by_what_they_hold() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, elsewhere) = (
        folder.path().join("commits"),
        folder.path().join("elsewhere"),
    );
    let commits: Vec<CommitRef> = (0..4)
        .map(|n| save(&elsewhere, 10_000 * n, 3_000).unwrap())
        .collect();
    fs::create_dir(&dir).unwrap();
    let link =
        |n: usize, to: &Path| std::os::unix::fs::symlink(to, dir.join(&commits[n].file)).unwrap();
    // A collected project may hold links: what they lead to has the right hash.
    link(0, &elsewhere.join(&commits[0].file));
    link(1, Path::new("/dev/zero"));
    link(2, &dir.join(&commits[2].file));
    let pipe = std::ffi::CString::new(dir.join(&commits[3].file).to_str().unwrap()).unwrap();
    // SAFETY: a string that ends on zero.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    let engine = Engine::in_folder(folder.path().to_owned());
    let mut track = track(&engine);
    assert_eq!(track.load(&session(commits.clone())), 1);
    assert_eq!(track.instance.session(), session(commits));
}

/// A folder in which nothing can be written, whoever asks: it is a file.
#[test]
fn a_repair_that_can_not_be_saved_plays_is_said_and_saved_later() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("commits");
    fs::write(&dir, "no folder").unwrap();
    let band = overdriven_band(3.0, 22_050);
    let session = {
        let engine = Engine::in_folder(folder.path().to_owned());
        let (mut tap, capture) = capture_ring(1 << 20);
        tap.set_sample_rate(22_050);
        let (publisher, mut patches) = patch_snapshot();
        let instance = engine.connect(capture, publisher);
        instance.set_sample_rate(22_050);
        instance.set_options(&options());
        for n in 0..band.frames() {
            tap.push(
                SamplePos(n as i64),
                band.channels[0][n],
                band.channels[1][n],
            );
        }
        tap.stop();
        assert!(instance.wait_idle(LIMIT));
        assert!(patches.has_next() && patches.advance(), "nothing plays");
        let said = |text: &str| instance.view().problems.iter().any(|p| p.contains(text));
        wait_for(|| said("could not be saved").then_some(()));
        assert!(said("permissions") && said("Saving the project again"));
        assert_eq!(instance.session(), Session::default());
        // Nor can it be collected, and that is said.
        let error = instance
            .collect(&folder.path().join("collected"))
            .unwrap_err();
        assert!(error.contains("could not be saved"), "{error}");

        fs::remove_file(&dir).unwrap();
        let session = instance.session();
        assert_eq!(session.commits.len(), 1);
        wait_for(|| (!said("could not be saved")).then_some(()));
        assert_eq!(instance.session(), session);
        session
    };
    let engine = Engine::in_folder(folder.path().to_owned());
    let mut track = track(&engine);
    assert_eq!(track.load(&session), 1);
    assert_eq!(
        track.patches.current().patches()[0].take[0],
        band.channels[0]
    );
}

#[test]
fn a_collected_project_plays_elsewhere_once_it_is_relinked() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let dir = path("here/commits");
    let mut project = session(
        (0..3)
            .map(|n| save(&dir, 10_000 * n, 3_000).unwrap())
            .collect(),
    );
    // An earlier rebuild of the first.
    let again = [None, Some(stereo(7, 3_000)), None, None];
    let (take, base) = (stereo(0, 3_000), stereo(1_000_000, 3_000));
    let other = commits::save(&dir, SamplePos(0), 44_100, &take, &base, &again, "{}").unwrap();
    project.others.push(other);
    let references = || project.commits.iter().chain(&project.others);
    let collected = path("moved/My Song/Uncook");
    {
        let engine = Engine::in_folder(path("here"));
        let mut track = track(&engine);
        assert_eq!(track.load(&project), 3);
        assert_eq!(track.instance.collect(&collected), Ok(4));
        let written = |commit: &CommitRef| fs::metadata(collected.join(&commit.file)).unwrap();
        let before: Vec<_> = references()
            .map(|c| written(c).modified().unwrap())
            .collect();
        for commit in references() {
            let bytes = |dir: &Path| fs::read(dir.join(&commit.file)).unwrap();
            assert!(bytes(&collected) == bytes(&dir));
        }
        // Again: nothing is written. One of them damaged: it is mended.
        assert_eq!(track.instance.collect(&collected), Ok(4));
        let after: Vec<_> = references()
            .map(|c| written(c).modified().unwrap())
            .collect();
        assert_eq!(before, after);
        let first = collected.join(&project.commits[0].file);
        fs::write(&first, "torn").unwrap();
        assert_eq!(track.instance.collect(&collected), Ok(4));
        assert!(fs::read(&first).unwrap() != b"torn");
        // One is gone here: said, and the others are collected.
        fs::remove_file(dir.join(&project.commits[1].file)).unwrap();
        let error = track.instance.collect(&path("half")).unwrap_err();
        assert!(error.contains(&project.commits[1].file), "{error}");
        assert_eq!(fs::read_dir(path("half")).unwrap().count(), 3);
    }
    {
        let engine = Engine::in_folder(path("there"));
        let mut track = track(&engine);
        assert_eq!(track.load(&project), 0);
        wait_for(|| (track.instance.view().problems.len() == 4).then_some(()));
        // Where there is nothing, everything stays as it is.
        let error = track.instance.relink(&path("here")).unwrap_err();
        assert!(error.contains(&project.commits[1].file), "{error}");
        let error = track.instance.relink(&path("nowhere")).unwrap_err();
        assert_eq!(track.instance.session(), project);
        assert!(error.contains(&project.commits[1].file), "{error}");
        // The project's own folder will do.
        assert_eq!(track.instance.relink(&path("moved/My Song")), Ok(1));
        while track.patches.has_next() && track.patches.advance() {}
        assert_eq!(track.patches.current().patches().len(), 3);
        assert_eq!(track.instance.session(), project);
        wait_for(|| (track.instance.view().problems.is_empty()).then_some(()));
        // Nothing is missing any more.
        assert_eq!(track.instance.relink(&path("nowhere")), Ok(0));
    }
    // From now on it is found by itself.
    fs::remove_dir_all(path("moved")).unwrap();
    let engine = Engine::in_folder(path("there"));
    assert_eq!(track(&engine).load(&project), 3);
}

/// Names and numbers as a project of ours would never have them.
fn references() -> impl Strategy<Value = CommitRef> {
    let names = prop_oneof![
        "[0-9a-f]{64}\\.uncookpatch",
        Just("../../../../etc/passwd".to_owned()),
        Just("/etc/passwd".to_owned()),
        Just("..\\..\\secret".to_owned()),
        Just(String::new()),
        Just("\0".to_owned()),
        ".{0,80}",
    ];
    let hashes = prop_oneof!["[0-9a-f]{64}", ".{0,70}"];
    (names, hashes, any::<(i64, u64, u32)>()).prop_map(
        |(file, hash, (start, frames, sample_rate))| CommitRef {
            hash,
            file,
            start,
            frames,
            sample_rate,
        },
    )
}

fn sessions() -> impl Strategy<Value = Session> {
    let references = || proptest::collection::vec(references(), 0..6);
    let decision =
        (any::<(i64, i64, u8)>(), 0usize..4).prop_map(|((start, end, percent), stem)| Decision {
            stem: uncook::damage::Stem::ALL[stem],
            start: SamplePos(start),
            end: SamplePos(end),
            percent,
        });
    (
        references(),
        references(),
        proptest::collection::vec(decision, 0..6),
    )
        .prop_map(|(commits, others, decisions)| Session {
            commits,
            others,
            edits: Edits {
                decisions,
                ..Edits::default()
            },
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn hostile_sessions_harm_nothing(loaded in sessions()) {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::in_folder(folder.path().to_owned());
        let mut track = track(&engine);
        prop_assert_eq!(track.load(&loaded), 0);
        // Spans may contradict each other; what is kept doesn't, and stays.
        let kept = track.instance.session();
        prop_assert!(kept.commits.iter().all(|c| loaded.commits.contains(c)));
        prop_assert_eq!(&kept.edits, &loaded.edits);
        prop_assert_eq!(track.load(&kept), 0);
        prop_assert_eq!(track.instance.session(), kept);
        prop_assert!(track.instance.view().problems.len() <= 9);
    }

    /// Opened where no sidecar is, and saved: byte by byte what the project gave, for the day on which the
    /// files are there. Earlier rebuilds of a take count, too.
    #[test]
    fn a_project_opened_without_its_sidecars_loses_nothing(mut loaded in sessions()) {
        for (n, commit) in (0..).zip(&mut loaded.commits) {
            (commit.start, commit.frames) = (1_000 * n, 900);
        }
        let takes = loaded.commits.len() as i64;
        loaded.others.truncate(if takes == 0 { 0 } else { 6 });
        for (n, other) in (0..).zip(&mut loaded.others) {
            (other.start, other.frames) = (1_000 * (n % takes.max(1)), 900);
        }
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::in_folder(folder.path().to_owned());
        let mut track = track(&engine);
        let text = serde_json::to_string(&loaded).unwrap();
        prop_assert_eq!(track.load(&serde_json::from_str(&text).unwrap()), 0);
        prop_assert_eq!(serde_json::to_string(&track.instance.session()).unwrap(), text);
    }

    #[test]
    fn text_that_is_no_session_is_refused(text in prop_oneof![
        ".{0,200}",
        "[\\[\\]{}\":,0-9a-z]{0,200}",
        Just("[".repeat(100_000)),
        Just(format!("{{\"commits\":{}", "[".repeat(100_000))),
    ]) {
        // Whatever it is: an error or a session, no panic, no overflow of the stack.
        if let Ok(session) = serde_json::from_str::<Session>(&text) {
            let again = serde_json::to_string(&session).unwrap();
            prop_assert_eq!(serde_json::from_str::<Session>(&again).unwrap(), session);
        }
    }
}

/// An hour in twenty takes, each rebuilt twice, decided about, and its music edited.
#[test]
fn an_hours_session_is_small() {
    let hour: i64 = 48_000 * 3_600;
    let reference = |n: i64| {
        let key = KeyBuilder::new("hour", 1).u64(n as u64).finish();
        CommitRef {
            hash: key.as_str().to_owned(),
            file: format!("{}.{}", key.as_str(), commits::EXTENSION),
            start: hour / 20 * (n % 20),
            frames: (hour / 20) as u64,
            sample_rate: 48_000,
        }
    };
    let mut edits = Edits::default();
    for n in 0..100 {
        edits.decisions.push(Decision {
            stem: uncook::damage::Stem::ALL[n as usize % 4],
            start: SamplePos(hour / 100 * n),
            end: SamplePos(hour / 100 * (n + 1)),
            percent: 60,
        });
        let music = edits.music_mut(SamplePos(hour / 20 * (n % 20)));
        music.push(MusicEdit::Chord {
            start: 48_000 * n,
            end: 48_000 * (n + 4),
            label: "F#:min7".to_owned(),
        });
        music.push(MusicEdit::AddNote {
            at: 48_000 * n,
            frames: 24_000,
            midi: 40,
            velocity: 100,
        });
    }
    let session = Session {
        commits: (0..20).map(reference).collect(),
        others: (20..40).map(reference).collect(),
        edits,
    };
    let bytes = serde_json::to_string(&session).unwrap().len();
    println!("an hour: {bytes} bytes");
    assert!(bytes < 64 << 10, "{bytes}");
}
