//! Cloning this process, and the state that a clone must not keep.
//!
//! ```text
//! template ── clone ──► template, which has the clone's descriptor
//!                  └──► worker: death with its host, its own session and title
//! ```
//!
//! The clone is made without the C library, which cannot make a sibling. So nothing of what it does
//! in a forked child has been done. Of its state only the main thread's id is stale; only locks of
//! a kind that is not used here refer to it.
//!
//! Invariant: a template has one thread, so no lock is held by a thread that the clone lacks.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::lockdown::CLONE_FLAGS;

/// Which of the two a process is.
#[derive(Debug)]
pub(crate) enum Cloned {
    /// The template; this is the clone's descriptor.
    Template(OwnedFd),
    /// The clone.
    Worker,
}

/// Clones this process, which must have no thread but this. The clone is the child of this process's
/// parent.
///
/// # Errors
/// The kernel's.
pub(crate) fn clone_process() -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    // SAFETY: without CLONE_VM the clone has memory and a stack of its own, as after fork; there is
    // no other thread whose locks it could find held. The kernel writes the descriptor's number where
    // the third argument points, and gives the descriptor to this process alone.
    unsafe {
        let (flags, none) = (libc::c_long::from(CLONE_FLAGS), std::ptr::null_mut::<libc::c_void>());
        match libc::syscall(libc::SYS_clone, flags, none, &raw mut pidfd, none, none) {
            0 => Ok(Cloned::Worker),
            pid if pid < 0 => Err(io::Error::last_os_error()),
            _ => Ok(Cloned::Template(OwnedFd::from_raw_fd(pidfd))),
        }
    }
}

/// Whether the process of `pidfd` has ended.
pub(crate) fn is_dead(pidfd: &OwnedFd) -> bool {
    let mut polled = [rustix::event::PollFd::new(pidfd, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&now)).map_or(true, |ready| ready > 0)
}

/// The memory that a process list shows as the process's arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Title {
    start: usize,
    bytes: usize,
}

/// The places of `arg_start` and `arg_end` behind the name in /proc/self/stat, see proc_pid_stat(5).
const ARGUMENTS: (usize, usize) = (45, 46);

impl Title {
    /// Finds it; `None` if the kernel does not tell.
    pub(crate) fn find() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<usize>().ok();
        let (start, end) = (number(ARGUMENTS.0)?, number(ARGUMENTS.1)?);
        (start != 0).then_some(Self { start, bytes: end.checked_sub(start)? })
    }

    /// Writes `name` there, truncated if needed. The process must have read its arguments before.
    pub(crate) fn set(self, name: &str) {
        let shown = name.len().min(self.bytes.saturating_sub(1));
        // SAFETY: the kernel put the arguments there, on the stack of the main thread, for the
        // program to write to as it likes; nothing refers to them any more.
        unsafe {
            let start = std::ptr::with_exposed_provenance_mut::<u8>(self.start);
            std::ptr::copy_nonoverlapping(name.as_ptr(), start, shown);
            std::ptr::write_bytes(start.add(shown), 0, self.bytes - shown);
        }
    }
}

/// Begins a session of its own.
pub(crate) fn begin_session() {
    // SAFETY: a system call without arguments. Whether it is on the report says.
    unsafe { libc::setsid() };
}
