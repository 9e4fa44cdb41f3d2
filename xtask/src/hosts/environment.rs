// [cli] The Python environment of the hosts, made under target/: every step has a limit.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{packages, workspace};

/// The versions that are installed.
const REQUIREMENTS: &str = include_str!("requirements.txt");
/// Python looks into its own folders.
const LOOKING: Duration = Duration::from_secs(60);
/// Python copies itself and unpacks pip.
const MAKING: Duration = Duration::from_secs(120);
/// Some 60 MB come from PyPI.
const FETCHING: Duration = Duration::from_secs(180);

/// An environment with the hosts under target/, made once for each list of versions; returns its Python.
///
/// # Errors
/// If Python lacks `venv`, or a package can't be fetched.
pub(super) fn make(python: &Path) -> Result<PathBuf> {
    let folder = workspace::target_dir()?.join("hosts");
    let list = folder.join("requirements.txt");
    let ready = folder.join(if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    });
    if fs::read_to_string(&list).is_ok_and(|versions| versions == REQUIREMENTS) {
        return Ok(ready);
    }
    // Debian's Python comes without.
    if has(python, "ensurepip").is_err() {
        packages::ensure_for_hosts()?;
    }
    let mut fresh = Command::new(python);
    fresh.args(["-m", "venv", "--clear"]).arg(&folder);
    finish(fresh, MAKING).context("no environment can be made for Python's packages")?;
    // The list is only in its place once everything on it is.
    let wanted = folder.join("wanted.txt");
    fs::write(&wanted, REQUIREMENTS)?;
    let mut pip = Command::new(&ready);
    pip.args(["-m", "pip", "install", "--quiet", "--no-input"])
        .args(["--disable-pip-version-check", "--only-binary", ":all:"])
        .args(["--timeout", "20", "--retries", "1", "--requirement"])
        .arg(&wanted);
    finish(pip, FETCHING)
        .context("pedalboard and DawDreamer can't be installed; is PyPI within reach?")?;
    fs::rename(&wanted, &list)?;
    Ok(ready)
}

/// Whether Python can import a module.
///
/// # Errors
/// With what Python says where it can't.
pub(super) fn has(python: &Path, module: &str) -> Result<()> {
    let mut import = Command::new(python);
    import.args(["-c", &format!("import {module}")]);
    finish(import, LOOKING).map(drop)
}

/// Runs a command to its end; returns what it wrote.
///
/// # Errors
/// If it can't be started, fails or takes longer than `limit`, with the last line that it wrote.
pub(super) fn finish(mut command: Command, limit: Duration) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    // A file, not a pipe: nobody has to empty it, and what a killed program has started can't hold it open.
    let mut log = tempfile::tempfile()?;
    let mut child = command
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .spawn()
        .with_context(|| format!("{program} can't be started"))?;
    let status = workspace::wait_within(&mut child, limit)?;
    let mut text = Vec::new();
    std::io::Seek::rewind(&mut log)?;
    std::io::Read::read_to_end(&mut log, &mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let last = text.trim_end().lines().last().unwrap_or_default();
    let Some(status) = status else {
        bail!("{program} took longer than {} s: {last}", limit.as_secs());
    };
    ensure!(status.success(), "{program}: {status}: {last}");
    Ok(text)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Result<String> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        finish(command, limit)
    }

    #[test]
    fn what_takes_too_long_is_ended_and_said() {
        let began = std::time::Instant::now();
        let error = shell("echo waiting; exec sleep 60", Duration::from_millis(300)).unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(20));
        assert_eq!(error.to_string(), "sh took longer than 0 s: waiting");
    }

    #[test]
    fn what_fails_says_its_last_line() {
        let limit = Duration::from_secs(30);
        assert_eq!(
            shell("echo all; echo is well >&2", limit).unwrap(),
            "all\nis well\n"
        );
        let error = shell("echo so; echo no network >&2; exit 3", limit).unwrap_err();
        assert_eq!(error.to_string(), "sh: exit status: 3: no network");
    }

    #[test]
    fn a_python_that_is_not_there_is_said() {
        let error = has(Path::new("/no/such/python3"), "venv").unwrap_err();
        assert_eq!(error.to_string(), "/no/such/python3 can't be started");
    }
}
