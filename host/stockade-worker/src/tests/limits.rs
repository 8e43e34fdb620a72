//! Both sides of every limit, and that the worker outlives each.

use std::time::Duration;

use stockade_wire::{Captured, Failure, Limits, Outcome, Scalar, WorkerMessage};

use super::support::{guest, task, worker, written};

/// Writes as many bytes of output, in pieces, as its input says.
fn writer() -> String {
    guest(
        r#"(func (export "write") (result i32) (local $n i32)
            (call $input_read (i32.const 0) (i32.const 0) (i32.const 4))
            (local.set $n (i32.load (i32.const 0)))
            (loop $more
                (if (local.get $n) (then
                    (call $output_write (i32.const 0) (i32.const 1))
                    (local.set $n (i32.sub (local.get $n) (i32.const 1)))
                    (br $more))))
            (i32.const 0))
           (func (export "emit") (result i32)
            (call $input_read (i32.const 0) (i32.const 0) (i32.const 4))
            (call $emit (i32.const 0) (i32.load (i32.const 0)))
            (i32.const 0))
           (func (export "flood") (result i32)
            (loop $more (call $emit (i32.const 0) (i32.const 0)) (br $more))
            (i32.const 0))"#,
    )
}

#[test]
fn output_at_its_limit_is_returned_and_one_byte_more_fails_the_task() {
    let limits = Limits::default().output_bytes(100);
    let mut worker = worker().limits(limits).start_with(&writer());
    assert_eq!(worker.result("write", &100u32.to_le_bytes()).len(), 100);
    let failed = worker.task("write", &101u32.to_le_bytes()).outcome;
    assert_eq!(failed, Outcome::Failed(Failure::Output { limit: 100 }));
    assert_eq!(worker.result("write", &1u32.to_le_bytes()).len(), 1);
}

#[test]
fn an_item_at_the_limit_is_sent_and_one_byte_more_fails_the_task() {
    let limits = Limits::default().output_bytes(132);
    let mut worker = worker().limits(limits).start_with(&writer());
    let number = worker.submit(task("emit", &100u32.to_le_bytes()), &[]);
    assert!(matches!(worker.receive(), Some(WorkerMessage::Emitted(task, item))
        if task == number && item.len() == 100));
    assert_eq!(worker.finished().outcome, Outcome::Returned(Vec::new()));
    let failed = worker.task("emit", &101u32.to_le_bytes()).outcome;
    assert_eq!(failed, Outcome::Failed(Failure::Output { limit: 132 }));
}

#[test]
fn a_flood_of_empty_items_ends_too() {
    let limits = Limits::default().output_bytes(320);
    let mut worker = worker().limits(limits).start_with(&writer());
    let number = worker.submit(task("flood", b""), &[]);
    for _ in 0..10 {
        assert_eq!(worker.receive(), Some(WorkerMessage::Emitted(number, Vec::new())));
    }
    assert_eq!(worker.finished().outcome, Outcome::Failed(Failure::Output { limit: 320 }));
}

/// Writes to stdout as many bytes as its input says, 1000 a call, and returns the last errno.
fn printer() -> String {
    guest(
        r#"(func (export "print") (result i32) (local $n i32) (local $part i32)
            (call $input_read (i32.const 0) (i32.const 0) (i32.const 4))
            (local.set $n (i32.load (i32.const 0)))
            (memory.fill (i32.const 1000) (i32.const 120) (i32.const 1000))
            (i32.store (i32.const 0) (i32.const 1000))
            (block $done (loop $more
                (br_if $done (i32.eqz (local.get $n)))
                (local.set $part (select (i32.const 1000) (local.get $n)
                    (i32.gt_u (local.get $n) (i32.const 1000))))
                (i32.store (i32.const 4) (local.get $part))
                (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
                    (then unreachable))
                (local.set $n (i32.sub (local.get $n) (i32.load (i32.const 8))))
                (br $more)))
            (i32.const 0))
           (func (export "chat") (result i32)
            (call $log (i32.const 3) (i32.const 0) (i32.const 100))
            (call $log (i32.const 3) (i32.const 0) (i32.const 100))
            (i32.const 0))"#,
    )
}

