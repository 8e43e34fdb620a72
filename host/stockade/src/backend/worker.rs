//! One worker process as the driver holds it: the child, the way to it and back, and what it was sent.
//!
//! Invariant: it is reaped only after its stream has ended, so all of a worker's messages are
//! received before its death is reported.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use stockade_wire::descriptor::SendError;
use stockade_wire::{
    Coredumps, HostMessage, HostPort, OUT_OF_MEMORY_EXIT_CODE, PageSlot, Rings, SLOTS_MAX, Setup,
    SharedMemory, StatusPage, TaskId, TaskRange, WorkerId,
};

use crate::backend::payload_files::PayloadFiles;
use crate::outcome::coredump::{Coredump, Incoming};
use crate::outcome::exit::{MemoryExcess, WorkerExit};
use crate::process::allowance::Allowance;
use crate::process::child::Child;
use crate::process::footprint::{self, MemoryAllowance};
use crate::process::loadable::{Loadable, setup_for};
use crate::process::oom;
use crate::process::pidfd::Exit;
use crate::process::template::{Crashes, StartedWorker, Starter};
use stockade_dispatcher::EntryKey;

/// A batch that was sent.
#[derive(Debug)]
pub(crate) struct SentBatch {
    pub(crate) entry: EntryKey,
    /// Its tasks that are not answered and were not revoked.
    pub(crate) rest: Option<TaskRange>,
    /// The first of those that were revoked, for which it owes one answer.
    revoked: Option<TaskId>,
    /// Its first task on the page, and the slot there.
    first: TaskId,
    slot: u8,
    /// Where a single task's input lies, and perhaps its result, if that is a file of the worker's.
    memory: Option<Arc<SharedMemory>>,
}

impl SentBatch {
    fn place_of(&self, task: TaskId) -> PageSlot {
        let index = u32::try_from(task.0.saturating_sub(self.first.0)).unwrap_or(u32::MAX);
        PageSlot { slot: self.slot, first: self.first, index }
    }

    /// Its tasks from `task` on are revoked. Returns them.
    fn cut(&mut self, task: TaskId) -> Option<TaskRange> {
        let (left, cut) = self.rest?.split_before(task);
        if let Some(cut) = cut {
            self.rest = left;
            self.revoked = Some(cut.first());
        }
        cut
    }
}

/// Tasks that a worker has finished, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FinishedTasks {
    pub(crate) tasks: TaskRange,
    pub(crate) wall_time: Duration,
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
    /// Tasks that were sent to it, and neither answered nor revoked.
    pub(crate) sent: Vec<(EntryKey, TaskRange)>,
    pub(crate) failure: Option<String>,
}

impl Buried {
    /// Whether it was ended from outside the pool: by a foreign signal, or because the machine has
    /// no memory.
    pub(crate) fn is_from_outside(&self) -> bool {
        !self.is_meant && (self.exit.is_from_outside() || self.exit.out_of_memory)
    }
}

/// The memory that a worker and its host share, or why there is none.
#[derive(Debug)]
struct Introduced {
    page: StatusPage,
    port: HostPort,
    unsent: Option<SendError>,
}

/// Sends a worker at the other end of `socket` its setup and `modules`. Never blocks.
fn introduce(socket: UnixStream, setup: Setup, modules: &[Loadable]) -> io::Result<Introduced> {
    let page = StatusPage::create().map_err(io::Error::other)?;
    let mut port = HostPort::new(socket, setup.limits.frame_bytes())?;
    // Where the system has no memory for them, the socket will do.
    let rings = if setup.rings { Rings::create().ok() } else { None };
    let setup = HostMessage::Setup(Setup { rings: rings.is_some(), ..setup });
    let mut shared = vec![page.descriptor()];
    shared.extend(rings.as_ref().map(Rings::descriptor));
    let mut send = || {
        port.send(&setup, &shared)?;
        if let Some(rings) = &rings {
            port.use_rings(rings);
        }
        for module in modules {
            let load = HostMessage::Load(module.load.clone());
            port.send(&load, &[module.artefact.as_fd()])?;
        }
        port.flush()
    };
    let unsent = send().err();
    Ok(Introduced { page, port, unsent })
}

