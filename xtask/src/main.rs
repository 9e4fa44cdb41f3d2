// [cli] `cargo xtask`: picks the task.

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
    Render(xtask::render::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Render(args) => xtask::render::run(&args),
    }
}
