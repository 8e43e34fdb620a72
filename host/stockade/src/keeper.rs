//! The keeper: the thread that starts worker processes and sees them to their end.
//!
//! Both take about a millisecond, for which nobody else shall wait. And it must be one thread that
//! lives as long as the pool: a worker is told to die with the *thread* that started it.
//!
//! Invariant: what it is given to do it does in that order, and answers each; whatever else the pool
//! decides about a worker meanwhile happens after the answer.

use std::io;
use std::path::PathBuf;
use std::sync::Weak;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use stockade_wire::{Setup, TaskId, WorkerId};

use crate::WorkerExit;
use crate::driver::Command;
use crate::hub::{Hub, become_own_thread};
use crate::process::Starter;
use crate::spare::Workers;
use crate::watch::Tally;
use crate::worker::{Loadable, WorkerProcess};

/// How long nothing has been asked for before a spare is started: some times what a worker that was
/// just given takes for its first task, whose caller needs the processors now.
const QUIET: Duration = Duration::from_millis(2);

/// What the keeper is to do.
#[derive(Debug)]
pub(crate) enum Chore {
    /// Start a worker.
    Start { setup: Box<Setup>, modules: Vec<Loadable> },
    /// Make sure that a worker is gone whose stream has ended, or that is to end.
    Bury { worker: WorkerId, process: Box<WorkerProcess>, failure: Option<String> },
    /// Tell somebody that so many were started.
    Answer { started: Sender<usize>, count: usize },
    /// Have nothing ready any more, and tell those who waited for that.
    Dismiss { joiners: Vec<Sender<()>> },
}

/// A worker that is gone.
#[derive(Debug)]
pub(crate) struct Buried {
    pub(crate) worker: WorkerId,
    pub(crate) exit: WorkerExit,
    /// Whether the pool brought its end about, as far as that is known.
    pub(crate) is_meant: bool,
    /// What its page says that it started last, read when nothing writes it any more.
    pub(crate) started: Option<TaskId>,
    /// What it had been sent and had not answered.
    pub(crate) sent: Vec<TaskId>,
    pub(crate) failure: Option<String>,
}

/// The way to the thread, which ends when this is dropped and its last chore is done.
#[derive(Debug)]
pub(crate) struct Keeper(Sender<Chore>);

impl Keeper {
    /// Starts the thread, which tells `hub` what it has done. It may be the one that ends the pool,
    /// so it is whoever waits for that end that joins it.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub(crate) fn start(
        name: String,
        program: PathBuf,
        hub: Weak<Hub>,
        tally: Tally,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (chores, todo) = crossbeam_channel::unbounded();
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || work(program, &hub, &tally, &todo))?;
        Ok((Self(chores), thread))
    }

    /// Adds a chore. Never blocks.
    pub(crate) fn add(&self, chore: Chore) {
        // The thread ends only after this side.
        let _ = self.0.send(chore);
    }
}

fn work(program: PathBuf, hub: &Weak<Hub>, tally: &Tally, todo: &Receiver<Chore>) {
    become_own_thread();
    let mut workers = Workers::new(Starter::new(program));
    while let Some(chore) = next(todo, &mut workers) {
        let done = match chore {
            Chore::Start { setup, modules } => {
                let worker = setup.worker;
                let process = workers.start(*setup, modules).map(Box::new);
                if let Ok(process) = &process {
                    tally.worker_started(&process.name, process.pid());
                }
                Command::Started { worker, process }
            }
            Chore::Bury { worker, process, failure } => {
                workers.lost_one(process.is_killed());
                let buried = process.bury(worker, failure);
                tally.worker_ended(&buried.exit, buried.is_meant);
                Command::Buried(Box::new(buried))
            }
            Chore::Answer { started, count } => {
                // Holds one message; one who has gone wants none.
                let _ = started.try_send(count);
                continue;
            }
            Chore::Dismiss { joiners } => {
                workers.dismiss();
                for joiner in joiners {
                    let _ = joiner.try_send(());
                }
                continue;
            }
        };
        // A pool that is gone wants no answer, and what was started ends as it is dropped.
        if let Some(hub) = hub.upgrade() {
            let _ = hub.tell(done);
        }
    }
}

/// The next chore, once there is one; `None` at the end. Where it is quiet, a spare is started
/// meanwhile.
fn next(todo: &Receiver<Chore>, workers: &mut Workers) -> Option<Chore> {
    if workers.lack_spare() {
        match todo.recv_timeout(QUIET) {
            Err(RecvTimeoutError::Timeout) => workers.start_spare(),
            chore => return chore.ok(),
        }
    }
    todo.recv().ok()
}
