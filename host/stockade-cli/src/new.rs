//! `stockade new`: a guest that is ready to build, test and change.
//!
//! The SDK is on no registry yet, so the guest depends on it by path: that of the clone which this
//! command was built from, or the one that is given.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::error::Error;
use crate::exit::{self, Exit};
use crate::{json, streams};

/// Where the SDK was when this command was built.
const SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest-sdk/stockade-guest");

const CARGO_TOML: &str = include_str!("../template/Cargo.toml.in");
const LIB_RS: &str = include_str!("../template/src/lib.rs");
const README: &str = include_str!("../template/README.md.in");

const EXAMPLES: &str = "\
Examples:
  stockade new greeter && cd greeter && cargo test && stockade build

The SDK is not on crates.io yet: the guest depends on guest-sdk/stockade-guest of the clone that
this command was built from, by its path. `--sdk` names another.
";

/// Make a guest crate with one task and its tests
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n{}", exit::HELP))]
pub(crate) struct NewArgs {
    /// The directory to create; its last part is the crate's name
    #[arg(value_name = "NAME")]
    path: PathBuf,

    /// The directory of the SDK for guests, guest-sdk/stockade-guest of a clone of Stockade
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,

    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// Makes the crate.
///
/// # Errors
/// If the name is not valid for a crate, the SDK is missing, the directory exists, or the system
/// refuses an operation.
pub(crate) fn run(args: &NewArgs) -> Result<Exit, Error> {
    let name = crate_name(&args.path)?;
    let sdk = sdk(args.sdk.as_deref())?;
    let shown = args.path.display();
    fs::create_dir(&args.path).map_err(|error| {
        let refused = Error::new(Exit::Output, format!("cannot make {shown}")).cause(&error);
        match error.kind() {
            io::ErrorKind::AlreadyExists => refused.help("choose another name, or remove it first"),
            _ => refused,
        }
    })?;
    let files = files(name, &sdk);
    write(&args.path, &files).inspect_err(|_| {
        // It was made here, and a crate by half is none.
        let _ = fs::remove_dir_all(&args.path);
    })?;
    let stdout = &mut Vec::new();
    let written = if args.json {
        let files: Vec<_> = files.iter().map(|(file, _)| args.path.join(file)).collect();
        let value = json!({ "name": name, "path": args.path, "files": files, "sdk": sdk });
        writeln!(stdout, "{}", json::text(&value))
    } else {
        show(stdout, &args.path, name, &sdk)
    };
    let printed = written.map_err(|error| streams::failed(&error));
    printed.and_then(|()| streams::print(|to| to.write_all(stdout))).map(|()| Exit::Success)
}

fn write(folder: &Path, files: &[(&str, String)]) -> Result<(), Error> {
    for (file, text) in files {
        let path = folder.join(file);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).and_then(|()| fs::write(&path, text)).map_err(|error| {
            Error::new(Exit::Output, format!("cannot write {}", path.display())).cause(&error)
        })?;
    }
    Ok(())
}

fn show(to: &mut dyn Write, path: &Path, name: &str, sdk: &Path) -> io::Result<()> {
    let path = path.display();
    writeln!(to, "made {path}, a guest with the task `greet`")?;
    writeln!(to, "it depends on the SDK in {}", sdk.display())?;
    writeln!(to, "\nnext:")?;
    writeln!(to, "  cd {path}")?;
    writeln!(to, "  cargo test        its tests, on this machine")?;
    writeln!(to, "  stockade build    compiled to WebAssembly, and what is in it")?;
    let module = module_of(name);
    writeln!(to, "  stockade run target/wasm32-wasip1/release/{module} greet world 2")
}

fn module_of(name: &str) -> String {
    format!("{}.wasm", name.replace('-', "_"))
}

