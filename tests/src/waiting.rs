//! Waiting for events.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use stockade::{TaskHandle, TaskResult};

/// How long a test waits for what must happen: far longer than it takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `holds` does.
///
/// # Panics
/// After [`PATIENCE`], naming `what`.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        // Long enough to leave the processor to whoever is waited for.
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Waits until the guest of `handle` has told its progress, so that its code surely runs.
#[track_caller]
pub fn until_running<T: TaskResult>(handle: &TaskHandle<T>) {
    eventually("the task to run", || {
        assert!(!handle.is_done(), "the task ended instead: {:?}", handle.output());
        handle.progress().is_some()
    });
}

/// Runs `future` to its end on this thread.
///
/// # Panics
/// After [`PATIENCE`].
pub fn block_on<F: Future>(future: F) -> F::Output {
    block_on_for(future, PATIENCE).expect("the future ends in time")
}

/// The smallest executor: runs `future` on this thread until it ends or `time` has passed.
pub fn block_on_for<F: Future>(future: F, time: Duration) -> Option<F::Output> {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    let deadline = Instant::now() + time;
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return Some(output),
            Poll::Pending => {
                let left = deadline.checked_duration_since(Instant::now())?;
                std::thread::park_timeout(left);
            }
        }
    }
}
