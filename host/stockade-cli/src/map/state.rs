//! The state of a map that can go on after an interruption: a file of lines of JSON.
//!
//! ```text
//! {"stockade":"map","version":1,"input":…,"function":…}        what map this is
//! {"done":[[1,5000]],"ok":4990,"failed":10,"output":…}         how far it was, now and then
//! ```
//!
//! A line is appended only when the output that it tells of is on the disk. So what was written to
//! the output behind the last whole line here, before a crash or a kill, is cut off and written anew,
//! and nothing is ever missing: [`Sink::open`](super::sink::Sink::open) checks that it is there.
//!
//! Invariant: nobody else writes to the file, which is locked for as long as the map runs.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::done::Done;
use crate::args::MapArgs;
use crate::error::Error;
use crate::exit::Exit;

/// How much work may have to be done again after a kill.
const INTERVAL: Duration = Duration::from_secs(1);

const VERSION: u64 = 1;

/// How far a map was.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reached {
    pub(crate) done: Done,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    /// The input's weight of what is done.
    pub(crate) weight: u64,
    pub(crate) output_bytes: u64,
    pub(crate) output_digest: String,
    /// Whether nothing is left.
    pub(crate) complete: bool,
}

/// The state of a map that runs.
pub(crate) struct State {
    file: File,
    path: PathBuf,
    /// What is done, once what is written of it is kept.
    pub(crate) reached: Reached,
    /// Whether `reached` was read from the file.
    pub(crate) goes_on: bool,
    dirty: bool,
    kept: Instant,
}

impl State {
    /// Opens or makes the state that the command line names.
    ///
    /// # Errors
    /// A state of another map, one that another process uses, an input that cannot be read twice, and
    /// what the system refuses.
    pub(crate) fn open(args: &MapArgs, path: &Path) -> Result<Self, Error> {
        check(args)?;
        let identity = identity(args)?;
        let refused = |error: io::Error| cannot(path, &error);
        let begins = path.metadata().map_or(true, |data| data.len() == 0);
        if begins {
            refuse_output(args, path)?;
        }
        let mut file = OpenOptions::new();
        let file = file.read(true).append(true).create(true).open(path).map_err(refused)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!("another map is using the state {}", path.display());
                return Err(Error::new(Exit::Output, message).help("wait for its end, or stop it"));
            }
            Err(TryLockError::Error(error)) => return Err(refused(error)),
        }
        let mut reached = Reached::default();
        if !begins {
            let (first, last, bytes) = read(&file).map_err(refused)?;
            compare(path, &first.ok_or_else(|| foreign(path))?, &identity)?;
            if let Some(last) = last {
                reached = parse(&last).ok_or_else(|| foreign(path))?;
            }
            // The rest is a line that was not finished.
            file.set_len(bytes).map_err(refused)?;
        }
        let reached = match reached.output_digest.is_empty() {
            true => Reached { output_digest: blake3::hash(b"").to_hex().to_string(), ..reached },
            false => reached,
        };
        let path = path.to_path_buf();
        let (goes_on, kept) = (!begins, Instant::now());
        let mut state = Self { file, path, reached, goes_on, dirty: false, kept };
        if begins {
            state.append(&identity)?;
        }
        Ok(state)
    }

    /// An item is written; it counts from the next [`keep`](Self::keep) on.
    pub(crate) fn finished(&mut self, ordinal: u64, weight: u64, failed: Option<bool>) {
        self.reached.done.insert(ordinal);
        self.reached.weight += weight;
        match failed {
            Some(true) => self.reached.failed += 1,
            Some(false) => self.reached.succeeded += 1,
            None => {}
        }
        self.dirty = true;
    }

    /// How long until the state should be kept; `None` where there is nothing new.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.dirty.then(|| INTERVAL.saturating_sub(self.kept.elapsed()))
    }

    /// Writes down what is done. The output of it is on the disk: `output` says how much that is.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn keep(&mut self, output: (u64, String), complete: bool) -> Result<(), Error> {
        (self.reached.output_bytes, self.reached.output_digest) = output;
        self.reached.complete = complete;
        self.append(&show(&self.reached))?;
        (self.dirty, self.kept) = (false, Instant::now());
        Ok(())
    }

    fn append(&mut self, line: &Value) -> Result<(), Error> {
        let written = self.file.write_all(format!("{line}\n").as_bytes());
        let kept = written.and_then(|()| self.file.sync_data());
        kept.map_err(|error| cannot(&self.path, &error))
    }
}

