// [worker] Hybrid Transformer Demucs: stems from a released network.
//!
//! The network is that of Rouard, Massa & Défossez, "Hybrid Transformers for Music Source Separation"
//! (ICASSP 2023), as PyPI's `demucs` 4.1 runs it: a spectral and a time branch, a transformer between them.
//! Its predecessor without transformer (`merged`) shares the levels in which the branches are apart.
//! [`net`] is one pass over a segment, [`grid`] cuts a signal into segments and joins them, and this file
//! does the rest: rates, channels, normalisation, bags of models, and what happens when a segment fails.
//!
//! Weights are in no release of Uncook; a [`file::ModelFile`] is opened where the user has fetched one.

// Several arrays are walked by one index: the loops that the compiler turns into vector code.
#![allow(clippy::needless_range_loop)]

mod dconv;
mod decoder;
pub mod device;
mod encoder;
mod engine;
mod error;
pub mod file;
pub mod grid;
pub mod hyper;
mod merged;
pub mod net;
mod recurrent;
mod spectrum;
mod strided;
mod transformer;
mod weights;
mod winograd;
pub mod work;

use std::path::{Path, PathBuf};

pub use error::ModelError;

use candle_core::Device;

use self::{
    engine::{Engine, Task},
    file::ModelFile,
    grid::{Grid, Overlap},
};
use super::{Growing, NoShelf, Piece, Separated, SeparationError, Separator, Shelf, Stems};
use crate::{
    audio::{AudioBuffer, frames_for},
    damage::Stem,
    dense::{device::best_device, norm::Moments},
    worker::progress::Progress,
};

/// Raised when the same model gives other results.
const VERSION: u32 = 2;

/// Added to the mix's standard deviation before dividing by it.
const FLOOR: f32 = 1e-8;

/// How a model is applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub overlap: Overlap,
    /// Shifted passes over the whole signal, averaged: how far the signal is moved against the grid, in
    /// samples at the model's rate, up to half a second. Empty: one pass that isn't shifted.
    pub offsets: Vec<usize>,
    /// Threads that compute, the caller's among them. The result doesn't depend on it.
    pub threads: usize,
    /// The beginning of a recording, in seconds, whose mean and deviation normalise all of it. The reference
    /// takes the whole recording's; then nothing could be computed before its end is known. The network
    /// normalises each segment itself, so that the difference is that of a floor of 1e-5.
    pub level_seconds: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            overlap: Overlap::default(),
            offsets: Vec::new(),
            threads: default_threads(),
            level_seconds: 50,
        }
    }
}

/// All processors but one, which the host and its audio thread need, and no more than four.
pub fn default_threads() -> usize {
    let all = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    all.saturating_sub(1).clamp(1, 4)
}

/// A separator with a model, or a bag of models, from files.
pub struct HtDemucs {
    id: String,
    models: Vec<Model>,
    /// Names of the stems, in the models' order.
    sources: Vec<String>,
    settings: Settings,
    /// Where candle computes instead of [`net`].
    device: Option<Device>,
    /// Where to keep copies of the files that open at once; `None` for nowhere.
    copies: Option<PathBuf>,
}

struct Model {
    path: PathBuf,
    /// What this model's estimate of each source counts.
    weights: Vec<f32>,
}

/// A signal at the model's rate: `[channels][samples]`.
type Signal = Vec<Vec<f32>>;

