// [main] The captured audio along the timeline: zoom, pan, selection, before and after, damage, playhead.

use std::sync::Arc;

use egui::{
    Color32, CornerRadius, CursorIcon, EventFilter, FontId, Key, Mesh, Painter, PointerButton,
    Rect, Response, Sense, Shape, Stroke, StrokeKind, Ui, WidgetInfo, pos2, vec2,
};

use crate::{
    damage::{DEFAULT_THRESHOLD, DamageKind, FRAMES_PER_SECOND, Severity, Stem},
    editor::{
        lanes,
        model::{Command, Model},
        peaks::{Columns, cells_of, hand_over},
        scale, spectrogram,
        state::{State, WaveMode},
        status,
        theme::{self, Palette},
        timeline::{self, Span, Viewport, take_end},
    },
    exchange::{SamplePos, meters::PlayerState},
    worker::view::{Findings, TakeState, TakeView},
};

/// Height of a row of the damage ribbon, of the ruler, the state line and the overview.
const RIBBON_ROW: f32 = 5.0;
const RULER: f32 = 16.0;
const STATE_LINE: f32 = 3.0;
const OVERVIEW: f32 = 20.0;
/// Type in the timeline.
const TYPE: f32 = 10.5;
/// Height from which the waveform and the lanes both have room.
const LEAST_WITH_LANES: f32 = 225.0;
/// Width of a column of the waveform, in physical pixels.
const COLUMN_PIXELS: f32 = 1.0;
/// Zoom of one notch of the wheel (50 points) or one press of a key.
const ZOOM: f64 = 1.25;
/// Share of the shown stretch that an arrow key pans.
const PAN: f64 = 0.15;
/// Share of the shown stretch by which it lengthens the selection, with Shift.
const SELECT: f64 = 0.02;
/// A region under the pointer is followed for at most this long to either side, in frames.
const MAX_REGION: usize = 60 * FRAMES_PER_SECOND;
/// Gaps in a region that are bridged, in frames: 200 ms.
const MAX_GAP: usize = 20;

/// Draws everything into a box of `height`.
pub fn draw(
    ui: &mut Ui,
    model: &Model<'_>,
    state: &mut State,
    height: f32,
    out: &mut Vec<Command>,
) -> Response {
    let p = theme::of(ui);
    let size = vec2(ui.available_width(), height);
    let (rect, response) = ui.allocate_exact_size(size, Sense::click_and_drag());
    response.widget_info(|| WidgetInfo::labeled(egui::Role::Canvas, true, "Timeline"));
    if !ui.is_rect_visible(rect) {
        return response;
    }
    let painter = ui.painter_at(rect);
    painter.rect_filled(rect, CornerRadius::same(theme::RADIUS), p.well);
    let takes = &model.view.takes;
    let Some(span) = Span::of(takes, state.viewport) else {
        invite(&painter, p, rect);
        return response.on_hover_text("What was captured appears here");
    };

    // On the left are the names of the lanes and the scales.
    let inner = Rect::from_min_max(
        rect.min + vec2(scale::GUTTER, 5.0),
        rect.max - vec2(scale::MARGIN, 5.0),
    );
    let overview = Rect::from_min_max(pos2(inner.left(), inner.bottom() - OVERVIEW), inner.max);
    let mut below = overview.top() - 4.0;
    let mut take_off = |height: f32| {
        let band = Rect::from_min_max(
            pos2(inner.left(), below - height),
            pos2(inner.right(), below),
        );
        below -= height;
        band
    };
    // On a small window the waveform goes before the lanes.
    let lanes = shows_lanes(model, state) && height > LEAST_WITH_LANES;
    let lanes = lanes.then(|| take_off(lanes::HEIGHT));
    let ruler = take_off(RULER);
    let kinds = present_kinds(takes);
    let ribbon = take_off(kinds.len() as f32 * RIBBON_ROW + 2.0);
    let waves = Rect::from_min_max(inner.min, pos2(inner.right(), below - 3.0));
    let main = Rect::from_min_max(inner.min, pos2(inner.right(), overview.top() - 4.0));

    navigate(ui, &response, main, overview, &span, state);
    // What the hands did shows in this picture already.
    let span = Span::of(takes, state.viewport).unwrap_or(span);

    let clipped = painter.with_clip_rect(inner);
    timeline::ruler(&clipped, p, ruler, &span);
    draw_waves(ui, [&clipped, &painter], p, waves, &span, model, state);
    draw_ribbon(&clipped, p, ribbon, &span, takes, &kinds);
    if let Some(rect) = lanes {
        lanes::draw(ui, &painter, p, rect, &span, model, state, out);
    }
    draw_overview(&painter, p, overview, takes, state);
    draw_selection(&clipped, p, main, &span, state);
    if let Some(pos) = model.levels.position {
        let x = span.x_of(main, pos);
        clipped.vline(x, main.y_range(), Stroke::new(1.5, p.text));
        let head = [
            pos2(x - 4.0, main.top()),
            pos2(x + 4.0, main.top()),
            pos2(x, main.top() + 6.0),
        ];
        clipped.add(Shape::convex_polygon(head.to_vec(), p.text, Stroke::NONE));
    }
    if response.has_focus() {
        let stroke = Stroke::new(1.5, p.accent);
        painter.rect_stroke(
            rect,
            CornerRadius::same(theme::RADIUS),
            stroke,
            StrokeKind::Inside,
        );
    }
    let response = response.on_hover_cursor(CursorIcon::Crosshair);
    hover(response, (main, lanes), &span, model, state)
}

