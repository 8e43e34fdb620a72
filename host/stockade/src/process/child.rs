//! One child process: how it is cloned into namespaces of its own, and how it ends.
//!
//! ```text
//! host                                  child, in the host's memory
//!   clone(namespaces) ────────────────►   identity map, streams, socket, session, death signal
//!       … the thread waits … ◄──────────  execve: memory of its own
//!       … a step, an errno ◄────────────  or notes which step failed, and exits
//! ```
//!
//! The standard library cannot start processes in namespaces, and a process that enters them by
//! itself cannot be the first of its process namespace.
//!
//! Until it is its program the child shares the host's memory, as after vfork(2): a copy of a
//! gigabyte's page tables, and a fault of the host for each page that it writes next, take longer
//! than the whole start.
//!
//! Invariant: between clone and exec the child makes system calls on what was prepared before, and
//! nothing else: it allocates nothing, takes no lock, cannot panic, and runs no handler of a signal.
#![allow(unsafe_code)]

mod adopted;

use std::cell::Cell;
use std::ffi::{CStr, CString, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use stockade_wire::{Layer, Lockdown, SOCKET_DESCRIPTOR};

use crate::outcome::machine;
use crate::process::pidfd::{Exit, Pidfd};
pub(super) use adopted::{end_strays, users_of};

/// Descriptors of the child that must not be in the way of those it is to have.
const DESCRIPTOR_MIN: libc::c_int = 10;

/// The child's stack until it is its program, in units of its alignment: 64 KiB, far more than its
/// few calls take.
const STACK_UNITS: usize = (64 << 10) / size_of::<u128>();

const OWN_KERNEL_OBJECTS: libc::c_int =
    libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::CLONE_NEWIPC;
const OWN_USERS: libc::c_int = libc::CLONE_NEWUSER;

/// Sets of namespaces to try, best first. Root needs no user namespace to make the others, and
/// enters one by itself later; other users need one for the others.
const OF_ROOT: &[libc::c_int] = &[OWN_KERNEL_OBJECTS, OWN_KERNEL_OBJECTS | OWN_USERS, 0];
const OF_OTHERS: &[libc::c_int] = &[OWN_KERNEL_OBJECTS | OWN_USERS, 0];

/// Signals that end no process which is the first of its namespace, because nothing in there may
/// signal it. Our programs then exit with 128 and the signal's number.
const SIGNALS_OF_FIRST: [libc::c_int; 3] = [libc::SIGABRT, libc::SIGXCPU, libc::SIGXFSZ];

/// A child. Dropping it neither ends nor awaits it.
#[derive(Debug)]
pub(crate) struct Child {
    /// For messages. After the child was reaped, here or elsewhere, it may be another process's.
    pid: libc::pid_t,
    pidfd: Arc<Pidfd>,
    /// Known once it was waited for.
    exit: Option<Exit>,
    is_first: bool,
}

/// The parameters of a start.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) program: &'a Path,
    /// The name it sees first among its arguments.
    pub(super) name: &'a str,
    pub(super) argument: &'a str,
    /// The child's end of its socket.
    pub(super) socket: OwnedFd,
    pub(super) lockdown: &'a Lockdown,
    /// Whether it is the first of a process namespace, where there are namespaces.
    pub(super) is_first: bool,
}

/// The result of a start.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) child: Child,
    /// Why there are no namespaces, or not all.
    pub(super) namespaces_refused: Option<String>,
}

