// [main] Hands that use every control by its accessible name, and what then is asked for.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use egui::{Event, Key, Modifiers, PointerButton, accesskit::Role, pos2, vec2};
use egui_kittest::kittest::{NodeT, Queryable};
use nice_plug::prelude::{Param, ParamPtr};

use super::stage::{RATE, Stage, analysing, views};
use crate::{
    damage::Stem,
    editor::{
        model::{Command, Gesture, Levels, SILENCE_DB},
        state::Tab,
    },
    exchange::{
        SamplePos,
        meters::{Meters, PlayerState},
    },
    params::UncookParams,
    worker::{
        options::{CaptureMode, RegeneratorChoice, Regenerators},
        session::Listening,
        view::{AheadView, Findings, ModelView, Rebuild, TakeState, TakeView, View},
    },
};

fn repaired() -> View {
    views().1.clone()
}

/// The values of the only gesture among `commands`: one parameter, begun once and ended once.
fn one_gesture(commands: &[Command], ptr: ParamPtr) -> Vec<f32> {
    let (first, rest) = commands.split_first().expect("a gesture");
    let (last, middle) = rest.split_last().expect("an ended gesture");
    assert_eq!(*first, Command::Gesture(Gesture::Begin(ptr)));
    assert_eq!(*last, Command::Gesture(Gesture::End(ptr)));
    (middle.iter())
        .map(|command| match command {
            Command::Gesture(Gesture::Set(set, value)) if *set == ptr => *value,
            other => panic!("{other:?} inside a gesture: {commands:?}"),
        })
        .collect()
}

/// Where each slider and knob is: its tab, its name, its parameter.
pub fn dials(p: &UncookParams) -> Vec<(Tab, &'static str, ParamPtr)> {
    vec![
        (Tab::Stems, "Drums blend", p.stems.drums.as_ptr()),
        (Tab::Stems, "Bass blend", p.stems.bass.as_ptr()),
        (Tab::Stems, "Other blend", p.stems.other.as_ptr()),
        (Tab::Stems, "Vocals blend", p.stems.vocals.as_ptr()),
        (Tab::Stems, "Blend", p.stems.master.as_ptr()),
        (Tab::Live, "Declip", p.live.declip.as_ptr()),
        (Tab::Live, "Declick", p.live.declick.as_ptr()),
        (Tab::Live, "Denoise", p.live.denoise.as_ptr()),
        (Tab::Live, "EQ match", p.live.eq_match.as_ptr()),
        (Tab::Live, "Bass", p.live.bass.as_ptr()),
        (Tab::Live, "Treble", p.live.treble.as_ptr()),
        (Tab::Live, "Early refl.", p.live.dereverb_early.as_ptr()),
        (Tab::Live, "Late reverb", p.live.dereverb_late.as_ptr()),
        (Tab::Analysis, "Seed", p.analysis.seed.as_ptr()),
        (Tab::Stems, "Repair", p.repair.as_ptr()),
        (Tab::Stems, "Mix", p.output.mix.as_ptr()),
        (Tab::Stems, "Gain", p.output.gain.as_ptr()),
        (Tab::Stems, "Ceiling", p.output.ceiling.as_ptr()),
    ]
}

