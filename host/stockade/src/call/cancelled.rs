//! Tasks that the pool cancelled, kept so that their owner can submit them elsewhere.

use stockade_wire::{Codec, Scalar, TaskId, ValueType};

use crate::call::arguments::Arguments;
use crate::call::arguments::sealed::{Problem, Sealed};
use crate::call::payload::Payload;
use crate::call::target::{Callable, CallableKind};

/// A task that the pool itself cancelled: by its shutdown, because it broke, or because the task's
/// module was put under quarantine. See [`Pool::cancelled_tasks`](crate::Pool::cancelled_tasks).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CancelledTask {
    /// Its number in the pool.
    pub id: TaskId,
    /// The target, as the caller named it.
    pub target: String,
    /// Its label.
    pub label: Option<String>,
    /// Its arguments.
    pub arguments: GivenArguments,
}

/// The arguments of a task, as they were encoded when it was submitted.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum GivenArguments {
    /// Of a task.
    Encoded {
        /// Their encoding.
        codec: Codec,
        /// The encoded bytes.
        bytes: Vec<u8>,
    },
    /// Of a task that was lent a [`SharedBuffer`](crate::SharedBuffer), which its handle returns.
    Buffer {
        /// Its length.
        bytes: u64,
    },
    /// Of a function over numbers.
    Scalars(Vec<Scalar>),
    /// Of a command: its arguments, the program's name first.
    Command(Vec<String>),
    /// Of a piece of [`Function::map_slice`](crate::Function::map_slice): its items. The error of
    /// `map_slice` has their indices.
    Column(Vec<Scalar>),
}

/// Submits the task again as it was encoded. This is not possible for lent buffers, and commands
/// need a [`Command`](crate::Command).
impl Arguments for GivenArguments {}

impl Sealed for GivenArguments {
    fn invoke(self, callable: &Callable) -> Result<Payload, Problem> {
        match (self, &callable.kind) {
            (Self::Encoded { codec, bytes }, CallableKind::Task { .. }) => {
                Ok(Payload::Task { codec, input: bytes.into() })
            }
            (Self::Scalars(args), CallableKind::Scalar { params, .. })
                if args.iter().map(type_of).eq(params.iter().copied()) =>
            {
                Ok(Payload::Scalars(args.into()))
            }
            (Self::Buffer { .. }, _) => {
                Err(Problem::Signature("the buffer that it was lent is not kept".into()))
            }
            (Self::Command(_), _) => {
                Err(Problem::Signature("a command takes a `Command`: use `submit_command`".into()))
            }
            (Self::Column(_), _) => {
                Err(Problem::Signature("a piece of a slice has many calls: use `map_slice`".into()))
            }
            (Self::Encoded { .. } | Self::Scalars(_), _) => Err(Problem::Signature(
                "the arguments were given to a function of another kind".into(),
            )),
        }
    }
}

fn type_of(scalar: &Scalar) -> ValueType {
    match scalar {
        Scalar::I32(_) => ValueType::I32,
        Scalar::I64(_) => ValueType::I64,
        Scalar::F32(_) => ValueType::F32,
        Scalar::F64(_) => ValueType::F64,
    }
}

impl GivenArguments {
    pub(crate) fn of(payload: &Payload) -> Self {
        match payload {
            Payload::Task { codec, input } => {
                Self::Encoded { codec: *codec, bytes: input.to_vec() }
            }
            Payload::Buffer(buffer) => Self::Buffer { bytes: buffer.bytes() as u64 },
            Payload::Scalars(args) => Self::Scalars(args.to_vec()),
            Payload::Command(command) => Self::Command(command.call.args.clone()),
            Payload::Column(column) => Self::Column(column.scalars()),
        }
    }
}
