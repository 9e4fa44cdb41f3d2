// [worker] The folder of installed models: what is there, whether it is whole, and how it gets there and goes.
//!
//! ```text
//! <library>/<model>.json          receipt: where the files are, their hashes, what those were compared with
//! <library>/<model>/<file>        the files, unless another folder was chosen
//! <library>/<model>/cache/        what is made of them, so that they open at once (see `convert`)
//! <library>/accepted.json         which terms the user accepted, by hash of their words
//! ```

use std::{
    collections::BTreeMap,
    fs, io,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    convert,
    fetch::{Checked, Downloader, FetchError, Request, Token},
    hash,
    manifest::{Manifest, ManifestError, Model, ModelFile},
};
use crate::system::{aside, replace, write_aside};

/// Environment variable that moves everything that Uncook keeps.
pub const DATA_DIR_VARIABLE: &str = "UNCOOK_DATA_DIR";
/// Bytes copied at once.
const CHUNK: usize = 1 << 20;

/// Why something in the library failed, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("no model is called {name}; `uncook models list` prints the names")]
    Unknown { name: String },
    #[error("{name} is not installed; `uncook models fetch {name}` fetches it")]
    NotInstalled { name: String },
    #[error("{name} comes under terms that you have to accept first: {licence} ({page})")]
    NotAccepted {
        name: String,
        licence: String,
        page: String,
    },
    #[error("{folder} holds no known model; the file names must be those that `uncook models list --files` prints", folder = folder.display())]
    NothingToAdd { folder: PathBuf },
    #[error("{folder} could be {}; say which with --name", candidates.join(" or "), folder = folder.display())]
    Ambiguous {
        folder: PathBuf,
        candidates: Vec<String>,
    },
    #[error("{path} is not {model}'s file: {what}; download it again from the model's page", path = path.display())]
    WrongFile {
        path: PathBuf,
        model: String,
        what: String,
    },
    #[error("the disk of {path} is full; free some space or choose another folder", path = path.display())]
    DiskFull { path: PathBuf },
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("stopped")]
    Cancelled,
    #[error("this system names no folder for data; set {DATA_DIR_VARIABLE}")]
    NoFolder,
}

/// One file of a receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledFile {
    pub file: String,
    pub sha256: String,
    pub bytes: u64,
    /// What the hash was compared with when the file came.
    pub checked: Checked,
}

/// What is written down when a model is installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub name: String,
    /// Where the files are; `None` is the library's own folder.
    pub folder: Option<PathBuf>,
    pub files: Vec<InstalledFile>,
}

/// Progress of a long step: the file, bytes that are done, bytes in all if known. Returns false to stop.
pub type Watch<'a> = dyn Fn(&str, u64, Option<u64>) -> bool + 'a;

/// The library.
#[derive(Clone, Debug)]
pub struct Library {
    folder: PathBuf,
    manifest: Manifest,
}

impl Library {
    /// The user's library with the models that Uncook knows: below `UNCOOK_DATA_DIR`, else the system's
    /// folder for data. Nothing is created before something is installed.
    ///
    /// # Errors
    /// If the system names no such folder.
    pub fn open() -> Result<Self, LibraryError> {
        let data = match std::env::var_os(DATA_DIR_VARIABLE).filter(|dir| !dir.is_empty()) {
            Some(dir) => PathBuf::from(dir),
            None => directories::ProjectDirs::from("org", "Uncook", "Uncook")
                .ok_or(LibraryError::NoFolder)?
                .data_dir()
                .to_owned(),
        };
        Ok(Self::at(data.join("models"), Manifest::embedded()?))
    }

    /// A library in `folder` of the models that `manifest` lists.
    pub fn at(folder: PathBuf, manifest: Manifest) -> Self {
        Self { folder, manifest }
    }

