//! One process becomes two: what the kernel copies and a clone must not keep.
//!
//! ```text
//! template ── clone ──► template, which hears the clone's number
//!                  └──► worker: death with its host, its own session, title and page map
//! ```
//!
//! The clone is made without the C library, which cannot make a sibling. So nothing of what it does
//! in a forked child has been done: for the engine, whose handler would have renewed the page map,
//! that is done here; of the C library's own state only the main thread's number is stale, which
//! locks of a kind refer to that neither it nor we use.
//!
//! Invariant: a template has one thread, so no lock is held by a thread that the clone lacks.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::lockdown::{self, CLONE_FLAGS};

/// Which of the two a process is.
#[derive(Debug)]
pub(crate) enum Cloned {
    /// The template; the clone has this number.
    Template(u32),
    /// The clone.
    Worker,
}

/// Clones this process, which must have no thread but this. The clone is the child of this process's
/// parent.
///
/// # Errors
/// The kernel's.
pub(crate) fn clone_process() -> io::Result<Cloned> {
    // SAFETY: without CLONE_VM the clone has memory and a stack of its own, as after fork; there is
    // no other thread whose locks it could find held.
    let pid = unsafe {
        let none = std::ptr::null_mut::<libc::c_void>();
        libc::syscall(libc::SYS_clone, libc::c_long::from(CLONE_FLAGS), none, none, none, none)
    };
    match pid {
        0 => Ok(Cloned::Worker),
        pid => match u32::try_from(pid) {
            Ok(pid) => Ok(Cloned::Template(pid)),
            Err(_) => Err(io::Error::last_os_error()),
        },
    }
}

/// Whether the process of `pidfd` has ended.
pub(crate) fn is_dead(pidfd: &OwnedFd) -> bool {
    let mut polled = [rustix::event::PollFd::new(pidfd, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&now)).map_or(true, |ready| ready > 0)
}

/// The descriptor through which the engine looks at this process's pages, if it does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageMap(Option<RawFd>);

const PAGE_MAP: &str = "/proc/self/pagemap";

impl PageMap {
    /// Looks for it among the open descriptors. Once the engine is made.
    ///
    /// # Errors
    /// Where the descriptors cannot be listed.
    pub(crate) fn find() -> io::Result<Self> {
        for entry in fs::read_dir("/proc/self/fd")? {
            let entry = entry?;
            // The one that lists them is gone by the time it is asked for.
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            if target.ends_with("pagemap") {
                let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
                return Ok(Self(number));
            }
        }
        Ok(Self(None))
    }

    /// Has it show the pages of this process, and not those of the one that it was cloned from: by
    /// those the engine would take what a task wrote for clean. Where it cannot be had there is
    /// `/dev/null` in its place, of which the engine makes that there are no page maps.
    ///
    /// # Errors
    /// The kernel's; the process must end then.
    pub(crate) fn renew(self) -> io::Result<()> {
        let Some(number) = self.0 else { return Ok(()) };
        // Files about a process that is not dumpable are root's.
        let opened = lockdown::become_dumpable().map(|()| fs::File::open(PAGE_MAP));
        let own = match &opened {
            Ok(Ok(file)) => file.as_raw_fd(),
            _ => libc::STDIN_FILENO,
        };
        // SAFETY: the number is the engine's page map, which it never closes and which nobody else
        // has; it is replaced by another file at once.
        if unsafe { libc::dup3(own, number, libc::O_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
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
    /// Looks for it; `None` where the kernel does not tell.
    pub(crate) fn find() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<usize>().ok();
        let (start, end) = (number(ARGUMENTS.0)?, number(ARGUMENTS.1)?);
        (start != 0).then_some(Self { start, bytes: end.checked_sub(start)? })
    }

    /// Shows `name`, as far as there is room. The process must have read its arguments before.
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
