// [cli] The command line: the plugin's own chain and pipeline over whole files.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};
use uncook::worker::{
    offline::OnlyStage,
    options::{Options, Quality, RegeneratorChoice, Regenerators, SeparatorChoice},
};

#[path = "uncook/analyze.rs"]
mod analyze;
#[path = "uncook/files.rs"]
mod files;
#[path = "uncook/manifest.rs"]
mod manifest;
#[cfg(feature = "ml")]
#[path = "uncook/models.rs"]
mod models;
#[path = "uncook/plot.rs"]
mod plot;
#[path = "uncook/rebuild.rs"]
mod rebuild;
#[path = "uncook/restore.rs"]
mod restore;
#[path = "uncook/run.rs"]
mod run;
#[path = "uncook/shard.rs"]
mod shard;
#[path = "uncook/worker.rs"]
mod worker;

/// Finds what is damaged in a band recording, repairs it and rebuilds the drums and the bass.
///
/// Exit code: 0 if every file is done, now or before; 1 if any failed; 2 if nothing was begun, because the command
/// line, a folder or the manifest can't be used.
#[derive(Parser)]
#[command(name = "uncook", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Repair recordings and write the results
    Restore(RestoreArgs),
    /// Say what is wrong with recordings
    Analyze(AnalyzeArgs),
    /// See, fetch, add, check and remove models
    #[cfg(feature = "ml")]
    #[command(subcommand)]
    Models(models::ModelsCommand),
    /// Do the heavy work of the plugin's analyses; the plugin starts this by itself
    #[command(hide = true)]
    Worker(worker::WorkerArgs),
}

/// What both commands take.
#[derive(Args)]
struct CommonArgs {
    /// Recordings: WAV, AIFF, FLAC, MP3, Ogg Vorbis or M4A, mono or stereo; `restore` takes folders of them, too
    #[arg(required = true, value_name = "IN")]
    inputs: Vec<PathBuf>,

    /// Your words about the sound, for regenerators that read them
    #[arg(long, value_name = "TEXT", default_value = "")]
    style: String,

    /// Another number gives another, equally valid rebuild
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Who rebuilds damaged drums and bass
    #[arg(long, value_enum, default_value_t = Regenerator::Resynthesis)]
    regenerator: Regenerator,

    /// Who rebuilds damaged bass, if not who rebuilds drums
    #[arg(long, value_enum, value_name = "REGENERATOR")]
    bass_regenerator: Option<Regenerator>,

    /// Who separates the instruments
    #[arg(long, value_enum, default_value_t = Separator::Automatic)]
    separator: Separator,

    /// How much work goes into the repair
    #[arg(long, value_enum, default_value_t = QualityArg::Best)]
    quality: QualityArg,

    /// Files worked on at the same time; more need more memory [default: half the processor's cores]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: Option<u16>,

    /// Neither read nor keep intermediate results
    #[arg(long)]
    no_cache: bool,
}

#[derive(Args)]
struct RestoreArgs {
    #[command(flatten)]
    common: CommonArgs,

    /// The result, .wav (32 bit float) or .flac (24 bit); a folder for several inputs
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,

    /// Also write the separated stems with what was rebuilt, as WAV, into this folder
    #[arg(long, value_name = "DIR")]
    stems: Option<PathBuf>,

    /// Also write what was found and done, as JSON; a folder for several inputs
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Also write what was played as a MIDI file: tempo map, drums, bass and lead; a folder for several inputs
    #[arg(long, value_name = "FILE.mid", conflicts_with = "only")]
    midi: Option<PathBuf>,

    /// Only these stages, at full amount, with no other change of gain; writes 32 bit float WAV
    #[arg(long, value_enum, value_delimiter = ',', value_name = "STAGE[,STAGE]")]
    only: Vec<StageArg>,

    /// How much of the rebuilt drums and bass replaces the recorded ones, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 100, conflicts_with = "only",
          value_parser = clap::value_parser!(u8).range(0..=100))]
    blend: u8,

    /// Write one line of JSON a file here, and skip what it says is done: same input, settings, version and outputs, by
    /// hash. Run the same command again to go on; several processes may share it
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,

    /// Only part I of N of the inputs, sorted by name, so that N processes or machines share the work
    #[arg(long, value_name = "I/N", value_parser = shard::parse)]
    shard: Option<shard::Shard>,

    /// Rebuild only this span of this stem, damaged or not, in seconds: bass:12.5-18
    #[arg(long, value_name = "STEM:FROM-TO", value_parser = rebuild::parse)]
    rebuild: Option<rebuild::Span>,
}

