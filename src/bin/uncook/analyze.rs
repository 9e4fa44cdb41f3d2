// [cli] `uncook analyze`.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use uncook::{
    audio::AudioBuffer,
    damage::{DamageKind, Stem},
    profile::Mode,
    worker::{offline, report::Report},
};

use crate::{AnalyzeArgs, run};

/// A report of one of several files.
#[derive(Serialize)]
struct Line<'a> {
    file: &'a Path,
    #[serde(flatten)]
    report: &'a Report,
}

/// Analyses every input. Returns whether all succeeded.
pub fn run(args: &AnalyzeArgs) -> Result<bool> {
    let common = &args.common;
    let cache = run::cache(common);
    let options = common.options();
    let results = run::all(
        &common.inputs,
        common.jobs(),
        |path| path,
        |path, progress| {
            let input = AudioBuffer::read(path)?;
            let report = offline::analyse(&input, &options, cache.as_ref(), progress)
                .with_context(|| path.display().to_string())?;
            Ok((report, input.seconds()))
        },
    );
    for (path, result) in common.inputs.iter().zip(&results) {
        let Some((report, seconds)) = result else {
            continue;
        };
        match (args.json, common.inputs.len()) {
            (true, 1) => println!("{}", serde_json::to_string_pretty(report)?),
            (true, _) => {
                let file = path.as_path();
                println!("{}", serde_json::to_string(&Line { file, report })?);
            }
            (false, _) => print(path, report, *seconds),
        }
    }
    Ok(results.iter().all(Option::is_some))
}

/// The report in words.
fn print(path: &Path, report: &Report, seconds: f64) {
    println!("{} ({seconds:.1} s)", path.display());
    for line in &report.summary {
        println!("  {line}");
    }
    println!("  Damage, share of the time:");
    let mut any = false;
    for stem in [None].into_iter().chain(Stem::ALL.map(Some)) {
        let shares: Vec<String> = DamageKind::ALL
            .into_iter()
            .filter_map(|kind| {
                let damaged: f64 = report
                    .damage
                    .iter()
                    .filter(|entry| entry.stem == stem && entry.kind == kind)
                    .map(|entry| entry.end - entry.start)
                    .sum();
                (damaged > 0.0)
                    .then(|| format!("{} {:.0} %", kind.label(), 100.0 * damaged / seconds))
            })
            .collect();
        if !shares.is_empty() {
            any = true;
            println!(
                "    {}: {}",
                stem.map_or("mix", Stem::name),
                shares.join(", ")
            );
        }
    }
    if !any {
        println!("    none found");
    }
    let profile = &report.profile;
    let mut music = Vec::new();
    if let Some(tempo) = profile.tempo_bpm {
        music.push(format!("{tempo:.1} BPM"));
    }
    if let Some((beats, unit)) = profile.meter {
        music.push(format!("{beats}/{unit}"));
    }
    if let Some(key) = &profile.key {
        let mode = match key.mode {
            Mode::Major => "major",
            Mode::Minor => "minor",
        };
        music.push(format!("{} {mode}", key.tonic));
    }
    if !music.is_empty() {
        println!("  Music: {}", music.join(", "));
    }
}
