//! Messages between the host and a worker.
//!
//! ```text
//! host                                  worker
//!   │── Setup + status page ──────────────►│  sets itself up, locks itself down
//!   │◄──────────────────────────── Ready ──│
//!   │── Load + artefact … ────────────────►│  all modules; then per-worker initializers
//!   │◄──────────────── Loaded | InitializerFailed | LoadFailed, for each
//!   │── Run … Run … ──────────────────────►│  a batch each, in order; see the status page
//!   │◄─ Emitted*, Dumped*, Finished, … ────│  one Finished for every task, in the same order; for the
//!   │                                      │  revoked rest of a batch, one for all of it
//!   │── Close ────────────────────────────►│  finalizers
//!   │◄──────── Closed | FinalizerFailed ───│  then end of file
//! ```

use crate::bounds;
use crate::codec::{Decode, DecodeError, Decoder, Encode, impl_borrow_decode};
use crate::{
    ChunkId, Codec, Confinement, Coredumps, EngineSettings, Failure, Finished, Grants, Limits,
    LockdownReport, ModuleId, Scalar, TaskId, TaskRange, WorkerId,
};

/// A message of the host to a worker.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum HostMessage {
    /// The first message, with the descriptors of the status page and of the rings, if there are
    /// any; later messages are sent through the rings.
    Setup(Setup),
    /// A module to run, with the descriptor of its sealed artefact.
    Load(Load),
    /// A batch, with the descriptors that its stdio needs.
    Run(Run),
    /// Run this function once in a fresh instance of the module, then write the instance's state to
    /// the memory file in the descriptor: the middle step of a snapshot.
    Initialize {
        /// A module that was compiled from instrumented code.
        module: ModuleId,
        /// The initializer.
        call: HookCall,
        /// The most bytes of state to write.
        state_bytes_max: u64,
    },
    /// Finish all sent tasks, run finalizers, send `Closed`, exit.
    Close,
}

/// What a worker must know before it locks itself down.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Setup {
    /// Its number.
    pub worker: WorkerId,
    /// Its name in logs and process lists.
    pub name: String,
    /// The engine that artefacts were compiled for.
    pub engine: EngineSettings,
    /// Limits of initializers and finalizers, and of tasks without limits of their own.
    pub limits: Limits,
    /// What guests may access.
    pub grants: Grants,
    /// Whether instances outlive tasks.
    pub instances: Instances,
    /// The lockdown to apply.
    pub confinement: Confinement,
    /// The number of modules that follow. After the last no more code can be mapped.
    pub modules: u32,
    /// The number of all their memories: address space for each is reserved first.
    pub memories: u32,
    /// Whether there are rings.
    pub rings: bool,
    /// The core dumps of its tasks, if any; its modules are compiled for these.
    pub coredumps: Option<Coredumps>,
}

/// Private memory of a worker except for instances and data of tasks: modules, the engine, the
/// allocator.
const DATA_BYTES_BASE: u64 = 512 << 20;

/// Bytes of an element of a table: a reference is one pointer.
const TABLE_ELEMENT_BYTES: u64 = 8;

impl Setup {
    /// The maximum private memory of a worker with this setup, in bytes, which the host checks too:
    /// for every instance that can be alive or is kept warm, one for each module and one that ends,
    /// and for data of tasks.
    pub fn data_bytes_max(&self) -> u64 {
        let Limits { memory_bytes, output_bytes, .. } = self.limits;
        let instances = u64::from(self.modules).saturating_add(1);
        let table_bytes = self.engine.table_elements.saturating_mul(TABLE_ELEMENT_BYTES);
        memory_bytes
            .saturating_add(table_bytes)
            .saturating_mul(instances)
            .saturating_add(output_bytes.saturating_mul(4))
            .saturating_add(DATA_BYTES_BASE)
    }
}

/// How long an instance lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Instances {
    /// A fresh one for every task, or for consecutive tasks that ask to share one: no other task
    /// sees its state.
    #[default]
    PerTask,
    /// One for as long as its worker lives, with its state; replaced after a trap.
    PerWorker,
}

