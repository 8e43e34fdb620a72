//! Gates: a test keeps a guest running until it has checked something.
//!
//! A gate is a folder that the pool grants. A task of `fixtures/tasks.wat` that waits at it makes
//! `started` in the folder, and goes on once the folder holds `open`.

use std::path::Path;

use stockade::{Grants, Pool, PoolBuilder, TaskHandle};

use crate::{Folder, eventually, int, tasks, until_running};

/// Where guests wait until the test opens it. After it is dropped, waiting guests keep waiting
/// until its wall time.
#[derive(Debug, Default)]
pub struct Gate(Folder);

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a pool must grant for its guests to find the gate: their first directory.
    pub fn grants(&self) -> Grants {
        Grants::none().write_dir(self.0.path(), "/gate")
    }

    /// A pool of one worker over the tasks of `fixtures/tasks.wat`, which find this gate.
    pub fn tasks(&self) -> PoolBuilder {
        tasks().grants(self.grants())
    }

    /// Occupies a worker of the pool until the gate opens: returns when a task runs and waits here.
    pub fn occupy(&self, pool: &Pool) -> TaskHandle<Vec<u8>> {
        let handle = pool.submit("wait", int(0)).expect("the pool takes a task");
        until_running(&handle);
        handle
    }

    /// Names of what tasks left here, in order: of each that ran `trace` its number, of each start of
    /// one that ran `try` one more.
    pub fn traces(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).expect("the gate's folder is there");
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut traces: Vec<_> = names.filter(|name| name != "started" && name != "open").collect();
        traces.sort();
        traces
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Lets everybody through, also those who come later.
    pub fn open(&self) {
        self.0.file("open", "");
    }

    /// Waits until a guest waits here.
    pub fn until_somebody_waits(&self) {
        let started = self.0.path().join("started");
        eventually("a guest at the gate", || started.exists());
    }
}
