// [main] Widgets for parameters. They read the parameter and return gestures; nothing is set here.
//!
//! All of them: drag sets, Shift-drag sets finely, a double-click resets, a click on the value lets it be
//! typed, arrow keys step (Shift: finely), Home and End go to the ends, and screen readers can read and set.

use egui::{
    Align2, Color32, ComboBox, CornerRadius, EventFilter, FontId, FontSelection, Id, Key, Painter,
    Pos2, Rect, Response, RichText, Role, Sense, Shape, Stroke, StrokeKind, TextEdit, Ui, Vec2,
    WidgetInfo, pos2, vec2,
};
use nice_plug::prelude::{BoolParam, Enum, EnumParam, Param};

use crate::{
    editor::{
        model::{Command, Gesture},
        theme::{self, Palette},
    },
    params,
};

/// Width of a value's text.
const VALUE_WIDTH: f32 = 54.0;
/// Height of a row.
const ROW: f32 = 22.0;
/// Share of the range that one pixel of a knob moves, and the share of that while Shift is held.
const COARSE: f32 = 1.0 / 180.0;
const FINE: f32 = 0.12;
/// Share of the range that an arrow key moves.
const STEP: f32 = 0.05;
/// A knob's width and height with its two lines of text.
pub const KNOB: Vec2 = vec2(60.0, 76.0);

/// One whole change of a parameter.
pub fn change<P: Param>(param: &P, normalized: f32, out: &mut Vec<Command>) {
    let ptr = param.as_ptr();
    out.push(Command::Gesture(Gesture::Begin(ptr)));
    out.push(Command::Gesture(Gesture::Set(ptr, normalized)));
    out.push(Command::Gesture(Gesture::End(ptr)));
}

/// What a parameter's text says, with its unit; whole percents without a decimal.
pub fn text_of<P: Param>(param: &P) -> String {
    let text = param.normalized_value_to_string(param.modulated_normalized_value(), true);
    match text.strip_suffix(".0 %") {
        Some(whole) => format!("{whole} %"),
        None => text,
    }
}

/// The number in a parameter's text: what screen readers say and set.
pub fn number_of<P: Param>(param: &P, share: f32) -> f64 {
    let text = param.normalized_value_to_string(share, false);
    text.trim().parse().unwrap_or(f64::from(share))
}

/// Snaps to the parameter's steps, so that the host hears the value that will be in force.
fn snapped<P: Param>(param: &P, share: f32) -> f32 {
    param.preview_normalized(param.preview_plain(share.clamp(0.0, 1.0)))
}

/// Share of the range that an arrow key moves: at least one step of a stepped parameter.
fn step_of<P: Param>(param: &P) -> f32 {
    let steps = param.step_count();
    steps.map_or(STEP, |count| STEP.max(1.0 / count as f32))
}

/// How a drag moves the value.
#[derive(Clone, Copy)]
enum Hand {
    /// To where the pointer is along the bar.
    Along(Rect),
    /// By as much as the pointer moves: up and right is more.
    Turning,
}

