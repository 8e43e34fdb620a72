//! Functions over numbers that are called for every value of a column, in one instance.

use std::time::Duration;

use stockade_wire::{
    Failure, Finished, Invocation, Limits, Outcome, Placement, PlacementFile, Scalar, SharedMemory,
    TrapKind,
};

use super::support::{Worker, guest, worker};

/// Functions of one number. A parameter that is negative is what most of them fail at.
fn numbers() -> String {
    guest(
        r#"(global $calls (mut i64) (i64.const 0))
           (func (export "double") (param i64) (result i64) (i64.shl (local.get 0) (i64.const 1)))
           (func (export "count") (param i32) (result i64)
            (global.set $calls (i64.add (global.get $calls) (i64.const 1)))
            (global.get $calls))
           (func (export "divide") (param i32) (result i32)
            (i32.div_u (i32.const 100) (local.get 0)))
           (func (export "spin") (param i32) (result i32)
            (loop $again
                (br_if $again (i32.lt_s (local.get 0) (i32.const 0)))
                (br_if $again (i32.gt_s
                    (local.tee 0 (i32.sub (local.get 0) (i32.const 1))) (i32.const 0))))
            (i32.const 0))
           (func (export "grow") (param i32) (result i32)
            (if (i32.lt_s (local.get 0) (i32.const 0)) (then unreachable))
            (memory.grow (local.get 0)))
           (func (export "panic") (param i32) (result i32)
            (if (i32.lt_s (local.get 0) (i32.const 0)) (then unreachable))
            (call $error_write (i32.const 0) (i32.const 8))
            (i32.const 0))
           (func (export "meddle") (param i32) (result i32)
            (call $output_write (i32.const 0) (i32.const 3))
            (call $input_len))
           (func (export "emit") (param i32) (result i32)
            (call $emit (i32.const 0) (local.get 0)) (i32.const 0))
           (func (export "two") (param i32 i32) (result i32) (i32.const 0))
           (func (export "none") (param i32))"#,
    )
}

fn bytes(items: &[i32]) -> Vec<u8> {
    items.iter().flat_map(|item| item.to_le_bytes()).collect()
}

fn long(items: &[i64]) -> Vec<u8> {
    items.iter().flat_map(|item| item.to_le_bytes()).collect()
}

fn column(export: &str, input: &[u8]) -> Invocation {
    Invocation::Column { export: export.into(), input: input.to_vec() }
}

/// How the column of `items` ends.
fn outcome(worker: &mut Worker, export: &str, items: &[i32]) -> Outcome {
    worker.run(column(export, &bytes(items))).outcome
}

fn is_trap_at(outcome: &Outcome, at: u32, trap: TrapKind) -> bool {
    matches!(outcome, Outcome::ItemFailed { index, failure: Failure::Trap { kind, .. } }
        if (*index, *kind) == (at, trap))
}

#[test]
fn every_type_becomes_every_type() {
    const OPERATORS: [[&str; 4]; 4] = [
        ["", "i64.extend_i32_s", "f32.reinterpret_i32", "f64.convert_i32_s"],
        ["i32.wrap_i64", "", "f32.convert_i64_s", "f64.reinterpret_i64"],
        ["i32.reinterpret_f32", "i64.trunc_f32_s", "", "f64.promote_f32"],
        ["i32.trunc_f64_s", "i64.reinterpret_f64", "f32.demote_f64", ""],
    ];
    const TYPES: [&str; 4] = ["i32", "i64", "f32", "f64"];
    // 3 in each type, whose bits are no number's in another.
    let three = [
        3_i32.to_le_bytes().to_vec(),
        3_i64.to_le_bytes().to_vec(),
        3_f32.to_le_bytes().to_vec(),
        3_f64.to_le_bytes().to_vec(),
    ];
    let scalars = [
        Scalar::I32(3),
        Scalar::I64(3),
        Scalar::F32(3_f32.to_bits()),
        Scalar::F64(3_f64.to_bits()),
    ];
    let mut functions = String::new();
    for (from, operators) in OPERATORS.iter().enumerate() {
        for (to, operator) in operators.iter().enumerate() {
            let (param, result) = (TYPES[from], TYPES[to]);
            functions += &format!(
                r#"(func (export "{param}_{result}") (param {param}) (result {result})
                    (local.get 0) {operator})"#
            );
        }
    }
    let mut worker = worker().start_with(&format!("(module {functions})"));
    for (from, param) in TYPES.iter().enumerate() {
        for result in TYPES {
            let name = format!("{param}_{result}");
            let alone = match worker.scalar(&name, &[scalars[from]]) {
                Outcome::Scalars(results) => match results[..] {
                    [Scalar::I32(number)] => number.to_le_bytes().to_vec(),
                    [Scalar::I64(number)] => number.to_le_bytes().to_vec(),
                    [Scalar::F32(bits)] => bits.to_le_bytes().to_vec(),
                    [Scalar::F64(bits)] => bits.to_le_bytes().to_vec(),
                    _ => panic!("{results:?}"),
                },
                other => panic!("{name}: {other:?}"),
            };
            let together = worker.run(column(&name, &three[from].repeat(5))).outcome;
            assert_eq!(together, Outcome::Returned(alone.repeat(5)), "{name}");
        }
    }
}

