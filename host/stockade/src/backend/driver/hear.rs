//! Receives workers' messages, from their rings and sockets, and turns them into the dispatcher's
//! events; and handles workers' ends.
//!
//! A worker that has rung is *called*: it is in a queue, once, until its messages are received.
//! Each turn receives a number of steps from workers at the front, a share from each; a worker with
//! more messages goes to the end.
//!
//! Invariant: a worker is hostile. Its messages are checked against the tasks that it holds; one
//! turn receives a bounded number of them; and messages that answer nothing are bounded for the
//! worker's life by its [`Allowance`](crate::process::allowance::Allowance), or not allowed.

use std::time::Duration;

use stockade_wire::frame::{Filled, FrameError};
use stockade_wire::{Heard, Outcome, Returned, TaskId, TaskRange, WorkerId, WorkerMessage};

use super::{BATCH_MAX, Driver, READ_STEPS, WORKER_STEPS_MAX};
use crate::backend::supervisor::Job;
use crate::backend::worker::{Buried, FinishedTasks};
use crate::outcome::answer::Answer;
use stockade_dispatcher::{EntryKey, Event, Hook};

impl Driver {
    /// A worker has rung, or has more to say: it is heard in this turn or in a later one.
    pub(crate) fn call(&mut self, worker: WorkerId) {
        if let Some(process) = self.workers.get_mut(&worker)
            && !std::mem::replace(&mut process.is_called, true)
        {
            self.unheard.push_back(worker);
        }
    }

    /// Hears those that were called, as far as this turn's steps go.
    pub(super) fn hear_called(&mut self) {
        for _ in 0..self.unheard.len() {
            if self.steps_left < READ_STEPS {
                break;
            }
            let Some(worker) = self.unheard.pop_front() else { break };
            let Some(process) = self.workers.get_mut(&worker) else { continue };
            process.is_called = false;
            let share = self.steps_left.min(WORKER_STEPS_MAX);
            let mut steps = share;
            if !self.hear(worker, &mut steps) {
                self.call(worker);
            }
            self.steps_left -= share - steps;
        }
    }

    /// Receives a worker's messages, from its socket and its ring, for at most `steps` steps.
    /// Returns whether that was all, after which it rings again.
    fn hear(&mut self, worker: WorkerId, steps: &mut usize) -> bool {
        self.now = self.epoch.elapsed();
        while let Some(left) = steps.checked_sub(READ_STEPS) {
            *steps = left;
            let Some(process) = self.workers.get_mut(&worker) else { return true };
            let before = process.heard;
            let filled = process.port.fill();
            if !self.hear_written(worker, steps) {
                return false;
            }
            match filled {
                Ok(Filled::Some) => self.count_read(worker, before),
                Ok(Filled::Nothing) => return true,
                // What it wrote before is heard: nothing follows.
                Ok(Filled::End) => self.lose(worker, None),
                Err(error) => self.lose(worker, Some(error)),
            }
        }
        false
    }

    /// Something was read of a worker's socket, when it had said so many messages.
    fn count_read(&mut self, worker: WorkerId, before: u64) {
        if let Some(process) = self.workers.get_mut(&worker)
            && process.heard == before
        {
            if !process.sent.is_empty() {
                // It rang for what a look had found already, and may not ring for what it says next.
                self.looks.heard(self.epoch.elapsed(), self.dozes);
            }
            if process.allowance.read(process.port.has_part()) {
                return;
            }
            process.failure.get_or_insert_with(|| "it rings for nothing, again and again".into());
            self.event(Event::Misbehaved(worker));
        }
    }

    /// Hears what workers with tasks have written and not rung for, as far as this turn's steps go. Says
    /// whether that was anything.
    pub(crate) fn hear_busy(&mut self) -> bool {
        self.now = self.epoch.elapsed();
        let before = self.heard;
        for worker in self.busy() {
            let share = self.steps_left.min(WORKER_STEPS_MAX);
            let mut steps = share;
            if !self.hear_written(worker, &mut steps) {
                self.call(worker);
            }
            self.steps_left -= share - steps;
        }
        self.heard > before
    }

    /// As [`hear_busy`](Self::hear_busy), but from each worker up to [`BATCH_MAX`] messages, without this
    /// turn's limit: for a passed deadline, which any answer moves.
    pub(super) fn hear_before_deadlines(&mut self) {
        self.now = self.epoch.elapsed();
        for worker in self.busy() {
            let mut steps = BATCH_MAX;
            if !self.hear_written(worker, &mut steps) {
                self.call(worker);
            }
        }
    }

