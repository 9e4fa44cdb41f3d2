// [main] What was played, under the waveform: chords, bass and drums on the beat grid, to be edited in place.

use std::sync::Arc;

use egui::{
    Align2, Color32, CornerRadius, CursorIcon, EventFilter, FontId, Key, Mesh, Painter,
    PointerButton, Pos2, Rect, Response, Sense, Shape, Stroke, StrokeKind, Ui, WidgetInfo, pos2,
    vec2,
};

use crate::{
    editor::{
        model::{Command, Model},
        music::{self, Picked, What},
        scale,
        state::{State, Tab},
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
const MIN_MARK_PIXELS: f32 = 1.0;

/// Height that all lanes take.
pub const HEIGHT: f32 = CHORDS + BASS + 3.0 * DRUM_ROW + 6.0;

/// What is near enough to be meant by the pointer, in points.
const REACH: f32 = 4.0;

/// A take with what is played in it after the user's edits.
type Played<'a> = (&'a TakeView, Arc<MusicalProfile>);

/// Where the lanes are.
#[derive(Clone, Copy)]
struct Places {
    all: Rect,
    chords: Rect,
    bass: Rect,
    drums: Rect,
}

impl Places {
    fn of(rect: Rect) -> Self {
        let row = |top: f32, height: f32| {
            Rect::from_min_size(
                pos2(rect.left(), rect.top() + top),
                vec2(rect.width(), height),
            )
        };
        Self {
            all: rect,
            chords: row(0.0, CHORDS),
            bass: row(CHORDS + 3.0, BASS),
            drums: row(CHORDS + BASS + 6.0, 3.0 * DRUM_ROW),
        }
    }
}

/// Draws the music of all analysed takes into `rect`, and takes what hands do to it.
#[expect(clippy::too_many_arguments)] // A picture in a place, and who it asks.
pub fn draw(
    ui: &Ui,
    painter: &Painter,
    p: &Palette,
    rect: Rect,
    span: &Span,
    model: &Model<'_>,
    state: &mut State,
    out: &mut Vec<Command>,
) {
    let places = Places::of(rect);
    let played: Vec<Played<'_>> = (model.view.takes.iter())
        .filter_map(|take| Some((take, state.music.of(take, &model.view.edits)?)))
        .collect();
    for lane in [places.chords, places.bass, places.drums] {
        painter.rect_filled(lane, CornerRadius::same(2), p.panel);
    }
    for (take, profile) in &played {
        let lane = Lane {
            painter: &painter.with_clip_rect(rect),
            p,
            span,
            offset: span.seconds_of(take.start),
            end: span.seconds_of(take_end(take)),
        };
        lane.beats(rect, profile);
        lane.chords(places.chords, profile);
        lane.bass(places.bass, profile);
        lane.drums(places.drums, profile);
        let mark = |what: What, colour: Color32| {
            let frame = lane.frame(&places, what, take, profile);
            let stroke = Stroke::new(1.5, colour);
            lane.painter
                .rect_stroke(frame, CornerRadius::same(2), stroke, StrokeKind::Outside);
        };
        let mine = |picked: &Picked| picked.take == take.start;
        if let Some((_, to)) = state.music.held.filter(|(from, _)| mine(from)) {
            mark(to, p.warning);
        } else if let Some(picked) = state.music.picked.filter(mine) {
            mark(picked.what, p.text);
        }
    }
    for (lane, name) in [(places.chords, "chords"), (places.bass, "bass")] {
        scale::beside(painter, p, lane, lane.center().y, name);
    }
    for (i, (name, _)) in DRUM_ROWS.iter().enumerate() {
        let top = places.drums.top() + i as f32 * DRUM_ROW;
        let lane = Rect::from_min_size(pos2(rect.left(), top), vec2(rect.width(), DRUM_ROW));
        scale::beside(painter, p, lane, lane.center().y, name);
    }
    let response = ui.interact(rect, ui.scope_id().with("lanes"), Sense::click_and_drag());
    response.widget_info(|| WidgetInfo::labeled(egui::Role::Canvas, true, "Music"));
    if response.has_focus() {
        let stroke = Stroke::new(1.5, p.accent);
        painter.rect_stroke(rect, CornerRadius::same(2), stroke, StrokeKind::Inside);
    }
    edit(ui, &response, &places, span, &played, model, state, out);
    hover(response, &places, span, &played);
}

/// What a place in the lanes means.
struct Under<'a> {
    take: &'a TakeView,
    profile: &'a MusicalProfile,
    /// What is there.
    found: Option<What>,
    /// What a click would add.
    new: Option<What>,
}

