// [main] The whole picture, top to bottom.

use egui::{
    Align, CentralPanel, Event, Frame, Key, Layout, Margin, RichText, ScrollArea, Ui, UiBuilder,
    WidgetInfo, vec2,
};

use crate::editor::{
    controls, files,
    files::Want,
    headline, live,
    model::{Command, Model},
    models, music, plan, quality,
    state::{State, Tab, WaveMode},
    status, stems, theme, top, waveform,
};
use crate::worker::view::Problem;

/// Least height of the waveform, and of what is below it.
const WAVEFORM: f32 = 128.0;
const PANELS: f32 = 268.0;
/// The same while the music lanes are shown: they take their room from both.
const PANELS_WITH_LANES: f32 = 214.0;
/// Height of the box of knobs and meters at the bottom, with its margins and border.
const OUTPUT: f32 = controls::KNOB.y + 18.0;
/// Height of the row above the waveform, and of the legend below it.
const TOOLS: f32 = 26.0;
const LEGEND: f32 = 16.0;
/// Width from which everything about the timeline has room beside what a selection offers.
const WIDE: f32 = 1040.0;

/// Draws `model` and returns what the user wants, in order.
pub fn draw(ui: &mut Ui, model: &Model<'_>, state: &mut State) -> Vec<Command> {
    let mut out = Vec::new();
    leave_to_the_host(ui);
    state.stale.follow(model);
    let p = theme::of(ui);
    let frame = Frame::new()
        .fill(p.background)
        .inner_margin(Margin::symmetric(12, 10));
    CentralPanel::default().frame(frame).show(ui, |ui| {
        ui.spacing_mut().item_spacing.y = theme::GAP;
        top::draw(ui, model, state, &mut out);
        headline::draw(ui, model, state, &mut out);
        missing(ui, model, &mut out);
        problems(ui, model);
        told(ui, state);
        files::draw(ui, state, &mut out);
        // What is left is shared: half of it for the waveform.
        let rest = ui.available_height() - OUTPUT - TOOLS - LEGEND - 4.0 * theme::GAP;
        let (share, panels) = if waveform::shows_lanes(model, state) {
            (0.475, PANELS_WITH_LANES)
        } else {
            (0.44, PANELS)
        };
        let height = (share * rest)
            .clamp(WAVEFORM, 460.0)
            .min((rest - panels).max(WAVEFORM));
        timeline(ui, model, state, height, &mut out);
        let panels = (ui.available_height() - OUTPUT - theme::GAP).max(120.0);
        ui.allocate_ui(vec2(ui.available_width(), panels), |ui| {
            columns(ui, model, state, panels, &mut out);
        });
        theme::panel(p)
            .inner_margin(Margin::symmetric(theme::INSIDE, 8))
            .show(ui, |ui| {
                ui.set_width(ui.available_width());
                live::output(ui, model, &mut out);
            });
    });
    out
}

/// The space bar starts and stops the host, unless a text is typed: whatever has the focus here, it does nothing.
fn leave_to_the_host(ui: &Ui) {
    if !ui.ctx().text_edit_focused() {
        let is_space =
            |event: &Event| matches!(event, Event::Key { key, .. } if *key == Key::Space);
        ui.input_mut(|input| input.events.retain(|event| !is_space(event)));
    }
}

/// What of the project was not found, and where to look for it.
fn missing(ui: &mut Ui, model: &Model<'_>, out: &mut Vec<Command>) {
    let missing = &model.view.missing;
    if missing.is_empty() {
        return;
    }
    let p = theme::of(ui);
    ui.horizontal(|ui| {
        let button = egui::Button::new(RichText::new("Relink…").color(p.on_accent)).fill(p.problem);
        let relink = ui
            .add(button)
            .on_hover_text(format!("Choose the folder that has {}", missing.join(", ")));
        relink.widget_info(|| WidgetInfo::labeled(egui::Role::Button, true, "Relink missing files"));
        if relink.clicked() {
            out.push(Command::Choose(Want::RelinkFolder));
        }
        let words = match missing.len() {
            1 => "A repair file is missing".to_owned(),
            count => format!("{count} repair files are missing"),
        };
        let words = format!(
            "{words}: the live repair plays there. Choose the folder that has them, or play the song once."
        );
        ui.add(egui::Label::new(RichText::new(words).color(p.problem)).wrap());
    });
}

