// [worker] Work on a take while it is still captured, so that little is left when the user stops.
//!
//! What is done ahead is exactly what the analysis of the whole take would do: a segment of restoration, and
//! the pieces of the separation that it makes certain. The results lie in the cache under what they were made
//! from, and the analysis finds them there. Where the take, the options or the model are others by then, it
//! finds nothing and does the work itself: working ahead can't change a result.

use std::ops::Range;

use crate::{
    audio::AudioBuffer,
    cache::Cache,
    separation::{Growing, SeparationError, Separator, spectral::Spectral},
    worker::{
        options::Options,
        pieces,
        pipeline::{self, PipelineError},
        progress::{Progress, Step},
        segments::{self, Layout},
        separate::{self, CacheShelf},
    },
};

/// A take that is still captured.
pub struct Take<'a> {
    /// Hz.
    pub sample_rate: u32,
    /// 1 (also where both channels of a stereo track have been the same so far) or 2.
    pub channels: usize,
    /// Frames that have been captured.
    pub frames: usize,
    /// Segments that have been worked on.
    pub done: usize,
    /// Frames of it, as they are now; `None` where they are gone. Called with at most a segment and its
    /// context.
    pub fetch: &'a (dyn Fn(Range<usize>) -> Option<AudioBuffer> + Sync),
}

/// Segments of a take of `frames` that can be worked on: those that won't change when it grows.
pub fn ready(frames: usize, sample_rate: u32) -> usize {
    Layout::settled(frames, sample_rate, usize::MAX).count()
}

/// Seconds of a take that `segments` segments are.
pub fn seconds(segments: usize) -> f64 {
    (segments * segments::SEGMENT_SECONDS) as f64
}

/// Restores the next segment, and separates what that makes certain.
///
/// # Errors
/// If cancelled, or the take is gone.
pub fn work(
    take: &Take<'_>,
    options: &Options,
    cache: &Cache,
    progress: &Progress,
) -> Result<(), PipelineError> {
    // Of the piece in which the segment lies.
    let layout = pieces::Layout::new(take.frames, take.sample_rate);
    let skipped = layout.first_heard_with(take.done);
    let start = skipped * segments::SEGMENT_SECONDS * take.sample_rate as usize;
    let fetch = |range: Range<usize>| (take.fetch)(range.start + start..range.end + start);
    let take = &Take {
        frames: take.frames - start,
        done: take.done - skipped,
        fetch: &fetch,
        ..*take
    };
    let base = Base {
        take,
        layout: Layout::settled(take.frames, take.sample_rate, take.done + 1),
        before: Layout::settled(take.frames, take.sample_rate, take.done).frames(),
        options,
        cache,
        progress: progress.part(0.0, 0.5),
    };
    progress.set(Step::Restoring, 0.0);
    base.restored(base.before..base.settled())?;
    progress.set(Step::Separating, 0.5);
    let progress = progress.part(0.5, 1.0);
    for separator in separate::candidates(options.separator)
        .into_iter()
        .flatten()
    {
        match separate_with(separator.as_ref(), &base, cache, &progress) {
            // The analysis won't be able to use it either, and will say so.
            Err(error) if !matches!(error, SeparationError::Cancelled) => {}
            done => return Ok(done?),
        }
    }
    Ok(separate_with(&Spectral, &base, cache, &progress)?)
}

/// As [`work`]'s second half, with one separator.
fn separate_with(
    separator: &dyn Separator,
    base: &Base<'_>,
    cache: &Cache,
    progress: &Progress,
) -> Result<(), SeparationError> {
    if separator.wants_whole() {
        separator.separate_ahead(base, &CacheShelf(Some(cache)), progress)?;
        return Ok(());
    }
    let rate = base.take.sample_rate;
    let before = Layout::settled(base.before, rate, usize::MAX).count();
    let layout = Layout::settled(base.settled(), rate, usize::MAX);
    for i in before..layout.count() {
        let part = base.part(layout.heard(i))?;
        separate::separated_part(separator, &part, Some(cache), progress)?;
    }
    Ok(())
}

/// The restored mix of a take that is still captured.
struct Base<'a> {
    take: &'a Take<'a>,
    layout: Layout,
    before: usize,
    options: &'a Options,
    cache: &'a Cache,
    progress: Progress,
}

impl Base<'_> {
    fn restored(&self, range: Range<usize>) -> Result<AudioBuffer, PipelineError> {
        let [base] = segments::map_span(
            &self.layout,
            range,
            self.take.channels,
            |heard| (self.take.fetch)(heard).ok_or(PipelineError::Cancelled),
            |part, _| pipeline::restored_part(part, self.options, Some(self.cache), &self.progress),
        )?;
        Ok(base)
    }
}

impl Growing for Base<'_> {
    fn sample_rate(&self) -> u32 {
        self.take.sample_rate
    }

    fn channels(&self) -> usize {
        self.take.channels
    }

    fn settled(&self) -> usize {
        self.layout.frames()
    }

    fn before(&self) -> usize {
        self.before
    }

    fn part(&self, range: Range<usize>) -> Result<AudioBuffer, SeparationError> {
        // What restoration may fail with is that it was cancelled.
        self.restored(range).map_err(|_| SeparationError::Cancelled)
    }
}
