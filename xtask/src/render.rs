// [cli] Plays audio through the hosted plugin: passes, gaps, waiting for the worker, timings, latency.

mod command;
mod timing;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use uncook::audio::AudioBuffer;

pub use command::{Args, run};
pub use timing::Timing;

use crate::{
    automation::Change,
    host::{AudioThread, HostedPlugin, ParamChange, RenderMode, Transport, state_field},
};

/// The song's tempo. Uncook finds the tempo of the recording itself; hosts give one all the same.
const TEMPO_BPM: f64 = 120.0;

/// How the plugin's worker gets time in a pass that runs faster than real time: after each half second
/// of audio the host pauses for as long as the worker sleeps between two collections.
const DRAIN_PAUSE: Duration = Duration::from_millis(10);

/// Silence, in seconds, that a wait plays at the least, before it believes that no work is left.
const WAIT_SETTLE_SECONDS: f64 = 0.5;

/// Pause between the blocks of a wait: the plugin waits by itself, this only spares a core where it
/// has nothing to wait for.
const WAIT_PAUSE: Duration = Duration::from_millis(20);

/// The sizes of a pass's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    Fixed(usize),
    /// Every length from 1 to `max`, in a fixed pseudo-random order.
    Random {
        seed: u64,
        max: usize,
    },
}

impl Blocks {
    /// The longest block.
    pub fn max(self) -> usize {
        match self {
            Self::Fixed(max) | Self::Random { max, .. } => max,
        }
    }
}

/// How fast a pass runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as possible.
    Free,
    /// As fast as possible, with pauses in which the worker empties the capture ring.
    Draining,
    /// In real time.
    Realtime,
}

/// How a pass is played.
#[derive(Clone, Debug)]
pub struct Pass<'a> {
    pub blocks: Blocks,
    pub pace: Pace,
    /// Song position of the audio's first sample.
    pub start: i64,
    /// Sorted by sample.
    pub changes: &'a [Change],
}

/// What a pass gave.
#[derive(Clone, Debug)]
pub struct Played {
    /// As long as the input and in time with it: the plugin's latency is taken off.
    pub audio: AudioBuffer,
    /// In samples.
    pub latency: usize,
    pub timing: Timing,
}

impl Played {
    /// Samples that are NaN or infinite.
    pub fn non_finite(&self) -> usize {
        let all = self.audio.channels.iter().flatten();
        all.filter(|s| !s.is_finite()).count()
    }

    /// Largest magnitude.
    pub fn peak(&self) -> f32 {
        let all = self.audio.channels.iter().flatten();
        all.fold(0.0, |peak, s| peak.max(s.abs()))
    }
}

/// Plays `input` once on the active `plugin`, transport running, and the plugin's latency longer with
/// silence, so that everything comes out.
///
/// # Errors
/// If the plugin is not active at the input's rate, width and block size, or fails.
pub fn play(plugin: &mut HostedPlugin, input: &AudioBuffer, pass: &Pass<'_>) -> Result<Played> {
    ensure!(
        input.channels.len() == plugin.channels(),
        "the audio has {} channel(s), the plugin {}",
        input.channels.len(),
        plugin.channels()
    );
    let latency = plugin.latency()?;
    let (channels, timing) =
        plugin.with_audio_thread(|audio| play_on(audio, input, pass, latency))?;
    Ok(Played {
        audio: AudioBuffer::new(channels, input.sample_rate),
        latency,
        timing,
    })
}

/// What [`play`] does, on the audio thread: `latency` samples of output are skipped and flushed.
///
/// # Errors
/// As [`play`].
pub fn play_on(
    audio: &mut AudioThread,
    input: &AudioBuffer,
    pass: &Pass<'_>,
    latency: usize,
) -> Result<(Vec<Vec<f32>>, Timing)> {
    ensure!(
        audio.sample_rate() == input.sample_rate,
        "the plugin runs at {} Hz, the audio at {} Hz",
        audio.sample_rate(),
        input.sample_rate
    );
    let total = input.frames() + latency;
    let mut out = vec![Vec::with_capacity(input.frames()); input.channels.len()];
    let mut timing = Timing::new(input.sample_rate);
    let mut sizes = BlockSizes::new(pass.blocks);
    let mut changes = pass.changes;
    let mut in_block = Vec::new();
    let began = Instant::now();
    let drain_every = input.sample_rate as usize / 2;
    let mut done = 0;
    while done < total {
        let frames = sizes.next().min(total - done);
        audio.fill_input(frames, |channel, samples| {
            let source = &input.channels[channel];
            let have = source.len().saturating_sub(done).min(frames);
            samples[..have].copy_from_slice(&source[done.min(source.len())..][..have]);
            samples[have..].fill(0.0);
        });
        in_block.clear();
        let due = changes.partition_point(|c| c.sample < (done + frames) as u64);
        for change in &changes[..due] {
            in_block.push(ParamChange {
                offset: (change.sample - done as u64) as u32,
                param: change.param,
                value: change.value,
            });
        }
        changes = &changes[due..];
        let transport = Transport {
            playing: true,
            position_samples: pass.start + done as i64,
            tempo_bpm: TEMPO_BPM,
        };
        let block_began = Instant::now();
        audio.process_block(frames, &in_block, transport)?;
        timing.add(frames, block_began.elapsed());
        for (channel, out) in out.iter_mut().enumerate() {
            let skip = latency.saturating_sub(done).min(frames);
            out.extend_from_slice(&audio.output(channel, frames)[skip..]);
        }
        let before = done;
        done += frames;
        match pass.pace {
            Pace::Free => {}
            Pace::Draining if done / drain_every > before / drain_every => {
                std::thread::sleep(DRAIN_PAUSE);
            }
            Pace::Draining => {}
            Pace::Realtime => {
                let due = Duration::from_secs_f64(done as f64 / f64::from(input.sample_rate));
                std::thread::sleep(due.saturating_sub(began.elapsed()));
            }
        }
    }
    Ok((out, timing))
}

