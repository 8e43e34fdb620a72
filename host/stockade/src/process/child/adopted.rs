//! Children that a template made: which process is one, and whose.
//!
//! A clone is this process's child by the kernel's word, and its number comes from a template, which
//! is believed nothing. Whoever is signalled and waited for by mistake could be any child that this
//! program has.
//!
//! Invariant: of two [`Child`]ren neither has the other's number, as long as it was not waited for.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Child;

/// Every child of a pool that was not waited for.
pub(super) fn living() -> MutexGuard<'static, BTreeSet<libc::pid_t>> {
    static LIVING: Mutex<BTreeSet<libc::pid_t>> = Mutex::new(BTreeSet::new());
    // No code that holds the lock can panic halfway through a change.
    LIVING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Child {
    /// The child of that number, which a template made, in the user namespace `users`. From now on
    /// it is waited for here alone.
    ///
    /// # Errors
    /// Where it is no child of this process, or one that somebody else waits for.
    pub(in crate::process) fn adopt(pid: u32, users: u64) -> io::Result<Self> {
        let number = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
        is_ended(pid)?;
        // A child that this program started otherwise is in other namespaces.
        if users_of(pid)? != users || !living().insert(number) {
            return Err(io::Error::other("a template took another process for its clone"));
        }
        Ok(Self { pid: number, status: None, is_first: true })
    }
}

/// Whether a child has ended, and leaves it to be waited for.
///
/// # Errors
/// Where it is no child of this process.
pub(super) fn is_ended(pid: u32) -> io::Result<bool> {
    // SAFETY: `found` is plain data and outlives the call; the number is read only after the call
    // has written it, or left the zero that stands for no child.
    let (asked, ended) = unsafe {
        let mut found: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        let asked = libc::waitid(libc::P_PID, pid, &raw mut found, flags);
        (asked, found.si_pid() != 0)
    };
    if asked < 0 { Err(io::Error::last_os_error()) } else { Ok(ended) }
}

/// The user namespace of a child, by the kernel's number.
///
/// # Errors
/// Where there is no such process, or this one may not look.
pub(in crate::process) fn users_of(pid: u32) -> io::Result<u64> {
    Ok(std::fs::metadata(format!("/proc/{pid}/ns/user"))?.ino())
}

/// Ends the clones of a dead template, in the user namespace `users`, that it never told of. To be
/// called by the thread that started it, whose children they are.
pub(in crate::process) fn end_strays(users: u64) {
    // Without the file they end by themselves, but stay in the system's tables until this process
    // ends.
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        if let Ok(mut stray) = Child::adopt(pid, users) {
            stray.kill();
            let _ = stray.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn cat() -> std::process::Child {
        let mut cat = Command::new("/bin/cat");
        cat.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn a_process_that_is_no_child_or_another_programs_child_is_not_adopted() {
        let here = users_of(std::process::id()).unwrap();
        let mut other = cat();
        assert!(Child::adopt(0, here).is_err());
        assert!(Child::adopt(1, here).is_err());
        assert!(Child::adopt(std::process::id(), here).is_err());
        assert!(Child::adopt(u32::MAX, here).is_err());
        assert!(Child::adopt(other.id(), here + 1).is_err());
        drop(other.stdin.take());
        assert!(other.wait().unwrap().success());
    }

    #[test]
    fn a_child_is_adopted_once() {
        let here = users_of(std::process::id()).unwrap();
        let mut other = cat();
        let mut adopted = Child::adopt(other.id(), here).unwrap();
        assert!(Child::adopt(other.id(), here).is_err());
        drop(other.stdin.take());
        assert!(adopted.wait().unwrap().success());
        assert!(Child::adopt(other.id(), here).is_err());
        assert!(other.wait().is_err(), "it was waited for");
    }

    #[test]
    fn strays_of_one_namespace_end_and_other_children_do_not() {
        let here = users_of(std::process::id()).unwrap();
        let mut other = cat();
        end_strays(here + 1);
        drop(other.stdin.take());
        assert!(other.wait().unwrap().success());
        let mut stray = cat();
        end_strays(here);
        assert!(stray.wait().is_err(), "it was waited for");
    }
}
