// [main] The panels: job, stems, meters, parameters.

use egui::{
    Align, Button, CornerRadius, Frame, Layout, Margin, ProgressBar, Rect, RichText, Sense, Stroke,
    TextEdit, Ui, vec2,
};

use crate::{
    damage::{DEFAULT_THRESHOLD, DamageKind, Stem},
    editor::{
        controls,
        model::{Command, Model, SILENCE_DB},
        status, theme, waveform,
    },
    worker::view::TakeState,
};

/// Width of parameter labels.
const LABEL: f32 = 112.0;

/// A titled box.
pub fn panel<R>(ui: &mut Ui, title: &str, add: impl FnOnce(&mut Ui) -> R) -> R {
    Frame::new()
        .fill(theme::PANEL)
        .stroke(Stroke::new(1.0, theme::LINE))
        .corner_radius(CornerRadius::same(theme::RADIUS))
        .inner_margin(Margin::same(10))
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            if !title.is_empty() {
                ui.label(RichText::new(title).small().color(theme::TEXT_DIM).strong());
            }
            add(ui)
        })
        .inner
}

/// The running job, or what could be started.
pub fn job(ui: &mut Ui, model: &Model<'_>, out: &mut Vec<Command>) {
    ui.horizontal(|ui| {
        if let Some(job) = &model.view.job {
            if ui.button("Cancel").clicked() {
                out.push(Command::Cancel);
            }
            let mut text = format!("{} – {:.0} %", job.step, 100.0 * job.done);
            if job.ahead > 0 {
                text.push_str(&format!(", {} before it", job.ahead));
            } else if let Some(seconds) = job.seconds_left {
                text.push_str(&format!(", {}", status::left(seconds)));
            }
            ui.add(
                ProgressBar::new(job.done as f32)
                    .fill(theme::ACCENT_DIM)
                    .text(text),
            );
            return;
        }
        let takes = &model.view.takes;
        let can_analyse = !takes.is_empty() && model.sample_rate.is_some();
        let analyse = Button::new(RichText::new("Analyse").strong()).fill(theme::ACCENT_DIM);
        if ui
            .add_enabled(can_analyse, analyse)
            .on_hover_text("Measure what was captured, and rebuild the damaged drums and bass")
            .on_disabled_hover_text("Play the song once, then it can be analysed")
            .clicked()
        {
            out.push(Command::Analyse);
        }
        if ui
            .add_enabled(!takes.is_empty(), Button::new("Clear"))
            .on_hover_text("Forget what was captured and rebuilt here; saved files stay")
            .clicked()
        {
            out.push(Command::Clear);
        }
        ui.label(RichText::new(summary(model)).color(theme::TEXT_DIM));
    });
}

fn summary(model: &Model<'_>) -> String {
    let takes = &model.view.takes;
    let seconds = |state: fn(TakeState) -> bool| -> f64 {
        takes
            .iter()
            .filter(|take| state(take.state))
            .map(|take| take.frames as f64 / f64::from(take.sample_rate.max(1)))
            .sum()
    };
    if takes.is_empty() {
        return "Nothing captured yet.".to_owned();
    }
    let mut text = format!("{} captured", status::time(seconds(|_| true)));
    let rebuilt = seconds(|state| state == TakeState::Committed);
    if rebuilt > 0.0 {
        text.push_str(&format!(", {} rebuilt", status::time(rebuilt)));
    }
    if model.view.overruns > 0 {
        text.push_str(&format!(
            ". {} samples were lost because the computer was busy; play once more to fill the gaps",
            model.view.overruns
        ));
    }
    text.push('.');
    text
}

/// Which colour means which damage, and how much of the time there is of it.
pub fn legend(ui: &mut Ui, model: &Model<'_>) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        for kind in DamageKind::ALL {
            let (mut hit, mut all) = (0.0, 0.0);
            for take in &model.view.takes {
                let frames = take.damage.frames.len() as f32;
                hit += frames * take.damage.share(kind, DEFAULT_THRESHOLD);
                all += frames;
            }
            let (rect, _) = ui.allocate_exact_size(vec2(9.0, 9.0), Sense::hover());
            ui.painter()
                .rect_filled(rect, CornerRadius::same(2), theme::damage(kind));
            let text = if hit > 0.0 && all > 0.0 {
                format!("{} {:.0} %", kind.label(), (100.0 * hit / all).max(1.0))
            } else {
                kind.label().to_owned()
            };
            let colour = if hit > 0.0 {
                theme::TEXT
            } else {
                theme::TEXT_DIM
            };
            ui.label(RichText::new(text).small().color(colour));
            ui.add_space(6.0);
        }
    });
}

