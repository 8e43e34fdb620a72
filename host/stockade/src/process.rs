//! Processes: finding the worker program, and starting it with nothing but its socket.
//!
//! Whoever starts a process owns it alone: only the owner signals it and only the owner waits for
//! it, so no signal can reach a process that took over its number.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use stockade_wire::{Role, SOCKET_DESCRIPTOR};

use crate::BuildError;

/// How a worker comes to be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerProgram {
    /// This executable. It must be, or link, `stockade-worker`.
    Path(PathBuf),
    /// This program again. Its `main` must begin with `stockade_worker::run_if_worker()`.
    CurrentProgram,
}

const PROGRAM_NAME: &str = "stockade-worker";
const PROGRAM_VARIABLE: &str = "STOCKADE_WORKER";

impl WorkerProgram {
    /// The executable: what the builder was told, else `STOCKADE_WORKER`, else `stockade-worker`
    /// beside this program or one folder up, else on PATH.
    pub(crate) fn find(chosen: Option<&Self>) -> Result<PathBuf, BuildError> {
        let this_program = std::env::current_exe().ok();
        let mut tried = Vec::new();
        let mut try_path = |path: PathBuf| {
            // Absolute, because a worker is started in another folder.
            let path = std::path::absolute(&path).unwrap_or(path);
            let found = is_executable(&path);
            tried.push(path.clone());
            found.then_some(path)
        };
        let found = match chosen {
            Some(Self::CurrentProgram) => this_program.and_then(&mut try_path),
            Some(Self::Path(path)) => try_path(path.clone()),
            None => match std::env::var_os(PROGRAM_VARIABLE) {
                Some(path) => try_path(path.into()),
                None => places(this_program.as_deref()).into_iter().find_map(try_path),
            },
        };
        found.ok_or(BuildError::NoWorkerProgram { tried })
    }
}

fn places(this_program: Option<&Path>) -> Vec<PathBuf> {
    // Cargo puts tests into `deps/` and examples into `examples/`, one folder below the program.
    let beside = this_program.and_then(Path::parent);
    let above = beside.and_then(Path::parent);
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let folders = beside.into_iter().chain(above).map(Path::to_path_buf);
    folders
        .chain(std::env::split_paths(&on_path).filter(|folder| folder.is_absolute()))
        .map(|folder| folder.join(PROGRAM_NAME))
        .collect()
}

fn is_executable(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: `access` reads a NUL-terminated string that outlives the call.
    unsafe { libc::access(path.as_ptr(), libc::X_OK) == 0 }
}

/// Starts `program` in `role`, called `name` in process lists. Blocks for the fork and exec, about
/// a millisecond. The process ends with the calling *thread* at the latest.
pub(crate) fn start(program: &Path, role: Role, name: &str) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(program);
    command
        .arg0(name)
        .arg(role.argument())
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let socket = theirs.as_raw_fd();
    let host = std::process::id();
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; `child_setup` makes
    // plain system calls and allocates nothing.
    unsafe { command.pre_exec(move || child_setup(socket, host)) };
    Ok((command.spawn()?, ours))
}

/// Resident memory of a process that it does not share through files, in bytes; `None` where it is
/// gone.
pub(crate) fn memory_of(pid: u32) -> Option<u64> {
    // Resident and shared pages are the second and third number, see proc_pid_statm(5).
    let pages = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let mut pages = pages.split_whitespace().skip(1).map_while(|pages| pages.parse::<u64>().ok());
    let (resident, shared) = (pages.next()?, pages.next()?);
    // SAFETY: asks for a constant of the system; touches no memory.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(resident.saturating_sub(shared) * u64::try_from(page_bytes).ok()?)
}

/// Runs in the child, between fork and exec.
fn child_setup(socket: RawFd, host: u32) -> io::Result<()> {
    fn check(result: libc::c_int) -> io::Result<()> {
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
    // SAFETY: each of these is an async-signal-safe system call on plain numbers.
    unsafe {
        if socket == SOCKET_DESCRIPTOR {
            // `dup2` onto itself would leave close-on-exec set.
            check(libc::fcntl(socket, libc::F_SETFD, 0))?;
        } else {
            check(libc::dup2(socket, SOCKET_DESCRIPTOR))?;
        }
        // Nothing that this program left open without close-on-exec reaches a worker.
        let first = SOCKET_DESCRIPTOR as libc::c_uint + 1;
        let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
        check(libc::close_range(first, libc::c_uint::MAX, flags))?;
        // A worker never gains privileges, and never outlives its host.
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        if libc::getppid() != host as libc::pid_t {
            // The host died before the death signal was set: nobody is left to work for.
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        // Its own session: the terminal's Ctrl-C is for the host to answer.
        check(libc::setsid())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_refused_with_what_was_tried() {
        let chosen = WorkerProgram::Path("/nonexistent/worker".into());
        let Err(BuildError::NoWorkerProgram { tried }) = WorkerProgram::find(Some(&chosen)) else {
            panic!("expected an error")
        };
        assert_eq!(tried, [PathBuf::from("/nonexistent/worker")]);
    }

    #[test]
    fn a_child_gets_its_socket_and_three_empty_streams_and_nothing_else() {
        // A program that is no worker: the shell lists what it was given.
        let leaked = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: clears close-on-exec of a descriptor that this test owns.
        assert_eq!(unsafe { libc::fcntl(leaked.as_raw_fd(), libc::F_SETFD, 0) }, 0);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new("/bin/ls");
        command.arg("/proc/self/fd").env_clear();
        let socket = theirs.as_raw_fd();
        let host = std::process::id();
        // SAFETY: as in `start`.
        unsafe { command.pre_exec(move || child_setup(socket, host)) };
        let listed = String::from_utf8(command.output().unwrap().stdout).unwrap();
        // The fourth beyond the three streams and the socket is the listing's own.
        assert_eq!(listed.split_whitespace().count(), 5, "{listed}");
        drop((ours, leaked));
    }
}
