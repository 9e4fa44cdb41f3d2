// [any] What the user changed of a profile: a list of small edits, applied to what was heard.
//
// A list and not a changed profile: a project stays small, undo is a shorter list, and an edit survives a new
// analysis of the same take. Places are samples from the start of the take, so that edits can be compared.

use serde::{Deserialize, Serialize};

use super::{Chord, DrumClass, DrumHit, Estimate, MusicalProfile, Note, chords};

/// An edit names what it is about by its place; something this near to it is meant: 15 ms.
const NEAR_SECONDS: f64 = 0.015;
/// A bass note heard with less confidence than this gives way to a chord that the user knows better.
const UNSURE: f32 = 0.5;
/// Tempi that can be asked for, in thousandths of a beat a minute.
pub const MILLI_BPM: std::ops::RangeInclusive<u32> = 20_000..=400_000;

/// One change of a profile. Places and lengths in samples of the take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MusicEdit {
    /// This chord sounds from `start` to `end`, whatever was heard there. Harte syntax; `N` for none. Bass notes that
    /// begin there and could hardly be heard move to the nearest tone of the chord.
    Chord {
        start: i64,
        end: i64,
        label: String,
    },
    AddHit {
        at: i64,
        class: DrumClass,
        /// 1..=127, as in MIDI.
        velocity: u8,
    },
    RemoveHit {
        at: i64,
        class: DrumClass,
    },
    AddNote {
        at: i64,
        frames: i64,
        midi: u8,
        velocity: u8,
    },
    RemoveNote {
        at: i64,
        midi: u8,
    },
    /// The tempo in thousandths of a beat a minute: the first beat stays, the others follow evenly.
    Tempo {
        milli_bpm: u32,
    },
}

/// `profile` after `edits`, in order. What they are about may be gone: then an edit does nothing. Everything
/// added or changed by hand is certain (confidence 1).
pub fn edited(profile: &MusicalProfile, edits: &[MusicEdit], sample_rate: u32) -> MusicalProfile {
    let mut out = profile.clone();
    let rate = f64::from(sample_rate.max(1));
    let seconds = |samples: i64| samples as f64 / rate;
    for edit in edits {
        match edit {
            MusicEdit::Chord { start, end, label } => {
                let (start, end) = (seconds(*start), seconds(*end));
                put_chord(&mut out.chords, start, end, label);
                fit_bass(&mut out.bass_notes, start, end, label);
            }
            MusicEdit::AddHit {
                at,
                class,
                velocity,
            } => {
                let hit = DrumHit {
                    t: seconds(*at).max(0.0),
                    class: *class,
                    velocity: loudness(*velocity),
                    confidence: 1.0,
                };
                let place = out.drums.partition_point(|h| h.t <= hit.t);
                out.drums.insert(place, hit);
            }
            MusicEdit::RemoveHit { at, class } => {
                let near = nearest(&out.drums, seconds(*at), |h| {
                    (h.class == *class).then_some(h.t)
                });
                near.map(|i| out.drums.remove(i));
            }
            MusicEdit::AddNote {
                at,
                frames,
                midi,
                velocity,
            } => {
                let note = Note {
                    t: seconds(*at).max(0.0),
                    dur: seconds(*frames).max(0.01),
                    midi: f32::from((*midi).min(127)),
                    velocity: loudness(*velocity),
                    confidence: 1.0,
                };
                let place = out.bass_notes.partition_point(|n| n.t <= note.t);
                out.bass_notes.insert(place, note);
            }
            MusicEdit::RemoveNote { at, midi } => {
                let same = |n: &Note| (n.midi.round() == f32::from(*midi)).then_some(n.t);
                let near = nearest(&out.bass_notes, seconds(*at), same);
                near.map(|i| out.bass_notes.remove(i));
            }
            MusicEdit::Tempo { milli_bpm } => {
                let milli = (*milli_bpm).clamp(*MILLI_BPM.start(), *MILLI_BPM.end());
                set_tempo(&mut out, f64::from(milli) / 1e3);
            }
        }
    }
    out
}

/// Adds `edit` to `edits`, so that what cancels out leaves nothing and a corrected edit stays one.
pub fn push(edits: &mut Vec<MusicEdit>, edit: MusicEdit) {
    let opposite = |old: &MusicEdit| match (old, &edit) {
        (MusicEdit::AddHit { at, class, .. }, MusicEdit::RemoveHit { at: b, class: c })
        | (
            MusicEdit::RemoveHit { at, class },
            MusicEdit::AddHit {
                at: b, class: c, ..
            },
        ) => at == b && class == c,
        (MusicEdit::AddNote { at, midi, .. }, MusicEdit::RemoveNote { at: b, midi: m }) => {
            at == b && midi == m
        }
        _ => false,
    };
    if let Some(i) = edits.iter().rposition(opposite) {
        edits.remove(i);
        return;
    }
    match &edit {
        MusicEdit::Tempo { .. } => edits.retain(|old| !matches!(old, MusicEdit::Tempo { .. })),
        MusicEdit::Chord { start, end, .. } => {
            // Chords hide what lies under them, and only that.
            edits.retain(|old| {
                !matches!(old, MusicEdit::Chord { start: s, end: e, .. } if start <= s && e <= end)
            });
        }
        _ => {}
    }
    edits.push(edit);
}

