//! The number of a map's items that are sent together, and that are under way.
//!
//! Invariant: a batch has at least one item, and at most what a batch may have.

use std::time::Duration;

use stockade_wire::BATCH_TASKS_MAX;

use crate::outcome::error::RunError;
use crate::state::spec::{BATCH_TIME, CHOSEN_MAX};

/// About how long it takes until a worker that sleeps is at work, and its host has heard of it.
const WAKE_TIME: Duration = Duration::from_micros(20);

/// How long the items of a batch may take to be taken and encoded.
const FILL_TIME: Duration = Duration::from_micros(100);

/// Items of a batch, of a map that submits all, while their time is unknown.
const UNKNOWN_MAX: usize = 64;

/// What its caller wants of a map, and what the map has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sizes {
    /// Items sent together.
    pub(super) chunk: Option<usize>,
    /// Chunks under way.
    pub(super) buffer: Option<usize>,
    /// How long it took to take and encode an item, in nanoseconds; 0 while unknown.
    fill_nanos: u64,
}

impl Sizes {
    /// # Errors
    /// [`RunError::MapSetting`] where one is 0.
    pub(super) fn check(&self) -> Result<(), RunError> {
        for (name, given) in [("chunk_size", self.chunk), ("buffer_size", self.buffer)] {
            if given == Some(0) {
                return Err(RunError::MapSetting(name));
            }
        }
        Ok(())
    }

