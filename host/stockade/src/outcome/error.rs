//! Errors, one type for each question a caller asks: could the pool be built ([`BuildError`]), was
//! the task accepted ([`SubmitError`]), how did it end ([`TaskError`]), what broke the pool
//! ([`BrokenError`])?
//!
//! Callers match on variants; the texts are for people. Text from a guest or its module is escaped
//! in messages, and unchanged in fields.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stockade_wire::{Failure, Features, Frame, GuestError, TrapKind};

use crate::base::shown::{Line, Lines, debug_as_text};
use crate::outcome::cache_error::CacheError;
use crate::outcome::exit::WorkerExit;
use crate::outcome::lockdown_error::LockdownError;
use crate::outcome::machine::MachineError;

/// Why a pool could not be built.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The builder was given no module.
    #[error("the pool has no module; give the builder one with `.module(path)`")]
    NoModule,
    /// A setting of the builder is out of its range.
    #[error("{setting} is {given}; {allowed}")]
    Setting {
        /// The builder's method.
        setting: &'static str,
        /// The given value.
        given: String,
        /// The allowed range.
        allowed: String,
    },
    /// No worker program was found.
    #[error(
        "cannot find a worker program, `stockade-worker` or `stockade`; tried {}; install one with \
         `cargo install --path host/stockade-cli --locked`, set STOCKADE_WORKER to its path, or \
         make \
         this program its own worker: begin `main` with `stockade_worker::run_if_worker()` and \
         build \
         with `.worker_program(WorkerProgram::CurrentProgram)`",
        list(tried)
    )]
    NoWorkerProgram {
        /// The paths that were tried, in order.
        tried: Vec<PathBuf>,
    },
    /// A module's file could not be read.
    #[error("cannot read the module {}", path.display())]
    ReadModule {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A module was refused. It is the module's fault: with the same settings any machine would
    /// refuse it.
    #[error("module `{name}` is refused: {reason}")]
    Refused {
        /// The module's name or path.
        name: String,
        /// Why.
        reason: RefusedReason,
    },
    /// The cache cannot be used as it is.
    #[error("cannot use the cache")]
    Cache(#[source] CacheError),
    /// A granted directory does not exist.
    #[error("cannot grant the directory {}", path.display())]
    Grant {
        /// The directory on the host.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The initializer or the finalizer is not a function that can be one, or its arguments do not
    /// fit.
    #[error("the {role} cannot be used")]
    Hook {
        /// `initializer` or `finalizer`.
        role: &'static str,
        /// Why.
        source: SubmitError,
    },
    /// The required lockdown is not available, or cannot be determined.
    #[error(transparent)]
    Lockdown(#[from] LockdownError),
    /// The machine refused an operation, or ended a process; no module is at fault.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

impl BuildError {
    /// The next step, as a sentence without a final stop. `Debug` shows it after the error's text
    /// and causes, so a program whose `main` returns this error shows it too.
    pub fn next_step(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoModule | Self::Setting { .. } | Self::NoWorkerProgram { .. } => return None,
            Self::ReadModule { .. } => "name a .wasm or .wat file that this program can read",
            Self::Refused { reason, .. } => return reason.next_step(),
            Self::Cache(error) => return error.next_step(),
            Self::Grant { .. } => {
                "create the directory, or grant another that this program can read"
            }
            Self::Hook { role: "initializer", .. } => {
                "`PoolBuilder::initializer` names it and gives its arguments; `stockade inspect \
                 MODULE` \
                 shows its functions and their parameters"
            }
            Self::Hook { .. } => {
                "`stockade inspect MODULE` shows its functions and their parameters"
            }
            Self::Lockdown(error) => return error.next_step(),
            Self::Machine(error) => error.next_step(),
        })
    }
}

debug_as_text!(BuildError, BuildError::next_step);

fn list(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "no place".into();
    }
    let shown: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    shown.join(", ")
}

/// Why a module was refused: the module's own fault, given this pool's settings. Faults of the
/// machine, or of Stockade, are a [`MachineError`].
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RefusedReason {
    /// It is not a WebAssembly module.
    #[error("{}", Lines(.0))]
    NotWasm(String),
    /// It is truncated, corrupt or not valid.
    #[error("{}", Lines(.0))]
    Malformed(String),
    /// It uses a feature that no pool can turn on, is a component, or was built for another version
    /// of the guest ABI.
    #[error("{}", Lines(.0))]
    Feature(String),
    /// It uses features that are off in this pool: [`PoolBuilder::features`](crate::PoolBuilder::features)
    /// turns them on.
    #[error("{}", Lines(.message))]
    FeaturesOff {
        /// The features that it uses and that are off.
        features: Features,
        /// The message: what it uses, and where.
        message: String,
    },
    /// It imports functions that are not provided, or with another type.
    #[error("{}", Lines(.0))]
    Import(String),
    /// It exceeds a limit: the pool's, or the compiler's on size, time or memory.
    #[error("{}", Lines(.0))]
    Limit(String),
    /// A snapshot cannot hold the state that its initializer left.
    #[error("{}", Lines(.0))]
    Snapshot(String),
}

impl RefusedReason {
    /// The next step, as a sentence without a final stop.
    pub fn next_step(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotWasm(_) => "build it for wasm32-wasip1, as with `stockade build`",
            Self::Malformed(_) => "build it or copy it again",
            Self::Feature(_) => "build it without these features",
            Self::FeaturesOff { .. } => {
                "turn them on with `PoolBuilder::features`, if their risk is acceptable"
            }
            Self::Import(_) => {
                "build it for wasm32-wasip1 without these imports, or set \
                 `PoolBuilder::unknown_imports` if it never calls them"
            }
            Self::Limit(_) if self.limit().is_none() => {
                "make it smaller, or split its largest \
                 functions"
            }
            Self::Limit(_) => "allow more, with `Limits` or `CompileLimits`, if it is worth it",
            Self::Snapshot(_) => "use `Instances::PerWorker`, or do less in the initializer",
        })
    }

    /// The limit that the module reached, if it can be raised: `Limits::memory_bytes`,
    /// `CompileLimits::cpu_time`, and so on.
    pub fn limit(&self) -> Option<&str> {
        let Self::Limit(message) = self else { return None };
        // Written by the host or a compiler, without text of a guest.
        message.rsplit_once("(the limit `")?.1.split_once('`').map(|(limit, _)| limit)
    }
}

