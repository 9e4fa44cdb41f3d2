// [main] Every control there is: found in the accessible tree, pointed at, reached by keys, used, and what then happens.
//
// A control that has no name, no tooltip, no line in `effect` below, or that does nothing where it can be used,
// fails here.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use egui::{Event, Key, Modifiers, Order, Pos2, Rect, accesskit, accesskit::Role, vec2};
use egui_kittest::kittest::NodeT;
use nice_plug::prelude::{Param, ParamPtr};

use super::{
    models::shelf,
    stage::{RATE, Stage, analysing, views},
};
use crate::{
    damage::Stem,
    editor::{
        files::{Prompt, Want},
        history::Change,
        model::{Command, Gesture},
        music::{Picked, What},
        presets::Preset,
        state::{State, Tab, WaveMode},
        timeline::Viewport,
    },
    exchange::SamplePos,
    params::UncookParams,
    profile::{DrumClass, edit::MusicEdit},
    worker::{
        options::CaptureMode,
        shelf::{Order as Wanted, Work},
        view::{ModelView, Rebuild, View},
    },
};

/// What using a control leads to.
enum Effect {
    /// Gestures of this parameter.
    Turns(ParamPtr),
    /// Gestures of any parameter, or another decision: a line of the plan is about either.
    Decides,
    /// A command.
    Asks(fn(&Command) -> bool),
    /// What the editor remembers, as told by this, becomes another.
    Changes(fn(&State) -> String),
    /// A list, of which every entry does this.
    Lists(fn(&Command) -> bool),
    /// A field that takes a typed value, which then is asked for.
    Types,
    /// A field that holds what is typed.
    Holds,
}

fn dials(p: &UncookParams) -> BTreeMap<&'static str, ParamPtr> {
    (super::controls::dials(p).into_iter())
        .map(|(_, name, ptr)| (name, ptr))
        .collect()
}

fn edits(command: &Command) -> bool {
    matches!(command, Command::SetEdits(_))
}

fn gesture(command: &Command) -> bool {
    matches!(command, Command::Gesture(_))
}

