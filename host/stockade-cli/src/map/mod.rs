//! `stockade map`: a function over the items of an input, as they come.
//!
//! ```text
//! Input ──► Inbox ──► Reading ──► Tasks ──► Order ──► Writing ──► Sink ──► stdout, FILE, DIR
//!    a thread   ╰───────── Session: this thread ─────────────╯      ╰────► MapState
//! ```
//!
//! The session takes an item only when there is room for it, so an input without end and a reader
//! that is slow both work in bounded memory; and it flushes whenever nothing else is ready, so that
//! a result never waits for the next line of input.
//!
//! Invariant: an item that was taken is written once, as its result or its error, unless it never ran
//! because the map was ended.

pub(crate) mod options;
pub(crate) mod program;

mod done;
mod item;

mod files;
mod input;
mod lines;
mod rows;

mod call;
mod order;
pub(crate) mod record;
mod sink;

pub(crate) mod identity;
mod kept;
mod state;

mod inbox;
mod interrupt;

mod session;
mod summary;
mod tally;
mod tasks;
mod watch;

use std::path::Path;
use std::sync::Arc;

use stockade::{Command, ModuleDescription};

use crate::args::{InputFormat, MapArgs};
use crate::arguments::{self, Kind};
use crate::error::Error;
use crate::exit::Exit;
use crate::floats::Floats;
use crate::inputs::Inputs;
use crate::observe::Observer;
use crate::run::no_function;
use crate::streams::Reader;
use crate::target::{self, OWN_ENTRIES, Shape, Target};
use crate::{output, setup, streams};

use call::Reading;
use inbox::Inbox;
use input::{Input, Params};
use interrupt::Interrupts;
use options::OnError;
use record::Writing;
use rows::CellReading;
use session::{Parts, Session};
use sink::Sink;
use state::MapState;

/// Runs what the command line asks for.
///
/// # Errors
/// What prevented the map from starting, or ended it early. An item that failed is an error only with
/// `--on-error stop`.
pub(crate) fn run(args: MapArgs) -> Result<Exit, Error> {
    let args = &args.settled();
    // First, because compiling takes longer than finding out.
    let inputs = check_files(args)?;
    let program = program::Plan::new(args)?;
    check_format(args)?;
    setup::check(&args.module, &args.pool)?;
    let mut input = Input::open(args)?;
    let state = args
        .sink
        .resume
        .as_ref()
        .map(|path| MapState::open(args, program.as_ref(), path))
        .transpose()?;
    // Files of a directory are looked for one by one.
    let is_over = |state: &&MapState| state.reached.complete && args.sink.output_dir.is_none();
    if let Some(state) = state.as_ref().filter(is_over) {
        return Ok(nothing_left(state));
    }
    let described = setup::described(&args.module, &args.pool);
    let planned = described.map(|module| plan(&module, args, program.as_ref(), &mut input));
    let planned = planned.transpose()?;
    let observer = Observer::new(&args.observe)?;
    let observer = if args.top { observer.with_top()? } else { observer };
    let workers = args.workers.map(|workers| workers as usize);
    let pool = setup::pool(&args.module, &args.pool, workers, &observer)?;
    let (reading, writing) = match (planned, pool.modules().next()) {
        (Some(planned), _) => planned,
        (None, Some((_, module))) => plan(module, args, program.as_ref(), &mut input)?,
        (None, None) => return Err(Error::new(Exit::Internal, "the pool has no module")),
    };
    files::check_outputs(args, &inputs, writing.gives_bytes())?;
    let reached = state.as_ref().filter(|state| state.goes_on).map(|state| &state.reached);
    let sink = Sink::open(&args.sink, reached, inputs)?;
    let refused = |error| Error::new(Exit::Internal, "the system refused to start").cause(&error);
    let inbox = Inbox::new(input.ahead());
    let told = inbox.clone();
    let _interrupts = Interrupts::watch(move |exit| told.interrupted(exit)).map_err(refused)?;
    let told = inbox.clone();
    let reader_watch = sink.is_stdout().then(|| Reader::watch(move || told.reader_left()));
    let _reader_watch = reader_watch.transpose().map_err(refused)?;
    let size = input.size();
    let reader = input.spawn(inbox.clone()).map_err(refused)?;
    let parts = Parts { reading, writing, inbox: inbox.clone(), size, sink, state, observer };
    let ended = Session::new(&pool, args, parts).run();
    inbox.close();
    if matches!(ended, Ok(Exit::Success | Exit::SomeFailed)) {
        // It has ended: the input has. Otherwise it may wait for a line that never comes, and ends
        // with the process.
        let _ = reader.join();
    }
    let unread = ended.as_ref().is_err_and(|error| error.exit() == Exit::ReaderGone);
    if unread {
        pool.kill();
        return ended;
    }
    let closed = setup::close(&pool);
    let exit = ended?;
    closed.map(|()| exit)
}

