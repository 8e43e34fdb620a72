//! Lockdown as a pool's owner sees it: what became of each layer in both roles, found out by asking
//! one process of each.
//!
//! Such a process confines itself as every other of its role does, says how far it came, and ends;
//! no guest is ever in it. A report is believed because nothing hostile has run before it is made.
//!
//! Invariant: where a layer is required, every process checks it by itself before it reads anything
//! hostile. The question here only gives the answer sooner, and as a value.

use std::path::Path;
use std::time::{Duration, Instant};

use stockade_wire::descriptor::Sender;
use stockade_wire::frame::{Body, FrameError, FrameReader};
use stockade_wire::{
    CompileReply, CompilerSetup, HostMessage, LayerReport, Lockdown, LockdownReport, Role, Setup,
    StatusPage, WorkerMessage, codec,
};

use crate::compile::{DeadlineStream, timed_out};
use crate::footprint::{MemoryAllowance, Weighed};
use crate::process::{self, Process};
use crate::{
    BuildError, Grants, Instances, Limits, MachineError, MachineFault, WorkerId, WorkerProgram,
};

/// What became of each layer in a pool's processes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolLockdown {
    /// In its workers, which run guests.
    pub worker: LockdownReport,
    /// In its compilers, which read modules.
    pub compiler: LockdownReport,
}

impl PoolLockdown {
    /// Whether both roles may be called sandboxed, which none is without its system-call filter.
    pub fn is_sandboxed(&self) -> bool {
        self.worker.is_sandboxed() && self.compiler.is_sandboxed()
    }

    /// The layers that `lockdown` requires and that are not on in full, by the role's name.
    pub fn missing(&self, lockdown: &Lockdown) -> Vec<(&'static str, LayerReport)> {
        let of = |role, report: &LockdownReport| {
            let missing = report.missing(lockdown);
            missing.into_iter().map(move |layer| (role, layer)).collect::<Vec<_>>()
        };
        [of("worker", &self.worker), of("compiler", &self.compiler)].concat()
    }
}

/// Why a pool's lockdown is not as required, or not known.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum LockdownError {
    /// A layer that is required is not on in full.
    #[error(
        "a {role} would run without the required layer `{}` in full: {}; `stockade doctor` lists \
         every layer of this machine",
        missing.layer, missing.reason
    )]
    Missing {
        /// Which process.
        role: &'static str,
        /// The first such layer.
        missing: LayerReport,
    },
    /// It could not be started or spoken to.
    #[error("cannot ask a {role} for its lockdown: {}", source.fault)]
    Unreachable {
        /// Which process.
        role: &'static str,
        /// Why.
        source: MachineError,
    },
    /// It could not set itself up.
    #[error("a {role} could not set itself up: {why}")]
    SetUp {
        /// Which process.
        role: &'static str,
        /// Why.
        why: String,
    },
}

impl LockdownError {
    /// What to do about it, in a sentence without a final stop; `None` where its text says all.
    pub fn next_step(&self) -> Option<&'static str> {
        match self {
            Self::Missing { .. } => None,
            Self::Unreachable { source, .. } => Some(source.next_step()),
            Self::SetUp { .. } => {
                Some("the system refuses what it names: see to that, or give another machine a try")
            }
        }
    }
}

crate::shown::debug_as_text!(LockdownError, LockdownError::next_step);

/// What this machine has of each layer of the `lockdown`, without a pool: for a program that checks
/// before it starts, and for `stockade doctor`. Blocks for as long as two processes take to start, a
/// few milliseconds.
///
/// # Errors
/// [`BuildError::NoWorkerProgram`], [`BuildError::Lockdown`] where a process cannot be asked.
///
/// ```no_run
/// use stockade::{Layer, Level, Lockdown};
///
/// let found = stockade::lockdown(&Lockdown::default(), None)?;
/// if found.worker.level(Layer::Landlock) < Level::Full {
///     eprintln!("files are kept from guests by fewer layers than they could be");
/// }
/// # Ok::<(), stockade::BuildError>(())
/// ```
pub fn lockdown(
    lockdown: &Lockdown,
    worker_program: Option<&WorkerProgram>,
) -> Result<PoolLockdown, BuildError> {
    let program = WorkerProgram::find(worker_program)?;
    let limits = Limits::default();
    let setup = Setup {
        worker: WorkerId(0),
        name: "stockade-doctor".into(),
        engine: limits.engine_settings(),
        limits,
        grants: Grants::none(),
        instances: Instances::PerTask,
        confinement: stockade_wire::Confinement {
            lockdown: lockdown.clone(),
            ..stockade_wire::Confinement::default()
        },
        modules: 0,
        memories: 0,
        rings: false,
        coredumps: None,
    };
    ask(&program, &setup).map_err(BuildError::Lockdown)
}