impl HtDemucs {
    /// Opens the files of the model `name`, several for a bag. Reads what they are; tensors are read when
    /// the first segment needs them.
    ///
    /// # Errors
    /// If a file is damaged, of another class or not supported, or the files don't go together.
    pub fn open(name: &str, files: &[PathBuf], settings: Settings) -> Result<Self, ModelError> {
        let mut sources: Option<(Vec<String>, usize, u32)> = None;
        let mut names = Vec::new();
        for path in files {
            let hyper = ModelFile::open(path)?.hyper;
            let kind = (hyper.sources, hyper.audio_channels, hyper.samplerate);
            if *sources.get_or_insert_with(|| kind.clone()) != kind {
                return Err(ModelError::File(format!(
                    "the files of {name} separate different things: fetch them again"
                )));
            }
            names.push(fingerprint(path));
        }
        let Some((sources, ..)) = sources else {
            return Err(ModelError::File(format!("{name} has no files")));
        };
        // The fine-tuned bag has one model for each source; any other bag is a mean.
        let specialists = name.ends_with("_ft") && files.len() == sources.len();
        let models = files
            .iter()
            .enumerate()
            .map(|(m, path)| Model {
                path: path.clone(),
                weights: (0..sources.len())
                    .map(|s| if !specialists || m == s { 1.0 } else { 0.0 })
                    .collect(),
            })
            .collect();
        let mut id = format!("{name}-{VERSION}-{}", names.join("+"));
        for offset in &settings.offsets {
            id += &format!("-shift{offset}");
        }
        Ok(Self {
            id,
            models,
            sources,
            settings,
            device: None,
            copies: None,
        })
    }

    /// Keeps in `folder` what the processor makes of the files when it first opens them, and maps that from then on.
    #[must_use]
    pub fn with_copies(mut self, folder: Option<PathBuf>) -> Self {
        self.copies = folder;
        self
    }

    /// Computed with candle on `device`, for graphics processors: to rounding the same results, under another
    /// name. Where the device fails, the processor goes on and a note says so.
    pub fn with_candle(mut self, device: Device) -> Self {
        self.id += &place(&device);
        self.device = Some(device);
        self
    }

    /// On the graphics processor that this build can use; without one, on the processor.
    pub fn on_best_device(self) -> Self {
        match best_device() {
            Device::Cpu => self,
            device => self.with_candle(device),
        }
    }

    /// Names of the stems that the model knows, in its order.
    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    /// Every source of the model, at the mix's rate, channels and length, and what went wrong on the way.
    ///
    /// # Errors
    /// If cancelled, or the model's tensors can't be used.
    pub fn sources_of(
        &self,
        mix: &AudioBuffer,
        shelf: &dyn Shelf,
        progress: &Progress,
    ) -> Result<(Vec<AudioBuffer>, Vec<String>), SeparationError> {
        let channels = mix.channels.len();
        if channels == 0 || mix.frames() == 0 {
            return Ok((vec![mix.clone(); self.sources.len()], Vec::new()));
        }
        let (rate, wanted) = self.heard_as()?;
        let mut signal = with_channels(clean(mix).resampled(rate), wanted);
        let level = self.level(&signal, rate);
        level.take_off(&mut signal);
        let mut notes = Vec::new();
        let estimates = self.estimate(signal, rate, level, shelf, progress, &mut notes)?;
        let outs = estimates
            .into_iter()
            .map(|mut channels_of| {
                for x in channels_of.iter_mut().flatten() {
                    *x = *x * level.deviation + level.mean;
                }
                let mut audio = AudioBuffer::new(channels_of, rate);
                if channels == 1 {
                    audio = AudioBuffer::new(vec![audio.mono()], rate);
                }
                audio = audio.resampled(mix.sample_rate);
                for channel in &mut audio.channels {
                    channel.resize(mix.frames(), 0.0);
                }
                if channels == 2 && audio.channels.len() == 1 {
                    audio.channels.push(audio.channels[0].clone());
                }
                audio
            })
            .collect();
        Ok((outs, notes))
    }

    fn engine<'a>(&'a self, file: &'a ModelFile) -> Engine<'a> {
        let threads = self.settings.threads;
        Engine::new(file, self.copies.as_deref(), threads, self.device.clone())
    }

    /// The rate and the channels that the models hear.
    fn heard_as(&self) -> Result<(u32, usize), ModelError> {
        let first = ModelFile::open(&self.models[0].path)?.hyper;
        Ok((first.samplerate, first.audio_channels))
    }

