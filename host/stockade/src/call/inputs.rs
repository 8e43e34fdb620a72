//! Inputs: the inputs of a batch's tasks, one after another.
//!
//! Small ones of a kind share one buffer; a long or lent input, or a command, is a batch of its
//! own.
//!
//! Invariant: there are as many inputs as tasks, and all are of one kind.

use std::mem;

use stockade_wire::{Call, Callee, Codec, Invocation, PAYLOAD_BYTES_MIN, Scalar};

use crate::call::cancelled::GivenArguments;
use crate::call::payload::{FIXED_BYTES, Payload};

/// The most bytes of all inputs of a batch of several tasks: half of what a ring's record holds, so that
/// a batch travels in the ring.
const BATCH_BYTES_MAX: usize = 16 << 10;

/// The most tasks for which room is made before their inputs are there.
const ENDS_MAX: usize = 1024;

/// What the tasks of a batch are called with.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    /// Of a single task; of several, one like theirs without its input.
    kind: Payload,
    many: Option<Many>,
}

#[derive(Debug)]
enum Many {
    Calls { bytes: Vec<u8>, ends: Vec<u32>, longest: usize },
    Scalars { args: Vec<Scalar>, count: u32 },
}

/// What inputs take in a batch, of which all are of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measure {
    /// Of calls; none of scalars.
    codec: Option<Codec>,
    /// Of the longest.
    bytes: usize,
    count: usize,
}

impl Measure {
    /// Of these and more, if all are to travel together that could also travel apart: each takes as much of a
    /// window as the longest, so a batch has to hold as many of those.
    pub(crate) fn with(self, more: Self) -> Option<Self> {
        let (bytes, count) = (self.bytes.max(more.bytes), self.count + more.count);
        let fits = bytes.saturating_mul(count) <= BATCH_BYTES_MAX;
        (self.codec == more.codec && fits).then_some(Self { bytes, count, ..self })
    }

    /// What each task takes of its worker's window at most.
    pub(crate) fn task_bytes(self) -> usize {
        const LENGTH_BYTES: usize = 5;
        const SCALAR_BYTES: usize = 11;
        let of_each = match self.codec {
            Some(_) => self.bytes + LENGTH_BYTES,
            None => self.bytes / size_of::<Scalar>() * SCALAR_BYTES,
        };
        of_each + FIXED_BYTES / self.count.max(1)
    }
}

impl Inputs {
    /// What the input of a task takes, if it is one that can travel with others.
    pub(crate) fn measure(payload: &Payload) -> Option<Measure> {
        let (codec, bytes) = match payload {
            Payload::Task { codec, input } => (Some(*codec), input.len()),
            Payload::Scalars(args) => (None, size_of_val(&**args)),
            Payload::Buffer(_) | Payload::Command(_) | Payload::Column(_) => return None,
        };
        Self::is_small(payload).then_some(Measure { codec, bytes, count: 1 })
    }

    /// Of a single task.
    pub(crate) fn one(payload: Payload) -> Self {
        Self { kind: payload, many: None }
    }

    /// Whether a task with `payload` can travel with others.
    pub(crate) fn is_small(payload: &Payload) -> bool {
        match payload {
            Payload::Task { input, .. } => input.len() < PAYLOAD_BYTES_MIN,
            Payload::Scalars(_) => true,
            Payload::Buffer(_) | Payload::Command(_) | Payload::Column(_) => false,
        }
    }

    /// Whether a task with `payload`, which is small, can travel with these.
    pub(crate) fn fits(&self, payload: &Payload) -> bool {
        match (&self.many, payload) {
            (None, _) => true,
            (Some(Many::Calls { bytes, .. }), Payload::Task { codec, input }) => {
                *codec == self.kind.codec() && bytes.len() + input.len() <= BATCH_BYTES_MAX
            }
            (Some(Many::Scalars { args, .. }), Payload::Scalars(more)) => {
                size_of_val(&**args) + size_of_val(&**more) <= BATCH_BYTES_MAX
            }
            _ => false,
        }
    }

