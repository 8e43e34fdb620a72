//! Imports: the functions that a guest may import, and their types.
//!
//! A worker links what is listed here and nothing else; a test there compares the two, name by name
//! and type by type, so the list is read where there is no engine to ask.

use stockade_abi::import;
use stockade_wire::ValueType::{self, I32, I64};

/// The module of WASI preview 1.
pub(crate) const WASI: &str = "wasi_snapshot_preview1";

/// A function that a guest may import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provided {
    /// The module it is imported from.
    pub module: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// Parameters in order.
    pub params: &'static [ValueType],
    /// Results in order.
    pub results: &'static [ValueType],
}

/// The function `module.name`, if there is one.
pub(crate) fn provided(module: &str, name: &str) -> Option<&'static Provided> {
    IMPORTS.iter().find(|provided| provided.name == name && provided.module == module)
}

const fn abi(
    name: &'static str,
    params: &'static [ValueType],
    results: &'static [ValueType],
) -> Provided {
    Provided { module: import::MODULE, name, params, results }
}

const fn wasi(
    name: &'static str,
    params: &'static [ValueType],
    results: &'static [ValueType],
) -> Provided {
    Provided { module: WASI, name, params, results }
}

/// Everything that a guest may import: the host calls of the guest ABI and WASI preview 1.
pub const IMPORTS: &[Provided] = &[
    abi(import::INPUT_LEN, &[], &[I32]),
    abi(import::INPUT_CODEC, &[], &[I32]),
    abi(import::INPUT_READ, &[I32, I32, I32], &[]),
    abi(import::INPUT_MAP, &[I32, I32], &[I32]),
    abi(import::OUTPUT_WRITE, &[I32, I32], &[]),
    abi(import::ERROR_WRITE, &[I32, I32], &[]),
    abi(import::PROGRESS, &[I64, I64], &[]),
    abi(import::EMIT, &[I32, I32], &[]),
    abi(import::LOG, &[I32, I32, I32], &[]),
    abi(import::REMAINING_NS, &[], &[I64]),
    abi(import::TASK_ID, &[], &[I64]),
    wasi("args_get", &[I32, I32], &[I32]),
    wasi("args_sizes_get", &[I32, I32], &[I32]),
    wasi("clock_res_get", &[I32, I32], &[I32]),
    wasi("clock_time_get", &[I32, I64, I32], &[I32]),
    wasi("environ_get", &[I32, I32], &[I32]),
    wasi("environ_sizes_get", &[I32, I32], &[I32]),
    wasi("fd_advise", &[I32, I64, I64, I32], &[I32]),
    wasi("fd_allocate", &[I32, I64, I64], &[I32]),
    wasi("fd_close", &[I32], &[I32]),
    wasi("fd_datasync", &[I32], &[I32]),
    wasi("fd_fdstat_get", &[I32, I32], &[I32]),
    wasi("fd_fdstat_set_flags", &[I32, I32], &[I32]),
    wasi("fd_fdstat_set_rights", &[I32, I64, I64], &[I32]),
    wasi("fd_filestat_get", &[I32, I32], &[I32]),
    wasi("fd_filestat_set_size", &[I32, I64], &[I32]),
    wasi("fd_filestat_set_times", &[I32, I64, I64, I32], &[I32]),
    wasi("fd_pread", &[I32, I32, I32, I64, I32], &[I32]),
    wasi("fd_prestat_dir_name", &[I32, I32, I32], &[I32]),
    wasi("fd_prestat_get", &[I32, I32], &[I32]),
    wasi("fd_pwrite", &[I32, I32, I32, I64, I32], &[I32]),
    wasi("fd_read", &[I32, I32, I32, I32], &[I32]),
    wasi("fd_readdir", &[I32, I32, I32, I64, I32], &[I32]),
    wasi("fd_renumber", &[I32, I32], &[I32]),
    wasi("fd_seek", &[I32, I64, I32, I32], &[I32]),
    wasi("fd_sync", &[I32], &[I32]),
    wasi("fd_tell", &[I32, I32], &[I32]),
    wasi("fd_write", &[I32, I32, I32, I32], &[I32]),
    wasi("path_create_directory", &[I32, I32, I32], &[I32]),
    wasi("path_filestat_get", &[I32, I32, I32, I32, I32], &[I32]),
    wasi("path_filestat_set_times", &[I32, I32, I32, I32, I64, I64, I32], &[I32]),
    wasi("path_link", &[I32, I32, I32, I32, I32, I32, I32], &[I32]),
    wasi("path_open", &[I32, I32, I32, I32, I32, I64, I64, I32, I32], &[I32]),
    wasi("path_readlink", &[I32, I32, I32, I32, I32, I32], &[I32]),
    wasi("path_remove_directory", &[I32, I32, I32], &[I32]),
    wasi("path_rename", &[I32, I32, I32, I32, I32, I32], &[I32]),
    wasi("path_symlink", &[I32, I32, I32, I32, I32], &[I32]),
    wasi("path_unlink_file", &[I32, I32, I32], &[I32]),
    wasi("poll_oneoff", &[I32, I32, I32, I32], &[I32]),
    wasi("proc_exit", &[I32], &[]),
    wasi("proc_raise", &[I32], &[I32]),
    wasi("random_get", &[I32, I32], &[I32]),
    wasi("sched_yield", &[], &[I32]),
    wasi("sock_accept", &[I32, I32, I32], &[I32]),
    wasi("sock_recv", &[I32, I32, I32, I32, I32, I32], &[I32]),
    wasi("sock_send", &[I32, I32, I32, I32, I32], &[I32]),
    wasi("sock_shutdown", &[I32, I32], &[I32]),
];
