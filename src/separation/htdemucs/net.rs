// [worker] The whole network: one segment of audio in, its stems out.

use super::{
    ModelError,
    decoder::Decoder,
    encoder::{Encoder, Spectrogram},
    hyper::{Hyper, KERNEL, Kind, STRIDE},
    merged::Merged,
    spectrum::{Spectrum, standard},
    transformer::{Room, Tokens, Transformer},
    weights::Scope,
    work::{Context, Line, PAD, Plane},
};
use crate::{
    dense::{
        act,
        aligned::Aligned,
        gemm::{Packed, Rows},
        norm::Moments,
        pool::Parts,
    },
    models::tensors::Tensors,
};

/// Tokens of a task outside the transformer.
const PIECE: usize = 192;

/// A network with its weights, packed for this processor.
pub struct Net {
    hyper: Hyper,
    spectrum: Spectrum,
    encoders: Vec<Encoder>,
    encoders_t: Vec<Encoder>,
    /// What is added to every bin after the first encoder, `[bins][channels]`.
    bins: Vec<f32>,
    /// Into and out of the transformer's width, spectral and time branch.
    widen: Option<[Packed; 2]>,
    narrow: Option<[Packed; 2]>,
    middle: Middle,
    decoders: Vec<Decoder>,
    decoders_t: Vec<Decoder>,
}

/// What lies inside the levels in which the branches are apart.
enum Middle {
    Transformer(Transformer),
    Merged(Box<Merged>),
}

/// What a pass writes to, kept between passes so that no pass allocates much.
pub struct Workspace {
    /// `[frames][PAD + bins + PAD][2 · audio channels]`
    input: Aligned,
    input_t: Line,
    skips: Vec<Plane>,
    skips_t: Vec<Line>,
    tokens: Tokens,
    tokens_t: Tokens,
    room: Option<Room>,
    z: Plane,
    z_t: Line,
    /// Hidden channels of the time branch's residual branches.
    hidden: Aligned,
    /// See [`Decoder::plane_out`].
    output: Aligned,
    output_t: Line,
}

/// Sees what flows between the layers: the reference's name, the shape and the values in the reference's
/// order.
pub type Probe<'a> = &'a mut dyn FnMut(&str, &[usize], Vec<f32>);

impl Net {
    /// # Errors
    /// If a tensor is missing, misshapen or not finite.
    pub fn load(weights: &dyn Tensors, hyper: Hyper) -> Result<Self, ModelError> {
        let root = Scope::root(weights);
        let audio = hyper.audio_channels;
        let stems = hyper.sources.len();
        let (mut encoders, mut encoders_t) = (Vec::new(), Vec::new());
        let (mut decoders, mut decoders_t) = (Vec::new(), Vec::new());
        for level in 0..hyper.depth {
            let channels = hyper.encoder_channels(level);
            let below = |first: usize| hyper.outer_channels(level, first);
            let scope = |name: &str, at: usize| root.at(&format!("{name}.{at}"));
            encoders.push(Encoder::load(
                &scope("encoder", level),
                below(2 * audio),
                channels,
                1,
                level == 0,
                &hyper,
            )?);
            encoders_t.push(Encoder::load(
                &scope("tencoder", level),
                below(audio),
                channels,
                0,
                level == 0,
                &hyper,
            )?);
            // The merged levels come first; the inner one of them has no time branch.
            let merged = match hyper.kind {
                Kind::Transformer => 0,
                Kind::Merged => 2,
            };
            let at = hyper.depth - 1 - level + merged;
            decoders.push(Decoder::load(
                &scope("decoder", at),
                channels,
                below(2 * audio * stems),
                2,
                level == 0,
                &hyper,
            )?);
            decoders_t.push(Decoder::load(
                &scope("tdecoder", at - merged / 2),
                channels,
                below(audio * stems),
                1,
                level == 0,
                &hyper,
            )?);
        }
        decoders.reverse();
        decoders_t.reverse();
        let bins = hyper.nfft / 2 / STRIDE;
        let mut embedding = vec![0.0; bins * hyper.channels];
        if hyper.freq_emb != 0.0 {
            embedding = root
                .at("freq_emb.embedding")
                .get("weight", &[bins, hyper.channels])?;
            let scale = hyper.freq_emb * hyper.emb_scale;
            embedding.iter_mut().for_each(|x| *x *= scale);
        }
        let inner = hyper.encoder_channels(hyper.depth - 1);
        let width = hyper.transformer_channels();
        let pair = |name: &str, inputs: usize, outputs: usize| {
            if hyper.bottom_channels == 0 || hyper.t_layers == 0 {
                return Ok(None);
            }
            Ok::<_, ModelError>(Some([
                root.at(name).linear(inputs, outputs, 1)?,
                root.at(&format!("{name}_t")).linear(inputs, outputs, 1)?,
            ]))
        };
        Ok(Self {
            spectrum: Spectrum::new(hyper.nfft),
            bins: embedding,
            widen: pair("channel_upsampler", inner, width)?,
            narrow: pair("channel_downsampler", width, inner)?,
            middle: match hyper.kind {
                Kind::Transformer => {
                    Middle::Transformer(Transformer::load(&root.at("crosstransformer"), &hyper)?)
                }
                Kind::Merged => Middle::Merged(Box::new(Merged::load(&root, &hyper)?)),
            },
            encoders,
            encoders_t,
            decoders,
            decoders_t,
            hyper,
        })
    }

