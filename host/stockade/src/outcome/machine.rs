//! Faults of the machine: operations that it refused, and processes that it ended, while a pool was
//! built or ran.
//!
//! ```text
//! io::Error ──────► MachineError::of: errno, limits of this process ─► MachineFault ─► next step
//! end of a process ─► died, in `compile` ──────────────────────────────►┘
//! ```
//!
//! Invariant: none of these is a module's fault. A caller that discards refused modules keeps a
//! module after one of these.
//!
//! Deliberately absent: faults of a module, which are a [`RefusedReason`](crate::RefusedReason) or
//! a [`TaskError`](crate::TaskError).

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Resource;

use crate::outcome::exit::WorkerExit;

/// An operation failed because of the machine or of this installation of Stockade, never because of
/// a module.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {task}: {fault}")]
#[non_exhaustive]
pub struct MachineError {
    /// The operation that failed: `start a compiler`.
    pub task: String,
    /// Why.
    pub fault: MachineFault,
}

/// What was wrong with the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MachineFault {
    /// A limit of the kernel on this process, or on its user, is reached.
    Limit {
        /// Its name: `RLIMIT_NOFILE`.
        name: &'static str,
        /// The shell command that shows and sets it: `ulimit -n`.
        shell: &'static str,
        /// Its value, in its own unit; `None` if unknown.
        allowed: Option<u64>,
    },
    /// The machine, or the container around this process, has no more of something: memory, processes,
    /// descriptors, space on a disk.
    Exhausted(String),
    /// A device or a file that every Linux system has is missing, or cannot be used.
    System {
        /// Which.
        path: PathBuf,
        /// The system's words.
        why: String,
    },
    /// The worker program cannot be executed.
    Program {
        /// Which.
        path: PathBuf,
        /// The system's words.
        why: String,
    },
    /// A process took too long, but got little or no processor time.
    Busy {
        /// How long the pool waited.
        waited: Duration,
        /// Its processor time, if known.
        processor_time: Option<Duration>,
    },
    /// A process was ended by a signal from outside.
    Killed {
        /// The signal.
        signal: i32,
        /// Whether the kernel ended processes for lack of memory at that time.
        out_of_memory: bool,
    },
    /// A process failed, or answered what has no meaning: a worker program of another version, or a
    /// mistake in Stockade.
    Process(String),
    /// The system refused it otherwise.
    Refused(String),
}

impl MachineError {
    /// What `error` says about this machine, where it was met on the way to do `task`: `start a thread`.
    ///
    /// ```
    /// use stockade::{MachineError, MachineFault};
    ///
    /// const EMFILE: i32 = 24;
    /// let error = MachineError::of("open it", &std::io::Error::from_raw_os_error(EMFILE));
    /// assert!(matches!(error.fault, MachineFault::Limit { shell: "ulimit -n", .. }));
    /// ```
    pub fn of(task: impl Into<String>, error: &io::Error) -> Self {
        Self { task: task.into(), fault: MachineFault::of(error) }
    }

    /// As [`of`](Self::of), where `error` is one that no file is to blame for: it says that the machine has
    /// no more of something, or lets this process have no more of it. `None` for every other.
    ///
    /// ```
    /// use stockade::MachineError;
    ///
    /// const ENOENT: i32 = 2;
    /// let error = std::io::Error::from_raw_os_error(ENOENT);
    /// assert!(MachineError::if_exhausted("read it", &error).is_none());
    /// ```
    pub fn if_exhausted(task: impl Into<String>, error: &io::Error) -> Option<Self> {
        let fault = MachineFault::of(error);
        let is_exhausted = matches!(fault, MachineFault::Limit { .. } | MachineFault::Exhausted(_));
        is_exhausted.then(|| Self { task: task.into(), fault })
    }

    /// The next step, as a sentence without a final stop.
    pub fn next_step(&self) -> &'static str {
        self.fault.next_step()
    }
}

impl MachineFault {
    fn of(error: &io::Error) -> Self {
        if let Some(At { path, is_program, source }) = marked(error) {
            let (path, why) = (path.clone(), source.to_string());
            return match (*is_program, Self::of(source)) {
                // A limit can be in the way of any file.
                (_, fault @ (Self::Limit { .. } | Self::Exhausted(_))) => fault,
                (true, _) => Self::Program { path, why },
                (false, _) => Self::System { path, why },
            };
        }
        match errno_in(error) {
            Some(libc::EMFILE) => Self::limit(&DESCRIPTORS),
            Some(libc::EAGAIN) => match soft_limit(Resource::Nproc) {
                Some(..PROCESSES_MANY) => Self::limit(&PROCESSES),
                // A system's own default, or none: more likely the control group's or the machine's.
                _ => Self::Exhausted("processes and threads".into()),
            },
            Some(libc::EFBIG) => Self::limit(&FILE_BYTES),
            Some(libc::ENFILE) => Self::Exhausted("descriptors".into()),
            Some(libc::ENOSPC | libc::EDQUOT) => Self::Exhausted("space".into()),
            Some(libc::ENOMEM) => Self::of_memory(0),
            _ if error.kind() == io::ErrorKind::OutOfMemory => Self::of_memory(0),
            _ => Self::Refused(error.to_string()),
        }
    }

