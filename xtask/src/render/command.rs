// [cli] `cargo xtask render`: a file through the bundled plugin, as a host would play and bounce it.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use uncook::audio::AudioBuffer;

use super::{Blocks, Pace, Pass, Played, play, rest, wait_for_worker};
use crate::{
    automation,
    host::{HostedPlugin, RenderMode},
    workspace,
};

/// Plays a file through the bundled plugin and writes what comes out.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Audio file to play.
    pub input: PathBuf,
    /// Float WAV to write: as long as the input, latency taken off.
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// Plugin to load [default: the bundle in target/bundled].
    #[arg(long)]
    pub plugin: Option<PathBuf>,
    /// Samples in a block.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub block: u32,
    /// Blocks of every length up to --block, in an order that this seed decides.
    #[arg(long, value_name = "SEED")]
    pub block_random: Option<u64>,
    /// Sample rate in Hz; the input is resampled first.
    #[arg(long, value_parser = clap::value_parser!(u32).range(8_000..=192_000))]
    pub rate: Option<u32>,
    /// Plays the mean of the channels through the plugin's mono layout.
    #[arg(long)]
    pub mono: bool,
    /// Last pass in CLAP's offline render mode, as a host bounces.
    #[arg(long, conflicts_with = "realtime")]
    pub offline: bool,
    /// Keep the pace of a clock, as a host plays; without it audio runs as fast as it can.
    #[arg(long)]
    pub realtime: bool,
    /// Sets a parameter before audio runs: a number in the host's range or the plugin's own text,
    /// like repair=0 or "output_gain=-6 dB".
    #[arg(long, value_name = "ID=VALUE")]
    pub param: Vec<String>,
    /// Text file with `<seconds> <parameter> <value> [linear]` lines, for the last pass.
    #[arg(long, value_name = "FILE")]
    pub automation: Option<PathBuf>,
    /// Reads the plugin's state before anything else.
    #[arg(long, value_name = "FILE")]
    pub load_state: Option<PathBuf>,
    /// Writes the plugin's state after everything else.
    #[arg(long, value_name = "FILE")]
    pub save_state: Option<PathBuf>,
    /// Song position of the file's first sample, in seconds.
    #[arg(long, default_value_t = 0.0)]
    pub start: f64,
    /// How often to play the file; the last pass is written.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub passes: u32,
    /// Silence between passes in seconds, transport stopped.
    #[arg(long, default_value_t = 1.0)]
    pub gap: f64,
    /// After each pass but the last (after the only one, if there is one) stops the transport and lets
    /// the plugin finish its analysis, at most this many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<f64>,
}

/// Runs the command.
///
/// # Errors
/// In plain words, for the one who typed it.
pub fn run(args: &Args) -> Result<()> {
    ensure!(
        args.gap.is_finite() && args.gap >= 0.0,
        "--gap takes 0 seconds or more"
    );
    ensure!(args.start.is_finite(), "--start takes a time in seconds");
    let input = read_input(args)?;
    let path = match &args.plugin {
        Some(path) => path.clone(),
        None => workspace::bundled_clap()?,
    };
    let mut plugin = HostedPlugin::load(&path)?;
    plugin.select_channels(input.channels.len())?;
    if let Some(file) = &args.load_state {
        let state =
            std::fs::read(file).with_context(|| format!("{} can't be read", file.display()))?;
        plugin.state_load(&state)?;
    }
    for setting in &args.param {
        let (key, value) = setting
            .split_once('=')
            .with_context(|| format!("--param {setting}: expected ID=VALUE"))?;
        let param = plugin.param(key)?;
        let value = plugin.read_value(&param, value)?;
        plugin.set_params(&[(param.id, value)])?;
    }
    let changes = match &args.automation {
        None => Vec::new(),
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("{} can't be read", file.display()))?;
            let lines = automation::parse(&text).with_context(|| file.display().to_string())?;
            automation::resolve(&lines, &mut plugin, input.sample_rate)?
        }
    };
    let played = passes(args, &mut plugin, &input, &changes)?;
    report(&played, &plugin);
    for complaint in plugin.take_complaints() {
        println!("the plugin logged: {complaint}");
    }
    if let Some(file) = &args.save_state {
        std::fs::write(file, plugin.state_save()?)
            .with_context(|| format!("{} can't be written", file.display()))?;
    }
    if let Some(file) = &args.output {
        played.audio.write_wav_f32(file)?;
        println!("wrote {}", file.display());
    }
    ensure!(
        played.non_finite() == 0,
        "{} samples are not finite",
        played.non_finite()
    );
    Ok(())
}

