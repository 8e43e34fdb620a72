//! Maps in trouble: workers killed, readers gone, Ctrl-C, input that comes slowly or without end.

use std::io::Write;

use rustix::process::{Signal, kill_process};

use crate::args;
use crate::support::{module, stockade};

/// Gives back its number; 5000 takes forever.
const STUCK_AT_5000: &str = r#"(module
  (func (export "f") (param i32) (result i32)
    (if (i32.eq (local.get 0) (i32.const 5000)) (then (loop $again (br $again))))
    (local.get 0)))"#;

/// Gives back its number; negative ones take forever.
const STUCK_BELOW_0: &str = r#"(module
  (func (export "f") (param i32) (result i32)
    (if (i32.lt_s (local.get 0) (i32.const 0)) (then (loop $again (br $again))))
    (local.get 0)))"#;

/// Processor time that only a task in the middle of its work uses up, in the kernel's ticks of 10 ms.
const TICKS: u64 = 10;

#[test]
fn a_worker_killed_in_a_map_of_10000_lines_costs_the_task_it_was_running() {
    let (folder, guest) = module(STUCK_AT_5000);
    let input: String = (1..=10_000).map(|n| format!("{n}\n")).collect();
    let input = folder.file("input", input);
    for chunk in ["1", "8"] {
        let options = args!["--workers", "2", "--wall-time", "none", "--chunk", chunk];
        let all = args!["map", guest, "f", input].into_iter().chain(options);
        let mut running = stockade(all).start();
        let first = if chunk == "1" { 4999 } else { 4900 };
        for n in 1..=first {
            assert_eq!(running.line(), format!("{{\"line\":{n},\"result\":{n}}}"));
        }
        let worker = running.busy_worker(TICKS);
        kill_process(worker, Signal::KILL).unwrap();

        let ended = running.end();
        ended.fails(71, &["10000 lines: 9999 ok, 1 failed (1 worker-lost)"]);
        let stdout = ended.stdout();
        let rest: Vec<&str> = stdout.lines().collect();
        assert_eq!(rest.len(), 10_000 - first);
        let message = format!("(process {}) was killed by SIGKILL", worker.as_raw_nonzero());
        for (line, n) in rest.iter().zip(first + 1..) {
            if n == 5000 {
                let lost =
                    "{\"line\":5000,\"error\":{\"kind\":\"worker-lost\",\"fault\":\"worker\"";
                assert!(line.starts_with(lost) && line.contains(&message), "{line}");
            } else {
                assert_eq!(*line, format!("{{\"line\":{n},\"result\":{n}}}"));
            }
        }
    }
}

#[test]
fn every_worker_killed_at_any_time_costs_no_line_but_those_they_ran() {
    let (folder, guest) = module(STUCK_BELOW_0);
    let input: String = (1..=10_000).map(|n| format!("{n}\n")).collect();
    let input = folder.file("input", input);
    let mut running = stockade(args!["map", guest, "f", input, "--workers", "2"]).start();
    for _ in 0..3000 {
        running.line();
    }
    let workers = running.workers();
    for worker in &workers {
        // One may have gone by itself.
        let _ = kill_process(*worker, Signal::KILL);
    }
    let ended = running.end();
    let lost = ended.stdout().matches("worker-lost").count();
    assert!(lost <= workers.len(), "{}", ended.stderr);
    assert_eq!(ended.stdout().lines().count(), 7000);
    assert_eq!(ended.code, Some(if lost == 0 { 0 } else { 71 }));
}

#[test]
fn a_map_whose_every_line_costs_a_worker_ends_with_a_word_about_it() {
    let (_folder, guest) = module(STUCK_BELOW_0);
    let options = args!["map", guest, "f", "--workers", "1", "--wall-time", "none"];
    let mut running = stockade(options).start();
    running.write(&"-1\n".repeat(100));
    drop(running.stdin.take());
    for _ in 0..10 {
        let worker = running.busy_worker(TICKS);
        kill_process(worker, Signal::KILL).unwrap();
    }
    let ended = running.end();
    ended.fails(69, &["is under quarantine: 10 workers in a row died of its tasks"]);
    assert_eq!(ended.stdout().matches("worker-lost").count(), 10);
}

#[test]
fn a_task_that_takes_too_long_costs_its_line_only() {
    let (_folder, guest) = module(STUCK_BELOW_0);
    let ended =
        stockade(args!["map", guest, "f", "--wall-time", "300ms"]).input("1\n-1\n2\n").end();
    ended.fails(71, &["1 deadline"]);
    let stdout = ended.stdout();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!((lines[0], lines[2]), ("{\"line\":1,\"result\":1}", "{\"line\":3,\"result\":2}"));
    assert!(lines[1].contains("\"kind\":\"deadline\",\"fault\":\"limit\""), "{}", lines[1]);
}

