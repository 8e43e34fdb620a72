//! Making modules: which kinds there are, and a module for every number under a seed.

use arbitrary::{Arbitrary, Unstructured};
use stockade_module::MEMORIES_MAX;
use stockade_tests::Random;
use wasm_smith::{Config, Module};

use crate::{MEMORY_BYTES, TABLE_ELEMENTS, rules};

/// What a module is made to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Keeps to the rules, imports what is provided, exports what the pool can call, and ends.
    Tame,
    /// Keeps to the rules, imports nothing, exports everything, and ends.
    Wild,
    /// Keeps to the rules, and may run forever.
    Endless,
    /// May need more memory and tables than there are.
    Greedy,
    /// Uses references, objects and exceptions more than others.
    References,
    /// Uses features and imports as it likes.
    Foreign,
    /// Kept to the rules until bytes of it were changed.
    Broken,
}

/// So many of a thousand. Those that run forever cost a worker and its deadline each.
const PER_MILLE: [(Kind, u64); 7] = [
    (Kind::Tame, 350),
    (Kind::Wild, 240),
    (Kind::Endless, 10),
    (Kind::Greedy, 100),
    (Kind::References, 100),
    (Kind::Foreign, 80),
    (Kind::Broken, 120),
];

/// The most random bytes of a module; wasm-smith makes about as many of it.
const RANDOM_BYTES_MAX: u64 = 4096;

/// What a module counts down before it traps by itself, at each loop and each call.
const STEPS: [u32; 4] = [1, 100, 10_000, 1_000_000];

/// Exports that the pool can call: a task, a command, what runs first, and functions over scalars.
const EXPORTS: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "_start"))
    (func (export "_initialize"))
    (func (export "task") (result i32) unreachable)
    (func (export "i") (param i32) (result i32) unreachable)
    (func (export "mixed") (param i64 f32 i32 f64) (result f64 i64) unreachable)
    (func (export "v") (param v128) (result v128) unreachable)
    (func (export "none")))"#;

/// A module, or bytes that once were one.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    pub(crate) wasm: Vec<u8>,
}

impl Made {
    /// Its name in its pool.
    pub(crate) fn name(&self) -> String {
        self.number.to_string()
    }
}

/// Makes modules; of a seed and a number always the same.
#[derive(Debug)]
pub(crate) struct Forge {
    seed: u32,
    wild: Config,
    tame: Config,
    greedy: Config,
    references: Config,
}

impl Forge {
    pub(crate) fn new(seed: u32) -> Self {
        let admitted = Config {
            generate_custom_sections: true,
            ..rules::admitted(MEMORY_BYTES, TABLE_ELEMENTS)
        };
        // Without a memory under its name no host call does anything.
        let wild = Config {
            export_everything: true,
            available_imports: None,
            max_imports: 0,
            ..admitted.clone()
        };
        // The memory among the exports is one more than those that are allowed.
        let exports = wat::parse_str(EXPORTS).expect("the exports are a module");
        let max_memories = rules::MEMORIES - 1;
        let tame = Config { exports: Some(exports), max_memories, ..admitted };
        let greedy = Config {
            max_memories: MEMORIES_MAX + 2,
            max_memory32_bytes: 2 * MEMORY_BYTES,
            max_memory64_bytes: 2 * u128::from(MEMORY_BYTES),
            max_tables: 6,
            max_table_elements: 2 * TABLE_ELEMENTS,
            limit_arrays_in_const_exprs: false,
            ..wild.clone()
        };
        // Nothing but what has to do with references, so that there is more of it.
        let references = Config {
            simd_enabled: false,
            max_memories: 0,
            max_tags: 4,
            max_globals: 8,
            limit_arrays_in_const_exprs: false,
            ..wild.clone()
        };
        Self { seed, wild, tame, greedy, references }
    }

    /// The module of this number.
    pub(crate) fn make(&self, number: u64) -> Made {
        let mut random = Random::of_part(self.seed.into(), number);
        let kind = kind(&mut random);
        let length = random.between(64, RANDOM_BYTES_MAX) as usize;
        let bytes = random.bytes(length);
        let mut input = Unstructured::new(&bytes);
        let config = match kind {
            Kind::Tame | Kind::Broken => self.tame.clone(),
            Kind::Wild => self.wild.clone(),
            Kind::Endless if random.per_mille(500) => self.tame.clone(),
            Kind::Endless => self.wild.clone(),
            Kind::Greedy => self.greedy.clone(),
            Kind::References => self.references.clone(),
            // Random bytes are a configuration whatever they are.
            Kind::Foreign => Config::arbitrary(&mut input).unwrap_or_default(),
        };
        // Where the bytes run out it goes on with zeros; so this fails for no bytes but none.
        let wasm = match Module::new(config, &mut input) {
            Ok(mut module) => {
                if kind != Kind::Endless {
                    // Fails only for bodies that wasm-smith did not write, and it writes all.
                    let _ = module.ensure_termination(random.one_of(&STEPS));
                }
                let mut wasm = module.to_bytes();
                if kind != Kind::Foreign {
                    rules::unshared(&mut wasm);
                }
                wasm
            }
            Err(_) => Vec::new(),
        };
        let wasm = if kind == Kind::Broken { changed(wasm, &mut random) } else { wasm };
        Made { number, kind, wasm }
    }
}

fn kind(random: &mut Random) -> Kind {
    let mut left = random.below(1000);
    for (kind, share) in PER_MILLE {
        match left.checked_sub(share) {
            None => return kind,
            Some(rest) => left = rest,
        }
    }
    Kind::Tame
}

/// `wasm` with up to three bits flipped, and now and then cut short.
fn changed(mut wasm: Vec<u8>, random: &mut Random) -> Vec<u8> {
    for _ in 0..random.between(1, 3) {
        let place = random.below(wasm.len().max(1) as u64) as usize;
        if let Some(byte) = wasm.get_mut(place) {
            *byte ^= 1 << random.below(8);
        }
    }
    if random.per_mille(50) {
        wasm.truncate(random.below(wasm.len().max(1) as u64) as usize);
    }
    wasm
}