fn read_input(args: &Args) -> Result<AudioBuffer> {
    let mut audio = AudioBuffer::read(&args.input)?;
    if args.mono || audio.channels.len() == 1 {
        audio = AudioBuffer::new(vec![audio.mono()], audio.sample_rate);
    }
    ensure!(
        audio.channels.len() <= 2,
        "the file has {} channels; Uncook takes one or two",
        audio.channels.len()
    );
    Ok(match args.rate {
        Some(rate) if rate != audio.sample_rate => audio.resampled(rate),
        _ => audio,
    })
}

/// Plays every pass and returns the last.
fn passes(
    args: &Args,
    plugin: &mut HostedPlugin,
    input: &AudioBuffer,
    changes: &[automation::Change],
) -> Result<Played> {
    let max = args.block as usize;
    let blocks = match args.block_random {
        Some(seed) => Blocks::Random { seed, max },
        None => Blocks::Fixed(max),
    };
    let (capture_pace, last_pace) = match (args.realtime, args.offline) {
        (true, _) => (Pace::Realtime, Pace::Realtime),
        (false, true) => (Pace::Draining, Pace::Free),
        (false, false) => (Pace::Draining, Pace::Draining),
    };
    let last_mode = if args.offline {
        RenderMode::Offline
    } else {
        RenderMode::Realtime
    };
    let start = (args.start * f64::from(input.sample_rate)).round() as i64;
    let end = start + input.frames() as i64;
    let wait = |plugin: &mut HostedPlugin, after| -> Result<()> {
        if let Some(seconds) = args.wait {
            let limit = Duration::try_from_secs_f64(seconds).context("--wait takes seconds")?;
            let commits = wait_for_worker(plugin, end, limit, after)?;
            println!("after waiting, the plugin holds {commits} commit(s)");
        }
        Ok(())
    };
    plugin.activate(input.sample_rate, max)?;
    for _ in 1..args.passes {
        let pass = Pass {
            blocks,
            pace: capture_pace,
            start,
            changes: &[],
        };
        play(plugin, input, &pass)?;
        rest(plugin, end, args.gap, blocks, capture_pace)?;
        wait(plugin, RenderMode::Realtime)?;
    }
    if last_mode == RenderMode::Offline {
        plugin.set_render_mode(last_mode)?;
    }
    let pass = Pass {
        blocks,
        pace: last_pace,
        start,
        changes,
    };
    let played = play(plugin, input, &pass)?;
    if args.passes == 1 {
        wait(plugin, last_mode)?;
    }
    Ok(played)
}

fn report(played: &Played, plugin: &HostedPlugin) {
    let rate = f64::from(played.audio.sample_rate);
    println!(
        "{} {}: {} channel(s), {} Hz, {:.2} s",
        plugin.descriptor().name,
        plugin.descriptor().version,
        played.audio.channels.len(),
        played.audio.sample_rate,
        played.audio.seconds()
    );
    println!(
        "latency {} samples ({:.2} ms), taken off",
        played.latency,
        1e3 * played.latency as f64 / rate
    );
    let finite = match played.non_finite() {
        0 => "all samples finite".to_owned(),
        n => format!("{n} samples NOT finite"),
    };
    println!(
        "{finite}, peak {:.2} dBFS",
        20.0 * f64::from(played.peak()).log10()
    );
    println!("{}", played.timing);
}
