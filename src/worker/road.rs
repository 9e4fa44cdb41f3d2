// [worker] Who does a job's heavy work: this process, or one of its own.

use std::{path::Path, sync::Arc};

use crate::{
    audio::AudioBuffer,
    cache::Cache,
    damage::Stem,
    exchange::{
        SamplePos,
        samples::{self, Samples, StereoSamples},
    },
    worker::{
        ahead,
        options::Options,
        pipeline::{Outcome, PipelineError},
        progress::{Progress, Step},
        scratch::KeptStems,
        view::Findings,
    },
};

/// A take as the engine holds it.
#[derive(Clone, Copy)]
pub struct Recording<'a> {
    pub start: SamplePos,
    /// Hz.
    pub sample_rate: u32,
    pub samples: &'a StereoSamples,
}

impl<'a> Recording<'a> {
    /// The channels that differ: mono on a stereo track is one.
    pub fn channels(&self) -> &'a [Samples] {
        let [left, right] = self.samples;
        let different = if left == right { 1 } else { 2 };
        &self.samples[..different]
    }

    /// Length in samples.
    pub fn frames(&self) -> usize {
        self.samples[0].len()
    }

    /// A copy of [`Self::channels`].
    pub fn to_audio(&self) -> AudioBuffer {
        let channels = self.channels().iter().map(Samples::to_vec).collect();
        AudioBuffer::new(channels, self.sample_rate)
    }
}

/// What the engine takes from an [`Outcome`], as it holds it: no audio is there twice, and the stems are on disk.
pub struct Rebuilt {
    pub base: StereoSamples,
    /// Per stem `regenerated − separated`.
    pub layers: [Option<StereoSamples>; Stem::COUNT],
    /// `None` where nobody asked for them, or why they could not be kept.
    pub stems: Option<Result<KeptStems, String>>,
    pub findings: Findings,
    /// As [`Outcome::rebuilders`].
    pub rebuilders: Vec<String>,
}

impl Rebuilt {
    /// Of what the road yields of `take`; the stems go into a folder in `stems`, if they are wanted.
    pub fn new(take: &Recording<'_>, outcome: Outcome, stems: Option<&Path>) -> Self {
        // One after the other: a few long buffers fewer before more are made.
        drop(outcome.parts);
        let kept = stems.map(|parent| {
            KeptStems::write(parent, outcome.stems).map_err(|error| error.to_string())
        });
        let stereo = |audio: AudioBuffer, like: &[&StereoSamples]| {
            let left = audio.channels.first().map_or(&[][..], Vec::as_slice);
            let right = audio.channels.get(1).map_or(left, Vec::as_slice);
            samples::stereo(take.start, [left, right], like)
        };
        Self {
            base: stereo(outcome.base, &[take.samples]),
            layers: outcome.layers.map(|layer| Some(stereo(layer?, &[]))),
            stems: kept,
            findings: outcome.findings,
            rebuilders: outcome.rebuilders,
        }
    }
}

/// The heavy part of the engine's jobs: pure, from audio and options to audio and findings.
pub trait Road: Send + Sync {
    /// As [`pipeline::run`](super::pipeline::run).
    ///
    /// # Errors
    /// As the same.
    fn run(
        &self,
        take: &AudioBuffer,
        options: &Options,
        cache: Option<&Cache>,
        progress: &Progress,
    ) -> Result<Outcome, PipelineError>;

    /// As [`Self::run`], for the engine. `stems`: the folder in which the separated stems are kept, if they are wanted.
    ///
    /// # Errors
    /// As [`Self::run`].
    fn rebuild(
        &self,
        take: &Recording<'_>,
        options: &Options,
        cache: Option<&Cache>,
        stems: Option<&Path>,
        progress: &Progress,
    ) -> Result<Rebuilt, PipelineError> {
        let outcome = self.run(&take.to_audio(), options, cache, progress)?;
        progress.set(Step::Committing, 0.99);
        Ok(Rebuilt::new(take, outcome, stems))
    }

    /// As [`ahead::work`].
    ///
    /// # Errors
    /// As [`ahead::work`].
    fn ahead(
        &self,
        take: &ahead::Take<'_>,
        options: &Options,
        cache: &Cache,
        progress: &Progress,
    ) -> Result<(), PipelineError> {
        ahead::work(take, options, cache, progress)
    }

    /// Where the work is done and why, a sentence for the user; empty where there is nothing to say.
    fn status(&self) -> Arc<str> {
        Arc::default()
    }

    /// What went wrong since this was last asked, though there may be a result: sentences for the user.
    fn incidents(&self) -> Vec<String> {
        Vec::new()
    }
}

/// [`pipeline::run`](super::pipeline::run), or in its place what a test wants to see survived.
pub type Run =
    fn(&AudioBuffer, &Options, Option<&Cache>, &Progress) -> Result<Outcome, PipelineError>;

/// The work is done in this process.
pub struct InProcess {
    pub run: Run,
    /// Why, where another process would have been better.
    pub status: Arc<str>,
}

impl InProcess {
    /// With nothing to say about it.
    pub fn new(run: Run) -> Self {
        let status = Arc::default();
        Self { run, status }
    }
}

impl Road for InProcess {
    fn run(
        &self,
        take: &AudioBuffer,
        options: &Options,
        cache: Option<&Cache>,
        progress: &Progress,
    ) -> Result<Outcome, PipelineError> {
        (self.run)(take, options, cache, progress)
    }

    fn status(&self) -> Arc<str> {
        self.status.clone()
    }
}
