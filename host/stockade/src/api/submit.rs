//! Submission: checks, encodes and waits for a permit in the caller's thread, and leaves the rest
//! to the driver.
//!
//! Invariant: a failed submission has queued nothing and holds no permit.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use stockade_wire::{BATCH_TASKS_MAX, ChunkId, ModuleId, TaskId, TaskRange, ValueType};

use crate::api::pool::{Blueprint, Core, Pool};
use crate::api::task::{TaskHandle, TaskResult};
use crate::backend::entry::{
    Entry, MapEntry, MapSubmission, Permits, Several, TaskEntry, deadline_for_host,
};
use crate::backend::request::Request;
use crate::base::deadline;
use crate::call::arguments::{self, Arguments};
use crate::call::command::{Command, CommandOutput};
use crate::call::inputs::Inputs;
use crate::call::options::{TaskOptions, WhenFull, check_tighter};
use crate::call::payload::Payload;
use crate::call::target::{Callable, CallableKind, ModuleEntry, OWN_ENTRY, Target};
use crate::outcome::error::{RunError, SubmitError};
use crate::state::cell::TaskCell;
use crate::state::inbox::Inbox;
use crate::state::semaphore::{Patience, Permit};
use crate::state::spec::TaskSpec;
use crate::state::watch::{self, Watched};
use stockade_dispatcher::{EntryKey, Submission};

/// Items of a map that are submitted together.
#[derive(Debug)]
pub(crate) struct MapBatch {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) spec: Arc<TaskSpec>,
    pub(crate) inputs: Inputs,
    /// The place of the first in the map.
    pub(crate) index: usize,
    /// The chunk whose items share an instance.
    pub(crate) share: Option<ChunkId>,
    /// Whether items that follow may travel with these.
    pub(crate) may_grow: bool,
    /// Their permits, if the pool has a maximum of pending tasks.
    pub(crate) permit: Option<Permit>,
}

/// Submitting tasks.
impl Pool {
    /// Submits a task. Encodes the arguments now, so later changes do not affect the task. Blocks
    /// only if the pool is full, see
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
        let spec = self.core.spec(&target, &arguments, &options)?;
        let payload = self.core.payload(&spec, arguments)?;
        let permit = self.core.permit(self.core.patience(&options))?;
        self.core.enqueue(spec, payload, &options, permit)
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

    /// Submits several tasks of one function that are sent to a worker together, like a chunk of a
    /// [`map`](Self::map): each still gets an instance and an outcome of its own. Inputs of 31 KiB
    /// and more, buffers and commands are sent separately. Blocks as [`submit`](Self::submit).
    ///
    /// Returns for each of `items`, in order, its handle or the error of its submission.
    pub fn submit_together<T: TaskResult, A: Arguments>(
        &self,
        target: impl Into<Target>,
        items: impl IntoIterator<Item = A>,
    ) -> Vec<Result<TaskHandle<T>, SubmitError>> {
        self.submit_together_with(target, items, &TaskOptions::default())
    }

    /// As [`submit_together`](Self::submit_together), with a priority, retries, tighter limits, a
    /// label, or another answer to a full pool, for each of them.
    pub fn submit_together_with<T: TaskResult, A: Arguments>(
        &self,
        target: impl Into<Target>,
        items: impl IntoIterator<Item = A>,
        options: &TaskOptions,
    ) -> Vec<Result<TaskHandle<T>, SubmitError>> {
        let target = target.into();
        let mut together = Together::new(&self.core, options);
        // Before any of them has a permit: a source may use the pool itself.
        let items: Vec<A> = items.into_iter().collect();
        for arguments in items {
            let prepared = (|| {
                let spec = self.core.spec(&target, &arguments, options)?;
                let payload = self.core.payload(&spec, arguments)?;
                // None of those before may wait for this one's room.
                let permit = self.core.permit(Patience::None).or_else(|_| {
                    together.submit();
                    self.core.permit(self.core.patience(options))
                })?;
                Ok((spec, payload, permit))
            })();
            match prepared {
                Ok((spec, payload, permit)) => together.add(spec, payload, permit),
                Err(error) => together.handles.push(Err(error)),
            }
        }
        together.submit();
        together.handles
    }

