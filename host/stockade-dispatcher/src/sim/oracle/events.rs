//! What every event means, before anybody has acted on it: what may follow, and what must.

use std::time::Duration;

use stockade_wire::{TaskId, TaskRange, WorkerId};

use super::super::super::{Event, Hook, Moment, RequestId, ShutdownMode, Submission};
use super::super::coverage::Coverage;
use super::{Exit, Oracle, Request, SentTask, Task, Waiting, Worker};

impl Oracle {
    /// A timeout is about to be handled.
    pub(in super::super) fn timeout(&mut self, now: Moment) {
        self.forget_last();
        if self.uneven_since.is_some_and(|since| now >= since + self.config.patience) {
            self.uneven_since = None;
            self.steal_due = Some(self.waiting());
        }
    }

    fn forget_last(&mut self) {
        self.answers.clear();
        self.exit = None;
        self.stoppable.clear();
    }

    /// An event is about to be handled.
    pub(in super::super) fn event(&mut self, now: Moment, event: &Event, coverage: &mut Coverage) {
        // They answer actions, amid what follows from the event before.
        if !matches!(event, Event::TakenBack { .. } | Event::Stoppable { .. }) {
            self.forget_last();
        }
        self.note_full_windows();
        match *event {
            Event::Submit(ref submission) => self.submit(submission, coverage),
            Event::Cancel(tasks) => self.cancel_all(now, tasks, coverage),
            Event::CancelRunning(task) => self.cancel_running(task, coverage),
            Event::SpawnWorkers { request, count } => self.request(request, count),
            Event::Prepared => self.prepared |= self.preparing,
            Event::PreparationFailed => self.preparation_failed = true,
            Event::Ready(id) => self.ready(now, id),
            Event::Finished { worker, tasks, wall_time } => {
                self.finished(worker, tasks, wall_time, coverage);
            }
            Event::TakenBack { worker, task } => self.taken_back(now, worker, task, coverage),
            Event::HandedBack { worker, task } => self.handed_back(now, worker, task, coverage),
            Event::Withheld { worker, tasks } => self.withheld(worker, tasks, coverage),
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
        let ids: Vec<_> = submission.tasks.iter().collect();
        for id in &ids {
            assert!(self.tasks.insert(*id, Task::new(submission)).is_none());
        }
        self.unresolved += ids.len();
        if self.shutdown.is_some() || self.broken {
            self.must_end.extend(ids);
        } else if self.quarantined.contains(&submission.module) {
            coverage.see("situation: a quarantined module got no more tasks");
            self.must_end.extend(ids);
        } else {
            self.enqueue(&ids, true);
            if self.queue.last().map(|waiting| waiting.task) != ids.last().copied() {
                coverage.see("situation: a task overtook others");
            }
        }
    }

    fn cancel_all(&mut self, now: Moment, tasks: TaskRange, coverage: &mut Coverage) {
        for batch in self.waiting_batches() {
            if let Some(part) = batch.overlap(tasks)
                && part.first() > batch.first()
                && part.last() < batch.last()
            {
                coverage.see("situation: a batch in the queue was cut by a cancel in its middle");
            }
        }
        for id in tasks.iter() {
            self.cancel(now, id, tasks, coverage);
        }
    }

    /// One of the tasks that are cancelled together.
    fn cancel(&mut self, now: Moment, id: TaskId, all: TaskRange, coverage: &mut Coverage) {
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
            let revoked = self.revoke_rest(now, worker_id, id, coverage);
            let (cancelled, behind): (Vec<_>, Vec<_>) =
                revoked.into_iter().partition(|revoked| all.contains(*revoked));
            for id in cancelled {
                self.tasks.get_mut(&id).unwrap().cancel_asked = true;
                self.must_end.push(id);
            }
            if !behind.is_empty() {
                coverage.see("situation: what stood behind a cancelled task waited again");
            }
            self.wait_again(&behind);
            if self.tasks[&id].sent_revoked {
                let is_behind = |waiting: &&mut Waiting| behind.contains(&waiting.task);
                self.queue.iter_mut().filter(is_behind).for_each(|waiting| waiting.is_late = true);
            }
        }
    }

    /// Tasks that never started where they were sent, as a batch that was split off, wait again or end.
    fn wait_again(&mut self, tasks: &[TaskId]) {
        for id in tasks {
            if self.tasks[id].stop_asked || self.refusal(*id).is_some() {
                self.must_end.push(*id);
            }
        }
        self.enqueue(tasks, false);
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
    }

    /// A worker is to hand back the rest of what it was sent as one batch, from a task on; it counts as
    /// never sent. Returns the tasks.
    fn revoke_rest(
        &mut self,
        now: Moment,
        worker: WorkerId,
        id: TaskId,
        coverage: &mut Coverage,
    ) -> Vec<TaskId> {
        let window = &mut self.workers.get_mut(&worker).unwrap().window;
        let is_it = |sent: &SentTask| sent.task == id && !sent.is_revoked();
        let index = window.iter().position(is_it).expect("a task that is here");
        let sending = window[index].sending;
        let mut revoked = Vec::new();
        for sent in window.iter_mut().skip(index).filter(|sent| sent.sending == sending) {
            if sent.is_revoked() {
                coverage.see("situation: a batch was revoked again from an earlier task on");
            } else {
                sent.revoked_since = Some(now);
                revoked.push(sent.task);
            }
        }
        // A recall has found those started that it has not taken back, and so those before them.
        let before = index.checked_sub(1).map(|before| window[before]);
        if before.is_some_and(|before| before.sending == sending && before.is_recalled) {
            let of_it = window.iter_mut().take(index).filter(|sent| sent.sending == sending);
            of_it.for_each(|sent| sent.is_recalled = true);
        }
        for _ in &revoked {
            self.was_not_given(worker);
        }
        revoked
    }

