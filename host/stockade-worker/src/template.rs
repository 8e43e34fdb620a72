//! The template role: a process that is ready to run guests, but only serves to clone workers.
//!
//! ```text
//! Setup ─► engine ─► enter_template ─► host calls linked ─► close_template ─► Load … ─► Ready
//!   ┌─────────────────────────────────────────┐
//!   │ Start + socket ─► clone ─► Started       │ one after another
//!   └────────────────────┬────────────────────┘
//!                        └─► worker: closes what is the template's ─► session, with its Stock
//! ```
//!
//! Slow steps that are the same for all workers of a pool are done here once. What a worker must
//! not share with its siblings it makes by itself: process namespace, session, limits on processes,
//! Landlock domain, clock, threads, and all randomness, of which none is drawn here on behalf of
//! guests.
//!
//! Invariant: no code of a module runs here, initializers included, and no thread is started.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use stockade_wire::descriptor::{Receiver, Sender};
use stockade_wire::frame::FRAME_BYTES_MAX;
use stockade_wire::{
    Layer, Lockdown, MappingError, Setup, StatusPage, TemplateReply, TemplateRequest, WorkerPort,
};

use crate::clone::{self, Cloned, Title};
use crate::factory::FactoryError;
use crate::guest::Host;
use crate::lockdown::{self, CloneFilter, Inherited, Lock, Mapped, Paths};
use crate::runtime::Runtime;
use crate::session::{self, SessionError, Stock};
use crate::worker::{self, WorkerError};
use crate::{engine, socket};

