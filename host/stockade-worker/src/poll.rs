//! `poll_oneoff`: how a guest sleeps and waits.
//!
//! wasmtime-wasi's would sleep past the deadline, and would wait on a runtime's timers, which a
//! synchronous worker does not drive. Ours blocks the thread, at most until about the task's
//! deadline, for times and for streams.
//!
//! A deterministic guest is the exception: to it every stream is ready, since when something comes is
//! chance. It then waits where it reads.
//!
//! Layouts are those of `wasi_snapshot_preview1`: a subscription has 48 bytes, an event 32.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use wasmtime::{Caller, Linker};
use wasmtime_wasi::HostMonotonicClock;

use crate::call::{Call, NO_TASK};
use crate::descriptors::Waitable;
use crate::failure::HostTrap;
use crate::guest::GuestState;
use crate::hostcalls;
use crate::wasi::Clock;

const SUBSCRIPTION_BYTES: usize = 48;
const EVENT_BYTES: usize = 32;

/// The most subscriptions of one call.
const SUBSCRIPTIONS_MAX: u32 = 4096;

const SUCCESS: i32 = 0;
const FAULT: i32 = 21;
const INVALID: i32 = 28;

/// What a guest waits for.
#[derive(Debug)]
enum Wanted {
    /// So much time to pass.
    Time(Duration),
    /// Nothing: a file, or what is no stream at all, with its error number.
    Ready(i32),
    /// A stream.
    Stream(Waitable, PollFlags),
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// It is due or ready; or there is nothing to wait for, because of this error.
    Due { error: i32 },
    /// A stream whose other end has gone.
    HungUp,
}

/// Puts ours in the place of wasmtime-wasi's.
///
/// # Errors
/// If the linker does not allow that.
pub(crate) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "wasi_snapshot_preview1",
        "poll_oneoff",
        |mut caller: Caller<'_, GuestState>,
         subscriptions: u32,
         events: u32,
         count: u32,
         stored: u32| { poll(&mut caller, subscriptions, events, count, stored) },
    )?;
    Ok(())
}

fn poll(
    caller: &mut Caller<'_, GuestState>,
    subscriptions: u32,
    events: u32,
    count: u32,
    stored: u32,
) -> wasmtime::Result<i32> {
    if count == 0 || count > SUBSCRIPTIONS_MAX {
        return Ok(INVALID);
    }
    let (memory, state) = hostcalls::memory_and_state(caller)?;
    let Some(from) = bytes_at(memory, subscriptions, count, SUBSCRIPTION_BYTES) else {
        return Ok(FAULT);
    };
    if bytes_at(memory, events, count, EVENT_BYTES).is_none()
        || bytes_at(memory, stored, 1, 4).is_none()
    {
        return Ok(FAULT);
    }
    let from = from.to_vec();
    let clock = state.clock();
    let wanted: Option<Vec<_>> =
        from.chunks_exact(SUBSCRIPTION_BYTES).map(|one| wanted(one, &clock, state)).collect();
    let Some(wanted) = wanted else { return Ok(INVALID) };
    let came = wait(&wanted, &clock, &state.call)?;

    let (memory, _) = hostcalls::memory_and_state(caller)?;
    let mut written = 0u32;
    for (subscription, event) in from.chunks_exact(SUBSCRIPTION_BYTES).zip(came) {
        let Some(event) = event else { continue };
        let at = events as usize + written as usize * EVENT_BYTES;
        let Some(place) = memory.get_mut(at..at + EVENT_BYTES) else { return Ok(FAULT) };
        write_event(subscription, event, place);
        written += 1;
    }
    let stored = stored as usize;
    let Some(place) = memory.get_mut(stored..stored + 4) else { return Ok(FAULT) };
    place.copy_from_slice(&written.to_le_bytes());
    Ok(SUCCESS)
}

fn bytes_at(memory: &[u8], pointer: u32, count: u32, size: usize) -> Option<&[u8]> {
    let start = pointer as usize;
    let length = (count as usize).checked_mul(size)?;
    memory.get(start..start.checked_add(length)?)
}

/// What a subscription waits for; `None` where it is invalid.
fn wanted(subscription: &[u8], clock: &Clock, state: &mut GuestState) -> Option<Wanted> {
    const CLOCK: u8 = 0;
    const FD_READ: u8 = 1;
    const FD_WRITE: u8 = 2;
    const REALTIME: u32 = 0;
    const MONOTONIC: u32 = 1;
    const ABSOLUTE: u16 = 1;
    let id = u32::from_le_bytes(*subscription[16..].first_chunk()?);
    let (stream, what) = match subscription[8] {
        CLOCK => {
            let timeout = u64::from_le_bytes(*subscription[24..].first_chunk()?);
            let flags = u16::from_le_bytes(*subscription[40..].first_chunk()?);
            let now = match id {
                REALTIME => clock.since_epoch_ns(),
                MONOTONIC => clock.now(),
                _ => return None,
            };
            let wait = if flags & ABSOLUTE == 0 { timeout } else { timeout.saturating_sub(now) };
            return Some(Wanted::Time(Duration::from_nanos(wait)));
        }
        FD_READ => (state.whole_wasi().readable(id), PollFlags::IN),
        FD_WRITE => (state.whole_wasi().writable(id), PollFlags::OUT),
        _ => return None,
    };
    Some(match stream {
        Ok(Some(stream)) if matches!(clock, Clock::Worker(_)) => Wanted::Stream(stream, what),
        Ok(_) => Wanted::Ready(SUCCESS),
        Err(error) => Wanted::Ready(error),
    })
}

