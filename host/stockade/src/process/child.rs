//! One child process: how it is cloned into namespaces of its own, and how it ends.
//!
//! ```text
//! host                                  child
//!   clone3(namespaces) ───────────────►   identity map, streams, socket, session, death signal
//!   read(failure) … end of file ◄───────  execve: closes the failure pipe
//!                 … a step, an errno ◄──  or says which step failed, and exits
//! ```
//!
//! The standard library starts processes too, but in no namespaces, and a process that enters them
//! by itself cannot be the first of its process namespace.
//!
//! Invariant: between clone and exec the child makes system calls on what was prepared before, and
//! nothing else: it allocates nothing, takes no lock and cannot panic.
#![allow(unsafe_code)]

mod adopted;

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use stockade_wire::{Layer, Lockdown, SOCKET_DESCRIPTOR};

use adopted::living;
pub(super) use adopted::{end_strays, users_of};

/// Descriptors of the child that must not be in the way of those it is to have.
const DESCRIPTOR_MIN: libc::c_int = 10;

const OWN_KERNEL_OBJECTS: u64 =
    (libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::CLONE_NEWIPC) as u64;
const OWN_USERS: u64 = libc::CLONE_NEWUSER as u64;

/// Which namespaces are tried, best first. Root needs no user namespace to make the others, and
/// enters one by itself later; for anybody else it is what allows the others.
const OF_ROOT: &[u64] = &[OWN_KERNEL_OBJECTS, OWN_KERNEL_OBJECTS | OWN_USERS, 0];
const OF_OTHERS: &[u64] = &[OWN_KERNEL_OBJECTS | OWN_USERS, 0];

/// Signals that end no process which is the first of its namespace, because nothing in there may
/// signal it. Our programs then exit with 128 and the signal's number.
const SIGNALS_OF_FIRST: [libc::c_int; 3] = [libc::SIGABRT, libc::SIGXCPU, libc::SIGXFSZ];

/// A child. Dropping it neither ends nor awaits it.
#[derive(Debug)]
pub(crate) struct Child {
    pid: libc::pid_t,
    /// Known once it was waited for; from then on its number may be another's.
    status: Option<ExitStatus>,
    is_first: bool,
}

/// What a child is started with.
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

/// What became of a start.
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

    /// Kills it, unless it was waited for.
    pub(crate) fn kill(&mut self) {
        if self.status.is_none() {
            // SAFETY: a system call on plain numbers. The process was not waited for, so the number
            // is still its own.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
        }
    }

    /// Whether it has ended, without waiting for that.
    pub(crate) fn has_ended(&self) -> bool {
        self.status.is_some() || adopted::is_ended(self.id()).unwrap_or(true)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Where somebody else has waited for it.
    pub(crate) fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let mut raw = 0;
        // SAFETY: `raw` outlives the call, which writes one integer to it.
        while unsafe { libc::waitpid(self.pid, &mut raw, 0) } < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                living().remove(&self.pid);
                return Err(error);
            }
        }
        living().remove(&self.pid);
        let status = self.as_signal(ExitStatus::from_raw(raw));
        self.status = Some(status);
        Ok(status)
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
/// Where the system has no process or descriptor left, or the program cannot be executed.
pub(super) fn spawn(plan: Plan<'_>) -> io::Result<Started> {
    /// The first choice that worked: what the machine refuses once it refuses again.
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
    // Those before the remembered one are asked once more only to say why they are refused.
    let from = if remembered == 0 { 0 } else { remembered - 1 };
    for (index, namespaces) in choices.iter().enumerate().skip(from) {
        let kept = if plan.is_first { u64::MAX } else { !(libc::CLONE_NEWPID as u64) };
        let namespaces = namespaces & kept;
        match prepared.clone_into(namespaces) {
            Ok(pid) => {
                living().insert(pid);
                CHOICE.store(index, Ordering::Relaxed);
                let is_first = namespaces & libc::CLONE_NEWPID as u64 != 0;
                let mut child = Child { pid, status: None, is_first };
                drop(plan.socket);
                prepared.await_exec(&mut child)?;
                return Ok(Started { child, namespaces_refused: refused });
            }
            Err(error) if index + 1 == choices.len() => return Err(error),
            Err(error) => refused = Some(format!("the system refuses them: {error}")),
        }
    }
    Err(io::ErrorKind::Unsupported.into())
}

