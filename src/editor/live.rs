// [main] The live chain's knobs, what the analysis does, the output with its meters.

use egui::{
    Align2, CornerRadius, FontId, Label, Rect, RichText, Sense, TextEdit, Ui, WidgetInfo, vec2,
};

use crate::{
    damage::{DamageKind, Stem},
    editor::{
        controls,
        history::Change,
        model::{Command, Model, SILENCE_DB},
        state::State,
        status, stems, theme, verdict, waveform,
    },
    worker::view::{ModelView, TakeView},
};

/// Width of labels.
const LABEL: f32 = 92.0;

/// The live chain's intensities, and the damage of what comes in right now.
pub fn draw(ui: &mut Ui, model: &Model<'_>, out: &mut Vec<Command>) {
    let p = &model.params.live;
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(4.0, 8.0);
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
                "Early refl.",
                &p.dereverb_early,
                "Lowers early reflections: the boxy sound of near walls",
            ),
            (
                "Late reverb",
                &p.dereverb_late,
                "Lowers the tail of the room",
            ),
        ] {
            controls::knob(ui, name, hint, param, out);
        }
    });
    ui.add_space(4.0);
    let p = theme::of(ui);
    ui.label(theme::title(p, "DAMAGE NOW"));
    ui.spacing_mut().item_spacing.x = 3.0 * theme::GAP;
    ui.columns(2, |columns| {
        for (i, kind) in DamageKind::ALL.into_iter().enumerate() {
            let severity = model.levels.severity[kind as usize];
            let ui = &mut columns[i / 4];
            let value = format!("{:.0} %", 100.0 * severity);
            meter(ui, kind.label(), severity, p.damage(kind), &value, 92.0);
        }
    });
}

/// What the background analysis does.
pub fn analysis(ui: &mut Ui, model: &Model<'_>, state: &mut State, out: &mut Vec<Command>) {
    let params = &model.params.analysis;
    let row = |ui: &mut Ui, label: &str, add: &mut dyn FnMut(&mut Ui)| {
        ui.horizontal(|ui| {
            let (rect, _) = ui.allocate_exact_size(vec2(LABEL, 24.0), Sense::hover());
            let p = theme::of(ui);
            let font = FontId::proportional(13.0);
            ui.painter()
                .text(rect.left_center(), Align2::LEFT_CENTER, label, font, p.text);
            add(ui);
        });
    };
    row(ui, "Capture", &mut |ui| {
        let hint =
            "When input is captured, and whether it is analysed by itself when playback stops";
        let meanings = [
            "Nothing is captured: only the live repair works",
            "Captured while it plays, analysed when you press Analyse",
            "Captured while it plays, analysed when it stops",
        ];
        controls::choice(ui, "Capture mode", (hint, &meanings), &params.capture, out);
    });
    row(ui, "Quality", &mut |ui| {
        let hint = "How much work goes into the offline repair";
        let meanings = [
            "As fast as the live repair",
            "As good as it gets: about as long as the song",
        ];
        controls::choice(ui, "Quality", (hint, &meanings), &params.quality, out);
    });
    row(ui, "Separator", &mut |ui| {
        let hint = "Who separates the instruments";
        let meanings = [
            "An installed model, else the built-in one",
            "The built-in one, without a model",
            "A small built-in network: cleaner stems, but kicks and snares are heard less surely",
        ];
        controls::choice(ui, "Separator", (hint, &meanings), &params.separator, out);
    });
    for (stem, label) in [(Stem::Drums, "Drums by"), (Stem::Bass, "Bass by")] {
        row(ui, label, &mut |ui| {
            regenerator(ui, model, stem, Some(controls::LIST_WIDTH), out);
        });
    }
    if let Some(found) = &model.view.model {
        terms(ui, found, out);
    }
    controls::slider(
        ui,
        "Seed",
        ("Seed", LABEL),
        "Another number gives another, equally valid rebuild; the same number always the same",
        &params.seed,
        out,
    );
    row(ui, "Style", &mut |ui| style(ui, model, state, out));
    suggestions(ui, model, state, out);
    if model.view.overruns > 0 {
        let p = theme::of(ui);
        let text = format!(
            "{} samples were lost because the computer was busy; play once more to fill the gaps.",
            model.view.overruns
        );
        ui.label(RichText::new(text).color(p.warning));
    }
}

