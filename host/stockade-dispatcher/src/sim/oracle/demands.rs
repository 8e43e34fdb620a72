//! What must have been done: by the end of a step, and by the end of a life.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::Duration;

use stockade_wire::TaskId;

use super::super::super::{Dispatcher, Moment, Resolution};
use super::super::process::Process;
use super::{Oracle, Worker};

impl Oracle {
    /// An event or a timeout has been handled and all its actions are known.
    pub(in super::super) fn check_step(&mut self, now: Moment, dispatcher: &Dispatcher) {
        for id in self.must_end.drain(..) {
            assert!(self.tasks[&id].resolution.is_some(), "task {id} has to end now");
        }
        for id in self.must_die.drain(..) {
            let spared = self.workers.get(&id).is_some_and(|worker| !worker.killed);
            assert!(!spared, "worker {id} has to be killed now");
        }
        assert!(self.must_recall.is_empty(), "{:?} have to be recalled", self.must_recall);
        assert_eq!(self.must_quarantine, None, "a module has to be quarantined now");
        let batches = &dispatcher.batches;
        let queue: Vec<_> = dispatcher.queue.iter(batches).map(|key| batches[key].tasks).collect();
        assert_eq!(queue, self.waiting_batches(), "the queue is another");
        self.giving = None;
        if mem::take(&mut self.decided_before_cancel) {
            // Some may have had no room for what waited first before that.
            self.workers.values_mut().for_each(|worker| worker.was_full = true);
        }
        self.queue.iter_mut().for_each(|waiting| waiting.is_late = false);
        self.workers.values_mut().for_each(|worker| worker.split = 0);
        self.note_full_windows();
        assert_eq!(dispatcher.shutdown, self.shutdown, "the harshest shutdown counts");
        let counts = dispatcher.counts();
        assert_eq!(counts.workers, self.workers.len());
        let busy = self.workers.values().filter(|w| !w.killed && !w.window.is_empty()).count();
        assert_eq!(counts.busy, busy);
        let waiting = dispatcher.workers.census().waiting;
        assert_eq!(waiting, self.waiting(), "other tasks may be recalled");
        let running = self.workers.values().filter(|worker| worker.is_running()).count();
        assert_eq!(counts.pending_tasks, self.unresolved - running);
        let phases = self.workers.iter().map(|(&id, worker)| (id, worker.phase()));
        assert!(dispatcher.phases().eq(phases), "a worker is elsewhere in its life");
        assert!(self.hook_failed.is_none() || self.broken, "a failed hook breaks the pool");
        self.check_deadlines(now);
        self.check_progress(now);
        self.check_depth(now);
        self.check_evenness(now);
        self.check_end();
    }

    /// No deadline lies in the past.
    fn check_deadlines(&self, now: Moment) {
        for (id, worker) in self.workers.iter().filter(|(_, worker)| !worker.killed) {
            let since = |since: Moment, span: Option<Duration>, what: &str| {
                let in_time = span.is_none_or(|span| now <= since + span);
                assert!(in_time, "worker {id} is past its {what}");
            };
            if let Some(at) = worker.stopping_since {
                since(at, Some(self.config.recall_timeout), "stop's timeout");
            } else if let Some(at) = worker.close_at {
                since(at, Some(self.config.close_timeout), "close timeout");
            } else if !worker.ready {
                since(worker.spawned_at, Some(self.config.start_timeout), "start timeout");
            } else if let Some(front) = worker.window.front() {
                if let Some(revoked_since) = front.revoked_since {
                    let hand_back_since = revoked_since.max(worker.front_since);
                    since(hand_back_since, Some(self.config.recall_timeout), "recall timeout");
                } else {
                    let task = &self.tasks[&front.task];
                    since(worker.front_since, task.submission.wall_time, "task's deadline");
                    assert!(!task.stop_asked, "a task that is to be ended runs");
                    assert!(worker.announced, "nobody heard of a start");
                }
                if self.config.workers_max > 1 && worker.waiting() > 0 {
                    since(worker.front_since, Some(self.config.patience), "others' patience");
                }
            } else {
                // A shorter one may have passed when it was set; then it is due at once.
                if now > self.idle_timeout_set_at {
                    since(worker.idle_since, self.config.idle_timeout, "idle timeout");
                }
            }
        }
    }

