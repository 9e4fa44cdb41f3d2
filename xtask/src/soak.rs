// [cli] `cargo xtask soak`: hours of a host's life in one process, as fast as it goes: nothing may grow or drift.

use std::{fs, path::Path, time::Instant};

use anyhow::{Context, Result, ensure};
use uncook::audio::AudioBuffer;

use crate::{
    demo::DATA_DIR,
    host::{AudioThread, HostedPlugin, Param, ParamChange, RenderMode, Transport},
    load::resident_mb,
    render::{Blocks, Pace, Pass, first_difference, play, split_mix, wait_for_worker},
    song, workspace,
};

const SONG_SECONDS: f64 = 12.0;
/// Longest stretch of playback or rest between two things that a user or a host does.
const STRETCH_SECONDS: u64 = 6;
const RATES: [u32; 3] = [44_100, 48_000, 96_000];
const BLOCKS: [u64; 5] = [32, 64, 500, 1_024, 4_096];
/// Samples between two changes of a parameter, on average.
const CHANGE_EVERY: u64 = 2_000;
/// Memory is looked at so often, in simulated seconds.
const LOOK_SECONDS: f64 = 30.0;
/// Louder than this nothing may become: the input's peak is 1, the gains' sum is below 60 dB.
const LOUDEST: f32 = 1_000.0;
/// What is said in between, in simulated seconds.
const SAY_SECONDS: f64 = 600.0;
/// Growth of memory from the second to the last fifth of the time that passes for none.
const GROWTH: f64 = 0.02;

/// Plays, jumps, stops, automates, loads states, swaps patches, changes rates and layouts, adds and removes instances,
/// all at random; then bounces, and compares with a bounce made before.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Simulated hours.
    #[arg(long, default_value_t = 6.0)]
    pub hours: f64,
    /// Another number, another life.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Runs the command. To be called before any thread is started.
///
/// # Errors
/// If memory grows, an output is not finite, the last bounce differs from the first, or the plugin fails.
pub fn run(args: &Args) -> Result<()> {
    ensure!(args.hours > 0.0, "--hours must be above 0");
    let data = workspace::target_dir()?.join("soak");
    if data.exists() {
        fs::remove_dir_all(&data)?;
    }
    fs::create_dir_all(&data)?;
    // SAFETY: no other thread runs yet; the plugin reads the variable when it is loaded, below.
    unsafe { std::env::set_var(DATA_DIR, &data) };
    let path = workspace::bundled_clap()?;
    let input = song::song(SONG_SECONDS).damaged;
    let (states, reference) = prepare(&path, &input)?;

    let mut life = Life::new(&path, &input, states, args.seed)?;
    let seconds = 3_600.0 * args.hours;
    let began = Instant::now();
    let (mut memory, mut before, mut said) = (Vec::new(), Vec::new(), 0.0);
    while life.seconds < seconds {
        life.live()?;
        if life.seconds >= LOOK_SECONDS * memory.len() as f64 {
            // Always in the same condition: patches and rates take their part.
            life.settle()?;
            let resident =
                || resident_mb().context("this system doesn't tell how much memory is used");
            before.push(resident()?);
            trim();
            memory.push(resident()?);
            if life.seconds >= said {
                println!(
                    "{:5.0} s: {} MB, {} MB once what is free was given back",
                    life.seconds,
                    before[before.len() - 1],
                    memory[memory.len() - 1]
                );
                said += SAY_SECONDS;
            }
        }
    }
    println!(
        "{:.1} simulated hours in {:.0} minutes: {} blocks, {} parameter changes, {} states loaded, {} activations, \
         {} further instances; every sample finite, the loudest {:.1}",
        args.hours,
        began.elapsed().as_secs_f64() / 60.0,
        life.blocks,
        life.changes,
        life.loads,
        life.activations,
        life.instances,
        life.peak,
    );
    let fifth = |of: &[u64], n: usize| median(&of[n * of.len() / 5..(n + 1) * of.len() / 5]);
    let (early, late) = (fifth(&memory, 1)?, fifth(&memory, 4)?);
    println!(
        "resident memory: {} MB at first, {early} MB in the second fifth of the time, {late} MB in the last; with what \
         the heap keeps for later {}, {} and {} MB",
        memory[0],
        before[0],
        fifth(&before, 1)?,
        fifth(&before, 4)?
    );
    let bounce = life.bounce()?;
    let differs = first_difference(&bounce, &reference);
    ensure!(
        differs.is_none(),
        "the last bounce differs from the first at (channel, sample) {differs:?}"
    );
    println!("the last bounce is the first, bit for bit");
    ensure!(
        late as f64 <= (1.0 + GROWTH) * early as f64,
        "memory grows: {early} MB, then {late} MB"
    );
    Ok(())
}

