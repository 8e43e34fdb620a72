//! Host calls of a running task, as safe functions.
//!
//! Owns the forms that Rust code wants; the calls themselves are in `imports` (wasm) and
//! `stand_in` (any other target, so that a guest can be tested as an ordinary library). Outside a
//! call — in a unit test that calls a task as a plain function — the stand-in drops all data and
//! has no deadline.

#[cfg(target_arch = "wasm32")]
mod imports;
#[cfg(target_arch = "wasm32")]
pub(crate) mod region;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod stand_in;

#[cfg(target_arch = "wasm32")]
use imports as calls;
#[cfg(not(target_arch = "wasm32"))]
use stand_in as calls;

use crate::failure::Failure;
use crate::output;
use serde::Serialize;
use std::fmt;
use std::time::Duration;
use stockade_abi::{Codec, LogLevel};

/// Reports the task's progress to the caller: `done` of `total`, in any unit.
///
/// A `total` of 0 means unknown. Each call leaves the guest: call it for every row of an image, not
/// for every pixel.
pub fn progress(done: u64, total: u64) {
    calls::progress(clamped(done), clamped(total));
}

/// Adds a line to the task's log. The macros [`info!`](crate::info) and its siblings format one.
pub fn log(level: LogLevel, message: &str) {
    calls::log(level as i32, message.as_bytes());
}

/// How long the task may still run, or `None` without a deadline.
///
/// For work that can stop early with a partial result. A task that runs past its deadline is
/// killed.
pub fn remaining() -> Option<Duration> {
    match calls::remaining_ns() {
        i64::MAX => None,
        nanoseconds => Some(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))),
    }
}

/// The task's number in its pool, from 1; 0 outside a call.
pub fn task_id() -> u64 {
    u64::try_from(calls::task_id()).unwrap_or(0)
}

/// Sends one item of a streamed result to the caller, before the task ends.
///
/// It has the encoding of the call's result. A caller who does not read the stream never sees it.
///
/// ```
/// use stockade_guest::{EmitError, emit, task};
///
/// /// Emits each line of `text` that contains `word`, and returns how many did.
/// #[task]
/// fn find(text: String, word: String) -> Result<u64, EmitError> {
///     let mut found = 0;
///     for line in text.lines().filter(|line| line.contains(&word)) {
///         emit(line)?;
///         found += 1;
///     }
///     Ok(found)
/// }
/// # assert_eq!(find("a b\nb c\nc d".into(), "b".into()).unwrap(), 2);
/// ```
///
/// # Errors
/// If the item's `Serialize` fails, or its form does not exist in the call's codec, such as a map
/// with keys that JSON cannot write.
pub fn emit<T: Serialize + ?Sized>(item: &T) -> Result<(), EmitError> {
    let encoded = output::encode(item).map_err(EmitError)?;
    calls::emit(&encoded);
    Ok(())
}

/// Sends one item of [`Bytes`](crate::Bytes) to the caller, without an extra copy.
///
/// A raw caller gets the bytes, a bincode caller a `Vec<u8>`, a JSON caller a string in base64.
///
/// # Errors
/// None today; the signature leaves room for a codec that limits its items.
pub fn emit_bytes(item: &[u8]) -> Result<(), EmitError> {
    match codec() {
        Some(Codec::Raw) => {
            calls::emit(item);
            Ok(())
        }
        _ => emit(&output::AsBytes(item)),
    }
}

/// Why an item could not be emitted.
pub struct EmitError(Failure);

impl fmt::Debug for EmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EmitError({:?})", self.0.message())
    }
}

impl fmt::Display for EmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the item cannot be emitted: {}", self.0.message())
    }
}

impl std::error::Error for EmitError {}

/// The codec of this call, if this SDK knows it.
pub(crate) fn codec() -> Option<Codec> {
    Codec::from_number(calls::input_codec())
}

/// The length of this call's input.
pub(crate) fn input_len() -> usize {
    // Unsigned by the ABI: an input of 2 GiB or more is too large for this guest's memory.
    calls::input_len() as u32 as usize
}

/// The input of this call.
pub(crate) fn input() -> Vec<u8> {
    let mut input = vec![0; input_len()];
    calls::input_read(&mut input, 0);
    input
}

/// Appends to the result.
pub(crate) fn output_write(bytes: &[u8]) {
    calls::output_write(bytes);
}

/// Appends to the error.
pub(crate) fn error_write(bytes: &[u8]) {
    calls::error_write(bytes);
}

fn clamped(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Adds a line to the task's log at [`LogLevel::Error`]; takes what `format!` takes.
#[macro_export]
macro_rules! error {
    ($($message:tt)+) => { $crate::log($crate::LogLevel::Error, &::std::format!($($message)+)) };
}

/// Adds a line to the task's log at [`LogLevel::Warn`]; takes what `format!` takes.
#[macro_export]
macro_rules! warn {
    ($($message:tt)+) => { $crate::log($crate::LogLevel::Warn, &::std::format!($($message)+)) };
}

/// Adds a line to the task's log at [`LogLevel::Info`]; takes what `format!` takes.
///
/// ```
/// stockade_guest::info!("{} rows scored", 344);
/// ```
#[macro_export]
macro_rules! info {
    ($($message:tt)+) => { $crate::log($crate::LogLevel::Info, &::std::format!($($message)+)) };
}

/// Adds a line to the task's log at [`LogLevel::Debug`]; takes what `format!` takes.
#[macro_export]
macro_rules! debug {
    ($($message:tt)+) => { $crate::log($crate::LogLevel::Debug, &::std::format!($($message)+)) };
}

/// Adds a line to the task's log at [`LogLevel::Trace`]; takes what `format!` takes.
#[macro_export]
macro_rules! trace {
    ($($message:tt)+) => { $crate::log($crate::LogLevel::Trace, &::std::format!($($message)+)) };
}
