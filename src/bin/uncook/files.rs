// [cli] Which input becomes which output: decided, and checked, before any work begins.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::RestoreArgs;

/// One input and everything that is written for it.
pub struct Plan {
    pub input: PathBuf,
    pub output: PathBuf,
    pub report: Option<PathBuf>,
    pub midi: Option<PathBuf>,
    /// Folder of this input's stems.
    pub stems: Option<PathBuf>,
}

impl Plan {
    /// Every file that is written, the result first, but the stems, whose number is known when they are made.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.output), self.report.as_ref(), self.midi.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
    }
}

/// A recording.
struct Source {
    path: PathBuf,
    /// What everything that is made of it is called, without an extension: below an input folder with the folders
    /// between.
    name: PathBuf,
}

/// Extensions of the recordings that are looked for in folders.
const EXTENSIONS: [&str; 10] = [
    "wav", "wave", "aif", "aiff", "aifc", "flac", "mp3", "ogg", "oga", "m4a",
];

/// Makes the plan, and the folders it needs.
///
/// # Errors
/// If two inputs would be written to the same file, an input would be overwritten, or the command line
/// asks for something that can't be.
pub fn plan(args: &RestoreArgs) -> Result<Vec<Plan>> {
    let inputs = &args.common.inputs;
    let several = inputs.len() > 1 || inputs.iter().any(|input| input.is_dir());
    let only = !args.only.is_empty();
    if args.stems.is_some() && only && !args.only.contains(&crate::StageArg::Regenerate) {
        bail!(
            "--stems: these stages separate nothing; add the stage regenerate, or leave --stems out"
        );
    }
    check_folders(args)?;
    let plans: Vec<Plan> = sources(inputs)?
        .into_iter()
        .map(|Source { path: input, name }| {
            // A FLAC stays a FLAC where the user names no format, unless the result must be float.
            let flac = input
                .extension()
                .is_some_and(|e| e.eq_ignore_ascii_case("flac"));
            let extension = if flac && !only { "flac" } else { "wav" };
            let placed = |path: &PathBuf, extension: &str| placed(path, several, &name, extension);
            Plan {
                input,
                output: placed(&args.output, extension),
                report: args.report.as_ref().map(|path| placed(path, "json")),
                midi: args.midi.as_ref().map(|path| placed(path, "mid")),
                stems: args.stems.as_ref().map(|folder| {
                    if several {
                        folder.join(&name)
                    } else {
                        folder.clone()
                    }
                }),
            }
        })
        .collect();
    check_formats(&plans, only)?;
    check_clashes(&plans, args.manifest.as_deref())?;
    for plan in &plans {
        let parents = plan.files().filter_map(Path::parent);
        for folder in parents.chain(plan.stems.as_deref()) {
            fs::create_dir_all(folder).with_context(|| {
                format!(
                    "{}: this folder can't be made; choose another",
                    folder.display()
                )
            })?;
        }
    }
    Ok(plans)
}

/// Every recording that the user names, or that lies in a folder that the user names.
fn sources(inputs: &[PathBuf]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for input in inputs {
        let before = sources.len();
        if input.is_dir() {
            walk(input, Path::new(""), &mut sources)
                .with_context(|| format!("{}: this folder can't be read", input.display()))?;
            if sources.len() == before {
                bail!(
                    "{}: no recordings in this folder ({})",
                    input.display(),
                    EXTENSIONS.join(", ")
                );
            }
        } else {
            let name = input
                .file_stem()
                .with_context(|| format!("{}: not a file name", input.display()))?;
            sources.push(Source {
                path: input.clone(),
                name: name.into(),
            });
        }
    }
    Ok(sources)
}

/// The recordings in `folder` and the folders in it, by name; hidden ones and links to folders are left alone.
fn walk(folder: &Path, inside: &Path, sources: &mut Vec<Source>) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, file_name) = (entry.path(), entry.file_name());
        if file_name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if entry.file_type()?.is_dir() {
            walk(&path, &inside.join(file_name), sources)?;
        } else if let (Some(stem), Some(extension)) = (path.file_stem(), path.extension())
            && EXTENSIONS.iter().any(|e| extension.eq_ignore_ascii_case(e))
            && path.is_file()
        {
            let name = inside.join(stem);
            sources.push(Source { path, name });
        }
    }
    Ok(())
}

