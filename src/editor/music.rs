// [main] The music of a take, to be edited: tempo, chords, drum hits, bass notes; and as a MIDI file.

use std::{path::PathBuf, sync::Arc};

use egui::{DragValue, PointerButton, RichText, TextEdit, Ui, WidgetInfo};

use crate::{
    editor::{
        files::Want,
        harte::harte,
        history::Change,
        lanes,
        model::{Command, Model},
        state::State,
        status, theme,
    },
    exchange::SamplePos,
    profile::{
        Chord, DrumClass, DrumHit, MusicalProfile, Note,
        edit::{self, MILLI_BPM, MusicEdit},
        midi,
    },
    worker::{
        session::Edits,
        view::{Findings, TakeView},
    },
};

/// Steps of the grid in a beat: sixteenths.
pub const STEPS: f64 = 4.0;
/// Step of the grid where no beats are known, in seconds.
const NO_GRID: f64 = 0.125;
/// Loudness of what is added by hand, and the step of "Louder", as in MIDI.
const VELOCITY: u8 = 100;
const LOUDER: u8 = 16;
/// A bass note that nobody can be near to: E1.
const FIRST_NOTE: u8 = 28;

/// What the editor remembers of the music.
#[derive(Default)]
pub struct Memory {
    played: Vec<Played>,
    pub picked: Option<Picked>,
    /// What is being dragged, and where to.
    pub held: Option<(Picked, What)>,
    /// The chord that is being typed.
    chord: Option<String>,
    /// Where the last MIDI file went.
    pub saved: Option<PathBuf>,
}

/// A take's music as it was last worked out.
struct Played {
    findings: Arc<Findings>,
    start: SamplePos,
    edits: Vec<MusicEdit>,
    profile: Arc<MusicalProfile>,
}

/// Something in the lanes of a take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Picked {
    /// Start of the take.
    pub take: SamplePos,
    pub what: What,
}

/// What it is. Places and lengths in samples from the start of the take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    Chord {
        start: i64,
        end: i64,
    },
    Hit {
        at: i64,
        class: DrumClass,
        velocity: u8,
    },
    Note {
        at: i64,
        frames: i64,
        midi: u8,
        velocity: u8,
    },
}

fn velocity(loudness: f32) -> u8 {
    (loudness * 127.0).round().clamp(1.0, 127.0) as u8
}

impl What {
    pub fn of_hit(hit: &DrumHit, rate: f64) -> Self {
        Self::Hit {
            at: (hit.t * rate).round() as i64,
            class: hit.class,
            velocity: velocity(hit.velocity),
        }
    }

    pub fn of_note(note: &Note, rate: f64) -> Self {
        Self::Note {
            at: (note.t * rate).round() as i64,
            frames: (note.dur * rate).round() as i64,
            midi: note.midi.round().clamp(0.0, 127.0) as u8,
            velocity: velocity(note.velocity),
        }
    }

    pub fn of_chord(chord: &Chord, rate: f64) -> Self {
        Self::Chord {
            start: (chord.start * rate).round() as i64,
            end: (chord.end * rate).round() as i64,
        }
    }

    /// Where it begins.
    pub fn at(self) -> i64 {
        match self {
            Self::Chord { start, .. } => start,
            Self::Hit { at, .. } | Self::Note { at, .. } => at,
        }
    }

    /// The same thing at another place.
    pub fn moved_to(self, to: i64) -> Self {
        let to = to.max(0);
        match self {
            Self::Chord { start, end } => Self::Chord {
                start: to,
                end: to + end - start,
            },
            Self::Hit {
                class, velocity, ..
            } => Self::Hit {
                at: to,
                class,
                velocity,
            },
            Self::Note {
                frames,
                midi,
                velocity,
                ..
            } => Self::Note {
                at: to,
                frames,
                midi,
                velocity,
            },
        }
    }

    fn removed(self) -> Option<MusicEdit> {
        match self {
            Self::Chord { .. } => None,
            Self::Hit { at, class, .. } => Some(MusicEdit::RemoveHit { at, class }),
            Self::Note { at, midi, .. } => Some(MusicEdit::RemoveNote { at, midi }),
        }
    }

