//! Performs the dispatcher's actions: sends, starts, revokes and ends tasks; starts, closes and
//! kills workers.
//!
//! Invariant: nothing here decides. If an action fails, the dispatcher gets an event.

use std::io;
use std::time::Instant;

use stockade_wire::{
    HostMessage, ModuleId, PageSlot, SLOTS_MAX, Setup, TaskId, TaskRange, WorkerId,
};

use super::Driver;
use crate::backend::entry::Ending;
use crate::backend::failure_causes::START;
use crate::backend::own_thread::become_own_thread;
use crate::backend::request::Request;
use crate::backend::supervisor::Job;
use crate::backend::worker::WorkerProcess;
use crate::compile::prepare::PreparationThread;
use crate::outcome::error::{BrokenError, Quarantine};
use crate::outcome::exit::WorkerExit;
use crate::outcome::machine::{MachineError, MachineFault};
use crate::state::shared::{WorkerInfo, WorkerState};
use crate::state::watch;
use stockade_dispatcher::{Action, BrokenCause, EntryKey, Event, Resolution};

impl Driver {
    pub(super) fn perform(&mut self) {
        let mut counts_are_shown = false;
        while let Some(action) = self.parts.dispatcher.poll_action() {
            match action {
                Action::Prepare => self.prepare(),
                Action::Spawn(worker) => self.spawn(worker),
                Action::Run(worker, entry, tasks) => self.send(worker, entry, tasks),
                Action::Start(entry, task) => self.start(entry, task),
                Action::Recall(worker, entry, task) => self.recall(worker, entry, task),
                Action::Stop(worker, task) => self.stop(worker, task),
                Action::Close(worker) => {
                    if let Some(process) = self.workers.get_mut(&worker) {
                        process.closes();
                    }
                    self.tell(worker, &HostMessage::Close);
                }
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
                Action::Resolve(entry, tasks, resolution) => {
                    // Before the tasks' handles hear of its end: who asks then finds it counted.
                    if !counts_are_shown {
                        self.parts.shared.show_counts(self.parts.dispatcher.counts());
                        counts_are_shown = true;
                    }
                    self.resolve(entry, tasks, resolution);
                }
                Action::Broken(cause) => self.break_with(cause),
                Action::Quarantine(module) => self.quarantine(module),
                Action::Spawned(request, count) => {
                    if let Some(started) = self.spawners.remove(&request.0) {
                        // Behind the starts themselves.
                        self.parts.supervisor.add(Job::Answer { started, count });
                    }
                }
                Action::Joined => {
                    // Before the joiners look.
                    self.parts.shared.show_counts(self.parts.dispatcher.counts());
                    // Behind the burials themselves; then no process is left but the template.
                    let joiners = self.joiners.drain().map(|(_, joiner)| joiner).collect();
                    self.parts.supervisor.add(Job::Dismiss { joiners });
                }
                Action::Terminated => self.terminated = true,
            }
        }
    }

    fn resolve(&mut self, key: EntryKey, tasks: TaskRange, resolution: Resolution) {
        let Some(mut entry) = self.entries.get_mut(key) else { return };
        let worker = entry.worker_of(tasks.first());
        let ending = Ending { resolution, exit: self.last_exit.as_ref(), now: self.now };
        let are_first = entry.resolve(tasks, ending, &mut self.wakers);
        if entry.has_ended() {
            self.entries.remove(key);
        }
        if let (false, Resolution::Finished, Some(worker)) = (are_first, resolution, worker) {
            // It says that it has run what its page says was revoked before it began.
            self.event(Event::Misbehaved(worker));
        }
    }

    fn prepare(&mut self) {
        let Some(preparation) = self.parts.preparation.take() else {
            return self.event(Event::Prepared);
        };
        let event_loop = self.parts.event_loop.clone();
        let done = move |result| {
            become_own_thread();
            // A driver that is gone wants no answer.
            if let Some(event_loop) = event_loop.upgrade() {
                event_loop.put(Request::Prepared(result));
            }
        };
        match PreparationThread::start(preparation, done) {
            Ok(thread) => self.preparing = Some(thread),
            Err(error) => {
                let error = MachineError::of("start a thread that prepares the module", &error);
                self.failure_causes.preparation = Some(BrokenError::Machine(error));
                self.event(Event::PreparationFailed);
            }
        }
    }

    fn spawn(&mut self, id: WorkerId) {
        self.starting.insert(id, false);
        let name = format!("{}-worker-{id}", self.parts.pool_name);
        let setup = Setup { worker: id, name, ..self.parts.setup.clone() };
        let modules = self.parts.modules.clone();
        self.parts.supervisor.add(Job::Start { setup: Box::new(setup), modules });
    }

