//! Admission: whether a module may run here, with the cause named where it may not.

use stockade_wire::{EngineSettings, ModuleDescription, Refusal, RefusalKind};
use wasmparser::types::Types;
use wasmparser::{Validator, WasmFeatures};

use crate::description::Outline;
use crate::{counts, features, imports, refusal};

/// What guests may use of WebAssembly: what toolchains emit for `wasm32-wasip1`, and no more.
pub const FEATURES: WasmFeatures = WasmFeatures::MUTABLE_GLOBAL
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::FLOATS);

/// The most tables that a module may have.
pub const TABLES_MAX: u32 = 4;

/// Bookkeeping of one instance, which grows with the functions in its tables: enough for the largest
/// interpreters that are compiled to WebAssembly.
pub const INSTANCE_BYTES_MAX: usize = 8 << 20;

/// Says what is in the binary module `binary`, if it may run in an engine of `settings`.
///
/// # Errors
/// The reason why it may not.
pub fn admit(binary: &[u8], settings: &EngineSettings) -> Result<ModuleDescription, Refusal> {
    counts::check(binary)?;
    let types = validate(binary)?;
    let outline = Outline::read(binary, &types)?;
    imports::check(&outline.imports, settings.unknown_imports)?;
    check_limits(settings, &outline)?;
    outline.describe()
}

/// Validates a binary module.
///
/// # Errors
/// A refusal that names the features it should not use, or the place where it is malformed.
fn validate(binary: &[u8]) -> Result<Types, Refusal> {
    let error = match Validator::new_with_features(FEATURES).validate_all(binary) {
        Ok(types) => return Ok(types),
        Err(error) => error,
    };
    let (kind, message) = match features::used(binary) {
        None => (RefusalKind::Malformed, format!("not a valid module: {error}")),
        Some(used) => {
            let verb = if used.len() > 1 { "are" } else { "is" };
            let used = join(&used);
            (RefusalKind::Feature, format!("it uses {used}, which {verb} off: {error}"))
        }
    };
    Err(refusal(kind, &message))
}

fn join(names: &[&str]) -> String {
    match names {
        [] => "a feature".into(),
        [only] => (*only).into(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Checks what the module needs from the start against the limits of its tasks.
///
/// # Errors
/// A refusal that names the limit.
fn check_limits(settings: &EngineSettings, outline: &Outline<'_>) -> Result<(), Refusal> {
    let limit = |message: String| Err(refusal(RefusalKind::Limit, &message));
    let memory = outline.memory_min_bytes();
    if memory > settings.memory_bytes {
        let allowed = settings.memory_bytes;
        return limit(format!(
            "it needs {memory} bytes of memory, where {allowed} are allowed (the limit \
             `Limits::memory_bytes`)"
        ));
    }
    if outline.tables.len() > TABLES_MAX as usize {
        let tables = outline.tables.len();
        return limit(format!("it has {tables} tables, where {TABLES_MAX} are allowed"));
    }
    // Workers would fail to load it, one after the other.
    let (records, allowed) = (outline.instance_bytes(), INSTANCE_BYTES_MAX as u64);
    if records > allowed {
        return limit(format!(
            "its globals and the functions it refers to need {records} bytes in each instance, where \
             {allowed} are allowed"
        ));
    }
    let elements = outline.table_min_elements();
    if elements > settings.table_elements {
        let allowed = settings.table_elements;
        return limit(format!(
            "it needs {elements} table elements, where {allowed} are allowed (the limit \
             `Limits::table_elements`)"
        ));
    }
    Ok(())
}
