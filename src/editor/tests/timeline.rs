// [main] Hands on the timeline: selection, zoom, pan, reasons, and how large the wave is.

use std::sync::Arc;

use egui::{Event, Key, Modifiers, MouseWheelUnit, PointerButton, accesskit::Role, pos2, vec2};
use egui_kittest::kittest::Queryable;

use super::stage::{RATE, Stage, views};
use crate::{
    damage::{DamageKind, Severity, Stem},
    editor::{
        model::Command,
        scale::{GUTTER, MARGIN},
        state::WaveMode,
    },
    exchange::SamplePos,
    worker::{
        session::Regenerate,
        view::{Findings, View},
    },
};

fn repaired() -> View {
    views().1.clone()
}

#[test]
fn a_span_is_selected_and_regenerated_by_hand() {
    let mut stage = Stage::new(repaired());
    let rect = stage.rect(Role::Canvas, "Timeline");
    let x = |share: f32| rect.left() + GUTTER + share * (rect.width() - GUTTER - MARGIN);
    let y = rect.top() + 40.0;
    stage.drag(
        pos2(x(0.3), y),
        pos2(x(0.6), y),
        PointerButton::Primary,
        Modifiers::NONE,
    );
    let (start, end) = stage.desk().state.selection.unwrap();
    let seconds = |pos: SamplePos| pos.0 as f64 / f64::from(RATE);
    assert!((seconds(start) - 3.0).abs() < 0.05, "{start:?}");
    assert!((seconds(end) - 6.0).abs() < 0.05, "{end:?}");
    stage.click(Role::ComboBox, "Selected stem");
    stage.button("Drums");
    let [Command::Regenerate(asked)] = stage.button("Regenerate selection")[..] else {
        panic!()
    };
    let seed = asked.seed;
    assert_eq!(
        asked,
        Regenerate {
            stem: Stem::Drums,
            start,
            end,
            seed
        }
    );
    // The stem's own button takes the selection too.
    let [Command::Regenerate(asked)] = stage.button("Regenerate bass")[..] else {
        panic!()
    };
    assert_eq!((asked.start, asked.end), (start, end));
    stage.button("Zoom");
    let shown = stage.desk().state.viewport.unwrap();
    assert!(shown.start < 3.0 && shown.start > 2.5 && shown.seconds < 3.6);
    // What was rebuilt can be refused there; the plan then has a line for it.
    assert_eq!(stage.button("Refuse selection").len(), 1);
    let percent = |stage: &mut Stage, second: f64| {
        let pos = SamplePos((second * f64::from(RATE)) as i64);
        stage.desk().view.edits.percent_at(Stem::Drums, pos)
    };
    assert_eq!(
        [2.9, 4.5, 6.1].map(|t| percent(&mut stage, t)),
        [100, 0, 100]
    );
    assert!(stage.shows("Keep recorded drums"));
    stage.button("Accept selection");
    assert_eq!(percent(&mut stage, 4.5), 100);
    stage.button("Undo");
    assert_eq!(percent(&mut stage, 4.5), 0);
    stage.button("Undo");
    assert!(!stage.shows("Keep recorded"));
    // A click elsewhere forgets the selection.
    stage
        .harness
        .get_by_role_and_label(Role::Canvas, "Timeline")
        .click();
    stage.asked();
    assert_eq!(stage.desk().state.selection, None);
}

#[test]
fn wheel_drags_and_keys_move_the_timeline() {
    let mut stage = Stage::new(repaired());
    let rect = stage.rect(Role::Canvas, "Timeline");
    let at = pos2(rect.left() + 0.7 * rect.width(), rect.top() + 40.0);
    stage.event(Event::PointerMoved(at));
    let wheel = |delta| Event::MouseWheel {
        unit: MouseWheelUnit::Line,
        delta,
        phase: egui::TouchPhase::Move,
        source: egui::MouseWheelSource::Unknown,
        modifiers: Modifiers::NONE,
    };
    stage.event(wheel(vec2(0.0, 4.0)));
    stage.harness.run_steps(20);
    let zoomed = stage.desk().state.viewport.expect("zoomed in");
    assert!(zoomed.seconds < 8.0);
    // The second under the pointer stays under it.
    let share = f64::from((at.x - rect.left() - GUTTER) / (rect.width() - GUTTER - MARGIN));
    assert!((zoomed.start + share * zoomed.seconds - share * 10.0).abs() < 0.02);
    // The middle button pans.
    stage.drag(
        at,
        at - vec2(100.0, 0.0),
        PointerButton::Middle,
        Modifiers::NONE,
    );
    let panned = stage.desk().state.viewport.unwrap();
    assert!(panned.start > zoomed.start && panned.seconds == zoomed.seconds);
    assert_eq!(stage.desk().state.selection, None);
    // Keys.
    stage
        .harness
        .get_by_role_and_label(Role::Canvas, "Timeline")
        .focus();
    stage.harness.run_steps(2);
    stage.key(Key::ArrowLeft, Modifiers::NONE);
    assert!(stage.desk().state.viewport.unwrap().start < panned.start);
    stage.key(Key::Plus, Modifiers::NONE);
    assert!(stage.desk().state.viewport.unwrap().seconds < panned.seconds);
    stage.key(Key::Home, Modifiers::NONE);
    assert_eq!(stage.desk().state.viewport, None);
    // With Shift a selection grows from the middle, and shrinks to nothing.
    stage.key(Key::ArrowRight, Modifiers::SHIFT);
    stage.key(Key::ArrowRight, Modifiers::SHIFT);
    let (start, end) = stage.desk().state.selection.unwrap();
    let seconds = |pos: SamplePos| pos.0 as f64 / f64::from(RATE);
    assert!((seconds(start) - 5.0).abs() < 0.01 && (seconds(end) - 5.4).abs() < 0.01);
    stage.key(Key::ArrowLeft, Modifiers::SHIFT);
    stage.key(Key::ArrowLeft, Modifiers::SHIFT);
    assert_eq!(stage.desk().state.selection, None);
    stage.button("Zoom in");
    assert!(stage.desk().state.viewport.is_some());
    stage.button("Zoom out");
    assert_eq!(stage.desk().state.viewport, None);
    stage.button("Zoom in");
    stage.button("Show all");
    assert_eq!(stage.desk().state.viewport, None);
    for (name, mode) in [
        ("Split", WaveMode::Split),
        ("Spectrogram", WaveMode::Spectrogram),
        ("Overlaid", WaveMode::Overlaid),
    ] {
        stage.button(name);
        assert_eq!(stage.desk().state.wave, mode);
    }
    stage.button("Music lanes");
    assert!(!stage.desk().state.lanes);
}

