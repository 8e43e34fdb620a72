//! The engine's configuration, which compiled code and the worker that runs it must have in common.
//!
//! Both roles build their configuration here, from the same [`EngineSettings`], because an artefact
//! loads only if all settings that affect code are the same. The two differ in the allocation of
//! code and memories, which does not affect code.

use std::num::NonZeroUsize;
use std::sync::Arc;

use stockade_module::{MEMORIES_MAX, wasm_features};
use stockade_wire::{EngineSettings, Instances, Setup};
use wasmtime::{Collector, Config, Engine, Strategy, WasmBacktraceDetails, WasmFeatures};

use crate::artefact::Code;
use crate::memory::{
    GC_HEAP_RESERVATION_BYTES, GUARD_BYTES, Memories, MemoryError, RESERVATION_BYTES,
};

/// The engine and its version. An artefact is valid only for exactly this one.
pub const ENGINE: &str = "wasmtime 48.0.8";

/// Who frees objects.
const COLLECTOR: Collector = Collector::DeferredReferenceCounting;

/// The most frames of a backtrace.
pub(crate) const BACKTRACE_FRAMES_MAX: usize = stockade_wire::BACKTRACE_FRAMES_MAX;

/// The engine of a worker, with those whom it asks for memory.
#[derive(Debug)]
pub(crate) struct WorkerEngine {
    pub(crate) engine: Engine,
    /// Publishes code.
    pub(crate) code: Arc<Code>,
    /// Makes guests' memories.
    pub(crate) memories: Arc<Memories>,
}

/// The engine of a worker.
///
/// # Errors
/// If code cannot run on this machine, or there is no address space for its guests' memories.
pub(crate) fn for_worker(setup: &Setup) -> wasmtime::Result<WorkerEngine> {
    let (modules, memories) = (setup.modules as usize, setup.memories as usize);
    // For a command besides the living instance of its module, and for the heap of every instance that
    // is alive at a time.
    let (beside, alive) = match setup.instances {
        Instances::PerTask => (0, 1),
        Instances::PerWorker => (memories.min(MEMORIES_MAX), modules.saturating_add(1)),
    };
    let heaps = if setup.engine.features.need_heap() { alive } else { 0 };
    for_worker_of(config(&setup.engine), memories, beside.saturating_add(heaps))
}

/// The engine of `config` with places for so many memories, and some to lend.
fn for_worker_of(mut config: Config, own: usize, lent: usize) -> wasmtime::Result<WorkerEngine> {
    let message = |error: MemoryError| wasmtime::Error::msg(error.to_string());
    let memories = Memories::new(own.saturating_add(lent)).map_err(message)?;
    (0..lent).try_for_each(|_| memories.add_lent()).map_err(message)?;
    let (code, memories) = (Arc::new(Code::new()), Arc::new(memories));
    // The stack for signals of this thread, which runs the guests: what maps it is on no list later.
    Engine::tls_eager_initialize();
    config
        .with_custom_code_memory(Some(Arc::clone(&code) as Arc<_>))
        .with_host_memory(Arc::clone(&memories) as Arc<_>);
    Ok(WorkerEngine { engine: Engine::new(&config)?, code, memories })
}

/// The engine of a worker by itself, with its compiler and so many places for whatever memory is asked
/// for, and with `collector` in place of the one that workers have, if there is one: for the
/// specification's own tests, whose modules share memories and are no guests of a pool.
///
/// # Errors
/// As for a worker.
pub fn engine_alone(
    settings: &EngineSettings,
    memories: usize,
    collector: Option<Collector>,
) -> wasmtime::Result<Engine> {
    let memories = Memories::for_anything(memories);
    let memories = memories.map_err(|error| wasmtime::Error::msg(error.to_string()))?;
    let mut config = config(settings);
    config.with_host_memory(Arc::new(memories) as Arc<_>).collector(collector.unwrap_or(COLLECTOR));
    Engine::new(&config)
}

/// What an engine of a compiler has that a worker's has not. None of it shapes code.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Compiling {
    /// For a module that says from which source it was made: its code can say which place of the module
    /// it is at. It takes a part of the artefact that nobody reads before a guest fails.
    pub(crate) places: bool,
    /// Functions are compiled in the caller's threads, so the caller must be in a pool of them: see
    /// [`Threads`](crate::compiler::Threads).
    pub(crate) in_threads: bool,
}

/// The engine of a compiler.
///
/// # Errors
/// If code cannot be compiled for this machine.
pub(crate) fn for_compiler(
    settings: &EngineSettings,
    compiling: Compiling,
) -> wasmtime::Result<Engine> {
    let Compiling { places, in_threads } = compiling;
    Engine::new(config(settings).generate_address_map(places).parallel_compilation(in_threads))
}

fn config(settings: &EngineSettings) -> Config {
    // An exception is an object on the heap, whether modules may have others or not: that is for
    // admission to say.
    let heap = match settings.features.need_heap() {
        true => WasmFeatures::GC_TYPES,
        false => WasmFeatures::empty(),
    };
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .wasm_features(WasmFeatures::all(), false)
        .wasm_features(wasm_features(settings.features).union(heap), true)
        .collector(COLLECTOR)
        // True is an error without a feature of the crate that we leave out.
        .concurrency_support(false)
        .epoch_interruption(settings.metering.epochs())
        .consume_fuel(settings.metering.fuel())
        .cranelift_nan_canonicalization(settings.canonical_nans)
        .relaxed_simd_deterministic(settings.canonical_nans)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES_MAX))
        // The environment must not affect a worker's output.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        // A thread that starts after the lockdown would make forbidden system calls.
        .parallel_compilation(false)
        // Backtraces name functions, and no foreign unwinder is needed. Places in them are for
        // modules that know their source.
        .generate_address_map(false)
        .native_unwind_info(false)
        // Instances are made anew and their memories are ours, see `memory`. The engine's own ways to
        // reset one are not to be relied on: the fast one misses pages that the kernel migrates.
        .memory_init_cow(false)
        .memory_reservation(RESERVATION_BYTES)
        .memory_guard_size(GUARD_BYTES)
        .memory_may_move(false)
        .gc_heap_reservation(GC_HEAP_RESERVATION_BYTES)
        .gc_heap_guard_size(GUARD_BYTES);
    config
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
