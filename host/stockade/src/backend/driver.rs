//! The driver: performs what the dispatcher decides, and tells it what happened.
//!
//! ```text
//! Pool, TaskHandle ──Request──►┐                        ┌──► WorkerProcess ──► ring, socket
//! workers ────WorkerMessage───►│ Driver ──Event──► Dispatcher
//! clock ──────────────────────►┘        ◄──Action──     ├──► TaskCell (results, in any order)
//!                                                       └──► Supervisor (starts and ends of processes)
//! ```
//!
//! It owns the processes and the payloads, and works in whichever thread holds the event loop's lock.
//! It never blocks; so a worker that does not read, a caller that does not take results and a guest that
//! does not end delay nothing else.
//!
//! Deliberately absent: decisions. The [`Dispatcher`] decides which task runs where, and what a
//! death means.

mod entries;
mod gather;
mod hear;
mod look;
mod perform;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use stockade_wire::{ModuleId, Setup, TaskId, TaskRange, WorkerId};

use crate::backend::entry::EntryMut;
use crate::backend::failure_causes::FailureCauses;
use crate::backend::ids::IdMap;
use crate::backend::poller::Poller;
use crate::backend::request::{Request, RequestQueue};
use crate::backend::supervisor::Supervisor;
use crate::backend::worker::WorkerProcess;
use crate::base::sync::Wakers;
use crate::compile::prepare::{Preparation, PreparationThread};
use crate::outcome::exit::WorkerExit;
use crate::process::loadable::Loadable;
use crate::state::shared::{Shared, WorkerInfo};
use entries::Entries;
use gather::Gathered;
use look::Looks;
use stockade_dispatcher::{Dispatcher, EntryKey, Event, Moment, Submission};

/// What the driver is made of.
pub(crate) struct Parts {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) supervisor: Supervisor,
    pub(crate) poller: Arc<Poller>,
    /// The setup of every worker, except its id and name.
    pub(crate) setup: Setup,
    pub(crate) pool_name: String,
    pub(crate) modules: Vec<Loadable>,
    pub(crate) preparation: Option<Preparation>,
    pub(crate) quarantine_after: Option<u32>,
    /// When the pool was made.
    pub(crate) epoch: Instant,
    pub(crate) shared: Arc<Shared>,
    pub(crate) event_loop: Weak<dyn RequestQueue>,
}

pub(crate) struct Driver {
    parts: Parts,
    epoch: Instant,
    /// The time of this turn.
    now: Moment,
    /// When the timer rings next.
    timer: Option<Moment>,
    /// When to look for results without a bell.
    looks: Looks,
    /// Whether this turn's caller looks by itself when one is due.
    dozes: bool,
    workers: IdMap<WorkerId, WorkerProcess>,
    /// Workers that the supervisor has not started yet, and whether they are to end at once.
    starting: BTreeMap<WorkerId, bool>,
    /// What callers see of the workers.
    infos: BTreeMap<WorkerId, WorkerInfo>,
    entries: Entries,
    /// Workers that were sent something in this turn.
    unflushed: Vec<WorkerId>,
    /// Workers that have rung, or have unread messages; each once, in turn.
    unheard: VecDeque<WorkerId>,
    /// Remaining receive steps of this turn.
    steps_left: usize,
    /// Messages received in this turn.
    heard: usize,
    wakers: Wakers,
    /// Callers of `join` that wait.
    joiners: HashMap<u64, Sender<()>>,
    /// Callers that asked for workers and wait for them.
    spawners: HashMap<u64, Sender<usize>>,
    prepared_module: Option<ModuleId>,
    preparing: Option<PreparationThread>,
    failure_causes: FailureCauses,
    /// How the worker ended whose `Exited` is being handled.
    last_exit: Option<WorkerExit>,
    /// How many core dumps will be kept.
    coredumps_left: u32,
    terminated: bool,
}

/// Commands of one turn; and messages of one worker before what is overdue is declared late.
const BATCH_MAX: usize = 1024;

/// Receive steps in one turn, of all workers: about a millisecond. A message is one step.
const TURN_STEPS_MAX: usize = 1024;

/// Receive steps for one worker, so that a flood of one does not delay others.
const WORKER_STEPS_MAX: usize = 256;

/// Steps that a read of a socket counts for: a system call takes as long as some messages.
const READ_STEPS: usize = 8;

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("pool", &self.parts.pool_name).finish_non_exhaustive()
    }
}

