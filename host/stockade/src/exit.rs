//! How worker processes end, for people who ask why.

use std::fmt;

use crate::MemoryExcess;

/// How a worker process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerExit {
    /// The worker's name.
    pub worker: String,
    /// Its process number.
    pub pid: u32,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// Its exit code.
    pub code: Option<i32>,
    /// Whether memory ran out, as far as its host can tell: the worker said so with its exit code, or
    /// it was killed by a SIGKILL that its host had not sent, and the kernel had killed processes for
    /// want of memory while it lived. The kernel counts for the whole machine, so the latter is
    /// likely and not certain. A worker that aborted because it could not go on without memory is not
    /// told apart from others that aborted.
    pub out_of_memory: bool,
    /// Why its host ended it, where it had more memory than its limits allow. Guests cannot: this is
    /// native code that has got around the kernel's own limits.
    pub memory_excess: Option<MemoryExcess>,
}

impl WorkerExit {
    /// Of a worker of which nothing is known.
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
                write!(f, "was killed by {}, most likely for want of memory", signal_name(signal))
            }
            (Some(libc::SIGSYS), ..) => {
                f.write_str("was killed by SIGSYS, for a system call that it may not make")
            }
            (Some(signal), _, false) => write!(f, "was killed by {}", signal_name(signal)),
            (None, _, true) => f.write_str("gave up because the system gave it no memory"),
            (None, Some(code), false) => write!(f, "exited with code {code}"),
            (None, None, false) => f.write_str("ended"),
        }
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGILL => "SIGILL",
        libc::SIGFPE => "SIGFPE",
        libc::SIGSYS => "SIGSYS",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        _ => return format!("signal {signal}"),
    };
    name.into()
}
