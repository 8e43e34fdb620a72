//! Advice: which exit code, and which next thing to try, belongs to an error of the library.

use std::time::Duration;

use stockade::{
    BrokenError, BuildError, Fault, Frame, MachineFault, RefusedReason, RunError, SubmitError,
    TaskError, TrapKind,
};

use crate::error::Error;
use crate::exit::Exit;

/// The engine's words for an access out of bounds whose address it does not know.
const NO_MORE: &str = "out of bounds memory access";

const INSPECT: &str = "`stockade inspect MODULE` shows its functions and their parameters";

impl From<BuildError> for Error {
    fn from(error: BuildError) -> Self {
        let exit = match &error {
            BuildError::ReadModule { .. } | BuildError::Grant { .. } | BuildError::Cache(_) => {
                Exit::Missing
            }
            _ => Exit::Internal,
        };
        let described = Self::described(exit, &error);
        match error {
            BuildError::Setting { setting, given, allowed } => {
                let option = option_of(setting);
                let unit = if setting.ends_with("_bytes") { " bytes" } else { "" };
                Self::new(Exit::Usage, format!("{option} is {given}{unit}; {allowed}{unit}"))
            }
            BuildError::ReadModule { source, .. } => described.help(match source.kind() {
                std::io::ErrorKind::NotFound => "check the path; MODULE is a .wasm or .wat file",
                std::io::ErrorKind::IsADirectory => "name the .wasm file in it",
                _ => "MODULE is a .wasm or .wat file that you can read",
            }),
            BuildError::Refused { reason, .. } => {
                let error = described.with_exit(Exit::Refused);
                let error = refusal_help(&reason).into_iter().fold(error, Self::help);
                match &reason {
                    RefusedReason::Import(message) if misses_functions(message) => {
                        error.help(NEVER_CALLED)
                    }
                    _ => error,
                }
            }
            BuildError::Grant { .. } => {
                described.help("`--grant-dir` takes a directory that exists and that you can read")
            }
            BuildError::Cache(_) => described.help(
                "`--cache` takes a directory that is yours alone (mode 0700), and keeps its key \
                 (mode \
                 0600) in $XDG_STATE_HOME/stockade or ~/.local/state/stockade",
            ),
            BuildError::Hook { role: "initializer", .. } => described
                .with_exit(Exit::Call)
                .help("name it with `--init`, and give its arguments with `--init-arg NAME=VALUE`")
                .help(INSPECT),
            BuildError::Hook { .. } => described.with_exit(Exit::Call).help(INSPECT),
            BuildError::NoWorkerProgram { .. } => described.help(
                "`stockade` starts itself as its worker: was its file moved or replaced just now?",
            ),
            BuildError::Machine(error) => {
                let is_slow = matches!(error.fault, MachineFault::Busy { .. })
                    && error.task.starts_with("compile");
                let refused = Self::of_machine(&error);
                match is_slow {
                    true => refused.help("`--compile-wall-time` gives it more time"),
                    false => refused,
                }
            }
            BuildError::Lockdown(error) => {
                // Its text has its source's.
                let help = error.next_step();
                help.into_iter().fold(Self::new(Exit::Internal, error.to_string()), Self::help)
            }
            _ => described,
        }
    }
}

/// What a script tells the errors of a module apart by.
pub(crate) fn kind_of(error: &BuildError) -> &'static str {
    match error {
        BuildError::ReadModule { .. } => "unreadable",
        BuildError::Refused { reason, .. } => match reason {
            RefusedReason::NotWasm(_) => "not-wasm",
            RefusedReason::Malformed(_) => "malformed",
            RefusedReason::Feature(_) => "feature",
            RefusedReason::FeaturesOff { .. } => "features-off",
            RefusedReason::Import(_) => "import",
            RefusedReason::Limit(_) => "limit",
            RefusedReason::Snapshot(_) => "snapshot",
            _ => "refused",
        },
        _ => "machine",
    }
}