    /// Of a signal, or of its beginning.
    fn level(&self, signal: &Signal, rate: u32) -> Level {
        let heard = signal[0].len().min(self.level_samples(rate));
        let beginning = signal.iter().map(|c| c[..heard].to_vec()).collect();
        let moments = Moments::of(&AudioBuffer::new(beginning, rate).mono());
        Level {
            mean: moments.mean() as f32,
            deviation: moments.deviation() as f32 + FLOOR,
        }
    }

    fn level_samples(&self, rate: u32) -> usize {
        (self.settings.level_seconds as usize).saturating_mul(rate as usize)
    }

    /// The signal's samples at which the views that are averaged begin: silence is before the first.
    fn origins(&self, rate: u32) -> Vec<isize> {
        let max_shift = rate as usize / 2;
        match self.settings.offsets.as_slice() {
            [] => vec![0],
            offsets => offsets
                .iter()
                .map(|offset| (*offset).min(max_shift) as isize - max_shift as isize)
                .collect(),
        }
    }

    /// The sources that a model of the bag is asked for.
    fn wanted(&self, model: &Model) -> Vec<usize> {
        (0..self.sources.len())
            .filter(|s| model.weights[*s] > 0.0)
            .collect()
    }

    /// Every source of a normalised signal.
    fn estimate(
        &self,
        signal: Signal,
        rate: u32,
        level: Level,
        shelf: &dyn Shelf,
        progress: &Progress,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Signal>, SeparationError> {
        let len = signal[0].len();
        let origins = self.origins(rate);
        let runs = self.models.len() * origins.len();
        let silence = |len: usize| vec![vec![0.0f32; len]; signal.len()];
        let mut total: Vec<Signal> = Vec::new();
        if runs > 1 {
            total = self.sources.iter().map(|_| silence(len)).collect();
        }
        let mut run = 0;
        for model in &self.models {
            let file = ModelFile::open(&model.path)?;
            let mut engine = self.engine(&file);
            let fingerprint = fingerprint(&model.path);
            let wanted = self.wanted(model);
            for &origin in &origins {
                let lead = origin.unsigned_abs();
                let grid = fitting(
                    &file,
                    Grid::new(
                        file.hyper.segment_samples,
                        self.settings.overlap,
                        origin,
                        len + lead,
                    ),
                );
                let mut sums: Vec<Signal> = wanted.iter().map(|_| silence(len + lead)).collect();
                let share = |run: usize| run as f64 / runs as f64;
                let part = progress.part(share(run), share(run + 1));
                for piece in 0..grid.pieces() {
                    let share = grid.pieces() as f64;
                    let progress = part.part(piece as f64 / share, (piece + 1) as f64 / share);
                    let (start, span) = grid.span(piece);
                    let (from, count) = grid.heard(piece, len);
                    let task = Task {
                        grid: &grid,
                        piece,
                        heard: signal.iter().map(|c| &c[from..from + count]).collect(),
                        from,
                        rate,
                        deviation: level.deviation,
                        wanted: &wanted,
                        sources: &self.sources,
                    };
                    let kept = self.kept(&task, &fingerprint, shelf, || {
                        engine.piece(&task, &progress, notes)
                    })?;
                    for (sums, kept) in sums.iter_mut().zip(kept) {
                        for (sums, kept) in sums.iter_mut().zip(kept.channels) {
                            for (to, x) in sums[start..start + span].iter_mut().zip(kept) {
                                *to += x;
                            }
                        }
                    }
                    progress.report(1.0);
                }
                sums.iter_mut().flatten().for_each(|c| grid.finish(c));
                if runs == 1 {
                    // The usual case: nothing to average, no second set of buffers.
                    sums.iter_mut()
                        .flatten()
                        .for_each(|c| drop(c.drain(..lead)));
                    return Ok(sums);
                }
                for (s, sums) in wanted.iter().zip(&sums) {
                    let weight = model.weights[*s] / origins.len() as f32;
                    for (sums, total) in sums.iter().zip(&mut total[*s]) {
                        for (total, x) in total.iter_mut().zip(&sums[lead..]) {
                            *total += weight * x;
                        }
                    }
                }
                run += 1;
            }
        }
        for (s, total) in total.iter_mut().enumerate() {
            let weight: f32 = self.models.iter().map(|m| m.weights[s]).sum();
            if weight != 1.0 {
                total.iter_mut().flatten().for_each(|x| *x /= weight);
            }
        }
        Ok(total)
    }

    /// The pieces of a growing mix that are certain; those that are new are made. Returns how many there are.
    fn pieces_ahead(
        &self,
        mix: &dyn Growing,
        shelf: &dyn Shelf,
        progress: &Progress,
    ) -> Result<usize, SeparationError> {
        let (rate, wanted_channels) = self.heard_as()?;
        let from_rate = mix.sample_rate();
        let signal = |range: std::ops::Range<usize>| {
            let needed = frames_for(from_rate, rate, range.clone());
            let part = clean(&mix.part(needed.clone())?);
            let part = part.resampled_part(needed.start, rate, range);
            Ok::<_, SeparationError>(with_channels(part, wanted_channels))
        };
        // Both what a piece hears and the level must be known.
        let known_at = |end: usize| {
            let beginning = frames_for(from_rate, rate, 0..self.level_samples(rate)).end;
            frames_for(from_rate, rate, 0..end).end.max(beginning)
        };
        let mut level: Option<Level> = None;
        let mut certain = 0;
        for model in &self.models {
            let file = ModelFile::open(&model.path)?;
            let mut engine = self.engine(&file);
            let fingerprint = fingerprint(&model.path);
            let wanted = self.wanted(model);
            for origin in self.origins(rate) {
                let grid = Grid::endless(file.hyper.segment_samples, self.settings.overlap, origin);
                for piece in 0.. {
                    let known = known_at(grid.certain_end(piece));
                    if known > mix.settled() {
                        break;
                    }
                    certain += 1;
                    if known <= mix.before() {
                        continue;
                    }
                    let level = match level {
                        Some(level) => level,
                        None => {
                            let beginning = signal(0..self.level_samples(rate))?;
                            *level.insert(self.level(&beginning, rate))
                        }
                    };
                    let (from, count) = grid.heard(piece, usize::MAX >> 2);
                    let mut part = signal(from..from + count)?;
                    level.take_off(&mut part);
                    let task = Task {
                        grid: &grid,
                        piece,
                        heard: part.iter().map(Vec::as_slice).collect(),
                        from,
                        rate,
                        deviation: level.deviation,
                        wanted: &wanted,
                        sources: &self.sources,
                    };
                    if !self.named(&task, &fingerprint, |name| shelf.has(name)) {
                        self.kept(&task, &fingerprint, shelf, || {
                            engine.piece(&task, progress, &mut Vec::new())
                        })?;
                    }
                }
            }
        }
        Ok(certain)
    }

    /// Calls `use_it` with what a piece is called on a shelf.
    fn named<T>(&self, task: &Task<'_>, model: &str, use_it: impl FnOnce(&Piece<'_>) -> T) -> T {
        let mut numbers = Vec::new();
        for chunk in task.grid.piece(task.piece) {
            numbers.push((chunk.heard - task.from as isize) as u64);
            numbers.push(chunk.skip as u64);
            numbers.push(chunk.len as u64);
        }
        let overlap = self.settings.overlap;
        numbers.extend([overlap.share.to_bits(), overlap.power.to_bits()]);
        let place = self.device.as_ref().map_or_else(String::new, place);
        use_it(&Piece {
            id: &format!("htdemucs-{VERSION}-{model}{place}"),
            numbers: &numbers,
            heard: &task.heard,
        })
    }

