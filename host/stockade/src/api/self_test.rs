//! The pool's self-test: a second pool with the same configuration does real work through every
//! path.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use stockade_wire::{CompileLimits, CompileStep, Load, ModuleId};

use crate::api::pool::{Blueprint, Pool};
use crate::call::arguments::Bytes;
use crate::call::options::{TaskOptions, WhenFull};
use crate::call::target::{Callables, ModuleEntry};
use crate::compile::compiler::{Compiler, Source};
use crate::outcome::error::{CancelReason, RunError, TaskError};
use crate::process::conversation::Interrupt;
use crate::process::loadable::Loadable;

/// The module that is loaded in addition to the pool's own.
const MODULE: &str = include_str!("self_test.wat");
const MODULE_NAME: &str = "stockade.self-test";

/// Items of each map: a few rounds for every worker.
const ITEMS: i64 = 100;

/// Which path of [`Pool::test`] failed.
#[derive(Debug, thiserror::Error)]
#[error("the pool's test failed: {path}")]
#[non_exhaustive]
pub struct TestError {
    /// Where.
    pub path: TestPath,
    /// Why.
    pub source: Box<dyn Error + Send + Sync>,
}

/// What [`Pool::test`] tries, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TestPath {
    /// The pool itself accepts tasks.
    Check,
    /// A module is compiled and a second pool is started.
    Start,
    /// Workers start, with the initializer.
    Workers,
    /// A call over numbers.
    Run,
    /// A task that reads its input and writes its output.
    Task,
    /// A task that traps ends with that error, and is the only one that does.
    Trap,
    /// A lazy map in order, in chunks.
    Map,
    /// An eager map as results come.
    MapAll,
    /// A running task is ended with its worker.
    Cancel,
    /// The pool becomes empty, with the finalizer, and works again.
    Join,
    /// The pool ends, with the finalizer.
    Shutdown,
}

impl fmt::Display for TestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Check => "the pool accepts no tasks",
            Self::Start => "no second pool with its configuration could be started",
            Self::Workers => "its workers do not start",
            Self::Run => "a function could not be run",
            Self::Task => "a task could not be run",
            Self::Trap => "a trap was not reported as one",
            Self::Map => "a map gave wrong results",
            Self::MapAll => "an eager map gave wrong results",
            Self::Cancel => "a running task could not be ended",
            Self::Join => "it did not become empty",
            Self::Shutdown => "it did not end in order",
        })
    }
}

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

type Trial = fn(&Pool) -> Outcome;

impl Pool {
    /// Tests that a pool like this one works here: starts a second one with the same configuration,
    /// initializer and finalizer included, and does real work through every path. Blocks for about
    /// a second, plus the time of the pool's hooks; this pool's tasks go on meanwhile.
    ///
    /// # Errors
    /// [`TestError`], with the path that failed and the reason as its source.
    pub fn test(&self) -> Result<(), TestError> {
        let at = |path| move |source| TestError { path, source };
        self.check().map_err(|error| at(TestPath::Check)(error.into()))?;
        let pool = second(&self.core.blueprint).map_err(at(TestPath::Start))?;
        let paths: [(TestPath, Trial); 9] = [
            (TestPath::Workers, workers),
            (TestPath::Run, run),
            (TestPath::Task, task),
            (TestPath::Trap, trap),
            (TestPath::Map, map),
            (TestPath::MapAll, map_all),
            (TestPath::Cancel, cancel),
            (TestPath::Join, join),
            (TestPath::Shutdown, shut_down),
        ];
        paths.into_iter().try_for_each(|(path, trial)| trial(&pool).map_err(at(path)))
    }
}

