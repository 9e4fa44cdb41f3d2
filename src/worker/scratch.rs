// [worker] Folders for audio that is too long for memory: one a job, removed with whoever holds it.
//!
//! Samples lie in a file as they lie in memory, one channel after the other.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    audio::AudioBuffer,
    damage::Stem,
    exchange::{
        SamplePos,
        samples::{BLOCK, Samples, StereoSamples},
    },
    system::is_running,
};

/// Bytes that are read or written at a time.
const BUFFER_BYTES: usize = 1 << 16;

/// A folder of this process; it is removed when it is dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new one in `parent` (created if missing), for this user only. What processes that are gone left there is
    /// removed.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn new(parent: &Path) -> io::Result<Self> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        fs::create_dir_all(parent)?;
        sweep(parent);
        let builder = private();
        loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{}-{number}", std::process::id()));
            match builder.create(&path) {
                Ok(()) => return Ok(Self(path)),
                // Another copy of this library in the process counts too, and an earlier process had this number.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Somebody who was given up may still write into it: then the next sweep takes the rest.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes folders for this user only.
#[cfg(unix)]
fn private() -> DirBuilder {
    let mut builder = DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// A user's folders are the user's own here.
#[cfg(not(unix))]
fn private() -> DirBuilder {
    DirBuilder::new()
}

/// Removes the folders of processes that are gone.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|n| n.split_once('-')?.0.parse().ok());
        if owner.is_some_and(|pid| !is_running(pid)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Writes a buffer as file `name`: aside, then renamed, so that nobody meets half of it.
///
/// # Errors
/// If the disk refuses.
pub fn write(folder: &Path, name: &str, audio: &AudioBuffer) -> io::Result<()> {
    let mut file = PlanarFile::create(folder, name, audio.channels.len(), audio.frames())?;
    file.put(0, audio)?;
    file.finish()
}

/// As [`write()`], block by block.
///
/// # Errors
/// As [`write()`].
pub fn write_samples(folder: &Path, name: &str, channels: &[Samples]) -> io::Result<()> {
    let frames = channels.first().map_or(0, Samples::len);
    let mut file = PlanarFile::create(folder, name, channels.len(), frames)?;
    let mut block = [0.0; BLOCK];
    for (c, channel) in channels.iter().enumerate() {
        for start in (0..frames).step_by(BLOCK) {
            let block = &mut block[..BLOCK.min(frames - start)];
            channel.read(start, block);
            file.put_channel(c, start, block)?;
        }
    }
    file.finish()
}

/// A buffer's file, written piece by piece: what never comes is silent. It gets its name when it is finished, so that
/// nobody meets half of it.
pub struct PlanarFile {
    file: File,
    path: PathBuf,
    channels: usize,
    frames: usize,
}

impl PlanarFile {
    /// File `name` in `folder`, of `channels` with `frames` samples each.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn create(folder: &Path, name: &str, channels: usize, frames: usize) -> io::Result<Self> {
        let path = folder.join(name);
        let file = File::create(aside(&path))?;
        file.set_len(4 * channels as u64 * frames as u64)?;
        Ok(Self {
            file,
            path,
            channels,
            frames,
        })
    }

    /// Puts audio there from sample `at` on.
    ///
    /// # Errors
    /// If the disk refuses, or the audio doesn't fit in.
    pub fn put(&mut self, at: usize, audio: &AudioBuffer) -> io::Result<()> {
        if audio.channels.len() != self.channels || at + audio.frames() > self.frames {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut channels = audio.channels.iter().enumerate();
        channels.try_for_each(|(c, channel)| self.put_channel(c, at, channel))
    }

    fn put_channel(&mut self, channel: usize, at: usize, samples: &[f32]) -> io::Result<()> {
        let first = 4 * (channel * self.frames + at) as u64;
        self.file.seek(SeekFrom::Start(first))?;
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, &self.file);
        (samples.iter()).try_for_each(|x| file.write_all(&x.to_ne_bytes()))?;
        file.flush()
    }

    /// All has come.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn finish(self) -> io::Result<()> {
        fs::rename(aside(&self.path), &self.path)
    }
}

fn aside(path: &Path) -> PathBuf {
    path.with_added_extension("aside")
}

/// Reads samples of a file one after the other.
pub struct SampleFile(BufReader<File>);

impl SampleFile {
    /// From sample `first` of the file on.
    ///
    /// # Errors
    /// If it can't be opened, or does not hold `samples` samples.
    pub fn open(path: &Path, samples: u64, first: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let (actual, expected) = (file.metadata()?.len(), samples.checked_mul(4));
        if expected != Some(actual) {
            let words = format!("{actual} bytes of audio, {samples} samples expected");
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        file.seek(SeekFrom::Start(4 * first))?;
        Ok(Self(BufReader::with_capacity(BUFFER_BYTES, file)))
    }

    /// The next samples.
    ///
    /// # Errors
    /// If the disk refuses, or the file was cut off meanwhile.
    pub fn read(&mut self, out: &mut [f32]) -> io::Result<()> {
        let mut bytes = [0; 4 * 1024];
        for out in out.chunks_mut(1024) {
            let bytes = &mut bytes[..4 * out.len()];
            self.0.read_exact(bytes)?;
            for (x, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *x = f32::from_ne_bytes(*bytes);
            }
        }
        Ok(())
    }
}

/// Reads what [`write()`] wrote of `channels` (1 or 2) with `frames` samples each, sharing blocks as
/// [`samples::stereo`](crate::exchange::samples::stereo) does: never a whole channel at a time.
///
/// # Errors
/// As [`SampleFile`].
pub fn read_stereo(
    path: &Path,
    channels: usize,
    frames: usize,
    start: SamplePos,
    like: &[&StereoSamples],
) -> io::Result<StereoSamples> {
    let mut file = SampleFile::open(path, channels as u64 * frames as u64, 0)?;
    let mut channel = |like: &[&Samples]| {
        let mut out = Samples::new(start);
        let mut block = [0.0; BLOCK];
        while out.len() < frames {
            let block = &mut block[..BLOCK.min(frames - out.len())];
            file.read(block)?;
            out.extend(block, like);
        }
        out.finish(like);
        io::Result::Ok(out)
    };
    let others: Vec<&Samples> = like.iter().flat_map(|samples| samples.iter()).collect();
    let left = channel(&others)?;
    let right = if channels < 2 {
        left.clone()
    } else {
        channel(&[&[&left], &others[..]].concat())?
    };
    Ok([left, right])
}

/// Bytes of all stems that this process keeps on disk.
static KEPT: AtomicU64 = AtomicU64::new(0);

/// Bytes on disk of the stems that this process keeps for listening.
pub fn kept_bytes() -> u64 {
    KEPT.load(Ordering::Relaxed)
}

/// The separated stems of a take, for listening to them alone: on disk, read while a patch is made of them.
pub struct KeptStems {
    folder: Scratch,
    channels: usize,
    frames: usize,
}

/// The name of a stem's file.
pub fn stem_file(stem: Stem) -> String {
    format!("stem-{}", stem as usize)
}

impl KeptStems {
    /// Bytes that the stems of such a take have.
    pub fn bytes_of(channels: usize, frames: usize) -> u64 {
        (4 * Stem::COUNT as u64).saturating_mul(channels as u64 * frames as u64)
    }

    /// Those that lie in `folder`, of a take of `frames` in 1 or 2 `channels`.
    ///
    /// # Errors
    /// If one is missing or has another length.
    pub fn lying_in(folder: Scratch, channels: usize, frames: usize) -> io::Result<Self> {
        KEPT.fetch_add(Self::bytes_of(channels, frames), Ordering::Relaxed);
        let kept = Self {
            folder,
            channels,
            frames,
        };
        Stem::ALL
            .into_iter()
            .try_for_each(|stem| kept.open(stem, 0).map(drop))?;
        Ok(kept)
    }

    /// A channel (0 or 1; mono has the same twice) of a stem, from its start.
    ///
    /// # Errors
    /// If the file is gone or was changed.
    pub fn open(&self, stem: Stem, channel: usize) -> io::Result<SampleFile> {
        let samples = (self.channels * self.frames) as u64;
        let first = channel.min(self.channels.saturating_sub(1)) * self.frames;
        let path = self.folder.path().join(stem_file(stem));
        SampleFile::open(&path, samples, first as u64)
    }
}

/// [`KeptStems`] that come piece by piece.
pub struct StemFiles {
    folder: Scratch,
    files: Vec<PlanarFile>,
    channels: usize,
    frames: usize,
}

impl StemFiles {
    /// In a new folder in `parent`, of a take of `frames` in 1 or 2 `channels`.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn create(parent: &Path, channels: usize, frames: usize) -> io::Result<Self> {
        let folder = Scratch::new(parent)?;
        let create = |stem| PlanarFile::create(folder.path(), &stem_file(stem), channels, frames);
        Ok(Self {
            files: Stem::ALL
                .into_iter()
                .map(create)
                .collect::<io::Result<_>>()?,
            folder,
            channels,
            frames,
        })
    }

    /// As [`PlanarFile::put`].
    ///
    /// # Errors
    /// As the same.
    pub fn put(&mut self, stem: Stem, at: usize, audio: &AudioBuffer) -> io::Result<()> {
        self.files[stem as usize].put(at, audio)
    }

    /// All has come.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn finish(self) -> io::Result<KeptStems> {
        self.files.into_iter().try_for_each(PlanarFile::finish)?;
        KeptStems::lying_in(self.folder, self.channels, self.frames)
    }
}

