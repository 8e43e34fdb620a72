//! What asyncpal's own tests assert, of a pool whose tasks are functions of wasm modules: a test of
//! ours for each of theirs that has a meaning here, named after it.
//!
//! ```text
//! workers, counting, sizes, joining, properties     the pool and its workers
//! broken_pools, check, run, submit                  what a pool in each state answers
//! lazy_maps … eager_starmaps, misc                  maps, chunks, time, error chains
//! futures, numbered as theirs                       handles, alone and together
//! defects, numbered as they were found              what goes wrong there and cannot here
//! upstream.txt ─┐
//! defects.txt  ─┴─► table ─► docs/conformance.md    which of theirs is which of ours
//! ```
//!
//! Where asyncpal sleeps, a task waits here at a gate that the test opens: so orders of completion
//! are made, not hoped for. Where asyncpal counts workers with "at most", how many there must be is
//! asserted.
//!
//! Deliberately absent: threads. A worker is a process, so asyncpal's tests of its thread pool are
//! those of its process pool once more.

mod broken_pools;
mod check;
mod counting;
mod defects;
mod eager_maps;
mod eager_starmaps;
mod futures;
mod joining;
mod lazy_maps;
mod lazy_starmaps;
mod misc;
mod properties;
mod run;
mod sizes;
mod submit;
mod table;
mod workers;

use std::time::Duration;

use stockade::{BrokenError, Grants, Pool, PoolBuilder, SubmitError, TaskError, TrapKind};
use stockade_tests::{Folder, eventually, wat};

/// Functions over numbers, some behind gates. See the file.
const GATED: &str = include_str!("../../fixtures/gated.wat");

/// A time that passes while nothing happens.
const SHORT: Duration = Duration::from_millis(20);

/// A pool of four workers over the functions of `fixtures/gated.wat`, behind no gate.
fn functions() -> PoolBuilder {
    wat(GATED).max_workers(4)
}

/// A pool whose initializer divides by zero, over the same functions.
fn with_failing_initializer() -> Pool {
    functions().initializer("divide_by_zero", ()).build().unwrap()
}

/// A pool whose finalizer divides by zero, over the same functions.
fn with_failing_finalizer() -> Pool {
    functions().finalizer("divide_by_zero", ()).build().unwrap()
}

/// Gates of one pool's tasks, by their numbers. All are closed at first.
#[derive(Default)]
struct Gates(Folder);

impl Gates {
    fn new() -> Self {
        Self::default()
    }

    /// A pool over the functions of `fixtures/gated.wat`, whose gates these are.
    fn pool(&self, workers: usize) -> PoolBuilder {
        let grants = Grants::none().write_dir(self.0.path(), "/gates");
        wat(GATED).max_workers(workers).grants(grants)
    }

    /// The same, and no worker starts before [`begin`](Self::begin): so what is submitted until
    /// then is there as a whole when the pool decides how many workers it needs.
    fn held_pool(&self, workers: usize) -> Pool {
        self.pool(workers).initializer("wait_at_gate_9", ()).build().unwrap()
    }

    fn begin(&self) {
        self.open(9);
    }

    fn open(&self, number: i32) {
        self.0.file(&format!("open-{number}"), "");
    }

    fn open_all(&self) {
        (0..10).for_each(|number| self.open(number));
    }

    /// Opens all when dropped, so that a test that fails leaves nobody waiting.
    fn open_at_end(&self) -> impl Drop {
        struct OpenAtEnd<'a>(&'a Gates);

        impl Drop for OpenAtEnd<'_> {
            fn drop(&mut self) {
                self.0.open_all();
            }
        }

        OpenAtEnd(self)
    }

    fn until_somebody_waits_at(&self, number: i32) {
        let here = self.0.path().join(format!("here-{number}"));
        eventually("a guest at its gate", || here.exists());
    }
}

/// The cause of a division by zero, in whichever hook it happened.
#[track_caller]
fn division_by_zero(error: &TaskError) -> bool {
    matches!(error, TaskError::Trap { kind: TrapKind::DivisionByZero, .. })
}

/// Asserts that a pool is broken by its initializer's division by zero, and that it says so.
#[track_caller]
fn assert_broken_by_initializer(error: &SubmitError) {
    let SubmitError::Broken(cause) = error else { panic!("expected a broken pool, got {error:?}") };
    let BrokenError::Initializer(why) = &**cause else { panic!("another cause: {cause:?}") };
    assert!(division_by_zero(why), "{why:?}");
}

/// The same of its finalizer.
#[track_caller]
fn assert_broken_by_finalizer(error: &SubmitError) {
    let SubmitError::Broken(cause) = error else { panic!("expected a broken pool, got {error:?}") };
    let BrokenError::Finalizer(why) = &**cause else { panic!("another cause: {cause:?}") };
    assert!(division_by_zero(why), "{why:?}");
}

/// Squares of the first numbers, in order.
fn squares(numbers: i32) -> Vec<i32> {
    (0..numbers).map(|number| number * number).collect()
}

/// Sums of the first numbers with themselves, in order.
fn sums(numbers: i32) -> Vec<i32> {
    (0..numbers).map(|number| number + number).collect()
}

/// Pairs of the first numbers with themselves.
fn pairs(numbers: i32) -> impl Iterator<Item = (i32, i32)> {
    (0..numbers).map(|number| (number, number))
}
