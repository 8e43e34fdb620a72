//! 67–72: false messages of workers and compilers. They cost at most the sender and the tasks that
//! it held.

use std::time::Duration;

use stockade::{
    BuildError, Bytes, CancelReason, Limits, Lockdown, MachineFault, SharedBuffer, SliceError,
    TaskError, TaskHandle, TaskOptions, WorkerProgram,
};
use stockade_tests::{
    Folder, Gate, HOSTILE_BATCH, PATIENCE, descriptors_of, eventually, name_for_a_pool, numbers,
    script, worker_program,
};

use super::super::seen;
use super::{
    Ends, assert_each_costs_its_worker_and_one_task, cost_of, cost_within, hostile, open, ten,
};

/// For tasks whose deadline is what ends them.
const SHORT: Duration = Duration::from_secs(1);

#[test]
fn an_honest_worker_in_the_same_clothes_loses_nothing() {
    let program = WorkerProgram::Path(env!("CARGO_BIN_EXE_hostile-worker").into());
    let pool = numbers().lockdown(Lockdown::default()).worker_program(program).build().unwrap();
    let results: Vec<i32> =
        pool.starmap("add", (0..500).map(|i| (i, 1))).collect::<Result<_, _>>().unwrap();
    assert!(results.iter().all(|result| *result == 7));
    assert_eq!(pool.workers()[0].id.0, 1);
}

#[test]
fn a67_half_a_frame_costs_its_worker_and_one_task() {
    assert_each_costs_its_worker_and_one_task(&["half-a-frame"]);
    let cost = cost_within("half-a-frame-and-silence", SHORT);
    assert!(matches!(cost.errors[..], [TaskError::Deadline { .. }]), "{:?}", cost.errors);
    assert!(!cost.survived);
    seen(
        67,
        "at its deadline the worker is killed and one task of ten ends with it; one that exits instead loses that task at once",
    );
}

#[test]
fn a68_lengths_and_words_out_of_range_cost_at_most_their_worker_and_one_task() {
    assert_each_costs_its_worker_and_one_task(&["frame-too-long", "frame-elsewhere", "no-message"]);
    assert_each_costs_its_worker_and_one_task(&[
        "ring-index",
        "ring-index-ahead",
        "ring-index-askew",
        "ring-record",
        "ring-record-without-end",
        "ring-no-message",
    ]);
    let cost = cost_within("ring-announces-nothing", SHORT);
    assert!(matches!(cost.errors[..], [TaskError::Deadline { .. }]), "{:?}", cost.errors);
    for evil in ["page-of-ones", "page-backwards"] {
        let cost = cost_of(evil);
        assert!(cost.errors.is_empty() && cost.survived, "{evil}: {:?}", cost.errors);
    }
    // Nobody can say any more what it had started, so all of it goes to another.
    let cost = cost_of("page-of-ones-and-death");
    assert!(cost.errors.is_empty() && !cost.survived, "{:?}", cost.errors);
    seen(
        68,
        "a frame of 2 GiB, or an index or a record of its ring out of bounds: killed, one task of ten lost; a page of ones or of earlier numbers: no effect",
    );
}

#[test]
fn lies_about_what_has_started_cost_at_most_what_the_worker_held() {
    let cost = cost_of("started-another");
    let lost = |error: &TaskError| matches!(error, TaskError::WorkerLost(_));
    assert!(cost.errors.len() == 10 && cost.errors.iter().all(lost), "{:?}", cost.errors);
    for evil in ["started-nothing", "started-nonsense"] {
        let cost = cost_of(evil);
        assert!(cost.errors.is_empty() && !cost.survived, "{evil}: {:?}", cost.errors);
    }
}

#[test]
fn a69_answers_of_the_wrong_type_twice_or_to_nobody_cost_their_worker_and_one_task() {
    let wrong_type = ["wrong-kind", "no-command", "no-column", "recalled", "elsewhere"];
    let to_nobody = ["unknown-task", "no-task", "backwards", "items-of-another"];
    assert_each_costs_its_worker_and_one_task(&wrong_type);
    assert_each_costs_its_worker_and_one_task(&to_nobody);
    let twice = cost_of("twice");
    assert!(twice.errors.is_empty() && !twice.survived, "the first answer was right");
    answer_after_a_cancel();
    results_that_are_not_where_they_should_be();
    seen(
        69,
        "killed each time; wrong type, to nobody, or of a result that is not where it says: one task of ten lost; twice: none; after a cancel: it stays cancelled",
    );
}

