//! Inputs that lie in files: how a guest gets at them, and what is left of that afterwards.

use std::os::fd::AsFd;

use stockade_wire::descriptor::memory_file;
use stockade_wire::{
    ChunkId, Failure, Finished, HostMessage, Limits, Outcome, PAYLOAD_KEPT_BYTES_MAX, Placement,
    PlacementFile, SharedMemory, TaskId, TrapKind,
};

use super::support::{Builder, MODULE, Worker, guest, task, worker};
use crate::session::SessionError;

/// Three pages of WebAssembly and a bit.
const BYTES: usize = 200_000;

const LENT: PlacementFile = PlacementFile::Lent;
const NEW: PlacementFile = PlacementFile::Kept { file: 0, is_new: true };
const SAME: PlacementFile = PlacementFile::Kept { file: 0, is_new: false };

/// Tasks that map their input at `$at`, which the instance grows once and remembers.
fn mapping() -> String {
    guest(
        r#"(global $at (mut i32) (i32.const 0))
           (func $round (param i32) (result i32)
            (i32.and (i32.add (local.get 0) (i32.const 65535)) (i32.const -65536)))
           (func $place (param $bytes i32) (result i32)
            (if (i32.eqz (global.get $at)) (then
                (global.set $at (i32.shl
                    (memory.grow (i32.shr_u (call $round (local.get $bytes)) (i32.const 16)))
                    (i32.const 16)))))
            (global.get $at))
           (func $map (result i32)
            (call $input_map (call $place (call $input_len)) (call $round (call $input_len))))
           (func $refuse (call $error_write (i32.const 0) (i32.const 0)) unreachable)
           (func $mapped (if (i32.eqz (call $map)) (then (call $refuse))))
           (func $give (call $output_write (global.get $at) (call $input_len)))
           (func $next (param $i i32)
            (i32.store8 (i32.add (global.get $at) (local.get $i))
                (i32.add (i32.const 1)
                    (i32.load8_u (i32.add (global.get $at) (local.get $i))))))
           (func (export "next") (result i32)
            (call $mapped)
            (call $next (i32.const 0))
            (call $next (i32.sub (call $input_len) (i32.const 1)))
            (call $give)
            (i32.const 0))
           (func (export "trap") (result i32)
            (call $mapped) (call $next (i32.const 0)) (call $give) unreachable)
           (func (export "exit") (result i32)
            (call $mapped) (call $proc_exit (i32.const 3)) (i32.const 0))
           (func (export "fail") (result i32) (call $mapped) (i32.const 1))
           (func (export "spin") (result i32)
            (call $mapped) (loop $ever (br $ever)) (i32.const 0))
           (func (export "twice") (result i32)
            (call $mapped)
            (if (call $map) (then unreachable))
            (drop (memory.grow (i32.const 1)))
            (if (call $input_map (i32.add (global.get $at) (i32.const 65536))
                    (call $round (call $input_len)))
                (then unreachable))
            (call $give)
            (i32.const 0))
           (func (export "more") (result i32)
            (call $mapped) (call $give) (call $give) (i32.const 0))
           (func (export "part") (result i32)
            (call $mapped)
            (call $output_write (global.get $at) (i32.const 3))
            (i32.const 0))
           (func (export "read") (result i32)
            (call $input_read (call $place (call $input_len)) (i32.const 0) (call $input_len))
            (call $give)
            (i32.const 0))
           (func (export "hash") (result i32) (local $i i32) (local $sum i32)
            (loop $again
                (call $input_read (i32.const 8) (local.get $i) (i32.const 1))
                (local.set $sum (i32.add (local.get $sum) (i32.load8_u (i32.const 8))))
                (br_if $again (i32.lt_u
                    (local.tee $i (i32.add (local.get $i) (i32.const 50000))) (call $input_len))))
            (i32.store (i32.const 8) (local.get $sum))
            (call $output_write (i32.const 8) (i32.const 4))
            (i32.const 0))
           ;; Pointer, length, pages to grow by first: whether it maps the input there.
           (func (export "try") (result i32)
            (call $input_read (i32.const 0) (i32.const 0) (i32.const 12))
            (drop (memory.grow (i32.load (i32.const 8))))
            (i32.store (i32.const 0)
                (call $input_map (i32.load (i32.const 0)) (i32.load (i32.const 4))))
            (call $output_write (i32.const 0) (i32.const 1))
            (i32.const 0))
           ;; How many of so many bytes are not zero where an input would be mapped.
           (func (export "peek") (result i32) (local $i i32) (local $end i32) (local $found i32)
            (call $input_read (i32.const 0) (i32.const 0) (i32.const 4))
            (local.set $i (call $place (i32.load (i32.const 0))))
            (local.set $end (i32.add (local.get $i) (call $round (i32.load (i32.const 0)))))
            (loop $again
                (local.set $found (i32.add (local.get $found)
                    (i32.ne (i32.const 0) (i32.load8_u (local.get $i)))))
                (br_if $again (i32.lt_u
                    (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $end))))
            (i32.store (i32.const 0) (local.get $found))
            (call $output_write (i32.const 0) (i32.const 4))
            (i32.const 0))
           (func (export "poke") (result i32)
            (call $input_read (i32.const 0) (i32.const 0) (i32.const 4))
            (memory.fill (call $place (i32.load (i32.const 0))) (i32.const 7)
                (i32.load (i32.const 0)))
            (i32.const 0))"#,
    )
}

