//! The indices of a ring, and who sleeps: what writer and reader agree on without a lock.
//!
//! ```text
//! writer                                   reader
//! bytes ─► publish(head) ─► wakes_reader?  written() ─► bytes ─► release(tail) ─► wakes_writer?
//!                              │ bell                                │ bell
//!                              ▼                                     ▼
//!                      reader_may_sleep?                     writer_may_sleep?
//! ```
//!
//! Head and tail count bytes since the ring was made and never turn back. Whoever finds nothing to
//! do says that it sleeps, and looks once more; whoever changes an index looks afterwards whether
//! the other sleeps. A fence between the two steps on either side makes at least one of them see
//! the other, so no bell is forgotten, and whoever clears the mark rings it, so none rings twice.
//!
//! Invariant: the other side may write anything here. An index is compared with one's own, which is
//! kept in private memory, before anything follows from it; a mark that lies costs a bell too many
//! or, to the liar's own loss, one too few.

// A model checker's atomics are larger than a word; only this file's tests see them.
#[cfg(all(loom, test))]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(all(loom, test)))]
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Why a ring is of no more use, or has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// No room until the other side has read on.
    #[error("the ring is full")]
    Full,
    /// The other side's index is none that it can have.
    #[error("an index of the ring is out of its bounds")]
    Index,
    /// A record is longer than what was written, or than any may be.
    #[error("a record of the ring is out of its bounds")]
    Record,
}

/// A value with a cache line to itself, so that one side's writes do not slow the other's.
#[derive(Debug, Default)]
#[repr(C, align(64))]
struct Line<T>(T);

/// One ring's indices. All zero is an empty ring whose sides are awake.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Indices {
    head: Line<AtomicU64>,
    tail: Line<AtomicU64>,
    reader_sleeps: Line<AtomicU32>,
    writer_sleeps: Line<AtomicU32>,
}

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
/// Of a reader: it looks again after a while by itself, and is woken before only by a writer that has
/// nothing more to do.
const DOZING: u32 = 2;

/// Whether a reader has to be woken for what was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// It is awake, or a bell is on its way.
    Needless,
    /// It looks soon, if it is not woken before that.
    Later,
    /// By a bell, which is said once.
    Now,
}

impl Indices {
    /// Reader: how far the writer says it has written.
    pub(crate) fn head(&self) -> u64 {
        self.head.0.load(Ordering::Acquire)
    }

    /// Writer: how far the reader says it has read.
    pub(crate) fn tail(&self) -> u64 {
        self.tail.0.load(Ordering::Acquire)
    }

    /// Writer: everything before `head` is written.
    pub(crate) fn publish(&self, head: u64) {
        self.head.0.store(head, Ordering::Release);
    }

    /// Reader: everything before `tail` is read, and its room free.
    pub(crate) fn release(&self, tail: u64) {
        self.tail.0.store(tail, Ordering::Release);
    }

    /// Writer, after it has published: whether the reader has to be woken. `is_idle`: nothing follows
    /// before the reader writes something itself.
    pub(crate) fn wakes_reader(&self, is_idle: bool) -> Wake {
        fence(Ordering::SeqCst);
        let mark = &self.reader_sleeps.0;
        match mark.load(Ordering::Relaxed) {
            DOZING if !is_idle => Wake::Later,
            ASLEEP | DOZING if mark.swap(AWAKE, Ordering::AcqRel) != AWAKE => Wake::Now,
            _ => Wake::Needless,
        }
    }

    /// Reader, after it has released: whether the writer has to be woken, which is said once.
    pub(crate) fn wakes_writer(&self) -> bool {
        fence(Ordering::SeqCst);
        let mark = &self.writer_sleeps.0;
        mark.load(Ordering::Relaxed) == ASLEEP && mark.swap(AWAKE, Ordering::AcqRel) == ASLEEP
    }

    /// Reader, with everything before `tail` read: whether it may sleep until a bell rings. False
    /// where more has been written meanwhile.
    pub(crate) fn reader_may_sleep(&self, tail: u64) -> bool {
        may_sleep(&self.reader_sleeps.0, ASLEEP, || self.head() == tail)
    }

    /// As [`reader_may_sleep`](Self::reader_may_sleep), where it will look again soon: a bell rings
    /// only if the writer has nothing more to do.
    pub(crate) fn reader_may_doze(&self, tail: u64) -> bool {
        may_sleep(&self.reader_sleeps.0, DOZING, || self.head() == tail)
    }

    /// Reader: it does not sleep, whatever it said before; so nobody rings for it.
    pub(crate) fn reader_stays_awake(&self) {
        self.reader_sleeps.0.store(AWAKE, Ordering::Relaxed);
    }

