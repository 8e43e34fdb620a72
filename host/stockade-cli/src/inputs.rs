//! What a run reads, so that it writes over none of it.
//!
//! A file is known by its device and inode: one that is read may be written under another name, through a
//! link, or as stdin and stdout, whose names nobody told.

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
use crate::values::Given;

/// Device and inode.
type Id = (u64, u64);

/// The files that a run reads, by what each is called.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    files: HashMap<Id, String>,
    folders: HashMap<Id, String>,
}

impl Inputs {
    /// What `run` reads, but for stdin.
    pub(crate) fn of_run(args: &RunArgs) -> Self {
        let mut inputs = Self::of_pool(&args.module, &args.pool);
        let named = args.named.iter().map(|named| &named.value);
        for text in args.args.iter().chain(&args.argv).chain(named) {
            inputs.text(text);
        }
        args.bytes.iter().for_each(|path| inputs.file(path));
        inputs
    }

    /// What `map` reads, but for stdin.
    pub(crate) fn of_map(args: &MapArgs) -> Self {
        let mut inputs = Self::of_pool(&args.module, &args.pool);
        args.inputs.iter().chain(&args.program.stdin).for_each(|path| inputs.file(path));
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

    /// A file. What is none, or is not there, cannot be lost.
    pub(crate) fn file(&mut self, path: &Path) {
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

    /// Whether the file `path` is read.
    pub(crate) fn has(&self, path: &Path) -> bool {
        file_id(path).is_some_and(|id| self.files.contains_key(&id))
    }

    /// Refuses outputs that are read, or that are one file, each by its option.
    ///
    /// # Errors
    /// The first of them.
    pub(crate) fn check_outputs(&self, outputs: &[(&str, Option<&Path>)]) -> Result<(), Error> {
        let outputs = outputs.iter().filter_map(|(option, path)| Some((*option, (*path)?)));
        let mut seen: Vec<(&str, &Path)> = Vec::new();
        for (option, path) in outputs {
            if let Some(input) = file_id(path).and_then(|id| self.files.get(&id)) {
                let message = format!("{input} is read, and would be written over");
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

    /// Refuses a stdout that is a file which is read: it would be emptied, or grow without end.
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

    /// Refuses to empty a file of a granted directory, whose guests may read it.
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
                format!("{} may be read, and would be written over", path.display()),
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

/// The whole path of a file that is not there yet.
fn made(path: &Path) -> Option<PathBuf> {
    if path.exists() {
        return None;
    }
    let name = path.file_name()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Some(folder.unwrap_or(Path::new(".")).canonicalize().ok()?.join(name))
}