/// Waits until at least one of what is `wanted` came, and says of each whether it did.
fn wait(wanted: &[Wanted], clock: &Clock, call: &Call) -> Result<Vec<Option<Event>>, HostTrap> {
    let times = wanted.iter().filter_map(|one| match one {
        Wanted::Time(time) => Some(*time),
        Wanted::Ready(_) => Some(Duration::ZERO),
        Wanted::Stream(..) => None,
    });
    let wait = times.min();
    // Each once, however often it is asked for: the system takes no more than may be open.
    let mut places = BTreeMap::new();
    let mut streams: Vec<PollFd<'_>> = Vec::new();
    for one in wanted {
        let Wanted::Stream(stream, what) = one else { continue };
        let new = (streams.len(), PollFlags::empty());
        let (place, all) = places.entry(stream.as_fd().as_raw_fd()).or_insert(new);
        *all |= *what;
        match streams.get_mut(*place) {
            None => streams.push(PollFd::new(stream, *all)),
            Some(one) => *one = PollFd::new(stream, *all),
        }
    }
    match (clock, wait) {
        // Nobody else's time depends on how long that is.
        (Clock::Virtual(time), wait) => time.pass(wait.unwrap_or_default()),
        (Clock::Worker(_), Some(wait)) if streams.is_empty() => sleep(wait, call)?,
        (Clock::Worker(_), wait) => watch(&mut streams, wait, call)?,
    }
    let of_stream = |stream: &Waitable, what: PollFlags| {
        let (place, _) = places.get(&stream.as_fd().as_raw_fd())?;
        let came = streams[*place].revents();
        if came.intersects(what) {
            return Some(Event::Due { error: SUCCESS });
        }
        // Its error, if there is one, is told by the call that follows.
        let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        came.intersects(gone).then_some(Event::HungUp)
    };
    let any_stream = wanted.iter().any(|one| match one {
        Wanted::Stream(stream, what) => of_stream(stream, *what).is_some(),
        _ => false,
    });
    Ok(wanted
        .iter()
        .map(|one| match one {
            // A stream that came first leaves a time to come.
            Wanted::Time(time) if !time.is_zero() && any_stream => None,
            Wanted::Time(time) => (Some(*time) <= wait).then_some(Event::Due { error: SUCCESS }),
            Wanted::Ready(error) => Some(Event::Due { error: *error }),
            Wanted::Stream(stream, what) => of_stream(stream, *what),
        })
        .collect())
}

/// Waits for streams, or for so long; to the deadline where neither comes before it.
fn watch(streams: &mut [PollFd<'_>], wait: Option<Duration>, call: &Call) -> Result<(), HostTrap> {
    let began = Instant::now();
    loop {
        let now = Instant::now();
        let left = call.deadline.map(|deadline| deadline.saturating_duration_since(now));
        let wanted = wait.map(|wait| wait.saturating_sub(now - began));
        let patience = match (left, wanted) {
            (Some(left), Some(wanted)) => Some(left.min(wanted)),
            (left, wanted) => left.or(wanted),
        };
        // What does not fit into a time of the system's is longer than anything here lasts.
        let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
        match rustix::event::poll(streams, patience.as_ref()) {
            Ok(0) => {
                if wanted.is_some_and(|wanted| left.is_none_or(|left| wanted <= left)) {
                    return Ok(());
                }
                if left.is_some() {
                    return sleep(Duration::MAX, call);
                }
            }
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            // The system has no memory: nothing came, and the guest asks again.
            Err(_) => return Ok(()),
        }
    }
}

/// How long a task that nothing but its host ends waits for that end past its deadline.
const END_PATIENCE: Duration = Duration::from_secs(2);

fn sleep(wait: Duration, call: &Call) -> Result<(), HostTrap> {
    let left = call.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    match left {
        Some(left) if left < wait => {
            // At this deadline the host kills the worker, unless it ends by itself. Where the host
            // does, it is to be the first: else chance would decide whether the worker lives on.
            let ended_by_host = call.interrupt_at().is_none() && call.task != NO_TASK;
            let patience = if ended_by_host { END_PATIENCE } else { Duration::ZERO };
            std::thread::sleep(left + patience);
            Err(HostTrap::Deadline)
        }
        _ => {
            std::thread::sleep(wait);
            Ok(())
        }
    }
}

fn write_event(subscription: &[u8], came: Event, event: &mut [u8]) {
    const HANGUP: u8 = 1;
    let is_time = subscription[8] == 0;
    event.fill(0);
    event[..8].copy_from_slice(&subscription[..8]);
    event[10] = subscription[8];
    match came {
        // Bytes that can be moved without blocking: at least one.
        Event::Due { error: SUCCESS } if !is_time => event[16] = 1,
        // All have one byte.
        Event::Due { error } => event[8] = error as u8,
        Event::HungUp => event[24] = HANGUP,
    }
}
