// [worker] Long audio in segments of 30 s: bounded work between two looks at the cancel switch, and one
// cache entry each.

use std::ops::Range;

use crate::audio::AudioBuffer;

/// Length of a segment.
pub const SEGMENT_SECONDS: usize = 30;
/// Audio that a stage hears on both sides of its segment.
const CONTEXT_SECONDS: usize = 2;
/// Neighbours are joined by a linear crossfade of this length, centred on the border.
const JOIN_SECONDS: f64 = 0.050;

/// Where one segment lies, in samples.
struct Segment {
    /// What the stage hears.
    heard: Range<usize>,
    /// What is kept: the segment and half a crossfade on both inner sides.
    kept: Range<usize>,
}

/// The segments of a recording, or those of a growing one that its further growth won't change.
pub struct Layout {
    segments: Vec<Segment>,
    sample_rate: u32,
    frames: usize,
}

impl Layout {
    /// Of a recording of `frames`.
    pub fn whole(frames: usize, sample_rate: u32) -> Self {
        let length = SEGMENT_SECONDS * sample_rate as usize;
        let context = CONTEXT_SECONDS * sample_rate as usize;
        let half = half_join(sample_rate);
        // A rest shorter than its context is no segment of its own.
        let count = ((frames + length - 1).saturating_sub(context) / length).max(1);
        let segments = (0..count)
            .map(|i| {
                let start = i * length;
                let end = if i + 1 == count {
                    frames
                } else {
                    start + length
                };
                Segment {
                    heard: start.saturating_sub(context)..(end + context).min(frames),
                    kept: start.saturating_sub(half)..(end + half).min(frames),
                }
            })
            .collect();
        Self {
            segments,
            sample_rate,
            frames,
        }
    }

    /// The first `most` segments, or fewer, of a recording that has come to `frames` and may grow: all but
    /// the last one stay what they are.
    pub fn settled(frames: usize, sample_rate: u32, most: usize) -> Self {
        let mut layout = Self::whole(frames, sample_rate);
        layout.segments.pop();
        layout.segments.truncate(most);
        // The next segment fades in over the end of the last one.
        let join = 2 * half_join(sample_rate);
        let last = layout.segments.last();
        layout.frames = last.map_or(0, |s| s.kept.end - join);
        layout
    }

    /// How many segments.
    pub fn count(&self) -> usize {
        self.segments.len()
    }

    /// What the stage hears of segment `i`.
    pub fn heard(&self, i: usize) -> Range<usize> {
        self.segments[i].heard.clone()
    }

    /// Frames whose results are known once all segments have run.
    pub fn frames(&self) -> usize {
        self.frames
    }
}

/// Half of the crossfade by which neighbours are joined, in samples.
pub(super) fn half_join(sample_rate: u32) -> usize {
    ((0.5 * JOIN_SECONDS * f64::from(sample_rate)) as usize).max(1)
}

/// Runs `stage` over `audio` segment by segment. The stage gets the segment with 2 s of context on both
/// sides and the share of the whole that was done before, and returns `N` buffers of the same length;
/// the results are trimmed and joined to the length of `audio`. The first error ends it.
pub fn map<const N: usize, E>(
    audio: &AudioBuffer,
    stage: impl FnMut(AudioBuffer, Range<f64>) -> Result<[AudioBuffer; N], E>,
) -> Result<[AudioBuffer; N], E> {
    let layout = Layout::whole(audio.frames(), audio.sample_rate);
    map_span(
        &layout,
        0..audio.frames(),
        audio.channels.len(),
        |heard| Ok(audio.slice(heard.start, heard.len())),
        stage,
    )
}

