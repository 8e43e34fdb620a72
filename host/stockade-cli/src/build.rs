//! `stockade build`: a guest compiled by cargo, and looked at as `inspect` does.
//!
//! Unlike anything else here, this runs code of the crate itself on this machine, as any
//! `cargo build` does: its build scripts and its macros.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use clap::Args;
use clap::builder::styling::Style;
use serde_json::{Value, json};
use stockade::{ModuleDescription, WorkerProgram};

use crate::error::Error;
use crate::exit::{self, Exit};
use crate::target::{self, Target};
use crate::{escape, inspect, json, report, streams};

const TARGET: &str = "wasm32-wasip1";

const EXAMPLES: &str = "\
Examples:
  stockade build                    the crate in this directory, in release mode
  stockade build greeter --debug    the one in greeter, without optimisation
  stockade build -- --features x    arguments after -- go to cargo

Compiling runs the crate's build scripts and macros on this machine, as cargo always does; only the
compiled module runs in a sandbox.
";

/// Compile a guest for wasm32-wasip1, and show its functions
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n{}", exit::HELP))]
pub(crate) struct BuildArgs {
    /// The directory of the crate
    #[arg(value_name = "DIR", default_value = ".")]
    path: PathBuf,

    /// Compile without optimisation
    #[arg(long)]
    debug: bool,

    /// Write JSON
    #[arg(long)]
    json: bool,

    /// More arguments for cargo
    #[arg(last = true, value_name = "CARGO ARGS")]
    cargo: Vec<OsString>,
}

/// Compiles the crate and shows its modules.
///
/// # Errors
/// If the crate is missing or does not compile, the toolchain is incomplete, or the module cannot
/// run here.
pub(crate) fn run(args: &BuildArgs) -> Result<Exit, Error> {
    // Who ignores SIGCHLD never hears how cargo ended, and that is inherited. Nobody asks the flag.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGCHLD, Arc::default());
    if !args.path.join("Cargo.toml").is_file() {
        let message = format!("there is no crate in {}: no Cargo.toml", args.path.display());
        return Err(Error::new(Exit::Missing, message)
            .help("`stockade new NAME` makes one; `stockade build DIR` builds another directory"));
    }
    add_target(&args.path)?;
    let modules = compile(args)?;
    if modules.is_empty() {
        return Err(Error::new(Exit::Refused, "cargo compiled no module")
            .because("the crate is a library for other crates: it has no module of its own")
            .help("make it one in Cargo.toml: [lib] crate-type = [\"cdylib\"]"));
    }
    let mut described = Vec::new();
    for path in modules {
        let module = stockade::inspect(&path, Some(&WorkerProgram::CurrentProgram))?;
        described.push((path, module));
    }
    let stdout = &mut Vec::new();
    let written = if args.json {
        let modules = described.iter().map(|(path, module)| {
            let mut value = inspect::as_json(module);
            value["path"] = json!(path);
            value
        });
        let value = json!({ "modules": modules.collect::<Vec<_>>() });
        writeln!(stdout, "{}", json::text(&value))
    } else {
        described.iter().try_for_each(|(path, module)| show(stdout, path, module))
    };
    written.map_err(|error| streams::failed(&error))?;
    streams::print(|to| to.write_all(stdout))?;
    match described.iter().find(|(_, module)| target::targets(module).is_empty()) {
        Some((path, _)) => {
            Err(Error::new(Exit::Call, format!("nothing in {} can be called", shown(path)))
                .help("a function is exported with #[stockade_guest::task]"))
        }
        None => Ok(Exit::Success),
    }
}

fn show(to: &mut dyn Write, path: &Path, module: &ModuleDescription) -> io::Result<()> {
    let bold = Style::new().bold();
    let name = escape::line(&shown(path));
    writeln!(to, "{bold}{name}{bold:#}  {}", report::size(module.wasm_bytes))?;
    for target in target::targets(module).iter().map(Target::signature) {
        writeln!(to, "  {target}")?;
    }
    Ok(())
}

/// A path as it can be written from here.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let inside = here.as_ref().and_then(|here| path.strip_prefix(here).ok());
    inside.unwrap_or(path).display().to_string()
}

/// A program of the toolchain that compiles the crate in `path`; the crate may choose one.
fn tool(name: &str, path: &Path) -> Command {
    let mut command = Command::new(name);
    command.current_dir(path).stdin(Stdio::null());
    command
}

/// Adds the compilation target if it is missing, and says so.
fn add_target(path: &Path) -> Result<(), Error> {
    let asked = tool("rustc", path).args(["--print", "target-libdir", "--target", TARGET]).output();
    let asked = asked.map_err(|error| {
        Error::new(Exit::Internal, "cannot run rustc")
            .cause(&error)
            .help("install Rust: https://rustup.rs")
    })?;
    let directory = String::from_utf8_lossy(&asked.stdout).trim().to_string();
    if asked.status.success() && Path::new(&directory).is_dir() {
        return Ok(());
    }
    streams::say(|to| writeln!(to, "adding the Rust target {TARGET}: rustup target add {TARGET}"));
    let added = tool("rustup", path).args(["target", "add", TARGET]).stdout(io::stderr()).status();
    let missing = Error::new(Exit::Internal, format!("the Rust target {TARGET} is missing"));
    match added {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(missing.because("rustup could not add it; its output is above")),
        Err(error) => Err(missing
            .because(format!("cannot run rustup: {error}"))
            .help("install it as your Rust was installed, or get Rust from https://rustup.rs")),
    }
}

/// Runs cargo, whose messages go to stderr, and returns the modules that it made.
fn compile(args: &BuildArgs) -> Result<Vec<PathBuf>, Error> {
    let mut command = tool("cargo", &args.path);
    command.args(["build", "--target", TARGET, "--message-format", "json-render-diagnostics"]);
    if !args.debug {
        command.arg("--release");
    }
    let no_cargo = |error: io::Error| {
        Error::new(Exit::Internal, "cannot run cargo")
            .cause(&error)
            .help("install Rust: https://rustup.rs")
    };
    let mut child = command.args(&args.cargo).stdout(Stdio::piped()).spawn().map_err(no_cargo)?;
    let mut modules = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            modules.extend(modules_of(&line.map_err(no_cargo)?));
        }
    }
    match child.wait().map_err(no_cargo)?.success() {
        true => Ok(modules),
        false => Err(Error::new(Exit::Refused, "the crate does not compile")
            .because("cargo's output is above")),
    }
}

/// The modules that a message of cargo names.
fn modules_of(message: &str) -> Vec<PathBuf> {
    let Ok(message) = serde_json::from_str::<Value>(message) else { return Vec::new() };
    if message["reason"] != "compiler-artifact" {
        return Vec::new();
    }
    let files = message["filenames"].as_array().into_iter().flatten();
    let paths = files.filter_map(|file| file.as_str().map(PathBuf::from));
    paths.filter(|path| path.extension().is_some_and(|ending| ending == "wasm")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_cargos_messages_only_modules_count() {
        let artifact = r#"{"reason":"compiler-artifact","filenames":["/t/a.wasm","/t/a.d"]}"#;
        assert_eq!(modules_of(artifact), [PathBuf::from("/t/a.wasm")]);
        for other in ["", "{}", r#"{"reason":"build-finished","success":true}"#] {
            assert!(modules_of(other).is_empty(), "{other}");
        }
    }
}