    /// Nobody waits without a need.
    fn check_progress(&self, now: Moment) {
        let idle = self.workers.values().filter(|worker| worker.is_idle()).count();
        assert!(idle == 0 || self.queue.is_empty(), "a worker idles while a task waits");
        let stops = self.shutdown.is_some() || self.broken || self.joining;
        assert!(idle == 0 || !stops, "a worker idles to no end");
        let used_up = |worker: &Worker| worker.is_idle() && worker.retired;
        assert!(!self.workers.values().any(used_up), "a used-up worker closes");
        if self.prepared && now >= self.paused_until {
            assert!(!self.misses_worker() || !self.has_room(), "a task waits for no worker");
            assert!(self.requested == 0 || !self.has_room(), "a request waits for nothing");
        }
        assert!(
            self.prepared || self.preparing || (self.queue.is_empty() && self.requested == 0),
            "nobody makes the snapshot"
        );
    }

    /// No window runs dry while tasks wait that could be in it.
    fn check_depth(&self, now: Moment) {
        let starting = self.workers.values().filter(|worker| worker.is_starting()).count();
        if self.queue.is_empty() || starting > 0 {
            return;
        }
        for (id, worker) in self.workers.iter().filter(|(_, worker)| worker.is_active()) {
            let Some(depth) = worker.pace.depth() else { continue };
            let has_run_low = worker.tasks().count() * 2 <= depth;
            let is_slow = self.is_overdue(now, worker) || worker.stopping_since.is_some();
            assert!(!has_run_low || worker.was_full || is_slow, "worker {id} runs dry");
        }
    }

    /// Nobody idles for long while tasks wait in another's window.
    fn check_evenness(&mut self, now: Moment) {
        let (idle, waiting) = (self.idle(), self.waiting());
        if let Some(steal) = self.steal.take() {
            assert_eq!(steal.recalled, steal.wanted, "half of the longest window is stolen");
        }
        if let Some(before) = self.steal_due.take() {
            assert!(
                idle == 0 || waiting == 0 || waiting < before,
                "nothing is stolen for a worker that idles"
            );
        }
        let is_uneven = idle > 0 && waiting > 0;
        self.uneven_since = is_uneven.then(|| self.uneven_since.unwrap_or(now));
        let in_time = |since: Moment| now <= since + self.config.patience;
        assert!(self.uneven_since.is_none_or(in_time), "somebody idles beside a full window");
    }

    fn check_end(&self) {
        let empty = self.is_empty();
        assert!(self.terminated == (empty && self.shutdown.is_some()), "terminates when empty");
        if self.requested == 0 {
            assert!(self.requests.is_empty(), "somebody waits for workers that never start");
        }
        let waits = self.awaits_snapshot() || self.requested > 0;
        assert!(!self.joining || !empty || waits, "joins when empty");
    }

    /// Nothing happens any more, and nobody waits for anything.
    pub(in super::super) fn check_quiet(&self) {
        assert_eq!(self.unresolved, 0, "a task is left waiting");
        assert!(self.requested == 0 && !self.joining, "a caller is left waiting");
        let idle = self.workers.values().all(Worker::is_idle);
        assert!(idle, "a worker is left at work");
    }

    /// Nothing is left, and nothing was done that honest processes could hold against the
    /// dispatcher.
    pub(in super::super) fn check_settled<'a>(&self, processes: impl Iterator<Item = &'a Process>) {
        assert!(self.terminated && self.unresolved == 0 && self.workers.is_empty());
        let mut starts: BTreeMap<TaskId, Option<u32>> = BTreeMap::new();
        for process in processes {
            // One that was taken back may have been sent to the same process again.
            for task in &BTreeSet::from_iter(&process.sent) {
                let starts = starts.entry(**task).or_insert(Some(0));
                let began = process.starts.iter().filter(|began| began == task).count() as u32;
                *starts = starts.filter(|_| !process.lied).map(|starts| starts + began);
            }
        }
        for (id, task) in &self.tasks {
            let Some(&Some(starts)) = starts.get(id) else { continue };
            assert!(starts <= 1 + task.submission.retries, "task {id} started too often");
            match task.resolution {
                Some(Resolution::Finished) => assert!(starts > task.losses, "task {id} finished"),
                Some(Resolution::Cancelled(_)) => {
                    assert_eq!(starts, task.losses, "task {id} was said never to have started");
                }
                _ => {}
            }
        }
    }
}
