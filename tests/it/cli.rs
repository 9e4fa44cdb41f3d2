//! The command line as its users run it: files in, files and exit codes out.
#![cfg(feature = "cli")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;
use uncook::{
    audio::{AudioBuffer, BitDepth},
    metrics,
    worker::report::Report,
};

use super::support::Noise;

const RATE: u32 = 22_050;

/// A folder with everything a run reads and writes.
pub struct Desk(TempDir);

impl Desk {
    pub fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The program in this folder, with its data and its cache there.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_uncook"));
        command
            .args(args)
            .current_dir(self.0.path())
            .env("UNCOOK_DATA_DIR", self.path("data"));
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program starts")
    }

    pub fn write(&self, name: &str, audio: &AudioBuffer) {
        let path = self.path(name);
        audio.write(&path, BitDepth::Int24).expect("written");
    }

    fn read(&self, name: &str) -> AudioBuffer {
        AudioBuffer::read(&self.path(name)).expect("a readable file")
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A chord with a hit twice a second; `drive` times too loud for full scale, cut there.
pub fn song(seconds: f64, channels: usize, drive: f32) -> AudioBuffer {
    let frames = (seconds * f64::from(RATE)) as usize;
    let mut noise = Noise(7);
    let mono: Vec<f32> = (0..frames)
        .map(|n| {
            let t = n as f32 / RATE as f32;
            let tone = |hz: f32| (std::f32::consts::TAU * hz * t).sin();
            let since_hit = t % 0.5;
            let hit = (-30.0 * since_hit).exp() * (0.6 * tone(60.0) + 0.4 * noise.next());
            let chord = tone(220.0) + tone(277.2) + tone(329.6) + tone(82.4);
            (drive * (0.4 * hit + 0.12 * chord)).clamp(-0.98, 0.98)
        })
        .collect();
    let side = |c: usize| mono.iter().map(|x| x * (1.0 - 0.1 * c as f32)).collect();
    AudioBuffer::new((0..channels).map(side).collect(), RATE)
}

/// `uncook … | head`: the reader has gone before anything is written.
#[cfg(unix)]
#[test]
fn a_reader_that_goes_causes_no_panic() {
    let desk = Desk::new();
    desk.write("song.wav", &song(1.0, 1, 1.0));
    for (args, ends_well) in [
        (&["analyze", "song.wav"][..], false),
        #[cfg(feature = "ml")]
        (&["models", "list"], false),
        (
            &["restore", "song.wav", "-o", "out.wav", "--quality", "draft"],
            true,
        ),
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = desk
            .command(args)
            .stdout(writer)
            .output()
            .expect("the program starts");
        let said = text(&output.stderr);
        assert!(!said.contains("panicked"), "{args:?}: {said}");
        assert_eq!(output.status.success(), ends_well, "{args:?}: {said}");
    }
    assert!(desk.read("out.wav").frames() > 0);
}

#[test]
fn restore_keeps_rate_channels_and_length_and_reports_what_it_found() {
    let desk = Desk::new();
    let input = song(2.5, 2, 4.0);
    desk.write("gig.wav", &input);
    let run = desk.run(&[
        "restore", "gig.wav", "-o", "out.wav", "--report", "gig.json", "--stems", "stems",
    ]);
    assert!(run.status.success(), "{}", text(&run.stderr));

    let output = desk.read("out.wav");
    assert_eq!(output.sample_rate, RATE);
    assert_eq!(output.channels.len(), 2);
    assert_eq!(output.frames(), input.frames());
    assert!(output.channels.iter().flatten().all(|x| x.is_finite()));
    assert_ne!(output, desk.read("gig.wav"), "nothing was repaired");
    let spec = hound::WavReader::open(desk.path("out.wav"))
        .expect("a WAV")
        .spec();
    assert_eq!(spec.sample_format, hound::SampleFormat::Float);

    for stem in ["drums", "bass", "other", "vocals"] {
        let stem = desk.read(&format!("stems/{stem}.wav"));
        assert_eq!(stem.frames(), input.frames());
        assert_eq!(stem.channels.len(), 2);
    }

    let json = std::fs::read_to_string(desk.path("gig.json")).expect("a report");
    let report: Report = serde_json::from_str(&json).expect("the documented JSON");
    let clipped: f64 = report
        .damage
        .iter()
        .filter(|entry| entry.stem.is_none())
        .filter(|entry| entry.kind == uncook::damage::DamageKind::Clipping)
        .map(|entry| entry.end - entry.start)
        .sum();
    assert!(clipped > 1.0, "{clipped} s of 2.5 s found clipped");
    assert!(report.quality_after.is_some());
    // What the file says about the output is what is measured on the output.
    assert_eq!(report.quality_after, Some(metrics::quality(&output)));
    // What is printed is what is written.
    let printed = text(&run.stdout);
    for line in &report.summary {
        assert!(
            printed.contains(line.as_str()),
            "{line:?} not in {printed:?}"
        );
    }
}

/// With the model that can tell them, guitar and piano are files of their own, and all files still sum to the mix.
#[cfg(feature = "ml")]
#[test]
fn six_stems_are_six_files() {
    let desk = Desk::new();
    super::support::install_tiny_model(
        &desk.path("data"),
        "htdemucs_6s",
        "5c90dfd2-34c22ccb.th",
        "tinyB.weights.safetensors",
    );
    let input = song(1.0, 2, 1.0);
    desk.write("gig.wav", &input);
    let sum_of = |separator: &str, names: &[&str]| {
        let run = desk.run(&[
            "restore",
            "gig.wav",
            "-o",
            "out.wav",
            "--stems",
            separator,
            "--separator",
            separator,
            "--regenerator",
            "off",
            "--quality",
            "draft",
        ]);
        assert!(run.status.success(), "{}", text(&run.stderr));
        let mut written: Vec<String> = std::fs::read_dir(desk.path(separator))
            .expect("a folder")
            .map(|file| {
                file.expect("a file")
                    .file_name()
                    .into_string()
                    .expect("a name")
            })
            .collect();
        written.sort();
        let mut sum = vec![0.0f64; input.frames()];
        for name in names {
            let stem = desk.read(&format!("{separator}/{name}.wav"));
            let loudest = stem.channels[0].iter().fold(0.0f32, |a, x| a.max(x.abs()));
            assert!(loudest > 1e-4, "{name} is silent");
            for (sum, x) in sum.iter_mut().zip(&stem.channels[0]) {
                *sum += f64::from(*x);
            }
        }
        (written, sum)
    };
    let six = ["drums", "bass", "other", "vocals", "guitar", "piano"];
    let (written, sum) = sum_of("six-stems", &six);
    let mut names = six.map(|name| format!("{name}.wav"));
    names.sort();
    assert_eq!(written, names);
    // All separate the same restored mix.
    for separator in ["learned", "spectral"] {
        let (written, other_sum) = sum_of(separator, &["drums", "bass", "other", "vocals"]);
        assert_eq!(written.len(), 4);
        for (a, b) in sum.iter().zip(&other_sum) {
            assert!((a - b).abs() < 1e-5, "{separator}: {a} {b}");
        }
    }
}

#[test]
fn mono_flac_stays_mono_flac() {
    let desk = Desk::new();
    let input = song(1.5, 1, 3.0);
    desk.write("gig.flac", &input);
    let run = desk.run(&["restore", "gig.flac", "-o", "fixed/", "--quality", "draft"]);
    assert!(run.status.success(), "{}", text(&run.stderr));
    let output = desk.read("fixed/gig.flac");
    assert_eq!(output.channels.len(), 1);
    assert_eq!(output.frames(), input.frames());
    assert_eq!(output.sample_rate, RATE);
}

#[test]
fn a_failing_file_is_named_and_does_not_stop_the_others() {
    let desk = Desk::new();
    desk.write("good.wav", &song(1.0, 1, 1.0));
    std::fs::write(desk.path("broken.wav"), b"RIFF and nothing else").expect("written");
    let run = desk.run(&[
        "restore",
        "missing.wav",
        "good.wav",
        "broken.wav",
        "-o",
        "out",
        "--only",
        "declick",
    ]);
    assert_eq!(run.status.code(), Some(1));
    let errors = text(&run.stderr);
    assert!(errors.contains("missing.wav"), "{errors}");
    assert!(errors.contains("broken.wav"), "{errors}");
    assert!(!errors.contains("good.wav"), "{errors}");
    assert!(desk.path("out/good.wav").exists());
    assert!(!desk.path("out/broken.wav").exists());
}

#[test]
fn impossible_requests_are_refused_before_any_work() {
    let desk = Desk::new();
    let input = song(0.5, 1, 1.0);
    desk.write("a.wav", &input);
    desk.write("a.flac", &input);
    let untouched = desk.read("a.wav");
    for (args, reason) in [
        (&["restore", "a.wav", "-o", "a.mp3"][..], ".wav or .flac"),
        (
            &["restore", "a.wav", "-o", "b.flac", "--only", "eq"],
            "--only",
        ),
        (&["restore", "a.wav", "-o", "./a.wav"], "overwrite"),
        (
            &["restore", "a.wav", "a.flac", "-o", "x", "--only", "eq"],
            "both",
        ),
        (
            &["restore", "a.wav", "-o", "x.wav", "--report", "a.wav"],
            "overwrite",
        ),
        (
            &[
                "restore", "a.wav", "-o", "x.wav", "--only", "eq", "--stems", "s",
            ],
            "regenerate",
        ),
        (
            &["restore", "a.wav", "-o", "x.wav", "--only", "magic"],
            "magic",
        ),
        (&["restore", "a.wav"], "--output"),
        (&["restore", "-o", "x.wav"], "IN"),
        (&["frobnicate"], "frobnicate"),
    ] {
        let run = desk.run(args);
        assert_eq!(run.status.code(), Some(2), "{args:?}");
        let errors = text(&run.stderr);
        assert!(errors.contains(reason), "{args:?} says {errors:?}");
    }
    assert_eq!(desk.read("a.wav"), untouched);
    assert!(!desk.path("x.wav").exists());
}

#[test]
fn only_changes_nothing_but_what_it_names() {
    let desk = Desk::new();
    // Nothing clipped: declipping alone must give the input back, bit for bit, at its level.
    desk.write("clean.wav", &song(1.0, 2, 0.8));
    let run = desk.run(&["restore", "clean.wav", "-o", "out.wav", "--only", "declip"]);
    assert!(run.status.success(), "{}", text(&run.stderr));
    assert_eq!(desk.read("out.wav"), desk.read("clean.wav"));

    let run = desk.run(&[
        "restore",
        "clean.wav",
        "-o",
        "loud.wav",
        "--only",
        "loudness",
    ]);
    assert!(run.status.success(), "{}", text(&run.stderr));
    let loud = metrics::quality(&desk.read("loud.wav"));
    let before = metrics::quality(&desk.read("clean.wav"));
    assert_ne!(loud.lufs, before.lufs);
    let lufs = loud.lufs.expect("a level");
    // Target −14 LUFS; peaks may forbid it, then it stays below.
    assert!(lufs <= -13.8, "{lufs} LUFS");
    assert!(loud.true_peak_dbtp.expect("a peak") <= -0.9);
}

#[test]
fn analyze_prints_one_report_or_a_line_for_each_file() {
    let desk = Desk::new();
    desk.write("one.wav", &song(1.2, 1, 4.0));
    desk.write("two.wav", &song(1.2, 2, 0.8));
    let run = desk.run(&["analyze", "one.wav", "--json"]);
    assert!(run.status.success(), "{}", text(&run.stderr));
    let one: Report = serde_json::from_slice(&run.stdout).expect("the documented JSON");
    assert_eq!(one.quality_after, None);
    assert!(one.damage.iter().any(|entry| entry.stem.is_none()));

    let run = desk.run(&["analyze", "one.wav", "two.wav", "--json"]);
    assert!(run.status.success(), "{}", text(&run.stderr));
    let lines: Vec<serde_json::Value> = text(&run.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("one object a line"))
        .collect();
    let files: Vec<_> = lines.iter().map(|line| line["file"].as_str()).collect();
    assert_eq!(files, [Some("one.wav"), Some("two.wav")]);
    // Alone or among others, in whatever order the work was done: the same numbers.
    let first: Report = serde_json::from_value(lines[0].clone()).expect("a report");
    assert_eq!(first, one);

    let run = desk.run(&["analyze", "one.wav"]);
    assert!(run.status.success());
    assert!(text(&run.stdout).contains("clipped"));
}

#[test]
fn the_same_seed_gives_the_same_file_with_and_without_cache() {
    let desk = Desk::new();
    desk.write("gig.wav", &song(1.5, 1, 4.0));
    let restore = |name: &str, more: &[&str]| {
        let run = desk.run(&[&["restore", "gig.wav", "-o", name][..], more].concat());
        assert!(run.status.success(), "{}", text(&run.stderr));
        std::fs::read(Path::new(&desk.path(name))).expect("written")
    };
    let first = restore("1.wav", &["--seed", "5"]);
    assert!(first == restore("2.wav", &["--seed", "5"]), "cached");
    assert!(
        first == restore("3.wav", &["--seed", "5", "--no-cache"]),
        "uncached"
    );
    // Nothing rebuilt may play at a blend of 0: then the regenerator makes no difference.
    let dry = restore("4.wav", &["--blend", "0"]);
    assert!(dry == restore("5.wav", &["--regenerator", "off", "--blend", "0"]));
}
