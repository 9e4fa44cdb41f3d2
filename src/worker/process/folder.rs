// [worker] Audio that goes between a host and the worker process, one file a buffer (`worker::scratch`).
//!
//! The worker process maps what it hears. The host reads instead of mapping: a disk that fails under a map ends
//! the process, and that process would be somebody's session.

use std::{fs::File, io, ops::Range, path::Path};

use crate::{audio::AudioBuffer, worker::scratch::SampleFile};

/// Sizes of the buffers of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Hz.
    pub sample_rate: u32,
    pub channels: usize,
    pub frames: usize,
}

/// Reads a buffer that was written by [`write()`](crate::worker::scratch::write()).
///
/// # Errors
/// If the file can't be read, or its length is not what `shape` says.
pub fn read(folder: &Path, name: &str, shape: Shape) -> io::Result<AudioBuffer> {
    let samples = (shape.frames as u64).saturating_mul(shape.channels as u64);
    let mut file = SampleFile::open(&folder.join(name), samples, 0)?;
    let mut out = AudioBuffer::silence(shape.channels, shape.frames, shape.sample_rate);
    (out.channels.iter_mut()).try_for_each(|channel| file.read(channel))?;
    Ok(out)
}

/// As [`read`], frames `range` of it and through a map: for a process that may end.
///
/// # Errors
/// As [`read`].
///
/// # Panics
/// If the range reaches past the end.
pub fn read_mapped(
    folder: &Path,
    name: &str,
    shape: Shape,
    range: Range<usize>,
) -> io::Result<AudioBuffer> {
    assert!(range.end <= shape.frames, "{range:?} of {shape:?}");
    let file = File::open(folder.join(name))?;
    check_len(&file, shape)?;
    if range.is_empty() {
        return Ok(AudioBuffer::silence(shape.channels, 0, shape.sample_rate));
    }
    // SAFETY: the host writes aside and renames; should it cut the file off all the same, only this process
    // ends, and bytes that change are samples, whatever they are.
    let map = unsafe { memmap2::Mmap::map(&file) }?;
    let samples = map.as_chunks::<4>().0;
    let channel = |c: usize| {
        let from = c * shape.frames;
        let samples = samples.get(from + range.start..from + range.end);
        let samples = samples.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(samples.iter().map(|b| f32::from_ne_bytes(*b)).collect())
    };
    let channels = (0..shape.channels)
        .map(channel)
        .collect::<io::Result<_>>()?;
    Ok(AudioBuffer::new(channels, shape.sample_rate))
}

fn check_len(file: &File, shape: Shape) -> io::Result<()> {
    let bytes = (shape.frames as u64)
        .checked_mul(4 * shape.channels as u64)
        .ok_or(io::ErrorKind::InvalidData)?;
    let actual = file.metadata()?.len();
    if actual != bytes {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{actual} bytes of audio, {bytes} expected"),
        ));
    }
    Ok(())
}
