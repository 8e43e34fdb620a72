//! A worker that does what no worker should: what a guest that took its worker over could do.
//!
//! As a compiler it is the real one, unless it inherited what it should not have. As a worker it
//! answers every task with 7, but the first worker of a pool answers the first tasks that it holds
//! together as the pool's name asks, up to the first dot. Where a gate is granted, workers become
//! ready when it is open: so the test can see to it that there are as many.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::FileType;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use stockade_tests::{HOSTILE_BATCH, finished};
use stockade_wire::descriptor::{Sender, memory_file, sealed_file};
use stockade_wire::frame;
use stockade_wire::{
    COREDUMP_PIECE_BYTES, Captured, ERROR_TEXT_BYTES_MAX, Failure, Frame, GuestError, HostMessage,
    Invocation, LockdownReport, Metrics, ModuleId, Outcome, PageSlot, RING_BYTES, Rings, Role,
    SCALARS_MAX, Scalar, Setup, StatusPage, TaskId, WorkerMessage, WorkerPort, Written,
};

/// What the page's words are: four, then one for each slot, which holds the number of a batch's first
/// task, the index of the task that starts next, and that of the first that must not.
const PAGE_WORDS: usize = 512;
const WORDS_BEFORE_SLOTS: u64 = 4;
const INDICES_BITS: u32 = 22;

/// Where the ring of a worker's records has its head, and its first record.
const WORKERS_HEAD_AT: u64 = 256;
const WORKERS_RECORDS_AT: u64 = 4096 + RING_BYTES as u64;

/// Before an evil: every task emits an item, that of the evil too.
const EMITTING: &str = "emitting-";

/// The most descriptors that Linux takes besides one message.
const DESCRIPTORS_MAX: usize = 253;

fn main() -> Result<()> {
    let inherited = inherited();
    let argument = std::env::args().nth(1).context("started by hand")?;
    match Role::from_argument(&argument) {
        Some(Role::Worker) => work(inherited),
        Some(Role::Compiler) => {
            ensure!(inherited == stockade_tests::INHERITED, "a compiler inherited {inherited}");
            Err(Command::new(stockade_tests::worker_program()).arg(argument).exec().into())
        }
        Some(Role::Template) => bail!("every worker is to begin by itself"),
        None => bail!("{argument} is no role"),
    }
}

struct Worker {
    socket: UnixStream,
    sender: Sender,
    receiver: WorkerPort,
    page: StatusPage,
    page_file: File,
    rings_file: File,
    name: String,
    inherited: String,
    /// Tasks that came and are not answered.
    tasks: Vec<Given>,
}

/// A task as it came, perhaps in a batch.
struct Given {
    task: TaskId,
    place: PageSlot,
    invocation: Invocation,
}

/// The descriptors that this process began with, and what they are, and its environment.
fn inherited() -> String {
    let mut things = Vec::new();
    for number in 0..RawFd::from(4096_u16) {
        // SAFETY: only asked whether it is open; nothing else runs that could close it meanwhile.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let Ok(status) = rustix::fs::fstat(descriptor) else { continue };
        let what = match FileType::from_raw_mode(status.st_mode) {
            FileType::Socket => "socket",
            FileType::CharacterDevice if status.st_rdev == rustix::fs::makedev(1, 3) => "null",
            _ => "something else",
        };
        things.push(format!("{number} {what}"));
    }
    things.extend(std::env::vars_os().map(|(name, _)| format!("${}", name.to_string_lossy())));
    things.join(", ")
}

