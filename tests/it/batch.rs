//! `uncook restore` over folders: resumed, shared between processes, and the same however the work was split.
#![cfg(feature = "cli")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, SystemTime},
};

use serde_json::Value;

use super::{
    cli::{Desk, song, text},
    support::wait_for,
};

const FAST: [&str; 4] = ["--quality", "draft", "-j", "1"];

/// A desk with `takes/`: songs of several kinds in folders, and what is no song.
fn desk() -> Desk {
    let desk = Desk::new();
    fs::create_dir_all(desk.path("takes/day two")).unwrap();
    for (i, name) in [
        "a.wav",
        "b.wav",
        "c.flac",
        "day two/a.wav",
        "day two/live 3.5.WAV",
    ]
    .into_iter()
    .enumerate()
    {
        let drive = [4.0, 0.8, 3.0, 2.0, 5.0][i];
        let path = format!("takes/{}", name.to_lowercase());
        desk.write(&path, &song(0.8 + 0.1 * i as f64, 1 + i % 2, drive));
        if name != name.to_lowercase() {
            fs::rename(desk.path(&path), desk.path(&format!("takes/{name}"))).unwrap();
        }
    }
    fs::write(desk.path("takes/notes.txt"), "no song").unwrap();
    fs::write(desk.path("takes/.hidden.wav"), "no song").unwrap();
    desk
}

