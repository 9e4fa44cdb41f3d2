// [any] Long audio in blocks: held once where it is equal, in fewer bits where they suffice, not where it is silent.
//!
//! A take, what repairs it and what the user decides about that are mostly the same audio: both channels of a mono
//! recording, the take in the host's capture and in its patch, a layer that is silent outside what was rebuilt. Copies
//! share blocks; a block is copied when one of its holders writes into it. What memory has no room for lies in a
//! [`Depot`]: everyone but the audio thread reads it from there without noticing, the audio thread is given what it will
//! need ([`Samples::near`]).

mod depot;

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fmt, io,
    ops::Range,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

pub use self::depot::{Depot, faults, take_fault};
use self::depot::{Form, Page};

use crate::exchange::SamplePos;

/// Samples that are compared or added at a time.
const PIECE: usize = 256;

/// Samples of a block: 85 ms at 48 kHz. Longer ones share less, shorter ones cost more to find.
pub const BLOCK: usize = 4096;

/// Stereo samples, planar. Both channels have the same length. Mono material has two equal channels.
pub type StereoSamples = [Samples; 2];

/// Bytes of all blocks of this process.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// Memory that the samples of this process hold, in bytes: what is shared counts once.
pub fn held_bytes() -> usize {
    HELD.load(Ordering::Relaxed)
}

/// One channel of a stretch of the timeline.
#[derive(Clone, Default)]
pub struct Samples {
    /// Samples of the first block before the first one of this stretch. Blocks lie on the timeline: stretches that
    /// overlap can share them wherever they start.
    phase: usize,
    len: usize,
    /// Outside the stretch their samples are 0.
    blocks: Vec<Block>,
}

#[derive(Clone)]
enum Block {
    /// +0.0 throughout.
    Silent,
    /// Multiples of [`SHORT`], as files of 16 bits hold them.
    Short(Arc<Counted<[i16; BLOCK]>>),
    /// Multiples of [`LONG`], as files of 24 bits hold them: bytes from the lowest on.
    Long(Arc<Counted<[[u8; 3]; BLOCK]>>),
    Float(Arc<Counted<[f32; BLOCK]>>),
    /// In a depot.
    Away(Arc<Page>),
}

const SHORT: f32 = 1.0 / 32_768.0;
const LONG: f32 = 1.0 / 8_388_608.0;

/// `x / step` if that is a whole number of `bits` bits from which `x` comes back to the bit; `step` is a power of two.
fn whole(x: f32, step: f32, bits: u32) -> Option<i32> {
    let n = (x / step) as i32;
    let room = 1 << (bits - 1);
    ((-room..room).contains(&n) && (n as f32 * step).to_bits() == x.to_bits()).then_some(n)
}

fn short(n: i16) -> f32 {
    f32::from(n) * SHORT
}

fn long([a, b, c]: [u8; 3]) -> f32 {
    (i32::from_le_bytes([0, a, b, c]) >> 8) as f32 * LONG
}

/// A block's samples, counted in [`HELD`], and the page that has the same ones, if one has.
struct Counted<T>(T, OnceLock<Arc<Page>>);

impl<T> Counted<T> {
    fn new(samples: T) -> Self {
        HELD.fetch_add(size_of::<T>(), Ordering::Relaxed);
        Self(samples, OnceLock::new())
    }

    /// Its page, written now unless another holder has done so. `room`: bytes that may still be written.
    fn page(
        &self,
        form: Form,
        depot: &Arc<Depot>,
        room: &mut usize,
        bytes: impl FnOnce(&T) -> Vec<u8>,
    ) -> io::Result<Arc<Page>> {
        if let Some(page) = self.1.get() {
            return Ok(page.clone());
        }
        let page = Arc::new(depot.put(form, &bytes(&self.0))?);
        *room = room.saturating_sub(form.bytes());
        Ok(self.1.get_or_init(|| page).clone())
    }

    /// What was read from `page`.
    fn of(samples: T, page: &Arc<Page>) -> Arc<Self> {
        let counted = Self::new(samples);
        let _ = counted.1.set(page.clone());
        Arc::new(counted)
    }
}

/// A copy will be written into: it has no page.
impl<T: Clone> Clone for Counted<T> {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl<T> Drop for Counted<T> {
    fn drop(&mut self) {
        HELD.fetch_sub(size_of::<T>(), Ordering::Relaxed);
    }
}

/// 0.0 and -0.0 differ, a NaN is itself.
fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.iter()
        .map(|x| x.to_bits())
        .eq(b.iter().map(|x| x.to_bits()))
}

