// [worker] Who separates a take: the best model that is installed, else masks without a network; the built-in network
// where it is asked for.

use crate::{
    audio::AudioBuffer,
    cache::{Cache, Key, KeyBuilder},
    separation::{
        Piece, SeparationError, Separator, Shelf, Stems, learned::Learned, spectral::Spectral,
    },
    worker::{
        options::SeparatorChoice,
        pipeline::{self, PipelineError},
        progress::Progress,
        segments,
    },
};

/// Raised when the stage's output changes.
pub(super) const VERSION: u32 = 1;

/// Models that can separate, best first. The fine-tuned bag takes four times as long for a few tenths of a
/// dB, so it is used where it is the only one.
#[cfg(feature = "ml")]
const MODELS: [&str; 4] = ["htdemucs", "htdemucs_ft", "htdemucs_6s", "hdemucs_mmi"];
/// The one that can tell guitar and piano from the rest.
#[cfg(feature = "ml")]
const SIX_STEMS: &str = "htdemucs_6s";

/// The stems of a take, and who made them.
pub struct Separation {
    pub stems: Stems,
    /// See [`crate::separation::Separated::parts`].
    pub parts: Vec<(String, AudioBuffer)>,
    /// Of the separator that ran.
    pub id: String,
    /// For the user: who ran, and why not somebody better.
    pub lines: Vec<String>,
}

/// Separates `base`: whoever is wanted, if it is there and works, else [`Spectral`].
///
/// # Errors
/// If cancelled.
pub(super) fn separated(
    base: &AudioBuffer,
    choice: SeparatorChoice,
    cache: Option<&Cache>,
    progress: &Progress,
) -> Result<Separation, PipelineError> {
    first_that_works(candidates(choice), base, cache, progress)
}

fn first_that_works(
    candidates: Vec<Result<Box<dyn Separator>, String>>,
    base: &AudioBuffer,
    cache: Option<&Cache>,
    progress: &Progress,
) -> Result<Separation, PipelineError> {
    let mut reasons = Vec::new();
    for candidate in candidates {
        match candidate {
            Ok(separator) => match with(separator.as_ref(), base, cache, progress) {
                Ok(separation) => return Ok(because(separation, &reasons)),
                Err(SeparationError::Cancelled) => return Err(PipelineError::Cancelled),
                Err(error) => reasons.push(format!("{} can't be used: {error}", separator.id())),
            },
            Err(reason) => reasons.push(reason),
        }
    }
    Ok(because(with(&Spectral, base, cache, progress)?, &reasons))
}

/// Who is asked before [`Spectral`], best first, or why somebody can't be.
pub(super) fn candidates(choice: SeparatorChoice) -> Vec<Result<Box<dyn Separator>, String>> {
    match choice {
        SeparatorChoice::Automatic | SeparatorChoice::SixStems => vec![model(choice)],
        // Its stems are cleaner, but kicks and snares are heard less surely in them, and a rebuild that harms can pass
        // the gate, whose limits were found with the spectral separator's stems.
        SeparatorChoice::Learned => vec![match Learned::built_in() {
            Ok(learned) => Ok(Box::new(learned)),
            Err(error) => Err(format!("the built-in network can't be used: {error}")),
        }],
        SeparatorChoice::Spectral => Vec::new(),
    }
}

/// The best separator that can be opened.
#[cfg(feature = "ml")]
pub(super) fn best(choice: SeparatorChoice) -> Box<dyn Separator> {
    let opened = candidates(choice).into_iter().find_map(Result::ok);
    opened.unwrap_or_else(|| Box::new(Spectral))
}

/// A separation that says why it wasn't a better separator's.
fn because(mut separation: Separation, reasons: &[String]) -> Separation {
    if let (Some(line), false) = (separation.lines.first_mut(), reasons.is_empty()) {
        *line += &format!(" ({})", reasons.join("; "));
    }
    separation
}

/// Separates with one separator.
pub(super) fn with(
    separator: &dyn Separator,
    base: &AudioBuffer,
    cache: Option<&Cache>,
    progress: &Progress,
) -> Result<Separation, SeparationError> {
    let id = separator.id().to_owned();
    let mut lines = vec![format!("stems separated by {id}")];
    let mut parts = Vec::new();
    let stems = if separator.wants_whole() {
        let found = separator.separate_whole(base, &CacheShelf(cache), progress)?;
        lines.extend(found.notes);
        parts = found.parts;
        found.stems
    } else {
        segments::map(base, |part, share| {
            let progress = progress.part(share.start, share.end);
            separated_part(separator, &part, cache, &progress)
        })?
    };
    Ok(Separation {
        stems,
        parts,
        id,
        lines,
    })
}

