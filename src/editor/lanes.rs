// [main] What was played, under the waveform: chords, bass and drums on the beat grid.

use egui::{Align2, Color32, CornerRadius, FontId, Painter, Rect, Stroke, Ui, pos2, vec2};

use crate::{
    editor::{
        theme::Palette,
        timeline::{Span, take_end},
    },
    profile::{DrumClass, MusicalProfile, PITCH_CLASSES},
    worker::view::TakeView,
};

/// Heights of the lanes of chords, bass and drums.
const CHORDS: f32 = 18.0;
const BASS: f32 = 34.0;
const DRUM_ROW: f32 = 9.0;
const DRUM_ROWS: [(&str, &[DrumClass]); 3] = [
    (
        "cymbals",
        &[
            DrumClass::HihatClosed,
            DrumClass::HihatOpen,
            DrumClass::Crash,
            DrumClass::Ride,
        ],
    ),
    ("snare", &[DrumClass::Snare, DrumClass::Tom]),
    ("kick", &[DrumClass::Kick]),
];
/// Marks closer than this are not told apart.
const MIN_BEAT_PIXELS: f32 = 5.0;

/// Height that all lanes take.
pub const HEIGHT: f32 = CHORDS + BASS + 3.0 * DRUM_ROW + 6.0;

/// Draws the profiles of all analysed takes into `rect`.
pub fn draw(ui: &Ui, painter: &Painter, p: &Palette, rect: Rect, span: &Span, takes: &[TakeView]) {
    let row = |top: f32, height: f32| {
        Rect::from_min_size(
            pos2(rect.left(), rect.top() + top),
            vec2(rect.width(), height),
        )
    };
    let chords = row(0.0, CHORDS);
    let bass = row(CHORDS + 3.0, BASS);
    let drums = row(CHORDS + BASS + 6.0, 3.0 * DRUM_ROW);
    for lane in [chords, bass, drums] {
        painter.rect_filled(lane, CornerRadius::same(2), p.panel);
    }
    for take in takes {
        if let Some(findings) = &take.findings {
            let lane = Lane {
                painter: &painter.with_clip_rect(rect),
                p,
                span,
                offset: span.seconds_of(take.start),
                end: span.seconds_of(take_end(take)),
            };
            lane.beats(rect, &findings.profile);
            lane.chords(chords, &findings.profile);
            lane.bass(bass, &findings.profile);
            lane.drums(drums, &findings.profile);
        }
    }
    for (lane, name) in [(chords, "chords"), (bass, "bass")] {
        label(painter, p, lane, name);
    }
    for (i, (name, _)) in DRUM_ROWS.iter().enumerate() {
        let top = drums.top() + i as f32 * DRUM_ROW;
        let lane = Rect::from_min_size(pos2(rect.left(), top), vec2(rect.width(), DRUM_ROW));
        label(painter, p, lane, name);
    }
    hover(ui, rect, chords, bass, span, takes);
}

fn label(painter: &Painter, p: &Palette, lane: Rect, name: &str) {
    let galley = painter.layout_no_wrap(name.to_owned(), FontId::proportional(9.0), p.dim);
    let place = pos2(lane.left() + 3.0, lane.center().y - 0.5 * galley.size().y);
    let ground = Rect::from_min_size(place, galley.size()).expand2(vec2(2.0, -1.0));
    painter.rect_filled(ground, CornerRadius::same(2), p.panel.gamma_multiply(0.85));
    painter.galley(place, galley, p.dim);
}

/// One take's profile on its way to pixels.
struct Lane<'a> {
    painter: &'a Painter,
    p: &'a Palette,
    span: &'a Span,
    /// Seconds from the beginning of the timeline to the beginning and the end of the take.
    offset: f64,
    end: f64,
}