fn under<'a>(
    pointer: Pos2,
    places: &Places,
    span: &Span,
    played: &'a [Played<'_>],
    free: bool,
) -> Option<Under<'a>> {
    let at = span.seconds_at(places.all, pointer.x);
    let near = f64::from(REACH / places.all.width().max(1.0)) * span.shown.seconds;
    played.iter().find_map(|(take, profile)| {
        let seconds = at - span.seconds_of(take.start);
        let rate = f64::from(take.sample_rate.max(1));
        if !(0.0..=take.frames as f64 / rate).contains(&seconds) {
            return None;
        }
        let snapped = if free {
            seconds
        } else {
            music::snapped(profile, seconds)
        };
        let place = (snapped * rate).round() as i64;
        let (found, new) = if places.chords.contains(pointer) {
            let chord = (profile.chords.iter()).find(|c| (c.start..c.end).contains(&seconds));
            (chord.map(|c| What::of_chord(c, rate)), None)
        } else if places.bass.contains(pointer) {
            let roll = Roll::of(places.bass, profile);
            let note = (profile.bass_notes.iter())
                .filter(|n| (n.t - near..n.t + n.dur.max(near)).contains(&seconds))
                .find(|n| (roll.y(n.midi) - pointer.y).abs() <= REACH);
            let midi = roll.midi(pointer.y);
            (
                note.map(|n| What::of_note(n, rate)),
                Some(music::new_note(profile, place, Some(midi), rate)),
            )
        } else if places.drums.contains(pointer) {
            let row = ((pointer.y - places.drums.top()) / DRUM_ROW) as usize;
            let (_, classes) = DRUM_ROWS.get(row)?;
            let hit = (profile.drums.iter())
                .filter(|h| classes.contains(&h.class) && (h.t - seconds).abs() <= near)
                .min_by(|a, b| (a.t - seconds).abs().total_cmp(&(b.t - seconds).abs()));
            (
                hit.map(|h| What::of_hit(h, rate)),
                classes.first().map(|c| music::new_hit(place, *c)),
            )
        } else {
            (None, None)
        };
        Some(Under {
            take,
            profile,
            found,
            new,
        })
    })
}

