//! Templates: workers that are cloned are workers like any other, and a template's end is nobody
//! else's.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::process::{WaitId, WaitIdOptions};
use stockade::{Instances, Layer, LayerReport, Limits, Lockdown, Pool, PoolBuilder};
use stockade_tests::escape::{Act, Escapee, Native};
use stockade_tests::{
    RoleProcess, compile_by_process, descriptors_of, eventually, int, is_alive, is_gone, kill,
    numbers, tasks, template_of, wat,
};
use stockade_wire::descriptor::{Receiver, Sender};
use stockade_wire::frame::FRAME_BYTES_MAX;
use stockade_wire::{
    CompileLimits, Confinement, Grants, HostMessage, Load, ModuleId, Role, Setup, StatusPage,
    TemplateReply, TemplateRequest, WorkerId, WorkerMessage,
};

/// A pool of two workers that both are there.
fn two(builder: PoolBuilder) -> Pool {
    let pool = builder.max_workers(2).build().unwrap();
    pool.spawn_workers(2).unwrap();
    eventually("two workers", || pool.count_free_workers() == 2);
    pool
}

fn template(pool: &Pool) -> u32 {
    template_of(pool.name()).expect("a template")
}

#[test]
fn workers_of_a_pool_are_cloned_from_one_process_that_ends_with_it() {
    let pool = two(numbers());
    let template = template(&pool);
    assert!(is_alive(template));
    for worker in pool.workers() {
        // What a program begins with, a clone has of its template.
        let program = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let first = |maps: String| maps.lines().next().map(str::to_owned);
        assert_eq!(first(program(worker.pid)), first(program(template)));
        let title = std::fs::read_to_string(format!("/proc/{}/cmdline", worker.pid)).unwrap();
        assert_eq!(title.trim_end_matches('\0'), worker.name);
    }
    pool.shutdown();
    assert!(is_gone(template));
}

#[test]
fn a_template_that_is_killed_is_replaced_and_no_task_hears_of_it() {
    let pool = numbers().max_tasks_per_worker(1).build().unwrap();
    assert_eq!(pool.run::<i32>("add", (1, 2)).unwrap(), 3);
    let lost = template(&pool);
    kill(lost);
    eventually("another template", || {
        assert_eq!(pool.run::<i32>("add", (1, 2)).unwrap(), 3);
        template_of(pool.name()).is_some_and(|found| found != lost)
    });
    assert!(is_gone(lost));
}

#[test]
fn a_worker_outlives_its_template() {
    let pool = tasks().instances(Instances::PerWorker).build().unwrap();
    let before = pool.run::<Vec<u8>>("count", int(0)).unwrap();
    kill(template(&pool));
    let after = pool.run::<Vec<u8>>("count", int(0)).unwrap();
    assert_eq!((before[0], after[0]), (1, 2));
}

#[test]
fn after_a_crash_workers_have_other_addresses() {
    let escapee = Escapee::confined(Lockdown::default());
    let pool = escapee.pool();
    let first = template(pool);
    let act = escapee.peek(16);
    assert!(matches!(act, Act::Killed(_)), "{act:?}");
    eventually("another template", || {
        // Whatever it finds there, a worker runs it.
        let _ = escapee.system_call(libc::SYS_getpid, &[]);
        template_of(pool.name()).is_some_and(|found| found != first)
    });
    assert!(is_gone(first));
}

#[test]
fn how_a_clone_ended_is_told_as_of_any_worker() {
    let escapee = Escapee::confined(Lockdown::default().without(Layer::Seccomp));
    assert!(template_of(escapee.pool().name()).is_some());
    assert_eq!(escapee.system_call(libc::SYS_exit_group, &[7]), Act::Exited(7));
    let abort = 128 + i64::from(libc::SIGABRT);
    assert_eq!(escapee.system_call(libc::SYS_exit_group, &[abort]), Act::Killed(libc::SIGABRT));
}

#[test]
fn a_clone_holds_nothing_of_its_template_or_its_siblings() {
    // Of a process that is dumpable an ordinary user sees the descriptors too.
    let pool = two(numbers().lockdown(Lockdown::default().without(Layer::Undumpable)));
    let sockets = |pid| -> BTreeSet<String> {
        let open = descriptors_of(pid).into_iter().map(|(_, target)| target);
        open.filter(|target| target.starts_with("socket:")).collect()
    };
    let pages = |pid: u32| -> BTreeSet<String> {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        // Address, rights (the fourth letter is s where it is shared), offset, device, inode.
        let shared = maps.lines().filter(|line| line.split(' ').nth(1).unwrap().ends_with('s'));
        shared.map(|line| line.split_whitespace().nth(4).unwrap().to_owned()).collect()
    };
    let template = template(&pool);
    let [first, second] = [0, 1].map(|index| pool.workers()[index].pid);
    for pid in [first, second] {
        // Its status page and its rings.
        assert_eq!((sockets(pid).len(), pages(pid).len()), (1, 2));
        let open = descriptors_of(pid);
        assert!(!open.iter().any(|(_, target)| target.contains("pidfd")), "{open:?}");
        assert!(!open.iter().any(|(_, target)| target.ends_with("pagemap")), "{open:?}");
        // Streams, status page, module, and the socket as often as it is used.
        assert!(open.len() <= 10, "{open:?}");
    }
    for of in [sockets, pages] {
        assert!(of(first).is_disjoint(&of(second)));
        assert!(of(first).is_disjoint(&of(template)));
    }
}

