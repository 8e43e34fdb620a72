//! The state of a map that can go on after an interruption: a file of lines of JSON.
//!
//! ```text
//! {"stockade":"map","version":2,"input":…,"options":…}         what map this is
//! {"done":[[1,5000]],"ok":4990,"failed":10,"output":…}         how far it was, now and then
//! ```
//!
//! A line is appended only when the output that it tells of is on the disk. So what was written to
//! the output behind the last whole line here, before a crash or a kill, is cut off and written anew,
//! and nothing is ever missing: [`Sink::open`](super::sink::Sink::open) checks that it is there.
//!
//! Invariant: no other process writes to the file, which is locked while the map runs.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::done::Done;
use super::identity;
use super::kept::{self, Found, Mark};
use super::program::Plan;
use super::record::Output;
use crate::args::MapArgs;
use crate::error::{Error, missing_directory};
use crate::exit::Exit;
use crate::streams;

/// How much work may have to be done again after a kill.
const INTERVAL: Duration = Duration::from_secs(1);

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
pub(crate) struct MapState {
    file: File,
    path: PathBuf,
    /// What is done, once what is written of it is kept.
    pub(crate) reached: Reached,
    /// Whether `reached` was read from the file.
    pub(crate) goes_on: bool,
    /// What was written of each item into a file of its own, and of which the state does not tell yet.
    marks: HashMap<u64, Mark>,
    new_marks: Vec<u64>,
    dirty: bool,
    kept: Instant,
}

impl MapState {
    /// Opens or makes the state that the command line names, and looks for the output that it tells
    /// of.
    ///
    /// # Errors
    /// A state of another map, one that another process uses, an input that cannot be read twice, an
    /// output that was changed since, and what the system refuses.
    pub(crate) fn open(args: &MapArgs, program: Option<&Plan>, path: &Path) -> Result<Self, Error> {
        check(args)?;
        let identity = identity::of(args, program)?;
        let refused = |error: io::Error| cannot(path, &error);
        let begins = path.metadata().map_or(true, |data| data.len() == 0);
        if begins && !args.sink.anew {
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
        let mut known = Known::default();
        if !begins {
            let bytes;
            (known, bytes) = Known::read(&file, path)?;
            let goes_on = known.goes_on(args, path, &identity)?;
            // The rest is a line that was not finished.
            file.set_len(if goes_on { bytes } else { 0 }).map_err(refused)?;
            if !goes_on {
                known = Known::default();
            }
        }
        let goes_on = known.first.is_some();
        let mut reached = known.reached;
        if reached.output_digest.is_empty() {
            reached.output_digest = blake3::hash(b"").to_hex().to_string();
        }
        let (path, kept, marks) = (path.to_path_buf(), Instant::now(), known.marks);
        let (new_marks, dirty) = (Vec::new(), false);
        let mut state = Self { file, path, reached, goes_on, marks, new_marks, dirty, kept };
        if !goes_on {
            state.append(&identity)?;
        }
        Ok(state)
    }

    /// What was written of an item, where that is a file of its own.
    pub(crate) fn wrote(&mut self, ordinal: u64, output: &Output, failed: bool) {
        if let Some(mark) = Mark::of(output, failed) {
            self.marks.insert(ordinal, mark);
            self.new_marks.push(ordinal);
        }
    }

    /// The file of an item that is done, if it has one.
    pub(crate) fn mark(&self, ordinal: u64) -> Option<&Mark> {
        self.marks.get(&ordinal)
    }

    /// An item that was done is to be done again.
    pub(crate) fn again(&mut self, ordinal: u64, weight: u64) -> Option<Mark> {
        let mark = self.marks.remove(&ordinal)?;
        self.reached.done.remove(ordinal);
        self.reached.weight = self.reached.weight.saturating_sub(weight);
        let count =
            if mark.failed { &mut self.reached.failed } else { &mut self.reached.succeeded };
        *count = count.saturating_sub(1);
        self.reached.complete = false;
        self.dirty = true;
        Some(mark)
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
        let mut line = show(&self.reached);
        let marks = self.new_marks.iter().filter_map(|ordinal| {
            self.marks.get(ordinal).map(|mark| json!([ordinal, mark.to_json()]))
        });
        line["files"] = marks.collect();
        self.append(&line)?;
        self.new_marks.clear();
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
    if args.program.stdin.as_ref().is_some_and(to_stdout) {
        return refused("`--resume` cannot read stdin a second time", "name a FILE for `--stdin`");
    }
    let is_file = |path: &PathBuf| path.metadata().is_ok_and(|data| data.is_file());
    if let Some(path) = args.inputs.iter().find(|path| path.exists() && !is_file(path)) {
        return refused(
            &format!("`--resume` cannot read {} a second time", path.display()),
            "name an ordinary file, not a pipe or a device",
        );
    }
    let is_lost = |path: &&PathBuf| path.exists() && !is_file(path) || streams::is_named(path);
    match sink.output.as_ref().filter(is_lost) {
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
            format!("there is no state {state}, but {output} exists"),
        )
        .help("name the state that the output belongs to, or remove the output")
        .help("`--anew` starts over and overwrites the output"));
    }
    Ok(())
}

