//! The inbox: news for a session from other threads.
//!
//! ```text
//! input ── Outbox ─► items, end ─╮
//! signals, reader of stdout ─────┴─► Inbox ─► Session, which takes all of it at once
//!                                     ╰─ waker ─► the session's wait for results
//! ```
//!
//! The session takes what is there under one lock, so that a busy map pays for no wake-up and no queue
//! of its own per item. It sleeps where its results come, in [`Tasks`](super::tasks::Tasks), and is woken
//! there for news. Only the input waits for room; what signals tell never blocks.
//!
//! Invariant: an item is handed over before the input is read again, so it never waits for the next
//! one.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use super::item::Item;
use crate::exit::Exit;

/// Items that the input hands over at once, and their bytes, at most.
const BATCH_ITEMS_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 64 << 10;

/// Bytes of items beyond which the input waits; a single item may have more.
const ITEMS_BYTES_MAX: usize = 1 << 20;

/// An item, or why there are no more.
pub(crate) type Read = io::Result<Item>;

/// News for a session, from any thread.
#[derive(Debug)]
pub(crate) struct Inbox {
    inner: Mutex<Inner>,
    /// Wakes the session, once there is one.
    waker: OnceLock<Waker>,
    /// Signals room for items, or that the inbox is closed.
    room: Condvar,
    /// Items beyond which the input waits.
    items_max: usize,
}

#[derive(Debug, Default)]
struct Inner {
    news: News,
    /// Bytes of the items.
    bytes: usize,
    /// No more items are accepted.
    is_closed: bool,
    /// The session sleeps; and whether items wake it.
    sleeps: Option<WakeOn>,
    input_waits: bool,
}

/// What wakes a session that sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WakeOn {
    /// Everything.
    All,
    /// Everything but items: there is no room for them.
    AllButItems,
}

/// What a session was told since it looked last.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Items in the order of the input.
    pub(crate) items: VecDeque<Read>,
    /// Whether no items follow.
    pub(crate) input_ended: bool,
    /// A signal asked for an end like this.
    pub(crate) interrupted: Option<Exit>,
    /// The reader of the output has gone.
    pub(crate) reader_left: bool,
}

impl News {
    /// Whether there is anything that a session wakes for.
    fn has_any(&self, wake_on: WakeOn) -> bool {
        let has_items = !self.items.is_empty() || self.input_ended;
        self.interrupted.is_some() || self.reader_left || (wake_on == WakeOn::All && has_items)
    }
}

impl Inbox {
    /// An empty one, which holds at most `items_max` items and one batch more.
    pub(crate) fn new(items_max: usize) -> Arc<Self> {
        let inner = Mutex::default();
        Arc::new(Self { inner, waker: OnceLock::new(), room: Condvar::new(), items_max })
    }

    /// From now on, `waker` wakes the session where it [falls asleep](Self::fall_asleep).
    pub(crate) fn wake_with(&self, waker: Waker) {
        let _ = self.waker.set(waker);
    }

    /// The session is about to sleep, unless there is news that it would wake for. Returns whether it may.
    pub(crate) fn fall_asleep(&self, wake_on: WakeOn) -> bool {
        let mut inner = self.lock();
        let may = !inner.news.has_any(wake_on);
        inner.sleeps = may.then_some(wake_on);
        may
    }

    /// The session is awake, for whatever reason.
    pub(crate) fn awake(&self) {
        self.lock().sleeps = None;
    }

    /// Moves all news to `news`, items only with [`WakeOn::All`]. Never blocks. Returns whether there was
    /// any.
    pub(crate) fn take(&self, news: &mut News, wake_on: WakeOn) -> bool {
        let mut inner = self.lock();
        let there = &mut inner.news;
        let any = there.has_any(wake_on);
        news.interrupted = news.interrupted.take().or(there.interrupted.take());
        news.reader_left |= std::mem::take(&mut there.reader_left);
        if wake_on == WakeOn::All {
            if news.items.is_empty() {
                std::mem::swap(&mut news.items, &mut there.items);
            } else {
                news.items.append(&mut there.items);
            }
            news.input_ended = there.input_ended;
            inner.bytes = 0;
            if std::mem::take(&mut inner.input_waits) {
                self.room.notify_one();
            }
        }
        any
    }

    /// A signal asks for an end like this. The first one counts.
    pub(crate) fn interrupted(&self, exit: Exit) {
        self.tell(|news| _ = news.interrupted.get_or_insert(exit));
    }

    /// The reader of the output has gone.
    pub(crate) fn reader_left(&self) {
        self.tell(|news| news.reader_left = true);
    }