impl Driver {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            coredumps_left: parts.setup.coredumps.map_or(0, |coredumps| coredumps.count_max),
            prepared_module: parts.preparation.as_ref().map(|preparation| preparation.module),
            epoch: parts.epoch,
            parts,
            now: Moment::ZERO,
            timer: None,
            workers: IdMap::default(),
            starting: BTreeMap::new(),
            infos: BTreeMap::new(),
            entries: Entries::default(),
            looks: Looks::default(),
            dozes: false,
            unflushed: Vec::new(),
            unheard: VecDeque::new(),
            steps_left: TURN_STEPS_MAX,
            heard: 0,
            wakers: Wakers::new(),
            joiners: HashMap::new(),
            spawners: HashMap::new(),
            preparing: None,
            failure_causes: FailureCauses::default(),
            last_exit: None,
            terminated: false,
        }
    }

    /// Whether the pool has terminated, and nothing is left to do.
    pub(crate) fn has_ended(&self) -> bool {
        self.terminated
    }

    /// Whether another task changes nothing before something else happens.
    pub(crate) fn is_saturated(&self) -> bool {
        self.parts.dispatcher.is_saturated()
    }

    /// Wakers of callers whose tasks have ended in this turn.
    pub(crate) fn take_wakers(&mut self) -> Wakers {
        std::mem::take(&mut self.wakers)
    }

    /// How many messages of workers this turn has received.
    pub(crate) fn take_heard(&mut self) -> usize {
        std::mem::take(&mut self.heard)
    }

    /// Handles requests, messages of workers and deadlines, and performs the dispatcher's actions.
    /// Ends every turn.
    pub(crate) fn look_around(&mut self, requests: &Receiver<Request>) {
        self.take_request(None, requests);
    }

    /// As [`look_around`](Self::look_around), with a request that needed no queue.
    pub(crate) fn take_request(&mut self, first: Option<Request>, requests: &Receiver<Request>) {
        // As the turn before has left it.
        let gathers = self.is_saturated();
        match first {
            // It has just looked at the clock.
            Some(Request::Submit(entry, submission)) => {
                self.now = self.now.max(entry.submitted());
                self.request(Request::Submit(entry, submission));
            }
            Some(request) => {
                self.now = self.epoch.elapsed();
                self.request(request);
            }
            None => self.now = self.epoch.elapsed(),
        }
        self.take_queued(requests, gathers);
        if self.looks.take_due(self.now) {
            self.hear_busy();
        }
        self.hear_called();
        self.perform();
        if self.parts.dispatcher.poll_timeout().is_some_and(|at| at <= self.now) {
            // A result that was in time but has no bell is not late.
            self.hear_before_deadlines();
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
        let counts = self.parts.dispatcher.counts();
        self.parts.shared.show_counts(counts);
        if counts.busy > 0 {
            // After the counts are shown, at which the supervisor looks before it dozes off.
            self.parts.supervisor.rouse();
        }
        self.steps_left = TURN_STEPS_MAX;
        if !self.unheard.is_empty() {
            self.parts.poller.ring();
        }
    }

    /// Takes the requests that have waited, and `gathers` tasks where these only wait on.
    fn take_queued(&mut self, requests: &Receiver<Request>, gathers: bool) {
        let mut gathered: Option<Gathered> = None;
        for request in requests.try_iter().take(BATCH_MAX) {
            let request = match request {
                Request::Submit(entry, submission) if gathers => {
                    let left = match &mut gathered {
                        Some(gathered) => gathered.add(entry, submission).err(),
                        None => Some((entry, submission)),
                    };
                    let Some((entry, submission)) = left else { continue };
                    self.submit_gathered(gathered.take());
                    match Gathered::new(entry, submission) {
                        Ok(first) => {
                            gathered = Some(first);
                            continue;
                        }
                        Err((entry, submission)) => Request::Submit(entry, submission),
                    }
                }
                request => request,
            };
            self.submit_gathered(gathered.take());
            self.request(request);
        }
        self.submit_gathered(gathered);
    }

    fn submit_gathered(&mut self, gathered: Option<Gathered>) {
        if let Some(gathered) = gathered {
            let (entry, submission) = gathered.into_entry();
            self.request(Request::Submit(entry, submission));
        }
    }

    /// Sets the timer to the next deadline at the latest. Most deadlines are never reached, so
    /// moving it later is not worth a system call.
    fn set_timer(&mut self) {
        self.timer = self.timer.filter(|at| *at > self.now);
        let due = self.parts.dispatcher.poll_timeout();
        if let Some(at) = due.into_iter().chain(self.looks.next()).min()
            && self.timer.is_none_or(|timer| at < timer)
        {
            self.timer = Some(at);
            self.parts.poller.set_timer(at.saturating_sub(self.now));
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

    /// A task's caller has cancelled it.
    fn cancel(&mut self, task: TaskId) {
        if let Some(key) = self.entries.key_of(task)
            && let Some(mut entry) = self.entries.get_mut(key)
            && let Some(worker) = entry.worker_of(task)
            && let Some(process) = self.workers.get_mut(&worker)
            && let Some(behind) = process.was_revoked(task)
        {
            entry.returned(behind, worker);
        }
        self.event(Event::Cancel(task.into()));
    }

    /// None of these batches' tasks is to start: their map was cancelled.
    fn cancel_batches(&mut self, batches: Vec<TaskRange>) {
        let mut last = None;
        for tasks in batches {
            let key = self.entries.key_of(tasks.first());
            // Those that travelled together are one entry.
            if let Some(key) = key.filter(|_| key != last) {
                self.cancel_entry(key);
            }
            last = key;
        }
    }

    fn cancel_entry(&mut self, key: EntryKey) {
        let revoked = self.workers.values_mut().flat_map(|process| process.revoke_all(key));
        let mut cancelled: Vec<_> = revoked.collect();
        if let Some(EntryMut::Map(map)) = self.entries.get_mut(key) {
            cancelled.extend(map.unsent());
        }
        for tasks in cancelled {
            self.event(Event::Cancel(tasks));
        }
    }

    /// None of these tasks of a map's batch is to start: its consumer has cancelled them.
    fn cancel_items(&mut self, tasks: TaskRange) {
        let Some(key) = self.entries.key_of(tasks.first()) else { return };
        let Some(EntryMut::Map(map)) = self.entries.get_mut(key) else { return };
        let mut cancelled: Vec<_> =
            map.unsent().into_iter().filter_map(|unsent| unsent.overlap(tasks)).collect();
        for (worker, process) in &mut self.workers {
            for revoked in process.revoke_items(key, tasks) {
                let items = revoked.overlap(tasks);
                // Those behind them in their batch will not start there either, and are queued again.
                let (_, behind) = revoked.split_at(items.map_or(0, TaskRange::count));
                cancelled.extend(items);
                behind.into_iter().for_each(|behind| map.returned(behind, *worker));
            }
        }
        for tasks in cancelled {
            self.event(Event::Cancel(tasks));
        }
    }

    /// Tells the dispatcher what has happened; what it makes of that is performed later.
    fn event(&mut self, event: Event) {
        self.parts.dispatcher.handle_event(self.now, event);
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Submit(entry, submission) => {
                let entry = self.entries.insert(submission.tasks, entry);
                self.event(Event::Submit(Submission { entry, ..submission }));
            }
            Request::Cancel(task) => self.cancel(task),
            Request::CancelMap(batches) => self.cancel_batches(batches),
            Request::CancelItems(ranges) => {
                ranges.into_iter().for_each(|tasks| self.cancel_items(tasks));
            }
            Request::CancelRunning(task) => self.event(Event::CancelRunning(task)),
            Request::SpawnWorkers { request, count, started } => {
                self.spawners.insert(request.0, started);
                self.event(Event::SpawnWorkers { request, count });
            }
            Request::SetIdleTimeout(timeout) => self.event(Event::SetIdleTimeout(timeout)),
            Request::Join { join, done } => {
                self.joiners.insert(join, done);
                self.event(Event::Join);
            }
            Request::JoinGivenUp(join) => {
                // One that was answered meanwhile is not there, and others may be.
                self.joiners.remove(&join);
                if self.joiners.is_empty() {
                    self.event(Event::JoinGivenUp);
                }
            }
            Request::Prepared(Ok(artefact)) => {
                for module in &mut self.parts.modules {
                    if Some(module.load.module) == self.prepared_module {
                        module.artefact = artefact.clone();
                        module.load.initialized = true;
                    }
                }
                self.event(Event::Prepared);
            }
            Request::Prepared(Err(error)) => {
                self.failure_causes.preparation = Some(error);
                self.event(Event::PreparationFailed);
            }
            Request::Started { worker, process } => self.started(worker, process),
            Request::Outgrown(worker, excess) => {
                // For the dispatcher this is an unexpected death.
                if let Some(process) = self.workers.get_mut(&worker) {
                    process.end_for_memory(excess);
                }
            }
            Request::Buried(buried) => self.buried(*buried),
            Request::Shutdown(mode) => self.event(Event::Shutdown(mode)),
        }
    }
}
