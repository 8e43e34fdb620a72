//! Commands: whole programs with arguments, environment and streams.

use std::io::{Read, Write};

use stockade::{
    Command, CommandOutput, Grants, Limits, RunError, SubmitError, TaskError, TaskOptions,
};
use stockade_tests::{Folder, guest_pool, numbers, wat};

fn linecount() -> stockade::PoolBuilder {
    guest_pool("linecount")
}

fn run(pool: &stockade::Pool, command: Command) -> CommandOutput {
    pool.submit_command(command).unwrap().result().unwrap()
}

#[test]
fn a_program_reads_its_arguments_and_stdin_and_answers_with_output_and_code() {
    let pool = linecount().build().unwrap();
    let output = run(&pool, Command::new("linecount").stdin("one\ntwo\nthree"));
    assert_eq!((output.exit_code, &output.stdout.bytes[..]), (0, &b"3\n"[..]));
    let command = Command::new("linecount").args(["--match", "o"]).stdin("one\ntwo\nthree");
    assert_eq!(run(&pool, command).stdout.bytes, b"2\n");
    let none = run(&pool, Command::new("linecount").stdin(""));
    assert_eq!((none.exit_code, &none.stdout.bytes[..]), (1, &b"0\n"[..]));
    let wrong = run(&pool, Command::new("linecount").args(["--nonsense"]));
    assert_eq!(wrong.exit_code, 2);
    assert!(!wrong.stderr.bytes.is_empty());
}

#[test]
fn stdin_is_at_its_end_and_the_environment_empty_unless_given() {
    let pool = linecount().build().unwrap();
    assert_eq!(run(&pool, Command::new("linecount")).stdout.bytes, b"0\n");
    let folder = Folder::new();
    folder.file("text", "a\nb\n");
    let granted = || linecount().grants(Grants::none().read_dir(folder.path(), "/data"));
    let pool = granted().build().unwrap();
    let command = || Command::new("linecount").args(["/data/text"]);
    assert_eq!(run(&pool, command()).stdout.bytes, b"2 /data/text\n");
    let told = run(&pool, command().env("LINECOUNT_TOTAL", "1"));
    assert_eq!(told.stdout.bytes, b"2 /data/text\n2 total\n");
    assert_eq!(run(&pool, command()).stdout.bytes, b"2 /data/text\n", "it was remembered");
    let grants = Grants::none().read_dir(folder.path(), "/data").env("LINECOUNT_TOTAL", "1");
    let pool = linecount().grants(grants).build().unwrap();
    assert_eq!(run(&pool, command()).stdout.bytes, b"2 /data/text\n2 total\n");
}

#[test]
fn a_file_that_is_not_granted_is_not_there() {
    let folder = Folder::new();
    let file = folder.file("text", "a\n");
    let pool = linecount().build().unwrap();
    let output = run(&pool, Command::new("linecount").args([file.to_str().unwrap()]));
    assert_eq!(output.exit_code, 2);
}

#[test]
fn streams_can_be_pipes_of_the_callers() {
    let pool = linecount().build().unwrap();
    let (stdin, mut feed) = std::io::pipe().unwrap();
    let (mut out, stdout) = std::io::pipe().unwrap();
    let (mut err, stderr) = std::io::pipe().unwrap();
    let command = Command::new("linecount").stdin_from(stdin).stdout_to(stdout).stderr_to(stderr);
    let handle = pool.submit_command(command).unwrap();
    // More than a pipe holds, so that both ends must move.
    for _ in 0..5000 {
        feed.write_all(b"a line of some thirty characters\n").unwrap();
    }
    drop(feed);
    let (mut said, mut complained) = (String::new(), String::new());
    out.read_to_string(&mut said).unwrap();
    err.read_to_string(&mut complained).unwrap();
    let output = handle.result().unwrap();
    assert_eq!((output.exit_code, &said[..], &complained[..]), (0, "5000\n", ""));
    assert!(output.stdout.bytes.is_empty());
}

