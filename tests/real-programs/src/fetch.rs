//! Packages from their registries, by the clients that their users have: pip and npm.
//!
//! ```text
//! Package ─► downloads/FILE ─► its SHA-256 is the recorded one ─► PACKAGE/, unpacked aside and renamed
//!              └ is not available: Fetched::Not        └ another: an error
//! ```
//!
//! Invariant: nothing is unpacked whose hash is not the recorded one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::table::{Package, Registry, sha256_of};

/// What became of a package.
pub(crate) enum Fetched {
    /// It is unpacked in this folder.
    At(PathBuf),
    /// It is not available, and why.
    Not(String),
}

/// Fetches into a folder, and from there the next time.
pub(crate) struct Fetcher {
    home: PathBuf,
}

impl Fetcher {
    pub(crate) fn new(home: &Path) -> Self {
        Self { home: home.to_owned() }
    }

    /// A package's folder. Says on stderr what takes a while.
    ///
    /// # Errors
    /// The file's hash is not the recorded one; the folder cannot be written.
    pub(crate) fn fetch(&self, package: &Package) -> Result<Fetched> {
        let Package { name, version, file, .. } = package;
        let downloads = self.home.join("downloads");
        fs::create_dir_all(&downloads)?;
        let archive = downloads.join(file);
        if !archive.exists() {
            say(&format!("fetching {name} {version} ..."));
            if let Err(why) = self.download(package, &downloads) {
                return Ok(Fetched::Not(format!("cannot be fetched: {why:#}")));
            }
        }
        let bytes = fs::read(&archive)
            .with_context(|| format!("{name} {version} has no file {file} any more"))?;
        let found = sha256_of(&bytes);
        ensure!(
            found == package.sha256,
            "{} has the SHA-256 {found}, and {} is recorded for {name} {version}: remove the file if it \
             is damaged; if the registry has another one, find out why",
            archive.display(),
            package.sha256,
        );
        let folder = self.home.join(folder_name(package));
        // A folder of another version, or of an archive that has changed, is made again.
        let seal = folder.join(".sha256");
        if fs::read_to_string(&seal).is_ok_and(|sealed| sealed == found) {
            return Ok(Fetched::At(folder));
        }
        if let Err(why) = self.unpack(package, &archive, &folder, &found) {
            return Ok(Fetched::Not(format!("cannot be unpacked: {why:#}")));
        }
        Ok(Fetched::At(folder))
    }

    fn download(&self, package: &Package, downloads: &Path) -> Result<()> {
        let Package { name, version, .. } = package;
        let mut client = match package.registry {
            Registry::Pypi => {
                let mut pip = Command::new(self.python()?);
                pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check"]);
                // The packages are data: what they depend on, and which Python they ask for, is nothing
                // to us.
                pip.args([
                    "--no-deps",
                    "--pre",
                    "--only-binary",
                    ":all:",
                    "--python-version",
                    "3.13",
                ]);
                pip.arg("--dest").arg(downloads).arg(format!("{name}=={version}"));
                pip
            }
            Registry::Npm => {
                let mut npm = Command::new("npm");
                npm.args(["pack", "--silent", "--pack-destination"]).arg(downloads);
                npm.arg(format!("{name}@{version}"));
                npm
            }
        };
        run(&mut client)
    }

    /// A Python with pip: the machine's, or one in an environment of its own.
    fn python(&self) -> Result<PathBuf> {
        let own = self.home.join("python");
        let candidates = [PathBuf::from("python3"), own.join("bin/python")];
        let has_pip =
            |python: &PathBuf| run(Command::new(python).args(["-m", "pip", "--version"])).is_ok();
        if let Some(python) = candidates.iter().find(|python| has_pip(python)) {
            return Ok(python.clone());
        }
        run(Command::new("python3").args(["-m", "venv"]).arg(&own)).context("there is no pip")?;
        Ok(own.join("bin/python"))
    }

    fn unpack(&self, package: &Package, archive: &Path, folder: &Path, found: &str) -> Result<()> {
        say(&format!("unpacking {} ...", package.name));
        let aside = self.home.join(format!("{}.part", folder_name(package)));
        remove(&aside)?;
        fs::create_dir(&aside)?;
        run(&mut match package.registry {
            Registry::Pypi => {
                let mut python = Command::new("python3");
                python.args(["-m", "zipfile", "-e"]).args([archive, &aside]);
                python
            }
            Registry::Npm => {
                let mut tar = Command::new("tar");
                tar.arg("-xzf").arg(archive).arg("-C").arg(&aside);
                tar
            }
        })?;
        fs::write(aside.join(".sha256"), found)?;
        remove(folder)?;
        Ok(fs::rename(&aside, folder)?)
    }
}

/// A package's folder: its name with a hyphen for whatever is no letter or digit.
fn folder_name(package: &Package) -> String {
    let letters = package.name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    letters.trim_matches('-').to_owned()
}

fn remove(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// # Errors
/// The program is not there, or fails; then the last line that it wrote to stderr.
fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| program.clone())?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    ensure!(output.status.success(), "{program}: {last}");
    Ok(())
}

#[allow(clippy::print_stderr)]
fn say(what: &str) {
    eprintln!("{what}");
}
