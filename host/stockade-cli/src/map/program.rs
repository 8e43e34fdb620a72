//! Programs: what an item is to one, and what its exit code and its streams come to.
//!
//! ```text
//! ProgramArgs ──► Plan ─┬► Template: Content ──► ProgramCall ──► Command ──► Pool
//!                       └► Ending: exit code, stdout, stderr ──► result and what is beside it, or Problem
//! ```
//!
//! Invariant: nothing of a result is changed or left out in silence. Stdout that is no text, no JSON,
//! or more than its limit is an error of its item, and stderr says how much of it was dropped.

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

/// What a map over a program's runs works with.
pub(crate) struct Plan {
    pub(crate) template: Template,
    pub(crate) ending: Ending,
}

impl Plan {
    /// From what the command line says; `None` where a function is called.
    ///
    /// # Errors
    /// Options that mean nothing together, and a file that cannot be read.
    pub(crate) fn new(args: &MapArgs) -> Result<Option<Self>, Error> {
        if !args.program.program {
            return args.program.check_for_function().map(|()| None);
        }
        Ok(Some(Self { template: Template::new(args)?, ending: Ending::new(args)? }))
    }

    /// What shapes results of how the program is run, by the names of options, and `ARGV`.
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
