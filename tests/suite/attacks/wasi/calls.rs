//! Time, randomness, sockets and surroundings.

use std::time::Duration;

use stockade::{BuildError, Grants, Json, Limits, RefusedReason, RunError, TaskError};
use stockade_tests::{guest_pool, wat};

use super::super::seen;
use super::driven::{BUFFER, FUNCTIONS, GRANTED, READ, STORED, WRITE, module};
use super::{Driven, Outside, assert_first_worker, failed};

const FAULT: i32 = 21;
const INVALID: i32 = 28;

#[test]
fn a44_a_poll_that_would_last_for_ever_ends_at_the_deadline() {
    const SHORT: Duration = Duration::from_millis(100);
    // Waits until the given time, or for it, by either clock; and waits again.
    let sleeper = module(
        r#"(memory (export "memory") 1)
           (func (export "sleep") (param $clock i32) (param $time i64) (param $flags i32)
            (loop $again
                (memory.fill (i32.const 0) (i32.const 0) (i32.const 96))
                (i32.store (i32.const 16) (local.get $clock))
                (i64.store (i32.const 24) (local.get $time))
                (i32.store16 (i32.const 40) (local.get $flags))
                (drop (call $poll_oneoff
                    (i32.const 0) (i32.const 128) (i32.const 1) (i32.const 256)))
                (br $again)))
           (func (export "fine") (result i32) (i32.const 7))"#,
    );
    let waits = [
        (0, -1_i64, 0),
        (1, -1, 0),
        (0, -1, 1),
        (1, -1, 1),
        (1, i64::MAX, 0),
        // Not one wait without end, but waits without end.
        (1, 0, 0),
        (1, 1_000_000, 0),
        (9, 0, 0),
    ];
    for interruptible in [false, true] {
        let limits = Limits::default().wall_time(SHORT).interruptible(interruptible);
        let pool = wat(&sleeper).limits(limits).build().unwrap();
        for wait in waits {
            let error = failed(pool.run::<()>("sleep", wait));
            assert!(
                matches!(error, TaskError::Deadline { limit: SHORT, .. }),
                "{wait:?}: {error:?}"
            );
            assert_eq!(pool.run::<i32>("fine", ()).unwrap(), 7, "{wait:?}");
        }
        assert!(pool.check().is_ok());
        if interruptible {
            assert_first_worker(&pool);
        }
    }
    seen(
        44,
        "`Deadline` for eight ways to wait; the worker is replaced, or stays where the task is \
         interruptible",
    );
}

#[test]
fn a45_a_hundred_million_subscriptions_are_an_error_number() {
    let guest = Driven::new(Grants::none());
    // Waiting to write, which can be done at once.
    let subscriptions: Vec<u8> =
        (0..4097 * 48).map(|at| if at % 48 == 8 { 2 } else { 0 }).collect();
    guest.put(BUFFER, &subscriptions);
    let poll = |count: u32| {
        let (events, stored) = (i64::from(BUFFER) + 4097 * 48, i64::from(STORED));
        guest.errno("poll_oneoff", &[BUFFER.into(), events, count.into(), stored])
    };
    for count in [0, 4097, 100_000_000, u32::MAX] {
        assert_eq!(poll(count), INVALID, "{count}");
    }
    assert_eq!((poll(4096), guest.get_number(STORED)), (0, 4096));
    // As many as allowed, where memory ends before they do.
    let end = 64 << 16;
    for (from, to, stored) in [
        (end - 4096 * 48 + 1, 0, 0),
        (0, end - 4096 * 32 + 1, 0),
        (0, 0, end - 3),
        (i64::from(u32::MAX), 0, 0),
        (0, i64::from(u32::MAX), 0),
        (0, 0, i64::from(u32::MAX)),
    ] {
        assert_eq!(guest.errno("poll_oneoff", &[from, to, 4096, stored]), FAULT);
    }
    guest.assert_first_worker();
    seen(45, "100 million, and any number above 4096, are errno 28; 4096 are answered");
}

#[test]
fn a46_randomness_beyond_a_mebibyte_is_refused() {
    const MIB: i64 = 1 << 20;
    let guest = Driven::new(Grants::none());
    let random = |at: i64, length: i64| guest.call("random_get", &[at, length]);
    for length in [0, 1, 1024, MIB] {
        assert_eq!(random(BUFFER.into(), length).unwrap(), 0, "{length}");
    }
    assert_ne!(guest.get(BUFFER + MIB as u32 - 16, 16), [0; 16]);
    for length in [MIB + 1, 64 * MIB, i64::from(u32::MAX)] {
        let error = random(BUFFER.into(), length).unwrap_err();
        assert!(matches!(error, TaskError::Abi(_)), "{length}: {error:?}");
    }
    for (at, length) in [(64 << 16, 1), ((64 << 16) - 3, 4), (i64::from(u32::MAX), 1)] {
        let refused = random(at, length);
        let told = matches!(refused, Ok(1..) | Err(TaskError::Abi(_) | TaskError::Trap { .. }));
        assert!(told, "{at:#x}: {refused:?}");
    }
    guest.assert_first_worker();
    seen(46, "1 MiB is given; one byte more, 64 MiB and 4 GiB are `Abi`, and so is a wrong place");
}

