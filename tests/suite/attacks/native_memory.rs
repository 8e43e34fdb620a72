//! 84: memory of native code that the kernel does not count against the limit of a process.
//!
//! The acts are made by an escapee, see [`stockade_tests::escape`], and where no code of a guest ever
//! runs, by a program that takes memory in the place of a compiler. A template is looked at in the
//! library's own tests.

use std::time::Duration;

use stockade::{
    BuildError, CompileLimits, Layer, Lockdown, MemoryExcess, RefusedReason, RunError, TaskError,
    WorkerProgram,
};
use stockade_tests::escape::{Act, Escapee, Native};
use stockade_tests::{Folder, eventually, numbers, program_beside, script, worker_program};

use super::seen;

const READ: i64 = libc::PROT_READ as i64;
const WRITE: i64 = READ | libc::PROT_WRITE as i64;
const ANONYMOUS: i64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as i64;
const MIB: i64 = 1 << 20;

fn map(it: &Escapee, bytes: i64, access: i64, flags: i64) -> Act {
    it.system_call(libc::SYS_mmap, &[0, bytes, access, flags, -1, 0])
}

/// Writes private memory, and then takes away what makes the kernel count it.
fn written_then(it: &Escapee, access: i64) -> Act {
    match map(it, MIB, WRITE, ANONYMOUS) {
        Act::Done(at) => {
            assert!(matches!(it.system_call(libc::SYS_getrandom, &[at, MIB, 0]), Act::Done(_)));
            it.system_call(libc::SYS_mprotect, &[at, MIB, access])
        }
        refused => refused,
    }
}

