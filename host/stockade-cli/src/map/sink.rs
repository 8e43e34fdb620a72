//! The sink: where records go, a line after the other or a file each.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::options::SinkArgs;
use super::record::Output;
use super::state::Reached;
use crate::error::Error;
use crate::exit::Exit;
use crate::output;

const BUFFER_BYTES: usize = 64 << 10;

/// Where records go.
pub(crate) enum Sink {
    Stdout(BufWriter<io::StdoutLock<'static>>),
    File(Box<Tracked>),
    Directory(PathBuf),
}

/// A file that knows what is in it.
pub(crate) struct Tracked {
    file: BufWriter<File>,
    path: PathBuf,
    bytes: u64,
    hasher: blake3::Hasher,
}

impl Sink {
    /// Opens what the command line names; where the map goes on, as it was at `reached`.
    ///
    /// # Errors
    /// What the system refuses, and an output that somebody changed since.
    pub(crate) fn open(args: &SinkArgs, reached: Option<&Reached>) -> Result<Self, Error> {
        if let Some(directory) = &args.output_dir {
            fs::create_dir_all(directory).map_err(|error| cannot("make", directory, &error))?;
            return Ok(Self::Directory(directory.clone()));
        }
        let Some(path) = args.output.as_ref().filter(|path| path.as_os_str() != "-") else {
            return Ok(Self::Stdout(BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock())));
        };
        let refused = |error: io::Error| cannot("write", path, &error);
        let mut file = OpenOptions::new();
        file.read(true).write(true).create(true).truncate(reached.is_none());
        let mut file = file.open(path).map_err(refused)?;
        let mut hasher = blake3::Hasher::new();
        let bytes = reached.map_or(0, |reached| reached.output_bytes);
        if let Some(reached) = reached {
            let mut known = io::Read::take(&file, bytes);
            let found = io::copy(&mut known, &mut hasher).map_err(refused)?;
            if found < bytes || hasher.finalize().to_hex().as_str() != reached.output_digest {
                let message = format!("the output {} was changed since", path.display());
                return Err(Error::new(Exit::Output, message)
                    .because(format!(
                        "the first {bytes} bytes of it are not what was written, so that going on could lose or repeat items"
                    ))
                    .help("put it back as it was, or begin anew: remove both it and the state"));
            }
            // What was written after the state was is written again.
            file.set_len(bytes).map_err(refused)?;
            io::Seek::seek(&mut file, io::SeekFrom::Start(bytes)).map_err(refused)?;
        }
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        Ok(Self::File(Box::new(Tracked { file, path: path.clone(), bytes, hasher })))
    }

    /// Whether records go to this process's stdout.
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(self, Self::Stdout(_))
    }

    /// Whether something waits for [`flush`](Self::flush).
    pub(crate) fn is_waiting(&self) -> bool {
        match self {
            Self::Stdout(stdout) => !stdout.buffer().is_empty(),
            Self::File(tracked) => !tracked.file.buffer().is_empty(),
            Self::Directory(_) => false,
        }
    }

    /// Writes what there is of one item.
    ///
    /// # Errors
    /// What the system refuses, a reader that has gone included.
    pub(crate) fn write(&mut self, output: &Output) -> Result<(), Error> {
        match (self, output) {
            (_, Output::Nothing) => Ok(()),
            (Self::Stdout(stdout), Output::Line(line)) => {
                writeln!(stdout, "{line}").map_err(|error| output::failed(&error))
            }
            (Self::File(tracked), Output::Line(line)) => tracked.write(line),
            (Self::Directory(directory), Output::File { name, bytes, obsolete }) => {
                write_file(directory, name, bytes, obsolete)
            }
            // A directory is given files, and nothing else is.
            (_, Output::Line(_) | Output::File { .. }) => Ok(()),
        }
    }

    /// Hands everything to the system.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        match self {
            Self::Stdout(stdout) => stdout.flush().map_err(|error| output::failed(&error)),
            Self::File(tracked) => {
                let Tracked { file, path, .. } = &mut **tracked;
                file.flush().map_err(|error| cannot("write", path, &error))
            }
            Self::Directory(_) => Ok(()),
        }
    }

    /// Makes sure that everything is on the disk, and tells how much there is.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(crate) fn keep(&mut self) -> Result<(u64, String), Error> {
        self.flush()?;
        match self {
            Self::Stdout(_) => Ok((0, String::new())),
            Self::File(tracked) => {
                let Tracked { file, path, bytes, hasher } = &mut **tracked;
                file.get_ref().sync_data().map_err(|error| cannot("write", path, &error))?;
                Ok((*bytes, hasher.finalize().to_hex().to_string()))
            }
            Self::Directory(directory) => {
                // All files of it at once: one by one would take as long as many of their tasks.
                let kept = File::open(&*directory)
                    .and_then(|directory| rustix::fs::syncfs(&directory).map_err(Into::into));
                kept.map_err(|error| cannot("write", directory, &error))?;
                Ok((0, String::new()))
            }
        }
    }
}

impl Tracked {
    fn write(&mut self, line: &str) -> Result<(), Error> {
        for piece in [line.as_bytes(), b"\n"] {
            self.file.write_all(piece).map_err(|error| cannot("write", &self.path, &error))?;
            self.hasher.update(piece);
            self.bytes += piece.len() as u64;
        }
        Ok(())
    }
}

/// Writes a file that is never there by half.
fn write_file(directory: &Path, name: &Path, bytes: &[u8], obsolete: &Path) -> Result<(), Error> {
    let path = directory.join(name);
    let refused = |error: io::Error| cannot("write", &path, &error);
    let mut partial = path.clone().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    fs::write(&partial, bytes).map_err(refused)?;
    fs::rename(&partial, &path).map_err(refused)?;
    match fs::remove_file(directory.join(obsolete)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(refused(error)),
        _ => Ok(()),
    }
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::new(Exit::Output, format!("cannot {what} {}", path.display())).cause(error)
}