    /// Adds what one more task is called with, which [fits](Self::fits), as a copy. `tasks` are expected
    /// in all.
    pub(crate) fn copy(&mut self, payload: &Payload, tasks: usize) {
        match payload {
            Payload::Task { codec, input } => {
                let many = self.many.get_or_insert_with(|| {
                    self.kind = Payload::Task { codec: *codec, input: Box::default() };
                    let expected = input.len().saturating_mul(tasks).min(BATCH_BYTES_MAX);
                    let (bytes, ends) =
                        (Vec::with_capacity(expected), Vec::with_capacity(tasks.min(ENDS_MAX)));
                    Many::Calls { bytes, ends, longest: 0 }
                });
                if let Many::Calls { bytes, ends, longest } = many {
                    bytes.extend_from_slice(input);
                    *longest = input.len().max(*longest);
                    ends.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                }
            }
            Payload::Scalars(more) => {
                let none = || Many::Scalars { args: Vec::new(), count: 0 };
                if let Many::Scalars { args, count } = self.many.get_or_insert_with(none) {
                    args.extend_from_slice(more);
                    *count += 1;
                }
            }
            Payload::Buffer(_) | Payload::Command(_) | Payload::Column(_) => {
                debug_assert!(false, "it travels by itself");
            }
        }
    }

    /// For how many tasks there are inputs.
    pub(crate) fn count(&self) -> u32 {
        match &self.many {
            None => 1,
            Some(Many::Calls { ends, .. }) => u32::try_from(ends.len()).unwrap_or(u32::MAX),
            Some(Many::Scalars { count, .. }) => *count,
        }
    }

    /// What the call of each is like: its codec, its kind, and, of a single task, its input.
    pub(crate) fn kind(&self) -> &Payload {
        &self.kind
    }

    /// The same, to take from.
    pub(crate) fn kind_mut(&mut self) -> &mut Payload {
        &mut self.kind
    }

    /// Whether they are of several tasks, or of one that could have travelled with others.
    pub(crate) fn is_many(&self) -> bool {
        self.many.is_some()
    }

    /// What they take, if they are of several tasks, or of one that could have travelled with others.
    pub(crate) fn measure_all(&self) -> Option<Measure> {
        let (codec, bytes) = match self.many.as_ref()? {
            Many::Calls { longest, .. } => (Some(self.kind.codec()), *longest),
            Many::Scalars { args, count } => {
                (None, size_of_val(&**args) / (*count).max(1) as usize)
            }
        };
        Some(Measure { codec, bytes, count: self.count() as usize })
    }

    /// What each task takes of its worker's window at most.
    pub(crate) fn task_bytes(&self) -> usize {
        self.measure_all().map_or_else(|| self.kind.inline_bytes(), Measure::task_bytes)
    }

    /// Frees what was kept for more tasks than there are, if that is most of it.
    pub(crate) fn shrink(&mut self) {
        let (used, kept) = match &self.many {
            None => return,
            Some(Many::Calls { bytes, ends, .. }) => (
                bytes.len() + size_of_val(&**ends),
                bytes.capacity() + ends.capacity() * size_of::<u32>(),
            ),
            Some(Many::Scalars { args, .. }) => (args.len(), args.capacity()),
        };
        if kept / 2 <= used {
            return;
        }
        match &mut self.many {
            None => {}
            Some(Many::Calls { bytes, ends, .. }) => {
                bytes.shrink_to_fit();
                ends.shrink_to_fit();
            }
            Some(Many::Scalars { args, .. }) => args.shrink_to_fit(),
        }
    }

    /// Adds those of tasks that follow, which are of the same kind.
    pub(crate) fn append(&mut self, more: Self) {
        match (&mut self.many, more.many) {
            (
                Some(Many::Calls { bytes, ends, longest }),
                Some(Many::Calls { bytes: more_bytes, ends: more_ends, longest: more_longest }),
            ) => {
                let start = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                bytes.extend_from_slice(&more_bytes);
                ends.extend(more_ends.iter().map(|end| start.saturating_add(*end)));
                *longest = more_longest.max(*longest);
            }
            (
                Some(Many::Scalars { args, count }),
                Some(Many::Scalars { args: more_args, count: more_count }),
            ) => {
                args.extend(more_args);
                *count += more_count;
            }
            _ => debug_assert!(false, "they were measured together"),
        }
    }

