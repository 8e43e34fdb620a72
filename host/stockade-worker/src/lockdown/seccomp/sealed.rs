//! The filter of a worker that is sealed: what it may do with memory from then on.
//!
//! ```text
//! mmap      counted, private ─────────────► anywhere: RLIMIT_DATA holds it
//!           not counted, or a task's input ─► only where memories of guests are
//! mprotect  to readable and writable ─────► anywhere: RLIMIT_DATA holds it
//!           to no access ─────────────────► only in the windows above memories
//! mremap    ──────────────────────────────► does not exist
//! ```
//!
//! `RLIMIT_DATA` counts private memory that may be written *now*. Memory that was written and is not
//! writable any more keeps its pages and is not counted, so nothing may make it so, but for windows
//! whose number and length are bounded.
//!
//! Invariant: nothing that is not counted makes the address space larger. Not for the sake of the
//! address space alone: once a mapping does not fit into what `RLIMIT_AS` leaves, the kernel no longer
//! asks `RLIMIT_DATA` whether it may become writable (`mprotect_fixup` of mm/mprotect.c refuses only
//! what would have fitted before). So that limit must never be within reach, see
//! [`Space`](super::super::Space).

use libc::{MAP_FIXED, SYS_mmap, SYS_mprotect};
use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use super::super::space::Space;
use super::lists::{INPUT_MAPPING, NO_ACCESS, PRIVATE, PRIVATE_OPTIONS, READ_ONLY};
use super::{Rules, in_words};

/// The arguments of `mmap` and `mprotect`.
const START: u8 = 0;
const LENGTH: u8 = 1;
const ACCESS: u8 = 2;
const FLAGS: u8 = 3;
const OFFSET: u8 = 5;

/// Adds to `rules`, which are those of any worker, what it may do where its guests' memory is.
///
/// # Errors
/// If there are too many windows, or too long ones; or the filter's own words.
pub(super) fn add_to(rules: &mut Rules, space: &Space) -> Result<(), String> {
    if !space.memories.is_empty() {
        let [access, flags, offset] = INPUT_MAPPING.map(i32::cast_unsigned);
        let fixed = PRIVATE | MAP_FIXED.cast_unsigned();
        let free = u64::from(!(PRIVATE_OPTIONS & !MAP_FIXED.cast_unsigned()));
        let remapped =
            |access| vec![equals(ACCESS, access), half(FLAGS, SeccompCmpOp::MaskedEq(free), fixed)];
        let input = vec![equals(ACCESS, access), equals(FLAGS, flags), equals(OFFSET, offset)];
        rules.entry(SYS_mmap).or_default().extend([
            rule([within(space), remapped(READ_ONLY)])?,
            rule([within(space), remapped(NO_ACCESS)])?,
            rule([within(space), input])?,
        ]);
    }
    let hidden = || vec![equals(ACCESS, NO_ACCESS)];
    let of_mprotect = rules.entry(SYS_mprotect).or_default();
    if space.windows.len() > Space::WINDOWS_MAX {
        return Err(format!("{} windows of memory are too many", space.windows.len()));
    }
    for window in &space.windows {
        if window.len() > Space::WINDOW_BYTES_MAX {
            return Err(format!("a window of {} bytes", window.len()));
        }
        // A filter cannot add, so a range is known to end in its window only where it is known to
        // begin: at the window's own beginning.
        let place = vec![
            whole(START, SeccompCmpOp::Eq, window.start),
            whole(LENGTH, SeccompCmpOp::Le, window.len()),
        ];
        of_mprotect.push(rule([place, hidden()])?);
    }
    Ok(())
}

type Condition = Result<SeccompCondition, seccompiler::BackendError>;

/// A range that begins where memories of guests are and is no longer than the longest of them. It may
/// end behind them, by less than that length.
fn within(space: &Space) -> Vec<Condition> {
    vec![
        whole(START, SeccompCmpOp::Ge, space.memories.start),
        whole(START, SeccompCmpOp::Lt, space.memories.end),
        whole(LENGTH, SeccompCmpOp::Le, Space::BEYOND_BYTES_MAX),
    ]
}

fn rule(conditions: [Vec<Condition>; 2]) -> Result<SeccompRule, String> {
    let conditions: Result<Vec<_>, _> = conditions.into_iter().flatten().collect();
    SeccompRule::new(conditions.map_err(in_words)?).map_err(in_words)
}