    /// Writer, without room behind `tail`: whether it may sleep until a bell rings. False where the
    /// reader has read on meanwhile.
    pub(crate) fn writer_may_sleep(&self, tail: u64) -> bool {
        may_sleep(&self.writer_sleeps.0, ASLEEP, || self.tail() == tail)
    }
}

fn may_sleep(mark: &AtomicU32, how: u32, unchanged: impl Fn() -> bool) -> bool {
    mark.store(how, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    if unchanged() {
        return true;
    }
    // Where the other side has cleared it already its bell rings for nothing.
    mark.store(AWAKE, Ordering::Relaxed);
    false
}

/// Every interleaving, and every reordering that the orderings allow: `just loom`.
#[cfg(all(test, loom))]
mod model {
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU64 as Word;
    use loom::thread;

    use super::*;

    /// The reader goes to sleep while the writer writes: either it sees what was written, or a bell
    /// is on its way.
    #[test]
    fn no_bell_is_forgotten() {
        loom::model(|| {
            let indices = Arc::new(Indices::default());
            let writer = {
                let indices = Arc::clone(&indices);
                thread::spawn(move || {
                    indices.publish(8);
                    indices.wakes_reader(false)
                })
            };
            let sleeps = indices.reader_may_sleep(0);
            let rung = writer.join().unwrap() == Wake::Now;
            assert!(!sleeps || rung, "asleep beside a record, and nobody rings");
        });
    }

    /// A reader that dozes may miss the bells of all records but the last.
    #[test]
    fn no_bell_of_an_idle_writer_is_forgotten() {
        loom::model(|| {
            let indices = Arc::new(Indices::default());
            let writer = {
                let indices = Arc::clone(&indices);
                thread::spawn(move || {
                    [(8, false), (16, true)].map(|(head, is_idle)| {
                        indices.publish(head);
                        indices.wakes_reader(is_idle)
                    })
                })
            };
            let read = indices.head();
            let dozes = indices.reader_may_doze(read);
            let rung = writer.join().unwrap();
            assert!(!dozes || read == 16 || rung[1] == Wake::Now, "dozing after {read}: {rung:?}");
            assert!(rung.iter().filter(|wake| **wake == Wake::Now).count() <= 1, "{rung:?}");
        });
    }

    /// One that has dozed and goes to sleep is woken by any record.
    #[test]
    fn a_reader_that_dozed_may_sleep() {
        loom::model(|| {
            let indices = Arc::new(Indices::default());
            assert!(indices.reader_may_doze(0));
            let writer = {
                let indices = Arc::clone(&indices);
                thread::spawn(move || {
                    indices.publish(8);
                    indices.wakes_reader(false)
                })
            };
            let sleeps = indices.reader_may_sleep(0);
            let rung = writer.join().unwrap();
            assert!(!sleeps || rung == Wake::Now, "asleep beside a record: {rung:?}");
        });
    }

    #[test]
    fn no_bell_for_room_is_forgotten() {
        loom::model(|| {
            let indices = Arc::new(Indices::default());
            let reader = {
                let indices = Arc::clone(&indices);
                thread::spawn(move || {
                    indices.release(8);
                    indices.wakes_writer()
                })
            };
            let sleeps = indices.writer_may_sleep(0);
            let rung = reader.join().unwrap();
            assert!(!sleeps || rung, "asleep beside room, and nobody rings");
        });
    }

    /// What was written before an index is there for whoever has read the index.
    #[test]
    fn a_published_record_is_whole() {
        loom::model(|| {
            let shared = Arc::new((Indices::default(), Word::new(0)));
            let writer = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.1.store(42, Ordering::Relaxed);
                    shared.0.publish(8);
                })
            };
            if shared.0.head() == 8 {
                assert_eq!(shared.1.load(Ordering::Relaxed), 42);
            }
            writer.join().unwrap();
        });
    }

    /// Two records: whichever the reader sleeps before, a bell rings for it.
    #[test]
    fn a_reader_that_has_read_one_is_woken_for_the_next() {
        loom::model(|| {
            let indices = Arc::new(Indices::default());
            let writer = {
                let indices = Arc::clone(&indices);
                thread::spawn(move || {
                    [8, 16].map(|head| {
                        indices.publish(head);
                        indices.wakes_reader(false)
                    })
                })
            };
            let read = indices.head();
            let sleeps = indices.reader_may_sleep(read);
            let rung = writer.join().unwrap();
            assert!(!sleeps || read == 16 || rung.contains(&Wake::Now), "asleep after {read}");
        });
    }
}
