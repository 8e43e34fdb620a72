//! A process by its descriptor (pidfd): its id may be reused as soon as the process is reaped.
//!
//! A program may ignore SIGCHLD, or have a thread that waits for every child. Then the kernel, or that
//! thread, takes a child's status before its owner asks for it. The descriptor still tells that the child
//! has ended, and since Linux 6.15 it keeps the status.
//!
//! Invariant: nothing here names a process by its number, except to make a descriptor of it.
#![allow(unsafe_code)]

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

/// How long the kernel may take to take down a process that has ended: some microseconds, and longer
/// where a debugger holds it.
const RELEASE_PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// As this says.
    Status(ExitStatus),
    /// Another thread or the kernel took its status, and this kernel does not keep it.
    Unknown,
}

impl Exit {
    /// The signal that ended it, as far as that is known.
    pub(crate) fn signal(self) -> Option<i32> {
        match self {
            Self::Status(status) => status.signal(),
            Self::Unknown => None,
        }
    }

    /// Its exit code, as far as that is known.
    pub(crate) fn code(self) -> Option<i32> {
        match self {
            Self::Status(status) => status.code(),
            Self::Unknown => None,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::Unknown => f.write_str(crate::outcome::exit::UNKNOWN),
        }
    }
}

/// A descriptor of a process.
#[derive(Debug)]
pub(super) struct Pidfd(OwnedFd);

impl From<OwnedFd> for Pidfd {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

impl From<Pidfd> for OwnedFd {
    fn from(pidfd: Pidfd) -> Self {
        pidfd.0
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Pidfd {
    /// Of the process that has that number now.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn open(number: libc::pid_t) -> io::Result<Self> {
        let number = Pid::from_raw(number).filter(|pid| pid.as_raw_nonzero().get() > 0);
        let number = number.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self(rustix::process::pidfd_open(number, PidfdFlags::empty())?))
    }

    /// Kills it, if it is there.
    pub(super) fn kill(&self) {
        // A reaped process is gone, and no other is affected.
        let _ = rustix::process::pidfd_send_signal(&self.0, Signal::KILL);
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        !self.poll(PollFlags::IN, Some(&now)).is_empty()
    }

    /// Whether it has ended once so much time has passed. Blocks until one of the two.
    pub(super) fn ends_within(&self, patience: Duration) -> bool {
        let patience = Timespec::try_from(patience).unwrap_or(RELEASE_PATIENCE);
        !self.poll(PollFlags::IN, Some(&patience)).is_empty()
    }

    /// Whether it is a child of this process that is not reaped, and so still has its id. Also
    /// false if this is not a pidfd.
    pub(super) fn is_child(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // A process that goes on is not an error.
        rustix::process::waitid(WaitId::PidFd(self.as_fd()), look).is_ok()
    }

    /// Its number, which is its own as long as [`is_child`](Self::is_child) holds afterwards.
    ///
    /// # Errors
    /// If this is not the pidfd of an existing process.
    pub(super) fn number(&self) -> io::Result<libc::pid_t> {
        let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", self.0.as_raw_fd()))?;
        let number = about.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
        number
            .filter(|number| *number > 0)
            .ok_or_else(|| io::Error::other("no process's descriptor"))
    }

    /// Waits for its end, and for its status, if available.
    pub(super) fn wait(&self) -> Exit {
        // Not `waitid` at once: another holder of the descriptor may have made it non-blocking.
        while self.poll(PollFlags::IN, None).is_empty() {}
        loop {
            match rustix::process::waitid(WaitId::PidFd(self.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => {
                    let core = if status.dumped() { 0x80 } else { 0 };
                    let raw = match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => code << 8,
                        (None, Some(signal)) => signal | core,
                        (None, None) => return Exit::Unknown,
                    };
                    return Exit::Status(ExitStatus::from_raw(raw));
                }
                Ok(None) | Err(Errno::INTR) => {}
                Err(_) => return self.kept().map_or(Exit::Unknown, Exit::Status),
            }
        }
    }

    /// The status that the kernel keeps once somebody else has waited for the process. Linux 6.15 and
    /// later.
    fn kept(&self) -> Option<ExitStatus> {
        let ask = || {
            // SAFETY: a structure of plain numbers, of which the kernel reads and writes no more than
            // the size that the call's number states; it outlives the call.
            unsafe {
                let mut info: libc::pidfd_info = std::mem::zeroed();
                info.mask = libc::PIDFD_INFO_EXIT.into();
                let asked = libc::ioctl(self.0.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info);
                (asked == 0).then_some(info)
            }
        };
        let is_kept = |info: &libc::pidfd_info| info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0;
        let mut info = ask()?;
        if !is_kept(&info) {
            // It is being waited for at this moment: a process that is gone hangs up.
            self.poll(PollFlags::empty(), Some(&RELEASE_PATIENCE));
            info = ask()?;
        }
        is_kept(&info).then(|| ExitStatus::from_raw(info.exit_code))
    }

    /// What comes of waiting for `events`; nothing where the time is up or a signal came.
    fn poll(&self, events: PollFlags, patience: Option<&Timespec>) -> PollFlags {
        let mut polled = [PollFd::new(&self.0, events)];
        match rustix::event::poll(&mut polled, patience) {
            Ok(_) => polled[0].revents(),
            Err(_) => PollFlags::empty(),
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
    fn the_status_of_a_child_that_somebody_else_waited_for_is_kept_or_unknown() {
        let mut other = cat();
        let pidfd = Pidfd::open(other.id().try_into().unwrap()).unwrap();
        assert!(!pidfd.has_ended() && pidfd.is_child());
        assert_eq!(pidfd.number().unwrap(), libc::pid_t::try_from(other.id()).unwrap());
        pidfd.kill();
        let status = other.wait().unwrap();
        assert!(pidfd.has_ended() && !pidfd.is_child());
        assert!(pidfd.number().is_err());
        let exit = pidfd.wait();
        assert!(exit == Exit::Unknown || exit == Exit::Status(status), "{exit:?}");
        // Nobody has this number, and nobody is killed.
        pidfd.kill();
    }

    #[test]
    fn the_status_of_a_child_is_what_the_system_says() {
        for (text, code, signal) in [("exit 7", Some(7), None), ("kill -9 $$", None, Some(9))] {
            let mut child = Command::new("/bin/sh").args(["-c", text]).spawn().unwrap();
            let exit = Pidfd::open(child.id().try_into().unwrap()).unwrap().wait();
            assert_eq!((exit.code(), exit.signal()), (code, signal));
            assert!(child.wait().is_err(), "it was waited for");
        }
    }

    #[test]
    fn another_file_is_no_process() {
        let file = Pidfd(fs::File::open("/dev/null").unwrap().into());
        assert!(!file.is_child());
        assert!(file.number().is_err());
        assert!(Pidfd::open(0).is_err() && Pidfd::open(-1).is_err());
    }
}
