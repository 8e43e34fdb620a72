//! A template's filter: a worker's, and what it takes to make workers.
//!
//! Filters add up, and a clone inherits its template's. The second filter of a clone is that of any
//! worker that is sealed, so together they allow what the two filters of any other worker do.
//!
//! `clone3` hides its flags from a filter, so it does not exist here: the C library then makes
//! threads with `clone`, whose flags are all checked.

use libc::{
    CLONE_CHILD_CLEARTID, CLONE_FILES, CLONE_FS, CLONE_NEWPID, CLONE_PARENT, CLONE_PARENT_SETTID,
    CLONE_PIDFD, CLONE_SETTLS, CLONE_SIGHAND, CLONE_SYSVSEM, CLONE_THREAD, CLONE_VM, MAP_ANONYMOUS,
    MAP_SHARED, MAP_STACK, SIGCHLD,
};

use super::super::memory;
use super::lists::{COUNTED, NO_ACCESS, PRIVATE};
use super::rule::Condition::Is;
use super::rule::{Rule, allow, allow_if};

/// A clone of a template: the host's child, the first of its process namespace, and a descriptor of it.
pub(crate) const CLONE_FLAGS: libc::c_int = CLONE_PARENT | CLONE_NEWPID | CLONE_PIDFD | SIGCHLD;

/// A thread as the C library makes it.
const THREAD_FLAGS: libc::c_int = CLONE_VM
    | CLONE_FS
    | CLONE_FILES
    | CLONE_SIGHAND
    | CLONE_THREAD
    | CLONE_SYSVSEM
    | CLONE_SETTLS
    | CLONE_PARENT_SETTID
    | CLONE_CHILD_CLEARTID;

const fn option(option: libc::c_int) -> u32 {
    option as u32
}

/// The signal by which the C library changes the users of all threads. It prepares for it with the first.
const SIGSETXID: u32 = 33;

const NO_WAIT: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// What a template does to make a worker, and a clone to become one. A template that is compromised can
/// do this too, so each call says as much of its arguments as matters: it opens nothing, and gives up
/// nothing that binds its life to its host's.
pub(super) const TEMPLATE: &[Rule] = &[
    allow_if(libc::SYS_clone, &[Is(0, option(CLONE_FLAGS))], "a worker"),
    allow_if(libc::SYS_clone, &[Is(0, option(THREAD_FLAGS))], "the alarm's thread"),
    allow_if(libc::SYS_sendmsg, &[Is(2, option(NO_WAIT))], "the pidfd of a worker"),
    allow(libc::SYS_set_robust_list, "a thread's start"),
    allow(libc::SYS_rseq, "a thread's start"),
    allow(libc::SYS_sched_getaffinity, "a thread's start"),
    allow_if(
        libc::SYS_mmap,
        &[Is(2, COUNTED), Is(3, option(MAP_SHARED))],
        "memory that it shares with its host",
    ),
    allow_if(
        libc::SYS_mmap,
        &[Is(2, NO_ACCESS), Is(3, PRIVATE | option(MAP_ANONYMOUS | MAP_STACK))],
        "the stack of the alarm's thread",
    ),
    allow_if(
        libc::SYS_mmap,
        &[Is(2, COUNTED), Is(3, PRIVATE | option(MAP_ANONYMOUS | MAP_STACK))],
        "its stack for signals",
    ),
    allow(libc::SYS_ppoll, "whether its host lives"),
    #[cfg(target_arch = "x86_64")]
    allow(libc::SYS_poll, "whether its host lives"),
    allow(libc::SYS_setsid, "its own session"),
    allow_if(libc::SYS_getsid, &[Is(0, 0)], "its own session"),
    allow_if(libc::SYS_rt_sigaction, &[Is(0, SIGSETXID)], "a thread's start"),
    allow_if(
        libc::SYS_rt_sigaction,
        &[Is(0, option(libc::SIGABRT))],
        "signals of the first \
         process of a namespace",
    ),
    allow_if(
        libc::SYS_rt_sigaction,
        &[Is(0, option(libc::SIGXCPU))],
        "signals of the first \
         process of a namespace",
    ),
    allow_if(
        libc::SYS_rt_sigaction,
        &[Is(0, option(libc::SIGXFSZ))],
        "signals of the first \
         process of a namespace",
    ),
    allow_if(libc::SYS_rt_sigaction, &[Is(0, option(libc::SIGSYS))], "reporting a refused call"),
    allow_if(libc::SYS_prctl, &[Is(0, option(libc::PR_SET_NAME))], "its own name"),
    allow_if(
        libc::SYS_prctl,
        &[Is(0, option(libc::PR_SET_PDEATHSIG)), Is(1, option(libc::SIGKILL))],
        "ending with its host",
    ),
    allow_if(libc::SYS_prctl, &[Is(0, option(libc::PR_GET_PDEATHSIG))], "ending with its host"),
    allow_if(libc::SYS_prctl, &[Is(0, option(libc::PR_SET_DUMPABLE)), Is(1, 0)], "a layer"),
    allow_if(libc::SYS_prctl, &[Is(0, option(libc::PR_GET_DUMPABLE))], "a report"),
    allow_if(libc::SYS_prctl, &[Is(0, option(libc::PR_GET_NO_NEW_PRIVS))], "a report"),
    allow_if(
        libc::SYS_prctl,
        &[Is(0, option(libc::PR_CAP_AMBIENT)), Is(1, option(libc::PR_CAP_AMBIENT_CLEAR_ALL))],
        "no capabilities",
    ),
    allow_if(libc::SYS_prctl, &[Is(0, option(memory::PR_SET_MDWE))], "a layer"),
    allow_if(libc::SYS_prctl, &[Is(0, option(memory::PR_GET_MDWE))], "a report"),
    allow(libc::SYS_capset, "no capabilities"),
    allow(libc::SYS_capget, "a report"),
    allow(libc::SYS_getuid, "a report"),
    allow(libc::SYS_geteuid, "a report"),
    allow_if(libc::SYS_prlimit64, &[Is(0, 0)], "its own limits"),
    allow(libc::SYS_landlock_create_ruleset, "a layer"),
    allow(libc::SYS_landlock_add_rule, "a layer"),
    allow(libc::SYS_landlock_restrict_self, "a layer"),
];

