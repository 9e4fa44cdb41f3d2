// [main] The editor drawn without a window: what it shows, and what a user's hands make it ask for.

use std::sync::Arc;

use egui::{
    Context, Event, Modifiers, PointerButton, Pos2, RawInput, Rect, Shape, epaint::ClippedShape,
    pos2, vec2,
};
use nice_plug::prelude::Param;

use super::{
    model::{Command, Gesture, Levels, Model},
    theme, ui,
};
use crate::{
    damage::{DamageKind, DamageMap, Severity, Stem},
    exchange::{
        SamplePos,
        meters::{Meters, PlayerState},
    },
    params::UncookParams,
    profile::{Chord, Estimate, Key, Mode, MusicalProfile},
    worker::view::{Findings, JobView, StemFindings, TakeState, TakeView, View},
};

/// A window that nobody sees.
struct Stage {
    ctx: Context,
    params: UncookParams,
    view: View,
    levels: Levels,
    size: egui::Vec2,
    time: f64,
}

impl Stage {
    fn new(view: View) -> Self {
        let ctx = Context::default();
        theme::apply(&ctx);
        let meters = Meters::default();
        let mut levels = Levels::default();
        meters
            .position
            .store(0, std::sync::atomic::Ordering::Relaxed);
        meters
            .processed
            .store(64, std::sync::atomic::Ordering::Relaxed);
        levels.read(&meters, 0.03);
        Self {
            ctx,
            params: UncookParams::default(),
            view,
            levels,
            // Tall enough that nothing scrolls out of sight.
            size: vec2(980.0, 1400.0),
            time: 0.0,
        }
    }

    fn frame(&mut self, events: Vec<Event>) -> (Vec<Command>, Vec<ClippedShape>) {
        self.time += 0.033;
        let input = RawInput {
            screen_rect: Some(Rect::from_min_size(Pos2::ZERO, self.size)),
            time: Some(self.time),
            events,
            ..RawInput::default()
        };
        let model = Model {
            params: &self.params,
            view: &self.view,
            levels: &self.levels,
            sample_rate: Some(48_000.0),
        };
        let mut commands = Vec::new();
        let mut output = self.ctx.run_ui(input, |ui| commands = ui::draw(ui, &model));
        // No window takes the textures.
        output.textures_delta.clear();
        (commands, output.shapes)
    }

    /// Two frames: the first one lays out, the second one is what is seen.
    fn shapes(&mut self) -> Vec<ClippedShape> {
        self.frame(Vec::new());
        self.frame(Vec::new()).1
    }

    /// Every text in the picture with the middle of its place.
    fn texts(&mut self) -> Vec<(String, Pos2)> {
        let mut out = Vec::new();
        for clipped in self.shapes() {
            collect(&clipped.shape, &mut out);
        }
        out
    }

    fn shows(&mut self, text: &str) -> bool {
        self.texts().iter().any(|(shown, _)| shown.contains(text))
    }

    /// Where `text` stands.
    fn place(&mut self, text: &str) -> Pos2 {
        let texts = self.texts();
        let found = texts.iter().find(|(shown, _)| shown == text);
        found
            .unwrap_or_else(|| panic!("{text:?} is not in {texts:?}"))
            .1
    }

    /// A click with everything that it asks for.
    fn click(&mut self, at: Pos2) -> Vec<Command> {
        let button = |pressed| Event::PointerButton {
            pos: at,
            button: PointerButton::Primary,
            pressed,
            modifiers: Modifiers::NONE,
        };
        let mut out = self.frame(vec![Event::PointerMoved(at)]).0;
        out.extend(self.frame(vec![button(true)]).0);
        out.extend(self.frame(vec![button(false)]).0);
        out.extend(self.frame(Vec::new()).0);
        // Out of the time in which a second click would make a double-click.
        self.time += 1.0;
        out
    }
}

fn collect(shape: &Shape, out: &mut Vec<(String, Pos2)>) {
    match shape {
        Shape::Text(text) => {
            let rect = text.galley.rect.translate(text.pos.to_vec2());
            out.push((text.galley.text().to_owned(), rect.center()));
        }
        Shape::Vec(shapes) => shapes.iter().for_each(|shape| collect(shape, out)),
        _ => {}
    }
}