/// The option behind a setting of the library.
fn option_of(setting: &str) -> &str {
    match setting {
        "memory_bytes" => "`--memory`",
        "table_elements" => "`--table-elements`",
        "compile_limits.memory_bytes" => "`--compile-memory`",
        "compile_limits.module_bytes" => "`--module-size`",
        "compile_limits.artefact_bytes" => "`--compiled-size`",
        "compile_limits.cpu_time" => "`--compile-time`",
        "compile_limits.wall_time" => "`--compile-wall-time`",
        "compile_limits.threads" => "`--compile-threads`",
        "output_bytes" => "`--output-limit`",
        "stdio_bytes" => "`--stdio-limit`",
        "wall_time" => "`--wall-time`",
        "max_workers" => "`--workers`",
        other => other,
    }
}

/// For a module that is refused because it imports functions that are not provided, without the option.
pub(crate) const NEVER_CALLED: &str =
    "`--unknown-imports trap` runs a module that never calls the functions it misses";

/// Whether functions are among the imports that a refusal names: what is said of another kind, or of a
/// function of the wrong type, begins with `as`.
fn misses_functions(message: &str) -> bool {
    message.split('`').skip(2).step_by(2).any(|behind| !behind.starts_with(" as "))
}

/// The option that raises a limit of the library which a module reached, and what it could be.
fn option_for(limit: &str) -> Option<&'static str> {
    Some(match limit {
        "Limits::memory_bytes" => "`--memory` raises the memory limit of a task, up to 4GiB",
        "Limits::table_elements" => "`--table-elements` raises the limit on a task's tables",
        "CompileLimits::module_bytes" => "`--module-size` raises the limit on a module's size",
        "CompileLimits::wall_time" => "`--compile-wall-time` allows more time to compile",
        "CompileLimits::cpu_time" => "`--compile-time` allows more processor time to compile",
        "CompileLimits::memory_bytes" => "`--compile-memory` allows more memory to compile",
        "CompileLimits::artefact_bytes" => {
            "`--compiled-size` raises the limit on the size of its \
             code"
        }
        _ => return None,
    })
}

fn refusal_help(reason: &RefusedReason) -> Option<String> {
    if let RefusedReason::FeaturesOff { features, .. } = reason {
        return Some(format!("add it to `--features`, as in `--features {features}`"));
    }
    let help = match reason {
        RefusedReason::NotWasm(_) => {
            "MODULE is a WebAssembly module, or its text format in a file that ends in .wat; a Rust \
             program becomes one with `cargo build --target wasm32-wasip1`"
        }
        RefusedReason::Malformed(_) => {
            "the file may be truncated or damaged: build or download it again"
        }
        RefusedReason::Feature(_) => {
            "no option turns it on: build the module for wasm32-wasip1 without it, as with `cargo \
             build \
             --target wasm32-wasip1`"
        }
        RefusedReason::Import(_) => {
            "only the functions of `wasi_snapshot_preview1` and `stockade` are provided"
        }
        RefusedReason::Limit(_) => {
            return reason.limit().and_then(option_for).or(reason.next_step()).map(str::to_owned);
        }
        RefusedReason::Snapshot(_) => "`--instances per-worker` needs no snapshot",
        _ => return None,
    };
    Some(help.to_owned())
}

impl From<SubmitError> for Error {
    fn from(error: SubmitError) -> Self {
        let described = Self::described(Exit::Call, &error);
        match error {
            SubmitError::Broken(cause) => broken(&cause),
            SubmitError::Closed => described.with_exit(Exit::Internal),
            SubmitError::Quarantined(_) => described.with_exit(Exit::WorkerLost).help(QUARANTINED),
            _ => described.help(INSPECT),
        }
    }
}

/// What a task's error says, a guest's words as they are: with their line ends, and for the code that shows
/// them to escape. The library's own text of it is one line.
pub(crate) fn words(error: &TaskError) -> String {
    match error {
        TaskError::Guest(guest) => format!("the task failed: {}", guest.message),
        TaskError::BadArguments(guest) => {
            format!("the task refused its arguments: {}", guest.message)
        }
        TaskError::Panic { error, .. } => {
            let place = error.location.as_ref().map(|at| format!(" (at {at})"));
            format!("the task panicked: {}{}", error.message, place.unwrap_or_default())
        }
        _ => error.to_string(),
    }
}

/// Whether `data` is the JSON of `text`.
fn is_text(data: &str, text: &str) -> bool {
    serde_json::from_str::<String>(data).is_ok_and(|data| data == text)
}

