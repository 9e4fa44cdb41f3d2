// [worker] Chords as JASCO reads them: its table of labels, and one index a latent frame.

use super::JascoError;

/// Labels of the table; a label's place is its index (AudioCraft's `chord_to_index_mapping`, Chordino's
/// label set in the order of a corpus).
#[rustfmt::skip]
pub const LABELS: [&str; 194] = [
    "N", "F", "C", "Bb", "Gm6", "Dm", "A7/C#", "Bm7b5", "Am", "G7", "Dm7", "Em7b5", "A", "C#aug",
    "G", "Bbmaj7", "F6", "Gm7b5/F", "Bbm", "D6", "D", "G6", "Em", "Cmaj7", "Gmaj7", "C6", "Am7",
    "Bm7", "B", "B/D#", "Em7", "D7", "B7/D#", "Fm", "E7", "F/C", "C/G", "A7", "Aaug", "Bbaug",
    "Cm6", "Bb/F", "Gm", "C7", "Fm6", "Bb6", "Cm", "F/A", "F#m7", "F#m7b5", "D/F#", "C/E", "Dmaj7",
    "D/A", "A6", "Bm", "Bb/C", "Fmaj7", "F/G", "Adim", "F7", "Eb7", "Dm7b5/C", "C#7", "Cdim", "Ab",
    "Ab7/C", "Cm7", "Ab/C", "Abm", "Abm7", "Bbm7b5/Ab", "E", "F#7", "Eb", "Emaj7", "F#6", "C#m",
    "Caug", "Abm7b5/Gb", "F#m", "E6", "Abaug", "B6", "F#/A#", "C#6", "A/B", "Ab6", "Abmaj7", "Gm7",
    "Eb6", "Fm7", "Bbm6", "Eb/Bb", "F#", "Abm7b5", "Dm6", "G7/B", "F#m7b5/E", "Ebm", "F#/E", "G/D",
    "Abm6", "Ebm7", "C#/G#", "F#/G#", "Bbm7", "C#/D#", "Amaj7", "Am6", "D/E", "C#m7", "Cm7b5/Bb",
    "B/F#", "Bm7b5/A", "C#m7b5/B", "F#maj7", "G/A", "C/D", "Bbdim", "Gm7b5", "C7/E", "Edim", "Em6",
    "A/E", "Gaug", "B7", "F#aug", "Gdim", "Em7b5/D", "G/B", "A/C#", "A/G", "Bdim", "E/B", "Bbm7b5",
    "C#m6", "C#/E#", "Faug", "Bb7", "F#dim", "Dm7b5", "F#m6", "Ebm7b5", "Ebm6", "Ebm7b5/Db",
    "Fm7b5/Eb", "Ab/Eb", "G/F", "Am7b5", "Fdim", "C#", "Ab7", "Am7b5/G", "F7/A", "Ebmaj7", "Eb/F",
    "Ab/Bb", "C#maj7", "Abdim", "F#7/A#", "E7/G#", "Bm6", "Baug", "D/C", "Cm7b5", "Fm7b5", "F/Eb",
    "D7/F#", "Bmaj7", "Ebaug", "C/Bb", "Eb7/G", "B/C#", "Bb7/D", "E/G#", "Ab/Gb", "F#/C#", "Ebdim",
    "C#m7b5", "Eaug", "Bb/D", "C#dim", "Daug", "Eb/Db", "C#7/E#", "Ddim", "E/F#", "E/D", "B/A",
    "Bb/Ab", "Eb/G", "C#/B", "UNK",
];

/// Index of "no chord".
pub const NO_CHORD: u32 = 0;

/// Index of the label of the table, spelled as it is there; an empty label is "no chord".
///
/// # Errors
/// [`JascoError::UnknownChord`].
pub fn index(label: &str) -> Result<u32, JascoError> {
    if label.is_empty() {
        return Ok(NO_CHORD);
    }
    LABELS
        .iter()
        .position(|l| *l == label)
        .map(|i| i as u32)
        .ok_or_else(|| JascoError::UnknownChord {
            label: label.to_owned(),
        })
}

/// One index a frame. `changes`: label and time in seconds, in the order given, which is not sorted: a
/// change that stands behind a later one comes when that one has come.
///
/// `first_frame` is the frame at which the window begins, `before` the chord until the first change.
///
/// # Errors
/// [`JascoError::UnknownChord`] for a label outside the table, whether or not it is reached.
pub fn frames(
    changes: &[(f64, &str)],
    frames: usize,
    frame_rate: f64,
    first_frame: usize,
    before: &str,
) -> Result<Vec<u32>, JascoError> {
    let mut next = changes
        .iter()
        .map(|&(t, label)| Ok((t, index(label)?)))
        .collect::<Result<Vec<_>, JascoError>>()?
        .into_iter()
        .peekable();
    let mut current = index(before)?;
    Ok((0..frames)
        .map(|frame| {
            let t = (first_frame + frame) as f64 / frame_rate;
            while let Some((_, chord)) = next.next_if(|(at, _)| *at <= t) {
                current = chord;
            }
            current
        })
        .collect())
}

