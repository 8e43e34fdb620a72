//! Commands: whole programs, run from their entry to their exit code.

use std::os::fd::OwnedFd;

use stockade_wire::{Captured, CommandCall, Stdin, StdioSink};

use crate::call::arguments::Arguments;
use crate::call::arguments::sealed::{Problem, Sealed};
use crate::call::payload::{CommandPayload, Payload};
use crate::call::target::{self, Callable, CallableKind, ModuleEntry, Target};
use crate::outcome::error::SubmitError;

/// The most bytes of a command's arguments and environment together.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// A run of a module as a program: arguments, environment and stdio.
///
/// It begins in the module's own entry, the export `""` or else `_start`, unless
/// [`entry`](Self::entry) names another, and ends where that returns or the program exits.
///
/// It implements [`Arguments`]: pass it to [`Pool::submit_command`](crate::Pool::submit_command),
/// to [`Pool::map_command`](crate::Pool::map_command) for many runs, and to all other methods that
/// take arguments.
///
/// By default everything is empty: no arguments beyond the program's name, no environment beyond
/// the pool's grants, stdin at its end. Stdout and stderr are captured up to `Limits::stdio_bytes`.
///
/// ```
/// use stockade::Command;
///
/// let command = Command::new("wc").args(["-l"]).stdin(b"one\ntwo\n".to_vec());
/// # let _ = command;
/// ```
#[derive(Debug)]
pub struct Command {
    entry: Option<String>,
    call: CommandCall,
    /// In the order that the wire wants: stdin's, stdout's, stderr's.
    descriptors: [Option<OwnedFd>; 3],
}

impl Command {
    /// A run whose `argv[0]` is `name`.
    pub fn new(name: impl Into<String>) -> Self {
        let call = CommandCall {
            args: vec![name.into()],
            env: Vec::new(),
            stdin: Stdin::Bytes(Vec::new()),
            stdout: StdioSink::Captured,
            stderr: StdioSink::Captured,
        };
        Self { entry: None, call, descriptors: [None, None, None] }
    }

    /// Starts at the export `name`, a function without parameters that returns nothing or an `i32`,
    /// the exit code. The module's `_initialize`, if it has one, runs before it.
    ///
    /// ```
    /// use stockade::Command;
    ///
    /// let command = Command::new("python").entry("run").args(["-c", "print(1)"]);
    /// # let _ = command;
    /// ```
    #[must_use]
    pub fn entry(mut self, name: impl Into<String>) -> Self {
        self.entry = Some(name.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.call.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.call.env.push((name.into(), value.into()));
        self
    }

    /// Gives it these bytes as stdin.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.call.stdin = Stdin::Bytes(bytes.into());
        self.descriptors[0] = None;
        self
    }

    /// Makes every read of stdin fail with `error`, a number of this system's (`errno`), as reads from
    /// a directory and from a descriptor that is not open for reading do. A number that WASI has no
    /// word for is an input/output error to the program.
    #[must_use]
    pub fn stdin_error(mut self, error: i32) -> Self {
        self.call.stdin = Stdin::Error(error);
        self.descriptors[0] = None;
        self
    }

    /// Lets it read stdin from `descriptor`, which its worker gets: pass a pipe rather than a
    /// terminal or a file of yours. A read waits for data, whether the descriptor blocks or not.
    ///
    /// A pipe that is closed is the input's end to the program, whatever closed it. Who has to tell
    /// an end from an error passes one end of a `UnixStream::pair` and writes a byte into that end
    /// first: to shut down the other end for writing is then the input's end, and to close it without
    /// having read that byte is an input/output error behind all that was written.
    #[must_use]
    pub fn stdin_from(mut self, descriptor: impl Into<OwnedFd>) -> Self {
        self.call.stdin = Stdin::Descriptor;
        self.descriptors[0] = Some(descriptor.into());
        self
    }

    /// Lets it write stdout to `descriptor`, which its worker gets: pass a pipe. A write waits for
    /// room, whether the descriptor blocks or not.
    ///
    /// Where nobody reads the pipe, the program is told (`EPIPE`). One that goes on writing is ended
    /// at the thousandth write in a row, with the exit code 141, which shells give for SIGPIPE.
    #[must_use]
    pub fn stdout_to(mut self, descriptor: impl Into<OwnedFd>) -> Self {
        self.call.stdout = StdioSink::Descriptor;
        self.descriptors[1] = Some(descriptor.into());
        self
    }

    /// Lets it write stderr to `descriptor`, which its worker gets: pass a pipe. As for stdout, but
    /// nobody is ended for it.
    #[must_use]
    pub fn stderr_to(mut self, descriptor: impl Into<OwnedFd>) -> Self {
        self.call.stderr = StdioSink::Descriptor;
        self.descriptors[2] = Some(descriptor.into());
        self
    }

    /// What it is called with, and its descriptors.
    pub(crate) fn into_parts(self) -> (CommandCall, Vec<OwnedFd>) {
        (self.call, self.descriptors.into_iter().flatten().collect())
    }

    /// Refuses texts that no program could be given: it finds the end of each by a NUL.
    fn check(&self) -> Result<(), String> {
        let CommandCall { args, env, .. } = &self.call;
        if let Some(index) = args.iter().position(|text| text.contains('\0')) {
            return Err(format!("argument {index} holds a NUL character, which would truncate it"));
        }
        if let Some((name, _)) = env.iter().find(|(name, value)| {
            name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')
        }) {
            return Err(format!(
                "the variable {name:?} has no name, an = in its name, or a NUL character"
            ));
        }
        let text_bytes = args.iter().map(String::len).sum::<usize>()
            + env.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if text_bytes > TEXT_BYTES_MAX {
            return Err(format!(
                "arguments and environment have {text_bytes} bytes, where {TEXT_BYTES_MAX} are \
                 allowed"
            ));
        }
        Ok(())
    }
}

impl Arguments for Command {}

impl Sealed for Command {
    fn names_function(&self) -> bool {
        self.entry.is_some()
    }

    /// Finds the entry: the one that it names, or else the target's.
    fn resolve<'a>(
        &self,
        modules: &'a [ModuleEntry],
        target: &Target,
    ) -> Result<(&'a ModuleEntry, &'a Callable), SubmitError> {
        target::resolve_entry(modules, target, self.entry.as_deref())
    }

    fn invoke(self, callable: &Callable) -> Result<Payload, Problem> {
        if callable.kind != CallableKind::Command {
            return Err(Problem::Signature("it is a function, not a command".into()));
        }
        self.check().map_err(Problem::Encode)?;
        let (call, descriptors) = self.into_parts();
        Ok(Payload::Command(Box::new(CommandPayload { call, descriptors })))
    }
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandOutput {
    /// Its exit code: what it exited with, else what its entry returned, 0 where that is nothing.
    pub exit_code: i32,
    /// What it wrote to stdout, where that was captured.
    pub stdout: Captured,
    /// What it wrote to stderr, where that was captured.
    pub stderr: Captured,
}
