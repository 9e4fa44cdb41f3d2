// [worker] MultiBand Diffusion as a regenerator: damaged spans of a stem in, the same spans made anew out.

use std::sync::Arc;

use super::{MbdError, MultiBandDiffusion};
use crate::{
    audio::AudioBuffer,
    damage::Stem,
    regeneration::{RegenerationError, Regenerator, Request},
    worker::progress::Progress,
};

/// What is made on each side of a span beyond it, for the crossfades (as [`Regenerator::regenerate`] asks).
const MARGIN_SECONDS: f64 = 0.25;
/// What the codec and the networks hear on each side beyond that: about ten times the codec's reach.
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
        let at = |seconds: f64| ((seconds * rate).round().max(0.0) as usize).min(frames);
        // Spans with their margins, those that touch joined.
        let mut spans: Vec<(usize, usize)> = Vec::new();
        for region in request.regions {
            let (start, end) = (
                at(region.start - MARGIN_SECONDS),
                at(region.end + MARGIN_SECONDS),
            );
            match spans.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ if start < end => spans.push((start, end)),
                _ => {}
            }
        }
        let all: usize = spans.iter().map(|(a, b)| b - a).sum();
        let mut out = AudioBuffer::silence(stem.channels.len(), frames, stem.sample_rate);
        let (mut done, mut any) = (0, false);
        for (start, end) in spans {
            let context = (CONTEXT_SECONDS * rate) as usize;
            let from = start.saturating_sub(context);
            let to = (end + context).min(frames);
            let mut heard = stem.slice(from, to - from);
            let level = deviation(&heard);
            let share = |n: usize| n as f64 / all.max(1) as f64;
            let part = progress.part(share(done), share(done + end - start));
            done += end - start;
            if level < SILENCE {
                continue;
            }
            let gain = (LEVEL / level) as f32;
            heard.channels.iter_mut().flatten().for_each(|x| *x *= gain);
            let made = self
                .model
                .regenerate(&heard, request.seed, &part)
                .map_err(|e| match e {
                    MbdError::Cancelled => RegenerationError::Cancelled,
                    other => RegenerationError::Failed(other.to_string()),
                })?;
            for (out, made) in out.channels.iter_mut().zip(&made.channels) {
                let made = &made[start - from..end - from];
                out[start..end]
                    .iter_mut()
                    .zip(made)
                    .for_each(|(o, x)| *o = x / gain);
            }
            any = true;
        }
        progress.report(1.0);
        Ok(any.then_some(out))
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
