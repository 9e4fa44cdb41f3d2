// [worker] Assembles captured chunks into takes: contiguous spans of the timeline, newest audio wins.

use std::{io, ops::Range, sync::Arc};

use crate::{
    audio::AudioBuffer,
    damage::{DamageMap, FRAMES_PER_SECOND, Severity},
    exchange::{
        SamplePos,
        capture::{CHUNK_FRAMES, CaptureChunk},
        patch::{self, Patch},
        samples::{BLOCK, Depot, Samples, StereoSamples},
    },
    realtime::detect::{DELAY_FRAMES, Detector},
    worker::{
        picture::{Painter, Picture},
        view::{DamageCells, damage_cell},
    },
};

/// A contiguous captured span.
pub struct Take {
    pub start: SamplePos,
    pub sample_rate: u32,
    samples: StereoSamples,
    /// Changes whenever the samples do.
    pub revision: u64,
    overview: Overview,
    /// Samples that have been looked for in patches.
    offered: usize,
}

/// Audio before a replaced span that the detector hears again, so that it has settled there: 0.2 s.
const WARM_UP_FRAMES: usize = 20;

/// Damage per 10 ms frame and what the editor draws, measured as the samples arrive.
struct Overview {
    /// Has heard everything up to `damage.frames.len()` frames.
    detector: Detector,
    /// Samples a frame.
    hop: usize,
    painter: Painter,
    damage: DamageMap,
    cells: DamageCells,
    /// Measured frames whose audio was replaced since, and the replaced samples themselves.
    replaced: Option<Range<usize>>,
    repaint: Option<Range<usize>>,
}

impl Overview {
    fn new(sample_rate: u32) -> Self {
        Self {
            detector: Detector::new(f64::from(sample_rate), 2),
            hop: (sample_rate as usize / FRAMES_PER_SECOND).max(1),
            painter: Painter::new(sample_rate),
            damage: DamageMap::default(),
            cells: DamageCells::default(),
            replaced: None,
            repaint: None,
        }
    }

    /// Marks samples that were measured already and are other ones now.
    fn replace(&mut self, samples: Range<usize>) {
        self.repaint = Some(match &self.repaint {
            Some(r) => r.start.min(samples.start)..r.end.max(samples.end),
            None => samples.clone(),
        });
        let end = samples.end.div_ceil(self.hop).min(self.damage.frames.len());
        let start = (samples.start / self.hop).min(end);
        if start < end {
            self.replaced = Some(match &self.replaced {
                Some(r) => r.start.min(start)..r.end.max(end),
                None => start..end,
            });
        }
    }

    fn measure(&mut self, samples: &StereoSamples, sample_rate: u32) {
        if let Some(range) = self.replaced.take() {
            let first = range.start.saturating_sub(WARM_UP_FRAMES);
            // A frame is judged when what follows it was heard.
            let until = (range.end + DELAY_FRAMES).min(self.damage.frames.len());
            let mut detector = Detector::new(f64::from(sample_rate), 2);
            let mut severities = Vec::new();
            let heard = self.heard(samples, first..until);
            detector.process(&heard.each_ref().map(Vec::as_slice), &mut |_, s| {
                severities.push(*s);
            });
            let heard = severities.into_iter().skip(range.start - first);
            for (frame, severity) in self.damage.frames[range.clone()].iter_mut().zip(heard) {
                *frame = severity;
            }
            for i in range.clone() {
                self.cells.set(i, damage_cell(&self.damage.frames[i]));
            }
        }
        if let Some(range) = self.repaint.take() {
            self.painter.repaint(samples, range);
        }
        self.painter.extend(samples);
        let new = self.damage.frames.len()..samples[0].len() / self.hop;
        if new.is_empty() {
            return;
        }
        let heard = self.heard(samples, new.clone());
        let frames = &mut self.damage.frames;
        // What is not judged yet counts as undamaged.
        frames.resize(new.end, Severity::default());
        let mut first = new.start;
        let heard = heard.each_ref().map(Vec::as_slice);
        self.detector.process(&heard, &mut |index, severity| {
            let index = usize::try_from(index).unwrap_or(usize::MAX);
            if let Some(frame) = frames.get_mut(index) {
                *frame = *severity;
                first = first.min(index);
            }
        });
        for (i, frame) in self.damage.frames.iter().enumerate().skip(first) {
            let cell = damage_cell(frame);
            if i < self.cells.len() {
                self.cells.set(i, cell);
            } else {
                self.cells.push(cell);
            }
        }
    }

