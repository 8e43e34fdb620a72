//! A template's filter, and what its clones take away from it.
//!
//! ```text
//! template: a worker's calls + TEMPLATE ─► clone: all but TEMPLATE, nothing executable mapped
//! ```
//!
//! Filters add up, and a clone inherits its template's. So the second filter of a clone only has to
//! name what it is not to do any more; together they allow what the two filters of any other worker
//! do, and `prctl` not even to refuse new privileges.
//!
//! `clone3` hides its flags from a filter, so it does not exist here: the C library then makes
//! threads with `clone`, whose flags are all checked.

use std::collections::BTreeMap;

use libc::{
    CLONE_CHILD_CLEARTID, CLONE_FILES, CLONE_FS, CLONE_NEWPID, CLONE_PARENT, CLONE_PARENT_SETTID,
    CLONE_PIDFD, CLONE_SETTLS, CLONE_SIGHAND, CLONE_SYSVSEM, CLONE_THREAD, CLONE_VM, MAP_SHARED,
    PROT_EXEC, SIGCHLD,
};
use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule, sock_filter};

use super::super::memory;
use super::rule::Condition::{Is, Without};
use super::rule::{Rule, allow, allow_if};
use super::{Files, Profile, in_words, lists};

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

/// What a template does to make a worker, and a clone to become one. A template that was taken over can
/// do this too, so each call says as much of its arguments as matters: it opens nothing, and gives up
/// nothing that binds its life to its host's.
pub(super) const TEMPLATE: &[Rule] = &[
    allow_if(libc::SYS_clone, &[Is(0, option(CLONE_FLAGS))], "a worker"),
    allow_if(libc::SYS_clone, &[Is(0, option(THREAD_FLAGS))], "the alarm's thread"),
    allow_if(libc::SYS_sendmsg, &[Is(2, option(NO_WAIT))], "the descriptor of a worker"),
    allow(libc::SYS_set_robust_list, "a thread's beginning"),
    allow(libc::SYS_rseq, "a thread's beginning"),
    allow(libc::SYS_sched_getaffinity, "a thread's beginning"),
    allow_if(
        libc::SYS_mmap,
        &[Without(2, PROT_EXEC as u32)],
        "memory that it shares with its host",
    ),
    allow(libc::SYS_ppoll, "whether its host lives"),
    #[cfg(target_arch = "x86_64")]
    allow(libc::SYS_poll, "whether its host lives"),
    allow(libc::SYS_setsid, "its own session"),
    allow_if(libc::SYS_getsid, &[Is(0, 0)], "its own session"),
    allow_if(libc::SYS_rt_sigaction, &[Is(0, SIGSETXID)], "a thread's beginning"),
    allow_if(libc::SYS_rt_sigaction, &[Is(0, option(libc::SIGABRT))], "signals of a first process"),
    allow_if(libc::SYS_rt_sigaction, &[Is(0, option(libc::SIGXCPU))], "signals of a first process"),
    allow_if(libc::SYS_rt_sigaction, &[Is(0, option(libc::SIGXFSZ))], "signals of a first process"),
    allow_if(libc::SYS_rt_sigaction, &[Is(0, option(libc::SIGSYS))], "naming a refused call"),
    allow_if(libc::SYS_prctl, &[Is(0, option(libc::PR_SET_NAME))], "its own name"),
    allow_if(
        libc::SYS_prctl,
        &[Is(0, option(libc::PR_SET_PDEATHSIG)), Is(1, option(libc::SIGKILL))],
        "death with its host",
    ),
    allow_if(libc::SYS_prctl, &[Is(0, option(libc::PR_GET_PDEATHSIG))], "death with its host"),
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

/// What a clone takes away, so that it may do what any worker for `files` may once it is sealed.
///
/// # Errors
/// The filter's own words.
pub(super) fn taken_away(files: Files) -> Result<BTreeMap<i64, Vec<SeccompRule>>, String> {
    let rule = |argument, operation, value: libc::c_int| {
        let length = SeccompCmpArgLen::Dword;
        let condition = SeccompCondition::new(argument, length, operation, option(value).into());
        SeccompRule::new(vec![condition.map_err(in_words)?]).map_err(in_words)
    };
    let has = |bits: libc::c_int| SeccompCmpOp::MaskedEq(option(bits).into());
    let shared_unless = |argument, value: libc::c_int| {
        let condition = |argument, operation, value| {
            let length = SeccompCmpArgLen::Dword;
            SeccompCondition::new(argument, length, operation, option(value).into())
                .map_err(in_words)
        };
        let shared = condition(3, has(MAP_SHARED), MAP_SHARED)?;
        SeccompRule::new(vec![shared, condition(argument, SeccompCmpOp::Ne, value)?])
            .map_err(in_words)
    };
    let workers: Vec<i64> = Profile::Worker(files).rules().iter().map(|rule| rule.number).collect();
    let added = TEMPLATE.iter().map(|rule| rule.number);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        added.filter(|number| !workers.contains(number)).map(|number| (number, vec![])).collect();
    for number in [libc::SYS_clone3, libc::SYS_prctl, libc::SYS_seccomp] {
        rules.insert(number, Vec::new());
    }
    // Of what is shared, only a task's input may still be mapped.
    let [access, flags, offset] = lists::INPUT_MAPPING;
    let mapped = [
        rule(2, has(PROT_EXEC), PROT_EXEC)?,
        shared_unless(2, access)?,
        shared_unless(3, flags)?,
        shared_unless(5, offset)?,
    ];
    rules.insert(libc::SYS_mmap, mapped.to_vec());
    match files {
        Files::None => _ = rules.insert(libc::SYS_statx, Vec::new()),
        Files::Read | Files::Write => {
            let others = rule(1, SeccompCmpOp::Ne, libc::RLIMIT_NOFILE as libc::c_int)?;
            rules.insert(libc::SYS_prlimit64, vec![others]);
        }
    }
    Ok(rules)
}

/// Begins a program: to whoever asks for `clone3` it does not exist. On another architecture the
/// number may be another call's; the rest of the program ends whoever makes calls of one.
pub(super) fn without_clone3(mut program: Vec<sock_filter>) -> Vec<sock_filter> {
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let beginning = [
        // The call's number is the first word of what a filter sees.
        instruction((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0, 0, 0),
        instruction(
            (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            0,
            1,
            libc::SYS_clone3 as u32,
        ),
        instruction(
            (libc::BPF_RET | libc::BPF_K) as u16,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
        ),
    ];
    program.splice(..0, beginning);
    program
}

#[cfg(test)]
mod tests {
    use seccompiler::{BpfProgram, SeccompAction};

    use super::super::{program, seal_program};
    use super::*;

    /// What a program makes of a call: the classic instructions that the filters are made of, see
    /// linux/filter.h.
    fn run(program: &BpfProgram, number: u32, arguments: [u64; 6]) -> u32 {
        let architecture: u32 =
            if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
        let mut data = [number.to_le_bytes(), architecture.to_le_bytes(), [0; 4], [0; 4]].concat();
        data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
        let (mut at, mut value) = (0, 0_u32);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            let jump = |holds: bool| usize::from(if holds { jt } else { jf });
            at += 1;
            match code {
                0x20 => {
                    let word = &data[k as usize..][..4];
                    value = u32::from_le_bytes(word.try_into().unwrap());
                }
                0x54 => value &= k,
                0x05 => at += k as usize,
                0x15 => at += jump(value == k),
                0x25 => at += jump(value > k),
                0x35 => at += jump(value >= k),
                0x45 => at += jump(value & k != 0),
                0x06 => return k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    /// What filters make of a call together: the kernel takes the strictest.
    fn allowed(programs: &[&BpfProgram], number: u32, arguments: [u64; 6]) -> bool {
        programs.iter().all(|program| run(program, number, arguments) == libc::SECCOMP_RET_ALLOW)
    }

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

    /// Arguments of `mmap`: the one shared mapping that is allowed, and others like it.
    fn mappings() -> Vec<[u64; 6]> {
        let mut all = arguments();
        let [access, flags, offset] = lists::INPUT_MAPPING.map(|value| value as u64);
        let other_flags = (0..20).map(|bit| flags ^ (1 << bit));
        for access in [access, 0, 1, 2, 4, 5, 7] {
            for flags in other_flags.clone().chain([flags, 1, 0x11, 0x22]) {
                for offset in [offset, 1, 4096] {
                    all.push([0x1000, 4096, access, flags, 9, offset]);
                }
            }
        }
        all
    }

    #[test]
    fn a_clone_may_do_what_any_sealed_worker_may_and_nothing_else() {
        let refusal = || SeccompAction::KillProcess;
        let is_own = |number, arguments: [u64; 6]| {
            // Who it is, it knows by another number.
            number == libc::SYS_tgkill && arguments[0] != 1
        };
        for files in [Files::None, Files::Read, Files::Write] {
            let [template, clone, worker] =
                [Profile::Template(files), Profile::Clone(files), Profile::Worker(files)]
                    .map(|profile| program(profile, refusal()).unwrap());
            let seal = seal_program(files, refusal()).unwrap();
            // What is asked of no call's arguments makes no difference to it.
            let conditioned: Vec<i64> = [Profile::Template(files), Profile::Worker(files)]
                .iter()
                .flat_map(|profile| profile.rules())
                .filter_map(|rule| (!rule.conditions.is_empty()).then_some(rule.number))
                .collect();
            let tried = |number: u32| match conditioned.contains(&i64::from(number)) {
                true if i64::from(number) == libc::SYS_mmap => mappings(),
                true => arguments(),
                false => vec![[0; 6], [3; 6]],
            };
            let mut both = 0;
            for (number, arguments) in (0..500)
                .flat_map(|number| tried(number).into_iter().map(move |some| (number, some)))
            {
                let call = i64::from(number);
                let by_clone = allowed(&[&template, &clone], number, arguments);
                let by_worker = allowed(&[&worker, &seal], number, arguments);
                both += u32::from(by_clone && by_worker);
                // Refusing new privileges once more is all that a worker may besides.
                if call != libc::SYS_prctl && call != libc::SYS_tgkill {
                    assert_eq!(by_clone, by_worker, "{files:?}: {number} {arguments:?}");
                }
                assert!(
                    !by_clone || by_worker || call == libc::SYS_tgkill && !is_own(call, arguments)
                );
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
