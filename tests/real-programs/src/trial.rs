//! One program, run once by the command.
//!
//! ```text
//! Program ─► stockade run … ─► exit code, stdout, files ─► each against what is recorded ─► Ended
//! ```

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::adapter;
use crate::report::Ended;
use crate::table::{Program, repository};

/// A program, and where everything is.
pub(crate) struct Trial<'a> {
    pub(crate) program: &'a Program,
    /// The package's folder.
    pub(crate) package: &'a Path,
    /// The folder of the program's chain.
    pub(crate) work: &'a Path,
    /// Where all that was fetched is.
    pub(crate) home: &'a Path,
    pub(crate) stockade: &'a Path,
}

impl Trial<'_> {
    /// The size of the module; 0 if it is not there.
    pub(crate) fn module_bytes(&self) -> u64 {
        let module = self.package.join(&self.program.module);
        fs::metadata(module).map_or(0, |metadata| metadata.len())
    }

    /// Runs it, in an empty folder if it is the `first` of its chain. Blocks until it has ended.
    pub(crate) fn run(&self, first: bool) -> Ended {
        let begun = Instant::now();
        match self.output(first) {
            Err(error) => Ended::Otherwise(vec![format!("{error:#}")]),
            Ok(output) => match self.differences(&output) {
                none if none.is_empty() => Ended::AsRecorded { took: begun.elapsed() },
                differences => Ended::Otherwise(differences),
            },
        }
    }

    fn output(&self, first: bool) -> Result<Output> {
        if first && self.work.exists() {
            fs::remove_dir_all(self.work)?;
        }
        fs::create_dir_all(self.work.join("tmp"))?;
        for (copy, original) in &self.program.copies {
            let copy = self.work.join(copy);
            fs::create_dir_all(copy.parent().unwrap_or(self.work))?;
            fs::copy(self.package.join(original), copy).with_context(|| original.clone())?;
        }
        let stdin = match &self.program.stdin {
            None => Stdio::null(),
            Some(input) => {
                let path = match input.strip_prefix("work:") {
                    Some(made) => self.work.join(made),
                    None => inputs().join(input),
                };
                File::open(&path).with_context(|| path.display().to_string())?.into()
            }
        };
        let mut command = Command::new(self.stockade);
        command.args(self.arguments(&self.module()?)).current_dir(self.work).stdin(stdin);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("STOCKADE_") {
                command.env_remove(name);
            }
        }
        Ok(command.output()?)
    }

    /// The module's file: the package's, or with an adapter one of our own.
    fn module(&self) -> Result<PathBuf> {
        let published = self.package.join(&self.program.module);
        let Some(adapter) = &self.program.adapter else { return Ok(published) };
        let adapter = repository().join("tests/real-programs/adapters").join(adapter);
        let text = fs::read_to_string(&adapter).with_context(|| adapter.display().to_string())?;
        let adapted = self.home.join("adapted").join(format!("{}.wasm", self.program.name));
        fs::create_dir_all(self.home.join("adapted"))?;
        fs::write(&adapted, adapter::adapted(&fs::read(published)?, &text)?)?;
        Ok(adapted)
    }

    fn arguments(&self, module: &Path) -> Vec<OsString> {
        let program = self.program;
        let mut arguments: Vec<OsString> = vec!["run".into()];
        arguments.extend(["--cache".into(), self.home.join("cache").into()]);
        arguments.extend(program.options.iter().map(OsString::from));
        for (option, value) in
            [("--entry", &program.entry), ("--unknown-imports", &program.unknown_imports)]
        {
            if let Some(value) = value {
                arguments.extend([option.into(), value.into()]);
            }
        }
        let mut grant = |host: &Path, guest: &str| {
            let mut value = host.as_os_str().to_owned();
            value.push("::");
            value.push(guest);
            arguments.extend(["--grant-dir".into(), value]);
        };
        grant(&inputs(), "/in");
        grant(self.work, "/made:rw");
        if program.tmp {
            grant(&self.work.join("tmp"), "/tmp:rw");
        }
        for (guest, host) in &program.grants {
            match host.split_once(':') {
                Some(("package", below)) => grant(&self.package.join(below), guest),
                Some(("work", below)) => grant(&self.work.join(below), guest),
                _ => grant(&repository().join(host), guest),
            }
        }
        for (name, value) in &program.env {
            arguments.extend(["--grant-env".into(), format!("{name}={value}").into()]);
        }
        arguments.push(module.into());
        arguments.push("--".into());
        arguments.extend(program.args.iter().map(OsString::from));
        arguments
    }

    /// In what it did otherwise than is recorded, as sentences.
    fn differences(&self, output: &Output) -> Vec<String> {
        let mut differences = Vec::new();
        if output.status.code() != Some(self.program.exit.into()) {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let said = stderr.lines().take(6).collect::<Vec<_>>().join("\n");
            differences.push(format!(
                "ends with {} rather than exit code {}\n{said}",
                output.status, self.program.exit
            ));
        }
        if let Err(difference) = self.program.stdout.check(&output.stdout) {
            differences.push(format!("its stdout {difference}"));
        }
        for (name, recorded) in &self.program.files {
            let difference = match fs::read(self.work.join(name)) {
                Ok(bytes) => recorded.check(&bytes).err(),
                Err(error) => Some(format!("cannot be read: {error}")),
            };
            differences.extend(difference.map(|difference| format!("{name} {difference}")));
        }
        differences
    }
}

fn inputs() -> PathBuf {
    repository().join("tests/real-programs/inputs")
}
