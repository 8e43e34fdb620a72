//! The factory: creates a worker's guests, and sets the alarm for each call.
//!
//! ```text
//! Linked ─► guest ─► prepare ─┐
//!               living guest ───┴► begin(Call) ─► alarm set ─► invoke ─► alarm off
//! ```
//!
//! Invariant: the alarm is set only once the guest's own epoch deadline is: an earlier alarm would
//! be lost.
//!
//! Deliberately absent: how long an instance lives, which is the [`runtime`](crate::runtime)'s to say.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use stockade_wire::{
    Codec, Failure, HookCall, Invocation, Limits, Metering, Outcome, Setup, StatusPage, Stdin,
    StdioSink, UnknownImports,
};
use wasmtime::{Linker, Module};

use crate::alarm::Alarm;
use crate::call::{Call, NO_TASK};
use crate::engine::WorkerEngine;
use crate::failure::HostTrap;
use crate::guest::{Guest, GuestState, Link, Surroundings};
use crate::hostcalls;
use crate::linked::Linked;
use crate::memory::ModuleMemories;
use crate::payload::CallInput;
use crate::reserve::Reserve;
use crate::stdio;
use crate::wasi::Plan;

/// Why a factory could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FactoryError {
    /// The engine refused a host call.
    #[error("cannot link the host calls: {0}")]
    Link(#[from] wasmtime::Error),
    /// The thread that watches deadlines could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// The common parts of all guests of a worker.
pub(crate) struct Factory {
    pub(crate) engine: WorkerEngine,
    linker: Linker<GuestState>,
    alarm: Option<Alarm>,
    pub(crate) metering: Metering,
    unknown_imports: UnknownImports,
    /// For initializers and finalizers, and for tasks without limits of their own.
    pub(crate) limits: Limits,
    reserve: Reserve,
    surroundings: Arc<Surroundings>,
    pub(crate) page: Arc<StatusPage>,
}

impl std::fmt::Debug for Factory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Factory").field("metering", &self.metering).finish_non_exhaustive()
    }
}

impl Factory {
    /// A factory for `setup`, which watches no deadlines yet.
    ///
    /// # Errors
    /// [`FactoryError`]
    pub(crate) fn new(
        engine: WorkerEngine,
        setup: Setup,
        link: Link,
    ) -> Result<Self, FactoryError> {
        let (metering, unknown_imports) = (setup.engine.metering, setup.engine.unknown_imports);
        let reserve = Reserve::new(&setup.grants);
        let (grants, since) = (setup.grants, Instant::now());
        Ok(Self {
            linker: hostcalls::linker(&engine.engine)?,
            alarm: None,
            engine,
            metering,
            unknown_imports,
            limits: setup.limits,
            reserve,
            page: Arc::clone(&link.page),
            surroundings: Arc::new(Surroundings {
                grants,
                since,
                page_bytes: rustix::param::page_size(),
                link: Some(link),
            }),
        })
    }

    /// Starts the alarm, if there are checks for it to ring on. It is a thread, so a process that is
    /// to be cloned does without.
    ///
    /// # Errors
    /// [`FactoryError::Thread`]
    pub(crate) fn watch_deadlines(&mut self) -> Result<(), FactoryError> {
        if self.metering.epochs() {
            self.alarm = Some(Alarm::start(&self.engine.engine)?);
        }
        Ok(())
    }

    /// Starts again in a clone of the process, with its own port and clock.
    pub(crate) fn link_to(&mut self, link: Link) {
        self.page = Arc::clone(&link.page);
        self.surroundings = Arc::new(Surroundings {
            grants: self.surroundings.grants.clone(),
            since: Instant::now(),
            page_bytes: self.surroundings.page_bytes,
            link: Some(link),
        });
    }

    /// Links `module`, whose memories are `memories`, which is past its `_initialize` where
    /// `initialized`, and of which tasks will call what is `announced`.
    ///
    /// # Errors
    /// If the module imports what no worker provides.
    pub(crate) fn linked(
        &self,
        module: &Module,
        memories: Arc<ModuleMemories>,
        initialized: bool,
        initializer: Option<HookCall>,
        announced: Vec<String>,
    ) -> wasmtime::Result<Linked> {
        let (linker, unknown) = (&self.linker, self.unknown_imports);
        Linked::new(linker, unknown, module, memories, initialized, initializer, announced)
    }

    fn guest(&self, plan: Option<Box<Plan>>, call: Call, limits: &Limits) -> Guest {
        let state = GuestState::new(Arc::clone(&self.surroundings), plan, call);
        Guest::new(&self.engine.engine, self.metering, state, limits)
    }