/// What cannot go on, refused before anything is written.
fn check(args: &MapArgs) -> Result<(), Error> {
    let refused = |message: &str, help: &str| Err(Error::new(Exit::Usage, message).help(help));
    let (sink, to_stdout) = (&args.sink, |path: &PathBuf| path.as_os_str() == "-");
    if sink.output_dir.is_none() && sink.output.as_ref().is_none_or(to_stdout) {
        return refused(
            "`--resume` cannot know how much of stdout was kept",
            "name the file to write with `--output FILE`, or a directory with `--output-dir DIR`",
        );
    }
    let from_stdin = !args.shape.files && args.inputs.first().is_none_or(to_stdout);
    if from_stdin {
        return refused("`--resume` cannot read stdin a second time", "name the input as a FILE");
    }
    let is_file = |path: &PathBuf| path.metadata().is_ok_and(|data| data.is_file());
    match sink.output.as_ref().filter(|path| path.exists() && !is_file(path)) {
        Some(path) => refused(
            &format!("`--resume` cannot know how much {} has kept", path.display()),
            "write to an ordinary file, not to a pipe or a device",
        ),
        None => Ok(()),
    }
}

/// A map that begins does not replace what may be the only copy of what another did.
fn refuse_output(args: &MapArgs, state: &Path) -> Result<(), Error> {
    let Some(output) = &args.sink.output else { return Ok(()) };
    if output.metadata().is_ok_and(|data| data.len() > 0) {
        let (output, state) = (output.display(), state.display());
        return Err(Error::new(
            Exit::Output,
            format!("there is no state {state}, but {output} is there"),
        )
        .help("name the state that the output belongs to, or remove the output to begin anew"));
    }
    Ok(())
}

/// What map this is: whoever goes on with it asks for the same.
fn identity(args: &MapArgs) -> Result<Value, Error> {
    let input = match args.shape.files {
        true => json!({ "files": args.inputs.len(), "blake3": list_digest(&args.inputs) }),
        false => {
            let path = args.inputs.first().map_or(Path::new("-"), PathBuf::as_path);
            let (bytes, digest) = digest(path).map_err(|error| {
                let message = format!("cannot read the input {}", path.display());
                Error::new(Exit::Missing, message).cause(&error)
            })?;
            json!({ "bytes": bytes, "blake3": digest })
        }
    };
    // The one that cannot be read is told of when the pool is built.
    let module = digest(&args.module).map(|(_, digest)| digest).unwrap_or_default();
    Ok(json!({
        "stockade": "map",
        "version": VERSION,
        "function": args.function,
        "program": args.program.identity()?,
        "module": module,
        "input": input,
        "shape": {
            "format": format!("{:?}", args.format).to_lowercase(),
            "args": args.args,
            "delimiter": args.shape.delimiter.map(|delimiter| delimiter.0),
            "plain": args.plain,
            "unordered": args.unordered,
            "files": args.sink.output_dir.is_some(),
        },
    }))
}

fn digest(path: &Path) -> io::Result<(u64, String)> {
    let mut hasher = blake3::Hasher::new();
    let bytes = io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok((bytes, hasher.finalize().to_hex().to_string()))
}

/// Files by what the system knows of them: to read them all twice would take too long.
fn list_digest(paths: &[PathBuf]) -> String {
    let mut hasher = blake3::Hasher::new();
    for path in paths {
        let name = path.as_os_str().as_bytes();
        let data = path.metadata();
        let known =
            data.map_or([0; 3], |data| [data.len(), data.mtime() as u64, data.mtime_nsec() as u64]);
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name);
        known.iter().for_each(|number| _ = hasher.update(&number.to_le_bytes()));
    }
    hasher.finalize().to_hex().to_string()
}

/// Refuses a state of another map, and says in what it differs.
fn compare(path: &Path, found: &Value, wanted: &Value) -> Result<(), Error> {
    if found["stockade"] != wanted["stockade"] || found["version"] != wanted["version"] {
        return Err(foreign(path));
    }
    let begin_anew = "put back what was there, or begin anew with another STATE and another output";
    let refused = |what: String| {
        Err(Error::new(Exit::Usage, what)
            .because(format!("the state {} is of a map that was begun otherwise", path.display()))
            .help(begin_anew))
    };
    if found["input"] != wanted["input"] {
        let size = |input: &Value| match (input["bytes"].as_u64(), input["files"].as_u64()) {
            (Some(bytes), _) => format!("{bytes} bytes"),
            (None, Some(files)) => format!("{files} files"),
            (None, None) => "something else".into(),
        };
        let (was, is) = (size(&found["input"]), size(&wanted["input"]));
        let how = if was == is { "other contents".into() } else { format!("{was}, and has {is}") };
        return refused(format!("the input has changed since the map began: it had {how}"));
    }
    for (name, what) in [
        ("function", "the function"),
        ("program", "how the program is run"),
        ("shape", "how input or output are written"),
    ] {
        if found[name] != wanted[name] {
            return refused(format!("{what} is another than when the map began"));
        }
    }
    if found["module"] != wanted["module"] {
        tracing::warn!(
            "the module has changed since the map began: what is done was done by another"
        );
    }
    Ok(())
}