/// A pool as `blueprint` says, with the module of these tests in addition to its own.
fn second(blueprint: &Blueprint) -> Result<Pool, Box<dyn Error + Send + Sync>> {
    let mut blueprint = blueprint.clone();
    let compiler = Compiler {
        program: blueprint.program.clone(),
        engine: blueprint.setup.engine.clone(),
        // The module is small and ours.
        limits: CompileLimits::default(),
        lockdown: blueprint.setup.confinement.lockdown.clone(),
        exposed: false,
    };
    let bytes_max = compiler.limits.module_bytes;
    let source = Source::from_bytes(MODULE_NAME.into(), MODULE.as_bytes(), true, bytes_max)?;
    let (description, artefact) =
        compiler.compile(&source, CompileStep::Compile, None, &Interrupt::default())?;
    let id = ModuleId(u32::try_from(blueprint.modules.len())?);
    let name = MODULE_NAME.to_string();
    let callables = Callables::of(&description);
    let load = Load {
        module: id,
        name: name.clone(),
        functions: callables.exports(),
        initializer: None,
        finalizer: None,
        initialized: false,
    };
    let memories = description.memories;
    blueprint.modules.push(ModuleEntry { id, name, callables, description, source: None });
    blueprint.loadables.push(Loadable { load, artefact: Arc::new(artefact), memories });
    blueprint.name = format!("{}-test", blueprint.name);
    // So that a full pool does not fail the test.
    blueprint.when_full = WhenFull::Block;
    Ok(Pool::start(blueprint)?)
}

fn workers(pool: &Pool) -> Outcome {
    let started = pool.spawn_max_workers()?;
    same(started, pool.max_workers())
}

fn run(pool: &Pool) -> Outcome {
    same(pool.run::<i64>((MODULE_NAME, "add"), (40_i64, 2_i64))?, 42)
}

fn task(pool: &Pool) -> Outcome {
    let said = b"stockade".to_vec();
    if pool.limits().output_bytes < said.len() as u64 {
        // The pool's output limit is too small for this task.
        return Ok(());
    }
    let options = TaskOptions::default().label("test");
    let handle = pool.submit_with::<Bytes>((MODULE_NAME, "echo"), Bytes(said.clone()), options)?;
    same(handle.result()?, Bytes(said))
}

fn trap(pool: &Pool) -> Outcome {
    let doomed = pool.submit::<()>((MODULE_NAME, "trap"), (1_i64,))?;
    run(pool)?;
    match doomed.result() {
        Err(TaskError::Trap { .. }) => Ok(()),
        Err(other) => Err(other.into()),
        Ok(()) => Err("it returned".into()),
    }
}

fn map(pool: &Pool) -> Outcome {
    let pairs = (0..ITEMS).map(|number| (number, 1_i64));
    let sums = pool.starmap::<i64, _, _>((MODULE_NAME, "add"), pairs).chunk_size(7);
    same(sums.collect::<Result<Vec<_>, _>>()?, (1..=ITEMS).collect())
}

fn map_all(pool: &Pool) -> Outcome {
    let pairs = (0..ITEMS).map(|number| (number, 1_i64));
    let sums = pool.starmap_all::<i64, _, _>((MODULE_NAME, "add"), pairs).unordered();
    let mut sums: Vec<_> = sums.collect::<Result<_, RunError>>()?;
    sums.sort_unstable();
    same(sums, (1..=ITEMS).collect())
}

fn cancel(pool: &Pool) -> Outcome {
    let endless = pool.submit::<()>((MODULE_NAME, "spin"), (1_i64,))?;
    while endless.is_pending() {
        std::thread::yield_now();
    }
    endless.cancel_running();
    match endless.result() {
        Err(TaskError::Cancelled(CancelReason::WhileRunning | CancelReason::Asked)) => {}
        // Where these limits are shorter than a moment.
        Err(TaskError::Deadline { .. } | TaskError::Fuel { .. }) => {}
        Err(other) => return Err(other.into()),
        Ok(()) => return Err("it returned".into()),
    }
    run(pool)
}

fn join(pool: &Pool) -> Outcome {
    pool.join(None)?;
    pool.check()?;
    same(pool.count_workers(), 0)?;
    run(pool)
}

fn shut_down(pool: &Pool) -> Outcome {
    pool.drain();
    match pool.broken() {
        Some(cause) => Err(cause.into()),
        None => same(pool.count_workers(), 0),
    }
}

fn same<T: PartialEq + fmt::Debug>(given: T, expected: T) -> Outcome {
    if given == expected {
        return Ok(());
    }
    Err(format!("got {given:?}, but expected {expected:?}").into())
}
