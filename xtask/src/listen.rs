// [cli] `cargo xtask listen`: every version of damaged songs side by side, for ears and for metrics.

mod page;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use uncook::{
    audio::AudioBuffer,
    metrics::{distance, loudness, timbre},
    realtime::Settings,
    worker::{
        offline,
        options::{Options, RegeneratorChoice, Regenerators},
        progress::Progress,
    },
};

use crate::{picture, workspace};

/// Stem files of a song folder, which sum to its clean mix.
const STEMS: [&str; 4] = ["drums", "bass", "other", "vocals"];

/// Restores damaged recordings in every way Uncook can and writes a page to compare them by ear at the
/// same loudness. Where the clean original lies beside them, distances to it are measured too.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Audio files, or folders of songs: each with `damaged/*.flac`, and `drums|bass|other|vocals.flac`
    /// that sum to the clean mix.
    #[arg(required = true)]
    pub inputs: Vec<PathBuf>,
    /// Folder to write to [default: target/listen].
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// Damages taken from a song's folder, by file name.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "stem_hard_4,stem_soft_5,gig_mid"
    )]
    pub presets: Vec<String>,
}

/// One damaged recording in all its versions.
pub struct Item {
    /// `song, preset`.
    pub title: String,
    pub versions: Vec<Version>,
}

/// What can be heard of it.
pub struct Version {
    pub name: &'static str,
    /// Relative to the page.
    pub audio: String,
    pub picture: String,
    /// Gain in dB that brings it to the loudness of the softest version: never above 0.
    pub gain_db: f64,
    pub distances: Option<Distances>,
}

/// How far a version is from the clean original at the same level; less is nearer.
#[derive(Clone, Copy, Debug)]
pub struct Distances {
    /// [`distance::multi_resolution_stft_distance`].
    pub spectrum: f64,
    /// [`timbre::mel_cepstral_distance_db`].
    pub timbre_db: f64,
    /// [`timbre::modulation_distance_db`]; `None` under 2.6 s.
    pub movement_db: Option<f64>,
}

/// A recording to work on.
struct Source {
    title: String,
    damaged: AudioBuffer,
    clean: Option<AudioBuffer>,
}

/// Runs the command.
///
/// # Errors
/// If an input can't be read or the folder can't be written.
pub fn run(args: &Args) -> Result<()> {
    let folder = match &args.output {
        Some(folder) => folder.clone(),
        None => workspace::target_dir()?.join("listen"),
    };
    fs::create_dir_all(&folder)
        .with_context(|| format!("{} can't be created", folder.display()))?;
    let mut sources = Vec::new();
    for input in &args.inputs {
        if input.is_dir() {
            song_sources(input, &args.presets, &mut sources)?;
        } else {
            let title = file_stem(input);
            let damaged = AudioBuffer::read(input)?;
            sources.push(Source {
                title,
                damaged,
                clean: None,
            });
        }
    }
    ensure!(
        !sources.is_empty(),
        "nothing to listen to: no folder has a damaged/ with {}",
        args.presets.join(" or ")
    );
    let mut items = Vec::new();
    for source in sources {
        println!("{}", source.title);
        let item = item(source, &folder)?;
        for version in &item.versions {
            match version.distances {
                Some(d) => println!(
                    "  {:<22} spectrum {:.3}, timbre {:.2} dB, movement {} dB",
                    version.name,
                    d.spectrum,
                    d.timbre_db,
                    d.movement_db.map_or("–".to_owned(), |m| format!("{m:.2}")),
                ),
                None => println!("  {}", version.name),
            }
        }
        items.push(item);
    }
    let page = folder.join("index.html");
    fs::write(&page, page::html(&items))
        .with_context(|| format!("{} can't be written", page.display()))?;
    println!("Open {} in a browser.", page.display());
    Ok(())
}

fn file_stem(path: &Path) -> String {
    path.file_stem()
        .map_or_else(String::new, |s| s.to_string_lossy().into_owned())
}