/// Turns what hands, keys and screen readers do to `response` into gestures.
fn handle<P: Param>(
    ui: &Ui,
    response: &Response,
    label: &str,
    hand: Hand,
    param: &P,
    out: &mut Vec<Command>,
) {
    let now = param.unmodulated_normalized_value();
    response.widget_info(|| {
        let mut info = WidgetInfo::slider(ui.is_enabled(), number_of(param, now), label);
        info.current_text_value = Some(text_of(param));
        info
    });
    ui.ctx().accesskit_node_builder(response.id, |node| {
        use egui::accesskit::Action;
        let (low, high) = (number_of(param, 0.0), number_of(param, 1.0));
        node.set_min_numeric_value(low);
        node.set_max_numeric_value(high);
        node.set_numeric_value_step(f64::from(step_of(param)) * (high - low));
        // AT-SPI has no place for the unit but this.
        node.set_description(text_of(param));
        node.add_action(Action::SetValue);
        node.add_action(Action::Increment);
        node.add_action(Action::Decrement);
    });

    let ptr = param.as_ptr();
    let at = |pointer: Pos2, rect: Rect| (pointer.x - rect.left()) / rect.width().max(1.0);
    if response.double_clicked() {
        change(param, param.default_normalized_value(), out);
    } else if let Hand::Along(rect) = hand
        && response.clicked()
        && let Some(pointer) = response.interact_pointer_pos()
    {
        change(param, snapped(param, at(pointer, rect)), out);
    }
    // The hand's own value, finer than the host's steps, from the start to the end of a drag.
    let held = response.id.with("held");
    if response.drag_started() {
        ui.data_mut(|data| data.insert_temp(held, now));
        out.push(Command::Gesture(Gesture::Begin(ptr)));
    }
    if response.dragged() {
        let fine = ui.input(|input| input.modifiers.shift);
        let delta = response.drag_delta();
        let before: f32 = ui.data(|data| data.get_temp(held)).unwrap_or(now);
        let target = match hand {
            Hand::Along(rect) if !fine => response.interact_pointer_pos().map(|p| at(p, rect)),
            Hand::Along(rect) => Some(before + FINE * delta.x / rect.width().max(1.0)),
            Hand::Turning => {
                let scale = if fine { FINE * COARSE } else { COARSE };
                Some(before + scale * (delta.x - delta.y))
            }
        };
        if let Some(target) = target.map(|t| t.clamp(0.0, 1.0)) {
            ui.data_mut(|data| data.insert_temp(held, target));
            let (old, new) = (snapped(param, before), snapped(param, target));
            if new != old || (response.drag_started() && new != now) {
                out.push(Command::Gesture(Gesture::Set(ptr, new)));
            }
        }
    }
    if response.drag_stopped() {
        ui.data_mut(|data| data.remove_temp::<f32>(held));
        out.push(Command::Gesture(Gesture::End(ptr)));
    }

    let mut moved = 0.0;
    let mut target = None;
    if response.has_focus() {
        let filter = EventFilter {
            horizontal_arrows: true,
            vertical_arrows: true,
            ..EventFilter::default()
        };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, filter));
        ui.input(|input| {
            let presses = |key: Key| input.num_presses(key) as f32;
            let steps = presses(Key::ArrowUp) + presses(Key::ArrowRight)
                - presses(Key::ArrowDown)
                - presses(Key::ArrowLeft);
            moved += steps * if input.modifiers.shift { 0.2 } else { 1.0 };
            if input.key_pressed(Key::Home) {
                target = Some(0.0);
            }
            if input.key_pressed(Key::End) {
                target = Some(1.0);
            }
            if input.key_pressed(Key::Delete) {
                target = Some(param.default_normalized_value());
            }
        });
    }
    ui.input(|input| {
        use egui::accesskit::{Action, ActionData};
        moved += input.num_accesskit_action_requests(response.id, Action::Increment) as f32;
        moved -= input.num_accesskit_action_requests(response.id, Action::Decrement) as f32;
        for request in input.accesskit_action_requests(response.id, Action::SetValue) {
            if let Some(ActionData::NumericValue(value)) = request.data {
                target = param.string_to_normalized_value(&value.to_string());
            }
        }
    });
    if moved != 0.0 {
        target = Some(now + moved * step_of(param));
    }
    if let Some(target) = target {
        let target = snapped(param, target);
        if target != now {
            change(param, target, out);
        }
    }
}

/// What every control says when pointed at.
fn hinted<P: Param>(response: Response, label: &str, hint: &str, param: &P) -> Response {
    response.on_hover_ui(|ui| {
        ui.set_max_width(280.0);
        let title = format!("{label}  {}", text_of(param));
        ui.label(RichText::new(title).font(theme::strong(theme::BODY)));
        if !hint.is_empty() {
            ui.label(hint);
        }
        let p = theme::of(ui);
        let reset = param.normalized_value_to_string(param.default_normalized_value(), true);
        let help = format!("Drag · Shift: fine · double-click: {reset} · click the value to type");
        ui.label(RichText::new(help).small().color(p.dim));
    })
}

