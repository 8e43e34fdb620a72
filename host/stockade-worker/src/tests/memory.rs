//! Guest memory: what one task leaves and the next must not find, through everything that writes to it.

use std::os::fd::AsFd;

use stockade_wire::descriptor::memory_file;
use stockade_wire::{
    ChunkId, Failure, Features, Grants, HostMessage, Invocation, Limits, Outcome, Placement,
    PlacementFile, Scalar, SharedMemory, TrapKind,
};

use super::support::{Worker, command, from_start, guest, task, worker};
use crate::alone::Alone;

/// A guest of so many pages, with data at the beginning and the end of them, and functions to write and
/// to look at all of it.
fn witness(pages: u32) -> String {
    let bytes = u64::from(pages) << 16;
    let last = bytes - 5;
    format!(
        r#"(module (memory (export "memory") {pages})
            (data (i32.const 0) "begin") (data (i32.const {last}) "-end-")
            (func (export "write") (param $from i32) (param $end i32) (param $stride i32)
                (loop $again
                    (i32.store (local.get $from) (i32.const -1))
                    (br_if $again (i32.lt_u
                        (local.tee $from (i32.add (local.get $from) (local.get $stride)))
                        (local.get $end)))))
            (func (export "fill") (param $from i32) (param $bytes i32)
                (memory.fill (local.get $from) (i32.const 0xab) (local.get $bytes)))
            (func (export "grow_and_fill") (param $pages i32) (result i32) (local $at i32)
                (local.set $at (i32.shl (memory.grow (local.get $pages)) (i32.const 16)))
                (memory.fill (local.get $at) (i32.const 0xcd)
                    (i32.shl (local.get $pages) (i32.const 16)))
                (local.get $at))
            (func $hash (param $from i32) (param $end i32) (result i64) (local $h i64)
                (loop $again
                    (local.set $h (i64.mul (i64.const 0x100000001b3) (i64.xor
                        (local.get $h) (i64.load (local.get $from)))))
                    (br_if $again (i32.lt_u
                        (local.tee $from (i32.add (local.get $from) (i32.const 8)))
                        (local.get $end))))
                (local.get $h))
            (func (export "look") (result i64)
                (call $hash (i32.const 0) (i32.shl (memory.size) (i32.const 16))))
            (func (export "grow_and_look") (param $pages i32) (result i64) (local $at i32)
                (local.set $at (i32.shl (memory.grow (local.get $pages)) (i32.const 16)))
                (call $hash (local.get $at) (i32.shl (memory.size) (i32.const 16))))
            (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0))))"#
    )
}

