// [worker] Which windows fill which frames: windows of fixed length over holes of any.

use std::ops::Range;

/// Context that a window should have on each side of what it fills, seconds. Windows of one long hole overlap by
/// it: what one has filled is known to the next.
pub const CONTEXT_SECONDS: f64 = 3.0;

/// A window and the frames it fills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// First frame. Frames past the end of the audio are silence.
    pub start: usize,
    /// What is filled, ascending, in frames of the audio.
    pub fill: Vec<Range<usize>>,
}

/// Windows of `length` frames over `total` frames of audio that fill `holes` (ascending, apart), each frame once, in
/// an order in which everything a window needs was filled before. `context` is less than half of `length`.
pub fn plan(holes: &[Range<usize>], total: usize, length: usize, context: usize) -> Vec<Window> {
    let holes: Vec<Range<usize>> = holes
        .iter()
        .map(|h| h.start.min(total)..h.end.min(total))
        .filter(|h| !h.is_empty())
        .collect();
    let mut out: Vec<Window> = Vec::new();
    let mut next = holes.first().map(|h| h.start);
    while let Some(first) = next {
        // As many whole holes as fit between the contexts, else as much of the first as the window holds.
        let room = length - 2 * context;
        let whole = holes
            .iter()
            .filter(|h| h.end > first && h.end <= first + room)
            .map(|h| h.end)
            .max();
        let (start, end) = match whole {
            Some(end) => (first.saturating_sub((length - (end - first)) / 2), end),
            None => {
                let start = first.saturating_sub(context);
                (start, start + length)
            }
        };
        let start = start.min(total.saturating_sub(length));
        let end = end.min(start + length);
        let part = |h: &Range<usize>| h.start.max(first)..h.end.min(end);
        let fill: Vec<Range<usize>> = holes.iter().map(part).filter(|h| !h.is_empty()).collect();
        let filled = fill.last().map_or(end, |h| h.end);
        out.push(Window { start, fill });
        next = holes
            .iter()
            .find(|h| h.end > filled)
            .map(|h| h.start.max(filled));
    }
    out
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // A list of one hole is meant.
mod tests {
    use super::*;

    #[test]
    fn every_frame_of_every_hole_is_filled_once_with_context_before_it() {
        let (length, context) = (500, 150);
        for (holes, total) in [
            (vec![100..110], 1000),
            (vec![0..40, 80..100, 600..700], 1000),
            (vec![0..2000], 2000),
            (vec![10..1234], 3000),
            (vec![300..900, 905..960, 990..1000], 1000),
            (vec![5..60], 70),
            (vec![0..70], 70),
            (vec![100..301], 5000),
        ] {
            let windows = plan(&holes, total, length, context);
            let mut filled = vec![0; total];
            for w in &windows {
                assert!(w.start + length <= total.max(length), "{w:?}");
                for f in &w.fill {
                    assert!(f.start >= w.start && f.end <= w.start + length, "{w:?}");
                    for slot in &mut filled[f.clone()] {
                        *slot += 1;
                    }
                }
                // Before the first filled frame lies the context, or the start of the audio.
                let first = w.fill[0].start;
                assert!(
                    w.start == 0 || first >= w.start + context,
                    "{holes:?} {w:?}"
                );
            }
            for (frame, count) in filled.iter().enumerate() {
                let inside = holes.iter().any(|h: &Range<usize>| h.contains(&frame));
                assert_eq!(*count, usize::from(inside), "{holes:?} frame {frame}");
            }
        }
    }

    #[test]
    fn a_short_hole_stands_in_the_middle() {
        assert_eq!(
            plan(&[1000..1100], 5000, 500, 150),
            [Window {
                start: 800,
                fill: vec![1000..1100]
            }]
        );
    }

    #[test]
    fn nothing_to_fill_needs_no_window() {
        assert!(plan(&[], 100, 500, 150).is_empty());
        assert!(plan(&[120..130], 100, 500, 150).is_empty());
    }
}
