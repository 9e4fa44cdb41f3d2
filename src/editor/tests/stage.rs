// [main] The editor on a stage without a window: real audio through the real worker, hands that click by name.

use std::{
    sync::{Arc, OnceLock, atomic::Ordering},
    time::{Duration, Instant},
};

use egui::{Event, Modifiers, PointerButton, Pos2, Rect, Vec2, accesskit::Role, vec2};
use egui_kittest::{Harness, kittest::Queryable};

use super::paint::{Picture, Textures};
use crate::{
    editor::{
        model::{Command, Gesture, Levels, Model},
        presets::Preset,
        state::State,
        theme, ui,
    },
    exchange::{
        SamplePos,
        capture::{CHUNK_FRAMES, capture_ring},
        meters::{Meters, PlayerState},
        patch::patch_snapshot,
    },
    params::UncookParams,
    worker::{
        engine::Engine,
        options::{CaptureMode, Options, Quality, RegeneratorChoice, Regenerators},
        shelf::ShelfView,
        view::{JobView, TakeState, View},
    },
};

pub const RATE: u32 = 11_025;
const SECONDS: f64 = 10.0;
const LIMIT: Duration = Duration::from_secs(900);

/// What one picture is made of, and what was asked for.
pub struct Desk {
    pub params: Arc<UncookParams>,
    pub view: View,
    pub levels: Levels,
    pub state: State,
    pub presets: Vec<Preset>,
    pub log: Vec<Command>,
    pub sample_rate: Option<f64>,
    pub shelf: Option<ShelfView>,
}

impl Desk {
    fn picture(&mut self, ui: &mut egui::Ui) {
        let model = Model {
            params: &self.params,
            view: &self.view,
            levels: &self.levels,
            sample_rate: self.sample_rate,
            presets: &self.presets,
            shelf: self.shelf.as_ref(),
        };
        // The whole window: the harness leaves a margin around what it draws.
        let whole = egui::UiBuilder::new().max_rect(ui.ctx().content_rect());
        let commands = (ui.scope_builder(whole, |ui| ui::draw(ui, &model, &mut self.state))).inner;
        for command in &commands {
            match command {
                // As a host does it.
                Command::Gesture(Gesture::Set(param, value)) => {
                    // SAFETY: the pointers come from `self.params`.
                    unsafe { param._internal_set_normalized_value(*value) };
                }
                Command::SetEdits(edits) => self.view.edits = Arc::new(edits.clone()),
                Command::Listen(listening) => self.view.listening = *listening,
                Command::SetStyle(text) => self.params.style.replace(text.clone()),
                Command::NamePreset(name) => self.state.preset = name.clone(),
                Command::SavePreset(preset) => self.presets.push(preset.clone()),
                Command::DeletePreset(name) => self.presets.retain(|p| p.name != *name),
                Command::SetLight(light) => {
                    self.state.light = *light;
                    theme::apply(ui.ctx(), *light);
                }
                _ => {}
            }
        }
        self.log.extend(commands);
    }
}

/// The stage.
pub struct Stage {
    pub harness: Harness<'static, Desk>,
    textures: Textures,
    pub scale: f32,
}

impl Stage {
    /// The editor with `view`, as a window of the default size.
    pub fn new(view: View) -> Self {
        Self::sized(view, vec2(1120.0, 800.0), 1.0)
    }

    pub fn sized(view: View, size: Vec2, scale: f32) -> Self {
        let meters = Meters::default();
        meters
            .position
            .store(i64::from(RATE) * 2, Ordering::Relaxed);
        meters.processed.store(64, Ordering::Relaxed);
        // It plays, and what is rebuilt is heard where something was.
        meters.input_peak.store(0.8, Ordering::Relaxed);
        meters.output_peak.store(0.55, Ordering::Relaxed);
        let rebuilt = view.takes.iter().any(|t| t.state == TakeState::Committed);
        if rebuilt {
            meters.set_player(PlayerState::Patch);
        }
        let mut levels = Levels::default();
        levels.read(&meters, 0.03);
        let textures = Textures::default();
        let desk = Desk {
            params: Arc::default(),
            view,
            levels,
            state: State::default(),
            presets: Vec::new(),
            log: Vec::new(),
            sample_rate: Some(f64::from(RATE)),
            shelf: Some(ShelfView::default()),
        };
        let mut harness = Harness::builder()
            .with_size(size)
            .with_pixels_per_point(scale)
            .renderer(textures.clone())
            .with_context_setup(|ctx| theme::begin(ctx, false))
            .build_ui_state(|ui, desk: &mut Desk| desk.picture(ui), desk);
        harness.run_steps(3);
        Self {
            harness,
            textures,
            scale,
        }
    }

