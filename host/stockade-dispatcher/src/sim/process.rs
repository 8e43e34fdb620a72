//! A worker process as the simulator plays it: honest most of the time, and hostile at any moment.
//!
//! It works while its messages and its death are still on their way, so that every race between the
//! host's wishes and the worker's deeds takes place.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use stockade_wire::{ModuleId, TaskId, TaskRange, WorkerId};

use super::super::{Event, Hook, Moment};
use super::world::{Happening, World};

/// What a process is sent.
#[derive(Clone, Copy)]
pub(super) struct Job {
    pub(super) task: TaskId,
    pub(super) module: ModuleId,
    pub(super) wall_time: Option<Duration>,
}

/// A batch as it arrived, with the page's slot of it.
struct Arrived {
    jobs: Vec<Job>,
    /// How many have started.
    next: usize,
    /// How many may.
    limit: usize,
}

impl Arrived {
    fn index_of(&self, task: TaskId) -> Option<usize> {
        self.jobs.iter().position(|job| job.task == task)
    }
}

/// What a slot says to somebody who wants tasks back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Revocation {
    /// Nothing from this task on starts.
    Done(TaskId),
    /// Likewise, and that was so before.
    DoneBefore(TaskId),
    TooLate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Activity {
    Starting,
    Waiting,
    Running(TaskId),
    Finalizing,
    Gone,
}

/// What a process does when it wakes.
#[derive(Clone, Copy)]
enum Step {
    BecomeReady,
    /// Turns to what has arrived.
    Proceed,
    Finish,
    /// As if the answer had never been written.
    FinishSilently,
    Close,
    Crash,
    FailToSpawn,
    FailHook(Hook),
    /// Sends a lie, then goes on.
    Lie,
}

pub(super) struct Process {
    id: WorkerId,
    activity: Activity,
    inbox: VecDeque<Arrived>,
    /// What it has finished and not told, and how long that took.
    finished: Option<(TaskRange, Duration)>,
    /// What it has handed back and was not sent again.
    handed_back: BTreeSet<TaskId>,
    /// When it began to run what it runs.
    began: Moment,
    close_asked: bool,
    page: Option<TaskId>,
    next: Step,
    /// Tells the wake that is due from those that something else has overtaken.
    epoch: u64,
    /// When the last of its messages arrives.
    pipe_until: Moment,
    /// Whether it ever lied, so that nothing it did can be held against the dispatcher.
    pub(super) lied: bool,
    /// Every task whose code it really began to run.
    pub(super) starts: Vec<TaskId>,
    /// Every task it was ever sent.
    pub(super) sent: Vec<TaskId>,
}

impl Process {
    pub(super) fn spawn(id: WorkerId, world: &mut World) -> Self {
        let mut process = Self {
            id,
            activity: Activity::Starting,
            inbox: VecDeque::new(),
            finished: None,
            handed_back: BTreeSet::new(),
            began: world.now,
            close_asked: false,
            page: None,
            next: Step::BecomeReady,
            epoch: 0,
            pipe_until: world.now,
            lied: false,
            starts: Vec::new(),
            sent: Vec::new(),
        };
        let (first, last, step) = match if world.fault() { world.rng.below(8) } else { 8 } {
            0 => (0, 0, Step::FailToSpawn),
            1 => return process,
            2 => (0, 12, Step::FailHook(Hook::Initializer)),
            3 => (0, 12, Step::Lie),
            4 => (25, 40, Step::BecomeReady),
            5..8 => (0, 12, Step::Crash),
            _ => (0, 12, Step::BecomeReady),
        };
        process.plan(world, first, last, step);
        process
    }

    /// A batch arrives, of which so many may start.
    pub(super) fn run(&mut self, jobs: Vec<Job>, limit: usize, world: &mut World) {
        self.sent.extend(jobs.iter().map(|job| job.task));
        self.handed_back.retain(|task| jobs.iter().all(|job| job.task != *task));
        self.inbox.push_back(Arrived { jobs, next: 0, limit });
        self.notice(world);
    }