struct Bench {
    worker: Worker,
    limits: Limits,
    chunk: Option<ChunkId>,
}

impl Bench {
    fn of(builder: Builder, limits: Limits) -> Self {
        let mut worker = builder.limits(limits.clone()).start();
        worker.load(&mapping());
        Self { worker, limits, chunk: None }
    }

    fn new() -> Self {
        Self::of(worker(), Limits::default())
    }

    /// Runs `export` with its input in `memory`.
    fn run(&mut self, export: &str, memory: &SharedMemory, place: PlacementFile) -> Finished {
        let placement = Placement { bytes: memory.bytes() as u64, place };
        self.send(export, placement, memory.descriptor());
        self.worker.finished()
    }

    fn send(&mut self, export: &str, placement: Placement, file: impl AsFd) {
        let mut run = self.worker.next_run(self.limits.clone(), task(export, b""));
        (run.placement, run.share) = (Some(placement), self.chunk);
        let brought = placement.brings_descriptor().then_some(file.as_fd());
        self.worker.offer(run, brought.as_slice());
    }

    fn number(&mut self, export: &str, input: i32) -> Outcome {
        self.worker.run_in(self.chunk, task(export, &input.to_le_bytes())).outcome
    }

    /// Sees that nothing is left of what was mapped, and that nobody is reached where it was.
    #[track_caller]
    fn assert_gone(&mut self, memory: &SharedMemory) {
        let before = contents(memory);
        let none = Outcome::Returned(vec![0; 4]);
        assert_eq!(self.number("peek", BYTES as i32), none, "bytes of another task");
        assert_eq!(self.number("poke", BYTES as i32), Outcome::Returned(Vec::new()));
        assert!(contents(memory) == before, "a task changed what was another's");
    }
}

fn memory(bytes: usize) -> SharedMemory {
    let mut memory = SharedMemory::create(bytes).unwrap();
    memory.put(&vec![5; bytes]);
    memory
}

fn contents(memory: &SharedMemory) -> Vec<u8> {
    let mut bytes = Vec::new();
    memory.read_into(memory.bytes(), &mut bytes);
    bytes
}

#[test]
fn a_mapped_input_is_changed_where_it_is_and_is_the_result() {
    let mut bench = Bench::new();
    let memory = memory(BYTES);
    for (round, place) in [LENT, NEW, SAME].into_iter().enumerate() {
        let finished = bench.run("next", &memory, place);
        assert_eq!(finished.outcome, Outcome::InFile(BYTES as u64));
        let mut expected = vec![5; BYTES];
        expected[0] += round as u8 + 1;
        expected[BYTES - 1] += round as u8 + 1;
        assert!(contents(&memory) == expected);
        bench.assert_gone(&memory);
    }
}

#[test]
fn nothing_of_a_mapped_input_is_left_however_its_task_ends() {
    let interruptible = Limits::default().interruptible(true);
    let interruptible = interruptible.wall_time(std::time::Duration::from_millis(50));
    let fuel = Limits::default().fuel(20_000_000);
    let small = Limits::default().output_bytes(BYTES as u64 + 10);
    for (export, limits) in [
        ("next", Limits::default()),
        ("trap", Limits::default()),
        ("exit", Limits::default()),
        ("fail", Limits::default()),
        ("twice", Limits::default()),
        ("part", Limits::default()),
        ("more", small),
        ("spin", interruptible),
        ("spin", fuel),
    ] {
        let mut bench = Bench::of(worker(), limits);
        for place in [LENT, NEW] {
            let memory = memory(BYTES);
            let outcome = bench.run(export, &memory, place).outcome;
            let fails = !["next", "twice", "part"].contains(&export);
            assert_eq!(matches!(outcome, Outcome::Failed(_)), fails, "{export}: {outcome:?}");
            bench.limits.wall_time = None;
            bench.assert_gone(&memory);
            bench.limits.wall_time = Some(std::time::Duration::from_millis(50));
        }
    }
}

