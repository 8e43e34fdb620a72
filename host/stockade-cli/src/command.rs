//! Command modules: whole programs, with stdin, stdout and stderr passed through as they go.
//!
//! ```text
//! stdin  ──pump──► socket ► worker     the worker never holds a terminal, nor a file of the user's
//! stdout ◄──pump── pipe ◄── worker
//! stderr ◄──pump── pipe ◄── worker
//! ```
//!
//! The program sees failures of its streams as natively: a read of a failed stdin is an error at
//! the same place, and a failed stdout is a pipe without a reader. A failed stderr does not matter:
//! further output to it is dropped.
//!
//! Invariant: output to a terminal is escaped, unless the user allows the program to control it;
//! other output is passed byte for byte.

use std::ffi::OsStr;
use std::io::{self, PipeReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use stockade::{Command, MachineError, Pool};

use crate::args::RunArgs;
use crate::error::Error;
use crate::escape::Escaper;
use crate::exit::Exit;
use crate::observe::Observer;
use crate::streams::{self, Stderr};
use crate::{located, report};

/// Bytes that a pump moves at a time: a pipe's capacity.
const PUMP_BYTES: usize = 64 << 10;

/// Runs the pool's module as a program, from the export `entry` or else its own entry, and ends as it
/// does.
///
/// # Errors
/// How the program ended, if it did not exit.
pub(crate) fn run(
    pool: &Pool,
    entry: Option<&str>,
    args: &RunArgs,
    observer: &mut Observer,
) -> Result<Exit, Error> {
    check(args)?;
    let no_pipe = |error| Error::new(Exit::Internal, "cannot make a pipe").cause(&error);
    let (from_stdout, stdout) = io::pipe().map_err(no_pipe)?;
    let (from_stderr, stderr) = io::pipe().map_err(no_pipe)?;
    let name = args.module.file_name().map_or_else(Default::default, OsStr::to_string_lossy);
    let command = || {
        let command = Command::new(&*name).args(args.args.iter().chain(&args.argv).cloned());
        entry.into_iter().fold(command, Command::entry)
    };
    let taped = observer.keeps_arguments().then(Tape::default);
    // Of these three every system has a number.
    let unreadable = streams::stdin_problem().map(|error| error.raw_os_error().unwrap_or_default());
    let (command_now, feed) = match unreadable {
        Some(number) => (command().stdin_error(number), None),
        None => {
            let (feed, stdin) = Feed::new().map_err(no_pipe)?;
            (command().stdin_from(stdin), Some(feed))
        }
    };
    let handle = pool.submit_command(command_now.stdout_to(stdout).stderr_to(stderr))?;
    let no_thread = |error| Error::of_machine(&MachineError::of("start a thread", &error));
    if let Some(feed) = feed {
        let tape = taped.clone();
        // Not joined: it may wait for input that never comes, and ends with the process.
        thread::Builder::new()
            .name("stockade-stdin".into())
            .spawn(move || pump_stdin(feed, tape.as_ref()))
            .map_err(no_thread)?;
    }
    let escaped = |is_terminal| is_terminal && !args.allow_terminal_control;
    let escape_stdout = escaped(streams::stdout_is_terminal());
    let escape_stderr = escaped(streams::stderr_is_terminal());
    let (ended, printed) = thread::scope(|scope| {
        let pumps = [
            thread::Builder::new()
                .name("stockade-stdout".into())
                .spawn_scoped(scope, || pump(from_stdout, streams::stdout, escape_stdout)),
            thread::Builder::new().name("stockade-stderr".into()).spawn_scoped(scope, || {
                let to = || Lossy { stderr: streams::stderr() };
                pump(from_stderr, to, escape_stderr)
            }),
        ];
        let ended = handle.result();
        // When the last worker ends, the last ends of the pipes close, and the pumps end.
        pool.shutdown();
        let printed = pumps.map(|pump| pump.and_then(|pump| pump.join().unwrap_or(Ok(()))));
        (ended, printed)
    });
    if args.report {
        streams::say(|to| report::write_report(to, &handle.report(), args.pool.deterministic));
    }
    let saved = observer.ended(1, &handle, || {
        let command = match unreadable {
            Some(number) => command().stdin_error(number),
            None => command().stdin(taped?.bytes()?),
        };
        Some(pool.record_command(command))
    });
    let [stdout, _stderr] = printed;
    match (stdout, &ended) {
        // It got EPIPE, and ended by itself.
        (Err(error), Ok(output))
            if error.kind() == io::ErrorKind::BrokenPipe && output.exit_code != 0 => {}
        (stdout, _) => stdout.map_err(|error| streams::failed(&error))?,
    }
    ended.map(|output| Exit::of_guest(output.exit_code)).map_err(|error| {
        let error = located::error(&error, Some(pool));
        observer.describe(error, &saved)
    })
}

fn check(args: &RunArgs) -> Result<(), Error> {
    let refused = |option: &str, help: &str| {
        let message = format!("`{option}` is for functions, and the module is run as a program");
        Err(Error::new(Exit::Usage, message).help(help))
    };
    if args.bytes.is_some() {
        return refused("--bytes", "give the program its input on stdin: < FILE");
    }
    if args.json {
        return refused("--json", "what the program writes is its own to say");
    }
    if args.output.is_some() {
        return refused("--output", "redirect its stdout: > FILE");
    }
    match args.named.is_empty() {
        true => Ok(()),
        false => refused("--arg", "give the program its arguments after --"),
    }
}

/// The most bytes of stdin that a recording holds.
const TAPE_BYTES_MAX: usize = 64 << 20;

/// The program's stdin so far, for its recording; nothing after it became too long.
#[derive(Clone, Debug)]
struct Tape(Arc<Mutex<Option<Vec<u8>>>>);

impl Default for Tape {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Some(Vec::new()))))
    }
}

