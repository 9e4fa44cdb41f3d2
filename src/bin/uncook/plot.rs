// [cli] `uncook analyze --plot`: what was heard, drawn over the waveform.
//
// From top to bottom: waveform with beats and downbeats, chords, chroma, notes of bass and lead, hits, seconds.

use std::{fs::File, io::BufWriter, path::Path};

use anyhow::{Context, Result};
use uncook::{
    audio::AudioBuffer,
    profile::{self, DrumClass, MusicalProfile, PITCH_CLASSES},
};

type Colour = [u8; 3];

const PAPER: Colour = [250, 250, 247];
const INK: Colour = [40, 44, 52];
const WAVE: Colour = [150, 165, 185];
const BEAT: Colour = [205, 208, 214];
const DOWNBEAT: Colour = [214, 92, 76];
const BASS: Colour = [52, 104, 192];
const LEAD: Colour = [196, 108, 30];

/// Pixels a second, and the limits of the picture's width.
const PER_SECOND: f64 = 60.0;
const WIDTH: (usize, usize) = (800, 16_000);
/// Margin for the labels on the left.
const LEFT: usize = 44;
/// Rows: top and height.
const WAVEFORM: (usize, usize) = (8, 130);
const CHORDS: (usize, usize) = (144, 26);
const CHROMA: (usize, usize) = (176, 132);
const NOTES: (usize, usize) = (316, 260);
const HITS: (usize, usize) = (584, 126);
/// Seconds: top of the row, how far apart they may be written, and the pixels that a number needs.
const CLOCK: usize = 720;
const CLOCK_STEPS: [usize; 5] = [5, 10, 30, 60, 300];
const CLOCK_ROOM: f64 = 64.0;
const HEIGHT: usize = 738;
/// Share of the loud frames' chroma at which a frame is drawn at full strength: below, it fades with its level.
const FADES_BELOW: f32 = 0.1;
/// Notes drawn: MIDI range.
const LOWEST: f64 = 23.0;
const HIGHEST: f64 = 93.0;

struct Picture {
    width: usize,
    pixels: Vec<u8>,
}

impl Picture {
    fn new(width: usize) -> Self {
        Self {
            width,
            pixels: PAPER.repeat(width * HEIGHT),
        }
    }

    /// Mixes `share` of `colour` into a rectangle; what lies outside is left out.
    fn fill(&mut self, x: (usize, usize), y: (usize, usize), colour: Colour, share: f32) {
        for row in y.0..y.1.min(HEIGHT) {
            for column in x.0..x.1.min(self.width) {
                let at = 3 * (row * self.width + column);
                for (p, c) in self.pixels[at..at + 3].iter_mut().zip(colour) {
                    *p = (f32::from(*p) + share * (f32::from(c) - f32::from(*p))).round() as u8;
                }
            }
        }
    }

    /// Text in a font of 3 × 5 dots of two pixels.
    fn write(&mut self, text: &str, x: usize, y: usize, colour: Colour) {
        for (i, c) in text.chars().enumerate() {
            for (row, bits) in glyph(c).into_iter().enumerate() {
                for column in 0..3 {
                    if bits >> (2 - column) & 1 == 1 {
                        let (px, py) = (x + 8 * i + 2 * column, y + 2 * row);
                        self.fill((px, px + 2), (py, py + 2), colour, 1.0);
                    }
                }
            }
        }
    }
}

