// [cli] `cargo xtask rebuild`: how well drums and bass are rebuilt, over a folder of songs with known stems.
//!
//! A song is a folder with `drums|bass|other|vocals.flac` (their sum is the clean mix) and `truth.json` (`beats`,
//! `bass_notes: [{t, dur, midi}]`, `drum_onsets: [{t, name}]`; rims and claps count as snares, shakers as closed
//! hats). Drums and bass are overdriven here, each by itself: hard at 4 dB and softly at 5 dB of
//! signal-to-distortion ratio, in two spans of the song or throughout. They are rebuilt from the true damaged
//! stems and from those that the pipeline separates from their mix, and the spans are compared with the clean
//! stems.

pub(crate) mod scores;

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use uncook::{
    audio::AudioBuffer,
    damage::{DEFAULT_THRESHOLD, DamageKind, DamageMap, FRAMES_PER_SECOND, Region, Stem},
    metrics::{damage::damage_map, distance},
    profile::{
        self, DrumClass, MusicalProfile, Note,
        metrics::{event_f, note_f, raw_pitch_accuracy},
        quality,
    },
    regeneration::{Regenerator, Request, blend, resynthesis::Resynthesis},
    separation::Stems,
    worker::{
        options::{Options, RegeneratorChoice, Regenerators},
        pipeline,
        progress::Progress,
    },
};

#[derive(clap::Args)]
#[command(about = "Measures the rebuilt drums and bass on a folder of songs with known stems")]
pub struct Args {
    /// Folder of songs
    folder: PathBuf,
    /// Only rows whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Every song's numbers, not only the means
    #[arg(long)]
    verbose: bool,
}

const STEMS: [&str; Stem::COUNT] = ["drums", "bass", "other", "vocals"];
/// Where the stems are overdriven, in shares of the song.
const SPANS: [Range<f64>; 2] = [0.22..0.40, 0.63..0.79];
/// Onsets of hits agree within this, in seconds.
const HIT_SECONDS: f64 = 0.03;
/// A region's borders are found within this, in seconds.
const EDGE_SECONDS: f64 = 0.06;

/// How a stem is overdriven.
#[derive(Clone, Copy, PartialEq)]
enum Drive {
    Hard,
    Soft,
    /// Not at all: what a false alarm does.
    None,
}

struct Song {
    name: String,
    clean: Stems,
    truth: Truth,
}

/// What was played.
struct Truth {
    drums: Vec<(DrumClass, f64)>,
    bass: Vec<Note>,
}

/// A row's values, one a song where it could be measured.
#[derive(Default)]
struct Table {
    rows: BTreeMap<String, Vec<f64>>,
    order: Vec<String>,
}

impl Table {
    fn add(&mut self, args: &Args, song: &str, name: String, value: Option<f64>) {
        let Some(value) = value.filter(|v| v.is_finite()) else {
            return;
        };
        if args.verbose {
            println!("{song:<16} {name:<52} {value:>8.3}");
        }
        if !self.rows.contains_key(&name) {
            self.order.push(name.clone());
        }
        self.rows.entry(name).or_default().push(value);
    }
}

/// Measures everything and prints the table.
///
/// # Errors
/// If a file can't be read.
pub fn run(args: &Args) -> Result<()> {
    let songs = songs(&args.folder)?;
    let mut table = Table::default();
    for song in &songs {
        for (drive, kind) in [
            (Drive::Hard, "hard 4 dB"),
            (Drive::Soft, "soft 5 dB"),
            (Drive::None, "false alarm"),
        ] {
            for throughout in [false, true] {
                for separated in [false, true] {
                    let name = format!(
                        "{kind}, {}, {} stems",
                        if throughout { "throughout" } else { "spans" },
                        if separated { "separated" } else { "true" }
                    );
                    if args
                        .only
                        .as_ref()
                        .is_some_and(|only| !name.contains(only.as_str()))
                    {
                        continue;
                    }
                    let case = Case::new(song, drive, throughout, separated)?;
                    case.measure(args, &name, &mut table);
                }
            }
        }
    }
    println!("{:<52} {:>8} {:>8} {:>8}  n", "", "mean", "least", "most");
    for name in &table.order {
        let values = &table.rows[name];
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        println!(
            "{name:<52} {mean:>8.3} {least:>8.3} {most:>8.3}  {}",
            values.len()
        );
    }
    Ok(())
}

