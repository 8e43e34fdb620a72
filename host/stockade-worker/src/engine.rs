//! The engine: what compiled code and the worker that runs it must agree on.
//!
//! Both roles build their configuration here, from the same [`EngineSettings`], because an artefact
//! loads only where every choice that shaped its code was made alike. The two differ in how
//! instances are allocated, which shapes no code: a worker pools them, a compiler makes none.

use std::fs;
use std::num::NonZeroUsize;
use std::sync::Arc;

use stockade_module::{FEATURES, INSTANCE_BYTES_MAX, PAGE_BYTES, TABLES_MAX};
use stockade_wire::{EngineSettings, MEMORY_BYTES_MAX, MODULES_LIVING_MAX, TABLES_ALIVE_MAX};
use wasmtime::{
    Config, Enabled, Engine, PoolingAllocationConfig, Strategy, WasmBacktraceDetails, WasmFeatures,
};

use crate::artefact::Code;

/// The engine and its version. An artefact is valid only for this very one.
pub const ENGINE: &str = "wasmtime 48.0.8";

/// The most frames of a backtrace.
pub(crate) const BACKTRACE_FRAMES_MAX: usize = 32;

/// Instances alive at once: one, and in a pool whose instances outlive tasks one for each module
/// besides, because a command runs in one of its own.
const INSTANCES_MAX: u32 = MODULES_LIVING_MAX as u32 + 1;

const _: () = assert!((INSTANCES_MAX * TABLES_MAX) as u64 == TABLES_ALIVE_MAX);

/// How much of a memory that a task dirtied is put back page by page rather than unmapped. Only
/// with a page map, which finds the dirty pages; without one all of it would be written every time.
const KEEP_RESIDENT_BYTES: usize = 4 << 20;

/// As [`KEEP_RESIDENT_BYTES`], for tables.
const TABLE_KEEP_RESIDENT_BYTES: usize = 64 << 10;

/// The engine of a worker, whose code `code` publishes.
///
/// # Errors
/// Where the system refuses the address space for the pool.
pub(crate) fn for_worker(settings: &EngineSettings, code: Arc<Code>) -> wasmtime::Result<Engine> {
    let memory_bytes = settings.memory_bytes.clamp(PAGE_BYTES, MEMORY_BYTES_MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(INSTANCES_MAX)
        .total_memories(INSTANCES_MAX)
        .total_tables(INSTANCES_MAX * TABLES_MAX)
        .total_stacks(0)
        .total_gc_heaps(0)
        .max_memories_per_module(1)
        .max_tables_per_module(TABLES_MAX)
        .max_core_instance_size(INSTANCE_BYTES_MAX)
        .max_memory_size(usize::try_from(memory_bytes)?)
        .table_elements(usize::try_from(settings.table_elements)?);
    if has_swap() {
        pool.pagemap_scan(Enabled::No);
    } else {
        pool.pagemap_scan(Enabled::Auto);
        if PoolingAllocationConfig::is_pagemap_scan_available() {
            pool.linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
                .table_keep_resident(TABLE_KEEP_RESIDENT_BYTES);
        }
    }
    let mut config = config(settings);
    config.allocation_strategy(pool).with_custom_code_memory(Some(code));
    // The stack for signals of this thread, which runs the guests: what maps it is on no list later.
    Engine::tls_eager_initialize();
    Engine::new(&config)
}

/// The engine of a compiler.
///
/// # Errors
/// Where this machine is none that code can be compiled for.
pub(crate) fn for_compiler(settings: &EngineSettings) -> wasmtime::Result<Engine> {
    Engine::new(&config(settings))
}

/// As [`for_compiler`], for a module that says from which source it was made: its code can say which
/// place of the module it is at. That shapes no code either, and takes a part of the artefact that
/// nobody reads before a guest fails.
///
/// # Errors
/// As [`for_compiler`].
pub(crate) fn for_compiler_of_places(settings: &EngineSettings) -> wasmtime::Result<Engine> {
    Engine::new(config(settings).generate_address_map(true))
}

fn config(settings: &EngineSettings) -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .wasm_features(WasmFeatures::all(), false)
        .wasm_features(FEATURES, true)
        // True is an error without a feature of the crate that we leave out.
        .concurrency_support(false)
        .epoch_interruption(settings.metering.epochs())
        .consume_fuel(settings.metering.fuel())
        .cranelift_nan_canonicalization(settings.canonical_nans)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES_MAX))
        // The environment has no say in what a worker prints.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        // Backtraces name functions, and no foreign unwinder is needed. Places in them are for
        // modules that know their source.
        .generate_address_map(false)
        .native_unwind_info(false)
        .memory_init_cow(true);
    config
}

/// How an instance's memory is made as new between two tasks on this machine.
///
/// # Errors
/// Why not the fast way, which asks the kernel for the pages that were written.
pub fn fast_reset() -> Result<(), &'static str> {
    if has_swap() {
        return Err("this machine can swap, and pages that were swapped out would be missed");
    }
    match PoolingAllocationConfig::is_pagemap_scan_available() {
        true => Ok(()),
        false => Err("the kernel cannot tell which pages were written"),
    }
}

/// Whether this machine can swap. wasmtime 48.0.8's page map misses dirty pages that were swapped
/// out, so one task's bytes could stay for the next. Swap that is added while a worker runs goes
/// unnoticed until its successor.
fn has_swap() -> bool {
    // The first line is a heading. What cannot be read is taken for the worst.
    fs::read_to_string("/proc/swaps").map_or(true, |text| text.lines().count() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_that_is_named_is_the_one_that_is_built() {
        let version = ENGINE.strip_prefix("wasmtime ").unwrap();
        let pinned = format!("\nwasmtime = {{ version = \"={version}\"");
        assert!(include_str!("../../../Cargo.toml").contains(&pinned));
    }
}