/// Gives the heap's free pages back to the system: what stays is held by somebody, or lies between what is.
fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: frees nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn median(values: &[u64]) -> Result<u64> {
    let mut values = values.to_vec();
    values.sort_unstable();
    let middle = values.get(values.len() / 2);
    middle.copied().context("too short: ask for more hours")
}

/// States to load, the first with patches, and the bounce of that one.
fn prepare(path: &Path, input: &AudioBuffer) -> Result<(Vec<Vec<u8>>, AudioBuffer)> {
    let mut plugin = HostedPlugin::load(path)?;
    plugin.select_channels(input.channels.len())?;
    plugin.choose(&[("capture", "Manual")])?;
    plugin.rebuild_everywhere()?;
    let empty = plugin.state_save()?;
    plugin.choose(&[("capture", "Automatic")])?;
    plugin.activate(input.sample_rate, 512)?;
    let pass = pass(Pace::Draining);
    play(&mut plugin, input, &pass)?;
    let limit = std::time::Duration::from_secs(1_800);
    let commits = wait_for_worker(&mut plugin, 0, limit, RenderMode::Realtime)?;
    ensure!(commits > 0, "the song was not analysed");
    plugin.deactivate();
    plugin.choose(&[("capture", "Manual")])?;
    let patched = plugin.state_save()?;
    plugin.activate(input.sample_rate, 512)?;
    let reference = play(&mut plugin, input, &pass)?.audio;
    Ok((vec![patched, empty], reference))
}

fn pass(pace: Pace) -> Pass<'static> {
    Pass {
        blocks: Blocks::Fixed(512),
        pace,
        start: 0,
        changes: &[],
    }
}

/// One instance, what happens to it, and what came of it.
struct Life<'a> {
    path: &'a Path,
    input: &'a AudioBuffer,
    states: Vec<Vec<u8>>,
    random: u64,
    plugin: HostedPlugin,
    params: Vec<Param>,
    rate: u32,
    seconds: f64,
    blocks: u64,
    changes: u64,
    loads: u64,
    activations: u64,
    instances: u64,
    peak: f32,
}

impl<'a> Life<'a> {
    fn new(
        path: &'a Path,
        input: &'a AudioBuffer,
        states: Vec<Vec<u8>>,
        seed: u64,
    ) -> Result<Self> {
        let mut plugin = HostedPlugin::load(path)?;
        plugin.state_load(&states[0])?;
        let all = plugin.params()?;
        let params = all.into_iter().filter(Param::is_automatable).collect();
        plugin.activate(input.sample_rate, 512)?;
        Ok(Self {
            path,
            input,
            states,
            random: seed,
            plugin,
            params,
            rate: input.sample_rate,
            seconds: 0.0,
            blocks: 0,
            changes: 0,
            loads: 0,
            activations: 1,
            instances: 0,
            peak: 0.0,
        })
    }

    fn below(&mut self, n: u64) -> u64 {
        split_mix(&mut self.random) % n
    }

    /// Something happens.
    fn live(&mut self) -> Result<()> {
        match self.below(10) {
            0 => self.stretch(false),
            1 | 2 => {
                let state = self.below(self.states.len() as u64) as usize;
                self.loads += 1;
                self.plugin.state_load(&self.states[state])
            }
            3 => {
                self.plugin.deactivate();
                let channels = 1 + self.below(2) as usize;
                self.plugin.select_channels(channels)?;
                // Mostly the song's rate, at which its patches play.
                self.rate = match self.below(2) {
                    0 => self.input.sample_rate,
                    _ => RATES[self.below(RATES.len() as u64) as usize],
                };
                let block = BLOCKS[self.below(BLOCKS.len() as u64) as usize];
                self.activations += 1;
                self.plugin.activate(self.rate, block as usize)
            }
            4 => {
                self.instances += 1;
                let mut twin = HostedPlugin::load(self.path)?;
                twin.state_load(&self.states[0])?;
                twin.activate(self.input.sample_rate, 512)
            }
            _ => self.stretch(true),
        }
    }

