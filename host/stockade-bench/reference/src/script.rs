//! QuickJS in a bare engine, each script in a fresh instance.

use stockade_reference::guests;
use wasmtime::error::Context;
use wasmtime::{InstancePre, Linker, Module, Result, Store, ensure};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{I32Exit, WasiCtxBuilder};

use crate::bare::{self, Allocation};

/// The most bytes that a script prints.
const OUTPUT_BYTES_MAX: usize = 64 << 10;

/// QuickJS, ready to be instantiated.
pub(crate) struct Script(InstancePre<WasiP1Ctx>);

impl Script {
    /// Compiles it for an engine of its own.
    ///
    /// # Errors
    /// If it is not built.
    pub(crate) fn new() -> Result<Self> {
        let path = guests::quickjs()?;
        let wasm = std::fs::read(path).context("QuickJS is not built: `just languages`")?;
        let engine = bare::engine(Allocation::Pooled)?;
        let mut linker = Linker::new(&engine);
        p1::add_to_linker_sync(&mut linker, |context| context)?;
        Ok(Self(linker.instantiate_pre(&Module::from_binary(&engine, &wasm)?)?))
    }

    /// Evaluates `source`.
    ///
    /// # Errors
    /// If QuickJS does.
    pub(crate) fn run(&self, source: &str) -> Result<()> {
        let context = WasiCtxBuilder::new()
            .allow_blocking_current_thread(true)
            .args(&["qjs", "-e", source])
            .stdout(MemoryOutputPipe::new(OUTPUT_BYTES_MAX))
            .build_p1();
        let mut store = Store::new(self.0.module().engine(), context);
        let instance = self.0.instantiate(&mut store)?;
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
        let code = match start.call(&mut store, ()) {
            Ok(()) => 0,
            Err(error) => error.downcast::<I32Exit>()?.0,
        };
        ensure!(code == 0, "QuickJS ended with {code}");
        Ok(())
    }
}