    /// So many items were taken and encoded within this time.
    pub(super) fn note_filled(&mut self, time: Duration, items: usize) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.fill_nanos = (nanos / items.max(1) as u64).max(1);
    }

    /// How many items the next batch takes, where the map chooses; `hint` is what the source says of its
    /// length, `pace` how long an item takes, and `all` whether all are submitted before the first
    /// result is asked for.
    pub(super) fn batch(
        &self,
        workers: usize,
        hint: (usize, Option<usize>),
        pace: Option<Duration>,
        all: bool,
    ) -> u32 {
        let left = match hint {
            (least, Some(most)) if least == most => Some(most),
            _ => None,
        };
        // Smaller towards the end, so that all workers end together.
        let share = |parts: usize| left.map(|left| left.div_ceil(parts * workers.max(1)));
        let wanted = match pace {
            Some(pace) => {
                let fitting = BATCH_TIME.as_nanos() / pace.as_nanos().max(1);
                usize::try_from(fitting).unwrap_or(usize::MAX).min(share(2).unwrap_or(usize::MAX))
            }
            None if all => share(8).unwrap_or(UNKNOWN_MAX / 4).min(UNKNOWN_MAX),
            None => 1,
        };
        // Two for each worker, where only so many items may be under way: a batch that is larger than
        // all of them would wait without end. If all of them together take no longer than it takes to
        // wake a worker, one worker gets them all.
        let most = self.buffer.map_or(usize::MAX, |items| {
            let all = pace.map(|pace| pace.as_nanos().saturating_mul(items as u128));
            let is_soon_done = all.is_some_and(|all| all <= WAKE_TIME.as_nanos());
            if is_soon_done { items } else { items / (2 * workers.max(1)) }
        });
        let wanted = wanted.min(most);
        let fill_nanos = FILL_TIME.as_nanos() as u64;
        let in_time = fill_nanos.checked_div(self.fill_nanos).unwrap_or(u64::MAX);
        let in_time = u32::try_from(in_time).unwrap_or(u32::MAX);
        u32::try_from(wanted).unwrap_or(u32::MAX).min(in_time).clamp(1, CHOSEN_MAX)
    }

    /// How many items may be under way, where so many fill all windows of the workers.
    pub(super) fn under_way_max(
        &self,
        workers: usize,
        window_tasks: usize,
        pace: Option<Duration>,
    ) -> usize {
        let chunk = self.chunk.unwrap_or(1).max(1);
        if let Some(chunks) = self.buffer {
            return chunks.saturating_mul(chunk);
        }
        // What fills every window: far more than they run between two looks.
        let least = (4 * workers).max(16).saturating_mul(chunk);
        let batches = 3 * workers * self.batch(workers, (0, None), pace, false) as usize;
        let most = 2 * BATCH_TASKS_MAX as usize * workers;
        let filling = window_tasks.max(if self.chunk.is_none() { batches } else { 0 });
        least.max(filling.min(most))
    }

    /// From how much room on it is worth to submit more.
    pub(super) fn worth(&self, under_way_max: usize) -> usize {
        if self.buffer.is_some() { under_way_max / 8 } else { under_way_max / 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Option<Duration> = Some(Duration::from_micros(5));
    const OPEN: (usize, Option<usize>) = (0, None);

    #[test]
    fn a_batch_is_as_long_as_its_time() {
        let sizes = Sizes::default();
        let batch = |pace| sizes.batch(2, OPEN, pace, false);
        assert_eq!(batch(FAST), 40);
        assert_eq!(batch(Some(Duration::from_millis(1))), 1);
        assert_eq!(batch(Some(Duration::ZERO)), CHOSEN_MAX);
        assert_eq!(batch(None), 1, "nobody knows how long they take");
    }

    #[test]
    fn a_batch_is_never_more_than_may_be_under_way() {
        for buffer in [1, 2, 4, 16, 1000] {
            for chunk in [None, Some(7)] {
                let sizes = Sizes { buffer: Some(buffer), chunk, ..Sizes::default() };
                let batch = sizes.batch(2, OPEN, Some(Duration::ZERO), false) as usize;
                assert!(batch <= sizes.under_way_max(2, 500, FAST), "{buffer} {chunk:?}");
            }
        }
        let few = |items| Sizes { buffer: Some(items), ..Sizes::default() };
        assert_eq!(few(4).batch(2, OPEN, FAST, false), 4, "20 µs together");
        assert_eq!(few(5).batch(2, OPEN, FAST, false), 1);
        assert_eq!(few(4).batch(2, OPEN, None, false), 1);
    }

    #[test]
    fn batches_are_smaller_towards_the_end() {
        let sizes = Sizes::default();
        let sizes: Vec<_> = [1000, 100, 20, 4, 1, 0]
            .map(|left| sizes.batch(2, (left, Some(left)), FAST, false))
            .into();
        assert_eq!(sizes, [40, 25, 5, 1, 1, 1]);
    }

    #[test]
    fn a_source_that_takes_its_time_is_not_waited_for() {
        let mut sizes = Sizes::default();
        sizes.note_filled(Duration::from_micros(400), 40);
        assert_eq!(sizes.batch(2, OPEN, FAST, false), 10);
        sizes.note_filled(Duration::from_secs(1), 10);
        assert_eq!(sizes.batch(2, OPEN, FAST, false), 1);
    }

    #[test]
    fn all_at_once_is_shared_out_before_anything_is_known() {
        let batch = |left| Sizes::default().batch(2, (left, Some(left)), None, true);
        assert_eq!([batch(3), batch(100), batch(1_000_000)], [1, 7, 64]);
        assert_eq!(Sizes::default().batch(2, OPEN, None, true), 16);
    }

    #[test]
    fn what_the_caller_wants_is_what_is_under_way() {
        let sizes = |chunk, buffer| Sizes { chunk, buffer, ..Sizes::default() };
        assert_eq!(sizes(None, Some(3)).under_way_max(2, 500, FAST), 3);
        assert_eq!(sizes(Some(5), Some(3)).under_way_max(2, 500, FAST), 15);
        assert_eq!(sizes(Some(5), None).under_way_max(2, 0, None), 80);
        assert_eq!(sizes(None, None).under_way_max(2, 0, None), 16);
        assert_eq!(sizes(None, None).under_way_max(8, 0, None), 32);
        assert_eq!(sizes(None, None).under_way_max(2, 0, FAST), 240);
        assert!(sizes(Some(0), None).check().is_err() && sizes(None, Some(0)).check().is_err());
    }
}