/// The songs of `folder`, in order of name.
fn songs(folder: &Path) -> Result<Vec<Song>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut songs = Vec::new();
    for entry in entries {
        let folder = entry?.path();
        let json = folder.join("truth.json");
        if !json.is_file() {
            continue;
        }
        let text = fs::read_to_string(&json).with_context(|| json.display().to_string())?;
        let truth: Value =
            serde_json::from_str(&text).with_context(|| json.display().to_string())?;
        let mut clean = Vec::new();
        for stem in STEMS {
            clean.push(AudioBuffer::read(&folder.join(format!("{stem}.flac")))?);
        }
        let Ok(clean) = clean.try_into() else {
            continue;
        };
        let name = folder.file_name().map(|n| n.to_string_lossy().into_owned());
        songs.push(Song {
            name: name.unwrap_or_default(),
            clean,
            truth: Truth::read(&truth),
        });
    }
    songs.sort_by(|a: &Song, b| a.name.cmp(&b.name));
    ensure!(
        !songs.is_empty(),
        "{}: no folder in it has a truth.json beside the stems",
        folder.display()
    );
    Ok(songs)
}

impl Truth {
    fn read(truth: &Value) -> Self {
        let list = |key: &str| truth[key].as_array().cloned().unwrap_or_default();
        let drums = list("drum_onsets")
            .iter()
            .filter_map(|hit| {
                let class = match hit["name"].as_str()? {
                    "kick" => DrumClass::Kick,
                    "snare" | "clap" | "rim" => DrumClass::Snare,
                    "hat_closed" | "shaker" => DrumClass::HihatClosed,
                    "hat_open" => DrumClass::HihatOpen,
                    _ => return None,
                };
                Some((class, hit["t"].as_f64()?))
            })
            .collect();
        let bass = list("bass_notes")
            .iter()
            .filter_map(|note| {
                Some(Note {
                    t: note["t"].as_f64()?,
                    dur: note["dur"].as_f64()?,
                    midi: note["midi"].as_f64()? as f32,
                    velocity: 1.0,
                    confidence: 1.0,
                })
            })
            .collect();
        Self { drums, bass }
    }
}

/// `x` overdriven to a signal-to-distortion ratio inside the spans.
fn overdriven(x: &AudioBuffer, drive: Drive, spans: &[Range<usize>]) -> AudioBuffer {
    let target_db = if drive == Drive::Hard { 4.0 } else { 5.0 };
    let bend = |x: f32, level: f32| match drive {
        Drive::Hard => x.clamp(-level, level),
        Drive::Soft => level * (x / level).tanh(),
        Drive::None => x,
    };
    let inside = || {
        spans
            .iter()
            .flat_map(|s| x.channels.iter().flat_map(|c| &c[s.clone()]))
    };
    let peak = inside().fold(0.0f32, |a, &v| a.max(v.abs()));
    let signal: f64 = inside().map(|&v| f64::from(v).powi(2)).sum();
    // The ratio falls as the level falls: bisection in dB under the peak.
    let (mut low, mut high) = (-80.0f32, 20.0f32);
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        let level = (peak * 10f32.powf(middle / 20.0)).max(1e-9);
        let error: f64 = inside()
            .map(|&v| f64::from(v - bend(v, level)).powi(2))
            .sum();
        if 10.0 * (signal / error.max(1e-30)).log10() < target_db {
            low = middle;
        } else {
            high = middle;
        }
    }
    let level = (peak * 10f32.powf(high / 20.0)).max(1e-9);
    let mut out = x.clone();
    for span in spans {
        for channel in &mut out.channels {
            channel[span.clone()]
                .iter_mut()
                .for_each(|v| *v = bend(*v, level));
        }
    }
    out
}

fn sum(stems: &Stems) -> AudioBuffer {
    let mut mix = stems[0].clone();
    for stem in &stems[1..] {
        for (sum, channel) in mix.channels.iter_mut().zip(&stem.channels) {
            sum.iter_mut().zip(channel).for_each(|(a, b)| *a += b);
        }
    }
    mix
}

/// One damaged song, taken apart and understood.
struct Case<'a> {
    song: &'a Song,
    /// Where it was overdriven, in samples.
    spans: Vec<Range<usize>>,
    throughout: bool,
    drive: Drive,
    base: AudioBuffer,
    stems: Stems,
    damage: [DamageMap; Stem::COUNT],
    profile: MusicalProfile,
}