impl Drop for KeptStems {
    fn drop(&mut self) {
        KEPT.fetch_sub(
            Self::bytes_of(self.channels, self.frames),
            Ordering::Relaxed,
        );
    }
}

#[cfg(test)]
impl KeptStems {
    /// Of whole stems.
    pub fn of(parent: &Path, stems: &[AudioBuffer; Stem::COUNT]) -> Self {
        let (channels, frames) = (stems[0].channels.len(), stems[0].frames());
        let mut files = StemFiles::create(parent, channels, frames).unwrap();
        for (stem, audio) in Stem::ALL.into_iter().zip(stems) {
            files.put(stem, 0, audio).unwrap();
        }
        files.finish().unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::samples;

    #[test]
    fn what_is_read_in_pieces_is_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let frames = 3 * BLOCK + 77;
        let ramp = |gain: f32| {
            (0..frames)
                .map(|n| gain * (n as f32 * 0.37).sin())
                .collect()
        };
        for channels in [vec![ramp(0.5)], vec![ramp(0.5), ramp(-0.25)]] {
            let audio = AudioBuffer::new(channels, 48_000);
            let start = SamplePos(1_000);
            let right = audio.channels.last().unwrap();
            let expected = samples::stereo(start, [&audio.channels[0], right], &[]);
            write(folder.path(), "a", &audio).unwrap();
            let path = folder.path().join("a");
            let read = read_stereo(&path, audio.channels.len(), frames, start, &[]).unwrap();
            assert!(read == expected);
            // Block by block it is the same file.
            write_samples(folder.path(), "b", &expected[..audio.channels.len()]).unwrap();
            assert_eq!(
                fs::read(&path).unwrap(),
                fs::read(folder.path().join("b")).unwrap()
            );
            assert!(read_stereo(&path, audio.channels.len(), frames - 1, start, &[]).is_err());
        }
    }