/// Whether there is music to show, and it is wanted.
pub fn shows_lanes(model: &Model<'_>, state: &State) -> bool {
    state.lanes && (model.view.takes.iter()).any(|take| take.findings.is_some())
}

fn invite(painter: &Painter, p: &Palette, rect: Rect) {
    // The shape of what will be here.
    let mut mesh = Mesh::default();
    let middle = rect.center().y;
    for i in 0..(rect.width() / 4.0) as usize {
        let t = i as f32 * 0.11;
        let envelope = 0.5 + 0.5 * (0.21 * t).sin();
        let h = 0.32 * rect.height() * envelope * (0.35 + 0.65 * (1.7 * t).sin().abs());
        let x = rect.left() + 4.0 * i as f32;
        let bar = Rect::from_x_y_ranges(x + 1.0..=x + 3.0, middle - h..=middle + h);
        mesh.add_colored_rect(bar, p.raised.gamma_multiply(0.55));
    }
    painter.add(Shape::mesh(mesh));
    let text = "The waveform and its damage appear here.";
    let font = FontId::proportional(15.0);
    let galley = painter.layout_no_wrap(text.to_owned(), font, p.text);
    let place = rect.center() - 0.5 * galley.size();
    let ground = Rect::from_min_size(place, galley.size()).expand2(vec2(12.0, 6.0));
    painter.rect_filled(ground, CornerRadius::same(4), p.well.gamma_multiply(0.9));
    painter.galley(place, galley, p.text);
}