    /// The models that are known.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where the library is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn model(&self, name: &str) -> Result<&Model, LibraryError> {
        self.manifest
            .get(name)
            .ok_or_else(|| LibraryError::Unknown {
                name: name.to_owned(),
            })
    }

    fn receipt_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    /// The receipt of an installed model.
    pub fn receipt(&self, name: &str) -> Option<Receipt> {
        self.manifest.get(name)?;
        read_json::<Receipt>(&self.receipt_path(name)).filter(|receipt| receipt.name == name)
    }

    fn files_folder(&self, receipt: &Receipt) -> PathBuf {
        receipt
            .folder
            .clone()
            .unwrap_or_else(|| self.folder.join(&receipt.name))
    }

    /// The files of an installed model in the manifest's order, or `None` if it is not installed, or a file
    /// of it is missing or has another length than when it came. Reads no file.
    pub fn find(&self, name: &str) -> Option<Vec<PathBuf>> {
        let model = self.manifest.get(name)?;
        let receipt = self.receipt(name)?;
        let folder = self.files_folder(&receipt);
        model
            .files
            .iter()
            .map(|file| {
                let installed = receipt.files.iter().find(|f| f.file == file.file)?;
                let path = folder.join(&installed.file);
                let metadata = fs::metadata(&path).ok()?;
                (metadata.is_file() && metadata.len() == installed.bytes).then_some(path)
            })
            .collect()
    }

    /// The installed models, in the manifest's order.
    pub fn installed(&self) -> Vec<&Model> {
        self.manifest
            .models
            .iter()
            .filter(|model| self.find(&model.name).is_some())
            .collect()
    }

    /// Where what is made of an installed model is kept, so that it opens at once: see [`convert`]. It is on the disk
    /// that was chosen for the model.
    pub fn copies_folder(&self, name: &str) -> Option<PathBuf> {
        Some(copies_in(&self.files_folder(&self.receipt(name)?)))
    }

    /// Whether the terms of a model were accepted, in their present words, or none have to be.
    pub fn is_accepted(&self, name: &str) -> bool {
        let Some(model) = self.manifest.get(name) else {
            return false;
        };
        !model.ask || self.accepted().get(name) == Some(&terms(model))
    }

    fn accepted(&self) -> BTreeMap<String, String> {
        read_json(&self.folder.join("accepted.json")).unwrap_or_default()
    }

    /// Records that the user accepted a model's terms.
    ///
    /// # Errors
    /// If the model is unknown or the record can't be written.
    pub fn accept(&self, name: &str) -> Result<(), LibraryError> {
        let model = self.model(name)?;
        let mut accepted = self.accepted();
        accepted.insert(name.to_owned(), terms(model));
        self.write_json(&self.folder.join("accepted.json"), &accepted)
    }

    fn check_accepted(&self, model: &Model) -> Result<(), LibraryError> {
        if self.is_accepted(&model.name) {
            return Ok(());
        }
        Err(LibraryError::NotAccepted {
            name: model.name.clone(),
            licence: model.licence.clone(),
            page: model.page.clone(),
        })
    }

    /// Fetches what is missing of a model, into `to/<model>` if a folder is given (another disk, say). Files
    /// that are there and whole are kept. Stopped or interrupted, a later call goes on where this ended.
    ///
    /// # Errors
    /// If the terms were not accepted, a download fails, or the disk is full.
    pub fn fetch(
        &self,
        name: &str,
        to: Option<&Path>,
        token: Option<&Token>,
        downloader: &Downloader,
        watch: &Watch<'_>,
    ) -> Result<Receipt, LibraryError> {
        let model = self.model(name)?;
        self.check_accepted(model)?;
        let chosen = to.map(|to| absolute(&to.join(name))).transpose()?;
        let old = self.receipt(name);
        let chosen = chosen.or_else(|| old.as_ref().and_then(|receipt| receipt.folder.clone()));
        let folder = chosen.clone().unwrap_or_else(|| self.folder.join(name));
        fs::create_dir_all(&folder).map_err(failed(&folder))?;
        let mut files: Vec<InstalledFile> = Vec::new();
        for file in &model.files {
            let path = folder.join(&file.file);
            if let Some(kept) = keep(&path, file, old.as_ref(), watch)? {
                files.push(kept);
                continue;
            }
            let request = Request {
                url: &file.url,
                hash: file.known_hash(),
                bytes: file.bytes,
                token: token.filter(|_| model.gated),
            };
            let fetched =
                downloader.fetch(&request, &path, &|done, all| watch(&file.file, done, all))?;
            files.push(InstalledFile {
                file: file.file.clone(),
                sha256: fetched.sha256,
                bytes: fetched.bytes,
                checked: fetched.checked,
            });
        }
        self.install(Receipt {
            name: name.to_owned(),
            folder: chosen,
            files,
        })
    }

    /// Installs a model from a folder with its files, which are copied. Which model it is follows from the
    /// file names, their lengths and hashes, and the folder's name, unless `name` says it.
    ///
    /// # Errors
    /// If no or more than one model fits, a file is wrong, the terms were not accepted, or the disk is full.
    pub fn add(
        &self,
        from: &Path,
        name: Option<&str>,
        watch: &Watch<'_>,
    ) -> Result<Receipt, LibraryError> {
        let model = match name {
            Some(name) => self.model(name)?,
            None => self.recognise(from)?,
        };
        self.check_accepted(model)?;
        let folder = self.folder.join(&model.name);
        fs::create_dir_all(&folder).map_err(failed(&folder))?;
        let mut files = Vec::new();
        for file in &model.files {
            let source = from.join(&file.file);
            let target = folder.join(&file.file);
            files.push(copy_checked(&source, &target, model, file, watch)?);
        }
        self.install(Receipt {
            name: model.name.clone(),
            folder: None,
            files,
        })
    }

    /// The one model whose files lie in `folder`.
    pub fn recognise(&self, folder: &Path) -> Result<&Model, LibraryError> {
        let fits = |model: &&Model| {
            model.files.iter().all(|file| {
                fs::metadata(folder.join(&file.file)).is_ok_and(|metadata| {
                    metadata.is_file() && file.bytes.is_none_or(|bytes| bytes == metadata.len())
                })
            })
        };
        let mut candidates: Vec<&Model> = self.manifest.models.iter().filter(fits).collect();
        if candidates.len() > 1 {
            let called = folder.file_name().unwrap_or_default().to_string_lossy();
            let named: Vec<&Model> = candidates
                .iter()
                .copied()
                .filter(|model| called == model.name)
                .collect();
            if !named.is_empty() {
                candidates = named;
            }
        }
        match candidates.as_slice() {
            [model] => Ok(model),
            [] => Err(LibraryError::NothingToAdd {
                folder: folder.to_owned(),
            }),
            several => Err(LibraryError::Ambiguous {
                folder: folder.to_owned(),
                candidates: several.iter().map(|model| model.name.clone()).collect(),
            }),
        }
    }

    fn install(&self, receipt: Receipt) -> Result<Receipt, LibraryError> {
        let old = self.receipt(&receipt.name);
        self.write_json(&self.receipt_path(&receipt.name), &receipt)?;
        if let Some(old) = old {
            let is_there = |sum: &str| receipt.files.iter().any(|file| file.sha256 == sum);
            self.forget_copies(&old, |sum| !is_there(sum))?;
        }
        Ok(receipt)
    }

    /// Removes what was made of those files of a model whose hash `gone` picks. Returns the bytes that this frees.
    fn forget_copies(
        &self,
        receipt: &Receipt,
        gone: impl Fn(&str) -> bool,
    ) -> Result<u64, LibraryError> {
        let sums = receipt.files.iter().map(|file| file.sha256.as_str());
        let folder = copies_in(&self.files_folder(receipt));
        let freed = convert::forget(&folder, &sums.filter(|sum| gone(sum)).collect());
        // Only if nothing else is in it.
        let _ = fs::remove_dir(&folder);
        freed.map_err(failed(&folder))
    }

    /// Reads every file of an installed model and compares its hash with the receipt and the manifest.
    ///
    /// # Errors
    /// If the model is not installed or a file is missing, changed or unreadable.
    pub fn verify(&self, name: &str, watch: &Watch<'_>) -> Result<(), LibraryError> {
        let model = self.model(name)?;
        let receipt = self
            .receipt(name)
            .ok_or_else(|| LibraryError::NotInstalled {
                name: name.to_owned(),
            })?;
        let folder = self.files_folder(&receipt);
        for file in &model.files {
            let path = folder.join(&file.file);
            let wrong = |what: String| LibraryError::WrongFile {
                path: path.clone(),
                model: name.to_owned(),
                what,
            };
            let Some(installed) = receipt.files.iter().find(|f| f.file == file.file) else {
                return Err(wrong("it was never installed".into()));
            };
            let sum = sum(&path, &file.file, watch)?;
            if sum != installed.sha256 || !sum.starts_with(file.known_hash()) {
                return Err(wrong(format!(
                    "its SHA-256 is {sum}, expected {}",
                    installed.sha256
                )));
            }
        }
        Ok(())
    }

    /// Removes an installed model: its files, converted copies and receipt. Accepted terms stay accepted.
    /// Returns the bytes that this frees.
    ///
    /// # Errors
    /// If the model is not installed or a file can't be removed.
    pub fn remove(&self, name: &str) -> Result<u64, LibraryError> {
        self.model(name)?;
        let receipt = self
            .receipt(name)
            .ok_or_else(|| LibraryError::NotInstalled {
                name: name.to_owned(),
            })?;
        let folder = self.files_folder(&receipt);
        let known = self.manifest.get(name).map(|model| model.files.as_slice());
        let mut freed = 0;
        for file in known.unwrap_or_default() {
            for path in [
                folder.join(&file.file),
                folder.join(format!("{}.part", file.file)),
                folder.join(format!("{}.part.json", file.file)),
            ] {
                freed += remove_file(&path)?;
            }
        }
        freed += self.forget_copies(&receipt, |_| true)?;
        // Only an empty folder goes: what else lies there is not ours.
        let _ = fs::remove_dir(&folder);
        remove_file(&self.receipt_path(name))?;
        Ok(freed)
    }

    fn write_json<T: Serialize>(&self, path: &Path, value: &T) -> Result<(), LibraryError> {
        fs::create_dir_all(&self.folder).map_err(failed(&self.folder))?;
        let text = serde_json::to_vec_pretty(value)
            .map_err(io::Error::from)
            .map_err(failed(path))?;
        write_aside(path, &[&text], true).map_err(failed(path))
    }
}

