// [worker] Long audio in segments of 30 s: bounded work between two looks at the cancel switch, and one
// cache entry each.

use std::ops::Range;

use crate::audio::AudioBuffer;

/// Length of a segment.
const SEGMENT_SECONDS: usize = 30;
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

fn segments(frames: usize, sample_rate: u32) -> Vec<Segment> {
    let length = SEGMENT_SECONDS * sample_rate as usize;
    let context = CONTEXT_SECONDS * sample_rate as usize;
    let half = half_join(sample_rate);
    // A rest shorter than its context is no segment of its own.
    let count = ((frames + length - 1).saturating_sub(context) / length).max(1);
    (0..count)
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
        .collect()
}

fn half_join(sample_rate: u32) -> usize {
    ((0.5 * JOIN_SECONDS * f64::from(sample_rate)) as usize).max(1)
}

/// Runs `stage` over `audio` segment by segment. The stage gets the segment with 2 s of context on both
/// sides and the share of the whole that was done before, and returns `N` buffers of the same length;
/// the results are trimmed and joined to the length of `audio`. The first error ends it.
pub fn map<const N: usize, E>(
    audio: &AudioBuffer,
    mut stage: impl FnMut(AudioBuffer, Range<f64>) -> Result<[AudioBuffer; N], E>,
) -> Result<[AudioBuffer; N], E> {
    let frames = audio.frames();
    let mut out: [AudioBuffer; N] = std::array::from_fn(|_| {
        AudioBuffer::silence(audio.channels.len(), frames, audio.sample_rate)
    });
    let segments = segments(frames, audio.sample_rate);
    let count = segments.len() as f64;
    let join = 2 * half_join(audio.sample_rate);
    for (i, segment) in segments.iter().enumerate() {
        let heard = audio.slice(segment.heard.start, segment.heard.len());
        let share = i as f64 / count..(i + 1) as f64 / count;
        let results = stage(heard, share)?;
        let offset = segment.kept.start - segment.heard.start;
        for (whole, result) in out.iter_mut().zip(&results) {
            for (whole, part) in whole.channels.iter_mut().zip(&result.channels) {
                let whole = &mut whole[segment.kept.clone()];
                let part = &part[offset..offset + whole.len()];
                let fade = if i == 0 { 0 } else { join.min(whole.len()) };
                for (n, (old, new)) in whole.iter_mut().zip(part).enumerate() {
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
}
