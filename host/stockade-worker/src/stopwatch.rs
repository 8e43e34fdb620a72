//! The stopwatch: wall time and processor time of tasks.
//!
//! Only the system knows a thread's processor time, and asking twice for each task would be a tenth
//! of a small one. So it is asked once a [`RESOLUTION`]. A task that began and ended in between is
//! taken to have run all the time, and the one after which it is asked has the rest, so that each
//! task's time is right within a resolution.
//!
//! ```text
//! asked ─┬─ task ── task ── task ──────── task ─┬─ asked
//!        └ wall    wall    wall    thread's - ──┘
//!                                  the others'
//! ```
//!
//! Invariant: no task has more processor time than wall time.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The accuracy of processor time.
const RESOLUTION: Duration = Duration::from_micros(100);

/// Times one task after another of the thread that it is used on.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    started: Instant,
    asked: Instant,
    /// The thread's processor time then.
    thread: Duration,
    /// What tasks were told since.
    told: Duration,
}

impl Stopwatch {
    /// One on which no task has started yet.
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { started: now, asked: now, thread: thread_time(), told: Duration::ZERO }
    }

    /// Starts for a task; returns the start time.
    pub(crate) fn start(&mut self) -> Instant {
        self.start_at(Instant::now(), thread_time)
    }

    /// Wall and processor time since the start. Once for each start.
    pub(crate) fn stop(&mut self) -> (Duration, Duration) {
        self.stop_at(Instant::now(), thread_time)
    }

    fn start_at(&mut self, now: Instant, thread: impl FnOnce() -> Duration) -> Instant {
        self.started = now;
        if self.is_stale(now) {
            self.ask(now, thread);
        }
        now
    }

    fn stop_at(&mut self, now: Instant, thread: impl FnOnce() -> Duration) -> (Duration, Duration) {
        let wall = now.saturating_duration_since(self.started);
        if !self.is_stale(now) {
            self.told += wall;
            return (wall, wall);
        }
        let others = self.thread + self.told;
        self.ask(now, thread);
        (wall, self.thread.saturating_sub(others).min(wall))
    }

    fn is_stale(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.asked) >= RESOLUTION
    }

    fn ask(&mut self, now: Instant, thread: impl FnOnce() -> Duration) {
        (self.asked, self.thread, self.told) = (now, thread(), Duration::ZERO);
    }
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread whose clocks move as the test says.
    struct Thread {
        now: Instant,
        time: Duration,
        asked: u32,
        watch: Stopwatch,
    }

    fn thread() -> Thread {
        let watch = Stopwatch::new();
        Thread { now: watch.asked, time: watch.thread, asked: 0, watch }
    }

    fn us(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    impl Thread {
        fn runs(&mut self, micros: u64) {
            self.time += us(micros);
            self.waits(micros);
        }

        fn waits(&mut self, micros: u64) {
            self.now += us(micros);
        }

        fn start(&mut self) {
            let Self { now, time, asked, watch } = self;
            watch.start_at(*now, || {
                *asked += 1;
                *time
            });
        }

        /// Processor time of a task that does what `task` does.
        fn task(&mut self, task: impl FnOnce(&mut Self)) -> Duration {
            self.start();
            let started = self.now;
            task(self);
            let Self { now, time, asked, watch } = self;
            let (wall, processor) = watch.stop_at(*now, || {
                *asked += 1;
                *time
            });
            assert_eq!(wall, *now - started);
            processor
        }
    }

    #[test]
    fn a_long_task_is_told_what_it_ran() {
        let mut thread = thread();
        thread.waits(5000);
        let told = thread.task(|thread| {
            thread.runs(300);
            thread.waits(1000);
            thread.runs(10);
        });
        assert_eq!(told, us(310));
        assert_eq!(thread.asked, 2);
    }

    #[test]
    fn short_tasks_in_a_row_share_one_question() {
        let mut thread = thread();
        let told: Vec<_> = (0..1000).map(|_| thread.task(|thread| thread.runs(5))).collect();
        assert_eq!(told, vec![us(5); 1000]);
        assert_eq!(thread.asked, 50);
    }

    #[test]
    fn time_off_the_processor_before_a_task_is_not_its_own() {
        let mut thread = thread();
        for _ in 0..3 {
            thread.waits(5000);
            assert_eq!(thread.task(|thread| thread.runs(5)), us(5));
        }
    }

    #[test]
    fn whatever_others_were_told_a_task_is_right_within_the_resolution() {
        let mut thread = thread();
        assert_eq!(thread.task(|thread| thread.waits(90)), us(90));
        let told = thread.task(|thread| thread.runs(1000));
        assert_eq!(told, us(1000) - us(90));
        thread.runs(90);
        let told = thread.task(|thread| {
            thread.runs(1000);
            thread.waits(1000);
        });
        assert_eq!(told, us(1090));
    }

    #[test]
    fn no_task_has_more_processor_time_than_wall_time() {
        let mut thread = thread();
        thread.runs(99);
        assert_eq!(thread.task(|thread| thread.runs(7)), us(7));
    }

    #[test]
    fn the_systems_answer_grows_with_work() {
        let mut watch = Stopwatch::new();
        let before = watch.thread;
        while watch.thread == before {
            watch.start();
            let (wall, processor) = watch.stop();
            assert!(processor <= wall);
        }
    }
}