#[test]
fn every_dial_can_be_dragged_set_and_typed() {
    let mut stage = Stage::sized(repaired(), vec2(1120.0, 1200.0), 1.0);
    let params = stage.desk().params.clone();
    for (tab, name, ptr) in dials(&params) {
        stage.desk().state.tab = tab;
        stage.harness.run_steps(3);
        // To the bottom by a screen reader, in the unit that is shown, so that there is room to drag.
        // SAFETY: the parameters live as long as the stage.
        let number = |share: f32| unsafe { ptr.normalized_value_to_string(share, false) };
        let number = |share: f32| number(share).parse::<f64>().unwrap();
        {
            let node = stage.harness.get_by_role_and_label(Role::Slider, name);
            let node = node.accesskit_node();
            let data = node.data();
            // SAFETY: as above.
            let now = unsafe { ptr.unmodulated_normalized_value() };
            assert_eq!(data.numeric_value(), Some(number(now)), "{name}");
            assert_eq!(data.min_numeric_value(), Some(number(0.0)), "{name}");
            assert_eq!(data.max_numeric_value(), Some(number(1.0)), "{name}");
            let unit = if name == "Seed" { "" } else { " %" };
            let unit = match name {
                "Gain" => " dB",
                "Ceiling" => " dBTP",
                _ => unit,
            };
            let said = data.description().unwrap_or_default();
            assert!(said.ends_with(unit), "{name} is {said}");
        }
        stage
            .harness
            .get_by_role_and_label(Role::Slider, name)
            .set_value_accesskit(number(0.1));
        let set = stage.asked();
        if !set.is_empty() {
            let values = one_gesture(&set, ptr);
            assert!((values[0] - 0.1).abs() < 1e-3, "{name}: {values:?}");
        }
        stage
            .harness
            .get_by_role_and_label(Role::Slider, name)
            .increment_accesskit();
        assert!(one_gesture(&stage.asked(), ptr)[0] > 0.1, "{name}");

        let from = stage.rect(Role::Slider, name).center();
        stage.drag(
            from,
            from + vec2(40.0, -30.0),
            PointerButton::Primary,
            Modifiers::NONE,
        );
        let values = one_gesture(&stage.asked(), ptr);
        assert!(values.len() >= 4, "{name}: {values:?}");
        assert!(values.windows(2).all(|w| w[0] < w[1]), "{name}: {values:?}");
        assert!(values.iter().all(|v| (0.0..=1.0).contains(v)));
        let coarse = values[values.len() - 1] - values[0];

        // Shift is fine.
        let from = stage.rect(Role::Slider, name).center();
        stage.drag(
            from,
            from - vec2(40.0, -30.0),
            PointerButton::Primary,
            Modifiers::SHIFT,
        );
        let values = one_gesture(&stage.asked(), ptr);
        let fine = values[0] - values[values.len() - 1];
        assert!(
            fine > 0.0 && fine < 0.4 * coarse,
            "{name}: {fine} of {coarse}"
        );

        // Two quick clicks bring back what the plugin begins with.
        let asked = stage.double_click(Role::Slider, name);
        let values: Vec<f32> = asked
            .split_inclusive(|c| matches!(c, Command::Gesture(Gesture::End(_))))
            .flat_map(|gesture| one_gesture(gesture, ptr))
            .collect();
        // SAFETY: the parameters live as long as the stage.
        let default = unsafe { ptr.default_normalized_value() };
        assert_eq!(values.last(), Some(&default), "{name}");

        // A value can be typed, with its unit or without.
        let value = format!("{name} value");
        assert_eq!(stage.click(Role::Button, &value), []);
        stage.event(Event::Text("-3".to_owned()));
        let text = if name == "Gain" || name == "Ceiling" {
            ""
        } else {
            "7"
        };
        if !text.is_empty() {
            stage.key(Key::Backspace, Modifiers::NONE);
            stage.key(Key::Backspace, Modifiers::NONE);
            stage.event(Event::Text("7".to_owned()));
        }
        stage.key(Key::Enter, Modifiers::NONE);
        let asked = stage.asked();
        let values = one_gesture(&asked, ptr);
        // SAFETY: as above.
        let shown = unsafe { ptr.normalized_value_to_string(values[0], false) };
        let expected = if text.is_empty() { -3.0 } else { 7.0 };
        assert!(
            (shown.parse::<f32>().unwrap() - expected).abs() < 0.01,
            "{name}: {shown}"
        );
        stage.harness.run_steps(3);
    }
}

#[test]
fn keys_turn_what_has_the_focus() {
    let mut stage = Stage::new(View::default());
    let ptr = stage.desk().params.output.mix.as_ptr();
    stage
        .harness
        .get_by_role_and_label(Role::Slider, "Mix")
        .focus();
    assert_eq!(stage.asked(), []);
    stage.key(Key::ArrowDown, Modifiers::NONE);
    let coarse = one_gesture(&stage.asked(), ptr)[0];
    assert!((coarse - 0.95).abs() < 1e-4, "{coarse}");
    stage.key(Key::ArrowLeft, Modifiers::SHIFT);
    let fine = one_gesture(&stage.asked(), ptr)[0];
    assert!((coarse - fine - 0.01).abs() < 1e-4, "{fine}");
    stage.key(Key::Home, Modifiers::NONE);
    assert_eq!(one_gesture(&stage.asked(), ptr), [0.0]);
    stage.key(Key::Delete, Modifiers::NONE);
    assert_eq!(one_gesture(&stage.asked(), ptr), [1.0]);
    // Tab goes on to the next control.
    stage.key(Key::Tab, Modifiers::NONE);
    let mix = stage.harness.get_by_role_and_label(Role::Slider, "Mix");
    assert!(!mix.is_focused());
}