/// Click: add or pick. Drag: move. Right click, or Delete: take away.
#[expect(clippy::too_many_arguments)] // As [`draw`].
fn edit(
    ui: &Ui,
    response: &Response,
    places: &Places,
    span: &Span,
    played: &[Played<'_>],
    model: &Model<'_>,
    state: &mut State,
    out: &mut Vec<Command>,
) {
    let free = ui.input(|input| input.modifiers.alt);
    let find = |at: Pos2| under(at, places, span, played, free);
    let picked = |at: Pos2| {
        let under = find(at)?;
        let take = under.take.start;
        under.found.map(|what| Picked { take, what })
    };
    if response.drag_started_by(PointerButton::Primary) {
        let start = ui.input(|input| input.pointer.press_origin());
        let movable = |p: &Picked| !matches!(p.what, What::Chord { .. });
        state.music.held = start.and_then(picked).filter(movable).map(|p| (p, p.what));
    }
    if let (true, Some((from, to)), Some(at)) = (
        response.dragged_by(PointerButton::Primary),
        &mut state.music.held,
        response.interact_pointer_pos(),
    ) && let Some(take) = played.iter().find(|(t, _)| t.start == from.take)
    {
        *to = dragged(ui, from.what, at, places, span, take, free);
    }
    if response.drag_stopped()
        && let Some((from, to)) = state.music.held.take()
        && from.what != to
    {
        music::replace(state, model, from, Some(to), out);
    }
    if response.has_focus() {
        pick_by_key(ui, response, played, state);
    }
    let Some(at) = response.interact_pointer_pos().or(response.hover_pos()) else {
        delete_by_key(ui, response, model, state, out);
        return;
    };
    if response.clicked() {
        response.request_focus();
        state.tab = Tab::Music;
        let new = find(at).and_then(|u| Some((u.take.start, u.new?)));
        match (picked(at), new) {
            (Some(found), _) => state.music.picked = Some(found),
            (None, Some((take, what))) => music::add(state, model, Picked { take, what }, out),
            (None, None) => state.music.picked = None,
        }
    }
    if response.secondary_clicked()
        && let Some(found) = picked(at)
        && !matches!(found.what, What::Chord { .. })
    {
        music::replace(state, model, found, None, out);
    }
    if picked(at).is_some() && !response.dragged() {
        ui.ctx().set_cursor_icon(CursorIcon::PointingHand);
    }
    delete_by_key(ui, response, model, state, out);
}

/// Left and right pick the neighbour in the same lane, up and down what is nearest in the next lane.
fn pick_by_key(ui: &Ui, response: &Response, played: &[Played<'_>], state: &mut State) {
    let filter = EventFilter {
        horizontal_arrows: true,
        vertical_arrows: true,
        ..EventFilter::default()
    };
    ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, filter));
    let pressed = |key: Key| ui.input(|input| input.num_presses(key)) as i32;
    let along = pressed(Key::ArrowRight) - pressed(Key::ArrowLeft);
    let across = pressed(Key::ArrowDown) - pressed(Key::ArrowUp);
    if along == 0 && across == 0 {
        return;
    }
    let picked = state.music.picked;
    let take = (played.iter())
        .find(|(take, _)| picked.is_some_and(|p| p.take == take.start))
        .or(played.first());
    let Some((take, profile)) = take else {
        return;
    };
    let rows = rows(profile, f64::from(take.sample_rate.max(1)));
    let row = picked.and_then(|p| rows.iter().position(|row| row.contains(&p.what)));
    let at = picked.map_or(0, |p| p.what.at());
    let nearest = |row: &[What]| {
        row.iter()
            .copied()
            .min_by_key(|what| (what.at() - at).abs())
    };
    let found = match row {
        // Nothing is picked yet: the first there is.
        None => rows.iter().find_map(|row| nearest(row)),
        Some(row) if along != 0 => {
            let place = rows[row]
                .iter()
                .position(|what| Some(*what) == picked.map(|p| p.what));
            let next = place.map_or(0, |i| i as i32) + along;
            let last = rows[row].len() as i32 - 1;
            rows[row].get(next.clamp(0, last) as usize).copied()
        }
        // Lanes in which nothing is played are passed over.
        Some(row) => {
            let way = across.signum();
            let next = (1..rows.len() as i32).map(|by| row as i32 + by * way);
            next.filter_map(|row| rows.get(usize::try_from(row).ok()?))
                .find_map(|row| nearest(row))
        }
    };
    if let Some(what) = found {
        state.music.picked = Some(Picked {
            take: take.start,
            what,
        });
        state.tab = Tab::Music;
    }
}

/// What is in the lanes, from above: chords, bass, each row of drums; each in order of time.
fn rows(profile: &MusicalProfile, rate: f64) -> Vec<Vec<What>> {
    let chords = profile.chords.iter().map(|c| What::of_chord(c, rate));
    let bass = profile.bass_notes.iter().map(|n| What::of_note(n, rate));
    let mut rows = vec![chords.collect::<Vec<_>>(), bass.collect()];
    for (_, classes) in DRUM_ROWS {
        let hits = profile.drums.iter().filter(|h| classes.contains(&h.class));
        rows.push(hits.map(|h| What::of_hit(h, rate)).collect());
    }
    rows.iter_mut()
        .for_each(|row| row.sort_by_key(|what| what.at()));
    rows
}

