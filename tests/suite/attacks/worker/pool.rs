//! 75, 76 and 78: a pool with a module that kills workers, state that processes inherit, and data
//! that one task leaves for the next.

use stockade::{Bytes, Fault, Limits, RunError, SharedBuffer, SubmitError, TaskError, TaskHandle};
use stockade_tests::{
    Gate, INHERITED, guest_pool, int, kill, make_inheritable, tasks, until_running, wat,
};

use super::super::seen;
use super::{Ends, cost_of};
use crate::quarantine::{kill_workers, refusal, two_modules};

#[test]
fn a75_a_module_that_kills_its_workers_is_quarantined_and_the_others_go_on() {
    let gate = Gate::new();
    let pool = two_modules(&gate).build().unwrap();
    kill_workers(&pool, 2);
    let last = pool.submit::<()>(("test", "spin"), int(0)).unwrap();
    until_running(&last);
    let pending: Vec<TaskHandle<Vec<u8>>> =
        (0..5).map(|i| pool.submit(("test", "echo"), int(i)).unwrap()).collect();
    let others: Vec<_> =
        (0..5).map(|i| pool.submit::<i32>(("other", "add"), (i, 1)).unwrap()).collect();
    let ends = (Ends::of(&pending), Ends::of(&others));
    let pid = pool.workers()[0].pid;
    kill(pid);
    assert!(matches!(last.result(), Err(TaskError::WorkerLost(_))));
    for handle in &pending {
        let error = handle.result().unwrap_err();
        assert_eq!(error.fault(), Fault::Guest);
        let TaskError::Quarantined(quarantine) = error else { panic!("{error:?}") };
        assert_eq!((&quarantine.module[..], quarantine.deaths), ("test", 3));
        assert_eq!((quarantine.last.pid, quarantine.last.signal), (pid, Some(9)));
        assert!(handle.is_cancelled());
    }
    for (number, handle) in (0..).zip(&others) {
        assert_eq!(handle.result().unwrap(), number + 1);
    }
    let told = refusal(&pool).expect("a refusal");
    assert_eq!((&told.module[..], told.deaths), ("test", 3));
    let run = pool.run::<Vec<u8>>(("test", "echo"), int(1));
    assert!(matches!(run, Err(RunError::Submit(SubmitError::Quarantined(_)))));
    assert!(pool.check().is_ok() && !pool.is_broken(), "the pool itself is well");
    let cancelled: Vec<_> = pool.cancelled_tasks().iter().map(|task| task.id).collect();
    assert_eq!(cancelled, pending.iter().map(TaskHandle::task_id).collect::<Vec<_>>());
    assert!(pool.shutdown());
    ends.0.assert_once();
    ends.1.assert_once();
    seen(
        75,
        "after the third death its five waiting tasks end as quarantined; five of another module have their results, the pool is well",
    );
}

#[test]
fn a76_nothing_that_the_host_left_open_reaches_a_worker_or_a_compiler() {
    // Inheritable, as a careless library would leave it, at a low number and at a high one.
    let leak = std::fs::File::open("/dev/null").unwrap();
    make_inheritable(&leak);
    let high = std::fs::File::from(rustix::io::fcntl_dupfd_cloexec(&leak, 900).unwrap());
    make_inheritable(&high);
    // Its compiler compiles nothing where it finds anything else.
    let cost = cost_of("inherited");
    assert!(cost.errors.is_empty() && cost.survived, "{:?}", cost.errors);
    let told: Vec<_> = cost
        .reports
        .iter()
        .map(|report| String::from_utf8_lossy(&report.stdout.bytes))
        .filter(|told| !told.is_empty())
        .collect();
    assert_eq!(told, [INHERITED]);
    seen(76, &format!("worker and compiler begin with: {INHERITED}"));
}

/// Looks at everything that it has before it fills it: the memory that it begins with, what that
/// grows by, a global, a table.
const WITNESS: &str = r#"(module
    (import "stockade" "input_len" (func $input_len (result i32)))
    (import "stockade" "input_map" (func $input_map (param i32 i32) (result i32)))
    (memory (export "memory") 4)
    (table $table 8 funcref)
    (elem declare func $itself)
    (data (i32.const 65544) "its own!")
    (global $runs (mut i32) (i32.const 0))
    (func $itself)
    ;; Counts what is neither zero nor its own, in words of eight bytes; then fills all with `mark`.
    (func $look_then_fill (export "look_then_fill") (param $pages i32) (param $mark i32) (result i32)
        (local $at i32) (local $end i32) (local $foreign i32)
        (local.set $foreign (global.get $runs))
        (global.set $runs (local.get $mark))
        (local.set $foreign
            (i32.add (local.get $foreign)
                (i32.eqz (ref.is_null (table.get $table (i32.const 7))))))
        (table.fill $table (i32.const 0) (ref.func $itself) (i32.const 8))
        (if (i64.ne (i64.load (i32.const 65544)) (i64.const 0x216e776f20737469))
            (then (local.set $foreign (i32.add (local.get $foreign) (i32.const 1)))))
        (i64.store (i32.const 65544) (i64.const 0))
        (if (i32.eq (memory.grow (local.get $pages)) (i32.const -1)) (then unreachable))
        (local.set $end (i32.mul (memory.size) (i32.const 65536)))
        (loop $again
            (if (i64.ne (i64.load (local.get $at)) (i64.const 0))
                (then (local.set $foreign (i32.add (local.get $foreign) (i32.const 1)))))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br_if $again (i32.lt_u (local.get $at) (local.get $end))))
        (memory.fill (i32.const 0) (local.get $mark) (local.get $end))
        (local.get $foreign))
    ;; Fills what it was lent, and all else, with 0xab.
    (func $borrow (result i32) (local $pages i32)
        (local.set $pages (i32.shr_u (call $input_len) (i32.const 16)))
        (if (i32.eqz (call $input_map
                (i32.shl (memory.grow (local.get $pages)) (i32.const 16)) (call $input_len)))
            (then unreachable))
        (memory.fill (i32.const 0) (i32.const 0xab) (i32.shl (memory.size) (i32.const 16)))
        (i32.const 0))
    (func (export "borrow") (result i32) (call $borrow))
    (func (export "borrow_then_trap") (result i32) (drop (call $borrow)) unreachable)
    (func (export "fill_then_trap") (param $pages i32) (param $mark i32)
        (drop (call $look_then_fill (local.get $pages) (local.get $mark)))
        unreachable))"#;