/// Refuses a state of another map, and says in what it differs.
fn compare(path: &Path, found: &Value, wanted: &Value) -> Result<(), Error> {
    let differences = identity::differences(found, wanted);
    let Some(first) = differences.first() else { return Ok(()) };
    let message = format!("the state {} belongs to another map: {first}", path.display());
    let refused = Error::new(Exit::Usage, message);
    let refused = differences[1..].iter().cloned().fold(refused, Error::because);
    Err(refused
        .help("restore what was changed, or name another STATE and another output")
        .help("`--anew` starts over: everything is done again, and the output overwritten"))
}

/// What stands in a state.
#[derive(Default)]
struct Known {
    first: Option<Value>,
    reached: Reached,
    /// Whether it says nothing of how far the map was that can be understood.
    is_damaged: bool,
    marks: HashMap<u64, Mark>,
}

impl Known {
    /// Reads a state, and how many bytes its whole lines are.
    fn read(file: &File, path: &Path) -> Result<(Self, u64), Error> {
        let mut known = Self::default();
        let mut bytes = 0;
        let mut last = None;
        let read = each_line(file, |value, length| {
            bytes += length;
            for mark in value["files"].as_array().into_iter().flatten() {
                if let (Some(ordinal), Some(mark)) = (mark[0].as_u64(), Mark::from_json(&mark[1])) {
                    known.marks.insert(ordinal, mark);
                }
            }
            match &known.first {
                None => known.first = Some(value),
                Some(_) => last = Some(value),
            }
        });
        read.map_err(|error| cannot(path, &error))?;
        let first = known.first.as_ref().filter(|first| identity::is_state(first).0);
        first.ok_or_else(|| foreign(path))?;
        if let Some(last) = last {
            let reached = parse(&last);
            known.is_damaged = reached.is_none();
            known.reached = reached.unwrap_or_default();
        }
        Ok((known, bytes))
    }

    /// Whether the map goes on from here, or begins anew.
    fn goes_on(&self, args: &MapArgs, path: &Path, identity: &Value) -> Result<bool, Error> {
        let Some(first) = self.first.as_ref().filter(|_| !args.sink.anew) else { return Ok(false) };
        if !identity::is_state(first).1 {
            return Err(unusable(path, "belongs to another version of stockade"));
        }
        if self.is_damaged {
            return Err(unusable(path, "is damaged"));
        }
        // Nothing is lost, so that a mistake of the first command line does not stay.
        let did_nothing = self.reached.done == Done::default() && !self.reached.complete;
        if did_nothing && first != identity {
            return Ok(false);
        }
        compare(path, first, identity)?;
        let Some(output) = &args.sink.output else { return Ok(true) };
        match kept::output(output, &self.reached)? {
            Found::Whole => Ok(true),
            Found::Gone => {
                let output = output.display();
                streams::say(|to| writeln!(to, "the output {output} is gone: it is written again"));
                Ok(false)
            }
        }
    }
}