    pub(super) fn started(&mut self, id: WorkerId, process: io::Result<Box<WorkerProcess>>) {
        let doomed = self.starting.remove(&id).unwrap_or(true);
        let mut process = match process {
            Ok(process) => process,
            Err(error) => {
                let error = MachineError::of(START, &error);
                let is_exhausted = matches!(error.fault, MachineFault::Exhausted(_));
                self.failure_causes.start = Some(error);
                if is_exhausted {
                    self.event(Event::EndedFromOutside(id));
                }
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
        let heard = self.parts.poller.add_worker(id, &process.port);
        if doomed || heard.is_err() {
            process.kill();
        }
        if let Err(error) = heard {
            let failure = Some(error.to_string());
            return self.parts.supervisor.add(Job::Bury { worker: id, process, failure });
        }
        self.workers.insert(id, *process);
        // What it has said already, and from then on it rings.
        self.call(id);
    }

    /// Sends tasks as a batch, or as several where callers have cancelled some in between.
    fn send(&mut self, worker: WorkerId, key: EntryKey, tasks: TaskRange) {
        let (mut withheld, mut cancelled) = (Vec::new(), None);
        let mut unsent = Some(tasks);
        while let Some(tasks) = unsent
            && let Some(mut entry) = self.entries.get_mut(key)
            && let Some(process) = self.workers.get_mut(&worker)
        {
            let slot = process.next_slot();
            // Before any caller can look there, and before the worker does.
            process.page.offer(slot, tasks);
            let claimed = entry.claim(tasks, worker, &process.page, slot);
            let (sent, behind) = tasks.split_at(claimed);
            let is_done = |task: &TaskId| entry.is_done(*task);
            let done = behind.map_or(0, |behind| behind.iter().take_while(is_done).count());
            let done = u32::try_from(done).unwrap_or(u32::MAX);
            let (done, rest) = behind.map_or((None, None), |behind| behind.split_at(done));
            if behind.is_some() {
                let place = PageSlot { slot, first: tasks.first(), index: claimed };
                let _ = process.page.revoke_from(place);
            }
            let is_cut_short = rest.is_some() && process.sent.len() >= SLOTS_MAX / 2;
            let sent = if is_cut_short { Some(tasks) } else { sent };
            let Some(sent) = sent else {
                withheld.extend(done);
                unsent = rest;
                continue;
            };
            let loan = entry.place(sent, &mut process.files);
            process.sends(key, sent, loan.as_ref().map(|loan| loan.memory.clone()));
            if entry.send(sent, slot, loan.as_ref(), &mut process.port).is_err() {
                // It reads nothing, or is gone: its reader will tell the rest.
                process.kill();
                break;
            }
            if let (true, Some(done)) = (is_cut_short, done) {
                // No slot is to spare for the rest: it is queued again.
                process.was_revoked(done.first());
                cancelled = Some(done);
                break;
            }
            withheld.extend(done);
            unsent = rest;
        }
        self.unflushed.push(worker);
        for tasks in withheld {
            self.event(Event::Withheld { worker, tasks });
        }
        if let Some(tasks) = cancelled {
            self.event(Event::Cancel(tasks));
        }
    }

    fn recall(&mut self, worker: WorkerId, key: EntryKey, task: TaskId) {
        // Else it has started, as its worker says next: the answers before it are on their way.
        if let Some(process) = self.workers.get_mut(&worker)
            && let Some(revoked) = process.revoke_from(task)
        {
            if let Some(mut entry) = self.entries.get_mut(key) {
                entry.returned(revoked, worker);
            }
            self.event(Event::TakenBack { worker, task: revoked.first() });
        }
    }

    fn stop(&mut self, worker: WorkerId, task: TaskId) {
        // Else its answer, or its worker's end, is on its way.
        if self.workers.get(&worker).is_some_and(|process| process.is_alone_at(task)) {
            self.event(Event::Stoppable { worker, task });
        }
    }

    fn start(&mut self, key: EntryKey, task: TaskId) {
        // A task that was withheld has no worker to start on.
        let Some(mut entry) = self.entries.get_mut(key) else { return };
        if entry.worker_of(task).is_some_and(|worker| self.workers.contains_key(&worker)) {
            entry.start(task, self.now, &mut self.wakers);
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
    fn quarantine(&mut self, module: ModuleId) {
        let name = self.parts.modules.iter().find(|loadable| loadable.load.module == module);
        let quarantine = Quarantine {
            module: name.map_or_else(|| module.to_string(), |found| found.load.name.clone()),
            deaths: self.parts.quarantine_after.unwrap_or_default(),
            last: self.last_exit.clone().unwrap_or_else(WorkerExit::unknown),
        };
        let (pool, cause) = (self.parts.pool_name.clone(), quarantine.to_string());
        self.wakers.push(watch::later(move || {
            tracing::info!(target: "stockade::pool", pool, cause, "a module is under quarantine");
        }));
        self.parts.shared.quarantine(module, quarantine);
    }

    fn break_with(&mut self, cause: BrokenCause) {
        let error = self.failure_causes.take(cause, self.parts.setup.limits.wall_time);
        let (pool, cause) = (self.parts.pool_name.clone(), error.to_string());
        self.wakers.push(watch::later(move || {
            tracing::info!(target: "stockade::pool", pool, cause, "a pool is broken");
        }));
        self.wakers.append(&mut self.parts.shared.break_with(error));
    }
}