/// What went wrong, with the cure. What is missing has its own row.
fn problems(ui: &mut Ui, model: &Model<'_>) {
    let p = theme::of(ui);
    let missing = &model.view.missing;
    let told = |problem: &&Problem| {
        let sought = |file: &String| missing.contains(file);
        !problem.missing.as_ref().is_some_and(sought)
    };
    for problem in model.view.problems.iter().filter(told) {
        ui.horizontal(|ui| {
            ui.label(
                RichText::new("!")
                    .font(theme::strong(theme::BODY))
                    .color(p.problem),
            );
            ui.add(egui::Label::new(RichText::new(&problem.words).color(p.problem)).wrap());
        });
    }
}

/// What came of work on files.
fn told(ui: &mut Ui, state: &mut State) {
    let Some(words) = &state.told else {
        return;
    };
    let p = theme::of(ui);
    let hidden = ui.horizontal(|ui| {
        let hide = ui.small_button("OK").on_hover_text("Takes this line away");
        hide.widget_info(|| WidgetInfo::labeled(egui::Role::Button, true, "Hide note"));
        ui.add(egui::Label::new(RichText::new(words).color(p.accent)).wrap());
        hide.clicked()
    });
    if hidden.inner {
        state.told = None;
    }
}

fn timeline(
    ui: &mut Ui,
    model: &Model<'_>,
    state: &mut State,
    height: f32,
    out: &mut Vec<Command>,
) {
    ui.horizontal(|ui| {
        let modes = [
            (
                WaveMode::Overlaid,
                "Overlaid",
                "The repair, and the recording as a line around it",
            ),
            (
                WaveMode::Split,
                "Split",
                "The recording above, the repair below",
            ),
            (
                WaveMode::Spectrogram,
                "Spectrogram",
                "Frequencies over time, above before, below after",
            ),
        ];
        let all = modes.map(|(mode, text, hint)| (text, text, hint, state.wave == mode));
        if let Some(i) = controls::segments(ui, &all) {
            state.wave = modes[i].0;
        }
        let hint = "Chords, bass and drums on the beat grid";
        if controls::segments(ui, &[("Music lanes", "Music", hint, state.lanes)]).is_some() {
            state.lanes = !state.lanes;
        }
        let room = ui.max_rect().width() >= WIDE || state.selection.is_none();
        if room {
            zoom(ui, model, state);
        }
        ui.add_space(4.0);
        stems::selection(ui, model, state, out);
        if room {
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                facts(ui, model, state);
            });
        }
    });
    waveform::draw(ui, model, state, height, out);
    ui.horizontal_wrapped(|ui| live::legend(ui, model));
}

fn zoom(ui: &mut Ui, model: &Model<'_>, state: &mut State) {
    ui.add_space(4.0);
    for (name, text, notches) in [("Zoom in", "+", 2.0), ("Zoom out", "−", -2.0)] {
        let button = ui
            .add(egui::Button::new(text).min_size(vec2(24.0, 22.0)))
            .on_hover_text(format!("{name} (wheel over the waveform)"));
        button.widget_info(|| WidgetInfo::labeled(egui::Role::Button, true, name));
        if button.clicked() {
            waveform::zoom(model, state, notches);
        }
    }
    let all = ui
        .button("All")
        .on_hover_text("Show everything (double-click the waveform)");
    all.widget_info(|| WidgetInfo::labeled(egui::Role::Button, true, "Show all"));
    if all.clicked() {
        state.viewport = None;
    }
}

