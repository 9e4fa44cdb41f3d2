//! What `rtrb` promises, on loom's atomics: its algorithm and orderings, nothing else.

use std::cell::Cell;

use loom::{
    cell::UnsafeCell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

thread_local! {
    static ROOM: Cell<usize> = const { Cell::new(usize::MAX) };
    // Loom's threads all run on one.
    static REFUSED: Cell<usize> = const { Cell::new(0) };
}

/// Rings made from now on hold at most `room` items: loom can't run as many steps as it takes to fill the real ones.
pub fn limit_rings(room: usize) {
    ROOM.set(room);
}

/// Pushes that a full ring has refused so far.
pub fn refused() -> usize {
    REFUSED.get()
}

/// What a full ring gives back.
pub struct PushError<T>(pub T);

pub struct PopError;

struct Ring<T> {
    slots: Vec<UnsafeCell<Option<T>>>,
    /// Items taken, and items put in, ever.
    head: AtomicUsize,
    tail: AtomicUsize,
}

// SAFETY: a slot is the producer's from `tail` to `head + slots`, else the consumer's; loom checks it.
unsafe impl<T: Send> Send for Ring<T> {}
unsafe impl<T: Send> Sync for Ring<T> {}

/// One producer, one consumer, as in rtrb.
pub struct RingBuffer;

impl RingBuffer {
    #[expect(clippy::new_ret_no_self, reason = "as in rtrb")]
    pub fn new<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
        let room = capacity.min(ROOM.get());
        let ring = Arc::new(Ring {
            slots: (0..room).map(|_| UnsafeCell::new(None)).collect(),
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
        });
        let producer = Producer {
            ring: ring.clone(),
            tail: 0,
        };
        (producer, Consumer { ring, head: 0 })
    }
}

pub struct Producer<T> {
    ring: Arc<Ring<T>>,
    /// The ring's, which nobody else writes. It isn't read there: a load just before the store would hide from loom
    /// (0.7) that the other thread's load and the store may change places.
    tail: usize,
}

impl<T> Producer<T> {
    pub fn is_full(&self) -> bool {
        self.tail - self.ring.head.load(Ordering::Acquire) == self.ring.slots.len()
    }

    pub fn push(&mut self, item: T) -> Result<(), PushError<T>> {
        if self.is_full() {
            REFUSED.set(REFUSED.get() + 1);
            return Err(PushError(item));
        }
        let slot = &self.ring.slots[self.tail % self.ring.slots.len()];
        // SAFETY: the consumer has left it.
        slot.with_mut(|slot| unsafe { *slot = Some(item) });
        self.tail += 1;
        self.ring.tail.store(self.tail, Ordering::Release);
        Ok(())
    }
}

pub struct Consumer<T> {
    ring: Arc<Ring<T>>,
    /// The ring's, as above.
    head: usize,
}

impl<T> Consumer<T> {
    pub fn is_empty(&self) -> bool {
        self.ring.tail.load(Ordering::Acquire) == self.head
    }

    pub fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.ring) < 2
    }

    pub fn pop(&mut self) -> Result<T, PopError> {
        if self.is_empty() {
            return Err(PopError);
        }
        let slot = &self.ring.slots[self.head % self.ring.slots.len()];
        // SAFETY: the producer has left it.
        let item = slot.with_mut(|slot| unsafe { (*slot).take() });
        self.head += 1;
        self.ring.head.store(self.head, Ordering::Release);
        item.ok_or(PopError)
    }
}
