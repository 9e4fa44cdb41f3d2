// [main] How loud the waveform is: the amplitude that fills its lane, and the scale beside it.

use egui::{Align2, FontId, Painter, Rect, Stroke, pos2};

use crate::{
    editor::theme::Palette,
    worker::{picture::Picture, view::TakeView},
};

/// Width of the names and scales on the left of the timeline, and of the air on its right.
pub const GUTTER: f32 = 52.0;
pub const MARGIN: f32 = 8.0;
/// The lane's height is a whole number of these, so that it stays while a take grows.
const STEP_DB: f32 = 3.0;
/// What is quieter than this is drawn small: silence isn't made to look like sound.
const LEAST_DB: f32 = -36.0;
/// Distance of two names of the scale, and of the last one from the middle.
const APART: f32 = 11.0;
/// Names of the scale are at multiples of this.
const TICK_DB: f32 = 6.0;

fn amplitude(db: f32) -> f32 {
    10f32.powf(db / 20.0)
}

/// The amplitude that is as high as a lane: the loudest sample of all takes, recorded or repaired, and up to 3 dB more.
/// Phones record quietly, and what a repair restores rises above full scale.
pub fn full(takes: &[TakeView]) -> f32 {
    let repaired = takes.iter().map(|take| fitting([&*take.after]));
    repaired.fold(recorded(takes), f32::max)
}

/// The same where only what was recorded is drawn.
pub fn recorded(takes: &[TakeView]) -> f32 {
    fitting(takes.iter().map(|take| &take.before))
}

fn fitting<'a>(pictures: impl IntoIterator<Item = &'a Picture>) -> f32 {
    let loudest = (pictures.into_iter())
        .filter_map(|picture| picture.wave.over(0..picture.wave.len()))
        .map(|peak| peak.high.max(-peak.low))
        .filter(|peak| peak.is_finite())
        .fold(0.0, f32::max);
    let db = 20.0 * loudest.max(amplitude(LEAST_DB)).log10();
    // A peak that lies on a step needs no further one, whatever rounding made of it.
    amplitude(((db - 0.01) / STEP_DB).ceil() * STEP_DB)
}

/// Names of levels and how far from the middle they are, as shares of half the lane.
fn ticks(full: f32, half: f32) -> Vec<(String, f32)> {
    let full_db = 20.0 * full.log10();
    let mut db = ((full_db + 0.01) / TICK_DB).floor() * TICK_DB;
    let mut out: Vec<(String, f32)> = Vec::new();
    loop {
        let share = amplitude(db) / full;
        if share * half < APART {
            return out;
        }
        if out
            .last()
            .is_none_or(|(_, last)| (last - share) * half >= APART)
        {
            let unit = if out.is_empty() { " dB" } else { "" };
            out.push((format!("{db:.0}{unit}"), share));
        }
        db -= TICK_DB;
    }
}

/// The scale on the left of a lane, and faint lines through it.
pub fn draw(painter: &Painter, p: &Palette, lane: Rect, full: f32) {
    let middle = lane.center().y;
    let half = 0.5 * lane.height();
    painter.hline(
        lane.x_range(),
        middle,
        Stroke::new(1.0, p.line.gamma_multiply(0.6)),
    );
    for (name, share) in ticks(full, half) {
        let y = middle - share * half;
        let line = Stroke::new(1.0, p.line.gamma_multiply(0.45));
        for y in [y, middle + share * half] {
            painter.hline(lane.x_range(), y, line);
        }
        beside(painter, p, lane, y, &name);
    }
}

/// A name on the left of a lane, at a height in it.
pub fn beside(painter: &Painter, p: &Palette, lane: Rect, y: f32, name: &str) {
    // Whole, unless the lane is lower than a name.
    let half = 5.0f32.min(0.5 * lane.height());
    let y = y.max(lane.top() + half).min(lane.bottom() - half);
    let at = pos2(lane.left() - 6.0, y);
    let font = FontId::proportional(10.0);
    painter.text(at, Align2::RIGHT_CENTER, name, font, p.dim);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::picture::Painter as Brush;

    fn take(before: f32, after: f32) -> TakeView {
        let paint = |x: f32| Brush::paint(&[&vec![x; 4_096][..], &vec![x; 4_096][..]], 48_000);
        TakeView {
            before: paint(before),
            after: paint(after).into(),
            ..TakeView::default()
        }
    }

    #[test]
    fn the_loudest_sample_fills_the_lane_in_steps_of_3_db() {
        let db = |takes: &[TakeView]| (20.0 * full(takes).log10()).round();
        assert_eq!(db(&[]), LEAST_DB);
        assert_eq!(db(&[take(0.0, 0.0)]), LEAST_DB, "silence");
        assert_eq!(db(&[take(1.0, 0.1)]), 0.0);
        assert_eq!(db(&[take(-0.2, 0.1)]), -12.0, "-14 dB, downwards");
        assert_eq!((20.0 * recorded(&[take(0.2, 2.6)]).log10()).round(), -12.0);
        // What is restored above full scale is shown whole; every take counts.
        assert_eq!(db(&[take(0.2, 0.2), take(0.7, 2.6)]), 9.0);
        for (before, after) in [(0.3, 0.1), (0.9, 1.7), (1e-6, 0.0), (f32::NAN, 0.5)] {
            let full = full(&[take(before, after)]);
            assert!(before.max(after) <= full * 1.002, "{before} {after} {full}");
        }
    }

    #[test]
    fn the_scale_is_where_the_levels_are_and_readable() {
        for db in [-36.0, -9.0, 0.0, 3.0, 9.0] {
            for half in [6.0, 20.0, 40.0, 200.0] {
                let ticks = ticks(amplitude(db), half);
                for (name, share) in &ticks {
                    let level: f32 = name.trim_end_matches(" dB").parse().unwrap();
                    assert!((share - amplitude(level - db)).abs() < 1e-3, "{name}");
                    assert!(share * half >= APART && *share <= 1.001);
                }
                assert!(ticks.windows(2).all(|w| (w[0].1 - w[1].1) * half >= APART));
                assert_eq!(ticks.is_empty(), half < APART, "{db} {half}");
            }
        }
        assert_eq!(ticks(amplitude(-9.0), 40.0)[0].0, "-12 dB");
    }
}
