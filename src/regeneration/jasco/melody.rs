// [worker] The melody as JASCO reads it: one of 53 semitones, or none, a latent frame.

use crate::profile::Note;

/// MIDI number of the first row: G2.
pub const LOWEST_MIDI: i32 = 43;
/// Rows of the matrix, G2 to B6.
pub const ROWS: usize = 53;

/// A matrix `[ROWS][frames]`, row-major, with a single 1 in a column where a note sounds. `start`: the
/// seconds at which the window begins. Where notes overlap the one that began last is taken.
///
/// The reference's own extractor marks the strongest pitch of a mix at each frame; notes below G2 cannot
/// be said and are moved up by octaves, which keeps their name.
pub fn salience(notes: &[Note], start: f64, frames: usize, frame_rate: f64) -> Vec<f32> {
    let mut pitch: Vec<Option<(f64, usize)>> = vec![None; frames];
    for note in notes {
        let ends = note.t + note.dur;
        if !(note.t.is_finite() && ends.is_finite() && note.midi.is_finite()) {
            continue;
        }
        let mut row = note.midi.round() as i32 - LOWEST_MIDI;
        while row < 0 {
            row += 12;
        }
        while row >= ROWS as i32 {
            row -= 12;
        }
        // A frame belongs to what sounds at its centre.
        let first = ((note.t - start) * frame_rate - 0.5).ceil().max(0.0) as usize;
        let last = ((ends - start) * frame_rate - 0.5).ceil().max(0.0) as usize;
        for slot in pitch.iter_mut().take(last).skip(first) {
            if slot.is_none_or(|(began, _)| began <= note.t) {
                *slot = Some((note.t, row as usize));
            }
        }
    }
    let mut matrix = vec![0.0; ROWS * frames];
    for (frame, slot) in pitch.into_iter().enumerate() {
        if let Some((_, row)) = slot {
            matrix[row * frames + frame] = 1.0;
        }
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(t: f64, dur: f64, midi: f32) -> Note {
        Note {
            t,
            dur,
            midi,
            velocity: 1.0,
            confidence: 1.0,
        }
    }

    fn rows(matrix: &[f32], frames: usize) -> Vec<Option<usize>> {
        (0..frames)
            .map(|f| (0..ROWS).find(|r| matrix[r * frames + f] > 0.0))
            .collect()
    }

    #[test]
    fn one_row_where_a_note_sounds_and_none_elsewhere() {
        // At 10 frames a second from second 2 on: frame centres at 2.05, 2.15, …
        let notes = [
            note(2.1, 0.2, 43.2),
            note(2.3, 0.3, 95.0),
            note(2.45, 1.0, 28.0),
        ];
        let matrix = salience(&notes, 2.0, 8, 10.0);
        let expected = [
            None,
            Some(0),
            Some(0),
            Some(52),
            Some(52),
            Some(9),
            Some(9),
            Some(9),
        ];
        assert_eq!(rows(&matrix, 8), expected);
        assert_eq!(matrix.iter().sum::<f32>(), 7.0);
    }

    #[test]
    fn notes_outside_the_window_or_without_a_number_are_passed_over() {
        let notes = [
            note(0.0, 1.0, 60.0),
            note(9.0, 1.0, 60.0),
            note(2.0, f64::NAN, 60.0),
        ];
        assert!(salience(&notes, 2.0, 20, 10.0).iter().all(|&v| v == 0.0));
    }
}
