// [worker] Fits a rebuilt stem to its surroundings and turns it into a layer.

mod fade;
pub mod gate;
mod image;
mod level;

use std::borrow::Cow;

use super::{
    MARGIN_SECONDS, Request,
    resynthesis::{
        Span, Spectra,
        filter::{add_delayed, match_lag},
        heard, region_spans,
    },
};
use crate::{
    audio::AudioBuffer,
    damage::{FRAMES_PER_SECOND, Region, Stem},
};
use realfft::num_complex::Complex32;

/// What is added to a separated stem to get the rebuilt one.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// `wetness · (fitted − separated)`, of the separated stem's rate, channels and length. Exactly zero
    /// outside the regions and their fades, which reach at most [`FADE_REACH_SECONDS`] beyond them.
    pub audio: AudioBuffer,
    /// Each region of the request and how much of the rebuilt stem it got, 0..=1. Below 1 where the
    /// rebuilt stem disagrees with what is still audible in the damaged one.
    pub wetness: Vec<(Region, f32)>,
}

/// How far a fade reaches beyond its region: 40 ms to find a calm place, 60 ms of fade.
pub const FADE_REACH_SECONDS: f64 = 0.100;
/// Farthest misalignment that is looked for, seconds.
const ALIGN_REACH: f64 = 0.005;
/// A correlation below this tells nothing about alignment.
const ALIGN_LEAST: f32 = 0.3;

/// Turns a rebuilt stem into a layer over the separated one.
///
/// `rebuilt` has the request's rate and length; its channels are averaged, and the result takes the
/// stereo image of the separated stem. Per region it is aligned to a fraction of a sample, its polarity
/// and its level in octaves are matched to the good neighbourhood, and it is faded in and out beside
/// the region, off transients. Without regions the layer is silent.
pub fn layer(request: &Request<'_>, rebuilt: &AudioBuffer) -> Layer {
    fitted(request, rebuilt, false)
}

/// The same without weighing the rebuilt stem against the damaged one: the user asked for it and judges by ear,
/// and where a stem was lost nothing of it is left to agree with.
pub fn layer_as_asked(request: &Request<'_>, rebuilt: &AudioBuffer) -> Layer {
    fitted(request, rebuilt, true)
}

fn fitted(request: &Request<'_>, rebuilt: &AudioBuffer, as_asked: bool) -> Layer {
    let separated = request.separated;
    let frames = separated.frames();
    let rate = f64::from(separated.sample_rate.max(1));
    let mut audio = AudioBuffer::silence(separated.channels.len(), frames, separated.sample_rate);
    let regions = region_spans(request, frames);
    let reach = (FADE_REACH_SECONDS * rate) as usize;
    let joined = join(&regions, 2 * reach);
    let mut wet = Vec::with_capacity(joined.len());
    for &span in &joined {
        let patch = Patch::new(request, rebuilt, span, &regions, rate);
        let (wetness, part) = patch.fit(request, rate, as_asked);
        wet.push(wetness);
        for (own, (first, samples)) in audio.channels.iter_mut().zip(part) {
            for (o, s) in own.iter_mut().skip(first).zip(samples) {
                *o = if s.is_finite() { s } else { 0.0 };
            }
        }
    }
    let wetness = request
        .regions
        .iter()
        .map(|&r| {
            let at = r.start.max(0.0) * rate;
            let w = joined
                .iter()
                .zip(&wet)
                .find(|(s, _)| at >= s.start as f64 - 1.0 && at < s.end as f64)
                .map_or(0.0, |(_, &w)| w);
            (r, w)
        })
        .collect();
    Layer { audio, wetness }
}

/// The samples, 0 where they are no numbers: mostly they are all.
fn finite(x: &[f32]) -> Cow<'_, [f32]> {
    if x.iter().all(|v| v.is_finite()) {
        return Cow::Borrowed(x);
    }
    let number = |v: &f32| if v.is_finite() { *v } else { 0.0 };
    Cow::Owned(x.iter().map(number).collect())
}

/// Joins regions whose fades would meet.
fn join(regions: &[Span], gap: usize) -> Vec<Span> {
    let mut out: Vec<Span> = Vec::new();
    for &r in regions {
        match out.last_mut() {
            Some(last) if r.start < last.end + gap => last.end = last.end.max(r.end),
            _ => out.push(r),
        }
    }
    out
}