/// Draws `profile` over `audio` into a PNG file.
///
/// # Errors
/// If the file can't be written.
pub fn draw(audio: &AudioBuffer, profile: &MusicalProfile, path: &Path) -> Result<()> {
    let seconds = audio.seconds().max(0.01);
    let width = ((seconds * PER_SECOND) as usize + LEFT + 8).clamp(WIDTH.0, WIDTH.1);
    let scale = (width - LEFT - 8) as f64 / seconds;
    let at = |t: f64| LEFT + (t.max(0.0) * scale) as usize;
    let mut picture = Picture::new(width);

    chroma(&mut picture, audio, scale);
    for &beat in &profile.beats {
        let down = profile.downbeats.contains(&beat);
        let (colour, share) = if down { (DOWNBEAT, 0.8) } else { (BEAT, 0.8) };
        for row in [WAVEFORM, NOTES, HITS] {
            picture.fill(
                (at(beat), at(beat) + 1),
                (row.0, row.0 + row.1),
                colour,
                share,
            );
        }
    }
    waveform(&mut picture, audio);
    for chord in &profile.chords {
        let (from, to) = (at(chord.start), at(chord.end));
        let root = chord.label.split(':').next().unwrap_or("");
        let colour = PITCH_CLASSES
            .iter()
            .position(|&n| n == root)
            .map_or([225, 225, 225], |i| hue(i as f64 / 12.0));
        let row = (CHORDS.0, CHORDS.0 + CHORDS.1);
        picture.fill(
            (from, to.saturating_sub(1)),
            row,
            colour,
            0.25 + 0.5 * chord.confidence,
        );
        let room = to.saturating_sub(from + 4) / 8;
        let text: String = chord.label.chars().take(room).collect();
        picture.write(&text, from + 3, CHORDS.0 + 8, INK);
    }
    for (notes, colour) in [(&profile.bass_notes, BASS), (&profile.melody_notes, LEAD)] {
        for note in notes {
            let place = (f64::from(note.midi).clamp(LOWEST, HIGHEST) - LOWEST) / (HIGHEST - LOWEST);
            let y = NOTES.0 + ((1.0 - place) * (NOTES.1 - 4) as f64) as usize;
            let x = (at(note.t), at(note.t + note.dur).max(at(note.t) + 2));
            picture.fill(x, (y, y + 4), colour, 0.35 + 0.65 * note.confidence);
            picture.fill((x.0, x.0 + 1), (y.saturating_sub(1), y + 5), INK, 0.8);
        }
    }
    let lane = HITS.1 / DrumClass::COUNT;
    for hit in &profile.drums {
        let y = HITS.0 + lane * hit.class as usize;
        let tall = 3 + (hit.velocity * (lane - 5) as f32) as usize;
        let bottom = y + lane - 1;
        let share = 0.3 + 0.7 * hit.confidence;
        picture.fill(
            (at(hit.t), at(hit.t) + 3),
            (bottom - tall, bottom),
            INK,
            share,
        );
    }
    let fits = |step: &&usize| **step as f64 * scale >= CLOCK_ROOM;
    let step = CLOCK_STEPS.iter().find(fits).unwrap_or(&CLOCK_STEPS[4]);
    for second in (0..=seconds as usize).step_by(*step) {
        let x = at(second as f64);
        picture.fill((x, x + 1), (CLOCK - 6, CLOCK), INK, 0.6);
        picture.write(&format!("{second} S"), x + 3, CLOCK + 2, INK);
    }
    labels(&mut picture, lane);
    save(&picture, path)
        .with_context(|| format!("{}: can't be written; choose another place", path.display()))
}

