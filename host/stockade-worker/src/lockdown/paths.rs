//! Landlock: access to the file system, TCP, abstract sockets and signals.

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope,
};
use stockade_wire::{Grants, Level};

use super::Found;

/// What is asked for: files, TCP, abstract sockets and signals. Linux 6.12 has all of it.
const WANTED: ABI = ABI::V6;

/// Directories that stay accessible, and whether they are writable.
#[derive(Debug, Default)]
pub(crate) struct Paths(Vec<(PathBuf, bool)>);

impl Paths {
    /// Those that were granted.
    pub(crate) fn granted(grants: &Grants) -> Self {
        let granted = grants.directories().iter();
        Self(granted.map(|grant| (grant.host(), grant.writable)).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Drops access to everything else, for this thread and those it will start.
    pub(super) fn keep_only(&self) -> Found {
        match self.restrict() {
            Err(error) => (Level::None, error.to_string()),
            Ok(status) => {
                let reason = match self.0.len() {
                    0 => "no files, no TCP, no abstract sockets, no signals to other processes"
                        .to_owned(),
                    count => format!(
                        "no files except {count} granted, no TCP, no abstract sockets, no signals \
                         to other processes"
                    ),
                };
                match status.ruleset {
                    RulesetStatus::FullyEnforced => (Level::Full, reason),
                    RulesetStatus::PartiallyEnforced => {
                        (Level::Partial, format!("this kernel has less than {WANTED:?} of it"))
                    }
                    RulesetStatus::NotEnforced => {
                        (Level::None, "this kernel has none of it".into())
                    }
                }
            }
        }
    }

    fn restrict(&self) -> Result<RestrictionStatus, RulesetError> {
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(WANTED))?
            .handle_access(AccessNet::from_all(WANTED))?
            .scope(Scope::from_all(WANTED))?
            .create()?
            // Whether that is forbidden is a layer of its own.
            .no_new_privs(false);
        for (path, writable) in &self.0 {
            // A directory that was removed after it was granted cannot be accessed in any case.
            let Ok(folder) = PathFd::new(path) else { continue };
            rules = rules.add_rule(PathBeneath::new(folder, access(*writable)))?;
        }
        rules.restrict_self()
    }
}

/// What a grant allows: no devices, pipes or sockets are made, and nothing is executed.
fn access(writable: bool) -> BitFlags<AccessFs> {
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    if !writable {
        return reading;
    }
    reading
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSym
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}