/// Who rebuilds a stem, in a list of this width; without one only its arrow shows.
pub fn regenerator(
    ui: &mut Ui,
    model: &Model<'_>,
    stem: Stem,
    width: Option<f32>,
    out: &mut Vec<Command>,
) {
    let Some(param) = model.params.regenerator(stem) else {
        if let Some(width) = width {
            let words = RichText::new("only restored").color(theme::of(ui).dim);
            let place = vec2(width, ui.spacing().interact_size.y);
            ui.add_sized(place, Label::new(words))
                .on_hover_text("No regenerator rebuilds this stem");
        }
        return;
    };
    let hint = "Who rebuilds this stem, in the next analysis and by Regenerate";
    let meanings = [
        "Nobody: it is only restored",
        "From its own sound, where it is damaged and that measures better",
        "The same over the whole take, for you to judge by ear",
        "A generating model, where it is damaged; see Models",
        "The same, decoded by a second model: slower, cleaner",
        "Damaged spans made anew from their own codes by a model",
    ];
    let name = format!("{} regenerator", stems::title(stem));
    controls::choice_in(ui, &name, (hint, &meanings), width, param, out);
}

/// What the chosen regenerators' models need, and their terms: shown always, asked once.
fn terms(ui: &mut Ui, found: &ModelView, out: &mut Vec<Command>) {
    let p = theme::of(ui);
    ui.label(RichText::new(found.words()).color(p.text));
    for terms in &found.terms {
        ui.label(RichText::new(terms).small().color(p.dim));
    }
    let hint = "You have read the terms above and accept them, for every project on this computer";
    let accept = (!found.accepted).then(|| ui.button("Accept these terms").on_hover_text(hint));
    if accept.is_some_and(|button| button.clicked()) {
        out.push(Command::AcceptTerms);
    }
}

/// The style text is handed over when the field is left: jobs shouldn't see half a word.
fn style(ui: &mut Ui, model: &Model<'_>, state: &mut State, out: &mut Vec<Command>) {
    let id = egui::Id::unique("uncook-style");
    let stored = model.params.style.get();
    let mut text: String = ui
        .data(|d| d.get_temp(id))
        .unwrap_or_else(|| stored.clone());
    let field = ui
        .add(
            TextEdit::singleline(&mut text)
                .id(id.with("field"))
                .hint_text("dry, close-miked drums")
                .desired_width(f32::INFINITY),
        )
        .accessible_name("Style")
        .on_hover_text("Your words about the sound, for regenerators that read them");
    if field.has_focus() {
        ui.data_mut(|d| d.insert_temp(id, text));
    } else {
        ui.data_mut(|d| d.remove_temp::<String>(id));
        if field.lost_focus() {
            let change = Change::Style {
                before: stored,
                after: text,
            };
            state.history.apply("style", change, out);
        }
    }
}

/// Words from the profile, one click each.
fn suggestions(ui: &mut Ui, model: &Model<'_>, state: &mut State, out: &mut Vec<Command>) {
    let Some(findings) = model.current_take().and_then(|t| t.findings.as_ref()) else {
        return;
    };
    let stored = model.params.style.get();
    // Under the field, however many lines they take.
    let mut room = ui.available_rect_before_wrap();
    room.min.x += LABEL + ui.spacing().item_spacing.x;
    let layout = egui::Layout::left_to_right(egui::Align::Min).with_main_wrap(true);
    let under = egui::UiBuilder::new().max_rect(room).layout(layout);
    ui.scope_builder(under, |ui| {
        for words in status::style_words(&findings.profile) {
            if stored.contains(&words) {
                continue;
            }
            let button = ui.small_button(&words).on_hover_text("Add to the style");
            button.widget_info(|| {
                WidgetInfo::labeled(egui::Role::Button, true, format!("Add {words}"))
            });
            if button.clicked() {
                let after = if stored.is_empty() {
                    words.clone()
                } else {
                    format!("{stored}, {words}")
                };
                let before = stored.clone();
                let name = format!("style: {words}");
                state
                    .history
                    .apply(name, Change::Style { before, after }, out);
            }
        }
    });
}

/// Which colour means which damage, and how much of the time there is of it: what there is, else all there could be.
pub fn legend(ui: &mut Ui, model: &Model<'_>) {
    let p = theme::of(ui);
    ui.spacing_mut().item_spacing.x = 5.0;
    let seconds = |t: &TakeView| t.frames as f32 / t.sample_rate.max(1) as f32;
    let all: f32 = model.view.takes.iter().map(seconds).sum();
    let share = |kind: DamageKind| -> f32 {
        let hit = |take: &TakeView| take.shares[kind as usize] * seconds(take);
        model.view.takes.iter().map(hit).sum::<f32>() / all.max(f32::MIN_POSITIVE)
    };
    let mut kinds: Vec<(DamageKind, f32)> =
        DamageKind::ALL.map(|kind| (kind, share(kind))).to_vec();
    let any = kinds.iter().any(|(_, share)| *share > 0.0);
    if any {
        kinds.retain(|(_, share)| *share > 0.0);
        kinds.sort_by(|a, b| b.1.total_cmp(&a.1));
    }
    for (kind, share) in kinds {
        waveform::swatch(ui, p, kind);
        let (text, colour) = if any {
            let text = format!("{} {}", kind.label(), verdict::share_words(share));
            let loud = share >= verdict::MIN_SHARE;
            (text, if loud { p.text } else { p.dim })
        } else {
            (kind.label().to_owned(), p.dim)
        };
        ui.label(RichText::new(text).small().color(colour));
        ui.add_space(theme::GAP);
    }
}

