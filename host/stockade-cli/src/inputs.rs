//! The files that a run reads, so that it does not overwrite them.
//!
//! A file is identified by its device and inode, since the same file may be written under another
//! name, through a link, or as stdout.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::args::{MapArgs, PoolArgs, RunArgs};
use crate::error::Error;
use crate::exit::Exit;
use crate::settings;
use crate::target::OWN_ENTRIES;
use crate::values::Given;

/// Device and inode.
type Id = (u64, u64);

/// The files that a run reads, with their descriptions, and those that it writes in addition to
/// results.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    files: HashMap<Id, String>,
    folders: HashMap<Id, String>,
    written: Vec<(&'static str, PathBuf)>,
    /// How often stdin is named as an input.
    stdin_uses: usize,
}

impl Inputs {
    /// The files that `run` reads, except stdin.
    pub(crate) fn of_run(args: &RunArgs) -> Self {
        let mut inputs = Self::of_pool(&args.module, &args.pool);
        let is_call = args.function.as_deref().is_some_and(|name| !OWN_ENTRIES.contains(&name));
        let named = args.named.iter().map(|named| &named.value);
        // A program's arguments are texts.
        for text in args.args.iter().chain(&args.argv).chain(named).filter(|_| is_call) {
            inputs.text(text);
        }
        args.bytes.iter().for_each(|path| inputs.file(path));
        inputs
    }

    /// The files that `map` reads, except stdin.
    pub(crate) fn of_map(args: &MapArgs) -> Self {
        let mut inputs = Self::of_pool(&args.module, &args.pool);
        args.inputs.iter().for_each(|path| inputs.file(path));
        // The plan of programs checks that this is not stdin as well.
        let given = args.program.stdin.iter().filter(|path| path.as_os_str() != "-");
        given.for_each(|path| inputs.file(path));
        if args.inputs.is_empty() && !args.shape.files {
            inputs.stdin_uses += 1;
        }
        inputs
    }

    fn of_pool(module: &Path, args: &PoolArgs) -> Self {
        let mut inputs = Self::default();
        inputs.file(module);
        settings::used().iter().for_each(|path| inputs.file(path));
        for given in &args.init_arg {
            match given {
                Given::Position(text) => inputs.text(text),
                Given::Name(named) => inputs.text(&named.value),
            }
        }
        for grant in &args.grant_dir {
            if let Ok(data) = fs::metadata(&grant.host) {
                inputs.folders.insert(id(&data), grant.host.display().to_string());
            }
        }
        inputs
    }

    /// An argument, which may stand for a file.
    fn text(&mut self, text: &str) {
        if let Some(path) = text.strip_prefix('@') {
            self.file(Path::new(path));
        }
    }

    /// A file, or stdin if it is `-`. Devices and missing files cannot be overwritten.
    pub(crate) fn file(&mut self, path: &Path) {
        if path.as_os_str() == "-" {
            self.stdin_uses += 1;
            return;
        }
        if let Some(id) = file_id(path) {
            self.files.insert(id, path.display().to_string());
        }
    }

    /// Stdin, which is read too.
    pub(crate) fn stdin(&mut self) {
        if let Some(id) = stream_id(&io::stdin()) {
            self.files.insert(id, "the file that is stdin".into());
        }
    }

    /// Refuses to read stdin twice.
    ///
    /// # Errors
    /// That it is named twice.
    pub(crate) fn check_stdin(&self) -> Result<(), Error> {
        match self.stdin_uses {
            0 | 1 => Ok(()),
            _ => Err(Error::new(Exit::Usage, "stdin can be read once, and is named twice")
                .help("write that data to a file, and name the file")),
        }
    }

    /// Whether the file `path` is read.
    pub(crate) fn has(&self, path: &Path) -> bool {
        file_id(path).is_some_and(|id| self.files.contains_key(&id))
    }

    /// Files in granted directories may be this map's results from before an interruption.
    pub(crate) fn goes_on(&mut self) {
        self.folders.clear();
    }

    /// A file of `option` that is written in addition to the results.
    pub(crate) fn writes(&mut self, option: &'static str, path: Option<&Path>) {
        self.written.extend(path.map(|path| (option, path.to_path_buf())));
    }