#[test]
fn switches_are_whole_gestures() {
    let mut stage = Stage::new(View::default());
    let p = stage.desk().params.clone();
    for (name, ptr, on) in [
        ("Bypass", p.bypass.as_ptr(), 1.0),
        ("Delta", p.listen.delta.as_ptr(), 1.0),
        ("A/B", p.listen.compare.as_ptr(), 1.0),
        ("Limiter", p.output.limiter.as_ptr(), 0.0),
    ] {
        assert_eq!(one_gesture(&stage.button(name), ptr), [on], "{name}");
        assert_eq!(one_gesture(&stage.button(name), ptr), [1.0 - on], "{name}");
    }
}

#[test]
fn choices_are_whole_gestures() {
    let mut stage = Stage::new(repaired());
    stage.click(Role::Tab, "Analysis");
    let p = stage.desk().params.clone();
    let said = |stage: &Stage, name: &str| {
        let list = stage.harness.get_by_role_and_label(Role::ComboBox, name);
        list.accesskit_node()
            .data()
            .description()
            .map(str::to_owned)
    };
    for (name, option, ptr) in [
        ("Capture mode", "Manual", p.analysis.capture.as_ptr()),
        ("Quality", "Draft", p.analysis.quality.as_ptr()),
        ("Separator", "Learned", p.analysis.separator.as_ptr()),
        (
            "Drums regenerator",
            "JASCO",
            p.analysis.drums_regenerator.as_ptr(),
        ),
        (
            "Bass regenerator",
            "Off",
            p.analysis.bass_regenerator.as_ptr(),
        ),
    ] {
        assert_eq!(stage.click(Role::ComboBox, name), []);
        let values = one_gesture(&stage.button(option), ptr);
        assert_eq!(values.len(), 1, "{name}");
        // What is chosen is said, too.
        let words = said(&stage, name).unwrap_or_default();
        assert!(words.starts_with(&format!("{option}. ")), "{name}: {words}");
    }
    assert!(said(&stage, "Preset").is_some_and(|words| words.starts_with("Default. ")));
    assert_eq!(p.analysis.capture.value(), CaptureMode::Manual);
}

#[test]
fn a_models_terms_are_shown_and_asked_once() {
    let mut view = repaired();
    let found = ModelView {
        missing: Vec::new(),
        terms: vec!["jasco: no commercial use (its page)".to_owned()],
        accepted: false,
    };
    view.model = Some(Arc::new(found.clone()));
    let mut stage = Stage::new(view);
    stage.click(Role::Tab, "Analysis");
    assert!(stage.shows("no commercial use"));
    assert!(stage.shows("until its terms are accepted"));
    assert_eq!(stage.button("Accept these terms"), [Command::AcceptTerms]);
    stage.desk().view.model = Some(Arc::new(ModelView {
        accepted: true,
        ..found.clone()
    }));
    assert!(stage.shows("no commercial use") && !stage.shows("Accept these terms"));
    // What is missing is said before a job, with the cure.
    stage.desk().view.model = Some(Arc::new(ModelView {
        missing: vec!["jasco".to_owned()],
        ..found
    }));
    assert!(stage.shows("without the model until you fetch jasco under Models."));
}