#[test]
fn a_pipe_that_its_reader_closed_ends_the_program_and_not_its_worker() {
    let pool = linecount().build().unwrap();
    let (out, stdout) = std::io::pipe().unwrap();
    drop(out);
    let output = run(&pool, Command::new("linecount").stdin("a\n").stdout_to(stdout));
    assert_eq!(output.exit_code, 2);
    assert_eq!(run(&pool, Command::new("linecount").stdin("a\n")).exit_code, 0);
    assert_eq!(pool.workers()[0].id.0, 1, "the worker was lost");
}

/// Exits with 50 and how many bytes of stdin came, or with the error number that a read or a wait gave.
const READER: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start") (local $errno i32) (local $count i32)
        ;; A read of stdin, waited for.
        (i32.store8 (i32.const 1008) (i32.const 1))
        (local.set $errno
            (call $poll (i32.const 1000) (i32.const 2000) (i32.const 1) (i32.const 3000)))
        (if (local.get $errno) (then (call $exit (local.get $errno))))
        (loop $more
            (i32.store (i32.const 0) (i32.const 16))
            (i32.store (i32.const 4) (i32.const 100))
            (local.set $errno (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (if (local.get $errno) (then (call $exit (local.get $errno))))
            (local.set $count (i32.add (local.get $count) (i32.load (i32.const 8))))
            (br_if $more (i32.load (i32.const 8))))
        (call $exit (i32.add (i32.const 50) (local.get $count)))))"#;

#[test]
fn a_stdin_that_fails_says_so_and_one_that_does_not_block_is_waited_for() {
    const ISDIR: (i32, i32) = (21, 31);
    const IO: i32 = 29;
    let pool = wat(READER).build().unwrap();
    let code = |command: Command| run(&pool, command).exit_code;
    assert_eq!(code(Command::new("p").stdin_error(ISDIR.0)), ISDIR.1);
    assert_eq!(code(Command::new("p").stdin_error(i32::MIN)), IO);
    assert_eq!(code(Command::new("p").stdin_error(ISDIR.0).stdin("abc")), 53);

    let (stdin, mut feed) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&stdin).unwrap();
    rustix::fs::fcntl_setfl(&stdin, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    let handle = pool.submit_command(Command::new("p").stdin_from(stdin)).unwrap();
    feed.write_all(b"one").unwrap();
    drop(feed);
    assert_eq!(handle.result().unwrap().exit_code, 53);

    // Closed with something unread, a socket is no end.
    let (mut feed, mut stdin) = std::os::unix::net::UnixStream::pair().unwrap();
    stdin.write_all(b"!").unwrap();
    feed.write_all(b"one").unwrap();
    drop(feed);
    assert_eq!(code(Command::new("p").stdin_from(stdin)), IO);
    assert_eq!(pool.workers()[0].id.0, 1, "the worker was lost");
}

#[test]
fn many_programs_with_pipes_wait_in_one_worker() {
    let pool = linecount().build().unwrap();
    let mut feeds = Vec::new();
    let mut handles = Vec::new();
    for _ in 0..200 {
        let (stdin, feed) = std::io::pipe().unwrap();
        feeds.push(feed);
        handles.push(pool.submit_command(Command::new("linecount").stdin_from(stdin)).unwrap());
    }
    for (number, mut feed) in feeds.into_iter().enumerate() {
        feed.write_all(&b"x\n".repeat(number)).unwrap();
    }
    for (number, handle) in handles.iter().enumerate() {
        let output = handle.result().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout.bytes), format!("{number}\n"));
    }
    assert_eq!(pool.workers()[0].id.0, 1, "a worker was lost");
}

