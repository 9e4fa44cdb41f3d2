// [cli] `uncook worker`: the process in which the plugin's analyses run.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use uncook::worker::{
    pipeline,
    process::{self, Place},
    road::{InProcess, Road},
};

#[derive(Args)]
pub struct WorkerArgs {
    /// The folder of the socket: this user's alone
    #[arg(long)]
    folder: PathBuf,
    /// The name of the socket, without its ending
    #[arg(long)]
    name: String,
    /// Milliseconds without a job after which it ends
    #[arg(long, value_name = "MS")]
    idle_ms: u64,
    /// Memory that it may hold; what asks for more ends the process
    #[arg(long, value_name = "MB")]
    memory_mb: Option<u64>,
}

/// Serves until nobody has asked for anything for a while.
///
/// # Errors
/// If the folder or the socket can't be used.
pub fn run(args: &WorkerArgs) -> Result<bool> {
    process::close_inherited();
    if let Some(megabytes) = args.memory_mb {
        process::limit_memory(megabytes << 20).context("the memory can't be limited")?;
    }
    let place = Place::new(args.folder.clone(), &args.name);
    let road: Arc<dyn Road> = Arc::new(InProcess::new(pipeline::song));
    let idle = Duration::from_millis(args.idle_ms);
    process::serve(&place, idle, &road).map_err(|reason| anyhow!(reason))?;
    Ok(true)
}