debug_as_text!(RefusedReason, RefusedReason::next_step);

/// Why a task was not accepted. Nothing was queued.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The pool is shut down, or about to be.
    #[error("the pool is shut down")]
    Closed,
    /// The pool is broken.
    #[error("the pool is broken")]
    Broken(#[source] Arc<BrokenError>),
    /// The module's tasks have killed one worker after another.
    #[error(transparent)]
    Quarantined(Arc<Quarantine>),
    /// The pool is full, and the submission may not wait, or not longer.
    #[error("the pool is full: {max_pending_tasks} tasks are pending")]
    Full {
        /// The maximum of pending tasks.
        max_pending_tasks: usize,
    },
    /// A limit of the task is looser than the pool's.
    #[error(
        "the task's limit `{limit}` is {given}, but may be {allowed}; a task's limits may only be \
         tighter than its pool's: start from `pool.limits().clone()`"
    )]
    Limits {
        /// The limit.
        limit: &'static str,
        /// What was asked.
        given: String,
        /// What may be asked.
        allowed: String,
    },
    /// The pool has no module of that name.
    #[error("the pool has no module `{name}`; it has {}", names(available))]
    UnknownModule {
        /// The name asked for.
        name: String,
        /// The modules there are.
        available: Vec<String>,
    },
    /// The pool has several modules, and the target names none.
    #[error("the pool has several modules ({}); name one: (module, function)", names(available))]
    ModuleNeeded {
        /// The modules there are.
        available: Vec<String>,
    },
    /// The module has no such function.
    #[error(
        "module `{module}` has no function `{function}`{}; it has {}",
        suggestion.as_ref().map(|name| format!(" (did you mean `{}`?)", Line(name))).unwrap_or_default(),
        names(available)
    )]
    UnknownFunction {
        /// The module.
        module: String,
        /// The function asked for.
        function: String,
        /// The nearest name.
        suggestion: Option<String>,
        /// The functions there are.
        available: Vec<String>,
    },
    /// The arguments do not fit the function's signature.
    #[error(
        "`{}` cannot be called with these arguments: {}; its signature is {}",
        Line(function),
        Line(problem),
        Line(signature)
    )]
    Signature {
        /// The function.
        function: String,
        /// What does not fit.
        problem: String,
        /// Its signature in words.
        signature: String,
    },
    /// The arguments cannot be encoded.
    #[error("the arguments of `{}` cannot be encoded: {}", Line(function), Line(reason))]
    Encode {
        /// The function.
        function: String,
        /// Why not.
        reason: String,
    },
}