/// Wheel, drags and keys.
fn navigate(
    ui: &Ui,
    response: &Response,
    main: Rect,
    overview: Rect,
    span: &Span,
    state: &mut State,
) {
    // The lanes lie over a part of it, where the wheel zooms all the same.
    let pointer = (ui.rect_contains_pointer(main))
        .then(|| ui.input(|input| input.pointer.hover_pos()))
        .flatten();
    if let Some(pointer) = pointer {
        let (scroll, zoom, across) = ui.input(|input| {
            let scroll = input.smooth_scroll_delta();
            (scroll, input.zoom_delta(), input.modifiers.shift)
        });
        let around = span.seconds_at(main, pointer.x);
        let sideways = if across {
            scroll.x + scroll.y
        } else {
            scroll.x
        };
        if sideways.abs() > 0.0 {
            let seconds = -f64::from(sideways / main.width()) * span.shown.seconds;
            state.viewport = span.panned(seconds);
        }
        let notches = if across {
            0.0
        } else {
            f64::from(scroll.y) / 50.0
        };
        let factor = ZOOM.powf(notches) * f64::from(zoom);
        if (factor - 1.0).abs() > 1e-6 {
            state.viewport = span.zoomed(factor, around);
        }
    }

    let start = ui.input(|input| input.pointer.press_origin());
    let on_overview = start.is_some_and(|at| overview.expand(3.0).contains(at));
    let panning = response.dragged_by(PointerButton::Middle)
        || response.dragged_by(PointerButton::Secondary)
        || (response.dragged_by(PointerButton::Primary) && ui.input(|i| i.modifiers.alt));
    if on_overview && (response.dragged() || response.clicked()) {
        if let Some(at) = response.interact_pointer_pos() {
            let share = f64::from((at.x - overview.left()) / overview.width().max(1.0));
            let middle = share * span.total - 0.5 * span.shown.seconds;
            state.viewport = span.panned(middle - span.shown.start);
        }
    } else if panning {
        let seconds = -f64::from(response.drag_delta().x / main.width()) * span.shown.seconds;
        state.viewport = span.panned(seconds);
        ui.ctx().set_cursor_icon(CursorIcon::Grabbing);
    } else if response.dragged_by(PointerButton::Primary) {
        if let (Some(start), Some(at)) = (start, response.interact_pointer_pos()) {
            let pos = |x: f32| span.pos_of(span.seconds_at(main, x).clamp(0.0, span.total));
            let anchor = *state.anchor.get_or_insert_with(|| pos(start.x));
            let end = pos(at.x);
            state.selection = Some((anchor.min(end), anchor.max(end)));
        }
    } else if response.double_clicked() {
        state.viewport = None;
        state.selection = None;
    } else if response.clicked() {
        state.selection = None;
        response.request_focus();
    }
    if !response.dragged() {
        state.anchor = None;
    }

    if response.has_focus() {
        let filter = EventFilter {
            horizontal_arrows: true,
            ..EventFilter::default()
        };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, filter));
        let middle = span.shown.start + 0.5 * span.shown.seconds;
        let pressed = |key: Key| ui.input(|input| input.num_presses(key)) as f64;
        let zoom = pressed(Key::Plus) + pressed(Key::Equals) - pressed(Key::Minus);
        if zoom != 0.0 {
            state.viewport = span.zoomed(ZOOM.powf(zoom), middle);
        }
        let way = pressed(Key::ArrowRight) - pressed(Key::ArrowLeft);
        if way != 0.0 && ui.input(|input| input.modifiers.shift) {
            // As in a text: the selection grows and shrinks at its end, from the middle on.
            let (start, end) = state
                .selection
                .unwrap_or((span.pos_of(middle), span.pos_of(middle)));
            let end = span.seconds_of(end) + way * SELECT * span.shown.seconds;
            let end = span.pos_of(end.clamp(0.0, span.total)).max(start);
            state.selection = (start < end).then_some((start, end));
        } else if way != 0.0 {
            state.viewport = span.panned(way * PAN * span.shown.seconds);
        }
        if pressed(Key::Home) > 0.0 {
            state.viewport = None;
        }
        if pressed(Key::Escape) > 0.0 {
            state.selection = None;
        }
    }
}

/// Zooms by one notch around the selection's middle, else the picture's.
pub fn zoom(model: &Model<'_>, state: &mut State, notches: f64) {
    if let Some(span) = Span::of(&model.view.takes, state.viewport) {
        let around = span.shown.start + 0.5 * span.shown.seconds;
        state.viewport = span.zoomed(ZOOM.powf(notches), around);
    }
}

/// Shows the selection and a little around it.
pub fn zoom_to_selection(model: &Model<'_>, state: &mut State) {
    if let Some((start, end)) = state.selection {
        let margin = end.since(start) / 20;
        show(model, state, start.offset(-margin), end.offset(margin));
    }
}

