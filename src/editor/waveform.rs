// [main] The captured audio along the timeline: peaks, damage by colour, patches, playhead.

use egui::{
    Align2, Color32, CornerRadius, FontId, Mesh, Rect, Response, Sense, Shape, Stroke, Ui,
    emath::lerp, pos2, vec2,
};

use crate::{
    damage::{DEFAULT_THRESHOLD, DamageKind, FRAMES_PER_SECOND, Severity},
    editor::{model::Model, status, theme},
    exchange::SamplePos,
    worker::view::{PEAKS_PER_SECOND, TakeState, TakeView},
};

/// Height of a row of the damage ribbon, of the ruler and of the line that shows a take's state.
const RIBBON_ROW: f32 = 4.0;
const RULER: f32 = 16.0;
const STATE_LINE: f32 = 3.0;
/// Least distance of two labels on the ruler.
const LABEL_DISTANCE: f32 = 70.0;
/// Width of a column of the waveform.
const COLUMN: f32 = 1.0;

/// The stretch of the timeline that is shown.
#[derive(Clone, Copy)]
struct Span {
    start: SamplePos,
    /// Samples a second.
    rate: f64,
    seconds: f64,
}

impl Span {
    /// All takes, at least ten seconds.
    fn of(takes: &[TakeView]) -> Option<Self> {
        let first = takes.first()?;
        let end = takes.iter().map(take_end).max()?;
        let rate = f64::from(first.sample_rate.max(1));
        Some(Self {
            start: first.start,
            rate,
            seconds: (end.since(first.start) as f64 / rate).max(10.0),
        })
    }

    fn seconds_of(&self, pos: SamplePos) -> f64 {
        pos.since(self.start) as f64 / self.rate
    }

    fn x(&self, rect: Rect, seconds: f64) -> f32 {
        lerp(rect.left()..=rect.right(), (seconds / self.seconds) as f32)
    }
}

fn take_end(take: &TakeView) -> SamplePos {
    take.start.offset(take.frames.min(i64::MAX as u64) as i64)
}

/// Draws the waveform in a box of `height`.
pub fn draw(ui: &mut Ui, model: &Model<'_>, height: f32) -> Response {
    let size = vec2(ui.available_width(), height);
    let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
    if !ui.is_rect_visible(rect) {
        return response;
    }
    let painter = ui.painter_at(rect);
    painter.rect_filled(rect, CornerRadius::same(theme::RADIUS), theme::WELL);
    let takes = &model.view.takes;
    let Some(span) = Span::of(takes) else {
        painter.text(
            rect.center(),
            Align2::CENTER_CENTER,
            "Play the song once: its waveform and its damage appear here.",
            FontId::proportional(14.0),
            theme::TEXT_DIM,
        );
        return response;
    };

    let inner = rect.shrink2(vec2(8.0, 6.0));
    let ruler = Rect::from_min_max(pos2(inner.left(), inner.bottom() - RULER), inner.max);
    let kinds = present_kinds(takes);
    let ribbon_height = kinds.len() as f32 * RIBBON_ROW;
    let ribbon = Rect::from_min_max(
        pos2(inner.left(), ruler.top() - ribbon_height),
        pos2(inner.right(), ruler.top()),
    );
    let waves = Rect::from_min_max(inner.min, pos2(inner.right(), ribbon.top() - 4.0));

    draw_ruler(&painter, ruler, &span);
    let mut mesh = Mesh::default();
    let repaired = takes.iter().any(|take| !take.repaired_peaks.is_empty());
    let (before, after) = if repaired {
        let middle = waves.top() + 0.58 * waves.height();
        (
            Rect::from_min_max(waves.min, pos2(waves.right(), middle)),
            Rect::from_min_max(pos2(waves.left(), middle + 2.0), waves.max),
        )
    } else {
        (waves, Rect::NOTHING)
    };
    for take in takes {
        draw_take(&mut mesh, &span, take, before, after, ribbon, &kinds);
    }
    painter.add(Shape::mesh(mesh));
    if repaired {
        for (lane, name) in [(before, "before"), (after, "after")] {
            painter.text(
                lane.left_top() + vec2(2.0, 4.0),
                Align2::LEFT_TOP,
                name,
                FontId::proportional(10.0),
                theme::TEXT_DIM,
            );
        }
    }

    if let Some(pos) = model.levels.position {
        let x = span.x(inner, span.seconds_of(pos));
        if inner.x_range().contains(x) {
            painter.vline(x, inner.y_range(), Stroke::new(1.5, theme::TEXT));
        }
    }
    hover(response, &span, inner, takes)
}

