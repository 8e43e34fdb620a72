//! What the command line asks for.

/// The command line and the environment, read.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Options {
    /// What a line must contain to count; empty for every line.
    pub(crate) pattern: Vec<u8>,
    /// Whether only the exit code matters.
    pub(crate) quiet: bool,
    /// Whether several files end with a line for all of them.
    pub(crate) total: bool,
    /// Where the lines are; empty for standard input.
    pub(crate) files: Vec<String>,
}

impl Options {
    /// Reads the arguments after the program's name.
    pub(crate) fn parse(
        mut arguments: impl Iterator<Item = String>,
        total: bool,
    ) -> Result<Self, String> {
        let mut options = Self { total, ..Self::default() };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--match" => {
                    let pattern = arguments.next().ok_or("`--match` needs a text after it")?;
                    options.pattern = pattern.into_bytes();
                }
                "--quiet" => options.quiet = true,
                "--" => options.files.extend(arguments.by_ref()),
                unknown if unknown.starts_with('-') => {
                    return Err(format!(
                        "unknown option `{unknown}`; usage: linecount [--match TEXT] [--quiet] [FILE…]"
                    ));
                }
                _ => options.files.push(argument),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::Options;

    fn parse(arguments: &[&str]) -> Result<Options, String> {
        Options::parse(arguments.iter().map(|argument| (*argument).to_owned()), false)
    }

    #[test]
    fn options_and_files_are_told_apart() {
        let options = parse(&["a", "--match", "--quiet", "--", "--quiet"]).expect("options");

        assert_eq!(options.pattern, b"--quiet");
        assert_eq!(options.files, ["a", "--quiet"]);
        assert!(!options.quiet);
    }

    #[test]
    fn wrong_calls_say_why() {
        assert!(parse(&["-x"]).is_err_and(|error| error.contains("`-x`")));
        assert!(parse(&["--match"]).is_err());
    }
}