/// Shows the stretch from `start` to `end`, as far as there is one.
pub fn show(model: &Model<'_>, state: &mut State, start: SamplePos, end: SamplePos) {
    if let Some(span) = Span::of(&model.view.takes, None) {
        let (from, to) = (span.seconds_of(start), span.seconds_of(end));
        let wanted = Viewport {
            start: from,
            seconds: to - from,
        };
        state.viewport = Span::of(&model.view.takes, Some(wanted)).map(|span| span.shown);
    }
}

/// Kinds that reach the threshold anywhere.
pub fn present_kinds(takes: &[TakeView]) -> Vec<DamageKind> {
    DamageKind::ALL
        .into_iter()
        .filter(|&kind| takes.iter().any(|take| take.shares[kind as usize] > 0.0))
        .collect()
}

/// Colour and words of a take's state.
fn state_look(p: &Palette, take: &TakeView, out_of_date: bool) -> (Color32, &'static str) {
    match take.state {
        _ if out_of_date => (p.warning, "out of date"),
        TakeState::Capturing => (p.text, "capturing"),
        TakeState::Captured => (p.dim, "captured"),
        TakeState::Queued => (p.warning, "waiting"),
        TakeState::Running => (p.warning, "analysing"),
        TakeState::Committed if take.unheard => (p.warning, "edited, not rebuilt yet"),
        TakeState::Committed => (p.accent, "repaired"),
        TakeState::Failed => (p.problem, "failed"),
    }
}

/// Whether what the host plays at the playhead is not what was captured in `take`.
fn is_out_of_date(model: &Model<'_>, take: &TakeView) -> bool {
    model.levels.player == PlayerState::OutOfDate
        && (model.levels.position).is_some_and(|pos| take.start <= pos && pos < take_end(take))
}

