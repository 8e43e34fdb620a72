//! 73: what a worker is given to run. A real worker, driven over its wire by the test.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use rustix::fs::SealFlags;
use stockade_tests::{Folder, worker_program};
use stockade_wire::descriptor::{Receiver, Sender, memory_file, sealed_file};
use stockade_wire::frame::FRAME_BYTES_MAX;
use stockade_wire::{
    CompileLimits, CompileReply, CompileRequest, CompileStep, Confinement, Grants, HostMessage,
    Instances, Invocation, Limits, Load, ModuleId, Outcome, Role, Run, Scalar, Setup, StatusPage,
    TaskId, WorkerId, WorkerMessage,
};

use super::super::seen;

const DOUBLE: &str = r#"(module (func (export "double") (param i32) (result i32)
    (i32.mul (local.get 0) (i32.const 2))))"#;

/// The one module of a worker.
const MODULE: ModuleId = ModuleId(7);

/// A process in one of the two roles, and the host's end of its socket.
struct Process {
    child: Child,
    sender: Sender,
    receiver: Receiver,
}

impl Process {
    fn start(role: Role) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        // The shell puts the socket where a pool would.
        let child = Command::new("/bin/sh")
            .args(["-c", "exec \"$0\" \"$1\" 3<&0 0</dev/null"])
            .arg(worker_program())
            .arg(role.argument())
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let sender = Sender::new(ours.try_clone().unwrap());
        Self { child, sender, receiver: Receiver::new(ours, FRAME_BYTES_MAX) }
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

/// What a compiler makes of [`DOUBLE`] for such limits.
fn artefact(limits: &Limits) -> Vec<u8> {
    let mut compiler = Process::start(Role::Compiler);
    let request = CompileRequest {
        step: CompileStep::Compile,
        engine: limits.engine_settings(),
        text: true,
        limits: CompileLimits::default(),
    };
    let wasm = sealed_file("wasm", DOUBLE.as_bytes()).unwrap();
    let artefact = memory_file("artefact").unwrap();
    compiler.sender.try_send(&Confinement::default(), &[]).unwrap();
    let ready = compiler.receiver.receive().unwrap();
    assert!(matches!(ready, Some(CompileReply::Ready(_))), "{ready:?}");
    compiler.sender.try_send(&request, &[wasm.as_fd(), artefact.as_fd()]).unwrap();
    let reply = compiler.receiver.receive().unwrap().unwrap();
    assert!(matches!(reply, CompileReply::Compiled(_)), "{reply:?}");
    assert_eq!(compiler.end(), Some(0));
    let mut bytes = vec![0; artefact.metadata().unwrap().len() as usize];
    artefact.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// A worker that is ready to load a module, and its page.
fn worker() -> (Process, StatusPage) {
    let mut worker = Process::start(Role::Worker);
    let page = StatusPage::create().unwrap();
    let limits = Limits::default();
    let setup = Setup {
        worker: WorkerId(1),
        name: "a73".into(),
        engine: limits.engine_settings(),
        limits,
        grants: Grants::none(),
        instances: Instances::PerTask,
        confinement: Confinement::default(),
        modules: 1,
    };
    worker.send(&HostMessage::Setup(setup), &[page.descriptor()]);
    assert!(matches!(worker.receive(), Some(WorkerMessage::Ready(_))));
    (worker, page)
}

fn load() -> HostMessage {
    HostMessage::Load(Load {
        module: MODULE,
        name: "double".into(),
        initializer: None,
        finalizer: None,
        initialized: false,
    })
}

/// What a worker says of an artefact that it does not load.
#[track_caller]
fn refusal(artefact: &File) -> String {
    let (mut worker, _page) = worker();
    worker.send(&load(), &[artefact.as_fd()]);
    let answer = worker.receive();
    assert_eq!(worker.end(), Some(0), "{answer:?}");
    match answer {
        Some(WorkerMessage::LoadFailed(MODULE, why)) => why,
        other => panic!("{other:?}"),
    }
}

fn with_seals(bytes: &[u8], seals: SealFlags) -> File {
    let mut file = memory_file("artefact").unwrap();
    file.write_all(bytes).unwrap();
    rustix::fs::fcntl_add_seals(&file, seals).unwrap();
    file
}

#[test]
fn a73_an_artefact_that_could_change_or_is_not_whole_is_refused() {
    let good = artefact(&Limits::default());
    let folder = Folder::new();
    let on_disk = File::open(folder.file("artefact", &good)).unwrap();
    let unsealed = [
        with_seals(&good, SealFlags::empty()),
        with_seals(&good, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL),
        with_seals(&good, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK),
        on_disk,
        File::open("/dev/null").unwrap(),
        File::from(OwnedFd::from(UnixStream::pair().unwrap().0)),
    ];
    let lengths = [0, 1, 63, 64, 4096, good.len() / 2, good.len() - 1];
    let mut unfit: Vec<_> =
        lengths.map(|length| sealed_file("artefact", &good[..length]).unwrap()).into();
    let foreign = artefact(&Limits::default().interruptible(true));
    unfit.push(sealed_file("artefact", &foreign).unwrap());
    unfit.push(sealed_file("artefact", DOUBLE.as_bytes()).unwrap());
    unfit.push(sealed_file("artefact", &vec![0xff; good.len()]).unwrap());

    for file in &unsealed {
        let why = refusal(file);
        assert!(why.contains("sealed"), "{why}");
    }
    for file in &unfit {
        let why = refusal(file);
        assert!(why.contains("does not fit") || why.contains("malformed"), "{why}");
    }
    // What is whole and sealed is loaded and runs.
    let (mut worker, page) = worker();
    let whole = sealed_file("artefact", &good).unwrap();
    worker.send(&load(), &[whole.as_fd()]);
    assert_eq!(worker.receive(), Some(WorkerMessage::Loaded(MODULE)));
    page.offer(0, TaskId(9));
    let run = Run {
        task: TaskId(9),
        module: MODULE,
        invocation: Invocation::Scalar { export: "double".into(), args: vec![Scalar::I32(21)] },
        limits: Limits::default(),
        slot: 0,
        share: None,
    };
    worker.send(&HostMessage::Run(run), &[]);
    let Some(WorkerMessage::Finished(finished)) = worker.receive() else { panic!("no result") };
    assert_eq!(finished.outcome, Outcome::Scalars(vec![Scalar::I32(42)]));
    assert_eq!(worker.end(), Some(0));
    let (unsealed, truncated) = (unsealed.len(), lengths.len());
    let others = unfit.len() - truncated;
    seen(
        73,
        &format!(
            "{unsealed} that could change, {truncated} truncated and {others} others: refused as not sealed, malformed or not fitting; the whole one runs"
        ),
    );
}

#[test]
fn an_artefact_that_does_not_come_at_all_ends_the_session() {
    let (mut worker, _page) = worker();
    worker.send(&load(), &[]);
    assert_eq!(worker.receive(), None);
    assert_eq!(worker.end(), Some(1));
}