    pub fn desk(&mut self) -> &mut Desk {
        self.harness.state_mut()
    }

    /// What has been asked for since the last call.
    pub fn asked(&mut self) -> Vec<Command> {
        self.harness.run_steps(3);
        std::mem::take(&mut self.desk().log)
    }

    /// Clicks what has this role and name, as a hand does.
    pub fn click(&mut self, role: Role, name: &str) -> Vec<Command> {
        self.harness.get_by_role_and_label(role, name).click();
        let asked = self.asked();
        self.wait();
        asked
    }

    /// Out of the time in which a second click would make a double-click.
    fn wait(&mut self) {
        self.harness.run_steps(24);
    }

    pub fn button(&mut self, name: &str) -> Vec<Command> {
        self.click(Role::Button, name)
    }

    pub fn has(&self, role: Role, name: &str) -> bool {
        self.harness.query_by_role_and_label(role, name).is_some()
    }

    /// Whether any text in the picture contains `text`.
    pub fn shows(&mut self, text: &str) -> bool {
        self.texts().iter().any(|shown| shown.contains(text))
    }

    /// Every text in the picture.
    pub fn texts(&mut self) -> Vec<String> {
        self.harness.run_steps(2);
        fn collect(shape: &egui::Shape, out: &mut Vec<String>) {
            match shape {
                egui::Shape::Text(shape) => out.push(shape.galley.text().to_owned()),
                egui::Shape::Vec(shapes) => shapes.iter().for_each(|shape| collect(shape, out)),
                _ => {}
            }
        }
        let mut out = Vec::new();
        let shapes = &self.harness.output().shapes;
        shapes
            .iter()
            .for_each(|clipped| collect(&clipped.shape, &mut out));
        out
    }

    pub fn rect(&self, role: Role, name: &str) -> Rect {
        self.harness.get_by_role_and_label(role, name).rect()
    }

    /// One event, one frame.
    pub fn event(&mut self, event: Event) {
        self.harness.event(event);
        self.harness.run_steps(1);
    }

    /// Two clicks of the mouse in the middle of a control, the second within the same picture: the harness' pictures
    /// are a quarter of a second apart, too slow for a double-click.
    pub fn double_click(&mut self, role: Role, name: &str) -> Vec<Command> {
        let pos = self.rect(role, name).center();
        self.event(Event::PointerMoved(pos));
        let press = |pressed| Event::PointerButton {
            pos,
            button: PointerButton::Primary,
            pressed,
            modifiers: Modifiers::NONE,
        };
        self.event(press(true));
        let rest = [false, true, false].map(press);
        self.harness.input_mut().events.extend(rest);
        self.harness.run_steps(2);
        let asked = self.asked();
        self.wait();
        asked
    }

    /// Presses at `from`, moves in steps to `to`, lets go.
    pub fn drag(&mut self, from: Pos2, to: Pos2, button: PointerButton, modifiers: Modifiers) {
        let press = |pos, pressed| Event::PointerButton {
            pos,
            button,
            pressed,
            modifiers,
        };
        self.event(Event::ModifiersChanged(modifiers));
        self.event(Event::PointerMoved(from));
        self.event(press(from, true));
        for i in 1..=8 {
            self.event(Event::PointerMoved(from + (to - from) * (i as f32 / 8.0)));
        }
        self.event(press(to, false));
        self.event(Event::ModifiersChanged(Modifiers::NONE));
        self.harness.run_steps(2);
        self.wait();
    }

    pub fn key(&mut self, key: egui::Key, modifiers: Modifiers) {
        self.harness.key_press_modifiers(modifiers, key);
        self.harness.run_steps(2);
    }

