//! `stockade replay`: a recorded task, run again as it was, and whether it ends the same way.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use stockade::{Grants, Output, Recording, RecordingError, TaskError, WorkerProgram};

use crate::error::Error;
use crate::exit::{self, Exit};
use crate::observe::Dumper;
use crate::output::Written;
use crate::values::{self, DirGrant};
use crate::{escape, located, report};

const EXAMPLES: &str = "\
Examples:
  stockade map tasks.wasm parse lines.jsonl --record failed/
  stockade replay failed/parse-7-0123456789abcdef.stockade

A recording holds the module, the function, its arguments (of a program also stdin and variables),
the limits, and the seed that the task had. It may come from elsewhere: it is checked
as any stranger's module is, and reaches nothing but what is granted here.
";

/// Run a recorded task again, and say whether it ends as it did
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n{}", exit::HELP))]
pub(crate) struct ReplayArgs {
    /// The recording, as `--record` saves it
    pub(crate) file: PathBuf,

    /// Let the task read the directory HOST, which it finds as GUEST; with :rw, write it too
    #[arg(long, value_name = "HOST[::GUEST][:rw]")]
    pub(crate) grant_dir: Vec<DirGrant>,

    /// Keep a core dump of the task, where it traps, as a file in the directory DIR that WebAssembly
    /// debuggers open: its functions, globals and memory, and so the task's data
    #[arg(long, value_name = "DIR")]
    pub(crate) coredump: Option<PathBuf>,

    /// Tell on stderr what the task used: time, memory, fuel
    #[arg(long)]
    pub(crate) report: bool,
}

/// Runs what the command line asks for.
///
/// # Errors
/// Whatever kept the task from being run, and an end that is not the recorded one.
pub(crate) fn run(args: &ReplayArgs) -> Result<Exit, Error> {
    let recording = Recording::open(&args.file).map_err(unusable)?;
    introduce(&recording, args);
    let mut dumper = args.coredump.as_deref().map(Dumper::new).transpose()?;
    let wanted = dumper.as_ref().map(|_| Dumper::wanted(recording.limits().memory_bytes));
    let pool = recording
        .builder()
        .grants(grants(&recording, args)?)
        .coredumps(wanted)
        .worker_program(WorkerProgram::CurrentProgram)
        .build()?;
    let handle = recording.submit(&pool)?;
    let ended = handle.output();
    let task = handle.report();
    // Where stderr is closed, nobody wants this.
    let mut stderr = io::stderr().lock();
    let _ = report::write_captured(&mut stderr, &task);
    if args.report {
        let _ = report::write_report(&mut stderr, &task, false);
    }
    drop(stderr);
    match &ended {
        Ok(output) => show(output),
        Err(error) => {
            let mut error = located::error(error, Some(&pool));
            if let Some(dumper) = &mut dumper {
                let saved = dumper.save(1, &task);
                error = dumper.describe(error, saved.as_deref());
            }
            error.print();
        }
    }
    let verdict = compare(&recording, &ended);
    pool.kill();
    verdict
}

fn unusable(error: RecordingError) -> Error {
    let missing = matches!(error, RecordingError::File { .. });
    let exit = if missing { Exit::Missing } else { Exit::Refused };
    Error::described(exit, &error)
        .help("`--record DIR` of `stockade run` and `map` saves recordings")
}

/// Says what is about to be run. All of it are words of a file that may be a stranger's.
fn introduce(recording: &Recording, args: &ReplayArgs) {
    let mut stderr = io::stderr().lock();
    let (function, module) = (escape::line(recording.function()), escape::line(recording.module()));
    let digest = recording.module_digest();
    // Where stderr is closed, nobody wants this.
    let _ = writeln!(stderr, "replaying `{function}` of module `{module}` ({})", &digest[..16]);
    for grant in recording.grants().directories().iter().filter(|_| args.grant_dir.is_empty()) {
        let guest = escape::line(&grant.guest);
        let _ = writeln!(
            stderr,
            "it had a directory as {guest}, and has none now: `--grant-dir HOST::{guest}` grants one"
        );
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

/// A line for a result, which was recorded as well as any error.
fn show(output: &Output) {
    let line = match Written::from_output(output.clone()) {
        Ok(Written::Line(line)) => line,
        Ok(Written::Bytes(bytes)) => format!("a result of {} bytes", bytes.len()),
        Err(error) => error.to_string(),
    };
    // Where stdout is closed, nobody wants this.
    let _ = writeln!(io::stdout().lock(), "{line}");
}

fn compare(recording: &Recording, ended: &Result<Output, TaskError>) -> Result<Exit, Error> {
    let mut stderr = io::stderr().lock();
    match recording.end() {
        None => {
            let _ = writeln!(stderr, "the recording does not say how the task ended");
            Ok(Exit::Success)
        }
        Some(_) if recording.is_same(ended) => {
            let _ = writeln!(stderr, "it ended as it was recorded");
            Ok(Exit::Success)
        }
        Some(end) => {
            Err(Error::new(Exit::Differs, "the task ended otherwise than it was recorded")
                .because(format!("recorded was {end}"))
                .help(
                    "what it was granted may have changed, or the machine ran short of something",
                ))
        }
    }
}
