//! Keys: a hash of everything that affects a compiler's output for a module.
//!
//! Two builds have the same key only where the same program would make the same code of the same bytes
//! for the same processor, in the same domain of trust. Parts of a request that only decide whether
//! a module is admitted, or how long that may take, are not in the key: the reader of an entry
//! checks whether it [`fits`](stockade_wire::ModuleDescription::fits).

use stockade_wire::codec::{self, CodecError};
use stockade_wire::{CompileRequest, EngineSettings};

use super::entry::{EntryKey, VERSION};
use super::program::ProgramId;
use crate::compile::compiler::ModuleHash;

/// The context string of these keys, for domain separation of the hash.
const CONTEXT: &str = "stockade artefact cache 2026-12 entry key";

/// The key of what `program` makes of the module whose bytes have the hash `module`.
///
/// # Errors
/// If the request has no binary form.
pub(super) fn key(
    domain: &str,
    program: &ProgramId,
    request: &CompileRequest,
    module: &ModuleHash,
) -> Result<EntryKey, CodecError> {
    let encoded = shape(request)?;
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    let parts: [&[u8]; 7] = [
        &VERSION.to_le_bytes(),
        domain.as_bytes(),
        std::env::consts::ARCH.as_bytes(),
        &processor(),
        &program.0,
        &encoded,
        &module.0,
    ];
    for part in parts {
        // Each with its length, so that no two lists of parts are the same bytes.
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    Ok(EntryKey(*hasher.finalize().as_bytes()))
}

/// The parts of `request` that affect the code or the description. Every field is named, so that
/// the author of a new one must decide.
fn shape(request: &CompileRequest) -> Result<Vec<u8>, CodecError> {
    // Limits decide whether there is an artefact, and not what is in it.
    let CompileRequest { step, engine, text, limits: _, exposed } = request;
    let EngineSettings {
        // Checked against what an entry's description says its module needs.
        memory_bytes: _,
        table_elements: _,
        unknown_imports: _,
        metering,
        canonical_nans,
        // The engine notes them in the artefact, and admission validates by them.
        features,
    } = engine;
    let mut encoded = Vec::new();
    codec::encode(&(step, text, exposed, metering, canonical_nans, features), &mut encoded)?;
    Ok(encoded)
}

/// The processor features that compiled code may depend on: wasmtime refuses code for missing
/// features, and several machines may use a directory.
#[cfg(target_arch = "x86_64")]
fn processor() -> Vec<u8> {
    macro_rules! features {
        ($($name:tt)*) => { vec![$(u8::from(std::is_x86_feature_detected!($name))),*] };
    }
    // As Cranelift asks for them on the machine that it compiles for.
    features!(
        "sse2" "sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "lzcnt" "bmi1" "bmi2" "fma" "cmpxchg16b"
        "avx" "avx2" "avxvnni" "avx512f" "avx512dq" "avx512vl" "avx512vbmi" "avx512vnni"
        "avx512bitalg"
    )
}

/// As above: the features that the kernel tells of, see getauxval(3).
#[cfg(not(target_arch = "x86_64"))]
fn processor() -> Vec<u8> {
    let (first, second) = rustix::param::linux_hwcap();
    [first.to_le_bytes(), second.to_le_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stockade_wire::{
        CompileLimits, CompileStep, Feature, Features, Limits, Metering, UnknownImports,
    };

    use super::*;

    const PROGRAM: ProgramId = ProgramId([1; 32]);
    const MODULE: ModuleHash = ModuleHash([3; 32]);

    fn request() -> CompileRequest {
        CompileRequest {
            step: CompileStep::Compile,
            engine: engine(),
            text: false,
            limits: CompileLimits::default(),
            exposed: false,
        }
    }

    fn engine() -> EngineSettings {
        Limits::default().engine_settings()
    }

    fn key_of(request: &CompileRequest) -> EntryKey {
        key("a", &PROGRAM, request, &MODULE).unwrap()
    }

    #[test]
    fn everything_that_shapes_an_artefact_is_in_its_key() {
        let engines = [
            EngineSettings { metering: Metering::Epochs, ..engine() },
            EngineSettings { metering: Metering::Fuel, ..engine() },
            EngineSettings { metering: Metering::EpochsAndFuel, ..engine() },
            EngineSettings { canonical_nans: true, ..engine() },
            EngineSettings { features: Features::none(), ..engine() },
            EngineSettings { features: Features::default().without(Feature::TailCall), ..engine() },
            EngineSettings { features: Features::all(), ..engine() },
        ];
        let mut requests = vec![
            request(),
            CompileRequest { step: CompileStep::Instrument, ..request() },
            CompileRequest { text: true, ..request() },
            CompileRequest { exposed: true, ..request() },
        ];
        requests.extend(engines.map(|engine| CompileRequest { engine, ..request() }));
        let mut keys: Vec<_> = requests.iter().map(key_of).collect();
        keys.extend([
            key("b", &PROGRAM, &request(), &MODULE).unwrap(),
            key("", &PROGRAM, &request(), &MODULE).unwrap(),
            key("a", &ProgramId([2; 32]), &request(), &MODULE).unwrap(),
            key("a", &PROGRAM, &request(), &ModuleHash([4; 32])).unwrap(),
        ]);
        for (index, one) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(one), "{index}");
        }
    }

    #[test]
    fn what_shapes_no_code_is_in_no_key() {
        let engines = [
            EngineSettings { memory_bytes: 1, ..engine() },
            EngineSettings { table_elements: 1, ..engine() },
            EngineSettings { unknown_imports: UnknownImports::Trap, ..engine() },
            EngineSettings { unknown_imports: UnknownImports::DefaultValues, ..engine() },
            Limits::default().wall_time(None).output_bytes(1).stdio_bytes(1).engine_settings(),
        ];
        for engine in engines {
            let request = CompileRequest { engine, ..request() };
            assert_eq!(key_of(&request), key_of(&self::request()), "{request:?}");
        }
        let limits = || CompileLimits::default();
        for limits in [
            limits().cpu_time(Duration::from_secs(1)),
            limits().wall_time(Duration::from_secs(1)),
            limits().memory_bytes(1 << 30),
            limits().module_bytes(1 << 10),
            limits().artefact_bytes(1 << 10),
        ] {
            let request = CompileRequest { limits, ..request() };
            assert_eq!(key_of(&request), key_of(&self::request()), "{request:?}");
        }
        let fuel = |fuel| {
            let engine = Limits::default().fuel(fuel).engine_settings();
            key_of(&CompileRequest { engine, ..request() })
        };
        assert_eq!(fuel(1), fuel(u64::MAX));
        let seed = |seed| {
            let engine = Limits::default().deterministic(seed).engine_settings();
            key_of(&CompileRequest { engine, ..request() })
        };
        assert_eq!(seed(1), seed(2));
    }
}
