//! Trials: many modules in one pool, the functions of each called, and every end accounted for.
//!
//! What the library says of each module is compared with what admission says here; a module that is
//! to be refused gets a pool of its own, so that it is refused there too.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use stockade::{
    BuildError, Bytes, Command, ExportType, Features, Json, Limits, ModuleDescription, Output,
    Pool, PoolBuilder, RefusedReason, TaskError, TaskHandle, TaskOptions, ValueType,
};
use stockade_tests::{PATIENCE, Random, processes_named, threads_named};
use stockade_wire::{EngineSettings, RefusalKind};

use crate::compare::compare;
use crate::make::Made;
use crate::tally::Tally;
use crate::{MEMORY_BYTES, TABLE_ELEMENTS};

/// The most functions of one module that are called.
const CALLS_MAX: usize = 8;

/// What a task may take before its worker is killed. It may be too little on a busy machine, which
/// is an end like any other.
const WALL_TIME: Duration = Duration::from_millis(500);

/// What the engine says where it finds a fault of its own.
pub(crate) const ENGINE_BUG: &str = "bug in Wasmtime";

/// Tries `modules`.
pub(crate) fn run(modules: Vec<Made>, seed: u32, tally: &Tally) {
    let (mut admitted, refused) = divide(modules);
    for (made, kind) in refused {
        let built = builder().module_bytes(made.name(), made.wasm.clone()).build();
        match built {
            Err(BuildError::Refused { reason, .. }) if is_of_kind(&reason, kind) => {
                tally.module(&made, &format!("refused: {}", name_of(&reason)));
            }
            other => tally.violation(&made, format!("is {kind:?} here, and there {other:?}")),
        }
    }
    for made in &admitted {
        compare(made, seed, tally);
    }
    let Some(pool) = build(&mut admitted, tally) else { return };
    call_all(&pool, &admitted, seed, tally);
    end(pool, &admitted, tally);
}

/// Compares those of `modules` that are admitted, without a pool.
pub(crate) fn compare_all(modules: Vec<Made>, seed: u32, tally: &Tally) {
    let (admitted, refused) = divide(modules);
    for made in &admitted {
        compare(made, seed, tally);
        tally.module(made, "admitted");
    }
    for (made, kind) in &refused {
        tally.module(made, &format!("refused: {kind:?}"));
    }
}

/// Those that are admitted, and the others with the reason.
fn divide(modules: Vec<Made>) -> (Vec<Made>, Vec<(Made, RefusalKind)>) {
    let settings = EngineSettings { features: Features::all(), ..limits().engine_settings() };
    let (mut admitted, mut refused) = (Vec::new(), Vec::new());
    for made in modules {
        let answer = stockade_module::binary(&made.wasm, false)
            .and_then(|binary| stockade_module::admit(&binary, &settings));
        match answer {
            Ok(_) => admitted.push(made),
            Err(refusal) => refused.push((made, refusal.kind)),
        }
    }
    (admitted, refused)
}

fn limits() -> Limits {
    Limits::default()
        .wall_time(WALL_TIME)
        .memory_bytes(MEMORY_BYTES)
        .table_elements(TABLE_ELEMENTS)
        .output_bytes(1 << 20)
        .stdio_bytes(4 << 10)
}

fn builder() -> PoolBuilder {
    Pool::single()
        .name(pool_name())
        .limits(limits())
        .features(Features::all())
        .quarantine_after(None)
}

/// A name that no other pool on this machine has, short enough to stand whole before a dash where
/// the system keeps 15 bytes of a name.
fn pool_name() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed) % 100_000;
    format!("s{}x{number}", std::process::id())
}