    pub const fn hyper(&self) -> &Hyper {
        &self.hyper
    }

    /// Changes how many samples a pass sees: no weight depends on it. Workspaces made before are of no use then.
    pub fn set_segment(&mut self, samples: usize) {
        self.hyper.segment_samples = samples;
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        let encoders = self.encoders.iter().chain(&self.encoders_t);
        let decoders = self.decoders.iter().chain(&self.decoders_t);
        encoders.map(Encoder::bytes).sum::<usize>()
            + decoders.map(Decoder::bytes).sum::<usize>()
            + match &self.middle {
                Middle::Transformer(transformer) => transformer.bytes(),
                Middle::Merged(merged) => merged.bytes(),
            }
    }

    /// Room for passes of this network.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn workspace(&self) -> Result<Workspace, ModelError> {
        let hyper = &self.hyper;
        let (frames, audio) = (hyper.frames(), hyper.audio_channels);
        let bins = hyper.nfft / 2;
        let mut skips = Vec::new();
        let mut skips_t = Vec::new();
        let (mut rows, mut len) = (bins, hyper.segment_samples);
        let mut hidden = 0;
        for level in 0..hyper.depth {
            let channels = hyper.encoder_channels(level);
            rows /= STRIDE;
            len = len.div_ceil(STRIDE);
            skips.push(Plane::new(rows, frames, channels));
            skips_t.push(Line::new(len, channels));
            hidden = hidden.max(len * hyper.dconv_channels(channels));
        }
        let width = hyper.transformer_channels();
        let (tokens, tokens_t, room) = match &self.middle {
            Middle::Transformer(t) => (rows * frames, len, Some(t.room([rows * frames, len]))),
            Middle::Merged(_) => (0, 0, None),
        };
        let outs = audio * hyper.sources.len();
        let floats: usize = skips.iter().map(|p| p.data().len()).sum::<usize>()
            + skips_t.iter().map(|l| l.data().len()).sum::<usize>()
            + 4 * rows * frames * width
            + 4 * bins * frames * audio * (1 + hyper.sources.len());
        // Asked for first, so that a system that is out of memory says so and ends nothing.
        if Vec::<f32>::new().try_reserve_exact(2 * floats).is_err() {
            return Err(ModelError::Memory { bytes: 8 * floats });
        }
        // The largest of each is the first: each level has a quarter of the positions and `growth` times the channels.
        let largest = |i: &usize| skips[*i].data().len();
        let at = (0..skips.len()).max_by_key(largest).unwrap_or(0);
        let z = Plane::new(skips[at].rows, frames, skips[at].channels);
        let largest = |i: &usize| skips_t[*i].data().len();
        let at = (0..skips_t.len()).max_by_key(largest).unwrap_or(0);
        let z_t = Line::new(skips_t[at].len, skips_t[at].channels);
        Ok(Workspace {
            input: Aligned::zeroed(frames * (bins + 2 * PAD) * 2 * audio),
            input_t: Line::new(hyper.segment_samples, audio),
            skips,
            skips_t,
            tokens: Tokens::new(tokens, width),
            tokens_t: Tokens::new(tokens_t, width),
            room,
            z,
            z_t,
            hidden: Aligned::zeroed(hidden),
            output: Aligned::zeroed((bins / STRIDE + 1) * frames * STRIDE * 2 * outs),
            output_t: Line::new(hyper.segment_samples, outs),
        })
    }

    /// The stems of `mix`, `[audio channels][samples]` with at most a segment's samples, which are extended
    /// with silence: `[stems][audio channels][samples]`.
    ///
    /// # Errors
    /// If cancelled, or `mix` has another number of channels or is too long.
    pub fn forward(
        &self,
        mix: &[Vec<f32>],
        work: &mut Workspace,
        context: &Context<'_>,
        mut probe: Option<Probe<'_>>,
    ) -> Result<Vec<Vec<Vec<f32>>>, ModelError> {
        let hyper = &self.hyper;
        let (mut channels, samples) = whole_segment(hyper, mix)?;
        let (spectral, temporal) = self.enter(&mut channels, work, context, &mut probe)?;
        self.descend(work, context, &mut probe)?;
        match &self.middle {
            Middle::Transformer(transformer) => {
                self.cross(transformer, work, context, &mut probe)?;
            }
            Middle::Merged(merged) => self.merge(merged, work, context, &mut probe)?,
        }
        self.ascend(work, context, &mut probe)?;

        let stems = hyper.sources.len();
        let (mean, deviation) = (temporal.mean() as f32, temporal.deviation() as f32);
        let outs = stems * hyper.audio_channels;
        let mut out: Vec<Vec<f32>> = vec![vec![0.0; hyper.segment_samples]; outs];
        for (i, out) in out.iter_mut().enumerate() {
            let from = work.output_t.inner()[i..].iter().step_by(outs);
            for (to, from) in out.iter_mut().zip(from) {
                *to = from * deviation + mean;
            }
        }
        self.spectrum.synthesise(
            &work.output,
            hyper.frames(),
            spectral.deviation() as f32,
            spectral.mean() as f32,
            &mut out,
            context,
        )?;
        out.iter_mut().for_each(|c| c.truncate(samples));
        let mut out = out.into_iter();
        Ok((0..stems)
            .map(|_| out.by_ref().take(hyper.audio_channels).collect())
            .collect())
    }

    /// Spectrum and waveform, normalised. Returns their moments before.
    fn enter(
        &self,
        channels: &mut [Vec<f32>],
        work: &mut Workspace,
        context: &Context<'_>,
        probe: &mut Option<Probe<'_>>,
    ) -> Result<(Moments, Moments), ModelError> {
        let hyper = &self.hyper;
        let (bins, width) = (hyper.nfft / 2, 2 * channels.len());
        let line = (bins + 2 * PAD) * width;
        let frames = hyper.frames();
        self.spectrum
            .analyse(channels, frames, &mut work.input, context)?;
        if let Some(probe) = probe {
            let input = &work.input;
            let values = reordered([width, bins, frames], |[c, f, t]| {
                input[t * line + (PAD + f) * width + c]
            });
            probe("cac", &[width, bins, frames], values);
        }
        let spectral = self.spectrum.normalise(width, &mut work.input);
        let temporal = normalise(channels);
        let audio = channels.len();
        for (c, channel) in channels.iter().enumerate() {
            let to = work.input_t.inner_mut()[c..].iter_mut().step_by(audio);
            to.zip(channel).for_each(|(to, x)| *to = *x);
        }
        Ok((spectral, temporal))
    }

    fn descend(
        &self,
        work: &mut Workspace,
        context: &Context<'_>,
        probe: &mut Option<Probe<'_>>,
    ) -> Result<(), ModelError> {
        let spectrogram = Spectrogram {
            data: &work.input,
            bins: self.hyper.nfft / 2,
            channels: 2 * self.hyper.audio_channels,
        };
        for level in 0..self.hyper.depth {
            let (before, here) = work.skips_t.split_at_mut(level);
            let input = before.last().unwrap_or(&work.input_t);
            self.encoders_t[level].line(input, &mut here[0], &mut work.hidden, context)?;
            see_line(probe, &format!("tencoder.{level}"), &here[0]);
            let (before, here) = work.skips.split_at_mut(level);
            match before.last() {
                None => self.encoders[0].spectrum(&spectrogram, &mut here[0], context)?,
                Some(input) => self.encoders[level].plane(input, &mut here[0], context)?,
            }
            see_plane(probe, &format!("encoder.{level}"), &here[0]);
            if level == 0 {
                self.add_bins(&mut here[0], context)?;
            }
        }
        Ok(())
    }

    fn add_bins(&self, plane: &mut Plane, context: &Context<'_>) -> Result<(), ModelError> {
        let (rows, frames, channels, line) =
            (plane.rows, plane.frames, plane.channels, plane.line());
        let parts = Parts::new(plane.data_mut(), line);
        context.run(rows, |row, _| {
            let part = parts.take(row + PAD);
            let bin = &self.bins[row * channels..][..channels];
            for x in part[PAD * channels..(PAD + frames) * channels].chunks_exact_mut(channels) {
                for (x, bin) in x.iter_mut().zip(bin) {
                    *x += bin;
                }
            }
        })
    }

    /// The transformer. Its results are added to the deepest skip connections.
    fn cross(
        &self,
        transformer: &Transformer,
        work: &mut Workspace,
        context: &Context<'_>,
        probe: &mut Option<Probe<'_>>,
    ) -> Result<(), ModelError> {
        let (Some(skip), Some(skip_t), Some(room)) = (
            work.skips.last_mut(),
            work.skips_t.last_mut(),
            work.room.as_mut(),
        ) else {
            return Ok(());
        };
        let (bins, frames, inner) = (skip.rows, skip.frames, skip.channels);
        let (tokens, tokens_t) = (&mut work.tokens, &mut work.tokens_t);
        let width = tokens.width;
        {
            let parts = Parts::new(&mut tokens.data, frames * width);
            let skip = &*skip;
            context.run(bins, |row, _| {
                let (from, to) = (skip.row(row), parts.take(row));
                match &self.widen {
                    None => to.copy_from_slice(from),
                    Some([widen, _]) => {
                        widen.multiply(Rows::plain(from, inner, inner), frames, to, width);
                    }
                }
            })?;
        }
        {
            let count = tokens_t.count;
            let parts = Parts::new(&mut tokens_t.data, PIECE * width);
            let skip_t = &*skip_t;
            context.run(count.div_ceil(PIECE), |i, _| {
                let to = parts.take(i);
                let count = to.len() / width;
                let from = &skip_t.inner()[i * PIECE * inner..][..count * inner];
                match &self.widen {
                    None => to.copy_from_slice(from),
                    Some([_, widen]) => {
                        widen.multiply(Rows::plain(from, inner, inner), count, to, width);
                    }
                }
            })?;
        }
        if let Some(probe) = probe {
            see_tokens(probe, "tr.in.x", tokens, [bins, frames]);
            see_tokens(probe, "tr.in.xt", tokens_t, [1, tokens_t.count]);
        }
        let mut seen = |layer: usize, tokens: &Tokens| {
            if let Some(probe) = probe {
                // The reference's order: frames outside, bins inside.
                let values = reordered([frames, bins, width], |[t, f, c]| {
                    tokens.data[(f * frames + t) * width + c]
                });
                let name = format!("tr.layers.{layer}");
                probe(&name, &[frames * bins, width], values);
            }
        };
        transformer.forward(tokens, tokens_t, bins, room, context, &mut seen)?;
        if let Some(probe) = probe {
            see_tokens(probe, "tr.out.x", tokens, [bins, frames]);
            see_tokens(probe, "tr.out.xt", tokens_t, [1, tokens_t.count]);
        }
        let line = skip.line();
        let parts = Parts::new(skip.data_mut(), line);
        let tokens = &*tokens;
        context.run(bins, |row, scratch| {
            let to = &mut parts.take(row + PAD)[PAD * inner..(PAD + frames) * inner];
            let from = &tokens.data[row * frames * width..][..frames * width];
            narrow_onto(
                self.narrow.as_ref().map(|n| &n[0]),
                from,
                width,
                to,
                scratch,
            );
        })?;
        let parts = Parts::new(skip_t.inner_mut(), PIECE * inner);
        context.run(tokens_t.count.div_ceil(PIECE), |i, scratch| {
            let to = parts.take(i);
            let from = &tokens_t.data[i * PIECE * width..][..to.len() / inner * width];
            narrow_onto(
                self.narrow.as_ref().map(|n| &n[1]),
                from,
                width,
                to,
                scratch,
            );
        })
    }

    /// The merged levels. What comes up from them is added to the deepest skip connections.
    fn merge(
        &self,
        merged: &Merged,
        work: &mut Workspace,
        context: &Context<'_>,
        probe: &mut Option<Probe<'_>>,
    ) -> Result<(), ModelError> {
        let (Some(skip), Some(skip_t)) = (work.skips.last_mut(), work.skips_t.last_mut()) else {
            return Ok(());
        };
        let depth = self.hyper.depth;
        let below = skip.channels;
        let mut see = |name: &str, values: &[f32], width: usize| {
            let Some(probe) = probe.as_mut() else {
                return;
            };
            let len = values.len() / width;
            let plain = reordered([1, width, len], |[_, c, t]| values[t * width + c]);
            match name {
                "encoder" => probe(&format!("encoder.{depth}"), &[width, len], plain),
                "encoder_in" => probe(&format!("encoder.{}", depth + 1), &[width, len], plain),
                "decoder_in" => probe("decoder.0", &[width, len], plain),
                "tdecoder" => probe("tdecoder.0", &[width, len], plain),
                // `[channels][rows][frames]` in the reference.
                _ => {
                    let rows = reordered([below, KERNEL, len], |[c, r, t]| {
                        values[t * width + r * below + c]
                    });
                    probe("decoder.1", &[below, KERNEL, len], rows);
                }
            }
        };
        merged.forward(skip, skip_t, context, &mut see)
    }

    fn ascend(
        &self,
        work: &mut Workspace,
        context: &Context<'_>,
        probe: &mut Option<Probe<'_>>,
    ) -> Result<(), ModelError> {
        let depth = self.hyper.depth;
        // The merged levels are the reference's first decoders.
        let merged = usize::from(self.hyper.kind == Kind::Merged);
        let name = |i: usize| format!("decoder.{}", i + 2 * merged);
        let name_t = |i: usize| format!("tdecoder.{}", i + merged);
        for i in 0..depth {
            let level = depth - 1 - i;
            let (decoder, decoder_t) = (&self.decoders[i], &self.decoders_t[i]);
            let watching = probe.is_some();
            let (below, here) = work.skips.split_at_mut(level);
            decoder.plane(&here[0], &mut work.z, context)?;
            if let Some(next) = below.last_mut() {
                // What a decoder gives is added to the skip connection at once: to see it, take that off.
                let before = watching.then(|| next.data().to_vec());
                decoder.plane_up(&work.z, next, context)?;
                if let (Some(probe), Some(before)) = (probe.as_mut(), before) {
                    let (line, c) = (next.line(), next.channels);
                    let values = reordered([c, next.rows, next.frames], |[k, f, t]| {
                        let at = (f + PAD) * line + (t + PAD) * c + k;
                        next.data()[at] - before[at]
                    });
                    probe(&name(i), &[c, next.rows, next.frames], values);
                }
            } else {
                decoder.plane_out(&work.z, &mut work.output, context)?;
                if let Some(probe) = probe {
                    let (c, frames, bins) = (decoder.outputs, work.z.frames, self.hyper.nfft / 2);
                    let output = &work.output;
                    let values = reordered([c, bins, frames], |[k, f, t]| {
                        let (q, phase) = ((f + PAD) / STRIDE, (f + PAD) % STRIDE);
                        output[((q * frames + t) * STRIDE + phase) * c + k]
                    });
                    probe(&name(i), &[c, bins, frames], values);
                }
            }
            let (below, here) = work.skips_t.split_at_mut(level);
            decoder_t.line(&here[0], &mut work.z_t, &mut work.hidden, context)?;
            let last = below.is_empty();
            let next = below.last_mut().unwrap_or(&mut work.output_t);
            let before = watching.then(|| next.inner().to_vec());
            decoder_t.line_up(&work.z_t, next, context)?;
            if let (Some(probe), Some(mut before)) = (probe.as_mut(), before) {
                if last {
                    before.fill(0.0);
                }
                let (c, len) = (next.channels, next.len);
                let values = reordered([1, c, len], |[_, k, t]| {
                    next.inner()[t * c + k] - before[t * c + k]
                });
                probe(&name_t(i), &[c, len], values);
            }
        }
        Ok(())
    }
}

