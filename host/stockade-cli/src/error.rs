//! Errors as this command shows them: what happened, why, and the next thing to try.
//!
//! Texts may hold a guest's words. They are bounded, escaped and indented where they are printed,
//! so that none can pass for a line of this command's own.

use std::io::Write;
use std::path::Path;

use clap::builder::styling::{AnsiColor, Style};
use serde_json::{Value, json};
use stockade::{BACKTRACE_FRAMES_MAX, MachineError};

use crate::escape;
use crate::exit::Exit;
use crate::streams;

/// The most bytes of one text, and the most functions of a backtrace, that are shown.
const TEXT_BYTES_MAX: usize = 8 << 10;
const FUNCTIONS_MAX: usize = 32;

/// Why the command failed.
#[derive(Debug)]
pub(crate) struct Error {
    exit: Exit,
    message: String,
    causes: Vec<String>,
    backtrace: Vec<String>,
    /// Whether there were more calls than are kept.
    cut: bool,
    help: Vec<String>,
    /// Whether it turned out to be the machine's fault.
    is_machines: bool,
}

impl Error {
    /// An error that ends the command with `exit`.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        let (causes, backtrace, help) = Default::default();
        let (cut, is_machines) = (false, false);
        Self { exit, message: message.into(), causes, backtrace, cut, help, is_machines }
    }

    /// An end that needs no words.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// An error that says what `error` says, its sources as causes.
    pub(crate) fn described(exit: Exit, error: &(dyn std::error::Error + 'static)) -> Self {
        let described = Self::new(exit, error.to_string());
        match error.source() {
            Some(source) => described.cause(source),
            None => described,
        }
    }

    /// The same error with another exit.
    #[must_use]
    pub(crate) fn with_exit(mut self, exit: Exit) -> Self {
        if !self.is_machines {
            self.exit = exit;
        }
        self
    }

    /// What the machine refused, or did.
    pub(crate) fn of_machine(error: &MachineError) -> Self {
        Self::new(Exit::Internal, error.to_string()).help(error.next_step())
    }

    /// The same error in other words.
    #[must_use]
    pub(crate) fn with_message(mut self, message: String) -> Self {
        self.message = message;
        self
    }

    /// Puts `message` before this error, whose own message becomes the first cause.
    #[must_use]
    pub(crate) fn preceded_by(mut self, message: String) -> Self {
        self.causes.insert(0, std::mem::replace(&mut self.message, message));
        self
    }

    /// What happened and why, in one sentence.
    pub(crate) fn in_a_sentence(&self) -> String {
        let causes = self.causes.iter().map(|cause| format!(": {cause}"));
        std::iter::once(self.message.clone()).chain(causes).collect()
    }

    /// Everything of it, for machines; `kind` tells it from others.
    pub(crate) fn to_json(&self, kind: &str) -> Value {
        json!({ "kind": kind, "message": self.message, "causes": self.causes, "help": self.help })
    }

    /// What the command ends with.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Adds what `error` says and what its sources say. A file that is not available for lack of what the
    /// machine has no more of is not missing.
    #[must_use]
    pub(crate) fn cause(mut self, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(cause) = next {
            let exhausted = cause
                .downcast_ref::<std::io::Error>()
                .filter(|_| self.exit == Exit::Missing)
                .and_then(|error| MachineError::if_exhausted("open it", error));
            match exhausted {
                None => self.causes.push(cause.to_string()),
                Some(machine) => {
                    self.exit = Exit::Internal;
                    self.causes.push(machine.fault.to_string());
                    self.help = vec![machine.next_step().to_owned()];
                    self.is_machines = true;
                }
            }
            next = cause.source();
        }
        self
    }

    /// Adds a reason in words.
    #[must_use]
    pub(crate) fn because(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Adds functions of the guest, innermost first, a line for each.
    #[must_use]
    pub(crate) fn backtrace(mut self, functions: Vec<String>) -> Self {
        self.backtrace = functions;
        self
    }

    /// Says that a backtrace of so many calls may be only the innermost of them.
    #[must_use]
    pub(crate) fn of_calls(mut self, calls: usize) -> Self {
        self.cut = calls >= BACKTRACE_FRAMES_MAX;
        self
    }

    /// Adds a next thing to try, where it is not the machine that has to be seen to first.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        let help = help.into();
        // One that repeats the beginning of another adds nothing.
        let is_told = self.help.iter().any(|told| told.starts_with(&help));
        if !self.is_machines && !is_told {
            self.help.push(help);
        }
        self
    }

    /// The same, with what to do where the file `path` cannot be made for lack of its directory.
    #[must_use]
    pub(crate) fn help_with_directory(self, path: &Path) -> Self {
        match missing_directory(path) {
            Some(directory) => {
                self.help(format!("make its directory first: mkdir -p {}", directory.display()))
            }
            None => self,
        }
    }

    /// The same error without the next thing to try `help`, which cannot help.
    #[must_use]
    pub(crate) fn without_help(mut self, help: &str) -> Self {
        self.help.retain(|told| told != help);
        self
    }

    /// Prints the error to stderr, in colours where a person sees them.
    pub(crate) fn print(&self) {
        streams::say(|to| self.write(to));
    }

    fn write(&self, to: &mut dyn Write) -> std::io::Result<()> {
        if self.message.is_empty() {
            return Ok(());
        }
        let red = AnsiColor::Red.on_default().bold();
        let green = AnsiColor::Green.on_default().bold();
        let bold = Style::new().bold();
        labelled(to, red, "error", &self.message)?;
        for cause in &self.causes {
            labelled(to, bold, "cause", cause)?;
        }
        if !self.backtrace.is_empty() {
            writeln!(to, "{bold}in{bold:#}: the guest, innermost function first")?;
        }
        let shown = &self.backtrace[..self.backtrace.len().min(FUNCTIONS_MAX)];
        // A recursion without an end is one function very often.
        for same in shown.chunk_by(|inner, outer| inner == outer) {
            writeln!(to, "    {}", escape::line(&escape::bounded(&same[0], 200)))?;
            if let more @ 1.. = same.len() - 1 {
                writeln!(to, "    {more} more of the same")?;
            }
        }
        if let Some(more @ 1..) = self.backtrace.len().checked_sub(FUNCTIONS_MAX) {
            writeln!(to, "    and {more} more")?;
        }
        if self.cut {
            // Their callers are not known, nor how many there were.
            writeln!(
                to,
                "    truncated: only the innermost {BACKTRACE_FRAMES_MAX} calls are kept, and \
                 there may be more"
            )?;
        }
        for help in &self.help {
            labelled(to, green, "help", help)?;
        }
        Ok(())
    }
}