fn save(picture: &Picture, path: &Path) -> Result<()> {
    let file = BufWriter::new(File::create(path)?);
    let mut encoder = png::Encoder::new(file, picture.width as u32, HEIGHT as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(&picture.pixels)?;
    Ok(())
}

fn waveform(picture: &mut Picture, audio: &AudioBuffer) {
    let frames = audio.frames();
    let columns = picture.width - LEFT - 8;
    let middle = (WAVEFORM.0 + WAVEFORM.1 / 2) as f32;
    let y = |x: f32| (middle - x.clamp(-1.0, 1.0) * (WAVEFORM.1 / 2) as f32) as usize;
    for column in 0..columns {
        let (from, to) = (column * frames / columns, (column + 1) * frames / columns);
        let (mut low, mut high) = (0.0f32, 0.0f32);
        for channel in &audio.channels {
            for &x in &channel[from..to] {
                if x.is_finite() {
                    low = low.min(x);
                    high = high.max(x);
                }
            }
        }
        let x = LEFT + column;
        picture.fill((x, x + 1), (y(high), y(low) + 1), WAVE, 0.85);
    }
}

fn chroma(picture: &mut Picture, audio: &AudioBuffer, scale: f64) {
    let rows = profile::chromagram(audio);
    let lane = CHROMA.1 / 12;
    let tops: Vec<f32> = rows
        .iter()
        .map(|r| r.iter().copied().fold(0.0, f32::max))
        .collect();
    let mut sorted = tops.clone();
    sorted.sort_by(f32::total_cmp);
    // Silence before and after the music must not be drawn as loud as the music.
    let loud = sorted.get(sorted.len() * 9 / 10).copied().unwrap_or(0.0);
    let floor = (FADES_BELOW * loud).max(1e-9);
    for (i, (row, top)) in rows.iter().zip(&tops).enumerate() {
        let top = top.max(floor);
        let x = |i: usize| LEFT + (i as f64 / profile::CHROMAGRAM_FPS * scale) as usize;
        let columns = (x(i), x(i + 1).max(x(i) + 1));
        for (pc, level) in row.iter().enumerate() {
            let y = CHROMA.0 + lane * (11 - pc);
            picture.fill(
                columns,
                (y, y + lane - 1),
                [74, 48, 120],
                0.85 * level / top,
            );
        }
    }
}

fn labels(picture: &mut Picture, lane: usize) {
    let names = ["KICK", "SNARE", "HAT", "OPEN", "TOM", "CRASH", "RIDE"];
    for (i, name) in names.iter().enumerate() {
        picture.write(name, 2, HITS.0 + lane * i + 4, INK);
    }
    for (pc, name) in PITCH_CLASSES.iter().enumerate() {
        picture.write(name, 26, CHROMA.0 + CHROMA.1 / 12 * (11 - pc), INK);
    }
    picture.write("LEAD", 2, NOTES.0 + 60, LEAD);
    picture.write("BASS", 2, NOTES.0 + NOTES.1 - 50, BASS);
}

/// A light colour around the wheel, 0..1.
fn hue(turn: f64) -> Colour {
    std::array::from_fn(|k| {
        let wave = (std::f64::consts::TAU * (turn + k as f64 / 3.0)).cos();
        (175.0 + 60.0 * wave) as u8
    })
}

/// Rows of three dots, the highest bit on the left; a blank for what no label uses.
fn glyph(c: char) -> [u8; 5] {
    match c.to_ascii_uppercase() {
        'A' => [2, 5, 7, 5, 5],
        'B' => [6, 5, 6, 5, 6],
        'C' => [3, 4, 4, 4, 3],
        'D' => [6, 5, 5, 5, 6],
        'E' => [7, 4, 6, 4, 7],
        'F' => [7, 4, 6, 4, 4],
        'G' => [3, 4, 5, 5, 3],
        'H' => [5, 5, 7, 5, 5],
        'I' => [7, 2, 2, 2, 7],
        'J' => [1, 1, 1, 5, 2],
        'K' => [5, 5, 6, 5, 5],
        'L' => [4, 4, 4, 4, 7],
        'M' => [5, 7, 7, 5, 5],
        'N' => [6, 5, 5, 5, 5],
        'O' => [2, 5, 5, 5, 2],
        'P' => [6, 5, 6, 4, 4],
        'R' => [6, 5, 6, 5, 5],
        'S' => [3, 4, 2, 1, 6],
        'T' => [7, 2, 2, 2, 2],
        'U' => [5, 5, 5, 5, 7],
        'X' => [5, 5, 2, 5, 5],
        '0' => [7, 5, 5, 5, 7],
        '1' => [2, 6, 2, 2, 7],
        '2' => [6, 1, 2, 4, 7],
        '3' => [6, 1, 2, 1, 6],
        '4' => [5, 5, 7, 1, 1],
        '5' => [7, 4, 6, 1, 6],
        '6' => [3, 4, 7, 5, 7],
        '7' => [7, 1, 2, 2, 2],
        '8' => [7, 5, 7, 5, 7],
        '9' => [7, 5, 7, 1, 6],
        '#' => [5, 7, 5, 7, 5],
        ':' => [0, 2, 0, 2, 0],
        '/' => [1, 1, 2, 4, 4],
        _ => [0; 5],
    }
}
