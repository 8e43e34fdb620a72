//! Lockdown as a pool's owner sees it: what became of each layer in both roles, found out by asking
//! one process of each.
//!
//! Such a process confines itself as every other of its role does, says how far it came, and ends;
//! no guest is ever in it. A report is believed because nothing hostile has run before it is made.
//!
//! Invariant: where a layer is required, every process checks it by itself before it reads anything
//! hostile. The question here only gives the answer sooner, and as a value.

use std::io;
use std::path::Path;
use std::time::Duration;

use stockade_wire::{
    CompileReply, CompilerSetup, HostMessage, LayerReport, Lockdown, LockdownReport, Role, Setup,
    StatusPage, WorkerMessage,
};

use crate::footprint::MemoryAllowance;
use crate::process::{Conversation, NoAnswer};
use crate::{
    BuildError, Grants, Instances, Limits, MachineError, MachineFault, WorkerId, WorkerProgram,
    deadline,
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
        name: TITLE.into(),
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

/// What such a process is called in process lists.
const TITLE: &str = "stockade-doctor";

const OUT_OF_TURN: &str = "it answers out of turn";

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
    let worker = of_role(program, Role::Worker, "worker", &lockdown, |worker| {
        let page = StatusPage::create().map_err(io::Error::other)?;
        let confinement = worker.confinement().clone();
        let setup = Setup { confinement, modules: 0, memories: 0, rings: false, ..setup.clone() };
        worker.send(&HostMessage::Setup(setup), &[page.descriptor()])?;
        Ok(match worker.receive(deadline::after(PATIENCE))? {
            WorkerMessage::Ready(report) => Ok(report),
            WorkerMessage::SetupFailed(why) => Err(why),
            _ => Err(OUT_OF_TURN.into()),
        })
    })?;
    let compiler = of_role(program, Role::Compiler, "compiler", &lockdown, |compiler| {
        // As that of a large module: the report is that of threads too.
        let setup = CompilerSetup { confinement: compiler.confinement().clone(), threads: 2 };
        compiler.send(&setup, &[])?;
        Ok(match compiler.receive(deadline::after(PATIENCE))? {
            CompileReply::Ready(report) => Ok(report),
            CompileReply::Failed(why) => Err(why),
            _ => Err(OUT_OF_TURN.into()),
        })
    })?;
    Ok(PoolLockdown { worker, compiler })
}

fn of_role(
    program: &Path,
    role: Role,
    name: &'static str,
    lockdown: &Lockdown,
    ask: impl FnOnce(&mut Conversation) -> Result<Result<LockdownReport, String>, NoAnswer>,
) -> Result<LockdownReport, LockdownError> {
    // It is told nothing hostile.
    let allowance = MemoryAllowance::of(u64::MAX);
    let start = || Conversation::start(program, role, TITLE, lockdown, allowance, REPORT_BYTES_MAX);
    let no_answer = match start().map_err(NoAnswer::from).and_then(|mut process| ask(&mut process))
    {
        Ok(report) => return report.map_err(|why| LockdownError::SetUp { role: name, why }),
        Err(no_answer) => no_answer,
    };
    let task = format!("ask a {name} for its lockdown");
    let source = match no_answer {
        // What it died of says more than that it said nothing.
        NoAnswer::Ended(end) => {
            return Err(LockdownError::SetUp { role: name, why: end.exit.to_string() });
        }
        // Which is a process's own time, in which it does nothing but confine itself.
        NoAnswer::Late { .. } => MachineError {
            task,
            fault: MachineFault::Busy { waited: PATIENCE, processor_time: None },
        },
        NoAnswer::Fault(error) => MachineError::of(task, &error),
        other => MachineError::of(task, &io::Error::other(other)),
    };
    Err(LockdownError::Unreachable { role: name, source })
}
