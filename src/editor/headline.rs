// [main] What is said first: the verdict in plain words, what is going on, and the one button that comes next.

use egui::{
    Align, Color32, CornerRadius, FontId, Label, Layout, Rect, RichText, Sense, Ui, WidgetInfo,
    WidgetText, pos2, vec2,
};
use nice_plug::prelude::Param;

use crate::{
    editor::{
        controls,
        history::Change,
        model::{Command, Model},
        plan::Plan,
        state::State,
        status,
        theme::{self, Palette},
        verdict,
    },
    worker::{
        options::CaptureMode,
        view::{JobView, TakeState, TakeView},
    },
};

/// Height of the row, unless the words need more.
pub const HEIGHT: f32 = 44.0;
/// Size of the one button, of the one beside it, and of the progress in their place.
const NEXT: egui::Vec2 = vec2(124.0, 34.0);
const BESIDE: egui::Vec2 = vec2(64.0, 34.0);
const PROGRESS: f32 = 300.0;
/// Width of the bar in the colour of the verdict, with the air beside it.
const BAR: f32 = 4.0;
const AIR: f32 = 10.0;

/// Draws the row.
pub fn draw(ui: &mut Ui, model: &Model<'_>, state: &mut State, out: &mut Vec<Command>) {
    let room = ui.available_rect_before_wrap();
    let mut right = if model.view.job.is_some() {
        PROGRESS + theme::GAP + 84.0
    } else {
        NEXT.x + theme::GAP + BESIDE.x
    };
    right = right.min(0.6 * room.width());
    let words = Rect::from_min_size(
        room.min,
        vec2((room.width() - right - 2.0 * theme::GAP).max(40.0), HEIGHT),
    );
    let height = said(ui, words, model, state).max(HEIGHT);
    let doing = Rect::from_min_max(
        pos2(words.right() + 2.0 * theme::GAP, room.top()),
        pos2(room.right(), room.top() + height),
    );
    let mut side = ui.new_child(
        egui::UiBuilder::new()
            .max_rect(doing)
            .layout(Layout::right_to_left(Align::Center)),
    );
    side.spacing_mut().item_spacing.x = theme::GAP;
    next_step(&mut side, model, state, out);
    ui.advance_cursor_after_rect(Rect::from_min_size(room.min, vec2(room.width(), height)));
}

/// The verdict over the status. Returns the height that they take.
fn said(ui: &mut Ui, rect: Rect, model: &Model<'_>, state: &mut State) -> f32 {
    let p = theme::of(ui);
    let (colour, verdict) = verdict(p, model, &state.plan.of(model.current_take()));
    let inside = Rect::from_min_max(rect.min + vec2(BAR + AIR, 0.0), rect.max);
    let mut ui = ui.new_child(
        egui::UiBuilder::new()
            .max_rect(inside)
            .layout(Layout::top_down(Align::Min)),
    );
    ui.spacing_mut().item_spacing.y = 3.0;
    let fits = fitting(&ui, &verdict, inside.width());
    let words = RichText::new(fits)
        .font(theme::strong(theme::HEADLINE))
        .color(p.text);
    let whole = verdict.join(" ");
    let title = ui.add(Label::new(words).wrap());
    title.widget_info(|| WidgetInfo::labeled(egui::Role::Label, true, &whole));
    title.on_hover_text(verdict.join("\n"));
    ui.horizontal_top(|ui| {
        let (colour, text) = status::line(p, model);
        let (dot, _) = ui.allocate_exact_size(vec2(8.0, 16.0), Sense::hover());
        ui.painter().circle_filled(dot.center(), 4.0, colour);
        ui.add(Label::new(RichText::new(text).color(p.dim)).wrap());
    });
    let height = ui.min_rect().height();
    let bar = Rect::from_min_size(rect.min, vec2(BAR, height.max(HEIGHT - 4.0)));
    ui.painter().rect_filled(bar, CornerRadius::same(2), colour);
    height
}

/// The colour of what hurts most, and what is wrong, a sentence each.
fn verdict(p: &Palette, model: &Model<'_>, plan: &Plan) -> (Color32, Vec<String>) {
    let plain = |colour: Color32, words: &str| (colour, vec![words.to_owned()]);
    let capture = model.params.analysis.capture.value();
    let Some(take) = model.current_take() else {
        return match capture {
            CaptureMode::Off => plain(p.line, "Capture is off: nothing is judged."),
            _ => plain(p.line, "Play the song to see what is wrong with it."),
        };
    };
    if take.findings.is_none() {
        let hurt = take.shares.iter().any(|s| *s >= verdict::MIN_SHARE);
        let colour = if hurt { p.warning } else { p.line };
        return match take.state {
            TakeState::Failed => plain(
                p.problem,
                "The analysis failed. Press Analyse to try again.",
            ),
            _ => (colour, vec![verdict::so_far(take)]),
        };
    }
    match plan.wrongs.first() {
        None => plain(p.accent, "No damage found."),
        Some(worst) => (
            p.damage(worst.kind),
            plan.wrongs
                .iter()
                .map(|wrong| wrong.words.clone())
                .collect(),
        ),
    }
}