#[test]
fn a48_without_a_memory_no_call_gets_further_than_its_own_task() {
    let pool = wat(&module("")).build().unwrap();
    let (mut abi, mut errno, mut exited) = (0, 0, 0);
    for (function, params) in FUNCTIONS {
        let args = params.chars().fold(Json::new(), |args, _| args.arg(0.into()));
        if function == "proc_exit" {
            let error = failed(pool.run::<()>(function, args));
            assert!(matches!(error, TaskError::Exited(0)), "{error:?}");
            exited += 1;
            continue;
        }
        match pool.run::<i32>(function, args) {
            Ok(_) => errno += 1,
            Err(RunError::Task(TaskError::Abi(_))) => abi += 1,
            Err(other) => panic!("{function}: {other:?}"),
        }
    }
    assert_eq!(abi + errno + exited, FUNCTIONS.len());
    assert_first_worker(&pool);
    // A memory under another name is none, and a function of that name neither.
    for module in [
        module(r#"(memory (export "storage") 1)"#),
        module(r#"(memory 1) (func (export "memory"))"#),
    ] {
        let pool = wat(&module).build().unwrap();
        for (function, args) in [("random_get", 2), ("fd_write", 4), ("poll_oneoff", 4)] {
            let args = (0..args).fold(Json::new(), |args, _| args.arg(1.into()));
            let error = failed(pool.run::<i32>(function, args));
            assert!(matches!(error, TaskError::Abi(_)), "{function}: {error:?}");
        }
        assert_first_worker(&pool);
    }
    seen(
        48,
        &format!("of {} functions {abi} are `Abi`; those that need none answer", FUNCTIONS.len()),
    );
}

#[test]
fn a58_arguments_and_environment_are_empty_unless_granted() {
    type Surroundings = (Vec<String>, Vec<(String, String)>);
    let pool = guest_pool("probe").build().unwrap();
    let (args, env): Surroundings = pool.run("surroundings", ()).unwrap();
    assert!(args.is_empty() && env.is_empty(), "{args:?} {env:?}");
    assert_first_worker(&pool);
    let grants = Grants::none().env("LANG", "C").env("WITH", "a=b\nc");
    let pool = guest_pool("probe").grants(grants).build().unwrap();
    let (args, env): Surroundings = pool.run("surroundings", ()).unwrap();
    assert!(args.is_empty());
    let expected = [("LANG".into(), "C".into()), ("WITH".into(), "a=b\nc".into())];
    assert_eq!(env, expected);
    // Not even by pointers that do not fit.
    let guest = Driven::new(Grants::none().env("SECRET", "not yours"));
    let end = 64 << 16;
    for (function, args) in [
        ("environ_get", [end, 0]),
        ("environ_get", [0, end - 4]),
        ("environ_sizes_get", [end, 0]),
        ("environ_sizes_get", [0, end - 3]),
        ("args_sizes_get", [end - 3, 0]),
    ] {
        let refused = guest.call(function, &args);
        assert!(matches!(refused, Ok(1..) | Err(TaskError::Abi(_))), "{function}: {refused:?}");
    }
    guest.assert_first_worker();
    seen(58, "no argument and no variable; exactly those that were granted");
}

#[test]
fn a59_there_is_no_socket_to_be_had() {
    let outside = Outside::new();
    let guest = Driven::new(Grants::none().write_dir(outside.granted(), "/data"));
    let file = guest.open(GRANTED, "file", 0, READ | WRITE).unwrap();
    let [vectors, count] = guest.vector(4);
    let stored = i64::from(STORED);
    let mut tried = 0;
    for descriptor in (0..16).chain([file, 1000, i64::from(u32::MAX)]) {
        for (function, args) in [
            ("sock_accept", vec![descriptor, 0, stored]),
            ("sock_recv", vec![descriptor, vectors, count, 0, stored, stored + 4]),
            ("sock_send", vec![descriptor, vectors, count, 0, stored]),
            ("sock_shutdown", vec![descriptor, 3]),
        ] {
            assert_ne!(guest.errno(function, &args), 0, "{function}({descriptor})");
            tried += 1;
        }
    }
    // Names of later versions and of other hosts are no imports at all.
    for name in ["sock_open", "sock_connect", "sock_bind", "sock_listen"] {
        let module = format!(
            r#"(module (import "wasi_snapshot_preview1" "{name}"
                (func (param i32 i32) (result i32))))"#
        );
        let refused = wat(&module).build().unwrap_err();
        let BuildError::Refused { reason, .. } = &refused else { panic!("{refused:?}") };
        assert!(matches!(reason, RefusedReason::Import(_)), "{reason:?}");
        tried += 1;
    }
    assert_eq!(guest.write(1, b"fine").unwrap(), 4);
    guest.assert_first_worker();
    seen(
        59,
        &format!(
            "{tried} tries: an error number for every descriptor and call, and calls that would \
             open a socket are refused as `Import`"
        ),
    );
}
