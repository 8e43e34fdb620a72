//! Counts what a task costs in instructions, and compares that with a baseline.
//!
//! ```text
//! stockade-instructions check BASELINE    each scenario, 1,000 and 3,000 tasks, under callgrind
//! stockade-instructions accept BASELINE     (instructions of 3,000 − of 1,000) ÷ 2,000 = of one task
//! stockade-instructions run SCENARIO TASKS
//! ```
//!
//! A count is nearly the same on a busy machine as on a quiet one, so it finds a slower path that no
//! clock would. It exits with 1 where a scenario takes more than 5 % more than the baseline says; one
//! that takes so much less is told too, so that the baseline can follow.
//!
//! Deliberately absent: whatever crosses a process or waits, which takes another number of instructions
//! each time; and the worker, whose share is mostly the engine's.

mod scenarios;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

use scenarios::SCENARIOS;

/// How much more than the baseline is let pass.
const ROOM: f64 = 0.05;

/// Counts of which the least is taken.
const RUNS: usize = 5;

/// Tasks of the two runs, whose difference leaves the start of the program out.
const FEW: u64 = 1_000;
const MANY: u64 = 3_000;

type Counts = BTreeMap<String, f64>;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run", name, tasks] => {
            let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
            let scenario = found.ok_or("there is no such scenario")?;
            (scenario.run)(tasks.parse()?);
            Ok(ExitCode::SUCCESS)
        }
        ["check", file] => {
            let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
            compare(&serde_json::from_str(&text)?, &count_all()?)
        }
        ["accept", file] => {
            let counts = count_all()?;
            let rounded: Counts = counts.into_iter().map(|(name, n)| (name, n.round())).collect();
            std::fs::write(file, serde_json::to_string_pretty(&rounded)? + "\n")?;
            Ok(ExitCode::SUCCESS)
        }
        _ => Err("usage: stockade-instructions check BASELINE | accept BASELINE".into()),
    }
}

/// Prints each scenario with its baseline.
fn compare(baseline: &Counts, counts: &Counts) -> Result<ExitCode, Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    let mut ended = ExitCode::SUCCESS;
    writeln!(out, "{:20} {:>12} {:>12} {:>8}", "instructions a task", "now", "baseline", "")?;
    for (name, now) in counts {
        let verdict = match baseline.get(name) {
            None => "NEW: accept a baseline",
            Some(then) if *now > then * (1.0 + ROOM) => "MORE",
            Some(then) if *now < then * (1.0 - ROOM) => "less: accept a baseline",
            Some(_) => "",
        };
        if matches!(verdict, "MORE" | "NEW: accept a baseline") {
            ended = ExitCode::FAILURE;
        }
        let (then, change) = match baseline.get(name) {
            Some(then) => (format!("{then:.0}"), format!("{:+.1} %", 100.0 * (now / then - 1.0))),
            None => Default::default(),
        };
        writeln!(out, "{name:20} {now:>12.0} {then:>12} {change:>8}  {verdict}")?;
    }
    Ok(ended)
}

fn count_all() -> Result<Counts, Box<dyn Error>> {
    SCENARIOS
        .iter()
        .map(|scenario| {
            let more = least(scenario.name, MANY)? - least(scenario.name, FEW)?;
            Ok((scenario.name.to_owned(), more / (MANY - FEW) as f64))
        })
        .collect()
}

/// The least of some counts: which thread serves a submission is the scheduler's to say.
fn least(scenario: &str, tasks: u64) -> Result<f64, Box<dyn Error>> {
    let counts: Vec<f64> = (0..RUNS).map(|_| count(scenario, tasks)).collect::<Result<_, _>>()?;
    Ok(counts.into_iter().fold(f64::INFINITY, f64::min))
}

/// Instructions of this program while it runs a scenario.
fn count(scenario: &str, tasks: u64) -> Result<f64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["run", scenario, &tasks.to_string()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run valgrind: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{scenario} failed: {text}").into());
    }
    // "==123== Collected : 4567"
    let collected = text.lines().find_map(|line| line.split_once("Collected :"));
    let (_, number) = collected.ok_or("callgrind did not say what it collected")?;
    Ok(number.trim().parse()?)
}
