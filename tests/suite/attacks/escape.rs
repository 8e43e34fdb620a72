//! 61, 77 and 79: native code in a locked-down worker, and lockdowns without a layer.
//!
//! The code is planted by a compiler that is compromised, see [`stockade_tests::escape`], and makes
//! system calls as tasks. Each act is tried with the whole lockdown, with none of it, and with each
//! layer alone, so that it is known which layers hold what.

use std::collections::BTreeMap;
use std::fmt::Write;

use stockade::{BuildError, Grants, Layer, Level, Lockdown, LockdownError, Pool};
use stockade_tests::escape::{Act, Escapee, Native, SEVEN};
use stockade_tests::{Folder, numbers, program_beside, script, worker_program};

use super::page::compare_between;
use super::seen;

/// Layers that can be left off.
fn layers() -> impl Iterator<Item = Layer> {
    Layer::ALL.into_iter().filter(|layer| *layer != Layer::Inheritance)
}

/// A lockdown of these layers and no other.
fn only(wanted: &[Layer]) -> Lockdown {
    let off = layers().filter(|layer| !wanted.contains(layer));
    off.fold(Lockdown::default(), Lockdown::without)
}

/// What native code may try, by name.
pub(super) type Try = (&'static str, fn(&dyn Native) -> Act);

const AT_HERE: i64 = libc::AT_FDCWD as i64;

/// A page of code, written and then made executable by whatever `publish` does.
fn executed(escapee: &dyn Native, publish: impl FnOnce(i64) -> Act) -> Act {
    let page = escapee.map(libc::PROT_READ | libc::PROT_WRITE, libc::MAP_ANONYMOUS, -1);
    let Act::Done(page) = page else { return page };
    escapee.write_to(page, &SEVEN);
    match publish(page) {
        Act::Done(_) => escapee.call(page),
        refused => refused,
    }
}

/// Reads a byte of another process, at an address where nothing is: who may read is told so.
fn read_memory_of(it: &dyn Native, process: i64) -> Act {
    let mut vectors = Vec::new();
    let local = it.write(&[0; 8]) + 64;
    for word in [local, 1, 4096, 1] {
        vectors.extend_from_slice(&word.to_le_bytes());
    }
    let vectors = it.write(&vectors);
    let arguments = [process, vectors, 1, vectors + 16, 1, 0];
    match it.system_call(libc::SYS_process_vm_readv, &arguments) {
        Act::Refused(libc::EFAULT) => Act::Done(0),
        other => other,
    }
}

fn host() -> i64 {
    i64::from(std::process::id())
}

pub(super) const TRIES: [Try; 25] = [
    ("opening a file", |it| {
        let path = it.write(b"/etc/passwd\0");
        it.system_call(libc::SYS_openat, &[AT_HERE, path, 0])
    }),
    ("creating a file", |it| {
        let path = it.write(b"/tmp/stockade-escape\0");
        let flags = i64::from(libc::O_CREAT | libc::O_WRONLY);
        it.system_call(libc::SYS_openat, &[AT_HERE, path, flags, 0o600])
    }),
    ("reading the host's memory as a file", |it| {
        let path = it.write(format!("/proc/{}/mem\0", host()).as_bytes());
        it.system_call(libc::SYS_openat, &[AT_HERE, path, 0])
    }),
    ("executing a program", |it| {
        let path = it.write(b"/bin/true\0");
        it.system_call(libc::SYS_execve, &[path, 0, 0])
    }),
    ("forking", |it| it.fork()),
    ("a TCP connection", |it| {
        let socket = [libc::AF_INET, libc::SOCK_STREAM, 0].map(i64::from);
        match it.system_call(libc::SYS_socket, &socket) {
            Act::Done(socket) => {
                // 127.0.0.1, a port at which nobody listens: refused by the peer is a connection.
                let address = it.write(&[2, 0, 0, 9, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
                match it.system_call(libc::SYS_connect, &[socket, address, 16]) {
                    Act::Refused(libc::ECONNREFUSED) => Act::Done(0),
                    other => other,
                }
            }
            refused => refused,
        }
    }),
    ("tracing the host", |it| {
        let seize = i64::from(libc::PTRACE_SEIZE);
        match it.system_call(libc::SYS_ptrace, &[seize, host(), 0, 0]) {
            Act::Done(result) => {
                it.system_call(libc::SYS_ptrace, &[i64::from(libc::PTRACE_DETACH), host(), 0, 0]);
                Act::Done(result)
            }
            refused => refused,
        }
    }),
    ("reading the host's memory", |it| read_memory_of(it, host())),
    ("signalling the host", |it| it.system_call(libc::SYS_kill, &[host(), 0])),
    ("a handle of the host's process", |it| it.system_call(libc::SYS_pidfd_open, &[host(), 0])),
    ("memory that is writable and executable", |it| {
        let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        it.map(all, libc::MAP_ANONYMOUS, -1)
    }),
    ("memory that is written, then executed", |it| {
        executed(it, |page| {
            let code = i64::from(libc::PROT_READ | libc::PROT_EXEC);
            it.system_call(libc::SYS_mprotect, &[page, 4096, code])
        })
    }),
    ("executing a memory file", |it| {
        let name = it.write(b"x\0");
        match it.system_call(libc::SYS_memfd_create, &[name, 0]) {
            Act::Done(file) => {
                let code = it.write(&SEVEN);
                it.system_call(libc::SYS_write, &[file, code, SEVEN.len() as i64]);
                match it.map(libc::PROT_READ | libc::PROT_EXEC, 0, file) {
                    Act::Done(page) => it.call(page),
                    refused => refused,
                }
            }
            refused => refused,
        }
    }),
    ("io_uring", |it| {
        let parameters = it.write(&[0; 120]);
        it.system_call(libc::SYS_io_uring_setup, &[4, parameters])
    }),
    ("userfaultfd", |it| {
        const USER_MODE_ONLY: i64 = 1;
        it.system_call(libc::SYS_userfaultfd, &[USER_MODE_ONLY])
    }),
    ("x32", |it| it.system_call(0x4000_0000 | libc::SYS_getpid, &[])),
    ("int 0x80", |it| {
        const GETPID: i64 = 20;
        it.old_call(GETPID)
    }),
    ("perf_event_open", |it| {
        let mut attributes = [0_u8; 112];
        // A software event, of this size, of user space only.
        attributes[0] = 1;
        attributes[4] = 112;
        attributes[40] = 0b110_0001;
        let attributes = it.write(&attributes);
        it.system_call(libc::SYS_perf_event_open, &[attributes, 0, -1, -1, 0])
    }),
    ("bpf", |it| {
        // A small array, as programs share them with the kernel.
        let attributes = it.write(&[2, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0]);
        it.system_call(libc::SYS_bpf, &[0, attributes, 16])
    }),
    ("keys", |it| {
        const SESSION: i64 = -3;
        it.system_call(libc::SYS_keyctl, &[0, SESSION, 1])
    }),
    ("a user namespace", |it| it.system_call(libc::SYS_unshare, &[i64::from(libc::CLONE_NEWUSER)])),
    ("becoming root", |it| it.system_call(libc::SYS_setuid, &[0])),
    ("outliving the host", |it| {
        let ask = i64::from(libc::PR_SET_PDEATHSIG);
        it.system_call(libc::SYS_prctl, &[ask, 0, 0, 0, 0])
    }),
    ("becoming dumpable", |it| {
        it.system_call(libc::SYS_prctl, &[i64::from(libc::PR_SET_DUMPABLE), 1, 0, 0, 0])
    }),
    ("2 GiB of memory", |it| {
        let length = 2_i64 << 30;
        let write = i64::from(libc::PROT_READ | libc::PROT_WRITE);
        let flags = i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        it.system_call(libc::SYS_mmap, &[0, length, write, flags, -1, 0])
    }),
];

/// What the whole lockdown leaves of the last of them: there is a limit and no filter.
pub(super) const NOT_BY_FILTER: &str = "2 GiB of memory";

#[test]
fn a61_native_code_in_a_worker_dies_of_every_system_call_that_is_not_its_roles() {
    for (name, act) in TRIES {
        let escapee = Escapee::confined(Lockdown::default().require([Layer::Seccomp]));
        let seen = act(&escapee);
        if name == NOT_BY_FILTER {
            assert_eq!(seen, Act::Refused(libc::ENOMEM), "{name}");
        } else {
            assert_eq!(seen, Act::Killed(libc::SIGSYS), "{name}");
        }
        // The pool goes on, in another process.
        assert!(matches!(escapee.system_call(libc::SYS_getpid, &[]), Act::Done(_)), "{name}");
    }
    let killed = TRIES.len() - 1;
    seen(
        61,
        &format!(
            "{killed} acts of real native code, each killed by SIGSYS; another worker took its place"
        ),
    );
}

#[test]
fn a_file_that_was_granted_for_writing_is_never_executed() {
    let folder = Folder::new();
    let grants = Grants::none().write_dir(folder.path(), "/");
    let escapee = Escapee::of(Escapee::builder().grants(grants));
    let path = folder.file("code", SEVEN).display().to_string();
    let path = escapee.write(format!("{path}\0").as_bytes());
    let Act::Done(file) = escapee.system_call(libc::SYS_openat, &[AT_HERE, path, 0]) else {
        panic!("a granted file can be opened")
    };
    let mapped = escapee.map(libc::PROT_READ | libc::PROT_EXEC, 0, file);
    assert_eq!(mapped, Act::Killed(libc::SIGSYS));
    // What was not granted is not available.
    let grants = Grants::none().write_dir(folder.path(), "/");
    let escapee = Escapee::of(Escapee::builder().grants(grants));
    let path = escapee.write(b"/etc/passwd\0");
    let opened = escapee.system_call(libc::SYS_openat, &[AT_HERE, path, 0]);
    assert_eq!(opened, Act::Refused(libc::EACCES));
}

#[test]
fn a_worker_that_explains_dies_all_the_same() {
    let escapee = Escapee::confined(Lockdown::default().explain_violations(true));
    let path = escapee.write(b"/etc/passwd\0");
    let act = escapee.system_call(libc::SYS_openat, &[AT_HERE, path, 0]);
    assert_eq!(act, Act::Killed(libc::SIGSYS));
}

/// Whether an act came to nothing.
fn holds(act: &Act) -> bool {
    matches!(act, Act::Refused(_) | Act::Killed(libc::SIGSYS))
}

#[test]
fn docs_security_tells_which_layers_hold_what() {
    // What root may do without a lockdown differs from what others may, and the page is of root.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut page =
        String::from("| act | without any layer | held by each of these alone |\n|---|---|---|\n");
    for (name, act) in TRIES {
        let free = act(&Escapee::confined(only(&[])));
        if holds(&free) {
            writeln!(page, "| {name} | refused by this kernel anyway | |").unwrap();
            continue;
        }
        let holding = layers().filter(|layer| {
            let escapee = Escapee::confined(only(&[*layer]));
            holds(&act(&escapee))
        });
        let holding: Vec<_> = holding.map(Layer::name).collect();
        assert!(!holding.is_empty(), "nothing holds {name}");
        writeln!(page, "| {name} | done | {} |", holding.join(", ")).unwrap();
    }
    // One of the acts that may be done made it.
    let _ = std::fs::remove_file("/tmp/stockade-escape");
    compare_between("layers", &page);
}

#[test]
fn a77_a_layer_that_is_missing_is_reported_and_refused_where_it_is_required() {
    let whole = numbers().lockdown(Lockdown::default()).build().unwrap();
    let whole = whole.lockdown().unwrap().clone();
    for layer in layers() {
        let lockdown = Lockdown::default().without(layer);
        let pool = numbers().lockdown(lockdown.clone()).build().unwrap();
        let found = pool.lockdown().unwrap();
        assert_eq!(pool.run::<i32>("add", (3, 4)).unwrap(), 7, "{layer}: it runs without");
        for (role, report, before) in [
            ("worker", &found.worker, &whole.worker),
            ("compiler", &found.compiler, &whole.compiler),
        ] {
            for other in Layer::ALL {
                let (now, before) = (report.level(other), before.level(other));
                if layer == Layer::NoNewPrivs && other == Layer::Landlock {
                    assert_eq!(now, Level::None, "it cannot be had without");
                } else if other != layer {
                    assert_eq!(now, before, "{role} without {layer}: {other}: {report:?}");
                } else if other == Layer::NoNewPrivs {
                    assert_eq!(now, Level::Full, "the filter brings it along");
                } else {
                    assert_eq!(now, Level::None, "{role} without {layer}: {report:?}");
                }
            }
        }
        assert_eq!(found.is_sandboxed(), layer != Layer::Seccomp);
        if layer != Layer::NoNewPrivs {
            let refused = numbers().lockdown(lockdown.require([layer])).build();
            let Err(BuildError::Lockdown(LockdownError::Missing { role, missing })) = refused
            else {
                panic!("without {layer}: {refused:?}")
            };
            assert_eq!((role, missing.layer), ("worker", layer));
        }
    }
    assert!(whole.is_sandboxed());
    seen(
        77,
        "each of 10 layers left off in turn: the report says which, `require` refuses at build",
    );
}

#[test]
fn a_required_layer_that_is_there_builds_a_pool() {
    let pool = numbers().lockdown(Lockdown::default().require_all()).build().unwrap();
    assert_eq!(pool.run::<i32>("add", (3, 4)).unwrap(), 7);
    let found = pool.lockdown().unwrap();
    assert_eq!(found.missing(&Lockdown::default().require_all()), []);
    // Asked once.
    assert!(std::ptr::eq(found, pool.lockdown().unwrap()));
}

/// A worker program that is the real one on a kernel without a feature.
pub(super) fn on_a_kernel_without(folder: &Folder, feature: &str) -> stockade::WorkerProgram {
    let deny = program_beside("deny");
    let text = format!("exec {} {feature} {} \"$1\"", deny.display(), worker_program().display());
    stockade::WorkerProgram::Path(script(folder, &text))
}

#[test]
fn a_layer_that_the_kernel_does_not_have_is_reported_and_refused_where_it_is_required() {
    let folder = Folder::new();
    for (feature, layer) in [
        ("landlock", Layer::Landlock),
        ("mdwe", Layer::WriteXorExecute),
        ("seccomp", Layer::Seccomp),
    ] {
        let program = on_a_kernel_without(&folder, feature);
        let pool = numbers().worker_program(program.clone()).lockdown(Lockdown::default());
        let pool = pool.build().unwrap();
        assert_eq!(pool.run::<i32>("add", (3, 4)).unwrap(), 7, "{feature}");
        let found = pool.lockdown().unwrap();
        for report in [&found.worker, &found.compiler] {
            assert_eq!(report.level(layer), Level::None, "{feature}: {report:?}");
        }
        let refused = numbers()
            .worker_program(program)
            .lockdown(Lockdown::default().require([layer]))
            .build();
        assert!(
            matches!(refused, Err(BuildError::Lockdown(LockdownError::Missing { .. }))),
            "{feature}: {refused:?}"
        );
    }
}

/// What one worker may do to another, by name.
type Attack = (&'static str, fn(&dyn Native, i64) -> Act);

const ATTACKS: [Attack; 4] = [
    ("a signal", |it, other| it.system_call(libc::SYS_kill, &[other, i64::from(libc::SIGKILL)])),
    ("reading its memory", read_memory_of),
    ("tracing it", |it, other| {
        it.system_call(libc::SYS_ptrace, &[i64::from(libc::PTRACE_SEIZE), other, 0, 0])
    }),
    ("a handle of it", |it, other| it.system_call(libc::SYS_pidfd_open, &[other, 0])),
];

#[test]
fn a79_two_workers_cannot_touch_each_other() {
    let victim = Escapee::confined(Lockdown::default());
    let pid = i64::from(victim.pid());
    for (name, attack) in ATTACKS {
        let attacker = Escapee::confined(Lockdown::default());
        assert_eq!(attack(&attacker, pid), Act::Killed(libc::SIGSYS), "{name}");
        // Without the filter others hold.
        let attacker = Escapee::confined(Lockdown::default().without(Layer::Seccomp));
        assert!(matches!(attack(&attacker, pid), Act::Refused(_)), "{name}");
        let attacker = Escapee::confined(only(&[Layer::Namespaces]));
        assert!(matches!(attack(&attacker, pid), Act::Refused(_)), "{name}");
    }
    assert_eq!(abstract_socket(&Lockdown::default()), Act::Killed(libc::SIGSYS));
    assert!(holds(&abstract_socket(&Lockdown::default().without(Layer::Seccomp))));
    assert!(holds(&abstract_socket(&only(&[Layer::NoNewPrivs, Layer::Landlock]))));
    assert!(holds(&abstract_socket(&only(&[Layer::Namespaces]))));
    // A check that could not fail would show nothing.
    assert!(matches!(abstract_socket(&only(&[])), Act::Done(_)));
    assert!(matches!(victim.system_call(libc::SYS_getpid, &[]), Act::Done(_)));
    assert_eq!(i64::from(victim.pid()), pid, "it was not touched");
    let attacks = ATTACKS.len() + 1;
    seen(
        79,
        &format!(
            "{attacks} attacks: SIGSYS; without the filter an error number; the other worker lived on"
        ),
    );
}

/// Connects to an abstract socket of this process's, from a worker so confined.
fn abstract_socket(lockdown: &Lockdown) -> Act {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};

    let name = stockade_tests::name_for_a_pool() + &std::process::id().to_string();
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let escapee = Escapee::confined(lockdown.clone());
    let socket = [libc::AF_UNIX, libc::SOCK_STREAM, 0].map(i64::from);
    match escapee.system_call(libc::SYS_socket, &socket) {
        Act::Done(socket) => {
            let mut address = vec![1, 0, 0];
            address.extend_from_slice(name.as_bytes());
            let length = address.len() as i64;
            let address = escapee.write(&address);
            escapee.system_call(libc::SYS_connect, &[socket, address, length])
        }
        refused => refused,
    }
}

#[test]
fn a_pools_lockdown_is_that_of_its_machine() {
    let pool: Pool = numbers().lockdown(Lockdown::default()).build().unwrap();
    let machine = stockade::lockdown(&Lockdown::default(), None).unwrap();
    let levels = |report: &stockade::LockdownReport| -> BTreeMap<_, _> {
        report.0.iter().map(|layer| (layer.layer, layer.level)).collect()
    };
    assert_eq!(levels(&pool.lockdown().unwrap().worker), levels(&machine.worker));
    assert_eq!(levels(&machine.worker).len(), Layer::ALL.len());
    assert_eq!(levels(&machine.compiler).len(), Layer::ALL.len());
}
