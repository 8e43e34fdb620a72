//! The supervisor: the thread that starts worker processes and sees them to their end.
//!
//! Both take about a millisecond, for which no other thread should wait. And it must be one thread
//! that lives as long as the pool: a worker dies with the *thread* that started it.
//!
//! Between the two it samples a worker's memory, since only then its process id is certain to be
//! that worker's: see [`vigil`](crate::process::vigil).
//!
//! Invariant: it does its jobs in order, and answers each; later decisions of the pool about a
//! worker come after the answer.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use stockade_wire::{Setup, WorkerId};

use crate::backend::failure_causes::START;
use crate::backend::own_thread::become_own_thread;
use crate::backend::request::{Request, RequestQueue};
use crate::backend::spare::Workers;
use crate::backend::worker::WorkerProcess;
use crate::outcome::machine::{MachineError, MachineFault};
use crate::process::loadable::Loadable;
use crate::process::template::Starter;
use crate::process::vigil::{Doze, Vigil};
use crate::state::shared::Shared;
use crate::state::watch::Tally;

/// How long nothing has been asked for before a spare is started: some times what a worker that was
/// just given takes for its first task, whose caller needs the processors now.
const QUIET: Duration = Duration::from_millis(2);

/// What the supervisor is to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// Start a worker.
    Start { setup: Box<Setup>, modules: Vec<Loadable> },
    /// Make sure that a worker is gone whose stream has ended, or that is to end.
    Bury { worker: WorkerId, process: Box<WorkerProcess>, failure: Option<String> },
    /// Tell somebody that so many were started.
    Answer { started: Sender<usize>, count: usize },
    /// Sample workers' memory often: one of them runs a task.
    Look,
    /// Have nothing ready any more, and tell those who waited for that.
    Dismiss { joiners: Vec<Sender<()>> },
}

/// The way to the thread, which ends when this is dropped and its last job is done.
#[derive(Debug)]
pub(crate) struct Supervisor {
    jobs: Sender<Job>,
    doze: Arc<Doze>,
}

impl Supervisor {
    /// Starts the thread, which tells `event_loop` what it has done. It may be the one that ends the pool,
    /// so it is whoever waits for that end that joins it.
    ///
    /// # Errors
    /// If the system has no thread to give.
    pub(crate) fn start(
        name: String,
        program: PathBuf,
        event_loop: Weak<dyn RequestQueue>,
        tally: Tally,
        shared: Arc<Shared>,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (jobs, todo) = crossbeam_channel::unbounded();
        let doze = Arc::new(Doze::default());
        let mut rounds = Rounds {
            event_loop: event_loop.clone(),
            vigil: Vigil::new(),
            doze: doze.clone(),
            shared,
        };
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || work(program, &event_loop, &tally, &todo, &mut rounds))?;
        Ok((Self { jobs, doze }, thread))
    }

    /// Has it look often at what workers take, unless it does already. Never blocks.
    pub(crate) fn rouse(&self) {
        if self.doze.rouse() {
            self.add(Job::Look);
        }
    }

    /// Adds a job. Never blocks.
    pub(crate) fn add(&self, job: Job) {
        // The thread ends only after this side.
        let _ = self.jobs.send(job);
    }
}

/// What it looks at between its jobs.
struct Rounds {
    event_loop: Weak<dyn RequestQueue>,
    vigil: Vigil,
    doze: Arc<Doze>,
    shared: Arc<Shared>,
}

impl Rounds {
    fn make(&mut self, workers: &mut Workers) {
        let shared = &self.shared;
        for (worker, excess) in self.vigil.look(&self.doze, || shared.counts().busy > 0) {
            if let Some(event_loop) = self.event_loop.upgrade() {
                event_loop.put(Request::Outgrown(worker, excess));
            }
        }
        workers.look();
    }
}

fn work(
    program: PathBuf,
    event_loop: &Weak<dyn RequestQueue>,
    tally: &Tally,
    todo: &Receiver<Job>,
    rounds: &mut Rounds,
) {
    become_own_thread();
    let mut workers = Workers::new(Starter::new(program));
    while let Some(job) = next(todo, &mut workers, rounds) {
        let done = match job {
            Job::Start { setup, modules } => {
                let worker = setup.worker;
                let process = workers.start(*setup, modules).map(Box::new);
                if let Ok(process) = &process {
                    rounds.vigil.watch(worker, process.pid(), process.memory_allowance);
                    tally.worker_started(&process.name, process.pid());
                }
                if let Err(error) = &process {
                    tally.start_failed(&MachineError::of(START, error));
                }
                Request::Started { worker, process }
            }
            Job::Bury { worker, process, failure } => {
                rounds.vigil.forget(worker);
                workers.lost_one(process.is_killed());
                let was_ready = process.is_set_up && process.modules_left == 0;
                let buried = process.bury(worker, failure);
                tally.worker_ended(&buried.exit, buried.is_meant);
                if !was_ready && buried.is_from_outside() {
                    let fault = MachineFault::of_exit(&buried.exit);
                    tally.start_failed(&MachineError { task: START.into(), fault });
                }
                Request::Buried(Box::new(buried))
            }
            Job::Look => {
                rounds.vigil.hurry();
                continue;
            }
            Job::Answer { started, count } => {
                // The channel holds one message; a receiver that is gone needs none.
                let _ = started.try_send(count);
                continue;
            }
            Job::Dismiss { joiners } => {
                workers.dismiss();
                for joiner in joiners {
                    let _ = joiner.try_send(());
                }
                continue;
            }
        };
        // A pool that is gone needs no answer, and dropping the worker ends it.
        if let Some(event_loop) = event_loop.upgrade() {
            event_loop.put(done);
        }
    }
}

/// The next job, once there is one; `None` at the end. Where it is quiet, a spare is started
/// meanwhile, and workers are looked at when it is time.
fn next(todo: &Receiver<Job>, workers: &mut Workers, rounds: &mut Rounds) -> Option<Job> {
    let mut quiet = workers.lack_spare().then(|| Instant::now() + QUIET);
    loop {
        let Some(at) = quiet.into_iter().chain(rounds.vigil.next()).min() else {
            return todo.recv().ok();
        };
        match todo.recv_deadline(at) {
            Err(RecvTimeoutError::Timeout) if quiet == Some(at) => {
                // Tried once for each job.
                quiet = None;
                workers.start_spare();
            }
            Err(RecvTimeoutError::Timeout) => rounds.make(workers),
            job => return job.ok(),
        }
    }
}
