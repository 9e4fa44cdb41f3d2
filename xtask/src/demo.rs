// [cli] `cargo xtask demo`: a damaged song through the bundled plugin, as a producer would do it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use uncook::{
    audio::AudioBuffer,
    cache::commits::{self, CommitRef},
    metrics::distance::multi_resolution_stft_distance,
};

use crate::{
    automation, bundle,
    host::{HostedPlugin, RenderMode, state_field},
    picture::{self, Span},
    render::{Blocks, Pace, Pass, first_difference, play, rest, wait_for_worker},
    song::{self, Song},
    workspace,
};

/// Length of the demo's own song.
const SONG_SECONDS: f64 = 12.0;
/// The worker's limit.
const WORKER_LIMIT: Duration = Duration::from_secs(1_800);
/// The host's block while it plays.
const BLOCK: usize = 512;
/// Decides the block sizes of the second bounce.
const RANDOM_BLOCKS_SEED: u64 = 20;
/// Where the plugin keeps sidecars and cache.
pub(crate) const DATA_DIR: &str = "UNCOOK_DATA_DIR";

/// Shows what Uncook does: builds the plugin, plays a damaged song once, waits for the analysis, bounces.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// A damaged song [default: a made-up band, damaged like a phone recording].
    pub song: Option<PathBuf>,
    /// Use the bundle and the command line that are there.
    #[arg(long)]
    pub no_build: bool,
}

/// Runs the demo. To be called before any thread is started.
///
/// # Errors
/// In plain words, for the one who typed it; also if two bounces differ.
pub fn run(args: &Args) -> Result<()> {
    let target = workspace::target_dir()?;
    let folder = target.join("demo");
    let data = folder.join("data");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&data)?;
    // SAFETY: no other thread runs yet; the plugin reads the variable when it is loaded, below.
    unsafe { std::env::set_var(DATA_DIR, &data) };

    if !args.no_build {
        println!("Building the plugin …");
        bundle::run(&bundle::Args {
            release: true,
            ..Default::default()
        })?;
    }
    let (input, made) = match &args.song {
        Some(path) => (AudioBuffer::read(path)?, None),
        None => {
            println!("Composing and damaging a song …");
            let song = song::song(SONG_SECONDS);
            (song.damaged.clone(), Some(song))
        }
    };
    ensure!(
        (1..=2).contains(&input.channels.len()),
        "the song has {} channels; Uncook takes one or two",
        input.channels.len()
    );
    let before = folder.join("before.wav");
    input.write_wav_f32(&before)?;

    let session = session(&input, &data.join("commits"))?;
    let after = folder.join("after.wav");
    session.bounce.write_wav_f32(&after)?;
    fs::write(folder.join("session.state"), &session.state)?;

    println!("Measuring before and after …");
    let analyses = [analyse(&before)?, analyse(&after)?];
    let spans = [spans(&analyses[0])?, spans(&analyses[1])?];
    let picture = folder.join("before_after.png");
    picture::before_after(&picture, (&input, &spans[0]), (&session.bounce, &spans[1]))?;

    let distances = made
        .as_ref()
        .map(|song| distances(song, &input, &session.bounce));
    let [analysis_before, analysis_after] = analyses;
    tell(
        &analysis_before,
        &analysis_after,
        &session,
        distances.flatten(),
    );
    let report = json!({
        "song": args.song.as_ref().map(|p| p.display().to_string()),
        "before": analysis_before,
        "after": analysis_after,
        "done": session.lines,
        "plugin": {
            "name": session.name,
            "version": session.version,
            "latency_samples": session.latency,
            "commits": session.commits,
            "analysis_seconds": session.analysis_seconds,
            "block_time_median": session.block_time.0,
            "block_time_p999": session.block_time.1,
        },
        "bounces_identical": true,
        "truth": made.as_ref().map(|song| json!({
            "overdriven_seconds": [song.overdriven.0, song.overdriven.1],
            "clip_level": song.clip_level,
            "distance_to_clean": distances.flatten().map(|d| json!({"before": d.0, "after": d.1})),
        })),
    });
    let report_file = folder.join("report.json");
    fs::write(&report_file, serde_json::to_string_pretty(&report)?)?;
    println!("\nListen and look:");
    for file in [&before, &after, &picture, &report_file] {
        println!("  {}", file.display());
    }
    Ok(())
}