/// Amount, mix, gain, limiter and levels: the bottom of the window.
pub fn output(ui: &mut Ui, model: &Model<'_>, out: &mut Vec<Command>) {
    let params = model.params;
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = 10.0;
        for (name, hint, param) in [
            (
                "Repair",
                "Overall amount of everything; at 0 % the input comes out",
                &params.repair,
            ),
            (
                "Mix",
                "0 % is the input, 100 % the repaired signal",
                &params.output.mix,
            ),
            (
                "Gain",
                "Gain of the repaired signal, before the mix",
                &params.output.gain,
            ),
            (
                "Ceiling",
                "The limiter keeps true peaks that the repair adds below this",
                &params.output.ceiling,
            ),
        ] {
            controls::knob(ui, name, hint, param, out);
        }
        ui.add_space(4.0);
        let p = theme::of(ui);
        let hint = "Keeps peaks that the repair adds below the ceiling; the input's own peaks pass";
        controls::toggle(ui, "Limiter", hint, p.accent, &params.output.limiter, out);
        ui.add_space(10.0);
        ui.vertical(|ui| {
            ui.add_space(10.0);
            level_meters(ui, model);
        });
    });
}

fn level_meters(ui: &mut Ui, model: &Model<'_>) {
    let p = theme::of(ui);
    let share = |db: f32| (1.0 - db / SILENCE_DB).clamp(0.0, 1.0);
    let text = |db: f32| {
        if db <= SILENCE_DB {
            "silent".to_owned()
        } else {
            format!("{db:.1} dB")
        }
    };
    let colour = |db: f32| if db > -0.1 { p.problem } else { p.accent };
    let levels = model.levels;
    let (input, output) = (levels.input_db, levels.output_db);
    let width = 60.0;
    let top = ui.cursor().top();
    let mut track = meter(
        ui,
        "Input",
        share(input),
        colour(input),
        &text(input),
        width,
    );
    let of_output = (share(output), colour(output));
    let below = meter(ui, "Output", of_output.0, of_output.1, &text(output), width);
    // A scale for both: every 12 dB.
    track.max.y = below.bottom();
    for db in [-60.0, -48.0, -36.0, -24.0, -12.0] {
        let x = track.left() + share(db) * track.width();
        for y in [
            track.top()..=track.top() + 6.0,
            track.bottom() - 6.0..=track.bottom(),
        ] {
            let stroke = egui::Stroke::new(1.0, p.panel);
            ui.painter().vline(x, y, stroke);
        }
        let font = FontId::proportional(9.0);
        let at = egui::pos2(x, top - 1.0);
        let name = format!("{db:.0}");
        (ui.painter()).text(at, Align2::CENTER_BOTTOM, name, font, p.dim);
    }
    let reduction = (levels.limiter_db / 12.0).clamp(0.0, 1.0);
    let words = format!("{:.1} dB", levels.limiter_db);
    meter(ui, "Limiting", reduction, p.warning, &words, width);
}

/// A bar with its name and its value. Returns where the bar is.
fn meter(
    ui: &mut Ui,
    label: &str,
    share: f32,
    colour: egui::Color32,
    value: &str,
    width: f32,
) -> Rect {
    let size = vec2(ui.available_width(), 17.0);
    let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
    let response = response.on_hover_text(format!("{label}: {value}"));
    response.widget_info(|| {
        let mut info = WidgetInfo::labeled(egui::Role::Meter, true, label);
        info.current_text_value = Some(value.to_owned());
        info
    });
    let p = theme::of(ui);
    let painter = ui.painter();
    let font = FontId::proportional(11.0);
    let (left, right) = (rect.left() + width, rect.right() - 52.0);
    painter.text(
        rect.left_center(),
        Align2::LEFT_CENTER,
        label,
        font.clone(),
        p.text,
    );
    let y = rect.center().y;
    let track = Rect::from_x_y_ranges(left..=right.max(left + 10.0), y - 3.0..=y + 3.0);
    painter.rect_filled(track, CornerRadius::same(3), p.well);
    if share > 0.0 {
        let mut fill = track;
        fill.set_width(track.width() * share);
        painter.rect_filled(fill, CornerRadius::same(3), colour);
    }
    painter.text(
        rect.right_center(),
        Align2::RIGHT_CENTER,
        value,
        font,
        p.dim,
    );
    track
}
