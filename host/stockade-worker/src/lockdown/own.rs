//! The process itself: its inherited state, its end with its host, its signals.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;

use rustix::process::{DumpableBehavior, Signal};
use stockade_wire::{Level, SOCKET_DESCRIPTOR};

use super::Found;

/// Signals whose default action the kernel withholds from the first process of a namespace.
const WITHHELD: [libc::c_int; 3] = [libc::SIGABRT, libc::SIGXCPU, libc::SIGXFSZ];

/// The kernel keeps this many bytes of a thread's name.
const NAME_BYTES_MAX: usize = 15;

/// The inherited state of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inherited {
    variables: usize,
    descriptors: usize,
}

impl Inherited {
    /// Looks at it. Once, before anything is opened.
    pub(crate) fn look() -> Self {
        // Three streams, the socket, and the one that lists them.
        let expected = SOCKET_DESCRIPTOR as usize + 2;
        let open = std::fs::read_dir("/proc/self/fd").map_or(usize::MAX, Iterator::count);
        Self { variables: std::env::vars_os().count(), descriptors: open.saturating_sub(expected) }
    }

    pub(super) fn found(&self) -> Found {
        match (self.variables, self.descriptors) {
            (0, 0) => (Level::Full, "no environment, three empty streams and a socket".into()),
            (variables, 0) => (Level::Partial, format!("it has {variables} environment variables")),
            (_, descriptors) => {
                (Level::Partial, format!("it has {descriptors} extra open descriptors"))
            }
        }
    }
}

/// Ends the process at signals that the kernel ignores for the first process of a namespace: with
/// the exit code 128 plus the signal, which the host reads as the signal. In a worker a too long
/// file is an error of the write; see [`tolerate_long_files`].
pub(super) fn name_signals() {
    if std::process::id() != 1 {
        return;
    }
    for signal in WITHHELD {
        // SAFETY: the handler makes one async-signal-safe call.
        unsafe { libc::signal(signal, end_as as *const () as libc::sighandler_t) };
    }
}

/// Makes a write beyond the limit of a file's length fail instead of ending the process.
pub(crate) fn tolerate_long_files() {
    // SAFETY: ignoring a signal runs no code.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

extern "C" fn end_as(signal: libc::c_int) {
    // SAFETY: ends this process and no other.
    unsafe { libc::_exit(128 + signal) }
}

/// Keeps the allocator to one arena: it reads files about the system before it makes or shrinks
/// another, which the filter would not let it.
pub(super) fn one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number of the allocator, before there are threads.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Shows `name` in process lists, as far as the kernel keeps it.
pub(crate) fn name_process(name: &str) {
    let mut bytes: Vec<u8> = name.bytes().filter(|byte| *byte != 0).collect();
    bytes.truncate(NAME_BYTES_MAX);
    // Nothing depends on it.
    let _ = rustix::thread::set_name(&CString::new(bytes).unwrap_or_default());
}

pub(super) fn no_new_privs() -> Found {
    match rustix::thread::no_new_privs() {
        Ok(true) => (Level::Full, "executing a program cannot give it more rights".into()),
        _ => (Level::None, "programs that it executes could have more rights".into()),
    }
}

/// Has the kernel end this process when the thread ends that is its parent.
///
/// # Errors
/// The kernel's words.
pub(crate) fn die_with_host() -> Result<(), String> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(in_words)
}

pub(super) fn dies_with_host() -> Found {
    match rustix::process::parent_process_death_signal() {
        Ok(Some(Signal::KILL)) => (Level::Full, "it ends with its host".into()),
        _ => (Level::None, "it may outlive its host until it next reads its socket".into()),
    }
}

pub(super) fn session() -> Found {
    // SAFETY: Neither call takes memory. (rustix's `getsid` does not know the answer 0, which is
    // that of a session whose leader is outside of the process's pid namespace.)
    let (own, session) = unsafe { (libc::getpid(), libc::getsid(0)) };
    if session == own {
        (Level::Full, "away from the host's terminal".into())
    } else {
        (Level::None, "in its host's session".into())
    }
}

pub(super) fn become_undumpable() -> Result<(), String> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(in_words)
}

pub(super) fn is_undumpable() -> Found {
    match rustix::process::dumpable_behavior() {
        Ok(DumpableBehavior::NotDumpable) => {
            (Level::Full, "processes of the same user cannot trace it or read its memory".into())
        }
        _ => (Level::None, "processes of the same user may read its memory".into()),
    }
}

pub(super) fn in_words(errno: impl Into<io::Error>) -> String {
    errno.into().to_string()
}
