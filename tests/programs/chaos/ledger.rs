//! The ledger: how every task ended, and what of that cannot be.
//!
//! Some ends are explained only by what happened to a worker, and that is known for certain once the
//! storm is over. They are noted under the worker and explained then.
//!
//! Invariant: every order that somebody waits for is counted once, or is a violation.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use stockade::{
    Bytes, CancelReason, Status, SubmitError, TaskError, TaskHandle, TaskReport, WorkerId,
};
use stockade_tests::{PATIENCE, forger_of, worker_of_name};

use crate::orders::{Kind, Order};
use crate::weather::Harm;

/// Handles that are kept for a second look.
const KEPT_MAX: usize = 2000;

/// Violations that are told; one more and the run ends.
const VIOLATIONS_MAX: usize = 50;

/// What was done to a task through its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Nothing,
    /// `cancel`, and what it said.
    Cancel(bool),
    CancelRunning,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Result,
    OwnError,
    OwnTrap,
    Cancelled,
    CancelledRunning,
    WorkerLost,
    Deadline,
    NoMemory,
    Lie,
    /// Nobody looked.
    Abandoned,
}

impl End {
    pub(crate) const ALL: [Self; 10] = [
        Self::Result,
        Self::OwnError,
        Self::OwnTrap,
        Self::Cancelled,
        Self::CancelledRunning,
        Self::WorkerLost,
        Self::Deadline,
        Self::NoMemory,
        Self::Lie,
        Self::Abandoned,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Result => "its result",
            Self::OwnError => "its own error",
            Self::OwnTrap => "its own trap",
            Self::Cancelled => "cancelled before it started",
            Self::CancelledRunning => "cancelled while it ran",
            Self::WorkerLost => "worker lost",
            Self::Deadline => "deadline passed",
            Self::NoMemory => "failed in a worker starved of memory",
            Self::Lie => "its own worker lied about it",
            Self::Abandoned => "not looked at: handle dropped",
        }
    }
}

