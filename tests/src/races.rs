//! Races with the kernel: tasks that leave what they can, and tasks that look for it, while pages of
//! their worker are moved.
//!
//! ```text
//! Race::memory, ::state, ::across ─ leave, look, leave, look, … ─► Found
//! Mover ─ compaction, again and again ─► the kernel migrates pages of every process
//! ```
//!
//! A reset that asks the kernel which pages are there misses those that are being migrated. Found so in
//! 2026: one task in some hundred read memory of the task before.

use std::fmt::Write;
use std::fs::OpenOptions;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use stockade::{Pool, PoolBuilder, TaskHandle};

use crate::{wat, wat_file};

/// Pairs of tasks that are under way at a time.
const WINDOW: usize = 64;

/// Tasks of one worker. Pages of an old process have been moved already.
const TASKS_OF_A_WORKER: u64 = 128;

/// One kind of pair.
pub struct Race {
    pool: Pool,
    leave: (&'static str, &'static str),
    look: (&'static str, &'static str),
}

/// What one race came to.
#[derive(Debug, Default)]
pub struct Found {
    /// Pairs of tasks, one that leaves and one that looks.
    pub pairs: u64,
    /// What those found that looked and must not have, each as it is to be read.
    pub findings: Vec<String>,
}

/// Writes a word to each page of its memory and of what it grows; counts the words that are not zero.
const MEMORY: &str = r#"(module (memory (export "memory") 48)
    (func $each (param $from i32) (param $value i64) (result i64) (local $found i64) (local $end i32)
        (local.set $end (i32.shl (memory.size) (i32.const 16)))
        (loop $again
            (if (i64.ne (i64.load (local.get $from)) (i64.const 0))
                (then (local.set $found (i64.add (local.get $found) (i64.const 1)))))
            (if (i64.ne (local.get $value) (i64.const 0))
                (then (i64.store (local.get $from) (local.get $value))))
            (br_if $again (i32.lt_u
                (local.tee $from (i32.add (local.get $from) (i32.const 4096))) (local.get $end))))
        (local.get $found))
    (func (export "leave") (result i64)
        (drop (memory.grow (i32.const 4)))
        (call $each (i32.const 0) (i64.const 0x4141414141414141)))
    (func (export "look") (result i64)
        (drop (memory.grow (i32.const 4)))
        (call $each (i32.const 0) (i64.const 0))))"#;

/// Functions of the modules whose tables are filled.
const FUNCTIONS: usize = 16;
const TABLE: usize = 8192;

