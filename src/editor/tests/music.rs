// [main] Hands that edit the music: in the lanes by mouse and keys, on its panel by name.

use std::sync::Arc;

use egui::{Event, Key, Modifiers, PointerButton, Pos2, accesskit::Role, pos2, vec2};

use egui_kittest::kittest::Queryable;

use super::stage::{RATE, Stage, views};
use crate::{
    editor::{lanes, model::Command, music::What, state::Tab},
    exchange::SamplePos,
    profile::{Chord, DrumClass, DrumHit, Estimate, MusicalProfile, Note, edit::MusicEdit},
    worker::view::View,
};

/// The band's take with music that the test knows: two beats a second, a kick on each, two chords, one note.
fn view() -> View {
    let mut view = views().1.clone();
    let take = &mut view.takes[0];
    let mut findings = (**take.findings.as_ref().unwrap()).clone();
    let chord = |start: f64, end: f64, label: &str| Chord {
        start,
        end,
        label: label.to_owned(),
        confidence: 0.5,
    };
    findings.profile = MusicalProfile {
        tempo_bpm: Some(Estimate {
            value: 120.0,
            confidence: 0.9,
        }),
        beats: (0..20).map(|i| 0.5 * f64::from(i)).collect(),
        downbeats: (0..5).map(|i| 2.0 * f64::from(i)).collect(),
        meter: Some(Estimate {
            value: (4, 4),
            confidence: 0.9,
        }),
        chords: vec![chord(0.0, 5.0, "A:min"), chord(5.0, 10.0, "F:maj")],
        bass_notes: vec![Note {
            t: 4.0,
            dur: 1.0,
            midi: 33.0,
            velocity: 0.8,
            confidence: 0.6,
        }],
        drums: (0..20)
            .map(|i| DrumHit {
                t: 0.5 * f64::from(i),
                class: DrumClass::Kick,
                velocity: 0.8,
                confidence: 0.6,
            })
            .collect(),
        ..MusicalProfile::default()
    };
    take.findings = Some(findings.into());
    view
}

fn edits(stage: &mut Stage) -> Vec<MusicEdit> {
    stage.desk().view.edits.music_of(SamplePos(0)).to_vec()
}

fn samples(seconds: f64) -> i64 {
    (seconds * f64::from(RATE)).round() as i64
}

/// Where a second is in a lane; `share` of the lanes' height from above.
fn place(stage: &Stage, seconds: f64, y: f32) -> Pos2 {
    let rect = stage.rect(Role::Canvas, "Music");
    assert!((rect.height() - lanes::HEIGHT).abs() < 1.0);
    let x = rect.left() + rect.width() * (seconds / 10.0) as f32;
    pos2(x, rect.top() + y)
}

/// From the top of the lanes to the middles of the bass, snare and kick rows.
const BASS: f32 = 38.0;
const SNARE: f32 = 71.5;
const KICK: f32 = 80.5;

fn click(stage: &mut Stage, at: Pos2, button: PointerButton) {
    stage.event(Event::PointerMoved(at));
    for pressed in [true, false] {
        stage.event(Event::PointerButton {
            pos: at,
            button,
            pressed,
            modifiers: Modifiers::NONE,
        });
    }
    stage.harness.run_steps(24);
}

#[test]
fn hits_are_added_moved_and_deleted_in_the_lanes() {
    let mut stage = Stage::new(view());
    // A little beside the grid: a click adds on it.
    let at = place(&stage, 3.26, SNARE);
    click(&mut stage, at, PointerButton::Primary);
    let snare = MusicEdit::AddHit {
        at: samples(3.25),
        class: DrumClass::Snare,
        velocity: 100,
    };
    assert_eq!(edits(&mut stage), std::slice::from_ref(&snare));
    assert_eq!(
        stage.desk().state.tab,
        Tab::Music,
        "what was picked can be adjusted"
    );
    // A second click on it picks it: nothing is added twice.
    let at = place(&stage, 3.25, SNARE);
    click(&mut stage, at, PointerButton::Primary);
    assert_eq!(edits(&mut stage), std::slice::from_ref(&snare));

    // A kick is dragged from 2 s to the sixteenth after 2.5 s.
    let (from, to) = (place(&stage, 2.0, KICK), place(&stage, 2.63, KICK));
    stage.drag(from, to, PointerButton::Primary, Modifiers::NONE);
    let moved = [
        snare.clone(),
        MusicEdit::RemoveHit {
            at: samples(2.0),
            class: DrumClass::Kick,
        },
        MusicEdit::AddHit {
            at: samples(2.625),
            class: DrumClass::Kick,
            velocity: 102,
        },
    ];
    assert_eq!(edits(&mut stage), moved);
    assert_eq!(
        stage.desk().state.selection,
        None,
        "the timeline was not dragged"
    );

    // A right click deletes, and so does the key.
    let at = place(&stage, 4.5, KICK);
    click(&mut stage, at, PointerButton::Secondary);
    assert_eq!(edits(&mut stage).len(), 4);
    let at = place(&stage, 3.25, SNARE);
    click(&mut stage, at, PointerButton::Primary);
    stage.key(Key::Delete, Modifiers::NONE);
    stage.asked();
    assert!(
        !edits(&mut stage).contains(&snare),
        "added and deleted is nothing"
    );
    // Four steps back, and on again.
    for left in [4, 3, 1, 0] {
        stage.button("Undo");
        assert_eq!(edits(&mut stage).len(), left);
    }
    stage.button("Redo");
    assert_eq!(edits(&mut stage), [snare]);
}

