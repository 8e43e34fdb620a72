//! Submission: checks and encodes in the caller's thread, waits there for room, and leaves the rest to
//! the driver.
//!
//! Invariant: a submission that fails has queued nothing and holds no room.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::Serialize;
use stockade_wire::{
    ChunkId, Codec, HostMessage, Invocation, ModuleId, Payload, PayloadPlace, Run, Stdin, TaskId,
};

use crate::arguments::{self, Arguments};
use crate::buffer::BufferSlot;
use crate::cell::{TaskCell, TaskInfo};
use crate::command::Command;
use crate::driver::Command as DriverCommand;
use crate::entry::{Schedule, TaskEntry};
use crate::map::{Map, MapAll, Singles};
use crate::options::{TaskOptions, WhenFull, check_tighter};
use crate::pool::Core;
use crate::room::{Patience, Place};
use crate::shape::Shape;
use crate::target::{self, COMMAND_ENTRY, CallableKind, Target};
use crate::task::{TaskHandle, TaskResult};
use crate::{CommandOutput, Pool, RunError, SharedBuffer, SubmitError};

/// The most bytes of a command's arguments and environment together.
const COMMAND_TEXT_BYTES_MAX: usize = 1 << 20;

/// What a task travels with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Company {
    pub(crate) chunk: Option<ChunkId>,
    /// Whether the chunk's tasks may share an instance.
    pub(crate) shares: bool,
}

/// A checked and encoded call.
struct Order {
    module: ModuleId,
    invocation: Invocation,
    result_shape: Option<Arc<Shape>>,
    descriptors: Vec<OwnedFd>,
    /// What the task is lent.
    buffer: Option<SharedBuffer>,
}

/// Submitting tasks.
impl Pool {
    /// Submits a task. Encodes the arguments now, so later changes do not reach the task. Blocks
    /// only where the pool limits its pending tasks and is full, see
    /// [`PoolBuilder::max_pending_tasks`](crate::PoolBuilder::max_pending_tasks).
    ///
    /// # Errors
    /// [`SubmitError`]: nothing was queued.
    pub fn submit<T: TaskResult>(
        &self,
        target: impl Into<Target>,
        arguments: impl Arguments,
    ) -> Result<TaskHandle<T>, SubmitError> {
        self.submit_with(target, arguments, TaskOptions::default())
    }