    fn busy(&self) -> Vec<WorkerId> {
        let busy = self.workers.iter().filter(|(_, process)| !process.sent.is_empty());
        busy.map(|(&worker, _)| worker).collect()
    }

    /// Has no worker with tasks ring, as the caller looks for what they write until it hears it. Says
    /// how many there are.
    pub(crate) fn stay_awake(&self) -> usize {
        let busy = self.workers.values().filter(|process| !process.sent.is_empty());
        busy.inspect(|process| process.port.stay_awake()).count()
    }

    /// Whether the caller looks again by itself when a look is due: then a worker rings before that only
    /// if it has nothing more to do.
    pub(crate) fn doze(&mut self, dozes: bool) {
        self.dozes = dozes;
    }

    /// Whether a worker with tasks has written something that was not heard.
    pub(crate) fn has_written(&self) -> bool {
        self.workers.values().any(|process| !process.sent.is_empty() && process.port.has_written())
    }

    /// Receives messages that need no system call, one a step. Returns whether that was all.
    fn hear_written(&mut self, worker: WorkerId, steps: &mut usize) -> bool {
        let before = self.heard;
        let is_all = self.hear_messages(worker, steps);
        self.settle_finished(worker);
        let has_more = self.workers.get(&worker).is_some_and(|process| !process.sent.is_empty());
        if self.heard > before && has_more {
            // Whatever it said, it may have rung for it, and not for what it says next: that counts from
            // now, however long this turn has taken.
            self.looks.heard(self.epoch.elapsed(), self.dozes);
        }
        is_all
    }

    fn hear_messages(&mut self, worker: WorkerId, steps: &mut usize) -> bool {
        let before = self.heard;
        while let Some(left) = steps.checked_sub(1) {
            let Some(process) = self.workers.get_mut(&worker) else { return true };
            match process.port.hear() {
                Ok(Some(heard)) => {
                    process.heard += 1;
                    process.allowance.message();
                    self.heard += 1;
                    match heard {
                        Heard::Returned(returned) => self.returned(worker, &returned),
                        Heard::Message(message) => self.message(worker, message),
                    }
                }
                // A worker that is not to ring has tasks, so that the next look includes it, and there
                // is such a look.
                Ok(None)
                    if self.dozes
                        && !process.sent.is_empty()
                        && (self.heard > before || self.looks.is_due()) =>
                {
                    if process.port.may_doze() {
                        self.looks.heard(self.epoch.elapsed(), self.dozes);
                        return true;
                    }
                }
                Ok(None) if process.port.may_sleep() => return true,
                Ok(None) => {}
                Err(error) => {
                    self.lose(worker, Some(error));
                    return true;
                }
            }
            *steps = left;
        }
        false
    }

