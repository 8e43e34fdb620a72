//! A pool's template, as its driver holds it: the process that workers are cloned from.
//!
//! ```text
//! Starter::start ── ready ──► Start + socket ─► template ─► clone: the host's own child
//!        │ └─ not, or not any more ─► process::start: a worker by itself, as without a template
//!        └─ none yet, or a worker crashed ─► process::start(Role::Template) ─► Setup, Load …
//! ```
//!
//! The first start of a pool waits for its template: it takes as long as one worker would, and every
//! worker after that a fraction. One that is replaced is not waited for; meanwhile workers are
//! started by themselves. A failure of a template costs only a warning and time.
//!
//! A clone has its template's addresses. So after a crash, which may be a wrong guess of addresses,
//! the template is replaced, and the new one has others.
//!
//! Invariant: a template is not trusted. A descriptor from it is accepted only if, by the kernel,
//! it is of an unknown child of this process, in the template's own user namespace.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stockade_wire::{Confinement, Layer, Namespaces, Role, Setup, TemplateReply, TemplateRequest};

use crate::base::deadline;
use crate::process::child::{self, Child};
use crate::process::conversation::Conversation;
use crate::process::footprint::MemoryAllowance;
use crate::process::loadable::{Loadable, setup_for};
use crate::process::oom;
use crate::process::start::{Process, start};

/// How long a template may take to become ready; it is a matter of milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long it may take to clone itself: some hundred microseconds.
const CLONE_PATIENCE: Duration = Duration::from_secs(1);

/// The most bytes of a reply.
const REPLY_BYTES_MAX: usize = 4 << 10;

/// Starts a pool's workers.
#[derive(Debug)]
pub(crate) struct Starter {
    program: PathBuf,
    state: TemplateState,
    crashes: Crashes,
}

/// Whether a worker has crashed since the last start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crashes(Arc<AtomicBool>);

impl Crashes {
    /// Notes that a worker ended by a signal that the pool did not send.
    pub(crate) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug)]
enum TemplateState {
    Untried,
    Starting(Template),
    Ready(Template),
    /// No template is possible here.
    GivenUp,
}

/// A worker as it was started.
#[derive(Debug)]
pub(crate) struct StartedWorker<T> {
    pub(crate) child: Child,
    /// The kernel's out-of-memory kills before any of the worker's own memory was used.
    pub(crate) oom_kills: Option<u64>,
    /// The result of its introduction.
    pub(crate) introduced: T,
}

impl<T> StartedWorker<io::Result<T>> {
    /// The worker, if it could be introduced; else it ends.
    fn if_introduced(mut self) -> io::Result<StartedWorker<T>> {
        let Self { oom_kills, introduced, .. } = self;
        match introduced {
            Ok(introduced) => Ok(StartedWorker { child: self.child, oom_kills, introduced }),
            Err(error) => {
                self.child.kill();
                self.child.wait();
                Err(error)
            }
        }
    }
}

impl Starter {
    /// A starter of `program`, without a template yet.
    pub(crate) fn new(program: PathBuf) -> Self {
        Self { program, state: TemplateState::Untried, crashes: Crashes::default() }
    }

    /// Where crashes of its workers are to be noted.
    pub(crate) fn crashes(&self) -> Crashes {
        self.crashes.clone()
    }

    /// Whether a worker has crashed since the last start.
    pub(crate) fn has_crashed(&self) -> bool {
        self.crashes.0.load(Ordering::Relaxed)
    }

