// [main] Widgets for parameters. They read the parameter and return gestures; nothing is set here.

use egui::{
    Align2, Color32, ComboBox, CornerRadius, FontSelection, Id, Key, Rect, Response, RichText,
    Role, Sense, Stroke, StrokeKind, TextEdit, Ui, Vec2, WidgetInfo, pos2, vec2,
};
use nice_plug::prelude::{BoolParam, Enum, EnumParam, Param};

use crate::editor::{
    model::{Command, Gesture},
    theme,
};

/// Width of a value's text.
const VALUE_WIDTH: f32 = 72.0;
/// Height of a row.
const ROW: f32 = 22.0;
/// Share of a normalized value that one pixel moves while Shift is held.
const FINE: f32 = 0.0015;

/// One whole change of a parameter.
fn change<P: Param>(param: &P, normalized: f32, out: &mut Vec<Command>) {
    let ptr = param.as_ptr();
    out.push(Command::Gesture(Gesture::Begin(ptr)));
    out.push(Command::Gesture(Gesture::Set(ptr, normalized)));
    out.push(Command::Gesture(Gesture::End(ptr)));
}

/// A row of label, slider and value. Drag or click sets, Shift-drag sets finely, double-click resets,
/// a click on the value lets it be typed.
pub fn slider<P: Param>(
    ui: &mut Ui,
    label: &str,
    label_width: f32,
    param: &P,
    out: &mut Vec<Command>,
) -> Response {
    ui.horizontal(|ui| {
        if label_width > 0.0 {
            let (rect, _) = ui.allocate_exact_size(vec2(label_width, ROW), Sense::hover());
            ui.painter().text(
                rect.left_center(),
                Align2::LEFT_CENTER,
                label,
                FontSelection::Default.resolve(ui.style()),
                theme::TEXT,
            );
        }
        let width = (ui.available_width() - VALUE_WIDTH - ui.spacing().item_spacing.x).max(40.0);
        let response = bar(ui, width, label, param, out);
        value(ui, label, param, out);
        response
    })
    .inner
}

/// The slider itself.
fn bar<P: Param>(
    ui: &mut Ui,
    width: f32,
    label: &str,
    param: &P,
    out: &mut Vec<Command>,
) -> Response {
    let (rect, response) = ui.allocate_exact_size(vec2(width, ROW), Sense::click_and_drag());
    let now = param.unmodulated_normalized_value();
    response.widget_info(|| WidgetInfo::slider(ui.is_enabled(), f64::from(now), label));

    let ptr = param.as_ptr();
    let at_pointer = |pointer: egui::Pos2| {
        let share = (pointer.x - rect.left()) / rect.width().max(1.0);
        // Snap to the parameter's steps, so that the host hears the value that will be in force.
        param.preview_normalized(param.preview_plain(share.clamp(0.0, 1.0)))
    };
    if response.double_clicked() {
        change(param, param.default_normalized_value(), out);
    } else if response.clicked()
        && let Some(pointer) = response.interact_pointer_pos()
    {
        change(param, at_pointer(pointer), out);
    }
    if response.drag_started() {
        out.push(Command::Gesture(Gesture::Begin(ptr)));
    }
    if response.dragged() {
        let fine = ui.input(|input| input.modifiers.shift);
        let target = if fine {
            Some((now + response.drag_delta().x * FINE).clamp(0.0, 1.0))
        } else {
            response.interact_pointer_pos().map(at_pointer)
        };
        if let Some(target) = target.filter(|&target| target != now) {
            out.push(Command::Gesture(Gesture::Set(ptr, target)));
        }
    }
    if response.drag_stopped() {
        out.push(Command::Gesture(Gesture::End(ptr)));
    }

    if ui.is_rect_visible(rect) {
        let painter = ui.painter();
        let track = Rect::from_center_size(rect.center(), vec2(rect.width(), 8.0));
        let round = CornerRadius::same(4);
        painter.rect_filled(track, round, theme::WELL);
        let x = |share: f32| track.left() + share.clamp(0.0, 1.0) * track.width();
        // From the default of a two-sided parameter (0 dB), else from the left.
        let origin = param.default_normalized_value();
        let origin = if (0.2..=0.8).contains(&origin) && param.unit().contains("dB") {
            origin
        } else {
            0.0
        };
        let shown = param.modulated_normalized_value();
        let fill =
            Rect::from_x_y_ranges(x(origin.min(shown))..=x(origin.max(shown)), track.y_range());
        let hot = response.hovered() || response.dragged();
        let colour = if hot {
            theme::ACCENT
        } else {
            theme::ACCENT.gamma_multiply(0.8)
        };
        painter.rect_filled(fill, round, colour);
        painter.rect_stroke(
            track,
            round,
            Stroke::new(1.0, theme::LINE),
            StrokeKind::Inside,
        );
        painter.circle_filled(pos2(x(shown), track.center().y), 6.0, theme::TEXT);
        if response.has_focus() {
            let around = track.expand(3.0);
            painter.rect_stroke(
                around,
                round,
                Stroke::new(1.0, theme::ACCENT),
                StrokeKind::Outside,
            );
        }
    }
    response
}

