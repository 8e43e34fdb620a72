//! The command's own streams: what it was given as stdin, stdout and stderr.
//!
//! ```text
//! before main: closed ─┐
//! stdin, stdout, stderr ┴► Stream: waits where it would block, calls again where it was interrupted
//!                           ├► print: a command's whole answer, at once       74 where it cannot be written
//!                           └► say: words for people                         nobody's end
//! ```
//!
//! A descriptor's flags belong to everybody who shares it, so any of the three may be non-blocking, and
//! only those that open them know what they are: a directory, closed, open the wrong way round. The
//! standard library opens `/dev/null` in the place of a closed one, so that is looked at before it does,
//! and its buffers would lose what was not written when a write would block, so they are not used.
//!
//! Invariant: nothing else in this command reads stdin or writes stdout and stderr, but for the progress
//! bars, which draw on terminals.

mod closed;
mod reader;

use std::fs::File;
use std::io::{self, IsTerminal, Read, StderrLock, StdoutLock, Write};
use std::os::fd::AsFd;
use std::path::Path;

use anstream::AutoStream;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::error::Error;
use crate::exit::Exit;

pub(crate) use reader::{Reader, has_left};

/// One of the three, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
}

/// Stdin.
#[derive(Debug)]
pub(crate) struct Stdin(io::Stdin);

/// Stdin, of which nothing is read ahead.
pub(crate) fn stdin() -> Stdin {
    Stdin(io::stdin())
}

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        check_open(Name::Stdin)?;
        read(&self.0, buffer)
    }
}

/// Stdout, which nobody else writes to meanwhile. Nothing is buffered.
#[derive(Debug)]
pub(crate) struct Stdout(StdoutLock<'static>);

/// Stdout, once nobody else writes to it.
pub(crate) fn stdout() -> Stdout {
    Stdout(io::stdout().lock())
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        check_open(Name::Stdout)?;
        write(&self.0, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Stderr, as [`Stdout`].
#[derive(Debug)]
pub(crate) struct Stderr(StderrLock<'static>);

/// Stderr, once nobody else writes to it.
pub(crate) fn stderr() -> Stderr {
    Stderr(io::stderr().lock())
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        check_open(Name::Stderr)?;
        write(&self.0, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a command's answer to stdout, in colours where a person sees them.
///
/// # Errors
/// A stdout that cannot be written.
pub(crate) fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    let choice = AutoStream::choice(&io::stdout());
    let mut text = AutoStream::new(Vec::new(), choice);
    let written = write(&mut text).and_then(|()| stdout().write_all(&text.into_inner()));
    written.map_err(|error| failed(&error))
}

/// Writes words for people to stderr, in colours where a person sees them. Where nobody reads it, or it
/// takes no more, nobody wants them.
pub(crate) fn say(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
    let choice = AutoStream::choice(&io::stderr());
    let mut text = AutoStream::new(Vec::new(), choice);
    let _ = write(&mut text).and_then(|()| stderr().write_all(&text.into_inner()));
}

/// The error of a stdout that cannot be written.
pub(crate) fn failed(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Error::silent(Exit::ReaderGone),
        _ => Error::new(Exit::Output, "cannot write to stdout").cause(error),
    }
}

/// Makes sure that stdout can be written, as far as that can be known before.
///
/// # Errors
/// If it is closed, or not open for writing.
pub(crate) fn check_stdout() -> Result<(), Error> {
    check_open(Name::Stdout)
        .and_then(|()| check_mode(&io::stdout(), OFlags::RDONLY))
        .map_err(|error| failed(&error))
}

/// Makes sure that stdin can be read, as far as that can be known before.
///
/// # Errors
/// If it is closed, a directory, or not open for reading.
pub(crate) fn check_stdin() -> Result<(), Error> {
    stdin_problem()
        .map_or(Ok(()), |error| Err(Error::new(Exit::Missing, "cannot read stdin").cause(&error)))
}

/// Why stdin cannot be read, as far as that can be known before.
pub(crate) fn stdin_problem() -> Option<io::Error> {
    let is_directory = || match rustix::fs::fstat(io::stdin()) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            Err(Errno::ISDIR.into())
        }
        _ => Ok(()),
    };
    check_open(Name::Stdin)
        .and_then(|()| check_mode(&io::stdin(), OFlags::WRONLY))
        .and_then(|()| is_directory())
        .err()
}

impl Name {
    /// The one that a path stands for.
    fn of(path: &Path) -> Option<Self> {
        let number = ["/dev/fd/", "/proc/self/fd/"]
            .into_iter()
            .find_map(|folder| path.to_str()?.strip_prefix(folder));
        match (path.to_str()?, number) {
            ("/dev/stdin", _) | (_, Some("0")) => Some(Self::Stdin),
            ("/dev/stdout", _) | (_, Some("1")) => Some(Self::Stdout),
            ("/dev/stderr", _) | (_, Some("2")) => Some(Self::Stderr),
            _ => None,
        }
    }

    /// The stream itself, as a file.
    fn duplicate(self) -> io::Result<File> {
        let descriptor = match self {
            Self::Stdin => io::stdin().as_fd().try_clone_to_owned(),
            Self::Stdout => io::stdout().as_fd().try_clone_to_owned(),
            Self::Stderr => io::stderr().as_fd().try_clone_to_owned(),
        };
        Ok(descriptor?.into())
    }
}

/// Whether a path stands for one of the three streams.
pub(crate) fn is_named(path: &Path) -> bool {
    Name::of(path).is_some()
}

/// Refuses a path that stands for a stream which was closed: `/dev/null` is in its place.
///
/// # Errors
/// That it is one.
pub(crate) fn check_named(path: &Path) -> io::Result<()> {
    Name::of(path).map_or(Ok(()), check_open)
}

/// Opens a file to read it. A path may stand for one of the three streams.
///
/// # Errors
/// What the system refuses, and a stream that was closed.
pub(crate) fn open(path: &Path) -> io::Result<Waiting<File>> {
    check_named(path)?;
    match (File::open(path), Name::of(path)) {
        // A socket is there, and cannot be opened by a name.
        (Err(error), Some(name)) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
            name.duplicate().map(Waiting)
        }
        (file, _) => file.map(Waiting),
    }
}

/// The stream that a path stands for, to write to it behind what is there; `None` where it is a file
/// of its own.
///
/// # Errors
/// A stream that was closed.
pub(crate) fn named(path: &Path) -> io::Result<Option<File>> {
    check_named(path)?;
    Name::of(path).map(Name::duplicate).transpose()
}

fn check_open(name: Name) -> io::Result<()> {
    if closed::at_start(name as u8) { Err(Errno::BADF.into()) } else { Ok(()) }
}

/// Refuses a descriptor that is open in the mode `wrong`.
fn check_mode(stream: &impl AsFd, wrong: OFlags) -> io::Result<()> {
    match rustix::fs::fcntl_getfl(stream)? {
        flags if flags.contains(OFlags::PATH) || flags & OFlags::RWMODE == wrong => {
            Err(Errno::BADF.into())
        }
        _ => Ok(()),
    }
}

/// Reads what is there, or waits for it.
fn read(from: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::read(from, &mut *buffer) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(from, PollFlags::IN)?,
            other => return Ok(other?),
        }
    }
}

