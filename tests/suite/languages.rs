//! Guests in other languages: each passes the test vectors of the ABI, byte for byte in a worker and
//! once more through a pool.
//!
//! ```text
//! tests/abi/vectors.jsonl ─► a worker by its wire: exactly these bytes ─┐
//!                         └► a pool: what its callers can say           ├─► Vector::check
//!                            target/languages/guests/NAME.wasm ─────────┘
//! ```
//! `just languages` builds the guests whose toolchain is there. One that is not built is passed over
//! with a word, unless `STOCKADE_LANGUAGES`, a list as `c,zig,go`, names its language.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use serde_json::Value;
use stockade::{Bytes, Command, Grants, Json, Output, Pool, SubmitError, TaskError, TaskHandle};
use stockade_tests::{
    End, Ended, PATIENCE, RoleProcess, Vector, VectorCodec, compile_file_by_process, guest, load,
    name_for_a_pool, repository, vectors,
};
use stockade_wire::{
    Call, Callee, Codec, CompileLimits, CompileReply, Failure, HostMessage, Invocation, Limits,
    ModuleDescription, ModuleId, Outcome, Run, StatusPage, TaskId, WorkerMessage,
};

const MODULE: ModuleId = ModuleId(1);

/// What the guest without an SDK has of the vectors' functions, and the codec that it knows for each.
const BY_HAND: &[(&str, VectorCodec)] = &[
    ("echo", VectorCodec::Raw),
    ("hosted", VectorCodec::Json),
    ("loaded", VectorCodec::Json),
    ("half", VectorCodec::Scalar),
];

/// The guest `name` in `language`, if it is built.
#[allow(clippy::print_stderr)] // What is not tried is said.
fn built(language: &str, name: &str) -> Option<PathBuf> {
    let path = repository().join(format!("target/languages/guests/{name}.wasm"));
    if path.exists() {
        return Some(path);
    }
    let wanted = std::env::var("STOCKADE_LANGUAGES").unwrap_or_default();
    let demanded = wanted.split(',').any(|name| name.trim() == language);
    assert!(!demanded, "{} is not built: run `just languages`", path.display());
    eprintln!("skipped: {} is not built (`just languages`)", path.display());
    None
}

/// A module from Go has 4.5 MB, which a compiler that was built without optimisation feels.
fn patient() -> CompileLimits {
    CompileLimits::default().cpu_time(PATIENCE).wall_time(5 * PATIENCE)
}

/// Calls everything that `fits` in a worker, exactly as the vectors have it, and in a pool.
fn passes(module: &Path, fits: impl Fn(&Vector) -> bool) {
    let vectors: Vec<_> = vectors().into_iter().filter(|vector| fits(vector)).collect();
    let mut wrong = Vec::new();
    let mut worker = Worker::start(module);
    // An initializer and numbers are a pool's affair.
    let exact =
        |vector: &&Vector| vector.initializer.is_none() && vector.codec != VectorCodec::Scalar;
    for vector in vectors.iter().filter(exact) {
        if let Err(why) = vector.check(&worker.call(vector)) {
            wrong.push(format!("in a worker: {}: {why}", vector.name));
        }
    }
    worker.end();
    let initializer = vectors.iter().find_map(|vector| vector.initializer.as_deref());
    let pool = pool_over(module, initializer.unwrap());
    for vector in &vectors {
        match called(&pool, vector).map(|ended| vector.check(&ended)) {
            None | Some(Ok(())) => {}
            Some(Err(why)) => wrong.push(format!("in a pool: {}: {why}", vector.name)),
        }
    }
    if vectors.iter().any(|vector| vector.codec == VectorCodec::Bincode) {
        serves_callers_with_types(&pool);
    }
    assert!(pool.shutdown());
    assert!(wrong.is_empty(), "{}:\n{}", module.display(), wrong.join("\n"));
}

/// A worker with one module, and what is known of that.
struct Worker {
    process: RoleProcess,
    page: StatusPage,
    description: ModuleDescription,
    tasks: u64,
}

