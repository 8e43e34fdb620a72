//! What every event means, before anybody has acted on it: what may follow, and what must.

use std::time::Duration;

use stockade_wire::{TaskId, WorkerId};

use super::super::super::{Event, Hook, Moment, RequestId, ShutdownMode, Submission};
use super::super::coverage::Coverage;
use super::{Exit, Oracle, Request, Task, Worker};

impl Oracle {
    /// A timeout is about to be handled.
    pub(in super::super) fn timeout(&mut self, now: Moment) {
        self.forget_last();
        if self.uneven_since.is_some_and(|since| now >= since + self.config.patience) {
            self.uneven_since = None;
            self.relief = Some(self.waiting());
        }
    }

    fn forget_last(&mut self) {
        self.answer = None;
        self.exit = None;
        self.stoppable.clear();
    }

    /// An event is about to be handled.
    pub(in super::super) fn event(&mut self, now: Moment, event: &Event, coverage: &mut Coverage) {
        // They answer actions, amid what follows from the event before.
        if !matches!(event, Event::TakenBack { .. } | Event::Stoppable { .. }) {
            self.forget_last();
        }
        match *event {
            Event::Submit(ref submission) => self.submit(submission, coverage),
            Event::Cancel(task) => self.cancel(now, task, coverage),
            Event::CancelRunning(task) => self.cancel_running(task, coverage),
            Event::SpawnWorkers { request, count } => self.request(request, count),
            Event::Prepared => self.prepared |= self.preparing,
            Event::PreparationFailed => self.preparation_failed = true,
            Event::Ready(id) => self.ready(now, id),
            Event::Finished { worker, task, wall_time } => self.finished(worker, task, wall_time),
            Event::TakenBack { worker, task } => self.taken_back(now, worker, task, coverage),
            Event::HandedBack { worker, task } => self.handed_back(now, worker, task, coverage),
            Event::Withheld { worker, task } => self.withheld(worker, task),
            Event::Stoppable { worker, .. } => {
                self.stoppable.insert(worker);
            }
            Event::HookFailed { worker, hook } => self.hook_fails(worker, hook),
            Event::Closed(id) => {
                if self.workers.get(&id).is_some_and(|worker| worker.close_at.is_none()) {
                    self.distrust(id);
                }
            }
            Event::Misbehaved(id) => self.distrust(id),
            Event::Exited { worker, started } => self.exits(now, worker, started, coverage),
            Event::EndedFromOutside(id) => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.ended_from_outside |= !worker.ready && !worker.killed;
                }
            }
            Event::SpawnFailed(worker) => self.exits(now, worker, None, coverage),
            Event::SetIdleTimeout(timeout) => {
                self.config.idle_timeout = timeout;
                self.idle_timeout_set_at = now;
            }
            Event::Join => self.joining = true,
            Event::JoinGivenUp => self.joining = false,
            Event::Shutdown(mode) => {
                self.shutdown = self.shutdown.max(Some(mode));
                self.drop_requests();
                if self.shutdown >= Some(ShutdownMode::Cancel) {
                    self.withdraw_all(None);
                }
                if mode == ShutdownMode::Kill {
                    let alive = self.workers.iter().filter(|(_, worker)| !worker.killed);
                    self.must_die.extend(alive.map(|(&id, _)| id));
                    self.must_recall.clear();
                }
            }
        }
    }

    fn submit(&mut self, submission: &Submission, coverage: &mut Coverage) {
        let id = submission.task;
        assert!(self.tasks.insert(id, Task::new(submission)).is_none());
        self.unresolved += 1;
        if self.shutdown.is_some() || self.broken {
            self.must_end.push(id);
        } else if self.quarantined.contains(&submission.module) {
            coverage.see("situation: a quarantined module got no more tasks");
            self.must_end.push(id);
        } else {
            self.enqueue(id, true);
            if self.queue.last() != Some(&id) {
                coverage.see("situation: a task overtook others");
            }
        }
    }

    fn cancel(&mut self, now: Moment, id: TaskId, coverage: &mut Coverage) {
        let Some(task) = self.tasks.get_mut(&id).filter(|task| task.resolution.is_none()) else {
            return;
        };
        task.cancel_asked = true;
        self.must_end.push(id);
        let holder = self.workers.iter().find(|(_, worker)| worker.holds(id));
        if let Some((&worker_id, worker)) = holder {
            if worker.front() == Some(id) {
                coverage.see("situation: a first task was taken back");
            }
            self.leave_ghost(now, worker_id, id);
        }
    }

    /// A stop came too late: somebody's answer, or the end of patience, is waited for.
    pub(in super::super) fn stop_is_late(&mut self, now: Moment, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.stopping_since.get_or_insert(now);
        if !worker.distrusted && self.shutdown != Some(ShutdownMode::Kill) {
            self.must_die.retain(|other| *other != id);
        }
        let front = worker.front();
        self.must_end.retain(|task| Some(*task) != front);
    }

    /// A worker that was killed for the sake of one task has cost no other, unless that was to be
    /// stopped as well.
    pub(in super::super) fn check_exit(&self) {
        let Some(exit) = self.exit.as_ref().filter(|exit| exit.was_alone) else { return };
        let spared = exit.lost_tasks().iter().all(|task| self.tasks[task].stop_asked);
        assert!(spared, "a task was lost for the sake of another");
    }

    fn cancel_running(&mut self, id: TaskId, coverage: &mut Coverage) {
        let holder = self.workers.values().find(|worker| worker.holds(id));
        let Some(task) = self.tasks.get_mut(&id).filter(|task| task.resolution.is_none()) else {
            return;
        };
        task.stop_asked = true;
        let runs = |worker: &Worker| !worker.killed && worker.front() == Some(id);
        let is_stopping = |worker: &Worker| worker.stopping_since.is_some();
        if holder.is_none_or(|worker| runs(worker) && !is_stopping(worker)) {
            if holder.is_none() && task.losses > 0 {
                coverage.see("situation: a lost task was ended in the queue");
            }
            self.must_end.push(id);
        }
        for worker in self.workers.values_mut() {
            let sent = worker.window.iter_mut().find(|sent| sent.task == id && !sent.is_ghost());
            if let Some(sent) = sent {
                sent.is_recalled = true;
            }
        }
    }

    /// A worker's latest sending of a task will come back, and counts as never made.
    fn leave_ghost(&mut self, now: Moment, worker: WorkerId, id: TaskId) {
        let window = &mut self.workers.get_mut(&worker).unwrap().window;
        let sent = window.iter_mut().find(|sent| sent.task == id && !sent.is_ghost());
        sent.expect("a task that is here").ghost_since = Some(now);
        self.was_not_given(worker);
    }

    fn was_not_given(&mut self, worker: WorkerId) {
        let worker = self.workers.get_mut(&worker).unwrap();
        worker.assigned -= 1;
        worker.retired &= !self.may_unretire;
    }

    fn taken_back(&mut self, now: Moment, worker: WorkerId, id: TaskId, coverage: &mut Coverage) {
        if !self.workers.get(&worker).is_some_and(|worker| worker.holds(id)) {
            return;
        }
        self.leave_ghost(now, worker, id);
        let task = self.tasks.get_mut(&id).unwrap();
        task.was_taken_back = true;
        if task.stop_asked || self.refusal(id).is_some() {
            self.must_end.push(id);
            return;
        }
        if self.is_overdue(now, &self.workers[&worker]) {
            coverage.see("situation: nobody waited behind a slow task");
        } else if self.idle() > 0 {
            coverage.see("situation: an idle worker was given another's tasks");
        }
        self.enqueue(id, false);
    }

    fn handed_back(&mut self, now: Moment, id: WorkerId, task: TaskId, coverage: &mut Coverage) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.window.front().is_some_and(|sent| sent.is_ghost() && sent.task == task) {
            worker.window.pop_front();
            worker.begin(now);
            if self.tasks[&task].cancel_asked {
                coverage.see("situation: a task was handed back to its caller");
            }
        } else {
            self.distrust(id);
        }
    }

    fn withheld(&mut self, id: WorkerId, task: TaskId) {
        if self.workers.get(&id).is_some_and(|worker| worker.holds(task)) {
            self.tasks.get_mut(&task).unwrap().withheld = true;
            self.must_end.push(task);
        }
    }

    fn request(&mut self, request: RequestId, count: Option<usize>) {
        let running = self.workers.values().filter(|worker| worker.is_running()).count();
        let waits = |worker: &&Worker| worker.is_starting() || worker.is_idle();
        let coming = self.workers.values().filter(waits).count() + self.requested;
        let needed = (self.unresolved - running).saturating_sub(coming);
        let room = self.config.workers_max - self.active() - self.requested;
        let is_open = self.shutdown.is_none() && !self.broken;
        let granted = if is_open { count.unwrap_or(needed).min(room) } else { 0 };
        self.requested += granted;
        self.requests.push(Request { id: request, granted, started: 0 });
    }

    fn ready(&mut self, now: Moment, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.is_starting() {
            worker.ready = true;
            worker.idle_since = now;
            self.starts_failed = 0;
            self.ended_since = None;
        } else {
            self.distrust(id);
        }
    }

    fn finished(&mut self, id: WorkerId, task: TaskId, wall_time: Duration) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.front() == Some(task) {
            worker.took(wall_time, self.config.window_time);
            self.answer = Some((id, task));
            self.must_end.push(task);
        } else {
            self.distrust(id);
        }
    }

    fn hook_fails(&mut self, id: WorkerId, hook: Hook) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.killed {
            return;
        }
        if hook == Hook::Initializer || worker.close_at.is_some() {
            worker.excused = true;
            self.hook_failed = Some(hook);
            self.must_die.push(id);
        } else {
            self.distrust(id);
        }
    }

    fn distrust(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id)
            && !worker.killed
        {
            worker.distrusted = true;
            self.must_die.push(id);
        }
    }

    fn exits(
        &mut self,
        now: Moment,
        id: WorkerId,
        started: Option<TaskId>,
        coverage: &mut Coverage,
    ) {
        let Some(worker) = self.workers.remove(&id) else { return };
        if worker.failed() {
            if now >= self.paused_until {
                let pause = self.config.backoff_min * 2_u32.pow(self.pauses);
                self.paused_until = now + pause.min(self.config.backoff_max);
                self.pauses += 1;
            }
            if !worker.ready && worker.ended_from_outside {
                coverage.see("situation: a start was ended from outside");
                let tried_for = now - *self.ended_since.get_or_insert(now);
                let patience = self.config.start_patience;
                self.may_break = patience.is_some_and(|patience| tried_for >= patience);
                if self.may_break && tried_for > Duration::ZERO {
                    coverage.see("situation: starts were ended from outside for too long");
                }
            } else if !worker.ready {
                self.starts_failed += 1;
                self.may_break = self.starts_failed >= self.config.start_failures_max;
            }
        }
        let was_quarantined = self.quarantined.clone();
        if worker.is_at_fault() {
            self.blame(&worker, started);
        }
        let exit = Exit::new(&worker, started);
        if exit.window.len() < worker.window.len() {
            coverage.see("situation: a worker died with ghosts");
        }
        for (index, id) in exit.window.iter().enumerate() {
            let task = self.tasks.get_mut(id).unwrap();
            if index < exit.lost {
                task.losses += 1;
            } else if index == 0 && worker.is_at_fault() {
                task.returns += 1;
            }
            if task.losses > task.submission.retries || task.returns > self.config.requeues_max {
                self.must_end.push(*id);
            }
            if task.stop_asked {
                self.must_end.push(*id);
            }
            if self.quarantined.contains(&task.submission.module) {
                if index < exit.lost && task.losses <= task.submission.retries {
                    coverage.see("situation: a quarantine cost a task its retry");
                }
                self.must_end.push(*id);
            }
        }
        if exit.lost > 1 {
            coverage.see("situation: several tasks were lost together");
        }
        for id in exit.window.iter().rev() {
            self.enqueue(*id, false);
        }
        let comes_back =
            |id: &TaskId| self.queue.first() != Some(id) && !self.must_end.contains(id);
        if exit.window.front().is_some_and(comes_back) {
            coverage.see("situation: a task came back behind a higher priority");
        }
        self.exit = Some(exit);
        self.must_quarantine = self.quarantined.difference(&was_quarantined).next().copied();
    }

    /// Holds a death against the module of what the worker had started, or stood first.
    fn blame(&mut self, worker: &Worker, started: Option<TaskId>) {
        let named = started.filter(|started| worker.holds(*started));
        let Some(culprit) = named.or(worker.tasks().next()) else { return };
        let module = self.tasks[&culprit].submission.module;
        self.record.push((module, false));
        let own = self.record.iter().rev().filter(|(other, _)| *other == module);
        let losses = own.take_while(|(_, is_for)| !is_for).count();
        let limit = self.config.losses_in_a_row_max;
        if limit.is_some_and(|limit| losses as u64 >= u64::from(limit))
            && self.quarantined.insert(module)
        {
            self.withdraw_all(Some(module));
        }
    }
}
