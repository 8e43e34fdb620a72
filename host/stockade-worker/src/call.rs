//! One invocation's input, output and log, each with its limit.
//!
//! Pure bookkeeping: the host calls check pointers and move bytes, this decides what is kept.

use std::time::Instant;

use stockade_abi::{ERROR_BYTES_MAX, LogLevel};
use stockade_wire::{Codec, EMIT_OVERHEAD_BYTES, LOG_LINE_BYTES, Limits, Log, Outcome, TaskId};

use crate::failure::HostTrap;
use crate::payload::CallInput;

/// The task number that initializers and finalizers see.
pub(crate) const NO_TASK: TaskId = TaskId(0);

/// An invocation's input, and its output so far.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) task: TaskId,
    pub(crate) codec: Codec,
    pub(crate) input: CallInput,
    pub(crate) output: Vec<u8>,
    /// The result is the mapped input's memory; `output` is then empty.
    is_in_place: bool,
    pub(crate) error: Vec<u8>,
    pub(crate) log: Log,
    pub(crate) log_dropped: u64,
    /// Its deadline, if it has one.
    pub(crate) deadline: Option<Instant>,
    /// Whether reaching the deadline traps; the host kills the worker otherwise.
    interruptible: bool,
    pub(crate) output_limit: u64,
    pub(crate) fuel_limit: u64,
    /// Of each: captured stdout, captured stderr, the log.
    pub(crate) stdio_limit: u64,
    /// Where it is deterministic, the seed of its randomness.
    pub(crate) seed: Option<u64>,
    emitted_bytes: u64,
    /// What the results of a column take.
    column_bytes: u64,
    /// The item of a column that is called.
    pub(crate) item: Option<u32>,
    /// What the items before it have used.
    pub(crate) earlier_fuel: u64,
}

impl Call {
    /// A call of `task` that starts at `now`.
    pub(crate) fn new(
        task: TaskId,
        codec: Codec,
        input: CallInput,
        limits: &Limits,
        now: Instant,
    ) -> Self {
        Self {
            task,
            codec,
            input,
            output: Vec::new(),
            is_in_place: false,
            error: Vec::new(),
            log: Log::default(),
            log_dropped: 0,
            deadline: limits.wall_time.and_then(|time| now.checked_add(time)),
            interruptible: limits.interruptible,
            output_limit: limits.output_bytes,
            fuel_limit: limits.fuel.unwrap_or(u64::MAX),
            stdio_limit: limits.stdio_bytes,
            seed: limits.deterministic,
            emitted_bytes: 0,
            column_bytes: 0,
            item: None,
            earlier_fuel: 0,
        }
    }

    /// When to interrupt the guest, if its deadline is to do that.
    pub(crate) fn interrupt_at(&self) -> Option<Instant> {
        self.deadline.filter(|_| self.interruptible)
    }

    /// Appends to the result.
    ///
    /// # Errors
    /// [`HostTrap::Output`] beyond the limit.
    pub(crate) fn write_output(&mut self, bytes: &[u8]) -> Result<(), HostTrap> {
        self.reserve_output(bytes.len() as u64)?;
        self.output.extend_from_slice(bytes);
        Ok(())
    }

    /// Makes the mapped input's memory the result, if there is no other result so far. Returns
    /// whether it is.
    ///
    /// # Errors
    /// [`HostTrap::Output`] beyond the limit.
    pub(crate) fn leave_in_place(&mut self) -> Result<bool, HostTrap> {
        if self.is_in_place || !self.output.is_empty() {
            return Ok(false);
        }
        self.is_in_place = true;
        match self.reserve_output(0) {
            Ok(()) => Ok(true),
            Err(trap) => {
                self.is_in_place = false;
                Err(trap)
            }
        }
    }

    /// Copies the result `bytes` out of the mapped memory, because more is appended.
    ///
    /// # Errors
    /// [`HostTrap::Output`] beyond the limit.
    pub(crate) fn take_from_place(&mut self, bytes: &[u8]) -> Result<(), HostTrap> {
        if std::mem::take(&mut self.is_in_place) { self.write_output(bytes) } else { Ok(()) }
    }

    /// The result, taken.
    pub(crate) fn take_result(&mut self) -> Outcome {
        if self.is_in_place {
            return Outcome::InFile(self.input.len() as u64);
        }
        Outcome::Returned(std::mem::take(&mut self.output))
    }

    /// The bytes of the mapped result that count: a lent buffer does not.
    fn in_place_bytes(&self) -> u64 {
        match &self.input {
            CallInput::File(input) if self.is_in_place && !input.is_lent => input.bytes as u64,
            _ => 0,
        }
    }

    /// Counts an item of `bytes` bytes that is about to be emitted.
    ///
    /// # Errors
    /// [`HostTrap::Output`] beyond the limit.
    pub(crate) fn count_item(&mut self, bytes: u64) -> Result<(), HostTrap> {
        self.reserve_output(bytes + EMIT_OVERHEAD_BYTES)?;
        self.emitted_bytes += bytes + EMIT_OVERHEAD_BYTES;
        Ok(())
    }

    /// Counts the results of a column, which are about to be made.
    ///
    /// # Errors
    /// [`HostTrap::Output`] beyond the limit.
    pub(crate) fn count_column(&mut self, bytes: u64) -> Result<(), HostTrap> {
        self.reserve_output(bytes)?;
        self.column_bytes += bytes;
        Ok(())
    }

