// [main] Chords as musicians write them, and Harte's labels.

use crate::profile::{DEGREES, PITCH_CLASSES};

/// Harte's label of a chord as musicians write it; `None` if it is none.
pub fn harte(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_empty() || text.eq_ignore_ascii_case("n") || text == "–" || text == "-" {
        return Some("N".to_owned());
    }
    let (body, bass) = match text.split_once('/') {
        Some((body, bass)) => (body, Some(bass)),
        None => (text, None),
    };
    let (root, rest) = pitch(body)?;
    // Harte's own spelling passes too.
    let rest = rest.strip_prefix(':').unwrap_or(rest);
    let quality = match rest {
        "" | "maj" | "M" => "maj",
        "m" | "min" | "-" => "min",
        "7" => "7",
        "maj7" | "M7" => "maj7",
        "m7" | "min7" | "-7" => "min7",
        "dim" | "°" | "o" => "dim",
        "dim7" | "°7" | "o7" => "dim7",
        "m7b5" | "hdim7" | "ø" => "hdim7",
        "aug" | "+" => "aug",
        "sus2" => "sus2",
        "sus4" | "sus" => "sus4",
        "6" | "maj6" => "maj6",
        "m6" | "min6" => "min6",
        "9" => "9",
        _ => return None,
    };
    let root_name = PITCH_CLASSES[root];
    let Some(bass) = bass else {
        return Some(format!("{root_name}:{quality}"));
    };
    // A degree, or a note from which the degree follows.
    let degree = match pitch(bass) {
        Some((note, "")) => DEGREES[(note + 12 - root) % 12],
        _ => DEGREES.into_iter().find(|d| *d == bass)?,
    };
    Some(format!("{root_name}:{quality}/{degree}"))
}

/// The pitch class at the start of a text, and the rest.
fn pitch(text: &str) -> Option<(usize, &str)> {
    let mut chars = text.chars();
    let natural = match chars.next()?.to_ascii_uppercase() {
        'C' => 0,
        'D' => 2,
        'E' => 4,
        'F' => 5,
        'G' => 7,
        'A' => 9,
        'B' => 11,
        _ => return None,
    };
    let rest = chars.as_str();
    Some(match rest.chars().next() {
        Some('#' | '♯') => ((natural + 1) % 12, &rest[rest.chars().next()?.len_utf8()..]),
        Some('b' | '♭') => (
            (natural + 11) % 12,
            &rest[rest.chars().next()?.len_utf8()..],
        ),
        _ => (natural, rest),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::editor::lanes;

    #[test]
    fn chords_are_read_as_musicians_write_them() {
        for (text, label) in [
            ("Am", Some("A:min")),
            ("f#m7", Some("F#:min7")),
            ("Bb", Some("A#:maj")),
            ("Gmaj7", Some("G:maj7")),
            ("C/E", Some("C:maj/3")),
            ("C:maj/5", Some("C:maj/5")),
            ("Bdim", Some("B:dim")),
            ("E♭sus4", Some("D#:sus4")),
            (" N ", Some("N")),
            ("", Some("N")),
            ("H", None),
            ("Amoll", None),
            ("C/x", None),
        ] {
            assert_eq!(harte(text).as_deref(), label, "{text}");
        }
        // What is shown can be typed.
        for label in ["A:min", "F#:maj", "G:7", "D:min7", "B:dim", "C:aug"] {
            assert_eq!(harte(&lanes::readable(label)).as_deref(), Some(label));
        }
    }
}
