//! Recordings: tasks with all that their runs depend on, for replays.
//!
//! ```text
//! Limits::deterministic ─► Pool::record(target, arguments) ─► Recording ─ ended ─► FILE
//!                                                                │
//!     same or not ◄─ compare ◄─ TaskHandle ◄─ submit ◄─ Pool ◄─ builder
//! ```
//!
//! Invariant: a recording from elsewhere can do no more than an untrusted module within a pool's
//! limits. It names the directories that the task was granted, and the user who replays it grants
//! them or not.
//!
//! Deliberately absent: the contents of granted directories.

mod ending;
mod file;

use std::fmt;
use std::io;
use std::path::PathBuf;

use stockade_wire::codec::{Decode, Encode};
use stockade_wire::{
    Codec, CommandCall, Grants, Instances, Limits, Scalar, SealedBytes, Stdin, UnknownImports,
};

use crate::api::builder::PoolBuilder;
use crate::api::hooks::Hook;
use crate::api::pool::Pool;
use crate::api::task::TaskHandle;
use crate::call::arguments::Arguments;
use crate::call::cancelled::GivenArguments;
use crate::call::command::Command;
use crate::call::payload::Payload;
use crate::call::target::{ModuleEntry, OWN_ENTRY, Target};
use crate::compile::compiler::Source;
use crate::outcome::error::{SubmitError, TaskError};
use crate::outcome::output::Output;

pub use ending::RecordedEnd;

/// One task with its module, arguments, limits, seed, and outcome.
///
/// It has the module and the arguments unencrypted: treat it as confidential as these.
///
/// ```no_run
/// use stockade::{Limits, Pool, Recording};
///
/// let limits = Limits::default().deterministic(7);
/// let pool = Pool::builder().module("tasks.wasm").limits(limits).build()?;
/// let task = pool.submit::<u64>("parse", ("1 +",))?;
/// if task.result().is_err() {
///     pool.record("parse", ("1 +",))?.ended(&task.output()).save("parse.stockade")?;
/// }
///
/// let recording = Recording::open("parse.stockade")?;
/// let pool = recording.builder().build()?;
/// let again = recording.submit(&pool)?.output();
/// assert!(recording.is_same(&again));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Encode, Decode)]
pub struct Recording {
    module: String,
    wasm: Vec<u8>,
    /// Whether the module may be in the text format.
    text: bool,
    function: String,
    given: Given,
    limits: Limits,
    grants: Grants,
    per_worker: bool,
    unknown_imports: UnknownImports,
    initializer: Option<(String, Given)>,
    end: Option<RecordedEnd>,
}

/// The arguments of a task or an initializer.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
enum Given {
    Encoded(Codec, Vec<u8>),
    Scalars(Vec<Scalar>),
    Command(CommandCall),
}

/// Why a task was not recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The pool uses the machine's clocks and random numbers.
    #[error("the pool is not deterministic; set a seed with `Limits::deterministic`")]
    NotDeterministic,
    /// Its arguments lend a buffer or a descriptor.
    #[error("a task with a lent buffer or descriptor cannot be recorded")]
    Lent,
    /// There is no such function, or the arguments do not fit.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The module's bytes could not be read back.
    #[error("cannot read the module again")]
    Module(#[source] io::Error),
}

/// Why a recording was not saved, or not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// The file could not be written or read.
    #[error("cannot {} the recording {}", if *writing { "write" } else { "read" }, path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Whether writing failed, and not reading.
        writing: bool,
        /// Why.
        source: io::Error,
    },
    /// It is not a recording, or has another version.
    #[error("it is not a recording: {0}")]
    Format(&'static str),
    /// It was truncated or changed after it was saved.
    #[error("the recording is damaged: {0}")]
    Damaged(&'static str),
    /// Module and arguments together are larger than a recording may be.
    #[error("the module and the arguments are too large for a recording")]
    TooLarge,
}

/// Recording tasks.
impl Pool {
    /// Records a task of `target` with these `arguments`, as this pool would run it. Submits
    /// nothing: submit the task separately.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn record(
        &self,
        target: impl Into<Target>,
        arguments: impl Arguments,
    ) -> Result<Recording, RecordError> {
        let target = target.into();
        let (module, function, payload) = self.core.recorded(&target, arguments)?;
        let given = match payload {
            Payload::Task { codec, input } => Given::Encoded(codec, input.into_vec()),
            Payload::Scalars(args) => Given::Scalars(args.into_vec()),
            Payload::Command(command) if command.descriptors.is_empty() => {
                Given::Command(command.call)
            }
            Payload::Command(_) | Payload::Buffer(_) | Payload::Column(_) => {
                return Err(RecordError::Lent);
            }
        };
        self.recording(module, function, given)
    }

    /// As [`record`](Self::record), of a run of the pool's command: its stdin are bytes, and its
    /// output is captured.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn record_command(&self, command: Command) -> Result<Recording, RecordError> {
        self.record(OWN_ENTRY, command)
    }

    fn recording(
        &self,
        module: &ModuleEntry,
        function: String,
        given: Given,
    ) -> Result<Recording, RecordError> {
        let blueprint = &self.core.blueprint;
        let setup = &blueprint.setup;
        let (Some(_), Some(source)) = (setup.limits.deterministic, &module.source) else {
            return Err(RecordError::NotDeterministic);
        };
        let of_module = |hook: &&Hook| hook.target.0 == module.name;
        let initializer = match blueprint.initializer.as_ref().filter(of_module) {
            None => None,
            Some(hook) => {
                let given = match &hook.arguments {
                    GivenArguments::Encoded { codec, bytes } => {
                        Given::Encoded(*codec, bytes.clone())
                    }
                    _ => Given::Scalars(Vec::new()),
                };
                Some((hook.target.1.clone(), given))
            }
        };
        Ok(Recording {
            module: module.name.clone(),
            wasm: bytes_of(source).map_err(RecordError::Module)?,
            text: source.text,
            function,
            given,
            limits: setup.limits.clone(),
            grants: setup.grants.clone(),
            per_worker: setup.instances == Instances::PerWorker,
            unknown_imports: setup.engine.unknown_imports,
            initializer,
            end: None,
        })
    }
}

