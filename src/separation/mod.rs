// [worker] From a mix to four stems that sum to it.

#[cfg(feature = "ml")]
pub mod htdemucs;
pub mod learned;
pub mod spectral;
mod stft;

use std::ops::Range;

use crate::{audio::AudioBuffer, damage::Stem, worker::progress::Progress};

/// Stems in [`Stem`] order. Each has the mix's rate, channels and length, and they sum to the mix
/// (to rounding): the residual stays in `other`.
pub type Stems = [AudioBuffer; Stem::COUNT];

#[derive(Debug, thiserror::Error)]
pub enum SeparationError {
    #[error("cancelled")]
    Cancelled,
    /// Another separator has to do it.
    #[error("its result is not finite")]
    NotFinite,
    /// Another separator has to do it.
    #[cfg(feature = "ml")]
    #[error("{0}")]
    Model(htdemucs::ModelError),
}

#[cfg(feature = "ml")]
impl From<htdemucs::ModelError> for SeparationError {
    fn from(error: htdemucs::ModelError) -> Self {
        match error {
            htdemucs::ModelError::Cancelled => Self::Cancelled,
            error => Self::Model(error),
        }
    }
}

/// Splits a mix into stems.
pub trait Separator: Send + Sync {
    /// Stable name with version, part of cache keys: `spectral-1`.
    fn id(&self) -> &str;

    /// `mix`: 1 or 2 channels, any rate and length.
    fn separate(&self, mix: &AudioBuffer, progress: &Progress) -> Result<Stems, SeparationError>;

    /// Whether it wants to hear everything at once and cuts and keeps its own pieces:
    /// [`Self::separate_whole`] is called then.
    fn wants_whole(&self) -> bool {
        false
    }

    /// As [`Self::separate`], with a place for finished pieces, and with notes on what went wrong.
    fn separate_whole(
        &self,
        mix: &AudioBuffer,
        shelf: &dyn Shelf,
        progress: &Progress,
    ) -> Result<Separated, SeparationError> {
        let _ = shelf;
        let stems = self.separate(mix, progress)?;
        Ok(Separated {
            stems,
            parts: Vec::new(),
            notes: Vec::new(),
        })
    }

    /// Makes, for `shelf`, those pieces of [`Self::separate_whole`] that are certain already and were not when
    /// [`Growing::before`] frames were settled. Returns how many are certain now; none for a separator that
    /// doesn't want to hear everything at once.
    fn separate_ahead(
        &self,
        mix: &dyn Growing,
        shelf: &dyn Shelf,
        progress: &Progress,
    ) -> Result<usize, SeparationError> {
        let _ = (mix, shelf, progress);
        Ok(0)
    }
}

/// A mix whose end isn't known yet.
pub trait Growing {
    /// Hz.
    fn sample_rate(&self) -> u32;
    /// 1 or 2.
    fn channels(&self) -> usize;
    /// Frames that won't change any more.
    fn settled(&self) -> usize;
    /// Frames that were settled when the last pieces were made.
    fn before(&self) -> usize;
    /// Settled frames.
    ///
    /// # Errors
    /// If cancelled, or the mix isn't there any more.
    fn part(&self, range: Range<usize>) -> Result<AudioBuffer, SeparationError>;
}

/// Stems, and what there is to say about them.
pub struct Separated {
    pub stems: Stems,
    /// Instruments that are in `other` and that the separator can tell from it, by name: `guitar`, `piano`.
    pub parts: Vec<(String, AudioBuffer)>,
    /// Sentences for the user about what the separator could not do itself.
    pub notes: Vec<String>,
}

/// What a piece of a separation was made from: equal pieces have equal results.
pub struct Piece<'a> {
    /// The separator with its version.
    pub id: &'a str,
    pub numbers: &'a [u64],
    /// The channels that it hears.
    pub heard: &'a [&'a [f32]],
}

/// Keeps finished pieces between runs.
pub trait Shelf: Sync {
    fn find(&self, piece: &Piece<'_>) -> Option<Vec<AudioBuffer>>;
    /// Whether [`Self::find`] would find it.
    fn has(&self, piece: &Piece<'_>) -> bool {
        self.find(piece).is_some()
    }
    fn keep(&self, piece: &Piece<'_>, buffers: &[AudioBuffer]);
}

/// Keeps nothing.
pub struct NoShelf;

impl Shelf for NoShelf {
    fn find(&self, _: &Piece<'_>) -> Option<Vec<AudioBuffer>> {
        None
    }

    fn keep(&self, _: &Piece<'_>, _: &[AudioBuffer]) {}
}

/// Takes are worked on in pieces of this length: it bounds memory, and gives repetition enough to look at.
const PIECE_SECONDS: f64 = 24.0;
/// Neighbouring pieces are crossfaded over this.
const OVERLAP_SECONDS: f64 = 2.0;

/// Separates a mix piece by piece, and puts the rest into `other`: `work` gets a piece's channels, with 0 where
/// the mix is not finite, and returns the channels of each stem; those of `other` are not looked at.
pub(crate) fn in_pieces(
    mix: &AudioBuffer,
    mut work: impl FnMut(&[Vec<f32>]) -> Result<[Vec<Vec<f32>>; Stem::COUNT], SeparationError>,
) -> Result<Stems, SeparationError> {
    let frames = mix.frames();
    let rate = mix.sample_rate;
    let mut stems: Stems =
        std::array::from_fn(|_| AudioBuffer::silence(mix.channels.len(), frames, rate));
    let length = (PIECE_SECONDS * f64::from(rate)) as usize;
    let overlap = (OVERLAP_SECONDS * f64::from(rate)) as usize;
    let mut start = 0;
    while start < frames {
        // A short last piece joins the one before.
        let end = if frames - start <= length + overlap {
            frames
        } else {
            start + length
        };
        let finite = |x: &f32| if x.is_finite() { *x } else { 0.0 };
        let piece: Vec<Vec<f32>> = mix
            .channels
            .iter()
            .map(|c| c[start..end].iter().map(finite).collect())
            .collect();
        let separated = work(&piece)?;
        for (stem, channels) in stems.iter_mut().zip(&separated) {
            for (to, from) in stem.channels.iter_mut().zip(channels) {
                for (n, x) in from.iter().enumerate() {
                    let o = &mut to[start + n];
                    if start > 0 && n < overlap {
                        let w = (n as f32 + 0.5) / overlap as f32;
                        *o += w * (x - *o);
                    } else {
                        *o = *x;
                    }
                }
            }
        }
        if end == frames {
            break;
        }
        start = end - overlap;
    }
    rest_into_other(mix, &mut stems);
    Ok(stems)
}

/// Sets `other` to what the other stems leave of the mix; 0 where the mix is not finite.
pub(crate) fn rest_into_other(mix: &AudioBuffer, stems: &mut Stems) {
    let [drums, bass, other, vocals] = stems;
    if other.frames() != mix.frames() {
        *other = AudioBuffer::silence(mix.channels.len(), mix.frames(), mix.sample_rate);
    }
    for (c, channel) in mix.channels.iter().enumerate() {
        for (n, x) in channel.iter().enumerate() {
            let sum = drums.channels[c][n] + bass.channels[c][n] + vocals.channels[c][n];
            other.channels[c][n] = if x.is_finite() { x - sum } else { 0.0 };
        }
    }
}
