//! Amounts of output, and output other than results.

use stockade::{Bytes, Limits, TaskError};
use stockade_tests::{int, tasks, wat};

use super::super::seen;
use super::{assert_first_worker, failed, guest};

/// What the ABI keeps of an error's text.
const ERROR_BYTES_MAX: usize = 64 << 10;

#[test]
fn a31_a_result_may_have_as_many_bytes_as_allowed_and_no_more() {
    const BYTES: i32 = 1_000_000;
    let pool = tasks().limits(Limits::default().output_bytes(BYTES as u64)).build().unwrap();
    for name in ["write_at_once", "write_by_byte"] {
        let result: Vec<u8> = pool.run(name, int(BYTES)).unwrap();
        assert_eq!(result.len(), BYTES as usize);
        let error = failed(pool.run::<Vec<u8>>(name, int(BYTES + 1)));
        assert!(matches!(error, TaskError::Output { limit: 1_000_000 }), "{name}: {error:?}");
    }
    assert_first_worker(&pool);
    let nothing = tasks().limits(Limits::default().output_bytes(0)).build().unwrap();
    assert!(nothing.run::<Vec<u8>>("write_at_once", int(0)).unwrap().is_empty());
    for name in ["write_at_once", "write_by_byte"] {
        let error = failed(nothing.run::<Vec<u8>>(name, int(1)));
        assert!(matches!(error, TaskError::Output { limit: 0 }), "{name}: {error:?}");
    }
    assert_first_worker(&nothing);
    seen(
        31,
        "1,000,000 bytes arrive and one more is `Output`, in one write as in a million; the same \
         worker goes on",
    );
}

#[test]
fn a35_a_status_decides_what_counts_and_an_error_text_is_cut() {
    let pool = wat(&guest(
        16_385,
        r#"(data (i32.const 0) "result") (data (i32.const 16) "reason")
           (func $say (call $output_write (i32.const 0) (i32.const 6)))
           (func $blame (call $error_write (i32.const 16) (i32.const 6)))
           (func (export "nothing") (result i32) (i32.const 0))
           (func (export "error_and_success") (result i32)
            (call $blame) (call $say) (call $blame) (i32.const 0))
           (func (export "output_and_error") (result i32) (call $say) (call $blame) (i32.const 1))
           (func (export "output_and_refusal") (result i32) (call $say) (call $blame) (i32.const 2))
           (func (export "no_words") (result i32) (call $say) (i32.const 1))
           (func (export "no_such_status") (result i32) (call $blame) (i32.const -2147483648))
           (func (export "no_text") (result i32)
            (memory.fill (i32.const 0) (i32.const 255) (i32.const 65536))
            (call $error_write (i32.const 0) (i32.const 65536)) (i32.const 1))
           (func (export "gigabyte_at_once") (result i32)
            (call $error_write (i32.const 0) (i32.const 0x40000000)) (i32.const 1))
           (func (export "gigabyte_in_pieces") (result i32) (local $n i32)
            (loop $more
                (call $error_write (i32.const 0) (i32.const 65536))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $n) (i32.const 16384))))
            (i32.const 1))
           (func (export "gigabyte_and_trap") (result i32)
            (call $error_write (i32.const 0) (i32.const 0x40000000)) unreachable)"#,
    ));
    let pool = pool.limits(Limits::default().memory_bytes(2 << 30)).build().unwrap();
    let run = |name: &str| pool.run::<Vec<u8>>(name, Bytes(Vec::new()));
    assert_eq!(run("nothing").unwrap(), b"");
    assert_eq!(run("error_and_success").unwrap(), b"result");
    for name in ["output_and_error", "no_such_status"] {
        let TaskError::Guest(error) = failed(run(name)) else { panic!("{name}") };
        assert_eq!((&error.message[..], error.data), ("reason", None), "{name}");
    }
    let TaskError::BadArguments(error) = failed(run("output_and_refusal")) else { panic!() };
    assert_eq!(error.message, "reason");
    let TaskError::Guest(error) = failed(run("no_words")) else { panic!() };
    assert!(!error.message.is_empty());
    let TaskError::Guest(error) = failed(run("no_text")) else { panic!() };
    let length = '\u{fffd}'.len_utf8();
    assert_eq!(error.message, "\u{fffd}".repeat(ERROR_BYTES_MAX / length));
    for name in ["gigabyte_at_once", "gigabyte_in_pieces"] {
        let TaskError::Guest(error) = failed(run(name)) else { panic!("{name}") };
        assert!(error.message.len() <= ERROR_BYTES_MAX, "{name}: {} bytes", error.message.len());
    }
    assert!(matches!(failed(run("gigabyte_and_trap")), TaskError::Trap { .. }));
    assert_first_worker(&pool);
    seen(
        35,
        "status 0 with nothing written is an empty result, and words of an error beside it count \
         for nothing; any other status is the task's error and its result is dropped; of 1 GiB of \
         error text 64 KiB are kept",
    );
}

#[test]
fn a41_floods_of_items_and_of_progress_cost_nobody_anything() {
    let pool = wat(&guest(
        1,
        r#"(func (export "progress") (result i32) (local $n i64)
            (loop $more
                (local.set $n (i64.add (local.get $n) (i64.const 1)))
                (call $progress (local.get $n) (i64.const -1))
                (br_if $more (i64.lt_u (local.get $n) (i64.const 1000000))))
            (i32.const 0))
           (func (export "emit") (result i32)
            (loop $more (call $emit (i32.const 0) (i32.const 1000)) (br $more)) (i32.const 0))
           (func (export "emit_nothing") (result i32)
            (loop $more (call $emit (i32.const 0) (i32.const 0)) (br $more)) (i32.const 0))
           (func (export "log") (result i32) (local $n i32)
            (loop $more
                (call $log (i32.const 3) (i32.const 0) (i32.and (local.get $n) (i32.const 63)))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $n) (i32.const 1000000))))
            (i32.const 0))"#,
    ));
    let limits = Limits::default().output_bytes(1 << 20).stdio_bytes(1 << 16);
    let pool = pool.limits(limits).build().unwrap();
    let submit = |name: &str| pool.submit::<Vec<u8>>(name, Bytes(Vec::new())).unwrap();
    let told = submit("progress");
    told.result().unwrap();
    assert_eq!(told.progress(), Some((1_000_000, u64::MAX)));
    for (name, bytes, items) in [("emit", 1000, 1016), ("emit_nothing", 0, 32_768)] {
        let flood = submit(name);
        let error = flood.result().unwrap_err();
        assert!(matches!(error, TaskError::Output { limit: 0x10_0000 }), "{name}: {error:?}");
        let kept: Vec<usize> = flood.emitted::<Vec<u8>>().map(|item| item.unwrap().len()).collect();
        assert_eq!(kept, vec![bytes; items], "{name}");
    }
    let report = submit("log").report();
    let bytes: usize = report.log.iter().map(|line| line.message.len()).sum();
    assert!(bytes <= 1 << 16 && report.log.len() <= 1 << 13, "{bytes}");
    assert_eq!(report.log.len() as u64 + report.log_dropped, 1_000_000);
    assert_first_worker(&pool);
    seen(
        41,
        "of a million reports of progress the last is told; at 1 MiB an endless flood of items is \
         `Output`, empty ones after 32,768; of a million lines a log's 64 KiB are kept",
    );
}
