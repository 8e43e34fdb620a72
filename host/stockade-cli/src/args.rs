//! The command line: its options and their documentation.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};
use stockade::{COMPILE_THREADS_MAX, Features};

use crate::bench::BenchArgs;
use crate::build::BuildArgs;
use crate::cache::CacheArgs;
use crate::exit;
use crate::map::identity::Said;
use crate::map::options::{ShapeArgs, SinkArgs};
use crate::map::program::ProgramArgs;
use crate::new::NewArgs;
use crate::observe::ObserveArgs;
use crate::pages::{CompletionsArgs, ManArgs};
use crate::replay::ReplayArgs;
use crate::settings;
use crate::values::{
    DirGrant, EnvGrant, Given, Layers, Named, Size, WallTime, retries, time, whole,
};

const ABOUT: &str =
    "Runs functions of untrusted WebAssembly modules in worker processes of their own";

const LONG_ABOUT: &str = "\
Runs functions of untrusted WebAssembly modules in worker processes of their own.

A module is a file built for wasm32-wasip1 (or a .wat text file). Its code is compiled in a process \
of its own and runs in another. It has access only to the files and variables that are granted, and \
never to the network.";

const EXAMPLES: &str = "\
Examples:
  stockade new tasks && stockade build tasks         a first guest
  stockade inspect tasks.wasm                        show its functions
  stockade run tasks.wasm word_count 'to be or not'  call a function
  stockade run tool.wasm -- --verbose < in > out     run a program
  stockade map tasks.wasm word_count --input text book.txt > counts.jsonl

