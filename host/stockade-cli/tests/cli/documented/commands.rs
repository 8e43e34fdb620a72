//! Commands that are not run, since they install, build or take minutes: whether what they name is there.
//!
//! ```text
//! a script ─► commands, each its words ─► by the first word: a recipe with its parameters, a package,
//!                                         an example, a test, a subcommand with its options
//! ```
//!
//! Deliberately absent: what a shell makes of variables and patterns.

use std::collections::BTreeMap;

use super::blocks::{read, root};
use crate::support::stockade;

/// Programs of every system, which need no looking at.
const USUAL: [&str; 3] = ["cat", "echo", "seq"];

/// Programs that a guest in another language is made with, by the words of `just languages` alone.
const TOOLCHAINS: [&str; 7] = ["apt-get", "asc", "clang", "go", "npm", "pip", "python"];

/// What there is to be named.
pub(super) struct Commands {
    /// The recipes of the Justfile: how many parameters each needs and takes.
    recipes: BTreeMap<String, (usize, usize)>,
    /// The options of each subcommand.
    options: BTreeMap<String, Vec<String>>,
    /// Packages of the workspace, with their folders.
    packages: BTreeMap<String, String>,
    /// What builds guests in other languages.
    languages: String,
    /// What continuous integration runs.
    integration: String,
}

impl Commands {
    pub(super) fn of_this_repository() -> Self {
        let justfile = read("Justfile");
        Self {
            recipes: recipes(&justfile),
            options: options(),
            packages: packages(),
            languages: languages(&justfile),
            integration: read(".ci/run"),
        }
    }

    /// # Errors
    /// The first command that is none, and why.
    pub(super) fn check_script(&self, script: &str) -> Result<(), String> {
        for line in script.replace("\\\n", " ").lines() {
            for words in commands(line)? {
                self.check(&words).map_err(|why| format!("`{}`: {why}", words.join(" ")))?;
            }
        }
        Ok(())
    }

    /// # Errors
    /// No subcommand has this option.
    pub(super) fn check_option(&self, option: &str) -> Result<(), String> {
        let known = self.options.values().flatten().any(|known| known == option);
        known.then_some(()).ok_or(format!("no command has the option {option}"))
    }

    fn check(&self, words: &[String]) -> Result<(), String> {
        // Variables that are set for the command alone.
        let is_variable = |word: &&String| {
            word.split_once('=').is_some_and(|(name, _)| {
                !name.is_empty() && !name.starts_with('-') && !name.contains('/')
            })
        };
        let words: Vec<&str> = words.iter().skip_while(is_variable).map(String::as_str).collect();
        let Some((program, words)) = words.split_first() else { return Ok(()) };
        match program.rsplit('/').next().unwrap_or_default() {
            "just" => self.check_recipes(words),
            "cargo" => self.check_cargo(words),
            "stockade" => self.check_stockade(words),
            "cd" => exists(words.first().copied().unwrap_or("?")),
            // Programs from elsewhere, as continuous integration installs them.
            installer if words.starts_with(global_install(installer)) => match words.last() {
                Some(package) if self.integration.contains(*package) => Ok(()),
                _ => Err("continuous integration does not install it".into()),
            },
            name if USUAL.contains(&name) => Ok(()),
            name if TOOLCHAINS.contains(&name) => self.check_toolchain(words),
            _ => Err("no rule says whether it is right".into()),
        }
    }

    /// One recipe after the other, each with as many words as it takes.
    fn check_recipes(&self, words: &[&str]) -> Result<(), String> {
        let mut rest = words;
        while let Some((recipe, others)) = rest.split_first() {
            let Some((least, most)) = self.recipes.get(*recipe) else {
                return Err(format!("there is no recipe {recipe}"));
            };
            if others.len() < *least {
                return Err(format!("{recipe} needs {least} arguments"));
            }
            rest = &others[others.len().min(*most)..];
        }
        Ok(())
    }