impl SubmitError {
    /// The next step, as a sentence without a final stop; `None` if the text says it.
    pub fn next_step(&self) -> Option<&'static str> {
        Some(match self {
            Self::Closed => "submit before the shutdown, or build another pool",
            Self::Broken(cause) => return cause.next_step(),
            Self::Quarantined(_) => QUARANTINED,
            Self::Full { .. } => "take results first, or wait for room: `WhenFull`",
            Self::UnknownModule { .. } | Self::UnknownFunction { .. } | Self::Signature { .. } => {
                "`stockade inspect MODULE` shows its functions and their parameters"
            }
            Self::Limits { .. } | Self::ModuleNeeded { .. } | Self::Encode { .. } => return None,
        })
    }
}

const QUARANTINED: &str = "look at how the workers died before you raise `quarantine_after`";

debug_as_text!(SubmitError, SubmitError::next_step);

fn names(names: &[String]) -> String {
    const SHOWN_MAX: usize = 20;
    if names.is_empty() {
        return "none".into();
    }
    let mut shown: Vec<_> = names.iter().take(SHOWN_MAX).map(|name| quoted(name)).collect();
    if names.len() > SHOWN_MAX {
        shown.push(format!("{} more", names.len() - SHOWN_MAX));
    }
    shown.join(", ")
}

/// A name, which may be empty.
fn quoted(name: &str) -> String {
    if name.is_empty() { "`\"\"`".into() } else { format!("`{}`", Line(name)) }
}

