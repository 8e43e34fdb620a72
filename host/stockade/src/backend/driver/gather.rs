//! Single tasks of one function, and small chunks of one map, that have waited for the same turn, behind others
//! that keep every worker busy, travel together.
//!
//! ```text
//! requests: task 7, task 8, cancel 3, task 9, task 11 ──► batch 7 and 8, cancel 3, task 9, task 11
//! ```
//!
//! All of a batch take no longer than one of a map that chooses for itself. Each keeps its handle, or its
//! place in its map, its instance, its limits, its own outcome, and a cancel of its own.
//!
//! Invariant: tasks leave in the order in which they came.

use std::sync::Arc;

use stockade_wire::TaskRange;

use crate::backend::entry::{Entry, MapEntry, Several, TaskEntry};
use crate::call::inputs::{Inputs, Measure};
use stockade_dispatcher::Submission;

/// Tasks that follow each other and can travel together, at least one.
#[derive(Debug)]
pub(super) struct Gathered {
    tasks: Tasks,
    /// How many may travel together.
    tasks_max: u32,
    /// Of all their inputs; none where the first are such that travel by themselves.
    measure: Option<Measure>,
    /// Of all of them.
    submission: Submission,
}

#[derive(Debug)]
enum Tasks {
    /// With handles, at least one.
    Handled(Vec<TaskEntry>),
    /// Of a map.
    Items(Box<MapEntry>),
}

impl Gathered {
    /// The first tasks; gives them back where none may travel with them.
    pub(super) fn new(entry: Entry, submission: Submission) -> Result<Self, (Entry, Submission)> {
        let tasks_max = entry.together_max();
        if tasks_max <= submission.tasks.count() {
            return Err((entry, submission));
        }
        let (tasks, measure) = match entry {
            Entry::One(task) => {
                let measure = task.cell.with_payload(Inputs::measure);
                (Tasks::Handled(vec![task]), measure)
            }
            Entry::Map(map) => {
                let measure = map.measure();
                (Tasks::Items(map), measure)
            }
            Entry::Several(_) => return Err((entry, submission)),
        };
        Ok(Self { tasks, tasks_max, measure, submission })
    }

    /// Adds the tasks that came next. Gives them back if they cannot travel with these.
    pub(super) fn add(
        &mut self,
        entry: Entry,
        next: Submission,
    ) -> Result<(), (Entry, Submission)> {
        let all = &self.submission;
        let (is_alike, own) = match (&self.tasks, &entry) {
            (Tasks::Handled(tasks), Entry::One(task)) => (
                Arc::ptr_eq(&tasks[0].cell.spec, &task.cell.spec),
                task.cell.with_payload(Inputs::measure),
            ),
            (Tasks::Items(map), Entry::Map(next)) => (map.is_followed_by(next), next.measure()),
            _ => (false, None),
        };
        let is_alike = is_alike && (all.priority, all.retries) == (next.priority, next.retries);
        let count = all.tasks.count().saturating_add(next.tasks.count());
        let tasks = TaskRange::new(all.tasks.first(), count).filter(|tasks| {
            is_alike && count <= self.tasks_max && tasks.last() == next.tasks.last()
        });
        let measure = self.measure.zip(own).and_then(|(measure, own)| measure.with(own));
        let (Some(tasks), Some(measure)) = (tasks, measure) else { return Err((entry, next)) };
        match (&mut self.tasks, entry) {
            (Tasks::Handled(tasks), Entry::One(task)) => tasks.push(task),
            (Tasks::Items(map), Entry::Map(next)) => map.grow(*next, tasks),
            (_, entry) => return Err((entry, next)),
        }
        self.submission = Submission { tasks, task_bytes: measure.task_bytes(), ..next };
        self.measure = Some(measure);
        Ok(())
    }

