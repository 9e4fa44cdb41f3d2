// [any] What the worker hands back: patches, and the snapshot by which they reach the audio thread.

use std::{
    io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use crate::{
    damage::Stem,
    exchange::{
        SamplePos,
        meters::Meters,
        samples::{Brought, Depot, StereoSamples},
        slot::Slot,
    },
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

    /// Take, base and layers.
    pub fn buffers(&self) -> impl Iterator<Item = &StereoSamples> {
        [&self.take, &self.base]
            .into_iter()
            .chain(self.layers.iter().flatten())
    }

    fn buffers_mut(&mut self) -> impl Iterator<Item = &mut StereoSamples> {
        [&mut self.take, &mut self.base]
            .into_iter()
            .chain(self.layers.iter_mut().flatten())
    }

    /// Whether [`Patch::put_away`] has anything to do.
    pub fn has_to_put_away(&self, keep: &[Range<i64>]) -> bool {
        let keep = within(keep, self.start);
        let mut samples = self.buffers().flatten();
        samples.any(|samples| samples.has_to_put_away(&keep))
    }

    /// Puts what reaches into none of the spans `keep` of the timeline into `depot`, and writes `room` bytes at most.
    /// Returns whether any went.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn put_away(
        &mut self,
        keep: &[Range<i64>],
        depot: &Arc<Depot>,
        room: &mut usize,
    ) -> io::Result<bool> {
        let keep = within(keep, self.start);
        let mut any = false;
        for samples in self.buffers_mut().flatten() {
            any |= samples.put_away(&keep, depot, room)?;
        }
        Ok(any)
    }

    /// The same patch, in memory where it reaches into the spans `near` of the timeline and silent elsewhere.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn near(&self, near: &[Range<i64>], brought: &mut Brought) -> io::Result<Self> {
        let near = within(near, self.start);
        let mut one = |samples: &StereoSamples| -> io::Result<StereoSamples> {
            let [left, right] = samples;
            Ok([left.near(&near, brought)?, right.near(&near, brought)?])
        };
        let (take, base) = (one(&self.take)?, one(&self.base)?);
        let mut layers = [const { None }; Stem::COUNT];
        for (near, layer) in layers.iter_mut().zip(&self.layers) {
            *near = layer.as_ref().map(&mut one).transpose()?;
        }
        Ok(Self {
            id: self.id.clone(),
            take,
            base,
            layers,
            ..*self
        })
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

/// Spans of the timeline as samples of what starts at `start`.
pub fn within(spans: &[Range<i64>], start: SamplePos) -> Vec<Range<i64>> {
    let index = |pos: i64| SamplePos(pos).since(start);
    spans
        .iter()
        .map(|span| index(span.start)..index(span.end))
        .collect()
}

/// All patches of one plugin instance: sorted by start, never overlapping.
#[derive(Clone, Debug, Default)]
pub struct PatchSet {
    patches: Vec<Arc<Patch>>,
    /// Where all of them are in memory, if not everywhere. Few.
    near: Option<Vec<Range<i64>>>,
    /// Sets with the same number have the same audio.
    content: u64,
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
        Self {
            patches: kept,
            near: None,
            content: 0,
        }
    }

    /// [`PatchSet::new`] of what the patches are near the spans `near` of the timeline, where alone it will play.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn near(patches: &[Arc<Patch>], near: &[Range<i64>]) -> io::Result<Self> {
        let mut brought = Brought::default();
        let one = |patch: &Arc<Patch>| patch.near(near, &mut brought).map(Arc::new);
        let patches = patches.iter().map(one).collect::<io::Result<_>>()?;
        Ok(Self {
            near: Some(near.to_vec()),
            ..Self::new(patches)
        })
    }

    /// Whether what plays from `start` to `end` is in memory.
    pub fn is_here_throughout(&self, start: SamplePos, end: SamplePos) -> bool {
        (self.near.as_ref()).is_none_or(|near| {
            near.iter()
                .any(|span| span.start <= start.0 && end.0 <= span.end)
        })
    }

    /// Whether what plays there is in memory.
    #[inline]
    pub fn is_here(&self, pos: i64) -> bool {
        match &self.near {
            None => true,
            Some(near) => near.iter().any(|span| span.contains(&pos)),
        }
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
    /// Of the newest set.
    content: u64,
    looked: Arc<AtomicI64>,
}

/// The audio thread's end of the snapshot.
pub struct PatchReader {
    slot: Arc<Slot<PatchSet>>,
    returned: rtrb::Producer<Box<PatchSet>>,
    current: Box<PatchSet>,
    next: Option<Box<PatchSet>>,
    /// Where the reader was last.
    looked: Arc<AtomicI64>,
}

/// A snapshot that starts empty. Only the newest published set is ever seen; nothing is freed by the
/// reader: replaced sets travel back and are dropped by [`PatchPublisher::publish`] or
/// [`PatchPublisher::collect`].
pub fn patch_snapshot() -> (PatchPublisher, PatchReader) {
    let slot = Arc::new(Slot::empty());
    let (producer, consumer) = rtrb::RingBuffer::new(RETURN_CAPACITY);
    let looked = Arc::new(AtomicI64::new(Meters::NO_POSITION));
    (
        PatchPublisher {
            slot: slot.clone(),
            returned: consumer,
            content: 0,
            looked: looked.clone(),
        },
        PatchReader {
            slot,
            returned: producer,
            current: Box::default(),
            next: None,
            looked,
        },
    )
}

impl PatchPublisher {
    /// Makes `set` the one the audio thread takes next; an unseen older one is dropped here.
    pub fn publish(&mut self, set: PatchSet) {
        self.content += 1;
        self.renew(set);
    }

    /// The same for a set with the audio of the last one, of which other parts are in memory.
    pub fn renew(&mut self, set: PatchSet) {
        drop(self.slot.swap(Box::new(PatchSet {
            content: self.content,
            ..set
        })));
        self.collect();
    }

    /// Where the reader [looked](PatchReader::look) last.
    pub fn looked(&self) -> Option<SamplePos> {
        let pos = self.looked.load(Ordering::Relaxed);
        (pos != Meters::NO_POSITION).then_some(SamplePos(pos))
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

    /// Whether the newest set has the audio of the current one, though other parts of it in memory.
    pub fn is_renewed(&self) -> bool {
        (self.next.as_ref()).is_some_and(|next| next.content == self.current.content)
    }

    /// Tells the other end where this one is: what plays near there will be in memory.
    #[inline]
    pub fn look(&self, pos: SamplePos) {
        self.looked.store(pos.0, Ordering::Relaxed);
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