impl Worker {
    fn start(module: &Path) -> Self {
        let (reply, artefact) = compile_file_by_process(module, &Limits::default(), patient());
        let CompileReply::Compiled(description) = reply else {
            panic!("{} is refused: {reply:?}", module.display())
        };
        let (mut process, page) = RoleProcess::worker("vectors");
        process.send(&load(MODULE), &[File::as_fd(&artefact)]);
        assert_eq!(process.receive(), Some(WorkerMessage::Loaded(MODULE)));
        Self { process, page, description, tasks: 0 }
    }

    /// The export behind a task's name.
    fn export(&self, function: &str) -> String {
        let mut described = self.description.functions.iter();
        let record = described.find(|described| described.name == function);
        record.map_or(function, |record| &record.export).to_owned()
    }

    fn call(&mut self, vector: &Vector) -> Ended {
        self.tasks += 1;
        let task = TaskId(self.tasks);
        let codec = match vector.codec {
            VectorCodec::Raw => Codec::Raw,
            VectorCodec::Bincode => Codec::Bincode,
            VectorCodec::Json | VectorCodec::Scalar => Codec::Json,
        };
        let export = self.export(&vector.function);
        let call = Call { export: Callee::Named(export), codec, input: vector.input.clone() };
        let run = Run {
            tasks: task.into(),
            lengths: Vec::new(),
            module: MODULE,
            invocation: Invocation::Task(call),
            limits: None,
            slot: 0,
            share: None,
            placement: None,
        };
        self.page.offer(run.slot, run.tasks);
        self.process.send(&HostMessage::Run(run), &[]);
        let mut emitted = Vec::new();
        loop {
            match self.process.receive() {
                Some(WorkerMessage::Emitted(_, item)) => emitted.push(item),
                Some(WorkerMessage::Finished(finished)) => {
                    let log = finished
                        .written
                        .iter()
                        .flat_map(|written| written.log.lines())
                        .map(|line| (line.level, line.message));
                    return Ended {
                        end: end_of(finished.outcome),
                        emitted: Some(emitted),
                        log: log.collect(),
                        progress: self.page.progress_of(task),
                    };
                }
                other => panic!("{}: {other:?}", vector.name),
            }
        }
    }

    fn end(mut self) {
        self.process.send(&HostMessage::Close, &[]);
        assert_eq!(self.process.receive(), Some(WorkerMessage::Closed));
        assert_eq!(self.process.end(), Some(0));
    }
}

fn end_of(outcome: Outcome) -> End {
    match outcome {
        Outcome::Returned(bytes) => End::Returned(bytes),
        Outcome::Failed(Failure::Error(error)) => End::Error(error.message, error.data),
        Outcome::Failed(Failure::BadArguments(error)) => End::BadArguments(error.message),
        Outcome::Failed(Failure::Panic(error, _)) => End::Panicked(error.message),
        other => End::Other(format!("{other:?}")),
    }
}

/// A pool over one module, in which `initializer` runs, also where no manifest declares it.
fn pool_over(module: &Path, initializer: &str) -> Pool {
    let builder = Pool::single().name(name_for_a_pool()).module(module).compile_limits(patient());
    builder.initializer(initializer, Json::new()).build().unwrap()
}

/// Calls it as a pool's caller would; `None` where a caller has no way to say just that.
fn called(pool: &Pool, vector: &Vector) -> Option<Ended> {
    let function = vector.function.as_str();
    let submitted = match vector.codec {
        VectorCodec::Raw => pool.submit(function, Bytes(vector.input.clone())),
        VectorCodec::Json => pool.submit(function, vector.json_call()?),
        VectorCodec::Scalar => {
            let numbers: Vec<_> = serde_json::from_slice(&vector.input).unwrap();
            pool.submit(function, numbers.into_iter().fold(Json::new(), Json::arg))
        }
        VectorCodec::Bincode => return None,
    };
    Some(match submitted {
        Ok(handle) => ended(&handle),
        // What a manifest tells of a task is checked before it is sent.
        Err(SubmitError::Signature { problem, .. }) => {
            let end = End::BadArguments(problem);
            Ended { end, emitted: None, log: Vec::new(), progress: None }
        }
        Err(error) => panic!("{}: {error}", vector.name),
    })
}

