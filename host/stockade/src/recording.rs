//! Recordings: tasks with all that their runs depend on, to be run again.
//!
//! ```text
//! Limits::deterministic ─► Pool::record(target, arguments) ─► Recording ─ ended ─► FILE
//!                                                                │
//!     same or not ◄─ compare ◄─ TaskHandle ◄─ submit ◄─ Pool ◄─ builder
//! ```
//!
//! Invariant: a recording that comes from elsewhere can do what a stranger's module can, within
//! limits that a pool allows anyway, and no more: the directories that the task was granted stand in
//! it, and whoever replays it grants them, or not.
//!
//! Deliberately absent: what a granted directory held.

mod ending;
mod file;

use std::fmt;
use std::io;
use std::path::PathBuf;

use stockade_wire::codec::{Decode, Encode};
use stockade_wire::{
    Codec, CommandCall, Grants, Instances, Limits, Scalar, SealedBytes, Stdin, UnknownImports,
};

use crate::arguments::Arguments;
use crate::cancelled::GivenArguments;
use crate::compile::Source;
use crate::payload::Payload;
use crate::target::{ModuleEntry, OWN_ENTRY, Target};
use crate::task::Output;
use crate::{Command, Hook, Pool, PoolBuilder, SubmitError, TaskError, TaskHandle};

pub use ending::RecordedEnd;

/// One task, with the module, the arguments and the limits, among them the seed, that it ran with, and
/// how it ended.
///
/// It holds the module and the arguments as they are: whoever gets it can read them.
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

/// What a task or an initializer was called with.
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
    /// There is no such task, or it cannot be called so.
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
        /// Whether it was to be written.
        writing: bool,
        /// Why.
        source: io::Error,
    },
    /// It is not a recording, or has another version.
    #[error("it is not a recording: {0}")]
    Format(&'static str),
    /// It was cut off or changed since it was saved.
    #[error("the recording is damaged: {0}")]
    Damaged(&'static str),
    /// Module and arguments together are larger than a recording may be.
    #[error("the module and the arguments are too large for a recording")]
    TooLarge,
}

/// Recording tasks.
impl Pool {
    /// What it takes to run a task of `target` with these `arguments` again, as this pool runs it.
    /// Submits nothing; the task is one that was submitted beside.
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

/// What is in it.
impl Recording {
    /// Notes how the task ended.
    #[must_use]
    pub fn ended(mut self, result: &Result<Output, TaskError>) -> Self {
        self.end = Some(RecordedEnd::of(result));
        self
    }

    /// The module's name.
    pub fn module(&self) -> &str {
        &self.module
    }

    /// The BLAKE3 hash of the module, in hexadecimal digits: tells it from every other.
    pub fn module_digest(&self) -> String {
        blake3::hash(&self.wasm).to_hex().to_string()
    }

    /// The function that was called.
    pub fn function(&self) -> &str {
        &self.function
    }

    /// What the task might use, and the seed of its chance.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What the task might reach. A replay grants none of the directories unless its builder is told
    /// to.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// How it ended, where that was noted.
    pub fn end(&self) -> Option<&RecordedEnd> {
        self.end.as_ref()
    }

    /// Whether `result` is how the recorded task ended; false where that was not noted.
    pub fn is_same(&self, result: &Result<Output, TaskError>) -> bool {
        self.end.as_ref().is_some_and(|end| end.is_same(&RecordedEnd::of(result)))
    }
}

/// Running it again.
impl Recording {
    /// A builder for a pool of one worker that runs the task as it ran: with its module, limits,
    /// initializer and variables. Directories are not granted.
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

    /// Submits the task to `pool`, which a [`builder`](Self::builder) of this recording made.
    ///
    /// # Errors
    /// [`SubmitError`], also where the recording is not what its module can be called with.
    pub fn submit(&self, pool: &Pool) -> Result<TaskHandle<serde::de::IgnoredAny>, SubmitError> {
        match &self.given {
            Given::Command(call) => {
                let command = replayed(call).entry(&self.function);
                Ok(pool.submit_command(command)?.of_any())
            }
            given => pool.submit(self.function.as_str(), given.arguments()),
        }
    }

    /// What the recorded command was called with; `None` of a function.
    pub fn command_arguments(&self) -> Option<&[String]> {
        match &self.given {
            Given::Command(call) => Some(&call.args),
            _ => None,
        }
    }
}

/// The command of a recording: without descriptors, which a recording that somebody made up may name.
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
