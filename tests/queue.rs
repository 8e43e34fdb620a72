//! What a queued task weighs, by the bytes that this program has allocated: a program of its own,
//! because its allocator counts them all.
// Every function here is a part of a test.
#![allow(clippy::unwrap_used)]
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use stockade::{Pool, TaskOptions};
use stockade_tests::{Gate, eventually, int};

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: the system's allocator does everything; next to it a number is kept.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Nearly a power of two, at which tables double.
const TASKS: usize = 130_000;

/// The most bytes of one, its handle and everything else that grows with it, but not its payload.
const TASK_BYTES_MAX: usize = 180;

/// The four bytes of a number.
const PAYLOAD_BYTES: usize = 4;

/// What each of the tasks weighs that `queue` leaves in a pool whose worker is occupied.
fn weigh<T>(queue: impl FnOnce(&Pool) -> T) -> usize {
    let gate = Gate::new();
    let pool = gate.tasks().build().unwrap();
    let _occupied = gate.occupy(&pool);
    let before = ALLOCATED.load(Ordering::Relaxed);
    let queued = queue(&pool);
    eventually("all tasks queued", || pool.count_pending_tasks() == TASKS);
    let bytes = ALLOCATED.load(Ordering::Relaxed) - before;
    pool.kill();
    drop(queued);
    bytes / TASKS - PAYLOAD_BYTES
}

/// One test: another next to it would be counted with it.
#[test]
fn a_queued_task_takes_little_more_than_its_payload_however_it_was_submitted() {
    let numbers = || (0..TASKS as i32).map(int);
    let each = weigh(|pool| {
        let submit = |number| pool.submit::<Vec<u8>>("echo", number).unwrap();
        numbers().map(submit).collect::<Vec<_>>()
    });
    assert!(each <= TASK_BYTES_MAX, "submitted: {each} bytes");

    let options = |pool: &Pool| {
        let limits = pool.limits().clone().wall_time(Duration::from_secs(1));
        TaskOptions::default().limits(limits).label("one of many").priority(3)
    };
    let mapped = weigh(|pool| {
        let map = pool.starmap::<Vec<u8>, _, _>("echo", numbers());
        map.options(options(pool)).submit_all()
    });
    assert!(mapped <= TASK_BYTES_MAX, "mapped under limits of their own: {mapped} bytes");
}
