// [cli] `--manifest`: what is done of a batch, one line of JSON a file, shared by every process that works on it.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use uncook::system::hash::sha256_file;

use crate::files::{self, Plan};

/// What was written by another version is done again.
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Done,
    Failed,
}

/// A line.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    input: String,
    /// `None` if the input can't be read.
    input_sha256: Option<String>,
    /// Hash of everything on the command line, and of the installed models, that changes the result.
    settings_sha256: String,
    version: String,
    status: Status,
    /// The result first; empty if it failed.
    outputs: Vec<Written>,
    error: Option<String>,
    /// Seconds that the work took.
    seconds: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    /// Relative to the manifest's folder where it lies in there.
    path: String,
    sha256: String,
}

/// A manifest that is read, and written to, while other processes do the same.
pub struct Manifest {
    path: PathBuf,
    folder: PathBuf,
    settings_sha256: String,
    state: Mutex<State>,
}

struct State {
    file: File,
    /// Bytes that were read, up to the end of a line.
    read: u64,
    /// The newest line of each result that is done, by its path.
    done: HashMap<String, Record>,
}

impl Manifest {
    /// Opens or begins a manifest for work whose settings hash to `settings_sha256`.
    ///
    /// # Errors
    /// If it can't be read and written, or is something else than a manifest.
    pub fn open(path: &Path, settings_sha256: String) -> Result<Self> {
        let unusable = || {
            format!(
                "{}: this manifest can't be read and written; choose another place",
                path.display()
            )
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(unusable)?;
        }
        let mut options = File::options();
        options.read(true).append(true).create(true);
        let file = options.open(path).with_context(unusable)?;
        let mut state = State {
            file,
            read: 0,
            done: HashMap::new(),
        };
        let (records, others) = state.read_on().with_context(unusable)?;
        // Nothing is ever added to a file that was chosen by mistake. A single line that can't be read may be
        // one whose process was killed.
        if records == 0 && others > 1 || !state.begins_as_a_manifest().with_context(unusable)? {
            bail!(
                "{}: this file is not a manifest; choose another name",
                path.display()
            );
        }
        let place = files::place(path);
        Ok(Self {
            path: path.to_owned(),
            folder: place.parent().map_or_else(PathBuf::new, Path::to_owned),
            settings_sha256,
            state: Mutex::new(state),
        })
    }

    /// Whether everything of `plan` was written from an input of this hash, with these settings, and is still
    /// there as it was written. Sees what other processes have done meanwhile.
    ///
    /// # Errors
    /// If the manifest can't be read.
    pub fn is_done(&self, plan: &Plan, input_sha256: &str) -> Result<bool> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .read_on()
            .with_context(|| format!("{}: can't be read any more", self.path.display()))?;
        let Some(record) = state.done.get(&self.name(&plan.output)?) else {
            return Ok(false);
        };
        let mut wanted = plan
            .files()
            .map(|file| self.name(file))
            .collect::<Result<Vec<String>>>()?
            .into_iter();
        let stems = plan.stems.as_deref().map(|folder| self.name(folder));
        let stems = stems.transpose()?;
        Ok(record.input_sha256.as_deref() == Some(input_sha256)
            && record.settings_sha256 == self.settings_sha256
            && record.version == VERSION
            && wanted.all(|file| record.outputs.iter().any(|o| o.path == file))
            && stems.is_none_or(|folder| {
                let mut outputs = record.outputs.iter();
                outputs.any(|o| Path::new(&o.path).starts_with(&folder))
            })
            && record.outputs.iter().all(|output| {
                let hash = sha256_file(&self.folder.join(&output.path), &|_| true);
                hash.is_ok_and(|hash| hash.as_ref() == Some(&output.sha256))
            }))
    }

    /// Records that `files`, the result first, were made of an input.
    ///
    /// # Errors
    /// If they can't be read, or the manifest can't be written.
    pub fn add_done(
        &self,
        input: &Path,
        input_sha256: &str,
        files: &[PathBuf],
        took: Duration,
    ) -> Result<()> {
        let outputs = files
            .iter()
            .map(|file| {
                let sha256 = sha256_file(file, &|_| true)
                    .with_context(|| format!("{}: can't be read back", file.display()))?;
                Ok(Written {
                    path: self.name(file)?,
                    sha256: sha256.unwrap_or_default(),
                })
            })
            .collect::<Result<_>>()?;
        self.add(&Record {
            input: input.display().to_string(),
            input_sha256: Some(input_sha256.to_owned()),
            settings_sha256: self.settings_sha256.clone(),
            version: VERSION.to_owned(),
            status: Status::Done,
            outputs,
            error: None,
            seconds: took.as_secs_f64(),
        })
    }

    /// Records that an input failed.
    ///
    /// # Errors
    /// If the manifest can't be written.
    pub fn add_failed(&self, input: &Path, error: &anyhow::Error, took: Duration) -> Result<()> {
        self.add(&Record {
            input: input.display().to_string(),
            input_sha256: sha256_file(input, &|_| true).ok().flatten(),
            settings_sha256: self.settings_sha256.clone(),
            version: VERSION.to_owned(),
            status: Status::Failed,
            outputs: Vec::new(),
            error: Some(format!("{error:#}")),
            seconds: took.as_secs_f64(),
        })
    }

    fn add(&self, record: &Record) -> Result<()> {
        let line = serde_json::to_string(record)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.append(&line).with_context(|| {
            format!(
                "{}: can't be written, so this file will be done again; free some space",
                self.path.display()
            )
        })
    }

    /// How a file is called in the manifest: the same from every working directory, and on every machine that
    /// sees manifest and results in one folder.
    fn name(&self, file: &Path) -> Result<String> {
        let place = files::place(file);
        let inside = place.strip_prefix(&self.folder).unwrap_or(&place);
        let name = inside.to_str().with_context(|| {
            format!(
                "{}: a manifest can't hold this name; rename it",
                file.display()
            )
        })?;
        Ok(if cfg!(windows) && inside.is_relative() {
            name.replace('\\', "/")
        } else {
            name.to_owned()
        })
    }
}

