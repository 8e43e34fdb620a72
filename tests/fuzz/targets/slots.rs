//! The status page, of which a hostile worker writes any word at any time.
//!
//! Input: steps of the host and of the worker in turn. Every answer that the host gets must be the
//! one that the words, as they are at that moment, call for; whatever is beyond the page is nothing.

#![no_main]

use std::fs::File;
use std::os::unix::fs::FileExt;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use stockade_wire::{BATCH_TASKS_MAX, PageSlot, SLOTS_MAX, StatusPage, TaskId, TaskRange};

/// Bytes of a page.
const PAGE_BYTES: u64 = 4096;

/// Words before the slots: the started task, and three of its progress.
const WORDS_BEFORE: usize = 4;

/// Bits of an index in a slot's word, which holds a batch's first task, the index of the task that
/// starts next, and that of the first that must not.
const INDEX_BITS: u32 = 11;

#[derive(Arbitrary, Debug)]
enum Step {
    Offer {
        slot: u8,
        task: Task,
        count: u16,
    },
    Revoke(Place),
    RevokeFrom(Place),
    HasStarted(Place),
    Started,
    Progress {
        task: Task,
    },
    /// The worker, as it should be.
    Start(Place),
    Report {
        task: Task,
        done: u64,
        total: u64,
    },
    /// The worker, as it should not be.
    Store {
        word: u8,
        value: Value,
    },
    /// The same, across the borders of words.
    Smear {
        place: u16,
        bytes: [u8; 3],
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Place {
    slot: u8,
    task: Task,
    index: Index,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Index {
    Small(u8),
    Any(u32),
}

impl Place {
    fn on_page(self) -> PageSlot {
        let index = match self.index {
            Index::Small(index) => u32::from(index % 4),
            Index::Any(index) => index,
        };
        PageSlot { slot: self.slot, first: self.task.id(), index }
    }
}

/// What a word says, where it is of the batch that begins with `first`: who is next, and the limit.
fn said(file: &File, place: PageSlot) -> Option<(u32, u32)> {
    let word = slot_word(file, place.slot)?;
    let index = |word: u64| (word & ((1 << INDEX_BITS) - 1)) as u32;
    let is_of = word >> (2 * INDEX_BITS) == place.first.0 << (2 * INDEX_BITS) >> (2 * INDEX_BITS);
    is_of.then(|| (index(word >> INDEX_BITS), index(word)))
}

/// Few tasks, so that steps meet; sometimes any.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Task {
    One,
    Two,
    Three,
    Any(u64),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Value {
    State(Task, u16, u16),
    Any(u64),
}

impl Task {
    fn id(self) -> TaskId {
        TaskId(match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Three => 3,
            Self::Any(number) => number,
        })
    }
}

impl Value {
    fn word(self) -> u64 {
        match self {
            Self::State(task, next, limit) => {
                let index = |index: u16| u64::from(index) & ((1 << INDEX_BITS) - 1);
                task.id().0 << (2 * INDEX_BITS) | index(next) << INDEX_BITS | index(limit)
            }
            Self::Any(word) => word,
        }
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let host = StatusPage::create().expect("a page");
    let file = File::from(host.descriptor().try_clone_to_owned().expect("a descriptor"));
    let worker = StatusPage::open(file.try_clone().expect("a descriptor")).expect("sealed");
    for step in steps {
        play(step, &host, &worker, &file);
    }
    // What the worker cannot do: make the page another size than the host has mapped.
    assert!(file.set_len(PAGE_BYTES - 1).is_err() && file.set_len(PAGE_BYTES + 1).is_err());
});

fn play(step: Step, host: &StatusPage, worker: &StatusPage, file: &File) {
    match step {
        Step::Offer { slot, task, count } => {
            let Some(batch) = TaskRange::new(task.id(), u32::from(count)) else { return };
            host.offer(slot, batch);
            let place = PageSlot { slot, first: task.id(), index: 0 };
            let limit = batch.count().min(BATCH_TASKS_MAX);
            assert_eq!(said(file, place), slot_word(file, slot).map(|_| (0, limit)));
        }
        Step::Revoke(place) => {
            let place = place.on_page();
            let never = said(file, place).is_some_and(|(next, limit)| {
                next <= place.index && (place.index < limit || limit <= place.index)
            });
            assert_eq!(host.revoke(place), never);
            assert!(!never || !worker.start(place), "revoked, and started");
        }
        Step::RevokeFrom(place) => {
            let place = place.on_page();
            let expected = said(file, place).and_then(|(next, limit)| {
                let from = next.max(place.index);
                let first = place.first.0.checked_add(u64::from(from))?;
                TaskRange::new(TaskId(first), limit.checked_sub(from)?)
            });
            assert_eq!(host.revoke_from(place), expected);
            assert_eq!(host.revoke_from(place), None, "revoked twice");
        }
        Step::HasStarted(place) => {
            let place = place.on_page();
            let started = said(file, place).is_some_and(|(next, _)| place.index < next);
            assert_eq!(host.has_started(place), started);
        }
        Step::Started => {
            let word = word(file, 0);
            assert_eq!(host.started(), (word != 0).then_some(TaskId(word)));
        }
        Step::Progress { task } => {
            let told = (word(file, 1) == task.id().0).then(|| (word(file, 2), word(file, 3)));
            assert_eq!(host.progress_of(task.id()), told);
        }
        Step::Start(place) => {
            let place = place.on_page();
            let is_next = said(file, place)
                .is_some_and(|(next, limit)| next == place.index && place.index < limit);
            assert_eq!(worker.start(place), is_next);
            assert!(!is_next || host.started() == started(place.task()));
            assert!(!is_next || host.has_started(place) && !host.revoke(place));
        }
        Step::Report { task, done, total } => {
            worker.progress(task.id(), done, total);
            assert_eq!(host.progress_of(task.id()), Some((done, total)));
        }
        Step::Store { word, value } => {
            let place = usize::from(word) % (WORDS_BEFORE + SLOTS_MAX);
            file.write_all_at(&value.word().to_le_bytes(), place as u64 * 8).expect("a page");
        }
        Step::Smear { place, bytes } => {
            let place = u64::from(place) % (PAGE_BYTES - bytes.len() as u64);
            file.write_all_at(&bytes, place).expect("a page");
        }
    }
}

/// What the host reads where the worker started `task`: 0 is no task.
fn started(task: TaskId) -> Option<TaskId> {
    (task.0 != 0).then_some(task)
}

/// The word of a slot, where there is that slot.
fn slot_word(file: &File, slot: u8) -> Option<u64> {
    (usize::from(slot) < SLOTS_MAX).then(|| word(file, WORDS_BEFORE + usize::from(slot)))
}

fn word(file: &File, number: usize) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, number as u64 * 8).expect("a page");
    u64::from_le_bytes(bytes)
}