    /// Starts a worker for `setup` and `modules`, which are the same at every call but for the
    /// worker's number and name. Blocks for about a millisecond, and at the first call until there is
    /// a template.
    ///
    /// `introduce` is given the host's end of the worker's socket, what the worker is to be told first, and
    /// the modules that it does not have yet. A clone is introduced while it is made, and finds its setup
    /// when it begins.
    ///
    /// # Errors
    /// As [`start`], and those of `introduce`.
    pub(crate) fn start<T>(
        &mut self,
        setup: &Setup,
        modules: &[Loadable],
        introduce: impl Fn(UnixStream, Confinement, &[Loadable]) -> io::Result<T>,
    ) -> io::Result<StartedWorker<T>> {
        let has_crashed = self.crashes.0.swap(false, Ordering::Relaxed);
        self.state = match std::mem::replace(&mut self.state, TemplateState::GivenUp) {
            TemplateState::Untried => self.begin(setup, modules, true),
            TemplateState::Ready(template) if has_crashed => {
                drop(template);
                self.begin(setup, modules, false)
            }
            TemplateState::Starting(mut template) if template.conversation.has_spoken() => {
                settled(template.await_ready().map(|()| template))
            }
            other => other,
        };
        if let TemplateState::Ready(template) = &mut self.state {
            let introduce = |socket, confinement| introduce(socket, confinement, &[]);
            match template.clone_worker(&setup.name, introduce) {
                Ok(Ok(worker)) => return worker.if_introduced(),
                // The system has no process left, and will say so once more.
                Ok(Err(why)) => tracing::warn!(%why, "a template cannot clone a worker"),
                Err(error) => {
                    tracing::warn!(%error, "a pool's template is lost and will be replaced");
                    self.state = self.begin(setup, modules, false);
                }
            }
        }
        let lockdown = &setup.confinement.lockdown;
        let oom_kills = oom::kills();
        let Process { child, socket, confinement } =
            start(&self.program, Role::Worker, &setup.name, lockdown)?;
        let introduced = introduce(socket, confinement, modules);
        StartedWorker { child, oom_kills, introduced }.if_introduced()
    }

    /// Samples its template's memory. A killed template is replaced at the next start.
    pub(crate) fn look(&mut self) {
        if let TemplateState::Starting(template) | TemplateState::Ready(template) = &mut self.state
            && let Some(excess) = template.conversation.memory_excess()
        {
            tracing::warn!(%excess, "a pool's template was ended");
            template.conversation.kill();
        }
    }

    /// Starts a template, and waits until it is ready where it `waits`.
    fn begin(&self, setup: &Setup, modules: &[Loadable], waits: bool) -> TemplateState {
        // Without its own processes a worker could see its siblings, and a clone would be one. Without
        // Landlock a template could signal and open what its user may.
        let is_wanted = |layer| setup.confinement.lockdown.is_wanted(layer);
        if !is_wanted(Layer::Namespaces) || !is_wanted(Layer::Landlock) {
            return TemplateState::GivenUp;
        }
        match Template::start(&self.program, setup, modules) {
            Ok(mut template) if waits => settled(template.await_ready().map(|()| template)),
            Ok(template) => TemplateState::Starting(template),
            Err(error) => settled(Err(error)),
        }
    }
}

/// What comes of a template that is ready, or will never be.
fn settled(template: io::Result<Template>) -> TemplateState {
    match template {
        Ok(template) => TemplateState::Ready(template),
        Err(error) => {
            tracing::warn!(%error, "no template is possible: each worker is started separately");
            TemplateState::GivenUp
        }
    }
}

/// A template's process. Dropping it kills the process and waits for its end; its clones live on.
#[derive(Debug)]
struct Template {
    conversation: Conversation,
    /// Its user namespace; zero before it is ready.
    users: u64,
}

impl Template {
    fn start(program: &Path, setup: &Setup, modules: &[Loadable]) -> io::Result<Self> {
        let pool = setup.name.rsplit_once("-worker-").map_or(&*setup.name, |(pool, _)| pool);
        // Not with the pool's name first, by which its workers are told.
        let name = format!("template-of-{pool}");
        let lockdown = &setup.confinement.lockdown;
        let setup = setup_for(setup.clone(), modules);
        let allowance = MemoryAllowance::of(setup.data_bytes_max());
        let (role, bytes_max) = (Role::Template, REPLY_BYTES_MAX);
        let conversation =
            Conversation::start(program, role, &name, lockdown, allowance, bytes_max)?;
        let confinement = conversation.confinement().clone();
        if let Some(why) = &confinement.namespaces_refused {
            return Err(io::Error::other(why.clone()));
        }
        let mut template = Self { conversation: conversation.with_descriptors(), users: 0 };
        let setup = Setup { name, confinement, ..setup };
        let host = child::own_pidfd()?;
        template.send(&TemplateRequest::Setup(setup), Some(&host))?;
        for module in modules {
            let load = TemplateRequest::Load(module.load.clone());
            template.send(&load, Some(&*module.artefact))?;
        }
        Ok(template)
    }

