//! Single tasks of one function that have waited for the same turn, behind others that keep every worker
//! busy, travel together.
//!
//! ```text
//! requests: task 7, task 8, cancel 3, task 9, task 11 ──► batch 7 and 8, cancel 3, task 9, task 11
//! ```
//!
//! All of a batch take no longer than a batch of a map that chooses for itself. Each keeps its handle, its
//! instance, its limits, its own outcome, and a cancel of its own.
//!
//! Invariant: tasks leave in the order in which they came.

use std::sync::Arc;

use stockade_wire::TaskRange;

use crate::backend::entry::{Entry, Several, TaskEntry};
use crate::call::inputs::{Inputs, Measure};
use stockade_dispatcher::Submission;

/// Tasks that follow each other and can travel together, at least one.
#[derive(Debug)]
pub(super) struct Gathered {
    tasks: Vec<TaskEntry>,
    /// How many may travel together.
    tasks_max: u32,
    /// Of all their inputs; none where the first is one that travels by itself.
    measure: Option<Measure>,
    /// Of all of them.
    submission: Submission,
}

impl Gathered {
    /// A first task.
    pub(super) fn new(task: TaskEntry, submission: Submission) -> Self {
        let tasks_max = task.cell.spec.batch_max();
        let measure = task.cell.with_payload(Inputs::measure);
        Self { tasks: vec![task], tasks_max, measure, submission }
    }

    /// Adds the task that came next. Gives it back if it cannot travel with these.
    pub(super) fn add(
        &mut self,
        task: TaskEntry,
        next: Submission,
    ) -> Result<(), (TaskEntry, Submission)> {
        let all = &self.submission;
        let is_alike = Arc::ptr_eq(&self.tasks[0].cell.spec, &task.cell.spec)
            && (all.priority, all.retries) == (next.priority, next.retries)
            && all.tasks.count() < self.tasks_max;
        let tasks = TaskRange::new(all.tasks.first(), all.tasks.count() + 1);
        let tasks = tasks.filter(|tasks| is_alike && tasks.last() == next.tasks.last());
        let own = tasks.and_then(|_| task.cell.with_payload(Inputs::measure));
        let measure = self.measure.zip(own).and_then(|(measure, own)| measure.with(own));
        let (Some(tasks), Some(measure)) = (tasks, measure) else { return Err((task, next)) };
        self.submission = Submission { tasks, task_bytes: measure.task_bytes(), ..next };
        self.measure = Some(measure);
        self.tasks.push(task);
        Ok(())
    }