impl From<&TaskError> for Error {
    fn from(error: &TaskError) -> Self {
        let described = match error {
            // Its cause comes with it.
            TaskError::Broken(cause) => return broken(cause),
            _ => Self::described(exit_of(error), error)
                .with_message(words(error))
                .backtrace(error.backtrace().iter().map(Frame::to_string).collect())
                .of_calls(error.backtrace().len()),
        };
        match error {
            // An error that is a text is its own message.
            TaskError::Guest(guest) => match &guest.data {
                Some(data) if !is_text(data, &guest.message) => described.because(data.clone()),
                _ => described,
            },
            TaskError::BadArguments(_) => described.help(INSPECT),
            // The engine's words for the other kinds say no more.
            TaskError::Trap {
                kind: TrapKind::MemoryOutOfBounds | TrapKind::NotProvided | TrapKind::Other,
                message,
                ..
            } if message != NO_MORE => described.because(message.clone()),
            TaskError::Deadline { limit, backtrace } => {
                let more = limit.saturating_mul(10);
                let error = described
                    .help(format!("give it more time, as with `--wall-time {}`", written(more)));
                match backtrace.is_empty() {
                    true => error.help("`--interruptible` shows where it was"),
                    false => error,
                }
            }
            TaskError::Fuel { limit: u64::MAX } => described,
            TaskError::Fuel { limit } => {
                let enough = limit.saturating_mul(10).max(FUEL_MIN);
                described.help(format!("give it more, as with `--fuel {enough}`"))
            }
            TaskError::Memory { limit, .. } if *limit >= 4096 << 20 => {
                described.help("that is the maximum for a task")
            }
            TaskError::Memory { limit, wanted } => {
                let enough = (*wanted).max(limit.saturating_mul(2));
                let enough = enough.checked_next_power_of_two().unwrap_or(u64::MAX);
                let mib = (enough >> 20).clamp(1, 4096);
                described.help(format!("give it more, as with `--memory {mib}MiB`"))
            }
            TaskError::Output { limit } if *limit >= 128 << 20 => {
                described.help("that is the maximum for a task; a file of a granted directory has \
                     no such limit")
            }
            TaskError::Output { limit } => {
                let mib = (limit.saturating_mul(2) >> 20).clamp(1, 128);
                described.help(format!("allow more, as with `--output-limit {mib}MiB`"))
            }
            TaskError::Exited(_) => described.help(
                "a function returns; a program that exits is run without FUNCTION: `stockade run \
                 MODULE -- ARGV...`",
            ),
            TaskError::WorkerLost(exit) if exit.out_of_memory => described.help(
                "the machine is short of memory: use fewer `--workers`, or less `--memory`; it is \
                 safe to run it again",
            ),
            TaskError::WorkerLost(exit)
                if exit.signal == Some(KILLED) && exit.memory_excess.is_none() => described.help(
                "the worker was killed from outside, or the machine is short of memory: see the \
                 system's log; it is safe to run it again",
            ),
            TaskError::Quarantined(_) => described.with_exit(Exit::WorkerLost).help(QUARANTINED),
            TaskError::WorkerLost(_) => described
                .help("a guest should not be able to do that: please report it, with the module"),
            TaskError::Decode(_) => described.help(
                "its result is not JSON; a function of one byte parameter takes `--bytes FILE`",
            ),
            _ => described,
        }
    }
}

const QUARANTINED: &str = "look at the first `worker-lost` line: if the guest did it, please report \
                           it, with the module; if the machine is short of memory, use fewer \
                           `--workers`";

/// The least fuel that a hint names: what a short task needs.
const FUEL_MIN: u64 = 1_000_000;

/// SIGKILL, on every Linux.
const KILLED: i32 = 9;

fn exit_of(error: &TaskError) -> Exit {
    match error.fault() {
        Fault::Guest => Exit::Failed,
        Fault::Limit => Exit::Limit,
        Fault::Caller if matches!(error, TaskError::Decode(_)) => Exit::Failed,
        Fault::Caller => Exit::Call,
        Fault::Worker => Exit::WorkerLost,
        _ => Exit::Internal,
    }
}

/// A duration as `--wall-time` takes it.
fn written(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{}ms", time.as_millis().max(1)),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

impl From<RunError> for Error {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Submit(error) => error.into(),
            RunError::Task(error) => Self::from(&error),
            other => Self::described(Exit::Internal, &other),
        }
    }
}