    fn check_cargo(&self, words: &[&str]) -> Result<(), String> {
        let after = |option: &str| {
            let at = words.iter().position(|word| *word == option)?;
            words.get(at + 1).copied()
        };
        let package = after("-p").map(|name| match self.packages.get(name) {
            Some(folder) => Ok(folder),
            None => Err(format!("the workspace has no package {name}")),
        });
        let package = package.transpose()?;
        match (words.first().copied(), after("--path"), package) {
            (Some("install"), Some(path), _) => match read(&format!("{path}/Cargo.toml")) {
                manifest if manifest.contains("[[bin]]") => Ok(()),
                _ => Err(format!("{path} has no program")),
            },
            (Some("install"), None, _) => {
                let command = format!("cargo {}", words.join(" "));
                match self.integration.contains(&command) {
                    true => Ok(()),
                    false => Err("continuous integration does not install it so".into()),
                }
            }
            (Some("run"), _, Some(folder)) => {
                let example = after("--example").ok_or("it names no example")?;
                exists(&format!("{folder}/examples/{example}.rs"))
            }
            (Some("test"), _, Some(folder)) => match words.last().copied() {
                Some(path) if path.contains("::") || folder == "tests" => check_tests(path),
                _ => Ok(()),
            },
            (Some("build" | "deny" | "doc" | "test"), ..) => Ok(()),
            _ => Err("no rule says whether it is right".into()),
        }
    }

    fn check_stockade(&self, words: &[&str]) -> Result<(), String> {
        let Some((subcommand, words)) = words.split_first() else {
            return Err("it has no subcommand".into());
        };
        if ["help", "--help", "--version"].contains(subcommand) {
            return Ok(());
        }
        let Some(options) = self.options.get(*subcommand) else {
            return Err(format!("there is no subcommand {subcommand}"));
        };
        let own = words.iter().take_while(|word| **word != "--");
        let mut given = own.filter(|word| word.starts_with("--"));
        let unknown = given.find(|given| {
            let name = given.split('=').next().unwrap_or_default();
            !options.iter().any(|known| known == name)
        });
        unknown.map_or(Ok(()), |option| Err(format!("{subcommand} has no option {option}")))
    }

    /// What a reader types is what `just languages` does, but for names of outputs.
    fn check_toolchain(&self, words: &[&str]) -> Result<(), String> {
        let known = |word: &str| {
            let word = word.strip_suffix("tasks.wasm").unwrap_or(word);
            self.languages.contains(word) || root().join(word).exists()
        };
        let unknown = words.iter().find(|word| !known(word));
        unknown.map_or(Ok(()), |word| Err(format!("`just languages` has no {word}")))
    }
}

/// How a program is installed for all of a user's folders.
fn global_install(installer: &str) -> &'static [&'static str] {
    match installer {
        "npm" => &["install", "--global"],
        "pipx" => &["install"],
        _ => &["no such command"],
    }
}

fn exists(path: &str) -> Result<(), String> {
    match root().join(path).exists() {
        true => Ok(()),
        false => Err(format!("there is no {path}")),
    }
}

/// Whether a path within the suite is one: of a module, or of a function in one.
fn check_tests(path: &str) -> Result<(), String> {
    // A page may leave it open which.
    if path.chars().all(|c| c.is_ascii_uppercase()) {
        return Ok(());
    }
    let file = format!("tests/suite/{}", path.replace("::", "/"));
    exists(&format!("{file}.rs")).or_else(|_| exists(&file))
}

/// The commands of a line, each its words without quotes: what stands between `|`, `;` and `&&`, without
/// comments and without the files of `<` and `>`.
fn commands(line: &str) -> Result<Vec<Vec<String>>, String> {
    let mut all = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars().chain([' ']) {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ' | ';') => {
                let last = all.last_mut().ok_or("no command")?;
                match word.take() {
                    Some(comment) if comment.starts_with('#') => return Ok(of_words(all)),
                    Some(between) if ["|", "&&", "||"].contains(&&*between) => all.push(Vec::new()),
                    Some(done) => last.push(done),
                    None => {}
                }
                if c == ';' {
                    all.push(Vec::new());
                }
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    match quote {
        Some(open) => Err(format!("{open} is not closed: {line}")),
        None => Ok(of_words(all)),
    }
}

/// Without redirections, and without what is empty.
fn of_words(all: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let kept = all.into_iter().map(|words| {
        let mut kept = Vec::new();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            match &*word {
                "<" | ">" => drop(words.next()),
                _ => kept.push(word),
            }
        }
        kept
    });
    kept.filter(|words| !words.is_empty()).collect()
}