    /// Accepts no more items, so that the input stops.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.room.notify_all();
    }

    fn tell(&self, write_down: impl FnOnce(&mut News)) {
        let mut inner = self.lock();
        write_down(&mut inner.news);
        self.wake(inner);
    }

    /// Wakes the session if it sleeps and there is news that it waits for. Only then is there a system
    /// call.
    fn wake(&self, mut inner: MutexGuard<'_, Inner>) {
        if inner.sleeps.is_some_and(|wake_on| inner.news.has_any(wake_on)) {
            inner.sleeps = None;
            drop(inner);
            if let Some(waker) = self.waker.get() {
                waker.wake_by_ref();
            }
        }
    }

    /// Hands `batch` over once there is room for it, and empties it.
    fn put(&self, batch: &mut Vec<Read>, bytes: usize) -> Result<(), Closed> {
        let mut inner = self.lock();
        while !inner.is_closed
            && (inner.news.items.len() >= self.items_max || inner.bytes >= ITEMS_BYTES_MAX)
        {
            inner.input_waits = true;
            inner = self.room.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        if inner.is_closed {
            return Err(Closed);
        }
        inner.news.items.extend(batch.drain(..));
        inner.bytes += bytes;
        self.wake(inner);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that could panic is done under it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The inbox accepts no more items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// The input's end of an inbox: items on their way to it.
#[derive(Debug)]
pub(crate) struct Outbox {
    inbox: Arc<Inbox>,
    batch: Vec<Read>,
    batch_bytes: usize,
    is_closed: bool,
}

impl Outbox {
    pub(crate) fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox, batch: Vec::new(), batch_bytes: 0, is_closed: false }
    }

    /// Adds an item to those that are handed over next.
    ///
    /// # Errors
    /// If the inbox is closed.
    pub(crate) fn push(&mut self, item: Read) -> Result<(), Closed> {
        if let Ok(Item { content: Ok(content), .. }) = &item {
            self.batch_bytes += content.bytes();
        }
        self.batch.push(item);
        if self.batch.len() >= BATCH_ITEMS_MAX.min(self.inbox.items_max)
            || self.batch_bytes >= BATCH_BYTES_MAX
        {
            self.hand_over();
        }
        if self.is_closed { Err(Closed) } else { Ok(()) }
    }

    /// Hands over what was pushed. Blocks while the inbox is full. Returns whether the inbox is open.
    pub(crate) fn hand_over(&mut self) -> bool {
        if !self.batch.is_empty() && !self.is_closed {
            let bytes = std::mem::take(&mut self.batch_bytes);
            self.is_closed = self.inbox.put(&mut self.batch, bytes).is_err();
        }
        !self.is_closed
    }
}

impl Drop for Outbox {
    /// Tells the session that the input has ended, for any reason.
    fn drop(&mut self) {
        self.hand_over();
        let mut inner = self.inbox.lock();
        inner.news.input_ended = true;
        self.inbox.wake(inner);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;
    use std::thread::{self, Thread};

    use super::super::item::{Content, Name};
    use super::*;

    /// Wakes a thread that sleeps.
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    /// Sleeps until there is news, as a session does.
    fn wait(inbox: &Inbox, news: &mut News, wake_on: WakeOn) {
        inbox.wake_with(Waker::from(Arc::new(Unpark(thread::current()))));
        while !inbox.take(news, wake_on) {
            if inbox.fall_asleep(wake_on) {
                thread::park();
                inbox.awake();
            }
        }
    }

    fn item(ordinal: u64, bytes: usize) -> Read {
        let content = Ok(Content::Text("x".repeat(bytes)));
        Ok(Item { ordinal, name: Name::Line(ordinal), content, weight: 1 })
    }

    fn ordinals(news: &mut News) -> Vec<u64> {
        news.items.drain(..).map(|item| item.expect("an item").ordinal).collect()
    }

    #[test]
    fn a_session_is_told_everything_at_once_and_items_only_where_it_has_room() {
        let inbox = Inbox::new(16);
        let mut news = News::default();
        assert!(!inbox.take(&mut news, WakeOn::All));
        let mut outbox = Outbox::new(inbox.clone());
        outbox.push(item(1, 1)).unwrap();
        assert!(!inbox.take(&mut news, WakeOn::All), "it is not handed over");
        assert!(outbox.hand_over());
        drop(outbox);
        assert!(!inbox.take(&mut news, WakeOn::AllButItems));

        inbox.interrupted(Exit::Interrupted);
        inbox.interrupted(Exit::Terminated);
        assert!(inbox.take(&mut news, WakeOn::AllButItems));
        assert_eq!(news.interrupted, Some(Exit::Interrupted));
        assert!(news.items.is_empty() && !news.input_ended);
        assert!(!inbox.fall_asleep(WakeOn::All) && inbox.take(&mut news, WakeOn::All));
        assert_eq!((ordinals(&mut news), news.input_ended), (vec![1], true));
    }

    #[test]
    fn items_are_handed_over_once_they_are_many_or_large() {
        let inbox = Inbox::new(1 << 20);
        let mut outbox = Outbox::new(inbox.clone());
        let mut news = News::default();
        for ordinal in 1..BATCH_ITEMS_MAX as u64 {
            outbox.push(item(ordinal, 1)).unwrap();
        }
        assert!(!inbox.take(&mut news, WakeOn::All));
        outbox.push(item(0, 1)).unwrap();
        assert!(inbox.take(&mut news, WakeOn::All));
        assert_eq!(ordinals(&mut news).len(), BATCH_ITEMS_MAX);
        outbox.push(item(1, BATCH_BYTES_MAX)).unwrap();
        assert!(inbox.take(&mut news, WakeOn::All));
    }

    #[test]
    fn the_input_waits_for_room_and_a_session_that_sleeps_for_items() {
        let inbox = Inbox::new(2);
        let mut outbox = Outbox::new(inbox.clone());
        let input =
            thread::spawn(move || (1..=100).try_for_each(|ordinal| outbox.push(item(ordinal, 1))));
        let (mut news, mut all) = (News::default(), Vec::new());
        while !news.input_ended {
            wait(&inbox, &mut news, WakeOn::All);
            assert!(news.items.len() <= 2 + 2, "a batch is added where there is room for an item");
            all.append(&mut ordinals(&mut news));
        }
        assert_eq!(all, (1..=100).collect::<Vec<_>>());
        input.join().unwrap().unwrap();
    }

    #[test]
    fn an_input_that_waits_for_room_stops_where_nobody_takes_its_items() {
        let inbox = Inbox::new(1);
        let mut outbox = Outbox::new(inbox.clone());
        let input = thread::spawn(move || (1..).try_for_each(|n| outbox.push(item(n, 1))));
        wait(&inbox, &mut News::default(), WakeOn::All);
        inbox.close();
        assert_eq!(input.join().unwrap(), Err(Closed));
    }
}
