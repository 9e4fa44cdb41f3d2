// [worker] What the transformer hears beside the latents: text, chords, drums, melody, for every term of the
// guidance.

use super::{
    JascoError,
    config::{
        CHORD_TABLE, CODEC_PREFIX, DRUMS_PROJECTION, MELODY_PROJECTION, ModelConfig,
        TEXT_PROJECTION,
    },
    flow::{Row, Rows},
    linear::Linear,
    weights,
};
use crate::models::tensors::Tensors;

/// How strongly each kind of condition pulls: the velocity is `all` times that of everything, `text` times that
/// of the text alone, and what is left of 1 times that of nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guidance {
    pub all: f32,
    pub text: f32,
}

/// A weight below this is none: its term isn't computed.
const NO_WEIGHT: f32 = 1e-6;

/// What one window is conditioned on; `None` for what isn't known.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// From [`Conditioner::text`]; empty for none.
    pub text: Vec<f32>,
    /// One index a frame, see [`super::chords`].
    pub chords: Option<Vec<u32>>,
    /// Latents from [`Conditioner::drums`], `[frames][flow_dim]`.
    pub drums: Option<Vec<f32>>,
    /// The same of silence: what the reference gives the terms that don't hear the drums.
    pub silence: Option<Vec<f32>>,
    /// `[melody rows][frames]`, see [`super::melody`].
    pub melody: Option<Vec<f32>>,
}

/// The conditions' own weights.
pub struct Conditioner {
    config: ModelConfig,
    text: Linear,
    /// `[chords + 1][chords_dim]`.
    chords: Vec<f32>,
    drums: Linear,
    melody: Option<Linear>,
    /// The codec's first codebook, `[entries][flow_dim]`.
    codebook: Vec<f32>,
}

impl Conditioner {
    /// Reads the weights, whose presence and shapes were checked.
    ///
    /// # Errors
    /// If a tensor can't be read, or the codec's first codebook is missing.
    pub fn load(source: &dyn Tensors, config: &ModelConfig) -> Result<Self, JascoError> {
        let f = &config.flow;
        let affine = |weight: &str, out: usize, input: usize| -> Result<Linear, JascoError> {
            let bias = weight.replace(".weight", ".bias");
            Linear::load(source, weight, Some(&bias), input, out)
        };
        let name = format!("{CODEC_PREFIX}quantizer.layers.0.codebook.embed");
        let entries = match source.shape(&name).as_deref() {
            Some(&[entries, width]) if width == f.flow_dim && entries > 0 => entries,
            actual => {
                return Err(JascoError::Tensors {
                    problems: vec![match actual {
                        None => format!("{name} is missing"),
                        Some(shape) => {
                            format!("{name} has shape {shape:?}, expected [_, {}]", f.flow_dim)
                        }
                    }],
                });
            }
        };
        Ok(Self {
            text: affine(TEXT_PROJECTION, f.dim, config.text_dim)?,
            chords: weights::read(source, CHORD_TABLE, &[config.chords + 1, f.chords_dim])?,
            drums: affine(DRUMS_PROJECTION, f.drums_dim, f.flow_dim)?,
            melody: if f.melody_dim > 0 {
                Some(affine(MELODY_PROJECTION, f.melody_dim, config.melody_rows)?)
            } else {
                None
            },
            codebook: weights::read(source, &name, &[entries, f.flow_dim])?,
            config: config.clone(),
        })
    }

    /// T5's output `[positions][text_dim]` to the transformer's width.
    pub fn text(&self, hidden: &[f32]) -> Vec<f32> {
        let positions = hidden.len() / self.config.text_dim;
        let mut out = vec![0.0; positions * self.config.flow.dim];
        self.text.apply_plain(hidden, positions, &mut out);
        out
    }

    /// The codec's latents of drums, `[frames][flow_dim]`, made coarse: each is replaced by the nearest entry
    /// of the first codebook, then groups of frames by their mean, so that the timing stays and the sound
    /// goes.
    pub fn drums(&self, latents: &[f32]) -> Vec<f32> {
        let width = self.config.flow.flow_dim;
        let coarse: Vec<&[f32]> = latents
            .chunks_exact(width)
            .map(|frame| &self.codebook[nearest(&self.codebook, frame) * width..][..width])
            .collect();
        let (frames, blur) = (coarse.len(), self.config.blur);
        // What a group lacks at the end is mirrored there, the last frame not repeated.
        let at = |i: usize| {
            let last = frames - 1;
            let i = if i <= last {
                i
            } else {
                last.saturating_sub(i - last)
            };
            coarse[i]
        };
        let mut out = Vec::with_capacity(frames * width);
        for first in (0..frames).step_by(blur) {
            let mean: Vec<f32> = (0..width)
                .map(|c| (first..first + blur).map(|i| at(i)[c]).sum::<f32>() / blur as f32)
                .collect();
            for _ in first..(first + blur).min(frames) {
                out.extend_from_slice(&mean);
            }
        }
        out
    }

