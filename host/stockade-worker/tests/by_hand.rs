//! The program as somebody finds it who starts it by hand. That a test of this package needs the
//! program is also what makes a plain `cargo test` build it for all others.

use std::process::Command;

#[test]
fn started_by_hand_it_says_who_starts_it_and_where_to_read_on() {
    for arguments in [&[][..], &["--help"], &["run"]] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_stockade-worker")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("there is nothing to do by hand. See `stockade --help`"), "{said}");
    }
}