    /// Handles a worker's message: checks whether it is allowed, then reports it to the dispatcher.
    fn message(&mut self, worker: WorkerId, message: WorkerMessage) {
        let message = match message {
            WorkerMessage::Finished(finished) => {
                let answer = Answer { finished, memory: None, dump: None };
                return self.finished(worker, answer);
            }
            message => message,
        };
        // What it said before.
        self.settle_finished(worker);
        let Some(process) = self.workers.get_mut(&worker) else { return };
        match message {
            WorkerMessage::Ready(_) if !process.is_set_up => process.is_set_up = true,
            WorkerMessage::Loaded(_) if process.modules_left > 0 => {
                process.modules_left -= 1;
                if process.modules_left == 0 {
                    self.event(Event::Ready(worker));
                }
            }
            WorkerMessage::Closed if !process.has_closed => {
                process.has_closed = true;
                self.event(Event::Closed(worker));
            }
            WorkerMessage::SetupFailed(why) | WorkerMessage::LoadFailed(_, why) => {
                process.failure = Some(why);
                self.event(Event::Misbehaved(worker));
            }
            WorkerMessage::InitializerFailed(failure) if self.has_hook(Hook::Initializer) => {
                self.failure_causes.hook = Some(failure);
                self.event(Event::HookFailed { worker, hook: Hook::Initializer });
            }
            WorkerMessage::FinalizerFailed(failure) if self.has_hook(Hook::Finalizer) => {
                self.failure_causes.hook = Some(failure);
                self.event(Event::HookFailed { worker, hook: Hook::Finalizer });
            }
            // An initializer or a finalizer belongs to no task: its items go nowhere.
            WorkerMessage::Emitted(TaskId(0), item) => {
                if !self.takes_hook_item(worker, item.len()) {
                    self.event(Event::Misbehaved(worker));
                }
            }
            WorkerMessage::Emitted(task, item) => self.emitted(worker, task, item),
            WorkerMessage::Dumped { task, piece, left_out } => {
                self.dumped(worker, task, piece, left_out);
            }
            WorkerMessage::Finished(_)
            | WorkerMessage::Closed
            | WorkerMessage::Ready(_)
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

    /// Whether a worker's hook may have emitted an item of so many bytes. An initializer runs before the
    /// first task and in every instance that takes another's place; a finalizer once it is to close.
    fn takes_hook_item(&mut self, worker: WorkerId, bytes: usize) -> bool {
        let (initializer, finalizer) =
            (self.has_hook(Hook::Initializer), self.has_hook(Hook::Finalizer));
        let Some(process) = self.workers.get_mut(&worker) else { return false };
        let may_run = initializer || finalizer && process.is_closing;
        may_run && process.allowance.hook_item(bytes)
    }

    fn emitted(&mut self, worker: WorkerId, task: TaskId, item: Vec<u8>) {
        // Whether the task has started may be among what is not performed yet.
        self.perform();
        let sent = self.workers.get(&worker).and_then(|process| process.sent.front());
        let is_next = |rest: TaskRange| rest.first() == task;
        let key = sent.filter(|sent| sent.rest.is_some_and(is_next)).map(|sent| sent.entry);
        let entry = key.and_then(|key| self.entries.get_mut(key));
        if !entry.is_some_and(|mut entry| entry.emit(task, worker, item)) {
            self.event(Event::Misbehaved(worker));
        }
    }

    fn dumped(&mut self, worker: WorkerId, task: TaskId, piece: Vec<u8>, left_out: u64) {
        let wanted = self.parts.setup.coredumps.as_ref();
        let process = self.workers.get_mut(&worker);
        let may = wanted
            .zip(process)
            .is_some_and(|(wanted, process)| process.dumps(task, piece, left_out, wanted));
        if !may {
            self.event(Event::Misbehaved(worker));
        }
    }

    /// A task has returned, which is all that is to be said of most.
    fn returned(&mut self, worker: WorkerId, returned: &Returned) {
        let Some(process) = self.workers.get_mut(&worker) else { return };
        let output = process.port.output_of(returned);
        let key = process.entry_of_next(returned.task);
        if let Some(mut entry) = key.and_then(|key| self.entries.get_mut(key))
            && entry.answer_shortly(worker, returned, output, self.now)
        {
            process.allowance.hook_may_run();
            process.answered();
            // Of a trap, which it did not come to.
            drop(process.take_dump(returned.task));
            let wall_time = Duration::from_nanos(returned.wall_nanos);
            let before = process.finishes(returned.task, wall_time);
            return self.tell_finished(worker, before);
        }
        let finished = returned.to_finished(output);
        self.finished(worker, Answer { finished, memory: None, dump: None });
    }

    fn finished(&mut self, worker: WorkerId, mut answer: Answer) {
        let finished = &answer.finished;
        let task = finished.task;
        if finished.outcome == Outcome::Recalled {
            self.settle_finished(worker);
            return self.handed_back(worker, task);
        }
        let Some(process) = self.workers.get_mut(&worker) else { return };
        let Some((key, memory)) = process.answers(task) else {
            return self.event(Event::Misbehaved(worker));
        };
        let dump = process.take_dump(task);
        let wall_time = finished.metrics.wall_time;
        let is_failed = matches!(finished.outcome, Outcome::Failed(_));
        let dump = dump.filter(|_| is_failed && self.coredumps_left > 0);
        let has_dump = dump.is_some();
        answer.memory = memory.filter(|_| matches!(finished.outcome, Outcome::InFile(_)));
        answer.dump = dump;
        let mut entry = self.entries.get_mut(key);
        let is_accepted =
            entry.as_mut().is_some_and(|entry| entry.answer(worker, &mut answer, self.now));
        // A task whose answer is refused is still this worker's when it is buried.
        if is_accepted || !entry.is_some_and(|entry| entry.has(task, worker)) {
            process.answered();
        }
        if !is_accepted {
            self.settle_finished(worker);
            return self.event(Event::Misbehaved(worker));
        }
        self.coredumps_left -= u32::from(has_dump);
        let before = process.finishes(task, wall_time);
        self.tell_finished(worker, before);
    }

    /// Tells the dispatcher what a worker has finished and it has not heard of.
    fn settle_finished(&mut self, worker: WorkerId) {
        let process = self.workers.get_mut(&worker);
        let finished = process.and_then(|process| process.finished.take());
        self.tell_finished(worker, finished);
    }

    fn tell_finished(&mut self, worker: WorkerId, finished: Option<FinishedTasks>) {
        let Some(FinishedTasks { tasks, wall_time }) = finished else { return };
        if let Some(info) = self.infos.get_mut(&worker) {
            info.tasks_done += u64::from(tasks.count());
        }
        self.event(Event::Finished { worker, tasks, wall_time });
    }

    /// A worker says that it has not run a batch from `task` on.
    fn handed_back(&mut self, worker: WorkerId, task: TaskId) {
        let Some(process) = self.workers.get_mut(&worker) else { return };
        let Some((key, rest)) = process.hands_back(task) else {
            return self.event(Event::Misbehaved(worker));
        };
        let entry = self.entries.get_mut(key).filter(|entry| entry.is_of(task));
        if let (Some(rest), Some(mut entry)) = (rest, entry) {
            match (entry.has(task, worker), entry.is_done(task)) {
                // Nobody has revoked it. It is still this worker's when it is buried.
                (true, false) => return self.event(Event::Misbehaved(worker)),
                // By its caller, whose request is on its way.
                (true, true) => {
                    let is_done = |task: &TaskId| entry.is_done(*task);
                    let done = rest.iter().take_while(is_done).count();
                    let (done, behind) = rest.split_at(u32::try_from(done).unwrap_or(u32::MAX));
                    if let Some(behind) = behind {
                        entry.returned(behind, worker);
                    }
                    done.into_iter().for_each(|tasks| self.event(Event::Cancel(tasks)));
                }
                // It ended, and its worker is about to.
                (false, _) => entry.returned(rest, worker),
            }
        }
        if let Some(process) = self.workers.get_mut(&worker) {
            process.handed_back();
        }
        self.event(Event::HandedBack { worker, task });
    }

    /// A worker's stream has ended, or it sent what is no message: nothing more is heard of it.
    fn lose(&mut self, worker: WorkerId, error: Option<FrameError>) {
        // What it answered before that counts.
        self.settle_finished(worker);
        let Some(process) = self.workers.remove(&worker) else { return };
        self.parts.poller.remove_worker(&process.port);
        let failure = process.failure.clone().or(error.map(|error| error.to_string()));
        self.parts.supervisor.add(Job::Bury { worker, process: Box::new(process), failure });
    }

    pub(super) fn buried(&mut self, buried: Buried) {
        let is_from_outside = buried.is_from_outside();
        let Buried { worker, exit, started, sent, failure, .. } = buried;
        self.infos.remove(&worker);
        // Before there is an exit to be told.
        self.perform();
        self.failure_causes.note_end(&exit, failure);
        if is_from_outside {
            self.event(Event::EndedFromOutside(worker));
        }
        let (lost, returned) = split_behind(&sent, started);
        for (key, tasks) in returned {
            // What it had not come to was no attempt.
            if let Some(mut entry) = self.entries.get_mut(key) {
                entry.returned(tasks, worker);
            }
        }
        for (key, tasks) in &lost {
            if let Some(mut entry) = self.entries.get_mut(*key) {
                entry.lost(*tasks, worker);
            }
        }
        self.last_exit = Some(exit);
        self.event(Event::Exited { worker, started });
        self.perform();
        self.last_exit = None;
        for (key, tasks) in lost {
            // What neither ended nor went to another worker just now waits in the queue again.
            if let Some(mut entry) = self.entries.get_mut(key) {
                entry.requeue(tasks, worker);
            }
        }
    }
}

type Tasks = Vec<(EntryKey, TaskRange)>;

/// What a worker had, in its order: up to the task that it had started, and behind that.
fn split_behind(sent: &Tasks, started: Option<TaskId>) -> (Tasks, Tasks) {
    let at = |(_, tasks): &(EntryKey, TaskRange)| started.is_some_and(|task| tasks.contains(task));
    let (Some(last), Some(started)) = (sent.iter().position(at), started) else {
        return (Vec::new(), sent.clone());
    };
    let (mut lost, mut returned) = (sent[..last].to_vec(), Vec::new());
    let (key, tasks) = sent[last];
    let index = tasks.index_of(started).map_or(tasks.count(), |index| index + 1);
    let (with, behind) = tasks.split_at(index);
    lost.extend(with.map(|tasks| (key, tasks)));
    returned.extend(behind.map(|tasks| (key, tasks)));
    returned.extend_from_slice(&sent[last + 1..]);
    (lost, returned)
}