    fn heard(&self, samples: &StereoSamples, frames: Range<usize>) -> [Vec<f32>; 2] {
        let range = frames.start * self.hop..frames.end * self.hop;
        samples.each_ref().map(|c| c.slice(range.clone()))
    }
}

impl Take {
    /// Length in samples.
    pub fn frames(&self) -> usize {
        self.samples[0].len()
    }

    /// First position after the take.
    pub fn end(&self) -> SamplePos {
        self.start.offset(self.frames() as i64)
    }

    /// The audio as it is now, shared.
    pub fn samples(&self) -> &StereoSamples {
        &self.samples
    }

    /// Whether both channels are the same.
    pub fn is_mono(&self) -> bool {
        self.samples[0] == self.samples[1]
    }

    /// A copy of `frames` frames from `start` on, which the take holds; `channels`: 1 is the left one.
    pub fn part(&self, start: SamplePos, frames: usize, channels: usize) -> AudioBuffer {
        let from = start.since(self.start) as usize;
        let chosen = self.samples.iter().take(channels);
        let channels = chosen.map(|c| c.slice(from..from + frames)).collect();
        AudioBuffer::new(channels, self.sample_rate)
    }

    /// What the editor draws of the audio.
    pub fn picture(&self) -> &Picture {
        self.overview.painter.picture()
    }

    /// [`Take::damage`] at every resolution.
    pub fn cells(&self) -> &DamageCells {
        &self.overview.cells
    }

    /// Damage measured so far.
    pub fn damage(&self) -> &DamageMap {
        &self.overview.damage
    }

    /// Whether the audio is, bit for bit, what `other` holds from `offset` on.
    pub fn equals(&self, other: &StereoSamples, offset: usize) -> bool {
        let mut channels = self.samples.iter().zip(other);
        channels.all(|(own, other)| own.lies_in(other, offset))
    }

    /// Holds what has come since the last call together with `patches`, wherever they are the same.
    fn share(&mut self, patches: &[&Patch]) {
        let len = self.frames();
        for patch in patches.iter().filter(|p| p.sample_rate == self.sample_rate) {
            let within = |pos: SamplePos| pos.since(self.start).clamp(0, len as i64) as usize;
            let range = within(patch.start).max(self.offered)..within(patch.end());
            if range.is_empty() {
                continue;
            }
            let offset = self.start.since(patch.start);
            for (own, theirs) in self.samples.iter_mut().zip(&patch.take) {
                own.share(range.clone(), theirs, offset);
            }
        }
        // The last block is not full yet.
        self.offered = len.saturating_sub(BLOCK);
    }

    /// Appends audio. Where both channels are the same they are held once.
    fn extend(&mut self, more: [&[f32]; 2]) {
        let [left, right] = &mut self.samples;
        left.extend(more[0], &[]);
        right.extend(more[1], &[left]);
    }
}

/// Playback must have run on for so long before it replaces what was captured, in seconds. Scrubbing, varispeed and
/// fast winding give pieces of a block or two, each at a place that it wasn't recorded for.
const REPLACES_AFTER_SECONDS: f64 = 0.25;

/// Frames of a chunk.
fn frames(chunk: &CaptureChunk) -> usize {
    usize::from(chunk.len).min(CHUNK_FRAMES)
}

/// All takes of an instance: sorted by start; takes of one rate never overlap or touch.
#[derive(Default)]
pub struct Takes {
    takes: Vec<Take>,
    revision: u64,
    /// Where the next chunk goes on, if it follows, and frames since the last jump.
    next: Option<(SamplePos, u32)>,
    run: usize,
    /// Chunks of this run that would replace other audio, and what follows them, until it has run on for long enough.
    held: Vec<CaptureChunk>,
}

impl Takes {
    /// Sorted by start.
    pub fn all(&self) -> &[Take] {
        &self.takes
    }

    /// Holds what has been captured since the last call together with `patches`, wherever they are the same.
    pub fn share(&mut self, patches: &[&Patch]) {
        self.takes.iter_mut().for_each(|take| take.share(patches));
    }