    /// Why there is no memory: a limit of this process, which its children inherit, if there is one.
    fn of_memory(needed_bytes: u64) -> Self {
        Self::memory_below(needed_bytes)
            .or_else(|| {
                Some(&ADDRESS_SPACE).filter(|limit| limit.soft().is_some()).map(Self::limit)
            })
            .or_else(|| Some(&DATA).filter(|limit| limit.soft().is_some()).map(Self::limit))
            .unwrap_or_else(|| Self::Exhausted("memory".into()))
    }

    /// What keeps a child of this process from having `bytes` of memory, if anything does that its own
    /// limits do not.
    pub(crate) fn memory_below(bytes: u64) -> Option<Self> {
        [&ADDRESS_SPACE, &DATA]
            .into_iter()
            .find(|limit| limit.soft().is_some_and(|allowed| allowed < bytes))
            .map(Self::limit)
            .or_else(|| {
                commit_left().filter(|left| *left < bytes).map(|_| Self::Exhausted("memory".into()))
            })
    }

    /// What keeps a child of this process from having so many seconds of a processor.
    pub(crate) fn processor_time_below(seconds: u64) -> Option<Self> {
        Some(&PROCESSOR_TIME)
            .filter(|limit| limit.soft().is_some_and(|allowed| allowed < seconds))
            .map(Self::limit)
    }

    /// What keeps this process, or a child of it, from making a file of so many bytes.
    pub(crate) fn file_below(bytes: u64) -> Option<Self> {
        Some(&FILE_BYTES)
            .filter(|limit| limit.soft().is_some_and(|allowed| allowed < bytes))
            .map(Self::limit)
    }

    /// Why a worker ended that had not yet run any code of a module.
    pub(crate) fn of_exit(exit: &WorkerExit) -> Self {
        match (exit.signal, exit.out_of_memory) {
            (Some(signal), out_of_memory) if exit.is_from_outside() => {
                Self::Killed { signal, out_of_memory }
            }
            (None, true) => Self::of_memory(0),
            _ => Self::Process(exit.to_string()),
        }
    }

    fn limit(limit: &KernelLimit) -> Self {
        Self::Limit { name: limit.name, shell: limit.shell, allowed: limit.soft() }
    }

    fn next_step(&self) -> &'static str {
        match self {
            Self::Limit { shell, .. } => match *shell {
                "ulimit -n" => {
                    "raise it, as with `ulimit -n 1024`: a pool needs 32, and 16 more for each \
                     worker"
                }
                "ulimit -u" => {
                    "raise it with `ulimit -u`, or the container's limit on processes \
                     (`--pids-limit`): a pool needs 8, and 4 more for each worker"
                }
                "ulimit -v" => {
                    "remove it with `ulimit -v unlimited`: address space is reserved and costs no \
                     memory; what tasks may have is limited by the pool"
                }
                "ulimit -t" => "raise or remove it with `ulimit -t`, where this program is started",
                "ulimit -f" => "raise or remove it with `ulimit -f`, where this program is started",
                _ => "raise or remove it with `ulimit -d`, where this program is started",
            },
            Self::Exhausted(what) => match &**what {
                "memory" => {
                    "give the machine or the container more memory, or use fewer workers and less \
                     memory for each task; it is safe to try again"
                }
                "descriptors" => "raise `fs.file-max`, or close files elsewhere on the machine",
                "space" => "free space on the disk, or name another folder",
                _ => {
                    "raise the container's limit on processes (`--pids-limit`), or \
                     `kernel.threads-max`; it is safe to try again"
                }
            },
            Self::System { path, .. } if path.starts_with("/proc") => {
                "mount it (`mount -t proc proc /proc`), and let this user read and write its own \
                 part"
            }
            Self::System { .. } => {
                "give the container or chroot the usual `/dev`: at least `null`, `zero` and \
                 `urandom`"
            }
            Self::Program { .. } => {
                "it must be a `stockade-worker` or `stockade` of this version, for this machine, \
                 that \
                 this user may execute, on a file system that is not mounted `noexec`"
            }
            Self::Busy { .. } => {
                "try again when the machine has less to do: it is safe to try again"
            }
            Self::Killed { out_of_memory: true, .. } => {
                "the machine or the container is short of memory: use fewer workers, or give it \
                 more; \
                 it is safe to try again"
            }
            Self::Killed { .. } => {
                "somebody ended it, or the machine is short of memory: see the system's log; it is safe to try again"
            }
            // Those of a limit that its process inherited from this one, and named.
            Self::Process(why) if named_errno(why).is_some() => {
                let errno = named_errno(why).unwrap_or_default();
                Self::of(&io::Error::from_raw_os_error(errno)).next_step()
            }
            Self::Process(_) => {
                "try `stockade doctor`; if this happens with one module alone, please report it, \
                 with \
                 the module"
            }
            Self::Refused(_) => {
                "the kernel, or the container's filter of system calls, does not allow it: \
                 `stockade \
                 doctor` tells what this machine has"
            }
        }
    }
}

