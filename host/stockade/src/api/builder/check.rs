//! Settings of a builder, each against its range, before anything is started.

use stockade_wire::{
    COMPILE_BYTES_MAX, COMPILE_MEMORY_BYTES_MIN, COMPILE_THREADS_MAX, COMPILE_TIME_MAX,
    COREDUMP_BYTES_MAX, COREDUMP_BYTES_MIN, CompileLimits, Instances, MEMORY_BYTES_MAX,
    MODULES_LIVING_MAX, OUTPUT_BYTES_MAX, STDIO_BYTES_MAX, TABLE_ELEMENTS_MAX,
};

use super::PoolBuilder;
use crate::outcome::error::BuildError;
use crate::outcome::machine::MachineError;

/// The most workers a pool may have.
const WORKERS_MAX: usize = 1024;

impl PoolBuilder {
    /// Refuses the first setting that is out of its range, and a granted directory that is not there.
    pub(super) fn check(&self) -> Result<(), BuildError> {
        let limits = &self.limits;
        between("max_workers", self.max_workers.unwrap_or(1) as u64, 1, WORKERS_MAX as u64)?;
        between("max_tasks_per_worker", self.max_tasks_per_worker.unwrap_or(1), 1, u64::MAX)?;
        between("max_pending_tasks", self.max_pending_tasks.unwrap_or(1) as u64, 1, u64::MAX)?;
        between("quarantine_after", self.quarantine_after.unwrap_or(1).into(), 1, u64::MAX)?;
        between("memory_bytes", limits.memory_bytes, 64 << 10, MEMORY_BYTES_MAX)?;
        between("table_elements", limits.table_elements, 0, TABLE_ELEMENTS_MAX)?;
        between("output_bytes", limits.output_bytes, 0, OUTPUT_BYTES_MAX)?;
        between("stdio_bytes", limits.stdio_bytes, 0, STDIO_BYTES_MAX)?;
        if limits.wall_time.is_some_and(|time| time.is_zero()) {
            return Err(setting("wall_time", "0".into(), "it must be longer".into()));
        }
        if let Some(coredumps) = &self.coredumps {
            let (least, most) = (COREDUMP_BYTES_MIN, COREDUMP_BYTES_MAX);
            between("coredumps.bytes_max", coredumps.bytes_max, least, most)?;
            between("coredumps.count_max", coredumps.count_max.into(), 1, u32::MAX.into())?;
        }
        check_compile_limits(&self.compile_limits)?;
        if self.modules.is_empty() {
            return Err(BuildError::NoModule);
        }
        if self.instances == Instances::PerWorker && self.modules.len() > MODULES_LIVING_MAX {
            let given = format!("given {} times", self.modules.len());
            let allowed =
                format!("with an instance per worker a pool may have {MODULES_LIVING_MAX} modules");
            return Err(setting("module", given, allowed));
        }
        for (index, module) in self.modules.iter().enumerate() {
            if self.modules[..index].iter().any(|other| other.name == module.name) {
                let allowed = "name each module once, with `.module_as(name, path)`".into();
                return Err(setting("module", format!("two named `{}`", module.name), allowed));
            }
        }
        for grant in self.grants.directories() {
            let path = grant.host();
            if let Err(source) = std::fs::read_dir(&path) {
                let task = format!("look into the directory {}", path.display());
                return Err(match MachineError::if_exhausted(task, &source) {
                    Some(error) => BuildError::Machine(error),
                    None => BuildError::Grant { path, source },
                });
            }
        }
        Ok(())
    }
}

fn between(name: &'static str, given: u64, least: u64, most: u64) -> Result<(), BuildError> {
    if (least..=most).contains(&given) {
        return Ok(());
    }
    Err(setting(name, given.to_string(), format!("it may be {least} to {most}")))
}

fn setting(setting: &'static str, given: String, allowed: String) -> BuildError {
    BuildError::Setting { setting, given, allowed }
}

fn check_compile_limits(limits: &CompileLimits) -> Result<(), BuildError> {
    let (least, most) = (COMPILE_MEMORY_BYTES_MIN, COMPILE_BYTES_MAX);
    between("compile_limits.memory_bytes", limits.memory_bytes, least, most)?;
    between("compile_limits.module_bytes", limits.module_bytes, 1, most)?;
    between("compile_limits.artefact_bytes", limits.artefact_bytes, 1, most)?;
    let threads = limits.threads.unwrap_or(1).into();
    between("compile_limits.threads", threads, 1, COMPILE_THREADS_MAX.into())?;
    for (name, time) in [
        ("compile_limits.cpu_time", limits.cpu_time),
        ("compile_limits.wall_time", limits.wall_time),
    ] {
        let Some(time) = time else { continue };
        if time.is_zero() || time > COMPILE_TIME_MAX {
            let allowed = format!("it must be longer than 0 and at most {COMPILE_TIME_MAX:?}");
            return Err(setting(name, format!("{time:?}"), allowed));
        }
    }
    Ok(())
}