#[test]
fn the_one_button_is_what_comes_next() {
    // Capture is off: switch it on.
    let mut stage = Stage::new(View::default());
    let p = stage.desk().params.clone();
    let off = p.analysis.capture.preview_normalized(CaptureMode::Off);
    // SAFETY: the parameter lives.
    unsafe {
        p.analysis
            .capture
            .as_ptr()
            ._internal_set_normalized_value(off)
    };
    stage.harness.run_steps(2);
    one_gesture(&stage.button("Capture"), p.analysis.capture.as_ptr());
    assert_eq!(p.analysis.capture.value(), CaptureMode::Automatic);
    // Nothing captured: nothing to analyse.
    assert_eq!(stage.button("Analyse"), []);

    let mut captured = views().0.clone();
    captured.takes[0].state = TakeState::Captured;
    let mut stage = Stage::new(captured);
    assert_eq!(stage.button("Analyse"), [Command::Analyse]);
    assert_eq!(stage.button("Clear"), [Command::Clear]);

    let mut stage = Stage::new(analysing());
    assert!(stage.shows("Separating the instruments – 42 %, about 35 s left"));
    assert_eq!(stage.button("Cancel"), [Command::Cancel]);
}

/// From inserting the plugin to the bounce: capture is automatic, so nothing has to be clicked; who works
/// by hand clicks once.
#[test]
fn a_first_time_user_needs_at_most_three_clicks() {
    let mut stage = Stage::new(View::default());
    assert_eq!(
        stage.desk().params.analysis.capture.value(),
        CaptureMode::Automatic
    );
    // The song was played: the worker analyses by itself when it stops. Meanwhile and afterwards:
    stage.desk().view = analysing();
    stage.harness.run_steps(2);
    stage.desk().view = repaired();
    assert_eq!(stage.asked(), [], "nothing was clicked");
    assert!(
        stage.desk().view.takes[0]
            .findings
            .as_ref()
            .unwrap()
            .stems
            .iter()
            .any(|s| s.rebuilt)
    );
    // Everything proposed is accepted already.
    assert!(stage.desk().view.edits.decisions.is_empty());
    // By hand: one click on Analyse.
    let mut captured = views().0.clone();
    captured.takes[0].state = TakeState::Captured;
    let mut stage = Stage::new(captured);
    let clicks = [stage.button("Analyse")];
    assert_eq!(clicks.concat(), [Command::Analyse]);
    assert!(clicks.len() <= 3);
}

#[test]
fn each_line_of_the_plan_can_be_refused_adjusted_and_undone() {
    let mut stage = Stage::sized(repaired(), vec2(1120.0, 1600.0), 1.0);
    let take = stage.desk().view.takes[0].clone();
    let plan = crate::editor::plan::Plan::new(&take, take.findings.as_ref().unwrap());
    assert!(!plan.spans.is_empty(), "nothing was rebuilt");
    let span = plan.spans[0].clone();
    let name = format!("{} {}", span.stem.name(), span.place());
    let at = |stage: &mut Stage| stage.desk().view.edits.percent_at(span.stem, span.start);

    assert_eq!(
        stage.click(Role::CheckBox, &format!("Accept {name}")).len(),
        1
    );
    assert_eq!(at(&mut stage), 0);
    assert_eq!(
        stage.click(Role::CheckBox, &format!("Accept {name}")).len(),
        1
    );
    assert_eq!(at(&mut stage), 100);
    let slider = stage.rect(Role::Slider, &format!("Amount of {name}"));
    stage.drag(
        slider.center(),
        slider.left_center(),
        PointerButton::Primary,
        Modifiers::NONE,
    );
    assert!(at(&mut stage) < 40);
    stage.asked();
    stage.button("Undo");
    assert_eq!(at(&mut stage), 100);
    stage.button("Undo");
    assert_eq!(at(&mut stage), 0);
    stage.button("Redo");
    assert_eq!(at(&mut stage), 100);
    // By keys too.
    stage.key(Key::Z, Modifiers::COMMAND);
    assert_eq!(at(&mut stage), 0);

    stage.button("Refuse all");
    let refused = |stage: &mut Stage, percent| {
        let edits = stage.desk().view.edits.clone();
        plan.spans
            .iter()
            .all(|s| edits.percent_at(s.stem, s.start) == percent)
    };
    assert!(refused(&mut stage, 0));
    stage.button("Accept all");
    assert!(refused(&mut stage, 100));

    // A live stage of the plan is a parameter: refused is 0, accepted again by severity.
    let declip = stage.desk().params.live.declip.as_ptr();
    let boxes = ["Declip (clipped)", "Declip (overdriven)"];
    let line = boxes
        .into_iter()
        .find(|n| stage.has(Role::CheckBox, &format!("Accept {n}")));
    let line = format!("Accept {}", line.expect("the band is clipped"));
    assert_eq!(
        one_gesture(&stage.click(Role::CheckBox, &line), declip),
        [0.0]
    );
    let back = one_gesture(&stage.click(Role::CheckBox, &line), declip);
    assert!(back[0] >= 0.5);
}