    /// All of them, as one batch.
    pub(super) fn into_entry(self) -> (Entry, Submission) {
        let entry = match self.tasks {
            Tasks::Items(map) => Entry::Map(map),
            Tasks::Handled(mut tasks) => match tasks.pop() {
                Some(one) if tasks.is_empty() => Entry::One(one),
                last => {
                    tasks.extend(last);
                    Entry::Several(Box::new(Several::new(self.submission.tasks.first(), tasks)))
                }
            },
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
    use crate::backend::entry::{self, EntryMut, MapSubmission};
    use crate::call::payload::Payload;
    use crate::state::cell::TaskCell;
    use crate::state::inbox::Inbox;
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
        let (mut entry, submission) = match Gathered::new(Entry::One(first), submission) {
            Err(alone) => alone,
            Ok(mut gathered) => {
                for (task, submission) in tasks {
                    if gathered.add(Entry::One(task), submission).is_err() {
                        break;
                    }
                }
                gathered.into_entry()
            }
        };
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

    /// A chunk of a map: so many inputs of 8 bytes from this index on, whose tasks are numbered alike.
    fn chunk(
        inbox: &Arc<Inbox>,
        spec: &Arc<TaskSpec>,
        index: usize,
        items: u32,
        may_grow: bool,
    ) -> (Entry, Submission) {
        let tasks = TaskRange::new(TaskId(index as u64 + 1), items).expect("there are items");
        let mut inputs = Inputs::default();
        for item in tasks.iter() {
            let input = item.0.to_le_bytes().into();
            inputs.copy(&Payload::Task { codec: Codec::Json, input }, items as usize);
        }
        let (_, submission) = task(1, spec, 8);
        let submission = Submission { tasks, task_bytes: inputs.task_bytes(), ..submission };
        let (inbox, spec) = (inbox.clone(), spec.clone());
        let entry = MapEntry::new(MapSubmission {
            inbox,
            spec,
            tasks,
            index,
            submitted: 0,
            inputs,
            share: None,
            may_grow,
            permits: None,
            watched: Vec::new(),
        });
        (Entry::Map(Box::new(entry)), submission)
    }

    /// How many items these chunks have in each batch that becomes of them.
    fn batches(chunks: impl IntoIterator<Item = (Entry, Submission)>) -> Vec<u32> {
        let (mut counts, mut gathered) = (Vec::new(), None::<Gathered>);
        let count_of = |gathered: Gathered| {
            let (mut entry, submission) = gathered.into_entry();
            let EntryMut::Map(map) = entry.as_mut() else { panic!("it is a map's") };
            assert_eq!(map.unsent(), [submission.tasks]);
            let measure = map.measure().expect("they are small");
            assert_eq!(measure.task_bytes(), submission.task_bytes);
            submission.tasks.count()
        };
        for (entry, submission) in chunks {
            let left = match &mut gathered {
                Some(gathered) => gathered.add(entry, submission).err(),
                None => Some((entry, submission)),
            };
            if let Some((entry, submission)) = left {
                counts.extend(gathered.take().map(count_of));
                match Gathered::new(entry, submission) {
                    Ok(first) => gathered = Some(first),
                    // One that nothing may travel with.
                    Err(_) => counts.push(0),
                }
            }
        }
        counts.extend(gathered.map(count_of));
        counts
    }

    #[test]
    fn chunks_that_follow_each_other_in_a_map_travel_together_as_wholes() {
        let (inbox, spec) = (Arc::default(), spec(Duration::from_micros(10)));
        let chunks = |items: u32, may_grow| {
            (0..30).map(move |number| (number * items as usize, items, may_grow))
        };
        let of = |(index, items, may_grow)| chunk(&inbox, &spec, index, items, may_grow);
        assert_eq!(batches(chunks(1, true).map(of)), [20, 10], "0.2 ms");
        assert_eq!(batches(chunks(7, true).map(of)), [14; 15]);
        assert_eq!(batches(chunks(20, true).map(of)), [0; 30], "each is long enough");
        assert_eq!(batches(chunks(1, false).map(of)), [0; 30], "they are the map's own choice");
        let with_gap = [0, 1, 3, 4].map(|index| of((index, 1, true)));
        assert_eq!(batches(with_gap), [2, 2]);
        let other = Arc::default();
        let of_two_maps = [chunk(&inbox, &spec, 0, 1, true), chunk(&other, &spec, 1, 1, true)];
        assert_eq!(batches(of_two_maps), [1, 1]);
        let (first, submission) = chunk(&inbox, &spec, 0, 1, true);
        let mut gathered = Gathered::new(first, submission).expect("more may follow");
        let (second, submission) = task(2, &spec, 8);
        let second = Entry::One(second);
        assert!(gathered.add(second, submission).is_err(), "it has a handle");
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