#[test]
fn an_instance_that_lives_on_finds_zeros_where_an_input_was_mapped() {
    let shared = || Bench { chunk: Some(ChunkId(1)), ..Bench::new() };
    let living = || Bench::of(worker().per_worker(), Limits::default());
    for mut bench in [shared(), living()] {
        let memory = memory(BYTES);
        for _ in 0..3 {
            bench.run("next", &memory, LENT);
            let none = Outcome::Returned(vec![0; 4]);
            assert_eq!(bench.number("peek", BYTES as i32), none);
        }
        bench.run("trap", &memory, LENT);
        bench.assert_gone(&memory);
    }
}

#[test]
fn a_guest_that_knows_of_no_mapping_reads_its_input_as_ever() {
    let mut bench = Bench::new();
    let mut memory = memory(BYTES);
    memory.write_at(150_000, &[100]);
    let sum = Outcome::Returned((4 * 5 - 5 + 100_i32).to_le_bytes().to_vec());
    for place in [LENT, NEW, SAME] {
        assert_eq!(bench.run("hash", &memory, place).outcome, sum);
    }
    let echoed = bench.run("read", &memory, LENT).outcome;
    assert_eq!(echoed, Outcome::Returned(contents(&memory)));
    memory.put(&vec![9; BYTES]);
    let echoed = bench.run("read", &memory, NEW).outcome;
    assert_eq!(echoed, Outcome::InFile(BYTES as u64), "a long result takes the input's place");
    assert!(contents(&memory) == vec![9; BYTES]);
}

#[test]
fn a_result_of_more_or_less_than_the_input_is_copied() {
    let mut bench = Bench::new();
    let memory = memory(BYTES);
    assert_eq!(bench.run("more", &memory, LENT).outcome, Outcome::Returned(vec![5; 2 * BYTES]));
    assert_eq!(bench.run("part", &memory, LENT).outcome, Outcome::Returned(vec![5; 3]));
}

#[test]
fn a_result_in_place_counts_unless_its_memory_was_lent() {
    let limit = |bytes| Bench::of(worker(), Limits::default().output_bytes(bytes));
    let memory = memory(BYTES);
    let in_place = Outcome::InFile(BYTES as u64);
    assert_eq!(limit(BYTES as u64).run("next", &memory, NEW).outcome, in_place);
    let tight = limit(BYTES as u64 - 1).run("next", &memory, NEW).outcome;
    assert!(matches!(tight, Outcome::Failed(Failure::Output { .. })), "{tight:?}");
    assert_eq!(limit(0).run("next", &memory, LENT).outcome, in_place);
}

#[test]
fn an_input_is_mapped_over_whole_pages_that_the_guest_has_grown_and_nothing_else() {
    const PAGE: u32 = 65_536;
    // Three pages of it.
    let length = (BYTES as u32).next_multiple_of(PAGE);
    let mut bench = Bench::new();
    let mut memory = memory(BYTES);
    let mut attempt = |pointer: u32, length: u32, pages: u32| {
        let input: Vec<u8> =
            [pointer, length, pages].iter().flat_map(|n| n.to_le_bytes()).collect();
        memory.write_at(0, &input);
        let outcome = bench.run("try", &memory, LENT).outcome;
        bench.assert_gone(&memory);
        outcome
    };
    let answer = |mapped: u8| Outcome::Returned(vec![mapped]);
    for (pointer, length, pages, mapped) in [
        (PAGE, length, 4, 1),
        (2 * PAGE, length, 5, 1),
        // Below what the guest has grown.
        (0, length, 4, 0),
        // Not at a page, though at one of the system's.
        (PAGE + 4096, length, 5, 0),
        (PAGE + 1, length, 5, 0),
        // Less or more than the input.
        (PAGE, length - PAGE, 4, 0),
        (PAGE, length + PAGE, 9, 0),
        (PAGE, BYTES as u32, 4, 0),
        (PAGE, 0, 4, 0),
    ] {
        assert_eq!(attempt(pointer, length, pages), answer(mapped), "{pointer:#x} {length:#x}");
    }
    for (pointer, length, pages) in [
        (PAGE, length, 3),
        (2 * PAGE, length, 4),
        (u32::MAX - PAGE + 1, length, 4),
        (u32::MAX, u32::MAX, 4),
        (PAGE, u32::MAX, 4),
    ] {
        let outcome = attempt(pointer, length, pages);
        let trap = TrapKind::MemoryOutOfBounds;
        let is_trap =
            matches!(outcome, Outcome::Failed(Failure::Trap { kind, .. }) if kind == trap);
        assert!(is_trap, "{pointer:#x} {length:#x}: {outcome:?}");
    }
}

