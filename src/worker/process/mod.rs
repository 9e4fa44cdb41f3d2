// [worker] The engine's heavy work in a process of its own, shared by all hosts of the user.
//!
//! `uncook worker` is started by the first host that needs it and ends when nobody has needed it for a while.
//! It listens on a socket (under Windows: a named pipe) in a folder that only its user can enter. A job is one connection: an order, progress
//! both ways, an answer; audio lies in files in the job's folder. Whatever happens to that process, the host
//! plays on: the job is given to another one, or done in the host.

mod client;
pub mod folder;
pub mod message;
mod server;
mod system;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Deserialize;

pub use client::Remote;
pub use server::serve;
pub use system::{Listener, Stream, accept, close_inherited, limit_memory, listen};

use crate::{
    system::{memory_bytes, own_file},
    worker::{
        pipeline,
        road::{InProcess, Road},
    },
};

/// Environment variable that names the program, or says `off`.
pub const BINARY_VARIABLE: &str = "UNCOOK_WORKER";
/// Settings of the worker process, in the user's folder for what Uncook keeps.
pub const SETTINGS_FILE: &str = "worker.json";
/// The program's name, beside the bundle or in it.
const PROGRAM: &str = "uncook";
/// Time without a job after which the process ends.
const IDLE: Duration = Duration::from_secs(60);
/// Longest word of a worker that isn't said: it speaks five times a second.
const SILENCE: Duration = Duration::from_secs(30);
const START_PATIENCE: Duration = Duration::from_secs(20);
/// Bytes that a job holds per sample of the take, and besides: see [`needed_memory`].
const BYTES_PER_SAMPLE: u64 = 64;
const BYTES_BESIDES: u64 = 300 << 20;

/// Where a worker process listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    folder: PathBuf,
    name: String,
}

impl Place {
    /// Socket, lock and log are called `name` in `folder`.
    pub fn new(folder: PathBuf, name: &str) -> Self {
        let name = name.to_owned();
        Self { folder, name }
    }

    /// The user's, for what Uncook keeps in `data`: hosts that keep it elsewhere have another worker.
    pub fn of_user(data: &Path) -> Self {
        let key = crate::cache::KeyBuilder::new("worker", 1)
            .bytes(data.as_os_str().as_encoded_bytes())
            .finish();
        let name = format!("worker-{}", &key.as_str()[..12]);
        Self::new(system::default_folder(), &name)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The socket; under Windows a file that says what the named pipe is called.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(format!("{}.sock", self.name))
    }

    /// Locked by the process that serves.
    pub fn lock(&self) -> PathBuf {
        self.folder.join(format!("{}.lock", self.name))
    }

    /// Holds the number of the process that serves. Not the lock: under Windows nobody else reads what is locked.
    pub fn number(&self) -> PathBuf {
        self.folder.join(format!("{}.pid", self.name))
    }

    /// What went wrong in it.
    pub fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }
}

/// How a host deals with the worker process.
#[derive(Clone, Debug)]
pub struct Settings {
    pub place: Place,
    /// Time without a job after which it ends.
    pub idle: Duration,
    /// What it may hold; `None`: whatever the system gives.
    pub memory_bytes: Option<u64>,
    /// How long it may need to start.
    pub start_patience: Duration,
    /// A worker that says nothing for this long hangs.
    pub silence: Duration,
    /// A worker whose job shows no sign of work for this long hangs.
    pub hung: Duration,
}

impl Settings {
    /// With half of the machine's memory.
    pub fn new(place: Place) -> Self {
        Self {
            place,
            idle: IDLE,
            memory_bytes: memory_bytes().map(|all| all / 2),
            start_patience: START_PATIENCE,
            silence: SILENCE,
            hung: server::PATIENCE_WITH_WORK,
        }
    }
}

/// [`SETTINGS_FILE`].
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Stored {
    /// Whether analyses run in a process of their own; yes, if nothing is said.
    enabled: Option<bool>,
    /// The program, where it is not beside the plugin.
    binary: Option<PathBuf>,
    /// What it may hold; half of the machine's memory, if nothing is said.
    memory_mb: Option<u64>,
    /// Seconds without a job after which it ends.
    idle_seconds: Option<u64>,
}

