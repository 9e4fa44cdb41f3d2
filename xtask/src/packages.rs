// [cli] The Debian packages that some tests want: looked for, installed where allowed, or named.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::workspace;

/// What a test that opens the editor needs at run time. Building needs none of it: the window and
/// OpenGL libraries are opened when the editor opens (baseview, x11-dl and xkbcommon-dl load them by
/// name), so a C compiler, which Rust's linker is, builds everything.
const WINDOW_TESTS: [&str; 9] = [
    "xvfb",
    "libgl1",
    "libgl1-mesa-dri",
    "libegl1",
    "libx11-6",
    "libx11-xcb1",
    "libxcb1",
    "libxkbcommon0",
    "libxkbcommon-x11-0",
];

/// What `cargo xtask screenshots` needs beside it: a session bus with AT-SPI, over which screen readers read.
const SCREEN_READERS: [&str; 2] = ["dbus", "at-spi2-core"];
/// What the stand-alone program is built with and tested on.
const STANDALONE: [&str; 4] = [
    "libasound2-dev",
    "libjack-jackd2-dev",
    "pkg-config",
    "jackd2",
];
/// What makes an environment for the hosts that are driven from Python.
const HOSTS: [&str; 1] = ["python3-venv"];

/// [`ensure_for_window_tests`], with what a screen reader needs.
///
/// # Errors
/// As there.
pub fn ensure_for_screenshots() -> Result<()> {
    ensure(
        "tests that open a window",
        &[&WINDOW_TESTS[..], &SCREEN_READERS].concat(),
    )
}

/// Sees to it that the packages of window tests are there. Root on Debian and its kin gets them
/// installed, and is told so; anyone else is given the line to paste. Other systems are left alone.
///
/// # Errors
/// If packages are missing and can't be installed.
pub fn ensure_for_window_tests() -> Result<()> {
    ensure("tests that open a window", &WINDOW_TESTS)
}

/// The same for tests of the program without a host.
///
/// # Errors
/// If packages are missing and can't be installed.
pub fn ensure_for_standalone() -> Result<()> {
    ensure("tests without a host", &STANDALONE)
}

/// Which of these are missing, where that can be told.
pub fn missing_for_standalone() -> Vec<&'static str> {
    missing(&STANDALONE)
}

/// The same for `cargo xtask hosts --set-up`.
///
/// # Errors
/// If packages are missing and can't be installed.
pub fn ensure_for_hosts() -> Result<()> {
    ensure("tests in other plugin hosts", &HOSTS)
}

fn ensure(purpose: &str, packages: &[&str]) -> Result<()> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !is_root() {
        bail!(
            "{purpose} need packages that are missing; paste this and run again:\n\
             sudo apt-get update && sudo apt-get install -y --no-install-recommends {list}"
        );
    }
    println!("Installing Debian packages for {purpose}: {list}");
    workspace::run(apt_get().args(["update", "-q"]))?;
    workspace::run(
        apt_get()
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "-y", "-q", "--no-install-recommends"])
            .args(&missing),
    )
}

fn missing<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    if !cfg!(target_os = "linux") || !succeeds(Command::new("dpkg-query").arg("--version")) {
        return Vec::new();
    }
    let wanted = packages.iter().copied();
    wanted.filter(|package| !installed(package)).collect()
}

/// It gives up on a server that is silent, and on another that holds its lock.
fn apt_get() -> Command {
    let mut apt = Command::new("apt-get");
    for limit in [
        "Acquire::http::Timeout=30",
        "Acquire::https::Timeout=30",
        "Acquire::Retries=2",
        "DPkg::Lock::Timeout=120",
    ] {
        apt.args(["-o", limit]);
    }
    apt
}

fn installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}\n", package])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|o| {
            String::from_utf8_lossy(&o.stdout)
                .lines()
                .any(|status| status == "installed")
        })
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|o| o.stdout.trim_ascii() == b"0")
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}