    /// A piece from the shelf, or made and put there.
    fn kept(
        &self,
        task: &Task<'_>,
        model: &str,
        shelf: &dyn Shelf,
        make: impl FnOnce() -> Result<(Vec<AudioBuffer>, bool), SeparationError>,
    ) -> Result<Vec<AudioBuffer>, SeparationError> {
        self.named(task, model, |name| {
            let span = task.grid.span(task.piece).1;
            let fits = |b: &AudioBuffer| b.channels.len() == task.heard.len() && b.frames() == span;
            if let Some(found) = shelf.find(name)
                && found.len() == task.wanted.len()
                && found.iter().all(fits)
            {
                return Ok(found);
            }
            let (made, whole) = make()?;
            // What stands in for a failed segment is not worth keeping.
            if whole {
                shelf.keep(name, &made);
            }
            Ok(made)
        })
    }
}

impl Separator for HtDemucs {
    fn id(&self) -> &str {
        &self.id
    }

    fn separate(&self, mix: &AudioBuffer, progress: &Progress) -> Result<Stems, SeparationError> {
        Ok(self.separate_whole(mix, &NoShelf, progress)?.stems)
    }

    fn wants_whole(&self) -> bool {
        true
    }

    fn separate_whole(
        &self,
        mix: &AudioBuffer,
        shelf: &dyn Shelf,
        progress: &Progress,
    ) -> Result<Separated, SeparationError> {
        let (sources, notes) = self.sources_of(mix, shelf, progress)?;
        let nothing = || AudioBuffer::new(vec![Vec::new(); mix.channels.len()], mix.sample_rate);
        let mut stems: Stems = std::array::from_fn(|_| nothing());
        let mut parts = Vec::new();
        for (name, audio) in self.sources.iter().zip(sources) {
            match Stem::ALL.into_iter().find(|s| s.name() == name) {
                // It follows from the rest, so that the stems sum to the mix: guitar, piano and the residual
                // are in it.
                Some(Stem::Other) => {}
                Some(stem) => stems[stem as usize] = audio,
                None => parts.push((name.clone(), audio)),
            }
        }
        for stem in stems.iter_mut().filter(|s| s.frames() != mix.frames()) {
            *stem = AudioBuffer::silence(mix.channels.len(), mix.frames(), mix.sample_rate);
        }
        super::rest_into_other(mix, &mut stems);
        Ok(Separated {
            stems,
            parts,
            notes,
        })
    }

