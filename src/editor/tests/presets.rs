// [main] Hands that name a sound: the style field and presets.

use egui::{Event, Key, Modifiers, accesskit::Role, vec2};
use nice_plug::prelude::Param;

use super::stage::{Stage, views};
use crate::{
    editor::{
        model::{Command, Gesture},
        presets::Preset,
    },
    params::UncookParams,
    worker::view::View,
};

#[test]
fn style_is_typed_suggested_and_undone() {
    let mut stage = Stage::sized(views().1.clone(), vec2(1120.0, 1200.0), 1.0);
    stage.click(Role::Tab, "Analysis");
    stage.click(Role::TextInput, "Style");
    stage.event(Event::Text("tight kick, warm bass".to_owned()));
    stage.key(Key::Enter, Modifiers::NONE);
    let set = |text: &str| Command::SetStyle(text.to_owned());
    assert_eq!(stage.asked(), [set("tight kick, warm bass")]);
    assert_eq!(
        stage.button("Add round bass"),
        [set("tight kick, warm bass, round bass")]
    );
    assert_eq!(stage.button("Undo"), [set("tight kick, warm bass")]);
    assert_eq!(stage.button("Undo"), [set("")]);
}

/// A preset of an earlier version says one thing of both stems.
#[test]
fn a_preset_of_an_earlier_version_means_what_it_meant() {
    let params = UncookParams::default();
    let preset = |values: &[(&str, &str)]| Preset {
        name: "Old".to_owned(),
        values: (values.iter())
            .map(|(id, text)| ((*id).to_owned(), (*text).to_owned()))
            .collect(),
        style: String::new(),
    };
    let set = |values: &[(&str, &str)]| {
        let mut out = Vec::new();
        preset(values).apply(&params, &mut out);
        let sets = out.into_iter().filter_map(|command| match command {
            Command::Gesture(Gesture::Set(param, _)) => Some(param),
            _ => None,
        });
        sets.collect::<Vec<_>>()
    };
    let a = &params.analysis;
    let (drums, bass) = (a.drums_regenerator.as_ptr(), a.bass_regenerator.as_ptr());
    let old = set(&[("regenerator", "Everywhere")]);
    assert!(old.contains(&drums) && old.contains(&bass));
    // What this version says goes first.
    let own = set(&[
        ("regenerator", "Everywhere"),
        ("bass_regenerator", "Resynthesis"),
    ]);
    assert!(own.contains(&drums) && !own.contains(&bass));
}

#[test]
fn presets_are_loaded_kept_and_deleted() {
    let mut stage = Stage::new(View::default());
    stage.click(Role::ComboBox, "Preset");
    let asked = stage.button("Voice memo");
    assert!(asked.contains(&Command::NamePreset("Voice memo".to_owned())));
    assert!((stage.desk().params.live.denoise.value() - 0.75).abs() < 1e-6);
    let gestures = asked
        .iter()
        .filter(|c| matches!(c, Command::Gesture(Gesture::Begin(_))))
        .count();
    let ends = asked
        .iter()
        .filter(|c| matches!(c, Command::Gesture(Gesture::End(_))))
        .count();
    assert!(gestures > 3 && gestures == ends);

    stage.button("Save preset");
    // A built-in preset's name could not be told from it in the list.
    for taken in ["Default", "Gentle"] {
        stage.event(Event::Text(taken.to_owned()));
        assert_eq!(stage.button("Keep"), []);
        stage.click(Role::TextInput, "Preset name");
        stage.key(Key::A, Modifiers::COMMAND);
    }
    stage.event(Event::Text("Cellar".to_owned()));
    let asked = stage.button("Keep");
    let kept = asked
        .iter()
        .any(|c| matches!(c, Command::SavePreset(p) if p.name == "Cellar"));
    assert!(kept, "{asked:?}");
    let asked = stage.button("Delete preset");
    assert_eq!(asked[0], Command::DeletePreset("Cellar".to_owned()));
    assert_eq!(stage.button("Light colours"), [Command::SetLight(true)]);
    assert_eq!(stage.button("Dark colours"), [Command::SetLight(false)]);
}
