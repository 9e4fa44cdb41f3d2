// [main] The spectrogram: one texture a lane, made anew only when what it shows has changed.

use egui::{Color32, ColorImage, Painter, Pos2, Rect, TextureHandle, TextureOptions, Ui};

use crate::{
    editor::{
        scale,
        theme::Palette,
        timeline::{Span, take_end},
    },
    worker::{
        picture::{BANDS, Picture, SPECTRUM_HZ, spectrum_hop},
        view::TakeView,
    },
};

/// Widest texture in pixels.
const MAX_WIDTH: usize = 2048;
/// Colours from silence to full scale.
const COLOURS: usize = 256;

/// What a texture was made of: when this changes, so does the picture.
#[derive(Clone, Debug, PartialEq)]
struct Key {
    columns: Vec<(i64, usize)>,
    start: f64,
    seconds: f64,
    width: usize,
    dark: bool,
}

/// The textures of the two lanes, before and after.
#[derive(Default)]
pub struct Textures([Option<(Key, TextureHandle)>; 2]);

/// Draws lane 0 (before) or 1 (after) of `takes` into `rect`.
pub fn draw(
    ui: &Ui,
    painter: &Painter,
    textures: &mut Textures,
    lane: usize,
    rect: Rect,
    span: &Span,
    takes: &[TakeView],
) {
    let dark = ui.visuals().dark_mode;
    let width = (rect.width().ceil() as usize).clamp(1, MAX_WIDTH);
    let key = Key {
        columns: takes
            .iter()
            .map(|t| (t.start.0, picture(t, lane).spectrum.len()))
            .collect(),
        start: span.shown.start,
        seconds: span.shown.seconds,
        width,
        dark,
    };
    let Some(slot) = textures.0.get_mut(lane) else {
        return;
    };
    let texture = match slot {
        Some((old, texture)) if *old == key => texture.id(),
        _ => {
            let image = image(&key, rect, span, takes, lane);
            let name = format!("spectrogram {lane}");
            let texture = ui.ctx().load_texture(name, image, TextureOptions::LINEAR);
            slot.insert((key, texture)).1.id()
        }
    };
    let whole = Rect::from_min_max(Pos2::ZERO, Pos2::new(1.0, 1.0));
    painter.image(texture, rect, whole, Color32::WHITE);
}

fn picture(take: &TakeView, lane: usize) -> &Picture {
    if lane == 0 { &take.before } else { &take.after }
}

fn image(key: &Key, rect: Rect, span: &Span, takes: &[TakeView], lane: usize) -> ColorImage {
    let colours = colours(key.dark);
    let mut image = ColorImage::filled([key.width, BANDS], colours[0]);
    for take in takes {
        let spectrum = &picture(take, lane).spectrum;
        let hop = spectrum_hop(take.sample_rate) as f64;
        let (from, to) = (span.x_of(rect, take.start), span.x_of(rect, take_end(take)));
        let first = (from - rect.left()).max(0.0) as usize;
        let last = ((to - rect.left()).max(0.0).ceil() as usize).min(key.width);
        for x in first..last {
            let column = |x: usize| {
                let seconds = span.seconds_at(rect, rect.left() + x as f32);
                let sample = span.pos_of(seconds).since(take.start).max(0) as f64;
                sample * (f64::from(take.sample_rate.max(1)) / span.rate) / hop
            };
            let at = column(x) as usize;
            let until = (column(x + 1) as usize).max(at + 1);
            let Some(bands) = spectrum.over(at..until) else {
                continue;
            };
            for (band, level) in bands.0.iter().enumerate() {
                let y = BANDS - 1 - band;
                image.pixels[y * key.width + x] = colours[usize::from(*level)];
            }
        }
    }
    image
}

/// From the well through blue and the accent to near white; the other way round on a light ground. Its
/// lightness rises all the way, so that it reads without colour too.
fn colours(dark: bool) -> [Color32; COLOURS] {
    const STOPS: [[f32; 3]; 5] = [
        [13.0, 15.0, 19.0],
        [38.0, 44.0, 98.0],
        [38.0, 120.0, 142.0],
        [120.0, 205.0, 150.0],
        [255.0, 250.0, 205.0],
    ];
    std::array::from_fn(|i| {
        // The lowest 20 % are the noise of the measurement.
        let level = ((i as f32 / 255.0 - 0.2) / 0.8).clamp(0.0, 1.0);
        let at = level * (STOPS.len() - 1) as f32;
        let k = (at as usize).min(STOPS.len() - 2);
        let [r, g, b] = [0, 1, 2].map(|c| {
            let x = STOPS[k][c] + (at - k as f32) * (STOPS[k + 1][c] - STOPS[k][c]);
            if dark { x as u8 } else { 255 - x as u8 }
        });
        Color32::from_rgb(r, g, b)
    })
}

/// Lines at frequencies that musicians know, named on the left; in a low lane only those whose names have room.
pub fn axis(painter: &Painter, p: &Palette, rect: Rect) {
    /// Height of a name with some air.
    const ROOM: f32 = 11.0;
    let (low, high) = SPECTRUM_HZ;
    let mut free = f32::INFINITY;
    for (hz, text) in [(100.0, "100 Hz"), (1_000.0, "1 kHz"), (10_000.0, "10 kHz")] {
        let share = (hz / low).ln() / (high / low).ln();
        let y = rect.bottom() - share as f32 * rect.height();
        let line = egui::Stroke::new(1.0, p.text.gamma_multiply(0.18));
        painter.hline(rect.x_range(), y, line);
        if y <= free {
            free = y - ROOM;
            scale::beside(painter, p, rect, y, text);
        }
    }
}