impl<'a> Case<'a> {
    fn new(song: &'a Song, drive: Drive, throughout: bool, separated: bool) -> Result<Self> {
        let assess = |base: &AudioBuffer, stems: &Stems, take: &AudioBuffer| {
            quality::assess_stems(base, stems, &damage_map(take))
        };
        let frames = song.clean[0].frames();
        let spans: Vec<Range<usize>> = if throughout {
            std::iter::once(0..frames).collect()
        } else {
            let at = |share: f64| (share * frames as f64) as usize;
            SPANS.iter().map(|s| at(s.start)..at(s.end)).collect()
        };
        let mut stems = song.clean.clone();
        for stem in [Stem::Drums, Stem::Bass] {
            stems[stem as usize] = overdriven(&song.clean[stem as usize], drive, &spans);
        }
        let base = sum(&stems);
        if separated {
            let options = Options {
                regenerators: Regenerators::all(RegeneratorChoice::Off),
                ..Options::default()
            };
            let outcome = pipeline::run(&base, &options, None, &Progress::new())?;
            return Ok(Self {
                song,
                spans,
                throughout,
                drive,
                damage: assess(&outcome.base, &outcome.stems, &base),
                profile: outcome.findings.profile,
                base: outcome.base,
                stems: outcome.stems,
            });
        }
        let damage = assess(&base, &stems, &base);
        let profile = profile::analyse(&base, Some(&stems), &Progress::new())
            .context("the profile was cancelled")?;
        Ok(Self {
            song,
            spans,
            throughout,
            drive,
            base,
            stems,
            damage,
            profile,
        })
    }

    fn measure(&self, args: &Args, name: &str, table: &mut Table) {
        let mut row = |what: &str, value: Option<f64>| {
            table.add(args, &self.song.name, format!("{name}: {what}"), value);
        };
        if !self.throughout {
            for stem in [Stem::Drums, Stem::Bass] {
                let map = &self.damage[stem as usize];
                row(&format!("{} region AUC", stem.name()), self.auc(stem));
                let regions = quality::regions(map);
                row(
                    &format!("{} borders within 60 ms", stem.name()),
                    Some(self.borders(&regions)),
                );
            }
        }
        for (what, class) in [
            ("kick F 30 ms", &[DrumClass::Kick][..]),
            ("snare F 30 ms", &[DrumClass::Snare][..]),
            (
                "hat F 30 ms",
                &[DrumClass::HihatClosed, DrumClass::HihatOpen][..],
            ),
        ] {
            row(what, Some(self.hits(class)));
        }
        let bass = &self.profile.bass_notes;
        let seconds = self.base.seconds();
        row(
            "bass raw pitch accuracy",
            Some(raw_pitch_accuracy(
                &scores::pitch_track(&self.song.truth.bass, seconds),
                &scores::pitch_track(bass, seconds),
                50.0,
            )),
        );
        row(
            "bass notes F",
            Some(note_f(&self.song.truth.bass, bass, 0.05, 50.0)),
        );
        for stem in [Stem::Drums, Stem::Bass] {
            self.rebuild(stem, &mut row);
        }
        self.by_itself(&mut row);
    }

