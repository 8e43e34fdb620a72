//! `stockade doctor`: what confines workers and compilers on this machine, what makes them fast, and
//! what to do about what is missing.

use std::io::{self, Write};

use clap::builder::styling::{AnsiColor, Style};
use serde_json::{Value, json};
use stockade::{Layer, LayerReport, Level, Lockdown, LockdownReport, PoolLockdown, WorkerProgram};

use crate::args::DoctorArgs;
use crate::error::Error;
use crate::exit::Exit;
use crate::machine::{Machine, Row};
use crate::values::Layers;
use crate::{json, streams};

/// Shows every layer.
///
/// # Errors
/// If a process cannot be asked, a required layer is missing, or stdout cannot be written.
pub(crate) fn run(args: &DoctorArgs) -> Result<Exit, Error> {
    let found = stockade::lockdown(&Lockdown::default(), Some(&WorkerProgram::CurrentProgram))?;
    let machine = Machine::look(args.cache.as_deref());
    streams::print(|to| match args.json {
        true => writeln!(to, "{}", json::text(&as_json(&found, &machine))),
        false => show(to, &found, &machine),
    })?;
    let missing = found.missing(&required(&args.require));
    match missing.first() {
        None => Ok(Exit::Success),
        Some((role, LayerReport { layer, level, .. })) => Err(Error::new(
            Exit::Internal,
            format!("`{layer}` is required in full, and a {role} has {level} of it"),
        )),
    }
}

/// A lockdown that requires `layers`.
pub(crate) fn required(layers: &[Layers]) -> Lockdown {
    let layers = layers.iter().flat_map(|layers| layers.0.iter().copied());
    Lockdown::default().require(layers)
}

fn show(to: &mut dyn Write, found: &PoolLockdown, machine: &Machine) -> io::Result<()> {
    let bold = Style::new().bold();
    let head = ("layer", "worker", "compiler");
    writeln!(to, "{bold}{:18} {:8} {:9} what it means{bold:#}", head.0, head.1, head.2)?;
    for layer in Layer::ALL {
        let (worker, compiler) = (&found.worker, &found.compiler);
        let reason = worker.layer(layer).map_or("", |report| &report.reason);
        write!(to, "{:18} ", layer.name())?;
        for level in [worker.level(layer), compiler.level(layer)] {
            let style = style(level);
            write!(to, "{style}{level:8}{style:#} ", level = level.to_string())?;
        }
        writeln!(to, " {reason}")?;
        if let Some(compiler) = compiler.layer(layer).filter(|report| report.reason != reason) {
            writeln!(to, "{:37}compilers: {}", "", compiler.reason)?;
        }
    }
    writeln!(to)?;
    for Row { name, level, words, .. } in machine.rows() {
        let (style, level) = match level {
            Some(level) => (style(*level), level.to_string()),
            None => (Style::new(), String::new()),
        };
        writeln!(to, "{name:18} {style}{level:8}{style:#} {words}")?;
    }
    let short = |layer: &Layer| {
        found.worker.level(*layer) < Level::Full || found.compiler.level(*layer) < Level::Full
    };
    let layers = Layer::ALL.into_iter().filter(short).map(advice);
    let advice: Vec<_> = layers.chain(machine.rows().iter().filter_map(|row| row.advice)).collect();
    for line in &advice {
        writeln!(to, "\n{line}")?;
    }
    writeln!(to, "\n{}", summary(found))
}

fn summary(found: &PoolLockdown) -> &'static str {
    if found.is_sandboxed() {
        "Workers and compilers are sandboxed: only the system calls of their role are possible."
    } else {
        "Nothing here is sandboxed: the seccomp filter is missing."
    }
}

fn style(level: Level) -> Style {
    let color = match level {
        Level::Full => AnsiColor::Green,
        Level::Partial => AnsiColor::Yellow,
        Level::None => AnsiColor::Red,
    };
    Style::new().fg_color(Some(color.into()))
}

/// What to do if a layer is missing or partial.
fn advice(layer: Layer) -> &'static str {
    match layer {
        Layer::Namespaces => {
            "namespaces: allow ordinary users to make user namespaces (the sysctl \
             user.max_user_namespaces above 0; kernel.apparmor_restrict_unprivileged_userns and \
             kernel.unprivileged_userns_clone where they exist), or run as root with the capability \
             CAP_SYS_ADMIN. In a container, its own filter of system calls must allow clone with \
             these flags."
        }
        Layer::Privileges => {
            "privileges: run as an ordinary user, above all where directories are granted."
        }
        Layer::Landlock => {
            "landlock: needs Linux 6.12 with Landlock among its security modules (the boot \
             parameter \
             lsm=landlock,...)."
        }
        Layer::WriteXorExecute => "write-xor-execute: needs Linux 6.3.",
        Layer::Seccomp => {
            "seccomp: needs a kernel with CONFIG_SECCOMP_FILTER, and in a container that its own \
             filter allows seccomp and prctl."
        }
        Layer::ResourceLimits => {
            "resource-limits: something lowered or forbade limits before this program started; see \
             `ulimit -a`."
        }
        _ => "A layer is missing that every Linux has: please report it, with the lines above.",
    }
}

fn as_json(found: &PoolLockdown, machine: &Machine) -> Value {
    let role = |report: &LockdownReport| -> Value {
        let layer = |report: &LayerReport| {
            json!({
                "layer": report.layer.name(),
                "level": report.level.to_string(),
                "reason": report.reason,
            })
        };
        report.0.iter().map(layer).collect()
    };
    json!({
        "machine": machine.to_json(),
        "sandboxed": found.is_sandboxed(),
        "worker": role(&found.worker),
        "compiler": role(&found.compiler),
    })
}
