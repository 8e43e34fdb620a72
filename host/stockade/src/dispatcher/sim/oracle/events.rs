//! What every event means, before anybody has acted on it: what may follow, and what must.

use stockade_wire::{TaskId, WorkerId};

use super::super::super::{CancelReason, Event, Hook, Moment, RequestId, ShutdownMode, Submission};
use super::super::coverage::Coverage;
use super::{Exit, Oracle, Request, Task, Worker};

impl Oracle {
    /// A timeout is about to be handled.
    pub(in super::super) fn timeout(&mut self) {
        self.answer = None;
        self.exit = None;
    }

    /// An event is about to be handled.
    pub(in super::super) fn event(&mut self, now: Moment, event: &Event, coverage: &mut Coverage) {
        self.timeout();
        match *event {
            Event::Submit(ref submission) => self.submit(submission, coverage),
            Event::Cancel(task) => self.cancel(now, task, coverage),
            Event::CancelRunning(task) => self.cancel_running(task, coverage),
            Event::SpawnWorkers { request, count } => self.request(request, count),
            Event::Prepared => self.prepared |= self.preparing,
            Event::PreparationFailed => self.preparation_failed = true,
            Event::Ready(id) => self.ready(now, id),
            Event::Finished { worker, task, recalled } => self.finished(worker, task, recalled),
            Event::Withheld { worker, task } => {
                if self.workers.get(&worker).is_some_and(|worker| worker.window.contains(&task)) {
                    self.tasks.get_mut(&task).unwrap().withheld = true;
                    self.must_end.push(task);
                }
            }
            Event::HookFailed { worker, hook } => self.hook_fails(worker, hook),
            Event::Closed(id) => {
                if self.workers.get(&id).is_some_and(|worker| worker.close_at.is_none()) {
                    self.distrust(id);
                }
            }
            Event::Misbehaved(id) => self.distrust(id),
            Event::Exited { worker, started } => self.exits(now, worker, started, coverage),
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
                    self.withdraw_all(CancelReason::Shutdown, None);
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
        let holder = self.workers.values().find(|worker| worker.window.contains(&id));
        let Some(task) = self.tasks.get_mut(&id).filter(|task| task.resolution.is_none()) else {
            return;
        };
        task.cancel_asked = true;
        let Some(worker) = holder else { return self.must_end.push(id) };
        task.revoked_since.get_or_insert(now);
        if worker.window.front() == Some(&id) {
            coverage.see("situation: a first task was taken back");
        } else if task.recalled.is_some() {
            coverage.see("situation: a caller took back what the pool wanted");
        }
    }

    fn cancel_running(&mut self, id: TaskId, coverage: &mut Coverage) {
        let holder = self.workers.values().find(|worker| worker.window.contains(&id));
        let Some(task) = self.tasks.get_mut(&id).filter(|task| task.resolution.is_none()) else {
            return;
        };
        if task.is_revoked() {
            return;
        }
        task.stop_asked = true;
        let runs = |worker: &Worker| !worker.killed && worker.window.front() == Some(&id);
        if holder.is_none_or(runs) {
            if holder.is_none() && task.losses > 0 {
                coverage.see("situation: a lost task was ended in the queue");
            }
            self.must_end.push(id);
        }
    }

    fn request(&mut self, request: RequestId, count: Option<usize>) {
        let holds = |worker: &&Worker| !worker.killed && !worker.window.is_empty();
        let running = self.workers.values().filter(holds).count();
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
        } else {
            self.distrust(id);
        }
    }

    fn finished(&mut self, id: WorkerId, task: TaskId, recalled: bool) {
        let Some(worker) = self.workers.get(&id) else { return };
        let is_believable = |task: &Task| {
            if recalled { task.is_withdrawn() } else { !task.is_revoked() }
        };
        let believable = worker.window.front() == Some(&task) && is_believable(&self.tasks[&task]);
        if believable {
            self.answer = Some((id, task, recalled));
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
            self.starts_failed += u32::from(!worker.ready);
        }
        let was_quarantined = self.quarantined.clone();
        if worker.is_at_fault() {
            self.blame(&worker, started);
        }
        let exit = Exit::new(&worker, started);
        for (index, id) in worker.window.iter().enumerate() {
            let task = self.tasks.get_mut(id).unwrap();
            if index < exit.lost {
                task.losses += 1;
            } else if index == 0 && worker.is_at_fault() {
                task.returns += 1;
            }
            if task.losses > task.submission.retries || task.returns > self.config.requeues_max {
                self.must_end.push(*id);
            }
            if task.is_withdrawn() {
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
        for id in worker.window.iter().rev() {
            self.enqueue(*id, false);
        }
        let comes_back =
            |id: &TaskId| self.queue.first() != Some(id) && !self.must_end.contains(id);
        if worker.window.front().is_some_and(comes_back) {
            coverage.see("situation: a task came back behind a higher priority");
        }
        self.exit = Some(exit);
        self.must_quarantine = self.quarantined.difference(&was_quarantined).next().copied();
    }

    /// Holds a death against the module of what the worker had started, or stood first.
    fn blame(&mut self, worker: &Worker, started: Option<TaskId>) {
        let named = started.filter(|started| worker.window.contains(started));
        let Some(culprit) = named.or(worker.window.front().copied()) else { return };
        let module = self.tasks[&culprit].submission.module;
        self.record.push((module, false));
        let own = self.record.iter().rev().filter(|(other, _)| *other == module);
        let losses = own.take_while(|(_, is_for)| !is_for).count();
        let limit = self.config.losses_in_a_row_max;
        if limit.is_some_and(|limit| losses as u64 >= u64::from(limit))
            && self.quarantined.insert(module)
        {
            self.withdraw_all(CancelReason::Quarantined, Some(module));
        }
    }
}