/// One segment for a separator that hears segments.
pub(super) fn separated_part(
    separator: &dyn Separator,
    part: &AudioBuffer,
    cache: Option<&Cache>,
    progress: &Progress,
) -> Result<Stems, SeparationError> {
    if progress.is_cancelled() {
        return Err(SeparationError::Cancelled);
    }
    let key = pipeline::audio_key("separate", VERSION, part)
        .str(separator.id())
        .finish();
    pipeline::cached_audio(cache, &key, || separator.separate(part, progress))
}

/// The best model that is installed, or why there is none.
#[cfg(feature = "ml")]
fn model(choice: SeparatorChoice) -> Result<Box<dyn Separator>, String> {
    use crate::{
        models::library::Library,
        separation::htdemucs::{HtDemucs, Settings},
    };
    let library = Library::open().map_err(|e| e.to_string())?;
    let mut reason =
        "no separation model is installed: fetch htdemucs under Models, or by `uncook models fetch htdemucs`"
            .to_owned();
    let first = (choice == SeparatorChoice::SixStems).then_some(SIX_STEMS);
    for name in first.into_iter().chain(MODELS) {
        if let Some(files) = library.find(name) {
            match HtDemucs::open(name, &files, Settings::default()) {
                Ok(model) => {
                    let model = model.with_copies(library.copies_folder(name));
                    return Ok(Box::new(model.on_best_device()));
                }
                Err(error) => reason = format!("{name} can't be used: {error}"),
            }
        }
    }
    Err(reason)
}

#[cfg(not(feature = "ml"))]
fn model(_: SeparatorChoice) -> Result<Box<dyn Separator>, String> {
    Err("this build has no models".to_owned())
}

/// Pieces of a separator in the cache.
pub(super) struct CacheShelf<'a>(pub Option<&'a Cache>);

fn key(piece: &Piece<'_>) -> Key {
    let mut key = KeyBuilder::new("separate-piece", VERSION).str(piece.id);
    for number in piece.numbers {
        key = key.u64(*number);
    }
    for channel in piece.heard {
        key = key.samples(channel);
    }
    key.finish()
}

impl Shelf for CacheShelf<'_> {
    fn find(&self, piece: &Piece<'_>) -> Option<Vec<AudioBuffer>> {
        let bytes = self.0?.get(&key(piece))?;
        pipeline::decode_all(&bytes)
    }

    fn has(&self, piece: &Piece<'_>) -> bool {
        self.0.is_some_and(|cache| cache.contains(&key(piece)))
    }

    fn keep(&self, piece: &Piece<'_>, buffers: &[AudioBuffer]) {
        if let Some(cache) = self.0 {
            // A cache that can't be written costs time, never a result.
            let _ = cache.put(&key(piece), &pipeline::encode_all(buffers));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network whose answer is no number.
    struct Lost;

    impl Separator for Lost {
        fn id(&self) -> &str {
            "lost"
        }

        fn separate(&self, _: &AudioBuffer, _: &Progress) -> Result<Stems, SeparationError> {
            Err(SeparationError::NotFinite)
        }
    }

    fn mix() -> AudioBuffer {
        let tone = |n: i32| 0.3 * (0.03 * n as f32).sin();
        AudioBuffer::new(vec![(0..20_000).map(tone).collect()], 22_050)
    }

    #[test]
    fn whoever_fails_is_followed_by_the_next_and_the_user_reads_why() {
        let candidates = vec![Err("none is installed".to_owned()), Ok(Box::new(Lost) as _)];
        let done = first_that_works(candidates, &mix(), None, &Progress::new()).unwrap();
        assert_eq!(done.id, Spectral.id());
        assert_eq!(
            done.lines,
            [
                "stems separated by spectral-1 (none is installed; lost can't be used: its result is not \
                 finite)"
            ]
        );
        let cancelled = Progress::new();
        cancelled.cancel();
        let stopped = first_that_works(vec![Ok(Box::new(Lost))], &mix(), None, &cancelled);
        assert!(matches!(stopped, Err(PipelineError::Cancelled)));
    }

    #[test]
    fn the_built_in_network_separates_where_it_is_asked_for() {
        let separate = |choice| separated(&mix(), choice, None, &Progress::new()).unwrap();
        let learned = separate(SeparatorChoice::Learned);
        assert_eq!(learned.lines, ["stems separated by learned-1"]);
        assert_eq!(separate(SeparatorChoice::Spectral).id, "spectral-1");
    }
}
