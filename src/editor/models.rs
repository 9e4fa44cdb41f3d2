// [main] The models: what there is, how large, under which terms, where; fetch, add, check, remove.

use std::path::PathBuf;

use egui::{ProgressBar, RichText, TextEdit, Ui, WidgetInfo, vec2};

use crate::{
    editor::{
        files::Want,
        model::{Command, Model},
        state::State,
        theme,
    },
    worker::shelf::{ModelRow, ModelState, Order, Secret, ShelfView, Work, size},
};

/// What the panel remembers between two pictures.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The folder that is being typed.
    folder: String,
    /// The token that is being typed. Never stored.
    token: String,
    /// The model whose removal was asked for once.
    removing: Option<String>,
}

/// Licences of what is built in.
const LICENCES: &str = "Built in: separation, resynthesis and the ears of the profile; no download. Uncook: MIT or \
                        Apache-2.0. Interface: egui (MIT or Apache-2.0), nice-plug (ISC). Typefaces: Inter \
                        and Noto Emoji (OFL), Ubuntu (Ubuntu font licence), Hack (MIT).";

/// The panel.
pub fn draw(ui: &mut Ui, model: &Model<'_>, state: &mut State, out: &mut Vec<Command>) {
    let p = theme::of(ui);
    let Some(shelf) = model.shelf else {
        let words = "This build has no models. Everything that is built in works without.";
        ui.label(RichText::new(words).color(p.dim));
        licences(ui);
        return;
    };
    let memory = &mut state.models;
    work(ui, shelf, out);
    add(ui, shelf, memory, out);
    for row in &shelf.rows {
        ui.separator();
        draw_row(ui, row, shelf, memory, out);
    }
    ui.separator();
    let folder = format!("Kept in {}", shelf.folder.display());
    ui.label(RichText::new(folder).small().color(p.dim));
    if !model.view.place.is_empty() {
        ui.label(RichText::new(&*model.view.place).small().color(p.dim));
    }
    licences(ui);
}

fn licences(ui: &mut Ui) {
    let p = theme::of(ui);
    ui.label(RichText::new(LICENCES).small().color(p.dim));
}

/// What is being done, with a way out, and what became of the last order.
fn work(ui: &mut Ui, shelf: &ShelfView, out: &mut Vec<Command>) {
    let p = theme::of(ui);
    if let Some(work) = &shelf.work {
        ui.horizontal(|ui| {
            let cancel = ui
                .button("Cancel")
                .on_hover_text("Stops; what has arrived is kept, and fetching goes on there");
            cancel.widget_info(|| WidgetInfo::labeled(egui::Role::Button, true, "Cancel models"));
            if cancel.clicked() {
                out.push(Command::Models(Order::Cancel));
            }
            let text = words(work, shelf.waiting);
            let share = match work.all {
                Some(all) if all > 0 => work.done as f32 / all as f32,
                _ => 0.0,
            };
            let bar = ui.add(
                ProgressBar::new(share.clamp(0.0, 1.0))
                    .fill(p.chosen)
                    .text(RichText::new(&text).small().color(p.text)),
            );
            bar.widget_info(|| {
                let mut info =
                    WidgetInfo::labeled(egui::Role::ProgressIndicator, true, "Models progress");
                info.current_text_value = Some(text.clone());
                info
            });
        });
    } else if let Some(told) = &shelf.told {
        let colour = if told.good { p.accent } else { p.problem };
        ui.label(RichText::new(&told.text).color(colour));
    }
}

/// "Fetching htdemucs: 12 of 84 MB".
fn words(work: &Work, waiting: usize) -> String {
    let name = &work.name;
    let mut text = match work.all {
        Some(all) => format!(
            "{} {name}: {} of {}",
            work.verb,
            size(Some(work.done)),
            size(Some(all))
        ),
        None if work.done > 0 => format!("{} {name}: {}", work.verb, size(Some(work.done))),
        None => format!("{} {name}", work.verb),
    };
    if waiting > 0 {
        text.push_str(&format!(", {waiting} behind it"));
    }
    text
}

