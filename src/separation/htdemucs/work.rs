// [worker] What a pass of the network works with: threads, the cancel switch, scratch, padded planes.

use crate::dense::{
    aligned::{Aligned, Buffer},
    pool::{PerWorker, Pool},
};

use super::ModelError;

/// Zero positions before and after what a plane holds: the padding of every convolution.
pub const PAD: usize = 2;

/// Threads and the cancel switch of a pass.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub pool: &'a Pool,
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
    pub scratch: &'a PerWorker<Scratch>,
}

impl Context<'_> {
    /// Runs numbered tasks on all threads. Looks at the cancel switch before each.
    ///
    /// # Errors
    /// [`ModelError::Cancelled`].
    pub fn run(
        &self,
        count: usize,
        task: impl Fn(usize, &mut Scratch) + Sync,
    ) -> Result<(), ModelError> {
        self.pool.run(count, |index, worker| {
            if !(self.cancelled)() {
                task(index, &mut self.scratch.get(worker));
            }
        });
        if (self.cancelled)() {
            return Err(ModelError::Cancelled);
        }
        Ok(())
    }
}

/// Buffers of one thread, grown to what was needed most.
#[derive(Default)]
pub struct Scratch {
    pub a: Buffer,
    pub b: Buffer,
    pub c: Buffer,
    pub d: Buffer,
    /// Of products by blocks.
    pub blocks: Buffer,
}

/// `[rows][frames][channels]` with [`PAD`] zero rows and zero frames on every side.
pub struct Plane {
    data: Aligned,
    pub rows: usize,
    pub frames: usize,
    pub channels: usize,
}

impl Plane {
    pub fn new(rows: usize, frames: usize, channels: usize) -> Self {
        Self {
            data: Aligned::zeroed((rows + 2 * PAD) * (frames + 2 * PAD) * channels),
            rows,
            frames,
            channels,
        }
    }

    /// The same memory with another shape that it can hold; what the frame of zeros covers is cleared.
    pub fn reshape(&mut self, rows: usize, frames: usize, channels: usize) {
        (self.rows, self.frames, self.channels) = (rows, frames, channels);
        let line = self.line();
        let edge = PAD * channels;
        let used = (rows + 2 * PAD) * line;
        for (r, row) in self.data[..used].chunks_exact_mut(line).enumerate() {
            if r < PAD || r >= rows + PAD {
                row.fill(0.0);
            } else {
                row[..edge].fill(0.0);
                row[line - edge..].fill(0.0);
            }
        }
    }

    /// Floats from a row to the next.
    pub fn line(&self) -> usize {
        (self.frames + 2 * PAD) * self.channels
    }

    /// All rows, those of the padding too.
    pub fn data(&self) -> &[f32] {
        &self.data[..(self.rows + 2 * PAD) * self.line()]
    }

    pub fn data_mut(&mut self) -> &mut [f32] {
        let used = (self.rows + 2 * PAD) * self.line();
        &mut self.data[..used]
    }

    /// Row `row`'s frames without their padding.
    pub fn row(&self, row: usize) -> &[f32] {
        let line = self.line();
        &self.data[(row + PAD) * line + PAD * self.channels..][..self.frames * self.channels]
    }
}

/// `[positions][channels]` with [`PAD`] zero positions before, and zeros behind up to a multiple of the
/// stride, so that a strided convolution may read whole windows.
pub struct Line {
    data: Aligned,
    pub len: usize,
    pub channels: usize,
}

impl Line {
    pub fn new(len: usize, channels: usize) -> Self {
        Self {
            data: Aligned::zeroed(Self::padded(len) * channels),
            len,
            channels,
        }
    }

    /// Positions with their padding: four for every output of a convolution of stride 4, and four more.
    pub const fn padded(len: usize) -> usize {
        4 * len.div_ceil(4) + 4
    }

    /// The same memory with another shape that it can hold, and clear padding.
    pub fn reshape(&mut self, len: usize, channels: usize) {
        (self.len, self.channels) = (len, channels);
        self.clear_padding();
    }

    /// Sets the padding to zero.
    pub fn clear_padding(&mut self) {
        let (len, channels) = (self.len, self.channels);
        self.data_mut()[..PAD * channels].fill(0.0);
        self.data_mut()[(PAD + len) * channels..].fill(0.0);
    }

    /// All positions, those of the padding too.
    pub fn data(&self) -> &[f32] {
        &self.data[..Self::padded(self.len) * self.channels]
    }

    pub fn data_mut(&mut self) -> &mut [f32] {
        let used = Self::padded(self.len) * self.channels;
        &mut self.data[..used]
    }

    /// The positions without padding.
    pub fn inner(&self) -> &[f32] {
        &self.data[PAD * self.channels..(PAD + self.len) * self.channels]
    }

    pub fn inner_mut(&mut self) -> &mut [f32] {
        let (from, to) = (PAD * self.channels, (PAD + self.len) * self.channels);
        &mut self.data[from..to]
    }
}
