//! The reserve: descriptors that no guest can take.
//!
//! ```text
//! 0 ── streams, socket, engine ── what guests open ── limit - RESERVED ── what comes next ── limit
//! ```
//!
//! While a guest runs that can open files, the process may have no descriptor numbered above its
//! part. An instance that lives on may hold all of those, and the next message still brings its own.
//!
//! Invariant: between two guests the limit is the worker's whole one.
//!
//! Deliberately absent: shares for the modules of one worker, which may take each other's.

use rustix::process::{Resource, Rlimit};
use stockade_wire::Grants;

/// More than one frame brings and than a receiver keeps for those before it.
const RESERVED: u64 = 128;

/// The worker's limit, where something of it is kept from guests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserve(Option<u64>);

impl Reserve {
    /// A reserve besides guests under `grants`. There is none where they can open nothing, and none
    /// where the limit is so low that guests need all of it.
    pub(crate) fn new(grants: &Grants) -> Self {
        if grants.directories().is_empty() {
            return Self(None);
        }
        let limit = rustix::process::getrlimit(Resource::Nofile).maximum;
        Self(limit.filter(|limit| *limit > 2 * RESERVED))
    }

    /// Keeps it until the answer is dropped.
    pub(crate) fn keep(self) -> Kept {
        if let Some(limit) = self.0 {
            allow(limit - RESERVED, limit);
        }
        Kept(self)
    }
}

/// A reserve that is kept.
#[derive(Debug)]
pub(crate) struct Kept(Reserve);

impl Drop for Kept {
    fn drop(&mut self) {
        if let Reserve(Some(limit)) = self.0 {
            allow(limit, limit);
        }
    }
}

fn allow(descriptors: u64, limit: u64) {
    let limits = Rlimit { current: Some(descriptors), maximum: Some(limit) };
    // Below the hard limit a process may always move its own.
    let _ = rustix::process::setrlimit(Resource::Nofile, limits);
}
