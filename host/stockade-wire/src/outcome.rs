//! Outcomes of tasks, as workers report them.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use crate::bounds::{
    self, BACKTRACE_FRAMES_MAX, ERROR_TEXT_BYTES_MAX, FRAME_NAME_BYTES_MAX, SCALARS_MAX,
    impl_bounded_decode,
};
use crate::codec::{
    self, Decode, DecodeError, Decoder, Encode, EncodeError, Encoder, Reader, Writer,
    impl_borrow_decode,
};
use crate::{Log, TaskId};

/// The encoding of arguments and result; the numbers of the guest ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Codec {
    /// Bytes as they are.
    Raw,
    /// bincode 2.0.1, little-endian with fixed-width integers, through serde.
    Bincode,
    /// UTF-8 JSON.
    Json,
}

/// A value of a scalar function. Floats are their bits, so that NaN payloads survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Scalar {
    /// A 32-bit integer, signed or not.
    I32(i32),
    /// A 64-bit integer, signed or not.
    I64(i64),
    /// The bits of a 32-bit float.
    F32(u32),
    /// The bits of a 64-bit float.
    F64(u64),
}

/// A worker's report of one task.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// The task.
    pub task: TaskId,
    /// How it ended.
    pub outcome: Outcome,
    /// What it used.
    pub metrics: Metrics,
    /// What it wrote and logged; `None` is nothing.
    pub written: Option<Box<Written>>,
}

/// What a task wrote and logged. Few do, so it is kept apart.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct Written {
    /// To stdout, where that was captured.
    pub stdout: Captured,
    /// To stderr, where that was captured.
    pub stderr: Captured,
    /// Its log.
    pub log: Log,
    /// Log lines beyond the limit, dropped.
    pub log_dropped: u64,
}

impl Written {
    /// Apart, if there is any of it.
    pub fn if_any(self) -> Option<Box<Self>> {
        let is_empty = |stream: &Captured| stream.bytes.is_empty() && stream.dropped == 0;
        let is_silent = self.log.is_empty() && self.log_dropped == 0;
        let is_any = !(is_empty(&self.stdout) && is_empty(&self.stderr) && is_silent);
        is_any.then(|| Box::new(self))
    }
}

impl Finished {
    /// Of a task that used nothing and wrote nothing.
    pub fn new(task: TaskId, outcome: Outcome) -> Self {
        Self { task, outcome, metrics: Metrics::default(), written: None }
    }
}

/// The numbers that every task has stand in front, each in as many bytes as it takes: most messages of a
/// worker are this one, and so many bytes are read faster at once than number by number.
///
/// ```text
/// task │ wall time │ processor time │ peak of memory: u64 each │ marks: u8 │ fuel │ outcome │ written
/// ```
///
/// Times are nanoseconds, of which a number holds half a millennium. Fuel and what the task wrote are there
/// where a mark says so.
impl Encode for Finished {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let Metrics { wall_time, cpu_time, fuel, memory_peak_bytes } = self.metrics;
        let mut head = [0; HEAD_BYTES];
        let numbers = [self.task.0, nanos(wall_time), nanos(cpu_time), memory_peak_bytes];
        for (bytes, number) in head.chunks_exact_mut(8).zip(numbers) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
        head[HEAD_BYTES - 1] = if fuel.is_some() { FUEL } else { 0 }
            | if self.written.is_some() { WRITTEN } else { 0 };
        encoder.writer().write(&head)?;
        if let Some(fuel) = fuel {
            fuel.encode(encoder)?;
        }
        self.outcome.encode(encoder)?;
        match &self.written {
            Some(written) => written.encode(encoder),
            None => Ok(()),
        }
    }
}