/// The index of the chord of the table that is nearest to a Harte label such as `C:maj`, `F#:min7/5`,
/// `Bb:sus4`, `A:9(b5)` or `N`. What the table lacks becomes the quality with the most tones in common;
/// a bass that it lacks is left out. Labels that can't be read are "no chord".
pub fn nearest(harte: &str) -> u32 {
    parse_harte(harte)
        .and_then(|(root, quality, bass)| {
            place(root, quality, bass).or_else(|| place(root, quality, 0))
        })
        .unwrap_or(NO_CHORD)
}

/// Root, the table's quality, and the bass in semitones above the root.
fn parse_harte(label: &str) -> Option<(u8, &'static str, u8)> {
    let (root, rest) = pitch_class(label)?;
    let rest = rest.strip_prefix(':').unwrap_or(rest);
    let (quality, bass) = rest.split_once('/').unwrap_or((rest, "1"));
    let name = quality.split(['(', ' ']).next().unwrap_or("");
    let quality = match name {
        "" | "maj" | "5" | "1" | "sus2" | "sus4" | "add9" => "",
        "min" | "m" | "madd9" => "m",
        "7" | "9" | "11" | "13" | "7sus4" | "sus4(b7)" => "7",
        "min7" | "m7" | "min9" | "min11" | "min13" => "m7",
        "maj7" | "maj9" | "maj11" | "maj13" => "maj7",
        "6" | "maj6" | "69" => "6",
        "min6" | "m6" => "m6",
        "dim" => "dim",
        "aug" => "aug",
        // Three of its four tones are those of the half-diminished chord's triad.
        "hdim7" | "m7b5" | "dim7" => "m7b5",
        // A minor triad with another seventh than the table's.
        "minmaj7" => "m",
        _ => return None,
    };
    Some((root, quality, degree(bass)?))
}

/// A bass in semitones above the root: a degree (`3`, `b7`).
fn degree(text: &str) -> Option<u8> {
    let flats = text.bytes().filter(|b| *b == b'b').count() as i32;
    let sharps = text.bytes().filter(|b| *b == b'#').count() as i32;
    let number: usize = text.trim_matches(['b', '#']).parse().ok()?;
    let natural = *[0, 2, 4, 5, 7, 9, 11].get((number.checked_sub(1)?) % 7)?;
    u8::try_from((natural + sharps - flats).rem_euclid(12)).ok()
}

/// The pitch class at the start of `text`, and what follows.
fn pitch_class(text: &str) -> Option<(u8, &str)> {
    let letter = text.bytes().next()?;
    let natural: i32 = match letter {
        b'C' => 0,
        b'D' => 2,
        b'E' => 4,
        b'F' => 5,
        b'G' => 7,
        b'A' => 9,
        b'B' => 11,
        _ => return None,
    };
    let mut rest = &text[1..];
    let mut class = natural;
    while let Some(after) = rest.strip_prefix('#') {
        (class, rest) = (class + 1, after);
    }
    while let Some(after) = rest.strip_prefix('b') {
        (class, rest) = (class - 1, after);
    }
    Some((class.rem_euclid(12) as u8, rest))
}

/// The table's index for a root, one of its qualities and a bass above the root.
fn place(root: u8, quality: &str, bass: u8) -> Option<u32> {
    LABELS
        .iter()
        .position(|label| table_entry(label) == Some((root, quality, bass)))
        .map(|i| i as u32)
}

/// A label of the table taken apart; its basses are note names.
fn table_entry(label: &str) -> Option<(u8, &str, u8)> {
    if matches!(label, "N" | "UNK") {
        return None;
    }
    let (root, rest) = pitch_class(label)?;
    match rest.split_once('/') {
        None => Some((root, rest, 0)),
        Some((quality, bass)) => {
            let (bass, _) = pitch_class(bass)?;
            Some((root, quality, (bass + 12 - root) % 12))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_root_with_every_quality() {
        let mut seen: Vec<_> = LABELS.iter().filter_map(|l| table_entry(l)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 12 * 16);
    }

    #[test]
    fn harte_labels_find_their_chord() {
        for (harte, label) in [
            ("C:maj", "C"),
            ("F#:min7", "F#m7"),
            ("Gb:min", "F#m"),
            ("D#:maj", "Eb"),
            ("A#:min/b3", "Bbm"),
            ("G:7", "G7"),
            ("E:hdim7", "Em7b5"),
            ("D:maj/3", "D/F#"),
            ("D:maj/5", "D/A"),
            ("C:maj/2", "C/D"),
            ("A:7/3", "A7/C#"),
            ("B:maj7", "Bmaj7"),
            ("E:5", "E"),
            ("A:sus4", "A"),
            ("C:9", "C7"),
            ("Ab:aug", "Abaug"),
            ("N", "N"),
            ("X", "N"),
            ("", "N"),
        ] {
            assert_eq!(LABELS[nearest(harte) as usize], label, "{harte}");
        }
    }
}
