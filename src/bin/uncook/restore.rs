// [cli] `uncook restore`.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use uncook::{
    audio::{AudioBuffer, BitDepth},
    cache::{Cache, KeyBuilder},
    realtime::Settings,
    system::{hash::sha256_file, is_abandoned},
    worker::{
        offline::{self, OnlyStage},
        options::Options,
        progress::Progress,
        report::Report,
    },
};

use crate::{
    RestoreArgs, StageArg,
    files::{self, Plan},
    manifest::Manifest,
    run,
};

/// How an input was dealt with.
enum Done {
    Now {
        report: Box<Report>,
        /// Hash of the input; empty without a manifest.
        input_sha256: String,
        /// What was written, the result first.
        files: Vec<PathBuf>,
    },
    /// The manifest says so.
    Before,
}

/// Restores every input, or this process' part of them. Returns whether all succeeded.
pub fn run(args: &RestoreArgs) -> Result<bool> {
    let mut plans = files::plan(args)?;
    if let Some(shard) = args.shard {
        plans = shard.of(plans, |plan| plan.input.clone());
    }
    let manifest = match &args.manifest {
        Some(path) => Some(Manifest::open(path, settings_sha256(args)?)?),
        None => None,
    };
    if manifest.is_some() {
        sweep(&plans);
    }
    let cache = run::cache(&args.common);
    let results = run::all(
        &plans,
        args.common.jobs(),
        |plan| &plan.input,
        |plan, progress| match &manifest {
            Some(manifest) => unless_done(manifest, plan, || {
                restore(args, plan, cache.as_ref(), progress)
            }),
            None => {
                let (report, files) = restore(args, plan, cache.as_ref(), progress)?;
                let input_sha256 = String::new();
                Ok(Done::Now {
                    report,
                    input_sha256,
                    files,
                })
            }
        },
        |plan, done, took| match &manifest {
            Some(manifest) => record(manifest, plan, done, took),
            None => done,
        },
    );
    let mut text = String::new();
    for (plan, done) in plans.iter().zip(&results) {
        match done {
            Some(Done::Now { report, .. }) => {
                text += &format!("{} → {}\n", plan.input.display(), plan.output.display());
                for line in &report.summary {
                    text += &format!("  {line}\n");
                }
            }
            Some(Done::Before) => {
                text += &format!(
                    "{} → {} (done before)\n",
                    plan.input.display(),
                    plan.output.display()
                );
            }
            None => {}
        }
    }
    // Whoever read it may have gone: the files are written all the same.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(results.iter().all(Option::is_some))
}

/// Restores what the manifest doesn't know as done.
fn unless_done(
    manifest: &Manifest,
    plan: &Plan,
    restore: impl FnOnce() -> Result<(Box<Report>, Vec<PathBuf>)>,
) -> Result<Done> {
    // Hashed before it is read: a file that changes between is done again the next time.
    let input_sha256 = sha256_file(&plan.input, &|_| true)
        .with_context(|| format!("{}: cannot read the file", plan.input.display()))?
        .unwrap_or_default();
    if manifest.is_done(plan, &input_sha256)? {
        return Ok(Done::Before);
    }
    let (report, files) = restore()?;
    Ok(Done::Now {
        report,
        input_sha256,
        files,
    })
}

/// Writes down how an input ended.
fn record(manifest: &Manifest, plan: &Plan, done: Result<Done>, took: Duration) -> Result<Done> {
    match &done {
        Ok(Done::Now {
            input_sha256,
            files,
            ..
        }) => manifest.add_done(&plan.input, input_sha256, files, took)?,
        Ok(Done::Before) => {}
        Err(error) => manifest.add_failed(&plan.input, error, took)?,
    }
    done
}

