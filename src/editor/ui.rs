// [main] The whole picture, top to bottom.

use egui::{Align, CentralPanel, Frame, Layout, Margin, RichText, ScrollArea, Ui};

use crate::editor::{
    controls,
    model::{Command, Model},
    panels::{self, panel},
    status, theme, waveform,
};

/// Height of the waveform.
const WAVEFORM: f32 = 190.0;
/// Width below which two columns become one.
const NARROW: f32 = 640.0;

/// Draws `model` and returns what the user wants, in order.
pub fn draw(ui: &mut Ui, model: &Model<'_>) -> Vec<Command> {
    let mut out = Vec::new();
    let frame = Frame::new()
        .fill(theme::BACKGROUND)
        .inner_margin(Margin::same(12));
    CentralPanel::default().frame(frame).show(ui, |ui| {
        top(ui, model, &mut out);
        status_line(ui, model);
        ui.add_space(2.0);
        ScrollArea::vertical()
            .auto_shrink([false, false])
            .show(ui, |ui| {
                ui.spacing_mut().item_spacing.y = theme::GAP;
                problems(ui, model);
                panel(ui, "", |ui| {
                    waveform::draw(ui, model, WAVEFORM);
                    panels::legend(ui, model);
                    panels::job(ui, model, &mut out);
                    panels::findings(ui, model);
                });
                columns(ui, model, &mut out);
            });
    });
    out
}

/// Name on the left, ways to listen on the right.
fn top(ui: &mut Ui, model: &Model<'_>, out: &mut Vec<Command>) {
    ui.horizontal(|ui| {
        ui.label(
            RichText::new("Uncook")
                .heading()
                .color(theme::ACCENT)
                .strong(),
        );
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let p = model.params;
            let bypass = "Hear the input as the plugin receives it";
            controls::toggle(ui, "Bypass", bypass, theme::WARNING, &p.bypass, out);
            let delta = "Hear only what is changed";
            controls::toggle(ui, "Delta", delta, theme::WARNING, &p.listen.delta, out);
            let compare = "Hear the input at the output's loudness, so that louder does not win";
            controls::toggle(ui, "A/B", compare, theme::WARNING, &p.listen.compare, out);
        });
    });
}

fn status_line(ui: &mut Ui, model: &Model<'_>) {
    let (colour, text) = status::line(model);
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new("●").color(colour));
        ui.label(text);
    });
}

/// What went wrong, with the cure.
fn problems(ui: &mut Ui, model: &Model<'_>) {
    if model.view.problems.is_empty() {
        return;
    }
    panel(ui, "Needs attention", |ui| {
        for problem in &model.view.problems {
            ui.label(RichText::new(problem).color(theme::PROBLEM));
        }
    });
}

fn columns(ui: &mut Ui, model: &Model<'_>, out: &mut Vec<Command>) {
    if ui.available_width() < NARROW {
        left(ui, model, out);
        right(ui, model, out);
        return;
    }
    ui.columns(2, |columns| {
        if let [a, b] = columns {
            left(a, model, out);
            right(b, model, out);
        }
    });
}

fn left(ui: &mut Ui, model: &Model<'_>, out: &mut Vec<Command>) {
    panel(ui, "STEMS", |ui| panels::stems(ui, model, out));
    panel(ui, "ANALYSIS", |ui| panels::analysis(ui, model, out));
}

fn right(ui: &mut Ui, model: &Model<'_>, out: &mut Vec<Command>) {
    panel(ui, "LIVE REPAIR", |ui| panels::live(ui, model, out));
    panel(ui, "OUTPUT", |ui| {
        panels::output(ui, model, out);
        ui.add_space(4.0);
        panels::level_meters(ui, model);
    });
    panel(ui, "DAMAGE NOW", |ui| panels::damage_meters(ui, model));
}
