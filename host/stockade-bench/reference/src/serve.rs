//! The side that answers: reads questions from stdin, writes answers to stdout, until the end of stdin.
//!
//! A question is a word and a number, as `tasks 0.3`; an answer is `ok` and a number, or `error` and
//! why. Only the standard library is used, so that programs of other workspaces can share the file.

use std::error::Error;
use std::fmt::Display;
use std::io::{self, BufRead, Write};

/// Answers every question with what `answer` makes of its word and its number.
///
/// # Errors
/// If stdin or stdout fails. An error of `answer` is sent to the side that asked.
pub fn serve<E: Display>(mut answer: impl FnMut(&str, f64) -> Result<f64, E>) -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        let line = line?;
        let answered = match parse(&line) {
            Ok((word, amount)) => match answer(word, amount) {
                Ok(value) => format!("ok {value}"),
                Err(error) => format!("error {}", one_line(&error.to_string())),
            },
            Err(error) => format!("error {}", one_line(&error.to_string())),
        };
        let mut out = io::stdout().lock();
        writeln!(out, "{answered}")?;
        out.flush()?;
    }
    Ok(())
}

fn parse(line: &str) -> Result<(&str, f64), Box<dyn Error>> {
    let (word, amount) = line.split_once(' ').ok_or("a question is a word and a number")?;
    Ok((word, amount.parse()?))
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}