impl<Context> Decode<Context> for Finished {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let mut head = [0; HEAD_BYTES];
        decoder.claim_bytes_read(HEAD_BYTES)?;
        decoder.reader().read(&mut head)?;
        let mut numbers = [0; 4];
        for (number, bytes) in numbers.iter_mut().zip(head.chunks_exact(8)) {
            *number = bytes.try_into().map_or(0, u64::from_le_bytes);
        }
        let [task, wall_nanos, cpu_nanos, memory_peak_bytes] = numbers;
        let marks = head[HEAD_BYTES - 1];
        if marks & !(FUEL | WRITTEN) != 0 {
            return Err(DecodeError::Other("no such mark of a report"));
        }
        let fuel = if marks & FUEL != 0 { Some(Decode::decode(decoder)?) } else { None };
        Ok(Self {
            task: TaskId(task),
            outcome: Decode::decode(decoder)?,
            metrics: Metrics {
                wall_time: Duration::from_nanos(wall_nanos),
                cpu_time: Duration::from_nanos(cpu_nanos),
                fuel,
                memory_peak_bytes,
            },
            written: if marks & WRITTEN != 0 { Some(Decode::decode(decoder)?) } else { None },
        })
    }
}

/// A report of the commonest kind, read where it lies: a task returned, its fuel was not counted, and it wrote
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// The task.
    pub task: TaskId,
    /// From its start in the worker to its end, in nanoseconds.
    pub wall_nanos: u64,
    /// Processor time of the worker's thread for it, in nanoseconds, accurate to 0.1 ms.
    pub cpu_nanos: u64,
    /// The largest linear memory it had, in bytes, all memories together.
    pub memory_peak_bytes: u64,
    /// Where its output lies in the message.
    output: Range<usize>,
}

impl Returned {
    /// Reads a message of a worker; `None` where it is of another kind or not in order, which
    /// [`decode`](codec::decode) then says. Reads nothing that `decode` would read otherwise.
    pub fn read(message: &[u8]) -> Option<Self> {
        let (numbers, rest) = message.strip_prefix(&[FINISHED])?.split_first_chunk()?;
        // No marks.
        let (short, output) = rest.strip_prefix(&[0, RETURNED])?.split_first()?;
        let (bytes, output) = match *short {
            bytes @ ..=ONE_BYTE_MAX => (usize::from(bytes), output),
            TWO_BYTES => {
                let (bytes, output) = output.split_first_chunk()?;
                (usize::from(u16::from_le_bytes(*bytes)), output)
            }
            _ => return None,
        };
        let numbers: &[u8; HEAD_BYTES - 1] = numbers;
        let [task, wall_nanos, cpu_nanos, memory_peak_bytes] =
            numbers.as_chunks().0.first_chunk()?.map(u64::from_le_bytes);
        (output.len() == bytes).then(|| Self {
            task: TaskId(task),
            wall_nanos,
            cpu_nanos,
            memory_peak_bytes,
            output: message.len() - bytes..message.len(),
        })
    }

    /// The output, in the message that it was read from.
    pub fn output_in<'m>(&self, message: &'m [u8]) -> &'m [u8] {
        message.get(self.output.clone()).unwrap_or_default()
    }

    /// What the task used.
    pub fn metrics(&self) -> Metrics {
        Metrics {
            wall_time: Duration::from_nanos(self.wall_nanos),
            cpu_time: Duration::from_nanos(self.cpu_nanos),
            fuel: None,
            memory_peak_bytes: self.memory_peak_bytes,
        }
    }

    /// The same as any report, with a copy of its output.
    pub fn to_finished(&self, output: &[u8]) -> Finished {
        let finished = Finished::new(self.task, Outcome::Returned(output.to_vec()));
        Finished { metrics: self.metrics(), ..finished }
    }
}

/// The number of [`WorkerMessage::Finished`](crate::WorkerMessage::Finished), and of
/// [`Outcome::Returned`].
const FINISHED: u8 = 5;
const RETURNED: u8 = 0;

/// The codec's numbers: up to the first in a byte of their own, and behind the second in two.
const ONE_BYTE_MAX: u8 = 250;
const TWO_BYTES: u8 = 251;

/// Four numbers and the marks.
const HEAD_BYTES: usize = 4 * 8 + 1;

/// A mark: the task's fuel was counted.
const FUEL: u8 = 1;

/// A mark: the task has written or logged something.
const WRITTEN: u8 = 2;

