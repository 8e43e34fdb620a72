//! Command modules: whole programs, with stdin, stdout and stderr passed through as they go.
//!
//! ```text
//! stdin  ──pump──► pipe ──► worker     the worker never holds a terminal, nor a file of the user's
//! stdout ◄──pump── pipe ◄── worker
//! stderr ◄──pump── pipe ◄── worker
//! ```
//!
//! Invariant: what reaches a terminal is escaped, unless the user said that the program may control
//! it; what goes anywhere else passes byte for byte.

use std::ffi::OsStr;
use std::io::{self, IsTerminal, PipeReader, PipeWriter, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use stockade::{Command, CommandOutput, MachineError, Pool, TaskHandle};

use crate::args::RunArgs;
use crate::error::Error;
use crate::escape::Escaper;
use crate::exit::Exit;
use crate::observe::Observer;
use crate::{located, output, report};

/// Bytes that a pump moves at a time: what a pipe holds.
const PUMP_BYTES: usize = 64 << 10;

/// Runs the pool's command module, and ends as it does.
///
/// # Errors
/// How the program ended, where it did not exit.
pub(crate) fn run(pool: &Pool, args: &RunArgs, observer: &mut Observer) -> Result<Exit, Error> {
    check(args)?;
    let no_pipe = |error| Error::new(Exit::Internal, "cannot make a pipe").cause(&error);
    let (stdin, to_guest) = io::pipe().map_err(no_pipe)?;
    let (from_stdout, stdout) = io::pipe().map_err(no_pipe)?;
    let (from_stderr, stderr) = io::pipe().map_err(no_pipe)?;
    let name = args.module.file_name().map_or_else(Default::default, OsStr::to_string_lossy);
    let command = || Command::new(&*name).args(args.args.iter().chain(&args.argv).cloned());
    let taped = observer.keeps_arguments().then(Tape::default);
    let tape = taped.clone();
    let command_now = command().stdin_from(stdin).stdout_to(stdout).stderr_to(stderr);
    let handle = pool.submit_command(command_now)?;
    let no_thread = |error| Error::of_machine(&MachineError::of("start a thread", &error));
    // Nobody joins it: it may wait for input that never comes, and ends with the process.
    thread::Builder::new()
        .name("stockade-stdin".into())
        .spawn(move || pump_stdin(to_guest, tape.as_ref()))
        .map_err(no_thread)?;
    let escaped = |is_terminal| is_terminal && !args.allow_terminal_control;
    let escape_stdout = escaped(io::stdout().is_terminal());
    let escape_stderr = escaped(io::stderr().is_terminal());
    let (ended, printed) = thread::scope(|scope| {
        let pumps = [
            thread::Builder::new().name("stockade-stdout".into()).spawn_scoped(scope, || {
                pump(from_stdout, &mut io::stdout(), escape_stdout, &handle)
            }),
            thread::Builder::new().name("stockade-stderr".into()).spawn_scoped(scope, || {
                pump(from_stderr, &mut io::stderr(), escape_stderr, &handle)
            }),
        ];
        let ended = handle.result();
        // With the last worker the last ends of the pipes go, and so do the pumps.
        pool.shutdown();
        let printed = pumps.map(|pump| pump.and_then(|pump| pump.join().unwrap_or(Ok(()))));
        (ended, printed)
    });
    if args.report {
        // Where stderr is closed, nobody wants this.
        let _ = report::write_report(
            &mut io::stderr().lock(),
            &handle.report(),
            args.pool.deterministic,
        );
    }
    let saved =
        observer.ended(1, &handle, || Some(pool.record_command(command().stdin(taped?.bytes()?))));
    let [stdout, _stderr] = printed;
    stdout.map_err(|error| output::failed(&error))?;
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

/// What the program was given on stdin so far, for its recording; nothing once that is too much.
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

    fn bytes(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Moves this process's stdin into the guest's until either ends.
fn pump_stdin(mut to: PipeWriter, tape: Option<&Tape>) {
    let mut from = io::stdin().lock();
    let mut buffer = vec![0; PUMP_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            // Fails once the guest is gone or reads no more, and then nobody wants the rest.
            Ok(bytes) => {
                if let Some(tape) = tape {
                    tape.push(&buffer[..bytes]);
                }
                if to.write_all(&buffer[..bytes]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // To the guest, input that cannot be read has ended.
            Err(_) => return,
        }
    }
}

/// Moves what the guest writes to `to` until the guest's end closes. Where `to` takes no more, the
/// program is ended, as a signal would.
fn pump(
    mut from: PipeReader,
    to: &mut dyn Write,
    escape: bool,
    handle: &TaskHandle<CommandOutput>,
) -> io::Result<()> {
    let mut buffer = vec![0; PUMP_BYTES];
    let mut escaper = escape.then(Escaper::default);
    loop {
        let bytes = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let written = match &mut escaper {
            None => to.write_all(&buffer[..bytes]),
            Some(escaper) => {
                let mut text = String::new();
                escaper.push(&buffer[..bytes], &mut text);
                if bytes == 0 {
                    escaper.finish(&mut text);
                }
                to.write_all(text.as_bytes())
            }
        };
        written.and_then(|()| to.flush()).inspect_err(|_| handle.cancel_running())?;
        if bytes == 0 {
            return Ok(());
        }
    }
}