    /// Revokes the rest of a batch on its page, dead or alive: from a task on, or, if that has started, from
    /// the next one on.
    pub(super) fn revoke_rest(&mut self, task: TaskId) -> Revocation {
        let Some((arrived, index)) = self.latest(task) else { return Revocation::TooLate };
        let limit = index.max(arrived.next);
        if limit < arrived.limit {
            arrived.limit = limit;
            return Revocation::Done(arrived.jobs[limit].task);
        }
        match arrived.jobs.get(index.max(arrived.limit)) {
            Some(job) => Revocation::DoneBefore(job.task),
            None => Revocation::TooLate,
        }
    }

    /// Revokes a task on its page, with all behind it in its batch, unless it has started.
    pub(super) fn revoke(&mut self, task: TaskId) -> Revocation {
        match self.latest(task) {
            Some((arrived, index)) if index >= arrived.next => self.revoke_rest(task),
            _ => Revocation::TooLate,
        }
    }

    /// Whether its page says that it never starts what was sent last of this name.
    pub(super) fn has_revoked(&self, task: TaskId) -> bool {
        let index = |arrived: &Arrived| Some((arrived.limit, arrived.index_of(task)?));
        let found = self.inbox.iter().rev().find_map(index);
        found.map_or(self.handed_back.contains(&task), |(limit, index)| index >= limit)
    }

    fn latest(&mut self, task: TaskId) -> Option<(&mut Arrived, usize)> {
        self.inbox.iter_mut().rev().find_map(|arrived| {
            let index = arrived.index_of(task)?;
            Some((arrived, index))
        })
    }

    /// Whether its page says that it has started one of these.
    pub(super) fn has_started(&mut self, tasks: &[TaskId], world: &mut World) -> bool {
        let has_started = tasks.iter().any(|task| self.starts.contains(task));
        let lies = world.fault() && world.rng.chance(30);
        self.lied |= lies;
        has_started != lies
    }

    pub(super) fn close(&mut self, world: &mut World) {
        self.close_asked = true;
        self.notice(world);
    }

    /// Something has been sent; if it waits for that, it has it in a moment.
    fn notice(&mut self, world: &mut World) {
        if self.activity == Activity::Waiting {
            self.plan(world, 0, 1, Step::Proceed);
        }
    }

    pub(super) fn kill(&mut self, world: &mut World) {
        if self.activity != Activity::Gone {
            self.exit(world);
        }
    }

    pub(super) fn wake(&mut self, epoch: u64, world: &mut World) {
        if epoch != self.epoch {
            return;
        }
        match (self.next, self.activity) {
            (Step::BecomeReady, _) => {
                self.activity = Activity::Waiting;
                self.say(Event::Ready(self.id), world);
                self.proceed(world);
            }
            (Step::Proceed, _) => self.proceed(world),
            (Step::Finish, Activity::Running(task)) => {
                self.activity = Activity::Waiting;
                self.finish(task, world);
                self.proceed(world);
            }
            (Step::FinishSilently, _) => {
                self.lied = true;
                self.activity = Activity::Waiting;
                self.proceed(world);
            }
            (Step::Close, _) => {
                self.say(Event::Closed(self.id), world);
                self.exit(world);
            }
            (Step::FailToSpawn, _) => {
                self.blame_outside(world);
                self.activity = Activity::Gone;
                self.say(Event::SpawnFailed(self.id), world);
            }
            (Step::FailHook(hook), _) => {
                self.ring(world);
                self.say(Event::HookFailed { worker: self.id, hook }, world);
                self.exit(world);
            }
            (Step::Lie, activity) => {
                self.lie(world);
                let step = match activity {
                    Activity::Starting => Step::BecomeReady,
                    Activity::Running(_) => Step::Finish,
                    _ => Step::Close,
                };
                self.plan(world, 0, 6, step);
            }
            (Step::Crash, _) | (Step::Finish, _) => self.exit(world),
        }
    }

