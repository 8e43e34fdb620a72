//! The status page, of which a hostile worker writes any word at any time.
//!
//! Input: steps of the host and of the worker in turn. Every answer that the host gets must be the
//! one that the words, as they are at that moment, call for; whatever is beyond the page is nothing.

#![no_main]

use std::fs::File;
use std::os::unix::fs::FileExt;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use stockade_wire::{SLOTS_MAX, StatusPage, TaskId};

/// Bytes of a page.
const PAGE_BYTES: u64 = 4096;

/// Words before the slots: the started task, and three of its progress.
const WORDS_BEFORE: usize = 4;

#[derive(Arbitrary, Debug)]
enum Step {
    Offer {
        slot: u8,
        task: Task,
    },
    Revoke {
        slot: u8,
        task: Task,
    },
    Started,
    Progress {
        task: Task,
    },
    /// The worker, as it should be.
    Start {
        slot: u8,
        task: Task,
    },
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
    State(Task, u8),
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
            Self::State(task, state) => task.id().0 << 2 | u64::from(state & 3),
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
        Step::Offer { slot, task } => {
            host.offer(slot, task.id());
            if let Some(word) = slot_word(file, slot) {
                assert_eq!(word, task.id().0 << 2 | 1);
            }
        }
        Step::Revoke { slot, task } => {
            let offered = slot_word(file, slot) == Some(task.id().0 << 2 | 1);
            assert_eq!(host.revoke(slot, task.id()), offered);
            assert!(!host.revoke(slot, task.id()), "revoked twice");
            assert!(!worker.start(slot, task.id()), "revoked, and started");
        }
        Step::Started => {
            let word = word(file, 0);
            assert_eq!(host.started(), (word != 0).then_some(TaskId(word)));
        }
        Step::Progress { task } => {
            let told = (word(file, 1) == task.id().0).then(|| (word(file, 2), word(file, 3)));
            assert_eq!(host.progress_of(task.id()), told);
        }
        Step::Start { slot, task } => {
            let offered = slot_word(file, slot) == Some(task.id().0 << 2 | 1);
            assert_eq!(worker.start(slot, task.id()), offered);
            assert!(!offered || host.started() == started(task.id()));
            assert!(!host.revoke(slot, task.id()), "started, and revoked");
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
