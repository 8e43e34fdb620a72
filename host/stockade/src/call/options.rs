//! Options of one task: priority, retries, tighter limits, a label, and how long to wait when the
//! pool is full.
//!
//! Deliberately absent: defaults of the pool, which the builder owns.

use std::fmt::Display;
use std::time::Duration;

use stockade_wire::Limits;

use crate::outcome::error::SubmitError;

/// Options of one task. See [`Pool::submit_with`].
///
/// ```
/// use stockade::TaskOptions;
///
/// let options = TaskOptions::default().priority(10).retries(2).label("invoice 4711");
/// assert_eq!(options.retries, 2);
/// ```
///
/// [`Pool::submit_with`]: crate::Pool::submit_with
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskOptions {
    /// Tasks of a higher priority start first, those of equal priority in the order of submission.
    /// A task waits while any task of a higher priority waits. Default: 0.
    pub priority: i32,
    /// How often the task is retried after its worker died while it ran; for tasks that may run
    /// twice. A task that fails, traps or reaches a limit is not retried. Default: 0.
    pub retries: u32,
    /// Limits of this task, none looser than the pool's: start from `pool.limits().clone()`.
    /// Default: the pool's.
    pub limits: Option<Limits>,
    /// The task's label in reports and lists. Default: none.
    pub label: Option<String>,
    /// What to do when the pool is full. Default: the pool's setting.
    pub when_full: Option<WhenFull>,
}

/// What a submission does when the pool is full.
///
/// See [`PoolBuilder::max_pending_tasks`](crate::PoolBuilder::max_pending_tasks).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Blocks until a task starts or ends. Blocked submissions continue in no particular order.
    #[default]
    Block,
    /// Fails at once, with [`SubmitError::Full`].
    Fail,
    /// Blocks at most for this time, then fails.
    Wait(Duration),
}

impl TaskOptions {
    /// Sets [`priority`](Self::priority).
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Sets [`retries`](Self::retries).
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Sets [`limits`](Self::limits).
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Sets [`label`](Self::label).
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Sets [`when_full`](Self::when_full).
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = Some(when_full);
        self
    }
}

/// Checks that no limit of `task` is looser than the one of `pool`.
pub(crate) fn check_tighter(task: &Limits, pool: &Limits) -> Result<(), SubmitError> {
    at_most("memory_bytes", task.memory_bytes, pool.memory_bytes)?;
    at_most("table_elements", task.table_elements, pool.table_elements)?;
    at_most("output_bytes", task.output_bytes, pool.output_bytes)?;
    at_most("stdio_bytes", task.stdio_bytes, pool.stdio_bytes)?;
    match (task.wall_time, pool.wall_time) {
        (Some(Duration::ZERO), _) => return Err(refused("wall_time", "0", "longer")),
        (None, Some(most)) => return Err(refused("wall_time", "none", at_most_text(most))),
        (Some(given), Some(most)) if given > most => {
            return Err(refused("wall_time", format!("{given:?}"), at_most_text(most)));
        }
        _ => {}
    }
    match (task.fuel, pool.fuel) {
        (Some(given), Some(most)) => at_most("fuel", given, most)?,
        (None, None) => {}
        // Counting is compiled in or it is not.
        (Some(given), None) => {
            return Err(refused("fuel", given, "none, since the pool does not count it"));
        }
        (None, Some(most)) => return Err(refused("fuel", "none", format!("at most {most}"))),
    }
    if task.deterministic.is_some() != pool.deterministic.is_some() {
        let (given, most) = match pool.deterministic {
            Some(_) => ("none", "a seed, since the pool has one"),
            None => ("a seed", "none, since the pool has none"),
        };
        return Err(refused("deterministic", given, most));
    }
    if task.interruptible != pool.interruptible {
        // So are the checks that interrupt a guest.
        let most = format!("{}, as the pool's", pool.interruptible);
        return Err(refused("interruptible", task.interruptible, most));
    }
    Ok(())
}

fn at_most(limit: &'static str, given: u64, most: u64) -> Result<(), SubmitError> {
    if given <= most { Ok(()) } else { Err(refused(limit, given, format!("at most {most}"))) }
}

fn at_most_text(most: Duration) -> String {
    format!("at most {most:?}")
}

fn refused(limit: &'static str, given: impl Display, allowed: impl Display) -> SubmitError {
    SubmitError::Limits { limit, given: given.to_string(), allowed: allowed.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Limits {
        Limits::default().wall_time(Duration::from_secs(10)).fuel(1000)
    }

    fn refused_limit(task: Limits) -> Option<&'static str> {
        match check_tighter(&task, &pool()) {
            Ok(()) => None,
            Err(SubmitError::Limits { limit, .. }) => Some(limit),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn equal_and_tighter_limits_are_taken_and_looser_ones_are_not() {
        let Limits { memory_bytes, table_elements, output_bytes, stdio_bytes, .. } = pool();
        assert_eq!(refused_limit(pool()), None);
        for (tighter, looser, name) in [
            (
                pool().memory_bytes(memory_bytes - 1),
                pool().memory_bytes(memory_bytes + 1),
                "memory_bytes",
            ),
            (
                pool().table_elements(table_elements - 1),
                pool().table_elements(table_elements + 1),
                "table_elements",
            ),
            (
                pool().output_bytes(output_bytes - 1),
                pool().output_bytes(output_bytes + 1),
                "output_bytes",
            ),
            (
                pool().stdio_bytes(stdio_bytes - 1),
                pool().stdio_bytes(stdio_bytes + 1),
                "stdio_bytes",
            ),
            (pool().fuel(999), pool().fuel(1001), "fuel"),
            (
                pool().wall_time(Duration::from_nanos(1)),
                pool().wall_time(Duration::from_nanos(10_000_000_001)),
                "wall_time",
            ),
        ] {
            assert_eq!(refused_limit(tighter), None, "{name}");
            assert_eq!(refused_limit(looser), Some(name));
        }
    }

    #[test]
    fn no_limit_is_looser_than_any() {
        assert_eq!(refused_limit(pool().wall_time(None)), Some("wall_time"));
        assert_eq!(refused_limit(pool().wall_time(Duration::ZERO)), Some("wall_time"));
        assert_eq!(refused_limit(pool().fuel(None)), Some("fuel"));
        assert_eq!(refused_limit(pool().interruptible(true)), Some("interruptible"));
        assert_eq!(refused_limit(pool().deterministic(1)), Some("deterministic"));
        let seeded = pool().deterministic(1);
        assert!(check_tighter(&pool().deterministic(2), &seeded).is_ok());
        assert!(check_tighter(&pool(), &seeded).is_err());
        let unlimited = Limits::default().wall_time(None);
        assert!(check_tighter(&unlimited, &unlimited).is_ok());
        assert!(check_tighter(&Limits::default(), &unlimited).is_ok());
        assert!(check_tighter(&unlimited.clone().fuel(1), &unlimited).is_err());
    }
}