/// A captured and analysed take of ten seconds at 48 kHz, clipped from 4 to 6 s.
fn analysed() -> View {
    let clipped: Severity =
        std::array::from_fn(|kind| f32::from(u8::from(kind == DamageKind::Clipping as usize)));
    let frames: Vec<Severity> = (0..1000)
        .map(|i| {
            if (400..600).contains(&i) {
                clipped
            } else {
                Severity::default()
            }
        })
        .collect();
    let damage = DamageMap { frames };
    let mut stems: [StemFindings; Stem::COUNT] = Default::default();
    stems[Stem::Drums as usize] = StemFindings {
        share: 0.2,
        kind: Some(DamageKind::Clipping),
        reason: "20 % of the time clipped, worst at 0:04".to_owned(),
        rebuilt: true,
        damage: damage.clone(),
        ..StemFindings::default()
    };
    let profile = MusicalProfile {
        tempo_bpm: Some(Estimate {
            value: 120.0,
            confidence: 1.0,
        }),
        key: Some(Estimate {
            value: Key {
                tonic: 9,
                mode: Mode::Minor,
            },
            confidence: 1.0,
        }),
        chords: vec![Chord {
            start: 0.0,
            end: 5.0,
            label: "A:min".to_owned(),
            confidence: 1.0,
        }],
        ..MusicalProfile::default()
    };
    View {
        takes: vec![TakeView {
            start: SamplePos(0),
            frames: 480_000,
            sample_rate: 48_000,
            peaks: Arc::new(vec![(-0.5, 0.5); 1000]),
            repaired_peaks: Arc::new(vec![(-0.7, 0.7); 1000]),
            damage: Arc::new(damage),
            state: TakeState::Committed,
            findings: Some(Arc::new(Findings {
                stems,
                profile,
                lines: vec!["drums: rebuilt".to_owned()],
                ..Findings::default()
            })),
        }],
        ..View::default()
    }
}

#[test]
fn every_parameter_can_be_seen() {
    let mut stage = Stage::new(View::default());
    for text in [
        "Repair",
        "Declip",
        "Declick",
        "Denoise",
        "EQ match",
        "Bass",
        "Treble",
        "Early reflections",
        "Late reverb",
        "Mix",
        "Output gain",
        "Ceiling",
        "Limiter",
        "Blend",
        "All stems",
        "Capture",
        "Quality",
        "Separator",
        "Regenerator",
        "Seed",
        "Style",
        "A/B",
        "Delta",
        "Bypass",
    ] {
        assert!(stage.shows(text), "{text}");
    }
    // With their values, units included.
    for value in [
        "100.0 %",
        "50.0 %",
        "0.0 dB",
        "-1.0 dBTP",
        "Automatic",
        "Best",
    ] {
        assert!(stage.shows(value), "{value}");
    }
}

#[test]
fn findings_are_shown_in_words() {
    let mut stage = Stage::new(analysed());
    for text in [
        "120.0 BPM",
        "A minor",
        "A:min",
        "drums: rebuilt",
        "clipped 20 %",
        "20 % of the time clipped, worst at 0:04",
        "rebuilt",
    ] {
        assert!(stage.shows(text), "{text}");
    }
    // The chord follows the play position.
    stage.levels.position = Some(SamplePos(300_000));
    assert!(!stage.shows("A:min"));
}

#[test]
fn damage_is_drawn_where_it_is_and_in_its_colour() {
    let mut stage = Stage::new(analysed());
    let red = theme::damage(DamageKind::Clipping);
    let mut columns: Vec<f32> = Vec::new();
    let mut all: Vec<f32> = Vec::new();
    for clipped in stage.shapes() {
        // The waveform's mesh is the one with the undamaged colour in it.
        if let Shape::Mesh(mesh) = &clipped.shape
            && mesh.vertices.iter().any(|v| v.color == theme::WAVE)
        {
            all.extend(mesh.vertices.iter().map(|v| v.pos.x));
            let damaged = mesh.vertices.iter().filter(|v| v.color == red);
            columns.extend(damaged.map(|v| v.pos.x));
        }
    }
    let edge =
        |of: &[f32], start: f32, pick: fn(f32, f32) -> f32| of.iter().copied().fold(start, pick);
    let (left, right) = (
        edge(&all, f32::MAX, f32::min),
        edge(&all, f32::MIN, f32::max),
    );
    let share = |x: f32| (x - left) / (right - left);
    let from = share(edge(&columns, f32::MAX, f32::min));
    let to = share(edge(&columns, f32::MIN, f32::max));
    assert!((from - 0.4).abs() < 0.01, "from {from}");
    assert!((to - 0.6).abs() < 0.01, "to {to}");
}

#[test]
fn the_status_says_what_to_do_next() {
    let mut stage = Stage::new(View::default());
    assert!(stage.shows("Play the song once to capture it."));
    stage.levels.position = None;
    assert!(stage.shows("no song position"));
    stage.levels.player = PlayerState::OutOfDate;
    assert!(stage.shows("Out of date"));
    stage.levels.player = PlayerState::Patch;
    assert!(stage.shows("Playing rebuilt audio."));
    stage.levels.running = false;
    assert!(stage.shows("Start playback"));
    stage
        .view
        .problems
        .push("x.patch is missing: play the song once".to_owned());
    assert!(stage.shows("x.patch is missing: play the song once"));
}

#[test]
fn buttons_ask_for_what_they_say() {
    let mut stage = Stage::new(View::default());
    // Nothing captured: nothing to analyse.
    let analyse = stage.place("Analyse");
    assert_eq!(stage.click(analyse), []);

    let mut stage = Stage::new(analysed());
    let analyse = stage.place("Analyse");
    assert_eq!(stage.click(analyse), [Command::Analyse]);
    let clear = stage.place("Clear");
    assert_eq!(stage.click(clear), [Command::Clear]);

    stage.view.job = Some(JobView {
        step: "Separating the instruments",
        done: 0.42,
        seconds_left: Some(33.0),
        ahead: 0,
    });
    assert!(stage.shows("Separating the instruments – 42 %, about 35 s left"));
    let cancel = stage.place("Cancel");
    assert_eq!(stage.click(cancel), [Command::Cancel]);
}