fn bytes_of(source: &Source) -> io::Result<Vec<u8>> {
    let sealed = source.sealed().map_err(io::Error::other)?;
    Ok(SealedBytes::of(sealed)?.to_vec())
}

/// Contents.
impl Recording {
    /// Adds the task's outcome.
    #[must_use]
    pub fn ended(mut self, result: &Result<Output, TaskError>) -> Self {
        self.end = Some(RecordedEnd::of(result));
        self
    }

    /// The module's name.
    pub fn module(&self) -> &str {
        &self.module
    }

    /// The BLAKE3 hash of the module, in hexadecimal digits.
    pub fn module_digest(&self) -> String {
        blake3::hash(&self.wasm).to_hex().to_string()
    }

    /// The function that was called.
    pub fn function(&self) -> &str {
        &self.function
    }

    /// The task's limits, with the seed of its random numbers.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The task's grants. A replay grants none of the directories unless its builder does.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Its outcome, if it was added.
    pub fn end(&self) -> Option<&RecordedEnd> {
        self.end.as_ref()
    }

    /// Whether `result` equals the recorded outcome; false if there is none.
    pub fn is_same(&self, result: &Result<Output, TaskError>) -> bool {
        self.end.as_ref().is_some_and(|end| end.is_same(&RecordedEnd::of(result)))
    }
}

/// Replay.
impl Recording {
    /// A builder of a pool of one worker with the task's module, limits, initializer and variables.
    /// Directories are not granted.
    pub fn builder(&self) -> PoolBuilder {
        let variables = self.grants.variables().iter();
        let grants =
            variables.fold(Grants::none(), |grants, (name, value)| grants.env(name, value));
        let mut builder = Pool::single()
            .module_source(self.module.clone(), self.wasm.clone(), self.text)
            .limits(self.limits.clone())
            .unknown_imports(self.unknown_imports)
            .grants(grants);
        if self.per_worker {
            builder = builder.instances(Instances::PerWorker);
        }
        if let Some((function, given)) = &self.initializer {
            builder = builder.initializer(function.as_str(), given.arguments());
        }
        builder
    }

    /// Submits the task to `pool`, which must come from this recording's
    /// [`builder`](Self::builder).
    ///
    /// # Errors
    /// [`SubmitError`], also if the recorded arguments do not fit the module.
    pub fn submit(&self, pool: &Pool) -> Result<TaskHandle<serde::de::IgnoredAny>, SubmitError> {
        match &self.given {
            Given::Command(call) => {
                let command = replayed(call).entry(&self.function);
                Ok(pool.submit_command(command)?.of_any())
            }
            given => pool.submit(self.function.as_str(), given.arguments()),
        }
    }

    /// The arguments of a recorded command; `None` for a function.
    pub fn command_arguments(&self) -> Option<&[String]> {
        match &self.given {
            Given::Command(call) => Some(&call.args),
            _ => None,
        }
    }
}

/// The command of a recording, without descriptors, which a forged recording may name.
fn replayed(call: &CommandCall) -> Command {
    let mut names = call.args.iter().cloned();
    let command = Command::new(names.next().unwrap_or_default()).args(names);
    let command = call.env.iter().fold(command, |command, (name, value)| command.env(name, value));
    match &call.stdin {
        Stdin::Bytes(bytes) => command.stdin(bytes.clone()),
        Stdin::Descriptor => command,
        Stdin::Error(number) => command.stdin_error(*number),
    }
}

impl Given {
    fn arguments(&self) -> GivenArguments {
        match self {
            Self::Encoded(codec, bytes) => {
                GivenArguments::Encoded { codec: *codec, bytes: bytes.clone() }
            }
            Self::Scalars(args) => GivenArguments::Scalars(args.clone()),
            Self::Command(call) => GivenArguments::Command(call.args.clone()),
        }
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording")
            .field("module", &self.module)
            .field("function", &self.function)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