/// All 64 bits of an argument.
fn whole(argument: u8, operation: SeccompCmpOp, value: usize) -> Condition {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operation, value as u64)
}

fn equals(argument: u8, value: u32) -> Condition {
    half(argument, SeccompCmpOp::Eq, value)
}

/// The lower half of an argument: the kernel looks at no other of flags and access.
fn half(argument: u8, operation: SeccompCmpOp, value: u32) -> Condition {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operation, value.into())
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use seccompiler::{BpfProgram, SeccompAction};

    use super::super::run::run;
    use super::super::{Files, Profile, program, seal_program};
    use super::*;

    const PAGE: u64 = 4096;
    const MEMORIES: Range<usize> = 0x7f00_0000_0000..0x7f10_0000_0000;
    const WINDOW: Range<usize> = 0x7f00_0001_0000..0x7f00_0011_0000;

    fn sealed(windows: Vec<Range<usize>>) -> Result<BpfProgram, String> {
        let space = Space { memories: MEMORIES, windows };
        seal_program(Files::None, &space, 1, SeccompAction::KillProcess)
    }

    fn is_allowed(program: &BpfProgram, call: i64, arguments: [u64; 6]) -> bool {
        run(program, call as u32, arguments) == libc::SECCOMP_RET_ALLOW
    }

    #[test]
    fn flags_of_private_memory_are_those_of_a_list() {
        let sealed = sealed(vec![]).unwrap();
        let worker = program(Profile::Worker(Files::None), SeccompAction::KillProcess).unwrap();
        let template = program(Profile::Template(Files::None), SeccompAction::KillProcess).unwrap();
        let compiler = program(Profile::Compiler, SeccompAction::KillProcess).unwrap();
        for bit in 0..32 {
            let flags = 0x22 | 1_u64 << bit;
            let needed = [libc::MAP_PRIVATE, libc::MAP_ANONYMOUS];
            let needed = needed.into_iter().any(|flag| 1 << bit == flag as u64);
            for program in [&worker, &sealed] {
                let mapped = is_allowed(program, SYS_mmap, [0, PAGE, 3, flags, u64::MAX, 0]);
                assert_eq!(mapped, needed, "{flags:#x}");
            }
            // The stack of a clone's thread.
            let needed = needed || 1 << bit == libc::MAP_STACK as u64;
            let mapped = is_allowed(&template, SYS_mmap, [0, PAGE, 3, flags, u64::MAX, 0]);
            assert_eq!(mapped, needed, "{flags:#x}");
            let mapped = is_allowed(&compiler, SYS_mmap, [0, PAGE, 3, flags, u64::MAX, 0]);
            assert_eq!(mapped, flags == 0x22, "{flags:#x}");
        }
    }

    #[test]
    fn memory_that_is_not_counted_is_mapped_only_where_guests_have_theirs() {
        let program = sealed(vec![]).unwrap();
        let (start, end) = (MEMORIES.start as u64, MEMORIES.end as u64);
        let beyond = Space::BEYOND_BYTES_MAX as u64;
        let [_, shared, _] = INPUT_MAPPING.map(|flags| flags as u64);
        for (access, flags) in [(0, 0x4032), (1, 0x32), (1, 0x12), (3, shared)] {
            for (at, length, expected) in [
                (start, PAGE, true),
                (end - PAGE, PAGE, true),
                (start, beyond, true),
                (start, beyond + 1, false),
                (start - PAGE, PAGE, false),
                (end, PAGE, false),
                (0, PAGE, false),
                // The upper halves count as well.
                (start | 1 << 63, PAGE, false),
                (start, PAGE | 1 << 63, false),
            ] {
                let mapped = is_allowed(&program, SYS_mmap, [at, length, access, flags, 9, 0]);
                assert_eq!(mapped, expected, "{access} {flags:#x} {at:#x} {length:#x}");
            }
        }
        // Not fixed, an address is a wish.
        assert!(!is_allowed(&program, SYS_mmap, [start, PAGE, 1, 0x22, 9, 0]));
        // Nor is there any access besides.
        for access in [2, 4, 5, 6, 7, 8] {
            assert!(!is_allowed(&program, SYS_mmap, [start, PAGE, access, 0x32, 9, 0]));
            assert!(!is_allowed(&program, SYS_mmap, [start, PAGE, access, shared, 9, 0]));
        }
    }

    #[test]
    fn written_memory_leaves_the_count_only_in_windows() {
        let none = sealed(vec![]).unwrap();
        let program = sealed(vec![WINDOW]).unwrap();
        let (start, length) = (WINDOW.start as u64, WINDOW.len() as u64);
        for (at, length, expected) in [
            (start, PAGE, true),
            (start, length, true),
            (start, length + 1, false),
            (start + PAGE, PAGE, false),
            (start - PAGE, PAGE, false),
            (start | 1 << 63, PAGE, false),
            (start, PAGE | 1 << 63, false),
        ] {
            let hidden = is_allowed(&program, SYS_mprotect, [at, length, 0, 0, 0, 0]);
            assert_eq!(hidden, expected, "{at:#x} {length:#x}");
            assert!(!is_allowed(&none, SYS_mprotect, [at, length, 0, 0, 0, 0]));
        }
        for program in [&none, &program] {
            for at in [0, start] {
                assert!(is_allowed(program, SYS_mprotect, [at, 1 << 40, 3, 0, 0, 0]));
                for access in (1..64).filter(|access| *access != 3) {
                    assert!(!is_allowed(program, SYS_mprotect, [at, PAGE, access, 0, 0, 0]));
                }
            }
        }
    }

    /// Linux takes address space that is mapped already for paid, whatever it was mapped for: a fixed
    /// mapping over it may be written, and `RLIMIT_DATA` is not asked.
    #[test]
    fn memory_that_may_be_written_is_mapped_over_nothing() {
        let sealed = sealed(vec![WINDOW]).unwrap();
        let worker = program(Profile::Worker(Files::None), SeccompAction::KillProcess).unwrap();
        for flags in [0x32_u64, 0x12, 0x4032] {
            for program in [&worker, &sealed] {
                let at = MEMORIES.start as u64;
                assert!(
                    !is_allowed(program, SYS_mmap, [at, PAGE, 3, flags, u64::MAX, 0]),
                    "{flags:#x}"
                );
            }
        }
        assert!(is_allowed(&sealed, SYS_mmap, [0, PAGE, 3, 0x22, u64::MAX, 0]));
    }

    #[test]
    fn windows_are_few_and_short() {
        let windows = |count: usize, bytes: usize| {
            let window = |at: usize| at << 32..(at << 32) + bytes;
            sealed((1..=count).map(window).collect())
        };
        assert!(windows(Space::WINDOWS_MAX, Space::WINDOW_BYTES_MAX).is_ok());
        assert!(windows(Space::WINDOWS_MAX + 1, Space::WINDOW_BYTES_MAX).is_err());
        assert!(windows(1, Space::WINDOW_BYTES_MAX + 1).is_err());
        let program = windows(Space::WINDOWS_MAX, Space::WINDOW_BYTES_MAX).unwrap();
        let last = (Space::WINDOWS_MAX as u64) << 32;
        assert!(is_allowed(
            &program,
            SYS_mprotect,
            [last, Space::WINDOW_BYTES_MAX as u64, 0, 0, 0, 0]
        ));
    }

    #[test]
    fn what_could_grow_unseen_is_not_there_once_sealed() {
        let worker = program(Profile::Worker(Files::None), SeccompAction::KillProcess).unwrap();
        let sealed = sealed(vec![]).unwrap();
        let moved = [0x1000, 4096, 8192, 1, 0, 0];
        assert!(is_allowed(&worker, libc::SYS_mremap, moved));
        let absent = run(&sealed, libc::SYS_mremap as u32, moved);
        assert_eq!(absent, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
        let of_space = [0, libc::RLIMIT_AS.into(), 0x1000, 0, 0, 0];
        assert!(is_allowed(&worker, libc::SYS_prlimit64, of_space));
        assert!(!is_allowed(&sealed, libc::SYS_prlimit64, of_space));
        // Other limits are not its to move, nor are those of others.
        let of_data = [0, libc::RLIMIT_DATA.into(), 0x1000, 0, 0, 0];
        let of_another = [1, libc::RLIMIT_AS.into(), 0x1000, 0, 0, 0];
        assert!(
            ![of_data, of_another]
                .into_iter()
                .any(|arguments| { is_allowed(&worker, libc::SYS_prlimit64, arguments) })
        );
    }
}
