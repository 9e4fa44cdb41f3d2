// [cli] `cargo xtask test`: every test, those of the bundled plugin included.

use anyhow::Result;

use crate::{bundle, packages, workspace};

/// Builds everything once, bundles the plugin (dev profile), runs all tests.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Bundle a plugin that aborts when `process` allocates, and run the tests against that one.
    #[arg(long)]
    pub assert_allocs: bool,
    /// Further arguments for `cargo test`, like a test's name.
    #[arg(last = true)]
    pub cargo: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// If a package is missing, a build or a test fails.
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
        })?;
    } else {
        bundle::bundle_built(&[])?;
    }
    workspace::run(
        workspace::cargo()?
            .args(["test", "--workspace"])
            .args(&args.cargo),
    )
}
