//! Submission: checks and encodes in the caller's thread, waits there for room, and leaves the rest to
//! the driver.
//!
//! Invariant: a submission that fails has queued nothing and holds no room.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::Serialize;
use stockade_wire::{ChunkId, ModuleId, TaskId};

use crate::arguments::{self, Arguments};
use crate::cell::TaskCell;
use crate::command::Command;
use crate::driver::Command as DriverCommand;
use crate::entry::{TaskEntry, deadline_for_host};
use crate::map::{Map, MapAll, Singles};
use crate::options::{TaskOptions, WhenFull, check_tighter};
use crate::payload::Payload;
use crate::pool::Core;
use crate::room::{Patience, Place};
use crate::target::{ModuleEntry, OWN_ENTRY, Target};
use crate::task::{TaskHandle, TaskResult};
use crate::terms::Terms;
use crate::{CommandOutput, Pool, RunError, SubmitError, watch};
use stockade_dispatcher::Submission;

/// What a task travels with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Company {
    pub(crate) chunk: Option<ChunkId>,
    /// Whether the chunk's tasks may share an instance.
    pub(crate) shares: bool,
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
        let terms = self.core.terms(&target, &arguments, &options, None)?;
        let payload = self.core.payload(&terms, arguments)?;
        let place = self.core.place(self.core.patience(&options))?;
        self.core.enqueue(terms, payload, &options, None, place)
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
        let chunk = Some(self.core.new_chunk());
        let submit = |arguments| {
            let terms = self.core.terms(&target, &arguments, options, None)?;
            let payload = self.core.payload(&terms, arguments)?;
            let place = self.core.place(self.core.patience(options))?;
            self.core.enqueue(terms, payload, options, chunk, place)
        };
        items.into_iter().map(submit).collect()
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

    /// Runs the pool's module as a program once for every one of `commands`, in order: each in an
    /// instance of its own, from the entry that it names or else the module's own. Lazy and bounded
    /// as [`map`](Self::map).
    ///
    /// An exit code that is not 0 is a result, not an error. In a pool of several modules, use
    /// [`starmap`](Self::starmap) with the target `(module, "_start")`.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = stockade::Pool::builder().module("qjs.wasm").build()?;
    /// use stockade::Command;
    ///
    /// let scripts = ["print(6 * 7)", "print('a' + 1)"];
    /// let commands = scripts.map(|script| Command::new("qjs").args(["-e", script]));
    /// for output in pool.map_command(commands) {
    ///     let output = output?;
    ///     println!("{} {}", output.exit_code, String::from_utf8_lossy(&output.stdout.bytes));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_command<I>(&self, commands: I) -> Map<CommandOutput, I::IntoIter>
    where
        I: IntoIterator<Item = Command>,
    {
        self.starmap(OWN_ENTRY, commands)
    }

    /// Submits one of several tasks, with what they have in common: that is found for the first of
    /// them and kept in `known`. One that names its own function has it found for itself.
    pub(crate) fn submit_item<T: TaskResult>(
        &self,
        target: &Target,
        arguments: impl Arguments,
        options: &TaskOptions,
        company: Company,
        known: &mut Option<Arc<Terms>>,
        place: Option<Place>,
    ) -> Result<TaskHandle<T>, SubmitError> {
        let share = company.chunk.filter(|_| company.shares);
        let names_own = arguments.names_function();
        let terms = match known {
            Some(terms) if terms.share == share && !names_own => {
                self.core.check()?;
                self.core.check_module(terms.module)?;
                terms.clone()
            }
            _ => {
                let terms = self.core.terms(target, &arguments, options, share)?;
                if !names_own { known.insert(terms).clone() } else { terms }
            }
        };
        let payload = self.core.payload(&terms, arguments)?;
        self.core.enqueue(terms, payload, options, company.chunk, place)
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

    /// Finds the function and checks the options.
    fn terms(
        &self,
        target: &Target,
        arguments: &impl Arguments,
        options: &TaskOptions,
        share: Option<ChunkId>,
    ) -> Result<Arc<Terms>, SubmitError> {
        self.check()?;
        let found = arguments.resolve(&self.blueprint.modules, target)?;
        self.check_options(found.0.id, options)?;
        Ok(self.terms.get(target, found, options, share))
    }

    /// Encodes the arguments.
    fn payload(&self, terms: &Terms, arguments: impl Arguments) -> Result<Payload, SubmitError> {
        let module = self.blueprint.modules.get(terms.module.0 as usize);
        let callable = module.and_then(|module| module.callables.at(terms.function));
        let callable = callable.unwrap_or_else(|| unreachable!("terms are of a function"));
        arguments::encode(arguments, callable)
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

    fn check_options(&self, module: ModuleId, options: &TaskOptions) -> Result<(), SubmitError> {
        self.check_module(module)?;
        let pool = &self.blueprint.setup.limits;
        options.limits.as_ref().map_or(Ok(()), |limits| check_tighter(limits, pool))
    }

    fn check_module(&self, module: ModuleId) -> Result<(), SubmitError> {
        let quarantine = self.link.shared.quarantined(module);
        quarantine.map_or(Ok(()), |quarantine| Err(SubmitError::Quarantined(quarantine)))
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
        terms: Arc<Terms>,
        payload: Payload,
        options: &TaskOptions,
        chunk: Option<ChunkId>,
        place: Option<Place>,
    ) -> Result<TaskHandle<T>, SubmitError> {
        let id = TaskId(self.task_count.fetch_add(1, Ordering::Relaxed) + 1);
        let submission = Submission {
            task: id,
            module: terms.module,
            chunk,
            priority: options.priority,
            inline_bytes: payload.inline_bytes(),
            wall_time: deadline_for_host(&terms.limits),
            retries: options.retries,
        };
        let cell = Arc::new(TaskCell::new(id, terms, payload, place));
        watch::begin(&cell, &self.blueprint.name, self.blueprint.metered);
        let entry = TaskEntry::new(cell.clone());
        self.link.leave(DriverCommand::Submit(entry, submission))?;
        Ok(TaskHandle::new(cell))
    }
}