/// What the host saw.
struct Session {
    name: String,
    version: String,
    latency: usize,
    commits: usize,
    analysis_seconds: f64,
    /// Median and 99.9th percentile, as shares of a block, while playing.
    block_time: (f64, f64),
    bounce: AudioBuffer,
    state: Vec<u8>,
    /// What was damaged and what was done, as the worker tells it.
    lines: Vec<String>,
}

/// Play, wait, bounce; close, open, bounce again.
fn session(input: &AudioBuffer, sidecars: &Path) -> Result<Session> {
    let path = workspace::bundled_clap()?;
    let blocks = Blocks::Fixed(BLOCK);
    let end = input.frames() as i64;
    let mut plugin = HostedPlugin::load(&path)?;
    plugin.select_channels(input.channels.len())?;
    // What a producer would turn up on a phone recording: the lows it lost, and some tone.
    let ride = format!(
        "0 bass 1\n0 eq_match 0.5\n0 blend_drums 0\n{half} blend_drums 1 linear\n{all} blend_drums 0 linear\n",
        half = input.seconds() / 2.0,
        all = input.seconds()
    );
    let ride = automation::resolve(&automation::parse(&ride)?, &mut plugin, input.sample_rate)?;

    println!("Playing the song once ({:.1} s) …", input.seconds());
    // Rebuilt from end to end, to be heard: by default only what measures better is rebuilt.
    plugin.rebuild_everywhere()?;
    plugin.activate(input.sample_rate, BLOCK)?;
    let capture = Pass {
        blocks,
        pace: Pace::Draining,
        start: 0,
        changes: &[],
    };
    let captured = play(&mut plugin, input, &capture)?;
    rest(&mut plugin, end, 0.5, blocks, Pace::Draining)?;

    println!("Waiting for the analysis …");
    let began = Instant::now();
    let count = wait_for_worker(&mut plugin, end, WORKER_LIMIT, RenderMode::Offline)?;
    let analysis_seconds = began.elapsed().as_secs_f64();
    if count == 0 {
        bail!(
            "the analysis gave nothing within {analysis_seconds:.0} s; the plugin said: {}",
            plugin.take_complaints().join("; ")
        );
    }

    println!(
        "Bouncing: bass extension 100 %, EQ match 50 %, the drums blend ridden from 0 to 1 and back …"
    );
    let pass = Pass {
        blocks,
        pace: Pace::Free,
        start: 0,
        changes: &ride,
    };
    let bounced = play(&mut plugin, input, &pass)?;
    ensure!(
        bounced.non_finite() == 0,
        "{} samples of the bounce are not finite",
        bounced.non_finite()
    );
    plugin.deactivate();
    let state = plugin.state_save()?;
    let lines = findings(&state, sidecars)?;
    let descriptor = plugin.descriptor().clone();
    drop(plugin);

    println!("Opening the project anew and bouncing again, in other block sizes …");
    let mut reopened = HostedPlugin::load(&path)?;
    reopened.select_channels(input.channels.len())?;
    reopened.state_load(&state)?;
    reopened.set_render_mode(RenderMode::Offline)?;
    reopened.activate(input.sample_rate, BLOCK)?;
    let random = Pass {
        blocks: Blocks::Random {
            seed: RANDOM_BLOCKS_SEED,
            max: BLOCK,
        },
        ..pass
    };
    let again = play(&mut reopened, input, &random)?;
    if let Some((channel, frame)) = first_difference(&bounced.audio, &again.audio) {
        bail!("the two bounces differ, first in channel {channel} at sample {frame}");
    }
    Ok(Session {
        name: descriptor.name,
        version: descriptor.version,
        latency: bounced.latency,
        commits: count,
        analysis_seconds,
        block_time: (
            captured.timing.quantile(0.5),
            captured.timing.quantile(0.999),
        ),
        bounce: bounced.audio,
        state,
        lines,
    })
}