    /// As [`submit`](Self::submit), with a priority, retries, tighter limits, a label, or another
    /// answer to a full pool.
    ///
    /// # Errors
    /// [`SubmitError`]: nothing was queued.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = stockade::Pool::builder().module("tasks.wasm").build()?;
    /// use std::time::Duration;
    /// use stockade::TaskOptions;
    ///
    /// let quick = pool.limits().clone().wall_time(Duration::from_millis(100));
    /// let options = TaskOptions::default().priority(10).retries(2).limits(quick).label("urgent");
    /// let words = pool.submit_with::<u64>("word_count", ("to be",), options)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit_with<T: TaskResult>(
        &self,
        target: impl Into<Target>,
        arguments: impl Arguments,
        options: TaskOptions,
    ) -> Result<TaskHandle<T>, SubmitError> {
        let target = target.into();
        let order = self.core.order(&target, arguments, &options)?;
        let place = self.core.place(self.core.patience(&options))?;
        self.core.enqueue(&target, order, &options, Company::default(), place)
    }

    /// Submits a task and blocks for its result.
    ///
    /// # Errors
    /// [`RunError`], of the submission or of the task.
    pub fn run<T: TaskResult>(
        &self,
        target: impl Into<Target>,
        arguments: impl Arguments,
    ) -> Result<T, RunError> {
        Ok(self.submit(target, arguments)?.into_result()?)
    }

    /// Submits several tasks of one function that travel to a worker together, as a chunk of a
    /// [`map`](Self::map) does: each still gets an instance of its own and ends on its own. Blocks
    /// as [`submit`](Self::submit).
    ///
    /// Gives the handles in the order of `items`, each with the error of its own submission.
    pub fn submit_together<T: TaskResult, A: Arguments>(
        &self,
        target: impl Into<Target>,
        items: impl IntoIterator<Item = A>,
    ) -> Vec<Result<TaskHandle<T>, SubmitError>> {
        let target = target.into();
        let options = TaskOptions::default();
        let company = Company { chunk: Some(self.core.new_chunk()), shares: false };
        let submit = |arguments| {
            let order = self.core.order(&target, arguments, &options)?;
            let place = self.core.place(self.core.patience(&options))?;
            self.core.enqueue(&target, order, &options, company, place)
        };
        items.into_iter().map(submit).collect()
    }

    /// Submits a run of the pool's command, the module's `_start`. Blocks as
    /// [`submit`](Self::submit).
    ///
    /// # Errors
    /// [`SubmitError`]: nothing was queued.
    pub fn submit_command(
        &self,
        command: Command,
    ) -> Result<TaskHandle<CommandOutput>, SubmitError> {
        self.submit_command_with(COMMAND_ENTRY, command, TaskOptions::default())
    }

    /// As [`submit_command`](Self::submit_command), for a pool of several modules, where the target
    /// is `(module, "_start")`, and with options.
    ///
    /// # Errors
    /// [`SubmitError`]: nothing was queued.
    pub fn submit_command_with(
        &self,
        target: impl Into<Target>,
        command: Command,
        options: TaskOptions,
    ) -> Result<TaskHandle<CommandOutput>, SubmitError> {
        let target = target.into();
        let order = self.core.command_order(&target, command, &options)?;
        let place = self.core.place(self.core.patience(&options))?;
        self.core.enqueue(&target, order, &options, Company::default(), place)
    }

    /// Applies a function of one parameter to every item of `items`, in order.
    ///
    /// Lazy: takes items only as results are taken, and a few ahead to keep every worker busy.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = stockade::Pool::builder().module("tasks.wasm").build()?;
    /// for count in pool.map::<u64, _, _>("word_count", ["to be", "or not to be"]) {
    ///     println!("{}", count?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn map<T, A, I>(&self, target: impl Into<Target>, items: I) -> Map<T, Singles<I::IntoIter>>
    where
        T: TaskResult,
        A: Serialize,
        I: IntoIterator<Item = A>,
    {
        Map::new(self.clone(), target.into(), Singles(items.into_iter()))
    }

    /// As [`map`](Self::map), for functions of several parameters: items are whole [`Arguments`].
    pub fn starmap<T, A, I>(&self, target: impl Into<Target>, items: I) -> Map<T, I::IntoIter>
    where
        T: TaskResult,
        A: Arguments,
        I: IntoIterator<Item = A>,
    {
        Map::new(self.clone(), target.into(), items.into_iter())
    }

    /// Submits a task for every item of `items` at once, and gives the results in order.
    ///
    /// Blocks as [`submit`](Self::submit). For chunks or options, use
    /// [`Map::submit_all`].
    pub fn map_all<T, A, I>(&self, target: impl Into<Target>, items: I) -> MapAll<T>
    where
        T: TaskResult,
        A: Serialize,
        I: IntoIterator<Item = A>,
    {
        self.map(target, items).submit_all()
    }

    /// As [`map_all`](Self::map_all), for functions of several parameters.
    pub fn starmap_all<T, A, I>(&self, target: impl Into<Target>, items: I) -> MapAll<T>
    where
        T: TaskResult,
        A: Arguments,
        I: IntoIterator<Item = A>,
    {
        self.starmap(target, items).submit_all()
    }

    pub(crate) fn submit_item<T: TaskResult>(
        &self,
        target: &Target,
        arguments: impl Arguments,
        options: &TaskOptions,
        company: Company,
        place: Option<Place>,
    ) -> Result<TaskHandle<T>, SubmitError> {
        let order = self.core.order(target, arguments, options)?;
        self.core.enqueue(target, order, options, company, place)
    }

    /// Waits for room for one more pending task; `None` where the pool has no limit.
    pub(crate) fn place(&self, patience: Patience) -> Result<Option<Place>, SubmitError> {
        self.core.place(patience)
    }

    /// How long a submission with these options waits for room.
    pub(crate) fn patience(&self, options: &TaskOptions) -> Patience {
        self.core.patience(options)
    }
}

impl Core {
    /// Whether the pool takes tasks.
    pub(crate) fn check(&self) -> Result<(), SubmitError> {
        let shared = &self.link.shared;
        if shared.is_closed() {
            return Err(SubmitError::Closed);
        }
        shared.broken().map_or(Ok(()), |cause| Err(SubmitError::Broken(cause)))
    }

