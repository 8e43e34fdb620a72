//! What a module holds, found out without a pool.

use std::path::Path;

use stockade_wire::{
    COMPILE_BYTES_MAX, CompileLimits, CompileStep, EngineSettings, Features, Limits, Lockdown,
    MEMORY_BYTES_MAX, ModuleDescription, TABLE_ELEMENTS_MAX, UnknownImports,
};

use crate::api::given::{Contents, Given, read};
use crate::compile::compiler::Compiler;
use crate::outcome::error::BuildError;
use crate::process::conversation::Interrupt;
use crate::process::program::WorkerProgram;

/// Reads and validates the module in the file `path`, in a process of its own, and returns its
/// description. Does not run it. Blocks until that is done.
///
/// # Errors
/// [`BuildError`], as for [`PoolBuilder::build`](crate::PoolBuilder::build).
///
/// ```no_run
/// let module = stockade::inspect("tasks.wasm", None)?;
/// for function in &module.functions {
///     println!("{}: {}", function.name, function.doc);
/// }
/// # Ok::<(), stockade::BuildError>(())
/// ```
pub fn inspect(
    path: impl AsRef<Path>,
    worker_program: Option<&WorkerProgram>,
) -> Result<ModuleDescription, BuildError> {
    inspect_with(path, worker_program, UnknownImports::Refuse)
}

/// As [`inspect`], for a pool with these [`unknown_imports`](crate::PoolBuilder::unknown_imports).
///
/// # Errors
/// As [`inspect`].
pub fn inspect_with(
    path: impl AsRef<Path>,
    worker_program: Option<&WorkerProgram>,
    unknown_imports: UnknownImports,
) -> Result<ModuleDescription, BuildError> {
    let program = WorkerProgram::find(worker_program)?;
    let given = Given {
        name: path.as_ref().display().to_string(),
        contents: Contents::File(path.as_ref().to_path_buf()),
    };
    // Nothing is compiled, so any size is taken: what a module of so many bytes needs to be read.
    let file_bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
    let limits = CompileLimits::default();
    let limits = limits
        .clone()
        .module_bytes(limits.module_bytes.max(file_bytes).min(COMPILE_BYTES_MAX))
        .memory_bytes(
            limits.memory_bytes.saturating_add(file_bytes.saturating_mul(8)).min(COMPILE_BYTES_MAX),
        );
    let source = read(&given, limits.module_bytes, false)?;
    // The widest limits: what a module holds does not depend on what its tasks may use.
    let widest =
        Limits::default().memory_bytes(MEMORY_BYTES_MAX).table_elements(TABLE_ELEMENTS_MAX);
    let engine =
        EngineSettings { unknown_imports, features: Features::all(), ..widest.engine_settings() };
    let lockdown = Lockdown::default();
    let compiler = Compiler { program, engine, limits, lockdown, exposed: false };
    let (description, _) = compiler
        .compile(&source, CompileStep::Describe, None, &Interrupt::default())
        .map_err(|error| error.of_module(&given.name))?;
    Ok(description)
}
