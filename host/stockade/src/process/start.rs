//! Starts: a process with nothing but its socket, and what the system tells of one.
//!
//! [`child`] owns the system's part of a start and of an end.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use stockade_wire::{Confinement, Lockdown, Namespaces, Role};

use crate::process::child::{self, Child, Plan, Started};

/// A process as it was started.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) child: Child,
    /// The host's end.
    pub(crate) socket: UnixStream,
    /// What it is to be told first.
    pub(crate) confinement: Confinement,
}

/// Starts `program` in `role`, called `name` in process lists. Blocks until it is executed, about a
/// millisecond. The process ends with the calling *thread* at the latest.
pub(crate) fn start(
    program: &Path,
    role: Role,
    name: &str,
    lockdown: &Lockdown,
) -> io::Result<Process> {
    static HOST: OnceLock<Namespaces> = OnceLock::new();
    let (socket, theirs) = UnixStream::pair()?;
    let argument = role.argument();
    let is_first = role != Role::Template;
    let plan =
        Plan { program, name, argument: &argument, socket: theirs.into(), lockdown, is_first };
    let Started { child, namespaces_refused } = child::spawn(plan)?;
    let host = *HOST.get_or_init(Namespaces::of_this_process);
    let confinement = Confinement { lockdown: lockdown.clone(), host, namespaces_refused };
    Ok(Process { child, socket, confinement })
}