    fn added(self) -> Option<MusicEdit> {
        match self {
            Self::Chord { .. } => None,
            Self::Hit {
                at,
                class,
                velocity,
            } => Some(MusicEdit::AddHit {
                at,
                class,
                velocity,
            }),
            Self::Note {
                at,
                frames,
                midi,
                velocity,
            } => Some(MusicEdit::AddNote {
                at,
                frames,
                midi,
                velocity,
            }),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Chord { .. } => "chord".to_owned(),
            Self::Hit { class, .. } => drum_name(class).to_owned(),
            Self::Note { midi, .. } => format!("bass {}", lanes::note_name(f32::from(midi))),
        }
    }
}

/// "closed hi-hat".
pub fn drum_name(class: DrumClass) -> &'static str {
    match class {
        DrumClass::Kick => "kick",
        DrumClass::Snare => "snare",
        DrumClass::HihatClosed => "closed hi-hat",
        DrumClass::HihatOpen => "open hi-hat",
        DrumClass::Tom => "tom",
        DrumClass::Crash => "crash",
        DrumClass::Ride => "ride",
    }
}

impl Memory {
    /// What is played in `take` after the user's edits; `None` while it is not analysed.
    pub fn of(&mut self, take: &TakeView, edits: &Edits) -> Option<Arc<MusicalProfile>> {
        let findings = take.findings.as_ref()?;
        let music = edits.music_of(take.start);
        let fits = |p: &Played| {
            p.start == take.start && Arc::ptr_eq(&p.findings, findings) && p.edits == music
        };
        if let Some(played) = self.played.iter().find(|p| fits(p)) {
            return Some(played.profile.clone());
        }
        // Without edits it is what was heard; a copy of an hour's profile is made once all the same.
        let profile = Arc::new(edit::edited(&findings.profile, music, take.sample_rate));
        self.played.retain(|p| p.start != take.start);
        // Takes come and go; those of a session are few.
        let excess = self.played.len().saturating_sub(31);
        self.played.drain(..excess);
        self.played.push(Played {
            findings: findings.clone(),
            start: take.start,
            edits: music.to_vec(),
            profile: profile.clone(),
        });
        Some(profile)
    }
}

/// The nearest place on the grid of sixteenths, in seconds from the start of the take.
pub fn snapped(profile: &MusicalProfile, seconds: f64) -> f64 {
    let (from, step) = cell(profile, seconds);
    (from + ((seconds - from) / step).round() * step).max(0.0)
}

/// Start of the beat around a second and the length of its sixteenth. Outside the beats the nearest beat
/// is continued.
fn cell(profile: &MusicalProfile, seconds: f64) -> (f64, f64) {
    let beats = &profile.beats;
    if beats.len() < 2 {
        return (0.0, NO_GRID);
    }
    let i = beats
        .partition_point(|b| *b <= seconds)
        .clamp(1, beats.len() - 1);
    let (from, to) = (beats[i - 1], beats[i]);
    (from, ((to - from) / STEPS).max(1e-3))
}

/// Appends edits of a take's music, as one step of the history.
pub fn change(
    state: &mut State,
    model: &Model<'_>,
    take: SamplePos,
    name: String,
    new: impl IntoIterator<Item = MusicEdit>,
    out: &mut Vec<Command>,
) {
    let mut after = Edits::clone(&model.view.edits);
    edit::push_all(after.music_mut(take), new);
    settle(state, model, name, after, out);
}

/// Makes `after` the edits in force.
fn settle(
    state: &mut State,
    model: &Model<'_>,
    name: String,
    mut after: Edits,
    out: &mut Vec<Command>,
) {
    after.music.retain(|m| !m.edits.is_empty());
    let before = Edits::clone(&model.view.edits);
    state
        .history
        .apply(name, Change::Edits { before, after }, out);
}

