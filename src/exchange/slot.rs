// [any] A place for one box that threads hand each other: an atomic pointer, swapped.

use std::{marker::PhantomData, ptr};

// `proofs` runs this file in every order of its steps.
#[cfg(loom)]
use loom::sync::atomic::{AtomicPtr, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicPtr, Ordering};

/// Holds one box or none. Every method is wait-free, and frees nothing.
pub struct Slot<T> {
    /// From [`Box::into_raw`], or null.
    held: AtomicPtr<T>,
    owns: PhantomData<Box<T>>,
}

impl<T: Send> Slot<T> {
    /// Holds nothing.
    pub fn empty() -> Self {
        Self {
            held: AtomicPtr::new(ptr::null_mut()),
            owns: PhantomData,
        }
    }

    /// Puts `new` there and takes what was.
    pub fn swap(&self, new: Box<T>) -> Option<Box<T>> {
        self.exchange(Box::into_raw(new))
    }

    /// Takes what is there.
    pub fn take(&self) -> Option<Box<T>> {
        self.exchange(ptr::null_mut())
    }
}

impl<T> Slot<T> {
    fn exchange(&self, new: *mut T) -> Option<Box<T>> {
        // Acquire: the box's content is seen as its giver left it; release: so is ours.
        let old = self.held.swap(new, Ordering::AcqRel);
        // SAFETY: it came from `Box::into_raw`, and only this swap has got it.
        (!old.is_null()).then(|| unsafe { Box::from_raw(old) })
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        drop(self.exchange(ptr::null_mut()));
    }
}
