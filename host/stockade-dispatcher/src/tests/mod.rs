//! Each rule of the dispatcher by itself, on both sides of each limit.
//!
//! [`Bench`] holds a dispatcher at a point in time; telling it something returns what it decided.

mod batches;
mod cancels;
mod ends;
mod hostile;
mod priorities;
mod quarantine;
mod requests;
mod tasks;
mod windows;
mod workers;

use std::collections::BTreeMap;
use std::time::Duration;

use stockade_wire::{ModuleId, TaskId, TaskRange, WorkerId};

use super::{
    Action, Config, Counts, Dispatcher, EntryKey, Event, Moment, RequestId, Resolution,
    ShutdownMode, Submission,
};

const START_TIMEOUT: u64 = 1_000;
const CLOSE_TIMEOUT: u64 = 500;
const RECALL_TIMEOUT: u64 = 20;
const WALL_TIME: u64 = 100;
const WINDOW_TIME: u64 = 4;
const PATIENCE: u64 = 15;
const BACKOFF_MIN: u64 = 10;
const BACKOFF_MAX: u64 = 80;
const START_PATIENCE: u64 = 500;
const REQUEUES_MAX: u32 = 2;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn config(workers_max: usize) -> Config {
    Config {
        workers_max,
        tasks_per_worker_max: None,
        idle_timeout: None,
        start_timeout: ms(START_TIMEOUT),
        close_timeout: ms(CLOSE_TIMEOUT),
        recall_timeout: ms(RECALL_TIMEOUT),
        window_time: ms(WINDOW_TIME),
        window_tasks_max: 8,
        window_batches_max: 8,
        window_bytes_max: 1_000,
        patience: ms(PATIENCE),
        needs_preparation: false,
        start_failures_max: 3,
        start_patience: Some(ms(START_PATIENCE)),
        backoff_min: ms(BACKOFF_MIN),
        backoff_max: ms(BACKOFF_MAX),
        requeues_max: REQUEUES_MAX,
        losses_in_a_row_max: None,
    }
}

fn task(id: u64) -> Submission {
    batch(id, id)
}

fn batch(first: u64, last: u64) -> Submission {
    Submission {
        tasks: tasks(first, last),
        entry: EntryKey(u32::try_from(first % 1_000_000).unwrap()),
        module: ModuleId(0),
        priority: 0,
        task_bytes: 10,
        wall_time: None,
        retries: 0,
    }
}

fn tasks(first: u64, last: u64) -> TaskRange {
    TaskRange::between(TaskId(first), TaskId(last)).unwrap()
}

/// The range of tasks that follow each other.
fn range_of(ids: &[u64]) -> TaskRange {
    let range = tasks(ids[0], ids[ids.len() - 1]);
    assert!(range.iter().map(|task| task.0).eq(ids.iter().copied()), "they follow each other");
    range
}

/// What a bench says instead of a batch's own, after having checked it.
const ENTRY: EntryKey = EntryKey(0);

fn worker(id: u64) -> WorkerId {
    WorkerId(id)
}

fn run(id: u64, ids: &[u64]) -> Action {
    Action::Run(worker(id), ENTRY, range_of(ids))
}

fn recall(id: u64, task: u64) -> Action {
    Action::Recall(worker(id), ENTRY, TaskId(task))
}

fn resolve(task: u64, resolution: Resolution) -> Action {
    resolve_all(&[task], resolution)
}

fn resolve_all(ids: &[u64], resolution: Resolution) -> Action {
    Action::Resolve(ENTRY, range_of(ids), resolution)
}

fn start(task: u64) -> Action {
    Action::Start(ENTRY, TaskId(task))
}

fn spawned(workers: usize) -> Action {
    Action::Spawned(RequestId(1), workers)
}

struct Bench {
    dispatcher: Dispatcher,
    now: Moment,
    /// Whether pages say that something has started behind what is to be stopped.
    has_passed: bool,
    /// By every task that was ever submitted.
    entries: BTreeMap<TaskId, EntryKey>,
}

impl Bench {
    fn new(config: Config) -> Self {
        Self {
            dispatcher: Dispatcher::new(config),
            now: Moment::ZERO,
            has_passed: false,
            entries: BTreeMap::new(),
        }
    }

    /// A pool of at most `workers_max` workers, of which that many are ready.
    fn ready(config: Config) -> Self {
        let count = config.workers_max;
        let mut bench = Self::new(config);
        bench.spawn_workers(count);
        for id in 1..=count as u64 {
            bench.tell(Event::Ready(worker(id)));
        }
        bench
    }

    fn tell(&mut self, event: Event) -> Vec<Action> {
        self.hear(event);
        self.decided()
    }

    /// Tells something, and leaves for later what follows.
    fn hear(&mut self, event: Event) {
        if let Event::Submit(submission) = &event {
            let entries = submission.tasks.iter().map(|task| (task, submission.entry));
            self.entries.extend(entries);
        }
        self.dispatcher.handle_event(self.now, event);
    }

