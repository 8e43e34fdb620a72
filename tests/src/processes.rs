//! A pool's processes and threads in the system's tables.
//!
//! Tests run side by side in one process, so nothing here looks at all of its children: a pool's
//! workers and threads are told by the pool's name, a compiler by the thread that started it.
#![allow(unsafe_code)]

use std::fs;
use std::os::fd::AsRawFd;

/// Whether a process of that number is alive and no zombie.
pub fn is_alive(pid: u32) -> bool {
    state_of(pid).is_some_and(|state| state != 'Z')
}

/// Whether a process of that number is neither alive nor a zombie.
pub fn is_gone(pid: u32) -> bool {
    state_of(pid).is_none()
}

fn state_of(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

/// Processes whose name, as in a process list, begins with `name` and a dash.
pub fn processes_named(name: &str) -> Vec<u32> {
    let prefix = format!("{name}-");
    let entries = fs::read_dir("/proc").expect("/proc is there");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with(prefix.as_bytes())
        })
        .collect()
}

/// The template of the pool of that name, if it has one.
pub fn template_of(pool: &str) -> Option<u32> {
    let title = format!("template-of-{pool}\0");
    let entries = fs::read_dir("/proc").expect("/proc is there");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.into_iter().find(|pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(title.as_bytes())
    })
}

/// Children that the calling thread started and that were not waited for.
pub fn own_children() -> Vec<u32> {
    let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Threads of this process whose names begin with `name` and a dash.
pub fn threads_named(name: &str) -> usize {
    let prefix = format!("{name}-");
    thread_names().filter(|name| name.starts_with(&prefix)).count()
}

/// Names of this process's threads, without those that are ending: a thread that was joined has run
/// its last code, and is listed until the kernel has taken it down, which waits for others that
/// change this process's memory.
pub(crate) fn thread_names() -> impl Iterator<Item = String> {
    /// `PF_EXITING` of the kernel's `include/linux/sched.h`.
    const EXITING: u32 = 4;
    let threads = fs::read_dir("/proc/self/task").expect("/proc is there");
    threads.filter_map(|thread| {
        let stat = fs::read_to_string(thread.ok()?.path().join("stat")).ok()?;
        // The name may hold anything. The flags are the seventh word behind it, see proc_pid_stat(5).
        let (head, behind) = stat.rsplit_once(')')?;
        let (_, name) = head.split_once('(')?;
        let flags = behind.split_whitespace().nth(6)?.parse::<u32>().ok()?;
        (flags & EXITING == 0).then(|| name.to_owned())
    })
}

/// Descriptors that a process has open, and to what.
pub fn descriptors_of(pid: u32) -> Vec<(i32, String)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let target = fs::read_link(entry.path()).ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, target.display().to_string()))
        })
        .collect()
}

/// Lets children inherit a descriptor, as a careless library would; says its number.
pub fn make_inheritable(file: &fs::File) -> i32 {
    let descriptor = file.as_raw_fd();
    // SAFETY: clears a flag of a descriptor that the caller owns; touches no memory.
    assert_eq!(unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) }, 0);
    descriptor
}

/// Kills a process for good.
pub fn kill(pid: u32) {
    signal(pid, libc::SIGKILL);
}

/// Stops a process: it is alive and does nothing.
pub fn stop_process(pid: u32) {
    signal(pid, libc::SIGSTOP);
}

/// Lets a stopped process go on.
pub fn continue_process(pid: u32) {
    signal(pid, libc::SIGCONT);
}

/// Lets the system give a process no more private memory. Not by its address space: where a mapping
/// does not fit into what that leaves, Linux lets it become writable beyond any limit.
pub fn starve(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).expect("a process number");
    let none = rustix::process::Rlimit { current: Some(4096), maximum: Some(4096) };
    let resource = rustix::process::Resource::Data;
    rustix::process::prlimit(Some(pid), resource, none).expect("a worker of ours");
}

fn signal(pid: u32, signal: i32) {
    let pid = libc::pid_t::try_from(pid).expect("a process number");
    assert!(pid > 1, "not one process");
    // SAFETY: sends a signal to one process, a worker that the test saw alive; touches no memory.
    unsafe { libc::kill(pid, signal) };
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_is_counted_as_long_as_it_runs() {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let (begin, begun) = std::sync::mpsc::channel();
        let work = move || {
            begin.send(()).unwrap();
            assert!(ended.recv().is_err());
        };
        let thread = thread::Builder::new().name("a) 1 (b-2".into()).spawn(work).unwrap();
        begun.recv().unwrap();
        assert_eq!((threads_named("a) 1 (b"), threads_named("a")), (1, 0));
        drop(end);
        thread.join().unwrap();
        assert_eq!(threads_named("a) 1 (b"), 0);
    }
}
