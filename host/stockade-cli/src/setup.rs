//! The pool that a command line asks for, and its end.

use std::path::Path;

use stockade::{
    BuildError, Cache, CompileLimits, FunctionKind, Grants, Json, Limits, ModuleDescription, Pool,
    WorkerProgram,
};

use crate::advice;
use crate::args::{Instances, PoolArgs};
use crate::arguments;
use crate::doctor;
use crate::error::Error;
use crate::exit::Exit;
use crate::observe::Observer;
use crate::streams;
use crate::target;
use crate::values::{self, Given, Named};

/// A module whose code takes longer to compile than a process takes to start.
const LARGE_BYTES: u64 = 256 << 10;

/// Builds a pool of at most `workers` for the module in the file `module`. Blocks while the module
/// is compiled.
///
/// # Errors
/// A module, limit, grant or initializer that cannot be used.
pub(crate) fn pool(
    module: &Path,
    args: &PoolArgs,
    workers: Option<usize>,
    observer: &Observer,
) -> Result<Pool, Error> {
    if args.deterministic && args.instances == Instances::PerWorker {
        let message = "`--deterministic` needs `--instances per-task`";
        return Err(Error::new(Exit::Usage, message)
            .because("what an instance remembers depends on which tasks its worker ran before"));
    }
    let mut builder = Pool::builder()
        .module(module)
        .worker_program(WorkerProgram::CurrentProgram)
        .limits(limits(args, observer.seed()))
        .features(args.features)
        .compile_limits(compile_limits(args))
        .grants(grants(args)?)
        .lockdown(doctor::required(&args.require))
        .unknown_imports(args.unknown_imports.into())
        .coredumps(observer.coredumps(args.memory.0))
        .instances(match args.instances {
            Instances::PerTask => stockade::Instances::PerTask,
            Instances::PerWorker => stockade::Instances::PerWorker,
        });
    if let Some(workers) = workers {
        builder = builder.max_workers(workers);
    }
    if let Some(directory) = &args.cache {
        builder = builder.cache(Cache::in_directory(directory));
    }
    if let Some((name, arguments)) = initializer(module, args)? {
        builder = builder.initializer(name, arguments);
    }
    builder.build().map_err(|error| match args.unknown_imports {
        crate::args::UnknownImports::Refuse => error.into(),
        // It was asked for, and is not enough.
        _ => Error::from(error).without_help(advice::NEVER_CALLED),
    })
}

/// What is in the module, where that is known long before its code is compiled: a mistake in the
/// arguments of a large one need not wait for that. `None` for a small one, whose code is there as
/// soon, and where a cache may have the code. What is wrong with the module is for the pool to say,
/// which knows its limits.
pub(crate) fn described(module: &Path, args: &PoolArgs) -> Option<ModuleDescription> {
    let is_large = module.metadata().is_ok_and(|data| data.len() >= LARGE_BYTES);
    let is_worth_it = is_large && args.cache.is_none();
    is_worth_it.then(|| describe(module, args).ok()).flatten()
}

/// Reads and validates the module in a process of its own.
fn describe(module: &Path, args: &PoolArgs) -> Result<ModuleDescription, BuildError> {
    let (program, unknown) = (WorkerProgram::CurrentProgram, args.unknown_imports.into());
    stockade::inspect_with(module, Some(&program), unknown)
}

/// Refuses what is wrong with the options before anything is started: a module that is a closed stream,
/// grants of what is not there or is granted twice, arguments that name files which cannot be read.
///
/// # Errors
/// The first of it.
pub(crate) fn check(module: &Path, args: &PoolArgs) -> Result<(), Error> {
    check_module(module)?;
    grants(args)?;
    arguments::check_files(args.init_arg.iter().map(|given| match given {
        Given::Position(text) => text.as_str(),
        Given::Name(named) => named.value.as_str(),
    }))
}

/// Refuses a module that is a closed stream. An empty file is in its place, which is no fault of the
/// module's.
///
/// # Errors
/// That it is one.
pub(crate) fn check_module(module: &Path) -> Result<(), Error> {
    streams::check_named(module).map_err(|error| {
        let message = format!("cannot read the module {}", module.display());
        Error::new(Exit::Missing, message).cause(&error)
    })
}

/// Shuts the pool down, which runs its finalizer.
///
/// # Errors
/// What broke the pool, its finalizer included.
pub(crate) fn close(pool: &Pool) -> Result<(), Error> {
    pool.shutdown();
    pool.broken().map_or(Ok(()), |cause| Err(advice::broken(&cause)))
}