/// [`push`] of a change that is several edits. A hit that is taken away and put back at once is another hit, louder or
/// softer: those two don't cancel out.
pub fn push_all(edits: &mut Vec<MusicEdit>, new: impl IntoIterator<Item = MusicEdit>) {
    let mut before: Option<MusicEdit> = None;
    for edit in new {
        let in_place = match (&before, &edit) {
            (
                Some(MusicEdit::RemoveHit { at, class }),
                MusicEdit::AddHit {
                    at: b, class: c, ..
                },
            ) => at == b && class == c,
            _ => false,
        };
        if in_place && edits.last() == before.as_ref() {
            edits.push(edit.clone());
        } else {
            push(edits, edit.clone());
        }
        before = Some(edit);
    }
}

fn loudness(velocity: u8) -> f32 {
    f32::from(velocity.clamp(1, 127)) / 127.0
}

/// The index of what is nearest to `at`, if near enough.
fn nearest<T>(items: &[T], at: f64, time: impl Fn(&T) -> Option<f64>) -> Option<usize> {
    (items.iter().enumerate())
        .filter_map(|(i, item)| Some((i, (time(item)? - at).abs())))
        .filter(|(_, distance)| *distance <= NEAR_SECONDS)
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(i, _)| i)
}

/// Cuts out what lies in the span and puts the chord there; what stays stays contiguous.
fn put_chord(chords: &mut Vec<Chord>, start: f64, end: f64, label: &str) {
    if end <= start {
        return;
    }
    let mut out = Vec::with_capacity(chords.len() + 2);
    for chord in chords.drain(..) {
        if chord.end <= start || chord.start >= end {
            out.push(chord);
            continue;
        }
        if chord.start < start {
            out.push(Chord {
                end: start,
                ..chord.clone()
            });
        }
        if chord.end > end {
            out.push(Chord {
                start: end,
                ..chord
            });
        }
    }
    let place = out.partition_point(|c| c.start < start);
    out.insert(
        place,
        Chord {
            start,
            end,
            label: label.to_owned(),
            confidence: 1.0,
        },
    );
    *chords = out;
}

/// Pulls bass notes that begin in the span and are unsure onto the nearest tone of the chord; what was clearly
/// heard or put there by hand stays. They stay unsure: a rebuild still follows the sound where it says more.
fn fit_bass(notes: &mut [Note], start: f64, end: f64, label: &str) {
    let Some(tones) = chords::tones(label) else {
        return;
    };
    let fits = |midi: i32| tones & (1 << midi.rem_euclid(12)) != 0;
    for note in notes {
        // A note is played a little before or after its chord.
        let inside = (start - NEAR_SECONDS..end - NEAR_SECONDS).contains(&note.t);
        let heard = note.midi.round() as i32;
        if !inside || note.confidence >= UNSURE || fits(heard) {
            continue;
        }
        // Of two that are as near the lower one: basses err upwards, to overtones.
        let nearest = (1..=6)
            .flat_map(|by| [heard - by, heard + by])
            .find(|midi| (0..=127).contains(midi) && fits(*midi));
        if let Some(midi) = nearest {
            note.midi = midi as f32;
        }
    }
}

