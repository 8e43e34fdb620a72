//! Lockdown reports for a pool's owner: the state of each layer in both roles, from one process of
//! each.
//!
//! Such a process locks itself down as all of its role do, reports the result, and exits; it never
//! runs a guest. The report is trusted because no hostile code runs before it.
//!
//! Invariant: every process itself checks required layers before it reads hostile input. The report
//! here only gives the answer earlier, and as a value.

use std::io;
use std::path::Path;
use std::time::Duration;

use stockade_wire::{
    CompileReply, CompilerSetup, Grants, HostMessage, Instances, LayerReport, Limits, Lockdown,
    LockdownReport, Role, Setup, StatusPage, WorkerId, WorkerMessage,
};

use crate::base::deadline;
use crate::outcome::error::BuildError;
use crate::outcome::lockdown_error::LockdownError;
use crate::outcome::machine::{MachineError, MachineFault};
use crate::process::conversation::{Conversation, NoAnswer};
use crate::process::footprint::MemoryAllowance;
use crate::process::program::WorkerProgram;

/// The state of each layer in a pool's processes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolLockdown {
    /// In its workers, which run guests.
    pub worker: LockdownReport,
    /// In its compilers, which read modules.
    pub compiler: LockdownReport,
}

impl PoolLockdown {
    /// Whether both roles are sandboxed: their seccomp filters are fully on.
    pub fn is_sandboxed(&self) -> bool {
        self.worker.is_sandboxed() && self.compiler.is_sandboxed()
    }

    /// The layers that `lockdown` requires and that are not fully on, with the role's name.
    pub fn missing(&self, lockdown: &Lockdown) -> Vec<(&'static str, LayerReport)> {
        let of = |role, report: &LockdownReport| {
            let missing = report.missing(lockdown);
            missing.into_iter().map(move |layer| (role, layer)).collect::<Vec<_>>()
        };
        [of("worker", &self.worker), of("compiler", &self.compiler)].concat()
    }
}

/// The state of each layer of `lockdown` on this machine, without a pool: for a program that checks
/// before it starts, and for `stockade doctor`. Blocks for a few milliseconds, while two processes
/// start.
///
/// # Errors
/// [`BuildError::NoWorkerProgram`], [`BuildError::Lockdown`] if a process cannot be asked.
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

/// How long a process may take to lock itself down; it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// The most bytes of a report.
const REPORT_BYTES_MAX: usize = 64 << 10;

/// The process's name in process lists.
const TITLE: &str = "stockade-doctor";

const OUT_OF_TURN: &str = "it answers out of turn";

/// Checks that processes with `setup` have all required layers.
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

/// Asks one process of each role, started with `setup` but without requirements.
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