#[test]
fn stems_are_listened_to_regenerated_and_chosen() {
    let mut stage = Stage::sized(repaired(), vec2(1120.0, 1200.0), 1.0);
    assert!(stage.desk().view.takes[0].stems_at_hand);
    for (i, name) in ["Drums", "Bass", "Other", "Vocals"].into_iter().enumerate() {
        let flag: [bool; Stem::COUNT] = std::array::from_fn(|k| k == i);
        let plain = Listening::default();
        for (what, on) in [
            (
                "solo",
                Listening {
                    solo: flag,
                    ..plain
                },
            ),
            (
                "mute",
                Listening {
                    mute: flag,
                    ..plain
                },
            ),
            (
                "delta",
                Listening {
                    delta: flag,
                    ..plain
                },
            ),
        ] {
            let name = format!("{name} {what}");
            assert_eq!(stage.button(&name), [Command::Listen(on)], "{name}");
            assert!(stage.shows("and so would a bounce"));
            assert_eq!(stage.button(&name), [Command::Listen(plain)], "{name}");
        }
    }
    let take = stage.desk().view.takes[0].clone();
    let end = SamplePos(take.frames as i64);
    let [Command::Regenerate(asked)] = stage.button("Regenerate bass")[..] else {
        panic!()
    };
    assert_eq!(
        (asked.stem, asked.start, asked.end),
        (Stem::Bass, SamplePos(0), end)
    );
    assert_ne!(
        asked.seed, take.rebuilds[0].seed,
        "another take needs another seed"
    );
    assert_eq!(
        stage.button("Regenerate vocals"),
        [],
        "nobody rebuilds vocals"
    );

    // Two takes: the older one can be chosen, and undone.
    let old = Rebuild {
        hash: "aa".to_owned(),
        seed: 77,
        stems: [true; Stem::COUNT],
        ..Rebuild::default()
    };
    stage.desk().view.takes[0].rebuilds.insert(0, old);
    stage.harness.run_steps(2);
    stage.click(Role::ComboBox, "Drums take");
    stage.button("Take 1 · seed 77");
    let edits = stage.desk().view.edits.clone();
    assert_eq!(edits.picked(Stem::Drums, SamplePos(0)), Some("aa"));
    assert_eq!(edits.picked(Stem::Bass, SamplePos(0)), None);
    stage.button("Undo");
    let picked = |stage: &mut Stage| {
        let edits = stage.desk().view.edits.clone();
        edits.picked(Stem::Drums, SamplePos(0)).map(str::to_owned)
    };
    assert_eq!(picked(&mut stage), None);
    // Back and forth between two takes by one button.
    for heard in [Some("aa"), None, Some("aa")] {
        stage.button("Compare drums takes");
        assert_eq!(picked(&mut stage).as_deref(), heard);
    }
}

#[test]
fn quality_is_measured_and_copied() {
    let mut stage = Stage::sized(repaired(), vec2(1120.0, 1200.0), 1.0);
    stage.click(Role::Tab, "Quality");
    for text in [
        "Loudness",
        "LUFS",
        "True peak",
        "dBTP",
        "Spectral centroid",
        "Artefacts",
    ] {
        assert!(stage.shows(text), "{text}");
    }
    let [Command::Copy(text)] = &stage.button("Copy as text")[..] else {
        panic!("nothing was copied");
    };
    assert!(text.starts_with("\tbefore\tafter\tchange\nSignal to noise\t"));
}