/// Takes 512 MiB and writes them forever.
const EATER: &str = r#"(module
    (import "stockade" "progress" (func $progress (param i64 i64)))
    (memory (export "memory") 8192)
    (func (export "eat") (result i32)
        (loop $again
            (memory.fill (i32.const 0) (i32.const 0xee) (i32.const 0x20000000))
            (call $progress (i64.const 1) (i64.const 1))
            (br $again))
        (i32.const 0)))"#;

#[test]
fn a78_no_task_finds_a_byte_of_another_also_when_memory_is_short() {
    let unlimited = Limits::default().wall_time(None);
    let eater = wat(EATER).limits(unlimited.clone().memory_bytes(512 << 20)).build().unwrap();
    let eating = eater.submit::<i32>("eat", ()).unwrap();
    until_running(&eating);
    let limits = unlimited.memory_bytes(16 << 20);
    let pool = wat(WITNESS).limits(limits).max_workers(2).build().unwrap();
    let lend = |number: i32| {
        let buffer = SharedBuffer::new((1 + number as usize * 37 % 200) << 16).unwrap();
        let task = if number % 20 < 10 { "borrow" } else { "borrow_then_trap" };
        pool.submit::<Vec<u8>>(task, buffer).unwrap()
    };
    let mut borrowers = Vec::new();
    let tasks: Vec<_> = (0..300)
        .map(|number| {
            // Sizes that rise and fall, to the limit.
            let arguments = (number * 37 % 253, 1 + number % 255);
            if number % 10 == 4 {
                borrowers.push(lend(number));
            }
            if number % 10 == 9 {
                return Err(pool.submit::<()>("fill_then_trap", arguments).unwrap());
            }
            Ok(pool.submit::<i32>("look_then_fill", arguments).unwrap())
        })
        .collect();
    let mut looked = 0;
    for task in tasks {
        match task {
            Ok(looker) => {
                assert_eq!(looker.result().unwrap(), 0, "words of others");
                looked += 1;
            }
            Err(trapped) => {
                assert!(matches!(trapped.result(), Err(TaskError::Trap { .. })), "{trapped:?}");
            }
        }
    }
    for borrower in &borrowers {
        borrower.wait(None);
        let bytes = borrower.take_buffer().unwrap().to_vec();
        assert!(bytes.iter().all(|byte| *byte == 0xab), "another wrote where it was mapped");
    }
    assert!(!eating.is_done(), "memory was short all the while");
    assert!(eater.kill());
    seen(
        78,
        &format!(
            "{looked} tasks of up to 16 MiB, on 2 workers, some after one that trapped or that was lent memory, beside one that writes 512 MiB: no byte but zeros and their own, and in {} lent buffers none of theirs",
            borrowers.len()
        ),
    );
}

#[test]
fn memory_that_one_task_filled_is_empty_for_the_next() {
    let pool = guest_pool("probe").build().unwrap();
    let before: Vec<String> = pool.run("remembered", ()).unwrap();
    assert!(before.is_empty());
    pool.run::<()>("remember", (vec!["secret"; 1000], 5_u64)).unwrap();
    assert!(pool.run::<Vec<String>>("remembered", ()).unwrap().is_empty());
    assert_eq!(pool.run::<u64>("count", ()).unwrap(), 1);
    let pool = tasks().build().unwrap();
    pool.run::<Vec<u8>>("start_counting_at", int(77)).unwrap();
    let sum: Vec<u8> = pool.run("sum_of_page", int(0)).unwrap();
    assert_eq!(sum, [0; 4]);
}

#[test]
fn inputs_and_results_of_one_task_never_reach_another() {
    let limits = Limits::default().memory_bytes(32 << 20);
    let pool = tasks().limits(limits).max_workers(2).build().unwrap();
    let inputs: Vec<_> =
        (0..200u32).map(|i| vec![i as u8; 1 + (i as usize * 977) % 30_000]).collect();
    let handles: Vec<_> = inputs
        .iter()
        .map(|input| pool.submit::<Vec<u8>>("echo", Bytes(input.clone())).unwrap())
        .collect();
    let ends = Ends::of(&handles);
    for (input, handle) in inputs.iter().zip(&handles) {
        assert!(&handle.result().unwrap() == input);
    }
    assert!(pool.shutdown());
    ends.assert_once();
}
