// [worker] What the standard library doesn't ask of the system: who owns what, who is at the other end, limits.

use std::{
    fs::{self, DirBuilder},
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::{
            fs::{DirBuilderExt, MetadataExt},
            net::UnixStream,
        },
    },
    path::Path,
    time::Duration,
};

/// The user of this process.
pub fn user() -> u32 {
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
pub fn peer(stream: &UnixStream) -> Result<Option<libc::pid_t>, String> {
    let (uid, pid) = credentials(stream).map_err(|e| format!("who is there is unknown: {e}"))?;
    if uid != user() {
        return Err(format!("user {uid} is at the other end"));
    }
    Ok(pid)
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
pub fn kill(pid: libc::pid_t) {
    if pid > 1 {
        // SAFETY: no memory is touched; a process that is gone is no matter.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

/// Waits until something can be read, a connection accepted, or `limit` has passed. Returns whether it can.
pub fn wait_readable(file: &impl AsFd, limit: Duration) -> bool {
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
