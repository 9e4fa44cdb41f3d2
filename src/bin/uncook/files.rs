// [cli] Which input becomes which output: decided, and checked, before any work begins.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::RestoreArgs;

/// One input and everything that is written for it.
pub struct Plan {
    pub input: PathBuf,
    pub output: PathBuf,
    pub report: Option<PathBuf>,
    /// Folder of this input's stems.
    pub stems: Option<PathBuf>,
}

/// Makes the plan, and the folders it needs.
///
/// # Errors
/// If two inputs would be written to the same file, an input would be overwritten, or the command line
/// asks for something that can't be.
pub fn plan(args: &RestoreArgs) -> Result<Vec<Plan>> {
    let inputs = &args.common.inputs;
    let several = inputs.len() > 1;
    let only = !args.only.is_empty();
    if args.stems.is_some() && only && !args.only.contains(&crate::StageArg::Regenerate) {
        bail!(
            "--stems: these stages separate nothing; add the stage regenerate, or leave --stems out"
        );
    }
    let plans: Vec<Plan> = inputs
        .iter()
        .map(|input| {
            let name = input
                .file_stem()
                .with_context(|| format!("{}: not a file name", input.display()))?;
            // A FLAC stays a FLAC where the user names no format, unless the result must be float.
            let flac = input
                .extension()
                .is_some_and(|e| e.eq_ignore_ascii_case("flac"));
            let extension = if flac && !only { "flac" } else { "wav" };
            Ok(Plan {
                input: input.clone(),
                output: placed(&args.output, several, name, extension),
                report: (args.report.as_ref()).map(|path| placed(path, several, name, "json")),
                stems: args.stems.as_ref().map(|folder| {
                    if several {
                        folder.join(name)
                    } else {
                        folder.clone()
                    }
                }),
            })
        })
        .collect::<Result<_>>()?;
    check_formats(&plans, only)?;
    check_clashes(&plans)?;
    for plan in &plans {
        let files = [Some(&plan.output), plan.report.as_ref()];
        let parents = files.into_iter().flatten().filter_map(|file| file.parent());
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

/// Where something made of `input` goes that was asked for at `path`: there, or for several inputs a file of
/// their name in that folder, which is made.
///
/// # Errors
/// If the folder can't be made.
pub fn beside(path: &Path, input: &Path, inputs: usize, extension: &str) -> Result<PathBuf> {
    let name = input
        .file_stem()
        .with_context(|| format!("{}: not a file name", input.display()))?;
    let file = placed(path, inputs > 1, name, extension);
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
fn placed(path: &Path, several: bool, name: &OsStr, extension: &str) -> PathBuf {
    let ends_as_folder = path
        .as_os_str()
        .as_encoded_bytes()
        .last()
        .is_some_and(|&last| last == b'/' || last == std::path::MAIN_SEPARATOR as u8);
    if !(several || ends_as_folder || path.is_dir()) {
        return path.to_owned();
    }
    // Not `with_extension`: "live 3.5" is a name, not a name with an extension.
    let mut file = name.to_owned();
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
    whole.unwrap_or_else(|_| {
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        let parent = fs::canonicalize(parent.unwrap_or(Path::new(".")));
        match (parent, path.file_name()) {
            (Ok(parent), Some(name)) => parent.join(name),
            _ => path.to_owned(),
        }
    })
}

fn check_clashes(plans: &[Plan]) -> Result<()> {
    let inputs: Vec<PathBuf> = plans.iter().map(|plan| real(&plan.input)).collect();
    let mut written: BTreeMap<PathBuf, &Path> = BTreeMap::new();
    for plan in plans {
        for file in [Some(&plan.output), plan.report.as_ref()]
            .into_iter()
            .flatten()
        {
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
