// [worker] The line between host and worker under Windows: a named pipe that only its owner can open.
//!
//! Pipes have no place in a folder: their names are a space that everybody shares. So each worker calls its pipe otherwise
//! and writes the name into a file in the folder that only its user can enter. Nobody can take that name before.
//!
//! Every operation runs in the kernel (overlapped) and is waited for as long as it may last; one that is given up is
//! cancelled and waited for, since until then the kernel writes into its memory.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    io::{self, Read, Write},
    os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle},
    path::Path,
    ptr::null,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use windows_sys::Win32::{
    Foundation::{
        ERROR_BROKEN_PIPE, ERROR_IO_PENDING, ERROR_NO_DATA, ERROR_PIPE_BUSY, ERROR_PIPE_CONNECTED,
        ERROR_PIPE_NOT_CONNECTED, GENERIC_READ, GENERIC_WRITE, HANDLE, INVALID_HANDLE_VALUE,
        WAIT_OBJECT_0, WAIT_TIMEOUT,
    },
    Storage::FileSystem::{
        CreateFileW, FILE_FLAG_FIRST_PIPE_INSTANCE, FILE_FLAG_OVERLAPPED, OPEN_EXISTING,
        PIPE_ACCESS_DUPLEX, ReadFile, SECURITY_IDENTIFICATION, SECURITY_SQOS_PRESENT, WriteFile,
    },
    System::{
        IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED},
        Pipes::{
            ConnectNamedPipe, CreateNamedPipeW, GetNamedPipeClientProcessId,
            GetNamedPipeServerProcessId, PIPE_READMODE_BYTE, PIPE_REJECT_REMOTE_CLIENTS,
            PIPE_TYPE_BYTE, PIPE_UNLIMITED_INSTANCES, PIPE_WAIT, WaitNamedPipeW,
        },
        Threading::{
            CreateEventW, INFINITE, SetEvent, WaitForMultipleObjects, WaitForSingleObject,
        },
    },
};

use super::windows::{OnlyOwner, same_user, wide};
use crate::system::{is_running, write_aside};

/// What all names begin with.
const PREFIX: &str = r"\\.\pipe\uncook-";
/// Longest file that names a pipe.
const MAX_NAME_BYTES: usize = 200;
/// How many hosts can come at the same time, before the worker looks.
const WAITING: usize = 4;
/// Bytes that the kernel keeps for the other side, either way.
const KEPT_BYTES: u32 = 1 << 16;
const READ_BYTES: usize = 4096;
/// How long a host waits where as many as [`WAITING`] have come at once.
const BUSY_MILLIS: u32 = 200;

/// An operation of the kernel's, and what it reads into.
struct Operation {
    overlapped: OVERLAPPED,
    _done: OwnedHandle,
    buffer: [u8; READ_BYTES],
}

impl Operation {
    fn new() -> io::Result<Box<Self>> {
        // SAFETY: no memory is passed; the event is closed by its owner.
        let done = unsafe {
            let event = CreateEventW(null(), 1, 0, null());
            if event.is_null() {
                return Err(io::Error::last_os_error());
            }
            OwnedHandle::from_raw_handle(event)
        };
        let overlapped = OVERLAPPED {
            hEvent: done.as_raw_handle(),
            ..Default::default()
        };
        Ok(Box::new(Self {
            overlapped,
            _done: done,
            buffer: [0; READ_BYTES],
        }))
    }
}

/// An end of a pipe, with an operation on it that may go on.
struct Pipe {
    handle: OwnedHandle,
    /// Of its own on the heap, and touched by address alone: the kernel writes there.
    operation: *mut Operation,
    goes_on: bool,
}

// SAFETY: the handle may be used by any thread, and the operation is this one's alone.
unsafe impl Send for Pipe {}

