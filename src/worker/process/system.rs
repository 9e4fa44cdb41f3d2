// [worker] What the standard library doesn't ask of the system: who owns what, who is at the other end, limits.
//!
//! Host and worker talk over a Unix socket, under Windows over a named pipe. Both are called [`Stream`] and
//! [`Listener`] here, lie at a path in a folder that only its user can enter, and are used alike.

#[cfg(windows)]
mod pipe;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(windows)]
pub use pipe::{Listener, Stream, accept, listen, peer, wait_readable};
#[cfg(unix)]
pub use unix::*;
#[cfg(windows)]
pub use windows::{
    apart, close_inherited, default_folder, is_own_folder, kill, limit_memory, private_folder,
    version_of, violent_end,
};

/// How a process ended that did not end by itself.
pub struct Violence {
    /// As it is said: "the process that analyses …".
    pub how: String,
    /// Whether its own work ended it, not somebody's will.
    pub crashed: bool,
}

impl Violence {
    /// By somebody's will.
    pub fn killed() -> Self {
        Self {
            how: "was killed".to_owned(),
            crashed: false,
        }
    }
}
