// [any] `uncook-standalone`: Uncook without a host, on JACK, the system's audio or a dummy, with a file as input.

use std::{path::PathBuf, process::ExitCode};

use uncook::{
    audio::AudioBuffer,
    plugin::standalone::{Standalone, run},
};

const USAGE: &str = "Uncook without a host.

Options of its own:
  --play FILE   Play this file over and over in the place of the input
  --no-window   Without the editor, until Ctrl-C

All others:
";

fn main() -> ExitCode {
    let (config, args) = match parse(std::env::args()) {
        Ok(parsed) => parsed,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    if config.windowless {
        eprintln!("Ctrl-C ends it");
    }
    if run(config, args) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What is said to us, and what is left for the framework.
fn parse(mut args: impl Iterator<Item = String>) -> Result<(Standalone, Vec<String>), String> {
    let mut config = Standalone::default();
    let mut rest = Vec::new();
    while let Some(arg) = args.next() {
        if arg == "--no-window" {
            config.windowless = true;
        } else if arg == "--play" {
            let file = args.next().ok_or("--play wants a file")?;
            config.file = Some(read(file.into())?);
        } else if let Some(file) = arg.strip_prefix("--play=") {
            config.file = Some(read(file.into())?);
        } else {
            if arg == "--help" || arg == "-h" {
                print!("{USAGE}");
            }
            rest.push(arg);
        }
    }
    Ok((config, rest))
}

fn read(path: PathBuf) -> Result<AudioBuffer, String> {
    // The error names the file and the cure.
    AudioBuffer::read(&path).map_err(|error| error.to_string())
}
