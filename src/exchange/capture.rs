// [any] The capture ring: raw input with its song position, from the audio thread to the worker.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::exchange::SamplePos;

/// Frames in a [`CaptureChunk`].
pub const CHUNK_FRAMES: usize = 64;

/// Up to [`CHUNK_FRAMES`] contiguous stereo frames of raw input.
#[derive(Clone, Copy)]
pub struct CaptureChunk {
    /// Position of the first frame.
    pub pos: SamplePos,
    /// Rate of the samples in Hz.
    pub sample_rate: u32,
    /// Valid frames, 1..=[`CHUNK_FRAMES`]; 0 marks the end of a captured span (the transport stopped).
    pub len: u16,
    /// Planar samples; only the first `len` of each channel are valid. Mono input fills both.
    pub samples: [[f32; CHUNK_FRAMES]; 2],
}

impl CaptureChunk {
    const EMPTY: Self = Self {
        pos: SamplePos(0),
        sample_rate: 0,
        len: 0,
        samples: [[0.0; CHUNK_FRAMES]; 2],
    };
}

/// The audio thread's end.
pub struct CaptureTap {
    ring: rtrb::Producer<CaptureChunk>,
    pending: CaptureChunk,
    overruns: Arc<AtomicU64>,
}

/// The worker's end.
pub struct CaptureReader {
    ring: rtrb::Consumer<CaptureChunk>,
    overruns: Arc<AtomicU64>,
}

/// A ring that holds at least `frames` frames of full chunks.
pub fn capture_ring(frames: usize) -> (CaptureTap, CaptureReader) {
    let (producer, consumer) = rtrb::RingBuffer::new(frames.div_ceil(CHUNK_FRAMES).max(1));
    let overruns = Arc::new(AtomicU64::new(0));
    (
        CaptureTap {
            ring: producer,
            pending: CaptureChunk::EMPTY,
            overruns: overruns.clone(),
        },
        CaptureReader {
            ring: consumer,
            overruns,
        },
    )
}

impl CaptureTap {
    /// The rate of what is pushed from now on, in Hz.
    pub fn set_sample_rate(&mut self, sample_rate: u32) {
        self.flush();
        self.pending.sample_rate = sample_rate;
    }

    /// Appends one stereo frame at `pos`. A position that does not follow the last one starts a new
    /// chunk. A full ring drops the chunk and counts its frames as overrun: never waits.
    pub fn push(&mut self, pos: SamplePos, left: f32, right: f32) {
        let p = &self.pending;
        if p.len > 0 && (p.len as usize == CHUNK_FRAMES || pos != p.pos.offset(p.len as i64)) {
            self.flush();
        }
        let p = &mut self.pending;
        if p.len == 0 {
            p.pos = pos;
        }
        let i = p.len as usize;
        p.samples[0][i] = left;
        p.samples[1][i] = right;
        p.len += 1;
    }

    /// Capture ends here for now: hands over what is pending, then an end mark.
    pub fn stop(&mut self) {
        self.flush();
        // A full ring loses the mark: the reader then notices by the silence.
        let _ = self.ring.push(self.pending);
    }

    /// Hands over a partly filled chunk.
    fn flush(&mut self) {
        if self.pending.len == 0 {
            return;
        }
        if self.ring.push(self.pending).is_err() {
            self.overruns
                .fetch_add(self.pending.len as u64, Ordering::Relaxed);
        }
        self.pending.len = 0;
    }
}

impl CaptureReader {
    /// The next chunk, oldest first.
    pub fn pop(&mut self) -> Option<CaptureChunk> {
        self.ring.pop().ok()
    }

    /// Whether nothing waits to be popped.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Frames lost so far because the worker did not keep up.
    pub fn overruns(&self) -> u64 {
        self.overruns.load(Ordering::Relaxed)
    }

    /// Whether the audio side is gone.
    pub fn is_abandoned(&self) -> bool {
        self.ring.is_abandoned()
    }
}
