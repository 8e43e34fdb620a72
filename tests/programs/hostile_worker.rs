//! A worker that does what no worker should: what a guest that took its worker over could do.
//!
//! As a compiler it is the real one. As a worker it answers every task with 7, but the first worker
//! of a pool answers its first task as the pool's name asks, up to the first dot.
#![allow(unsafe_code)]

use std::io::Write;
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use stockade_tests::finished;
use stockade_wire::descriptor::{Receiver, Sender};
use stockade_wire::frame::FRAME_BYTES_MAX;
use stockade_wire::{
    Captured, Failure, HostMessage, LockdownReport, ModuleId, Outcome, Role, Run, Scalar, Setup,
    StatusPage, TaskId, WorkerMessage,
};

fn main() -> Result<()> {
    let argument = std::env::args().nth(1).context("started by hand")?;
    match Role::from_argument(&argument) {
        Some(Role::Worker) => work(),
        Some(Role::Compiler) => {
            Err(Command::new(stockade_tests::worker_program()).arg(argument).exec().into())
        }
        None => bail!("{argument} is no role"),
    }
}

struct Worker {
    socket: UnixStream,
    sender: Sender,
    receiver: Receiver,
    page: StatusPage,
    /// Tasks that came and are not answered.
    tasks: Vec<Run>,
}

fn work() -> Result<()> {
    // SAFETY: whoever starts a worker leaves its socket there; nothing else here uses the number.
    let socket = unsafe { UnixStream::from_raw_fd(stockade_wire::SOCKET_DESCRIPTOR) };
    let mut receiver = Receiver::new(socket.try_clone()?, FRAME_BYTES_MAX);
    let Some(HostMessage::Setup(setup)) = receiver.receive()? else { bail!("no setup") };
    let page = receiver.take_descriptor().context("no page")?;
    let page = StatusPage::open(page.into())?;
    let sender = Sender::new(socket.try_clone()?);
    let mut worker = Worker { socket, sender, receiver, page, tasks: Vec::new() };
    worker.say(&WorkerMessage::Ready(LockdownReport(Vec::new())))?;
    let mut evil = evil_of(&setup);
    loop {
        match worker.receiver.receive()? {
            Some(HostMessage::Load(load)) => {
                worker.receiver.take_descriptor();
                worker.say(&WorkerMessage::Loaded(load.module))?;
            }
            Some(HostMessage::Run(run)) => {
                worker.tasks.push(run);
                // All that were sent together.
                if worker.receiver.is_ready()? {
                    continue;
                }
                if let Some(evil) = evil.take() {
                    worker.misbehave(&evil)?;
                }
                worker.answer_all()?;
            }
            Some(HostMessage::Close) => {
                worker.say(&WorkerMessage::Closed)?;
                return Ok(());
            }
            Some(_) => {}
            None => return Ok(()),
        }
    }
}

/// What the first worker of a pool is to do.
fn evil_of(setup: &Setup) -> Option<String> {
    let (evil, _) = setup.name.split_once('.')?;
    (setup.worker.0 == 1).then(|| evil.to_owned())
}

impl Worker {
    fn say(&mut self, message: &WorkerMessage) -> Result<()> {
        Ok(self.sender.send(message)?)
    }

    fn answer_all(&mut self) -> Result<()> {
        for run in std::mem::take(&mut self.tasks) {
            let outcome = if self.page.start(run.slot, run.task) {
                Outcome::Scalars(vec![Scalar::I32(7)])
            } else {
                Outcome::Recalled
            };
            self.say(&finished(run.task, outcome))?;
        }
        Ok(())
    }

    /// Tells the page that `task` has started, whatever the host had to say there.
    fn claim_start(&self, task: TaskId) {
        self.page.offer(0, task);
        let _ = self.page.start(0, task);
    }

    fn misbehave(&mut self, evil: &str) -> Result<()> {
        let first = self.tasks[0].task;
        let last = self.tasks[self.tasks.len() - 1].task;
        let seven = || Outcome::Scalars(vec![Scalar::I32(7)]);
        self.claim_start(first);
        match evil {
            "wrong-kind" => self.say(&finished(first, Outcome::Returned(vec![7])))?,
            "no-command" => self.say(&finished(first, Outcome::Exited(7)))?,
            "recalled" => self.say(&finished(first, Outcome::Recalled))?,
            "unknown-task" => self.say(&finished(TaskId(1 << 40), seven()))?,
            "no-task" => self.say(&finished(TaskId(0), seven()))?,
            "backwards" => self.say(&finished(last, seven()))?,
            "twice" => {
                self.say(&finished(first, seven()))?;
                self.say(&finished(first, seven()))?;
            }
            "too-much-output" => {
                let mut message = finished(first, seven());
                if let WorkerMessage::Finished(finished) = &mut message {
                    finished.stdout = Captured { bytes: vec![b'x'; 200_000], dropped: 0 };
                }
                self.say(&message)?;
            }
            "too-many-results" => {
                self.say(&finished(first, Outcome::Scalars(vec![Scalar::I64(7); 100_000])))?;
                self.tasks.remove(0);
                // Nothing that its host can see is wrong with it: it goes on.
                return Ok(());
            }
            "items-without-end" => loop {
                self.say(&WorkerMessage::Emitted(first, vec![0; 1000]))?;
            },
            "items-of-another" => self.say(&WorkerMessage::Emitted(last, vec![7]))?,
            "results-without-end" => loop {
                self.say(&finished(first, seven()))?;
            },
            "ready-without-end" => loop {
                self.say(&WorkerMessage::Ready(LockdownReport(Vec::new())))?;
            },
            "loaded-again" => self.say(&WorkerMessage::Loaded(ModuleId(0)))?,
            "closed" => self.say(&WorkerMessage::Closed)?,
            "initializer-failed" => self.say(&WorkerMessage::InitializerFailed(lie()))?,
            "finalizer-failed" => self.say(&WorkerMessage::FinalizerFailed(lie()))?,
            "initialized" => self.say(&WorkerMessage::Initialized { state_bytes: u64::MAX })?,
            "load-failed" => self.say(&WorkerMessage::LoadFailed(ModuleId(9), "no".into()))?,
            "long-frame" => self.socket.write_all(&0x7fff_ffff_u32.to_le_bytes())?,
            "frame-elsewhere" => self.socket.write_all(&0x8000_0004_u32.to_le_bytes())?,
            "no-message" => self.socket.write_all(&[4, 0, 0, 0, 255, 255, 255, 255])?,
            "half-a-frame" => {
                self.socket.write_all(&[100, 0, 0, 0, 5])?;
                std::process::exit(0);
            }
            "half-a-frame-and-silence" => {
                self.socket.write_all(&[100, 0, 0, 0, 5])?;
                sleep();
            }
            "silence" => sleep(),
            "started-another" => {
                self.claim_start(last);
                std::process::exit(0);
            }
            "started-nonsense" => {
                self.claim_start(TaskId(u64::MAX));
                std::process::exit(0);
            }
            "started-nothing" => {
                self.claim_start(TaskId(0));
                std::process::exit(0);
            }
            "abort" => std::process::abort(),
            unknown => bail!("no such evil: {unknown}"),
        }
        // Whatever it did next, its host would not wait for it.
        sleep()
    }
}

fn sleep() -> ! {
    loop {
        std::thread::park();
    }
}

fn lie() -> Failure {
    Failure::Guest("a lie".into())
}