fn delete_by_key(
    ui: &Ui,
    response: &Response,
    model: &Model<'_>,
    state: &mut State,
    out: &mut Vec<Command>,
) {
    let pressed = response.has_focus()
        && ui.input(|input| input.key_pressed(Key::Delete) || input.key_pressed(Key::Backspace));
    if let (true, Some(picked)) = (pressed, state.music.picked)
        && !matches!(picked.what, What::Chord { .. })
    {
        music::replace(state, model, picked, None, out);
    }
}

/// What is held, where the pointer has taken it. On the grid, unless the hand keeps it off.
fn dragged(
    ui: &Ui,
    what: What,
    at: Pos2,
    places: &Places,
    span: &Span,
    (take, profile): &Played<'_>,
    free: bool,
) -> What {
    let start = ui.input(|input| input.pointer.press_origin()).unwrap_or(at);
    let rate = f64::from(take.sample_rate.max(1));
    let moved = span.seconds_at(places.all, at.x) - span.seconds_at(places.all, start.x);
    let wanted = what.at() as f64 / rate + moved;
    // A drag up or down alone doesn't pull what was played off the beat onto it.
    let place = if (at.x - start.x).abs() < REACH {
        what.at()
    } else if free {
        (wanted * rate).round() as i64
    } else {
        (music::snapped(profile, wanted) * rate).round() as i64
    };
    let place = place.clamp(0, take.frames as i64);
    match what.moved_to(place) {
        What::Note {
            at: onset,
            frames,
            midi,
            velocity,
        } => {
            let roll = Roll::of(places.bass, profile);
            let by = roll.steps(start.y - at.y);
            What::Note {
                at: onset,
                frames,
                midi: (i32::from(midi) + by).clamp(0, 127) as u8,
                velocity,
            }
        }
        other => other,
    }
}

/// Pitches to heights: a piano roll that spans what is played.
struct Roll {
    rect: Rect,
    middle: f32,
    half: f32,
}

impl Roll {
    fn of(rect: Rect, profile: &MusicalProfile) -> Self {
        let pitches = || profile.bass_notes.iter().map(|n| n.midi);
        let (low, high) = (
            pitches().fold(f32::MAX, f32::min),
            pitches().fold(f32::MIN, f32::max),
        );
        // Where nobody plays: around E1 to E2.
        let (low, high) = if low <= high {
            (low, high)
        } else {
            (28.0, 40.0)
        };
        Self {
            rect,
            middle: 0.5 * (low + high),
            half: (0.5 * (high - low) + 1.0).max(6.0),
        }
    }

    fn room(&self) -> f32 {
        0.5 * self.rect.height() - 3.0
    }

    fn y(&self, midi: f32) -> f32 {
        let share = ((midi - self.middle) / self.half).clamp(-1.0, 1.0);
        self.rect.center().y - share * self.room()
    }

    fn midi(&self, y: f32) -> u8 {
        let share = ((self.rect.center().y - y) / self.room()).clamp(-1.0, 1.0);
        (self.middle + share * self.half).round().clamp(0.0, 127.0) as u8
    }

