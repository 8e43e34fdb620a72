//! The lists: every system call that a role may make once it is locked down, each with its reason.
//!
//! A call that is not listed kills the process. An attacker in it can therefore only read and write
//! its descriptors, map and unmap its own memory, read clocks, and exit.
//!
//! Numbers come from the target's own table, so each architecture has its own lists; what exists on
//! one only is marked.

use libc::{
    F_DUPFD_CLOEXEC, F_GET_SEALS, F_GETFD, F_GETFL, F_SETFL, FUTEX_CLOCK_REALTIME,
    FUTEX_PRIVATE_FLAG, FUTEX_WAIT, FUTEX_WAIT_BITSET, FUTEX_WAKE, FUTEX_WAKE_BITSET,
    MADV_DONTNEED, MADV_FREE, MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_POPULATE, MAP_PRIVATE,
    MAP_SHARED, MREMAP_MAYMOVE, PR_SET_NO_NEW_PRIVS, PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE,
    SIGABRT,
};

use super::rule::Condition::{Is, IsBut, OwnProcess};
use super::rule::{Rule, allow, allow_if};

/// Access of memory that the kernel counts against the limit on private memory.
pub(super) const COUNTED: u32 = (PROT_READ | PROT_WRITE) as u32;
/// Access of memory that the kernel does not count: pages that were written before are not given
/// back.
pub(super) const READ_ONLY: u32 = PROT_READ as u32;
pub(super) const NO_ACCESS: u32 = PROT_NONE as u32;
pub(super) const PRIVATE: u32 = MAP_PRIVATE as u32;
/// Further flags that are allowed when private memory is mapped. All others are refused, above all
/// `MAP_GROWSDOWN`, which is not counted, and flags that lock or prefault memory.
pub(super) const PRIVATE_OPTIONS: u32 = (MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE) as u32;

const CLOCK: u32 = FUTEX_CLOCK_REALTIME as u32;

const fn private(operation: i32) -> u32 {
    (operation | FUTEX_PRIVATE_FLAG) as u32
}

/// Calls of any Rust program that uses a socket and manages its own memory.
pub(super) const BOTH: &[Rule] = &[
    allow(libc::SYS_read, "its socket"),
    allow(libc::SYS_write, "its socket, and a final message on stderr"),
    allow(libc::SYS_recvmsg, "messages with descriptors"),
    allow_if(libc::SYS_recvfrom, &[Is(5, 0)], "messages"),
    allow_if(libc::SYS_sendto, &[Is(5, 0)], "messages, only to its socket's peer"),
    allow(libc::SYS_close, "descriptors that came with messages"),
    allow(libc::SYS_pread64, "files from the host, whose offset is shared"),
    allow(libc::SYS_pwrite64, "results into files from the host"),
    allow(libc::SYS_fstat, "the length of a file from the host"),
    allow_if(libc::SYS_fcntl, &[Is(1, F_GET_SEALS as u32)], "whether a file is sealed"),
    allow_if(libc::SYS_fcntl, &[Is(1, F_GETFD as u32)], "whether a descriptor is open"),
    allow_if(libc::SYS_fcntl, &[Is(1, F_DUPFD_CLOEXEC as u32)], "duplicating a descriptor"),
    allow_if(
        libc::SYS_mmap,
        &[Is(2, COUNTED), Is(3, PRIVATE | MAP_ANONYMOUS as u32)],
        "the allocator's large blocks",
    ),
    allow(libc::SYS_munmap, "freeing memory"),
    allow(libc::SYS_brk, "the allocator's heap"),
    allow_if(libc::SYS_madvise, &[Is(2, MADV_DONTNEED as u32)], "memory emptied"),
    allow_if(libc::SYS_madvise, &[Is(2, MADV_FREE as u32)], "memory emptied"),
    allow_if(libc::SYS_futex, &[IsBut(1, CLOCK, private(FUTEX_WAIT))], "locks of its own"),
    allow_if(libc::SYS_futex, &[IsBut(1, CLOCK, private(FUTEX_WAKE))], "locks of its own"),
    allow_if(
        libc::SYS_futex,
        &[IsBut(1, CLOCK, private(FUTEX_WAIT_BITSET))],
        "waits with a timeout",
    ),
    allow_if(
        libc::SYS_futex,
        &[IsBut(1, CLOCK, private(FUTEX_WAKE_BITSET))],
        "waits with a timeout",
    ),
    // The kernel wakes the joiner of a thread with a shared futex.
    allow_if(libc::SYS_futex, &[IsBut(1, CLOCK, FUTEX_WAIT_BITSET as u32)], "a thread's exit"),
    allow(libc::SYS_sched_yield, "contended locks"),
    allow(libc::SYS_clock_gettime, "clocks, where they need a system call"),
    allow(libc::SYS_clock_getres, "clocks"),
    allow(libc::SYS_getrandom, "seeds of hash tables, and a guest's randomness"),
    allow(libc::SYS_sigaltstack, "the stack of signal handlers"),
    allow(libc::SYS_rt_sigprocmask, "around an abort"),
    allow(libc::SYS_rt_sigreturn, "returning from a trap's handler"),
    allow(libc::SYS_restart_syscall, "a sleep that a stop interrupted"),
    allow(libc::SYS_gettid, "an abort"),
    allow(libc::SYS_getpid, "an abort"),
    allow_if(
        libc::SYS_tgkill,
        &[OwnProcess(0), Is(2, SIGABRT as u32)],
        "an abort: a signal to itself",
    ),
    allow(libc::SYS_exit, "a thread's exit"),
    allow(libc::SYS_exit_group, "its own exit"),
];