/// Why a task gave no result.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The task returned an error.
    #[error("the task failed: {}", Line(&.0.message))]
    Guest(GuestError),
    /// The task panicked.
    #[error(
        "the task panicked: {}{}",
        Line(&error.message),
        error.location.as_ref().map(|at| format!(" (at {})", Line(at))).unwrap_or_default()
    )]
    Panic {
        /// Message and location.
        error: GuestError,
        /// Functions of the guest, innermost first.
        backtrace: Vec<Frame>,
    },
    /// The task could not decode its arguments.
    #[error("the task refused its arguments: {}", Line(&.0.message))]
    BadArguments(GuestError),
    /// The guest trapped.
    #[error("the guest trapped: {kind}")]
    Trap {
        /// Which trap.
        kind: TrapKind,
        /// The engine's words for it.
        message: String,
        /// Functions of the guest, innermost first.
        backtrace: Vec<Frame>,
    },
    /// The deadline passed.
    #[error("the task did not end within its wall time of {limit:?}")]
    Deadline {
        /// Its wall time.
        limit: Duration,
        /// Functions of the guest, innermost first; known only with `Limits::interruptible`.
        backtrace: Vec<Frame>,
    },
    /// The fuel ran out.
    #[error("the task used up its fuel of {limit}")]
    Fuel {
        /// The limit.
        limit: u64,
    },
    /// The guest gave up after the memory limit had refused it a growth.
    #[error("the task needs {wanted} bytes of memory, but only {limit} are allowed")]
    Memory {
        /// The limit in bytes.
        limit: u64,
        /// What it asked to have, in bytes.
        wanted: u64,
    },
    /// The result or the emitted items exceed their limit.
    #[error("the task's output exceeds {limit} bytes")]
    Output {
        /// The limit in bytes.
        limit: u64,
    },
    /// A task that is not a command called `exit`.
    #[error("the task exited with code {0} instead of returning")]
    Exited(i32),
    /// The guest broke the rules of the ABI.
    #[error("the guest broke the ABI: {}", Line(.0))]
    Abi(String),
    /// Its worker died while the task ran.
    #[error("the task's worker was lost: {0}")]
    WorkerLost(WorkerExit),
    /// It was cancelled.
    #[error("the task was cancelled{0}")]
    Cancelled(CancelReason),
    /// The pool broke before the task started.
    #[error("the task was cancelled because the pool is broken")]
    Broken(#[source] Arc<BrokenError>),
    /// Its module was quarantined before the task started.
    #[error("the task was cancelled: {0}")]
    Quarantined(Arc<Quarantine>),
    /// The result does not have the caller's type: it is malformed, or of another type.
    #[error("the task's result cannot be decoded: {}", Line(.0))]
    Decode(Undecodable),
}

/// Why a result does not have the caller's type. It dereferences to its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecodable {
    reason: String,
    fault: Fault,
}

impl Undecodable {
    /// The result has the type of the manifest, but not the caller's.
    pub(crate) fn of_another_type(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), fault: Fault::Caller }
    }

    /// The caller's fault if the result is well-formed and has the type of the module's manifest,
    /// if there is one; else the guest's.
    pub fn fault(&self) -> Fault {
        self.fault
    }
}

/// For a malformed result, which is the guest's fault.
impl<R: Into<String>> From<R> for Undecodable {
    fn from(reason: R) -> Self {
        Self { reason: reason.into(), fault: Fault::Guest }
    }
}

impl std::ops::Deref for Undecodable {
    type Target = str;

    fn deref(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The guest's code, also for a malformed result.
    Guest,
    /// A limit that the guest reached.
    Limit,
    /// The caller's: wrong arguments, a wrong result type, a cancel.
    Caller,
    /// The worker process died.
    Worker,
    /// The pool's: it broke, or was shut down.
    Pool,
}

impl TaskError {
    /// Whose fault it was.
    ///
    /// ```
    /// use stockade::{Fault, TaskError};
    /// assert_eq!(TaskError::Fuel { limit: 10 }.fault(), Fault::Limit);
    /// ```
    pub fn fault(&self) -> Fault {
        match self {
            Self::Guest(_) | Self::Panic { .. } | Self::Trap { .. } => Fault::Guest,
            Self::Exited(_) | Self::Abi(_) => Fault::Guest,
            Self::Deadline { .. } | Self::Fuel { .. } => Fault::Limit,
            Self::Memory { .. } | Self::Output { .. } => Fault::Limit,
            Self::BadArguments(_) => Fault::Caller,
            Self::Decode(why) => why.fault(),
            Self::Cancelled(CancelReason::Asked | CancelReason::WhileRunning) => Fault::Caller,
            Self::WorkerLost(_) => Fault::Worker,
            Self::Quarantined(_) => Fault::Guest,
            Self::Cancelled(CancelReason::Shutdown) | Self::Broken(_) => Fault::Pool,
        }
    }