fn work(inherited: String) -> Result<()> {
    // SAFETY: whoever starts a worker leaves its socket there; nothing else here uses the number.
    let socket = unsafe { UnixStream::from_raw_fd(stockade_wire::SOCKET_DESCRIPTOR) };
    let mut receiver = WorkerPort::new(socket.try_clone()?)?;
    let Some(HostMessage::Setup(setup)) = receiver.receive()? else { bail!("no setup") };
    let page = receiver.take_descriptor().context("no page")?;
    let rings_file = File::from(receiver.take_descriptor().context("no rings")?);
    receiver.use_rings(&Rings::open(rings_file.try_clone()?)?);
    let page_file = File::from(page);
    let page = StatusPage::open(page_file.try_clone()?)?;
    let sender = Sender::new(socket.try_clone()?);
    let (name, tasks) = (setup.name.clone(), Vec::new());
    let mut worker =
        Worker { socket, sender, receiver, page, page_file, rings_file, name, inherited, tasks };
    wait_at_gate(&setup);
    worker.say(&WorkerMessage::Ready(LockdownReport(Vec::new())))?;
    let mut evil = evil_of(&setup);
    loop {
        match worker.receiver.receive()? {
            Some(HostMessage::Load(load)) => {
                worker.receiver.take_descriptor();
                worker.say(&WorkerMessage::Loaded(load.module))?;
            }
            Some(HostMessage::Run(run)) => {
                if run.placement.is_some_and(|placement| placement.brings_descriptor()) {
                    worker.receiver.take_descriptor();
                }
                worker.tasks.extend((0..).zip(run.tasks.iter()).map(|(index, task)| Given {
                    task,
                    place: PageSlot { slot: run.slot, first: run.tasks.first(), index },
                    invocation: run.invocation.clone(),
                }));
                if evil.as_deref().is_some_and(|evil| worker.tasks.len() < batch_of(evil)) {
                    continue;
                }
                if let Some(evil) = evil.take() {
                    worker.misbehave(&evil)?;
                }
                worker.answer_all()?;
            }
            Some(HostMessage::Close) => {
                match worker.name.split('.').next() {
                    Some("closed-without-end") => worker.say_for_ever(&WorkerMessage::Closed)?,
                    Some("finalizer-items-without-end") => worker.emit_for_ever(TaskId(0), 1000)?,
                    _ => worker.say(&WorkerMessage::Closed)?,
                }
                return Ok(());
            }
            Some(_) => {}
            None => return Ok(()),
        }
    }
}

