// [main] The stretch of song that is shown: positions to pixels and back, zoom, pan, ruler.

use egui::{Align2, FontId, Painter, Rect, Stroke, emath::lerp, pos2};

use crate::{
    editor::{status, theme::Palette},
    exchange::SamplePos,
    worker::view::TakeView,
};

/// Shortest stretch that can be shown, in seconds, and the shortest whole timeline.
const MIN_SECONDS: f64 = 0.05;
const MIN_TOTAL: f64 = 10.0;
/// Least distance of two labels on the ruler.
const LABEL_DISTANCE: f32 = 76.0;

/// A stretch of the timeline, in seconds from its beginning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Viewport {
    pub start: f64,
    pub seconds: f64,
}

/// The whole timeline and what of it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Position of second 0.
    pub origin: SamplePos,
    /// Samples a second.
    pub rate: f64,
    /// Seconds from the first take to the end of the last.
    pub total: f64,
    pub shown: Viewport,
}

/// First position after a take.
pub fn take_end(take: &TakeView) -> SamplePos {
    take.start.offset(take.frames.min(i64::MAX as u64) as i64)
}

impl Span {
    /// All takes, at least ten seconds; of it `viewport`, made to fit.
    pub fn of(takes: &[TakeView], viewport: Option<Viewport>) -> Option<Self> {
        let first = takes.first()?;
        let end = takes.iter().map(take_end).max()?;
        let rate = f64::from(first.sample_rate.max(1));
        let total = (end.since(first.start) as f64 / rate).max(MIN_TOTAL);
        let whole = Viewport {
            start: 0.0,
            seconds: total,
        };
        Some(Self {
            origin: first.start,
            rate,
            total,
            shown: viewport.map_or(whole, |v| v.within(total)),
        })
    }

    /// Seconds from the beginning of the timeline.
    pub fn seconds_of(&self, pos: SamplePos) -> f64 {
        pos.since(self.origin) as f64 / self.rate
    }

    /// The position at `seconds`.
    pub fn pos_of(&self, seconds: f64) -> SamplePos {
        self.origin.offset((seconds * self.rate).round() as i64)
    }

    /// Seconds as the host's clock shows them.
    pub fn clock_of(&self, pos: SamplePos) -> f64 {
        pos.0 as f64 / self.rate
    }

    pub fn x(&self, rect: Rect, seconds: f64) -> f32 {
        let share = (seconds - self.shown.start) / self.shown.seconds;
        // Far outside is as good as outside: positions come from hosts.
        lerp(rect.left()..=rect.right(), share.clamp(-10.0, 11.0) as f32)
    }

    pub fn x_of(&self, rect: Rect, pos: SamplePos) -> f32 {
        self.x(rect, self.seconds_of(pos))
    }

    /// Seconds at a pixel.
    pub fn seconds_at(&self, rect: Rect, x: f32) -> f64 {
        let share = f64::from((x - rect.left()) / rect.width().max(1.0));
        self.shown.start + share * self.shown.seconds
    }

    /// The viewport after a zoom around the second under the pointer; `None` when everything is shown.
    pub fn zoomed(&self, factor: f64, around: f64) -> Option<Viewport> {
        let seconds = (self.shown.seconds / factor).max(MIN_SECONDS);
        // All the way out, whatever rounding left.
        if seconds >= self.total * (1.0 - 1e-9) {
            return None;
        }
        let share = (around - self.shown.start) / self.shown.seconds;
        let start = around - share * seconds;
        Some(Viewport { start, seconds }.within(self.total))
    }

    /// The viewport `seconds` later.
    pub fn panned(&self, seconds: f64) -> Option<Viewport> {
        let start = self.shown.start + seconds;
        let moved = Viewport {
            start,
            ..self.shown
        };
        (self.shown.seconds < self.total).then(|| moved.within(self.total))
    }
}

impl Viewport {
    fn within(self, total: f64) -> Self {
        let seconds = if self.seconds.is_finite() {
            self.seconds
        } else {
            total
        };
        let seconds = seconds.clamp(MIN_SECONDS.min(total), total);
        let start = if self.start.is_finite() {
            self.start
        } else {
            0.0
        };
        Self {
            start: start.clamp(0.0, total - seconds),
            seconds,
        }
    }
}

/// Marks with their times.
pub fn ruler(painter: &Painter, p: &Palette, rect: Rect, span: &Span) {
    let room = f64::from((rect.width() / LABEL_DISTANCE).max(1.0));
    let steps = [
        0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0,
        600.0, 1800.0, 3600.0,
    ];
    // A session may hold takes hours apart; the number of labels is bounded all the same.
    let step = steps
        .into_iter()
        .find(|step| span.shown.seconds / step <= room)
        .unwrap_or(span.shown.seconds / room);
    let from = span.origin.0 as f64 / span.rate + span.shown.start;
    let first = (from / step).ceil();
    for i in 0..=room as usize + 1 {
        let tick = (first + i as f64) * step;
        let x = span.x(rect, tick - span.origin.0 as f64 / span.rate);
        if x > rect.right() {
            break;
        }
        painter.vline(x, rect.top()..=rect.top() + 5.0, Stroke::new(1.0, p.line));
        let text = if step < 1.0 {
            status::fine_time(tick)
        } else {
            status::time(tick)
        };
        painter.text(
            pos2(x + 3.0, rect.bottom()),
            Align2::LEFT_BOTTOM,
            text,
            FontId::proportional(10.0),
            p.dim,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use egui::vec2;

    fn span(viewport: Option<Viewport>) -> Span {
        let take = TakeView {
            start: SamplePos(48_000),
            frames: 100 * 48_000,
            sample_rate: 48_000,
            ..TakeView::default()
        };
        Span::of(&[take], viewport).unwrap()
    }

    #[test]
    fn what_lies_under_the_pointer_stays_there_while_zooming() {
        let rect = Rect::from_min_size(pos2(10.0, 0.0), vec2(500.0, 10.0));
        let mut view = None;
        let x = 210.0;
        let under = span(view).seconds_at(rect, x);
        for _ in 0..12 {
            view = span(view).zoomed(1.5, under);
            assert!((span(view).seconds_at(rect, x) - under).abs() < 1e-4);
        }
        for _ in 0..13 {
            view = span(view).zoomed(1.0 / 1.5, under);
        }
        assert_eq!(view, None, "all the way out shows everything");
    }

    #[test]
    fn panning_ends_at_the_ends() {
        let shown = span(Some(Viewport {
            start: 5.0,
            seconds: 10.0,
        }));
        assert_eq!(shown.panned(-20.0).unwrap().start, 0.0);
        assert_eq!(shown.panned(500.0).unwrap().start, 90.0);
        assert_eq!(span(None).panned(5.0), None);
        let odd = span(Some(Viewport {
            start: f64::NAN,
            seconds: f64::INFINITY,
        }));
        assert_eq!(odd.shown, span(None).shown);
    }
}
