//! Hostile workers: whatever one says, it costs at most itself and what it held.

use std::time::Duration;

use stockade::{BuildError, Limits, RefusedReason, TaskError, WorkerProgram};
use stockade_tests::{
    Folder, name_for_a_pool, numbers, processes_named, script, threads_named, worker_program,
};

fn hostile_worker() -> WorkerProgram {
    WorkerProgram::Path(env!("CARGO_BIN_EXE_hostile-worker").into())
}

/// Runs ten tasks in a pool whose first worker does `evil`, and looks at what it cost. Says how many
/// tasks were lost.
fn cost_of(evil: &str) -> usize {
    let limits = Limits::default().wall_time(Duration::from_secs(1)).output_bytes(100_000);
    let pool = numbers()
        .name(format!("{evil}.{}", name_for_a_pool()))
        .worker_program(hostile_worker())
        .limits(limits)
        .build()
        .unwrap();
    // One chunk, so that the worker holds them all at once.
    let mut map = pool.starmap::<i32, _, _>("add", (0..10).map(|i| (i, 1))).chunk_size(10);
    let mut lost = 0;
    while let Some((number, handle)) = map.next_task() {
        match handle.unwrap().result() {
            Ok(sum) => assert_eq!(sum, 7, "{evil}"),
            Err(TaskError::WorkerLost(_) | TaskError::Deadline { .. } | TaskError::Decode(_)) => {
                lost += 1;
            }
            Err(other) => panic!("{evil}, task {number}: {other:?}"),
        }
    }
    assert!(pool.check().is_ok(), "{evil} broke the pool: {:?}", pool.broken());
    assert_eq!(pool.run::<i32>("add", (1, 1)).unwrap(), 7, "{evil}");
    assert!(pool.shutdown());
    assert!(!pool.is_broken(), "{evil} broke the pool: {:?}", pool.broken());
    assert!(processes_named(pool.name()).is_empty(), "{evil}");
    assert_eq!(threads_named(pool.name()), 0, "{evil}");
    lost
}

#[test]
fn an_honest_worker_in_the_same_clothes_loses_nothing() {
    let pool = numbers().worker_program(hostile_worker()).build().unwrap();
    let results: Vec<i32> =
        pool.starmap("add", (0..500).map(|i| (i, 1))).collect::<Result<_, _>>().unwrap();
    assert!(results.iter().all(|result| *result == 7));
    assert_eq!(pool.workers()[0].id.0, 1);
}

#[test]
fn an_answer_that_fits_no_task_costs_the_task_at_hand() {
    for evil in ["wrong-kind", "no-command", "recalled", "unknown-task", "no-task"] {
        assert_eq!(cost_of(evil), 1, "{evil}");
    }
}

#[test]
fn an_answer_out_of_turn_costs_the_task_at_hand() {
    assert_eq!(cost_of("backwards"), 1);
    assert_eq!(cost_of("twice"), 0, "the first answer was right");
    assert_eq!(cost_of("items-of-another"), 1);
}

#[test]
fn a_message_out_of_place_costs_the_task_at_hand() {
    for evil in ["loaded-again", "closed", "initialized", "load-failed"] {
        assert_eq!(cost_of(evil), 1, "{evil}");
    }
}

#[test]
fn a_hook_that_the_pool_does_not_have_cannot_have_failed() {
    for evil in ["initializer-failed", "finalizer-failed"] {
        assert_eq!(cost_of(evil), 1, "{evil}");
    }
}

#[test]
fn more_than_the_limits_allow_costs_the_task_at_hand() {
    for evil in ["too-much-output", "too-many-results"] {
        assert_eq!(cost_of(evil), 1, "{evil}");
    }
}

#[test]
fn floods_end_with_their_worker() {
    assert_eq!(cost_of("items-without-end"), 1);
    assert_eq!(cost_of("results-without-end"), 0, "the first answer was right");
    assert_eq!(cost_of("ready-without-end"), 1);
}

#[test]
fn bytes_that_are_no_message_cost_the_task_at_hand() {
    for evil in ["long-frame", "frame-elsewhere", "no-message", "half-a-frame"] {
        assert_eq!(cost_of(evil), 1, "{evil}");
    }
}

#[test]
fn silence_ends_at_the_deadline() {
    for evil in ["silence", "half-a-frame-and-silence"] {
        assert_eq!(cost_of(evil), 1, "{evil}");
    }
}

#[test]
fn lies_on_the_status_page_cost_at_most_what_the_worker_held() {
    // All ten, unless the worker was ready before they were all submitted.
    assert!((1..=10).contains(&cost_of("started-another")));
    assert_eq!(cost_of("started-nothing"), 0);
    assert_eq!(cost_of("started-nonsense"), 0);
    assert_eq!(cost_of("abort"), 1);
}

#[test]
fn a_compiler_that_answers_nonsense_refuses_the_module() {
    let real = worker_program();
    for nonsense in [
        "head -c 1000 /dev/urandom >&3",
        "printf '\\377\\377\\377\\177' >&3; exec sleep 1000",
        "printf '\\004\\000\\000\\000abcd' >&3; exec sleep 1000",
        "printf '\\100\\000\\000\\000abcd' >&3",
        "kill -SEGV $$",
        &format!("exec {} --stockade-role=worker", real.display()),
    ] {
        let folder = Folder::new();
        let program = WorkerProgram::Path(script(&folder, nonsense));
        let error = numbers().worker_program(program).build().unwrap_err();
        let BuildError::Refused { reason, .. } = &error else { panic!("{nonsense}: {error:?}") };
        assert!(matches!(reason, RefusedReason::Compiler(_)), "{nonsense}: {reason:?}");
        assert!(stockade_tests::own_children().is_empty(), "{nonsense}");
    }
}
