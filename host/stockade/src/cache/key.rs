//! Keys: everything that decides what a compiler makes of a module, as one number.
//!
//! Two builds have the same key only where the same program would be asked the same of the same
//! bytes for the same processor, in the same domain of trust. Whatever is added to the
//! `CompileRequest` becomes part of it by itself.

use std::fs::File;
use std::io;

use stockade_wire::CompileRequest;
use stockade_wire::codec::{self, CodecError};

use super::directory::FromStart;
use super::entry::{EntryKey, VERSION};
use super::program::ProgramHash;

/// What keys of this form are for, and of no other use of the same hash.
const CONTEXT: &str = "stockade artefact cache 2026-11 entry key";

/// Why a module has no key, and so no entry.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("the module cannot be read: {0}")]
    Module(#[from] io::Error),
    #[error(transparent)]
    Request(#[from] CodecError),
}

/// The key of what `program` makes of `wasm`. Blocks for as long as hashing the module takes.
///
/// # Errors
/// [`KeyError`]
pub(super) fn key(
    domain: &str,
    program: &ProgramHash,
    request: &CompileRequest,
    wasm: &File,
) -> Result<EntryKey, KeyError> {
    let mut encoded = Vec::new();
    codec::encode(request, &mut encoded)?;
    let mut module = blake3::Hasher::new();
    module.update_reader(FromStart::of(wasm))?;
    let module = module.finalize();
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    let parts: [&[u8]; 7] = [
        &VERSION.to_le_bytes(),
        domain.as_bytes(),
        std::env::consts::ARCH.as_bytes(),
        &processor(),
        &program.0,
        &encoded,
        module.as_bytes(),
    ];
    for part in parts {
        // Each with its length, so that no two lists of parts are the same bytes.
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    Ok(EntryKey(*hasher.finalize().as_bytes()))
}

/// What of this processor compiled code may depend on: wasmtime refuses code for features that are
/// not here, and a directory may be used by several machines.
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
    use stockade_wire::{CompileLimits, CompileStep, Limits, descriptor};

    use super::*;

    fn request() -> CompileRequest {
        CompileRequest {
            step: CompileStep::Compile,
            engine: Limits::default().engine_settings(),
            text: false,
            limits: CompileLimits::default(),
            exposed: false,
        }
    }

    fn wasm(bytes: &[u8]) -> File {
        descriptor::sealed_file("test", bytes).unwrap()
    }

    #[test]
    fn everything_that_shapes_an_artefact_is_in_its_key() {
        let program = ProgramHash([1; 32]);
        let module = wasm(b"module");
        let first = key("a", &program, &request(), &module).unwrap();
        assert_eq!(key("a", &program, &request(), &wasm(b"module")).unwrap(), first);

        let engine = Limits::default().fuel(1).engine_settings();
        let tighter = CompileLimits::default().artefact_bytes(1 << 20);
        let larger = Limits::default().memory_bytes(1 << 30).engine_settings();
        let requests = [
            CompileRequest { step: CompileStep::Instrument, ..request() },
            CompileRequest { text: true, ..request() },
            CompileRequest { exposed: true, ..request() },
            CompileRequest { engine, ..request() },
            CompileRequest { engine: larger, ..request() },
            CompileRequest { limits: tighter, ..request() },
        ];
        let mut keys = vec![first];
        keys.extend(requests.iter().map(|request| key("a", &program, request, &module).unwrap()));
        keys.push(key("b", &program, &request(), &module).unwrap());
        keys.push(key("", &program, &request(), &module).unwrap());
        keys.push(key("a", &ProgramHash([2; 32]), &request(), &module).unwrap());
        keys.push(key("a", &program, &request(), &wasm(b"modulf")).unwrap());
        for (index, one) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(one), "{index}");
        }
    }

    #[test]
    fn a_module_is_hashed_from_its_start_whoever_has_read_of_it() {
        use std::io::{Read, Seek, SeekFrom};
        let mut read = wasm(b"module");
        read.seek(SeekFrom::Start(4)).unwrap();
        let program = ProgramHash([1; 32]);
        let key = |wasm: &File| key("a", &program, &request(), wasm).unwrap();
        assert_eq!(key(&read), key(&wasm(b"module")));
        let mut rest = String::new();
        read.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "le", "and leaves it where it was");
    }
}
