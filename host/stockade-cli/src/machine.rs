//! The machine: what besides the lockdown decides how well a pool does here.

use std::path::Path;

use serde_json::{Value, json};
use stockade::{Cache, Level};

use crate::{escape, report, settings};

/// One thing that is so or not.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// How good that is, where there is a better and a worse.
    pub(crate) level: Option<Level>,
    pub(crate) words: String,
    /// What to do where it could be better.
    pub(crate) advice: Option<&'static str>,
}

/// What was found.
pub(crate) struct Machine(Vec<Row>);

impl Machine {
    /// Looks at the machine, and at the cache in a directory.
    pub(crate) fn look(cache: Option<&Path>) -> Self {
        Self(vec![
            self::cache(cache),
            settings(),
            fact("processors", processors()),
            fact("kernel", kernel()),
            fact("stockade", env!("CARGO_PKG_VERSION").into()),
            fact("engine", stockade_worker::ENGINE.into()),
            build(),
        ])
    }

    /// Everything, in the order in which it is shown.
    pub(crate) fn rows(&self) -> &[Row] {
        &self.0
    }

    /// Everything by its name.
    pub(crate) fn to_json(&self) -> Value {
        let rows = self.0.iter().map(|row| {
            let level = row.level.map(|level| level.to_string());
            (row.name.replace(' ', "_"), json!({ "level": level, "words": row.words }))
        });
        rows.collect::<serde_json::Map<_, _>>().into()
    }
}

fn fact(name: &'static str, words: String) -> Row {
    Row { name, level: None, words, advice: None }
}

fn cache(directory: Option<&Path>) -> Row {
    let row = |level, words, advice| Row { name: "cache", level: Some(level), words, advice };
    let Some(directory) = directory else {
        return row(
            Level::None,
            "every module is compiled whenever a pool begins".into(),
            Some(
                "cache: `--cache DIR` keeps compiled modules; `cache = \"DIR\"` in a stockade.toml always.",
            ),
        );
    };
    match Cache::in_directory(directory).entries() {
        Ok(entries) => {
            let bytes = entries.iter().map(|entry| entry.bytes).sum();
            let count = entries.len();
            row(Level::Full, format!("{count} compiled modules, {}", report::size(bytes)), None)
        }
        Err(_) if !directory.exists() => {
            row(Level::Full, format!("{} is made by the first run", directory.display()), None)
        }
        Err(error) => row(
            Level::None,
            escape::line(&error.to_string()),
            Some("cache: the directory must be yours alone: chmod 700 DIR."),
        ),
    }
}

fn settings() -> Row {
    let words = settings::found().map(|path| path.display().to_string());
    fact("settings", words.unwrap_or_else(|| "no stockade.toml from here upwards".into()))
}

fn processors() -> String {
    std::thread::available_parallelism().map_or_else(|_| "unknown".into(), |n| n.to_string())
}

fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    release.map_or_else(|_| "unknown".into(), |text| escape::line(text.trim()))
}

fn build() -> Row {
    if cfg!(debug_assertions) {
        let advice = "build: `cargo install --path host/stockade-cli --locked` makes a faster one.";
        let words = "a development build, which is slower".into();
        Row { name: "build", level: Some(Level::Partial), words, advice: Some(advice) }
    } else {
        Row { name: "build", level: Some(Level::Full), words: "optimised".into(), advice: None }
    }
}