/// A pool of the modules that the compiler takes; the others leave `modules`.
fn build(modules: &mut Vec<Made>, tally: &Tally) -> Option<Pool> {
    while !modules.is_empty() {
        let with = |builder: PoolBuilder, made: &Made| {
            builder.module_bytes(made.name(), made.wasm.clone())
        };
        let error = match modules.iter().fold(builder(), with).build() {
            Ok(pool) => return Some(pool),
            Err(error) => error,
        };
        let BuildError::Refused { name, reason } = &error else {
            tally.violation(&modules[0], format!("its pool was not built: {error:?}"));
            return None;
        };
        let Some(place) = modules.iter().position(|made| made.name() == *name) else {
            tally.violation(&modules[0], format!("another was refused: {error:?}"));
            return None;
        };
        // It was admitted, so what is left is what compiling it takes.
        let made = modules.swap_remove(place);
        match reason {
            RefusedReason::Limit(why) if !why.contains("gave up") => {
                tally.module(&made, "refused: limit of the compiler");
            }
            reason => tally.violation(&made, format!("was admitted, and refused: {reason:?}")),
        }
    }
    None
}

fn call_all(pool: &Pool, modules: &[Made], seed: u32, tally: &Tally) {
    let descriptions: BTreeMap<&str, &ModuleDescription> = pool.modules().collect();
    let mut running = Vec::new();
    for made in modules {
        let mut random = Random::of_part(u64::from(seed) + 1, made.number);
        let Some(description) = descriptions.get(made.name().as_str()) else {
            tally.violation(made, "the pool does not know it".into());
            continue;
        };
        tally.module(made, "compiled");
        for call in calls(made, description, &mut random) {
            match call.submit(pool) {
                Ok(task) => running.push((made, call, task)),
                Err(why) => tally.violation(made, format!("{call:?} was not accepted: {why}")),
            }
        }
    }
    for (made, call, task) in running {
        match task.end() {
            None => tally.violation(made, format!("{call:?} has not ended")),
            Some(Ok(())) => tally.end("returned".into()),
            Some(Err(error)) => match name_of_end(&error) {
                Some(name) => tally.end(name),
                None => tally.violation(made, format!("{call:?} ended so: {error:?}")),
            },
        }
    }
}

/// One call of a module's function.
#[derive(Clone, Debug)]
enum Call {
    Task { module: String, export: String, input: Vec<u8> },
    Scalar { module: String, export: String, args: Vec<Value> },
    Command { module: String, entry: String },
}

/// A call that was submitted.
enum Running {
    Function(TaskHandle<Value>),
    Command(TaskHandle<stockade::CommandOutput>),
}

fn calls(made: &Made, description: &ModuleDescription, random: &mut Random) -> Vec<Call> {
    let module = made.name();
    // Where it asks nothing of the host, a function that could be a task is one over scalars.
    let asks_host = description.imports.iter().any(|import| import.module == "stockade");
    let mut calls = Vec::new();
    for export in &description.exports {
        let ExportType::Function { params, results } = &export.kind else { continue };
        let (module, name) = (module.clone(), export.name.clone());
        if calls.len() == CALLS_MAX || params.iter().chain(results).any(is_no_scalar) {
            continue;
        }
        calls.push(match (name.as_str(), params.is_empty(), results.as_slice()) {
            ("" | "_start", true, [] | [ValueType::I32]) => Call::Command { module, entry: name },
            // Runs before every other, and cannot be called.
            ("_initialize", ..) => continue,
            (_, true, [ValueType::I32]) if asks_host => {
                let length = random.below(64) as usize;
                Call::Task { module, export: name, input: random.bytes(length) }
            }
            _ => {
                let args = params.iter().map(|param| edge(*param, random)).collect();
                Call::Scalar { module, export: name, args }
            }
        });
    }
    calls
}

fn is_no_scalar(ty: &ValueType) -> bool {
    *ty == ValueType::Other
}

/// A number at which something may break.
fn edge(ty: ValueType, random: &mut Random) -> Value {
    match ty {
        ValueType::I32 => {
            json!(random.one_of(&[0, 1, -1, i32::MIN, i32::MAX, 0xffff, 0x1_0000, 1 << 24]))
        }
        ValueType::I64 => {
            json!(random.one_of(&[0, 1, -1, i64::MIN, i64::MAX, 1 << 32, 0xffff_ffff]))
        }
        ValueType::F32 => json!(random.one_of(&[0.0, -0.0, 1.5, -1e38, 3e38, 1e-45])),
        ValueType::F64 | ValueType::Other => {
            json!(random.one_of(&[0.0, -0.0, 0.1, f64::MAX, f64::MIN_POSITIVE, -9.3e18]))
        }
    }
}

