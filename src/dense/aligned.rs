// [worker] Floats that begin on a cache line.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

/// Floats that somebody else holds and that never change: in a mapped file, say. Every call gives the same slice.
pub type Lent = Arc<dyn AsRef<[f32]> + Send + Sync>;

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([f32; 16]);

/// A fixed number of floats, zero at first, aligned to 64 bytes.
#[derive(Clone)]
pub struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

impl Aligned {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        Self {
            lines: vec![Line([0.0; 16]); len.div_ceil(16)],
            len,
        }
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `Line` is 16 floats without padding, `lines` holds at least `len` of them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl AsRef<[f32]> for Aligned {
    fn as_ref(&self) -> &[f32] {
        self
    }
}

/// Floats of our own, shared by clones until one is written to, or somebody else's.
#[derive(Clone)]
pub enum Floats {
    Own(Arc<Aligned>),
    Lent(Lent),
}

impl Floats {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        Self::Own(Arc::new(Aligned::zeroed(len)))
    }

    /// The same floats for others to hold; nothing is copied.
    pub fn lend(&self) -> Lent {
        match self {
            Self::Own(own) => own.clone(),
            Self::Lent(lent) => lent.clone(),
        }
    }

    /// To be written to: what others hold too is copied first.
    pub fn own(&mut self) -> &mut [f32] {
        if let Self::Lent(lent) = self {
            let mut own = Aligned::zeroed((**lent).as_ref().len());
            own.copy_from_slice((**lent).as_ref());
            *self = Self::Own(Arc::new(own));
        }
        match self {
            Self::Own(own) => &mut *Arc::make_mut(own),
            Self::Lent(_) => unreachable!("copied above"),
        }
    }
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Own(own) => own,
            Self::Lent(lent) => (**lent).as_ref(),
        }
    }
}

/// A buffer that grows and is never shrunk.
pub struct Buffer(Aligned);

impl Default for Buffer {
    fn default() -> Self {
        Self(Aligned::zeroed(0))
    }
}

impl Buffer {
    /// `len` floats of any value.
    pub fn get(&mut self, len: usize) -> &mut [f32] {
        if self.0.len() < len {
            self.0 = Aligned::zeroed(len);
        }
        &mut self.0[..len]
    }
}