/// Kinds that reach the threshold anywhere.
fn present_kinds(takes: &[TakeView]) -> Vec<DamageKind> {
    DamageKind::ALL
        .into_iter()
        .filter(|&kind| {
            takes.iter().any(|take| {
                (take.damage.frames.iter()).any(|frame| frame[kind as usize] >= DEFAULT_THRESHOLD)
            })
        })
        .collect()
}

fn draw_ruler(painter: &egui::Painter, rect: Rect, span: &Span) {
    let room = (rect.width() / LABEL_DISTANCE).max(1.0);
    let steps = [
        1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
    ];
    // A session may hold takes hours apart; the number of labels is bounded all the same.
    let step = steps
        .into_iter()
        .find(|step| span.seconds / step <= f64::from(room))
        .unwrap_or(span.seconds / f64::from(room));
    let origin = span.start.0 as f64 / span.rate;
    let first = (origin / step).ceil();
    for i in 0..=room as usize + 1 {
        let tick = (first + i as f64) * step;
        if tick > origin + span.seconds {
            break;
        }
        let x = span.x(rect, tick - origin);
        painter.vline(
            x,
            rect.top()..=rect.top() + 4.0,
            Stroke::new(1.0, theme::LINE),
        );
        painter.text(
            pos2(x + 3.0, rect.bottom()),
            Align2::LEFT_BOTTOM,
            status::time(tick),
            FontId::proportional(10.0),
            theme::TEXT_DIM,
        );
    }
}

/// Colour of a take's state.
fn state_colour(state: TakeState) -> Color32 {
    match state {
        TakeState::Capturing => theme::TEXT,
        TakeState::Captured => theme::TEXT_DIM,
        TakeState::Queued | TakeState::Running => theme::WARNING,
        TakeState::Committed => theme::ACCENT,
        TakeState::Failed => theme::PROBLEM,
    }
}

fn draw_take(
    mesh: &mut Mesh,
    span: &Span,
    take: &TakeView,
    before: Rect,
    after: Rect,
    ribbon: Rect,
    kinds: &[DamageKind],
) {
    let start = span.seconds_of(take.start);
    let length = take.frames as f64 / f64::from(take.sample_rate.max(1));
    let end = span.seconds_of(take_end(take));
    let left = span.x(before, start);
    let right = span.x(before, end).max(left + COLUMN);
    let line = Rect::from_x_y_ranges(left..=right, before.top()..=before.top() + STATE_LINE);
    mesh.add_colored_rect(line, state_colour(take.state));

    let columns = ((right - left) / COLUMN).ceil().max(1.0) as usize;
    let seconds_per_column = length / columns as f64;
    // Frames of a column: at least one, so that short takes are drawn without holes.
    let frames = |column: usize, per_second: usize, len: usize| {
        let from = (column as f64 * seconds_per_column * per_second as f64) as usize;
        let to = ((column + 1) as f64 * seconds_per_column * per_second as f64).ceil() as usize;
        let to = to.max(from.saturating_add(1)).min(len);
        from.min(to)..to
    };
    for column in 0..columns {
        let x = left + column as f32 * COLUMN;
        let damage = &take.damage.frames;
        let severity = worst(&damage[frames(column, FRAMES_PER_SECOND, damage.len())]);
        let colour = dominant(&severity).map_or(theme::WAVE, theme::damage);
        for (lane, peaks, colour) in [
            (before, &take.peaks, colour),
            (after, &take.repaired_peaks, theme::ACCENT),
        ] {
            let part = &peaks[frames(column, PEAKS_PER_SECOND, peaks.len())];
            if part.is_empty() {
                continue;
            }
            let low = part.iter().map(|p| p.0).fold(0.0, f32::min).max(-1.0);
            let high = part.iter().map(|p| p.1).fold(0.0, f32::max).min(1.0);
            let half = 0.5 * lane.height() - STATE_LINE;
            let middle = lane.center().y + 0.5 * STATE_LINE;
            let y = (middle - high * half)..=(middle - low * half).max(middle - high * half + 1.0);
            mesh.add_colored_rect(Rect::from_x_y_ranges(x..=x + COLUMN, y), colour);
        }
        for (row, &kind) in kinds.iter().enumerate() {
            let severity = severity[kind as usize];
            if severity < 0.1 {
                continue;
            }
            let top = ribbon.top() + row as f32 * RIBBON_ROW;
            let cell = Rect::from_x_y_ranges(x..=x + COLUMN, top..=top + RIBBON_ROW - 1.0);
            mesh.add_colored_rect(cell, theme::damage(kind).gamma_multiply(severity.min(1.0)));
        }
    }
}