impl Tape {
    fn push(&self, bytes: &[u8]) {
        // No code that holds the lock can panic halfway through a change.
        let mut tape = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *tape = tape.take().filter(|tape| tape.len() + bytes.len() <= TAPE_BYTES_MAX).map(
            |mut tape| {
                tape.extend_from_slice(bytes);
                tape
            },
        );
    }

    /// Keeps nothing: the copy is not all that the program saw.
    fn spoil(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The way into a program's stdin.
///
/// The program's end has written a byte here, which is not read while there is input. If a socket
/// is closed with unread data, its other end gets an error after all written data. So failed input
/// does not look like its end, even if this process is killed.
struct Feed(UnixStream);

impl Feed {
    /// One, and the program's end of it.
    fn new() -> io::Result<(Self, UnixStream)> {
        let (feed, mut stdin) = UnixStream::pair()?;
        stdin.write_all(&[0])?;
        Ok((Self(feed), stdin))
    }

    /// The input has ended.
    fn end(mut self) {
        // The byte was written before the program started, so this does not block.
        let _ = self.0.read_exact(&mut [0]);
    }
}

/// Moves this process's stdin into the guest's until either ends.
fn pump_stdin(mut to: Feed, tape: Option<&Tape>) {
    let mut from = streams::stdin();
    let mut buffer = vec![0; PUMP_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return to.end(),
            // Fails after the guest has closed its stdin; the rest is dropped.
            Ok(bytes) => {
                if let Some(tape) = tape {
                    tape.push(&buffer[..bytes]);
                }
                if to.0.write_all(&buffer[..bytes]).is_err() {
                    return;
                }
            }
            Err(error) => {
                if let Some(tape) = tape {
                    tape.spoil();
                }
                // Before the program sees it, and may end.
                tracing::warn!(%error, "stdin cannot be read to its end");
                return drop(to);
            }
        }
    }
}

/// A stderr to which writing never fails.
struct Lossy {
    stderr: Stderr,
}

impl Write for Lossy {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Without a reader, or with a full disk, output is dropped.
        let _ = self.stderr.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies the guest's output to `to` until the guest's end closes. If `to` fails, the guest's next
/// write fails with EPIPE.
fn pump<W: Write>(mut from: PipeReader, to: impl Fn() -> W, escape: bool) -> io::Result<()> {
    let mut buffer = vec![0; PUMP_BYTES];
    let mut escaper = escape.then(Escaper::default);
    loop {
        let bytes = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        match &mut escaper {
            None => to().write_all(&buffer[..bytes])?,
            Some(escaper) => {
                let mut text = String::new();
                escaper.push(&buffer[..bytes], &mut text);
                if bytes == 0 {
                    escaper.finish(&mut text);
                }
                to().write_all(text.as_bytes())?;
            }
        }
        if bytes == 0 {
            return Ok(());
        }
    }
}
