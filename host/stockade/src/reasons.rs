//! Reasons: what went wrong last, kept until the dispatcher says that it broke the pool.
//!
//! Deliberately absent: whether it did.

use std::time::Duration;

use stockade_wire::Failure;

use crate::dispatcher::BrokenCause;
use crate::{BrokenError, TaskError};

/// The last failure of each kind that can break a pool.
#[derive(Debug, Default)]
pub(crate) struct Reasons {
    pub(crate) hook: Option<Failure>,
    pub(crate) preparation: Option<BrokenError>,
    /// How a worker ended that never became ready.
    pub(crate) start: String,
}

impl Reasons {
    /// The error of a pool that `cause` broke, whose hooks have so much time.
    pub(crate) fn take(&mut self, cause: BrokenCause, wall_time: Option<Duration>) -> BrokenError {
        let hook = |failure: Option<Failure>| {
            let unknown = || Failure::Guest("it did not say why".into());
            TaskError::from_failure(failure.unwrap_or_else(unknown), wall_time)
        };
        match cause {
            BrokenCause::Initializer => BrokenError::Initializer(hook(self.hook.take())),
            BrokenCause::Finalizer => BrokenError::Finalizer(hook(self.hook.take())),
            BrokenCause::Preparation => self.preparation.take().unwrap_or_else(|| {
                BrokenError::WorkersCannotStart("the module could not be prepared".into())
            }),
            BrokenCause::WorkersCannotStart => {
                BrokenError::WorkersCannotStart(std::mem::take(&mut self.start))
            }
        }
    }
}