fn draw_waves(
    ui: &Ui,
    // Where the waves are, and beside them.
    [painter, beside]: [&Painter; 2],
    p: &Palette,
    rect: Rect,
    span: &Span,
    model: &Model<'_>,
    state: &mut State,
) {
    let takes = &model.view.takes;
    let repaired = takes.iter().any(|take| !take.after.wave.is_empty());
    let wave = Rect::from_min_max(pos2(rect.left(), rect.top() + STATE_LINE + 1.0), rect.max);
    let half = wave.center().y;
    let (before, after) = match (state.wave, repaired) {
        (WaveMode::Overlaid, _) | (_, false) => (wave, wave),
        _ => (
            Rect::from_min_max(wave.min, pos2(wave.right(), half - 1.0)),
            Rect::from_min_max(pos2(wave.left(), half + 1.0), wave.max),
        ),
    };
    let spectrogram = state.wave == WaveMode::Spectrogram;
    if spectrogram {
        spectrogram::draw(ui, painter, &mut state.textures, 0, before, span, takes);
        spectrogram::axis(beside, p, before);
        if repaired {
            spectrogram::draw(ui, painter, &mut state.textures, 1, after, span, takes);
            spectrogram::axis(beside, p, after);
        }
    }
    let mut mesh = Mesh::default();
    let both = [before, after];
    let full = scale::full(takes);
    for lane in &both[..if before == after { 1 } else { 2 }] {
        if !spectrogram {
            scale::draw(beside, p, *lane, full);
        }
    }
    for take in takes {
        let (left, right) = (span.x_of(rect, take.start), span.x_of(rect, take_end(take)));
        let (left, right) = (left.max(rect.left()), right.min(rect.right()));
        if left >= right {
            continue;
        }
        let (colour, words) = state_look(p, take, is_out_of_date(model, take));
        let line = Rect::from_x_y_ranges(left..=right, rect.top()..=rect.top() + STATE_LINE);
        mesh.add_colored_rect(line, colour);
        let columns = Columns {
            extent: (left, right, COLUMN_PIXELS / ui.ctx().pixels_per_point()),
            lane: wave,
            full,
            span,
            take,
        };
        let kinds = if spectrogram {
            Vec::new()
        } else {
            columns.kinds()
        };
        columns.ground(&mut mesh, p, &kinds);
        for &(start, end) in state.stale.spans() {
            let (from, to) = (
                span.x_of(rect, start).max(left),
                span.x_of(rect, end).min(right),
            );
            if from < to {
                let to = to.max(from + 1.0);
                mesh.add_colored_rect(Rect::from_x_y_ranges(from..=to, line.y_range()), p.warning);
                let ground = Rect::from_x_y_ranges(from..=to, line.bottom()..=rect.bottom());
                mesh.add_colored_rect(ground, p.warning.gamma_multiply(0.14));
            }
        }
        if !spectrogram {
            let (recorded, heard) = (columns.on(before), columns.on(after));
            let hurt = |i: usize, unhurt: Color32| kinds[i].map_or(unhurt, |kind| p.damage(kind));
            if take.after.wave.is_empty() {
                recorded.fill(&mut mesh, &take.before, |i| hurt(i, p.wave));
            } else if state.wave == WaveMode::Overlaid {
                // What will be heard, and around it what was recorded.
                heard.fill(&mut mesh, &take.after, |_| p.accent);
                let line = p.wave.gamma_multiply(0.8);
                recorded.outline(&mut mesh, &take.before, |i| hurt(i, line));
            } else {
                recorded.fill(&mut mesh, &take.before, |i| hurt(i, p.wave));
                heard.fill(&mut mesh, &take.after, |_| p.accent);
            }
        }
        if right - left > 70.0 {
            hand_over(painter, &mut mesh);
            let at = pos2(right - 4.0, rect.top() + STATE_LINE + 3.0);
            note(painter, p, at, true, words, colour);
        }
    }
    hand_over(painter, &mut mesh);
    if repaired {
        let below = vec2(4.0, 3.0);
        let recorded = if before == after {
            "recorded (line)"
        } else {
            "recorded"
        };
        let place = note(painter, p, before.min + below, false, recorded, p.dim);
        let at = if before == after {
            pos2(place.right() + 8.0, place.top())
        } else {
            after.min + below
        };
        note(painter, p, at, false, "repaired", p.accent);
    }
}

/// A few words on a ground that keeps them readable; `to_the_left`: they end at `at`, else they begin there.
fn note(
    painter: &Painter,
    p: &Palette,
    at: egui::Pos2,
    to_the_left: bool,
    words: &str,
    colour: Color32,
) -> Rect {
    let galley = painter.layout_no_wrap(words.to_owned(), FontId::proportional(TYPE), colour);
    let left = if to_the_left {
        at.x - galley.size().x
    } else {
        at.x
    };
    let place = Rect::from_min_size(pos2(left, at.y), galley.size());
    let ground = place.expand2(vec2(3.0, 1.0));
    painter.rect_filled(ground, CornerRadius::same(3), p.well.gamma_multiply(0.8));
    painter.galley(place.min, galley, colour);
    place
}

/// One row a kind: where, and by its height how much.
fn draw_ribbon(
    painter: &Painter,
    p: &Palette,
    rect: Rect,
    span: &Span,
    takes: &[TakeView],
    kinds: &[DamageKind],
) {
    let mut mesh = Mesh::default();
    let width = 2.0;
    for take in takes {
        let left = span.x_of(rect, take.start).max(rect.left());
        let right = span.x_of(rect, take_end(take)).min(rect.right());
        let offset = span.seconds_of(take.start);
        for i in 0..((right - left) / width).ceil().max(0.0) as usize {
            let x = left + i as f32 * width;
            let seconds = |x: f32| span.seconds_at(rect, x) - offset;
            let cells = cells_of(&take.damage, seconds(x), seconds(x + width));
            for (row, &kind) in kinds.iter().enumerate() {
                let severity = f32::from(cells.0[kind as usize]) / 255.0;
                if severity < 0.15 {
                    continue;
                }
                let bottom = rect.top() + (row + 1) as f32 * RIBBON_ROW;
                let height = (RIBBON_ROW - 1.0) * severity.max(0.35);
                let cell = Rect::from_x_y_ranges(x..=x + width, bottom - height..=bottom);
                mesh.add_colored_rect(cell, p.damage(kind));
            }
        }
    }
    painter.add(Shape::mesh(mesh));
}