/// A worker gives fewer or more results than a piece of a slice has items, or other ones, or says that
/// an item failed which the piece does not have.
#[test]
fn lies_about_a_column_cost_their_worker_and_one_piece() {
    for evil in [
        "column-short",
        "column-long",
        "column-elsewhere",
        "column-of-scalars",
        "column-exited",
        "column-item-beyond",
        "column-item-without-end",
    ] {
        let gate = Gate::new();
        let pool = hostile(evil, &gate).build().unwrap();
        let same = pool.function::<u64>("same_i64").unwrap();
        let items = vec![1_u64; 100];
        let error = std::thread::scope(|scope| {
            scope.spawn(|| open(&gate, &pool, 1));
            same.map_slice(&items).unwrap_err()
        });
        // Nobody knows how long one takes, so the first piece is one item.
        let is_lost = matches!(&error, SliceError::Piece { items, error: TaskError::WorkerLost(_) }
                if *items == (0..1));
        assert!(is_lost, "{evil}: {error:?}");
        assert!(same.map_slice(&items).unwrap() == [0x0707_0707_0707_0707; 100], "{evil}");
        assert_ne!(pool.workers()[0].id.0, 1, "{evil}: its worker lives");
        assert!(pool.shutdown() && !pool.is_broken(), "{evil}");
    }
}

/// A worker says that results lie where its tasks' inputs did, and they are longer than that, or no
/// input was there; and it may do what it can to the files.
fn results_that_are_not_where_they_should_be() {
    let limits = Limits::default().output_bytes(100 << 20);
    for evil in ["in-payload-too-long", "in-payload-without-end", "in-payload-more-than-lent"] {
        let program = WorkerProgram::Path(env!("CARGO_BIN_EXE_hostile-worker").into());
        let gate = Gate::new();
        let name = format!("{evil}.{}", name_for_a_pool());
        let pool = gate.tasks().name(name).limits(limits.clone()).worker_program(program);
        let pool = pool.lockdown(Lockdown::default()).build().unwrap();
        let submitted: Vec<_> = if evil == "in-payload-more-than-lent" {
            let lent = |_| SharedBuffer::new(100_000).unwrap();
            pool.submit_together("echo", (0..HOSTILE_BATCH).map(lent))
        } else {
            let given = |number| Bytes(vec![number as u8; 100_000]);
            pool.submit_together("echo", (0..HOSTILE_BATCH).map(given))
        };
        let handles: Vec<TaskHandle<Vec<u8>>> = submitted.into_iter().map(Result::unwrap).collect();
        open(&gate, &pool, handles.len());
        let mut errors = Vec::new();
        for handle in &handles {
            match handle.result() {
                Ok(bytes) => assert_eq!(bytes, [7], "{evil}"),
                Err(error) => errors.push(error),
            }
        }
        // At most the one that it had: none where it was gone before it said that it had started it.
        assert!(matches!(errors[..], [] | [TaskError::WorkerLost(_)]), "{evil}: {errors:?}");
        let next = pool.submit::<Vec<u8>>("echo", Bytes(vec![1; 100_000])).unwrap();
        assert_eq!(next.result().unwrap(), [7], "{evil}");
        assert_ne!(next.report().worker.unwrap().0, 1, "{evil}: its worker lives");
        assert!(pool.shutdown() && !pool.is_broken(), "{evil}");
    }
}

/// A worker runs what its caller took back, and says so.
fn answer_after_a_cancel() {
    let gate = Gate::new();
    let pool = hostile("what-was-taken-back", &gate).build().unwrap();
    let handles = ten(&pool);
    open(&gate, &pool, handles.len());
    let ends = Ends::of(&handles);
    let last_held = || handles.iter().find_map(TaskHandle::progress).map(|(last, _)| last);
    eventually("the worker to say what it holds", || last_held().is_some());
    let last = last_held().unwrap();
    let is_cancelled = |handle: &TaskHandle<i32>| handle.task_id().0 == last;
    let cancelled = handles.iter().find(|handle| is_cancelled(handle)).unwrap();
    assert!(cancelled.cancel());
    for handle in &handles {
        match handle.result() {
            Err(TaskError::Cancelled(CancelReason::Asked)) if is_cancelled(handle) => {}
            other => assert_eq!(other.unwrap(), 7),
        }
    }
    let next = pool.submit::<i32>("add", (1, 1)).unwrap();
    assert_eq!(next.result().unwrap(), 7);
    assert_eq!(next.report().worker.unwrap().0, 2, "whoever runs what was taken back is killed");
    assert!(pool.shutdown());
    ends.assert_once();
    assert!(cancelled.is_cancelled());
}

