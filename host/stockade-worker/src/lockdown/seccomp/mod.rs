//! The filter of system calls: what a role needs and no more; anything else ends the process.
//!
//! ```text
//! lists ─► Role's rules ─► BPF ─► every thread     before the first hostile byte
//!          seal ────────► BPF ─► every thread     a worker, once its last module is mapped
//!          taken_away ──► BPF ─► every thread     a template's clone, instead of both
//! ```
//!
//! Filters add up: the second only takes away. From then on no memory of a worker can become
//! executable, whatever file it may come by.
//!
//! Invariant: calls of another architecture or number space (`int 0x80`, x32) are on no list.

mod explain;
mod lists;
mod rule;
mod template;

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use rule::{Condition, Rule};
pub(crate) use template::CLONE_FLAGS;

/// Whose calls are filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// A worker's, with what its guests were granted of the file system.
    Worker(Files),
    /// A template's, whose clones are such workers.
    Template(Files),
    /// Of a worker that inherited a template's.
    Clone(Files),
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
            // Whatever else it inherited it takes away.
            Self::Clone(files) => return Self::Worker(files).rules(),
            Self::Compiler => &[lists::BOTH, lists::COMPILER],
            Self::Worker(Files::None) => &[lists::BOTH, lists::WORKER],
            Self::Worker(Files::Read) => &[lists::BOTH, lists::WORKER, lists::READING_FILES],
            Self::Worker(Files::Write) => {
                &[lists::BOTH, lists::WORKER, lists::READING_FILES, lists::WRITING_FILES]
            }
        };
        lists.concat()
    }
}

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
    if let Profile::Clone(files) = profile {
        return assembled(template::taken_away(files)?, SeccompAction::Allow, refusal);
    }
    let own_process = match profile {
        // A clone is the first of its namespace.
        Profile::Template(_) => 1,
        _ => std::process::id(),
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for rule in profile.rules() {
        let of_call = rules.entry(rule.number).or_default();
        if !rule.conditions.is_empty() {
            of_call.push(compiled(rule.conditions, own_process)?);
        }
    }
    let program = assembled(rules, refusal, SeccompAction::Allow)?;
    Ok(match profile {
        Profile::Template(_) => template::without_clone3(program),
        _ => program,
    })
}

/// Takes away what a worker needs only to load modules: from now on nothing maps executable memory,
/// and without granted directories nothing asks for files by name.
///
/// # Errors
/// As [`put_on`].
pub(super) fn seal(files: Files, explains: bool) -> Result<(), String> {
    apply(&seal_program(files, refusal(explains))?)
}

fn seal_program(files: Files, refusal: SeccompAction) -> Result<BpfProgram, String> {
    const EXECUTABLE: u32 = libc::PROT_EXEC as u32;
    let mut rules = BTreeMap::new();
    let executable = SeccompCondition::new(
        2,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(EXECUTABLE.into()),
        EXECUTABLE.into(),
    );
    let executable = SeccompRule::new(vec![executable.map_err(in_words)?]).map_err(in_words)?;
    rules.insert(libc::SYS_mmap, vec![executable]);
    rules.insert(libc::SYS_seccomp, Vec::new());
    if files == Files::None {
        rules.insert(libc::SYS_statx, Vec::new());
    }
    assembled(rules, SeccompAction::Allow, refusal)
}

/// What a filter does, in a report.
pub(super) const SUMMARY: &str = "any system call that its role does not need ends it";

fn refusal(explains: bool) -> SeccompAction {
    if explains { SeccompAction::Trap } else { SeccompAction::KillProcess }
}

fn assembled(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    action: SeccompAction,
) -> Result<BpfProgram, String> {
    let architecture = std::env::consts::ARCH.try_into().map_err(in_words)?;
    let filter = SeccompFilter::new(rules, otherwise, action, architecture).map_err(in_words)?;
    filter.try_into().map_err(in_words)
}

fn apply(program: &BpfProgram) -> Result<(), String> {
    seccompiler::apply_filter_all_threads(program).map_err(in_words)
}

fn compiled(conditions: &[Condition], own_process: u32) -> Result<SeccompRule, String> {
    let condition = |condition: &Condition| {
        let (argument, comparison, value) = match *condition {
            Condition::Is(argument, value) => (argument, SeccompCmpOp::Eq, value),
            Condition::Without(argument, bits) => {
                (argument, SeccompCmpOp::MaskedEq(bits.into()), 0)
            }
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

    const EVERY: [Profile; 5] = [
        Profile::Clone(Files::None),
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
    fn every_rule_has_a_reason() {
        for profile in EVERY {
            assert!(profile.rules().iter().all(|rule| !rule.reason.is_empty()));
        }
    }
}