#[derive(Args)]
struct AnalyzeArgs {
    #[command(flatten)]
    common: CommonArgs,

    /// Print data instead of words; several files give one line each, with a field "file"
    #[arg(long)]
    json: bool,

    /// Draw chroma, chords, notes, beats and hits over the waveform; a folder for several inputs
    #[arg(long, value_name = "FILE.png")]
    plot: Option<PathBuf>,

    /// Write what was played as a MIDI file: tempo map, drums, bass and lead; a folder for several inputs
    #[arg(long, value_name = "FILE.mid")]
    midi: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StageArg {
    Declick,
    Declip,
    Denoise,
    Eq,
    Bass,
    Treble,
    Dereverb,
    /// To −14 LUFS, at most −1 dBTP
    Loudness,
    /// Rebuild damaged drums and bass
    Regenerate,
}

impl From<StageArg> for OnlyStage {
    fn from(stage: StageArg) -> Self {
        match stage {
            StageArg::Declick => Self::Declick,
            StageArg::Declip => Self::Declip,
            StageArg::Denoise => Self::Denoise,
            StageArg::Eq => Self::Eq,
            StageArg::Bass => Self::Bass,
            StageArg::Treble => Self::Treble,
            StageArg::Dereverb => Self::Dereverb,
            StageArg::Loudness => Self::Loudness,
            StageArg::Regenerate => Self::Regenerate,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Regenerator {
    /// Nobody: repair only
    Off,
    /// The recording's own hits and notes, where that measures better
    Resynthesis,
    /// The same over the whole file, damaged or not
    Everywhere,
    /// The installed generating model (slow without a graphics processor), else as resynthesis
    Jasco,
    /// The same, decoded by MultiBand Diffusion (slower still)
    JascoMbd,
    /// MultiBand Diffusion alone: damaged spans made anew from their own codes, else as resynthesis
    Mbd,
}

impl From<Regenerator> for RegeneratorChoice {
    fn from(arg: Regenerator) -> Self {
        match arg {
            Regenerator::Off => Self::Off,
            Regenerator::Resynthesis => Self::Resynthesis,
            Regenerator::Everywhere => Self::Everywhere,
            Regenerator::Jasco => Self::Jasco,
            Regenerator::JascoMbd => Self::JascoDiffusion,
            Regenerator::Mbd => Self::Diffusion,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Separator {
    /// The best installed model, else spectral
    Automatic,
    /// htdemucs_6s where it is installed, else as automatic: with --stems, guitar and piano get files of their own
    SixStems,
    /// The small built-in network: cleaner stems, but kicks and snares are heard less surely in them
    Learned,
    /// No network
    Spectral,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum QualityArg {
    /// As the plugin repairs live
    Draft,
    Best,
}

impl CommonArgs {
    fn options(&self) -> Options {
        Options {
            quality: match self.quality {
                QualityArg::Draft => Quality::Draft,
                QualityArg::Best => Quality::Best,
            },
            regenerators: Regenerators {
                drums: self.regenerator.into(),
                bass: self.bass_regenerator.unwrap_or(self.regenerator).into(),
            },
            separator: match self.separator {
                Separator::Automatic => SeparatorChoice::Automatic,
                Separator::SixStems => SeparatorChoice::SixStems,
                Separator::Learned => SeparatorChoice::Learned,
                Separator::Spectral => SeparatorChoice::Spectral,
            },
            seed: self.seed,
            style: self.style.clone(),
            ..Options::default()
        }
    }

    fn jobs(&self) -> usize {
        self.jobs.map_or_else(
            || std::thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2)),
            usize::from,
        )
    }
}

/// Lets a reader that has seen enough (`| head`) end the program as it ends others, without a panic.
#[cfg(unix)]
fn end_with_the_reader() {
    // SAFETY: no other thread runs yet, and the default action is always valid.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    // Not while files are written or a host is served.
    #[cfg(unix)]
    if !matches!(command, Command::Restore(_) | Command::Worker(_)) {
        end_with_the_reader();
    }
    let done = match command {
        Command::Restore(args) => restore::run(&args),
        Command::Analyze(args) => analyze::run(&args),
        #[cfg(feature = "ml")]
        Command::Models(command) => models::run(&command),
        Command::Worker(args) => worker::run(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("uncook: {error:#}");
            ExitCode::from(2)
        }
    }
}