    fn separate_ahead(
        &self,
        mix: &dyn Growing,
        shelf: &dyn Shelf,
        progress: &Progress,
    ) -> Result<usize, SeparationError> {
        self.pieces_ahead(mix, shelf, progress)
    }
}

/// The grid as a model's network hears it.
fn fitting(file: &ModelFile, grid: Grid) -> Grid {
    if file.hyper.hears_short() {
        grid.without_widening()
    } else {
        grid
    }
}

/// Mean and deviation of a signal.
#[derive(Clone, Copy)]
struct Level {
    mean: f32,
    deviation: f32,
}

impl Level {
    fn take_off(&self, signal: &mut Signal) {
        for x in signal.iter_mut().flatten() {
            *x = (*x - self.mean) / self.deviation;
        }
    }
}

/// The channels that a model hears.
fn with_channels(audio: AudioBuffer, wanted: usize) -> Signal {
    match (audio.channels.len(), wanted) {
        (1, 2) => vec![audio.channels[0].clone(), audio.channels[0].clone()],
        (2, 1) => vec![audio.mono()],
        _ => audio.channels,
    }
}

/// What the name of a result on `device` ends in.
fn place(device: &Device) -> String {
    format!("-candle-{:?}", device.location())
}

/// `count` offsets for [`Settings::offsets`] from a seed, for a model of `rate` Hz (a linear congruential
/// generator with Knuth's constants).
pub fn offsets(seed: u64, count: usize, rate: u32) -> Vec<usize> {
    let most = rate as usize / 2;
    let mut state = seed ^ 0x5eed;
    (0..count)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % (most + 1)
        })
        .collect()
}

/// A name for a model's file that changes with the file: the authors' names end in its hash.
fn fingerprint(path: &Path) -> String {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let bytes = std::fs::metadata(path).map_or(0, |m| m.len());
    format!("{name}:{bytes}")
}

fn clean(mix: &AudioBuffer) -> AudioBuffer {
    let finite = |x: &f32| if x.is_finite() { *x } else { 0.0 };
    let channels = mix.channels.iter().map(|c| c.iter().map(finite).collect());
    AudioBuffer::new(channels.collect(), mix.sample_rate)
}