    /// Submits a run of the pool's module as a program, from the entry that `command` names or else
    /// the module's own. Blocks as [`submit`](Self::submit).
    ///
    /// # Errors
    /// [`SubmitError`]: nothing was queued.
    pub fn submit_command(
        &self,
        command: Command,
    ) -> Result<TaskHandle<CommandOutput>, SubmitError> {
        self.submit_command_with(OWN_ENTRY, command, TaskOptions::default())
    }

    /// As [`submit_command`](Self::submit_command), for a pool of several modules, where the target
    /// is `(module, "_start")`, and with options. Another function in the target is another entry.
    ///
    /// # Errors
    /// [`SubmitError`]: nothing was queued.
    pub fn submit_command_with(
        &self,
        target: impl Into<Target>,
        command: Command,
        options: TaskOptions,
    ) -> Result<TaskHandle<CommandOutput>, SubmitError> {
        self.submit_with(target, command, options)
    }
}

impl Core {
    /// Encodes one of several items, with what they have in common: that is found for the first of
    /// them and kept in `known`. Returns what one that names its own function has for itself. `is_checked`
    /// says that [`check_spec`](Self::check_spec) has just accepted `known`: to ask takes three locks.
    pub(crate) fn encode(
        &self,
        target: &Target,
        arguments: impl Arguments,
        options: &TaskOptions,
        known: &mut Option<Arc<TaskSpec>>,
        is_checked: bool,
    ) -> Result<(Option<Arc<TaskSpec>>, Payload), SubmitError> {
        if arguments.names_function() {
            let spec = self.spec(target, &arguments, options)?;
            let payload = self.payload(&spec, arguments)?;
            return Ok((Some(spec), payload));
        }
        let spec = match known {
            Some(spec) if is_checked => spec,
            Some(spec) => {
                self.check_spec(spec)?;
                spec
            }
            None => known.insert(self.spec(target, &arguments, options)?),
        };
        Ok((None, self.payload(spec, arguments)?))
    }

    /// Whether the pool takes tasks of this function.
    pub(crate) fn check_spec(&self, spec: &TaskSpec) -> Result<(), SubmitError> {
        self.check()?;
        self.check_module(spec.module)
    }

    /// Whether the pool takes tasks.
    pub(crate) fn check(&self) -> Result<(), SubmitError> {
        let shared = &self.link.shared;
        if shared.is_closed() {
            return Err(SubmitError::Closed);
        }
        shared.broken().map_or(Ok(()), |cause| Err(SubmitError::Broken(cause)))
    }

    /// Finds the function that `target` names, or a program's own entry, and checks the options.
    pub(crate) fn spec_of(
        &self,
        target: &Target,
        options: &TaskOptions,
    ) -> Result<Arc<TaskSpec>, SubmitError> {
        match self.spec(target, &(), options) {
            // Of several names that a program's own entry may have.
            Err(SubmitError::UnknownFunction { .. }) if target.is_own_entry() => {
                self.spec(target, &Command::new(""), options)
            }
            found => found,
        }
    }

    /// Finds the function and checks the options.
    fn spec(
        &self,
        target: &Target,
        arguments: &impl Arguments,
        options: &TaskOptions,
    ) -> Result<Arc<TaskSpec>, SubmitError> {
        self.check()?;
        let found = arguments.resolve(&self.blueprint.modules, target)?;
        self.check_options(found.0.id, options)?;
        Ok(self.spec.get(target, found, options))
    }

    /// Encodes the arguments.
    fn payload(&self, spec: &TaskSpec, arguments: impl Arguments) -> Result<Payload, SubmitError> {
        arguments::encode(arguments, self.callable(spec))
    }

    fn callable(&self, spec: &TaskSpec) -> &Callable {
        let module = self.blueprint.modules.get(spec.module.0 as usize);
        let callable = module.and_then(|module| module.callables.at(spec.function));
        callable.unwrap_or_else(|| unreachable!("spec are of a function"))
    }

    /// The function that a recording is of, and what it is called with.
    pub(crate) fn recorded(
        &self,
        target: &Target,
        arguments: impl Arguments,
    ) -> Result<(&ModuleEntry, String, Payload), SubmitError> {
        let (module, callable) = arguments.resolve(&self.blueprint.modules, target)?;
        Ok((module, callable.name.clone(), arguments::encode(arguments, callable)?))
    }