#[test]
fn an_input_that_came_with_its_message_is_not_mapped_and_neither_is_none() {
    let mut bench = Bench::new();
    let inline = bench.worker.task("try", &[[0, 0, 1, 0], [0, 0, 1, 0], [2, 0, 0, 0]].concat());
    assert_eq!(inline.outcome, Outcome::Returned(vec![0]));
    let empty = SharedMemory::create(0).unwrap();
    let refused = bench.run("next", &empty, LENT).outcome;
    assert!(matches!(refused, Outcome::Failed(Failure::Trap { .. })), "{refused:?}");
    assert_eq!(bench.run("read", &empty, LENT).outcome, Outcome::Returned(Vec::new()));
}

#[test]
fn an_input_that_is_larger_than_the_memory_is_as_out_of_reach_as_any() {
    let limits = Limits::default().memory_bytes(2 << 20);
    let mut bench = Bench::of(worker(), limits);
    let large = SharedMemory::create(3 << 20).unwrap();
    let outcome = bench.run("next", &large, LENT).outcome;
    // Its growth was refused, so it has no such place.
    assert!(matches!(outcome, Outcome::Failed(Failure::Trap { .. })), "{outcome:?}");
    bench.assert_gone(&large);
}

#[test]
fn a_file_is_kept_until_another_takes_its_number_unless_it_is_too_long() {
    let mut bench = Bench::new();
    let (first, mut second) = (memory(BYTES), memory(BYTES));
    second.put(&[6; BYTES]);
    let sum = |byte: i32| Outcome::Returned((byte * 4).to_le_bytes().to_vec());
    let other = PlacementFile::Kept { file: 1, is_new: true };
    assert_eq!(bench.run("hash", &first, NEW).outcome, sum(5));
    assert_eq!(bench.run("hash", &second, other).outcome, sum(6));
    assert_eq!(bench.run("hash", &first, SAME).outcome, sum(5));
    assert_eq!(bench.run("hash", &second, NEW).outcome, sum(6));
    assert_eq!(bench.run("hash", &second, SAME).outcome, sum(6));
    let long = SharedMemory::create(PAYLOAD_KEPT_BYTES_MAX + 1).unwrap();
    bench.run("read", &long, NEW);
    bench.send("hash", Placement { bytes: 1, place: SAME }, long.descriptor());
    assert!(matches!(bench.worker.end(), Err(SessionError::Protocol(_))));
}

#[test]
fn a_task_that_was_taken_back_leaves_its_file_for_the_next() {
    let mut bench = Bench::new();
    let memory = memory(BYTES);
    let mut run = bench.worker.next_run(bench.limits.clone(), task("hash", b""));
    run.placement = Some(Placement { bytes: BYTES as u64, place: NEW });
    // Never offered.
    bench.worker.send(&HostMessage::Run(run), &[memory.descriptor()]);
    assert_eq!(bench.worker.finished().outcome, Outcome::Recalled);
    let sum = Outcome::Returned(20_i32.to_le_bytes().to_vec());
    assert_eq!(bench.run("hash", &memory, SAME).outcome, sum);
}

#[test]
fn a_payload_that_is_not_where_it_should_be_ends_the_session() {
    let memory = memory(BYTES);
    let shrinkable = memory_file("shrinkable").unwrap();
    shrinkable.set_len(BYTES as u64).unwrap();
    let kept = |file, is_new| PlacementFile::Kept { file, is_new };
    let whole = memory.bytes() as u64;
    for (place, bytes) in
        [(kept(0, false), 1), (kept(2, true), 1), (kept(255, false), 1), (LENT, whole + 4096)]
    {
        let mut bench = Bench::new();
        bench.send("hash", Placement { bytes, place }, memory.descriptor());
        assert!(matches!(bench.worker.end(), Err(SessionError::Protocol(_))), "{place:?}");
    }
    let mut bench = Bench::new();
    bench.send("hash", Placement { bytes: 1, place: LENT }, &shrinkable);
    assert!(matches!(bench.worker.end(), Err(SessionError::Protocol(_))));
    let mut bare = Bench::new();
    let mut run = bare.worker.next_run(Limits::default(), task("hash", b""));
    run.placement = Some(Placement { bytes: 1, place: LENT });
    assert_eq!((run.tasks.first(), run.module), (TaskId(1), MODULE));
    bare.worker.offer(run, &[]);
    assert!(matches!(bare.worker.end(), Err(SessionError::Protocol(_))));
}
