//! The message loop: order, tasks taken back, closing, and what has no place in it.

use std::os::fd::AsFd;

use stockade_wire::descriptor::{memory_file, sealed_file};
use stockade_wire::{
    Call, Callee, Failure, Grants, HostMessage, Invocation, Limits, Load, ModuleId, Outcome,
    PageSlot, Run, SLOTS_MAX, TaskId, TaskRange, WorkerMessage,
};

use super::support::{MODULE, Worker, call, command, from_start, guest, place_of, task, worker};
use crate::session::SessionError;

/// Echoes its input; tells the host that it has begun.
fn echo() -> String {
    guest(
        r#"(func (export "echo") (result i32)
            (call $input_read (i32.const 0) (i32.const 0) (call $input_len))
            (call $emit (i32.const 0) (i32.const 0))
            (call $output_write (i32.const 0) (call $input_len))
            (i32.const 0))"#,
    )
}

#[test]
fn tasks_finish_in_the_order_they_were_sent() {
    let mut worker = worker().start_with(&echo());
    let sent: Vec<_> = (0..20u8).map(|n| worker.submit(task("echo", &[n]), &[])).collect();
    for (number, task) in sent.into_iter().enumerate() {
        assert_eq!(worker.receive(), Some(WorkerMessage::Emitted(task, Vec::new())));
        let finished = worker.finished();
        assert_eq!(finished.task, task);
        assert_eq!(finished.outcome, Outcome::Returned(vec![number as u8]));
    }
    assert_eq!(worker.page.started(), Some(TaskId(20)));
    assert!(matches!(worker.close(), (Some(WorkerMessage::Closed), Ok(()))));
}

#[test]
fn a_task_that_was_taken_back_does_not_start_and_is_answered_in_its_turn() {
    // The first task reads a pipe, so that what follows is sent before it ends.
    let source = guest(
        r#"(func (export "_start")
            (i32.store (i32.const 0) (i32.const 16))
            (i32.store (i32.const 4) (i32.const 1))
            (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))))
           (func (export "answer") (result i32)
            (call $output_write (i32.const 0) (i32.const 3))
            (i32.const 0))"#,
    );
    let mut worker = worker().start_with(&source);
    let (held, release) = std::io::pipe().unwrap();
    let mut first = command(&[], b"");
    first.stdin = stockade_wire::Stdin::Descriptor;
    let limits = worker.limits.clone();
    let first = worker.next_run(limits.clone(), from_start(first));
    let second = worker.next_run(limits.clone(), task("answer", b""));
    let third = worker.next_run(limits, task("answer", b""));
    worker.offer(first.clone(), &[held.as_fd()]);
    worker.offer(second.clone(), &[]);
    worker.offer(third.clone(), &[]);
    assert!(worker.page.revoke(place_of(&second)));
    drop(release);

    assert_eq!(worker.finished().task, first.tasks.first());
    let recalled = worker.finished();
    assert_eq!((recalled.task, recalled.outcome), (second.tasks.first(), Outcome::Recalled));
    let answered = worker.finished();
    assert_eq!(
        (answered.task, answered.outcome),
        (third.tasks.first(), Outcome::Returned(vec![0; 3]))
    );
    assert_eq!(worker.page.started(), Some(third.tasks.first()));
}

#[test]
fn a_task_that_has_started_cannot_be_taken_back_and_its_slot_serves_the_next() {
    let mut worker = worker().start_with(&echo());
    let limits = worker.limits.clone();
    let first = worker.next_run(limits.clone(), task("echo", b"a"));
    let mut second = worker.next_run(limits, task("echo", b"b"));
    second.slot = first.slot;
    worker.offer(first.clone(), &[]);
    // Its item says that it runs.
    assert_eq!(worker.receive(), Some(WorkerMessage::Emitted(first.tasks.first(), Vec::new())));
    assert!(!worker.page.revoke(place_of(&first)));
    assert_eq!(worker.finished().outcome, Outcome::Returned(b"a".to_vec()));
    worker.page.offer(second.slot, second.tasks);
    assert!(!worker.page.revoke(place_of(&first)));
    worker.send(&HostMessage::Run(second.clone()), &[]);
    worker.receive();
    assert_eq!(worker.finished().outcome, Outcome::Returned(b"b".to_vec()));
}