/// Tempo, key and chord; then what the analysis did.
pub fn findings(ui: &mut Ui, model: &Model<'_>) {
    let take = model.current_take();
    let Some((take, findings)) = take.and_then(|t| Some((t, t.findings.as_ref()?))) else {
        return;
    };
    let pos = model.levels.position.unwrap_or(take.start);
    let seconds = pos.since(take.start) as f64 / f64::from(take.sample_rate.max(1));
    let facts = status::profile(&findings.profile, seconds);
    if !facts.is_empty() {
        ui.horizontal_wrapped(|ui| {
            for (name, value) in facts {
                ui.label(RichText::new(name).color(theme::TEXT_DIM));
                ui.label(RichText::new(value).strong());
                ui.add_space(10.0);
            }
        });
    }
    for line in &findings.lines {
        ui.label(RichText::new(line).color(theme::TEXT_DIM));
    }
}

/// One row a stem: name, damage over time, reason, blend.
pub fn stems(ui: &mut Ui, model: &Model<'_>, out: &mut Vec<Command>) {
    let findings = model.current_take().and_then(|take| take.findings.as_ref());
    for stem in Stem::ALL {
        let found = findings.map(|f| &f.stems[stem as usize]);
        ui.horizontal(|ui| {
            let mut name = stem.name().to_owned();
            if let Some(first) = name.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            ui.allocate_ui_with_layout(
                vec2(56.0, 18.0),
                Layout::left_to_right(Align::Center),
                |ui| {
                    ui.set_min_width(56.0);
                    ui.label(RichText::new(name).strong());
                },
            );
            let frames = found.map_or(&[][..], |f| f.damage.frames.as_slice());
            waveform::strip(
                ui,
                frames,
                vec2((ui.available_width() - 54.0).max(40.0), 14.0),
            );
            let share = found.map_or(String::new(), |f| format!("{:.0} %", 100.0 * f.share));
            ui.label(RichText::new(share).color(theme::TEXT_DIM));
        });
        let (reason, colour) = match found {
            None => ("Not analysed yet", theme::TEXT_DIM),
            Some(f) if f.reason.is_empty() => ("No damage found", theme::TEXT_DIM),
            Some(f) => (
                f.reason.as_str(),
                f.kind.map_or(theme::TEXT_DIM, theme::damage),
            ),
        };
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new(reason).small().color(colour));
            if found.is_some_and(|f| f.rebuilt) {
                ui.label(RichText::new("rebuilt").small().color(theme::ACCENT));
            }
        });
        let rebuilt = found.is_some_and(|f| f.rebuilt);
        controls::slider(ui, "Blend", 56.0, model.params.blend(stem), out).on_hover_text(
            if rebuilt {
                "0 % keeps the recorded stem, 100 % plays the rebuilt one"
            } else {
                "Takes effect where this stem has been rebuilt"
            },
        );
        ui.add_space(4.0);
    }
    ui.separator();
    controls::slider(
        ui,
        "All stems",
        56.0 + 10.0,
        &model.params.stems.master,
        out,
    )
    .on_hover_text("Scales all four blends; 0 % plays the repaired recording, nothing rebuilt");
}

/// Damage of the incoming audio right now.
pub fn damage_meters(ui: &mut Ui, model: &Model<'_>) {
    for kind in DamageKind::ALL {
        let severity = model.levels.severity[kind as usize];
        meter(
            ui,
            kind.label(),
            severity,
            theme::damage(kind),
            &format!("{:.0} %", 100.0 * severity),
        );
    }
}

/// Peaks and gain reduction.
pub fn level_meters(ui: &mut Ui, model: &Model<'_>) {
    let share = |db: f32| (1.0 - db / SILENCE_DB).clamp(0.0, 1.0);
    let text = |db: f32| {
        if db <= SILENCE_DB {
            "–∞ dB".to_owned()
        } else {
            format!("{db:.1} dB")
        }
    };
    let colour = |db: f32| {
        if db > -0.1 {
            theme::PROBLEM
        } else {
            theme::ACCENT
        }
    };
    let levels = model.levels;
    let (input, output) = (levels.input_db, levels.output_db);
    meter(ui, "Input", share(input), colour(input), &text(input));
    meter(ui, "Output", share(output), colour(output), &text(output));
    meter(
        ui,
        "Limiter",
        (levels.limiter_db / 12.0).clamp(0.0, 1.0),
        theme::WARNING,
        &format!("{:.1} dB", levels.limiter_db),
    );
}

fn meter(ui: &mut Ui, label: &str, share: f32, colour: egui::Color32, value: &str) {
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 16.0), Sense::hover());
    response.widget_info(|| {
        egui::WidgetInfo::labeled(
            egui::Role::ProgressIndicator,
            true,
            format!("{label} {value}"),
        )
    });
    let painter = ui.painter();
    let font = egui::FontId::proportional(11.0);
    let (left, right) = (rect.left() + 96.0, rect.right() - 56.0);
    painter.text(
        rect.left_center(),
        egui::Align2::LEFT_CENTER,
        label,
        font.clone(),
        theme::TEXT,
    );
    let track = Rect::from_x_y_ranges(
        left..=right.max(left + 10.0),
        rect.center().y - 3.0..=rect.center().y + 3.0,
    );
    painter.rect_filled(track, CornerRadius::same(3), theme::WELL);
    if share > 0.0 {
        let mut fill = track;
        fill.set_width(track.width() * share);
        painter.rect_filled(fill, CornerRadius::same(3), colour);
    }
    painter.text(
        rect.right_center(),
        egui::Align2::RIGHT_CENTER,
        value,
        font,
        theme::TEXT_DIM,
    );
}