/// Every file below a folder that isn't hidden, by its path in it.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let hidden = path.file_name().unwrap().to_string_lossy().starts_with('.');
            if path.is_dir() {
                folders.push(path);
            } else if !hidden {
                let name = path.strip_prefix(folder).unwrap().to_owned();
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

fn lines(desk: &Desk, manifest: &str) -> Vec<Value> {
    let text = fs::read_to_string(desk.path(manifest)).unwrap();
    assert!(text.ends_with('\n'), "{text:?}");
    let lines = text.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

/// The inputs of a manifest's lines with this status, sorted.
fn inputs(lines: &[Value], status: &str) -> Vec<String> {
    let mut inputs: Vec<String> = lines
        .iter()
        .filter(|line| line["status"] == status)
        .map(|line| line["input"].as_str().unwrap().to_owned())
        .collect();
    inputs.sort();
    inputs
}

/// The command that restores `takes` into `to`, with everything that can be written.
fn everything(desk: &Desk, to: &str, more: &[&str]) -> std::process::Command {
    let within = |name: &str| format!("{to}/{name}");
    let (out, stems, reports) = (within("out"), within("stems"), within("reports"));
    let (midi, manifest) = (within("midi"), within("manifest.jsonl"));
    let mut args = vec!["restore", "takes", "-o", &out, "--stems", &stems];
    args.extend(["--report", &reports, "--midi", &midi]);
    args.extend(["--manifest", &manifest]);
    let mut command = desk.command(&[&args[..], &FAST, more].concat());
    // Not what another split has kept.
    command.env("UNCOOK_DATA_DIR", desk.path(&within(".data")));
    command
}

/// What was written but the manifest, whose lines tell times.
fn results(desk: &Desk, to: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = tree(&desk.path(to));
    files.retain(|path, _| !path.starts_with(".data"));
    files
        .remove(Path::new("manifest.jsonl"))
        .expect("a manifest");
    files
}

fn assert_same(a: &BTreeMap<PathBuf, Vec<u8>>, b: &BTreeMap<PathBuf, Vec<u8>>) {
    assert!(a.keys().eq(b.keys()), "{:?} {:?}", a.keys(), b.keys());
    for (path, bytes) in a {
        assert!(b[path] == *bytes, "{} differs", path.display());
    }
}

fn succeed(children: Vec<Child>) {
    for child in children {
        let run = child.wait_with_output().unwrap();
        assert!(run.status.success(), "{}", text(&run.stderr));
    }
}

#[test]
fn one_process_or_three_or_one_that_is_killed_write_the_same_bytes() {
    let desk = desk();
    let start = |command: &mut std::process::Command| {
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::piped());
        quiet.spawn().expect("the program starts")
    };

    succeed(vec![start(&mut everything(&desk, "one", &[]))]);
    let one = results(&desk, "one");
    // Five results, reports and MIDI files, four stems each.
    assert_eq!(one.len(), 5 * (1 + 1 + 1 + 4), "{:?}", one.keys());
    for name in ["a.wav", "c.flac", "day two/a.wav", "day two/live 3.5.wav"] {
        assert!(one.contains_key(&Path::new("out").join(name)), "{name}");
    }

    let shards = ["1/3", "2/3", "3/3"];
    let children = shards.map(|shard| start(&mut everything(&desk, "three", &["--shard", shard])));
    succeed(children.into());
    assert_same(&one, &results(&desk, "three"));
    let done = |to: &str| inputs(&lines(&desk, &format!("{to}/manifest.jsonl")), "done");
    assert_eq!(done("three"), done("one"), "every input once");

    // Killed when two are done, whatever it does then.
    let mut killed = start(&mut everything(&desk, "killed", &[]));
    let manifest = desk.path("killed/manifest.jsonl");
    wait_for(|| {
        let text = fs::read_to_string(&manifest).unwrap_or_default();
        (text.matches('\n').count() >= 2).then_some(())
    });
    killed.kill().unwrap();
    killed.wait().unwrap();
    let before = lines(&desk, "killed/manifest.jsonl");
    assert!(before.len() < 5, "killed too late");
    // Two go on at once, over the same inputs.
    let again = [(); 2].map(|()| start(&mut everything(&desk, "killed", &[])));
    succeed(again.into());
    assert_same(&one, &results(&desk, "killed"));
    let mut all = done("killed");
    all.dedup();
    assert_eq!(all, done("one"));
    let after = lines(&desk, "killed/manifest.jsonl");
    assert_eq!(after[..before.len()], before, "lines are only added");
}

#[test]
fn only_what_changed_is_done_again() {
    let desk = desk();
    let run = |more: &[&str]| {
        let args = [
            &[
                "restore",
                "takes",
                "-o",
                "out",
                "--manifest",
                "batch/m.jsonl",
            ][..],
            &["--only", "declip,declick"],
            more,
        ];
        let run = desk.run(&args.concat());
        assert!(run.status.success(), "{}", text(&run.stderr));
        text(&run.stdout).matches("(done before)").count()
    };
    let count = || lines(&desk, "batch/m.jsonl").len();
    assert_eq!((run(&[]), count()), (0, 5));
    let first = tree(&desk.path("out"));
    let line = lines(&desk, "batch/m.jsonl").remove(0);
    assert_eq!(line["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(line["error"], Value::Null);
    assert!(line["seconds"].as_f64().unwrap() > 0.0);
    let (input, output) = (line["input"].as_str().unwrap(), &line["outputs"][0]);
    let hash = |path: &Path| uncook::system::hash::sha256(&fs::read(path).unwrap());
    assert_eq!(line["input_sha256"], hash(&desk.path(input)));
    let path = desk.path("batch").join(output["path"].as_str().unwrap());
    assert_eq!(output["sha256"], hash(&path), "{line}");

    // Nothing to do: nothing is written at all.
    let written = |name: &str| fs::metadata(desk.path(name)).unwrap().modified().unwrap();
    let (result, manifest) = (written("out/a.wav"), written("batch/m.jsonl"));
    assert_eq!((run(&[]), count()), (5, 5));
    assert_eq!(
        (written("out/a.wav"), written("batch/m.jsonl")),
        (result, manifest)
    );

    // A result that is gone, one that was changed, an input that was changed, another setting.
    fs::remove_file(desk.path("out/a.wav")).unwrap();
    assert_eq!((run(&[]), count()), (4, 6));
    fs::write(desk.path("out/b.wav"), "somebody else's").unwrap();
    assert_eq!((run(&[]), count()), (4, 7));
    assert_same(&first, &tree(&desk.path("out")));
    desk.write("takes/a.wav", &song(0.7, 1, 6.0));
    assert_eq!((run(&[]), count()), (4, 8));
    assert_ne!(first, tree(&desk.path("out")));
    assert_eq!((run(&["--seed", "3"]), count()), (0, 13));
    assert_eq!(run(&["--seed", "3"]), 5);
    // More to write.
    assert_eq!(
        (run(&["--seed", "3", "--report", "reports"]), count()),
        (0, 18)
    );
    // Two inputs of one content are two.
    fs::copy(desk.path("takes/b.wav"), desk.path("takes/b2.wav")).unwrap();
    for before in [5, 6] {
        assert_eq!(run(&["--seed", "3", "--report", "reports"]), before);
    }

    // Moved as a whole, seen from elsewhere: still done.
    fs::create_dir(desk.path("moved")).unwrap();
    for name in ["takes", "out", "batch", "reports"] {
        fs::rename(desk.path(name), desk.path("moved").join(name)).unwrap();
    }
    let moved = |name: &str| desk.path("moved").join(name).display().to_string();
    // The manifest names what lies outside its folder by its whole path.
    let run = desk.run(&[
        "restore",
        &moved("takes"),
        "-o",
        &moved("out"),
        "--manifest",
        &moved("batch/m.jsonl"),
        "--only",
        "declip,declick",
        "--seed",
        "3",
        "--report",
        &moved("reports"),
    ]);
    assert_eq!(text(&run.stdout).matches("(done before)").count(), 0);
    let beside = |manifest: &str, from: &str| {
        let run = desk.run(&[
            "restore",
            &format!("{from}/takes"),
            "-o",
            &format!("{from}/out"),
            "--only",
            "declip",
            "--manifest",
            manifest,
        ]);
        text(&run.stdout).matches("(done before)").count()
    };
    assert_eq!(beside("moved/m.jsonl", "moved"), 0);
    fs::rename(desk.path("moved"), desk.path("again")).unwrap();
    assert_eq!(beside("again/m.jsonl", "again"), 6);
}

#[test]
fn what_failed_is_written_down_and_tried_again() {
    let desk = Desk::new();
    fs::create_dir(desk.path("takes")).unwrap();
    desk.write("takes/good.wav", &song(0.7, 1, 2.0));
    fs::write(desk.path("takes/late.wav"), "not yet").unwrap();
    let args = [
        "restore",
        "takes",
        "-o",
        "out",
        "--only",
        "declick",
        "--manifest",
        "m.jsonl",
    ];
    let run = desk.run(&args);
    assert_eq!(run.status.code(), Some(1));
    assert!(text(&run.stderr).contains("late.wav"));
    let failed = &lines(&desk, "m.jsonl")[1];
    assert_eq!(failed["status"], "failed");
    let error = failed["error"].as_str().unwrap();
    assert!(error.contains("late.wav"), "{error}");
    assert_eq!(failed["outputs"].as_array().unwrap().len(), 0);

    // A process is killed while it writes a line.
    let half = r#"{"input":"takes/late.wav","input_sha"#;
    let mut text_then = fs::read_to_string(desk.path("m.jsonl")).unwrap();
    text_then.push_str(half);
    fs::write(desk.path("m.jsonl"), &text_then).unwrap();
    // And while it writes a result: one long ago, one that may still be at it.
    for (name, hours) in [("out/.1-0-0.aside", 2), ("out/.1-1-0.aside", 0)] {
        fs::write(desk.path(name), "half").unwrap();
        let then = SystemTime::now() - Duration::from_secs(3600 * hours);
        let file = fs::File::options()
            .write(true)
            .open(desk.path(name))
            .unwrap();
        file.set_modified(then).unwrap();
    }
    desk.write("takes/late.wav", &song(0.7, 1, 2.0));
    let run = desk.run(&args);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    assert_eq!(text(&run.stdout).matches("(done before)").count(), 1);
    let manifest = fs::read_to_string(desk.path("m.jsonl")).unwrap();
    assert!(
        manifest.starts_with(&format!("{text_then}\n{{")),
        "{manifest}"
    );
    assert!(!desk.path("out/.1-0-0.aside").exists());
    assert!(desk.path("out/.1-1-0.aside").exists());
    let run = desk.run(&args);
    assert_eq!(text(&run.stdout).matches("(done before)").count(), 2);
}

#[test]
fn a_batch_that_cannot_be_is_refused_before_any_work() {
    let desk = desk();
    fs::create_dir(desk.path("empty")).unwrap();
    fs::write(desk.path("report.json"), "{\n  \"damage\": []\n}\n").unwrap();
    fs::write(desk.path("list.txt"), "a.wav\n").unwrap();
    let untouched = tree(&desk.path(""));
    for (args, reason) in [
        (&["takes", "-o", "out", "--shard", "0/3"][..], "2/3"),
        (&["takes", "-o", "out", "--shard", "4/3"], "2/3"),
        (&["takes", "-o", "out", "--shard", "half"], "2/3"),
        (&["takes", "-o", "takes"], "outside"),
        (&["takes", "-o", "takes/out"], "outside"),
        (
            &["takes", "-o", "out", "--stems", "takes/st/ems"],
            "outside",
        ),
        (&["empty", "-o", "out"], "no recordings"),
        (&["takes", "takes/b.wav", "-o", "out"], "both"),
        (
            &["takes", "-o", "out", "--manifest", "takes/a.wav"],
            "an input",
        ),
        (
            &["takes", "-o", "out", "--manifest", "report.json"],
            "not a manifest",
        ),
        (
            &["takes", "-o", "out", "--manifest", "list.txt"],
            "not a manifest",
        ),
        (
            &["takes", "-o", "out", "--manifest", "takes"],
            "another place",
        ),
        (
            &[
                "takes",
                "-o",
                "x",
                "--midi",
                "m",
                "--report",
                "m",
                "--manifest",
                "m/b.json",
            ],
            "both",
        ),
    ] {
        let run = desk.run(&[&["restore"], args].concat());
        let errors = text(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{args:?} says {errors:?}");
        assert!(errors.contains(reason), "{args:?} says {errors:?}");
    }
    assert_same(&untouched, &tree(&desk.path("")));
}