/// A row of label, slider and value.
pub fn slider<P: Param>(
    ui: &mut Ui,
    name: &str,
    (label, label_width): (&str, f32),
    hint: &str,
    param: &P,
    out: &mut Vec<Command>,
) {
    ui.horizontal(|ui| {
        let p = theme::of(ui);
        if label_width > 0.0 {
            let size = vec2(label_width, ui.spacing().interact_size.y);
            let (rect, _) = ui.allocate_exact_size(size, Sense::hover());
            let font = FontSelection::Default.resolve(ui.style());
            ui.painter()
                .text(rect.left_center(), Align2::LEFT_CENTER, label, font, p.text);
        }
        let width = (ui.available_width() - VALUE_WIDTH - ui.spacing().item_spacing.x).max(40.0);
        let height = ui.spacing().interact_size.y;
        let size = vec2(width, height);
        let (rect, response) = ui.allocate_exact_size(size, Sense::click_and_drag());
        handle(ui, &response, name, Hand::Along(rect), param, out);
        if ui.is_rect_visible(rect) {
            paint_bar(ui.painter(), p, rect, &response, param);
        }
        hinted(response, name, hint, param);
        value(
            ui,
            name,
            param,
            (vec2(VALUE_WIDTH, height), Align2::RIGHT_CENTER),
            out,
        );
    });
}

/// The same for a share in percent that is no parameter of the host's: looks, feels and is read alike. 100 % is
/// what a double-click resets to. Returns the value that a hand sets.
pub fn percent(ui: &mut Ui, name: &str, width: f32, hint: &str, now: u8) -> Option<u8> {
    // A parameter for this picture only, whose gestures stay here.
    let param = params::percent(name, 1.0);
    let value = f32::from(now.min(100)) / 100.0;
    // SAFETY: the parameter lives to the end of this function, and so does what points to it.
    unsafe { param.as_ptr()._internal_set_normalized_value(value) };
    let mut asked = Vec::new();
    ui.allocate_ui_with_layout(
        vec2(width, ui.available_height()),
        egui::Layout::left_to_right(egui::Align::Center),
        |ui| slider(ui, name, ("", 0.0), hint, &param, &mut asked),
    );
    let set = asked.iter().rev().find_map(|command| match command {
        Command::Gesture(Gesture::Set(_, value)) => Some((100.0 * value).round() as u8),
        _ => None,
    });
    set.filter(|set| *set != now)
}

fn paint_bar<P: Param>(painter: &Painter, p: &Palette, rect: Rect, response: &Response, param: &P) {
    let track = Rect::from_center_size(rect.center(), vec2(rect.width(), 6.0));
    let round = CornerRadius::same(3);
    painter.rect(
        track,
        round,
        p.well,
        Stroke::new(1.0, p.line),
        StrokeKind::Outside,
    );
    let x = |share: f32| track.left() + share.clamp(0.0, 1.0) * track.width();
    let shown = param.modulated_normalized_value();
    let from = origin(param);
    let fill = Rect::from_x_y_ranges(x(from.min(shown))..=x(from.max(shown)), track.y_range());
    painter.rect_filled(fill, round, p.accent);
    let hot = response.hovered() || response.dragged();
    let middle = pos2(x(shown), track.center().y);
    painter.circle(
        middle,
        if hot { 7.0 } else { 6.0 },
        p.text,
        Stroke::new(2.0, p.panel),
    );
    focus_ring(painter, p, rect, response);
}

/// Where the fill starts: the default of a two-sided parameter (0 dB), else the left end.
fn origin<P: Param>(param: &P) -> f32 {
    let default = param.default_normalized_value();
    if (0.2..=0.8).contains(&default) && param.unit().contains("dB") {
        default
    } else {
        0.0
    }
}