/// What native code may try, by name.
type Try = (&'static str, fn(&Escapee) -> Act);

const ACTS: [Try; 15] = [
    ("a stack that grows", |it| map(it, MIB, WRITE, ANONYMOUS | i64::from(libc::MAP_GROWSDOWN))),
    ("locked memory", |it| map(it, MIB, WRITE, ANONYMOUS | i64::from(libc::MAP_LOCKED))),
    ("huge pages", |it| map(it, 2 * MIB, WRITE, ANONYMOUS | i64::from(libc::MAP_HUGETLB))),
    ("memory filled at once", |it| map(it, MIB, WRITE, ANONYMOUS | i64::from(libc::MAP_POPULATE))),
    ("shared memory", |it| map(it, MIB, WRITE, i64::from(libc::MAP_SHARED | libc::MAP_ANONYMOUS))),
    ("memory to write over what is mapped", |it| {
        map(it, 1 << 30, WRITE, ANONYMOUS | i64::from(libc::MAP_FIXED))
    }),
    ("a terabyte to read", |it| map(it, 1 << 40, READ, ANONYMOUS | i64::from(libc::MAP_NORESERVE))),
    ("a terabyte without access", |it| {
        map(it, 1 << 40, 0, ANONYMOUS | i64::from(libc::MAP_NORESERVE))
    }),
    ("written, then only read", |it| written_then(it, READ)),
    ("written, then without access", |it| written_then(it, 0)),
    ("written, then a stack", |it| written_then(it, WRITE | i64::from(libc::PROT_GROWSDOWN))),
    ("locking what is there", |it| it.system_call(libc::SYS_mlock, &[it.write(&[1]), 4096])),
    ("filling a file's pages", |it| {
        const MADV_POPULATE_WRITE: i64 = 23;
        it.system_call(libc::SYS_madvise, &[it.write(&[1]), 4096, MADV_POPULATE_WRITE])
    }),
    ("its file over memory of its own", |it| {
        let input = i64::from(libc::MAP_SHARED | libc::MAP_FIXED | libc::MAP_POPULATE);
        let at = it.write(&[1]);
        it.system_call(libc::SYS_mmap, &[at & !4095, 4096, WRITE, input, 3, 0])
    }),
    ("another limit", |it| {
        let limit = it.write(&[0xff; 16]);
        it.system_call(libc::SYS_prlimit64, &[0, i64::from(libc::RLIMIT_AS), limit, 0])
    }),
];

/// Processes that are started by themselves, and clones of a template.
fn both() -> [(&'static str, Lockdown); 2] {
    let whole = Lockdown::default().require([Layer::Seccomp]);
    [("a clone", whole.clone()), ("a worker by itself", whole.without(Layer::Namespaces))]
}

#[test]
fn a84_memory_that_the_kernel_does_not_count_is_not_to_be_had() {
    for (whose, lockdown) in both() {
        for (name, act) in ACTS {
            let escapee = Escapee::confined(lockdown.clone());
            assert_eq!(act(&escapee), Act::Killed(libc::SIGSYS), "{whose}: {name}");
            // The pool goes on, in another process.
            assert!(matches!(escapee.system_call(libc::SYS_getpid, &[]), Act::Done(_)), "{name}");
        }
        let escapee = Escapee::confined(lockdown);
        let Act::Done(at) = map(&escapee, MIB, WRITE, ANONYMOUS) else { panic!("it may map") };
        let moved = i64::from(libc::MREMAP_MAYMOVE);
        let moved = escapee.system_call(libc::SYS_mremap, &[at, MIB, 1 << 40, moved]);
        assert_eq!(moved, Act::Refused(libc::ENOSYS));
    }
    seen(
        84,
        &format!(
            "{} acts of real native code, each killed by SIGSYS, in a clone and in a worker by \
             itself; without the filter its host ends it, busy or idle; so it does a compiler",
            ACTS.len()
        ),
    );
}

/// The kernel's number of a limit of a process, soft and hard alike.
fn limit_of(pid: u32, name: &str) -> Option<u64> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("it lives");
    let line = limits.lines().find(|line| line.starts_with(name)).expect("a limit of Linux");
    let mut numbers = line[name.len()..].split_whitespace();
    let (soft, hard) = (numbers.next()?, numbers.next()?);
    assert_eq!(soft, hard, "{line}");
    soft.parse().ok()
}

fn mapped_by(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("it lives");
    let pages = status.split_whitespace().next().and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("pages") * 4096
}

#[test]
fn address_space_is_limited_and_never_so_short_that_memory_is_no_longer_counted() {
    for (whose, lockdown) in both() {
        let escapee = Escapee::confined(lockdown);
        let pid = escapee.pid();
        let (space, data) = (limit_of(pid, "Max address space"), limit_of(pid, "Max data size"));
        let (space, data) = (space.expect(whose), data.expect(whose));
        // All that is mapped, all that it may have, and once more the largest mapping there can be.
        assert!(space >= 2 * mapped_by(pid) + data, "{whose}: {space}");
        assert_eq!(limit_of(pid, "Max stack size"), Some(8 << 20), "{whose}");
        // All private memory that it gets makes no other memory writable beyond the limit.
        let step = 64 * MIB;
        let mut had = 0;
        while matches!(map(&escapee, step, WRITE, ANONYMOUS), Act::Done(_)) {
            had += step;
            assert!(had.cast_unsigned() <= data, "{whose}");
        }
        assert!(mapped_by(pid) + data <= space, "{whose}");
    }
}

/// How the only worker of an escapee ended that takes more and more memory by stacks that grow.
fn overgrown(escapee: &Escapee, is_idle: bool) -> MemoryExcess {
    let flags = ANONYMOUS | i64::from(libc::MAP_GROWSDOWN);
    let pid = escapee.pid();
    // What it may have, and the overshoot of 192 MiB and of page tables, as footprint.rs has it.
    let data = limit_of(pid, "Max data size").expect("a limit") as i64;
    let allowed = data + data / 256 + 192 * MIB;
    // Not a page more than it takes, in case that nobody looks.
    let step = 32 * MIB;
    for _ in 0..allowed / step + 2 {
        let Act::Done(at) = map(escapee, step, WRITE, flags) else { break };
        // Not the page at the beginning, whose guard may be another's.
        let written = [at + MIB, step - MIB, 0];
        if !matches!(escapee.system_call(libc::SYS_getrandom, &written), Act::Done(_)) {
            break;
        }
    }
    if is_idle {
        eventually("its host to end it", || {
            escapee.pool().workers().iter().all(|it| it.pid != pid)
        });
    }
    let arguments = (libc::SYS_getpid, 0_i64, 0_i64, 0_i64, 0_i64, 0_i64, 0_i64);
    let mut excess = None;
    eventually("its host to end it", || {
        match escapee.pool().run::<i64>("system_call", arguments) {
            Err(RunError::Task(TaskError::WorkerLost(exit))) => excess = exit.memory_excess,
            Ok(_) => return escapee.pid() != pid,
            Err(other) => panic!("{other}"),
        }
        true
    });
    excess.unwrap_or(MemoryExcess { allowed_bytes: allowed as u64, seen_bytes: u64::MAX })
}

#[test]
fn a_worker_that_has_more_memory_than_its_limits_allow_is_ended_by_its_host() {
    let escapee = Escapee::confined(Lockdown::default().without(Layer::Seccomp));
    let data = limit_of(escapee.pid(), "Max data size").expect("a limit");
    let excess = overgrown(&escapee, false);
    assert!(excess.seen_bytes > excess.allowed_bytes, "{excess}");
    assert_eq!(excess.allowed_bytes, data + data / 256 + (192 << 20));
    assert!(matches!(escapee.system_call(libc::SYS_getpid, &[]), Act::Done(_)), "another works");
}

#[test]
fn a_worker_that_takes_memory_while_it_is_idle_is_ended_too() {
    let escapee = Escapee::confined(Lockdown::default().without(Layer::Seccomp));
    let _ = overgrown(&escapee, true);
    assert!(matches!(escapee.system_call(libc::SYS_getpid, &[]), Act::Done(_)), "another works");
}

/// The real program, but that the role `role` takes memory without end.
fn greedy(folder: &Folder, role: &str) -> WorkerProgram {
    let (greedy, real) = (program_beside("greedy"), worker_program());
    let text = format!("exec {} {role} {} \"$1\"", greedy.display(), real.display());
    WorkerProgram::Path(script(folder, &text))
}

#[test]
fn a_compiler_that_has_more_memory_than_its_limits_allow_is_ended_by_its_host() {
    let folder = Folder::new();
    let limits = CompileLimits::default().memory_bytes(64 << 20);
    let built = numbers()
        .worker_program(greedy(&folder, "compiler"))
        .compile_limits(limits.wall_time(Duration::from_secs(600)))
        .build();
    let Err(BuildError::Refused { reason: RefusedReason::Limit(why), .. }) = built else {
        panic!("{built:?}")
    };
    assert!(why.contains("page tables") && why.contains("memory_bytes"), "{why}");
}
