// [cli] `cargo xtask release`: the archive that listeners download, the same bytes from the same inputs.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use flate2::{Compression, write::GzEncoder};
use tar::{EntryType, Header};
use uncook::system::hash::{sha256, sha256_file};

use crate::{bundle, licences, workspace};

/// Files of the repository that go along.
const FILES: [&str; 6] = [
    "README.md",
    "CHANGELOG.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    // The README shows them.
    "docs/demo.png",
    "docs/editor-repaired.png",
];
const LICENCES: &str = "THIRD-PARTY-LICENSES.txt";
/// The list of archives, as `sha256sum --check` reads it.
const SUMS: &str = "SHA256SUMS";

/// Builds, bundles and packs: bundles, command line, README, changelog, licences; writes SHA256SUMS beside.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Pack what target/bundled holds, without building.
    #[arg(long)]
    pub no_build: bool,
    /// For both processors of macOS at once; on macOS only.
    #[arg(long)]
    pub universal: bool,
    /// Where the archive goes [default: target/release-archives].
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Further arguments for `cargo build`, like --features or --target.
    #[arg(last = true)]
    pub cargo: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// If the build fails, a file is missing or a folder can't be written.
pub fn run(args: &Args) -> Result<()> {
    let root = workspace::root()?;
    let bundles = if args.no_build {
        bundle::bundles()?
    } else {
        bundle::run(&bundle::Args {
            release: true,
            universal: args.universal,
            cargo: args.cargo.clone(),
        })?
    };
    let target = match bundle::value(&args.cargo, "--target") {
        _ if args.universal => "universal-apple-darwin".to_owned(),
        Some(target) => target,
        None => licences::host()?,
    };
    let version = env!("CARGO_PKG_VERSION");
    let name = format!("uncook-{version}-{target}");
    let mut entries = Vec::new();
    for bundle in bundles.iter().chain(&bundle::program()?) {
        collect(
            bundle,
            Path::new(bundle.file_name().unwrap_or_default()),
            &mut entries,
        )?;
    }
    for file in FILES {
        collect(&root.join(file), Path::new(file), &mut entries)?;
    }
    let linked_for = if args.universal {
        "aarch64-apple-darwin"
    } else {
        &target
    };
    entries.push(Entry {
        path: LICENCES.into(),
        content: licences::list(linked_for)?.into_bytes(),
        executable: false,
    });
    let folder = match &args.output {
        Some(folder) => folder.clone(),
        None => workspace::target_dir()?.join("release-archives"),
    };
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{name}.tar.gz"));
    let bytes = archive(&name, entries, source_time()?)?;
    fs::write(&path, &bytes).with_context(|| format!("{}: can't be written", path.display()))?;
    let sums = folder.join(SUMS);
    fs::write(&sums, checksums(&folder)?)
        .with_context(|| format!("{}: can't be written", sums.display()))?;
    println!(
        "{} ({} bytes, SHA-256 {})",
        path.display(),
        bytes.len(),
        sha256(&bytes)
    );
    Ok(())
}

/// Seconds since 1970 that every file of an archive bears: SOURCE_DATE_EPOCH, else the last commit's.
fn source_time() -> Result<u64> {
    if let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") {
        return text
            .parse()
            .context("SOURCE_DATE_EPOCH is not a number of seconds");
    }
    let git = Command::new("git")
        .current_dir(workspace::root()?)
        .args(["log", "-1", "--format=%ct"])
        .output()
        .context("git can't be run; set SOURCE_DATE_EPOCH")?;
    let text = String::from_utf8_lossy(&git.stdout).into_owned();
    text.trim()
        .parse()
        .context("git knows no commit here; set SOURCE_DATE_EPOCH")
}

/// A file of an archive.
struct Entry {
    /// Below the archive's folder.
    path: PathBuf,
    content: Vec<u8>,
    executable: bool,
}

/// Adds a file, or everything in a folder, under `name`.
fn collect(path: &Path, name: &Path, entries: &mut Vec<Entry>) -> Result<()> {
    let failed = || format!("{}: can't be read; build it first", path.display());
    let metadata = fs::metadata(path).with_context(failed)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).with_context(failed)? {
            let entry = entry?;
            collect(&entry.path(), &name.join(entry.file_name()), entries)?;
        }
        return Ok(());
    }
    #[cfg(unix)]
    let executable = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o100 != 0;
    #[cfg(not(unix))]
    let executable = path.extension().is_some_and(|e| e == "exe" || e == "dll");
    let mut content = Vec::new();
    fs::File::open(path)
        .and_then(|mut file| file.read_to_end(&mut content))
        .with_context(failed)?;
    entries.push(Entry {
        path: name.to_owned(),
        content,
        executable,
    });
    Ok(())
}