    /// Turns to what waits, if it has nothing else to do.
    fn proceed(&mut self, world: &mut World) {
        if self.activity != Activity::Waiting {
            return;
        }
        self.epoch += 1;
        while let Some(arrived) = self.inbox.front_mut() {
            let Some(&job) = arrived.jobs.get(arrived.next) else {
                self.inbox.pop_front();
                continue;
            };
            let is_revoked = arrived.next >= arrived.limit;
            let Job { task, wall_time, .. } = job;
            // Without a deadline nothing would end it: its own, or that of the hand-back.
            if (wall_time.is_some() || is_revoked) && world.fault() && world.rng.chance(30) {
                return;
            }
            if is_revoked && world.fault() && world.rng.chance(30) {
                self.lied = true;
                if world.rng.chance(50) {
                    world.coverage.see("situation: a revoked task was answered as if it had run");
                    let last = arrived.jobs.last().unwrap().task;
                    self.inbox.pop_front();
                    self.ring(world);
                    let tasks = TaskRange::between(task, last).unwrap();
                    let wall_time = world.any_time();
                    self.say(Event::Finished { worker: self.id, tasks, wall_time }, world);
                    continue;
                }
                world.coverage.see("situation: a worker ran what was taken back");
                arrived.limit = arrived.next + 1;
            } else if is_revoked {
                let rest = arrived.jobs.split_off(arrived.next);
                self.inbox.pop_front();
                let is_here = |task| self.inbox.iter().any(|sent| sent.index_of(task).is_some());
                let gone = rest.iter().map(|job| job.task).filter(|task| !is_here(*task));
                self.handed_back.extend(gone);
                self.ring(world);
                self.say(Event::HandedBack { worker: self.id, task }, world);
                continue;
            } else if world.fault() && world.rng.chance(20) {
                return self.exit(world);
            }
            if let Some(arrived) = self.inbox.front_mut() {
                arrived.next += 1;
            }
            return self.start(job, world);
        }
        self.ring(world);
        if self.close_asked {
            self.finalize(world);
        } else if world.fault() && world.rng.chance(30) {
            let step = if world.rng.chance(50) { Step::Crash } else { Step::Lie };
            self.plan(world, 0, 30, step);
        }
    }

    fn start(&mut self, job: Job, world: &mut World) {
        let Job { task, module, wall_time } = job;
        let taken_back = world.revoked.contains(&task);
        assert!(self.lied || !taken_back, "task {task} starts after it was taken back");
        self.activity = Activity::Running(task);
        self.began = world.now;
        self.page = Some(task);
        self.starts.push(task);
        if world.rng.chance(5) {
            let at = world.now + world.rng.millis(0, 1);
            world.at(at, Happening::CancelEvenRunning(task));
        }
        if world.crashes(module) {
            return self.plan(world, 0, 10, Step::Crash);
        }
        let (first, last, step) = match if world.fault() { world.rng.below(10) } else { 10 } {
            // Without a deadline nothing would end these two.
            0 | 1 if wall_time.is_some() => return,
            2 | 3 if wall_time.is_some() => (0, 10, Step::FinishSilently),
            4 => (0, 10, Step::Lie),
            5 => (15, 40, Step::Finish),
            6 if world.rng.chance(40) => (0, 10, Step::FailHook(Hook::Initializer)),
            0..10 => (0, 10, Step::Crash),
            _ if world.rng.chance(world.slow_percent) => (8, 60, Step::Finish),
            _ => (0, world.task_millis_max, Step::Finish),
        };
        self.plan(world, first, last, step);
    }

    /// A task has run to its end. Its answer may wait for the next one's.
    fn finish(&mut self, task: TaskId, world: &mut World) {
        let honest = world.now - self.began;
        let wall_time = if world.fault() { world.any_time() } else { honest };
        let follows = |(tasks, _): &(TaskRange, Duration)| tasks.last().0 + 1 == task.0;
        if !self.finished.as_ref().is_some_and(follows) {
            self.ring(world);
        }
        let (first, sum) = match self.finished {
            Some((tasks, sum)) => (tasks.first(), sum),
            None => (task, Duration::ZERO),
        };
        let tasks = TaskRange::between(first, task).unwrap();
        self.finished = Some((tasks, sum.saturating_add(wall_time)));
        if world.rng.chance(50) {
            self.ring(world);
        } else {
            let at = world.now + world.rng.millis(0, 2);
            world.at(at, Happening::Ring(self.id));
        }
    }

