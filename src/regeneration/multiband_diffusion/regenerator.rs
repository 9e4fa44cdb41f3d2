// [worker] MultiBand Diffusion as a regenerator: damaged spans of a stem in, the same spans made anew out.

use std::sync::Arc;

use super::{MbdError, MultiBandDiffusion};
use crate::{
    audio::AudioBuffer,
    damage::Stem,
    regeneration::{
        RegenerationError, Regenerator, Request,
        resynthesis::{Span, padded_spans},
    },
    worker::progress::Progress,
};

/// What the codec and the networks hear on each side of a span and its margin: about ten times the codec's reach.
const CONTEXT_SECONDS: f64 = 1.0;
/// The deviation that the networks are used to: far quieter input comes out as noise.
const LEVEL: f64 = 0.25;
/// Below this deviation (−80 dB) a span is silence, with nothing to be made anew.
const SILENCE: f64 = 1e-4;

/// Decodes a stem's own codes with diffusion. It cleans what the codec's codes do not carry (clicks, crackle,
/// hardness), but plays nothing new: what is missing stays missing.
pub struct DiffusionRegenerator {
    model: Arc<MultiBandDiffusion>,
}

impl DiffusionRegenerator {
    pub fn new(model: Arc<MultiBandDiffusion>) -> Self {
        Self { model }
    }
}

impl Regenerator for DiffusionRegenerator {
    fn id(&self) -> &'static str {
        "multiband-diffusion-1"
    }

    fn supports(&self, stem: Stem) -> bool {
        matches!(stem, Stem::Drums | Stem::Bass)
    }

    fn notes(&self) -> Vec<String> {
        self.model.take_notices()
    }

    fn regenerate(
        &self,
        request: &Request<'_>,
        progress: &Progress,
    ) -> Result<Option<AudioBuffer>, RegenerationError> {
        if !self.supports(request.stem) {
            return Err(RegenerationError::Unsupported {
                stem: request.stem,
                id: self.id(),
            });
        }
        let stem = request.separated;
        let (frames, rate) = (stem.frames(), f64::from(stem.sample_rate));
        let spans = padded_spans(request, frames);
        let all: usize = spans.iter().map(|s| s.end - s.start).sum();
        let mut out = AudioBuffer::silence(stem.channels.len(), frames, stem.sample_rate);
        let (mut done, mut any) = (0, false);
        for Span { start, end } in spans {
            let context = (CONTEXT_SECONDS * rate) as usize;
            let from = start.saturating_sub(context);
            let to = (end + context).min(frames);
            let share = |n: usize| n as f64 / all.max(1) as f64;
            let part = progress.part(share(done), share(done + end - start));
            done += end - start;
            let heard = stem.slice(from, to - from);
            let made = self.model.regenerate_levelled(&heard, request.seed, &part);
            let made = made.map_err(|e| match e {
                MbdError::Cancelled => RegenerationError::Cancelled,
                other => RegenerationError::Failed(other.to_string()),
            })?;
            let Some(made) = made else {
                continue;
            };
            for (out, made) in out.channels.iter_mut().zip(&made.channels) {
                out[start..end].copy_from_slice(&made[start - from..end - from]);
            }
            any = true;
        }
        progress.report(1.0);
        Ok(any.then_some(out))
    }
}

impl MultiBandDiffusion {
    /// As [`Self::regenerate`], at the level that the networks are used to. `None` for silence.
    ///
    /// # Errors
    /// As there.
    pub fn regenerate_levelled(
        &self,
        audio: &AudioBuffer,
        seed: u64,
        progress: &Progress,
    ) -> Result<Option<AudioBuffer>, MbdError> {
        let level = deviation(audio);
        if level < SILENCE {
            return Ok(None);
        }
        let gain = (LEVEL / level) as f32;
        let mut heard = audio.clone();
        heard.channels.iter_mut().flatten().for_each(|x| *x *= gain);
        let mut made = self.regenerate(&heard, seed, progress)?;
        made.channels.iter_mut().flatten().for_each(|x| *x /= gain);
        Ok(Some(made))
    }
}

/// Root mean square of all channels about 0.
fn deviation(audio: &AudioBuffer) -> f64 {
    let count = audio.frames() * audio.channels.len();
    let sum: f64 = audio
        .channels
        .iter()
        .flatten()
        .map(|&x| f64::from(x) * f64::from(x))
        .sum();
    (sum / count.max(1) as f64).sqrt()
}