    #[test]
    fn kept_stems_are_counted_and_go_with_their_holder() {
        let parent = tempfile::tempdir().unwrap();
        let before = kept_bytes();
        let mut files = StemFiles::create(parent.path(), 2, 500).unwrap();
        for (stem, gain) in Stem::ALL.into_iter().zip([0.1, 0.2, 0.3, 0.4]) {
            for (at, frames) in [(0, 300), (300, 200)] {
                let channels = vec![vec![gain; frames], vec![-gain; frames]];
                let audio = AudioBuffer::new(channels, 48_000);
                // Past the end lies another channel.
                assert!(files.put(stem, 301, &audio).is_err());
                files.put(stem, at, &audio).unwrap();
            }
        }
        let kept = files.finish().unwrap();
        assert_eq!(kept_bytes() - before, 4 * 4 * 2 * 500);
        let mut right = [0.0; 500];
        kept.open(Stem::Vocals, 1)
            .unwrap()
            .read(&mut right)
            .unwrap();
        assert_eq!(right, [-0.4; 500]);
        // A file that was cut off is an error, not silence.
        let path = kept.folder.path().join(stem_file(Stem::Drums));
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(100)
            .unwrap();
        assert!(kept.open(Stem::Drums, 0).is_err());
        drop(kept);
        assert_eq!(kept_bytes(), before);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn folders_of_processes_that_are_gone_are_removed_and_those_of_others_stay() {
        let parent = tempfile::tempdir().unwrap();
        let mut ended = std::process::Command::new(std::env::current_exe().unwrap())
            .arg("--list")
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let gone = parent.path().join(format!("{}-0", ended.id()));
        ended.wait().unwrap();
        let own = parent.path().join(format!("{}-0", std::process::id()));
        fs::create_dir(&gone).unwrap();
        fs::create_dir(&own).unwrap();
        let first = Scratch::new(parent.path()).unwrap();
        assert!(!gone.exists());
        // Of this process, but another holder's.
        assert!(own.exists() && first.path() != own);
        let second = Scratch::new(parent.path()).unwrap();
        assert_ne!(first.path(), second.path());
    }
}
