//! 31–41: attacks through the guest ABI.
//!
//! ```text
//! output    31, 35, 41  how much, and what besides a result
//! pointers  32–34, 40   where it points, and when it calls
//! results   36–38       what its results are made of
//! manifest  39          what it says of itself
//! ```

mod manifest;
mod output;
mod pointers;
mod results;

use stockade::{Pool, RunError, TaskError};

/// A module with `pages` of memory and every host call, around `body`.
fn guest(pages: u32, body: &str) -> String {
    format!(
        r#"(module
            (import "stockade" "input_len" (func $input_len (result i32)))
            (import "stockade" "input_codec" (func $input_codec (result i32)))
            (import "stockade" "input_read" (func $input_read (param i32 i32 i32)))
            (import "stockade" "input_map" (func $input_map (param i32 i32) (result i32)))
            (import "stockade" "output_write" (func $output_write (param i32 i32)))
            (import "stockade" "error_write" (func $error_write (param i32 i32)))
            (import "stockade" "progress" (func $progress (param i64 i64)))
            (import "stockade" "emit" (func $emit (param i32 i32)))
            (import "stockade" "log" (func $log (param i32 i32 i32)))
            (import "stockade" "remaining_ns" (func $remaining_ns (result i64)))
            (import "stockade" "task_id" (func $task_id (result i64)))
            (memory (export "memory") {pages})
            {body})"#
    )
}

#[track_caller]
pub(super) fn failed<T>(result: Result<T, RunError>) -> TaskError {
    match result {
        Err(RunError::Task(error)) => error,
        Err(other) => panic!("expected a failure, got {other:?}"),
        Ok(_) => panic!("expected a failure, got a result"),
    }
}

/// Whether the pool's only worker is still its first.
#[track_caller]
pub(super) fn assert_first_worker(pool: &Pool) {
    assert!(pool.check().is_ok(), "the pool is broken: {:?}", pool.broken());
    assert_eq!(pool.workers()[0].id.0, 1, "a worker was lost");
}
