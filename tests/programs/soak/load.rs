//! The load: keeps as many tasks in flight as the wave asks for, in every way there is.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use stockade::{Bytes, Pool, RunError, TaskHandle};
use stockade_tests::{PATIENCE, Random, block_on_for, mix};

use crate::sample::Sampler;

/// What the initializer leaves in every instance.
pub(crate) const BASE: u64 = 1_000_000_007;

/// Violations that are told.
const VIOLATIONS_MAX: usize = 50;

/// Items of one map.
const MAP_ITEMS: u64 = 64;

/// Tasks by how their result was taken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    submitted: u64,
    awaited: u64,
    mapped: u64,
}

impl Counts {
    pub(crate) fn all(self) -> u64 {
        self.submitted + self.awaited + self.mapped
    }

    pub(crate) fn rows(self) -> [(&'static str, u64); 4] {
        [
            ("tasks", self.all()),
            ("tasks whose result was waited for", self.submitted),
            ("tasks whose handle was awaited", self.awaited),
            ("tasks of maps", self.mapped),
        ]
    }
}

pub(crate) struct Load<'a> {
    pool: &'a Pool,
    next: AtomicU64,
    in_flight: AtomicUsize,
    /// The highest number of a worker in any report.
    pub(crate) workers: AtomicU64,
    submitted: AtomicU64,
    awaited: AtomicU64,
    mapped: AtomicU64,
    violations: Mutex<Vec<String>>,
}

impl<'a> Load<'a> {
    pub(crate) fn new(pool: &'a Pool) -> Self {
        Self {
            pool,
            next: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            workers: AtomicU64::new(0),
            submitted: AtomicU64::new(0),
            awaited: AtomicU64::new(0),
            mapped: AtomicU64::new(0),
            violations: Mutex::new(Vec::new()),
        }
    }

    /// One wave: up to `crest` tasks in flight, then down to none. Returns when all have ended.
    pub(crate) fn wave(&self, sampler: &Sampler, seed: u64, length: Duration, crest: f64) {
        let started = Instant::now();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for part in 0..2 {
                let random = Random::of_part(seed, part);
                scope.spawn(|| self.keep_mapping(random, &over));
            }
            let mut handles = VecDeque::new();
            let mut random = Random::new(seed);
            loop {
                let phase = started.elapsed().as_secs_f64() / length.as_secs_f64();
                if phase >= 1.0 || self.gave_up() {
                    break;
                }
                // The square of a sine rises from nothing and falls to nothing, gently at both ends.
                let wanted = (phase * std::f64::consts::PI).sin().powi(2) * crest;
                while handles.len() < wanted as usize
                    && let Some(submitted) = self.submit(&mut random)
                {
                    handles.push_back(submitted);
                }
                self.note(sampler);
                // The oldest is mostly done first; the others end meanwhile.
                match handles.pop_front() {
                    Some((number, handle)) => self.settle(number, handle),
                    None => std::thread::sleep(Duration::from_millis(5)),
                }
            }
            over.store(true, Ordering::Relaxed);
            while !self.gave_up()
                && let Some((number, handle)) = handles.pop_front()
            {
                self.settle(number, handle);
                self.note(sampler);
            }
        });
        self.note(sampler);
        let left = self.in_flight.load(Ordering::Relaxed);
        self.demand(left == 0, || format!("{left} tasks are in flight after a wave"));
    }

    fn note(&self, sampler: &Sampler) {
        sampler.note(self.in_flight.load(Ordering::Relaxed), self.pool.count_workers());
    }

    fn submit(&self, random: &mut Random) -> Option<(u64, TaskHandle<Bytes>)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let nap = random.millis(0, 8).as_nanos() as u64;
        match self.pool.submit("nap", input(number, nap)) {
            Ok(handle) => {
                self.in_flight.fetch_add(1, Ordering::Relaxed);
                Some((number, handle))
            }
            Err(error) => {
                self.violation(format!("task {number} was not accepted: {error}"));
                None
            }
        }
    }

    /// Takes a result, now as a thread and now as a future.
    fn settle(&self, number: u64, mut handle: TaskHandle<Bytes>) {
        let result = if number.is_multiple_of(4) {
            self.awaited.fetch_add(1, Ordering::Relaxed);
            block_on_for(&mut handle, 2 * PATIENCE)
        } else {
            self.submitted.fetch_add(1, Ordering::Relaxed);
            handle.result_timeout(2 * PATIENCE)
        };
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        match result {
            Some(result) => {
                self.judge(number, result.map_err(RunError::Task));
                let worker = handle.report().worker.map_or(0, |worker| worker.0);
                self.workers.fetch_max(worker, Ordering::Relaxed);
            }
            None => self.violation(format!("task {number} has not ended")),
        }
    }

    /// Maps over many items, one map after the other, by both orders in turn.
    fn keep_mapping(&self, mut random: Random, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) && !self.gave_up() {
            let first = self.next.fetch_add(MAP_ITEMS, Ordering::Relaxed);
            let inputs = (first..first + MAP_ITEMS).map(|number| input(number, 1_000_000));
            let mut map = self.pool.starmap::<Bytes, _, _>("nap", inputs).timeout(2 * PATIENCE);
            map = map.chunk_size(random.between(1, 8) as usize);
            if random.per_mille(500) {
                map = map.unordered();
            }
            let mut taken = 0;
            while let Some((index, handle)) = map.next_task() {
                let result = handle.and_then(|handle| Ok(handle.result()?));
                self.judge(first + index as u64, result);
                taken += 1;
            }
            self.mapped.fetch_add(taken, Ordering::Relaxed);
            self.demand(taken == MAP_ITEMS, || format!("a map of {MAP_ITEMS} items gave {taken}"));
            // Leaves most of the pool to the wave.
            std::thread::sleep(random.millis(50, 500));
        }
    }

    fn judge(&self, number: u64, result: Result<Bytes, RunError>) {
        self.demand(is_right(number, BASE, &result), || {
            format!("task {number} ended as {result:?}")
        });
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            submitted: self.submitted.load(Ordering::Relaxed),
            awaited: self.awaited.load(Ordering::Relaxed),
            mapped: self.mapped.load(Ordering::Relaxed),
        }
    }

    /// Notes a violation unless `holds`.
    pub(crate) fn demand(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violation(what());
        }
    }

    pub(crate) fn violation(&self, mut what: String) {
        what.truncate(what.floor_char_boundary(400));
        let mut violations = self.violations.lock().unwrap_or_else(PoisonError::into_inner);
        if violations.len() < VIOLATIONS_MAX {
            violations.push(what);
        }
    }

    /// Whether there is no sense in going on: nothing may go wrong here.
    pub(crate) fn gave_up(&self) -> bool {
        !self.violations.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The input of `nap`.
pub(crate) fn input(number: u64, nanoseconds: u64) -> Bytes {
    Bytes([number.to_le_bytes(), nanoseconds.to_le_bytes()].concat())
}

/// Whether `result` is what `nap` gives in an instance whose initializer left `base`.
pub(crate) fn is_right<E>(number: u64, base: u64, result: &Result<Bytes, E>) -> bool {
    let expected = mix(number.wrapping_add(base)).to_le_bytes();
    matches!(result, Ok(bytes) if bytes.0.get(..8) == Some(&expected))
}
