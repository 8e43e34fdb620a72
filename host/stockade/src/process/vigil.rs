//! The vigil: which processes' memory is sampled, and when.
//!
//! ```text
//! a task is sent ──► every 100 ms ──► nothing runs, nothing changed: 200 ms, 400 ms … 10 s
//!        ▲                                                                            │
//!        └───────────── the first turn with a busy worker rouses the supervisor ◄─────────┘
//! ```
//!
//! Idle workers are sampled too, since a compromised worker may only pretend to have finished; an
//! idle pool wakes once in [`DISTANCE_MAX`] for that.
//!
//! Invariant: the dispatcher decides whether a task runs, not data from a worker.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use stockade_wire::WorkerId;

use crate::outcome::exit::MemoryExcess;
use crate::process::footprint::{self, LOOK_EVERY, MemoryAllowance};

/// The longest time between two looks at an idle pool: short enough that a worker which grows while it
/// is idle is found, long enough that its processor sleeps.
const DISTANCE_MAX: Duration = Duration::from_secs(10);

/// Whether the supervisor samples seldom and must be told when a task runs.
#[derive(Debug, Default)]
pub(crate) struct Doze(AtomicBool);

impl Doze {
    /// Whether it must be told now. True once for each time that it dozes off.
    pub(crate) fn rouse(&self) -> bool {
        // A load first: this is asked in every turn.
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }

    fn set(&self, dozes: bool) {
        self.0.store(dozes, Ordering::Relaxed);
    }
}

/// A process that is looked at.
#[derive(Debug)]
struct Watched {
    pid: u32,
    allowance: MemoryAllowance,
    last: Option<u64>,
}

/// The processes of a pool's workers, from their start until they are buried.
#[derive(Debug)]
pub(crate) struct Vigil {
    watched: BTreeMap<WorkerId, Watched>,
    distance: Duration,
    next: Instant,
}

impl Vigil {
    pub(crate) fn new() -> Self {
        Self { watched: BTreeMap::new(), distance: LOOK_EVERY, next: Instant::now() + LOOK_EVERY }
    }

    /// Looks at a worker from now on, whose number is its own until [`forget`](Self::forget).
    pub(crate) fn watch(&mut self, worker: WorkerId, pid: u32, allowance: MemoryAllowance) {
        self.watched.insert(worker, Watched { pid, allowance, last: None });
        self.hurry();
    }

    pub(crate) fn forget(&mut self, worker: WorkerId) {
        self.watched.remove(&worker);
    }

    /// Looks often again: something runs.
    pub(crate) fn hurry(&mut self) {
        self.distance = LOOK_EVERY;
        self.next = self.next.min(Instant::now() + LOOK_EVERY);
    }

    /// When to sample next; `None` if there are no processes.
    pub(crate) fn next(&self) -> Option<Instant> {
        (!self.watched.is_empty()).then_some(self.next)
    }

    /// Samples each, and returns those that have too much. Then decides when to sample next: `runs`
    /// returns whether any has a task, and is called again after `doze` was set.
    pub(crate) fn look(
        &mut self,
        doze: &Doze,
        runs: impl Fn() -> bool,
    ) -> Vec<(WorkerId, MemoryExcess)> {
        let mut excesses = Vec::new();
        let mut is_active = runs();
        for (worker, watched) in &mut self.watched {
            let seen = footprint::of(watched.pid);
            is_active |= seen != std::mem::replace(&mut watched.last, seen);
            let excess = seen.and_then(|seen| watched.allowance.excess(seen));
            excesses.extend(excess.map(|excess| (*worker, excess)));
        }
        self.distance = next_distance(self.distance, is_active);
        doze.set(self.distance > LOOK_EVERY);
        // A task that was sent before the doze was set roused nobody.
        if self.distance > LOOK_EVERY && runs() {
            doze.set(false);
            self.distance = LOOK_EVERY;
        }
        self.next = Instant::now() + self.distance;
        excesses
    }
}

fn next_distance(distance: Duration, is_active: bool) -> Duration {
    if is_active { LOOK_EVERY } else { distance.saturating_mul(2).min(DISTANCE_MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_pool_is_looked_at_ever_less_often_and_a_busy_one_always() {
        let mut distance = LOOK_EVERY;
        for _ in 0..7 {
            distance = next_distance(distance, false);
        }
        assert_eq!(distance, DISTANCE_MAX);
        assert_eq!(next_distance(distance, false), DISTANCE_MAX);
        assert_eq!(next_distance(distance, true), LOOK_EVERY);
        assert_eq!(next_distance(LOOK_EVERY, true), LOOK_EVERY);
    }

    #[test]
    fn who_dozes_is_roused_once() {
        let doze = Doze::default();
        assert!(!doze.rouse());
        doze.set(true);
        assert!(doze.rouse());
        assert!(!doze.rouse());
    }

    #[test]
    fn who_has_more_than_allowed_is_found_and_others_are_not() {
        let mut vigil = Vigil::new();
        assert_eq!(vigil.next(), None, "nobody is there to wake for");
        let own = std::process::id();
        vigil.watch(WorkerId(1), own, MemoryAllowance::of(u64::MAX));
        assert!(vigil.next().is_some());
        let doze = Doze::default();
        assert_eq!(vigil.look(&doze, || false), []);
        vigil.watch(WorkerId(2), own, MemoryAllowance::none());
        let found = vigil.look(&doze, || false);
        assert_eq!(found.iter().map(|(worker, _)| *worker).collect::<Vec<_>>(), [WorkerId(2)]);
        vigil.forget(WorkerId(2));
        assert_eq!(vigil.look(&doze, || false), []);
    }

    #[test]
    fn a_task_that_was_sent_while_the_supervisor_dozed_off_keeps_it_awake() {
        let (mut vigil, doze) = (Vigil::new(), Doze::default());
        // It runs when it is asked for the second time.
        let asked = std::cell::Cell::new(0);
        let runs = || asked.replace(asked.get() + 1) > 0;
        assert_eq!(vigil.look(&doze, runs), []);
        assert_eq!(vigil.distance, LOOK_EVERY);
        assert!(!doze.rouse());
        assert_eq!(vigil.look(&doze, || false), []);
        assert_eq!(vigil.distance, 2 * LOOK_EVERY);
        assert!(doze.rouse());
    }
}