/// All that the child needs, made before there is one.
struct Prepared {
    program: CString,
    argv: [CString; 2],
    socket: OwnedFd,
    /// For the three streams.
    null: OwnedFd,
    failure_in: OwnedFd,
    failure_out: OwnedFd,
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
        let [failure_in, failure_out] = pipe()?;
        Ok(Self {
            program: text(plan.program.as_os_str().as_bytes())?,
            argv: [text(plan.name.as_bytes())?, text(plan.argument.as_bytes())?],
            socket: out_of_the_way(&plan.socket)?,
            null: out_of_the_way(&File::options().read(true).write(true).open("/dev/null")?)?,
            failure_out: out_of_the_way(&failure_out)?,
            failure_in,
            host: own_pidfd()?,
            user_map: text(format!("{user} {user} 1").as_bytes())?,
            group_map: text(format!("{group} {group} 1").as_bytes())?,
            no_new_privs: plan.lockdown.is_wanted(Layer::NoNewPrivs),
            death_signal: plan.lockdown.is_wanted(Layer::ParentDeath),
            session: plan.lockdown.is_wanted(Layer::Session),
            shares_stderr: plan.lockdown.explains_violations(),
        })
    }

    /// Clones this process; in the child, never returns.
    fn clone_into(&self, namespaces: u64) -> io::Result<libc::pid_t> {
        let argv = [self.argv[0].as_ptr(), self.argv[1].as_ptr(), ptr::null()];
        let mut arguments = libc::clone_args {
            flags: namespaces,
            pidfd: 0,
            child_tid: 0,
            parent_tid: 0,
            exit_signal: libc::SIGCHLD as u64,
            stack: 0,
            stack_size: 0,
            tls: 0,
            set_tid: 0,
            set_tid_size: 0,
            cgroup: 0,
        };
        // No handler of this program may run in the child.
        let unblocked = block_signals();
        // SAFETY: without CLONE_VM the child has memory and a stack of its own, as after fork. It
        // goes on in `Prepared::become_program`, which only makes system calls.
        let pid = unsafe {
            libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>())
        };
        if pid == 0 {
            self.become_program(namespaces & OWN_USERS != 0, &argv);
        }
        let cloned = if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) };
        restore_signals(&unblocked);
        Ok(libc::pid_t::try_from(cloned?).unwrap_or(libc::pid_t::MAX))
    }

    /// The child's part.
    fn become_program(&self, has_own_users: bool, argv: &[*const libc::c_char; 3]) -> ! {
        let environment: [*const libc::c_char; 1] = [ptr::null()];
        let step = match self.set_up(has_own_users) {
            Err(step) => step,
            Ok(()) => {
                // SAFETY: NUL-terminated strings and arrays that end with a null pointer, all alive.
                unsafe { libc::execve(self.program.as_ptr(), argv.as_ptr(), environment.as_ptr()) };
                Step::Execute
            }
        };
        // SAFETY: reads the number of the last failure; writes two integers that live on this
        // stack; ends this process and no other.
        unsafe {
            let failure = [step as i32, *libc::__errno_location()];
            libc::write(self.failure_out.as_raw_fd(), failure.as_ptr().cast(), 8);
            libc::_exit(127)
        }
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
            // As any program expects to find them; Rust's own runtime ignores broken pipes.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            restore_signals(&empty_signals());
        }
        Ok(())
    }

    /// Waits until the child is its program, or hears why it is not and waits for its end.
    fn await_exec(self, child: &mut Child) -> io::Result<()> {
        drop(self.failure_out);
        let mut said = [0; 8];
        let mut heard = 0;
        let mut failure = File::from(self.failure_in);
        while heard < said.len() {
            match failure.read(&mut said[heard..]) {
                Ok(0) => break,
                Ok(count) => heard += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if heard < said.len() {
            return Ok(());
        }
        child.kill();
        let _ = child.wait();
        let [step, errno] = [0, 4]
            .map(|at| i32::from_ne_bytes([said[at], said[at + 1], said[at + 2], said[at + 3]]));
        let error = io::Error::from_raw_os_error(errno);
        match Step::name(step) {
            // As the standard library has it: callers ask for the kind.
            None => Err(error),
            Some(name) => Err(io::Error::new(error.kind(), format!("cannot {name}: {error}"))),
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
    fn name(step: i32) -> Option<&'static str> {
        Some(match step {
            1 => "map its user",
            2 => "place its descriptors",
            3 => "forbid it new privileges",
            4 => "bind its life to the host's",
            5 => "give it a session",
            6 => "change its folder",
            _ => return None,
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

/// A pipe for the word of a child that fails.
fn pipe() -> io::Result<[OwnedFd; 2]> {
    let mut ends: [RawFd; 2] = [-1; 2];
    // SAFETY: the call writes two descriptors to `ends`, which nobody else knows of.
    unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(ends.map(|end| OwnedFd::from_raw_fd(end)))
    }
}

/// The same file under a number that is in nobody's way.
fn out_of_the_way(file: &impl AsRawFd) -> io::Result<OwnedFd> {
    // SAFETY: duplicates a descriptor that the caller holds; the new one is nobody else's.
    unsafe {
        let moved = libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, DESCRIPTOR_MIN);
        if moved < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(moved)) }
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

/// Blocks every signal in this thread; answers which were blocked before.
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
