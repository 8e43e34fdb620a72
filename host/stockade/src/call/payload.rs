//! Payloads: a task's arguments, while it is queued and when it is sent.
//!
//! ```text
//! arguments ─encode─► Payload ─lend─► Invocation ─► ring or socket
//!                        ▲────take_back──┘           kept until the end, in case it is sent again
//! ```
//!
//! A long input goes into one of its worker's [files](crate::backend::payload_files) instead, and a buffer as
//! the file that it is; the call is without input then.
//!
//! A million of them may wait: one is as large as two words and what it points to.
//!
//! Deliberately absent: what is called, which the task's [`TaskSpec`](crate::state::spec::TaskSpec) know.

use std::mem;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use stockade_wire::{
    Call, Callee, Codec, CommandCall, Invocation, Outcome, PAYLOAD_BYTES_MIN, Scalar, Stdin,
    StdioSink, ValueType,
};

use crate::call::buffer::BufferSlot;

/// Bytes in a window for the rest of a task's message, except its input.
pub(crate) const FIXED_BYTES: usize = 256;

/// A task's arguments.
#[derive(Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub enum Payload {
    /// Of a task.
    Task {
        /// Their encoding.
        codec: Codec,
        /// Its encoded arguments.
        input: Box<[u8]>,
    },
    /// Of a task that is lent its input, raw.
    Buffer(Arc<BufferSlot>),
    /// Of a function over scalars.
    Scalars(Box<[Scalar]>),
    /// Of a command.
    Command(Box<CommandPayload>),
    /// Of a function over numbers that is called for each of many.
    Column(Box<ColumnPayload>),
}

/// The items of a piece of a slice, and what their results must be.
#[derive(Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub struct ColumnPayload {
    /// The type of an item.
    pub(crate) item: ValueType,
    /// How many there are.
    pub(crate) count: u32,
    /// How long their results are, together.
    pub(crate) result_bytes: u64,
    /// They, end to end and little-endian.
    pub(crate) input: Vec<u8>,
}

impl ColumnPayload {
    /// The items.
    pub(crate) fn scalars(&self) -> Vec<Scalar> {
        fn each<const BYTES: usize>(
            input: &[u8],
            scalar: impl Fn([u8; BYTES]) -> Scalar,
        ) -> Vec<Scalar> {
            input.as_chunks().0.iter().map(|bytes| scalar(*bytes)).collect()
        }
        match self.item {
            ValueType::I32 => each(&self.input, |bytes| Scalar::I32(i32::from_le_bytes(bytes))),
            ValueType::I64 => each(&self.input, |bytes| Scalar::I64(i64::from_le_bytes(bytes))),
            ValueType::F32 => each(&self.input, |bytes| Scalar::F32(u32::from_le_bytes(bytes))),
            ValueType::F64 => each(&self.input, |bytes| Scalar::F64(u64::from_le_bytes(bytes))),
            ValueType::Other => Vec::new(),
        }
    }
}

/// A command's arguments and environment, and the descriptors that are its stdio.
#[derive(Debug)]
pub struct CommandPayload {
    pub(crate) call: CommandCall,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl CommandPayload {
    /// Bytes of its texts and of its stdin, and what the length of each takes at most.
    fn bytes(&self) -> usize {
        const LENGTH_BYTES: usize = 8;
        let CommandCall { args, env, stdin, .. } = &self.call;
        let texts = args.iter().chain(env.iter().flat_map(|(name, value)| [name, value]));
        let stdin = match stdin {
            Stdin::Bytes(bytes) => bytes.len(),
            Stdin::Descriptor | Stdin::Error(_) => 0,
        };
        texts.map(|text| text.len() + LENGTH_BYTES).sum::<usize>() + stdin
    }
}

impl PartialEq for CommandPayload {
    fn eq(&self, other: &Self) -> bool {
        // No descriptor is another.
        self.call == other.call && self.descriptors.is_empty() && other.descriptors.is_empty()
    }
}

impl Default for Payload {
    /// Nothing, which takes no memory.
    fn default() -> Self {
        Self::Scalars(Box::default())
    }
}

impl Payload {
    /// How its result, and the items it emits, are written.
    pub(crate) fn codec(&self) -> Codec {
        match self {
            Self::Task { codec, .. } => *codec,
            Self::Buffer(_) | Self::Scalars(_) | Self::Command(_) | Self::Column(_) => Codec::Raw,
        }
    }

    /// Whether `outcome` is of the kind that a call with it can have.
    pub(crate) fn can_end_as(&self, outcome: &Outcome) -> bool {
        let can_be = |bytes: u64| match self {
            Self::Task { .. } | Self::Buffer(_) => true,
            Self::Column(column) => bytes == column.result_bytes,
            Self::Scalars(_) | Self::Command(_) => false,
        };
        match outcome {
            Outcome::Returned(bytes) => can_be(bytes.len() as u64),
            Outcome::InFile(bytes) => can_be(*bytes),
            Outcome::ItemFailed { index, .. } => {
                matches!(self, Self::Column(column) if *index < column.count)
            }
            Outcome::Scalars(_) => matches!(self, Self::Scalars(_)),
            Outcome::Exited(_) => matches!(self, Self::Command(_)),
            Outcome::Failed(_) | Outcome::Recalled => true,
        }
    }

