// [worker] The worker process under Unix: a socket, owners and modes of folders, signals, resource limits.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::{
            fs::{DirBuilderExt, MetadataExt, PermissionsExt},
            net::{UnixListener, UnixStream},
            process::{CommandExt, ExitStatusExt},
        },
    },
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use super::Violence;

/// What is said between a host and the worker.
pub type Stream = UnixStream;
/// Where the worker waits for hosts.
pub type Listener = UnixListener;

/// Listens at `socket`, which only this user can open. What was left there is removed: the caller knows that nobody
/// listens any more.
///
/// # Errors
/// If the system refuses.
pub fn listen(socket: &Path) -> io::Result<Listener> {
    let _ = fs::remove_file(socket);
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Who comes within `limit`.
pub fn accept(listener: &Listener, limit: Duration) -> Option<Stream> {
    let comes = readable(listener, limit);
    comes.then(|| listener.accept().ok()).flatten().map(|c| c.0)
}

/// Where the user's worker listens, if nothing else is said.
pub fn default_folder() -> PathBuf {
    std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|folder| folder.is_dir())
        .map_or_else(
            || std::env::temp_dir().join(format!("uncook-{}", user())),
            |folder| folder.join("uncook"),
        )
}

/// Whether `folder` is a folder, no link, and this user's.
pub fn is_own_folder(folder: &Path) -> bool {
    fs::symlink_metadata(folder).is_ok_and(|meta| meta.is_dir() && meta.uid() == user())
}

/// What tells the file at `path` from another one in its place.
pub fn version_of(path: &Path) -> Option<(u64, u64, i64, i64)> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec()))
}

/// What ends the group of this process leaves the process that `command` starts alive.
pub fn apart(command: &mut Command) {
    command.process_group(0);
}

/// How a process ended, unless by itself.
pub fn violent_end(status: ExitStatus) -> Option<Violence> {
    let signal = status.signal()?;
    if signal == libc::SIGKILL {
        return Some(Violence::killed());
    }
    Some(Violence {
        how: format!("crashed (signal {signal})"),
        crashed: matches!(
            signal,
            libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGABRT | libc::SIGFPE
        ),
    })
}

/// The user of this process.
fn user() -> u32 {
    // SAFETY: takes nothing, always succeeds.
    unsafe { libc::geteuid() }
}

/// Creates `folder` if it is missing, and makes sure that nobody but its owner can enter it, and that the
/// owner is this user.
///
/// # Errors
/// In plain words.
pub fn private_folder(folder: &Path) -> Result<(), String> {
    let name = folder.display();
    match DirBuilder::new().mode(0o700).recursive(true).create(folder) {
        Ok(()) => {}
        Err(error) => return Err(format!("the folder {name} can't be made: {error}")),
    }
    // A link could lead anywhere by the time it is followed.
    let meta = fs::symlink_metadata(folder).map_err(|e| format!("{name}: {e}"))?;
    if !meta.is_dir() || meta.uid() != user() {
        return Err(format!(
            "the folder {name} belongs to somebody else; remove it or have it removed"
        ));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(format!(
            "the folder {name} is open to other users; close it with `chmod 700 {name}`"
        ));
    }
    Ok(())
}

/// The process at the other end of a socket, where its user is this one. `None`: the system doesn't tell
/// the process.
///
/// # Errors
/// If it is somebody else's, or the system doesn't say whose it is.
pub fn peer(stream: &Stream) -> Result<Option<u32>, String> {
    let (uid, pid) = credentials(stream).map_err(|e| format!("who is there is unknown: {e}"))?;
    if uid != user() {
        return Err(format!("user {uid} is at the other end"));
    }
    Ok(pid.and_then(|pid| pid.try_into().ok()))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn credentials(stream: &UnixStream) -> io::Result<(u32, Option<libc::pid_t>)> {
    let mut found = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `found` is as large as `len` says, and any bytes are a valid `ucred`.
    let done = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &mut len,
        )
    };
    check(done)?;
    Ok((found.uid, (found.pid > 0).then_some(found.pid)))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn credentials(stream: &UnixStream) -> io::Result<(u32, Option<libc::pid_t>)> {
    let (mut uid, mut gid) = (u32::MAX, u32::MAX);
    // SAFETY: both places are valid for writing.
    check(unsafe { libc::getpeereid(stream.as_raw_fd(), &mut uid, &mut gid) })?;
    Ok((uid, None))
}

fn check(done: libc::c_int) -> io::Result<()> {
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Ends a process at once.
pub fn kill(pid: u32) {
    if let Ok(pid) = libc::pid_t::try_from(pid)
        && pid > 1
    {
        // SAFETY: no memory is touched; a process that is gone is no matter.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

/// Waits until something can be read, or `limit` has passed. Returns whether it can.
pub fn wait_readable(stream: &mut Stream, limit: Duration) -> bool {
    readable(stream, limit)
}

/// The same of anything, a connection that can be accepted included.
fn readable(file: &impl AsFd, limit: Duration) -> bool {
    let mut poll = libc::pollfd {
        fd: file.as_fd().as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let millis = limit.as_millis().min(i32::MAX as u128) as libc::c_int;
    // SAFETY: one descriptor, as said.
    unsafe { libc::poll(&mut poll, 1, millis) > 0 }
}

/// Bounds the memory that this process may hold: what asks for more fails, and the process ends.
///
/// # Errors
/// If the system refuses.
pub fn limit_memory(bytes: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: bytes as libc::rlim_t,
        rlim_max: bytes as libc::rlim_t,
    };
    // Private memory, not mapped files.
    // SAFETY: `limit` is read only.
    check(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) })
}

/// Closes what was inherited: a host's open sound card must not stay open because the host started us.
pub fn close_inherited() {
    #[cfg(target_os = "linux")]
    // SAFETY: called before this process opens anything itself; 0 to 2 stay.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
    }
}
