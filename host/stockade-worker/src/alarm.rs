//! The alarm: raises the engine's epoch when the deadline of the running task passes.
//!
//! One thread, named `alarm`, asleep until the one deadline that is set. It may fire for an earlier
//! task's deadline: the guest's epoch check reads the clock again before it traps. So the thread is
//! woken only for a deadline earlier than the one it sleeps for, and a busy worker whose tasks all
//! have the same limit almost never wakes it.

use std::io;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use wasmtime::{Engine, EngineWeak};

/// The thread and what it waits for. Dropping it ends and joins the thread.
#[derive(Debug)]
pub(crate) struct Alarm {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<AlarmState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct AlarmState {
    deadline: Option<Instant>,
    /// When the thread wakes by itself, if it does.
    wakes: Option<Instant>,
    stopped: bool,
}

impl Alarm {
    /// Starts the thread and waits until it runs. It keeps no engine alive.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(crate) fn start(engine: &Engine) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (theirs, engine) = (Arc::clone(&shared), engine.weak());
        let (is_up, up) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("alarm".into()).stack_size(128 << 10).spawn(
            move || {
                drop(is_up);
                theirs.wait_for_deadlines(&engine);
            },
        )?;
        // A starting thread makes system calls that the lockdown forbids. The channel closes when
        // it has started; nothing is sent.
        let _ = up.recv();
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Sets the one deadline, or none.
    pub(crate) fn set(&self, deadline: Option<Instant>) {
        let mut state = self.shared.lock();
        state.deadline = deadline;
        let too_late = match (deadline, state.wakes) {
            (Some(deadline), Some(wakes)) => deadline < wakes,
            (Some(_), None) => true,
            (None, _) => false,
        };
        drop(state);
        if too_late {
            self.shared.changed.notify_one();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, AlarmState> {
        // No code that holds the lock can panic halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_deadlines(&self, engine: &EngineWeak) {
        let mut state = self.lock();
        while !state.stopped {
            state.wakes = state.deadline;
            let Some(deadline) = state.deadline else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.deadline = None;
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
                continue;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, there is nothing left to do.
            let _ = thread.join();
        }
    }
}
