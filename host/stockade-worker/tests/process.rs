//! Both roles as real processes, under the limits that they set themselves.
#![allow(unsafe_code)]
// Helpers of tests fail like tests; Clippy knows only functions that are one.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use stockade_wire::descriptor::{Receiver, Sender, memory_file, seal, sealed_file};
use stockade_wire::frame::FRAME_BYTES_MAX;
use stockade_wire::{
    CompileLimits, CompileReply, CompileRequest, CompileStep, Confinement, Grants, HostMessage,
    Instances, Invocation, Limits, Load, Lockdown, ModuleId, Outcome, RefusalKind, Role, Run,
    SOCKET_DESCRIPTOR, Scalar, Setup, StatusPage, TaskId, WorkerId, WorkerMessage,
};

/// A process in one of the two roles, and the host's end of its socket.
struct Process {
    child: Child,
    sender: Sender,
    receiver: Receiver,
}

impl Process {
    fn start(role: Role) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_stockade-worker"));
        command.arg(role.argument()).env_clear();
        let socket = OwnedFd::from(theirs);
        // SAFETY: between fork and exec only dup2 is called, which is async-signal-safe. Whatever
        // had that number in the child is replaced, as it is meant to be.
        unsafe {
            command.pre_exec(move || {
                let mut place = ManuallyDrop::new(OwnedFd::from_raw_fd(SOCKET_DESCRIPTOR));
                Ok(rustix::io::dup2(&socket, &mut place)?)
            });
        }
        let child = command.spawn().unwrap();
        drop(command); // and with it the child's end
        Self {
            child,
            sender: Sender::new(ours.try_clone().unwrap()),
            receiver: Receiver::new(ours, FRAME_BYTES_MAX),
        }
    }

    fn send(&mut self, message: &HostMessage, descriptors: &[BorrowedFd<'_>]) {
        self.sender.try_send(message, descriptors).unwrap();
    }

    fn receive(&mut self) -> Option<WorkerMessage> {
        self.receiver.receive().unwrap()
    }

    /// Hangs up and answers the exit code.
    fn end(mut self) -> Option<i32> {
        drop((self.sender, self.receiver));
        self.child.wait().unwrap().code()
    }
}

/// As any, and a refused system call is named.
fn confinement() -> Confinement {
    let lockdown = Lockdown::default().explain_violations(true);
    Confinement { lockdown, ..Confinement::default() }
}

/// Has a compiler process do `step`; answers its reply and the artefact, sealed.
fn compile(source: &str, artefact_bytes: u64) -> (CompileReply, File) {
    let mut compiler = Process::start(Role::Compiler);
    let request = CompileRequest {
        step: CompileStep::Compile,
        engine: Limits::default().engine_settings(),
        text: true,
        limits: CompileLimits::default().artefact_bytes(artefact_bytes),
    };
    let wasm = sealed_file("wasm", source.as_bytes()).unwrap();
    let artefact = memory_file("artefact").unwrap();
    compiler.sender.try_send(&confinement(), &[]).unwrap();
    let ready = compiler.receiver.receive().unwrap();
    assert!(matches!(ready, Some(CompileReply::Ready(_))), "{ready:?}");
    compiler.sender.try_send(&request, &[wasm.as_fd(), artefact.as_fd()]).unwrap();
    let reply = compiler.receiver.receive().unwrap().unwrap();
    assert_eq!(compiler.end(), Some(0));
    seal(&artefact).unwrap();
    (reply, artefact)
}

fn setup(worker: &mut Process) -> StatusPage {
    let page = StatusPage::create().unwrap();
    let limits = Limits::default();
    let setup = Setup {
        worker: WorkerId(1),
        name: "stockade test worker".into(),
        engine: limits.engine_settings(),
        limits,
        grants: Grants::none(),
        instances: Instances::PerTask,
        confinement: confinement(),
        modules: 1,
    };
    worker.send(&HostMessage::Setup(setup), &[page.descriptor()]);
    assert!(matches!(worker.receive(), Some(WorkerMessage::Ready(_))));
    page
}

const DOUBLE: &str = r#"(module (func (export "double") (param i32) (result i32)
    (i32.mul (local.get 0) (i32.const 2))))"#;

#[test]
fn what_a_compiler_process_makes_a_worker_process_runs() {
    let (reply, artefact) = compile(DOUBLE, 1 << 20);
    assert!(matches!(reply, CompileReply::Compiled(_)), "{reply:?}");
    let mut worker = Process::start(Role::Worker);
    let page = setup(&mut worker);
    let comm = std::fs::read_to_string(format!("/proc/{}/comm", worker.child.id())).unwrap();
    assert_eq!(comm, "stockade test w\n");

    let module = ModuleId(3);
    let load = Load {
        module,
        name: "double".into(),
        initializer: None,
        finalizer: None,
        initialized: false,
    };
    worker.send(&HostMessage::Load(load), &[artefact.as_fd()]);
    assert_eq!(worker.receive(), Some(WorkerMessage::Loaded(module)));
    let run = Run {
        task: TaskId(9),
        module,
        invocation: Invocation::Scalar { export: "double".into(), args: vec![Scalar::I32(21)] },
        limits: Limits::default(),
        slot: 5,
        share: None,
    };
    page.offer(run.slot, run.task);
    worker.send(&HostMessage::Run(run), &[]);
    let Some(WorkerMessage::Finished(finished)) = worker.receive() else { panic!("no result") };
    assert_eq!(finished.outcome, Outcome::Scalars(vec![Scalar::I32(42)]));
    assert_eq!(page.started(), Some(TaskId(9)));
    worker.send(&HostMessage::Close, &[]);
    assert_eq!(worker.receive(), Some(WorkerMessage::Closed));
    assert_eq!(worker.end(), Some(0));
}

#[test]
fn a_refused_module_is_an_answer() {
    let (reply, artefact) = compile("(module (memory i64 1))", 1 << 20);
    assert!(
        matches!(reply, CompileReply::Refused(refusal) if refusal.kind == RefusalKind::Feature)
    );
    assert_eq!(artefact.metadata().unwrap().len(), 0);
    let (reply, _) = compile(DOUBLE, 100);
    assert!(matches!(reply, CompileReply::Refused(refusal) if refusal.kind == RefusalKind::Limit));
}

#[test]
fn a_host_that_hangs_up_ends_a_worker_and_a_compiler() {
    let mut worker = Process::start(Role::Worker);
    setup(&mut worker);
    assert_eq!(worker.end(), Some(0));
    assert_eq!(Process::start(Role::Compiler).end(), Some(0));
}

#[test]
fn nonsense_from_the_host_ends_a_worker_with_an_error_code() {
    let mut worker = Process::start(Role::Worker);
    worker.send(&HostMessage::Close, &[]);
    assert_eq!(worker.receive(), None);
    assert_eq!(worker.end(), Some(1));
}
