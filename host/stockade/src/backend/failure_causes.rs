//! FailureCauses: the last failures, kept until the dispatcher decides that one broke the pool.
//!
//! Deliberately absent: whether it did.

use std::time::Duration;

use stockade_wire::Failure;

use crate::outcome::error::{BrokenError, TaskError};
use crate::outcome::exit::WorkerExit;
use crate::outcome::machine::{MachineError, MachineFault};
use stockade_dispatcher::BrokenCause;

/// The operation in errors about starting a worker.
pub(crate) const START: &str = "start a worker";

fn start(why: String) -> MachineError {
    MachineError { task: START.into(), fault: MachineFault::Process(why) }
}

/// The last failure of each kind that can break a pool.
#[derive(Debug, Default)]
pub(crate) struct FailureCauses {
    pub(crate) hook: Option<Failure>,
    pub(crate) preparation: Option<BrokenError>,
    /// Why a worker never became ready.
    pub(crate) start: Option<MachineError>,
}

impl FailureCauses {
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
                BrokenError::WorkersCannotStart(start("the module could not be prepared".into()))
            }),
            BrokenCause::WorkersCannotStart => {
                let unknown = || start("it did not say why".into());
                BrokenError::WorkersCannotStart(self.start.take().unwrap_or_else(unknown))
            }
        }
    }

    /// Records how a worker ended, with its own message or the error in its messages, which is most
    /// precise.
    pub(crate) fn note_end(&mut self, exit: &WorkerExit, failure: Option<String>) {
        let fault = match failure {
            Some(failure) => MachineFault::Process(format!("{}: {failure}", exit.worker)),
            None => MachineFault::of_exit(exit),
        };
        self.start = Some(MachineError { task: START.into(), fault });
    }
}
