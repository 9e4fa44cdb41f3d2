//! The profile's MIDI file, read back and played by the tempo map: everything must fall where it was heard.

use midly::{MetaMessage, MidiMessage, Smf, Timing, TrackEventKind};
use uncook::profile::{
    Chord, DrumClass, DrumHit, Estimate, MusicalProfile, Note,
    midi::{drum_note, midi_file},
};

/// `(seconds, track, event)` of a whole file.
fn play(bytes: &[u8]) -> Vec<(f64, usize, TrackEventKind<'_>)> {
    let smf = Smf::parse(bytes).unwrap();
    let Timing::Metrical(ticks) = smf.header.timing else {
        panic!("timecode");
    };
    let ticks = f64::from(ticks.as_int());
    let mut tempi = vec![];
    let mut at = 0u64;
    for event in &smf.tracks[0] {
        at += u64::from(event.delta.as_int());
        if let TrackEventKind::Meta(MetaMessage::Tempo(micros)) = event.kind {
            tempi.push((at, f64::from(micros.as_int()) * 1e-6));
        }
    }
    let seconds = |tick: u64| {
        let mut sum = 0.0;
        for (i, &(from, quarter)) in tempi.iter().enumerate() {
            let to = tempi.get(i + 1).map_or(u64::MAX, |t| t.0);
            if tick > from {
                sum += (tick.min(to) - from) as f64 / ticks * quarter;
            }
        }
        sum
    };
    let mut out = vec![];
    for (k, track) in smf.tracks.iter().enumerate() {
        let mut at = 0u64;
        for event in track {
            at += u64::from(event.delta.as_int());
            out.push((seconds(at), k, event.kind));
        }
    }
    out
}

/// A drifting song of `beats` beats that starts `first` seconds in.
fn song(meter: (u8, u8), length: usize, first_down: usize, first: f64) -> MusicalProfile {
    let mut beats = vec![first];
    for i in 0..40 {
        beats.push(beats[i] + 0.47 + 0.03 * (i as f64 * 0.9).sin());
    }
    let note = |i: usize, midi: f32| Note {
        t: beats[i] + 0.123,
        dur: 0.211,
        midi,
        velocity: 0.5,
        confidence: 1.0,
    };
    let hit = |i: usize, class| DrumHit {
        t: beats[i] + 0.004,
        class,
        velocity: 1.0,
        confidence: 1.0,
    };
    MusicalProfile {
        meter: Some(Estimate {
            value: meter,
            confidence: 1.0,
        }),
        downbeats: beats[first_down..]
            .iter()
            .copied()
            .step_by(length)
            .collect(),
        chords: vec![Chord {
            start: beats[4],
            end: beats[8],
            label: "A:min7".to_owned(),
            confidence: 1.0,
        }],
        bass_notes: (0..40).map(|i| note(i, 28.2 + (i % 5) as f32)).collect(),
        melody_notes: (0..40).map(|i| note(i, 69.0)).collect(),
        drums: (0..40)
            .map(|i| hit(i, DrumClass::ALL[i % DrumClass::COUNT]))
            .collect(),
        beats,
        ..MusicalProfile::default()
    }
}

#[test]
fn everything_falls_where_it_was_heard() {
    for (profile, what) in [
        (song((4, 4), 4, 1, 0.31), "four"),
        (song((3, 4), 3, 2, 1.9), "three"),
        (song((6, 8), 2, 0, 0.0), "compound"),
    ] {
        let bytes = midi_file(&profile);
        let events = play(&bytes);
        let ons = |track: usize| -> Vec<(f64, u8)> {
            let on = |e: &(f64, usize, TrackEventKind)| match e.2 {
                TrackEventKind::Midi {
                    message: MidiMessage::NoteOn { key, .. },
                    ..
                } if e.1 == track => Some((e.0, key.as_int())),
                _ => None,
            };
            events.iter().filter_map(on).collect()
        };
        for (track, truth) in [
            (
                1,
                profile
                    .drums
                    .iter()
                    .map(|d| (d.t, drum_note(d.class)))
                    .collect::<Vec<_>>(),
            ),
            (
                2,
                profile
                    .bass_notes
                    .iter()
                    .map(|n| (n.t, n.midi.round() as u8))
                    .collect(),
            ),
            (3, profile.melody_notes.iter().map(|n| (n.t, 69)).collect()),
        ] {
            let heard = ons(track);
            assert_eq!(heard.len(), truth.len(), "{what} {track}");
            for (h, t) in heard.iter().zip(&truth) {
                assert!((h.0 - t.0).abs() < 1e-3, "{what}: {h:?} for {t:?}");
                assert_eq!(h.1, t.1);
            }
        }
        let marker = events.iter().find_map(|e| match e.2 {
            TrackEventKind::Meta(MetaMessage::Marker(m)) => Some((e.0, m)),
            _ => None,
        });
        let (at, label) = marker.unwrap();
        assert!((at - profile.chords[0].start).abs() < 1e-3);
        assert_eq!(label, b"A:min7");
    }
}

#[test]
fn bars_start_on_downbeats() {
    // One beat of lead-in and the first downbeat on the second beat heard: a first bar of two beats.
    let profile = song((4, 4), 4, 1, 0.4);
    let bytes = midi_file(&profile);
    let signatures: Vec<(f64, u8)> = play(&bytes)
        .into_iter()
        .filter_map(|e| match e.2 {
            TrackEventKind::Meta(MetaMessage::TimeSignature(n, 2, ..)) => Some((e.0, n)),
            _ => None,
        })
        .collect();
    assert_eq!(signatures.len(), 2);
    assert_eq!(signatures[0], (0.0, 2));
    assert_eq!(signatures[1].1, 4);
    assert!((signatures[1].0 - profile.downbeats[0]).abs() < 1e-3);
}

#[test]
fn a_repeated_key_sounds_again_and_nothing_hangs() {
    let mut profile = song((4, 4), 4, 0, 0.0);
    // Notes that overlap the next one on the same key.
    profile.bass_notes.iter_mut().for_each(|n| {
        n.midi = 33.0;
        n.dur = 0.9;
    });
    let bytes = midi_file(&profile);
    let mut sounding = 0;
    for (_, track, kind) in play(&bytes) {
        match kind {
            TrackEventKind::Midi {
                message: MidiMessage::NoteOn { .. },
                ..
            } if track == 2 => {
                sounding += 1;
                assert_eq!(sounding, 1, "a key struck while it sounds");
            }
            TrackEventKind::Midi {
                message: MidiMessage::NoteOff { .. },
                ..
            } if track == 2 => sounding -= 1,
            _ => {}
        }
    }
    assert_eq!(sounding, 0);
}

#[test]
fn an_empty_profile_is_a_valid_file() {
    let bytes = midi_file(&MusicalProfile::default());
    let smf = Smf::parse(&bytes).unwrap();
    assert_eq!(smf.tracks.len(), 1);
}