fn is_silent(samples: &[f32]) -> bool {
    samples.iter().all(|x| x.to_bits() == 0)
}

impl Block {
    /// 0 where it is away: reading a file is nothing for who calls this.
    #[inline]
    fn at(&self, i: usize) -> f32 {
        match self {
            Self::Silent | Self::Away(_) => 0.0,
            Self::Short(samples) => short(samples.0[i % BLOCK]),
            Self::Long(samples) => long(samples.0[i % BLOCK]),
            Self::Float(samples) => samples.0[i % BLOCK],
        }
    }

    /// Samples from `start` on; they are all in the block.
    fn read(&self, start: usize, out: &mut [f32]) {
        match self {
            Self::Silent => out.fill(0.0),
            Self::Short(samples) => {
                let samples = samples.0[start..].iter();
                out.iter_mut()
                    .zip(samples)
                    .for_each(|(x, n)| *x = short(*n));
            }
            Self::Long(samples) => {
                let samples = samples.0[start..].iter();
                out.iter_mut().zip(samples).for_each(|(x, n)| *x = long(*n));
            }
            Self::Float(samples) => out.copy_from_slice(&samples.0[start..start + out.len()]),
            Self::Away(page) => page.read(start, out),
        }
    }

    /// Leaves memory for `depot`; what is silent or away already stays. `room`: bytes that may still be written, less
    /// those that were.
    fn put_away(&mut self, depot: &Arc<Depot>, room: &mut usize) -> io::Result<bool> {
        let page = match self {
            Self::Silent | Self::Away(_) => return Ok(false),
            Self::Short(samples) => samples.page(Form::Short, depot, room, |s| {
                s.iter().flat_map(|n| n.to_ne_bytes()).collect()
            })?,
            Self::Long(samples) => {
                samples.page(Form::Long, depot, room, |s| s.as_flattened().to_vec())?
            }
            Self::Float(samples) => samples.page(Form::Float, depot, room, |s| {
                s.iter().flat_map(|x| x.to_ne_bytes()).collect()
            })?,
        };
        *self = Self::Away(page);
        Ok(true)
    }

    /// The same one in memory. Never a part of its callers, as [`Self::make_mut`].
    #[inline(never)]
    fn brought(page: &Arc<Page>) -> io::Result<Self> {
        let mut bytes = vec![0; page.form.bytes()];
        page.bytes(0, &mut bytes)?;
        Ok(match page.form {
            Form::Short => {
                let mut samples = [0; BLOCK];
                let all = samples.iter_mut().zip(bytes.as_chunks().0);
                all.for_each(|(n, bytes)| *n = i16::from_ne_bytes(*bytes));
                Self::Short(Counted::of(samples, page))
            }
            Form::Long => {
                let mut samples = [[0; 3]; BLOCK];
                samples.as_flattened_mut().copy_from_slice(&bytes);
                Self::Long(Counted::of(samples, page))
            }
            Form::Float => {
                let mut samples = [0.0; BLOCK];
                let all = samples.iter_mut().zip(bytes.as_chunks().0);
                all.for_each(|(x, bytes)| *x = f32::from_ne_bytes(*bytes));
                Self::Float(Counted::of(samples, page))
            }
        })
    }

    /// Its samples, this holder's own from now on. Never a part of its callers: a block is large for a small stack.
    #[inline(never)]
    fn make_mut(&mut self) -> &mut [f32; BLOCK] {
        if !matches!(self, Self::Float(_)) {
            let mut samples = [0.0; BLOCK];
            self.read(0, &mut samples);
            *self = Self::Float(Arc::new(Counted::new(samples)));
        }
        match self {
            Self::Float(samples) => {
                let Counted(samples, page) = Arc::make_mut(samples);
                // It will be another one.
                page.take();
                samples
            }
            _ => unreachable!("it has just been replaced"),
        }
    }

    /// Takes no more memory than its samples need.
    fn shrink(&mut self) {
        if let Self::Float(samples) = self
            && let Some(smaller) = Self::smaller(&samples.0)
        {
            *self = smaller;
        }
    }

    /// The same samples in less memory, if they fit. Never a part of its callers, as [`Self::make_mut`].
    #[inline(never)]
    fn smaller(samples: &[f32; BLOCK]) -> Option<Self> {
        if is_silent(samples) {
            Some(Self::Silent)
        } else if samples.iter().all(|x| whole(*x, SHORT, 16).is_some()) {
            let small = samples.map(|x| whole(x, SHORT, 16).unwrap_or_default() as i16);
            Some(Self::Short(Arc::new(Counted::new(small))))
        } else if samples.iter().all(|x| whole(*x, LONG, 24).is_some()) {
            let small = samples.map(|x| {
                let [a, b, c, _] = whole(x, LONG, 24).unwrap_or_default().to_le_bytes();
                [a, b, c]
            });
            Some(Self::Long(Arc::new(Counted::new(small))))
        } else {
            None
        }
    }

