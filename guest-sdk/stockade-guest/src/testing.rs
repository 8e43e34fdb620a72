//! Calls tasks like a worker does, in an ordinary test.
//!
//! A task is a plain function and most of its tests should simply call it. This module tests
//! encoding: do these JSON arguments decode, which error does a caller get? There is no sandbox and
//! no limit. There is no trap either: a panic ends with [`Status::Error`] and an [`ErrorRecord`]
//! with `panic` set. Not in wasm builds.
//!
//! ```
//! use stockade_guest::task;
//! use stockade_guest::testing::{Call, export_of};
//!
//! #[task]
//! fn top(words: Vec<String>, limit: Option<usize>) -> Vec<String> {
//!     words.into_iter().take(limit.unwrap_or(1)).collect()
//! }
//!
//! let outcome = Call::json(r#"{"args": [["to", "be"]]}"#).run(export_of!(top));
//! assert_eq!(outcome.result_json::<Vec<String>>(), ["to"]);
//!
//! let outcome = Call::json(r#"{"kwargs": {"limit": 2}}"#).run(export_of!(top));
//! assert_eq!(outcome.error_message(), "argument 1 `words`: missing");
//! ```

use crate::codec;
use crate::host::stand_in::{self, CallState};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::{Duration, Instant};
use stockade_abi::Codec;

pub use stockade_abi::{ErrorRecord, LogLevel, Status};
pub use stockade_guest_macros::export_of;

/// The export behind a function; [`export_of!`] names it.
pub type Export = extern "C" fn() -> i32;

/// A call: its input, and the host's answers.
#[derive(Clone, Debug)]
pub struct Call {
    codec: Codec,
    input: Vec<u8>,
    task_id: u64,
    time: Option<Duration>,
}

/// The outcome of a call.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The export's status.
    pub status: Status,
    /// The result, in the call's codec.
    pub output: Vec<u8>,
    /// The error, if one was written.
    pub error: Option<ErrorRecord>,
    /// Each report of progress: done, total.
    pub progress: Vec<(u64, u64)>,
    /// Each item of a streamed result, in the call's codec.
    pub emitted: Vec<Vec<u8>>,
    /// Each line of the log.
    pub log: Vec<(LogLevel, String)>,
}

impl Call {
    /// A call with arguments as JSON: `{"args": […], "kwargs": {…}}`.
    pub fn json(arguments: &str) -> Self {
        Self::new(Codec::Json, arguments.as_bytes().to_vec())
    }

    /// A call with arguments as a tuple, encoded as the host library does.
    ///
    /// # Panics
    /// If they cannot be encoded.
    pub fn bincode(arguments: &impl Serialize) -> Self {
        let input = codec::encode(arguments).expect("arguments that bincode can write");
        Self::new(Codec::Bincode, input)
    }

    /// A call whose only argument is these bytes.
    pub fn raw(input: impl Into<Vec<u8>>) -> Self {
        Self::new(Codec::Raw, input.into())
    }

    fn new(codec: Codec, input: Vec<u8>) -> Self {
        Self { codec, input, task_id: 1, time: None }
    }

    /// Sets the time that [`remaining`](crate::remaining) returns. It is not enforced.
    pub fn time(mut self, time: Duration) -> Self {
        self.time = Some(time);
        self
    }

    /// Gives the task this number in place of 1.
    pub fn task_id(mut self, task_id: u64) -> Self {
        self.task_id = task_id;
        self
    }

    /// Makes the call.
    ///
    /// # Panics
    /// If a task calls another task through its export: a worker runs one at a time.
    pub fn run(self, export: Export) -> Outcome {
        let state = CallState {
            codec: self.codec as i32,
            input: self.input,
            task_id: self.task_id,
            deadline: self.time.map(|time| Instant::now() + time),
            output: Vec::new(),
            error: Vec::new(),
            progress: Vec::new(),
            emitted: Vec::new(),
            log: Vec::new(),
        };
        let (status, state) = stand_in::with(state, || export());
        Outcome {
            status: Status::from_number(status),
            output: state.output,
            error: (!state.error.is_empty())
                .then(|| serde_json::from_slice(&state.error).expect("an error record")),
            progress: state.progress,
            emitted: state.emitted,
            log: state
                .log
                .into_iter()
                .map(|(level, line)| (LogLevel::from_number(level), line))
                .collect(),
        }
    }
}

impl Outcome {
    /// The result of a JSON call.
    ///
    /// # Panics
    /// If the call failed, or its result is no `T`.
    #[track_caller]
    pub fn result_json<T: DeserializeOwned>(&self) -> T {
        self.assert_success();
        serde_json::from_slice(&self.output).expect("a result of this type")
    }

    /// The result of a bincode call.
    ///
    /// # Panics
    /// If the call failed, or its result is no `T`.
    #[track_caller]
    pub fn result_bincode<T: DeserializeOwned>(&self) -> T {
        self.assert_success();
        let (value, used) = codec::decode(&self.output).expect("a result of this type");
        assert_eq!(used, self.output.len(), "bytes are left after the result");
        value
    }

    /// The error message of a failed call.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn error_message(&self) -> &str {
        assert_ne!(self.status, Status::Success, "the call succeeded");
        self.error.as_ref().map_or("", |error| &error.message)
    }

    #[track_caller]
    fn assert_success(&self) {
        assert_eq!(self.status, Status::Success, "{:?}", self.error);
    }
}
