//! Children that a template made: checks which process is one.
//!
//! A clone is this process's child, but its descriptor comes from a template, which is not trusted.
//! A false descriptor could make the host signal and reap another child of this program.
//!
//! Invariant: no two [`Child`]ren are the same process.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Child;
use crate::process::pidfd::Pidfd;

type Living = BTreeMap<libc::pid_t, Weak<Pidfd>>;

/// Every unreaped child of a pool, by its id.
fn living() -> MutexGuard<'static, Living> {
    static LIVING: Mutex<Living> = Mutex::new(BTreeMap::new());
    // No code that holds the lock can panic halfway through a change.
    LIVING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes a child that this process has just started.
pub(super) fn note(number: libc::pid_t, pidfd: &Arc<Pidfd>) {
    living().insert(number, Arc::downgrade(pidfd));
}

/// Forgets a child that has ended. Its number may be another child's by now.
pub(super) fn forget(number: libc::pid_t, pidfd: &Arc<Pidfd>) {
    let mut living = living();
    if living.get(&number).is_some_and(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(pidfd))) {
        living.remove(&number);
    }
}

impl Child {
    /// The child that `descriptor` is of, which a template made, in the user namespace `users`. From now
    /// on it is waited for here alone.
    ///
    /// # Errors
    /// If it is no descriptor of a child of this process in that namespace, or of one that is known.
    pub(in crate::process) fn adopt(descriptor: OwnedFd, users: u64) -> io::Result<Self> {
        let pidfd = Arc::new(Pidfd::from(descriptor));
        let pid = pidfd.number()?;
        // A child that this program started otherwise is in other namespaces.
        let is_clone = users_of(pid.unsigned_abs())? == users;
        let mut living = living();
        // Another that had the number was waited for by somebody else.
        let known = living.get(&pid).and_then(Weak::upgrade);
        let is_known = known.is_some_and(|known| known.is_child());
        // Asked last: a child that was not waited for had that number all the time.
        if !is_clone || is_known || !pidfd.is_child() {
            return Err(io::Error::other("a template reported a process that is not its clone"));
        }
        living.insert(pid, Arc::downgrade(&pidfd));
        Ok(Self { pid, pidfd, exit: None, is_first: true })
    }
}

/// The user namespace of a child, by the kernel's number.
///
/// # Errors
/// If there is no such process, or this one may not look.
pub(in crate::process) fn users_of(pid: u32) -> io::Result<u64> {
    Ok(std::fs::metadata(format!("/proc/{pid}/ns/user"))?.ino())
}

/// Ends the clones of a dead template, in the user namespace `users`, that it never told of. To be
/// called by the thread that started it, whose children they are.
pub(in crate::process) fn end_strays(users: u64) {
    // Without the file they end by themselves, but stay in the system's tables until this process
    // ends.
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    for number in children.split_whitespace().filter_map(|number| number.parse().ok()) {
        let stray = Pidfd::open(number).map(|pidfd| pidfd.into());
        if let Ok(mut stray) = stray.and_then(|pidfd| Child::adopt(pidfd, users)) {
            stray.kill();
            stray.wait();
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

    fn pidfd(number: u32) -> OwnedFd {
        Pidfd::open(number.try_into().unwrap()).unwrap().into()
    }

    fn here() -> u64 {
        users_of(std::process::id()).unwrap()
    }

    #[test]
    fn a_process_that_is_no_child_or_another_programs_child_is_not_adopted() {
        let mut other = cat();
        assert!(Child::adopt(pidfd(1), here()).is_err());
        assert!(Child::adopt(pidfd(std::process::id()), here()).is_err());
        assert!(Child::adopt(pidfd(other.id()), here() + 1).is_err());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Child::adopt(file.into(), here()).is_err());
        let gone = pidfd(other.id());
        drop(other.stdin.take());
        assert!(other.wait().unwrap().success());
        assert!(Child::adopt(gone, here()).is_err());
    }

    #[test]
    fn a_child_is_adopted_once() {
        let mut other = cat();
        let mut adopted = Child::adopt(pidfd(other.id()), here()).unwrap();
        assert!(Child::adopt(pidfd(other.id()), here()).is_err());
        let descriptor = pidfd(other.id());
        drop(other.stdin.take());
        assert_eq!(adopted.wait().code(), Some(0));
        assert!(Child::adopt(descriptor, here()).is_err());
        assert!(other.wait().is_err(), "it was waited for");
    }

    #[test]
    fn a_number_whose_child_somebody_else_waited_for_can_be_anothers() {
        let (mut gone, mut other) = (cat(), cat());
        let adopted = Child::adopt(pidfd(gone.id()), here()).unwrap();
        drop(gone.stdin.take());
        gone.wait().unwrap();
        // As if the kernel had given the number away.
        let number = libc::pid_t::try_from(other.id()).unwrap();
        note(number, &adopted.pidfd);
        let mut next = Child::adopt(pidfd(other.id()), here()).unwrap();
        // The end of the former does not make the latter unknown.
        forget(number, &adopted.pidfd);
        assert!(Child::adopt(pidfd(other.id()), here()).is_err());
        drop(other.stdin.take());
        assert_eq!(next.wait().code(), Some(0));
    }

    #[test]
    fn strays_of_one_namespace_end_and_other_children_do_not() {
        let mut other = cat();
        end_strays(here() + 1);
        drop(other.stdin.take());
        assert!(other.wait().unwrap().success());
        let mut stray = cat();
        end_strays(here());
        assert!(stray.wait().is_err(), "it was waited for");
    }
}