/// Worst severity per kind.
fn worst(frames: &[Severity]) -> Severity {
    let mut out = Severity::default();
    for frame in frames {
        for (worst, &severity) in out.iter_mut().zip(frame) {
            *worst = worst.max(severity);
        }
    }
    out
}

/// The kind that hurts most, if any reaches the threshold.
pub fn dominant(severity: &Severity) -> Option<DamageKind> {
    DamageKind::ALL
        .into_iter()
        .filter(|&kind| severity[kind as usize] >= DEFAULT_THRESHOLD)
        .max_by(|&a, &b| severity[a as usize].total_cmp(&severity[b as usize]))
}

fn hover(response: Response, span: &Span, rect: Rect, takes: &[TakeView]) -> Response {
    let Some(pointer) = response.hover_pos() else {
        return response;
    };
    let share = ((pointer.x - rect.left()) / rect.width().max(1.0)).clamp(0.0, 1.0);
    let seconds = f64::from(share) * span.seconds;
    let pos = span.start.offset((seconds * span.rate) as i64);
    let Some(take) = takes.iter().find(|t| t.start <= pos && pos < take_end(t)) else {
        return response;
    };
    let frame = pos.since(take.start) as f64 / f64::from(take.sample_rate.max(1));
    let frame = (frame * FRAMES_PER_SECOND as f64) as usize;
    let severity = take.damage.frames.get(frame).copied();
    response.on_hover_ui_at_pointer(|ui| {
        ui.label(status::time(pos.0 as f64 / span.rate));
        let kinds = severity.into_iter().flat_map(|severity| {
            (DamageKind::ALL.into_iter())
                .map(move |kind| (kind, severity[kind as usize]))
                .filter(|(_, severity)| *severity >= 0.1)
        });
        for (kind, severity) in kinds {
            let text = format!("{} {:.0} %", kind.label(), 100.0 * severity);
            ui.colored_label(theme::damage(kind), text);
        }
    })
}

/// A damage map as a thin strip: the dominant kind's colour, as bright as it is severe.
pub fn strip(ui: &mut Ui, frames: &[Severity], size: egui::Vec2) -> Response {
    let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
    let painter = ui.painter_at(rect);
    painter.rect_filled(rect, CornerRadius::same(2), theme::WELL);
    if frames.is_empty() {
        return response;
    }
    let columns = (rect.width() / 2.0).ceil().max(1.0) as usize;
    let mut mesh = Mesh::default();
    for column in 0..columns {
        let from = column * frames.len() / columns;
        let to = ((column + 1) * frames.len())
            .div_ceil(columns)
            .min(frames.len());
        let severity = worst(&frames[from..to]);
        if let Some(kind) = dominant(&severity) {
            let x = rect.left() + column as f32 * 2.0;
            let cell = Rect::from_x_y_ranges(x..=x + 2.0, rect.y_range());
            let strength = severity[kind as usize].clamp(0.0, 1.0);
            mesh.add_colored_rect(cell, theme::damage(kind).gamma_multiply(strength));
        }
    }
    painter.add(Shape::mesh(mesh));
    response
}