#[test]
fn exit_codes_come_through_whatever_they_are() {
    let program = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (import "wasi_snapshot_preview1" "args_sizes_get"
            (func $sizes (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        ;; As many arguments as it has, less than none with one.
        (func (export "_start")
            (drop (call $sizes (i32.const 0) (i32.const 4)))
            (if (i32.eqz (i32.load (i32.const 0))) (then (call $exit (i32.const -1))))
            (if (i32.gt_u (i32.load (i32.const 0)) (i32.const 1))
                (then (call $exit (i32.mul (i32.load (i32.const 0)) (i32.const 100)))))))"#;
    let pool = wat(program).build().unwrap();
    assert_eq!(run(&pool, Command::new("p")).exit_code, 0);
    assert_eq!(run(&pool, Command::new("p").args(["a"])).exit_code, 200);
    assert_eq!(run(&pool, Command::new("p").args(["a", "b"])).exit_code, 300);
}

#[test]
fn a_program_that_traps_is_a_failed_task_with_its_output_kept() {
    let program = r#"(module
        (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\08\00\00\00\03\00\00\00last words")
        (func (export "_start")
            (i32.store (i32.const 4) (i32.const 10))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 100)))
            unreachable))"#;
    let pool = wat(program).build().unwrap();
    let handle = pool.submit_command(Command::new("p")).unwrap();
    assert!(matches!(handle.result(), Err(TaskError::Trap { .. })));
    assert_eq!(handle.report().stdout.bytes, b"last words");
}

#[test]
fn a_programs_output_is_kept_to_its_limit_and_marked() {
    let limits = Limits::default().stdio_bytes(2);
    let pool = linecount().limits(limits).build().unwrap();
    let output = run(&pool, Command::new("p").stdin("x\n".repeat(9)));
    assert_eq!((&output.stdout.bytes[..], output.stdout.dropped), (&b"9\n"[..], 0));
    let output = run(&pool, Command::new("p").stdin("x\n".repeat(10)));
    assert_eq!((&output.stdout.bytes[..], output.stdout.dropped), (&b"10"[..], 1));
}

#[test]
fn functions_and_commands_are_not_mistaken_for_each_other() {
    let pool = linecount().build().unwrap();
    let refused = pool.run::<()>("_start", ());
    assert!(matches!(refused, Err(RunError::Submit(SubmitError::Signature { .. }))));
    let pool = numbers().build().unwrap();
    let refused = pool.submit_command(Command::new("p")).unwrap_err();
    assert!(matches!(refused, SubmitError::UnknownFunction { .. }), "{refused:?}");
    let refused =
        pool.submit_command_with("add", Command::new("p"), TaskOptions::default()).unwrap_err();
    assert!(matches!(refused, SubmitError::Signature { .. }), "{refused:?}");
}

#[test]
fn a_library_is_a_program_from_any_entry_and_each_run_is_initialised_anew() {
    let library = r#"(module
        (global $ready (mut i32) (i32.const 0))
        (func (export "_initialize") (global.set $ready (i32.add (global.get $ready) (i32.const 7))))
        (func (export "") (result i32) (global.get $ready))
        (func (export "run") (result i32) (i32.add (global.get $ready) (i32.const 1)))
        (func (export "wide") (result i64) (i64.const 1)))"#;
    for instances in [stockade::Instances::PerTask, stockade::Instances::PerWorker] {
        let pool = wat(library).instances(instances).build().unwrap();
        for _ in 0..2 {
            assert_eq!(run(&pool, Command::new("p")).exit_code, 7);
            assert_eq!(run(&pool, Command::new("p").entry("run")).exit_code, 8);
        }
        let with = |target: &str| {
            let handle =
                pool.submit_command_with(target, Command::new("p"), TaskOptions::default());
            handle.map(|handle| handle.result().unwrap().exit_code)
        };
        assert_eq!((with("_start").unwrap(), with("").unwrap(), with("run").unwrap()), (7, 7, 8));
        assert!(matches!(with("wide"), Err(SubmitError::Signature { .. })));
        // As a function it is what it was.
        assert_eq!(pool.run::<i32>("run", ()).unwrap(), 8);
        let unknown = pool.submit_command(Command::new("p").entry("rum")).unwrap_err();
        let SubmitError::UnknownFunction { suggestion, available, .. } = unknown else {
            panic!("expected an unknown function")
        };
        assert_eq!(suggestion.as_deref(), Some("run"));
        assert_eq!(available, ["", "run"]);
    }
}