impl Lane<'_> {
    fn x(&self, rect: Rect, seconds: f64) -> f32 {
        self.span.x(rect, (self.offset + seconds).min(self.end))
    }

    fn visible(&self, rect: Rect, from: f64, to: f64) -> Option<(f32, f32)> {
        let (a, b) = (self.x(rect, from), self.x(rect, to));
        (b >= rect.left() && a <= rect.right()).then_some((a, b))
    }

    /// Downbeats, and beats where there is room.
    fn beats(&self, rect: Rect, profile: &MusicalProfile) {
        for (times, strength) in [(&profile.beats, 0.35), (&profile.downbeats, 0.9)] {
            let mut last = f32::NEG_INFINITY;
            let near = match &times[..] {
                [first, .., end] => {
                    let mean = (end - first) / (times.len() - 1) as f64;
                    self.span.x(rect, mean) - self.span.x(rect, 0.0) < MIN_BEAT_PIXELS
                }
                _ => false,
            };
            if near {
                continue;
            }
            for &t in times {
                let Some((x, _)) = self.visible(rect, t, t) else {
                    continue;
                };
                if x - last >= MIN_BEAT_PIXELS {
                    let colour = self.p.line.gamma_multiply(strength);
                    self.painter
                        .vline(x, rect.y_range(), Stroke::new(1.0, colour));
                    last = x;
                }
            }
        }
    }

    fn chords(&self, rect: Rect, profile: &MusicalProfile) {
        for chord in &profile.chords {
            let Some((a, b)) = self.visible(rect, chord.start, chord.end) else {
                continue;
            };
            if chord.label == "N" || b - a < 1.0 {
                continue;
            }
            let cell =
                Rect::from_x_y_ranges(a..=(b - 1.0).max(a + 1.0), rect.y_range().shrink(1.0));
            let colour = self
                .p
                .chosen
                .gamma_multiply(0.4 + 0.6 * chord.confidence.clamp(0.0, 1.0));
            self.painter
                .rect_filled(cell, CornerRadius::same(2), colour);
            if b - a > 30.0 {
                // The name of the lane stays readable.
                let place = pos2((a + 4.0).max(rect.left() + 44.0), rect.center().y);
                let text = readable(&chord.label);
                let font = FontId::proportional(11.0);
                let painter = self.painter.with_clip_rect(cell.intersect(rect));
                painter.text(place, Align2::LEFT_CENTER, text, font, self.p.text);
            }
        }
    }

    /// A piano roll that spans what is played.
    fn bass(&self, rect: Rect, profile: &MusicalProfile) {
        let notes = &profile.bass_notes;
        let low = notes.iter().map(|n| n.midi).fold(f32::MAX, f32::min);
        let high = notes.iter().map(|n| n.midi).fold(f32::MIN, f32::max);
        let middle = 0.5 * (low + high);
        let half = (0.5 * (high - low) + 1.0).max(6.0);
        for note in notes {
            let Some((a, b)) = self.visible(rect, note.t, note.t + note.dur) else {
                continue;
            };
            let share = ((note.midi - middle) / half).clamp(-1.0, 1.0);
            let y = rect.center().y - share * (0.5 * rect.height() - 3.0);
            let bar = Rect::from_x_y_ranges(a..=(b - 1.0).max(a + 2.0), y - 1.5..=y + 1.5);
            let strength = 0.45 + 0.55 * note.confidence.clamp(0.0, 1.0);
            let colour = self.p.accent.gamma_multiply(strength);
            self.painter.rect_filled(bar, CornerRadius::same(1), colour);
        }
    }

    fn drums(&self, rect: Rect, profile: &MusicalProfile) {
        for hit in &profile.drums {
            let Some((x, _)) = self.visible(rect, hit.t, hit.t) else {
                continue;
            };
            let row = DRUM_ROWS
                .iter()
                .position(|(_, classes)| classes.contains(&hit.class));
            let Some(row) = row else { continue };
            let y = rect.top() + (row as f32 + 0.5) * DRUM_ROW;
            let strength = 0.4 + 0.6 * hit.confidence.clamp(0.0, 1.0);
            let height = 2.0 + 5.0 * hit.velocity.clamp(0.0, 1.0);
            let mark = Rect::from_center_size(pos2(x, y), vec2(2.0, height));
            let colour: Color32 = self.p.warning.gamma_multiply(strength);
            self.painter.rect_filled(mark, CornerRadius::ZERO, colour);
        }
    }
}

/// "A:min" as musicians write it: "Am".
pub fn readable(label: &str) -> String {
    let (root, quality) = label.split_once(':').unwrap_or((label, "maj"));
    let (quality, bass) = quality
        .split_once('/')
        .map_or((quality, None), |(q, b)| (q, Some(b)));
    let suffix = match quality {
        "maj" => "",
        "min" => "m",
        "7" => "7",
        "maj7" => "maj7",
        "min7" => "m7",
        "dim" => "°",
        "aug" => "+",
        other => other,
    };
    match bass {
        Some(bass) => format!("{root}{suffix}/{bass}"),
        None => format!("{root}{suffix}"),
    }
}

/// "E1" of a MIDI number, as most hosts count octaves (60 = C4).
pub fn note_name(midi: f32) -> String {
    let whole = midi.round().clamp(0.0, 127.0) as usize;
    format!("{}{}", PITCH_CLASSES[whole % 12], whole as i32 / 12 - 1)
}

fn hover(ui: &Ui, rect: Rect, chords: Rect, bass: Rect, span: &Span, takes: &[TakeView]) {
    let response = ui.interact(rect, ui.scope_id().with("lanes"), egui::Sense::hover());
    let Some(pointer) = response.hover_pos() else {
        return;
    };
    let seconds = span.seconds_at(rect, pointer.x);
    let words = takes.iter().find_map(|take| {
        let at = seconds - span.seconds_of(take.start);
        let profile = &take.findings.as_ref()?.profile;
        if chords.contains(pointer) {
            let chord = profile
                .chords
                .iter()
                .find(|c| (c.start..c.end).contains(&at))?;
            let sure = 100.0 * chord.confidence;
            return Some(format!(
                "{} ({}), sure {sure:.0} %",
                readable(&chord.label),
                chord.label
            ));
        }
        if bass.contains(pointer) {
            let note = (profile.bass_notes.iter()).find(|n| (n.t..n.t + n.dur).contains(&at))?;
            let sure = 100.0 * note.confidence;
            return Some(format!("{}, sure {sure:.0} %", note_name(note.midi)));
        }
        let near = 4.0 / f64::from(rect.width()) * span.shown.seconds;
        let hit = profile.drums.iter().find(|hit| (hit.t - at).abs() < near)?;
        Some(format!(
            "{:?}, sure {:.0} %",
            hit.class,
            100.0 * hit.confidence
        ))
    });
    if let Some(words) = words {
        response.on_hover_text_at_pointer(words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn musicians_words() {
        for (label, text) in [
            ("A:min", "Am"),
            ("F#:maj", "F#"),
            ("G:7", "G7"),
            ("D:min7", "Dm7"),
            ("C:maj/5", "C/5"),
            ("B:hdim7", "Bhdim7"),
        ] {
            assert_eq!(readable(label), text);
        }
        assert_eq!(note_name(60.0), "C4");
        assert_eq!(note_name(28.2), "E1");
    }
}