/// What the control of this role and name does; `None`: nobody has thought of it.
fn effect(p: &UncookParams, role: Role, name: &str) -> Option<Effect> {
    use Effect::{Asks, Changes, Decides, Holds, Lists, Turns, Types};
    let starts = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
    Some(match role {
        Role::Tab => Changes(|s| format!("{:?}", s.tab)),
        Role::Slider if name.starts_with("Amount of ") => Decides,
        Role::Slider => Turns(*dials(p).get(name)?),
        Role::CheckBox if name.starts_with("Accept ") => Decides,
        Role::SpinButton if name == "Tempo" => Types,
        Role::PasswordInput if name == "Access token" => Holds,
        Role::Canvas => match name {
            "Timeline" => Changes(|s| format!("{:?}", s.viewport)),
            "Music" => Changes(|s| format!("{:?}", s.music.picked)),
            _ => return None,
        },
        Role::TextInput => match name {
            "Style" | "Chord" => Types,
            "Model folder" | "Path" | "Preset name" => Holds,
            _ => return None,
        },
        Role::ComboBox => match name {
            "Preset" => Lists(|c| matches!(c, Command::NamePreset(_) | Command::Choose(_))),
            "Selected stem" => Lists(|_| true),
            "Capture mode" | "Quality" | "Separator" => Lists(gesture),
            _ if name.ends_with(" regenerator") => Lists(gesture),
            _ if name.ends_with(" take") => Lists(edits),
            _ => return None,
        },
        Role::Button if name.ends_with(" value") => Types,
        Role::Button => match name {
            "Files" => {
                Lists(|c| matches!(c, Command::Choose(Want::CollectFolder | Want::RelinkFolder)))
            }
            "Relink missing files" => Asks(|c| *c == Command::Choose(Want::RelinkFolder)),
            "Hide note" => Changes(|s| format!("{:?}", s.told)),
            "Numbers" | "Spectrum" => Changes(|s| format!("{:?}", s.spectrum)),
            "Bypass" => Turns(p.bypass.as_ptr()),
            "Delta" => Turns(p.listen.delta.as_ptr()),
            "A/B" => Turns(p.listen.compare.as_ptr()),
            "Limiter" => Turns(p.output.limiter.as_ptr()),
            "Capture" => Turns(p.analysis.capture.as_ptr()),
            "Save preset" | "Don't" => Changes(|s| format!("{:?}", s.preset_draft)),
            "Keep" => Asks(|c| matches!(c, Command::SavePreset(p) if p.name == "New one")),
            "Delete preset" => Asks(|c| matches!(c, Command::DeletePreset(n) if n == "Cellar")),
            "Undo" | "Redo" => Asks(|c| matches!(c, Command::SetStyle(_))),
            "Light colours" => Asks(|c| *c == Command::SetLight(true)),
            "Dark colours" => Asks(|c| *c == Command::SetLight(false)),
            "Analyse" | "Rebuild" => Asks(|c| *c == Command::Analyse),
            "Clear" => Asks(|c| *c == Command::Clear),
            "Cancel" => Asks(|c| *c == Command::Cancel),
            "Use path" => Asks(|c| matches!(c, Command::UsePath(Want::ImportPreset, _))),
            "No path" => Changes(|s| format!("{:?}", s.prompt)),
            "Overlaid" | "Split" | "Spectrogram" => Changes(|s| format!("{:?}", s.wave)),
            "Music lanes" => Changes(|s| format!("{:?}", s.lanes)),
            "Zoom in" | "Zoom out" | "Show all" | "Zoom" => {
                Changes(|s| format!("{:?}", s.viewport))
            }
            _ if starts(&["Show "]) => Changes(|s| format!("{:?}", (s.viewport, s.selection))),
            "Accept all" | "Refuse all" | "Refuse selection" | "Accept selection" => Asks(edits),
            "Half" | "Double" | "Forget edits" | "Delete" => Asks(edits),
            "Earlier" | "Later" | "Louder" | "Softer" => Asks(edits),
            "Higher" | "Lower" | "Longer" | "Shorter" => Asks(edits),
            "Regenerate selection" | "Regenerate drums" | "Regenerate bass" => {
                Asks(|c| matches!(c, Command::Regenerate(_)))
            }
            _ if [" solo", " mute", " delta"]
                .iter()
                .any(|end| name.ends_with(end)) =>
            {
                Asks(|c| matches!(c, Command::Listen(_)))
            }
            _ if starts(&["Compare "]) => Asks(edits),
            "Accept these terms" => Asks(|c| *c == Command::AcceptTerms),
            "Save MIDI" => Asks(|c| matches!(c, Command::SaveMidi { .. })),
            "Save MIDI as" => Asks(|c| matches!(c, Command::Choose(Want::SaveMidi { .. }))),
            "Copy path" | "Copy as text" => Asks(|c| matches!(c, Command::Copy(_))),
            "Choose folder" => Asks(|c| *c == Command::Choose(Want::ModelFolder)),
            "Add folder" => Asks(|c| matches!(c, Command::Models(Wanted::Add(_)))),
            "Cancel models" => Asks(|c| *c == Command::Models(Wanted::Cancel)),
            _ if starts(&["Really remove "]) => {
                Asks(|c| matches!(c, Command::Models(Wanted::Remove(_))))
            }
            _ if starts(&["Remove "]) => Changes(|s| format!("{:?}", s.models)),
            _ if starts(&["Verify ", "Fetch ", "Accept terms "]) => {
                Asks(|c| matches!(c, Command::Models(_)))
            }
            "Add bass note" => Asks(edits),
            _ if DrumClass::ALL
                .iter()
                .any(|c| name == format!("Add {}", crate::editor::music::drum_name(*c))) =>
            {
                Asks(edits)
            }
            // What is left of "Add …" are suggestions for the style.
            _ if starts(&["Add "]) => Asks(|c| matches!(c, Command::SetStyle(_))),
            _ => return None,
        },
        _ => return None,
    })
}