    /// Semitones of a way up.
    fn steps(&self, up: f32) -> i32 {
        (up / self.room() * self.half).round() as i32
    }
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
                let place = pos2((a + 4.0).max(rect.left() + 4.0), rect.center().y);
                let text = readable(&chord.label);
                let font = FontId::proportional(11.0);
                let painter = self.painter.with_clip_rect(cell.intersect(rect));
                painter.text(place, Align2::LEFT_CENTER, text, font, self.p.text);
            }
        }
    }

    /// The box around something.
    fn frame(
        &self,
        places: &Places,
        what: What,
        take: &TakeView,
        profile: &MusicalProfile,
    ) -> Rect {
        let rate = f64::from(take.sample_rate.max(1));
        let x = |samples: i64| self.x(places.all, samples as f64 / rate);
        match what {
            What::Chord { start, end } => {
                Rect::from_x_y_ranges(x(start)..=x(end), places.chords.y_range().shrink(1.0))
            }
            What::Hit { at, class, .. } => {
                let row = (DRUM_ROWS.iter())
                    .position(|(_, classes)| classes.contains(&class))
                    .unwrap_or(0);
                let y = places.drums.top() + (row as f32 + 0.5) * DRUM_ROW;
                Rect::from_center_size(pos2(x(at), y), vec2(6.0, DRUM_ROW))
            }
            What::Note {
                at, frames, midi, ..
            } => {
                let y = Roll::of(places.bass, profile).y(f32::from(midi));
                Rect::from_x_y_ranges(x(at)..=x(at + frames).max(x(at) + 3.0), y - 3.0..=y + 3.0)
            }
        }
    }

    fn bass(&self, rect: Rect, profile: &MusicalProfile) {
        let roll = Roll::of(rect, profile);
        let mut mesh = Mesh::default();
        let mut last = f32::NEG_INFINITY;
        for note in &profile.bass_notes {
            let Some((a, b)) = self.visible(rect, note.t, note.t + note.dur) else {
                continue;
            };
            // Of an hour, a note a column is all that can be seen.
            if a - last < MIN_MARK_PIXELS && b - a < MIN_MARK_PIXELS {
                continue;
            }
            last = a;
            let y = roll.y(note.midi);
            let bar = Rect::from_x_y_ranges(a..=(b - 1.0).max(a + 2.0), y - 1.5..=y + 1.5);
            let strength = 0.45 + 0.55 * note.confidence.clamp(0.0, 1.0);
            let colour = self.p.accent.gamma_multiply(strength);
            mesh.add_colored_rect(bar, colour);
        }
        self.painter.add(Shape::mesh(mesh));
    }

    fn drums(&self, rect: Rect, profile: &MusicalProfile) {
        let mut mesh = Mesh::default();
        let mut last = [f32::NEG_INFINITY; DRUM_ROWS.len()];
        for hit in &profile.drums {
            let Some((x, _)) = self.visible(rect, hit.t, hit.t) else {
                continue;
            };
            let row = DRUM_ROWS
                .iter()
                .position(|(_, classes)| classes.contains(&hit.class));
            let Some(row) = row else { continue };
            if x - last[row] < MIN_MARK_PIXELS {
                continue;
            }
            last[row] = x;
            let y = rect.top() + (row as f32 + 0.5) * DRUM_ROW;
            let strength = 0.4 + 0.6 * hit.confidence.clamp(0.0, 1.0);
            let height = 2.0 + 5.0 * hit.velocity.clamp(0.0, 1.0);
            let mark = Rect::from_center_size(pos2(x, y), vec2(2.0, height));
            let colour: Color32 = self.p.warning.gamma_multiply(strength);
            mesh.add_colored_rect(mark, colour);
        }
        self.painter.add(Shape::mesh(mesh));
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

fn hover(response: Response, places: &Places, span: &Span, played: &[Played<'_>]) {
    let Some(pointer) = response.hover_pos().filter(|_| !response.dragged()) else {
        return;
    };
    let Some(under) = under(pointer, places, span, played, true) else {
        response.on_hover_text_at_pointer("Nothing was analysed here");
        return;
    };
    let rate = f64::from(under.take.sample_rate.max(1));
    let words = match under.found {
        Some(chord @ What::Chord { .. }) => (under.profile.chords.iter())
            .find(|c| What::of_chord(c, rate) == chord)
            .map(|c| {
                let sure = 100.0 * c.confidence;
                format!("{} ({}), sure {sure:.0} %", readable(&c.label), c.label)
            }),
        Some(note @ What::Note { .. }) => (under.profile.bass_notes.iter())
            .find(|n| What::of_note(n, rate) == note)
            .map(|n| {
                let sure = 100.0 * n.confidence;
                format!("{}, sure {sure:.0} %", note_name(n.midi))
            }),
        Some(hit @ What::Hit { .. }) => (under.profile.drums.iter())
            .find(|h| What::of_hit(h, rate) == hit)
            .map(|h| {
                let sure = 100.0 * h.confidence;
                format!("{}, sure {sure:.0} %", music::drum_name(h.class))
            }),
        None => None,
    };
    let words = words.unwrap_or_else(|| {
        let help = if under.new.is_some() {
            "Click to add"
        } else {
            "Select a span above to name its chord"
        };
        help.to_owned()
    });
    response.on_hover_text_at_pointer(words);
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