/// Puts `to` where `from` was, or takes it away.
pub fn replace(
    state: &mut State,
    model: &Model<'_>,
    from: Picked,
    to: Option<What>,
    out: &mut Vec<Command>,
) {
    let rate = rate_of(model, from.take);
    let clock = status::fine_time((from.take.0 + from.what.at()) as f64 / rate);
    let verb = if to.is_some() { "change" } else { "delete" };
    let name = format!("{verb} {} {clock}", from.what.name());
    let new = [from.what.removed(), to.and_then(What::added)];
    change(
        state,
        model,
        from.take,
        name,
        new.into_iter().flatten(),
        out,
    );
    state.music.picked = to.map(|what| Picked { what, ..from });
}

/// Adds what was not there.
pub fn add(state: &mut State, model: &Model<'_>, new: Picked, out: &mut Vec<Command>) {
    let rate = rate_of(model, new.take);
    let clock = status::fine_time((new.take.0 + new.what.at()) as f64 / rate);
    let name = format!("add {} {clock}", new.what.name());
    change(state, model, new.take, name, new.what.added(), out);
    state.music.picked = Some(new);
}

fn rate_of(model: &Model<'_>, take: SamplePos) -> f64 {
    (model.view.takes.iter())
        .find(|t| t.start == take)
        .map_or(1.0, |t| f64::from(t.sample_rate.max(1)))
}

/// The panel.
pub fn draw(ui: &mut Ui, model: &Model<'_>, state: &mut State, out: &mut Vec<Command>) {
    let p = theme::of(ui);
    let take = model.current_take();
    let Some((take, profile)) = take.and_then(|t| Some((t, state.music.of(t, &model.view.edits)?)))
    else {
        let words = "Analyse the song first: then its tempo, chords, drums and bass can be edited here and \
                     in the lanes under the waveform.";
        ui.label(RichText::new(words).color(p.dim));
        return;
    };
    if take.unheard {
        ui.horizontal(|ui| {
            let free = model.view.job.is_none();
            let button =
                egui::Button::new(RichText::new("Rebuild").color(p.on_accent)).fill(p.accent);
            let clicked = ui
                .add_enabled(free, button)
                .on_hover_text("Rebuilds the stems that depend on what was edited")
                .on_disabled_hover_text("A job is running: it has to end first")
                .clicked();
            if clicked {
                out.push(Command::Analyse);
            }
            let words = "The rebuild does not follow the last edits yet.";
            ui.label(RichText::new(words).color(p.warning));
        });
    }
    let shown = Shown {
        model,
        take,
        profile: &profile,
        rate: f64::from(take.sample_rate.max(1)),
    };
    shown.tempo(ui, state, out);
    shown.chord(ui, state, out);
    shown.picked(ui, state, out);
    shown.adding(ui, state, out);
    ui.separator();
    shown.files(ui, state, out);
    let words = "In the lanes: click to add or pick, drag to move, right-click to delete; Alt: off the grid. Keys: \
                 left and right pick, up and down change the lane, Delete. A rebuild plays the drum hits and bass \
                 notes where they stand. A chord moves bass notes that could hardly be heard onto its tones; a \
                 generating model follows every chord. The tempo sets the grid and the MIDI file's clock; what \
                 was played stays in its place.";
    ui.label(RichText::new(words).small().color(p.dim));
}

/// The take whose music the panel shows.
struct Shown<'a> {
    model: &'a Model<'a>,
    take: &'a TakeView,
    /// As edited.
    profile: &'a MusicalProfile,
    /// Hz.
    rate: f64,
}