/// The damaged recordings of a song's folder, or of all songs in a folder of songs, in order of name.
fn song_sources(folder: &Path, presets: &[String], out: &mut Vec<Source>) -> Result<()> {
    if !folder.join("damaged").is_dir() {
        let mut inner: Vec<PathBuf> = fs::read_dir(folder)
            .with_context(|| format!("{} can't be read", folder.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.join("damaged").is_dir())
            .collect();
        inner.sort();
        for song in inner {
            song_sources(&song, presets, out)?;
        }
        return Ok(());
    }
    let stems = STEMS.map(|stem| folder.join(format!("{stem}.flac")));
    let clean = if stems.iter().all(|s| s.is_file()) {
        let mut sum: Option<Vec<f32>> = None;
        let mut rate = 0;
        for stem in &stems {
            let audio = AudioBuffer::read(stem)?;
            rate = audio.sample_rate;
            let mono = audio.mono();
            match &mut sum {
                None => sum = Some(mono),
                Some(sum) => sum.iter_mut().zip(&mono).for_each(|(a, b)| *a += b),
            }
        }
        sum.map(|sum| AudioBuffer::new(vec![sum], rate))
    } else {
        None
    };
    for preset in presets {
        let file = folder.join("damaged").join(format!("{preset}.flac"));
        if !file.is_file() {
            continue;
        }
        let damaged = AudioBuffer::read(&file)?;
        let clean = clean.as_ref().and_then(|clean| {
            let same =
                clean.sample_rate == damaged.sample_rate && clean.frames() >= damaged.frames();
            same.then(|| clean.slice(0, damaged.frames()))
        });
        out.push(Source {
            title: format!("{}, {preset}", file_stem(folder)),
            damaged,
            clean,
        });
    }
    Ok(())
}

fn item(source: Source, folder: &Path) -> Result<Item> {
    let restored = |regenerator| -> Result<AudioBuffer> {
        let options = Options {
            regenerators: Regenerators::all(regenerator),
            ..Options::default()
        };
        let settings = Settings::default();
        let progress = Progress::new();
        Ok(offline::restore(&source.damaged, &options, None, &settings, None, &progress)?.audio)
    };
    let mut audio = vec![("damaged", source.damaged.clone())];
    for (name, choice) in [
        ("restored only", RegeneratorChoice::Off),
        ("rebuilt where better", RegeneratorChoice::Resynthesis),
        ("rebuilt everywhere", RegeneratorChoice::Everywhere),
    ] {
        audio.push((name, restored(choice)?));
    }
    audio.extend(source.clean.clone().map(|clean| ("clean original", clean)));
    let loudness: Vec<Option<f64>> = audio
        .iter()
        .map(|(_, a)| loudness::integrated_lufs(a))
        .collect();
    let softest = loudness
        .iter()
        .flatten()
        .fold(f64::INFINITY, |m, &l| m.min(l));
    let mut versions = Vec::new();
    for ((name, audio), loudness) in audio.into_iter().zip(loudness) {
        let stem: String = format!("{} {name}", source.title)
            .chars()
            .map(|c| if c.is_alphanumeric() { c } else { '_' })
            .collect();
        let file = format!("{stem}.wav");
        let image = format!("{stem}.png");
        audio.write_wav_f32(&folder.join(&file))?;
        picture::waveform_and_spectrogram(&folder.join(&image), &audio)?;
        let distances = source
            .clean
            .as_ref()
            .and_then(|clean| distances(&clean.mono(), &audio.mono(), audio.sample_rate));
        versions.push(Version {
            name,
            audio: file,
            picture: image,
            gain_db: loudness.map_or(0.0, |l| softest - l),
            distances,
        });
    }
    Ok(Item {
        title: source.title,
        versions,
    })
}

/// Distances of `version` to `clean` after a change of gain that gives both the same power.
fn distances(clean: &[f32], version: &[f32], sample_rate: u32) -> Option<Distances> {
    let power = |x: &[f32]| x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
    let gain = (power(clean) / power(version)).sqrt();
    if !gain.is_finite() || gain == 0.0 {
        return None;
    }
    let version: Vec<f32> = version
        .iter()
        .map(|&x| (f64::from(x) * gain) as f32)
        .collect();
    Some(Distances {
        spectrum: distance::multi_resolution_stft_distance(clean, &version)?,
        timbre_db: timbre::mel_cepstral_distance_db(clean, &version, sample_rate)?,
        movement_db: timbre::modulation_distance_db(clean, &version, sample_rate),
    })
}