/// The whole timeline, with what of it is shown.
fn draw_overview(painter: &Painter, p: &Palette, rect: Rect, takes: &[TakeView], state: &State) {
    let Some(whole) = Span::of(takes, None) else {
        return;
    };
    painter.rect_filled(rect, CornerRadius::same(3), p.panel);
    let mut mesh = Mesh::default();
    let full = scale::recorded(takes);
    for take in takes {
        let left = whole.x_of(rect, take.start).max(rect.left());
        let right = whole
            .x_of(rect, take_end(take))
            .min(rect.right())
            .max(left + 1.0);
        let columns = Columns {
            extent: (left, right, 2.0),
            lane: rect.shrink2(vec2(0.0, 2.0)),
            full,
            span: &whole,
            take,
        };
        let kinds = columns.kinds();
        let colour = |i: usize| kinds[i].map_or(p.wave, |kind| p.damage(kind));
        columns.fill(&mut mesh, &take.before, colour);
    }
    painter.add(Shape::mesh(mesh));
    if let Some(shown) = state.viewport {
        let (a, b) = (
            whole.x(rect, shown.start),
            whole.x(rect, shown.start + shown.seconds),
        );
        let window = Rect::from_x_y_ranges(a..=b.max(a + 3.0), rect.y_range());
        for outside in [
            Rect::from_x_y_ranges(rect.left()..=window.left(), rect.y_range()),
            Rect::from_x_y_ranges(window.right()..=rect.right(), rect.y_range()),
        ] {
            painter.rect_filled(outside, CornerRadius::ZERO, p.well.gamma_multiply(0.65));
        }
        painter.rect_stroke(
            window,
            CornerRadius::same(3),
            Stroke::new(1.5, p.accent),
            StrokeKind::Inside,
        );
    }
}

fn draw_selection(painter: &Painter, p: &Palette, rect: Rect, span: &Span, state: &State) {
    if let Some((start, end)) = state.selection {
        let (a, b) = (span.x_of(rect, start), span.x_of(rect, end));
        let area = Rect::from_x_y_ranges(a..=b, rect.y_range());
        painter.rect_filled(area, CornerRadius::ZERO, p.text.gamma_multiply(0.12));
        for x in [a, b] {
            painter.vline(
                x,
                rect.y_range(),
                Stroke::new(1.0, p.text.gamma_multiply(0.7)),
            );
        }
    }
}

/// The damaged region around a frame, in frames, and the worst severity in it; gaps of 200 ms are bridged.
fn region_around(severity: impl Fn(usize) -> f32, frame: usize, len: usize) -> (usize, usize, f32) {
    let (mut start, mut end, mut worst) = (frame, frame + 1, severity(frame));
    let mut reach = |frames: &mut dyn Iterator<Item = usize>, found: &mut dyn FnMut(usize)| {
        let mut gap = 0;
        for at in frames {
            let s = severity(at);
            if s >= DEFAULT_THRESHOLD {
                found(at);
                worst = worst.max(s);
                gap = 0;
            } else {
                gap += 1;
                if gap > MAX_GAP {
                    break;
                }
            }
        }
    };
    let before = &mut (frame.saturating_sub(MAX_REGION)..frame).rev();
    reach(before, &mut |at| start = at);
    let after = &mut (frame + 1..(frame + MAX_REGION).min(len));
    reach(after, &mut |at| end = at + 1);
    (start, end, worst)
}

