//! A batch in its worker: cut into its tasks.
//!
//! Invariant: for any message of the host, each task has its own invocation, and all inputs
//! together are those in the message.

use stockade_wire::{
    BATCH_TASKS_MAX, Call, Callee, ChunkId, Codec, Invocation, Limits, ModuleId, PageSlot, Run,
    SLOTS_MAX, Scalar, TaskRange,
};

/// The common data of a batch's tasks, and the tasks that have not run.
#[derive(Debug)]
pub(crate) struct Batch {
    tasks: TaskRange,
    slot: u8,
    pub(crate) module: ModuleId,
    pub(crate) limits: Option<Box<Limits>>,
    /// The chunk whose tasks share an instance.
    pub(crate) share: Option<ChunkId>,
    inputs: Inputs,
    next: u32,
}

/// One task of a batch.
#[derive(Debug)]
pub(crate) struct BatchTask {
    pub(crate) place: PageSlot,
    pub(crate) invocation: Invocation,
    /// Whether it is the last of its batch.
    pub(crate) is_last: bool,
}

#[derive(Debug)]
enum Inputs {
    One(Option<Invocation>),
    Calls { export: Callee, codec: Codec, input: Vec<u8>, at: usize, lengths: Vec<u32> },
    Scalars { export: Callee, args: Vec<Scalar>, of_each: usize },
}

impl Batch {
    /// What `run` asks for.
    ///
    /// # Errors
    /// If the message is inconsistent.
    pub(crate) fn new(run: Run) -> Result<Self, &'static str> {
        let Run { tasks, module, invocation, lengths, limits, slot, share, placement } = run;
        if usize::from(slot) >= SLOTS_MAX {
            return Err("a batch in a slot that does not exist");
        }
        if tasks.count() > BATCH_TASKS_MAX {
            return Err("a batch of more tasks than a batch may have");
        }
        let count = tasks.count() as usize;
        let inputs = match invocation {
            invocation if count == 1 && lengths.is_empty() => Inputs::One(Some(invocation)),
            _ if placement.is_some() => return Err("several tasks with one input in a file"),
            Invocation::Task(Call { export, codec, input }) => {
                let sum = lengths.iter().fold(0_u64, |sum, bytes| sum + u64::from(*bytes));
                if lengths.len() != count || sum != input.len() as u64 {
                    return Err("a batch with inputs that are not its tasks'");
                }
                Inputs::Calls { export, codec, input, at: 0, lengths }
            }
            Invocation::Scalar { export, args } => {
                if !lengths.is_empty() || !args.len().is_multiple_of(count) {
                    return Err("a batch with arguments that are not its tasks'");
                }
                Inputs::Scalars { export, of_each: args.len() / count, args }
            }
            Invocation::Command { .. } => return Err("a batch of commands"),
            Invocation::Column { .. } => return Err("a batch of columns"),
        };
        Ok(Self { tasks, slot, module, limits, share, inputs, next: 0 })
    }

    /// What all of them call.
    pub(crate) fn callee(&self) -> Option<&Callee> {
        match &self.inputs {
            Inputs::One(invocation) => match invocation.as_ref()? {
                Invocation::Task(call) => Some(&call.export),
                Invocation::Scalar { export, .. } | Invocation::Column { export, .. } => {
                    Some(export)
                }
                Invocation::Command { entry, .. } => Some(entry),
            },
            Inputs::Calls { export, .. } | Inputs::Scalars { export, .. } => Some(export),
        }
    }

    /// The next task, once each.
    pub(crate) fn next_task(&mut self) -> Option<BatchTask> {
        let index = self.next;
        let invocation = match &mut self.inputs {
            Inputs::One(invocation) => invocation.take()?,
            Inputs::Calls { export, codec, input, at, lengths } => {
                let bytes = *lengths.get(index as usize)? as usize;
                let start = std::mem::replace(at, *at + bytes);
                let input = input.get(start..*at)?.to_vec();
                Invocation::Task(Call { export: export.clone(), codec: *codec, input })
            }
            Inputs::Scalars { export, args, of_each } => {
                if index >= self.tasks.count() {
                    return None;
                }
                let start = index as usize * *of_each;
                let args = args.get(start..start + *of_each)?.to_vec();
                Invocation::Scalar { export: export.clone(), args }
            }
        };
        self.next += 1;
        let place = PageSlot { slot: self.slot, first: self.tasks.first(), index };
        Some(BatchTask { place, invocation, is_last: self.next == self.tasks.count() })
    }
}

