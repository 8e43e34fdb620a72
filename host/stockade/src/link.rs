//! The link from a task's handles to their pool, which does not keep it alive.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use crate::callbacks::Callbacks;
use crate::driver::Request;
use crate::event_loop::EventLoop;
use crate::pool::Core;
use crate::shared::Shared;
use crate::{Pool, SubmitError};

/// What handles and the pool share.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) event_loop: Arc<EventLoop>,
    pub(crate) callbacks: Callbacks,
    pub(crate) shared: Arc<Shared>,
    core: OnceLock<Weak<Core>>,
    made: Instant,
}

impl Link {
    pub(crate) fn new(
        event_loop: Arc<EventLoop>,
        callbacks: Callbacks,
        shared: Arc<Shared>,
    ) -> Self {
        Self { event_loop, callbacks, shared, core: OnceLock::new(), made: Instant::now() }
    }

    /// When the pool was made, from which its tasks' times are counted.
    pub(crate) fn made(&self) -> Instant {
        self.made
    }

    /// How long ago the pool was made, in nanoseconds: half a millennium fits.
    pub(crate) fn age_nanos(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Sets the pool; the first call counts.
    pub(crate) fn lead_to(&self, core: Weak<Core>) {
        let _ = self.core.set(core);
    }

    /// The pool, if it is still alive.
    pub(crate) fn pool(&self) -> Option<Pool> {
        self.core.get().and_then(Weak::upgrade).map(Pool::from_core)
    }

    /// Queues a request for the driver's next turn. Never waits for another thread.
    ///
    /// # Errors
    /// As [`tell`](Self::tell).
    pub(crate) fn leave(&self, request: Request) -> Result<(), SubmitError> {
        self.event_loop.leave(request)
    }

    /// Sends a request to the driver. Never waits for another thread.
    ///
    /// # Errors
    /// [`SubmitError::Closed`] where the driver has ended.
    pub(crate) fn tell(&self, request: Request) -> Result<(), SubmitError> {
        self.event_loop.tell(request)
    }
}
