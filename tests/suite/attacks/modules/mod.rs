//! 22–30: hostile modules.
//!
//! ```text
//! refused  22–26, 29   what no worker ever sees, each with its cause
//! bombs    27–28, 30   what is small to send and large to take
//! ```
//!
//! Invariant: while a module is taken or refused, another pool goes on with its tasks.

mod bombs;
mod refused;

use stockade::{BuildError, Pool, PoolBuilder, RefusedReason};
use stockade_tests::{numbers, own_children};

/// A pool that has nothing to do with any of it.
struct Bystander(Pool);

impl Bystander {
    fn new() -> Self {
        let pool = numbers().idle_timeout(None).build().unwrap();
        pool.run::<()>("nothing", ()).unwrap();
        Self(pool)
    }

    /// Why the module is refused. No process of this thread's is left then, and the other pool
    /// goes on in the same process.
    #[track_caller]
    fn sees_refused(&self, what: &str, builder: PoolBuilder) -> RefusedReason {
        let error = builder.build().expect_err(what);
        self.goes_on();
        match error {
            BuildError::Refused { reason, .. } => reason,
            other => panic!("{what}: expected a refusal, got {other:?}"),
        }
    }

    #[track_caller]
    fn goes_on(&self) {
        assert!(own_children().is_empty(), "a process is left");
        let handle = self.0.submit::<i32>("add", (40, 2)).unwrap();
        assert_eq!(handle.result().unwrap(), 42);
        assert_eq!(handle.report().worker.map(|id| id.0), Some(1), "a worker was lost");
    }
}
