// [worker] Model-free regeneration: drums from the recording's own hits, bass from its own notes.

mod bass;
mod drums;
pub(crate) mod filter;
mod fuse;
mod overdrive;
pub(crate) mod spectra;

pub(crate) use overdrive::quantile;
pub(crate) use spectra::Spectra;

use super::{MARGIN_SECONDS, RegenerationError, Regenerator, Request};
use crate::{
    audio::AudioBuffer,
    damage::{DamageKind, FRAMES_PER_SECOND, Stem},
    worker::progress::Progress,
};

/// Rebuilds drums and bass from what the recording itself says, without a model.
///
/// Drums are re-triggered from the cleanest hits of the same recording, bass is resynthesized from
/// harmonics learned from its own clean notes. Both are then fused with what the damaged stem still
/// says, weighed by how far each can be trusted. The result is the same mono signal in every channel;
/// [`super::blend::layer`] gives it the stem's own stereo image.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resynthesis;

impl Regenerator for Resynthesis {
    fn id(&self) -> &'static str {
        "resynthesis-2"
    }

    fn supports(&self, stem: Stem) -> bool {
        matches!(stem, Stem::Drums | Stem::Bass)
    }

    fn regenerate(
        &self,
        request: &Request<'_>,
        progress: &Progress,
    ) -> Result<Option<AudioBuffer>, RegenerationError> {
        let scene = Scene::new(request);
        let rebuilt = match request.stem {
            Stem::Drums => drums::rebuild(&scene, request, progress)?,
            Stem::Bass => bass::rebuild(&scene, request, progress)?,
            stem @ (Stem::Other | Stem::Vocals) => {
                return Err(RegenerationError::Unsupported {
                    stem,
                    id: self.id(),
                });
            }
        };
        Ok(rebuilt.map(|mono| {
            let channels = request.separated.channels.len().max(1);
            AudioBuffer::new(vec![mono; channels], request.separated.sample_rate)
        }))
    }
}

/// Stops where the job was cancelled.
fn check(progress: &Progress) -> Result<(), RegenerationError> {
    if progress.is_cancelled() {
        return Err(RegenerationError::Cancelled);
    }
    Ok(())
}

/// A span of samples, `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub start: usize,
    pub end: usize,
}

/// The damaged stem as the rebuilders see it.
pub(crate) struct Scene {
    /// Mean of the channels, finite.
    pub x: Vec<f32>,
    /// Hz.
    pub rate: f64,
    /// Severity a 10 ms frame, 0..=1, of the kinds that change the sound of a note; 1 inside regions.
    pub severity: Vec<f32>,
    /// The regions in samples: valid, ascending, merged.
    pub regions: Vec<Span>,
    /// The regions with their margins, merged.
    pub spans: Vec<Span>,
}

impl Scene {
    pub fn new(request: &Request<'_>) -> Self {
        let mut x = request.separated.mono();
        for v in &mut x {
            if !v.is_finite() {
                *v = 0.0;
            }
        }
        let rate = f64::from(request.separated.sample_rate.max(1));
        let regions = region_spans(request, x.len());
        let spans = padded_spans(request, x.len());
        let frame = rate / FRAMES_PER_SECOND as f64;
        let mut severity: Vec<f32> = (0..(x.len() as f64 / frame).ceil() as usize)
            .map(|i| request.damage.frames.get(i).map_or(0.0, heard))
            .collect();
        for r in &regions {
            let first = (r.start as f64 / frame) as usize;
            let last = ((r.end as f64 / frame).ceil() as usize).min(severity.len());
            for s in severity.iter_mut().take(last).skip(first) {
                *s = 1.0;
            }
        }
        Self {
            x,
            rate,
            severity,
            regions,
            spans,
        }
    }

    /// Mean severity over samples `start..end`.
    pub fn severity_over(&self, start: f64, end: f64) -> f32 {
        let frame = self.rate / FRAMES_PER_SECOND as f64;
        let first = (start / frame).max(0.0) as usize;
        let last = ((end / frame).ceil().max(0.0) as usize).min(self.severity.len());
        if first >= last {
            return 0.0;
        }
        self.severity[first..last].iter().sum::<f32>() / (last - first) as f32
    }

    /// Severity at a sample; outside the stem that of its nearest end.
    pub fn severity_near(&self, at: i64) -> f32 {
        let frame = self.rate / FRAMES_PER_SECOND as f64;
        let i = (at.max(0) as f64 / frame) as usize;
        self.severity
            .get(i.min(self.severity.len().saturating_sub(1)))
            .map_or(0.0, |&v| v)
    }

    /// Whether a sample is to be rebuilt: inside the regions. Beside a region the detector's severity
    /// is a little above 0 long before and after the damage: what plays there is sound, and stays as it is.
    pub fn hurt(&self, at: i64) -> bool {
        let at = at.max(0) as usize;
        let next = self.regions.partition_point(|r| r.start <= at);
        next > 0 && at < self.regions[next - 1].end
    }

    /// The stem at `start..end`, zero outside of it.
    pub fn cut(&self, start: i64, end: i64) -> Vec<f32> {
        (start..end)
            .map(|n| {
                usize::try_from(n)
                    .ok()
                    .and_then(|n| self.x.get(n))
                    .map_or(0.0, |&v| v)
            })
            .collect()
    }
}

/// Worst severity of the kinds that change the sound of a hit or note. Steady noise, room and a
/// narrow band belong to the recording's sound and are left to the other stages.
pub(crate) fn heard(frame: &crate::damage::Severity) -> f32 {
    [
        DamageKind::Clipping,
        DamageKind::Saturation,
        DamageKind::Click,
        DamageKind::Dropout,
        DamageKind::Codec,
    ]
    .iter()
    .map(|&k| frame[k as usize])
    .filter(|v| v.is_finite())
    .fold(0.0, f32::max)
}

/// The request's regions in samples: valid, ascending, merged, inside `frames`.
pub(crate) fn region_spans(request: &Request<'_>, frames: usize) -> Vec<Span> {
    let rate = f64::from(request.separated.sample_rate.max(1));
    let mut spans: Vec<Span> = request
        .regions
        .iter()
        .filter(|r| r.start.is_finite() && r.end.is_finite() && r.end > r.start)
        .map(|r| Span {
            start: ((r.start * rate).round().max(0.0) as usize).min(frames),
            end: ((r.end * rate).round().max(0.0) as usize).min(frames),
        })
        .filter(|s| s.end > s.start)
        .collect();
    spans.sort_by_key(|s| s.start);
    merge(spans)
}

/// [`region_spans`] with their margins, those that meet then joined.
pub(crate) fn padded_spans(request: &Request<'_>, frames: usize) -> Vec<Span> {
    let margin = (MARGIN_SECONDS * f64::from(request.separated.sample_rate)) as usize;
    let padded = region_spans(request, frames).into_iter().map(|s| Span {
        start: s.start.saturating_sub(margin),
        end: (s.end + margin).min(frames),
    });
    merge(padded.collect())
}

/// Joins overlapping and touching spans; expects them ascending.
fn merge(spans: Vec<Span>) -> Vec<Span> {
    let mut out: Vec<Span> = Vec::with_capacity(spans.len());
    for s in spans {
        match out.last_mut() {
            Some(last) if s.start <= last.end => last.end = last.end.max(s.end),
            _ => out.push(s),
        }
    }
    out
}

/// A deterministic generator (SplitMix64, Steele et al. 2014).
pub(crate) struct Random(pub u64);

impl Random {
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in -1..1.
    pub fn next(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}
