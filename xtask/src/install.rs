// [cli] `cargo xtask install`: copies the bundles to where hosts look for plugins.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::bundle;

/// Bundles the plugin with optimisation and copies it to the user's plugin folders.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Copy both bundles here instead.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Copy what target/bundled holds, without building.
    #[arg(long)]
    pub no_build: bool,
}

/// Runs the command.
///
/// # Errors
/// If the build fails or a folder can't be written.
pub fn run(args: &Args) -> Result<()> {
    let bundles = if args.no_build {
        bundle::bundles()?
    } else {
        bundle::run(&bundle::Args {
            release: true,
            ..Default::default()
        })?
    };
    for source in &bundles {
        ensure!(
            source.exists(),
            "{} does not exist: run `cargo xtask bundle --release` first",
            source.display()
        );
        let folder = match &args.dir {
            Some(dir) => dir.clone(),
            None => user_folder(source)?,
        };
        // With the program in which analyses run.
        for source in [Some(source.clone()), bundle::program()?]
            .into_iter()
            .flatten()
        {
            let name = source.file_name().context("a bundle without a name")?;
            let target = folder.join(name);
            replace(&source, &target)
                .with_context(|| format!("copying to {}", target.display()))?;
            println!("installed {}", target.display());
        }
    }
    println!("Let your host scan for plugins again; it lists Uncook.");
    Ok(())
}

/// The folder that the formats' rules give the user, by the bundle's extension.
fn user_folder(bundle: &Path) -> Result<PathBuf> {
    let is_clap = bundle.extension().is_some_and(|e| e == "clap");
    let variable = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .with_context(|| format!("{name} is not set; say where with --dir"))
    };
    Ok(if cfg!(target_os = "macos") {
        let plugins = variable("HOME")?.join("Library/Audio/Plug-Ins");
        plugins.join(if is_clap { "CLAP" } else { "VST3" })
    } else if cfg!(windows) {
        let common = variable("LOCALAPPDATA")?.join("Programs").join("Common");
        common.join(if is_clap { "CLAP" } else { "VST3" })
    } else {
        variable("HOME")?.join(if is_clap { ".clap" } else { ".vst3" })
    })
}

/// Copies a file or folder over whatever is there. A plugin that a host has loaded stays whole for
/// that host: the copy is made beside it and then renamed.
pub(crate) fn replace(source: &Path, target: &Path) -> Result<()> {
    let folder = target.parent().context("no folder to copy to")?;
    fs::create_dir_all(folder)?;
    let mut name = target
        .file_name()
        .context("no name to copy to")?
        .to_os_string();
    name.push(".new");
    let fresh = folder.join(name);
    remove(&fresh)?;
    copy(source, &fresh)?;
    if target.is_dir() {
        remove(target)?;
    }
    fs::rename(&fresh, target)?;
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    if path.is_dir() {
        fs::remove_dir_all(path)?;
    } else if path.exists() {
        fs::remove_file(path)?;
    }
    Ok(())
}

fn copy(source: &Path, target: &Path) -> Result<()> {
    if !source.is_dir() {
        fs::copy(source, target)?;
        return Ok(());
    }
    fs::create_dir_all(target)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        copy(&entry.path(), &target.join(entry.file_name()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_bundle_replaces_an_older_one_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (source, target) = (dir.path().join("A.vst3"), dir.path().join("user/A.vst3"));
        fs::create_dir_all(source.join("Contents/x")).unwrap();
        fs::write(source.join("Contents/x/A.so"), b"new").unwrap();
        fs::create_dir_all(target.join("Contents")).unwrap();
        fs::write(target.join("Contents/stale"), b"old").unwrap();
        replace(&source, &target).unwrap();
        assert_eq!(fs::read(target.join("Contents/x/A.so")).unwrap(), b"new");
        assert!(!target.join("Contents/stale").exists());

        let (source, target) = (dir.path().join("A.clap"), dir.path().join("user/A.clap"));
        for content in [b"1", b"2"] {
            fs::write(&source, content).unwrap();
            replace(&source, &target).unwrap();
            assert_eq!(fs::read(&target).unwrap(), content);
        }
        assert_eq!(fs::read_dir(dir.path().join("user")).unwrap().count(), 2);
    }
}