    /// What a screen shows.
    pub fn photograph(&mut self) -> Picture {
        self.harness.run_steps(4);
        let output = self.harness.output();
        let size = self.harness.ctx.content_rect().size() * self.scale;
        let primitives = self
            .harness
            .ctx
            .tessellate(output.shapes.clone(), self.scale);
        let size = [size.x.round() as usize, size.y.round() as usize];
        self.textures.draw(&primitives, size, self.scale)
    }
}

/// Ten seconds of a band: kick and snare, a bass line, a chord; overdriven from 3 to 6 s, with a hum.
fn band() -> Vec<f32> {
    let rate = f64::from(RATE);
    let mut noise = 1u32;
    (0..(SECONDS * rate) as usize)
        .map(|n| {
            let t = n as f64 / rate;
            let beat = t % 0.5;
            let kick = (-beat * 18.0).exp()
                * (std::f64::consts::TAU * (52.0 * beat - 18.0 * beat * beat)).sin();
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let white = f64::from(noise >> 8) / f64::from(1 << 23) - 1.0;
            let snare = (-((t + 0.5) % 1.0) * 22.0).exp() * white;
            let roots = [55.0, 55.0, 43.65, 49.0];
            let root = roots[(t / 2.5) as usize % 4];
            let bass = (1..=4)
                .map(|h| (std::f64::consts::TAU * root * f64::from(h) * t).sin() / f64::from(h))
                .sum::<f64>();
            let chord: f64 = [2.0, 2.4, 3.0]
                .map(|r| (std::f64::consts::TAU * 2.0 * root * r * t).sin())
                .iter()
                .sum();
            let mix = 0.5 * kick + 0.22 * snare + 0.25 * bass + 0.05 * chord + 0.004 * white;
            let drive = if (3.0..6.0).contains(&t) { 3.0 } else { 0.9 };
            (mix * drive).clamp(-0.8, 0.8) as f32
        })
        .collect()
}

/// The view while the band plays, and after its analysis. Made once: an analysis takes its time.
pub fn views() -> &'static (View, View) {
    static VIEWS: OnceLock<(View, View)> = OnceLock::new();
    VIEWS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::in_folder(folder.path().to_owned());
        let (mut tap, reader) = capture_ring(1 << 20);
        tap.set_sample_rate(RATE);
        let (publisher, _patches) = patch_snapshot();
        let instance = engine.connect(reader, publisher);
        instance.set_sample_rate(RATE);
        instance.set_options(&Options {
            quality: Quality::Draft,
            capture: CaptureMode::Manual,
            // The editor is what is tested here: the repair of the mix would only take time.
            declick_percent: 0,
            declip_percent: 0,
            denoise_percent: 0,
            regenerators: Regenerators::all(RegeneratorChoice::Everywhere),
            ..Options::default()
        });
        let wait_for = |ready: &dyn Fn(&View) -> bool| {
            let start = Instant::now();
            loop {
                let view = View::clone(&instance.view());
                if ready(&view) {
                    return view;
                }
                assert!(start.elapsed() < LIMIT, "nothing happened");
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        let band = band();
        for (n, x) in band.iter().enumerate() {
            tap.push(SamplePos(n as i64), *x, *x);
        }
        // The newest chunk is handed over when the next sample comes.
        let whole = (band.len() - CHUNK_FRAMES) as u64;
        let mut capturing = wait_for(&|view| {
            view.takes
                .first()
                .is_some_and(|t| t.frames >= whole && !t.damage.is_empty())
        });
        // A busy machine may have thought that the silence was the end.
        capturing.takes[0].state = TakeState::Capturing;
        tap.stop();
        instance.analyse();
        let repaired = wait_for(&|view| {
            let take = view.takes.first();
            take.is_some_and(|t| t.state == TakeState::Committed) && view.job.is_none()
        });
        (capturing, repaired)
    })
}

/// The view while it is analysed.
pub fn analysing() -> View {
    let mut view = views().0.clone();
    view.takes[0].state = TakeState::Running;
    view.job = Some(JobView {
        step: "Separating the instruments",
        done: 0.42,
        seconds_left: Some(33.0),
        ahead: 0,
    });
    view
}
