// [cli] `uncook restore`.

use std::{fs, io::Write, path::Path};

use anyhow::{Context, Result};
use uncook::{
    audio::{AudioBuffer, BitDepth},
    cache::Cache,
    realtime::Settings,
    worker::{
        offline::{self, OnlyStage},
        progress::Progress,
        report::Report,
    },
};

use crate::{
    RestoreArgs,
    files::{self, Plan},
    run,
};

/// Restores every input. Returns whether all succeeded.
pub fn run(args: &RestoreArgs) -> Result<bool> {
    let plans = files::plan(args)?;
    let cache = run::cache(&args.common);
    let results = run::all(
        &plans,
        args.common.jobs(),
        |plan| &plan.input,
        |plan, progress| restore(args, plan, cache.as_ref(), progress),
    );
    let mut text = String::new();
    for (plan, report) in plans.iter().zip(&results) {
        if let Some(report) = report {
            text += &format!("{} → {}\n", plan.input.display(), plan.output.display());
            for line in &report.summary {
                text += &format!("  {line}\n");
            }
        }
    }
    // Whoever read it may have gone: the files are written all the same.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(results.iter().all(Option::is_some))
}

fn restore(
    args: &RestoreArgs,
    plan: &Plan,
    cache: Option<&Cache>,
    progress: &Progress,
) -> Result<Report> {
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
    if let (Some(folder), Some(stems)) = (&plan.stems, &restored.stems) {
        write_stems(stems, folder)?;
    }
    if let Some(path) = &plan.report {
        let json = serde_json::to_string_pretty(&restored.report)?;
        fs::write(path, json + "\n").with_context(|| {
            format!("{}: can't be written; choose another place", path.display())
        })?;
    }
    if let Some(path) = &args.midi {
        let path = files::beside(path, &plan.input, args.common.inputs.len(), "mid")?;
        run::write_midi(&restored.report.profile, &path)?;
    }
    Ok(restored.report)
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

fn write_stems(stems: &[(String, AudioBuffer)], folder: &Path) -> Result<()> {
    for (name, audio) in stems {
        audio.write_wav_f32(&folder.join(format!("{name}.wav")))?;
    }
    Ok(())
}