    /// The next step, as a sentence without a final stop; `None` if the text says it.
    pub fn next_step(&self) -> Option<&'static str> {
        Some(match self {
            Self::Deadline { .. } => "allow more with `Limits::wall_time`, or give it less to do",
            Self::Fuel { .. } => "allow more with `Limits::fuel`, or give it less to do",
            Self::Memory { .. } => "allow more with `Limits::memory_bytes`, if it is worth it",
            Self::Output { .. } => "allow more with `Limits::output_bytes`, or return less",
            Self::Exited(_) => "run a program as a command: its exit code is then its result",
            Self::BadArguments(_) | Self::Decode(_) => {
                "`stockade inspect MODULE` shows its functions and their types"
            }
            Self::WorkerLost(_) => "`TaskOptions::retries` runs it again",
            Self::Broken(cause) => return cause.next_step(),
            Self::Quarantined(_) => QUARANTINED,
            Self::Guest(_) | Self::Panic { .. } | Self::Trap { .. } | Self::Abi(_) => return None,
            Self::Cancelled(_) => return None,
        })
    }

    /// Functions of the guest where it ended, innermost first, if known.
    /// [`Pool::locate`](crate::Pool::locate) finds their source lines.
    pub fn backtrace(&self) -> &[Frame] {
        match self {
            Self::Panic { backtrace, .. }
            | Self::Trap { backtrace, .. }
            | Self::Deadline { backtrace, .. } => backtrace,
            _ => &[],
        }
    }

    pub(crate) fn from_failure(failure: Failure, wall_time: Option<Duration>) -> Self {
        match failure {
            Failure::Error(error) => Self::Guest(*error),
            Failure::Panic(error, backtrace) => Self::Panic { error: *error, backtrace },
            Failure::BadArguments(error) => Self::BadArguments(*error),
            Failure::Trap { kind, message, backtrace } => Self::Trap { kind, message, backtrace },
            Failure::Deadline { backtrace } => {
                Self::Deadline { limit: wall_time.unwrap_or_default(), backtrace }
            }
            Failure::Fuel { limit } => Self::Fuel { limit },
            Failure::Memory { limit, wanted } => Self::Memory { limit, wanted },
            Failure::Output { limit } => Self::Output { limit },
            Failure::Exited(code) => Self::Exited(code),
            Failure::Guest(message) => Self::Abi(message),
        }
    }
}

debug_as_text!(TaskError, TaskError::next_step);

/// Why a task was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CancelReason {
    /// Its handle asked before it started.
    Asked,
    /// Its handle asked to end it while it ran.
    WhileRunning,
    /// The pool was shut down before it started, or was killed.
    Shutdown,
}

impl fmt::Display for CancelReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "",
            Self::WhileRunning => " while it ran",
            Self::Shutdown => " by the pool's shutdown",
        })
    }
}

/// Why a module's tasks are no longer run: they killed one worker after another.
///
/// The pool's other modules go on. See [`PoolBuilder::quarantine_after`](crate::PoolBuilder::quarantine_after).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "module `{module}` is under quarantine: {deaths} workers in a row died of its tasks; {last}"
)]
#[non_exhaustive]
pub struct Quarantine {
    /// The module.
    pub module: String,
    /// Workers that died in a row.
    pub deaths: u32,
    /// How the last of them ended.
    pub last: WorkerExit,
}

/// What broke a pool for good.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BrokenError {
    /// The initializer failed.
    #[error("the initializer failed")]
    Initializer(#[source] TaskError),
    /// The finalizer failed.
    #[error("the finalizer failed")]
    Finalizer(#[source] TaskError),
    /// The initialised module could not be made, and it is the module's fault.
    #[error("the initialised module cannot be made: {0}")]
    Preparation(RefusedReason),
    /// Workers die before they are ready, again and again. This is how the last of them ended.
    #[error("no worker can start: {}", .0.fault)]
    WorkersCannotStart(MachineError),
    /// The module could not be initialised because the machine is at fault.
    #[error(transparent)]
    Machine(MachineError),
}

impl BrokenError {
    /// The next step, as a sentence without a final stop; `None` if the text says it.
    pub fn next_step(&self) -> Option<&'static str> {
        match self {
            Self::Initializer(error) | Self::Finalizer(error) => error.next_step(),
            Self::Preparation(reason) => reason.next_step(),
            Self::WorkersCannotStart(error) | Self::Machine(error) => Some(error.next_step()),
        }
    }
}