/// The live chain's intensities.
pub fn live(ui: &mut Ui, model: &Model<'_>, out: &mut Vec<Command>) {
    let p = &model.params.live;
    for (name, param, hint) in [
        (
            "Declip",
            &p.declip,
            "Rebuilds flat tops of overloaded peaks",
        ),
        ("Declick", &p.declick, "Removes clicks and crackle"),
        (
            "Denoise",
            &p.denoise,
            "Lowers steady noise; high values thin out quiet tails",
        ),
        (
            "EQ match",
            &p.eq_match,
            "Pulls the tone towards that of a finished mix",
        ),
        (
            "Bass",
            &p.bass,
            "Brings back 40–100 Hz that the microphone lost",
        ),
        (
            "Treble",
            &p.treble,
            "Brings back 8–20 kHz that microphone or codec lost",
        ),
        (
            "Early reflections",
            &p.dereverb_early,
            "Lowers the boxy sound of near walls",
        ),
        (
            "Late reverb",
            &p.dereverb_late,
            "Lowers the tail of the room",
        ),
    ] {
        controls::slider(ui, name, LABEL, param, out).on_hover_text(hint);
    }
}

/// Amount, mix, gain, limiter.
pub fn output(ui: &mut Ui, model: &Model<'_>, out: &mut Vec<Command>) {
    let p = model.params;
    controls::slider(ui, "Repair", LABEL, &p.repair, out)
        .on_hover_text("Overall amount of everything; at 0 % the input comes out");
    controls::slider(ui, "Mix", LABEL, &p.output.mix, out)
        .on_hover_text("0 % is the input, 100 % the repaired signal");
    controls::slider(ui, "Output gain", LABEL, &p.output.gain, out)
        .on_hover_text("Gain of the repaired signal, before the mix");
    controls::slider(ui, "Ceiling", LABEL, &p.output.ceiling, out)
        .on_hover_text("The limiter keeps true peaks that the repair adds below this");
    ui.horizontal(|ui| {
        let hint = "Keeps peaks that the repair adds below the ceiling; the input's own peaks pass";
        controls::toggle(ui, "Limiter", hint, theme::ACCENT, &p.output.limiter, out);
    });
}

/// What the background analysis does.
pub fn analysis(ui: &mut Ui, model: &Model<'_>, out: &mut Vec<Command>) {
    let p = &model.params.analysis;
    let row = |ui: &mut Ui, label: &str, hint: &str, add: &mut dyn FnMut(&mut Ui)| {
        ui.horizontal(|ui| {
            let size = vec2(LABEL, 22.0);
            ui.allocate_ui_with_layout(size, Layout::left_to_right(Align::Center), |ui| {
                ui.set_min_width(LABEL);
                ui.label(label).on_hover_text(hint);
            });
            add(ui);
        });
    };
    row(
        ui,
        "Capture",
        "When input is captured and analysed",
        &mut |ui| {
            controls::choice(ui, "capture", &p.capture, out);
        },
    );
    row(
        ui,
        "Quality",
        "How much work goes into the offline repair",
        &mut |ui| {
            controls::choice(ui, "quality", &p.quality, out);
        },
    );
    row(
        ui,
        "Separator",
        "Who separates the instruments",
        &mut |ui| {
            controls::choice(ui, "separator", &p.separator, out);
        },
    );
    row(
        ui,
        "Regenerator",
        "Who rebuilds damaged drums and bass",
        &mut |ui| {
            controls::choice(ui, "regenerator", &p.regenerator, out);
        },
    );
    controls::slider(ui, "Seed", LABEL, &p.seed, out)
        .on_hover_text("Another number gives another, equally valid rebuild");
    row(
        ui,
        "Style",
        "Your words about the sound, for regenerators that read them",
        &mut |ui| style(ui, model, out),
    );
}

/// The style text is handed over when the field is left: jobs shouldn't see half a word.
fn style(ui: &mut Ui, model: &Model<'_>, out: &mut Vec<Command>) {
    let id = egui::Id::unique("uncook-style");
    let stored = model.params.style.get();
    let mut text: String = ui
        .data(|d| d.get_temp(id))
        .unwrap_or_else(|| stored.clone());
    let field = ui.add(
        TextEdit::singleline(&mut text)
            .id(id.with("field"))
            .hint_text("dry, close-miked drums")
            .desired_width(f32::INFINITY),
    );
    if field.has_focus() {
        ui.data_mut(|d| d.insert_temp(id, text));
    } else {
        ui.data_mut(|d| d.remove_temp::<String>(id));
        if field.lost_focus() && text != stored {
            out.push(Command::SetStyle(text));
        }
    }
}