    fn is_shared_with(&self, other: &Self) -> bool {
        self.address() == other.address()
    }

    /// Never a part of its callers, as [`Self::make_mut`]. What lies in a depot is as small as it can be: silence and what
    /// has another form is not the same, without reading it.
    #[inline(never)]
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            _ if self.is_shared_with(other) => true,
            (Self::Silent, Self::Away(_)) | (Self::Away(_), Self::Silent) => false,
            (Self::Away(a), Self::Away(b)) if a.form != b.form => false,
            (Self::Float(a), Self::Float(b)) => same_bits(&a.0, &b.0),
            (Self::Short(a), Self::Short(b)) => a.0 == b.0,
            (Self::Long(a), Self::Long(b)) => a.0 == b.0,
            _ => {
                let [mut own, mut theirs] = [[0.0; BLOCK]; 2];
                self.read(0, &mut own);
                other.read(0, &mut theirs);
                same_bits(&own, &theirs)
            }
        }
    }

    /// Where it lies; `None` where it lies nowhere.
    fn address(&self) -> Option<*const u8> {
        match self {
            Self::Silent => None,
            Self::Short(samples) => Some(Arc::as_ptr(samples).cast()),
            Self::Long(samples) => Some(Arc::as_ptr(samples).cast()),
            Self::Float(samples) => Some(Arc::as_ptr(samples).cast()),
            Self::Away(page) => Some(Arc::as_ptr(page).cast()),
        }
    }

    /// In memory or in a depot.
    fn bytes(&self) -> usize {
        match self {
            Self::Silent => 0,
            Self::Away(page) => page.form.bytes(),
            Self::Short(_) => size_of::<[i16; BLOCK]>(),
            Self::Long(_) => size_of::<[[u8; 3]; BLOCK]>(),
            Self::Float(_) => size_of::<[f32; BLOCK]>(),
        }
    }
}

impl Samples {
    /// None yet, from `start` on.
    pub fn new(start: SamplePos) -> Self {
        Self {
            phase: start.0.rem_euclid(BLOCK as i64) as usize,
            ..Self::default()
        }
    }

    /// A copy of `samples`, but for blocks that one of `like`, which starts there too, has already.
    pub fn of(start: SamplePos, samples: &[f32], like: &[&Self]) -> Self {
        let mut out = Self::new(start);
        out.extend(samples, like);
        out.finish(like);
        out
    }

    /// Silence of the same stretch.
    #[must_use]
    pub fn silenced(&self) -> Self {
        Self {
            blocks: vec![Block::Silent; self.blocks.len()],
            ..*self
        }
    }

    /// How many samples.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sample `n`; 0 outside and where it lies in a depot. Costs the same everywhere: the audio thread's way in.
    #[inline]
    pub fn at(&self, n: usize) -> f32 {
        if n >= self.len {
            return 0.0;
        }
        let i = self.phase + n;
        self.blocks.get(i / BLOCK).map_or(0.0, |block| block.at(i))
    }

    /// Samples from `start` on; 0 after the end.
    pub fn read(&self, start: usize, out: &mut [f32]) {
        let within = out.len().min(self.len.saturating_sub(start));
        let (within, after) = out.split_at_mut(within);
        after.fill(0.0);
        let mut done = 0;
        while done < within.len() {
            let i = self.phase + start + done;
            let count = (BLOCK - i % BLOCK).min(within.len() - done);
            self.blocks[i / BLOCK].read(i % BLOCK, &mut within[done..done + count]);
            done += count;
        }
    }

    /// A copy of the samples of `range`.
    pub fn slice(&self, range: Range<usize>) -> Vec<f32> {
        let mut out = vec![0.0; range.len()];
        self.read(range.start, &mut out);
        out
    }

    /// A copy of all samples.
    pub fn to_vec(&self) -> Vec<f32> {
        self.slice(0..self.len)
    }