    /// Tells what it has finished.
    pub(super) fn ring(&mut self, world: &mut World) {
        if let Some((tasks, wall_time)) = self.finished.take() {
            self.say(Event::Finished { worker: self.id, tasks, wall_time }, world);
        }
    }

    fn finalize(&mut self, world: &mut World) {
        self.activity = Activity::Finalizing;
        let step = match if world.fault() { world.rng.below(5) } else { 5 } {
            0 => return,
            1 => Step::FailHook(Hook::Finalizer),
            2 => Step::Lie,
            3 | 4 => Step::Crash,
            _ => Step::Close,
        };
        self.plan(world, 0, 8, step);
    }

    /// Some starts end by something outside of the pool.
    fn blame_outside(&mut self, world: &mut World) {
        if self.activity == Activity::Starting && world.fault_percent > 0 && world.rng.chance(40) {
            self.say(Event::EndedFromOutside(self.id), world);
        }
    }

    fn exit(&mut self, world: &mut World) {
        self.blame_outside(world);
        self.activity = Activity::Gone;
        self.epoch += 1;
        self.ring(world);
        let mut started = self.page;
        if world.fault() {
            started = match world.rng.below(4) {
                0 => None,
                1 => Some(world.any_task()),
                _ => self.inbox.back().map(|arrived| arrived.jobs[arrived.jobs.len() - 1].task),
            };
        }
        if started != self.page {
            self.lied = true;
            world.coverage.see("situation: a status page lied");
        }
        self.say(Event::Exited { worker: self.id, started }, world);
        if world.fault() && world.rng.chance(30) {
            world.coverage.see("situation: a late message of a worker that is gone");
            self.lie(world);
        }
    }

    /// Says what an honest worker would not say now, except by chance.
    fn lie(&mut self, world: &mut World) {
        self.lied = true;
        let worker = self.id;
        let lie = match world.rng.below(8) {
            0 => Event::Ready(worker),
            1 => Event::Closed(worker),
            2 => Event::Misbehaved(worker),
            3 => Event::HookFailed { worker, hook: Hook::Finalizer },
            4 if self.activity == Activity::Gone => Event::Exited { worker, started: None },
            _ => {
                let task = match (world.rng.below(4), self.activity) {
                    (0, Activity::Running(task)) => task,
                    (1, _) => self.sent.last().copied().unwrap_or(TaskId(0)),
                    (2, _) => self.inbox.front().map_or(TaskId(0), |arrived| arrived.jobs[0].task),
                    _ => world.any_task(),
                };
                if world.rng.chance(40) {
                    Event::HandedBack { worker, task }
                } else {
                    // With what it has really finished, often.
                    let mut first = task;
                    if let Some((tasks, _)) = self.finished.take() {
                        first = if world.rng.chance(60) { tasks.first() } else { task };
                    }
                    let count = [1, 1, 2, 3, 12][world.rng.below(5) as usize];
                    let tasks = TaskRange::new(first, count).unwrap();
                    Event::Finished { worker, tasks, wall_time: world.any_time() }
                }
            }
        };
        self.say(lie, world);
    }

    /// Sends a message, which arrives some time after all earlier ones.
    fn say(&mut self, event: Event, world: &mut World) {
        let arrival = world.now + world.rng.millis(0, 2);
        self.pipe_until = self.pipe_until.max(arrival);
        world.at(self.pipe_until, Happening::Tell(event));
    }

    fn plan(&mut self, world: &mut World, first: u64, last: u64, step: Step) {
        self.next = step;
        self.epoch += 1;
        let at = world.now + world.rng.millis(first, last);
        world.at(at, Happening::Wake(self.id, self.epoch));
    }
}
