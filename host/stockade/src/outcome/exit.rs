//! How worker processes end.

use std::fmt;

/// How a worker process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerExit {
    /// The worker's name.
    pub worker: String,
    /// Its process number.
    pub pid: u32,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// Its exit code. If there is neither, see [`is_unknown`](Self::is_unknown).
    pub code: Option<i32>,
    /// Whether memory ran out, if the host can tell: either the worker reported it with its exit
    /// code, or it got a SIGKILL that the host had not sent, and the kernel's out-of-memory killer
    /// was active during its life. The latter is likely but not certain, since that counter is of
    /// the whole machine. A worker that aborted for lack of memory cannot be told from others that
    /// aborted.
    pub out_of_memory: bool,
    /// Set if its host ended it because it had more memory than its limits allow. A guest cannot do
    /// this: only native code gets around the kernel's own limits.
    pub memory_excess: Option<MemoryExcess>,
}

/// A process had more memory than its limits allow, so its host ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct MemoryExcess {
    /// The most that its limits and the overshoot allow, in bytes.
    pub allowed_bytes: u64,
    /// What it had, in bytes: memory of its own, resident or swapped, and page tables.
    pub seen_bytes: u64,
}

impl fmt::Display for MemoryExcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { allowed_bytes, seen_bytes } = self;
        write!(
            f,
            "it had {seen_bytes} bytes of memory and page tables, where its limits allow \
             {allowed_bytes}"
        )
    }
}

/// The text for an unknown end.
pub(crate) const UNKNOWN: &str =
    "ended, and how is unknown: this program ignores SIGCHLD or waits for every child";

impl WorkerExit {
    /// Whether its end is unknown. A program that ignores SIGCHLD, or waits for every child, takes
    /// the status of its workers away; before Linux 6.15 the kernel does not keep another.
    pub fn is_unknown(&self) -> bool {
        self.signal.is_none() && self.code.is_none()
    }

    /// Whether it was ended from outside, by a signal that neither a guest nor this program causes:
    /// by a person, another program, or the out-of-memory killer.
    pub(crate) fn is_from_outside(&self) -> bool {
        const OUTSIDE: [i32; 4] = [libc::SIGKILL, libc::SIGTERM, libc::SIGINT, libc::SIGHUP];
        self.memory_excess.is_none() && self.signal.is_some_and(|signal| OUTSIDE.contains(&signal))
    }

    /// The exit of a worker with unknown end.
    pub(crate) fn unknown() -> Self {
        Self {
            worker: "worker".into(),
            pid: 0,
            signal: None,
            code: None,
            out_of_memory: false,
            memory_excess: None,
        }
    }
}

impl fmt::Display for WorkerExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {}) ", self.worker, self.pid)?;
        if let Some(excess) = &self.memory_excess {
            return write!(f, "was ended by its host: {excess}");
        }
        match (self.signal, self.code, self.out_of_memory) {
            (Some(signal), _, true) => {
                write!(
                    f,
                    "was killed by {}, most likely because memory ran out",
                    signal_name(signal)
                )
            }
            (Some(libc::SIGSYS), ..) => {
                f.write_str("was killed by SIGSYS, for a system call that it may not make")
            }
            (Some(signal), _, false) => write!(f, "was killed by {}", signal_name(signal)),
            (None, _, true) => f.write_str("gave up because the system gave it no memory"),
            (None, Some(code), false) => write!(f, "exited with code {code}"),
            (None, None, false) => f.write_str(UNKNOWN),
        }
    }
}

pub(crate) fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGILL => "SIGILL",
        libc::SIGFPE => "SIGFPE",
        libc::SIGSYS => "SIGSYS",
        libc::SIGTERM => "SIGTERM",
        libc::SIGINT => "SIGINT",
        libc::SIGHUP => "SIGHUP",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        _ => return format!("signal {signal}"),
    };
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_without_a_status_is_shown_as_unknown_and_no_other() {
        let exit = |signal, code| WorkerExit { signal, code, ..WorkerExit::unknown() };
        assert!(exit(None, None).is_unknown());
        assert!(exit(None, None).to_string().contains("how is unknown"));
        for known in [exit(Some(9), None), exit(None, Some(0))] {
            assert!(!known.is_unknown() && !known.to_string().contains("unknown"), "{known}");
        }
    }
}