/// The value as text; a click turns it into a field.
fn value<P: Param>(ui: &mut Ui, label: &str, param: &P, out: &mut Vec<Command>) {
    let id = Id::unique(("value", param.as_ptr()));
    let size = vec2(VALUE_WIDTH, ROW);
    let editing: Option<String> = ui.data(|data| data.get_temp(id));
    let Some(mut text) = editing else {
        let shown = param.normalized_value_to_string(param.modulated_normalized_value(), true);
        let (rect, response) = ui.allocate_exact_size(size, Sense::click());
        response.widget_info(|| {
            WidgetInfo::labeled(Role::Button, ui.is_enabled(), format!("{label} {shown}"))
        });
        ui.painter().text(
            rect.right_center() - Vec2::X * 2.0,
            Align2::RIGHT_CENTER,
            &shown,
            FontSelection::Default.resolve(ui.style()),
            if response.hovered() {
                theme::ACCENT
            } else {
                theme::TEXT_DIM
            },
        );
        let response = response.on_hover_text("Click to type a value");
        if response.clicked() {
            ui.data_mut(|data| data.insert_temp(id, shown));
        }
        return;
    };
    let field = ui.add_sized(size, TextEdit::singleline(&mut text).id(id.with("field")));
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
        }
        ui.data_mut(|data| data.insert_temp(id, text));
    }
}

/// A button that stays down while the parameter is on.
pub fn toggle(
    ui: &mut Ui,
    label: &str,
    hint: &str,
    colour: Color32,
    param: &BoolParam,
    out: &mut Vec<Command>,
) -> Response {
    let on = param.value();
    let text = if on {
        RichText::new(label).color(theme::BACKGROUND).strong()
    } else {
        RichText::new(label)
    };
    let mut button = egui::Button::new(text).min_size(vec2(54.0, 24.0));
    if on {
        button = button.fill(colour);
    }
    let response = ui.add(button).on_hover_text(hint);
    if response.clicked() {
        change(param, if on { 0.0 } else { 1.0 }, out);
    }
    response
}

/// A list of which one is chosen.
pub fn choice<T: Enum + PartialEq + Copy + 'static>(
    ui: &mut Ui,
    label: &str,
    param: &EnumParam<T>,
    out: &mut Vec<Command>,
) {
    let current = param.value().to_index();
    let name = |i: usize| T::variants().get(i).copied().unwrap_or_default();
    ComboBox::from_id_salt(label)
        .selected_text(name(current))
        .width(110.0)
        .show_ui(ui, |ui| {
            for i in 0..T::variants().len() {
                if ui.selectable_label(i == current, name(i)).clicked() && i != current {
                    change(param, param.preview_normalized(T::from_index(i)), out);
                }
            }
        });
}