fn look(worker: &mut Worker) -> i64 {
    match worker.scalar("look", &[]) {
        Outcome::Scalars(values) => match values[..] {
            [Scalar::I64(hash)] => hash,
            _ => panic!("{values:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn numbers(args: &[u32]) -> Vec<Scalar> {
    args.iter().map(|number| Scalar::I32(number.cast_signed())).collect()
}

#[track_caller]
fn done(worker: &mut Worker, export: &str, args: &[u32]) {
    let outcome = worker.scalar(export, &numbers(args));
    assert!(matches!(outcome, Outcome::Scalars(_)), "{export}: {outcome:?}");
}

#[test]
fn whatever_a_task_writes_the_next_finds_what_the_module_has() {
    const PAGES: u32 = 40;
    const END: u32 = PAGES << 16;
    let mut worker = worker().start_with(&witness(PAGES));
    let first = look(&mut worker);
    for (from, end, stride) in
        [(0, 4, 4), (0, END, 4096), (4092, END - 4, 20_480), (END - 4, END, 4), (0, END, 65_532)]
    {
        for _ in 0..3 {
            done(&mut worker, "write", &[from, end, stride]);
            assert_eq!(look(&mut worker), first, "{from} {end} {stride}");
        }
        done(&mut worker, "fill", &[from, END - from]);
        assert_eq!(look(&mut worker), first, "{from}: filled");
    }
}

#[test]
fn more_pages_than_can_be_hot_are_put_back() {
    const PAGES: u32 = 1024;
    let limits = Limits::default().memory_bytes(65 << 20);
    let mut worker = worker().limits(limits).start_with(&witness(PAGES));
    let first = look(&mut worker);
    for round in 0..3 {
        done(&mut worker, "write", &[0, PAGES << 16, 4096]);
        assert_eq!(look(&mut worker), first, "{round}");
    }
}

#[test]
fn what_was_grown_is_gone_and_what_is_grown_is_empty() {
    const END: u32 = 2 << 16;
    let mut worker = worker().start_with(&witness(2));
    let first = look(&mut worker);
    for pages in [1, 2, 15, 16, 17, 100, 1] {
        done(&mut worker, "grow_and_fill", &[pages]);
        for at in [END, END + (pages << 16) - 1, END + (1 << 20), END + (1 << 20) - 1] {
            let outcome = worker.scalar("load", &numbers(&[at]));
            let Outcome::Failed(Failure::Trap { kind, .. }) = &outcome else {
                panic!("{pages} {at}: {outcome:?}")
            };
            assert_eq!(*kind, TrapKind::MemoryOutOfBounds);
        }
        let empty = Outcome::Scalars(vec![Scalar::I64(0)]);
        assert_eq!(worker.scalar("grow_and_look", &numbers(&[pages])), empty, "{pages}");
        assert_eq!(look(&mut worker), first, "{pages}");
    }
}

/// Where an input goes that lies in a file: pages that no task has written.
const FAR: u32 = 9 << 16;

#[test]
fn an_input_that_the_kernel_writes_arrives_and_is_put_back() {
    let source = guest(
        r#"(func (export "read") (result i32)
                (call $input_read (i32.const 589824) (i32.const 0) (call $input_len))
                (call $output_write (i32.const 589824) (call $input_len))
                (i32.const 0))
           (func (export "look") (result i32)
                (call $output_write (i32.const 589824) (i32.const 131072))
                (i32.const 0))"#,
    );
    let source =
        source.replace(r#"(memory (export "memory") 1)"#, r#"(memory (export "memory") 12)"#);
    assert_eq!(FAR, 589_824);
    let mut worker = worker().start_with(&source);
    let input: Vec<u8> = (0..100_001).map(|number| number as u8 | 1).collect();
    let file = memory_file("input").unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &input, 0).unwrap();
    stockade_wire::descriptor::seal(&file).unwrap();
    for _ in 0..3 {
        let mut run = worker.next_run(worker.limits.clone(), task("read", b""));
        let place = PlacementFile::Lent;
        run.placement = Some(Placement { bytes: input.len() as u64, place });
        worker.page.offer(run.slot, run.tasks);
        worker.send(&HostMessage::Run(run), &[file.as_fd()]);
        assert_eq!(worker.finished().outcome, Outcome::Returned(input.clone()));
        assert_eq!(worker.result("look", b""), vec![0; 131_072]);
    }
}

#[test]
fn a_file_that_the_kernel_reads_into_memory_arrives_and_is_put_back() {
    let directory = std::env::temp_dir().join(format!("stockade-memory-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let text: Vec<u8> = (0..70_000).map(|number| number as u8 | 1).collect();
    std::fs::write(directory.join("file"), &text).unwrap();
    // Opens the file, reads all of it to 9 pages from the start with an empty iovec before the one that
    // is read to, and compares it with what it should be. Exits with 0, an errno, or 99.
    let source = r#"(module
        (import "wasi_snapshot_preview1" "path_open" (func $path_open
            (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read"
            (func $fd_read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
        (memory (export "memory") 12)
        (data (i32.const 16) "file")
        (data (i32.const 32) "\00\00\09\00\00\00\00\00\00\00\09\00\00\00\02\00")
        (func $check (param i32) (if (local.get 0) (then (call $proc_exit (local.get 0)))))
        (func (export "_start") (local $at i32)
            (loop $empty
                (if (i32.load8_u (i32.add (i32.const 589824) (local.get $at)))
                    (then (call $proc_exit (i32.const 98))))
                (br_if $empty (i32.lt_u
                    (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 131072))))
            (call $check (call $path_open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 4)
                (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 8)))
            (call $check (call $fd_read (i32.load (i32.const 8)) (i32.const 32) (i32.const 2)
                (i32.const 4)))
            (if (i32.ne (i32.load (i32.const 4)) (i32.const 70000))
                (then (call $proc_exit (i32.const 99))))
            (local.set $at (i32.const 0))
            (loop $again
                (if (i32.ne (i32.load8_u (i32.add (i32.const 589824) (local.get $at)))
                        (i32.or (i32.const 1) (i32.and (i32.const 255) (local.get $at))))
                    (then (call $proc_exit (i32.const 97))))
                (br_if $again (i32.lt_u
                    (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 70000))))))"#;
    let grants = Grants::none().read_dir(&directory, "/");
    let mut worker = worker().grants(grants).start_with(source);
    for _ in 0..3 {
        let outcome = worker.run(from_start(command(&[], b""))).outcome;
        assert_eq!(outcome, Outcome::Exited(0));
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_second_instance_beside_a_living_one_has_memory_of_its_own() {
    let source = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
        (memory (export "memory") 2) (data (i32.const 70000) "data")
        (func (export "set") (param i32) (i32.store (i32.const 70000) (local.get 0)))
        (func (export "get") (result i32) (i32.load (i32.const 70000)))
        (func (export "_start") (local i32)
            (local.set 0 (i32.load (i32.const 70000)))
            (i32.store (i32.const 70000) (i32.const 5))
            (drop (memory.grow (i32.const 1)))
            (i32.store (i32.const 131072) (i32.const 5))
            (call $proc_exit (i32.ne (local.get 0) (i32.const 0x61746164)))))"#;
    let mut worker = worker().per_worker().start_with(source);
    done(&mut worker, "set", &[7]);
    for _ in 0..3 {
        let outcome = worker.run(from_start(command(&[], b""))).outcome;
        assert_eq!(outcome, Outcome::Exited(0), "it finds the data of its module");
        let living = Outcome::Scalars(vec![Scalar::I32(7)]);
        assert_eq!(worker.scalar("get", &[]), living);
    }
}

#[test]
fn what_is_written_where_an_input_was_mapped_is_gone_with_the_instance() {
    let source = guest(
        r#"(func (export "map") (result i32)
                (drop (memory.grow (i32.const 2)))
                (i32.eqz (call $input_map (i32.const 65536) (i32.const 131072))))
           (func (export "write") (result i32)
                (memory.fill (i32.const 65536) (i32.const 0xab) (i32.const 131072))
                (i32.const 0))
           (func (export "look") (result i32)
                (drop (memory.grow (i32.const 2)))
                (call $output_write (i32.const 65536) (i32.const 131072))
                (i32.const 0))"#,
    );
    let mut worker = worker().start_with(&source);
    let input = SharedMemory::create(100_000).unwrap();
    let chunk = Some(ChunkId(1));
    for _ in 0..3 {
        let mut run = worker.next_run(worker.limits.clone(), task("map", b""));
        run.placement = Some(Placement { bytes: 100_000, place: PlacementFile::Lent });
        run.share = chunk;
        worker.page.offer(run.slot, run.tasks);
        worker.send(&HostMessage::Run(run), &[input.descriptor()]);
        assert_eq!(worker.finished().outcome, Outcome::Returned(vec![]));
        let written = worker.run_in(chunk, task("write", b"")).outcome;
        assert_eq!(written, Outcome::Returned(vec![]));
        assert_eq!(worker.result("look", b""), vec![0; 131_072]);
    }
}

/// Three memories of two kinds, one of which nobody sees, and an object that is collected.
const SEVERAL: &str = r#"(module
    (type $box (struct (field (mut i64))))
    (memory $a (export "memory") 2) (memory $hidden 3) (memory $wide i64 2)
    (data (memory $a) (i32.const 70000) "first") (data (memory $hidden) (i32.const 8) "second")
    (data (memory $wide) (i64.const 65536) "third")
    (global $object (mut (ref null $box)) (ref.null $box))
    (func (export "write") (param i32)
        (global.set $object (struct.new $box (i64.const -1)))
        (memory.fill $a (i32.const 0) (i32.const 0xaa) (i32.const 131072))
        (memory.fill $hidden (i32.const 0) (i32.const 0xbb) (i32.const 196608))
        (memory.fill $wide (i64.const 0) (i32.const 0xcc) (i64.const 131072))
        (drop (memory.grow $hidden (i32.const 20)))
        (memory.fill $hidden (i32.const 196608) (i32.const 0xdd) (i32.const 1310720))
        (drop (memory.grow $wide (i64.const 1)))
        (i64.store $wide (i64.const 131072) (i64.const -1)))
    (func (export "look") (param i32) (result i64) (local $at i32) (local $h i64)
        (drop (memory.grow $hidden (i32.const 20)))
        (drop (memory.grow $wide (i64.const 1)))
        (loop $again
            (local.set $h (i64.mul (i64.const 0x100000001b3) (i64.xor (local.get $h)
                (i64.load $hidden (local.get $at)))))
            (if (i32.lt_u (local.get $at) (i32.const 131072)) (then
                (local.set $h (i64.mul (i64.const 0x100000001b3) (i64.xor (local.get $h)
                    (i64.load $a (local.get $at)))))))
            (if (i32.lt_u (local.get $at) (i32.const 196608)) (then
                (local.set $h (i64.mul (i64.const 0x100000001b3) (i64.xor (local.get $h)
                    (i64.load $wide (i64.extend_i32_u (local.get $at))))))))
            (br_if $again (i32.lt_u
                (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 1507328))))
        (i64.add (local.get $h) (struct.get $box 0 (struct.new_default $box)))))"#;

#[test]
fn each_of_several_memories_is_put_back_and_a_heap_of_objects_is_none_of_them() {
    let binary = wat::parse_str(SEVERAL).unwrap();
    let mut alone = Alone::new(&binary, &Limits::default(), Features::all()).unwrap();
    let mut call = |name: &str| {
        let invocation = Invocation::Scalar { export: name.into(), args: numbers(&[0]) };
        let outcome = alone.run(invocation, Vec::new()).unwrap().outcome;
        assert_eq!(alone.difference(), Ok(None), "{name}");
        outcome
    };
    let plain = call("look");
    for round in 0..5 {
        assert_eq!(call("write"), Outcome::Scalars(Vec::new()), "{round}");
        assert_eq!(call("look"), plain, "{round}");
    }
}