impl fmt::Display for MachineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit { name, shell, allowed: Some(allowed) } => {
                write!(f, "the limit {name} (`{shell}`) of this process is {allowed}")
            }
            Self::Limit { name, shell, allowed: None } => {
                write!(f, "the limit {name} (`{shell}`) of this process is reached")
            }
            Self::Exhausted(what) => write!(f, "the machine, or its container, has no more {what}"),
            Self::System { path, why } => write!(f, "{} cannot be used: {why}", path.display()),
            Self::Program { path, why } => {
                write!(f, "the worker program {} cannot be executed: {why}", path.display())
            }
            Self::Busy { waited, processor_time } => {
                write!(f, "the machine is too busy: it took longer than {waited:?}")?;
                processor_time.map_or(Ok(()), |time| {
                    write!(f, ", and the process had a processor for {time:.1?} of that")
                })
            }
            Self::Killed { signal, out_of_memory } => {
                let name = crate::outcome::exit::signal_name(*signal);
                let why = if *out_of_memory { ", most likely because memory ran out" } else { "" };
                write!(f, "its process was ended from outside by {name}{why}")
            }
            Self::Process(why) | Self::Refused(why) => f.write_str(why),
        }
    }
}

crate::base::shown::debug_as_text!(MachineError);

/// Checks that this process may make files of so many bytes, memory files among them: a write beyond that
/// ends it by a signal, unless its program has seen to that.
///
/// # Errors
/// [`MachineFault::Limit`]
pub(crate) fn check_file_bytes(task: &str, bytes: u64) -> Result<(), MachineError> {
    let below = MachineFault::file_below(bytes);
    below.map_or(Ok(()), |fault| Err(MachineError { task: task.into(), fault }))
}

/// A limit of the kernel on a process.
struct KernelLimit {
    resource: Resource,
    name: &'static str,
    shell: &'static str,
}

impl KernelLimit {
    const fn new(resource: Resource, name: &'static str, shell: &'static str) -> Self {
        Self { resource, name, shell }
    }

    fn soft(&self) -> Option<u64> {
        soft_limit(self.resource)
    }
}

const DESCRIPTORS: KernelLimit = KernelLimit::new(Resource::Nofile, "RLIMIT_NOFILE", "ulimit -n");
const PROCESSES: KernelLimit = KernelLimit::new(Resource::Nproc, "RLIMIT_NPROC", "ulimit -u");
const ADDRESS_SPACE: KernelLimit = KernelLimit::new(Resource::As, "RLIMIT_AS", "ulimit -v");
const DATA: KernelLimit = KernelLimit::new(Resource::Data, "RLIMIT_DATA", "ulimit -d");
const PROCESSOR_TIME: KernelLimit = KernelLimit::new(Resource::Cpu, "RLIMIT_CPU", "ulimit -t");
const FILE_BYTES: KernelLimit = KernelLimit::new(Resource::Fsize, "RLIMIT_FSIZE", "ulimit -f");

/// As few processes nobody is allowed by default.
const PROCESSES_MANY: u64 = 2048;

fn soft_limit(resource: Resource) -> Option<u64> {
    rustix::process::getrlimit(resource).current
}

/// The number that words name as the standard library shows an error of the system, where it is one of a
/// machine that has no more of something.
fn named_errno(words: &str) -> Option<i32> {
    let (_, behind) = words.rsplit_once("(os error ")?;
    let errno = behind.split(')').next()?.parse().ok()?;
    let is_exhausted = [libc::ENOMEM, libc::EAGAIN, libc::EMFILE, libc::ENFILE].contains(&errno);
    is_exhausted.then_some(errno)
}

/// What the kernel still lets all processes together ask for, in bytes, where it counts that.
fn commit_left() -> Option<u64> {
    const COUNTS: &str = "2";
    let policy = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").ok()?;
    if policy.trim() != COUNTS {
        return None;
    }
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let of = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    Some(of("CommitLimit:")?.saturating_sub(of("Committed_AS:")?).saturating_mul(1024))
}

