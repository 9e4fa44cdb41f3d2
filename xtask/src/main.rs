// [cli] `cargo xtask`: picks the task.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Tasks of the Uncook repository"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Bundle(xtask::bundle::Args),
    Demo(xtask::demo::Args),
    Hosts(xtask::hosts::Args),
    Quality(xtask::quality::Args),
    Rebuild(xtask::rebuild::Args),
    Release(xtask::release::Args),
    Render(Box<xtask::render::Args>),
    /// Checks the house rules that no compiler checks.
    Tidy,
    Test(xtask::test::Args),
    Install(xtask::install::Args),
    Licences(xtask::licences::Args),
    Listen(xtask::listen::Args),
    Load(xtask::load::Args),
    Soak(xtask::soak::Args),
    /// Opens the real window, uses it with the mouse, writes pictures of it.
    #[cfg(target_os = "linux")]
    Screenshots(xtask::screenshots::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Bundle(args) => xtask::bundle::run(&args).map(|bundles| {
            for bundle in bundles {
                println!("{}", bundle.display());
            }
        }),
        Task::Demo(args) => xtask::demo::run(&args),
        Task::Hosts(args) => xtask::hosts::run(&args),
        Task::Quality(args) => xtask::quality::run(&args),
        Task::Rebuild(args) => xtask::rebuild::run(&args),
        Task::Release(args) => xtask::release::run(&args),
        Task::Render(args) => xtask::render::run(&args),
        Task::Tidy => xtask::tidy::run(),
        Task::Test(args) => xtask::test::run(&args),
        Task::Install(args) => xtask::install::run(&args),
        Task::Licences(args) => xtask::licences::run(&args),
        Task::Listen(args) => xtask::listen::run(&args),
        Task::Load(args) => xtask::load::run(&args),
        Task::Soak(args) => xtask::soak::run(&args),
        #[cfg(target_os = "linux")]
        Task::Screenshots(args) => xtask::screenshots::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Causes in one line; no backtrace, whatever the environment says.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
