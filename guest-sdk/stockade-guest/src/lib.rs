//! Functions for a Stockade pool to run.
//!
//! ```
//! use stockade_guest::serde::{Deserialize, Serialize};
//! use stockade_guest::task;
//! use std::fmt;
//!
//! /// A reading of one sensor.
//! #[derive(Deserialize)]
//! #[serde(crate = "stockade_guest::serde")]
//! struct Reading {
//!     celsius: f64,
//!     at: String,
//! }
//!
//! /// Why readings have no mean. Callers get its text and its serialised form.
//! #[derive(Debug, PartialEq, Serialize)]
//! #[serde(crate = "stockade_guest::serde")]
//! enum MeanError {
//!     NoReadings,
//!     NotANumber { at: String },
//! }
//!
//! impl fmt::Display for MeanError {
//!     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
//!         match self {
//!             Self::NoReadings => f.write_str("there are no readings"),
//!             Self::NotANumber { at } => write!(f, "the reading at {at} is not a number"),
//!         }
//!     }
//! }
//!
//! /// The mean of some readings.
//! #[task]
//! fn mean(readings: Vec<Reading>) -> Result<f64, MeanError> {
//!     if readings.is_empty() {
//!         return Err(MeanError::NoReadings);
//!     }
//!     if let Some(bad) = readings.iter().find(|reading| !reading.celsius.is_finite()) {
//!         return Err(MeanError::NotANumber { at: bad.at.clone() });
//!     }
//!     Ok(readings.iter().map(|reading| reading.celsius).sum::<f64>() / readings.len() as f64)
//! }
//!
//! // The function stays a function, and is tested as one.
//! let reading = |celsius| Reading { celsius, at: "noon".to_owned() };
//! assert_eq!(mean(vec![reading(18.0), reading(21.0)]), Ok(19.5));
//! assert_eq!(mean(vec![]), Err(MeanError::NoReadings));
//! ```
//!
//! # Building a guest
//!
//! One dependency and one line on the crate's type:
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! stockade-guest = "0.1"
//! ```
//!
//! ```text
//! rustup target add wasm32-wasip1
//! cargo build --release --target wasm32-wasip1
//! stockade run target/wasm32-wasip1/release/sensors.wasm mean '[{"celsius": 18, "at": "noon"}]'
//! ```
//!
//! From Rust: `pool.run::<f64>("mean", (readings,))`.
//!
//! # How a call reaches the function
//!
//! [`#[task]`](macro@task) keeps the function and adds an export that gets the input from the host,
//! decodes the arguments, calls the function and writes its result. The caller chooses the codec:
//!
//! | codec | arguments | result |
//! |---|---|---|
//! | bincode: Rust callers | one after another, by position | bincode |
//! | JSON: the command line, other languages | `{"args": […], "kwargs": {…}}`, by position or by name | JSON |
//! | raw: files and pipes | the input is the only argument: [`Bytes`], `Vec<u8>`, `&[u8]`, `&mut [u8]`, `String`, `&str` | such a type as it is, else JSON |
//!
//! The function is not called with invalid input. The error names the wrong argument and the
//! reason: ``argument 2 `limit`: invalid type: string "x", expected usize``. JSON callers may leave
//! out a parameter that is an `Option`; it is then `None`.
//!
//! Use [`Bytes`] for binary data: unchanged in raw, as a whole in bincode, and as base64 in JSON.
//!
//! # Large data
//!
//! A function with the only parameter `&[u8]` reads a long raw input in place: nothing is copied. A
//! task with the only parameter `&mut [u8]` changes it in place, and the content at its end is its
//! result; in the other codecs it changes and returns a copy.
//!
//! ```
//! use stockade_guest::task;
//!
//! /// Inverts every bit.
//! #[task]
//! fn invert(pixels: &mut [u8]) {
//!     for pixel in pixels {
//!         *pixel = !*pixel;
//!     }
//! }
//! # use stockade_guest::testing::{Call, export_of};
//! # assert_eq!(Call::raw([0, 255]).run(export_of!(invert)).output, [255, 0]);
//! ```
//!
//! From Rust, with memory that the caller and the guest share for the time of the task:
//! `pool.run("invert", buffer)`, where the buffer and the result are a `SharedBuffer`.
//!
//! # Failing
//!
//! - An `Err` fails the task with the error's text (`{:#}`, so an `anyhow::Error` tells its causes)
//!   and, if the error implements `Serialize`, with its form as JSON, which callers can match on.
//! - A panic fails it with its message and `file:line:column`, and a trap. No other task is
//!   affected: the next one starts from a fresh instance.
//! - A task that exceeds its deadline or memory limit is stopped from outside.
//!
//! # State
//!
//! By default every task starts from the same fresh memory and sees no other task's changes: a
//! `static` that one task changes is unchanged for the next. An
//! [`#[initializer]`](macro@initializer) prepares data that tasks share; every task then starts
//! from its memory, at no cost per task. See its example. A [`#[finalizer]`](macro@finalizer) runs
//! when a worker closes.
//!
//! A snapshot also contains random values: the seeds of a `HashMap` made by the initializer are the
//! same in every task.
//!
//! # Talking to the host
//!
//! [`progress`], [`log`](fn@log) with [`info!`] and its siblings, [`remaining`], [`emit`] and
//! [`task_id`]. `println!` works as well: the pool captures standard output and error for each
//! task's report. Files, environment and clocks are those that the pool grants, none by default.
//!
//! # Testing
//!
//! On any target but wasm the host calls have stand-ins, so `cargo test` runs a guest's tests as
//! those of any crate, and [`testing`] calls a task through its codec.

// What the macros generate names this crate, and so do this crate's own tests.
extern crate self as stockade_guest;

mod arguments;
mod bytes;
mod call;
mod cells;
mod codec;
mod failure;
mod forms;
mod host;
mod input;
mod json_call;
mod output;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use bytes::Bytes;
pub use host::{EmitError, emit, emit_bytes, log, progress, remaining, task_id};
pub use serde;
pub use serde::{Deserialize, Serialize};
pub use stockade_abi::LogLevel;
pub use stockade_guest_macros::{finalizer, initializer, task};

/// Only for the macros' output; it may change at any time.
#[doc(hidden)]
pub mod __private {
    pub use crate::call::run;
    pub use crate::forms::Of;
    pub use crate::input::{InputBytes, write_in_place};

    /// The traits by which a type's form is chosen, to be imported together.
    pub mod forms {
        // Without names, so that none can hide a type of the author's.
        pub use crate::forms::argument::{AnyArgumentForm as _, ByteArgumentForm as _};
        pub use crate::forms::error::{
            AnyErrorForm as _, DataErrorForm as _, FallibleForm as _, PlainForm as _,
        };
        pub use crate::forms::result::{AnyResultForm as _, ByteResultForm as _};
    }
}
