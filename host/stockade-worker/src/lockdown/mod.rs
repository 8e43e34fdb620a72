//! The lockdown: a process drops its rights before it reads hostile input.
//!
//! An attacker who escapes from WebAssembly runs native code here, and must not be able to do harm.
//! Each layer works without the others; `docs/threat-model.md` says what each stops.
//!
//! | step | when | where |
//! |---|---|---|
//! | environment, descriptors, namespaces, `no_new_privs`, death with the host, session | before exec | the host |
//! | the engine; grants are looked at | | [`session`](crate::session) |
//! | own users, no privileges, not dumpable, limits, Landlock | before any thread | [`Lock::enter`] |
//! | a worker's alarm, a compiler's threads | | |
//! | no processes, no memory that turns executable, system-call filter | last | [`Lock::close`] |
//! | no executable memory at all | once the modules are mapped | [`Lock::seal`] |
//!
//! Landlock is the calling thread's and its children's, so it comes before there are others; a limit of no
//! processes forbids threads too, so it comes after.
//!
//! Invariant: a layer counts as on only if the process finds it on after applying it. For Landlock
//! and the filter, the kernel's information could also come from a container's own; so for these
//! the result of applying them counts.

mod limits;
mod memory;
mod own;
mod paths;
mod privileges;
mod seccomp;
mod space;
mod template;

use stockade_wire::{Confinement, Layer, LayerReport, Level, LockdownReport};

pub(crate) use limits::{Ceilings, FILE_BYTES_MAX, lower};
pub(crate) use own::{Inherited, die_with_host, name_process, tolerate_long_files};
pub(crate) use paths::Paths;
pub(crate) use seccomp::{CLONE_FLAGS, CloneFilter, Files, Profile};
pub(crate) use space::{Mapped, Space};

/// A required layer that is not on.
#[derive(Debug, thiserror::Error)]
#[error("the required layer `{}` is not on in full: {}", .0.layer, .0.reason)]
pub(crate) struct LockdownError(LayerReport);

/// The filter that [`Lock::close`] puts on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Last<'a> {
    /// The first of a process.
    Of(Profile),
    /// The second of a clone, whose template put the first on and prepared this.
    OfClone(&'a CloneFilter, Files, &'a Space),
}

/// The state of a layer as the process finds it.
type Found = (Level, String);

/// The lockdown of this process, step by step.
#[derive(Debug)]
pub(crate) struct Lock {
    confinement: Confinement,
    report: Vec<LayerReport>,
    is_filtered: bool,
}

impl Lock {
    /// Starts with the inherited state.
    pub(crate) fn begin(confinement: Confinement, inherited: Inherited) -> Self {
        let mut lock = Self { confinement, report: Vec::new(), is_filtered: false };
        lock.found(Layer::Inheritance, || inherited.found());
        lock
    }

    /// Applies the layers that must come before threads. `paths` are the directories that stay
    /// accessible; with any, root stays root so that it can read what it granted.
    pub(crate) fn enter(&mut self, ceilings: &Ceilings, paths: &Paths) {
        own::name_signals();
        own::one_arena();
        let Confinement { lockdown, host, namespaces_refused } = self.confinement.clone();
        self.found(Layer::NoNewPrivs, own::no_new_privs);
        self.put(
            Layer::Namespaces,
            || {
                privileges::enter_own_users(
                    &host,
                    !paths.is_empty(),
                    lockdown.is_wanted(Layer::Privileges),
                )
            },
            || privileges::namespaces_found(&host, namespaces_refused.as_deref()),
        );
        let stays = !paths.is_empty();
        self.put(Layer::Privileges, || privileges::drop_all(stays), || privileges::found(stays));
        // A change of user takes the signal away, so it is asked for once more.
        self.put(Layer::ParentDeath, die_with_host, own::dies_with_host);
        self.found(Layer::Session, own::session);
        self.put(Layer::Undumpable, own::become_undumpable, own::is_undumpable);
        self.put(Layer::ResourceLimits, || ceilings.lower(), || ceilings.found());
        if lockdown.is_wanted(Layer::Landlock) {
            let (level, reason) = paths.keep_only();
            self.report.push(LayerReport { layer: Layer::Landlock, level, reason });
        } else {
            self.left_off(Layer::Landlock);
        }
    }

