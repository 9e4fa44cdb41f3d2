// [worker] How well a rebuilt stem agrees with what the profile says was played.

use std::ops::Range;

use crate::{
    audio::AudioBuffer,
    damage::Stem,
    profile::{self, MusicalProfile, Note},
};

/// Frames a second of the comparison.
const RATE: f64 = 100.0;
/// An onset is looked for this far around its time, frames.
const REACH: i64 = 4;

/// 0 (nothing in common) to 1, over `span` seconds of the profile; `audio` begins at second `start`. Half is when
/// something begins, half is which pitch sounds; drums are judged by their onsets alone. `None` where the
/// profile says nothing.
pub fn agreement(
    profile: &MusicalProfile,
    stem: Stem,
    audio: &AudioBuffer,
    start: f64,
    span: Range<f64>,
) -> Option<f64> {
    let notes: &[Note] = match stem {
        Stem::Drums => &[],
        Stem::Bass => &profile.bass_notes,
        Stem::Other | Stem::Vocals => &profile.melody_notes,
    };
    let begins: Vec<f64> = match stem {
        Stem::Drums => profile.drums.iter().map(|d| d.t).collect(),
        _ => notes.iter().map(|n| n.t).collect(),
    };
    let begins: Vec<f64> = begins.into_iter().filter(|t| span.contains(t)).collect();
    let sounding: Vec<&Note> = notes
        .iter()
        .filter(|n| n.t < span.end && n.t + n.dur > span.start)
        .collect();
    let rhythm = (!begins.is_empty()).then(|| onsets(audio, start, &span, &begins));
    let tones = (!sounding.is_empty()).then(|| pitches(audio, stem, start, &span, &sounding));
    match (rhythm, tones) {
        (Some(r), Some(p)) => Some(0.5 * (r + p)),
        (one, None) | (None, one) => one,
    }
}

/// Likeness of the rises of the level and the expected onsets: the cosine of both curves.
fn onsets(audio: &AudioBuffer, start: f64, span: &Range<f64>, begins: &[f64]) -> f64 {
    let mono = audio.mono();
    let hop = f64::from(audio.sample_rate) / RATE;
    let (first, last) = (span.start - start, span.end - start);
    let frames = ((last - first) * RATE).max(0.0) as usize;
    let level = |frame: i64| -> f64 {
        let at = (first * RATE) as i64 + frame;
        let from = (at as f64 * hop).max(0.0) as usize;
        let to = ((at + 1) as f64 * hop).max(0.0) as usize;
        let part = mono.get(from..to.min(mono.len())).unwrap_or(&[]);
        part.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / hop
    };
    let levels: Vec<f64> = (-2..frames as i64).map(level).collect();
    let floor = 1e-3 * levels.iter().copied().fold(0.0, f64::max) + 1e-12;
    let rises: Vec<f64> = levels
        .windows(3)
        .map(|w| ((w[2] + floor) / (w[0] + floor)).ln().max(0.0))
        .collect();
    let mut expected = vec![0.0f64; rises.len()];
    for t in begins {
        let at = ((t - span.start) * RATE) as i64;
        for d in -REACH..=REACH {
            if let Ok(i) = usize::try_from(at + d)
                && let Some(e) = expected.get_mut(i)
            {
                *e = e.max(1.0 - d.abs() as f64 / (REACH + 1) as f64);
            }
        }
    }
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let norm = (dot(&rises, &rises) * dot(&expected, &expected)).sqrt();
    if norm > 0.0 {
        (dot(&rises, &expected) / norm).clamp(0.0, 1.0)
    } else {
        0.0
    }
}

