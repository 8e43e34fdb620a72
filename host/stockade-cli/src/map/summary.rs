//! The summary: what is told at the end of a map.

use std::io::{self, Write};
use std::time::Duration;

use super::options::SinkArgs;
use super::tally::Tally;
use crate::table::{Align, table};

/// How a map ended, as far as people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All is done.
    Done,
    /// A signal ended it.
    Interrupted,
    /// An error ended it, which is told by itself.
    Failed,
}

/// What there was.
pub(crate) struct Summary<'a> {
    pub(crate) sink: &'a SinkArgs,
    pub(crate) ending: Ending,
    pub(crate) tally: &'a Tally,
    pub(crate) elapsed: Duration,
    /// Whether a person watches.
    pub(crate) is_watched: bool,
    /// What was kept of tasks, each by what machines call it.
    pub(crate) kept: Vec<(&'static str, String)>,
}

impl Summary<'_> {
    /// A table for those who watch or asked for one; else a sentence where something went wrong.
    ///
    /// # Errors
    /// Those of `to`.
    pub(crate) fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        let Self { sink, ending, tally, elapsed, is_watched, kept } = self;
        // What an error ended before anything new was done is for that error to tell.
        let earlier = tally.only_earlier().filter(|_| *ending != Ending::Interrupted);
        let did_nothing = earlier.is_some() && *ending == Ending::Failed;
        let only_earlier = earlier.filter(|_| *ending != Ending::Failed);
        if sink.json {
            let mut value = tally.to_json(*elapsed);
            for (name, told) in kept {
                value[*name] = told.as_str().into();
            }
            return writeln!(to, "{value}");
        }
        if sink.summary || *is_watched {
            let align = [Align::Left, Align::Right, Align::Left];
            write!(to, "{}", table(align, tally.table(*elapsed)))?;
        } else if let Some((ok, failed)) = only_earlier {
            writeln!(to, "everything was already done: {ok} ok, {failed} failed")?;
        } else if tally.failures() > 0 || *ending == Ending::Interrupted {
            writeln!(to, "{}", tally.summary(*elapsed))?;
        }
        kept.iter().try_for_each(|(_, told)| writeln!(to, "{told}"))?;
        if sink.resume.is_some() && *ending != Ending::Done && !did_nothing {
            writeln!(to, "finished items are kept: the same command continues from there")?;
        }
        Ok(())
    }
}