/// One joined region with its context.
struct Patch {
    /// Absolute sample of the context's start.
    first: usize,
    /// The region inside the context.
    inside: Span,
    /// Whether the region ends where the stem does: then nothing is faded there.
    at_start: bool,
    at_end: bool,
    /// Frames of the context that are sound, a sample each hop: `good(sample)`.
    good: Vec<bool>,
    separated: Vec<f32>,
    rebuilt: Vec<f32>,
}

/// Finite mean of the channels over `first..end`, zero outside.
fn mono(audio: &AudioBuffer, first: usize, end: usize) -> Vec<f32> {
    let mut out = vec![0.0f32; end - first];
    let scale = 1.0 / audio.channels.len().max(1) as f32;
    for channel in &audio.channels {
        for (o, v) in out.iter_mut().zip(channel.iter().skip(first)) {
            if v.is_finite() {
                *o += v * scale;
            }
        }
    }
    out
}

impl Patch {
    fn new(
        request: &Request<'_>,
        rebuilt: &AudioBuffer,
        span: Span,
        regions: &[Span],
        rate: f64,
    ) -> Self {
        let frames = request.separated.frames();
        let margin = (MARGIN_SECONDS * rate) as usize;
        let first = span.start.saturating_sub(margin);
        let end = (span.end + margin).min(frames);
        let damaged = |n: usize| -> bool {
            let at = first + n;
            let frame = (at as f64 * FRAMES_PER_SECOND as f64 / rate) as usize;
            regions.iter().any(|r| at >= r.start && at < r.end)
                || request
                    .damage
                    .frames
                    .get(frame)
                    .is_some_and(|f| heard(f) >= 0.5)
        };
        Self {
            first,
            inside: Span {
                start: span.start - first,
                end: span.end - first,
            },
            at_start: span.start == 0,
            at_end: span.end >= frames,
            good: (0..end - first).map(|n| !damaged(n)).collect(),
            separated: mono(request.separated, first, end),
            rebuilt: mono(rebuilt, first, end),
        }
    }

    /// The wetness, and for each channel the layer's samples and where they start.
    fn fit(
        mut self,
        request: &Request<'_>,
        rate: f64,
        as_asked: bool,
    ) -> (f32, Vec<(usize, Vec<f32>)>) {
        self.align(rate);
        let mut spectra = Spectra::new(rate);
        let neighbourhood = level::neighbourhood(request, self.first, self.good.len(), rate);
        self.rebuilt = level::matched(
            &mut spectra,
            rate,
            &self.separated,
            &self.rebuilt,
            &self.good,
            self.inside,
            &neighbourhood,
        );
        let inside = &self.rebuilt[self.inside.start..self.inside.end];
        let wetness = if !as_asked {
            self.agreement(request.stem, rate)
        } else if inside.iter().any(|x| *x != 0.0) {
            1.0
        } else {
            0.0
        };
        if wetness <= 0.0 {
            return (0.0, Vec::new());
        }
        let curve = fade::curve(
            &self.separated,
            &self.rebuilt,
            self.inside,
            rate,
            [self.at_start, self.at_end],
        );
        let channels = &request.separated.channels;
        let same = channels.windows(2).all(|w| w[0] == w[1]);
        let own: Vec<Cow<'_, [f32]>> = channels
            .iter()
            .map(|c| finite(&c[self.first..self.first + self.separated.len()]))
            .collect();
        let fitted = if same {
            vec![self.rebuilt.clone(); channels.len()]
        } else {
            image::place(&mut spectra, &self.separated, &self.rebuilt, &own)
        };
        let parts = own
            .iter()
            .zip(fitted)
            .map(|(own, mut samples)| {
                samples.drain(..curve.start);
                samples.truncate(curve.weights.len());
                for (f, (&(a, b), x)) in
                    (samples.iter_mut()).zip(curve.weights.iter().zip(&own[curve.start..]))
                {
                    *f = wetness * ((a - 1.0) * x + b * *f);
                }
                (self.first + curve.start, samples)
            })
            .collect();
        (wetness, parts)
    }

