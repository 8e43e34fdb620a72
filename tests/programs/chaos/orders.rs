//! Orders: what is submitted, and what must come back.
//!
//! Everything about an order follows from its number, so that a result which belongs to another one
//! is seen at once, and nothing has to be kept of it meanwhile.

use stockade::{Bytes, TaskError, TrapKind};
use stockade_tests::{Random, mix};

/// What a task does: a function of `fixtures/reliability.wat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Returns its input, the number mixed.
    Mix,
    /// The same with more bytes than travel in the socket.
    Big,
    /// The same after three items.
    Emit,
    /// The same after a nap.
    Nap,
    /// Returns an error that names its number.
    Fail,
    Trap,
    /// Never ends.
    Spin,
}

/// One task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) number: u64,
    pub(crate) kind: Kind,
}

impl Order {
    /// What the order with this number is in the run of `seed`.
    pub(crate) fn of(seed: u32, number: u64) -> Self {
        let kind = match Random::of_part(seed.into(), number).below(1000) {
            0..10 => Kind::Big,
            10..30 => Kind::Emit,
            30..35 => Kind::Nap,
            35..55 => Kind::Fail,
            55..70 => Kind::Trap,
            _ => Kind::Mix,
        };
        Self { number, kind }
    }

    pub(crate) fn target(self) -> &'static str {
        match self.kind {
            Kind::Mix | Kind::Big => "mix",
            Kind::Emit => "emit",
            Kind::Nap => "nap",
            Kind::Fail => "fail",
            Kind::Trap => "trap",
            Kind::Spin => "spin",
        }
    }

    /// The input: the number, then what the kind wants next to it.
    pub(crate) fn input(self) -> Bytes {
        let mut random = Random::new(self.number);
        let mut bytes = self.number.to_le_bytes().to_vec();
        match self.kind {
            Kind::Mix | Kind::Emit => {
                let length = random.below(48) as usize;
                bytes.extend(random.bytes(length));
            }
            Kind::Big => {
                let length = random.between(100 << 10, 400 << 10) as usize;
                bytes.extend(random.bytes(length));
            }
            Kind::Nap => {
                let nanoseconds = random.millis(0, 10).as_nanos() as u64;
                bytes.extend(nanoseconds.to_le_bytes());
            }
            Kind::Fail => bytes.extend(self.complaint().into_bytes()),
            Kind::Trap | Kind::Spin => {}
        }
        Bytes(bytes)
    }

    /// The message of its own error.
    fn complaint(self) -> String {
        format!("order {} is one of those that fail", self.number)
    }

    /// Whether this is how it ends when nothing comes in between.
    pub(crate) fn is_own_end(self, result: &Result<Bytes, TaskError>) -> bool {
        match (self.kind, result) {
            (Kind::Fail, Err(TaskError::Guest(error))) => error.message == self.complaint(),
            (Kind::Trap, Err(TaskError::Trap { kind, .. })) => *kind == TrapKind::Unreachable,
            (Kind::Spin, Err(TaskError::Deadline { .. })) => true,
            (Kind::Fail | Kind::Trap | Kind::Spin, _) => false,
            (_, Ok(bytes)) => {
                let Bytes(mut expected) = self.input();
                expected[..8].copy_from_slice(&mix(self.number).to_le_bytes());
                bytes.0 == expected
            }
            (_, Err(_)) => false,
        }
    }

    /// Whether these are the items that it emits before it returns.
    pub(crate) fn are_own_items(self, items: &[Vec<u8>]) -> bool {
        let count = if self.kind == Kind::Emit { 3 } else { 0 };
        let expected = (self.number..self.number + count).map(|item| item.to_le_bytes().to_vec());
        expected.eq(items.iter().cloned())
    }
}
