//! The seccomp filter: it allows only the system calls that a role needs; any other kills the
//! process.
//!
//! ```text
//! lists ─► Role's rules ─► BPF ─► every thread     before the first hostile byte
//!          sealed ──────► BPF ─► every thread     a worker, once its last module is mapped; and a
//!                                                 template's clone, instead of both
//! ```
//!
//! Filters add up: the second only removes calls. After it no memory of a worker can become
//! executable, from any file, and no written memory stays uncounted.
//!
//! Invariant: calls of another architecture or number space (`int 0x80`, x32) are on no list.

mod explain;
mod lists;
mod rule;
#[cfg(test)]
mod run;
mod sealed;
mod template;

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};

use super::Space;
use rule::{Condition, Rule};
pub(crate) use template::CLONE_FLAGS;

/// Whose calls are filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// A worker's, with what its guests were granted of the file system.
    Worker(Files),
    /// A template's, whose clones are such workers.
    Template(Files),
    /// A compiler's.
    Compiler,
}

/// What guests may do with files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Files {
    None,
    Read,
    Write,
}

impl Profile {
    fn rules(self) -> Vec<Rule> {
        let lists: &[&[Rule]] = match self {
            Self::Template(files) => {
                return [&Self::Worker(files).rules(), template::TEMPLATE].concat();
            }
            Self::Worker(files) => return [&files.rules(), lists::LOADING].concat(),
            Self::Compiler => &[lists::BOTH, lists::COMPILER],
        };
        lists.concat()
    }
}

impl Files {
    /// What a worker may do whose guests may do this with files, once it is sealed, except for what
    /// [`sealed`] adds.
    fn rules(self) -> Vec<Rule> {
        let lists: &[&[Rule]] = match self {
            Self::None => &[lists::BOTH, lists::WORKER],
            Self::Read => &[lists::BOTH, lists::WORKER, lists::READING_FILES],
            Self::Write => {
                &[lists::BOTH, lists::WORKER, lists::READING_FILES, lists::WRITING_FILES]
            }
        };
        lists.concat()
    }
}

/// What is allowed, by a call's number: any of the rules must hold, and where there are none, always.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Puts the filter for `profile` on every thread. With `explains`, a refused call is named on stderr
/// before the process ends of it.
///
/// # Errors
/// The kernel's or the filter's own words.
pub(super) fn put_on(profile: Profile, explains: bool) -> Result<(), String> {
    if explains {
        explain::prepare()?;
    }
    apply(&program(profile, refusal(explains))?)
}

/// The program of a profile, which meets what it does not allow with `refusal`.
fn program(profile: Profile, refusal: SeccompAction) -> Result<BpfProgram, String> {
    let own_process = match profile {
        Profile::Template(_) => CLONE,
        _ => std::process::id(),
    };
    let rules = allowed(&profile.rules(), own_process)?;
    let program = assembled(rules, refusal)?;
    Ok(match profile {
        // It hides its flags from a filter.
        Profile::Template(_) => without(libc::SYS_clone3, program),
        _ => program,
    })
}

/// Takes away what a worker, or a clone of a template, needs only until its modules are mapped: from
/// now on nothing maps executable memory, none that was written is kept without being counted, and
/// without granted directories nothing asks for files by name.
///
/// # Errors
/// As [`put_on`].
pub(super) fn seal(files: Files, space: &Space, explains: bool) -> Result<(), String> {
    apply(&seal_program(files, space, std::process::id(), refusal(explains))?)
}

/// The filter of a template's clone, made before there is a clone.
#[derive(Debug)]
pub(crate) struct CloneFilter {
    files: Files,
    space: Space,
    program: BpfProgram,
}

/// A clone is the first process of its namespace.
const CLONE: u32 = 1;

impl CloneFilter {
    /// The filter of a clone whose guests may do that with files, and have their memory in `space`.
    ///
    /// # Errors
    /// As [`put_on`].
    pub(crate) fn prepare(files: Files, space: Space, explains: bool) -> Result<Self, String> {
        let program = seal_program(files, &space, CLONE, refusal(explains))?;
        Ok(Self { files, space, program })
    }

