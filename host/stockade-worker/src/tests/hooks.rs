//! Instances that live as long as their worker, initializers and finalizers.

use stockade_wire::{Failure, HookCall, Outcome, Scalar, WorkerMessage};

use super::support::{MODULE, command, from_start, guest, hook, worker};

/// Counts in a global; its initializer sets the count to its input, its finalizer emits it.
fn counter() -> String {
    guest(
        r#"(global $n (mut i32) (i32.const 0))
           (func (export "_initialize") (global.set $n (i32.add (global.get $n) (i32.const 100))))
           (func (export "load") (result i32)
            (call $input_read (i32.const 0) (i32.const 0) (i32.const 1))
            (global.set $n (i32.add (global.get $n) (i32.load8_u (i32.const 0))))
            (i32.const 0))
           (func (export "next") (result i32)
            (global.set $n (i32.add (global.get $n) (i32.const 1)))
            (global.get $n))
           (func (export "fail") (result i32) (i32.const 1))
           (func (export "trap") (result i32) unreachable)
           (func (export "_start") (global.set $n (i32.const 0)))
           (func (export "reset") (global.set $n (i32.const 0)))
           (func (export "unload") (result i32)
            (i32.store (i32.const 0) (global.get $n))
            (call $emit (i32.const 0) (i32.const 4))
            (i32.const 0))"#,
    )
}

fn number(worker: &mut super::support::Worker) -> i32 {
    match worker.scalar("next", &[]) {
        Outcome::Scalars(scalars) => match scalars[..] {
            [Scalar::I32(number)] => number,
            _ => panic!("expected one number, got {scalars:?}"),
        },
        other => panic!("expected a number, got {other:?}"),
    }
}

#[test]
fn a_living_instance_keeps_its_state_from_task_to_task() {
    let mut worker = worker().per_worker().start_with(&counter());
    assert_eq!([number(&mut worker), number(&mut worker), number(&mut worker)], [101, 102, 103]);
    assert!(matches!(worker.failure("fail"), Failure::Error(_)));
    assert_eq!(number(&mut worker), 104);
}

#[test]
fn after_a_trap_the_living_instance_is_replaced_and_initialised_again() {
    let mut worker = worker().per_worker().start();
    worker.load_with(&counter(), hook("load", &[10]), None);
    assert_eq!(worker.receive(), Some(WorkerMessage::Loaded(MODULE)));
    assert_eq!([number(&mut worker), number(&mut worker)], [111, 112]);
    assert!(matches!(worker.failure("trap"), Failure::Trap { .. }));
    assert_eq!([number(&mut worker), number(&mut worker)], [111, 112]);
}

#[test]
fn a_command_never_runs_in_the_living_instance() {
    let mut worker = worker().per_worker().start_with(&counter());
    assert_eq!(number(&mut worker), 101);
    let ended = worker.run(from_start(command(&[], b"")));
    assert_eq!(ended.outcome, Outcome::Exited(0));
    assert_eq!(number(&mut worker), 102);
}

#[test]
fn the_finalizer_of_a_living_instance_sees_its_state() {
    let mut worker = worker().per_worker().start();
    worker.load_with(&counter(), hook("load", &[5]), hook("unload", b""));
    assert_eq!(worker.receive(), Some(WorkerMessage::Loaded(MODULE)));
    assert_eq!(number(&mut worker), 106);
    worker.send(&stockade_wire::HostMessage::Close, &[]);
    let emitted = worker.receive();
    assert!(
        matches!(emitted, Some(WorkerMessage::Emitted(_, item)) if item == 106i32.to_le_bytes())
    );
    assert_eq!(worker.receive(), Some(WorkerMessage::Closed));
    worker.end().unwrap();
}

#[test]
fn per_task_the_finalizer_runs_once_in_an_instance_of_its_own() {
    let mut worker = worker().start();
    worker.load_with(&counter(), None, hook("unload", b""));
    assert_eq!(worker.receive(), Some(WorkerMessage::Loaded(MODULE)));
    assert_eq!([number(&mut worker), number(&mut worker)], [101, 101]);
    worker.send(&stockade_wire::HostMessage::Close, &[]);
    let emitted = worker.receive();
    assert!(
        matches!(emitted, Some(WorkerMessage::Emitted(_, item)) if item == 100i32.to_le_bytes())
    );
    assert_eq!(worker.receive(), Some(WorkerMessage::Closed));
    worker.end().unwrap();
}

#[test]
fn a_finalizer_that_fails_is_told_after_the_results() {
    for finalizer in ["trap", "fail", "missing"] {
        let mut worker = worker().per_worker().start();
        worker.load_with(&counter(), None, hook(finalizer, b""));
        assert_eq!(worker.receive(), Some(WorkerMessage::Loaded(MODULE)));
        assert_eq!(number(&mut worker), 101);
        let (last, ended) = worker.close();
        assert!(matches!(last, Some(WorkerMessage::FinalizerFailed(_))), "{finalizer}: {last:?}");
        ended.unwrap();
    }
}

#[test]
fn an_initializer_that_fails_ends_the_worker_before_any_task() {
    for initializer in ["trap", "fail", "missing"] {
        let mut worker = worker().per_worker().start();
        worker.load_with(&counter(), hook(initializer, b""), None);
        let answer = worker.receive();
        assert!(matches!(answer, Some(WorkerMessage::InitializerFailed(_))), "{answer:?}");
        assert_eq!(worker.receive(), None);
        worker.end().unwrap();
    }
}

#[test]
fn a_plain_function_can_be_a_hook() {
    let plain = |export: &str| Some(HookCall::Plain { export: export.into() });
    let mut worker = worker().per_worker().start();
    worker.load_with(&counter(), plain("reset"), plain("reset"));
    assert_eq!(worker.receive(), Some(WorkerMessage::Loaded(MODULE)));
    assert_eq!(number(&mut worker), 1);
    assert!(matches!(worker.close(), (Some(WorkerMessage::Closed), Ok(()))));
}

#[test]
fn an_initializer_without_a_snapshot_runs_in_every_fresh_instance() {
    let mut worker = worker().start();
    worker.load_with(&counter(), hook("load", &[7]), None);
    assert_eq!(worker.receive(), Some(WorkerMessage::Loaded(MODULE)));
    assert_eq!([number(&mut worker), number(&mut worker)], [108, 108]);
}

#[test]
fn an_instance_that_cannot_be_made_fails_its_task_and_not_the_worker() {
    let mut worker = worker().per_worker().start_with(
        r#"(module (func $s unreachable) (start $s)
            (func (export "f") (result i32) (i32.const 0)))"#,
    );
    for _ in 0..2 {
        assert!(matches!(worker.failure("f"), Failure::Trap { .. }));
    }
    assert!(matches!(worker.close(), (Some(WorkerMessage::Closed), Ok(()))));
}