fn focus_ring(painter: &Painter, p: &Palette, rect: Rect, response: &Response) {
    if response.has_focus() {
        let stroke = Stroke::new(1.5, p.accent);
        painter.rect_stroke(
            rect,
            CornerRadius::same(theme::BUTTON_RADIUS),
            stroke,
            StrokeKind::Inside,
        );
    }
}

/// A knob with its label above and its value below.
pub fn knob<P: Param>(ui: &mut Ui, name: &str, hint: &str, param: &P, out: &mut Vec<Command>) {
    let p = theme::of(ui);
    ui.allocate_ui_with_layout(KNOB, egui::Layout::top_down(egui::Align::Center), |ui| {
        ui.set_min_size(KNOB);
        ui.spacing_mut().item_spacing.y = 0.0;
        ui.add(egui::Label::new(RichText::new(name).small().color(p.dim)).truncate());
        let (rect, response) = ui.allocate_exact_size(vec2(48.0, 45.0), Sense::click_and_drag());
        handle(ui, &response, name, Hand::Turning, param, out);
        if ui.is_rect_visible(rect) {
            paint_knob(ui.painter(), p, rect, &response, param);
        }
        hinted(response, name, hint, param);
        value(
            ui,
            name,
            param,
            (vec2(KNOB.x, 16.0), Align2::CENTER_CENTER),
            out,
        );
    });
}

/// A knob turns from seven to five o'clock.
const TURN: f32 = 0.75 * std::f32::consts::TAU;

fn paint_knob<P: Param>(
    painter: &Painter,
    p: &Palette,
    rect: Rect,
    response: &Response,
    param: &P,
) {
    let middle = rect.center() + vec2(0.0, 2.0);
    let radius = 18.0;
    let at = |share: f32, radius: f32| {
        let angle = 0.375 * std::f32::consts::TAU + TURN * share;
        middle + radius * vec2(angle.cos(), angle.sin())
    };
    let arc = |from: f32, to: f32, width: f32, colour: Color32| {
        let n = (48.0 * (to - from).abs()).ceil().max(1.0) as usize;
        let points: Vec<Pos2> = (0..=n)
            .map(|i| at(from + (to - from) * i as f32 / n as f32, radius))
            .collect();
        painter.add(Shape::line(points, Stroke::new(width, colour)));
    };
    let shown = param.modulated_normalized_value().clamp(0.0, 1.0);
    let from = origin(param);
    arc(0.0, 1.0, 4.0, p.line);
    if shown != from {
        arc(from.min(shown), from.max(shown), 4.0, p.accent);
    }
    let hot = response.hovered() || response.dragged();
    let body = if hot { p.line } else { p.raised };
    painter.circle(middle, 12.5, body, Stroke::new(1.0, p.line));
    painter.line_segment([at(shown, 4.5), at(shown, 11.0)], Stroke::new(2.5, p.text));
    focus_ring(painter, p, rect, response);
}

