// [cli] `cargo xtask test`: every test, those of the bundled plugin included, and other people's hosts.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{bundle, hosts, packages, workspace};

/// Builds everything once, bundles the plugin (dev profile), runs all tests, plays the bundles in other plugin hosts.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Bundle a plugin that aborts when `process` allocates, and run the tests against that one.
    #[arg(long)]
    pub assert_allocs: bool,
    /// Further arguments for `cargo test`, like a test's name; no other hosts then.
    #[arg(last = true)]
    pub cargo: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// If a package is missing, a build, a test or a host fails.
pub fn run(args: &Args) -> Result<()> {
    packages::ensure_for_window_tests()?;
    // With `--tests`, features are resolved as `cargo test` resolves them: nothing is built twice.
    workspace::run(workspace::cargo()?.args([
        "build",
        "--workspace",
        "--lib",
        "--bins",
        "--tests",
    ]))?;
    if args.assert_allocs {
        // In a build of its own: the allocator that aborts may not meet those of other tests.
        bundle::run(&bundle::Args {
            release: false,
            cargo: vec!["--features".into(), "assert_process_allocs".into()],
            ..Default::default()
        })?;
    } else {
        bundle::bundle_built(&[])?;
    }
    let screen = Screen::start()?;
    let mut tests = workspace::cargo()?;
    tests.args(["test", "--workspace"]).args(&args.cargo);
    if let Some(screen) = &screen {
        tests.env("DISPLAY", &screen.display);
        tests.env("LIBGL_ALWAYS_SOFTWARE", "1");
    }
    workspace::run(&mut tests)?;
    drop(screen);
    if args.cargo.is_empty() {
        hosts::test()?;
    }
    Ok(())
}

/// An X server without a monitor, for as long as this lives.
pub(crate) struct Screen {
    server: Child,
    /// What `DISPLAY` is to be.
    pub(crate) display: String,
}

impl Screen {
    /// `None` where windows need no X server.
    pub(crate) fn start() -> Result<Option<Self>> {
        if !cfg!(target_os = "linux") {
            return Ok(None);
        }
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1600x1200x24"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("Xvfb can't be started; tests that open a window need it")?;
        // It writes the number of a free display once it listens.
        let mut line = String::new();
        if let Some(output) = server.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let screen = Self {
            server,
            display: format!(":{}", line.trim()),
        };
        ensure!(
            !line.trim().is_empty(),
            "Xvfb ended before it gave a display"
        );
        Ok(Some(screen))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nothing is lost if it has ended by itself.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