/// Where copies are kept, below the folder of a model's files.
fn copies_in(files: &Path) -> PathBuf {
    files.join("cache")
}

/// The words that were accepted, by their hash.
fn terms(model: &Model) -> String {
    hash::sha256(format!("{}\n{}", model.licence, model.page).as_bytes())
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn failed(path: &Path) -> impl Fn(io::Error) -> LibraryError + '_ {
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => LibraryError::DiskFull {
            path: path.to_owned(),
        },
        _ => LibraryError::Io {
            path: path.to_owned(),
            source,
        },
    }
}

fn absolute(path: &Path) -> Result<PathBuf, LibraryError> {
    std::path::absolute(path).map_err(failed(path))
}

fn remove_file(path: &Path) -> Result<u64, LibraryError> {
    let bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
    match fs::remove_file(path) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(failed(path)(error)),
    }
}

fn sum(path: &Path, name: &str, watch: &Watch<'_>) -> Result<String, LibraryError> {
    let bytes = fs::metadata(path).map_err(failed(path))?.len();
    hash::sha256_file(path, &|done| watch(name, done, Some(bytes)))
        .map_err(failed(path))?
        .ok_or(LibraryError::Cancelled)
}

/// A file that is there already, if it is the right one.
fn keep(
    path: &Path,
    file: &ModelFile,
    receipt: Option<&Receipt>,
    watch: &Watch<'_>,
) -> Result<Option<InstalledFile>, LibraryError> {
    let Ok(metadata) = fs::metadata(path) else {
        return Ok(None);
    };
    let written = receipt.and_then(|r| r.files.iter().find(|f| f.file == file.file));
    let known = file.known_hash();
    if file.bytes.is_some_and(|bytes| bytes != metadata.len())
        || (known.is_empty() && written.is_none())
    {
        return Ok(None);
    }
    let sha256 = sum(path, &file.file, watch)?;
    if !sha256.starts_with(known) || written.is_some_and(|f| f.sha256 != sha256) {
        return Ok(None);
    }
    let checked = match (known.len(), written) {
        (64, _) => Checked::Full,
        (1.., _) => Checked::Prefix,
        (0, Some(written)) => written.checked,
        (0, None) => Checked::FirstSeen,
    };
    Ok(Some(InstalledFile {
        file: file.file.clone(),
        sha256,
        bytes: metadata.len(),
        checked,
    }))
}

