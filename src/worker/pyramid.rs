// [any] A long row of measurements at many resolutions, so that any zoom is drawn from a few of them.
//!
//! Levels are four times coarser each. Full blocks are shared between copies, so a copy of an hour
//! costs as little as a copy of a second.

use std::{ops::Range, sync::Arc};

/// Items of a level that make one of the next.
const FACTOR: usize = 4;
/// Items of a block that copies share.
const BLOCK: usize = 1024;

/// What can be summarised: the summary of two neighbours, in any grouping the same.
pub trait Merge: Copy {
    /// The summary of both.
    #[must_use]
    fn merge(self, other: Self) -> Self;
}

/// Lowest and highest sample of a stretch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    pub low: f32,
    pub high: f32,
}

impl Merge for Peak {
    fn merge(self, other: Self) -> Self {
        Self {
            low: self.low.min(other.low),
            high: self.high.max(other.high),
        }
    }
}

/// One value a row, each 0..=255: severities of the kinds of damage, or the loudness of bands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cells<const N: usize>(pub [u8; N]);

impl<const N: usize> Merge for Cells<N> {
    fn merge(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].max(other.0[i])))
    }
}

/// A row of `T` with all its coarser levels.
#[derive(Clone, Debug)]
pub struct Pyramid<T> {
    levels: Vec<Level<T>>,
}

#[derive(Clone, Debug)]
struct Level<T> {
    full: Vec<Arc<[T]>>,
    tail: Vec<T>,
}

impl<T> Default for Pyramid<T> {
    fn default() -> Self {
        Self { levels: Vec::new() }
    }
}

impl<T: Merge> Level<T> {
    const EMPTY: Self = Self {
        full: Vec::new(),
        tail: Vec::new(),
    };

    fn len(&self) -> usize {
        self.full.len() * BLOCK + self.tail.len()
    }

    fn get(&self, i: usize) -> Option<T> {
        match self.full.get(i / BLOCK) {
            Some(block) => block.get(i % BLOCK).copied(),
            None => self.tail.get(i - self.full.len() * BLOCK).copied(),
        }
    }

    fn push(&mut self, item: T) {
        self.tail.push(item);
        if self.tail.len() == BLOCK {
            self.full.push(self.tail.drain(..).collect());
        }
    }

    fn set(&mut self, i: usize, item: T) {
        let slot = match self.full.get_mut(i / BLOCK) {
            Some(block) => Arc::make_mut(block).get_mut(i % BLOCK),
            None => self.tail.get_mut(i % BLOCK),
        };
        if let Some(slot) = slot {
            *slot = item;
        }
    }

    /// The summary of the `FACTOR` items that make item `i` of the next level.
    fn group(&self, i: usize) -> Option<T> {
        (i * FACTOR..(i + 1) * FACTOR)
            .map(|i| self.get(i))
            .reduce(|a, b| Some(a?.merge(b?)))?
    }
}

impl<T: Merge> Pyramid<T> {
    /// Items at the finest level.
    pub fn len(&self) -> usize {
        self.levels.first().map_or(0, Level::len)
    }

    /// Whether nothing has been added.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends one item.
    pub fn push(&mut self, item: T) {
        let mut item = item;
        for level in 0.. {
            if level == self.levels.len() {
                self.levels.push(Level::EMPTY);
            }
            let this = &mut self.levels[level];
            this.push(item);
            if !this.len().is_multiple_of(FACTOR) {
                return;
            }
            match this.group(this.len() / FACTOR - 1) {
                Some(summary) => item = summary,
                None => return,
            }
        }
    }

    /// Replaces item `i`; nothing where there is none.
    pub fn set(&mut self, i: usize, item: T) {
        let (mut i, mut item) = (i, item);
        for level in 0..self.levels.len() {
            if i >= self.levels[level].len() {
                return;
            }
            self.levels[level].set(i, item);
            i /= FACTOR;
            match self.levels[level].group(i) {
                Some(summary) => item = summary,
                None => return,
            }
        }
    }

    /// The summary of the items of `range` that there are; `None` if there are none. Costs the
    /// logarithm of the range.
    pub fn over(&self, range: Range<usize>) -> Option<T> {
        let end = range.end.min(self.len());
        let mut at = range.start;
        let mut out: Option<T> = None;
        while at < end {
            // The coarsest item that starts here, fits, and is complete.
            let (mut level, mut size) = (0, 1);
            while at.is_multiple_of(size * FACTOR)
                && at + size * FACTOR <= end
                && (self.levels.get(level + 1)).is_some_and(|l| at / (size * FACTOR) < l.len())
            {
                level += 1;
                size *= FACTOR;
            }
            let item = self.levels[level].get(at / size)?;
            out = Some(out.map_or(item, |out| out.merge(item)));
            at += size;
        }
        out
    }
}

impl<T: Merge> FromIterator<T> for Pyramid<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut out = Self::default();
        items.into_iter().for_each(|item| out.push(item));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: usize) -> Vec<Peak> {
        // Any numbers will do: low and high of a walk that never repeats.
        (0..n)
            .map(|i| {
                let x = ((i * 7919) % 10_007) as f32 / 10_007.0;
                Peak {
                    low: -x,
                    high: x * x,
                }
            })
            .collect()
    }

    fn plain(row: &[Peak]) -> Option<Peak> {
        row.iter().copied().reduce(Merge::merge)
    }

    #[test]
    fn any_range_equals_the_plain_walk() {
        let row = row(9_001);
        let pyramid: Pyramid<Peak> = row.iter().copied().collect();
        assert_eq!(pyramid.len(), row.len());
        for (from, to) in [
            (0, 9_001),
            (0, 1),
            (3, 5),
            (1_000, 8_999),
            (4_096, 8_192),
            (9_000, 9_001),
        ] {
            assert_eq!(
                pyramid.over(from..to),
                plain(&row[from..to]),
                "{from}..{to}"
            );
        }
        for i in 0..500 {
            let (from, len) = ((i * 613) % 9_001, (i * 37) % 1_500);
            let to = (from + len).min(9_001);
            assert_eq!(
                pyramid.over(from..to),
                plain(&row[from..to]),
                "{from}..{to}"
            );
        }
        assert_eq!(pyramid.over(9_001..20_000), None);
        assert_eq!(pyramid.over(8_999..20_000), plain(&row[8_999..]));
    }

    #[test]
    fn a_replaced_item_shows_at_every_level_and_not_in_older_copies() {
        let mut row = row(5_000);
        let mut pyramid: Pyramid<Peak> = row.iter().copied().collect();
        let before = pyramid.clone();
        for i in [0, 17, 1_023, 1_024, 4_999] {
            row[i] = Peak {
                low: -9.0,
                high: i as f32,
            };
            pyramid.set(i, row[i]);
        }
        assert_eq!(pyramid.over(0..5_000), plain(&row));
        assert_eq!(pyramid.over(1_000..2_000), plain(&row[1_000..2_000]));
        assert!(before.over(0..5_000).unwrap().low > -2.0);
        // It goes on growing from there.
        pyramid.push(Peak {
            low: -10.0,
            high: 0.0,
        });
        assert_eq!(pyramid.over(0..5_001).unwrap().low, -10.0);
    }
}
