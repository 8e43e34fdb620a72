//! Imports: the functions that a guest may import with their types, and refusals of others.
//!
//! A worker links exactly these functions; a test there compares the two, name by name and type by
//! type. So the list can be used without an engine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use stockade_abi::import;
use stockade_wire::ValueType::{self, I32, I64};
use stockade_wire::{
    IMPORTS_MAX, NAME_BYTES_MAX, REFUSAL_BYTES_MAX, Refusal, RefusalKind, UnknownImports,
};
use wasmparser::TypeRef;
use wasmparser::types::CoreTypeId;

use crate::description::{self, ImportOutline, Signature};
use crate::hosts::Host;
use crate::refusal;
use crate::text::{Bounded, quoted};

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
pub fn provided(module: &str, name: &str) -> Option<&'static Provided> {
    IMPORTS.iter().find(|provided| provided.name == name && provided.module == module)
}

/// Checks that every one of `imports` is provided, with the type it is imported as, or is a function
/// that something may stand in for.
///
/// # Errors
/// A refusal that names all that are not, each once.
pub(crate) fn check(imports: &[ImportOutline<'_>], unknown: UnknownImports) -> Result<(), Refusal> {
    if imports.len() > IMPORTS_MAX {
        let message =
            format!("it has {} imports, but only {IMPORTS_MAX} are allowed", imports.len());
        return Err(refusal(RefusalKind::Limit, &message));
    }
    let mut refused = Refused::default();
    let mut unknown_types = BTreeMap::new();
    for (import, host) in imports.iter().zip(Host::of_all(imports)) {
        match provided(import.module, import.name) {
            Some(provided) => refused.check_type(import, provided),
            None => {
                let why = no_stand_in(import, unknown, &mut unknown_types);
                if let Some(why) = why {
                    refused.add_unknown(import, host, why);
                }
            }
        }
    }
    refused.finish()
}

/// The strictest setting of unknown imports that admits these, which one has admitted.
pub(crate) fn strictest(imports: &[ImportOutline<'_>]) -> UnknownImports {
    [UnknownImports::Refuse, UnknownImports::DefaultValues]
        .into_iter()
        .find(|unknown| check(imports, *unknown).is_ok())
        .unwrap_or(UnknownImports::Trap)
}

/// Why an unknown import has no stand-in; `None` if it has one. `types` are those of the unknown
/// functions before it.
fn no_stand_in<'a>(
    import: &ImportOutline<'a>,
    unknown: UnknownImports,
    types: &mut BTreeMap<(&'a str, &'a str), CoreTypeId>,
) -> Option<&'static str> {
    let id = match (unknown, import.id) {
        (UnknownImports::Trap | UnknownImports::DefaultValues, Some(id)) => id,
        _ => return Some(""),
    };
    if unknown == UnknownImports::DefaultValues && !import.has_default_results {
        return Some("its results have no default value");
    }
    if import.module.len() > NAME_BYTES_MAX || import.name.len() > NAME_BYTES_MAX {
        return Some("its name is too long");
    }
    let first = *types.entry((import.module, import.name)).or_insert(id);
    (first != id).then_some("it is imported as functions of different types")
}

/// Imports that a module is refused for.
#[derive(Debug, Default)]
struct Refused<'a> {
    /// By the words for their provider, in the order of the first of each.
    groups: Vec<(&'static str, Vec<String>)>,
    mistyped: Vec<String>,
    seen: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Refused<'a> {
    fn check_type(&mut self, import: &ImportOutline<'a>, provided: &Provided) {
        let provided = Signature::of(provided);
        let imported = match &import.signature {
            Some(imported) if *imported == provided => return,
            Some(imported) => imported.to_string(),
            None => format!("a {}", description::type_name(import.ty)),
        };
        if self.seen.insert((import.module, import.name)) {
            let provided = match import.signature {
                Some(_) => provided.to_string(),
                None => "a function".into(),
            };
            let name = name_of(import);
            self.mistyped.push(format!("{name} as {imported}, where it is {provided}"));
        }
    }

    fn add_unknown(&mut self, import: &ImportOutline<'a>, host: Host, why: &'static str) {
        if !self.seen.insert((import.module, import.name)) {
            return;
        }
        let mut name = name_of(import);
        if !matches!(import.ty, TypeRef::Func(_) | TypeRef::FuncExact(_)) {
            // A name is never cut short by what it is.
            let _ = write!(name, " as a {}", description::type_name(import.ty));
        }
        let words = if why.is_empty() { host.words(import.ty) } else { why };
        match self.groups.iter_mut().find(|(known, _)| *known == words) {
            Some((_, names)) => names.push(name),
            None => self.groups.push((words, vec![name])),
        }
    }

    fn finish(self) -> Result<(), Refusal> {
        let mut parts = Vec::new();
        let count: usize = self.groups.iter().map(|(_, names)| names.len()).sum();
        if count > 0 {
            let groups: Vec<String> = self
                .groups
                .iter()
                .map(|(words, names)| format!("{} ({words})", names.join(", ")))
                .collect();
            let verb = if count == 1 { "is" } else { "are" };
            parts.push(format!("{}, which {verb} not provided", groups.join("; ")));
        }
        if !self.mistyped.is_empty() {
            parts.push(self.mistyped.join(", and "));
        }
        if parts.is_empty() {
            return Ok(());
        }
        let mut message = Bounded::new(REFUSAL_BYTES_MAX);
        // What does not fit is left out, and marked.
        let _ = write!(message, "it imports {}", parts.join(", and "));
        Err(Refusal { kind: RefusalKind::Import, message: message.finish() })
    }
}

fn name_of(import: &ImportOutline<'_>) -> String {
    format!("`{}.{}`", quoted(import.module), quoted(import.name))
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
