//! Showing: what guests and their modules say, made harmless where an error shows it.
//!
//! Errors end up in logs and on terminals. Characters that would do something there are shown as
//! escapes, line ends among them, so that no guest writes a line of its host's log. Whoever wants
//! the very words takes the error's field.

use std::error::Error;
use std::fmt::{self, Write};

/// Shows an error as a program does that ends with it, as by `fn main() -> Result<(), BuildError>`:
/// what happened, each of its causes, and on a line of its own the next step, where there is one.
pub(crate) fn in_full(
    error: &dyn Error,
    next_step: Option<&str>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    write!(f, "{error}")?;
    let mut next = error.source();
    while let Some(cause) = next {
        write!(f, ": {cause}")?;
        next = cause.source();
    }
    next_step.map_or(Ok(()), |step| write!(f, "\nhelp: {step}"))
}

/// Makes `Debug` of an error what [`in_full`] shows: `main` prints the error that it returns by that.
macro_rules! debug_as_text {
    ($error:ty) => {
        $crate::shown::debug_as_text!($error, |error| Some(error.next_step()));
    };
    ($error:ty, $next_step:expr) => {
        impl std::fmt::Debug for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let next_step: fn(&$error) -> Option<&'static str> = $next_step;
                $crate::shown::in_full(self, next_step(self), f)
            }
        }
    };
}
pub(crate) use debug_as_text;

/// Words on one line.
pub(crate) struct Line<'a>(pub(crate) &'a str);

/// Words whose lines after the first are indented, for what is told in several.
pub(crate) struct Lines<'a>(pub(crate) &'a str);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| write_char(c, f))
    }
}

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.trim_end().chars().try_for_each(|c| match c {
            '\n' => f.write_str("\n  "),
            _ => write_char(c, f),
        })
    }
}

fn write_char(c: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if is_unsafe(c) { write!(f, "{}", c.escape_default()) } else { f.write_char(c) }
}

/// Whether a terminal or a log would do something else with `c` than show it: control characters,
/// and the marks that turn the direction of text or end a line.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str = "grün ✓\r\n\t\x1b[2J\0\u{9b}7m\u{202e}\nerror: forged\n";

    #[test]
    fn words_on_one_line_have_no_character_that_does_anything() {
        let shown = Line(WORDS).to_string();
        let expected = "grün ✓\\r\\n\\t\\u{1b}[2J\\u{0}\\u{9b}7m\\u{202e}\\nerror: forged\\n";
        assert_eq!(shown, expected);
        assert!(!shown.contains(is_unsafe));
    }

    #[test]
    fn a_second_line_cannot_pass_for_a_first() {
        let shown = Lines(WORDS).to_string();
        let expected = "grün ✓\\r\n  \\t\\u{1b}[2J\\u{0}\\u{9b}7m\\u{202e}\n  error: forged";
        assert_eq!(shown, expected);
    }
}
