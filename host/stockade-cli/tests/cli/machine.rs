//! Faults of the machine: they are told as its own, with what to do about them, and never as a module's.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::args;
use crate::support::{Ended, Stockade, data, module, stockade};

/// What the machine refused, or what no worker could start with.
const MACHINE: i32 = 70;

fn gcd() -> Stockade {
    stockade(args!["run", data("scalar/scalar.wat"), "gcd", "1071", "462"])
}

/// Asserts that it is no module's fault, and that the next step is named.
#[track_caller]
fn is_the_machines(ended: &Ended, named: &[&str]) {
    ended.fails(MACHINE, named);
    assert!(ended.stderr.contains("help: "), "{}", ended.stderr);
    assert!(!ended.stderr.contains("refused"), "{}", ended.stderr);
}

/// Whether the system does this here at all, for this user.
fn can(line: &[&str]) -> bool {
    let mut probe = Command::new(line[0]);
    probe.args(&line[1..]).arg("/bin/true").stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

/// Tells that something is not available here, in a test that passes without it.
#[expect(clippy::print_stderr, reason = "for the reader of what a test prints")]
fn not_tried(why: &str) {
    eprintln!("not tried: {why}");
}

#[test]
fn a_limit_on_this_process_is_named_with_how_a_shell_raises_it() {
    for (limit, named) in [
        // Below 4 it cannot be loaded; from 16 it works.
        ("-n 4", "`ulimit -n`"),
        ("-n 7", "`ulimit -n`"),
        ("-n 10", "`ulimit -n`"),
        ("-n 12", "`ulimit -n`"),
        ("-v 3145728", "`ulimit -v`"),
        ("-f 0", "`ulimit -f`"),
        ("-f 10", "`ulimit -f`"),
    ] {
        let ended = gcd().after(&format!("ulimit {limit}")).end();
        is_the_machines(&ended, &[named]);
    }
    gcd().after("ulimit -n 32").end().gives("21\n");
}

#[test]
fn a_file_that_no_descriptor_is_left_for_is_not_missing() {
    let ended = stockade(args!["inspect", data("scalar/scalar.wat")]).after("ulimit -n 3").end();
    // Where the loader has none left, this program does not begin.
    if ended.code != Some(127) {
        is_the_machines(&ended, &["`ulimit -n`"]);
    }
    stockade(args!["inspect", "missing.wasm"]).end().fails(66, &["missing.wasm"]);
}

#[test]
fn a_limit_on_processes_is_named() {
    // Of a user who has no other process.
    let nobody: &[&str] = &["setpriv", "--reuid=61234", "--regid=61234", "--clear-groups"];
    let program = env!("CARGO_BIN_EXE_stockade");
    if !can(&[nobody, &["test", "-x", program, "-a"]].concat()) {
        not_tried(&format!("this user cannot become another that reaches {program}"));
        return;
    }
    for processes in 0..5 {
        let limit = format!("--nproc={processes}");
        let ended = gcd().within(&[nobody, &["prlimit", &limit]].concat()).end();
        is_the_machines(&ended, &["`ulimit -u`"]);
    }
}

#[test]
fn a_device_or_file_of_the_system_that_is_not_there_is_named() {
    let unshare: &[&str] = if rustix::process::getuid().is_root() {
        &["unshare", "--mount"]
    } else {
        &["unshare", "--map-root-user", "--mount"]
    };
    if !can(unshare) {
        not_tried("this user cannot have mounts of its own");
        return;
    }
    for (path, step) in [("/dev", "`/dev`"), ("/proc", "mount")] {
        let mounts = format!("mount -t tmpfs none {path} && exec \"$0\" \"$@\"");
        let ended = gcd().within(&[unshare, &["/bin/sh", "-c", &mounts]].concat()).end();
        is_the_machines(&ended, &[path, step]);
    }
    // It needs no temporary file.
    let mounts = "mount -t tmpfs -o ro none /tmp && exec \"$0\" \"$@\"";
    let program = PathBuf::from(env!("CARGO_BIN_EXE_stockade"));
    if !program.starts_with("/tmp") {
        gcd().within(&[unshare, &["/bin/sh", "-c", mounts]].concat()).end().gives("21\n");
    }
}

#[test]
fn a_module_is_refused_with_65_where_the_machine_has_all() {
    let (_folder, guest) = module("(module (func (export \"f\") (result i32)))");
    stockade(args!["run", guest, "f"]).end().fails(65, &["is refused"]);
}

/// Root as in a container that drops every capability.
const WITHOUT_CAPABILITIES: &[&str] = &["setpriv", "--inh-caps=-all", "--bounding-set=-all"];

#[test]
fn root_without_capabilities_runs_with_the_layers_that_can_be_had() {
    if !rustix::process::getuid().is_root() || !can(WITHOUT_CAPABILITIES) {
        not_tried("this is not root with capabilities to give up");
        return;
    }
    let one_less = ["sys_admin", "setfcap", "setuid", "setgid", "setpcap"]
        .map(|name| ["setpriv".to_owned(), format!("--bounding-set=-{name}")]);
    let one_less: Vec<Vec<&str>> =
        one_less.iter().map(|line| line.iter().map(|word| &**word).collect()).collect();
    for line in one_less.iter().map(|line| &line[..]).chain([WITHOUT_CAPABILITIES]) {
        gcd().within(line).end().gives("21\n");
    }
    let ended = stockade(args!["doctor", "--json"]).within(WITHOUT_CAPABILITIES).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let json: serde_json::Value = serde_json::from_str(&ended.stdout()).unwrap();
    assert_eq!(json["sandboxed"], true, "{json}");
    for role in ["worker", "compiler"] {
        let of = |name: &str| {
            let layers = json[role].as_array().unwrap();
            layers.iter().find(|layer| layer["layer"] == name).unwrap()
        };
        // A namespace of its own users would have to map root, which root may no longer do.
        assert_eq!(of("namespaces")["level"], "none");
        assert!(of("namespaces")["reason"].as_str().unwrap().contains("not permitted"));
        assert_eq!(of("privileges")["level"], "partial");
        for full in ["undumpable", "resource-limits", "landlock", "seccomp"] {
            assert_eq!(of(full)["level"], "full", "{full} of a {role}");
        }
    }
    let required =
        stockade(args!["doctor", "--require", "namespaces"]).within(WITHOUT_CAPABILITIES);
    required.end().fails(MACHINE, &["namespaces"]);
}

#[test]
fn it_runs_under_a_parent_that_ignores_the_ends_of_children() {
    gcd().after("trap '' CHLD").end().gives("21\n");
    let (_folder, guest) = module("(module (func (export \"f\") unreachable))");
    stockade(args!["run", guest, "f"]).after("trap '' CHLD").end().fails(67, &["unreachable"]);
}
