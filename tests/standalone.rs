//! The program without a host, as a user starts it: with a file as its input, on a dummy and on a JACK server. Needs
//! `jackd` (Debian: `jackd2`); `cargo xtask hosts --set-up` sees to it.
#![cfg(target_os = "linux")]

#[path = "it/support.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod support;

use std::{
    env, fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use jack::{AudioIn, Client, ClientOptions, Control, PortFlags, ProcessScope};
use uncook::{audio::AudioBuffer, worker::engine::DATA_DIR_VARIABLE};

const RATE: u32 = 44_100;
/// Of everything that has to happen.
const LIMIT: Duration = Duration::from_secs(300);
/// How JACK names its server.
const SERVER: &str = "JACK_DEFAULT_SERVER";

/// A process that doesn't outlive its test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(quiet.spawn().unwrap_or_else(|error| {
            panic!(
                "{} can't be started: {error}",
                quiet.get_program().display()
            )
        }))
    }

    /// As Ctrl-C does. Returns whether it ended well.
    fn interrupt(mut self) -> bool {
        // SAFETY: a child that has not been waited for: the number is its own.
        unsafe {
            libc::kill(self.0.id() as i32, libc::SIGINT);
        }
        let status = wait_for("the end", || self.0.try_wait().unwrap());
        status.success()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(done) = ready() {
            return done;
        }
        assert!(began.elapsed() < LIMIT, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn program(data: &Path, file: &Path, backend: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_uncook-standalone"));
    program.env(DATA_DIR_VARIABLE, data);
    program.args(["--no-window", "--play"]).arg(file);
    program.arg("--backend").args(backend);
    program
}

fn write(folder: &Path, audio: &AudioBuffer) -> std::path::PathBuf {
    let file = folder.join("song.wav");
    audio.write_wav_f32(&file).unwrap();
    file
}

#[test]
fn the_file_that_it_plays_is_analysed() {
    let data = tempfile::tempdir().unwrap();
    let file = write(data.path(), &support::overdriven_band(6.0, RATE));
    let running = Running::start(&mut program(data.path(), &file, &["dummy"]));
    let commits = data.path().join("commits");
    let kept = wait_for("a repair", || {
        let mut entries = fs::read_dir(&commits).ok()?.flatten();
        entries
            .find(|entry| entry.path().extension().is_some_and(|e| e == "uncookpatch"))
            .map(|entry| entry.metadata().unwrap().len())
    });
    // Take, base and layers of 6 s.
    assert!(kept > 2 * 2 * 6 * 2 * u64::from(RATE), "{kept}");
    assert!(running.interrupt());
}

#[test]
fn a_file_that_is_none_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let missing = data.path().join("missing.wav");
    let said = program(data.path(), &missing, &["dummy"]).output().unwrap();
    assert_eq!(said.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&said.stderr).contains("missing.wav"));
}

#[test]
fn on_a_jack_server_undamaged_audio_passes_bit_for_bit() {
    const CHILD: &str = "UNCOOK_TEST_JACK";
    if env::var_os(CHILD).is_some() {
        return heard_on_jack();
    }
    // JACK reads its server's name from the environment, which is set for a process of its own.
    let name = format!("uncook-test-{}", std::process::id());
    let mut server = Command::new("jackd");
    server.args(["-n", &name, "-r", "-d", "dummy", "-r"]);
    server.arg(RATE.to_string()).args(["-p", "4096"]);
    let _server = Running::start(&mut server);
    let test = "on_a_jack_server_undamaged_audio_passes_bit_for_bit";
    let run = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .env(SERVER, &name)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
}

/// Plays a clean band and records what the program puts out.
fn heard_on_jack() {
    const SECONDS: f64 = 3.0;
    let client = wait_for("the JACK server", || {
        Client::new("recorder", ClientOptions::NO_START_SERVER).ok()
    });
    let (client, _) = client;
    assert_eq!(client.sample_rate(), RATE);
    let ears = client.register_port("in", AudioIn::default()).unwrap();
    let ear = ears.name().unwrap();
    let (sender, heard) = mpsc::channel();
    let record = move |_: &Client, scope: &ProcessScope| {
        let gone = sender.send(ears.as_slice(scope).to_vec()).is_err();
        if gone {
            Control::Quit
        } else {
            Control::Continue
        }
    };
    let process = jack::contrib::ClosureProcessHandler::new(record);
    let client = client.activate_async((), process).unwrap();

    let data = tempfile::tempdir().unwrap();
    let clean = support::band(SECONDS, RATE, |low| 0.3 * low);
    let file = write(data.path(), &clean);
    // Read back as it is played.
    let clean = AudioBuffer::read(&file).unwrap();
    // Another rate than the server's: the server's counts.
    let backend = ["jack", "--sample-rate", "48000"];
    let running = Running::start(&mut program(data.path(), &file, &backend));
    wait_for("the program's ports", || {
        let outputs = client.as_client().ports(None, None, PortFlags::IS_OUTPUT);
        // The server has outputs of its own, and not all of the program's carry audio.
        let own = |name: &String| name.starts_with("uncook:") && !name.contains("midi");
        let output = outputs.into_iter().find(own)?;
        // Not before the program runs.
        client.as_client().connect_ports_by_name(&output, &ear).ok()
    });

    // The server counts on in real time, whatever keeps the machine busy: blocks may be lost, samples may not change.
    let piece = 2_048;
    let pieces: Vec<&[f32]> = clean.channels[0].chunks_exact(piece).collect();
    let mut found = vec![false; pieces.len()];
    let mut record: Vec<f32> = Vec::new();
    wait_for("most of the song, as it was", || {
        let before = record.len().saturating_sub(piece);
        record.extend(heard.try_iter().flatten());
        for (piece, found) in pieces.iter().zip(&mut found).filter(|(_, found)| !**found) {
            *found = (record[before..].windows(piece.len())).any(|window| window == *piece);
        }
        let count = found.iter().filter(|found| **found).count();
        (10 * count >= 9 * pieces.len()).then_some(())
    });
    assert!(running.interrupt());
}