/// A module for a worker.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Load {
    /// Its number.
    pub module: ModuleId,
    /// Its name in messages and backtraces.
    pub name: String,
    /// Exports that tasks will call, each by its index here: [`Callee::Number`].
    pub functions: Vec<String>,
    /// Runs in the instance before its first task; only with [`Instances::PerWorker`], since
    /// otherwise a snapshot has its effect.
    pub initializer: Option<HookCall>,
    /// Runs once when the worker closes.
    pub finalizer: Option<HookCall>,
    /// Whether `_initialize` has already run in the snapshot, and must not run again.
    pub initialized: bool,
}

/// A batch for a worker: tasks of one function with the same limits, which run one after the other, each
/// in an instance of its own unless they share one.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Run {
    /// Their numbers: at most [`BATCH_TASKS_MAX`](crate::BATCH_TASKS_MAX).
    pub tasks: TaskRange,
    /// Where their code is.
    pub module: ModuleId,
    /// What to call. For several tasks it has the inputs or arguments of all, one after another; a
    /// command is a single task.
    pub invocation: Invocation,
    /// For several calls: the length of each input, in bytes. Empty for a single task, and for
    /// functions over scalars, which all have the same number of arguments.
    pub lengths: Vec<u32>,
    /// Limits of each task, if they are tighter than those of the setup: the worker enforces them
    /// in any instance. They are never looser, and need no check that is not compiled in. If a
    /// living instance is already larger than these limits, it stays as large, and cannot grow
    /// while the task runs.
    pub limits: Option<Box<Limits>>,
    /// Its slot on the status page; less than [`SLOTS_MAX`](crate::SLOTS_MAX).
    pub slot: u8,
    /// With [`Instances::PerTask`]: consecutive tasks of one module with the same chunk here run in
    /// one instance, which ends with the last of them or with a trap. Commands never do.
    pub share: Option<ChunkId>,
    /// The place of the input of a call or a column of a single task, if it is not in the
    /// invocation.
    pub placement: Option<Placement>,
}

/// The place of an input in a payload file: memory of fixed length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Placement {
    /// Its length, from the beginning of the file.
    pub bytes: u64,
    /// Which file.
    pub place: PlacementFile,
}

/// The file of a [`Placement`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum PlacementFile {
    /// A file of the worker, which only this worker and its host ever have, and which is reused for
    /// later inputs.
    Kept {
        /// Its number, less than [`PAYLOAD_FILES_MAX`](crate::PAYLOAD_FILES_MAX).
        file: u8,
        /// Whether it is new; then its descriptor comes with the message.
        is_new: bool,
    },
    /// A caller's buffer, which is returned. Its descriptor comes with the message.
    Lent,
}

impl Placement {
    /// Whether a descriptor comes with the message.
    pub fn brings_descriptor(self) -> bool {
        matches!(self.place, PlacementFile::Kept { is_new: true, .. } | PlacementFile::Lent)
    }
}

/// Which function of a module to call.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Callee {
    /// The function with this index in [`Load::functions`]: for tasks, since there are many.
    Number(u32),
    /// The export of this name: for hooks.
    Named(String),
}

impl From<&str> for Callee {
    fn from(name: &str) -> Self {
        Self::Named(name.into())
    }
}

/// A call: a function of a module, and its arguments.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Invocation {
    /// An export of type `() -> i32` that reads its input through host calls.
    Task(Call),
    /// An export over scalars.
    Scalar {
        /// Which.
        export: Callee,
        /// The arguments, of its parameters' types.
        args: Vec<Scalar>,
    },
    /// A program: an export of type `() -> ()` or `() -> i32`, in an instance of its own.
    Command {
        /// Its entry, which runs after the module's `_initialize`, if it has one.
        entry: Callee,
        /// Its arguments, variables and streams.
        call: CommandCall,
    },
    /// An export of one parameter and one result over scalars, called once for every value of a column,
    /// one after the other in one instance. It is answered as a task is, with a column of the results,
    /// or with [`Outcome::ItemFailed`](crate::Outcome::ItemFailed).
    Column {
        /// Which.
        export: Callee,
        /// The values end to end: little-endian, each as long as the parameter's type.
        input: Vec<u8>,
    },
}