/// Fills a table and a global.
fn leaving() -> String {
    let mut wat =
        String::from(r#"(module (memory (export "memory") 1) (type $t (func (result i64)))"#);
    let _ = writeln!(wat, "(table $table {TABLE} funcref) (global $g (mut i64) (i64.const 7))");
    let part = TABLE / FUNCTIONS;
    for number in 0..FUNCTIONS {
        let _ = writeln!(wat, "(func $f{number} (type $t) (i64.const {number}))");
    }
    let _ = write!(wat, "(elem declare func");
    (0..FUNCTIONS).for_each(|number| {
        let _ = write!(wat, " $f{number}");
    });
    let _ = writeln!(wat, r#") (func (export "leave") (result i64) (global.set $g (i64.const 1))"#);
    for number in 0..FUNCTIONS {
        let _ = writeln!(
            wat,
            "(table.fill $table (i32.const {}) (ref.func $f{number}) (i32.const {part}))",
            number * part
        );
    }
    wat += "(memory.fill (i32.const 0) (i32.const 0x41) (i32.const 65536)) (i64.const 0))";
    wat += LOOK;
    wat + ")"
}

/// Counts entries of the table, globals and words of memory that are not as they were made, and calls
/// what it finds.
const LOOK: &str = r#"
    (func (export "look") (result i64) (local $at i32) (local $found i64)
        (if (i64.ne (global.get $g) (i64.const 7))
            (then (local.set $found (i64.add (local.get $found) (i64.const 1)))))
        (loop $again
            (if (i32.eqz (ref.is_null (table.get $table (local.get $at)))) (then
                (local.set $found (i64.add (local.get $found) (i64.const 1)))
                (drop (call_indirect $table (type $t) (local.get $at)))))
            (if (i64.ne (i64.const 0) (i64.load (i32.shl (local.get $at) (i32.const 3))))
                (then (local.set $found (i64.add (local.get $found) (i64.const 1)))))
            (br_if $again (i32.lt_u
                (local.tee $at (i32.add (local.get $at) (i32.const 16))) (i32.const 8192))))
        (local.get $found))"#;

/// As [`leaving`] begins, with globals where the other's functions would be.
fn other() -> String {
    let globals =
        r"(global (mut v128) (v128.const i64x2 0x414141414141 0x424242424242))".repeat(32);
    format!(
        r#"(module (memory (export "memory") 1) (type $t (func (result i64)))
            (table $table {TABLE} funcref) (global $g (mut i64) (i64.const 7)) {globals} {LOOK})"#
    )
}

impl Race {
    /// Memory, what of it was there first and what was grown.
    ///
    /// # Panics
    /// If there is no pool.
    pub fn memory() -> Self {
        Self::of(wat(MEMORY), ("test", "leave"), ("test", "look"))
    }

    /// Globals and a function table.
    ///
    /// # Panics
    /// As [`memory`](Self::memory).
    pub fn state() -> Self {
        Self::of(wat(&leaving()), ("test", "leave"), ("test", "look"))
    }

    /// Memory, globals and tables of one module in those of another.
    ///
    /// # Panics
    /// As [`memory`](Self::memory).
    pub fn across() -> Self {
        let both = wat(&leaving()).module_as("other", wat_file(&other()));
        Self::of(both, ("test", "leave"), ("other", "look"))
    }

    fn of(
        builder: PoolBuilder,
        leave: (&'static str, &'static str),
        look: (&'static str, &'static str),
    ) -> Self {
        let builder = builder.max_tasks_per_worker(TASKS_OF_A_WORKER);
        let pool = builder.build().expect("a pool of modules that are valid");
        Self { pool, leave, look }
    }

    /// Runs pairs until `until` says that it is enough, at least one window of them.
    ///
    /// # Panics
    /// If the pool takes no task.
    pub fn run(&self, mut until: impl FnMut(u64) -> bool) -> Found {
        let mut found = Found::default();
        loop {
            let submit = |function| -> TaskHandle<i64> {
                self.pool.submit(function, ()).expect("the pool takes a task")
            };
            let pairs: Vec<_> =
                (0..WINDOW).map(|_| (submit(self.leave), submit(self.look))).collect();
            for (leaver, looker) in pairs {
                found.pairs += 1;
                let ends = [("left", leaver.result()), ("looked", looker.result())];
                let wrong = ends.iter().filter(|(_, end)| !matches!(end, Ok(0)));
                let wrong = wrong.map(|(who, end)| format!("pair {}: {who}, {end:?}", found.pairs));
                found.findings.extend(wrong);
            }
            if until(found.pairs) {
                return found;
            }
        }
    }
}

/// Has the kernel move pages for as long as it lives.
pub struct Mover {
    ends: Arc<AtomicBool>,
    times: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

const COMPACT: &str = "/proc/sys/vm/compact_memory";

impl Mover {
    /// Begins, where this user may compact the machine's memory.
    ///
    /// # Errors
    /// If it may not.
    pub fn start() -> io::Result<Self> {
        OpenOptions::new().write(true).open(COMPACT)?;
        let (ends, times) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (seen, count) = (Arc::clone(&ends), Arc::clone(&times));
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                if std::fs::write(COMPACT, "1").is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Ok(Self { ends, times, thread: Some(thread) })
    }

    /// How often all memory was compacted.
    pub fn times(&self) -> u64 {
        self.times.load(Ordering::Relaxed)
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
