//! Features: which the validator has on, and how to tell which one a module uses that is off.
//!
//! The validator's own words for a feature that is off vary and sometimes name none. So a refused
//! module is validated again, each time with everything on but one feature: what it fails without,
//! it uses.

use stockade_wire::{Feature, Features};
use wasmparser::{Validator, WasmFeatures};

/// What guests may always use of WebAssembly: its second version, but for references to values of the
/// host.
const BASE: WasmFeatures = WasmFeatures::MUTABLE_GLOBAL
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::FLOATS);

/// Features that no pool has on, by the names of their proposals.
const NEVER: &[(WasmFeatures, &str)] = &[
    (WasmFeatures::THREADS, "threads"),
    (WasmFeatures::SHARED_EVERYTHING_THREADS, "shared-everything threads"),
    (WasmFeatures::CUSTOM_PAGE_SIZES, "custom page sizes"),
    (WasmFeatures::LEGACY_EXCEPTIONS, "legacy exceptions"),
    (WasmFeatures::WIDE_ARITHMETIC, "wide arithmetic"),
    (WasmFeatures::STACK_SWITCHING, "stack switching"),
    (WasmFeatures::MEMORY_CONTROL, "memory control"),
];

/// What the validator, and the engine, call a set of features, together with what is always on.
pub fn wasm_features(features: Features) -> WasmFeatures {
    features.with_needs().iter().fold(BASE, |flags, feature| flags.union(flag(feature)))
}

fn flag(feature: Feature) -> WasmFeatures {
    match feature {
        Feature::ExtendedConst => WasmFeatures::EXTENDED_CONST,
        Feature::TailCall => WasmFeatures::TAIL_CALL,
        Feature::MultiMemory => WasmFeatures::MULTI_MEMORY,
        Feature::Memory64 => WasmFeatures::MEMORY64,
        Feature::RelaxedSimd => WasmFeatures::RELAXED_SIMD,
        Feature::FunctionReferences => WasmFeatures::FUNCTION_REFERENCES,
        Feature::Exceptions => WasmFeatures::EXCEPTIONS,
        Feature::ExternReferences => WasmFeatures::GC_TYPES,
        Feature::Gc => WasmFeatures::GC,
        // One that is added is given its flag with it.
        _ => WasmFeatures::empty(),
    }
}

/// Features that are off and that a module uses.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Used {
    /// Those that a pool could have on.
    pub(crate) off: Features,
    /// The names of those that no pool has.
    pub(crate) never: Vec<&'static str>,
}

/// What `binary` uses that is not among `features`, if nothing else is wrong with it.
pub(crate) fn used(binary: &[u8], features: Features) -> Option<Used> {
    let all = WasmFeatures::all();
    if !is_valid(binary, all) {
        return None;
    }
    let on = features.with_needs();
    let off = Feature::ALL.into_iter().filter(|feature| !on.has(*feature));
    let off = off.filter(|feature| {
        let without = match feature {
            // Garbage collection brings typed references along, so one is missed only without both.
            Feature::FunctionReferences => flag(*feature).union(WasmFeatures::GC),
            _ => flag(*feature),
        };
        !is_valid(binary, all.difference(without))
    });
    let never = NEVER.iter().filter(|(feature, _)| !is_valid(binary, all.difference(*feature)));
    Some(Used { off: off.collect(), never: never.map(|(_, name)| *name).collect() })
}

fn is_valid(binary: &[u8], features: WasmFeatures) -> bool {
    Validator::new_with_features(features).validate_all(binary).is_ok()
}
