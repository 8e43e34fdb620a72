//! The input: opened before anything is compiled, then cut into items by a thread of its own.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use stockade::Parameter;

use super::files;
use super::inbox::{self, Inbox, Outbox};
use super::lines::Lines;
use super::program::ItemAs;
use super::rows::{CellReading, Header, Rows};
use crate::args::{InputFormat, MapArgs};
use crate::error::Error;
use crate::exit::Exit;
use crate::streams;

/// The most bytes that a line or a row may have.
pub(crate) const ITEM_BYTES_MAX: usize = 16 << 20;

/// Lines that may be read ahead of the session; and files, which are larger.
const AHEAD: usize = 1024;
const FILES_AHEAD: usize = 2;

const BUFFER_BYTES: usize = 64 << 10;

/// An input that is read in large pieces. A read may block until the next line is typed, so the items
/// that were cut before are handed over first.
pub(crate) struct Reader {
    reader: BufReader<Box<dyn Read + Send>>,
    outbox: Option<Outbox>,
}

impl Reader {
    fn new(from: impl Read + Send + 'static) -> Self {
        let reader = BufReader::with_capacity(BUFFER_BYTES, Box::new(from) as _);
        Self { reader, outbox: None }
    }
}

/// What cuts items from a [`Reader`].
trait Cutter: Iterator<Item = inbox::Read> {
    /// What they are cut from.
    fn reader(&mut self) -> &mut Reader;

    /// Pushes every item to `outbox`, until the inbox is closed.
    fn push_all(mut self, outbox: Outbox)
    where
        Self: Sized,
    {
        self.reader().outbox = Some(outbox);
        while let Some(item) = self.next() {
            let outbox = self.reader().outbox.as_mut();
            if outbox.is_none_or(|outbox| outbox.push(item).is_err()) {
                return;
            }
        }
    }
}

impl Cutter for Lines<Reader> {
    fn reader(&mut self) -> &mut Reader {
        self.reader_mut()
    }
}

impl Cutter for Rows<Reader> {
    fn reader(&mut self) -> &mut Reader {
        self.reader_mut()
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.reader.buffer().is_empty()
            && let Some(outbox) = &mut self.outbox
            && !outbox.hand_over()
        {
            // The inbox is closed: what would be read is not wanted.
            return Ok(&[]);
        }
        self.reader.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.reader.consume(count);
    }
}

/// An input that is open.
pub(crate) enum Input {
    /// Lines, each one text or one JSON value.
    Lines { reader: Reader, bytes: Option<u64>, are_texts: bool },
    /// Rows below a header.
    Rows { rows: Box<Rows<Reader>>, bytes: Option<u64> },
    /// Files.
    Files(Vec<Arc<Path>>),
    /// Files whose paths are the items, and that are not read here.
    Paths(Vec<Arc<Path>>),
}

impl Input {
    /// Opens what the command line names.
    ///
    /// # Errors
    /// A file that cannot be read, or a combination that means nothing.
    pub(crate) fn open(args: &MapArgs) -> Result<Self, Error> {
        if args.shape.files {
            let files = files::check(args)?;
            let by_path = args.program.program && args.item() == ItemAs::File;
            return Ok(if by_path { Self::Paths(files) } else { Self::Files(files) });
        }
        let path = match args.inputs.as_slice() {
            [] => Path::new("-"),
            [one] => one,
            [_, second, ..] => {
                let message = format!("one FILE is the input, and `{}` is another", shown(second));
                return Err(Error::new(Exit::Usage, message)
                    .help("`--files` makes every file one task: stockade map MODULE FUNCTION --files *.png"));
            }
        };
        let (reader, bytes) = open(path)?;
        if args.format == InputFormat::Csv {
            let delimiter = args.shape.delimiter.map_or(b',', |delimiter| delimiter.0);
            return Ok(Self::Rows { rows: Box::new(Rows::new(reader, delimiter)), bytes });
        }
        Ok(Self::Lines { reader, bytes, are_texts: args.format == InputFormat::Text })
    }

    /// How much there is: bytes of a file, or a number of files. `None` where only the end tells.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Self::Lines { bytes, .. } | Self::Rows { bytes, .. } => *bytes,
            Self::Files(files) | Self::Paths(files) => Some(files.len() as u64),
        }
    }

    /// Reads the header, where there is one, for a function with these parameters. Blocks until it
    /// is there.
    ///
    /// # Errors
    /// An input that cannot be read, or a header that does not fit the function.
    pub(crate) fn header(
        &mut self,
        params: &Params<'_>,
        reading: CellReading,
    ) -> Result<Option<Header>, Error> {
        let Self::Rows { rows, .. } = self else { return Ok(None) };
        let names = rows.header().map_err(|error| unreadable(&error))?;
        Header::new(names, params, reading).map(Some)
    }

    /// How many items may lie in the session's inbox.
    pub(crate) fn ahead(&self) -> usize {
        match self {
            Self::Files(_) => FILES_AHEAD,
            _ => AHEAD,
        }
    }

    /// Cuts the input into items, in a thread of its own that stops when `inbox` is closed. All items are
    /// handed over before more is read.
    ///
    /// # Errors
    /// A thread that the system does not start.
    pub(crate) fn spawn(self, inbox: Arc<Inbox>) -> io::Result<JoinHandle<()>> {
        let mut outbox = Outbox::new(inbox);
        std::thread::Builder::new().name("stockade-input".into()).spawn(move || match self {
            Self::Lines { reader, are_texts, .. } => Lines::new(reader, are_texts).push_all(outbox),
            Self::Rows { rows, .. } => rows.push_all(outbox),
            // Each takes as long to read as its task.
            Self::Files(files) => {
                files::items(files).all(|file| outbox.push(Ok(file)).is_ok() && outbox.hand_over());
            }
            Self::Paths(files) => {
                files::paths(files).all(|path| outbox.push(Ok(path)).is_ok());
            }
        })
    }
}

/// What is known of the parameters that items are for.
pub(crate) enum Params<'a> {
    /// Their names and types.
    Named(&'a [Parameter]),
    /// How many numbers there are.
    Numbers(usize),
    /// Nothing.
    Unknown,
}

/// The error of an input that ended in the middle.
pub(crate) fn unreadable(error: &io::Error) -> Error {
    Error::new(Exit::Missing, "cannot read the input").cause(error)
}

fn open(path: &Path) -> Result<(Reader, Option<u64>), Error> {
    if path.as_os_str() == "-" {
        return Ok((Reader::new(streams::stdin()), None));
    }
    let failed = |error| {
        let message = format!("cannot read the input {}", path.display());
        Error::new(Exit::Missing, message).cause(&error).help("- stands for stdin")
    };
    let file = streams::open(path).map_err(failed)?;
    let data = file.0.metadata().map_err(failed)?;
    if data.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into())
            .help("`--files` makes every file one task: --files DIR/*"));
    }
    let bytes = data.is_file().then_some(data.len());
    Ok((Reader::new(file), bytes))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