    /// As [`seal`], without making the filter. One that was made for another process is made anew.
    ///
    /// # Errors
    /// As [`put_on`].
    pub(super) fn seal(&self, files: Files, space: &Space, explains: bool) -> Result<(), String> {
        match self.program_of(files, space, std::process::id()) {
            Some(program) => apply(program),
            None => seal(files, space, explains),
        }
    }

    /// The program, if it was made for such a process.
    fn program_of(&self, files: Files, space: &Space, process: u32) -> Option<&BpfProgram> {
        let fits = self.files == files && self.space == *space && process == CLONE;
        fits.then_some(&self.program)
    }
}

fn seal_program(
    files: Files,
    space: &Space,
    own_process: u32,
    refusal: SeccompAction,
) -> Result<BpfProgram, String> {
    let mut rules = allowed(&files.rules(), own_process)?;
    sealed::add_to(&mut rules, space)?;
    // What it moves or makes larger need not be counted, as a filter cannot see. The allocator copies
    // where there is no such call.
    Ok(without(libc::SYS_mremap, assembled(rules, refusal)?))
}

fn allowed(rules: &[Rule], own_process: u32) -> Result<Rules, String> {
    let mut allowed = Rules::new();
    for rule in rules {
        let of_call = allowed.entry(rule.number).or_default();
        if !rule.conditions.is_empty() {
            of_call.push(compiled(rule.conditions, own_process)?);
        }
    }
    Ok(allowed)
}

/// What a filter does, in a report.
pub(super) const SUMMARY: &str = "a system call that its role does not need kills it";

fn refusal(explains: bool) -> SeccompAction {
    if explains { SeccompAction::Trap } else { SeccompAction::KillProcess }
}

fn assembled(rules: Rules, refusal: SeccompAction) -> Result<BpfProgram, String> {
    let architecture = std::env::consts::ARCH.try_into().map_err(in_words)?;
    let filter = SeccompFilter::new(rules, refusal, SeccompAction::Allow, architecture);
    filter.map_err(in_words)?.try_into().map_err(in_words)
}

/// Begins a program: to whoever makes the call `number` it does not exist. On another architecture the
/// number may be another call's; the rest of the program ends whoever makes calls of one.
fn without(number: i64, mut program: BpfProgram) -> BpfProgram {
    let instruction = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let beginning = [
        // The call's number is the first word of what a filter sees.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number as u32),
        instruction(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
        ),
    ];
    program.splice(..0, beginning);
    program
}

fn apply(program: &BpfProgram) -> Result<(), String> {
    seccompiler::apply_filter_all_threads(program).map_err(in_words)
}

fn compiled(conditions: &[Condition], own_process: u32) -> Result<SeccompRule, String> {
    let condition = |condition: &Condition| {
        let (argument, comparison, value) = match *condition {
            Condition::Is(argument, value) => (argument, SeccompCmpOp::Eq, value),
            Condition::IsBut(argument, bits, value) => {
                (argument, SeccompCmpOp::MaskedEq((!bits).into()), value)
            }
            Condition::OwnProcess(argument) => (argument, SeccompCmpOp::Eq, own_process),
        };
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, comparison, value.into())
    };
    let conditions: Result<Vec<_>, _> = conditions.iter().map(condition).collect();
    SeccompRule::new(conditions.map_err(in_words)?).map_err(in_words)
}