#[cfg(test)]
mod tests {
    use seccompiler::SeccompAction;

    use super::super::run::{allowed, run};
    use super::super::{Files, Profile, program, seal_program};
    use super::*;
    use crate::lockdown::space::Space;

    /// Arguments that rules look at: flags, commands and numbers, in every place.
    fn arguments() -> Vec<[u64; 6]> {
        let mut looked_at: Vec<u64> = (0..20).map(|bit| 1 << bit).collect();
        looked_at.extend([0, 3, 5, 6, 7, 33, 34, 35, 38, 65, 66, 1030, 1034, 0x102, 0x3d0f00]);
        looked_at.extend([CLONE_FLAGS, THREAD_FLAGS].map(|flags| flags as u64));
        looked_at.extend([128, 129, 137, 138, 393, u64::from(std::process::id())]);
        let mut all = Vec::new();
        for value in &looked_at {
            for other in [0, 1, 2, 3, 4, 5, 7, 34] {
                for place in 0..6 {
                    let mut arguments = [other; 6];
                    arguments[place] = *value;
                    all.push(arguments);
                }
            }
        }
        all
    }

    /// Arguments of `mmap` and `mprotect`: every access, each flag and more, in and around the memory of
    /// guests.
    fn of_memory() -> Vec<[u64; 6]> {
        let space = space();
        let flags = (0..32).map(|bit| 1_u64 << bit);
        let flags: Vec<_> = flags
            .flat_map(|flag| [2, 0x22, 0x12, 0x4032, 0x8011, 1].map(|usual| flag ^ usual))
            .collect();
        let start = space.memories.start as u64;
        let mut all = arguments();
        for access in [0, 1, 2, 3, 4, 5, 7, 8, 11, 1 << 24 | 3, 1 << 25 | 3] {
            for at in [0, start - 4096, start, space.memories.end as u64] {
                for length in [4096, Space::BEYOND_BYTES_MAX as u64 + 1] {
                    for flags in &flags {
                        all.extend([0, 4096].map(|from| [at, length, access, *flags, 9, from]));
                    }
                }
            }
        }
        all
    }