impl Shown<'_> {
    fn tempo(&self, ui: &mut Ui, state: &mut State, out: &mut Vec<Command>) {
        ui.horizontal(|ui| {
            ui.label("Tempo");
            let now = self.profile.tempo_bpm.map_or(120.0, |t| t.value);
            let mut bpm = now;
            let [low, high] = [MILLI_BPM.start(), MILLI_BPM.end()].map(|m| f64::from(*m) / 1e3);
            let response = ui.add(
                DragValue::new(&mut bpm)
                    .range(low..=high)
                    .speed(0.1)
                    .fixed_decimals(1)
                    .update_while_editing(false)
                    .suffix(" BPM"),
            );
            let response = response.on_hover_text(
                "Beats a minute. Drag or type: the first beat stays where it is, the others follow \
                 evenly. Double-click: back to what was heard",
            );
            response.widget_info(|| {
                let mut info = WidgetInfo::labeled(egui::Role::SpinButton, true, "Tempo");
                info.value = Some(now);
                info
            });
            let edits = self.model.view.edits.music_of(self.take.start);
            let edited = edits.iter().any(|e| matches!(e, MusicEdit::Tempo { .. }));
            // The first click has put a text field in the number's place: only the pointer knows of both.
            let doubled = ui.input(|i| {
                i.pointer.button_double_clicked(PointerButton::Primary)
                    && (i.pointer.interact_pos()).is_some_and(|at| response.rect.contains(at))
            });
            if edited && doubled {
                response.surrender_focus();
                let mut after = Edits::clone(&self.model.view.edits);
                let music = after.music_mut(self.take.start);
                music.retain(|e| !matches!(e, MusicEdit::Tempo { .. }));
                settle(state, self.model, "tempo as heard".to_owned(), after, out);
                return;
            }
            // Leaving the field without a change gives back what it showed, a decimal: that is no edit.
            let mut wanted = None;
            if response.changed() && (bpm - now).abs() >= 0.05 {
                wanted = Some(bpm);
            }
            for (text, factor) in [("Half", 0.5), ("Double", 2.0)] {
                let hint = "Where the tempo was heard twice as fast or slow as it is counted";
                if ui.small_button(text).on_hover_text(hint).clicked() {
                    wanted = Some(now * factor);
                }
            }
            if let Some(bpm) = wanted {
                let milli_bpm = (bpm * 1e3).round() as u32;
                let edit = MusicEdit::Tempo { milli_bpm };
                let step = "tempo".to_owned();
                change(state, self.model, self.take.start, step, [edit], out);
            }
        });
    }

    /// The span that a chord is about, in samples of the take: the selection, else the chord that is picked or
    /// at the playhead.
    fn chord_span(&self, state: &State) -> Option<(i64, i64)> {
        let inside = |pos: SamplePos| pos.since(self.take.start).clamp(0, self.take.frames as i64);
        if let Some((start, end)) = state.selection {
            let (start, end) = (inside(start), inside(end));
            return (start < end).then_some((start, end));
        }
        if let Some(Picked {
            take: of,
            what: What::Chord { start, end },
        }) = state.music.picked
            && of == self.take.start
        {
            return Some((start, end));
        }
        let at = inside(self.model.levels.position.unwrap_or(self.take.start)) as f64 / self.rate;
        (self.profile.chords.iter())
            .find(|c| (c.start..c.end).contains(&at))
            .map(|c| match What::of_chord(c, self.rate) {
                What::Chord { start, end } => (start, end),
                _ => (0, 0),
            })
    }

    fn chord(&self, ui: &mut Ui, state: &mut State, out: &mut Vec<Command>) {
        let p = theme::of(ui);
        let Some((start, end)) = self.chord_span(state) else {
            let words = "Select a span, or pick a chord, to say what is played there.";
            ui.label(RichText::new(words).color(p.dim));
            return;
        };
        let now = (self.profile.chords.iter())
            .find(|c| {
                c.start * self.rate <= start as f64 + 0.5
                    && (start as f64) < c.end * self.rate - 0.5
            })
            .map_or_else(String::new, |c| lanes::readable(&c.label));
        ui.horizontal(|ui| {
            ui.label("Chord");
            let mut text = state.music.chord.clone().unwrap_or_else(|| now.clone());
            let field = ui
                .add(TextEdit::singleline(&mut text).desired_width(70.0))
                .accessible_name("Chord")
                .on_hover_text("Such as Am, F#m7, Gmaj7, C/E, Bdim; N for none. Return takes it");
            let clock = |at: i64| status::fine_time((self.take.start.0 + at) as f64 / self.rate);
            ui.label(format!("{}–{}", clock(start), clock(end)));
            let label = harte(&text);
            if label.is_none() && state.music.chord.is_some() {
                ui.label(
                    RichText::new("no chord that I know")
                        .small()
                        .color(p.problem),
                );
            }
            if field.has_focus() {
                state.music.chord = Some(text);
            } else {
                state.music.chord = None;
                if let Some(label) = label.filter(|_| field.lost_focus() && text != now) {
                    let name = format!("chord {} {}", lanes::readable(&label), clock(start));
                    let edit = MusicEdit::Chord { start, end, label };
                    change(state, self.model, self.take.start, name, [edit], out);
                }
            }
        });
    }

    fn picked(&self, ui: &mut Ui, state: &mut State, out: &mut Vec<Command>) {
        let Some(picked) = state.music.picked.filter(|p| p.take == self.take.start) else {
            return;
        };
        let at = picked.what.at() as f64 / self.rate;
        let step = |by: f64| {
            let (_, step) = cell(self.profile, at);
            (snapped(self.profile, at + by * step) * self.rate).round() as i64
        };
        let what = picked.what;
        if matches!(what, What::Chord { .. }) {
            return;
        }
        ui.horizontal_wrapped(|ui| {
            let clock = status::fine_time(self.take.start.0 as f64 / self.rate + at);
            let title = format!("{} {clock}", what.name());
            ui.label(RichText::new(title).font(theme::strong(theme::BODY)));
            let mut to = None;
            let mut button = |text: &str, hint: &str, result: Option<What>| {
                if ui.small_button(text).on_hover_text(hint).clicked() {
                    to = Some(result);
                }
            };
            button("Earlier", "A sixteenth", Some(what.moved_to(step(-1.0))));
            button("Later", "A sixteenth", Some(what.moved_to(step(1.0))));
            match what {
                What::Note {
                    at,
                    frames,
                    midi,
                    velocity,
                } => {
                    let note = |frames: i64, midi: u8| {
                        Some(What::Note {
                            at,
                            frames,
                            midi: midi.min(127),
                            velocity,
                        })
                    };
                    let (_, sixteenth) = cell(self.profile, at as f64 / self.rate);
                    let by = (sixteenth * self.rate).round() as i64;
                    button("Higher", "A semitone", note(frames, midi + 1));
                    button("Lower", "A semitone", note(frames, midi.saturating_sub(1)));
                    button("Longer", "A sixteenth", note(frames + by, midi));
                    button("Shorter", "A sixteenth", note((frames - by).max(by), midi));
                }
                What::Hit {
                    at,
                    class,
                    velocity,
                } => {
                    let hit = |velocity: u8| {
                        Some(What::Hit {
                            at,
                            class,
                            velocity: velocity.clamp(1, 127),
                        })
                    };
                    button(
                        "Louder",
                        "An eighth of full",
                        hit(velocity.saturating_add(LOUDER)),
                    );
                    button(
                        "Softer",
                        "An eighth of full",
                        hit(velocity.saturating_sub(LOUDER)),
                    );
                }
                What::Chord { .. } => {}
            }
            button("Delete", "Takes it out of the music", None);
            if let Some(to) = to.filter(|to| *to != Some(what)) {
                replace(state, self.model, picked, to, out);
            }
        });
    }

    /// What can be added at the playhead by key or screen reader.
    fn adding(&self, ui: &mut Ui, state: &mut State, out: &mut Vec<Command>) {
        let place = state.selection.map(|s| s.0).or(self.model.levels.position);
        let seconds = place
            .map_or(0, |pos| pos.since(self.take.start))
            .clamp(0, self.take.frames as i64) as f64
            / self.rate;
        let at = (snapped(self.profile, seconds) * self.rate).round() as i64;
        ui.horizontal_wrapped(|ui| {
            ui.label("Add");
            let hint = "At the start of the selection, else at the playhead, on the grid";
            let mut new = None;
            for class in DrumClass::ALL {
                let button = ui.small_button(drum_name(class)).on_hover_text(hint);
                let name = format!("Add {}", drum_name(class));
                button.widget_info(|| WidgetInfo::labeled(egui::Role::Button, true, &name));
                if button.clicked() {
                    new = Some(new_hit(at, class));
                }
            }
            let button = ui.small_button("bass note").on_hover_text(hint);
            button.widget_info(|| WidgetInfo::labeled(egui::Role::Button, true, "Add bass note"));
            if button.clicked() {
                new = Some(new_note(self.profile, at, None, self.rate));
            }
            if let Some(what) = new {
                let take = self.take.start;
                add(state, self.model, Picked { take, what }, out);
            }
        });
    }

    fn files(&self, ui: &mut Ui, state: &mut State, out: &mut Vec<Command>) {
        let p = theme::of(ui);
        ui.horizontal(|ui| {
            let midi_name = || {
                let clock = status::time(self.take.start.0 as f64 / self.rate).replace(':', ".");
                format!("Uncook {clock}")
            };
            let hint = "Tempo, chords as markers, drums, bass and melody, as edited, where they \
                        were played; into the folder for MIDI files";
            if ui.button("Save MIDI").on_hover_text(hint).clicked() {
                out.push(Command::SaveMidi {
                    name: midi_name(),
                    bytes: midi::midi_file(self.profile),
                });
            }
            let save_as = ui
                .button("Save as…")
                .on_hover_text("Choose where; drag the file into the DAW from there");
            save_as.widget_info(|| WidgetInfo::labeled(egui::Role::Button, true, "Save MIDI as"));
            if save_as.clicked() {
                out.push(Command::Choose(Want::SaveMidi {
                    name: midi_name(),
                    bytes: midi::midi_file(self.profile),
                }));
            }
            let edits = self.model.view.edits.music_of(self.take.start);
            let forget = ui
                .add_enabled(!edits.is_empty(), egui::Button::new("Forget edits"))
                .on_hover_text("Back to what was heard; undo brings the edits back")
                .on_disabled_hover_text("Nothing was edited here");
            if forget.clicked() {
                let name = format!("forget {} edits", edits.len());
                let mut after = Edits::clone(&self.model.view.edits);
                after.music_mut(self.take.start).clear();
                state.music.picked = None;
                settle(state, self.model, name, after, out);
            }
        });
        if let Some(path) = state.music.saved.clone() {
            ui.horizontal_wrapped(|ui| {
                let text = path.display().to_string();
                ui.label(RichText::new(format!("Saved: {text}")).small().color(p.dim));
                let copy = ui.small_button("Copy path");
                let copy = copy.on_hover_text("The file's path, for the clipboard");
                if copy.clicked() {
                    out.push(Command::Copy(text));
                }
            });
        }
    }
}

