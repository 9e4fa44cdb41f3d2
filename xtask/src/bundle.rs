// [cli] `cargo xtask bundle`: the CLAP and VST3 bundles in target/bundled, through nice-plug's bundler.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// The package that holds the plugin.
const PACKAGE: &str = "uncook";

/// Builds the plugin and bundles it.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Args {
    /// With optimisation; without it the dev profile, which is fast enough to play.
    #[arg(long)]
    pub release: bool,
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
    in_root(|| nice_plug_xtask::build(&[PACKAGE.to_owned()], &build_args))?;
    bundle_built(&build_args)
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
    Ok(bundles)
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