/// How a task's input is mapped: access, flags and offset.
pub(super) const INPUT_MAPPING: [libc::c_int; 3] =
    [PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_POPULATE, 0];

/// Calls of a worker, until its last task.
pub(super) const WORKER: &[Rule] = &[
    allow_if(libc::SYS_mprotect, &[Is(2, COUNTED)], "memory of guests that grows or is written"),
    allow(libc::SYS_readv, "a command's stdin"),
    allow(libc::SYS_writev, "a command's stdout and stderr"),
    allow_if(libc::SYS_ppoll, &[Is(3, 0)], "polling a command's streams and pipes"),
    allow(libc::SYS_clock_nanosleep, "a sleeping guest, until its deadline at most"),
];

/// Calls of a worker until its last module is mapped, and of a sealed one within bounds or not at
/// all: see [`sealed`](super::sealed).
pub(super) const LOADING: &[Rule] = &[
    allow(libc::SYS_statx, "the length of an artefact, before it is mapped"),
    allow_if(
        libc::SYS_mmap,
        &[Is(2, (PROT_READ | PROT_EXEC) as u32), IsBut(3, MAP_FIXED as u32, PRIVATE)],
        "code, from a sealed file; until the last module is mapped",
    ),
    allow_if(
        libc::SYS_mmap,
        &[Is(2, COUNTED), Is(3, PRIVATE)],
        "an artefact that is read; until the last module is mapped",
    ),
    allow_if(
        libc::SYS_mmap,
        &[Is(2, READ_ONLY), IsBut(3, PRIVATE_OPTIONS, PRIVATE)],
        "read-only memory of guests; once sealed, only in their range",
    ),
    allow_if(
        libc::SYS_mmap,
        &[Is(2, NO_ACCESS), IsBut(3, PRIVATE_OPTIONS, PRIVATE)],
        "address space for guests; once sealed, only in their range",
    ),
    allow_if(
        libc::SYS_mmap,
        &[
            Is(2, INPUT_MAPPING[0] as u32),
            Is(3, INPUT_MAPPING[1] as u32),
            Is(5, INPUT_MAPPING[2] as u32),
        ],
        "a task's input, from its file over its guest's memory only",
    ),
    allow_if(
        libc::SYS_mprotect,
        &[Is(2, READ_ONLY)],
        "an artefact that was read; until the last module is mapped",
    ),
    allow_if(
        libc::SYS_mprotect,
        &[Is(2, NO_ACCESS)],
        "memory that a guest had grown; once sealed, only in their range",
    ),
    allow_if(
        libc::SYS_mremap,
        &[Is(3, MREMAP_MAYMOVE as u32)],
        "the allocator's large blocks; refused once sealed",
    ),
    allow_if(
        libc::SYS_prlimit64,
        &[Is(0, 0), Is(1, libc::RLIMIT_AS)],
        "limiting its own address space to what is mapped; until the second filter is on",
    ),
    allow_if(
        libc::SYS_seccomp,
        &[Is(0, libc::SECCOMP_SET_MODE_FILTER), Is(1, libc::SECCOMP_FILTER_FLAG_TSYNC as u32)],
        "the second filter; until it is on",
    ),
    allow_if(libc::SYS_prctl, &[Is(0, PR_SET_NO_NEW_PRIVS as u32)], "the second filter"),
];