    /// Appends samples. Full blocks that one of `like`, which starts there too, has already are shared with it.
    pub fn extend(&mut self, mut more: &[f32], like: &[&Self]) {
        while !more.is_empty() {
            let i = self.phase + self.len;
            let (index, from) = (i / BLOCK, i % BLOCK);
            if index == self.blocks.len() {
                self.blocks.push(Block::Silent);
            }
            let (now, later) = more.split_at(more.len().min(BLOCK - from));
            let block = &mut self.blocks[index];
            if !(is_silent(now) && matches!(block, Block::Silent)) {
                block.make_mut()[from..from + now.len()].copy_from_slice(now);
            }
            self.len += now.len();
            if from + now.len() == BLOCK {
                self.settle(index, like);
            }
            more = later;
        }
    }

    /// Nothing more is appended for now: the last block is looked for in `like` too.
    pub fn finish(&mut self, like: &[&Self]) {
        if let Some(last) = self.blocks.len().checked_sub(1) {
            self.settle(last, like);
        }
    }

    /// Puts `new` in the place of what is there from `start` on, which reaches that far.
    ///
    /// # Panics
    /// If it does not.
    pub fn write(&mut self, start: usize, new: &[f32]) {
        assert!(start + new.len() <= self.len, "written past the end");
        let mut done = 0;
        while done < new.len() {
            let i = self.phase + start + done;
            let (index, from) = (i / BLOCK, i % BLOCK);
            let now = &new[done..done + (BLOCK - from).min(new.len() - done)];
            if self.differ(start + done, now) {
                self.blocks[index].make_mut()[from..from + now.len()].copy_from_slice(now);
                self.settle(index, &[]);
            }
            done += now.len();
        }
    }

    /// Whether any of `others` is not what is there from `start` on.
    pub fn differ(&self, start: usize, others: &[f32]) -> bool {
        let mut own = [0.0; PIECE];
        others.chunks(PIECE).enumerate().any(|(piece, others)| {
            let own = &mut own[..others.len()];
            self.read(start + PIECE * piece, own);
            !same_bits(own, others)
        })
    }

    /// Puts `count` samples of silence before the first.
    pub fn prepend_silence(&mut self, count: usize) {
        let blocks = count.saturating_sub(self.phase).div_ceil(BLOCK);
        (self.blocks).splice(0..0, std::iter::repeat_n(Block::Silent, blocks));
        self.phase = self.phase + blocks * BLOCK - count;
        self.len += count;
    }

    /// Holds the blocks of `range` together with `other` wherever they are equal. Sample `n` lies where `other`'s sample
    /// `n + offset` does.
    pub fn share(&mut self, range: Range<usize>, other: &Self, offset: i64) {
        let shift = (other.phase as i64 + offset) - self.phase as i64;
        if shift % BLOCK as i64 != 0 {
            return;
        }
        let shift = shift / BLOCK as i64;
        let end = (self.phase + range.end.min(self.len)).div_ceil(BLOCK);
        for index in (self.phase + range.start) / BLOCK..end {
            let own = &mut self.blocks[index];
            let theirs = usize::try_from(index as i64 + shift).ok();
            if let Some(theirs) = theirs.and_then(|index| other.blocks.get(index))
                && !own.is_shared_with(theirs)
                && own.same(theirs)
            {
                *own = theirs.clone();
            }
        }
    }

    /// Whether all samples are, bit for bit, those of `other` from `offset` on.
    pub fn lies_in(&self, other: &Self, offset: usize) -> bool {
        let Some(room) = other.len.checked_sub(offset) else {
            return false;
        };
        let aligned = (other.phase + offset) % BLOCK == self.phase;
        let shift = (other.phase + offset) / BLOCK;
        let same = |(index, own): (usize, &Block)| {
            if aligned && (other.blocks.get(index + shift)).is_some_and(|o| own.is_shared_with(o)) {
                return true;
            }
            let first = (index * BLOCK).saturating_sub(self.phase);
            let end = ((index + 1) * BLOCK - self.phase).min(self.len);
            let mut theirs = [0.0; PIECE];
            (first..end).step_by(PIECE).all(|n| {
                let theirs = &mut theirs[..PIECE.min(end - n)];
                other.read(n + offset, theirs);
                !self.differ(n, theirs)
            })
        };
        self.len <= room && self.blocks.iter().enumerate().all(same)
    }

    /// Puts the blocks that reach into none of `keep` (samples of this stretch) in `depot`; those of another holder stay in
    /// memory until it does the same. Ends before `room`, the bytes that may be written, is negative. Returns whether any
    /// went.
    ///
    /// # Errors
    /// If the disk refuses; what was put away until then is there.
    pub fn put_away(
        &mut self,
        keep: &[Range<i64>],
        depot: &Arc<Depot>,
        room: &mut usize,
    ) -> io::Result<bool> {
        let mut any = false;
        let phase = self.phase;
        for (index, block) in self.blocks.iter_mut().enumerate() {
            if *room < size_of::<[f32; BLOCK]>() {
                break;
            }
            if !touches(keep, phase, index) {
                any |= block.put_away(depot, room)?;
            }
        }
        Ok(any)
    }

