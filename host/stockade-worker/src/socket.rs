//! The socket that a pool hands to the processes it starts.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::FdFlags;
use stockade_wire::SOCKET_DESCRIPTOR;

/// Takes the inherited socket. Once in a process's life, before it opens anything else.
///
/// # Errors
/// If the descriptor is not open: the process was not started by a pool.
pub(crate) fn take_inherited() -> io::Result<UnixStream> {
    // SAFETY: a borrow only long enough to ask the kernel whether the number is a descriptor; on a
    // closed one the call below fails.
    let borrowed = unsafe { BorrowedFd::borrow_raw(SOCKET_DESCRIPTOR) };
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: the descriptor is open, as the call above found, and nothing in this process owns it:
    // it was inherited, and this function runs once and first.
    let owned = unsafe { OwnedFd::from_raw_fd(SOCKET_DESCRIPTOR) };
    Ok(UnixStream::from(owned))
}
