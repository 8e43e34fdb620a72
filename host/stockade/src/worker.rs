//! One worker process as the driver holds it: the child, what is sent to it, what it is heard to
//! say.
//!
//! A thread of its own reads the worker's socket until it ends, so that everything a worker said
//! before its death is known before its death is.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::Sender as ChannelSender;
use stockade_wire::descriptor::{SendError, Sender};
use stockade_wire::frame::{Body, FrameError, FrameReader};
use stockade_wire::{
    HostMessage, Load, OUT_OF_MEMORY_EXIT_CODE, Setup, StatusPage, TaskId, WorkerId, WorkerMessage,
    codec,
};

use crate::process::{Child, Crashes, Process, StartedWorker, Starter};
use crate::{WorkerExit, oom};

/// What a reader heard from its worker.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A message; its sense is still to be checked.
    Message(WorkerMessage),
    /// The end of the stream, or bytes that are no message. Nothing follows.
    End(Option<FrameError>),
}

/// Frames on their way from readers to the driver. Bounded: a worker that talks faster than the
/// driver listens is held up by its own socket.
pub(crate) const HEARD_MAX: usize = 1024;

/// A module as workers get it.
#[derive(Clone, Debug)]
pub(crate) struct Loadable {
    pub(crate) load: Load,
    /// Sealed.
    pub(crate) artefact: Arc<File>,
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
    /// Tasks that were sent and not reported as finished: at most a window's.
    pub(crate) sent: Vec<TaskId>,
    /// What it said of itself, or what was found wrong with it.
    pub(crate) failure: Option<String>,
    child: Child,
    /// Whether the host has ended it.
    is_killed: bool,
    crashes: Crashes,
    /// The kernel's out-of-memory kills before it was started.
    oom_kills: Option<u64>,
    sender: Sender,
    reader: Option<JoinHandle<()>>,
}

impl WorkerProcess {
    /// Starts a process, and sends it its setup and its modules.
    pub(crate) fn start(
        starter: &mut Starter,
        setup: Setup,
        modules: &[Loadable],
        heard: ChannelSender<(WorkerId, Heard)>,
    ) -> io::Result<Self> {
        let page = Arc::new(StatusPage::create().map_err(io::Error::other)?);
        let (name, id) = (setup.name.clone(), setup.worker);
        let frame_bytes_max = setup.limits.frame_bytes();
        let oom_kills = oom::kills();
        let StartedWorker { process, is_stocked } = starter.start(&setup, modules)?;
        let Process { child, socket, confinement } = process;
        let modules_count = u32::try_from(modules.len()).unwrap_or(u32::MAX);
        let setup = Setup { confinement, modules: modules_count, ..setup };
        let incoming = socket.try_clone()?;
        let mut worker = Self {
            name,
            page,
            is_set_up: false,
            modules_left: modules.len(),
            sent: Vec::new(),
            failure: None,
            child,
            is_killed: false,
            crashes: starter.crashes(),
            oom_kills,
            sender: Sender::new(socket),
            reader: None,
        };
        let to_send = if is_stocked { &[] } else { modules };
        if let Err(error) = worker.introduce(setup, to_send) {
            // One that is gone already tells by its end why; any other error is ours.
            if !matches!(error, SendError::Io(_)) {
                worker.failure = Some(error.to_string());
            }
            worker.kill();
        }
        let reader = std::thread::Builder::new()
            .name(format!("{}-reader", worker.name))
            .stack_size(256 << 10)
            .spawn(move || read(id, FrameReader::new(incoming, frame_bytes_max), &heard))?;
        worker.reader = Some(reader);
        Ok(worker)
    }

    fn introduce(&mut self, setup: Setup, modules: &[Loadable]) -> Result<(), SendError> {
        let page = self.page.clone();
        self.send(&HostMessage::Setup(setup), &[page.descriptor()])?;
        for module in modules {
            let load = HostMessage::Load(module.load.clone());
            self.send(&load, &[module.artefact.as_fd()])?;
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends without ever blocking: what is in flight is bounded below what a socket holds.
    pub(crate) fn send(
        &mut self,
        message: &HostMessage,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), SendError> {
        self.sender.try_send(message, descriptors)
    }

    /// Ends the process; its reader then reports the end of the stream.
    pub(crate) fn kill(&mut self) {
        self.is_killed = true;
        self.child.kill();
    }

    /// Takes leave of a worker whose stream has ended: makes sure that it is gone, and says how.
    pub(crate) fn bury(mut self) -> WorkerExit {
        let was_killed = self.is_killed;
        self.kill();
        let status = self.child.wait().ok();
        if let Some(reader) = self.reader.take() {
            // Its last act was to report the end that brought us here.
            let _ = reader.join();
        }
        let signal = status.and_then(|status| status.signal());
        let code = status.and_then(|status| status.code());
        if signal.is_some() && !was_killed {
            self.crashes.note();
        }
        let by_kernel = || signal == Some(libc::SIGKILL) && !was_killed;
        WorkerExit {
            worker: self.name.clone(),
            pid: self.pid(),
            signal,
            code,
            out_of_memory: code == Some(OUT_OF_MEMORY_EXIT_CODE)
                || by_kernel() && oom::rose(self.oom_kills, oom::kills()),
        }
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}

fn read(
    worker: WorkerId,
    mut frames: FrameReader<std::os::unix::net::UnixStream>,
    heard: &ChannelSender<(WorkerId, Heard)>,
) {
    loop {
        let next = match frames.read() {
            Ok(None) => Heard::End(None),
            // It ended without having read all that it was sent.
            Err(FrameError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                Heard::End(None)
            }
            Ok(Some(Body::Inline(body))) => match codec::decode(body) {
                Ok(message) => Heard::Message(message),
                Err(error) => Heard::End(Some(error.into())),
            },
            Ok(Some(Body::OutOfLine(_))) => Heard::End(Some(FrameError::Misplaced)),
            Err(error) => Heard::End(Some(error)),
        };
        let last = matches!(next, Heard::End(_));
        // Blocks while the driver is behind; fails once the driver is gone.
        if heard.send((worker, next)).is_err() || last {
            return;
        }
    }
}