impl Call {
    fn submit(&self, pool: &Pool) -> Result<Running, stockade::SubmitError> {
        match self {
            Self::Task { module, export, input } => pool
                .submit((module.as_str(), export.as_str()), Bytes(input.clone()))
                .map(Running::Function),
            Self::Scalar { module, export, args } => {
                let arguments = args.iter().cloned().fold(Json::new(), Json::arg);
                pool.submit((module.as_str(), export.as_str()), arguments).map(Running::Function)
            }
            Self::Command { module, entry } => {
                let command = Command::new("smith").args(["--edge", ""]).stdin("some text");
                let options = TaskOptions::default();
                pool.submit_command_with((module.as_str(), entry.as_str()), command, options)
                    .map(Running::Command)
            }
        }
    }
}

impl Running {
    /// How it ended, `None` where it does not.
    fn end(&self) -> Option<Result<(), TaskError>> {
        match self {
            Self::Function(task) => task.wait(PATIENCE).then(|| task.output().map(|_: Output| ())),
            Self::Command(task) => task.wait(PATIENCE).then(|| task.output().map(|_| ())),
        }
    }
}

/// The name of an end that a guest may have by itself; `None` is a finding.
fn name_of_end(error: &TaskError) -> Option<String> {
    Some(match error {
        TaskError::Trap { kind, .. } => format!("trapped: {kind}"),
        TaskError::Guest(_) => "failed by its own word".into(),
        TaskError::Panic { .. } => "panicked by its own word".into(),
        TaskError::BadArguments(_) => "refused its arguments".into(),
        TaskError::Deadline { .. } => "deadline".into(),
        TaskError::Memory { .. } => "memory limit".into(),
        TaskError::Output { .. } => "output limit".into(),
        TaskError::Exited(_) => "exited".into(),
        // The engine's own words where its heap of objects is not as it must be.
        TaskError::Abi(why) if why.contains(ENGINE_BUG) => return None,
        TaskError::Abi(why) => {
            let words: String = why.chars().filter(|c| !c.is_ascii_digit()).take(40).collect();
            format!("broke the rules: {words}")
        }
        _ => return None,
    })
}

fn is_of_kind(reason: &RefusedReason, kind: RefusalKind) -> bool {
    match kind {
        RefusalKind::NotWasm => matches!(reason, RefusedReason::NotWasm(_)),
        RefusalKind::Malformed => matches!(reason, RefusedReason::Malformed(_)),
        RefusalKind::Component | RefusalKind::Feature => {
            matches!(reason, RefusedReason::Feature(_))
        }
        RefusalKind::FeaturesOff(off) => {
            matches!(reason, RefusedReason::FeaturesOff { features, .. } if *features == off)
        }
        RefusalKind::Import => matches!(reason, RefusedReason::Import(_)),
        RefusalKind::Limit => matches!(reason, RefusedReason::Limit(_)),
        _ => false,
    }
}

fn name_of(reason: &RefusedReason) -> &'static str {
    match reason {
        RefusedReason::NotWasm(_) => "no module",
        RefusedReason::Malformed(_) => "malformed",
        RefusedReason::Feature(_) | RefusedReason::FeaturesOff { .. } => "a feature that is off",
        RefusedReason::Import(_) => "an import that is not provided",
        RefusedReason::Limit(_) => "limit",
        _ => "otherwise",
    }
}

/// Ends the pool, and looks what it left.
fn end(pool: Pool, modules: &[Made], tally: &Tally) {
    let name = pool.name().to_owned();
    let workers = pool.workers().iter().map(|worker| worker.id.0).max().unwrap_or_default();
    tally.workers(workers);
    let broken = pool.broken();
    let ended = pool.shutdown_timeout(PATIENCE);
    drop(pool);
    let left = (processes_named(&name).len(), threads_named(&name));
    if let (None, true, (0, 0)) = (&broken, ended, left) {
        return;
    }
    let first = modules.first();
    let why = format!("its pool ended with {broken:?}, {ended}, processes and threads {left:?}");
    first.into_iter().for_each(|made| tally.violation(made, why.clone()));
}