#[test]
fn a_result_does_not_wait_for_the_next_line_of_input() {
    let (_folder, guest) = module(STUCK_BELOW_0);
    for options in [&[][..], &["--chunk", "100"], &["--unordered"]] {
        let all = args!["map", guest, "f", "--plain"];
        let mut running = stockade(all.into_iter().chain(options.iter().map(Into::into))).start();
        for n in 1..=3 {
            running.write(&format!("{n}\n"));
            assert_eq!(running.line(), n.to_string());
        }
        drop(running.stdin.take());
        running.end().gives("");
    }
}

#[test]
fn a_result_does_not_wait_for_a_task_that_takes_long() {
    let (folder, guest) = module(STUCK_BELOW_0);
    // The input stays open and has nothing more to give, or has ended; the third line never ends.
    let file = folder.file("input", "1\n2\n-1\n");
    for options in [&["-"][..], &["-", "--unordered"], &["-", "--chunk", "100"], &[]] {
        let base = args!["map", guest, "f", "--plain", "--workers", "1", "--wall-time", "none"];
        let more = options.iter().map(Into::into);
        let input = options.is_empty().then(|| file.clone().into_os_string());
        let mut running = stockade(base.into_iter().chain(more).chain(input)).start();
        if !options.is_empty() {
            running.write("1\n2\n-1\n");
        }
        assert_eq!((running.line(), running.line()), ("1".into(), "2".into()));
    }
}

#[test]
fn a_row_and_a_line_that_is_not_complete_hold_back_none_before_them() {
    let (_folder, guest) = module(STUCK_BELOW_0);
    let csv = args!["map", guest, "f", "--plain", "--input", "csv"];
    for (all, input) in
        [(csv.to_vec(), "n\n1\n2\n\"3"), (args!["map", guest, "f", "--plain"].to_vec(), "1\n2\n3")]
    {
        let mut running = stockade(all).start();
        running.write(input);
        assert_eq!((running.line(), running.line()), ("1".into(), "2".into()));
        running.write(if input.ends_with("\"3") { "\"" } else { "" });
        drop(running.stdin.take());
        running.end().gives("3\n");
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_map_quietly_though_the_input_has_no_end() {
    let (_folder, guest) = module(STUCK_BELOW_0);
    let mut running = stockade(args!["map", guest, "f", "--plain"]).start();
    let mut stdin = running.stdin.take().unwrap();
    let writer = std::thread::spawn(move || while stdin.write_all(b"1\n").is_ok() {});
    for _ in 0..100 {
        assert_eq!(running.line(), "1");
    }
    drop(running.stdout.take());
    let ended = running.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(141), ""));
    writer.join().unwrap();
}

#[test]
fn ctrl_c_ends_the_map_after_what_runs_and_keeps_what_is_done() {
    let (_folder, guest) = module(STUCK_BELOW_0);
    let options = args!["--workers", "1", "--wall-time", "2s"];
    let mut running = stockade(args!["map", guest, "f"].into_iter().chain(options)).start();
    // The third takes until its deadline, those behind it wait, and the input stays open.
    running.write("1\n2\n-1\n4\n5\n");
    assert_eq!(running.line(), "{\"line\":1,\"result\":1}");
    assert_eq!(running.line(), "{\"line\":2,\"result\":2}");
    running.busy_worker(TICKS);
    running.signal(Signal::INT);
    let ended = running.end();
    ended.fails(130, &["3 lines: 2 ok, 1 failed (1 deadline), 2 not run"]);
    assert!(ended.stdout().starts_with("{\"line\":3,\"error\""), "{}", ended.stdout());
    assert_eq!(ended.stdout().lines().count(), 1);
}

#[test]
fn a_second_ctrl_c_ends_the_map_at_once() {
    let (_folder, guest) = module(STUCK_BELOW_0);
    let options = args!["--workers", "1", "--wall-time", "none"];
    let mut running = stockade(args!["map", guest, "f"].into_iter().chain(options)).start();
    running.write("1\n-1\n");
    assert_eq!(running.line(), "{\"line\":1,\"result\":1}");
    running.busy_worker(TICKS);
    let workers = running.workers();
    while !running.has_ended() {
        running.signal(Signal::INT);
    }
    assert_eq!(running.end().code, Some(130));
    assert_eq!(workers.len(), 1);
}