";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "stockade", version, about = ABOUT, long_about = LONG_ABOUT, propagate_version = true)]
#[command(after_help = format!("{EXAMPLES}{}\n{}", settings::HELP, exit::HELP))]
pub(crate) struct Cli {
    /// Read settings from FILE instead of the nearest stockade.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Subcommand,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Subcommand {
    New(NewArgs),
    Build(BuildArgs),
    Run(RunArgs),
    Map(MapArgs),
    Replay(ReplayArgs),
    Inspect(InspectArgs),
    Bench(BenchArgs),
    Doctor(DoctorArgs),
    Cache(CacheArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

const RUN_EXAMPLES: &str = "\
Examples:
  stockade run scalar.wat add 2 3
  stockade run tasks.wasm word_count 'to be or not to be'
  stockade run tasks.wasm top_words @book.txt 10
  stockade run tasks.wasm top_words --arg limit=10 --arg text=@book.txt
  stockade run pictures.wasm preview --bytes photo.jpg --output small.png
  stockade run tool.wasm --grant-dir data::/data -- --count /data/list < input > output
  stockade run python.wasm --entry run -- -c 'print(1)'

Arguments:
  Each ARG is JSON: 3, true, '[1, 2]', '{\"x\": 1}'. For a parameter whose type is a text (String,
  &str, char ...) an ARG that is not a JSON string is the text itself: hello, 'to be', 42.
  @FILE stands for the content of FILE: the text of a text parameter, the bytes of a byte parameter
  (Bytes, Vec<u8>), JSON for any other. A text that begins with @ is written as JSON: '\"@home\"'.
  ARGs after -- may begin with a hyphen.

Output:
  The result is one line of JSON on stdout; emitted items come before it, one a line. With --bytes
  the result is written as raw bytes. The function's own stdout, stderr and log
  go to stderr, with control characters escaped.
";

/// Call a function of a module, or run a command module
#[derive(Debug, Args)]
#[command(after_help = format!("{RUN_EXAMPLES}\n{}", exit::HELP))]
pub(crate) struct RunArgs {
    /// The module: a .wasm file, or a .wat file in the text format
    pub(crate) module: PathBuf,

    /// The function to call; without it, the module runs as a program, from its export "" or else
    /// `_start`
    pub(crate) function: Option<String>,

    /// Run the module as a program from its export NAME, which takes nothing and returns nothing or
    /// the exit code; the module's `_initialize` runs before it
    #[arg(long, value_name = "NAME", conflicts_with = "function")]
    pub(crate) entry: Option<String>,

    /// Arguments by position: JSON, text for a text parameter, or @FILE
    #[arg(value_name = "ARG", allow_negative_numbers = true)]
    pub(crate) args: Vec<String>,

    /// For a program: its arguments. For a function: more ARGs
    #[arg(last = true, value_name = "ARGV")]
    pub(crate) argv: Vec<String>,

    /// An argument by name; the value is written as an ARG is
    #[arg(long = "arg", value_name = "NAME=VALUE", conflicts_with = "bytes")]
    pub(crate) named: Vec<Named>,

    /// Pass the bytes of FILE (- for stdin) as the only argument, and write the result's bytes
    #[arg(long, value_name = "FILE", conflicts_with_all = ["args", "argv"])]
    pub(crate) bytes: Option<PathBuf>,

    /// Write the result to FILE; - is stdout, even for binary data on a terminal
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Report on stderr what the task used: time, memory, fuel
    #[arg(long)]
    pub(crate) report: bool,

    /// For a function: write one JSON object with the result or the error, and what the task used and
    /// wrote, to stdout
    #[arg(long, conflicts_with_all = ["output", "report"])]
    pub(crate) json: bool,

    /// Let a program's output reach the terminal as it is, with its control characters: only for
    /// programs that you trust with your terminal
    #[arg(long)]
    pub(crate) allow_terminal_control: bool,

    #[command(flatten)]
    pub(crate) observe: ObserveArgs,

    #[command(flatten)]
    pub(crate) pool: PoolArgs,
}

const MAP_EXAMPLES: &str = "\
Examples:
  stockade map tasks.wasm word_count --input text book.txt > counts.jsonl
  stockade map scalar.wat add --args pairs.jsonl          with lines like [1, 2]
  stockade map tasks.wasm top_words --input csv t.csv     with the header text,limit
  stockade map pictures.wasm preview --files photos/*.jpg --output-dir small --extension png
  stockade map tasks.wasm score rows.jsonl --output scores.jsonl --resume scores.state
  tail -f events.jsonl | stockade map tasks.wasm classify --plain
  stockade map classify.wasm classify rows.jsonl --init-arg model=@model.json
  stockade map qjs.wasm --program scripts.txt -- --std -e {}    a program for each line
  stockade map qjs.wasm -- --std -e {} < scripts.txt            the same
  stockade map wc.wasm --program --files texts/*.txt            each file is the stdin of a run
  stockade map wc.wasm --files --grant-dir texts texts/*.txt -- -l {}

Input:
  json   a line is one JSON value, the argument; blank lines are skipped
  text   a line is one text, the argument; a blank line is an empty text
  csv    a row is the arguments by the names in the header, which are those of the parameters. For a
         function of one parameter that no column is named after, a row is one argument, an object.
         The parameter's type, or in a Rust guest the field's, decides how a cell is read. If it is
         not known, a cell without quotes that looks like a number, true or false is that, an empty
         one is null, and any other is a text; `--csv-text` makes all of them texts. Blank lines
         are skipped. Functions over numbers take their arguments in the columns' order
  A line or a row may have 16 MiB, a file of `--files` 128 MiB.

Output:
  One line of JSON for each item of the input, in the input's order:
    {\"line\":1,\"result\":...}
    {\"line\":2,\"error\":{\"kind\":\"trap\",\"fault\":\"guest\",\"message\":\"...\"}}
  `line` counts the input's lines from 1; for `--files` it is `file`, with the name. Kinds of error:
  bad-line, bad-file and wrong-arguments (it was not run), error, panic, bad-arguments, trap, exited
  and abi (the guest failed), deadline, memory, fuel and output (a limit), worker-lost (the process
  died), undecodable (the result is not JSON). An error costs its own item only.
  With --output-dir the error of an item is in LINE.error.json or NAME.error.json.

Programs:
  With --program, or with ARGV, the module is run from its `_start` or its export \"\", or from the
  export that --entry names, once for each item, in a fresh instance with all limits to itself. The
  item is an argument, stdin or a file (--item); otherwise arguments and stdin are empty. With
  `--input json` an item is the text of a line's JSON string, or else the line's JSON, so
  that an item may hold line ends.
  The result is what the program wrote to stdout (--stdout), with its exit code and stderr:
    {\"line\":1,\"result\":\"42\\n\",\"exit_code\":0,\"stderr\":\"...\"}
    {\"line\":2,\"error\":{\"kind\":\"exited\",...,\"exit_code\":1,\"stdout\":\"...\",\"stderr\":\"...\"}}
  An exit code that is not 0 is an error of its item, unless --ok-codes names it. So is a stdout of
  more than --output-limit (kind output), or one that is not text or not JSON (undecodable). The
  map's own exit code is one of those below, never a program's. Records have stdout and stderr only
  if they are not empty; with --plain and --output-dir the stderr of successful runs goes to stderr.

After Ctrl-C no item is read or started, and the map ends after the running ones; the output then
has every finished item. A second Ctrl-C ends at once. SIGTERM and SIGHUP do the same. With
`--resume` the same command continues: progress is saved every second, and later output
is truncated and done again. It is refused if the module, the input or an option that
affects results has changed; `--anew` starts over.
";

/// Call a function, or run a program, for every line, row or file of the input
#[derive(Debug, Args)]
#[command(after_help = format!("{MAP_EXAMPLES}\n{}", exit::HELP))]
pub(crate) struct MapArgs {
    /// The module: a .wasm file, or a .wat file in the text format
    pub(crate) module: PathBuf,

    /// The function to call; without it, and with --program or ARGV, the module runs as a program
    pub(crate) function: Option<String>,

    /// The file with the lines; stdin if it is - or not given. With --files: each FILE is one task
    #[arg(value_name = "FILE")]
    pub(crate) inputs: Vec<PathBuf>,

    /// Format of the input [default: json, and text for a program]
    #[arg(
        long = "input",
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        hide_default_value = true,
        help_heading = "Input"
    )]
    pub(crate) format: InputFormat,

    /// Each line holds all arguments: [1, 2], or {"args": [1], "kwargs": {"limit": 2}}
    #[arg(long, help_heading = "Input")]
    pub(crate) args: bool,

    #[command(flatten)]
    pub(crate) shape: ShapeArgs,

    #[command(flatten)]
    pub(crate) program: ProgramArgs,

    /// The limits of a program's stdout and stderr, once they are known.
    #[arg(skip)]
    pub(crate) program_limits: Option<(Size, Size)>,

    #[command(flatten)]
    pub(crate) sink: SinkArgs,

    /// Write results as they complete, not in the input's order
    #[arg(long, help_heading = "Output")]
    pub(crate) unordered: bool,

    /// Write bare results, a line each; an item that failed is null, and its error goes to stderr
    #[arg(long, help_heading = "Output")]
    pub(crate) plain: bool,

    /// Worker processes [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = whole(1..=1024))]
    pub(crate) workers: Option<u64>,

    /// Send items in chunks of N [default: as many as take about 0.2 ms, by what the items before them took]
    #[arg(long, value_name = "N", value_parser = whole(1..=10_000))]
    pub(crate) chunk: Option<u64>,

    /// Show progress in the terminal: rates, latencies, the queue, each worker
    #[arg(long, help_heading = "Seeing inside")]
    pub(crate) top: bool,

    #[command(flatten)]
    pub(crate) observe: ObserveArgs,

    #[command(flatten)]
    pub(crate) pool: PoolArgs,

    /// The given value of each option, for the map's state.
    #[arg(skip)]
    pub(crate) said: Said,
}

/// The format of a map's input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputFormat {
    /// JSON for a function, text for a program
    #[default]
    #[value(hide = true)]
    Auto,
    /// Lines, each a JSON value
    #[value(alias = "jsonl")]
    Json,
    /// Lines, each a text
    #[value(alias = "lines")]
    Text,
    /// Rows below a header
    Csv,
}

/// Show a module's functions, signatures, docs and imports, without running it
#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct InspectArgs {
    /// The module: a .wasm file, or a .wat file in the text format
    pub(crate) module: PathBuf,

    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Also show a module that imports functions that are not provided, as `run` accepts it with the
    /// same option
    #[arg(long, value_enum, value_name = "HOW", default_value_t = UnknownImports::Refuse)]
    pub(crate) unknown_imports: UnknownImports,
}

/// What to do about imports that are not provided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum UnknownImports {
    /// The module is refused
    Refuse,
    /// Calling one traps
    Trap,
    /// Calling one does nothing and returns zeros
    Default,
}

impl From<UnknownImports> for stockade::UnknownImports {
    fn from(unknown: UnknownImports) -> Self {
        match unknown {
            UnknownImports::Refuse => Self::Refuse,
            UnknownImports::Trap => Self::Trap,
            UnknownImports::Default => Self::DefaultValues,
        }
    }
}

/// What the module's code may use and reach.
#[derive(Debug, Args)]
pub(crate) struct PoolArgs {
    /// Run only if these layers of the lockdown are fully active; `stockade doctor` lists their
    /// names, and `all` means every layer
    #[arg(long, value_name = "LAYER", value_delimiter = ',')]
    pub(crate) require: Vec<Layers>,

    /// What to do about imported functions that are not provided, for modules that never call them
    #[arg(long, value_enum, value_name = "HOW", default_value_t = UnknownImports::Refuse)]
    pub(crate) unknown_imports: UnknownImports,

    /// Time for one task: 500ms, 2s, 1m, or none
    #[arg(long, value_name = "TIME", default_value = "1m", help_heading = "Limits")]
    pub(crate) wall_time: WallTime,

    /// Memory for one task, up to 4GiB
    #[arg(long, value_name = "SIZE", default_value = "256MiB", help_heading = "Limits")]
    pub(crate) memory: Size,

    /// Elements of all tables of one task, up to 10000000
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = whole(0..=u64::MAX), help_heading = "Limits")]
    pub(crate) table_elements: u64,

    /// Fuel for one task, about one unit an instruction; counting it takes time
    #[arg(long, value_name = "N", value_parser = whole(0..=u64::MAX), help_heading = "Limits")]
    pub(crate) fuel: Option<u64>,

    /// Size of the result and emitted items of one task together, up to 128MiB
    #[arg(long, value_name = "SIZE", default_value = "16MiB", help_heading = "Limits")]
    pub(crate) output_limit: Size,

    /// Bytes to keep of a function's stdout, of its stderr and of its log; the rest is dropped
    #[arg(long, value_name = "SIZE", default_value = "64KiB", help_heading = "Limits")]
    pub(crate) stdio_limit: Size,

    /// Show where a task was when its time ran out; the checks make its code slower
    #[arg(long, help_heading = "Limits")]
    pub(crate) interruptible: bool,

    /// Size of the module
    #[arg(long, value_name = "SIZE", default_value = "256MiB", help_heading = "Limits")]
    pub(crate) module_size: Size,

    /// Threads that compile the module, up to 64; their number does not change the compiled code [default:
    /// one per available processor, up to 16, and fewer for a small module]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(COMPILE_THREADS_MAX)), help_heading = "Limits")]
    pub(crate) compile_threads: Option<u32>,

    /// Processor time to compile the module, of all threads together [default: 30s, and 5s more for each MiB of it]
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Limits")]
    pub(crate) compile_time: Option<Duration>,

    /// Time to compile the module on a busy machine [default: ten times the processor time]
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Limits")]
    pub(crate) compile_wall_time: Option<Duration>,

    /// Memory to compile the module in
    #[arg(long, value_name = "SIZE", default_value = "4GiB", help_heading = "Limits")]
    pub(crate) compile_memory: Size,

    /// Size of the compiled module
    #[arg(long, value_name = "SIZE", default_value = "1GiB", help_heading = "Limits")]
    pub(crate) compiled_size: Size,

    /// Make all runs identical: clocks advance only when they are read, random numbers come from a
    /// seed, sleeping takes no time, and fuel is counted
    #[arg(long, help_heading = "Limits")]
    pub(crate) deterministic: bool,

    /// With --deterministic or --record: the seed of random numbers [default: 0, or with --record
    /// alone another in every run]
    #[arg(long, value_name = "N", value_parser = whole(0..=u64::MAX), help_heading = "Limits")]
    pub(crate) seed: Option<u64>,

    /// Features of WebAssembly 3.0, and atomic instructions, that the module may use: NAME adds
    /// one, -NAME removes one, and the list may begin with all, none or default. The features are
    /// extended-const, tail-call, multi-memory, memory64, relaxed-simd, function-references,
    /// exceptions, externref, and gc and atomics, which are off by default
    #[arg(
        long,
        value_name = "LIST",
        default_value = "default",
        allow_hyphen_values = true,
        help_heading = "Features"
    )]
    pub(crate) features: Features,

    /// Let guests read the directory HOST, under the path GUEST; with :rw, also write
    #[arg(long, value_name = "HOST[::GUEST][:rw]", help_heading = "Grants")]
    pub(crate) grant_dir: Vec<DirGrant>,

    /// Let guests see an environment variable: with a value, or with the one it has here
    #[arg(long, value_name = "NAME[=VALUE]", help_heading = "Grants")]
    pub(crate) grant_env: Vec<EnvGrant>,

    /// Run a task up to N times more if its worker process dies while running it: for tasks that may
    /// run twice. A task that fails or reaches a limit is not retried
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = retries, help_heading = "Tasks")]
    pub(crate) retries: u32,

    /// The function that initialises the module before its tasks [default: the one it declares]
    #[arg(long, visible_alias = "initializer", value_name = "NAME", help_heading = "Instances")]
    pub(crate) init: Option<String>,

    /// An argument of the initializer, by position or by name, written as an ARG is
    #[arg(long, value_name = "[NAME=]VALUE", help_heading = "Instances")]
    pub(crate) init_arg: Vec<Given>,

    /// Whether each task gets a fresh instance, or a worker keeps one instance for all of its tasks
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Instances::PerTask, help_heading = "Instances")]
    pub(crate) instances: Instances,

    /// Keep the compiled module in the directory DIR, which is created with mode 0700 if missing, and
    /// reuse it the next time
    #[arg(long, value_name = "DIR", help_heading = "Cache")]
    pub(crate) cache: Option<PathBuf>,
}

/// How long an instance lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Instances {
    /// A fresh instance for every task
    PerTask,
    /// One instance as long as its worker
    PerWorker,
}

const DOCTOR_EXAMPLES: &str = "\
Examples:
  stockade doctor
  stockade doctor --require seccomp,landlock && stockade run untrusted.wasm score 7
";

/// Show what this machine supports: the layers that confine a worker, and what makes it fast
///
/// Starts one worker and one compiler, which lock themselves down as all others do, and shows the
/// state of each layer, with advice on how to improve it.
#[derive(Debug, Args)]
#[command(after_help = format!("{DOCTOR_EXAMPLES}\n{}", exit::HELP))]
pub(crate) struct DoctorArgs {
    /// Check whether the cache in the directory DIR can be used
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,

    /// Fail unless these layers are fully active in both; `all` means every layer
    #[arg(long, value_name = "LAYER", value_delimiter = ',')]
    pub(crate) require: Vec<Layers>,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn no_line_of_the_help_is_broken_once_more() {
        use clap::CommandFactory;
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines() {
                assert!(line.chars().count() <= 100, "{}: {line}", command.get_name());
            }
        }
    }

    #[test]
    fn negative_numbers_are_arguments_and_what_follows_two_hyphens_is_too() {
        let parse = |words: &[&str]| match Cli::try_parse_from(words).unwrap().command {
            Subcommand::Run(args) => args,
            other => panic!("{other:?}"),
        };
        let call = parse(&["stockade", "run", "m.wat", "add", "-1", "-2.5e3", "--report"]);
        assert_eq!((call.args, call.report), (vec!["-1".to_string(), "-2.5e3".into()], true));

        let program = parse(&["stockade", "run", "m.wasm", "--fuel", "9", "--", "-l", "--report"]);
        assert_eq!(program.function, None);
        assert_eq!(
            (program.argv, program.report),
            (vec!["-l".to_string(), "--report".into()], false)
        );
    }
}
