//! Lines of source for the functions of a backtrace, where the guest says from which it was made.
//!
//! ```text
//! Frame: function, offset ─► CodePlace ─► compiler's process: DWARF read ─► SourcePlace
//! ```
//!
//! Invariant: what a stranger's module says of its source is read in a process of its own, as the
//! module itself is.

use stockade_wire::{CodePlace, CompileLimits, Frame, LOCATED_FRAMES_MAX, SourcePlace};

use crate::api::pool::{Blueprint, Pool};
use crate::compile::compiler::{Compiler, NotCompiled};
use crate::outcome::error::RefusedReason;
use crate::outcome::machine::MachineError;

/// The most time of a processor, and the most time, that one backtrace is worth.
const CPU_TIME: std::time::Duration = std::time::Duration::from_secs(10);
const WALL_TIME: std::time::Duration = std::time::Duration::from_secs(20);

/// Why the source of a backtrace was not found.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LocateError {
    /// The pool has no module of that name.
    #[error("the pool has no module `{0}`")]
    UnknownModule(String),
    /// What the module says of its source cannot be read.
    #[error("the module's debug information cannot be read: {0}")]
    Unreadable(RefusedReason),
    /// The machine is at fault; the module may have what was asked for.
    #[error("the module's debug information was not read")]
    Machine(#[source] MachineError),
}

impl LocateError {
    /// What to do about it.
    pub fn next_step(&self) -> Option<&'static str> {
        match self {
            Self::UnknownModule(_) => Some("give the name that the task's target had"),
            Self::Unreadable(_) => Some("do without lines, or build the module again with `-g`"),
            Self::Machine(error) => Some(error.next_step()),
        }
    }
}

crate::base::shown::debug_as_text!(LocateError, LocateError::next_step);

impl From<NotCompiled> for LocateError {
    fn from(error: NotCompiled) -> Self {
        match error {
            NotCompiled::Refused(reason) => Self::Unreadable(reason),
            NotCompiled::Machine(error) => Self::Machine(error),
        }
    }
}

impl Pool {
    /// Finds where in its source each frame of the `backtrace` of a task of `module` was: a list for
    /// each frame of the functions that were inlined into one another there, innermost first.
    ///
    /// Empty lists, at no cost, for a module without debug information (DWARF, as compilers write it
    /// with `-g`). Else blocks for as long as a process takes that reads it, milliseconds and at most
    /// 20 s. What it says are the module's words: a stranger's claim of files and lines.
    ///
    /// # Errors
    /// [`LocateError`], also where the module's code came from a cache and its file has changed since.
    ///
    /// ```no_run
    /// # let pool = stockade::Pool::builder().module("tasks.wasm").build()?;
    /// if let Err(error) = pool.submit::<u64>("parse", ("1 +",))?.result() {
    ///     for places in pool.locate("tasks", error.backtrace())? {
    ///         println!("{places:?}");
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn locate(
        &self,
        module: &str,
        backtrace: &[Frame],
    ) -> Result<Vec<Vec<SourcePlace>>, LocateError> {
        let blueprint = &self.core.blueprint;
        let entry = blueprint.modules.iter().find(|entry| entry.name == module);
        let entry = entry.ok_or_else(|| LocateError::UnknownModule(module.into()))?;
        let mut located = vec![Vec::new(); backtrace.len()];
        let places: Vec<(usize, CodePlace)> = backtrace
            .iter()
            .enumerate()
            .filter_map(|(at, frame)| {
                Some((at, CodePlace { function: frame.index, offset: frame.offset? }))
            })
            .take(LOCATED_FRAMES_MAX)
            .collect();
        let Some(source) = entry.source.as_ref() else { return Ok(located) };
        if !entry.description.has_debug_info || places.is_empty() {
            return Ok(located);
        }
        let asked = places.iter().map(|(_, place)| *place).collect();
        let found = compiler(blueprint).locate(source, asked)?;
        for ((at, _), found) in places.into_iter().zip(found) {
            located[at] = found;
        }
        Ok(located)
    }
}

fn compiler(blueprint: &Blueprint) -> Compiler {
    let default = CompileLimits::default();
    Compiler {
        program: blueprint.program.clone(),
        engine: blueprint.setup.engine.clone(),
        // The module was admitted under the builder's own limit on its bytes.
        limits: default
            .module_bytes(stockade_wire::COMPILE_BYTES_MAX)
            .cpu_time(CPU_TIME)
            .wall_time(WALL_TIME),
        lockdown: blueprint.setup.confinement.lockdown.clone(),
        exposed: false,
    }
}
