//! Both roles as real processes, over their wire and under the limits that they set themselves.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use stockade_tests::{RoleProcess, bombs, compile_by_process, load};
use stockade_wire::{
    CompileLimits, CompileReply, Confinement, HostMessage, Invocation, Limits, ModuleId, Outcome,
    RefusalKind, Role, Run, Scalar, TaskId, WorkerMessage,
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
        tasks: TaskId(9).into(),
        lengths: Vec::new(),
        module,
        invocation: Invocation::Scalar { export: "double".into(), args: vec![Scalar::I32(21)] },
        limits: None,
        slot: 5,
        share: None,
        placement: None,
    };
    page.offer(run.slot, run.tasks);
    worker.send(&HostMessage::Run(run), &[]);
    let Some(WorkerMessage::Finished(finished)) = worker.receive() else { panic!("no result") };
    assert_eq!(finished.outcome, Outcome::Scalars(vec![Scalar::I32(42)]));
    assert_eq!(page.started(), Some(TaskId(9)));
    worker.send(&HostMessage::Close, &[]);
    assert_eq!(worker.receive(), Some(WorkerMessage::Closed));
    assert_eq!(worker.end(), Some(0));
}

/// What the system says of each thread of a process.
fn statuses(process: &RoleProcess) -> Vec<BTreeMap<String, String>> {
    let threads = std::fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
    let status = |thread: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
    };
    threads.map(status).collect()
}

#[test]
fn every_thread_of_a_compiler_is_as_locked_down_as_the_first() {
    for (asked, expected) in [(0, 1), (1, 1), (2, 3), (4, 5), (64, 65), (u32::MAX, 65)] {
        let compiler = RoleProcess::compiler_with(Confinement::default(), asked);
        let statuses = statuses(&compiler);
        assert_eq!(statuses.len(), expected, "{asked}");
        for status in &statuses {
            for (name, value) in [
                ("Seccomp", "2"),
                ("NoNewPrivs", "1"),
                ("CapInh", "0000000000000000"),
                ("CapPrm", "0000000000000000"),
                ("CapEff", "0000000000000000"),
                ("CapAmb", "0000000000000000"),
            ] {
                assert_eq!(status.get(name).map(String::as_str), Some(value), "{name}: {status:?}");
            }
            for name in ["Uid", "Gid", "Groups", "Seccomp_filters", "NStgid", "CapBnd"] {
                assert_eq!(status.get(name), statuses[0].get(name), "{name}");
            }
        }
        assert_eq!(compiler.end(), Some(0));
    }
}

#[test]
fn a_compiler_process_makes_the_same_in_any_number_of_threads() {
    let bytes = bombs::many_functions(5000);
    let artefact = |threads| {
        let compiler = RoleProcess::compiler_with(Confinement::default(), threads);
        let (reply, file) = compiler.compile(&bytes, &Limits::default(), CompileLimits::default());
        assert!(matches!(reply, CompileReply::Compiled(_)), "{reply:?}");
        let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    let alone = artefact(1);
    for threads in [2, 4, 64] {
        assert!(artefact(threads) == alone, "{threads}");
    }
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