    fn send(&mut self, request: &TemplateRequest, file: Option<&impl AsFd>) -> io::Result<()> {
        let file = file.map(AsFd::as_fd);
        self.conversation.send(request, file.as_slice()).map_err(io::Error::other)
    }

    fn await_ready(&mut self) -> io::Result<()> {
        match self.receive(PATIENCE)? {
            (TemplateReply::Ready, None) => {}
            (TemplateReply::Failed(why), None) => return Err(io::Error::other(why)),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        self.users = child::users_of(self.conversation.pid())?;
        if self.users == Namespaces::of_this_process().user {
            return Err(io::Error::other("it is in the host's user namespace"));
        }
        Ok(())
    }

    /// Lets it clone a worker named `name`.
    ///
    /// # Errors
    /// Outside, where it is of no use any more; inside, where the system refused a process.
    fn clone_worker<T>(
        &mut self,
        name: &str,
        introduce: impl FnOnce(UnixStream, Confinement) -> T,
    ) -> io::Result<Result<StartedWorker<T>, String>> {
        let (socket, theirs) = UnixStream::pair()?;
        self.send(&TemplateRequest::Start { name: name.to_owned() }, Some(&theirs))?;
        drop(theirs);
        // This takes a third of the time that the clone takes. The template could read what its clone is
        // told, then as later: it has the other end of the socket.
        let introduced = introduce(socket, self.conversation.confinement().clone());
        let oom_kills = oom::kills();
        match self.receive(CLONE_PATIENCE)? {
            (TemplateReply::Started, Some(clone)) => {
                let child = Child::adopt(clone, self.users)?;
                Ok(Ok(StartedWorker { child, oom_kills, introduced }))
            }
            (TemplateReply::NotStarted(why), None) => Ok(Err(why)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Its answer to one request, and the descriptor with it.
    fn receive(&mut self, timeout: Duration) -> io::Result<(TemplateReply, Option<OwnedFd>)> {
        let reply =
            self.conversation.receive(deadline::after(timeout)).map_err(io::Error::other)?;
        Ok((reply, self.conversation.take_descriptor()))
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        // Before its clones, of which it could make more.
        self.conversation.end();
        if self.users != 0 {
            child::end_strays(self.users);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{ChildStdin, Command, Stdio};

    use stockade_wire::Lockdown;

    use super::*;

    /// A process in the place of a template that says nothing for as long as what is next to it lives,
    /// and may have so much memory.
    #[expect(clippy::zombie_processes, reason = "the template waits for it")]
    fn template(allowance: MemoryAllowance) -> (Template, (ChildStdin, UnixStream)) {
        let cat = Command::new("/bin/cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut cat = cat.unwrap();
        let stdin = cat.stdin.take().unwrap();
        let host = Namespaces::of_this_process();
        let number = rustix::process::Pid::from_child(&cat);
        let pidfd = rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty());
        let child = Child::adopt(pidfd.unwrap(), host.user).unwrap();
        let (socket, theirs) = UnixStream::pair().unwrap();
        let lockdown = Lockdown::default();
        let confinement = Confinement { lockdown, host, namespaces_refused: None };
        let process = Process { child, socket, confinement };
        let conversation = Conversation::with(process, allowance, REPLY_BYTES_MAX).unwrap();
        (Template { conversation, users: 0 }, (stdin, theirs))
    }

    #[test]
    fn a_template_that_has_too_much_memory_before_it_is_ready_is_not_waited_for() {
        let (mut template, _alive) = template(MemoryAllowance::none());
        let error = template.await_ready().unwrap_err().to_string();
        assert!(error.contains("page tables"), "{error}");
    }

    #[test]
    fn a_template_that_has_too_much_memory_is_ended_and_another_is_not() {
        for (allowance, is_ended) in
            [(MemoryAllowance::none(), true), (MemoryAllowance::of(0), false)]
        {
            let mut starter = Starter::new("/nonexistent".into());
            let (template, _alive) = template(allowance);
            starter.state = TemplateState::Ready(template);
            starter.look();
            let TemplateState::Ready(template) = &mut starter.state else { panic!("it is there") };
            if is_ended {
                assert_eq!(template.conversation.child().wait().signal(), Some(libc::SIGKILL));
            } else {
                assert!(!template.conversation.child().has_ended());
            }
        }
    }
}
