//! `stockade map`: a function over the lines of an input, as they come.
//!
//! ```text
//! input ──► Lines ──► call ──► Pool ──► Order ──► Record ──► stdout
//!          a thread    ╰───── Session: this thread ─────╯
//! ```
//!
//! The session takes a line only when there is room for it, so an input without end and a reader
//! that is slow both work in bounded memory; and it flushes whenever nothing else is ready, so that
//! a result never waits for the next line of input.
//!
//! Invariant: a line that was taken is written once, as its result or its error, unless it never ran
//! because the map was ended.

mod call;
mod interrupt;
mod lines;
mod order;
mod record;
mod session;
mod tally;
mod watch;

use std::fs::File;
use std::io::{BufReader, Read};

use stockade::Pool;

use crate::args::{InputFormat, MapArgs};
use crate::error::Error;
use crate::exit::Exit;
use crate::observe::Observer;
use crate::target::{self, Shape, Target};
use crate::{output, setup};

use interrupt::Interrupts;
use session::Session;

/// Runs what the command line asks for.
///
/// # Errors
/// Whatever kept the map from starting, or ended it early. A line that failed is no error here.
pub(crate) fn run(args: &MapArgs) -> Result<Exit, Error> {
    // First, because compiling takes longer than finding out.
    let input = open(args)?;
    let observer = Observer::new(&args.observe)?;
    let observer = if args.top { observer.with_top()? } else { observer };
    let workers = args.workers.map(|workers| workers as usize);
    let pool = setup::pool(&args.module, &args.pool, workers, &observer)?;
    check_target(&pool, args)?;
    let refused = |error| Error::new(Exit::Internal, "the system refused to start").cause(&error);
    let interrupts = Interrupts::watch().map_err(refused)?;
    let (lines, reader) = lines::spawn(input, args.chunk as usize).map_err(refused)?;
    let ended = Session::new(&pool, args, lines, interrupts.receiver(), observer).run();
    if matches!(ended, Ok(Exit::Success | Exit::SomeFailed)) {
        // It has ended: the input has. Otherwise it may wait for a line that never comes, and ends
        // with the process.
        let _ = reader.join();
    }
    let unread = ended.as_ref().is_err_and(|error| error.exit() == Exit::ReaderGone);
    if unread {
        pool.kill();
        return ended;
    }
    let closed = setup::close(&pool);
    let exit = ended?;
    closed.map(|()| exit)
}

fn open(args: &MapArgs) -> Result<BufReader<Box<dyn Read + Send>>, Error> {
    const BUFFER_BYTES: usize = 64 << 10;
    let file: Box<dyn Read + Send> = if args.file.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        let failed = |error| {
            let message = format!("cannot read the input {}", args.file.display());
            Error::new(Exit::Missing, message).cause(&error).help("- stands for stdin")
        };
        let file = File::open(&args.file).map_err(failed)?;
        if file.metadata().is_ok_and(|data| data.is_dir()) {
            return Err(failed(std::io::ErrorKind::IsADirectory.into()));
        }
        Box::new(file)
    };
    Ok(BufReader::with_capacity(BUFFER_BYTES, file))
}

/// Refuses, before anything is read, what would be wrong for every line.
fn check_target(pool: &Pool, args: &MapArgs) -> Result<(), Error> {
    if args.args && args.format == InputFormat::Text {
        return Err(Error::new(Exit::Usage, "`--args` needs lines of JSON, not of text"));
    }
    let targets = pool.modules().next().map(|(_, module)| target::targets(module));
    let targets = targets.unwrap_or_default();
    let Some(target) = targets.iter().find(|target| target.name == args.function) else {
        // The library knows best what was meant.
        let refused = pool.submit::<()>(&args.function, stockade::Json::new()).map(|_| ());
        return Ok(refused?);
    };
    if target.shape == Shape::Command {
        return Err(Error::new(Exit::Call, "a program is run once, not for every line")
            .help("`stockade run MODULE -- ARGV...` runs it, with stdin passed through"));
    }
    match target.arity() {
        Some(arity) if arity != 1 && !args.args => Err(wrong_arity(target, arity)),
        _ => Ok(()),
    }
}

fn wrong_arity(target: &Target<'_>, arity: usize) -> Error {
    let message = format!("`{}` takes {arity} arguments, and a line is one", target.signature());
    Error::new(Exit::Call, message).help("with `--args` each line holds them all, as in [1, 2]")
}

impl From<std::io::Error> for Error {
    /// What writing to stdout ended in.
    fn from(error: std::io::Error) -> Self {
        output::failed(&error)
    }
}
