//! Instances that the tasks of one chunk share: who sees whose state, and what ends it.

use std::os::fd::AsFd;

use stockade_wire::{
    ChunkId, CompileStep, Failure, Finished, HostMessage, Invocation, Load, ModuleId, Outcome,
    Scalar, TaskId, WorkerMessage,
};

use super::support::{
    MODULE, Worker, command, compile, from_start, guest, hook, place_of, task, worker,
};

const CHUNK: Option<ChunkId> = Some(ChunkId(1));
const OTHER: Option<ChunkId> = Some(ChunkId(2));
const ALONE: Option<ChunkId> = None;

/// Counts in a global; as a command it exits with the count.
fn counter() -> String {
    guest(
        r#"(global $n (mut i32) (i32.const 0))
           (func $next (export "next") (result i32)
            (global.set $n (i32.add (global.get $n) (i32.const 1)))
            (global.get $n))
           (func (export "fail") (result i32)
            (call $error_write (i32.const 0) (i32.const 1))
            (i32.const 1))
           (func (export "trap") (result i32) unreachable)
           (func (export "exit") (result i32) (call $proc_exit (i32.const 0)) (i32.const 0))
           (func (export "too_much") (result i32)
            (call $output_write (i32.const 0) (i32.const 65536))
            (i32.const 0))
           (func (export "start_with") (result i32)
            (call $input_read (i32.const 0) (i32.const 0) (i32.const 1))
            (global.set $n (i32.load8_u (i32.const 0)))
            (i32.const 0))
           (func (export "leave") (result i32)
            (i32.store (i32.const 0) (global.get $n))
            (call $emit (i32.const 0) (i32.const 4))
            (i32.const 0))
           (func (export "_start") (call $proc_exit (call $next)))"#,
    )
}

fn next() -> Invocation {
    Invocation::Scalar { export: "next".into(), args: Vec::new() }
}

fn count(finished: &Finished) -> i32 {
    match &finished.outcome {
        Outcome::Scalars(scalars) if matches!(scalars[..], [Scalar::I32(_)]) => {
            let [Scalar::I32(count)] = scalars[..] else { unreachable!() };
            count
        }
        other => panic!("expected a count, got {other:?}"),
    }
}

/// What the count is for one task of each of `chunks` in turn.
fn counts<const N: usize>(worker: &mut Worker, chunks: [Option<ChunkId>; N]) -> [i32; N] {
    chunks.map(|chunk| count(&worker.run_in(chunk, next())))
}

#[test]
fn tasks_of_a_chunk_share_their_state_and_no_other_task_sees_it() {
    let mut worker = worker().start_with(&counter());
    assert_eq!(counts(&mut worker, [CHUNK, CHUNK, CHUNK]), [1, 2, 3]);
    assert_eq!(counts(&mut worker, [OTHER, OTHER]), [1, 2]);
    assert_eq!(counts(&mut worker, [ALONE, ALONE]), [1, 1]);
}

#[test]
fn a_chunk_that_was_interrupted_begins_afresh() {
    let mut worker = worker().start_with(&counter());
    assert_eq!(counts(&mut worker, [CHUNK, CHUNK, OTHER, CHUNK]), [1, 2, 1, 1]);
    assert_eq!(counts(&mut worker, [CHUNK, ALONE, CHUNK]), [2, 1, 1]);
}

#[test]
fn tasks_sent_together_share_too() {
    let mut worker = worker().start_with(&counter());
    for chunk in [CHUNK, CHUNK, OTHER] {
        let mut run = worker.next_run(worker.limits.clone(), next());
        run.share = chunk;
        worker.offer(run, &[]);
    }
    let counts = [(); 3].map(|()| count(&worker.finished()));
    assert_eq!(counts, [1, 2, 1]);
}

#[test]
fn a_task_that_fails_by_its_own_word_leaves_the_instance_to_its_chunk() {
    let mut worker = worker().start_with(&counter());
    assert_eq!(counts(&mut worker, [CHUNK]), [1]);
    let failed = worker.run_in(CHUNK, task("fail", b""));
    assert!(matches!(failed.outcome, Outcome::Failed(Failure::Error(_))));
    assert_eq!(counts(&mut worker, [CHUNK]), [2]);
}