impl_borrow_decode!(Finished);

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Encode)]
pub enum Outcome {
    /// A task returned: its result in the codec of the call. Of a column: the results end to end,
    /// little-endian.
    Returned(Vec<u8>),
    /// A task returned: its result is this many bytes at the start of the file of its
    /// [`Placement`](crate::Placement); for a lent buffer, all of it.
    InFile(u64),
    /// A scalar function returned.
    Scalars(Vec<Scalar>),
    /// A command ended with this exit code.
    Exited(i32),
    /// It failed.
    Failed(Failure),
    /// It was revoked on the status page before it started. This also answers the tasks behind it
    /// in its batch, which were revoked with it.
    Recalled,
    /// The call of one item of a column failed. None behind it was called.
    ItemFailed {
        /// Its place in the column, from 0.
        index: u32,
        /// What ended it.
        failure: Failure,
    },
}

/// The variants are numbered in their order.
impl<Context> Decode<Context> for Outcome {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(match u32::decode(decoder)? {
            0 => Self::Returned(codec::bytes(decoder)?),
            1 => Self::InFile(Decode::decode(decoder)?),
            2 => Self::Scalars(bounds::list::<SCALARS_MAX, _, _>(decoder)?),
            3 => Self::Exited(Decode::decode(decoder)?),
            4 => Self::Failed(Decode::decode(decoder)?),
            5 => Self::Recalled,
            6 => Self::ItemFailed {
                index: Decode::decode(decoder)?,
                failure: Decode::decode(decoder)?,
            },
            _ => return Err(DecodeError::Other("no such outcome")),
        })
    }
}

impl_borrow_decode!(Outcome);

/// What ended a task that did not succeed. Its worker goes on.
#[derive(Clone, Debug, PartialEq, Encode)]
pub enum Failure {
    /// The task returned an error.
    Error(Box<GuestError>),
    /// The task panicked.
    Panic(Box<GuestError>, Vec<Frame>),
    /// The task could not decode its arguments.
    BadArguments(Box<GuestError>),
    /// The guest trapped.
    Trap {
        /// Which trap.
        kind: TrapKind,
        /// The engine's words for it.
        message: String,
        /// Functions that were running, innermost first; bounded.
        backtrace: Vec<Frame>,
    },
    /// The deadline passed in an interruptible guest.
    Deadline {
        /// Functions that were running, innermost first; bounded.
        backtrace: Vec<Frame>,
    },
    /// The fuel ran out.
    Fuel {
        /// The limit.
        limit: u64,
    },
    /// The guest trapped, or exited with an error, after the memory limit had refused it a growth.
    Memory {
        /// The limit in bytes.
        limit: u64,
        /// What it asked to have, in bytes.
        wanted: u64,
    },
    /// The result or the emitted items exceed their limit.
    Output {
        /// The limit in bytes.
        limit: u64,
    },
    /// A task that is not a command called `proc_exit`.
    Exited(i32),
    /// The guest broke the ABI, or could not be instantiated.
    Guest(String),
}

/// The variants are numbered in their order.
impl<Context> Decode<Context> for Failure {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(match u32::decode(decoder)? {
            0 => Self::Error(Decode::decode(decoder)?),
            1 => Self::Panic(Decode::decode(decoder)?, backtrace(decoder)?),
            2 => Self::BadArguments(Decode::decode(decoder)?),
            3 => Self::Trap {
                kind: Decode::decode(decoder)?,
                message: bounds::message(decoder)?,
                backtrace: backtrace(decoder)?,
            },
            4 => Self::Deadline { backtrace: backtrace(decoder)? },
            5 => Self::Fuel { limit: Decode::decode(decoder)? },
            6 => Self::Memory { limit: Decode::decode(decoder)?, wanted: Decode::decode(decoder)? },
            7 => Self::Output { limit: Decode::decode(decoder)? },
            8 => Self::Exited(Decode::decode(decoder)?),
            9 => Self::Guest(bounds::message(decoder)?),
            _ => return Err(DecodeError::Other("no such failure")),
        })
    }
}

impl_borrow_decode!(Failure);