    /// All of them, as one batch if they are several.
    pub(super) fn into_entry(mut self) -> (Entry, Submission) {
        let entry = match self.tasks.pop() {
            Some(one) if self.tasks.is_empty() => Entry::One(one),
            last => {
                self.tasks.extend(last);
                Entry::Several(Box::new(Several::new(self.submission.tasks.first(), self.tasks)))
            }
        };
        (entry, self.submission)
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::time::Duration;

    use stockade_dispatcher::EntryKey;
    use stockade_wire::{Codec, ModuleId, TaskId};

    use super::*;
    use crate::backend::entry;
    use crate::call::payload::Payload;
    use crate::state::cell::TaskCell;
    use crate::state::spec::TaskSpec;

    /// A function whose tasks take so long.
    fn spec(pace: Duration) -> Arc<TaskSpec> {
        let spec = entry::spec_of_a_test();
        spec.note_pace(pace);
        Arc::new(spec)
    }

    type One = (TaskEntry, Submission);

    fn task(number: u64, spec: &Arc<TaskSpec>, bytes: usize) -> One {
        let payload = Payload::Task { codec: Codec::Json, input: vec![0; bytes].into() };
        let cell = TaskCell::new(TaskId(number), spec.clone(), payload, None);
        let submission = Submission {
            tasks: TaskId(number).into(),
            entry: EntryKey(0),
            module: ModuleId(0),
            priority: 0,
            task_bytes: bytes,
            wall_time: None,
            retries: 0,
        };
        (TaskEntry::new(Arc::new(cell)), submission)
    }

    /// How many of these travel together with the first.
    fn gathered(tasks: impl IntoIterator<Item = One>) -> u32 {
        gathered_with_bytes(tasks).0
    }

    /// The same, and what each takes of a window.
    fn gathered_with_bytes(tasks: impl IntoIterator<Item = One>) -> (u32, usize) {
        let mut tasks = tasks.into_iter();
        let (first, submission) = tasks.next().expect("there are tasks");
        let number = submission.tasks.first();
        let mut gathered = Gathered::new(first, submission);
        for (task, submission) in tasks {
            if gathered.add(task, submission).is_err() {
                break;
            }
        }
        let (mut entry, submission) = gathered.into_entry();
        let count = submission.tasks.count();
        assert_eq!(submission.tasks.first(), number);
        assert_eq!(matches!(entry, Entry::One(_)), count == 1);
        assert!(submission.tasks.iter().all(|task| entry.as_mut().is_of(task)));
        assert!(!entry.as_mut().is_of(TaskId(number.0 + u64::from(count))));
        (count, submission.task_bytes)
    }

    #[test]
    fn as_many_travel_together_as_take_the_time_of_a_batch() {
        for (micros, expected) in [(0, 256), (2, 100), (100, 2), (101, 1), (400, 1), (5_000, 1)] {
            let spec = spec(Duration::from_micros(micros));
            let tasks = (1..=300).map(|number| task(number, &spec, 8));
            assert_eq!(gathered(tasks), expected, "{micros} µs each");
        }
    }

    #[test]
    fn tasks_that_differ_or_do_not_follow_each_other_do_not_travel_together() {
        let (spec, other) = (spec(Duration::ZERO), spec(Duration::ZERO));
        let alike = || [1, 2].map(|number| task(number, &spec, 8));
        assert_eq!(gathered(alike()), 2);
        let with = |second: One| gathered([task(1, &spec, 8), second]);
        assert_eq!(with(task(3, &spec, 8)), 1, "one is missing between them");
        assert_eq!(with(task(2, &other, 8)), 1, "they are of two functions");
        let [_, (second, submission)] = alike();
        assert_eq!(with((second, Submission { priority: 1, ..submission })), 1);
        let [_, (second, submission)] = alike();
        assert_eq!(with((second, Submission { retries: 1, ..submission })), 1);
    }

    #[test]
    fn long_inputs_travel_by_themselves_and_all_fit_a_message() {
        let spec = spec(Duration::ZERO);
        let of = |bytes: usize| gathered((1..=300).map(|number| task(number, &spec, bytes)));
        assert_eq!((of(1 << 10), of(8 << 10), of((8 << 10) + 1)), (16, 2, 1));
        assert_eq!(of(64 << 10), 1);
        let long_behind = [task(1, &spec, 8), task(2, &spec, 64 << 10)];
        assert_eq!(gathered(long_behind), 1);
        let short_behind = [task(1, &spec, 64 << 10), task(2, &spec, 8)];
        assert_eq!(gathered(short_behind), 1);
    }

    #[test]
    fn they_take_as_much_of_a_window_as_a_batch_of_a_map() {
        let spec = spec(Duration::ZERO);
        let of = |lengths: &[usize]| {
            let tasks = (1..).zip(lengths).map(|(number, bytes)| task(number, &spec, *bytes));
            gathered_with_bytes(tasks)
        };
        let inputs = |lengths: &[usize]| {
            let mut inputs = Inputs::default();
            for bytes in lengths {
                let input = vec![0; *bytes].into();
                inputs.copy(&Payload::Task { codec: Codec::Json, input }, lengths.len());
            }
            inputs.task_bytes()
        };
        assert_eq!(of(&[8; 200]), (200, inputs(&[8; 200])));
        assert_eq!(of(&[8, 100, 9]), (3, inputs(&[8, 100, 9])));
        // Not 64 times what the longest takes.
        let mut lengths = [8; 64];
        lengths[40] = 1 << 10;
        assert_eq!(of(&lengths), (40, inputs(&[8; 40])));
    }
}
