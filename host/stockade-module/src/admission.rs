//! Admission: checks whether a module may run here, and names the cause if not.

use stockade_wire::{EngineSettings, Feature, Features, ModuleDescription, Refusal, RefusalKind};
use wasmparser::Validator;
use wasmparser::types::Types;

use crate::description::Outline;
use crate::features::{THREADS, Used, wasm_features};
use crate::{counts, features, imports, refusal};

/// The most tables that a module may have.
pub const TABLES_MAX: u32 = 4;

/// The most memories that a module may have: each takes 4 GiB of a worker's address space.
pub const MEMORIES_MAX: usize = 16;

/// The most types that a module may have. A worker keeps some hundred bytes of each, and more of those
/// with many supertypes; the largest applications that are compiled to garbage-collected types have
/// some ten thousand.
pub const TYPES_MAX: u32 = 100_000;

/// Bookkeeping of one instance, which grows with the functions in its tables: enough for the largest
/// interpreters that are compiled to WebAssembly.
pub const INSTANCE_BYTES_MAX: usize = 8 << 20;

/// Describes the binary module `binary`, if it may run in an engine of `settings`.
///
/// # Errors
/// The reason why it may not.
pub fn admit(binary: &[u8], settings: &EngineSettings) -> Result<ModuleDescription, Refusal> {
    counts::check(binary)?;
    let types = validate(binary, settings.features)?;
    let outline = Outline::read(binary, &types)?;
    // Where atomic instructions are on, the validator lets these pass.
    if outline.shares_memory {
        let message = format!("it uses {THREADS}: a shared memory, which no pool allows");
        return Err(refusal(RefusalKind::Feature, &message));
    }
    imports::check(&outline.imports, settings.unknown_imports)?;
    check_limits(settings, &outline)?;
    outline.describe()
}

/// Validates a binary module.
///
/// # Errors
/// A refusal that names the features it should not use, or the place where it is malformed.
fn validate(binary: &[u8], features: Features) -> Result<Types, Refusal> {
    let error = match Validator::new_with_features(wasm_features(features)).validate_all(binary) {
        Ok(types) => return Ok(types),
        Err(error) => error,
    };
    if is_too_much(error.message()) {
        // The parser's own limits, which are those of every engine.
        return Err(refusal(
            RefusalKind::Limit,
            &format!("it is too large for any engine: {error}"),
        ));
    }
    let (kind, message) = match features::used(binary, features) {
        None => (RefusalKind::Malformed, format!("not a valid module: {error}")),
        Some(Used { off, never }) => {
            let named = |feature: Feature| format!("{} (`{feature}`)", feature.words());
            let names: Vec<_> =
                never.iter().map(|name| (*name).to_owned()).chain(off.iter().map(named)).collect();
            let kind = match never.is_empty() && off != Features::none() {
                true => RefusalKind::FeaturesOff(off),
                false => RefusalKind::Feature,
            };
            (kind, format!("it uses {}, which is off: {error}", join(&names)))
        }
    };
    Err(refusal(kind, &message))
}

/// Whether the validator reports an exceeded limit rather than an error. Only its text tells.
fn is_too_much(message: &str) -> bool {
    message == "function body size is out of bounds"
        || message.starts_with("too many locals")
        || message.contains("count exceeds limit of")
        || message.contains("exceeds the limit of")
}

fn join(names: &[String]) -> String {
    match names {
        [] => "a feature".into(),
        [only] => only.clone(),
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
            "it needs {memory} bytes of memory, but only {allowed} are allowed (the limit \
             `Limits::memory_bytes`)"
        ));
    }
    let memories = outline.memory_min_pages.len();
    if memories > MEMORIES_MAX {
        return limit(format!("it has {memories} memories, but only {MEMORIES_MAX} are allowed"));
    }
    if outline.types > TYPES_MAX {
        let types = outline.types;
        return limit(format!("it has {types} types, but only {TYPES_MAX} are allowed"));
    }
    if outline.tables.len() > TABLES_MAX as usize {
        let tables = outline.tables.len();
        return limit(format!("it has {tables} tables, but only {TABLES_MAX} are allowed"));
    }
    // Workers would fail to load it, one after the other.
    let (records, allowed) = (outline.instance_bytes(), INSTANCE_BYTES_MAX as u64);
    if records > allowed {
        return limit(format!(
            "its globals and the functions it refers to need {records} bytes in each instance, \
             where \
             {allowed} are allowed"
        ));
    }
    let elements = outline.table_min_elements();
    if elements > settings.table_elements {
        let allowed = settings.table_elements;
        return limit(format!(
            "it needs {elements} table elements, but only {allowed} are allowed (the limit \
             `Limits::table_elements`)"
        ));
    }
    Ok(())
}
