//! When to look for results without a bell.
//!
//! A worker that has just rung may write more for [`BELL_INTERVAL`], and rings for it only when its next
//! task has ended, however long that takes. So a look is due once after each bell, and not before that
//! time is over.
//!
//! Where the caller dozes, which is one that takes the results of a map or of many short tasks, workers with
//! more to do do not ring at all, and a look is due again and again while it finds something: at first after
//! that time, and later after [`LONG_LOOK`], since each look costs a change of threads.
//!
//! Invariant: after each bell there is a look within twice that time, however often workers ring.
//!
//! Deliberately absent: clocks, and the looking.

use std::time::Duration;

use stockade_dispatcher::Moment;
use stockade_wire::BELL_INTERVAL;

/// How much later than its last bell could be held back a worker is looked at.
const LOOK_MARGIN: Duration = Duration::from_micros(50);

/// How long it is until the next look of a caller that dozes, once [`STREAK`] looks have found something.
const LONG_LOOK: Duration = Duration::from_micros(500);

/// Looks that find something, one after the other, from which on the next is due later: some milliseconds
/// of a map.
const STREAK: u32 = 16;

/// When a look is due.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// The next; never moved away, so that one worker's bells do not delay another's results.
    next: Option<Moment>,
    /// When everything that was not rung for by now will have been written.
    until: Moment,
    /// Looks in a row that found something.
    streak: u32,
}

impl Looks {
    /// A worker has rung, or was heard, and may now write more without ringing: for longer where the
    /// caller dozes.
    pub(super) fn heard(&mut self, now: Moment, dozes: bool) {
        let is_long = dozes && self.streak >= STREAK;
        let span = if is_long { LONG_LOOK } else { BELL_INTERVAL + LOOK_MARGIN };
        self.until = now.saturating_add(span);
        self.next.get_or_insert(self.until);
    }

    /// Whether a look will be due.
    pub(super) fn is_due(&self) -> bool {
        self.next.is_some()
    }

    /// When the next look is due.
    pub(super) fn next(&self) -> Option<Moment> {
        self.next
    }

    /// Whether a look is due. If so, the caller looks now.
    pub(super) fn take_due(&mut self, now: Moment) -> bool {
        let is_due = self.next.is_some_and(|next| next <= now);
        if is_due {
            self.next = (self.until > now).then_some(self.until);
            // If it finds nothing, none follows.
            self.streak = self.streak.saturating_add(1);
        } else if self.next.is_none() {
            self.streak = 0;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(micros: u64) -> Moment {
        Duration::from_micros(micros)
    }

    #[test]
    fn one_look_follows_a_bell() {
        let mut looks = Looks::default();
        assert!(!looks.take_due(at(1000)));
        looks.heard(at(1000), false);
        assert_eq!(looks.next(), Some(at(1250)));
        assert!(!looks.take_due(at(1249)) && looks.take_due(at(1250)));
        assert_eq!(looks.next(), None, "once");
    }

    #[test]
    fn a_worker_that_rings_again_and_again_holds_back_no_look_at_another() {
        let mut looks = Looks::default();
        let mut looked = Vec::new();
        for micros in (0..2000).step_by(100) {
            if looks.take_due(at(micros)) {
                looked.push(micros);
            }
            looks.heard(at(micros), false);
        }
        assert_eq!(looked, [300, 500, 700, 900, 1100, 1300, 1500, 1700, 1900]);
    }

    #[test]
    fn what_was_heard_shortly_before_a_look_is_looked_at_again() {
        let mut looks = Looks::default();
        looks.heard(at(0), false);
        looks.heard(at(240), false);
        assert!(looks.take_due(at(250)));
        assert_eq!(looks.next(), Some(at(490)));
        assert!(looks.take_due(at(490)));
        assert_eq!(looks.next(), None);
    }

    #[test]
    fn looks_of_a_caller_that_dozes_come_later_while_they_find_something() {
        let mut looks = Looks::default();
        let mut spans = Vec::new();
        let mut now = at(0);
        for _ in 0..20 {
            looks.heard(now, true);
            let next = looks.next().unwrap();
            spans.push((next - now).as_micros());
            now = next;
            assert!(looks.take_due(now));
        }
        assert_eq!((spans[0], spans[15], spans[16], spans[19]), (250, 250, 500, 500));
        looks.heard(now, false);
        assert_eq!(looks.next(), Some(now + at(250)), "a caller that listens is not kept waiting");
        assert!(looks.take_due(now + at(250)) && !looks.take_due(now + at(300)));
        looks.heard(now, true);
        assert_eq!(looks.next(), Some(now + at(250)), "one has found nothing");
    }
}