/// The value as text; a click turns it into a field.
fn value<P: Param>(
    ui: &mut Ui,
    name: &str,
    param: &P,
    (size, align): (Vec2, Align2),
    out: &mut Vec<Command>,
) {
    let id = ui.scope_id().with(("value", name));
    let label = format!("{name} value");
    let editing: Option<String> = ui.data(|data| data.get_temp(id));
    let Some(mut text) = editing else {
        let shown = text_of(param);
        let (rect, response) = ui.allocate_exact_size(size, Sense::click());
        response.widget_info(|| {
            let mut info = WidgetInfo::labeled(Role::Button, ui.is_enabled(), &label);
            info.current_text_value = Some(shown.clone());
            info
        });
        let p = theme::of(ui);
        let hot = response.hovered() || response.has_focus();
        ui.painter().text(
            align.pos_in_rect(&rect),
            align,
            &shown,
            FontId::proportional(12.0),
            if hot { p.accent } else { p.text },
        );
        let hint = format!("{name}: {shown}. Click to type a value");
        if response.on_hover_text(hint).clicked() {
            ui.data_mut(|data| data.insert_temp(id, shown));
        }
        return;
    };
    let edit = TextEdit::singleline(&mut text).id(id.with("field"));
    let field = ui.add_sized(size, edit).accessible_name(label);
    let (enter, escape) = ui.input(|input| {
        (
            input.key_pressed(Key::Enter),
            input.key_pressed(Key::Escape),
        )
    });
    if field.lost_focus() || enter || escape {
        if !escape && let Some(normalized) = param.string_to_normalized_value(&text) {
            change(param, normalized, out);
        }
        ui.data_mut(|data| data.remove_temp::<String>(id));
    } else {
        if !field.has_focus() {
            field.request_focus();
            select_all(ui, field.id, text.chars().count());
        }
        ui.data_mut(|data| data.insert_temp(id, text));
    }
}

/// What is typed replaces what was there.
fn select_all(ui: &Ui, id: Id, chars: usize) {
    use egui::text::{CCursor, CCursorRange};
    let mut state = egui::text_edit::TextEditState::load(ui.ctx(), id).unwrap_or_default();
    let range = CCursorRange::two(CCursor::new(0), CCursor::new(chars));
    state.cursor.set_char_range(Some(range));
    state.store(ui.ctx(), id);
}

/// A button that stays down while `on`. Returns whether it was clicked.
pub fn switch(ui: &mut Ui, name: &str, text: &str, hint: &str, on: bool, colour: Color32) -> bool {
    let p = theme::of(ui);
    let rich = if on {
        RichText::new(text).color(p.on_accent)
    } else {
        RichText::new(text)
    };
    let height = ui.spacing().interact_size.y;
    let mut button = egui::Button::new(rich).min_size(vec2(26.0, height));
    if on {
        button = button.fill(colour);
    }
    let response = ui
        .add(button)
        .on_hover_text(hint)
        .on_disabled_hover_text(hint);
    response.widget_info(|| WidgetInfo::selected(Role::Button, ui.is_enabled(), on, name));
    response.clicked()
}

/// Switches in one well, of which each is on or off by itself or one at a time: how something is shown, not heard.
/// Each is a name, a text and a hint. Returns which was clicked.
pub fn segments(ui: &mut Ui, all: &[(&str, &str, &str, bool)]) -> Option<usize> {
    let p = theme::of(ui);
    let mut clicked = None;
    egui::Frame::new()
        .fill(p.well)
        .corner_radius(CornerRadius::same(theme::BUTTON_RADIUS + 1))
        .inner_margin(egui::Margin::same(1))
        .show(ui, |ui| {
            ui.spacing_mut().item_spacing.x = 1.0;
            for (i, &(name, text, hint, on)) in all.iter().enumerate() {
                let colour = if on { p.text } else { p.dim };
                let fill = if on { p.chosen } else { Color32::TRANSPARENT };
                let button = egui::Button::new(RichText::new(text).color(colour))
                    .fill(fill)
                    .stroke(Stroke::NONE)
                    .min_size(vec2(26.0, ROW));
                let response = ui.add(button).on_hover_text(hint);
                response.widget_info(|| WidgetInfo::selected(Role::Button, true, on, name));
                focus_ring(ui.painter(), p, response.rect, &response);
                if response.clicked() {
                    clicked = Some(i);
                }
            }
        });
    clicked
}

