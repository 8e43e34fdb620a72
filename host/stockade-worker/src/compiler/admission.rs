//! Admission: whether a module may run here, with the cause named where it may not.

use std::sync::Arc;
use std::time::Instant;

use stockade_abi::import;
use stockade_wire::{Codec, EngineSettings, Grants, Limits, Refusal, RefusalKind, ValueType};
use wasmparser::Validator;
use wasmparser::types::Types;
use wasmtime::{Engine, Extern, Linker, Store, ValType};

use super::description::{self, Outline, Signature, quoted};
use super::{engine_failed, features, refusal};
use crate::call::{Call, NO_TASK};
use crate::engine::{FEATURES, INSTANCE_BYTES_MAX, TABLES_MAX};
use crate::guest::GuestState;
use crate::hostcalls;
use crate::wasi::{Clock, Plan};

/// The most imports that a module may have; there are fewer than a hundred to be had.
const IMPORTS_MAX: usize = 1000;

const WASI: &str = "wasi_snapshot_preview1";

/// Validates a binary module.
///
/// # Errors
/// A refusal that names the features it should not use, or the place where it is malformed.
pub(super) fn validate(binary: &[u8]) -> Result<Types, Refusal> {
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

/// Checks that every import is provided, with the type it is imported as.
///
/// # Errors
/// A refusal that names the first that is not.
pub(super) fn check_imports(engine: &Engine, outline: &Outline<'_>) -> Result<(), Refusal> {
    let mut provided = Provided::new(engine).map_err(|error| engine_failed(&error))?;
    let imports = &outline.imports;
    if imports.len() > IMPORTS_MAX {
        let message = format!("it has {} imports, where {IMPORTS_MAX} are allowed", imports.len());
        return Err(refusal(RefusalKind::Limit, &message));
    }
    for import in imports {
        let name = format!("`{}.{}`", quoted(import.module), quoted(import.name));
        let Some(provided) = provided.signature(import.module, import.name) else {
            let why = format!("it imports {name}, which is not provided{}", hint(import.module));
            return Err(refusal(RefusalKind::Import, &why));
        };
        let Some(imported) = &import.signature else {
            let what = description::type_name(import.ty);
            let why = format!("it imports {name} as a {what}, where it is a function");
            return Err(refusal(RefusalKind::Import, &why));
        };
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

/// What a guest may import: the very definitions that a worker links, so that the two cannot differ.
struct Provided {
    linker: Linker<GuestState>,
    store: Store<GuestState>,
}

impl Provided {
    fn new(engine: &Engine) -> wasmtime::Result<Self> {
        // A store to look definitions up in; no guest will ever be in it.
        let plan = Plan::function(Arc::new(Grants::none()), Clock::start());
        let call = Call::new(NO_TASK, Codec::Raw, Vec::new(), &Limits::default(), Instant::now());
        let store = Store::new(engine, GuestState::new(plan, None, call));
        Ok(Self { linker: hostcalls::linker(engine)?, store })
    }

    /// The type of the function `module.name`, if there is one.
    fn signature(&mut self, module: &str, name: &str) -> Option<Signature> {
        let found = self.linker.get(&mut self.store, module, name).ok()?;
        let Extern::Func(function) = found else { return None };
        let ty = function.ty(&self.store);
        Some(Signature {
            params: ty.params().map(|ty| value_type(&ty)).collect(),
            results: ty.results().map(|ty| value_type(&ty)).collect(),
        })
    }
}

fn value_type(ty: &ValType) -> ValueType {
    match ty {
        ValType::I32 => ValueType::I32,
        ValType::I64 => ValueType::I64,
        ValType::F32 => ValueType::F32,
        ValType::F64 => ValueType::F64,
        ValType::V128 | ValType::Ref(_) => ValueType::Other,
    }
}

/// Checks what the module needs from the start against the limits of its tasks.
///
/// # Errors
/// A refusal that names the limit.
pub(super) fn check_limits(
    settings: &EngineSettings,
    outline: &Outline<'_>,
) -> Result<(), Refusal> {
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
