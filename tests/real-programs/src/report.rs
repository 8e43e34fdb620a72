//! How it went: a line for each program as it ends, and a table of all of them.

use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::table::Program;

/// How a program ended.
pub(crate) enum Ended {
    /// As is recorded.
    AsRecorded {
        /// The time of the whole command, compilation included.
        took: Duration,
    },
    /// Otherwise: in what.
    Otherwise(Vec<String>),
    /// It was not tried, and why.
    LeftOut(String),
}

/// What is known so far.
pub(crate) struct Report {
    expected: usize,
    endings: Vec<(String, Ended)>,
}

impl Report {
    /// Of so many programs.
    pub(crate) fn new(expected: usize) -> Self {
        Self { expected, endings: Vec::new() }
    }

    /// Says how a program ended.
    #[allow(clippy::print_stderr)]
    pub(crate) fn add(&mut self, program: &Program, ending: Ended) {
        let said = match &ending {
            Ended::AsRecorded { took } => format!("as recorded, {:.1} s", took.as_secs_f64()),
            Ended::Otherwise(differences) => format!("OTHERWISE: {}", differences.join("\n  ")),
            Ended::LeftOut(why) => format!("left out: {why}"),
        };
        self.endings.push((program.name.clone(), ending));
        eprintln!("[{}/{}] {}: {said}", self.endings.len(), self.expected, program.name);
    }

    /// Whether nothing was otherwise.
    pub(crate) fn is_good(&self) -> bool {
        !self.endings.iter().any(|(_, ending)| matches!(ending, Ended::Otherwise(_)))
    }

    /// Prints the table, in the order of `programs`, and the counts.
    #[allow(clippy::print_stdout)]
    pub(crate) fn finish(&self, programs: &[Program], not_chosen: usize) {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.add_row(["program", "seconds", "result", "job"]);
        let (mut did, mut lacking, mut otherwise, mut left_out) = (0, 0, 0, 0);
        let mut reasons = Vec::new();
        for program in programs {
            let ending = self.endings.iter().find(|(name, _)| *name == program.name);
            let Some((_, ending)) = ending else { continue };
            let (count, result, why) = match (ending, &program.lacks) {
                (Ended::Otherwise(_), _) => (&mut otherwise, "OTHERWISE", None),
                (Ended::LeftOut(why), _) => (&mut left_out, "left out", Some(why)),
                (_, Some(lack)) => (&mut lacking, "not its job", Some(lack)),
                (_, None) => (&mut did, "as recorded", None),
            };
            reasons.extend(why.map(|why| format!("{}, {result}: {why}", program.name)));
            *count += 1;
            let seconds = match ending {
                Ended::AsRecorded { took } => format!("{:.1}", took.as_secs_f64()),
                _ => String::new(),
            };
            table.add_row([program.name.as_str(), &seconds, result, &program.job]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!(
            "\n{}\n",
            table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
        );
        for reason in reasons {
            println!("{reason}");
        }
        println!(
            "\nOf {} modules {did} do their job as under wasmtime, {lacking} end as recorded without doing it, \
             {otherwise} do otherwise, {left_out} could not be tried, and {not_chosen} were not asked for.",
            programs.len()
        );
    }
}