/// As many whole sentences as a line has room for, and how many more there are.
fn fitting(ui: &Ui, sentences: &[String], width: f32) -> String {
    let wide = |text: &str| {
        let font = theme::strong(theme::HEADLINE);
        let galley = ui
            .painter()
            .layout_no_wrap(text.to_owned(), font, Color32::WHITE);
        galley.size().x > width
    };
    let told = |count: usize| {
        let mut text = sentences[..count].join(" ");
        match sentences.len() - count {
            0 => {}
            more => text.push_str(&format!(" And {more} more.")),
        }
        text
    };
    // More than three are a list, not a glance.
    let most = sentences.len().min(3);
    (1..=most)
        .rev()
        .map(told)
        .find(|text| !wide(text))
        .unwrap_or_else(|| told(most.min(1)))
}

/// The one button: what comes next on the way from capture to repair. From right to left.
fn next_step(ui: &mut Ui, model: &Model<'_>, state: &mut State, out: &mut Vec<Command>) {
    let p = theme::of(ui);
    let capture = &model.params.analysis.capture;
    let takes = &model.view.takes;
    let fresh = |take: &TakeView| {
        matches!(
            take.state,
            TakeState::Captured | TakeState::Capturing | TakeState::Failed
        )
    };
    let big = |text: &str, filled: bool| {
        let rich = RichText::new(text).font(theme::strong(14.0));
        let button = if filled {
            egui::Button::new(rich.color(p.on_accent)).fill(p.accent)
        } else {
            egui::Button::new(rich)
        };
        button.corner_radius(CornerRadius::same(theme::RADIUS))
    };
    if let Some(job) = &model.view.job {
        let cancel = big("Cancel", false).min_size(vec2(84.0, NEXT.y));
        if ui
            .add(cancel)
            .on_hover_text("Stops the analysis; what was captured stays")
            .clicked()
        {
            out.push(Command::Cancel);
        }
        progress(ui, job, &model.view.place);
        return;
    }
    if takes.is_empty() && capture.value() == CaptureMode::Off {
        let clicked = ui
            .add(big("Capture", true).min_size(NEXT))
            .on_hover_text("Listen while the song plays, so that it can be analysed")
            .clicked();
        if clicked {
            controls::change(
                capture,
                capture.preview_normalized(CaptureMode::Automatic),
                out,
            );
        }
        return;
    }
    let can_analyse = !takes.is_empty() && model.sample_rate.is_some();
    let is_next = can_analyse && takes.iter().any(fresh);
    if ui
        .add_enabled(can_analyse, big("Analyse", is_next).min_size(NEXT))
        .on_hover_text("Measure what was captured, and rebuild the damaged drums and bass")
        .on_disabled_hover_text("Play the song once, then it can be analysed")
        .clicked()
    {
        out.push(Command::Analyse);
    }
    let clear = egui::Button::new("Clear")
        .min_size(BESIDE)
        .corner_radius(CornerRadius::same(theme::RADIUS));
    if ui
        .add_enabled(!takes.is_empty(), clear)
        .on_hover_text(
            "Forget what was captured and rebuilt here. Undo brings rebuilt audio back; what was captured has to be \
             played once more",
        )
        .on_disabled_hover_text("Nothing was captured yet")
        .clicked()
    {
        state.history.apply("clear", Change::Clear, out);
    }
}

/// A job's step, how much of it is done, and how long it takes.
fn progress(ui: &mut Ui, job: &JobView, place: &str) {
    let p = theme::of(ui);
    let mut text = format!("{} – {:.0} %", job.step, 100.0 * job.done);
    if job.ahead > 0 {
        text.push_str(&format!(", {} before it", job.ahead));
    } else if let Some(seconds) = job.seconds_left {
        text.push_str(&format!(", {}", status::left(seconds)));
    }
    let size = vec2(PROGRESS.min(ui.available_width()), 34.0);
    let (rect, bar) = ui.allocate_exact_size(size, Sense::hover());
    bar.widget_info(|| {
        let mut info = WidgetInfo::labeled(egui::Role::ProgressIndicator, true, "Analysis");
        info.current_text_value = Some(text.clone());
        info
    });
    let words: WidgetText = RichText::new(&text)
        .font(FontId::proportional(12.0))
        .color(p.text)
        .into();
    let wrap = Some(egui::TextWrapMode::Truncate);
    let galley = words.into_galley(ui, wrap, rect.width(), egui::TextStyle::Small);
    let painter = ui.painter();
    painter.galley(rect.min + vec2(0.0, 4.0), galley, p.text);
    let track = Rect::from_min_max(pos2(rect.left(), rect.bottom() - 10.0), rect.max)
        .shrink2(vec2(0.0, 2.0));
    painter.rect_filled(track, CornerRadius::same(3), p.well);
    let mut done = track;
    done.set_width((track.width() * job.done.clamp(0.0, 1.0) as f32).max(6.0));
    painter.rect_filled(done, CornerRadius::same(3), p.accent);
    if place.is_empty() {
        bar.on_hover_text(text);
    } else {
        bar.on_hover_text(format!("{text}\n{place}"));
    }
}