#[test]
fn keys_go_from_one_to_the_next_in_the_lanes() {
    let mut stage = Stage::new(view());
    let lanes = stage.harness.get_by_role_and_label(Role::Canvas, "Music");
    lanes.focus();
    stage.harness.run_steps(2);
    let picked = |stage: &mut Stage| stage.desk().state.music.picked.map(|p| p.what);
    let chord = |start: f64, end: f64| What::Chord {
        start: samples(start),
        end: samples(end),
    };
    for (key, what) in [
        (Key::ArrowRight, chord(0.0, 5.0)),
        (Key::ArrowRight, chord(5.0, 10.0)),
        (Key::ArrowRight, chord(5.0, 10.0)),
    ] {
        stage.key(key, Modifiers::NONE);
        assert_eq!(picked(&mut stage), Some(what));
    }
    stage.key(Key::ArrowDown, Modifiers::NONE);
    assert!(matches!(
        picked(&mut stage),
        Some(What::Note { midi: 33, .. })
    ));
    // Past the empty rows to the kick that is nearest to the note, and to the one before it.
    stage.key(Key::ArrowDown, Modifiers::NONE);
    let at = |stage: &mut Stage| picked(stage).map(What::at);
    assert_eq!(at(&mut stage), Some(samples(4.0)));
    stage.key(Key::ArrowLeft, Modifiers::NONE);
    assert_eq!(at(&mut stage), Some(samples(3.5)));
    stage.key(Key::Delete, Modifiers::NONE);
    assert_eq!(edits(&mut stage).len(), 1);
}

#[test]
fn bass_notes_are_added_and_pulled_to_another_pitch() {
    let mut stage = Stage::new(view());
    let from = place(&stage, 4.5, BASS);
    stage.drag(
        from,
        from - vec2(0.0, 9.0),
        PointerButton::Primary,
        Modifiers::NONE,
    );
    let now = edits(&mut stage);
    let MusicEdit::AddNote {
        at, midi, frames, ..
    } = now[1]
    else {
        panic!("{now:?}")
    };
    assert_eq!((at, frames), (samples(4.0), samples(1.0)));
    assert!(midi > 33, "{midi}");
    // A click beside it adds a note of an eighth.
    let at = place(&stage, 7.0, BASS);
    click(&mut stage, at, PointerButton::Primary);
    let now = edits(&mut stage);
    let MusicEdit::AddNote { at, frames, .. } = now[2] else {
        panic!("{now:?}")
    };
    assert_eq!((at, frames), (samples(7.0), samples(0.25)));
    // It is picked: buttons adjust it.
    for (button, check) in [
        ("Later", (samples(7.125), samples(0.25))),
        ("Longer", (samples(7.125), samples(0.375))),
    ] {
        stage.button(button);
        let now = edits(&mut stage);
        let MusicEdit::AddNote { at, frames, .. } = now[2] else {
            panic!("{now:?}")
        };
        assert!(
            (at - check.0).abs() <= 1 && (frames - check.1).abs() <= 2,
            "{now:?}"
        );
    }
    stage.button("Higher");
    stage.button("Delete");
    assert_eq!(edits(&mut stage).len(), 2);
}