#[cfg(test)]
mod tests {
    use stockade_wire::{Placement, PlacementFile, TaskId};

    use super::*;

    fn run(count: u32, invocation: Invocation, lengths: &[u32]) -> Run {
        Run {
            tasks: TaskRange::new(TaskId(7), count).unwrap(),
            module: ModuleId(0),
            invocation,
            lengths: lengths.to_vec(),
            limits: None,
            slot: 3,
            share: None,
            placement: None,
        }
    }

    fn call(input: &[u8]) -> Invocation {
        let (export, codec) = (Callee::Number(1), Codec::Raw);
        Invocation::Task(Call { export, codec, input: input.to_vec() })
    }

    fn scalars(args: &[i32]) -> Invocation {
        let args = args.iter().map(|number| Scalar::I32(*number)).collect();
        Invocation::Scalar { export: Callee::Number(1), args }
    }

    fn column(items: &[i32]) -> Invocation {
        let input = items.iter().flat_map(|item| item.to_le_bytes()).collect();
        Invocation::Column { export: Callee::Number(1), input }
    }

    fn tasks(run: Run) -> Vec<(TaskId, Invocation, bool)> {
        let mut batch = Batch::new(run).unwrap();
        std::iter::from_fn(|| batch.next_task())
            .map(|task| (task.place.task(), task.invocation, task.is_last))
            .collect()
    }

    #[test]
    fn a_single_task_has_what_came() {
        assert_eq!(tasks(run(1, call(b"ab"), &[])), [(TaskId(7), call(b"ab"), true)]);
        assert_eq!(tasks(run(1, scalars(&[1, 2]), &[])), [(TaskId(7), scalars(&[1, 2]), true)]);
        assert_eq!(tasks(run(1, column(&[1, 2]), &[])), [(TaskId(7), column(&[1, 2]), true)]);
    }

    #[test]
    fn each_call_has_its_own_input() {
        let (a, b, c) = (call(b"to"), call(b""), call(b"be!"));
        let expected = [(TaskId(7), a, false), (TaskId(8), b, false), (TaskId(9), c, true)];
        assert_eq!(tasks(run(3, call(b"tobe!"), &[2, 0, 3])), expected);
    }

    #[test]
    fn each_scalar_call_has_as_many_arguments() {
        let expected = [(TaskId(7), scalars(&[1, 2]), false), (TaskId(8), scalars(&[3, 4]), true)];
        assert_eq!(tasks(run(2, scalars(&[1, 2, 3, 4]), &[])), expected);
        let none = [(TaskId(7), scalars(&[]), false), (TaskId(8), scalars(&[]), true)];
        assert_eq!(tasks(run(2, scalars(&[]), &[])), none);
    }

    #[test]
    fn what_contradicts_itself_is_no_batch() {
        let placement = Some(Placement { bytes: 1, place: PlacementFile::Lent });
        let far = || Run { slot: SLOTS_MAX as u8, ..run(1, call(b""), &[]) };
        for bad in [
            run(2, call(b"tobe!"), &[2, 2]),
            run(2, call(b"tobe"), &[4]),
            run(2, call(b"tobe"), &[2, 1, 1]),
            run(2, call(b"tobe"), &[]),
            run(1, call(b"tobe"), &[3]),
            run(2, call(b""), &[u32::MAX, 1]),
            run(2, scalars(&[1, 2, 3]), &[]),
            run(2, scalars(&[1, 2]), &[1, 1]),
            run(BATCH_TASKS_MAX + 1, scalars(&[]), &[]),
            run(2, column(&[1, 2]), &[]),
            run(2, column(&[1, 2]), &[4, 4]),
            Run { placement, ..run(2, call(b"ab"), &[1, 1]) },
            far(),
        ] {
            assert!(Batch::new(bad).is_err());
        }
    }
}