impl Pipe {
    /// # Safety
    /// `handle` is an overlapped pipe that nobody else owns.
    unsafe fn owning(handle: HANDLE) -> io::Result<Self> {
        if handle == INVALID_HANDLE_VALUE {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as the caller says.
        let handle = unsafe { OwnedHandle::from_raw_handle(handle) };
        Ok(Self {
            handle,
            operation: Box::into_raw(Operation::new()?),
            goes_on: false,
        })
    }

    fn raw(&self) -> HANDLE {
        self.handle.as_raw_handle()
    }

    /// The operation's, for the kernel.
    fn overlapped(&self) -> *mut OVERLAPPED {
        // SAFETY: it lives as long as this.
        unsafe { &raw mut (*self.operation).overlapped }
    }

    fn event(&self) -> HANDLE {
        // SAFETY: as above; the kernel never writes there.
        unsafe { (*self.operation).overlapped.hEvent }
    }

    /// What a call said that begins an operation. Whether it was over at once or goes on, its event tells.
    fn begun(&mut self, said: i32) -> io::Result<()> {
        if said == 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(ERROR_IO_PENDING as i32) {
                return Err(error);
            }
        }
        self.goes_on = true;
        Ok(())
    }

    /// Bytes that the operation has moved, once it is over; `None` if it still goes on after `limit` (`None`: waits).
    fn over(&mut self, limit: Option<Duration>) -> io::Result<Option<usize>> {
        let millis = limit.map_or(INFINITE, |limit| {
            limit.as_millis().min(u128::from(INFINITE - 1)) as u32
        });
        // SAFETY: the event lives as long as this.
        match unsafe { WaitForSingleObject(self.event(), millis) } {
            WAIT_OBJECT_0 => {}
            WAIT_TIMEOUT => return Ok(None),
            _ => return Err(io::Error::last_os_error()),
        }
        self.result().map(Some)
    }

    /// Bytes that it has moved; waits for it.
    fn result(&mut self) -> io::Result<usize> {
        self.goes_on = false;
        let mut bytes = 0;
        // SAFETY: the operation was begun on this handle.
        let done = unsafe { GetOverlappedResult(self.raw(), self.overlapped(), &mut bytes, 1) };
        if done == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(bytes as usize)
    }

    /// Ends the operation. Bytes that it has moved all the same.
    fn give_up(&mut self) -> io::Result<usize> {
        // SAFETY: as above. Where it is over already, this finds nothing.
        unsafe { CancelIoEx(self.raw(), self.overlapped()) };
        self.result()
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if self.goes_on {
            let _ = self.give_up();
        }
        // SAFETY: it was a box, and the kernel has done with it.
        drop(unsafe { Box::from_raw(self.operation) });
    }
}

/// What is said between a host and the worker.
pub struct Stream {
    reads: Pipe,
    /// Has arrived and was not read: from `taken` to `arrived` in the operation's buffer.
    taken: usize,
    arrived: usize,
    /// The other side has gone.
    ended: bool,
    read_limit: Option<Duration>,
    write_limit: Option<Duration>,
    is_server: bool,
}

impl Stream {
    fn new(reads: Pipe, is_server: bool) -> Self {
        Self {
            reads,
            taken: 0,
            arrived: 0,
            ended: false,
            read_limit: None,
            write_limit: None,
            is_server,
        }
    }

