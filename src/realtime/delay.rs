// [audio] A fixed delay.

/// Delays a stream of samples by a fixed number of samples; starts filled with `T::default()`.
#[derive(Clone, Debug)]
pub struct Delay<T> {
    ring: Vec<T>,
    next: usize,
}

impl<T: Copy + Default> Delay<T> {
    /// A delay of `samples` (0 passes through).
    pub fn new(samples: usize) -> Self {
        Self {
            ring: vec![T::default(); samples],
            next: 0,
        }
    }

    /// The delay in samples.
    pub fn samples(&self) -> usize {
        self.ring.len()
    }

    /// Takes the newest sample and returns the one from `samples()` ago.
    #[inline]
    pub fn push(&mut self, value: T) -> T {
        let Some(slot) = self.ring.get_mut(self.next) else {
            return value;
        };
        let delayed = std::mem::replace(slot, value);
        self.next += 1;
        if self.next == self.ring.len() {
            self.next = 0;
        }
        delayed
    }

    /// Delays a block in place.
    pub fn process(&mut self, block: &mut [T]) {
        for x in block {
            *x = self.push(*x);
        }
    }

    /// Back to the start.
    pub fn reset(&mut self) {
        self.fill(T::default());
    }

    /// Back to the start, filled with `value`.
    pub fn fill(&mut self, value: T) {
        self.ring.fill(value);
        self.next = 0;
    }
}
