// [main] The top of the window: name, presets, undo, ways to listen, light or dark.

use egui::{Align, Color32, ComboBox, Layout, RichText, Stroke, TextEdit, Ui, WidgetInfo, vec2};

use crate::editor::{
    controls,
    files::Want,
    history::Change,
    model::{Command, Model},
    presets::{self, Preset},
    state::State,
    theme,
};

/// What is shown while no preset was chosen, and the preset that has everything at its default.
const DEFAULT: &str = "Default";

/// Draws the row.
pub fn draw(ui: &mut Ui, model: &Model<'_>, state: &mut State, out: &mut Vec<Command>) {
    let p = theme::of(ui);
    ui.horizontal(|ui| {
        let name = RichText::new("uncook").font(theme::strong(20.0));
        ui.label(name.color(p.accent));
        ui.add_space(theme::GAP);
        preset_menu(ui, model, state, out);
        files_menu(ui, model, out);
        ui.add_space(theme::GAP);
        undo(ui, state, out);
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            listening(ui, model, state, out);
        });
    });
}

fn built_in() -> Vec<Preset> {
    let default = Preset {
        name: DEFAULT.to_owned(),
        ..Preset::default()
    };
    [default].into_iter().chain(presets::factory()).collect()
}

fn preset_menu(ui: &mut Ui, model: &Model<'_>, state: &mut State, out: &mut Vec<Command>) {
    if let Some(mut draft) = state.preset_draft.take() {
        let field = ui.add(
            TextEdit::singleline(&mut draft)
                .hint_text("name of the preset")
                .desired_width(150.0),
        );
        let field = field
            .accessible_name("Preset name")
            .on_hover_text("1 to 48 letters, digits, spaces, dots or dashes");
        let taken = built_in().iter().any(|p| p.name == draft.trim());
        let fine = Preset::is_name(&draft) && !taken;
        let save = ui
            .add_enabled(fine, egui::Button::new("Keep"))
            .on_hover_text("Keeps the present settings under this name; the same name is replaced")
            .on_disabled_hover_text(if taken {
                "A factory preset has this name: choose another"
            } else {
                "1 to 48 letters, digits, spaces, dots or dashes"
            });
        let enter = field.lost_focus() && ui.input(|i| i.key_pressed(egui::Key::Enter));
        let give_up = ui.button("Don't").on_hover_text("Keeps nothing").clicked()
            || ui.input(|i| i.key_pressed(egui::Key::Escape));
        if fine && (save.clicked() || enter) {
            let after = Preset::of(model.params, &draft);
            let before = model.presets.iter().find(|p| p.name == after.name).cloned();
            let change = Change::Preset {
                before,
                named: (state.preset.clone(), after.name.clone()),
                after: Some(after),
            };
            state.history.apply("keep a preset", change, out);
        } else if !give_up {
            if !field.has_focus() && !field.lost_focus() && draft.is_empty() {
                field.request_focus();
            }
            state.preset_draft = Some(draft);
        }
        return;
    }
    let shown = if state.preset.is_empty() {
        DEFAULT
    } else {
        &state.preset
    };
    let (mut chosen, mut file) = (None, None);
    let response = ComboBox::from_id_salt("preset")
        .selected_text(shown)
        .width(150.0)
        .height(360.0)
        .show_ui(ui, |ui| {
            let p = theme::of(ui);
            let mut group = |ui: &mut Ui, title: &str, presets: &[Preset]| {
                ui.label(RichText::new(title).small().color(p.dim));
                for preset in presets {
                    let on = preset.name == shown;
                    let label = ui.selectable_label(on, &preset.name);
                    if label.on_hover_text(preset.words()).clicked() {
                        chosen = Some(preset.clone());
                    }
                }
            };
            group(ui, "Factory", &built_in());
            if !model.presets.is_empty() {
                ui.separator();
                group(ui, "Yours", model.presets);
            }
            ui.separator();
            let import = ui.button("Import…");
            let hint = "Copies a preset's file from elsewhere to yours";
            if import.on_hover_text(hint).clicked() {
                file = Some(Want::ImportPreset);
            }
            let export = ui.button("Export…");
            let hint = "Writes the present settings to a file, for another computer";
            if export.on_hover_text(hint).clicked() {
                file = Some(Want::ExportPreset(Preset::of(model.params, shown)));
            }
        })
        .response;
    let hint = "Where to start from, by kind of recording";
    controls::describe(response, "Preset", shown, hint);
    out.extend(file.map(Command::Choose));
    if let Some(mut preset) = chosen {
        if preset.name == DEFAULT {
            preset.name.clear();
        }
        preset.apply(model.params, out);
        let before = model.params.style.get();
        let after = if preset.style.is_empty() {
            before.clone()
        } else {
            preset.style.clone()
        };
        let name = format!("style of {}", preset.name);
        state
            .history
            .apply(name, Change::Style { before, after }, out);
    }
    let save = ui
        .button("Save")
        .on_hover_text("Keep the present settings as a preset of yours");
    save.widget_info(|| WidgetInfo::labeled(egui::Role::Button, true, "Save preset"));
    if save.clicked() {
        let own = model
            .presets
            .iter()
            .any(|preset| preset.name == state.preset);
        state.preset_draft = Some(if own {
            state.preset.clone()
        } else {
            String::new()
        });
    }
    let own = model.presets.iter().find(|p| p.name == state.preset);
    if let Some(preset) = own {
        let delete = ui
            .button("Delete")
            .on_hover_text("Delete this preset's file; undo brings it back");
        delete.widget_info(|| WidgetInfo::labeled(egui::Role::Button, true, "Delete preset"));
        if delete.clicked() {
            let change = Change::Preset {
                before: Some(preset.clone()),
                after: None,
                named: (state.preset.clone(), String::new()),
            };
            state.history.apply("delete a preset", change, out);
        }
    }
}