    /// Checks the entry of an action and says [`ENTRY`] instead.
    fn without_entry(&self, action: Action) -> Action {
        let check = |entry, tasks: TaskRange| {
            let is_of_it = |task| self.entries[&task] == entry;
            assert!(tasks.iter().all(is_of_it), "{tasks} are not of {entry:?}");
        };
        match action {
            Action::Run(id, entry, tasks) => {
                check(entry, tasks);
                Action::Run(id, ENTRY, tasks)
            }
            Action::Start(entry, task) => {
                check(entry, task.into());
                Action::Start(ENTRY, task)
            }
            Action::Recall(id, entry, task) => {
                check(entry, task.into());
                Action::Recall(id, ENTRY, task)
            }
            Action::Resolve(entry, tasks, resolution) => {
                check(entry, tasks);
                Action::Resolve(ENTRY, tasks, resolution)
            }
            action => action,
        }
    }

    /// Lets time pass until a moment, which must not skip a timeout.
    fn wait_until(&mut self, millis: u64) {
        assert!(self.timeout().is_none_or(|timeout| timeout >= millis), "a timeout comes first");
        self.now = ms(millis);
    }

    /// Lets the next timeout, which must be due at that moment, come about.
    fn time_out_at(&mut self, millis: u64) -> Vec<Action> {
        assert_eq!(self.timeout(), Some(millis), "the next timeout");
        self.dispatcher.handle_timeout(ms(millis - 1));
        assert_eq!(self.decided(), [], "not a moment too soon");
        self.now = ms(millis);
        self.dispatcher.handle_timeout(self.now);
        self.decided()
    }

    fn timeout(&self) -> Option<u64> {
        self.dispatcher.poll_timeout().map(|timeout| timeout.as_millis() as u64)
    }

    fn decided(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(action) = self.dispatcher.poll_action() {
            match action {
                Action::Stop(worker, task) if !self.has_passed => {
                    self.dispatcher.handle_event(self.now, Event::Stoppable { worker, task });
                }
                action => actions.push(self.without_entry(action)),
            }
        }
        self.dispatcher.check_invariants();
        actions
    }

    fn counts(&self) -> Counts {
        self.dispatcher.counts()
    }

    fn submit(&mut self, submission: Submission) -> Vec<Action> {
        self.tell(Event::Submit(submission))
    }

    /// Asks for workers; the answer is [`spawned`].
    fn spawn_workers(&mut self, count: usize) -> Vec<Action> {
        self.tell(Event::SpawnWorkers { request: RequestId(1), count: Some(count) })
    }

    /// Submits a batch to a pool whose workers are busy or missing, so that it waits.
    fn submit_batch(&mut self, ids: &[u64], change: impl Fn(Submission) -> Submission) {
        if let (Some(first), Some(last)) = (ids.first(), ids.last()) {
            self.submit(change(batch(*first, *last)));
        }
    }

    /// A task ends that took longer than a window, so that nothing is sent to go behind the next.
    fn finish(&mut self, id: u64, task: u64) -> Vec<Action> {
        self.finish_after(2 * WINDOW_TIME, id, task)
    }

    /// A task ends that took so long, or so its worker says.
    fn finish_after(&mut self, millis: u64, id: u64, task: u64) -> Vec<Action> {
        self.finish_all(millis, id, &[task])
    }

    /// Tasks end that took so long all together, or so their worker says.
    fn finish_all(&mut self, millis: u64, id: u64, ids: &[u64]) -> Vec<Action> {
        let (tasks, wall_time) = (range_of(ids), ms(millis));
        self.tell(Event::Finished { worker: worker(id), tasks, wall_time })
    }

    /// The page says that a task was taken back.
    fn take_back(&mut self, id: u64, task: u64) -> Vec<Action> {
        self.tell(Event::TakenBack { worker: worker(id), task: TaskId(task) })
    }

    fn hand_back(&mut self, id: u64, task: u64) -> Vec<Action> {
        self.tell(Event::HandedBack { worker: worker(id), task: TaskId(task) })
    }

    fn exit(&mut self, id: u64, started: Option<u64>) -> Vec<Action> {
        self.tell(Event::Exited { worker: worker(id), started: started.map(TaskId) })
    }

    fn withhold(&mut self, id: u64, ids: &[u64]) -> Vec<Action> {
        self.tell(Event::Withheld { worker: worker(id), tasks: range_of(ids) })
    }

    fn cancel(&mut self, id: u64) -> Vec<Action> {
        self.cancel_all(&[id])
    }

    fn cancel_all(&mut self, ids: &[u64]) -> Vec<Action> {
        self.tell(Event::Cancel(range_of(ids)))
    }

    fn cancel_running(&mut self, id: u64) -> Vec<Action> {
        self.tell(Event::CancelRunning(TaskId(id)))
    }

    fn shut_down(&mut self, mode: ShutdownMode) -> Vec<Action> {
        self.tell(Event::Shutdown(mode))
    }
}

/// A pool of one worker, which holds these tasks as one batch, at time zero.
fn one_worker_with(tasks: &[u64], change: impl Fn(Submission) -> Submission) -> Bench {
    let mut bench = Bench::new(config(1));
    bench.submit_batch(tasks, change);
    assert_eq!(bench.tell(Event::Ready(worker(1))), [run(1, tasks), start(tasks[0])]);
    bench
}

fn as_it_is(submission: Submission) -> Submission {
    submission
}

fn with_wall_time(submission: Submission) -> Submission {
    Submission { wall_time: Some(ms(WALL_TIME)), ..submission }
}

fn with_retry(submission: Submission) -> Submission {
    Submission { retries: 1, ..submission }
}