    /// Shifts and flips the rebuilt stem onto the separated one, where they tell.
    fn align(&mut self, rate: f64) {
        // Four seconds tell the shift as well as four minutes.
        let middle = self.inside.start.midpoint(self.inside.end);
        let half = (2.0 * rate) as usize;
        let from = self.inside.start.max(middle.saturating_sub(half));
        let to = self.inside.end.min(middle + half);
        let reach = (ALIGN_REACH * rate).ceil() as i64;
        let Some((at, ncc)) = match_lag(
            &self.separated,
            &self.rebuilt[from..to],
            from as i64,
            reach,
            true,
        ) else {
            return;
        };
        let shift = at - from as f64;
        let sign = if ncc < 0.0 { -1.0 } else { 1.0 };
        // A twentieth of a sample is the search's own error.
        if ncc.abs() < ALIGN_LEAST || (shift.abs() < 0.05 && sign > 0.0) {
            return;
        }
        let mut moved = vec![0.0; self.rebuilt.len()];
        add_delayed(&self.rebuilt, shift, sign, &mut moved);
        self.rebuilt = moved;
    }

    /// How far to trust the rebuilt stem without a reference: whether it has the pitches and the
    /// onsets that are still audible in the damaged stem.
    fn agreement(&self, stem: Stem, rate: f64) -> f32 {
        let Span { start, end } = self.inside;
        let (x, y) = (&self.separated[start..end], &self.rebuilt[start..end]);
        let power = |v: &[f32]| v.iter().map(|s| f64::from(s * s)).sum::<f64>();
        let (px, py) = (power(x), power(y));
        let floor = 1e-10 * (end - start) as f64;
        if px <= floor && py <= floor {
            return 0.0;
        }
        // 15 dB louder than what was there is no repair.
        if py > 32.0 * px + floor {
            return 0.0;
        }
        let base = Spectra::new(rate).n;
        // A bass needs four times the resolution to tell its notes apart.
        let mut spectra = Spectra::with_frame(if stem == Stem::Bass { 4 * base } else { base });
        // A bass is told by its strong low partials, a kit by all its parts.
        let (top_hz, bend) = if stem == Stem::Bass {
            (1000.0, 1.0)
        } else {
            (2500.0, 0.5)
        };
        let top = ((top_hz * spectra.n as f64 / rate) as usize).clamp(2, spectra.bins());
        let mut a = vec![Complex32::default(); spectra.bins()];
        let mut b = a.clone();
        let (mut similar, mut total) = (0.0f64, 0.0f64);
        let mut flux: [Vec<f32>; 2] = Default::default();
        let mut last = [vec![0.0f32; top], vec![0.0f32; top]];
        let len = x.len() as i64;
        for at in spectra.starts(x.len()).filter(|&s| s < len) {
            spectra.analyse(x, at, &mut a);
            spectra.analyse(y, at, &mut b);
            let (mut dot, mut na, mut nb) = (0.0f64, 1e-12f64, 1e-12f64);
            let mut rise = [0.0f32; 2];
            for k in 1..top {
                let (u, v) = (a[k].norm().powf(bend), b[k].norm().powf(bend));
                dot += f64::from(u * v);
                na += f64::from(u * u);
                nb += f64::from(v * v);
                rise[0] += (u - last[0][k]).max(0.0);
                rise[1] += (v - last[1][k]).max(0.0);
                last[0][k] = u;
                last[1][k] = v;
            }
            let weight = (na * nb).sqrt();
            similar += weight * dot / weight.max(1e-12);
            total += weight;
            flux[0].push(rise[0]);
            flux[1].push(rise[1]);
        }
        let ramp = |v: f64, low: f64, high: f64| ((v - low) / (high - low)).clamp(0.0, 1.0);
        // Two drum kits or two unrelated notes reach about 0.5.
        let mut wet = ramp(similar / total.max(1e-12), 0.45, 0.75);
        if stem == Stem::Drums {
            wet *= ramp(correlation(&flux[0], &flux[1]), 0.1, 0.5);
        }
        wet as f32
    }
}

/// Pearson's correlation; 1 for lists too short to tell.
fn correlation(a: &[f32], b: &[f32]) -> f64 {
    if a.len() < 8 {
        return 1.0;
    }
    let mean = |v: &[f32]| v.iter().map(|&x| f64::from(x)).sum::<f64>() / v.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let (mut dot, mut na, mut nb) = (0.0, 1e-12, 1e-12);
    for (&x, &y) in a.iter().zip(b) {
        let (x, y) = (f64::from(x) - ma, f64::from(y) - mb);
        dot += x * y;
        na += x * x;
        nb += y * y;
    }
    dot / f64::sqrt(na * nb)
}
