//! `stockade run`: one call of a function, or one run of a command module.

use std::io::{self, Write};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use stockade::{
    Arguments, Bytes, Command, MachineError, ModuleDescription, Pool, RecordError, Recording,
    TaskError, TaskHandle, TaskOptions,
};

use crate::args::RunArgs;
use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;
use crate::map::record::Problem;
use crate::observe::Observer;
use crate::output::{self, Written};
use crate::target::{self, OWN_ENTRIES, Shape, Target};
use crate::{arguments, command, escape, json, located, report, setup, streams};

/// How long a task may take before its progress is shown, and how often that is looked at.
const QUIET: Duration = Duration::from_millis(500);
const GLANCE: Duration = Duration::from_millis(100);

/// The handle of a task whose result is passed on undecoded.
type Handle = TaskHandle<IgnoredAny>;

/// A task, and its recording where one is wanted.
type Submitted = (Handle, Option<Result<Recording, RecordError>>);

/// Runs what the command line asks for.
///
/// # Errors
/// What prevented the result.
pub(crate) fn run(args: &RunArgs) -> Result<Exit, Error> {
    // First, because compiling takes longer than finding out.
    check_streams(args)?;
    setup::check(&args.module, &args.pool)?;
    let given = early(args)?;
    let mut observer = Observer::new(&args.observe)?;
    let pool = setup::pool(&args.module, &args.pool, Some(1), &observer)?;
    let ended = called(&pool, args, given, &mut observer);
    let (closed, finished) = (setup::close(&pool), observer.finish());
    let exit = ended?;
    closed.and(finished).map(|()| exit)
}

/// Refuses, before anything is run, streams that cannot be used and files that would be lost.
fn check_streams(args: &RunArgs) -> Result<(), Error> {
    let is_dash = |path: &PathBuf| path.as_os_str() == "-";
    let mut inputs = Inputs::of_run(args);
    inputs.check_stdin()?;
    if args.bytes.as_ref().is_some_and(is_dash) {
        streams::check_stdin()?;
        inputs.stdin();
    }
    let is_call = args.function.as_ref().is_some_and(|name| !OWN_ENTRIES.contains(&name.as_str()));
    if !is_call {
        inputs.stdin();
    }
    let file = args.output.as_deref().filter(|path| path.as_os_str() != "-");
    let trace = args.observe.trace.as_deref();
    inputs.check_outputs(&[("--output", file), ("--trace", trace)])?;
    // A program's stdout is its own affair.
    if is_call && file.is_none() {
        streams::check_stdout().map_err(|error| error.help(output::ELSEWHERE))?;
        inputs.check_stdout()?;
    }
    Ok(())
}

/// Refuses a call that cannot be right, as far as that is known before the module's code is there. Gives
/// the arguments where they are read already: stdin may be among them.
fn early(args: &RunArgs) -> Result<Option<stockade::Json>, Error> {
    let Some(name) = args.function.as_ref().filter(|name| !OWN_ENTRIES.contains(&name.as_str()))
    else {
        return early_program(args).map(|()| None);
    };
    arguments::check_files(args.args.iter().map(String::as_str))?;
    arguments::check_files(args.named.iter().map(|named| named.value.as_str()))?;
    let bytes = args.bytes.as_deref().filter(|path| path.as_os_str() != "-");
    bytes.map_or(Ok(()), arguments::check_file)?;
    let Some(module) = setup::described(&args.module, &args.pool) else { return Ok(None) };
    let targets = target::targets(&module);
    let target = targets.iter().find(|target| target.name == name);
    let file = args.module.display().to_string();
    match target {
        Some(target) if target.shape == Shape::Command => Ok(None),
        Some(_) if args.bytes.is_some() => {
            stockade::check_call(&file, &module, name, Bytes(Vec::new()))?;
            Ok(None)
        }
        Some(target) => {
            let given = read(args, target)?;
            stockade::check_call(&file, &module, name, given.clone())?;
            Ok(Some(given))
        }
        // Told by the pool, which knows of programs too.
        None if targets.iter().any(|target| target.shape == Shape::Command) => Ok(None),
        None => {
            stockade::check_call(&file, &module, name, stockade::Json::new())?;
            Ok(None)
        }
    }
}