/// A batch of calls of `echo`, each with one of these inputs.
fn echoes(worker: &mut Worker, inputs: &[&[u8]]) -> Run {
    let run = worker.next_run(worker.limits.clone(), task("echo", &inputs.concat()));
    let tasks = TaskRange::new(run.tasks.first(), inputs.len() as u32).unwrap();
    Run { tasks, lengths: inputs.iter().map(|input| input.len() as u32).collect(), ..run }
}

#[test]
fn a_batchs_tasks_are_answered_one_by_one_each_with_its_own_input() {
    let mut worker = worker().start_with(&echo());
    let run = echoes(&mut worker, &[b"to", b"", b"be!"]);
    worker.offer(run.clone(), &[]);
    for (task, expected) in run.tasks.iter().zip([&b"to"[..], b"", b"be!"]) {
        assert_eq!(worker.receive(), Some(WorkerMessage::Emitted(task, Vec::new())));
        let finished = worker.finished();
        assert_eq!((finished.task, finished.outcome), (task, Outcome::Returned(expected.into())));
    }
    assert_eq!(worker.page.started(), Some(run.tasks.last()));
    assert!(matches!(worker.close(), (Some(WorkerMessage::Closed), Ok(()))));
}

#[test]
fn the_revoked_rest_of_a_batch_is_answered_once() {
    let mut worker = worker().start_with(&echo());
    let run = echoes(&mut worker, &[b"a", b"b", b"c", b"d"]);
    worker.page.offer(run.slot, run.tasks);
    let third = PageSlot { index: 2, ..place_of(&run) };
    assert!(worker.page.revoke(third));
    worker.send(&HostMessage::Run(run.clone()), &[]);
    let next = echoes(&mut worker, &[b"e", b"f"]);
    let next = Run { tasks: TaskRange::new(TaskId(100), 2).unwrap(), ..next };
    worker.offer(next, &[]);
    let mut answers = Vec::new();
    while answers.len() < 5 {
        if let Some(WorkerMessage::Finished(finished)) = worker.receive() {
            answers.push((finished.task.0, finished.outcome));
        }
    }
    let returned = |byte: &[u8]| Outcome::Returned(byte.to_vec());
    assert_eq!(
        answers,
        [
            (run.tasks.first().0, returned(b"a")),
            (run.tasks.first().0 + 1, returned(b"b")),
            (third.task().0, Outcome::Recalled),
            (100, returned(b"e")),
            (101, returned(b"f")),
        ]
    );
}

#[test]
fn a_trap_in_a_batch_ends_its_task_alone() {
    let source = guest(
        r#"(func (export "divide") (param i32) (result i32)
            (i32.div_s (i32.const 12) (local.get 0)))"#,
    );
    let mut worker = worker().start_with(&source);
    let args = [1, 0, 3].map(stockade_wire::Scalar::I32).to_vec();
    let run = worker
        .next_run(worker.limits.clone(), Invocation::Scalar { export: "divide".into(), args });
    let tasks = TaskRange::new(run.tasks.first(), 3).unwrap();
    worker.offer(Run { tasks, ..run }, &[]);
    let outcomes: Vec<_> = tasks.iter().map(|_| worker.finished().outcome).collect();
    let twelfth = |number| Outcome::Scalars(vec![stockade_wire::Scalar::I32(number)]);
    assert_eq!((&outcomes[0], &outcomes[2]), (&twelfth(12), &twelfth(4)));
    assert!(matches!(outcomes[1], Outcome::Failed(Failure::Trap { .. })), "{:?}", outcomes[1]);
}

