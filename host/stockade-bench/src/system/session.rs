//! A session of its own for a program that is measured, as every worker has one.
//!
//! Linux shares processors between sessions before it shares them between processes (autogroups), so on
//! a busy machine a program within the caller's session would get less than a worker does.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Has `command` start its program in a session of its own.
pub(crate) fn apart(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec only this runs: one system call, which is async-signal-safe and
    // allocates nothing.
    unsafe { command.pre_exec(|| rustix::process::setsid().map(|_| ()).map_err(io::Error::from)) }
}