/// Refuses options of the input that do not go together.
fn check_format(args: &MapArgs) -> Result<(), Error> {
    if args.args && args.format != InputFormat::Json {
        return Err(Error::new(Exit::Usage, "`--args` needs lines of JSON"));
    }
    if args.shape.delimiter.is_some() && args.format != InputFormat::Csv {
        return Err(Error::new(Exit::Usage, "`--delimiter` is for `--input csv`"));
    }
    if args.shape.csv_text && args.format != InputFormat::Csv {
        return Err(Error::new(Exit::Usage, "`--csv-text` is for `--input csv`"));
    }
    Ok(())
}

/// Refuses streams that cannot be used, and to write over what is read, or over the state. Gives what is
/// read.
fn check_files(args: &MapArgs) -> Result<Inputs, Error> {
    let (sink, to_file) = (&args.sink, |path: &&Path| path.as_os_str() != "-");
    let mut inputs = Inputs::of_map(args);
    inputs.check_stdin()?;
    let items =
        !args.shape.files && args.inputs.first().is_none_or(|path| !to_file(&path.as_path()));
    if items || args.program.stdin.as_deref().is_some_and(|path| !to_file(&path)) {
        streams::check_stdin()?;
        inputs.stdin();
    }
    let output = sink.output.as_deref().filter(to_file);
    let (state, trace) = (sink.resume.as_deref(), args.observe.trace.as_deref());
    inputs.check_outputs(&[("--output", output), ("--resume", state), ("--trace", trace)])?;
    inputs.writes("--resume", state);
    inputs.writes("--trace", trace);
    if output.is_none() && sink.output_dir.is_none() {
        streams::check_stdout().map_err(|error| error.help(output::ELSEWHERE))?;
        inputs.check_stdout()?;
    }
    Ok(inputs)
}

/// Reports that an earlier run has done everything.
fn nothing_left(state: &MapState) -> Exit {
    let reached = &state.reached;
    let (ok, failed) = (reached.succeeded, reached.failed);
    streams::say(|to| writeln!(to, "everything was already done: {ok} ok, {failed} failed"));
    if failed > 0 { Exit::SomeFailed } else { Exit::Success }
}

/// How items become arguments, and results become output. Refuses, before anything is run, what would
/// fail for every item.
fn plan(
    module: &ModuleDescription,
    args: &MapArgs,
    program: Option<&program::Plan>,
    input: &mut Input,
) -> Result<(Reading, Writing), Error> {
    let targets = target::targets(module);
    let has_program = targets.iter().any(|target| target.shape == Shape::Command);
    let file = args.module.display().to_string();
    if let Some(program::Plan { template, ending }) = program {
        check_entry(args, &file, module, has_program)?;
        let result = ending.kind();
        let writing = Writing { program: Some(ending.clone()), result, ..writing(args) };
        return Ok((Reading::Program(Arc::new(template.clone())), writing));
    }
    let function = args.function.as_deref().unwrap_or_default();
    let Some(target) = targets.iter().find(|target| target.name == function) else {
        // The library knows best what was meant.
        let refused = stockade::check_call(&file, module, function, stockade::Json::new());
        let error = refused.map_or_else(Error::from, |()| {
            Error::new(Exit::Internal, "the module's functions cannot be told apart")
        });
        return Err(if has_program { error.help(RUN_AS_PROGRAM) } else { error });
    };
    let writing = Writing { result: result_kind(target), ..writing(args) };
    Ok((reading(target, args, input)?, writing))
}