/// Plays `seconds` of silence with the transport stopped at `position`.
///
/// # Errors
/// If the plugin is not active or fails.
pub fn rest(
    plugin: &mut HostedPlugin,
    position: i64,
    seconds: f64,
    blocks: Blocks,
    pace: Pace,
) -> Result<()> {
    plugin.with_audio_thread(|audio| {
        let total = (seconds * f64::from(audio.sample_rate())).round() as usize;
        let began = Instant::now();
        let mut sizes = BlockSizes::new(blocks);
        let mut done = 0;
        while done < total {
            let frames = sizes.next().min(total - done);
            silent_block(audio, frames, position)?;
            done += frames;
            if pace == Pace::Realtime {
                let due = Duration::from_secs_f64(done as f64 / f64::from(audio.sample_rate()));
                std::thread::sleep(due.saturating_sub(began.elapsed()));
            }
        }
        Ok(())
    })
}

fn silent_block(audio: &mut AudioThread, frames: usize, position: i64) -> Result<()> {
    audio.fill_input(frames, |_, samples| samples.fill(0.0));
    let transport = Transport {
        playing: false,
        position_samples: position,
        tempo_bpm: TEMPO_BPM,
    };
    audio.process_block(frames, &[], transport)
}

/// Lets the worker finish: with the transport stopped at `position`, the plugin is put into CLAP's
/// offline mode, in which its `process` waits for its jobs, and gets silence until its state holds
/// commits and no more come, or `limit` has passed. Ends in the mode `after`, and returns how many
/// commits the state holds.
///
/// # Errors
/// If the plugin fails or its state can't be read.
pub fn wait_for_worker(
    plugin: &mut HostedPlugin,
    position: i64,
    limit: Duration,
    after: RenderMode,
) -> Result<usize> {
    let began = Instant::now();
    plugin.set_render_mode(RenderMode::Offline)?;
    let mut known = None;
    let commits = loop {
        plugin.with_audio_thread(|audio| {
            let frames = audio.max_block();
            let settle = (WAIT_SETTLE_SECONDS * f64::from(audio.sample_rate())) as usize;
            for _ in 0..settle.div_ceil(frames) {
                silent_block(audio, frames, position)?;
                if began.elapsed() > limit {
                    break;
                }
            }
            Ok(())
        })?;
        let commits = commits(&plugin.state_save()?)?;
        if began.elapsed() > limit || (commits > 0 && known == Some(commits)) {
            break commits;
        }
        known = Some(commits);
        std::thread::sleep(WAIT_PAUSE);
    };
    plugin.set_render_mode(after)?;
    Ok(commits)
}

/// How many commits a state's session refers to.
pub fn commits(state: &[u8]) -> Result<usize> {
    let session = state_field(state, "session")?;
    Ok(session
        .as_ref()
        .and_then(|s| s.get("commits"))
        .and_then(|c| c.as_array())
        .map_or(0, Vec::len))
}

/// The lengths of successive blocks.
struct BlockSizes {
    blocks: Blocks,
    state: u64,
}

impl BlockSizes {
    fn new(blocks: Blocks) -> Self {
        let state = match blocks {
            Blocks::Fixed(_) => 0,
            Blocks::Random { seed, .. } => seed,
        };
        Self { blocks, state }
    }

    fn next(&mut self) -> usize {
        match self.blocks {
            Blocks::Fixed(n) => n,
            Blocks::Random { max, .. } => 1 + (split_mix(&mut self.state) % max as u64) as usize,
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
pub fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The first place where two takes differ in any bit: channel and frame.
pub fn first_difference(a: &AudioBuffer, b: &AudioBuffer) -> Option<(usize, usize)> {
    if a.channels.len() != b.channels.len() || a.frames() != b.frames() {
        return Some((0, a.frames().min(b.frames())));
    }
    a.channels
        .iter()
        .zip(&b.channels)
        .enumerate()
        .find_map(|(channel, (a, b))| {
            let differ = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
            Some((channel, a.iter().zip(b).position(differ)?))
        })
}
