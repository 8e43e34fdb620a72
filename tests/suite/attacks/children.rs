//! 90: hosts whose children leave no exit status, or whose status another thread takes.

use std::process::{Command, Output};

use stockade_tests::{TASKS, wat_file, worker_program};

use super::seen;

/// How a worker that was killed and one that aborted are said to have ended.
const KNOWN: &str = "Some(9) None\nSome(6) None\n";
const UNKNOWN: &str = "None None\nNone None\n";

/// Runs the program, in a shell that does `first` before.
fn reaper(first: &str, habit: &str) -> Output {
    let program = env!("CARGO_BIN_EXE_reaper");
    let deny = env!("CARGO_BIN_EXE_deny");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("{first} \"$1\" \"$2\" \"$3\""), deny]);
    shell.args([program, habit]).arg(wat_file(TASKS)).env("STOCKADE_WORKER", worker_program());
    shell.output().unwrap()
}

#[track_caller]
fn told(first: &str, habit: &str) -> String {
    let ended = reaper(first, habit);
    let complaint = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{first} {habit}: {}: {complaint}", ended.status);
    String::from_utf8(ended.stdout).unwrap()
}

/// Whether this kernel keeps the status of a process for those who have a descriptor of it.
fn keeps_status() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

#[test]
fn a90_a_host_that_ignores_or_reaps_its_children_loses_nothing_and_signals_no_number() {
    const BY_PARENT: &str = "trap '' CHLD; exec";
    const OLD_KERNEL: &str = "exec \"$0\" pidfd-info";
    let kept = if keeps_status() { KNOWN } else { UNKNOWN };
    assert_eq!(told("exec", "inherits"), KNOWN);
    for (first, habit) in [("exec", "ignores"), ("exec", "forgets"), (BY_PARENT, "inherits")] {
        assert_eq!(told(first, habit), kept, "{first} {habit}");
    }
    // Who is first has the status.
    told("exec", "reaps");
    told(OLD_KERNEL, "reaps");
    assert_eq!(told(OLD_KERNEL, "inherits"), KNOWN);
    for habit in ["ignores", "forgets"] {
        assert_eq!(told(OLD_KERNEL, habit), UNKNOWN, "{habit}");
    }
    seen(
        90,
        "ignored by the host and by its parent, no zombies, every child reaped, each with and without a kernel that keeps the status: workers, compilers and templates killed, stopped and ended, under a filter that ends the host at a signal to a number; no descriptor and no child is left",
    );
}
