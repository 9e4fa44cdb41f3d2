// [worker] Where blocks lie that memory has no room for: a private file that goes with its last holder.

use std::{
    fs::File,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{BLOCK, long, short};

/// Pages that could not be read back since the process began.
static FAULTS: AtomicU64 = AtomicU64::new(0);
/// What the last of them said.
static LAST_FAULT: Mutex<Option<String>> = Mutex::new(None);

/// How many blocks of this process could not be read back from their [`Depot`] so far; in their place silence was read.
/// Whoever makes something of samples that must be right compares this before and after.
pub fn faults() -> u64 {
    FAULTS.load(Ordering::Acquire)
}

/// Why a block could not be read back, once.
pub fn take_fault() -> Option<String> {
    lock(&LAST_FAULT).take()
}

/// What is behind the locks of this file is right after every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file that takes blocks. It becomes as long as the most that lay there at one time.
pub struct Depot {
    file: File,
    places: Mutex<Places>,
}

/// Free places by form, and where the file ends.
#[derive(Default)]
struct Places {
    end: u64,
    free: [Vec<u64>; 3],
}

/// How the samples of a page are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Short,
    Long,
    Float,
}

impl Form {
    pub(super) fn bytes(self) -> usize {
        BLOCK * self.sample_bytes()
    }

    fn sample_bytes(self) -> usize {
        match self {
            Self::Short => size_of::<i16>(),
            Self::Long => size_of::<[u8; 3]>(),
            Self::Float => size_of::<f32>(),
        }
    }
}

/// The samples of one block in a depot; its place is free again when the last holder goes.
pub(super) struct Page {
    depot: Arc<Depot>,
    at: u64,
    pub(super) form: Form,
}

impl Depot {
    /// In `file`, which is empty and which nobody else opens.
    pub fn new(file: File) -> Arc<Self> {
        Arc::new(Self {
            file,
            places: Mutex::default(),
        })
    }

    /// Writes a block: `bytes` has [`Form::bytes`].
    ///
    /// # Errors
    /// If the disk refuses; then the place stays free.
    pub(super) fn put(self: &Arc<Self>, form: Form, bytes: &[u8]) -> io::Result<Page> {
        let at = {
            let mut places = lock(&self.places);
            places.free[form as usize].pop().unwrap_or_else(|| {
                let at = places.end;
                places.end += form.bytes() as u64;
                at
            })
        };
        let page = Page {
            depot: self.clone(),
            at,
            form,
        };
        write_all_at(&self.file, bytes, at)?;
        Ok(page)
    }
}

impl Page {
    /// Its bytes from sample `start` on.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(super) fn bytes(&self, start: usize, out: &mut [u8]) -> io::Result<()> {
        let at = self.at + (start * self.form.sample_bytes()) as u64;
        read_exact_at(&self.depot.file, out, at)
    }

    /// Its samples from `start` on; where the disk refuses, silence, counted in [`faults`].
    pub(super) fn read(&self, start: usize, out: &mut [f32]) {
        const PIECE: usize = 1_024;
        let mut bytes = [0; 4 * PIECE];
        for (piece, out) in out.chunks_mut(PIECE).enumerate() {
            let bytes = &mut bytes[..out.len() * self.form.sample_bytes()];
            if let Err(error) = self.bytes(start + PIECE * piece, bytes) {
                out.fill(0.0);
                fault(&error);
                continue;
            }
            match self.form {
                Form::Short => (out.iter_mut().zip(bytes.as_chunks().0))
                    .for_each(|(x, n)| *x = short(i16::from_ne_bytes(*n))),
                Form::Long => {
                    (out.iter_mut().zip(bytes.as_chunks().0)).for_each(|(x, n)| *x = long(*n));
                }
                Form::Float => (out.iter_mut().zip(bytes.as_chunks().0))
                    .for_each(|(x, n)| *x = f32::from_ne_bytes(*n)),
            }
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        lock(&self.depot.places).free[self.form as usize].push(self.at);
    }
}

fn fault(error: &io::Error) {
    *lock(&LAST_FAULT) = Some(format!(
        "Audio that was put aside on the disk can't be read back ({error}): check the disk, then open the project again"
    ));
    FAULTS.fetch_add(1, Ordering::Release);
}

/// Fills `out` from byte `at` of a file on, whatever else is read from it meanwhile.
fn read_exact_at(file: &File, out: &mut [u8], at: u64) -> io::Result<()> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::read_exact_at(file, out, at)
    }
    #[cfg(windows)]
    {
        let mut done = 0;
        while done < out.len() {
            let rest = &mut out[done..];
            match std::os::windows::fs::FileExt::seek_read(file, rest, at + done as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => done += count,
            }
        }
        Ok(())
    }
}

/// Writes `bytes` at byte `at` of a file.
fn write_all_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
    }
    #[cfg(windows)]
    {
        let mut done = 0;
        while done < bytes.len() {
            let rest = &bytes[done..];
            match std::os::windows::fs::FileExt::seek_write(file, rest, at + done as u64)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => done += count,
            }
        }
        Ok(())
    }
}