    fn was_not_given(&mut self, worker: WorkerId) {
        let worker = self.workers.get_mut(&worker).unwrap();
        worker.assigned -= 1;
        if worker.retired && self.may_unretire > 0 {
            worker.retired = false;
            self.may_unretire -= 1;
        }
    }

    fn taken_back(&mut self, now: Moment, worker: WorkerId, id: TaskId, coverage: &mut Coverage) {
        if !self.workers.get(&worker).is_some_and(|worker| worker.holds(id)) {
            return;
        }
        let revoked = self.revoke_rest(now, worker, id, coverage);
        let window = &self.workers[&worker].window;
        let is_it = |sent: &SentTask| sent.task == id;
        let sending = window.iter().rfind(|sent| is_it(sent)).map(|sent| sent.sending);
        let before = window.iter().take_while(|sent| !is_it(sent));
        if before.skip(1).any(|sent| Some(sent.sending) == sending) {
            coverage.see("situation: a part of a batch was taken back");
        }
        if self.is_overdue(now, &self.workers[&worker]) {
            coverage.see("situation: nobody waited behind a slow task");
        } else if self.idle() > 0 {
            coverage.see("situation: an idle worker was given another's tasks");
        }
        self.wait_again(&revoked);
    }

    fn handed_back(&mut self, now: Moment, id: WorkerId, task: TaskId, coverage: &mut Coverage) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.window.front().is_some_and(|sent| sent.is_revoked() && sent.task == task) {
            let held = worker.window.len();
            worker.pop_revoked();
            if held - worker.window.len() > 1 {
                coverage.see("situation: several tasks were handed back together");
            }
            worker.begin(now);
            if self.tasks[&task].cancel_asked {
                coverage.see("situation: a task was handed back to its caller");
            }
        } else {
            self.distrust(id);
        }
    }

    fn withheld(&mut self, id: WorkerId, tasks: TaskRange, coverage: &mut Coverage) {
        let behind = self.next_batch();
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if !worker.holds(tasks.first()) {
            return;
        }
        // There may be room again.
        worker.was_full = false;
        let is_last = |sent: &SentTask| sent.task == tasks.last();
        let last = worker.window.iter().rposition(is_last).unwrap();
        let sending = worker.window[last].sending;
        let before = worker.window.iter().take(last).filter(|sent| sent.sending == sending).count();
        let batches = worker.batches();
        let mut rest = worker.window.iter_mut().skip(last + 1).peekable();
        let has_rest = rest.peek().is_some_and(|sent| sent.sending == sending);
        rest.filter(|sent| sent.sending == sending).for_each(|sent| sent.sending = behind);
        if has_rest && before + 1 > tasks.count() as usize {
            coverage.see("situation: a part in the middle of a batch was withheld");
        }
        worker.split += worker.batches() - batches;
        if worker.batches() > self.config.window_batches_max {
            coverage.see("situation: a window had more batches than it is given");
        }
        for task in tasks.iter() {
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

    fn finished(
        &mut self,
        id: WorkerId,
        tasks: TaskRange,
        wall_time: Duration,
        coverage: &mut Coverage,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let is_due = |(sent, task): &(&SentTask, TaskId)| sent.task == *task && !sent.is_revoked();
        let window = worker.window.iter().zip(tasks.iter()).take_while(is_due);
        let due: Vec<_> = window.map(|(sent, task)| (sent.sending, task)).collect();
        let count = due.len() as u32;
        if count > 0 {
            let believed = if count < tasks.count() {
                (wall_time / tasks.count()).saturating_mul(count)
            } else {
                wall_time
            };
            worker.pace.note(believed, count);
        }
        if due.windows(2).any(|pair| pair[0].0 != pair[1].0) {
            coverage.see("situation: tasks of several batches were answered together");
        }
        for &(_, task) in &due {
            self.answers.insert((id, task));
            self.must_end.push(task);
        }
        if count < tasks.count() {
            if count > 0 {
                coverage.see("situation: some answers followed and others did not");
            }
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
            coverage.see("situation: a worker died with tasks to hand back");
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
        self.enqueue_again(&exit, worker.is_at_fault(), coverage);
        let first = self.queue.first().map(|waiting| waiting.task);
        let comes_back = |id: &TaskId| first != Some(*id) && !self.must_end.contains(id);
        if exit.window.front().is_some_and(comes_back) {
            coverage.see("situation: a task came back behind a higher priority");
        }
        self.exit = Some(exit);
        self.must_quarantine = self.quarantined.difference(&was_quarantined).next().copied();
    }

    /// What a worker left is split where a batch was lost or suspected in part.
    fn enqueue_again(&mut self, exit: &Exit, is_at_fault: bool, coverage: &mut Coverage) {
        let is_suspected = |index: usize| index == 0 && exit.lost == 0 && is_at_fault;
        let kind = |index: usize| (exit.sendings[index], index < exit.lost, is_suspected(index));
        let indices: Vec<_> = (0..exit.window.len()).collect();
        for batch in indices.chunk_by(|first, second| kind(*first) == kind(*second)).rev() {
            let tasks: Vec<_> = batch.iter().map(|index| exit.window[*index]).collect();
            self.enqueue(&tasks, false);
        }
        let is_cut = |last: usize| exit.sendings.get(last) == exit.sendings.get(last + 1);
        if exit.lost > 0 && is_cut(exit.lost - 1) {
            coverage.see("situation: a worker died in the middle of a batch");
        } else if exit.lost == 0 && is_at_fault && exit.window.len() > 1 && is_cut(0) {
            coverage.see("situation: the first task of a batch was suspected");
        }
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