#[test]
fn stdout_is_kept_to_its_limit_and_the_guest_goes_on() {
    let limits = Limits::default().stdio_bytes(2500);
    let mut worker = worker().limits(limits).start_with(&printer());
    for (bytes, dropped) in [(0u32, 0), (2500, 0), (2501, 1), (70_000, 67_500)] {
        let finished = worker.task("print", &bytes.to_le_bytes());
        assert_eq!(finished.outcome, Outcome::Returned(Vec::new()));
        let kept = vec![b'x'; (bytes as usize).min(2500)];
        assert_eq!(written(&finished).stdout, Captured { bytes: kept, dropped });
        assert_eq!(written(&finished).stderr, Captured::default());
    }
}

#[test]
fn the_log_is_kept_to_its_limit() {
    for (room, kept) in [(216, 2), (215, 1)] {
        let limits = Limits::default().stdio_bytes(room);
        let mut worker = worker().limits(limits).start_with(&printer());
        let finished = worker.task("chat", b"");
        assert_eq!(
            (written(&finished).log.lines().count(), written(&finished).log_dropped),
            (kept, 2 - kept as u64)
        );
    }
}

/// Grows its memory by as many pages as its argument says.
const GROWER: &str = r#"(module
    (memory (export "memory") 1)
    (table 1 funcref)
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "grow_or_trap") (param i32) (result i32)
        (if (i32.eq (memory.grow (local.get 0)) (i32.const -1)) (then unreachable))
        (i32.const 0))
    (func (export "grow_table") (param i32) (result i32)
        (table.grow 0 (ref.null func) (local.get 0))))"#;

#[test]
fn memory_grows_to_its_limit_and_no_further() {
    let limits = Limits::default().memory_bytes(4 << 16);
    let mut worker = worker().limits(limits).start_with(GROWER);
    let grow = |pages| [Scalar::I32(pages)];
    assert_eq!(worker.scalar("grow", &grow(3)), Outcome::Scalars(vec![Scalar::I32(1)]));
    assert_eq!(worker.scalar("grow", &grow(4)), Outcome::Scalars(vec![Scalar::I32(-1)]));
    assert_eq!(worker.scalar("grow", &grow(-1)), Outcome::Scalars(vec![Scalar::I32(-1)]));
}

#[test]
fn a_trap_after_a_refused_growth_is_a_memory_failure() {
    let limits = Limits::default().memory_bytes(4 << 16);
    let mut worker = worker().limits(limits).start_with(GROWER);
    let done = worker.scalar("grow_or_trap", &[Scalar::I32(3)]);
    assert_eq!(done, Outcome::Scalars(vec![Scalar::I32(0)]));
    let failed = worker.scalar("grow_or_trap", &[Scalar::I32(4)]);
    let expected = Failure::Memory { limit: 4 << 16, wanted: 5 << 16 };
    assert_eq!(failed, Outcome::Failed(expected));
}

/// Asks for so many pages, and after a refusal for so many others, and exits.
const QUITTER: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "quit") (param $pages i32) (param $fewer i32) (param $code i32)
        (if (i32.eq (memory.grow (local.get $pages)) (i32.const -1))
            (then (drop (memory.grow (local.get $fewer)))))
        (call $exit (local.get $code))))"#;

#[test]
fn an_exit_with_an_error_after_a_refused_growth_is_a_memory_failure_unless_the_guest_got_by() {
    let limits = Limits::default().memory_bytes(4 << 16);
    let mut worker = worker().limits(limits).start_with(QUITTER);
    let memory = |pages: u64| Failure::Memory { limit: 4 << 16, wanted: pages << 16 };
    for (pages, fewer, code, expected) in [
        (4, 0, 2, memory(5)),
        (4, 5, 2, memory(6)),
        (4, 1, 2, Failure::Exited(2)),
        (4, 0, 0, Failure::Exited(0)),
        (3, 0, 2, Failure::Exited(2)),
    ] {
        let ended = worker.scalar("quit", &[pages, fewer, code].map(Scalar::I32));
        assert_eq!(ended, Outcome::Failed(expected), "{pages} {fewer} {code}");
    }
}