fn labelled(to: &mut dyn Write, style: Style, label: &str, text: &str) -> std::io::Result<()> {
    let text = escape::text(&escape::bounded(text, TEXT_BYTES_MAX));
    writeln!(to, "{style}{label}{style:#}: {}", text.trim_end().replace('\n', "\n  "))
}

/// The directory of the file `path`, where it is missing.
pub(crate) fn missing_directory(path: &Path) -> Option<&Path> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty())?;
    (!directory.exists()).then_some(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(error: &Error) -> String {
        let mut bytes = Vec::new();
        error.write(&mut anstream::StripStream::new(&mut bytes)).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_error_tells_what_why_and_what_to_do() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        let error = Error::new(Exit::Missing, "cannot read it").cause(&missing).help("look for it");
        assert_eq!(
            printed(&error),
            "error: cannot read it\ncause: entity not found\nhelp: look for it\n"
        );
    }

    #[test]
    fn a_guests_words_cannot_pass_for_ours() {
        let words = "bad\nhelp: run \x1b[1mrm\x1b[0m";
        let error = Error::new(Exit::Failed, words);
        assert_eq!(printed(&error), "error: bad\n  help: run \\u{1b}[1mrm\\u{1b}[0m\n");
    }

    #[test]
    fn functions_that_call_themselves_stand_once() {
        let functions = ["inner", "loop", "loop", "loop", "outer"].map(String::from).to_vec();
        let error = Error::new(Exit::Failed, "trapped").backtrace(functions);
        assert!(
            printed(&error).ends_with("    inner\n    loop\n    2 more of the same\n    outer\n")
        );
    }

    #[test]
    fn a_backtrace_that_was_cut_says_so() {
        let calls = |count| {
            let functions = vec!["loop".to_string(); count];
            printed(&Error::new(Exit::Failed, "trapped").backtrace(functions).of_calls(count))
        };
        let cut = calls(BACKTRACE_FRAMES_MAX);
        let end = "    truncated: only the innermost 32 calls are kept, and there may be more\n";
        assert!(cut.ends_with(&format!("    31 more of the same\n{end}")), "{cut}");
        assert!(!calls(BACKTRACE_FRAMES_MAX - 1).contains("truncated"));
    }

    #[test]
    fn what_a_guest_says_at_length_is_cut() {
        let functions: Vec<String> = (0..100).map(|n| format!("f{n}\nx")).collect();
        let error = Error::new(Exit::Failed, "x".repeat(1 << 20)).backtrace(functions);
        let shown = printed(&error);
        assert!(shown.len() < 10 << 10, "{}", shown.len());
        assert!(shown.contains("    f0\\nx\n") && shown.contains("and 68 more"), "{shown}");
    }
}
