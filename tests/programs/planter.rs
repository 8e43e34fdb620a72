//! A compiler that plants native code: what a compile bomb could do that took its compiler over.
//!
//! ```text
//! host ◄──► planter ◄──► the real compiler        as a compiler: everything is passed on, and at
//!              └─ plants machine code in the       the end the functions of the artefact replaced
//!                 artefact's functions
//! host ◄──► the real worker                        as a worker or a template: nothing but the real one
//! ```
//!
//! Functions are replaced in order, see [`stockade_tests::escape`]. So whatever a test calls is native
//! code in a worker that is locked down as any other.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use stockade_tests::RoleProcess;
use stockade_tests::escape::planted;
use stockade_wire::descriptor::{Receiver, Sender};
use stockade_wire::frame::FRAME_BYTES_MAX;
use stockade_wire::{
    CompileReply, CompileRequest, CompileStep, CompilerSetup, Role, SOCKET_DESCRIPTOR,
};

fn main() -> Result<()> {
    let argument = std::env::args().nth(1).context("started by hand")?;
    let name = std::env::args().next().unwrap_or_default();
    match Role::from_argument(&argument) {
        Some(Role::Worker | Role::Template) => Err(Command::new(stockade_tests::worker_program())
            .arg0(name)
            .arg(argument)
            .exec()
            .into()),
        Some(Role::Compiler) => compile(),
        None => bail!("{argument} is no role"),
    }
}

fn compile() -> Result<()> {
    // SAFETY: whoever starts a compiler leaves its socket there; nothing else here uses the number.
    let host = unsafe { UnixStream::from_raw_fd(SOCKET_DESCRIPTOR) };
    let mut from_host = Receiver::new(host.try_clone()?, FRAME_BYTES_MAX);
    let mut to_host = Sender::new(host);
    let mut compiler = RoleProcess::start(Role::Compiler);

    let Some(setup) = from_host.receive::<CompilerSetup>()? else { return Ok(()) };
    compiler.sender.try_send(&setup, &[])?;
    let ready: CompileReply = compiler.receiver.receive()?.context("no report")?;
    to_host.send(&ready)?;

    let Some(request) = from_host.receive::<CompileRequest>()? else { return Ok(()) };
    let mut next = || from_host.take_descriptor().context("no descriptor");
    let (wasm, artefact) = (next()?, File::from(next()?));
    compiler.sender.try_send(&request, &[wasm.as_fd(), artefact.as_fd()])?;
    let reply: CompileReply = compiler.receiver.receive()?.context("no reply")?;
    ensure!(compiler.end() == Some(0), "the compiler failed");
    if request.step == CompileStep::Compile && matches!(reply, CompileReply::Compiled(_)) {
        let mut bytes = vec![0; usize::try_from(artefact.metadata()?.len())?];
        artefact.read_exact_at(&mut bytes, 0)?;
        for (offset, code) in planted(&bytes).context("no functions to replace")? {
            artefact.write_all_at(code, offset)?;
        }
    }
    to_host.send(&reply)?;
    Ok(())
}
