//! `poll_oneoff`: how a guest sleeps and waits.
//!
//! wasmtime-wasi's own would sleep for as long as the guest says, past every deadline, and would
//! wait on a runtime's timers, which nobody drives in a synchronous worker. Ours sleeps on the
//! thread and hardly past the deadline of the task. Files and streams are always ready, because
//! reading and writing them blocks.
//!
//! Layouts are those of `wasi_snapshot_preview1`: a subscription has 48 bytes, an event 32.

use std::time::{Duration, Instant};

use wasmtime::{Caller, Linker};
use wasmtime_wasi::HostMonotonicClock;

use crate::call::{Call, NO_TASK};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    /// A stream or file, which is ready at once.
    Ready,
    /// So much time to pass.
    Time(Duration),
}

impl Wanted {
    fn wait(&self) -> Duration {
        match self {
            Self::Ready => Duration::ZERO,
            Self::Time(wait) => *wait,
        }
    }
}

/// Puts ours in the place of wasmtime-wasi's.
///
/// # Errors
/// Where the linker does not allow that.
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
        from.chunks_exact(SUBSCRIPTION_BYTES).map(|one| wanted(one, &clock)).collect();
    let Some(wanted) = wanted else { return Ok(INVALID) };
    let wait = wanted.iter().min().map_or(Duration::ZERO, Wanted::wait);
    match &clock {
        Clock::Worker(_) => sleep(wait, &state.call)?,
        // Nobody else's time depends on how long that is.
        Clock::Virtual(time) => time.pass(wait),
    }

    let (memory, _) = hostcalls::memory_and_state(caller)?;
    let due =
        from.chunks_exact(SUBSCRIPTION_BYTES).zip(&wanted).filter(|(_, one)| one.wait() <= wait);
    let mut written = 0u32;
    for (subscription, _) in due {
        let at = events as usize + written as usize * EVENT_BYTES;
        let Some(event) = memory.get_mut(at..at + EVENT_BYTES) else { return Ok(FAULT) };
        write_event(subscription, event);
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
fn wanted(subscription: &[u8], clock: &Clock) -> Option<Wanted> {
    const CLOCK: u8 = 0;
    const FD_WRITE: u8 = 2;
    const REALTIME: u32 = 0;
    const MONOTONIC: u32 = 1;
    const ABSOLUTE: u16 = 1;
    match subscription[8] {
        CLOCK => {}
        1..=FD_WRITE => return Some(Wanted::Ready),
        _ => return None,
    }
    let id = u32::from_le_bytes(*subscription[16..].first_chunk()?);
    let timeout = u64::from_le_bytes(*subscription[24..].first_chunk()?);
    let flags = u16::from_le_bytes(*subscription[40..].first_chunk()?);
    let now = match id {
        REALTIME => clock.since_epoch_ns(),
        MONOTONIC => clock.now(),
        _ => return None,
    };
    let wait = if flags & ABSOLUTE == 0 { timeout } else { timeout.saturating_sub(now) };
    Some(Wanted::Time(Duration::from_nanos(wait)))
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

fn write_event(subscription: &[u8], event: &mut [u8]) {
    event.fill(0);
    event[..8].copy_from_slice(&subscription[..8]);
    event[10] = subscription[8];
    // Bytes that can be moved without blocking: at least one.
    if subscription[8] != 0 {
        event[16] = 1;
    }
}
