// [cli] Letters for pictures: three by five dots each.

use super::{Canvas, Rgb};

/// Dots a glyph is wide and high.
const SIZE: (usize, usize) = (3, 5);

/// Rows from the top, three bits each, the left dot first.
const GLYPHS: [(char, [u8; 5]); 40] = [
    ('0', [7, 5, 5, 5, 7]),
    ('1', [2, 6, 2, 2, 7]),
    ('2', [7, 1, 7, 4, 7]),
    ('3', [7, 1, 3, 1, 7]),
    ('4', [5, 5, 7, 1, 1]),
    ('5', [7, 4, 7, 1, 7]),
    ('6', [7, 4, 7, 5, 7]),
    ('7', [7, 1, 1, 2, 2]),
    ('8', [7, 5, 7, 5, 7]),
    ('9', [7, 5, 7, 1, 7]),
    ('A', [2, 5, 7, 5, 5]),
    ('B', [6, 5, 6, 5, 6]),
    ('C', [3, 4, 4, 4, 3]),
    ('D', [6, 5, 5, 5, 6]),
    ('E', [7, 4, 6, 4, 7]),
    ('F', [7, 4, 6, 4, 4]),
    ('G', [3, 4, 5, 5, 3]),
    ('H', [5, 5, 7, 5, 5]),
    ('I', [7, 2, 2, 2, 7]),
    ('J', [1, 1, 1, 5, 2]),
    ('K', [5, 5, 6, 5, 5]),
    ('L', [4, 4, 4, 4, 7]),
    ('M', [5, 7, 7, 5, 5]),
    ('N', [6, 5, 5, 5, 5]),
    ('O', [2, 5, 5, 5, 2]),
    ('P', [6, 5, 6, 4, 4]),
    ('Q', [2, 5, 5, 6, 3]),
    ('R', [6, 5, 6, 5, 5]),
    ('S', [3, 4, 2, 1, 6]),
    ('T', [7, 2, 2, 2, 2]),
    ('U', [5, 5, 5, 5, 7]),
    ('V', [5, 5, 5, 5, 2]),
    ('W', [5, 5, 7, 7, 5]),
    ('X', [5, 5, 2, 5, 5]),
    ('Y', [5, 5, 2, 2, 2]),
    ('Z', [7, 1, 2, 4, 7]),
    (':', [0, 2, 0, 2, 0]),
    ('.', [0, 0, 0, 0, 2]),
    ('-', [0, 0, 7, 0, 0]),
    (' ', [0, 0, 0, 0, 0]),
];

/// Width of `text` in pixels at `scale`.
pub(super) fn width(text: &str, scale: usize) -> usize {
    text.chars().count() * (SIZE.0 + 1) * scale
}

/// Height of a line in pixels at `scale`.
pub(super) fn height(scale: usize) -> usize {
    SIZE.1 * scale
}

/// Writes `text` in capitals; characters without a glyph are left blank.
pub(super) fn write(canvas: &mut Canvas, at: (usize, usize), text: &str, scale: usize, ink: Rgb) {
    for (i, c) in text.chars().enumerate() {
        let c = c.to_ascii_uppercase();
        let Some((_, rows)) = GLYPHS.iter().find(|g| g.0 == c) else {
            continue;
        };
        let left = at.0 + i * (SIZE.0 + 1) * scale;
        for (y, row) in rows.iter().enumerate() {
            for x in 0..SIZE.0 {
                if row & (4 >> x) != 0 {
                    let corner = (left + x * scale, at.1 + y * scale);
                    canvas.fill(corner, (scale, scale), ink);
                }
            }
        }
    }
}