debug_as_text!(BrokenError, BrokenError::next_step);

/// Why [`Pool::run`](crate::Pool::run) or an item of a map gave no result.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The task was not accepted.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The task was accepted and ended without a result.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// A setting of a map is 0.
    #[error("the map's {0} is 0; it must be at least 1")]
    MapSetting(&'static str),
    /// A map's timeout passed before its next result.
    #[error("the map timed out after {0:?}")]
    MapTimeout(Duration),
}

impl RunError {
    /// The next step, as a sentence without a final stop; `None` if the text says it.
    pub fn next_step(&self) -> Option<&'static str> {
        match self {
            Self::Submit(error) => error.next_step(),
            Self::Task(error) => error.next_step(),
            Self::MapSetting(_) => None,
            Self::MapTimeout(_) => Some("give the map more time"),
        }
    }
}

debug_as_text!(RunError, RunError::next_step);

/// Why [`Function::map_slice`](crate::Function::map_slice) gave no results.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SliceError {
    /// The slice, or the rest of it, was not accepted.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The call of an item failed. Those before it had results.
    #[error("item {index} failed")]
    Item {
        /// Its index in the slice.
        index: usize,
        /// How it ended.
        #[source]
        error: TaskError,
    },
    /// A piece ended without results, and the item is not known: its worker was lost, it was
    /// cancelled, or its instance could not be made.
    #[error("items {} to {} ended without results", .items.start, .items.end.saturating_sub(1))]
    Piece {
        /// Their indices in the slice.
        items: Range<usize>,
        /// How they ended.
        #[source]
        error: TaskError,
    },
}

impl SliceError {
    /// The next step, as a sentence without a final stop; `None` if the text says it.
    pub fn next_step(&self) -> Option<&'static str> {
        match self {
            Self::Submit(error) => error.next_step(),
            Self::Item { error, .. } | Self::Piece { error, .. } => error.next_step(),
        }
    }
}

debug_as_text!(SliceError, SliceError::next_step);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::machine::MachineFault;

    #[test]
    fn debug_is_the_text_with_its_causes_and_the_next_step() {
        let source = io::Error::from(io::ErrorKind::NotFound);
        let missing = BuildError::ReadModule { path: "tasks.wasm".into(), source };
        assert_eq!(
            format!("{missing:?}"),
            "cannot read the module tasks.wasm: entity not found\n\
             help: name a .wasm or .wat file that this program can read"
        );
        let fault = MachineFault::Exhausted("memory".into());
        let machine = MachineError { task: "start a worker".into(), fault };
        let broken = Arc::new(BrokenError::WorkersCannotStart(machine.clone()));
        for error in [
            format!("{:?}", RunError::from(TaskError::Broken(broken.clone()))),
            format!("{:?}", RunError::from(SubmitError::Broken(broken))),
        ] {
            assert!(error.contains("has no more memory\nhelp: give the machine"), "{error}");
        }
        assert!(format!("{:?}", BuildError::from(machine)).contains("\nhelp: "));
    }

    #[test]
    fn a_program_without_a_worker_program_reads_where_to_get_one_and_how_to_do_without() {
        let missing = BuildError::NoWorkerProgram { tried: vec!["/bin/stockade".into()] };
        let shown = format!("{missing:?}");
        for named in ["/bin/stockade", "cargo install", "STOCKADE_WORKER", "run_if_worker()"] {
            assert!(shown.contains(named), "{shown}");
        }
    }
}
