// [main] Peaks of captured audio as columns: filled, or as the line around them; and where damage lies behind them.

use std::ops::Range;

use egui::{Color32, Mesh, Painter, Rect, Shape, pos2};

use crate::{
    damage::{DEFAULT_THRESHOLD, DamageKind, FRAMES_PER_SECOND},
    editor::{theme::Palette, timeline::Span},
    worker::{
        picture::{PEAK_SAMPLES, Picture},
        pyramid::Cells,
        view::{DamageCells, TakeView},
    },
};

/// The severity that counts as damage, as cells hold it.
const THRESHOLD: u8 = (DEFAULT_THRESHOLD * 255.0) as u8;
/// Columns to either side over which the line around a wave is smoothed, and its thickness.
const REACH: usize = 2;
const LINE: f32 = 1.5;

/// Severities of every kind, 0..=255.
pub type Severities = Cells<{ DamageKind::COUNT }>;

/// Items of a column, at least one, with its edges moved to whole groups of up to an eighth of it: the summaries of
/// those are at hand, and neighbours still share no item and leave none out.
fn coarse(from: usize, to: usize) -> Range<usize> {
    let mut group = 1;
    while 32 * group <= to.saturating_sub(from) {
        group *= 4;
    }
    let [from, to] = [from, to].map(|edge| edge / group * group);
    from..to.max(from.saturating_add(group))
}

/// Where the peaks of a take are drawn, column by column.
#[derive(Clone, Copy)]
pub struct Columns<'a> {
    /// From, to, and the width of each, in points.
    pub extent: (f32, f32, f32),
    /// Its width is that of `span`.
    pub lane: Rect,
    /// The amplitude that is as high as the lane.
    pub full: f32,
    pub span: &'a Span,
    pub take: &'a TakeView,
}

/// One column of a wave.
struct Bar {
    x: f32,
    top: f32,
    bottom: f32,
    colour: Color32,
}

