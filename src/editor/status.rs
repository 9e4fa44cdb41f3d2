// [main] What is going on, in plain words that say what to do next.

use egui::Color32;

use crate::{
    editor::{model::Model, theme},
    exchange::meters::PlayerState,
    profile::{Chord, Mode, MusicalProfile, PITCH_CLASSES},
    worker::{options::CaptureMode, view::TakeState},
};

/// The status line: its colour and its words.
pub fn line(model: &Model<'_>) -> (Color32, String) {
    let params = model.params;
    let levels = model.levels;
    if !levels.running {
        return (
            theme::TEXT_DIM,
            "The host is not sending audio. Start playback to begin.".to_owned(),
        );
    }
    if params.bypass.value() {
        return (
            theme::WARNING,
            "Bypassed: you hear the input. Switch Bypass off to hear the repair.".to_owned(),
        );
    }
    if params.listen.compare.value() {
        return (
            theme::WARNING,
            "A: you hear the input at the output's loudness. Switch A/B off to hear the repair."
                .to_owned(),
        );
    }
    if params.listen.delta.value() {
        return (
            theme::WARNING,
            "Delta: you hear only what is changed. Switch Delta off to hear the whole.".to_owned(),
        );
    }
    match levels.player {
        PlayerState::Patch => (theme::ACCENT, "Playing rebuilt audio.".to_owned()),
        PlayerState::OutOfDate => (
            theme::WARNING,
            "Out of date: the audio here is not what was captured. Play it once more to renew it."
                .to_owned(),
        ),
        PlayerState::Live => (theme::ACCENT, live(model)),
    }
}

/// What to do next while the live chain plays.
fn live(model: &Model<'_>) -> String {
    let next = if model.levels.position.is_none() {
        "The host gives no song position, so nothing can be captured and rebuilt."
    } else if model.view.job.is_some() {
        "The analysis is running; its result fades in when it is ready."
    } else {
        let capture = model.params.analysis.capture.value();
        let waiting = (model.view.takes.iter())
            .any(|take| matches!(take.state, TakeState::Captured | TakeState::Capturing));
        match (capture, waiting) {
            (CaptureMode::Off, _) => "Set Capture to Automatic to have drums and bass rebuilt.",
            (CaptureMode::Manual, true) => "Press Analyse to have drums and bass rebuilt.",
            (CaptureMode::Automatic, true) => "Stop playback to start the analysis.",
            (_, false) if model.view.takes.is_empty() => "Play the song once to capture it.",
            (_, false) => "Nothing is rebuilt at this place.",
        }
    };
    format!("Playing live repair. {next}")
}

/// Tempo, key and the chord at `seconds` from the start of the take.
pub fn profile(profile: &MusicalProfile, seconds: f64) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    if let Some(tempo) = &profile.tempo_bpm {
        out.push(("Tempo", format!("{:.1} BPM", tempo.value)));
    }
    if let Some(meter) = &profile.meter {
        out.push(("Metre", format!("{}/{}", meter.value.0, meter.value.1)));
    }
    if let Some(key) = &profile.key {
        let tonic = PITCH_CLASSES[usize::from(key.value.tonic) % PITCH_CLASSES.len()];
        let mode = match key.value.mode {
            Mode::Major => "major",
            Mode::Minor => "minor",
        };
        out.push(("Key", format!("{tonic} {mode}")));
    }
    if let Some(chord) = chord_at(&profile.chords, seconds) {
        out.push(("Chord", chord.label.clone()));
    }
    out
}

fn chord_at(chords: &[Chord], seconds: f64) -> Option<&Chord> {
    chords
        .iter()
        .find(|chord| (chord.start..chord.end).contains(&seconds))
}

/// "1:05".
pub fn time(seconds: f64) -> String {
    let sign = if seconds < 0.0 { "-" } else { "" };
    let seconds = seconds.abs();
    let minutes = (seconds / 60.0).floor();
    format!(
        "{sign}{minutes:.0}:{:02.0}",
        (seconds - 60.0 * minutes).floor()
    )
}

/// "about 2 min left", "a few seconds left".
pub fn left(seconds: f64) -> String {
    if seconds < 8.0 {
        "a few seconds left".to_owned()
    } else if seconds < 90.0 {
        format!("about {:.0} s left", (seconds / 5.0).ceil() * 5.0)
    } else {
        format!("about {:.0} min left", (seconds / 60.0).ceil())
    }
}
