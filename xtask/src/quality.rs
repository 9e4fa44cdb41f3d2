// [cli] `cargo xtask quality`: how well each repair works, over a folder of songs with known damage.
//!
//! A song is a folder with `drums|bass|other|vocals.flac` (their sum is the clean mix), `damage.json` and
//! `damaged/PRESET.flac` (mono, from the mix's start). `damage.json[PRESET]` gives `stored_gain`, by which the
//! reference is multiplied, and what was done. Damage that a folder lacks is made here, from seeds. Each
//! kind of damage is repaired by its own stages alone: offline by the worker's kernels, live by the plugin's
//! chain in blocks. The built-in separators are measured on the clean mixes. Rows are means over songs; a row
//! below its floor fails the task.

mod damage;
mod repair;
mod stems;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use uncook::{audio::AudioBuffer, metrics};

use crate::workspace;
use repair::{Repair, Repaired};

#[derive(clap::Args)]
#[command(about = "Measures every repair on a folder of songs with known damage")]
pub struct Args {
    /// Folder of songs
    folder: PathBuf,
    /// Only rows whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Every file's numbers, not only the means
    #[arg(long)]
    verbose: bool,
    /// Floors: {"row": [offline, live]}, null where none
    #[arg(long)]
    floors: Option<PathBuf>,
}

/// One row's values, song by song.
#[derive(Default)]
struct Row {
    unit: &'static str,
    offline: Vec<f64>,
    live: Vec<f64>,
}

/// The table so far; rows in the order of their first value.
struct Table<'a> {
    args: &'a Args,
    rows: BTreeMap<String, Row>,
    order: Vec<String>,
    /// The detector's scores by row, pooled over songs.
    scores: BTreeMap<String, damage::Scores>,
}

impl Table<'_> {
    fn wants(&self, row: &str) -> bool {
        self.args
            .only
            .as_ref()
            .is_none_or(|o| row.contains(o.as_str()))
    }

    fn add(
        &mut self,
        song: &str,
        name: &str,
        unit: &'static str,
        [offline, live]: [Option<f64>; 2],
    ) {
        if self.args.verbose {
            println!(
                "{song:<16} {name:<28} {:>9} {:>9}",
                cell(offline),
                cell(live)
            );
        }
        if !self.rows.contains_key(name) {
            self.order.push(name.to_owned());
        }
        let row = self.rows.entry(name.to_owned()).or_default();
        row.unit = unit;
        row.offline.extend(offline);
        row.live.extend(live);
    }
}

fn cell(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |v| format!("{v:.2}"))
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// A song of the folder.
struct Song {
    name: String,
    folder: PathBuf,
    damage: Value,
    /// Stereo, clean.
    mix: AudioBuffer,
}

/// Measures everything and compares with the floors.
///
/// # Errors
/// If a file can't be read or a row falls below its floor.
pub fn run(args: &Args) -> Result<()> {
    let songs = songs(&args.folder)?;
    let mut table = Table {
        args,
        rows: BTreeMap::new(),
        order: Vec::new(),
        scores: BTreeMap::new(),
    };
    for song in &songs {
        clean(song, &mut table);
        presets(song, &mut table)?;
        made(song, &mut table);
        loudness(song, &mut table);
        stems::separation(song, &mut table)?;
    }
    for (name, scores) in std::mem::take(&mut table.scores) {
        table.add("all", &name, "AUC", [None, scores.auc()]);
    }
    println!(
        "{:<28} {:>9} {:>9} {:>9} {:>9}  n",
        "", "offline", "worst", "live", "worst"
    );
    for name in &table.order {
        let row = &table.rows[name];
        let worst = |v: &[f64]| v.iter().copied().reduce(f64::min);
        println!(
            "{name:<28} {:>9} {:>9} {:>9} {:>9}  {} {}",
            cell(mean(&row.offline)),
            cell(worst(&row.offline)),
            cell(mean(&row.live)),
            cell(worst(&row.live)),
            row.offline.len().max(row.live.len()),
            row.unit
        );
    }
    check(&table, args.floors.as_deref())
}