impl Child {
    /// Its process id, in the host's namespace.
    pub(crate) fn id(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Kills it, if it is there.
    pub(crate) fn kill(&self) {
        self.pidfd.kill();
    }

    /// Whether it has ended, without waiting for that.
    pub(crate) fn has_ended(&self) -> bool {
        self.pidfd.has_ended()
    }

    /// Blocks until it has ended or the time has passed; returns whether it has ended.
    pub(crate) fn ends_within(&self, patience: Duration) -> bool {
        self.pidfd.ends_within(patience)
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> Exit {
        if let Some(exit) = self.exit {
            return exit;
        }
        let exit = match self.pidfd.wait() {
            Exit::Status(status) => Exit::Status(self.as_signal(status)),
            Exit::Unknown => Exit::Unknown,
        };
        adopted::forget(self.pid, &self.pidfd);
        self.exit = Some(exit);
        exit
    }

    /// The signal that an exit code stands for.
    fn as_signal(&self, status: ExitStatus) -> ExitStatus {
        let is_meant = |signal: &libc::c_int| status.code() == Some(128 + signal);
        match SIGNALS_OF_FIRST.iter().find(|signal| self.is_first && is_meant(signal)) {
            Some(signal) => ExitStatus::from_raw(*signal),
            None => status,
        }
    }
}

/// Starts a child. Blocks until it has executed its program, about a millisecond.
///
/// # Errors
/// If the system has no process or descriptor left, or the program cannot be executed.
pub(super) fn spawn(plan: Plan<'_>) -> io::Result<Started> {
    /// The first set that worked: what the machine refuses once it refuses again.
    static CHOICE: AtomicUsize = AtomicUsize::new(0);

    // SAFETY: asks for a number.
    let user = unsafe { libc::geteuid() };
    let choices = match (plan.lockdown.is_wanted(Layer::Namespaces), user) {
        (false, _) => &[0],
        (true, 0) => OF_ROOT,
        (true, _) => OF_OTHERS,
    };
    let prepared = Prepared::new(&plan, user)?;
    let mut refused = None;
    let remembered = CHOICE.load(Ordering::Relaxed).min(choices.len() - 1);
    // Earlier sets are tried again only for the reason of the refusal.
    let from = if remembered == 0 { 0 } else { remembered - 1 };
    for (index, namespaces) in choices.iter().enumerate().skip(from) {
        let kept = if plan.is_first { !0 } else { !libc::CLONE_NEWPID };
        let namespaces = namespaces & kept;
        match prepared.clone_into(namespaces) {
            Ok((pid, pidfd, failure)) => {
                adopted::note(pid, &pidfd);
                let is_first = namespaces & libc::CLONE_NEWPID != 0;
                let mut child = Child { pid, pidfd, exit: None, is_first };
                let Some(failure) = failure else {
                    CHOICE.store(index, Ordering::Relaxed);
                    return Ok(Started { child, namespaces_refused: refused });
                };
                child.kill();
                child.wait();
                match failure.step {
                    // Namespaces that it could be made in, but not used: of its parent's root only one
                    // may map itself that has CAP_SETFCAP.
                    Step::Users if index + 1 < choices.len() => {
                        let why = io::Error::from(failure);
                        refused = Some(format!("the system refuses them: {why}"));
                    }
                    Step::Execute => return Err(machine::at_program(plan.program, failure.into())),
                    _ => return Err(failure.into()),
                }
            }
            Err(error) if index + 1 == choices.len() => return Err(error),
            Err(error) => refused = Some(format!("the system refuses them: {error}")),
        }
    }
    Err(io::ErrorKind::Unsupported.into())
}

/// All that the child needs, prepared before it exists.
struct Prepared {
    program: CString,
    argv: [CString; 2],
    socket: OwnedFd,
    /// For the three streams.
    null: OwnedFd,
    /// Tells whether the host still lives.
    host: OwnedFd,
    /// Maps the user to itself in a user namespace.
    user_map: CString,
    group_map: CString,
    no_new_privs: bool,
    death_signal: bool,
    session: bool,
    shares_stderr: bool,
}

impl Prepared {
    fn new(plan: &Plan<'_>, user: libc::uid_t) -> io::Result<Self> {
        let text = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::from);
        // SAFETY: asks for a number.
        let group = unsafe { libc::getegid() };
        Ok(Self {
            program: text(plan.program.as_os_str().as_bytes())?,
            argv: [text(plan.name.as_bytes())?, text(plan.argument.as_bytes())?],
            socket: out_of_the_way(&plan.socket)?,
            null: out_of_the_way(&null_device()?)?,
            host: own_pidfd()?,
            user_map: text(format!("{user} {user} 1").as_bytes())?,
            group_map: text(format!("{group} {group} 1").as_bytes())?,
            no_new_privs: plan.lockdown.is_wanted(Layer::NoNewPrivs),
            death_signal: plan.lockdown.is_wanted(Layer::ParentDeath),
            session: plan.lockdown.is_wanted(Layer::Session),
            shares_stderr: plan.lockdown.explains_violations(),
        })
    }

    /// Clones this process, and waits until the clone is its program or has failed to become it.
    fn clone_into(
        &self,
        namespaces: libc::c_int,
    ) -> io::Result<(libc::pid_t, Arc<Pidfd>, Option<Failure>)> {
        let birth = Birth {
            prepared: self,
            has_own_users: namespaces & OWN_USERS != 0,
            failure: Cell::new(None),
        };
        let mut stack = Box::<[u128]>::new_uninit_slice(STACK_UNITS);
        let top = stack.as_mut_ptr_range().end.cast();
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
        let mut pidfd: RawFd = -1;
        // No handler of this program may run in the child.
        let unblocked = block_signals();
        // SAFETY: the stack grows down from its aligned end and is the child's alone. It and `birth`
        // outlive the child's use of them, because this thread goes on only once the child has its
        // own memory or is gone; so nothing that the child reads changes, and no two write. The kernel
        // writes the descriptor's number before there is a child, and gives it to this process alone.
        let cloned = unsafe {
            let birth = (&raw const birth) as *mut c_void;
            match libc::clone(become_program, top, flags | namespaces, birth, &raw mut pidfd) {
                pid if pid < 0 => Err(io::Error::last_os_error()),
                pid => Ok((pid, OwnedFd::from_raw_fd(pidfd))),
            }
        };
        restore_signals(&unblocked);
        let (pid, pidfd) = cloned?;
        Ok((pid, Arc::new(Pidfd::from(pidfd)), birth.failure.get()))
    }

    fn set_up(&self, has_own_users: bool) -> Result<(), Step> {
        fn check(result: libc::c_int, step: Step) -> Result<(), Step> {
            if result < 0 { Err(step) } else { Ok(()) }
        }
        if has_own_users {
            // Groups cannot be mapped while they could be dropped.
            write_to(c"/proc/self/setgroups", c"deny", Step::Users)?;
            write_to(c"/proc/self/uid_map", &self.user_map, Step::Users)?;
            write_to(c"/proc/self/gid_map", &self.group_map, Step::Users)?;
        }
        // SAFETY: each of these is a system call on plain numbers, or on memory of this stack.
        unsafe {
            let null = self.null.as_raw_fd();
            for stream in 0..if self.shares_stderr { 2 } else { 3 } {
                check(libc::dup2(null, stream), Step::Descriptors)?;
            }
            check(libc::dup2(self.socket.as_raw_fd(), SOCKET_DESCRIPTOR), Step::Descriptors)?;
            // Nothing that this program left open without close-on-exec reaches a worker.
            let first = SOCKET_DESCRIPTOR as libc::c_uint + 1;
            let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
            check(libc::close_range(first, libc::c_uint::MAX, flags), Step::Descriptors)?;
            if self.no_new_privs {
                check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), Step::NoNewPrivs)?;
            }
            if self.death_signal {
                check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), Step::DeathSignal)?;
                // The host may have died before: its number is of no use in another namespace.
                let mut host =
                    libc::pollfd { fd: self.host.as_raw_fd(), events: libc::POLLIN, revents: 0 };
                if libc::poll(&raw mut host, 1, 0) > 0 {
                    return Err(Step::DeathSignal);
                }
            }
            if self.session {
                // The terminal's Ctrl-C is for the host to answer.
                check(libc::setsid(), Step::Session)?;
            }
            check(libc::chdir(c"/".as_ptr()), Step::Folder)?;
            forget_handlers();
            // As any program expects to find them; Rust's own runtime ignores broken pipes, and the
            // host may ignore its children's ends.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            restore_signals(&empty_signals());
        }
        Ok(())
    }
}

