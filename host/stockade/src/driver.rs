//! The driver: performs what the dispatcher decides, and tells it what happened.
//!
//! ```text
//! Pool, TaskHandle ──Command──►┐                        ┌──► WorkerProcess ──► ring, socket
//! workers ────WorkerMessage───►│ Driver ──Event──► Dispatcher
//! clock ──────────────────────►┘        ◄──Action──     ├──► TaskCell (results, in any order)
//!                                                       └──► Keeper (starts and ends of processes)
//! ```
//!
//! It owns the processes and the payloads, and works in whichever thread holds the
//! [`Hub`](crate::hub::Hub)'s lock. It never blocks; so a worker that does not read, a caller that
//! does not collect and a guest that does not end hold up nobody else.
//!
//! Deliberately absent: decisions. Which task runs where, and what a death means, is the
//! [`Dispatcher`]'s to say.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use stockade_wire::frame::{Filled, FrameError};
use stockade_wire::{
    Finished, HostMessage, ModuleId, Outcome, Setup, TaskId, WorkerId, WorkerMessage,
};

use crate::bells::Bells;
use crate::cell::Sent;
use crate::dispatcher::{
    Action, BrokenCause, Dispatcher, Event, Hook, Moment, RequestId, ShutdownMode,
};
use crate::entry::{RunState, TaskEntry};
use crate::hub::{Hub, Wakers};
use crate::ids::IdMap;
use crate::keeper::{Buried, Chore, Keeper};
use crate::prepare::{Preparation, PreparationThread};
use crate::reasons::Reasons;
use crate::shared::{Shared, WorkerInfo, WorkerState};
use crate::worker::{Loadable, WorkerProcess};
use crate::{BrokenError, Quarantine, WorkerExit};

/// What callers ask of the driver.
#[derive(Debug)]
pub(crate) enum Command {
    Submit(Box<TaskEntry>),
    Cancel(TaskId),
    CancelRunning(TaskId),
    /// Start so many workers, or as many as there is work for; tell `started` how many.
    SpawnWorkers {
        request: RequestId,
        count: Option<usize>,
        started: Sender<usize>,
    },
    SetIdleTimeout(Option<Duration>),
    /// Tell `done` when no task and no worker is left.
    Join {
        join: u64,
        done: Sender<()>,
    },
    JoinGivenUp(u64),
    Prepared(Result<Arc<std::fs::File>, BrokenError>),
    /// The keeper has started a worker, or could not.
    Started {
        worker: WorkerId,
        process: io::Result<Box<WorkerProcess>>,
    },
    /// The keeper has made sure that a worker is gone.
    Buried(Box<Buried>),
    Shutdown(ShutdownMode),
}

/// What the driver is made of.
pub(crate) struct Parts {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) keeper: Keeper,
    pub(crate) bells: Arc<Bells>,
    /// For every worker but its number and name.
    pub(crate) setup: Setup,
    pub(crate) pool_name: String,
    pub(crate) modules: Vec<Loadable>,
    pub(crate) preparation: Option<Preparation>,
    pub(crate) quarantine_after: Option<u32>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) hub: Weak<Hub>,
}

pub(crate) struct Driver {
    parts: Parts,
    epoch: Instant,
    /// The time of this turn.
    now: Moment,
    /// When the timer rings next.
    timer: Option<Moment>,
    workers: IdMap<WorkerId, WorkerProcess>,
    /// Workers that the keeper has not started yet, and whether they are to end at once.
    starting: BTreeMap<WorkerId, bool>,
    /// What callers see of the workers.
    infos: BTreeMap<WorkerId, WorkerInfo>,
    tasks: IdMap<TaskId, TaskEntry>,
    /// Workers that were sent something in this turn.
    unflushed: Vec<WorkerId>,
    /// Workers that had more to say than one turn hears.
    unheard: Vec<WorkerId>,
    wakers: Wakers,
    /// Callers of `join` that wait.
    joiners: HashMap<u64, Sender<()>>,
    /// Callers that asked for workers and wait for them.
    spawners: HashMap<u64, Sender<usize>>,
    prepared_module: Option<ModuleId>,
    preparing: Option<PreparationThread>,
    reasons: Reasons,
    /// How the worker ended whose `Exited` is being handled.
    last_exit: Option<WorkerExit>,
    terminated: bool,
}