#[test]
fn a_task_may_have_a_lower_memory_limit_than_its_worker() {
    let mut worker = worker().start_with(GROWER);
    let lower = worker.limits.clone().memory_bytes(2 << 16);
    let grow = |pages| stockade_wire::Invocation::Scalar {
        export: "grow".into(),
        args: vec![Scalar::I32(pages)],
    };
    for (pages, result) in [(1, 1), (2, -1)] {
        worker.submit_under(lower.clone(), grow(pages), &[]);
        assert_eq!(worker.finished().outcome, Outcome::Scalars(vec![Scalar::I32(result)]));
    }
    worker.submit_under(lower.memory_bytes(1), grow(0), &[]);
    let expected = Failure::Memory { limit: 1, wanted: 1 << 16 };
    assert_eq!(worker.finished().outcome, Outcome::Failed(expected));
}

#[test]
fn tables_grow_to_their_limit_and_no_further() {
    let limits = Limits::default().table_elements(10);
    let mut worker = worker().limits(limits).start_with(GROWER);
    for (elements, result) in [(9, 1), (10, -1), (100_000_000, -1)] {
        let grown = worker.scalar("grow_table", &[Scalar::I32(elements)]);
        assert_eq!(grown, Outcome::Scalars(vec![Scalar::I32(result)]));
    }
}

const LOOPS: &str = r#"(module
    (func (export "forever") (result i32) (loop $l (br $l)) (i32.const 0))
    (func (export "once") (result i32) (i32.const 0)))"#;

#[test]
fn fuel_that_runs_out_fails_the_task_and_what_was_used_is_reported() {
    let mut worker = worker().limits(Limits::default().fuel(10_000)).start_with(LOOPS);
    let finished = worker.task("forever", b"");
    assert_eq!(finished.outcome, Outcome::Failed(Failure::Fuel { limit: 10_000 }));
    assert_eq!(finished.metrics.fuel, Some(10_000));
    let finished = worker.task("once", b"");
    assert_eq!(finished.outcome, Outcome::Returned(Vec::new()));
    let used = finished.metrics.fuel.unwrap();
    assert!(used > 0 && used < 100);

    let exact = worker.limits.clone().fuel(used);
    worker.submit_under(exact.clone(), task("once", b""), &[]);
    assert_eq!(worker.finished().outcome, Outcome::Returned(Vec::new()));
    worker.submit_under(exact.fuel(used - 1), task("once", b""), &[]);
    assert!(matches!(worker.finished().outcome, Outcome::Failed(Failure::Fuel { .. })));
}

#[test]
fn an_interruptible_guest_traps_at_its_deadline_with_a_backtrace() {
    let limits = Limits::default().interruptible(true).wall_time(Duration::from_millis(1));
    let mut worker = worker().limits(limits).start_with(
        r#"(module
            (func $spin (loop $l (br $l)))
            (func $forever (export "forever") (result i32) (call $spin) (i32.const 0))
            (func (export "once") (result i32) (i32.const 0)))"#,
    );
    let Failure::Deadline { backtrace } = worker.failure("forever") else { panic!("no deadline") };
    // On a busy machine it may pass before `spin` is called.
    assert_eq!(backtrace.last().map(|frame| frame.function.as_str()), Some("forever"));
    let patient = worker.limits.clone().wall_time(None);
    worker.submit_under(patient, task("once", b""), &[]);
    assert_eq!(worker.finished().outcome, Outcome::Returned(Vec::new()));
}

#[test]
fn a_loop_in_the_start_function_meets_the_same_deadline() {
    let limits = Limits::default().interruptible(true).wall_time(Duration::from_millis(1));
    let mut worker = worker().limits(limits).start_with(
        r#"(module (func $s (loop $l (br $l))) (start $s)
            (func (export "f") (result i32) (i32.const 0)))"#,
    );
    assert!(matches!(worker.failure("f"), Failure::Deadline { .. }));
}

#[test]
fn a_sleep_ends_at_the_deadline_even_where_no_checks_are_compiled_in() {
    let limits = Limits::default().wall_time(Duration::from_millis(1));
    let mut worker = worker().limits(limits).start_with(
        r#"(module
            (import "wasi_snapshot_preview1" "poll_oneoff"
                (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (func (export "sleep") (result i32)
                (i32.store (i32.const 16) (i32.const 1))
                (i64.store (i32.const 24) (i64.const -1))
                (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200))))"#,
    );
    assert!(matches!(worker.failure("sleep"), Failure::Deadline { .. }));
}
