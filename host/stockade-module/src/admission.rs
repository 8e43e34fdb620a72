//! Admission: whether a module may run here, with the cause named where it may not.

use stockade_abi::import;
use stockade_wire::{EngineSettings, IMPORTS_MAX, ModuleDescription, Refusal, RefusalKind};
use wasmparser::types::Types;
use wasmparser::{Validator, WasmFeatures};

use crate::description::{self, Outline, Signature, quoted};
use crate::imports::{WASI, provided};
use crate::{counts, features, refusal};

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
    check_imports(&outline)?;
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
    if is_too_much(error.message()) {
        // The parser's own limits, which are those of every engine.
        return Err(refusal(
            RefusalKind::Limit,
            &format!("it is too large for any engine: {error}"),
        ));
    }
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

/// Whether the validator says that there is too much of something, not that it is wrong. It has no
/// other sign of that than its words.
fn is_too_much(message: &str) -> bool {
    message == "function body size is out of bounds"
        || message.starts_with("too many locals")
        || message.contains("count exceeds limit of")
        || message.contains("exceeds the limit of")
}

fn join(names: &[&str]) -> String {
    match names {
        [] => "a feature".into(),
        [only] => (*only).into(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Checks that every import is provided, with the type it is imported as.
///
/// # Errors
/// A refusal that names the first that is not.
fn check_imports(outline: &Outline<'_>) -> Result<(), Refusal> {
    let imports = &outline.imports;
    if imports.len() > IMPORTS_MAX {
        let message = format!("it has {} imports, where {IMPORTS_MAX} are allowed", imports.len());
        return Err(refusal(RefusalKind::Limit, &message));
    }
    for import in imports {
        let name = format!("`{}.{}`", quoted(import.module), quoted(import.name));
        let Some(provided) = provided(import.module, import.name) else {
            let why = format!("it imports {name}, which is not provided{}", hint(import.module));
            return Err(refusal(RefusalKind::Import, &why));
        };
        let Some(imported) = &import.signature else {
            let what = description::type_name(import.ty);
            let why = format!("it imports {name} as a {what}, where it is a function");
            return Err(refusal(RefusalKind::Import, &why));
        };
        let provided = Signature::of(provided);
        if *imported != provided {
            let why = format!("it imports {name} as {imported}, where it is {provided}");
            return Err(refusal(RefusalKind::Import, &why));
        }
    }
    Ok(())
}

/// What to do about an import from `module`, for the modules that toolchains import from.
fn hint(module: &str) -> &'static str {
    match module {
        import::MODULE => "; this is another version of the guest ABI",
        "wasi_unstable" => "; build it for wasm32-wasip1, which replaced that WASI",
        "wasi" => "; build it without threads",
        "env" => "; a symbol that no linked object defines is imported from `env`",
        "__wbindgen_placeholder__" | "wbg" => "; it was built for a JavaScript host",
        "gojs" | "go" => "; build it with GOOS=wasip1",
        WASI => "; it is no function of WASI preview 1",
        _ if module.starts_with("wasi:") => "; build it for wasm32-wasip1, as no component",
        _ => "; what is provided are the modules `stockade` and `wasi_snapshot_preview1`",
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
        return limit(format!("it needs {memory} bytes of memory, where {allowed} are allowed"));
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
        return limit(format!("it needs {elements} table elements, where {allowed} are allowed"));
    }
    Ok(())
}