/// A call of a task.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Call {
    /// Which export.
    pub export: Callee,
    /// The encoding of the input and of the result.
    pub codec: Codec,
    /// The arguments.
    pub input: Vec<u8>,
}

/// A call of an initializer or a finalizer: a task, or a function without parameters and results.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum HookCall {
    /// An export of type `() -> i32`, as for a task.
    Task(Call),
    /// An export of type `() -> ()`.
    Plain {
        /// The export's name.
        export: String,
    },
}

/// A run of a command.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct CommandCall {
    /// The arguments, the program's name first.
    pub args: Vec<String>,
    /// Environment variables in addition to the granted ones.
    pub env: Vec<(String, String)>,
    /// Where stdin comes from.
    pub stdin: Stdin,
    /// Where stdout goes.
    pub stdout: StdioSink,
    /// Where stderr goes.
    pub stderr: StdioSink,
}

/// Where a command's stdin comes from.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Stdin {
    /// These bytes, then end of file.
    Bytes(Vec<u8>),
    /// The next descriptor with the message.
    Descriptor,
    /// Nothing: each read fails with this `errno`.
    Error(i32),
}

/// Where a command's stdout or stderr goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum StdioSink {
    /// Kept up to the limit and sent with `Finished`.
    Captured,
    /// The next descriptor with the message, after stdin's.
    Descriptor,
}

/// A message of a worker to its host. Hostile until checked.
#[derive(Clone, Debug, PartialEq, Encode)]
pub enum WorkerMessage {
    /// The worker is set up and locked down, as the report says.
    Ready(LockdownReport),
    /// The worker could not set itself up.
    SetupFailed(String),
    /// A module is ready to run.
    Loaded(ModuleId),
    /// A module could not be loaded.
    LoadFailed(ModuleId, String),
    /// A task's item, in the codec of its call.
    Emitted(TaskId, Vec<u8>),
    /// A task ended.
    Finished(Finished),
    /// A snapshot's state was written: so many bytes.
    Initialized {
        /// Bytes in the memory file.
        state_bytes: u64,
    },
    /// An initializer failed; the worker exits.
    InitializerFailed(Failure),
    /// A finalizer failed; the worker exits.
    FinalizerFailed(Failure),
    /// Everything is finished and finalized; the worker exits.
    Closed,
    /// A piece of the core dump of the task that is finished next, which has trapped; all pieces of
    /// one follow each other.
    Dumped {
        /// The task.
        task: TaskId,
        /// [`COREDUMP_PIECE_BYTES`](crate::COREDUMP_PIECE_BYTES), or less in the last.
        piece: Vec<u8>,
        /// How many bytes of the memory's end are left out.
        left_out: u64,
    },
}

/// The variants are numbered in their order.
impl<Context> Decode<Context> for WorkerMessage {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(match u32::decode(decoder)? {
            0 => Self::Ready(Decode::decode(decoder)?),
            1 => Self::SetupFailed(bounds::message(decoder)?),
            2 => Self::Loaded(Decode::decode(decoder)?),
            3 => Self::LoadFailed(Decode::decode(decoder)?, bounds::message(decoder)?),
            4 => Self::Emitted(Decode::decode(decoder)?, Decode::decode(decoder)?),
            5 => Self::Finished(Decode::decode(decoder)?),
            6 => Self::Initialized { state_bytes: Decode::decode(decoder)? },
            7 => Self::InitializerFailed(Decode::decode(decoder)?),
            8 => Self::FinalizerFailed(Decode::decode(decoder)?),
            9 => Self::Closed,
            10 => Self::Dumped {
                task: Decode::decode(decoder)?,
                piece: Decode::decode(decoder)?,
                left_out: Decode::decode(decoder)?,
            },
            _ => return Err(DecodeError::Other("no such message")),
        })
    }
}

impl_borrow_decode!(WorkerMessage);
