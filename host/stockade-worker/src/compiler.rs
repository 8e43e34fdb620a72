//! The compiler role: turns one module into an artefact, or a refusal.
//!
//! ```text
//! wasm ─ stockade_module::binary ─► binary ─ stockade_module::admit ─► ModuleDescription
//!                                     ├─ snapshot, expose ─► image ─► engine ─► artefact, images
//!                                     └─ stockade_module::locate ─► lines of source, from its DWARF
//! ```
//!
//! A hostile module may cost this process any amount of time and memory. So the process is locked
//! down, under limits of the kernel, before it reads one request; then it writes one reply and
//! exits. If its host wants several threads, they start before and are locked down like the first:
//! see [`threads`].
//!
//! Invariant: nothing of the module is ever run here, and no file is opened.

mod expose;
mod image;
mod snapshot;
mod threads;

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::process::Resource;
use stockade_module::{admit, binary, bounded, locate, refusal};
use stockade_wire::descriptor::{self, Receiver, SendError, Sender};
use stockade_wire::frame::FrameError;
use stockade_wire::{
    COMPILE_BYTES_MAX, CodePlace, CompileLimits, CompileReply, CompileRequest, CompileStep,
    CompilerSetup, Limits, LockdownReport, ModuleDescription, Refusal, RefusalKind, SourcePlace,
};
use wasmtime::Engine;

use crate::engine::{self, Compiling};
use crate::lockdown::{
    self, Ceilings, Inherited, Last, Lock, LockdownError, Mapped, Paths, Profile,
};
use crate::{failure, memory, socket};
pub(crate) use threads::Threads;

/// The most bytes of the state next to it: the memory that a snapshot may hold, and what surrounds it.
const STATE_BYTES_MAX: u64 = crate::state::SNAPSHOT_MEMORY_BYTES_MAX + (1 << 20);

/// The most bytes of a request.
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// Descriptors it may have open: a handful.
const DESCRIPTORS_MAX: u64 = 64;

