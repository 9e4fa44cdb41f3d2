// [cli] `cargo xtask load`: many instances in one process, all with long takes that wait for their analysis.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use uncook::audio::AudioBuffer;

use crate::{
    host::HostedPlugin,
    render::{Blocks, Pace, Pass, Timing, commits, first_difference, play_on},
    workspace,
};

/// How often the process's memory is looked at.
const MEMORY_TICK: Duration = Duration::from_millis(20);
/// Seconds that the instance that is listened to plays between two looks at the others.
const STRETCH_SECONDS: f64 = 1.0;

/// Plays a file through many instances, each from another place of it, then plays one more instance in real time while
/// the others' takes are analysed, and says what that cost: late blocks, memory, who was served when, and whether an
/// output differed from that of an instance alone.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Audio file that every instance plays.
    pub input: PathBuf,
    /// How many instances.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub instances: u32,
    /// Minutes that each instance plays, the file over and over; without it, the file once.
    #[arg(long)]
    pub minutes: Option<f64>,
    /// Samples in a block.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=8_192))]
    pub block: u32,
    /// Most seconds to wait for all analyses.
    #[arg(long, default_value_t = 3_600)]
    pub wait: u64,
}

/// Runs the command.
///
/// # Errors
/// If an output differs from that of an instance alone, an analysis is not done in time, or the plugin fails.
pub fn run(args: &Args) -> Result<()> {
    let input = AudioBuffer::read(&args.input)?;
    ensure!(input.frames() > 0, "{}: no audio", args.input.display());
    let frames = args.minutes.map_or(input.frames(), |minutes| {
        (60.0 * minutes * f64::from(input.sample_rate)) as usize
    });
    let path = workspace::bundled_clap()?;
    let blocks = Blocks::Fixed(args.block as usize);
    let load = |settings: &[(&str, &str)]| -> Result<HostedPlugin> {
        let mut plugin = HostedPlugin::load(&path)?;
        plugin.select_channels(input.channels.len())?;
        plugin.choose(settings)?;
        plugin.activate(input.sample_rate, blocks.max())?;
        Ok(plugin)
    };
    let pass = |pace: Pace, start: usize| Pass {
        blocks,
        pace,
        start: start as i64,
        changes: &[],
    };
    let count = args.instances as usize;
    // No two takes are the same: no analysis finds another's work.
    let song = |i: usize| turned(&input, i * input.frames() / count, frames);

    let empty = resident_mb();
    let mut live = load(&[("capture", "Manual")])?;
    let latency = live.latency()?;
    let mut plugins = (0..count).map(|_| load(&[])).collect::<Result<Vec<_>>>()?;
    let loaded = resident_mb();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let began = Instant::now();
    let (captured, capturing) = with_peak_memory(|| -> Result<()> {
        for (n, group) in plugins.chunks_mut(cores).enumerate() {
            let outputs = HostedPlugin::run_together(group, |i, audio| {
                play_on(
                    audio,
                    &song(n * cores + i),
                    &pass(Pace::Draining, 0),
                    latency,
                )
            })?;
            for (i, (channels, _)) in outputs.into_iter().enumerate() {
                let output = AudioBuffer::new(channels, input.sample_rate);
                // The first stands for all: a reference takes as long as what it is compared with.
                if n == 0 && i == 0 {
                    let alone = live.with_audio_thread(|audio| {
                        play_on(audio, &song(0), &pass(Pace::Draining, 0), latency)
                    })?;
                    let alone = AudioBuffer::new(alone.0, input.sample_rate);
                    let differs = first_difference(&output, &alone);
                    ensure!(
                        differs.is_none(),
                        "the first instance differs from an instance alone at (channel, sample) {differs:?}"
                    );
                }
                let finite = output.channels.iter().flatten().all(|x| x.is_finite());
                ensure!(finite, "an output is not finite");
            }
        }
        Ok(())
    });
    captured?;
    println!(
        "{count} instances have played {:.1} s each in {:.0} s; the first one's output is that of an instance alone, bit for bit",
        frames as f64 / f64::from(input.sample_rate),
        began.elapsed().as_secs_f64(),
    );

    let began = Instant::now();
    let wait = Duration::from_secs(args.wait);
    let stretch = (STRETCH_SECONDS * f64::from(input.sample_rate)) as usize;
    let (served, analysing) = with_peak_memory(|| -> Result<_> {
        let mut timing = Timing::new(input.sample_rate);
        let mut served: Vec<usize> = Vec::new();
        let mut slowest = Duration::ZERO;
        let mut place = 0;
        while served.len() < count && began.elapsed() < wait {
            let part = turned(&input, place, stretch);
            let (_, own) = live.with_audio_thread(|audio| {
                play_on(audio, &part, &pass(Pace::Realtime, place), 0)
            })?;
            timing.append(own);
            place += stretch;
            for (i, plugin) in plugins.iter_mut().enumerate() {
                let asked = Instant::now();
                if !served.contains(&i) && commits(&plugin.state_save()?)? > 0 {
                    served.push(i);
                }
                slowest = slowest.max(asked.elapsed());
            }
        }
        Ok((timing, served, slowest))
    });
    let (timing, served, slowest) = served?;
    println!(
        "{} of {count} have their patches after {:.0} s, {}",
        served.len(),
        began.elapsed().as_secs_f64(),
        if served.is_sorted() {
            "in the order in which they were played".to_owned()
        } else {
            format!("in the order {served:?}")
        },
    );
    println!(
        "meanwhile one more instance in real time, blocks of {}: median {:.1} % of their audio, 99.9 % {:.1} %, max {:.1} %; {} of {} late; \
         the slowest answer to the host's main thread took {:.0} ms",
        args.block,
        100.0 * timing.quantile(0.5),
        100.0 * timing.quantile(0.999),
        100.0 * timing.quantile(1.0),
        timing.late(),
        timing.blocks(),
        1e3 * slowest.as_secs_f64(),
    );
    match (empty, loaded, capturing, analysing, resident_mb()) {
        (Some(empty), Some(loaded), Some(capturing), Some(analysing), Some(after)) => println!(
            "resident memory: {empty} MB before, {loaded} MB with all instances active, at most {capturing} MB while playing and {analysing} MB while analysing, {after} MB afterwards"
        ),
        _ => println!("resident memory: this system does not tell"),
    }
    ensure!(
        served.len() == count,
        "not every instance was analysed in time"
    );
    Ok(())
}

/// `frames` of `audio` from frame `from` on; after its end it begins anew.
fn turned(audio: &AudioBuffer, from: usize, frames: usize) -> AudioBuffer {
    let turn = |channel: &Vec<f32>| {
        let from = from % channel.len();
        channel
            .iter()
            .copied()
            .cycle()
            .skip(from)
            .take(frames)
            .collect()
    };
    AudioBuffer::new(audio.channels.iter().map(turn).collect(), audio.sample_rate)
}

/// Memory that the process occupies now, in MB.
pub(crate) fn resident_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
    let kb: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kb / 1024)
}

/// Runs `work` and returns with its result the most memory in MB that the process occupied meanwhile.
fn with_peak_memory<R>(work: impl FnOnce() -> R) -> (R, Option<u64>) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut peak = resident_mb();
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(MEMORY_TICK);
                peak = peak.max(resident_mb());
            }
            peak
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        (result, watch.join().unwrap_or_default())
    })
}