/// The worker's own words, which lie beside the audio of each commit.
fn findings(state: &[u8], sidecars: &Path) -> Result<Vec<String>> {
    let session = state_field(state, "session")?.context("the state has no session")?;
    let commits: Vec<CommitRef> = serde_json::from_value(session["commits"].clone())?;
    let mut lines = Vec::new();
    for commit in &commits {
        let (_, notes) = commits::load(&[sidecars], commit)?;
        let notes: Value = serde_json::from_str(&notes)?;
        let told = notes["findings"]["lines"].as_array();
        let told = told.context("a commit does not say what was done")?;
        lines.extend(told.iter().filter_map(Value::as_str).map(str::to_owned));
    }
    Ok(lines)
}

/// `uncook analyze --json`, by the command line that was built with the plugin.
fn analyse(file: &Path) -> Result<Value> {
    let program = workspace::target_dir()?
        .join("release")
        .join(format!("uncook{}", std::env::consts::EXE_SUFFIX));
    let output = Command::new(&program)
        .arg("analyze")
        .arg(file)
        .arg("--json")
        .output()
        .with_context(|| {
            format!(
                "{} can't be run: run the demo without --no-build",
                program.display()
            )
        })?;
    ensure!(
        output.status.success(),
        "uncook analyze {}: {}",
        file.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    serde_json::from_slice(&output.stdout).context("uncook analyze gave no JSON")
}

/// The damage list of an analysis.
fn spans(analysis: &Value) -> Result<Vec<Span>> {
    let entries = analysis["damage"]
        .as_array()
        .context("the analysis has no damage list")?;
    entries
        .iter()
        .map(|entry| {
            let number = |field: &str| {
                entry[field]
                    .as_f64()
                    .with_context(|| format!("a damage entry has no {field}"))
            };
            Ok(Span {
                start: number("start")?,
                end: number("end")?,
                kind: serde_json::from_value(entry["kind"].clone())?,
                severity: number("severity")? as f32,
                row: entry["stem"].as_str().unwrap_or("mix").to_owned(),
            })
        })
        .collect()
}

/// How far the mono mixes before and after are from the clean song, which only a made-up song has.
fn distances(song: &Song, before: &AudioBuffer, after: &AudioBuffer) -> Option<(f64, f64)> {
    let clean = song.clean.mono();
    Some((
        multi_resolution_stft_distance(&clean, &before.mono())?,
        multi_resolution_stft_distance(&clean, &after.mono())?,
    ))
}

/// The story in plain words.
fn tell(before: &Value, after: &Value, session: &Session, distances: Option<(f64, f64)>) {
    println!("\nWhat was damaged and what was done:");
    for line in &session.lines {
        println!("  {line}");
    }
    println!("\nMeasured (before → after):");
    let quality = |analysis: &Value, field: &str, scale: f64| {
        analysis["quality"][field]
            .as_f64()
            .map_or_else(|| "unknown".to_owned(), |v| format!("{:.1}", v * scale))
    };
    for (field, scale, name) in [
        ("clipping_share", 100.0, "clipped samples, %"),
        ("snr_db", 1.0, "signal to noise, dB"),
        ("lufs", 1.0, "loudness, LUFS"),
        ("true_peak_dbtp", 1.0, "true peak, dBTP"),
        ("centroid_hz", 1.0, "spectral centroid, Hz"),
    ] {
        let (b, a) = (quality(before, field, scale), quality(after, field, scale));
        println!("  {name}: {b} → {a}");
    }
    if let Some((b, a)) = distances {
        println!("  spectral distance to the clean song: {b:.2} → {a:.2}");
    }
    println!(
        "\nThe analysis took {:.1} s. Live repair took {:.1} % of a core (median block; 99.9 %: {:.1} %).",
        session.analysis_seconds,
        100.0 * session.block_time.0,
        100.0 * session.block_time.1
    );
    println!(
        "Latency {} samples, taken off. Two bounces, the second after reopening: identical in every bit.",
        session.latency
    );
}
