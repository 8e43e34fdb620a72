//! Files: each is one item, whole.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::item::{Content, Item, Name};
use crate::args::MapArgs;
use crate::arguments;
use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;

/// The files that the command line names, each of which is one task.
///
/// # Errors
/// None at all, directories, and two that would be written to one file.
pub(crate) fn check(args: &MapArgs) -> Result<Vec<Arc<Path>>, Error> {
    if args.inputs.is_empty() {
        return Err(Error::new(Exit::Usage, "`--files` needs at least one FILE")
            .help("the shell expands them: stockade map MODULE FUNCTION --files *.png"));
    }
    if args.args {
        return Err(Error::new(Exit::Usage, "`--args` is for lines of JSON, not for files"));
    }
    for path in &args.inputs {
        // One that is missing costs its own task only: it may have gone while others were read.
        if path.is_dir() {
            return Err(Error::new(Exit::Missing, format!("{} is a directory", path.display()))
                .help(format!("name the files in it: {}/*", path.display())));
        }
        if path.file_name().is_none() {
            let message = format!("`{}` is not the name of a file", path.display());
            return Err(Error::new(Exit::Missing, message));
        }
    }
    Ok(args.inputs.iter().map(|path| Arc::from(path.as_path())).collect())
}

/// Refuses files if their results would replace each other, or the files themselves.
///
/// # Errors
/// The first two of them.
pub(crate) fn check_outputs(args: &MapArgs, inputs: &Inputs, as_bytes: bool) -> Result<(), Error> {
    let Some(directory) = args.sink.output_dir.as_ref().filter(|_| args.shape.files) else {
        return Ok(());
    };
    let mut outputs: HashMap<PathBuf, &PathBuf> = HashMap::new();
    for path in &args.inputs {
        let name = Path::new(path.file_name().unwrap_or_default());
        let output = args.sink.file_of(name, as_bytes);
        if let Some(other) = outputs.insert(output.clone(), path) {
            let (path, other) = (path.display(), other.display());
            let message = format!("{other} and {path} would both become {}", output.display());
            return Err(Error::new(Exit::Usage, message)
                .help("map them one folder after the other, with an `--output-dir` for each"));
        }
        let replaced = directory.join(&output);
        if inputs.has(&replaced) {
            let message = match same_file(&replaced, path) {
                true => format!("{} would be replaced by its own result", path.display()),
                false => {
                    let (path, replaced) = (path.display(), replaced.display());
                    format!("{replaced} is read, and would be replaced by the result of {path}")
                }
            };
            return Err(Error::new(Exit::Usage, message).help("name another directory to write to"));
        }
        inputs.check_result(&replaced)?;
    }
    Ok(())
}

fn same_file(one: &Path, other: &Path) -> bool {
    one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

/// The files one after the other, each read when it is its turn.
pub(crate) fn items(files: Vec<Arc<Path>>) -> impl Iterator<Item = Item> {
    files.into_iter().zip(1..).map(|(path, ordinal)| {
        let content = arguments::read_file(&path).map(Content::Bytes);
        let content = content.map_err(|error| error.in_a_sentence());
        Item { ordinal, name: Name::File(path), content, weight: 1 }
    })
}

/// The paths of the files one after the other; none is read.
pub(crate) fn paths(files: Vec<Arc<Path>>) -> impl Iterator<Item = Item> {
    files.into_iter().zip(1..).map(|(path, ordinal)| {
        let text = path.to_str().map(|text| Content::Text(text.into()));
        let content =
            text.ok_or("its name is not UTF-8 text, and so cannot be an argument".to_string());
        Item { ordinal, name: Name::File(path), content, weight: 1 }
    })
}