/// How many parameters each recipe needs and takes.
fn recipes(justfile: &str) -> BTreeMap<String, (usize, usize)> {
    let heads = justfile.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
    let heads = heads.filter(|line| !line.contains(":=") && !line.starts_with("set "));
    let heads = heads.filter_map(|line| line.split_once(':'));
    let recipe = |(head, _): (&str, &str)| {
        let mut words = head.split_whitespace();
        let name = words.next()?.to_owned();
        let parameters: Vec<_> = words.collect();
        let optional = |parameter: &&&str| parameter.contains('=') || parameter.starts_with('*');
        let needed = parameters.len() - parameters.iter().filter(optional).count();
        // The last one may stand for any number of words.
        let is_open = parameters.last().is_some_and(|last| last.starts_with(['*', '+']));
        Some((name, (needed, if is_open { usize::MAX } else { parameters.len() })))
    };
    heads.filter_map(recipe).collect()
}

/// What builds guests in other languages, with its folder in place of the variable, and without quotes.
fn languages(justfile: &str) -> String {
    let recipes = justfile.replace("{{ languages }}", "target/languages");
    format!("{recipes}{}", read("examples-wasm/toolchains.sh")).replace('"', "")
}

/// The options of each subcommand, by its help.
fn options() -> BTreeMap<String, Vec<String>> {
    let help = stockade(["--help"]).end().stdout();
    let list = help.split("Commands:\n").nth(1).expect("a list of commands");
    let list = list.split("\n\n").next().unwrap_or(list);
    // What a line goes on with stands further in.
    let lines = list.lines().filter_map(|line| line.strip_prefix("  "));
    let names = lines.filter_map(|line| line.split(' ').next().filter(|name| !name.is_empty()));
    let of = |name: &str| {
        let help = stockade([name, "--help"]).end().stdout();
        let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
        let options =
            lines.filter_map(|line| line.split([' ', ',']).find(|word| word.starts_with("--")));
        options.map(String::from).collect()
    };
    let names = names.filter(|name| *name != "help");
    names.map(|name| (name.to_owned(), of(name))).collect()
}

/// The workspace's packages and their folders.
fn packages() -> BTreeMap<String, String> {
    let manifest = read("Cargo.toml");
    let members = manifest.split("members = [").nth(1).and_then(|list| list.split(']').next());
    let members = members.expect("members").split('"').skip(1).step_by(2);
    let named = |folder: &str| {
        let manifest = read(&format!("{folder}/Cargo.toml"));
        let name = manifest.split("name = \"").nth(1).and_then(|name| name.split('"').next());
        (name.expect("a name").to_owned(), folder.to_owned())
    };
    members.map(named).collect()
}

#[test]
fn a_line_is_cut_where_a_shell_would() {
    let words = |line: &str| commands(line).unwrap();
    assert_eq!(
        words("a 'b c' --d=\"e f\" < in > out | g && h;i # j 'k"),
        [vec!["a", "b c", "--d=e f"], vec!["g"], vec!["h"], vec!["i"]]
    );
    assert_eq!(words("   # nothing"), [[""; 0]; 0]);
    assert!(commands("a 'b").is_err());
}

#[test]
fn a_command_that_names_what_is_not_there_is_told() {
    let commands = Commands::of_this_repository();
    for right in [
        "just",
        "just languages-install languages",
        "just soak 60 7",
        "just fuzz slots 0 -runs=10 -max_len=9",
        "STOCKADE_SEED=n just simulate",
        "cargo install --path host/stockade-cli --locked",
        "pipx install rust-just",
        "npm install --global rust-just",
        "cargo test -p stockade-tests conformance::table",
        "cargo test -p stockade-tests PATH",
        "cargo run -p stockade --example mandelbrot",
        "stockade map tasks.wasm f --input csv --resume STATE",
        "stockade run tool.wasm -- --whatever",
        "GOOS=wasip1 go build -buildmode=c-shared -o tasks.wasm .",
    ] {
        assert_eq!(commands.check_script(right), Ok(()), "{right}");
    }
    for wrong in [
        "just soaked",
        "just soak 60 7 8",
        "just fuzz",
        "cargo install --path guest-sdk/stockade-abi --locked",
        "cargo install ripgrep",
        "pipx install ripgrep",
        "cargo test -p stockade-tests no::such",
        "cargo test -p stockade-test",
        "cargo run -p stockade --example mandelbröt",
        "cargo publish",
        "stockade maps tasks.wasm",
        "stockade run tasks.wasm f --inputs csv",
        "go build -buildmode=plugin",
        "cd no/such/folder",
        "true | rm -r target",
    ] {
        assert!(commands.check_script(wrong).is_err(), "{wrong}");
    }
    assert!(commands.check_option("--resume").is_ok());
    assert!(commands.check_option("--resumes").is_err());
}
