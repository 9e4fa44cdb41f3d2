// [main] The editor in four states at 1× and 2×, against stored pictures. `UNCOOK_BLESS=1` renews them.

use std::path::PathBuf;

use egui::{Rect, accesskit::Role, vec2};

use super::{
    paint::Picture,
    stage::{Stage, analysing, views},
};
use crate::{
    editor::{
        MIN_SIZE,
        state::{Tab, WaveMode},
        theme,
    },
    params::DEFAULT_EDITOR_SIZE,
    worker::view::View,
};

/// Squares that may differ: glyphs at their edges. Less than the smallest control has.
const ALLOWED: usize = 3;

fn file(name: &str, scale: f32) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/editor");
    folder.join(format!("{name}@{scale}x.png"))
}

fn check(name: &str, mut stage: Stage) {
    let picture = stage.photograph();
    let path = file(name, stage.scale);
    if std::env::var_os("UNCOOK_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        picture.write(&path);
        return;
    }
    let stored = Picture::read(&path).unwrap_or_else(|| panic!("{} can't be read", path.display()));
    let differences = picture.differences(&stored, stage.scale);
    if differences.is_none_or(|count| count > ALLOWED) {
        let actual = std::env::temp_dir().join(format!("uncook-{name}@{}x.png", stage.scale));
        picture.write(&actual);
        panic!("{differences:?} squares differ: see {}", actual.display());
    }
}

#[test]
fn empty() {
    for scale in [1.0, 2.0] {
        check(
            "empty",
            Stage::sized(View::default(), vec2(1120.0, 800.0), scale),
        );
    }
}

#[test]
fn capturing() {
    for scale in [1.0, 2.0] {
        check(
            "capturing",
            Stage::sized(views().0.clone(), vec2(1120.0, 800.0), scale),
        );
    }
}

#[test]
fn while_analysing() {
    for scale in [1.0, 2.0] {
        check(
            "analysing",
            Stage::sized(analysing(), vec2(1120.0, 800.0), scale),
        );
    }
}

#[test]
fn repaired() {
    for scale in [1.0, 2.0] {
        check(
            "repaired",
            Stage::sized(views().1.clone(), vec2(1120.0, 800.0), scale),
        );
    }
}

#[test]
fn light_spectrogram_and_smallest_window() {
    let mut stage = Stage::new(views().1.clone());
    stage.button("Light colours");
    stage.desk().state.wave = WaveMode::Spectrogram;
    check("light", stage);
    check(
        "smallest",
        Stage::sized(views().1.clone(), MIN_SIZE.into(), 1.0),
    );
}

#[test]
fn quality_and_missing_files() {
    for (spectrum, name) in [(false, "quality"), (true, "spectrum")] {
        let mut stage = Stage::new(views().1.clone());
        stage.desk().state.tab = Tab::Quality;
        stage.desk().state.spectrum = spectrum;
        if !spectrum {
            let file = "some.uncookpatch".to_owned();
            stage.desk().view.missing = vec![file];
        }
        check(name, stage);
    }
}

#[test]
fn music_and_models() {
    for (tab, name) in [(Tab::Music, "music"), (Tab::Models, "models")] {
        let mut stage = Stage::new(views().1.clone());
        stage.desk().state.tab = tab;
        stage.desk().shelf = Some(super::models::shelf());
        check(name, stage);
    }
}

/// At the size that a window opens with, the music is there to be edited.
#[test]
fn the_lanes_are_shown_at_the_default_size() {
    let stage = Stage::sized(views().1.clone(), DEFAULT_EDITOR_SIZE.into(), 1.0);
    let lanes = stage.rect(Role::Canvas, "Music");
    assert!(lanes.height() > 80.0);
    assert!(stage.rect(Role::Canvas, "Timeline").contains_rect(lanes));
}