/// A running worker. Dropping it kills the process and waits for its end.
#[derive(Debug)]
pub(crate) struct WorkerProcess {
    pub(crate) name: String,
    pub(crate) page: Arc<StatusPage>,
    /// Whether it has said that it is set up, which it does once.
    pub(crate) is_set_up: bool,
    /// Modules it has not reported as loaded.
    pub(crate) modules_left: usize,
    /// Batches that were sent and not answered whole, in the order of the sending: at most a window's.
    pub(crate) sent: VecDeque<SentBatch>,
    /// Finished tasks that are not reported to the dispatcher yet.
    pub(crate) finished: Option<FinishedTasks>,
    /// The files in which long inputs of its tasks lie.
    pub(crate) files: PayloadFiles,
    /// The core dump that it is sending, of a task that it has not answered.
    dump: Option<Box<Incoming>>,
    /// The slot of the next batch. Answers come in order, so the slots are free again in order.
    next_slot: u8,
    /// Messages that it has sent.
    pub(crate) heard: u64,
    /// Its allowance for other messages.
    pub(crate) allowance: Allowance,
    /// Whether it is in the queue of workers to receive from.
    pub(crate) is_called: bool,
    /// Whether it was told to close.
    pub(crate) is_closing: bool,
    /// Whether it has sent that it closes, which it does once.
    pub(crate) has_closed: bool,
    /// The port to it.
    pub(crate) port: HostPort,
    /// Its own message, or the error that was found.
    pub(crate) failure: Option<String>,
    child: Child,
    /// Whether the host has ended it.
    is_killed: bool,
    /// Why, where it had too much memory.
    memory_excess: Option<MemoryExcess>,
    /// What memory it may have.
    pub(crate) memory_allowance: MemoryAllowance,
    crashes: Crashes,
    /// The kernel's out-of-memory kills before it was started.
    oom_kills: Option<u64>,
}

impl WorkerProcess {
    /// Starts a process, and sends it its setup and its modules. Blocks until it is executed, or
    /// cloned.
    pub(crate) fn start(
        starter: &mut Starter,
        setup: Setup,
        modules: &[Loadable],
    ) -> io::Result<Self> {
        let setup = setup_for(setup, modules);
        let introduce = |socket, confinement, to_send: &[Loadable]| {
            introduce(socket, Setup { confinement, ..setup.clone() }, to_send)
        };
        let StartedWorker { child, oom_kills, introduced } =
            starter.start(&setup, modules, introduce)?;
        let Introduced { page, port, unsent } = introduced;
        let allowance = Allowance::new(&setup.limits);
        let memory_allowance = MemoryAllowance::of(setup.data_bytes_max());
        let mut worker = Self {
            name: setup.name,
            page: Arc::new(page),
            is_set_up: false,
            modules_left: modules.len(),
            sent: VecDeque::new(),
            finished: None,
            files: PayloadFiles::default(),
            dump: None,
            next_slot: 0,
            heard: 0,
            allowance,
            is_called: false,
            is_closing: false,
            has_closed: false,
            port,
            failure: None,
            child,
            is_killed: false,
            memory_excess: None,
            memory_allowance,
            crashes: starter.crashes(),
            oom_kills,
        };
        if let Some(error) = unsent {
            // If it is gone already, its exit tells why; any other error is ours.
            if !matches!(error, SendError::Io(_)) {
                worker.failure = Some(error.to_string());
            }
            worker.kill();
        }
        Ok(worker)
    }

    /// A spare, as if it were started now; `None` if it has ended.
    pub(crate) fn into_fresh(mut self) -> Option<Self> {
        self.oom_kills = oom::kills();
        (!self.child.has_ended()).then_some(self)
    }

    /// The slot for the next batch that is sent: free, as a window holds no more batches than there are
    /// slots.
    pub(crate) fn next_slot(&self) -> u8 {
        self.next_slot
    }

    /// A batch is about to be sent, in that slot.
    pub(crate) fn sends(
        &mut self,
        entry: EntryKey,
        tasks: TaskRange,
        memory: Option<Arc<SharedMemory>>,
    ) {
        let (first, rest, slot) = (tasks.first(), Some(tasks), self.next_slot);
        self.sent.push_back(SentBatch { entry, rest, revoked: None, first, slot, memory });
        self.next_slot = (self.next_slot + 1) % SLOTS_MAX as u8;
    }

    /// Revokes a task that it has not answered, and those behind it in its batch, as far as they have
    /// not started. Returns all that will not start, where this has revoked any.
    pub(crate) fn revoke_from(&mut self, task: TaskId) -> Option<TaskRange> {
        let Self { sent, page, .. } = self;
        let batch = sent.iter_mut().rev().find(|sent| contains(sent, task))?;
        let revoked = page.revoke_from(batch.place_of(task))?;
        batch.cut(revoked.first())
    }

