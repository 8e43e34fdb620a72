//! The link: how a task's handles reach their pool without keeping it alive.

use std::sync::{Arc, OnceLock, Weak};

use crossbeam_channel::Sender;

use crate::callbacks::Callbacks;
use crate::driver::Command;
use crate::pool::Core;
use crate::shared::Shared;
use crate::{Pool, SubmitError};

/// What handles and the pool share.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) commands: Sender<Command>,
    pub(crate) callbacks: Callbacks,
    pub(crate) shared: Arc<Shared>,
    core: OnceLock<Weak<Core>>,
}

impl Link {
    pub(crate) fn new(
        commands: Sender<Command>,
        callbacks: Callbacks,
        shared: Arc<Shared>,
    ) -> Self {
        Self { commands, callbacks, shared, core: OnceLock::new() }
    }

    /// Says which pool this leads to; the first time counts.
    pub(crate) fn lead_to(&self, core: Weak<Core>) {
        let _ = self.core.set(core);
    }

    /// The pool, if somebody still holds it.
    pub(crate) fn pool(&self) -> Option<Pool> {
        self.core.get().and_then(Weak::upgrade).map(Pool::from_core)
    }

    /// Tells the driver. Never blocks.
    ///
    /// # Errors
    /// [`SubmitError::Closed`] where the driver has ended.
    pub(crate) fn tell(&self, command: Command) -> Result<(), SubmitError> {
        // Unbounded, so it never blocks.
        self.commands.send(command).map_err(|_| SubmitError::Closed)
    }
}