/// A caller's own types meet those of the guest's manifest: a literal here is an `i32`.
fn serves_callers_with_types(pool: &Pool) {
    assert_eq!(pool.run::<u8>("add", (2, 40)).unwrap(), 42);
    assert_eq!(pool.run::<String>("greet", ("Zoë",)).unwrap(), "Hello, Zoë!");
    assert_eq!(pool.run::<f32>("negate", (2, true)).unwrap(), -2.0);
    assert_eq!(pool.run::<Bytes>("echo", (Bytes(vec![0, 255]),)).unwrap().0, [0, 255]);
    pool.run::<()>("nothing", ()).unwrap();
    let refused = pool.submit::<i64>("add", (2, "40"));
    assert!(matches!(refused, Err(SubmitError::Signature { .. })));
}

fn ended(handle: &TaskHandle<Value>) -> Ended {
    let end = match handle.output() {
        Ok(Output::Encoded { bytes, .. }) => End::Returned(bytes),
        Ok(Output::Scalars(_)) => End::Returned(handle.result().unwrap().to_string().into_bytes()),
        Err(TaskError::Guest(error)) => End::Error(error.message, error.data),
        Err(TaskError::BadArguments(error)) => End::BadArguments(error.message),
        Err(TaskError::Panic { error, .. }) => End::Panicked(error.message),
        other => End::Other(format!("{other:?}")),
    };
    let emitted = handle.emitted::<Value>();
    let emitted = emitted.map(|item| item.map(|item| item.to_string().into_bytes()));
    Ended {
        end,
        emitted: emitted.collect::<Result<_, _>>().ok(),
        log: handle.report().log.into_iter().map(|line| (line.level, line.message)).collect(),
        progress: handle.progress(),
    }
}

#[test]
fn a_guest_in_rust_passes_the_test_vectors() {
    passes(&guest("vectors"), |_| true);
}

#[test]
fn a_guest_in_c_passes_the_test_vectors() {
    if let Some(module) = built("c", "c-vectors") {
        passes(&module, |_| true);
    }
}

#[test]
fn a_guest_in_zig_passes_the_test_vectors() {
    if let Some(module) = built("zig", "zig-vectors") {
        passes(&module, |_| true);
    }
}

#[test]
fn a_guest_in_go_passes_the_test_vectors() {
    if let Some(module) = built("go", "go-vectors") {
        passes(&module, |_| true);
    }
}

#[test]
fn a_guest_in_assemblyscript_passes_the_test_vectors() {
    if let Some(module) = built("assemblyscript", "assemblyscript-vectors") {
        passes(&module, |_| true);
    }
}

#[test]
fn a_guest_by_hand_passes_those_of_the_functions_it_has() {
    let module = repository().join("examples-wasm/wat-vectors/vectors.wat");
    passes(&module, |vector| BY_HAND.contains(&(&*vector.function, vector.codec)));
}

#[test]
fn an_interpreter_runs_a_users_script_over_its_input_as_one_task() {
    let Some(module) = built("javascript", "javascript") else { return };
    let scripts =
        Grants::none().read_dir(repository().join("examples-wasm/javascript"), "/scripts");
    let builder = Pool::single().name(name_for_a_pool()).module(module).grants(scripts);
    let pool = builder.compile_limits(patient()).build().unwrap();
    let median = |numbers: &str| {
        let command = Command::new("qjs").args(["-m", "/scripts/median.js"]).stdin(numbers);
        pool.submit_command(command).unwrap().result().unwrap()
    };

    let output = median("3\n1\n2\nmany\n");
    assert_eq!(output.exit_code, 0);
    assert_eq!(output.stdout.bytes, b"{\"count\":3,\"median\":2}\n");
    assert_eq!(output.stderr.bytes, b"lines that are no number: 1\n");

    let none = median("");
    assert_eq!((none.exit_code, &none.stdout.bytes[..]), (1, &b""[..]));

    // Strangers' scripts, each in an interpreter that none of the others has touched.
    let script = |number| format!("globalThis.x = (globalThis.x ?? 0) + {number}; print(x)");
    let scripts = (0..100).map(|number| {
        Command::new("qjs").args(["--std".to_owned(), "-e".to_owned(), script(number)])
    });
    for (number, output) in pool.map_command(scripts).enumerate() {
        let output = output.unwrap();
        let printed = String::from_utf8(output.stdout.bytes).unwrap();
        assert_eq!((output.exit_code, printed), (0, format!("{number}\n")));
    }
    assert!(pool.shutdown());
}