/// The limits of tasks that are recorded where there is a seed for that.
fn limits(args: &PoolArgs, recorded: Option<u64>) -> Limits {
    let seed = if args.deterministic { Some(0) } else { recorded };
    Limits::default()
        .wall_time(args.wall_time.0)
        .interruptible(args.interruptible)
        .memory_bytes(args.memory.0)
        .table_elements(args.table_elements)
        // Counted, so that a report tells it, though nothing is too much.
        .fuel(args.fuel.or(args.deterministic.then_some(u64::MAX)))
        .deterministic(seed.map(|seed| args.seed.unwrap_or(seed)))
        .output_bytes(args.output_limit.0)
        .stdio_bytes(args.stdio_limit.0)
}

fn compile_limits(args: &PoolArgs) -> CompileLimits {
    CompileLimits::default()
        .cpu_time(args.compile_time)
        .wall_time(args.compile_wall_time)
        .memory_bytes(args.compile_memory.0)
        .module_bytes(args.module_size.0)
        .artefact_bytes(args.compiled_size.0)
        .threads(args.compile_threads)
}

fn grants(args: &PoolArgs) -> Result<Grants, Error> {
    values::check_grants(&args.grant_dir, &args.grant_env)
        .map_err(|twice| Error::new(Exit::Usage, twice))?;
    let mut grants = Grants::none();
    for grant in &args.grant_dir {
        // Workers run in the root directory, where a relative path would be another.
        let host = grant.host.canonicalize().map_err(|error| {
            let message = format!("cannot grant the directory {}", grant.host.display());
            Error::new(Exit::Missing, message)
                .cause(&error)
                .help("`--grant-dir` takes a directory that exists and that you can read")
        })?;
        grants = match grant.writable {
            true => grants.write_dir(host, &grant.guest),
            false => grants.read_dir(host, &grant.guest),
        };
    }
    for grant in &args.grant_env {
        grants = grants.env(&grant.name, &grant.value);
    }
    Ok(grants)
}

/// The initializer that the command line names or gives arguments, with those.
fn initializer(module: &Path, args: &PoolArgs) -> Result<Option<(String, Json)>, Error> {
    if args.init_arg.is_empty() {
        return Ok(args.init.clone().map(|name| (name, Json::new())));
    }
    // Its parameters' types say how the arguments are read, and its name may have to be found.
    let description = describe(module, args)?;
    let declared = target::hook(&description, FunctionKind::Initializer, args.init.as_deref());
    let Some(name) = args.init.clone().or_else(|| Some(declared?.name.clone())) else {
        return Err(Error::new(Exit::Call, "the module declares no initializer")
            .because("`--init-arg` gives the initializer its arguments")
            .help("name a function that initialises the module with `--init NAME`"));
    };
    let mut by_position: Vec<&String> = Vec::new();
    let mut by_name: Vec<&Named> = Vec::new();
    for given in &args.init_arg {
        match given {
            Given::Position(text) => by_position.push(text),
            Given::Name(named) => by_name.push(named),
        }
    }
    let params = declared.map(|function| function.params.as_slice());
    Ok(Some((name, arguments::read(by_position, by_name, params)?)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Subcommand};

    #[test]
    fn the_options_defaults_are_the_librarys() {
        let Subcommand::Run(args) = Cli::parse_from(["stockade", "run", "m.wasm", "f"]).command
        else {
            panic!("expected `run`")
        };
        assert_eq!(limits(&args.pool, None), Limits::default());
        assert_eq!(compile_limits(&args.pool), CompileLimits::default());
    }

    #[test]
    fn what_is_recorded_has_a_seed_of_its_own_unless_one_is_named() {
        let seed = |more: &[&str], recorded| {
            let line = ["stockade", "run", "m.wasm", "f"].iter().chain(more);
            let Subcommand::Run(args) = Cli::parse_from(line).command else {
                panic!("expected `run`")
            };
            limits(&args.pool, recorded).deterministic
        };
        assert_eq!(seed(&["--seed", "7"], None), None);
        assert_eq!(seed(&[], Some(3)), Some(3));
        assert_eq!(seed(&["--seed", "7"], Some(3)), Some(7));
        assert_eq!(seed(&["--deterministic"], None), Some(0));
        assert_eq!(seed(&["--deterministic"], Some(3)), Some(0));
        assert_eq!(seed(&["--deterministic", "--seed", "7"], None), Some(7));
    }
}
