//! Tasks that are recorded and run again: with the same chance, the same time, and the same end.

use stockade::{
    Command, GivenArguments, Grants, Layer, Limits, Lockdown, Pool, PoolBuilder, RecordError,
    RecordedEnd, Recording, Scalar, SharedBuffer, SubmitError, TaskError,
};
use stockade_tests::{Folder, guest_pool, wat};

/// Says what it sees of chance and time: eight random bytes, the time of day, and then, after a sleep
/// of an hour, the monotonic time.
const SURROUNDED: &str = r#"(module
    (import "stockade" "output_write" (func $output (param i32 i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get"
        (func $time (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff"
        (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func $look
        (drop (call $random (i32.const 0) (i32.const 8)))
        (drop (call $time (i32.const 0) (i64.const 1) (i32.const 8)))
        (i32.store (i32.const 116) (i32.const 1))
        (i64.store (i32.const 124) (i64.const 3600000000000))
        (drop (call $poll (i32.const 100) (i32.const 200) (i32.const 1) (i32.const 300)))
        (drop (call $time (i32.const 1) (i64.const 1) (i32.const 16))))
    (func (export "look") (result i32)
        (call $look) (call $output (i32.const 0) (i32.const 24)) (i32.const 0))
    (func (export "fail") (result i32)
        (call $look)
        (if (i64.eqz (i64.and (i64.load (i32.const 0)) (i64.const 1))) (then unreachable))
        (drop (i32.div_u (i32.const 1) (i32.const 0)))
        (i32.const 0)))"#;

fn seeded(seed: u64) -> Limits {
    Limits::default().deterministic(seed)
}

fn surrounded(seed: u64) -> PoolBuilder {
    wat(SURROUNDED).limits(seeded(seed))
}

fn again(recording: &Recording) -> Pool {
    recording.builder().build().unwrap()
}

#[test]
fn a_task_that_failed_fails_again_in_a_pool_made_from_its_recording() {
    let folder = Folder::new();
    let path = folder.path().join("fail.stockade");
    for seed in [1, 2, 3] {
        let pool = surrounded(seed).build().unwrap();
        let ended = pool.submit::<()>("fail", ()).unwrap().output();
        assert!(matches!(ended, Err(TaskError::Trap { .. })), "{ended:?}");
        pool.record("fail", ()).unwrap().ended(&ended).save(&path).unwrap();

        let recording = Recording::open(&path).unwrap();
        assert_eq!((recording.function(), recording.limits()), ("fail", &seeded(seed)));
        let replayed = recording.submit(&again(&recording)).unwrap().output();
        assert!(recording.is_same(&replayed), "{replayed:?}");
        assert!(!recording.is_same(&Err(TaskError::Fuel { limit: 1 })));
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "arguments may be secrets");
}

/// The process's own number is one of the things that a worker could take for chance.
#[test]
fn a_replay_in_another_process_sees_the_same_chance() {
    // In a process namespace of its own every worker would have the same number.
    let by_number = || Lockdown::default().without(Layer::Namespaces);
    let pool = surrounded(7).lockdown(by_number()).build().unwrap();
    let seen = pool.submit::<Vec<u8>>("look", ()).unwrap();
    let recording = pool.record("look", ()).unwrap().ended(&seen.output());
    let other = recording.builder().lockdown(by_number()).build().unwrap();
    let replayed = recording.submit(&other).unwrap();
    assert!(recording.is_same(&replayed.output()), "{:?}", replayed.output());
    assert_eq!(replayed.output().unwrap(), seen.output().unwrap());
    assert_ne!(pool.workers()[0].pid, other.workers()[0].pid);
}

#[test]
fn an_initializer_and_its_instance_come_back_with_the_task() {
    let source = r#"(module
        (global $base (mut i32) (i32.const 0))
        (func (export "begin") (global.set $base (i32.const 40)))
        (func (export "next") (param i32) (result i32)
            (i32.div_u (i32.add (global.get $base) (local.get 0)) (local.get 0))))"#;
    let pool = wat(source).limits(seeded(0)).initializer("begin", ());
    let pool = pool.build().unwrap();
    for (divisor, expected) in [(2, Some(21)), (0, None)] {
        let ended = pool.submit::<i32>("next", (divisor,)).unwrap();
        assert_eq!(ended.result().ok(), expected);
        let recording = pool.record("next", (divisor,)).unwrap().ended(&ended.output());
        let replayed = recording.submit(&again(&recording)).unwrap().output();
        assert!(recording.is_same(&replayed), "{replayed:?}");
        assert_eq!(matches!(recording.end(), Some(RecordedEnd::Returned(_))), expected.is_some());
    }
}

#[test]
fn a_command_is_run_again_with_its_arguments_variables_and_stdin() {
    let command = || {
        let command = Command::new("linecount").args(["--match", "b"]).env("LANG", "C");
        command.stdin(b"a\nb\nab\n".to_vec())
    };
    let pool = guest_pool("linecount").limits(seeded(0)).build().unwrap();
    let ran = pool.submit_command(command()).unwrap();
    let recording = pool.record_command(command()).unwrap().ended(&ran.output());
    let arguments = ["linecount", "--match", "b"].map(String::from);
    assert_eq!(recording.command_arguments(), Some(&arguments[..]));
    let pool = again(&recording);
    let replayed = recording.submit(&pool).unwrap();
    assert!(recording.is_same(&replayed.output()), "{:?}", replayed.output());
    assert_eq!(replayed.report().stdout, ran.report().stdout);
}

#[test]
fn a_replay_has_the_recorded_variables_and_no_directory() {
    let folder = Folder::new();
    let grants = Grants::none().env("A", "b").read_dir(folder.path(), "/data");
    let pool = surrounded(1).grants(grants.clone()).build().unwrap();
    let recording = pool.record("fail", ()).unwrap();
    assert_eq!(*recording.grants(), grants);
    // It is gone, and nobody misses it.
    drop(folder);
    assert!(recording.submit(&again(&recording)).unwrap().output().is_err());
}

#[test]
fn what_cannot_be_run_again_is_not_recorded() {
    let pool = wat(SURROUNDED).build().unwrap();
    let refused = pool.record("look", ()).unwrap_err();
    assert!(matches!(refused, RecordError::NotDeterministic), "{refused}");
    let pool = surrounded(1).build().unwrap();
    let refused = pool.record("look", SharedBuffer::new(4096).unwrap()).unwrap_err();
    assert!(matches!(refused, RecordError::Lent), "{refused}");
    let refused = pool.record("lok", ()).unwrap_err();
    let is_unknown = matches!(&refused, RecordError::Submit(SubmitError::UnknownFunction { .. }));
    assert!(is_unknown, "{refused}");
}

#[test]
fn arguments_that_were_encoded_once_can_be_submitted_again_to_the_same_kind_of_function() {
    let source = r#"(module (func (export "add") (param i32 i64) (result i64)
        (i64.add (i64.extend_i32_s (local.get 0)) (local.get 1))))"#;
    let pool = wat(source).build().unwrap();
    let submit = |scalars| pool.run::<i64>("add", GivenArguments::Scalars(scalars));
    assert_eq!(submit(vec![Scalar::I32(-1), Scalar::I64(3)]).unwrap(), 2);
    for wrong in [vec![], vec![Scalar::I64(1), Scalar::I64(3)], vec![Scalar::I32(1)]] {
        assert!(submit(wrong).is_err());
    }
    let bytes = GivenArguments::Encoded { codec: stockade::Codec::Json, bytes: b"[]".to_vec() };
    for other in [bytes, GivenArguments::Buffer { bytes: 1 }, GivenArguments::Command(vec![])] {
        let refused = pool.submit::<i64>("add", other).unwrap_err();
        assert!(matches!(refused, SubmitError::Signature { .. }), "{refused}");
    }
}