/// `mix` extended with silence to a segment, and its length before.
///
/// # Errors
/// If it has another number of channels, is too long, or its channels differ in length.
pub(super) fn whole_segment(
    hyper: &Hyper,
    mix: &[Vec<f32>],
) -> Result<(Vec<Vec<f32>>, usize), ModelError> {
    let samples = mix.first().map_or(0, Vec::len);
    if mix.len() != hyper.audio_channels
        || samples > hyper.segment_samples
        || mix.iter().any(|c| c.len() != samples)
    {
        return Err(ModelError::Input {
            actual: mix.len(),
            expected: hyper.audio_channels,
            samples,
            most: hyper.segment_samples,
        });
    }
    let mut channels = mix.to_vec();
    for channel in &mut channels {
        channel.resize(hyper.segment_samples, 0.0);
    }
    Ok((channels, samples))
}

/// Takes mean and deviation off a waveform; returns the moments before.
pub(super) fn normalise(channels: &mut [Vec<f32>]) -> Moments {
    let moments = channels
        .iter()
        .map(|c| Moments::of(c))
        .fold(Moments::default(), Moments::and);
    let (mean, scale) = standard(&moments);
    for x in channels.iter_mut().flatten() {
        *x = (*x - mean) * scale;
    }
    moments
}

/// `to += narrow(from)`, or `to += from` without a layer.
fn narrow_onto(
    narrow: Option<&Packed>,
    from: &[f32],
    width: usize,
    to: &mut [f32],
    scratch: &mut super::work::Scratch,
) {
    let Some(narrow) = narrow else {
        act::onto(from, to);
        return;
    };
    let inner = narrow.columns();
    let count = from.len() / width;
    let y = scratch.a.get(count * inner);
    narrow.multiply(Rows::plain(from, width, width), count, y, inner);
    act::onto(y, to);
}