/// Gives each whole line and its length.
fn each_line(file: &File, mut take: impl FnMut(Value, u64)) -> io::Result<()> {
    let mut file = BufReader::new(file);
    file.seek(SeekFrom::Start(0))?;
    let mut line = Vec::new();
    // A state that went wrong may be one endless line.
    while file.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? > 0 {
        let value = line.ends_with(b"\n").then(|| serde_json::from_slice::<Value>(&line));
        let Some(Ok(value)) = value else { break };
        take(value, line.len() as u64);
        line.clear();
    }
    Ok(())
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

/// The error of a file that is something else, and that nothing may be lost of.
fn foreign(path: &Path) -> Error {
    Error::new(Exit::Usage, format!("{} is not the state of a map", path.display()))
        .help("name another file for `--resume`: it is created if missing")
}

/// The error of a state that cannot be gone on from.
fn unusable(path: &Path, why: &str) -> Error {
    Error::new(Exit::Usage, format!("the state {} {why}", path.display()))
        .help("`--anew` starts over: everything is done again, and the output overwritten")
}

fn cannot(path: &Path, error: &io::Error) -> Error {
    let message = format!("cannot keep the state {}", path.display());
    // That it is missing is a mistake of the command line, and not the disk's.
    let exit = if missing_directory(path).is_some() { Exit::Missing } else { Exit::Output };
    Error::new(exit, message).cause(error).help_with_directory(path)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::super::identity::Said;
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

        fn open(&self, options: &[&str]) -> Result<MapState, Error> {
            let (input, output, state) = (self.path("in"), self.path("out"), self.path("state"));
            let words = ["stockade", "map", "m.wat", "f", &input, "-o", &output];
            let all = words.into_iter().chain(["--resume", &state]).chain(options.iter().copied());
            let command = Cli::command();
            let matches = command.clone().get_matches_from(all);
            let Subcommand::Map(mut args) = Cli::from_arg_matches(&matches).unwrap().command else {
                panic!("a map")
            };
            let map = command.find_subcommand("map").unwrap();
            args.said = Said::of(map, matches.subcommand_matches("map").unwrap());
            MapState::open(&args, None, Path::new(&state))
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
        std::fs::write(fixture.path("out"), "1\n2").unwrap();
        let digest = blake3::hash(b"1\n").to_hex().to_string();
        state.keep((2, digest), false).unwrap();
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
        let mut state = fixture.open(&[]).unwrap();
        std::fs::write(fixture.path("out"), "1\n").unwrap();
        state.finished(1, 2, Some(false));
        state.keep((2, blake3::hash(b"1\n").to_hex().to_string()), false).unwrap();
        drop(state);
        let before = fixture.state();
        let refused = |options: &[&str]| format!("{:?}", fixture.open(options).err().unwrap());
        assert!(refused(&["--plain"]).contains("`--plain` was false, and is true"));
        let two = refused(&["--plain", "--init", "x"]);
        assert!(
            two.contains("`--init` was not given, and is x") && two.contains("--plain"),
            "{two}"
        );
        std::fs::write(fixture.path("in"), "1\n2\n4\n").unwrap();
        assert!(refused(&[]).contains("it had other contents"));
        std::fs::write(fixture.path("in"), "1\n").unwrap();
        assert!(refused(&[]).contains("it had 6 bytes, and has 2 bytes"));
        assert_eq!(fixture.state(), before);
        let anew = fixture.open(&["--anew"]).unwrap();
        assert!(!anew.goes_on && anew.reached.succeeded == 0);
        drop(anew);
        assert_ne!(fixture.state(), before);

        std::fs::write(fixture.path("state"), "my notes\n").unwrap();
        for options in [&[][..], &["--anew"]] {
            assert!(refused(options).contains("is not the state of a map"));
        }
        assert_eq!(fixture.state(), "my notes\n");
        std::fs::remove_file(fixture.path("state")).unwrap();
        std::fs::write(fixture.path("out"), "precious\n").unwrap();
        assert!(refused(&[]).contains("out exists"));
        assert!(!Path::new(&fixture.path("state")).exists());
    }

    #[test]
    fn a_state_of_a_map_that_did_nothing_is_any_maps() {
        let fixture = Fixture::new("stockade-state-nothing");
        drop(fixture.open(&["--init", "mistyped"]).unwrap());
        assert!(!fixture.open(&[]).unwrap().goes_on);
        assert!(fixture.open(&[]).unwrap().goes_on);
    }

    #[test]
    fn an_output_that_is_gone_is_made_again_and_one_that_was_changed_is_refused() {
        let fixture = Fixture::new("stockade-state-output");
        for complete in [false, true] {
            let begin = || {
                let _ = std::fs::remove_file(fixture.path("state"));
                let _ = std::fs::remove_file(fixture.path("out"));
                let mut state = fixture.open(&[]).unwrap();
                std::fs::write(fixture.path("out"), "1\n").unwrap();
                state.finished(1, 2, Some(false));
                state.keep((2, blake3::hash(b"1\n").to_hex().to_string()), complete).unwrap();
            };
            begin();
            assert!(fixture.open(&[]).unwrap().goes_on);
            for changed in ["", "1", "2\n"] {
                std::fs::write(fixture.path("out"), changed).unwrap();
                let refused = format!("{:?}", fixture.open(&[]).err().unwrap());
                assert!(refused.contains("was changed after it was written"), "{refused}");
                assert_eq!(std::fs::read_to_string(fixture.path("out")).unwrap(), changed);
            }
            // What stands behind is what was written last, or somebody else's.
            std::fs::write(fixture.path("out"), "1\n2\n").unwrap();
            assert_eq!(fixture.open(&[]).is_err(), complete);
            std::fs::remove_file(fixture.path("out")).unwrap();
            let anew = fixture.open(&[]).unwrap();
            assert!(!anew.goes_on && !anew.reached.complete);
            drop(anew);
            begin();
            std::fs::write(fixture.path("out"), "2\n").unwrap();
            assert!(!fixture.open(&["--anew"]).unwrap().goes_on);
        }
    }

    #[test]
    fn files_of_items_are_told_of_once_and_known_again() {
        let fixture = Fixture::new("stockade-state-marks");
        let mut state = fixture.open(&[]).unwrap();
        std::fs::write(fixture.path("out"), "").unwrap();
        let file = |name: &str| Output::File {
            name: name.into(),
            bytes: name.into(),
            obsolete: "none".into(),
        };
        for ordinal in 1..=2 {
            state.wrote(ordinal, &file(&format!("{ordinal}.json")), ordinal == 2);
            state.finished(ordinal, 1, Some(ordinal == 2));
            state.keep((0, blake3::hash(b"").to_hex().to_string()), false).unwrap();
        }
        drop(state);
        assert_eq!(fixture.state().matches("1.json").count(), 1);
        let mut state = fixture.open(&[]).unwrap();
        assert_eq!(state.mark(1), Mark::of(&file("1.json"), false).as_ref());
        assert!(state.again(2, 1).unwrap().failed);
        assert_eq!((state.reached.succeeded, state.reached.failed), (1, 0));
        assert!(state.reached.done.contains(1) && !state.reached.done.contains(2));
    }
}