/// Calls of a compiler.
pub(super) const COMPILER: &[Rule] = &[
    allow_if(libc::SYS_mremap, &[Is(3, MREMAP_MAYMOVE as u32)], "the allocator's large blocks"),
    allow_if(libc::SYS_prlimit64, &[Is(0, 0), Is(1, libc::RLIMIT_CPU)], LOWERED),
    allow_if(libc::SYS_prlimit64, &[Is(0, 0), Is(1, libc::RLIMIT_DATA)], LOWERED),
    allow_if(libc::SYS_prlimit64, &[Is(0, 0), Is(1, libc::RLIMIT_AS)], LOWERED),
    allow_if(libc::SYS_prlimit64, &[Is(0, 0), Is(1, libc::RLIMIT_FSIZE)], LOWERED),
];

const LOWERED: &str = "lowering its own limits to those of the request";

/// What guests do in a directory that was granted; where it is, Landlock decides. What they do with a
/// file that is open stands here whatever was granted: one that is open for reading alone answers
/// with an error number.
pub(super) const READING_FILES: &[Rule] = &[
    allow(libc::SYS_openat, "files"),
    allow(libc::SYS_openat2, "files, without leaving a directory"),
    allow(libc::SYS_newfstatat, "metadata of a file"),
    allow(libc::SYS_statx, "metadata of a file"),
    allow(libc::SYS_fstatfs, "metadata of a file system"),
    allow(libc::SYS_getdents64, "directories"),
    // When anything on the machine is renamed, the kernel may refuse to follow a path at once; then it
    // is followed step by step.
    allow(libc::SYS_faccessat2, "access to a directory on a path"),
    allow(libc::SYS_readlinkat, "symbolic links"),
    #[cfg(target_arch = "x86_64")]
    allow(libc::SYS_readlink, "symbolic links"),
    allow(libc::SYS_lseek, "positions in files"),
    allow(libc::SYS_preadv, "files"),
    allow(libc::SYS_preadv2, "files"),
    allow(libc::SYS_fadvise64, "advice about files"),
    allow(libc::SYS_pwritev, "files"),
    allow(libc::SYS_pwritev2, "appending to files"),
    allow(libc::SYS_ftruncate, "files"),
    allow(libc::SYS_fallocate, "files"),
    allow(libc::SYS_fsync, "files"),
    allow(libc::SYS_fdatasync, "files"),
    allow_if(libc::SYS_fcntl, &[Is(1, F_GETFL as u32)], "a file's flags"),
    allow_if(
        libc::SYS_prlimit64,
        &[Is(0, 0), Is(1, libc::RLIMIT_NOFILE)],
        "hiding descriptors from guests",
    ),
    allow_if(libc::SYS_fcntl, &[Is(1, F_SETFL as u32)], "a file's flags"),
];

/// What guests do in a directory that was granted for writing.
pub(super) const WRITING_FILES: &[Rule] = &[
    allow(libc::SYS_utimensat, "times of files"),
    allow(libc::SYS_mkdirat, "directories"),
    allow(libc::SYS_unlinkat, "files and directories"),
    #[cfg(target_arch = "x86_64")]
    allow(libc::SYS_renameat, "files and directories"),
    allow(libc::SYS_renameat2, "files and directories"),
    allow(libc::SYS_linkat, "links"),
    allow(libc::SYS_symlinkat, "links"),
];
