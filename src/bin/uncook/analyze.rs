// [cli] `uncook analyze`.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use uncook::{
    audio::AudioBuffer,
    damage::{DamageKind, Stem},
    profile::{DrumClass, Mode, PITCH_CLASSES},
    worker::{
        offline,
        report::{ProfileReport, Report},
    },
};

use crate::{AnalyzeArgs, files, plot, run};

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
            let count = common.inputs.len();
            if let Some(plot) = &args.plot {
                let plot = files::beside(plot, path, count, "png")?;
                plot::draw(&input, &(&report.profile).into(), &plot)?;
            }
            if let Some(midi) = &args.midi {
                let midi = files::beside(midi, path, count, "mid")?;
                run::write_midi(&report.profile, &midi)?;
            }
            Ok((report, input.seconds()))
        },
        |_, done, _| done,
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
    print_music(&report.profile);
}

/// Chords on a line.
const CHORDS_A_LINE: usize = 8;

fn print_music(profile: &ProfileReport) {
    let sure = |confidence: f32| format!("{:.0} % sure", 100.0 * confidence);
    let mut music = Vec::new();
    if let Some(tempo) = profile.tempo_bpm {
        music.push(format!(
            "{tempo:.1} BPM ({})",
            sure(profile.tempo_confidence)
        ));
    }
    if let Some((beats, unit)) = profile.meter {
        music.push(format!(
            "{beats}/{unit} ({})",
            sure(profile.meter_confidence)
        ));
    }
    if let Some(key) = &profile.key {
        let mode = match key.mode {
            Mode::Major => "major",
            Mode::Minor => "minor",
        };
        music.push(format!("{} {mode} ({})", key.tonic, sure(key.confidence)));
    }
    if !music.is_empty() {
        println!("  Music: {}", music.join(", "));
    }
    if !profile.beats.is_empty() {
        println!(
            "  {} beats, {} bars",
            profile.beats.len(),
            profile.downbeats.len()
        );
    }
    for (i, line) in profile.chords.chunks(CHORDS_A_LINE).enumerate() {
        let chords: Vec<String> = line
            .iter()
            .map(|c| format!("{:.1} s {}", c.start, c.label))
            .collect();
        let head = if i == 0 { "Chords:" } else { "       " };
        println!("  {head} {}", chords.join(", "));
    }
    let hits: Vec<String> = DrumClass::ALL
        .into_iter()
        .filter_map(|class| {
            let count = profile.drums.iter().filter(|d| d.class == class).count();
            (count > 0).then(|| format!("{count} {}", drum_name(class, count)))
        })
        .collect();
    if !hits.is_empty() {
        println!("  Drums: {}", hits.join(", "));
    }
    for (name, notes) in [
        ("Bass", &profile.bass_notes),
        ("Lead", &profile.melody_notes),
    ] {
        let low = notes.iter().map(|n| n.midi).fold(f32::INFINITY, f32::min);
        let high = notes
            .iter()
            .map(|n| n.midi)
            .fold(f32::NEG_INFINITY, f32::max);
        if !notes.is_empty() {
            println!(
                "  {name}: {} notes from {} to {}",
                notes.len(),
                note_name(low),
                note_name(high)
            );
        }
    }
}

fn drum_name(class: DrumClass, count: usize) -> &'static str {
    let (one, many) = match class {
        DrumClass::Kick => ("kick", "kicks"),
        DrumClass::Snare => ("snare", "snares"),
        DrumClass::HihatClosed => ("closed hat", "closed hats"),
        DrumClass::HihatOpen => ("open hat", "open hats"),
        DrumClass::Tom => ("tom", "toms"),
        DrumClass::Crash => ("crash", "crashes"),
        DrumClass::Ride => ("ride", "rides"),
    };
    if count == 1 { one } else { many }
}

/// Such as E1 for MIDI 28.
fn note_name(midi: f32) -> String {
    let n = midi.round().clamp(0.0, 127.0) as usize;
    format!("{}{}", PITCH_CLASSES[n % 12], n as i32 / 12 - 1)
}
