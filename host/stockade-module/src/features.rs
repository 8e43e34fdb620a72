//! Features: configures the validator, and finds out which disabled features a module uses.
//!
//! The validator's own words for a feature that is off vary and sometimes name none. So a refused
//! module is validated again, each time with everything on but one feature: what it fails without,
//! it uses. Only shared memories are searched separately: the validator has one flag for them and
//! for atomic instructions, which are a feature of ours.

use stockade_wire::{Feature, Features};
use wasmparser::{Parser, Payload, TypeRef, Validator, WasmFeatures};

/// Features that are always on: WebAssembly 2.0, except references to host values.
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
    (WasmFeatures::SHARED_EVERYTHING_THREADS, "shared-everything threads"),
    (WasmFeatures::CUSTOM_PAGE_SIZES, "custom page sizes"),
    (WasmFeatures::LEGACY_EXCEPTIONS, "legacy exceptions"),
    (WasmFeatures::WIDE_ARITHMETIC, "wide arithmetic"),
    (WasmFeatures::STACK_SWITCHING, "stack switching"),
    (WasmFeatures::MEMORY_CONTROL, "memory control"),
];

/// Memories that are shared between threads, by the name of their proposal. No pool has them.
pub(crate) const THREADS: &str = "threads";

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
        Feature::Atomics => WasmFeatures::THREADS,
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
    let mut never: Vec<_> = never.map(|(_, name)| *name).collect();
    let mut off: Features = off.collect();
    if shares_memory(binary) {
        // With atomic instructions on it would be refused all the same.
        never.insert(0, THREADS);
        off = off.without(Feature::Atomics);
    }
    Some(Used { off, never })
}

/// Whether a memory of the valid module `binary` is one for threads to share, its own or an imported one.
pub(crate) fn shares_memory(binary: &[u8]) -> bool {
    Parser::new(0).parse_all(binary).map_while(Result::ok).any(|payload| match payload {
        Payload::MemorySection(section) => {
            section.into_iter().flatten().any(|memory| memory.shared)
        }
        Payload::ImportSection(section) => section
            .into_imports()
            .flatten()
            .any(|import| matches!(import.ty, TypeRef::Memory(memory) if memory.shared)),
        _ => false,
    })
}

fn is_valid(binary: &[u8], features: WasmFeatures) -> bool {
    Validator::new_with_features(features).validate_all(binary).is_ok()
}