    /// Applies the rest, except for what loading modules needs.
    ///
    /// # Errors
    /// [`LockdownError`] for the first required layer that is not fully on.
    pub(crate) fn close(
        &mut self,
        ceilings: &Ceilings,
        last: Last<'_>,
    ) -> Result<LockdownReport, LockdownError> {
        let lockdown = self.confinement.lockdown.clone();
        if lockdown.is_wanted(Layer::ResourceLimits)
            && let Err(why) = ceilings.forbid_processes()
        {
            self.weaken(Layer::ResourceLimits, why);
        }
        self.put(Layer::WriteXorExecute, memory::refuse_to_gain_execution, memory::found);
        let explains = lockdown.explains_violations();
        // Another filter, such as a container's, does not count: only success does.
        let filtered = match lockdown.is_wanted(Layer::Seccomp) {
            false => Err("the pool leaves it off".to_owned()),
            true => match last {
                Last::Of(profile) => seccomp::put_on(profile, explains),
                Last::OfClone(filter, files, space) => filter.seal(files, space, explains),
            },
        };
        self.is_filtered = filtered.is_ok();
        let (level, reason) = match filtered {
            Ok(()) => (Level::Full, seccomp::SUMMARY.to_owned()),
            Err(why) => (Level::None, why),
        };
        self.report.push(LayerReport { layer: Layer::Seccomp, level, reason });
        self.credit_filter();
        let mut report = LockdownReport(std::mem::take(&mut self.report));
        report.0.sort_by_key(|layer| layer.layer);
        match report.missing(&lockdown).into_iter().next() {
            None => Ok(report),
            Some(missing) => Err(LockdownError(missing)),
        }
    }

    /// Drops the rights that only loading modules needs, and limits the address space to what is
    /// `mapped` now and its memory needs.
    ///
    /// # Errors
    /// [`LockdownError`], where a limit or a filter could be put on before and no longer.
    pub(crate) fn seal(
        &mut self,
        files: Files,
        space: &Space,
        mapped: Option<&Mapped>,
        ceilings: &Ceilings,
    ) -> Result<(), LockdownError> {
        let refused = |layer| {
            move |reason| LockdownError(LayerReport { layer, level: Level::Partial, reason })
        };
        if let Some(mapped) = mapped
            && self.confinement.lockdown.is_wanted(Layer::ResourceLimits)
        {
            mapped.limit_reserved(ceilings.data_bytes).map_err(refused(Layer::ResourceLimits))?;
        }
        if !self.is_filtered {
            return Ok(());
        }
        let explains = self.confinement.lockdown.explains_violations();
        seccomp::seal(files, space, explains).map_err(refused(Layer::Seccomp))
    }

    /// Applies `layer`, unless it is left off, and records its state.
    fn put(
        &mut self,
        layer: Layer,
        put: impl FnOnce() -> Result<(), String>,
        found: impl FnOnce() -> Found,
    ) {
        if !self.confinement.lockdown.is_wanted(layer) {
            self.left_off(layer);
            return;
        }
        let tried = put();
        let (level, found) = found();
        let reason = match tried {
            Err(why) if level < Level::Full => format!("{found}: {why}"),
            _ => found,
        };
        self.report.push(LayerReport { layer, level, reason });
    }

    /// Records the state of a `layer` that the host applied.
    fn found(&mut self, layer: Layer, found: impl FnOnce() -> Found) {
        self.put(layer, || Ok(()), found);
    }

    fn left_off(&mut self, layer: Layer) {
        let reason = "the pool leaves it off".to_owned();
        self.report.push(LayerReport { layer, level: Level::None, reason });
    }

    /// Records that a filter set `no_new_privs`, although that was left off.
    fn credit_filter(&mut self) {
        let of_layer = |report: &&mut LayerReport| report.layer == Layer::NoNewPrivs;
        if let Some(report) = self.report.iter_mut().find(of_layer)
            && self.is_filtered
            && report.level < Level::Full
        {
            report.level = Level::Full;
            report.reason = "the seccomp filter set it".into();
        }
    }

    /// Records that a layer is not fully on.
    pub(crate) fn weaken(&mut self, layer: Layer, why: String) {
        for report in self.report.iter_mut().filter(|report| report.layer == layer) {
            report.level = report.level.min(Level::Partial);
            report.reason = why.clone();
        }
    }
}
