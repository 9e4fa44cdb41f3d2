//! `uncook restore --regenerator jasco` with the tiny model installed.

use std::{
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;
use uncook::{
    audio::{AudioBuffer, BitDepth},
    worker::report::Report,
};

use super::road::{CODEC, DIFFUSION, NAME, install_in};
use crate::support::overdriven_band;

const RATE: u32 = 22_050;

fn restore(desk: &Path, name: &str, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_uncook"))
        .args(["restore", "gig.wav", "-o", name, "--quality", "draft"])
        .args(["--report", "report.json"])
        .args(args)
        .current_dir(desk)
        .env("UNCOOK_DATA_DIR", desk.join("data"))
        .output()
        .expect("the program starts")
}

fn desk() -> TempDir {
    let desk = TempDir::new().expect("a folder");
    overdriven_band(4.0, RATE)
        .write(&desk.path().join("gig.wav"), BitDepth::Int24)
        .expect("written");
    desk
}

/// The result and the report's lines.
fn run(desk: &Path, args: &[&str]) -> (AudioBuffer, Vec<String>) {
    let output = restore(desk, "out.wav", args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    let json = std::fs::read_to_string(desk.join("report.json")).expect("a report");
    let report: Report = serde_json::from_str(&json).expect("the documented JSON");
    let audio = AudioBuffer::read(&desk.join("out.wav")).expect("a result");
    (audio, report.summary)
}

const JASCO: [&str; 5] = [
    "--regenerator",
    "jasco",
    "--rebuild",
    "bass:1.2-2.8",
    "--no-cache",
];

#[test]
fn a_span_is_generated_the_same_for_a_seed_and_kept_in_the_cache() {
    let desk = desk();
    let library = install_in(desk.path().join("data").as_path());
    library.accept(NAME).expect("recorded");
    let with = |more: &[&str]| run(desk.path(), &[&JASCO[..], more].concat());
    let (first, lines) = with(&["--seed", "1"]);
    let terms = format!("stems rebuilt with {NAME}; its terms: CC BY-NC 4.0");
    assert!(lines.iter().any(|l| l.starts_with(&terms)), "{lines:?}");
    assert!(
        lines.iter().any(|l| l == "bass: rebuilt as asked"),
        "{lines:?}"
    );
    let (again, _) = with(&["--seed", "1"]);
    assert!(first == again, "another result for the same seed");
    let (other, _) = with(&["--seed", "2"]);
    assert!(first != other, "the seed does nothing");
    // Only the span of the stem is another: what plays it (the limiter, say) may be heard beyond.
    let stem = |name: &str| AudioBuffer::read(&desk.path().join("stems").join(name));
    let stems = |args: &[&str]| {
        run(desk.path(), &[args, &["--stems", "stems"]].concat());
        ["bass.wav", "drums.wav"].map(|name| stem(name).expect("a stem"))
    };
    let [bass, drums] = stems(&JASCO);
    let [own, same] = stems(&["--regenerator", "off", "--no-cache"]);
    assert!(drums == same && bass != own);
    for (n, (a, b)) in bass.channels[0].iter().zip(&own.channels[0]).enumerate() {
        let t = n as f64 / f64::from(RATE);
        assert!(
            a.is_finite() && ((1.0..3.0).contains(&t) || a == b),
            "{t} s"
        );
    }
    // From the cache the same comes, without the model's work.
    let cached = [&JASCO[..4], &["--seed", "1"]].concat();
    for _ in 0..2 {
        let (kept, _) = run(desk.path(), &cached);
        assert!(kept == first, "the cache gives another result");
    }
    // What was made of the model's file is kept below it, and goes with it.
    let copies = library.copies_folder(NAME).expect("installed");
    let count = || std::fs::read_dir(&copies).map_or(0, Iterator::count);
    assert_eq!(count(), 2, "a copy and the note that finds it");
    // As damaged: the model is used, and the same for a seed.
    let damaged = ["--regenerator", "jasco", "--no-cache", "--seed", "1"];
    assert_eq!(run(desk.path(), &damaged), run(desk.path(), &damaged));
    library.remove(NAME).expect("removed");
    assert!(!copies.exists());
}

/// The diffusion alone, and in place of the codec's decoder.
#[test]
fn diffusion_rebuilds_a_span_the_same_for_a_seed() {
    let desk = desk();
    let library = install_in(desk.path().join("data").as_path());
    let with = |regenerator: &str, seed: &str| {
        let mut args = JASCO;
        args[1] = regenerator;
        run(desk.path(), &[&args[..], &["--seed", seed]].concat())
    };
    let (plain, lines) = with("mbd", "1");
    let terms = format!("the terms of {DIFFUSION} are not accepted");
    assert!(lines.iter().any(|l| l.contains(&terms)), "{lines:?}");
    for name in [NAME, DIFFUSION, CODEC] {
        library.accept(name).expect("recorded");
    }
    let (codec, _) = with("jasco", "1");
    for (regenerator, models) in [
        ("mbd", &[DIFFUSION, CODEC][..]),
        ("jasco-mbd", &[NAME, DIFFUSION, CODEC]),
    ] {
        let (first, lines) = with(regenerator, "1");
        for model in models {
            let line = format!("stems rebuilt with {model}; its terms: CC BY-NC 4.0");
            assert!(lines.iter().any(|l| l.starts_with(&line)), "{lines:?}");
        }
        assert!(
            lines.iter().any(|l| l == "bass: rebuilt as asked"),
            "{lines:?}"
        );
        assert!(first.channels.iter().flatten().all(|x| x.is_finite()));
        assert!(
            first != plain && first != codec,
            "{regenerator} did nothing"
        );
        assert!(first == with(regenerator, "1").0, "{regenerator}");
        assert!(first != with(regenerator, "2").0, "{regenerator}");
    }
}

#[test]
fn without_model_or_acceptance_stems_are_rebuilt_without_one_and_it_is_said() {
    let desk = desk();
    let (plain, lines) = run(desk.path(), &JASCO);
    let get = format!(
        "without a model ({NAME} is not installed: fetch it under Models, or by `uncook models fetch {NAME}`"
    );
    assert!(lines.iter().any(|l| l.contains(&get)), "{lines:?}");
    let data = desk.path().join("data");
    let library = install_in(&data);
    let (same, lines) = run(desk.path(), &JASCO);
    let terms = format!("the terms of {NAME} are not accepted: CC BY-NC 4.0");
    assert!(lines.iter().any(|l| l.contains(&terms)), "{lines:?}");
    assert!(plain == same);
    library.accept(NAME).expect("recorded");
    // A file that is not what it was: named, and rebuilt without the model.
    let state = data.join("models").join(NAME).join("state_dict.bin");
    let bytes = std::fs::read(&state).expect("a file");
    std::fs::write(&state, vec![7; bytes.len()]).expect("written");
    let (broken, lines) = run(desk.path(), &JASCO);
    assert!(
        lines.iter().any(|l| l.contains("state_dict.bin")),
        "{lines:?}"
    );
    assert!(plain == broken);
}

#[test]
fn a_span_that_is_none_is_refused_in_words() {
    let desk = desk();
    for span in [
        "bass",
        "bass:3",
        "vocals:1-2",
        "bass:2-1",
        "bass:a-b",
        "bass:1-inf",
    ] {
        let output = restore(desk.path(), "out.wav", &["--rebuild", span]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{span}: {said}");
        assert!(said.contains("bass:12.5-18"), "{span}: {said}");
    }
    let (_, lines) = run(desk.path(), &["--rebuild", "bass:10-11"]);
    assert!(
        lines
            .iter()
            .any(|l| l.contains("a longer span inside the recording")),
        "{lines:?}"
    );
}
