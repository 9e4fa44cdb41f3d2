// `uncook models` as a user types it. What needs a model's real files is tested in the library.

use std::process::{Command, Output};

fn uncook(data: &std::path::Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_uncook"))
        .arg("models")
        .args(args)
        .env("UNCOOK_DATA_DIR", data)
        .env_remove("UNCOOK_HUB_TOKEN")
        .env_remove("HF_TOKEN")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[test]
fn exit_codes_and_words() {
    let data = tempfile::tempdir().unwrap();
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().to_str().unwrap();
    for (args, code, words) in [
        (
            &["list"][..],
            0,
            "htdemucs (separation, 84 MB, not installed)",
        ),
        (&["list", "--files"], 0, "SHA-256 8726e21a993978c7"),
        (&["verify"], 0, "No models are installed."),
        // Nobody is there to accept the terms.
        (&["fetch", "htdemucs"], 1, "scientific purposes only"),
        (&["fetch", "htdemucs"], 1, "--yes"),
        (&["fetch", "nothing"], 2, "no model is called nothing"),
        (&["fetch"], 2, "NAME"),
        (&["remove", "htdemucs"], 1, "not installed"),
        (&["remove", "nothing"], 2, "no model is called nothing"),
        (&["verify", "htdemucs"], 1, "not installed"),
        (&["add", empty], 1, "no known model"),
        (
            &["add", empty, "--name", "nothing"],
            2,
            "no model is called",
        ),
        (
            &["add", empty, "--name", "htdemucs", "--yes"],
            1,
            "955717e8-8726e21a.th",
        ),
    ] {
        let output = uncook(data.path(), args);
        let text = told(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(words), "{args:?}: {text}");
    }
}