/// What can't be used anywhere, and says why when pointed at: nobody rebuilds these stems yet.
const NEVER: [&str; 2] = ["Regenerate other", "Regenerate vocals"];

/// What can be in the picture: a name, and how it comes there.
type Scene = (&'static str, Box<dyn Fn() -> Stage>);

/// A take with everything about it: three rebuilds, an edit, a preset, models, one step to undo and one to redo.
fn stage(view: View, tab: Tab) -> Stage {
    let mut stage = Stage::sized(view, vec2(1120.0, 1900.0), 1.0);
    stage.harness.ctx.all_styles_mut(|style| {
        style.interaction.tooltip_delay = 0.0;
        style.interaction.show_tooltips_only_when_still = false;
    });
    let desk = stage.desk();
    desk.state.tab = tab;
    desk.shelf = Some(shelf());
    desk.presets = vec![Preset {
        name: "Cellar".to_owned(),
        ..Preset::default()
    }];
    desk.state.preset = "Cellar".to_owned();
    desk.state.wave = WaveMode::Split;
    desk.state.viewport = Some(Viewport {
        start: 2.0,
        seconds: 5.0,
    });
    for after in ["a", "b"] {
        let change = Change::Style {
            before: String::new(),
            after: after.to_owned(),
        };
        desk.state.history.apply(after, change, &mut Vec::new());
    }
    desk.state.history.undo(&mut Vec::new());
    stage
}

fn rich() -> View {
    let mut view = views().1.clone();
    for (hash, seed) in [("aa", 77), ("bb", 78)] {
        view.takes[0].rebuilds.insert(
            0,
            Rebuild {
                hash: hash.to_owned(),
                seed,
                stems: [true; Stem::COUNT],
                ..Rebuild::default()
            },
        );
    }
    let kick = MusicEdit::AddHit {
        at: 100,
        class: DrumClass::Kick,
        velocity: 90,
    };
    Arc::make_mut(&mut view.edits)
        .music_mut(SamplePos(0))
        .push(kick);
    view
}

fn scenes() -> Vec<Scene> {
    fn scene(name: &'static str, tab: Tab, set: impl Fn(&mut Stage) + 'static) -> Scene {
        let make = move || {
            let mut stage = stage(rich(), tab);
            set(&mut stage);
            stage
        };
        (name, Box::new(make))
    }
    let pick = |what: What| {
        move |stage: &mut Stage| {
            let desk = stage.desk();
            desk.view.takes[0].unheard = true;
            desk.state.music.saved = Some(PathBuf::from("song.mid"));
            desk.state.music.picked = Some(Picked {
                take: SamplePos(0),
                what,
            });
        }
    };
    let note = What::Note {
        at: i64::from(RATE),
        frames: i64::from(RATE),
        midi: 33,
        velocity: 90,
    };
    let hit = What::Hit {
        at: i64::from(RATE),
        class: DrumClass::Kick,
        velocity: 90,
    };
    vec![
        scene("stems", Tab::Stems, |_| ()),
        scene("live", Tab::Live, |_| ()),
        scene("analysis", Tab::Analysis, |_| ()),
        scene("music", Tab::Music, |_| ()),
        scene("models", Tab::Models, |_| ()),
        scene("quality", Tab::Quality, |_| ()),
        scene("the spectrum, files are missing", Tab::Quality, |stage| {
            let desk = stage.desk();
            desk.state.spectrum = true;
            desk.state.told = Some("2 repair files in a folder".to_owned());
            desk.view.missing = vec!["some.uncookpatch".to_owned()];
        }),
        scene("a selection, overlaid, light", Tab::Live, |stage| {
            let desk = stage.desk();
            let second = |s: i64| SamplePos(s * i64::from(RATE));
            desk.state.selection = Some((second(3), second(6)));
            desk.state.wave = WaveMode::Overlaid;
            stage.button("Light colours");
        }),
        scene("a name and a path are typed", Tab::Quality, |stage| {
            let desk = stage.desk();
            desk.state.preset_draft = Some("New one".to_owned());
            desk.state.prompt = Some(Prompt::new(Want::ImportPreset, None));
            stage.harness.run_steps(2);
            stage.click(Role::TextInput, "Path");
            stage.event(Event::Text("/some/where".to_owned()));
        }),
        scene("a note is picked", Tab::Music, pick(note)),
        scene("a hit is picked", Tab::Music, pick(hit)),
        scene("terms are asked", Tab::Analysis, |stage| {
            stage.desk().view.model = Some(Arc::new(ModelView::default()));
        }),
        scene("a folder is typed, a model removed", Tab::Models, |stage| {
            stage.harness.run_steps(2);
            stage.click(Role::TextInput, "Model folder");
            stage.event(Event::Text("some/where".to_owned()));
            stage.button("Remove ears");
            stage.desk().shelf.as_mut().unwrap().work = Some(Work {
                name: "gated".to_owned(),
                verb: "Fetching",
                file: "x".to_owned(),
                done: 1,
                all: Some(2),
            });
        }),
        (
            "a job runs",
            Box::new(|| stage(analysing(), Tab::Stems)) as Box<dyn Fn() -> Stage>,
        ),
        (
            "capture is off",
            Box::new(|| {
                let mut off = stage(View::default(), Tab::Stems);
                let capture = &off.desk().params.analysis.capture;
                let value = capture.preview_normalized(CaptureMode::Off);
                // SAFETY: the parameter lives as long as the stage.
                unsafe { capture.as_ptr()._internal_set_normalized_value(value) };
                off
            }),
        ),
    ]
}

/// The scene, drawn, with nothing asked for yet.
fn made(scene: &Scene) -> Stage {
    let mut stage = (scene.1)();
    stage.harness.run_steps(6);
    stage.desk().log.clear();
    stage
}

/// A control as assistive technology finds it.
#[derive(Clone, Debug, PartialEq)]
struct Found {
    role: Role,
    name: String,
    disabled: bool,
    rect: Rect,
}

/// Everything that takes clicks, drags or the focus.
fn found(stage: &Stage) -> Vec<Found> {
    let root = stage.harness.root();
    let all = root.children_recursive().filter_map(|node| {
        let seen = node;
        let node = seen.accesskit_node();
        let data = node.data();
        let takes = [
            accesskit::Action::Click,
            accesskit::Action::Focus,
            accesskit::Action::SetValue,
        ];
        let is_control = takes.iter().any(|action| data.supports_action(*action));
        is_control.then(|| Found {
            role: node.role(),
            name: node.label().unwrap_or_default(),
            disabled: node.is_disabled(),
            rect: seen.rect(),
        })
    });
    all.collect()
}

/// Away from everything, so that the next tooltip is that of the next control.
fn leave(stage: &mut Stage) {
    stage.event(Event::PointerMoved(Pos2::new(2.0, 2.0)));
    stage.harness.run_steps(2);
}

/// Whether pointing at it shows a tooltip.
fn has_tooltip(stage: &mut Stage, at: Pos2) -> bool {
    leave(stage);
    for by in [0.0, 1.0] {
        stage.event(Event::PointerMoved(at + vec2(by, 0.0)));
        stage.harness.run_steps(1);
    }
    let layers = stage.harness.ctx.memory(|m| m.areas().visible_layer_ids());
    layers.iter().any(|layer| layer.order == Order::Tooltip)
}

/// Types a text over what a field holds, and Return.
fn type_over(stage: &mut Stage, text: &str) {
    stage.key(Key::A, Modifiers::COMMAND);
    stage.event(Event::Text(text.to_owned()));
    stage.key(Key::Enter, Modifiers::NONE);
}

/// Uses a control and says whether what should happen has happened.
fn used(stage: &mut Stage, control: &Found, effect: &Effect) -> bool {
    let (role, name) = (control.role, control.name.as_str());
    let set = |commands: &[Command], ptr: ParamPtr| {
        let sets = |c: &Command| matches!(c, Command::Gesture(Gesture::Set(p, _)) if *p == ptr);
        commands.iter().any(sets)
    };
    stage.desk().log.clear();
    match effect {
        Effect::Turns(ptr) if role == Role::Slider => {
            let drag = |stage: &mut Stage, by: f32| {
                let at = control.rect.center();
                let (button, none) = (egui::PointerButton::Primary, Modifiers::NONE);
                stage.drag(at, at + vec2(by, 0.0), button, none);
                stage.asked()
            };
            // One way or the other: it may be at an end.
            let commands = [drag(stage, 20.0), drag(stage, -20.0)].concat();
            let [first, .., last] = &commands[..] else {
                return false;
            };
            *first == Command::Gesture(Gesture::Begin(*ptr))
                && *last == Command::Gesture(Gesture::End(*ptr))
                && set(&commands, *ptr)
        }
        Effect::Turns(ptr) => set(&stage.click(role, name), *ptr),
        Effect::Decides if role == Role::Slider => {
            let at = control.rect.center();
            let to = control.rect.left_center();
            stage.drag(at, to, egui::PointerButton::Primary, Modifiers::NONE);
            stage.asked().iter().any(|c| edits(c) || gesture(c))
        }
        Effect::Decides => stage
            .click(role, name)
            .iter()
            .any(|c| edits(c) || gesture(c)),
        Effect::Asks(what) => stage.click(role, name).iter().any(what),
        Effect::Changes(told) => {
            let before = told(&stage.desk().state);
            if role == Role::Canvas {
                use egui_kittest::kittest::Queryable;
                stage.harness.get_by_role_and_label(role, name).focus();
                stage.harness.run_steps(2);
                stage.key(Key::ArrowRight, Modifiers::NONE);
            } else {
                stage.click(role, name);
            }
            told(&stage.desk().state) != before
        }
        Effect::Lists(what) => {
            let entries = |stage: &Stage, before: &[Found]| -> Vec<Found> {
                let known = |f: &Found| {
                    before
                        .iter()
                        .any(|b| (b.role, &b.name) == (f.role, &f.name))
                };
                found(stage).into_iter().filter(|f| !known(f)).collect()
            };
            let before = found(stage);
            stage.click(role, name);
            let all = entries(stage, &before);
            for entry in &all {
                assert!(
                    has_tooltip(stage, entry.rect.center()),
                    "{name}: {entry:?} says nothing"
                );
            }
            // Each entry; the one that is chosen changes nothing.
            let mut doing = 0;
            for entry in &all {
                let shown = entries(stage, &before);
                if shown.iter().all(|f| f.name != entry.name) {
                    stage.click(role, name);
                }
                let memory = |s: &State| format!("{:?}", s.stem);
                let stem = memory(&stage.desk().state);
                let asked = stage.click(entry.role, &entry.name);
                let changed = memory(&stage.desk().state) != stem;
                let done = if name == "Selected stem" {
                    changed
                } else {
                    asked.iter().any(what)
                };
                doing += usize::from(done);
            }
            all.len() >= 2 && doing + 1 >= all.len()
        }
        Effect::Types => {
            stage.click(role, name);
            let text = match name {
                "Chord" => "F#m7",
                "Style" => "bright",
                // Within the range of each.
                "Gain value" | "Ceiling value" => "-3",
                "Tempo" => "93",
                _ => "13",
            };
            type_over(stage, text);
            let asked = stage.asked();
            let sets = |c: &Command| {
                gesture(c) || edits(c) || *c == Command::SetStyle("bright".to_owned())
            };
            asked.iter().any(sets)
        }
        Effect::Holds => {
            let value = |stage: &Stage| {
                use egui_kittest::kittest::Queryable;
                let node = stage.harness.get_by_role_and_label(role, name);
                node.value().unwrap_or_default()
            };
            let before = value(stage);
            stage.click(role, name);
            stage.event(Event::Text("xyz".to_owned()));
            stage.harness.run_steps(2);
            value(stage).chars().count() == before.chars().count() + 3
        }
    }
}

#[test]
fn every_control_is_named_explained_and_does_what_it_says() {
    // By role and name: whether using it did what it should.
    let mut driven: BTreeMap<(String, String), bool> = BTreeMap::new();
    let mut silent = Vec::new();
    for scene in &scenes() {
        let mut stage = made(scene);
        for control in found(&stage) {
            let at = scene.0;
            let key = (format!("{:?}", control.role), control.name.clone());
            assert!(
                !control.name.trim().is_empty(),
                "{at}: {control:?} has no name"
            );
            let never = NEVER.contains(&control.name.as_str());
            assert!(
                !never || control.disabled,
                "{at}: {control:?} can be used now"
            );
            let known = driven.get(&key).copied();
            if known.is_none() {
                if !has_tooltip(&mut stage, control.rect.center()) {
                    silent.push(format!("{at}: {control:?}"));
                }
                // "Mix  100.0 %".
                let title = format!("{}  ", control.name);
                let texts = stage.texts();
                let said = texts.iter().find(|text| text.starts_with(&title));
                let unit = |text: &String| text.contains('%') || text.contains(" dB");
                assert!(
                    control.role != Role::Slider
                        || control.name == "Seed"
                        || said.is_some_and(unit),
                    "{control:?} is explained without its unit: {said:?}"
                );
                leave(&mut stage);
            }
            if known == Some(true) || control.disabled {
                driven.entry(key).or_insert(false);
                continue;
            }
            let mut fresh = made(scene);
            let params = fresh.desk().params.clone();
            let effect = effect(&params, control.role, &control.name);
            let effect =
                effect.unwrap_or_else(|| panic!("{at}: nobody says what {control:?} does"));
            let done = used(&mut fresh, &control, &effect);
            driven.insert(key, done);
        }
    }
    assert_eq!(silent, Vec::<String>::new(), "without a tooltip");
    let idle: Vec<_> = (driven.iter())
        .filter(|((_, name), done)| !**done && !NEVER.contains(&name.as_str()))
        .map(|(key, _)| key)
        .collect();
    assert!(idle.is_empty(), "did nothing anywhere: {idle:?}");
    println!("{} controls", driven.len());
    assert!(driven.len() > 120, "only {} controls", driven.len());
}

/// Tab alone goes to every control that can be used, and to nothing without a name.
#[test]
fn every_control_can_be_reached_by_the_keyboard() {
    for scene in &scenes() {
        let mut stage = made(scene);
        let usable: BTreeSet<(String, String)> = (found(&stage).into_iter())
            .filter(|control| !control.disabled)
            .map(|control| (format!("{:?}", control.role), control.name))
            .collect();
        let mut reached = BTreeSet::new();
        for _ in 0..usable.len() + 8 {
            stage.key(Key::Tab, Modifiers::NONE);
            let root = stage.harness.root();
            let focused = root.children_recursive().find(|node| node.is_focused());
            let Some(node) = focused else { continue };
            let node = node.accesskit_node();
            reached.insert((
                format!("{:?}", node.role()),
                node.label().unwrap_or_default(),
            ));
        }
        let missing: Vec<_> = usable.difference(&reached).collect();
        assert!(missing.is_empty(), "{}: {missing:?}", scene.0);
    }
}