/// Compares with the floors; rows that were not measured are not compared.
fn check(table: &Table, floors: Option<&Path>) -> Result<()> {
    let path = match floors {
        Some(path) => path.to_owned(),
        None => workspace::root()?.join("xtask/quality-floors.json"),
    };
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let floors: BTreeMap<String, [Option<f64>; 2]> =
        serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let mut below = Vec::new();
    for (name, floor) in &floors {
        let Some(row) = table.rows.get(name) else {
            continue;
        };
        for ((what, values), floor) in [("offline", &row.offline), ("live", &row.live)]
            .into_iter()
            .zip(floor)
        {
            if let (Some(mean), Some(floor)) = (mean(values), floor)
                && mean < *floor
            {
                below.push(format!("{name}, {what}: {mean:.2} is below {floor:.2}"));
            }
        }
    }
    ensure!(below.is_empty(), "{}", below.join("\n"));
    Ok(())
}

fn songs(folder: &Path) -> Result<Vec<Song>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let folder = entry?.path();
        let json = folder.join("damage.json");
        if !json.is_file() {
            continue;
        }
        let damage = serde_json::from_str(&fs::read_to_string(&json)?)
            .with_context(|| json.display().to_string())?;
        let mut stems = Vec::new();
        for stem in ["drums", "bass", "other", "vocals"] {
            stems.push(AudioBuffer::read(&folder.join(format!("{stem}.flac")))?);
        }
        let Some(mut mix) = stems.pop() else {
            bail!("no stems")
        };
        for stem in stems {
            for (sum, channel) in mix.channels.iter_mut().zip(stem.channels) {
                for (sum, x) in sum.iter_mut().zip(channel) {
                    *sum += x;
                }
            }
        }
        let name = folder.file_name().map(|n| n.to_string_lossy().into_owned());
        found.push(Song {
            name: name.unwrap_or_default(),
            folder,
            damage,
            mix,
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    ensure!(!found.is_empty(), "{}: no song in it", folder.display());
    Ok(found)
}

/// ΔSDR of both results in dB.
fn gains(reference: &[f32], damaged: &[f32], repaired: &Repaired) -> [Option<f64>; 2] {
    let before = metrics::distance::sdr_db(reference, damaged);
    [&repaired.offline, &repaired.live].map(|y| {
        let after = metrics::distance::sdr_db(reference, y.channels.first()?)?;
        Some(after - before?)
    })
}

/// First, do no harm.
fn clean(song: &Song, table: &mut Table) {
    let name = "clean song, SDR";
    if table.wants(name) {
        let repaired = Repair::Default.both(&song.mix);
        let sdr = [&repaired.offline, &repaired.live].map(|y| {
            song.mix
                .channels
                .iter()
                .zip(&y.channels)
                .filter_map(|(x, y)| metrics::distance::sdr_db(x, y))
                .reduce(f64::min)
        });
        table.add(&song.name, name, "dB, 200 = every bit", sdr);
    }
    let name = "clean song, frames unflagged";
    if table.wants(name) {
        let unflagged = 100.0 * (1.0 - damage::flagged(&song.mix));
        table.add(&song.name, name, "%, any kind", [None, Some(unflagged)]);
    }
}

/// The folder's own damaged files.
fn presets(song: &Song, table: &mut Table) -> Result<()> {
    let Some(presets) = song.damage.as_object() else {
        return Ok(());
    };
    let mono = song.mix.mono();
    for (preset, facts) in presets {
        let row = preset.as_str();
        if !table.wants(row) {
            continue;
        }
        let file = song.folder.join(format!("damaged/{preset}.flac"));
        let damaged = AudioBuffer::read(&file)?;
        let Some(gain) = facts["stored_gain"].as_f64() else {
            bail!("{preset}: damage.json gives no stored_gain");
        };
        let own = song.folder.join(format!("damaged/{preset}_ref.flac"));
        let (source, gain) = if own.is_file() {
            let stored = facts["ref_gain"].as_f64().unwrap_or(1.0);
            (AudioBuffer::read(&own)?.mono(), gain / stored)
        } else {
            (mono.clone(), gain)
        };
        let reference: Vec<f32> = source
            .iter()
            .take(damaged.frames())
            .map(|&x| (f64::from(x) * gain) as f32)
            .collect();
        ensure!(
            reference.len() == damaged.frames(),
            "{preset}: longer than its song"
        );
        let dry: Vec<f32> = mono
            .iter()
            .take(damaged.frames())
            .map(|&x| (f64::from(x) * gain) as f32)
            .collect();
        preset_rows(song, table, row, facts, &damaged, (&reference, &dry))?;
    }
    Ok(())
}

fn preset_rows(
    song: &Song,
    table: &mut Table,
    row: &str,
    facts: &Value,
    damaged: &AudioBuffer,
    (reference, dry): (&[f32], &[f32]),
) -> Result<()> {
    let heard = &damaged.channels[0];
    let sdr = |table: &mut Table, repair: Repair| {
        let repaired = repair.both(damaged);
        table.add(
            &song.name,
            row,
            "dB ΔSDR",
            gains(reference, heard, &repaired),
        );
    };
    if row.starts_with("clip") || row.starts_with("wrap") {
        sdr(table, Repair::Declip);
        detector_rows(song, table, row, facts, damaged)?;
    } else if row.starts_with("stem") {
        detector_rows(song, table, row, facts, damaged)?;
    } else if row.starts_with("crackle") {
        sdr(table, Repair::Declick);
    } else if row.starts_with("noise") {
        sdr(table, Repair::Denoise);
    } else if row.starts_with("dropout") {
        let repaired = Repair::Declick.both(damaged);
        for gap in facts["gaps"].as_array().into_iter().flatten() {
            let (Some(start), Some(length)) = (gap[0].as_u64(), gap[1].as_u64()) else {
                continue;
            };
            let gap = start as usize..(start + length) as usize;
            dropout_row(song, table, reference, &repaired, gap);
        }
    } else if row.starts_with("room") {
        let repaired = Repair::Dereverb.both(damaged);
        let before = metrics::distance::si_sdr_db(reference, heard);
        let gain = [&repaired.offline, &repaired.live]
            .map(|y| Some(metrics::distance::si_sdr_db(reference, y.channels.first()?)? - before?));
        table.add(&song.name, row, "dB ΔSI-SDR", gain);
    } else if row == "mic" {
        microphone_rows(song, table, row, dry, damaged);
    } else if row.starts_with("gig") && !row.ends_with("nooverload") {
        let repaired = Repair::Everything.both(damaged);
        let matched = |y: &[f32]| {
            let y = damage::at_level_of(dry, y);
            metrics::distance::multi_resolution_stft_distance(dry, &y).map(|d| -d)
        };
        let distance = [&repaired.offline, &repaired.live]
            .map(|y| y.channels.first().and_then(|y| matched(y)));
        table.add(&song.name, row, "−MR-STFT distance", distance);
        let untouched = matched(heard);
        let name = format!("{row}, untouched");
        table.add(
            &song.name,
            &name,
            "−MR-STFT distance",
            [untouched, untouched],
        );
        detector_rows(song, table, row, facts, damaged)?;
    }
    Ok(())
}

/// Pools the detector's scores. A damaged file's own whole frames are too few (of a gig's, 0 to 4 in 200), so
/// the clean song's count as whole, too; in a second row it is the same chain without the overload, where it is
/// known, that has to be told from it.
fn detector_rows(
    song: &Song,
    table: &mut Table,
    row: &str,
    facts: &Value,
    damaged: &AudioBuffer,
) -> Result<()> {
    let runs = &facts["clip_runs_1ms"];
    let scores = table.scores.entry(format!("{row}, detector"));
    let scores = scores.or_default();
    scores.add(damaged, runs);
    scores.add_whole(&song.mix);
    for kind in ["_nooverload", "_ref"] {
        let file = song.folder.join(format!("damaged/{row}{kind}.flac"));
        if file.is_file() {
            let whole = AudioBuffer::read(&file)?;
            let scores = table.scores.entry(format!("{row}, detector, chain"));
            let scores = scores.or_default();
            scores.add(damaged, runs);
            scores.add_whole(&whole);
        }
    }
    Ok(())
}

/// Distance from the music in front of a microphone, at both ends of the spectrum.
fn microphone_rows(song: &Song, table: &mut Table, row: &str, dry: &[f32], damaged: &AudioBuffer) {
    let unit = "−dB log-spectral distance";
    for (end, repair, low, high) in [
        ("lows", Repair::Bass, 25.0, 150.0),
        ("highs", Repair::Treble, 8_000.0, 20_000.0),
    ] {
        let distance = |y: &AudioBuffer| {
            let (y, rate) = (y.channels.first()?, y.sample_rate);
            metrics::distance::log_spectral_distance_db(dry, y, rate, low, high).map(|d| -d)
        };
        let repaired = repair.both(damaged);
        let repaired = [&repaired.offline, &repaired.live].map(distance);
        table.add(&song.name, &format!("{row}, {end}"), unit, repaired);
        let untouched = [distance(damaged); 2];
        let name = format!("{row}, {end}, untouched");
        table.add(&song.name, &name, unit, untouched);
    }
}

/// SDR inside a dropout, by its length.
fn dropout_row(
    song: &Song,
    table: &mut Table,
    reference: &[f32],
    repaired: &Repaired,
    gap: std::ops::Range<usize>,
) {
    let ms = 1000.0 * gap.len() as f64 / f64::from(song.mix.sample_rate);
    let name = match ms {
        ms if ms < 25.0 => "dropout under 25 ms",
        ms if ms < 60.0 => "dropout 25 to 60 ms",
        ms if ms < 120.0 => "dropout 60 to 120 ms",
        _ => return,
    };
    let y = repaired.offline.channels.first();
    let inside = y.and_then(|y| metrics::distance::sdr_db(&reference[gap.clone()], &y[gap]));
    table.add(&song.name, name, "dB SDR inside", [inside, None]);
}

/// Damage made here.
fn made(song: &Song, table: &mut Table) {
    let rate = song.mix.sample_rate;
    let mono = song.mix.mono();
    for (name, per_second) in [
        ("made crackle, 25 a second", 25.0),
        ("made crackle, 3 a second", 3.0),
    ] {
        if table.wants(name) {
            let damaged = damage::crackle(&mono, rate, per_second);
            let repaired = Repair::Declick.both(&damaged);
            table.add(
                &song.name,
                name,
                "dB ΔSDR",
                gains(&mono, &damaged.channels[0], &repaired),
            );
        }
    }
    for (name, hiss, snr) in [
        ("made noise, white 20 dB", false, 20.0),
        ("made noise, hiss 25 dB", true, 25.0),
    ] {
        if table.wants(name) {
            let damaged = damage::noise(&mono, rate, hiss, snr);
            let repaired = Repair::Denoise.both(&damaged);
            table.add(
                &song.name,
                name,
                "dB ΔSDR",
                gains(&mono, &damaged.channels[0], &repaired),
            );
        }
    }
    type Room = fn(&[f32], u32, f64) -> AudioBuffer;
    for (name, rt60, room) in [
        ("made room, RT60 0.8 s", 0.8, damage::room as Room),
        ("made room, RT60 1.5 s", 1.5, damage::room),
        ("made dense room, RT60 0.8 s", 0.8, damage::dense_room),
        ("made dense room, RT60 1.5 s", 1.5, damage::dense_room),
    ] {
        if table.wants(name) {
            let damaged = room(&mono, rate, rt60);
            let repaired = Repair::Dereverb.both(&damaged);
            let before = metrics::distance::si_sdr_db(&mono, &damaged.channels[0]);
            let gain = [&repaired.offline, &repaired.live]
                .map(|y| Some(metrics::distance::si_sdr_db(&mono, y.channels.first()?)? - before?));
            table.add(&song.name, name, "dB ΔSI-SDR", gain);
        }
    }
    if table.wants("made mic") {
        for heard in damage::microphones(&mono, rate) {
            let dry = &mono[heard.start..heard.start + heard.damaged.frames()];
            microphone_rows(song, table, "made mic", dry, &heard.damaged);
        }
    }
    if table.wants("dropout") {
        let (damaged, gaps) = damage::dropouts(&mono, rate);
        let repaired = Repair::Declick.both(&damaged);
        for gap in gaps {
            dropout_row(song, table, &mono, &repaired, gap);
        }
    }
}

/// Distance from the target and true peak of the loudness stage.
fn loudness(song: &Song, table: &mut Table) {
    let name = "loudness, −|error|";
    if !table.wants(name) {
        return;
    }
    const TARGET_LUFS: f32 = -14.0;
    const CEILING_DBTP: f32 = -1.0;
    let mut audio = song.mix.clone();
    let done = uncook::mastering::loudness_normalised(&mut audio, TARGET_LUFS, CEILING_DBTP);
    let error = done
        .ok()
        .and_then(|_| metrics::loudness::integrated_lufs(&audio))
        .map(|lufs| -(lufs - f64::from(TARGET_LUFS)).abs());
    table.add(&song.name, name, "LU", [error, None]);
    let peak = metrics::loudness::true_peak_dbtp(&audio).map(|p| f64::from(CEILING_DBTP) - p);
    table.add(&song.name, "loudness, room to ceiling", "dB", [peak, None]);
}
