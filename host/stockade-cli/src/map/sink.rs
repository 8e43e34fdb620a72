//! The sink: where records go, a line after the other or a file each.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::options::SinkArgs;
use super::record::Output;
use super::state::Reached;
use crate::aside;
use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;
use crate::streams::{self, Stdout, Waiting};

const BUFFER_BYTES: usize = 64 << 10;

/// Where records go.
pub(crate) struct Sink {
    to: To,
    /// Buffered whole lines.
    waiting: Vec<u8>,
}

enum To {
    Stdout(Stdout),
    File(Box<Tracked>),
    /// With the files that are read, which no result may replace.
    Directory(PathBuf, Inputs),
}

/// A file that knows what is in it.
struct Tracked {
    file: Waiting<File>,
    path: PathBuf,
    /// Whether this run made it.
    is_new: bool,
    bytes: u64,
    hasher: blake3::Hasher,
}

impl Sink {
    /// Opens what the command line names; where the map goes on, as it was at `reached`.
    ///
    /// # Errors
    /// What the system refuses, and an output that was changed since.
    pub(crate) fn open(
        args: &SinkArgs,
        reached: Option<&Reached>,
        inputs: Inputs,
    ) -> Result<Self, Error> {
        Ok(Self { to: To::open(args, reached, inputs)?, waiting: Vec::new() })
    }

    /// An item is in the file `path`, which no later result replaces: results have files in one
    /// directory, so no others are kept in mind.
    pub(crate) fn reads(&mut self, path: &Path) {
        if let To::Directory(directory, inputs) = &mut self.to
            && let Some(parent) = path.parent()
            && directory.canonicalize().is_ok_and(|directory| directory == parent)
        {
            inputs.file(path);
        }
    }

    /// Whether records go to this process's stdout.
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(self.to, To::Stdout(_))
    }

    /// Whether lines are buffered.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether the buffer should be flushed.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= BUFFER_BYTES
    }

    /// Writes the file of one item, or buffers its line until the next [`flush`](Self::flush).
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn write(&mut self, output: &Output) -> Result<(), Error> {
        match (&self.to, output) {
            (To::Directory(directory, inputs), Output::File { name, bytes, obsolete }) => {
                return write_file(inputs, directory, name, bytes, obsolete);
            }
            (To::Stdout(_) | To::File(_), Output::Line(line)) => {
                self.waiting.extend_from_slice(line.as_bytes());
                self.waiting.push(b'\n');
            }
            // A directory is given files, and nothing else is.
            (_, Output::Nothing | Output::Line(_) | Output::File { .. }) => {}
        }
        Ok(())
    }

    /// Writes all buffered lines.
    ///
    /// # Errors
    /// What the system refuses, a reader that has gone included.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        let written = match &mut self.to {
            To::Stdout(stdout) => {
                stdout.write_all(&self.waiting).map_err(|error| streams::failed(&error))
            }
            To::File(tracked) => tracked.write(&self.waiting),
            To::Directory(..) => Ok(()),
        };
        self.waiting.clear();
        written
    }

    /// Syncs everything to the disk. Returns the output's bytes and their digest.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub(crate) fn keep(&mut self) -> Result<(u64, String), Error> {
        self.flush()?;
        match &mut self.to {
            To::Stdout(_) => Ok((0, String::new())),
            To::File(tracked) => {
                let Tracked { file, path, bytes, hasher, .. } = &mut **tracked;
                file.0.sync_data().map_err(|error| cannot("write", path, &error))?;
                Ok((*bytes, hasher.finalize().to_hex().to_string()))
            }
            To::Directory(directory, _) => {
                // All files of it at once: one by one would take as long as many of their tasks.
                let kept = File::open(&*directory)
                    .and_then(|directory| rustix::fs::syncfs(&directory).map_err(Into::into));
                kept.map_err(|error| cannot("write", directory, &error))?;
                Ok((0, String::new()))
            }
        }
    }
}

