//! The poller: wakes a thread that waits for workers, by `epoll`.
//!
//! Workers' sockets, one timer and one bell of the host are in one `epoll` set, each
//! edge-triggered: an event goes to one of the threads that wait, and to the one that began to wait
//! last. So the pool's own thread may wait there always, and a caller who waits for a result at the
//! same time as it is woken instead of it, without a word between the two. Nothing but speed
//! depends on that order.
//!
//! Invariant: a thread that gets an event handles it, or passes it on.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use stockade_wire::WorkerId;

/// Workers are counted from 1.
const BELL: u64 = 0;
const TIMER: u64 = u64::MAX;

/// The most events of one wait; the others come with the next.
const EVENTS_MAX: usize = 64;

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PollEvent {
    /// A worker's socket is readable, or has ended: it must be read until it is empty.
    Worker(WorkerId),
    /// The timer has expired.
    Timer,
    /// Somebody rang.
    Bell,
}

/// The set and what is always in it.
#[derive(Debug)]
pub(crate) struct Poller {
    set: OwnedFd,
    bell: OwnedFd,
    timer: OwnedFd,
}

impl Poller {
    /// A set without workers.
    ///
    /// # Errors
    /// If the system has no descriptors left.
    pub(crate) fn new() -> io::Result<Self> {
        let set = epoll::create(CreateFlags::CLOEXEC)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let poller = Self { set, bell, timer };
        poller.add(BELL, poller.bell.as_fd())?;
        poller.add(TIMER, poller.timer.as_fd())?;
        Ok(poller)
    }

    /// Adds `worker`, including its earlier messages, until the descriptor is closed.
    ///
    /// # Errors
    /// If the system has no room left.
    pub(crate) fn add_worker(&self, worker: WorkerId, socket: impl AsFd) -> io::Result<()> {
        self.add(worker.0, socket.as_fd())
    }

    /// Removes a worker, and closes its socket.
    pub(crate) fn remove_worker(&self, socket: impl AsFd) {
        // Fails only for what is not in the set.
        let _ = epoll::delete(&self.set, socket);
    }

    fn add(&self, name: u64, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.set, descriptor, EventData::new_u64(name), flags)?)
    }

    /// Wakes one of the threads that wait, or the next that does.
    pub(crate) fn ring(&self) {
        // A counter that is full has rung already.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// Lets the timer ring once, in `span` from now.
    pub(crate) fn set_timer(&self, span: Duration) {
        // All zero would stop it.
        let it_value = timespec(span.max(Duration::from_nanos(1)));
        let spec = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        // Fails only for times that are none.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec);
    }

    /// Blocks until something happens, `timeout` passes or a signal comes; puts what has happened into
    /// `events`, which is emptied first.
    pub(crate) fn wait(&self, timeout: Option<Duration>, events: &mut Vec<PollEvent>) {
        events.clear();
        let mut ready = [MaybeUninit::uninit(); EVENTS_MAX];
        // A signal is nothing to act on: who waits looks around afterwards anyway.
        if let Ok((ready, _)) = epoll::wait(&self.set, &mut ready, timeout.map(timespec).as_ref()) {
            events.extend(ready.iter().map(|event| what(event.data.u64())));
        }
    }
}

fn what(name: u64) -> PollEvent {
    match name {
        BELL => PollEvent::Bell,
        TIMER => PollEvent::Timer,
        worker => PollEvent::Worker(WorkerId(worker)),
    }
}

fn timespec(span: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(span.subsec_nanos()),
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn next(poller: &Poller) -> Vec<PollEvent> {
        let mut events = Vec::new();
        poller.wait(Some(Duration::from_secs(60)), &mut events);
        events
    }

    fn nothing(poller: &Poller) -> bool {
        let mut events = vec![PollEvent::Bell];
        poller.wait(Some(Duration::ZERO), &mut events);
        events.is_empty()
    }

    #[test]
    fn each_bell_is_heard_once() {
        let poller = Poller::new().unwrap();
        assert!(nothing(&poller));
        poller.ring();
        assert_eq!(next(&poller), [PollEvent::Bell]);
        assert!(nothing(&poller));
        poller.ring();
        assert_eq!(next(&poller), [PollEvent::Bell]);
    }

    #[test]
    fn the_timer_rings_once_and_can_be_set_again() {
        let poller = Poller::new().unwrap();
        for span in [Duration::ZERO, Duration::from_millis(1)] {
            poller.set_timer(span);
            assert_eq!(next(&poller), [PollEvent::Timer]);
            assert!(nothing(&poller));
        }
    }

    #[test]
    fn a_worker_is_heard_from_what_it_has_said_to_its_end() {
        let poller = Poller::new().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"x").unwrap();
        poller.add_worker(WorkerId(7), &ours).unwrap();
        assert_eq!(next(&poller), [PollEvent::Worker(WorkerId(7))]);
        assert!(nothing(&poller), "unread, and told once");
        theirs.write_all(b"y").unwrap();
        assert_eq!(next(&poller), [PollEvent::Worker(WorkerId(7))]);
        drop(theirs);
        assert_eq!(next(&poller), [PollEvent::Worker(WorkerId(7))]);
        poller.remove_worker(&ours);
        assert!(nothing(&poller));
    }
}