    /// Finds the function, checks the options and encodes the arguments.
    fn order(
        &self,
        target: &Target,
        arguments: impl Arguments,
        options: &TaskOptions,
    ) -> Result<Order, SubmitError> {
        self.check()?;
        let (module, callable) = target::resolve(&self.blueprint.modules, target)?;
        self.check_options(module.id, options)?;
        let (invocation, buffer) = arguments::encode_or_lend(arguments, callable)?;
        let result_shape = callable.result_shape();
        let descriptors = match &buffer {
            None => Vec::new(),
            Some(buffer) => vec![buffer.descriptor().map_err(|error| SubmitError::Encode {
                function: callable.name.clone(),
                reason: error.to_string(),
            })?],
        };
        Ok(Order { module: module.id, invocation, result_shape, descriptors, buffer })
    }

    fn command_order(
        &self,
        target: &Target,
        command: Command,
        options: &TaskOptions,
    ) -> Result<Order, SubmitError> {
        self.check()?;
        let (module, callable) = target::resolve(&self.blueprint.modules, target)?;
        if callable.kind != CallableKind::Command {
            return Err(SubmitError::Signature {
                function: callable.name.clone(),
                problem: "it is a function, not a command".into(),
                signature: callable.signature(),
            });
        }
        self.check_options(module.id, options)?;
        let (call, descriptors) = command.into_parts();
        let text_bytes = call.args.iter().map(String::len).sum::<usize>()
            + call.env.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if text_bytes > COMMAND_TEXT_BYTES_MAX {
            return Err(SubmitError::Encode {
                function: callable.name.clone(),
                reason: format!(
                    "arguments and environment have {text_bytes} bytes, where \
                     {COMMAND_TEXT_BYTES_MAX} are allowed"
                ),
            });
        }
        if let Stdin::Bytes(bytes) = &call.stdin {
            arguments::check_bytes(&callable.name, "stdin has", bytes.len())?;
        }
        let invocation = Invocation::Command(call);
        let (result_shape, buffer) = (None, None);
        Ok(Order { module: module.id, invocation, result_shape, descriptors, buffer })
    }

    fn check_options(&self, module: ModuleId, options: &TaskOptions) -> Result<(), SubmitError> {
        if let Some(quarantine) = self.link.shared.quarantined(module) {
            return Err(SubmitError::Quarantined(quarantine));
        }
        let pool = &self.blueprint.setup.limits;
        options.limits.as_ref().map_or(Ok(()), |limits| check_tighter(limits, pool))
    }

    fn patience(&self, options: &TaskOptions) -> Patience {
        match options.when_full.unwrap_or(self.blueprint.when_full) {
            WhenFull::Block => Patience::Endless,
            WhenFull::Fail => Patience::None,
            WhenFull::Wait(time) => {
                Instant::now().checked_add(time).map_or(Patience::Endless, Patience::Until)
            }
        }
    }

    fn place(&self, patience: Patience) -> Result<Option<Place>, SubmitError> {
        let Some(room) = self.link.shared.room() else { return Ok(None) };
        match room.take(patience) {
            // Whoever has waited looks again what he waited for.
            Some(place) => self.check().map(|()| Some(place)),
            None => Err(SubmitError::Full { max_pending_tasks: room.places_max() }),
        }
    }

    fn enqueue<T: TaskResult>(
        &self,
        target: &Target,
        order: Order,
        options: &TaskOptions,
        company: Company,
        place: Option<Place>,
    ) -> Result<TaskHandle<T>, SubmitError> {
        let Order { module, invocation, result_shape, descriptors, buffer } = order;
        let codec = match &invocation {
            Invocation::Task(call) => call.codec,
            Invocation::Scalar { .. } | Invocation::Command(_) => Codec::Raw,
        };
        let id = TaskId(self.task_count.fetch_add(1, Ordering::Relaxed) + 1);
        let label = options.label.clone();
        let payload = buffer
            .as_ref()
            .map(|buffer| Payload { bytes: buffer.len() as u64, place: PayloadPlace::Lent });
        let buffer = buffer.map(|buffer| Box::new(BufferSlot::new(buffer)));
        let target = target.to_string();
        let info = TaskInfo { id, target, label, codec, result_shape, buffer };
        let cell = Arc::new(TaskCell::new(info, self.link.clone()));
        let limits = options.limits.as_ref().unwrap_or(&self.blueprint.setup.limits).clone();
        let share = company.chunk.filter(|_| company.shares);
        let run = Run { task: id, module, invocation, limits, slot: 0, share, payload };
        let schedule =
            Schedule { chunk: company.chunk, priority: options.priority, retries: options.retries };
        let message = HostMessage::Run(run);
        let entry = TaskEntry::new(cell.clone(), message, descriptors, schedule, place);
        self.link.tell(DriverCommand::Submit(Box::new(entry)))?;
        Ok(TaskHandle::new(cell))
    }
}