    /// The resources that it has used, with this much fuel left.
    pub(crate) fn fuel_used(&self, left: u64) -> u64 {
        self.earlier_fuel.saturating_add(self.fuel_limit.saturating_sub(left))
    }

    fn reserve_output(&self, bytes: u64) -> Result<(), HostTrap> {
        let result_bytes = self.output.len() as u64 + self.in_place_bytes();
        let total = result_bytes + self.column_bytes + self.emitted_bytes + bytes;
        if total > self.output_limit { Err(HostTrap::Output) } else { Ok(()) }
    }

    /// Appends to the error's text what of `bytes` there is room for.
    pub(crate) fn write_error(&mut self, bytes: &[u8]) {
        let room = ERROR_BYTES_MAX.saturating_sub(self.error.len());
        self.error.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Adds a line to the log, or drops and counts it where it does not fit.
    pub(crate) fn write_log(&mut self, level: i32, bytes: &[u8]) {
        let room = self.stdio_limit.saturating_sub(self.log.bytes());
        // Checked before the copy, and again after it: what is not UTF-8 grows.
        let fits = |length: usize| length as u64 + LOG_LINE_BYTES <= room;
        if !fits(bytes.len()) {
            self.log_dropped += 1;
            return;
        }
        let message = String::from_utf8_lossy(bytes);
        if !fits(message.len()) {
            self.log_dropped += 1;
            return;
        }
        self.log.push(LogLevel::from_number(level) as u8, &message);
    }

    /// The task's id for the guest; always 1 if deterministic, since it must not depend on the
    /// order of submission.
    pub(crate) fn number(&self) -> u64 {
        if self.seed.is_some() && self.task != NO_TASK { 1 } else { self.task.0 }
    }

    /// Nanoseconds until the deadline at `now`, or the maximum if there is none, or if the guest is
    /// deterministic.
    pub(crate) fn remaining_ns(&self, now: Instant) -> i64 {
        let Some(deadline) = self.deadline.filter(|_| self.seed.is_none()) else {
            return i64::MAX;
        };
        i64::try_from(deadline.saturating_duration_since(now).as_nanos()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(limits: &Limits) -> Call {
        let input = CallInput::Bytes(b"input".to_vec());
        Call::new(TaskId(1), Codec::Raw, input, limits, Instant::now())
    }

    #[test]
    fn result_and_items_share_one_limit() {
        let mut call = call(&Limits::default().output_bytes(10 + EMIT_OVERHEAD_BYTES + 5));
        call.write_output(&[0; 10]).unwrap();
        call.count_item(5).unwrap();
        assert!(matches!(call.write_output(&[0]), Err(HostTrap::Output)));
        assert!(matches!(call.count_item(0), Err(HostTrap::Output)));
        call.write_output(&[]).unwrap();
    }

    #[test]
    fn input_beyond_its_end_is_refused_whatever_the_numbers() {
        let call = call(&Limits::default());
        let mut place = [0; 6];
        call.input.read(1, &mut place[..4]).unwrap();
        assert_eq!(&place[..4], b"nput");
        call.input.read(5, &mut []).unwrap();
        for (offset, length) in [(5, 1), (6, 0), (0, 6), (u32::MAX, 6)] {
            assert!(call.input.read(offset, &mut place[..length]).is_err(), "{offset} {length}");
        }
    }

    #[test]
    fn error_text_stops_at_its_limit() {
        let mut call = call(&Limits::default());
        call.write_error(&vec![1; ERROR_BYTES_MAX - 1]);
        call.write_error(&[2, 3]);
        call.write_error(&[4]);
        assert_eq!(call.error.len(), ERROR_BYTES_MAX);
        assert_eq!(call.error.last(), Some(&2));
    }

    #[test]
    fn log_lines_that_do_not_fit_are_dropped_whole_and_counted() {
        let mut call = call(&Limits::default().stdio_bytes(2 * (LOG_LINE_BYTES + 3)));
        call.write_log(1, b"abc");
        call.write_log(9, b"\xff"); // three bytes as U+FFFD
        call.write_log(3, b"");
        let lines: Vec<_> = call.log.lines().map(|line| (line.level, line.message)).collect();
        assert_eq!(lines, [(1, "abc".to_owned()), (5, "\u{fffd}".to_owned())]);
        assert_eq!(call.log_dropped, 1);
    }

    #[test]
    fn a_line_that_grows_past_the_room_when_made_utf8_is_dropped() {
        let mut call = call(&Limits::default().stdio_bytes(LOG_LINE_BYTES + 2));
        call.write_log(1, b"\xff\xff");
        assert!(call.log.is_empty());
        assert_eq!(call.log_dropped, 1);
    }

    #[test]
    fn without_a_deadline_all_time_remains() {
        let now = Instant::now();
        assert_eq!(call(&Limits::default().wall_time(None)).remaining_ns(now), i64::MAX);
        let limits = Limits::default().wall_time(std::time::Duration::from_secs(1));
        let call = Call::new(TaskId(1), Codec::Raw, CallInput::NONE, &limits, now);
        assert_eq!(call.remaining_ns(now), 1_000_000_000);
        assert_eq!(call.remaining_ns(now + std::time::Duration::from_secs(2)), 0);
        assert_eq!(self::call(&limits.deterministic(7)).remaining_ns(now), i64::MAX);
    }
}