/// Tempo, metre, key and the chord under the playhead.
fn facts(ui: &mut Ui, model: &Model<'_>, state: &mut State) {
    let p = theme::of(ui);
    let take = model.current_take();
    let played = take.and_then(|t| Some((t, state.music.of(t, &model.view.edits)?)));
    let Some((take, played)) = played else {
        return;
    };
    let pos = model.levels.position.unwrap_or(take.start);
    let seconds = pos.since(take.start) as f64 / f64::from(take.sample_rate.max(1));
    for (name, value) in status::profile(&played, seconds).into_iter().rev() {
        ui.label(RichText::new(value).font(theme::strong(theme::BODY)));
        ui.label(RichText::new(name).small().color(p.dim));
        ui.add_space(4.0);
    }
}

fn columns(ui: &mut Ui, model: &Model<'_>, state: &mut State, height: f32, out: &mut Vec<Command>) {
    let whole = ui.available_rect_before_wrap();
    let half = 0.5 * (whole.width() - theme::GAP);
    let mut left = whole;
    left.set_width(half);
    left.set_height(height);
    let right = left.translate(vec2(half + theme::GAP, 0.0));
    let p = theme::of(ui);
    for (i, rect) in [left, right].into_iter().enumerate() {
        ui.scope_builder(UiBuilder::new().max_rect(rect), |ui| {
            theme::panel(p).show(ui, |ui| {
                ui.spacing_mut().item_spacing.y = 3.0;
                ui.set_width(ui.available_width());
                ui.set_height(height - 22.0);
                if i == 0 {
                    plan::draw(ui, model, state, out);
                } else {
                    tabs(ui, model, state, out);
                }
            });
        });
    }
    ui.advance_cursor_after_rect(left.union(right));
}

fn tabs(ui: &mut Ui, model: &Model<'_>, state: &mut State, out: &mut Vec<Command>) {
    ui.horizontal_wrapped(|ui| {
        let p = theme::of(ui);
        let narrow = ui.available_width() < 400.0;
        ui.spacing_mut().item_spacing.x = 0.0;
        ui.spacing_mut().button_padding.x = if narrow { 6.0 } else { 7.0 };
        if narrow {
            ui.style_mut().override_font_id = Some(egui::FontId::proportional(12.0));
        }
        for (tab, name, hint) in [
            (Tab::Stems, "Stems", "What is rebuilt, how much of it plays"),
            (Tab::Live, "Live repair", "What is repaired while it plays"),
            (
                Tab::Analysis,
                "Analysis",
                "Who analyses and rebuilds, how, in what style",
            ),
            (
                Tab::Music,
                "Music",
                "Tempo, chords, drum hits and bass notes, to be edited; MIDI",
            ),
            (
                Tab::Models,
                "Models",
                "Optional models: terms, size, place; fetch and remove",
            ),
            (Tab::Quality, "Quality", "Measured before and after"),
        ] {
            let on = state.tab == tab;
            let text = RichText::new(name).color(if on { p.text } else { p.dim });
            let button = egui::Button::new(text)
                .frame_when_inactive(false)
                .fill(p.panel);
            let response = ui
                .add(button.stroke(egui::Stroke::NONE))
                .on_hover_text(hint);
            response.widget_info(|| WidgetInfo::selected(egui::Role::Tab, true, on, name));
            if on {
                let r = response.rect;
                let pad = ui.spacing().button_padding.x;
                let line = egui::Rect::from_min_max(
                    egui::pos2(r.left() + pad, r.bottom() - 2.0),
                    egui::pos2(r.right() - pad, r.bottom()),
                );
                ui.painter().rect_filled(line, 1.0, p.accent);
            }
            if response.has_focus() {
                let stroke = egui::Stroke::new(1.5, p.accent);
                let rect = response.rect;
                (ui.painter()).rect_stroke(rect, 4.0, stroke, egui::StrokeKind::Inside);
            }
            if response.clicked() {
                state.tab = tab;
            }
        }
    });
    ScrollArea::vertical()
        .id_salt("tab")
        .auto_shrink([false, false])
        .show(ui, |ui| match state.tab {
            Tab::Stems => stems::draw(ui, model, state, out),
            Tab::Live => live::draw(ui, model, out),
            Tab::Analysis => live::analysis(ui, model, state, out),
            Tab::Music => music::draw(ui, model, state, out),
            Tab::Models => models::draw(ui, model, state, out),
            Tab::Quality => quality::draw(ui, model, state, out),
        });
}
