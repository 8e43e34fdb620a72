//! Payloads: what a task is called with, as it waits for its turn and as it travels.
//!
//! ```text
//! arguments ─encode─► Payload ─lend─► Invocation ─► ring or socket
//!                        ▲────take_back──┘           kept until the end, in case it is sent again
//! ```
//!
//! A million of them may wait: one is as large as two words and what it points to.
//!
//! Deliberately absent: what is called, which the task's [`Terms`](crate::terms::Terms) know.

use std::mem;
use std::os::fd::OwnedFd;

use stockade_wire::{
    Call, Callee, Codec, CommandCall, Invocation, Outcome, Scalar, Stdin, StdioSink,
};

/// What a task is called with.
#[derive(Debug, PartialEq)]
pub enum Payload {
    /// Of a task.
    Task {
        /// How they are written.
        codec: Codec,
        /// Its encoded arguments.
        input: Box<[u8]>,
    },
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
            Self::Scalars(_) | Self::Command(_) => Codec::Raw,
        }
    }

    /// Whether `outcome` is of the kind that a call with it can have.
    pub(crate) fn can_end_as(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Returned(_) => matches!(self, Self::Task { .. }),
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
            Self::Command(_) => 0,
        };
        if variable > stockade_wire::frame::INLINE_BYTES_MAX {
            FIXED_BYTES
        } else {
            variable + FIXED_BYTES
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
                (Invocation::Command(call), mem::take(&mut command.descriptors))
            }
        }
    }

    /// Gets back what was lent.
    pub(crate) fn take_back(&mut self, invocation: Invocation, descriptors: Vec<OwnedFd>) {
        match (self, invocation) {
            // Their vectors are as long as the slices that they were, so nothing is copied.
            (Self::Task { input, .. }, Invocation::Task(call)) => *input = call.input.into(),
            (Self::Scalars(kept), Invocation::Scalar { args, .. }) => *kept = args.into(),
            (Self::Command(command), Invocation::Command(call)) => {
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
                Invocation::Task(Call { export, .. }) | Invocation::Scalar { export, .. } => {
                    assert_eq!(*export, Callee::Number(7));
                }
                Invocation::Command(_) => {}
            }
            payload.take_back(invocation, descriptors);
            assert_eq!(payload, expected);
        }
    }
}
