//! The worker program: where it is found.

use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::outcome::error::BuildError;
use crate::outcome::machine::{self, MachineError};

/// How a worker comes to be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerProgram {
    /// This executable. It must be, or link, `stockade-worker`.
    Path(PathBuf),
    /// This program again. Its `main` must begin with `stockade_worker::run_if_worker()`.
    CurrentProgram,
}

/// The command is a worker program too, and what most have installed.
const PROGRAM_NAMES: [&str; 2] = ["stockade-worker", "stockade"];
const PROGRAM_VARIABLE: &str = "STOCKADE_WORKER";

impl WorkerProgram {
    /// The executable: what the builder was told, else `STOCKADE_WORKER`, else `stockade-worker` or else
    /// `stockade`, next to this program, one folder up, and then on PATH.
    pub(crate) fn find(chosen: Option<&Self>) -> Result<PathBuf, BuildError> {
        let this_program = std::env::current_exe();
        let mut tried = Vec::new();
        let mut try_path = |path: PathBuf| {
            // Absolute, because a worker is started in another folder.
            let path = std::path::absolute(&path).unwrap_or(path);
            let found = is_executable(&path);
            tried.push(path.clone());
            found.then_some(path)
        };
        let found = match chosen {
            Some(Self::CurrentProgram) => {
                // Whose name the system tells in a file.
                let this_program = this_program.map_err(|error| {
                    let error = machine::at_system_file("/proc/self/exe", error);
                    MachineError::of("find this program, which is its own worker", &error)
                })?;
                try_path(this_program)
            }
            Some(Self::Path(path)) => try_path(path.clone()),
            None => match std::env::var_os(PROGRAM_VARIABLE) {
                Some(path) => try_path(path.into()),
                None => places(this_program.ok().as_deref()).into_iter().find_map(try_path),
            },
        };
        found.ok_or(BuildError::NoWorkerProgram { tried })
    }
}

fn places(this_program: Option<&Path>) -> Vec<PathBuf> {
    // Cargo puts tests into `deps/` and examples into `examples/`, one folder below the program.
    let beside = this_program.and_then(Path::parent);
    let above = beside.and_then(Path::parent);
    let near: Vec<_> = beside.into_iter().chain(above).map(Path::to_path_buf).collect();
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<_> =
        std::env::split_paths(&on_path).filter(|folder| folder.is_absolute()).collect();
    // What is near goes before what has the better name: it was installed together with this program.
    let named = |folders: Vec<PathBuf>| {
        let of = |name| folders.iter().map(move |folder| folder.join(name));
        PROGRAM_NAMES.into_iter().flat_map(of).collect::<Vec<_>>()
    };
    let mut places = [named(near), named(on_path)].concat();
    // This program is none: it would begin anew as its own worker, and so on.
    places.retain(|path| this_program != Some(path));
    places
}

fn is_executable(path: &Path) -> bool {
    rustix::fs::access(path, Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_refused_with_what_was_tried() {
        let chosen = WorkerProgram::Path("/nonexistent/worker".into());
        let Err(BuildError::NoWorkerProgram { tried }) = WorkerProgram::find(Some(&chosen)) else {
            panic!("expected an error")
        };
        assert_eq!(tried, [PathBuf::from("/nonexistent/worker")]);
    }

    #[test]
    fn the_command_counts_as_a_worker_program_where_there_is_no_other() {
        let this = Path::new("/opt/app/bin/program");
        let named: Vec<_> = places(Some(this)).into_iter().take(4).collect();
        let expected = ["bin/stockade-worker", "stockade-worker", "bin/stockade", "stockade"];
        assert_eq!(named, expected.map(|name| Path::new("/opt/app").join(name)));
        let on_path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = std::env::split_paths(&on_path).find(|folder| folder.is_absolute());
        let command = on_path.unwrap().join("stockade");
        assert!(places(Some(this)).contains(&command));
        // It would begin anew, and find itself again.
        assert!(!places(Some(&command)).contains(&command));
    }
}
