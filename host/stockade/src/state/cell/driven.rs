//! The driver's operations on a cell: send its task, start it, revoke it, pass on emitted items.
//!
//! Invariant: all of it under the cell's lock, and in the event loop's; so what a handle sees is true at some
//! moment, and nothing here waits for more than another's glance.

use std::sync::Arc;
use std::time::Duration;

use stockade_wire::{Codec, PageSlot, StatusPage};

use super::tracked::Stage;
use super::{State, TaskCell};
use crate::base::sync::Wakers;
use crate::call::payload::Payload;
use crate::state::semaphore::Permit;

/// Where a worker says whether it has started a task.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) page: Arc<StatusPage>,
    pub(crate) place: PageSlot,
}

impl Sent {
    /// Revokes the task. Returns false if it has started.
    pub(super) fn revoke(&self) -> bool {
        self.page.revoke(self.place)
    }
}

impl TaskCell {
    /// The task goes to a worker now, on whose page it stands offered. Gives what it is called with, which the
    /// driver keeps from the first time on. `None` where it has ended already.
    pub(crate) fn claim(&self, sent: Sent) -> Option<Payload> {
        let mut state = self.lock();
        if state.done().is_some() {
            return None;
        }
        let tracked = state.track();
        tracked.stage = Stage::Claimed(sent);
        // Of an attempt that was lost.
        tracked.emitted.clear();
        Some(tracked.take_payload())
    }

    /// Looks at what it is called with, unless the driver has that.
    pub(crate) fn with_payload<T>(&self, look: impl FnOnce(&Payload) -> T) -> T {
        match &*self.lock() {
            State::Queued(payload) => look(payload),
            State::Tracked(tracked) => look(&tracked.payload),
            State::Done(_) => look(&Payload::default()),
        }
    }

    /// The task is, from this moment of the pool's life on, the next that its worker starts, or was
    /// taken back. Leaves in `wakers` whom to wake for its place.
    pub(crate) fn start(&self, now: Duration, wakers: &mut Wakers) {
        let mut state = self.lock();
        let State::Tracked(tracked) = &mut *state else { return };
        if let Stage::Claimed(sent) = &tracked.stage {
            tracked.stage = Stage::Running(sent.clone());
            tracked.started = nanos(now);
        }
        let permit = tracked.permit.take();
        // Its room has a lock of its own.
        drop(state);
        wakers.extend(permit.into_iter().flat_map(Permit::give_up));
    }

    /// Its worker is gone or has not come to it, and the task is back in the queue.
    pub(crate) fn requeue(&self) {
        if let State::Tracked(tracked) = &mut *self.lock()
            && !matches!(tracked.stage, Stage::Done(_))
        {
            tracked.stage = Stage::Pending;
            tracked.emitted.clear();
        }
    }

    /// The task has emitted an item, which is written so. False where it has ended.
    pub(crate) fn emit(&self, codec: Codec, item: Vec<u8>) -> bool {
        let mut state = self.lock();
        let State::Tracked(tracked) = &mut *state else { return false };
        if matches!(tracked.stage, Stage::Done(_)) {
            return false;
        }
        tracked.emitted.push_back((codec, item));
        tracked.notify();
        drop(state);
        self.spec.link.event_loop.done(self.awaited());
        true
    }
}

/// A moment of the pool's life in nanoseconds.
pub(crate) fn nanos(moment: Duration) -> u64 {
    u64::try_from(moment.as_nanos()).unwrap_or(u64::MAX)
}