    /// Its bytes in its worker's window: its variable part, and a constant for the rest. A body
    /// above the in-line limit travels outside.
    pub(crate) fn inline_bytes(&self) -> usize {
        let variable = match self {
            Self::Task { input, .. } => input.len(),
            Self::Scalars(args) => args.len() * 11,
            Self::Command(command) => command.bytes(),
            Self::Column(column) => column.input.len(),
            Self::Buffer(_) => 0,
        };
        if variable > stockade_wire::frame::INLINE_BYTES_MAX {
            FIXED_BYTES
        } else {
            variable + FIXED_BYTES
        }
    }

    /// The buffer that the task is lent.
    pub(crate) fn buffer(&self) -> Option<&Arc<BufferSlot>> {
        match self {
            Self::Buffer(buffer) => Some(buffer),
            _ => None,
        }
    }

    /// An input that is long enough to go into a file.
    pub(crate) fn long_input(&self) -> Option<&[u8]> {
        match self {
            Self::Task { input, .. } if input.len() >= PAYLOAD_BYTES_MIN => Some(input),
            Self::Column(column) if column.input.len() >= PAYLOAD_BYTES_MIN => Some(&column.input),
            _ => None,
        }
    }

    /// The payload to lend while the input of this one lies in a file.
    pub(crate) fn without_input(&self) -> Self {
        match self {
            Self::Column(column) => {
                Self::Column(Box::new(ColumnPayload { input: Vec::new(), ..**column }))
            }
            _ => Self::Task { codec: self.codec(), input: Box::default() },
        }
    }

    /// Memory for a result of `bytes` bytes, once the task has ended: the input's, which the system
    /// need not clear, unless that is far too much.
    pub(crate) fn room_for_result(&mut self, bytes: usize) -> Vec<u8> {
        match self {
            Self::Task { input, .. } if input.len() / 2 <= bytes => mem::take(input).into_vec(),
            Self::Column(column) => mem::take(&mut column.input),
            _ => Vec::new(),
        }
    }

    /// It as a call of the function of this number, and the descriptors with it. Nothing is copied:
    /// until it is [taken back](Self::take_back) there is nothing here.
    pub(crate) fn lend(&mut self, function: u32) -> (Invocation, Vec<OwnedFd>) {
        let export = Callee::Number(function);
        match self {
            Self::Task { codec, input } => {
                let (codec, input) = (*codec, mem::take(input).into_vec());
                (Invocation::Task(Call { export, codec, input }), Vec::new())
            }
            Self::Buffer(_) => {
                let call = Call { export, codec: Codec::Raw, input: Vec::new() };
                (Invocation::Task(call), Vec::new())
            }
            Self::Scalars(args) => {
                let args = mem::take(args).into_vec();
                (Invocation::Scalar { export, args }, Vec::new())
            }
            Self::Command(command) => {
                let nothing = CommandCall {
                    args: Vec::new(),
                    env: Vec::new(),
                    stdin: Stdin::Bytes(Vec::new()),
                    stdout: StdioSink::Captured,
                    stderr: StdioSink::Captured,
                };
                let call = mem::replace(&mut command.call, nothing);
                (Invocation::Command { entry: export, call }, mem::take(&mut command.descriptors))
            }
            Self::Column(column) => {
                (Invocation::Column { export, input: mem::take(&mut column.input) }, Vec::new())
            }
        }
    }

    /// Gets back what was lent.
    pub(crate) fn take_back(&mut self, invocation: Invocation, descriptors: Vec<OwnedFd>) {
        match (self, invocation) {
            // Their vectors are as long as the slices that they were, so nothing is copied.
            (Self::Task { input, .. }, Invocation::Task(call)) => *input = call.input.into(),
            (Self::Buffer(_), Invocation::Task(_)) => {}
            (Self::Column(column), Invocation::Column { input, .. }) => column.input = input,
            (Self::Scalars(kept), Invocation::Scalar { args, .. }) => *kept = args.into(),
            (Self::Command(command), Invocation::Command { call, .. }) => {
                **command = CommandPayload { call, descriptors };
            }
            _ => debug_assert!(false, "another payload was lent"),
        }
    }
}

#[cfg(test)]
mod tests {
    use stockade_wire::Failure;

    use super::*;
    use crate::call::command::Command;

    fn column(items: &[i32]) -> Payload {
        Payload::Column(Box::new(ColumnPayload {
            item: ValueType::I32,
            count: items.len() as u32,
            result_bytes: items.len() as u64 * 8,
            input: items.iter().flat_map(|item| item.to_le_bytes()).collect(),
        }))
    }

