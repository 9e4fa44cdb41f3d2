// [cli] `cargo xtask tidy`: the house rules that no compiler checks.

mod imports;

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};

use crate::workspace;

/// The threads a module can belong to; the first line of every file says which.
const THREADS: [&str; 7] = ["audio", "worker", "any", "host", "main", "boundary", "cli"];

/// Longest source file in lines. Past it, split.
const MAX_LINES: usize = 800;

/// Beginnings of paths that exist on somebody's machine only. Written in two parts so that this file
/// passes.
const MACHINE_PATHS: [&str; 6] = [
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("C:\\Us", "ers\\"),
    concat!("/t", "mp/"),
    concat!("/var/fol", "ders/"),
];

/// Parts of host names that serve packages inside somebody's network.
const PRIVATE_HOST_PARTS: [&str; 8] = [
    "registry",
    "mirror",
    "proxy",
    "artifactory",
    "nexus",
    "internal",
    "corp",
    "lan",
];

/// The only place Cargo.lock may name.
const PUBLIC_INDEX: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Checks thread tags, the import table, file lengths, leaks and versions.
///
/// # Errors
/// With every broken rule, one a line.
pub fn run() -> Result<()> {
    let root = workspace::root()?;
    let mut problems = Vec::new();
    let files = tracked(&root)?;
    for path in &files {
        let Ok(bytes) = fs::read(root.join(path)) else {
            // Deleted in the work tree, not yet in the index.
            continue;
        };
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        if path.ends_with(".rs") {
            problems.extend(length(path, &text));
        }
        let is_module = path.starts_with("src/") || path.starts_with("xtask/src/");
        if path.ends_with(".rs") && is_module {
            problems.extend(thread_tag(path, &text));
        }
        if let Some(module) = path.strip_prefix("src/").filter(|p| p.ends_with(".rs")) {
            problems.extend(imports::problems(module, &text));
        }
        problems.extend(leaks(path, &text));
    }
    problems.extend(versions(&root)?);
    if problems.is_empty() {
        println!("tidy: {} files follow the rules", files.len());
        return Ok(());
    }
    bail!("{} problem(s):\n{}", problems.len(), problems.join("\n"))
}

/// Files git tracks, or would.
fn tracked(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .current_dir(root)
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .output()
        .context("git can't be run")?;
    ensure!(
        output.status.success(),
        "git ls-files failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut files: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .split_terminator('\0')
        .map(str::to_owned)
        .collect();
    files.sort();
    files.dedup();
    ensure!(!files.is_empty(), "git tracks no files here");
    Ok(files)
}

fn length(path: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > MAX_LINES).then(|| format!("{path}: {lines} lines, more than {MAX_LINES}; split it"))
}

fn thread_tag(path: &str, text: &str) -> Option<String> {
    let line = text.lines().next().unwrap_or("");
    let tag = line.strip_prefix("// [").and_then(|l| l.split_once("] "));
    match tag {
        Some((tag, sentence)) if THREADS.contains(&tag) && !sentence.trim().is_empty() => None,
        _ => Some(format!(
            "{path}: the first line must be `// [thread] what this is`, with a thread of {}",
            THREADS.join(", ")
        )),
    }
}

fn leaks(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut complain = |what: &str| problems.push(format!("{path}:{}: {what}", number + 1));
        if MACHINE_PATHS.iter().any(|p| names_path(line, p)) {
            complain("a path of somebody's machine");
        }
        if path == "Cargo.lock" {
            let source = line.strip_prefix("source = ");
            if source.is_some_and(|s| s.trim_matches('"') != PUBLIC_INDEX) {
                complain("a source other than the public index");
            }
        } else if hosts(line).any(is_private_host) {
            complain("a package host that others can't reach");
        }
        if path == ".cargo/config.toml"
            && ["[source", "[registr"].iter().any(|s| line.starts_with(s))
        {
            complain("a package source of somebody's machine");
        }
    }
    problems
}

/// Whether `line` holds the path `start` at the beginning of a word: `a/tmp/b` is none.
fn names_path(line: &str, start: &str) -> bool {
    line.match_indices(start).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-~}/".contains(c))
    })
}

/// Host names of the URLs in `line`.
fn hosts(line: &str) -> impl Iterator<Item = &str> {
    line.split("://").skip(1).filter_map(|rest| {
        let end = rest
            .find(|c: char| !(c.is_alphanumeric() || c == '.' || c == '-'))
            .unwrap_or(rest.len());
        (end > 0).then_some(&rest[..end])
    })
}

fn is_private_host(host: &str) -> bool {
    host.split(['.', '-'])
        .any(|part| PRIVATE_HOST_PARTS.contains(&part))
}

/// README and CHANGELOG must speak of the version that Cargo.toml has.
fn versions(root: &Path) -> Result<Vec<String>> {
    let read = |name: &str| {
        fs::read_to_string(root.join(name)).with_context(|| format!("{name} can't be read"))
    };
    let manifest = read("Cargo.toml")?;
    let version = manifest
        .split_once("[package]")
        .and_then(|(_, package)| {
            package
                .lines()
                .find_map(|l| l.strip_prefix("version = \"")?.strip_suffix('"'))
        })
        .context("Cargo.toml has no version")?;
    let mut problems = Vec::new();
    if !read("README.md")?.contains(version) {
        problems.push(format!("README.md does not mention version {version}"));
    }
    let heading = |line: &str| line.starts_with('#') && line.contains(version);
    if !read("CHANGELOG.md")?.lines().any(heading) {
        problems.push(format!("CHANGELOG.md has no heading for {version}"));
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_name_a_thread_and_say_what() {
        assert_eq!(thread_tag("a.rs", "// [audio] The chain.\n"), None);
        for wrong in ["", "//! x", "// [gui] x", "// [audio]", "// [audio] "] {
            assert!(thread_tag("a.rs", wrong).is_some(), "{wrong}");
        }
    }

    #[test]
    fn machine_paths_are_found_where_they_begin() {
        let tmp = MACHINE_PATHS[4];
        assert!(names_path(&format!("open(\"{tmp}x\")"), tmp));
        assert!(names_path(&format!("{tmp}x"), tmp));
        assert!(!names_path(&format!("target{tmp}x"), tmp));
        assert!(!leaks("a.md", &format!("see {}me/x", MACHINE_PATHS[0])).is_empty());
    }

    #[test]
    fn only_public_package_hosts_may_be_named() {
        let private = format!("url = \"https:/{}", "/registry.example.com/x\"");
        assert_eq!(leaks("a.toml", &private).len(), 1);
        assert_eq!(leaks("a.md", "https://github.com/rust-lang/rust").len(), 0);
        assert_eq!(
            leaks("a.md", "https://landr.com, https://proxying.com").len(),
            0
        );
        let lock = format!("source = \"{PUBLIC_INDEX}\"");
        assert_eq!(leaks("Cargo.lock", &lock).len(), 0);
        let git = "source = \"git+https://github.com/a/b#c\"";
        assert_eq!(leaks("Cargo.lock", git).len(), 1);
        let config = concat!("[sou", "rce.x]");
        assert_eq!(leaks(".cargo/config.toml", config).len(), 1);
    }

    #[test]
    fn long_files_are_named() {
        assert!(length("a.rs", &"x\n".repeat(MAX_LINES)).is_none());
        assert!(length("a.rs", &"x\n".repeat(MAX_LINES + 1)).is_some());
    }
}
