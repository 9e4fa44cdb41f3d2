// [cli] `cargo xtask bundle`: the CLAP and VST3 bundles in target/bundled, through nice-plug's bundler.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::{install, workspace};

/// The package that holds the plugin.
const PACKAGE: &str = "uncook";

/// The program in which the plugin's analyses run; it lies beside the bundles.
const PROGRAM: &str = "uncook";

/// Builds the plugin and bundles it, with the program in which its analyses run beside the bundles.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Args {
    /// With optimisation; without it the dev profile, which is fast enough to play.
    #[arg(long)]
    pub release: bool,
    /// For both processors of macOS at once; on macOS only.
    #[arg(long)]
    pub universal: bool,
    /// Further arguments for `cargo build`, like --features or --target.
    #[arg(last = true)]
    pub cargo: Vec<String>,
}

/// Builds and bundles; returns the bundles.
///
/// # Errors
/// If the build or the bundler fails.
pub fn run(args: &Args) -> Result<Vec<PathBuf>> {
    let mut build_args = args.cargo.clone();
    if args.release {
        build_args.push("--release".to_owned());
    }
    if args.universal {
        return universal(&build_args);
    }
    in_root(|| nice_plug_xtask::build(&[PACKAGE.to_owned()], &build_args))?;
    bundle_built(&build_args)
}

/// Builds for both processors of macOS and joins what comes of it.
fn universal(build_args: &[String]) -> Result<Vec<PathBuf>> {
    ensure!(
        cfg!(target_os = "macos") && value(build_args, "--target").is_none(),
        "--universal is for macOS, on macOS, without --target"
    );
    let target_dir = workspace::target_dir()?;
    let mut programs = Vec::new();
    for target in ["x86_64-apple-darwin", "aarch64-apple-darwin"] {
        let args = [build_args, &[format!("--target={target}")]].concat();
        in_root(|| nice_plug_xtask::build(&[PACKAGE.to_owned()], &args))?;
        programs.push(target_dir.join(output_folder(&args)).join(PROGRAM));
    }
    in_root(|| nice_plug_xtask::bundle(&target_dir, PACKAGE, build_args, true))?;
    let program = workspace::bundles_dir()?.join(PROGRAM);
    let mut lipo = std::process::Command::new("lipo");
    lipo.args(["-create", "-output"])
        .arg(&program)
        .args(programs);
    workspace::run(&mut lipo)?;
    bundles()
}

/// Bundles what cargo has built with `build_args`; returns the bundles.
///
/// # Errors
/// If nothing was built, or it holds no plugin.
pub fn bundle_built(build_args: &[String]) -> Result<Vec<PathBuf>> {
    let target_dir = workspace::target_dir()?;
    in_root(|| nice_plug_xtask::bundle(&target_dir, PACKAGE, build_args, false))?;
    let bundles = bundles()?;
    for bundle in &bundles {
        ensure!(
            bundle.exists(),
            "the bundler wrote no {}: does the plugin export it?",
            bundle.display()
        );
    }
    let name = program_name();
    let built = target_dir.join(output_folder(build_args)).join(&name);
    let program = workspace::bundles_dir()?.join(&name);
    if built.is_file() {
        install::replace(&built, &program)
            .context("the program can't be put beside the bundles")?;
    } else {
        // One of an earlier build would do something else.
        let _ = std::fs::remove_file(&program);
        eprintln!("built without the command line: analyses will run inside the host");
    }
    Ok(bundles)
}

/// The program's file name on this system.
fn program_name() -> String {
    format!("{PROGRAM}{}", std::env::consts::EXE_SUFFIX)
}

/// The program beside the bundles, if there is one.
///
/// # Errors
/// If the target folder is unknown.
pub fn program() -> Result<Option<PathBuf>> {
    let program = workspace::bundles_dir()?.join(program_name());
    Ok(program.is_file().then_some(program))
}

/// What `--name value` or `--name=value` says.
pub(crate) fn value(build_args: &[String], name: &str) -> Option<String> {
    let mut args = build_args.iter();
    args.find_map(|arg| match arg.strip_prefix(name)? {
        "" => Some(None),
        rest => Some(Some(rest.strip_prefix('=')?.to_owned())),
    })
    .and_then(|value| value.or_else(|| args.next().cloned()))
}

/// Where cargo puts what it builds with these arguments, inside the target folder.
fn output_folder(build_args: &[String]) -> PathBuf {
    let profile = match value(build_args, "--profile").as_deref() {
        None | Some("dev" | "test") if build_args.iter().any(|a| a == "--release") => {
            "release".to_owned()
        }
        None | Some("dev" | "test") => "debug".to_owned(),
        Some("bench") => "release".to_owned(),
        Some(other) => other.to_owned(),
    };
    value(build_args, "--target")
        .map_or_else(PathBuf::new, PathBuf::from)
        .join(profile)
}

/// Where the bundles are, CLAP first.
///
/// # Errors
/// If the target folder is unknown.
pub fn bundles() -> Result<Vec<PathBuf>> {
    let dir = workspace::bundles_dir()?;
    let name = workspace::BUNDLE_NAME;
    Ok(["clap", "vst3"]
        .map(|format| dir.join(format!("{name}.{format}")))
        .into())
}

/// The bundler reads `bundler.toml` and runs cargo in the working directory.
fn in_root(work: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = std::env::current_dir()?;
    std::env::set_current_dir(workspace::root()?).context("the repository can't be entered")?;
    let result = work();
    std::env::set_current_dir(before)?;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_looked_for_where_cargo_puts_it() {
        let folder = |args: &[&str]| {
            let args: Vec<String> = args.iter().map(|&a| a.to_owned()).collect();
            output_folder(&args)
        };
        assert_eq!(folder(&[]), PathBuf::from("debug"));
        assert_eq!(folder(&["--release"]), PathBuf::from("release"));
        assert_eq!(folder(&["--profile", "fast"]), PathBuf::from("fast"));
        let cross = ["--target=aarch64-apple-darwin", "--release"];
        assert_eq!(
            folder(&cross),
            PathBuf::from("aarch64-apple-darwin/release")
        );
        let cross = ["--target", "x86_64-unknown-linux-gnu"];
        assert_eq!(
            folder(&cross),
            PathBuf::from("x86_64-unknown-linux-gnu/debug")
        );
    }
}
