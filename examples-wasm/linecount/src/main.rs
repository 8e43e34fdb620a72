//! Counts lines, all or those that contain a text: an ordinary command-line program.
//!
//! Its one idea: a program that knows nothing of Stockade runs in its pool unchanged. It reads its
//! arguments, its environment, its standard input and such files as it is granted, and answers with
//! an exit code, as any WASI command does.
//!
//! ```text
//! linecount [--match TEXT] [--quiet] [FILE…]        standard input, where no file is named
//! ```
//!
//! `LINECOUNT_TOTAL=1` in the environment adds a line with the sum. Exit codes are those of `grep`:
//! 0 where a line was counted, 1 where none was, 2 for a wrong call or a file that cannot be read.
#![forbid(unsafe_code)]

mod options;

use options::Options;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::process::ExitCode;

const NONE_COUNTED: u8 = 1;
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let total_wanted = std::env::var("LINECOUNT_TOTAL").is_ok_and(|value| value == "1");
    let outcome = Options::parse(std::env::args().skip(1), total_wanted)
        .map_err(io::Error::other)
        .and_then(|options| run(&options, io::stdin().lock(), &mut io::stdout().lock()));
    match outcome {
        Ok(0) => ExitCode::from(NONE_COUNTED),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if standard error fails too.
            let _ = writeln!(io::stderr(), "linecount: {error}");
            ExitCode::from(FAILED)
        }
    }
}

/// Counts what `options` name, writes it to `output` and returns the sum.
fn run(options: &Options, input: impl BufRead, output: &mut impl Write) -> io::Result<u64> {
    let mut total = 0;
    if options.files.is_empty() {
        total = count(input, &options.pattern)?;
        if !options.quiet {
            writeln!(output, "{total}")?;
        }
        return Ok(total);
    }
    for path in &options.files {
        let in_file = File::open(path)
            .and_then(|file| count(BufReader::new(file), &options.pattern))
            .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
        total += in_file;
        if !options.quiet {
            writeln!(output, "{in_file} {path}")?;
        }
    }
    if options.total && !options.quiet {
        writeln!(output, "{total} total")?;
    }
    Ok(total)
}

/// How many lines contain `pattern`; every line does if it is empty. Bytes, so any encoding will do.
fn count(mut input: impl BufRead, pattern: &[u8]) -> io::Result<u64> {
    let mut line = Vec::new();
    let mut counted = 0;
    while input.read_until(b'\n', &mut line)? > 0 {
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        if contains(text, pattern) {
            counted += 1;
        }
        line.clear();
    }
    Ok(counted)
}

fn contains(text: &[u8], pattern: &[u8]) -> bool {
    pattern.is_empty() || text.windows(pattern.len()).any(|window| window == pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_on(arguments: &[&str], input: &str) -> (io::Result<u64>, String) {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned());
        let options = Options::parse(arguments, true).expect("options");
        let mut output = Vec::new();
        let total = run(&options, input.as_bytes(), &mut output);
        (total, String::from_utf8(output).expect("text"))
    }

    #[test]
    fn lines_are_counted_with_or_without_a_last_line_feed() {
        for (input, lines) in [("", 0), ("a", 1), ("a\n", 1), ("a\n\nb", 3), ("\n", 1)] {
            assert_eq!(run_on(&[], input).0.expect("a count"), lines, "{input:?}");
        }
    }

    #[test]
    fn only_matching_lines_are_counted() {
        let (total, output) = run_on(&["--match", "bee"], "a bee\nno\nbeer\nbe\ne");
        assert_eq!((total.expect("a count"), output.as_str()), (2, "2\n"));
    }

    #[test]
    fn quiet_writes_nothing() {
        let (total, output) = run_on(&["--quiet"], "a\n");
        assert_eq!((total.expect("a count"), output.as_str()), (1, ""));
    }

    #[test]
    fn file_that_is_missing_is_named() {
        let (total, _) = run_on(&["no/such/file"], "");
        assert!(total.expect_err("an error").to_string().starts_with("no/such/file: "));
    }

    #[test]
    fn files_are_counted_one_by_one() {
        let this = file!().rsplit('/').next().expect("a name");
        let path = format!("{}/src/{this}", env!("CARGO_MANIFEST_DIR"));
        let (total, output) = run_on(&[&path, &path], "");

        let lines = total.expect("a count") / 2;
        assert_eq!(output, format!("{lines} {path}\n{lines} {path}\n{} total\n", lines * 2));
    }
}
