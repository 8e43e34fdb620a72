//! How a recorded task ended, as far as the same task must end the same way again.

use std::fmt;

use stockade_wire::codec::{Decode, Encode};
use stockade_wire::{Frame, Scalar};

use crate::base::shown::Line;
use crate::outcome::error::TaskError;
use crate::outcome::exit::WorkerExit;
use crate::outcome::output::Output;

/// How a recorded task ended. Two that are equal ended the same way.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum RecordedEnd {
    /// With this result: the BLAKE3 hash of its form on the wire.
    Returned([u8; 32]),
    /// With an error.
    Failed {
        /// Its words, without those that differ from run to run: a worker's name, a process's number.
        error: String,
        /// Functions of the guest, innermost first; none for a deadline, which passes anywhere.
        backtrace: Vec<Frame>,
    },
}

impl RecordedEnd {
    pub(super) fn of(result: &Result<Output, TaskError>) -> Self {
        match result {
            Ok(output) => Self::Returned(digest(output)),
            Err(error) => Self::Failed { error: words(error), backtrace: backtrace(error) },
        }
    }

    /// Whether the two say the same, as far as both say it: code knows its places only where it was
    /// compiled for that, as for core dumps.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let (
            Self::Failed { error, backtrace },
            Self::Failed { error: other_error, backtrace: other_backtrace },
        ) = (self, other)
        else {
            return self == other;
        };
        let is_same = |(one, other): (&Frame, &Frame)| {
            let places = one.offset.zip(other.offset);
            (one.index, &one.function) == (other.index, &other.function)
                && places.is_none_or(|(one, other)| one == other)
        };
        error == other_error
            && backtrace.len() == other_backtrace.len()
            && backtrace.iter().zip(other_backtrace).all(is_same)
    }
}

impl fmt::Display for RecordedEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Returned(digest) => {
                let digest = blake3::Hash::from_bytes(*digest).to_hex();
                write!(f, "a result with the hash {}", &digest[..16])
            }
            // Its words may be those of a file from elsewhere.
            Self::Failed { error, .. } => write!(f, "an error: {}", Line(error)),
        }
    }
}

fn digest(output: &Output) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    match output {
        Output::Encoded { bytes, .. } => hasher.update(b"bytes").update(bytes),
        Output::InPlace => hasher.update(b"in place"),
        Output::Scalars(scalars) => {
            hasher.update(b"scalars");
            for scalar in scalars {
                let (kind, bits) = match *scalar {
                    Scalar::I32(value) => (0, value.cast_unsigned().into()),
                    Scalar::I64(value) => (1, value.cast_unsigned()),
                    Scalar::F32(bits) => (2, bits.into()),
                    Scalar::F64(bits) => (3, bits),
                };
                hasher.update(&[kind]).update(&bits.to_le_bytes());
            }
            &mut hasher
        }
        Output::Exited(code) => hasher.update(b"exited").update(&code.to_le_bytes()),
    };
    *hasher.finalize().as_bytes()
}

fn words(error: &TaskError) -> String {
    match error {
        TaskError::WorkerLost(exit) => {
            let exit = WorkerExit { worker: "its worker".into(), pid: 0, ..exit.clone() };
            exit.to_string()
        }
        TaskError::Trap { message, .. } => format!("{error}: {message}"),
        TaskError::Guest(guest) => match &guest.data {
            Some(data) => format!("{error}: {data}"),
            None => error.to_string(),
        },
        _ => error.to_string(),
    }
}

fn backtrace(error: &TaskError) -> Vec<Frame> {
    match error {
        TaskError::Deadline { .. } => Vec::new(),
        _ => error.backtrace().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stockade_wire::TrapKind;

    use super::*;

    fn lost(pid: u32, signal: i32) -> RecordedEnd {
        let exit = WorkerExit {
            worker: format!("p-worker-{pid}"),
            pid,
            signal: Some(signal),
            code: None,
            out_of_memory: false,
            memory_excess: None,
        };
        RecordedEnd::of(&Err(TaskError::WorkerLost(exit)))
    }

    fn trap(offset: impl Into<Option<u32>>) -> RecordedEnd {
        let frame = Frame { function: "f".into(), index: 1, offset: offset.into() };
        RecordedEnd::of(&Err(TaskError::Trap {
            kind: TrapKind::Unreachable,
            message: "unreachable".into(),
            backtrace: vec![frame],
        }))
    }

    #[test]
    fn what_differs_from_run_to_run_is_no_difference() {
        assert_eq!(lost(1, 9), lost(2, 9));
        assert_ne!(lost(1, 9), lost(1, 11));
        let deadline = |function: &str| {
            let frame = Frame { function: function.into(), index: 0, offset: None };
            let limit = Duration::from_secs(1);
            RecordedEnd::of(&Err(TaskError::Deadline { limit, backtrace: vec![frame] }))
        };
        assert_eq!(deadline("f"), deadline("g"));
    }

    #[test]
    fn a_place_that_only_one_of_two_ends_knows_is_no_difference() {
        assert!(trap(7).is_same(&trap(7)) && !trap(7).is_same(&trap(8)));
        assert!(trap(7).is_same(&trap(None)) && trap(None).is_same(&trap(7)));
        assert!(!trap(7).is_same(&lost(1, 9)));
    }

    #[test]
    fn another_place_or_another_result_is_a_difference() {
        assert_eq!(trap(7), trap(7));
        assert_ne!(trap(7), trap(8));
        let scalars = |scalar| RecordedEnd::of(&Ok(Output::Scalars(vec![scalar])));
        assert_eq!(scalars(Scalar::I32(-1)), scalars(Scalar::I32(-1)));
        assert_ne!(scalars(Scalar::I32(1)), scalars(Scalar::I64(1)));
        assert_ne!(
            RecordedEnd::of(&Ok(Output::Exited(0))),
            RecordedEnd::of(&Ok(Output::Exited(1)))
        );
    }
}
