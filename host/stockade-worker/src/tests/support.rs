//! A worker in a thread and the host's end of its socket, in the words of the domain.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use stockade_wire::descriptor::{Receiver, Sender, sealed_file};
use stockade_wire::frame::FRAME_BYTES_MAX;
use stockade_wire::{
    Call, ChunkId, Codec, CommandCall, CompileLimits, CompileRequest, CompileStep, Confinement,
    Coredumps, EngineSettings, Failure, Features, Finished, Grants, HookCall, HostMessage,
    Instances, Invocation, Limits, Load, LockdownReport, ModuleDescription, ModuleId, Outcome,
    PageSlot, Refusal, Run, SLOTS_MAX, Scalar, Setup, StatusPage, Stdin, StdioSink, TaskId,
    WorkerId, WorkerMessage, Written,
};

use crate::compiler::{self, Threads};
use crate::lockdown::{LockdownError, Space};
use crate::session::{self, Confine, SessionError};

/// The only module of most tests.
pub(super) const MODULE: ModuleId = ModuleId(0);

/// A guest with a memory and the host calls most tests want, around `body`.
pub(super) fn guest(body: &str) -> String {
    format!(
        r#"(module
            (import "stockade" "input_len" (func $input_len (result i32)))
            (import "stockade" "input_codec" (func $input_codec (result i32)))
            (import "stockade" "input_read" (func $input_read (param i32 i32 i32)))
            (import "stockade" "input_map" (func $input_map (param i32 i32) (result i32)))
            (import "stockade" "output_write" (func $output_write (param i32 i32)))
            (import "stockade" "error_write" (func $error_write (param i32 i32)))
            (import "stockade" "progress" (func $progress (param i64 i64)))
            (import "stockade" "emit" (func $emit (param i32 i32)))
            (import "stockade" "log" (func $log (param i32 i32 i32)))
            (import "stockade" "remaining_ns" (func $remaining_ns (result i64)))
            (import "stockade" "task_id" (func $task_id (result i64)))
            (import "wasi_snapshot_preview1" "fd_write"
                (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read"
                (func $fd_read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff"
                (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            {body})"#
    )
}

pub(super) fn request(step: CompileStep, limits: &Limits) -> CompileRequest {
    CompileRequest {
        step,
        engine: limits.engine_settings(),
        text: true,
        limits: CompileLimits::default(),
        exposed: false,
    }
}

/// What the compiler makes of `source`, or why not.
pub(super) fn compile(
    step: CompileStep,
    limits: &Limits,
    source: impl AsRef<[u8]>,
    state: Option<&[u8]>,
) -> Result<(ModuleDescription, File), Refusal> {
    compile_for(&request(step, limits), source, state)
}

/// As [`compile`], for all that `request` says.
pub(super) fn compile_for(
    request: &CompileRequest,
    source: impl AsRef<[u8]>,
    state: Option<&[u8]>,
) -> Result<(ModuleDescription, File), Refusal> {
    let compiled = compiler::compile(request, source.as_ref(), state, &Threads::none())?;
    let artefact = sealed_file("artefact", &compiled.artefact).unwrap();
    Ok((compiled.description, artefact))
}

/// A session in a thread of the tests' own process gives up nothing.
pub(super) struct Unconfined;

impl Confine for Unconfined {
    fn enter(&mut self, _: &Setup) {}

    fn close(&mut self, _: &Space) -> Result<LockdownReport, LockdownError> {
        Ok(LockdownReport(Vec::new()))
    }

    fn seal(&mut self, _: &Space) -> Result<(), LockdownError> {
        Ok(())
    }
}

/// A worker to be.
pub(super) struct Builder {
    modules: u32,
    limits: Limits,
    features: Features,
    instances: Instances,
    grants: Grants,
    coredumps: Option<Coredumps>,
}

pub(super) fn worker() -> Builder {
    Builder {
        modules: 1,
        limits: Limits::default(),
        features: Features::default(),
        instances: Instances::PerTask,
        grants: Grants::none(),
        coredumps: None,
    }
}

impl Builder {
    pub(super) fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    pub(super) fn features(mut self, features: Features) -> Self {
        self.features = features;
        self
    }

    pub(super) fn per_worker(mut self) -> Self {
        self.instances = Instances::PerWorker;
        self
    }

    /// So many modules will follow; one, where nothing is said.
    pub(super) fn modules(mut self, modules: u32) -> Self {
        self.modules = modules;
        self
    }

    pub(super) fn grants(mut self, grants: Grants) -> Self {
        self.grants = grants;
        self
    }

    pub(super) fn coredumps(mut self, coredumps: Coredumps) -> Self {
        self.coredumps = Some(coredumps);
        self
    }

    /// Starts the session and sends its setup; the answer is still to be received.
    pub(super) fn launch(self) -> Worker {
        let mut worker = Worker::unset(self.limits.clone());
        worker.exposed = self.coredumps.is_some();
        worker.features = self.features;
        let setup = HostMessage::Setup(Setup {
            worker: WorkerId(1),
            name: "test".into(),
            engine: EngineSettings { features: self.features, ..self.limits.engine_settings() },
            limits: self.limits,
            grants: self.grants,
            instances: self.instances,
            confinement: Confinement::default(),
            modules: self.modules,
            // What they will have is not known yet.
            memories: self.modules * 3,
            rings: false,
            coredumps: self.coredumps,
        });
        let page = worker.page.descriptor().try_clone_to_owned().unwrap();
        worker.with(|mut worker| {
            worker.send(&setup, &[page.as_fd()]);
            worker
        })
    }

    pub(super) fn start(self) -> Worker {
        let mut worker = self.launch();
        assert!(matches!(worker.receive(), Some(WorkerMessage::Ready(_))));
        worker
    }

    /// Starts with `source` loaded, or its text around host calls.
    pub(super) fn start_with(self, source: &str) -> Worker {
        let mut worker = self.start();
        worker.load(source);
        worker
    }
}

/// What every module is loaded with, whether it exports such functions or not.
const ANNOUNCED: [&str; 2] = ["echo", "nothing"];

/// A running session and the host's end.
pub(super) struct Worker {
    pub(super) limits: Limits,
    pub(super) page: StatusPage,
    /// Whether its modules are compiled for core dumps.
    exposed: bool,
    features: Features,
    sender: Option<Sender>,
    receiver: Receiver,
    thread: JoinHandle<Result<(), SessionError>>,
    last_task: u64,
}

/// Where the first task of a run stands on its worker's page.
pub(super) fn place_of(run: &Run) -> PageSlot {
    PageSlot { slot: run.slot, first: run.tasks.first(), index: 0 }
}

impl Worker {
    /// A session that has been told nothing yet.
    pub(super) fn unset(limits: Limits) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || session::serve(theirs, Unconfined, None));
        Self {
            limits,
            page: StatusPage::create().unwrap(),
            exposed: false,
            features: Features::default(),
            sender: Some(Sender::new(ours.try_clone().unwrap())),
            receiver: Receiver::new(ours, FRAME_BYTES_MAX),
            thread,
            last_task: 0,
        }
    }

    fn with(self, act: impl FnOnce(Self) -> Self) -> Self {
        act(self)
    }

    pub(super) fn send(&mut self, message: &HostMessage, descriptors: &[BorrowedFd<'_>]) {
        self.sender.as_mut().unwrap().try_send(message, descriptors).unwrap();
    }

    pub(super) fn receive(&mut self) -> Option<WorkerMessage> {
        self.receiver.receive().unwrap()
    }

    pub(super) fn finished(&mut self) -> Finished {
        match self.receive() {
            Some(WorkerMessage::Finished(finished)) => finished,
            other => panic!("expected a finished task, got {other:?}"),
        }
    }

    /// Loads `source`, compiled for this worker, and expects it to be accepted.
    pub(super) fn load(&mut self, source: &str) {
        self.load_with(source, None, None);
        assert_eq!(self.receive(), Some(WorkerMessage::Loaded(MODULE)));
    }

    pub(super) fn load_with(
        &mut self,
        source: &str,
        initializer: Option<HookCall>,
        finalizer: Option<HookCall>,
    ) {
        let exposed = self.exposed;
        let engine = EngineSettings { features: self.features, ..self.limits.engine_settings() };
        let request =
            CompileRequest { exposed, engine, ..request(CompileStep::Compile, &self.limits) };
        let (_, artefact) = compile_for(&request, source, None).unwrap();
        self.load_artefact(&artefact, initializer, finalizer, false);
    }

    pub(super) fn load_artefact(
        &mut self,
        artefact: &File,
        initializer: Option<HookCall>,
        finalizer: Option<HookCall>,
        initialized: bool,
    ) {
        let name = "guest".into();
        let load = Load {
            module: MODULE,
            name,
            functions: ANNOUNCED.map(String::from).into(),
            initializer,
            finalizer,
            initialized,
        };
        self.send(&HostMessage::Load(load), &[artefact.as_fd()]);
    }

    /// Sends a task without waiting for it; answers its number.
    pub(super) fn submit(
        &mut self,
        invocation: Invocation,
        descriptors: &[BorrowedFd<'_>],
    ) -> TaskId {
        let limits = self.limits.clone();
        self.submit_under(limits, invocation, descriptors)
    }

    pub(super) fn submit_under(
        &mut self,
        limits: Limits,
        invocation: Invocation,
        descriptors: &[BorrowedFd<'_>],
    ) -> TaskId {
        let run = self.next_run(limits, invocation);
        let task = run.tasks.first();
        self.offer(run, descriptors);
        task
    }

    /// The next task, in the next slot, sharing with none.
    pub(super) fn next_run(&mut self, limits: Limits, invocation: Invocation) -> Run {
        self.last_task += 1;
        let task = TaskId(self.last_task);
        let slot = (task.0 % SLOTS_MAX as u64) as u8;
        let limits = Some(Box::new(limits));
        Run {
            tasks: task.into(),
            module: MODULE,
            invocation,
            lengths: Vec::new(),
            limits,
            slot,
            share: None,
            placement: None,
        }
    }

    /// Lets a task start and sends it.
    pub(super) fn offer(&mut self, run: Run, descriptors: &[BorrowedFd<'_>]) {
        self.page.offer(run.slot, run.tasks);
        self.send(&HostMessage::Run(run), descriptors);
    }

    pub(super) fn run(&mut self, invocation: Invocation) -> Finished {
        let task = self.submit(invocation, &[]);
        let finished = self.finished();
        assert_eq!(finished.task, task);
        finished
    }

    /// Runs a task that shares the instance of `chunk`, if it is of one.
    pub(super) fn run_in(&mut self, chunk: Option<ChunkId>, invocation: Invocation) -> Finished {
        let mut run = self.next_run(self.limits.clone(), invocation);
        run.share = chunk;
        let task = run.tasks.first();
        self.offer(run, &[]);
        let finished = self.finished();
        assert_eq!(finished.task, task);
        finished
    }

    pub(super) fn task(&mut self, export: &str, input: &[u8]) -> Finished {
        self.run(task(export, input))
    }

    /// Runs a task that is expected to return, and answers its result.
    pub(super) fn result(&mut self, export: &str, input: &[u8]) -> Vec<u8> {
        match self.task(export, input).outcome {
            Outcome::Returned(bytes) => bytes,
            other => panic!("expected a result, got {other:?}"),
        }
    }

    /// Runs a task that is expected to fail, and answers how.
    pub(super) fn failure(&mut self, export: &str) -> Failure {
        match self.task(export, b"").outcome {
            Outcome::Failed(failure) => failure,
            other => panic!("expected a failure, got {other:?}"),
        }
    }

    pub(super) fn scalar(&mut self, export: &str, args: &[Scalar]) -> Outcome {
        self.run(Invocation::Scalar { export: export.into(), args: args.to_vec() }).outcome
    }

    /// Asks for the end, and answers with what the worker says last and how the session ended.
    pub(super) fn close(mut self) -> (Option<WorkerMessage>, Result<(), SessionError>) {
        self.send(&HostMessage::Close, &[]);
        let last = self.receive();
        (last, self.end())
    }

    /// Hangs up and answers how the session ended.
    pub(super) fn end(mut self) -> Result<(), SessionError> {
        self.sender = None;
        drop(self.receiver);
        self.thread.join().unwrap()
    }
}

pub(super) fn task(export: &str, input: &[u8]) -> Invocation {
    Invocation::Task(call(export, input))
}

pub(super) fn call(export: &str, input: &[u8]) -> Call {
    Call { export: export.into(), codec: Codec::Raw, input: input.to_vec() }
}

pub(super) fn hook(export: &str, input: &[u8]) -> Option<HookCall> {
    Some(HookCall::Task(call(export, input)))
}

pub(super) fn command(args: &[&str], stdin: &[u8]) -> CommandCall {
    CommandCall {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: Vec::new(),
        stdin: Stdin::Bytes(stdin.to_vec()),
        stdout: StdioSink::Captured,
        stderr: StdioSink::Captured,
    }
}

/// What a program of WASI in these tests reads and writes with: `$read` and `$write` over the imports
/// `$fd_read` and `$fd_write`, with their vectors from 50000 on.
pub(super) const READ_AND_WRITE: &str = r#"
    ;; Writes `n` bytes at `p` to `fd`; answers the errno.
    (func $write (param $fd i32) (param $p i32) (param $n i32) (result i32)
        (i32.store (i32.const 50000) (local.get $p))
        (i32.store (i32.const 50004) (local.get $n))
        (call $fd_write (local.get $fd) (i32.const 50000) (i32.const 1) (i32.const 50008)))
    ;; Reads up to 100 bytes to 1000 from `fd`; answers how many, or minus the errno.
    (func $read (param $fd i32) (result i32) (local $errno i32)
        (i32.store (i32.const 50000) (i32.const 1000))
        (i32.store (i32.const 50004) (i32.const 100))
        (local.set $errno (call $fd_read (local.get $fd)
            (i32.const 50000) (i32.const 1) (i32.const 50008)))
        (if (result i32) (local.get $errno)
            (then (i32.sub (i32.const 0) (local.get $errno)))
            (else (i32.load (i32.const 50008)))))"#;

/// A run of the module's `_start`.
pub(super) fn from_start(call: CommandCall) -> Invocation {
    from_entry("_start", call)
}

/// A run of the module from the export `entry`.
pub(super) fn from_entry(entry: &str, call: CommandCall) -> Invocation {
    Invocation::Command { entry: entry.into(), call }
}

/// What a task wrote and logged.
pub(super) fn written(finished: &Finished) -> Written {
    finished.written.as_deref().cloned().unwrap_or_default()
}
