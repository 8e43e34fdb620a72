//! Exposing: a module whose memory and globals are exported under names of our own, so that they can be
//! looked at where it traps. The engine gives nobody what is not exported.
//!
//! Only the section of exports is made anew. All others keep their bytes, and functions their numbers and
//! the places in them.

use std::collections::HashSet;

use wasmparser::{Parser, Payload};

use crate::coredump::{GLOBAL_EXPORT, GLOBALS_MAX, MEMORY_EXPORT, unsigned};

/// Kinds of exports.
const MEMORY: u8 = 2;
const GLOBAL: u8 = 3;

/// `binary`, a valid module whose imports are all functions, with its memory and its first
/// [`GLOBALS_MAX`] globals exported too; as it is where it exports nothing, so that nobody can call it.
///
/// # Errors
/// Where it is no valid module.
pub(super) fn expose(binary: &[u8]) -> wasmparser::Result<Vec<u8>> {
    let (mut memories, mut globals) = (0, 0);
    let mut out = Vec::with_capacity(binary.len() + (64 << 10));
    for payload in Parser::new(0).parse_all(binary) {
        let payload = payload?;
        let exports = match &payload {
            Payload::Version { range, .. } => {
                out.extend(&binary[range.clone()]);
                continue;
            }
            Payload::MemorySection(section) => {
                memories = section.count();
                None
            }
            Payload::GlobalSection(section) => {
                globals = section.count();
                None
            }
            Payload::ExportSection(section) => {
                let own = section.clone().into_iter().flatten().map(|export| export.name);
                let own: HashSet<&str> = own.collect();
                // A module that has such a name itself spoils no dump but its own.
                let mut added = added(memories, globals);
                added.retain(|(name, ..)| !own.contains(name.as_str()));
                let list = &binary[section.original_position()..section.range().end];
                Some(exports(section.count(), list, &added))
            }
            _ => None,
        };
        let Some((id, range)) = payload.as_section() else { continue };
        let contents = exports.as_deref().unwrap_or(&binary[range]);
        out.push(id);
        unsigned(&mut out, contents.len() as u64);
        out.extend(contents);
    }
    Ok(out)
}

/// A name, a kind and a number in the module.
type Export = (String, u8, u32);

fn added(memories: u32, globals: u32) -> Vec<Export> {
    let memory = (memories > 0).then(|| (MEMORY_EXPORT.to_owned(), MEMORY, 0));
    let globals = (0..globals.min(GLOBALS_MAX))
        .map(|number| (format!("{GLOBAL_EXPORT}{number}"), GLOBAL, number));
    memory.into_iter().chain(globals).collect()
}

/// The section of `count` exports, which are in `list`, and of those that are `added`.
fn exports(count: u32, list: &[u8], added: &[Export]) -> Vec<u8> {
    let mut contents = Vec::new();
    unsigned(&mut contents, u64::from(count) + added.len() as u64);
    contents.extend(list);
    for (name, kind, number) in added {
        unsigned(&mut contents, name.len() as u64);
        contents.extend(name.as_bytes());
        contents.push(*kind);
        unsigned(&mut contents, (*number).into());
    }
    contents
}

#[cfg(test)]
mod tests {
    use wasmparser::{ExternalKind, Validator};

    use super::*;

    fn exposed(source: &str) -> Vec<(String, ExternalKind, u32)> {
        let binary = wat::parse_str(source).unwrap();
        let exposed = expose(&binary).unwrap();
        Validator::new().validate_all(&exposed).unwrap();
        let mut exports = Vec::new();
        for payload in Parser::new(0).parse_all(&exposed) {
            if let Payload::ExportSection(section) = payload.unwrap() {
                let export = section.into_iter().map(Result::unwrap);
                exports
                    .extend(export.map(|export| (export.name.into(), export.kind, export.index)));
            }
        }
        exports
    }

    #[test]
    fn memory_and_globals_are_exported_beside_what_is() {
        let exports = exposed(
            r#"(module (import "m" "f" (func)) (func (export "g")) (memory 1)
                (global i32 (i32.const 1)) (global (mut f64) (f64.const 2)) (data (i32.const 0) "x"))"#,
        );
        let expected = [
            ("g", ExternalKind::Func, 1),
            ("stockade.coredump.memory", ExternalKind::Memory, 0),
            ("stockade.coredump.global.0", ExternalKind::Global, 0),
            ("stockade.coredump.global.1", ExternalKind::Global, 1),
        ];
        assert_eq!(exports, expected.map(|(name, kind, number)| (name.into(), kind, number)));
    }

    #[test]
    fn a_module_without_state_or_without_exports_is_as_it_was() {
        for source in [r#"(module (func (export "f")))"#, "(module (memory 1) (func))"] {
            let binary = wat::parse_str(source).unwrap();
            assert_eq!(expose(&binary).unwrap(), binary);
        }
    }

    #[test]
    fn a_name_that_the_module_has_itself_is_not_given_twice() {
        let exports = exposed(r#"(module (memory 1) (func (export "stockade.coredump.memory")))"#);
        assert_eq!(exports.len(), 1);
        assert_eq!(exports[0].1, ExternalKind::Func);
    }

    #[test]
    fn very_many_globals_are_exposed_as_far_as_a_dump_has_them() {
        let globals = "(global i32 (i32.const 1))".repeat(GLOBALS_MAX as usize + 1);
        let exports = exposed(&format!(r#"(module (func (export "f")) {globals})"#));
        assert_eq!(exports.len(), 1 + GLOBALS_MAX as usize);
    }
}
