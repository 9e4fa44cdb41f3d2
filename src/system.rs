// [any] What is asked of the system in several rooms: whole files, and where this code was loaded from.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

pub mod hash;
mod memory;

pub use memory::{is_running, memory_bytes};

/// The extension of a file that is being written.
const ASIDE_EXTENSION: &str = "aside";

/// A file aside that nobody has written to for so long was left by a process that died.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// Whether `path`, last written at `modified`, was left aside by a process that died.
pub fn is_abandoned(path: &Path, modified: SystemTime) -> bool {
    path.extension().is_some_and(|e| e == ASIDE_EXTENSION)
        && modified.elapsed().is_ok_and(|age| age > ABANDONED_AFTER)
}

/// A hidden name of its own beside `path`, for a file that is not whole yet.
pub fn aside(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos());
    // Process, counter and time: unique among threads, processes, and machines on one share.
    path.with_file_name(format!(
        ".{}-{}-{nanos}.{ASIDE_EXTENSION}",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed),
    ))
}

/// A file [`aside`] that is being written: readers see what was there, the new one or nothing, never half of one. It
/// is removed unless it is [put](Self::put).
pub struct Aside {
    path: PathBuf,
    file: fs::File,
}

impl Aside {
    /// A new one beside `path`.
    ///
    /// # Errors
    /// If the folder is missing or the disk refuses.
    pub fn beside(path: &Path) -> io::Result<Self> {
        let path = aside(path);
        let file = fs::File::create_new(&path)?;
        Ok(Self { path, file })
    }

    /// Renames it to `path`, which is in the same folder. `durable` waits until the disk has it.
    ///
    /// # Errors
    /// If the disk refuses; then what was there stays.
    pub fn put(self, path: &Path, durable: bool) -> io::Result<()> {
        if durable {
            self.file.sync_all()?;
        }
        replace(&self.path, path)?;
        if durable {
            // The rename itself is on disk once its folder is; folders can't be opened on every system.
            let dir = match path.parent() {
                Some(dir) if dir != Path::new("") => dir,
                _ => Path::new("."),
            };
            if let Ok(folder) = fs::File::open(dir) {
                let _ = folder.sync_all();
            }
        }
        Ok(())
    }
}

/// Renames a file, over another one if it is there.
///
/// # Errors
/// If the system refuses.
#[cfg(not(windows))]
pub fn replace(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

/// Renames a file, over another one if it is there. Where a file system or share knows no replacing of open files, who has
/// opened it is waited for: nobody here does so for long.
///
/// # Errors
/// If the system refuses, or it stays open for half a second.
#[cfg(windows)]
pub fn replace(from: &Path, to: &Path) -> io::Result<()> {
    const TRIES: u32 = 50;
    const PAUSE: Duration = Duration::from_millis(10);
    for _ in 1..TRIES {
        match fs::rename(from, to) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied && to.is_file() => {
                std::thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
    fs::rename(from, to)
}

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // After it was put nothing has this name.
        let _ = fs::remove_file(&self.path);
    }
}

/// Writes `parts` [`Aside`], then renames it to `path`. `durable` waits until the disk has it.
///
/// # Errors
/// If the folder is missing or the disk refuses; then nothing is left behind and what was there stays.
pub fn write_aside(path: &Path, parts: &[&[u8]], durable: bool) -> io::Result<()> {
    let mut file = Aside::beside(path)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.put(path, durable)
}

/// The name under which the system has loaded this very code: the plugin's library, or a program.
#[cfg(unix)]
fn own_name() -> Option<&'static std::ffi::CStr> {
    let place = own_name as fn() -> Option<&'static std::ffi::CStr> as *const libc::c_void;
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: `info` is written where the answer isn't 0; its name lives as long as the library is loaded, and with it
    // this code.
    unsafe {
        if libc::dladdr(place, info.as_mut_ptr()) == 0 {
            return None;
        }
        let name = info.assume_init().dli_fname;
        (!name.is_null()).then(|| std::ffi::CStr::from_ptr(name))
    }
}

/// The file that holds this very code: the plugin's library inside its bundle, or a program.
#[cfg(unix)]
pub fn own_file() -> Option<PathBuf> {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    fs::canonicalize(OsStr::from_bytes(own_name()?.to_bytes())).ok()
}

/// This library is never unloaded from now on: for threads that nobody waits for. Does nothing in a program.
#[cfg(unix)]
pub fn stay_loaded() {
    if let Some(name) = own_name() {
        let flags = libc::RTLD_NOW | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
        // SAFETY: a C string; what is loaded already runs no code of its own again.
        unsafe { libc::dlopen(name.as_ptr(), flags) };
    }
}

/// What the system calls this very code: the plugin's library, or a program. `more`: what else is asked for.
#[cfg(windows)]
fn own_module(more: u32) -> Option<windows_sys::Win32::Foundation::HMODULE> {
    use windows_sys::Win32::System::LibraryLoader::{
        GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, GetModuleHandleExW,
    };
    let mut module = std::ptr::null_mut();
    let here = own_module as fn(u32) -> Option<_> as *const u16;
    // SAFETY: with this flag the second argument is any address inside the module.
    let found = unsafe {
        GetModuleHandleExW(
            GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | more,
            here,
            &mut module,
        )
    };
    (found != 0).then_some(module)
}

/// As above.
#[cfg(windows)]
pub fn own_file() -> Option<PathBuf> {
    use std::{ffi::OsString, os::windows::ffi::OsStringExt};
    use windows_sys::Win32::System::LibraryLoader::{
        GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT, GetModuleFileNameW,
    };
    let module = own_module(GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT)?;
    // No path is longer.
    let mut name = vec![0; 1 << 15];
    // SAFETY: this code runs, so its module is loaded; as much room as is said.
    let len = unsafe { GetModuleFileNameW(module, name.as_mut_ptr(), name.len() as u32) } as usize;
    (0 < len && len < name.len()).then(|| OsString::from_wide(&name[..len]).into())
}

/// As above.
#[cfg(windows)]
pub fn stay_loaded() {
    use windows_sys::Win32::System::LibraryLoader::GET_MODULE_HANDLE_EX_FLAG_PIN;
    let _ = own_module(GET_MODULE_HANDLE_EX_FLAG_PIN);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_read_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_aside(&path, &[b"old"], false).unwrap();
        let reader = fs::File::open(&path).unwrap();
        let reads = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            drop(reader);
        });
        write_aside(&path, &[b"new ", b"one"], true).unwrap();
        reads.join().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new one");
        // Nothing is left aside, and what can't be written says so.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write_aside(&folder.path().join("missing/b"), &[b""], false).is_err());
    }
}
