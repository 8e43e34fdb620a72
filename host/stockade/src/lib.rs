//! A pool of worker processes that run functions of untrusted WebAssembly modules.
//!
//! ```standalone_crate
//! use std::time::Duration;
//! use stockade::{Limits, Pool, TaskError};
//!
//! # std::env::set_current_dir("../../target/wasm32-wasip1/guest")?;
//! // An untrusted module, and the limits of each of its tasks.
//! let pool = Pool::builder()
//!     .module("wordcount.wasm")
//!     .max_workers(2)
//!     .limits(Limits::default().wall_time(Duration::from_secs(5)).memory_bytes(64 << 20))
//! #   .worker_program(stockade::WorkerProgram::Path("../../debug/stockade-worker".into()))
//!     .build()?;
//!
//! // One task: encoded now, run in an instance of its own, decoded here.
//! let words: u64 = pool.run("word_count", ("to be or not to be",))?;
//! assert_eq!(words, 6);
//!
//! // A task in the background, and its report.
//! let handle = pool.submit::<Vec<(String, u64)>>("top_words", ("a b a", 1))?;
//! assert_eq!(handle.result()?, [("a".to_string(), 2)]);
//! println!("took {:?}, {} bytes", handle.report().wall_time, handle.report().memory_peak_bytes);
//!
//! // Many tasks, lazily and in order; a failed item does not end the map.
//! let lines = ["whether 'tis nobler", "in the mind to suffer"];
//! let counts: Vec<u64> = pool.map("word_count", lines).collect::<Result<_, _>>()?;
//! assert_eq!(counts, [3, 5]);
//!
//! // A caller's mistake is an error before anything runs.
//! let refused = pool.run::<u64>("word_cuont", ("",)).unwrap_err();
//! assert!(refused.to_string().contains("did you mean `word_count`?"));
//!
//! pool.shutdown();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Modules and targets
//!
//! A module is compiled to `wasm32-wasip1` from any language. A *target* is what can be called in
//! it:
//!
//! | target | is | called with |
//! |---|---|---|
//! | task | what the guest SDK's `#[task]` makes: any serde types | tuples, [`Json`], [`Bytes`], [`SharedBuffer`] |
//! | scalar function | any export over `i32`, `i64`, `f32`, `f64` | tuples of numbers, [`Json`] |
//! | command | the module's `_start`, `""`, or another [entry](Command::entry): a whole program | [`Command`] with [`Pool::submit_command`] and [`Pool::map_command`] |
//!
//! A pool of one module takes a bare name; a pool of several takes `(module, function)`. Modules of
//! one pool may share worker processes, so a pool is one domain of trust: two tenants, two pools.
//!
//! # Instances
//!
//! With [`Instances::PerTask`], the default, every task starts from the same state and leaves
//! nothing behind. An initializer then runs once, and its effect is part of that state, at no cost
//! per task. With [`Instances::PerWorker`] an instance lives as long as its worker and keeps its
//! state. See [`PoolBuilder::initializer`] and [`PoolBuilder::finalizer`].
//!
//! # Limits and grants
//!
//! [`Limits`] bound each task's time, memory, tables, fuel, result and output; each has a default.
//! At the deadline of a task its worker is killed and another takes its place, so guest code runs at
//! full speed; `interruptible` makes a deadline a trap with a backtrace instead, at a cost.
//! [`Grants`] give access to directories and environment variables; by default a guest has access
//! to nothing.
//!
//! # Tasks
//!
//! [`TaskHandle`] waits, polls, awaits and cancels; [`TaskHandle::on_done`] calls back on threads of
//! the pool's own. [`wait`], [`collect`], [`as_done`] and [`TaskFilter`] follow several at once.
//! [`TaskOptions`] give one task a priority, retries after a lost worker, tighter limits, a label.
//! A cancel is exact: if it returns true, the task's code never runs.
//!
//! [`Pool::map`] is lazy and bounded, [`Pool::map_all`] eager; both in order or as results
//! complete, and as `futures` streams with the feature `stream`. Items of a [`FedMap`] are pushed as
//! they come. [`Function::map_slice`] applies a function over numbers to a whole slice of them, as
//! columns. [`PoolBuilder::max_pending_tasks`] bounds the queue, and [`WhenFull`] says what a
//! submission does when it is full.
//!
//! # Large data
//!
//! A [`SharedBuffer`] is lent to a task and comes back with its result: it is part of the guest's
//! memory, so nothing is copied. [`Bytes`] are copied once on the way to the guest, and results of
//! [`Pool::run`] and of maps once on the way back.
//!
//! # Errors
//!
//! One type for each question: [`BuildError`], could the pool be built; [`SubmitError`], was the task
//! accepted; [`TaskError`], how did it end, with [`TaskError::fault`] for whose fault it was;
//! [`BrokenError`], what broke the pool; [`SliceError`], which item of a slice failed. A task that
//! traps, panics, exceeds a limit or loses its worker affects no other task. [`TaskReport`] has the
//! resources that a task used.
//!
//! # Workers
//!
//! Workers are processes of the program `stockade-worker` (see [`PoolBuilder::worker_program`]).
//! They start when there is work, are replaced when they die, and close when idle. None outlives
//! the pool's program, even if it is killed. [`Pool::join`] empties a pool, [`Pool::drain`],
//! [`Pool::shutdown`] and [`Pool::kill`] end it; a module whose tasks kill worker after worker is
//! put under [`Quarantine`]. [`Pool::test`] checks that all of it works on this machine.
//!
//! A module is compiled whenever a pool is built, unless [`PoolBuilder::cache`] names a [`Cache`]
//! of compiled modules; an entry that was changed is not used.
//!
//! This crate neither parses WebAssembly nor links an engine: modules are compiled in processes of
//! their own, and every byte that comes back from a worker is checked.
//!
//! # Seeing inside
//!
//! The library emits [`tracing`](https://docs.rs/tracing) data: a span for each task, within the
//! span that submits it, and events of workers and pools, under the targets `stockade::task`,
//! `stockade::worker`, `stockade::compile` and `stockade::pool`. Without a subscriber this costs
//! nothing.
//!
//! With the feature `metrics`, a pool that asks for it (`PoolBuilder::metrics`) has counters, gauges and
//! histograms for an operator.
//!
//! [`TaskError::backtrace`] names a guest's functions and [`Pool::locate`] finds their lines. A pool that
//! is [deterministic](Limits::deterministic) can [record](Pool::record) a failed task, and the
//! [`Recording`] can be run again.
//!
//! # What confines a worker
//!
//! Workers and compilers lock themselves down before they read hostile input: with a seccomp
//! filter, [Landlock](Layer::Landlock), namespaces and more, each layer if the machine supports it.
//! [`Pool::lockdown`] returns the state of each layer; [`PoolBuilder::lockdown`] with
//! [`Lockdown::require`] makes a missing one an error. The repository's `docs/threat-model.md` says
//! what each layer stops, and what is not promised.
//!
//! ```no_run
//! use stockade::{Layer, Lockdown, Pool};
//!
//! let lockdown = Lockdown::default().require([Layer::Seccomp, Layer::Landlock]);
//! let pool = Pool::builder().module("untrusted.wasm").lockdown(lockdown).build()?;
//! # Ok::<(), stockade::BuildError>(())
//! ```