fn backtrace<D: Decoder>(decoder: &mut D) -> Result<Vec<Frame>, DecodeError> {
    bounds::list::<BACKTRACE_FRAMES_MAX, _, _>(decoder)
}

/// A function of the guest that was running when it ended. The module gives its name.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Frame {
    /// Its name, demangled and bounded; `<function N>` if the module does not name it.
    pub function: String,
    /// Its number in the module, imported functions first.
    pub index: u32,
    /// The offset in its body in the module, in bytes. Known only if the module has debug
    /// information.
    pub offset: Option<u32>,
}

impl_bounded_decode!(Frame {
    function: bounds::text::<{ bounds::cut(FRAME_NAME_BYTES_MAX) }>,
    index: Decode::decode,
    offset: Decode::decode,
});

/// The function's name.
impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.function)
    }
}

/// A guest's own error. Its text is shown, never trusted. At most 64 KiB in all.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct GuestError {
    /// What went wrong, for people.
    pub message: String,
    /// `file:line:column` of a panic.
    pub location: Option<String>,
    /// The error's serialised form as JSON text.
    pub data: Option<String>,
}

impl<Context> Decode<Context> for GuestError {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let error = Self {
            message: bounds::text::<ERROR_TEXT_BYTES_MAX>(decoder)?,
            location: bounds::optional_text::<ERROR_TEXT_BYTES_MAX>(decoder)?,
            data: bounds::optional_text::<ERROR_TEXT_BYTES_MAX>(decoder)?,
        };
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let bytes = error.message.len() + optional(&error.location) + optional(&error.data);
        if bytes > ERROR_TEXT_BYTES_MAX {
            return Err(DecodeError::Other("an error text is too long"));
        }
        Ok(error)
    }
}

impl_borrow_decode!(GuestError);

/// Kinds of traps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[non_exhaustive]
pub enum TrapKind {
    /// An `unreachable` instruction: an abort in most languages.
    Unreachable,
    /// The stack is exhausted.
    StackOverflow,
    /// A load or store outside memory, or a host call with a pointer outside it.
    MemoryOutOfBounds,
    /// A table access outside the table.
    TableOutOfBounds,
    /// A call through an empty table entry.
    NullCall,
    /// A call through a table entry of another type.
    WrongCallType,
    /// Division by zero.
    DivisionByZero,
    /// Integer overflow in a division.
    IntegerOverflow,
    /// A float that no integer can hold.
    BadConversion,
    /// A call of an import that is not provided, see [`UnknownImports`](crate::UnknownImports).
    NotProvided,
    /// Any other.
    Other,
    /// An exception that nothing caught.
    UncaughtException,
    /// A null reference was used: called, or looked into.
    NullReference,
}

impl fmt::Display for TrapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "unreachable code reached",
            Self::StackOverflow => "stack overflow",
            Self::MemoryOutOfBounds => "memory access out of bounds",
            Self::TableOutOfBounds => "table access out of bounds",
            Self::NullCall => "call of a null function",
            Self::WrongCallType => "call of a function of another type",
            Self::DivisionByZero => "division by zero",
            Self::IntegerOverflow => "integer overflow",
            Self::BadConversion => "float that no integer can hold",
            Self::NotProvided => "call of an import that is not provided",
            Self::Other => "trap",
            Self::UncaughtException => "uncaught exception",
            Self::NullReference => "use of a null reference",
        })
    }
}

/// What a task used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// From its start in the worker to its end.
    pub wall_time: Duration,
    /// Processor time of the worker's thread for it, accurate to 0.1 ms.
    pub cpu_time: Duration,
    /// Fuel used, if it is counted.
    pub fuel: Option<u64>,
    /// The largest linear memory it had, in bytes, all memories together.
    pub memory_peak_bytes: u64,
}