/// Audio that is written into an input folder would be an input the next time.
fn check_folders(args: &RestoreArgs) -> Result<()> {
    for folder in args.common.inputs.iter().filter(|input| input.is_dir()) {
        for results in [Some(&args.output), args.stems.as_ref()]
            .into_iter()
            .flatten()
        {
            if real(results).starts_with(real(folder)) {
                bail!(
                    "{}: results can't lie in {}, the folder of the recordings; choose a folder outside",
                    results.display(),
                    folder.display()
                );
            }
        }
    }
    Ok(())
}

/// Where something made of `input` goes that was asked for at `path`: there, or for several inputs a file of
/// their name in that folder, which is made.
///
/// # Errors
/// If the folder can't be made.
pub fn beside(path: &Path, input: &Path, inputs: usize, extension: &str) -> Result<PathBuf> {
    let name = input
        .file_stem()
        .with_context(|| format!("{}: not a file name", input.display()))?;
    let file = placed(path, inputs > 1, Path::new(name), extension);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| {
            format!(
                "{}: this folder can't be made; choose another",
                folder.display()
            )
        })?;
    }
    Ok(file)
}

/// `path` itself, or a file `name.extension` in it where it is a folder.
fn placed(path: &Path, several: bool, name: &Path, extension: &str) -> PathBuf {
    let ends_as_folder = path
        .as_os_str()
        .as_encoded_bytes()
        .last()
        .is_some_and(|&last| last == b'/' || last == std::path::MAIN_SEPARATOR as u8);
    if !(several || ends_as_folder || path.is_dir()) {
        return path.to_owned();
    }
    // Not `with_extension`: "live 3.5" is a name, not a name with an extension.
    let mut file = name.as_os_str().to_owned();
    file.push(".");
    file.push(extension);
    path.join(file)
}

fn check_formats(plans: &[Plan], only: bool) -> Result<()> {
    for plan in plans {
        let extension = plan.output.extension().and_then(OsStr::to_str);
        let extension = extension.map(str::to_ascii_lowercase);
        match extension.as_deref() {
            Some("wav" | "wave") => {}
            Some("flac") if only => bail!(
                "{}: --only writes 32 bit float, which FLAC can't hold; name the result .wav",
                plan.output.display()
            ),
            Some("flac") => {}
            _ => bail!(
                "{}: only WAV and FLAC can be written; name the result .wav or .flac",
                plan.output.display()
            ),
        }
    }
    Ok(())
}

/// Where a path lies, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let whole = fs::canonicalize(path);
    whole.unwrap_or_else(|_| place(path))
}

/// Where a file lies, whether it exists or not, not followed where it is a link.
pub fn place(path: &Path) -> PathBuf {
    // As far up as there is nothing yet.
    let mut missing = Vec::new();
    let mut at = path;
    loop {
        let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else {
            return path.to_owned();
        };
        missing.push(name);
        let parent_or_here = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        if let Ok(parent) = fs::canonicalize(parent_or_here) {
            return missing.iter().rev().fold(parent, |at, name| at.join(name));
        }
        at = parent;
    }
}

fn check_clashes(plans: &[Plan], manifest: Option<&Path>) -> Result<()> {
    let inputs: HashSet<PathBuf> = plans.iter().map(|plan| real(&plan.input)).collect();
    let mut written: BTreeMap<PathBuf, &Path> = BTreeMap::new();
    if let Some(manifest) = manifest {
        if inputs.contains(&real(manifest)) {
            bail!(
                "{}: this is an input, not a manifest; choose another name",
                manifest.display()
            );
        }
        written.insert(real(manifest), manifest);
    }
    for plan in plans {
        for file in plan.files() {
            let place = real(file);
            if inputs.contains(&place) {
                bail!(
                    "{}: this would overwrite an input; choose another name or folder",
                    file.display()
                );
            }
            if let Some(other) = written.insert(place, &plan.input) {
                bail!(
                    "{} and {} would both be written to {}; restore them one by one, or rename one",
                    other.display(),
                    plan.input.display(),
                    file.display()
                );
            }
        }
    }
    Ok(())
}