mod api;
mod backend;
mod base;
mod call;
mod compile;
mod outcome;
mod process;
mod state;

#[cfg(test)]
#[cfg(not(shuttle))]
mod rooms;

#[cfg(feature = "counting")]
#[doc(hidden)]
pub mod counting;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

pub use api::builder::PoolBuilder;
pub use api::check::check_call;
pub use api::function::Function;
pub use api::gather::{AsDone, CollectError, TaskFilter, WaitTimeout, as_done, collect, wait};
pub use api::hooks::Hook;
pub use api::inspect::{inspect, inspect_with};
pub use api::locate::LocateError;
#[cfg(feature = "stream")]
pub use api::map::MapStream;
pub use api::map::{FedMap, Map, MapAll, PushError, Singles, SliceItem};
pub use api::pool::{JoinTimeout, Pool};
pub use api::recording::{RecordError, RecordedEnd, Recording, RecordingError};
pub use api::self_test::{TestError, TestPath};
pub use api::task::{TaskDuration, TaskHandle, TaskResult};
pub use call::arguments::{Arguments, Bytes, Json};
pub use call::buffer::{FreezeError, FrozenBuffer, SharedBuffer};
pub use call::cancelled::{CancelledTask, GivenArguments};
pub use call::command::{Command, CommandOutput};
pub use call::options::{TaskOptions, WhenFull};
pub use call::target::Target;
pub use compile::cache::{Cache, CacheCheck, CacheEntry};
pub use outcome::cache_error::{CacheError, Distrust};
pub use outcome::coredump::Coredump;
pub use outcome::error::{
    BrokenError, BuildError, CancelReason, Fault, Quarantine, RefusedReason, RunError, SliceError,
    SubmitError, TaskError, Undecodable,
};
pub use outcome::exit::{MemoryExcess, WorkerExit};
pub use outcome::lockdown_error::LockdownError;
pub use outcome::machine::{MachineError, MachineFault};
pub use outcome::output::Output;
pub use outcome::report::{Status, TaskReport};
pub use process::lockdown::{PoolLockdown, lockdown};
pub use process::program::WorkerProgram;
pub use state::cell::CallbackId;
#[cfg(feature = "metrics")]
pub use state::meters::{METRICS, Metric, MetricKind, describe_metrics};
pub use state::shared::{WorkerInfo, WorkerState};
pub use stockade_wire::{
    BACKTRACE_FRAMES_MAX, COMPILE_THREADS_MAX, COREDUMP_BYTES_MAX, COREDUMP_BYTES_MIN, Captured,
    Codec, CompileLimits, Coredumps, DirectoryGrant, Export, ExportType, Feature, Features, Frame,
    FunctionKind, Grants, GuestError, Import, Instances, Layer, LayerReport, Level, Limits,
    Lockdown, LockdownReport, LogLine, ManifestFunction, ModuleDescription, Parameter, Scalar,
    SourcePlace, TaskId, TrapKind, UnknownFeature, UnknownImports, ValueType, WorkerId,
};

/// Pages whose Rust has to compile.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../README.md")]
    struct Readme;

    #[doc = include_str!("../../../docs/guide.md")]
    struct Guide;

    #[doc = include_str!("../../../docs/recipes/images.md")]
    struct Images;

    #[doc = include_str!("../../../docs/recipes/formulas.md")]
    struct Formulas;

    #[doc = include_str!("../../../docs/recipes/grading.md")]
    struct Grading;

    #[doc = include_str!("../../../docs/recipes/plugins.md")]
    struct Plugins;
}