    /// Takes out the inputs of the first tasks: of so many, fewer than there are.
    pub(crate) fn split_front(&mut self, tasks: u32) -> Self {
        let kind = match &self.kind {
            Payload::Task { codec, .. } => Payload::Task { codec: *codec, input: Box::default() },
            _ => Payload::default(),
        };
        let many = self.many.as_mut().map(|many| match many {
            Many::Calls { bytes, ends, longest } => {
                let ends: Vec<_> = ends.drain(..(tasks as usize).min(ends.len())).collect();
                let cut = start_of(&ends, ends.len());
                let bytes = bytes.drain(..cut.min(bytes.len())).collect();
                Many::Calls { bytes, ends, longest: *longest }
            }
            Many::Scalars { args, count } => {
                let of_each = args.len() / (*count).max(1) as usize;
                let args = args.drain(..(of_each * tasks as usize).min(args.len())).collect();
                *count = count.saturating_sub(tasks);
                Many::Scalars { args, count: tasks }
            }
        });
        if let (Some(Many::Calls { ends, .. }), Some(Many::Calls { bytes, .. })) =
            (&mut self.many, &many)
        {
            let cut = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            ends.iter_mut().for_each(|end| *end -= cut);
        }
        Self { kind, many }
    }

    /// Fills them up to so many tasks, for a batch whose last tasks are revoked before it is sent.
    pub(crate) fn fill_up(&mut self, tasks: u32) {
        let missing = tasks.saturating_sub(self.count()) as usize;
        match &mut self.many {
            Some(Many::Scalars { args, count }) => {
                let of_each = args.len() / (*count).max(1) as usize;
                args.extend(vec![Scalar::I32(0); of_each * missing]);
                *count = tasks;
            }
            Some(Many::Calls { bytes, ends, .. }) => {
                let end = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                ends.extend(vec![end; missing]);
            }
            None => {
                let ends = vec![0; tasks as usize];
                self.many = Some(Many::Calls { bytes: Vec::new(), ends, longest: 0 });
            }
        }
    }

    /// The calls of the function of this number by the tasks from the place `from` to before `to`, and
    /// the length of each one's input.
    pub(crate) fn calls(&self, from: u32, to: u32, function: u32) -> (Invocation, Vec<u32>) {
        let export = Callee::Number(function);
        let (from, to) = (from as usize, to as usize);
        match &self.many {
            Some(Many::Scalars { args, count }) => {
                let of_each = args.len() / (*count).max(1) as usize;
                let args = args.get(from * of_each..to * of_each).unwrap_or_default().to_vec();
                (Invocation::Scalar { export, args }, Vec::new())
            }
            Some(Many::Calls { bytes, ends, .. }) => {
                let start = start_of(ends, from);
                let input = bytes.get(start..start_of(ends, to)).unwrap_or_default().to_vec();
                let mut last = start;
                let lengths = ends.get(from..to).unwrap_or_default().iter().map(|end| {
                    let before = mem::replace(&mut last, *end as usize);
                    *end - before as u32
                });
                // A single call's input has the length that it has.
                let lengths = if to - from == 1 { Vec::new() } else { lengths.collect() };
                let codec = self.kind.codec();
                (Invocation::Task(Call { export, codec, input }), lengths)
            }
            None => {
                let codec = self.kind.codec();
                (Invocation::Task(Call { export, codec, input: Vec::new() }), Vec::new())
            }
        }
    }

    /// As [`calls`](Self::calls), which takes the inputs of all tasks out, if all are called, and copies
    /// none. They are to be [taken back](Self::take_back).
    pub(crate) fn lend(&mut self, from: u32, to: u32, function: u32) -> (Invocation, Vec<u32>) {
        if from > 0 || to < self.count() {
            return self.calls(from, to, function);
        }
        let all = match &mut self.many {
            Some(Many::Calls { bytes, .. }) => mem::take(bytes),
            _ => return self.calls(from, to, function),
        };
        let (mut invocation, lengths) = self.calls(from, to, function);
        if let Invocation::Task(call) = &mut invocation {
            call.input = all;
        }
        (invocation, lengths)
    }