/// Frames `span` of what [`map()`] gives for the recording of `layout`, bit for bit; `fetch` gives frames of
/// it. Only the segments that matter there run.
pub fn map_span<const N: usize, E>(
    layout: &Layout,
    span: Range<usize>,
    channels: usize,
    mut fetch: impl FnMut(Range<usize>) -> Result<AudioBuffer, E>,
    mut stage: impl FnMut(AudioBuffer, Range<f64>) -> Result<[AudioBuffer; N], E>,
) -> Result<[AudioBuffer; N], E> {
    let mut out: [AudioBuffer; N] =
        std::array::from_fn(|_| AudioBuffer::silence(channels, span.len(), layout.sample_rate));
    let join = 2 * half_join(layout.sample_rate);
    let matters =
        |s: &Segment| s.kept.start < span.end && span.start < s.kept.end || layout.frames == 0;
    let chosen: Vec<&Segment> = layout.segments.iter().filter(|s| matters(s)).collect();
    let count = chosen.len() as f64;
    for (i, segment) in chosen.into_iter().enumerate() {
        let share = i as f64 / count..(i + 1) as f64 / count;
        let results = stage(fetch(segment.heard.clone())?, share)?;
        let from = segment.kept.start.max(span.start);
        let to = segment.kept.end.min(span.end);
        let fade = if segment.kept.start == 0 {
            0
        } else {
            join.min(segment.kept.len())
        };
        for (whole, result) in out.iter_mut().zip(&results) {
            for (whole, part) in whole.channels.iter_mut().zip(&result.channels) {
                let whole = &mut whole[from - span.start..to - span.start];
                let part = &part[from - segment.heard.start..];
                for (n, (old, new)) in (from - segment.kept.start..).zip(whole.iter_mut().zip(part))
                {
                    *old = if n < fade {
                        let x = (n as f32 + 0.5) / fade as f32;
                        *old + x * (new - *old)
                    } else {
                        *new
                    };
                }
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_stage_returns_its_input_whatever_the_length() {
        for frames in [
            0,
            1,
            799,
            8_000 * 29,
            8_000 * 31 + 5,
            8_000 * 61,
            8_000 * 93 + 1,
        ] {
            let ramp: Vec<f32> = (0..frames).map(|n| (n as f32 * 0.37).sin()).collect();
            let audio = AudioBuffer::new(vec![ramp], 8_000);
            let mut covered = 0.0;
            let [out] = map(&audio, |part, share| {
                assert!((share.start - covered).abs() < 1e-9);
                covered = share.end;
                assert!(part.seconds() <= 36.0);
                Ok::<_, ()>([part])
            })
            .unwrap();
            assert!((covered - 1.0).abs() < 1e-9);
            for (a, b) in out.channels[0].iter().zip(&audio.channels[0]) {
                assert!((a - b).abs() <= 1e-6, "{a} {b}");
            }
        }
    }

    #[test]
    fn borders_are_crossfaded() {
        let audio = AudioBuffer::silence(1, 8_000 * 60, 8_000);
        let mut level = 0.0;
        let [out] = map(&audio, |mut part, _| {
            level += 1.0;
            part.channels[0].fill(level);
            Ok::<_, ()>([part])
        })
        .unwrap();
        let steps = out.channels[0].windows(2).map(|w| (w[1] - w[0]).abs());
        assert!(steps.fold(0.0, f32::max) < 0.01);
        assert_eq!(out.channels[0][8_000 * 29], 1.0);
        assert_eq!(out.channels[0][8_000 * 31], 2.0);
    }

    /// A stage whose result depends on what it hears, and is rough at borders.
    fn marked(part: AudioBuffer) -> [AudioBuffer; 1] {
        let sum: f32 = part.channels[0].iter().step_by(997).sum();
        let channel = part.channels[0].iter().map(|x| x + 0.01 * sum).collect();
        [AudioBuffer::new(vec![channel], part.sample_rate)]
    }

    #[test]
    fn what_is_settled_stays_when_the_recording_grows() {
        let rate = 8_000;
        let ramp: Vec<f32> = (0..rate * 101).map(|n| (n as f32 * 0.37).sin()).collect();
        let whole = AudioBuffer::new(vec![ramp], rate as u32);
        let [reference] = map(&whole, |part, _| Ok::<_, ()>(marked(part))).unwrap();
        for (seconds, settled) in [(20, 0), (32, 0), (33, 1), (62, 1), (63, 2), (100, 3)] {
            let now = whole.slice(0, rate * seconds);
            let layout = Layout::settled(now.frames(), rate as u32, 9);
            assert_eq!(layout.count(), settled, "{seconds} s");
            assert!(layout.frames() < 30 * rate * settled.max(1));
            let last = layout.frames();
            for span in [0..last, last / 2..last, last.saturating_sub(rate)..last] {
                let fetch = |heard: Range<usize>| {
                    assert!(heard.end <= now.frames());
                    Ok::<_, ()>(now.slice(heard.start, heard.len()))
                };
                let [part] =
                    map_span(&layout, span.clone(), 1, fetch, |part, _| Ok(marked(part))).unwrap();
                assert!(part.channels[0] == reference.channels[0][span]);
            }
        }
        assert_eq!(Layout::settled(rate * 100, rate as u32, 2).count(), 2);
    }
}