/// Copies a file aside, compares its hash, and gives it its name.
fn copy_checked(
    source: &Path,
    target: &Path,
    model: &Model,
    file: &ModelFile,
    watch: &Watch<'_>,
) -> Result<InstalledFile, LibraryError> {
    let wrong = |what: String| LibraryError::WrongFile {
        path: source.to_owned(),
        model: model.name.clone(),
        what,
    };
    let mut from = fs::File::open(source).map_err(failed(source))?;
    let bytes = from.metadata().map_err(failed(source))?.len();
    if let Some(expected) = file.bytes
        && expected != bytes
    {
        return Err(wrong(format!("it has {bytes} bytes, {expected} expected")));
    }
    let aside = aside(target);
    let result = (|| {
        let mut to = fs::File::create(&aside).map_err(failed(target))?;
        let mut buffer = vec![0u8; CHUNK];
        let mut done = 0;
        loop {
            let len = from.read(&mut buffer).map_err(failed(source))?;
            if len == 0 {
                break;
            }
            to.write_all(&buffer[..len]).map_err(failed(target))?;
            done += len as u64;
            if !watch(&file.file, done, Some(bytes)) {
                return Err(LibraryError::Cancelled);
            }
        }
        to.sync_all().map_err(failed(target))?;
        drop(to);
        // Of the copy, so that a disk that writes something else is noticed too.
        let sha256 = sum(&aside, &file.file, watch)?;
        let known = file.known_hash();
        if !sha256.starts_with(known) {
            return Err(wrong(format!("its SHA-256 is {sha256}, expected {known}")));
        }
        replace(&aside, target).map_err(failed(target))?;
        Ok(InstalledFile {
            file: file.file.clone(),
            sha256,
            bytes: done,
            checked: match known.len() {
                64 => Checked::Full,
                0 => Checked::FirstSeen,
                _ => Checked::Prefix,
            },
        })
    })();
    if result.is_err() {
        let _ = fs::remove_file(&aside);
    }
    result
}