fn wait_at_gate(setup: &Setup) {
    let Some(gate) = setup.grants.directories().first() else { return };
    let open = gate.host().join("open");
    while !open.exists() {
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// How many tasks it holds before it does that: long inputs and columns come one by one.
fn batch_of(evil: &str) -> usize {
    let is_alone = evil.starts_with("in-payload") || evil.starts_with("column-");
    if is_alone { 1 } else { HOSTILE_BATCH }
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

    fn say_for_ever(&mut self, message: &WorkerMessage) -> Result<()> {
        loop {
            self.say(message)?;
        }
    }

    fn emit_for_ever(&mut self, task: TaskId, bytes: usize) -> Result<()> {
        self.say_for_ever(&WorkerMessage::Emitted(task, vec![0; bytes]))
    }

    /// Says that `task` has failed, which it did with so many words.
    fn fail(&mut self, task: TaskId, failure: Failure) -> Result<()> {
        self.say(&finished(task, Outcome::Failed(failure)))
    }

    /// Says a piece of a core dump, of so many bytes.
    fn dump(&mut self, task: TaskId, bytes: usize) -> Result<()> {
        self.say(&WorkerMessage::Dumped { task, piece: vec![7; bytes], left_out: u64::MAX })
    }

    fn answer_all(&mut self) -> Result<()> {
        let mut revoked = None;
        for run in std::mem::take(&mut self.tasks) {
            let batch = (run.place.slot, run.place.first);
            if revoked == Some(batch) {
                // One answer stands for all of them.
                continue;
            }
            let outcome = match (self.page.start(run.place), run.invocation) {
                (false, _) => Outcome::Recalled,
                (true, Invocation::Task(_)) => Outcome::Returned(vec![7]),
                // As long as its items, which are few enough to come with the message.
                (true, Invocation::Column { input, .. }) => Outcome::Returned(vec![7; input.len()]),
                (true, _) => Outcome::Scalars(vec![Scalar::I32(7)]),
            };
            revoked = (outcome == Outcome::Recalled).then_some(batch);
            if revoked.is_none() && self.name.starts_with(EMITTING) {
                self.say(&WorkerMessage::Emitted(run.task, vec![7]))?;
            }
            self.say(&finished(run.task, outcome))?;
        }
        Ok(())
    }

    /// Answers everything as if nothing were, whatever its page says.
    fn answer_all_blindly(&mut self) -> Result<()> {
        for run in std::mem::take(&mut self.tasks) {
            self.say(&finished(run.task, Outcome::Scalars(vec![Scalar::I32(7)])))?;
        }
        Ok(())
    }

    /// Says `message` with the same descriptor with it so many times.
    fn say_with(&mut self, message: &WorkerMessage, count: usize) -> Result<()> {
        let mut bytes = Vec::new();
        frame::encode_inline(message, &mut bytes)?;
        // Named for the pool, so that the host can be searched for it.
        let loot = memory_file(&self.name)?;
        self.write_with(&bytes, &vec![loot.as_fd(); count])
    }

    fn write_with(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ensure!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)), "too many");
        let bytes = [IoSlice::new(bytes)];
        rustix::net::sendmsg(&self.socket, &bytes, &mut ancillary, SendFlags::empty())?;
        Ok(())
    }

    /// Writes over the whole page: `word` of its place.
    fn overwrite_page(&self, word: impl Fn(usize) -> u64) -> Result<()> {
        let words: Vec<u8> = (0..PAGE_WORDS).flat_map(|at| word(at).to_le_bytes()).collect();
        Ok(self.page_file.write_all_at(&words, 0)?)
    }

    /// Claims that its ring, in which it has written nothing, is written up to `head` and begins
    /// with a record that says `header`; and rings.
    fn overwrite_ring(&mut self, head: u64, header: u64) -> Result<()> {
        self.rings_file.write_all_at(&header.to_le_bytes(), WORKERS_RECORDS_AT)?;
        self.rings_file.write_all_at(&head.to_le_bytes(), WORKERS_HEAD_AT)?;
        Ok(self.socket.write_all(&frame::BELL)?)
    }

    /// Says which task is the last that it holds, and waits until its caller has taken it back.
    fn await_cancel_of_last(&self) -> Result<()> {
        let (first, last) = (&self.tasks[0], &self.tasks[self.tasks.len() - 1]);
        self.page.progress(first.task, last.task.0, 0);
        let at = 8 * (WORDS_BEFORE_SLOTS + u64::from(last.place.slot));
        let mut word = [0; 8];
        loop {
            self.page_file.read_exact_at(&mut word, at)?;
            let limit = u64::from_le_bytes(word) & ((1 << (INDICES_BITS / 2)) - 1);
            if limit <= u64::from(last.place.index) {
                return Ok(());
            }
            // Not a moment lost: its caller's command is on its way to the driver as well.
            std::thread::yield_now();
        }
    }

    /// Tells the page that `task` has started, whatever the host had to say there.
    fn claim_start(&self, task: TaskId) -> Result<()> {
        let given = self.tasks.iter().find(|given| given.task == task);
        if !given.is_some_and(|given| self.page.start(given.place)) {
            self.page_file.write_all_at(&task.0.to_le_bytes(), 0)?;
        }
        Ok(())
    }

    fn misbehave(&mut self, evil: &str) -> Result<()> {
        let first = self.tasks[0].task;
        let last = self.tasks[self.tasks.len() - 1].task;
        let seven = || Outcome::Scalars(vec![Scalar::I32(7)]);
        self.claim_start(first)?;
        if evil.starts_with(EMITTING) {
            self.say(&WorkerMessage::Emitted(first, vec![7]))?;
        }
        match evil.strip_prefix(EMITTING).unwrap_or(evil) {
            "wrong-kind" => self.say(&finished(first, Outcome::Returned(vec![7])))?,
            "elsewhere" => self.say(&finished(first, Outcome::InFile(8)))?,
            "in-payload-too-long" => {
                self.say(&finished(first, Outcome::InFile((32 << 20) + 1)))?;
            }
            "in-payload-without-end" => self.say(&finished(first, Outcome::InFile(u64::MAX)))?,
            "in-payload-more-than-lent" => {
                self.say(&finished(first, Outcome::InFile(100_001)))?;
            }
            "no-column" => self.say(&finished(first, item_failed(0)))?,
            "column-short" => self.say(&finished(first, Outcome::Returned(vec![7; 7])))?,
            "column-long" => self.say(&finished(first, Outcome::Returned(vec![7; 16])))?,
            "column-elsewhere" => self.say(&finished(first, Outcome::InFile(8)))?,
            "column-of-scalars" => {
                self.say(&finished(first, Outcome::Scalars(vec![Scalar::I64(7)])))?;
            }
            "column-exited" => self.say(&finished(first, Outcome::Exited(0)))?,
            "column-item-beyond" => self.say(&finished(first, item_failed(1)))?,
            "column-item-without-end" => self.say(&finished(first, item_failed(u32::MAX)))?,
            "no-command" => self.say(&finished(first, Outcome::Exited(7)))?,
            "recalled" => self.say(&finished(first, Outcome::Recalled))?,
            "dump-unasked" => self.dump(first, 1)?,
            "dump-of-another" => self.dump(last, 1)?,
            "dump-in-crumbs" => {
                self.dump(first, 1)?;
                self.dump(first, 1)?;
            }
            "dump-without-end" => loop {
                self.dump(first, COREDUMP_PIECE_BYTES)?;
            },
            "dump-of-nonsense" => {
                self.dump(first, 1000)?;
                self.say(&finished(first, Outcome::Failed(lie())))?;
                self.tasks.remove(0);
                return self.answer_all_blindly();
            }
            "dump-of-a-success" => {
                self.dump(first, 1000)?;
                return self.answer_all_blindly();
            }
            "answers-and-nonsense" => {
                // All in one piece, so that its host hears it at once.
                let mut bytes = Vec::new();
                for run in &self.tasks[..3] {
                    frame::encode_inline(&finished(run.task, seven()), &mut bytes)?;
                }
                bytes.extend([4, 0, 0, 0, 255, 255, 255, 255]);
                self.socket.write_all(&bytes)?;
            }
            "unknown-task" => self.say(&finished(TaskId(1 << 40), seven()))?,
            "no-task" => self.say(&finished(TaskId(0), seven()))?,
            "backwards" => self.say(&finished(last, seven()))?,
            "twice" => {
                self.say(&finished(first, seven()))?;
                self.say(&finished(first, seven()))?;
            }
            "what-was-taken-back" => {
                self.await_cancel_of_last()?;
                self.answer_all_blindly()?;
            }
            "answer-late" | "answer-never" => {
                // It is at the second when it hears that the first is to be stopped.
                self.claim_start(first)?;
                let second = &self.tasks[1];
                ensure!(self.page.start(second.place), "the second was taken back");
                self.await_cancel_of_last()?;
                if evil == "answer-never" {
                    sleep();
                }
                for run in self.tasks.drain(..2).collect::<Vec<_>>() {
                    self.say(&finished(run.task, seven()))?;
                }
                return self.answer_all();
            }
            "forged-metrics" => {
                let mut message = finished(first, seven());
                if let WorkerMessage::Finished(finished) = &mut message {
                    finished.metrics = Metrics {
                        wall_time: Duration::MAX,
                        cpu_time: Duration::MAX,
                        fuel: Some(u64::MAX),
                        memory_peak_bytes: u64::MAX,
                    };
                    let stdout = Captured { bytes: Vec::new(), dropped: u64::MAX };
                    let written = Written { stdout, log_dropped: u64::MAX, ..Written::default() };
                    finished.written = written.if_any();
                }
                self.say(&message)?;
                self.tasks.remove(0);
                return self.answer_all_blindly();
            }
            "forged-failure" => {
                let failure = Failure::Memory { limit: 0, wanted: u64::MAX };
                self.say(&finished(first, Outcome::Failed(failure)))?;
                self.tasks.remove(0);
                return self.answer_all_blindly();
            }
            "inherited" => {
                let mut message = finished(first, seven());
                if let WorkerMessage::Finished(finished) = &mut message {
                    let bytes = self.inherited.clone().into_bytes();
                    let stdout = Captured { bytes, dropped: 0 };
                    finished.written = Written { stdout, ..Written::default() }.if_any();
                }
                self.say(&message)?;
                self.tasks.remove(0);
                return self.answer_all_blindly();
            }
            "descriptors" => {
                for count in [1, DESCRIPTORS_MAX] {
                    let task = self.tasks.remove(0).task;
                    self.say_with(&finished(task, seven()), count)?;
                }
                return self.answer_all_blindly();
            }
            "body-in-a-descriptor" => {
                let mut bytes = Vec::new();
                frame::encode_inline(&finished(first, seven()), &mut bytes)?;
                let body = sealed_file(&self.name, &bytes[frame::HEADER_BYTES..])?;
                let header = frame::out_of_line_header(bytes.len() - frame::HEADER_BYTES);
                self.write_with(&header, &[body.as_fd()])?;
            }
            "page-of-ones" => {
                self.overwrite_page(|_| u64::MAX)?;
                return self.answer_all_blindly();
            }
            "page-backwards" => {
                // Every word that of a task that was before, in every state that there is.
                self.overwrite_page(|at| {
                    (first.0.saturating_sub(1) << INDICES_BITS) | (at as u64 % 4)
                })?;
                return self.answer_all_blindly();
            }
            "page-of-ones-and-death" => {
                self.overwrite_page(|_| u64::MAX)?;
                std::process::exit(0);
            }
            "too-much-output" => {
                let mut message = finished(first, seven());
                if let WorkerMessage::Finished(finished) = &mut message {
                    let stdout = Captured { bytes: vec![b'x'; 200_000], dropped: 0 };
                    finished.written = Written { stdout, ..Written::default() }.if_any();
                }
                self.say(&message)?;
            }
            "too-many-results" => {
                self.say(&finished(
                    first,
                    Outcome::Scalars(vec![Scalar::I64(7); SCALARS_MAX + 1]),
                ))?;
            }
            "as-many-results-as-there-may-be" => {
                self.say(&finished(first, Outcome::Scalars(vec![Scalar::I64(7); SCALARS_MAX])))?;
                self.tasks.remove(0);
                // Nothing that its host can see is wrong with it: it goes on.
                return Ok(());
            }
            "items-without-end" => self.emit_for_ever(first, 1000)?,
            "items-of-no-task" => self.emit_for_ever(TaskId(0), 0)?,
            "long-error" => {
                self.fail(first, Failure::Error(Box::new(error(ERROR_TEXT_BYTES_MAX + 1))))?
            }
            "long-panic" => {
                self.fail(
                    first,
                    Failure::Panic(Box::new(error(ERROR_TEXT_BYTES_MAX + 1)), Vec::new()),
                )?;
            }
            "long-message" => self.fail(first, Failure::Guest("A".repeat(100_000)))?,
            "many-frames" => {
                let backtrace = vec![frame_of(0); 100_000];
                self.fail(first, Failure::Deadline { backtrace })?;
            }
            "long-frame" => {
                self.fail(first, Failure::Deadline { backtrace: vec![frame_of(999)] })?
            }
            "long-log" => {
                let mut message = finished(first, seven());
                if let WorkerMessage::Finished(finished) = &mut message {
                    let mut written = Written::default();
                    (0..10_000).for_each(|_| written.log.push(1, ""));
                    finished.written = written.if_any();
                }
                self.say(&message)?;
            }
            "long-errors-of-all" => {
                for run in std::mem::take(&mut self.tasks) {
                    self.fail(run.task, Failure::Error(Box::new(error(ERROR_TEXT_BYTES_MAX))))?;
                }
                return Ok(());
            }
            "items-of-another" => self.say(&WorkerMessage::Emitted(last, vec![7]))?,
            "results-without-end" => self.say_for_ever(&finished(first, seven()))?,
            "ready-without-end" => {
                self.say_for_ever(&WorkerMessage::Ready(LockdownReport(Vec::new())))?;
            }
            "loaded-again" => self.say(&WorkerMessage::Loaded(ModuleId(0)))?,
            "closed" => self.say(&WorkerMessage::Closed)?,
            "initializer-failed" => self.say(&WorkerMessage::InitializerFailed(lie()))?,
            "finalizer-failed" => self.say(&WorkerMessage::FinalizerFailed(lie()))?,
            "initialized" => self.say(&WorkerMessage::Initialized { state_bytes: u64::MAX })?,
            "load-failed" => self.say(&WorkerMessage::LoadFailed(ModuleId(9), "no".into()))?,
            "ring-index" => self.overwrite_ring(u64::MAX, 0)?,
            "ring-index-ahead" => self.overwrite_ring(RING_BYTES as u64 + 8, 0)?,
            "ring-index-askew" => self.overwrite_ring(7, 0)?,
            "ring-record" => self.overwrite_ring(16, 9)?,
            "ring-record-without-end" => self.overwrite_ring(RING_BYTES as u64, u64::MAX)?,
            "ring-no-message" => self.overwrite_ring(16, 5)?,
            "ring-announces-nothing" => {
                self.overwrite_ring(8, 1 << 32)?;
                sleep();
            }
            "bells-without-end" => loop {
                self.socket.write_all(&frame::BELL)?;
            },
            "frame-too-long" => self.socket.write_all(&0x7fff_ffff_u32.to_le_bytes())?,
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
            "silence" => {
                self.page.progress(first, last.0, 0);
                sleep();
            }
            "started-another" => {
                self.claim_start(last)?;
                std::process::exit(0);
            }
            "started-nonsense" => {
                self.claim_start(TaskId(u64::MAX))?;
                std::process::exit(0);
            }
            "started-nothing" => {
                self.claim_start(TaskId(0))?;
                std::process::exit(0);
            }
            "abort" => {
                // SAFETY: raises a signal in this process; touches no memory.
                unsafe { libc::raise(libc::SIGABRT) };
                // That signal does not end the first process of a namespace: it exits as a shell would
                // say it.
                std::process::exit(128 + libc::SIGABRT);
            }
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

/// The item at this place of a column has failed.
fn item_failed(index: u32) -> Outcome {
    Outcome::ItemFailed { index, failure: lie() }
}

/// An error of so many bytes, in its three parts.
fn error(bytes: usize) -> GuestError {
    let text = |bytes: usize| "A".repeat(bytes);
    GuestError { message: text(bytes - 20), location: Some(text(10)), data: Some(text(10)) }
}

/// A frame whose function's name has so many bytes.
fn frame_of(bytes: usize) -> Frame {
    Frame { function: "A".repeat(bytes), index: 0, offset: None }
}

fn lie() -> Failure {
    Failure::Guest("a lie".into())
}
