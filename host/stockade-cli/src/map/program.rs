//! Programs: how an item becomes a run, and how its exit code and streams become a result.
//!
//! ```text
//! ProgramArgs ──► Plan ─┬► Template: Content ──► ProgramCall ──► Command ──► Pool
//!                       └► Ending: exit code, stdout, stderr ──► result and what is next to it, or Problem
//! ```
//!
//! Invariant: a result is never changed or truncated silently. Stdout that is not text, is not
//! JSON, or exceeds its limit is an error of its item; a truncated stderr says how much was
//! dropped.

mod options;

mod ending;
mod template;

use std::collections::BTreeSet;
use std::fmt;

use crate::args::MapArgs;
use crate::error::Error;

pub(crate) use ending::{Ending, Failed};
pub(crate) use options::{ItemAs, ProgramArgs};
pub(crate) use template::{ProgramCall, Template};

use options::Codes;

/// The plan of a map over runs of a program.
pub(crate) struct Plan {
    pub(crate) template: Template,
    pub(crate) ending: Ending,
}

impl Plan {
    /// From the command line; `None` if a function is called.
    ///
    /// # Errors
    /// If options conflict, or a file cannot be read.
    pub(crate) fn new(args: &MapArgs) -> Result<Option<Self>, Error> {
        if !args.program.program {
            return args.program.check_for_function().map(|()| None);
        }
        Ok(Some(Self { template: Template::new(args)?, ending: Ending::new(args)? }))
    }

    /// The options of the run, and `ARGV`, that affect results, by name.
    pub(crate) fn identity(&self, args: &ProgramArgs) -> Vec<(&'static str, Vec<String>)> {
        let Template { entry, argv, placeholder, item, stdin, .. } = &self.template;
        let Ending { stdout, ok_codes, stdout_bytes_max, stderr_bytes_max } = &self.ending;
        let word = |word: &dyn fmt::Debug| format!("{word:?}").to_lowercase();
        let ok_codes = match ok_codes {
            Codes::All => vec!["all".into()],
            Codes::These(codes) => {
                let codes: BTreeSet<_> = codes.iter().filter(|code| **code != 0).collect();
                codes.iter().map(ToString::to_string).collect()
            }
        };
        // Where nothing is put in for it, it is a text as others.
        let stands = Some(placeholder).filter(|_| *item != ItemAs::Stdin);
        let file = args.stdin.iter().map(|path| {
            let digest = blake3::hash(stdin).to_hex();
            format!("{} ({})", path.display(), &digest[..16])
        });
        vec![
            ("ARGV", argv.clone()),
            ("entry", entry.iter().map(ToString::to_string).collect()),
            ("item", vec![word(item)]),
            ("ok-codes", ok_codes),
            ("output-limit", vec![format!("{stdout_bytes_max} bytes")]),
            ("placeholder", stands.map(|text| vec![text.clone()]).unwrap_or_default()),
            ("stdin", file.collect()),
            ("stdio-limit", vec![format!("{stderr_bytes_max} bytes")]),
            ("stdout", vec![word(stdout)]),
        ]
    }
}