/// Whatever became of its items with one worker, the next has them to itself.
#[test]
fn a_lie_about_items_of_a_map_costs_no_worker_after_it() {
    for evil in ["emitting-recalled", "emitting-wrong-kind", "emitting-started-nothing"] {
        let gate = Gate::new();
        let pool = hostile(evil, &gate).build().unwrap();
        let items = (0..HOSTILE_BATCH as i32).map(|number| (number, 1));
        let map = pool.starmap::<i32, _, _>("add", items).chunk_size(HOSTILE_BATCH);
        let mut map = map.options(TaskOptions::default().retries(1)).submit_all();
        open(&gate, &pool, HOSTILE_BATCH);
        for index in 0..HOSTILE_BATCH {
            let task = map.next_task().unwrap().1.unwrap();
            let (result, report) = (task.result(), task.report());
            assert!(matches!(result, Ok(7)), "{evil}, item {index}: {result:?}");
            assert_eq!(report.worker.map(|worker| worker.0), Some(2), "{evil}, item {index}");
            assert_eq!(task.emitted::<Bytes>().count(), 1, "{evil}, item {index}");
        }
    }
}

/// What it answered counts, and is not run again.
#[test]
fn nonsense_behind_answers_costs_none_of_them() {
    let gate = Gate::new();
    let pool = hostile("answers-and-nonsense", &gate).build().unwrap();
    let items = (0..HOSTILE_BATCH as i32).map(|number| (number, 1));
    let map = pool.starmap::<i32, _, _>("add", items).chunk_size(HOSTILE_BATCH).submit_all();
    let mut map = map.timeout(PATIENCE);
    open(&gate, &pool, HOSTILE_BATCH);
    for index in 0..HOSTILE_BATCH {
        let task = map.next_task().unwrap().1.unwrap();
        assert_eq!(task.result().unwrap(), 7, "item {index}");
        let worker = if index < 3 { 1 } else { 2 };
        assert_eq!(task.report().worker.map(|worker| worker.0), Some(worker), "item {index}");
    }
}

#[test]
fn a_message_out_of_place_costs_its_worker_and_one_task() {
    assert_each_costs_its_worker_and_one_task(&[
        "loaded-again",
        "closed",
        "initialized",
        "load-failed",
        // Of hooks that the pool does not have.
        "initializer-failed",
        "finalizer-failed",
    ]);
}

#[test]
fn more_than_the_limits_allow_costs_one_task() {
    assert_each_costs_its_worker_and_one_task(&["too-much-output", "too-many-results"]);
    // Nothing that the host could see is wrong with the message: its caller finds out.
    let cost = cost_of("as-many-results-as-there-may-be");
    assert!(matches!(cost.errors[..], [TaskError::Decode(_)]), "{:?}", cost.errors);
    assert!(cost.survived);
}

#[test]
fn a_lie_about_a_core_dump_costs_its_worker_and_one_task_or_that_dump() {
    assert_each_costs_its_worker_and_one_task(&[
        "dump-unasked",
        "dump-of-another",
        "dump-in-crumbs",
        "dump-without-end",
    ]);
    let cost = cost_of("dump-of-nonsense");
    assert!(matches!(cost.errors[..], [TaskError::Abi(_)]) && cost.survived, "{:?}", cost.errors);
    let dumps: Vec<_> = cost.reports.iter().filter_map(|report| report.coredump.as_ref()).collect();
    // Kept as it was said, and not looked into.
    let [dump] = dumps[..] else { panic!("{dumps:?}") };
    assert_eq!((dump.bytes(), dump.left_out()), (1000, u64::MAX));
    let cost = cost_of("dump-of-a-success");
    assert!(cost.errors.is_empty() && cost.survived, "{:?}", cost.errors);
    assert!(cost.reports.iter().all(|report| report.coredump.is_none()));
}

