//! 62–66: ends of processes, and their reports.

use std::io::{BufRead, BufReader, Write, stderr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use stockade::{
    Bytes, CancelReason, Layer, Limits, Lockdown, Status, TaskError, TaskHandle, TaskOptions,
};
use stockade_tests::{
    Folder, Gate, MemoryGroup, children_of, eventually, int, is_alive, is_gone, kill, script,
    starve, stop_process, tasks, until_running, wat, wat_file, worker_program,
};

use super::super::seen;
use super::{Ends, cost_of, hostile, open, ten};

#[test]
fn a62_a_worker_that_aborts_is_lost_with_its_signal() {
    let cost = cost_of("abort");
    let [TaskError::WorkerLost(exit)] = &cost.errors[..] else { panic!("{:?}", cost.errors) };
    assert_eq!((exit.signal, exit.code, exit.out_of_memory), (Some(6), None, false));
    assert!(exit.to_string().ends_with("was killed by SIGABRT"), "{exit}");
    assert!(!cost.survived);
    seen(62, "one task of ten is lost: `was killed by SIGABRT`");
}

#[test]
fn a63_a_killed_worker_costs_the_task_that_it_ran_and_no_other() {
    let gate = Gate::new();
    let pool = tasks().grants(gate.grants()).build().unwrap();
    let before = pool.submit::<Vec<u8>>("echo", int(1)).unwrap();
    let running = pool.submit::<Vec<u8>>("wait", int(0)).unwrap();
    let behind: Vec<_> =
        (0..300).map(|i| pool.submit::<Vec<u8>>("echo", int(i)).unwrap()).collect();
    let ends = Ends::of([&before, &running].into_iter().chain(&behind));
    until_running(&running);
    let worker = pool.workers()[0].clone();
    kill(worker.pid);
    assert_eq!(before.result().unwrap(), 1_i32.to_le_bytes());
    let TaskError::WorkerLost(exit) = running.result().unwrap_err() else { panic!() };
    assert_eq!((exit.pid, exit.signal, exit.code), (worker.pid, Some(9), None));
    assert_eq!(exit.worker, worker.name);
    for (number, handle) in behind.iter().enumerate() {
        assert_eq!(handle.result().unwrap(), (number as i32).to_le_bytes());
        assert_eq!(handle.report().worker.unwrap().0, 2);
    }
    assert!(behind.iter().all(|handle| handle.report().attempt == 1), "none was started twice");
    assert!(is_gone(worker.pid), "a zombie is left");
    assert_eq!(running.status(), Status::Failed);
    assert_eq!(running.progress(), Some((1, 2)));
    assert!(pool.shutdown());
    ends.assert_once();
    seen(63, "the task it ran is lost, 301 others have their own results, none twice");
}

#[test]
fn a64_a_stopped_worker_is_killed_at_its_tasks_deadline() {
    let gate = Gate::new();
    let limits = Limits::default().wall_time(Duration::from_secs(2));
    let pool = tasks().limits(limits).grants(gate.grants()).build().unwrap();
    let stopped = pool.submit::<Vec<u8>>("wait", int(0)).unwrap();
    until_running(&stopped);
    let pid = pool.workers()[0].pid;
    stop_process(pid);
    gate.open();
    let next: Vec<TaskHandle<Vec<u8>>> =
        (0..10).map(|_| pool.submit("echo", Bytes(vec![7])).unwrap()).collect();
    let ends = Ends::of([&stopped].into_iter().chain(&next));
    assert!(matches!(stopped.result(), Err(TaskError::Deadline { .. })));
    assert!(next.iter().all(|next| next.result().unwrap() == [7]));
    eventually("the worker to be gone", || is_gone(pid));
    assert!(pool.shutdown());
    ends.assert_once();
    seen(64, "killed at the deadline of the task it ran; ten others have their results");
}

#[test]
fn a65_a_worker_that_gets_no_memory_is_lost_and_says_so() {
    // The first write to a page of a memory makes it writable, which takes memory.
    let other = wat_file(stockade_tests::TASKS);
    // The limits of a process of another user are not this one's to lower.
    let lockdown = Lockdown::default().without(Layer::Privileges);
    let pool = tasks().lockdown(lockdown).module_as("other", other).build().unwrap();
    let write = |module, options: TaskOptions| {
        let handle = pool.submit_with::<Vec<u8>>((module, "count"), int(0), options).unwrap();
        handle.result()
    };
    write("test", TaskOptions::default()).unwrap();
    starve(pool.workers()[0].pid);
    let lost = write("other", TaskOptions::default()).unwrap_err();
    let TaskError::WorkerLost(exit) = &lost else { panic!("{lost:?}") };
    assert!(exit.out_of_memory && exit.signal.is_none(), "{exit:?}");
    let said = exit.to_string();
    assert!(said.ends_with("gave up because the system gave it no memory"), "{said}");
    // Another worker has memory.
    write("test", TaskOptions::default()).unwrap();
    starve(pool.workers()[0].pid);
    let again = write("other", TaskOptions::default().retries(1));
    assert_eq!(again.unwrap(), 1_i32.to_le_bytes());
    seen(
        65,
        "one task is lost: `gave up because the system gave it no memory`; with a retry it ends elsewhere with its result",
    );
}

/// A guest that takes and fills 256 MiB, which it may.
const GREEDY: &str = r#"(module
    (import "stockade" "progress" (func $progress (param i64 i64)))
    (memory (export "memory") 1)
    (func (export "ready"))
    (func (export "fill") (result i32)
        (call $progress (i64.const 1) (i64.const 2))
        (drop (memory.grow (i32.const 4095)))
        (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x10000000))
        (i32.const 0)))"#;