fn in_words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn numbers(profile: Profile) -> BTreeSet<i64> {
        profile.rules().iter().map(|rule| rule.number).collect()
    }

    const EVERY: [Profile; 4] = [
        Profile::Compiler,
        Profile::Worker(Files::None),
        Profile::Worker(Files::Read),
        Profile::Worker(Files::Write),
    ];

    #[test]
    fn no_role_may_make_a_process_a_socket_or_a_descriptor_of_another_kind() {
        let never = [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_kill,
            libc::SYS_memfd_create,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_mount,
            libc::SYS_keyctl,
            libc::SYS_dup3,
            libc::SYS_pidfd_getfd,
            libc::SYS_rt_sigaction,
            libc::SYS_personality,
        ];
        for profile in EVERY {
            for number in never {
                assert!(!numbers(profile).contains(&number), "{profile:?} may call {number}");
            }
        }
    }

    #[test]
    fn only_a_worker_with_granted_directories_may_open_files() {
        assert!(!numbers(Profile::Compiler).contains(&libc::SYS_openat));
        assert!(!numbers(Profile::Worker(Files::None)).contains(&libc::SYS_openat));
        assert!(numbers(Profile::Worker(Files::Read)).contains(&libc::SYS_openat));
        assert!(!numbers(Profile::Worker(Files::Read)).contains(&libc::SYS_unlinkat));
        assert!(numbers(Profile::Worker(Files::Write)).contains(&libc::SYS_unlinkat));
    }

    #[test]
    fn no_call_is_allowed_both_with_conditions_and_without() {
        // The filter would take the list of conditions for all there is.
        for profile in EVERY {
            let rules = profile.rules();
            let free = rules.iter().filter(|rule| rule.conditions.is_empty());
            for rule in free {
                let conditioned =
                    |other: &Rule| other.number == rule.number && !other.conditions.is_empty();
                assert!(!rules.iter().any(conditioned), "{profile:?}: {}", rule.number);
            }
        }
    }

    /// The page's table of rules, so that whoever reads it need not read the lists.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn docs_security_lists_every_rule() {
        use std::fmt::Write;

        const BEGIN: &str = "<!-- calls: made by a test -->\n";
        const END: &str = "<!-- end of calls -->";
        const UPDATE: &str = "STOCKADE_UPDATE=1 cargo test -p stockade-worker docs_security";
        let mut table = String::from("| system call | for | whose | |\n|---|---|---|---|\n");
        for (whose, list) in [
            ("both", lists::BOTH),
            ("worker", lists::WORKER),
            ("worker, until it is sealed", lists::LOADING),
            ("compiler", lists::COMPILER),
            ("template, until a clone is a worker", template::TEMPLATE),
            ("worker, with granted directories", lists::READING_FILES),
            ("worker, with writable ones", lists::WRITING_FILES),
        ] {
            for Rule { number, conditions, reason } in list {
                let number = usize::try_from(*number).unwrap();
                let name = syscalls::Sysno::new(number).unwrap().name();
                let some = if conditions.is_empty() { "" } else { "some arguments only" };
                writeln!(table, "| `{name}` | {reason} | {whose} | {some} |").unwrap();
            }
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/security.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once(BEGIN).expect("the first marker");
        let (there, after) = rest.split_once(END).expect("the second marker");
        if std::env::var_os("STOCKADE_UPDATE").is_some() {
            std::fs::write(path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        } else {
            assert!(there == table, "docs/security.md lists other rules; run: {UPDATE}");
        }
    }

    #[test]
    fn the_filter_of_a_clone_is_what_it_would_make_by_itself_and_no_other_process_has_it() {
        let space = Space { memories: 0x7f00_0000_0000..0x7f10_0000_0000, windows: vec![] };
        let other = Space { memories: 0x7f00_0000_0000..0x7f10_0000_1000, windows: vec![] };
        for files in [Files::None, Files::Read, Files::Write] {
            let filter = CloneFilter::prepare(files, space.clone(), false).unwrap();
            let own = seal_program(files, &space, 1, refusal(false)).unwrap();
            assert_eq!(filter.program_of(files, &space, 1), Some(&own));
            assert_eq!(filter.program_of(files, &other, 1), None);
            assert_eq!(filter.program_of(files, &space, 2), None);
        }
        let filter = CloneFilter::prepare(Files::Read, space.clone(), false).unwrap();
        assert_eq!(filter.program_of(Files::None, &space, 1), None);
    }

    #[test]
    fn every_rule_has_a_reason() {
        for profile in EVERY {
            assert!(profile.rules().iter().all(|rule| !rule.reason.is_empty()));
        }
    }
}
