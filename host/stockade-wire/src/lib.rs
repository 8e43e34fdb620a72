//! Host ⇄ worker: the messages, and how they travel.
//!
//! ```text
//!  host                                              worker
//!  HostMessage ──► HostPort ══ ring, or socket ══► WorkerPort ──► decoded, descriptors in order
//!  WorkerMessage ◄────┘ ════ ring, or socket ═══════════┘
//!  StatusPage ◄────────────── one shared page ──────────────► StatusPage
//!                                                    compiler
//!  CompileRequest ──Sender──► socket ──Receiver──► decoded
//!  CompileReply ◄─FrameReader── socket ◄──Sender── encoded
//! ```
//!
//! A body is one message in [`codec`]'s form. Short ones travel in a ring of shared memory; longer
//! ones, and those that bring descriptors, as a [`frame`] on the socket, and the longest from the
//! host as a sealed memory file with an empty frame, so that the host never waits for a worker to
//! read. A task's long input does not travel at all: it lies in memory that the worker maps, see
//! [`Placement`]. Descriptors only ever travel from the host: its end reads with plain `read`, which
//! makes the kernel drop whatever a worker attaches.
//!
//! Invariant: every length is checked against a named limit before anything is allocated for it.
//!
//! Deliberately absent: threads, clocks, and any opinion on what a message means.

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!(
    "Stockade's workers are contained by means that only Linux has, on x86-64 and aarch64: build it \
     for one of these"
);

pub mod codec;
pub mod descriptor;
pub mod frame;

mod bounds;
mod compile;
mod compile_limits;
mod coredump;
mod features;
mod grants;
mod ids;
mod indices;
mod limits;
mod lockdown;
mod log;
mod message;
mod outcome;
mod slot;
mod spin;
mod template;
mod visibility;
// These map real words, which a model checker's atomics are not.
#[cfg(not(all(loom, test)))]
mod mapping;
#[cfg(not(all(loom, test)))]
mod page;
#[cfg(not(all(loom, test)))]
mod payload;
#[cfg(not(all(loom, test)))]
mod port;
#[cfg(not(all(loom, test)))]
mod ring;

pub use bounds::{
    BACKTRACE_FRAMES_MAX, CUT_MARK, ERROR_TEXT_BYTES_MAX, EXPORTS_MAX, FILE_NAME_BYTES_MAX,
    FRAME_NAME_BYTES_MAX, FUNCTION_NAME_BYTES_MAX, FUNCTION_TEXT_BYTES_MAX, FUNCTIONS_MAX,
    IMPORTS_MAX, INLINED_MAX, MESSAGE_BYTES_MAX, NAME_BYTES_MAX, PARAMETERS_MAX, REFUSAL_BYTES_MAX,
    SCALARS_MAX, WARNINGS_MAX,
};
pub use compile::{
    CodePlace, CompileReply, CompileRequest, CompileStep, CompilerSetup, Export, ExportType,
    FunctionKind, Import, LOCATED_FRAMES_MAX, ManifestFunction, ModuleDescription, Parameter,
    Refusal, RefusalKind, SourcePlace, ValueType,
};
pub use compile_limits::{
    COMPILE_BYTES_MAX, COMPILE_MEMORY_BYTES_MIN, COMPILE_STACK_BYTES, COMPILE_THREADS_MAX,
    COMPILE_TIME_MAX, CompileLimits,
};
pub use coredump::{COREDUMP_BYTES_MAX, COREDUMP_BYTES_MIN, COREDUMP_PIECE_BYTES, Coredumps};
pub use features::{Feature, Features, UnknownFeature};
pub use grants::{DirectoryGrant, Grants};
pub use ids::{BATCH_TASKS_MAX, ChunkId, ModuleId, TaskId, TaskRange, WorkerId};
pub use indices::{RingError, Wake};
pub use limits::EMIT_OVERHEAD_BYTES;
pub use limits::{
    EngineSettings, Limits, MEMORY_BYTES_MAX, MODULES_LIVING_MAX, Metering, OUTPUT_BYTES_MAX,
    STDIO_BYTES_MAX, TABLE_ELEMENTS_MAX, UnknownImports,
};
pub use lockdown::{Confinement, Layer, LayerReport, Level, Lockdown, LockdownReport, Namespaces};
pub use log::{LOG_LINE_BYTES, Log, LogLine};
pub use message::{
    Call, Callee, CommandCall, HookCall, HostMessage, Instances, Invocation, Load, Placement,
    PlacementFile, Run, Setup, Stdin, StdioSink, WorkerMessage,
};
pub use outcome::{
    Captured, Codec, Failure, Finished, Frame, GuestError, Metrics, Outcome, Returned, Scalar,
    TrapKind, Written,
};
#[cfg(not(all(loom, test)))]
pub use {
    mapping::{MappingError, SealedBytes},
    page::{PageSlot, SLOTS_MAX, StatusPage},
    payload::{
        FreezeError, FrozenMemory, PAYLOAD_BYTES_MIN, PAYLOAD_FILES_MAX, PAYLOAD_KEPT_BYTES_MAX,
        PayloadFile, SharedMemory,
    },
    port::{BELL_INTERVAL, Bell, Heard, HostPort, WorkerPort},
    ring::{RING_BODY_BYTES_MAX, RING_BYTES, Reader, Record, Rings, Writer},
};

pub use spin::Spin;
pub use template::{TemplateReply, TemplateRequest};
pub use visibility::Visibility;

/// The descriptor on which a worker finds its socket.
pub const SOCKET_DESCRIPTOR: i32 = 3;

/// The one argument that makes a program a worker or a compiler; see [`Role`].
pub const ROLE_ARGUMENT: &str = "--stockade-role=";

/// The exit code of a worker that ended because the system gave it no memory: that of `ENOMEM`.
pub const OUT_OF_MEMORY_EXIT_CODE: i32 = 12;

/// What a worker program is started as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs guests.
    Worker,
    /// Is ready to run guests and never does: workers are cloned from it.
    Template,
    /// Validates and compiles one module, then exits.
    Compiler,
}

impl Role {
    /// The program's argument for this role.
    ///
    /// ```
    /// use stockade_wire::Role;
    /// assert_eq!(Role::from_argument(&Role::Worker.argument()), Some(Role::Worker));
    /// assert_eq!(Role::from_argument("--help"), None);
    /// ```
    pub fn argument(self) -> String {
        let name = match self {
            Self::Worker => "worker",
            Self::Template => "template",
            Self::Compiler => "compiler",
        };
        format!("{ROLE_ARGUMENT}{name}")
    }

    /// The role of a program's first argument, if it names one.
    pub fn from_argument(argument: &str) -> Option<Self> {
        match argument.strip_prefix(ROLE_ARGUMENT)? {
            "worker" => Some(Self::Worker),
            "template" => Some(Self::Template),
            "compiler" => Some(Self::Compiler),
            _ => None,
        }
    }
}
