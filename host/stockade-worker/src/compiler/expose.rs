//! Exports a module's memory and globals under names of our own, so that they can be dumped after a
//! trap: the engine gives access only to exports.
//!
//! Only the section of exports is made anew. All others keep their bytes, and functions their numbers and
//! the places in them.

use std::collections::HashSet;

use wasm_encoder::{ExportKind, ExportSection, Module, RawSection};
use wasmparser::{ExportSectionReader, Parser, Payload};

use crate::coredump::{GLOBAL_EXPORT, GLOBALS_MAX, MEMORY_EXPORT};

/// `binary`, a valid module whose imports are all functions, with its memory and its first
/// [`GLOBALS_MAX`] globals exported too; as it is where it exports nothing, so that nobody can call it.
///
/// # Errors
/// If it is no valid module.
pub(super) fn expose(binary: &[u8]) -> wasmparser::Result<Vec<u8>> {
    let (mut memories, mut globals) = (0, 0);
    let mut exposed = Module::new();
    for payload in Parser::new(0).parse_all(binary) {
        let payload = payload?;
        match &payload {
            Payload::MemorySection(section) => memories = section.count(),
            Payload::GlobalSection(section) => globals = section.count(),
            Payload::ExportSection(section) => {
                exposed.section(&exports(section.clone(), memories, globals)?);
                continue;
            }
            _ => {}
        }
        if let Some((id, range)) = payload.as_section() {
            exposed.section(&RawSection { id, data: &binary[range] });
        }
    }
    Ok(exposed.finish())
}

/// The module's `own` exports, then one for its memory and one for each of its globals.
fn exports(
    own: ExportSectionReader<'_>,
    memories: u32,
    globals: u32,
) -> wasmparser::Result<ExportSection> {
    let (mut exports, mut names) = (ExportSection::new(), HashSet::new());
    for export in own {
        let export = export?;
        names.insert(export.name);
        exports.export(export.name, export.kind.into(), export.index);
    }
    let memory = (memories > 0).then(|| (MEMORY_EXPORT.to_owned(), ExportKind::Memory, 0));
    let globals = (0..globals.min(GLOBALS_MAX))
        .map(|number| (format!("{GLOBAL_EXPORT}{number}"), ExportKind::Global, number));
    for (name, kind, number) in memory.into_iter().chain(globals) {
        // If a module has such a name itself, only its own dumps are wrong.
        if !names.contains(name.as_str()) {
            exports.export(&name, kind, number);
        }
    }
    Ok(exports)
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
