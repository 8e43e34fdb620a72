//! The driver: performs what the dispatcher decides, and tells it what happened.
//!
//! ```text
//! Pool, TaskHandle ──Command──►┐                        ┌──► WorkerProcess ──► socket
//! reader threads ────Heard────►│ Driver ──Event──► Dispatcher
//! clock ──────────────────────►┘        ◄──Action──     └──► TaskCell (results, in any order)
//! ```
//!
//! One thread owns the clock, the processes and the payloads. It never blocks but on its channels
//! and, for about a millisecond, on the start and the end of a process; so a worker that does not
//! read, a caller that does not collect and a guest that does not end hold up nobody else.
//!
//! Deliberately absent: decisions. Which task runs where, and what a death means, is the
//! [`Dispatcher`]'s to say.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use stockade_wire::{
    Finished, HostMessage, ModuleId, Outcome, Setup, TaskId, WorkerId, WorkerMessage,
};

use crate::cell::Sent;
use crate::dispatcher::{Action, BrokenCause, Dispatcher, Event, Hook, RequestId, ShutdownMode};
use crate::entry::{RunState, TaskEntry};
use crate::prepare::{Preparation, PreparationThread};
use crate::process::Starter;
use crate::reasons::Reasons;
use crate::shared::{Shared, WorkerInfo, WorkerState};
use crate::worker::{Heard, Loadable, WorkerProcess};
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
    Shutdown(ShutdownMode),
}

/// What the driver is made of.
pub(crate) struct Parts {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) program: PathBuf,
    /// For every worker but its number and name.
    pub(crate) setup: Setup,
    pub(crate) pool_name: String,
    pub(crate) modules: Vec<Loadable>,
    pub(crate) preparation: Option<Preparation>,
    pub(crate) quarantine_after: Option<u32>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: Receiver<Command>,
    pub(crate) commands_sender: Sender<Command>,
}

