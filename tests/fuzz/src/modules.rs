//! Modules, and what must hold of whatever is said about one.

use stockade_module::IMPORTS;
use stockade_wire::{
    EngineSettings, ExportType, Features, Metering, ModuleDescription, Refusal, RefusalKind,
    UnknownImports, ValueType,
};

use crate::rules;

/// The most bytes of a message, and of the mark where it was cut.
pub const MESSAGE_BYTES_MAX: usize = (4 << 10) + 3;

/// The most bytes of a refusal, and of that mark.
const REFUSAL_BYTES_MAX: usize = (128 << 10) + 3;

/// The most warnings, and the line that counts the rest.
const WARNINGS_MAX: usize = 21;

const EXPORTS_MAX: usize = 10_000;
const NAME_BYTES_MAX: usize = 1024;
const FUNCTIONS_MAX: usize = 10_000;
const FUNCTION_NAME_BYTES_MAX: usize = 256;
const TEXT_BYTES_MAX: usize = 4096;
const PARAMETERS_MAX: usize = 64;

/// The limits that modules are read under.
pub const SETTINGS: EngineSettings = EngineSettings {
    memory_bytes: 16 << 20,
    table_elements: 10_000,
    metering: Metering::None,
    canonical_nans: false,
    unknown_imports: UnknownImports::Refuse,
    features: Features::all(),
};

/// Keeps wasm-smith to what is admitted under these limits.
pub fn admitted() -> wasm_smith::Config {
    rules::admitted(SETTINGS.memory_bytes, SETTINGS.table_elements)
}

/// Makes each memory of such a module one that nobody shares, which wasm-smith does not keep to.
pub fn unshared(module: &mut [u8]) {
    rules::unshared(module);
}

/// Checks what is said of a module, whatever its bytes.
///
/// # Panics
/// If something is not bounded, or not so.
pub fn check(answer: &Result<ModuleDescription, Refusal>) {
    match answer {
        Ok(description) => check_description(description),
        Err(refusal) => {
            assert!(!refusal.message.is_empty());
            assert!(refusal.message.len() <= REFUSAL_BYTES_MAX, "{}", refusal.message.len());
            assert_ne!(refusal.kind, RefusalKind::Internal, "{refusal}");
        }
    }
}

fn check_description(description: &ModuleDescription) {
    assert!(description.memory_min_bytes <= SETTINGS.memory_bytes);
    for import in &description.imports {
        let is_provided = |provided: &stockade_module::Provided| {
            provided.module == import.module && provided.name == import.name
        };
        assert!(IMPORTS.iter().any(is_provided), "{import:?}");
    }
    assert!(description.exports.len() <= EXPORTS_MAX);
    for export in &description.exports {
        assert!(export.name.len() <= NAME_BYTES_MAX);
    }
    assert!(description.warnings.len() <= WARNINGS_MAX);
    for warning in &description.warnings {
        assert!(warning.len() <= MESSAGE_BYTES_MAX, "a warning of {} bytes", warning.len());
    }
    check_functions(description);
}

fn check_functions(description: &ModuleDescription) {
    let functions = &description.functions;
    assert!(functions.len() <= FUNCTIONS_MAX);
    let mut names: Vec<_> = functions.iter().map(|function| &function.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), functions.len(), "two functions of one name");
    let task = ExportType::Function { params: Vec::new(), results: vec![ValueType::I32] };
    for function in functions {
        assert!((1..=FUNCTION_NAME_BYTES_MAX).contains(&function.name.len()));
        assert!(function.doc.len() <= TEXT_BYTES_MAX && function.result.len() <= TEXT_BYTES_MAX);
        assert!(function.params.len() <= PARAMETERS_MAX);
        for parameter in &function.params {
            assert!(parameter.name.len() <= FUNCTION_NAME_BYTES_MAX);
            assert!(parameter.type_name.len() <= TEXT_BYTES_MAX);
        }
        // One whose name is too long to be described is there all the same.
        let export = description.exports.iter().find(|export| export.name == function.export);
        assert!(export.is_none_or(|export| export.kind == task), "{function:?}");
    }
}
