// [worker] From what the ears hear of bass or lead to its notes: the likeliest path, cut where notes begin.

use super::super::{Note, spectra::quantile};
use super::PITCH_FPS;

/// Probability below which a class counts as this.
const FLOOR: f32 = 1e-3;
/// Log price of another note, where nothing and where an onset is heard; of beginning or ending to sound.
const CHANGE: [f32; 2] = [4.0, 0.8];
const VOICING: f32 = 1.2;
/// An onset this sure cuts a note that goes on; this far from the note's ends, seconds.
const CUT: f32 = 0.42;
const APART: f64 = 0.075;
/// A change of pitch is moved to the surest onset within this, seconds.
const NEAR: f64 = 0.06;
/// Shortest note, seconds.
const SHORTEST: f64 = 0.05;

/// What a line is read from.
pub(in super::super) struct Line<'a> {
    /// `[frame at 50 fps][notes + 1]`, none last.
    pub classes: &'a [f32],
    /// Classes without the last.
    pub notes: usize,
    /// MIDI note of the first class.
    pub lowest: usize,
    /// Probability of an onset, `[frame at 100 fps]`.
    pub onsets: &'a [f32],
    /// Level every 10 ms, for the velocities.
    pub levels: &'a [f32],
    /// Semitones the band is sharp.
    pub tuning: f64,
}

impl Line<'_> {
    /// The notes, ascending.
    pub fn read(&self) -> Vec<Note> {
        let path = self.path();
        let loud = quantile(self.levels, 0.95).max(1e-9);
        let mut out = Vec::new();
        let mut first = 0;
        while first < path.len() {
            let class = path[first];
            let end = path[first..]
                .iter()
                .position(|&c| c != class)
                .map_or(path.len(), |n| first + n);
            if class < self.notes {
                self.cut(class, first, end, loud, &mut out);
            }
            first = end;
        }
        // A start that moved back ends the note before.
        for i in 1..out.len() {
            let start = out[i].t;
            let before = &mut out[i - 1];
            before.dur = before.dur.min(start - before.t);
        }
        out.retain(|n| n.dur >= SHORTEST);
        out
    }

    fn onset_at(&self, seconds: f64) -> f32 {
        let at = (seconds * 100.0).round() as usize;
        self.onsets.get(at).copied().unwrap_or(0.0)
    }

    /// Best class of each frame.
    fn path(&self) -> Vec<usize> {
        let width = self.notes + 1;
        let mut value = vec![0.0f32; width];
        let mut back: Vec<u8> = Vec::with_capacity(self.classes.len());
        for (t, row) in self.classes.chunks_exact(width).enumerate() {
            // An onset is spread over the frames around it.
            let onset = (-2..=2)
                .map(|k| self.onset_at(t as f64 / PITCH_FPS + f64::from(k) * 0.01))
                .fold(0.0, f32::max);
            let price = CHANGE[0] + (CHANGE[1] - CHANGE[0]) * onset;
            let best = (0..self.notes).fold(0, |b, i| if value[i] > value[b] { i } else { b });
            let none = value[self.notes];
            let (jump, rest) = (value[best] - price, value[best] - VOICING);
            let begin = none - VOICING;
            let before = value.clone();
            for i in 0..self.notes {
                let (mut v, mut from) = (before[i], i);
                if jump > v {
                    (v, from) = (jump, best);
                }
                if begin > v {
                    (v, from) = (begin, self.notes);
                }
                back.push(from as u8);
                value[i] = v + row[i].max(FLOOR).ln();
            }
            let stay = rest <= none;
            back.push(if stay { self.notes } else { best } as u8);
            value[self.notes] = none.max(rest) + row[self.notes].max(FLOOR).ln();
            // Only differences matter: keep the sums small.
            let top = value.iter().copied().fold(f32::MIN, f32::max);
            value.iter_mut().for_each(|v| *v -= top);
        }
        let frames = back.len() / width;
        let mut state = (0..width).fold(0, |b, i| if value[i] > value[b] { i } else { b });
        let mut path = vec![0; frames];
        for t in (0..frames).rev() {
            path[t] = state;
            state = usize::from(back[t * width + state]);
        }
        path
    }

    /// Notes of one class over frames `[first, end)`.
    fn cut(&self, class: usize, first: usize, end: usize, loud: f32, out: &mut Vec<Note>) {
        let (from, to) = (first as f64 / PITCH_FPS, end as f64 / PITCH_FPS);
        let mut starts = vec![self.summit(from).unwrap_or(from)];
        let frames = (from * 100.0) as usize..(to * 100.0) as usize;
        for t in frames {
            let time = t as f64 * 0.01;
            let around = &self.onsets
                [t.saturating_sub(3).min(self.onsets.len())..(t + 4).min(self.onsets.len())];
            let here = self.onset_at(time);
            let last = starts.last().copied().unwrap_or(from);
            if here >= CUT
                && around.iter().all(|&o| o <= here)
                && time - last >= APART
                && to - time >= SHORTEST
            {
                starts.push(time);
            }
        }
        starts.push(to);
        let width = self.notes + 1;
        for span in starts.windows(2) {
            let rows = (span[0] * PITCH_FPS).ceil().max(0.0) as usize
                ..((span[1] * PITCH_FPS) as usize).min(self.classes.len() / width);
            let count = rows.len().max(1) as f32;
            let sure: f32 = rows.map(|t| self.classes[t * width + class]).sum::<f32>() / count;
            let begun = self.summit(span[0]).map_or(0.0, |t| self.onset_at(t));
            let at = (span[0] * 100.0) as usize;
            let peak = self
                .levels
                .get(at..(at + 12).min(self.levels.len()))
                .map_or(0.0, |l| l.iter().copied().fold(0.0, f32::max));
            out.push(Note {
                t: span[0].max(0.0),
                dur: span[1] - span[0],
                midi: ((self.lowest + class) as f64 + self.tuning) as f32,
                velocity: (peak / loud).sqrt().clamp(0.0, 1.0),
                confidence: (sure * begun.sqrt()).clamp(0.0, 1.0),
            });
        }
    }

    /// The surest onset near a time; None where nothing begins.
    fn summit(&self, seconds: f64) -> Option<f64> {
        const LEAST: f32 = 0.12;
        let reach = (NEAR * 100.0) as i64;
        let centre = (seconds * 100.0).round() as i64;
        (centre - reach..=centre + reach)
            .filter_map(|t| {
                let p = self.onsets.get(usize::try_from(t).ok()?)?;
                (*p >= LEAST).then_some((t, *p))
            })
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(t, _)| t as f64 * 0.01)
    }
}
