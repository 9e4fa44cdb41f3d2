// [worker] Who does a job's heavy work: this process, or one of its own.

use std::{ops::Range, path::Path, sync::Arc};

use crate::{
    audio::AudioBuffer,
    cache::Cache,
    damage::Stem,
    exchange::{
        SamplePos,
        samples::{BLOCK, Samples, StereoSamples},
    },
    worker::{
        ahead,
        options::Options,
        pieces::{self, Buffer, Layout, Sink, Source, Told},
        pipeline::{Outcome, PipelineError},
        progress::{Progress, Step},
        scratch::{KeptStems, StemFiles},
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
}

impl Source for Recording<'_> {
    fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    fn frames(&self) -> usize {
        Recording::frames(self)
    }

    fn part(&self, range: Range<usize>) -> Result<AudioBuffer, PipelineError> {
        let channels = self.channels().iter();
        let channels = channels.map(|c| c.slice(range.clone())).collect();
        Ok(AudioBuffer::new(channels, self.sample_rate))
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

/// [`Rebuilt`] as it comes, piece by piece.
struct Making<'a> {
    take: &'a Recording<'a>,
    base: StereoSamples,
    layers: [Option<StereoSamples>; Stem::COUNT],
    stems: Option<Result<StemFiles, String>>,
}

impl<'a> Making<'a> {
    /// Nothing of `take` yet; the stems go into a folder in `stems`, if they are wanted.
    fn new(take: &'a Recording<'a>, stems: Option<&Path>) -> Self {
        let channels = take.channels().len();
        let create = |parent| {
            StemFiles::create(parent, channels, take.frames()).map_err(|error| error.to_string())
        };
        Self {
            take,
            base: [(); 2].map(|()| Samples::new(take.start)),
            layers: [const { None }; Stem::COUNT],
            stems: stems.map(create),
        }
    }

    fn finish(mut self, told: Told) -> Rebuilt {
        let end = self.take.frames();
        append(&mut self.base, end, None, &[self.take.samples]);
        for layer in self.layers.iter_mut().flatten() {
            append(layer, end, None, &[]);
        }
        let kept = |files: StemFiles| files.finish().map_err(|error| error.to_string());
        Rebuilt {
            base: self.base,
            layers: self.layers,
            stems: self.stems.map(|files| files.and_then(kept)),
            findings: told.findings,
            rebuilders: told.rebuilders,
        }
    }
}

impl Sink for Making<'_> {
    fn put(&mut self, what: Buffer, at: usize, audio: AudioBuffer) -> Result<(), PipelineError> {
        match what {
            Buffer::Base => append(&mut self.base, at, Some(&audio), &[self.take.samples]),
            Buffer::Layer(stem) => {
                let new = || [(); 2].map(|()| Samples::new(self.take.start));
                let layer = self.layers[stem as usize].get_or_insert_with(new);
                append(layer, at, Some(&audio), &[]);
            }
            Buffer::Stem(stem) => {
                if let Some(Ok(files)) = &mut self.stems
                    && let Err(error) = files.put(stem, at, &audio)
                {
                    // They are for listening only: the rest goes on.
                    self.stems = Some(Err(error.to_string()));
                }
            }
            Buffer::Part(_) => {}
        }
        Ok(())
    }
}

/// Appends silence up to sample `at`, and `audio` there (mono: twice); at the end, without any, what is half a block is
/// settled. Blocks are shared with each other and with every one of `like`.
fn append(
    own: &mut StereoSamples,
    at: usize,
    audio: Option<&AudioBuffer>,
    like: &[&StereoSamples],
) {
    const SILENCE: [f32; BLOCK] = [0.0; BLOCK];
    let others: Vec<&Samples> = like.iter().flat_map(|samples| samples.iter()).collect();
    let [left, right] = own;
    let add = |own: &mut Samples, channel: usize, like: &[&Samples]| {
        while own.len() < at {
            let count = BLOCK.min(at - own.len());
            own.extend(&SILENCE[..count], like);
        }
        match audio {
            Some(audio) => {
                let channels = &audio.channels;
                let channel = channels.get(channel).or(channels.first());
                own.extend(channel.map_or(&[][..], Vec::as_slice), like);
            }
            None => own.finish(like),
        }
    };
    add(left, 0, &others);
    add(right, 1, &[&[&*left][..], &others].concat());
}

/// The heavy part of the engine's jobs: pure, from audio and options to audio and findings.
pub trait Road: Send + Sync {
    /// As [`pipeline::song`](super::pipeline::song).
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

    /// As [`Self::run`], of a take of any length, in pieces that go to `sink`.
    ///
    /// # Errors
    /// As [`pieces::run`].
    fn stream(
        &self,
        take: &dyn Source,
        options: &Options,
        cache: Option<&Cache>,
        progress: &Progress,
        sink: &mut dyn Sink,
    ) -> Result<Told, PipelineError> {
        let song = |piece: &AudioBuffer, options: &Options, progress: &Progress| {
            self.run(piece, options, cache, progress)
        };
        let layout = Layout::new(take.frames(), take.sample_rate());
        pieces::run(&song, &layout, take, options, progress, sink)
    }

    /// As [`Self::stream`], for the engine. `stems`: the folder in which the separated stems are kept, if they are
    /// wanted.
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
        let mut making = Making::new(take, stems);
        let told = self.stream(take, options, cache, progress, &mut making)?;
        progress.set(Step::Committing, 0.99);
        Ok(making.finish(told))
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

/// [`pipeline::song`](super::pipeline::song), or in its place what a test wants to see survived.
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