pub(crate) struct Driver {
    parts: Parts,
    epoch: Instant,
    starter: Starter,
    workers: HashMap<WorkerId, WorkerProcess>,
    tasks: HashMap<TaskId, TaskEntry>,
    heard: (Sender<HeardFrom>, Receiver<HeardFrom>),
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

type HeardFrom = (WorkerId, Heard);

/// Events handled before the clock and the counters are looked at again.
const BATCH_MAX: usize = 256;

/// How long a driver without any deadline sleeps: it has nothing to do then either.
const IDLE_WAIT: Duration = Duration::from_secs(3600);

impl Driver {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            prepared_module: parts.preparation.as_ref().map(|preparation| preparation.module),
            starter: Starter::new(parts.program.clone()),
            parts,
            epoch: Instant::now(),
            workers: HashMap::new(),
            tasks: HashMap::new(),
            heard: crossbeam_channel::bounded(crate::worker::HEARD_MAX),
            joiners: HashMap::new(),
            spawners: HashMap::new(),
            preparing: None,
            reasons: Reasons::default(),
            last_exit: None,
            terminated: false,
        }
    }

    /// Runs until the pool has terminated.
    pub(crate) fn run(mut self) {
        let (commands, heard) = (self.parts.commands.clone(), self.heard.1.clone());
        while !self.terminated {
            self.publish();
            let timeout = self.parts.dispatcher.poll_timeout();
            let wait = timeout.map_or(IDLE_WAIT, |at| at.saturating_sub(self.epoch.elapsed()));
            crossbeam_channel::select! {
                recv(commands) -> command => if let Ok(command) = command { self.command(command) },
                recv(heard) -> heard => if let Ok((worker, heard)) = heard { self.hear(worker, heard) },
                default(wait) => {}
            }
            for _ in 0..BATCH_MAX {
                // Both, so that neither a flood of tasks nor one of results starves the other.
                let (command, heard) = (commands.try_recv(), heard.try_recv());
                if command.is_err() && heard.is_err() {
                    break;
                }
                if let Ok(command) = command {
                    self.command(command);
                }
                if let Ok((worker, heard)) = heard {
                    self.hear(worker, heard);
                }
            }
            let now = self.epoch.elapsed();
            if self.parts.dispatcher.poll_timeout().is_some_and(|at| at <= now) {
                self.parts.dispatcher.handle_timeout(now);
                self.perform();
            }
        }
        // Ends a preparation under way. Whatever is still in the channel ends as it is dropped.
        self.preparing = None;
        self.publish();
    }

    /// Shows callers how things stand.
    fn publish(&self) {
        let Parts { dispatcher, shared, .. } = &self.parts;
        shared.publish(dispatcher.counts(), dispatcher.phases());
    }

    fn event(&mut self, event: Event) {
        self.parts.dispatcher.handle_event(self.epoch.elapsed(), event);
        self.perform();
    }

    /// Tells the dispatcher while its actions are being performed; what follows is performed next.
    fn note(&mut self, event: Event) {
        self.parts.dispatcher.handle_event(self.epoch.elapsed(), event);
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
            Command::Shutdown(mode) => self.event(Event::Shutdown(mode)),
        }
    }

    /// Takes what a worker said: checks who may say it, then tells the dispatcher.
    fn hear(&mut self, worker: WorkerId, heard: Heard) {
        let message = match heard {
            Heard::Message(message) => message,
            Heard::End(error) => return self.bury(worker, error),
        };
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
        let recalled = finished.outcome == Outcome::Recalled;
        let Some(entry) = self.tasks.get_mut(&task) else {
            return self.event(Event::Misbehaved(worker));
        };
        // By its caller, whose command may still be on its way.
        let taken_back = entry.cell.done().is_some();
        if entry.run.worker != Some(worker) || !entry.accepts(&finished) || taken_back && !recalled
        {
            return self.event(Event::Misbehaved(worker));
        }
        entry.run.finished = Some(finished);
        if let Some(process) = self.workers.get_mut(&worker) {
            process.sent.retain(|sent| *sent != task);
        }
        if !recalled {
            self.parts.shared.worker_finished_task(worker);
        }
        if taken_back {
            self.event(Event::Cancel(task));
        }
        self.event(Event::Finished { worker, task, recalled });
    }

    fn bury(&mut self, worker: WorkerId, error: Option<stockade_wire::frame::FrameError>) {
        let Some(process) = self.workers.remove(&worker) else { return };
        let (page, sent) = (process.page.clone(), process.sent.clone());
        let failure = process.failure.clone().or(error.map(|error| error.to_string()));
        let exit = process.bury();
        // Read after the death, when nothing writes it any more.
        let started = page.started();
        self.parts.shared.worker_gone(worker);
        // What it said itself tells most, then what was wrong with what it said.
        self.reasons.start = match failure {
            Some(failure) => format!("{}: {failure}", exit.worker),
            None => exit.to_string(),
        };
        self.last_exit = Some(exit);
        self.event(Event::Exited { worker, started });
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
                Action::Recall(_, task) => {
                    if let Some(entry) = self.tasks.get_mut(&task)
                        && !entry.cell.recall()
                    {
                        // The page says that it has started, before anybody here knew.
                        entry.start();
                    }
                }
                Action::Close(worker) => self.tell(worker, &HostMessage::Close),
                Action::Kill(worker) => {
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
                        entry.resolve(resolution, self.last_exit.clone());
                    }
                }
                Action::Broken(cause) => self.break_with(cause),
                Action::Quarantine(module) => self.quarantine(module),
                Action::Spawned(request, count) => {
                    // Before the one who asked looks.
                    self.publish();
                    if let Some(started) = self.spawners.remove(&request.0) {
                        // Holds one message; one who has gone wants none.
                        let _ = started.try_send(count);
                    }
                }
                Action::Joined => {
                    // Before the joiners look.
                    self.publish();
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
            return self.note(Event::Prepared);
        };
        let commands = self.parts.commands_sender.clone();
        let done = move |result| {
            // Unbounded, so it never blocks; a driver that is gone wants no answer.
            let _ = commands.send(Command::Prepared(result));
        };
        match PreparationThread::start(preparation, done) {
            Ok(thread) => self.preparing = Some(thread),
            Err(error) => {
                let reason = crate::RefusedReason::Compiler(error.to_string());
                self.reasons.preparation = Some(BrokenError::Preparation(reason));
                self.note(Event::PreparationFailed);
            }
        }
    }

    fn spawn(&mut self, id: WorkerId) {
        let name = format!("{}-worker-{id}", self.parts.pool_name);
        let setup = Setup { worker: id, name: name.clone(), ..self.parts.setup.clone() };
        let heard = self.heard.0.clone();
        match WorkerProcess::start(&mut self.starter, setup, &self.parts.modules, heard) {
            Ok(process) => {
                let info = WorkerInfo {
                    id,
                    name,
                    pid: process.pid(),
                    state: WorkerState::Starting,
                    tasks_done: 0,
                    memory_bytes: None,
                    since: Instant::now(),
                };
                self.parts.shared.worker_started(info);
                self.workers.insert(id, process);
            }
            Err(error) => {
                self.reasons.start = error.to_string();
                self.note(Event::SpawnFailed(id));
            }
        }
    }

    fn send(&mut self, worker: WorkerId, tasks: &[TaskId]) {
        let mut withheld = Vec::new();
        for (index, task) in tasks.iter().enumerate() {
            let (Some(entry), Some(process)) =
                (self.tasks.get_mut(task), self.workers.get_mut(&worker))
            else {
                continue;
            };
            // A batch goes only to a worker that holds nothing, and is no longer than there are slots.
            let slot = index as u8;
            if !entry.cell.claim(Sent { page: process.page.clone(), slot }) {
                withheld.push(*task);
                continue;
            }
            entry.set_slot(slot);
            let attempt = entry.run.attempt + 1;
            entry.run = RunState { worker: Some(worker), attempt, ..RunState::default() };
            let descriptors: Vec<_> = entry.descriptors.iter().map(AsFd::as_fd).collect();
            process.sent.push(*task);
            if process.send(&entry.message, &descriptors).is_err() {
                // It reads nothing, or is gone: its reader will tell the rest.
                process.kill();
                break;
            }
        }
        for task in withheld {
            self.note(Event::Withheld { worker, task });
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
            && process.send(message, &[]).is_err()
        {
            process.kill();
        }
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
