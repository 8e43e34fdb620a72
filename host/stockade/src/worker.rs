//! One worker process as the driver holds it: the child, the way to it and back, and what it was sent.
//!
//! Invariant: it is buried only once its stream has ended, so that everything a worker said before
//! its death is known before its death is.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use stockade_wire::descriptor::SendError;
use stockade_wire::{
    Coredumps, HostMessage, HostPort, Load, OUT_OF_MEMORY_EXIT_CODE, Rings, SLOTS_MAX, Setup,
    SharedMemory, StatusPage, TaskId, WorkerId,
};

use crate::allowance::Allowance;
use crate::coredump::{Coredump, Incoming};
use crate::footprint::{self, MemoryAllowance};
use crate::keeper::Buried;
use crate::payload_files::PayloadFiles;
use crate::process::{Child, Crashes, Exit, StartedWorker, Starter};
use crate::{MemoryExcess, WorkerExit, oom};

/// A module as workers get it.
#[derive(Clone, Debug)]
pub(crate) struct Loadable {
    pub(crate) load: Load,
    /// Sealed.
    pub(crate) artefact: Arc<File>,
    /// How many memories it has.
    pub(crate) memories: u32,
}

/// `setup` for a process that gets `modules`.
pub(crate) fn setup_for(setup: Setup, modules: &[Loadable]) -> Setup {
    let count = u32::try_from(modules.len()).unwrap_or(u32::MAX);
    let memories = modules.iter().fold(0_u32, |sum, module| sum.saturating_add(module.memories));
    Setup { modules: count, memories, ..setup }
}

/// A task that was sent.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) task: TaskId,
    slot: u8,
    /// Where its input lies, and perhaps its result, if that is a file of the worker's.
    pub(crate) memory: Option<Arc<SharedMemory>>,
}

/// What a worker and its host share, which the worker has been told, or why not.
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
    /// Tasks that were sent and not answered, in the order of the sending: at most a window's.
    pub(crate) sent: VecDeque<Sent>,
    /// The files in which long inputs of its tasks lie.
    pub(crate) files: PayloadFiles,
    /// The core dump that it has begun to say, of a task that it has not answered.
    dump: Option<Box<Incoming>>,
    /// The slot of the next task. Answers come in order, so the slots are free again in order.
    next_slot: u8,
    /// Messages that it has said.
    pub(crate) heard: u64,
    /// What it may say beside them.
    pub(crate) allowance: Allowance,
    /// Whether it stands among those that are to be heard.
    pub(crate) is_called: bool,
    /// Whether it was told to close.
    pub(crate) is_closing: bool,
    /// Whether it has said that it closes, which it does once.
    pub(crate) has_closed: bool,
    /// The way to it and back.
    pub(crate) port: HostPort,
    /// What it said of itself, or what was found wrong with it.
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
            // One that is gone already tells by its end why; any other error is ours.
            if !matches!(error, SendError::Io(_)) {
                worker.failure = Some(error.to_string());
            }
            worker.kill();
        }
        Ok(worker)
    }

    /// A worker that was started a while ago, as if it were only now; `None` where it has ended.
    pub(crate) fn into_fresh(mut self) -> Option<Self> {
        self.oom_kills = oom::kills();
        (!self.child.has_ended()).then_some(self)
    }

    /// The slot for the next task that is sent: free, as a window holds no more tasks than there are
    /// slots.
    pub(crate) fn next_slot(&self) -> u8 {
        self.next_slot
    }

    /// A task is about to be sent, in that slot.
    pub(crate) fn sends(&mut self, task: TaskId, memory: Option<Arc<SharedMemory>>) {
        self.sent.push_back(Sent { task, slot: self.next_slot, memory });
        self.next_slot = (self.next_slot + 1) % SLOTS_MAX as u8;
    }

    /// It says a piece of the dump of a task. False where it may not, or not so.
    pub(crate) fn dumps(
        &mut self,
        task: TaskId,
        piece: Vec<u8>,
        left_out: u64,
        wanted: &Coredumps,
    ) -> bool {
        if self.sent.front().is_none_or(|next| next.task != task) {
            return false;
        }
        let dump = self.dump.get_or_insert_with(|| Box::new(Incoming::new(task)));
        dump.task() == task && dump.push(piece, left_out, wanted)
    }

    /// What it has said of the dump of `task`, which it has answered.
    pub(crate) fn take_dump(&mut self, task: TaskId) -> Option<Coredump> {
        let dump = self.dump.take().filter(|dump| dump.task() == task)?;
        Some(dump.finish())
    }

    /// It has answered a task, whose input's memory this gives. What comes out of its turn is for the
    /// dispatcher to judge.
    pub(crate) fn answered(&mut self, task: TaskId) -> Option<Arc<SharedMemory>> {
        self.allowance.hook_may_run();
        self.sent.pop_front_if(|sent| sent.task == task)?.memory
    }

    /// Whether it has to answer this task next, and has started none of those behind it, as far as
    /// its page says. It never will where all of them were revoked.
    pub(crate) fn is_alone_at(&self, task: TaskId) -> bool {
        let mut sent = self.sent.iter();
        sent.next().is_some_and(|next| next.task == task)
            && !sent.any(|behind| self.page.has_started(behind.slot, behind.task))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What is wrong with the memory that it takes now.
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
            // As after a crash: only native code comes to this, and it knows addresses.
            self.crashes.note();
        }
        self.child.kill();
    }

    /// Ends the process; its stream then ends.
    pub(crate) fn kill(&mut self) {
        self.is_killed = true;
        self.child.kill();
    }

    /// Takes leave of a worker whose stream has ended: makes sure that it is gone, and says how.
    /// Blocks until it is.
    pub(crate) fn bury(mut self, worker: WorkerId, failure: Option<String>) -> Buried {
        let was_killed = self.is_killed;
        self.kill();
        let exit = self.child.wait();
        let (signal, code) = (exit.signal(), exit.code());
        // One of which nothing is known may have crashed, unless it was asked to end.
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
        let sent = self.sent.iter().map(|sent| sent.task).collect();
        Buried { worker, exit, is_meant, started, sent, failure }
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        self.kill();
        self.child.wait();
    }
}