/// What has to have happened to a worker for an end to be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Needs {
    /// Anything at all.
    Harm,
    /// It speaks garbage.
    Liar,
    /// It is starved of memory, or speaks garbage.
    Starved,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    ends: [AtomicU64; End::ALL.len()],
    /// Ends to be explained, and the first of each in words.
    unexplained: Mutex<BTreeMap<(WorkerId, Needs), String>>,
    /// What harm to workers looked like to their tasks, in words, and to how many.
    words: Mutex<BTreeMap<String, u64>>,
    /// Ends that only a worker without memory explains, of items without handles, so that nobody knows
    /// which: the first in words.
    starved: Mutex<Option<String>>,
    /// Attempts at tasks after their first.
    repeated: AtomicU64,
    /// Tasks that had more attempts than their retries allow, because a worker had lied on its page about
    /// what it had started.
    repeated_beyond: AtomicU64,
    /// The first of them, in words.
    first_beyond: Mutex<String>,
    /// Deadlines of tasks that would have ended, by worker.
    late: Mutex<Vec<WorkerId>>,
    kept: Mutex<VecDeque<(Order, TaskHandle<Bytes>, String)>>,
    violations: Mutex<Vec<String>>,
    workers: AtomicU64,
    gave_up: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// Waits for a task's end and judges it.
    pub(crate) fn settle(&self, order: Order, asked: Asked, handle: TaskHandle<Bytes>) {
        let Some(result) = handle.result_timeout(PATIENCE) else {
            self.violation(format!("{order:?} did not end within {PATIENCE:?}"));
            return self.give_up();
        };
        let report = handle.report();
        self.workers.fetch_max(report.worker.map_or(0, |worker| worker.0), Ordering::Relaxed);
        let end = self.judge(order, asked, &result, &report);
        self.note_attempts(order, &report);
        match end {
            End::Result => self.check_items(order, &handle, &report),
            // It never starts, and so emits nothing.
            End::Cancelled => self.demand(handle.emitted::<Bytes>().count() == 0, || {
                format!("{order:?}, asked {asked:?}, was cancelled and has emitted something")
            }),
            _ => {}
        }
        self.count(end, 1);
        self.keep(order, handle, &result);
    }

    /// Judges the result of an item that has no handle, and so no report.
    pub(crate) fn settle_result(&self, order: Order, result: Result<Bytes, TaskError>) {
        self.count(self.judge_result(order, &result), 1);
    }

    fn judge_result(&self, order: Order, result: &Result<Bytes, TaskError>) -> End {
        let forger = match result {
            Ok(bytes) => forger_of(&bytes.0),
            Err(TaskError::Guest(error)) => forger_of(error.message.as_bytes()),
            Err(_) => None,
        };
        match result {
            Ok(_) if order.is_own_end(result) => End::Result,
            Err(TaskError::Guest(_)) if order.is_own_end(result) => End::OwnError,
            Err(TaskError::Trap { .. }) if order.is_own_end(result) => End::OwnTrap,
            Err(TaskError::Deadline { .. }) => End::Deadline,
            Err(TaskError::WorkerLost(exit)) => {
                let worker = worker_of_name(&exit.worker);
                self.explain_later(order, result, worker, Needs::Harm);
                End::WorkerLost
            }
            Err(TaskError::Trap { .. } | TaskError::Memory { .. } | TaskError::Abi(_)) => {
                lock(&self.starved).get_or_insert_with(|| format!("{order:?}: {result:?}"));
                End::NoMemory
            }
            _ => {
                self.explain_later(order, result, forger, Needs::Liar);
                End::Lie
            }
        }
    }

    /// What is tried again was lost before, and may be: its label says how often.
    fn note_attempts(&self, order: Order, report: &TaskReport) {
        let retries = report.label.as_deref().and_then(|label| label.parse().ok()).unwrap_or(0);
        let repeated = report.attempt.saturating_sub(1);
        self.repeated.fetch_add(repeated.into(), Ordering::Relaxed);
        if repeated > retries && self.repeated_beyond.fetch_add(1, Ordering::Relaxed) == 0 {
            *lock(&self.first_beyond) = format!("{order:?}: {report:?}");
        }
    }

    /// Attempts after the first, and how many tasks had more of them than they may.
    pub(crate) fn repeated(&self) -> (u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.repeated), of(&self.repeated_beyond))
    }

    pub(crate) fn count(&self, end: End, tasks: u64) {
        self.ends[end as usize].fetch_add(tasks, Ordering::Relaxed);
    }

    fn judge(
        &self,
        order: Order,
        asked: Asked,
        result: &Result<Bytes, TaskError>,
        report: &TaskReport,
    ) -> End {
        let cancelled = matches!(result, Err(TaskError::Cancelled(_)));
        // What `cancel` says is final, either way.
        if matches!(asked, Asked::Cancel(said) if said != cancelled) {
            self.violation(format!("{order:?}, asked {asked:?}, ended as {result:?}"));
        }
        let status = match result {
            Ok(_) => Status::Completed,
            Err(TaskError::Cancelled(_)) => Status::Cancelled,
            Err(_) => Status::Failed,
        };
        if report.status != status || (result.is_ok() && report.attempt == 0) {
            self.violation(format!("{order:?} ended as {result:?} and reports {report:?}"));
        }
        match result {
            Err(TaskError::Deadline { limit, .. }) => {
                // The report's clock starts a little later than the deadline's.
                self.demand(report.wall_time >= *limit / 2, || {
                    format!("{order:?} ended early, at {:?}", report.wall_time)
                });
                if order.kind != Kind::Spin {
                    lock(&self.late).extend(report.worker);
                }
                End::Deadline
            }
            Ok(_) if order.is_own_end(result) => End::Result,
            Err(TaskError::Guest(_)) if order.is_own_end(result) => End::OwnError,
            Err(TaskError::Trap { .. }) if order.is_own_end(result) => End::OwnTrap,
            Err(TaskError::Cancelled(CancelReason::Asked)) if asked != Asked::Nothing => {
                End::Cancelled
            }
            Err(TaskError::Cancelled(CancelReason::WhileRunning))
                if asked == Asked::CancelRunning =>
            {
                End::CancelledRunning
            }
            Err(TaskError::WorkerLost(exit)) => {
                let worker = worker_of_name(&exit.worker);
                let words = exit.to_string();
                let how = words.rsplit(") ").next().unwrap_or_default();
                self.note_words(format!("lost because its worker {how}"));
                self.explain_later(order, result, worker, Needs::Harm);
                End::WorkerLost
            }
            Ok(bytes) => self.lied(order, result, report, &bytes.0),
            Err(TaskError::Guest(error)) => {
                self.lied(order, result, report, error.message.as_bytes())
            }
            Err(TaskError::Trap { .. } | TaskError::Memory { .. } | TaskError::Abi(_)) => {
                if let Err(error) = result {
                    self.note_words(format!("starved: {error}"));
                }
                self.explain_later(order, result, report.worker, Needs::Starved);
                End::NoMemory
            }
            Err(_) => {
                self.violation(format!("{order:?}, asked {asked:?}, ended as {result:?}"));
                End::Lie
            }
        }
    }

    /// A wrong result: the host cannot tell it from a right one if the task's own worker says so.
    fn lied(
        &self,
        order: Order,
        result: &Result<Bytes, TaskError>,
        report: &TaskReport,
        text: &[u8],
    ) -> End {
        match forger_of(text) {
            Some(forger) if report.worker != Some(forger) => {
                let worker = report.worker;
                self.violation(format!("{order:?} ran on {worker:?} and was {result:?}"));
            }
            _ => self.explain_later(order, result, report.worker, Needs::Liar),
        }
        End::Lie
    }

    fn check_items(&self, order: Order, handle: &TaskHandle<Bytes>, report: &TaskReport) {
        let items = handle.emitted::<Bytes>().map(|item| item.map(|bytes| bytes.0));
        let items: Result<Vec<_>, _> = items.collect();
        let items = match items {
            Ok(items) if order.are_own_items(&items) => return,
            Ok(items) => items,
            Err(error) => return self.violation(format!("{order:?}: an item has {error:?}")),
        };
        let forger = items.iter().find_map(|item| forger_of(item));
        if forger.is_some() && forger != report.worker {
            let worker = report.worker;
            return self.violation(format!("{order:?} ran on {worker:?}, an item {forger:?}"));
        }
        let wrong = Err(TaskError::Abi(format!("{} wrong items", items.len())));
        self.explain_later(order, &wrong, report.worker, Needs::Liar);
    }

    fn explain_later(
        &self,
        order: Order,
        result: &Result<Bytes, TaskError>,
        worker: Option<WorkerId>,
        needs: Needs,
    ) {
        let in_words = || {
            let mut words = format!("{order:?} on {worker:?}: {result:?}");
            words.truncate(words.floor_char_boundary(300));
            words
        };
        match worker {
            Some(worker) => {
                lock(&self.unexplained).entry((worker, needs)).or_insert_with(in_words);
            }
            None => self.violation(in_words()),
        }
    }

    /// Keeps a handle, to see later that its result is still the same.
    fn keep(&self, order: Order, handle: TaskHandle<Bytes>, result: &Result<Bytes, TaskError>) {
        if order.kind == Kind::Big || !order.number.is_multiple_of(16) {
            return;
        }
        let mut kept = lock(&self.kept);
        kept.push_back((order, handle, format!("{result:?}")));
        let oldest = if kept.len() > KEPT_MAX { kept.pop_front() } else { None };
        drop(kept);
        self.look_again(oldest);
    }

    fn look_again(&self, kept: impl IntoIterator<Item = (Order, TaskHandle<Bytes>, String)>) {
        for (order, handle, before) in kept {
            let now = format!("{:?}", handle.result());
            if now != before {
                self.violation(format!("{order:?} ended as {before}, and later as {now}"));
            }
        }
    }

    /// A task that was not accepted: the pool is closed or broken, so nothing more will come.
    pub(crate) fn refused(&self, order: Order, error: &SubmitError) {
        let source = std::error::Error::source(error).map(ToString::to_string);
        self.violation(format!("{order:?} was not accepted: {error} ({source:?})"));
        self.give_up();
    }

    pub(crate) fn violation(&self, mut what: String) {
        what.truncate(what.floor_char_boundary(400));
        let mut violations = lock(&self.violations);
        if violations.len() < VIOLATIONS_MAX {
            violations.push(what);
        } else {
            drop(violations);
            self.give_up();
        }
    }

    /// Notes a violation unless `holds`.
    pub(crate) fn demand(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violation(what());
        }
    }

    /// Says that there is no sense in going on.
    pub(crate) fn give_up(&self) {
        self.gave_up.store(true, Ordering::Relaxed);
    }

    /// Whether somebody said so.
    pub(crate) fn gave_up(&self) -> bool {
        self.gave_up.load(Ordering::Relaxed)
    }

    /// Tasks that ended, or that nobody looks at.
    pub(crate) fn settled(&self) -> u64 {
        self.ends.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn ended_as(&self, end: End) -> u64 {
        self.ends[end as usize].load(Ordering::Relaxed)
    }

    /// The highest number of a worker in any report.
    pub(crate) fn workers(&self) -> u64 {
        self.workers.load(Ordering::Relaxed)
    }

    fn note_words(&self, mut words: String) {
        const WORDS_MAX: usize = 100;
        let mut noted = lock(&self.words);
        // What a worker says may differ each time; the table stays readable.
        words.truncate(words.floor_char_boundary(70));
        if noted.len() < WORDS_MAX || noted.contains_key(&words) {
            *noted.entry(words).or_default() += 1;
        }
    }

    /// What harm to workers looked like to their tasks, and to how many.
    pub(crate) fn words(&self) -> Vec<(String, u64)> {
        lock(&self.words).clone().into_iter().collect()
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    /// Compares what needs an explanation with what happened to the workers. Says how many
    /// deadlines passed on workers that nothing had happened to.
    pub(crate) fn close(&self, harms: &BTreeMap<WorkerId, Vec<Harm>>) -> usize {
        let has = |worker: &WorkerId, what: fn(&Harm) -> bool| {
            harms.get(worker).is_some_and(|harms| harms.iter().any(what))
        };
        for ((worker, needs), words) in std::mem::take(&mut *lock(&self.unexplained)) {
            let explained = match needs {
                Needs::Harm => has(&worker, |_| true),
                Needs::Liar => has(&worker, Harm::makes_liar),
                Needs::Starved => has(&worker, |harm| harm.starves() || harm.makes_liar()),
            };
            let known = harms.get(&worker);
            self.demand(explained, || format!("{words}, where all that happened was {known:?}"));
        }
        let happened = |what: fn(&Harm) -> bool| harms.values().flatten().any(what);
        if let Some(words) = lock(&self.starved).take() {
            let explained = happened(|harm| harm.starves() || harm.makes_liar());
            self.demand(explained, || format!("{words}, where no worker was without memory"));
        }
        let (_, beyond) = self.repeated();
        self.demand(beyond == 0 || happened(Harm::overwrites_page), || {
            let first = lock(&self.first_beyond);
            format!("{beyond} tasks were tried more often than they may be, first {first}")
        });
        self.look_again(std::mem::take(&mut *lock(&self.kept)));
        lock(&self.late).iter().filter(|worker| !has(worker, |_| true)).count()
    }
}
