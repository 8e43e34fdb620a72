//! Users, capabilities and namespaces.
//!
//! An ordinary user's process is started in a user namespace of its own, without which it could have
//! no other. Root's is started in the other namespaces at once, changes to user 65534 here, and
//! then enters a user namespace with only that user.
#![allow(unsafe_code)]

use std::fs;
use std::io;

use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use stockade_wire::{Level, Namespaces};

use super::Found;
use super::own::in_words;

/// The user that root changes to: `nobody` on any Linux.
const NOBODY: u32 = 65_534;

/// Enters a user namespace, unless the process was started in one. With `drops`, root first changes
/// to user 65534, unless it `stays` root to read granted directories.
pub(super) fn enter_own_users(host: &Namespaces, stays: bool, drops: bool) -> Result<(), String> {
    if Namespaces::user_of_this_process() != host.user {
        return Ok(());
    }
    // A process that may not change its user may still have a user namespace.
    let became = if drops && !stays { become_nobody() } else { Ok(()) };
    make_own_users().and(became)
}

/// Enters a user namespace for good and keeps nothing in it but making namespaces: in the one that it
/// may have been started in, an ordinary user lost that at exec. Otherwise as
/// [`enter_own_users`].
pub(super) fn enter_users_of_template(stays: bool, drops: bool) -> Result<(), String> {
    if drops && !stays {
        become_nobody()?;
    }
    make_own_users()?;
    if drops {
        let kept = CapabilitySet::SYS_ADMIN;
        let none = CapabilitySet::empty();
        let kept = CapabilitySets { effective: kept, permitted: kept, inheritable: none };
        rustix::thread::set_capabilities(None, kept).map_err(in_words)?;
    }
    Ok(())
}

fn make_own_users() -> Result<(), String> {
    // First, since in a namespace without a map it would be user 65534 by name, but root in fact.
    let may_map = || {
        let sets = rustix::thread::capabilities(None);
        sets.is_ok_and(|sets| sets.effective.contains(CapabilitySet::SETFCAP))
    };
    if rustix::process::geteuid().is_root() && !may_map() {
        return Err("root needs the capability CAP_SETFCAP for a user namespace of its own".into());
    }
    // A change of user made this root's own: the maps below could not be written.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)
        .map_err(in_words)?;
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // SAFETY: the process has one thread, as the call requires, and shares nothing with others.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER) } < 0 {
        return Err(format!("no user namespace: {}", io::Error::last_os_error()));
    }
    fs::write("/proc/self/setgroups", "deny")
        .and_then(|()| fs::write("/proc/self/uid_map", format!("{user} {user} 1")))
        .and_then(|()| fs::write("/proc/self/gid_map", format!("{group} {group} 1")))
        .map_err(|error| format!("cannot map its user: {error}"))
}

/// What the process finds of its namespaces, where the host's are `host`.
pub(super) fn namespaces_found(host: &Namespaces, refused: Option<&str>) -> Found {
    let shared = Namespaces::of_this_process().shared_with(host);
    let why = refused.map(|why| format!(": {why}")).unwrap_or_default();
    match shared.len() {
        0 => (Level::Full, "its own users, processes, network and IPC".into()),
        4 => (Level::None, format!("shares all with its host{why}")),
        _ => (Level::Partial, format!("shares {} with its host{why}", shared.join(", "))),
    }
}

/// Drops root, unless it `stays`, and every capability.
pub(super) fn drop_all(stays: bool) -> Result<(), String> {
    let became = if stays { Ok(()) } else { become_nobody() };
    // SAFETY: a system call on plain numbers.
    let cleared =
        unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    if cleared < 0 {
        return Err(format!("ambient capabilities stay: {}", io::Error::last_os_error()));
    }
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, none).map_err(in_words)?;
    became
}

fn become_nobody() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    // SAFETY: the process has one thread; the functions of the C library, which change all threads,
    // and these, which change one, are then the same.
    unsafe {
        if libc::setgroups(0, std::ptr::null()) < 0
            || libc::setresgid(group.as_raw(), group.as_raw(), group.as_raw()) < 0
            || libc::setresuid(user.as_raw(), user.as_raw(), user.as_raw()) < 0
        {
            return Err(format!("cannot change to user 65534: {}", io::Error::last_os_error()));
        }
    }
    Ok(())
}

/// What the process finds of its privileges, where it was to `stay` root.
pub(super) fn found(stays: bool) -> Found {
    let capable = rustix::thread::capabilities(None).map_or(true, |sets| {
        !(sets.effective.is_empty() && sets.permitted.is_empty() && sets.inheritable.is_empty())
    });
    match (rustix::process::getuid().is_root() || rustix::process::geteuid().is_root(), capable) {
        (false, false) => (Level::Full, "an ordinary user without capabilities".into()),
        (true, false) if !stays => (Level::Partial, "root without capabilities".into()),
        (true, false) => (
            Level::Partial,
            "root without capabilities, to read the directories that root granted".into(),
        ),
        (_, true) => (Level::None, "it has capabilities".into()),
    }
}
