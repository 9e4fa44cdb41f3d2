// [worker] Sliding medians over planes of time and frequency.

use crate::separation::stft::Plane;

/// A window of values kept sorted while it slides.
struct Sorted(Vec<f32>);

impl Sorted {
    fn insert(&mut self, x: f32) {
        let at = self.0.partition_point(|&y| y < x);
        self.0.insert(at, x);
    }

    fn remove(&mut self, x: f32) {
        let at = self.0.partition_point(|&y| y < x);
        if at < self.0.len() {
            self.0.remove(at);
        }
    }

    fn median(&self) -> f32 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(0.0)
    }
}

/// Median of the `2 * half + 1` values around each; fewer at the ends. Values are finite.
fn slide(input: &[f32], half: usize, window: &mut Sorted, out: &mut [f32]) {
    window.0.clear();
    for &x in input.iter().take(half) {
        window.insert(x);
    }
    for (i, o) in out.iter_mut().enumerate() {
        if let Some(&x) = input.get(i + half) {
            window.insert(x);
        }
        if let Some(old) = i.checked_sub(half + 1) {
            window.remove(input[old]);
        }
        *o = window.median();
    }
}

/// Median along time.
pub fn along_time(plane: &Plane<f32>, half: usize) -> Plane<f32> {
    let mut out = Plane::new(plane.frames, plane.bins);
    let mut window = Sorted(Vec::with_capacity(2 * half + 2));
    let mut column = vec![0.0; plane.frames];
    let mut filtered = vec![0.0; plane.frames];
    for k in 0..plane.bins {
        for (t, c) in column.iter_mut().enumerate() {
            *c = plane.data[t * plane.bins + k];
        }
        slide(&column, half, &mut window, &mut filtered);
        for (t, f) in filtered.iter().enumerate() {
            out.data[t * plane.bins + k] = *f;
        }
    }
    out
}

/// Median along frequency.
pub fn along_frequency(plane: &Plane<f32>, half: usize) -> Plane<f32> {
    let mut out = Plane::new(plane.frames, plane.bins);
    let mut window = Sorted(Vec::with_capacity(2 * half + 2));
    for t in 0..plane.frames {
        slide(plane.row(t), half, &mut window, out.row_mut(t));
    }
    out
}

/// The median of a few values; reorders them. 0 of none.
pub fn median_of(values: &mut [f32]) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sliding_equals_sorting_every_window() {
        let values: Vec<f32> = (0..97u32).map(|i| ((i * 7919) % 23) as f32).collect();
        for half in [0, 1, 2, 8, 60] {
            let mut got = vec![0.0; values.len()];
            slide(&values, half, &mut Sorted(Vec::new()), &mut got);
            for (i, g) in got.iter().enumerate() {
                let end = (i + half + 1).min(values.len());
                let mut window = values[i.saturating_sub(half)..end].to_vec();
                assert_eq!(*g, median_of(&mut window), "{half} {i}");
            }
        }
    }

    #[test]
    fn both_directions_agree_on_a_transposed_plane() {
        let (frames, bins) = (13, 7);
        let mut a = Plane::new(frames, bins);
        let mut b = Plane::new(bins, frames);
        for t in 0..frames {
            for k in 0..bins {
                let x = ((t * 31 + k * 17) % 11) as f32;
                a.data[t * bins + k] = x;
                b.data[k * frames + t] = x;
            }
        }
        let (a, b) = (along_time(&a, 2), along_frequency(&b, 2));
        for t in 0..frames {
            for k in 0..bins {
                assert_eq!(a.data[t * bins + k], b.data[k * frames + t]);
            }
        }
    }
}