/// What goes with the project: its repair files.
fn files_menu(ui: &mut Ui, model: &Model<'_>, out: &mut Vec<Command>) {
    let missing = model.view.missing.len();
    let menu = ui.menu_button("Files", |ui| {
        let any = !model.view.takes.is_empty() || missing > 0;
        let collect = ui
            .add_enabled(any, egui::Button::new("Collect…"))
            .on_hover_text(
                "Copies the repair files of this project into a folder, to take the project to another computer \
                 or an archive",
            )
            .on_disabled_hover_text("Nothing is repaired yet: there are no files to copy");
        if collect.clicked() {
            out.push(Command::Choose(Want::CollectFolder));
        }
        let relink = ui
            .add_enabled(missing > 0, egui::Button::new("Relink…"))
            .on_hover_text("Finds repair files that are missing in a folder of yours, and those in it")
            .on_disabled_hover_text("No repair file is missing");
        if relink.clicked() {
            out.push(Command::Choose(Want::RelinkFolder));
        }
    });
    menu.response
        .on_hover_text("The project's repair files: copy them elsewhere, find missing ones");
}

/// A button with an arrow that turns back, or forth.
fn undo(ui: &mut Ui, state: &mut State, out: &mut Vec<Command>) {
    let words = |verb: &str, name: Option<&str>| match name {
        Some(name) => format!("{verb}: {name}"),
        None => format!("Nothing to {}", verb.to_lowercase()),
    };
    let keys = ui.ctx().text_edit_focused();
    let (undo_key, redo_key) = ui.input(|i| {
        let command = i.modifiers.command && !keys;
        let z = command && i.key_pressed(egui::Key::Z);
        let y = command && i.key_pressed(egui::Key::Y);
        (z && !i.modifiers.shift, y || (z && i.modifiers.shift))
    });
    let mut button = |text: &str, verb: &str, name: Option<String>, key: &str| {
        let enabled = name.is_some();
        let hint = format!("{} ({key})", words(verb, name.as_deref()));
        let response = ui
            .add_enabled(enabled, egui::Button::new(text).min_size(vec2(28.0, 24.0)))
            .on_hover_text(&hint)
            .on_disabled_hover_text(&hint);
        response.widget_info(|| WidgetInfo::labeled(egui::Role::Button, enabled, verb));
        response.clicked()
    };
    let undo = button(
        "↩",
        "Undo",
        state.history.undo_name().map(str::to_owned),
        "Ctrl+Z",
    );
    let redo = button(
        "↪",
        "Redo",
        state.history.redo_name().map(str::to_owned),
        "Ctrl+Y",
    );
    if undo || undo_key {
        state.history.undo(out);
    }
    if redo || redo_key {
        state.history.redo(out);
    }
}

fn listening(ui: &mut Ui, model: &Model<'_>, state: &mut State, out: &mut Vec<Command>) {
    let p = theme::of(ui);
    let params = model.params;
    let name = if state.light {
        "Dark colours"
    } else {
        "Light colours"
    };
    let light = ui.add(egui::Button::new("").min_size(vec2(28.0, 24.0)));
    half_moon(ui, light.rect, p.text);
    let light = light.on_hover_text(name);
    light.widget_info(|| WidgetInfo::labeled(egui::Role::Button, true, name));
    if light.clicked() {
        let after = !state.light;
        state.history.apply("colours", Change::Light { after }, out);
    }
    let hint = "Hear the input as the plugin receives it";
    controls::toggle(ui, "Bypass", hint, p.warning, &params.bypass, out);
    let hint = "Hear only what is changed";
    controls::toggle(ui, "Delta", hint, p.warning, &params.listen.delta, out);
    let a = params.listen.compare.value();
    let hint =
        "A is the input at the output's loudness, so that louder does not win; B is the repair";
    if controls::either(ui, "A/B", ["A input", "B repaired"], hint, !a) {
        controls::change(&params.listen.compare, if a { 0.0 } else { 1.0 }, out);
    }
}

/// A disc, half of it filled: light and dark.
fn half_moon(ui: &Ui, rect: egui::Rect, colour: Color32) {
    let middle = rect.center();
    let radius = 5.0;
    let painter = ui.painter();
    painter.circle_stroke(middle, radius, Stroke::new(1.25, colour));
    let half = (0..=12)
        .map(|i| {
            let angle = std::f32::consts::PI * (0.5 + i as f32 / 12.0);
            middle + radius * vec2(angle.cos(), angle.sin())
        })
        .collect();
    painter.add(egui::Shape::convex_polygon(half, colour, Stroke::NONE));
}