/// How long a process may take to confine itself; it is a matter of milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// The most bytes of a report.
const REPORT_BYTES_MAX: usize = 64 << 10;

/// Makes sure that processes with `setup` have what it requires.
pub(crate) fn check(program: &Path, setup: &Setup) -> Result<(), LockdownError> {
    let lockdown = &setup.confinement.lockdown;
    if !lockdown.requires_anything() {
        return Ok(());
    }
    match ask(program, setup)?.missing(lockdown).into_iter().next() {
        None => Ok(()),
        Some((role, missing)) => Err(LockdownError::Missing { role, missing }),
    }
}

/// Asks one process of each role, as they would be with `setup` but for what it requires.
pub(crate) fn ask(program: &Path, setup: &Setup) -> Result<PoolLockdown, LockdownError> {
    let lockdown = setup.confinement.lockdown.clone().require_nothing();
    let worker = of_role(program, Role::Worker, "worker", &lockdown, |process, sender| {
        let page = StatusPage::create().map_err(std::io::Error::other)?;
        let confinement = process.confinement.clone();
        let setup = Setup { confinement, modules: 0, memories: 0, rings: false, ..setup.clone() };
        let sent = sender.try_send(&HostMessage::Setup(setup), &[page.descriptor()]);
        sent.map_err(std::io::Error::other)?;
        Ok(match read(process)? {
            WorkerMessage::Ready(report) => Ok(report),
            WorkerMessage::SetupFailed(why) => Err(why),
            _ => Err("it answers out of turn".into()),
        })
    })?;
    let compiler = of_role(program, Role::Compiler, "compiler", &lockdown, |process, sender| {
        // As that of a large module: the report is that of threads too.
        let setup = CompilerSetup { confinement: process.confinement.clone(), threads: 2 };
        sender.try_send(&setup, &[]).map_err(std::io::Error::other)?;
        Ok(match read(process)? {
            CompileReply::Ready(report) => Ok(report),
            CompileReply::Failed(why) => Err(why),
            _ => Err("it answers out of turn".into()),
        })
    })?;
    Ok(PoolLockdown { worker, compiler })
}

fn of_role(
    program: &Path,
    role: Role,
    name: &'static str,
    lockdown: &Lockdown,
    converse: impl FnOnce(&Process, &mut Sender) -> std::io::Result<Result<LockdownReport, String>>,
) -> Result<LockdownReport, LockdownError> {
    let unreachable = |error: std::io::Error| {
        let task = format!("ask a {name} for its lockdown");
        let source = match timed_out(&error) {
            // Which is a process's own time, in which it does nothing but confine itself.
            true => MachineError {
                task,
                fault: MachineFault::Busy { waited: PATIENCE, processor_time: None },
            },
            false => MachineError::of(task, &error),
        };
        LockdownError::Unreachable { role: name, source }
    };
    let mut process =
        process::start(program, role, "stockade-doctor", lockdown).map_err(unreachable)?;
    let said = process.socket.try_clone().and_then(|socket| {
        let mut sender = Sender::new(socket);
        converse(&process, &mut sender)
    });
    process.child.kill();
    let ended = process.child.wait();
    match said {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(why)) => Err(LockdownError::SetUp { role: name, why }),
        // What it died of says more than that it said nothing.
        Err(source) if source.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(LockdownError::SetUp { role: name, why: ended.to_string() })
        }
        Err(source) => Err(unreachable(source)),
    }
}

fn read<M: codec::Decode<()>>(process: &Process) -> std::io::Result<M> {
    // It is told nothing hostile.
    let weighed = Weighed { pid: process.child.id(), allowance: MemoryAllowance::of(u64::MAX) };
    let stream = DeadlineStream::new(&process.socket, Instant::now() + PATIENCE, weighed);
    let mut frames = FrameReader::new(stream, REPORT_BYTES_MAX);
    match frames.read() {
        Ok(Some(Body::Inline(body))) => codec::decode(body).map_err(std::io::Error::other),
        Ok(Some(Body::OutOfLine(_))) => Err(std::io::ErrorKind::InvalidData.into()),
        Ok(None) => Err(std::io::ErrorKind::UnexpectedEof.into()),
        Err(FrameError::Io(error)) => Err(error),
        Err(error) => Err(std::io::Error::other(error)),
    }
}