    /// Puts what reaches into none of the spans `keep` of the timeline into `depot`, but for the end of each take, where
    /// more may come; writes `room` bytes at most. Returns whether any went.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn put_away(
        &mut self,
        keep: &[Range<i64>],
        depot: &Arc<Depot>,
        room: &mut usize,
    ) -> io::Result<bool> {
        let mut any = false;
        for take in &mut self.takes {
            let mut keep = patch::within(keep, take.start);
            let end = take.frames() as i64;
            keep.push(end - BLOCK as i64..end + 1);
            for channel in &mut take.samples {
                any |= channel.put_away(&keep, depot, room)?;
            }
        }
        Ok(any)
    }

    /// There are other patches: everything is looked for in them.
    pub fn share_anew(&mut self) {
        self.takes.iter_mut().for_each(|take| take.offered = 0);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self {
            revision: self.revision,
            ..Self::default()
        };
    }

    /// Adds a chunk, or the end of playback. Audio that is already there in the same form changes nothing; other audio
    /// at the same place replaces it, once it is no mere piece ([`REPLACES_AFTER_SECONDS`]). Takes that come to touch
    /// are joined.
    pub fn add(&mut self, chunk: &CaptureChunk) {
        if chunk.len == 0 {
            self.next = None;
            return;
        }
        let len = frames(chunk);
        if self.next != Some((chunk.pos, chunk.sample_rate)) {
            self.run = 0;
            self.held.clear();
        }
        self.next = Some((chunk.pos.offset(len as i64), chunk.sample_rate));
        self.run += len;
        if self.run as f64 >= REPLACES_AFTER_SECONDS * f64::from(chunk.sample_rate) {
            for held in std::mem::take(&mut self.held) {
                self.put(&held);
            }
            self.put(chunk);
        } else if !self.held.is_empty() || self.replaces(chunk) {
            self.held.push(*chunk);
        } else {
            self.put(chunk);
        }
    }

    /// Whether other audio is there already.
    fn replaces(&self, chunk: &CaptureChunk) -> bool {
        let (start, end) = (chunk.pos, chunk.pos.offset(frames(chunk) as i64));
        self.takes.iter().any(|take| {
            let (from, to) = (start.max(take.start), end.min(take.end()));
            let len = to.since(from).max(0) as usize;
            let differs = |(old, new): (&Samples, &[f32; CHUNK_FRAMES])| {
                let new = &new[from.since(start) as usize..][..len];
                old.differ(from.since(take.start) as usize, new)
            };
            len > 0
                && take.sample_rate == chunk.sample_rate
                && take.samples.iter().zip(&chunk.samples).any(differs)
        })
    }

    fn put(&mut self, chunk: &CaptureChunk) {
        let len = frames(chunk);
        self.revision += 1;
        let (start, end) = (chunk.pos, chunk.pos.offset(len as i64));
        let touching =
            |t: &Take| t.sample_rate == chunk.sample_rate && t.start <= end && start <= t.end();
        let Some(i) = self.takes.iter().position(touching) else {
            let at = self.takes.partition_point(|t| t.start <= start);
            let mut take = Take {
                start,
                sample_rate: chunk.sample_rate,
                samples: [Samples::new(start), Samples::new(start)],
                revision: self.revision,
                overview: Overview::new(chunk.sample_rate),
                offered: 0,
            };
            take.extend(chunk.samples.each_ref().map(|c| &c[..len]));
            self.takes.insert(at, take);
            return;
        };
        let revision = self.revision;
        let take = &mut self.takes[i];
        if start < take.start {
            // Rare: playback began earlier than before and has come up to the take.
            let missing = take.start.since(start) as usize;
            (take.samples.iter_mut()).for_each(|c| c.prepend_silence(missing));
            take.start = start;
            take.offered = 0;
            take.overview = Overview::new(take.sample_rate);
        }
        let offset = start.since(take.start) as usize;
        let overlap = len.min(take.frames() - offset);
        let mut changed = false;
        for (channel, new) in take.samples.iter_mut().zip(&chunk.samples) {
            if channel.differ(offset, &new[..overlap]) {
                channel.write(offset, &new[..overlap]);
                changed = true;
            }
        }
        if overlap < len {
            take.extend(chunk.samples.each_ref().map(|c| &c[overlap..len]));
            take.revision = revision;
        }
        if changed {
            let [left, right] = &mut take.samples;
            right.share(offset..offset + len, left, 0);
            take.revision = revision;
            take.overview.replace(offset..offset + len);
        }
        self.join(i);
    }

    /// Joins take `i` with followers that it has come to touch; `i` is the newer where they overlap.
    fn join(&mut self, i: usize) {
        while let Some(next) = self.takes.get(i + 1)
            && next.sample_rate == self.takes[i].sample_rate
            && next.start <= self.takes[i].end()
        {
            let next = self.takes.remove(i + 1);
            let take = &mut self.takes[i];
            let overlap = take.end().since(next.start) as usize;
            if overlap < next.frames() {
                let tail = next.samples.each_ref().map(|c| c.slice(overlap..c.len()));
                take.extend(tail.each_ref().map(Vec::as_slice));
                take.revision = self.revision;
            }
        }
    }

    /// Measures what has arrived since the last call.
    pub fn measure(&mut self) {
        for take in &mut self.takes {
            take.overview.measure(&take.samples, take.sample_rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{damage::DamageKind, exchange::samples::stereo, metrics::damage::damage_map};

    /// A tone, clipped from 1.0 to 1.5 s.
    fn clipped(rate: u32) -> StereoSamples {
        let tone: Vec<f32> = (0..3 * rate)
            .map(|n| {
                let t = f64::from(n) / f64::from(rate);
                let tone = (std::f64::consts::TAU * 196.0 * t).sin();
                let overtone = (std::f64::consts::TAU * 523.0 * t).sin();
                let drive = if (1.0..1.5).contains(&t) { 3.0 } else { 0.5 };
                (drive * (0.6 * tone + 0.4 * overtone)).clamp(-0.7, 0.7) as f32
            })
            .collect();
        stereo(SamplePos(0), [&tone, &tone], &[])
    }

    /// In how few or many pieces audio arrives, and whether a part of it arrives twice: damage lies where it is.
    #[test]
    fn damage_lies_where_it_was_heard_in_however_many_pieces() {
        for rate in [48_000, 44_100] {
            let samples = clipped(rate);
            let audio = AudioBuffer::new(samples.iter().map(|c| c.to_vec()).collect(), rate);
            let truth = damage_map(&audio).frames;
            let hurt = (truth.iter()).position(|f| f[DamageKind::Clipping as usize] >= 0.5);
            assert!(
                hurt.is_some_and(|frame| (98..=104).contains(&frame)),
                "{hurt:?}"
            );
            for piece in [3 * rate as usize, 20_000, 4_096] {
                let mut overview = Overview::new(rate);
                let mut end = 0;
                while end < samples[0].len() {
                    end = (end + piece).min(samples[0].len());
                    let part = samples.each_ref().map(|c| c.slice(0..end));
                    let part = stereo(SamplePos(0), part.each_ref().map(Vec::as_slice), &[]);
                    overview.measure(&part, rate);
                }
                let check = |overview: &Overview, from: usize| {
                    let judged = truth.len() - DELAY_FRAMES - 1;
                    assert_eq!(overview.damage.frames.len(), truth.len());
                    for (i, wanted) in truth.iter().enumerate().take(judged).skip(from) {
                        assert_eq!(overview.damage.frames[i], *wanted, "{piece}: frame {i}");
                        let cell = overview.cells.over(i..i + 1);
                        assert_eq!(cell, Some(damage_cell(wanted)), "{piece}: frame {i}");
                    }
                };
                check(&overview, 0);
                // Heard once more from 1 s to 1.6 s: as clipped as before, to the last frame.
                let second = rate as usize;
                overview.replace(second..second + second * 6 / 10);
                overview.measure(&samples, rate);
                let clipping = |i: usize| overview.damage.frames[i][DamageKind::Clipping as usize];
                let count = (100..160).filter(|i| clipping(*i) >= 0.5).count();
                let wanted = truth[100..160].iter();
                let wanted = wanted.filter(|f| f[DamageKind::Clipping as usize] >= 0.5);
                assert!(count.abs_diff(wanted.count()) <= 2, "{count}");
                check(&overview, 200);
            }
        }
    }
}