/// Writes some of `bytes` once there is room.
fn write(to: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match rustix::io::write(to, bytes) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(to, PollFlags::OUT)?,
            other => return Ok(other?),
        }
    }
}

fn wait(stream: &impl AsFd, what: PollFlags) -> io::Result<()> {
    match rustix::event::poll(&mut [PollFd::new(stream, what)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A file that is read as [`Stdin`] is: it may be a pipe that does not block.
#[derive(Debug)]
pub(crate) struct Waiting<T>(pub(crate) T);

impl<T: AsFd> Read for Waiting<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read(&self.0, buffer)
    }
}

impl<T: AsFd> Write for Waiting<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(&self.0, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a person sees stdout.
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether a person sees stderr.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use rustix::fs::{fcntl_getfl, fcntl_setfl};

    use super::*;

    fn do_not_block(descriptor: &OwnedFd) {
        fcntl_setfl(descriptor, fcntl_getfl(descriptor).unwrap() | OFlags::NONBLOCK).unwrap();
    }

    #[test]
    fn what_does_not_block_is_waited_for() {
        let (reader, writer) = io::pipe().unwrap();
        let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
        do_not_block(&reader);
        do_not_block(&writer);
        let bytes: Vec<u8> = (0..1 << 20).map(|n: u32| n as u8).collect();
        let sent = bytes.clone();
        let sender = std::thread::spawn(move || Waiting(writer).write_all(&sent));
        let mut came = Vec::new();
        Waiting(reader).read_to_end(&mut came).unwrap();
        sender.join().unwrap().unwrap();
        assert!(came == bytes);
    }
}
