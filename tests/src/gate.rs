//! Gates: how a test keeps a guest running until it has looked.
//!
//! A gate is a folder that the pool grants. A task of `fixtures/tasks.wat` that waits at it makes
//! `started` in the folder, and goes on once the folder holds `open`.

use std::path::Path;

use stockade::Grants;

use crate::{Folder, eventually};

/// Where guests wait until the test opens it. Dropping it opens it.
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
