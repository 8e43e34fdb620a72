//! Exit codes: one for each thing that a script would tell apart.

/// How the command ends.
///
/// The numbers from 64 are those of `sysexits.h` for the same case, if it has one. A guest's exit
/// code can be any number: only `stockade run` of a command module returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything went well.
    Success,
    /// The exit code of the command module that was run.
    Guest(u8),
    /// The command line is wrong.
    Usage,
    /// The module has no such function, or the arguments do not fit it.
    Call,
    /// The module cannot run here, or its crate does not compile. It is the module's fault, so a
    /// script may discard it.
    Refused,
    /// A file or directory is missing or cannot be read.
    Missing,
    /// The guest failed: an error, a panic, a trap.
    Failed,
    /// The guest reached a limit.
    Limit,
    /// The worker process died while it ran the task.
    WorkerLost,
    /// No worker can start, or the machine refused a resource. Trying again later may succeed; the
    /// module is not at fault.
    Internal,
    /// Some items of a map failed, and the others have their results; or some entries of a cache are
    /// wrong.
    SomeFailed,
    /// A replayed task did not end as it was recorded.
    Differs,
    /// The result cannot be written.
    Output,
    /// SIGHUP: the terminal is gone.
    HungUp,
    /// Ctrl-C.
    Interrupted,
    /// The reader of the output is gone.
    ReaderGone,
    /// SIGTERM.
    Terminated,
}

impl Exit {
    /// The number that the process ends with.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Guest(code) => code,
            Self::Usage => 2,
            Self::Call => 64,
            Self::Refused => 65,
            Self::Missing => 66,
            Self::Failed => 67,
            Self::Limit => 68,
            Self::WorkerLost => 69,
            Self::Internal => 70,
            Self::SomeFailed => 71,
            Self::Differs => 72,
            Self::Output => 74,
            Self::HungUp => 129,
            Self::Interrupted => 130,
            Self::ReaderGone => 141,
            Self::Terminated => 143,
        }
    }

    /// The exit of a command module that ended with `code`. Codes above 255, which WASI allows,
    /// become 255.
    pub(crate) fn of_guest(code: i32) -> Self {
        Self::Guest(u8::try_from(code).unwrap_or(u8::MAX))
    }
}

/// The table of [`Exit`], for `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
    0  everything went well
    2  the command line is wrong
   64  the module has no such function, or the arguments do not fit it
   65  the module cannot run here, by its own fault, or its crate does not compile
   66  a file or directory is missing or cannot be read
   67  the guest failed: it returned an error, panicked or trapped
   68  the guest reached a limit: time, memory, fuel or output
   69  the worker process died while it ran the task
   70  no worker can start, or the machine refused a resource; no module is at fault
   71  map: some items failed, the others have their results; cache verify: some entries are wrong
   72  replay: the task did not end as it was recorded
   74  the result cannot be written
  129  ended by SIGHUP: the terminal has gone
  130  interrupted by Ctrl-C
  141  the reader of the output is gone
  143  ended by SIGTERM
A command module's own exit code is returned as it is; those above 255 become 255. If its
stdout has no reader any more, 0 becomes 141; if stdout cannot be written, every code becomes 74.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_its_own_and_stands_in_the_help() {
        let all = [
            Exit::Success,
            Exit::Usage,
            Exit::Call,
            Exit::Refused,
            Exit::Missing,
            Exit::Failed,
            Exit::Limit,
            Exit::WorkerLost,
            Exit::Internal,
            Exit::SomeFailed,
            Exit::Differs,
            Exit::Output,
            Exit::HungUp,
            Exit::Interrupted,
            Exit::ReaderGone,
            Exit::Terminated,
        ];
        let documented: Vec<u8> =
            HELP.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
        assert_eq!(documented, all.map(Exit::code));
    }

    #[test]
    fn a_guests_code_that_no_process_can_have_is_no_success() {
        assert_eq!(Exit::of_guest(7).code(), 7);
        assert_eq!(Exit::of_guest(256).code(), 255);
        assert_eq!(Exit::of_guest(-1).code(), 255);
    }
}
