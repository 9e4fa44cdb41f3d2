// [main] Hands that name a sound: the style field and presets.

use egui::{Event, Key, Modifiers, accesskit::Role, vec2};

use super::stage::{Stage, views};
use crate::{
    editor::model::{Command, Gesture},
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