/// What a hover over `pos` says of the mix, then of its stems: "0:41.00–0:44.20 bass overdriven, severity 0.8".
pub fn reasons(take: &TakeView, span: &Span, pos: SamplePos) -> Vec<(DamageKind, String)> {
    let rate = f64::from(take.sample_rate.max(1));
    let per_second = FRAMES_PER_SECOND as f64;
    let frame = (pos.since(take.start) as f64 / rate * per_second).max(0.0) as usize;
    let origin = span.clock_of(take.start);
    let words = |who: &str, kind: DamageKind, region: (usize, usize, f32)| {
        let at = |frame: usize| status::fine_time(origin + frame as f64 / per_second);
        let (start, end, worst) = region;
        let text = format!(
            "{}–{} {who}{}, severity {worst:.1}",
            at(start),
            at(end),
            kind.label()
        );
        (kind, text)
    };
    let cell = |frame: usize, kind: DamageKind| {
        let cells = take.damage.over(frame..frame + 1);
        cells.map_or(0.0, |c| f32::from(c.0[kind as usize]) / 255.0)
    };
    let mut out: Vec<_> = (DamageKind::ALL.into_iter())
        .filter(|&kind| cell(frame, kind) >= DEFAULT_THRESHOLD)
        .map(|kind| {
            words(
                "",
                kind,
                region_around(|at| cell(at, kind), frame, take.damage.len()),
            )
        })
        .collect();
    let stems = take.findings.as_ref().map_or(&[][..], |f| &f.stems[..]);
    for (stem, found) in Stem::ALL.into_iter().zip(stems) {
        let frames = &found.damage.frames;
        let severity =
            |at: usize, kind: DamageKind| frames.get(at).map_or(0.0, |f| f[kind as usize]);
        let worst = (DamageKind::ALL.into_iter())
            .max_by(|a, b| severity(frame, *a).total_cmp(&severity(frame, *b)));
        if let Some(kind) = worst.filter(|kind| severity(frame, *kind) >= DEFAULT_THRESHOLD) {
            let region = region_around(|at| severity(at, kind), frame, frames.len());
            out.push(words(&format!("{} ", stem.name()), kind, region));
        }
    }
    out
}

fn hover(
    response: Response,
    (main, lanes): (Rect, Option<Rect>),
    span: &Span,
    model: &Model<'_>,
    state: &State,
) -> Response {
    let Some(pointer) = response.hover_pos().filter(|at| main.contains(*at)) else {
        let in_scale = (response.hover_pos()).is_some_and(|at| at.x < main.left());
        return response.on_hover_text(if in_scale {
            "Levels in dB below full scale, frequencies, and the names of the lanes"
        } else {
            "All that was captured: drag to show another part of it"
        });
    };
    if response.dragged() || lanes.is_some_and(|rect| rect.contains(pointer)) {
        return response;
    }
    let pos = span.pos_of(span.seconds_at(main, pointer.x));
    let takes = &model.view.takes;
    let take = takes.iter().find(|t| t.start <= pos && pos < take_end(t));
    response.on_hover_ui_at_pointer(|ui| {
        let p = theme::of(ui);
        ui.horizontal(|ui| {
            ui.label(status::fine_time(span.clock_of(pos)));
            let look = take.map(|take| state_look(p, take, state.stale.contains(pos)));
            let (colour, words) = look.unwrap_or((p.dim, "not captured"));
            ui.colored_label(colour, words);
        });
        for (kind, text) in take.map_or_else(Vec::new, |take| reasons(take, span, pos)) {
            ui.horizontal(|ui| {
                swatch(ui, p, kind);
                ui.label(text);
            });
        }
        let help = "Drag: select · wheel: zoom · middle drag: move · double-click: all";
        ui.label(egui::RichText::new(help).small().color(p.dim));
    })
}

/// A square in the colour of a kind.
pub fn swatch(ui: &mut Ui, p: &Palette, kind: DamageKind) {
    let (rect, _) = ui.allocate_exact_size(vec2(10.0, 10.0), Sense::hover());
    ui.painter()
        .rect_filled(rect, CornerRadius::same(2), p.damage(kind));
}

