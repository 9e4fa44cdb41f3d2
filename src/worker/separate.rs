// [worker] Who separates a take: the best model that is installed, else the model-free separator.

use crate::{
    audio::AudioBuffer,
    cache::{Cache, Key, KeyBuilder},
    separation::{Piece, SeparationError, Separator, Shelf, Stems, spectral::Spectral},
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

/// Separates `base`: a model if one is wanted, installed and works, else [`Spectral`].
///
/// # Errors
/// If cancelled.
pub(super) fn separated(
    base: &AudioBuffer,
    choice: SeparatorChoice,
    cache: Option<&Cache>,
    progress: &Progress,
) -> Result<Separation, PipelineError> {
    let reason = match choice {
        SeparatorChoice::Spectral => None,
        SeparatorChoice::Automatic | SeparatorChoice::SixStems => match model(choice) {
            Ok(model) => match with(model.as_ref(), base, cache, progress) {
                Ok(separation) => return Ok(separation),
                Err(SeparationError::Cancelled) => return Err(PipelineError::Cancelled),
                #[cfg(feature = "ml")]
                Err(SeparationError::Model(error)) => {
                    Some(format!("{} can't be used: {error}", model.id()))
                }
            },
            Err(reason) => Some(reason),
        },
    };
    let mut separation = with(&Spectral, base, cache, progress)?;
    if let (Some(reason), Some(line)) = (reason, separation.lines.first_mut()) {
        *line += &format!(" ({reason})");
    }
    Ok(separation)
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
pub(super) fn model(choice: SeparatorChoice) -> Result<Box<dyn Separator>, String> {
    use crate::{
        models::library::Library,
        separation::htdemucs::{HtDemucs, Settings},
    };
    let library = Library::open().map_err(|e| e.to_string())?;
    let mut reason =
        "no separation model is installed: `uncook models fetch htdemucs` gets one".to_owned();
    let first = (choice == SeparatorChoice::SixStems).then_some(SIX_STEMS);
    for name in first.into_iter().chain(MODELS) {
        if let Some(files) = library.find(name) {
            match HtDemucs::open(name, &files, Settings::default()) {
                Ok(model) => return Ok(Box::new(model.on_best_device())),
                Err(error) => reason = format!("{name} can't be used: {error}"),
            }
        }
    }
    Err(reason)
}

#[cfg(not(feature = "ml"))]
pub(super) fn model(_: SeparatorChoice) -> Result<Box<dyn Separator>, String> {
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
