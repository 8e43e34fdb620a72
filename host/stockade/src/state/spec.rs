//! TaskSpec: common data of tasks of one function, stored once.
//!
//! ```text
//! (target, options) ──► TaskSpec ◄── TaskCell, TaskCell, TaskCell …
//! ```
//!
//! Those of a function that is called without limits or a label of a task's own are made once a pool,
//! those of a map once a map.
//!
//! Deliberately absent: what differs from task to task, and what only the dispatcher asks for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use stockade_wire::{Invocation, Limits, ModuleId, Run, TaskRange};

use crate::call::options::TaskOptions;
use crate::call::shape::Shape;
use crate::call::target::{Callable, ModuleEntry, Target};
use crate::state::backend::Lead;
use crate::state::link::Link;

/// What tasks have in common.
#[derive(Debug)]
pub(crate) struct TaskSpec {
    /// The way to their pool.
    pub(crate) link: Arc<Link>,
    /// The target, as the caller named it.
    pub(crate) target: String,
    pub(crate) label: Option<String>,
    pub(crate) module: ModuleId,
    /// The function's number in its module.
    pub(crate) function: u32,
    /// What the result is made of, where the module tells it.
    pub(crate) result_shape: Option<Arc<Shape>>,
    pub(crate) limits: Arc<Limits>,
    /// Whether a worker has to be told the limits, as they are not the pool's.
    pub(crate) tells_limits: bool,
    /// How long its tasks took of late, on average, in nanoseconds; 0 while unknown.
    pace_nanos: AtomicU64,
}

/// A task that took longer counts as one that took so long: it is forgotten after a few others.
const PACE_MAX: Duration = Duration::from_micros(400);

/// How long a batch that the pool chose is meant to take: far more than what a message costs, and little
/// compared with what a person or a network notices.
pub(crate) const BATCH_TIME: Duration = Duration::from_micros(200);

/// The most tasks of a batch that the pool chose: the larger, the longer a worker keeps what another
/// could run.
pub(crate) const CHOSEN_MAX: u32 = 256;

impl TaskSpec {
    /// How many tasks a batch takes that the pool chooses: one while nobody knows how long they take.
    pub(crate) fn batch_max(&self) -> u32 {
        let pace = self.pace_nanos.load(Ordering::Relaxed);
        let fitting = (BATCH_TIME.as_nanos() as u64).checked_div(pace).unwrap_or(1);
        u32::try_from(fitting).unwrap_or(u32::MAX).clamp(1, CHOSEN_MAX)
    }

    /// How a caller waits for the end of a task.
    pub(crate) fn lead(&self) -> Lead {
        if self.batch_max() > 1 { Lead::DozingIfSaturated } else { Lead::Listening }
    }

    /// A message that has `tasks` call the function, all of them as `invocation` says.
    pub(crate) fn run(
        &self,
        tasks: TaskRange,
        invocation: Invocation,
        lengths: Vec<u32>,
        slot: u8,
    ) -> Run {
        Run {
            tasks,
            module: self.module,
            invocation,
            lengths,
            limits: self.tells_limits.then(|| Box::new((*self.limits).clone())),
            slot,
            share: None,
            placement: None,
        }
    }

    /// How long its tasks took of late, on average; `None` while unknown.
    pub(crate) fn pace(&self) -> Option<Duration> {
        let nanos = self.pace_nanos.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// Driver: tasks took so long on average, or so their worker says.
    pub(crate) fn note_pace(&self, mean: Duration) {
        let nanos = u64::try_from(mean.min(PACE_MAX).as_nanos()).unwrap_or(u64::MAX).max(1);
        let before = self.pace_nanos.load(Ordering::Relaxed);
        let after = if before == 0 { nanos } else { (before * 7 + nanos) / 8 };
        self.pace_nanos.store(after.max(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
impl TaskSpec {
    /// Of a function that a test needs no more of.
    pub(crate) fn of_a_test(link: Arc<Link>) -> Self {
        Self {
            link,
            target: String::new(),
            label: None,
            module: ModuleId(0),
            function: 0,
            result_shape: None,
            limits: Arc::default(),
            tells_limits: false,
            pace_nanos: AtomicU64::new(0),
        }
    }
}

/// The spec of all functions of a pool, as far as they were asked for.
#[derive(Debug)]
pub(crate) struct TaskSpecs {
    link: Arc<Link>,
    limits: Arc<Limits>,
    /// By the numbers of module and function; under the function's name alone, and with its
    /// module's.
    known: Vec<Vec<[OnceLock<Arc<TaskSpec>>; 2]>>,
}

impl TaskSpecs {
    /// Of the functions of `modules`, whose tasks have these limits unless they ask for others.
    pub(crate) fn new(link: Arc<Link>, limits: Arc<Limits>, modules: &[ModuleEntry]) -> Self {
        let of_module = |module: &ModuleEntry| {
            std::iter::repeat_with(Default::default).take(module.callables.len()).collect()
        };
        Self { link, limits, known: modules.iter().map(of_module).collect() }
    }

    /// The spec of a task of `callable` in `module`, which `target` names or stands for.
    pub(crate) fn get(
        &self,
        target: &Target,
        (module, callable): (&ModuleEntry, &Callable),
        options: &TaskOptions,
    ) -> Arc<TaskSpec> {
        let make = || {
            let limits = options.limits.as_ref().filter(|limits| **limits != *self.limits);
            Arc::new(TaskSpec {
                link: self.link.clone(),
                target: target.renamed(&callable.name).to_string(),
                label: options.label.clone(),
                module: module.id,
                function: callable.number,
                result_shape: callable.result_shape(),
                limits: limits.map_or_else(|| self.limits.clone(), |own| Arc::new(own.clone())),
                tells_limits: limits.is_some(),
                pace_nanos: AtomicU64::new(0),
            })
        };
        if options.limits.is_some() || options.label.is_some() {
            return make();
        }
        let of_module = self.known.get(module.id.0 as usize);
        let known = of_module.and_then(|known| known.get(callable.number as usize));
        match known {
            Some(known) => known[usize::from(target.names_module())].get_or_init(make).clone(),
            None => make(),
        }
    }
}