/// A column of a strip: the kind that hurts most there, and how much.
type Worst = Option<(DamageKind, f32)>;

/// What the strips of the stems show, as it was last worked out: findings of an hour are long.
#[derive(Default)]
pub struct Strips([Option<(Arc<Findings>, Vec<Worst>)>; Stem::COUNT]);

impl Strips {
    /// The columns of a stem's strip.
    fn of(&mut self, findings: &Arc<Findings>, stem: Stem, columns: usize) -> &[Worst] {
        let slot = &mut self.0[stem as usize];
        let fits = |(of, worst): &(Arc<Findings>, Vec<Worst>)| {
            Arc::ptr_eq(of, findings) && worst.len() == columns
        };
        if !slot.as_ref().is_some_and(fits) {
            let frames = &findings.stems[stem as usize].damage.frames;
            *slot = Some((findings.clone(), worst_of(frames, columns)));
        }
        slot.as_ref().map_or(&[], |(_, worst)| worst)
    }
}

/// The worst of so many columns of a damage map.
fn worst_of(frames: &[Severity], columns: usize) -> Vec<Worst> {
    (0..columns)
        .map(|column| {
            let from = column * frames.len() / columns;
            let to = ((column + 1) * frames.len()).div_ceil(columns);
            let mut worst = [0.0f32; DamageKind::COUNT];
            for frame in &frames[from..to.min(frames.len())] {
                for (worst, &severity) in worst.iter_mut().zip(frame) {
                    *worst = worst.max(severity);
                }
            }
            let all = DamageKind::ALL.map(|kind| (kind, worst[kind as usize]));
            let hurts = all.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
            hurts.filter(|(_, severity)| *severity >= DEFAULT_THRESHOLD)
        })
        .collect()
}

/// A stem's damage as a thin strip: the dominant kind's colour, as high as it is severe.
pub fn strip(
    ui: &mut Ui,
    strips: &mut Strips,
    findings: Option<&Arc<Findings>>,
    stem: Stem,
    size: egui::Vec2,
    name: &str,
) -> Response {
    let p = theme::of(ui);
    let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
    response.widget_info(|| WidgetInfo::labeled(egui::Role::Meter, true, name));
    let painter = ui.painter_at(rect);
    painter.rect_filled(rect, CornerRadius::same(3), p.well);
    let Some(findings) = findings else {
        return response;
    };
    let columns = (rect.width() / 2.0).ceil().max(1.0) as usize;
    let mut mesh = Mesh::default();
    for (column, worst) in strips.of(findings, stem, columns).iter().enumerate() {
        if let Some((kind, severity)) = worst {
            let x = rect.left() + column as f32 * 2.0;
            let height = rect.height() * severity.clamp(0.0, 1.0);
            let cell = Rect::from_x_y_ranges(x..=x + 2.0, rect.bottom() - height..=rect.bottom());
            mesh.add_colored_rect(cell, p.damage(*kind));
        }
    }
    painter.add(Shape::mesh(mesh));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However long the map is, no damaged frame is left out of its strip.
    #[test]
    fn a_strip_shows_every_damaged_frame() {
        for (frames, hurt) in [
            (1, 0),
            (50, 49),
            (360_000, 0),
            (360_000, 123_457),
            (360_000, 359_999),
        ] {
            let mut map = vec![[0.0; DamageKind::COUNT]; frames];
            map[hurt][DamageKind::Click as usize] = 0.7;
            let worst = worst_of(&map, 80);
            let shown: Vec<usize> = (0..80).filter(|i| worst[*i].is_some()).collect();
            assert!(!shown.is_empty(), "{hurt} of {frames}");
            assert!(
                worst
                    .iter()
                    .flatten()
                    .all(|w| *w == (DamageKind::Click, 0.7))
            );
            if frames > 80 {
                assert_eq!(shown, [hurt * 80 / frames]);
            }
        }
        assert_eq!(worst_of(&[], 3), [None; 3]);
    }
}