/// A child's parameters, and its error.
struct Birth<'a> {
    prepared: &'a Prepared,
    has_own_users: bool,
    failure: Cell<Option<Failure>>,
}

/// The child's part. Returns only if it failed, which ends the child.
extern "C" fn become_program(birth: *mut c_void) -> libc::c_int {
    // SAFETY: `Prepared::clone_into` passes one that lives as long as the child uses it, and whose
    // other owner waits meanwhile.
    let birth = unsafe { &*birth.cast::<Birth<'_>>() };
    let prepared = birth.prepared;
    let argv = [prepared.argv[0].as_ptr(), prepared.argv[1].as_ptr(), ptr::null()];
    let environment: [*const libc::c_char; 1] = [ptr::null()];
    let step = match prepared.set_up(birth.has_own_users) {
        Err(step) => step,
        Ok(()) => {
            // SAFETY: NUL-terminated strings and arrays that end with a null pointer, all alive.
            unsafe {
                libc::execve(prepared.program.as_ptr(), argv.as_ptr(), environment.as_ptr());
            }
            Step::Execute
        }
    };
    // SAFETY: reads the number of the last failure, which is the waiting thread's and so only ours.
    let errno = unsafe { *libc::__errno_location() };
    birth.failure.set(Some(Failure { step, errno }));
    127
}

/// Why a child did not become its program.
#[derive(Clone, Copy)]
struct Failure {
    step: Step,
    errno: libc::c_int,
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        let error = Self::from_raw_os_error(failure.errno);
        match failure.step.name() {
            // As the standard library has it: callers ask for the kind.
            None => error,
            Some(name) => Self::new(error.kind(), format!("cannot {name}: {error}")),
        }
    }
}