/// Why there is no template.
#[derive(Debug, thiserror::Error)]
enum TemplateError {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("cannot use its own files: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Memory(#[from] MappingError),
    #[error("cannot make the engine: {0}")]
    Engine(#[from] wasmtime::Error),
    #[error(transparent)]
    Runtime(#[from] FactoryError),
    #[error("cannot be locked down: {0}")]
    Lockdown(String),
    #[error("module {0}")]
    Module(String),
}

/// The state that a clone inherits.
struct Template {
    stock: Stock,
    title: Option<Title>,
    name: String,
    inherited: Inherited,
    lockdown: Lockdown,
    filter: CloneFilter,
    /// Shows whether the host lives.
    host: OwnedFd,
}

/// More than the allocator takes from what it keeps of small blocks.
const FREE_BLOCKS_MERGED_AT: usize = 16 << 10;

/// Makes workers until the host closes; a clone serves its own host.
///
/// # Errors
/// [`WorkerError`]
pub(crate) fn run() -> Result<(), WorkerError> {
    let inherited = Inherited::look();
    let socket = socket::take_inherited().map_err(WorkerError::Socket)?;
    let mut receiver =
        Receiver::new(socket.try_clone().map_err(WorkerError::Socket)?, FRAME_BYTES_MAX);
    let mut sender = Sender::new(socket);
    let send = |sender: &mut Sender, reply| sender.send(&reply).map_err(SessionError::from);
    let template = match Template::prepare(&mut receiver, inherited) {
        Ok(Some(template)) => template,
        Ok(None) => return Ok(()),
        Err(error) => {
            send(&mut sender, TemplateReply::Failed(error.to_string()))?;
            return Ok(());
        }
    };
    merge_free_blocks();
    send(&mut sender, TemplateReply::Ready)?;
    loop {
        let name = match receiver.receive().map_err(SessionError::from)? {
            None => return Ok(()),
            Some(TemplateRequest::Start { name }) => name,
            Some(_) => return Err(SessionError::Protocol("a message after the modules").into()),
        };
        let theirs = session::beside(receiver.take_descriptor())?;
        // Its own again before the host hears of the clone.
        template.show(&name);
        let cloned = clone::clone_process();
        if !matches!(cloned, Ok(Cloned::Worker)) {
            template.show(&template.name);
        }
        match cloned {
            Ok(Cloned::Template(clone)) => {
                drop(theirs);
                let beside = [clone.as_fd()];
                sender.try_send(&TemplateReply::Started, &beside).map_err(SessionError::from)?;
            }
            Ok(Cloned::Worker) => {
                drop((receiver, sender));
                return template.serve(theirs.into());
            }
            Err(error) => send(&mut sender, TemplateReply::NotStarted(error.to_string()))?,
        }
    }
}

impl Template {
    /// Does all that a worker does before its first task and that its siblings have in common; `None`
    /// where the host closes meanwhile.
    fn prepare(
        receiver: &mut Receiver,
        inherited: Inherited,
    ) -> Result<Option<Self>, TemplateError> {
        let setup: Setup = match receive(receiver)? {
            None => return Ok(None),
            Some(TemplateRequest::Setup(setup)) => setup,
            Some(_) => return Err(SessionError::Protocol("a message before the setup").into()),
        };
        let host = session::beside(receiver.take_descriptor())?;
        lockdown::name_process(&setup.name);
        let engine = engine::for_worker(&setup)?;
        let title = Title::find();
        let reserved = Mapped::open().map_err(TemplateError::Lockdown)?;
        let mut lock = Lock::begin(setup.confinement.clone(), inherited);
        let ceilings = worker::ceilings(&setup);
        lock.enter_template(&ceilings, &Paths::granted(&setup.grants))
            .map_err(TemplateError::Lockdown)?;
        // Nobody hears or sees these: a clone has its own before any guest runs.
        let (nobody, _) = UnixStream::pair()?;
        let (nowhere, page) = (Host::new(WorkerPort::new(nobody)?), StatusPage::create()?);
        let mut runtime = Runtime::new(engine, setup.clone(), nowhere, page)?;
        let threadless = session::threadless()?;
        lock.close_template(worker::files(&setup)).map_err(TemplateError::Lockdown)?;
        let mut mapped = Vec::new();
        while mapped.len() < setup.modules as usize {
            let load = match receive(receiver)? {
                None => return Ok(None),
                Some(TemplateRequest::Load(load)) => load,
                Some(_) => {
                    return Err(SessionError::Protocol("a message before the modules").into());
                }
            };
            let artefact = File::from(session::beside(receiver.take_descriptor())?);
            match session::map(&mut runtime, load, artefact) {
                (module, None) => mapped.push((module, None)),
                // A worker that is started by itself says it to its host as any would.
                (module, Some(why)) => {
                    return Err(TemplateError::Module(format!("{module}: {why}")));
                }
            }
        }
        let (name, lockdown) = (setup.name.clone(), setup.confinement.lockdown.clone());
        if lockdown.is_wanted(Layer::ResourceLimits) {
            // Its clones inherit it.
            reserved.limit_reserved(ceilings.data_bytes).map_err(TemplateError::Lockdown)?;
        }
        let (files, explains) = (worker::files(&setup), lockdown.explains_violations());
        let filter = CloneFilter::prepare(files, runtime.space(), explains)
            .map_err(TemplateError::Lockdown)?;
        let stock = Stock { threadless, runtime, mapped };
        Ok(Some(Self { stock, title, name, inherited, lockdown, filter, host }))
    }

    fn show(&self, name: &str) {
        if let Some(title) = self.title {
            title.set(name);
        }
    }

    /// Goes on in the clone, which is a worker and the host's child.
    fn serve(self, socket: UnixStream) -> Result<(), WorkerError> {
        if self.lockdown.is_wanted(Layer::ParentDeath) {
            // Before the host is looked for: one that dies later ends this process. That it does is
            // looked at with the other layers.
            let _ = lockdown::die_with_host();
        }
        if clone::is_dead(&self.host) {
            return Ok(());
        }
        if self.lockdown.is_wanted(Layer::Session) {
            clone::begin_session();
        }
        let Self { stock, inherited, filter, host, .. } = self;
        drop(host);
        worker::run_cloned(socket, inherited, filter, stock)
    }
}

/// Has the allocator merge the small blocks that were freed, as it does when it is asked for a long one.
/// A clone would do it at its first long message, in pages that the kernel would first have to copy.
fn merge_free_blocks() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(FREE_BLOCKS_MERGED_AT)));
}

fn receive(receiver: &mut Receiver) -> Result<Option<TemplateRequest>, SessionError> {
    Ok(receiver.receive()?)
}