/// A note of an eighth; of the pitch that is played before it if none is given.
pub fn new_note(profile: &MusicalProfile, at: i64, midi: Option<u8>, rate: f64) -> What {
    let seconds = at as f64 / rate;
    let before = profile.bass_notes.iter().rfind(|n| n.t <= seconds);
    let near = before.or(profile.bass_notes.first());
    let midi = midi
        .or(near.map(|n| n.midi.round().clamp(0.0, 127.0) as u8))
        .unwrap_or(FIRST_NOTE);
    let (_, sixteenth) = cell(profile, seconds);
    What::Note {
        at,
        frames: (2.0 * sixteenth * rate).round() as i64,
        midi,
        velocity: VELOCITY,
    }
}

/// A hit as it is added by hand.
pub fn new_hit(at: i64, class: DrumClass) -> What {
    What::Hit {
        at,
        class,
        velocity: VELOCITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_is_that_of_the_beats() {
        let profile = MusicalProfile {
            beats: vec![0.2, 0.7, 1.3],
            ..MusicalProfile::default()
        };
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        near(snapped(&profile, 0.34), 0.325);
        near(snapped(&profile, 1.0), 1.0);
        near(snapped(&profile, 0.02), 0.075);
        near(snapped(&profile, 0.0), 0.0);
        near(snapped(&profile, 1.46), 1.45);
        near(snapped(&MusicalProfile::default(), 0.3), 0.25);
    }
}