/// Why there was no reply.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompilerError {
    /// No pool started this process.
    #[error("no socket from a pool: {0}")]
    Socket(#[source] io::Error),
    /// It is not locked down as it must be.
    #[error(transparent)]
    Lockdown(#[from] LockdownError),
    /// A limit could not be set.
    #[error("cannot set a limit: {0}")]
    Limit(String),
    /// No request could be read.
    #[error(transparent)]
    Receive(#[from] FrameError),
    /// The reply could not be sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// A request without its descriptors.
    #[error("protocol error: a request without its descriptors")]
    Descriptors,
    /// The module's file has no length.
    #[error("cannot read the module: {0}")]
    Module(#[source] io::Error),
    /// The artefact's file took no bytes.
    #[error("cannot write the artefact: {0}")]
    Write(#[source] io::Error),
}

/// Answers one request.
///
/// # Errors
/// [`CompilerError`]; a refused module is an answer, not an error.
pub(crate) fn run() -> Result<(), CompilerError> {
    let inherited = Inherited::look();
    let socket = socket::take_inherited().map_err(CompilerError::Socket)?;
    let mut receiver =
        Receiver::new(socket.try_clone().map_err(CompilerError::Socket)?, REQUEST_BYTES_MAX);
    let mut sender = Sender::new(socket);
    let Some(setup) = receiver.receive()? else { return Ok(()) };
    // While files can be opened.
    let opened = Mapped::open().map_err(CompilerError::Limit);
    let confined = opened.and_then(|mapped| Ok((mapped, confine(setup, inherited)?)));
    let (mapped, threads) = match confined {
        Ok((mapped, (report, threads))) => {
            sender.send(&CompileReply::Ready(report))?;
            (mapped, threads)
        }
        Err(error) => return fail(&mut sender, error),
    };
    let Some(request) = receiver.receive::<CompileRequest>()? else { return Ok(()) };
    let mut next = || receiver.take_descriptor().ok_or(CompilerError::Descriptors);
    let (wasm, artefact) = (next()?, File::from(next()?));
    let state = if request.step == CompileStep::Snapshot { Some(next()?) } else { None };
    let wasm_bytes = descriptor::file_bytes(&wasm).map_err(CompilerError::Module)?;
    if let Err(why) = limit(&request.limits, wasm_bytes, &mapped, threads.stack_bytes()) {
        return fail(&mut sender, CompilerError::Limit(why));
    }
    let reply = match &request.step {
        CompileStep::Locate(places) => {
            read_and_locate(&request, wasm, places).map(CompileReply::Located)
        }
        _ => match read_and_compile(&request, wasm, state, &threads) {
            Ok(Compiled { description, artefact: bytes }) => {
                if let Err(error) = artefact.write_all_at(&bytes, 0) {
                    return fail(&mut sender, CompilerError::Write(error));
                }
                Ok(CompileReply::Compiled(description))
            }
            Err(refusal) => Err(refusal),
        },
    };
    Ok(sender.send(&reply.unwrap_or_else(CompileReply::Refused))?)
}

/// Reports an error that is not the module's fault to the host, since this process's standard error
/// is not read.
fn fail(sender: &mut Sender, error: CompilerError) -> Result<(), CompilerError> {
    sender.send(&CompileReply::Failed(bounded(&error.to_string())))?;
    Err(error)
}

/// Locks this process down, after its threads have started and all needed files are open.
fn confine(
    setup: CompilerSetup,
    inherited: Inherited,
) -> Result<(LockdownReport, Threads), LockdownError> {
    let CompilerSetup { confinement, threads } = setup;
    let ceilings = Ceilings {
        data_bytes: COMPILE_BYTES_MAX,
        descriptors: DESCRIPTORS_MAX,
        file_bytes: Some(COMPILE_BYTES_MAX),
    };
    // The first engine of a process installs handlers of signals, which no filter lets it do later.
    drop(engine::for_compiler(&Limits::default().engine_settings(), Compiling::default()));
    let mut lock = Lock::begin(confinement, inherited);
    lock.enter(&ceilings, &Paths::default());
    let threads = Threads::start(threads);
    let report = lock.close(&ceilings, Last::Of(Profile::Compiler))?;
    Ok((report, threads))
}

/// Sets the kernel's `limits` for this process with all of its threads, before the module is read.
/// The `stack_bytes` of its threads are mapped already, and come on top of its memory.
fn limit(
    limits: &CompileLimits,
    wasm_bytes: u64,
    mapped: &Mapped,
    stack_bytes: u64,
) -> Result<(), String> {
    // The signal at the soft limit tells the host the reason; a second later the process is killed
    // in any case.
    let soft = limits.cpu_seconds(wasm_bytes);
    let hard = soft.saturating_add(1);
    lockdown::lower(Resource::Cpu, soft, hard)?;
    let data_bytes = limits.memory_bytes.saturating_add(stack_bytes);
    lockdown::lower(Resource::Data, data_bytes, data_bytes)?;
    mapped.limit(limits.memory_bytes)?;
    lockdown::lower(Resource::Fsize, limits.artefact_bytes, limits.artefact_bytes)
}

fn read_and_compile(
    request: &CompileRequest,
    wasm: OwnedFd,
    state: Option<OwnedFd>,
    threads: &Threads,
) -> Result<Compiled, Refusal> {
    let wasm = read_module(request, wasm)?;
    let state = match state {
        None => None,
        Some(state) => Some(read(&File::from(state), STATE_BYTES_MAX, "the initialised state")?),
    };
    compile(request, &wasm, state.as_deref(), threads)
}

fn read_and_locate(
    request: &CompileRequest,
    wasm: OwnedFd,
    places: &[CodePlace],
) -> Result<Vec<Vec<SourcePlace>>, Refusal> {
    let wasm = read_module(request, wasm)?;
    locate(&binary(&wasm, request.text)?, places, failure::readable)
}

fn read_module(request: &CompileRequest, wasm: OwnedFd) -> Result<Vec<u8>, Refusal> {
    let wasm = File::from(wasm);
    if !descriptor::is_sealed(&wasm) {
        return Err(internal("the module is not in a sealed memory file"));
    }
    read(&wasm, request.limits.module_bytes, "the module")
}

/// Reads a file whose descriptor, and so its offset, is shared with others.
fn read(file: &File, bytes_max: u64, what: &str) -> Result<Vec<u8>, Refusal> {
    let length = descriptor::file_bytes(file)
        .map_err(|error| internal(&format!("cannot read {what}: {error}")))?;
    if length > bytes_max {
        let message = format!("{what} has {length} bytes, but only {bytes_max} are allowed");
        return Err(Refusal { kind: RefusalKind::Limit, message });
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0)
        .map_err(|error| internal(&format!("cannot read {what}: {error}")))?;
    Ok(bytes)
}

/// The outcome for a module.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) description: ModuleDescription,
    /// Empty if only a description was requested.
    pub(crate) artefact: Vec<u8>,
}

/// Handles `request` for the module `wasm`, with the initialised state if there is one. Code is
/// generated in `threads`; the result does not depend on their number.
///
/// # Errors
/// The reason why the module is refused.
pub(crate) fn compile(
    request: &CompileRequest,
    wasm: &[u8],
    state: Option<&[u8]>,
    threads: &Threads,
) -> Result<Compiled, Refusal> {
    let binary = binary(wasm, request.text)?;
    let description = admit(&binary, &request.engine)?;
    // Places are asked of a compiler and not made by one.
    if !request.step.generates_code() {
        return Ok(Compiled { description, artefact: Vec::new() });
    }
    let compiling = Compiling {
        places: description.has_debug_info || request.exposed,
        in_threads: threads.are_several(),
    };
    let engine = engine::for_compiler(&request.engine, compiling);
    let engine = engine.map_err(|error| engine_failed(&error))?;
    let precompile = |binary: &[u8]| precompile(&engine, &finished(request, binary)?, threads);
    let (description, artefact) = match request.step {
        CompileStep::Describe | CompileStep::Locate(_) => (description, Vec::new()),
        CompileStep::Compile => (description, precompile(&binary)?),
        CompileStep::Instrument => (description, precompile(&snapshot::instrument(&binary)?)?),
        CompileStep::Snapshot => {
            let state = state.ok_or_else(|| internal("a snapshot without its state"))?;
            let binary = snapshot::apply(&binary, state)?;
            // Its memory begins larger now, and its data came out of a guest.
            let description = admit(&binary, &request.engine)?;
            (description, precompile(&binary)?)
        }
    };
    let (bytes, bytes_max) = (artefact.len() as u64, request.limits.artefact_bytes);
    if bytes > bytes_max {
        let message = format!(
            "its compiled form has {bytes} bytes, but only {bytes_max} are allowed (the limit \
             `CompileLimits::artefact_bytes`)"
        );
        return Err(Refusal { kind: RefusalKind::Limit, message });
    }
    Ok(Compiled { description, artefact })
}

/// The module that is compiled in the end.
fn finished<'a>(request: &CompileRequest, binary: &'a [u8]) -> Result<Cow<'a, [u8]>, Refusal> {
    if !request.exposed {
        return Ok(binary.into());
    }
    let exposed = expose::expose(binary);
    exposed.map(Cow::Owned).map_err(|error| internal(&format!("it cannot be exposed: {error}")))
}

/// The artefact of `binary`, with the images of its memories behind it.
///
/// # Errors
/// If the engine fails.
fn precompile(engine: &Engine, binary: &[u8], threads: &Threads) -> Result<Vec<u8>, Refusal> {
    let separated = image::separate(binary);
    let (binary, images) =
        separated.map_err(|error| internal(&format!("it has no image: {error}")))?;
    let artefact = threads.run(|| engine.precompile_module(&binary));
    let mut artefact = artefact.map_err(|error| engine_failed(&error))?;
    memory::append(&mut artefact, &images);
    Ok(artefact)
}

/// The engine's error for a valid module: it exceeds the engine's limits, or there is a bug.
fn engine_failed(error: &wasmtime::Error) -> Refusal {
    // The engine has only texts for these: Cranelift's `CodegenError`.
    const LIMITS: [&str; 2] = ["Code for function is too large", "Implementation limit exceeded"];
    let words = format!("{error:#}");
    match LIMITS.iter().any(|limit| words.contains(limit)) {
        true => refusal(RefusalKind::Limit, &format!("it cannot be compiled: {words}")),
        false => internal(&format!("the compiler failed: {words}")),
    }
}

fn internal(message: &str) -> Refusal {
    refusal(RefusalKind::Internal, message)
}