/// Packs `entries` below a folder `name`: sorted, owned by nobody, all of one `time`, readable by all.
fn archive(name: &str, mut entries: Vec<Entry>, time: u64) -> Result<Vec<u8>> {
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let gzip = GzEncoder::new(Vec::new(), Compression::best());
    let mut tar = tar::Builder::new(gzip);
    let mut last: Option<&Path> = None;
    for entry in &entries {
        ensure!(
            last != Some(&entry.path),
            "{} would be packed twice",
            entry.path.display()
        );
        last = Some(&entry.path);
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(entry.content.len() as u64);
        header.set_mode(if entry.executable { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(time);
        let path = Path::new(name).join(&entry.path);
        tar.append_data(&mut header, path, &entry.content[..])?;
    }
    let mut gzip = tar.into_inner()?;
    gzip.flush()?;
    Ok(gzip.finish()?)
}

/// A line for each archive in a folder, by name.
fn checksums(folder: &Path) -> Result<String> {
    let mut names: Vec<String> = fs::read_dir(folder)?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".tar.gz"))
        .collect();
    names.sort();
    let mut lines = String::new();
    for name in names {
        let sum = sha256_file(&folder.join(&name), &|_| true)?.context("stopped")?;
        lines += &format!("{sum}  {name}\n");
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bundle and a program in a folder, made in this order.
    fn fixture(names: [&str; 4]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, name.repeat(1000)).unwrap();
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                let mode = if name.ends_with(".so") || name == "uncook" {
                    0o700
                } else {
                    0o640
                };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        dir
    }

    fn packed(dir: &Path) -> Vec<u8> {
        let mut entries = Vec::new();
        for name in ["A.vst3", "uncook", "README.md"] {
            collect(&dir.join(name), Path::new(name), &mut entries).unwrap();
        }
        archive("a-1.0", entries, 1_700_000_000).unwrap()
    }

    #[test]
    fn the_same_files_give_the_same_archive() {
        let names = [
            "A.vst3/Contents/x/A.so",
            "A.vst3/Contents/b",
            "uncook",
            "README.md",
        ];
        let mut backwards = names;
        backwards.reverse();
        let (one, two) = (fixture(names), fixture(backwards));
        let file = fs::File::options()
            .write(true)
            .open(two.path().join("uncook"))
            .unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
        let bytes = packed(one.path());
        assert!(bytes == packed(two.path()), "times or order are seen");
        fs::write(two.path().join("README.md"), "another").unwrap();
        assert!(bytes != packed(two.path()));

        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
        let entries: Vec<(String, u32, u64)> = tar
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let name = entry.path().unwrap().display().to_string();
                let mut content = String::new();
                entry.read_to_string(&mut content).unwrap();
                let inside = name.strip_prefix("a-1.0/").unwrap().replace('\\', "/");
                assert_eq!(content, inside.repeat(1000));
                let header = entry.header();
                assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
                (inside, header.mode().unwrap(), header.mtime().unwrap())
            })
            .collect();
        let program = if cfg!(unix) { 0o755 } else { 0o644 };
        let time = 1_700_000_000;
        assert_eq!(
            entries,
            [
                ("A.vst3/Contents/b".to_owned(), 0o644, time),
                ("A.vst3/Contents/x/A.so".to_owned(), program, time),
                ("README.md".to_owned(), 0o644, time),
                ("uncook".to_owned(), program, time),
            ]
        );
    }

    #[test]
    fn what_is_missing_or_twice_there_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = collect(
            &dir.path().join("A.clap"),
            Path::new("A.clap"),
            &mut Vec::new(),
        );
        assert!(error.unwrap_err().to_string().contains("A.clap"));
        let entry = || Entry {
            path: "README.md".into(),
            content: Vec::new(),
            executable: false,
        };
        assert!(archive("a", vec![entry(), entry()], 0).is_err());
    }

    #[test]
    fn every_archive_has_its_checksum() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.tar.gz", "a.tar.gz", "notes.txt", SUMS] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let expected = ["a.tar.gz", "b.tar.gz"].map(|n| format!("{}  {n}\n", sha256(n.as_bytes())));
        assert_eq!(checksums(dir.path()).unwrap(), expected.concat());
    }
}
