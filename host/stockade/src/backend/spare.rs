//! The spare: a worker that is ready in advance, and replaces the next lost worker.
//!
//! ```text
//! Start(1) ─► worker 1            a pool that loses no worker has no spare
//! Start(2), with 1 lost ─► worker 2, then 3 as a spare
//! Start(3) ─► the spare, then 4
//! ```
//!
//! A worker bears its number from its start, so a spare has the number that comes next. It is not
//! counted or listed until it is requested.
//!
//! One is started when nothing has been asked for a while, so that it takes no processor from what
//! the worker before it was started for.
//!
//! A spare comes from the same template as the workers next to it, and has their addresses. After a
//! crash it goes with the template.

use std::io;

use stockade_wire::{Instances, Setup, WorkerId};

use crate::backend::worker::WorkerProcess;
use crate::process::loadable::Loadable;
use crate::process::template::Starter;

/// Starts a pool's workers, some ahead of time.
#[derive(Debug)]
pub(crate) struct Workers {
    starter: Starter,
    /// Workers that were started and asked for, and are not buried.
    living: usize,
    /// What the next is started with, where it may be started ahead.
    next: Option<(Setup, Vec<Loadable>)>,
    spare: Option<WorkerProcess>,
    was_lost: bool,
}

impl Workers {
    /// None yet, which `starter` will start.
    pub(crate) fn new(starter: Starter) -> Self {
        Self { starter, living: 0, next: None, spare: None, was_lost: false }
    }

    /// A worker for `setup` and `modules`, which are the same at every call but for the worker's
    /// number and name. Blocks for about a millisecond, unless there is a spare.
    ///
    /// # Errors
    /// As [`WorkerProcess::start`].
    pub(crate) fn start(
        &mut self,
        setup: Setup,
        modules: Vec<Loadable>,
    ) -> io::Result<WorkerProcess> {
        let next = following(&setup).filter(|next| may_be_early(next, &modules));
        let expected = self.next.take().is_some_and(|(expected, _)| expected == setup);
        let has_crashed = self.starter.has_crashed();
        let spare = self.spare.take().filter(|_| expected && !has_crashed);
        let worker = match spare.and_then(WorkerProcess::into_fresh) {
            Some(spare) => spare,
            None => WorkerProcess::start(&mut self.starter, setup, &modules)?,
        };
        self.living += 1;
        self.next = next.map(|next| (next, modules));
        Ok(worker)
    }

    /// One that was started ends. The last takes the spare with it, unless the pool `killed` it: then
    /// another will be wanted.
    pub(crate) fn lost_one(&mut self, killed: bool) {
        self.was_lost = true;
        self.living = self.living.saturating_sub(1);
        if self.living == 0 && !killed {
            // Before the end of the last worker is reported.
            self.dismiss();
        }
    }

    /// Ends the spare, and has none until another worker is started.
    pub(crate) fn dismiss(&mut self) {
        (self.next, self.spare) = (None, None);
    }

    /// Samples the memory of the spare and the template.
    pub(crate) fn look(&mut self) {
        self.spare = self.spare.take().filter(|spare| match spare.memory_excess() {
            None => true,
            Some(excess) => {
                tracing::warn!(target: "stockade::spare", %excess, "a spare worker was ended");
                false
            }
        });
        self.starter.look();
    }

    /// Whether a spare may be of use and there is none.
    pub(crate) fn lack_spare(&self) -> bool {
        self.was_lost && self.spare.is_none() && self.next.is_some()
    }

    /// Starts a spare, if one can be set up. Blocks for about a millisecond.
    pub(crate) fn start_spare(&mut self) {
        if let Some((setup, modules)) = &self.next {
            // The next request for a worker retries, and gets the error.
            self.spare = WorkerProcess::start(&mut self.starter, setup.clone(), modules).ok();
        }
    }
}

/// What the worker after that of `setup` is set up with.
fn following(setup: &Setup) -> Option<Setup> {
    let worker = WorkerId(setup.worker.0 + 1);
    let name = format!("{}{worker}", setup.name.strip_suffix(&setup.worker.to_string())?);
    Some(Setup { worker, name, ..setup.clone() })
}

/// Whether starting a worker in advance has no visible effect: no hook runs at its start.
fn may_be_early(setup: &Setup, modules: &[Loadable]) -> bool {
    let has_hook =
        |load: &stockade_wire::Load| load.initializer.is_some() || load.finalizer.is_some();
    setup.instances == Instances::PerTask || !modules.iter().any(|module| has_hook(&module.load))
}