#[test]
fn a_batch_that_contradicts_itself_ends_the_session() {
    let mut worker = worker().start_with(&echo());
    let mut run = echoes(&mut worker, &[b"a", b"b"]);
    run.lengths[1] = 2;
    worker.send(&HostMessage::Run(run), &[]);
    assert_eq!(worker.receive(), None);
    assert!(matches!(worker.end(), Err(SessionError::Protocol(_))));
}

#[test]
fn a_task_that_was_not_offered_does_not_start() {
    let mut worker = worker().start_with(&echo());
    let run = worker.next_run(Limits::default(), task("echo", b"a"));
    worker.send(&HostMessage::Run(run), &[]);
    assert_eq!(worker.finished().outcome, Outcome::Recalled);
    assert_eq!(worker.page.started(), None);
}

#[test]
fn a_task_in_a_slot_that_does_not_exist_ends_the_session() {
    let mut worker = worker().start_with(&echo());
    let mut run = worker.next_run(Limits::default(), task("echo", b"a"));
    run.slot = SLOTS_MAX as u8;
    worker.send(&HostMessage::Run(run), &[]);
    assert_eq!(worker.receive(), None);
    assert!(matches!(worker.end(), Err(SessionError::Protocol(_))));
}

#[test]
fn close_lets_what_was_sent_finish() {
    let mut worker = worker().start_with(&echo());
    worker.submit(task("echo", b"a"), &[]);
    worker.submit(task("echo", b"b"), &[]);
    worker.send(&HostMessage::Close, &[]);
    for _ in 0..2 {
        assert!(matches!(worker.receive(), Some(WorkerMessage::Emitted(..))));
        assert!(matches!(worker.finished().outcome, Outcome::Returned(_)));
    }
    assert_eq!(worker.receive(), Some(WorkerMessage::Closed));
    assert_eq!(worker.receive(), None);
    worker.end().unwrap();
}

#[test]
fn hanging_up_ends_the_session() {
    worker().start().end().unwrap();
    Worker::unset(Limits::default()).end().unwrap();
}

#[test]
fn an_unsealed_artefact_is_refused_and_the_session_goes_on() {
    let mut worker = worker().modules(2).start();
    let open = memory_file("open").unwrap();
    worker.load_artefact(&open, None, None, false);
    worker.load_with(&echo(), None, None);
    let answer = worker.receive();
    assert!(
        matches!(answer, Some(WorkerMessage::LoadFailed(MODULE, why)) if why.contains("sealed"))
    );
    assert_eq!(worker.receive(), Some(WorkerMessage::Loaded(MODULE)));
}

#[test]
fn an_artefact_that_is_none_or_for_other_settings_is_refused() {
    let mut worker = worker().modules(2).start();
    worker.load_artefact(&sealed_file("junk", b"junk").unwrap(), None, None, false);
    let metered = Limits::default().fuel(10);
    let step = stockade_wire::CompileStep::Compile;
    let (_, artefact) = super::support::compile(step, &metered, "(module)", None).unwrap();
    worker.load_artefact(&artefact, None, None, false);
    assert!(matches!(worker.receive(), Some(WorkerMessage::LoadFailed(MODULE, _))));
    assert!(matches!(worker.receive(), Some(WorkerMessage::LoadFailed(MODULE, _))));
}

#[test]
fn no_module_is_answered_or_run_before_all_that_were_announced_are_there() {
    let mut worker = worker().modules(2).start();
    worker.load_with(&echo(), None, None);
    worker.submit(task("echo", b""), &[]);
    assert_eq!(worker.receive(), None);
    assert!(matches!(worker.end(), Err(SessionError::Protocol(_))));
}

#[test]
fn one_module_more_than_was_announced_ends_the_session() {
    let mut worker = worker().start_with(&echo());
    worker.load_with(&echo(), None, None);
    assert_eq!(worker.receive(), None);
    assert!(matches!(worker.end(), Err(SessionError::Protocol(_))));
}