/// The crate's name, checked before anything is written.
fn crate_name(path: &Path) -> Result<&str, Error> {
    // What the crate itself is made of, or could not be named.
    const TAKEN: [&str; 8] =
        ["stockade-guest", "stockade_guest", "test", "core", "std", "alloc", "proc_macro", "build"];
    let refused = |problem: &str| {
        Err(Error::new(
            Exit::Usage,
            format!("`{}` is not a valid name of a crate: {problem}", path.display()),
        )
        .help("write letters, digits, - and _, beginning with a letter, as in word-count"))
    };
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return refused(match path.file_name() {
            Some(_) => "it is not text",
            None => "it ends in no name",
        });
    };
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return refused("it does not begin with a letter");
    }
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        return refused("it has other characters than letters, digits, - and _");
    }
    // Rust's own words, which syn is not needed to know: cargo says so for the rarer ones.
    let keyword = [
        "as", "async", "await", "crate", "else", "enum", "fn", "for", "if", "impl", "in", "let",
        "loop", "match", "mod", "move", "mut", "pub", "ref", "self", "static", "struct", "super",
        "trait", "true", "false", "type", "unsafe", "use", "where", "while",
    ];
    if TAKEN.contains(&name) || keyword.contains(&name) {
        return refused("Rust has that name already");
    }
    Ok(name)
}

/// The SDK's directory: the given one, or the one of the clone.
fn sdk(given: Option<&Path>) -> Result<PathBuf, Error> {
    let path = given.unwrap_or(Path::new(SDK));
    let found = path.canonicalize().ok().filter(|path| path.join("Cargo.toml").is_file());
    found.ok_or_else(|| {
        Error::new(Exit::Missing, format!("the SDK for guests is not in {}", path.display()))
            .because("it is not on crates.io yet, so a guest depends on the one of a clone")
            .help("name it: stockade new NAME --sdk CLONE/guest-sdk/stockade-guest")
    })
}

/// Every file of the crate, by its path.
fn files(name: &str, sdk: &Path) -> Vec<(&'static str, String)> {
    // A basic string of TOML escapes as one of JSON does.
    let quoted = json!(sdk.to_string_lossy()).to_string();
    let cargo = CARGO_TOML.replace("NAME", name).replace("SDK }", &format!("{quoted} }}"));
    let readme = README.replace("NAME", name).replace("FILE.wasm", &module_of(name));
    let mut files = vec![
        ("Cargo.toml", cargo),
        ("src/lib.rs", LIB_RS.to_string()),
        ("README.md", readme),
        (".gitignore", "/target\n".to_string()),
    ];
    // The versions that the SDK was tested with, which are also at hand where it was built; cargo
    // leaves out of it what the guest does not need.
    let lock = sdk.ancestors().nth(2).map(|clone| fs::read_to_string(clone.join("Cargo.lock")));
    files.extend(lock.and_then(Result::ok).map(|text| ("Cargo.lock", text)));
    files
}

#[cfg(test)]
mod tests {
    use toml::de::{DeTable, DeValue};

    use super::*;

    #[test]
    fn a_name_is_one_that_cargo_takes() {
        for name in ["greeter", "word-count", "a/b/my_guest2"] {
            assert!(crate_name(Path::new(name)).is_ok(), "{name}");
        }
        for name in ["2fast", "a b", "grün", "match", "std", "..", "/"] {
            assert_eq!(crate_name(Path::new(name)).unwrap_err().exit(), Exit::Usage, "{name}");
        }
    }

    #[test]
    fn the_manifest_names_the_crate_and_the_sdk_whatever_its_path() {
        let files = files("my-guest", Path::new("/a \"b\"/c\\d"));
        let manifest = DeValue::Table(DeTable::parse(&files[0].1).unwrap().into_inner());
        let text = |path: &[&str]| {
            let found =
                path.iter().fold(&manifest, |value, key| value.get(*key).unwrap().get_ref());
            found.as_str().unwrap().to_string()
        };
        assert_eq!(text(&["package", "name"]), "my-guest");
        assert_eq!(text(&["dependencies", "stockade-guest", "path"]), "/a \"b\"/c\\d");
        assert!(files[2].1.contains("release/my_guest.wasm"), "{}", files[2].1);
    }
}