    /// Takes back what was lent.
    pub(crate) fn take_back(&mut self, lent: Invocation) {
        if let (Some(Many::Calls { bytes, .. }), Invocation::Task(call)) = (&mut self.many, lent)
            && bytes.is_empty()
        {
            *bytes = call.input;
        }
    }

    /// All of them as calls.
    pub(crate) fn into_calls(self, function: u32) -> (Invocation, Vec<u32>) {
        self.calls(0, self.count(), function)
    }

    /// What the task at the place `index` is called with.
    pub(crate) fn given(&self, index: u32) -> GivenArguments {
        if self.many.is_none() {
            return GivenArguments::of(&self.kind);
        }
        match self.calls(index, index + 1, 0).0 {
            Invocation::Task(Call { codec, input, .. }) => {
                GivenArguments::Encoded { codec, bytes: input }
            }
            Invocation::Scalar { args, .. } => GivenArguments::Scalars(args),
            Invocation::Command { call, .. } => GivenArguments::Command(call.args),
            Invocation::Column { .. } => GivenArguments::of(&self.kind),
        }
    }
}

/// Where the input at a place begins.
fn start_of(ends: &[u32], index: usize) -> usize {
    index.checked_sub(1).and_then(|before| ends.get(before)).map_or(0, |end| *end as usize)
}

#[cfg(test)]
mod tests {
    use stockade_wire::Codec;

    use super::*;

    fn call(input: &[u8]) -> Payload {
        Payload::Task { codec: Codec::Json, input: input.into() }
    }

    fn numbers(args: &[i32]) -> Payload {
        Payload::Scalars(args.iter().map(|number| Scalar::I32(*number)).collect())
    }

    fn inputs(payloads: &[Payload]) -> Inputs {
        let mut inputs = Inputs::default();
        for payload in payloads {
            assert!(Inputs::is_small(payload) && inputs.fits(payload));
            inputs.copy(payload, payloads.len());
        }
        inputs
    }