/// Installs from a folder; the token of gated models.
fn add(ui: &mut Ui, shelf: &ShelfView, memory: &mut Memory, out: &mut Vec<Command>) {
    ui.horizontal(|ui| {
        let button = vec2(78.0, 22.0);
        let choose = ui
            .add(egui::Button::new("Choose…").min_size(vec2(70.0, 22.0)))
            .on_hover_text("Choose a folder with a model's files; they are checked and copied");
        choose.widget_info(|| WidgetInfo::labeled(egui::Role::Button, true, "Choose folder"));
        if choose.clicked() {
            out.push(Command::Choose(Want::ModelFolder));
        }
        let width = (ui.available_width() - button.x - 8.0).max(60.0);
        ui.add(
            TextEdit::singleline(&mut memory.folder)
                .hint_text("or type a folder with a model's files")
                .desired_width(width),
        )
        .accessible_name("Model folder")
        .on_hover_text("Type or paste the folder's path; its files are checked and copied");
        let typed = memory.folder.trim();
        let clicked = ui
            .add_enabled(
                !typed.is_empty(),
                egui::Button::new("Add folder").min_size(button),
            )
            .on_hover_text("Checks the files in this folder and copies them")
            .on_disabled_hover_text("Type the folder's path first")
            .clicked();
        if clicked {
            out.push(Command::Models(Order::Add(PathBuf::from(typed))));
        }
    });
    if shelf.rows.iter().any(|row| row.gated) {
        ui.horizontal(|ui| {
            ui.add(
                TextEdit::singleline(&mut memory.token)
                    .password(true)
                    .hint_text("a token, for models whose host wants an account")
                    .desired_width(f32::INFINITY),
            )
            .accessible_name("Access token")
            .on_hover_text(
                "From your account on the model's page, with read access. Not stored. Empty: \
                 UNCOOK_HUB_TOKEN or HF_TOKEN of the environment",
            );
        });
    }
}

fn draw_row(
    ui: &mut Ui,
    row: &ModelRow,
    shelf: &ShelfView,
    memory: &mut Memory,
    out: &mut Vec<Command>,
) {
    let p = theme::of(ui);
    let name = &row.name;
    ui.horizontal(|ui| {
        ui.label(RichText::new(name).font(theme::strong(theme::BODY)));
        let facts = format!("{} · {}", row.purpose, size(row.bytes));
        ui.label(RichText::new(facts).small().color(p.dim));
        let (text, colour) = match row.state {
            ModelState::Installed => ("installed", p.accent),
            ModelState::Incomplete => ("incomplete", p.warning),
            ModelState::Absent => ("not installed", p.dim),
        };
        ui.label(RichText::new(text).small().color(colour));
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            buttons(ui, row, shelf, memory, out);
        });
    });
    let mut what = format!("{}.", row.what);
    if !row.needs.is_empty() {
        what.push_str(&format!(" Needs {}.", row.needs.join(", ")));
    }
    ui.label(what);
    let terms = format!("Terms: {}. {}", row.licence, row.page);
    ui.label(RichText::new(terms).small().color(p.dim));
    if let Some(place) = &row.place {
        let text = format!("In {}", place.display());
        ui.label(RichText::new(text).small().color(p.dim));
    }
}

fn buttons(
    ui: &mut Ui,
    row: &ModelRow,
    shelf: &ShelfView,
    memory: &mut Memory,
    out: &mut Vec<Command>,
) {
    let name = &row.name;
    let busy = (shelf.work.as_ref()).is_some_and(|work| work.name == *name);
    let button = |ui: &mut Ui, text: &str, hint: &str| {
        let response = ui
            .add_enabled(!busy, egui::Button::new(text))
            .on_hover_text(hint);
        let label = format!("{text} {name}");
        response.widget_info(|| WidgetInfo::labeled(egui::Role::Button, !busy, &label));
        response.clicked()
    };
    let mut order = |order| out.push(Command::Models(order));
    // From right to left.
    if row.state != ModelState::Absent {
        let sure = memory.removing.as_ref() == Some(name);
        let (text, hint) = if sure {
            ("Really remove", "Deletes its files from this computer")
        } else {
            ("Remove", "Deletes its files; asks once more")
        };
        if button(ui, text, hint) {
            if sure {
                order(Order::Remove(name.clone()));
            }
            memory.removing = (!sure).then(|| name.clone());
        }
    }
    if row.state == ModelState::Installed {
        let hint = "Reads every file and compares it with its checksum";
        if button(ui, "Verify", hint) {
            order(Order::Verify(name.clone()));
        }
    } else if row.accepted {
        let hint = "Downloads and checks its files; goes on where an earlier download ended";
        if button(ui, "Fetch", hint) {
            let token = memory.token.trim();
            let token = (row.gated && !token.is_empty()).then(|| Secret(token.to_owned()));
            order(Order::Fetch {
                name: name.clone(),
                token,
            });
        }
    } else {
        let hint = "You have read the terms below and accept them; then it can be fetched";
        if button(ui, "Accept terms", hint) {
            order(Order::Accept(name.clone()));
        }
    }
}
