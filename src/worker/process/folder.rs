// [worker] The folder through which audio goes between a host and the worker process: one a job, one file a
// buffer.
//!
//! Samples lie in a file as they lie in memory, one channel after the other. The worker process maps what it
//! hears. The host reads instead of mapping: a disk that fails under a map ends the process, and that
//! process would be somebody's session.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, BufWriter, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{audio::AudioBuffer, worker::process::system};

/// Sizes of the buffers of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Hz.
    pub sample_rate: u32,
    pub channels: usize,
    pub frames: usize,
}

/// A job's folder; the host makes it and removes it.
pub struct JobFolder(PathBuf);

impl JobFolder {
    /// A new one in `parent`, for this user only. What hosts that are gone left there is removed.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn new(parent: &Path) -> io::Result<Self> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        fs::create_dir_all(parent)?;
        sweep(parent);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{}-{number}", std::process::id()));
        // An earlier process of this number may have left one.
        let _ = fs::remove_dir_all(&path);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for JobFolder {
    fn drop(&mut self) {
        // A worker that was given up may still write into it: then the next sweep takes the rest.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes the folders of processes that are gone.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|n| n.split_once('-')?.0.parse().ok());
        if owner.is_some_and(|pid| !system::is_alive(pid)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Writes a buffer as file `name`: aside, then renamed, so that nobody meets half of it.
///
/// # Errors
/// If the disk refuses.
pub fn write(folder: &Path, name: &str, audio: &AudioBuffer) -> io::Result<()> {
    let aside = folder.join(format!("{name}.aside"));
    let mut file = BufWriter::with_capacity(1 << 16, File::create(&aside)?);
    for x in audio.channels.iter().flatten() {
        file.write_all(&x.to_ne_bytes())?;
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?;
    fs::rename(aside, folder.join(name))
}

/// Reads a buffer that was written by [`write()`].
///
/// # Errors
/// If the file can't be read, or its length is not what `shape` says.
pub fn read(folder: &Path, name: &str, shape: Shape) -> io::Result<AudioBuffer> {
    let mut file = File::open(folder.join(name))?;
    check_len(&file, shape)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    parse(&bytes, shape)
}

/// As [`read`], through a map: for a process that may end.
///
/// # Errors
/// As [`read`].
pub fn read_mapped(folder: &Path, name: &str, shape: Shape) -> io::Result<AudioBuffer> {
    let file = File::open(folder.join(name))?;
    check_len(&file, shape)?;
    if shape.frames == 0 {
        return parse(&[], shape);
    }
    // SAFETY: the host writes aside and renames; should it cut the file off all the same, only this process
    // ends, and bytes that change are samples, whatever they are.
    parse(&unsafe { memmap2::Mmap::map(&file) }?, shape)
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

fn parse(bytes: &[u8], shape: Shape) -> io::Result<AudioBuffer> {
    if bytes.len() != 4 * shape.channels * shape.frames {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut samples = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_ne_bytes(*b));
    let channels = (0..shape.channels)
        .map(|_| samples.by_ref().take(shape.frames).collect())
        .collect();
    Ok(AudioBuffer::new(channels, shape.sample_rate))
}
