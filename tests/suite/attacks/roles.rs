//! 85–87: native code in a template and in a compiler, and templates that must not be.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use stockade::{Layer, Lockdown};
use stockade_tests::escape::{Act, Native};
use stockade_tests::traced::Traced;
use stockade_tests::{
    Folder, RoleProcess, children_of, eventually, is_alive, numbers, template_of, wat_file,
    worker_program,
};
use stockade_wire::Confinement;

use super::escape::{NOT_BY_FILTER, TRIES, on_a_kernel_without};
use super::seen;

#[test]
fn a85_native_code_in_a_template_and_in_a_compiler_dies_of_what_a_worker_dies_of() {
    for (name, act) in TRIES {
        let template = in_template(act);
        if name == NOT_BY_FILTER {
            // A compiler's limits come with its module, see 27 and 28.
            assert_eq!(template, Act::Refused(libc::ENOMEM), "{name}");
            continue;
        }
        let compiler = act(&Traced::seize(RoleProcess::compiler().id()));
        assert_eq!([template, compiler], [const { Act::Killed(libc::SIGSYS) }; 2], "{name}");
        // The last thread of one that has some.
        let compiler = RoleProcess::compiler_with(traceable(Lockdown::default()), 2);
        let thread = *threads_of(&compiler).last().unwrap();
        assert_eq!(act(&Traced::seize(thread)), Act::Killed(libc::SIGSYS), "{name}, in a thread");
    }
    // The first process of the namespace is signalled as little, where the filter cannot tell it from
    // what a clone is to itself.
    let signal = [1, 1, i64::from(libc::SIGABRT)];
    let act = in_template(|it| it.system_call(libc::SYS_tgkill, &signal));
    assert_eq!(act, Act::Refused(libc::EPERM));
    let killed = TRIES.len() - 1;
    seen(
        85,
        &format!(
            "{killed} acts of real native code in each, each killed by SIGSYS; a signal to process 1: an error number"
        ),
    );
}

/// A confinement whose process may be traced by its own user.
fn traceable(lockdown: Lockdown) -> Confinement {
    let lockdown = lockdown.without(Layer::Undumpable);
    Confinement { lockdown, ..Confinement::default() }
}

/// The numbers of a process's threads, the first of which is its own.
fn threads_of(process: &RoleProcess) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
    let number = |thread: std::io::Result<std::fs::DirEntry>| {
        thread.unwrap().file_name().to_str().unwrap().parse().unwrap()
    };
    let mut numbers: Vec<u32> = threads.map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// The filter hides it otherwise: no thread of a compiler has a file or a process of its own either.
#[test]
fn each_thread_of_a_compiler_is_held_by_the_layers_below_the_filter() {
    let open: fn(&dyn Native) -> Act = |it| {
        let path = it.write(b"/proc/self/stat\0");
        it.system_call(libc::SYS_openat, &[i64::from(libc::AT_FDCWD), path, 0])
    };
    let gain: fn(&dyn Native) -> Act = |it| it.system_call(libc::SYS_sethostname, &[0, 0]);
    // As a pool starts processes: those of this thread inherit it.
    rustix::thread::set_no_new_privs(true).unwrap();
    let lockdown = Lockdown::default().without(Layer::Seccomp);
    let compiler = RoleProcess::compiler_with(traceable(lockdown.clone()), 3);
    let threads = threads_of(&compiler);
    assert_eq!(threads.len(), 4);
    for thread in threads {
        let traced = Traced::seize(thread);
        assert_eq!(open(&traced), Act::Refused(libc::EACCES), "Landlock, in {thread}");
        assert_eq!(gain(&traced), Act::Refused(libc::EPERM), "no privileges, in {thread}");
        assert!(matches!(traced.fork(), Act::Refused(libc::EAGAIN)), "a process, of {thread}");
        // What made a page executable would be seen here.
        let page = traced.map(libc::PROT_READ | libc::PROT_WRITE, libc::MAP_ANONYMOUS, -1);
        let Act::Done(page) = page else { panic!("{page:?}") };
        let code = i64::from(libc::PROT_READ | libc::PROT_EXEC);
        let executable = traced.system_call(libc::SYS_mprotect, &[page, 4096, code]);
        assert_eq!(executable, Act::Refused(libc::EACCES), "memory, in {thread}");
    }
    // A check that could not fail would show nothing.
    let compiler = RoleProcess::compiler_with(traceable(lockdown.without(Layer::Landlock)), 3);
    for thread in threads_of(&compiler) {
        assert!(matches!(open(&Traced::seize(thread)), Act::Done(_)), "in {thread}");
    }
}

/// What comes of an act in the template of a host of its own, where nobody else waits for it.
fn in_template(act: impl FnOnce(&dyn Native) -> Act) -> Act {
    let (mut host, _) = host();
    let act = act(&Traced::seize(template_of_host(&host)));
    host.kill().unwrap();
    host.wait().unwrap();
    act
}

#[test]
fn a86_without_the_whole_of_landlock_there_is_no_template() {
    let folder = Folder::new();
    let without = Lockdown::default().without(Layer::Landlock);
    let pools = [
        numbers().lockdown(without),
        numbers().worker_program(on_a_kernel_without(&folder, "landlock")),
    ];
    for builder in pools {
        let pool = builder.max_tasks_per_worker(1).build().unwrap();
        for _ in 0..3 {
            assert_eq!(pool.run::<i32>("add", (3, 4)).unwrap(), 7);
            assert_eq!(template_of(pool.name()), None);
        }
    }
    seen(86, "left off, and refused by the kernel: every worker is started by itself");
}

/// A program with a pool whose two workers spin, and those processes.
fn host() -> (Child, Vec<u32>) {
    let module = wat_file(stockade_tests::TASKS);
    let mut host = Command::new(env!("CARGO_BIN_EXE_host"));
    host.arg("busy").arg(module).env("STOCKADE_WORKER", worker_program());
    let mut host = host.stdout(Stdio::piped()).spawn().unwrap();
    let stdout = BufReader::new(host.stdout.take().unwrap());
    let workers = stdout.lines().take(2).map(|line| line.unwrap().parse().unwrap()).collect();
    (host, workers)
}

fn template_of_host(host: &Child) -> u32 {
    let is_template = |pid: &u32| {
        let title = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        title.starts_with(b"template-of-")
    };
    children_of(host.id()).into_iter().find(is_template).expect("a template")
}

#[test]
fn a87_a_template_and_workers_that_spin_end_with_their_host() {
    let (mut host, workers) = host();
    let template = template_of_host(&host);
    Traced::seize(template).spin();
    assert!(is_alive(template) && workers.iter().all(|pid| is_alive(*pid)));
    host.kill().unwrap();
    host.wait().unwrap();
    for pid in workers.iter().chain([&template]) {
        eventually("the process to be gone", || !is_alive(*pid));
    }
    // One that would not end with its host has ended before.
    let take_off = [i64::from(libc::PR_SET_PDEATHSIG), 0];
    let act = in_template(|it| it.system_call(libc::SYS_prctl, &take_off));
    assert_eq!(act, Act::Killed(libc::SIGSYS));
    seen(
        87,
        "a template and two workers that spin are gone; a template that takes its death signal off: SIGSYS",
    );
}
