//! How a call fails: the status that it returns and the record that it writes.

use crate::host;
use serde::Serialize;
use std::fmt;
use std::panic::PanicHookInfo;
use stockade_abi::{ERROR_BYTES_MAX, ErrorRecord, Status};

/// The longest message and the longest location, in bytes, of a record that would otherwise be cut
/// in the middle by the host. JSON writes a byte as six characters at worst.
const MESSAGE_BYTES_MAX: usize = ERROR_BYTES_MAX / 8;
const LOCATION_BYTES_MAX: usize = 256;

/// Why a call failed, on the way to its caller.
#[derive(Debug)]
pub struct Failure {
    status: Status,
    record: ErrorRecord,
}

impl Failure {
    /// The caller's fault: the input is not this task's arguments.
    pub(crate) fn bad_arguments(message: impl fmt::Display) -> Self {
        Self::new(Status::BadArguments, message.to_string(), None)
    }

    /// The guest's fault: its result has no form in this codec.
    pub(crate) fn unwritable(message: impl fmt::Display) -> Self {
        Self::new(Status::Error, format!("the result cannot be encoded: {message}"), None)
    }

    /// The task's own answer: it returned an `Err`.
    pub(crate) fn returned(message: String, data: Option<String>) -> Self {
        Self::new(Status::Error, message, data)
    }

    fn new(status: Status, message: String, data: Option<String>) -> Self {
        let record = ErrorRecord { message, location: None, panic: false, data };
        Self { status, record }
    }

    pub(crate) fn message(&self) -> &str {
        &self.record.message
    }

    /// Reports to the host, and returns the export's status.
    pub(crate) fn report(self) -> Status {
        host::error_write(&encode(self.record));
        self.status
    }
}

/// An error's serialised form, for callers that want more than its text.
///
/// `None` where `Serialize` itself fails: the message still tells what happened.
pub(crate) fn data_of<E: Serialize>(error: &E) -> Option<String> {
    serde_json::to_string(error).ok()
}

/// Reports a panic to the host. The guest traps afterwards.
pub(crate) fn report_panic(panic: &PanicHookInfo<'_>) {
    host::error_write(&encode(ErrorRecord {
        message: panic
            .payload_as_str()
            .unwrap_or("panicked with a payload that is not text")
            .to_owned(),
        location: panic.location().map(|place| {
            let mut file = place.file().to_owned();
            cut(&mut file, LOCATION_BYTES_MAX);
            format!("{file}:{}:{}", place.line(), place.column())
        }),
        panic: true,
        data: None,
    }));
}

/// The record as JSON that the host will keep whole: a form too large is left out first, then a
/// message is cut.
fn encode(mut record: ErrorRecord) -> Vec<u8> {
    let mut encoded = json(&record);
    if encoded.len() > ERROR_BYTES_MAX && record.data.take().is_some() {
        encoded = json(&record);
    }
    if encoded.len() > ERROR_BYTES_MAX {
        cut(&mut record.message, MESSAGE_BYTES_MAX);
        encoded = json(&record);
    }
    encoded
}

fn json(record: &ErrorRecord) -> Vec<u8> {
    // A record has nothing that JSON cannot write; its message alone is a valid error text too.
    serde_json::to_vec(record).unwrap_or_else(|_| record.message.clone().into_bytes())
}

fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(message: String, data: Option<String>) -> (usize, ErrorRecord) {
        let bytes = encode(Failure::returned(message, data).record);
        (bytes.len(), serde_json::from_slice(&bytes).expect("a record"))
    }

    #[test]
    fn record_within_the_limit_is_whole() {
        let (_, record) = encoded("no".to_owned(), Some("7".to_owned()));

        assert_eq!(record.message, "no");
        assert_eq!(record.data.as_deref(), Some("7"));
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes minutes, for every byte of a long record")]
    fn data_that_does_not_fit_is_left_out() {
        let (length, record) = encoded("no".to_owned(), Some("7".repeat(ERROR_BYTES_MAX)));

        assert!(length <= ERROR_BYTES_MAX);
        assert_eq!((record.message.as_str(), record.data), ("no", None));
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes minutes, for every byte of a long message")]
    fn message_that_does_not_fit_is_cut_between_characters() {
        // Control characters take six bytes each in JSON, the worst case.
        for character in ["é", "\u{1}"] {
            let (length, record) = encoded(character.repeat(ERROR_BYTES_MAX), None);

            assert!(length <= ERROR_BYTES_MAX, "{length}");
            assert!(record.message.ends_with('…'));
        }
    }
}