#[test]
fn pointing_at_damage_says_from_when_to_when_and_why() {
    let mut view = repaired();
    // The band hits its ceiling as a whole; that its bass was overdriven too is written here.
    let mut findings = Findings::clone(view.takes[0].findings.as_ref().unwrap());
    for frame in &mut findings.stems[Stem::Bass as usize].damage.frames[350..450] {
        *frame = Severity::default();
        frame[DamageKind::Saturation as usize] = 0.8;
    }
    view.takes[0].findings = Some(Arc::new(findings));
    let take = &view.takes[0];
    let span = crate::editor::timeline::Span::of(&view.takes, None).unwrap();
    let at = SamplePos(i64::from(RATE) * 4);
    let reasons = crate::editor::waveform::reasons(take, &span, at);
    let (_, text) = &reasons[0];
    // The band is overdriven from 3 to 6 s; the detector finds where its peaks are.
    assert!(text.contains("severity"), "{text}");
    let (from, _) = text.split_once('–').unwrap();
    assert!(
        ["0:02", "0:03", "0:04"].iter().any(|t| from.starts_with(t)),
        "{text}"
    );
    // The stems say theirs too.
    assert!(
        reasons
            .iter()
            .any(|(_, text)| text == "0:03.50–0:04.50 bass overdriven, severity 0.8"),
        "{reasons:?}"
    );
    let mut stage = Stage::new(view.clone());
    let rect = stage.rect(Role::Canvas, "Timeline");
    let x = rect.left() + GUTTER + 0.4 * (rect.width() - GUTTER - MARGIN);
    stage.event(Event::PointerMoved(pos2(x, rect.top() + 50.0)));
    stage.harness.run_steps(60);
    assert!(stage.shows(", severity "));
}

/// A quiet recording is seen as well as a loud one, and what is restored above full scale whole.
#[test]
fn the_wave_fills_its_lane_whatever_its_level() {
    use crate::worker::picture::Painter;
    let height = |amplitude: f32| {
        let mut view = views().0.clone();
        let sine: Vec<f32> = (0..10 * RATE)
            .map(|n| amplitude * (0.3 * n as f32).sin())
            .collect();
        view.takes[0].before = Painter::paint(&[&sine[..], &sine[..]], RATE);
        view.takes[0].damage = Default::default();
        let mut stage = Stage::new(view);
        stage.desk().state.lanes = false;
        let rect = stage.rect(Role::Canvas, "Timeline");
        let picture = stage.photograph();
        // In the column at a third of the timeline, from the top of the timeline to above its ruler.
        let x = (rect.left() + 0.33 * rect.width()) as usize;
        let rows = rect.top() as usize + 12..rect.bottom() as usize - 60;
        let bright = |y: &usize| picture.pixels[y * picture.width + x][2] > 70;
        (
            rows.clone().filter(bright).count() as f32 / rows.len() as f32,
            stage,
        )
    };
    let (loud, mut stage) = height(0.99);
    let named = |stage: &mut Stage, level: &str| stage.texts().iter().any(|text| text == level);
    assert!(named(&mut stage, "0 dB") && loud > 0.6, "{loud}");
    let (quiet, mut stage) = height(0.12);
    assert!(named(&mut stage, "-18 dB") && !named(&mut stage, "0 dB"));
    assert!(quiet > 0.6, "{quiet}");
    let (silent, _) = height(1e-4);
    assert!(silent < 0.1, "silence looks like {silent}");
}