#[test]
fn clones_draw_randomness_of_their_own() {
    let pool = wat(r#"(module
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "draw") (result i64)
            (drop (call $random (i32.const 0) (i32.const 8)))
            (i64.load (i32.const 0))))"#)
    .max_tasks_per_worker(1)
    .build()
    .unwrap();
    let drawn: BTreeSet<i64> = (0..4).map(|_| pool.run::<i64>("draw", ()).unwrap()).collect();
    assert!(template_of(pool.name()).is_some());
    assert_eq!(drawn.len(), 4);
}

#[test]
fn a_clone_with_checks_compiled_in_meets_its_deadline_by_itself() {
    let limits =
        Limits::default().interruptible(true).wall_time(std::time::Duration::from_millis(50));
    let pool = numbers().limits(limits).build().unwrap();
    assert!(pool.run::<()>("spin", ()).is_err());
    assert!(template_of(pool.name()).is_some());
    assert_eq!(pool.workers()[0].id.0, 1, "the worker was replaced");
}

#[test]
fn without_namespaces_there_is_no_template() {
    let pool = numbers().lockdown(Lockdown::default().without(Layer::Namespaces)).build().unwrap();
    assert_eq!(pool.run::<i32>("add", (1, 2)).unwrap(), 3);
    assert_eq!(template_of(pool.name()), None);
}

/// What a worker says of its layers, but for its namespaces: those that its test has made depend on
/// how it was started.
fn layers(said: Option<WorkerMessage>) -> Vec<LayerReport> {
    let Some(WorkerMessage::Ready(report)) = said else { panic!("not ready: {said:?}") };
    report.0.into_iter().filter(|report| report.layer != Layer::Namespaces).collect()
}

#[test]
fn a_clone_reports_the_same_layers_as_a_worker_that_was_started_by_itself() {
    let source = "(module (func (export \"f\")))";
    let (_, artefact) = compile_by_process(source, &Limits::default(), CompileLimits::default());
    let limits = Limits::default();
    let lockdown = Lockdown::default().explain_violations(true);
    let setup = |modules| Setup {
        worker: WorkerId(1),
        name: "by hand".into(),
        engine: limits.engine_settings(),
        limits: limits.clone(),
        grants: Grants::none(),
        instances: Instances::PerTask,
        confinement: Confinement { lockdown: lockdown.clone(), ..Confinement::default() },
        modules,
        memories: modules,
        rings: false,
        coredumps: None,
    };
    let mut template = RoleProcess::start(Role::Template);
    let own = rustix::process::pidfd_open(
        rustix::process::getpid(),
        rustix::process::PidfdFlags::empty(),
    )
    .unwrap();
    let request = TemplateRequest::Setup(setup(1));
    template.sender.try_send(&request, &[own.as_fd()]).unwrap();
    let load = Load {
        module: ModuleId(1),
        name: "m".into(),
        initializer: None,
        finalizer: None,
        initialized: false,
        functions: Vec::new(),
    };
    template.sender.try_send(&TemplateRequest::Load(load), &[artefact.as_fd()]).unwrap();
    assert_eq!(template.receiver.receive().unwrap(), Some(TemplateReply::Ready));
    let (ours, theirs) = UnixStream::pair().unwrap();
    let theirs = OwnedFd::from(theirs);
    let start = TemplateRequest::Start { name: "by hand".into() };
    template.sender.try_send(&start, &[theirs.as_fd()]).unwrap();
    drop(theirs);
    let reply = template.receiver.receive().unwrap();
    assert_eq!(reply, Some(TemplateReply::Started));
    let clone = template.receiver.take_descriptor().unwrap();
    let mut sender = Sender::new(ours.try_clone().unwrap());
    let mut receiver = Receiver::new(ours, FRAME_BYTES_MAX);
    let page = StatusPage::create().unwrap();
    sender.try_send(&HostMessage::Setup(setup(1)), &[page.descriptor()]).unwrap();
    let cloned = layers(receiver.receive().unwrap());
    assert_eq!(receiver.receive().unwrap(), Some(WorkerMessage::Loaded(ModuleId(1))));

    let mut by_itself = RoleProcess::start(Role::Worker);
    by_itself.send(&HostMessage::Setup(setup(0)), &[page.descriptor()]);
    let started = layers(by_itself.receive());
    assert_eq!(cloned.len(), started.len());
    for (clone, other) in cloned.iter().zip(&started) {
        // The latter was begun by a shell, not by a pool.
        assert!(clone.layer == other.layer && clone.level >= other.level, "{clone:?}, {other:?}");
    }
    assert_eq!(by_itself.end(), Some(0));
    drop((sender, receiver));
    // It is this process's own child, not the template's.
    let (clone, end) = (WaitId::PidFd(clone.as_fd()), WaitIdOptions::EXITED);
    let ended = rustix::process::waitid(clone, end).unwrap();
    assert_eq!(ended.unwrap().exit_status(), Some(0));
    assert_eq!(template.end(), Some(0));
}