/// In the smallest window every knob of the lowest row is whole, with its value, and so are the stems' rows.
#[test]
fn the_smallest_window_cuts_nothing() {
    for view in [View::default(), views().1.clone()] {
        let stage = Stage::sized(view, MIN_SIZE.into(), 1.0);
        let window = Rect::from_min_size(egui::Pos2::ZERO, MIN_SIZE.into());
        for name in ["Repair", "Mix", "Gain", "Ceiling"] {
            for (role, name) in [
                (Role::Slider, name.to_owned()),
                (Role::Button, format!("{name} value")),
            ] {
                let rect = stage.rect(role, &name);
                assert!(window.contains_rect(rect), "{name}: {rect:?}");
            }
        }
        let edge = stage.rect(Role::Button, "Analyse").right();
        for name in ["Drums blend value", "Bass blend value"] {
            let rect = stage.rect(Role::Button, name);
            assert!(rect.right() <= edge, "{name}: {rect:?}");
        }
    }
}

/// A texture belongs to one window: the next one, with the same memory, has to make its own.
#[test]
fn a_new_window_makes_its_own_spectrogram() {
    let mut first = Stage::new(views().1.clone());
    first.desk().state.wave = WaveMode::Spectrogram;
    let picture = first.photograph();
    let mut state = std::mem::take(&mut first.desk().state);
    state.new_window();
    let mut second = Stage::new(views().1.clone());
    second.desk().state = state;
    let again = second.photograph();
    assert_eq!(again.differences(&picture, 1.0), Some(0));
}

/// The comparison is worth something: any control less, and it fails.
#[test]
fn a_missing_control_is_noticed() {
    for scale in [1.0, 2.0] {
        let mut stage = Stage::sized(views().1.clone(), vec2(1120.0, 800.0), scale);
        let whole = stage.photograph();
        assert_eq!(whole.differences(&whole, scale), Some(0));
        for (role, name) in [
            (Role::Button, "Save preset"),
            (Role::Button, "Drums solo"),
            (Role::Slider, "Mix"),
            (Role::Slider, "Bass blend"),
            (Role::Button, "Regenerate bass"),
        ] {
            let rect: Rect = stage.rect(role, name);
            let mut without = whole.clone();
            without.erase(rect.expand(1.0), scale, theme::DARK.panel);
            let count = without.differences(&whole, scale).unwrap();
            assert!(count > ALLOWED, "{name}: {count}");
        }
        let other = Picture {
            width: 1,
            height: 1,
            pixels: vec![[0; 3]],
        };
        assert_eq!(whole.differences(&other, scale), None);
    }
}

/// Where the hands of `cargo xtask screenshots` look for the controls.
#[test]
fn controls_are_where_the_screenshots_click() {
    let mut stage = Stage::new(views().1.clone());
    let mut places = serde_json::Map::new();
    let mut note = |stage: &Stage, role: Role, name: &str| {
        let r = stage.rect(role, name);
        let sides = [r.left(), r.top(), r.right(), r.bottom()].map(f32::round);
        places.insert(name.to_owned(), serde_json::json!(sides));
    };
    for name in [
        "Analyse",
        "Spectrogram",
        "Overlaid",
        "Light colours",
        "Save preset",
    ] {
        note(&stage, Role::Button, name);
    }
    for name in [
        "Stems",
        "Live repair",
        "Analysis",
        "Music",
        "Models",
        "Quality",
    ] {
        note(&stage, Role::Tab, name);
    }
    note(&stage, Role::Slider, "Bass blend");
    stage.click(Role::Tab, "Analysis");
    note(&stage, Role::TextInput, "Style");
    stage.click(Role::Tab, "Quality");
    note(&stage, Role::Button, "Spectrum");
    // Where they see how far an analysis is.
    let running = Stage::new(analysing());
    let r = running.rect(Role::ProgressIndicator, "Analysis");
    let sides = [r.left(), r.top(), r.right(), r.bottom()].map(f32::round);
    places.insert("Analysis progress".to_owned(), serde_json::json!(sides));
    let text = serde_json::to_string_pretty(&places).unwrap() + "\n";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/editor/places.json");
    if std::env::var_os("UNCOOK_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        return;
    }
    let stored = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        stored.replace("\r\n", "\n"),
        text,
        "a control has moved: bless {}",
        path.display()
    );
}