    /// What the pipeline does without being told where: how much of the damage its regions cover, what else they
    /// flag, and what of the mix it changes in the end.
    fn by_itself(&self, row: &mut impl FnMut(&str, Option<f64>)) {
        let clean = sum(&self.song.clean).mono();
        let base = self.base.mono();
        let mut heard = base.clone();
        let rate = f64::from(self.base.sample_rate);
        for stem in [Stem::Drums, Stem::Bass] {
            let damage = &self.damage[stem as usize];
            let regions = quality::regions(damage);
            let (mut inside, mut outside) = ((0, 0), (0, 0));
            for (i, frame) in damage.frames.iter().enumerate() {
                let t = (i as f64 + 0.5) / FRAMES_PER_SECOND as f64;
                let driven = self.drive != Drive::None
                    && self
                        .spans
                        .iter()
                        .any(|s| s.contains(&((t * rate) as usize)));
                let found = if driven {
                    regions.iter().any(|r| t >= r.start && t < r.end)
                } else {
                    frame[DamageKind::Clipping as usize].max(frame[DamageKind::Saturation as usize])
                        >= DEFAULT_THRESHOLD
                };
                let count = if driven { &mut inside } else { &mut outside };
                count.0 += usize::from(found);
                count.1 += 1;
            }
            let share = |(found, of): (usize, usize)| (of > 0).then(|| found as f64 / of as f64);
            row(&format!("{} found", stem.name()), share(inside));
            row(
                &format!("{} sound frames flagged", stem.name()),
                share(outside),
            );
            let request = Request {
                stem,
                separated: &self.stems[stem as usize],
                mix: &self.base,
                damage,
                regions: &regions,
                profile: &self.profile,
                style: "",
                seed: 1,
            };
            if regions.is_empty() {
                continue;
            }
            if let Ok(Some(rebuilt)) = Resynthesis.regenerate(&request, &Progress::new()) {
                let mut layer = blend::layer(&request, &rebuilt);
                blend::gate::gate(&request, &mut layer);
                let kept = layer.wetness.iter().filter(|w| w.1 > 0.0).count();
                row(
                    &format!("{} found spans kept by the gate", stem.name()),
                    Some(kept as f64 / layer.wetness.len().max(1) as f64),
                );
                let layer = layer.audio.mono();
                heard.iter_mut().zip(layer).for_each(|(a, b)| *a += b);
            }
        }
        let whole = |x: &[f32]| distance::multi_resolution_stft_distance(&clean, x);
        let (Some(before), Some(after)) = (whole(&base), whole(&heard)) else {
            return;
        };
        if self.drive == Drive::None {
            row("by itself, mix, STFT distance before", Some(before));
            row("by itself, mix, STFT distance after", Some(after));
            return;
        }
        row(
            "by itself, mix, STFT, % change",
            Some(100.0 * (after / before - 1.0)),
        );
        let inside = |x: &[f32]| self.distance(&clean, x);
        if let (Some(before), Some(after)) = (inside(&base), inside(&heard)) {
            row(
                "by itself, mix in the spans, STFT, % change",
                Some(100.0 * (after / before - 1.0)),
            );
        }
    }

    /// Area under the ROC curve of a stem's severity over its frames that sound.
    fn auc(&self, stem: Stem) -> Option<f64> {
        let clean = &self.song.clean[stem as usize];
        let samples = clean.mono();
        let hop = f64::from(clean.sample_rate) / FRAMES_PER_SECOND as f64;
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        for (i, frame) in self.damage[stem as usize].frames.iter().enumerate() {
            let from = ((i as f64 * hop) as usize).min(samples.len());
            let to = (((i + 1) as f64 * hop) as usize).min(samples.len());
            let loudest = samples[from..to]
                .iter()
                .fold(0.0f32, |a, &v| a.max(v.abs()));
            if loudest < 1e-3 {
                continue;
            }
            let severity =
                frame[DamageKind::Clipping as usize].max(frame[DamageKind::Saturation as usize]);
            let hit = self.spans.iter().any(|s| s.contains(&((from + to) / 2)));
            if hit { &mut inside } else { &mut outside }.push(severity);
        }
        scores::auc(&inside, &outside)
    }

    /// Share of the spans' borders that a region's border is near.
    fn borders(&self, regions: &[Region]) -> f64 {
        let rate = f64::from(self.base.sample_rate);
        let near = |at: usize, border: fn(&Region) -> f64| {
            let at = at as f64 / rate;
            regions
                .iter()
                .any(|r| (border(r) - at).abs() <= EDGE_SECONDS)
        };
        let found = self
            .spans
            .iter()
            .map(|s| usize::from(near(s.start, |r| r.start)) + usize::from(near(s.end, |r| r.end)));
        found.sum::<usize>() as f64 / (2 * self.spans.len()) as f64
    }

    fn hits(&self, classes: &[DrumClass]) -> f64 {
        let mut truth: Vec<f64> = self
            .song
            .truth
            .drums
            .iter()
            .filter(|h| classes.contains(&h.0))
            .map(|h| h.1)
            .collect();
        truth.sort_by(f64::total_cmp);
        let found: Vec<f64> = (self.profile.drums.iter())
            .filter(|h| classes.contains(&h.class))
            .map(|h| h.t)
            .collect();
        event_f(&truth, &found, HIT_SECONDS)
    }

