//! A program whose children leave no status, with pools in it.
//!
//! `reaper HABIT MODULE` makes pools and loses, stops and ends their workers, templates and compilers.
//! With the habit `ignores` it ignores SIGCHLD; with `forgets` it has no zombies, by `SA_NOCLDWAIT`; with
//! `reaps` a thread of it waits for every child there is; with `inherits` it leaves everything as it came.
//! It writes how a killed and an aborted worker were said to have ended, and how many descriptors and
//! children it had after the first round and after the last.
//!
//! Invariant: it is under a filter that ends it as soon as it signals a process by its number or waits
//! for one by its number.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, PidfdFlags, Signal};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use stockade::{Bytes, Limits, Pool, PoolBuilder, RunError, TaskError, TaskHandle, WorkerExit};
use stockade_tests::{Census, eventually, name_for_a_pool, template_of};

const ROUNDS: usize = 3;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let habit = arguments.next().context("the first argument is a habit")?;
    let module = arguments.next().context("the second argument is a module")?;
    forbid_numbers()?;
    match habit.as_str() {
        "ignores" => act_on_children(libc::SIG_IGN, 0),
        "forgets" => act_on_children(libc::SIG_DFL, libc::SA_NOCLDWAIT),
        "reaps" => _ = std::thread::spawn(reap),
        "inherits" => {}
        unknown => bail!("unknown habit {unknown}"),
    }
    let mut exits = Vec::new();
    let mut held = Vec::new();
    for round in 0..ROUNDS {
        exits = ends(&module).context("ends")?;
        others(&module).context("others")?;
        eventually("no child", || Census::take().children == 0);
        let Census { descriptors, children, .. } = Census::take();
        held.push((descriptors, children));
        ensure!(round == 0 || held[round] == held[0], "it holds {held:?}");
    }
    let mut stdout = std::io::stdout().lock();
    for WorkerExit { signal, code, .. } in &exits {
        writeln!(stdout, "{signal:?} {code:?}")?;
    }
    Ok(())
}

/// Has the kernel do `handler` when a child ends.
fn act_on_children(handler: libc::sighandler_t, flags: libc::c_int) {
    // SAFETY: a plain structure that outlives the call; no code of this program becomes a handler.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        assert_eq!(libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut()), 0);
    }
}

/// Waits for children, whosever they are.
fn reap() {
    loop {
        // SAFETY: the call writes nowhere.
        if unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } < 0 {
            std::thread::yield_now();
        }
    }
}

/// From now on whatever names a process by its number, to signal it or to wait for it, ends this one.
fn forbid_numbers() -> Result<()> {
    const ANY_CHILD: u64 = 0xffff_ffff;
    let argument = |operation, value| -> Result<Vec<SeccompRule>> {
        let length = SeccompCmpArgLen::Dword;
        Ok(vec![SeccompRule::new(vec![SeccompCondition::new(0, length, operation, value)?])?])
    };
    let rules: BTreeMap<_, _> = [
        (libc::SYS_kill, Vec::new()),
        (libc::SYS_tkill, Vec::new()),
        (libc::SYS_rt_sigqueueinfo, Vec::new()),
        (libc::SYS_wait4, argument(SeccompCmpOp::Ne, ANY_CHILD)?),
        (libc::SYS_waitid, argument(SeccompCmpOp::Eq, libc::P_PID.into())?),
    ]
    .into();
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::KillProcess,
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid.try_into()?).context("a process number")?;
    let process = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    Ok(rustix::process::pidfd_send_signal(process, signal)?)
}

fn int(number: i32) -> Bytes {
    Bytes(number.to_le_bytes().to_vec())
}

fn tasks(module: &str) -> PoolBuilder {
    let builder = Pool::single()
        .name(name_for_a_pool())
        .module(module)
        .limits(Limits::default().wall_time(None));
    builder.shutdown_grace_period(Duration::from_millis(100))
}

/// A task that runs until its worker ends.
fn spinning(pool: &Pool) -> Result<TaskHandle<()>> {
    let handle = pool.submit::<()>("spin", int(0))?;
    eventually("a running task", || handle.progress().is_some());
    Ok(handle)
}

/// The process of the one worker, once those before it are gone.
fn worker_of(pool: &Pool) -> u32 {
    eventually("one worker", || pool.workers().len() == 1);
    pool.workers()[0].pid
}

/// How workers ended that were killed and that aborted.
fn ends(module: &str) -> Result<Vec<WorkerExit>> {
    let pool = tasks(module).build()?;
    let mut exits = Vec::new();
    for fatal in [Signal::KILL, Signal::ABORT] {
        let handle = spinning(&pool)?;
        signal(worker_of(&pool), fatal)?;
        match handle.result() {
            Err(TaskError::WorkerLost(exit)) => exits.push(exit),
            other => bail!("{other:?}"),
        }
    }
    let handle = spinning(&pool)?;
    handle.cancel_running();
    ensure!(matches!(handle.result(), Err(TaskError::Cancelled(_))));
    echo(&pool)?;
    // The template is lost amid everything, and replaced.
    eventually("a template that is killed", || {
        template_of(pool.name()).is_some_and(|template| signal(template, Signal::KILL).is_ok())
    });
    echo(&pool)?;
    let handle = spinning(&pool)?;
    signal(worker_of(&pool), Signal::KILL)?;
    ensure!(handle.result().is_err());
    echo(&pool)?;
    ensure!(pool.shutdown());
    ensure!(template_of(pool.name()).is_none());
    Ok(exits)
}

fn echo(pool: &Pool) -> Result<()> {
    ensure!(pool.run::<Vec<u8>>("echo", int(7))? == 7_i32.to_le_bytes());
    Ok(())
}

/// Pools that end in other ways, and compilers.
fn others(module: &str) -> Result<()> {
    let limits = Limits::default().wall_time(Duration::from_millis(50));
    let late = tasks(module).limits(limits).build()?;
    ensure!(matches!(
        late.run::<()>("spin", int(0)),
        Err(RunError::Task(TaskError::Deadline { .. }))
    ));
    ensure!(matches!(late.run::<()>("trap", int(0)), Err(RunError::Task(TaskError::Trap { .. }))));
    let abandoned = late.submit::<()>("spin", int(0))?;
    drop(late);
    ensure!(abandoned.result().is_err());
    // A worker that was asked to end is not taken for one that crashed.
    let retiring = tasks(module).max_tasks_per_worker(1).build()?;
    echo(&retiring)?;
    // While it makes a clone it has the clone's title.
    let mut template = None;
    eventually("the template", || {
        template = template_of(retiring.name());
        template.is_some()
    });
    for _ in 0..3 {
        echo(&retiring)?;
        eventually("the same template", || template_of(retiring.name()) == template);
    }
    retiring.kill();
    // A compiler, a worker that leaves a snapshot, and another compiler.
    let initialised = tasks(module).initializer("start_counting_at", int(9)).build()?;
    ensure!(initialised.run::<Vec<u8>>("count", int(0))? == 10_i32.to_le_bytes());
    ensure!(initialised.lockdown()?.is_sandboxed());
    ensure!(tasks(module).module_bytes("bad", "no wasm").build().is_err());
    Ok(())
}