#[test]
fn whatever_ends_a_call_from_outside_ends_the_chunks_instance() {
    let mut worker = worker().start_with(&counter());
    for export in ["trap", "exit", "too_much", "missing"] {
        assert_eq!(counts(&mut worker, [CHUNK, CHUNK]), [1, 2], "before {export}");
        let mut run = worker.next_run(worker.limits.clone().output_bytes(100), task(export, b""));
        run.share = CHUNK;
        worker.offer(run, &[]);
        let failed = worker.finished().outcome;
        assert!(matches!(failed, Outcome::Failed(_)), "{export}: {failed:?}");
        assert_eq!(counts(&mut worker, [CHUNK]), [1], "after {export}");
        counts(&mut worker, [ALONE]);
    }
}

#[test]
fn a_command_neither_shares_nor_leaves_anything_to_share() {
    let mut worker = worker().start_with(&counter());
    for _ in 0..2 {
        assert_eq!(counts(&mut worker, [CHUNK, CHUNK]), [1, 2]);
        let ended = worker.run_in(CHUNK, from_start(command(&[], b"")));
        assert_eq!(ended.outcome, Outcome::Exited(1));
    }
}

#[test]
fn a_chunks_number_in_another_module_is_another_instance() {
    let mut worker = worker().modules(2).start();
    worker.load_with(&counter(), None, None);
    let second = ModuleId(1);
    let (_, artefact) = compile(CompileStep::Compile, &worker.limits, counter(), None).unwrap();
    let load = Load {
        module: second,
        name: "second".into(),
        functions: Vec::new(),
        initializer: None,
        finalizer: None,
        initialized: false,
    };
    worker.send(&HostMessage::Load(load), &[artefact.as_fd()]);
    assert_eq!(worker.receive(), Some(WorkerMessage::Loaded(MODULE)));
    assert_eq!(worker.receive(), Some(WorkerMessage::Loaded(second)));
    let mut count_in = |module| {
        let mut run = worker.next_run(worker.limits.clone(), next());
        (run.share, run.module) = (CHUNK, module);
        worker.offer(run, &[]);
        count(&worker.finished())
    };
    let modules = [MODULE, MODULE, second, second, MODULE];
    assert_eq!(modules.map(&mut count_in), [1, 2, 1, 2, 1]);
}

#[test]
fn a_task_that_is_taken_back_leaves_the_instance_to_its_chunk() {
    let mut worker = worker().start_with(&counter());
    assert_eq!(counts(&mut worker, [CHUNK]), [1]);
    let mut run = worker.next_run(worker.limits.clone(), next());
    run.share = CHUNK;
    worker.page.offer(run.slot, run.tasks);
    assert!(worker.page.revoke(place_of(&run)));
    worker.send(&HostMessage::Run(run), &[]);
    assert_eq!(worker.finished().outcome, Outcome::Recalled);
    assert_eq!(counts(&mut worker, [CHUNK]), [2]);
}

#[test]
fn a_living_instance_takes_no_notice_of_chunks() {
    let mut worker = worker().per_worker().start_with(&counter());
    assert_eq!(counts(&mut worker, [CHUNK, OTHER, ALONE, CHUNK]), [1, 2, 3, 4]);
}

#[test]
fn an_initializer_without_a_snapshot_runs_once_for_each_chunk() {
    let mut worker = worker().start();
    worker.load_with(&counter(), hook("start_with", &[40]), None);
    assert_eq!(worker.receive(), Some(WorkerMessage::Loaded(MODULE)));
    assert_eq!(counts(&mut worker, [CHUNK, CHUNK, OTHER]), [41, 42, 41]);
}

#[test]
fn the_finalizer_does_not_see_what_a_chunk_left() {
    let mut worker = worker().start();
    worker.load_with(&counter(), None, hook("leave", b""));
    assert_eq!(worker.receive(), Some(WorkerMessage::Loaded(MODULE)));
    assert_eq!(counts(&mut worker, [CHUNK, CHUNK]), [1, 2]);
    worker.send(&HostMessage::Close, &[]);
    let left = 0i32.to_le_bytes().to_vec();
    assert_eq!(worker.receive(), Some(WorkerMessage::Emitted(TaskId(0), left)));
    assert_eq!(worker.receive(), Some(WorkerMessage::Closed));
    worker.end().unwrap();
}
