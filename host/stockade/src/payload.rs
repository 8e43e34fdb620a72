//! Payloads: what a task is called with, as it waits for its turn and as it travels.
//!
//! ```text
//! arguments ─encode─► Payload ─lend─► Invocation ─► ring or socket
//!                        ▲────take_back──┘           kept until the end, in case it is sent again
//! ```
//!
//! A long input goes into one of its worker's [files](crate::payload_files) instead, and a buffer as
//! the file that it is; the call is without input then.
//!
//! A million of them may wait: one is as large as two words and what it points to.
//!
//! Deliberately absent: what is called, which the task's [`Terms`](crate::terms::Terms) know.

use std::mem;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use stockade_wire::{
    Call, Callee, Codec, CommandCall, Invocation, Outcome, PAYLOAD_BYTES_MIN, Scalar, Stdin,
    StdioSink,
};

use crate::buffer::BufferSlot;

/// What a task is called with.
#[derive(Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub enum Payload {
    /// Of a task.
    Task {
        /// How they are written.
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
            Self::Buffer(_) | Self::Scalars(_) | Self::Command(_) => Codec::Raw,
        }
    }

    /// Whether `outcome` is of the kind that a call with it can have.
    pub(crate) fn can_end_as(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Returned(_) | Outcome::InFile(_) => {
                matches!(self, Self::Task { .. } | Self::Buffer(_))
            }
            Outcome::Scalars(_) => matches!(self, Self::Scalars(_)),
            Outcome::Exited(_) => matches!(self, Self::Command(_)),
            Outcome::Failed(_) | Outcome::Recalled => true,
        }
    }

    /// What it takes of its worker's window: its variable part, and room for the rest. A body above
    /// the in-line limit travels outside.
    pub(crate) fn inline_bytes(&self) -> usize {
        const FIXED_BYTES: usize = 256;
        let variable = match self {
            Self::Task { input, .. } => input.len(),
            Self::Scalars(args) => args.len() * 11,
            Self::Command(command) => command.bytes(),
            Self::Buffer(_) => 0,
        };
        if variable > stockade_wire::frame::INLINE_BYTES_MAX {
            FIXED_BYTES
        } else {
            variable + FIXED_BYTES
        }
    }

    /// What the task is lent.
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
            _ => None,
        }
    }

    /// The payload to lend while the input of this one lies in a file.
    pub(crate) fn without_input(&self) -> Self {
        Self::Task { codec: self.codec(), input: Box::default() }
    }

    /// Memory for a result of `bytes` bytes, once the task has ended: the input's, which the system
    /// need not clear, unless that is far too much.
    pub(crate) fn room_for_result(&mut self, bytes: usize) -> Vec<u8> {
        match self {
            Self::Task { input, .. } if input.len() / 2 <= bytes => mem::take(input).into_vec(),
            _ => Vec::new(),
        }
    }

    /// It as a call of the function of this number, and the descriptors beside it. Nothing is copied:
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
        }
    }

    /// Gets back what was lent.
    pub(crate) fn take_back(&mut self, invocation: Invocation, descriptors: Vec<OwnedFd>) {
        match (self, invocation) {
            // Their vectors are as long as the slices that they were, so nothing is copied.
            (Self::Task { input, .. }, Invocation::Task(call)) => *input = call.input.into(),
            (Self::Buffer(_), Invocation::Task(_)) => {}
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
    use super::*;
    use crate::Command;

    #[test]
    fn what_was_lent_comes_back_as_it_was() {
        let payloads = || {
            let (call, descriptors) = Command::new("wc").args(["-l"]).into_parts();
            [
                Payload::Task { codec: Codec::Json, input: Box::from([1, 2, 3]) },
                Payload::Scalars(Box::from([Scalar::I32(1)])),
                Payload::Command(Box::new(CommandPayload { call, descriptors })),
                Payload::default(),
            ]
        };
        for (mut payload, expected) in payloads().into_iter().zip(payloads()) {
            let (invocation, descriptors) = payload.lend(7);
            match &invocation {
                Invocation::Task(Call { export, .. })
                | Invocation::Scalar { export, .. }
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
