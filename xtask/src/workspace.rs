// [cli] Where things are: the repository's root, the target folder, the bundles.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

/// The bundled plugin's name, from `bundler.toml`.
pub const BUNDLE_NAME: &str = "Uncook";

/// The repository's root: the folder above this crate's.
///
/// # Errors
/// If neither cargo nor the working directory leads there.
pub fn root() -> Result<PathBuf> {
    // Cargo sets the variable for `cargo run` and `cargo test`; a copied binary is asked to be run
    // inside the repository.
    let start = match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => std::env::current_dir()?,
    };
    start
        .ancestors()
        .find(|dir| dir.join("xtask/Cargo.toml").is_file())
        .map(Path::to_owned)
        .context("run this inside Uncook's repository")
}

/// Cargo's target folder for the workspace.
///
/// # Errors
/// If cargo can't be asked.
pub fn target_dir() -> Result<PathBuf> {
    let json = metadata(&["--no-deps"])?;
    let dir = json["target_directory"]
        .as_str()
        .context("cargo metadata names no target folder")?;
    Ok(PathBuf::from(dir))
}

/// What `cargo metadata` says of the workspace.
///
/// # Errors
/// If cargo can't be asked.
pub fn metadata(args: &[&str]) -> Result<serde_json::Value> {
    let output = cargo()?
        .args(["metadata", "--format-version", "1"])
        .args(args)
        .output()
        .context("cargo can't be run")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A cargo to run in the root.
pub fn cargo() -> Result<Command> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root()?);
    Ok(command)
}

/// Runs `command`, with its output on the terminal.
///
/// # Errors
/// If it can't start or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let arguments: Vec<_> = command
        .get_args()
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    let line = format!("{program} {}", arguments.join(" "));
    let status = command
        .status()
        .with_context(|| format!("could not start {line}"))?;
    ensure!(status.success(), "{line}: {status}");
    Ok(())
}

/// Waits for a child's end; after `limit` ends it and returns `None`.
///
/// # Errors
/// If the system can't say what became of it.
pub fn wait_within(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if began.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The folder of the bundles.
pub fn bundles_dir() -> Result<PathBuf> {
    Ok(target_dir()?.join("bundled"))
}

/// The bundled CLAP plugin.
pub fn bundled_clap() -> Result<PathBuf> {
    Ok(bundles_dir()?.join(format!("{BUNDLE_NAME}.clap")))
}