impl To {
    fn open(args: &SinkArgs, reached: Option<&Reached>, mut inputs: Inputs) -> Result<Self, Error> {
        if reached.is_some() {
            inputs.goes_on();
        }
        if let Some(directory) = &args.output_dir {
            fs::create_dir_all(directory).map_err(|error| cannot("make", directory, &error))?;
            return Ok(Self::Directory(directory.clone(), inputs));
        }
        let Some(path) = args.output.as_ref().filter(|path| path.as_os_str() != "-") else {
            return Ok(Self::Stdout(streams::stdout()));
        };
        let refused = |error: io::Error| cannot("write", path, &error);
        inputs.check_granted(path)?;
        let is_new = !path.exists();
        let mut file = OpenOptions::new();
        // A pipe that is open for reading too always has a reader, which reads nothing.
        file.read(is_new || path.is_file());
        file.write(true).create(true).truncate(reached.is_none());
        let mut file = match streams::named(path).map_err(refused)? {
            Some(stream) => stream,
            None => file.open(path).map_err(refused)?,
        };
        let mut hasher = blake3::Hasher::new();
        let bytes = reached.map_or(0, |reached| reached.output_bytes);
        if let Some(reached) = reached {
            let mut known = io::Read::take(&file, bytes);
            let found = io::copy(&mut known, &mut hasher).map_err(refused)?;
            if found < bytes || hasher.finalize().to_hex().as_str() != reached.output_digest {
                let message =
                    format!("the output {} was changed after it was written", path.display());
                return Err(Error::new(Exit::Output, message)
                    .because(format!(
                        "the first {bytes} bytes of it are not what was written, so continuing \
                         could lose or repeat items"
                    ))
                    .help("restore it, or start over: remove both it and the state"));
            }
            // What was written after the state was is written again.
            file.set_len(bytes).map_err(refused)?;
            io::Seek::seek(&mut file, io::SeekFrom::Start(bytes)).map_err(refused)?;
        }
        let (file, path) = (Waiting(file), path.clone());
        Ok(Self::File(Box::new(Tracked { file, path, is_new, bytes, hasher })))
    }
}

impl Tracked {
    fn write(&mut self, lines: &[u8]) -> Result<(), Error> {
        self.file.write_all(lines).map_err(|error| {
            self.cut();
            cannot("write", &self.path, &error)
        })?;
        self.hasher.update(lines);
        self.bytes += lines.len() as u64;
        Ok(())
    }

    /// Truncates the output to whole lines, since the disk is full. Removes a file that this run made and
    /// that holds no line.
    fn cut(&self) {
        let Ok(end) = last_line_end(&self.file.0) else { return };
        let _ = self.file.0.set_len(end);
        if end == 0 && self.is_new {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Where the last whole line of an ordinary file ends.
fn last_line_end(file: &File) -> io::Result<u64> {
    const PIECE: u64 = 64 << 10;
    let data = file.metadata()?;
    if !data.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut end = data.len();
    while end > 0 {
        let start = end.saturating_sub(PIECE);
        let mut bytes = vec![0; (end - start) as usize];
        file.read_exact_at(&mut bytes, start)?;
        if let Some(at) = bytes.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Writes a file that is never there by half.
fn write_file(
    inputs: &Inputs,
    directory: &Path,
    name: &Path,
    bytes: &[u8],
    obsolete: &Path,
) -> Result<(), Error> {
    let (path, obsolete) = (directory.join(name), directory.join(obsolete));
    inputs.check_result(&path)?;
    let refused = |error: io::Error| cannot("write", &path, &error);
    aside::write(&path, bytes).map_err(refused)?;
    if inputs.has(&obsolete) {
        return Ok(());
    }
    match fs::remove_file(obsolete) {
        // Nor can one be there whose name is too long.
        Err(error)
            if error.kind() != io::ErrorKind::NotFound
                && error.raw_os_error() != Some(Errno::NAMETOOLONG.raw_os_error()) =>
        {
            Err(refused(error))
        }
        _ => Ok(()),
    }
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::new(Exit::Output, format!("cannot {what} {}", path.display()))
        .cause(error)
        .help_with_directory(path)
}