    /// To the worker whose pipe is named in the file `named`.
    ///
    /// # Errors
    /// `NotFound` or `ConnectionRefused` where nobody listens; others if the system refuses.
    pub fn connect(named: impl AsRef<Path>) -> io::Result<Self> {
        let name = fs::read(named).map_err(|e| match e.kind() {
            // It is being removed or replaced.
            io::ErrorKind::PermissionDenied => io::ErrorKind::ConnectionRefused.into(),
            _ => e,
        })?;
        let name = std::str::from_utf8(&name)
            .ok()
            .filter(|name| name.starts_with(PREFIX) && name.len() <= MAX_NAME_BYTES)
            // Half written.
            .ok_or(io::ErrorKind::ConnectionRefused)?;
        let name = wide(name.as_ref())?;
        let mut tries = 0;
        loop {
            // The other side learns who this is, and can do nothing in this user's name.
            let flags = FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION;
            // SAFETY: a name that ends on zero; nobody else owns the new handle.
            let pipe = unsafe {
                Pipe::owning(CreateFileW(
                    name.as_ptr(),
                    GENERIC_READ | GENERIC_WRITE,
                    0,
                    null(),
                    OPEN_EXISTING,
                    flags,
                    std::ptr::null_mut(),
                ))
            };
            match pipe {
                Ok(pipe) => return Ok(Self::new(pipe, false)),
                Err(e) if e.raw_os_error() == Some(ERROR_PIPE_BUSY as i32) => {
                    tries += 1;
                    if tries > 5 {
                        return Err(io::ErrorKind::ConnectionRefused.into());
                    }
                    // SAFETY: a name that ends on zero.
                    unsafe { WaitNamedPipeW(name.as_ptr(), BUSY_MILLIS) };
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Longest time that [`read`](Read::read) waits; then it is a `TimedOut`.
    ///
    /// # Errors
    /// Never; elsewhere the system is asked.
    pub fn set_read_timeout(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.read_limit = limit;
        Ok(())
    }

    /// As above, of [`write`](Write::write).
    ///
    /// # Errors
    /// As above.
    pub fn set_write_timeout(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.write_limit = limit;
        Ok(())
    }

    /// Waits until there is something to read, or the other side has gone. Returns whether.
    fn fill(&mut self, limit: Option<Duration>) -> io::Result<bool> {
        if self.ended || self.taken < self.arrived {
            return Ok(true);
        }
        let over = self.begin().and_then(|()| self.reads.over(limit));
        match over {
            Ok(bytes) => {
                (self.taken, self.arrived) = (0, bytes.unwrap_or(0));
                Ok(self.arrived > 0)
            }
            Err(e) if is_end(&e) => {
                self.ended = true;
                Ok(true)
            }
            Err(e) => Err(e),
        }
    }

    /// Begins to read, unless that goes on already.
    fn begin(&mut self) -> io::Result<()> {
        if self.reads.goes_on {
            return Ok(());
        }
        // SAFETY: the buffer is as long as said, lives until the operation is over, and nobody else touches it before.
        let said = unsafe {
            ReadFile(
                self.reads.raw(),
                (&raw mut (*self.reads.operation).buffer).cast(),
                READ_BYTES as u32,
                std::ptr::null_mut(),
                self.reads.overlapped(),
            )
        };
        self.reads.begun(said)
    }
}

/// Whether the other side has gone.
fn is_end(error: &io::Error) -> bool {
    let ends = [ERROR_BROKEN_PIPE, ERROR_PIPE_NOT_CONNECTED, ERROR_NO_DATA];
    let code = error.raw_os_error();
    ends.iter().any(|&end| code == Some(end as i32))
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        if !self.fill(self.read_limit)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if self.ended {
            return Ok(0);
        }
        let bytes = out.len().min(self.arrived - self.taken);
        // SAFETY: what has arrived is of an operation that is over.
        let buffer = unsafe { &(*self.reads.operation).buffer };
        out[..bytes].copy_from_slice(&buffer[self.taken..self.taken + bytes]);
        self.taken += bytes;
        Ok(bytes)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = &bytes[..bytes.len().min(KEPT_BYTES as usize)];
        // Beside the reading, which may go on: another operation on the same pipe.
        let mut writes = Pipe {
            handle: self.reads.handle.try_clone()?,
            operation: Box::into_raw(Operation::new()?),
            goes_on: false,
        };
        // SAFETY: the bytes outlive the operation: it is over, or given up and waited for, when this returns.
        let said = unsafe {
            WriteFile(
                writes.raw(),
                part.as_ptr(),
                part.len() as u32,
                std::ptr::null_mut(),
                writes.overlapped(),
            )
        };
        writes.begun(said)?;
        match writes.over(self.write_limit) {
            Ok(Some(written)) => Ok(written),
            // Nobody can tell how much of it was taken: the caller leaves this line.
            Ok(None) => writes.give_up().map_err(|_| io::ErrorKind::TimedOut.into()),
            Err(e) => Err(e),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The process at the other end, where its user is this one. `None`: it has gone.
///
/// # Errors
/// If it is somebody else's, or the system doesn't say whose it is.
pub fn peer(stream: &Stream) -> Result<Option<u32>, String> {
    let mut pid = 0;
    let pipe = stream.reads.raw();
    // SAFETY: the handle is open, and the number is written.
    let told = unsafe {
        if stream.is_server {
            GetNamedPipeClientProcessId(pipe, &mut pid)
        } else {
            GetNamedPipeServerProcessId(pipe, &mut pid)
        }
    };
    let error = io::Error::last_os_error();
    let unknown = |e: io::Error| format!("who is there is unknown: {e}");
    // Who has gone meanwhile says nothing any more, which the next who listens finds out.
    if told == 0 {
        return if is_end(&error) {
            Ok(None)
        } else {
            Err(unknown(error))
        };
    }
    match same_user(pid) {
        Ok(true) => Ok(Some(pid)),
        Ok(false) => Err("another user is at the other end".to_owned()),
        Err(_) if !is_running(pid) => Ok(None),
        Err(error) => Err(unknown(error)),
    }
}

/// Waits until something can be read, or `limit` has passed. Returns whether it can.
pub fn wait_readable(stream: &mut Stream, limit: Duration) -> bool {
    // An error is read, too.
    stream.fill(Some(limit)).unwrap_or(true)
}

/// Where the worker waits for hosts.
pub struct Listener {
    name: Vec<u16>,
    /// A host can come to each of these, before the worker looks.
    waiting: Mutex<Vec<Pipe>>,
}

/// Listens at a pipe of a new name, which only this user can open, and writes the name into the file `named`.
///
/// # Errors
/// If the system refuses.
pub fn listen(named: &Path) -> io::Result<Listener> {
    // Seeded by the system: nobody can tell it before.
    let secret = RandomState::new().hash_one(std::process::id());
    let name = format!("{PREFIX}{}-{secret:016x}", std::process::id());
    let listener = Listener {
        name: wide(name.as_ref())?,
        waiting: Mutex::default(),
    };
    let waiting = (0..WAITING)
        .map(|n| listener.offer(n == 0))
        .collect::<io::Result<_>>()?;
    *listener.waiting.lock() = waiting;
    // Left by a process that was killed.
    let _ = fs::remove_file(named);
    write_aside(named, &[name.as_bytes()], false)?;
    Ok(listener)
}

impl Listener {
    /// One more end that a host can come to.
    fn offer(&self, first: bool) -> io::Result<Pipe> {
        let only_owner = OnlyOwner::new()?;
        let mut open = PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED;
        if first {
            // Fails if somebody has the name.
            open |= FILE_FLAG_FIRST_PIPE_INSTANCE;
        }
        // SAFETY: a name that ends on zero and attributes that live as long as the call; nobody else owns the new handle.
        let mut pipe = unsafe {
            Pipe::owning(CreateNamedPipeW(
                self.name.as_ptr(),
                open,
                PIPE_TYPE_BYTE | PIPE_READMODE_BYTE | PIPE_WAIT | PIPE_REJECT_REMOTE_CLIENTS,
                PIPE_UNLIMITED_INSTANCES,
                KEPT_BYTES,
                KEPT_BYTES,
                0,
                &only_owner.attributes(),
            ))
        }?;
        // SAFETY: the operation lives until it is over.
        let said = unsafe { ConnectNamedPipe(pipe.raw(), pipe.overlapped()) };
        match pipe.begun(said) {
            // A host was faster: nothing goes on that would say so.
            Err(e) if e.raw_os_error() == Some(ERROR_PIPE_CONNECTED as i32) => {
                // SAFETY: the event lives as long as the pipe.
                unsafe { SetEvent(pipe.event()) };
            }
            // One came and has gone again: found out when it is read.
            Err(e) if is_end(&e) => {
                // SAFETY: as above.
                unsafe { SetEvent(pipe.event()) };
            }
            other => other?,
        }
        Ok(pipe)
    }
}

/// Who comes within `limit`.
pub fn accept(listener: &Listener, limit: Duration) -> Option<Stream> {
    let deadline = Instant::now() + limit;
    let mut waiting = listener.waiting.lock();
    while waiting.len() < WAITING {
        match listener.offer(false) {
            Ok(pipe) => waiting.push(pipe),
            Err(_) => break,
        }
    }
    let events: Vec<HANDLE> = waiting.iter().map(Pipe::event).collect();
    let millis = limit.as_millis().min(u128::from(INFINITE - 1)) as u32;
    if events.is_empty() {
        std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
        return None;
    }
    // SAFETY: as many handles as said, which live as long as the pipes.
    let came = unsafe { WaitForMultipleObjects(events.len() as u32, events.as_ptr(), 0, millis) };
    let place = came.checked_sub(WAIT_OBJECT_0)? as usize;
    if place >= waiting.len() {
        return None;
    }
    let mut pipe = waiting.remove(place);
    // Another one can come while this one is served.
    waiting.extend(listener.offer(false));
    if pipe.goes_on && pipe.result().is_err() {
        return None;
    }
    Some(Stream::new(pipe, true))
}