impl Stored {
    fn read(data: &Path) -> Result<Self, String> {
        let path = data.join(SETTINGS_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(format!("{}: {e}", path.display())),
        };
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
    }
}

/// The road of a host that keeps its things in `data`: through a worker process where its program is found,
/// else in this process.
pub fn road(data: &Path) -> Arc<dyn Road> {
    match remote(data) {
        Ok(remote) => Arc::new(remote),
        Err(reason) => Arc::new(InProcess {
            run: pipeline::song,
            status: format!("Analyses run inside the host: {reason}.").into(),
        }),
    }
}

fn remote(data: &Path) -> Result<Remote, String> {
    let stored = Stored::read(data)?;
    let variable = std::env::var_os(BINARY_VARIABLE);
    if stored.enabled == Some(false) || variable.as_deref() == Some("off".as_ref()) {
        return Err("a process of their own was switched off".to_owned());
    }
    let named = variable.map(PathBuf::from).or(stored.binary);
    let binary = match named {
        Some(path) if path.is_file() => path,
        Some(path) => return Err(format!("there is no {}", path.display())),
        None => beside(&own_file().ok_or("the plugin's place is unknown")?).ok_or(format!(
            "the program `{PROGRAM}` is not beside the plugin; install both together, or name it in {}",
            data.join(SETTINGS_FILE).display()
        ))?,
    };
    let mut settings = Settings::new(Place::of_user(data));
    if let Some(megabytes) = stored.memory_mb {
        settings.memory_bytes = Some(megabytes << 20);
    }
    if let Some(seconds) = stored.idle_seconds {
        settings.idle = Duration::from_secs(seconds);
    }
    Ok(Remote::new(settings, binary))
}

/// The program's file.
fn program_file() -> String {
    format!("{PROGRAM}{}", std::env::consts::EXE_SUFFIX)
}

/// The program beside the library `own`: in its folder, or beside the bundle that holds it.
fn beside(own: &Path) -> Option<PathBuf> {
    let in_bundle = |folder: &&Path| {
        let extension = folder.extension().and_then(|e| e.to_str());
        matches!(extension, Some("vst3" | "clap"))
    };
    let bundle = own.ancestors().find(in_bundle);
    let folders = [own.parent(), bundle.and_then(Path::parent)];
    let mut programs = folders
        .into_iter()
        .flatten()
        .map(|f| f.join(program_file()));
    programs.find(|program| program.is_file())
}

/// Bytes that the road holds at most for a piece of a take, models aside, as measured: the piece, its repair, stems,
/// layers and spectra.
pub fn needed_memory(channels: usize, frames: usize) -> u64 {
    (channels as u64 * frames as u64).saturating_mul(BYTES_PER_SAMPLE) + BYTES_BESIDES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_in_the_bundle_or_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let binaries = folder.path().join("Uncook.vst3/Contents/x86_64-linux");
        std::fs::create_dir_all(&binaries).unwrap();
        let library = binaries.join("Uncook.so");
        assert_eq!(beside(&library), None);
        let outside = folder.path().join(program_file());
        std::fs::write(&outside, "").unwrap();
        assert_eq!(beside(&library), Some(outside.clone()));
        assert_eq!(beside(&folder.path().join("Uncook.clap")), Some(outside));
        let inside = binaries.join(program_file());
        std::fs::write(&inside, "").unwrap();
        assert_eq!(beside(&library), Some(inside));
        // A folder that happens to lie above is none of ours.
        assert_eq!(beside(&folder.path().join("a/b/Uncook.so")), None);
    }

    #[test]
    fn settings_that_mean_nothing_are_said() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Stored::read(folder.path()).is_ok());
        let path = folder.path().join(SETTINGS_FILE);
        std::fs::write(&path, r#"{"memory_mb": 2000, "idle_seconds": 5}"#).unwrap();
        assert_eq!(Stored::read(folder.path()).unwrap().memory_mb, Some(2000));
        std::fs::write(&path, r#"{"memory": 2000}"#).unwrap();
        let said = road(folder.path()).status();
        assert!(
            said.contains("worker.json") && said.contains("inside the host"),
            "{said}"
        );
    }

    #[test]
    fn this_code_knows_its_file() {
        let own = own_file().unwrap().canonicalize().unwrap();
        assert_eq!(
            own,
            std::env::current_exe().unwrap().canonicalize().unwrap()
        );
    }
}
