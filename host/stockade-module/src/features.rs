//! Features that are off, and how to tell that a module uses one.
//!
//! The validator's own words for a feature that is off vary and sometimes name none. So a refused
//! module is validated again, each time with everything on but one feature: what it fails without,
//! it uses.

use wasmparser::{Validator, WasmFeatures};

/// Features that are off, by the names of their proposals.
const OFF: &[(WasmFeatures, &str)] = &[
    (WasmFeatures::THREADS, "threads"),
    (WasmFeatures::SHARED_EVERYTHING_THREADS, "shared-everything threads"),
    (WasmFeatures::MEMORY64, "memory64"),
    (WasmFeatures::MULTI_MEMORY, "multi-memory"),
    (WasmFeatures::CUSTOM_PAGE_SIZES, "custom page sizes"),
    (WasmFeatures::TAIL_CALL, "tail calls"),
    (WasmFeatures::GC, "garbage collection"),
    (WasmFeatures::GC_TYPES, "garbage-collected references"),
    // Garbage collection brings typed references along, so one is missed only without both.
    (WasmFeatures::FUNCTION_REFERENCES.union(WasmFeatures::GC), "typed function references"),
    (WasmFeatures::EXCEPTIONS, "exceptions"),
    (WasmFeatures::LEGACY_EXCEPTIONS, "legacy exceptions"),
    (WasmFeatures::RELAXED_SIMD, "relaxed SIMD"),
    (WasmFeatures::EXTENDED_CONST, "extended constant expressions"),
    (WasmFeatures::WIDE_ARITHMETIC, "wide arithmetic"),
    (WasmFeatures::STACK_SWITCHING, "stack switching"),
    (WasmFeatures::MEMORY_CONTROL, "memory control"),
];

/// The names of the features that are off and that `binary` uses, if nothing else is wrong with it.
pub(crate) fn used(binary: &[u8]) -> Option<Vec<&'static str>> {
    let all = WasmFeatures::all();
    if !is_valid(binary, all) {
        return None;
    }
    let used = OFF.iter().filter(|(feature, _)| !is_valid(binary, all.difference(*feature)));
    Some(used.map(|(_, name)| *name).collect())
}

fn is_valid(binary: &[u8], features: WasmFeatures) -> bool {
    Validator::new_with_features(features).validate_all(binary).is_ok()
}
