//! The guest ABI, version 1: the interface between the worker and a guest.
//!
//! Owns the names of the host calls, the numbers that cross the boundary, and the records of the
//! manifest. There is no code here: a guest in another language needs only this page.
//!
//! A **task** is an export of type `() -> i32`. It asks for its input with [`import::INPUT_LEN`],
//! [`import::INPUT_CODEC`] and [`import::INPUT_READ`], or, where it is long, with
//! [`import::INPUT_MAP`], appends its result with [`import::OUTPUT_WRITE`], and returns a [`Status`].
//! The guest calls the host: the host never calls an allocator inside the guest.
//!
//! Deliberately absent: memory layout and allocation, which are up to the guest.
#![no_std]

extern crate alloc;

mod manifest;

pub use manifest::{ErrorRecord, FunctionKind, FunctionRecord, MANIFEST_SECTION, ParameterRecord};

/// The version of this ABI, written into every manifest record.
pub const ABI_VERSION: u32 = 1;

/// The exported linear memory that every pointer of a host call refers to.
pub const MEMORY_EXPORT: &str = "memory";

/// The prefix of the SDK's export names, so that a task called `read` or `main` cannot collide with
/// a symbol of the guest's C library.
pub const EXPORT_PREFIX: &str = "stockade.task.";

/// Names of the host calls.
///
/// Pointers and lengths are `i32`, read as unsigned; a range outside the guest's memory is a trap.
pub mod import {
    /// The module that a guest imports the host calls from.
    pub const MODULE: &str = "stockade";
    /// `() -> i32`: length of the input in bytes.
    pub const INPUT_LEN: &str = "input_len";
    /// `() -> i32`: a [`Codec`](super::Codec) number.
    pub const INPUT_CODEC: &str = "input_codec";
    /// `(ptr, offset, len)`: copies `len` bytes of the input, from `offset`, to `ptr`.
    pub const INPUT_READ: &str = "input_read";
    /// `(ptr, len) -> i32`: maps the input at `ptr` without a copy; see
    /// [`MAP_ALIGNMENT`](super::MAP_ALIGNMENT). Returns 1 if it did, 0 if nothing has changed; then
    /// use [`INPUT_READ`] as usual.
    pub const INPUT_MAP: &str = "input_map";
    /// `(ptr, len)`: appends to the result.
    pub const OUTPUT_WRITE: &str = "output_write";
    /// `(ptr, len)`: appends to the error's text, at most
    /// [`ERROR_BYTES_MAX`](super::ERROR_BYTES_MAX) in all; the rest is dropped.
    pub const ERROR_WRITE: &str = "error_write";
    /// `(done: i64, total: i64)`: reports the task's progress; a `total` of 0 means unknown.
    pub const PROGRESS: &str = "progress";
    /// `(ptr, len)`: sends one item of a streamed result to the caller.
    pub const EMIT: &str = "emit";
    /// `(level, ptr, len)`: adds a line of UTF-8 to the task's log, at a
    /// [`LogLevel`](super::LogLevel).
    pub const LOG: &str = "log";
    /// `() -> i64`: nanoseconds until the deadline, or `i64::MAX` without a deadline.
    pub const REMAINING_NS: &str = "remaining_ns";
    /// `() -> i64`: the task's number in its pool, from 1.
    pub const TASK_ID: &str = "task_id";
}

/// What the `ptr` and the `len` of [`import::INPUT_MAP`] are multiples of: a page of WebAssembly.
///
/// It is optional for guests, and a worker may always refuse it. It succeeds at most once a task,
/// for long inputs in memory of their own, if `len` is the input's length rounded up and all of
/// `ptr..ptr + len` is memory that the guest has grown since its start. The old content is lost,
/// and the bytes after the input are undefined. After the task all of it is zero.
///
/// An [`import::OUTPUT_WRITE`] of exactly the mapped input copies nothing if it is the only one:
/// the result is its content when the task returns, so later changes by the task count. A caller
/// who lent the memory sees the task's changes in any case.
pub const MAP_ALIGNMENT: usize = 64 * 1024;

/// From this length of an input on [`import::INPUT_MAP`] is faster than a copy.
pub const MAP_BYTES_MIN: usize = 256 * 1024;

/// The most bytes of one task's error text that the worker keeps.
pub const ERROR_BYTES_MAX: usize = 64 * 1024;

/// The encoding of a task's input, and of its result.
///
/// | codec | input | result |
/// |---|---|---|
/// | `Raw` | the bytes of the only argument | the bytes of a byte or text result, else its JSON |
/// | `Bincode` | the arguments as one tuple, bincode 2 with fixed-width integers | bincode |
/// | `Json` | `{"args": […], "kwargs": {…}}`, both optional | JSON |
///
/// The bincode encoding, for a guest without a library for it:
///
/// | value | encoding |
/// |---|---|
/// | integer, float | its 1 to 16 bytes, little-endian; `usize` and `isize` as 64 bits |
/// | `bool`; `char` | one byte, 0 or 1; its UTF-8, 1 to 4 bytes |
/// | text, bytes | the length in bytes as a `u64`, then the bytes |
/// | list, map | the length as a `u64`, then the elements, or each key with its value |
/// | tuple, array, struct | the parts, with nothing around them |
/// | `Option` | one byte: 0, or 1 and the value |
/// | enum | the variant's index as a `u32`, then its parts |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Codec {
    /// Bytes as they are.
    Raw = 0,
    /// bincode 2.0.1, little-endian with fixed-width integers (its `legacy` configuration), through
    /// serde.
    Bincode = 1,
    /// UTF-8 JSON.
    Json = 2,
}

impl Codec {
    /// The codec of a number that crossed the boundary, if it is one.
    pub const fn from_number(number: i32) -> Option<Self> {
        match number {
            0 => Some(Self::Raw),
            1 => Some(Self::Bincode),
            2 => Some(Self::Json),
            _ => None,
        }
    }
}

/// What a task returns. Any other number is read as [`Status::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// The result was written.
    Success = 0,
    /// The task failed; [`import::ERROR_WRITE`] got the reason, as plain text or as an
    /// [`ErrorRecord`].
    Error = 1,
    /// The input could not be decoded as this task's arguments; the error says which.
    BadArguments = 2,
}

impl Status {
    /// Reads the number that a task returned.
    pub const fn from_number(number: i32) -> Self {
        match number {
            0 => Self::Success,
            2 => Self::BadArguments,
            _ => Self::Error,
        }
    }
}

/// The level of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum LogLevel {
    /// Something failed.
    Error = 1,
    /// Something looks wrong.
    Warn = 2,
    /// Something worth knowing happened.
    Info = 3,
    /// For debugging the guest.
    Debug = 4,
    /// For debugging the guest step by step.
    Trace = 5,
}

impl LogLevel {
    /// The level of a number that crossed the boundary; a number out of range becomes the nearest
    /// level.
    pub const fn from_number(number: i32) -> Self {
        match number {
            i32::MIN..=1 => Self::Error,
            2 => Self::Warn,
            3 => Self::Info,
            4 => Self::Debug,
            5.. => Self::Trace,
        }
    }
}