    /// Refuses a result file that would replace an input or another output.
    ///
    /// # Errors
    /// That it would.
    pub(crate) fn check_result(&self, path: &Path) -> Result<(), Error> {
        let shown = path.display();
        if self.has(path) {
            let message = format!("{shown} is read, and would be overwritten");
            return Err(Error::new(Exit::Usage, message).help("name another directory to write to"));
        }
        if !self.folders.is_empty() {
            self.check_granted(path)?;
        }
        match self.written.iter().find(|(_, written)| same(written, path)) {
            Some((option, _)) => {
                let message = format!("`{option}` names {shown}, which a result is written to");
                Err(Error::new(Exit::Usage, message)
                    .help(format!("name another file for `{option}`, outside of the results")))
            }
            None => Ok(()),
        }
    }

    /// Refuses outputs that are inputs, or that are the same file.
    ///
    /// # Errors
    /// The first of them.
    pub(crate) fn check_outputs(&self, outputs: &[(&str, Option<&Path>)]) -> Result<(), Error> {
        let outputs = outputs.iter().filter_map(|(option, path)| Some((*option, (*path)?)));
        let mut seen: Vec<(&str, &Path)> = Vec::new();
        for (option, path) in outputs {
            if let Some(input) = file_id(path).and_then(|id| self.files.get(&id)) {
                let message = format!("{input} is read, and would be overwritten");
                let because = format!("`{option}` names {}", path.display());
                return Err(Error::new(Exit::Usage, message)
                    .because(because)
                    .help("write to another file"));
            }
            if let Some((other, _)) = seen.iter().find(|(_, other)| same(path, other)) {
                let message = format!("`{other}` and `{option}` name the same file");
                return Err(Error::new(Exit::Usage, message).help("write to another file"));
            }
            seen.push((option, path));
        }
        Ok(())
    }

    /// Refuses a stdout that is an input file: it would be truncated, or grow without end.
    ///
    /// # Errors
    /// That it is.
    pub(crate) fn check_stdout(&self) -> Result<(), Error> {
        match stream_id(&io::stdout()).and_then(|id| self.files.get(&id)) {
            Some(input) => Err(Error::new(
                Exit::Usage,
                format!("{input} is read, and stdout is written to it"),
            )
            .help("write to another file")),
            None => Ok(()),
        }
    }

    /// Refuses to truncate a file of a granted directory, which guests may read.
    ///
    /// # Errors
    /// That `path` is one.
    pub(crate) fn check_granted(&self, path: &Path) -> Result<(), Error> {
        let is_full = fs::metadata(path).is_ok_and(|data| data.is_file() && data.len() > 0);
        let Some(real) = path.canonicalize().ok().filter(|_| is_full) else { return Ok(()) };
        let folder = real.ancestors().skip(1).find_map(|folder| {
            let data = fs::metadata(folder).ok()?;
            self.folders.get(&id(&data))
        });
        match folder {
            Some(folder) => Err(Error::new(
                Exit::Usage,
                format!("{} may be read, and would be overwritten", path.display()),
            )
            .because(format!("it is in {folder}, which is granted to the guest"))
            .help("write to another file, or remove this one")),
            None => Ok(()),
        }
    }
}

fn id(data: &Metadata) -> Id {
    (data.dev(), data.ino())
}

fn file_id(path: &Path) -> Option<Id> {
    fs::metadata(path).ok().filter(Metadata::is_file).map(|data| id(&data))
}

fn stream_id(stream: &impl std::os::fd::AsFd) -> Option<Id> {
    let stat = rustix::fs::fstat(stream).ok()?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    is_file.then_some((stat.st_dev, stat.st_ino))
}

/// Whether two paths are, or will be, one file.
fn same(one: &Path, other: &Path) -> bool {
    match (file_id(one), file_id(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => made(one).is_some_and(|one| made(other) == Some(one)),
        _ => false,
    }
}

/// The canonical path of a file that does not exist yet.
fn made(path: &Path) -> Option<PathBuf> {
    if path.exists() {
        return None;
    }
    let name = path.file_name()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Some(folder.unwrap_or(Path::new(".")).canonicalize().ok()?.join(name))
}
