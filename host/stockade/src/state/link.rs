//! The link from a task's handles to their pool, which does not keep it alive.

use std::any::Any;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use crate::state::backend::Backend;
use crate::state::callbacks::Callbacks;
use crate::state::shared::Shared;

/// The core of a pool, which only the pool can name.
pub(crate) trait PoolCore: Any + Send + Sync + UnwindSafe + RefUnwindSafe {}

/// What handles and the pool share.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) event_loop: Arc<dyn Backend>,
    pub(crate) callbacks: Callbacks,
    pub(crate) shared: Arc<Shared>,
    core: OnceLock<Weak<dyn PoolCore>>,
    made: Instant,
}

impl Link {
    pub(crate) fn new(
        event_loop: Arc<dyn Backend>,
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

    /// Sets the core of the pool; the first call counts.
    pub(crate) fn lead_to(&self, core: Weak<dyn PoolCore>) {
        let _ = self.core.set(core);
    }

    /// The pool's core, if it is still alive.
    pub(crate) fn core(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        let core = self.core.get()?.upgrade()?;
        Some(core)
    }
}
