//! Deterministic tasks: what a guest could tell one run from another by is the same in all.

use stockade::{Limits, Pool, TaskReport};

use stockade_tests::wat;

/// Everything that is usually different the next time, each as a number.
const VARYING: &str = r#"(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "stockade" "task_id" (func $task (result i64)))
  (import "stockade" "remaining_ns" (func $remaining (result i64)))
  (memory (export "memory") 1)
  (func (export "random") (result i64)
    (drop (call $random (i32.const 0) (i32.const 8)))
    (i64.load (i32.const 0)))
  (func $clock (export "clock") (param i32) (result i64)
    (drop (call $time (local.get 0) (i64.const 1) (i32.const 0)))
    (i64.load (i32.const 0)))
  (func (export "task") (result i64) (call $task))
  (func (export "remaining") (result i64) (call $remaining))
  ;; Sleeps for an hour by the monotonic clock; gives how long that took.
  (func (export "sleep") (result i64)
    (local $before i64)
    (local.set $before (call $clock (i32.const 1)))
    (i32.store (i32.const 80) (i32.const 1))
    (i64.store (i32.const 88) (i64.const 3600000000000))
    (drop (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 256)))
    (i64.sub (call $clock (i32.const 1)) (local.get $before)))
  ;; Runs for as long as random numbers say.
  (func (export "work") (result i64)
    (local $left i64)
    (drop (call $random (i32.const 0) (i32.const 8)))
    (local.set $left (i64.add (i64.rem_u (i64.load (i32.const 0)) (i64.const 10000)) (i64.const 1)))
    (loop $again
      (local.set $left (i64.sub (local.get $left) (i64.const 1)))
      (br_if $again (i64.gt_s (local.get $left) (i64.const 0))))
    (i64.load (i32.const 0)))
  ;; The bits of a number that is none, of which processors have several.
  (func (export "nan") (param f64) (result i64)
    (i64.reinterpret_f64 (f64.div (local.get 0) (local.get 0)))))"#;

fn pool(seed: u64) -> Pool {
    let limits = Limits::default().deterministic(seed).fuel(u64::MAX);
    wat(VARYING).limits(limits).build().unwrap()
}

/// What each function gives, in an order of the caller's choice.
fn told(pool: &Pool) -> Vec<i64> {
    let call = |name: &str, clock: i32| pool.run::<i64>(name, (clock,)).unwrap();
    let plain = |name: &str| pool.run::<i64>(name, ()).unwrap();
    let mut told = vec![call("clock", 0), call("clock", 1)];
    told.extend(["random", "task", "remaining", "sleep", "work"].map(plain));
    told.push(pool.run::<i64>("nan", (0.0,)).unwrap());
    told
}

fn report(pool: &Pool) -> TaskReport {
    let handle = pool.submit::<i64>("work", ()).unwrap();
    handle.result().unwrap();
    handle.report()
}

#[test]
fn the_same_seed_gives_the_same_results_and_fuel_in_every_run_and_pool() {
    let (one, other) = (pool(7), pool(7));
    let first = told(&one);
    assert_eq!(told(&one), first);
    assert_eq!(told(&other), first);
    let year_2000 = 946_684_800_000_000_000;
    let nan = f64::NAN.to_bits() as i64;
    let tick = 1000;
    assert_eq!((first[0], first[1]), (year_2000 + tick, tick));
    assert_eq!((first[3], first[4], first[7]), (1, i64::MAX, nan));
    let (fuel, memory) = (report(&one).fuel, report(&one).memory_peak_bytes);
    assert!(fuel.is_some_and(|fuel| fuel > 0));
    assert_eq!((report(&other).fuel, report(&other).memory_peak_bytes), (fuel, memory));
}

#[test]
fn another_seed_gives_other_numbers() {
    let (seven, eight) = (told(&pool(7)), told(&pool(8)));
    assert_ne!(seven[2], eight[2]);
    assert_eq!(seven[0], eight[0]);
}

#[test]
fn who_sleeps_wakes_at_once_that_much_later() {
    // The limit of a minute would end who really sleeps.
    let slept = pool(7).run::<i64>("sleep", ()).unwrap();
    assert!(slept >= 3_600_000_000_000, "{slept}");
}

#[test]
fn a_task_has_its_own_seed_where_its_limits_say_so() {
    let pool = pool(7);
    let eight = pool.limits().clone().deterministic(8);
    let options = stockade::TaskOptions::default().limits(eight);
    let handle = pool.submit_with::<i64>("random", (), options).unwrap();
    assert_ne!(handle.result().unwrap(), pool.run::<i64>("random", ()).unwrap());
}