/// As [`early`], where the module is run as a program.
fn early_program(args: &RunArgs) -> Result<(), Error> {
    let Some(module) = setup::described(&args.module, &args.pool) else { return Ok(()) };
    let targets = target::targets(&module);
    let has_command = targets.iter().any(|target| target.shape == Shape::Command);
    let entry = args.entry.as_ref().filter(|_| args.function.is_none());
    if entry.is_none() && !has_command && args.function.is_none() {
        return Err(which_function(&module, &targets));
    }
    let command = entry.into_iter().fold(Command::new(""), Command::entry);
    let own = args.function.as_deref().unwrap_or(OWN_ENTRIES[1]);
    Ok(stockade::check_call(&args.module.display().to_string(), &module, own, command)?)
}

fn which_function(module: &ModuleDescription, targets: &[Target<'_>]) -> Error {
    no_function(module, targets).help("stockade run MODULE FUNCTION ARGS...")
}

fn read(args: &RunArgs, target: &Target<'_>) -> Result<stockade::Json, Error> {
    let texts = args.args.iter().chain(&args.argv);
    arguments::read(texts, &args.named, target.params())
}

fn called(
    pool: &Pool,
    args: &RunArgs,
    given: Option<stockade::Json>,
    observer: &mut Observer,
) -> Result<Exit, Error> {
    let Some(module) = pool.modules().next().map(|(_, module)| module) else {
        return Err(Error::new(Exit::Internal, "the pool has no module"));
    };
    let targets = target::targets(module);
    let has_command = targets.iter().any(|target| target.shape == Shape::Command);
    match (&args.function, &args.entry) {
        (None, entry) if has_command || entry.is_some() => {
            command::run(pool, entry.as_deref(), args, observer)
        }
        (None, _) => Err(which_function(module, &targets)),
        // An entry that stands in the settings is for runs without a function.
        (Some(name), _) => {
            let target = targets.iter().find(|target| target.name == name);
            if target.is_some_and(|target| target.shape == Shape::Command) {
                return command::run(pool, Some(name), args, observer);
            }
            let submitted = submit(pool, args, name, (target, given), observer).map_err(|error| {
                let unknown = target.is_none() && has_command;
                let hint = "the module is a program: its arguments come after --, as in `stockade \
                            run MODULE -- ARGV...`";
                if unknown { error.help(hint) } else { error }
            })?;
            finish(submitted, args, observer)
        }
    }
}

/// The error of a call that names no function, of a module that is no program.
pub(crate) fn no_function(module: &ModuleDescription, targets: &[Target<'_>]) -> Error {
    const SHOWN_MAX: usize = 12;
    let error = Error::new(Exit::Usage, "which function? the module is not a program");
    if targets.is_empty() {
        let exports = module.exports.len();
        return error
            .because(format!("none of its {exports} exports is a function that can be called"))
            .help(
                "a function is exported with #[stockade_guest::task], or takes and gives numbers",
            );
    }
    let mut shown: Vec<_> = targets.iter().take(SHOWN_MAX).map(Target::signature).collect();
    if targets.len() > SHOWN_MAX {
        shown.push(format!("and {} more: see `stockade inspect`", targets.len() - SHOWN_MAX));
    }
    let error = error.because(format!("it has\n{}", shown.join("\n")));
    match target::entries(module).next() {
        Some(_) => error.help("`--entry NAME` runs it as a program from the export NAME"),
        None => error,
    }
}

fn submit(
    pool: &Pool,
    args: &RunArgs,
    name: &str,
    (target, given): (Option<&Target<'_>>, Option<stockade::Json>),
    observer: &Observer,
) -> Result<Submitted, Error> {
    let options = TaskOptions::default().retries(args.pool.retries);
    if let Some(path) = &args.bytes {
        let bytes = Bytes(arguments::read_file(path)?);
        return submit_with(pool, name, bytes, options, observer);
    }
    let given = match (given, target) {
        (Some(given), _) => given,
        (None, Some(target)) => read(args, target)?,
        // The library knows best what was meant.
        (None, None) => stockade::Json::new(),
    };
    submit_with(pool, name, given, options, observer)
}

fn submit_with(
    pool: &Pool,
    name: &str,
    given: impl Arguments + Clone,
    options: TaskOptions,
    observer: &Observer,
) -> Result<Submitted, Error> {
    let recording = observer.keeps_arguments().then(|| pool.record(name, given.clone()));
    Ok((pool.submit_with(name, given, options)?, recording))
}

/// Shows what the task tells while it runs, and then how it ended.
fn finish(
    (handle, recording): Submitted,
    args: &RunArgs,
    observer: &mut Observer,
) -> Result<Exit, Error> {
    let handle = &handle;
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    let raw = args.bytes.is_some();
    let printed = thread::scope(|scope| {
        let printer = thread::Builder::new()
            .name("stockade-emitted".into())
            .spawn_scoped(scope, || print_emitted(handle, raw, &bar))
            .map_err(|error| Error::of_machine(&MachineError::of("start a thread", &error)));
        watch(handle, &bar, args.output.as_deref().is_none_or(|path| path.as_os_str() == "-"));
        // The printer ends with the task; it panics only where this thread would.
        printer.map(|printer| printer.join().unwrap_or(Ok(())))
    })?;
    bar.finish_and_clear();
    let ended = handle.output().and_then(Written::from_output);
    if matches!(ended, Err(TaskError::Cancelled(_))) && streams::has_left() {
        return Err(Error::silent(Exit::ReaderGone));
    }
    let task = handle.report();
    let saved = observer.ended(1, handle, || recording);
    if args.json {
        printed.map_err(|error| streams::failed(&error))?;
        let text = format!(
            "{{{},\"report\":{}}}",
            outcome_json(&ended),
            json::text(&report::to_json(&task, args.pool.deterministic))
        );
        output::write(Written::Line(text), None)?;
        for (_, told) in observer.summary() {
            streams::say(|to| writeln!(to, "{told}"));
        }
        return ended
            .map(|_| Exit::Success)
            .map_err(|error| Error::silent(Error::from(&error).exit()));
    }
    streams::say(|to| report::write_captured(to, &task));
    if args.report {
        streams::say(|to| report::write_report(to, &task, args.pool.deterministic));
    }
    printed.map_err(|error| streams::failed(&error))?;
    let ended = ended.map_err(|error| {
        let error = located::error(&error, handle.pool().as_ref());
        observer.describe(error, &saved)
    });
    output::write(ended?, args.output.as_deref())?;
    Ok(Exit::Success)
}

/// How a task ended, as a field of an object.
fn outcome_json(ended: &Result<Written, TaskError>) -> String {
    match ended {
        Ok(Written::Line(line)) => format!("\"result\":{line}"),
        Ok(Written::Bytes(bytes)) => {
            format!(
                "\"result_base64\":\"{}\"",
                base64::engine::general_purpose::STANDARD.encode(bytes)
            )
        }
        Err(error) => format!("\"error\":{}", Problem::of_task(error).to_json()),
    }
}

/// Writes every item that the task emits, as it comes. Where nobody reads them the task is ended:
/// what it would still emit has no use.
fn print_emitted(handle: &Handle, raw: bool, bar: &ProgressBar) -> io::Result<()> {
    let print = |line: String| {
        bar.suspend(|| streams::stdout().write_all(format!("{line}\n").as_bytes()))
            .inspect_err(|_| handle.cancel_running())
    };
    if raw {
        // Bytes decode to themselves.
        for item in handle.emitted::<Vec<u8>>().flatten() {
            print(output::item_line(&item))?;
        }
        return Ok(());
    }
    // In its own words: a `Value` would round numbers and drop keys that stand twice.
    for item in handle.emitted::<Box<RawValue>>() {
        match item {
            Ok(value) => print(output::item_line(value.get().as_bytes()))?,
            Err(error) => bar.suspend(|| {
                let message = escape::line(&error.to_string());
                streams::say(|to| writeln!(to, "an emitted item was skipped: {message}"));
            }),
        }
    }
    Ok(())
}

/// Blocks until the task has ended. One that takes long shows its progress, if a person watches. One
/// whose result goes to a stdout that nobody reads any more is ended, where it is `to_stdout`.
fn watch(handle: &Handle, bar: &ProgressBar, to_stdout: bool) {
    if handle.wait(QUIET) {
        return;
    }
    if streams::stderr_is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar.set_style(style("{spinner} {elapsed} running"));
    }
    let mut known_total = None;
    while !handle.wait(GLANCE) {
        if to_stdout && streams::has_left() {
            handle.cancel_running();
        }
        if let Some((done, total)) = handle.progress() {
            if known_total != Some(total) {
                known_total = Some(total);
                bar.set_style(match total {
                    0 => style("{spinner} {elapsed} {human_pos} done, {per_sec}"),
                    _ => style("{wide_bar} {human_pos}/{human_len} {percent}% {eta} left"),
                });
                bar.set_length(total);
            }
            bar.set_position(done);
        }
        bar.tick();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