    fn space() -> Space {
        Space { memories: 0x7f00_0000_0000..0x7f10_0000_0000, windows: vec![] }
    }

    #[test]
    fn a_clone_may_do_what_any_sealed_worker_may_and_nothing_else() {
        let refusal = || SeccompAction::KillProcess;
        for files in [Files::None, Files::Read, Files::Write] {
            let [template, worker] = [Profile::Template(files), Profile::Worker(files)]
                .map(|profile| program(profile, refusal()).unwrap());
            // A clone is the first of its namespace, and knows itself by that number.
            let [clone, seal] = [1, std::process::id()]
                .map(|own| seal_program(files, &space(), own, refusal()).unwrap());
            // What is asked of no call's arguments makes no difference to it.
            let conditioned: Vec<i64> = [Profile::Template(files), Profile::Worker(files)]
                .iter()
                .flat_map(|profile| profile.rules())
                .filter_map(|rule| (!rule.conditions.is_empty()).then_some(rule.number))
                .collect();
            let tried = |number: u32| match i64::from(number) {
                libc::SYS_mmap | libc::SYS_mprotect => of_memory(),
                number if conditioned.contains(&number) => arguments(),
                _ => vec![[0; 6], [3; 6]],
            };
            let mut both = 0;
            for number in 0..500 {
                for arguments in tried(number) {
                    let by_clone = allowed(&[&template, &clone], number, arguments);
                    let by_worker = allowed(&[&worker, &seal], number, arguments);
                    both += u32::from(by_clone && by_worker);
                    if i64::from(number) != libc::SYS_tgkill {
                        assert_eq!(by_clone, by_worker, "{files:?}: {number} {arguments:x?}");
                    } else {
                        let is_abort = arguments[2] as u32 == libc::SIGABRT.cast_unsigned();
                        assert_eq!(by_clone, arguments[0] == 1 && is_abort);
                    }
                    // The second filter grants nothing that the first did not.
                    assert_eq!(
                        by_worker,
                        allowed(&[&seal], number, arguments),
                        "{files:?}: {number} {arguments:x?}"
                    );
                }
            }
            assert!(both > 1000, "{both}");
        }
    }

    #[test]
    fn a_template_makes_workers_and_threads_and_opens_and_outlives_nothing() {
        let template = program(Profile::Template(Files::None), SeccompAction::KillProcess).unwrap();
        let clone =
            |flags: i32| run(&template, libc::SYS_clone as u32, [flags as u64, 0, 0, 0, 0, 0]);
        assert_eq!(clone(CLONE_FLAGS), libc::SECCOMP_RET_ALLOW);
        assert_eq!(clone(THREAD_FLAGS), libc::SECCOMP_RET_ALLOW);
        for flags in [0, SIGCHLD, CLONE_PARENT | SIGCHLD, CLONE_FLAGS | libc::CLONE_NEWUSER] {
            assert_eq!(clone(flags), libc::SECCOMP_RET_KILL_PROCESS, "{flags:#x}");
        }
        let call = |number: i64, first: i32, second: i32| {
            run(&template, number as u32, [first as u64, second as u64, 0, 0, 0, 0])
        };
        let control = |option, value| call(libc::SYS_prctl, option, value);
        assert_eq!(control(libc::PR_SET_PDEATHSIG, libc::SIGKILL), libc::SECCOMP_RET_ALLOW);
        assert_eq!(control(libc::PR_SET_PDEATHSIG, 0), libc::SECCOMP_RET_KILL_PROCESS);
        assert_eq!(control(libc::PR_SET_DUMPABLE, 0), libc::SECCOMP_RET_ALLOW);
        assert_eq!(control(libc::PR_SET_DUMPABLE, 1), libc::SECCOMP_RET_KILL_PROCESS);
        let hidden = run(&template, libc::SYS_clone3 as u32, [0; 6]);
        assert_eq!(hidden, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
        for call in [
            libc::SYS_execve,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_kill,
            libc::SYS_openat,
            libc::SYS_dup3,
        ] {
            assert_eq!(run(&template, call as u32, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
        }
    }
}
