//! Workers and compilers as a pool sees them: real processes, driven over their wire by a test.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};

use stockade_wire::descriptor::{Receiver, Sender, memory_file, seal, sealed_file};
use stockade_wire::frame::FRAME_BYTES_MAX;
use stockade_wire::{
    CompileLimits, CompileReply, CompileRequest, CompileStep, CompilerSetup, Confinement, Grants,
    HostMessage, Instances, Layer, Limits, Load, Lockdown, ModuleId, Role, Setup, StatusPage,
    WorkerId, WorkerMessage,
};

use crate::worker_program;

/// A process in one of the two roles, and the host's end of its socket.
///
/// Its methods panic where the process or its socket fails otherwise than the protocol has it.
#[derive(Debug)]
pub struct RoleProcess {
    child: Child,
    /// What is said to it.
    pub sender: Sender,
    /// What it says.
    pub receiver: Receiver,
}

impl RoleProcess {
    /// Starts one.
    pub fn start(role: Role) -> Self {
        Self::start_by(Command::new("/bin/sh"), role)
    }

    /// Starts one in a pid namespace in which its session has no leader; `None` where this system
    /// gives no such namespace to this user.
    pub fn start_without_session(role: Role) -> Option<Self> {
        let unshare = || {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "--pid", "--fork"]);
            command
        };
        let possible = unshare().arg("true").status().is_ok_and(|status| status.success());
        possible.then(|| {
            let mut command = unshare();
            command.arg("/bin/sh");
            Self::start_by(command, role)
        })
    }

    fn start_by(mut shell: Command, role: Role) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a socket");
        // The shell puts the socket where a pool would.
        let child = shell
            .args(["-c", "exec \"$0\" \"$1\" 3<&0 0</dev/null"])
            .arg(worker_program())
            .arg(role.argument())
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .spawn()
            .expect("the shell runs");
        let sender = Sender::new(ours.try_clone().expect("a descriptor"));
        Self { child, sender, receiver: Receiver::new(ours, FRAME_BYTES_MAX) }
    }

    /// A worker that is ready to load one module, and its page.
    pub fn worker(name: &str) -> (Self, StatusPage) {
        Self::start(Role::Worker).set_up(name)
    }

    /// Sets a worker up, to load one module.
    pub fn set_up(mut self, name: &str) -> (Self, StatusPage) {
        let page = StatusPage::create().expect("a page");
        let limits = Limits::default();
        let setup = Setup {
            worker: WorkerId(1),
            name: name.into(),
            engine: limits.engine_settings(),
            limits,
            grants: Grants::none(),
            instances: Instances::PerTask,
            confinement: confinement(),
            modules: 1,
            memories: 1,
            rings: false,
            coredumps: None,
        };
        self.send(&HostMessage::Setup(setup), &[page.descriptor()]);
        assert!(matches!(self.receive(), Some(WorkerMessage::Ready(_))));
        (self, page)
    }

    /// A compiler that is locked down and waits for a module. Its own user may trace it.
    pub fn compiler() -> Self {
        let lockdown = Lockdown::default().without(Layer::Undumpable);
        Self::compiler_with(Confinement { lockdown, ..Confinement::default() }, 1)
    }

    /// A compiler with so many threads that is locked down as `confinement` says and waits for a module.
    pub fn compiler_with(confinement: Confinement, threads: u32) -> Self {
        let mut compiler = Self::start(Role::Compiler);
        let setup = CompilerSetup { confinement, threads };
        compiler.sender.try_send(&setup, &[]).expect("a compiler reads");
        let ready = compiler.receiver.receive().expect("a message");
        assert!(matches!(ready, Some(CompileReply::Ready(_))), "{ready:?}");
        compiler
    }

    /// Has this compiler, which then ends, compile the module in `source`, binary or text; answers its
    /// reply and the artefact, sealed.
    pub fn compile(
        mut self,
        source: &[u8],
        limits: &Limits,
        compile_limits: CompileLimits,
    ) -> (CompileReply, File) {
        let request = CompileRequest {
            step: CompileStep::Compile,
            engine: limits.engine_settings(),
            text: true,
            limits: compile_limits,
            exposed: false,
        };
        let wasm = sealed_file("wasm", source).expect("a memory file");
        let artefact = memory_file("artefact").expect("a memory file");
        let descriptors = [wasm.as_fd(), artefact.as_fd()];
        self.sender.try_send(&request, &descriptors).expect("a compiler reads");
        let reply = self.receiver.receive().expect("a message").expect("a reply");
        assert_eq!(self.end(), Some(0));
        seal(&artefact).expect("a memory file");
        (reply, artefact)
    }

    /// Its process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a message to a worker.
    pub fn send(&mut self, message: &HostMessage, descriptors: &[BorrowedFd<'_>]) {
        self.sender.try_send(message, descriptors).expect("a worker reads");
    }

    /// What a worker says next, or the end.
    pub fn receive(&mut self) -> Option<WorkerMessage> {
        self.receiver.receive().expect("a message")
    }

    /// Hangs up and answers the exit code.
    pub fn end(mut self) -> Option<i32> {
        drop((self.sender, self.receiver));
        self.child.wait().expect("a child").code()
    }
}

/// As any, and a refused system call is named.
fn confinement() -> Confinement {
    let lockdown = Lockdown::default().explain_violations(true);
    Confinement { lockdown, ..Confinement::default() }
}

/// Has a compiler process compile the text `source`; answers its reply and the artefact, sealed.
///
/// # Panics
/// If it does not answer.
pub fn compile_by_process(
    source: &str,
    limits: &Limits,
    compile_limits: CompileLimits,
) -> (CompileReply, File) {
    compile_bytes(source.as_bytes(), limits, compile_limits)
}

/// As [`compile_by_process`], of the module in the file `path`.
///
/// # Panics
/// If it cannot be read, or the compiler does not answer.
pub fn compile_file_by_process(
    path: &Path,
    limits: &Limits,
    compile_limits: CompileLimits,
) -> (CompileReply, File) {
    let module = std::fs::read(path).expect("a module");
    compile_bytes(&module, limits, compile_limits)
}

fn compile_bytes(
    module: &[u8],
    limits: &Limits,
    compile_limits: CompileLimits,
) -> (CompileReply, File) {
    let compiler = RoleProcess::compiler_with(confinement(), compile_limits.threads.unwrap_or(1));
    compiler.compile(module, limits, compile_limits)
}

/// The message that loads `module`, which has no hooks.
pub fn load(module: ModuleId) -> HostMessage {
    let name = "module".into();
    HostMessage::Load(Load {
        module,
        name,
        functions: Vec::new(),
        initializer: None,
        finalizer: None,
        initialized: false,
    })
}
