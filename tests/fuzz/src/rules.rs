//! What wasm-smith must keep to so that a module is admitted: features, imports, limits.
//!
//! A file of two programs: the fuzz targets, and `tests/programs/smith`.

use stockade_module::{IMPORTS, TABLES_MAX};
use stockade_wire::ValueType;
use wasm_smith::Config;
use wasmparser::{Parser, Payload};

/// The most memories of a module that wasm-smith makes.
pub(crate) const MEMORIES: usize = 4;

/// Keeps wasm-smith to what is admitted under limits of so many bytes and elements.
pub(crate) fn admitted(memory_bytes: u64, table_elements: u64) -> Config {
    Config {
        available_imports: Some(provided()),
        max_memories: MEMORIES,
        max_memory32_bytes: memory_bytes / MEMORIES as u64,
        max_memory64_bytes: u128::from(memory_bytes) / MEMORIES as u128,
        max_tables: TABLES_MAX as usize,
        max_table_elements: table_elements / u64::from(TABLES_MAX),
        acquire_release_atomics_enabled: false,
        compact_imports_enabled: false,
        custom_descriptors_enabled: false,
        custom_page_sizes_enabled: false,
        multibyte_array_access_enabled: false,
        shared_everything_threads_enabled: false,
        // A longer one than there is memory for is a trap, which ends most of its module's instances.
        limit_arrays_in_const_exprs: true,
        // Atomic instructions, and memories that are shared, which `unshared` makes ones that are not.
        threads_enabled: true,
        wide_arithmetic_enabled: false,
        ..Config::default()
    }
}

/// Makes each memory of `module`, which is valid, one that nobody shares: what no pool has.
pub(crate) fn unshared(module: &mut [u8]) {
    /// Of a memory's flags, which are its first byte.
    const SHARED: u8 = 2;
    let sections = Parser::new(0).parse_all(module).filter_map(|payload| match payload {
        Ok(Payload::MemorySection(section)) => Some(section),
        _ => None,
    });
    let memories: Vec<usize> = sections
        .flat_map(|section| section.into_iter_with_offsets().flatten())
        .filter_map(|(offset, memory)| memory.shared.then_some(offset))
        .collect();
    for offset in memories {
        module[offset] &= !SHARED;
    }
}

/// A module that imports everything that is provided, for wasm-smith to choose from.
fn provided() -> Vec<u8> {
    let list =
        |types: &[ValueType]| types.iter().map(ValueType::to_string).collect::<Vec<_>>().join(" ");
    let imports: String = IMPORTS
        .iter()
        .map(|import| {
            let (params, results) = (list(import.params), list(import.results));
            let (module, name) = (import.module, import.name);
            format!("(import \"{module}\" \"{name}\" (func (param {params}) (result {results})))")
        })
        .collect();
    wat::parse_str(format!("(module {imports})")).expect("a list of imports is a module")
}
