//! The host calls of every build that is not wasm: one call's state, in a thread-local.
//!
//! Used by [`testing`](crate::testing). Deliberately absent: limits. The real host enforces them,
//! and a stand-in that pretended to would only hide where.

use std::cell::RefCell;
use std::time::{Duration, Instant};

/// The host's data of the call under way, and the data that it received.
pub(crate) struct CallState {
    pub(crate) codec: i32,
    pub(crate) input: Vec<u8>,
    pub(crate) task_id: u64,
    pub(crate) deadline: Option<Instant>,
    pub(crate) output: Vec<u8>,
    pub(crate) error: Vec<u8>,
    pub(crate) progress: Vec<(u64, u64)>,
    pub(crate) emitted: Vec<Vec<u8>>,
    pub(crate) log: Vec<(i32, String)>,
}

thread_local! {
    static CURRENT: RefCell<Option<CallState>> = const { RefCell::new(None) };
}

/// Runs `call` with `state` in place and returns both. Calls do not nest.
pub(crate) fn with<T>(state: CallState, call: impl FnOnce() -> T) -> (T, CallState) {
    let outer = CURRENT.replace(Some(state));
    assert!(outer.is_none(), "a task is already running on this thread");
    let value = call();
    let state = CURRENT.take().expect("only `with` takes the state");
    (value, state)
}

/// `default` where no call is under way.
fn current<T>(default: T, use_state: impl FnOnce(&mut CallState) -> T) -> T {
    CURRENT.with_borrow_mut(|state| state.as_mut().map_or(default, use_state))
}

pub(super) fn input_len() -> i32 {
    current(0, |state| state.input.len() as i32)
}

pub(super) fn input_codec() -> i32 {
    current(0, |state| state.codec)
}

pub(super) fn input_read(into: &mut [u8], offset: usize) {
    current((), |state| {
        into.copy_from_slice(&state.input[offset..offset + into.len()]);
    });
}

pub(super) fn output_write(bytes: &[u8]) {
    current((), |state| state.output.extend_from_slice(bytes));
}

pub(super) fn error_write(bytes: &[u8]) {
    current((), |state| state.error.extend_from_slice(bytes));
}

pub(super) fn progress(done: i64, total: i64) {
    current((), |state| state.progress.push((done as u64, total as u64)));
}

pub(super) fn emit(bytes: &[u8]) {
    current((), |state| state.emitted.push(bytes.to_vec()));
}

pub(super) fn log(level: i32, message: &[u8]) {
    let message = String::from_utf8_lossy(message).into_owned();
    current((), |state| state.log.push((level, message)));
}

pub(super) fn remaining_ns() -> i64 {
    current(i64::MAX, |state| {
        state.deadline.map_or(i64::MAX, |deadline| {
            let left: Duration = deadline.saturating_duration_since(Instant::now());
            i64::try_from(left.as_nanos()).unwrap_or(i64::MAX)
        })
    })
}

pub(super) fn task_id() -> i64 {
    current(0, |state| state.task_id as i64)
}
