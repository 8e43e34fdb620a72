//! Modules: the fuzzer's own bytes, and what wasm-smith makes of them, whole or with bytes changed.
//!
//! Input: which of the three, then bytes. What is said of any module is bounded and true; one that
//! keeps to the features, the imports and the limits is admitted.

#![no_main]

use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use stockade_fuzz::allocations::within;
use stockade_fuzz::modules::{SETTINGS, admitted, check, unshared};
use stockade_wire::{ModuleDescription, Refusal, RefusalKind};
use wasm_smith::{Config, Module};

/// What is known of a module in memory for each of its bytes: a text's tokens and a module's types
/// are many times what they were read from.
const EXPANSION_MAX: usize = 2048;

const BASE_BYTES: usize = 1 << 20;

static ADMITTED: LazyLock<Config> = LazyLock::new(admitted);

#[derive(Arbitrary, Debug)]
enum Making {
    /// The bytes as they are; also text.
    Given,
    /// A module that is to be admitted.
    Admitted,
    /// A module with features on or off as the fuzzer likes.
    Any,
    /// One to be admitted, and then changed at these places.
    Broken([(u16, u8); 3]),
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Unstructured::new(bytes);
    let Ok(making) = Making::arbitrary(&mut input) else { return };
    match making {
        Making::Given => {
            let _ = read(input.take_rest());
        }
        Making::Admitted => {
            let Some(mut module) = smith(ADMITTED.clone(), &mut input) else { return };
            unshared(&mut module);
            let answer = read(&module);
            let refused = answer.err().filter(|refusal| refusal.kind != RefusalKind::Limit);
            assert!(refused.is_none(), "{refused:?}");
        }
        Making::Any => {
            let Ok(config) = Config::arbitrary(&mut input) else { return };
            let Some(module) = smith(config, &mut input) else { return };
            let _ = read(&module);
        }
        Making::Broken(changes) => {
            let Some(mut module) = smith(ADMITTED.clone(), &mut input) else { return };
            for (place, change) in changes {
                let place = usize::from(place) % module.len();
                module[place] ^= change;
            }
            let _ = read(&module);
        }
    }
});

/// Small, because what is in functions is the validator's affair and takes most of the time.
fn smith(config: Config, input: &mut Unstructured<'_>) -> Option<Vec<u8>> {
    let config = Config {
        max_data_segments: config.max_data_segments.min(4),
        max_element_segments: config.max_element_segments.min(4),
        max_exports: config.max_exports.min(20),
        max_funcs: config.max_funcs.min(10),
        max_globals: config.max_globals.min(10),
        max_imports: config.max_imports.min(10),
        max_instructions: config.max_instructions.min(10),
        max_types: config.max_types.min(20),
        ..config
    };
    Module::new(config, input).ok().map(|module| module.to_bytes())
}

fn read(module: &[u8]) -> Result<ModuleDescription, Refusal> {
    let bytes_max = BASE_BYTES + EXPANSION_MAX * module.len();
    let answer = within(bytes_max, || {
        let binary = stockade_module::binary(module, true)?;
        stockade_module::admit(&binary, &SETTINGS)
    });
    check(&answer);
    answer
}