    /// What of it reaches into any of `spans` (samples of this stretch), in memory; silence elsewhere. `brought` has what
    /// others were read for already.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn near(&self, spans: &[Range<i64>], brought: &mut Brought) -> io::Result<Self> {
        let mut out = self.silenced();
        for (index, block) in self.blocks.iter().enumerate() {
            if touches(spans, self.phase, index) {
                out.blocks[index] = match block {
                    Block::Away(page) => brought.block(page)?,
                    here => here.clone(),
                };
            }
        }
        Ok(out)
    }

    /// Whether [`Samples::put_away`] has anything to do.
    pub fn has_to_put_away(&self, keep: &[Range<i64>]) -> bool {
        let mut blocks = self.blocks.iter().enumerate();
        blocks.any(|(index, block)| {
            !matches!(block, Block::Silent | Block::Away(_)) && !touches(keep, self.phase, index)
        })
    }

    /// Bytes of the blocks that are not in `seen`, where they are noted, wherever they lie.
    pub fn bytes(&self, seen: &mut HashSet<*const u8>) -> usize {
        let new = |block: &&Block| block.address().is_some_and(|at| seen.insert(at));
        self.blocks.iter().filter(new).map(Block::bytes).sum()
    }

    /// Makes a block as small as it can be: one of `like` may have it.
    fn settle(&mut self, index: usize, like: &[&Self]) {
        let own = &mut self.blocks[index];
        own.shrink();
        let theirs = (like.iter().filter(|other| other.phase == self.phase))
            .filter_map(|other| other.blocks.get(index));
        for theirs in theirs {
            if own.same(theirs) {
                *own = theirs.clone();
                return;
            }
        }
    }
}

/// Whether a block of a stretch reaches into any of `ranges` (samples of the stretch).
fn touches(ranges: &[Range<i64>], phase: usize, index: usize) -> bool {
    let first = (index * BLOCK) as i64 - phase as i64;
    ranges
        .iter()
        .any(|r| r.start < first + BLOCK as i64 && first < r.end)
}

/// Blocks that were read back: once for all who hold them together. While it lives, so do they.
#[derive(Default)]
pub struct Brought(HashMap<*const Page, Block>);

impl Brought {
    fn block(&mut self, page: &Arc<Page>) -> io::Result<Block> {
        Ok(match self.0.entry(Arc::as_ptr(page)) {
            Entry::Occupied(entry) => entry.get().clone(),
            // The block holds its page, so that the address stays its own.
            Entry::Vacant(entry) => entry.insert(Block::brought(page)?).clone(),
        })
    }
}

/// Reads `base` with `layers`, which start there too, added to it; see [`Samples::read`].
pub fn read_sum<'a>(
    base: &Samples,
    layers: impl Iterator<Item = &'a Samples>,
    start: usize,
    out: &mut [f32],
) {
    base.read(start, out);
    let mut piece = [0.0; PIECE];
    for layer in layers {
        for (i, out) in out.chunks_mut(PIECE).enumerate() {
            let more = &mut piece[..out.len()];
            layer.read(start + PIECE * i, more);
            out.iter_mut().zip(more).for_each(|(x, y)| *x += *y);
        }
    }
}

/// Both channels of what starts at `start`, sharing with each other and with every one of `like`, which start there too.
pub fn stereo(start: SamplePos, channels: [&[f32]; 2], like: &[&StereoSamples]) -> StereoSamples {
    let others = || like.iter().flat_map(|samples| samples.iter());
    let left = Samples::of(start, channels[0], &others().collect::<Vec<_>>());
    let near: Vec<&Samples> = std::iter::once(&left).chain(others()).collect();
    let right = Samples::of(start, channels[1], &near);
    [left, right]
}

/// Bit for bit: 0.0 and -0.0 differ, a NaN is itself.
impl PartialEq for Samples {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.lies_in(other, 0)
    }
}

impl PartialEq<[f32]> for Samples {
    fn eq(&self, other: &[f32]) -> bool {
        self.len == other.len() && !self.differ(0, other)
    }
}

impl PartialEq<Vec<f32>> for Samples {
    fn eq(&self, other: &Vec<f32>) -> bool {
        *self == **other
    }
}

impl fmt::Debug for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = self.slice(0..self.len.min(8));
        write!(f, "{} samples: {head:?} …", self.len)
    }
}