#[test]
fn the_status_says_what_to_do_next() {
    let mut stage = Stage::new(View::default());
    assert!(stage.shows("Play the song once to capture it."));
    stage.desk().view.takes.push(TakeView::default());
    assert!(stage.shows("Stop playback to start the analysis."));
    stage.desk().view.ahead = Some(AheadView {
        running: true,
        seconds: 90.0,
    });
    assert!(stage.shows("Stop playback to finish the analysis; the first 1:30 are nearly done."));
    stage.desk().levels.position = None;
    assert!(stage.shows("no song position"));
    stage.desk().levels.player = PlayerState::OutOfDate;
    assert!(stage.shows("Out of date"));
    stage.desk().levels.player = PlayerState::Patch;
    assert!(stage.shows("Playing rebuilt audio."));
    // Analysed, with nothing rebuilt, and with the transport elsewhere.
    stage.desk().view = repaired();
    let found = stage.desk().view.takes[0].findings.clone().unwrap();
    let mut restored = Findings::clone(&found);
    restored
        .stems
        .iter_mut()
        .for_each(|stem| stem.rebuilt = false);
    stage.desk().view.takes[0].findings = Some(Arc::new(restored));
    assert!(stage.shows("Playing the repaired recording. No stem was rebuilt here;"));
    stage.desk().levels.player = PlayerState::Live;
    stage.desk().levels.position = Some(SamplePos(0));
    assert!(stage.shows("What was repaired here is heard as soon as the song plays."));
    stage.desk().levels.position = Some(SamplePos(i64::from(RATE) * 60));
    assert!(stage.shows("Nothing was repaired at this place"));
    stage.desk().levels.running = false;
    assert!(stage.shows("Start playback"));
    let problem = "x.patch is missing: play the song once";
    stage.desk().view.problems.push(problem.to_owned().into());
    assert!(stage.shows(problem));
}

/// Every control has a name, and no two of a kind share one.
#[test]
fn every_control_has_a_name_of_its_own() {
    let mut stage = Stage::new(repaired());
    for tab in Tab::ALL {
        stage.desk().state.tab = tab;
        stage.harness.run_steps(3);
        for role in [
            Role::Slider,
            Role::Button,
            Role::CheckBox,
            Role::ComboBox,
            Role::TextInput,
        ] {
            let mut names = Vec::new();
            for node in stage
                .harness
                .query_all(egui_kittest::kittest::By::new().role(role))
            {
                let name = egui_kittest::kittest::NodeT::accesskit_node(&node).label();
                let name = name.unwrap_or_default();
                assert!(
                    !name.trim().is_empty(),
                    "a {role:?} without a name on {tab:?}"
                );
                names.push(name);
            }
            let all = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), all, "{role:?} on {tab:?}: {names:?}");
        }
    }
}

#[test]
fn any_size_and_any_view_can_be_drawn() {
    let odd = View {
        takes: vec![
            TakeView {
                start: SamplePos(i64::MIN / 4),
                frames: 1,
                ..TakeView::default()
            },
            TakeView {
                start: SamplePos(-5),
                frames: u64::MAX,
                sample_rate: 1,
                before: views().0.takes[0].before.clone(),
                damage: views().0.takes[0].damage.clone(),
                ..TakeView::default()
            },
        ],
        overruns: u64::MAX,
        ..View::default()
    };
    for view in [View::default(), repaired(), odd] {
        for size in [vec2(760.0, 580.0), vec2(60.0, 40.0), vec2(4000.0, 90.0)] {
            let mut stage = Stage::sized(view.clone(), size, 1.0);
            for tab in Tab::ALL {
                stage.desk().state.tab = tab;
                for position in [
                    None,
                    Some(SamplePos(i64::MAX)),
                    Some(SamplePos(i64::MIN + 1)),
                ] {
                    stage.desk().levels.position = position;
                    stage.event(Event::PointerMoved(pos2(size.x / 2.0, size.y / 3.0)));
                }
            }
        }
    }
}

#[test]
fn meters_rise_at_once_and_fall_slowly() {
    let meters = Meters::default();
    let mut levels = Levels::default();
    meters.output_peak.store(0.5, Relaxed);
    meters.processed.store(1, Relaxed);
    levels.read(&meters, 0.03);
    assert!((levels.output_db + 6.02).abs() < 0.01);
    assert!(levels.running);
    levels.read(&meters, 0.5);
    assert!(
        (levels.output_db + 18.02).abs() < 0.01,
        "12 dB in half a second"
    );
    levels.read(&meters, 10.0);
    assert_eq!(levels.output_db, SILENCE_DB);
    assert!(!levels.running, "no block for ten seconds");
}