    /// A task that it has was revoked by its caller, and so were those behind it in its batch. Returns
    /// the latter.
    pub(crate) fn was_revoked(&mut self, task: TaskId) -> Option<TaskRange> {
        let batch = self.sent.iter_mut().rev().find(|sent| contains(sent, task))?;
        batch.cut(task)?.split_at(1).1
    }

    /// Revokes what it has of `entry` and has not started. Returns all that will not start.
    pub(crate) fn revoke_all(&mut self, entry: EntryKey) -> Vec<TaskRange> {
        let Self { sent, page, .. } = self;
        let of_entry = sent.iter_mut().filter(|sent| sent.entry == entry);
        let revoke = |batch: &mut SentBatch| {
            let rest = batch.rest?;
            // Its map has done so before, or does so now.
            let _ = page.revoke_from(batch.place_of(rest.first()));
            let first = rest.iter().find(|task| !page.has_started(batch.place_of(*task)))?;
            batch.cut(first)
        };
        of_entry.filter_map(revoke).collect()
    }

    /// Revokes those of these tasks of `entry` that it has and has not started. Returns all that will not
    /// start, from such a task on: it is followed by those behind it in its batch.
    pub(crate) fn revoke_items(&mut self, entry: EntryKey, tasks: TaskRange) -> Vec<TaskRange> {
        let Self { sent, page, .. } = self;
        let of_entry = sent.iter_mut().filter(|sent| sent.entry == entry);
        let revoke = |batch: &mut SentBatch| {
            // Their map has done so before, or does so now. No task behind them is revoked alone.
            let mut concerned = batch.rest?.overlap(tasks)?.iter();
            let first = concerned.find(|task| page.revoke(batch.place_of(*task)))?;
            batch.cut(first)
        };
        of_entry.filter_map(revoke).collect()
    }

    /// It sends a piece of a task's core dump. Returns false if it may not.
    pub(crate) fn dumps(
        &mut self,
        task: TaskId,
        piece: Vec<u8>,
        left_out: u64,
        wanted: &Coredumps,
    ) -> bool {
        if self.next_to_answer() != Some(task) {
            return false;
        }
        let dump = self.dump.get_or_insert_with(|| Box::new(Incoming::new(task)));
        dump.task() == task && dump.push(piece, left_out, wanted)
    }

    /// The core dump of `task`, which it has answered.
    pub(crate) fn take_dump(&mut self, task: TaskId) -> Option<Coredump> {
        let dump = self.dump.take().filter(|dump| dump.task() == task)?;
        Some(dump.finish())
    }

    /// The task that it has to answer next, if that is one that was not revoked.
    pub(crate) fn next_to_answer(&self) -> Option<TaskId> {
        self.sent.front()?.rest.map(TaskRange::first)
    }

    /// It answers a task. Returns the task's entry and the memory of its input; `None` where that is not
    /// its turn. It has the task until the answer [is accepted](Self::answered).
    pub(crate) fn answers(
        &mut self,
        task: TaskId,
    ) -> Option<(EntryKey, Option<Arc<SharedMemory>>)> {
        self.allowance.hook_may_run();
        let next = self.sent.front()?;
        let is_next = next.rest.is_some_and(|rest| rest.first() == task);
        is_next.then(|| (next.entry, next.memory.clone()))
    }

    /// The entry of a task that it has to answer next, whose input is nowhere but in its message.
    pub(crate) fn entry_of_next(&self, task: TaskId) -> Option<EntryKey> {
        let next = self.sent.front().filter(|next| next.memory.is_none())?;
        next.rest.is_some_and(|rest| rest.first() == task).then_some(next.entry)
    }

    /// It has finished a task, of which the dispatcher is told together with those that follow it. Returns
    /// what it is to be told of now, as the task does not follow that.
    pub(crate) fn finishes(&mut self, task: TaskId, wall_time: Duration) -> Option<FinishedTasks> {
        let before = self.finished.take();
        let joined = before.as_ref().and_then(|before| {
            let tasks = TaskRange::new(before.tasks.first(), before.tasks.count() + 1)?;
            let wall_time = before.wall_time.saturating_add(wall_time);
            (tasks.last() == task).then_some(FinishedTasks { tasks, wall_time })
        });
        let before = before.filter(|_| joined.is_none());
        self.finished = joined.or(Some(FinishedTasks { tasks: task.into(), wall_time }));
        before
    }