    /// The terms of the guidance. `parity`: with the reference's quirks, that is, terms without drums hear
    /// encoded silence if there are drums, and melody without chords stays in all terms.
    pub fn rows(&self, given: &Conditions, guidance: Guidance, parity: bool) -> Rows {
        let frames = self.config.frames();
        let width = self.config.flow.flow_dim;
        let nothing = Conditions::default();
        let silent = Conditions {
            drums: match (&given.drums, &given.silence) {
                (Some(_), Some(silence)) if parity => Some(silence.clone()),
                _ => None,
            },
            melody: match &given.chords {
                None if parity => given.melody.clone(),
                _ => None,
            },
            ..nothing
        };
        let null = 1.0 - guidance.all - guidance.text;
        let mut rows = Vec::new();
        let mut weights = Vec::new();
        for (conditions, text, weight) in [
            (given, true, guidance.all),
            (&silent, true, guidance.text),
            (&silent, false, null),
        ] {
            if weight.abs() >= NO_WEIGHT {
                rows.push(Row {
                    text: text && !given.text.is_empty(),
                    local: self.local(conditions, frames, width),
                });
                weights.push(weight);
            }
        }
        Rows {
            rows,
            weights,
            text: given.text.clone(),
            frames,
        }
    }

    /// `[frames][chords, drums, melody]`. Conditions that are shorter than the window are followed by zeros.
    fn local(&self, conditions: &Conditions, frames: usize, width: usize) -> Vec<f32> {
        let f = &self.config.flow;
        let (cd, dd, md) = (f.chords_dim, f.drums_dim, f.melody_dim);
        let no_chord = vec![self.config.chords as u32; frames];
        let chords = conditions.chords.as_ref().unwrap_or(&no_chord);

        let zeros = vec![0.0; frames * width];
        let latents = conditions.drums.as_ref().unwrap_or(&zeros);
        let mut drums = vec![0.0; latents.len() / width * dd];
        self.drums
            .apply_plain(latents, latents.len() / width, &mut drums);

        let rows = self.config.melody_rows;
        let mut melody = Vec::new();
        if let Some(layer) = &self.melody {
            let given = conditions.melody.as_ref();
            let length = given.map_or(frames, |m| m.len() / rows);
            let mut columns = vec![0.0; length * rows];
            for (i, column) in columns.chunks_exact_mut(rows).enumerate() {
                for (row, value) in column.iter_mut().enumerate() {
                    *value = given.map_or(0.0, |m| m[row * length + i]);
                }
            }
            melody = vec![0.0; length * md];
            layer.apply_plain(&columns, length, &mut melody);
        }

        let mut local = vec![0.0; frames * f.local_dim()];
        for (i, to) in local.chunks_exact_mut(f.local_dim()).enumerate() {
            let chord = chords.get(i).map(|c| *c as usize * cd);
            if let Some(chord) = chord.and_then(|at| self.chords.get(at..at + cd)) {
                to[..cd].copy_from_slice(chord);
            }
            if let Some(drums) = drums.get(i * dd..(i + 1) * dd) {
                to[cd..cd + dd].copy_from_slice(drums);
            }
            if let Some(melody) = melody.get(i * md..(i + 1) * md) {
                to[cd + dd..].copy_from_slice(melody);
            }
        }
        local
    }

    /// Index of the nearest entry of the first codebook for each frame of latents.
    pub fn codes(&self, latents: &[f32]) -> Vec<u32> {
        let width = self.config.flow.flow_dim;
        latents
            .chunks_exact(width)
            .map(|frame| nearest(&self.codebook, frame) as u32)
            .collect()
    }
}

/// Index of the entry of `codebook` that is nearest to `frame`; the first of several.
fn nearest(codebook: &[f32], frame: &[f32]) -> usize {
    let mut best = (f32::INFINITY, 0);
    for (i, entry) in codebook.chunks_exact(frame.len()).enumerate() {
        let (mut dot, mut square) = (0.0f32, 0.0f32);
        for (x, e) in frame.iter().zip(entry) {
            dot += x * e;
            square += e * e;
        }
        let distance = square - 2.0 * dot;
        if distance < best.0 {
            best = (distance, i);
        }
    }
    best.1
}