/// Only where control groups can be made, which takes root: elsewhere nothing but one's own limits
/// is there to run out of.
#[test]
fn a_worker_that_the_kernel_kills_for_want_of_memory_is_reported_so() {
    let group = match MemoryGroup::new(64 << 20) {
        Ok(group) => group,
        Err(error) => {
            // Not captured: whoever runs the tests shall see what they did not try.
            return writeln!(stderr(), "no out-of-memory kill was tried: {error}").unwrap();
        }
    };
    // A worker that lives through it and is then killed by its host.
    let gate = Gate::new();
    let beside = hostile("no-command", &gate).build().unwrap();
    let handles = ten(&beside);
    eventually("a worker", || !beside.workers().is_empty());

    let limits = Limits::default().memory_bytes(256 << 20).wall_time(None);
    let pool = wat(GREEDY).limits(limits).build().unwrap();
    pool.run::<()>("ready", ()).unwrap();
    let pid = pool.workers()[0].pid;
    group.add(pid).unwrap();
    let lost = pool.run::<()>("fill", ()).unwrap_err();
    let stockade::RunError::Task(TaskError::WorkerLost(exit)) = &lost else { panic!("{lost:?}") };
    assert_eq!((exit.pid, exit.signal), (pid, Some(9)));
    assert!(exit.out_of_memory, "{exit:?}");
    let said = exit.to_string();
    assert!(said.ends_with("was killed by SIGKILL, most likely because memory ran out"), "{said}");
    open(&gate, &beside, handles.len());
    let TaskError::WorkerLost(exit) = handles[0].result().unwrap_err() else { panic!() };
    assert_eq!((exit.signal, exit.out_of_memory), (Some(9), false));
    // The next worker is in no such group.
    pool.run::<()>("fill", ()).unwrap();
}

#[test]
fn a66_no_worker_and_no_compiler_outlives_a_host_that_is_killed() {
    let workers_gone = workers_of_a_killed_host();
    let compilers_gone = compilers_of_a_killed_host();
    seen(
        66,
        &format!(
            "{workers_gone} workers amid tasks, one of them stopped, and {compilers_gone} compiler amid its work are gone"
        ),
    );
}

fn host(mode: &str, worker: &std::path::Path) -> Child {
    let module = wat_file(
        r#"(module
            (import "stockade" "progress" (func $progress (param i64 i64)))
            (func (export "spin") (result i32)
                (call $progress (i64.const 1) (i64.const 1))
                (loop $l (br $l))
                (i32.const 0)))"#,
    );
    let mut host = Command::new(env!("CARGO_BIN_EXE_host"));
    host.arg(mode).arg(module).env("STOCKADE_WORKER", worker).stdout(Stdio::piped());
    host.spawn().unwrap()
}

fn workers_of_a_killed_host() -> usize {
    let mut host = host("busy", &worker_program());
    let stdout = BufReader::new(host.stdout.take().unwrap());
    let pids: Vec<u32> =
        stdout.lines().take(2).map(|line| line.unwrap().parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    stop_process(pids[0]);
    assert_all_die_with(host, &pids);
    pids.len()
}

fn compilers_of_a_killed_host() -> usize {
    // One that never ends.
    let folder = Folder::new();
    let endless = script(&folder, "touch \"$0.began\"; exec sleep 1000");
    let host = host("busy", &endless);
    let began = endless.with_extension("began");
    eventually("a compiler at work", || began.exists());
    let pids = children_of(host.id());
    assert_all_die_with(host, &pids);
    pids.len()
}

#[track_caller]
fn assert_all_die_with(mut host: Child, pids: &[u32]) {
    host.kill().unwrap();
    host.wait().unwrap();
    for pid in pids {
        eventually("the process to be gone", || !is_alive(*pid));
    }
}

/// Ten tasks of which the first is to be stopped when its worker has just started the second; how they
/// ended, and whether that worker went on.
fn stopped_when_the_next_has_started(evil: &str) -> (Vec<Result<i32, TaskError>>, bool) {
    let gate = Gate::new();
    let pool = hostile(evil, &gate).build().unwrap();
    let handles = ten(&pool);
    open(&gate, &pool, handles.len());
    let ends = Ends::of(&handles);
    eventually("the worker to be at the second", || handles[0].progress().is_some());
    handles[0].cancel_running();
    let results = handles.iter().map(TaskHandle::result).collect();
    let next = pool.submit::<i32>("add", (1, 1)).unwrap();
    assert_eq!(next.result().unwrap(), 7);
    assert!(pool.shutdown());
    ends.assert_once();
    (results, next.report().worker.unwrap().0 == 1)
}

#[test]
fn a_stop_of_a_task_that_has_just_ended_costs_the_next_nothing() {
    let (results, survived) = stopped_when_the_next_has_started("answer-late");
    assert!(results.iter().all(|result| matches!(result, Ok(7))), "{results:?}");
    assert!(survived);
}

#[test]
fn a_worker_that_never_answers_what_is_to_be_stopped_is_killed_all_the_same() {
    let (results, survived) = stopped_when_the_next_has_started("answer-never");
    let while_running = matches!(results[0], Err(TaskError::Cancelled(CancelReason::WhileRunning)));
    assert!(while_running && matches!(results[1], Err(TaskError::WorkerLost(_))), "{results:?}");
    assert!(results[2..].iter().all(|result| matches!(result, Ok(7))), "{results:?}");
    assert!(!survived);
}
