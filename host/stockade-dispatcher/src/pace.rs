//! A worker's pace, as it reports it, and so how many tasks make up a window's time.
//!
//! Invariant: a depth is at least one, at most what a window holds, and none before the first task.
//!
//! Deliberately absent: trust. A worker that reports nonsense gets one task at a time, or a deep
//! window from which the others' patience takes back what it does not run.

use core::time::Duration;

/// The weight of the past against one more task.
const PAST: u64 = 7;

/// What weights are fractions of.
const WHOLE: u64 = 1 << 32;

/// A worker's pace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    window_nanos: u64,
    depth_max: usize,
    average_nanos: u64,
    /// Zero before the first task, so that the division is done once a task.
    depth: usize,
}

impl Pace {
    /// That of a worker that has finished nothing.
    pub(super) fn new(window_time: Duration, depth_max: usize) -> Self {
        let window_nanos = u64::try_from(window_time.as_nanos()).unwrap_or(u64::MAX / 16);
        Self { window_nanos, depth_max, average_nanos: 0, depth: 0 }
    }

    /// So many tasks took so long all together, or so their worker says. Where they took longer than two
    /// windows each they count as two, so that they are forgotten after a few others.
    pub(super) fn note(&mut self, wall_time: Duration, tasks: u32) {
        let Some(each) = wall_time.checked_div(tasks) else { return };
        let nanos = u64::try_from(each.as_nanos()).unwrap_or(u64::MAX);
        let nanos = nanos.min(self.window_nanos * 2).max(1);
        self.average_nanos = match (self.depth, tasks) {
            (0, _) => nanos,
            (_, 1) => (self.average_nanos * PAST + nanos) / (PAST + 1),
            _ => weighted(self.average_nanos, nanos, past_after(tasks)),
        };
        let depth = self.window_nanos.div_ceil(self.average_nanos.max(1));
        self.depth = usize::try_from(depth).unwrap_or(usize::MAX).clamp(1, self.depth_max);
    }

    /// How many tasks make up the window's time, if anything is known.
    pub(super) fn depth(&self) -> Option<usize> {
        (self.depth > 0).then_some(self.depth)
    }

    /// How long so many tasks may take, in nanoseconds.
    pub(super) fn load(&self, tasks: usize) -> u64 {
        self.average_nanos.saturating_mul(tasks as u64)
    }
}

/// What the past weighs after so many tasks, of [`WHOLE`]: the power of its weight against one.
fn past_after(tasks: u32) -> u64 {
    let (mut past, mut factor) = (WHOLE, WHOLE * PAST / (PAST + 1));
    let mut left = tasks;
    while left > 0 && past > 0 {
        if left % 2 == 1 {
            past = scaled(past, factor);
        }
        factor = scaled(factor, factor);
        left /= 2;
    }
    past
}

/// The average of two numbers, of which the first has this weight of [`WHOLE`].
fn weighted(first: u64, second: u64, weight: u64) -> u64 {
    scaled(first, weight).saturating_add(scaled(second, WHOLE - weight))
}

/// This part, of [`WHOLE`], of a number; it fits, since no part is greater than the whole.
fn scaled(number: u64, part: u64) -> u64 {
    let product = u128::from(number) * u128::from(part) / u128::from(WHOLE);
    u64::try_from(product).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_micros(500);

    fn depth_after(micros: &[u64]) -> Option<usize> {
        let mut pace = Pace::new(WINDOW, 1000);
        micros.iter().for_each(|micros| pace.note(Duration::from_micros(*micros), 1));
        pace.depth()
    }

    #[test]
    fn the_first_task_tells_the_depth_and_none_before() {
        assert_eq!(depth_after(&[]), None);
        assert_eq!(depth_after(&[5]), Some(100));
        assert_eq!(depth_after(&[300]), Some(2), "rounded up");
        assert_eq!(depth_after(&[500]), Some(1));
        assert_eq!(depth_after(&[501]), Some(1), "at least one");
    }

    #[test]
    fn the_average_follows_what_tasks_take() {
        let mut micros = vec![5; 10];
        micros.extend([100; 40]);
        assert_eq!(depth_after(&micros), Some(6), "5 of them, and what is left of the past");
    }

    #[test]
    fn one_task_that_took_ages_is_soon_forgotten() {
        let mut micros = vec![5; 10];
        micros.push(u64::MAX / 1_000);
        assert_eq!(depth_after(&micros), Some(4));
        micros.extend([5; 30]);
        assert!(depth_after(&micros) > Some(60));
    }

    #[test]
    fn nonsense_is_a_depth_like_any_other() {
        let mut pace = Pace::new(WINDOW, 1000);
        for wall_time in [Duration::ZERO, Duration::MAX, Duration::ZERO] {
            pace.note(wall_time, 1);
            assert!((Some(1)..=Some(1000)).contains(&pace.depth()));
        }
        for (wall_time, tasks) in [(Duration::MAX, u32::MAX), (Duration::ZERO, u32::MAX)] {
            pace.note(wall_time, tasks);
            assert!((Some(1)..=Some(1000)).contains(&pace.depth()));
        }
        pace.note(Duration::from_secs(1), 0);
        let mut endless = Pace::new(Duration::MAX, 1000);
        assert_eq!(endless.depth(), None);
        endless.note(Duration::MAX, 1);
        endless.note(Duration::MAX, 700);
        assert_eq!(endless.depth(), Some(1));
    }

    #[test]
    fn tasks_told_together_count_as_much_as_one_by_one() {
        for (tasks, micros) in [(2, 40), (7, 3), (64, 90), (300, 1), (1024, 400)] {
            let [mut single, mut together] = [Pace::new(WINDOW, 100_000); 2];
            for pace in [&mut single, &mut together] {
                pace.note(Duration::from_micros(20), 1);
            }
            (0..tasks).for_each(|_| single.note(Duration::from_micros(micros), 1));
            together.note(Duration::from_micros(micros) * tasks, tasks);
            let difference = single.average_nanos.abs_diff(together.average_nanos);
            // Each division rounds down, and the past forgets that as it does the rest.
            assert!(difference <= PAST + 1, "{tasks} tasks: {difference} ns apart");
        }
    }
}