    /// Rebuilds `stem` in the known spans, and compares.
    fn rebuild(&self, stem: Stem, row: &mut impl FnMut(&str, Option<f64>)) {
        let rate = f64::from(self.base.sample_rate);
        let regions: Vec<Region> = (self.spans.iter())
            .map(|s| Region {
                start: s.start as f64 / rate,
                end: s.end as f64 / rate,
                kind: DamageKind::Saturation,
                severity: 1.0,
            })
            .collect();
        let request = Request {
            stem,
            separated: &self.stems[stem as usize],
            mix: &self.base,
            damage: &self.damage[stem as usize],
            regions: &regions,
            profile: &self.profile,
            style: "",
            seed: 1,
        };
        let started = Instant::now();
        let Ok(Some(rebuilt)) = Resynthesis.regenerate(&request, &Progress::new()) else {
            row(&format!("{} not rebuilt", stem.name()), Some(1.0));
            return;
        };
        let mut layer = blend::layer(&request, &rebuilt);
        let speed = self.base.seconds() / started.elapsed().as_secs_f64();
        row(
            &format!("{} synthesis x real time", stem.name()),
            Some(speed),
        );
        let clean = self.song.clean[stem as usize].mono();
        let damaged = self.stems[stem as usize].mono();
        let with = |layer: &AudioBuffer| -> Vec<f32> {
            damaged
                .iter()
                .zip(layer.mono())
                .map(|(a, b)| a + b)
                .collect()
        };
        let rebuilt = with(&layer.audio);
        let change = |x: &[f32]| {
            let before = self.distance(&clean, &damaged).filter(|d| *d > 0.0)?;
            Some(100.0 * (self.distance(&clean, x)? / before - 1.0))
        };
        row(
            &format!("{} STFT distance, damaged", stem.name()),
            self.distance(&clean, &damaged),
        );
        row(
            &format!("{} STFT distance, % change", stem.name()),
            change(&rebuilt),
        );
        // What is heard in the end.
        let mix = |layer: &AudioBuffer| -> Option<f64> {
            let clean = sum(&self.song.clean).mono();
            let base = self.base.mono();
            let with: Vec<f32> = base.iter().zip(layer.mono()).map(|(a, b)| a + b).collect();
            let (before, after) = (self.distance(&clean, &base)?, self.distance(&clean, &with)?);
            // A sound recording can only get worse: then how much.
            Some(if before > 0.0 {
                100.0 * (after / before - 1.0)
            } else {
                after
            })
        };
        let heard = mix(&layer.audio);
        row(
            &format!("{} in the mix, STFT, % change", stem.name()),
            heard,
        );
        let envelope = |x: &[f32]| {
            let parts: Vec<f64> = (self.spans.iter())
                .filter_map(|s| scores::onset_correlation(&clean[s.clone()], &x[s.clone()]))
                .collect();
            Some(parts.iter().sum::<f64>() / parts.len() as f64)
        };
        if stem == Stem::Drums {
            row("drums onset correlation, damaged", envelope(&damaged));
            row("drums onset correlation, rebuilt", envelope(&rebuilt));
        } else {
            for (what, x) in [("damaged", &damaged), ("rebuilt", &rebuilt)] {
                let parts: Vec<f64> = (self.spans.iter())
                    .map(|s| scores::low_bands_db(&clean[s.clone()], &x[s.clone()], rate))
                    .collect();
                row(
                    &format!("bass below 200 Hz, dB off, {what}"),
                    Some(parts.iter().sum::<f64>() / parts.len() as f64),
                );
            }
        }
        // How often the gate is right, where it has a neighbourhood to judge by.
        if !self.throughout {
            let helps = change(&rebuilt).is_some_and(|c| c < 0.0);
            blend::gate::gate(&request, &mut layer);
            let kept = layer.wetness.iter().filter(|w| w.1 > 0.0).count();
            row(
                &format!("{} spans kept by the gate", stem.name()),
                Some(kept as f64 / layer.wetness.len().max(1) as f64),
            );
            row(
                &format!("{} gated STFT, % change", stem.name()),
                change(&with(&layer.audio)),
            );
            row(
                &format!("{} gated, in the mix, % change", stem.name()),
                mix(&layer.audio),
            );
            row(
                &format!("{} rebuild helps", stem.name()),
                Some(f64::from(u8::from(helps))),
            );
        }
    }

    /// Mean multi-resolution STFT distance over the spans.
    fn distance(&self, clean: &[f32], x: &[f32]) -> Option<f64> {
        let parts: Option<Vec<f64>> = (self.spans.iter())
            .map(|s| distance::multi_resolution_stft_distance(&clean[s.clone()], &x[s.clone()]))
            .collect();
        parts.map(|p| p.iter().sum::<f64>() / p.len() as f64)
    }
}
