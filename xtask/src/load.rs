// [cli] `cargo xtask load`: many instances in one process, all capturing and analysing the same song.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use uncook::audio::AudioBuffer;

use crate::{
    host::{HostedPlugin, RenderMode},
    render::{Blocks, Pace, Pass, first_difference, play, play_on, wait_for_worker},
    workspace,
};

/// How often the process's memory is looked at.
const MEMORY_TICK: Duration = Duration::from_millis(20);

/// Plays a file through many instances at once, lets all of them finish their analyses, and says what
/// that cost: blocks that took longer than their audio, memory, and whether any output differed from
/// that of an instance alone.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Audio file that every instance plays.
    pub input: PathBuf,
    /// How many instances.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub instances: u32,
    /// Samples in a block.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=8_192))]
    pub block: u32,
    /// Keep the pace of a clock, as a host plays; without it audio runs as fast as it can.
    #[arg(long)]
    pub realtime: bool,
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
    let path = workspace::bundled_clap()?;
    let blocks = Blocks::Fixed(args.block as usize);
    let load = |settings: &[(&str, f64)]| -> Result<HostedPlugin> {
        let mut plugin = HostedPlugin::load(&path)?;
        plugin.select_channels(input.channels.len())?;
        for (key, value) in settings {
            let param = plugin.param(key)?;
            plugin.set_params(&[(param.id, *value)])?;
        }
        plugin.activate(input.sample_rate, blocks.max())?;
        Ok(plugin)
    };
    let pass = Pass {
        blocks,
        pace: if args.realtime {
            Pace::Realtime
        } else {
            Pace::Draining
        },
        start: 0,
        changes: &[],
    };
    // The reference hears no patch: it captures nothing.
    let alone = play(&mut load(&[("capture", 0.0)])?, &input, &pass)?;

    let empty = resident_mb();
    let mut plugins = (0..args.instances)
        .map(|_| load(&[]))
        .collect::<Result<Vec<_>>>()?;
    let loaded = resident_mb();
    let (outputs, playing) = with_peak_memory(|| {
        HostedPlugin::run_together(&mut plugins, |_, audio| {
            play_on(audio, &input, &pass, alone.latency)
        })
    });
    let outputs = outputs?;
    let done = Instant::now();
    let (commits, analysing) = with_peak_memory(|| {
        plugins
            .iter_mut()
            .map(|plugin| {
                let left = Duration::from_secs(args.wait).saturating_sub(done.elapsed());
                wait_for_worker(plugin, 0, left, RenderMode::Realtime)
            })
            .collect::<Result<Vec<_>>>()
    });
    let commits = commits?;
    let waited = done.elapsed().as_secs_f64();
    let after = resident_mb();

    let worst = |quantile: f64| {
        let shares = outputs.iter().map(|(_, timing)| timing.quantile(quantile));
        100.0 * shares.fold(0.0, f64::max)
    };
    let late = match pass.pace {
        Pace::Realtime => {
            let late: usize = outputs.iter().map(|(_, t)| t.late()).sum();
            format!("{late} blocks late")
        }
        // All play as fast as they can, on fewer cores than instances: they wait for each other.
        _ => "not paced by a clock: --realtime tells whether blocks are late".to_owned(),
    };
    println!(
        "{} instances, {:.1} s of audio, blocks of {}: the busiest instance's median block {:.1} % of its audio, 99.9 % {:.1} %, max {:.1} %; {late}",
        args.instances,
        input.frames() as f64 / f64::from(input.sample_rate),
        args.block,
        worst(0.5),
        worst(0.999),
        worst(1.0),
    );
    let ready = commits.iter().filter(|&&c| c > 0).count();
    println!(
        "{ready} of {} have their patches, {waited:.0} s after the end of the song",
        args.instances
    );
    match (empty, loaded, playing, analysing, after) {
        (Some(empty), Some(loaded), Some(playing), Some(analysing), Some(after)) => println!(
            "resident memory: {empty} MB before, {loaded} MB with all instances active, at most {playing} MB while playing and {analysing} MB while analysing, {after} MB afterwards"
        ),
        _ => println!("resident memory: this system does not tell"),
    }
    for (index, (channels, _)) in outputs.into_iter().enumerate() {
        let output = AudioBuffer::new(channels, input.sample_rate);
        let differs = first_difference(&output, &alone.audio);
        ensure!(
            differs.is_none(),
            "instance {index} differs from an instance alone at (channel, sample) {differs:?}"
        );
    }
    println!("every output is that of an instance alone, bit for bit");
    ensure!(
        ready == plugins.len(),
        "not every instance was analysed in time"
    );
    Ok(())
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