/// How long the process `pid` has had a processor; `None` where it is gone, or the system does not
/// tell.
pub(crate) fn processor_time_of(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // In user mode and in the kernel, the 14th and 15th field, see proc_pid_stat(5). The second is a name
    // in parentheses, which may hold anything.
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()?.saturating_add(ticks()?);
    // SAFETY: asks for a constant of the system; touches no memory.
    let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok()?;
    Some(Duration::from_millis(ticks.saturating_mul(1000).checked_div(per_second)?))
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use stockade_wire::Layer;

    use super::*;
    use crate::process::pidfd::Exit;

    #[test]
    fn processor_time_is_read_of_a_process_that_is_there() {
        assert!(processor_time_of(std::process::id()).is_some());
        assert_eq!(processor_time_of(0), None);
    }

    /// What the shell does as a worker: it writes to descriptor 3.
    fn shell(text: &str, lockdown: &Lockdown) -> (String, Exit) {
        let folder = std::env::temp_dir();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("stockade-shell-{}-{number}", std::process::id()));
        // Written by another process: a descriptor of ours, inherited by a child that another test
        // starts at this moment, would keep the file from being run.
        let write = format!("cat > {0} && chmod +x {0}", path.display());
        let mut writer = std::process::Command::new("/bin/sh")
            .args(["-c", &write])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let text = format!("#!/bin/sh\n{text}\n");
        writer.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(writer.wait().unwrap().success());
        let mut process = start(&path, Role::Worker, "a name", lockdown).unwrap();
        let mut said = String::new();
        process.socket.read_to_string(&mut said).unwrap();
        let status = process.child.wait();
        std::fs::remove_file(path).unwrap();
        (said, status)
    }

    #[test]
    fn a_child_gets_its_socket_and_three_empty_streams_and_nothing_else() {
        let leaked = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: clears close-on-exec of a descriptor that this test owns.
        assert_eq!(unsafe { libc::fcntl(leaked.as_raw_fd(), libc::F_SETFD, 0) }, 0);
        // The shell's own descriptor for its script is 10 or above, and the listing's is its own.
        let (listed, status) = shell("ls /proc/self/fd >&3; env >&3", &Lockdown::default());
        let listed: Vec<_> = listed.split_whitespace().collect();
        assert_eq!(listed[..4], ["0", "1", "2", "3"], "{listed:?}");
        assert_eq!(status.code(), Some(0));
        drop(leaked);
    }

    #[test]
    fn a_child_that_cannot_be_executed_says_why() {
        let lockdown = Lockdown::default();
        let error = start(Path::new("/nonexistent"), Role::Worker, "x", &lockdown).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn exit_codes_of_a_first_process_that_stand_for_signals_are_signals() {
        for (code, signal) in [(134, Some(libc::SIGABRT)), (152, Some(libc::SIGXCPU)), (133, None)]
        {
            let (_, status) = shell(&format!("exit {code}"), &Lockdown::default());
            let in_namespace = cfg!(target_os = "linux") && status.code().is_none();
            assert_eq!(status.signal(), signal.filter(|_| in_namespace), "{code}");
            let lockdown = Lockdown::default().without(Layer::Namespaces);
            assert_eq!(shell(&format!("exit {code}"), &lockdown).1.code(), Some(code));
        }
    }

    #[test]
    fn a_start_costs_the_host_no_page_fault_for_its_memory() {
        const BYTES: usize = 32 << 20;
        const PAGE_BYTES: usize = 4096;
        // SAFETY: memory of this test's own, until the process ends.
        let memory = unsafe {
            let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE);
            let kind = kind | libc::MAP_ANONYMOUS;
            let memory = libc::mmap(std::ptr::null_mut(), BYTES, access, kind, -1, 0);
            assert_ne!(memory, libc::MAP_FAILED);
            libc::madvise(memory, BYTES, libc::MADV_NOHUGEPAGE);
            std::slice::from_raw_parts_mut(memory.cast::<u8>(), BYTES)
        };
        let mut faults_of_writing = || {
            let faults = || {
                // SAFETY: plain numbers, which the call writes.
                unsafe {
                    let mut usage: libc::rusage = std::mem::zeroed();
                    assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage), 0);
                    usage.ru_minflt
                }
            };
            let before = faults();
            memory.iter_mut().step_by(PAGE_BYTES).for_each(|byte| *byte += 1);
            usize::try_from(faults() - before).unwrap()
        };
        let pages = BYTES / PAGE_BYTES;
        assert!(faults_of_writing() >= pages, "these faults can be counted");
        let cat = Path::new("/bin/cat");
        let mut process = start(cat, Role::Worker, "cat", &Lockdown::default()).unwrap();
        let faults = faults_of_writing();
        process.child.kill();
        process.child.wait();
        assert!(faults < pages / 2, "{faults} of {pages} pages");
    }

    #[test]
    fn under_the_usual_filter_of_a_container_a_process_starts_without_namespaces() {
        /// Flags of `clone` that make namespaces.
        const NAMESPACES: u32 = 0x7e02_0000;
        let refuse = |errno: libc::c_int| libc::SECCOMP_RET_ERRNO | errno.unsigned_abs();
        // As an engine for containers has it: namespaces are refused to `clone`, and because a filter
        // cannot see the flags of `clone3`, it does not exist.
        // SAFETY: these make plain structures.
        let filter = unsafe {
            let load = |at: usize| {
                let code = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
                libc::BPF_STMT(code as u16, at as u32)
            };
            let jump = |kind: u32, to: u32, then: u8, otherwise: u8| {
                let code = libc::BPF_JMP | kind | libc::BPF_K;
                libc::BPF_JUMP(code as u16, to, then, otherwise)
            };
            let end = |action: u32| libc::BPF_STMT((libc::BPF_RET | libc::BPF_K) as u16, action);
            [
                load(std::mem::offset_of!(libc::seccomp_data, nr)),
                jump(libc::BPF_JEQ, libc::SYS_clone3 as u32, 5, 0),
                jump(libc::BPF_JEQ, libc::SYS_clone as u32, 0, 2),
                load(std::mem::offset_of!(libc::seccomp_data, args)),
                jump(libc::BPF_JSET, NAMESPACES, 1, 0),
                end(libc::SECCOMP_RET_ALLOW),
                end(refuse(libc::EPERM)),
                end(refuse(libc::ENOSYS)),
            ]
        };
        // In a thread of its own: filters stay.
        let contained = std::thread::spawn(move || {
            let program =
                libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
            // SAFETY: the program outlives the call, and says how long it is.
            unsafe {
                assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
                let mode = libc::SECCOMP_MODE_FILTER;
                assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program), 0);
            }
            let program = Path::new("/bin/true");
            let mut process = start(program, Role::Worker, "true", &Lockdown::default()).unwrap();
            assert_eq!(process.child.wait().code(), Some(0));
            process.confinement.namespaces_refused
        });
        let refused = contained.join().unwrap();
        assert!(refused.is_some_and(|why| why.contains("Operation not permitted")));
    }

    #[test]
    fn a_handler_of_the_host_never_runs_in_a_child() {
        static STRANGERS: AtomicU32 = AtomicU32::new(0);
        static HOST: AtomicU32 = AtomicU32::new(0);
        extern "C" fn handler(_: libc::c_int) {
            // A child would count in this memory, which it shares.
            if std::process::id() != HOST.load(Ordering::Relaxed) {
                STRANGERS.fetch_add(1, Ordering::Relaxed);
            }
        }
        HOST.store(std::process::id(), Ordering::Relaxed);
        // Nothing but this handler takes notice of this signal.
        let signal = libc::SIGURG;
        // SAFETY: the handler does nothing but atomic operations, and stays.
        unsafe { libc::signal(signal, handler as *const () as libc::sighandler_t) };
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    // SAFETY: a system call on plain numbers. It reaches this process's group, of
                    // which a child is too at first.
                    unsafe { libc::kill(0, signal) };
                }
            });
            let started = (0..50).try_for_each(|_| {
                let cat = Path::new("/bin/cat");
                let mut process = start(cat, Role::Worker, "cat", &Lockdown::default())?;
                process.child.kill();
                process.child.wait();
                Ok::<_, io::Error>(())
            });
            // Before anything may panic: the scope waits for the other thread.
            is_over.store(true, Ordering::Relaxed);
            started.unwrap();
        });
        assert_eq!(STRANGERS.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_killed_child_is_waited_for_once() {
        let mut process =
            start(Path::new("/bin/cat"), Role::Worker, "cat", &Lockdown::default()).unwrap();
        process.child.kill();
        let status = process.child.wait();
        assert!(status.signal() == Some(libc::SIGKILL) || status.code().is_some());
        process.child.kill();
        assert_eq!(process.child.wait(), status);
    }
}