/// An error that was met at a file.
#[derive(Debug)]
struct At {
    path: PathBuf,
    is_program: bool,
    source: io::Error,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.source)
    }
}

impl Error for At {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// Notes that `error` was met at a file that every system has.
pub(crate) fn at_system_file(path: &str, error: io::Error) -> io::Error {
    let at = At { path: path.into(), is_program: false, source: error };
    io::Error::new(at.source.kind(), at)
}

/// Notes that `error` was met where `program` was to be executed.
pub(crate) fn at_program(program: &Path, error: io::Error) -> io::Error {
    let at = At { path: program.into(), is_program: true, source: error };
    io::Error::new(at.source.kind(), at)
}

fn marked(error: &io::Error) -> Option<&At> {
    let inner = error.get_ref()?;
    match inner.downcast_ref::<io::Error>() {
        Some(inner) => marked(inner),
        None => inner.downcast_ref(),
    }
}

/// The system's number for the error, or for the first of its causes that has one.
fn errno_in(error: &io::Error) -> Option<i32> {
    if let Some(errno) = error.raw_os_error() {
        return Some(errno);
    }
    let mut next: Option<&(dyn Error + 'static)> = error.get_ref().map(|inner| inner as _);
    while let Some(cause) = next {
        match cause.downcast_ref::<io::Error>() {
            Some(cause) => return errno_in(cause),
            None => next = cause.source(),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(errno: i32) -> MachineFault {
        MachineFault::of(&io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn a_limit_is_named_with_what_it_allows_and_how_a_shell_raises_it() {
        let error = MachineError::of("start it", &io::Error::from_raw_os_error(libc::EMFILE));
        let allowed = rustix::process::getrlimit(Resource::Nofile).current.unwrap();
        let expected = format!(
            "cannot start it: the limit RLIMIT_NOFILE (`ulimit -n`) of this process is {allowed}"
        );
        assert_eq!(error.to_string(), expected);
        assert!(error.next_step().contains("ulimit -n 1024"));
        assert!(matches!(fault(libc::EFBIG), MachineFault::Limit { shell: "ulimit -f", .. }));
    }

    #[test]
    fn what_the_machine_has_no_more_of_is_named_and_no_file_is_blamed() {
        for (errno, what) in [(libc::ENFILE, "descriptors"), (libc::ENOSPC, "space")] {
            assert_eq!(fault(errno), MachineFault::Exhausted(what.into()));
            let error = io::Error::from_raw_os_error(errno);
            assert!(MachineError::if_exhausted("read it", &error).is_some());
        }
        for errno in [libc::ENOENT, libc::EACCES, libc::EISDIR, libc::EIO] {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!(MachineError::if_exhausted("read it", &error), None);
        }
    }

    #[test]
    fn a_device_and_a_program_are_named_unless_a_limit_is_in_the_way() {
        let missing = || io::Error::from_raw_os_error(libc::ENOENT);
        let device = MachineFault::of(&at_system_file("/dev/null", missing()));
        assert!(
            matches!(&device, MachineFault::System { path, .. } if path == Path::new("/dev/null"))
        );
        assert!(device.to_string().contains("/dev/null") && device.next_step().contains("/dev"));
        let program = MachineFault::of(&at_program(Path::new("/x"), missing()));
        assert!(matches!(&program, MachineFault::Program { path, .. } if path == Path::new("/x")));
        let full = io::Error::from_raw_os_error(libc::EMFILE);
        let limit = MachineFault::of(&at_system_file("/dev/null", full));
        assert!(matches!(limit, MachineFault::Limit { .. }));
        let within = io::Error::other(at_system_file("/dev/null", missing()));
        assert!(matches!(MachineFault::of(&within), MachineFault::System { .. }));
    }

    #[test]
    fn what_a_process_says_of_the_system_has_that_ones_next_step() {
        let of = |why: &str| MachineFault::Process(why.into()).next_step();
        assert_eq!(of("no pipe: Too many open files (os error 24)"), fault(24).next_step());
        assert_eq!(of("no page: Cannot allocate memory (os error 12) (x)"), fault(12).next_step());
        assert!(of("no file: not found (os error 2)").contains("stockade doctor"));
        assert!(of("(os error x) (os error").contains("stockade doctor"));
    }

    #[test]
    fn an_error_inside_of_others_is_found() {
        let within = io::Error::other(stockade_wire::MappingError::Io(
            io::Error::from_raw_os_error(libc::EMFILE),
        ));
        assert!(matches!(MachineFault::of(&within), MachineFault::Limit { .. }));
        let without = io::Error::other("no number");
        assert_eq!(MachineFault::of(&without), MachineFault::Refused("no number".into()));
    }
}