#[test]
fn a_nan_keeps_its_bits() {
    let same =
        |kind| format!(r#"(func (export "{kind}") (param {kind}) (result {kind}) local.get 0)"#);
    let source = format!("(module {} {})", same("f32"), same("f64"));
    let mut worker = worker().start_with(&source);
    let single = [0x7fa0_0001_u32, 0xffc1_2345, 0x8000_0000].map(u32::to_le_bytes).concat();
    assert_eq!(worker.run(column("f32", &single)).outcome, Outcome::Returned(single));
    let double = [0x7ff4_dead_beef_0001_u64, 0xfff8_0000_0000_0007].map(u64::to_le_bytes).concat();
    assert_eq!(worker.run(column("f64", &double)).outcome, Outcome::Returned(double));
}

#[test]
fn items_share_an_instance_that_no_other_column_sees() {
    let mut worker = worker().start_with(&numbers());
    for _ in 0..2 {
        assert_eq!(outcome(&mut worker, "count", &[0; 3]), Outcome::Returned(long(&[1, 2, 3])));
    }
    let mut worker = super::support::worker().per_worker().start_with(&numbers());
    assert_eq!(outcome(&mut worker, "count", &[0; 2]), Outcome::Returned(long(&[1, 2])));
    assert_eq!(outcome(&mut worker, "count", &[0; 2]), Outcome::Returned(long(&[3, 4])));
}

#[test]
fn columns_may_be_empty_and_longer_than_what_is_read_at_a_time() {
    let mut worker = worker().start_with(&numbers());
    assert_eq!(outcome(&mut worker, "double", &[]), Outcome::Returned(Vec::new()));
    let items: Vec<i64> = (0..10_001).collect();
    let doubles: Vec<i64> = items.iter().map(|item| 2 * item).collect();
    let ended = worker.run(column("double", &long(&items))).outcome;
    assert!(ended == Outcome::Returned(long(&doubles)));
}

#[test]
fn a_trap_names_its_item_and_ends_the_instance() {
    let mut worker = worker().start_with(&numbers());
    let ended = outcome(&mut worker, "divide", &[1, 2, 0, 4]);
    assert!(is_trap_at(&ended, 2, TrapKind::DivisionByZero), "{ended:?}");
    let mut many = vec![1; 9000];
    many[8999] = 0;
    let ended = outcome(&mut worker, "divide", &many);
    assert!(is_trap_at(&ended, 8999, TrapKind::DivisionByZero), "{ended:?}");
    assert_eq!(outcome(&mut worker, "divide", &[50]), Outcome::Returned(bytes(&[2])));
    let mut worker = super::support::worker().per_worker().start_with(&numbers());
    assert_eq!(outcome(&mut worker, "count", &[0]), Outcome::Returned(long(&[1])));
    assert!(is_trap_at(&outcome(&mut worker, "divide", &[0]), 0, TrapKind::DivisionByZero));
    assert_eq!(outcome(&mut worker, "count", &[0]), Outcome::Returned(long(&[1])));
}

#[test]
fn what_is_no_column_of_a_function_is_refused_before_any_call() {
    let mut worker = worker().start_with(&numbers());
    for (export, input) in [("divide", 3), ("double", 12), ("two", 8), ("none", 4), ("gone", 4)] {
        let ended = worker.run(column(export, &vec![0; input])).outcome;
        assert!(matches!(ended, Outcome::Failed(Failure::Guest(_))), "{export}: {ended:?}");
    }
}

#[test]
fn results_have_a_limit_together() {
    let limits = Limits::default().output_bytes(12);
    let mut worker = worker().limits(limits).start_with(&numbers());
    assert_eq!(outcome(&mut worker, "divide", &[100; 3]), Outcome::Returned(bytes(&[1; 3])));
    let expected = Outcome::Failed(Failure::Output { limit: 12 });
    assert_eq!(outcome(&mut worker, "divide", &[100; 4]), expected);
    // What an item emits counts too: nothing is left for it besides the results.
    let ended = outcome(&mut worker, "emit", &[0; 3]);
    let expected = Outcome::ItemFailed { index: 0, failure: Failure::Output { limit: 12 } };
    assert_eq!(ended, expected);
}

#[test]
fn each_item_has_the_fuel_for_itself() {
    let limits = Limits::default().fuel(10_000);
    let mut worker = worker().limits(limits).start_with(&numbers());
    let fuel = |finished: &Finished| finished.metrics.fuel.unwrap();
    let one = worker.run(column("spin", &bytes(&[500])));
    let many = worker.run(column("spin", &bytes(&[500; 50])));
    assert_eq!(many.outcome, Outcome::Returned(bytes(&[0; 50])));
    assert_eq!(fuel(&many), 50 * fuel(&one));
    assert!(fuel(&many) > 10_000);
    let ended = outcome(&mut worker, "spin", &[500, 1_000_000, 1]);
    let expected = Outcome::ItemFailed { index: 1, failure: Failure::Fuel { limit: 10_000 } };
    assert_eq!(ended, expected);
}

#[test]
fn a_deadline_names_its_item() {
    let limits = Limits::default().interruptible(true).wall_time(Duration::from_millis(50));
    let mut worker = worker().limits(limits).start_with(&numbers());
    let ended = outcome(&mut worker, "spin", &[1, -1, 1]);
    let is_late =
        matches!(ended, Outcome::ItemFailed { index: 1, failure: Failure::Deadline { .. } });
    assert!(is_late, "{ended:?}");
    assert_eq!(outcome(&mut worker, "spin", &[1]), Outcome::Returned(bytes(&[0])));
}

#[test]
fn an_item_is_not_blamed_for_what_those_before_it_were_refused_or_said() {
    let limits = Limits::default().memory_bytes(4 << 16);
    let mut worker = worker().limits(limits).start_with(&numbers());
    let ended = outcome(&mut worker, "grow", &[100, 0, -1]);
    assert!(is_trap_at(&ended, 2, TrapKind::Unreachable), "{ended:?}");
    let ended = outcome(&mut worker, "panic", &[1, -1]);
    assert!(is_trap_at(&ended, 1, TrapKind::Unreachable), "{ended:?}");
}

#[test]
fn an_item_has_no_input_and_writes_no_output_through_its_host() {
    let mut worker = worker().start_with(&numbers());
    assert_eq!(outcome(&mut worker, "meddle", &[7; 3]), Outcome::Returned(bytes(&[0; 3])));
}

#[test]
fn a_long_column_lies_in_a_file_and_its_results_take_its_place() {
    let mut worker = worker().start_with(&numbers());
    let items: Vec<i64> = (0..20_000).collect();
    let doubles: Vec<i64> = items.iter().map(|item| 2 * item).collect();
    let mut memory = SharedMemory::create(items.len() * 8).unwrap();
    memory.put(&long(&items));
    let place = PlacementFile::Kept { file: 0, is_new: true };
    let mut run = worker.next_run(worker.limits.clone(), column("double", b""));
    run.placement = Some(Placement { bytes: memory.bytes() as u64, place });
    worker.offer(run, &[memory.descriptor()]);
    assert_eq!(worker.finished().outcome, Outcome::InFile(memory.bytes() as u64));
    let mut results = Vec::new();
    memory.read_into(memory.bytes(), &mut results);
    assert!(results == long(&doubles));
}