/// A captured stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Captured {
    /// The first bytes that were written, up to the limit.
    pub bytes: Vec<u8>,
    /// Bytes beyond the limit, dropped.
    pub dropped: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{WorkerMessage, codec};

    fn finished() -> Finished {
        Finished {
            task: TaskId(7),
            outcome: Outcome::Returned(vec![1, 2]),
            metrics: Metrics {
                wall_time: Duration::new(3, 999_999_999),
                cpu_time: Duration::from_nanos(1),
                fuel: Some(5),
                memory_peak_bytes: 1 << 33,
            },
            written: None,
        }
    }

    /// Whatever is read where it lies is what the codec reads, and the codec reads whatever is not.
    #[test]
    fn a_report_that_is_read_where_it_lies_says_the_same() {
        let read_alike = |message: &[u8]| {
            let whole = codec::decode::<WorkerMessage>(message);
            let lying = Returned::read(message);
            if let Some(returned) = &lying {
                let output = returned.output_in(message);
                let finished = WorkerMessage::Finished(returned.to_finished(output));
                assert_eq!(whole.ok(), Some(finished));
            }
            lying.is_some()
        };
        let encoded = |finished: Finished| {
            let mut message = Vec::new();
            codec::encode(&WorkerMessage::Finished(finished), &mut message).unwrap();
            message
        };
        for bytes in [0, 1, 250, 251, 252, 255, 256, 65_535, 65_536] {
            let report = Finished { outcome: Outcome::Returned(vec![3; bytes]), ..finished() };
            let metrics = Metrics { fuel: None, ..report.metrics };
            let message = encoded(Finished { metrics, ..report.clone() });
            assert_eq!(read_alike(&message), bytes < 65_536, "{bytes} bytes");
            assert!(!read_alike(&encoded(report)), "its fuel was counted");
            // Cut anywhere, or too long, or with another byte anywhere in its head.
            for end in (0..message.len()).take(64) {
                assert!(!read_alike(&message[..end]));
            }
            assert!(!read_alike(&[&message[..], &[0]].concat()));
            for at in 0..message.len().min(HEAD_BYTES + 6) {
                for other in 0..=u8::MAX {
                    let mut forged = message.clone();
                    forged[at] = other;
                    let _ = read_alike(&forged);
                }
            }
        }
        let exited = Finished { outcome: Outcome::Exited(0), ..finished() };
        let metrics = Metrics { fuel: None, ..exited.metrics };
        assert!(!read_alike(&encoded(Finished { metrics, ..exited })));
    }

    #[test]
    fn a_report_comes_back_whatever_of_it_there_is() {
        let mut log = Log::default();
        log.push(1, "line");
        let captured = |bytes: &[u8], dropped| Captured { bytes: bytes.to_vec(), dropped };
        const SILENT_BYTES: usize = HEAD_BYTES + 5;
        let none = Written::default;
        for (written, is_silent) in [
            (none(), true),
            (Written { stdout: captured(b"out", 0), ..none() }, false),
            (Written { stdout: captured(b"", 1), ..none() }, false),
            (Written { stderr: captured(b"", 1), ..none() }, false),
            (Written { log, ..none() }, false),
            (Written { log_dropped: 9, ..none() }, false),
        ] {
            let report = Finished { written: written.if_any(), ..finished() };
            let mut bytes = Vec::new();
            codec::encode(&report, &mut bytes).unwrap();
            assert_eq!(bytes.len() == SILENT_BYTES, is_silent, "{} bytes", bytes.len());
            assert_eq!(codec::decode::<Finished>(&bytes).unwrap(), report);
        }
    }

    #[test]
    fn a_time_too_long_to_write_is_the_longest_there_is() {
        let metrics = Metrics { wall_time: Duration::MAX, ..Metrics::default() };
        let mut bytes = Vec::new();
        codec::encode(&Finished { metrics, ..finished() }, &mut bytes).unwrap();
        let read: Finished = codec::decode(&bytes).unwrap();
        assert_eq!(read.metrics.wall_time, Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn every_mark_is_known() {
        let mut bytes = Vec::new();
        codec::encode(&finished(), &mut bytes).unwrap();
        for bit in 2..8 {
            let mut marked = bytes.clone();
            marked[HEAD_BYTES - 1] |= 1 << bit;
            assert!(codec::decode::<Finished>(&marked).is_err());
        }
        for end in 0..bytes.len() {
            assert!(codec::decode::<Finished>(&bytes[..end]).is_err());
        }
    }
}