/// Commands of one turn, and messages of one worker in one turn.
const BATCH_MAX: usize = 1024;

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("pool", &self.parts.pool_name).finish_non_exhaustive()
    }
}

impl Driver {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            prepared_module: parts.preparation.as_ref().map(|preparation| preparation.module),
            parts,
            epoch: Instant::now(),
            now: Moment::ZERO,
            timer: None,
            workers: IdMap::default(),
            starting: BTreeMap::new(),
            infos: BTreeMap::new(),
            tasks: IdMap::default(),
            unflushed: Vec::new(),
            unheard: Vec::new(),
            wakers: Wakers::new(),
            joiners: HashMap::new(),
            spawners: HashMap::new(),
            preparing: None,
            reasons: Reasons::default(),
            last_exit: None,
            terminated: false,
        }
    }

    /// Whether the pool has terminated, and nothing is left to do.
    pub(crate) fn has_ended(&self) -> bool {
        self.terminated
    }

    /// Wakers of callers whose tasks have ended in this turn.
    pub(crate) fn take_wakers(&mut self) -> Wakers {
        std::mem::take(&mut self.wakers)
    }

    /// Does what is to be done: commands, what workers left unsaid, deadlines, and what the
    /// dispatcher makes of it all. Ends every turn.
    pub(crate) fn look_around(&mut self, commands: &Receiver<Command>) {
        self.now = self.epoch.elapsed();
        for command in commands.try_iter().take(BATCH_MAX) {
            self.command(command);
        }
        for worker in std::mem::take(&mut self.unheard) {
            self.hear(worker);
        }
        self.perform();
        if self.parts.dispatcher.poll_timeout().is_some_and(|at| at <= self.now) {
            // What has ended in time and was not rung for is not late.
            self.hear_busy();
            self.perform();
            self.parts.dispatcher.handle_timeout(self.now);
            self.perform();
        }
        for worker in std::mem::take(&mut self.unflushed) {
            if let Some(process) = self.workers.get_mut(&worker)
                && process.port.flush().is_err()
            {
                process.kill();
            }
        }
        self.set_timer();
        self.parts.shared.show_counts(self.parts.dispatcher.counts());
        if !self.unheard.is_empty() {
            self.parts.bells.ring();
        }
    }

    /// Has the timer ring no later than the next deadline. Most deadlines never come, so one that
    /// moved away is not worth a system call.
    fn set_timer(&mut self) {
        self.timer = self.timer.filter(|at| *at > self.now);
        if let Some(at) = self.parts.dispatcher.poll_timeout()
            && self.timer.is_none_or(|timer| at < timer)
        {
            self.timer = Some(at);
            self.parts.bells.set_timer(at.saturating_sub(self.now));
        }
    }

    /// The workers that are alive.
    pub(crate) fn worker_infos(&self) -> Vec<WorkerInfo> {
        let mut infos = self.infos.clone();
        for (worker, phase) in self.parts.dispatcher.phases() {
            if let Some(info) = infos.get_mut(&worker) {
                info.state = phase.into();
            }
        }
        infos.into_values().collect()
    }

    /// Tells the dispatcher what has happened; what it makes of that is performed later.
    fn event(&mut self, event: Event) {
        self.parts.dispatcher.handle_event(self.now, event);
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Submit(entry) => {
                let submission = entry.submission();
                self.tasks.insert(submission.task, *entry);
                self.event(Event::Submit(submission));
            }
            Command::Cancel(task) => self.event(Event::Cancel(task)),
            Command::CancelRunning(task) => self.event(Event::CancelRunning(task)),
            Command::SpawnWorkers { request, count, started } => {
                self.spawners.insert(request.0, started);
                self.event(Event::SpawnWorkers { request, count });
            }
            Command::SetIdleTimeout(timeout) => self.event(Event::SetIdleTimeout(timeout)),
            Command::Join { join, done } => {
                self.joiners.insert(join, done);
                self.event(Event::Join);
            }
            Command::JoinGivenUp(join) => {
                // One that was answered meanwhile is not there, and others may be.
                self.joiners.remove(&join);
                if self.joiners.is_empty() {
                    self.event(Event::JoinGivenUp);
                }
            }
            Command::Prepared(Ok(artefact)) => {
                for module in &mut self.parts.modules {
                    if Some(module.load.module) == self.prepared_module {
                        module.artefact = artefact.clone();
                        module.load.initialized = true;
                    }
                }
                self.event(Event::Prepared);
            }
            Command::Prepared(Err(error)) => {
                self.reasons.preparation = Some(error);
                self.event(Event::PreparationFailed);
            }
            Command::Started { worker, process } => self.started(worker, process),
            Command::Buried(buried) => self.buried(*buried),
            Command::Shutdown(mode) => self.event(Event::Shutdown(mode)),
        }
    }

    /// Hears all that a worker has to say, on its socket and in its ring: nobody rings for it again.
    pub(crate) fn hear(&mut self, worker: WorkerId) {
        self.now = self.epoch.elapsed();
        for _ in 0..BATCH_MAX {
            let Some(process) = self.workers.get_mut(&worker) else { return };
            let filled = process.port.fill();
            if !self.hear_written(worker) {
                break;
            }
            match filled {
                Ok(Filled::Some) => {}
                Ok(Filled::Nothing) => return,
                // What it wrote before is heard: nothing follows.
                Ok(Filled::End) => return self.lose(worker, None),
                Err(error) => return self.lose(worker, Some(error)),
            }
        }
        self.unheard.push(worker);
    }

    /// Hears what workers with tasks have written and not rung for. Says whether that was anything.
    pub(crate) fn hear_busy(&mut self) -> bool {
        self.now = self.epoch.elapsed();
        let busy = self.workers.iter().filter(|(_, process)| !process.sent.is_empty());
        let busy: Vec<_> = busy.map(|(&worker, process)| (worker, process.heard)).collect();
        let mut heard = false;
        for (worker, before) in busy {
            if !self.hear_written(worker) {
                self.unheard.push(worker);
            }
            heard |= self.workers.get(&worker).is_none_or(|process| process.heard != before);
        }
        heard
    }

    /// Hears what is there without a system call. Says whether that was all of it.
    fn hear_written(&mut self, worker: WorkerId) -> bool {
        for _ in 0..BATCH_MAX {
            let Some(process) = self.workers.get_mut(&worker) else { return true };
            match process.port.take() {
                Ok(Some(message)) => {
                    process.heard += 1;
                    self.message(worker, message);
                }
                Ok(None) if process.port.may_sleep() => return true,
                Ok(None) => {}
                Err(error) => {
                    self.lose(worker, Some(error));
                    return true;
                }
            }
        }
        false
    }

    /// Takes what a worker said: checks who may say it, then tells the dispatcher.
    fn message(&mut self, worker: WorkerId, message: WorkerMessage) {
        let Some(process) = self.workers.get_mut(&worker) else { return };
        match message {
            WorkerMessage::Ready(_) if !process.is_set_up => process.is_set_up = true,
            WorkerMessage::Loaded(_) if process.modules_left > 0 => {
                process.modules_left -= 1;
                if process.modules_left == 0 {
                    self.event(Event::Ready(worker));
                }
            }
            WorkerMessage::SetupFailed(why) | WorkerMessage::LoadFailed(_, why) => {
                process.failure = Some(why);
                self.event(Event::Misbehaved(worker));
            }
            WorkerMessage::InitializerFailed(failure) if self.has_hook(Hook::Initializer) => {
                self.reasons.hook = Some(failure);
                self.event(Event::HookFailed { worker, hook: Hook::Initializer });
            }
            WorkerMessage::FinalizerFailed(failure) if self.has_hook(Hook::Finalizer) => {
                self.reasons.hook = Some(failure);
                self.event(Event::HookFailed { worker, hook: Hook::Finalizer });
            }
            // An initializer or a finalizer belongs to no task: its items go nowhere.
            WorkerMessage::Emitted(TaskId(0), _) => {}
            WorkerMessage::Emitted(task, item) => self.emitted(worker, task, item),
            WorkerMessage::Finished(finished) => self.finished(worker, finished),
            WorkerMessage::Closed => self.event(Event::Closed(worker)),
            WorkerMessage::Ready(_)
            | WorkerMessage::Loaded(_)
            | WorkerMessage::Initialized { .. }
            | WorkerMessage::InitializerFailed(_)
            | WorkerMessage::FinalizerFailed(_) => {
                self.event(Event::Misbehaved(worker));
            }
        }
    }

    /// Whether any worker has such a hook to fail in.
    fn has_hook(&self, hook: Hook) -> bool {
        self.parts.modules.iter().any(|module| match hook {
            Hook::Initializer => module.load.initializer.is_some(),
            Hook::Finalizer => module.load.finalizer.is_some(),
        })
    }

    fn emitted(&mut self, worker: WorkerId, task: TaskId, item: Vec<u8>) {
        // Whether the task has started may be among what is not performed yet.
        self.perform();
        let accepted = self.tasks.get_mut(&task).is_some_and(|entry| {
            entry.run.emitted_bytes += item.len() as u64 + stockade_wire::EMIT_OVERHEAD_BYTES;
            entry.run.worker == Some(worker)
                && entry.run.started.is_some()
                && entry.run.emitted_bytes <= entry.limits().output_bytes
        });
        if !accepted {
            return self.event(Event::Misbehaved(worker));
        }
        if let Some(entry) = self.tasks.get(&task) {
            entry.cell.emit(item);
        }
    }

    fn finished(&mut self, worker: WorkerId, finished: Box<Finished>) {
        let task = finished.task;
        if let Some(process) = self.workers.get_mut(&worker) {
            process.answered(task);
        }
        if finished.outcome == Outcome::Recalled {
            // By its caller, whose command may still be on its way; or by us, and it may have ended.
            if self.tasks.get(&task).is_some_and(|entry| entry.cell.done().is_some()) {
                self.event(Event::Cancel(task));
            }
            return self.event(Event::HandedBack { worker, task });
        }
        let Some(entry) = self.tasks.get_mut(&task) else {
            return self.event(Event::Misbehaved(worker));
        };
        let is_taken_back = entry.cell.done().is_some();
        if entry.run.worker != Some(worker) || !entry.accepts(&finished) || is_taken_back {
            return self.event(Event::Misbehaved(worker));
        }
        let wall_time = finished.metrics.wall_time;
        entry.run.finished = Some(finished);
        if let Some(info) = self.infos.get_mut(&worker) {
            info.tasks_done += 1;
        }
        self.event(Event::Finished { worker, task, wall_time });
    }

    /// A worker's stream has ended, or it sent what is no message: nothing more is heard of it.
    fn lose(&mut self, worker: WorkerId, error: Option<FrameError>) {
        let Some(process) = self.workers.remove(&worker) else { return };
        self.parts.bells.remove_worker(&process.port);
        let failure = process.failure.clone().or(error.map(|error| error.to_string()));
        self.parts.keeper.add(Chore::Bury { worker, process: Box::new(process), failure });
    }

    fn buried(&mut self, buried: Buried) {
        let Buried { worker, exit, started, sent, failure } = buried;
        self.infos.remove(&worker);
        // Before there is an exit to be told.
        self.perform();
        // What it said itself tells most, then what was wrong with what it said.
        self.reasons.start = match failure {
            Some(failure) => format!("{}: {failure}", exit.worker),
            None => exit.to_string(),
        };
        for task in sent.iter().filter(|task| Some(**task) != started) {
            // What it had not come to was no attempt.
            let entry = self.tasks.get_mut(task);
            if let Some(entry) = entry.filter(|entry| entry.run.worker == Some(worker)) {
                entry.run.attempt -= 1;
            }
        }
        self.last_exit = Some(exit);
        self.event(Event::Exited { worker, started });
        self.perform();
        self.last_exit = None;
        for task in sent {
            // What neither ended nor went to another worker just now waits in the queue again.
            if let Some(entry) =
                self.tasks.get(&task).filter(|entry| entry.run.worker == Some(worker))
            {
                entry.cell.requeue();
            }
        }
    }

    fn perform(&mut self) {
        let mut counts_are_shown = false;
        while let Some(action) = self.parts.dispatcher.poll_action() {
            match action {
                Action::Prepare => self.prepare(),
                Action::Spawn(worker) => self.spawn(worker),
                Action::Run(worker, tasks) => self.send(worker, &tasks),
                Action::Start(task) => self.start(task),
                Action::Recall(worker, task) => self.recall(worker, task),
                Action::Close(worker) => self.tell(worker, &HostMessage::Close),
                Action::Kill(worker) => {
                    if let Some(doomed) = self.starting.get_mut(&worker) {
                        *doomed = true;
                    }
                    if let Some(process) = self.workers.get_mut(&worker) {
                        if process.modules_left > 0 {
                            let why = || "it did not become ready as a worker does".into();
                            process.failure.get_or_insert_with(why);
                        }
                        process.kill();
                    }
                }
                Action::Resolve(task, resolution) => {
                    // Before the task's handles hear of its end: who asks then finds it counted.
                    if !counts_are_shown {
                        self.parts.shared.show_counts(self.parts.dispatcher.counts());
                        counts_are_shown = true;
                    }
                    if let Some(mut entry) = self.tasks.remove(&task) {
                        entry.resolve(resolution, self.last_exit.clone(), &mut self.wakers);
                    }
                }
                Action::Broken(cause) => self.break_with(cause),
                Action::Quarantine(module) => self.quarantine(module),
                Action::Spawned(request, count) => {
                    if let Some(started) = self.spawners.remove(&request.0) {
                        // Behind the starts themselves.
                        self.parts.keeper.add(Chore::Answer { started, count });
                    }
                }
                Action::Joined => {
                    // Before the joiners look.
                    self.parts.shared.show_counts(self.parts.dispatcher.counts());
                    for (_, joiner) in self.joiners.drain() {
                        // Holds one message; a joiner that has given up wants none.
                        let _ = joiner.try_send(());
                    }
                }
                Action::Terminated => self.terminated = true,
            }
        }
    }

    fn prepare(&mut self) {
        let Some(preparation) = self.parts.preparation.take() else {
            return self.event(Event::Prepared);
        };
        let hub = self.parts.hub.clone();
        let done = move |result| {
            // A driver that is gone wants no answer.
            if let Some(hub) = hub.upgrade() {
                let _ = hub.tell(Command::Prepared(result));
            }
        };
        match PreparationThread::start(preparation, done) {
            Ok(thread) => self.preparing = Some(thread),
            Err(error) => {
                let reason = crate::RefusedReason::Compiler(error.to_string());
                self.reasons.preparation = Some(BrokenError::Preparation(reason));
                self.event(Event::PreparationFailed);
            }
        }
    }

    fn spawn(&mut self, id: WorkerId) {
        self.starting.insert(id, false);
        let name = format!("{}-worker-{id}", self.parts.pool_name);
        let setup = Setup { worker: id, name, ..self.parts.setup.clone() };
        let modules = self.parts.modules.clone();
        self.parts.keeper.add(Chore::Start { setup: Box::new(setup), modules });
    }

    fn started(&mut self, id: WorkerId, process: io::Result<Box<WorkerProcess>>) {
        let doomed = self.starting.remove(&id).unwrap_or(true);
        let mut process = match process {
            Ok(process) => process,
            Err(error) => {
                self.reasons.start = error.to_string();
                return self.event(Event::SpawnFailed(id));
            }
        };
        let info = WorkerInfo {
            id,
            name: process.name.clone(),
            pid: process.pid(),
            state: WorkerState::Starting,
            tasks_done: 0,
            memory_bytes: None,
            since: Instant::now(),
        };
        self.infos.insert(id, info);
        let heard = self.parts.bells.add_worker(id, &process.port);
        if doomed || heard.is_err() {
            process.kill();
        }
        if let Err(error) = heard {
            let failure = Some(error.to_string());
            return self.parts.keeper.add(Chore::Bury { worker: id, process, failure });
        }
        self.workers.insert(id, *process);
        // What it has said already, and from then on it rings.
        self.hear(id);
    }

    fn send(&mut self, worker: WorkerId, tasks: &[TaskId]) {
        let mut withheld = Vec::new();
        for task in tasks {
            let (Some(entry), Some(process)) =
                (self.tasks.get_mut(task), self.workers.get_mut(&worker))
            else {
                continue;
            };
            let slot = process.next_slot();
            if !entry.cell.claim(Sent { page: process.page.clone(), slot }) {
                withheld.push(*task);
                continue;
            }
            process.sends(*task);
            entry.set_slot(slot);
            let attempt = entry.run.attempt + 1;
            entry.run = RunState { worker: Some(worker), attempt, ..RunState::default() };
            let descriptors: Vec<_> = entry.descriptors.iter().map(AsFd::as_fd).collect();
            if process.port.send(&entry.message, &descriptors).is_err() {
                // It reads nothing, or is gone: its reader will tell the rest.
                process.kill();
                break;
            }
        }
        self.unflushed.push(worker);
        for task in withheld {
            self.event(Event::Withheld { worker, task });
        }
    }

    fn recall(&mut self, worker: WorkerId, task: TaskId) {
        let is_there = self.workers.contains_key(&worker);
        let holds = |entry: &&mut TaskEntry| is_there && entry.run.worker == Some(worker);
        let Some(entry) = self.tasks.get_mut(&task).filter(holds) else { return };
        // Else it has started, as its worker says next: the answers before it are on their way.
        if entry.cell.recall() {
            entry.cell.requeue();
            let attempt = entry.run.attempt - 1;
            entry.run = RunState { attempt, ..RunState::default() };
            self.event(Event::TakenBack { worker, task });
        }
    }

    fn start(&mut self, task: TaskId) {
        // A task that was withheld has no worker to start on.
        let Some(entry) = self.tasks.get_mut(&task) else { return };
        if entry.run.worker.is_some_and(|worker| self.workers.contains_key(&worker)) {
            entry.start();
        }
    }

    fn tell(&mut self, worker: WorkerId, message: &HostMessage) {
        if let Some(process) = self.workers.get_mut(&worker)
            && process.port.send(message, &[]).is_err()
        {
            process.kill();
        }
        self.unflushed.push(worker);
    }

    /// Said while the last of its workers' exits is handled.
    fn quarantine(&self, module: ModuleId) {
        let name = self.parts.modules.iter().find(|loadable| loadable.load.module == module);
        let quarantine = Quarantine {
            module: name.map_or_else(|| module.to_string(), |found| found.load.name.clone()),
            deaths: self.parts.quarantine_after.unwrap_or_default(),
            last: self.last_exit.clone().unwrap_or_else(WorkerExit::unknown),
        };
        self.parts.shared.quarantine(module, quarantine);
    }

    fn break_with(&mut self, cause: BrokenCause) {
        let error = self.reasons.take(cause, self.parts.setup.limits.wall_time);
        self.parts.shared.break_with(error);
    }
}
