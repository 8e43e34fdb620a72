//! `stockade replay`: a recorded task, run again as it was, and whether it ends the same way.

use std::path::{Path, PathBuf};

use clap::Args;
use stockade::{Features, Grants, Output, Recording, RecordingError, TaskError, WorkerProgram};

use crate::error::Error;
use crate::exit::{self, Exit};
use crate::observe::Dumper;
use crate::output::Written;
use crate::values::{self, DirGrant};
use crate::{escape, located, report, streams};

const EXAMPLES: &str = "\
Examples:
  stockade map tasks.wasm parse lines.jsonl --record failed/
  stockade replay failed/parse-7-0123456789abcdef.stockade

A recording holds the module, the function, its arguments (of a program also stdin and variables),
the limits, and the seed that the task had. It is checked like any untrusted module, and has access
only to what is granted here.
";

/// Run a recorded task again, and compare its end with the recorded one
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n{}", exit::HELP))]
pub(crate) struct ReplayArgs {
    /// The recording, as `--record` saves it
    pub(crate) file: PathBuf,

    /// Let the task read the directory HOST, under the path GUEST; with :rw, also write
    #[arg(long, value_name = "HOST[::GUEST][:rw]")]
    pub(crate) grant_dir: Vec<DirGrant>,

    /// Features that the module may use, as for `run`. A recording does not turn on features that
    /// are off by default
    #[arg(long, value_name = "LIST", default_value = "default", allow_hyphen_values = true)]
    pub(crate) features: Features,

    /// Keep a core dump of the task, if it traps, in the directory DIR, for WebAssembly debuggers:
    /// with its functions, globals and memory, and so the task's data
    #[arg(long, value_name = "DIR")]
    pub(crate) coredump: Option<PathBuf>,

    /// Report on stderr what the task used: time, memory, fuel
    #[arg(long)]
    pub(crate) report: bool,
}

/// Runs `stockade replay`.
///
/// # Errors
/// If the task cannot run, or its end differs from the recorded one.
pub(crate) fn run(args: &ReplayArgs) -> Result<Exit, Error> {
    streams::check_named(&args.file).map_err(|error| {
        let message = format!("cannot read the recording {}", args.file.display());
        Error::new(Exit::Missing, message).cause(&error)
    })?;
    let recording = Recording::open(&args.file).map_err(|error| unusable(&args.file, error))?;
    introduce(&recording, args);
    let mut dumper = args.coredump.as_deref().map(Dumper::new).transpose()?;
    let wanted = dumper.as_ref().map(|_| Dumper::wanted(recording.limits().memory_bytes));
    let pool = recording
        .builder()
        .grants(grants(&recording, args)?)
        .features(args.features)
        .coredumps(wanted)
        .worker_program(WorkerProgram::CurrentProgram)
        .build()?;
    let handle = recording.submit(&pool)?;
    let ended = handle.output();
    let task = handle.report();
    streams::say(|to| report::write_captured(to, &task));
    if args.report {
        streams::say(|to| report::write_report(to, &task, false));
    }
    let shown = match &ended {
        Ok(output) => show(output),
        Err(error) => {
            let mut error = located::error(error, Some(&pool));
            if let Some(dumper) = &mut dumper {
                let saved = dumper.save(1, &task);
                error = dumper.describe(error, saved.as_deref());
            }
            error.print();
            Ok(())
        }
    };
    let verdict = compare(&recording, &ended);
    pool.kill();
    shown.and(verdict)
}

fn unusable(file: &Path, error: RecordingError) -> Error {
    let refused = match &error {
        RecordingError::File { .. } => Error::described(Exit::Missing, &error),
        _ => Error::described(Exit::Refused, &error)
            .preceded_by(format!("cannot replay {}", file.display())),
    };
    refused.help("`--record DIR` of `stockade run` and `map` saves recordings")
}

/// Announces the task. All of the text comes from a file that may be a stranger's.
fn introduce(recording: &Recording, args: &ReplayArgs) {
    let (function, module) = (escape::line(recording.function()), escape::line(recording.module()));
    let digest = recording.module_digest();
    let digest = &digest[..16];
    streams::say(|to| writeln!(to, "replaying `{function}` of module `{module}` ({digest})"));
    for grant in recording.grants().directories().iter().filter(|_| args.grant_dir.is_empty()) {
        let guest = escape::line(&grant.guest);
        streams::say(|to| {
            writeln!(
                to,
                "it had a directory as {guest}, and has none now: `--grant-dir HOST::{guest}` \
                 grants one"
            )
        });
    }
}

fn grants(recording: &Recording, args: &ReplayArgs) -> Result<Grants, Error> {
    values::check_grants(&args.grant_dir, &[]).map_err(|twice| Error::new(Exit::Usage, twice))?;
    let variables = recording.grants().variables().iter();
    let mut grants =
        variables.fold(Grants::none(), |grants, (name, value)| grants.env(name, value));
    for grant in &args.grant_dir {
        // Workers run in the root directory, where a relative path would be another.
        let host = grant.host.canonicalize().map_err(|error| {
            let message = format!("cannot grant the directory {}", grant.host.display());
            Error::new(Exit::Missing, message).cause(&error)
        })?;
        grants = match grant.writable {
            true => grants.write_dir(host, &grant.guest),
            false => grants.read_dir(host, &grant.guest),
        };
    }
    Ok(grants)
}

/// A line for a result; results are recorded as well as errors.
fn show(output: &Output) -> Result<(), Error> {
    let line = match Written::from_output(output.clone()) {
        Ok(Written::Line(line)) => line,
        Ok(Written::Bytes(bytes)) => format!("a result of {} bytes", bytes.len()),
        Err(error) => error.to_string(),
    };
    streams::print(|to| writeln!(to, "{line}"))
}

fn compare(recording: &Recording, ended: &Result<Output, TaskError>) -> Result<Exit, Error> {
    match recording.end() {
        None => {
            streams::say(|to| writeln!(to, "the recording does not say how the task ended"));
            Ok(Exit::Success)
        }
        Some(_) if recording.is_same(ended) => {
            streams::say(|to| writeln!(to, "it ended as it was recorded"));
            Ok(Exit::Success)
        }
        Some(end) => Err(Error::new(Exit::Differs, "the task did not end as it was recorded")
            .because(format!("recorded was {end}"))
            .help("what it was granted may have changed, or the machine ran short of something")),
    }
}
