//! Ports over real sockets, with rings and without.

use std::fs::File;
use std::io::Write;

use super::*;
use crate::descriptor::sealed_file;
use crate::{Call, Codec, Invocation, ModuleId, Run, TaskId};

/// Both ends of a way; the worker's talks like a worker that was set up.
fn both_ends(with_rings: bool) -> (HostPort, WorkerPort) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut host = HostPort::new(ours, FRAME_BYTES_MAX).unwrap();
    let mut worker = WorkerPort::new(theirs).unwrap();
    if with_rings {
        let rings = Rings::create().unwrap();
        let file = File::from(rings.descriptor().try_clone_to_owned().unwrap());
        host.use_rings(&rings);
        worker.use_rings(&Rings::open(file).unwrap());
    }
    (host, worker)
}

fn run(task: u64, input_bytes: usize) -> HostMessage {
    let call = Call { export: "task".into(), codec: Codec::Raw, input: vec![7; input_bytes] };
    HostMessage::Run(Run {
        tasks: TaskId(task).into(),
        module: ModuleId(0),
        invocation: Invocation::Task(call),
        lengths: Vec::new(),
        limits: None,
        slot: 0,
        share: None,
        placement: None,
    })
}

fn item(task: u64, bytes: usize) -> WorkerMessage {
    WorkerMessage::Emitted(TaskId(task), vec![3; bytes])
}

/// Waits on the socket as a pool does, then takes the next message.
fn hear(host: &mut HostPort) -> Option<WorkerMessage> {
    loop {
        if let Some(message) = host.take().unwrap() {
            return Some(message);
        }
        if host.may_sleep() {
            let mut polled = [rustix::event::PollFd::new(host, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut polled, None).unwrap();
        }
        if host.fill().unwrap() == Filled::End {
            return host.take().unwrap();
        }
    }
}

/// Small ones in the ring, ones too long for it, ones too long for the socket.
const SIZES: [usize; 7] = [0, 100, 30_000, 40_000, 60_000, 300_000, 64];

#[test]
fn messages_come_out_in_their_order_wherever_they_travelled() {
    for with_rings in [true, false] {
        let (mut host, mut worker) = both_ends(with_rings);
        let file = sealed_file("stdin", b"input").unwrap();
        let echo = std::thread::spawn(move || {
            while let Some(message) = worker.receive().unwrap() {
                let HostMessage::Run(Run { tasks, invocation: Invocation::Task(call), .. }) =
                    message
                else {
                    panic!("not what was sent")
                };
                let task = tasks.first();
                if task.0.is_multiple_of(3) {
                    let file = File::from(worker.take_descriptor().unwrap());
                    assert_eq!(crate::descriptor::file_bytes(&file).unwrap(), 5);
                }
                let item = WorkerMessage::Emitted(task, call.input);
                worker.send(&item, Bell::Soon).unwrap();
            }
        });
        for round in 0..30 {
            for (index, bytes) in (0..).zip(SIZES) {
                let task = round * 10 + index;
                let descriptors = [file.as_fd()];
                let beside = usize::from(task % 3 == 0);
                host.send(&run(task, bytes), &descriptors[..beside]).unwrap();
            }
            host.flush().unwrap();
            for (index, bytes) in (0..).zip(SIZES) {
                let expected = WorkerMessage::Emitted(TaskId(round * 10 + index), vec![7; bytes]);
                assert_eq!(hear(&mut host), Some(expected));
            }
        }
        drop(host);
        echo.join().unwrap();
    }
}

#[test]
fn a_worker_that_says_more_than_the_ring_holds_waits_until_there_is_room() {
    let (mut host, mut worker) = both_ends(true);
    let talker = std::thread::spawn(move || {
        for task in 0..1000 {
            worker.send(&item(task, 1000), Bell::Soon).unwrap();
        }
        worker
    });
    for task in 0..1000 {
        assert_eq!(hear(&mut host), Some(item(task, 1000)));
    }
    talker.join().unwrap();
}

#[test]
fn a_host_that_is_gone_ends_a_wait_for_room_and_for_a_message() {
    let (host, mut worker) = both_ends(true);
    let talker = std::thread::spawn(move || {
        let refused = (0..).find_map(|task| worker.send(&item(task, 10_000), Bell::Soon).err());
        assert!(matches!(refused, Some(SendError::Io(_))));
        assert!(worker.receive().unwrap().is_none());
    });
    drop(host);
    talker.join().unwrap();
}

#[test]
fn a_worker_that_does_not_read_makes_the_host_full_instead_of_blocked() {
    for with_rings in [true, false] {
        let (mut host, _worker) = both_ends(with_rings);
        let refused = (0..10_000).find_map(|task| {
            let sent = host.send(&run(task, 20_000), &[]);
            sent.and_then(|()| host.flush()).err()
        });
        assert!(matches!(refused, Some(SendError::Full)), "{refused:?}");
    }
}

#[test]
fn a_host_that_dozed_and_sleeps_is_rung_for_the_next_result() {
    let (mut host, mut worker) = both_ends(true);
    assert!(host.take().unwrap().is_none() && host.may_doze());
    worker.last_bell -= BELL_INTERVAL;
    worker.send(&item(1, 1), Bell::Busy).unwrap();
    assert_eq!(host.fill().unwrap(), Filled::Nothing, "it looks by itself");
    assert!(host.take().unwrap().is_some() && host.take().unwrap().is_none() && host.may_sleep());
    worker.send(&item(2, 1), Bell::Busy).unwrap();
    assert_eq!(host.fill().unwrap(), Filled::Some, "the bell before was not rung");
}

#[test]
fn bells_stand_for_many_results_and_the_last_is_never_left_alone() {
    let (mut host, mut worker) = both_ends(true);
    assert!(host.take().unwrap().is_none() && host.may_sleep());
    worker.send(&item(1, 1), Bell::Now).unwrap();
    assert_eq!(host.fill().unwrap(), Filled::Some);
    // The host has not said that it sleeps again: nobody rings.
    for task in 2..10 {
        worker.send(&item(task, 1), Bell::Now).unwrap();
    }
    let heard: Vec<_> = std::iter::from_fn(|| host.take().unwrap()).collect();
    assert_eq!(heard.len(), 9);
    assert!(host.may_sleep());
    // A worker that has nothing more to do rings for what it kept to itself.
    worker.send(&item(10, 1), Bell::Soon).unwrap();
    let idle = std::thread::spawn(move || worker.receive().unwrap());
    assert_eq!(hear(&mut host), Some(item(10, 1)));
    host.send(&HostMessage::Close, &[]).unwrap();
    host.flush().unwrap();
    assert_eq!(idle.join().unwrap(), Some(HostMessage::Close));
}

#[test]
fn what_a_worker_writes_before_its_end_is_heard() {
    let (mut host, mut worker) = both_ends(true);
    // No more than the socket holds.
    for task in 0..3 {
        worker.send(&item(task, 50_000), Bell::Soon).unwrap();
    }
    drop(worker);
    for task in 0..3 {
        assert_eq!(hear(&mut host), Some(item(task, 50_000)));
    }
    assert_eq!(hear(&mut host), None);
}

#[test]
fn a_frame_that_claims_too_much_or_no_message_is_an_error() {
    for (bytes, what) in [(&[0xff, 0xff, 0xff, 0x7f][..], "long"), (&[1, 0, 0, 0, 255], "none")] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut host = HostPort::new(ours, 1 << 20).unwrap();
        theirs.write_all(bytes).unwrap();
        host.fill().unwrap();
        assert!(host.take().is_err(), "{what}");
    }
}