    #[test]
    fn calls_are_cut_out_of_one_buffer() {
        let inputs = inputs(&[call(b"to"), call(b""), call(b"be")]);
        let cut = |from, to| match inputs.calls(from, to, 7) {
            (Invocation::Task(call), lengths) => {
                assert_eq!((call.export, call.codec), (Callee::Number(7), Codec::Json));
                (call.input, lengths)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(cut(0, 3), (b"tobe".to_vec(), vec![2, 0, 2]));
        assert_eq!(cut(1, 3), (b"be".to_vec(), vec![0, 2]));
        assert_eq!(cut(2, 3), (b"be".to_vec(), vec![]));
        let mut inputs = inputs;
        for (from, to) in [(0, 3), (0, 1), (1, 3), (0, 3)] {
            let expected = inputs.calls(from, to, 7);
            let lent = inputs.lend(from, to, 7);
            assert_eq!(lent, expected);
            inputs.take_back(lent.0);
            assert_eq!(inputs.calls(from, to, 7), expected);
        }
        let given = GivenArguments::Encoded { codec: Codec::Json, bytes: b"be".to_vec() };
        assert_eq!(inputs.given(2), given);
        assert_eq!((inputs.count(), inputs.task_bytes()), (3, 2 + 5 + FIXED_BYTES / 3));
    }

    #[test]
    fn the_first_are_split_off() {
        let mut calls = inputs(&[call(b"to"), call(b""), call(b"be"), call(b"or")]);
        let first = calls.split_front(2);
        assert_eq!(first.into_calls(0), inputs(&[call(b"to"), call(b"")]).into_calls(0));
        assert_eq!(calls.into_calls(0), inputs(&[call(b"be"), call(b"or")]).into_calls(0));
        let mut scalars = inputs(&[numbers(&[1, 2]), numbers(&[3, 4]), numbers(&[5, 6])]);
        let first = scalars.split_front(1);
        assert_eq!((first.count(), scalars.count()), (1, 2));
        assert_eq!(first.into_calls(0), inputs(&[numbers(&[1, 2])]).into_calls(0));
        assert_eq!(scalars.calls(1, 2, 0), inputs(&[numbers(&[5, 6])]).into_calls(0));
    }

    #[test]
    fn those_of_tasks_that_follow_are_added() {
        let mut calls = inputs(&[call(b"to"), call(b"")]);
        calls.append(inputs(&[call(b"be!"), call(b"or")]));
        let all = inputs(&[call(b"to"), call(b""), call(b"be!"), call(b"or")]);
        assert_eq!((calls.count(), calls.task_bytes()), (4, all.task_bytes()));
        assert_eq!(calls.into_calls(0), all.into_calls(0));
        let mut scalars = inputs(&[numbers(&[1, 2])]);
        scalars.append(inputs(&[numbers(&[3, 4]), numbers(&[5, 6])]));
        let all = inputs(&[numbers(&[1, 2]), numbers(&[3, 4]), numbers(&[5, 6])]);
        assert_eq!(scalars.into_calls(0), all.into_calls(0));
    }

    #[test]
    fn those_that_are_split_off_or_come_alone_keep_no_more_memory_than_they_need() {
        let capacity = |inputs: &Inputs| match &inputs.many {
            Some(Many::Calls { bytes, ends, .. }) => bytes.capacity() + 4 * ends.capacity(),
            Some(Many::Scalars { args, .. }) => args.capacity() * size_of::<Scalar>(),
            None => 0,
        };
        let mut calls = inputs(&[(); 256].map(|()| call(b"abcdefgh")));
        let front = calls.split_front(1);
        assert!(capacity(&front) <= 2 * (8 + 4), "{}", capacity(&front));
        let mut scalars = inputs(&[(); 256].map(|()| numbers(&[1, 2])));
        let front = scalars.split_front(1);
        assert!(capacity(&front) <= 4 * size_of::<Scalar>(), "{}", capacity(&front));
        let mut alone = Inputs::default();
        alone.copy(&call(b"abcdefgh"), 256);
        alone.shrink();
        assert!(capacity(&alone) <= 2 * (8 + 4), "{}", capacity(&alone));
        assert_eq!(alone.into_calls(0), inputs(&[call(b"abcdefgh")]).into_calls(0));
    }

    #[test]
    fn what_is_revoked_before_it_is_sent_needs_no_input_of_its_own() {
        let mut calls = inputs(&[call(b"to")]);
        calls.fill_up(3);
        assert_eq!(calls.into_calls(0).1, [2, 0, 0]);
        let mut scalars = inputs(&[numbers(&[1, 2])]);
        scalars.fill_up(3);
        assert!(
            matches!(scalars.into_calls(0).0, Invocation::Scalar { args, .. } if args.len() == 6)
        );
        let mut none = Inputs::default();
        none.fill_up(2);
        assert_eq!(none.into_calls(0).1, [0, 0]);
    }

    #[test]
    fn scalars_are_cut_by_their_number() {
        let inputs = inputs(&[numbers(&[1, 2]), numbers(&[3, 4])]);
        let (invocation, lengths) = inputs.calls(1, 2, 0);
        let args = vec![Scalar::I32(3), Scalar::I32(4)];
        assert_eq!(
            (invocation, lengths),
            (Invocation::Scalar { export: Callee::Number(0), args: args.clone() }, Vec::new())
        );
        assert_eq!(inputs.given(1), GivenArguments::Scalars(args));
    }

    #[test]
    fn a_long_one_among_short_ones_travels_with_them() {
        // A chunk whose items share an instance is not cut for it.
        let lengths: Vec<_> = (0..64).map(|place| if place == 40 { 1 << 10 } else { 8 }).collect();
        let calls: Vec<_> = lengths.iter().map(|bytes| call(&vec![1; *bytes])).collect();
        assert_eq!(inputs(&calls).count(), 64);
    }

    #[test]
    fn what_is_of_another_kind_or_too_much_travels_by_itself() {
        let calls = inputs(&[call(b"a")]);
        assert!(!calls.fits(&numbers(&[1])));
        assert!(!calls.fits(&Payload::Task { codec: Codec::Bincode, input: Box::from([1]) }));
        assert!(calls.fits(&call(&[1; BATCH_BYTES_MAX - 1])));
        assert!(!calls.fits(&call(&[1; BATCH_BYTES_MAX])));
        assert!(!Inputs::is_small(&call(&[1; PAYLOAD_BYTES_MIN])));
        assert!(!inputs(&[numbers(&[1])]).fits(&call(b"a")));
    }
}