/// Steps of a child on its way.
#[derive(Clone, Copy)]
enum Step {
    Execute,
    Users,
    Descriptors,
    NoNewPrivs,
    DeathSignal,
    Session,
    Folder,
}

impl Step {
    /// What a step other than the last was to do.
    fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::Execute => return None,
            Self::Users => "map its user",
            Self::Descriptors => "place its descriptors",
            Self::NoNewPrivs => "forbid it new privileges",
            Self::DeathSignal => "bind its life to the host's",
            Self::Session => "give it a session",
            Self::Folder => "change its folder",
        })
    }
}

fn write_to(path: &CStr, text: &CStr, step: Step) -> Result<(), Step> {
    // SAFETY: system calls on NUL-terminated strings, and on a descriptor of this function's own.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file < 0 {
            return Err(step);
        }
        let length = text.count_bytes();
        let written = libc::write(file, text.as_ptr().cast(), length);
        libc::close(file);
        if usize::try_from(written) == Ok(length) { Ok(()) } else { Err(step) }
    }
}

fn null_device() -> io::Result<File> {
    const NULL: &str = "/dev/null";
    let opened = File::options().read(true).write(true).open(NULL);
    // A file of that name would keep what processes write to it.
    let device = opened.and_then(|file| match file.metadata()?.file_type().is_char_device() {
        true => Ok(file),
        false => Err(io::Error::other("it is no device")),
    });
    device.map_err(|error| machine::at_system_file(NULL, error))
}

/// The same file under a number that is in nobody's way.
fn out_of_the_way(file: &impl AsRawFd) -> io::Result<OwnedFd> {
    // SAFETY: duplicates a descriptor that the caller holds; the new one is nobody else's.
    unsafe {
        let moved = libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, DESCRIPTOR_MIN);
        match moved {
            // Such a number is beyond the limit on descriptors.
            ..0 if io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) => {
                Err(io::Error::from_raw_os_error(libc::EMFILE))
            }
            ..0 => Err(io::Error::last_os_error()),
            _ => Ok(OwnedFd::from_raw_fd(moved)),
        }
    }
}

/// Whether there is something to read, the end included.
pub(super) fn is_readable(file: &impl AsRawFd) -> bool {
    let mut polled = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: the structure outlives the call, which does not wait.
    unsafe { libc::poll(&raw mut polled, 1, 0) > 0 }
}

/// A descriptor of this very process, readable once it is dead.
pub(super) fn own_pidfd() -> io::Result<OwnedFd> {
    // SAFETY: system calls on plain numbers; the descriptor is nobody else's.
    unsafe {
        let pidfd = libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0);
        let pidfd = RawFd::try_from(pidfd).unwrap_or(-1);
        if pidfd < 0 {
            return Err(io::Error::last_os_error());
        }
        let pidfd = OwnedFd::from_raw_fd(pidfd);
        out_of_the_way(&pidfd)
    }
}

fn empty_signals() -> libc::sigset_t {
    // SAFETY: a set of signals is plain bits, which the call sets.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        set
    }
}

/// Blocks every signal in this thread; returns the earlier mask.
fn block_signals() -> libc::sigset_t {
    let mut before = empty_signals();
    let mut all = empty_signals();
    // SAFETY: both sets outlive the calls.
    unsafe {
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
    }
    before
}

fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: the set outlives the call.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, ptr::null_mut()) };
}

/// Resets every signal handler to its default: a handler is this program's code, and would run in
/// its memory.
fn forget_handlers() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: a plain structure that the calls read and write. The C library refuses signals of
        // its own, which it sends to its own threads alone.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let is_known = libc::sigaction(signal, ptr::null(), &raw mut action) == 0;
            if is_known && ![libc::SIG_DFL, libc::SIG_IGN].contains(&action.sa_sigaction) {
                action.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &raw const action, ptr::null_mut());
            }
        }
    }
}