/// Share of the notes' time with their pitch, half of it for another octave.
fn pitches(audio: &AudioBuffer, stem: Stem, start: f64, span: &Range<f64>, notes: &[&Note]) -> f64 {
    let track = match stem {
        Stem::Bass => profile::track_bass(audio),
        _ => profile::track_melody(audio),
    };
    let (mut right, mut all) = (0.0, 0.0);
    for note in notes {
        let from = (note.t.max(span.start) * RATE).ceil() as i64;
        let to = ((note.t + note.dur).min(span.end) * RATE).floor() as i64;
        for frame in from..to {
            all += 1.0;
            let hz = track.hz_at(frame as f64 / RATE - start);
            if hz > 0.0 {
                let midi = 69.0 + 12.0 * (hz / 440.0).log2();
                let off = (midi - note.midi).abs();
                let class = (off + 6.0).rem_euclid(12.0) - 6.0;
                right += if off < 0.5 {
                    1.0
                } else if class.abs() < 0.5 {
                    0.5
                } else {
                    0.0
                };
            }
        }
    }
    if all > 0.0 { right / all } else { 0.5 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{DrumClass, DrumHit};

    /// Plucked tones at the notes' places, a second in.
    fn played(notes: &[(f64, f32)], rate: u32) -> AudioBuffer {
        let mut x = vec![0.0f32; 4 * rate as usize];
        for (t, midi) in notes {
            let hz = 440.0 * 2f64.powf((f64::from(*midi) - 69.0) / 12.0);
            for n in 0..rate as usize / 2 {
                let at = n as f64 / f64::from(rate);
                let tone: f64 = (1..6)
                    .map(|h| (std::f64::consts::TAU * hz * f64::from(h) * at).sin() / f64::from(h))
                    .sum();
                if let Some(x) = x.get_mut((t * f64::from(rate)) as usize + n) {
                    *x += (0.3 * tone * (-4.0 * at).exp()) as f32;
                }
            }
        }
        AudioBuffer::new(vec![x], rate)
    }

    #[test]
    fn the_played_line_agrees_better_than_another_pitch_time_or_silence() {
        let line = [
            (0.5, 40.0),
            (1.0, 43.0),
            (1.5, 45.0),
            (2.0, 40.0),
            (2.5, 38.0),
        ];
        let note = |(t, midi): (f64, f32)| Note {
            t: t + 10.0,
            dur: 0.45,
            midi,
            velocity: 1.0,
            confidence: 1.0,
        };
        let profile = MusicalProfile {
            bass_notes: line.map(note).to_vec(),
            ..MusicalProfile::default()
        };
        let score = |notes: &[(f64, f32)]| {
            let audio = played(notes, 32_000);
            agreement(&profile, Stem::Bass, &audio, 10.0, 10.3..13.0).expect("a score")
        };
        let right = score(&line);
        let late = score(&line.map(|(t, m)| (t + 0.2, m)));
        let wrong = score(&line.map(|(t, m)| (t, m + 3.0)));
        assert!(
            right > 0.6 && right > late + 0.1 && right > wrong + 0.1,
            "{right} {late} {wrong}"
        );
        assert!(score(&[]) < 0.1);
    }

    #[test]
    fn drums_are_judged_by_their_onsets() {
        let line = [(0.5, 50.0), (1.25, 50.0), (2.0, 50.0)];
        let profile = MusicalProfile {
            drums: line
                .map(|(t, _)| DrumHit {
                    t,
                    class: DrumClass::Kick,
                    velocity: 1.0,
                    confidence: 1.0,
                })
                .to_vec(),
            ..MusicalProfile::default()
        };
        let score = |shift: f64| {
            let audio = played(&line.map(|(t, m)| (t + shift, m)), 32_000);
            agreement(&profile, Stem::Drums, &audio, 0.0, 0.0..3.0).expect("a score")
        };
        assert!(
            score(0.0) > score(0.15) + 0.3,
            "{} {}",
            score(0.0),
            score(0.15)
        );
        let silence = AudioBuffer::silence(1, 32_000 * 4, 32_000);
        let nothing = agreement(
            &MusicalProfile::default(),
            Stem::Drums,
            &silence,
            0.0,
            0.0..3.0,
        );
        assert_eq!(nothing, None);
    }
}
