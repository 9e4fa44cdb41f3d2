// [main] What is going on, in plain words that say what to do next.

use egui::Color32;

use crate::{
    damage::Stem,
    editor::{lanes, model::Model, stems, theme::Palette, timeline::take_end},
    exchange::meters::PlayerState,
    profile::{Chord, Mode, MusicalProfile, PITCH_CLASSES},
    worker::{
        options::CaptureMode,
        view::{TakeState, TakeView},
    },
};

/// The status line: its colour and its words.
pub fn line(p: &Palette, model: &Model<'_>) -> (Color32, String) {
    let params = model.params;
    let levels = model.levels;
    if !levels.running {
        return (
            p.dim,
            "The host is not sending audio. Start playback to begin.".to_owned(),
        );
    }
    if params.bypass.value() {
        return (
            p.warning,
            "Bypassed: you hear the input. Switch Bypass off to hear the repair.".to_owned(),
        );
    }
    if params.listen.compare.value() {
        return (
            p.warning,
            "A: you hear the input at the output's loudness. Switch A/B off to hear the repair."
                .to_owned(),
        );
    }
    if params.listen.delta.value() {
        return (
            p.warning,
            "Delta: you hear only what is changed. Switch Delta off to hear the whole.".to_owned(),
        );
    }
    if let Some(words) = listening(model) {
        return (p.warning, words);
    }
    match levels.player {
        PlayerState::Patch => (p.accent, patched(model)),
        PlayerState::OutOfDate => (
            p.warning,
            "Out of date: the audio here is not what was captured. Play it once more to renew it."
                .to_owned(),
        ),
        PlayerState::Live => (p.accent, live(model)),
    }
}

/// "Listening to drums alone", if stems are.
fn listening(model: &Model<'_>) -> Option<String> {
    let listening = &model.view.listening;
    let names = |flags: &[bool; Stem::COUNT]| -> Option<String> {
        let names: Vec<&str> = (Stem::ALL.into_iter())
            .filter(|stem| flags[*stem as usize])
            .map(|stem| stems::title(stem))
            .collect();
        (!names.is_empty()).then(|| names.join(" and "))
    };
    let what = if let Some(names) = names(&listening.delta) {
        format!("what was changed of {names}")
    } else if let Some(names) = names(&listening.solo) {
        format!("{names} alone")
    } else {
        format!("all but {}", names(&listening.mute)?)
    };
    Some(format!(
        "You hear {what} where the repair plays, and so would a bounce. Switch S, M and Δ off to hear all."
    ))
}

/// What plays where an analysis is done.
fn patched(model: &Model<'_>) -> String {
    let findings = model.current_take().and_then(|t| t.findings.as_ref());
    let rebuilt = findings.is_none_or(|f| f.stems.iter().any(|s| s.rebuilt));
    if rebuilt {
        "Playing rebuilt audio.".to_owned()
    } else {
        "Playing the repaired recording. No stem was rebuilt here; Regenerate rebuilds one all the same."
            .to_owned()
    }
}

/// Whether an analysed take lies at the playhead.
fn is_ready(model: &Model<'_>) -> bool {
    let at = |pos| {
        let here = |t: &&TakeView| t.start <= pos && pos < take_end(t);
        let take = model.view.takes.iter().find(here);
        take.is_some_and(|t| t.state == TakeState::Committed)
    };
    model.levels.position.is_some_and(at)
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
            (CaptureMode::Automatic, true) => return ahead(model),
            (_, false) if model.view.takes.is_empty() => "Play the song once to capture it.",
            (_, false) if is_ready(model) => {
                "What was repaired here is heard as soon as the song plays."
            }
            (_, false) => "Nothing was repaired at this place: play it once to capture it.",
        }
    };
    format!("Playing live repair. {next}")
}

/// What to do while a take is captured, and how much of its analysis is done by then.
fn ahead(model: &Model<'_>) -> String {
    let next = match model.view.ahead {
        Some(ahead) if ahead.seconds > 0.0 => {
            let done = time(ahead.seconds);
            format!("Stop playback to finish the analysis; the first {done} are nearly done.")
        }
        Some(_) => "Stop playback to finish the analysis, which has begun.".to_owned(),
        None => "Stop playback to start the analysis.".to_owned(),
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
        out.push(("Chord", lanes::readable(&chord.label)));
    }
    out
}

fn chord_at(chords: &[Chord], seconds: f64) -> Option<&Chord> {
    chords
        .iter()
        .find(|chord| (chord.start..chord.end).contains(&seconds))
}

/// Words for the style field that the profile suggests.
pub fn style_words(profile: &MusicalProfile) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(tempo) = &profile.tempo_bpm {
        let pace = match tempo.value {
            bpm if bpm < 80.0 => "slow",
            bpm if bpm < 115.0 => "mid-tempo",
            bpm if bpm < 150.0 => "upbeat",
            _ => "fast",
        };
        out.push(format!("{pace}, {:.0} BPM", tempo.value));
    }
    if let Some(key) = &profile.key {
        let tonic = PITCH_CLASSES[usize::from(key.value.tonic) % PITCH_CLASSES.len()];
        let (mode, mood) = match key.value.mode {
            Mode::Major => ("major", "bright"),
            Mode::Minor => ("minor", "dark"),
        };
        out.push(format!("{mood}, {tonic} {mode}"));
    }
    if let Some(meter) = profile.meter.filter(|m| m.value != (4, 4)) {
        out.push(format!("{}/{} feel", meter.value.0, meter.value.1));
    }
    out.extend(["dry, close-miked drums", "round bass"].map(str::to_owned));
    out
}

/// With a capital at its beginning.
pub fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + chars.as_str()
    })
}

/// "1:05.20".
pub fn fine_time(seconds: f64) -> String {
    let sign = if seconds < 0.0 { "-" } else { "" };
    let hundredths = (seconds.abs() * 100.0).round();
    let minutes = (hundredths / 6000.0).floor();
    let rest = (hundredths - 6000.0 * minutes) / 100.0;
    format!("{sign}{minutes:.0}:{rest:05.2}")
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