#[test]
fn of_both_entries_of_its_own_the_one_without_a_name_is_meant() {
    let both = r#"(module
        (func (export "_start") unreachable)
        (func (export "") (result i32) (i32.const 3)))"#;
    let pool = wat(both).build().unwrap();
    assert_eq!(run(&pool, Command::new("p")).exit_code, 3);
    let start = pool.submit_command(Command::new("p").entry("_start")).unwrap();
    assert!(matches!(start.result(), Err(TaskError::Trap { .. })));
    // What cannot be an entry is not in the way of the other.
    let taken = r#"(module (func (export "_start")) (func (export "") (param i32)))"#;
    assert_eq!(run(&wat(taken).build().unwrap(), Command::new("p")).exit_code, 0);
}

#[test]
fn a_command_of_one_module_among_several_is_named() {
    let pool = linecount().module(stockade_tests::guest("wordcount")).build().unwrap();
    let command = || Command::new("p").stdin("a\nb\n");
    let output = pool
        .submit_command_with(("linecount", "_start"), command(), TaskOptions::default())
        .unwrap();
    assert_eq!(output.result().unwrap().stdout.bytes, b"2\n");
    let refused = pool.submit_command(command()).unwrap_err();
    assert!(matches!(refused, SubmitError::ModuleNeeded { .. }));
}

#[test]
fn far_too_many_arguments_are_refused() {
    let pool = linecount().build().unwrap();
    let command = Command::new("p").args(["x".repeat(1 << 20)]);
    assert!(matches!(pool.submit_command(command), Err(SubmitError::Encode { .. })));
    let command = Command::new("p").args(["--match", &"x".repeat(1 << 19)]).stdin("y\n");
    assert_eq!(run(&pool, command).exit_code, 1);
}

#[test]
fn a_map_of_commands_gives_what_each_of_them_wrote_in_order_or_as_it_comes() {
    let pool = linecount().max_workers(2).build().unwrap();
    let command = |lines: usize| Command::new("linecount").stdin("x\n".repeat(lines));
    let counts = |map: Vec<CommandOutput>| -> Vec<String> {
        let texts = map.into_iter().map(|output| String::from_utf8(output.stdout.bytes).unwrap());
        texts.collect()
    };
    let expected: Vec<String> = (0..200).map(|lines| format!("{lines}\n")).collect();
    for chunk_size in [1, 7] {
        let map = pool.map_command((0..200).map(command)).chunk_size(chunk_size);
        let outputs: Vec<CommandOutput> = map.collect::<Result<_, _>>().unwrap();
        // No line is none found: an exit code of 1, which is a result.
        assert_eq!(outputs.iter().filter(|output| output.exit_code == 1).count(), 1);
        assert_eq!(counts(outputs), expected);
    }
    let map = pool.map_command((0..200).map(command)).unordered();
    let mut unordered = counts(map.collect::<Result<_, _>>().unwrap());
    unordered.sort_by_key(|text| text.trim_end().parse::<u32>().unwrap());
    assert_eq!(unordered, expected);
    let all = pool.map_command((0..200).map(command)).submit_all();
    assert_eq!(counts(all.collect::<Result<_, _>>().unwrap()), expected);
}

#[test]
fn a_map_of_commands_takes_them_only_as_results_are_taken_and_an_error_costs_no_other() {
    let pool = linecount().max_workers(2).build().unwrap();
    let drawn = std::cell::Cell::new(0);
    let commands = (0..).inspect(|_| drawn.set(drawn.get() + 1)).map(|index| match index % 3 {
        0 => Command::new("linecount").stdin("a\n"),
        1 => Command::new("linecount").args(["\0"]),
        _ => Command::new("linecount").args(["--nonsense"]),
    });
    let mut map = pool.map_command(commands).buffer_size(4);
    for taken in 1..=30 {
        match (taken - 1) % 3 {
            0 => assert_eq!(map.next().unwrap().unwrap().stdout.bytes, b"1\n"),
            1 => assert!(matches!(
                map.next().unwrap(),
                Err(RunError::Submit(SubmitError::Encode { .. }))
            )),
            _ => assert_eq!(map.next().unwrap().unwrap().exit_code, 2),
        }
        assert!(drawn.get() < taken + 4, "{} ahead", drawn.get() - taken);
    }
}

