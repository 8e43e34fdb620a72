//! The benchmark's guests in a bare engine, with the settings of a worker's.
//!
//! Nothing that a worker does for safety is done here: no meter, no lockdown, and no limits unless they
//! are asked for. What of WASI the guest imports is there and fails when called, which it never is.
//!
//! Instances are pooled, and pages are put back by the engine's page map wherever there is one. That is
//! **unsafe**: it misses pages that the kernel is moving, see docs/threat-model.md. It is the fastest that
//! the engine has, so it stays what everything is compared with.

use std::num::NonZeroUsize;

use stockade_module::{INSTANCE_BYTES_MAX, TABLES_MAX, wasm_features};
use stockade_reference::guests;
use stockade_wire::Features;
use wasmtime::error::Context;
use wasmtime::{
    Caller, Config, Enabled, Engine, Extern, InstancePre, Linker, Memory, Module, ModuleExport,
    PoolingAllocationConfig, Result, Store, StoreLimits, StoreLimitsBuilder, Strategy,
    WasmBacktraceDetails, WasmFeatures, ensure,
};

/// As many instances as may be alive on all threads, and some to spare.
const INSTANCES_MAX: u32 = 4;

/// What is put back page by page and not unmapped.
const KEEP_RESIDENT_BYTES: usize = 4 << 20;
const TABLE_KEEP_RESIDENT_BYTES: usize = 64 << 10;

/// The limits of a pool that sets none.
const MEMORY_BYTES_MAX: usize = 256 << 20;
const TABLE_ELEMENTS_MAX: usize = 100_000;

/// Where instances come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allocation {
    /// From a pool.
    Pooled,
    /// Anew each time: cheaper for a process that makes one.
    OnDemand,
}

/// What host calls work on.
struct Task {
    memory: Option<Memory>,
    output: Vec<u8>,
    limits: StoreLimits,
}

/// The guest, ready to be instantiated.
pub(crate) struct Bare {
    pre: InstancePre<Task>,
    memory: ModuleExport,
    /// Whether instances have a limiter, as a worker's do.
    is_limited: bool,
}

/// What shapes code: a worker's settings for a pool that wants no checks.
pub(crate) fn config() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .wasm_features(WasmFeatures::all(), false)
        .wasm_features(wasm_features(Features::none()), true)
        .concurrency_support(false)
        .wasm_backtrace_max_frames(NonZeroUsize::new(32))
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .generate_address_map(false)
        .native_unwind_info(false)
        .memory_init_cow(true);
    config
}

/// An engine that makes instances so.
///
/// # Errors
/// If the system refuses the address space.
pub(crate) fn engine(allocation: Allocation) -> Result<Engine> {
    let mut config = config();
    if allocation == Allocation::Pooled {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(INSTANCES_MAX)
            .total_memories(INSTANCES_MAX)
            .total_tables(INSTANCES_MAX * TABLES_MAX)
            .total_stacks(0)
            .total_gc_heaps(0)
            .max_memories_per_module(1)
            .max_tables_per_module(TABLES_MAX)
            .max_core_instance_size(INSTANCE_BYTES_MAX)
            .max_memory_size(MEMORY_BYTES_MAX)
            .table_elements(TABLE_ELEMENTS_MAX)
            .pagemap_scan(Enabled::Auto);
        if PoolingAllocationConfig::is_pagemap_scan_available() {
            pool.linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
                .table_keep_resident(TABLE_KEEP_RESIDENT_BYTES);
        }
        config.allocation_strategy(pool);
    }
    Engine::new(&config)
}

impl Bare {
    /// Compiles `wasm` for an engine of its own.
    ///
    /// # Errors
    /// If its tasks are not as the guests' of `guests`, or there is no address space.
    pub(crate) fn compile(wasm: &[u8]) -> Result<Self> {
        let engine = engine(Allocation::Pooled)?;
        let bare = Self::new(&Module::from_binary(&engine, wasm)?)?;
        // Warm: what is made on the first use is made.
        bare.task()?;
        Ok(bare)
    }

    /// Links `module`.
    ///
    /// # Errors
    /// If it is not the realistic guest.
    pub(crate) fn new(module: &Module) -> Result<Self> {
        let mut linker = Linker::<Task>::new(module.engine());
        linker.func_wrap("stockade", "input_len", || guests::PAYLOAD_BYTES as u32)?;
        linker.func_wrap("stockade", "input_read", input_read)?;
        linker.func_wrap("stockade", "output_write", output_write)?;
        linker.define_unknown_imports_as_traps(module)?;
        let memory = module.get_export_index("memory").context("the guest has no memory")?;
        Ok(Self { pre: linker.instantiate_pre(module)?, memory, is_limited: false })
    }

    /// Gives instances a worker's limits on memory and tables.
    pub(crate) fn limited(mut self) -> Self {
        self.is_limited = true;
        self
    }

    /// Runs one task in a fresh instance.
    ///
    /// # Errors
    /// If the guest does not do what it should.
    pub(crate) fn task(&self) -> Result<()> {
        let limits = StoreLimitsBuilder::new();
        let limits = limits.memory_size(MEMORY_BYTES_MAX).table_elements(TABLE_ELEMENTS_MAX);
        let task = Task { memory: None, output: Vec::new(), limits: limits.build() };
        let mut store = Store::new(self.pre.module().engine(), task);
        if self.is_limited {
            store.limiter(|task| &mut task.limits);
        }
        let instance = self.pre.instantiate(&mut store)?;
        let memory = instance.get_module_export(&mut store, &self.memory);
        store.data_mut().memory = memory.and_then(Extern::into_memory);
        let handle = instance.get_typed_func::<(), i32>(&mut store, "handle")?;
        ensure!(handle.call(&mut store, ())? == 0, "the guest failed");
        ensure!(
            store.data().output.len() == guests::PAYLOAD_BYTES,
            "the guest gave something else"
        );
        Ok(())
    }
}

fn input_read(mut caller: Caller<'_, Task>, to: u32, from: u32, bytes: u32) -> Result<()> {
    let input = [7_u8; guests::PAYLOAD_BYTES];
    let (memory, _) = memory_and_task(&mut caller)?;
    let place = memory.get_mut(to as usize..).and_then(|rest| rest.get_mut(..bytes as usize));
    let part = input.get(from as usize..).and_then(|rest| rest.get(..bytes as usize));
    match (place, part) {
        (Some(place), Some(part)) => place.copy_from_slice(part),
        _ => return Err(wasmtime::Error::msg("out of bounds")),
    }
    Ok(())
}

fn output_write(mut caller: Caller<'_, Task>, from: u32, bytes: u32) -> Result<()> {
    let (memory, task) = memory_and_task(&mut caller)?;
    let part = memory.get(from as usize..).and_then(|rest| rest.get(..bytes as usize));
    task.output.extend_from_slice(part.ok_or_else(|| wasmtime::Error::msg("out of bounds"))?);
    Ok(())
}

fn memory_and_task<'a>(caller: &'a mut Caller<'_, Task>) -> Result<(&'a mut [u8], &'a mut Task)> {
    let memory = caller.data().memory.ok_or_else(|| wasmtime::Error::msg("no memory"))?;
    Ok(memory.data_and_store_mut(caller))
}
