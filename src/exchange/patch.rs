// [any] What the worker hands back: patches, and the snapshot by which they reach the audio thread.

use std::sync::Arc;

use crate::{
    damage::Stem,
    exchange::{SamplePos, samples::StereoSamples, slot::Slot},
};

/// A repaired span of the timeline. Every buffer has the length of `take`.
#[derive(Clone, Debug)]
pub struct Patch {
    /// SHA-256 of the committed content, lower-case hex.
    pub id: String,
    /// Where the span starts.
    pub start: SamplePos,
    /// Rate of every buffer in Hz; equals the host's, or the patch is not played.
    pub sample_rate: u32,
    /// The raw input that was captured: what the incoming audio must match for the patch to play.
    pub take: StereoSamples,
    /// The offline-restored mix.
    pub base: StereoSamples,
    /// Per stem `regenerated − separated`; `None` where nothing was regenerated.
    pub layers: [Option<StereoSamples>; Stem::COUNT],
}

impl Patch {
    /// Holds audio together with `other`, which starts there too, wherever both are the same.
    pub fn share(&mut self, other: &Self) {
        let one = |own: &mut StereoSamples, theirs: &StereoSamples| {
            for (own, theirs) in own.iter_mut().zip(theirs) {
                own.share(0..own.len(), theirs, 0);
            }
        };
        one(&mut self.take, &other.take);
        one(&mut self.base, &other.base);
        for layers in self.layers.iter_mut().zip(&other.layers) {
            if let (Some(own), Some(theirs)) = layers {
                one(own, theirs);
            }
        }
    }

    /// Length in samples.
    pub fn len(&self) -> usize {
        self.base[0].len()
    }

    /// Whether the patch covers nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// First position after the span.
    pub fn end(&self) -> SamplePos {
        self.start.offset(self.len() as i64)
    }
}

/// All patches of one plugin instance: sorted by start, never overlapping.
#[derive(Clone, Debug, Default)]
pub struct PatchSet {
    patches: Vec<Arc<Patch>>,
}

impl PatchSet {
    /// Sorts `patches`; where two overlap, the one later in the list (the newer) stays and the older goes.
    pub fn new(patches: Vec<Arc<Patch>>) -> Self {
        let mut kept: Vec<Arc<Patch>> = Vec::with_capacity(patches.len());
        for patch in patches.into_iter().rev() {
            let free = kept
                .iter()
                .all(|k| patch.end() <= k.start || k.end() <= patch.start);
            if free && !patch.is_empty() {
                kept.push(patch);
            }
        }
        kept.sort_by_key(|p| p.start);
        Self { patches: kept }
    }

    /// Sorted, non-overlapping.
    pub fn patches(&self) -> &[Arc<Patch>] {
        &self.patches
    }

    /// Index of the patch that covers `pos`, by binary search.
    pub fn index_at(&self, pos: SamplePos) -> Option<usize> {
        let i = self
            .patches
            .partition_point(|p| p.start <= pos)
            .checked_sub(1)?;
        (pos < self.patches.get(i)?.end()).then_some(i)
    }
}

/// Room for sets that the audio thread has given back and nobody has collected yet.
const RETURN_CAPACITY: usize = 8;

/// The worker's end of the snapshot.
pub struct PatchPublisher {
    slot: Arc<Slot<PatchSet>>,
    returned: rtrb::Consumer<Box<PatchSet>>,
}

/// The audio thread's end of the snapshot.
pub struct PatchReader {
    slot: Arc<Slot<PatchSet>>,
    returned: rtrb::Producer<Box<PatchSet>>,
    current: Box<PatchSet>,
    next: Option<Box<PatchSet>>,
}

/// A snapshot that starts empty. Only the newest published set is ever seen; nothing is freed by the
/// reader: replaced sets travel back and are dropped by [`PatchPublisher::publish`] or
/// [`PatchPublisher::collect`].
pub fn patch_snapshot() -> (PatchPublisher, PatchReader) {
    let slot = Arc::new(Slot::empty());
    let (producer, consumer) = rtrb::RingBuffer::new(RETURN_CAPACITY);
    (
        PatchPublisher {
            slot: slot.clone(),
            returned: consumer,
        },
        PatchReader {
            slot,
            returned: producer,
            current: Box::default(),
            next: None,
        },
    )
}

impl PatchPublisher {
    /// Makes `set` the one the audio thread takes next; an unseen older one is dropped here.
    pub fn publish(&mut self, set: PatchSet) {
        drop(self.slot.swap(Box::new(set)));
        self.collect();
    }

    /// Drops what the audio thread gave back.
    pub fn collect(&mut self) {
        while self.returned.pop().is_ok() {}
    }
}

impl PatchReader {
    /// Whether a set newer than [`PatchReader::current`] has arrived. Wait-free; frees nothing.
    pub fn has_next(&mut self) -> bool {
        // Without room for the set that may be replaced, the new one stays in the slot.
        if !self.returned.is_full()
            && let Some(newest) = self.slot.take()
            && let Some(unseen) = self.next.replace(newest)
        {
            // Room was checked above and this is the only producer.
            let _ = self.returned.push(unseen);
        }
        self.next.is_some()
    }

    /// Makes the newest set the current one; the old one travels back. Returns whether it did: not if
    /// nothing new is here, or there is no room for the old one yet.
    pub fn advance(&mut self) -> bool {
        if self.returned.is_full() {
            return false;
        }
        let Some(next) = self.next.take() else {
            return false;
        };
        let old = std::mem::replace(&mut self.current, next);
        let _ = self.returned.push(old);
        true
    }

    /// The set in force.
    pub fn current(&self) -> &PatchSet {
        &self.current
    }
}