    /// Whether the pool takes calls of the function of `spec` with an `item` each, that give a `result`.
    pub(crate) fn check_column(
        &self,
        spec: &TaskSpec,
        item: ValueType,
        result: ValueType,
    ) -> Result<(), SubmitError> {
        self.check()?;
        self.check_module(spec.module)?;
        let callable = self.callable(spec);
        let problem = match &callable.kind {
            CallableKind::Scalar { params, results } => match (&params[..], &results[..]) {
                ([param], [one]) if (*param, *one) == (item, result) => return Ok(()),
                ([param], [one]) => {
                    format!(
                        "it takes {param} and returns {one}, where the items are {item} and the \
                         results {result}"
                    )
                }
                _ => "it does not take one number and return one, as `map_slice` needs".into(),
            },
            CallableKind::Task { .. } | CallableKind::Command => {
                "it is not a function over numbers, and `map_slice` needs one: use `map`".into()
            }
        };
        let (function, signature) = (callable.name.clone(), callable.signature());
        Err(SubmitError::Signature { function, problem, signature })
    }

    fn check_options(&self, module: ModuleId, options: &TaskOptions) -> Result<(), SubmitError> {
        self.check_module(module)?;
        let pool = &self.blueprint.setup.limits;
        options.limits.as_ref().map_or(Ok(()), |limits| check_tighter(limits, pool))
    }

    fn check_module(&self, module: ModuleId) -> Result<(), SubmitError> {
        let quarantine = self.link.shared.quarantined(module);
        quarantine.map_or(Ok(()), |quarantine| Err(SubmitError::Quarantined(quarantine)))
    }

    /// How long a submission with these options waits for a permit.
    pub(crate) fn patience(&self, options: &TaskOptions) -> Patience {
        match options.when_full.unwrap_or(self.blueprint.when_full) {
            WhenFull::Block => Patience::Endless,
            WhenFull::Fail => Patience::None,
            WhenFull::Wait(time) => {
                deadline::after(time).map_or(Patience::Endless, Patience::Until)
            }
        }
    }

    /// Waits for a permit for one more pending task; `None` if the pool has no maximum.
    pub(crate) fn permit(&self, patience: Patience) -> Result<Option<Permit>, SubmitError> {
        let Some(room) = self.link.shared.room() else { return Ok(None) };
        match room.take(patience) {
            // After waiting, the state is checked again.
            Some(permit) => self.check().map(|()| Some(permit)),
            None => Err(SubmitError::Full { max_pending_tasks: room.permits_max() }),
        }
    }

    /// So many numbers for tasks, that follow each other.
    fn next_tasks(&self, count: u32) -> Result<TaskRange, SubmitError> {
        let before = self.task_count.fetch_add(u64::from(count), Ordering::Relaxed);
        // No pool runs for long enough to come to the last number.
        TaskRange::new(TaskId(before + 1), count).ok_or(SubmitError::Closed)
    }

    fn submission(
        &self,
        tasks: TaskRange,
        spec: &TaskSpec,
        task_bytes: usize,
        options: &TaskOptions,
    ) -> Submission {
        Submission {
            tasks,
            // The driver's to say.
            entry: EntryKey(0),
            module: spec.module,
            priority: options.priority,
            task_bytes,
            wall_time: deadline_for_host(&spec.limits),
            retries: options.retries,
        }
    }

    fn watched_cell(
        &self,
        id: TaskId,
        spec: Arc<TaskSpec>,
        payload: Payload,
        permit: Option<Permit>,
    ) -> Arc<TaskCell> {
        let cell = Arc::new(TaskCell::new(id, spec, payload, permit));
        watch::begin(&cell, &self.blueprint.name, self.blueprint.metered);
        cell
    }

    /// Submits a task with its handle.
    pub(crate) fn enqueue<T: TaskResult>(
        &self,
        spec: Arc<TaskSpec>,
        payload: Payload,
        options: &TaskOptions,
        permit: Option<Permit>,
    ) -> Result<TaskHandle<T>, SubmitError> {
        let tasks = self.next_tasks(1)?;
        let submission = self.submission(tasks, &spec, payload.inline_bytes(), options);
        let how = spec.lead();
        let cell = self.watched_cell(tasks.first(), spec, payload, permit);
        let entry = Entry::One(TaskEntry::new(cell.clone()));
        self.event_loop.leave(Request::Submit(entry, submission), how)?;
        Ok(TaskHandle::new(cell))
    }