/// The hash of everything that a result depends on besides its input and this program's version.
fn settings_sha256(args: &RestoreArgs) -> Result<String> {
    let options = args.common.options();
    let only: Vec<_> = args
        .only
        .iter()
        .filter_map(ValueEnum::to_possible_value)
        .map(|value| value.get_name().to_owned())
        .collect();
    let wanted = [
        args.stems.is_some(),
        args.report.is_some(),
        args.midi.is_some(),
    ];
    let rebuild = args.rebuild.map(|span| format!("{span:?}"));
    let models = models(&options, &args.only);
    let all = serde_json::to_string(&(&options, only, args.blend, rebuild, wanted, models))?;
    let key = KeyBuilder::new("restore-settings", 1).str(&all).finish();
    Ok(key.as_str().to_owned())
}

/// The installed models' files, by hash, where any of them may be used: another model gives another result.
#[cfg(feature = "ml")]
fn models(options: &Options, only: &[StageArg]) -> BTreeSet<String> {
    use uncook::{models::library::Library, worker::options::SeparatorChoice};
    let used = only.is_empty() || only.contains(&StageArg::Regenerate);
    let asked = options.separator != SeparatorChoice::Spectral || options.regenerators.any_model();
    let Some(library) = Library::open().ok().filter(|_| used && asked) else {
        return BTreeSet::new();
    };
    let installed = library.installed().into_iter();
    installed
        .filter(|model| library.is_accepted(&model.name))
        .filter_map(|model| library.receipt(&model.name))
        .flat_map(|receipt| receipt.files)
        .map(|file| format!("{} {}", file.file, file.sha256))
        .collect()
}

#[cfg(not(feature = "ml"))]
fn models(_: &Options, _: &[StageArg]) -> BTreeSet<String> {
    BTreeSet::new()
}

/// Removes what processes that died have left half-written where results go.
fn sweep(plans: &[Plan]) {
    let folders: BTreeSet<&Path> = plans
        .iter()
        .flat_map(|plan| {
            plan.files()
                .filter_map(Path::parent)
                .chain(plan.stems.as_deref())
        })
        .collect();
    for folder in folders {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in entries {
            let modified = entry.metadata().and_then(|meta| meta.modified());
            if modified.is_ok_and(|modified| is_abandoned(&entry.path(), modified)) {
                // Best effort: what stays is hidden, and swept the next time.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Restores one input; returns what was found and every file that was written, the result first.
fn restore(
    args: &RestoreArgs,
    plan: &Plan,
    cache: Option<&Cache>,
    progress: &Progress,
) -> Result<(Box<Report>, Vec<PathBuf>)> {
    // Errors of reading and writing name their file themselves.
    let input = AudioBuffer::read(&plan.input)?;
    let stages: Vec<OnlyStage> = args.only.iter().map(|&stage| stage.into()).collect();
    let only = (!stages.is_empty()).then_some(stages.as_slice());
    let settings = Settings {
        master_blend: f32::from(args.blend) / 100.0,
        ..Settings::default()
    };
    let mut options = args.common.options();
    options.asked = args.rebuild.map(|span| span.in_samples(input.sample_rate));
    let restored = offline::restore(&input, &options, only, &settings, cache, progress)
        .with_context(|| plan.input.display().to_string())?;

    if only.is_some() {
        restored.audio.write_wav_f32(&plan.output)?;
    } else {
        write(&restored.audio, &plan.output)?;
    }
    let mut files: Vec<PathBuf> = plan.files().map(Path::to_owned).collect();
    if let (Some(folder), Some(stems)) = (&plan.stems, &restored.stems) {
        for (name, audio) in stems {
            let path = folder.join(format!("{name}.wav"));
            audio.write_wav_f32(&path)?;
            files.push(path);
        }
    }
    if let Some(path) = &plan.report {
        let json = serde_json::to_string_pretty(&restored.report)?;
        run::write_whole(path, (json + "\n").as_bytes())?;
    }
    if let Some(path) = &plan.midi {
        run::write_midi(&restored.report.profile, path)?;
    }
    Ok((Box::new(restored.report), files))
}

/// FLAC in 24 bit; WAV in float, so that nothing is lost.
fn write(audio: &AudioBuffer, path: &Path) -> Result<()> {
    let flac = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("flac"));
    let depth = if flac {
        BitDepth::Int24
    } else {
        BitDepth::Float32
    };
    Ok(audio.write(path, depth)?)
}
