//! Both roles as real processes, over their wire and under the limits that they set themselves.

use std::os::fd::AsFd;

use stockade_tests::{RoleProcess, compile_by_process, load};
use stockade_wire::{
    CompileLimits, CompileReply, HostMessage, Invocation, Limits, ModuleId, Outcome, RefusalKind,
    Role, Run, Scalar, TaskId, WorkerMessage,
};

const DOUBLE: &str = r#"(module (func (export "double") (param i32) (result i32)
    (i32.mul (local.get 0) (i32.const 2))))"#;

fn compile(source: &str, artefact_bytes: u64) -> (CompileReply, std::fs::File) {
    let limits = CompileLimits::default().artefact_bytes(artefact_bytes);
    compile_by_process(source, &Limits::default(), limits)
}

#[test]
fn what_a_compiler_process_makes_a_worker_process_runs() {
    let (reply, artefact) = compile(DOUBLE, 1 << 20);
    assert!(matches!(reply, CompileReply::Compiled(_)), "{reply:?}");
    let (mut worker, page) = RoleProcess::worker("stockade test worker");
    let comm = std::fs::read_to_string(format!("/proc/{}/comm", worker.id())).unwrap();
    assert_eq!(comm, "stockade test w\n");

    let module = ModuleId(3);
    worker.send(&load(module), &[artefact.as_fd()]);
    assert_eq!(worker.receive(), Some(WorkerMessage::Loaded(module)));
    let run = Run {
        task: TaskId(9),
        module,
        invocation: Invocation::Scalar { export: "double".into(), args: vec![Scalar::I32(21)] },
        limits: None,
        slot: 5,
        share: None,
        placement: None,
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
    let (reply, artefact) = compile("(module (memory 1 1 shared))", 1 << 20);
    assert!(
        matches!(reply, CompileReply::Refused(refusal) if refusal.kind == RefusalKind::Feature)
    );
    assert_eq!(artefact.metadata().unwrap().len(), 0);
    let (reply, _) = compile(DOUBLE, 100);
    assert!(matches!(reply, CompileReply::Refused(refusal) if refusal.kind == RefusalKind::Limit));
}

#[test]
fn a_host_that_hangs_up_ends_a_worker_and_a_compiler() {
    let (worker, _page) = RoleProcess::worker("hung up on");
    assert_eq!(worker.end(), Some(0));
    assert_eq!(RoleProcess::start(Role::Compiler).end(), Some(0));
}

#[test]
#[allow(clippy::print_stderr)] // Where it cannot be tried, it says so.
fn a_session_that_is_led_from_outside_of_the_pid_namespace_is_no_error() {
    let Some(worker) = RoleProcess::start_without_session(Role::Worker) else {
        return eprintln!("skipped: `unshare --user --map-root-user --pid --fork` does not work");
    };
    let (worker, _page) = worker.set_up("without a session");
    assert_eq!(worker.end(), Some(0));
}

#[test]
fn nonsense_from_the_host_ends_a_worker_with_an_error_code() {
    let mut worker = RoleProcess::start(Role::Worker);
    worker.send(&HostMessage::Close, &[]);
    assert_eq!(worker.receive(), None);
    assert_eq!(worker.end(), Some(1));
}