#[test]
fn a_task_of_a_module_never_loaded_ends_the_session() {
    let mut worker = worker().modules(0).start();
    worker.submit(task("echo", b""), &[]);
    assert_eq!(worker.receive(), None);
    assert!(matches!(worker.end(), Err(SessionError::UnknownModule(MODULE))));
}

fn numbered(number: u32, input: &[u8]) -> Invocation {
    Invocation::Task(Call { export: Callee::Number(number), ..call("", input) })
}

#[test]
fn a_function_is_called_by_the_number_it_was_announced_with() {
    let mut worker = worker().start_with(&echo());
    worker.submit(numbered(0, b"hi"), &[]);
    assert!(matches!(worker.receive(), Some(WorkerMessage::Emitted(..))));
    assert_eq!(worker.finished().outcome, Outcome::Returned(b"hi".to_vec()));
    // Announced, and no export of this module.
    let missing = worker.run(numbered(1, b"")).outcome;
    let named = |why: &str| why.contains("`nothing`");
    assert!(matches!(missing, Outcome::Failed(Failure::Guest(why)) if named(&why)));
}

#[test]
fn a_number_that_was_not_announced_ends_the_session() {
    for number in [2, u32::MAX] {
        let scalar = Invocation::Scalar { export: Callee::Number(number), args: Vec::new() };
        for invocation in [numbered(number, b""), scalar] {
            let mut worker = worker().start_with(&echo());
            worker.submit(invocation, &[]);
            assert_eq!(worker.receive(), None);
            assert!(matches!(worker.end(), Err(SessionError::Protocol(_))));
        }
    }
}

#[test]
fn a_task_without_limits_of_its_own_has_those_of_the_setup() {
    let limits = Limits::default().output_bytes(40);
    let mut worker = worker().limits(limits).start_with(&echo());
    for (bytes, is_within) in [(8, true), (9, false)] {
        let mut run = worker.next_run(Limits::default(), numbered(0, &vec![7; bytes]));
        run.limits = None;
        worker.offer(run, &[]);
        assert!(matches!(worker.receive(), Some(WorkerMessage::Emitted(..))));
        let outcome = worker.finished().outcome;
        assert_eq!(matches!(outcome, Outcome::Returned(_)), is_within, "{outcome:?}");
    }
}

#[test]
fn messages_out_of_place_end_the_session() {
    let run = Run {
        tasks: TaskId(1).into(),
        lengths: Vec::new(),
        module: MODULE,
        invocation: task("echo", b""),
        limits: None,
        slot: 0,
        share: None,
        placement: None,
    };
    let mut early = Worker::unset(Limits::default());
    early.send(&HostMessage::Run(run), &[]);
    assert_eq!(early.receive(), None);
    assert!(matches!(early.end(), Err(SessionError::Protocol(_))));

    let mut bare = worker().start();
    let load = Load {
        module: ModuleId(0),
        name: "guest".into(),
        functions: Vec::new(),
        initializer: None,
        finalizer: None,
        initialized: false,
    };
    bare.send(&HostMessage::Load(load), &[]);
    assert_eq!(bare.receive(), None);
    assert!(matches!(bare.end(), Err(SessionError::Protocol(_))));

    let mut twice = worker().start_with(&echo());
    let (_, artefact) = super::support::compile(
        stockade_wire::CompileStep::Compile,
        &Limits::default(),
        "(module)",
        None,
    )
    .unwrap();
    twice.load_artefact(&artefact, None, None, false);
    assert_eq!(twice.receive(), None);
    assert!(matches!(twice.end(), Err(SessionError::Protocol(_))));
}

#[test]
fn a_granted_directory_that_is_not_there_fails_the_setup() {
    let grants = Grants::none().read_dir("/nonexistent/stockade", "/data");
    let mut worker = worker().grants(grants).launch();
    let answer = worker.receive();
    assert!(
        matches!(answer, Some(WorkerMessage::SetupFailed(why)) if why.contains("/nonexistent"))
    );
    assert!(matches!(worker.end(), Err(SessionError::Setup(_))));
}
