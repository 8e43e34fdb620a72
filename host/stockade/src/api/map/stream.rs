//! Maps as streams, for any executor.
//!
//! Only the source of a lazy map may block, which is called in `poll_next`. A thread of the stream
//! keeps the map's timeout, since the timers of executors differ.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Instant;

use futures_core::{FusedStream, Stream};

use super::{Filled, Map, MapAll};
use crate::api::task::TaskResult;
use crate::base::sync::{Condvar, Mutex, lock, wait, wake};
use crate::call::arguments::Arguments;
use crate::outcome::error::RunError;
use crate::state::semaphore::Patience;

/// A [`Map`] or a [`MapAll`] as a stream. See [`Map::into_stream`].
#[derive(Debug)]
pub struct MapStream<M> {
    map: M,
    timer: Option<Timer>,
    ended: bool,
}

impl<T: TaskResult, I> Map<T, I> {
    /// The same results as a stream, for any executor.
    ///
    /// The source must not block for long, as with any stream made from an iterator.
    ///
    /// ```no_run
    /// # async fn count(pool: stockade::Pool) -> Result<(), stockade::RunError> {
    /// use std::future::poll_fn;
    /// use std::pin::Pin;
    /// use futures_core::Stream;
    ///
    /// let mut counts = pool.map::<u64, _, _>("word_count", ["to be", "or not"]).into_stream();
    /// // What `StreamExt::next` of the futures crate does.
    /// while let Some(count) = poll_fn(|cx| Pin::new(&mut counts).poll_next(cx)).await {
    ///     println!("{}", count?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_stream(self) -> MapStream<Self> {
        MapStream { map: self, timer: None, ended: false }
    }
}

impl<T: TaskResult> MapAll<T> {
    /// The same results as a stream, for any executor.
    pub fn into_stream(self) -> MapStream<Self> {
        MapStream { map: self, timer: None, ended: false }
    }
}

impl<M> MapStream<M> {
    /// Wakes `context` at `deadline`. Returns true if it has passed.
    fn is_due(&mut self, deadline: Option<Instant>, context: &Context<'_>) -> bool {
        let Some(deadline) = deadline else { return false };
        if Instant::now() >= deadline {
            return true;
        }
        match &self.timer {
            Some(timer) => timer.wake(context.waker()),
            // Without a thread, the next result is what wakes the consumer.
            None => self.timer = Timer::start(deadline, context.waker().clone()).ok(),
        }
        false
    }

    fn give<T>(
        &mut self,
        result: Option<Result<T, RunError>>,
    ) -> Poll<Option<Result<T, RunError>>> {
        self.ended = result.is_none();
        Poll::Ready(result)
    }
}

impl<T: TaskResult, I> Stream for MapStream<Map<T, I>>
where
    I: Iterator + Unpin,
    I::Item: Arguments,
{
    type Item = Result<T, RunError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.map.begin();
        match this.map.fill(Patience::None) {
            Ok(Filled::Enough) => {}
            Ok(Filled::NoRoom) if !this.map.fed.results.is_empty() => {}
            Ok(Filled::NoRoom) => {
                if this.is_due(this.map.deadline, context) {
                    let last = this.map.run_out();
                    return this.give(Some(Err(last)));
                }
                if let Some(room) = this.map.fed.pool.core.link.shared.room() {
                    room.wake_when_free(context.waker());
                }
                return Poll::Pending;
            }
            Err(error) => {
                let last = this.map.fail(error);
                return this.give(Some(Err(last)));
            }
        }
        if let Poll::Ready(ended) = this.map.fed.results.poll_next(context) {
            return this.give(ended);
        }
        if this.is_due(this.map.deadline, context) {
            let last = this.map.run_out();
            return this.give(Some(Err(last)));
        }
        Poll::Pending
    }
}

impl<T: TaskResult> Stream for MapStream<MapAll<T>> {
    type Item = Result<T, RunError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Poll::Ready(ended) = this.map.results().poll_next(context) {
            return this.give(ended);
        }
        if this.is_due(this.map.deadline(), context) {
            let last = this.map.run_out();
            return this.give(Some(Err(last)));
        }
        Poll::Pending
    }
}

impl<M> FusedStream for MapStream<M>
where
    Self: Stream,
{
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

/// Wakes the last poller at a given time.
#[derive(Debug)]
struct Timer {
    shared: Arc<TimerState>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct TimerState {
    /// `None` when no wake-up is wanted any more.
    waker: Mutex<Option<Waker>>,
    stopped: Condvar,
}

impl Timer {
    fn start(deadline: Instant, waker: Waker) -> std::io::Result<Self> {
        let shared =
            Arc::new(TimerState { waker: Mutex::new(Some(waker)), stopped: Condvar::new() });
        let state = shared.clone();
        let thread = std::thread::Builder::new()
            .name("stockade-timer".into())
            .stack_size(64 << 10)
            .spawn(move || state.run(deadline))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    fn wake(&self, waker: &Waker) {
        let mut known = lock(&self.shared.waker);
        if let Some(known) = &mut *known {
            known.clone_from(waker);
        }
    }
}

impl TimerState {
    fn run(&self, deadline: Instant) {
        let mut waker = lock(&self.waker);
        while waker.is_some() {
            match wait(&self.stopped, waker, Some(deadline)) {
                Some(again) => waker = again,
                None => {
                    let due = lock(&self.waker).take();
                    return due.into_iter().for_each(wake);
                }
            }
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        *lock(&self.shared.waker) = None;
        self.shared.stopped.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            // It wakes somebody at most, and ends.
            let _ = thread.join();
        }
    }
}