    /// Submits items of a map. Returns their tasks.
    pub(crate) fn enqueue_batch(
        &self,
        batch: MapBatch,
        options: &TaskOptions,
    ) -> Result<TaskRange, SubmitError> {
        let MapBatch { inbox, spec, inputs, index, share, may_grow, permit } = batch;
        let tasks = self.next_tasks(inputs.count())?;
        let submission = self.submission(tasks, &spec, inputs.task_bytes(), options);
        let Blueprint { name, metered, .. } = &self.blueprint;
        let watched = match watch::is_watched(*metered) {
            true => {
                tasks.iter().map(|task| Some(Watched::begin(task, &spec, name, *metered))).collect()
            }
            false => Vec::new(),
        };
        let permits = permit.map(|permit| Permits::new(permit, tasks.count()));
        let (submitted, how) = (self.link.age_nanos(), spec.lead());
        let entry = MapEntry::new(MapSubmission {
            inbox,
            spec,
            tasks,
            index,
            submitted,
            inputs,
            share,
            may_grow,
            permits,
            watched,
        });
        self.event_loop.leave(Request::Submit(Entry::Map(Box::new(entry)), submission), how)?;
        Ok(tasks)
    }
}

/// Tasks with handles that travel together, as they are gathered.
struct Together<'a, T> {
    core: &'a Core,
    options: &'a TaskOptions,
    inputs: Inputs,
    gathered: Vec<(Arc<TaskSpec>, Payload, Option<Permit>)>,
    handles: Vec<Result<TaskHandle<T>, SubmitError>>,
}

impl<'a, T: TaskResult> Together<'a, T> {
    fn new(core: &'a Core, options: &'a TaskOptions) -> Self {
        let (inputs, gathered, handles) = (Inputs::default(), Vec::new(), Vec::new());
        Self { core, options, inputs, gathered, handles }
    }

    fn add(&mut self, spec: Arc<TaskSpec>, payload: Payload, permit: Option<Permit>) {
        let is_small = Inputs::is_small(&payload);
        let goes_along = is_small
            && self.inputs.fits(&payload)
            && self.gathered.len() < BATCH_TASKS_MAX as usize
            && self.gathered.first().is_none_or(|(first, ..)| Arc::ptr_eq(first, &spec));
        if !goes_along {
            self.submit();
        }
        if is_small {
            self.inputs.copy(&payload, 1);
            self.gathered.push((spec, payload, permit));
        } else {
            self.handles.push(self.core.enqueue(spec, payload, self.options, permit));
        }
    }

    /// Submits what was gathered.
    fn submit(&mut self) {
        let gathered = std::mem::take(&mut self.gathered);
        let inputs = std::mem::take(&mut self.inputs);
        let Some((spec, ..)) = gathered.first() else { return };
        let count = u32::try_from(gathered.len()).unwrap_or(u32::MAX);
        let tasks = match self.core.next_tasks(count) {
            Ok(tasks) => tasks,
            Err(_) => {
                return self.handles.extend(gathered.iter().map(|_| Err(SubmitError::Closed)));
            }
        };
        let submission = self.core.submission(tasks, spec, inputs.task_bytes(), self.options);
        let how = spec.lead();
        let cell =
            |(task, (spec, payload, permit))| self.core.watched_cell(task, spec, payload, permit);
        let cells: Vec<_> = tasks.iter().zip(gathered).map(cell).collect();
        let entries = cells.iter().cloned().map(TaskEntry::new).collect();
        let entry = Entry::Several(Box::new(Several::new(tasks.first(), entries)));
        match self.core.event_loop.leave(Request::Submit(entry, submission), how) {
            Ok(()) => self.handles.extend(cells.into_iter().map(TaskHandle::new).map(Ok)),
            Err(_) => self.handles.extend(cells.iter().map(|_| Err(SubmitError::Closed))),
        }
    }
}
