//! 73: hostile artefacts for a worker. A real worker, driven over its wire by the test.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

use rustix::fs::SealFlags;
use stockade_tests::{Folder, RoleProcess, compile_by_process, load};
use stockade_wire::descriptor::{memory_file, sealed_file};
use stockade_wire::{
    CompileLimits, CompileReply, HostMessage, Invocation, Limits, ModuleId, Outcome, Run, Scalar,
    StatusPage, TaskId, WorkerMessage,
};

use super::super::seen;

const DOUBLE: &str = r#"(module (func (export "double") (param i32) (result i32)
    (i32.mul (local.get 0) (i32.const 2))))"#;

/// The one module of a worker.
const MODULE: ModuleId = ModuleId(7);

/// What a compiler makes of [`DOUBLE`] for such limits.
fn artefact(limits: &Limits) -> Vec<u8> {
    let (reply, artefact) = compile_by_process(DOUBLE, limits, CompileLimits::default());
    assert!(matches!(reply, CompileReply::Compiled(_)), "{reply:?}");
    let mut bytes = vec![0; artefact.metadata().unwrap().len() as usize];
    artefact.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// A worker that is ready to load a module, and its page.
fn worker() -> (RoleProcess, StatusPage) {
    RoleProcess::worker("a73")
}

/// What a worker says of an artefact that it does not load.
#[track_caller]
fn refusal(artefact: &File) -> String {
    let (mut worker, _page) = worker();
    worker.send(&load(MODULE), &[artefact.as_fd()]);
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
    worker.send(&load(MODULE), &[whole.as_fd()]);
    assert_eq!(worker.receive(), Some(WorkerMessage::Loaded(MODULE)));
    page.offer(0, TaskId(9).into());
    let run = Run {
        tasks: TaskId(9).into(),
        lengths: Vec::new(),
        module: MODULE,
        invocation: Invocation::Scalar { export: "double".into(), args: vec![Scalar::I32(21)] },
        limits: None,
        slot: 0,
        share: None,
        placement: None,
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
    worker.send(&load(MODULE), &[]);
    assert_eq!(worker.receive(), None);
    assert_eq!(worker.end(), Some(1));
}