/// Values in the order of the axes, the last one fastest.
fn reordered(shape: [usize; 3], value: impl Fn([usize; 3]) -> f32) -> Vec<f32> {
    let mut out = Vec::with_capacity(shape.iter().product());
    for i in 0..shape[0] {
        for j in 0..shape[1] {
            for k in 0..shape[2] {
                out.push(value([i, j, k]));
            }
        }
    }
    out
}

fn see_plane(probe: &mut Option<Probe<'_>>, name: &str, plane: &Plane) {
    if let Some(probe) = probe {
        let shape = [plane.channels, plane.rows, plane.frames];
        let values = reordered(shape, |[c, f, t]| plane.row(f)[t * plane.channels + c]);
        probe(name, &shape, values);
    }
}

fn see_line(probe: &mut Option<Probe<'_>>, name: &str, line: &Line) {
    if let Some(probe) = probe {
        let (c, len) = (line.channels, line.len);
        let values = reordered([1, c, len], |[_, k, t]| line.inner()[t * c + k]);
        probe(name, &[c, len], values);
    }
}

fn see_tokens(probe: &mut Probe<'_>, name: &str, tokens: &Tokens, [rows, cols]: [usize; 2]) {
    let width = tokens.width;
    let values = reordered([width, rows, cols], |[c, f, t]| {
        tokens.data[(f * cols + t) * width + c]
    });
    probe(name, &[width, rows, cols], values);
}