/// The first and the last whole line, and how many bytes all whole lines are.
fn read(file: &File) -> io::Result<(Option<Value>, Option<Value>, u64)> {
    let mut file = BufReader::new(file);
    file.seek(SeekFrom::Start(0))?;
    let (mut first, mut last, mut whole) = (None, None, 0);
    let mut line = Vec::new();
    // A state that went wrong may be one endless line.
    while file.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? > 0 {
        let value = line.ends_with(b"\n").then(|| serde_json::from_slice::<Value>(&line));
        let Some(Ok(value)) = value else { break };
        whole += line.len() as u64;
        line.clear();
        match &first {
            None => first = Some(value),
            Some(_) => last = Some(value),
        }
    }
    Ok((first, last, whole))
}

/// As many as the ranges of a map that was done in the worst order could have.
const LINE_BYTES_MAX: u64 = 64 << 20;

fn show(reached: &Reached) -> Value {
    json!({
        "done": reached.done.to_json(),
        "ok": reached.succeeded,
        "failed": reached.failed,
        "weight": reached.weight,
        "output_bytes": reached.output_bytes,
        "output_blake3": reached.output_digest,
        "complete": reached.complete,
    })
}

fn parse(value: &Value) -> Option<Reached> {
    let number = |name: &str| value[name].as_u64();
    Some(Reached {
        done: Done::from_json(&value["done"])?,
        succeeded: number("ok")?,
        failed: number("failed")?,
        weight: number("weight")?,
        output_bytes: number("output_bytes")?,
        output_digest: value["output_blake3"].as_str()?.into(),
        complete: value["complete"].as_bool()?,
    })
}

fn foreign(path: &Path) -> Error {
    let message = format!("{} is no state of a map, or of another version's", path.display());
    Error::new(Exit::Usage, message)
        .help("name another file for `--resume`: it is made where there is none")
}

fn cannot(path: &Path, error: &io::Error) -> Error {
    Error::new(Exit::Output, format!("cannot keep the state {}", path.display())).cause(error)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Subcommand};

    /// A folder with an input, and the command line of a map over it.
    struct Fixture(PathBuf);

    impl Fixture {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("in"), "1\n2\n3\n").unwrap();
            Self(folder)
        }

        fn path(&self, name: &str) -> String {
            self.0.join(name).display().to_string()
        }

        fn open(&self, options: &[&str]) -> Result<State, Error> {
            let (input, output, state) = (self.path("in"), self.path("out"), self.path("state"));
            let words = ["stockade", "map", "m.wat", "f", &input, "-o", &output];
            let all = words.into_iter().chain(["--resume", &state]).chain(options.iter().copied());
            let Subcommand::Map(args) = Cli::parse_from(all).command else { panic!("a map") };
            State::open(&args, Path::new(&state))
        }

        fn state(&self) -> String {
            std::fs::read_to_string(self.path("state")).unwrap()
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_map_goes_on_from_the_last_whole_line_of_its_state() {
        let fixture = Fixture::new("stockade-state-goes-on");
        let mut state = fixture.open(&[]).unwrap();
        assert!(!state.goes_on && state.due().is_none());
        state.finished(1, 2, Some(false));
        assert!(state.due().is_some());
        state.keep((7, "digest".into()), false).unwrap();
        let reached = state.reached.clone();
        drop(state);
        for torn in ["", "{\"done\":[[1,", "\0\0\0\n"] {
            let whole = fixture.state();
            std::fs::write(fixture.path("state"), format!("{whole}{torn}")).unwrap();
            let state = fixture.open(&[]).unwrap();
            assert!(state.goes_on);
            assert_eq!(state.reached, reached, "{torn:?}");
            assert_eq!(fixture.state(), whole);
        }
        let used = fixture.open(&[]).unwrap();
        assert!(format!("{:?}", fixture.open(&[]).err()).contains("another map is using"));
        drop(used);
    }

    #[test]
    fn a_state_of_another_map_is_refused_and_stays_as_it_is() {
        let fixture = Fixture::new("stockade-state-refused");
        drop(fixture.open(&[]).unwrap());
        let before = fixture.state();
        let refused = |options: &[&str]| format!("{:?}", fixture.open(options).err().unwrap());
        assert!(refused(&["--plain"]).contains("how input or output are written"));
        std::fs::write(fixture.path("in"), "1\n2\n4\n").unwrap();
        assert!(refused(&[]).contains("it had other contents"));
        std::fs::write(fixture.path("in"), "1\n").unwrap();
        assert!(refused(&[]).contains("it had 6 bytes, and has 2 bytes"));
        assert_eq!(fixture.state(), before);

        std::fs::write(fixture.path("state"), "my notes\n").unwrap();
        assert!(refused(&[]).contains("is no state of a map"));
        assert_eq!(fixture.state(), "my notes\n");
        std::fs::remove_file(fixture.path("state")).unwrap();
        std::fs::write(fixture.path("out"), "precious\n").unwrap();
        assert!(refused(&[]).contains("out is there"));
        assert!(!Path::new(&fixture.path("state")).exists());
    }
}