    #[test]
    fn a_column_ends_with_as_many_results_or_with_one_of_its_items() {
        let column = column(&[1, 2]);
        let failure = || Failure::Exited(1);
        for (outcome, is_right) in [
            (Outcome::Returned(vec![0; 16]), true),
            (Outcome::Returned(vec![0; 15]), false),
            (Outcome::Returned(vec![0; 17]), false),
            (Outcome::InFile(16), true),
            (Outcome::InFile(8), false),
            (Outcome::ItemFailed { index: 1, failure: failure() }, true),
            (Outcome::ItemFailed { index: 2, failure: failure() }, false),
            (Outcome::Failed(failure()), true),
            (Outcome::Recalled, true),
            (Outcome::Scalars(vec![Scalar::I64(0); 2]), false),
            (Outcome::Exited(0), false),
        ] {
            assert_eq!(column.can_end_as(&outcome), is_right, "{outcome:?}");
        }
        let item_failed = Outcome::ItemFailed { index: 0, failure: failure() };
        assert!(!Payload::Scalars(Box::default()).can_end_as(&item_failed));
        let task = Payload::Task { codec: Codec::Raw, input: Box::default() };
        assert!(!task.can_end_as(&item_failed));
    }

    #[test]
    fn a_long_column_lies_in_a_file() {
        let payload = column(&vec![7; PAYLOAD_BYTES_MIN / 4]);
        assert_eq!(payload.long_input().map(<[u8]>::len), Some(PAYLOAD_BYTES_MIN / 4 * 4));
        let Payload::Column(rest) = payload.without_input() else { panic!("no column") };
        assert!(rest.input.is_empty() && rest.count as usize == PAYLOAD_BYTES_MIN / 4);
    }

    #[test]
    fn the_items_of_a_column_are_scalars() {
        let Payload::Column(column) = column(&[1, -2]) else { panic!("no column") };
        assert_eq!(column.scalars(), [Scalar::I32(1), Scalar::I32(-2)]);
        let floats = ColumnPayload {
            item: ValueType::F64,
            count: 1,
            result_bytes: 8,
            input: f64::NAN.to_le_bytes().into(),
        };
        assert_eq!(floats.scalars(), [Scalar::F64(f64::NAN.to_bits())]);
    }

    #[test]
    fn what_was_lent_comes_back_as_it_was() {
        let payloads = || {
            let (call, descriptors) = Command::new("wc").args(["-l"]).into_parts();
            [
                Payload::Task { codec: Codec::Json, input: Box::from([1, 2, 3]) },
                Payload::Scalars(Box::from([Scalar::I32(1)])),
                Payload::Command(Box::new(CommandPayload { call, descriptors })),
                column(&[1, 2]),
                Payload::default(),
            ]
        };
        for (mut payload, expected) in payloads().into_iter().zip(payloads()) {
            let (invocation, descriptors) = payload.lend(7);
            match &invocation {
                Invocation::Task(Call { export, .. })
                | Invocation::Scalar { export, .. }
                | Invocation::Column { export, .. }
                | Invocation::Command { entry: export, .. } => {
                    assert_eq!(*export, Callee::Number(7));
                }
            }
            payload.take_back(invocation, descriptors);
            assert_eq!(payload, expected);
        }
    }

    #[test]
    fn a_command_takes_of_its_workers_window_what_it_holds() {
        let taken = |command: Command| {
            let (call, descriptors) = command.into_parts();
            Payload::Command(Box::new(CommandPayload { call, descriptors })).inline_bytes()
        };
        let nothing = taken(Command::new(""));
        let text = || "x".repeat(1000);
        for command in [
            Command::new(text()),
            Command::new("").args([text()]),
            Command::new("").env(text(), ""),
            Command::new("").env("", text()),
            Command::new("").stdin(text()),
        ] {
            assert!(taken(command) >= nothing + 1000);
        }
        // More travels outside, and only its announcement counts.
        assert!(taken(Command::new("").stdin(vec![0; 1 << 20])) <= nothing);
    }

    #[test]
    fn a_buffer_stays_where_it_is() {
        let slot = Arc::new(BufferSlot::new(crate::SharedBuffer::new(5000).unwrap()));
        let mut payload = Payload::Buffer(slot.clone());
        let (invocation, descriptors) = payload.lend(7);
        assert!(descriptors.is_empty());
        payload.take_back(invocation, descriptors);
        assert_eq!(payload.buffer().unwrap().take().map(|buffer| buffer.len()), Some(5000));
        assert!(slot.take().is_none());
        assert_eq!(slot.bytes(), 5000);
    }

    #[test]
    fn what_lies_in_a_file_goes_without_its_input_and_leaves_its_memory_to_a_result() {
        let input = vec![1; PAYLOAD_BYTES_MIN];
        let mut payload = Payload::Task { codec: Codec::Json, input: input.clone().into() };
        assert_eq!(payload.long_input(), Some(&*input));
        let rest = payload.without_input();
        assert_eq!(rest, Payload::Task { codec: Codec::Json, input: Box::default() });
        assert!(rest.long_input().is_none());
        assert_eq!(payload.room_for_result(0).capacity(), 0, "far too much");
        assert_eq!(payload.room_for_result(input.len()), input);
        assert!(payload.long_input().is_none());
    }
}
