//! What an author reads on misusing the attributes: one file a mistake, each with its `.stderr`.
//!
//! After a change to a message, `TRYBUILD=overwrite` writes the files anew; read the difference.
#![allow(missing_docs)]

#[test]
fn mistakes_are_reported_at_their_span() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/fail/*.rs");
    cases.pass("tests/ui/pass/*.rs");
}
