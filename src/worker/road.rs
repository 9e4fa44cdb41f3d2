// [worker] Who does a job's heavy work: this process, or one of its own.

use std::sync::Arc;

use crate::{
    audio::AudioBuffer,
    cache::Cache,
    worker::{
        ahead,
        options::Options,
        pipeline::{Outcome, PipelineError},
        progress::Progress,
    },
};

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