#[test]
fn a_map_of_commands_begins_each_in_the_entry_that_it_names() {
    let library = r#"(module
        (func (export "") (result i32) (i32.const 1))
        (func (export "two") (result i32) (i32.const 2))
        (func (export "three") (result i32) (i32.const 3)))"#;
    let pool = wat(library).build().unwrap();
    let command = |index: usize| match index % 4 {
        0 => Command::new("p"),
        1 => Command::new("p").entry("two"),
        2 => Command::new("p").entry("three"),
        _ => Command::new("p").entry("four"),
    };
    let options = [TaskOptions::default(), TaskOptions::default().label("of a map")];
    for (chunk_size, options) in [1, 3].into_iter().zip(options) {
        let map = pool.map_command((0..40).map(command)).chunk_size(chunk_size).options(options);
        for (index, output) in map.shared_instance().enumerate() {
            match (index % 4, output) {
                (0..=2, Ok(output)) => assert_eq!(output.exit_code as usize, index % 4 + 1),
                (3, Err(RunError::Submit(SubmitError::UnknownFunction { function, .. }))) => {
                    assert_eq!(function, "four");
                }
                (_, other) => panic!("{index}: {other:?}"),
            }
        }
    }
    // A target may name the entry of those that name none.
    let all = pool.starmap::<CommandOutput, _, _>("two", [command(0), command(2)]).submit_all();
    let codes: Vec<_> = all.map(|output| output.unwrap().exit_code).collect();
    assert_eq!(codes, [2, 3]);
}

#[test]
fn commands_of_any_size_in_plenty_cost_no_worker() {
    let pool = wat(r#"(module (memory (export "memory") 1) (func (export "_start")))"#);
    let pool = pool.max_workers(1).build().unwrap();
    // Below, at and above what travels in a ring, in line and as a file of its own.
    for bytes in [1 << 10, 30 << 10, 33 << 10, 60 << 10, 66 << 10, 1 << 20] {
        let command = |_| Command::new("p").stdin(vec![b'x'; bytes]);
        let map = pool.map_command((0..400).map(command)).buffer_size(200);
        assert_eq!(map.map(|output| output.unwrap().exit_code).sum::<i32>(), 0);
        let text = "x".repeat(bytes.min(1 << 18));
        let command = |_| Command::new("p").args([&text]).env("NAME", &text);
        let map = pool.map_command((0..100).map(command)).buffer_size(100);
        assert_eq!(map.map(|output| output.unwrap().exit_code).sum::<i32>(), 0);
    }
    let null = || std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
    let lent = |_| Command::new("p").stdin_from(null()).stdout_to(null()).stderr_to(null());
    let map = pool.map_command((0..2000).map(lent)).buffer_size(300);
    assert_eq!(map.map(|output| output.unwrap().exit_code).sum::<i32>(), 0);
    assert_eq!(pool.workers()[0].id.0, 1, "a worker was lost");
}

#[test]
fn a_text_that_no_program_could_be_given_is_refused() {
    let pool = linecount().build().unwrap();
    let command = || Command::new("p");
    for refused in [
        command().args(["a\0b"]),
        Command::new("\0"),
        command().env("", "x"),
        command().env("A=B", "x"),
        command().env("A\0", "x"),
        command().env("A", "\0"),
    ] {
        let refused = pool.submit_command(refused).unwrap_err();
        assert!(matches!(refused, SubmitError::Encode { .. }), "{refused:?}");
    }
    assert_eq!(run(&pool, command().args(["", "--match"]).env("A", "=")).exit_code, 2);
}