/// A switch between two of which one is always on: both are shown, a click changes over. Returns whether it was
/// clicked.
pub fn either(ui: &mut Ui, name: &str, texts: [&str; 2], hint: &str, second: bool) -> bool {
    let p = theme::of(ui);
    let font = FontSelection::Default.resolve(ui.style());
    let widths = texts.map(|text| {
        let galley = (ui.painter()).layout_no_wrap(text.to_owned(), font.clone(), p.text);
        galley.size().x + 16.0
    });
    let size = vec2(widths[0] + widths[1] + 2.0, ROW + 2.0);
    let (rect, response) = ui.allocate_exact_size(size, Sense::click());
    response.widget_info(|| WidgetInfo::selected(Role::Button, ui.is_enabled(), !second, name));
    let painter = ui.painter();
    let round = CornerRadius::same(theme::BUTTON_RADIUS);
    painter.rect_filled(rect, round, p.well);
    let mut left = rect.left() + 1.0;
    for (i, (text, width)) in texts.into_iter().zip(widths).enumerate() {
        let cell = Rect::from_x_y_ranges(left..=left + width, rect.y_range().shrink(1.0));
        left += width;
        let on = (i == 1) == second;
        let warns = on && !second;
        if on {
            painter.rect_filled(cell, round, if warns { p.warning } else { p.chosen });
        }
        let colour = match (on, warns) {
            (_, true) => p.on_accent,
            (true, _) => p.text,
            _ => p.dim,
        };
        painter.text(
            cell.center(),
            Align2::CENTER_CENTER,
            text,
            font.clone(),
            colour,
        );
    }
    if response.hovered() {
        let stroke = Stroke::new(1.0, p.accent);
        painter.rect_stroke(rect, round, stroke, StrokeKind::Inside);
    }
    focus_ring(painter, p, rect, &response);
    response.on_hover_text(hint).clicked()
}

/// [`switch`] of a parameter.
pub fn toggle(
    ui: &mut Ui,
    name: &str,
    hint: &str,
    colour: Color32,
    param: &BoolParam,
    out: &mut Vec<Command>,
) {
    let on = param.value();
    if switch(ui, name, name, hint, on, colour) {
        change(param, if on { 0.0 } else { 1.0 }, out);
    }
}

/// Width of a list, as of all in a column.
pub const LIST_WIDTH: f32 = 132.0;

/// A list of which one is chosen. `hint`: what it is about, then what each of them means.
pub fn choice<T: Enum + PartialEq + Copy + 'static>(
    ui: &mut Ui,
    name: &str,
    hints: (&str, &[&str]),
    param: &EnumParam<T>,
    out: &mut Vec<Command>,
) {
    choice_in(ui, name, hints, Some(LIST_WIDTH), param, out);
}

/// The same in a list of this width; without one only the arrow shows.
pub fn choice_in<T: Enum + PartialEq + Copy + 'static>(
    ui: &mut Ui,
    name: &str,
    (hint, meanings): (&str, &[&str]),
    width: Option<f32>,
    param: &EnumParam<T>,
    out: &mut Vec<Command>,
) {
    let current = param.value().to_index();
    let variant = |i: usize| T::variants().get(i).copied().unwrap_or_default();
    let response = ComboBox::from_id_salt(name)
        .selected_text(width.map_or("", |_| variant(current)))
        .width(width.unwrap_or(0.0))
        .show_ui(ui, |ui| {
            for i in 0..T::variants().len() {
                let label = ui.selectable_label(i == current, variant(i));
                let label = label.on_hover_text(meanings.get(i).copied().unwrap_or(hint));
                if label.clicked() && i != current {
                    change(param, param.preview_normalized(T::from_index(i)), out);
                }
            }
        })
        .response;
    describe(response, name, variant(current), hint);
}

/// What is said of a list: its name, what is chosen, what it is about.
pub fn describe(response: Response, name: &str, chosen: &str, hint: &str) -> Response {
    response.widget_info(|| {
        let mut info = WidgetInfo::labeled(Role::ComboBox, response.enabled(), name);
        info.current_text_value = Some(chosen.to_owned());
        info
    });
    let response = response.on_hover_text(hint);
    response.ctx.accesskit_node_builder(response.id, |node| {
        // AT-SPI has no place for what is chosen but this.
        node.set_description(format!("{chosen}. {hint}"));
    });
    response
}