/// The gestures among `commands`, which must be of one parameter, begun once and ended once.
fn one_gesture(commands: &[Command], param: &impl Param) -> Vec<f32> {
    let ptr = param.as_ptr();
    let (first, rest) = commands.split_first().expect("a gesture");
    let (last, middle) = rest.split_last().expect("an ended gesture");
    assert_eq!(*first, Command::Gesture(Gesture::Begin(ptr)));
    assert_eq!(*last, Command::Gesture(Gesture::End(ptr)));
    middle
        .iter()
        .map(|command| match command {
            Command::Gesture(Gesture::Set(set, value)) if *set == ptr => *value,
            other => panic!("{other:?} inside a gesture"),
        })
        .collect()
}

#[test]
fn a_toggle_is_a_whole_gesture() {
    let mut stage = Stage::new(View::default());
    let bypass = stage.place("Bypass");
    let commands = stage.click(bypass);
    assert_eq!(one_gesture(&commands, &stage.params.bypass), [1.0]);
}

#[test]
fn dragging_a_slider_is_one_gesture_that_follows_the_hand() {
    let mut stage = Stage::new(View::default());
    // The slider lies to the right of its label.
    let start = stage.place("Denoise") + vec2(150.0, 0.0);
    let button = |pos, pressed| Event::PointerButton {
        pos,
        button: PointerButton::Primary,
        pressed,
        modifiers: Modifiers::NONE,
    };
    let mut commands = stage.frame(vec![Event::PointerMoved(start)]).0;
    commands.extend(stage.frame(vec![button(start, true)]).0);
    for step in 1..=5 {
        let at = start + vec2(12.0 * step as f32, 0.0);
        commands.extend(stage.frame(vec![Event::PointerMoved(at)]).0);
    }
    let end = start + vec2(60.0, 0.0);
    commands.extend(stage.frame(vec![button(end, false)]).0);
    commands.extend(stage.frame(Vec::new()).0);

    let values = one_gesture(&commands, &stage.params.live.denoise);
    assert!(values.len() >= 4, "{values:?}");
    assert!(values.windows(2).all(|w| w[0] < w[1]), "{values:?}");
    assert!(values.iter().all(|v| (0.0..=1.0).contains(v)));
}

#[test]
fn a_value_can_be_typed() {
    let mut stage = Stage::new(View::default());
    // The only value with this unit.
    let at = stage.place("-1.0 dBTP");
    assert_eq!(stage.click(at), []);
    let select_all = Event::Key {
        key: egui::Key::A,
        physical_key: None,
        pressed: true,
        repeat: false,
        modifiers: Modifiers::COMMAND,
    };
    let enter = Event::Key {
        key: egui::Key::Enter,
        physical_key: None,
        pressed: true,
        repeat: false,
        modifiers: Modifiers::NONE,
    };
    stage.frame(vec![select_all]);
    stage.frame(vec![Event::Text("-6".to_owned())]);
    let mut commands = stage.frame(vec![enter]).0;
    commands.extend(stage.frame(Vec::new()).0);
    let values = one_gesture(&commands, &stage.params.output.ceiling);
    let [value] = values[..] else {
        panic!("{values:?}");
    };
    assert!((stage.params.output.ceiling.preview_plain(value) + 6.0).abs() < 1e-3);
}

#[test]
fn any_size_and_any_view_can_be_drawn() {
    let odd = View {
        takes: vec![
            TakeView {
                start: SamplePos(i64::MIN / 4),
                frames: 1,
                sample_rate: 0,
                ..TakeView::default()
            },
            TakeView {
                start: SamplePos(-5),
                frames: u64::MAX,
                sample_rate: 1,
                peaks: Arc::new(vec![(f32::NAN, f32::INFINITY)]),
                damage: Arc::new(DamageMap {
                    frames: vec![[f32::NAN; DamageKind::COUNT]; 3],
                }),
                state: TakeState::Capturing,
                ..TakeView::default()
            },
        ],
        overruns: u64::MAX,
        ..View::default()
    };
    for view in [View::default(), analysed(), odd] {
        for size in [
            vec2(980.0, 720.0),
            vec2(720.0, 480.0),
            vec2(60.0, 40.0),
            vec2(4000.0, 90.0),
        ] {
            let mut stage = Stage::new(view.clone());
            stage.size = size;
            for position in [
                None,
                Some(SamplePos(i64::MAX)),
                Some(SamplePos(i64::MIN + 1)),
            ] {
                stage.levels.position = position;
                let middle = pos2(size.x / 2.0, size.y / 2.0);
                stage.frame(vec![Event::PointerMoved(middle)]);
                stage.shapes();
            }
        }
    }
}

#[test]
fn meters_rise_at_once_and_fall_slowly() {
    use std::sync::atomic::Ordering::Relaxed;
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
    assert_eq!(levels.output_db, super::model::SILENCE_DB);
    assert!(!levels.running, "no block for ten seconds");
}