/// The DAW's key: only a text that is typed takes it.
#[test]
fn the_space_bar_presses_nothing_and_is_typed_in_a_text() {
    let mut captured = views().0.clone();
    captured.takes[0].state = TakeState::Captured;
    let mut stage = Stage::new(captured);
    stage.desk().state.selection = Some((SamplePos(0), SamplePos(9_000)));
    for (role, name) in [(Role::Canvas, "Timeline"), (Role::Button, "Analyse")] {
        stage.harness.get_by_role_and_label(role, name).focus();
        stage.harness.run_steps(2);
        stage.key(Key::Space, Modifiers::NONE);
        assert_eq!(stage.asked(), [], "{name}");
        assert!(stage.desk().state.selection.is_some(), "{name}");
    }
    // Return does what the space bar doesn't.
    stage.key(Key::Enter, Modifiers::NONE);
    assert_eq!(stage.asked(), [Command::Analyse]);
    stage.click(Role::Tab, "Analysis");
    stage.click(Role::TextInput, "Style");
    for text in ["warm", " ", "bass"] {
        if text == " " {
            stage.key(Key::Space, Modifiers::NONE);
        }
        stage.event(Event::Text(text.to_owned()));
    }
    stage.key(Key::Enter, Modifiers::NONE);
    assert_eq!(stage.asked(), [Command::SetStyle("warm bass".to_owned())]);
}

/// Who rebuilds is chosen in the stem's row, and a take says who made it.
#[test]
fn the_regenerator_is_chosen_in_each_row() {
    for width in [1120.0, 760.0] {
        let mut stage = Stage::sized(repaired(), vec2(width, 1200.0), 1.0);
        let p = stage.desk().params.clone();
        let a = &p.analysis;
        for (name, option, param) in [
            ("Drums regenerator", "Everywhere", &a.drums_regenerator),
            ("Bass regenerator", "JASCO", &a.bass_regenerator),
        ] {
            assert_eq!(stage.click(Role::ComboBox, name), []);
            let asked = stage.button(option);
            assert_eq!(one_gesture(&asked, param.as_ptr()).len(), 1, "{name}");
        }
        let chosen = Regenerators {
            drums: RegeneratorChoice::Everywhere,
            bass: RegeneratorChoice::Jasco,
        };
        assert_eq!(p.options().regenerators, chosen);
        // Nobody rebuilds the voice, and its row says so where there is room.
        assert_eq!(stage.shows("only restored"), width > 1000.0);
    }
    let [drums, bass, ..] = repaired().takes[0].rebuilds[0].regenerators;
    assert_eq!([drums, bass], [RegeneratorChoice::Everywhere; 2]);
    // Nobody can't rebuild: the button says what to do.
    let mut stage = Stage::new(repaired());
    stage.click(Role::ComboBox, "Bass regenerator");
    stage.button("Off");
    assert_eq!(stage.button("Regenerate bass"), []);
    let at = stage.rect(Role::Button, "Regenerate bass").center();
    stage.event(Event::PointerMoved(at + vec2(1.0, 0.0)));
    stage.harness.run_steps(60);
    assert!(stage.shows("Its regenerator is off: choose another in the stem's row"));
    let drums = stage.button("Regenerate drums");
    assert!(matches!(drums[..], [Command::Regenerate(_)]), "{drums:?}");
    // While a job runs its button says what to do.
    let mut stage = Stage::new(analysing());
    let at = stage.rect(Role::Button, "Regenerate drums").center();
    stage.event(Event::PointerMoved(at));
    stage.harness.run_steps(60);
    assert!(stage.shows("Wait for the running job, or cancel it first"));
}

#[test]
fn a_plan_that_is_not_there_yet_says_what_to_do() {
    let state = |state: TakeState| {
        let mut view = views().0.clone();
        view.takes[0].state = state;
        Stage::new(view)
    };
    assert!(state(TakeState::Capturing).shows("Stop playback, or press Analyse, for a proposed"));
    assert!(state(TakeState::Captured).shows("Captured. Press Analyse for a proposed repair."));
    let mut failed = state(TakeState::Failed);
    assert!(failed.shows("The analysis failed. Press Analyse to try again."));
    assert_eq!(failed.button("Analyse"), [Command::Analyse]);
}