/// What ended the pool: its initializer or finalizer as any task, or what kept it from starting.
pub(crate) fn broken(error: &BrokenError) -> Error {
    match error {
        BrokenError::Initializer(task) => Error::from(task).preceded_by(error.to_string()),
        BrokenError::Finalizer(task) => Error::from(task).preceded_by(error.to_string()),
        BrokenError::Preparation(reason) => {
            let error = Error::described(Exit::Refused, error);
            refusal_help(reason).into_iter().fold(error, Error::help)
        }
        _ => {
            let help = error.next_step();
            help.into_iter().fold(Error::described(Exit::Internal, error), Error::help)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_name_the_option_that_raises_them() {
        let cases = [
            (
                TaskError::Deadline { limit: Duration::from_secs(6), backtrace: vec![] },
                "--wall-time 1m",
            ),
            (TaskError::Fuel { limit: 500_000 }, "--fuel 5000000"),
            (TaskError::Fuel { limit: 0 }, "--fuel 1000000"),
            (TaskError::Memory { limit: 4096 << 20, wanted: 1 << 40 }, "the maximum for a task"),
            (TaskError::Memory { limit: 1 << 20, wanted: u64::MAX }, "--memory 4096MiB"),
            (TaskError::Output { limit: 0 }, "--output-limit 1MiB"),
            (TaskError::Output { limit: 128 << 20 }, "the maximum for a task"),
            (TaskError::Memory { limit: 64 << 20, wanted: 65 << 20 }, "--memory 128MiB"),
            (TaskError::Memory { limit: 1 << 20, wanted: 1 << 40 }, "--memory 4096MiB"),
            (TaskError::Output { limit: 16 << 20 }, "--output-limit 32MiB"),
        ];
        for (error, expected) in cases {
            let shown = Error::from(&error);
            assert_eq!(shown.exit(), Exit::Limit);
            assert!(format!("{shown:?}").contains(expected), "{shown:?}");
        }
    }

    #[test]
    fn time_to_compile_is_raised_by_the_option_for_it() {
        let error = std::io::Error::other("");
        let mut busy = stockade::MachineError::of("compile a module", &error);
        busy.fault = MachineFault::Busy { waited: Duration::from_secs(1), processor_time: None };
        let shown = Error::from(BuildError::Machine(busy));
        assert_eq!(shown.exit(), Exit::Internal);
        assert!(format!("{shown:?}").contains("--compile-wall-time"), "{shown:?}");
        for (limit, option) in [
            ("wall_time", "--compile-wall-time"),
            ("cpu_time", "--compile-time"),
            ("memory_bytes", "--compile-memory"),
            ("module_bytes", "--module-size"),
            ("artefact_bytes", "--compiled-size"),
        ] {
            let told = format!("it is too much (the limit `CompileLimits::{limit}`)");
            let help = refusal_help(&RefusedReason::Limit(told)).unwrap();
            assert!(help.contains(option), "{limit}: {help}");
        }
    }

    #[test]
    fn hints_about_unknown_imports_are_for_functions() {
        assert!(misses_functions("it imports `env.a` (of a host), which is not provided"));
        assert!(misses_functions(
            "it imports `env.m` as a memory, `env.a` (of a host), which are not"
        ));
        assert!(misses_functions(
            "it imports `a.b`, `c.d` as a memory (x), which are not provided"
        ));
        assert!(!misses_functions(
            "it imports `env.m` as a memory (of a host), which is not provided"
        ));
        assert!(!misses_functions("it imports `x.y` as () -> (), where it is (i32) -> (i32)"));
    }

    #[test]
    fn times_are_written_as_the_option_takes_them() {
        for (millis, text) in [(250, "250ms"), (2500, "2s"), (90_000, "90s"), (120_000, "2m")] {
            assert_eq!(written(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn a_cause_says_more_than_the_message() {
        assert!(is_text("\"no\"", "no"));
        for more in ["{\"kind\":\"no\"}", "\"no more\"", "[\"no\"]", "no"] {
            assert!(!is_text(more, "no"), "{more}");
        }
    }

    #[test]
    fn an_initializer_that_fails_is_the_guests_fault() {
        let cause = BrokenError::Initializer(TaskError::Fuel { limit: 1 });
        assert_eq!(broken(&cause).exit(), Exit::Limit);
    }
}