/// Even beats from the first one to where the last one was; bars keep their length in beats and where
/// they begin.
fn set_tempo(profile: &mut MusicalProfile, bpm: f64) {
    profile.tempo_bpm = Some(Estimate {
        value: bpm,
        confidence: 1.0,
    });
    let (Some(&first), Some(&last)) = (profile.beats.first(), profile.beats.last()) else {
        return;
    };
    let near = |t: f64, beats: &[f64]| {
        (0..beats.len()).min_by(|&a, &b| (beats[a] - t).abs().total_cmp(&(beats[b] - t).abs()))
    };
    let upbeat = (profile.downbeats.first())
        .and_then(|&t| near(t, &profile.beats))
        .unwrap_or(0);
    let per_bar = profile
        .meter
        .map_or(4, |meter| usize::from(meter.value.0))
        .max(1);
    let period = 60.0 / bpm;
    let count = ((last - first) / period + 1e-6).floor() as usize + 1;
    profile.beats = (0..count).map(|i| first + i as f64 * period).collect();
    profile.downbeats = if profile.downbeats.is_empty() {
        Vec::new()
    } else {
        (profile.beats.iter().copied())
            .skip(upbeat % per_bar)
            .step_by(per_bar)
            .collect()
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 1_000;

    fn chord(start: f64, end: f64, label: &str) -> Chord {
        Chord {
            start,
            end,
            label: label.to_owned(),
            confidence: 0.5,
        }
    }

    fn labels(profile: &MusicalProfile) -> Vec<(f64, f64, &str)> {
        (profile.chords.iter())
            .map(|c| (c.start, c.end, c.label.as_str()))
            .collect()
    }

    #[test]
    fn a_chord_decides_where_the_bass_could_hardly_be_heard() {
        let note = |t: f64, midi: f32, confidence: f32| Note {
            t,
            dur: 0.5,
            midi,
            velocity: 0.8,
            confidence,
        };
        let profile = MusicalProfile {
            bass_notes: vec![
                note(0.0, 34.0, 0.2),
                note(0.5, 34.0, 0.8),
                note(1.0, 36.0, 0.2),
                note(1.495, 42.0, 0.2),
                note(2.0, 34.0, 0.2),
            ],
            ..MusicalProfile::default()
        };
        let pitches = |label: &str| -> Vec<f32> {
            let edit = MusicEdit::Chord {
                start: 0,
                end: 2_000,
                label: label.to_owned(),
            };
            let edited = edited(&profile, &[edit], RATE);
            edited.bass_notes.iter().map(|n| n.midi).collect()
        };
        // A minor: A, C, E. Clear notes, fitting notes and notes elsewhere stay.
        assert_eq!(pitches("A:min"), [33.0, 34.0, 36.0, 40.0, 34.0]);
        // The fifth in the bass is E, of a dominant ninth on A♯ nothing has to move but F♯.
        assert_eq!(pitches("A:5/5"), [33.0, 34.0, 33.0, 40.0, 34.0]);
        assert_eq!(pitches("A#:9"), [34.0, 34.0, 36.0, 41.0, 34.0]);
        for silent in ["N", "H:maj", "A:what"] {
            assert_eq!(pitches(silent), [34.0, 34.0, 36.0, 42.0, 34.0], "{silent}");
        }
    }

    #[test]
    fn a_chord_takes_its_place_and_the_others_stay_contiguous() {
        let profile = MusicalProfile {
            chords: vec![chord(0.0, 2.0, "C:maj"), chord(2.0, 4.0, "G:maj")],
            ..MusicalProfile::default()
        };
        let put = |start, end| {
            let edit = MusicEdit::Chord {
                start,
                end,
                label: "A:min".to_owned(),
            };
            edited(&profile, &[edit], RATE)
        };
        let inside = put(500, 1_500);
        assert_eq!(
            labels(&inside),
            [
                (0.0, 0.5, "C:maj"),
                (0.5, 1.5, "A:min"),
                (1.5, 2.0, "C:maj"),
                (2.0, 4.0, "G:maj")
            ]
        );
        assert_eq!(inside.chords[1].confidence, 1.0);
        let across = put(1_000, 3_000);
        assert_eq!(
            labels(&across),
            [
                (0.0, 1.0, "C:maj"),
                (1.0, 3.0, "A:min"),
                (3.0, 4.0, "G:maj")
            ]
        );
        assert_eq!(labels(&put(0, 4_000)), [(0.0, 4.0, "A:min")]);
        assert_eq!(put(1_000, 1_000), profile, "an empty span is no edit");
    }

    #[test]
    fn hits_and_notes_come_go_and_stay_sorted() {
        let hit = |t, class| DrumHit {
            t,
            class,
            velocity: 0.8,
            confidence: 0.7,
        };
        let profile = MusicalProfile {
            drums: vec![
                hit(0.5, DrumClass::Kick),
                hit(0.5, DrumClass::HihatClosed),
                hit(1.0, DrumClass::Snare),
            ],
            ..MusicalProfile::default()
        };
        let edits = [
            MusicEdit::AddHit {
                at: 750,
                class: DrumClass::Kick,
                velocity: 127,
            },
            // Ten milliseconds beside it is meant, the hi-hat at the same place is not.
            MusicEdit::RemoveHit {
                at: 510,
                class: DrumClass::Kick,
            },
            // Too far from anything.
            MusicEdit::RemoveHit {
                at: 1_100,
                class: DrumClass::Snare,
            },
            MusicEdit::AddNote {
                at: 250,
                frames: 500,
                midi: 40,
                velocity: 64,
            },
            MusicEdit::AddNote {
                at: 100,
                frames: 100,
                midi: 33,
                velocity: 64,
            },
            MusicEdit::RemoveNote { at: 250, midi: 41 },
        ];
        let out = edited(&profile, &edits, RATE);
        let drums: Vec<(f64, DrumClass)> = out.drums.iter().map(|h| (h.t, h.class)).collect();
        assert_eq!(
            drums,
            [
                (0.5, DrumClass::HihatClosed),
                (0.75, DrumClass::Kick),
                (1.0, DrumClass::Snare)
            ]
        );
        assert_eq!(out.drums[1].velocity, 1.0);
        let notes: Vec<(f64, f32)> = out.bass_notes.iter().map(|n| (n.t, n.midi)).collect();
        assert_eq!(notes, [(0.1, 33.0), (0.25, 40.0)]);
    }

    #[test]
    fn a_tempo_keeps_the_first_beat_and_the_bars_phase() {
        let profile = MusicalProfile {
            beats: (0..16).map(|i| 0.25 + 0.5 * f64::from(i)).collect(),
            downbeats: (0..4).map(|i| 0.75 + 2.0 * f64::from(i)).collect(),
            meter: Some(Estimate {
                value: (4, 4),
                confidence: 0.9,
            }),
            ..MusicalProfile::default()
        };
        let out = edited(&profile, &[MusicEdit::Tempo { milli_bpm: 60_000 }], RATE);
        assert_eq!(out.tempo_bpm.unwrap().value, 60.0);
        assert_eq!(
            out.beats,
            (0..8).map(|i| 0.25 + f64::from(i)).collect::<Vec<_>>()
        );
        assert_eq!(
            out.downbeats,
            [1.25, 5.25],
            "one beat before the first bar, as heard"
        );
        // Out of range: the nearest that is in it. Without beats there is a tempo all the same.
        let out = edited(
            &MusicalProfile::default(),
            &[MusicEdit::Tempo { milli_bpm: 1 }],
            RATE,
        );
        assert_eq!(out.tempo_bpm.unwrap().value, 20.0);
        assert_eq!(out.beats, Vec::<f64>::new());
    }

    #[test]
    fn a_hit_becomes_louder_in_its_place() {
        let remove = MusicEdit::RemoveHit {
            at: 5,
            class: DrumClass::Kick,
        };
        let add = |velocity| MusicEdit::AddHit {
            at: 5,
            class: DrumClass::Kick,
            velocity,
        };
        let mut edits = Vec::new();
        for velocity in [90, 106] {
            push_all(&mut edits, [remove.clone(), add(velocity)]);
            assert_eq!(edits, [remove.clone(), add(velocity)]);
        }
        // What was added by hand stays one edit.
        let mut edits = vec![add(90)];
        push_all(&mut edits, [remove.clone(), add(106)]);
        assert_eq!(edits, [add(106)]);
        push_all(&mut edits, [remove]);
        assert_eq!(edits, []);
    }

    #[test]
    fn what_cancels_out_leaves_nothing() {
        let add = |at| MusicEdit::AddHit {
            at,
            class: DrumClass::Kick,
            velocity: 100,
        };
        let remove = |at| MusicEdit::RemoveHit {
            at,
            class: DrumClass::Kick,
        };
        let chord = |start, end, label: &str| MusicEdit::Chord {
            start,
            end,
            label: label.to_owned(),
        };
        let mut edits = Vec::new();
        push(&mut edits, remove(5));
        push(&mut edits, add(7));
        push(&mut edits, remove(7));
        push(&mut edits, add(5));
        assert_eq!(edits, [], "moved away and back");
        push(&mut edits, chord(0, 10, "C:maj"));
        push(&mut edits, chord(2, 4, "D:min"));
        push(&mut edits, chord(2, 4, "D:7"));
        assert_eq!(edits, [chord(0, 10, "C:maj"), chord(2, 4, "D:7")]);
        push(&mut edits, chord(0, 10, "G:maj"));
        assert_eq!(edits, [chord(0, 10, "G:maj")]);
        push(&mut edits, MusicEdit::Tempo { milli_bpm: 1 });
        push(&mut edits, MusicEdit::Tempo { milli_bpm: 2 });
        assert_eq!(edits.len(), 2);
        let note = MusicEdit::AddNote {
            at: 9,
            frames: 3,
            midi: 40,
            velocity: 9,
        };
        push(&mut edits, note);
        push(&mut edits, MusicEdit::RemoveNote { at: 9, midi: 41 });
        assert_eq!(edits.len(), 4, "another pitch is another note");
        push(&mut edits, MusicEdit::RemoveNote { at: 9, midi: 40 });
        assert_eq!(edits.len(), 3);
    }
}