#[test]
fn a_tempo_field_that_is_left_as_it_was_changes_nothing() {
    let mut view = view();
    let findings = Arc::make_mut(view.takes[0].findings.as_mut().unwrap());
    findings.profile.tempo_bpm.as_mut().unwrap().value = 119.97;
    let mut stage = Stage::new(view);
    stage.click(Role::Tab, "Music");
    stage.click(Role::SpinButton, "Tempo");
    stage.key(Key::Enter, Modifiers::NONE);
    assert_eq!(edits(&mut stage), []);
    stage.click(Role::SpinButton, "Tempo");
    stage.key(Key::A, Modifiers::COMMAND);
    stage.event(Event::Text("121.5".to_owned()));
    stage.key(Key::Enter, Modifiers::NONE);
    let typed = MusicEdit::Tempo { milli_bpm: 121_500 };
    assert_eq!(edits(&mut stage), [typed]);
    assert!(stage.shows("121.5 BPM"));
    // Two quick clicks bring back what was heard.
    stage.double_click(Role::SpinButton, "Tempo");
    assert_eq!(edits(&mut stage), []);
    assert!(stage.shows("120.0 BPM"));
}

#[test]
fn tempo_and_chords_are_typed_and_midi_is_saved() {
    let mut stage = Stage::new(view());
    stage.click(Role::Tab, "Music");
    // The chord at the playhead, two seconds in.
    stage.click(Role::TextInput, "Chord");
    stage.key(Key::A, Modifiers::COMMAND);
    stage.event(Event::Text("Dm7/C".to_owned()));
    stage.key(Key::Enter, Modifiers::NONE);
    stage.asked();
    let chord = MusicEdit::Chord {
        start: 0,
        end: samples(5.0),
        label: "D:min7/b7".to_owned(),
    };
    assert_eq!(edits(&mut stage), [chord]);
    assert!(stage.shows("Dm7"));
    // What is no chord changes nothing.
    stage.click(Role::TextInput, "Chord");
    stage.key(Key::A, Modifiers::COMMAND);
    stage.event(Event::Text("Hallo".to_owned()));
    assert!(stage.shows("no chord that I know"));
    stage.key(Key::Enter, Modifiers::NONE);
    assert_eq!(edits(&mut stage).len(), 1);

    stage.button("Half");
    assert!(edits(&mut stage).contains(&MusicEdit::Tempo { milli_bpm: 60_000 }));
    assert!(stage.shows("60.0 BPM"));
    for name in ["kick", "closed hi-hat", "crash"] {
        stage.button(&format!("Add {name}"));
    }
    stage.button("Add bass note");
    assert_eq!(edits(&mut stage).len(), 6);

    let asked = stage.button("Save MIDI");
    let [Command::SaveMidi { name, bytes }] = &asked[..] else {
        panic!("{asked:?}")
    };
    assert_eq!(name, "Uncook 0.00");
    let smf = midly::Smf::parse(bytes).unwrap();
    // The conductor, drums with a crash, bass; no melody.
    assert_eq!(smf.tracks.len(), 3);
    let keys = |track: usize| {
        smf.tracks[track]
            .iter()
            .filter_map(|event| match event.kind {
                midly::TrackEventKind::Midi {
                    message: midly::MidiMessage::NoteOn { key, vel },
                    ..
                } if vel > 0 => Some(key.as_int()),
                _ => None,
            })
            .collect::<Vec<u8>>()
    };
    assert_eq!(keys(1).len(), 23);
    assert!(keys(1).contains(&49));
    assert_eq!(keys(2), [33, 33]);

    stage.button("Forget edits");
    assert_eq!(edits(&mut stage), []);
    stage.button("Undo");
    assert_eq!(edits(&mut stage).len(), 6);
}

#[test]
fn what_the_rebuild_does_not_follow_is_said_and_rebuilt_by_one_click() {
    let mut stage = Stage::new(view());
    stage.click(Role::Tab, "Music");
    assert!(!stage.has(Role::Button, "Rebuild"));
    stage.desk().view.takes[0].unheard = true;
    assert!(stage.shows("does not follow the last edits"));
    assert_eq!(stage.button("Rebuild"), [Command::Analyse]);
}

#[test]
fn files_are_written_under_names_that_are_free() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("new");
    let write = |bytes: &[u8]| super::super::write_free(&inside, "Uncook 0.00", "mid", bytes);
    let (first, second) = (write(b"one").unwrap(), write(b"two").unwrap());
    assert_eq!(first, inside.join("Uncook 0.00.mid"));
    assert_eq!(second, inside.join("Uncook 0.00 2.mid"));
    assert_eq!(std::fs::read(first).unwrap(), b"one");
    assert_eq!(std::fs::read(&second).unwrap(), b"two");
    assert_eq!(
        std::fs::read_dir(&inside).unwrap().count(),
        2,
        "nothing is left aside"
    );
    // No folder can be where a file is.
    let wrong = super::super::write_free(&second, "x", "mid", b"three").unwrap_err();
    assert!(
        wrong.contains("can't be written") && wrong.contains("Uncook 0.00 2.mid"),
        "{wrong}"
    );
}