#[test]
fn a70_descriptors_that_a_worker_attaches_never_reach_its_host() {
    let gate = Gate::new();
    let pool = hostile("descriptors", &gate).build().unwrap();
    let handles = ten(&pool);
    open(&gate, &pool, handles.len());
    let ends = Ends::of(&handles);
    assert!(handles.iter().all(|handle| handle.result().unwrap() == 7));
    // What it attaches bears the pool's name.
    let loot = |name: &str| {
        let ours = descriptors_of(std::process::id());
        ours.into_iter().filter(|(_, to)| to.contains(name)).collect::<Vec<_>>()
    };
    assert_eq!(loot(pool.name()), []);
    let worker = pool.workers()[0].id;
    assert_eq!(worker.0, 1, "it did nothing that its host could see");
    assert!(pool.shutdown());
    ends.assert_once();
    // Where a message's body should be in a descriptor, there is none.
    assert_each_costs_its_worker_and_one_task(&["body-in-a-descriptor"]);
    seen(
        70,
        "1 and 253 descriptors beside right answers: the host has none of them and no task is lost; a body in a descriptor: killed, one task of ten lost",
    );
}

#[test]
fn a71_floods_and_silence_end_with_their_worker() {
    assert_each_costs_its_worker_and_one_task(&["items-without-end", "ready-without-end"]);
    let cost = cost_of("results-without-end");
    assert!(cost.errors.is_empty() && !cost.survived, "the first answer was right");
    let cost = cost_within("silence", SHORT);
    assert!(matches!(cost.errors[..], [TaskError::Deadline { .. }]), "{:?}", cost.errors);
    assert!(!cost.survived);
    silence_beside_a_busy_worker();
    seen(
        71,
        "killed: floods at once, one that never reads at its deadline; at most one task of ten lost, and other workers go on meanwhile",
    );
}

/// A worker that neither reads nor answers has all the time of the world; the other does the rest.
fn silence_beside_a_busy_worker() {
    let limits = Limits::default().wall_time(None);
    let gate = Gate::new();
    let pool = hostile("silence", &gate).max_workers(2).limits(limits).build().unwrap();
    let mut handles: Vec<_> = (0..20).flat_map(|_| ten(&pool)).collect();
    open(&gate, &pool, handles.len());
    eventually("all but one chunk", || {
        if handles.iter().all(TaskHandle::is_done) {
            // The other was ready so much earlier that it did everything.
            handles.extend(ten(&pool));
        }
        handles.iter().filter(|handle| !handle.is_done()).count() <= 10
            && handles.iter().any(|handle| handle.progress().is_some())
    });
    let ends = Ends::of(&handles);
    let held = handles.iter().find(|handle| handle.progress().is_some()).unwrap();
    assert!(!held.is_done());
    held.cancel_running();
    for handle in &handles {
        match handle.result() {
            Err(TaskError::Cancelled(CancelReason::WhileRunning)) => {
                assert_eq!(handle.task_id(), held.task_id());
            }
            other => assert_eq!(other.unwrap(), 7),
        }
    }
    assert!(pool.shutdown());
    ends.assert_once();
}

#[test]
fn a72_forged_metrics_and_failures_are_those_of_their_task_alone() {
    let cost = cost_of("forged-metrics");
    assert!(cost.errors.is_empty() && cost.survived, "{:?}", cost.errors);
    let forged = cost.reports.iter().filter(|report| report.memory_peak_bytes == u64::MAX);
    assert_eq!(forged.count(), 1);
    let honest = cost.reports.iter().filter(|report| {
        (report.cpu_time, report.fuel, report.memory_peak_bytes) == (Duration::ZERO, None, 0)
            && (report.log_dropped, report.stdout.dropped) == (0, 0)
    });
    assert_eq!(honest.count(), 9);
    let cost = cost_of("forged-failure");
    assert!(cost.survived);
    let forged = matches!(cost.errors[..], [TaskError::Memory { limit: 0, wanted: u64::MAX }]);
    assert!(forged, "{:?}", cost.errors);
    seen(
        72,
        "one task of ten has the forged report, or the forged failure; the nine others have their own",
    );
}

#[test]
fn a_compiler_that_answers_nonsense_costs_the_pool_and_no_module_its_name() {
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
        let BuildError::Machine(error) = &error else { panic!("{nonsense}: {error:?}") };
        assert!(matches!(error.fault, MachineFault::Process(_)), "{nonsense}: {error:?}");
        assert!(stockade_tests::own_children().is_empty(), "{nonsense}");
    }
}