    /// Plays from anywhere, or rests, for a while.
    fn stretch(&mut self, playing: bool) -> Result<()> {
        let frames = (1 + self.below(STRETCH_SECONDS)) * u64::from(self.rate);
        let from = self.below(self.input.frames() as u64);
        let mut random = self.random;
        let (input, params) = (self.input, &self.params);
        let (blocks, changes, peak) = self.plugin.with_audio_thread(|audio| {
            let mut told = (0, 0, 0.0f32);
            let mut done = 0;
            while done < frames {
                let most = (audio.max_block() as u64).min(frames - done);
                let len = 1 + split_mix(&mut random) % most;
                let changes = if playing {
                    some_changes(params, len, &mut random)
                } else {
                    Vec::new()
                };
                let block = Block {
                    input,
                    at: (from + done) as usize % input.frames(),
                    len: len as usize,
                    playing,
                };
                told.2 = told.2.max(block.run(audio, &changes)?);
                told.0 += 1;
                told.1 += changes.len() as u64;
                done += len;
            }
            Ok(told)
        })?;
        self.random = random;
        self.blocks += blocks;
        self.changes += changes;
        self.peak = self.peak.max(peak);
        self.seconds += frames as f64 / f64::from(self.rate);
        Ok(())
    }

    /// The first state at the song's rate, whatever was before.
    fn settle(&mut self) -> Result<()> {
        self.plugin.deactivate();
        self.plugin.select_channels(self.input.channels.len())?;
        self.plugin.state_load(&self.states[0])?;
        self.rate = self.input.sample_rate;
        self.plugin.activate(self.rate, 512)
    }

    /// The song, after all that.
    fn bounce(&mut self) -> Result<AudioBuffer> {
        self.settle()?;
        Ok(play(&mut self.plugin, self.input, &pass(Pace::Free))?.audio)
    }
}

/// Changes of automated parameters within a block, by offset.
fn some_changes(params: &[Param], len: u64, random: &mut u64) -> Vec<ParamChange> {
    let mut changes = Vec::new();
    for _ in 0..len.div_ceil(CHANGE_EVERY) {
        if split_mix(random) % CHANGE_EVERY >= len {
            continue;
        }
        let param = &params[(split_mix(random) % params.len() as u64) as usize];
        let share = (split_mix(random) >> 11) as f64 / (1u64 << 53) as f64;
        let value = param.min + share * (param.max - param.min);
        changes.push(ParamChange {
            offset: (split_mix(random) % len) as u32,
            param: param.id,
            value: if param.is_stepped() {
                value.round()
            } else {
                value
            },
        });
    }
    changes.sort_by_key(|change| change.offset);
    changes
}

/// A block of a song that a host plays round and round, or of silence while it rests.
struct Block<'a> {
    input: &'a AudioBuffer,
    at: usize,
    len: usize,
    playing: bool,
}

impl Block<'_> {
    /// Plays it; returns the peak.
    fn run(&self, audio: &mut AudioThread, changes: &[ParamChange]) -> Result<f32> {
        let Self {
            input,
            at,
            len,
            playing,
        } = *self;
        audio.fill_input(len, |channel, samples| {
            let source = &input.channels[channel];
            for (i, x) in samples.iter_mut().enumerate() {
                *x = if playing {
                    source[(at + i) % source.len()]
                } else {
                    0.0
                };
            }
        });
        let transport = Transport {
            playing,
            position_samples: at as i64,
            tempo_bpm: 120.0,
        };
        audio.process_block(len, changes, transport)?;
        let mut peak = 0.0f32;
        for channel in 0..audio.channels() {
            for &x in audio.output(channel, len) {
                ensure!(x.is_finite() && x.abs() < LOUDEST, "an output of {x}");
                peak = peak.max(x.abs());
            }
        }
        Ok(peak)
    }
}