    /// Its answer to the task that is next was accepted.
    pub(crate) fn answered(&mut self) {
        let Some(next) = self.sent.front_mut() else { return };
        next.memory = None;
        next.rest = next.rest.and_then(|rest| rest.split_at(1).1);
        if next.rest.is_none() && next.revoked.is_none() {
            self.sent.pop_front();
        }
    }

    /// It says that it has not run a batch from `task` on. Returns the batch's entry and those of these
    /// tasks that nobody has revoked as far as the driver has heard; `None` where it may not say so. It
    /// has them until that [is accepted](Self::handed_back).
    pub(crate) fn hands_back(&mut self, task: TaskId) -> Option<(EntryKey, Option<TaskRange>)> {
        self.allowance.hook_may_run();
        let next = self.sent.front()?;
        let expected = next.rest.map(TaskRange::first).or(next.revoked);
        (expected == Some(task)).then_some((next.entry, next.rest))
    }

    /// That it has not run the rest of the batch that is next was accepted.
    pub(crate) fn handed_back(&mut self) {
        self.sent.pop_front();
    }

    /// Whether it has to answer this task next, and has started none of those behind it, as far as
    /// its page says. It never will where all of them were revoked.
    pub(crate) fn is_alone_at(&self, task: TaskId) -> bool {
        let has_started = |sent: &SentBatch, rest: Option<TaskRange>| {
            rest.is_some_and(|rest| self.page.has_started(sent.place_of(rest.first())))
        };
        let mut sent = self.sent.iter();
        let Some(next) = sent.next() else { return false };
        self.next_to_answer() == Some(task)
            && !has_started(next, next.rest.and_then(|rest| rest.split_at(1).1))
            && !sent.any(|behind| has_started(behind, behind.rest))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The excess of its present memory.
    pub(crate) fn memory_excess(&self) -> Option<MemoryExcess> {
        self.memory_allowance.excess(footprint::of(self.pid())?)
    }

    /// Whether the pool has ended it.
    pub(crate) fn is_killed(&self) -> bool {
        self.is_killed
    }

    /// It is about to be asked to end by itself, and its finalizer may run.
    pub(crate) fn closes(&mut self) {
        self.is_closing = true;
        self.allowance.hook_may_run();
    }

    /// Ends the process, which has more memory than it may have.
    pub(crate) fn end_for_memory(&mut self, excess: MemoryExcess) {
        if !self.is_killed {
            self.memory_excess = Some(excess);
            // As after a crash: only native code does this, and it knows addresses.
            self.crashes.note();
        }
        self.child.kill();
    }

    /// Ends the process; its stream then ends.
    pub(crate) fn kill(&mut self) {
        self.is_killed = true;
        self.child.kill();
    }

    /// Reaps a worker whose stream has ended: blocks until it is gone, and returns how it ended.
    pub(crate) fn bury(mut self, worker: WorkerId, failure: Option<String>) -> Buried {
        let was_killed = self.is_killed;
        self.kill();
        let exit = self.child.wait();
        let (signal, code) = (exit.signal(), exit.code());
        // A worker with unknown end may have crashed, unless it was asked to end.
        let is_meant = was_killed || self.is_closing && exit == Exit::Unknown;
        if code.is_none() && !is_meant {
            self.crashes.note();
        }
        let memory_excess = self.memory_excess;
        let by_kernel = || signal == Some(libc::SIGKILL) && !was_killed && memory_excess.is_none();
        let out_of_memory = code == Some(OUT_OF_MEMORY_EXIT_CODE)
            || by_kernel() && oom::rose(self.oom_kills, oom::kills());
        let name = self.name.clone();
        let pid = self.pid();
        let exit = WorkerExit { worker: name, pid, signal, code, out_of_memory, memory_excess };
        // Read after the death, when nothing writes it any more.
        let started = self.page.started();
        let rests = self.sent.iter().filter_map(|sent| Some((sent.entry, sent.rest?)));
        let sent = rests.collect();
        Buried { worker, exit, is_meant, started, sent, failure }
    }
}

fn contains(sent: &SentBatch, task: TaskId) -> bool {
    sent.rest.is_some_and(|rest| rest.contains(task))
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        self.kill();
        self.child.wait();
    }
}
