// [main] What the editor says: the verdict, the average spectra, and that files are missing.

use egui::{Event, accesskit::Role, vec2};

use super::stage::{Stage, views};
use crate::{
    editor::{files::Want, model::Command},
    worker::view::{Problem, View},
};

fn repaired() -> View {
    views().1.clone()
}

/// Which frequencies the repair has brought back is seen at a glance, with axes and units.
#[test]
fn average_spectra_are_drawn_with_units() {
    let mut stage = Stage::sized(repaired(), vec2(1120.0, 1200.0), 1.0);
    stage.click(Role::Tab, "Quality");
    stage.button("Spectrum");
    for text in ["Hz", "dB", "100", "1k", "10k", "recorded", "repaired"] {
        assert!(stage.texts().iter().any(|shown| shown == text), "{text}");
    }
    let rect = stage.rect(Role::Image, "Average spectrum before and after");
    stage.event(Event::PointerMoved(rect.center()));
    stage.harness.run_steps(4);
    assert!(stage.shows(" Hz\nrecorded -") || stage.shows(" kHz\nrecorded -"));
}

#[test]
fn the_verdict_says_what_is_wrong_in_plain_words() {
    let mut stage = Stage::new(View::default());
    assert!(stage.shows("Play the song to see what is wrong with it."));
    stage.desk().view = views().0.clone();
    let texts = stage.texts();
    assert!(
        texts
            .iter()
            .any(|t| t.starts_with("So far ") && t.ends_with(" of the time.")),
        "{texts:?}"
    );
    let mut stage = Stage::new(repaired());
    let wrongs = {
        let take = &repaired().takes[0];
        let findings = take.findings.as_ref().unwrap();
        crate::editor::plan::Plan::new(take, findings).wrongs
    };
    let first = &wrongs[0].words;
    assert!(first.contains(" % of the time, worst at 0:0"), "{first}");
    assert!(stage.shows(first), "{first}: {:?}", stage.texts());
    // On a small window whole sentences, never a part of one; all of it for a screen reader.
    let stage = Stage::sized(repaired(), vec2(760.0, 580.0), 1.0);
    let all: Vec<&str> = wrongs.iter().map(|w| w.words.as_str()).collect();
    assert!(stage.has(Role::Label, &all.join(" ")));
}

#[test]
fn missing_repair_files_are_said_and_sought() {
    let mut view = repaired();
    let file = format!("{}.uncookpatch", "ab".repeat(32));
    view.missing = vec![file.clone(), "other.uncookpatch".to_owned()];
    let gone = |file: &str| Problem {
        words: format!("{file} was not found in /some/where: relink it"),
        missing: Some(file.to_owned()),
    };
    view.problems = vec![
        gone(&file),
        // Found again meanwhile, or not of this project: nothing else says it.
        gone("elsewhere.uncookpatch"),
        "The disk is full".to_owned().into(),
    ];
    let mut stage = Stage::new(view);
    assert!(stage.shows("2 repair files are missing: the live repair plays there."));
    assert!(stage.shows("The disk is full") && stage.shows("elsewhere.uncookpatch was not found"));
    assert!(!stage.shows(&file), "its row says it already");
    let relink = Command::Choose(Want::RelinkFolder);
    assert_eq!(stage.button("Relink missing files"), [relink]);
    for (entry, want) in [
        ("Relink…", Want::RelinkFolder),
        ("Collect…", Want::CollectFolder),
    ] {
        assert_eq!(stage.button("Files"), []);
        assert_eq!(stage.button(entry), [Command::Choose(want)]);
    }
    // Where nothing is missing, nothing is said; where nothing is there, nothing is copied.
    let mut stage = Stage::new(View::default());
    assert!(!stage.shows("missing") && !stage.has(Role::Button, "Relink missing files"));
    stage.button("Files");
    assert_eq!(stage.button("Collect…"), []);
    stage.desk().state.told = Some("3 repair files in /some/where".to_owned());
    assert!(stage.shows("3 repair files in"));
    stage.button("Hide note");
    assert!(!stage.shows("3 repair files in"));
}