impl Columns<'_> {
    /// The same columns in another lane above or below.
    pub fn on(self, lane: Rect) -> Self {
        Self { lane, ..self }
    }

    /// Where each column begins.
    fn places(&self) -> impl Iterator<Item = f32> + use<> {
        let (left, right, width) = self.extent;
        let count = ((right - left) / width).ceil().max(1.0) as usize;
        (0..count).map(move |i| left + i as f32 * width)
    }

    fn bars(&self, picture: &Picture, colour: impl Fn(usize) -> Color32) -> Vec<Bar> {
        let Self {
            lane,
            span,
            take,
            full,
            ..
        } = self;
        let rate = f64::from(take.sample_rate.max(1));
        let half = 0.5 * lane.height();
        let middle = lane.center().y;
        let sample = |x: f32| {
            let seconds = span.seconds_at(*lane, x);
            (span.pos_of(seconds).since(take.start).max(0) as f64 * rate / span.rate) as usize
        };
        self.places()
            .enumerate()
            .filter_map(|(i, x)| {
                let (from, to) = (sample(x), sample(x + self.extent.2));
                let peak = (picture.wave).over(coarse(from / PEAK_SAMPLES, to / PEAK_SAMPLES))?;
                let [high, low] = [peak.high, peak.low].map(|x| (x / full).clamp(-1.0, 1.0));
                let top = middle - high * half;
                Some(Bar {
                    x,
                    top,
                    bottom: (middle - low * half).max(top + 1.0),
                    colour: colour(i),
                })
            })
            .collect()
    }

    /// Fills the wave of `picture`, bright at its peaks and darker towards the middle; `colour` by the column's number.
    pub fn fill(&self, mesh: &mut Mesh, picture: &Picture, colour: impl Fn(usize) -> Color32) {
        let middle = self.lane.center().y;
        let half = (0.5 * self.lane.height()).max(1.0);
        for bar in self.bars(picture, colour) {
            let right = bar.x + self.extent.2;
            // As bright as the place is far from the middle.
            let at = |y: f32| {
                let far = ((y - middle).abs() / half).min(1.0);
                bar.colour.gamma_multiply(0.62 + 0.38 * far.sqrt())
            };
            let first = mesh.vertices.len() as u32;
            let centre = middle.clamp(bar.top, bar.bottom);
            for y in [bar.top, centre, bar.bottom] {
                mesh.colored_vertex(pos2(bar.x, y), at(y));
                mesh.colored_vertex(pos2(right, y), at(y));
            }
            for row in [0, 2] {
                let corner = first + row;
                mesh.add_triangle(corner, corner + 1, corner + 2);
                mesh.add_triangle(corner + 2, corner + 1, corner + 3);
            }
        }
    }

    /// Draws the line around the wave of `picture`, smoothed.
    pub fn outline(&self, mesh: &mut Mesh, picture: &Picture, colour: impl Fn(usize) -> Color32) {
        let bars = self.bars(picture, colour);
        let around = |i: usize| &bars[i.saturating_sub(REACH)..(i + REACH + 1).min(bars.len())];
        let highest = |i: usize| around(i).iter().map(|b| b.top).fold(f32::MAX, f32::min);
        let lowest = |i: usize| (around(i).iter().map(|b| b.bottom)).fold(f32::MIN, f32::max);
        let mut before = bars.first().map(|_| (highest(0), lowest(0)));
        for (i, bar) in bars.iter().enumerate() {
            let now = (highest(i), lowest(i));
            let last = before.replace(now).unwrap_or(now);
            for (a, b) in [(last.0, now.0), (last.1, now.1)] {
                let rows = a.min(b) - 0.5 * LINE..=a.max(b) + 0.5 * LINE;
                let piece = Rect::from_x_y_ranges(bar.x..=bar.x + self.extent.2, rows);
                mesh.add_colored_rect(piece, bar.colour);
            }
        }
    }

    /// What hurts most in each column, if anything does.
    pub fn kinds(&self) -> Vec<Option<DamageKind>> {
        let offset = self.span.seconds_of(self.take.start);
        let seconds = |x: f32| self.span.seconds_at(self.lane, x) - offset;
        self.places()
            .map(|x| {
                let (from, to) = (seconds(x), seconds(x + self.extent.2));
                dominant(&cells_of(&self.take.damage, from, to))
            })
            .collect()
    }

    /// A faint ground in the colour of what is damaged, as high as the lane.
    pub fn ground(&self, mesh: &mut Mesh, p: &Palette, kinds: &[Option<DamageKind>]) {
        let (left, right, width) = self.extent;
        let mut from = 0;
        for alike in kinds.chunk_by(|a, b| a == b) {
            let to = from + alike.len();
            if let Some(kind) = alike[0] {
                let x = |column: usize| (left + column as f32 * width).min(right);
                let area = Rect::from_x_y_ranges(x(from)..=x(to), self.lane.y_range());
                mesh.add_colored_rect(area, p.damage(kind).gamma_multiply(0.13));
            }
            from = to;
        }
    }
}

/// The worst damage between two times, in seconds from the start of the take.
pub fn cells_of(damage: &DamageCells, from: f64, to: f64) -> Severities {
    let frame = |seconds: f64| (seconds * FRAMES_PER_SECOND as f64).max(0.0) as usize;
    (damage.over(coarse(frame(from), frame(to)))).unwrap_or(Cells([0; DamageKind::COUNT]))
}

/// The kind that hurts most, if any reaches the threshold.
pub fn dominant(cells: &Severities) -> Option<DamageKind> {
    DamageKind::ALL
        .into_iter()
        .filter(|&kind| cells.0[kind as usize] >= THRESHOLD)
        .max_by_key(|&kind| cells.0[kind as usize])
}

/// Hands over what has been collected, so that what follows lies above it.
pub fn hand_over(painter: &Painter, mesh: &mut Mesh) {
    if !mesh.is_empty() {
        painter.add(Shape::mesh(std::mem::take(mesh)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_any_width_leave_no_item_out() {
        for width in [0.3, 1.0, 7.0, 33.0, 572.3, 2_490.7] {
            let edge = |column: usize| (column as f64 * width) as usize;
            let mut last = coarse(edge(0), edge(1));
            assert_eq!(last.start, 0);
            for column in 1..400 {
                let now = coarse(edge(column), edge(column + 1));
                assert!(
                    now.start <= last.end && now.start < now.end,
                    "{width}: {last:?} {now:?}"
                );
                let off = now.start.abs_diff(edge(column)) as f64;
                assert!(off <= (width / 8.0).max(0.0), "{width}: {off} items");
                last = now;
            }
        }
    }
}
