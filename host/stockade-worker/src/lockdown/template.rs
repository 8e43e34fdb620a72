//! The lockdown of a template: the layers that are applied once for all of its clones.
//!
//! A template reads artefacts, which a compromised compiler could have forged, so it is first
//! locked down like a worker. It keeps the rights to make processes and namespaces. A clone drops
//! these too, and checks every layer again, by the same steps as any other worker. Only the program
//! of its filter is made once, here: the clone's memory is a copy of this one's.
//!
//! It is in the host's process namespace, and its filter allows it to signal process 1, because a
//! clone is process 1 of its own namespace. Landlock forbids that to the template; without Landlock
//! there is no template.
//!
//! | layer | of the template | of the clone |
//! |---|---|---|
//! | users | a namespace of its own | the template's |
//! | network, IPC | namespaces of its own | the template's |
//! | processes | the host's | a namespace of its own |
//! | capabilities | to make namespaces | none |
//! | Landlock | what is granted | the same, and no signal to its siblings |
//! | limits | all but on processes | all |
//! | filter | a worker's, and making workers | a worker's |

use stockade_wire::{Confinement, Layer, Level};

use super::seccomp::{self, Files, Profile};
use super::{Ceilings, Lock, Paths, memory, own, privileges};

/// Templates and their clones together have at most so many processes and threads.
const PROCESSES_MAX: u64 = 8192;

impl Lock {
    /// Applies the layers that must come before the first artefact is read, except for
    /// [`close_template`](Self::close_template).
    ///
    /// # Errors
    /// Why there can be no template here.
    pub(crate) fn enter_template(
        &mut self,
        ceilings: &Ceilings,
        paths: &Paths,
    ) -> Result<(), String> {
        let Confinement { lockdown, .. } = self.confinement.clone();
        let is_wanted = |layer| lockdown.is_wanted(layer);
        own::one_arena();
        privileges::enter_users_of_template(!paths.is_empty(), is_wanted(Layer::Privileges))?;
        // A change of user takes the signal away, so it is asked for once more.
        if is_wanted(Layer::ParentDeath) {
            own::die_with_host()?;
        }
        if is_wanted(Layer::Undumpable) {
            own::become_undumpable()?;
        }
        if is_wanted(Layer::ResourceLimits) {
            ceilings.lower()?;
            ceilings.limit_processes(PROCESSES_MAX)?;
        }
        if !is_wanted(Layer::Landlock) {
            return Err("the pool leaves Landlock off".into());
        }
        match paths.keep_only() {
            (Level::Full, _) => Ok(()),
            (_, why) => Err(format!("Landlock is not on in full: {why}")),
        }
    }

    /// Applies the rest, except for what loading modules and making workers needs.
    ///
    /// # Errors
    /// Why there can be no template here.
    pub(crate) fn close_template(&mut self, files: Files) -> Result<(), String> {
        let lockdown = &self.confinement.lockdown;
        if lockdown.is_wanted(Layer::WriteXorExecute) && memory::found().0 < Level::Full {
            // As above.
            let _ = memory::refuse_to_gain_execution();
        }
        match lockdown.is_wanted(Layer::Seccomp) {
            true => seccomp::put_on(Profile::Template(files), lockdown.explains_violations()),
            false => Ok(()),
        }
    }
}