impl State {
    /// Reads the lines that were added since the last time; returns how many are records, and how many are not.
    fn read_on(&mut self) -> io::Result<(usize, usize)> {
        let from = self.read;
        let bytes = locked(&self.file, File::lock_shared, |mut file| {
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(from))?;
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        })?;
        // What stands behind the last line's end belongs to a process that was killed, or isn't a manifest.
        let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |n| n + 1);
        self.read += whole as u64;
        let (mut records, mut others) = (0, 0);
        for line in bytes[..whole].split(|&b| b == b'\n') {
            match serde_json::from_slice::<Record>(line) {
                Ok(record) => {
                    records += 1;
                    if let (Status::Done, Some(first)) = (record.status, record.outputs.first()) {
                        self.done.insert(first.path.clone(), record);
                    }
                }
                Err(_) if line.is_empty() => {}
                Err(_) => others += 1,
            }
        }
        Ok((records, others))
    }

    /// Whether the file is empty or starts as a record does.
    fn begins_as_a_manifest(&self) -> io::Result<bool> {
        // Under Windows nobody reads what somebody else has locked.
        locked(&self.file, File::lock_shared, |mut file| {
            let mut first = [0u8; 2];
            file.seek(SeekFrom::Start(0))?;
            let len = file.read(&mut first)?;
            Ok(b"{\"".starts_with(&first[..len]))
        })
    }

    /// Appends one line, by one write under a lock: lines of several processes never mix.
    fn append(&mut self, line: &str) -> io::Result<()> {
        locked(&self.file, File::lock, |mut file| {
            let mut bytes = Vec::with_capacity(line.len() + 2);
            if file.seek(SeekFrom::End(0))? > 0 {
                let mut last = [0u8];
                file.seek(SeekFrom::End(-1))?;
                file.read_exact(&mut last)?;
                // Behind half a line of a process that was killed.
                if last != *b"\n" {
                    bytes.push(b'\n');
                }
            }
            bytes.extend_from_slice(line.as_bytes());
            bytes.push(b'\n');
            file.write_all(&bytes)
        })
    }
}

/// Works on `file` while it is locked. Where the file system knows no locks, a line is still one write.
fn locked<T>(
    file: &File,
    lock: impl FnOnce(&File) -> io::Result<()>,
    work: impl FnOnce(&File) -> io::Result<T>,
) -> io::Result<T> {
    match lock(file) {
        Err(error) if error.kind() != io::ErrorKind::Unsupported => return Err(error),
        _ => {}
    }
    let done = work(file);
    let _ = file.unlock();
    done
}
