//! Warnings of the library, one line each on stderr.
//!
//! Success is not reported. What a guest logs is not a warning; it comes with its task.

use std::fmt::{Debug, Write as _};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::{escape, streams};

/// Writes every warning of the library from here on.
pub(crate) fn show() {
    // Fails only if there is a subscriber already.
    let _ = tracing::subscriber::set_global_default(Warnings);
}

struct Warnings;

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN && metadata.target().starts_with("stockade")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::WARN)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        streams::say(|to| writeln!(to, "{}", line.shown()));
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// An event: what it says, and its fields.
#[derive(Default)]
struct Line {
    message: String,
    fields: Vec<String>,
}

impl Line {
    fn shown(&self) -> String {
        let mut shown = format!("warning: {}", self.message);
        for (index, field) in self.fields.iter().enumerate() {
            shown += if index == 0 { " (" } else { ", " };
            shown += field;
        }
        if !self.fields.is_empty() {
            shown.push(')');
        }
        escape::line(&shown)
    }

    fn push(&mut self, field: &Field, value: std::fmt::Arguments<'_>) {
        match field.name() {
            // Writing to a string does not fail.
            "message" => _ = self.message.write_fmt(value),
            name => self.fields.push(format!("{name}: {value}")),
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.push(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_one_line_whatever_it_names() {
        let line = Line {
            message: "ignored it".into(),
            fields: vec!["file: a\nb\x1b[2J".into(), "error: it is empty".into()],
        };
        let shown = "warning: ignored it (file: a\\nb\\u{1b}[2J, error: it is empty)";
        assert_eq!(line.shown(), shown);
        let bare = Line { message: "ignored it".into(), fields: vec![] };
        assert_eq!(bare.shown(), "warning: ignored it");
    }
}