const RUN_AS_PROGRAM: &str = "the module is a program: `--program`, or ARGV behind --, runs it for \
                              each item, as in `stockade map MODULE FILE -- ARGV {}`";

/// Refuses a program that the module does not have.
fn check_entry(
    args: &MapArgs,
    file: &str,
    module: &ModuleDescription,
    has_program: bool,
) -> Result<(), Error> {
    let targets = target::targets(module);
    let no_program_was_asked_for = args.program.argv.is_empty() && args.inputs.is_empty();
    let error = match &args.program.entry {
        Some(entry) => {
            let command = Command::new("").entry(entry);
            match stockade::check_call(file, module, OWN_ENTRIES[1], command) {
                Ok(()) => return Ok(()),
                Err(refused) => Error::from(refused),
            }
        }
        None if has_program => return Ok(()),
        None if no_program_was_asked_for => {
            return Err(no_function(module, &targets).help("stockade map MODULE FUNCTION [FILE]"));
        }
        None => {
            let message = "the module is not a program: it has no `_start`, and no export \"\"";
            let error = Error::new(Exit::Call, message);
            match target::entries(module).next() {
                Some(_) => error.help("`--entry NAME` runs it as a program from the export NAME"),
                None => error,
            }
        }
    };
    Err(error
        .help("stockade map MODULE FUNCTION [FILE] calls a function for each item")
        .help("`stockade inspect MODULE` shows its functions"))
}

fn writing(args: &MapArgs) -> Writing {
    Writing {
        plain: args.plain,
        skips_errors: args.sink.on_error == OnError::Skip,
        files: args.sink.output_dir.is_some().then(|| args.sink.clone()),
        result: Kind::Any,
        program: None,
    }
}

fn reading(target: &Target<'_>, args: &MapArgs, input: &mut Input) -> Result<Reading, Error> {
    let params = match target.shape {
        Shape::Task(function) => Params::Named(&function.params),
        Shape::Scalar { params, .. } => Params::Numbers(params.len()),
        Shape::Untyped | Shape::Command => Params::Unknown,
    };
    let reading = CellReading {
        as_text: args.shape.csv_text,
        by_guest: matches!(target.shape, Shape::Task(function) if function.reads_cells),
    };
    if let Some(header) = input.header(&params, reading)? {
        return Ok(Reading::Rows(header));
    }
    let floats = match target.shape {
        Shape::Task(function) => Floats::of(&function.params),
        _ => Floats::default(),
    };
    let arity = target.arity();
    if let Some(arity) = arity.filter(|arity| *arity != 1 && !args.args) {
        return Err(wrong_arity(target, arity, args.shape.files));
    }
    if args.shape.files {
        let takes_json = match target.shape {
            Shape::Task(function) => {
                matches!(arguments::kind_of(function.params.first()), Kind::Any | Kind::Json)
            }
            _ => arity.is_some(),
        };
        return Ok(if takes_json { Reading::JsonFile(floats) } else { Reading::Raw });
    }
    Ok(match (args.format, args.args) {
        (InputFormat::Text, _) => Reading::Text,
        (_, true) => Reading::AllArguments(floats),
        _ => Reading::Json(floats),
    })
}

/// What a function gives back where it is given bytes.
fn result_kind(target: &Target<'_>) -> Kind {
    match target.shape {
        Shape::Task(function) => arguments::result_kind(&function.result),
        _ => Kind::Any,
    }
}

fn wrong_arity(target: &Target<'_>, arity: usize, of_files: bool) -> Error {
    let item = if of_files { "a file" } else { "a line" };
    let message = format!("`{}` takes {arity} arguments, and {item} is one", target.signature());
    Error::new(Exit::Call, message)
        .help("with `--args` each line holds them all, as in [1, 2]")
        .help("with `--input csv` a row's columns are arguments by name")
}
