// [any] What was played, as editable data. Times in seconds from the start of the audio.

use serde::{Deserialize, Serialize};

/// Everything known about the music. Empty lists and `None` mean unknown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MusicalProfile {
    /// Quarter-note (or dotted-quarter in 6/8) beats per minute.
    pub tempo_bpm: Option<Estimate<f64>>,
    /// Beat times, ascending.
    pub beats: Vec<f64>,
    /// The beats that start a bar.
    pub downbeats: Vec<f64>,
    /// Beats a bar and beat unit, such as (4, 4), (3, 4), (6, 8).
    pub meter: Option<Estimate<(u8, u8)>>,
    pub key: Option<Estimate<Key>>,
    /// Contiguous, ascending.
    pub chords: Vec<Chord>,
    pub melody_notes: Vec<Note>,
    pub bass_notes: Vec<Note>,
    pub drums: Vec<DrumHit>,
}

/// A value and how sure we are of it, 0..=1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate<T> {
    pub value: T,
    pub confidence: f32,
}

/// A major or minor key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Pitch class of the tonic, 0 = C .. 11 = B.
    pub tonic: u8,
    pub mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Major,
    Minor,
}

/// A chord over a span.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chord {
    pub start: f64,
    pub end: f64,
    /// Harte syntax: `C:maj`, `F#:min7`, `N` for none.
    pub label: String,
    pub confidence: f32,
}

/// A pitched note.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// Onset.
    pub t: f64,
    /// Duration in seconds.
    pub dur: f64,
    /// MIDI note number; fractional where the band is detuned.
    pub midi: f32,
    /// 0..=1.
    pub velocity: f32,
    pub confidence: f32,
}

/// A drum hit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrumHit {
    pub t: f64,
    pub class: DrumClass,
    /// 0..=1.
    pub velocity: f32,
    pub confidence: f32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum DrumClass {
    Kick,
    Snare,
    HihatClosed,
    HihatOpen,
    Tom,
    Crash,
    Ride,
}

impl DrumClass {
    /// Number of classes.
    pub const COUNT: usize = 7;
    /// Every class, in index order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Kick,
        Self::Snare,
        Self::HihatClosed,
        Self::HihatOpen,
        Self::Tom,
        Self::Crash,
        Self::Ride,
    ];
}

/// Names of the pitch classes, sharps.
pub const PITCH_CLASSES: [&str; 12] = [
    "C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B",
];

/// Harte's names of a chord's tones by their distance from the root in semitones.
pub const DEGREES: [&str; 12] = [
    "1", "b2", "2", "b3", "3", "4", "b5", "5", "b6", "6", "b7", "7",
];