    /// Makes `call` in `guest`, or in a fresh instance where there is none.
    pub(crate) fn call(
        &self,
        linked: &Linked,
        guest: Option<Guest>,
        call: Call,
        limits: &Limits,
        invocation: &Invocation,
        stdio: Vec<OwnedFd>,
    ) -> (Guest, wasmtime::Result<Outcome>) {
        let deadline = call.interrupt_at();
        let _kept = self.reserve.keep();
        let (guest, called) = match guest {
            Some(mut guest) => {
                guest.begin(call, limits);
                self.watch(deadline);
                let called = guest.invoke(linked, invocation);
                (guest, called)
            }
            None => {
                let mut guest = self.guest(plan(invocation, stdio), call, limits);
                self.watch(deadline);
                let called = guest.prepare(linked, &self.engine.memories, linked.initialize);
                let called = called.and_then(|()| guest.invoke(linked, invocation));
                (guest, exited(invocation, called))
            }
        };
        self.rest();
        (guest, called)
    }

    /// A fresh instance, of which nothing but its start function has run.
    ///
    /// # Errors
    /// What ended the guest.
    pub(crate) fn instance(&self, linked: &Linked) -> wasmtime::Result<Guest> {
        let call = self.hook_call(None);
        let deadline = call.interrupt_at();
        let mut guest = self.guest(None, call, &self.limits);
        self.watch(deadline);
        let prepared = guest.prepare(linked, &self.engine.memories, false);
        self.rest();
        prepared.map(|()| guest)
    }

    /// A fresh instance, initialised as its module wants it.
    ///
    /// # Errors
    /// The initializer's failure.
    pub(crate) fn initialized(&self, linked: &Linked) -> Result<Guest, Failure> {
        self.called(linked, linked.initializer.as_ref())
    }

    /// A fresh instance in which `hook` has run.
    ///
    /// # Errors
    /// The hook's failure.
    pub(crate) fn called(
        &self,
        linked: &Linked,
        hook: Option<&HookCall>,
    ) -> Result<Guest, Failure> {
        let call = self.hook_call(hook);
        let deadline = call.interrupt_at();
        let _kept = self.reserve.keep();
        let mut guest = self.guest(None, call, &self.limits);
        self.watch(deadline);
        let prepared = guest.prepare(linked, &self.engine.memories, linked.initialize);
        let called = match (prepared, hook) {
            (Err(error), _) => Err(guest.failure(&error)),
            (Ok(()), None) => Ok(()),
            (Ok(()), Some(hook)) => guest.invoke_hook(linked, hook),
        };
        self.rest();
        called.map(|()| guest)
    }

    /// Calls `hook` in an instance that is there.
    ///
    /// # Errors
    /// The hook's failure.
    pub(crate) fn call_hook(
        &self,
        linked: &Linked,
        guest: &mut Guest,
        hook: &HookCall,
    ) -> Result<(), Failure> {
        let call = self.hook_call(Some(hook));
        let deadline = call.interrupt_at();
        let _kept = self.reserve.keep();
        guest.begin(call, &self.limits);
        self.watch(deadline);
        let called = guest.invoke_hook(linked, hook);
        self.rest();
        called
    }

    fn hook_call(&self, hook: Option<&HookCall>) -> Call {
        let (codec, input) = match hook {
            Some(HookCall::Task(call)) => (call.codec, CallInput::Bytes(call.input.clone())),
            Some(HookCall::Plain { .. }) | None => (Codec::Raw, CallInput::NONE),
        };
        Call::new(NO_TASK, codec, input, &self.limits, Instant::now())
    }

    /// Has the alarm ring at `deadline`.
    fn watch(&self, deadline: Option<Instant>) {
        if let Some(alarm) = &self.alarm {
            alarm.set(deadline);
        }
    }

    fn rest(&self) {
        if let Some(alarm) = &self.alarm {
            alarm.set(None);
        }
    }
}

/// The outcome of a call. A program may exit anywhere, also before its entry.
fn exited(invocation: &Invocation, called: wasmtime::Result<Outcome>) -> wasmtime::Result<Outcome> {
    let Invocation::Command { .. } = invocation else { return called };
    called.or_else(|error| match error.downcast_ref::<HostTrap>() {
        Some(HostTrap::Exit(code)) => Ok(Outcome::Exited(*code)),
        _ => Err(error),
    })
}

/// What a command is given; nothing for a function.
fn plan(invocation: &Invocation, stdio: Vec<OwnedFd>) -> Option<Box<Plan>> {
    let Invocation::Command { call: command, .. } = invocation else { return None };
    let mut descriptors = stdio.into_iter();
    let stdin = match &command.stdin {
        Stdin::Bytes(bytes) => Some(stdio::Stdin::bytes(bytes.clone())),
        Stdin::Descriptor => {
            descriptors.next().map(|descriptor| stdio::Stdin::Descriptor(Arc::new(descriptor)))
        }
        Stdin::Error(number) => Some(stdio::Stdin::Error(*number)),
    };
    let mut output = |sink| match sink {
        StdioSink::Captured => None,
        StdioSink::Descriptor => descriptors.next(),
    };
    Some(Box::new(Plan {
        args: command.args.clone(),
        env: command.env.clone(),
        stdin: stdin.unwrap_or_default(),
        stdout: output(command.stdout),
        stderr: output(command.stderr),
    }))
}
