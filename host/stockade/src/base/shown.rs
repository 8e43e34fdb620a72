//! Escapes text of guests and modules in errors.
//!
//! Errors end up in logs and on terminals. Characters that are not visible there, or would do something,
//! are shown as escapes, line ends among them, so that no guest writes a line of its host's log, and two
//! names that differ do not look the same. Which characters those are is [`Visibility`]'s to say.
//! The error's field has the original text.

use std::error::Error;
use std::fmt::{self, Write};

use stockade_wire::Visibility;

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
        $crate::base::shown::debug_as_text!($error, |error| Some(error.next_step()));
    };
    ($error:ty, $next_step:expr) => {
        impl std::fmt::Debug for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let next_step: fn(&$error) -> Option<&'static str> = $next_step;
                $crate::base::shown::in_full(self, next_step(self), f)
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
    match Visibility::of(c) {
        Visibility::Visible => f.write_char(c),
        Visibility::Joiner | Visibility::Hidden => write!(f, "{}", c.escape_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str = "grün ✓\r\n\t\x1b[2J\0\u{9b}7m\u{202e}\nerror: forged\n";

    #[test]
    fn words_on_one_line_stay_on_it() {
        let shown = Line(WORDS).to_string();
        let expected = "grün ✓\\r\\n\\t\\u{1b}[2J\\u{0}\\u{9b}7m\\u{202e}\\nerror: forged\\n";
        assert_eq!(shown, expected);
    }

    #[test]
    fn words_on_one_line_have_no_character_that_is_not_visible() {
        for c in '\0'..=char::MAX {
            let shown = Line(c.encode_utf8(&mut [0; 4])).to_string();
            let is_visible = Visibility::of(c) == Visibility::Visible;
            assert_eq!(shown == c.to_string(), is_visible, "{shown}");
            assert!(shown.chars().all(|c| Visibility::of(c) == Visibility::Visible), "{shown}");
        }
    }

    #[test]
    fn a_second_line_cannot_pass_for_a_first() {
        let shown = Lines(WORDS).to_string();
        let expected = "grün ✓\\r\n  \\t\\u{1b}[2J\\u{0}\\u{9b}7m\\u{202e}\n  error: forged";
        assert_eq!(shown, expected);
    }
}
